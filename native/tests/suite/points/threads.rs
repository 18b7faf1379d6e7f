//! What the pass gives does not depend on how many threads it used.

use std::fmt::Write as _;

use kedge_native::points::{
    instrument,
    options::{Flag, Options, Policy},
    refusal::{Refusal, Result},
};

use super::POLICIES;

const THREADS: [usize; 4] = [1, 2, 5, 16];

/// Many functions of many sizes that call one another; those that `bad` names do not validate.
fn module(bad: &[usize]) -> Vec<u8> {
    let mut text = String::from("(module (memory 1) (table 8 funcref) (elem (i32.const 0) 0 1 2 3 4 5 6 7)");
    for function in 0..200 {
        let next = (function * 7 + 3) % 200;
        text.push_str("(func (param i32) (result i32) (local i32)");
        for step in 0..function % 23 {
            write!(
                text,
                "(loop (i32.store (local.get 1) (call {next} (i32.const {step})))
                  (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (local.get 0))))"
            )
            .expect("text");
        }
        let result = if bad.contains(&function) { "(f64.const 1)" } else { "(i32.const 1)" };
        write!(text, "(i32.add (local.get 0) {result}))").expect("text");
    }
    text.push(')');
    let parsed = wat::parse_str(text).expect("text of a module");
    assert!(parsed.len() > 50_000, "{} bytes are too few", parsed.len());
    parsed
}

fn with(bytes: &[u8], policy: Policy, flag: Flag, threads: usize) -> Result<Vec<u8>> {
    instrument(bytes, &Options { policy, flag, threads: Some(threads), ..Options::default() })
}

#[test]
fn the_bytes_are_the_same() {
    let bytes = module(&[]);
    for policy in POLICIES {
        for flag in [Flag::Memory, Flag::Global] {
            let first = with(&bytes, policy, flag, 1).expect("instrumented");
            wasmparser::Validator::new().validate_all(&first).expect("valid output");
            for threads in THREADS {
                assert!(with(&bytes, policy, flag, threads).as_ref() == Ok(&first), "{policy:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn the_error_is_that_of_the_first_function() {
    let bytes = module(&[150, 71, 199]);
    let alone = match with(&bytes, Policy::Loop, Flag::Memory, 1) {
        Err(Refusal::Invalid { message, offset }) => (message, offset),
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    };
    let (later, _) = bytes.split_at(alone.1);
    assert!(later.len() < bytes.len() / 2, "function 71 comes first");
    for threads in THREADS {
        for _ in 0..10 {
            let Err(refusal) = with(&bytes, Policy::Loop, Flag::Memory, threads) else { panic!("not refused") };
            assert_eq!(refusal, Refusal::Invalid { message: alone.0.clone(), offset: alone.1 });
        }
    }
}
