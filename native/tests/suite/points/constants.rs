//! Functions of many points: the numbers of these are made of few constants, for WAMR copies all that a function has into each of
//! its frames.

use std::collections::BTreeSet;

use kedge_native::points::{instrument, options::Policy};
use wasmi::Val;
use wasmparser::{Operator, Parser, Payload};

use super::{options, stop_everywhere};

/// The function `run` makes so many calls, in blocks and in both arms of ifs, and has nothing beside them, or a loop that is
/// worth two versions.
fn module(calls: usize, two: bool) -> Vec<u8> {
    let ten = "(call $l)".repeat(10);
    let group = format!(
        "{ten} (block (br_if 0 (local.get 0)) {ten})
         (if (local.get 0) (then {ten} (loop {ten})) (else (if (local.get 0) (then {ten})) {ten}))"
    );
    let mut labels = String::new();
    if two {
        labels = format!("(block (br_table {} (local.get 0)))", "0 ".repeat(100));
    }
    let text = format!(
        r#"(module (memory (export "memory") 1)
          (func $l (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (loop (br_if 0 (i32.const 0))))
          (func (export "run") (param i32) {labels} (loop (br_if 0 (i32.const 0))) {}))"#,
        group.repeat(calls / 60)
    );
    wat::parse_str(text).expect("text of a module")
}

/// The most different constants of a function.
fn constants(module: &[u8]) -> usize {
    let mut most = 0;
    for payload in Parser::new(0).parse_all(module) {
        let Ok(Payload::CodeSectionEntry(body)) = payload else { continue };
        let operators = body.get_operators_reader().expect("code").into_iter();
        let numbers = operators.filter_map(|operator| match operator.expect("an instruction") {
            Operator::I32Const { value } => Some(value),
            _ => None,
        });
        most = most.max(numbers.collect::<BTreeSet<i32>>().len());
    }
    most
}

#[test]
fn many_points_need_few_constants() {
    for two in [false, true] {
        for (calls, most) in [(60, 22), (300, 24), (3000, 62), (30_000, 180)] {
            let out = instrument(&module(calls, two), &options(Policy::Loop)).expect("instrumented");
            let constants = constants(&out);
            assert!(constants <= most, "{constants} constants for {calls} points, two versions: {two}");
        }
        let out = instrument(&module(300, two), &options(Policy::Instruction)).expect("instrumented");
        assert!(constants(&out) <= 40, "{} constants where each instruction is a point", constants(&out));
    }
}

#[test]
fn each_of_many_points_is_told_from_the_others() {
    for two in [false, true] {
        for argument in [0, 1] {
            for policy in [Policy::Loop, Policy::Instruction] {
                stop_everywhere(&module(600, two), "run", &[Val::I32(argument)], &options(policy), 400);
            }
        }
    }
}
