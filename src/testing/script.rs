//! ScriptedSource: a bounded source that does what a test says, split by split.

use crate::base::clock::Clock;
use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
use crate::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What one split of a [`ScriptedSource`] does, step by step. A split whose script has no steps left has ended.
#[derive(Clone, Debug)]
pub struct Script<T> {
    steps: Vec<Step<T>>,
}

#[derive(Clone, Debug)]
enum Step<T> {
    Record(T, Option<Timestamp>),
    Watermark(Timestamp),
    Idle,
    Pause(Duration),
}

impl<T> Default for Script<T> {
    fn default() -> Self {
        Script::new()
    }
}

impl<T> Script<T> {
    /// A script without steps.
    pub fn new() -> Self {
        Script { steps: Vec::new() }
    }

    fn then(mut self, step: Step<T>) -> Self {
        self.steps.push(step);
        self
    }

    /// Then emits a record without a timestamp.
    #[must_use]
    pub fn record(self, value: T) -> Self {
        self.then(Step::Record(value, None))
    }

    /// Then emits a record with a timestamp.
    #[must_use]
    pub fn record_at(self, value: T, timestamp: Timestamp) -> Self {
        self.then(Step::Record(value, Some(timestamp)))
    }

    /// Then emits records with timestamps.
    #[must_use]
    pub fn records_at(mut self, records: impl IntoIterator<Item = (T, Timestamp)>) -> Self {
        self.steps.extend(records.into_iter().map(|(value, timestamp)| Step::Record(value, Some(timestamp))));
        self
    }

    /// Then promises that nothing with a timestamp at or below `watermark` follows. Without effect where the stream has
    /// a watermark strategy, and in BATCH.
    #[must_use]
    pub fn watermark(self, watermark: Timestamp) -> Self {
        self.then(Step::Watermark(watermark))
    }

    /// Then says that it is idle: it holds no watermark back until its next record or watermark. Without effect where
    /// the stream has a watermark strategy, and in BATCH.
    #[must_use]
    pub fn idle(self) -> Self {
        self.then(Step::Idle)
    }

    /// Then has nothing for this long, of processing time. A simulated job lets the time pass at once
    /// ([`Driver::Simulation`](crate::base::config::Driver::Simulation)).
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.then(Step::Pause(time))
    }
}

/// A bounded source for tests: a split for each script. In STREAMING a subtask reads all of its splits in turn, each up
/// to its next watermark, idle time or pause; in BATCH one after the other.
///
/// ```
/// use mainstem::prelude::*;
/// use mainstem::testing::{Event, Probe, Script, ScriptedSource};
/// let env = Environment::new().parallelism(1);
/// let script = Script::new().record_at('a', 1_000).watermark(1_500).record_at('b', 2_000);
/// let probe = Probe::on(&env.read(ScriptedSource::new([script])));
/// env.execute("scripted")?;
/// let expected = [
///     Event::Record('a', Some(1_000)),
///     Event::Watermark(1_500),
///     Event::Record('b', Some(2_000)),
///     Event::Watermark(i64::MAX),
/// ];
/// assert_eq!(probe.take_events(), expected);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct ScriptedSource<T> {
    scripts: Arc<Vec<Script<T>>>,
}

impl<T> ScriptedSource<T> {
    /// A source with these splits.
    pub fn new(scripts: impl IntoIterator<Item = Script<T>>) -> Self {
        ScriptedSource { scripts: Arc::new(scripts.into_iter().collect()) }
    }
}

/// A split of a [`ScriptedSource`]: which script, and how many of its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptSplit {
    script: usize,
    done: usize,
}

impl<T: Data + Sync> Source for ScriptedSource<T> {
    type Item = T;
    type Split = ScriptSplit;
    type Reader = ScriptReader<T>;

    fn describe(&self) -> String {
        "script".to_string()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> Result<Vec<ScriptSplit>> {
        Ok((0..self.scripts.len()).map(|script| ScriptSplit { script, done: 0 }).collect())
    }
    fn reads_splits_at_once(&self) -> bool {
        true
    }
    fn open(&self, split: ScriptSplit, ctx: &SourceContext) -> Result<ScriptReader<T>> {
        Ok(ScriptReader {
            scripts: self.scripts.clone(),
            split,
            clock: ctx.clock.clone(),
            paused_since: None,
        })
    }
}

/// Reads a script.
pub struct ScriptReader<T> {
    scripts: Arc<Vec<Script<T>>>,
    split: ScriptSplit,
    clock: Arc<dyn Clock>,
    paused_since: Option<Duration>,
}

impl<T: Data + Sync> SplitReader for ScriptReader<T> {
    type Item = T;
    type Split = ScriptSplit;

    fn poll(&mut self, out: &mut SourceOutput<T>) -> Result<Poll> {
        let steps = self.scripts.get(self.split.script).map_or(&[][..], |script| &script.steps);
        let mut timestamps = None;
        while !out.is_full() {
            let Some(step) = steps.get(self.split.done) else { return Ok(Poll::End) };
            match step {
                // Records with a timestamp and records without do not share a batch.
                Step::Record(_, timestamp) if timestamps.is_some_and(|t| t != timestamp.is_some()) => break,
                Step::Record(value, timestamp) => {
                    timestamps = Some(timestamp.is_some());
                    match timestamp {
                        Some(timestamp) => out.emit_at(value.clone(), *timestamp),
                        None => out.emit(value.clone()),
                    }
                    self.split.done += 1;
                    continue;
                }
                Step::Watermark(watermark) => out.emit_watermark(*watermark),
                Step::Idle => out.mark_idle(),
                Step::Pause(time) => {
                    let now = self.clock.monotonic();
                    let since = *self.paused_since.get_or_insert(now);
                    let left = time.saturating_sub(now.saturating_sub(since));
                    if !left.is_zero() {
                        return Ok(Poll::Idle(Some(left)));
                    }
                    self.paused_since = None;
                }
            }
            self.split.done += 1;
            break;
        }
        Ok(Poll::More)
    }
    fn position(&self) -> ScriptSplit {
        self.split
    }
}
