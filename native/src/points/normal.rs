//! The normal version of a function: the original, with polls and checks.
//!
//! On the path that is always taken stand only the reads of the flag and of the unwind global. Operands that a cold path
//! would have to save are not on top of the stack there, so they have to be had from somewhere else: a constant is made
//! again, a local that still holds the value is read, and anything else is put into a temporary local when it is made.
//!
//! A cold path puts what is not in its temporary yet there and goes to one place at the end of the function, the *spill*,
//! with the number of its point. There every local and every temporary of the function is saved in order, whatever the
//! point; the host takes those that the metadata names for it. That keeps code small, which also lets engines inline it.
//!
//! All other bytes are copied from the original file.

use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};

use super::{
    body::{BOTTOM, Code, Index, Kind, Node, Origin},
    emit::{Abi, Body, zeros},
    liveness::Live,
    loops::write_turn,
    module::Edit,
    refusal::{Refusal, Result},
    select::{Point, Stand, Temps},
    types::declare,
};

/// Opcodes whose types are copied.
const BLOCK: u8 = 0x02;
const LOOP: u8 = 0x03;

/// Values that the cold paths of one module may save, all in all. Past it a module is meant to hurt.
pub const MOST_VALUES: usize = 1 << 25;

/// A loop that has more instructions than this is not one that a dead local could slow down.
const TIGHT: u32 = 256;
/// The most locals that a poll clears.
const MOST_CLEARED: usize = 64;

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
    /// Number of its first point.
    pub first_point: u32,
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

    /// Number of a point in the module.
    #[must_use]
    pub fn number(&self, point: usize) -> i32 {
        i32::try_from(point).unwrap_or(0).wrapping_add_unsigned(self.first_point)
    }

    /// Writes an instruction whose bytes change.
    pub fn edit(&self, edit: Edit, out: &mut Vec<u8>) {
        write_edit(self.abi, edit, out);
    }

    /// Opens the block that the spill is behind, and in it the one that stands for the function.
    pub fn open(&self, out: &mut Vec<u8>) {
        InstructionSink::new(out).block(BlockType::Result(ValType::I32)).block(self.ty);
    }

    /// Writes the spill and the end of the function, behind the `end` of the block that stands for it.
    pub fn spill(&self, first_temp: u32, out: &mut Vec<u8>) {
        InstructionSink::new(out).return_().end().call(self.abi.frame);
        let locals = (0..).zip(&self.code.locals);
        for (local, ty) in locals.chain((first_temp..).zip(&self.temps.types)) {
            self.abi.save(*ty, out, |out| {
                InstructionSink::new(out).local_get(local);
            });
        }
        zeros(&self.code.results, out);
        InstructionSink::new(out).end();
    }

    /// Writes a poll. `spill` is the label of the spill; `ready` completes the temporaries.
    pub fn poll(&self, point: usize, spill: u32, ready: &[u8], out: &mut Body) {
        let number = self.number(point);
        self.abi.flag(&mut out.bytes);
        out.mark_cold();
        InstructionSink::new(&mut out.bytes).if_(BlockType::Empty).i32_const(number).call(self.abi.ask);
        out.mark_cold();
        InstructionSink::new(&mut out.bytes).if_(BlockType::Empty);
        out.bytes.extend_from_slice(ready);
        InstructionSink::new(&mut out.bytes).i32_const(number).br(spill + 2).end().end();
    }

    /// Writes the check behind a call.
    pub fn check(&self, point: usize, spill: u32, ready: &[u8], out: &mut Body) {
        let number = self.number(point);
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
        let mut dead = vec![true; self.code.locals.len()];
        for local in self.live.locals(point) {
            dead[local as usize] = false;
        }
        if dead.iter().filter(|dead| **dead).count() > MOST_CLEARED {
            return;
        }
        for (local, (ty, dead)) in (0..).zip(self.code.locals.iter().zip(dead)) {
            if dead {
                ty.zero(out);
                InstructionSink::new(out).local_set(local);
            }
        }
    }
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

/// Where a cold path gets an operand from.
enum Source {
    Constant(Index),
    Local(u32),
    Temp,
}

