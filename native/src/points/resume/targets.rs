//! Where the sequences of a function can be entered: at the points in them, and at the constructs that have points inside.

use super::super::{
    body::{Code, Index},
    select::{Point, sequence},
};

/// Where a sequence can be entered.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At a point, by its number in the function.
    Point(usize),
    /// In a construct, at the points up to this one.
    Construct { construct: u32, last: usize },
}

impl Target {
    /// The last point at which it is entered.
    pub fn last(self) -> usize {
        match self {
            Self::Point(number) => number,
            Self::Construct { last, .. } => last,
        }
    }
}

/// The targets of each sequence, in order.
pub fn targets(code: &Code, points: &[Point]) -> Vec<Vec<Target>> {
    let mut targets: Vec<Vec<Target>> = vec![Vec::new(); code.constructs.len() * 2];
    for (number, point) in points.iter().enumerate() {
        targets[point.sequence as usize].push(Target::Point(number));
        let mut construct = point.sequence / 2;
        while construct != 0 {
            let around = &code.constructs[construct as usize];
            let outer = &mut targets[arm(code, around.parent, around.start) as usize];
            // One that is known is known to all around it.
            if matches!(outer.last(), Some(Target::Construct { construct: known, .. }) if *known == construct) {
                break;
            }
            let last = points.partition_point(|other| other.index < around.end) - 1;
            outer.push(Target::Construct { construct, last });
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

/// The first instruction of a sequence.
pub fn first_of(code: &Code, sequence: u32) -> Index {
    let construct = &code.constructs[sequence as usize / 2];
    if sequence < 2 {
        0
    } else if sequence.is_multiple_of(2) {
        construct.start + 1
    } else {
        construct.otherwise.map_or(0, |otherwise| otherwise + 1)
    }
}
