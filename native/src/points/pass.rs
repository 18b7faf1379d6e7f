//! The last phase: every function is validated and written, on several threads, and everything is put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    body::Code,
    bytes::place,
    call_types::CallTypes,
    calls::{self, Calls},
    cost::{self, Cost, Measure},
    decode::{self, Scratch},
    emit,
    function::{Function, write_edit},
    helpers::{self, Helper},
    limits::{self, Space},
    liveness::Live,
    loops,
    metadata::{Described, Metadata},
    module::{Body, Module},
    normal,
    options::Options,
    output::{self, Parts},
    parallel,
    plan::{Plan, count},
    refusal::Result,
    resume,
    select::{Choice, Point, Temps},
    types::{Signatures, Type},
};

/// Bytes that are written at first, by the count of [`Cost`]. Behind that functions are only counted, and written when it is
/// known that the whole is not too much: a module that is refused takes no more memory than this.
const AT_ONCE: usize = 48 << 20;

/// All that the last phase reads.
pub struct Pass<'a> {
    file: &'a [u8],
    module: &'a Module<'a>,
    options: &'a Options,
    calls: &'a Calls,
    plan: &'a Plan,
    types: CallTypes<'a>,
    /// Extra points by function: offsets of their instructions, sorted.
    entries: BTreeMap<u32, BTreeSet<u32>>,
    /// Bytes for all functions so far.
    spent: AtomicUsize,
    /// The most that may be written at this time.
    room: usize,
}

/// What one function became.
enum Written {
    /// Without points it only has other indices.
    Copied(emit::Body),
    /// In a box: most functions of a module that is refused are only counted.
    Instrumented(Box<Instrumented>, Cost),
    /// Not written yet.
    Counted(Cost),
}

struct Instrumented {
    described: Described,
    normal: emit::Body,
    /// Nothing when `normal` is its own resume version.
    resume: Option<emit::Body>,
    /// Where its locals are in the file.
    offset: u32,
}

impl<'a> Pass<'a> {
    /// `signatures` get the types of resume versions.
    #[must_use]
    pub fn new(
        file: &'a [u8],
        module: &'a Module<'a>,
        options: &'a Options,
        calls: &'a Calls,
        plan: &'a Plan,
        signatures: &mut Signatures,
    ) -> Self {
        let mut entries: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for entry in &options.entries {
            entries.entry(entry.function).or_default().insert(entry.offset);
        }
        let types = CallTypes::new(module, signatures);
        Self { file, module, options, calls, plan, types, entries, spent: AtomicUsize::new(0), room: AT_ONCE }
    }

    /// Writes everything.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported`: what validation of the code finds. `Unsupported` when the output would be out of proportion,
    /// or beyond what engines take.
    pub fn run(mut self, mut signatures: Signatures, mut metadata: Metadata) -> Result<(Vec<u8>, Measure)> {
        let (module, plan) = (self.module, self.plan);
        let mut helpers: Vec<Helper> = Vec::new();
        let mut resume = Vec::new();
        let first_added = count(module.functions.len()) + plan.abi.shift;
        let (written, measure) = self.write()?;
        for import in &plan.wrapped {
            let point = metadata.point_count();
            metadata.add_import(*import, &module.signature(*import).params);
            helpers.extend(helpers::wrapper(&plan.abi, &mut signatures, module, *import, point));
            resume.push(first_added + count(helpers.len()) - 1);
        }
        let mut bodies = Vec::with_capacity(module.bodies.len());
        for (index, written) in (module.imported_functions..).zip(written) {
            let Instrumented { described, mut normal, resume: resume_version, offset } = match written {
                Written::Instrumented(instrumented, _) => *instrumented,
                Written::Copied(body) => {
                    bodies.push(body);
                    continue;
                }
                Written::Counted(_) => continue,
            };
            let first_point = metadata.point_count();
            metadata.add(index, described);
            normal.first_point = first_point;
            limits::function(&normal, offset as usize)?;
            bodies.push(normal);
            let helper = match resume_version {
                None => helpers::enter(&plan.abi, &mut signatures, module, index),
                Some(mut body) => {
                    body.first_point = first_point;
                    limits::function(&body, offset as usize)?;
                    Helper { ty: self.types.of_resume(index), body, export: None }
                }
            };
            resume.push(first_added + count(helpers.len()));
            helpers.push(helper);
        }
        self.exports(&mut helpers, &mut signatures, &metadata);
        self.describe(&mut metadata);
        let ask = plan.active.then(|| helpers::ask(&plan.abi, &mut signatures));
        let parts = Parts { bodies, ask, helpers, resume, metadata: metadata.encode() };
        Ok((output::assemble(self.file, module, plan, &signatures, &parts)?, measure))
    }

