//! Validates a module against what this build of WAMR can run, and reads what has to be known of it.

use std::collections::{HashMap, HashSet};

use wasmparser::{
    BinaryReaderError, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

use super::types::{Export, FunctionType, Import, Kind, Refusal};

/// What WAMR was built with; see `build.rs`.
const SUPPORTED: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// Features it lacks, each with those that only make sense on top of it.
const LACKING: &[(&str, WasmFeatures)] = &[
    ("SIMD", WasmFeatures::SIMD.union(WasmFeatures::RELAXED_SIMD)),
    ("relaxed SIMD", WasmFeatures::RELAXED_SIMD),
    ("threads", WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS)),
    ("multiple memories", WasmFeatures::MULTI_MEMORY),
    ("memory64", WasmFeatures::MEMORY64),
    ("exception handling", WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS)),
    ("garbage collection", WasmFeatures::GC),
    ("typed function references", WasmFeatures::FUNCTION_REFERENCES.union(WasmFeatures::GC)),
    ("stack switching", WasmFeatures::STACK_SWITCHING),
    ("wide arithmetic", WasmFeatures::WIDE_ARITHMETIC),
    ("custom page sizes", WasmFeatures::CUSTOM_PAGE_SIZES),
];

/// Exported names to which WAMR gives a meaning of its own.
const MEANINGFUL: &[&str] = &[
    "__post_instantiate",
    "__wasm_call_ctors",
    "_initialize",
    "__heap_base",
    "__data_end",
    "malloc",
    "free",
    "__new",
    "__retain",
    "__pin",
    "__release",
    "__unpin",
];

/// What is known of a module before it is loaded.
#[derive(Debug, Default)]
pub struct Description {
    pub imports: Vec<Import>,
    pub exports: HashMap<String, Export>,
    /// All functions, imports first.
    pub functions: u32,
    /// Exported names that must not reach WAMR: where each is, and what to write there, which is as long.
    pub renamed: Vec<(usize, Vec<u8>)>,
}

/// Validates and describes a module.
///
/// # Errors
/// What it uses that this engine has not, or why it is not valid.
pub fn check(bytes: &[u8]) -> Result<Description, Refusal> {
    if let Err(error) = Validator::new_with_features(SUPPORTED).validate_all(bytes) {
        return Err(refusal(bytes, &error));
    }
    Reader::default().read(bytes)
}

/// Names the features without which a module is not valid.
fn refusal(bytes: &[u8], error: &BinaryReaderError) -> Refusal {
    let valid = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    let every = LACKING.iter().fold(SUPPORTED, |all, (_, features)| all.union(*features));
    if !valid(every) {
        return Refusal::Invalid { message: error.message().to_string(), offset: error.offset() };
    }
    let needed: Vec<&str> =
        LACKING.iter().filter(|(_, features)| !valid(every.difference(*features))).map(|(name, _)| *name).collect();
    let feature = if needed.is_empty() { error.message().to_string() } else { needed.join(", ") };
    Refusal::Unsupported { feature, offset: Some(error.offset()) }
}

fn invalid(error: &BinaryReaderError) -> Refusal {
    Refusal::Invalid { message: error.message().to_string(), offset: error.offset() }
}

fn unsupported(feature: impl Into<String>) -> Refusal {
    Refusal::Unsupported { feature: feature.into(), offset: None }
}

fn kind(value: ValType) -> Result<Kind, Refusal> {
    match value {
        ValType::I32 => Ok(Kind::I32),
        ValType::I64 => Ok(Kind::I64),
        ValType::F32 => Ok(Kind::F32),
        ValType::F64 => Ok(Kind::F64),
        ValType::V128 => Err(unsupported("SIMD")),
        ValType::Ref(reference) if reference.is_func_ref() => Ok(Kind::FuncRef),
        ValType::Ref(reference) if reference.is_extern_ref() => Ok(Kind::ExternRef),
        ValType::Ref(_) => Err(unsupported("typed function references")),
    }
}

fn function_type(function: &FuncType) -> Result<FunctionType, Refusal> {
    let kinds = |values: &[ValType]| values.iter().map(|value| kind(*value)).collect::<Result<Vec<_>, _>>();
    Ok(FunctionType { params: kinds(function.params())?, results: kinds(function.results())? })
}

/// WAMR ends names at a zero byte, and two names would become one.
fn plain(name: &str) -> Result<String, Refusal> {
    if name.contains('\0') { Err(unsupported("zero bytes in names")) } else { Ok(name.to_string()) }
}

