//! A host for instrumented modules on wasmi, an engine that is not ours: it stops a guest at chosen polls and host calls,
//! takes everything out of it, puts that into a new instance and lets it go on.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
};

use kedge_native::points::{
    metadata::{Metadata, SECTION},
    options::Options,
    select::Stand,
    types::Type,
};
use wasmi::{
    AsContext, AsContextMut, Caller, Config, Engine, Extern, ExternRef, ExternType, F32, F64, Func, Global, Instance,
    Memory, Module, Nullable, Ref, Store, Table, V128, Val, ValType,
};

/// A value of a frame as it crosses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    I32(i32),
    I64(i64),
    Func(Option<u32>),
    Extern(Option<u32>),
}

impl Piece {
    fn kind(&self) -> &'static str {
        match self {
            Self::I32(_) => "i32",
            Self::I64(_) => "i64",
            Self::Func(_) => "func",
            Self::Extern(_) => "extern",
        }
    }
}

/// A frame: its point and what was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub point: u32,
    pub values: Vec<Piece>,
}

/// Everything a stopped guest is.
#[derive(Clone, Debug)]
pub struct Image {
    memories: Vec<Vec<u8>>,
    globals: Vec<Vec<Piece>>,
    tables: Vec<(u32, Vec<Piece>)>,
    dropped_data: Vec<bool>,
    dropped_elements: Vec<bool>,
    pub frames: Vec<Frame>,
    outside: Outside,
}

/// What the host of the guest remembers: it moves with the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    pub log: Vec<String>,
    calls: u64,
}

/// When to stop, counted over the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub struct When {
    /// At this poll, counted from 0 in each instance.
    pub poll: Option<u64>,
    /// At this host call, likewise.
    pub call: Option<u64>,
}

#[derive(Default)]
struct Host {
    outside: Outside,
    metadata: Option<Metadata>,
    when: When,
    polls: u64,
    calls: u64,
    frames: Vec<Frame>,
    feed: Vec<Frame>,
    loading: VecDeque<Piece>,
    ordinal: u32,
    functions: Vec<Func>,
    externs: HashMap<u32, ExternRef>,
    unwind: Option<Global>,
}

/// How a call of the guest ended.
#[derive(Debug)]
pub enum End {
    Stopped(Box<Image>),
    Done(Outcome),
}

/// All that can be seen of a guest after it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub results: Result<Vec<String>, String>,
    pub state: String,
    pub outside: Outside,
    /// How many polls and host calls the last instance passed.
    pub polls: u64,
    pub calls: u64,
}

impl Outcome {
    /// What must not depend on stops.
    pub fn visible(&self) -> (&Result<Vec<String>, String>, &str, &Outside) {
        (&self.results, &self.state, &self.outside)
    }
}

/// A module, as it is or instrumented, and how to run it.
pub struct Machine {
    engine: Engine,
    module: Module,
    metadata: Option<Metadata>,
    /// Letters of the results of each function of the original.
    results: Vec<String>,
}

struct Running {
    store: Store<Host>,
    instance: Instance,
}

fn engine() -> Engine {
    let mut config = Config::default();
    config.wasm_multi_memory(true).wasm_tail_call(true).wasm_extended_const(true).wasm_simd(true);
    config.consume_fuel(true).set_max_recursion_depth(1000).set_max_stack_height(64 << 20);
    Engine::new(&config)
}

/// Enough for what the tests run, so that nothing can hang.
const FUEL: u64 = 2_000_000_000;

impl Machine {
    /// The module as it is.
    pub fn plain(bytes: &[u8]) -> Self {
        let engine = engine();
        let module = Module::new(&engine, bytes).expect("the original module");
        Self { engine, module, metadata: None, results: Vec::new() }
    }

    /// The module as the pass writes it.
    pub fn instrumented(bytes: &[u8], options: &Options) -> Self {
        let out = kedge_native::points::instrument(bytes, options).expect("instrumented");
        let engine = engine();
        let module = Module::new(&engine, &out[..]).unwrap_or_else(|error| {
            std::fs::write("/tmp/kedge-points-failed.wasm", &out).ok();
            panic!("the instrumented module: {error}")
        });
        let section = module.custom_sections().find(|section| section.name() == SECTION).expect("point table");
        let metadata = Metadata::decode(section.data()).expect("point table");
        Self { engine, module, metadata: Some(metadata), results: results(bytes) }
    }

