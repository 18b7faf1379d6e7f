//! What the pass does not take, by name and place; and what must not upset it.

use kedge_native::points::{instrument, options::Options, refusal::Refusal};

fn refusal(text: &str) -> Refusal {
    let bytes = wat::parse_str(text).expect("text of a module");
    instrument(&bytes, &Options::default()).expect_err("a refusal")
}

#[track_caller]
fn unsupported(text: &str, name: &str) {
    let refusal = refusal(text);
    assert_eq!(refusal.code(), "KEDGE_MODULE_UNSUPPORTED", "{refusal}");
    match refusal {
        Refusal::Unsupported { feature, offset } => {
            assert_eq!(feature, name);
            assert!(offset >= 8, "an offset in the module, not {offset}");
        }
        Refusal::Invalid { message, .. } => panic!("{message}"),
    }
}

/// What is in custom sections is nobody's error, and never taken for ours.
#[test]
fn custom_sections_that_mislead() {
    let text = r#"(module (func (export "run") (loop $l (br_if $l (i32.const 0)))))"#;
    let plain = wat::parse_str(text).expect("text of a module");
    let section = |name: &str, data: &[u8]| {
        let mut bytes = plain[..8].to_vec();
        let length = u8::try_from(1 + name.len() + data.len()).expect("short");
        bytes.extend([0, length, u8::try_from(name.len()).expect("short")]);
        bytes.extend(name.as_bytes());
        bytes.extend(data);
        bytes.extend(&plain[8..]);
        instrument(&bytes, &Options::default()).expect("instrumented")
    };
    let ours = |out: &[u8]| out.windows(12).filter(|bytes| bytes == b"kedge.points").count();
    assert_eq!(ours(&section("kedge.points", &[1, 2, 3])), 1);
    // The name of function 2^32 - 1.
    section("name", &[1, 8, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, b'x']);
}

#[test]
fn features_that_are_not_covered() {
    unsupported("(module (tag $t))", "exception handling");
    unsupported("(module (func (try_table)))", "exception handling");
    unsupported("(module (memory i64 1))", "memory64");
    unsupported("(module (memory 1 1 shared))", "threads");
    unsupported("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads");
    unsupported("(module (type (struct (field i32))))", "garbage collection");
    unsupported("(module (func (param anyref)))", "garbage collection");
    unsupported(
        "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))",
        "typed function references",
    );
    unsupported(
        "(module (func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
        "relaxed SIMD",
    );
}

#[test]
fn a_component() {
    let refusal = instrument(b"\0asm\x0d\0\x01\0", &Options::default()).expect_err("a refusal");
    assert!(matches!(refusal, Refusal::Unsupported { feature: "the component model", .. }), "{refusal}");
}

#[test]
fn names_of_ours() {
    unsupported(r#"(module (func (export "kedge:start")))"#, "export names that start with `kedge:`");
    unsupported(r#"(module (import "kedge" "poll" (func)))"#, "imports from `kedge`");
}

#[test]
fn a_name_of_ours_is_refused_where_its_entry_stands() {
    let place = |text: &str, name: &str| {
        let bytes = wat::parse_str(text).expect("text of a module");
        // An entry begins with the length of its first name.
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).expect("the name") - 1;
        let refusal = instrument(&bytes, &Options::default()).expect_err("a refusal");
        let Refusal::Unsupported { offset, .. } = refusal else { panic!("{refusal}") };
        assert_eq!(offset, at, "{text}");
    };
    place(r#"(module (func (export "a")) (func (export "kedge:b")) (func (export "kedge:c")))"#, "kedge:b");
    place(r#"(module (import "a" "b" (func)) (import "kedge" "c" (func)) (export "kedge:d" (func 0)))"#, "kedge");
}

#[test]
fn a_module_that_is_not_valid_is_no_matter_of_names() {
    let refusal = refusal(r#"(module (func (export "kedge:b")) (start 5))"#);
    assert_eq!(refusal.code(), "KEDGE_MODULE_INVALID", "{refusal}");
}

#[test]
fn an_instrumented_module_is_not_instrumented_again() {
    let bytes = wat::parse_str("(module (memory 1) (func (loop (br 0))))").expect("text of a module");
    let once = instrument(&bytes, &Options::default()).expect("instrumented");
    assert!(matches!(instrument(&once, &Options::default()), Err(Refusal::Unsupported { .. })));
}

#[test]
fn no_module_at_all() {
    for bytes in [&b""[..], b"\0", b"\0asm", b"\0asm\x02\0\0\0", b"hello, world", b"\0asm\x01\0\0\0\x01\xff"] {
        assert_eq!(instrument(bytes, &Options::default()).expect_err("an error").code(), "KEDGE_MODULE_INVALID");
    }
}

#[test]
fn an_empty_module() {
    let out = instrument(b"\0asm\x01\0\0\0", &Options::default()).expect("instrumented");
    assert!(out.len() < 100);
}
