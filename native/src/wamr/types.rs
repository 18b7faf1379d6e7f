//! Types of values and functions, as a module declares them.

use super::sys;

/// A null reference of either type.
pub const NULL: u64 = sys::NULL_REF as u64;

/// A value type that this build of WAMR knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    I32,
    I64,
    F32,
    F64,
    FuncRef,
    ExternRef,
}

impl Kind {
    /// How many 32-bit cells hold a value of this type.
    #[must_use]
    pub fn cells(self) -> usize {
        match self {
            Self::I32 | Self::F32 | Self::FuncRef | Self::ExternRef => 1,
            Self::I64 | Self::F64 => 2,
        }
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionType {
    pub params: Vec<Kind>,
    pub results: Vec<Kind>,
}

/// A function that a module imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its number among the function imports: its function index.
    pub index: usize,
    pub module: String,
    pub name: String,
    pub function: FunctionType,
}

/// What stands behind an exported name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    Function(FunctionType),
    Global { kind: Kind, mutable: bool },
    Memory,
    Table { element: Kind },
}

/// Why a module cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Valid, but not for this engine. Where validation finds it first, as an offset in these bytes.
    Unsupported { feature: String, offset: Option<u64> },
    /// Not a valid module.
    Invalid { message: String, offset: u64 },
    /// The engine would not take it or has no memory for it.
    Failed { message: String },
}

/// How a call ended when it did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trap {
    /// In the words of the WebAssembly specification where it has some.
    Wasm(String),
    /// A host function asked for the end of the call.
    Host,
    /// The call could not be made at all.
    Misuse(String),
}
