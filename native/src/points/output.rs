//! Assembles the instrumented module from the original's sections and what the pass adds to each.

use wasm_encoder::{
    BranchHint, BranchHints, ConstExpr, CustomSection, ElementSection, Elements, Encode, EntityType, ExportKind,
    ExportSection, FunctionSection, GlobalSection, GlobalType, ImportSection, MemorySection, MemoryType,
    Module as Output, RawSection, RefType, SectionId, TableSection, TableType, ValType,
    reencode::{self, Reencode},
};
use wasmparser::{ExternalKind, Payload};

use super::{
    emit::{Abi, Body, Stop},
    helpers::Helper,
    limits::{self, Space},
    metadata,
    module::{Module, NAMESPACE},
    plan::{Plan, count},
    refusal::{Refusal, Result},
    types::Signatures,
};

/// The value of a hint: the branch is not taken, the `if` not entered.
const UNLIKELY: u32 = 0;

/// Code, in the order of the output's function indices.
pub struct Parts {
    /// Bodies of the original functions.
    pub bodies: Vec<Body>,
    /// The cold path of polls, before them.
    pub ask: Option<Helper>,
    /// Everything behind them: wrappers, resume versions, exports.
    pub helpers: Vec<Helper>,
    /// Functions of the resume table, by slot.
    pub resume: Vec<u32>,
    pub metadata: Vec<u8>,
}

/// Changes indices of functions in what is copied.
struct Renumber<'a>(&'a Abi);

impl Reencode for Renumber<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> std::result::Result<u32, reencode::Error<Self::Error>> {
        Ok(self.0.reference(function))
    }
}

impl From<reencode::Error<std::convert::Infallible>> for Refusal {
    fn from(error: reencode::Error<std::convert::Infallible>) -> Self {
        match error {
            reencode::Error::ParseError(error) => error.into(),
            other => Self::Invalid { message: other.to_string(), offset: 0 },
        }
    }
}

/// Puts the module together.
///
/// # Errors
/// What validation would have found; `Unsupported` when an engine has a limit that the output exceeds.
pub fn assemble(
    file: &[u8],
    module: &Module<'_>,
    plan: &Plan,
    signatures: &Signatures,
    parts: &Parts,
) -> Result<Vec<u8>> {
    Space::Types.check(module, signatures.count())?;
    let mut out = Output::new();
    customs(module, &mut out, plan, true);
    out.section(&signatures.section());
    let imports = imports(module, plan)?;
    Space::Imports.check(module, imports.len() as usize)?;
    if !imports.is_empty() {
        out.section(&imports);
    }
    let functions = functions(module, parts);
    Space::Functions.check(module, functions.len() as usize + module.imported_functions as usize + plan.host.len())?;
    out.section(&functions);
    if let Some(tables) = tables(module, plan, parts)? {
        Space::Tables.check(module, tables.len() as usize + module.imported_tables as usize)?;
        out.section(&tables);
    }
    if !plan.import_memories && module.memories.len() > module.imported_memories as usize {
        let mut memories = MemorySection::new();
        for ty in &module.memories[module.imported_memories as usize..] {
            memories.memory(Renumber(&plan.abi).memory_type(*ty)?);
        }
        out.section(&memories);
    }
    if let Some(globals) = globals(module, plan)? {
        Space::Globals.check(module, globals.len() as usize + module.imported_globals as usize)?;
        out.section(&globals);
    }
    let exports = exports(module, plan, parts);
    Space::Exports.check(module, exports.len() as usize)?;
    if !exports.is_empty() {
        out.section(&exports);
    }
    if let Some(elements) = elements(module, plan, parts)? {
        out.section(&elements);
    }
    copy(file, module, &mut out, |payload| matches!(payload, Payload::DataCountSection { .. }));
    let bodies = parts.ask.iter().map(|helper| &helper.body).chain(&parts.bodies);
    let bodies: Vec<&Body> = bodies.chain(parts.helpers.iter().map(|helper| &helper.body)).collect();
    code(plan, &bodies, &mut out);
    copy(file, module, &mut out, |payload| matches!(payload, Payload::DataSection(_)));
    customs(module, &mut out, plan, false);
    out.section(&CustomSection { name: metadata::SECTION.into(), data: (&parts.metadata).into() });
    let out = out.finish();
    limits::bytes(out.len())?;
    Ok(out)
}

