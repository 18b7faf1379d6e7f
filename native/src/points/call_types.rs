//! Types of calls, of the original and of the resume versions that stand for them.

use wasm_encoder::BlockType;

use super::{
    body::Kind,
    module::Module,
    scan::Callee,
    types::{Signatures, Type},
};

pub struct CallTypes<'a> {
    module: &'a Module<'a>,
    /// By type of the original: the type without parameters that has its results.
    resume: Vec<u32>,
}

impl<'a> CallTypes<'a> {
    /// Makes the types that are missing.
    #[must_use]
    pub fn new(module: &'a Module<'a>, signatures: &mut Signatures) -> Self {
        let resume = module.types.iter().map(|signature| signatures.of(&[], &signature.results)).collect();
        Self { module, resume }
    }

    /// The type of a block that gives the results of a function.
    #[must_use]
    pub fn block(&self, function: u32) -> BlockType {
        match self.module.signature(function).results[..] {
            [] => BlockType::Empty,
            [one] => BlockType::Result(one.encoded()),
            _ => BlockType::FunctionType(self.of_resume(function)),
        }
    }

    /// The type of a function's resume version.
    #[must_use]
    pub fn of_resume(&self, function: u32) -> u32 {
        self.resume[self.module.functions[function as usize] as usize]
    }

    /// How many parameters a callee has.
    #[must_use]
    pub fn params(&self, callee: Callee) -> usize {
        self.module.types[self.of(callee) as usize].params.len()
    }

    /// What the resume version of a call's callee has.
    #[must_use]
    pub fn resume_type(&self, kind: Kind) -> u32 {
        self.resume[self.of_kind(kind) as usize]
    }

    /// How many operands a call takes, the table index included.
    #[must_use]
    pub fn taken(&self, kind: Kind) -> usize {
        let index = usize::from(matches!(kind, Kind::CallIndirect { .. }));
        self.module.types[self.of_kind(kind) as usize].params.len() + index
    }

    /// What it gives.
    #[must_use]
    pub fn results(&self, kind: Kind) -> &[Type] {
        &self.module.types[self.of_kind(kind) as usize].results
    }

    fn of(&self, callee: Callee) -> u32 {
        match callee {
            Callee::Function(function) => self.module.functions[function as usize],
            Callee::Indirect { ty, .. } => ty,
        }
    }

    fn of_kind(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Call(function) => self.of(Callee::Function(function)),
            Kind::CallIndirect { ty, .. } => ty,
            _ => 0,
        }
    }
}
