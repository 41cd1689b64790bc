//! Select: the ways in which a record chooses its consumer.

use super::{KeySelector, RouteContext};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key};
use crate::base::error::{Error, Result};
use crate::base::hash::{key_group, subtask_of_group};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How the records of an edge choose a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Partitioning {
    /// To the consumer of the same index where both ends have the same parallelism, else round-robin: what an
    /// edge does when nothing is said.
    Auto,
    /// To the consumer of the same index; both ends must have the same parallelism.
    Forward,
    /// By the hash of the key.
    Hash,
    /// Round-robin over all consumers.
    Rebalance,
    /// Round-robin over a group of consumers near the producer.
    Rescale,
    /// At random, with a fixed seed for each producer.
    Shuffle,
    /// A copy to every consumer.
    Broadcast,
    /// All to the first consumer.
    Global,
    /// By a function of the user.
    Custom,
    /// By ranges of a sort key, all of those of one consumer before all of those of the next. BATCH only: the ranges
    /// are known when all records are there.
    Range,
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Partitioning::Auto => "auto",
            Partitioning::Forward => "forward",
            Partitioning::Hash => "hash",
            Partitioning::Rebalance => "rebalance",
            Partitioning::Rescale => "rescale",
            Partitioning::Shuffle => "shuffle",
            Partitioning::Broadcast => "broadcast",
            Partitioning::Global => "global",
            Partitioning::Custom => "custom",
            Partitioning::Range => "range",
        })
    }
}

/// A function of the user that chooses the consumer of a record.
pub trait CustomPartitioner<T>: Send + Sync + 'static {
    /// Index of the consumer, below `consumers`.
    fn choose(&self, record: &T, consumers: usize) -> usize;
}

impl<T, F: Fn(&T, usize) -> usize + Send + Sync + 'static> CustomPartitioner<T> for F {
    fn choose(&self, record: &T, consumers: usize) -> usize {
        self(record, consumers)
    }
}

/// Chooses the consumers of the records of one producing subtask.
pub(crate) enum Select<T> {
    One(usize),
    All,
    RoundRobin { count: usize, next: usize },
    Random { state: u64, count: usize },
    Custom { partitioner: Arc<dyn CustomPartitioner<T>>, count: usize },
    Hash { hasher: Box<dyn BatchHasher<T>>, subtask_of_group: Vec<u32> },
}

/// Computes the key hashes of a batch.
pub(crate) trait BatchHasher<T>: Send {
    fn hashes(&self, values: &[T], into: &mut Vec<u64>);
    fn check(&self, value: &T) -> Result<()>;
}

struct SelectorHasher<T, K>(Arc<dyn KeySelector<T, K>>);

impl<T: Data, K: Key> BatchHasher<T> for SelectorHasher<T, K> {
    fn hashes(&self, values: &[T], into: &mut Vec<u64>) {
        self.0.hashes(values, into)
    }
    fn check(&self, value: &T) -> Result<()> {
        self.0.check(value)
    }
}

impl<T: Data> Select<T> {
    pub(crate) fn unkeyed(
        partitioning: Partitioning,
        custom: Option<Arc<dyn CustomPartitioner<T>>>,
        ctx: &RouteContext,
    ) -> Self {
        let count = ctx.targets;
        match (partitioning, custom) {
            (Partitioning::Custom, Some(partitioner)) => Select::Custom { partitioner, count },
            (Partitioning::Broadcast, _) => Select::All,
            (Partitioning::Global | Partitioning::Forward, _) => Select::One(0),
            (Partitioning::Shuffle, _) => Select::Random { state: ctx.subtask as u64 + 1, count },
            _ => Select::RoundRobin { count, next: ctx.subtask % count.max(1) },
        }
    }

    pub(crate) fn hash<K: Key>(selector: Arc<dyn KeySelector<T, K>>, ctx: &RouteContext) -> Self {
        let groups = ctx.max_parallelism;
        Select::Hash {
            hasher: Box::new(SelectorHasher(selector)),
            subtask_of_group: (0..groups).map(|g| subtask_of_group(g, ctx.targets, groups) as u32).collect(),
        }
    }

