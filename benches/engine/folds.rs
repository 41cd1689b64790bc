//! Folds: what several benches aggregate events with.

#![allow(dead_code, reason = "each bench uses its share of them")]

use crate::harness::data::Event;
use mainstem::prelude::*;

/// Count, sum and maximum.
#[derive(Clone)]
pub struct Stats;

impl Aggregator<Event> for Stats {
    type Acc = (i64, i64, i64);
    type Out = (i64, i64, i64);
    #[inline(always)]
    fn create(&self) -> Self::Acc {
        (0, 0, i64::MIN)
    }
    #[inline(always)]
    fn add(&self, acc: &mut Self::Acc, record: Event) {
        *acc = (acc.0 + 1, acc.1 + record.2, acc.2.max(record.2));
    }
    #[inline(always)]
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        *acc = (acc.0 + other.0, acc.1 + other.1, acc.2.max(other.2));
    }
    #[inline(always)]
    fn result(&self, acc: &Self::Acc) -> Self::Out {
        *acc
    }
}

/// Sum and count of the values.
#[derive(Clone)]
pub struct SumAndCount;

impl Aggregator<Event> for SumAndCount {
    type Acc = (i64, u64);
    type Out = (i64, u64);
    fn create(&self) -> (i64, u64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (i64, u64), event: Event) {
        acc.0 += event.2;
        acc.1 += 1;
    }
    fn merge(&self, acc: &mut (i64, u64), other: (i64, u64)) {
        acc.0 += other.0;
        acc.1 += other.1;
    }
    fn result(&self, acc: &(i64, u64)) -> (i64, u64) {
        *acc
    }
}
