//! What cargo cannot build by itself: the fast path, a BPF program in C.

#[path = "build/bpf.rs"]
mod bpf;

fn main() {
    bpf::build();
}
