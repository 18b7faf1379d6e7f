//! Instructions of one byte: how many operands they take, and what follows their opcode. All others are left to wasmparser.

use super::types::Type;

/// What an instruction does to the operand stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It takes so many operands, and gives at most one.
    Takes(u8, Gives),
    /// It must be read in full to know it.
    Unknown,
}

/// What an instruction pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    Nothing,
    One(Type),
    /// One whose type only the validator knows.
    Some,
}

/// What follows an opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    Nothing,
    /// One LEB128.
    Number,
    /// Alignment and offset, with the index of a memory between them where the alignment says so.
    Memory,
    Bytes4,
    Bytes8,
    /// It must be read in full.
    Full,
}

pub const BLOCK: u8 = 0x02;
pub const LOOP: u8 = 0x03;
pub const IF: u8 = 0x04;
pub const LOCAL_GET: u8 = 0x20;
pub const LOCAL_SET: u8 = 0x21;
pub const LOCAL_TEE: u8 = 0x22;
pub const FIRST_CONST: u8 = 0x41;
pub const LAST_CONST: u8 = 0x44;

/// Types of blocks that are reference types.
pub const FUNCREF: u8 = 0x70;
pub const EXTERNREF: u8 = 0x6f;

use Effect::{Takes, Unknown};

const NOTHING: Gives = Gives::Nothing;
const SOME: Gives = Gives::Some;
const I32: Gives = Gives::One(Type::I32);
const I64: Gives = Gives::One(Type::I64);
const F32: Gives = Gives::One(Type::F32);
const F64: Gives = Gives::One(Type::F64);

