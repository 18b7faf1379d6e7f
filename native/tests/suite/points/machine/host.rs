//! The host's side of a guest: the imports of the original, and those that instrumented code asks for.

use std::collections::{HashMap, VecDeque};

use kedge_native::points::{metadata::Metadata, types::Type};
use wasmi::{Caller, ExternRef, F32, F64, Func, Global, Nullable, Store, StoreLimits, V128, Val, ValType};

use super::values::{Piece, bits, extern_number, extern_value, ordinal};

/// A frame: its point and what was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub point: u32,
    pub values: Vec<Piece>,
}

/// What the host of the guest remembers: it moves with the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    pub log: Vec<String>,
    pub calls: u64,
}

/// When to stop, counted over the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub struct When {
    /// At this poll, counted from 0 in each instance.
    pub poll: Option<u64>,
    /// At this host call, likewise.
    pub call: Option<u64>,
}

/// What a guest's store holds.
#[derive(Default)]
pub struct Host {
    pub outside: Outside,
    pub metadata: Option<Metadata>,
    pub when: When,
    pub polls: u64,
    pub calls: u64,
    pub frames: Vec<Frame>,
    pub feed: Vec<Frame>,
    pub loading: VecDeque<Piece>,
    pub ordinal: u32,
    pub functions: Vec<Func>,
    pub externs: HashMap<u32, ExternRef>,
    pub unwind: Option<Global>,
    pub limits: StoreLimits,
}

/// What the guest's own imports do: they note the call and make up results from how many calls there were.
pub fn outside_call(mut caller: Caller<'_, Host>, name: &str, args: &[Val], results: &[ValType], out: &mut [Val]) {
    let host = caller.data_mut();
    let stop = host.when.call == Some(host.calls);
    host.calls += 1;
    if stop {
        let unwind = host.unwind.expect("kedge:unwind");
        unwind.set(&mut caller, Val::I32(1)).expect("kedge:unwind");
        return;
    }
    let args: Vec<String> = args
        .iter()
        .map(|value| match value {
            Val::ExternRef(value) => format!("{:?}", extern_number(&caller, *value)),
            other => bits(other),
        })
        .collect();
    let host = caller.data_mut();
    host.outside.log.push(format!("{name}({})", args.join(", ")));
    host.outside.calls += 1;
    let seed = host.outside.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (slot, ty) in out.iter_mut().zip(results) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // any bits will do
        let value = match ty {
            ValType::I32 => Val::I32((seed % 7) as i32),
            ValType::I64 => Val::I64(seed as i64),
            ValType::F32 => Val::F32(F32::from_float((seed % 1000) as f32)),
            ValType::F64 => Val::F64(F64::from_float((seed % 1000) as f64)),
            ValType::V128 => Val::V128(V128::from(u128::from(seed))),
            ValType::FuncRef => Val::FuncRef(Nullable::Null),
            ValType::ExternRef => {
                let number = (seed % 16) as u32;
                Val::ExternRef(extern_value(&mut caller, Some(number)))
            }
        };
        *slot = value;
    }
}

/// The host's side of instrumented code.
pub fn kedge_imports(store: &mut Store<Host>) -> HashMap<&'static str, Func> {
    let saved = |host: &mut Host, piece: Piece| host.frames.last_mut().expect("a frame was begun").values.push(piece);
    let load = |host: &mut Host| host.loading.pop_front().expect("a value to load");
    let poll = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>| -> i32 {
        let host = caller.data_mut();
        let stop = host.when.poll == Some(host.polls);
        host.polls += 1;
        i32::from(stop)
    });
    let frame = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>, point: i32| {
        let point = point.cast_unsigned();
        caller.data_mut().frames.push(Frame { point, values: Vec::new() });
    });
    let save_i32 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: i32| {
        saved(caller.data_mut(), Piece::I32(value));
    });
    let save_i64 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: i64| {
        saved(caller.data_mut(), Piece::I64(value));
    });
    let save_func = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: Nullable<Func>| {
        let host = caller.data_mut();
        let piece = match value {
            Nullable::Null => None,
            Nullable::Val(function) => Some(ordinal(&host.functions, function)),
        };
        saved(host, Piece::Func(piece));
    });
    let save_extern = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>, value: Nullable<ExternRef>| {
        let piece = extern_number(&caller, value);
        saved(caller.data_mut(), Piece::Extern(piece));
    });
    let next = Func::wrap(&mut *store, |mut caller: Caller<'_, Host>| -> i32 { next(caller.data_mut()) });
    let entry = Func::wrap(&mut *store, |caller: Caller<'_, Host>| -> i32 {
        assert!(caller.data().loading.is_empty(), "values were left over");
        caller.data().ordinal.cast_signed()
    });
    let load_i32 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> i32 {
        match load(caller.data_mut()) {
            Piece::I32(value) => value,
            other => panic!("an i32 was wanted, not {other:?}"),
        }
    });
    let load_i64 = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> i64 {
        match load(caller.data_mut()) {
            Piece::I64(value) => value,
            other => panic!("an i64 was wanted, not {other:?}"),
        }
    });
    let load_func = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> Nullable<Func> {
        match load(caller.data_mut()) {
            Piece::Func(None) => Nullable::Null,
            Piece::Func(Some(ordinal)) => Nullable::Val(caller.data().functions[ordinal as usize]),
            other => panic!("a function was wanted, not {other:?}"),
        }
    });
    let load_extern = Func::wrap(&mut *store, move |mut caller: Caller<'_, Host>| -> Nullable<ExternRef> {
        match load(caller.data_mut()) {
            Piece::Extern(number) => extern_value(&mut caller, number),
            other => panic!("an object was wanted, not {other:?}"),
        }
    });
    HashMap::from([
        ("poll", poll),
        ("frame", frame),
        ("save_i32", save_i32),
        ("save_i64", save_i64),
        ("save_func", save_func),
        ("save_extern", save_extern),
        ("next", next),
        ("entry", entry),
        ("load_i32", load_i32),
        ("load_i64", load_i64),
        ("load_func", load_func),
        ("load_extern", load_extern),
    ])
}

/// Goes to the next frame inwards: its values, by the layout of its function.
fn next(host: &mut Host) -> i32 {
    let metadata = host.metadata.as_ref().expect("instrumented");
    let frame = host.feed.pop().expect("a frame");
    let slot = metadata.slot_of(frame.point).expect("point");
    let resumable = &metadata.functions[slot];
    let point = metadata.points(slot).expect("points").swap_remove((frame.point - resumable.first_point) as usize);
    let zeros = |ty: &Type| match ty {
        Type::I32 | Type::F32 => vec![Piece::I32(0)],
        Type::I64 | Type::F64 => vec![Piece::I64(0)],
        Type::V128 => vec![Piece::I64(0), Piece::I64(0)],
        Type::Func => vec![Piece::Func(None)],
        Type::Extern => vec![Piece::Extern(None)],
    };
    let mut locals: Vec<Vec<Piece>> = resumable.locals.iter().map(zeros).collect();
    let mut temps: Vec<Vec<Piece>> = resumable.temps.iter().map(zeros).collect();
    let mut values = frame.values.into_iter();
    for slot in point.live.iter().map(|local| (false, *local)).chain(point.operands.iter().map(|temp| (true, *temp))) {
        let target = if slot.0 { &mut temps[slot.1 as usize] } else { &mut locals[slot.1 as usize] };
        for piece in target.iter_mut() {
            *piece = values.next().expect("a value");
        }
    }
    host.loading = locals.into_iter().chain(temps).flatten().collect();
    host.ordinal = point.ordinal;
    i32::try_from(slot).expect("slot")
}
