//! Evictor: leaves records out of a firing window, before its function sees them or after it did.
//!
//! What an evictor removes is gone from the window for good. A window with an evictor keeps all its records: nothing
//! is aggregated before it fires.

use super::{Window, ms_text, whole_ms};
use crate::base::data::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A record with its timestamp, as kept in a window. The timestamp is the smallest one where the stream has none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timestamped<T> {
    /// The record.
    pub value: T,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// Removes records from a window that fires. `elements` are in the order in which they came.
pub trait Evictor<T>: Clone + Send + Sync + 'static {
    /// Before the window function is called.
    fn evict_before(&mut self, _elements: &mut Vec<Timestamped<T>>, _window: &Window) {}
    /// After the window function was called.
    fn evict_after(&mut self, _elements: &mut Vec<Timestamped<T>>, _window: &Window) {}
    /// What is wrong with the arguments, found when the plan is built.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
    /// What it does, for explain.
    fn describe(&self) -> String;
}

/// When a built-in evictor acts, seen from the window function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    Before,
    After,
}

impl When {
    fn describe(self, what: String) -> String {
        match self {
            When::Before => what,
            When::After => format!("{what} after the function"),
        }
    }
}

/// Keeps the last `n` records.
#[derive(Clone, Debug)]
pub struct CountEvictor {
    keep: usize,
    when: When,
}

impl CountEvictor {
    /// Keeps the last `n` records, at least one.
    pub fn of(n: usize) -> CountEvictor {
        CountEvictor { keep: n, when: When::Before }
    }
    /// Evicts after the window function instead of before it.
    #[must_use]
    pub fn after(self) -> CountEvictor {
        CountEvictor { when: When::After, ..self }
    }
    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>) {
        elements.drain(..elements.len().saturating_sub(self.keep));
    }
}

impl<T> Evictor<T> for CountEvictor {
    fn evict_before(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::Before {
            self.evict(elements);
        }
    }
    fn evict_after(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::After {
            self.evict(elements);
        }
    }
    fn check(&self) -> Result<(), String> {
        match self.keep {
            0 => Err("a count evictor that keeps 0 records leaves nothing; keep at least 1".to_string()),
            _ => Ok(()),
        }
    }
    fn describe(&self) -> String {
        self.when.describe(format!("keeps the last {}", self.keep))
    }
}

/// Keeps the records of the last stretch of time before the largest timestamp in the window. Where the stream has no
/// timestamps it keeps all.
#[derive(Clone, Debug)]
pub struct TimeEvictor {
    keep_ms: i64,
    mistake: Option<String>,
    when: When,
}

impl TimeEvictor {
    /// Removes records whose timestamp is at or before the largest one minus `keep`.
    pub fn of(keep: Duration) -> TimeEvictor {
        let ms = whole_ms("time that a time evictor keeps", keep);
        TimeEvictor { keep_ms: ms.as_ref().copied().unwrap_or(0), mistake: ms.err(), when: When::Before }
    }
    /// Evicts after the window function instead of before it.
    #[must_use]
    pub fn after(self) -> TimeEvictor {
        TimeEvictor { when: When::After, ..self }
    }
    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>) {
        let newest = elements.iter().map(|e| e.timestamp).max();
        // No difference: nothing can be that old, or there are no timestamps.
        if let Some(cutoff) = newest.and_then(|newest| newest.checked_sub(self.keep_ms)) {
            elements.retain(|e| e.timestamp > cutoff);
        }
    }
}

impl<T> Evictor<T> for TimeEvictor {
    fn evict_before(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::Before {
            self.evict(elements);
        }
    }
    fn evict_after(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::After {
            self.evict(elements);
        }
    }
    fn check(&self) -> Result<(), String> {
        self.mistake.clone().map_or(Ok(()), Err)
    }
    fn describe(&self) -> String {
        self.when.describe(format!("keeps the last {}", ms_text(self.keep_ms)))
    }
}

/// Keeps the records that differ from the last one by less than a threshold.
#[derive(Clone, Debug)]
pub struct DeltaEvictor<F> {
    threshold: f64,
    delta: F,
    when: When,
}

