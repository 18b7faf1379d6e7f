//! Builds WAMR (fast interpreter and AOT runtime) from the C sources that the crate `wamrx-sys` carries.
//!
//! That crate is only locked and fetched, never compiled: its own build makes other choices and wants libclang. It costs 20 s
//! once; Cargo runs this again only when this file or the lock file changes, and cmake then builds what is missing.

use std::{
    env,
    error::Error,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The crate whose sources these are, as the lock file has it.
const SOURCES: &str = "wamrx-sys-0.3.0";

/// Options of WAMR's build. Anything not named here keeps its default of off.
const OPTIONS: &[(&str, &str)] = &[
    ("WAMR_BUILD_PLATFORM", "linux"),
    ("WAMR_BUILD_INTERP", "1"),
    ("WAMR_BUILD_FAST_INTERP", "1"),
    ("WAMR_BUILD_AOT", "1"),
    ("WAMR_BUILD_JIT", "0"),
    ("WAMR_BUILD_FAST_JIT", "0"),
    ("WAMR_BUILD_BULK_MEMORY", "1"),
    ("WAMR_BUILD_REF_TYPES", "1"),
    ("WAMR_BUILD_TAIL_CALL", "1"),
    ("WAMR_BUILD_EXTENDED_CONST_EXPR", "1"),
    ("WAMR_BUILD_SHARED_MEMORY", "1"),
    // The fast interpreter would need sources from the network for it.
    ("WAMR_BUILD_SIMD", "0"),
    // The library would keep a process-wide registry of modules; imports are ours alone.
    ("WAMR_BUILD_MULTI_MODULE", "0"),
    ("WAMR_BUILD_LIBC_BUILTIN", "0"),
    ("WAMR_BUILD_LIBC_WASI", "0"),
    // A memory that cannot grow would be cut to what it seems to need, and its pages would be no pages any more.
    ("WAMR_BUILD_SHRUNK_MEMORY", "0"),
    // Signal handlers of ours in worker threads of Node end in crashes.
    ("WAMR_DISABLE_HW_BOUND_CHECK", "1"),
    // Some processors refuse the instruction.
    ("WAMR_DISABLE_WRITE_GS_BASE", "1"),
    ("CMAKE_BUILD_TYPE", "Release"),
    ("CMAKE_POSITION_INDEPENDENT_CODE", "ON"),
];

/// Definitions for its C code.
const DEFINITIONS: &[(&str, u32)] = &[
    // Elements to which a table may grow, or to twice as many as it begins with, if that is more. Every instance takes and fills
    // the room for them: up to 512 KiB for each table that can grow, which in instrumented code is each that can change.
    ("WASM_TABLE_MAX_SIZE", 1 << 16),
];

/// A place in its sources that is mended: the file, what stands there once, and what is to stand there.
struct Patch {
    file: &'static str,
    before: &'static str,
    after: &'static str,
}

const PATCHES: &[Patch] = &[
    // Code that loops without a host call is ended by `wasm_runtime_terminate` only where it looks, and it looked nowhere: at a branch
    // that is taken, and at a tail call. The text is written by another thread.
    Patch {
        file: "core/iwasm/interpreter/wasm_interp_fast.c",
        before: "            recover_br_info:\n",
        after: "            recover_br_info:\n                if (*(volatile char *)module->cur_exception != '\\0')\n                    goto got_exception;\n",
    },
    Patch {
        file: "core/iwasm/interpreter/wasm_interp_fast.c",
        before: "        uint32 *lp_base = NULL, *lp = NULL;\n        int i;\n",
        after: "        uint32 *lp_base = NULL, *lp = NULL;\n        int i;\n\n        if (*(volatile char *)module->cur_exception != '\\0')\n            goto got_exception;\n",
    },
    // After a branch that takes a value out of several blocks, code that is never reached sees the operand space of the branch's target.
    // A block without results that ends there left it so, and what came after it was put over operands below that are still in use.
    Patch {
        file: "core/iwasm/interpreter/wasm_loader.c",
        before: "            loader_ctx->frame_offset_bottom + loader_ctx->stack_cell_num; \\\n        RESET_REFTYPE_MAP_STACK();",
        after: "            loader_ctx->frame_offset_bottom + loader_ctx->stack_cell_num; \\\n        loader_ctx->dynamic_offset = \\\n            (loader_ctx->frame_csp - 1)->dynamic_offset; \\\n        RESET_REFTYPE_MAP_STACK();",
    },
];

/// Builds it, and says where the library is.
pub fn build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build/wamr.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let sources = out.join("wamr-sources");
    copy(&sources_of_crate()?.join("wasm-micro-runtime"), &sources)?;
    PATCHES.iter().try_for_each(|patch| mend(&sources, patch))?;
    let build = out.join("wamr-build");
    let target = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "X86_64",
        "aarch64" => "AARCH64",
        other => return Err(format!("WAMR is not built for {other}").into()),
    };
    forget_if_moved(&build)?;
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&sources).arg("-B").arg(&build);
    configure.arg(format!("-DWAMR_BUILD_TARGET={target}"));
    configure.args(OPTIONS.iter().map(|(name, value)| format!("-D{name}={value}")));
    let definitions: Vec<String> = DEFINITIONS.iter().map(|(name, value)| format!("-D{name}={value}")).collect();
    configure.arg(format!("-DCMAKE_C_FLAGS={}", definitions.join(" ")));
    run(&mut configure)?;
    let jobs = env::var("NUM_JOBS").unwrap_or_else(|_| "2".into());
    run(Command::new("cmake").arg("--build").arg(&build).args(["--target", "vmlib", "--parallel", &jobs]))?;
    println!("cargo::rustc-link-search=native={}", build.display());
    println!("cargo::rustc-link-lib=static=iwasm");
    for system in ["m", "dl", "pthread"] {
        println!("cargo::rustc-link-lib={system}");
    }
    Ok(())
}

