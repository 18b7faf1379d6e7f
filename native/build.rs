//! What cargo cannot build by itself: the fast path, a BPF program in C, and WAMR, an engine in C.

use std::error::Error;

#[path = "build/bpf.rs"]
mod bpf;
#[path = "build/wamr.rs"]
mod wamr;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    bpf::build();
    wamr::build()
}
