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

use wasm_encoder::{BlockType, Encode, InstructionSink};

use super::{
    body::{BOTTOM, Code, Index, Kind, Node, Origin},
    bytes::leb,
    emit::Body,
    function::Function,
    loops::write_turn,
    select::{Point, Stand, Temps},
    types::declare,
};

/// Where a cold path gets an operand from.
enum Source {
    Constant(Index),
    Local(u32),
    Temp,
}

/// Writes the normal version: locals and code, without the size in front.
#[must_use]
pub fn write(function: &Function<'_>) -> Body {
    let code = function.code;
    let mut needed = vec![false; code.operands.len()];
    let mut loops = Loops::default();
    for point in function.points.iter().filter(|point| point.normal) {
        loops.go_to(code, point.index);
        let mut node = point.stack;
        while node != BOTTOM {
            needed[node as usize] |= matches!(source(code, &loops, point, node), Source::Temp);
            node = code.operands[node as usize].beneath;
        }
    }
    let first_temp = u32::try_from(code.locals.len()).unwrap_or(u32::MAX);
    let temps = function.temps.clone();
    let mut out = Body::default();
    // As much as the original, and about what polls and checks add.
    out.bytes.reserve((function.end - code.code_at) as usize + 16 * function.points.len());
    let mut writer =
        Writer { function, needed, first_temp, temps, labels: 1, out, copied: code.code_at, loops: Loops::default() };
    if function.points.iter().any(|point| point.normal) {
        function.open(&mut writer.out.bytes);
        writer.instructions();
        function.spill(first_temp, &mut writer.out);
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
    writer.out.locals = first_temp + u32::try_from(writer.temps.types.len()).unwrap_or(u32::MAX);
    writer.out.behind(locals)
}

/// The loops around a point.
#[derive(Default)]
struct Loops {
    /// Start and end of each, from the outermost to the innermost.
    open: Vec<(Index, Index)>,
    /// The next construct to look at. They are numbered in the order of their starts.
    next: usize,
}

impl Loops {
    /// Goes on to an instruction behind the one before.
    fn go_to(&mut self, code: &Code, index: Index) {
        while self.open.pop_if(|(_, end)| *end < index).is_some() {}
        while let Some(construct) = code.constructs.get(self.next).filter(|construct| construct.start < index) {
            if construct.is_loop && construct.end > index {
                self.open.push((construct.start, construct.end));
            }
            self.next += 1;
        }
    }

    /// The end of the outermost one that starts behind an instruction.
    fn end_behind(&self, index: Index) -> Option<Index> {
        self.open.get(self.open.partition_point(|(start, _)| *start <= index)).map(|(_, end)| *end)
    }
}

/// `loops`: those around the point.
fn source(code: &Code, loops: &Loops, point: &Point, node: Node) -> Source {
    let operand = &code.operands[node as usize];
    match operand.origin {
        Origin::Constant => Source::Constant(operand.producer),
        Origin::Computed => Source::Temp,
        Origin::Local(local) => {
            // In a loop that was entered with the operand beneath it, later code runs before the point as well.
            let last = loops.end_behind(operand.producer).unwrap_or(point.index);
            if code.assignments.any(local, operand.producer + 1, last) { Source::Temp } else { Source::Local(local) }
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
    /// How many labels are open inside the spill's: what a branch to its innermost level counts.
    labels: u32,
    out: Body,
    /// Offset in the file up to which code was written.
    copied: u32,
    /// Those around the point that is written.
    loops: Loops,
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
        self.loops.go_to(function.code, point.index);
        for node in function.operands(point) {
            match source(function.code, &self.loops, point, node) {
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
