//! Prefetch: asks the processor for a cache line before it is needed.

/// Asks for the cache line of `bytes[at]`; does nothing if there is no such byte, or no such instruction.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch(bytes: &[u8], at: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(byte) = bytes.get(at) {
        // SAFETY: the address comes from a live reference, and a prefetch neither faults nor changes memory.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                std::ptr::from_ref(byte).cast::<i8>(),
            )
        };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (bytes, at);
}
