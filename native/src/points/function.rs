//! One function while it is written, and the pieces of code that its normal and its resume version share: polls, checks behind
//! calls, and the spill, where every cold path ends.

use wasm_encoder::{BlockType, InstructionSink, ValType};

use super::{
    body::{Code, Index, Kind, Node},
    emit::{Abi, Body, zeros},
    liveness::Live,
    opcodes::{BLOCK, LOOP},
    scan::Edit,
    select::{Point, Temps},
};

/// A loop that has more instructions than this is not one that a dead local could slow down.
const TIGHT: u32 = 256;
/// The most locals that a poll clears.
pub const MOST_CLEARED: usize = 64;
/// Points of a level of the spill, unless there are so many that this makes the fewest constants.
const LEVEL: usize = 16;

/// All that is known of a function when it is written.
pub struct Function<'a> {
    pub file: &'a [u8],
    pub abi: &'a Abi,
    pub code: &'a Code,
    pub points: &'a [Point],
    pub live: &'a Live,
    /// The temporaries of the metadata.
    pub temps: &'a Temps,
    /// Of each construct, how many times its body is written.
    pub copies: &'a [u32],
    /// The type of a block that gives its results.
    pub ty: BlockType,
    /// End of the body in the file.
    pub end: u32,
}

impl Function<'_> {
    /// The operands of a point, from the bottom up.
    #[must_use]
    pub fn operands(&self, point: &Point) -> Vec<Node> {
        self.code.stack(point.stack, 0)
    }

    /// How many times the body of the loop that starts here is written.
    #[must_use]
    pub fn copies(&self, kind: Kind) -> Option<(u32, u32)> {
        let Kind::Loop(construct) = kind else { return None };
        let copies = self.copies[construct as usize];
        (copies > 1).then_some((construct, copies))
    }

    /// Copies an instruction that is no branch.
    pub fn copy(&self, index: Index, out: &mut Vec<u8>) {
        let instruction = &self.code.instructions[index as usize];
        if let Some(edit) = instruction.kind.edit() {
            self.edit(edit, out);
        } else {
            let end = self.code.end_of(index, self.end) as usize;
            out.extend_from_slice(&self.file[instruction.offset as usize..end]);
        }
    }

    /// Starts an unrolled loop: a block that its copies leave to, and the loop.
    pub fn unroll(&self, construct: u32, out: &mut Vec<u8>) {
        let start = self.code.constructs[construct as usize].start;
        let from = self.code.instructions[start as usize].offset as usize + 1;
        let ty = &self.file[from..self.code.end_of(start, self.end) as usize];
        for opcode in [BLOCK, LOOP] {
            out.push(opcode);
            out.extend_from_slice(ty);
        }
    }

    /// Writes an instruction whose bytes change.
    pub fn edit(&self, edit: Edit, out: &mut Vec<u8>) {
        write_edit(self.abi, edit, out);
    }

    fn level(&self) -> usize {
        LEVEL.max(self.points.len().isqrt())
    }

    /// How many levels the spill has. WAMR's interpreter copies each constant of a function into each of its frames, at each
    /// call. A number of its own for each point would be many, so they are numbered within levels: on the way from one to
    /// the next its size is added, and to the last the number of the function's first point. That is all on the cold path.
    #[must_use]
    pub fn levels(&self) -> u32 {
        u32::try_from(self.points.len().div_ceil(self.level())).unwrap_or(u32::MAX).max(1)
    }

    /// The number of a point within its level, and the label of that. `nearest`: the label of the innermost level.
    fn exit(&self, point: usize, nearest: u32) -> (i32, u32) {
        let level = u32::try_from(point / self.level()).unwrap_or(u32::MAX);
        (constant(point % self.level()), nearest + self.levels() - 1 - level)
    }

    /// Whether a number up to that of points is one of the constants that levels use.
    #[must_use]
    pub fn is_small(&self, number: usize) -> bool {
        number <= self.level()
    }

    /// Pushes such a number, made of those constants.
    pub fn number(&self, number: usize, out: &mut Vec<u8>) {
        let mut sink = InstructionSink::new(out);
        if self.is_small(number) {
            sink.i32_const(constant(number));
            return;
        }
        let (level, rest) = (number / self.level(), number % self.level());
        sink.i32_const(constant(level)).i32_const(constant(self.level())).i32_mul();
        if rest != 0 {
            sink.i32_const(constant(rest)).i32_add();
        }
    }

    /// Opens the blocks that the levels of the spill are behind, and in them the one that stands for the function.
    pub fn open(&self, out: &mut Vec<u8>) {
        for _ in 0..self.levels() {
            InstructionSink::new(out).block(BlockType::Result(ValType::I32));
        }
        InstructionSink::new(out).block(self.ty);
    }

    /// Writes the spill and the end of the function, behind the `end` of the block that stands for it.
    pub fn spill(&self, first_temp: u32, out: &mut Body) {
        InstructionSink::new(&mut out.bytes).return_().end();
        for _ in 1..self.levels() {
            InstructionSink::new(&mut out.bytes).i32_const(constant(self.level())).i32_add().end();
        }
        out.first_point();
        let out = &mut out.bytes;
        InstructionSink::new(out).i32_add().call(self.abi.frame);
        let locals = (0..).zip(&self.code.locals);
        for (local, ty) in locals.chain((first_temp..).zip(&self.temps.types)) {
            self.abi.save(*ty, out, |out| {
                InstructionSink::new(out).local_get(local);
            });
        }
        zeros(&self.code.results, out);
        InstructionSink::new(out).end();
    }

    /// Writes a poll. `nearest` is the label of the spill's innermost level; `ready` completes the temporaries.
    pub fn poll(&self, point: usize, nearest: u32, ready: &[u8], out: &mut Body) {
        let (number, spill) = self.exit(point, nearest);
        self.abi.flag(&mut out.bytes);
        out.mark_cold();
        InstructionSink::new(&mut out.bytes).if_(BlockType::Empty).call(self.abi.ask);
        out.mark_cold();
        InstructionSink::new(&mut out.bytes).if_(BlockType::Empty);
        out.bytes.extend_from_slice(ready);
        InstructionSink::new(&mut out.bytes).i32_const(number).br(spill + 2).end().end();
    }

    /// Writes the check behind a call.
    pub fn check(&self, point: usize, nearest: u32, ready: &[u8], out: &mut Body) {
        let (number, spill) = self.exit(point, nearest);
        if ready.is_empty() {
            InstructionSink::new(&mut out.bytes).i32_const(number).global_get(self.abi.unwind);
            out.mark_cold();
            InstructionSink::new(&mut out.bytes).br_if(spill).drop();
            return;
        }
        InstructionSink::new(&mut out.bytes).global_get(self.abi.unwind);
        out.mark_cold();
        InstructionSink::new(&mut out.bytes).if_(BlockType::Empty);
        out.bytes.extend_from_slice(ready);
        InstructionSink::new(&mut out.bytes).i32_const(number).br(spill + 1).end();
    }

    /// Whether a poll should clear the locals that are dead there. One that is not cleared stays alive up to the poll, in a
    /// register if the engine is unlucky; in a tight loop that costs more than the bytes.
    #[must_use]
    pub fn clears(&self, point: &Point) -> bool {
        let around = &self.code.constructs[point.sequence as usize / 2];
        point.poll && around.is_loop && around.start + 1 == point.index && around.end - around.start <= TIGHT
    }

    /// Clears the locals that are dead at a point.
    pub fn clear(&self, point: usize, out: &mut Vec<u8>) {
        if self.code.locals.len() - self.live.count(point) > MOST_CLEARED {
            return;
        }
        let mut dead = vec![true; self.code.locals.len()];
        for local in self.live.locals(point) {
            dead[local as usize] = false;
        }
        for (local, (ty, dead)) in (0..).zip(self.code.locals.iter().zip(dead)) {
            if dead {
                ty.zero(out);
                InstructionSink::new(out).local_set(local);
            }
        }
    }
}

fn constant(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Writes an instruction whose bytes change in every copy.
pub fn write_edit(abi: &Abi, edit: Edit, out: &mut Vec<u8>) {
    let mut sink = InstructionSink::new(out);
    match edit {
        Edit::Call(function) => sink.call(abi.function(function)),
        Edit::TailCall(function) => sink.return_call(abi.reference(function)),
        Edit::RefFunc(function) => sink.ref_func(abi.reference(function)),
        Edit::DataDrop(segment) => {
            sink.data_drop(segment);
            match abi.dropped_data.get(segment as usize).copied().flatten() {
                Some(global) => sink.i32_const(1).global_set(global),
                None => return,
            }
        }
        Edit::ElemDrop(segment) => {
            sink.elem_drop(segment);
            match abi.dropped_elements.get(segment as usize).copied().flatten() {
                Some(global) => sink.i32_const(1).global_set(global),
                None => return,
            }
        }
    };
}
