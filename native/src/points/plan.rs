//! What the pass adds to a module, and at which indices: the layout of the output, fixed before any code is written.

use super::{
    calls::Calls,
    emit::{Abi, Stop},
    module::Module,
    options::{Flag, Options},
    types::{Signatures, Type},
};

/// Host functions in the order in which they are imported.
const HOST: [(&str, &[Type], &[Type]); 12] = [
    ("poll", &[], &[Type::I32]),
    ("frame", &[Type::I32], &[]),
    ("save_i32", &[Type::I32], &[]),
    ("save_i64", &[Type::I64], &[]),
    ("next", &[], &[Type::I32]),
    ("entry", &[], &[Type::I32]),
    ("load_i32", &[], &[Type::I32]),
    ("load_i64", &[], &[Type::I64]),
    ("save_func", &[Type::Func], &[]),
    ("load_func", &[], &[Type::Func]),
    ("save_extern", &[Type::Extern], &[]),
    ("load_extern", &[], &[Type::Extern]),
];

/// The layout.
pub struct Plan {
    pub abi: Abi,
    /// Host functions to import: name and type index.
    pub host: Vec<(&'static str, u32)>,
    /// There are stable points, so that all the rest is needed.
    pub active: bool,
    /// The guest's own memories are imported, so that they keep their indices below the one that is polled.
    pub import_memories: bool,
    /// Private globals: `kedge:unwind`, that of [`Abi::entering`], `kedge:stop`, and one for each droppable segment.
    pub globals: u32,
    /// Index of the private table of functions that can be referred to.
    pub functions_table: Option<u32>,
    /// Those functions, by ordinal.
    pub referenced: Vec<u32>,
    /// Tables that have to be restored.
    pub tables: Vec<u32>,
    /// Imports that have a wrapper, by index.
    pub wrapped: Vec<u32>,
    /// Mutable globals.
    pub mutable: Vec<(u32, Type)>,
}

impl Plan {
    /// Lays out the output. `active`: some function has a stable point.
    #[must_use]
    pub fn new(
        module: &Module<'_>,
        calls: &Calls,
        options: &Options,
        signatures: &mut Signatures,
        active: bool,
    ) -> Self {
        let all_tables = 0..count(module.tables.len());
        let tables: Vec<u32> = all_tables
            .filter(|table| module.noted.changed_tables.contains(table) || module.shared_table(*table))
            .collect();
        let is_function = |table: &u32| module.tables[*table as usize].element_type == wasmparser::RefType::FUNCREF;
        let functions = module.noted.function_values || tables.iter().any(is_function);
        let externs = module.noted.extern_values || !tables.iter().all(is_function);
        let referenced: Vec<u32> = if functions { calls.referenced.iter().copied().collect() } else { Vec::new() };
        let wrapped = wrapped(module, calls);
        let mutable = mutable(module);
        let reference = |wanted| mutable.iter().any(|(_, ty)| *ty == wanted);

        let mut host = Vec::new();
        let mut indices = [u32::MAX; HOST.len()];
        for (i, (name, params, results)) in HOST.iter().enumerate() {
            let wanted = match *name {
                "save_func" | "load_func" => (active && functions) || reference(Type::Func),
                "save_extern" => (active && externs) || reference(Type::Extern),
                "load_extern" => (active && externs) || reference(Type::Extern) || !tables.iter().all(is_function),
                _ => active,
            };
            if wanted {
                indices[i] = module.imported_functions + count(host.len());
                host.push((*name, signatures.of(params, results)));
            }
        }
        let shift = count(host.len()) + u32::from(active);
        let ask = module.imported_functions + count(host.len());
        let first_added = count(module.functions.len()) + shift;
        let mut wrappers = vec![None; module.imported_functions as usize];
        for (i, import) in (0u32..).zip(&wrapped) {
            wrappers[*import as usize] = Some(first_added + 2 * i);
        }

        let mut global = count(module.globals.len());
        let first_global = global;
        let mut next_global = || {
            global += 1;
            global - 1
        };
        let unwind = if active { next_global() } else { u32::MAX };
        let entering = if active { next_global() } else { u32::MAX };
        let import_memories = active && options.flag == Flag::Memory;
        let stop = match options.flag {
            Flag::Memory => Stop::Memory(count(module.memories.len())),
            Flag::Global => Stop::Global(if active { next_global() } else { u32::MAX }),
            Flag::Count => Stop::Count(if active { next_global() } else { u32::MAX }),
        };
        let dropped_data = (0u32..).take(module.passive_data.len());
        let dropped_data =
            dropped_data.map(|segment| module.noted.dropped_data.contains(&segment).then(&mut next_global)).collect();
        let dropped_elements = (0u32..).take(module.segments.len());
        let dropped_elements = dropped_elements
            .map(|segment| module.noted.dropped_elements.contains(&segment).then(&mut next_global))
            .collect();

        let resume_table = count(module.tables.len());
        let functions_table = functions.then_some(resume_table + u32::from(active));
        let [
            poll,
            frame,
            save_i32,
            save_i64,
            next,
            entry,
            load_i32,
            load_i64,
            save_func,
            load_func,
            save_extern,
            load_extern,
        ] = indices;
        let abi = Abi {
            stop,
            unwind,
            entering,
            resume_table,
            poll,
            ask,
            frame,
            next,
            entry,
            save_i32,
            save_i64,
            save_func,
            save_extern,
            load_i32,
            load_i64,
            load_func,
            load_extern,
            shift,
            imported_functions: module.imported_functions,
            wrappers,
            dropped_data,
            dropped_elements,
        };
        let globals = global - first_global;
        Self { abi, host, active, import_memories, globals, functions_table, referenced, tables, wrapped, mutable }
    }
}

/// Imports that can suspend and are referred to, exported, tail-called or the start function.
fn wrapped(module: &Module<'_>, calls: &Calls) -> Vec<u32> {
    let mut wrapped = vec![false; module.imported_functions as usize];
    let mut mark = |function: u32| {
        if calls.suspends.get(function as usize) == Some(&true) {
            wrapped[function as usize] = true;
        }
    };
    calls.referenced.iter().copied().for_each(&mut mark);
    let exported = module.exports.iter().filter(|export| export.kind == wasmparser::ExternalKind::Func);
    exported.map(|export| export.index).for_each(&mut mark);
    module.start.into_iter().for_each(&mut mark);
    for body in &module.bodies {
        for (callee, tail) in &body.summary.calls {
            if let (super::scan::Callee::Function(function), true) = (*callee, *tail) {
                mark(function);
            }
        }
    }
    (0u32..).zip(wrapped).filter_map(|(function, is)| is.then_some(function)).collect()
}

fn mutable(module: &Module<'_>) -> Vec<(u32, Type)> {
    let globals = (0u32..).zip(&module.globals).filter(|(_, global)| global.mutable);
    globals.filter_map(|(index, global)| Some((index, Type::from_wasm(global.content_type, 0).ok()?))).collect()
}

/// A length as an index.
#[must_use]
pub fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
