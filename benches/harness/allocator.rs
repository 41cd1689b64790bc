//! Allocator: the global allocator of a bench, chosen per child: mimalloc or the system's.
//!
//! Place: the bench names [`Chosen`] as its `#[global_allocator]`; the parent sets [`VARIABLE`] for each child.
//! Method: which of the two lets a bound run faster depends on the workload, so each workload names one, and engine
//! and bound both get it. The choice is one load and one predictable branch per allocation.
//! Invariants: a block goes back to the allocator that it came from, because the choice never changes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU8, Ordering};

use mimalloc::MiMalloc;

/// The allocators.
#[derive(Clone, Copy)]
pub enum Allocator {
    /// mimalloc.
    Mimalloc,
    /// That of the C library.
    System,
}

/// The environment variable that holds the choice.
pub const VARIABLE: &str = "MAINSTEM_BENCH_ALLOCATOR";
const VARIABLE_C: &CStr = c"MAINSTEM_BENCH_ALLOCATOR";

impl Allocator {
    /// What the tables and the environment variable call it.
    pub const fn name(self) -> &'static str {
        match self {
            Allocator::Mimalloc => "mimalloc",
            Allocator::System => "system",
        }
    }
}

/// The allocator that the environment names; mimalloc if it names none.
pub struct Chosen;

const UNDECIDED: u8 = 0;
const SYSTEM: u8 = 1;
const MIMALLOC: u8 = 2;
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

#[inline(always)]
fn is_system() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNDECIDED => decide(),
        choice => choice == SYSTEM,
    }
}

/// Reads the environment without allocating. It happens in the first allocation, before there are threads.
#[cold]
fn decide() -> bool {
    // SAFETY: the name ends with a zero byte. The text that is returned belongs to the environment, which nothing
    // changes before `main`, where the first allocation (that of the arguments, by the runtime) lies behind us.
    let is_system = unsafe {
        let value: *const c_char = libc::getenv(VARIABLE_C.as_ptr());
        !value.is_null() && CStr::from_ptr(value).to_bytes() == Allocator::System.name().as_bytes()
    };
    CHOICE.store(if is_system { SYSTEM } else { MIMALLOC }, Ordering::Relaxed);
    is_system
}

// SAFETY: every call is passed on unchanged to one of two correct allocators, always the same one.
unsafe impl GlobalAlloc for Chosen {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { if is_system() { System.alloc(layout) } else { MiMalloc.alloc(layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { if is_system() { System.alloc_zeroed(layout) } else { MiMalloc.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, and the block came from the same allocator.
        unsafe { if is_system() { System.dealloc(block, layout) } else { MiMalloc.dealloc(block, layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above, and the block came from the same allocator.
        unsafe {
            if is_system() {
                System.realloc(block, layout, new_size)
            } else {
                MiMalloc.realloc(block, layout, new_size)
            }
        }
    }
}
