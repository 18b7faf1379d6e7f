//! Who can be on the stack when the guest stops.
//!
//! A call *can unwind* when the guest may stop below it. That starts at polls and at calls of host functions that
//! suspend, and goes up the call graph. An indirect call may reach each function of its type that the table can hold: what
//! active segments put there, or, once code or the host can change a table, every function that is referenced anywhere.
//! Functions that a host puts into a table of its own accord are taken to be as innocent as a host function that never
//! suspends, unless they are the module's own exports.
//!
//! A tail call leaves no frame behind. It makes its caller one that can unwind, but needs no check of its own.
//!
//! Each cycle of calls must contain a poll, or else recursion could run for ever between two stable points. The targets
//! of a depth-first search's back edges are on every cycle; those functions poll at their entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wasmparser::ExternalKind;

use super::{
    module::Module,
    options::{Options, Policy},
    scan::Callee,
    types::Signature,
};

/// The answers.
pub struct Calls {
    /// By function index: whether a call of it can unwind.
    pub unwinds: Vec<bool>,
    /// By function index: whether it is an import that can suspend.
    pub suspends: Vec<bool>,
    /// By function index: whether it polls at its entry.
    pub polls_at_entry: Vec<bool>,
    /// Functions that a reference may name: table contents, `ref.func`, exports where a host can put them into a table.
    pub referenced: BTreeSet<u32>,
    indirect: BTreeMap<Callee, bool>,
}

impl Calls {
    /// Analyses the whole module.
    #[must_use]
    pub fn analyse(module: &Module<'_>, options: &Options) -> Self {
        let referenced = referenced(module);
        let graph = Graph::new(module, &referenced);
        let functions = module.functions.len();

        let mut suspends = vec![false; functions];
        for (import, flag) in module.function_imports().zip(&mut suspends) {
            *flag = options.suspends(import.module, import.name);
        }
        let mut polls_at_entry = vec![false; functions];
        if options.policy != Policy::Call {
            graph.cut_cycles(&mut polls_at_entry);
        }
        if options.policy == Policy::Function {
            for (function, body) in (module.imported_functions as usize..).zip(&module.bodies) {
                polls_at_entry[function] |= body.summary.loops;
            }
        }
        let stops = |node: u32| {
            (node as usize) < functions
                && (suspends[node as usize] || polls_at_entry[node as usize] || polls(module, options, node))
        };
        let mut unwinds = graph.reaching(stops);
        let indirect =
            graph.indirect.iter().map(|(callee, node)| (*callee, unwinds[*node as usize])).collect::<BTreeMap<_, _>>();
        unwinds.truncate(functions);
        Self { unwinds, suspends, polls_at_entry, referenced, indirect }
    }

    /// Whether this call can unwind.
    #[must_use]
    pub fn unwinds(&self, callee: Callee) -> bool {
        match callee {
            Callee::Function(function) => self.unwinds[function as usize],
            Callee::Indirect { .. } => self.indirect.get(&callee).copied().unwrap_or(false),
        }
    }
}

/// Whether a function may have polls that are not at its entry.
#[must_use]
pub fn polls(module: &Module<'_>, options: &Options, function: u32) -> bool {
    let Some(body) = function.checked_sub(module.imported_functions).and_then(|i| module.bodies.get(i as usize)) else {
        return false;
    };
    match options.policy {
        Policy::Call | Policy::Function => false,
        Policy::Loop | Policy::LoopAll => body.summary.loops,
        Policy::Instruction => true,
    }
}

fn referenced(module: &Module<'_>) -> BTreeSet<u32> {
    let mut referenced = module.noted.referenced.clone();
    for segment in &module.segments {
        referenced.extend(&segment.functions);
    }
    let tables = 0..u32::try_from(module.tables.len()).unwrap_or(u32::MAX);
    if tables.into_iter().any(|table| module.shared_table(table)) {
        let exported = module.exports.iter().filter(|export| export.kind == ExternalKind::Func);
        referenced.extend(exported.map(|export| export.index));
    }
    referenced
}

