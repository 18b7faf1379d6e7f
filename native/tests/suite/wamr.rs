use std::{cell::RefCell, rc::Rc, thread};

use kedge_native::wamr::{
    imports::Host,
    instance::{Instance, PAGE_SIZE},
    module::Module,
    types::{Export, FunctionType, Import, Kind, NULL, Refusal, Trap},
    version,
};

const STACK: u32 = 1 << 18;

fn load(text: &str) -> Result<Rc<Module>, Refusal> {
    let bytes = wat::parse_str(text).expect("the text is a module");
    Module::load(bytes).map(Rc::new)
}

pub fn instance(text: &str) -> Instance {
    Instance::new(load(text).expect("the module loads"), STACK).expect("it can be instantiated")
}

fn unsupported(text: &str) -> String {
    match load(text) {
        Err(Refusal::Unsupported { feature, .. }) => feature,
        Err(other) => panic!("refused as {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

/// No imports.
pub struct Nobody;

impl Host for Nobody {
    fn call(&self, import: &Import, _: &[u64]) -> Option<u64> {
        panic!("{} was called", import.name)
    }
}

/// Answers by a closure.
struct Answers<F>(F);

impl<F: Fn(&Import, &[u64]) -> Option<u64>> Host for Answers<F> {
    fn call(&self, import: &Import, arguments: &[u64]) -> Option<u64> {
        (self.0)(import, arguments)
    }
}

pub fn wasm(message: &str) -> Result<Vec<u64>, Trap> {
    Err(Trap::Wasm(message.into()))
}

#[test]
fn values_cross_as_bits() {
    let guest = instance(
        r#"(module
            (import "t" "out" (func $out (param i32 i64 f32 f64) (result f64)))
            (func (export "f") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
                (call $out (local.get 0) (local.get 1) (local.get 2) (local.get 3))
                (local.get 2) (local.get 1) (local.get 0)))"#,
    );
    let seen = RefCell::new(Vec::new());
    let host = Answers(|import: &Import, arguments: &[u64]| {
        assert_eq!((import.index, import.module.as_str(), import.name.as_str()), (0, "t", "out"));
        seen.borrow_mut().push(arguments.to_vec());
        Some(0x7ff0_0000_0000_0001)
    });
    // Signalling NaNs keep their bits.
    let given = [0xffff_ffff, 0x8000_0000_0000_0001, 0x7f80_0001, 0xfff0_0000_0000_0002];
    assert_eq!(
        guest.call("f", &given, &host),
        Ok(vec![0x7ff0_0000_0000_0001, 0x7f80_0001, 0x8000_0000_0000_0001, 0xffff_ffff])
    );
    assert_eq!(seen.into_inner(), vec![given.to_vec()]);
}

#[test]
fn references_are_indices_or_null() {
    let guest = instance(
        r#"(module
            (import "t" "f" (func $f (param i32 externref funcref i64) (result funcref)))
            (import "t" "e" (func $e (param externref) (result externref)))
            (table (export "t") 2 funcref) (elem (i32.const 0) $id)
            (func $id (export "id") (param i32) (result i32) (local.get 0))
            (func (export "go") (param externref) (result i32 externref)
                (table.set (i32.const 1)
                    (call $f (i32.const 7) (local.get 0) (ref.func $id) (i64.const 9)))
                (drop (call $f (i32.const 7) (local.get 0) (ref.null func) (i64.const 9)))
                (call_indirect (param i32) (result i32) (i32.const 5) (i32.const 1))
                (ref.is_null (call $e (ref.null extern))) (i32.add) (local.get 0)))"#,
    );
    let seen = RefCell::new(Vec::new());
    let host = Answers(|import: &Import, arguments: &[u64]| {
        seen.borrow_mut().push(arguments.to_vec());
        Some(if import.name == "f" { arguments[2] } else { NULL })
    });
    assert_eq!(guest.call("go", &[NULL], &host), Ok(vec![6, NULL]));
    let expected = [vec![7, NULL, 2, 9], vec![7, NULL, NULL, 9], vec![NULL]];
    assert_eq!(*seen.borrow(), expected);
    assert!(matches!(guest.call("go", &[1], &host), Err(Trap::Misuse(_))));
}

#[test]
fn many_arguments_arrive() {
    let params = "i64 ".repeat(40);
    let values: String = (0..40).map(|n| format!("(i64.const {})", n * n)).collect();
    let guest = instance(&format!(
        r#"(module (import "t" "f" (func $f (param {params}) (result i64)))
            (func (export "go") (result i64) (call $f {values})))"#
    ));
    let host = Answers(|_: &Import, arguments: &[u64]| Some(arguments.iter().sum()));
    assert_eq!(guest.call("go", &[], &host), Ok(vec![(0..40u64).map(|n| n * n).sum()]));
}

