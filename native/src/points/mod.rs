//! The stable-point pass: any module in, and out comes one that can be stopped at its stable points, whose frames leave
//! through the host, and that can be entered again at any of them, on any engine.
//!
//! # Theory of operation
//!
//! A *stable point* is a place in the original module where the whole state of the guest is known in terms of WebAssembly:
//! (function index, byte offset) and a [`select::Stand`]. The innermost frame of a stopped guest stands *at* a point: at
//! a poll of the stop flag, or at a call of a host function that suspended. Every other frame stands *in* a call.
//! A frame is its point, its live locals and its operands, all in terms of the original module. So an image does not
//! depend on this pass, on its policy, or on the engine.
//!
//! Each function that can be on the stack at a stop gets two versions:
//!
//! * The *normal* one ([`normal`]) is the original with polls, and with a check behind each call that can unwind.
//!   When the guest stops, each function saves its frame through the host and returns zeros; its caller, which checks
//!   the unwind global behind the call, does the same.
//! * The *resume* one ([`resume`]) has no parameters. It fetches its frame from the host and enters at its point. If that is in
//!   a call, it calls the resume version of the next frame inwards, and goes on when that returns.
//!
//! Functions that are not worth two versions have one that is both ([`loops::cold`]).
//!
//! All other functions stay as they are. Exports, tables and `ref.func` mean normal versions, always; the resume versions
//! are in a private table. Imports that can suspend have a wrapper, which is a function with one point, and stands for
//! them wherever they are referred to; in frames it has the import's function index and offset 0.
//!
//! The order of work: [`module`] reads and [`scan`] looks through the code, [`calls`] finds who can be on the stack, [`plan`] lays out the
//! output; then for each function, on several threads, [`decode`] validates and decodes it, [`select`] chooses its points, [`liveness`] says which locals matter,
//! [`normal`] and [`resume`] write it; [`output`] puts everything together, with the [`metadata`] section that hosts read.
//!
//! # Limits
//!
//! * Exception handling, garbage collection, memory64 and threads are refused by name ([`refusal`]).
//! * A host function that is called through a table it was put into by the host must not suspend.
//! * A guest cannot be stopped below a host function that called it back: that host function's own frame cannot leave.
//! * Modules built to make what is written for values outnumber code by far are refused ([`cost`]), and so are those whose
//!   instrumented form would exceed a limit of engines ([`limits`]).

pub mod body;
pub mod bytes;
pub mod call_types;
pub mod calls;
pub mod cost;
pub mod decode;
pub mod emit;
pub mod features;
pub mod function;
pub mod helpers;
pub mod limits;
pub mod liveness;
pub mod loops;
pub mod metadata;
pub mod module;
pub mod normal;
pub mod opcodes;
pub mod options;
pub mod output;
pub mod parallel;
pub mod pass;
pub mod plan;
pub mod refusal;
pub mod resume;
pub mod scan;
pub mod select;
pub mod types;

use sha2::{Digest, Sha256};

use calls::Calls;
use cost::Measure;
use limits::Space;
use metadata::Metadata;
use module::Module;
use options::Options;
use pass::Pass;
use plan::Plan;
use refusal::Result;
use types::Signatures;

/// Instruments a module.
///
/// # Errors
/// [`refusal::Refusal`]: it is not valid, or uses what the pass does not cover.
pub fn instrument(file: &[u8], options: &Options) -> Result<Vec<u8>> {
    measured(file, options).map(|(out, _)| out)
}

/// Instruments a module, and tells how near it came to being refused for its size.
///
/// # Errors
/// As [`instrument`].
pub fn measured(file: &[u8], options: &Options) -> Result<(Vec<u8>, Measure)> {
    let mut module = Module::read(file, options.threads)?;
    // Names of ours must be free: a module that has them was instrumented before, or wants to confuse the host.
    if let Some(refusal) = module.ours.take() {
        return Err(refusal);
    }
    // What follows looks at every export of every table.
    Space::Tables.check(&module, module.tables.len())?;
    let calls = Calls::analyse(&module, options);
    let mut signatures = Signatures::new(module.types.clone());
    let active = calls.unwinds.contains(&true) || !options.entries.is_empty();
    let plan = Plan::new(&module, &calls, options, &mut signatures, active);

    let hash = Sha256::digest(file).into();
    let pass = Pass::new(file, &module, options, &calls, &plan, &mut signatures);
    pass.run(signatures, Metadata::new(options.policy, hash))
}