/// Removes what cmake built when this folder had another path: a checkout can be moved or copied, and cmake refuses to go on then.
fn forget_if_moved(build: &Path) -> io::Result<()> {
    let here = format!("CMAKE_CACHEFILE_DIR:INTERNAL={}", build.display());
    match fs::read_to_string(build.join("CMakeCache.txt")) {
        Ok(cache) if !cache.lines().any(|line| line == here) => fs::remove_dir_all(build),
        _ => Ok(()),
    }
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() { copy(&entry, &target)? } else { replace(&target, &fs::read(&entry)?)? }
    }
    Ok(())
}

/// Files that stay as they are keep their time, so that nothing is compiled again for them.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(file).is_ok_and(|before| before == content) { Ok(()) } else { fs::write(file, content) }
}

fn mend(sources: &Path, Patch { file, before, after }: &Patch) -> Result<(), Box<dyn Error>> {
    let path = sources.join(file);
    let text = fs::read_to_string(&path)?;
    if text.matches(before).count() != 1 {
        return Err(format!("{file} of {SOURCES} is not what its patch was made for").into());
    }
    Ok(fs::write(&path, text.replace(before, after))?)
}

/// Where Cargo has unpacked the sources; it fetches them when they are not there yet.
fn sources_of_crate() -> Result<PathBuf, Box<dyn Error>> {
    let mut metadata = Command::new(env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    metadata.args(["metadata", "--locked", "--format-version", "1"]);
    let text = run(&mut metadata)?;
    let manifest = format!("{SOURCES}/Cargo.toml\"");
    let end = text.find(&manifest).ok_or_else(|| format!("Cargo.lock does not have {SOURCES}"))? + SOURCES.len();
    let start = text[..end].rfind('"').ok_or("the metadata of Cargo are not JSON")? + 1;
    Ok(Path::new(&text[start..end]).to_path_buf())
}

/// Standard output of a program; its errors when it fails.
fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{name} failed\n{}\n{}", text(&output.stdout), text(&output.stderr)).into())
}
