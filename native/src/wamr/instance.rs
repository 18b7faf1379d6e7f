//! Instances: calls, host functions and memory; globals and tables are in [`super::exports`].

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{CStr, CString},
    ptr::{self, NonNull},
    rc::Rc,
};

use super::{
    imports::{Host, Running},
    module::{Message, Module},
    stop::{self, Known},
    sys,
    types::{Export, FunctionType, Kind, NULL, Refusal, Trap},
};

/// Bytes of a page of linear memory.
pub const PAGE_SIZE: usize = 65_536;

/// A function that was looked up.
#[derive(Clone)]
struct Callable {
    handle: NonNull<sys::CFunction>,
    kind: Rc<FunctionType>,
}

/// One instance of a module, with a stack of its own. Raw pointers keep it on its thread.
pub struct Instance {
    pub(super) handle: NonNull<sys::CInstance>,
    env: NonNull<sys::CExecEnv>,
    running: Box<Running>,
    callables: RefCell<HashMap<String, Callable>>,
    pub(super) known: RefCell<Vec<Known>>,
    pub(super) module: Rc<Module>,
}

/// What a thread needs to run guests.
struct ThreadEnv(bool);

impl ThreadEnv {
    fn new() -> Self {
        // SAFETY: the runtime was started when the module was loaded; this runs once in each thread.
        Self(unsafe { sys::wasm_runtime_init_thread_env() })
    }
}

impl Drop for ThreadEnv {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: the thread that set it up is ending, and instances do not leave their thread.
            unsafe { sys::wasm_runtime_destroy_thread_env() };
        }
    }
}

thread_local! {
    static THREAD: ThreadEnv = ThreadEnv::new();
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal::Failed { message: message.into() }
}

