//! What Kedge needs and Node does not offer: TUN devices, batches of packets, a fast path past them in the kernel, socket
//! calls that block in one thread and are interrupted from another, and a second WebAssembly engine ([`wamr`]).
//!
//! Everything outside [`bind`] is plain Rust over file descriptors and knows nothing of Node;
//! `bind` turns JavaScript arguments into these calls and results into numbers.
//!
//! Two rules hold everywhere:
//!
//! * A descriptor is a plain number that belongs to the process, not to a thread. Except for guests, which
//!   stay in their thread, nothing here keeps state between calls, so the library may be used by any
//!   number of threads at once.
//! * Memory that comes from JavaScript may be shared with other threads and two arguments may be
//!   views of the same bytes. It is therefore only seen as slices of atomics ([`memory`]), never
//!   as `&[u8]` or `&mut [u8]`.

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::pedantic, clippy::undocumented_unsafe_blocks)]

pub mod batch;
// In a test build napi-derive registers nothing, and all of it would be unused.
#[cfg(not(test))]
mod bind;
pub mod deadline;
pub mod errno;
pub mod fast_path;
pub mod file;
pub mod interrupt;
pub mod memory;
pub mod points;
pub mod poll;
pub mod slice;
pub mod snapshot;
pub mod socket;
pub mod tun;
pub mod wamr;
