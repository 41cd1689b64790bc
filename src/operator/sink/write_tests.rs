//! The protocol of two phases against targets in memory: whatever crashes, nothing is lost and nothing doubled.

use super::driver::Process;
use super::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter, TypedSink, WriterStates};
use crate::base::batch::{Batch, CheckpointId};
use crate::base::clock::VirtualClock;
use crate::base::error::{Error, Result};
use crate::base::vfs::MemVfs;
use crate::semantics::state::{OperatorState, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A database that outlives the processes that write to it.
#[derive(Default)]
struct Database {
    next: u64,
    transactions: BTreeMap<u64, Transaction>,
    /// What readers see.
    table: Vec<u64>,
    /// Commits until one fails; with the transactions before it committed.
    commits_until_failure: Option<u32>,
}

#[derive(Default)]
struct Transaction {
    records: Vec<u64>,
    prepared: bool,
    committed: bool,
}

type Shared = Arc<Mutex<Database>>;

/// Writes into transactions: the one of a writer goes on over a checkpoint while it is small, so that there is state
/// of a writer, too.
struct TwoPhase(Shared);

struct TwoPhaseWriter {
    database: Shared,
    /// Transactions not yet handed over; after a rescale there may be several.
    open: Vec<u64>,
}

impl Sink<u64> for TwoPhase {
    type Committable = u64;
    type Writer = TwoPhaseWriter;

    fn describe(&self) -> String {
        "two phases".into()
    }
    fn writer(&self, _ctx: &SinkContext) -> Result<TwoPhaseWriter> {
        Ok(TwoPhaseWriter { database: self.0.clone(), open: Vec::new() })
    }
    fn commit(&self, committables: Vec<u64>, _ctx: &SinkContext) -> Result<()> {
        let mut guard = self.0.lock().unwrap();
        let database = &mut *guard;
        assert!(!committables.is_empty(), "with checkpoints there is something to commit");
        for id in committables {
            match &mut database.commits_until_failure {
                Some(0) => return Err(Error::user("the connection was lost")),
                Some(more) => *more -= 1,
                None => {}
            }
            let transaction = database.transactions.get_mut(&id).expect("a prepared transaction stays");
            assert!(transaction.prepared, "{id} was not prepared");
            if !transaction.committed {
                transaction.committed = true;
                database.table.append(&mut transaction.records);
            }
        }
        Ok(())
    }
    fn recover(&self, recovered: Recovered<'_, u64>, ctx: &SinkContext) -> Result<()> {
        let open = recovered.states.entries::<(u64, usize)>().collect::<Result<Vec<_>>>()?;
        let mut kept: BTreeSet<u64> = recovered.committables.iter().copied().collect();
        if !recovered.committables.is_empty() {
            self.commit(recovered.committables, ctx)?;
        }
        let mut database = self.0.lock().unwrap();
        for (_, (id, valid)) in open {
            let transaction = database.transactions.get_mut(&id).expect("an open transaction stays");
            assert!(!transaction.committed, "{id} holds what comes after the checkpoint");
            transaction.records.truncate(valid);
            transaction.prepared = false;
            kept.insert(id);
        }
        database.transactions.retain(|id, transaction| transaction.committed || kept.contains(id));
        Ok(())
    }
}

impl SinkWriter<u64> for TwoPhaseWriter {
    type Committable = u64;

    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        let mut database = self.database.lock().unwrap();
        if self.open.is_empty() {
            database.next += 1;
            self.open.push(database.next);
        }
        let transaction = database.transactions.entry(self.open[0]).or_default();
        assert!(!transaction.prepared && !transaction.committed);
        transaction.records.append(&mut batch.values);
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, at: CommitPoint) -> Result<Vec<u64>> {
        let mut database = self.database.lock().unwrap();
        let (mut due, mut open) = (Vec::new(), Vec::new());
        for id in self.open.drain(..) {
            let transaction = database.transactions.entry(id).or_default();
            let is_due = at == CommitPoint::End || transaction.records.len() >= 8;
            transaction.prepared = is_due;
            if is_due { due.push(id) } else { open.push(id) }
        }
        self.open = open;
        Ok(due)
    }
    fn snapshot(&mut self, states: &mut Section) -> Result<()> {
        let database = self.database.lock().unwrap();
        self.open.iter().try_for_each(|id| states.put(&(*id, database.transactions[id].records.len())))
    }
    fn restore(&mut self, states: &WriterStates<'_>) -> Result<()> {
        self.open = states.entries::<(u64, usize)>().map(|entry| Ok(entry?.1.0)).collect::<Result<_>>()?;
        Ok(())
    }
}

