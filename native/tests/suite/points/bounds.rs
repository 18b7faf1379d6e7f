//! How long a guest can run between two polls: no loop or recursion may go on without one.

use kedge_native::points::options::Policy;

use super::{
    generated::Random,
    machine::{End, Machine, When},
    options,
};

/// How many turns of loops and entries of functions a program makes before it traps.
const TURNS: u64 = 5000;
/// The most of them between two polls: of each loop and function of a program one or two, as often as straight-line code calls it.
const BETWEEN: u64 = 50;

/// What programs count their turns with, and what they decide by: true so often of 256 times.
const PRELUDE: &str = "
    (global $left (mut i32) (i32.const 5000)) (global $state (mut i32) (i32.const 1))
    (func $turn
      (if (i32.eqz (global.get $left)) (then unreachable))
      (global.set $left (i32.sub (global.get $left) (i32.const 1))))
    (func $chance (param i32) (result i32)
      (global.set $state (i32.add (i32.mul (global.get $state) (i32.const 1664525)) (i32.const 1013904223)))
      (i32.lt_u (i32.shr_u (global.get $state) (i32.const 24)) (local.get 0)))";

/// How many polls a program passes until it has made its turns; nothing if it ends in another way.
fn polls(functions: &str, policy: Policy) -> Option<u64> {
    let bytes = wat::parse_str(format!("(module {PRELUDE} {functions})")).expect("text of a module");
    let End::Done(outcome) = Machine::instrumented(&bytes, &options(policy)).call("run", &[], When::default()) else {
        panic!("nobody asked it to stop")
    };
    let used_up = matches!(&outcome.results, Err(trap) if trap.contains("Unreachable"));
    used_up.then_some(outcome.polls)
}

#[test]
fn a_poll_that_a_turn_can_leave_out_does_not_count() {
    let shapes = [
        // A call in an arm that does not run.
        "(loop (call $turn) (if (call $chance (i32.const 0)) (then (call $rec))) (br 0))",
        "(loop (call $turn) (if (call $chance (i32.const 256)) (then) (else (call $rec))) (br 0))",
        "(loop (call $turn) (if (call $chance (i32.const 0)) (then (if (call $chance (i32.const 256)) (then (call $rec))
           (else (call $rec)))) (else (if (call $chance (i32.const 0)) (then (call $rec))))) (br 0))",
        // A block that is left before.
        "(loop (call $turn) (block (br_if 0 (call $chance (i32.const 256))) (call $rec)) (br 0))",
        "(loop (call $turn) (block (block (br_if 1 (call $chance (i32.const 256)))) (call $rec)) (br 0))",
        "(loop (call $turn) (block (br_table 0 0 1 (call $chance (i32.const 0))) (call $rec)) (br 0))",
        "(loop (call $turn) (block (block (br_table 1 0 1 (call $chance (i32.const 0)))) (call $rec)) (br 0))",
        "(loop (call $turn) (block (br 0) (call $rec)) (br 0))",
        // A turn that ends before.
        "(loop (call $turn) (br_if 0 (call $chance (i32.const 256))) (call $rec) (br 0))",
        "(loop (call $turn) (block (br_if 1 (call $chance (i32.const 256)))) (call $rec) (br 0))",
        "(loop (call $turn) (if (call $chance (i32.const 256)) (then (br 1))) (call $rec) (br 0))",
        "(loop (call $turn) (br_table 0 1 (call $chance (i32.const 0))) (call $rec) (br 0))",
        // The same with a loop in place of the call.
        "(loop (call $turn) (block (br_if 0 (call $chance (i32.const 256))) (loop (br_if 0 (call $chance (i32.const 0))))) (br 0))",
        "(loop (call $turn) (if (call $chance (i32.const 0)) (then (loop (br_if 0 (call $chance (i32.const 0)))))) (br 0))",
        // Never reached.
        "(loop (call $turn) (br 0) (call $rec))",
        "(loop (call $turn) (br 0) (loop (br 0)))",
        "(loop (call $turn) (if (call $chance (i32.const 0)) (then (return_call $rec))) (br 0))",
    ];
    for shape in shapes {
        let functions =
            format!("(func $rec (if (call $chance (i32.const 1)) (then (call $rec)))) (func (export \"run\") {shape})");
        let polls = polls(&functions, Policy::Loop).unwrap_or_else(|| panic!("{shape}: it ends"));
        assert!(polls >= TURNS / BETWEEN, "{polls} polls in {TURNS} turns: {shape}");
    }
}

#[test]
fn a_poll_in_each_turn_is_enough() {
    let shapes = [
        "(loop (call $turn) (call $rec) (br 0))",
        "(loop (call $turn) (block (call $rec) (br_if 0 (call $chance (i32.const 128)))) (br 0))",
        "(loop (call $turn) (if (call $value) (then (drop (i32.const 1)))) (br 0))",
    ];
    for shape in shapes {
        let functions = format!(
            "(func $rec (if (call $chance (i32.const 0)) (then (call $rec))))
             (func $value (result i32) (if (call $chance (i32.const 0)) (then (return (call $value)))) (i32.const 1))
             (func (export \"run\") {shape})"
        );
        let polls = polls(&functions, Policy::Loop).unwrap_or_else(|| panic!("{shape}: it ends"));
        assert_eq!(polls, TURNS, "the loop polls as well: {shape}");
    }
}

#[test]
fn random_programs_poll_again_and_again() {
    let mut long = 0;
    let mut least = TURNS;
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let mut text = String::new();
        for function in 0..3 {
            let (name, export) = (format!("$f{function}"), if function == 0 { "(export \"run\")" } else { "" });
            let body = statements(&mut random, 0);
            text += &format!("(func {name} {export} (call $turn) {body})\n");
        }
        for policy in [Policy::Loop, Policy::LoopAll] {
            let Some(polls) = polls(&text, policy) else { continue };
            long += 1;
            least = least.min(polls);
            assert!(polls >= TURNS / BETWEEN, "seed {seed}, {policy:?}: {polls} polls in {TURNS} turns\n{text}");
        }
    }
    println!("{long} programs, the least polls {least}");
    assert!(long > 200, "only {long} ran long enough to tell");
}

fn statements(random: &mut Random, depth: u64) -> String {
    (0..=random.below(3)).map(|_| statement(random, depth)).collect()
}

/// `depth`: how many labels are open, without that of the function.
fn statement(random: &mut Random, depth: u64) -> String {
    let mut chance = |often: &[u32]| {
        let often = often[usize::try_from(random.below(often.len() as u64)).expect("small")];
        format!("(call $chance (i32.const {often}))")
    };
    let (again, chance) = (chance(&[128, 250, 256, 256]), chance(&[0, 1, 128, 255, 256]));
    let label = random.below(depth + 1);
    let function = random.below(3);
    let deep = depth > 4;
    match random.below(11) {
        0..=2 if !deep => {
            let body = statements(random, depth + 1);
            format!("(loop (call $turn) {body} (br_if 0 {again}))\n")
        }
        3 | 4 if !deep => format!("(block {})\n", statements(random, depth + 1)),
        5 | 6 if !deep => {
            let (then, otherwise) = (statements(random, depth + 1), statements(random, depth + 1));
            format!("(if {chance} (then {then}) (else {otherwise}))\n")
        }
        7 => format!("(br_table {} {label} {chance})\n", random.below(depth + 1)),
        8 if random.below(3) == 0 => format!("(br {label})\n"),
        9 if random.below(4) == 0 => format!("(return_call $f{function})\n"),
        9 | 10 => format!("(call $f{function})\n"),
        _ => format!("(br_if {label} {chance})\n"),
    }
}
