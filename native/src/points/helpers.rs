//! Functions that the pass adds: what asks the host at a poll, what stands for imports, and what the host calls to
//! start, to resume and to restore state that only code can reach.

use wasm_encoder::{BlockType, Encode, HeapType, InstructionSink};

use super::{
    emit::{Abi, Body, zeros},
    module::Module,
    types::{Signatures, Type, declare},
};

/// A function of ours: its type, its body, and the name it is exported by.
pub struct Helper {
    pub ty: u32,
    pub body: Body,
    pub export: Option<String>,
}

impl Helper {
    fn new(ty: u32, export: Option<String>, locals: &[Type], write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::new();
        let mut groups = Vec::new();
        declare(locals, &mut groups).encode(&mut body);
        body.extend_from_slice(&groups);
        write(&mut body);
        InstructionSink::new(&mut body).end();
        Self { ty, body: Body::whole(body), export }
    }

    fn exported(ty: u32, name: String, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::new(ty, Some(name), &[], write)
    }
}

/// The cold path of a poll: asks the host and notes that frames leave if it wants the guest to stop.
#[must_use]
pub fn ask(abi: &Abi, signatures: &mut Signatures) -> Helper {
    Helper::new(signatures.of(&[], &[Type::I32]), None, &[], |out| {
        InstructionSink::new(out)
            .call(abi.poll)
            .if_(BlockType::Empty)
            .i32_const(1)
            .global_set(abi.unwind)
            .end()
            .global_get(abi.unwind);
    })
}

/// The normal and the resume version of a function that does nothing but call an import. `point` is its only one.
#[must_use]
pub fn wrapper(abi: &Abi, signatures: &mut Signatures, module: &Module<'_>, import: u32, point: u32) -> [Helper; 2] {
    let signature = module.signature(import);
    let params = || (0u32..).zip(&signature.params);
    let call = |out: &mut Vec<u8>| {
        for (local, _) in params() {
            InstructionSink::new(out).local_get(local);
        }
        let point = i32::try_from(point).unwrap_or(i32::MAX);
        let mut sink = InstructionSink::new(out);
        sink.call(import).global_get(abi.unwind).if_(BlockType::Empty).i32_const(point).call(abi.frame);
        for (local, ty) in params() {
            abi.save(*ty, out, |out| {
                InstructionSink::new(out).local_get(local);
            });
        }
        zeros(&signature.results, out);
        InstructionSink::new(out).return_().end();
    };
    let normal = Helper::new(module.functions[import as usize], None, &[], call);
    let ty = signatures.of(&[], &signature.results);
    let resume = Helper::new(ty, None, &signature.params, |out| {
        for (local, ty) in params() {
            abi.load(*ty, out);
            InstructionSink::new(out).local_set(local);
        }
        InstructionSink::new(out).call(abi.entry).drop();
        call(out);
    });
    [normal, resume]
}

/// What stands for a function that is its own resume version: calls it with parameters that do not matter.
#[must_use]
pub fn enter(abi: &Abi, signatures: &mut Signatures, module: &Module<'_>, function: u32) -> Helper {
    let signature = module.signature(function);
    Helper::new(signatures.of(&[], &signature.results), None, &[], |out| {
        InstructionSink::new(out).i32_const(1).global_set(abi.entering);
        zeros(&signature.params, out);
        InstructionSink::new(out).call(abi.function(function));
    })
}

/// `kedge:resume:R`: calls the outermost frame, whose results are R.
#[must_use]
pub fn resume(abi: &Abi, signatures: &mut Signatures, results: &[Type]) -> Helper {
    let ty = signatures.of(&[], results);
    let letters: String = results.iter().map(|ty| char::from(ty.letter())).collect();
    Helper::exported(ty, format!("kedge:resume:{letters}"), |out| {
        InstructionSink::new(out).call(abi.next).call_indirect(abi.resume_table, ty);
    })
}

