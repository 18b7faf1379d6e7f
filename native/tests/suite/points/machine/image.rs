//! Takes everything out of a stopped guest, and puts it into a new instance.

use std::collections::VecDeque;

use kedge_native::points::{metadata::Metadata, select::Stand, types::Type};
use wasmi::{Extern, Func, Nullable, Ref, Val};

use super::{
    Running,
    host::{Frame, Outside},
    values::{Piece, extern_number, ordinal},
};

/// Everything a stopped guest is.
#[derive(Clone, Debug)]
pub struct Image {
    pub memories: Vec<Vec<u8>>,
    pub globals: Vec<Vec<Piece>>,
    pub tables: Vec<(u32, Vec<Piece>)>,
    pub dropped_data: Vec<bool>,
    pub dropped_elements: Vec<bool>,
    pub frames: Vec<Frame>,
    pub outside: Outside,
}

impl Running {
    /// Takes everything out of a stopped guest.
    pub fn image(&mut self) -> Image {
        let metadata = self.store.data().metadata.clone().expect("instrumented");
        let mut frames = std::mem::take(&mut self.store.data_mut().frames);
        for (i, frame) in frames.iter_mut().enumerate() {
            take_frame(&metadata, frame, i == 0);
        }
        let mut memories = Vec::new();
        while let Some(Extern::Memory(memory)) =
            self.instance.get_export(&self.store, &format!("kedge:memory:{}", memories.len()))
        {
            memories.push(memory.data(&self.store).to_vec());
        }
        let mut globals = Vec::new();
        for (index, ty) in &metadata.globals {
            globals.push(match ty {
                Type::V128 => vec![
                    self.invoke_i64(&format!("kedge:get_global:{index}:lo")),
                    self.invoke_i64(&format!("kedge:get_global:{index}:hi")),
                ],
                Type::Func | Type::Extern => {
                    let scratch = Frame { point: 0, values: Vec::new() };
                    self.store.data_mut().frames = vec![scratch];
                    self.invoke(&format!("kedge:save_global:{index}"), &[]);
                    self.store.data_mut().frames.pop().expect("scratch").values
                }
                _ => vec![self.invoke_i64(&format!("kedge:get_global:{index}"))],
            });
        }
        let mut tables = Vec::new();
        for index in &metadata.tables {
            let Extern::Table(table) = self.export(&format!("kedge:table:{index}")) else { panic!("no table") };
            let slots = (0..table.size(&self.store))
                .map(|i| match table.get(&self.store, i) {
                    Some(Ref::Func(value)) => Piece::Func(self.ordinal(value)),
                    Some(Ref::Extern(value)) => Piece::Extern(extern_number(&self.store, value)),
                    None => panic!("slot"),
                })
                .collect();
            tables.push((*index, slots));
        }
        let mut dropped = |kind: &str, list: &[u32]| {
            list.iter()
                .map(|index| !matches!(self.invoke(&format!("kedge:dropped_{kind}:{index}"), &[]), Some(Val::I32(0))))
                .collect::<Vec<bool>>()
        };
        let dropped_data = dropped("data", &metadata.dropped_data);
        let dropped_elements = dropped("elem", &metadata.dropped_elements);
        let outside = self.store.data().outside.clone();
        Image { memories, globals, tables, dropped_data, dropped_elements, frames, outside }
    }

    fn ordinal(&self, value: Nullable<Func>) -> Option<u32> {
        let Nullable::Val(function) = value else { return None };
        Some(ordinal(&self.store.data().functions, function))
    }

