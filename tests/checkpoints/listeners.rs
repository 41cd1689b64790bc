//! Who hears that a checkpoint is complete, and who is started again without any.

use crate::ledger::Faults;
use crate::restarts::environment;
use mainstem::base::batch::CheckpointId;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, Vfs};
use mainstem::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whether the checkpoint was durable, for each call.
type Heard = Arc<Mutex<Vec<(&'static str, CheckpointId, bool)>>>;

/// Looks at the disk as a power loss would leave it.
#[derive(Clone)]
struct Listens {
    name: &'static str,
    disk: MemVfs,
    heard: Heard,
}

impl Listens {
    fn complete(&self, id: CheckpointId) {
        let metadata = PathBuf::from(format!("/job/checkpoints/chk-{id}/metadata"));
        let durable = self.disk.crash(0, Keep::Nothing).metadata(&metadata).is_ok();
        self.heard.lock().unwrap().push((self.name, id, durable));
    }
}

impl ProcessFunction<u64, u64> for Listens {
    fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> UserResult {
        self.complete(checkpoint);
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Listens {
    fn process(&mut self, n: u64, _: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> UserResult {
        self.complete(checkpoint);
        Ok(())
    }
}

/// S6: a function hears of a checkpoint by its number, once the metadata is durable and not before, and never of one that has
/// failed.
#[test]
fn s6_functions_hear_of_complete_checkpoints_only() {
    for seed in [None, Some(1), Some(2), Some(3)] {
        let disk = MemVfs::new();
        // The fourth checkpoint cannot be made durable.
        let full = FaultPlan::fail_at(0, Fault::NoSpace).only(&[FileOp::SyncData]).on_path("chk-4/");
        let heard = Heard::default();
        let env = environment(2, seed)
            .vfs(FaultVfs::new(Arc::new(disk.clone()), full))
            .job_dir("/job")
            .checkpoint_retained(1_000)
            .checkpoint_tolerable_failures(10);
        let listens = |name| Listens { name, disk: disk.clone(), heard: heard.clone() };
        let (plain, keyed) = (listens("plain"), listens("keyed"));
        env.read(Generate::new(20_000, |i| i).rate(50_000.0))
            .process(plain)
            .key_by(|n| n % 10)
            .process(move |_| keyed.clone())
            .sink_to(DiscardSink);
        let stats = env.execute("listened to").unwrap().checkpoints.unwrap();
        let heard = heard.lock().unwrap().clone();
        assert!(stats.completed > 5 && stats.failed == 1, "{seed:?}: {stats:?}");
        let early: Vec<_> = heard.iter().filter(|(_, _, durable)| !durable).collect();
        assert!(early.is_empty(), "{seed:?}: heard of before they were durable: {early:?}");
        for name in ["plain", "keyed"] {
            let ids: Vec<_> = heard.iter().filter(|(of, ..)| *of == name).map(|(_, id, _)| *id).collect();
            assert!(ids.len() > 3, "{seed:?}: {name} has heard of {ids:?}");
            assert!(ids.iter().all(|id| (1..=stats.last).contains(id) && *id != 4), "{seed:?}: {ids:?}");
            let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
            assert!(
                distinct.len() > 2 && ids.len() <= 2 * distinct.len(),
                "{seed:?}: once a subtask: {ids:?}"
            );
        }
    }
}

/// C5: without checkpoints nothing is started again, whatever the strategy: records that are out would come twice.
#[test]
fn c5_without_checkpoints_nothing_is_started_again() {
    for driver in [Driver::Threads, Driver::Simulation { seed: 5 }] {
        let made = Arc::new(AtomicU64::new(0));
        let (counted, faults) = (made.clone(), Faults::at([500]));
        let env = Environment::new()
            .driver(driver)
            .parallelism(1)
            .restart_strategy(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::ZERO });
        // A source that could be read again.
        env.read(Generate::new(1_000, |n| n))
            .map(move |n| {
                counted.fetch_max(n + 1, Ordering::SeqCst);
                n
            })
            .try_map(move |n| faults.check().map(|()| n))
            .name("fails once")
            .sink_to(DiscardSink);
        let error = env.execute("once").unwrap_err().to_string();
        assert!(error.contains("operator 'fails once'") && error.contains("a fault"), "{error}");
        assert!(made.load(Ordering::SeqCst) >= 500);
    }
}
