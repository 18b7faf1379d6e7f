//! A host for instrumented modules on wasmi, an engine that is not ours: it stops a guest at chosen polls and host calls,
//! takes everything out of it, puts that into a new instance and lets it go on.

mod host;
mod image;
mod outcome;
mod values;

use kedge_native::points::{
    metadata::{Metadata, SECTION},
    options::Options,
};
use wasmi::{
    Config, Engine, Extern, ExternType, Func, Global, Instance, Memory, Module, Nullable, Ref, Store,
    StoreLimitsBuilder, Table, Val, ValType,
};

pub use host::When;
use host::{Host, Outside, kedge_imports, outside_call};
pub use image::Image;
pub use outcome::Outcome;
use values::{Piece, zero};

/// How a call of the guest ended.
#[derive(Debug)]
pub enum End {
    Stopped(Box<Image>),
    Done(Outcome),
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
/// How far a table grows, as on WAMR: one instruction could ask for gigabytes, which fuel does not count.
const TABLE: usize = 65_536;

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
        let limits = StoreLimitsBuilder::new().table_elements(TABLE).build();
        let host = Host { outside, when, metadata: self.metadata.clone(), limits, ..Host::default() };
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.limits);
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
    let module = kedge_native::points::module::Module::read(bytes, None).expect("original");
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
}