    /// Fills in the hashes, if the edge is keyed, and appends the consumer of each record to `into`.
    pub(crate) fn choose(&mut self, batch: &mut Batch<T>, into: &mut Vec<u32>) -> Result<()> {
        let n = batch.len();
        match self {
            Select::One(target) => into.extend(std::iter::repeat_n(*target as u32, n)),
            Select::All => {}
            Select::RoundRobin { count, next } => {
                for _ in 0..n {
                    into.push(*next as u32);
                    *next = if *next + 1 == *count { 0 } else { *next + 1 };
                }
            }
            Select::Random { state, count } => {
                for _ in 0..n {
                    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    let random = crate::base::hash::hash_of(&*state);
                    into.push(key_group(random, *count) as u32);
                }
            }
            Select::Custom { partitioner, count } => {
                for value in &batch.values {
                    let target = partitioner.choose(value, *count);
                    if target >= *count {
                        return Err(Error::user(format!(
                            "the partitioner chose consumer {target} of {count}; it must return an index below {count}"
                        )));
                    }
                    into.push(target as u32);
                }
            }
            Select::Hash { hasher, subtask_of_group } => {
                batch.hashes.clear();
                hasher.hashes(&batch.values, &mut batch.hashes);
                let groups = subtask_of_group.len();
                into.extend(batch.hashes.iter().map(|&hash| subtask_of_group[key_group(hash, groups)]));
            }
        }
        Ok(())
    }

    /// Checks what the edge needs of a record beyond its own encoding.
    pub(crate) fn check(&self, value: &T) -> Result<()> {
        match self {
            Select::Hash { hasher, .. } => hasher.check(value),
            _ => Ok(()),
        }
    }
}

/// The consumers that a producer is connected to; records choose among these.
pub fn consumers_of(
    partitioning: Partitioning,
    producer: usize,
    producers: usize,
    consumers: usize,
) -> std::ops::Range<usize> {
    match partitioning {
        Partitioning::Forward => producer..producer + 1,
        Partitioning::Global => 0..1,
        Partitioning::Rescale => {
            let first = producer * consumers / producers;
            first..((producer + 1) * consumers / producers).max(first + 1)
        }
        _ => 0..consumers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx(subtask: usize, parallelism: usize, targets: usize) -> RouteContext {
        RouteContext { subtask, parallelism, targets, max_parallelism: 128 }
    }

    fn chosen(select: &mut Select<u64>, n: u64) -> Vec<u32> {
        let mut targets = vec![];
        select.choose(&mut Batch::from((0..n).collect::<Vec<_>>()), &mut targets).unwrap();
        targets
    }

    /// P2: rebalance counts differ by at most one; rescale 2→4 is A→{0,1}, B→{2,3}.
    #[test]
    fn rebalance_and_rescale() {
        let targets = chosen(&mut Select::unkeyed(Partitioning::Rebalance, None, &ctx(1, 2, 3)), 100);
        let counts: Vec<_> = (0..3).map(|t| targets.iter().filter(|&&x| x == t).count()).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        assert_eq!([0, 1].map(|p| consumers_of(Partitioning::Rescale, p, 2, 4)), [0..2, 2..4]);
        assert_eq!(
            [0, 1, 2, 3].map(|p| consumers_of(Partitioning::Rescale, p, 4, 2)),
            [0..1, 0..1, 1..2, 1..2]
        );
        let targets = chosen(&mut Select::unkeyed(Partitioning::Rescale, None, &ctx(0, 2, 2)), 4);
        assert_eq!(targets, [0, 1, 0, 1]);
    }

    /// P3: global goes to 0, forward to the own index, a custom index out of range is an error.
    #[test]
    fn global_forward_custom() {
        assert_eq!(consumers_of(Partitioning::Global, 2, 3, 3), 0..1);
        assert_eq!(consumers_of(Partitioning::Forward, 2, 3, 3), 2..3);
        assert_eq!(chosen(&mut Select::unkeyed(Partitioning::Forward, None, &ctx(2, 3, 1)), 2), [0, 0]);
        let modulo: Arc<dyn CustomPartitioner<u64>> = Arc::new(|v: &u64, n: usize| *v as usize % (n + 1));
        let mut select = Select::unkeyed(Partitioning::Custom, Some(modulo), &ctx(0, 1, 3));
        let mut targets = vec![];
        assert!(select.choose(&mut Batch::from(vec![0, 1, 2]), &mut targets).is_ok());
        let e = select.choose(&mut Batch::from(vec![3]), &mut targets).unwrap_err().to_string();
        assert!(e.contains("consumer 3 of 3"), "{e}");
    }

    /// P2: shuffle reaches every consumer, the same way each time.
    #[test]
    fn shuffle_is_seeded() {
        let once = chosen(&mut Select::unkeyed(Partitioning::Shuffle, None, &ctx(0, 1, 4)), 400);
        assert_eq!(once, chosen(&mut Select::unkeyed(Partitioning::Shuffle, None, &ctx(0, 1, 4)), 400));
        for t in 0..4 {
            assert!((60..140).contains(&once.iter().filter(|&&x| x == t).count()));
        }
    }
}
