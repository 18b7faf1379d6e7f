//! Adds calls to a module: a function for each, without parameters or results, that pushes the arguments as constants, calls an export, and
//! leaves the bits of the results in globals. So every bit of a float, vectors and nulls reach the guest and come back on any engine,
//! whatever its interface can carry.
//!
//! Nothing of the module changes its index; only byte offsets do. It also gets an export `_start` that does nothing, if it has none.

use wasm_encoder::{ConstExpr, Encode, Function, GlobalType, HeapType, Ieee32, Ieee64, Instruction, ValType as Type};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, ValType};

#[derive(Clone)]
pub enum Argument {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
    V128(u128),
    /// Of the type that is wanted.
    Null,
}

pub enum Target<'a> {
    Function {
        export: &'a str,
        arguments: Vec<Argument>,
    },
    Global {
        export: &'a str,
    },
    /// Takes what no constant can be.
    Unknown,
}

/// Types of the results of each call, in letters: i, I, f, F, v, r. `None`: cannot be called.
pub type Results = Vec<Option<String>>;

pub struct WithCalls {
    pub module: Vec<u8>,
    pub results: Results,
    /// Index of the first of the globals that hold results; an i64 each, for a vector two.
    pub first_global: u32,
}

/// What is known of a module's index spaces.
#[derive(Default)]
struct Shape {
    types: Vec<Option<wasmparser::FuncType>>,
    functions: Vec<u32>,
    globals: Vec<wasmparser::GlobalType>,
    exports: Vec<(String, ExternalKind, u32)>,
}

fn shape(module: &[u8]) -> wasmparser::Result<Shape> {
    let mut shape = Shape::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(types) => {
                for group in types {
                    for ty in group?.into_types() {
                        shape.types.push(match ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(function) => Some(function),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) => shape.functions.push(ty),
                        TypeRef::Global(ty) => shape.globals.push(ty),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    shape.functions.push(ty?);
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    shape.globals.push(global?.ty);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    shape.exports.push((export.name.to_owned(), export.kind, export.index));
                }
            }
            _ => {}
        }
    }
    Ok(shape)
}

/// Vector sections that get more entries: id, number of entries, their bytes.
struct Addition {
    id: u8,
    count: u32,
    bytes: Vec<u8>,
}

fn letter(ty: ValType) -> Option<char> {
    Some(match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        ValType::F32 => 'f',
        ValType::F64 => 'F',
        ValType::V128 => 'v',
        ValType::Ref(ty) if ty == wasmparser::RefType::FUNCREF || ty == wasmparser::RefType::EXTERNREF => 'r',
        ValType::Ref(_) => return None,
    })
}

fn letters(types: &[ValType]) -> Option<String> {
    types.iter().map(|ty| letter(*ty)).collect()
}

fn slots(results: &str) -> u32 {
    results.chars().map(|c| if c == 'v' { 2 } else { 1 }).sum()
}

fn constant(argument: &Argument, wanted: ValType) -> Option<Instruction<'static>> {
    Some(match (argument, wanted) {
        (Argument::I32(bits), ValType::I32) => Instruction::I32Const(bits.cast_signed()),
        (Argument::I64(bits), ValType::I64) => Instruction::I64Const(bits.cast_signed()),
        (Argument::F32(bits), ValType::F32) => Instruction::F32Const(Ieee32::new(*bits)),
        (Argument::F64(bits), ValType::F64) => Instruction::F64Const(Ieee64::new(*bits)),
        (Argument::V128(bits), ValType::V128) => Instruction::V128Const(bits.cast_signed()),
        (Argument::Null, ValType::Ref(ty)) if ty == wasmparser::RefType::FUNCREF => {
            Instruction::RefNull(HeapType::FUNC)
        }
        (Argument::Null, ValType::Ref(ty)) if ty == wasmparser::RefType::EXTERNREF => {
            Instruction::RefNull(HeapType::EXTERN)
        }
        _ => return None,
    })
}

/// The last result is on top of the stack.
fn keep(results: &str, first_global: u32, function: &mut Function) {
    let mut slot = first_global + slots(results);
    for result in results.chars().rev() {
        slot -= if result == 'v' { 2 } else { 1 };
        match result {
            'i' => function.instruction(&Instruction::I64ExtendI32U),
            'I' => function,
            'f' => function.instruction(&Instruction::I32ReinterpretF32).instruction(&Instruction::I64ExtendI32U),
            'F' => function.instruction(&Instruction::I64ReinterpretF64),
            'v' => function
                .instruction(&Instruction::LocalTee(0))
                .instruction(&Instruction::I64x2ExtractLane(1))
                .instruction(&Instruction::GlobalSet(slot + 1))
                .instruction(&Instruction::LocalGet(0))
                .instruction(&Instruction::I64x2ExtractLane(0)),
            _ => function.instruction(&Instruction::RefIsNull).instruction(&Instruction::I64ExtendI32U),
        };
        function.instruction(&Instruction::GlobalSet(slot));
    }
}

struct Made {
    function: Function,
    results: String,
}

