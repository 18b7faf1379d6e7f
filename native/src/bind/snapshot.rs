use std::sync::atomic::{AtomicU8, AtomicU32};

use napi::bindgen_prelude::{Result, Status, Uint8Array, Uint32Array};
use napi_derive::napi;

use super::{
    args::{View, size},
    number,
};
use crate::{
    errno::{self, Errno},
    memory::window,
    snapshot::{self, Run},
};

const ZERO: u32 = 0;
const DATA: u32 = 1;

/// First page, count and kind of each run.
#[napi]
pub fn delta_runs(memory: View<AtomicU8>, initial: View<AtomicU8>) -> Result<Uint32Array> {
    let runs = snapshot::runs(memory.bytes(), initial.bytes())
        .map_err(|_| napi::Error::new(Status::InvalidArg, "expected whole pages"))?;
    let numbers = runs.iter().flat_map(|run| [run.first, run.count, if run.data { DATA } else { ZERO }]);
    Ok(numbers.collect::<Vec<u32>>().into())
}

#[napi]
pub fn delta_copy(memory: View<AtomicU8>, runs: View<AtomicU32>, into: View<AtomicU8>, at: f64) -> i32 {
    let copy = || -> errno::Result<()> {
        let numbers: Vec<u32> = runs.unsigned().iter().map(|n| n.load(std::sync::atomic::Ordering::Relaxed)).collect();
        let (runs, rest) = numbers.as_chunks::<3>();
        if !rest.is_empty() {
            return Err(Errno::INVALID);
        }
        let runs: Vec<Run> =
            runs.iter().map(|&[first, count, kind]| Run { first, count, data: kind == DATA }).collect();
        let at = size(at)?;
        let length = into.bytes().len().checked_sub(at).ok_or(Errno::INVALID)?;
        snapshot::copy(memory.bytes(), &runs, window(into.bytes(), at, length)?)
    };
    number(copy())
}

#[napi]
pub fn piece_digest(parts: Vec<View<AtomicU8>>) -> Uint8Array {
    let parts: Vec<_> = parts.iter().map(View::bytes).collect();
    snapshot::digest(&parts).to_vec().into()
}