/// Writes at once; writing a record again changes nothing.
struct Idempotent(Arc<Mutex<BTreeSet<u64>>>);

impl Sink<u64> for Idempotent {
    type Committable = ();
    type Writer = IdempotentWriter;
    fn describe(&self) -> String {
        "upsert".into()
    }
    fn writer(&self, _ctx: &SinkContext) -> Result<IdempotentWriter> {
        Ok(IdempotentWriter(self.0.clone(), Vec::new()))
    }
}

/// Buffers, so that it must write at a barrier what it has.
struct IdempotentWriter(Arc<Mutex<BTreeSet<u64>>>, Vec<u64>);

impl SinkWriter<u64> for IdempotentWriter {
    type Committable = ();
    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        self.1.append(&mut batch.values);
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, _at: CommitPoint) -> Result<Vec<()>> {
        self.0.lock().unwrap().extend(self.1.drain(..));
        Ok(Vec::new())
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A durable checkpoint: what the sink kept, and the next record to be read.
type Checkpoint = (CheckpointId, OperatorState, u64);

const RECORDS: u64 = 200;

/// Runs a job to its end through crashes drawn from the seed. `fail` may make the next commit fail.
fn run_with_crashes<S: Sink<u64>>(seed: u64, sink: impl Fn() -> S, fail: impl Fn(Option<u32>)) {
    let mut random = Random(seed);
    let mut durable: Option<Checkpoint> = None;
    let (mut next_id, mut crashes) = (1, 0);
    let process = |restored| {
        let sink = Arc::new(TypedSink::<u64, S>::new(sink()));
        Process::start(sink, Arc::new(MemVfs::new()), VirtualClock::new(), restored).unwrap()
    };
    let mut process_now = process(false);
    'attempts: loop {
        fail((random.below(8) == 0).then(|| random.below(3) as u32));
        let parallelism = 1 + random.below(4) as usize;
        let mut next = durable.as_ref().map_or(0, |(_, _, next)| *next);
        let crashed = process_now.attempt(parallelism, durable.as_ref().map(|(_, state, _)| state)).is_err();
        fail(None);
        let mut taken: Option<Checkpoint> = None;
        let first_id = next_id;
        loop {
            match random.below(12) {
                _ if crashed => break,
                0 if crashes < 20 => break,
                1 | 2 => {
                    // Not every checkpoint becomes durable.
                    let state = process_now.barrier(next_id).unwrap();
                    taken = Some((next_id, state, next));
                    next_id += 1;
                }
                3 => durable = taken.take().or(durable),
                4 | 5 => {
                    // The coordinator may crash between the durable checkpoint and the news of it, and tell it twice.
                    if let Some((id, ..)) = &durable
                        && *id >= first_id
                    {
                        let fails = crashes < 20 && random.below(4) == 0;
                        fail(fails.then(|| random.below(3) as u32));
                        let completed = process_now.complete(*id);
                        fail(None);
                        if completed.is_err() {
                            break;
                        }
                    }
                }
                6 if random.below(20) == 0 => {
                    // A subtask ends early; the last one goes on.
                    let subtask = random.below(parallelism as u64) as usize;
                    if subtask + 1 < parallelism && process_now.is_running(subtask) {
                        process_now.end(subtask).unwrap();
                    }
                }
                _ if next < RECORDS => {
                    let subtask = random.below(parallelism as u64) as usize;
                    if process_now.is_running(subtask) {
                        let end = RECORDS.min(next + 1 + random.below(6));
                        process_now.write(subtask, (next..end).collect()).unwrap();
                        next = end;
                    }
                }
                _ => {
                    for subtask in 0..parallelism {
                        if process_now.is_running(subtask) {
                            process_now.end(subtask).unwrap();
                        }
                    }
                    let state = process_now.barrier(next_id).unwrap();
                    durable = Some((next_id, state, next));
                    next_id += 1;
                    if crashes < 20 && random.below(2) == 0 {
                        break;
                    }
                    process_now.commit().unwrap();
                    break 'attempts;
                }
            }
        }
        crashes += 1;
        if random.below(2) == 0 {
            process_now = process(durable.is_some());
        }
    }
}

