//! WAMR for JavaScript: modules and instances as objects, host functions called in the thread and within the call that reaches
//! them, guest memory as an `ArrayBuffer` over the very bytes.
//!
//! Host functions are given with each call, as an array in the order of the imports; nothing native holds on to them, so that a
//! guest that is no longer used is collected with everything its host functions refer to. An exception that a host function
//! throws stays pending in the environment while WAMR leaves its frames, and so is what the call throws.
//!
//! An `ArrayBuffer` keeps the instance alive. Before JavaScript runs again after guest code or growth, a buffer whose memory moved or
//! changed its size is detached: nobody can see memory that is not the guest's any more.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    rc::Rc,
};

use napi::{
    Env, Error, JsValue, Result, Status,
    bindgen_prelude::{FromNapiValue, Object, Unknown},
    sys,
};
use napi_derive::napi;

use super::args::View;
use crate::wamr::{
    self,
    instance::{Host, Instance, NULL},
    module::Module,
    stop,
    types::{Export, FunctionType, Import, Kind, Refusal, Trap},
};

/// `napi_ok`, or an error that says what failed.
fn check(status: sys::napi_status, what: &str) -> Result<()> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(Error::from_reason(format!("{what} failed ({status})"))) }
}

fn error_with_code(env: Env, code: &str, message: &str) -> Error {
    let made = env.create_error(Error::from_reason(message)).and_then(|mut object| {
        object.set("code", code)?;
        Ok(Error::from(object.to_unknown()))
    });
    made.unwrap_or_else(|error| error)
}

fn refused(env: Env, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unsupported { feature } => error_with_code(env, "KEDGE_MODULE_UNSUPPORTED", &feature),
        Refusal::Invalid { message, offset } => {
            error_with_code(env, "KEDGE_MODULE_INVALID", &format!("{message} (at offset {offset:#x})"))
        }
        Refusal::Failed { message } => error_with_code(env, "KEDGE_MODULE_INVALID", &message),
    }
}

fn letters(kinds: &[Kind]) -> String {
    kinds
        .iter()
        .map(|kind| match kind {
            Kind::I32 => 'i',
            Kind::I64 => 'I',
            Kind::F32 => 'f',
            Kind::F64 => 'F',
            Kind::FuncRef => 'c',
            Kind::ExternRef => 'e',
        })
        .collect()
}

fn signature(function: &FunctionType) -> String {
    format!("({}){}", letters(&function.params), letters(&function.results))
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
        // A copy, which WAMR needs anyway; the view may be shared with other threads.
        let copy: Vec<u8> = bytes.bytes().iter().map(|byte| byte.load(std::sync::atomic::Ordering::Relaxed)).collect();
        match Module::load(&copy) {
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

/// What the JavaScript object and the buffers over its memory share.
struct Shared {
    instance: Instance,
    env: sys::napi_env,
    /// The buffer over the memory as it was when this was looked at last: base, length, and a weak reference.
    seen: Cell<(usize, usize)>,
    buffer: Cell<sys::napi_ref>,
}

impl Shared {
    fn place(&self) -> (usize, usize) {
        self.instance.memory().map_or((0, 0), |(base, length)| (base.as_ptr() as usize, length))
    }

    /// Detaches the buffer when it does not show the memory any more.
    fn settle(&self) {
        let place = self.place();
        if self.seen.get() != place {
            self.forget();
            self.seen.set(place);
        }
    }

    /// Detaches the buffer, if there is one.
    fn forget(&self) {
        let reference = self.buffer.replace(ptr::null_mut());
        if reference.is_null() {
            return;
        }
        let mut buffer = ptr::null_mut();
        // SAFETY: the reference was made in this environment, whose thread this is, and is deleted only here. A buffer that was
        // collected gives null. Failing to detach would leave a view of freed memory, so that ends the process.
        unsafe {
            if sys::napi_get_reference_value(self.env, reference, &raw mut buffer) == sys::Status::napi_ok
                && !buffer.is_null()
            {
                let status = sys::napi_detach_arraybuffer(self.env, buffer);
                assert!(status == sys::Status::napi_ok, "the buffer of a guest's memory cannot be detached ({status})");
            }
            sys::napi_delete_reference(self.env, reference);
        }
    }

    /// The buffer over the memory.
    fn memory(self: &Rc<Self>) -> Result<sys::napi_value> {
        self.settle();
        let mut value = ptr::null_mut();
        let reference = self.buffer.get();
        if !reference.is_null() {
            // SAFETY: as in `forget`.
            check(unsafe { sys::napi_get_reference_value(self.env, reference, &raw mut value) }, "the buffer")?;
            if !value.is_null() {
                return Ok(value);
            }
            // SAFETY: as in `forget`.
            unsafe { sys::napi_delete_reference(self.env, reference) };
            self.buffer.set(ptr::null_mut());
        }
        let (base, length) = self.seen.get();
        if length == 0 {
            // SAFETY: the environment is alive; the bytes are not wanted.
            let status = unsafe { sys::napi_create_arraybuffer(self.env, 0, ptr::null_mut(), &raw mut value) };
            return check(status, "an empty buffer").map(|()| value);
        }
        let hint = Rc::into_raw(Rc::clone(self)).cast_mut().cast();
        // SAFETY: the bytes are the guest's memory, which the reference in `hint` keeps alive, and the buffer is detached before
        // they move. The finalizer runs in the thread of the environment.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(
                self.env,
                base as *mut c_void,
                length,
                Some(release),
                hint,
                &raw mut value,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: nothing was made that would release it.
            drop(unsafe { Rc::from_raw(hint.cast::<Self>()) });
            return check(status, "a buffer over guest memory").map(|()| value);
        }
        let mut reference = ptr::null_mut();
        // SAFETY: a count of zero makes it weak.
        check(unsafe { sys::napi_create_reference(self.env, value, 0, &raw mut reference) }, "a reference")?;
        self.buffer.set(reference);
        Ok(value)
    }
}

/// A buffer is gone: so is its hold on the instance.
unsafe extern "C" fn release(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `hint` is what `memory` made of an `Rc`, and this runs once for it.
    drop(unsafe { Rc::from_raw(hint.cast::<Shared>()) });
}

impl Drop for Shared {
    fn drop(&mut self) {
        let reference = self.buffer.get();
        if !reference.is_null() {
            // SAFETY: as in `forget`. A buffer that is alive holds on to this, so there is none to detach.
            unsafe { sys::napi_delete_reference(self.env, reference) };
        }
    }
}

/// The host functions of one call. Handles live as long as the native function that made it.
struct Functions<'call> {
    shared: &'call Shared,
    receiver: sys::napi_value,
    callees: Vec<sys::napi_value>,
    /// Room for the arguments of a call.
    arguments: RefCell<Vec<sys::napi_value>>,
}

