//! Fraud: a small transaction, and the next of the account a large one, soon.

#[path = "../../examples/fraud/data.rs"]
mod data;
#[path = "../../examples/fraud/job.rs"]
mod job;

use crate::{assert_same_everywhere, runs};
use data::{HEADER, LARGE_CENTS, SMALL_CENTS, Transaction, WITHIN_MS, parse, parse_cents, transaction};
use job::{Alert, Thresholds};
use mainstem::prelude::*;
use std::collections::BTreeMap;

/// All alerts, in the order of the transactions.
fn expected_alerts(transactions: &[Transaction], small: u64, large: u64) -> Vec<Alert> {
    let mut before: BTreeMap<u64, &Transaction> = BTreeMap::new();
    let mut alerts = Vec::new();
    for transaction in transactions {
        let &Transaction { account, cents, timestamp } = transaction;
        let before = before.insert(account, transaction);
        if before.is_some_and(|b| b.cents < small && timestamp.saturating_sub(b.timestamp) <= WITHIN_MS)
            && cents > large
        {
            alerts.push(Alert { account, cents, timestamp });
        }
    }
    alerts
}

fn made(transactions: &[(u64, u64, Timestamp)]) -> Vec<Transaction> {
    let make = |&(account, cents, timestamp): &_| Transaction { account, cents, timestamp };
    transactions.iter().map(make).collect()
}

/// E1: below and above, not at, the thresholds; at once; at most a minute later; by account; at the ends of time too.
#[test]
fn only_a_small_and_then_at_once_a_large_transaction_alerts() {
    type Payments<'a> = &'a [(u64, u64, Timestamp)];
    let cases: [(Payments, usize); 11] = [
        (&[(1, 99, 0), (1, 50_001, 1)], 1),
        (&[(1, 99, 0), (1, 50_001, 60_000)], 1),
        (&[(1, 99, 0), (1, 50_001, 60_001)], 0),
        (&[(1, 100, 0), (1, 50_001, 1)], 0),
        (&[(1, 99, 0), (1, 50_000, 1)], 0),
        (&[(1, 99, 0), (1, 200, 1), (1, 50_001, 2)], 0),
        (&[(1, 99, 0), (2, 50_001, 1)], 0),
        (&[(1, 99, 0), (2, 200, 1), (1, 50_001, 2)], 1),
        (&[(1, 99, 0), (1, 98, 50_000), (1, 50_001, 70_000), (1, 50_001, 70_001)], 1),
        (&[(1, 99, Timestamp::MIN), (1, 50_001, Timestamp::MAX)], 0),
        (&[(1, 99, Timestamp::MAX - 1), (1, 50_001, Timestamp::MAX)], 1),
    ];
    for (case, alerts) in cases {
        let transactions = made(case);
        assert_eq!(expected_alerts(&transactions, SMALL_CENTS, LARGE_CENTS).len(), alerts, "{case:?}");
        for (env, run) in runs() {
            let found = job::alerts(&env.from_iter(transactions.clone()), Thresholds::default());
            let found = found.execute_and_collect("fraud").unwrap().into_vec().unwrap();
            assert_eq!(found.len(), alerts, "{run}: {case:?}");
        }
    }
}

/// E1: the alerts are those of a plain loop, in both modes, with the usual thresholds and with others.
#[test]
fn alerts_are_the_same_everywhere() {
    let count = 5_000;
    let transactions: Vec<Transaction> = (0..count).map(transaction).collect();
    for (small_cents, large_cents) in [(SMALL_CENTS, LARGE_CENTS), (50, 90_000)] {
        let expected = expected_alerts(&transactions, small_cents, large_cents);
        assert_same_everywhere(expected, Alert::clone, |env| {
            let transactions = env.generate(count, transaction).parallelism(1);
            job::alerts(&transactions, Thresholds { small_cents, large_cents })
        });
    }
}

/// E1: transactions can be rows of text.
#[test]
fn rows_are_transactions() {
    let row = Transaction { account: 17, cents: 49_999, timestamp: 1_546_300_800_000 };
    assert_eq!(parse("17,499.99,1546300800000"), Ok(row.clone()));
    assert_eq!(parse(" 17 , 499.99, 1546300800000"), Ok(row));
    let wrong = [
        ("17,499.99", "three fields"),
        ("17,499.99,0,0", "three fields"),
        ("x,499.99,0", "account"),
        ("17,-1,0", "'-1' is not an amount"),
        ("17,499.99,soon", "timestamp"),
        (HEADER, "account"),
    ];
    for (row, why) in wrong {
        let error = parse(row).unwrap_err();
        assert!(error.contains(row) && error.contains(why), "{error}");
    }
}

/// E1: thresholds are given as amounts.
#[test]
fn amounts_are_exact() {
    for (amount, cents) in [("0", 0), ("1.00", 100), ("3.5", 350), ("0.07", 7), ("500", 50_000)] {
        assert_eq!(parse_cents(amount), Ok(cents));
    }
    for amount in ["", ".", "1.", ".5", "1.234", "+1", "1e3", "1,5", "99999999999999999999"] {
        assert!(parse_cents(amount).is_err(), "{amount}");
    }
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
