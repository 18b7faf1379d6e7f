//! The stable-point pass: its output is run on wasmi, stopped, moved to new instances and compared with the original.

mod bounds;
mod constants;
mod generated;
mod machine;
mod programs;
mod refusals;
mod scripts;
mod sizes;
mod threads;

use kedge_native::points::options::{Flag, Options, Policy};
use machine::{End, Machine, Outcome, When};
use wasmi::Val;

pub const POLICIES: [Policy; 5] = [Policy::Call, Policy::Function, Policy::Loop, Policy::LoopAll, Policy::Instruction];
pub const FLAGS: [Flag; 3] = [Flag::Memory, Flag::Global, Flag::Count];

pub fn options(policy: Policy) -> Options {
    Options { policy, flag: Flag::Global, ..Options::default() }
}

/// Runs a module to its end, and again with stops: at every `step`-th poll of each instance, until it is done.
pub fn stop_and_go(bytes: &[u8], export: &str, args: &[Val], options: &Options, step: u64) -> (Outcome, Outcome, u64) {
    let plain = match Machine::plain(bytes).call(export, args, When::default()) {
        End::Done(outcome) => outcome,
        End::Stopped(_) => panic!("nobody asked it to stop"),
    };
    let machine = Machine::instrumented(bytes, options);
    let when = When { poll: Some(step), call: None };
    let mut end = machine.call(export, args, when);
    let mut stops = 0;
    loop {
        match end {
            End::Done(outcome) => return (plain, outcome, stops),
            End::Stopped(image) => {
                stops += 1;
                assert!(stops < 100_000, "it does not get on");
                end = machine.resume(&image, when);
            }
        }
    }
}

/// The same for one stop at each poll in turn, up to `most` of them spread over the run; and at each host call.
pub fn stop_everywhere(bytes: &[u8], export: &str, args: &[Val], options: &Options, most: u64) {
    let End::Done(plain) = Machine::plain(bytes).call(export, args, When::default()) else { panic!("stopped") };
    let machine = Machine::instrumented(bytes, options);
    let End::Done(whole) = machine.call(export, args, When::default()) else { panic!("stopped") };
    assert_eq!(plain.visible(), whole.visible(), "{options:?}, never stopped");
    let step = (whole.polls / most).max(1);
    for poll in (0..whole.polls).step_by(usize::try_from(step).expect("step")) {
        once(&machine, export, args, When { poll: Some(poll), call: None }, &plain, options);
    }
    for call in 0..whole.calls.min(most) {
        once(&machine, export, args, When { poll: None, call: Some(call) }, &plain, options);
    }
}

fn once(machine: &Machine, export: &str, args: &[Val], when: When, plain: &Outcome, options: &Options) {
    let End::Stopped(image) = machine.call(export, args, when) else { panic!("{when:?} does not come") };
    let End::Done(outcome) = machine.resume(&image, When::default()) else { panic!("stopped") };
    assert_eq!(plain.visible(), outcome.visible(), "{options:?}, stopped at {when:?}");
}
