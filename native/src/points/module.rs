//! The original module: its index spaces, and for each function what the analysis of the whole module has to know of it.
//!
//! Everything is validated here but the code of functions, which is when it is decoded ([`super::decode`]).

use wasmparser::{
    ElementItems, ElementKind, Encoding, Export, ExternalKind, FuncToValidate, FunctionBody, GlobalType, MemoryType,
    Operator, Parser, Payload, TableType, TypeRef, Validator, ValidatorResources,
};

use super::{
    bytes::{LARGEST, place},
    parallel,
    refusal::{Refusal, Result, covered},
    scan::{Noted, Scan, Spaces, Summary},
    types::Signature,
};

/// Name of the module that everything of ours is imported from, and of what our exports start with.
pub const NAMESPACE: &str = "kedge";

/// An import with its two names.
pub struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
    /// Where it is in the file.
    pub offset: u32,
}

/// One defined function.
pub struct Body<'a> {
    pub body: FunctionBody<'a>,
    pub summary: Summary,
    validate: (ValidatorResources, u32, u32),
}

impl Body<'_> {
    /// A validator of this body, for a second look with types.
    #[must_use]
    pub fn validator(&self) -> FuncToValidate<ValidatorResources> {
        let (resources, index, ty) = &self.validate;
        FuncToValidate { resources: resources.clone(), index: *index, ty: *ty, features: covered() }
    }
}

/// A segment of a table: which functions it may hold, and where they may go.
pub struct Segment {
    pub functions: Vec<u32>,
    /// The table of an active segment.
    pub table: Option<u32>,
    pub passive: bool,
}

/// The original module.
#[derive(Default)]
pub struct Module<'a> {
    pub types: Vec<Signature>,
    pub imports: Vec<Import<'a>>,
    /// Type index of every function, imported ones first.
    pub functions: Vec<u32>,
    pub imported_functions: u32,
    pub tables: Vec<TableType>,
    pub imported_tables: u32,
    pub memories: Vec<MemoryType>,
    pub imported_memories: u32,
    pub globals: Vec<GlobalType>,
    pub imported_globals: u32,
    pub exports: Vec<Export<'a>>,
    pub start: Option<u32>,
    pub segments: Vec<Segment>,
    /// Of each data segment, whether it is passive.
    pub passive_data: Vec<bool>,
    pub bodies: Vec<Body<'a>>,
    /// What code and initial values do.
    pub noted: Noted,
    /// Why it is none that the pass takes: its first name that is one of ours.
    pub ours: Option<Refusal>,
    /// The payloads, for what is copied.
    pub sections: Vec<Payload<'a>>,
}

impl<'a> Module<'a> {
    /// Reads a module.
    ///
    /// # Errors
    /// `Invalid` when it is malformed or does not validate, `Unsupported` when it uses a feature that the pass does not cover.
    /// Code of functions is only read and not validated.
    pub fn read(bytes: &'a [u8], threads: Option<usize>) -> Result<Self> {
        if bytes.len() > LARGEST {
            return Err(Refusal::Unsupported { feature: "more than 1 GiB of code and data", offset: LARGEST });
        }
        let mut module = Self::default();
        let mut validator = Validator::new_with_features(covered());
        let mut parser = Parser::new(0);
        parser.set_features(covered());
        for payload in parser.parse_all(bytes) {
            let payload = payload?;
            if let Payload::Version { encoding: Encoding::Component, .. } = &payload {
                return Err(Refusal::Unsupported { feature: "the component model", offset: 4 });
            }
            match validator.payload(&payload)? {
                wasmparser::ValidPayload::Func(function, body) => {
                    let validate = (function.resources, function.index, function.ty);
                    module.bodies.push(Body { body, summary: Summary::default(), validate });
                }
                _ => module.section(payload)?,
            }
        }
        let spaces = Spaces {
            functions: module.functions.len(),
            types: module.types.len(),
            tables: &module.tables,
            globals: &module.globals,
        };
        let scan = |(): &mut (), index: usize| Scan::of(&spaces, &module.bodies[index].body);
        let scans = parallel::each(module.bodies.len(), module.threads(threads), || (), scan)?;
        for (index, scan) in scans.into_iter().enumerate() {
            module.bodies[index].summary = scan.summary;
            module.noted.join(scan.noted);
        }
        Ok(module)
    }

