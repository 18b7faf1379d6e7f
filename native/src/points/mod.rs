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
//! The order of work: [`module`] reads and validates, [`calls`] finds who can be on the stack, [`plan`] lays out the
//! output; then for each function [`body`] decodes it, [`select`] chooses its points, [`liveness`] says which locals matter,
//! [`normal`] and [`resume`] write it; [`output`] puts everything together, with the [`metadata`] section that hosts read.
//!
//! # Limits
//!
//! * Exception handling, garbage collection, memory64 and threads are refused by name ([`refusal`]).
//! * A host function that is called through a table it was put into by the host must not suspend.
//! * A guest cannot be stopped below a host function that called it back: that host function's own frame cannot leave.
//! * Modules built to make values at points outnumber code by far are refused ([`normal::MOST_VALUES`]).

pub mod body;
pub mod calls;
pub mod emit;
pub mod helpers;
pub mod liveness;
pub mod loops;
pub mod metadata;
pub mod module;
pub mod normal;
pub mod options;
pub mod output;
pub mod plan;
pub mod refusal;
pub mod resume;
pub mod select;
pub mod types;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use wasm_encoder::BlockType;
use wasmparser::FuncValidatorAllocations;

use body::{Code, Kind};
use calls::Calls;
use helpers::Helper;
use liveness::Live;
use metadata::Metadata;
use module::{Body, Callee, Module, place};
use normal::{Function, MOST_VALUES};
use options::{Options, Policy};
use output::Parts;
use plan::{Plan, count};
use refusal::{Refusal, Result};
use resume::CallTypes;
use select::{Choice, Temps};
use types::{Signatures, Type};

/// Instruments a module.
///
/// # Errors
/// [`Refusal`]: it is not valid, or uses what the pass does not cover.
pub fn instrument(file: &[u8], options: &Options) -> Result<Vec<u8>> {
    let module = Module::read(file)?;
    refuse_ours(&module)?;
    let polls = |function: u32| polls(&module, options, function);
    let calls = Calls::analyse(&module, options, polls);
    let mut signatures = Signatures::new(module.types.clone());
    let entries = entries(options);
    let active = calls.unwinds.contains(&true) || !entries.is_empty();
    let plan = Plan::new(&module, &calls, options, &mut signatures, active);

    let hash = Sha256::digest(file).into();
    let pass = Pass { file, module: &module, options, calls: &calls, plan: &plan, entries };
    pass.run(signatures, Metadata::new(options.policy, hash))
}

/// Names of ours must be free: a module that has them was instrumented before, or wants to confuse the host.
fn refuse_ours(module: &Module<'_>) -> Result<()> {
    let prefix = format!("{}:", output::NAMESPACE);
    if module.exports.iter().any(|export| export.name.starts_with(&prefix)) {
        return Err(Refusal::Unsupported { feature: "export names that start with `kedge:`", offset: 0 });
    }
    if module.imports.iter().any(|import| import.module == output::NAMESPACE) {
        return Err(Refusal::Unsupported { feature: "imports from `kedge`", offset: 0 });
    }
    Ok(())
}

/// Whether a function may have polls that are not at its entry.
fn polls(module: &Module<'_>, options: &Options, function: u32) -> bool {
    let Some(body) = function.checked_sub(module.imported_functions).and_then(|i| module.bodies.get(i as usize)) else {
        return false;
    };
    match options.policy {
        Policy::Call | Policy::Function => false,
        Policy::Loop | Policy::LoopAll => body.summary.loops,
        Policy::Instruction => true,
    }
}

fn entries(options: &Options) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut entries: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for entry in &options.entries {
        entries.entry(entry.function).or_default().insert(entry.offset);
    }
    entries
}

/// All that the last phase reads.
struct Pass<'a> {
    file: &'a [u8],
    module: &'a Module<'a>,
    options: &'a Options,
    calls: &'a Calls,
    plan: &'a Plan,
    entries: BTreeMap<u32, BTreeSet<u32>>,
}

/// What one function became.
struct Written {
    normal: emit::Body,
    resume: Resume,
}

/// The resume version of a function.
enum Resume {
    None,
    /// The function itself.
    Same,
    Other(emit::Body),
}

