//! Interval: which timestamps of the other side a record is joined with, and until when it must be kept.

use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};

/// The bounds of an interval join as a program gives them: `left + lower <= right <= left + upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Least distance of the right record's timestamp from the left one's, in milliseconds.
    pub lower: i64,
    /// Greatest distance.
    pub upper: i64,
    /// Whether `lower` itself is too near.
    pub lower_exclusive: bool,
    /// Whether `upper` itself is too far.
    pub upper_exclusive: bool,
}

impl Interval {
    /// Both bounds inclusive.
    pub fn between(lower: i64, upper: i64) -> Self {
        Interval { lower, upper, lower_exclusive: false, upper_exclusive: false }
    }

    /// What is wrong with it, if anything.
    pub fn mistake(&self) -> Option<String> {
        let Interval { lower, upper, .. } = self;
        if lower > upper {
            return Some(format!(
                "lower bound above upper: between({lower}, {upper}) joins nothing; give the smaller number first"
            ));
        }
        let Reach { from, to } = self.of_left();
        (from > to).then(|| {
            format!(
                "between({lower}, {upper}) with an exclusive bound leaves no millisecond to join in; make the bounds \
                 inclusive or the interval wider"
            )
        })
    }

    /// The reach of a left record.
    pub(super) fn of_left(self) -> Reach {
        Reach {
            from: i128::from(self.lower) + i128::from(self.lower_exclusive),
            to: i128::from(self.upper) - i128::from(self.upper_exclusive),
        }
    }

    /// The reach of a right record.
    pub(super) fn of_right(self) -> Reach {
        let Reach { from, to } = self.of_left();
        Reach { from: -to, to: -from }
    }
}

/// How far records of one side reach, both ends included. Wide enough that no sum overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub from: i128,
    pub to: i128,
}

/// The nearest timestamp.
#[inline(always)]
fn clamped(time: i128) -> Timestamp {
    time.clamp(i128::from(Timestamp::MIN), i128::from(Timestamp::MAX)) as Timestamp
}

impl Reach {
    /// The timestamps a record at `ts` is joined with, first and last; the first is above the last if there is none.
    #[inline(always)]
    pub fn around(self, ts: Timestamp) -> (Timestamp, Timestamp) {
        let (from, to) = (i128::from(ts) + self.from, i128::from(ts) + self.to);
        if from > i128::from(Timestamp::MAX) || to < i128::from(Timestamp::MIN) {
            return (Timestamp::MAX, Timestamp::MIN);
        }
        (clamped(from), clamped(to))
    }

    /// The watermark at which a record at `ts` has no more partners to expect, and `slack` milliseconds later.
    #[inline(always)]
    pub fn expiry(self, ts: Timestamp, slack: i128) -> Timestamp {
        clamped(i128::from(ts) + self.to + slack)
    }

    /// The last timestamp whose records have expired at this watermark; none if nothing has.
    #[inline]
    pub fn expired_to(self, watermark: Timestamp) -> Option<Timestamp> {
        match watermark {
            WATERMARK_MIN => None,
            WATERMARK_MAX => Some(Timestamp::MAX),
            _ => {
                let to = i128::from(watermark) - self.to;
                (to >= i128::from(Timestamp::MIN)).then(|| clamped(to))
            }
        }
    }

    /// Milliseconds between its ends.
    pub fn width(self) -> i128 {
        self.to - self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [i64; 11] =
        [i64::MIN, i64::MIN + 1, i64::MIN / 2, -2, -1, 0, 1, 2, i64::MAX / 2, i64::MAX - 1, i64::MAX];

    /// J3: the definition, at the limits of the numbers and on both sides.
    #[test]
    fn j3_an_interval_is_its_definition() {
        for lower in EDGES {
            for upper in EDGES.into_iter().filter(|upper| *upper >= lower) {
                for (lower_exclusive, upper_exclusive) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let interval = Interval { lower, upper, lower_exclusive, upper_exclusive };
                    for left in EDGES {
                        for right in EDGES {
                            let distance = i128::from(right) - i128::from(left);
                            let above =
                                distance > lower.into() || !lower_exclusive && distance == lower.into();
                            let below =
                                distance < upper.into() || !upper_exclusive && distance == upper.into();
                            let (from, to) = interval.of_left().around(left);
                            assert_eq!(
                                from <= right && right <= to,
                                above && below,
                                "{interval:?} {left} {right}"
                            );
                            let (from, to) = interval.of_right().around(right);
                            assert_eq!(
                                from <= left && left <= to,
                                above && below,
                                "{interval:?} {left} {right}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// J3: state is dropped when the watermark has come to `ts + upper`.
    #[test]
    fn j3_what_expires_is_what_the_watermark_has_passed() {
        for to in EDGES {
            let reach = Reach { from: to.into(), to: to.into() };
            for ts in EDGES {
                assert_eq!(reach.expired_to(WATERMARK_MIN), None);
                for watermark in EDGES.into_iter().skip(1) {
                    let passed = watermark >= reach.expiry(ts, 0);
                    let expired = reach.expired_to(watermark).is_some_and(|to| ts <= to);
                    assert_eq!(expired, passed, "{to} {ts} {watermark}");
                }
            }
        }
    }

    /// J3: bounds that allow nothing are a mistake.
    #[test]
    fn j3_empty_intervals_are_mistakes() {
        let mistake = |lower, upper, lower_exclusive, upper_exclusive| {
            Interval { lower, upper, lower_exclusive, upper_exclusive }.mistake()
        };
        assert!(mistake(1, 0, false, false).unwrap().contains("lower bound above upper"));
        assert!(mistake(i64::MAX, i64::MIN, false, false).is_some());
        for (lower, upper) in [(false, true), (true, false), (true, true)] {
            assert!(mistake(5, 5, lower, upper).unwrap().contains("exclusive"));
        }
        assert!(mistake(5, 6, true, true).is_some());
        assert_eq!(mistake(5, 5, false, false), None);
        assert_eq!(mistake(5, 6, true, false), None);
        assert_eq!(mistake(5, 7, true, true), None);
        assert_eq!(mistake(i64::MIN, i64::MAX, true, true), None);
    }
}
