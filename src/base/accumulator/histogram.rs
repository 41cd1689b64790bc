//! Histogram: the distribution of whole numbers with a relative error of at most 0.1 percent.
//!
//! Method: hdrhistogram with three significant digits. Count, sum, smallest and largest value are kept exactly
//! beside it. Encoded as pairs of value and count, so an encoded histogram is as small as its data.
//! Costs: 16 KiB for small values up to about 450 KiB for values over the whole range of `u64`.

use super::Accumulator;
use crate::base::text;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The significant decimal digits that are kept of a value.
const DIGITS: u8 = 3;

/// A distribution of `u64` values: quantiles, count, mean, smallest and largest.
#[derive(Clone, Default, PartialEq)]
pub struct Histogram {
    /// Made with the first value, because most histograms of a job with many subtasks may stay empty.
    buckets: Option<hdrhistogram::Histogram<u64>>,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// The number of values.
    pub fn count(&self) -> u64 {
        self.buckets.as_ref().map_or(0, |buckets| buckets.len())
    }

    /// The mean of the values, 0 if there is none.
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            n => self.sum as f64 / n as f64,
        }
    }

    /// The smallest value, exactly; 0 if there is none.
    pub fn min(&self) -> u64 {
        self.min
    }

    /// The largest value, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that the share `q` of all values does not exceed, within 0.1 percent; `q` is cut to 0..=1, and the
    /// quantile of an empty histogram is 0.
    pub fn quantile(&self, q: f64) -> u64 {
        let Some(buckets) = &self.buckets else { return 0 };
        // NaN becomes 0.
        let q = q.max(0.0);
        if q >= 1.0 {
            return self.max;
        }
        buckets.value_at_quantile(q).clamp(self.min, self.max)
    }

    fn record(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        if self.buckets.is_none() {
            self.buckets = hdrhistogram::Histogram::new(DIGITS).ok();
        }
        if let Some(buckets) = &mut self.buckets
            && buckets.record_n(value, times).is_err()
        {
            buckets.saturating_record_n(value, times);
        }
    }
}

impl Accumulator for Histogram {
    type Value = u64;
    type Result = Histogram;

    #[inline]
    fn add(&mut self, value: u64) {
        (self.min, self.max) = match self.count() {
            0 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        self.sum = self.sum.saturating_add(u128::from(value));
        self.record(value, 1);
    }

    fn merge(&mut self, other: Self) {
        let Some(theirs) = &other.buckets else { return };
        (self.min, self.max) = match self.count() {
            0 => (other.min, other.max),
            _ => (self.min.min(other.min), self.max.max(other.max)),
        };
        self.sum = self.sum.saturating_add(other.sum);
        for bucket in theirs.iter_recorded() {
            self.record(bucket.value_iterated_to(), bucket.count_at_value());
        }
    }

    fn result(&self) -> Histogram {
        self.clone()
    }
}

/// What a histogram is encoded as.
#[derive(Serialize, Deserialize)]
struct Encoded {
    sum: u128,
    min: u64,
    max: u64,
    buckets: Vec<(u64, u64)>,
}

impl Serialize for Histogram {
    /// For people (JSON) a summary, for machines everything.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let mut summary = serializer.serialize_struct("Histogram", 7)?;
            summary.serialize_field("count", &self.count())?;
            summary.serialize_field("mean", &self.mean())?;
            summary.serialize_field("min", &self.min)?;
            summary.serialize_field("p50", &self.quantile(0.5))?;
            summary.serialize_field("p95", &self.quantile(0.95))?;
            summary.serialize_field("p99", &self.quantile(0.99))?;
            summary.serialize_field("max", &self.max)?;
            return summary.end();
        }
        let buckets = self.buckets.iter().flat_map(|buckets| buckets.iter_recorded());
        Encoded {
            sum: self.sum,
            min: self.min,
            max: self.max,
            buckets: buckets.map(|b| (b.value_iterated_to(), b.count_at_value())).collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    /// From the complete form only; a summary cannot be merged.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Encoded { sum, min, max, buckets } = Encoded::deserialize(deserializer)?;
        if min > max {
            return Err(serde::de::Error::custom("the smallest value of a histogram is above its largest"));
        }
        let mut histogram = Histogram { buckets: None, sum, min, max };
        buckets.into_iter().for_each(|(value, times)| histogram.record(value, times));
        Ok(histogram)
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.pad("no values");
        }
        let value = |q| text::count(self.quantile(q));
        f.pad(&format!(
            "{} values, mean {:.1}, min {}, p50 {}, p95 {}, p99 {}, max {}",
            text::count(self.count()),
            self.mean(),
            text::count(self.min),
            value(0.5),
            value(0.95),
            value(0.99),
            text::count(self.max)
        ))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let h = of(1..=100_000);
        assert_eq!((h.count(), h.min(), h.max(), h.mean()), (100_000, 1, 100_000, 50_000.5));
        for q in [0.01, 0.25, 0.5, 0.99, 0.999] {
            let (found, exact) = (h.quantile(q) as f64, q * 100_000.0);
            assert!((found - exact).abs() <= exact / 1_000.0 + 1.0, "{q}: {found} against {exact}");
        }
        assert_eq!((h.quantile(-1.0), h.quantile(2.0)), (1, 100_000));
        assert_eq!(h.quantile(f64::NAN), 1);
    }

    /// O1: merged over subtasks, in any order, also after encoding.
    #[test]
    fn merged_and_encoded_parts_equal_the_whole() {
        let (left, right) = ((0..5_000u64).map(|i| i * i), (0..700u64).map(|i| i << 40));
        let whole = of(left.clone().chain(right.clone()));
        for (mut a, b) in [(of(left.clone()), of(right.clone())), (of(right), of(left))] {
            let mut bytes = Vec::new();
            codec::encode(&b, &mut bytes).unwrap();
            a.merge(codec::decode(&bytes).unwrap());
            assert_eq!(a, whole);
        }
        codec::check_record(&whole).unwrap();
        let mut same = whole.clone();
        same.merge(Histogram::default());
        assert_eq!(same, whole);
        codec::check_record(&Histogram::default()).unwrap();
    }

    #[test]
    fn the_whole_range_is_recorded_without_panic() {
        let mut h = of([u64::MAX, 0, u64::MAX, 1]);
        assert_eq!((h.count(), h.min(), h.max()), (4, 0, u64::MAX));
        assert_eq!(h.quantile(1.0), u64::MAX);
        h.record(7, u64::MAX);
        h.record(7, u64::MAX);
        assert_eq!(h.count(), u64::MAX);
        let strange = Encoded { sum: 1, min: 9, max: 3, buckets: vec![(u64::MAX, u64::MAX), (5, 0)] };
        let mut bytes = Vec::new();
        codec::encode(&strange, &mut bytes).unwrap();
        let strange = codec::decode::<Histogram>(&bytes).map(|h| h.quantile(0.5));
        assert!(strange.is_err(), "{strange:?}");
    }

    #[test]
    fn shown_as_a_line_and_as_a_summary() {
        let h = of([1, 2, 3, 4_000]);
        assert_eq!(h.to_string(), "4 values, mean 1001.5, min 1, p50 2, p95 4,000, p99 4,000, max 4,000");
        assert_eq!(of([]).to_string(), "no values");
        let json = serde_json::to_value(&h).unwrap();
        assert_eq!((json["count"].as_u64(), json["max"].as_u64()), (Some(4), Some(4_000)));
    }
}