#[test]
fn traps_have_the_words_of_the_specification() {
    let guest = instance(
        r#"(module (memory 1) (table 2 funcref) (type $t (func)) (elem (i32.const 0) $wrong)
            (func $wrong (param i32))
            (func (export "unreachable") unreachable)
            (func (export "memory") (drop (i32.load (i32.const -4))))
            (func (export "zero") (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
            (func (export "overflow") (param i32) (drop (i32.div_s (i32.const 0x80000000) (local.get 0))))
            (func (export "convert") (param f64) (drop (i32.trunc_f64_s (local.get 0))))
            (func (export "indirect") (param i32) (call_indirect (type $t) (local.get 0)))
            (func $down (export "deep") (call $down) (call $down)))"#,
    );
    assert_eq!(guest.call("unreachable", &[], &Nobody), wasm("unreachable"));
    assert_eq!(guest.call("memory", &[], &Nobody), wasm("out of bounds memory access"));
    assert_eq!(guest.call("zero", &[0], &Nobody), wasm("integer divide by zero"));
    assert_eq!(guest.call("overflow", &[0xffff_ffff], &Nobody), wasm("integer overflow"));
    assert_eq!(guest.call("convert", &[f64::NAN.to_bits()], &Nobody), wasm("invalid conversion to integer"));
    assert_eq!(guest.call("indirect", &[0], &Nobody), wasm("indirect call type mismatch"));
    assert_eq!(guest.call("indirect", &[1], &Nobody), wasm("uninitialized element"));
    assert_eq!(guest.call("indirect", &[2], &Nobody), wasm("undefined element"));
    assert_eq!(guest.call("deep", &[], &Nobody), wasm("call stack exhausted"));
    // A trap does not spoil the instance for another call.
    assert_eq!(guest.call("zero", &[1], &Nobody), Ok(vec![]));
    assert!(!guest.running());
}

#[test]
fn a_host_ends_the_call_and_may_call_back() {
    let guest = instance(
        r#"(module (import "t" "stop" (func $stop)) (import "t" "back" (func $back (result i32)))
            (func (export "stop") (call $stop) unreachable)
            (func (export "seven") (result i32) (i32.const 7))
            (func (export "outer") (result i32) (i32.add (call $back) (i32.const 1))))"#,
    );
    let host = Answers(|import: &Import, _: &[u64]| match import.name.as_str() {
        "stop" => None,
        _ => {
            assert!(guest.running());
            assert_eq!(guest.call("stop", &[], &Answers(|_: &Import, _: &[u64]| None)), Err(Trap::Host));
            guest.call("seven", &[], &Nobody).ok().map(|results| results[0])
        }
    });
    assert_eq!(guest.call("stop", &[], &host), Err(Trap::Host));
    assert_eq!(guest.call("outer", &[], &host), Ok(vec![8]));
}

#[test]
fn misuse_is_an_error() {
    let guest = instance(r#"(module (memory (export "memory") 1) (func (export "f") (param i32)))"#);
    assert!(matches!(guest.call("g", &[], &Nobody), Err(Trap::Misuse(_))));
    assert!(matches!(guest.call("memory", &[], &Nobody), Err(Trap::Misuse(_))));
    assert!(matches!(guest.call("f", &[], &Nobody), Err(Trap::Misuse(_))));
    assert!(matches!(guest.call("f\0", &[0], &Nobody), Err(Trap::Misuse(_))));
    assert_eq!(guest.function("f").map(|kind| kind.params.clone()), Some(vec![Kind::I32]));
}

#[test]
fn memory_grows_from_both_sides() {
    let guest = instance(
        r#"(module (import "t" "look" (func $look)) (memory 1 4)
            (func (export "grow") (param i32) (result i32)
                (i32.store (i32.const 4) (i32.const 0x01020304))
                (memory.grow (local.get 0))
                (call $look)))"#,
    );
    let look = Answers(|_: &Import, _: &[u64]| {
        assert!(!guest.grow(1), "not while code runs");
        Some(0)
    });
    assert_eq!(guest.call("grow", &[2], &look), Ok(vec![1]));
    let (base, length) = guest.memory().expect("it has a memory");
    assert_eq!(length, 3 * PAGE_SIZE);
    // SAFETY: the address is inside of the memory, and no guest code runs.
    assert_eq!(unsafe { base.add(4).cast::<[u8; 4]>().read() }, [4, 3, 2, 1]);
    assert!(guest.grow(1));
    assert!(!guest.grow(1), "beyond the maximum");
    assert!(!guest.grow(u64::MAX));
    assert_eq!(guest.memory().map(|(_, length)| length), Some(4 * PAGE_SIZE));
    assert!(instance("(module)").memory().is_none());
    let fixed = instance("(module (memory 3))");
    assert_eq!(fixed.memory().map(|(_, length)| length), Some(3 * PAGE_SIZE));
    assert!(!fixed.grow(1), "nothing in it can grow it, so nothing may");
}

