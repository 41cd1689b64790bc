//! Built-in accumulators of one number: counters, smallest and largest value.

use super::Accumulator;
use crate::base::data::Data;
use crate::base::text;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A sum of whole numbers. It stays at the limits of `i64` rather than wrapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongCounter(i64);

impl Accumulator for LongCounter {
    type Value = i64;
    type Result = i64;

    #[inline]
    fn add(&mut self, value: i64) {
        self.0 = self.0.saturating_add(value);
    }
    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }
    fn result(&self) -> i64 {
        self.0
    }
}

impl fmt::Display for LongCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}{}", text::count(self.0.unsigned_abs())))
    }
}

/// A sum of floating-point numbers. The last digits may differ between runs, because subtasks finish in any order
/// and rounding depends on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DoubleCounter(f64);

impl Accumulator for DoubleCounter {
    type Value = f64;
    type Result = f64;

    #[inline]
    fn add(&mut self, value: f64) {
        self.0 += value;
    }
    fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }
    fn result(&self) -> f64 {
        self.0
    }
}

impl fmt::Display for DoubleCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The smallest value that was added, if any. A value that has no order (NaN) is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Min<T>(Option<T>);

/// The largest value that was added, if any. A value that has no order (NaN) is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Max<T>(Option<T>);

macro_rules! extreme {
    ($name:ident, $wins:tt) => {
        impl<T> Default for $name<T> {
            fn default() -> Self {
                $name(None)
            }
        }

        impl<T: Data + PartialOrd + fmt::Display> Accumulator for $name<T> {
            type Value = T;
            type Result = Option<T>;

            #[inline]
            fn add(&mut self, value: T) {
                let wins = match &self.0 {
                    Some(best) => value $wins *best,
                    None => value.partial_cmp(&value).is_some(),
                };
                if wins {
                    self.0 = Some(value);
                }
            }
            fn merge(&mut self, other: Self) {
                if let Some(value) = other.0 {
                    self.add(value);
                }
            }
            fn result(&self) -> Option<T> {
                self.0.clone()
            }
        }

        impl<T: fmt::Display> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.0 {
                    Some(value) => value.fmt(f),
                    None => f.pad("none"),
                }
            }
        }
    };
}

extreme!(Min, <);
extreme!(Max, >);

#[cfg(test)]
mod tests {
    use super::*;

    fn of<A: Accumulator>(values: impl IntoIterator<Item = A::Value>) -> A {
        let mut all = A::default();
        values.into_iter().for_each(|value| all.add(value));
        all
    }

    fn merged<A: Accumulator>(mut a: A, b: A) -> A {
        a.merge(b);
        a
    }

    /// O1: merging parts gives what one accumulator would have.
    #[test]
    fn merging_is_adding() {
        let (a, b) = (vec![3i64, -7, 12], vec![5, 0]);
        let all = || a.iter().chain(&b).copied();
        assert_eq!(merged::<LongCounter>(of(a.clone()), of(b.clone())), of(all()));
        assert_eq!(merged::<Min<i64>>(of(a.clone()), of(b.clone())).result(), all().min());
        assert_eq!(merged::<Max<i64>>(of(b.clone()), of(a.clone())).result(), all().max());
        assert_eq!(merged::<DoubleCounter>(of([0.5]), of([0.25, 1.0])).result(), 1.75);
        assert_eq!(merged::<Max<i64>>(of([4]), Max::default()).result(), Some(4));
    }

    #[test]
    fn limits_and_display() {
        assert_eq!(of::<LongCounter>([i64::MAX, 1]).result(), i64::MAX);
        assert_eq!(of::<LongCounter>([i64::MIN]).to_string(), "-9,223,372,036,854,775,808");
        assert_eq!(of::<Min<f64>>([f64::NAN, 2.0, f64::NAN, 1.5]).result(), Some(1.5));
        assert_eq!(Max::<u8>::default().to_string(), "none");
        assert_eq!(of::<Max<String>>(["b".to_string(), "a".to_string()]).to_string(), "b");
    }
}
