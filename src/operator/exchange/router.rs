//! Router: sends the records of one producing subtask to the subtasks that consume them, as values.
//!
//! Method: the consumers of a whole batch are chosen first, then its records move into one batch under way for
//! each consumer. Costs: one move per record; none where there is a single consumer.

use super::check::RecordCheck;
use super::deal::Deal;
use super::select::Select;
use crate::base::batch::{BATCH_RECORDS, Batch, ErasedBatch, typed};
use crate::base::data::Data;
use crate::base::error::Result;
use crate::operator::output::SizeSampler;
use std::collections::VecDeque;

/// Where the producing subtask stands.
#[derive(Clone, Copy, Debug)]
pub struct RouteContext {
    /// Index of the producing subtask.
    pub subtask: usize,
    /// Number of producing subtasks.
    pub parallelism: usize,
    /// Number of consuming subtasks.
    pub targets: usize,
    /// Number of key groups.
    pub max_parallelism: usize,
}

/// The sending end of an edge at one producing subtask.
pub trait Router: Send {
    /// Takes all records of a batch.
    fn route(&mut self, batch: &mut ErasedBatch) -> Result<()>;
    /// Makes batches that are not full available.
    fn flush(&mut self);
    /// The oldest available batch for a consumer.
    fn take(&mut self, target: usize) -> Option<ErasedBatch>;
    /// Whether records wait in a batch that is not full.
    fn has_partial(&self) -> bool;
    /// From now on a batch is full with so many records, or somewhat more.
    fn seal_at(&mut self, records: usize);
    /// Number of consumers.
    fn targets(&self) -> usize;
}

pub(crate) struct Scatter<T> {
    select: Select<T>,
    targets: Vec<Target<T>>,
    chosen: Vec<u32>,
    deal: Deal,
    check: RecordCheck,
    sampler: SizeSampler,
    /// Records of a full batch, from their size.
    sized: usize,
    /// Records of a batch that the consumers want to have at most.
    wanted: usize,
}

struct Target<T> {
    current: Batch<T>,
    ready: VecDeque<Box<Batch<T>>>,
}

impl<T: Data> Target<T> {
    fn seal(&mut self) {
        if !self.current.is_empty() {
            // Full batches follow one another; one that was sent early says little about the next.
            fn like<V>(sealed: &Vec<V>) -> Vec<V> {
                Vec::with_capacity(sealed.len().max(sealed.capacity() / 2))
            }
            let Batch { values, timestamps, hashes } = &self.current;
            let next = Batch { values: like(values), timestamps: like(timestamps), hashes: like(hashes) };
            self.ready.push_back(Box::new(std::mem::replace(&mut self.current, next)));
        }
    }
    /// A batch has timestamps for all records or for none.
    fn align(&mut self, timestamps: bool) {
        if !self.current.is_empty() && timestamps == self.current.timestamps.is_empty() {
            self.seal();
        }
    }
    fn append(&mut self, batch: &mut Batch<T>, seal_at: usize) {
        self.align(!batch.timestamps.is_empty());
        if self.current.is_empty() {
            std::mem::swap(&mut self.current, batch);
        } else {
            self.current.values.append(&mut batch.values);
            self.current.timestamps.append(&mut batch.timestamps);
            self.current.hashes.append(&mut batch.hashes);
        }
        if self.current.len() >= seal_at {
            self.seal();
        }
    }
}

impl<T: Data> Scatter<T> {
    pub(crate) fn new(select: Select<T>, targets: usize) -> Self {
        let targets =
            (0..targets).map(|_| Target { current: Batch::new(), ready: VecDeque::new() }).collect();
        Scatter {
            select,
            targets,
            chosen: Vec::new(),
            deal: Deal::default(),
            check: RecordCheck::default(),
            sampler: SizeSampler::default(),
            sized: BATCH_RECORDS,
            wanted: BATCH_RECORDS,
        }
    }

    /// Moves the records of a batch to their targets.
    fn scatter(&mut self, batch: &mut Batch<T>) {
        let Batch { values, timestamps, hashes } = batch;
        let full = self.sized.min(self.wanted);
        self.deal.sort(&self.chosen, self.targets.len());
        let mut values = self.deal.take(values);
        for (number, target) in self.targets.iter_mut().enumerate() {
            target.align(!timestamps.is_empty());
            let mut records = self.deal.records_of(number);
            while !records.is_empty() {
                let room = full.saturating_sub(target.current.len()).max(1);
                let (now, later) = records.split_at(room.min(records.len()));
                values.move_to(now.len(), &mut target.current.values);
                if !hashes.is_empty() {
                    target.current.hashes.extend(now.iter().map(|&i| hashes[i as usize]));
                }
                if !timestamps.is_empty() {
                    target.current.timestamps.extend(now.iter().map(|&i| timestamps[i as usize]));
                }
                if target.current.len() >= full {
                    target.seal();
                }
                records = later;
            }
        }
    }
}

