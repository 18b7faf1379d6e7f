//! The custom section `kedge.points`: what a host needs to make, read and enter frames without the pass.
//!
//! ```text
//! version      byte, 2
//! policy       byte
//! hash         32 bytes: SHA-256 of the original module
//! functions    vector, one for each slot of the resume table in order, of
//!                function      original index, minus that of the one before (the first: minus 0)
//!                points        how many points it has
//!                size          bytes of its points in the last field
//!                locals        vector of runs: count, type letter; parameters are the first locals
//!                temporaries   vector of runs: count, type letter
//! globals      vector of mutable globals: original index, type letter
//! functions by ordinal   vector of original indices, each minus the one before
//! tables       vector of tables that have `kedge:table_set:N`
//! data         vector of data segments that have `kedge:dropped_data:N`
//! elements     vector of element segments that have `kedge:dropped_elem:N`
//! flags        byte: 1 there is a start function (`kedge:start`)
//! points       of each function in turn, of each of its points in order of (offset, stand)
//!                offset        (offset in the file - that of the point before) * 2 + stand (0 at, 1 in)
//!                live          vector of locals, each minus the one before
//!                operands      vector of temporaries, from the bottom of the stack up
//! ```
//!
//! When a frame leaves, the values of all its locals and then of all its temporaries are saved, in the order in which they are
//! loaded again. Those that the point does not name mean nothing: they are to be left out, and are loaded as zeros.
//!
//! Numbers are unsigned LEB128; a vector is a count and its items. Points are numbered through the module in this order,
//! and within a function from 1: that is what `entry` returns. An operand has the type of its temporary.

use wasm_encoder::Encode;
use wasmparser::BinaryReader;

use super::{
    function::Function,
    options::Policy,
    refusal::{Refusal, Result},
    select::Stand,
    types::Type,
};

/// Name of the section.
pub const SECTION: &str = "kedge.points";
const VERSION: u8 = 2;
const HAS_START: u8 = 1;
/// More locals than any function may have.
const MOST_VALUES: usize = 1 << 20;

/// A function that has a resume version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    pub function: u32,
    pub locals: Vec<Type>,
    pub temps: Vec<Type>,
    pub first_point: u32,
    pub point_count: u32,
    /// Where its points are in [`Metadata::points`].
    at: usize,
    size: usize,
}

/// A stable point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointInfo {
    pub number: u32,
    pub function: u32,
    pub offset: u32,
    pub stand: Stand,
    /// What `entry` returns to enter it.
    pub ordinal: u32,
    pub live: Vec<u32>,
    pub operands: Vec<u32>,
}

/// What the section says of one function, wherever that stands among the others.
pub struct Described {
    locals: Vec<Type>,
    temps: Vec<Type>,
    count: u32,
    points: Vec<u8>,
}

impl Described {
    /// Of a function with all of its points.
    #[must_use]
    pub fn of(function: &Function<'_>) -> Self {
        let mut points = Vec::with_capacity(8 * function.points.len());
        let mut before = 0;
        for (number, point) in function.points.iter().enumerate() {
            let offset = function.code.instructions[point.index as usize].offset;
            ((offset - before) * 2 + u32::from(point.stand == Stand::In)).encode(&mut points);
            before = offset;
            function.live.count(number).encode(&mut points);
            encode_deltas(function.live.locals(number), &mut points);
            let operands = function.operands(point);
            operands.len().encode(&mut points);
            for node in operands {
                let operand = function.code.operands[node as usize];
                function.temps.get(operand.height, operand.ty).unwrap_or(u32::MAX).encode(&mut points);
            }
        }
        Self {
            locals: function.code.locals.clone(),
            temps: function.temps.types.clone(),
            count: u32::try_from(function.points.len()).unwrap_or(u32::MAX),
            points,
        }
    }
}

/// The contents of the section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub policy: Policy,
    pub hash: [u8; 32],
    pub functions: Vec<Resumable>,
    pub globals: Vec<(u32, Type)>,
    pub referenced: Vec<u32>,
    pub tables: Vec<u32>,
    pub dropped_data: Vec<u32>,
    pub dropped_elements: Vec<u32>,
    pub has_start: bool,
    points: Vec<u8>,
}

