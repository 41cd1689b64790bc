//! Alerts for transactions that look like fraud.
//!
//! The rule: a transaction below the small threshold, and the account's very next one above the large threshold, at
//! most a minute later. Amounts at a threshold are neither.

use super::data::{LARGE_CENTS, SMALL_CENTS, Transaction, WITHIN_MS};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};

/// What is small, and what is large.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Below this an amount is small.
    pub small_cents: u64,
    /// Above this an amount is large.
    pub large_cents: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { small_cents: SMALL_CENTS, large_cents: LARGE_CENTS }
    }
}

/// A large transaction that followed a small one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alert {
    /// Whose.
    pub account: u64,
    /// How much.
    pub cents: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// The alerts for `transactions`, which come in the order of time: out of one subtask.
pub fn alerts(transactions: &DataStream<Transaction>, thresholds: Thresholds) -> DataStream<Alert> {
    transactions
        .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|of: &Transaction| of.timestamp))
        // More subtasks would mix up the transactions of an account.
        .parallelism(1)
        .key_by(|transaction| transaction.account)
        .process(move |states| FraudDetector { small_at: states.value("small at"), thresholds })
        .name("fraud detector")
        .uid("fraud detector")
}

/// Remembers for each account that its last transaction was small, and forgets it after a minute.
struct FraudDetector {
    /// The flag: set when the last transaction was small, and says when that was.
    small_at: ValueState<Timestamp>,
    thresholds: Thresholds,
}

/// When it does not matter any more that a transaction was small.
fn expiry(small_at: Timestamp) -> Timestamp {
    small_at.saturating_add(WITHIN_MS)
}

impl KeyedProcessFunction<u64, Transaction, Alert> for FraudDetector {
    fn process(
        &mut self,
        transaction: Transaction,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Alert>,
    ) -> UserResult {
        let Transaction { account, cents, timestamp } = transaction;
        if let Some(small_at) = self.small_at.take(ctx) {
            ctx.delete_event_time_timer(expiry(small_at));
            // The timer alone would not do: watermarks lag behind records, and in BATCH timers fire at a key's end.
            if cents > self.thresholds.large_cents && timestamp <= expiry(small_at) {
                out.emit(Alert { account, cents, timestamp });
            }
        }
        if cents < self.thresholds.small_cents {
            self.small_at.set(ctx, timestamp);
            ctx.register_event_time_timer(expiry(timestamp));
        }
        Ok(())
    }

    /// A minute has passed: nothing is kept for an account without a recent small transaction.
    fn on_timer(
        &mut self,
        _timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, Alert>,
    ) -> UserResult {
        self.small_at.clear(ctx);
        Ok(())
    }
}