impl<F> DeltaEvictor<F> {
    /// Removes each record for which `delta(record, last)` is at or above `threshold`, the last one included.
    pub fn of<T>(threshold: f64, delta: F) -> DeltaEvictor<F>
    where
        F: Fn(&T, &T) -> f64 + Clone + Send + Sync + 'static,
    {
        DeltaEvictor { threshold, delta, when: When::Before }
    }
    /// Evicts after the window function instead of before it.
    #[must_use]
    pub fn after(self) -> DeltaEvictor<F> {
        DeltaEvictor { when: When::After, ..self }
    }
    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>)
    where
        F: Fn(&T, &T) -> f64,
    {
        let Some(last) = elements.pop() else { return };
        let is_far = |value: &T| (self.delta)(value, &last.value) >= self.threshold;
        elements.retain(|e| !is_far(&e.value));
        if !is_far(&last.value) {
            elements.push(last);
        }
    }
}

impl<T, F> Evictor<T> for DeltaEvictor<F>
where
    F: Fn(&T, &T) -> f64 + Clone + Send + Sync + 'static,
{
    fn evict_before(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::Before {
            self.evict(elements);
        }
    }
    fn evict_after(&mut self, elements: &mut Vec<Timestamped<T>>, _: &Window) {
        if self.when == When::After {
            self.evict(elements);
        }
    }
    fn check(&self) -> Result<(), String> {
        match self.threshold.is_nan() {
            true => Err("the threshold of a delta evictor is not a number".to_string()),
            false => Ok(()),
        }
    }
    fn describe(&self) -> String {
        self.when.describe(format!("keeps deltas below {}", self.threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { start: 0, end: 100 };

    /// What is left of records with these values, which are their timestamps as well, before and after the function.
    fn left(mut evictor: impl Evictor<i64>, values: &[i64]) -> (Vec<i64>, Vec<i64>) {
        let mut elements: Vec<_> =
            values.iter().map(|&value| Timestamped { value, timestamp: value }).collect();
        let values = |elements: &[Timestamped<i64>]| elements.iter().map(|e| e.value).collect::<Vec<_>>();
        evictor.evict_before(&mut elements, &WINDOW);
        let before = values(&elements);
        evictor.evict_after(&mut elements, &WINDOW);
        (before, values(&elements))
    }

    fn mistake(evictor: impl Evictor<i64>) -> String {
        evictor.check().unwrap_err()
    }

    /// X14: count keeps the last n in the order in which they came.
    #[test]
    fn count_keeps_the_last() {
        assert_eq!(left(CountEvictor::of(2), &[3, 1, 2]), (vec![1, 2], vec![1, 2]));
        assert_eq!(left(CountEvictor::of(2).after(), &[3, 1, 2]), (vec![3, 1, 2], vec![1, 2]));
        assert_eq!(left(CountEvictor::of(9), &[3, 1]).0, [3, 1]);
        assert!(mistake(CountEvictor::of(0)).contains("at least 1"));
    }

    /// X14: time drops what is at or before the largest timestamp minus the interval, wherever it stands.
    #[test]
    fn time_keeps_the_newest() {
        let evictor = TimeEvictor::of(Duration::from_millis(10));
        assert_eq!(left(evictor.clone(), &[11, 21, 5, 12, 20]).0, [21, 12, 20]);
        assert_eq!(left(evictor.clone().after(), &[11, 21, 5]), (vec![11, 21, 5], vec![21]));
        assert!(left(evictor.clone(), &[]).0.is_empty());
        let ends = [i64::MIN, i64::MAX];
        assert_eq!(left(evictor.clone(), &ends).0, [i64::MAX]);
        assert_eq!(left(evictor, &[i64::MIN, i64::MIN]).0.len(), 2, "without timestamps all stay");
        assert!(mistake(TimeEvictor::of(Duration::ZERO)).contains("is 0"));
    }

    /// X14: delta drops what is at or beyond the threshold, seen from the last record.
    #[test]
    fn delta_keeps_what_is_near_the_last() {
        let distance = |a: &i64, b: &i64| (a - b).abs() as f64;
        let evictor = DeltaEvictor::of(5.0, distance);
        assert_eq!(left(evictor.clone(), &[9, 15, 1, 14, 5, 10]).0, [9, 14, 10]);
        assert_eq!(left(evictor.clone().after(), &[1, 10]), (vec![1, 10], vec![10]));
        assert!(left(evictor, &[]).0.is_empty());
        // The last one is at a threshold of 0, too.
        assert!(left(DeltaEvictor::of(0.0, distance), &[1, 1]).0.is_empty());
        assert!(mistake(DeltaEvictor::of(f64::NAN, distance)).contains("not a number"));
    }
}
