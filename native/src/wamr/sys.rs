//! The part of `wasm_export.h` (WAMR 2.4.3) that is used, written by hand.

use std::ffi::{c_char, c_void};

macro_rules! opaque {
    ($($name:ident),+) => {$(
        #[repr(C)]
        pub struct $name {
            private: [u8; 0],
        }
    )+};
}

opaque!(CModule, CInstance, CExecEnv, CFunction, CMemory);

/// `NativeSymbol`
#[repr(C)]
pub struct NativeSymbol {
    pub symbol: *const c_char,
    pub function: *mut c_void,
    pub signature: *const c_char,
    pub attachment: *mut c_void,
}

/// `wasm_global_inst_t`
#[repr(C)]
pub struct GlobalInstance {
    pub kind: u8,
    pub mutable: bool,
    pub data: *mut c_void,
}

/// `wasm_table_inst_t`; without garbage collection an element is a function index in a machine word.
#[repr(C)]
pub struct TableInstance {
    pub kind: u8,
    pub size: u32,
    pub maximum: u32,
    pub elements: *mut usize,
}

/// `LOG_LEVEL_FATAL`: what goes wrong comes back as a result, standard output belongs to others.
pub const LOG_NOTHING: i32 = 0;

/// The element of a table that refers to nothing (`NULL_REF`).
pub const NULL_REF: u32 = u32::MAX;

/// Room that WAMR needs for a message.
pub const MESSAGE_SIZE: usize = 256;

unsafe extern "C" {
    pub fn wasm_runtime_init() -> bool;
    pub fn wasm_runtime_init_thread_env() -> bool;
    pub fn wasm_runtime_destroy_thread_env();
    pub fn wasm_runtime_set_log_level(level: i32);
    pub fn wasm_runtime_get_version(major: *mut u32, minor: *mut u32, patch: *mut u32);
    pub fn wasm_runtime_register_natives_raw(module: *const c_char, symbols: *mut NativeSymbol, count: u32) -> bool;
    pub fn wasm_runtime_unregister_natives(module: *const c_char, symbols: *mut NativeSymbol) -> bool;
    pub fn wasm_runtime_load(bytes: *mut u8, size: u32, error: *mut c_char, error_size: u32) -> *mut CModule;
    pub fn wasm_runtime_unload(module: *mut CModule);
    pub fn wasm_runtime_instantiate(
        module: *mut CModule,
        stack_size: u32,
        heap_size: u32,
        error: *mut c_char,
        error_size: u32,
    ) -> *mut CInstance;
    pub fn wasm_runtime_deinstantiate(instance: *mut CInstance);
    pub fn wasm_runtime_set_custom_data(instance: *mut CInstance, data: *mut c_void);
    pub fn wasm_runtime_get_custom_data(instance: *mut CInstance) -> *mut c_void;
    pub fn wasm_runtime_create_exec_env(instance: *mut CInstance, stack_size: u32) -> *mut CExecEnv;
    pub fn wasm_runtime_destroy_exec_env(env: *mut CExecEnv);
    pub fn wasm_runtime_get_module_inst(env: *mut CExecEnv) -> *mut CInstance;
    pub fn wasm_runtime_get_function_attachment(env: *mut CExecEnv) -> *mut c_void;
    pub fn wasm_runtime_lookup_function(instance: *mut CInstance, name: *const c_char) -> *mut CFunction;
    pub fn wasm_runtime_call_wasm(env: *mut CExecEnv, function: *mut CFunction, count: u32, cells: *mut u32) -> bool;
    pub fn wasm_runtime_get_exception(instance: *mut CInstance) -> *const c_char;
    pub fn wasm_runtime_set_exception(instance: *mut CInstance, message: *const c_char);
    pub fn wasm_runtime_clear_exception(instance: *mut CInstance);
    pub fn wasm_runtime_terminate(instance: *mut CInstance);
    pub fn wasm_runtime_get_default_memory(instance: *mut CInstance) -> *mut CMemory;
    pub fn wasm_memory_get_base_address(memory: *mut CMemory) -> *mut c_void;
    pub fn wasm_memory_get_cur_page_count(memory: *mut CMemory) -> u64;
    pub fn wasm_memory_get_bytes_per_page(memory: *mut CMemory) -> u64;
    pub fn wasm_runtime_enlarge_memory(instance: *mut CInstance, pages: u64) -> bool;
    pub fn wasm_runtime_get_export_global_inst(
        instance: *mut CInstance,
        name: *const c_char,
        global: *mut GlobalInstance,
    ) -> bool;
    pub fn wasm_runtime_get_export_table_inst(
        instance: *mut CInstance,
        name: *const c_char,
        table: *mut TableInstance,
    ) -> bool;
}
