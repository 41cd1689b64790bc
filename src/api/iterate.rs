//! Loops in STREAMING: a stream part of which comes back to where it began.

use super::data_stream::DataStream;
use crate::base::config::Settings;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::erased::OneInput;
use crate::operator::pass::Pass;
use crate::plan::{Chaining, Node, Operation, PhysicalPlan};
use std::sync::Arc;

impl<T: Data> DataStream<T> {
    /// Lets records go round in a loop (STREAMING). `body` is given the records that come in and those that come back, and says which
    /// stream is fed back and which one leaves the loop; both are made from the one it was given. A record that is in neither
    /// is gone, one that is in both goes both ways. Where subtasks differ in number, or the stream says so
    /// ([`rebalance`](DataStream::rebalance), for instance), what comes back is redistributed, too.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().execution_mode(ExecutionMode::Streaming).parallelism(2);
    /// // How many steps each number takes to 1: halve it if it is even, else treble it and add one.
    /// let lengths = env.from_iter([1u64, 6, 27]).map(|n| (n, n, 0u64)).iterate("collatz", |numbers| {
    ///     let next = numbers.filter(|(_, n, _)| *n != 1).map(|(start, n, steps)| {
    ///         (start, if n % 2 == 0 { n / 2 } else { 3 * n + 1 }, steps + 1)
    ///     });
    ///     (next, numbers.filter(|(_, n, _)| *n == 1))
    /// });
    /// let mut lengths = lengths.map(|(n, _, steps)| (n, steps)).execute_and_collect("collatz")?.into_vec()?;
    /// lengths.sort();
    /// assert_eq!(lengths, [(1, 0), (6, 8), (27, 111)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// **The end.** The loop ends when its inputs have ended and no record is under way in it: this is counted, not guessed from a time
    /// without records. Then the highest watermark passes through the body, and what windows and timers emit at that goes
    /// round like everything else. Then the end does, and what the body would feed back at that is dropped and counted
    /// (`feedback_dropped_at_end`): that of timers of processing time that are pending, for instance.
    ///
    /// **Memory.** What is fed back never waits for room, so that the loop cannot wait for itself: beyond a few batches it is
    /// kept within a share of the job's [memory](super::Environment::memory) and then on disk (`feedback_spilled_bytes`).
    /// What has come back goes before what comes in.
    ///
    /// **Time.** Records keep their timestamps, and watermarks are those of the input: none comes back, and none waits for records that
    /// go round. So these may be late for windows in the loop and behind it.
    ///
    /// **Failures.** What is in the loop is not part of a checkpoint: after a failure it is lost. Therefore a job that takes
    /// checkpoints is refused unless it accepts that with
    /// [`checkpoint_lossy_loops`](super::Environment::checkpoint_lossy_loops).
    ///
    /// In BATCH, also as the choice of AUTOMATIC, it is refused; [`iterate_bulk`](DataStream::iterate_bulk) computes a stream from
    /// itself round after round.
    pub fn iterate<U: Data>(
        &self,
        name: &str,
        body: impl FnOnce(&DataStream<T>) -> (DataStream<T>, DataStream<U>),
    ) -> DataStream<U> {
        let operation = Operation::Operator(Arc::new(|| OneInput::boxed(Pass::<T>::new())));
        let mut node = Node::new(name, operation, vec![self.from.clone()]);
        node.chaining = Chaining::Head;
        let head = self.env.add(node);
        let (feedback, output) = body(&DataStream::of_node(&self.env, head));
        if self.env.same(&feedback.env) {
            self.env.change(head, |node| node.feedback = feedback.from);
        } else {
            self.env.mistake(&format!(
                "the loop '{name}' feeds back a stream of another environment; a job reads and writes within one environment"
            ));
        }
        output
    }
}

/// A10: refuses checkpoints that would not hold what they seem to.
pub(super) fn refuse_lossy(plan: &PhysicalPlan, settings: &Settings) -> Result<()> {
    match plan.loops.first() {
        Some(of) if settings.checkpoints.is_on() && !settings.checkpoints.lossy_loops => Err(Error::plan(
            &plan.steps[of.head].name,
            "the job takes checkpoints, and what goes round in a loop is part of none: after a failure it would be lost; accept that \
             with --checkpoint-lossy-loops, or take no checkpoints",
        )),
        _ => Ok(()),
    }
}