/// Of first to last opcode.
const RANGES: [(u8, u8, Effect, Immediate); 50] = [
    (0x00, 0x00, Unknown, Immediate::Nothing),                    // unreachable
    (0x01, 0x01, Takes(0, NOTHING), Immediate::Nothing),          // nop
    (0x02, 0x04, Unknown, Immediate::Number),                     // block, loop, if
    (0x05, 0x05, Unknown, Immediate::Nothing),                    // else
    (0x0b, 0x0b, Unknown, Immediate::Nothing),                    // end
    (0x0c, 0x0d, Unknown, Immediate::Number),                     // br, br_if
    (0x0f, 0x0f, Unknown, Immediate::Nothing),                    // return
    (0x1a, 0x1a, Takes(1, NOTHING), Immediate::Nothing),          // drop
    (0x1b, 0x1b, Takes(3, SOME), Immediate::Nothing),             // select
    (LOCAL_GET, LOCAL_GET, Takes(0, SOME), Immediate::Number),    // local.get
    (LOCAL_SET, LOCAL_SET, Takes(1, NOTHING), Immediate::Number), // local.set
    (LOCAL_TEE, LOCAL_TEE, Takes(1, SOME), Immediate::Number),    // local.tee
    (0x23, 0x23, Takes(0, SOME), Immediate::Full),                // global.get: its type matters
    (0x24, 0x24, Takes(1, NOTHING), Immediate::Number),           // global.set
    (0x28, 0x28, Takes(1, I32), Immediate::Memory),               // i32.load
    (0x29, 0x29, Takes(1, I64), Immediate::Memory),               // i64.load
    (0x2a, 0x2a, Takes(1, F32), Immediate::Memory),               // f32.load
    (0x2b, 0x2b, Takes(1, F64), Immediate::Memory),               // f64.load
    (0x2c, 0x2f, Takes(1, I32), Immediate::Memory),               // i32 loads of less
    (0x30, 0x35, Takes(1, I64), Immediate::Memory),               // i64 loads of less
    (0x36, 0x3e, Takes(2, NOTHING), Immediate::Memory),           // stores
    (0x3f, 0x3f, Takes(0, I32), Immediate::Number),               // memory.size
    (0x40, 0x40, Takes(1, I32), Immediate::Number),               // memory.grow
    (0x41, 0x41, Takes(0, I32), Immediate::Number),               // i32.const
    (0x42, 0x42, Takes(0, I64), Immediate::Number),               // i64.const
    (0x43, 0x43, Takes(0, F32), Immediate::Bytes4),               // f32.const
    (0x44, 0x44, Takes(0, F64), Immediate::Bytes8),               // f64.const
    (0x45, 0x45, Takes(1, I32), Immediate::Nothing),              // i32.eqz
    (0x46, 0x4f, Takes(2, I32), Immediate::Nothing),              // i32 comparisons
    (0x50, 0x50, Takes(1, I32), Immediate::Nothing),              // i64.eqz
    (0x51, 0x66, Takes(2, I32), Immediate::Nothing),              // other comparisons
    (0x67, 0x69, Takes(1, I32), Immediate::Nothing),              // i32 clz, ctz, popcnt
    (0x6a, 0x78, Takes(2, I32), Immediate::Nothing),              // i32 arithmetic
    (0x79, 0x7b, Takes(1, I64), Immediate::Nothing),              // i64 clz, ctz, popcnt
    (0x7c, 0x8a, Takes(2, I64), Immediate::Nothing),              // i64 arithmetic
    (0x8b, 0x91, Takes(1, F32), Immediate::Nothing),              // f32 abs to sqrt
    (0x92, 0x98, Takes(2, F32), Immediate::Nothing),              // f32 add to copysign
    (0x99, 0x9f, Takes(1, F64), Immediate::Nothing),              // f64 abs to sqrt
    (0xa0, 0xa6, Takes(2, F64), Immediate::Nothing),              // f64 add to copysign
    (0xa7, 0xab, Takes(1, I32), Immediate::Nothing),              // i32 of others
    (0xac, 0xb1, Takes(1, I64), Immediate::Nothing),              // i64 of others
    (0xb2, 0xb6, Takes(1, F32), Immediate::Nothing),              // f32 of others
    (0xb7, 0xbb, Takes(1, F64), Immediate::Nothing),              // f64 of others
    (0xbc, 0xbc, Takes(1, I32), Immediate::Nothing),              // reinterpretations
    (0xbd, 0xbd, Takes(1, I64), Immediate::Nothing),
    (0xbe, 0xbe, Takes(1, F32), Immediate::Nothing),
    (0xbf, 0xbf, Takes(1, F64), Immediate::Nothing),
    (0xc0, 0xc1, Takes(1, I32), Immediate::Nothing), // sign extension
    (0xc2, 0xc4, Takes(1, I64), Immediate::Nothing),
    (0xd1, 0xd1, Takes(1, I32), Immediate::Nothing), // ref.is_null
];

/// Of each opcode.
pub const OPCODES: [(Effect, Immediate); 256] = opcodes();

const fn opcodes() -> [(Effect, Immediate); 256] {
    let mut table = [(Unknown, Immediate::Full); 256];
    let mut range = 0;
    while range < RANGES.len() {
        let (first, last, effect, immediate) = RANGES[range];
        let mut opcode = first as usize;
        while opcode <= last as usize {
            table[opcode] = (effect, immediate);
            opcode += 1;
        }
        range += 1;
    }
    table
}

impl Immediate {
    /// How many bytes it has at the start of these; nothing when it has to be read in full, or ends beyond them.
    #[must_use]
    pub fn length(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Nothing => Some(0),
            Self::Number => number(bytes),
            Self::Memory => {
                let named = usize::from(bytes.first()? & HAS_MEMORY != 0);
                let mut length = 0;
                for _ in 0..2 + named {
                    length += number(bytes.get(length..)?)?;
                }
                Some(length)
            }
            Self::Bytes4 => Some(4),
            Self::Bytes8 => Some(8),
            Self::Full => None,
        }
    }
}

/// Bit of an alignment that says that the index of a memory follows.
const HAS_MEMORY: u8 = 0x40;

fn number(bytes: &[u8]) -> Option<usize> {
    Some(bytes.iter().position(|byte| byte & 0x80 == 0)? + 1)
}
