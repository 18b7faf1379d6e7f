//! One function, decoded for instrumentation: its instructions, its nesting, and the operand stack before each of them.
//!
//! The operand stack is a linked list in an arena. An instruction that pushes adds nodes whose parent is what lies
//! beneath, so the whole stack at any instruction is one number, and operands that stay where they are are the same
//! node from the instruction that made them to the one that takes them.
//!
//! Code that cannot be reached has no operand types. It is marked, never holds a point, and is left out where the
//! structure around it changes.

use wasmparser::{BlockType, FuncValidatorAllocations, Operator, OperatorsReader};

use super::{
    module::{Body, Edit, place},
    refusal::{Refusal, Result, covered},
    types::Type,
};

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
#[derive(Clone, Copy, Debug)]
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
    /// Assignments to locals as (local, instruction), sorted.
    pub assignments: Vec<(u32, Index)>,
    /// Start of the declarations of locals, and where the first instruction starts, as offsets in the file.
    pub locals_at: u32,
    pub code_at: u32,
}

/// A construct that is open during decoding.
struct Open {
    construct: u32,
    /// The operand stack beneath its parameters.
    base: Node,
    /// It is all dead code.
    dead: bool,
}

impl Code {
    /// Decodes a function that has been validated before.
    ///
    /// # Errors
    /// Only what validation would have found, or a type the pass does not cover.
    pub fn decode(
        body: &Body<'_>,
        params: &[Type],
        results: &[Type],
        allocations: &mut FuncValidatorAllocations,
    ) -> Result<Self> {
        let mut checker = body.validator().into_validator(std::mem::take(allocations));
        let mut reader = body.body.get_binary_reader();
        reader.set_features(covered());
        let locals_at = place(reader.original_position());
        checker.read_locals(&mut reader)?;
        let mut locals = params.to_vec();
        for group in body.body.get_locals_reader()? {
            let (count, ty) = group?;
            locals.extend(std::iter::repeat_n(Type::from_wasm(ty, locals_at as usize)?, count as usize));
        }
        let code_at = place(reader.original_position());
        let nothing = Operand { ty: Type::I32, origin: Origin::Constant, producer: 0, height: 0, beneath: BOTTOM };
        let function = Construct {
            start: 0,
            otherwise: None,
            end: 0,
            parent: 0,
            is_loop: false,
            base: 0,
            params: 0,
            has_type: false,
        };
        let mut decoder = Decoder {
            code: Self {
                locals,
                params: u32::try_from(params.len()).unwrap_or(u32::MAX),
                results: results.to_vec(),
                instructions: Vec::new(),
                constructs: vec![function],
                operands: vec![nothing],
                tables: Vec::new(),
                assignments: Vec::new(),
                locals_at,
                code_at,
            },
            open: vec![Open { construct: 0, base: BOTTOM, dead: false }],
            stack: BOTTOM,
            dead: false,
        };
        let mut operators = OperatorsReader::new(reader);
        while !operators.eof() {
            let offset = operators.original_position();
            let operator = operators.read()?;
            decoder.step(&mut checker, offset, &operator)?;
        }
        *allocations = checker.into_allocations();
        let mut code = decoder.code;
        code.assignments.sort_unstable();
        Ok(code)
    }

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

    /// Whether a local is assigned in the instructions from `from` to `to`, both included.
    #[must_use]
    pub fn assigned(&self, local: u32, from: Index, to: Index) -> bool {
        let at = self.assignments.partition_point(|entry| *entry < (local, from));
        self.assignments.get(at).is_some_and(|entry| *entry <= (local, to))
    }

    /// Where an instruction's bytes end.
    #[must_use]
    pub fn end_of(&self, index: Index, file_end: u32) -> u32 {
        self.instructions.get(index as usize + 1).map_or(file_end, |next| next.offset)
    }
}

type Checker = wasmparser::FuncValidator<wasmparser::ValidatorResources>;

struct Decoder {
    code: Code,
    open: Vec<Open>,
    stack: Node,
    dead: bool,
}

