//! Calls from a guest to its host.

use std::{cell::Cell, slice};

use super::{
    sys,
    types::{Import, Kind, NULL},
};

/// Serves the imports of an instance while one of its functions runs.
pub trait Host {
    /// Arguments are bit patterns, one for each parameter, as is the result (ignored where the type has none). `None` ends the
    /// running call with [`Trap::Host`].
    fn call(&self, import: &Import, arguments: &[u64]) -> Option<u64>;
}

/// What the trampoline finds through the instance. At a fixed address, because C points to it.
pub(super) struct Running {
    /// The host of the innermost call.
    pub host: Cell<Option<*const dyn Host>>,
    /// A host function asked for the end.
    pub ended: Cell<bool>,
    pub depth: Cell<u32>,
}

/// What every import leads to. `arguments` are one 64-bit slot for each parameter; the first takes the result.
pub(super) unsafe extern "C" fn trampoline(env: *mut sys::CExecEnv, arguments: *mut u64) {
    // SAFETY: WAMR calls this for an import of a module that `link` loaded: the attachment is one of its imports, which live as long
    // as the module, and the instance's data is the `Running` that lives as long as the instance. (An instance without data
    // cannot run code: start sections are refused.) `arguments` has at least one slot and one for each parameter; a slot of
    // 32 bits has zeros above, as the array was cleared.
    let (import, running, values) = unsafe {
        let import = &*sys::wasm_runtime_get_function_attachment(env).cast::<Import>();
        let instance = sys::wasm_runtime_get_module_inst(env);
        let running = &*sys::wasm_runtime_get_custom_data(instance).cast::<Running>();
        (import, running, slice::from_raw_parts(arguments, import.function.params.len()))
    };
    // WAMR does not pass externref on rightly, but there is none but null.
    let cleaned: Vec<u64>;
    let values = if import.function.params.contains(&Kind::ExternRef) {
        let clean = |(kind, value): (&Kind, &u64)| if *kind == Kind::ExternRef { NULL } else { *value };
        cleaned = import.function.params.iter().zip(values).map(clean).collect();
        &cleaned
    } else {
        values
    };
    // SAFETY: the host of the innermost call outlives it, and it is running now.
    let result = running.host.get().and_then(|host| unsafe { &*host }.call(import, values));
    match result {
        Some(result) if !import.function.results.is_empty() => {
            // An address of all ones is what WAMR takes for null.
            let result = if import.function.results[0] == Kind::ExternRef { u64::MAX } else { result };
            // SAFETY: the slice above is not used any more.
            unsafe { arguments.write(result) };
        }
        Some(_) => {}
        None => {
            running.ended.set(true);
            // SAFETY: the instance is running this call, and the text is a constant.
            unsafe { sys::wasm_runtime_set_exception(sys::wasm_runtime_get_module_inst(env), c"host".as_ptr()) };
        }
    }
}