/// Another name of the same length: the digits of a number, in printable characters from `.` on, stand at its front.
fn varied(name: &str, mut number: usize) -> Vec<u8> {
    const FIRST: u8 = b'.';
    const DIGITS: usize = (b'~' - FIRST) as usize;
    let mut name = name.as_bytes().to_vec();
    for byte in &mut name {
        *byte = FIRST + u8::try_from(number % DIGITS).unwrap_or(0);
        number /= DIGITS;
        if number == 0 {
            break;
        }
        // Bijective, so that fewer digits never say the same as more.
        number -= 1;
    }
    name
}

/// Collects a [`Description`] of a module that is known to be valid.
#[derive(Default)]
struct Reader {
    types: Vec<FunctionType>,
    functions: Vec<u32>,
    globals: Vec<(Kind, bool)>,
    tables: Vec<Kind>,
    /// Exported names that must not reach WAMR, with their places.
    meaningful: Vec<(usize, &'static str)>,
    found: Description,
}

impl Reader {
    fn read(mut self, bytes: &[u8]) -> Result<Description, Refusal> {
        for payload in Parser::new(0).parse_all(bytes) {
            self.payload(bytes, payload.map_err(|error| invalid(&error))?)?;
        }
        self.rename();
        self.found.functions = u32::try_from(self.functions.len()).map_err(|_| unsupported("so many functions"))?;
        Ok(self.found)
    }

    /// Finds names for exports that cannot keep theirs. Nothing else may have them: the module's own exports least of all.
    fn rename(&mut self) {
        let mut taken: HashSet<Vec<u8>> = MEANINGFUL.iter().map(|name| name.as_bytes().to_vec()).collect();
        taken.extend(self.found.exports.keys().map(|name| name.as_bytes().to_vec()));
        for (at, name) in &self.meaningful {
            // Of one more name than are taken one is free.
            let free = (0..=taken.len()).map(|number| varied(name, number)).find(|name| !taken.contains(name));
            if let Some(free) = free {
                taken.insert(free.clone());
                self.found.renamed.push((*at, free));
            }
        }
    }

    fn payload(&mut self, bytes: &[u8], payload: Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(section) => {
                for function in section.into_iter_err_on_gc_types() {
                    self.types.push(function_type(&function.map_err(|error| invalid(&error))?)?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|error| invalid(&error))?;
                    let TypeRef::Func(index) = import.ty else {
                        return Err(unsupported("imports that are no functions"));
                    };
                    self.import(import.module, import.name, index)?;
                }
            }
            Payload::FunctionSection(section) => {
                for index in section {
                    self.functions.push(index.map_err(|error| invalid(&error))?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table.map_err(|error| invalid(&error))?;
                    self.tables.push(kind(ValType::Ref(table.ty.element_type))?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.map_err(|error| invalid(&error))?.ty;
                    self.globals.push((kind(global.content_type)?, global.mutable));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|error| invalid(&error))?;
                    self.export(bytes, export.name, export.kind, export.index as usize)?;
                }
            }
            Payload::StartSection { .. } => return Err(unsupported("a start section")),
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, index: u32) -> Result<(), Refusal> {
        let function = self.function(index)?;
        if function.results.len() > 1 {
            return Err(unsupported(format!("imported functions with several results, such as {module}.{name}")));
        }
        let import = Import { index: self.functions.len(), module: plain(module)?, name: plain(name)?, function };
        let other = |known: &&Import| known.module == module && known.name == name && known.function != import.function;
        if self.found.imports.iter().any(|known| other(&known)) {
            return Err(unsupported(format!("an import declared twice with different types, {module}.{name}")));
        }
        self.functions.push(index);
        self.found.imports.push(import);
        Ok(())
    }

    fn function(&self, index: u32) -> Result<FunctionType, Refusal> {
        self.types.get(index as usize).cloned().ok_or_else(|| unsupported("unknown types"))
    }

    fn export(&mut self, bytes: &[u8], name: &str, external: ExternalKind, index: usize) -> Result<(), Refusal> {
        let unknown = || unsupported("unknown exports");
        let export = match external {
            ExternalKind::Func | ExternalKind::FuncExact => {
                Export::Function(self.function(*self.functions.get(index).ok_or_else(unknown)?)?)
            }
            ExternalKind::Global => {
                let (kind, mutable) = *self.globals.get(index).ok_or_else(unknown)?;
                Export::Global { kind, mutable }
            }
            ExternalKind::Table => Export::Table { element: *self.tables.get(index).ok_or_else(unknown)? },
            ExternalKind::Memory => Export::Memory,
            ExternalKind::Tag => return Err(unsupported("exception handling")),
        };
        let text = plain(name)?;
        if let Some(known) = MEANINGFUL.iter().find(|known| **known == name) {
            // A name is a slice of the module.
            self.meaningful.push((name.as_ptr().addr() - bytes.as_ptr().addr(), known));
        } else {
            self.found.exports.insert(text, export);
        }
        Ok(())
    }
}
