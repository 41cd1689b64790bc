//! Card transactions, some of which look like fraud: one below the small threshold, and the account's next one above
//! the large threshold, at most a minute later.
//!
//! Transaction `i` is a function of `i` alone. Timestamps rise strictly with `i`. What counts is the order of an
//! account's transactions: read them with one subtask.
//!
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

/// The names of the fields of a row.
pub const HEADER: &str = "account,amount,timestamp";

/// The transaction of a row `account,amount,timestamp`, the last in milliseconds since 1970: `17,499.99,1546300800000`.
///
/// # Errors
/// What is wrong with the row.
pub fn parse(row: &str) -> Result<Transaction, String> {
    let wrong = |what: &str| format!("'{row}' is not a transaction: {what}; a row is {HEADER}");
    let mut fields = row.split(',').map(str::trim);
    let (Some(account), Some(amount), Some(timestamp), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(wrong("it has not three fields"));
    };
    let account = account.parse().map_err(|_| wrong("the account is not a number"))?;
    let timestamp = timestamp.parse().map_err(|_| wrong("the timestamp is not a number of milliseconds"))?;
    let cents = parse_cents(amount).map_err(|e| wrong(&e))?;
    Ok(Transaction { account, cents, timestamp })
}

/// An amount such as `3`, `3.5` or `3.50`, in cents.
///
/// # Errors
/// What is wrong with it.
pub fn parse_cents(amount: &str) -> Result<u64, String> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 2 {
        return Err(format!("'{amount}' is not an amount such as 499.99"));
    }
    let cents = format!("{whole}{fraction:0<2}");
    cents.parse().map_err(|_| format!("the amount {amount} is too large"))
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