/// Writes the normal version: locals and code, without the size in front.
///
/// # Errors
/// `Unsupported` when the values at its points are beyond counting.
pub fn write(function: &Function<'_>, budget: &mut usize) -> Result<Body> {
    let code = function.code;
    let mut needed = vec![false; code.operands.len()];
    for point in function.points.iter().filter(|point| point.normal) {
        for node in function.operands(point) {
            needed[node as usize] |= matches!(source(code, point, node), Source::Temp);
            spend(budget, 1, code, point)?;
        }
        spend(budget, code.locals.len() / 64, code, point)?;
    }
    let first_temp = u32::try_from(code.locals.len()).unwrap_or(u32::MAX);
    let temps = function.temps.clone();
    let mut writer =
        Writer { function, needed, first_temp, temps, labels: 1, out: Body::default(), copied: code.code_at };
    if function.points.iter().any(|point| point.normal) {
        function.open(&mut writer.out.bytes);
        writer.instructions();
        function.spill(first_temp, &mut writer.out.bytes);
    } else {
        writer.instructions();
    }

    let mut locals = Vec::new();
    // The declarations of the original, and one group for each run of temporaries.
    let original = &function.file[code.locals_at as usize..code.code_at as usize];
    let (count, start) = leb(original);
    let mut added = Vec::new();
    let groups = declare(&writer.temps.types, &mut added);
    (count + groups).encode(&mut locals);
    locals.extend_from_slice(&original[start..]);
    locals.extend_from_slice(&added);
    Ok(writer.out.behind(locals))
}

/// Takes from what the module may spend on values at points.
///
/// # Errors
/// `Unsupported` when it is spent.
pub fn spend(budget: &mut usize, count: usize, code: &Code, point: &Point) -> Result<()> {
    *budget = budget.checked_sub(count).ok_or(Refusal::Unsupported {
        feature: "too many operands across calls and loops",
        offset: code.instructions[point.index as usize].offset as usize,
    })?;
    Ok(())
}

fn source(code: &Code, point: &Point, node: Node) -> Source {
    let operand = &code.operands[node as usize];
    match operand.origin {
        Origin::Constant => Source::Constant(operand.producer),
        Origin::Computed => Source::Temp,
        Origin::Local(local) => {
            // In a loop that was entered with the operand beneath it, later code runs before the point as well.
            let mut last = point.index;
            let mut construct = point.sequence / 2;
            while construct != 0 && code.constructs[construct as usize].start > operand.producer {
                let around = &code.constructs[construct as usize];
                if around.is_loop {
                    last = last.max(around.end);
                }
                construct = around.parent;
            }
            if code.assigned(local, operand.producer + 1, last) { Source::Temp } else { Source::Local(local) }
        }
    }
}

struct Writer<'a, 'b> {
    function: &'a Function<'b>,
    needed: Vec<bool>,
    /// The local that is the first temporary.
    first_temp: u32,
    /// The function's, and behind them those of operands that are only in the way of others.
    temps: Temps,
    /// How many labels are open inside the spill's: what a branch to the spill counts.
    labels: u32,
    out: Body,
    /// Offset in the file up to which code was written.
    copied: u32,
}

impl Writer<'_, '_> {
    fn instructions(&mut self) {
        let code = self.function.code;
        let mut points = self.function.points.iter().enumerate().peekable();
        let mut node = BOTTOM + 1;
        let mut unrolled = 0;
        for (index, instruction) in (0u32..).zip(&code.instructions) {
            if index < unrolled {
                continue;
            }
            let end = code.end_of(index, self.function.end);
            let mut check = None;
            if let Some((construct, copies)) = self.function.copies(instruction.kind) {
                self.copy(instruction.offset);
                let head = points.next_if(|(_, point)| point.index == index + 1);
                self.unrolled(construct, copies, head);
                unrolled = code.constructs[construct as usize].end;
                self.copied = code.instructions[unrolled as usize].offset;
                while code.operands.get(node as usize).is_some_and(|operand| operand.producer < unrolled) {
                    node += 1;
                }
                continue;
            }
            while let Some((number, point)) = points.next_if(|(_, point)| point.index == index) {
                if !point.normal {
                    continue;
                }
                if point.poll {
                    self.copy(instruction.offset);
                    self.poll(number, point);
                }
                if point.host_call || point.stand == Stand::In {
                    check = Some((number, point));
                }
            }
            if let Some(edit) = instruction.kind.edit() {
                self.copy(instruction.offset);
                self.function.edit(edit, &mut self.out.bytes);
                self.copied = end;
            }
            if let Some((number, point)) = check {
                self.copy(end);
                let ready = self.ready(point);
                self.function.check(number, self.labels, &ready, &mut self.out);
            }
            match instruction.kind {
                Kind::Block(_) | Kind::Loop(_) | Kind::If(_) => self.labels += 1,
                Kind::End(_) => self.labels -= 1,
                _ => {}
            }
            let first = node;
            while code.operands.get(node as usize).is_some_and(|operand| operand.producer == index) {
                node += 1;
            }
            if let Some(lowest) = (first..node).find(|node| self.needed[*node as usize]) {
                self.copy(end);
                self.keep(lowest, node);
            }
        }
        self.copy(self.function.end);
    }

