//! Card transactions, some of which look like fraud: one below the small threshold, and the account's next one above
//! the large threshold, at most a minute later.
//!
//! Transaction `i` is a function of `i` alone. Timestamps rise strictly with `i`. What counts is the order of an
//! account's transactions: read them with one subtask.
//! Of ten amounts three are small, three large, one each is exactly a default threshold (neither small nor large),
//! and two are between. An account has a transaction each minute on average, so that many a large one comes too late.

use crate::random::Random;
use mainstem::Timestamp;

use serde::{Deserialize, Serialize};

/// The default of the small threshold: 1.00.
pub const SMALL_CENTS: u64 = 100;
/// The default of the large threshold: 500.00.
pub const LARGE_CENTS: u64 = 50_000;
/// How long after a small transaction a large one is suspicious, in milliseconds; exactly so long after it still is.
pub const WITHIN_MS: i64 = 60_000;
/// When the first transaction is made: 2019-01-01, midnight UTC, in milliseconds.
pub const BASE_TIME: Timestamp = 1_546_300_800_000;

const ACCOUNTS: u64 = 50;
/// Time from one transaction to the next, on average.
const STEP_MS: i64 = 1_200;
/// Timestamps of an account are often exactly [`WITHIN_MS`] apart: it and the step are multiples of this.
const TICK_MS: i64 = 300;
const AMOUNT_MAX_CENTS: u64 = 100_000;

/// One transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// Whose.
    pub account: u64,
    /// How much.
    pub cents: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// Transaction number `i`.
pub fn transaction(i: u64) -> Transaction {
    let mut random = Random::new(i);
    let account = 1 + random.below(ACCOUNTS);
    let cents = match random.below(10) {
        0..3 => 1 + random.below(SMALL_CENTS - 1),
        3..6 => LARGE_CENTS + 1 + random.below(AMOUNT_MAX_CENTS - LARGE_CENTS),
        6 => SMALL_CENTS,
        7 => LARGE_CENTS,
        _ => SMALL_CENTS + 1 + random.below(LARGE_CENTS - SMALL_CENTS - 1),
    };
    let early = random.below((STEP_MS / TICK_MS) as u64) as i64 * TICK_MS;
    let steps = i64::try_from(i).unwrap_or(i64::MAX);
    let timestamp = BASE_TIME.saturating_add(steps.saturating_mul(STEP_MS)).saturating_sub(early);
    Transaction { account, cents, timestamp }
}
