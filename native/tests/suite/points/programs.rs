//! Small programs, one for each thing that is hard to stop in.

use kedge_native::points::options::Policy;
use wasmi::Val;

use super::{POLICIES, options, stop_and_go, stop_everywhere};

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("text of a module")
}

/// Stops a program everywhere under every policy.
fn check(text: &str, args: &[Val]) {
    let bytes = module(text);
    for policy in POLICIES {
        stop_everywhere(&bytes, "run", args, &options(policy), 60);
        if policy != Policy::Call {
            for step in [1, 3, 10] {
                let (plain, outcome, stops) = stop_and_go(&bytes, "run", args, &options(policy), step);
                assert_eq!(plain.visible(), outcome.visible(), "{policy:?}, stopped {stops} times, step {step}");
            }
        }
    }
}

#[test]
fn a_loop_with_operands_beneath_it() {
    check(
        r#"(module
          (memory (export "memory") 1)
          (func (export "run") (param $n i32) (result i32)
            (local $i i32) (local $s i64)
            i32.const 5
            local.get $n
            i32.const 3
            i32.mul
            (loop $l
              (local.set $s (i64.add (local.get $s) (i64.extend_i32_u (local.get $i))))
              (i64.store (i32.mul (local.get $i) (i32.const 8)) (local.get $s))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
            i32.add
            (i32.wrap_i64 (local.get $s))
            i32.add))"#,
        &[Val::I32(20)],
    );
}

#[test]
fn recursion_with_values_on_the_stack() {
    check(
        r#"(module
          (func $fib (export "run") (param $n i32) (result i32)
            (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
              (then (local.get $n))
              (else
                (i32.add
                  (call $fib (i32.sub (local.get $n) (i32.const 1)))
                  (call $fib (i32.sub (local.get $n) (i32.const 2))))))))"#,
        &[Val::I32(7)],
    );
}

#[test]
fn host_calls_with_arguments_and_operands() {
    check(
        r#"(module
          (import "env" "log" (func $log (param i32 f64) (result i32)))
          (import "env" "tick" (func $tick (result i64)))
          (memory (export "memory") 1)
          (global $g (export "g") (mut f32) (f32.const 1.5))
          (func $inner (param $x i32) (result i32)
            (i32.add (local.get $x)
              (i32.mul (i32.const 10)
                (call $log (i32.add (local.get $x) (i32.const 1)) (f64.const 2.5)))))
          (func (export "run") (param $n i32) (result i32 i64)
            (local $i i32) (local $r i32)
            (loop $l
              (local.set $r (i32.add (local.get $r) (call $inner (local.get $i))))
              (global.set $g (f32.add (global.get $g) (f32.const 0.25)))
              (i32.store (local.get $r) (local.get $i))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
            (local.get $r)
            (call $tick)))"#,
        &[Val::I32(6)],
    );
}

#[test]
fn blocks_with_parameters_and_several_results() {
    check(
        r#"(module
          (func $two (param i32) (result i32 i64)
            (local.get 0) (i64.const 7)
            (loop (param i32 i64) (result i32 i64)
              (i64.add (i64.const 1))
              (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
              (br_if 0 (i32.gt_s (local.get 0) (i32.const 0)))))
          (func (export "run") (param $n i32) (result i32 i64 f32)
            (local $k i32)
            (f32.const 3)
            (i32.const 100)
            (local.get $n)
            (if (param i32) (result i32 i64) (i32.and (local.get $n) (i32.const 1))
              (then
                (call $two (local.get $n))
                (local.set $k (i32.wrap_i64))
                (i32.add)
                (i64.extend_i32_u (local.get $k)))
              (else
                (drop)
                (call $two (i32.const 3))))
            (local.set $k (i32.wrap_i64))
            (local.set $n)
            (drop)
            (local.get $n)
            (i64.extend_i32_s (local.get $k))
            (f32.const 4)))"#
            .replace("(f32.const 3)\n            (i32.const 100)", "(i32.const 100)")
            .as_str(),
        &[Val::I32(5)],
    );
}

#[test]
fn switches_and_dead_code() {
    check(
        r#"(module
          (func $leaf (param $x i32) (result i32)
            (block $out (result i32)
              (block $c (block $b (block $a
                (br_table $a $b $c (i32.rem_u (local.get $x) (i32.const 4)))
                (loop (drop (i32.const 1)) (br 0)))
                (br $out (i32.const 1) (unreachable)))
                (loop $l
                  (local.set $x (i32.shr_u (local.get $x) (i32.const 1)))
                  (br_if $l (local.get $x)))
                (return (i32.const 2)))
              (local.set $x (i32.add (local.get $x) (i32.const 40)))
              (i32.const 5)))
          (func (export "run") (param $n i32) (result i32)
            (local $s i32)
            (loop $l (result i32)
              (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 3)) (call $leaf (local.get $n))))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $l (local.get $n))
              (if (result i32) (local.get $s)
                (then (local.get $s))
                (else (call $leaf (i32.const 9)))))))"#,
        &[Val::I32(11)],
    );
}

