//! Memory: byte sizes as people write them, and one budget that the users of memory share.

use super::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes, read from and written as `512MiB`, `64k`, `1GB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many MiB.
    pub const fn mib(n: u64) -> ByteSize {
        ByteSize(n << 20)
    }
}

impl FromStr for ByteSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let t = text.trim();
        let split = t.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(t.len());
        let (number, unit) = t.split_at(split);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1u64,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => 0,
        };
        let wrong =
            || Error::config(format!("'{text}' is not a size; write for example 512MiB, 2GiB or 1000000"));
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = value * factor as f64;
        if factor == 0 || !bytes.is_finite() || bytes >= u64::MAX as f64 {
            return Err(wrong());
        }
        Ok(ByteSize(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit < units.len() - 1 {
            value /= 1024.0;
            unit += 1;
        }
        let text = match unit {
            0 => format!("{}B", self.0),
            _ if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}{}", units[unit]),
            _ => format!("{value:.1}{}", units[unit]),
        };
        f.pad(&text)
    }
}

/// A fixed number of bytes that several users share. Cloning gives another handle to the same budget.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        MemoryBudget(Arc::new(Shared { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }
    /// The size of the whole budget.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }
    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }
    /// The highest number of bytes that was ever reserved at once.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }
    /// An empty reservation that can grow.
    pub fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

/// Bytes held from a [`MemoryBudget`]; given back on drop.
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes if the budget has them. Never waits.
    #[must_use]
    pub fn try_grow(&mut self, more: u64) -> bool {
        let shared = &self.budget.0;
        let taken = shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|&u| u <= shared.limit)
            })
            .is_ok();
        if taken {
            self.bytes += more;
            shared.peak.fetch_max(shared.used.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        taken
    }

    /// Takes over what another reservation of the same budget holds; nobody else can have the bytes in between.
    pub fn absorb(&mut self, mut other: Reservation) {
        debug_assert!(Arc::ptr_eq(&self.budget.0, &other.budget.0), "reservations of different budgets");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back `less` bytes (at most what is held).
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.budget.0.used.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in
            [("512MiB", 512 << 20), ("1k", 1024), ("2 GB", 2_000_000_000), ("77", 77), ("0.5g", 1 << 29)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "MiB", "-1", "12parsecs", "1e400", "99999999999t"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(1536).to_string(), "1.5KiB");
        assert_eq!(ByteSize(512 << 20).to_string(), "512MiB");
    }

    #[test]
    fn budget_is_never_exceeded_and_comes_back() {
        let budget = MemoryBudget::new(100);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.try_grow(60) && !b.try_grow(50) && b.try_grow(40));
        assert_eq!((budget.used(), budget.peak()), (100, 100));
        b.absorb(a);
        assert_eq!((b.bytes(), budget.used(), budget.peak()), (100, 100, 100));
        b.shrink(70);
        assert!(b.try_grow(60) && !b.try_grow(11));
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