impl Instance {
    /// Makes an instance whose calls nest on a stack of `stack_size` bytes.
    ///
    /// # Errors
    /// When segments lie outside their memory or table, or memory is short.
    pub fn new(module: Rc<Module>, stack_size: u32) -> Result<Self, Refusal> {
        if !THREAD.with(|thread| thread.0) {
            return Err(failed("WAMR cannot run in this thread"));
        }
        let mut message = Message::new();
        let (text, room) = message.place();
        // SAFETY: the module is loaded and is kept alive by the instance.
        let handle = unsafe { sys::wasm_runtime_instantiate(module.handle(), stack_size, 0, text, room) };
        let handle = NonNull::new(handle).ok_or_else(|| failed(message.text()))?;
        // SAFETY: the instance is alive.
        let Some(env) = NonNull::new(unsafe { sys::wasm_runtime_create_exec_env(handle.as_ptr(), stack_size) }) else {
            // SAFETY: nothing else knows the instance yet.
            unsafe { sys::wasm_runtime_deinstantiate(handle.as_ptr()) };
            return Err(failed("no memory for a stack"));
        };
        let running = Box::new(Running { host: Cell::new(None), ended: Cell::new(false), depth: Cell::new(0) });
        // SAFETY: the box lives as long as the instance and does not move.
        unsafe { sys::wasm_runtime_set_custom_data(handle.as_ptr(), ptr::from_ref(&*running).cast_mut().cast()) };
        Ok(Self { handle, env, running, callables: RefCell::default(), known: RefCell::default(), module })
    }

    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// True while one of its functions runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.running.depth.get() > 0
    }

    /// The type of an exported function.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Rc<FunctionType>> {
        self.callable(name).map(|callable| callable.kind)
    }

    fn callable(&self, name: &str) -> Option<Callable> {
        if let Some(known) = self.callables.borrow().get(name) {
            return Some(known.clone());
        }
        let Export::Function(kind) = self.module.export(name)? else {
            return None;
        };
        let text = CString::new(name).ok()?;
        // SAFETY: the instance is alive and the name ends in a zero.
        let handle = unsafe { sys::wasm_runtime_lookup_function(self.handle.as_ptr(), text.as_ptr()) };
        let callable = Callable { handle: NonNull::new(handle)?, kind: Rc::new(kind.clone()) };
        self.callables.borrow_mut().insert(name.to_string(), callable.clone());
        Some(callable)
    }

    /// Calls an exported function; imports that it calls are served by `host`. Values are bit patterns.
    ///
    /// # Errors
    /// The trap that ended it.
    pub fn call(&self, name: &str, arguments: &[u64], host: &dyn Host) -> Result<Vec<u64>, Trap> {
        let Some(Callable { handle, kind }) = self.callable(name) else {
            return Err(Trap::Misuse(format!("no exported function {name}")));
        };
        if arguments.len() != kind.params.len() {
            return Err(Trap::Misuse(format!("{name} takes {} arguments", kind.params.len())));
        }
        let foreign = |(kind, value): (&Kind, &u64)| *kind == Kind::ExternRef && *value != NULL;
        if kind.params.iter().zip(arguments).any(foreign) {
            return Err(Trap::Misuse(format!("{name} takes no externref but null")));
        }
        let mut cells = to_cells(&kind.params, arguments);
        // Bounded by the number of parameters of a function.
        let count = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let results: usize = kind.results.iter().map(|kind| kind.cells()).sum();
        cells.resize(cells.len().max(results).max(2), 0);
        if self.enter(handle, count, &mut cells, host) {
            return Ok(from_cells(&kind.results, &cells));
        }
        Err(self.trap())
    }

    fn enter(&self, function: NonNull<sys::CFunction>, count: u32, cells: &mut [u32], host: &dyn Host) -> bool {
        let running = &*self.running;
        // SAFETY: only the lifetime changes; the place is emptied or given back to the outer call before `host` ends.
        let host: *const dyn Host = unsafe { std::mem::transmute::<&dyn Host, *const dyn Host>(host) };
        let outer = running.host.replace(Some(host));
        running.depth.set(running.depth.get() + 1);
        // SAFETY: environment and function belong to this instance and this thread; the cells hold the arguments and have room for
        // the results. What it calls back is `trampoline`, which takes nothing of `self` mutably.
        let returned =
            unsafe { sys::wasm_runtime_call_wasm(self.env.as_ptr(), function.as_ptr(), count, cells.as_mut_ptr()) };
        running.depth.set(running.depth.get() - 1);
        running.host.set(outer);
        returned
    }

    fn trap(&self) -> Trap {
        stop::settle();
        // SAFETY: the text belongs to the instance and is copied before it is cleared.
        let text = unsafe { sys::wasm_runtime_get_exception(self.handle.as_ptr()) };
        let message = if text.is_null() {
            String::from("unknown trap")
        } else {
            // SAFETY: WAMR's messages end in a zero.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        // SAFETY: the instance is alive.
        unsafe { sys::wasm_runtime_clear_exception(self.handle.as_ptr()) };
        if self.running.ended.replace(false) {
            return Trap::Host;
        }
        let message = message.strip_prefix("Exception: ").unwrap_or(&message);
        Trap::Wasm(
            match message {
                "wasm operand stack overflow" | "native stack overflow" => "call stack exhausted",
                other => other,
            }
            .to_string(),
        )
    }

    /// Address and length of linear memory. It may move whenever guest code runs or memory grows.
    #[must_use]
    pub fn memory(&self) -> Option<(NonNull<u8>, usize)> {
        // SAFETY: the instance is alive; a null memory is one that the module does not have.
        let memory = NonNull::new(unsafe { sys::wasm_runtime_get_default_memory(self.handle.as_ptr()) })?;
        // SAFETY: the memory belongs to the instance.
        let base = unsafe { sys::wasm_memory_get_base_address(memory.as_ptr()) };
        // SAFETY: as above.
        let pages = unsafe { sys::wasm_memory_get_cur_page_count(memory.as_ptr()) };
        // SAFETY: as above. A memory that no instruction can grow is one large page for WAMR.
        let size = unsafe { sys::wasm_memory_get_bytes_per_page(memory.as_ptr()) };
        let length = usize::try_from(pages.checked_mul(size)?).ok()?;
        NonNull::new(base.cast()).map(|base| (base, length))
    }

    /// Adds pages to linear memory; false when it may not or cannot grow so far, when no instruction of the module could grow it, or
    /// while guest code is running.
    #[must_use]
    pub fn grow(&self, pages: u64) -> bool {
        if self.running() || u32::try_from(pages).is_err() {
            return false;
        }
        // SAFETY: the instance is alive and none of its code, which might hold the old address, is running.
        unsafe { sys::wasm_runtime_enlarge_memory(self.handle.as_ptr(), pages) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Other threads must not write to what is freed below.
        self.known.get_mut().clear();
        // SAFETY: environment and instance are alive, owned here alone, and none of their code runs, since `call` borrows `self`.
        unsafe {
            sys::wasm_runtime_destroy_exec_env(self.env.as_ptr());
            sys::wasm_runtime_deinstantiate(self.handle.as_ptr());
        }
    }
}

fn to_cells(kinds: &[Kind], values: &[u64]) -> Vec<u32> {
    let mut cells = Vec::with_capacity(kinds.len() * 2);
    for (kind, value) in kinds.iter().zip(values) {
        #[allow(clippy::cast_possible_truncation)] // halves
        cells.push(*value as u32);
        if kind.cells() == 2 {
            #[allow(clippy::cast_possible_truncation)]
            cells.push((*value >> 32) as u32);
        }
    }
    cells
}

fn from_cells(kinds: &[Kind], cells: &[u32]) -> Vec<u64> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        u64::from(cells.get(at - 1).copied().unwrap_or(0))
    };
    kinds.iter().map(|kind| if kind.cells() == 2 { next() | next() << 32 } else { next() }).collect()
}