impl Host for Functions<'_> {
    fn call(&self, import: &Import, arguments: &[u64]) -> Option<u64> {
        let env = self.shared.env;
        self.shared.settle();
        let mut scope = ptr::null_mut();
        // SAFETY: the environment is the one of the running native function, in its thread.
        if unsafe { sys::napi_open_handle_scope(env, &raw mut scope) } != sys::Status::napi_ok {
            return None;
        }
        let result = self.invoke(import, arguments);
        // SAFETY: opened above, and scopes nest.
        unsafe { sys::napi_close_handle_scope(env, scope) };
        result
    }
}

impl Functions<'_> {
    /// Calls the JavaScript function; `None` with an exception pending.
    fn invoke(&self, import: &Import, arguments: &[u64]) -> Option<u64> {
        let env = self.shared.env;
        // Taken out, for a host function may call back into the guest.
        let mut values = self.arguments.take();
        values.clear();
        for (kind, bits) in import.function.params.iter().zip(arguments) {
            values.push(to_js(env, *kind, *bits)?);
        }
        let mut result = ptr::null_mut();
        // SAFETY: all handles are alive: the functions in the scope of the call, the arguments in the one just opened.
        let status = unsafe {
            sys::napi_call_function(
                env,
                self.receiver,
                *self.callees.get(import.index)?,
                values.len(),
                values.as_ptr(),
                &raw mut result,
            )
        };
        self.arguments.replace(values);
        if status != sys::Status::napi_ok {
            return None;
        }
        match import.function.results.first() {
            None => Some(0),
            Some(kind) => from_js(env, *kind, result),
        }
    }
}

/// A value of the guest. A function reference is its index, or null.
fn to_js(env: sys::napi_env, kind: Kind, bits: u64) -> Option<sys::napi_value> {
    let mut value = ptr::null_mut();
    // The upper half of a 32-bit value means nothing.
    #[allow(clippy::cast_possible_truncation)]
    let low = bits as u32;
    // SAFETY: the environment is the one of the running native function, and the result has room for one handle.
    let status = unsafe {
        match kind {
            Kind::I32 => sys::napi_create_int32(env, low.cast_signed(), &raw mut value),
            Kind::I64 => sys::napi_create_bigint_int64(env, bits.cast_signed(), &raw mut value),
            Kind::F32 => sys::napi_create_double(env, f64::from(f32::from_bits(low)), &raw mut value),
            Kind::F64 => sys::napi_create_double(env, f64::from_bits(bits), &raw mut value),
            Kind::FuncRef if u64::from(low) != NULL => sys::napi_create_uint32(env, low, &raw mut value),
            Kind::FuncRef | Kind::ExternRef => sys::napi_get_null(env, &raw mut value),
        }
    };
    (status == sys::Status::napi_ok).then_some(value)
}

