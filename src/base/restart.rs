//! Restart: whether and when what has failed is tried again.
//!
//! Place: settings hold a [`RestartStrategy`]; an executor makes one [`Restarts`] from it for each job and asks it at
//! every failure. Nothing here looks at a clock or draws a number: both come with the question.
//! Rules: what running again cannot change is never tried again, whatever the strategy says: see [`is_worth_retrying`].
//! Limits: a failure rate remembers at most `max + 1` failures.

use super::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// After so long without a failure an exponential back-off starts again from its first delay.
const BACK_OFF_RESET: Duration = Duration::from_secs(3600);
/// The longest delay that makes sense: longer ones are a mistake in the unit.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most failures that a rate may allow in its interval, since they are remembered.
const FAILURES_MAX: usize = 10_000;

/// How failures of a job are answered.
///
/// Written as `none`, `fixed-delay:3:10s`, `exponential`, `exponential:1s:60s:1.5:0.1` or
/// `failure-rate:3:5min:10s`.
#[derive(Clone, Debug, PartialEq)]
pub enum RestartStrategy {
    /// The first failure ends the job.
    None,
    /// Up to so many restarts of a job, each after the same delay.
    FixedDelay {
        /// Restarts of the job, all together.
        attempts: u32,
        /// Time before each.
        delay: Duration,
    },
    /// Restarts without end, each after a longer delay; from the first delay again after an hour without a failure.
    Exponential {
        /// The first delay.
        initial: Duration,
        /// No delay is longer, jitter aside.
        max: Duration,
        /// What a delay is multiplied by for the next one; at least 1.
        multiplier: f64,
        /// The part of a delay, 0 to 1, by which it is made longer or shorter at random.
        jitter: f64,
    },
    /// Restarts as long as there were at most `max` failures within the last `interval`.
    FailureRate {
        /// Failures within the interval that are still answered by a restart.
        max: usize,
        /// The interval.
        interval: Duration,
        /// Time before each restart.
        delay: Duration,
    },
}

// No field is ever NaN: `check` refuses it.
impl Eq for RestartStrategy {}

/// The answer to a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Try again after this time.
    After(Duration),
    /// The failure ends the job.
    GiveUp,
}

impl RestartStrategy {
    /// The exponential back-off with its usual figures: 1 s to 60 s, times 1.5, a tenth of jitter.
    pub const EXPONENTIAL: RestartStrategy = RestartStrategy::Exponential {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 1.5,
        jitter: 0.1,
    };

    /// What a job that takes checkpoints does if nothing is said: it restarts after 1 s, and gives up when it has failed
    /// more than 60 times within 10 minutes.
    ///
    /// So a failure that passes never ends a job, however often it comes over months; while one that comes back at once,
    /// such as that of user code at a certain record, ends it after a minute or two, with its error. A bound on all
    /// restarts of a job, as others have it, would be too small for the first or too large for the second.
    pub const STREAMING: RestartStrategy = RestartStrategy::FailureRate {
        max: 60,
        interval: Duration::from_secs(600),
        delay: Duration::from_secs(1),
    };

    /// Checks that the figures make sense.
    ///
    /// # Errors
    /// A sentence that names the figure.
    pub fn check(&self) -> Result<()> {
        let within = |what: &str, delay: Duration| match delay <= DELAY_MAX {
            true => Ok(()),
            false => Err(wrong(format!("{what} {delay:?} is longer than a day"))),
        };
        match self {
            RestartStrategy::None => Ok(()),
            RestartStrategy::FixedDelay { delay, .. } => within("delay", *delay),
            RestartStrategy::Exponential { initial, max, multiplier, jitter } => {
                within("maximum delay", *max)?;
                if initial.is_zero() || initial > max {
                    return Err(wrong(format!(
                        "initial delay {initial:?} is not between 0 and the maximum {max:?}"
                    )));
                }
                if !(1.0..=1000.0).contains(multiplier) {
                    return Err(wrong(format!("multiplier {multiplier} is not between 1 and 1000")));
                }
                if !(0.0..=1.0).contains(jitter) {
                    return Err(wrong(format!("jitter {jitter} is not between 0 and 1")));
                }
                Ok(())
            }
            RestartStrategy::FailureRate { max, interval, delay } => {
                within("delay", *delay)?;
                if *max > FAILURES_MAX {
                    return Err(wrong(format!("rate of {max} failures is above {FAILURES_MAX}")));
                }
                if interval.is_zero() {
                    return Err(wrong("interval is 0"));
                }
                Ok(())
            }
        }
    }
}

/// Whether running again may end otherwise: not for a mistake in the program, input that is malformed, a wish to stop,
/// or a bug of the engine.
pub fn is_worth_retrying(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::User | ErrorKind::Environment)
}

/// A strategy and the failures that it has seen.
#[derive(Clone, Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    count: u32,
    /// Of an exponential back-off: the next delay before jitter.
    next: Duration,
    /// Times of failures, oldest first; kept only where the strategy looks at them.
    failures: VecDeque<Duration>,
}

