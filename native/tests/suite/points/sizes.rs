//! Modules that ask for much more than they are: refused by name and place, soon, and whatever the number of threads.

use std::time::{Duration, Instant};

use kedge_native::points::{
    instrument, measured,
    options::{Options, Policy},
    refusal::Refusal,
};

use super::{POLICIES, options};

const VALUES: &str = "too many locals and operands across calls and loops";
const LOCALS: &str = "a function with more than 50,000 locals once it can be stopped";
const BODY: &str = "a function of more than 7,654,321 bytes once it can be stopped";

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

fn vector(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// Functions without parameters, of so many i32 locals each and with this code, which lacks the last `end`.
fn module(functions: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let body = |(locals, code): &(usize, Vec<u8>)| {
        let body = [&[1][..], &leb(*locals), &[0x7f], code, &[0x0b]].concat();
        [leb(body.len()), body].concat()
    };
    let bodies: Vec<Vec<u8>> = functions.iter().map(body).collect();
    let types = section(1, &vector(&[vec![0x60, 0, 0]]));
    let declared = section(3, &vector(&vec![vec![0]; functions.len()]));
    [b"\0asm\x01\0\0\0".to_vec(), types, declared, section(10, &vector(&bodies))].concat()
}

/// The offset of the declarations of locals of a function, by its number.
fn place(bytes: &[u8], function: usize) -> usize {
    let mut number = 0;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.expect("well-formed") {
            if number == function {
                return usize::try_from(body.range().start).expect("small");
            }
            number += 1;
        }
    }
    panic!("there is no function {function}")
}

#[track_caller]
fn refusal(bytes: &[u8], options: &Options) -> Refusal {
    instrument(bytes, options).map(|out| out.len()).expect_err("a refusal")
}

#[track_caller]
fn refused(bytes: &[u8], policy: Policy, feature: &str) -> usize {
    let with = |threads| {
        let options = Options { threads: Some(threads), ..options(policy) };
        match refusal(bytes, &options) {
            Refusal::Unsupported { feature, offset } => (feature, offset),
            Refusal::Invalid { message, .. } => panic!("{message}"),
        }
    };
    let first = with(1);
    assert_eq!(first.0, feature);
    for threads in [2, 5, 16] {
        assert_eq!(with(threads), first, "{threads} threads");
    }
    first.1
}

/// A loop that polls.
const LOOP: &[u8] = &[0x03, 0x40, 0x20, 0, 0x0d, 0, 0x0b];
const DROP: u8 = 0x1a;

#[test]
fn locals_that_each_version_saves_and_loads() {
    // 22 bytes for each function, and some 1.3 MB of what would be written.
    let bytes = module(&vec![(49_000, LOOP.to_vec()); 200]);
    assert!(bytes.len() < 4000);
    for policy in [Policy::Loop, Policy::LoopAll, Policy::Instruction] {
        let offset = refused(&bytes, policy, VALUES);
        let own = |function| place(&bytes, function);
        assert!((0..20).map(own).any(|start| start == offset), "{offset} is no function, or a late one");
    }
    instrument(&bytes, &options(Policy::Call)).expect("there are no points");
}

#[test]
fn locals_that_are_live_at_many_points() {
    // Each local is read at the end, so all are live at each of the calls.
    let calls = [0x10, 0].repeat(2000);
    let reads = (0..20_000).flat_map(|local| [vec![0x20], leb(local), vec![DROP]].concat());
    let bytes = module(&[(20_000, [LOOP.to_vec(), calls, reads.collect()].concat())]);
    assert_eq!(refused(&bytes, Policy::Loop, VALUES), place(&bytes, 0));
}

#[test]
fn operands_beneath_many_points() {
    let up = [0x41, 0, 0x10, 0].repeat(3000);
    let bytes = module(&[(1, LOOP.to_vec()), (1, [up, [DROP].repeat(3000)].concat())]);
    assert_eq!(refused(&bytes, Policy::Loop, VALUES), place(&bytes, 1));
}

#[test]
fn calls_that_take_and_give_a_thousand_operands() {
    let text = |calls: usize| {
        let many = "i32 ".repeat(1000);
        format!(
            "(module (type $t (func (param {many}) (result {many}))) (func $f (type $t) (loop (br 0)) unreachable)
              (func {} {} {}))",
            "(i32.const 0) ".repeat(1001),
            "(call $f) ".repeat(calls),
            "(drop) ".repeat(1001)
        )
    };
    let bytes = wat::parse_str(text(600)).expect("text of a module");
    refused(&bytes, Policy::Loop, "a function with so many operands");
    let bytes = wat::parse_str(text(250)).expect("text of a module");
    refused(&bytes, Policy::Instruction, VALUES);
    let bytes = wat::parse_str(text(50)).expect("text of a module");
    let (out, measure) = measured(&bytes, &options(Policy::Loop)).expect("instrumented");
    assert!(out.len() < measure.counted, "{} and {measure:?}", out.len());
}