impl Pass<'_> {
    fn run(&self, mut signatures: Signatures, mut metadata: Metadata) -> Result<Vec<u8>> {
        let (module, plan) = (self.module, self.plan);
        let mut helpers: Vec<Helper> = Vec::new();
        let mut resume = Vec::new();
        let first_added = count(module.functions.len()) + plan.abi.shift;
        for import in &plan.wrapped {
            let point = metadata.point_count();
            metadata.add_import(*import, &module.signature(*import).params);
            helpers.extend(helpers::wrapper(&plan.abi, &mut signatures, module, *import, point));
            resume.push(first_added + count(helpers.len()) - 1);
        }
        // Types of resume versions are made before they are asked for.
        let resume_types: Vec<u32> =
            module.types.iter().map(|signature| signatures.of(&[], &signature.results)).collect();
        let types = Types { module, resume: &resume_types };

        let mut bodies = Vec::with_capacity(module.bodies.len());
        let mut budget = MOST_VALUES;
        let mut allocations = FuncValidatorAllocations::default();
        for (index, body) in (module.imported_functions..).zip(&module.bodies) {
            let written = self.function(index, body, &types, &mut metadata, &mut budget, &mut allocations)?;
            bodies.push(written.normal);
            let helper = match written.resume {
                Resume::None => continue,
                Resume::Same => helpers::enter(&plan.abi, &mut signatures, module, index),
                Resume::Other(body) => {
                    let ty = resume_types[module.functions[index as usize] as usize];
                    Helper { ty, body, export: None }
                }
            };
            resume.push(first_added + count(helpers.len()));
            helpers.push(helper);
        }
        self.exports(&mut helpers, &mut signatures, &metadata);
        self.describe(&mut metadata);
        let ask = plan.active.then(|| helpers::ask(&plan.abi, &mut signatures));
        let parts = Parts { bodies, ask, helpers, resume, metadata: metadata.encode() };
        output::assemble(self.file, module, plan, &signatures, &parts)
    }

    /// Writes one function.
    fn function(
        &self,
        index: u32,
        body: &Body<'_>,
        types: &Types<'_>,
        metadata: &mut Metadata,
        budget: &mut usize,
        allocations: &mut FuncValidatorAllocations,
    ) -> Result<Written> {
        let entries: Vec<u32> = self.entries.get(&index).into_iter().flatten().copied().collect();
        let polls_at_entry = self.calls.polls_at_entry[index as usize];
        let instrumented = !entries.is_empty()
            || polls_at_entry
            || polls(self.module, self.options, index)
            || body.summary.calls.iter().any(|(callee, tail)| !tail && self.calls.unwinds(*callee));
        if !instrumented {
            return Ok(Written { normal: self.copied(body), resume: Resume::None });
        }
        let signature = self.module.signature(index);
        let code = Code::decode(body, &signature.params, &signature.results, allocations)?;
        let polled = loops::polled(&code, self.options.policy, self.calls);
        let choice = Choice {
            policy: self.options.policy,
            calls: self.calls,
            polls_at_entry,
            loops: &polled,
            entries: &entries,
        };
        let points = choice.points(&code, |callee| types.params(callee));
        if points.is_empty() {
            return Ok(Written { normal: self.copied(body), resume: Resume::None });
        }
        let live = Live::of(&code, &points);
        let temps = Temps::of(&code, &points);
        let copies = loops::copies(&code, &points, self.options.policy);
        let function = Function {
            file: self.file,
            abi: &self.plan.abi,
            code: &code,
            points: &points,
            live: &live,
            temps: &temps,
            copies: &copies,
            first_point: metadata.point_count(),
            ty: types.block(index),
            end: place(body.body.range().end),
        };
        metadata.add(index, &function);
        let merged = loops::cold(&code, &points, polls_at_entry);
        if merged {
            let params = count(signature.params.len());
            let normal = resume::write(&function, types, Some(params), budget)?;
            return Ok(Written { normal, resume: Resume::Same });
        }
        let normal = normal::write(&function, budget)?;
        let resume = resume::write(&function, types, None, budget)?;
        Ok(Written { normal, resume: Resume::Other(resume) })
    }

    /// A body that only needs its indices changed.
    fn copied(&self, body: &Body<'_>) -> emit::Body {
        let bytes = body.body.as_bytes();
        let start = place(body.body.range().start);
        let mut out = Vec::with_capacity(bytes.len() + 8);
        let mut copied = 0;
        for edit in &body.summary.edits {
            let (from, to) = ((edit.start - start) as usize, (edit.end - start) as usize);
            out.extend_from_slice(&bytes[copied..from]);
            normal::write_edit(&self.plan.abi, edit.edit, &mut out);
            copied = to;
        }
        out.extend_from_slice(&bytes[copied..]);
        emit::Body { bytes: out, cold: Vec::new() }
    }

    /// What the host calls to start, resume and restore.
    fn exports(&self, helpers: &mut Vec<Helper>, signatures: &mut Signatures, metadata: &Metadata) {
        let (module, abi) = (self.module, &self.plan.abi);
        let results: BTreeSet<&Vec<Type>> =
            metadata.functions.iter().map(|resumable| &module.signature(resumable.function).results).collect();
        for results in results {
            helpers.push(helpers::resume(abi, signatures, results));
        }
        for (index, ty) in &self.plan.mutable {
            helpers.extend(helpers::global(abi, signatures, *index, *ty));
        }
        for index in &self.plan.tables {
            let is_function = module.tables[*index as usize].element_type == wasmparser::RefType::FUNCREF;
            let functions = if is_function { self.plan.functions_table } else { None };
            helpers.extend(helpers::table(abi, signatures, *index, functions));
        }
        for (segment, global) in (0u32..).zip(&abi.dropped_data) {
            if let Some(global) = global {
                helpers.extend(helpers::segment(signatures, "data", segment, *global, true));
            }
        }
        for (segment, global) in (0u32..).zip(&abi.dropped_elements) {
            if let Some(global) = global {
                helpers.extend(helpers::segment(signatures, "elem", segment, *global, false));
            }
        }
    }

    fn describe(&self, metadata: &mut Metadata) {
        let dropped = |list: &[Option<u32>]| {
            (0u32..).zip(list).filter_map(|(segment, global)| global.map(|_| segment)).collect::<Vec<u32>>()
        };
        metadata.globals.clone_from(&self.plan.mutable);
        metadata.referenced.clone_from(&self.plan.referenced);
        metadata.tables.clone_from(&self.plan.tables);
        metadata.dropped_data = dropped(&self.plan.abi.dropped_data);
        metadata.dropped_elements = dropped(&self.plan.abi.dropped_elements);
        metadata.has_start = self.module.start.is_some();
    }
}

