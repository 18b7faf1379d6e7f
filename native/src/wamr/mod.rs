//! WAMR, the second engine: its fast interpreter behind a safe interface that knows nothing of Node.
//!
//! Theory of operation. A [`module::Module`] is validated by `wasmparser` before WAMR sees it, against exactly the features that
//! this build of WAMR has: what it lacks is refused by name, and its loader, which trusts more than it checks, only meets valid
//! code. An [`instance::Instance`] belongs to the thread that made it. All imports lead to one trampoline, which hands the
//! arguments as 64-bit patterns to the [`imports::Host`] of the call that is running. Traps and refusals of the host come back
//! as values; nothing unwinds through C.
//!
//! WAMR gives meaning to some exported names (it runs `__post_instantiate`, checks a stack pointer below `__heap_base`, and so
//! on). A guest means nothing by them, so in our copy of a module they are renamed before they are loaded.
//!
//! Limits: no SIMD, exceptions, garbage collection, threads, 64-bit or several memories; no externref but null, as no
//! host makes any; a table grows to 65536 elements (`build/wamr.rs`) or twice its first size, whatever its maximum. Interpreted
//! code is only stopped by what it calls or reads: a loop without either runs until the process ends ([`stop`] is what it should
//! read).

pub mod check;
mod exports;
pub mod imports;
pub mod instance;
pub mod module;
pub mod stop;
mod sys;
pub mod types;

pub use module::version;