#[test]
fn more_locals_than_engines_take() {
    let bytes = module(&[(3, LOOP.to_vec()), (50_000, LOOP.to_vec())]);
    wasmparser::Validator::new().validate_all(&bytes).expect("the module itself is valid");
    assert_eq!(refused(&bytes, Policy::Loop, LOCALS), place(&bytes, 1));
    instrument(&bytes, &options(Policy::Call)).expect("there are no points");
    // Two are of ours.
    instrument(&module(&[(49_998, LOOP.to_vec())]), &options(Policy::Loop)).expect("instrumented");
    assert_eq!(refused(&module(&[(49_999, LOOP.to_vec())]), Policy::Loop, LOCALS), 22);
}

#[test]
fn more_code_than_engines_take() {
    let bytes = module(&[(3, LOOP.to_vec()), (3, LOOP.repeat(150_000))]);
    wasmparser::Validator::new().validate_all(&bytes).expect("the module itself is valid");
    for policy in [Policy::LoopAll, Policy::Instruction] {
        assert_eq!(refused(&bytes, policy, BODY), place(&bytes, 1));
    }
    let hint = refusal(&bytes, &options(Policy::LoopAll)).hint(Policy::LoopAll);
    assert!(hint.is_some_and(|hint| hint.contains("--points call")), "{hint:?}");
    instrument(&bytes, &options(Policy::Call)).expect("there are no points");
}

/// The metadata of a function may be larger than its code can be.
#[test]
fn values_that_are_only_described_are_no_code() {
    let locals = |body: &dyn Fn(usize) -> Vec<u8>| (0..1500).flat_map(body).collect::<Vec<u8>>();
    let set = locals(&|local| [vec![0x41, 0, 0x21], leb(local)].concat());
    let read = locals(&|local| [vec![0x20], leb(local), vec![DROP]].concat());
    let bytes = module(&[(1500, [set, [0x41, 0, DROP].repeat(22_000), read].concat())]);
    let out = instrument(&bytes, &options(Policy::Instruction)).expect("its largest body has some 2 MB");
    wasmparser::Validator::new().validate_all(&out).expect("engines take it");
}

#[test]
fn more_tables_than_engines_take() {
    let text = |tables| format!("(module {} (func (loop (br 0))))", "(table 1 funcref) ".repeat(tables));
    let bytes = wat::parse_str(text(100)).expect("text of a module");
    assert_eq!(refused(&bytes, Policy::Loop, "more than 100 tables once it can be stopped"), 21);
    instrument(&wat::parse_str(text(98)).expect("text of a module"), &options(Policy::Loop)).expect("instrumented");
}

/// More than is written at once: the rest is written when it is known that all of it may be.
#[test]
fn a_large_output_does_not_depend_on_threads() {
    // Straight code with calls of itself, which is honest however much it is.
    let work = [0x20, 0, 0x20, 1, 0x6a, 0x21, 2].repeat(1000);
    let bytes = module(&vec![(3, [LOOP.to_vec(), work].concat()); 200]);
    let with = |threads| {
        let options = Options { threads: Some(threads), ..options(Policy::Instruction) };
        measured(&bytes, &options).expect("instrumented")
    };
    let (first, measure) = with(1);
    assert!(measure.counted > 50 << 20, "{measure:?}");
    wasmparser::Validator::new().validate_all(&first).expect("valid output");
    for threads in [2, 5] {
        assert!(with(threads).0 == first, "{threads} threads");
    }
}

/// Each of these took minutes or gigabytes in some phase when it was quadratic.
#[test]
fn a_megabyte_takes_seconds_at_most() {
    const SIZE: usize = 1_000_000;
    let nested = |inside: &[u8], after: &[u8]| {
        let count = SIZE / (3 + inside.len() + after.len());
        [[0x03, 0x40].repeat(count), inside.to_vec(), [after, &[0x0b]].concat().repeat(count)].concat()
    };
    let around = |depth: usize, code: Vec<u8>| [[0x03, 0x40].repeat(depth), code, [0x0b].repeat(depth)].concat();
    let labels: Vec<u8> = (0..=SIZE).map(|label| u8::try_from(label % 50).expect("small")).collect();
    let table = [vec![0x20, 0, 0x0e], leb(SIZE), labels].concat();
    let again = [0x20, 0, 0x0d, 0];
    let modules = [
        ("labels and locals", module(&[(49_000, around(50, table.clone()))])),
        ("labels and fewer locals", module(&[(4000, around(50, table))])),
        ("branches and locals", module(&[(4000, around(50, again.repeat(SIZE / 4)))])),
        ("nested loops", module(&[(1, nested(&[], &again))])),
        ("nested loops around a call", module(&[(1, nested(&[0x10, 0], &again))])),
        ("operands under nested loops", {
            let code = [[0x20, 0].repeat(1000), nested(&[], &again), [DROP].repeat(1000)].concat();
            module(&[(1, code)])
        }),
        ("functions of many locals", module(&vec![(49_000, LOOP.to_vec()); SIZE / 100])),
    ];
    for (name, bytes) in modules {
        for policy in POLICIES {
            let start = Instant::now();
            // Refused or not.
            let _ = instrument(&bytes, &options(policy));
            assert!(start.elapsed() < Duration::from_secs(20), "{name}, {policy:?}: {:?}", start.elapsed());
        }
    }
}
