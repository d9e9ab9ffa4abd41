//! Widening and clamping between integer widths, said once so that `as` is nowhere else.

/// A length as `u64`; a `usize` is never wider on a target this builds for.
#[must_use]
#[expect(clippy::as_conversions, reason = "usize is at most 64 bits wide on every supported target")]
pub const fn u64_of(n: usize) -> u64 {
    n as u64
}

/// A 32-bit length from the wire as `usize`; `usize` is at least 32 bits wide on every supported target.
#[must_use]
#[expect(clippy::as_conversions, reason = "usize is at least 32 bits wide on every supported target")]
pub const fn usize_of(n: u32) -> usize {
    n as usize
}

/// A length as `u32`, or `u32::MAX` where it does not fit: callers bound lengths long before that.
#[must_use]
pub fn u32_clamped(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether two byte strings are equal, where both are often empty: comparing nothing with nothing is a masked load from nowhere in
/// glibc's memcmp on machines with AVX-512, and that takes a hundred nanoseconds.
#[inline]
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// A 64-bit size as `usize`, clamped: used only for comparisons against limits.
#[must_use]
pub fn usize_clamped(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