    /// Puts it into an instance that has not run.
    pub fn restore(&mut self, image: &Image) {
        let metadata = self.store.data().metadata.clone().expect("instrumented");
        for (index, bytes) in image.memories.iter().enumerate() {
            let Extern::Memory(memory) = self.export(&format!("kedge:memory:{index}")) else { panic!("no memory") };
            let missing = (bytes.len() as u64 >> 16) - memory.size(&self.store);
            memory.grow(&mut self.store, missing).expect("growth");
            memory.data_mut(&mut self.store).copy_from_slice(bytes);
        }
        for ((index, ty), pieces) in metadata.globals.iter().zip(&image.globals) {
            let bits = |piece: &Piece| match piece {
                Piece::I64(bits) => Val::I64(*bits),
                other => panic!("{other:?}"),
            };
            match ty {
                Type::V128 => {
                    self.invoke(&format!("kedge:set_global:{index}:lo"), &[bits(&pieces[0])]);
                    self.invoke(&format!("kedge:set_global:{index}:hi"), &[bits(&pieces[1])]);
                }
                Type::Func | Type::Extern => {
                    self.store.data_mut().loading = pieces.iter().cloned().collect();
                    self.invoke(&format!("kedge:load_global:{index}"), &[]);
                }
                _ => {
                    self.invoke(&format!("kedge:set_global:{index}"), &[bits(&pieces[0])]);
                }
            }
        }
        for (index, slots) in &image.tables {
            let Extern::Table(table) = self.export(&format!("kedge:table:{index}")) else { panic!("no table") };
            let missing = slots.len() as u64 - table.size(&self.store);
            let missing = Val::I32(i32::try_from(missing).expect("size"));
            self.invoke(&format!("kedge:table_grow:{index}"), &[missing]);
            for (slot, piece) in (0i32..).zip(slots) {
                let name = format!("kedge:table_set:{index}");
                match piece {
                    Piece::Func(ordinal) => {
                        let ordinal = ordinal.map_or(0, |ordinal| i32::try_from(ordinal).expect("ordinal") + 1);
                        self.invoke(&name, &[Val::I32(slot), Val::I32(ordinal)]);
                    }
                    other => {
                        self.store.data_mut().loading = VecDeque::from([other.clone()]);
                        self.invoke(&name, &[Val::I32(slot)]);
                    }
                }
            }
        }
        for (index, dropped) in metadata.dropped_data.iter().zip(&image.dropped_data) {
            if *dropped {
                self.invoke(&format!("kedge:drop_data:{index}"), &[]);
            }
        }
        for (index, dropped) in metadata.dropped_elements.iter().zip(&image.dropped_elements) {
            if *dropped {
                self.invoke(&format!("kedge:drop_elem:{index}"), &[]);
            }
        }
    }
}

/// A frame must hold exactly the values of all locals and temporaries of its function, in their order. Those that its point
/// names remain.
fn take_frame(metadata: &Metadata, frame: &mut Frame, innermost: bool) {
    let slot = metadata.slot_of(frame.point).expect("a point of the table");
    let resumable = &metadata.functions[slot];
    let points = metadata.points(slot).expect("points");
    let point = &points[(frame.point - resumable.first_point) as usize];
    assert_eq!(point.stand == Stand::At, innermost, "{point:?}");
    let mut pieces = std::mem::take(&mut frame.values).into_iter();
    let mut all = Vec::new();
    for ty in resumable.locals.iter().chain(&resumable.temps) {
        let kinds: &[&str] = match ty {
            Type::I32 | Type::F32 => &["i32"],
            Type::I64 | Type::F64 => &["i64"],
            Type::V128 => &["i64", "i64"],
            Type::Func => &["func"],
            Type::Extern => &["extern"],
        };
        let value: Vec<Piece> = pieces.by_ref().take(kinds.len()).collect();
        let saved: Vec<&str> = value.iter().map(Piece::kind).collect();
        assert_eq!(saved, kinds, "the frame of {point:?}");
        all.push(value);
    }
    assert_eq!(pieces.next(), None, "the frame of {point:?}");
    let first_temp = u32::try_from(resumable.locals.len()).expect("count");
    for index in point.live.iter().copied().chain(point.operands.iter().map(|temp| first_temp + temp)) {
        frame.values.append(&mut all[index as usize]);
    }
}
