//! Ledger: a table outside of the job, written in transactions that survive the job; and faults that strike a few times.

use mainstem::base::batch::Batch;
use mainstem::connectors::sink::{CommitPoint, Sink, SinkContext, SinkWriter};
use mainstem::{Data, Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Strikes at given calls, counted over all threads and attempts.
#[derive(Clone, Default)]
pub struct Faults {
    calls: Arc<AtomicU64>,
    at: Arc<Mutex<BTreeSet<u64>>>,
}

impl Faults {
    pub fn at(calls: impl IntoIterator<Item = u64>) -> Faults {
        Faults { calls: Arc::default(), at: Arc::new(Mutex::new(calls.into_iter().collect())) }
    }

    pub fn strikes(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.at.lock().unwrap().remove(&call)
    }

    /// Faults that have not struck.
    pub fn left(&self) -> usize {
        self.at.lock().unwrap().len()
    }

    pub fn check(&self) -> Result<(), String> {
        if self.strikes() { Err("a fault".to_string()) } else { Ok(()) }
    }
}

/// What is committed, by transaction: the same transaction counts once, however often it is committed.
pub struct Ledger<T> {
    transactions: Arc<Mutex<BTreeMap<String, Vec<T>>>>,
    pub faults: Faults,
    /// Strike while a commit is under way: some of it is done.
    pub commit_faults: Faults,
    /// Writers that were made.
    pub writers: Arc<AtomicU64>,
}

impl<T> Clone for Ledger<T> {
    fn clone(&self) -> Self {
        Ledger {
            transactions: self.transactions.clone(),
            faults: self.faults.clone(),
            commit_faults: self.commit_faults.clone(),
            writers: self.writers.clone(),
        }
    }
}

impl<T: Data + Ord> Ledger<T> {
    pub fn new() -> Ledger<T> {
        Ledger {
            transactions: Arc::default(),
            faults: Faults::default(),
            commit_faults: Faults::default(),
            writers: Arc::default(),
        }
    }
    pub fn with_faults(faults: Faults) -> Ledger<T> {
        Ledger { faults, ..Ledger::new() }
    }
    /// All records, sorted.
    pub fn records(&self) -> Vec<T> {
        let mut all: Vec<T> = self.transactions.lock().unwrap().values().flatten().cloned().collect();
        all.sort();
        all
    }
}

impl<T: Data> Sink<T> for Ledger<T> {
    type Committable = (String, Vec<T>);
    type Writer = LedgerWriter<T>;

    fn describe(&self) -> String {
        "ledger".into()
    }
    fn writer(&self, ctx: &SinkContext) -> Result<LedgerWriter<T>> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        let name = format!("{}/{}/{}", ctx.job_id, ctx.attempt, ctx.subtask);
        Ok(LedgerWriter { name, prepared: 0, records: Vec::new(), faults: self.faults.clone() })
    }
    fn commit(&self, committables: Vec<(String, Vec<T>)>, _ctx: &SinkContext) -> Result<()> {
        let mut transactions = self.transactions.lock().unwrap();
        for (name, records) in committables {
            if self.commit_faults.strikes() {
                drop(transactions);
                panic!("a fault of a commit");
            }
            transactions.entry(name).or_insert(records);
        }
        Ok(())
    }
}

pub struct LedgerWriter<T> {
    name: String,
    prepared: u64,
    records: Vec<T>,
    faults: Faults,
}

impl<T: Data> SinkWriter<T> for LedgerWriter<T> {
    type Committable = (String, Vec<T>);

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.faults.check().map_err(Error::user)?;
        self.records.append(&mut batch.values);
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, _at: CommitPoint) -> Result<Vec<(String, Vec<T>)>> {
        self.prepared += 1;
        Ok(vec![(format!("{}/{}", self.name, self.prepared), std::mem::take(&mut self.records))])
    }
}