/// Writes the code section, and before it which branches are cold, for engines that optimize.
fn code(plan: &Plan, bodies: &[&Body], out: &mut Output) {
    if bodies.is_empty() {
        return;
    }
    let mut hints = BranchHints::new();
    let first = plan.abi.imported_functions + count(plan.host.len());
    let size: usize = bodies.iter().map(|body| body.bytes.len() + 16).sum();
    let mut code = Vec::with_capacity(size);
    bodies.len().encode(&mut code);
    let (mut bytes, mut cold) = (Vec::new(), Vec::new());
    for (function, body) in (first..).zip(bodies) {
        bytes.clear();
        cold.clear();
        body.finish(&mut bytes, &mut cold);
        bytes.len().encode(&mut code);
        code.extend_from_slice(&bytes);
        if !cold.is_empty() {
            let cold = cold.iter().map(|at| BranchHint { branch_func_offset: *at, branch_hint_value: UNLIKELY });
            hints.function_hints(function, cold);
        }
    }
    if plan.import_memories && !hints.is_empty() {
        out.section(&hints);
    }
    out.section(&RawSection { id: SectionId::Code.into(), data: &code });
}

/// Copies a section as it is.
fn copy(file: &[u8], module: &Module<'_>, out: &mut Output, wanted: impl Fn(&Payload<'_>) -> bool) {
    for payload in module.sections.iter().filter(|payload| wanted(payload)) {
        if let Some((id, range)) = payload.as_section()
            && let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
            && let Some(data) = file.get(start..end)
        {
            out.section(&RawSection { id, data });
        }
    }
}

/// Custom sections that still mean something: those in front of all others (`dylink.0`) or those behind.
fn customs(module: &Module<'_>, out: &mut Output, plan: &Plan, front: bool) {
    let is_custom = |payload: &&Payload<'_>| matches!(payload, Payload::CustomSection(_) | Payload::Version { .. });
    let leading = module.sections.iter().take_while(is_custom).count();
    let (first, rest) = module.sections.split_at(leading);
    for payload in if front { first } else { rest } {
        let Payload::CustomSection(section) = payload else { continue };
        match section.name() {
            "name" => names(section, out, plan, module.functions.len()),
            // Of another pass, or meant to be taken for ours.
            metadata::SECTION => {}
            // Places in code, which has moved. Tools read them from the original.
            name if name.starts_with(".debug_")
                || name.starts_with("reloc.")
                || name.starts_with("metadata.code.")
                || name == "linking"
                || name == "sourceMappingURL" => {}
            name => {
                out.section(&CustomSection { name: name.into(), data: section.data().into() });
            }
        }
    }
}

/// Names of functions, for the stack traces of engines. A malformed name section is nobody's error.
fn names(section: &wasmparser::CustomSectionReader<'_>, out: &mut Output, plan: &Plan, count: usize) {
    let wasmparser::KnownCustom::Name(reader) = section.as_known() else { return };
    let mut names = wasm_encoder::NameSection::new();
    let mut functions = wasm_encoder::NameMap::new();
    for part in reader {
        let Ok(wasmparser::Name::Function(map)) = part else { continue };
        for naming in map {
            let Ok(naming) = naming else { return };
            if naming.index as usize >= count {
                return;
            }
            functions.append(plan.abi.function(naming.index), naming.name);
        }
    }
    names.functions(&functions);
    out.section(&names);
}

fn imports(module: &Module<'_>, plan: &Plan) -> Result<ImportSection> {
    let mut imports = ImportSection::new();
    for import in &module.imports {
        imports.import(import.module, import.name, Renumber(&plan.abi).entity_type(import.ty)?);
    }
    for (name, ty) in &plan.host {
        imports.import(NAMESPACE, name, EntityType::Function(*ty));
    }
    if plan.import_memories {
        for (index, ty) in module.memories.iter().enumerate().skip(module.imported_memories as usize) {
            let ty = Renumber(&plan.abi).memory_type(*ty)?;
            imports.import(NAMESPACE, &format!("memory:{index}"), EntityType::Memory(ty));
        }
        let stop = MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: true, page_size_log2: None };
        imports.import(NAMESPACE, "stop", EntityType::Memory(stop));
    }
    Ok(imports)
}

