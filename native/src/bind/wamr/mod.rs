//! WAMR for JavaScript: modules and instances as objects, host functions called in the thread and within the call that reaches
//! them, guest memory as an `ArrayBuffer` over the very bytes.
//!
//! Host functions are given with each call, as an array in the order of the imports; nothing native holds on to them, so that a
//! guest that is no longer used is collected with everything its host functions refer to. An exception that a host function
//! throws stays pending in the environment while WAMR leaves its frames, and so is what the call throws.
//!
//! An `ArrayBuffer` keeps the instance alive. Before JavaScript runs again after guest code or growth, a buffer whose memory moved or
//! changed its size is detached: nobody can see memory that is not the guest's any more.

mod functions;
mod memory;
mod values;

use std::{cell::RefCell, rc::Rc};

use napi::{
    Env, Error, JsValue, Result, Status,
    bindgen_prelude::{FromNapiValue, Object, Unknown},
};
use napi_derive::napi;

use super::{args::View, error_with, error_with_code};
use crate::{
    memory::to_vec,
    wamr::{
        self,
        instance::Instance,
        module::Module,
        stop,
        types::{Export, Import, Refusal, Trap},
    },
};
use functions::Functions;
use memory::Shared;
use values::{array, from_js, signature, to_js};

fn refused(env: Env, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unsupported { feature, offset } => {
            let offset = offset.map(|offset| offset.to_string());
            let mut properties = vec![("code", "KEDGE_MODULE_UNSUPPORTED")];
            properties.extend(offset.iter().map(|offset| ("offset", offset.as_str())));
            error_with(env, &feature, &properties)
        }
        Refusal::Invalid { message, offset } => error_with_code(
            env,
            "KEDGE_MODULE_INVALID",
            &format!("{message} (at byte {offset:#x} of the instrumented module)"),
        ),
        Refusal::Failed { message } => error_with_code(env, "KEDGE_MODULE_INVALID", &message),
    }
}

/// A function import, in order.
#[napi(object)]
pub struct WamrImport {
    pub module: String,
    pub name: String,
    pub signature: String,
}

/// A loaded module, for any number of instances in this thread.
#[napi]
pub struct WamrModule {
    module: Rc<Module>,
}

#[napi]
impl WamrModule {
    #[napi(constructor)]
    pub fn new(env: Env, bytes: View<std::sync::atomic::AtomicU8>) -> Result<Self> {
        // WAMR needs bytes of its own. Nobody writes to a module that was handed out to be loaded; if somebody did, it is
        // checked, and loaded, as the copy has it.
        match Module::load(to_vec(bytes.bytes())) {
            Ok(module) => Ok(Self { module: Rc::new(module) }),
            Err(refusal) => Err(refused(env, refusal)),
        }
    }

    #[napi]
    pub fn imports(&self) -> Vec<WamrImport> {
        let import = |import: &Import| WamrImport {
            module: import.module.clone(),
            name: import.name.clone(),
            signature: signature(&import.function),
        };
        self.module.imports().iter().map(import).collect()
    }

    /// The signature of an exported function.
    #[napi]
    pub fn function(&self, name: String) -> Option<String> {
        match self.module.export(&name) {
            Some(Export::Function(function)) => Some(signature(function)),
            _ => None,
        }
    }
}

/// One guest's code and data. All of its calls happen in the thread that made it.
#[napi]
pub struct WamrInstance {
    shared: RefCell<Option<Rc<Shared>>>,
}

#[napi]
impl WamrInstance {
    #[napi(constructor)]
    pub fn new(env: Env, module: &WamrModule, stack_size: u32) -> Result<Self> {
        match Instance::new(Rc::clone(&module.module), stack_size) {
            Ok(instance) => {
                let shared = Shared::new(instance, env.raw());
                Ok(Self { shared: RefCell::new(Some(Rc::new(shared))) })
            }
            Err(refusal) => Err(refused(env, refusal)),
        }
    }

    fn shared(&self) -> Result<Rc<Shared>> {
        self.shared.borrow().clone().ok_or_else(|| Error::from_reason("the instance was disposed of"))
    }

