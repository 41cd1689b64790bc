//! Counter: a number that one subtask raises and anyone may read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared counter. Raise it once per batch, not once per record, in hot loops.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// A counter at 0.
    pub fn new() -> Self {
        Counter::default()
    }
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// Raises the counter to `n` if it is lower.
    #[inline]
    pub fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
}
