//! Random valid modules, made from a seed: three of four of what all engines run, the others with vectors and several memories. `SEED.json` is `{length, first, results, calls}`: how many bytes made
//! the module, and as for a module of a script the results of its calls, each with the name of its export.

use std::{error::Error, fs, path::Path};

use arbitrary::Unstructured;
use sha2::{Digest, Sha256};
use wasm_smith::Config;
use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef, ValType};

use crate::{
    calls::{self, Argument, Target},
    json::{list, object, text},
};

/// How much a module may do in all its calls before it traps.
const FUEL: u32 = 2000;
/// Calls of each function.
const ROUNDS: usize = 2;

/// What the host offers: it computes from its arguments, and may ask to be called again later.
const HOST: &str = r#"(module
    (import "host" "i" (func (param i32) (result i32)))
    (import "host" "I" (func (param i64 i32) (result i64)))
    (import "host" "f" (func (param f32) (result f32)))
    (import "host" "F" (func (param f64 i64) (result f64)))
    (import "host" "none" (func)))"#;

/// `more` than what all engines run.
fn config(more: bool) -> Config {
    Config {
        available_imports: Some(wat::parse_str(HOST).expect("it is valid")),
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        simd_enabled: more,
        relaxed_simd_enabled: false,
        wide_arithmetic_enabled: false,
        compact_imports_enabled: false,
        canonicalize_nans: true,
        export_everything: true,
        max_memories: if more { 3 } else { 1 },
        max_tables: 3,
        max_memory32_bytes: 4 * 65536,
        // Memories that grow to gigabytes, and are copied at each stop, would leave nothing for other tests.
        memory_max_size_required: true,
        max_table_elements: 40,
        min_funcs: 2,
        max_funcs: 12,
        max_instructions: 200,
        max_globals: 8,
        ..Config::default()
    }
}

/// A stream of bytes that a seed stands for.
fn stream(seed: u64, salt: &str, length: usize) -> Vec<u8> {
    (0u64..).flat_map(|block| Sha256::digest(format!("{salt} {seed} {block}")).to_vec()).take(length).collect()
}

fn argument(ty: ValType, random: &mut Unstructured<'_>) -> Argument {
    let bits = match random.int_in_range(0..=3u8).unwrap_or(0) {
        0 => random.int_in_range(0..=7u64).unwrap_or(0),
        1 => 0,
        _ => random.arbitrary().unwrap_or(0),
    };
    #[allow(clippy::cast_possible_truncation)] // any bits will do
    match ty {
        ValType::I32 => Argument::I32(bits as u32),
        ValType::I64 => Argument::I64(bits),
        // No NaN: only those that code makes are canonical.
        ValType::F32 => Argument::F32(bits as u32 & 0xff7f_ffff),
        ValType::F64 => Argument::F64(bits & 0xffef_ffff_ffff_ffff),
        ValType::V128 => Argument::V128(u128::from(bits) * 3),
        ValType::Ref(_) => Argument::Null,
    }
}

/// A function by the name of its export, and its parameters.
type Exported = (String, Vec<ValType>);

/// The functions that a module exports.
fn exported(module: &[u8]) -> Result<Vec<Exported>, Box<dyn Error>> {
    let (mut types, mut functions, mut exports) = (Vec::new(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.push(ty?.params().to_vec());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.push(ty?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        exports.push((export.name.to_owned(), export.index));
                    }
                }
            }
            _ => {}
        }
    }
    let params = |index: u32| types[functions[index as usize] as usize].clone();
    Ok(exports.into_iter().map(|(name, index)| (name, params(index))).collect())
}

/// Whether a function gives way to one of the host's by a tail call. WAMR crashes when the host has called that function itself.
fn leaves_to_the_host(module: &[u8]) -> Result<bool, Box<dyn Error>> {
    let mut imported = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    match operator? {
                        Operator::ReturnCall { function_index } if function_index < imported => return Ok(true),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// Writes the module of a seed, made from its first `length` bytes or from as many as it has; nothing when they make none.
pub fn write(directory: &Path, seed: u64, length: Option<usize>) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let whole = 500 + usize::from(u16::from_le_bytes(stream(seed, "length", 2).try_into().expect("two"))) % 6000;
    let length = length.unwrap_or(whole).min(whole);
    let bytes = stream(seed, "module", length);
    let Ok(mut module) = wasm_smith::Module::new(config(seed % 4 == 3), &mut Unstructured::new(&bytes)) else {
        return Ok(());
    };
    if module.ensure_termination(FUEL).is_err() {
        return Ok(());
    }
    let module = module.to_bytes();
    if leaves_to_the_host(&module)? {
        return Ok(());
    }
    let input = stream(seed, "arguments", 2000);
    let mut random = Unstructured::new(&input);
    let functions = exported(&module)?;
    let mut targets = Vec::new();
    for _ in 0..ROUNDS {
        for (export, params) in &functions {
            let arguments = params.iter().map(|ty| argument(*ty, &mut random)).collect();
            targets.push(Target::Function { export, arguments });
        }
    }
    let with = calls::add(&module, &targets)?;
    let results = with.results.iter().map(|result| result.as_deref().map_or_else(|| "null".to_owned(), text));
    let names = (0..ROUNDS).flat_map(|_| functions.iter().map(|(name, _)| text(name)));
    let about = object(&[
        ("length", length.to_string()),
        ("first", with.first_global.to_string()),
        ("results", list(results)),
        ("calls", list(names)),
    ]);
    fs::write(directory.join(format!("{seed}.wasm")), with.module)?;
    fs::write(directory.join(format!("{seed}.json")), about)?;
    Ok(())
}