    /// Validates and writes all functions, unless that would be too much.
    fn write(&mut self) -> Result<(Vec<Written>, Measure)> {
        let module = self.module;
        let threads = module.threads(self.options.threads);
        let imports = module.function_imports().map(|import| import.offset).collect::<Vec<_>>();
        let import = |import: &u32| Cost::of_import(module.signature(*import), imports[*import as usize]);
        let mut costs: Vec<Cost> = self.plan.wrapped.iter().map(import).collect();
        let work = |scratch: &mut Scratch, body: usize| self.function(body, scratch);
        let mut written = parallel::each(module.bodies.len(), threads, Scratch::default, work)?;
        costs.extend(written.iter().filter_map(|written| match written {
            Written::Instrumented(_, cost) | Written::Counted(cost) => Some(*cost),
            Written::Copied(_) => None,
        }));
        // Which functions were only counted depends on threads, but not at which one the sum is too large.
        let code = module.bodies.iter().map(|body| body.body.as_bytes().len()).sum();
        let limit = cost::limit(self.options.policy, code);
        let mut counted = 0usize;
        for cost in &costs {
            counted = counted.saturating_add(cost.bytes);
            if counted > limit {
                return Err(cost.refusal());
            }
        }
        // Each adds one at least.
        Space::Functions.check(module, module.functions.len() + costs.len())?;
        costs.iter().try_for_each(cost::Cost::check)?;
        let waits = |body: &usize| matches!(written[*body], Written::Counted(_));
        let rest: Vec<usize> = (0..written.len()).filter(waits).collect();
        self.room = usize::MAX;
        let work = |scratch: &mut Scratch, number: usize| self.function(rest[number], scratch);
        let more = parallel::each(rest.len(), threads, Scratch::default, work)?;
        for (body, more) in rest.iter().zip(more) {
            written[*body] = more;
        }
        Ok((written, Measure { counted, limit }))
    }

    /// Validates and writes one function, by its number among the bodies.
    fn function(&self, body: usize, scratch: &mut Scratch) -> Result<Written> {
        let index = self.module.imported_functions + count(body);
        let body = &self.module.bodies[body];
        let entries: Vec<u32> = self.entries.get(&index).into_iter().flatten().copied().collect();
        let polls_at_entry = self.calls.polls_at_entry[index as usize];
        let instrumented = !entries.is_empty()
            || polls_at_entry
            || calls::polls(self.module, self.options, index)
            || body.summary.calls.iter().any(|(callee, tail)| !tail && self.calls.unwinds(*callee));
        if !instrumented {
            decode::validate(body, scratch)?;
            return Ok(Written::Copied(self.copied(body)));
        }
        let signature = self.module.signature(index);
        let code = decode::decode(body, &signature.params, &signature.results, scratch)?;
        let polled = loops::polled(&code, self.options.policy, self.calls);
        let choice = Choice {
            policy: self.options.policy,
            calls: self.calls,
            polls_at_entry,
            loops: &polled,
            entries: &entries,
        };
        let points = choice.points(&code, |callee| self.types.params(callee));
        let written = match points[..] {
            [] => Written::Copied(self.copied(body)),
            _ => self.instrumented(index, body, &code, &points, polls_at_entry),
        };
        scratch.recycle(code);
        Ok(written)
    }

    fn instrumented(&self, index: u32, body: &Body<'_>, code: &Code, points: &[Point], recurses: bool) -> Written {
        let merged = loops::cold(code, points, recurses);
        let live = Live::of(code, points);
        let temps = Temps::of(code, points);
        let copies = loops::copies(code, points, self.options.policy);
        let function = Function {
            file: self.file,
            abi: &self.plan.abi,
            code,
            points,
            live: &live,
            temps: &temps,
            copies: &copies,
            ty: self.types.block(index),
            end: place(body.body.range().end),
        };
        let cost = Cost::of(&function, &self.types, merged);
        if self.spent.fetch_add(cost.bytes, Ordering::Relaxed).saturating_add(cost.bytes) > self.room {
            return Written::Counted(cost);
        }
        let described = Described::of(&function);
        let (normal, resume) = if merged {
            (resume::write(&function, &self.types, Some(code.params)), None)
        } else {
            (normal::write(&function), Some(resume::write(&function, &self.types, None)))
        };
        Written::Instrumented(Box::new(Instrumented { described, normal, resume, offset: code.locals_at }), cost)
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
            write_edit(&self.plan.abi, edit.edit, &mut out);
            copied = to;
        }
        out.extend_from_slice(&bytes[copied..]);
        emit::Body::whole(out)
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