    /// The module as it is, unless the reference engine lacks a feature of it.
    pub fn try_plain(bytes: &[u8]) -> Option<Self> {
        let engine = engine();
        let module = Module::new(&engine, bytes).ok()?;
        Some(Self { engine, module, metadata: None, results: Vec::new() })
    }

    /// The instrumented module, unless it has no stable points.
    pub fn try_instrumented(bytes: &[u8], options: &Options) -> Option<Self> {
        let machine = Self::instrumented(bytes, options);
        (!machine.metadata().functions.is_empty()).then_some(machine)
    }

    /// Types of the parameters of an exported function.
    pub fn parameters_of(&self, name: &str) -> Option<Vec<ValType>> {
        self.module.exports().find(|export| export.name() == name).and_then(|export| match export.ty() {
            ExternType::Func(ty) => Some(ty.params().to_vec()),
            _ => None,
        })
    }

    pub fn metadata(&self) -> &Metadata {
        self.metadata.as_ref().expect("instrumented")
    }

    fn instantiate(&self, outside: Outside, when: When) -> Result<Running, String> {
        let host = Host { outside, when, metadata: self.metadata.clone(), ..Host::default() };
        let mut store = Store::new(&self.engine, host);
        store.set_fuel(FUEL).expect("fuel");
        let ours = kedge_imports(&mut store);
        // By position: generated modules import the same name with several types.
        let mut items: Vec<Extern> = Vec::new();
        for import in self.module.imports() {
            if import.module() == "kedge" {
                items.push(ours[import.name()].into());
                continue;
            }
            items.push(match import.ty() {
                ExternType::Func(ty) => {
                    let name = import.name().to_owned();
                    let results = ty.results().to_vec();
                    Func::new(&mut store, ty.clone(), move |caller, args, out| {
                        outside_call(caller, &name, args, &results, out);
                        Ok(())
                    })
                    .into()
                }
                ExternType::Memory(ty) => Memory::new(&mut store, *ty).map_err(|error| error.to_string())?.into(),
                ExternType::Table(ty) => {
                    let null = match ty.element() {
                        wasmi::RefType::Func => Ref::Func(Nullable::Null),
                        wasmi::RefType::Extern => Ref::Extern(Nullable::Null),
                    };
                    Table::new(&mut store, *ty, null).map_err(|error| error.to_string())?.into()
                }
                ExternType::Global(ty) => Global::new(&mut store, zero(ty.content()), ty.mutability()).into(),
            });
        }
        let instance = Instance::new(&mut store, &self.module, &items).map_err(|error| trap(&error))?;
        if let Some(Extern::Table(table)) = instance.get_export(&store, "kedge:functions") {
            let size = table.size(&store);
            let functions = (0..size).map(|i| match table.get(&store, i) {
                Some(Ref::Func(Nullable::Val(function))) => function,
                other => panic!("kedge:functions holds {other:?}"),
            });
            store.data_mut().functions = functions.collect::<Vec<_>>();
        }
        store.data_mut().unwind = instance.get_global(&store, "kedge:unwind");
        if let Some(stop) = instance.get_global(&store, "kedge:stop") {
            stop.set(&mut store, Val::I32(1)).expect("kedge:stop");
        }
        Ok(Running { store, instance })
    }

    /// Starts a guest and calls an export of it. The start function runs before, and is not stopped here.
    pub fn call(&self, export: &str, args: &[Val], when: When) -> End {
        let mut running = match self.instantiate(Outside::default(), When::default()) {
            Ok(running) => running,
            Err(trap) => return End::Done(failed(trap)),
        };
        if let Some(start) = running.instance.get_func(&running.store, "kedge:start")
            && let Err(error) = start.call(&mut running.store, &[], &mut [])
        {
            return End::Done(running.outcome(Err(trap(&error))));
        }
        let host = running.store.data_mut();
        (host.when, host.polls, host.calls) = (when, 0, 0);
        let function = running.instance.get_func(&running.store, export).expect("export");
        running.run(function, args)
    }

