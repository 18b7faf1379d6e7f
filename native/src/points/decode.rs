//! Validates a function and decodes it for instrumentation, in one walk.
//!
//! The validator knows the types of operands; what it does not tell is how many of them an instruction takes. For most
//! instructions, which are one byte and immediates that do not matter, a table says so. The others are read in full.

use wasmparser::{
    BinaryReader, BlockType, FuncToValidate, FuncValidator, FuncValidatorAllocations, Operator, ValidatorResources,
};

use super::{
    body::{Assignments, BOTTOM, Code, Construct, Index, Instruction, Kind, Node, Operand, Origin},
    bytes::{leb, place},
    features,
    module::Body,
    opcodes::{Effect, FIRST_CONST, Gives, LAST_CONST, LOCAL_GET, LOCAL_SET, LOCAL_TEE, OPCODES},
    refusal::{Refusal, Result, covered},
    types::Type,
};

/// The most operands that the instructions of one function push: some for each of its bytes, of which real code needs one for
/// two; some more for small ones; and never more than that. A call of two bytes may push a thousand.
const OPERANDS_EACH: usize = 8;
const OPERANDS_FREE: usize = 1 << 18;
const MOST_OPERANDS: usize = 1 << 21;

/// What a thread keeps from one function to the next, so that it need not be allocated anew.
#[derive(Default)]
pub struct Scratch {
    allocations: FuncValidatorAllocations,
    instructions: Vec<Instruction>,
    operands: Vec<Operand>,
    constructs: Vec<Construct>,
    assignments: Vec<(u32, Index)>,
    open: Vec<Open>,
}

impl Scratch {
    /// Takes back a function that is no longer needed.
    pub fn recycle(&mut self, code: Code) {
        self.instructions = code.instructions;
        self.operands = code.operands;
        self.constructs = code.constructs;
    }

    fn checker(&mut self, function: FuncToValidate<ValidatorResources>) -> Checker {
        function.into_validator(std::mem::take(&mut self.allocations))
    }
}

fn empty<T>(list: &mut Vec<T>) -> Vec<T> {
    list.clear();
    std::mem::take(list)
}

/// Validates a function that nothing else is to be known of.
///
/// # Errors
/// What validation finds.
pub fn validate(body: &Body<'_>, scratch: &mut Scratch) -> Result<()> {
    let mut checker = scratch.checker(body.validator());
    checker.validate(&body.body)?;
    scratch.allocations = checker.into_allocations();
    Ok(())
}

/// Validates a function and decodes it.
///
/// # Errors
/// What validation finds, or a type the pass does not cover.
pub fn decode(body: &Body<'_>, params: &[Type], results: &[Type], scratch: &mut Scratch) -> Result<Code> {
    let mut checker = scratch.checker(body.validator());
    let mut reader = body.body.get_binary_reader();
    reader.set_features(covered());
    let locals_at = place(reader.original_position());
    checker.read_locals(&mut reader)?;
    let mut locals = params.to_vec();
    for group in body.body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.extend(std::iter::repeat_n(Type::from_wasm(ty, locals_at as usize)?, count as usize));
    }
    let mut code = Code {
        locals,
        params: u32::try_from(params.len()).unwrap_or(u32::MAX),
        results: results.to_vec(),
        instructions: empty(&mut scratch.instructions),
        constructs: empty(&mut scratch.constructs),
        operands: empty(&mut scratch.operands),
        tables: Vec::new(),
        assignments: Assignments::default(),
        locals_at,
        code_at: place(reader.original_position()),
    };
    code.constructs.push(Construct::default());
    // The bottom of the stack.
    code.operands.push(Operand { ty: Type::I32, origin: Origin::Constant, producer: 0, height: 0, beneath: BOTTOM });
    let mut open = empty(&mut scratch.open);
    open.push(Open { construct: 0, base: BOTTOM, dead: false });
    let assignments = empty(&mut scratch.assignments);
    let most = (OPERANDS_EACH * body.body.as_bytes().len() + OPERANDS_FREE).min(MOST_OPERANDS);
    let mut decoder = Decoder { code, checker, open, assignments, stack: BOTTOM, height: 0, dead: false, most };
    decoder.run(&mut reader, body.body.as_bytes(), body.body.range().start)?;

    let Decoder { mut code, checker, open, assignments, .. } = decoder;
    code.assignments = Assignments::new(&assignments);
    scratch.allocations = checker.into_allocations();
    (scratch.open, scratch.assignments) = (open, assignments);
    Ok(code)
}

type Checker = FuncValidator<ValidatorResources>;

/// A construct that is open during decoding.
struct Open {
    construct: u32,
    /// The operand stack beneath its parameters.
    base: Node,
    /// It is all dead code.
    dead: bool,
}

struct Decoder {
    code: Code,
    checker: Checker,
    open: Vec<Open>,
    /// Assignments to locals as (local, instruction).
    assignments: Vec<(u32, Index)>,
    stack: Node,
    /// Of the stack; of no meaning in dead code, as the stack is.
    height: u32,
    dead: bool,
    /// The most operands.
    most: usize,
}

impl Decoder {
    /// Goes through all instructions. `bytes` are those of the body, which starts at `start` of the file.
    fn run(&mut self, reader: &mut BinaryReader<'_>, bytes: &[u8], start: u64) -> Result<()> {
        while !reader.eof() {
            let offset = reader.original_position();
            let rest = &bytes[usize::try_from(offset - start).unwrap_or(usize::MAX)..];
            match OPCODES[rest[0] as usize].0 {
                Effect::Unknown => self.full(reader, offset)?,
                Effect::Takes(taken, gives) => {
                    #[cfg(debug_assertions)]
                    self.check(reader, taken, gives)?;
                    reader.visit_operator(&mut self.checker.visitor(offset))??;
                    self.plain(rest, u32::from(taken), gives, offset)?;
                }
            }
        }
        reader.finish_expression(&self.checker.visitor(reader.original_position()))?;
        Ok(())
    }