impl Metadata {
    #[must_use]
    pub fn new(policy: Policy, hash: [u8; 32]) -> Self {
        Self {
            policy,
            hash,
            functions: Vec::new(),
            globals: Vec::new(),
            referenced: Vec::new(),
            tables: Vec::new(),
            dropped_data: Vec::new(),
            dropped_elements: Vec::new(),
            has_start: false,
            points: Vec::new(),
        }
    }

    /// How many points there are.
    #[must_use]
    pub fn point_count(&self) -> u32 {
        self.functions.last().map_or(0, |last| last.first_point + last.point_count)
    }

    /// Adds a function with all of its points.
    pub fn add(&mut self, function: u32, described: Described) {
        let at = self.points.len();
        self.points.extend_from_slice(&described.points);
        self.functions.push(Resumable {
            function,
            locals: described.locals,
            temps: described.temps,
            first_point: self.point_count(),
            point_count: described.count,
            at,
            size: described.points.len(),
        });
    }

    /// Adds the function that stands for an import where it is referred to: one point, before its call.
    pub fn add_import(&mut self, index: u32, params: &[Type]) {
        let at = self.points.len();
        0u32.encode(&mut self.points);
        params.len().encode(&mut self.points);
        encode_deltas((0..).take(params.len()), &mut self.points);
        0u32.encode(&mut self.points);
        self.functions.push(Resumable {
            function: index,
            locals: params.to_vec(),
            temps: Vec::new(),
            first_point: self.point_count(),
            point_count: 1,
            at,
            size: self.points.len() - at,
        });
    }

    /// The bytes of the section.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.policy.number()];
        out.extend_from_slice(&self.hash);
        self.functions.len().encode(&mut out);
        let mut before = 0;
        for resumable in &self.functions {
            (resumable.function - before).encode(&mut out);
            before = resumable.function;
            resumable.point_count.encode(&mut out);
            resumable.size.encode(&mut out);
            encode_runs(&resumable.locals, &mut out);
            encode_runs(&resumable.temps, &mut out);
        }
        self.globals.len().encode(&mut out);
        for (global, ty) in &self.globals {
            global.encode(&mut out);
            out.push(ty.letter());
        }
        encode_increasing(self.referenced.iter().copied(), &mut out);
        for list in [&self.tables, &self.dropped_data, &self.dropped_elements] {
            list.as_slice().len().encode(&mut out);
            for item in list {
                item.encode(&mut out);
            }
        }
        out.push(if self.has_start { HAS_START } else { 0 });
        out.extend_from_slice(&self.points);
        out
    }

    /// Reads the section. Its points are only looked at when one is asked for.
    ///
    /// # Errors
    /// `Invalid` when it is not what [`Metadata::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = BinaryReader::new(bytes, 0);
        if reader.read_u8()? != VERSION {
            return Err(invalid("unknown version of the point table", 0));
        }
        let policy = Policy::from_number(reader.read_u8()?).ok_or_else(|| invalid("unknown policy", 1))?;
        let hash: [u8; 32] = reader.read_bytes(32)?.try_into().unwrap_or([0; 32]);
        let mut metadata = Self::new(policy, hash);
        let (mut function, mut first_point, mut at) = (0u32, 0u32, 0usize);
        for _ in 0..reader.read_var_u32()? {
            function = add(function, reader.read_var_u32()?, &reader)?;
            let point_count = reader.read_var_u32()?;
            let size = reader.read_var_u32()? as usize;
            let locals = decode_runs(&mut reader)?;
            let temps = decode_runs(&mut reader)?;
            metadata.functions.push(Resumable { function, locals, temps, first_point, point_count, at, size });
            first_point = add(first_point, point_count, &reader)?;
            at += size;
        }
        for _ in 0..reader.read_var_u32()? {
            let global = reader.read_var_u32()?;
            metadata.globals.push((global, decode_letter(&mut reader)?));
        }
        metadata.referenced = decode_increasing(&mut reader)?;
        for list in [&mut metadata.tables, &mut metadata.dropped_data, &mut metadata.dropped_elements] {
            for _ in 0..reader.read_var_u32()? {
                list.push(reader.read_var_u32()?);
            }
        }
        metadata.has_start = reader.read_u8()? & HAS_START != 0;
        metadata.points = reader.read_bytes(reader.bytes_remaining())?.to_vec();
        if metadata.points.len() != at {
            return Err(invalid("the points are not as long as they say", bytes.len()));
        }
        Ok(metadata)
    }

    /// The points of a slot of the resume table.
    ///
    /// # Errors
    /// `Invalid` when they are malformed.
    pub fn points(&self, slot: usize) -> Result<Vec<PointInfo>> {
        let Some(resumable) = self.functions.get(slot) else { return Ok(Vec::new()) };
        let bytes = self.points.get(resumable.at..resumable.at + resumable.size).unwrap_or_default();
        let mut reader = BinaryReader::new(bytes, 0);
        let mut points = Vec::new();
        let mut offset = 0u32;
        for i in 0..resumable.point_count {
            let packed = reader.read_var_u32()?;
            offset = add(offset, packed / 2, &reader)?;
            let stand = if packed % 2 == 0 { Stand::At } else { Stand::In };
            let live = decode_increasing(&mut reader)?;
            let mut operands = Vec::new();
            for _ in 0..reader.read_var_u32()? {
                operands.push(reader.read_var_u32()?);
            }
            if live.last().is_some_and(|last| *last as usize >= resumable.locals.len())
                || operands.iter().any(|temp| *temp as usize >= resumable.temps.len())
            {
                return Err(invalid("a point with a local that its function has not", 0));
            }
            points.push(PointInfo {
                number: resumable.first_point + i,
                function: resumable.function,
                offset,
                stand,
                ordinal: i + 1,
                live,
                operands,
            });
        }
        Ok(points)
    }

    /// The slot of the resume table whose function has this point.
    #[must_use]
    pub fn slot_of(&self, point: u32) -> Option<usize> {
        let after = self.functions.partition_point(|resumable| resumable.first_point <= point);
        let slot = after.checked_sub(1)?;
        let resumable = &self.functions[slot];
        (point < resumable.first_point + resumable.point_count).then_some(slot)
    }
}

