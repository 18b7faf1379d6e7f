//! The normal version of a function: the original, with polls and checks.
//!
//! On the path that is always taken stand only the reads of the flag and of the unwind global. Operands that a cold path
//! would have to save are not on top of the stack there, so they have to be had from somewhere else: a constant is made
//! again, a local that still holds the value is read, and anything else is put into a temporary local when it is made.
//!
//! All other bytes are copied from the original file.

use wasm_encoder::{BlockType, Encode, InstructionSink};

use super::{
    body::{BOTTOM, Code, Index, Kind, Node, Origin},
    emit::{Abi, leave},
    liveness::Live,
    loops::write_turn,
    module::Edit,
    refusal::{Refusal, Result},
    select::{Point, Stand, Temps},
    types::{Type, declare},
};

/// Opcodes whose types are copied.
const BLOCK: u8 = 0x02;
const LOOP: u8 = 0x03;

/// Values that the cold paths of one module may save, all in all. Past it a module is meant to hurt.
pub const MOST_VALUES: usize = 1 << 25;

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

    /// The start of a poll; the frame follows, then [`Self::poll_end`].
    pub fn poll_begin(&self, point: usize, out: &mut Vec<u8>) {
        self.abi.flag(out);
        let mut sink = InstructionSink::new(out);
        sink.if_(BlockType::Empty).i32_const(self.number(point)).call(self.abi.ask).if_(BlockType::Empty);
    }

    pub fn poll_end(&self, out: &mut Vec<u8>) {
        leave(&self.code.results, out);
        InstructionSink::new(out).end().end();
    }

    /// The start of the check after a call; the frame follows, then [`Self::check_end`].
    pub fn check_begin(&self, point: usize, out: &mut Vec<u8>) {
        let mut sink = InstructionSink::new(out);
        sink.global_get(self.abi.unwind).if_(BlockType::Empty).i32_const(self.number(point)).call(self.abi.frame);
    }

    pub fn check_end(&self, out: &mut Vec<u8>) {
        leave(&self.code.results, out);
        InstructionSink::new(out).end();
    }

    /// Saves the live locals of a point.
    pub fn save_locals(&self, point: usize, out: &mut Vec<u8>) {
        for local in self.live.locals(point) {
            self.abi.save(self.code.locals[local as usize], out, |out| {
                InstructionSink::new(out).local_get(local);
            });
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
pub fn write(function: &Function<'_>, budget: &mut usize) -> Result<Vec<u8>> {
    let code = function.code;
    let mut needed = vec![false; code.operands.len()];
    for point in function.points.iter().filter(|point| point.normal) {
        for node in function.operands(point) {
            needed[node as usize] |= matches!(source(code, point, node), Source::Temp);
            spend(budget, 1, code, point)?;
        }
        spend(budget, code.locals.len() / 64, code, point)?;
    }
    let mut writer = Writer { function, needed, temps: Temps::default(), out: Vec::new(), copied: code.code_at };
    writer.instructions();

    let mut body = Vec::with_capacity(writer.out.len() + 16);
    // The declarations of the original, and one group for each run of temporaries.
    let original = &function.file[code.locals_at as usize..code.code_at as usize];
    let (count, start) = leb(original);
    let mut added = Vec::new();
    let groups = declare(&writer.temps.types, &mut added);
    (count + groups).encode(&mut body);
    body.extend_from_slice(&original[start..]);
    body.extend_from_slice(&added);
    body.extend_from_slice(&writer.out);
    Ok(body)
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
    temps: Temps,
    out: Vec<u8>,
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
                    self.function.poll_begin(number, &mut self.out);
                    self.save(number, point);
                    self.function.poll_end(&mut self.out);
                }
                if point.host_call || point.stand == Stand::In {
                    check = Some((number, point));
                }
            }
            if let Some(edit) = instruction.kind.edit() {
                self.copy(instruction.offset);
                self.function.edit(edit, &mut self.out);
                self.copied = end;
            }
            if let Some((number, point)) = check {
                self.copy(end);
                self.function.check_begin(number, &mut self.out);
                self.save(number, point);
                self.function.check_end(&mut self.out);
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
        function.unroll(construct, &mut self.out);
        if let Some((number, point)) = head {
            function.poll_begin(number, &mut self.out);
            self.save(number, point);
            function.poll_end(&mut self.out);
        }
        let copy = &mut |index, out: &mut Vec<u8>| function.copy(index, out);
        for _ in 1..copies {
            InstructionSink::new(&mut self.out).block(BlockType::Empty);
            // The two more levels are the loop and the block around it.
            write_turn(function.code, construct, &|level| level + 2, copy, &mut self.out);
            InstructionSink::new(&mut self.out).br(2).end();
        }
        write_turn(function.code, construct, &|level| level + 1, copy, &mut self.out);
        // Of the loop; that of the block is the original's.
        InstructionSink::new(&mut self.out).end();
    }

    /// Copies the original up to an offset.
    fn copy(&mut self, to: u32) {
        if to > self.copied {
            self.out.extend_from_slice(&self.function.file[self.copied as usize..to as usize]);
            self.copied = to;
        }
    }

    fn local(&mut self, height: u32, ty: Type) -> u32 {
        self.temps.number(height, ty) + u32::try_from(self.function.code.locals.len()).unwrap_or(u32::MAX)
    }

    /// Puts the operands from `lowest` to the top into temporaries, and leaves them on the stack.
    fn keep(&mut self, lowest: Node, above: Node) {
        let locals: Vec<u32> = (lowest..above)
            .map(|node| {
                let operand = self.function.code.operands[node as usize];
                self.local(operand.height, operand.ty)
            })
            .collect();
        if let [local] = locals[..] {
            InstructionSink::new(&mut self.out).local_tee(local);
            return;
        }
        for local in locals.iter().rev() {
            InstructionSink::new(&mut self.out).local_set(*local);
        }
        for local in &locals {
            InstructionSink::new(&mut self.out).local_get(*local);
        }
    }

    /// Saves the values of a frame.
    fn save(&mut self, number: usize, point: &Point) {
        let function = self.function;
        function.save_locals(number, &mut self.out);
        for node in function.operands(point) {
            let operand = function.code.operands[node as usize];
            let abi = function.abi;
            match source(function.code, point, node) {
                Source::Constant(index) => {
                    let start = function.code.instructions[index as usize].offset as usize;
                    let end = function.code.end_of(index, function.end) as usize;
                    abi.save(operand.ty, &mut self.out, |out| out.extend_from_slice(&function.file[start..end]));
                }
                Source::Local(local) => abi.save(operand.ty, &mut self.out, |out| {
                    InstructionSink::new(out).local_get(local);
                }),
                Source::Temp => {
                    let local = self.local(operand.height, operand.ty);
                    abi.save(operand.ty, &mut self.out, |out| {
                        InstructionSink::new(out).local_get(local);
                    });
                }
            }
        }
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