fn functions(module: &Module<'_>, parts: &Parts) -> FunctionSection {
    let mut functions = FunctionSection::new();
    if let Some(helper) = &parts.ask {
        functions.function(helper.ty);
    }
    for ty in &module.functions[module.imported_functions as usize..] {
        functions.function(*ty);
    }
    for helper in &parts.helpers {
        functions.function(helper.ty);
    }
    functions
}

fn tables(module: &Module<'_>, plan: &Plan, parts: &Parts) -> Result<Option<TableSection>> {
    let mut tables = TableSection::new();
    for payload in &module.sections {
        if let Payload::TableSection(reader) = payload {
            Renumber(&plan.abi).parse_table_section(&mut tables, reader.clone())?;
        }
    }
    let mut private = |length: usize| {
        let length = length as u64;
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: length,
            maximum: Some(length),
            shared: false,
        });
    };
    if plan.active {
        private(parts.resume.len());
    }
    if plan.functions_table.is_some() {
        private(plan.referenced.len());
    }
    Ok((!tables.is_empty()).then_some(tables))
}

fn globals(module: &Module<'_>, plan: &Plan) -> Result<Option<GlobalSection>> {
    let mut globals = GlobalSection::new();
    for payload in &module.sections {
        if let Payload::GlobalSection(reader) = payload {
            Renumber(&plan.abi).parse_global_section(&mut globals, reader.clone())?;
        }
    }
    for _ in 0..plan.globals {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(0));
    }
    Ok((!globals.is_empty()).then_some(globals))
}

fn exports(module: &Module<'_>, plan: &Plan, parts: &Parts) -> ExportSection {
    let mut exports = ExportSection::new();
    for export in &module.exports {
        let (kind, index) = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => (ExportKind::Func, plan.abi.reference(export.index)),
            ExternalKind::Table => (ExportKind::Table, export.index),
            ExternalKind::Memory => (ExportKind::Memory, export.index),
            ExternalKind::Global => (ExportKind::Global, export.index),
            ExternalKind::Tag => (ExportKind::Tag, export.index),
        };
        exports.export(export.name, kind, index);
    }
    let mut ours = |name: String, kind, index| {
        exports.export(&format!("{NAMESPACE}:{name}"), kind, index);
    };
    for memory in 0..count(module.memories.len()) {
        ours(format!("memory:{memory}"), ExportKind::Memory, memory);
    }
    for table in 0..count(module.tables.len()) {
        ours(format!("table:{table}"), ExportKind::Table, table);
    }
    if let Some(table) = plan.functions_table {
        ours("functions".to_owned(), ExportKind::Table, table);
    }
    if plan.active {
        ours("unwind".to_owned(), ExportKind::Global, plan.abi.unwind);
        if let Stop::Global(global) | Stop::Count(global) = plan.abi.stop {
            ours("stop".to_owned(), ExportKind::Global, global);
        }
    }
    if let Some(start) = module.start {
        ours("start".to_owned(), ExportKind::Func, plan.abi.reference(start));
    }
    let first = count(module.functions.len()) + plan.abi.shift;
    for (index, helper) in (first..).zip(&parts.helpers) {
        if let Some(name) = &helper.export {
            exports.export(name, ExportKind::Func, index);
        }
    }
    exports
}

fn elements(module: &Module<'_>, plan: &Plan, parts: &Parts) -> Result<Option<ElementSection>> {
    let mut elements = ElementSection::new();
    for payload in &module.sections {
        if let Payload::ElementSection(reader) = payload {
            Renumber(&plan.abi).parse_element_section(&mut elements, reader.clone())?;
        }
    }
    let mut fill = |table: u32, functions: Vec<u32>| {
        elements.active(Some(table), &ConstExpr::i32_const(0), Elements::Functions(functions.into()));
    };
    if plan.active {
        fill(plan.abi.resume_table, parts.resume.clone());
    }
    if let Some(table) = plan.functions_table {
        fill(table, plan.referenced.iter().map(|function| plan.abi.reference(*function)).collect());
    }
    Ok((!elements.is_empty()).then_some(elements))
}
