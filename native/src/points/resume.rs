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

use wasm_encoder::{BlockType, Encode, InstructionSink};

use super::{
    body::{Code, Index, Instruction, Kind, Node},
    emit::Body,
    normal::{Function, spend},
    refusal::Result,
    select::{Point, Stand, Temps, sequence},
    types::{Type, declare},
};

/// Types of calls in the output.
pub trait CallTypes {
    /// The type without parameters that has the results of the callee: what its resume version has.
    fn resume_type(&self, kind: Kind) -> u32;
    /// How many operands the call takes, the table index included.
    fn taken(&self, kind: Kind) -> usize;
    /// What it gives.
    fn results(&self, kind: Kind) -> &[Type];
}

/// Where a sequence can be entered.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// At a point, by its number in the function.
    Point(usize),
    /// In a construct, at the points up to this one.
    Construct { construct: u32, last: usize },
}

/// The targets of each sequence, in order.
fn targets(code: &Code, points: &[Point]) -> Vec<Vec<Target>> {
    let mut targets: Vec<Vec<Target>> = vec![Vec::new(); code.constructs.len() * 2];
    for (number, point) in points.iter().enumerate() {
        targets[point.sequence as usize].push(Target::Point(number));
        let mut construct = point.sequence / 2;
        while construct != 0 {
            let around = &code.constructs[construct as usize];
            let outer = arm(code, around.parent, around.start);
            let list = &mut targets[outer as usize];
            match list.last_mut() {
                Some(Target::Construct { construct: known, last }) if *known == construct => *last = number,
                _ => list.push(Target::Construct { construct, last: number }),
            }
            construct = around.parent;
        }
    }
    targets
}

/// The sequence of a construct in which an instruction lies.
fn arm(code: &Code, construct: u32, index: Index) -> u32 {
    let otherwise = code.constructs[construct as usize].otherwise;
    sequence(construct, u32::from(otherwise.is_some_and(|otherwise| otherwise < index)))
}

/// Writes the resume version: locals and code, without the size in front. Where it is to stand for the function as well,
/// `params` is how many parameters that has.
///
/// # Errors
/// `Unsupported` when the values at its points are beyond counting.
pub fn write(function: &Function<'_>, types: &dyn CallTypes, params: Option<u32>, budget: &mut usize) -> Result<Body> {
    for point in function.points {
        spend(
            budget,
            function.code.height(point.stack) as usize + function.code.constructs.len() / 64,
            function.code,
            point,
        )?;
    }
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
        depth: 0,
        open: Vec::new(),
    };
    writer.prologue();
    writer.instructions();
    function.spill(writer.condition + 1, &mut writer.out.bytes);
    let mut all = function.code.locals[params.unwrap_or(0) as usize..].to_vec();
    all.extend([Type::I32, Type::I32]);
    all.extend(&writer.temps.types);
    let mut groups = Vec::new();
    let count = declare(&all, &mut groups);
    let mut locals = Vec::with_capacity(groups.len() + 2);
    count.encode(&mut locals);
    locals.extend_from_slice(&groups);
    Ok(writer.out.behind(locals))
}

/// Labels around and including that of the spill.
const SPILL: u32 = 2;

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
    types: &'a dyn CallTypes,
    targets: Vec<Vec<Target>>,
    temps: Temps,
    door: u32,
    condition: u32,
    /// It stands for the function itself, too.
    merged: bool,
    out: Body,
    /// How many labels are open in the output.
    depth: u32,
    open: Vec<Open>,
}

