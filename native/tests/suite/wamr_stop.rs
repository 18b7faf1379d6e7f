//! What other threads do to a guest of WAMR.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use kedge_native::wamr::stop;

use super::wamr::{Nobody, instance, wasm};

#[test]
fn another_thread_stops_a_loop() {
    let guest = instance(
        r#"(module (global $stop (export "stop") (mut i32) (i32.const 0)) (global (export "fixed") i32 (i32.const 0))
            (func (export "spin") (loop (br_if 0 (i32.eqz (global.get $stop))))))"#,
    );
    assert_eq!(guest.share_flag("fixed"), None);
    let flag = guest.share_flag("stop").expect("it has the flag");
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        assert!(stop::write(flag, 1));
    });
    assert_eq!(guest.call("spin", &[], &Nobody), Ok(vec![]));
    other.join().expect("the other thread wrote the flag");
    drop(guest);
    assert!(!stop::write(flag, 1), "the flag is gone with its instance");
}

#[test]
fn code_that_never_calls_its_host_is_ended_from_another_thread() {
    let bodies = [
        "(loop $again (br $again))",
        "(loop $again (br_if $again (i32.const 1)))",
        "(loop $again (br_table $again $again (i32.const 7)))",
        "(block $out (loop $again (br_if $out (i32.eqz (i32.const 1))) (br $again)))",
        "(return_call $f)",
        "(return_call_indirect (i32.const 0))",
    ];
    for body in bodies {
        let guest = instance(&format!(
            r#"(module (memory 1) (table 1 1 funcref) (elem (i32.const 0) $f)
                (func (export "quick") (result i32) (i32.const 7))
                (func $f (export "f") (i32.store8 (i32.const 0) (i32.const 1)) {body}))"#
        ));
        let number = guest.share_end();
        let place = guest.memory().expect("it has a memory").0.as_ptr() as usize;
        let ending = thread::spawn(move || {
            // SAFETY: the memory stays where it is until this thread was waited for.
            let begun = unsafe { AtomicU8::from_ptr(place as *mut u8) };
            while begun.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            assert!(stop::end(number));
        });
        assert_eq!(guest.call("f", &[], &Nobody), wasm("terminated by user"), "{body}");
        ending.join().expect("the thread has ended it");
        assert_eq!(guest.call("quick", &[], &Nobody), Ok(vec![7]), "what comes next is a call like any other");
        drop(guest);
        assert!(!stop::end(number), "the number is gone with its instance");
    }
}
