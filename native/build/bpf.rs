//! Compiles `bpf/fast_path.bpf.c` into an object that `src/fast_path` carries with it and loads at run time.

use std::{env, path::Path, process::Command};

/// Any clang that knows the third version of the BPF instruction set, atomics included; `CLANG` names another.
const COMPILERS: [&str; 7] = ["clang-14", "clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15"];

pub fn build() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-changed=build/bpf.rs");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let object = Path::new(&out).join("fast_path.bpf.o");
    // Kernel headers that differ between machines are in a folder named after it on Debian.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let compiler = compiler();
    let status = Command::new(&compiler)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", "bpf/fast_path.bpf.c", "-o"])
        .arg(&object)
        .status();
    let compiled = status.unwrap_or_else(|error| panic!("cannot run {compiler}: {error}"));
    assert!(compiled.success(), "{compiler} cannot compile bpf/fast_path.bpf.c; on Debian: apt-get install libbpf-dev");
}

fn compiler() -> String {
    if let Ok(named) = env::var("CLANG") {
        return named;
    }
    let works = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let found = COMPILERS.into_iter().find(|name| works(name));
    found.expect("no clang for the BPF program; on Debian: apt-get install clang-14 libbpf-dev").to_owned()
}