    /// Writes an unrolled loop up to its last turn; its `end` follows.
    fn unrolled(&mut self, construct: u32, copies: u32, head: Option<(usize, &Point)>) {
        let function = self.function;
        function.unroll(construct, &mut self.out.bytes);
        self.labels += 2;
        if let Some((number, point)) = head {
            self.poll(number, point);
        }
        // The label that stays is that of the block; the original's `end` closes it.
        self.labels -= 1;
        let copy = &mut |index, out: &mut Vec<u8>| function.copy(index, out);
        for _ in 1..copies {
            InstructionSink::new(&mut self.out.bytes).block(BlockType::Empty);
            // The two more levels are the loop and the block around it.
            write_turn(function.code, construct, &|level| level + 2, copy, &mut self.out.bytes);
            InstructionSink::new(&mut self.out.bytes).br(2).end();
        }
        write_turn(function.code, construct, &|level| level + 1, copy, &mut self.out.bytes);
        // Of the loop; that of the block is the original's.
        InstructionSink::new(&mut self.out.bytes).end();
    }

    fn poll(&mut self, number: usize, point: &Point) {
        let mut ready = self.ready(point);
        if self.function.clears(point) {
            self.function.clear(number, &mut ready);
        }
        self.function.poll(number, self.labels, &ready, &mut self.out);
    }

    /// Copies the original up to an offset.
    fn copy(&mut self, to: u32) {
        if to > self.copied {
            self.out.bytes.extend_from_slice(&self.function.file[self.copied as usize..to as usize]);
            self.copied = to;
        }
    }

    fn local(&mut self, node: Node) -> u32 {
        let operand = self.function.code.operands[node as usize];
        self.first_temp + self.temps.number(operand.height, operand.ty)
    }

    /// Puts the operands from `lowest` to the top into temporaries, and leaves them on the stack.
    fn keep(&mut self, lowest: Node, above: Node) {
        let locals: Vec<u32> = (lowest..above).map(|node| self.local(node)).collect();
        let mut sink = InstructionSink::new(&mut self.out.bytes);
        if let [local] = locals[..] {
            sink.local_tee(local);
            return;
        }
        for local in locals.iter().rev() {
            sink.local_set(*local);
        }
        for local in &locals {
            sink.local_get(*local);
        }
    }

    /// Code that completes the temporaries of a point.
    fn ready(&mut self, point: &Point) -> Vec<u8> {
        let function = self.function;
        let mut code = Vec::new();
        for node in function.operands(point) {
            match source(function.code, point, node) {
                Source::Constant(index) => {
                    let start = function.code.instructions[index as usize].offset as usize;
                    let end = function.code.end_of(index, function.end) as usize;
                    code.extend_from_slice(&function.file[start..end]);
                }
                Source::Local(local) => {
                    InstructionSink::new(&mut code).local_get(local);
                }
                Source::Temp => continue,
            }
            let temp = self.local(node);
            InstructionSink::new(&mut code).local_set(temp);
        }
        code
    }
}

/// Reads a validated unsigned LEB128: the number, and how many bytes it has.
fn leb(bytes: &[u8]) -> (u32, usize) {
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate() {
        number |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (number, i + 1);
        }
    }
    (number, bytes.len())
}
