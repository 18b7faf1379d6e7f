//! Tests of the core modules over real descriptors. Those of TUN devices need root; each runs in a network
//! namespace of its own thread, which disappears with the thread.

mod batch;
mod fast_path;
mod file;
mod interrupt;
mod points;
mod poll;
mod slice;
mod snapshot;
mod socket;
mod support;
mod tun;
mod wamr;
mod wamr_stop;
