//! Prefetch: asks the processor to load a cache line that will be needed a few records later.
//!
//! A hint only: without it, and on processors other than x86-64, everything works and is slower.

/// Bytes of a cache line, as far as the placement of prefetches goes.
const LINE_BYTES: usize = 64;

/// Starts loading the line at an address, which need not be valid.
#[inline(always)]
fn prefetch_line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: PREFETCHT0 belongs to SSE, which every x86-64 processor has. It reads nothing the program can
    // observe and raises no fault, whatever the address: a wrong address costs time and nothing else.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Starts loading element `i` of a slice: its first line and, where it may reach into a second, its last. An
/// index out of bounds is harmless.
#[inline(always)]
pub(crate) fn prefetch_element<T>(slice: &[T], i: usize) {
    let address = slice.as_ptr().wrapping_add(i).cast::<u8>();
    prefetch_line(address);
    let bytes = size_of::<T>();
    if bytes > LINE_BYTES / 2 || !LINE_BYTES.is_multiple_of(bytes.max(1)) {
        prefetch_line(address.wrapping_add(bytes.saturating_sub(1)));
    }
}

/// Starts loading what a reference points to: its first line.
#[inline(always)]
pub(crate) fn prefetch_reference<T>(value: Option<&T>) {
    if let Some(value) = value {
        prefetch_line(std::ptr::from_ref(value).cast());
    }
}
