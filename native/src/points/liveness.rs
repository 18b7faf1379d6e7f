//! Which locals a function still reads after each of its points.
//!
//! The usual backward data flow over the nesting of the function: instructions are walked from the last to the first,
//! a label knows what is live at its target, and the walk is repeated until loops agree with themselves.
//! What is live depends on the original code alone, never on policy or engine, so equal points have equal frames.
//!
//! Limit: a function for which this would take too much memory, too many walks or walks that are too long has all of its locals
//! live. Few come near: it takes thousands of locals and as many branches.

use super::{
    body::{Code, Kind},
    select::Point,
};

/// Words for all constructs of one function, and for all of its points if each instruction were one: how many there are is the
/// policy's to say.
const MOST_WORDS: usize = 1 << 21;
const MOST_POINT_WORDS: usize = 1 << 22;
/// Words that a walk may join at branches: so many, and so many for each instruction or label that it passes. A label of
/// one byte can ask for the locals of 49,000.
const JOINED: usize = 1 << 16;
const JOINED_EACH: usize = 64;
/// Walks until loops must agree. Each nesting level needs at most one.
const MOST_WALKS: usize = 48;

/// Sets of locals, one for each point.
pub struct Live {
    rows: Rows,
    /// There is only one row, for all points.
    all: bool,
}

impl Live {
    /// The locals that are live at the point with this number in its function.
    pub fn locals(&self, point: usize) -> impl Iterator<Item = u32> + '_ {
        self.rows.members(if self.all { 0 } else { point })
    }

    /// How many that are.
    #[must_use]
    pub fn count(&self, point: usize) -> usize {
        self.rows.count(if self.all { 0 } else { point })
    }

    fn all(locals: usize) -> Self {
        let mut rows = Rows::new(1, locals.div_ceil(64));
        for local in 0..locals {
            rows.bits[local / 64] |= 1 << (local % 64);
        }
        Self { rows, all: true }
    }

    /// Computes it for all points of a function.
    #[must_use]
    pub fn of(code: &Code, points: &[Point]) -> Self {
        let locals = code.locals.len();
        let words = locals.div_ceil(64);
        let labels: usize = code.tables.iter().map(Vec::len).sum();
        let is_branch = |kind: Kind| matches!(kind, Kind::Br(_) | Kind::BrIf(_));
        let branches = code.instructions.iter().filter(|instruction| is_branch(instruction.kind)).count();
        let joined = (branches + labels).saturating_mul(words);
        if 3 * code.constructs.len() * words > MOST_WORDS
            || code.instructions.len() * words > MOST_POINT_WORDS
            || joined > JOINED + JOINED_EACH * (code.instructions.len() + labels)
        {
            return Self::all(locals);
        }
        let mut flow = Flow {
            code,
            live: vec![0; words],
            after: Rows::new(code.constructs.len(), words),
            otherwise: Rows::new(code.constructs.len(), words),
            head: Rows::new(code.constructs.len(), words),
            open: Vec::new(),
        };
        for _ in 0..MOST_WALKS {
            if !flow.walk(&[], &mut Rows::new(0, words)) {
                let mut found = Rows::new(points.len(), words);
                flow.walk(points, &mut found);
                return Self { rows: found, all: false };
            }
        }
        Self::all(locals)
    }
}

struct Flow<'a> {
    code: &'a Code,
    live: Vec<u64>,
    /// By construct: what is live behind its end.
    after: Rows,
    /// By construct: what is live at the start of its second arm.
    otherwise: Rows,
    /// By construct: what is live at the start of a loop, as far as is known.
    head: Rows,
    open: Vec<u32>,
}

impl Flow<'_> {
    /// One walk, which notes what is live at some points; true when a loop learned something.
    fn walk(&mut self, all: &[Point], found: &mut Rows) -> bool {
        let mut changed = false;
        // The points before this number are still to come.
        let mut points = all.len();
        let index_of = |points: usize| points.checked_sub(1).map_or(usize::MAX, |last| all[last].index as usize);
        let mut next = index_of(points);
        self.live.fill(0);
        let code = self.code;
        for (position, instruction) in code.instructions.iter().enumerate().rev() {
            match instruction.kind {
                Kind::LocalGet(local) => self.live[local as usize / 64] |= 1 << (local % 64),
                Kind::LocalSet(local) | Kind::LocalTee(local) => self.live[local as usize / 64] &= !(1 << (local % 64)),
                Kind::End(construct) => {
                    self.after.set(construct, &self.live);
                    self.open.push(construct);
                }
                Kind::Else(construct) => {
                    self.otherwise.set(construct, &self.live);
                    self.live.copy_from_slice(self.after.get(construct));
                }
                Kind::If(construct) => {
                    self.open.pop();
                    let has_else = self.code.constructs[construct as usize].otherwise.is_some();
                    let rows = if has_else { &self.otherwise } else { &self.after };
                    join(&mut self.live, rows.get(construct));
                }
                Kind::Loop(construct) => {
                    self.open.pop();
                    changed |= self.head.grow(construct, &self.live);
                }
                Kind::Block(_) => {
                    self.open.pop();
                }
                Kind::Br(label) => {
                    self.live.fill(0);
                    self.branch(label);
                }
                Kind::BrIf(label) => self.branch(label),
                Kind::BrTable(table) => {
                    self.live.fill(0);
                    for label in &code.tables[table as usize] {
                        self.branch(*label);
                    }
                }
                Kind::Return | Kind::Unreachable | Kind::TailCall(_) | Kind::TailCallIndirect => self.live.fill(0),
                _ => {}
            }
            // A call touches no local, so what is live before it is live while it runs.
            while position == next {
                points -= 1;
                found.set(u32::try_from(points).unwrap_or(u32::MAX), &self.live);
                next = index_of(points);
            }
        }
        changed
    }

    fn branch(&mut self, label: u32) {
        let Some(construct) = self.open.iter().rev().nth(label as usize).copied() else { return };
        let rows = if self.code.constructs[construct as usize].is_loop { &self.head } else { &self.after };
        join(&mut self.live, rows.get(construct));
    }
}

fn join(into: &mut [u64], from: &[u64]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into |= from;
    }
}

/// Many sets of the same size.
struct Rows {
    words: usize,
    bits: Vec<u64>,
}

impl Rows {
    fn new(count: usize, words: usize) -> Self {
        Self { words, bits: vec![0; count * words] }
    }

    fn get(&self, row: u32) -> &[u64] {
        let start = row as usize * self.words;
        &self.bits[start..start + self.words]
    }

    fn get_mut(&mut self, row: u32) -> &mut [u64] {
        let start = row as usize * self.words;
        &mut self.bits[start..start + self.words]
    }

    fn set(&mut self, row: u32, from: &[u64]) {
        self.get_mut(row).copy_from_slice(from);
    }

    /// Adds members; true when some were new.
    fn grow(&mut self, row: u32, from: &[u64]) -> bool {
        let mut new = 0;
        for (into, from) in self.get_mut(row).iter_mut().zip(from) {
            new |= from & !*into;
            *into |= from;
        }
        new != 0
    }

    fn count(&self, row: usize) -> usize {
        let words = &self.bits[row * self.words..(row + 1) * self.words];
        words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn members(&self, row: usize) -> impl Iterator<Item = u32> + '_ {
        let words = &self.bits[row * self.words..(row + 1) * self.words];
        (0u32..).zip(words).flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    word * 64 + bit
                })
            })
        })
    }
}