impl Writer<'_, '_> {
    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.out.bytes)
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
        function.open(&mut self.out.bytes);
        self.depth = SPILL + 1;
        if merged {
            self.sink().global_get(function.abi.entering);
            self.out.mark_cold();
            self.sink().if_(BlockType::Empty).i32_const(0).global_set(function.abi.entering);
        }
        for (local, ty) in (0u32..).zip(&function.code.locals) {
            function.abi.load(*ty, &mut self.out.bytes);
            self.sink().local_set(local);
        }
        for (temp, ty) in (self.condition + 1..).zip(&function.temps.types) {
            function.abi.load(*ty, &mut self.out.bytes);
            self.sink().local_set(temp);
        }
        let (entry, door) = (function.abi.entry, self.door);
        self.sink().call(entry).local_set(door);
        if merged {
            self.sink().end();
        }
        self.begin(sequence(0, 0), 0);
    }

    /// Opens a sequence whose first instruction is `first`: the dispatch.
    fn begin(&mut self, sequence: u32, first: Index) {
        self.open.push(Open { sequence, depth: self.depth, next: 0 });
        let targets = self.targets[sequence as usize].clone();
        if targets.is_empty() {
            return;
        }
        let code = self.function.code;
        let construct = &code.constructs[sequence as usize / 2];
        let params = code.stack(code.instructions[first as usize].stack, construct.base);
        self.stash(&params);

        // A block or loop right at the start needs no way to it: it dispatches for itself.
        let straight = self.straight(&targets, first);
        let inner = if straight { &targets[1..] } else { &targets[..] };
        let mut labels = Vec::new();
        for target in inner.iter().rev() {
            if let Target::Point(number) = *target
                && self.function.points[number].stand == Stand::In
            {
                let ty = self.result_type(&self.function.points[number]);
                self.sink().block(ty);
                self.depth += 1;
            }
            self.sink().block(BlockType::Empty);
            self.depth += 1;
            labels.push(self.depth);
        }
        labels.reverse();
        self.dispatch(&targets, &labels, straight);
        self.fetch(&params);
    }

    fn straight(&self, targets: &[Target], first: Index) -> bool {
        let code = self.function.code;
        matches!(targets[0], Target::Construct { construct, .. } if code.constructs[construct as usize].start == first
            && !matches!(code.instructions[first as usize].kind, Kind::If(_)))
    }

    /// Branches to the target behind which the door is. `labels` are those of the targets, without the first if that is
    /// `straight` ahead.
    fn dispatch(&mut self, targets: &[Target], labels: &[u32], straight: bool) {
        let door = self.door;
        let Some((last, others)) = labels.split_last() else { return };
        let mut ends: Vec<usize> = targets
            .iter()
            .map(|target| match *target {
                Target::Point(number) => number,
                Target::Construct { last, .. } => last,
            })
            .collect();
        ends.pop();
        if ends.is_empty() {
            let label = self.depth - last;
            self.sink().local_get(door);
            self.out.mark_cold();
            self.sink().br_if(label);
            return;
        }
        if let ([end], true) = (&ends[..], straight) {
            let end = i32::try_from(end + 1).unwrap_or(i32::MAX);
            let label = self.depth - last;
            self.sink().local_get(door).i32_const(end).i32_gt_u();
            self.out.mark_cold();
            self.sink().br_if(label);
            return;
        }
        self.sink().local_get(door);
        self.out.mark_cold();
        self.sink().if_(BlockType::Empty);
        self.depth += 1;
        // Out of the `if` is straight ahead.
        let ahead = straight.then_some(self.depth);
        for (end, label) in ends.into_iter().zip(ahead.iter().chain(others)) {
            // The door is the number of a point, counted from 1.
            let end = i32::try_from(end + 1).unwrap_or(i32::MAX);
            let label = self.depth - label;
            self.sink().local_get(door).i32_const(end).i32_le_u().br_if(label);
        }
        let label = self.depth - last;
        self.sink().br(label).end();
        self.depth -= 1;
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
            while let Some(target) = self.target_at(index) {
                written |= self.target(target, instruction);
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
                _ => {}
            }
        }
    }

    /// The next target of the current sequence, if it is at this instruction.
    fn target_at(&mut self, index: Index) -> Option<Target> {
        let open = self.open.last_mut()?;
        let target = *self.targets[open.sequence as usize].get(open.next)?;
        let at = match target {
            Target::Point(number) => self.function.points[number].index,
            Target::Construct { construct, .. } => self.function.code.constructs[construct as usize].start,
        };
        (at == index).then(|| {
            open.next += 1;
            target
        })
    }

    /// Writes a target; true when the instruction was written with it.
    fn target(&mut self, target: Target, instruction: &Instruction) -> bool {
        match target {
            Target::Point(number) => {
                let point = self.function.points[number];
                match point.stand {
                    Stand::At => self.point_at(number, &point, instruction),
                    Stand::In => {
                        self.point_in(number, &point, instruction);
                        true
                    }
                }
            }
            Target::Construct { construct, .. } => {
                self.construct(construct, instruction);
                false
            }
        }
    }

    /// The operands of a sequence on a stack.
    fn own(&self, stack: Node) -> Vec<Node> {
        let sequence = self.open.last().map_or(0, |open| open.sequence);
        let base = self.function.code.constructs[sequence as usize / 2].base;
        self.function.code.stack(stack, base)
    }

    fn point_at(&mut self, number: usize, point: &Point, instruction: &Instruction) -> bool {
        let function = self.function;
        let own = self.own(point.stack);
        self.stash(&own);
        if point.poll {
            let mut ready = Vec::new();
            if function.clears(point) {
                function.clear(number, &mut ready);
            }
            function.poll(number, self.depth - SPILL, &ready, &mut self.out);
        }
        self.end();
        self.close_door();
        self.fetch(&own);
        if !point.host_call {
            return false;
        }
        if let Some(edit) = instruction.kind.edit() {
            function.edit(edit, &mut self.out.bytes);
        }
        self.check(number);
        true
    }

    fn point_in(&mut self, number: usize, point: &Point, instruction: &Instruction) {
        let function = self.function;
        let code = function.code;
        let kind = instruction.kind;
        let taken = self.types.taken(kind);
        let own = self.own(instruction.stack);
        let (below, arguments) = own.split_at(own.len().saturating_sub(taken));
        let results = self.types.results(kind).to_vec();
        let height = code.height(point.stack);

        // The ordinary way: the call.
        if !below.is_empty() {
            self.stash(&own);
            self.fetch(arguments);
        }
        self.copy_plain(point.index);
        if !below.is_empty() {
            self.stash_results(height, &results);
        }
        self.sink().br(1);
        self.end();
        // Behind the door: the next frame.
        self.close_door();
        let (next, table, ty) = (function.abi.next, function.abi.resume_table, self.types.resume_type(kind));
        self.sink().call(next).call_indirect(table, ty);
        if !below.is_empty() {
            self.stash_results(height, &results);
        }
        self.end();
        if !below.is_empty() {
            let below = below.to_vec();
            self.fetch(&below);
            for (height, ty) in (height..).zip(&results) {
                let temp = self.temp(height, *ty);
                self.sink().local_get(temp);
            }
        }
        self.check(number);
    }

    fn stash_results(&mut self, height: u32, results: &[Type]) {
        for (height, ty) in (height..).zip(results).collect::<Vec<_>>().into_iter().rev() {
            let temp = self.temp(height, *ty);
            self.sink().local_set(temp);
        }
    }

    /// The type of the block around both ways of a call: its results, unless operands beneath them are in the way.
    fn result_type(&self, point: &Point) -> BlockType {
        let code = self.function.code;
        let base = code.constructs[point.sequence as usize / 2].base;
        let kind = code.instructions[point.index as usize].kind;
        match self.types.results(kind) {
            _ if code.height(point.stack) > base => BlockType::Empty,
            [] => BlockType::Empty,
            [one] => BlockType::Result(one.encoded()),
            _ => BlockType::FunctionType(self.types.resume_type(kind)),
        }
    }

    /// Both ways meet before a construct that contains points.
    fn construct(&mut self, construct: u32, instruction: &Instruction) {
        let code = self.function.code;
        let open = &self.open[self.open.len() - 1];
        let (current, position) = (open.sequence, open.next - 1);
        let targets = &self.targets[current as usize];
        let first = first_of(code, current);
        if position == 0 && self.straight(targets, first) {
            return;
        }
        let own = self.own(instruction.stack);
        if !matches!(instruction.kind, Kind::If(_)) {
            self.stash(&own);
            self.end();
            self.fetch(&own);
            return;
        }
        let (door, condition) = (self.door, self.condition);
        let others = &own[..own.len().saturating_sub(1)];
        self.sink().local_set(condition);
        self.stash(others);
        self.end();
        self.fetch(others);
        let last_of = |arm| {
            self.targets[sequence(construct, arm) as usize].last().map(|target| match *target {
                Target::Point(number) => number,
                Target::Construct { last, .. } => last,
            })
        };
        let arms = (last_of(0), last_of(1));
        let mut sink = self.sink();
        match arms {
            (Some(_), None) => sink.local_get(condition).local_get(door).i32_or(),
            (None, _) => sink.i32_const(0).local_get(condition).local_get(door).select(),
            (Some(last), Some(_)) => {
                let last = i32::try_from(last + 1).unwrap_or(i32::MAX);
                sink.local_get(door).i32_const(last).i32_le_u().local_get(condition).local_get(door).select()
            }
        };
    }

    fn end(&mut self) {
        self.sink().end();
        self.depth -= 1;
    }

    /// The check behind a call. Hints would only be worth their bytes where the function runs often.
    fn check(&mut self, number: usize) {
        let hints = self.out.cold.len();
        self.function.check(number, self.depth - SPILL, &[], &mut self.out);
        if !self.merged {
            self.out.cold.truncate(hints);
        }
    }

    fn close_door(&mut self) {
        let door = self.door;
        self.sink().i32_const(0).local_set(door);
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
        self.function.copy(index, &mut self.out.bytes);
    }
}

/// The first instruction of a sequence.
fn first_of(code: &Code, sequence: u32) -> Index {
    let construct = &code.constructs[sequence as usize / 2];
    if sequence < 2 {
        0
    } else if sequence.is_multiple_of(2) {
        construct.start + 1
    } else {
        construct.otherwise.map_or(0, |otherwise| otherwise + 1)
    }
}