#[test]
fn indirect_calls() {
    check(
        r#"(module
          (type $f (func (param i32) (result i32)))
          (import "env" "ask" (func $ask (param i32) (result i32)))
          (table (export "table") 4 funcref)
          (elem (i32.const 0) $a $b $ask)
          (func $a (param i32) (result i32)
            (local $i i32)
            (loop $l
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get 0))))
            (local.get $i))
          (func $b (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
          (func (export "run") (param $n i32) (result i32)
            (local $s i32)
            (loop $l
              (local.set $s
                (i32.add (local.get $s)
                  (call_indirect (type $f) (i32.add (local.get $n) (i32.const 1)) (i32.rem_u (local.get $n) (i32.const 3)))))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $l (local.get $n)))
            (local.get $s)))"#,
        &[Val::I32(7)],
    );
}

#[test]
fn traps_in_resumed_frames() {
    check(
        r#"(module
          (memory (export "memory") 1)
          (func $deep (param $n i32)
            (local $i i32)
            (loop $l
              (i32.store (i32.mul (local.get $i) (i32.const 4)) (local.get $n))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
            (drop (i32.div_u (local.get $i) (i32.sub (local.get $n) (i32.const 3)))))
          (func (export "run") (param $n i32)
            (loop $l
              (call $deep (local.get $n))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br $l))))"#,
        &[Val::I32(8)],
    );
}

#[test]
fn memory_grows_and_segments_are_dropped() {
    check(
        r#"(module
          (memory (export "memory") 1 4)
          (data $d "hello, world")
          (func (export "run") (param $n i32) (result i32)
            (local $i i32)
            (loop $l
              (memory.init $d (i32.mul (local.get $i) (i32.const 65536)) (i32.const 0) (i32.const 12))
              (drop (memory.grow (i32.const 1)))
              (memory.fill (i32.mul (local.get $i) (i32.const 100)) (local.get $i) (i32.const 9))
              (memory.copy (i32.const 500) (i32.const 0) (i32.const 300))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
            (data.drop $d)
            (loop $m
              (local.set $i (i32.sub (local.get $i) (i32.const 1)))
              (br_if $m (local.get $i)))
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))
            (memory.size)))"#,
        &[Val::I32(3)],
    );
}

/// A block in code that is never reached may give a reference that nothing else in the module can make.
#[test]
fn references_from_nowhere() {
    for ty in ["externref", "funcref"] {
        for block in ["block", "loop", "i32.const 1 if"] {
            let otherwise = if block.ends_with("if") { "else unreachable" } else { "" };
            let text = format!(
                r#"(module
                  (func (export "run") (param $stay i32) (result i32)
                    local.get $stay
                    if
                      {block} (result {ty}) unreachable {otherwise} end
                      loop $l local.get $stay br_if $l end
                      drop
                    end
                    i32.const 7))"#
            );
            check(&text, &[Val::I32(0)]);
        }
    }
}

#[test]
fn references_in_locals_operands_globals_and_tables() {
    check(
        r#"(module
          (type $f (func (param i32) (result i32)))
          (import "env" "get" (func $get (result externref)))
          (import "env" "put" (func $put (param externref i32) (result i32)))
          (table $t (export "table") 3 10 funcref)
          (table $x (export "objects") 2 10 externref)
          (global $g (export "g") (mut funcref) (ref.null func))
          (global $e (export "e") (mut externref) (ref.null extern))
          (elem declare func $one $two)
          (func $one (export "one") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
          (func $two (export "two") (param i32) (result i32)
            (local $i i32)
            (loop $l
              (local.set $i (i32.add (local.get $i) (i32.const 3)))
              (br_if $l (i32.lt_u (local.get $i) (local.get 0))))
            (local.get $i))
          (func (export "run") (param $n i32) (result i32 funcref externref)
            (local $r funcref) (local $o externref) (local $s i32)
            (local.set $r (ref.func $two))
            (local.set $o (call $get))
            (drop (table.grow $t (ref.null func) (i32.const 2)))
            (loop $l
              (table.set $t (i32.rem_u (local.get $n) (i32.const 3)) (local.get $r))
              (table.set $x (i32.and (local.get $n) (i32.const 1)) (local.get $o))
              (ref.func $one)
              (call $get)
              (local.set $s (i32.add (local.get $s)
                (call_indirect $t (type $f) (local.get $n) (i32.rem_u (local.get $n) (i32.const 3)))))
              (global.set $e)
              (local.set $r)
              (global.set $g (local.get $r))
              (local.set $s (i32.add (local.get $s) (call $put (local.get $o) (local.get $s))))
              (local.set $o (global.get $e))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $l (local.get $n)))
            (local.get $s) (local.get $r) (local.get $o)))"#,
        &[Val::I32(9)],
    );
}

