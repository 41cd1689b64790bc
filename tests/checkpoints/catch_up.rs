//! What has piled up while a job was down: it is worked off faster than it comes.

use crate::ledger::Faults;
use crate::restarts::environment;
use mainstem::base::clock::Clock;
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RECORDS: u64 = 40_000;
/// Records that come in a millisecond, whether anybody takes them or not.
const STEADY: u64 = 10;
/// The job is down for so long.
const DOWN: Duration = Duration::from_secs(1);
/// Records that a job is behind at most while nothing happens to it: the steps of a simulation take their time.
const BEHIND_MAX: u64 = 3_000;

/// A queue that others fill: record `n` is there from millisecond `n / STEADY` on.
struct Queue;

struct QueueReader {
    next: u64,
    clock: Arc<dyn Clock>,
}

impl Source for Queue {
    type Item = u64;
    type Split = u64;
    type Reader = QueueReader;

    fn describe(&self) -> String {
        "queue".to_string()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: &SourceContext) -> mainstem::Result<Vec<u64>> {
        Ok(vec![0])
    }
    fn open(&self, next: u64, ctx: &SourceContext) -> mainstem::Result<QueueReader> {
        Ok(QueueReader { next, clock: ctx.clock.clone() })
    }
}

impl SplitReader for QueueReader {
    type Item = u64;
    type Split = u64;

    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        let there = RECORDS.min(self.clock.monotonic().as_millis() as u64 * STEADY);
        if self.next == RECORDS {
            return Ok(Poll::End);
        }
        if self.next == there {
            return Ok(Poll::Idle(Some(Duration::from_millis(1))));
        }
        while self.next < there && !out.is_full() {
            out.emit(self.next);
            self.next += 1;
        }
        Ok(Poll::More)
    }
    fn position(&self) -> u64 {
        self.next
    }
}

/// Notes when each record came, by the clock of the simulation.
#[derive(Clone)]
struct Notes(Arc<Mutex<Vec<(u64, u64)>>>);

impl ProcessFunction<u64, u64> for Notes {
    fn process(&mut self, n: u64, ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.0.lock().unwrap().push((n, ctx.processing_time() as u64));
        out.emit(n);
        Ok(())
    }
}

/// C11: behind a failure and a pause the job takes what has piled up faster than it came, until it has caught up.
#[test]
fn c11_a_job_catches_up_behind_a_failure() {
    for seed in 0..4 {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Notes(seen.clone());
        let faults = Faults::at([RECORDS / 3]);
        let env = environment(1, Some(seed))
            .checkpoint_storage(CheckpointStorage::Memory)
            .restart_strategy(RestartStrategy::FixedDelay { attempts: 1, delay: DOWN });
        env.read(Queue)
            .process(notes)
            .try_map(move |n| faults.check().map(|()| n))
            .key_by(|n| n % 10)
            .count()
            .sink_to(DiscardSink);
        let stats = env.execute("catches up").unwrap().checkpoints.unwrap();
        assert!(stats.restarts == 1 && stats.restored > 0, "seed {seed}: {stats:?}");
        let seen = seen.lock().unwrap().clone();
        // Records that have come and were not taken yet.
        let behind = |(n, at): (u64, u64)| (at * STEADY).saturating_sub(n);
        let again =
            (1..seen.len()).find(|i| seen[*i].0 <= seen[*i - 1].0).expect("it goes back to a checkpoint");
        let (before, after) = seen.split_at(again);
        let usual = before.iter().map(|note| behind(*note)).max();
        assert!(usual < Some(BEHIND_MAX), "seed {seed}: {usual:?}");
        let piled_up = behind(after[0]);
        assert!(piled_up >= DOWN.as_millis() as u64 * STEADY, "seed {seed}: {piled_up}");
        let caught_up = after.iter().position(|note| behind(*note) < BEHIND_MAX / 3).expect("it catches up");
        let took_ms = after[caught_up].1 - after[0].1;
        println!("seed {seed}: {piled_up} behind, then {caught_up} records in {took_ms} ms");
        let rate = caught_up as u64 / took_ms.max(1);
        assert!(rate > 2 * STEADY, "seed {seed}: {caught_up} records in {took_ms} ms");
        let last = after[after.len() - 1];
        assert!(
            last.0 == RECORDS - 1 && behind(last) < piled_up / 2,
            "seed {seed}: the pause is not seen at the end"
        );
    }
}