    /// How many threads to use for its functions: the number that is wanted, or as many as they are worth.
    #[must_use]
    pub fn threads(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| parallel::threads(self.bodies.iter().map(|body| body.body.as_bytes().len()).sum()))
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<()> {
        match &payload {
            Payload::TypeSection(reader) => {
                for ty in reader.clone().into_iter_err_on_gc_types() {
                    let ty = ty?;
                    ty.params().iter().chain(ty.results()).for_each(|ty| self.noted.holds(*ty));
                    self.types.push(Signature::from_wasm(&ty)?);
                }
            }
            Payload::ImportSection(reader) => {
                for entry in reader.clone().into_imports_with_offsets() {
                    let (offset, import) = entry?;
                    if import.module == NAMESPACE {
                        self.note_ours("imports from `kedge`", offset);
                    }
                    match import.ty {
                        TypeRef::Func(ty) => self.functions.push(ty),
                        TypeRef::Table(ty) => self.tables.push(ty),
                        TypeRef::Memory(ty) => self.memories.push(ty),
                        TypeRef::Global(ty) => self.globals.push(ty),
                        TypeRef::Tag(_) | TypeRef::FuncExact(_) => {}
                    }
                    self.imports.push(Import {
                        module: import.module,
                        name: import.name,
                        ty: import.ty,
                        offset: place(offset),
                    });
                }
                self.imported_functions = count(&self.functions);
                self.imported_tables = count(&self.tables);
                self.imported_memories = count(&self.memories);
                self.imported_globals = count(&self.globals);
            }
            Payload::FunctionSection(reader) => {
                for ty in reader.clone() {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader.clone() {
                    let table = table?;
                    if let wasmparser::TableInit::Expr(expression) = table.init {
                        self.references(&expression)?;
                    }
                    self.tables.push(table.ty);
                }
            }
            Payload::MemorySection(reader) => {
                for ty in reader.clone() {
                    self.memories.push(ty?);
                }
            }
            Payload::GlobalSection(reader) => {
                for global in reader.clone() {
                    let global = global?;
                    self.references(&global.init_expr)?;
                    self.globals.push(global.ty);
                }
            }
            Payload::ExportSection(reader) => {
                for entry in reader.clone().into_iter_with_offsets() {
                    let (offset, export) = entry?;
                    if export.name.strip_prefix(NAMESPACE).is_some_and(|rest| rest.starts_with(':')) {
                        self.note_ours("export names that start with `kedge:`", offset);
                    }
                    self.exports.push(export);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(*func),
            Payload::ElementSection(reader) => self.elements(reader)?,
            Payload::DataSection(reader) => {
                for data in reader.clone() {
                    self.passive_data.push(matches!(data?.kind, wasmparser::DataKind::Passive));
                }
            }
            _ => {}
        }
        self.sections.push(payload);
        Ok(())
    }

    /// Only noted: what else is wrong with the module is told first.
    fn note_ours(&mut self, feature: &'static str, offset: u64) {
        let offset = place(offset) as usize;
        self.ours.get_or_insert(Refusal::Unsupported { feature, offset });
    }

    fn elements(&mut self, reader: &wasmparser::ElementSectionReader<'a>) -> Result<()> {
        for element in reader.clone() {
            let element = element?;
            let mut functions = Vec::new();
            match element.items {
                ElementItems::Functions(list) => {
                    for function in list {
                        functions.push(function?);
                    }
                }
                ElementItems::Expressions(_, list) => {
                    for expression in list {
                        functions.extend(named(&expression?)?);
                    }
                }
            }
            let table = match element.kind {
                ElementKind::Active { table_index, .. } => Some(table_index.unwrap_or(0)),
                ElementKind::Passive | ElementKind::Declared => None,
            };
            let passive = matches!(element.kind, ElementKind::Passive);
            self.segments.push(Segment { functions, table, passive });
        }
        Ok(())
    }

    fn references(&mut self, expression: &wasmparser::ConstExpr<'_>) -> Result<()> {
        self.noted.referenced.extend(named(expression)?);
        Ok(())
    }

    /// Signature of a function.
    #[must_use]
    pub fn signature(&self, function: u32) -> &Signature {
        &self.types[self.functions[function as usize] as usize]
    }

    /// The imported functions, in the order of their indices.
    pub fn function_imports(&self) -> impl Iterator<Item = &Import<'a>> + '_ {
        self.imports.iter().filter(|import| matches!(import.ty, TypeRef::Func(_)))
    }

    /// Whether the host can reach a table and change it behind the module's back.
    #[must_use]
    pub fn shared_table(&self, table: u32) -> bool {
        table < self.imported_tables
            || self.exports.iter().any(|export| export.kind == ExternalKind::Table && export.index == table)
    }
}

/// The functions that a constant expression refers to.
fn named(expression: &wasmparser::ConstExpr<'_>) -> Result<Vec<u32>> {
    let mut functions = Vec::new();
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator? {
            functions.push(function_index);
        }
    }
    Ok(functions)
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
