//! Values of frames and of the guest, and what they look like.

use wasmi::{AsContext, AsContextMut, ExternRef, F32, F64, Func, Nullable, V128, Val, ValType};

use super::host::Host;

/// A value of a frame as it crosses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    I32(i32),
    I64(i64),
    Func(Option<u32>),
    Extern(Option<u32>),
}

impl Piece {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::I32(_) => "i32",
            Self::I64(_) => "i64",
            Self::Func(_) => "func",
            Self::Extern(_) => "extern",
        }
    }
}

/// A number or null as text.
pub fn bits(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("i32 {value:x}"),
        Val::I64(value) => format!("i64 {value:x}"),
        Val::F32(value) => format!("f32 {:x}", value.to_bits()),
        Val::F64(value) => format!("f64 {:x}", value.to_bits()),
        Val::V128(value) => format!("v128 {:x}", value.as_u128()),
        Val::FuncRef(value) => if value.is_null() { "null" } else { "a function" }.to_owned(),
        Val::ExternRef(value) => if value.is_null() { "null" } else { "an object" }.to_owned(),
    }
}

/// The zero of a type.
pub fn zero(ty: ValType) -> Val {
    match ty {
        ValType::I32 => Val::I32(0),
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(F32::from_bits(0)),
        ValType::F64 => Val::F64(F64::from_bits(0)),
        ValType::V128 => Val::V128(V128::from(0u128)),
        ValType::FuncRef => Val::FuncRef(Nullable::Null),
        ValType::ExternRef => Val::ExternRef(Nullable::Null),
    }
}

/// The place of a function among those that can be referred to.
pub fn ordinal(functions: &[Func], function: Func) -> u32 {
    let wanted = format!("{function:?}");
    let found = functions.iter().position(|one| format!("{one:?}") == wanted).expect("an ordinal");
    u32::try_from(found).expect("ordinal")
}

/// The number of an object of ours.
pub fn extern_number(store: impl AsContext, value: Nullable<ExternRef>) -> Option<u32> {
    match value {
        Nullable::Null => None,
        Nullable::Val(value) => Some(*value.data(store.as_context()).downcast_ref::<u32>().expect("one of ours")),
    }
}

/// The object of a number: the same one each time.
pub fn extern_value(mut caller: impl AsContextMut<Data = Host>, number: Option<u32>) -> Nullable<ExternRef> {
    let Some(number) = number else { return Nullable::Null };
    let mut context = caller.as_context_mut();
    if let Some(known) = context.data().externs.get(&number) {
        return Nullable::Val(*known);
    }
    let value = ExternRef::new::<u32>(&mut context, number);
    context.data_mut().externs.insert(number, value);
    Nullable::Val(value)
}