#[test]
fn globals_and_tables_by_their_names() {
    let guest = instance(
        r#"(module
            (global (export "pad") (mut i32) (i32.const 1))
            (global (export "i64") (mut i64) (i64.const -2))
            (global (export "f32") (mut f32) (f32.const nan:0x200001))
            (global (export "constant") i32 (i32.const 5))
            (table (export "table") 3 funcref) (elem (i32.const 1) $one $two)
            (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
            (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"#,
    );
    assert_eq!(guest.global("i64"), Some(u64::MAX - 1));
    assert_eq!(guest.global("f32"), Some(0x7fa0_0001));
    assert_eq!(guest.global("none"), None);
    assert!(guest.set_global("i64", 0x0123_4567_89ab_cdef) && guest.set_global("pad", 9));
    assert_eq!((guest.global("i64"), guest.global("pad")), (Some(0x0123_4567_89ab_cdef), Some(9)));
    assert!(!guest.set_global("constant", 1) && !guest.set_global("table", 1));

    let elements: Vec<_> = (0..4).map(|at| guest.table_get("table", at)).collect();
    assert_eq!(elements, [Some(None), Some(Some(0)), Some(Some(1)), None]);
    assert_eq!(guest.table_size("table"), Some(3));
    assert!(guest.table_set("table", 0, Some(1)) && guest.table_set("table", 1, None));
    assert_eq!(guest.call("call", &[0], &Nobody), Ok(vec![2]));
    assert_eq!(guest.call("call", &[1], &Nobody), wasm("uninitialized element"));
    assert!(!guest.table_set("table", 3, None) && !guest.table_set("table", 0, Some(3)));
    assert!(!guest.table_set("other", 0, None));
}

#[test]
fn guests_of_several_threads_do_not_know_each_other() {
    let threads: Vec<_> = (0..4u64)
        .map(|n| {
            thread::spawn(move || {
                for round in 0..20 {
                    let guest = instance(
                        r#"(module (import "t" "f" (func $f (param i64) (result i64)))
                            (func (export "go") (param i64) (result i64) (call $f (local.get 0))))"#,
                    );
                    let host = Answers(|_: &Import, arguments: &[u64]| Some(arguments[0] * n));
                    assert_eq!(guest.call("go", &[round], &host), Ok(vec![round * n]));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread fails");
    }
}

#[test]
fn names_that_mean_something_to_wamr_mean_nothing() {
    let module = load(
        r#"(module (global $ran (export "ran") (mut i32) (i32.const 0))
            (func $run (global.set $ran (i32.const 1)))
            (export "__post_instantiate" (func $run)) (export "__wasm_call_ctors" (func $run))
            (export "_initialize" (func $run)) (export "_start" (func $run))
            (memory 1) (global (export "__heap_base") i32 (i32.const 1024)) (global (export "__data_end") i32 (i32.const 512)))"#,
    )
    .expect("it loads");
    assert!(matches!(module.export("_start"), Some(Export::Function(_))));
    let guest = Instance::new(module, STACK).expect("it can be instantiated");
    assert_eq!(guest.global("ran"), Some(0));
    assert_eq!(guest.memory().map(|(_, length)| length), Some(PAGE_SIZE));
}

/// Two of them, and those that stand for them, are the guest's own as well.
#[test]
fn names_that_are_changed_become_none_of_the_guest() {
    let others: Vec<u8> = (b'!'..=b'~').filter(|first| !br#""\mf"#.contains(first)).collect();
    let exports: String = (0..)
        .zip(&others)
        .map(|(value, first)| {
            let first = char::from(*first);
            format!(r#"(func (export "{first}alloc") (export "{first}ree") (result i32) (i32.const {value}))"#)
        })
        .collect();
    let guest = instance(&format!(
        r#"(module (func (export "malloc") (export "free") (param i32) (result i32) (unreachable)) {exports})"#
    ));
    for (value, first) in (0..).zip(others) {
        for rest in ["alloc", "ree"] {
            assert_eq!(guest.call(&format!("{}{rest}", char::from(first)), &[], &Nobody), Ok(vec![value]));
        }
    }
}

#[test]
fn what_it_lacks_is_refused_with_its_place() {
    let code = "(module (func) (func (drop (v128.const i64x2 0 0))))";
    let bytes = wat::parse_str(code).expect("the text is a module");
    let place = bytes.windows(2).position(|two| two == [0xfd, 0x0c]).expect("the instruction");
    let Err(Refusal::Unsupported { offset, .. }) = load(code) else { panic!("not refused") };
    assert_eq!(offset, Some(place as u64));
    let twice = r#"(module (import "t" "f" (func)) (import "t" "f" (func (param i32))))"#;
    assert!(unsupported(twice).contains("t.f"));
    assert!(unsupported(r#"(module (import "t" "two" (func (result i32 i32))))"#).contains("t.two"));
}

#[test]
fn what_it_lacks_is_refused_by_name() {
    assert_eq!(unsupported("(module (func (drop (v128.const i64x2 0 0))))"), "SIMD");
    assert_eq!(unsupported("(module (memory 1) (memory 1))"), "multiple memories");
    assert_eq!(unsupported("(module (memory i64 1))"), "memory64");
    assert_eq!(unsupported("(module (memory 1 1 shared))"), "threads");
    assert_eq!(unsupported("(module (tag))"), "exception handling");
    assert_eq!(
        unsupported("(module (memory i64 1) (func (param v128)))"),
        "SIMD, memory64",
        "all of them, when there are several"
    );
    assert_eq!(unsupported("(module (func $f) (start $f))"), "a start section");
    assert_eq!(unsupported(r#"(module (import "t" "m" (memory 1)))"#), "imports that are no functions");
    assert!(unsupported(r#"(module (import "t" "f" (func)) (import "t" "f" (func (param i32))))"#).contains("twice"));
}

#[test]
fn what_it_has_runs() {
    let guest = instance(
        r#"(module
            (memory 1) (data $d "abc") (table $t 2 funcref) (elem $e func $id)
            (global i32 (i32.add (i32.const 1) (i32.const 2)))
            (func $id (param i32) (result i32) (local.get 0))
            (func $two (result i32 i64) (i32.const -1) (i64.const 5))
            (func $tail (param i32) (result i32) (return_call $id (local.get 0)))
            (func (export "go") (result i32)
                (memory.init $d (i32.const 10) (i32.const 0) (i32.const 3))
                (memory.copy (i32.const 20) (i32.const 10) (i32.const 3))
                (memory.fill (i32.const 30) (i32.const 7) (i32.const 2))
                (data.drop $d)
                (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))
                (table.set $t (i32.const 1) (ref.func $id))
                (drop (i32.trunc_sat_f64_s (f64.const 1e99)))
                (call $two) (drop) (i32.extend8_s)
                (i32.add (call $tail (i32.load8_u (i32.const 21))))
                (i32.add (call_indirect $t (param i32) (result i32) (i32.load8_u (i32.const 31)) (i32.const 1)))))"#,
    );
    assert_eq!(guest.call("go", &[], &Nobody), Ok(vec![u64::from(b'b') + 7 - 1]));
}

#[test]
fn what_is_no_module_is_an_error_with_a_place() {
    assert!(matches!(Module::load(b"#!/bin/sh".to_vec()), Err(Refusal::Invalid { .. })));
    let whole = wat::parse_str(
        r#"(module (import "a" "b" (func (param i32))) (memory 1) (data (i32.const 8) "abc") (table 1 funcref)
            (elem (i32.const 0) 1) (func (local i32 i64) (loop (br_if 0 (local.get 0)))) (func (export "go") (call 1)))"#,
    )
    .expect("the text is a module");
    for cut in 0..whole.len() {
        if let Ok(module) = Module::load(whole[..cut].to_vec()) {
            drop(Instance::new(Rc::new(module), STACK));
        }
    }
    for at in 0..whole.len() {
        for flip in [0x01, 0x10, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            if let Ok(module) = Module::load(changed) {
                drop(Instance::new(Rc::new(module), STACK));
            }
        }
    }
    let outside = load(r#"(module (memory 1) (data (i32.const 65534) "abc"))"#).expect("it loads");
    let refusal = Instance::new(outside, STACK).err();
    assert!(matches!(&refusal, Some(Refusal::Failed { message }) if message.contains("out of bounds")), "{refusal:?}");
}

#[test]
fn a_module_says_what_it_imports() {
    let module = load(r#"(module (import "a" "b" (func (param i32 f64) (result i64))) (import "a" "c" (func)))"#)
        .expect("it loads");
    let kind = FunctionType { params: vec![Kind::I32, Kind::F64], results: vec![Kind::I64] };
    assert_eq!(module.imports().len(), 2);
    assert_eq!(module.imports()[0].function, kind);
    assert_eq!((module.imports()[1].index, module.imports()[1].name.as_str()), (1, "c"));
    assert_eq!(version(), (2, 4, 3));
}
