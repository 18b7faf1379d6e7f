//! What is written at the targets of a sequence, where the ordinary way and the way through the door meet.

use wasm_encoder::BlockType;

use super::{
    super::{
        body::{Index, Instruction, Kind, Node},
        select::{Point, Stand, sequence},
        types::Type,
    },
    Writer,
    targets::{Target, first_of},
};

impl Writer<'_, '_> {
    /// The instruction of the current sequence's next target, or none.
    pub(super) fn next_target(&self) -> Index {
        let target = self.open.last().and_then(|open| self.targets[open.sequence as usize].get(open.next));
        match target {
            Some(Target::Point(number)) => self.function.points[*number].index,
            Some(Target::Construct { construct, .. }) => self.function.code.constructs[*construct as usize].start,
            None => Index::MAX,
        }
    }

    /// The next target of the current sequence, if it is at this instruction.
    pub(super) fn target_at(&mut self, index: Index) -> Option<Target> {
        if self.next_target() != index {
            return None;
        }
        let open = self.open.last_mut()?;
        open.next += 1;
        self.targets[open.sequence as usize].get(open.next - 1).copied()
    }

    /// Writes a target; true when the instruction was written with it.
    pub(super) fn target(&mut self, target: Target, instruction: &Instruction) -> bool {
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
            let spill = self.spill();
            function.poll(number, spill, &ready, self.out());
        }
        self.end();
        self.close_door();
        self.fetch(&own);
        if !point.host_call {
            return false;
        }
        if let Some(edit) = instruction.kind.edit() {
            function.edit(edit, &mut self.out().bytes);
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
    pub(super) fn result_type(&self, point: &Point) -> BlockType {
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
        let (function, door, condition) = (self.function, self.door, self.condition);
        let others = &own[..own.len().saturating_sub(1)];
        self.sink().local_set(condition);
        self.stash(others);
        self.end();
        self.fetch(others);
        let last_of = |arm| self.targets[sequence(construct, arm) as usize].last().map(|target| target.last());
        let arms = (last_of(0), last_of(1));
        if let (Some(last), Some(_)) = arms
            && !function.is_small(last + 1)
        {
            self.sink().local_get(door);
            self.out().mark_cold();
            self.sink().if_(BlockType::Empty).local_get(door);
            function.number(last + 1, &mut self.out().bytes);
            self.sink().i32_le_u().local_set(condition).end().local_get(condition);
            return;
        }
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

    /// The check behind a call. Hints would only be worth their bytes where the function runs often.
    fn check(&mut self, number: usize) {
        let (function, spill) = (self.function, self.spill());
        let hints = self.out.cold.len();
        function.check(number, spill, &[], self.out());
        if !self.merged {
            self.out.cold.truncate(hints);
        }
    }

    fn close_door(&mut self) {
        let door = self.door;
        self.sink().i32_const(0).local_set(door);
    }
}