#[test]
fn vectors_in_locals_operands_and_globals() {
    check(
        r#"(module
          (memory (export "memory") 1)
          (global $g (export "g") (mut v128) (v128.const i32x4 1 2 3 4))
          (func $mul (param $a v128) (param $n i32) (result v128)
            (loop $l
              (local.set $a (i32x4.add (local.get $a) (i32x4.splat (local.get $n))))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $l (local.get $n)))
            (local.get $a))
          (func (export "run") (param $n i32) (result v128 f64)
            (local $v v128) (local $d f64)
            (local.set $d (f64.const -0.0))
            (loop $l
              (local.set $v
                (i64x2.add (v128.load (i32.shl (local.get $n) (i32.const 4)))
                  (call $mul (f32x4.convert_i32x4_s (local.get $v)) (local.get $n))))
              (v128.store (i32.shl (local.get $n) (i32.const 4)) (local.get $v))
              (global.set $g (v128.xor (global.get $g) (local.get $v)))
              (local.set $d (f64.div (local.get $d) (f64.const 0)))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br_if $l (local.get $n)))
            (local.get $v) (local.get $d)))"#,
        &[Val::I32(5)],
    );
}

#[test]
fn tail_calls_leave_no_frame() {
    check(
        r#"(module
          (type $f (func (param i32 i64) (result i64)))
          (import "env" "ask" (func $ask (param i32 i64) (result i64)))
          (table 2 funcref)
          (elem (i32.const 0) $odd $ask)
          (func $even (param i32 i64) (result i64)
            (if (i32.eqz (local.get 0)) (then (return_call $ask (i32.const 7) (local.get 1))))
            (return_call_indirect (type $f)
              (i32.sub (local.get 0) (i32.const 1)) (i64.mul (local.get 1) (i64.const 3)) (i32.const 0)))
          (func $odd (param i32 i64) (result i64)
            (local.set 1 (i64.add (local.get 1) (i64.const 1)))
            (return_call $even (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
          (func (export "run") (param $n i32) (result i64)
            (i64.add (i64.const 5) (call $even (local.get $n) (i64.const 1)))))"#,
        &[Val::I32(12)],
    );
}

#[test]
fn several_memories_and_extended_constants() {
    check(
        r#"(module
          (import "env" "base" (global $base i32))
          (memory $a (export "a") 1)
          (memory $b (export "b") 1 3)
          (memory $c (export "c") 0 9)
          (global $g (export "g") (mut i32) (i32.add (global.get $base) (i32.const 40)))
          (data (memory $b) (offset (i32.add (global.get $base) (i32.const 4))) "data")
          (data $passive "for whom it concerns")
          (func (export "run") (param $n i32) (result i32)
            (loop $l
              (i32.store $a (i32.const 16) (i32.add (i32.load $b (i32.const 4)) (global.get $g)))
              (memory.copy $b $a (local.get $n) (i32.const 16) (i32.const 4))
              (drop (memory.grow $b (i32.const 1)))
              (drop (memory.grow $c (i32.const 1)))
              (memory.init $c $passive (i32.mul (local.get $n) (i32.const 4)) (local.get $n) (i32.const 5))
              (memory.fill $a (i32.mul (local.get $n) (i32.const 50)) (local.get $n) (i32.const 20))
              (memory.copy $b $c (i32.const 100) (i32.const 0) (i32.const 30))
              (memory.copy $c $c (i32.const 200) (i32.const 1) (i32.const 30))
              (i64.store16 $c offset=300 (local.get $n) (i64.load32_s $b (i32.const 101)))
              (global.set $g (i32.sub (global.get $g) (i32.const 3)))
              (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (i32.add (memory.size $b) (i32.mul (i32.const 10) (memory.size $c)))))"#,
        &[Val::I32(6)],
    );
}

#[test]
fn a_start_function_that_computes_and_asks() {
    check(
        r#"(module
          (import "env" "ask" (func $ask (result i32)))
          (global $g (export "g") (mut i32) (i32.const 0))
          (start $start)
          (func $start
            (local $i i32)
            (loop $l
              (global.set $g (i32.add (global.get $g) (call $ask)))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (i32.const 4)))))
          (func (export "run") (result i32) (i32.add (global.get $g) (call $ask))))"#,
        &[],
    );
}