impl<T: Data> Router for Scatter<T> {
    fn route(&mut self, batch: &mut ErasedBatch) -> Result<()> {
        let batch = typed::<T>(&mut **batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.check.check(&batch.values, |value| self.select.check(value))?;
        if let Some(sized) = self.sampler.limit(&batch.values) {
            self.sized = sized;
        }
        self.chosen.clear();
        // Whole batches are not put together if they are large enough.
        let seal_at = self.sized.div_ceil(2).min(self.wanted);
        match (&mut self.select, self.targets.len()) {
            (Select::One(target), _) => self.targets[*target].append(batch, seal_at),
            (Select::All, _) => {
                let last = self.targets.len() - 1;
                for target in &mut self.targets[..last] {
                    target.append(&mut batch.clone(), seal_at);
                }
                self.targets[last].append(batch, seal_at);
            }
            (select, 1) => {
                select.choose(batch, &mut self.chosen)?;
                self.targets[0].append(batch, seal_at);
            }
            (select, _) => {
                select.choose(batch, &mut self.chosen)?;
                self.scatter(batch);
            }
        }
        batch.clear();
        Ok(())
    }

    fn flush(&mut self) {
        self.targets.iter_mut().for_each(Target::seal);
    }

    fn take(&mut self, target: usize) -> Option<ErasedBatch> {
        self.targets[target].ready.pop_front().map(|batch| batch as ErasedBatch)
    }

    fn has_partial(&self) -> bool {
        self.targets.iter().any(|target| !target.current.is_empty())
    }

    fn seal_at(&mut self, records: usize) {
        self.wanted = records.clamp(1, BATCH_RECORDS);
    }

    fn targets(&self) -> usize {
        self.targets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExchangeType, FnKey, Keyed, Partitioning, Unkeyed};
    use super::*;
    use crate::base::hash::{hash_of, key_group, subtask_of_group};
    use std::sync::Arc;

    fn routed(exchange: &dyn ExchangeType, targets: usize, n: u64) -> Vec<Vec<Batch<u64>>> {
        let mut router =
            exchange.router(&RouteContext { subtask: 0, parallelism: 1, targets, max_parallelism: 128 });
        let values: Vec<u64> = (0..n).collect();
        for chunk in values.chunks(700) {
            let timestamps = chunk.iter().map(|&v| v as i64).collect();
            let mut batch: ErasedBatch =
                Box::new(Batch { values: chunk.to_vec(), timestamps, hashes: vec![] });
            router.route(&mut batch).unwrap();
        }
        router.flush();
        assert!(!router.has_partial());
        let mut result = vec![];
        for target in 0..targets {
            let batches = std::iter::from_fn(|| router.take(target));
            let batches = batches.inspect(|batch| assert!(batch.len() <= BATCH_RECORDS));
            result.push(batches.map(|mut b| std::mem::take(typed::<u64>(&mut *b))).collect());
        }
        result
    }

    /// A6, P1: every record arrives once, at the subtask of its key group, in order, with timestamp and hash.
    #[test]
    fn keyed_records_meet() {
        let keyed = Keyed::new(Arc::new(FnKey(|v: &u64| v % 10)));
        for targets in [1, 2, 5] {
            let mut all = vec![];
            for (target, batches) in routed(&keyed, targets, 5000).into_iter().enumerate() {
                let mut last = None;
                for (value, ts, hash) in batches
                    .iter()
                    .flat_map(|b| (0..b.len()).map(|i| (b.values[i], b.timestamps[i], b.hashes[i])))
                {
                    assert_eq!((ts, hash), (value as i64, hash_of(&(value % 10))));
                    assert_eq!(subtask_of_group(key_group(hash, 128), targets, 128), target);
                    assert!(last < Some(value), "order");
                    last = Some(value);
                    all.push(value);
                }
            }
            all.sort();
            assert_eq!(all, (0..5000).collect::<Vec<_>>());
        }
    }

    /// P3: broadcast copies every record to every consumer.
    #[test]
    fn broadcast_copies() {
        for batches in routed(&Unkeyed::<u64>::new(Partitioning::Broadcast), 3, 2000) {
            let values: Vec<_> = batches.into_iter().flat_map(|b| b.values).collect();
            assert_eq!(values, (0..2000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_type_that_does_not_survive_encoding_is_found_on_the_first_records() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            A(u32),
            B(String),
        }
        let exchange = Unkeyed::<Either>::new(Partitioning::Rebalance);
        let mut router =
            exchange.router(&RouteContext { subtask: 0, parallelism: 1, targets: 2, max_parallelism: 128 });
        let mut batch: ErasedBatch = Box::new(Batch::from(vec![Either::A(1), Either::B("x".into())]));
        let e = router.route(&mut batch).unwrap_err().to_string();
        assert!(e.contains("Either") && e.contains("untagged"), "{e}");
    }
}