    /// Puts an image into a new instance and goes on.
    pub fn resume(&self, image: &Image, when: When) -> End {
        let mut running = self.instantiate(image.outside.clone(), When::default()).expect("a second instance");
        running.restore(image);
        let metadata = self.metadata();
        let outermost = image.frames.last().expect("a frame");
        let slot = metadata.slot_of(outermost.point).expect("point");
        let function = metadata.functions[slot].function;
        let name = format!("kedge:resume:{}", self.results[function as usize]);
        let host = running.store.data_mut();
        host.feed.clone_from(&image.frames);
        (host.when, host.polls, host.calls) = (when, 0, 0);
        let resume = running.instance.get_func(&running.store, &name).unwrap_or_else(|| panic!("no export {name}"));
        running.run(resume, &[])
    }
}

/// The result letters of all functions of an original module.
fn results(bytes: &[u8]) -> Vec<String> {
    let module = kedge_native::points::module::Module::read(bytes).expect("original");
    let functions = (0u32..).take(module.functions.len());
    functions
        .map(|function| module.signature(function).results.iter().map(|ty| char::from(ty.letter())).collect())
        .collect()
}

/// The exported functions of a module that is not instrumented, with the types of their parameters.
pub fn parameters(bytes: &[u8]) -> Vec<(String, Vec<ValType>)> {
    let module = Module::new(&engine(), bytes).expect("the original module");
    let functions = module.exports().filter_map(|export| match export.ty() {
        ExternType::Func(ty) => Some((export.name().to_owned(), ty.params().to_vec())),
        _ => None,
    });
    functions.collect()
}

fn failed(trap: String) -> Outcome {
    Outcome { results: Err(trap), state: String::new(), outside: Outside::default(), polls: 0, calls: 0 }
}

/// The kind of a trap.
fn trap(error: &wasmi::Error) -> String {
    error.as_trap_code().map_or_else(|| error.to_string(), |code| format!("{code:?}"))
}

impl Running {
    fn run(&mut self, function: Func, args: &[Val]) -> End {
        let ty = function.ty(&self.store);
        let mut results: Vec<Val> = ty.results().iter().map(|ty| zero(*ty)).collect();
        let ended = function.call(&mut self.store, args, &mut results);
        let unwinding = self.store.data().unwind.is_some_and(|global| matches!(global.get(&self.store), Val::I32(1)));
        match ended {
            Err(error) => End::Done(self.outcome(Err(trap(&error)))),
            Ok(()) if unwinding => End::Stopped(Box::new(self.image())),
            Ok(()) => {
                let results = results.iter().map(|value| self.show(value)).collect();
                End::Done(self.outcome(Ok(results)))
            }
        }
    }

    fn export(&self, name: &str) -> Extern {
        self.instance.get_export(&self.store, name).unwrap_or_else(|| panic!("no export {name}"))
    }

    fn invoke(&mut self, name: &str, args: &[Val]) -> Option<Val> {
        let function = self.instance.get_func(&self.store, name).unwrap_or_else(|| panic!("no export {name}"));
        let mut results: Vec<Val> = function.ty(&self.store).results().iter().map(|ty| zero(*ty)).collect();
        function.call(&mut self.store, args, &mut results).unwrap_or_else(|error| panic!("{name}: {error}"));
        results.pop()
    }