/// The bits of a value of JavaScript, converted as WebAssembly in JavaScript does; `None` with an exception pending.
fn from_js(env: sys::napi_env, kind: Kind, value: sys::napi_value) -> Option<u64> {
    let mut given = 0;
    // SAFETY: as in `to_js`.
    if unsafe { sys::napi_typeof(env, value, &raw mut given) } != sys::Status::napi_ok {
        return None;
    }
    let mismatch = || {
        // SAFETY: as in `to_js`; the text ends in a zero.
        unsafe {
            sys::napi_throw_type_error(env, ptr::null(), c"not a value of the type that WebAssembly expects".as_ptr())
        };
        None
    };
    match kind {
        Kind::I64 if given == sys::ValueType::napi_bigint => {
            let (mut bits, mut lossless) = (0, false);
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_bigint_int64(env, value, &raw mut bits, &raw mut lossless) };
            (status == sys::Status::napi_ok).then_some(bits.cast_unsigned())
        }
        Kind::I32 if given == sys::ValueType::napi_number => {
            let mut bits = 0;
            // SAFETY: as in `to_js`. What does not fit is taken modulo 2^32.
            let status = unsafe { sys::napi_get_value_int32(env, value, &raw mut bits) };
            (status == sys::Status::napi_ok).then_some(u64::from(bits.cast_unsigned()))
        }
        Kind::F32 | Kind::F64 if given == sys::ValueType::napi_number => {
            let mut number = 0.0;
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_double(env, value, &raw mut number) };
            #[allow(clippy::cast_possible_truncation)] // as WebAssembly in JavaScript does it
            let bits = if kind == Kind::F32 { u64::from((number as f32).to_bits()) } else { number.to_bits() };
            (status == sys::Status::napi_ok).then_some(bits)
        }
        Kind::I32 if given == sys::ValueType::napi_undefined || given == sys::ValueType::napi_boolean => {
            let mut truth = false;
            if given == sys::ValueType::napi_boolean {
                // SAFETY: as in `to_js`.
                unsafe { sys::napi_get_value_bool(env, value, &raw mut truth) };
            }
            Some(u64::from(truth))
        }
        Kind::FuncRef | Kind::ExternRef if given == sys::ValueType::napi_null => Some(NULL),
        Kind::FuncRef if given == sys::ValueType::napi_number => {
            let mut index = 0;
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_uint32(env, value, &raw mut index) };
            (status == sys::Status::napi_ok).then_some(u64::from(index))
        }
        _ => mismatch(),
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
                let shared =
                    Shared { instance, env: env.raw(), seen: Cell::new((0, 0)), buffer: Cell::new(ptr::null_mut()) };
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
        let host = Functions {
            shared: &shared,
            receiver: undefined(env)?,
            callees: elements(env, &functions, shared.instance.module().imports().len())?,
            arguments: RefCell::default(),
        };
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
            [] => host.receiver,
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

fn undefined(env: &Env) -> Result<sys::napi_value> {
    let mut value = ptr::null_mut();
    // SAFETY: the environment is the one of the running native function.
    check(unsafe { sys::napi_get_undefined(env.raw(), &raw mut value) }, "undefined")?;
    Ok(value)
}

/// The first elements of an array, as handles of the running native function.
fn elements(env: &Env, array: &Object<'_>, count: usize) -> Result<Vec<sys::napi_value>> {
    let mut handles = Vec::with_capacity(count);
    for index in 0..count {
        let mut value = ptr::null_mut();
        // The number of imports of a module is bounded far below 2^32.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        // SAFETY: as in `undefined`.
        check(unsafe { sys::napi_get_element(env.raw(), array.raw(), index, &raw mut value) }, "an element")?;
        handles.push(value);
    }
    Ok(handles)
}

fn array(env: &Env, values: &[sys::napi_value]) -> Result<sys::napi_value> {
    let mut made = ptr::null_mut();
    // SAFETY: as in `undefined`.
    check(unsafe { sys::napi_create_array_with_length(env.raw(), values.len(), &raw mut made) }, "an array")?;
    for (index, value) in (0..).zip(values) {
        // SAFETY: as in `undefined`; the value is a handle of the running native function.
        check(unsafe { sys::napi_set_element(env.raw(), made, index, *value) }, "an element")?;
    }
    Ok(made)
}

/// Writes a shared flag; false when its instance is gone.
#[napi]
pub fn wamr_write_flag(number: u32, value: u32) -> bool {
    stop::write(number, value)
}

#[napi]
pub fn wamr_version() -> String {
    let (major, minor, patch) = wamr::version();
    format!("{major}.{minor}.{patch}")
}