    /// Calls an exported function. Throws what a host function threw, or an error with code `KEDGE_TRAP`.
    #[napi]
    pub fn call<'env>(
        &self,
        env: &'env Env,
        name: String,
        arguments: Vec<Unknown<'env>>,
        functions: Object<'env>,
    ) -> Result<Unknown<'env>> {
        let shared = self.shared()?;
        let Some(kind) = shared.instance.function(&name) else {
            return Err(Error::new(Status::InvalidArg, format!("there is no exported function {name}")));
        };
        if arguments.len() != kind.params.len() {
            return Err(Error::new(Status::InvalidArg, format!("{name} takes {} arguments", kind.params.len())));
        }
        let pending = || Error::new(Status::PendingException, String::new());
        let mut values = Vec::with_capacity(arguments.len());
        for (kind, argument) in kind.params.iter().zip(&arguments) {
            values.push(from_js(env.raw(), *kind, argument.raw()).ok_or_else(pending)?);
        }
        let host = Functions::new(&shared, env, &functions)?;
        let outcome = shared.instance.call(&name, &values, &host);
        if matches!(outcome, Err(Trap::Host)) {
            // Nothing of the guest ran since the host function began, so memory is where it was. If the thread is being
            // terminated, nothing may be asked of JavaScript's engine any more.
            return Err(pending());
        }
        shared.settle();
        let results = match outcome {
            Ok(results) => results,
            Err(Trap::Host) => Vec::new(),
            Err(Trap::Wasm(message)) => return Err(error_with_code(*env, "KEDGE_TRAP", &message)),
            Err(Trap::Misuse(message)) => return Err(Error::from_reason(message)),
        };
        let mut handles = Vec::with_capacity(results.len());
        for (kind, bits) in kind.results.iter().zip(results) {
            handles.push(to_js(env.raw(), *kind, bits).ok_or_else(pending)?);
        }
        let value = match handles.as_slice() {
            [] => host.receiver(),
            [one] => *one,
            several => array(env, several)?,
        };
        // SAFETY: the handle was made in this environment, in the scope of this native function.
        unsafe { Unknown::from_napi_value(env.raw(), value) }
    }

    /// The `ArrayBuffer` over linear memory as it is now; the same one as long as memory neither moves nor grows.
    #[napi(ts_return_type = "ArrayBuffer")]
    pub fn memory<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let value = self.shared()?.memory()?;
        // SAFETY: as in `call`.
        unsafe { Unknown::from_napi_value(env.raw(), value) }
    }

    /// Adds pages to linear memory; false when that is not possible.
    #[napi]
    pub fn grow(&self, pages: u32) -> Result<bool> {
        let shared = self.shared()?;
        let grown = shared.instance.grow(u64::from(pages));
        shared.settle();
        Ok(grown)
    }

    /// The unsigned bits of an exported global, as two halves: low, high. Nothing when there is none.
    #[napi]
    pub fn get_global(&self, name: String) -> Result<Option<Vec<u32>>> {
        #[allow(clippy::cast_possible_truncation)] // halves
        Ok(self.shared()?.instance.global(&name).map(|bits| vec![bits as u32, (bits >> 32) as u32]))
    }

    /// Writes an exported mutable global of a number type; false when there is none of that name.
    #[napi]
    pub fn set_global(&self, name: String, low: u32, high: u32) -> Result<bool> {
        Ok(self.shared()?.instance.set_global(&name, u64::from(low) | u64::from(high) << 32))
    }

    /// The number by which any thread may write an exported mutable i32 global with `wamrWriteFlag`; 0 when there is none.
    #[napi]
    pub fn share_flag(&self, name: String) -> Result<u32> {
        Ok(self.shared()?.instance.share_flag(&name).unwrap_or(0))
    }

    /// The number by which any thread may end what the instance runs with `wamrEnd`.
    #[napi]
    pub fn share_end(&self) -> Result<u32> {
        Ok(self.shared()?.instance.share_end())
    }

    /// The number of elements of an exported table, or nothing.
    #[napi]
    pub fn table_size(&self, name: String) -> Result<Option<u32>> {
        Ok(self.shared()?.instance.table_size(&name))
    }

    /// The function index of an element of an exported table, -1 for null, -2 when there is no such element.
    #[napi]
    pub fn table_get(&self, name: String, index: u32) -> Result<f64> {
        Ok(match self.shared()?.instance.table_get(&name, index) {
            Some(Some(function)) => f64::from(function),
            Some(None) => -1.0,
            None => -2.0,
        })
    }

    /// Writes an element: a function index, or -1 for null. False when there is no such element or function.
    #[napi]
    pub fn table_set(&self, name: String, index: u32, function: i32) -> Result<bool> {
        Ok(self.shared()?.instance.table_set(&name, index, u32::try_from(function).ok()))
    }

    /// Gives everything back now. The buffer over the memory is detached.
    #[napi]
    pub fn dispose(&self) -> Result<()> {
        if self.shared.borrow().as_ref().is_some_and(|shared| shared.instance.running()) {
            return Err(Error::from_reason("the instance is running"));
        }
        if let Some(shared) = self.shared.take() {
            shared.forget();
        }
        Ok(())
    }
}

/// Writes a shared flag; false when its instance is gone.
#[napi]
pub fn wamr_write_flag(number: u32, value: u32) -> bool {
    stop::write(number, value)
}

/// Ends what an instance runs: its call throws `KEDGE_TRAP`. False when the instance is gone.
#[napi]
pub fn wamr_end(number: u32) -> bool {
    stop::end(number)
}

#[napi]
pub fn wamr_version() -> String {
    let (major, minor, patch) = wamr::version();
    format!("{major}.{minor}.{patch}")
}