    fn invoke_i64(&mut self, name: &str) -> Piece {
        match self.invoke(name, &[]) {
            Some(Val::I64(bits)) => Piece::I64(bits),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Takes everything out of a stopped guest.
    fn image(&mut self) -> Image {
        let metadata = self.store.data().metadata.clone().expect("instrumented");
        let mut frames = std::mem::take(&mut self.store.data_mut().frames);
        for (i, frame) in frames.iter_mut().enumerate() {
            take_frame(&metadata, frame, i == 0);
        }
        let mut memories = Vec::new();
        while let Some(Extern::Memory(memory)) =
            self.instance.get_export(&self.store, &format!("kedge:memory:{}", memories.len()))
        {
            memories.push(memory.data(&self.store).to_vec());
        }
        let mut globals = Vec::new();
        for (index, ty) in &metadata.globals {
            globals.push(match ty {
                Type::V128 => vec![
                    self.invoke_i64(&format!("kedge:get_global:{index}:lo")),
                    self.invoke_i64(&format!("kedge:get_global:{index}:hi")),
                ],
                Type::Func | Type::Extern => {
                    let scratch = Frame { point: 0, values: Vec::new() };
                    self.store.data_mut().frames = vec![scratch];
                    self.invoke(&format!("kedge:save_global:{index}"), &[]);
                    self.store.data_mut().frames.pop().expect("scratch").values
                }
                _ => vec![self.invoke_i64(&format!("kedge:get_global:{index}"))],
            });
        }
        let mut tables = Vec::new();
        for index in &metadata.tables {
            let Extern::Table(table) = self.export(&format!("kedge:table:{index}")) else { panic!("no table") };
            let slots = (0..table.size(&self.store))
                .map(|i| match table.get(&self.store, i) {
                    Some(Ref::Func(value)) => Piece::Func(self.ordinal(value)),
                    Some(Ref::Extern(value)) => Piece::Extern(extern_number(&self.store, value)),
                    None => panic!("slot"),
                })
                .collect();
            tables.push((*index, slots));
        }
        let mut dropped = |kind: &str, list: &[u32]| {
            list.iter()
                .map(|index| !matches!(self.invoke(&format!("kedge:dropped_{kind}:{index}"), &[]), Some(Val::I32(0))))
                .collect::<Vec<bool>>()
        };
        let dropped_data = dropped("data", &metadata.dropped_data);
        let dropped_elements = dropped("elem", &metadata.dropped_elements);
        let outside = self.store.data().outside.clone();
        Image { memories, globals, tables, dropped_data, dropped_elements, frames, outside }
    }

    fn ordinal(&self, value: Nullable<Func>) -> Option<u32> {
        let Nullable::Val(function) = value else { return None };
        Some(ordinal(&self.store.data().functions, function))
    }

    fn restore(&mut self, image: &Image) {
        let metadata = self.store.data().metadata.clone().expect("instrumented");
        for (index, bytes) in image.memories.iter().enumerate() {
            let Extern::Memory(memory) = self.export(&format!("kedge:memory:{index}")) else { panic!("no memory") };
            let missing = (bytes.len() as u64 >> 16) - memory.size(&self.store);
            memory.grow(&mut self.store, missing).expect("growth");
            memory.data_mut(&mut self.store).copy_from_slice(bytes);
        }
        for ((index, ty), pieces) in metadata.globals.iter().zip(&image.globals) {
            let bits = |piece: &Piece| match piece {
                Piece::I64(bits) => Val::I64(*bits),
                other => panic!("{other:?}"),
            };
            match ty {
                Type::V128 => {
                    self.invoke(&format!("kedge:set_global:{index}:lo"), &[bits(&pieces[0])]);
                    self.invoke(&format!("kedge:set_global:{index}:hi"), &[bits(&pieces[1])]);
                }
                Type::Func | Type::Extern => {
                    self.store.data_mut().loading = pieces.iter().cloned().collect();
                    self.invoke(&format!("kedge:load_global:{index}"), &[]);
                }
                _ => {
                    self.invoke(&format!("kedge:set_global:{index}"), &[bits(&pieces[0])]);
                }
            }
        }
        for (index, slots) in &image.tables {
            let Extern::Table(table) = self.export(&format!("kedge:table:{index}")) else { panic!("no table") };
            let missing = slots.len() as u64 - table.size(&self.store);
            let missing = Val::I32(i32::try_from(missing).expect("size"));
            self.invoke(&format!("kedge:table_grow:{index}"), &[missing]);
            for (slot, piece) in (0i32..).zip(slots) {
                let name = format!("kedge:table_set:{index}");
                match piece {
                    Piece::Func(ordinal) => {
                        let ordinal = ordinal.map_or(0, |ordinal| i32::try_from(ordinal).expect("ordinal") + 1);
                        self.invoke(&name, &[Val::I32(slot), Val::I32(ordinal)]);
                    }
                    other => {
                        self.store.data_mut().loading = VecDeque::from([other.clone()]);
                        self.invoke(&name, &[Val::I32(slot)]);
                    }
                }
            }
        }
        for (index, dropped) in metadata.dropped_data.iter().zip(&image.dropped_data) {
            if *dropped {
                self.invoke(&format!("kedge:drop_data:{index}"), &[]);
            }
        }
        for (index, dropped) in metadata.dropped_elements.iter().zip(&image.dropped_elements) {
            if *dropped {
                self.invoke(&format!("kedge:drop_elem:{index}"), &[]);
            }
        }
    }

    /// What the module's own exports show after the end.
    fn outcome(&mut self, results: Result<Vec<String>, String>) -> Outcome {
        let mut state = String::new();
        let exports: Vec<(String, Extern)> = self
            .instance
            .exports(&self.store)
            .filter(|export| !export.name().starts_with("kedge:"))
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        for (name, item) in &exports {
            match item {
                Extern::Memory(memory) => {
                    let data = memory.data(&self.store);
                    let mut hash = 0xcbf2_9ce4_8422_2325u64;
                    for byte in data {
                        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                    }
                    writeln!(state, "memory {name}: {} bytes, {hash:x}", data.len()).expect("text");
                }
                Extern::Global(global) => {
                    let value = global.get(&self.store);
                    writeln!(state, "global {name}: {}", self.show(&value)).expect("text");
                }
                Extern::Table(table) => {
                    write!(state, "table {name}:").expect("text");
                    for i in 0..table.size(&self.store) {
                        let shown = match table.get(&self.store, i) {
                            Some(Ref::Func(value)) => self.show(&Val::FuncRef(value)),
                            Some(Ref::Extern(value)) => self.show(&Val::ExternRef(value)),
                            None => "?".to_owned(),
                        };
                        write!(state, " {shown}").expect("text");
                    }
                    state.push('\n');
                }
                Extern::Func(_) => {}
            }
        }
        let Host { outside, polls, calls, .. } = self.store.data();
        Outcome { results, state, outside: outside.clone(), polls: *polls, calls: *calls }
    }

    /// A value as text that means the same in every instance: bits, names of exported functions.
    fn show(&self, value: &Val) -> String {
        match value {
            Val::FuncRef(Nullable::Val(function)) => {
                let wanted = format!("{function:?}");
                let found = self.instance.exports(&self.store).find(|export| {
                    !export.name().starts_with("kedge:")
                        && matches!(export.clone().into_extern(), Extern::Func(one) if format!("{one:?}") == wanted)
                });
                found.map_or_else(|| "a function".to_owned(), |export| export.name().to_owned())
            }
            Val::ExternRef(value) => format!("{:?}", extern_number(&self.store, *value)),
            other => bits(other),
        }
    }
}

/// A number or null as text.
fn bits(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("i32 {value:x}"),
        Val::I64(value) => format!("i64 {value:x}"),
        Val::F32(value) => format!("f32 {:x}", value.to_bits()),
        Val::F64(value) => format!("f64 {:x}", value.to_bits()),
        Val::V128(value) => format!("v128 {:x}", value.as_u128()),
        Val::FuncRef(value) => if value.is_null() { "null" } else { "a function" }.to_owned(),
        Val::ExternRef(value) => if value.is_null() { "null" } else { "an object" }.to_owned(),
    }
}

/// A frame must hold exactly the values of all locals and temporaries of its function, in their order. Those that its point
/// names remain.
fn take_frame(metadata: &Metadata, frame: &mut Frame, innermost: bool) {
    let slot = metadata.slot_of(frame.point).expect("a point of the table");
    let resumable = &metadata.functions[slot];
    let points = metadata.points(slot).expect("points");
    let point = &points[(frame.point - resumable.first_point) as usize];
    assert_eq!(point.stand == Stand::At, innermost, "{point:?}");
    let mut pieces = std::mem::take(&mut frame.values).into_iter();
    let mut all = Vec::new();
    for ty in resumable.locals.iter().chain(&resumable.temps) {
        let kinds: &[&str] = match ty {
            Type::I32 | Type::F32 => &["i32"],
            Type::I64 | Type::F64 => &["i64"],
            Type::V128 => &["i64", "i64"],
            Type::Func => &["func"],
            Type::Extern => &["extern"],
        };
        let value: Vec<Piece> = pieces.by_ref().take(kinds.len()).collect();
        let saved: Vec<&str> = value.iter().map(Piece::kind).collect();
        assert_eq!(saved, kinds, "the frame of {point:?}");
        all.push(value);
    }
    assert_eq!(pieces.next(), None, "the frame of {point:?}");
    let first_temp = u32::try_from(resumable.locals.len()).expect("count");
    for index in point.live.iter().copied().chain(point.operands.iter().map(|temp| first_temp + temp)) {
        frame.values.append(&mut all[index as usize]);
    }
}

fn zero(ty: ValType) -> Val {
    match ty {
        ValType::I32 => Val::I32(0),
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(F32::from_bits(0)),
        ValType::F64 => Val::F64(F64::from_bits(0)),
        ValType::V128 => Val::V128(V128::from(0u128)),
        ValType::FuncRef => Val::FuncRef(Nullable::Null),
        ValType::ExternRef => Val::ExternRef(Nullable::Null),
    }
}

fn ordinal(functions: &[Func], function: Func) -> u32 {
    let wanted = format!("{function:?}");
    let found = functions.iter().position(|one| format!("{one:?}") == wanted).expect("an ordinal");
    u32::try_from(found).expect("ordinal")
}

fn extern_number(store: impl AsContext, value: Nullable<ExternRef>) -> Option<u32> {
    match value {
        Nullable::Null => None,
        Nullable::Val(value) => Some(*value.data(store.as_context()).downcast_ref::<u32>().expect("one of ours")),
    }
}

fn extern_value(mut caller: impl AsContextMut<Data = Host>, number: Option<u32>) -> Nullable<ExternRef> {
    let Some(number) = number else { return Nullable::Null };
    let mut context = caller.as_context_mut();
    if let Some(known) = context.data().externs.get(&number) {
        return Nullable::Val(*known);
    }
    let value = ExternRef::new::<u32>(&mut context, number);
    context.data_mut().externs.insert(number, value);
    Nullable::Val(value)
}

/// What the guest's own imports do: they note the call and make up results from how many calls there were.
fn outside_call(mut caller: Caller<'_, Host>, name: &str, args: &[Val], results: &[ValType], out: &mut [Val]) {
    let host = caller.data_mut();
    let stop = host.when.call == Some(host.calls);
    host.calls += 1;
    if stop {
        let unwind = host.unwind.expect("kedge:unwind");
        unwind.set(&mut caller, Val::I32(1)).expect("kedge:unwind");
        return;
    }
    let args: Vec<String> = args
        .iter()
        .map(|value| match value {
            Val::ExternRef(value) => format!("{:?}", extern_number(&caller, *value)),
            other => bits(other),
        })
        .collect();
    let host = caller.data_mut();
    host.outside.log.push(format!("{name}({})", args.join(", ")));
    host.outside.calls += 1;
    let seed = host.outside.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (slot, ty) in out.iter_mut().zip(results) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // any bits will do
        let value = match ty {
            ValType::I32 => Val::I32((seed % 7) as i32),
            ValType::I64 => Val::I64(seed as i64),
            ValType::F32 => Val::F32(F32::from_float((seed % 1000) as f32)),
            ValType::F64 => Val::F64(F64::from_float((seed % 1000) as f64)),
            ValType::V128 => Val::V128(V128::from(u128::from(seed))),
            ValType::FuncRef => Val::FuncRef(Nullable::Null),
            ValType::ExternRef => {
                let number = (seed % 16) as u32;
                Val::ExternRef(extern_value(&mut caller, Some(number)))
            }
        };
        *slot = value;
    }
}

