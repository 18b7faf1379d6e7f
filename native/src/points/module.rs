//! The original module, read and validated once: its index spaces, and for each function what the analysis of the
//! whole module has to know of it.

use std::collections::BTreeSet;

use wasmparser::{
    ElementItems, ElementKind, Encoding, Export, ExternalKind, FuncToValidate, FunctionBody, GlobalType, MemoryType,
    Operator, Parser, Payload, RefType, TableType, TypeRef, ValType, Validator, ValidatorResources,
};

use super::{
    refusal::{Refusal, Result, covered},
    types::Signature,
};

/// Files above this are refused, so that offsets fit 32 bits with room for what the pass adds.
const LARGEST: usize = 1 << 30;

/// An import with its two names.
pub struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub ty: TypeRef,
}

/// Something in a body whose bytes change even where nothing is instrumented: an index of a function, or a drop of a
/// passive segment, which must be remembered.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    Call(u32),
    TailCall(u32),
    RefFunc(u32),
    DataDrop(u32),
    ElemDrop(u32),
}

/// An edit and the bytes it replaces (of the file).
#[derive(Clone, Copy, Debug)]
pub struct EditAt {
    pub edit: Edit,
    pub start: u32,
    pub end: u32,
}

/// A call from one function to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callee {
    Function(u32),
    Indirect { ty: u32, table: u32 },
}

/// What the whole-module analysis knows of one body.
#[derive(Default)]
pub struct Summary {
    /// Each call once: the callee and whether it is a tail call.
    pub calls: BTreeSet<(Callee, bool)>,
    pub loops: bool,
    pub edits: Vec<EditAt>,
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
    /// Functions that `ref.func` names, in code or in initial values.
    pub referenced: BTreeSet<u32>,
    /// Tables that code changes, beyond what active segments put there.
    pub changed_tables: BTreeSet<u32>,
    pub dropped_data: BTreeSet<u32>,
    pub dropped_elements: BTreeSet<u32>,
    /// Whether references to functions can be values of locals or operands.
    pub function_values: bool,
    /// Whether host references can be.
    pub extern_values: bool,
    /// The payloads, for what is copied.
    pub sections: Vec<Payload<'a>>,
}