impl Decoder {
    fn step(&mut self, checker: &mut Checker, offset: u64, operator: &Operator<'_>) -> Result<()> {
        let index = u32::try_from(self.code.instructions.len()).unwrap_or(u32::MAX);
        let arity = if self.dead { None } else { operator.operator_arity(checker) };
        checker.op(offset, operator)?;
        let (kind, origin) = self.classify(operator, index);
        let mut instruction = Instruction { offset: place(offset), kind, stack: self.stack, dead: self.dead };

        match kind {
            Kind::Else(_) | Kind::End(_) => {
                // The end of a construct that was entered is alive again, whatever came before it.
                let open = &self.open[self.open.len() - 1];
                instruction.dead = open.dead;
                let (construct, base, dead) = (open.construct, open.base, open.dead);
                let is_end = matches!(kind, Kind::End(_));
                if is_end {
                    self.open.pop();
                    self.code.constructs[construct as usize].end = index;
                } else {
                    self.code.constructs[construct as usize].otherwise = Some(index);
                }
                self.dead = dead;
                self.stack = base;
                if !(dead || is_end && self.open.is_empty()) {
                    let height = self.code.height(base);
                    let pushed = checker.operand_stack_height() - height;
                    self.push(checker, pushed, index, Origin::Computed, offset)?;
                }
            }
            _ => {
                if let Some((pops, pushes)) = arity {
                    self.stack = self.code.without(self.stack, pops as usize);
                    let beneath = self.stack;
                    self.push(checker, pushes, index, origin, offset)?;
                    if let Kind::Block(_) | Kind::Loop(_) | Kind::If(_) = kind {
                        self.enter(operator, index, beneath, pushes);
                    }
                } else if let Kind::Block(_) | Kind::Loop(_) | Kind::If(_) = kind {
                    self.enter(operator, index, self.stack, 0);
                }
                if checker.get_control_frame(0).is_some_and(|frame| frame.unreachable) {
                    self.dead = true;
                }
            }
        }
        self.code.instructions.push(instruction);
        Ok(())
    }

    fn enter(&mut self, operator: &Operator<'_>, start: Index, base: Node, params: u32) {
        let parent = self.open.last().map_or(0, |open| open.construct);
        let construct = u32::try_from(self.code.constructs.len()).unwrap_or(u32::MAX);
        let is_loop = matches!(operator, Operator::Loop { .. });
        let has_type = matches!(
            operator,
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty }
                if matches!(blockty, BlockType::FuncType(_))
        );
        let height = self.code.height(base);
        self.code.constructs.push(Construct {
            start,
            otherwise: None,
            end: start,
            parent,
            is_loop,
            base: height,
            params,
            has_type,
        });
        self.open.push(Open { construct, base, dead: self.dead });
    }

    fn push(&mut self, checker: &Checker, count: u32, producer: Index, origin: Origin, offset: u64) -> Result<()> {
        for i in 0..count {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let depth = (count - 1 - i) as usize;
            // After an instruction that ends its block, what it pushed is of any type; nobody will look at it.
            let ty = match checker.get_operand_type(depth).flatten() {
                Some(ty) => Type::from_wasm(ty, offset)?,
                None => Type::I32,
            };
            let node = u32::try_from(self.code.operands.len())
                .map_err(|_| Refusal::Unsupported { feature: "a function of this size", offset })?;
            let height = self.code.height(self.stack);
            self.code.operands.push(Operand { ty, origin, producer, height, beneath: self.stack });
            self.stack = node;
        }
        Ok(())
    }

    fn classify(&mut self, operator: &Operator<'_>, index: Index) -> (Kind, Origin) {
        let current = self.open.last().map_or(0, |open| open.construct);
        let next = u32::try_from(self.code.constructs.len()).unwrap_or(u32::MAX);
        let mut origin = Origin::Computed;
        let kind = match *operator {
            Operator::Block { .. } => Kind::Block(next),
            Operator::Loop { .. } => Kind::Loop(next),
            Operator::If { .. } => Kind::If(next),
            Operator::Else => Kind::Else(current),
            Operator::End => Kind::End(current),
            Operator::Br { relative_depth } => Kind::Br(relative_depth),
            Operator::BrIf { relative_depth } => Kind::BrIf(relative_depth),
            Operator::BrTable { ref targets } => {
                let mut labels: Vec<u32> = targets.targets().filter_map(std::result::Result::ok).collect();
                labels.push(targets.default());
                self.code.tables.push(labels);
                Kind::BrTable(u32::try_from(self.code.tables.len() - 1).unwrap_or(u32::MAX))
            }
            Operator::Return => Kind::Return,
            Operator::Unreachable => Kind::Unreachable,
            Operator::Call { function_index } => Kind::Call(function_index),
            Operator::CallIndirect { type_index: ty, table_index: table } => Kind::CallIndirect { ty, table },
            Operator::ReturnCall { function_index } => Kind::TailCall(function_index),
            Operator::ReturnCallIndirect { .. } => Kind::TailCallIndirect,
            Operator::LocalGet { local_index } => {
                origin = Origin::Local(local_index);
                Kind::LocalGet(local_index)
            }
            Operator::LocalSet { local_index } => {
                self.code.assignments.push((local_index, index));
                Kind::LocalSet(local_index)
            }
            Operator::LocalTee { local_index } => {
                self.code.assignments.push((local_index, index));
                origin = Origin::Local(local_index);
                Kind::LocalTee(local_index)
            }
            Operator::RefFunc { function_index } => Kind::RefFunc(function_index),
            Operator::DataDrop { data_index } => Kind::DataDrop(data_index),
            Operator::ElemDrop { elem_index } => Kind::ElemDrop(elem_index),
            Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::V128Const { .. }
            | Operator::RefNull { .. } => {
                origin = Origin::Constant;
                Kind::Plain
            }
            _ => Kind::Plain,
        };
        (kind, origin)
    }
}