    /// The table must agree with wasmparser.
    #[cfg(debug_assertions)]
    fn check(&mut self, reader: &BinaryReader<'_>, taken: u8, gives: Gives) -> Result<()> {
        let operator = reader.peek_operator(&self.checker.visitor(reader.original_position()))?;
        let expected = operator.operator_arity(&self.checker);
        let known = Some((u32::from(taken), u32::from(gives != Gives::Nothing)));
        assert!(expected.is_none() || expected == known, "{operator:?} takes and gives {expected:?}");
        Ok(())
    }

    fn index(&self) -> Index {
        u32::try_from(self.code.instructions.len()).unwrap_or(u32::MAX)
    }

    /// An instruction of the table, which the validator has just seen.
    fn plain(&mut self, bytes: &[u8], taken: u32, gives: Gives, offset: u64) -> Result<()> {
        let index = self.index();
        let mut gives = gives;
        let (kind, origin) = match bytes[0] {
            LOCAL_GET => {
                let local = leb(&bytes[1..]).0;
                gives = Gives::One(self.code.locals[local as usize]);
                (Kind::LocalGet(local), Origin::Local(local))
            }
            LOCAL_SET => {
                let local = leb(&bytes[1..]).0;
                self.assignments.push((local, index));
                (Kind::LocalSet(local), Origin::Computed)
            }
            LOCAL_TEE => {
                let local = leb(&bytes[1..]).0;
                self.assignments.push((local, index));
                gives = Gives::One(self.code.locals[local as usize]);
                (Kind::LocalTee(local), Origin::Local(local))
            }
            FIRST_CONST..=LAST_CONST => (Kind::Plain, Origin::Constant),
            _ => (Kind::Plain, Origin::Computed),
        };
        self.code.instructions.push(Instruction { offset: place(offset), kind, stack: self.stack, dead: self.dead });
        if !self.dead {
            self.pop(taken);
            match gives {
                Gives::Nothing => {}
                Gives::One(ty) => {
                    debug_assert_eq!(Some(ty), self.top(0, offset)?, "opcode {:#x}", bytes[0]);
                    self.push_one(ty, index, origin)?;
                }
                Gives::Some => self.push(1, index, origin, offset)?,
            }
        }
        Ok(())
    }

    /// Any other instruction.
    fn full(&mut self, reader: &mut BinaryReader<'_>, offset: u64) -> Result<()> {
        let index = self.index();
        let operator = reader.peek_operator(&self.checker.visitor(offset))?;
        let arity = if self.dead { None } else { operator.operator_arity(&self.checker) };
        reader.visit_operator(&mut self.checker.visitor(offset))??;
        let (kind, origin) = self.classify(&operator);
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
                self.height = self.code.height(base);
                if !(dead || is_end && self.open.is_empty()) {
                    let pushed = self.checker.operand_stack_height() - self.height;
                    self.push(pushed, index, Origin::Computed, offset)?;
                }
            }
            _ => {
                let mut params = 0;
                let mut beneath = self.stack;
                if let Some((taken, pushed)) = arity {
                    self.pop(taken);
                    (beneath, params) = (self.stack, pushed);
                    self.push(pushed, index, origin, offset)?;
                }
                if let Kind::Block(_) | Kind::Loop(_) | Kind::If(_) = kind {
                    self.enter(&operator, index, beneath, params);
                }
                if self.checker.get_control_frame(0).is_some_and(|frame| frame.unreachable) {
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

    fn pop(&mut self, count: u32) {
        self.stack = self.code.without(self.stack, count as usize);
        self.height -= count;
    }

    /// The type of an operand of the validator's, counted from the top; nothing when it is of any type.
    fn top(&self, depth: u32, offset: u64) -> Result<Option<Type>> {
        let ty = self.checker.get_operand_type(depth as usize).flatten();
        ty.map(|ty| Type::from_wasm(ty, usize::try_from(offset).unwrap_or(usize::MAX))).transpose()
    }

    fn push(&mut self, count: u32, producer: Index, origin: Origin, offset: u64) -> Result<()> {
        for i in 0..count {
            // After an instruction that ends its block, what it pushed is of any type; nobody will look at it.
            let ty = self.top(count - 1 - i, offset)?.unwrap_or(Type::I32);
            self.push_one(ty, producer, origin)?;
        }
        Ok(())
    }

    fn push_one(&mut self, ty: Type, producer: Index, origin: Origin) -> Result<()> {
        let node = self.code.operands.len();
        if node > self.most {
            let offset = self.code.locals_at as usize;
            return Err(Refusal::Unsupported { feature: features::OPERANDS, offset });
        }
        let node = u32::try_from(node).unwrap_or(u32::MAX);
        self.code.operands.push(Operand { ty, origin, producer, height: self.height, beneath: self.stack });
        self.stack = node;
        self.height += 1;
        Ok(())
    }

    fn classify(&mut self, operator: &Operator<'_>) -> (Kind, Origin) {
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
            Operator::RefFunc { function_index } => Kind::RefFunc(function_index),
            Operator::DataDrop { data_index } => Kind::DataDrop(data_index),
            Operator::ElemDrop { elem_index } => Kind::ElemDrop(elem_index),
            Operator::V128Const { .. } | Operator::RefNull { .. } => {
                origin = Origin::Constant;
                Kind::Plain
            }
            _ => Kind::Plain,
        };
        (kind, origin)
    }
}