impl<'a> Module<'a> {
    /// Reads a module.
    ///
    /// # Errors
    /// `Invalid` when it does not validate, `Unsupported` when it uses a feature that the pass does not cover.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > LARGEST {
            return Err(Refusal::Unsupported { feature: "more than 1 GiB of code and data", offset: LARGEST });
        }
        let mut module = Self::default();
        let mut validator = Validator::new_with_features(covered());
        let mut parser = Parser::new(0);
        parser.set_features(covered());
        let mut allocations = wasmparser::FuncValidatorAllocations::default();
        for payload in parser.parse_all(bytes) {
            let payload = payload?;
            if let Payload::Version { encoding: Encoding::Component, .. } = &payload {
                return Err(Refusal::Unsupported { feature: "the component model", offset: 4 });
            }
            match validator.payload(&payload)? {
                wasmparser::ValidPayload::Func(function, body) => {
                    let validate = (function.resources.clone(), function.index, function.ty);
                    let mut checker = function.into_validator(allocations);
                    let summary = module.summarize(&body, &mut checker)?;
                    allocations = checker.into_allocations();
                    module.bodies.push(Body { body, summary, validate });
                }
                _ => module.section(payload)?,
            }
        }
        Ok(module)
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<()> {
        match &payload {
            Payload::TypeSection(reader) => {
                for ty in reader.clone().into_iter_err_on_gc_types() {
                    let ty = ty?;
                    ty.params().iter().chain(ty.results()).for_each(|ty| self.holds(*ty));
                    self.types.push(Signature::from_wasm(&ty)?);
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Func(ty) => self.functions.push(ty),
                        TypeRef::Table(ty) => self.tables.push(ty),
                        TypeRef::Memory(ty) => self.memories.push(ty),
                        TypeRef::Global(ty) => self.globals.push(ty),
                        TypeRef::Tag(_) | TypeRef::FuncExact(_) => {}
                    }
                    self.imports.push(Import { module: import.module, name: import.name, ty: import.ty });
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
                for export in reader.clone() {
                    self.exports.push(export?);
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
        self.referenced.extend(named(expression)?);
        Ok(())
    }

    /// Validates a body and notes what the rest of the module has to know.
    fn summarize(
        &mut self,
        body: &FunctionBody<'a>,
        checker: &mut wasmparser::FuncValidator<ValidatorResources>,
    ) -> Result<Summary> {
        let mut summary = Summary::default();
        let mut reader = body.get_binary_reader();
        reader.set_features(covered());
        checker.read_locals(&mut reader)?;
        for group in body.get_locals_reader()? {
            self.holds(group?.1);
        }
        let mut operators = wasmparser::OperatorsReader::new(reader);
        while !operators.eof() {
            let offset = operators.original_position();
            let operator = operators.read()?;
            checker.op(offset, &operator)?;
            let end = operators.original_position();
            self.note(&operator, place(offset), place(end), &mut summary);
        }
        operators.finish()?;
        Ok(summary)
    }

    /// Notes that values of a type can be in frames.
    fn holds(&mut self, ty: ValType) {
        self.function_values |= ty == ValType::FUNCREF;
        self.extern_values |= ty == ValType::EXTERNREF;
    }

    fn note(&mut self, operator: &Operator<'_>, start: u32, end: u32, summary: &mut Summary) {
        let mut edit = |edit| summary.edits.push(EditAt { edit, start, end });
        match *operator {
            Operator::Loop { .. } => summary.loops = true,
            Operator::Call { function_index } => {
                edit(Edit::Call(function_index));
                summary.calls.insert((Callee::Function(function_index), false));
            }
            Operator::ReturnCall { function_index } => {
                edit(Edit::TailCall(function_index));
                summary.calls.insert((Callee::Function(function_index), true));
            }
            Operator::CallIndirect { type_index, table_index } => {
                summary.calls.insert((Callee::Indirect { ty: type_index, table: table_index }, false));
            }
            Operator::ReturnCallIndirect { type_index, table_index } => {
                summary.calls.insert((Callee::Indirect { ty: type_index, table: table_index }, true));
            }
            Operator::RefFunc { function_index } => {
                edit(Edit::RefFunc(function_index));
                self.referenced.insert(function_index);
                self.function_values = true;
            }
            Operator::RefNull { hty } => match RefType::new(true, hty) {
                Some(ty) => self.holds(ValType::Ref(ty)),
                None => self.function_values = true,
            },
            Operator::TableGet { table } => self.holds(ValType::Ref(self.tables[table as usize].element_type)),
            Operator::GlobalGet { global_index } => self.holds(self.globals[global_index as usize].content_type),
            Operator::DataDrop { data_index } => {
                edit(Edit::DataDrop(data_index));
                self.dropped_data.insert(data_index);
            }
            Operator::ElemDrop { elem_index } => {
                edit(Edit::ElemDrop(elem_index));
                self.dropped_elements.insert(elem_index);
            }
            Operator::TableSet { table }
            | Operator::TableGrow { table }
            | Operator::TableFill { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy { dst_table: table, .. } => {
                self.changed_tables.insert(table);
            }
            _ => {}
        }
    }

    /// Signature of a function.
    #[must_use]
    pub fn signature(&self, function: u32) -> &Signature {
        &self.types[self.functions[function as usize] as usize]
    }

    /// The names of the imported functions, in the order of their indices.
    pub fn function_imports(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        let functions = self.imports.iter().filter(|import| matches!(import.ty, TypeRef::Func(_)));
        functions.map(|import| (import.module, import.name))
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

/// An offset in the file; [`LARGEST`] keeps it in range.
#[must_use]
pub fn place(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
