//! Loading the BPF program and putting it on devices.

use std::os::fd::{AsFd, RawFd};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::Map,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};

use super::raw;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fast_path.bpf.o"));

/// Why there can be no fast path here, for an operator.
#[derive(Clone, Debug)]
pub struct Unavailable {
    pub message: String,
    pub hint: &'static str,
}

/// The loaded programs and their links. Dropped, or with the end of the process, devices are as they were.
pub struct Programs {
    // The links are inside.
    _ebpf: Ebpf,
    keys: RawFd,
    flows: RawFd,
}

impl Programs {
    /// Loads the programs for `slots` flows, and puts them in front of the outside device and those of the legs.
    ///
    /// # Errors
    /// The kernel has no TCX links (before 6.6), BPF is switched off, or the privilege is missing.
    pub fn attach(outside: &str, legs: &[String], slots: u32) -> Result<Self, Unavailable> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("keys", slots.saturating_mul(2)).map_max_entries("flows", slots);
        let mut ebpf = loader.load(OBJECT).map_err(|error| unavailable("cannot load the program", &error))?;
        put(&mut ebpf, "from_peer", [outside])?;
        put(&mut ebpf, "from_guest", legs.iter().map(String::as_str))?;
        let keys = match ebpf.map("keys") {
            Some(Map::HashMap(data)) => raw(data.fd().as_fd()),
            _ => return Err(broken("keys")),
        };
        let flows = match ebpf.map("flows") {
            Some(Map::Array(data)) => raw(data.fd().as_fd()),
            _ => return Err(broken("flows")),
        };
        Ok(Self { _ebpf: ebpf, keys, flows })
    }

    /// Descriptors of the maps, for [`super::Flows::open`]; they are open as long as this value lives.
    #[must_use]
    pub fn maps(&self) -> (RawFd, RawFd) {
        (self.keys, self.flows)
    }
}

fn put<'a>(ebpf: &mut Ebpf, name: &str, devices: impl IntoIterator<Item = &'a str>) -> Result<(), Unavailable> {
    let program = ebpf.program_mut(name).ok_or_else(|| broken(name))?;
    let program: &mut SchedClassifier = program.try_into().map_err(|_| broken(name))?;
    program.load().map_err(|error| unavailable("the kernel refuses the program", &error))?;
    for device in devices {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        program
            .attach_with_options(device, TcAttachType::Ingress, options)
            .map_err(|error| unavailable(&format!("cannot put the program on {device}"), &error))?;
    }
    Ok(())
}

fn unavailable(what: &str, error: &dyn std::error::Error) -> Unavailable {
    let mut message = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    // A refused program comes with pages of what the verifier thought.
    let message = message.chars().take(400).collect();
    Unavailable {
        message,
        hint: "needs Linux 6.6 or newer, CAP_BPF and CAP_NET_ADMIN; without it the pump carries every packet",
    }
}

fn broken(what: &str) -> Unavailable {
    Unavailable { message: format!("the program has no {what}"), hint: "build the native addon again: make native" }
}