/// Types of calls, for resume versions.
struct Types<'a> {
    module: &'a Module<'a>,
    /// By type of the original: the type of resume versions.
    resume: &'a [u32],
}

impl Types<'_> {
    fn of(&self, callee: Callee) -> u32 {
        match callee {
            Callee::Function(function) => self.module.functions[function as usize],
            Callee::Indirect { ty, .. } => ty,
        }
    }

    /// The type of a block that gives the results of a function.
    fn block(&self, function: u32) -> BlockType {
        let ty = self.module.functions[function as usize] as usize;
        match self.module.types[ty].results[..] {
            [] => BlockType::Empty,
            [one] => BlockType::Result(one.encoded()),
            _ => BlockType::FunctionType(self.resume[ty]),
        }
    }

    fn params(&self, callee: Callee) -> usize {
        self.module.types[self.of(callee) as usize].params.len()
    }

    fn of_kind(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Call(function) => self.of(Callee::Function(function)),
            Kind::CallIndirect { ty, .. } => ty,
            _ => 0,
        }
    }
}

impl CallTypes for Types<'_> {
    fn resume_type(&self, kind: Kind) -> u32 {
        self.resume[self.of_kind(kind) as usize]
    }

    fn taken(&self, kind: Kind) -> usize {
        let index = usize::from(matches!(kind, Kind::CallIndirect { .. }));
        self.module.types[self.of_kind(kind) as usize].params.len() + index
    }

    fn results(&self, kind: Kind) -> &[Type] {
        &self.module.types[self.of_kind(kind) as usize].results
    }
}
