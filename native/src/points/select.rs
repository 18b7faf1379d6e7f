//! The stable points of one function, and the operands of each.

use super::{
    body::{Code, Index, Kind, Node},
    calls::Calls,
    options::Policy,
    scan::Callee,
    types::{TYPES, Type},
};

/// How a frame stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stand {
    /// Before the instruction: everything it takes is still on the stack.
    At,
    /// In the call that the instruction is: its arguments are gone, its results are not there yet.
    In,
}

/// A stable point of a function.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub index: Index,
    pub stand: Stand,
    /// The flag is polled here.
    pub poll: bool,
    /// The instruction is a call of a host function that can suspend; it is issued again on resume.
    pub host_call: bool,
    /// The normal version can stop here. Otherwise only the resume version knows the point.
    pub normal: bool,
    /// The operands of the frame.
    pub stack: Node,
    /// The sequence of instructions it lies in: see [`sequence`].
    pub sequence: u32,
}

/// Number of a sequence: the body of a block, loop, function or of the first arm of an `if` (`arm` 0), or the second arm.
#[must_use]
pub fn sequence(construct: u32, arm: u32) -> u32 {
    construct * 2 + arm
}

/// What is known of the function when its points are chosen.
pub struct Choice<'a> {
    pub policy: Policy,
    pub calls: &'a Calls,
    pub polls_at_entry: bool,
    /// Loops (by construct) that poll.
    pub loops: &'a [bool],
    /// Offsets of extra entries, sorted.
    pub entries: &'a [u32],
}

impl Choice<'_> {
    /// All points, sorted by instruction and stand.
    #[must_use]
    pub fn points(&self, code: &Code, signatures: impl Fn(Callee) -> usize) -> Vec<Point> {
        let mut points = Vec::new();
        let mut open = vec![sequence(0, 0)];
        let mut head = false;
        for (index, instruction) in (0u32..).zip(&code.instructions) {
            let current = *open.last().unwrap_or(&0);
            if !instruction.dead {
                self.at(code, index, current, head, &signatures, &mut points);
            }
            head = false;
            match instruction.kind {
                Kind::Block(construct) | Kind::If(construct) => open.push(sequence(construct, 0)),
                Kind::Loop(construct) => {
                    open.push(sequence(construct, 0));
                    head = !instruction.dead && self.loops[construct as usize];
                }
                Kind::Else(construct) => {
                    open.pop();
                    open.push(sequence(construct, 1));
                }
                Kind::End(_) => {
                    open.pop();
                }
                _ => {}
            }
        }
        points
    }

    /// Adds the points of one instruction. `head`: it is the first of a loop that polls.
    fn at(
        &self,
        code: &Code,
        index: Index,
        sequence: u32,
        head: bool,
        signatures: &impl Fn(Callee) -> usize,
        points: &mut Vec<Point>,
    ) {
        let instruction = &code.instructions[index as usize];
        if matches!(instruction.kind, Kind::End(_) | Kind::Else(_)) {
            return;
        }
        let poll = head || (index == 0 && self.polls_at_entry) || self.policy == Policy::Instruction;
        let is_call = matches!(instruction.kind, Kind::Call(_) | Kind::CallIndirect { .. });
        if !poll && !is_call && self.entries.is_empty() {
            return;
        }
        let (callee, taken) = match instruction.kind {
            Kind::Call(function) => (Some(Callee::Function(function)), 0),
            // The index into the table is taken, too.
            Kind::CallIndirect { ty, table } => (Some(Callee::Indirect { ty, table }), 1),
            _ => (None, 0),
        };
        let host_call = matches!(callee, Some(Callee::Function(function)) if self.calls.suspends[function as usize]);
        let unwinds = !host_call && callee.is_some_and(|callee| self.calls.unwinds(callee));
        let entry = self.entries.binary_search(&instruction.offset).is_ok();

        let stack = instruction.stack;
        if poll || host_call || entry {
            let normal = poll || host_call;
            points.push(Point { index, stand: Stand::At, poll, host_call, normal, stack, sequence });
        }
        if let Some(callee) = callee
            && (unwinds || (entry && !host_call))
        {
            let stack = code.without(stack, signatures(callee) + taken);
            let (poll, host_call) = (false, false);
            points.push(Point { index, stand: Stand::In, poll, host_call, normal: unwinds, stack, sequence });
        }
    }
}

/// No temporary.
const NONE: u32 = u32::MAX;

/// The temporary locals of a function: one for each height and type that an operand at a point has. While an operand is
/// on the stack nothing else can be at its height, so its temporary is never overwritten.
#[derive(Clone, Default)]
pub struct Temps {
    /// In order of their numbers.
    pub types: Vec<Type>,
    /// Numbers by height and type.
    numbers: Vec<[u32; TYPES]>,
}

impl Temps {
    /// Those that the points of a function need. Their order is part of the metadata.
    #[must_use]
    pub fn of(code: &Code, points: &[Point]) -> Self {
        let mut temps = Self::default();
        let mut seen = vec![false; code.operands.len()];
        for point in points {
            let mut node = point.stack;
            // What lies beneath an operand that was seen was seen with it.
            while node != super::body::BOTTOM && !std::mem::replace(&mut seen[node as usize], true) {
                let operand = &code.operands[node as usize];
                temps.number(operand.height, operand.ty);
                node = operand.beneath;
            }
        }
        temps
    }

    /// The number for an operand, which is made if need be.
    pub fn number(&mut self, height: u32, ty: Type) -> u32 {
        if let Some(number) = self.get(height, ty) {
            return number;
        }
        let number = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        self.types.push(ty);
        let height = height as usize;
        if self.numbers.len() <= height {
            self.numbers.resize(height + 1, [NONE; TYPES]);
        }
        self.numbers[height][ty as usize] = number;
        number
    }

    /// The number for an operand, if there is one.
    #[must_use]
    pub fn get(&self, height: u32, ty: Type) -> Option<u32> {
        let number = self.numbers.get(height as usize)?[ty as usize];
        (number != NONE).then_some(number)
    }
}