impl Restarts {
    /// Before the first failure.
    pub fn new(strategy: RestartStrategy) -> Restarts {
        let next = match strategy {
            RestartStrategy::Exponential { initial, .. } => initial,
            _ => Duration::ZERO,
        };
        Restarts { strategy, count: 0, next, failures: VecDeque::new() }
    }

    /// Restarts so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Something that is [worth retrying](is_worth_retrying) failed at `now`, on a clock that never goes back. `random`
    /// is any number; only jitter looks at it.
    pub fn on_failure(&mut self, now: Duration, random: u64) -> Restart {
        let answer = match &self.strategy {
            RestartStrategy::None => Restart::GiveUp,
            RestartStrategy::FixedDelay { attempts, delay } if self.count < *attempts => {
                Restart::After(*delay)
            }
            RestartStrategy::FixedDelay { .. } => Restart::GiveUp,
            RestartStrategy::Exponential { initial, max, multiplier, jitter } => {
                let last = self.failures.pop_front();
                self.failures.push_back(now);
                // The delay itself is no time of health.
                if last.is_some_and(|last| now.saturating_sub(last) >= BACK_OFF_RESET + self.next) {
                    self.next = *initial;
                }
                let delay = self.next;
                self.next = delay.mul_f64(*multiplier).min(*max);
                // The upper 53 bits as a number from -1 to 1.
                let unit = (random >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
                Restart::After(delay.mul_f64(1.0 + unit * jitter))
            }
            RestartStrategy::FailureRate { max, interval, delay } => {
                self.failures.push_back(now);
                let from = now.saturating_sub(*interval);
                while self.failures.front().is_some_and(|&at| at < from)
                    || self.failures.len() > max.saturating_add(1)
                {
                    self.failures.pop_front();
                }
                if self.failures.len() > *max { Restart::GiveUp } else { Restart::After(*delay) }
            }
        };
        self.count += u32::from(answer != Restart::GiveUp);
        answer
    }
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::config(format!("restart-strategy: {what}; {FORM}"))
}

const FORM: &str = "write none, fixed-delay:ATTEMPTS:DELAY, exponential[:INITIAL:MAX:MULTIPLIER:JITTER] or \
                    failure-rate:MAX:INTERVAL:DELAY, with delays like 500ms, 10s or 5min";

/// A duration such as `500ms`, `10s`, `5min` or `1h`.
fn delay(text: &str) -> Result<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong(format!("'{text}' is not a delay"))),
    };
    let number: Option<u64> = number.parse().ok();
    let ms = number.and_then(|n| n.checked_mul(ms));
    Ok(Duration::from_millis(ms.ok_or_else(|| wrong(format!("'{text}' is not a delay")))?))
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| wrong(format!("{what} '{text}' is not a number")))
}

impl FromStr for RestartStrategy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_lowercase();
        let parts: Vec<&str> = text.split(':').collect();
        let strategy = match parts[..] {
            ["none"] => RestartStrategy::None,
            ["fixed-delay", attempts, time] => {
                RestartStrategy::FixedDelay { attempts: number("attempts", attempts)?, delay: delay(time)? }
            }
            ["exponential"] => RestartStrategy::EXPONENTIAL,
            ["exponential", initial, max, multiplier, jitter] => RestartStrategy::Exponential {
                initial: delay(initial)?,
                max: delay(max)?,
                multiplier: number("multiplier", multiplier)?,
                jitter: number("jitter", jitter)?,
            },
            ["failure-rate", max, interval, time] => RestartStrategy::FailureRate {
                max: number("rate", max)?,
                interval: delay(interval)?,
                delay: delay(time)?,
            },
            _ => return Err(wrong(format!("'{text}' does not exist"))),
        };
        strategy.check()?;
        Ok(strategy)
    }
}

