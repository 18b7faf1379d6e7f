//! Places in the file of a module, and how numbers are written there.

/// Files above this are refused, so that offsets fit 32 bits with room for what the pass adds.
pub const LARGEST: usize = 1 << 30;

/// An offset in the file; [`LARGEST`] keeps it in range.
#[must_use]
pub fn place(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// Reads a validated unsigned LEB128: the number, and how many bytes it has.
#[must_use]
pub fn leb(bytes: &[u8]) -> (u32, usize) {
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate() {
        number |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (number, i + 1);
        }
    }
    (number, bytes.len())
}
