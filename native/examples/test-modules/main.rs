//! Writes modules and what is to be called in them, as files: for tests of engines that are not written in Rust.
//!
//! ```text
//! test-modules scripts OUT               the scripts of the WebAssembly core test suite
//! test-modules random OUT FIRST COUNT    random modules, by seeds
//! test-modules shrink OUT SEED LENGTH    the module of a seed when only the first LENGTH bytes of its input are there
//! ```
//!
//! Each module gets its calls as functions of its own (`calls.rs`), so that a caller needs neither arguments nor results.

mod calls;
mod json;
mod random;
mod scripts;

use std::{error::Error, path::Path, process::ExitCode};

const USAGE: &str =
    "usage: test-modules scripts OUT | test-modules random OUT FIRST COUNT | test-modules shrink OUT SEED LENGTH";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("test-modules: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<bool, Box<dyn Error>> {
    match words {
        ["scripts", out] => scripts::write(Path::new(out))?,
        ["random", out, first, count] => {
            let first: u64 = first.parse()?;
            for seed in first..first + count.parse::<u64>()? {
                random::write(Path::new(out), seed, None)?;
            }
        }
        ["shrink", out, seed, length] => random::write(Path::new(out), seed.parse()?, Some(length.parse()?))?,
        _ => return Ok(false),
    }
    Ok(true)
}
