//! A first look at the code of each function: what the analysis of the whole module, and the rest of the output, have to know
//! of it. It is not validated yet, so nothing here may rely on an index.

use std::collections::BTreeSet;

use wasmparser::{BinaryReader, FunctionBody, GlobalType, Operator, OperatorsReader, RefType, TableType, ValType};

use super::{
    bytes::place,
    opcodes::{BLOCK, EXTERNREF, FUNCREF, IF, LOOP, OPCODES},
    refusal::{Result, covered},
};

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

/// What code does that matters to the whole module.
#[derive(Default)]
pub struct Noted {
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
}

impl Noted {
    /// Notes that values of a type can be in frames.
    pub(super) fn holds(&mut self, ty: ValType) {
        self.function_values |= ty == ValType::FUNCREF;
        self.extern_values |= ty == ValType::EXTERNREF;
    }

    pub(super) fn join(&mut self, other: Self) {
        self.referenced.extend(other.referenced);
        self.changed_tables.extend(other.changed_tables);
        self.dropped_data.extend(other.dropped_data);
        self.dropped_elements.extend(other.dropped_elements);
        self.function_values |= other.function_values;
        self.extern_values |= other.extern_values;
    }
}

/// The index spaces of the module that code names things in.
pub struct Spaces<'a> {
    /// How many functions there are.
    pub functions: usize,
    /// How many types.
    pub types: usize,
    pub tables: &'a [TableType],
    pub globals: &'a [GlobalType],
}

/// What a look at one function gives.
#[derive(Default)]
pub struct Scan {
    pub summary: Summary,
    pub noted: Noted,
}

impl Scan {
    /// Looks at it, as far as it can be understood: validation refuses the rest.
    ///
    /// # Errors
    /// `Invalid` when its locals are malformed.
    pub fn of(spaces: &Spaces<'_>, body: &FunctionBody<'_>) -> Result<Self> {
        let mut scan = Self::default();
        for group in body.get_locals_reader()? {
            scan.noted.holds(group?.1);
        }
        let mut reader = body.get_binary_reader_for_operators()?;
        let start = reader.original_position();
        let bytes = reader.read_bytes(reader.bytes_remaining())?;
        let mut at = 0;
        while let Some(opcode) = bytes.get(at) {
            let (_, immediate) = OPCODES[*opcode as usize];
            let length = immediate.length(&bytes[at + 1..]);
            if let Some(length) = length {
                scan.summary.loops |= *opcode == LOOP;
                // What a block gives may have come from nowhere: all operands can be had in code that is never reached.
                if let (BLOCK..=IF, Some(ty)) = (*opcode, bytes.get(at + 1)) {
                    scan.noted.function_values |= *ty == FUNCREF;
                    scan.noted.extern_values |= *ty == EXTERNREF;
                }
                at += 1 + length;
                continue;
            }
            let reader = BinaryReader::new_features(&bytes[at..], start + at as u64, covered());
            let mut operators = OperatorsReader::new(reader);
            let Ok(operator) = operators.read() else { break };
            let end = operators.original_position();
            scan.note(spaces, &operator, start + at as u64, end);
            at = usize::try_from(end - start).unwrap_or(usize::MAX);
        }
        Ok(scan)
    }

    fn note(&mut self, spaces: &Spaces<'_>, operator: &Operator<'_>, start: u64, end: u64) {
        let (summary, noted) = (&mut self.summary, &mut self.noted);
        let is_function = |function: u32| (function as usize) < spaces.functions;
        let is_type = |ty: u32| (ty as usize) < spaces.types;
        let mut edit = |edit| summary.edits.push(EditAt { edit, start: place(start), end: place(end) });
        match *operator {
            Operator::Call { function_index } if is_function(function_index) => {
                edit(Edit::Call(function_index));
                summary.calls.insert((Callee::Function(function_index), false));
            }
            Operator::ReturnCall { function_index } if is_function(function_index) => {
                edit(Edit::TailCall(function_index));
                summary.calls.insert((Callee::Function(function_index), true));
            }
            Operator::CallIndirect { type_index, table_index } if is_type(type_index) => {
                summary.calls.insert((Callee::Indirect { ty: type_index, table: table_index }, false));
            }
            Operator::ReturnCallIndirect { type_index, table_index } if is_type(type_index) => {
                summary.calls.insert((Callee::Indirect { ty: type_index, table: table_index }, true));
            }
            Operator::RefFunc { function_index } if is_function(function_index) => {
                edit(Edit::RefFunc(function_index));
                noted.referenced.insert(function_index);
                noted.function_values = true;
            }
            Operator::RefNull { hty } => match RefType::new(true, hty) {
                Some(ty) => noted.holds(ValType::Ref(ty)),
                None => noted.function_values = true,
            },
            Operator::TableGet { table } => {
                if let Some(ty) = spaces.tables.get(table as usize) {
                    noted.holds(ValType::Ref(ty.element_type));
                }
            }
            Operator::GlobalGet { global_index } => {
                if let Some(ty) = spaces.globals.get(global_index as usize) {
                    noted.holds(ty.content_type);
                }
            }
            Operator::DataDrop { data_index } => {
                edit(Edit::DataDrop(data_index));
                noted.dropped_data.insert(data_index);
            }
            Operator::ElemDrop { elem_index } => {
                edit(Edit::ElemDrop(elem_index));
                noted.dropped_elements.insert(elem_index);
            }
            Operator::TableSet { table }
            | Operator::TableGrow { table }
            | Operator::TableFill { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy { dst_table: table, .. } => {
                noted.changed_tables.insert(table);
            }
            _ => {}
        }
    }
}