fn invalid(message: &str, offset: usize) -> Refusal {
    Refusal::Invalid { message: message.to_owned(), offset }
}

fn add(before: u32, more: u32, reader: &BinaryReader<'_>) -> Result<u32> {
    before.checked_add(more).ok_or_else(|| {
        invalid("a number is too large", usize::try_from(reader.original_position()).unwrap_or(usize::MAX))
    })
}

fn encode_increasing(items: impl ExactSizeIterator<Item = u32>, out: &mut Vec<u8>) {
    items.len().encode(out);
    encode_deltas(items, out);
}

fn encode_deltas(items: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    let mut before = 0;
    for item in items {
        (item - before).encode(out);
        before = item;
    }
}

fn decode_increasing(reader: &mut BinaryReader<'_>) -> Result<Vec<u32>> {
    let mut items = Vec::new();
    let mut before = 0;
    for _ in 0..reader.read_var_u32()? {
        before = add(before, reader.read_var_u32()?, reader)?;
        items.push(before);
    }
    Ok(items)
}

fn encode_runs(types: &[Type], out: &mut Vec<u8>) {
    types.chunk_by(|a, b| a == b).count().encode(out);
    for same in types.chunk_by(|a, b| a == b) {
        same.len().encode(out);
        out.push(same[0].letter());
    }
}

fn decode_runs(reader: &mut BinaryReader<'_>) -> Result<Vec<Type>> {
    let mut types = Vec::new();
    for _ in 0..reader.read_var_u32()? {
        let count = reader.read_var_u32()? as usize;
        let ty = decode_letter(reader)?;
        if count > MOST_VALUES || types.len() + count > MOST_VALUES {
            return Err(invalid("too many locals", 0));
        }
        types.extend(std::iter::repeat_n(ty, count));
    }
    Ok(types)
}

fn decode_letter(reader: &mut BinaryReader<'_>) -> Result<Type> {
    let letter = reader.read_u8()?;
    Type::from_letter(letter).ok_or_else(|| invalid("unknown type letter", 0))
}
