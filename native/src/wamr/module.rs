//! Modules, loaded and ready for instances; and the runtime, which the first of them starts.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CString, c_char, c_void},
    ptr::{self, NonNull},
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{
    check::check,
    imports::trampoline,
    sys,
    types::{Export, Import, Refusal},
};

/// Starts the runtime once for the process; nothing ends it.
fn start_runtime() -> Result<(), Refusal> {
    static STARTED: OnceLock<bool> = OnceLock::new();
    let started = *STARTED.get_or_init(|| {
        // SAFETY: no other function of the library is called before this returns, because every module goes through here.
        let started = unsafe { sys::wasm_runtime_init() };
        if started {
            // SAFETY: the runtime has been started.
            unsafe { sys::wasm_runtime_set_log_level(sys::LOG_NOTHING) };
        }
        started
    });
    if started { Ok(()) } else { Err(Refusal::Failed { message: "WAMR does not start".into() }) }
}

/// The version of WAMR: major, minor, patch.
#[must_use]
pub fn version() -> (u32, u32, u32) {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: the function only writes three constants to the three places.
    unsafe { sys::wasm_runtime_get_version(&raw mut major, &raw mut minor, &raw mut patch) };
    (major, minor, patch)
}

/// Room for a message of the library.
pub(super) struct Message([c_char; sys::MESSAGE_SIZE]);

impl Message {
    pub fn new() -> Self {
        Self([0; sys::MESSAGE_SIZE])
    }

    pub fn place(&mut self) -> (*mut c_char, u32) {
        // The size is a small constant.
        #[allow(clippy::cast_possible_truncation)]
        (self.0.as_mut_ptr(), sys::MESSAGE_SIZE as u32)
    }

    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().map_while(|byte| (*byte != 0).then_some(byte.cast_unsigned())).collect();
        let text = String::from_utf8_lossy(&bytes);
        text.strip_prefix("WASM module load failed: ")
            .or_else(|| text.strip_prefix("WASM module instantiate failed: "))
            .unwrap_or(&text)
            .to_string()
    }
}

/// A loaded module. It stays on the thread that loaded it, as raw pointers do.
pub struct Module {
    handle: NonNull<sys::CModule>,
    /// WAMR writes into the bytes while it loads and keeps pointers into them.
    _bytes: Box<[u8]>,
    /// What the attachments of linked functions point to.
    imports: Box<[Import]>,
    exports: HashMap<String, Export>,
    functions: u32,
}

impl Module {
    /// Checks and loads a module; the bytes become its own.
    ///
    /// # Errors
    /// Why it cannot be used, see [`Refusal`].
    pub fn load(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let description = check(&bytes)?;
        start_runtime()?;
        let mut bytes = bytes.into_boxed_slice();
        for (at, name) in description.renamed {
            bytes[at..at + name.len()].copy_from_slice(&name);
        }
        let imports = description.imports.into_boxed_slice();
        let handle = link(&mut bytes, &imports)?;
        Ok(Self { handle, _bytes: bytes, imports, exports: description.exports, functions: description.functions })
    }

    #[must_use]
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    #[must_use]
    pub fn export(&self, name: &str) -> Option<&Export> {
        self.exports.get(name)
    }

    /// How many functions there are, imports included: the bound of a function reference.
    #[must_use]
    pub fn functions(&self) -> u32 {
        self.functions
    }

    pub(super) fn handle(&self) -> *mut sys::CModule {
        self.handle.as_ptr()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the handle came from the loader, this is its only owner, and instances keep the module alive.
        unsafe { sys::wasm_runtime_unload(self.handle.as_ptr()) };
    }
}

/// The names under which the functions of one import module are registered while a module is loaded.
struct Natives {
    module: CString,
    symbols: Vec<sys::NativeSymbol>,
    /// The symbols point into these.
    names: Vec<CString>,
}

impl Natives {
    fn of(imports: &[Import]) -> Result<Vec<Self>, Refusal> {
        // `check` has refused names with zero bytes.
        let text = |name: &str| CString::new(name).map_err(|error| Refusal::Failed { message: error.to_string() });
        let mut seen = HashSet::new();
        let mut modules: Vec<Self> = Vec::new();
        for import in imports {
            if !seen.insert((&import.module, &import.name)) {
                // The same name with the same type: one registration serves all.
                continue;
            }
            let module = text(&import.module)?;
            let name = text(&import.name)?;
            let symbol = sys::NativeSymbol {
                symbol: name.as_ptr(),
                function: trampoline as *mut c_void,
                signature: ptr::null(),
                attachment: ptr::from_ref(import).cast_mut().cast(),
            };
            if let Some(known) = modules.iter_mut().find(|known| known.module == module) {
                known.symbols.push(symbol);
                known.names.push(name);
            } else {
                modules.push(Self { module, symbols: vec![symbol], names: vec![name] });
            }
        }
        Ok(modules)
    }
}

/// Loads with all imports leading to the trampoline. The registry belongs to the process, so only one thread loads at a time, and
/// it is as empty afterwards as before: what was linked has its own copy of pointer and attachment.
fn link(bytes: &mut [u8], imports: &[Import]) -> Result<NonNull<sys::CModule>, Refusal> {
    static REGISTRY: Mutex<()> = Mutex::new(());
    let size = u32::try_from(bytes.len()).map_err(|_| Refusal::Failed { message: "the module is too large".into() })?;
    let mut natives = Natives::of(imports)?;
    let mut message = Message::new();
    let (text, room) = message.place();
    let _registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let mut registered = 0;
    for module in &mut natives {
        // Not more than there are imports in a module.
        let count = u32::try_from(module.symbols.len()).unwrap_or(u32::MAX);
        // SAFETY: name and symbols live until they are unregistered below, and nobody else uses the registry meanwhile.
        if !unsafe {
            sys::wasm_runtime_register_natives_raw(module.module.as_ptr(), module.symbols.as_mut_ptr(), count)
        } {
            break;
        }
        registered += 1;
    }
    let handle = if registered == natives.len() {
        // SAFETY: the runtime was started; the bytes are ours, of this size, and are kept as long as the module.
        unsafe { sys::wasm_runtime_load(bytes.as_mut_ptr(), size, text, room) }
    } else {
        ptr::null_mut()
    };
    for module in &mut natives[..registered] {
        // SAFETY: exactly what was registered above.
        unsafe { sys::wasm_runtime_unregister_natives(module.module.as_ptr(), module.symbols.as_mut_ptr()) };
    }
    NonNull::new(handle).ok_or_else(|| Refusal::Failed { message: message.text() })
}