/// The host's side of instrumented code.
fn kedge_imports(store: &mut Store<Host>) -> HashMap<&'static str, Func> {
    let saved = |host: &mut Host, piece: Piece| host.frames.last_mut().expect("a frame was begun").values.push(piece);
    let load = |host: &mut Host| host.loading.pop_front().expect("a value to load");
    let poll = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>, _point: i32| -> i32 {
        let host = caller.data_mut();
        let stop = host.when.poll == Some(host.polls);
        host.polls += 1;
        i32::from(stop)
    });
    let frame = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>, point: i32| {
        let point = point.cast_unsigned();
        caller.data_mut().frames.push(Frame { point, values: Vec::new() });
    });
    let save_i32 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: i32| {
        saved(caller.data_mut(), Piece::I32(value));
    });
    let save_i64 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: i64| {
        saved(caller.data_mut(), Piece::I64(value));
    });
    let save_func = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: Nullable<Func>| {
        let host = caller.data_mut();
        let piece = match value {
            Nullable::Null => None,
            Nullable::Val(function) => Some(ordinal(&host.functions, function)),
        };
        saved(host, Piece::Func(piece));
    });
    let save_extern = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: Nullable<ExternRef>| {
        let piece = extern_number(&caller, value);
        saved(caller.data_mut(), Piece::Extern(piece));
    });
    let next = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>| -> i32 { next(caller.data_mut()) });
    let entry = Func::wrap(&mut *store, |caller: Caller<'_, Host>| -> i32 {
        assert!(caller.data().loading.is_empty(), "values were left over");
        caller.data().ordinal.cast_signed()
    });
    let load_i32 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> i32 {
        match load(caller.data_mut()) {
            Piece::I32(value) => value,
            other => panic!("an i32 was wanted, not {other:?}"),
        }
    });
    let load_i64 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> i64 {
        match load(caller.data_mut()) {
            Piece::I64(value) => value,
            other => panic!("an i64 was wanted, not {other:?}"),
        }
    });
    let load_func = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> Nullable<Func> {
        match load(caller.data_mut()) {
            Piece::Func(None) => Nullable::Null,
            Piece::Func(Some(ordinal)) => Nullable::Val(caller.data().functions[ordinal as usize]),
            other => panic!("a function was wanted, not {other:?}"),
        }
    });
    let load_extern = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> Nullable<ExternRef> {
        match load(caller.data_mut()) {
            Piece::Extern(number) => extern_value(&mut caller, number),
            other => panic!("an object was wanted, not {other:?}"),
        }
    });
    HashMap::from([
        ("poll", poll),
        ("frame", frame),
        ("save_i32", save_i32),
        ("save_i64", save_i64),
        ("save_func", save_func),
        ("save_extern", save_extern),
        ("next", next),
        ("entry", entry),
        ("load_i32", load_i32),
        ("load_i64", load_i64),
        ("load_func", load_func),
        ("load_extern", load_extern),
    ])
}

