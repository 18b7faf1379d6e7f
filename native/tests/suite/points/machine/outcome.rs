//! What can be seen of a guest after it has ended.

use std::fmt::Write as _;

use wasmi::{Extern, Nullable, Ref, Val};

use super::{
    Running,
    host::{Host, Outside},
    values::{bits, extern_number},
};

/// All that can be seen of a guest after it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub results: Result<Vec<String>, String>,
    pub state: String,
    pub outside: Outside,
    /// How many polls and host calls the last instance passed.
    pub polls: u64,
    pub calls: u64,
}

impl Outcome {
    /// What must not depend on stops.
    pub fn visible(&self) -> (&Result<Vec<String>, String>, &str, &Outside) {
        (&self.results, &self.state, &self.outside)
    }
}

impl Running {
    /// What the module's own exports show after the end.
    pub fn outcome(&mut self, results: Result<Vec<String>, String>) -> Outcome {
        let mut state = String::new();
        let exports: Vec<(String, Extern)> = self
            .instance
            .exports(&self.store)
            .filter(|export| !export.name().starts_with("kedge:"))
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        for (name, item) in &exports {
            match item {
                Extern::Memory(memory) => {
                    let data = memory.data(&self.store);
                    let mut hash = 0xcbf2_9ce4_8422_2325u64;
                    for byte in data {
                        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                    }
                    writeln!(state, "memory {name}: {} bytes, {hash:x}", data.len()).expect("text");
                }
                Extern::Global(global) => {
                    let value = global.get(&self.store);
                    writeln!(state, "global {name}: {}", self.show(&value)).expect("text");
                }
                Extern::Table(table) => {
                    write!(state, "table {name}:").expect("text");
                    for i in 0..table.size(&self.store) {
                        let shown = match table.get(&self.store, i) {
                            Some(Ref::Func(value)) => self.show(&Val::FuncRef(value)),
                            Some(Ref::Extern(value)) => self.show(&Val::ExternRef(value)),
                            None => "?".to_owned(),
                        };
                        write!(state, " {shown}").expect("text");
                    }
                    state.push('\n');
                }
                Extern::Func(_) => {}
            }
        }
        let Host { outside, polls, calls, .. } = self.store.data();
        Outcome { results, state, outside: outside.clone(), polls: *polls, calls: *calls }
    }

    /// A value as text that means the same in every instance: bits, names of exported functions.
    pub fn show(&self, value: &Val) -> String {
        match value {
            Val::FuncRef(Nullable::Val(function)) => {
                let wanted = format!("{function:?}");
                let found = self.instance.exports(&self.store).find(|export| {
                    !export.name().starts_with("kedge:")
                        && matches!(export.clone().into_extern(), Extern::Func(one) if format!("{one:?}") == wanted)
                });
                found.map_or_else(|| "a function".to_owned(), |export| export.name().to_owned())
            }
            Val::ExternRef(value) => format!("{:?}", extern_number(&self.store, *value)),
            other => bits(other),
        }
    }
}
