//! Counter: a number that one subtask raises and anyone may read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A shared counter. Raise it once per batch, not once per record, in hot loops.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Number>);

#[derive(Debug, Default)]
struct Number {
    value: AtomicU64,
    /// Counters of several attempts come together as their highest and not as their sum.
    is_peak: AtomicBool,
}

impl Counter {
    /// A counter at 0.
    pub fn new() -> Self {
        Counter::default()
    }
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.value.fetch_add(n, Ordering::Relaxed);
    }
    /// Raises the counter to `n` if it is lower.
    #[inline]
    pub fn raise_to(&self, n: u64) {
        self.0.is_peak.store(true, Ordering::Relaxed);
        self.0.value.fetch_max(n, Ordering::Relaxed);
    }
    /// Takes back what was added.
    pub fn take_back(&self, n: u64) {
        self.0.value.fetch_sub(n, Ordering::Relaxed);
    }
    /// Takes in what another counter has come to: its value is added, or raised to if it is a peak.
    pub fn take_in(&self, value: u64, is_peak: bool) {
        if is_peak { self.raise_to(value) } else { self.add(value) }
    }
    /// Whether it was raised to values and not added to.
    pub fn is_peak(&self) -> bool {
        self.0.is_peak.load(Ordering::Relaxed)
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.value.load(Ordering::Relaxed)
    }
}

/// Named counters of one operator, created on first use. Cloning gives another handle to the same set.
#[derive(Clone, Default)]
pub struct Counters(Arc<std::sync::Mutex<std::collections::BTreeMap<String, Counter>>>);

impl Counters {
    /// An empty set.
    pub fn new() -> Self {
        Counters::default()
    }
    /// The counter of that name.
    pub fn counter(&self, name: &str) -> Counter {
        let mut set = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(counter) = set.get(name) {
            return counter.clone();
        }
        set.entry(name.to_string()).or_default().clone()
    }
    /// All counters with their values, by name.
    pub fn values(&self) -> Vec<(String, u64)> {
        let set = self.0.lock().unwrap_or_else(|e| e.into_inner());
        set.iter().map(|(name, c)| (name.clone(), c.get())).collect()
    }
    /// All counters with their values and whether they are peaks, by name.
    pub fn snapshot(&self) -> Vec<(String, u64, bool)> {
        let set = self.0.lock().unwrap_or_else(|e| e.into_inner());
        set.iter().map(|(name, c)| (name.clone(), c.get(), c.is_peak())).collect()
    }
}
