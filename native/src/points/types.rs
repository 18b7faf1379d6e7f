//! Value types as the pass sees them, and the table of function types of the output.

use std::collections::HashMap;

use wasm_encoder::{Encode, InstructionSink, RefType as OutRef, TypeSection, ValType as OutType};
use wasmparser::{AbstractHeapType, FuncType, HeapType, ValType};

use super::refusal::{Refusal, Result};

/// The type of a local or operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    I32,
    I64,
    F32,
    F64,
    V128,
    Func,
    Extern,
}

/// How many types there are.
pub const TYPES: usize = 7;

impl Type {
    /// The type, unless it is one of a feature that the pass does not cover (which validation has refused before).
    ///
    /// # Errors
    /// `Unsupported` for other reference types.
    pub fn from_wasm(ty: ValType, offset: usize) -> Result<Self> {
        Ok(match ty {
            ValType::I32 => Self::I32,
            ValType::I64 => Self::I64,
            ValType::F32 => Self::F32,
            ValType::F64 => Self::F64,
            ValType::V128 => Self::V128,
            ValType::Ref(ty) => match ty.heap_type() {
                // The validator knows the exact type of what `ref.func` gives; without typed references it is a funcref.
                HeapType::Concrete(_) | HeapType::Abstract { shared: false, ty: AbstractHeapType::Func } => Self::Func,
                HeapType::Abstract { shared: false, ty: AbstractHeapType::Extern } => Self::Extern,
                _ => return Err(Refusal::Unsupported { feature: "typed references", offset }),
            },
        })
    }

    /// All of a list.
    ///
    /// # Errors
    /// As [`Type::from_wasm`].
    pub fn list(types: &[ValType], offset: usize) -> Result<Vec<Self>> {
        types.iter().map(|ty| Self::from_wasm(*ty, offset)).collect()
    }

    /// The letter that stands for it in names and in the metadata.
    #[must_use]
    pub fn letter(self) -> u8 {
        match self {
            Self::I32 => b'i',
            Self::I64 => b'I',
            Self::F32 => b'f',
            Self::F64 => b'F',
            Self::V128 => b'v',
            Self::Func => b'r',
            Self::Extern => b'e',
        }
    }

    /// The type of a letter.
    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'i' => Self::I32,
            b'I' => Self::I64,
            b'f' => Self::F32,
            b'F' => Self::F64,
            b'v' => Self::V128,
            b'r' => Self::Func,
            b'e' => Self::Extern,
            _ => return None,
        })
    }

    #[must_use]
    pub fn encoded(self) -> OutType {
        match self {
            Self::I32 => OutType::I32,
            Self::I64 => OutType::I64,
            Self::F32 => OutType::F32,
            Self::F64 => OutType::F64,
            Self::V128 => OutType::V128,
            Self::Func => OutType::Ref(OutRef::FUNCREF),
            Self::Extern => OutType::Ref(OutRef::EXTERNREF),
        }
    }

    /// Pushes its zero.
    pub fn zero(self, code: &mut Vec<u8>) {
        let mut sink = InstructionSink::new(code);
        match self {
            Self::I32 => sink.i32_const(0),
            Self::I64 => sink.i64_const(0),
            Self::F32 => sink.f32_const(0.0.into()),
            Self::F64 => sink.f64_const(0.0.into()),
            Self::V128 => sink.v128_const(0),
            Self::Func => sink.ref_null(wasm_encoder::HeapType::FUNC),
            Self::Extern => sink.ref_null(wasm_encoder::HeapType::EXTERN),
        };
    }
}

/// A function type of the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Signature {
    pub params: Vec<Type>,
    pub results: Vec<Type>,
}

impl Signature {
    /// The signature of a function type of the original.
    ///
    /// # Errors
    /// As [`Type::from_wasm`].
    pub fn from_wasm(ty: &FuncType) -> Result<Self> {
        Ok(Self { params: Type::list(ty.params(), 0)?, results: Type::list(ty.results(), 0)? })
    }
}

/// The types of the original at their indices, and those that the pass adds behind them.
pub struct Signatures {
    all: Vec<Signature>,
    index: HashMap<Signature, u32>,
}

impl Signatures {
    #[must_use]
    pub fn new(original: Vec<Signature>) -> Self {
        let mut index = HashMap::new();
        for (i, signature) in (0..).zip(&original) {
            index.entry(signature.clone()).or_insert(i);
        }
        Self { all: original, index }
    }

    /// The index of a type, which is added when there is none like it.
    pub fn of(&mut self, params: &[Type], results: &[Type]) -> u32 {
        let signature = Signature { params: params.to_vec(), results: results.to_vec() };
        if let Some(index) = self.index.get(&signature) {
            return *index;
        }
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(signature.clone());
        self.index.insert(signature, index);
        index
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn section(&self) -> TypeSection {
        let mut section = TypeSection::new();
        for signature in &self.all {
            section.ty().function(
                signature.params.iter().map(|ty| ty.encoded()),
                signature.results.iter().map(|ty| ty.encoded()),
            );
        }
        section
    }
}

/// Appends declarations of locals, without their count; gives how many groups there are.
pub fn declare(types: &[Type], code: &mut Vec<u8>) -> u32 {
    let mut groups = 0;
    for same in types.chunk_by(|a, b| a == b) {
        same.len().encode(code);
        same[0].encoded().encode(code);
        groups += 1;
    }
    groups
}