/// Of each table, the functions it may ever hold, or nothing where these are all that are referred to.
fn contents(module: &Module<'_>) -> Vec<Option<BTreeSet<u32>>> {
    let mut contents = Vec::new();
    for table in (0u32..).take(module.tables.len()) {
        let any = module.shared_table(table) || module.noted.changed_tables.contains(&table);
        // What `ref.func` names: a table may have an initial value for all of its slots.
        contents.push((!any).then(|| module.noted.referenced.clone()));
    }
    for segment in &module.segments {
        if let Some(table) = segment.table
            && let Some(contents) = &mut contents[table as usize]
        {
            contents.extend(&segment.functions);
        }
    }
    contents
}

/// Functions are nodes, and so is each pair of signature and table of an indirect call: that keeps the edges few.
struct Graph {
    edges: Vec<Vec<u32>>,
    indirect: BTreeMap<Callee, u32>,
    functions: usize,
}

impl Graph {
    fn new(module: &Module<'_>, referenced: &BTreeSet<u32>) -> Self {
        let functions = module.functions.len();
        let mut graph = Self { edges: vec![Vec::new(); functions], indirect: BTreeMap::new(), functions };
        let mut nodes: HashMap<(&Signature, u32), u32> = HashMap::new();
        // Tables that may hold anything share their nodes: a module may have many of them.
        let mut shared: Option<Vec<(&Signature, u32)>> = None;
        for (table, contents) in (0u32..).zip(contents(module)) {
            let own = match contents {
                Some(contents) => &graph.nodes(module, &contents),
                None => &*shared.get_or_insert_with(|| graph.nodes(module, referenced)),
            };
            nodes.extend(own.iter().map(|(signature, node)| ((*signature, table), *node)));
        }
        for (function, body) in (module.imported_functions as usize..).zip(&module.bodies) {
            for (callee, _) in &body.summary.calls {
                let node = match *callee {
                    Callee::Function(function) => function,
                    Callee::Indirect { ty, table } => {
                        let Some(node) = nodes.get(&(&module.types[ty as usize], table)) else { continue };
                        graph.indirect.insert(*callee, *node);
                        *node
                    }
                };
                graph.edges[function].push(node);
            }
        }
        graph
    }

    /// Nodes for the functions of a table, one for each signature.
    fn nodes<'a>(&mut self, module: &'a Module<'_>, contents: &BTreeSet<u32>) -> Vec<(&'a Signature, u32)> {
        let mut by_signature: HashMap<&Signature, Vec<u32>> = HashMap::new();
        for function in contents {
            by_signature.entry(module.signature(*function)).or_default().push(*function);
        }
        by_signature.into_iter().map(|(signature, functions)| (signature, self.node(functions))).collect()
    }

    fn node(&mut self, edges: Vec<u32>) -> u32 {
        self.edges.push(edges);
        u32::try_from(self.edges.len() - 1).unwrap_or(u32::MAX)
    }

    /// The nodes from which one that `stops` can be reached.
    fn reaching(&self, stops: impl Fn(u32) -> bool) -> Vec<bool> {
        let mut callers = vec![Vec::new(); self.edges.len()];
        for (from, edges) in (0u32..).zip(&self.edges) {
            for to in edges {
                callers[*to as usize].push(from);
            }
        }
        let mut reached = vec![false; self.edges.len()];
        let mut work: Vec<u32> = (0..).take(self.edges.len()).filter(|node| stops(*node)).collect();
        while let Some(node) = work.pop() {
            if !std::mem::replace(&mut reached[node as usize], true) {
                work.extend(&callers[node as usize]);
            }
        }
        reached
    }

    /// Marks a function on each cycle.
    fn cut_cycles(&self, marks: &mut [bool]) {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Closed,
        }
        let mut states = vec![State::New; self.edges.len()];
        // A node and how many of its edges have been followed.
        let mut path: Vec<(u32, usize)> = Vec::new();
        for root in (0u32..).take(self.edges.len()) {
            if states[root as usize] != State::New {
                continue;
            }
            states[root as usize] = State::Open;
            path.push((root, 0));
            while let Some((node, next)) = path.last_mut() {
                let Some(target) = self.edges[*node as usize].get(*next).copied() else {
                    states[*node as usize] = State::Closed;
                    path.pop();
                    continue;
                };
                *next += 1;
                match states[target as usize] {
                    State::New => {
                        states[target as usize] = State::Open;
                        path.push((target, 0));
                    }
                    // A back edge. Where it leads to no function, it comes from one.
                    State::Open => {
                        let function = if (target as usize) < self.functions { target } else { *node };
                        marks[function as usize] = true;
                    }
                    State::Closed => {}
                }
            }
        }
    }
}
