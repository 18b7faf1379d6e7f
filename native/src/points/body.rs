//! One function, decoded for instrumentation: its instructions, its nesting, and the operand stack before each of them.
//!
//! The operand stack is a linked list in an arena. An instruction that pushes adds nodes whose parent is what lies
//! beneath, so the whole stack at any instruction is one number, and operands that stay where they are are the same
//! node from the instruction that made them to the one that takes them.
//!
//! Code that cannot be reached has no operand types. It is marked, never holds a point, and is left out where the
//! structure around it changes.

use super::{scan::Edit, types::Type};

/// Index of an instruction in its function.
pub type Index = u32;
/// A node of the operand stack; [`BOTTOM`] is the empty stack.
pub type Node = u32;
/// The empty operand stack.
pub const BOTTOM: Node = 0;

/// Where the value of an operand can be had from, other than from the operand itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere else.
    Computed,
    /// It was read from a local, which still holds it until the next assignment.
    Local(u32),
    /// A constant: the instruction itself.
    Constant,
}

/// One operand.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub ty: Type,
    pub origin: Origin,
    /// The instruction that pushed it.
    pub producer: Index,
    /// How many operands lie beneath it.
    pub height: u32,
    pub beneath: Node,
}

/// What an instruction is, as far as the pass cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Start of a construct, by its number.
    Block(u32),
    Loop(u32),
    If(u32),
    Else(u32),
    End(u32),
    Br(u32),
    BrIf(u32),
    /// By its number in [`Code::tables`].
    BrTable(u32),
    Return,
    Unreachable,
    Call(u32),
    CallIndirect {
        ty: u32,
        table: u32,
    },
    TailCall(u32),
    TailCallIndirect,
    LocalGet(u32),
    LocalSet(u32),
    LocalTee(u32),
    RefFunc(u32),
    DataDrop(u32),
    ElemDrop(u32),
}

impl Kind {
    /// The change that this instruction needs in any copy of its function.
    #[must_use]
    pub fn edit(self) -> Option<Edit> {
        Some(match self {
            Self::Call(function) => Edit::Call(function),
            Self::TailCall(function) => Edit::TailCall(function),
            Self::RefFunc(function) => Edit::RefFunc(function),
            Self::DataDrop(segment) => Edit::DataDrop(segment),
            Self::ElemDrop(segment) => Edit::ElemDrop(segment),
            _ => return None,
        })
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    pub offset: u32,
    pub kind: Kind,
    /// The operand stack before it.
    pub stack: Node,
    /// Cannot be reached.
    pub dead: bool,
}

/// A block, loop or if; number 0 is the function itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Construct {
    pub start: Index,
    pub otherwise: Option<Index>,
    pub end: Index,
    /// The construct around it.
    pub parent: u32,
    pub is_loop: bool,
    /// Operands beneath its parameters.
    pub base: u32,
    /// How many parameters it takes from the stack.
    pub params: u32,
    /// Its type is one of the type section.
    pub has_type: bool,
}

/// Where locals are assigned.
#[derive(Default)]
pub struct Assignments {
    /// As (local, instruction), sorted. A function may have many more locals than assignments.
    all: Vec<(u32, Index)>,
}

impl Assignments {
    /// Of assignments as (local, instruction) in any order.
    #[must_use]
    pub fn new(all: &[(u32, Index)]) -> Self {
        let mut all = all.to_vec();
        all.sort_unstable();
        Self { all }
    }

    /// Whether a local is assigned in the instructions from `from` to `to`, both included.
    #[must_use]
    pub fn any(&self, local: u32, from: Index, to: Index) -> bool {
        let next = self.all.partition_point(|assignment| *assignment < (local, from));
        self.all.get(next).is_some_and(|(assigned, index)| *assigned == local && *index <= to)
    }
}

/// A decoded function.
pub struct Code {
    /// Types of all locals, parameters first.
    pub locals: Vec<Type>,
    pub params: u32,
    pub results: Vec<Type>,
    pub instructions: Vec<Instruction>,
    pub constructs: Vec<Construct>,
    pub operands: Vec<Operand>,
    /// Labels of each `br_table`, the default last.
    pub tables: Vec<Vec<u32>>,
    pub assignments: Assignments,
    /// Start of the declarations of locals, and where the first instruction starts, as offsets in the file.
    pub locals_at: u32,
    pub code_at: u32,
}

impl Code {
    /// How many operands a stack has.
    #[must_use]
    pub fn height(&self, stack: Node) -> u32 {
        if stack == BOTTOM { 0 } else { self.operands[stack as usize].height + 1 }
    }

    /// The operands of a stack that lie at or above `base`, from the bottom up.
    #[must_use]
    pub fn stack(&self, mut stack: Node, base: u32) -> Vec<Node> {
        let mut nodes = Vec::new();
        while self.height(stack) > base {
            nodes.push(stack);
            stack = self.operands[stack as usize].beneath;
        }
        nodes.reverse();
        nodes
    }

    /// The stack without its upper `count` operands.
    #[must_use]
    pub fn without(&self, mut stack: Node, count: usize) -> Node {
        for _ in 0..count {
            stack = self.operands[stack as usize].beneath;
        }
        stack
    }

    /// Where an instruction's bytes end.
    #[must_use]
    pub fn end_of(&self, index: Index, file_end: u32) -> u32 {
        self.instructions.get(index as usize + 1).map_or(file_end, |next| next.offset)
    }
}
