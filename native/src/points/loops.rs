//! Which loops poll under the policy `loop`, and how often.
//!
//! Two things keep polls off hot paths without letting a guest run on unstopped:
//!
//! * A loop needs no poll where each of its turns is sure to enter another loop that has one. So of nested loops the
//!   inner one polls, once at its entry and then once for some number of its turns.
//! * A loop that polls and has no other point inside is *unrolled*: its body is written several times, and only the
//!   first copy polls. That is exact: a point is "before the body's first instruction" in all copies alike, and those
//!   that do not poll are turns at which the guest just cannot be stopped. A long body is written once.
//!
//! The bound on the time to a stop is that of [`TURN`] instructions, plus what runs between loops: straight-line code, calls
//! of functions that neither loop nor recurse, and single instructions that work on much memory.

use super::{
    body::{Code, Index, Kind},
    options::Policy,
    select::Point,
};

/// Instructions that an unrolled loop should have between two polls.
const TURN: u32 = 40;
/// The most copies of a body.
const MOST_COPIES: u32 = 8;

/// Of each construct, whether it is a loop that polls.
#[must_use]
pub fn polled(code: &Code, policy: Policy) -> Vec<bool> {
    let mut polled = vec![false; code.constructs.len()];
    match policy {
        Policy::Call | Policy::Function | Policy::Instruction => {}
        Policy::LoopAll => {
            for (polls, construct) in polled.iter_mut().zip(&code.constructs) {
                *polls = construct.is_loop;
            }
        }
        Policy::Loop => choose(code, &mut polled),
    }
    polled
}

/// Walks the constructs from the inside out. `sure` is, of each, a loop that polls and is surely entered when the construct
/// is, unless a branch leaves the construct before.
fn choose(code: &Code, polled: &mut [bool]) {
    let branches = first_branches(code);
    let is_if = |construct: usize| {
        let start = code.constructs[construct].start;
        matches!(code.instructions.get(start as usize).map(|start| start.kind), Some(Kind::If(number)) if number as usize == construct)
    };
    let mut sure: Vec<Option<Index>> = vec![None; code.constructs.len()];
    for number in (1..code.constructs.len()).rev() {
        let construct = &code.constructs[number];
        if construct.is_loop && sure[number].is_none() && branches[number] != Index::MAX {
            polled[number] = true;
            sure[number] = Some(construct.start);
        }
        let parent = construct.parent as usize;
        if let Some(entered) = sure[number]
            && !is_if(parent)
            && branches[parent] > entered
        {
            // Constructs are numbered in the order of their starts: the last to say so is the first in the parent.
            sure[parent] = Some(entered);
        }
    }
}

/// Of each construct, the first instruction that branches to it.
fn first_branches(code: &Code) -> Vec<Index> {
    let mut first = vec![Index::MAX; code.constructs.len()];
    let mut open = vec![0u32];
    let mut branch = |open: &[u32], label: u32, index: Index| {
        if let Some(construct) = open.iter().rev().nth(label as usize) {
            let slot = &mut first[*construct as usize];
            *slot = index.min(*slot);
        }
    };
    for (index, instruction) in (0u32..).zip(&code.instructions) {
        match instruction.kind {
            Kind::Block(construct) | Kind::Loop(construct) | Kind::If(construct) => open.push(construct),
            Kind::End(_) => {
                open.pop();
            }
            Kind::Br(label) | Kind::BrIf(label) if !instruction.dead => branch(&open, label, index),
            Kind::BrTable(table) if !instruction.dead => {
                for label in &code.tables[table as usize] {
                    branch(&open, *label, index);
                }
            }
            _ => {}
        }
    }
    first
}

/// Of each construct, how many times its body is written.
#[must_use]
pub fn copies(code: &Code, points: &[Point], policy: Policy) -> Vec<u32> {
    let mut copies = vec![1; code.constructs.len()];
    if policy != Policy::Loop {
        return copies;
    }
    for point in points {
        let number = point.sequence / 2;
        let construct = &code.constructs[number as usize];
        let is_head = point.poll && !point.host_call && construct.is_loop && point.index == construct.start + 1;
        if !is_head || construct.params != 0 || construct.has_type {
            continue;
        }
        let after = points.partition_point(|other| other.index <= construct.start);
        let inside = points[after..].iter().take_while(|other| other.index < construct.end).count();
        let length = construct.end - construct.start;
        if inside == 1 && length <= TURN {
            copies[number as usize] = TURN.div_ceil(length).min(MOST_COPIES);
        }
    }
    copies
}

/// Writes one copy of a loop's body. `outer` is the label, at the level of the body, of what lies so many levels around
/// the loop (1 and up); the loop itself keeps its label.
pub fn write_turn(
    code: &Code,
    construct: u32,
    outer: &dyn Fn(u32) -> u32,
    copy: &mut dyn FnMut(Index, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let body = &code.constructs[construct as usize];
    let mut level = 0u32;
    for index in body.start + 1..body.end {
        let relabel = |label: u32| if label > level { level + outer(label - level) } else { label };
        let kind = code.instructions[index as usize].kind;
        let mut sink = wasm_encoder::InstructionSink::new(out);
        match kind {
            Kind::Br(label) if label > level => {
                sink.br(relabel(label));
            }
            Kind::BrIf(label) if label > level => {
                sink.br_if(relabel(label));
            }
            Kind::BrTable(table) => {
                let labels: Vec<u32> = code.tables[table as usize].iter().map(|label| relabel(*label)).collect();
                if let Some((default, others)) = labels.split_last() {
                    sink.br_table(others.to_vec(), *default);
                }
            }
            _ => copy(index, out),
        }
        match kind {
            Kind::Block(_) | Kind::Loop(_) | Kind::If(_) => level += 1,
            Kind::End(_) => level -= 1,
            _ => {}
        }
    }
}
