//! Writer: turns what subtasks have taken into durable state.

use super::messages::{Message, News, Requests, SubtaskState};
use crate::base::batch::CheckpointId;
use crate::base::data::Timestamp;
use crate::base::error::Result;
use crate::base::failpoint;
use crate::base::mutant;
use crate::executors::chain::Taken;
use crate::operator::sink::COMMITTABLES;
use crate::semantics::state::OperatorSnapshot;
use crate::services::checkpoint::{StateDir, StateHandle, StateWriter};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes the state files of one attempt. One for a job, on a thread of its own or inline.
pub struct Writer {
    dir: StateDir,
    requests: Arc<Requests>,
    /// The index of each subtask within its task.
    indices: Vec<usize>,
    /// Snapshots under way: checkpoint, subtask, step.
    open: BTreeMap<(CheckpointId, usize, usize), StateWriter>,
}

fn append(writer: &mut StateWriter, part: &OperatorSnapshot) -> Result<()> {
    let forgotten = usize::from(mutant::is("section_forgotten"));
    part.sections()
        .skip(forgotten)
        .try_for_each(|(name, section)| writer.append(name, section.len(), section.bytes()))
}

impl Writer {
    pub(super) fn new(dir: StateDir, requests: Arc<Requests>, indices: Vec<usize>) -> Writer {
        Writer { dir, requests, indices, open: BTreeMap::new() }
    }

    /// Does what a message asks for, and says what came of it.
    pub fn handle(&mut self, message: Message) -> Option<News> {
        match message {
            Message::Taken { taken: Taken::Part { checkpoint, .. }, .. }
            | Message::Taken { taken: Taken::Complete { checkpoint, .. }, .. }
                if !self.requests.is_live(checkpoint) =>
            {
                None
            }
            Message::Taken { subtask, taken: Taken::Part { checkpoint, step, part } } => {
                let index = self.indices[subtask];
                let dir = &self.dir;
                let writer = self
                    .open
                    .entry((checkpoint, subtask, step))
                    .or_insert_with(|| dir.at_barrier(checkpoint, step, index));
                let appended = append(writer, &part);
                self.requests.recycle(part);
                let error = appended.err()?;
                Some(News::Failed { checkpoint: Some(checkpoint), error })
            }
            Message::Taken { subtask, taken: Taken::Complete { checkpoint, steps } } => {
                Some(match self.complete(subtask, checkpoint, steps) {
                    Ok(state) => News::Written { subtask, checkpoint, state },
                    Err(error) => News::Failed { checkpoint: Some(checkpoint), error },
                })
            }
            Message::Finished { subtask, states } => Some(match self.finish(subtask, states) {
                Ok((state, committed)) => News::Finished { subtask, state, committed },
                Err(error) => News::Failed { checkpoint: None, error },
            }),
            Message::Discard(checkpoint) => {
                self.open.retain(|(id, ..), _| *id != checkpoint);
                self.dir.discard(checkpoint);
                None
            }
        }
    }

    fn complete(
        &mut self,
        subtask: usize,
        checkpoint: CheckpointId,
        steps: Vec<(usize, Timestamp)>,
    ) -> Result<SubtaskState> {
        let mut state = Vec::with_capacity(steps.len());
        for (step, watermark) in steps {
            let handle = match self.open.remove(&(checkpoint, subtask, step)) {
                Some(writer) => writer.finish()?,
                None => StateHandle::Inline(Default::default()),
            };
            failpoint::check("checkpoint.state_written")?;
            state.push((step, watermark, handle));
        }
        Ok(Arc::new(state))
    }

    /// Writes what a subtask keeps at its end, with what its sinks are to commit and without.
    fn finish(
        &mut self,
        subtask: usize,
        states: Vec<(usize, Timestamp, OperatorSnapshot)>,
    ) -> Result<(SubtaskState, SubtaskState)> {
        let (mut all, mut committed) = (Vec::new(), Vec::new());
        for (step, watermark, snapshot) in states {
            let index = self.indices[subtask];
            let mut writer = self.dir.at_end(step, index, false);
            append(&mut writer, &snapshot)?;
            let handle = writer.finish()?;
            committed.push((
                step,
                watermark,
                match snapshot.len(COMMITTABLES) {
                    0 => handle.clone(),
                    _ => append_committed(self.dir.at_end(step, index, true), &snapshot)?,
                },
            ));
            all.push((step, watermark, handle));
        }
        Ok((Arc::new(all), Arc::new(committed)))
    }
}

/// Writes what is left of what a subtask kept at its end, once what its sinks prepared is committed.
pub(super) fn append_committed(mut writer: StateWriter, snapshot: &OperatorSnapshot) -> Result<StateHandle> {
    for (name, section) in snapshot.sections().filter(|(name, _)| *name != COMMITTABLES) {
        writer.append(name, section.len(), section.bytes())?;
    }
    writer.finish()
}
