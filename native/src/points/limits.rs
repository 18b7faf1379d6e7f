//! Limits of engines, which the instrumented form of a module can exceed where the module does not. They are those of the
//! JavaScript interface of WebAssembly, which V8 and wasmparser have too. Without a check an engine would say only that our
//! own output is not valid.

use wasmparser::Payload;

use super::{
    emit::Body,
    features::{BODY, BYTES, EXPORTS, FUNCTIONS, GLOBALS, IMPORTS, LOCALS, TABLES, TYPES},
    module::Module,
    refusal::{Refusal, Result},
};

/// Locals of a function, its parameters included.
pub const MOST_LOCALS: u32 = 50_000;
/// Bytes of a function's body.
pub const MOST_BODY: usize = 7_654_321;
/// Bytes of a module.
pub const MOST_BYTES: usize = 1 << 30;
/// Types, functions, imports, exports and globals, each.
const MOST_ITEMS: usize = 1_000_000;
/// Tables: of engines WAMR takes the fewest.
const MOST_TABLES: usize = 100;

/// An index space of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Types,
    Imports,
    Functions,
    Tables,
    Globals,
    Exports,
}

impl Space {
    /// Checks how many there are in the output.
    ///
    /// # Errors
    /// `Unsupported` when these are too many, at the section of the original.
    pub fn check(self, module: &Module<'_>, count: usize) -> Result<()> {
        let (most, feature) = match self {
            Self::Types => (MOST_ITEMS, TYPES),
            Self::Imports => (MOST_ITEMS, IMPORTS),
            Self::Functions => (MOST_ITEMS, FUNCTIONS),
            Self::Tables => (MOST_TABLES, TABLES),
            Self::Globals => (MOST_ITEMS, GLOBALS),
            Self::Exports => (MOST_ITEMS, EXPORTS),
        };
        if count <= most {
            return Ok(());
        }
        let range = module.sections.iter().find_map(|payload| match (self, payload) {
            (Self::Types, Payload::TypeSection(reader)) => Some(reader.range()),
            (Self::Imports, Payload::ImportSection(reader)) => Some(reader.range()),
            (Self::Functions, Payload::FunctionSection(reader)) => Some(reader.range()),
            (Self::Tables, Payload::TableSection(reader)) => Some(reader.range()),
            (Self::Globals, Payload::GlobalSection(reader)) => Some(reader.range()),
            (Self::Exports, Payload::ExportSection(reader)) => Some(reader.range()),
            _ => None,
        });
        // Where the original has none they are all of ours, behind its header.
        let offset = range.map_or(8, |range| usize::try_from(range.start).unwrap_or(usize::MAX));
        Err(Refusal::Unsupported { feature, offset })
    }
}

/// Checks a function of the output, of which the original has its locals at an offset.
///
/// # Errors
/// `Unsupported` when it is too large.
pub fn function(body: &Body, offset: usize) -> Result<()> {
    if body.locals > MOST_LOCALS {
        return Err(Refusal::Unsupported { feature: LOCALS, offset });
    }
    if body.size() > MOST_BODY {
        return Err(Refusal::Unsupported { feature: BODY, offset });
    }
    Ok(())
}

/// Checks the size of the output.
///
/// # Errors
/// `Unsupported` when it is too large.
pub fn bytes(size: usize) -> Result<()> {
    if size > MOST_BYTES { Err(Refusal::Unsupported { feature: BYTES, offset: 8 }) } else { Ok(()) }
}