/// C4: prepare, fail before or after completion, recover, commit twice.
#[test]
fn a_sink_of_two_phases_has_every_record_once() {
    for seed in 0..400 {
        let database = Shared::default();
        let fail = |commits| database.lock().unwrap().commits_until_failure = commits;
        run_with_crashes(seed, || TwoPhase(database.clone()), fail);
        let database = database.lock().unwrap();
        let mut table = database.table.clone();
        table.sort_unstable();
        assert!(table.into_iter().eq(0..RECORDS), "seed {seed}");
        assert!(database.transactions.values().all(|t| t.committed), "seed {seed}: a transaction stays open");
    }
}

/// C4, K9: at least once and idempotent is exactly once.
#[test]
fn an_idempotent_sink_needs_no_second_phase() {
    for seed in 0..100 {
        let table = Arc::new(Mutex::new(BTreeSet::new()));
        run_with_crashes(seed, || Idempotent(table.clone()), |_| {});
        assert!(table.lock().unwrap().iter().copied().eq(0..RECORDS), "seed {seed}");
    }
}

fn two_phases() -> (Shared, Process) {
    let database = Shared::default();
    let sink = Arc::new(TypedSink::<u64, _>::new(TwoPhase(database.clone())));
    let process = Process::start(sink, Arc::new(MemVfs::new()), VirtualClock::new(), false).unwrap();
    (database, process)
}

/// C4: what comes after a barrier waits for the next checkpoint, and what an aborted checkpoint held comes with it.
#[test]
fn a_checkpoint_commits_what_was_prepared_up_to_it() {
    let (database, mut process) = two_phases();
    process.attempt(2, None).unwrap();
    let table = || database.lock().unwrap().table.clone();
    process.write(0, (0..10).collect::<Vec<u64>>()).unwrap();
    process.barrier(1).unwrap();
    process.write(1, (10..20).collect::<Vec<u64>>()).unwrap();
    process.barrier(2).unwrap();
    process.write(0, (20..30).collect::<Vec<u64>>()).unwrap();
    process.barrier(3).unwrap();
    assert!(table().is_empty());
    process.complete(2).unwrap();
    assert_eq!(table(), (0..20).collect::<Vec<_>>(), "1 was aborted, 3 is under way");
    process.complete(2).unwrap();
    process.complete(3).unwrap();
    assert_eq!(table(), (0..30).collect::<Vec<_>>());
}

/// C6: what a subtask prepares at its end belongs to the first checkpoint that holds its last snapshot, not to one
/// whose barrier came before.
#[test]
fn the_last_records_wait_for_a_checkpoint_after_the_last_barrier() {
    let (database, mut process) = two_phases();
    process.attempt(1, None).unwrap();
    process.write(0, vec![1u64]).unwrap();
    process.barrier(4).unwrap();
    process.write(0, vec![2u64]).unwrap();
    process.end(0).unwrap();
    process.complete(4).unwrap();
    assert!(database.lock().unwrap().table.is_empty());
    process.barrier(5).unwrap();
    process.complete(5).unwrap();
    assert_eq!(database.lock().unwrap().table, [1, 2]);
    process.commit().unwrap();
    assert_eq!(database.lock().unwrap().table, [1, 2]);
}

/// Fails in the way of a sync.
struct CannotPrepare;

impl Sink<u64> for CannotPrepare {
    type Committable = ();
    type Writer = CannotPrepare;
    fn describe(&self) -> String {
        "files out/".into()
    }
    fn writer(&self, _ctx: &SinkContext) -> Result<CannotPrepare> {
        Ok(CannotPrepare)
    }
}

impl SinkWriter<u64> for CannotPrepare {
    type Committable = ();
    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, _at: CommitPoint) -> Result<Vec<()>> {
        Err(Error::user("no sync"))
    }
}

/// T6: an attempt whose output could not be made durable does not go on, even if only the checkpoint is declined.
#[test]
fn after_a_failed_preparation_nothing_more_is_written() {
    let sink = Arc::new(TypedSink::<u64, _>::new(CannotPrepare));
    let mut process = Process::start(sink, Arc::new(MemVfs::new()), VirtualClock::new(), false).unwrap();
    process.attempt(1, None).unwrap();
    process.write(0, vec![1u64]).unwrap();
    assert!(process.barrier(1).unwrap_err().to_string().contains("no sync"));
    for error in [process.barrier(2).unwrap_err(), process.write(0, vec![2u64]).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("cannot go on with 'files out/'") && text.contains("no sync"), "{text}");
    }
    assert!(process.end(0).is_err());
}