/// Reads and writes a mutable global as bits.
#[must_use]
pub fn global(abi: &Abi, signatures: &mut Signatures, index: u32, ty: Type) -> Vec<Helper> {
    let mut getter = |name: String, write: &dyn Fn(&mut InstructionSink<'_>)| {
        Helper::exported(signatures.of(&[], &[Type::I64]), name, |out| {
            let mut sink = InstructionSink::new(out);
            sink.global_get(index);
            write(&mut sink);
        })
    };
    let mut helpers = match ty {
        Type::V128 => vec![
            getter(format!("kedge:get_global:{index}:lo"), &|sink| {
                sink.i64x2_extract_lane(0);
            }),
            getter(format!("kedge:get_global:{index}:hi"), &|sink| {
                sink.i64x2_extract_lane(1);
            }),
        ],
        Type::Func | Type::Extern => return reference_global(abi, signatures, index, ty),
        _ => vec![getter(format!("kedge:get_global:{index}"), &|sink| {
            match ty {
                Type::I32 => sink.i64_extend_i32_u(),
                Type::F32 => sink.i32_reinterpret_f32().i64_extend_i32_u(),
                Type::F64 => sink.i64_reinterpret_f64(),
                _ => sink,
            };
        })],
    };
    let mut setter = |name: String, write: &dyn Fn(&mut InstructionSink<'_>)| {
        Helper::exported(signatures.of(&[Type::I64], &[]), name, |out| {
            let mut sink = InstructionSink::new(out);
            write(&mut sink);
            sink.global_set(index);
        })
    };
    match ty {
        Type::V128 => helpers.extend([
            setter(format!("kedge:set_global:{index}:lo"), &|sink| {
                sink.global_get(index).local_get(0).i64x2_replace_lane(0);
            }),
            setter(format!("kedge:set_global:{index}:hi"), &|sink| {
                sink.global_get(index).local_get(0).i64x2_replace_lane(1);
            }),
        ]),
        _ => helpers.push(setter(format!("kedge:set_global:{index}"), &|sink| {
            sink.local_get(0);
            match ty {
                Type::I32 => sink.i32_wrap_i64(),
                Type::F32 => sink.i32_wrap_i64().f32_reinterpret_i32(),
                Type::F64 => sink.f64_reinterpret_i64(),
                _ => sink,
            };
        })),
    }
    helpers
}

/// A reference has no bits: it crosses as those in frames do, through the host's `save_…` and `load_…`.
fn reference_global(abi: &Abi, signatures: &mut Signatures, index: u32, ty: Type) -> Vec<Helper> {
    let nothing = signatures.of(&[], &[]);
    vec![
        Helper::exported(nothing, format!("kedge:save_global:{index}"), |out| {
            abi.save(ty, out, |out| {
                InstructionSink::new(out).global_get(index);
            });
        }),
        Helper::exported(nothing, format!("kedge:load_global:{index}"), |out| {
            abi.load(ty, out);
            InstructionSink::new(out).global_set(index);
        }),
    ]
}

/// Writes a slot of a table, and makes it larger.
#[must_use]
pub fn table(abi: &Abi, signatures: &mut Signatures, index: u32, functions: Option<u32>) -> [Helper; 2] {
    let null = if functions.is_some() { HeapType::FUNC } else { HeapType::EXTERN };
    let set = match functions {
        Some(functions) => {
            let ty = signatures.of(&[Type::I32, Type::I32], &[]);
            Helper::exported(ty, format!("kedge:table_set:{index}"), |out| {
                InstructionSink::new(out)
                    .local_get(0)
                    .local_get(1)
                    .if_(BlockType::Result(Type::Func.encoded()))
                    .local_get(1)
                    .i32_const(1)
                    .i32_sub()
                    .table_get(functions)
                    .else_()
                    .ref_null(null)
                    .end()
                    .table_set(index);
            })
        }
        None => Helper::exported(signatures.of(&[Type::I32], &[]), format!("kedge:table_set:{index}"), |out| {
            InstructionSink::new(out).local_get(0);
            abi.load(Type::Extern, out);
            InstructionSink::new(out).table_set(index);
        }),
    };
    let ty = signatures.of(&[Type::I32], &[Type::I32]);
    let grow = Helper::exported(ty, format!("kedge:table_grow:{index}"), |out| {
        InstructionSink::new(out).ref_null(null).local_get(0).table_grow(index);
    });
    [set, grow]
}

/// Says whether a segment was dropped, and drops it.
#[must_use]
pub fn segment(signatures: &mut Signatures, kind: &str, index: u32, dropped: u32, data: bool) -> [Helper; 2] {
    let get = Helper::exported(signatures.of(&[], &[Type::I32]), format!("kedge:dropped_{kind}:{index}"), |out| {
        InstructionSink::new(out).global_get(dropped);
    });
    let drop = Helper::exported(signatures.of(&[], &[]), format!("kedge:drop_{kind}:{index}"), |out| {
        let mut sink = InstructionSink::new(out);
        sink.i32_const(1).global_set(dropped);
        if data {
            sink.data_drop(index)
        } else {
            sink.elem_drop(index)
        };
    });
    [get, drop]
}
