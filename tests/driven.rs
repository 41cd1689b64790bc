//! Subtasks stepped by hand under a virtual clock: where their time goes, and which watermark the job shows.

use mainstem::connectors::sink::FnSink;
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::executors::job::{Cancellation, JobEnvironment};
use mainstem::executors::pipelined::{Wiring, wire};
use mainstem::operator::context::JobContext;
use mainstem::operator::exchange::{Partitioning, Unkeyed};
use mainstem::operator::sink::TypedSink;
use mainstem::operator::source::SplitAssignment;
use mainstem::plan::{LogicalEdge, LogicalPlan, Node, Operation, PhysicalPlan, PlanOptions};
use mainstem::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Two splits; each polls: a record, a watermark of 10 or 20, nothing for a while, its end.
struct Script;

struct Reader(u64, u64);

impl Source for Script {
    type Item = u64;
    type Split = u64;
    type Reader = Reader;

    fn describe(&self) -> String {
        "script".into()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: &SourceContext) -> mainstem::Result<Vec<u64>> {
        Ok(vec![1, 2])
    }
    fn open(&self, split: u64, _: &SourceContext) -> mainstem::Result<Reader> {
        Ok(Reader(split, 0))
    }
}

impl SplitReader for Reader {
    type Item = u64;
    type Split = u64;

    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        self.1 += 1;
        match self.1 {
            1 => out.emit_at(self.0, 15),
            2 => out.emit_watermark(10 * self.0 as i64),
            3..=6 => return Ok(Poll::Idle(Some(MS))),
            _ => return Ok(Poll::End),
        }
        Ok(Poll::More)
    }
    fn position(&self) -> u64 {
        self.0
    }
}

/// The script into a sink over channels of one element: two tasks of two subtasks.
fn job(clock: Arc<mainstem::base::clock::VirtualClock>) -> (JobEnvironment, Wiring) {
    let mut logical = LogicalPlan::default();
    let from = logical.add(Node::new("script", Operation::Source(Arc::new(Script)), Vec::new()));
    let edge = LogicalEdge::new(from, Arc::new(Unkeyed::<u64>::new(Partitioning::Rebalance)));
    let sink = Arc::new(TypedSink::<u64, _>::new(FnSink::new(|_: u64| {})));
    logical.add(Node::new("sink", Operation::Sink(sink), vec![vec![edge]]));
    let mode = ExecutionMode::Streaming;
    let options = PlanOptions { mode, parallelism: 2, max_parallelism: None, chaining: true };
    let plan = PhysicalPlan::new(&logical, &options).unwrap();
    let context = JobContext {
        name: "driven".into(),
        id: "driven".into(),
        parameters: Parameters::default(),
        auto_watermark_interval: std::time::Duration::from_millis(200),
    };
    let vfs = Arc::new(mainstem::base::vfs::MemVfs::new());
    let job =
        JobEnvironment::start(&plan, context, clock, vfs, SplitAssignment::Fixed, Cancellation::default())
            .unwrap();
    let wiring = wire(&plan, &job, BufferTimeout::WhenFull, || 1).unwrap();
    (job, wiring)
}

fn step(wiring: &mut Wiring, subtask: usize, times: usize) {
    for _ in 0..times {
        wiring.subtasks[subtask].step(1).unwrap();
    }
}

#[test]
fn the_watermark_of_a_job_is_the_lowest_at_its_sinks() {
    let (job, mut wiring) = job(mainstem::base::clock::VirtualClock::new());
    assert_eq!(job.watermark(), i64::MIN);
    let mut seen = Vec::new();
    for subtask in [0, 1].repeat(40) {
        step(&mut wiring, subtask, 1);
        for sink in [2, 3] {
            step(&mut wiring, sink, 3);
        }
        if seen.last() != Some(&job.watermark()) {
            seen.push(job.watermark());
        }
    }
    // The first split ends before the second, and what has ended holds nothing back.
    assert_eq!(seen, [i64::MIN, 10, 20, i64::MAX]);
}

#[test]
fn time_is_busy_idle_or_backpressured() {
    let clock = mainstem::base::clock::VirtualClock::new();
    let (job, mut wiring) = job(clock.clone());
    let shown = |task: usize| {
        let times = &job.times[task];
        [&times.busy, &times.idle, &times.backpressured].map(|counter| counter.get() / 1_000_000)
    };
    // Nobody empties the channels of one element: the sources end up without room.
    step(&mut wiring, 0, 20);
    step(&mut wiring, 1, 20);
    assert_eq!(shown(0), [0, 0, 0]);
    clock.advance(7 * MS);
    step(&mut wiring, 0, 1);
    assert_eq!(shown(0), [0, 0, 7]);
    clock.advance(100 * MS);
    step(&mut wiring, 1, 1);
    assert_eq!(shown(0), [0, 0, 7 + 107]);
    // The sinks had not had their turn, and then nothing to read.
    for sink in [2, 3] {
        step(&mut wiring, sink, 20);
    }
    assert_eq!(shown(1), [0, 2 * 107, 0]);
    clock.advance(MS);
    for sink in [2, 3] {
        step(&mut wiring, sink, 1);
    }
    assert_eq!(shown(1), [0, 2 * 108, 0]);
}

#[test]
fn a_step_that_works_is_busy() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        env.generate(20_000, |i| i).key_by(|i| i % 100).count().sink_to(DiscardSink);
        let result = env.execute("busy").unwrap();
        for operator in &result.operators {
            assert!(!operator.busy.is_zero(), "{mode} {}", operator.name);
        }
    }
}

/// A source with a rate waits for the clock; a simulation has to move it, in both modes.
#[test]
fn a_rate_passes_in_virtual_time() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let driver = Driver::Simulation { seed: 3 };
        let env = Environment::new().execution_mode(mode).parallelism(2).driver(driver);
        let slow = env.read(Generate::new(20, |i| i).rate(2.0));
        let mut all = slow.execute_and_collect("slow").unwrap().into_vec().unwrap();
        all.sort();
        assert_eq!(all, (0..20).collect::<Vec<u64>>(), "{mode}");
    }
}
