//! How a sequence is opened: blocks that end at its targets, and the branch to the one that the door lies behind.

use wasm_encoder::BlockType;

use super::{
    super::{
        body::{Index, Kind},
        select::Stand,
    },
    Open, Writer,
    targets::Target,
};

impl Writer<'_, '_> {
    /// Opens a sequence whose first instruction is `first`: the dispatch.
    pub(super) fn begin(&mut self, sequence: u32, first: Index) {
        self.open.push(Open { sequence, depth: self.depth, next: 0 });
        if self.targets[sequence as usize].is_empty() {
            return;
        }
        let targets = std::mem::take(&mut self.targets[sequence as usize]);
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
        self.targets[sequence as usize] = targets;
        self.fetch(&params);
    }

    pub(super) fn straight(&self, targets: &[Target], first: Index) -> bool {
        let code = self.function.code;
        matches!(targets[0], Target::Construct { construct, .. } if code.constructs[construct as usize].start == first
            && !matches!(code.instructions[first as usize].kind, Kind::If(_)))
    }

    /// Branches to the target behind which the door is. `labels` are those of the targets, without the first if that is
    /// `straight` ahead.
    fn dispatch(&mut self, targets: &[Target], labels: &[u32], straight: bool) {
        let (function, door) = (self.function, self.door);
        let Some((last, others)) = labels.split_last() else { return };
        let mut ends: Vec<usize> = targets.iter().map(|target| target.last()).collect();
        ends.pop();
        if ends.is_empty() {
            let label = self.depth - last;
            self.sink().local_get(door);
            self.out().mark_cold();
            self.sink().br_if(label);
            return;
        }
        // The door is the number of a point, counted from 1.
        if let ([end], true) = (&ends[..], straight)
            && function.is_small(end + 1)
        {
            let label = self.depth - last;
            self.sink().local_get(door);
            function.number(end + 1, &mut self.out().bytes);
            self.sink().i32_gt_u();
            self.out().mark_cold();
            self.sink().br_if(label);
            return;
        }
        self.sink().local_get(door);
        self.out().mark_cold();
        self.sink().if_(BlockType::Empty);
        self.depth += 1;
        // Out of the `if` is straight ahead.
        let ahead = straight.then_some(self.depth);
        for (end, label) in ends.into_iter().zip(ahead.iter().chain(others)) {
            let label = self.depth - label;
            self.sink().local_get(door);
            function.number(end + 1, &mut self.out().bytes);
            self.sink().i32_le_u().br_if(label);
        }
        let label = self.depth - last;
        self.sink().br(label).end();
        self.depth -= 1;
    }
}