fn make(shape: &Shape, first_global: u32, target: &Target<'_>) -> Option<Made> {
    let export = match target {
        Target::Function { export, .. } | Target::Global { export } => *export,
        Target::Unknown => return None,
    };
    let (_, kind, index) = shape.exports.iter().find(|(name, ..)| name == export)?;
    let (instruction, arguments, params, results) = match (target, kind) {
        (Target::Function { arguments, .. }, ExternalKind::Func) => {
            let ty = shape.types.get(*shape.functions.get(*index as usize)? as usize)?.as_ref()?;
            (Instruction::Call(*index), arguments.as_slice(), ty.params(), ty.results().to_vec())
        }
        (Target::Global { .. }, ExternalKind::Global) => {
            let ty = shape.globals.get(*index as usize)?;
            (Instruction::GlobalGet(*index), [].as_slice(), [].as_slice(), vec![ty.content_type])
        }
        _ => return None,
    };
    if arguments.len() != params.len() {
        return None;
    }
    let results = letters(&results)?;
    let mut function = Function::new(results.contains('v').then_some((1, Type::V128)));
    for (argument, wanted) in arguments.iter().zip(params) {
        function.instruction(&constant(argument, *wanted)?);
    }
    function.instruction(&instruction);
    keep(&results, first_global, &mut function);
    function.instruction(&Instruction::End);
    Some(Made { function, results })
}

/// Adds the calls as exports `call:0`, `call:1`, …
pub fn add(module: &[u8], targets: &[Target<'_>]) -> Result<WithCalls, Box<dyn std::error::Error>> {
    let shape = shape(module)?;
    let first_global = u32::try_from(shape.globals.len())?;
    let made: Vec<Option<Made>> = targets.iter().map(|target| make(&shape, first_global, target)).collect();
    let (mut functions, mut exports, mut code) = (Vec::new(), Vec::new(), Vec::new());
    let (mut function_count, mut export_count) = (0, 0);
    let nothing_type = u32::try_from(shape.types.len())?;
    let mut function = |name: &str, body: &Function| {
        let index = u32::try_from(shape.functions.len()).expect("an index") + function_count;
        nothing_type.encode(&mut functions);
        body.encode(&mut code);
        name.encode(&mut exports);
        exports.push(0);
        index.encode(&mut exports);
        function_count += 1;
        export_count += 1;
    };
    for (number, made) in made.iter().enumerate() {
        if let Some(made) = made {
            function(&format!("call:{number}"), &made.function);
        }
    }
    if !shape.exports.iter().any(|(name, ..)| name == "_start") {
        let mut nothing = Function::new([]);
        nothing.instruction(&Instruction::End);
        function("_start", &nothing);
    }
    let wanted = made.iter().flatten().map(|made| slots(&made.results)).max().unwrap_or(0);
    let mut globals = Vec::new();
    for _ in 0..wanted {
        GlobalType { val_type: Type::I64, mutable: true, shared: false }.encode(&mut globals);
        ConstExpr::i64_const(0).encode(&mut globals);
    }
    let additions = [
        Addition { id: 1, count: 1, bytes: vec![0x60, 0, 0] },
        Addition { id: 3, count: function_count, bytes: functions },
        Addition { id: 6, count: wanted, bytes: globals },
        Addition { id: 7, count: export_count, bytes: exports },
        Addition { id: 10, count: function_count, bytes: code },
    ];
    let results = made.into_iter().map(|made| made.map(|made| made.results)).collect();
    let module = extend(module, &additions).ok_or("a section is cut off")?;
    Ok(WithCalls { module, results, first_global })
}

/// Where a section stands among the others: that of tags and the count of data segments came later than their neighbours.
fn rank(id: u8) -> u8 {
    match id {
        13 => 11,
        12 => 19,
        id => 2 * id,
    }
}

/// An unsigned LEB128 at `at`, which goes behind it.
fn number(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn extend(module: &[u8], additions: &[Addition]) -> Option<Vec<u8>> {
    let mut out = module.get(..8)?.to_vec();
    let mut left = additions.iter().filter(|addition| addition.count > 0).peekable();
    let mut at = 8;
    while at < module.len() {
        let id = module[at];
        at += 1;
        let size = number(module, &mut at)? as usize;
        let payload = module.get(at..at + size)?;
        at += size;
        if id != 0 {
            while let Some(addition) = left.next_if(|addition| rank(addition.id) < rank(id)) {
                section(&mut out, addition, 0, &[]);
            }
        }
        if let Some(addition) = left.next_if(|addition| addition.id == id) {
            let mut behind = 0;
            let count = number(payload, &mut behind)?;
            section(&mut out, addition, count, &payload[behind..]);
        } else {
            out.push(id);
            payload.encode(&mut out);
        }
    }
    for addition in left {
        section(&mut out, addition, 0, &[]);
    }
    Some(out)
}

fn section(out: &mut Vec<u8>, addition: &Addition, count: u32, before: &[u8]) {
    let mut payload = Vec::new();
    (count + addition.count).encode(&mut payload);
    payload.extend_from_slice(before);
    payload.extend_from_slice(&addition.bytes);
    out.push(addition.id);
    payload.as_slice().encode(out);
}
