//! Which loops poll under the policy `loop`, and how often.
//!
//! Two things keep polls off hot paths without letting a guest run on unstopped:
//!
//! * A loop needs no poll where each of its turns is sure to enter another loop that has one, or to call a function that
//!   polls at its entry. So of nested loops the inner one polls, once at its entry and then once for some number of its turns.
//! * A loop that polls and has no other point inside is *unrolled*: its body is written several times, and only the
//!   first copy polls. That is exact: a point is "before the body's first instruction" in all copies alike, and those
//!   that do not poll are turns at which the guest just cannot be stopped. A long body is written once.
//!
//! The bound on the time to a stop is that of [`TURN`] instructions, plus what runs between loops: straight-line code, calls
//! of functions that neither loop nor recurse, and single instructions that work on much memory.

use super::{
    body::{Code, Index, Kind},
    calls::Calls,
    options::Policy,
    select::{Point, Stand},
};

/// Instructions that an unrolled loop should have between two polls.
const TURN: u32 = 16;
/// The most copies of a body.
const MOST_COPIES: u32 = 4;
/// Instructions of a function that is worth two versions if it loops at all.
const SMALL: usize = 120;
/// One with a jump table of more labels than this is taken for an interpreter, whose loop is the hottest there is.
const INTERPRETER: usize = 64;
/// A larger one is worth two if at least one of so many instructions is in a tight loop.
const TIGHT_SHARE: usize = 5;

/// Of each construct, whether it is a loop that polls.
#[must_use]
pub fn polled(code: &Code, policy: Policy, calls: &Calls) -> Vec<bool> {
    let mut polled = vec![false; code.constructs.len()];
    match policy {
        Policy::LoopAll => {
            for (polls, construct) in polled.iter_mut().zip(&code.constructs) {
                *polls = construct.is_loop;
            }
        }
        Policy::Loop if code.constructs.iter().any(|construct| construct.is_loop) => choose(code, calls, &mut polled),
        Policy::Loop | Policy::Call | Policy::Function | Policy::Instruction => {}
    }
    polled
}

/// Walks the constructs from the inside out. `sure` is, of each, the first of its instructions by which each way through it polls: a
/// loop that does, or a call of a function that does so at its entry.
fn choose(code: &Code, calls: &Calls, polled: &mut [bool]) {
    let branches = first_branches(code);
    let mut sure = first_calls(code, calls);
    let is_if = |construct: usize| {
        let start = code.constructs[construct].start;
        matches!(code.instructions.get(start as usize).map(|start| start.kind), Some(Kind::If(number)) if number as usize == construct)
    };
    for number in (1..code.constructs.len()).rev() {
        let construct = &code.constructs[number];
        // A branch to here leaves out what comes behind it: of a loop that is the rest of the turn, of a block its rest. One
        // that goes further out is looked at there. And of an `if` an arm may not run at all.
        sure[number] = sure[number].filter(|surely| branches[number] > *surely && !is_if(number));
        if construct.is_loop && sure[number].is_none() && branches[number] != Index::MAX {
            polled[number] = true;
            sure[number] = Some(construct.start);
        }
        if let Some(surely) = sure[number] {
            let outer = &mut sure[construct.parent as usize];
            *outer = Some(outer.map_or(surely, |other| other.min(surely)));
        }
    }
}

/// Of each construct, the first instruction of its own that calls a function which polls at its entry.
fn first_calls(code: &Code, calls: &Calls) -> Vec<Option<Index>> {
    let mut first = vec![None; code.constructs.len()];
    let mut open = vec![0u32];
    for (index, instruction) in (0u32..).zip(&code.instructions) {
        match instruction.kind {
            Kind::Block(construct) | Kind::Loop(construct) | Kind::If(construct) => open.push(construct),
            Kind::End(_) => {
                open.pop();
            }
            Kind::Call(function) if !instruction.dead && calls.polls_at_entry[function as usize] => {
                let construct = open.last().map_or(0, |construct| *construct as usize);
                let _: &mut Index = first[construct].get_or_insert(index);
            }
            _ => {}
        }
    }
    first
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

/// Whether one version is enough for a function, which then enters and goes on by the same code. That costs some speed where
/// the function loops or recurses, and a second version costs its size once more; so those get two that are small or that look
/// as if they spent their time in their own loops.
#[must_use]
pub fn cold(code: &Code, points: &[Point], recurses: bool) -> bool {
    if !recurses && !code.constructs.iter().any(|construct| construct.is_loop) {
        return true;
    }
    if code.tables.iter().any(|labels| labels.len() > INTERPRETER) {
        return false;
    }
    code.instructions.len() > SMALL && tight(code, points) * TIGHT_SHARE < code.instructions.len()
}

/// How many instructions are in loops that make no call at which the function could be left.
fn tight(code: &Code, points: &[Point]) -> usize {
    let mut covered = 0;
    let mut instructions = 0;
    let exits = points.iter().filter(|point| point.host_call || point.stand == Stand::In);
    let exits: Vec<Index> = exits.map(|point| point.index).collect();
    for construct in &code.constructs {
        if !construct.is_loop || construct.start < covered {
            continue;
        }
        let after = exits.partition_point(|exit| *exit <= construct.start);
        if exits.get(after).is_none_or(|exit| *exit >= construct.end) {
            covered = construct.end;
            instructions += (construct.end - construct.start) as usize;
        }
    }
    instructions
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
        let length = construct.end - construct.start;
        if length > TURN {
            continue;
        }
        let after = points.partition_point(|other| other.index <= construct.start);
        let inside = points[after..].iter().take_while(|other| other.index < construct.end).count();
        if inside == 1 {
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
