//! The fast path as two classes. A flow crosses as one `Float64Array`, whose layout `index.d.ts` describes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use napi::{Env, Error, JsValue, Result, Status};
use napi_derive::napi;

use super::{
    args::{Fd, View},
    number,
};
use crate::{
    errno::{self, Errno},
    fast_path::{self, Evidence, Flows, Programs, Setup},
    memory::Doubles,
};

/// Doubles of a record: first what describes a flow, then what is known of it.
const RECORD: usize = SETUP + EVIDENCE;
const SETUP: usize = 20;
const EVIDENCE: usize = 19;
/// Where times are among the offsets; they are milliseconds on the other side.
const TIMES: [usize; 2] = [8, 9];
const NANOSECONDS: f64 = 1e6;
/// A window no segment has: none was seen.
const NO_WINDOW: f64 = -1.0;

/// Programs on devices. Closed, or collected, devices are as they were.
#[napi]
pub struct FastPathPrograms {
    programs: Option<Programs>,
}

#[napi]
impl FastPathPrograms {
    #[napi(constructor)]
    pub fn new(env: Env, outside: String, legs: Vec<String>, slots: u32) -> Result<Self> {
        match Programs::attach(&outside, &legs, slots) {
            Ok(programs) => Ok(Self { programs: Some(programs) }),
            Err(why) => {
                let mut object = env.create_error(Error::from_reason(why.message))?;
                object.set("code", "KEDGE_FAST_PATH_UNAVAILABLE")?;
                object.set("hint", why.hint)?;
                Err(Error::from(object.to_unknown()))
            }
        }
    }

    /// Descriptors of the maps: keys, flows. Empty when closed.
    #[napi]
    pub fn maps(&self) -> Vec<i32> {
        self.programs.as_ref().map_or_else(Vec::new, |programs| {
            let (keys, flows) = programs.maps();
            vec![keys, flows]
        })
    }

    #[napi]
    pub fn close(&mut self) {
        self.programs = None;
    }
}

/// A view of the flows that the kernel carries.
#[napi]
pub struct FastPathFlows {
    flows: Flows,
}

#[napi]
impl FastPathFlows {
    #[napi(constructor)]
    pub fn new(keys: Fd, flows: Fd, slots: u32) -> Result<Self> {
        let opened = Flows::open(keys.0, flows.0, slots as usize);
        opened.map(|flows| Self { flows }).map_err(|Errno(errno)| {
            Error::new(Status::InvalidArg, format!("not the maps of a fast path: errno {errno}"))
        })
    }

    #[napi]
    pub fn propose(&mut self, slot: u32, record: View<AtomicU64>) -> i32 {
        let flows = &mut self.flows;
        number(whole(record.doubles()).and_then(|record| flows.propose(slot, &setup(record))))
    }

    #[napi]
    pub fn arm(&self, slot: u32, leg_device: u32) -> i32 {
        number(self.flows.arm(slot, leg_device))
    }

    #[napi]
    pub fn admit(&self, slot: u32, record: View<AtomicU64>, seen: u32) -> i32 {
        let admit = |record| self.flows.admit(slot, &setup(record), &evidence(record), seen);
        number(whole(record.doubles()).and_then(admit).map(i32::from))
    }

    #[napi]
    pub fn is_live(&self, slot: u32) -> i32 {
        number(self.flows.is_live(slot).map(i32::from))
    }

    #[napi]
    pub fn exchange(&self, slot: u32, record: View<AtomicU64>) -> i32 {
        self.told(record.doubles(), |flows, known| flows.exchange(slot, known))
    }

    #[napi]
    pub fn withdraw(&self, slot: u32, record: View<AtomicU64>) -> i32 {
        self.told(record.doubles(), |flows, known| flows.withdraw(slot, known))
    }

    #[napi]
    pub fn read(&self, slot: u32, record: View<AtomicU64>) -> i32 {
        self.told(record.doubles(), |flows, _| flows.read(slot))
    }

    #[napi]
    pub fn forget(&mut self, record: View<AtomicU64>) -> i32 {
        let flows = &mut self.flows;
        number(whole(record.doubles()).map(|record| flows.forget(&setup(record))))
    }

    fn told(&self, record: &Doubles, ask: impl FnOnce(&Flows, &Evidence) -> errno::Result<Evidence>) -> i32 {
        number(whole(record).and_then(|record| {
            let known = ask(&self.flows, &evidence(record))?;
            tell(record, &known);
            Ok(())
        }))
    }
}

/// Index of a network device of this network namespace, or `-errno`.
#[napi]
pub fn device_index(name: String) -> i32 {
    number(fast_path::device_index(&name).and_then(|index| i32::try_from(index).map_err(|_| Errno::INVALID)))
}

fn whole(record: &Doubles) -> errno::Result<&Doubles> {
    if record.len() == RECORD { Ok(record) } else { Err(Errno::INVALID) }
}

fn get(record: &Doubles, index: usize) -> f64 {
    f64::from_bits(record[index].load(Relaxed))
}

fn set(record: &Doubles, index: usize, value: f64) {
    record[index].store(value.to_bits(), Relaxed);
}

// A double that is no such number saturates or becomes 0: the gateway only writes what it keeps in fields of these types.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn setup(record: &Doubles) -> Setup {
    Setup {
        guest_address: get(record, 0) as u32,
        peer_address: get(record, 1) as u32,
        outside_address: get(record, 2) as u32,
        guest_port: get(record, 3) as u16,
        peer_port: get(record, 4) as u16,
        outside_port: get(record, 5) as u16,
        leg_device: get(record, 6) as u32,
        leg_tun: get(record, 7) as u32,
        outside_tun: get(record, 8) as u32,
        flags: get(record, 9) as u32,
        delta: get(record, 10) as u32,
        ts_delta: get(record, 11) as u32,
        ts_floor: get(record, 12) as u32,
        out_base: get(record, 13) as u32,
        in_base: get(record, 14) as u32,
        peer_shift: get(record, 15) as u8,
        guest_shift: get(record, 16) as u8,
        announced_shift: get(record, 17) as u8,
        socket_base: get(record, 18) as i64,
        play_nxt: get(record, 19) as i64,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as above
fn evidence(record: &Doubles) -> Evidence {
    let scale = |i: usize| if TIMES.contains(&i) { NANOSECONDS } else { 1.0 };
    Evidence {
        offsets: std::array::from_fn(|i| (get(record, SETUP + i) * scale(i)) as i64),
        clocks: std::array::from_fn(|i| get(record, SETUP + 10 + i) as u32),
        counts: std::array::from_fn(|i| get(record, SETUP + 14 + i) as u64),
        peer_window: None,
    }
}

#[allow(clippy::cast_precision_loss)] // streams and times stay below 2^53
fn tell(record: &Doubles, known: &Evidence) {
    for (i, &offset) in known.offsets.iter().enumerate() {
        let scale = if TIMES.contains(&i) { NANOSECONDS } else { 1.0 };
        set(record, SETUP + i, offset as f64 / scale);
    }
    known.clocks.iter().enumerate().for_each(|(i, &clock)| set(record, SETUP + 10 + i, f64::from(clock)));
    known.counts.iter().enumerate().for_each(|(i, &count)| set(record, SETUP + 14 + i, count as f64));
    set(record, SETUP + 18, known.peer_window.map_or(NO_WINDOW, f64::from));
}
