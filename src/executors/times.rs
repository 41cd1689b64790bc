//! Times: where the subtasks of a task spend their time, and how far event time has come in them.
//!
//! Place: one [`TaskTimes`] for each task of a running job, raised by its subtasks once for each step, read when
//! the result is made and for the progress line.
//! Method: a step in which an operator was called counts as busy from its first to its last moment. All other time
//! belongs to what the subtask was last found to lack: room in an output (backpressured) or input (idle), which
//! includes waiting for its turn on a worker.
//! Invariant: busy, idle and backpressured add up to the time from the subtask's start to its last step.
//! Costs: two clock readings and two additions for a step of several batches; nothing for a record.

use crate::base::clock::Clock;
use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::metrics::Counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Times of one task over all of its subtasks. The steps of a chain run as one, so they share its times.
pub struct TaskTimes {
    /// Nanoseconds of work.
    pub busy: Counter,
    /// Nanoseconds without input.
    pub idle: Counter,
    /// Nanoseconds without room in an output.
    pub backpressured: Counter,
    /// Nanoseconds of the longest step of a subtask: for so long nothing else of it went on.
    longest_step: AtomicU64,
    watermarks: Vec<AtomicI64>,
}

impl TaskTimes {
    /// Nothing yet, for so many subtasks.
    pub fn new(subtasks: usize) -> TaskTimes {
        TaskTimes {
            busy: Counter::new(),
            idle: Counter::new(),
            backpressured: Counter::new(),
            longest_step: AtomicU64::new(0),
            watermarks: (0..subtasks).map(|_| AtomicI64::new(WATERMARK_MIN)).collect(),
        }
    }

    /// The longest step of a subtask.
    pub fn longest_step(&self) -> Duration {
        Duration::from_nanos(self.longest_step.load(Ordering::Relaxed))
    }

    /// Says how far event time has come in a subtask.
    pub fn reached(&self, subtask: usize, watermark: Timestamp) {
        if let Some(shown) = self.watermarks.get(subtask) {
            shown.store(watermark, Ordering::Relaxed);
        }
    }

    /// The lowest watermark of the subtasks.
    pub fn watermark(&self) -> Timestamp {
        self.watermarks.iter().map(|w| w.load(Ordering::Relaxed)).min().unwrap_or(WATERMARK_MAX)
    }
}

/// What a subtask lacks when it cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Records, or its turn.
    Input,
    /// Room in an output.
    Room,
}

/// Divides the time of one subtask.
pub struct Stopwatch {
    times: Arc<Vec<TaskTimes>>,
    task: usize,
    clock: Arc<dyn Clock>,
    /// Up to here time has been accounted for.
    until: Duration,
    lack: Lack,
    /// Nanoseconds of the longest step so far.
    longest: u64,
    /// Time with and without input so far.
    active: Duration,
    idle: Duration,
}

impl Stopwatch {
    /// Starts now, without input.
    pub fn start(times: Arc<Vec<TaskTimes>>, task: usize, clock: Arc<dyn Clock>) -> Stopwatch {
        let until = clock.monotonic();
        Stopwatch {
            times,
            task,
            clock,
            until,
            lack: Lack::Input,
            longest: 0,
            active: Duration::ZERO,
            idle: Duration::ZERO,
        }
    }

    /// A step begins.
    pub fn resume(&mut self) {
        self.account(false);
    }

    /// The step has ended, with work done or not; what follows is spent for the lack of something. Says how long the
    /// step took.
    pub fn pause(&mut self, worked: bool, lack: Lack) -> Duration {
        self.lack = lack;
        self.account(worked)
    }

    /// The subtask's own time so far in which it had input (busy, or without room), and in which it had none.
    pub fn active_and_idle(&self) -> (Duration, Duration) {
        (self.active, self.idle)
    }

    fn account(&mut self, busy: bool) -> Duration {
        let now = self.clock.monotonic();
        let time = now.saturating_sub(self.until);
        let passed = time.as_nanos() as u64;
        self.until = now;
        let times = &self.times[self.task];
        if busy && passed > self.longest {
            self.longest = passed;
            times.longest_step.fetch_max(passed, Ordering::Relaxed);
        }
        match (busy, self.lack) {
            (true, _) => times.busy.add(passed),
            (false, Lack::Room) => times.backpressured.add(passed),
            (false, Lack::Input) => times.idle.add(passed),
        }
        match busy || self.lack == Lack::Room {
            true => self.active += time,
            false => self.idle += time,
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;

    #[test]
    fn every_moment_is_counted_once() {
        let clock = VirtualClock::new();
        let times = Arc::new(vec![TaskTimes::new(1), TaskTimes::new(1)]);
        let mut watch = Stopwatch::start(times.clone(), 1, clock.clone());
        let ms = Duration::from_millis;
        let mut step = |waited: u64, took: u64, worked: bool, lack: Lack| {
            clock.advance(ms(waited));
            watch.resume();
            clock.advance(ms(took));
            watch.pause(worked, lack);
        };
        step(1, 20, true, Lack::Room);
        step(300, 4_000, true, Lack::Input);
        // Looked in vain: neither is work.
        step(50_000, 600_000, false, Lack::Room);
        step(7_000_000, 0, true, Lack::Input);
        let shown =
            |of: &TaskTimes| [of.busy.get(), of.idle.get(), of.backpressured.get()].map(|n| n / 1_000_000);
        assert_eq!(shown(&times[1]), [4_020, 50_001, 7_600_300]);
        assert_eq!(times[1].longest_step(), ms(4_000));
        assert_eq!(watch.active_and_idle(), (ms(7_604_320), ms(50_001)));
        assert_eq!(shown(&times[0]), [0, 0, 0]);
    }

    #[test]
    fn the_slowest_subtask_is_the_watermark_of_its_task() {
        let times = TaskTimes::new(2);
        assert_eq!(times.watermark(), WATERMARK_MIN);
        times.reached(0, 7);
        assert_eq!(times.watermark(), WATERMARK_MIN);
        times.reached(1, 5);
        times.reached(2, 1);
        assert_eq!(times.watermark(), 5);
    }
}
