//! The resume version of a function: enters at one of its points, then runs on as ordinary code.
//!
//! It has no parameters. It asks the host for the value of every local and of every temporary, and for the point to enter
//! as a number from 1; that number is in a local, the *door*, which is 0 from the moment the point is reached.
//!
//! A sequence of instructions (the body of a block, say) that contains points is opened by one dispatch on the door:
//!
//! ```text
//! block                       ;; closed at target 2
//!   block                     ;; closed at target 1
//!     if door ≠ 0, branch to the end of the block of the target that the door lies behind
//!     ... instructions before target 1 ...
//!   end
//!   target 1: a point, or a construct that contains points, which dispatches again
//!   ... instructions between the targets ...
//! end
//! target 2
//! ```
//!
//! At a target both ways meet with no operands of this sequence on the stack: the ordinary way puts them into temporaries,
//! the other way got them from the host, and behind the target they are read again. So operands that stay on the
//! stack across a construct are always in their temporaries too, which is where cold paths find them.
//! The only cost on the ordinary way is one test of the door at each entry of a sequence, which for a loop is each turn.
//!
//! An `if` that contains points is a target whose condition is decided by the door unless that is 0.
//!
//! Where [`super::loops::cold`] says so, it is its own resume version (*merged*): that
//! costs little speed where there is no tight loop, and the module gets smaller by a copy. It has its parameters, and enters at
//! a point only when the global `entering` says so. Loops are not unrolled here.
//!
//! A call that was being made is not made again: behind its door the next frame's resume version is called instead,
//! whatever function that is (after a tail call it is not the one that was called).

mod dispatch;
mod enter;
mod targets;

use std::ops::Range;

use wasm_encoder::{BlockType, Encode, InstructionSink};

use super::{
    body::{Index, Instruction, Kind, Node},
    call_types::CallTypes,
    emit::Body,
    function::Function,
    select::{Temps, sequence},
    types::{Type, declare},
};
use targets::{Target, targets};

/// Writes the resume version: locals and code, without the size in front. Where it is to stand for the function as well,
/// `params` is how many parameters that has.
#[must_use]
pub fn write(function: &Function<'_>, types: &CallTypes<'_>, params: Option<u32>) -> Body {
    let locals = u32::try_from(function.code.locals.len()).unwrap_or(u32::MAX);
    let mut writer = Writer {
        function,
        types,
        targets: targets(function.code, function.points),
        temps: function.temps.clone(),
        door: locals,
        condition: locals + 1,
        merged: params.is_some(),
        out: Body::default(),
        pending: 0..0,
        depth: 0,
        open: Vec::new(),
        next: 0,
    };
    let size = (function.end - function.code.code_at) as usize;
    writer.out.bytes.reserve(size + 32 * function.points.len());
    writer.prologue();
    writer.instructions();
    function.spill(writer.condition + 1, writer.out());
    let temps = u32::try_from(writer.temps.types.len()).unwrap_or(u32::MAX);
    writer.out().locals = writer.condition + 1 + temps;
    let mut all = function.code.locals[params.unwrap_or(0) as usize..].to_vec();
    all.extend([Type::I32, Type::I32]);
    all.extend(&writer.temps.types);
    let mut groups = Vec::new();
    let count = declare(&all, &mut groups);
    let mut locals = Vec::with_capacity(groups.len() + 2);
    count.encode(&mut locals);
    locals.extend_from_slice(&groups);
    writer.out.behind(locals)
}

/// A sequence that is being written.
struct Open {
    sequence: u32,
    /// Output labels around it, its own included: what a branch to it counts down to.
    depth: u32,
    /// The next of its targets.
    next: usize,
}

struct Writer<'a, 'b> {
    function: &'a Function<'b>,
    types: &'a CallTypes<'a>,
    targets: Vec<Vec<Target>>,
    temps: Temps,
    door: u32,
    condition: u32,
    /// It stands for the function itself, too.
    merged: bool,
    /// To be reached by [`Writer::out`].
    out: Body,
    /// Bytes of the file that come next: code that does not change is copied in stretches.
    pending: Range<usize>,
    /// How many labels are open in the output.
    depth: u32,
    open: Vec<Open>,
    /// Where the next target of the current sequence is.
    next: Index,
}