/// As [`FromStr`] reads it; a part of a millisecond is not written.
impl fmt::Display for RestartStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |delay: &Duration| format!("{}ms", delay.as_millis());
        f.pad(&match self {
            RestartStrategy::None => "none".to_string(),
            RestartStrategy::FixedDelay { attempts, delay } => {
                format!("fixed-delay:{attempts}:{}", ms(delay))
            }
            RestartStrategy::Exponential { initial, max, multiplier, jitter } => {
                format!("exponential:{}:{}:{multiplier}:{jitter}", ms(initial), ms(max))
            }
            RestartStrategy::FailureRate { max, interval, delay } => {
                format!("failure-rate:{max}:{}:{}", ms(interval), ms(delay))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    /// In the middle: no jitter either way.
    const MIDDLE: u64 = 1 << 63;

    fn answers(strategy: &str, failures: &[u64]) -> Vec<Option<u64>> {
        let mut restarts = Restarts::new(strategy.parse().unwrap());
        let seconds = |restart| match restart {
            Restart::After(delay) => Some(delay.as_millis() as u64),
            Restart::GiveUp => None,
        };
        failures.iter().map(|&at| seconds(restarts.on_failure(S(at), MIDDLE))).collect()
    }

    /// C12: attempts and delays as configured.
    /// C12: what fails again at once ends the job; what fails now and then does not.
    #[test]
    fn the_default_of_streaming_gives_up_only_on_what_fails_all_the_time() {
        RestartStrategy::STREAMING.check().unwrap();
        let restarts_until_given_up = |between: Duration| {
            let mut restarts = Restarts::new(RestartStrategy::STREAMING);
            (0..10_000u32).find(|&n| restarts.on_failure(between * n, 0) == Restart::GiveUp)
        };
        assert_eq!(restarts_until_given_up(Duration::from_secs(1)), Some(60));
        assert_eq!(restarts_until_given_up(Duration::from_secs(9)), Some(60));
        assert_eq!(restarts_until_given_up(Duration::from_secs(11)), None);
    }

    #[test]
    fn each_strategy_answers_as_configured() {
        assert_eq!(answers("none", &[0]), [None]);
        assert_eq!(answers("fixed-delay:2:5s", &[0, 1, 9999]), [Some(5000), Some(5000), None]);
        assert_eq!(answers("fixed-delay:0:5s", &[0]), [None]);
        assert_eq!(
            answers("exponential:1s:5s:2:0.5", &[0, 1, 2, 3, 4]),
            [Some(1000), Some(2000), Some(4000), Some(5000), Some(5000)]
        );
        // Two failures in ten seconds are answered, a third is not; an old one does not count.
        assert_eq!(answers("failure-rate:2:10s:1s", &[0, 5, 10]), [Some(1000), Some(1000), None]);
        assert_eq!(answers("failure-rate:2:10s:1s", &[0, 5, 11, 16]), [Some(1000); 4]);
        assert_eq!(answers("failure-rate:0:10s:1s", &[3]), [None]);
    }

    /// C12: an hour of health makes the back-off start again, and the delay itself is not health.
    #[test]
    fn back_off_starts_again_after_an_hour() {
        let reset = answers("exponential:1s:60s:2:0", &[0, 1, 1 + 3600 + 4, 9000]);
        assert_eq!(reset, [Some(1000), Some(2000), Some(1000), Some(1000)].map(|x| x));
        assert_eq!(answers("exponential:1s:60s:2:0", &[0, 1, 1 + 3600 + 3])[2], Some(4000));
    }

    #[test]
    fn jitter_stays_within_its_part() {
        let mut restarts = Restarts::new("exponential:10s:10s:1:0.2".parse().unwrap());
        for (random, ms) in [(0, 8000), (MIDDLE, 10_000), (u64::MAX, 12_000)] {
            let Restart::After(delay) = restarts.on_failure(S(0), random) else { panic!() };
            assert!(delay.as_millis().abs_diff(ms) <= 1, "{random}: {delay:?}");
        }
    }

    #[test]
    fn only_restarts_are_counted_and_memory_is_bounded() {
        let mut restarts = Restarts::new("failure-rate:3:1h:0s".parse().unwrap());
        for at in 0..100 {
            restarts.on_failure(S(at), 0);
        }
        assert_eq!(restarts.count(), 3);
        assert!(restarts.failures.len() <= 4);
    }

    #[test]
    fn mistakes_say_what_can_be_written() {
        for (text, expected) in [
            ("often", "'often' does not exist"),
            ("fixed-delay:3", "'fixed-delay:3' does not exist"),
            ("fixed-delay:x:1s", "attempts 'x' is not a number"),
            ("fixed-delay:1:5", "'5' is not a delay"),
            ("fixed-delay:1:48h", "delay 172800s is longer than a day"),
            ("exponential:9s:1s:2:0", "initial delay 9s is not between 0 and the maximum 1s"),
            ("exponential:1s:9s:0.5:0", "multiplier 0.5 is not between 1 and 1000"),
            ("exponential:1s:9s:NaN:0", "multiplier NaN is not between 1 and 1000"),
            ("exponential:1s:9s:2:2", "jitter 2 is not between 0 and 1"),
            ("failure-rate:20000:1s:1s", "rate of 20000 failures is above 10000"),
            ("failure-rate:1:0s:1s", "interval is 0"),
        ] {
            let e = text.parse::<RestartStrategy>().unwrap_err().to_string();
            assert!(e.starts_with(&format!("restart-strategy: {expected}; write none,")), "{text}: {e}");
        }
        for text in
            ["none", "fixed-delay:3:10000ms", "exponential:1000ms:60000ms:1.5:0.1", "failure-rate:3:1ms:0ms"]
        {
            assert_eq!(text.parse::<RestartStrategy>().unwrap().to_string(), text);
        }
        assert_eq!("Exponential".parse::<RestartStrategy>().unwrap(), RestartStrategy::EXPONENTIAL);
    }
}
