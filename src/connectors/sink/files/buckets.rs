//! Buckets: which directory below the output directory a record goes to.

use std::fmt::Write;

/// Chooses the bucket of a record.
pub trait BucketAssigner<T>: Clone + Send + Sync + 'static {
    /// Whether all records go to one bucket: then nobody asks.
    const ONE: bool;
    /// Writes the name of the record's bucket into `bucket`, which is empty.
    fn assign(&self, record: &T, bucket: &mut String);
}

/// The output directory itself for all records.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneBucket;

impl<T> BucketAssigner<T> for OneBucket {
    const ONE: bool = true;
    fn assign(&self, _record: &T, _bucket: &mut String) {}
}

/// The bucket that a closure names.
#[derive(Clone, Copy, Debug)]
pub struct BucketBy<G>(pub(super) G);

impl<T, G: Fn(&T, &mut String) + Clone + Send + Sync + 'static> BucketAssigner<T> for BucketBy<G> {
    const ONE: bool = false;
    #[inline]
    fn assign(&self, record: &T, bucket: &mut String) {
        (self.0)(record, bucket);
    }
}

/// Writes the hour of a time in milliseconds since the epoch as `yyyy-MM-dd--HH` in UTC: a bucket for each hour.
pub fn date_hour(time_ms: i64, bucket: &mut String) {
    let hours = time_ms.div_euclid(3_600_000);
    let (days, hour) = (hours.div_euclid(24), hours.rem_euclid(24));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, eras have 400 of them.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let _ = write!(bucket, "{year:04}-{month:02}-{day:02}--{hour:02}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K5: the default of others, `yyyy-MM-dd--HH`.
    #[test]
    fn hours_have_names_that_sort() {
        let name = |ms| {
            let mut name = String::new();
            date_hour(ms, &mut name);
            name
        };
        assert_eq!(name(0), "1970-01-01--00");
        assert_eq!(name(3_599_999), "1970-01-01--00");
        assert_eq!(name(-1), "1969-12-31--23");
        assert_eq!(name(951_782_400_000), "2000-02-29--00");
        assert_eq!(name(1_706_745_599_999), "2024-01-31--23");
        assert_eq!(name(4_107_542_400_000), "2100-03-01--00");
        for extreme in [i64::MIN, i64::MAX] {
            assert!(name(extreme).contains("--"));
        }
    }
}
