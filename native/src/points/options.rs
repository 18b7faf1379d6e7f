//! What the caller of the pass may choose.

use std::collections::HashSet;

/// Where a guest may be stopped while it computes. Calls of host functions that can suspend are stable points under
/// every policy, and so are the calls that lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nowhere else: a guest that never calls its host never stops.
    Call,
    /// The entry of each function that loops or closes a cycle of calls.
    Function,
    /// As few loop heads as keep the time to a stop bounded, and one function of each cycle of calls.
    Loop,
    /// Each loop head, and one function of each cycle of calls.
    LoopAll,
    /// Before each instruction.
    Instruction,
}

impl Policy {
    /// The policy that has this name on the command line.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "call" => Self::Call,
            "function" => Self::Function,
            "loop" => Self::Loop,
            "loop-all" => Self::LoopAll,
            "instruction" => Self::Instruction,
            _ => return None,
        })
    }

    /// Its number in the metadata section.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Call => 0,
            Self::Function => 1,
            Self::Loop => 2,
            Self::LoopAll => 3,
            Self::Instruction => 4,
        }
    }

    /// The policy of a number in the metadata section.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Call, Self::Function, Self::Loop, Self::LoopAll, Self::Instruction].get(usize::from(number)).copied()
    }
}

/// How a poll reads the flag that asks the guest to stop. A property of the engine, never of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// An imported shared memory, read by an atomic load, so that another thread can set it.
    Memory,
    /// A mutable global of the module, for engines that let another thread write into it.
    Global,
    /// A mutable global that each poll counts down: the guest is asked at the poll that reaches zero. So a run can be stopped
    /// at the same point again and again, at nearly the speed of one that is not stopped.
    Count,
}

impl Flag {
    /// The kind of flag that has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "memory" => Some(Self::Memory),
            "global" => Some(Self::Global),
            "count" => Some(Self::Count),
            _ => None,
        }
    }
}

/// A place in the original module: function index and byte offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub function: u32,
    pub offset: u32,
}

/// The choices.
#[derive(Clone, Debug)]
pub struct Options {
    pub policy: Policy,
    pub flag: Flag,
    /// Imports that can suspend, as `module.name`; all of them when `None`.
    pub suspending: Option<HashSet<String>>,
    /// Places that can be entered on resume although this policy never stops there.
    pub entries: Vec<Place>,
    /// How many threads to use; as many as the code is worth when `None`. The output does not depend on it.
    pub threads: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { policy: Policy::Loop, flag: Flag::Memory, suspending: None, entries: Vec::new(), threads: None }
    }
}

impl Options {
    /// Whether a call of this import can suspend the guest.
    pub(super) fn suspends(&self, module: &str, name: &str) -> bool {
        match &self.suspending {
            None => true,
            Some(list) => list.contains(&format!("{module}.{name}")),
        }
    }
}
