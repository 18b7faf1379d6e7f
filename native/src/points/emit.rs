//! Pieces of code that the normal and the resume versions share.

use wasm_encoder::{Encode, InstructionSink, MemArg, MemArgTarget};

use super::types::Type;

/// What a poll reads.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    Memory(u32),
    Global(u32),
    /// Counted down; the poll that makes it zero asks.
    Count(u32),
}

/// Indices in the output of what instrumented code uses.
#[derive(Clone, Debug)]
pub struct Abi {
    pub stop: Stop,
    /// Global that is nonzero while frames leave.
    pub unwind: u32,
    /// Global that is nonzero from the call of a function that is to enter at a point to the moment it knows.
    pub entering: u32,
    /// Private table of resume versions.
    pub resume_table: u32,
    /// `kedge.poll`, and around it our own function that asks it and notes the answer.
    pub poll: u32,
    pub ask: u32,
    pub frame: u32,
    pub next: u32,
    pub entry: u32,
    pub save_i32: u32,
    pub save_i64: u32,
    pub save_func: u32,
    pub save_extern: u32,
    pub load_i32: u32,
    pub load_i64: u32,
    pub load_func: u32,
    pub load_extern: u32,
    /// Imported functions keep their indices; all others move up by this.
    pub shift: u32,
    pub imported_functions: u32,
    /// Of each imported function, the one that stands for it where it is referred to or tail-called.
    pub wrappers: Vec<Option<u32>>,
    /// Of each data and element segment, the global that says it was dropped.
    pub dropped_data: Vec<Option<u32>>,
    pub dropped_elements: Vec<Option<u32>>,
}

impl Abi {
    /// Where a function is called.
    #[must_use]
    pub fn function(&self, original: u32) -> u32 {
        if original < self.imported_functions { original } else { original + self.shift }
    }

    /// What stands for a function where it is referred to.
    #[must_use]
    pub fn reference(&self, original: u32) -> u32 {
        self.wrappers.get(original as usize).copied().flatten().unwrap_or_else(|| self.function(original))
    }

    /// Pushes the flag. An atomic load would cost V8 a check of bounds each time. That no engine hoists a plain one out of a
    /// loop is what the tests of the time to a stop show.
    pub fn flag(&self, code: &mut Vec<u8>) {
        let mut sink = InstructionSink::new(code);
        match self.stop {
            Stop::Memory(memory) => {
                let target = MemArgTarget::Memory(memory);
                sink.i32_const(0).i32_load(MemArg { offset: 0, align: 2, target, ordering: None });
            }
            Stop::Global(global) => {
                sink.global_get(global);
            }
            Stop::Count(global) => {
                sink.global_get(global).i32_const(1).i32_sub().global_set(global).global_get(global).i32_eqz();
            }
        }
    }

    /// Saves a value that `push` puts on the stack (v128: twice).
    pub fn save(&self, ty: Type, code: &mut Vec<u8>, push: impl Fn(&mut Vec<u8>)) {
        push(code);
        let mut sink = InstructionSink::new(code);
        match ty {
            Type::I32 => sink.call(self.save_i32),
            Type::I64 => sink.call(self.save_i64),
            Type::F32 => sink.i32_reinterpret_f32().call(self.save_i32),
            Type::F64 => sink.i64_reinterpret_f64().call(self.save_i64),
            Type::V128 => sink.i64x2_extract_lane(0).call(self.save_i64),
            Type::Func => sink.call(self.save_func),
            Type::Extern => sink.call(self.save_extern),
        };
        if ty == Type::V128 {
            push(code);
            InstructionSink::new(code).i64x2_extract_lane(1).call(self.save_i64);
        }
    }

    /// Pushes a value that the host gives.
    pub fn load(&self, ty: Type, code: &mut Vec<u8>) {
        let mut sink = InstructionSink::new(code);
        match ty {
            Type::I32 => sink.call(self.load_i32),
            Type::I64 => sink.call(self.load_i64),
            Type::F32 => sink.call(self.load_i32).f32_reinterpret_i32(),
            Type::F64 => sink.call(self.load_i64).f64_reinterpret_i64(),
            Type::V128 => sink.call(self.load_i64).i64x2_splat().call(self.load_i64).i64x2_replace_lane(1),
            Type::Func => sink.call(self.load_func),
            Type::Extern => sink.call(self.load_extern),
        };
    }
}

/// The code of one function while it is written.
#[derive(Debug, Default)]
pub struct Body {
    /// Locals and code, without the size in front and without the number of its first point.
    pub bytes: Vec<u8>,
    /// Where in `bytes` branches are that lead to cold paths. An optimizing engine that does not know keeps values in
    /// memory all through a hot loop for the sake of a poll in it: on V8 this is most of what polls cost.
    pub cold: Vec<u32>,
    /// Where in `bytes` an `i32.const` lacks the number of the function's first point. Points are numbered through the
    /// module, so it is known when all functions before this one are.
    number_at: Option<u32>,
    /// That number.
    pub first_point: u32,
    /// How many locals it has, parameters included; 0 when nobody asked.
    pub locals: u32,
}

const I32_CONST: u8 = 0x41;

impl Body {
    /// One that has all of its numbers.
    #[must_use]
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn place(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// Marks the next instruction, which must be `if` or `br_if`, as one that hardly ever branches into its block.
    pub fn mark_cold(&mut self) {
        self.cold.push(self.place());
    }

    /// Pushes the number that the first point of the function has in the module.
    pub fn first_point(&mut self) {
        self.bytes.push(I32_CONST);
        self.number_at = Some(self.place());
    }

    /// Puts the declarations of locals in front.
    #[must_use]
    pub fn behind(mut self, mut locals: Vec<u8>) -> Self {
        let moved = u32::try_from(locals.len()).unwrap_or(u32::MAX);
        locals.extend_from_slice(&self.bytes);
        self.bytes = locals;
        self.cold.iter_mut().for_each(|at| *at += moved);
        self.number_at = self.number_at.map(|at| at + moved);
        self
    }

    /// What is missing in `bytes`, and where.
    fn number(&self) -> (u32, Vec<u8>) {
        let mut number = Vec::new();
        let Some(at) = self.number_at else { return (self.place(), number) };
        self.first_point.cast_signed().encode(&mut number);
        (at, number)
    }

    /// How many bytes it has with its number.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.number().1.len()
    }

    /// Writes the body with its number to `out`, and to `cold` where its cold branches then are.
    pub fn finish(&self, out: &mut Vec<u8>, cold: &mut Vec<u32>) {
        let (at, number) = self.number();
        let moved = u32::try_from(number.len()).unwrap_or(u32::MAX);
        cold.extend(self.cold.iter().map(|mark| if *mark < at { *mark } else { *mark + moved }));
        let (before, after) = self.bytes.split_at(at as usize);
        out.extend_from_slice(before);
        out.extend_from_slice(&number);
        out.extend_from_slice(after);
    }
}

/// Pushes a zero of each type.
pub fn zeros(types: &[Type], code: &mut Vec<u8>) {
    for ty in types {
        ty.zero(code);
    }
}