/// Goes to the next frame inwards: its values, by the layout of its function.
fn next(host: &mut Host) -> i32 {
    let metadata = host.metadata.as_ref().expect("instrumented");
    let frame = host.feed.pop().expect("a frame");
    let slot = metadata.slot_of(frame.point).expect("point");
    let resumable = &metadata.functions[slot];
    let point = metadata.points(slot).expect("points").swap_remove((frame.point - resumable.first_point) as usize);
    let zeros = |ty: &Type| match ty {
        Type::I32 | Type::F32 => vec![Piece::I32(0)],
        Type::I64 | Type::F64 => vec![Piece::I64(0)],
        Type::V128 => vec![Piece::I64(0), Piece::I64(0)],
        Type::Func => vec![Piece::Func(None)],
        Type::Extern => vec![Piece::Extern(None)],
    };
    let mut locals: Vec<Vec<Piece>> = resumable.locals.iter().map(zeros).collect();
    let mut temps: Vec<Vec<Piece>> = resumable.temps.iter().map(zeros).collect();
    let mut values = frame.values.into_iter();
    for slot in point.live.iter().map(|local| (false, *local)).chain(point.operands.iter().map(|temp| (true, *temp))) {
        let target = if slot.0 { &mut temps[slot.1 as usize] } else { &mut locals[slot.1 as usize] };
        for piece in target.iter_mut() {
            *piece = values.next().expect("a value");
        }
    }
    host.loading = locals.into_iter().chain(temps).flatten().collect();
    host.ordinal = point.ordinal;
    i32::try_from(slot).expect("slot")
}
