//! How much the pass would write, counted before it does: a small module can ask for very much.
//!
//! Code grows with the code it stands for, and that is all right. What can grow beyond any relation are values: a function
//! declares 50,000 locals in four bytes, and each of its versions saves and loads all of them; a call of two bytes takes and
//! gives a thousand operands; a point names all that is live at it. So the bytes of everything that is written for values
//! are counted with the rest, for each point and each version, and a module in which they are out of all proportion is refused.

use super::{
    body::Kind,
    call_types::CallTypes,
    features::{BODY, VALUES},
    function::{Function, MOST_CLEARED},
    limits::{MOST_BODY, MOST_BYTES},
    options::Policy,
    refusal::{Refusal, Result},
    select::Stand,
    types::{Signature, Type},
};

/// What any module may become, however little code it has.
const FREE: usize = 8 << 20;
/// Bytes that each byte of code may become. Programs become 1 to 5, as counted here.
const EACH: usize = 128;
/// The same where there is a point before every instruction. Programs become some 50 then.
const EACH_EVERYWHERE: usize = 1024;

/// Bytes to move a value between a local and the stack, and to call the host with it or for it.
const MOVE: usize = 4;
const CALL: usize = 5;
/// Bytes of a poll or check, of the way to it through the door, and of its metadata, without values.
const POINT_NORMAL: usize = 32;
const POINT_RESUME: usize = 48;
const POINT_DESCRIBED: usize = 6;
/// What is kept of a function beside its bytes.
const FUNCTION: usize = 512;
/// Bytes of the way into a construct.
const WAY_IN: usize = 24;

/// How much may be written for so many bytes of code.
#[must_use]
pub fn limit(policy: Policy, code: usize) -> usize {
    let each = if policy == Policy::Instruction { EACH_EVERYWHERE } else { EACH };
    code.saturating_mul(each).saturating_add(FREE).min(MOST_BYTES)
}

/// What was counted for a whole module, and the most that it might have been.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub counted: usize,
    pub limit: usize,
}

/// About how many bytes are written for a function or an import, and where in the file it is.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub bytes: usize,
    /// Those of them that are in the metadata, which no limit of functions counts.
    pub described: usize,
    pub offset: u32,
}

impl Cost {
    /// Whether the function can be small enough for engines. The count of its code is high, but never by so much; a closer look would
    /// take the memory.
    ///
    /// # Errors
    /// `Unsupported` when it is too large.
    pub fn check(&self) -> Result<()> {
        let refusal = || Refusal::Unsupported { feature: BODY, offset: self.offset as usize };
        if self.bytes - self.described > 8 * MOST_BODY { Err(refusal()) } else { Ok(()) }
    }

    /// Of a function, which is about to be written.
    #[must_use]
    pub fn of(function: &Function<'_>, types: &CallTypes<'_>, merged: bool) -> Self {
        let code = function.code;
        let versions = if merged { 1 } else { 2 };
        let body = (function.end - code.locals_at) as usize;
        let labels: usize = code.tables.iter().map(Vec::len).sum();
        let frame: usize = code.locals.iter().chain(&function.temps.types).map(|ty| transfer(*ty)).sum();
        let zeros: usize = code.results.iter().chain(&code.locals[..code.params as usize]).map(|ty| zero(*ty)).sum();
        // Saved by each version and loaded by one; and named in the metadata.
        let mut bytes = FUNCTION + versions * (body + 2 * labels + zeros) + (versions + 1) * frame;
        if !merged {
            // What is on the stack at points is kept in temporaries when it is made.
            bytes += MOVE * code.operands.len() + copies(function);
        }
        let mut described = 0;
        for (number, point) in function.points.iter().enumerate() {
            let operands = code.height(point.stack) as usize;
            let live = function.live.count(number);
            described += POINT_DESCRIBED + live + 2 * operands;
            bytes += POINT_RESUME + 2 * MOVE * operands;
            if point.normal && !merged {
                bytes += POINT_NORMAL + 2 * MOVE * operands;
            }
            if point.stand == Stand::In {
                let kind = code.instructions[point.index as usize].kind;
                bytes += MOVE * (2 * types.taken(kind) + 3 * types.results(kind).len());
            }
            let dead = code.locals.len() - live;
            if dead <= MOST_CLEARED && function.clears(point) {
                bytes += versions * 2 * MOVE * dead;
            }
        }
        bytes += ways_in(function) + described;
        Self { bytes, described, offset: code.locals_at }
    }

    /// Of the two functions that stand for an import.
    #[must_use]
    pub fn of_import(signature: &Signature, offset: u32) -> Self {
        let params: usize = signature.params.iter().map(|ty| 3 * transfer(*ty) + 2 * MOVE).sum();
        let results: usize = signature.results.iter().map(|ty| 2 * zero(*ty)).sum();
        Self { bytes: params + results + 2 * POINT_NORMAL, described: 0, offset }
    }

    /// Why a module with too much of it is refused.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        Refusal::Unsupported { feature: VALUES, offset: self.offset as usize }
    }
}

/// Bytes to save a value or to load it.
fn transfer(ty: Type) -> usize {
    if ty == Type::V128 { 2 * (MOVE + CALL + 2) } else { MOVE + CALL }
}

/// Bytes of a zero.
fn zero(ty: Type) -> usize {
    match ty {
        Type::I32 | Type::I64 | Type::Func | Type::Extern => 2,
        Type::F32 => 5,
        Type::F64 => 9,
        Type::V128 => 18,
    }
}

/// What loops are written for more than once.
fn copies(function: &Function<'_>) -> usize {
    let code = function.code;
    let loops = code.instructions.iter().filter_map(|instruction| function.copies(instruction.kind));
    let size = |construct: u32| {
        let (start, end) = (code.constructs[construct as usize].start, code.constructs[construct as usize].end);
        (code.instructions[end as usize].offset - code.instructions[start as usize].offset) as usize
    };
    loops.map(|(construct, copies)| 2 * copies as usize * size(construct)).sum()
}

/// The ways into constructs that contain points: past the operands beneath them, and with those they take.
fn ways_in(function: &Function<'_>) -> usize {
    let code = function.code;
    let mut bytes = 0;
    for construct in &code.constructs[1..] {
        let after = function.points.partition_point(|point| point.index <= construct.start);
        if function.points.get(after).is_some_and(|point| point.index < construct.end) {
            let around = code.constructs[construct.parent as usize].base;
            let start = &code.instructions[construct.start as usize];
            let condition = u32::from(matches!(start.kind, Kind::If(_)));
            let own = (code.height(start.stack) - condition).saturating_sub(around) + 2 * construct.params;
            bytes += WAY_IN + 2 * MOVE * own as usize;
        }
    }
    bytes
}
