//! What a guest's memory holds beyond its module's, over several threads' shares, and digests of pieces.

use std::sync::atomic::{AtomicU8, Ordering};

use kedge_native::{
    errno::Errno,
    snapshot::{PAGE, PIECE, Run, copy, digest, runs},
};
use sha2::{Digest, Sha256};

use crate::support::{bytes, plain};

fn run(first: u32, count: u32, data: bool) -> Run {
    Run { first, count, data }
}

fn put(memory: &[AtomicU8], page: usize, value: u8) {
    memory[page * PAGE + 77].store(value, Ordering::Relaxed);
}

#[test]
fn pages_that_differ_are_found_over_all_shares() {
    let pages = (16 << 20) / PAGE;
    let mut own = vec![0; 4 * PAGE];
    own[..2 * PAGE].fill(3);
    let initial = bytes(&own);
    let memory = bytes(&vec![0; pages * PAGE]);
    // Page 0 as the module makes it, page 1 became zero, pages 2 and 3 are zero in both.
    for byte in &memory[..PAGE] {
        byte.store(3, Ordering::Relaxed);
    }
    let middle = pages / 2;
    for page in [5, middle - 1, middle, pages - 1] {
        put(&memory, page, 9);
    }
    let found = runs(&memory, &initial).unwrap();
    let (middle, last) = (u32::try_from(middle).unwrap(), u32::try_from(pages - 1).unwrap());
    assert_eq!(found, [run(1, 1, false), run(5, 1, true), run(middle - 1, 2, true), run(last, 1, true)]);
    let into = bytes(&vec![1; 4 * PAGE]);
    copy(&memory, &found, &into).unwrap();
    for page in plain(&into).chunks(PAGE) {
        assert!(page.iter().enumerate().all(|(at, byte)| *byte == if at == 77 { 9 } else { 0 }));
    }
}

#[test]
fn a_large_copy_is_the_same_as_a_small_one() {
    let content: Vec<u8> = (0..(12 << 20)).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 1).collect();
    let memory = bytes(&content);
    let found = runs(&memory, &[]).unwrap();
    assert_eq!(found.len(), 1);
    let into = bytes(&vec![0; content.len()]);
    copy(&memory, &found, &into).unwrap();
    assert_eq!(plain(&into), content);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(runs(&bytes(&[0; 10]), &[]), Err(Errno::INVALID));
    assert_eq!(runs(&[], &bytes(&[0; 10])), Err(Errno::INVALID));
    let memory = bytes(&vec![1; 2 * PAGE]);
    for wrong in [run(1, 2, true), run(u32::MAX, u32::MAX, true), run(0, 2, true), run(0, 1, false)] {
        assert_eq!(copy(&memory, &[wrong], &bytes(&vec![0; PAGE])), Err(Errno::INVALID));
    }
}

#[test]
fn the_digest_does_not_depend_on_the_parts() {
    let reference = |content: &[u8]| -> [u8; 32] {
        let mut whole = Sha256::new();
        for piece in content.chunks(PIECE) {
            whole.update(Sha256::digest(piece));
        }
        whole.finalize().into()
    };
    let content: Vec<u8> = (0..5 * PIECE + 4711).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, content.len()] {
        let memory = bytes(&content[..length]);
        for cuts in [vec![], vec![0, 0], vec![8, 8, 9], vec![PIECE - 3, PIECE, PIECE + 5]] {
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                let to = length.min(cut).max(from);
                parts.push(&memory[from..to]);
                from = to;
            }
            parts.push(&memory[from..]);
            assert_eq!(digest(&parts), reference(&content[..length]), "{length} bytes in {} parts", parts.len());
        }
    }
}
