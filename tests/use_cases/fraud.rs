//! Fraud: a small transaction, and the next of the account a large one, soon.

#[path = "../../examples/fraud/transactions.rs"]
mod transactions;

use mainstem::Timestamp;
use std::collections::BTreeMap;
use transactions::{LARGE_CENTS, SMALL_CENTS, Transaction, WITHIN_MS, transaction};

/// A large transaction that followed a small one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// Whose.
    pub account: u64,
    /// How much.
    pub cents: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// All alerts, in the order of the transactions.
pub fn expected_alerts(transactions: &[Transaction], small: u64, large: u64) -> Vec<Alert> {
    let mut before: BTreeMap<u64, &Transaction> = BTreeMap::new();
    let mut alerts = Vec::new();
    for transaction in transactions {
        let &Transaction { account, cents, timestamp } = transaction;
        let before = before.insert(account, transaction);
        if before.is_some_and(|b| b.cents < small && timestamp - b.timestamp <= WITHIN_MS) && cents > large {
            alerts.push(Alert { account, cents, timestamp });
        }
    }
    alerts
}

fn made(transactions: &[(u64, u64, Timestamp)]) -> Vec<Transaction> {
    let make = |&(account, cents, timestamp): &_| Transaction { account, cents, timestamp };
    transactions.iter().map(make).collect()
}

/// E1: below and above, not at, the thresholds; at once; at most a minute later; by account.
#[test]
fn only_a_small_and_then_at_once_a_large_transaction_alerts() {
    let alerts = |transactions: &[(u64, u64, Timestamp)]| {
        expected_alerts(&made(transactions), SMALL_CENTS, LARGE_CENTS).len()
    };
    assert_eq!(alerts(&[(1, 99, 0), (1, 50_001, 1)]), 1);
    assert_eq!(alerts(&[(1, 99, 0), (1, 50_001, 60_000)]), 1);
    assert_eq!(alerts(&[(1, 99, 0), (1, 50_001, 60_001)]), 0);
    assert_eq!(alerts(&[(1, 100, 0), (1, 50_001, 1)]), 0);
    assert_eq!(alerts(&[(1, 99, 0), (1, 50_000, 1)]), 0);
    assert_eq!(alerts(&[(1, 99, 0), (1, 200, 1), (1, 50_001, 2)]), 0);
    assert_eq!(alerts(&[(1, 99, 0), (2, 50_001, 1)]), 0);
    assert_eq!(alerts(&[(1, 99, 0), (2, 200, 1), (1, 50_001, 2)]), 1);
    assert_eq!(alerts(&[(1, 99, 0), (1, 98, 50_000), (1, 50_001, 70_000), (1, 50_001, 70_001)]), 1);
}

/// E1: transactions rise in time, and hold every case: alerts, too late, other thresholds.
#[test]
fn transactions_hold_every_case() {
    let transactions: Vec<Transaction> = (0..20_000).map(transaction).collect();
    assert!(transactions.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp));
    let alerts = expected_alerts(&transactions, SMALL_CENTS, LARGE_CENTS).len();
    assert!((1_000..1_500).contains(&alerts), "{alerts}");
    let stricter = expected_alerts(&transactions, 50, 90_000).len();
    assert!(stricter > 10 && stricter < alerts / 4, "{stricter}");

    let mut before: BTreeMap<u64, &Transaction> = BTreeMap::new();
    let (mut late, mut just_in_time, mut at_a_threshold) = (0, 0, 0);
    for transaction in &transactions {
        let Some(small) = before.insert(transaction.account, transaction) else { continue };
        let pause = transaction.timestamp - small.timestamp;
        if small.cents < SMALL_CENTS && transaction.cents > LARGE_CENTS {
            late += u32::from(pause > WITHIN_MS);
            just_in_time += u32::from(pause == WITHIN_MS);
        }
        at_a_threshold += u32::from(
            small.cents == SMALL_CENTS && transaction.cents > LARGE_CENTS
                || small.cents < SMALL_CENTS && transaction.cents == LARGE_CENTS,
        );
    }
    assert!(late > 100 && just_in_time > 0 && at_a_threshold > 100, "{late} {just_in_time} {at_a_threshold}");
}

/// The last numbers there are do not overflow.
#[test]
fn every_number_has_a_transaction() {
    assert!(transaction(u64::MAX).timestamp > transaction(0).timestamp);
}