impl Writer<'_, '_> {
    /// What was written, complete.
    fn out(&mut self) -> &mut Body {
        if !self.pending.is_empty() {
            self.out.bytes.extend_from_slice(&self.function.file[self.pending.clone()]);
            self.pending = 0..0;
        }
        &mut self.out
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.out().bytes)
    }

    fn temp(&mut self, height: u32, ty: Type) -> u32 {
        self.temps.number(height, ty) + self.condition + 1
    }

    fn temp_of(&mut self, node: Node) -> u32 {
        let operand = self.function.code.operands[node as usize];
        self.temp(operand.height, operand.ty)
    }

    /// Every local, every temporary, then the door.
    fn prologue(&mut self) {
        let (function, merged) = (self.function, self.merged);
        function.open(&mut self.out().bytes);
        // The function's own label, the spill's, and the one that stands for the function.
        self.depth = function.levels() + 2;
        if merged {
            self.sink().global_get(function.abi.entering);
            self.out().mark_cold();
            self.sink().if_(BlockType::Empty).i32_const(0).global_set(function.abi.entering);
        }
        for (local, ty) in (0u32..).zip(&function.code.locals) {
            function.abi.load(*ty, &mut self.out().bytes);
            self.sink().local_set(local);
        }
        for (temp, ty) in (self.condition + 1..).zip(&function.temps.types) {
            function.abi.load(*ty, &mut self.out().bytes);
            self.sink().local_set(temp);
        }
        let (entry, door) = (function.abi.entry, self.door);
        self.sink().call(entry).local_set(door);
        if merged {
            self.sink().end();
        }
        self.begin(sequence(0, 0), 0);
    }

    /// Puts operands from the stack into their temporaries.
    fn stash(&mut self, nodes: &[Node]) {
        for node in nodes.iter().rev() {
            let temp = self.temp_of(*node);
            self.sink().local_set(temp);
        }
    }

    /// Puts them back.
    fn fetch(&mut self, nodes: &[Node]) {
        for node in nodes {
            let temp = self.temp_of(*node);
            self.sink().local_get(temp);
        }
    }

    fn instructions(&mut self) {
        let function = self.function;
        let code = function.code;
        for (index, instruction) in (0u32..).zip(&code.instructions) {
            if instruction.dead {
                continue;
            }
            let mut written = false;
            if index == self.next {
                while let Some(target) = self.target_at(index) {
                    written |= self.target(target, instruction);
                }
                self.next = self.next_target();
            }
            if !written {
                self.copy(index, instruction);
            }
            match instruction.kind {
                Kind::Block(construct) | Kind::Loop(construct) | Kind::If(construct) => {
                    self.depth += 1;
                    self.begin(sequence(construct, 0), index + 1);
                }
                Kind::Else(construct) => {
                    self.open.pop();
                    self.begin(sequence(construct, 1), index + 1);
                }
                Kind::End(_) => {
                    self.open.pop();
                    self.depth -= 1;
                }
                _ => continue,
            }
            self.next = self.next_target();
        }
    }

    /// The label of the spill's innermost level.
    fn spill(&self) -> u32 {
        self.depth - self.function.levels() - 1
    }

    fn end(&mut self) {
        self.sink().end();
        self.depth -= 1;
    }

    /// Copies an instruction. Labels count the blocks that were put in between.
    fn copy(&mut self, index: Index, instruction: &Instruction) {
        match instruction.kind {
            Kind::Br(label) => {
                let label = self.label(label);
                self.sink().br(label);
            }
            Kind::BrIf(label) => {
                let label = self.label(label);
                self.sink().br_if(label);
            }
            Kind::BrTable(table) => {
                let labels: Vec<u32> =
                    self.function.code.tables[table as usize].iter().map(|label| self.label(*label)).collect();
                if let Some((default, others)) = labels.split_last() {
                    self.sink().br_table(others.to_vec(), *default);
                }
            }
            _ => self.copy_plain(index),
        }
    }

    fn label(&self, label: u32) -> u32 {
        let open = self.open.iter().rev().nth(label as usize);
        self.depth - open.map_or(self.depth, |open| open.depth)
    }

    fn copy_plain(&mut self, index: Index) {
        let function = self.function;
        let instruction = &function.code.instructions[index as usize];
        if let Some(edit) = instruction.kind.edit() {
            function.edit(edit, &mut self.out().bytes);
            return;
        }
        let start = instruction.offset as usize;
        if self.pending.is_empty() || self.pending.end != start {
            self.out();
            self.pending.start = start;
        }
        self.pending.end = function.code.end_of(index, function.end) as usize;
    }
}
