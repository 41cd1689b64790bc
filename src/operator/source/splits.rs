//! Splits: which splits of a source are still to be read in an attempt, by whom, and what a checkpoint says of them.
//!
//! Method: splits are numbered as they were enumerated at the begin of the job. A checkpoint holds all of them (from the
//! subtask that [lists](Share::listing) them), the numbers of those that have been read, and those that are being read with
//! their positions. What is still to be read is all others: so it does not matter which subtask takes which split
//! when.
//! After a restore the list is written anew, with the positions of the restore and a higher generation, since a subtask
//! that had finished before keeps the list that it has written.

use crate::base::batch::Barrier;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::mutant;
use crate::semantics::state::tables::{EntryTable, Layout};
use crate::semantics::state::{OperatorSnapshot, OperatorState, Slot, SnapshotChain, StateTable};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Section of all splits, by number: generation, split, and how far its event time had come.
const SPLITS: &str = "splits";
/// Section of the numbers of those that have been read.
const READ: &str = "read";
/// Section of those that are being read: number, split at its position, and how far its event time has come.
const OPEN: &str = "open";
/// ... and the generation of the listing that its positions are of.
const GENERATION: &str = "generation";

/// What the snapshots of a source hold.
pub(super) fn state_tables<P: Data>() -> Vec<Box<dyn StateTable>> {
    vec![
        EntryTable::<(u64, P, Option<Timestamp>)>::boxed(
            SPLITS,
            Layout::Numbered,
            &["generation", "split", "watermark"],
        ),
        EntryTable::<()>::boxed(READ, Layout::Numbered, &[]),
        EntryTable::<(Slot, P, Option<Timestamp>)>::boxed(
            OPEN,
            Layout::Entries,
            &["number", "split", "watermark"],
        ),
        EntryTable::<(u64,)>::boxed(GENERATION, Layout::Entries, &["generation"]),
    ]
}

/// A split with its number.
#[derive(Clone)]
pub(super) struct Numbered<P> {
    pub(super) number: Slot,
    pub(super) split: P,
    /// What it had promised when a checkpoint was taken.
    pub(super) watermark: Option<Timestamp>,
}

/// Splits that wait to be read.
pub(super) struct SplitQueue<P>(Arc<Mutex<VecDeque<Numbered<P>>>>);

impl<P> Clone for SplitQueue<P> {
    fn clone(&self) -> Self {
        SplitQueue(self.0.clone())
    }
}

impl<P> SplitQueue<P> {
    fn new(splits: impl IntoIterator<Item = Numbered<P>>) -> Self {
        SplitQueue(Arc::new(Mutex::new(splits.into_iter().collect())))
    }
    fn lock(&self) -> MutexGuard<'_, VecDeque<Numbered<P>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn take(&self) -> Option<Numbered<P>> {
        self.lock().pop_front()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// All splits as the checkpoints of an attempt list them.
#[derive(Clone)]
struct Listing<P> {
    generation: u64,
    splits: Vec<Numbered<P>>,
    /// Those that were read before the attempt.
    read: Vec<Slot>,
}

/// The splits of a source in one attempt.
pub(super) struct Splits<P> {
    listing: Listing<P>,
    /// The subtask that writes the listing: the first one that runs.
    lister: usize,
    waiting: Waiting<P>,
}

enum Waiting<P> {
    /// A subtask takes the next one when it has read one.
    Shared(SplitQueue<P>),
    /// Kept, so that a repeated unit reads the same again.
    Own(Vec<VecDeque<Numbered<P>>>),
}

/// How splits are dealt out.
pub(super) struct Dealing<'a, P> {
    /// Taken on demand from one queue.
    pub(super) shared: bool,
    pub(super) parallelism: usize,
    pub(super) weight: &'a dyn Fn(&P) -> u64,
}

impl<P: Data> Splits<P> {
    /// All splits, from their beginnings.
    pub(super) fn new(splits: Vec<P>, dealing: &Dealing<'_, P>) -> Result<Splits<P>> {
        let number = |(number, split)| Ok(Numbered { number: slot(number)?, split, watermark: None });
        let splits = splits.into_iter().enumerate().map(number).collect::<Result<Vec<_>>>()?;
        let listing = Listing { generation: 0, splits: splits.clone(), read: Vec::new() };
        Ok(Splits { listing, lister: 0, waiting: deal(splits, dealing, &[]) })
    }

    /// All splits from their beginnings, by number.
    pub(super) fn all(&self) -> Vec<P> {
        self.listing.splits.iter().map(|numbered| numbered.split.clone()).collect()
    }

    /// The same splits, all of them still to be read.
    pub(super) fn again(&self, dealing: &Dealing<'_, P>) -> Splits<P> {
        let listing = self.listing.clone();
        let waiting = deal(listing.splits.clone(), dealing, &[]);
        Splits { listing, lister: 0, waiting }
    }

    /// What a checkpoint says is still to be read. Subtasks that `finished` read nothing.
    pub(super) fn restored(
        state: &OperatorState,
        dealing: &Dealing<'_, P>,
        finished: &[bool],
    ) -> Result<Splits<P>> {
        let mut all: BTreeMap<Slot, (u64, P, Option<Timestamp>)> = BTreeMap::new();
        for entry in state.table(SPLITS) {
            let (_, number, entry): (_, _, (u64, P, Option<Timestamp>)) = entry?;
            if all.get(&number).is_none_or(|known| known.0 < entry.0) {
                all.insert(number, entry);
            }
        }
        let generation = all.values().map(|entry| entry.0).max().unwrap_or(0) + 1;
        let mut read = BTreeSet::new();
        for entry in state.table::<()>(READ) {
            read.insert(entry?.1);
        }
        let mut open: BTreeMap<Slot, (u64, Numbered<P>)> = BTreeMap::new();
        for newest in state.subtasks().iter().filter_map(SnapshotChain::newest) {
            // A subtask that was drained in the middle of a split keeps its position; who has read on is further.
            let generation = newest.entries(GENERATION).next().transpose()?.unwrap_or(0);
            for entry in newest.entries(OPEN) {
                let (number, split, watermark): (Slot, P, Option<Timestamp>) = entry?;
                if open.get(&number).is_none_or(|known| known.0 < generation) {
                    open.insert(number, (generation, Numbered { number, split, watermark }));
                }
            }
        }
        let mut waiting: Vec<Numbered<P>> = Vec::new();
        let mut unopened = Vec::new();
        for (number, (_, split, watermark)) in all {
            match open.remove(&number).map(|(_, numbered)| numbered) {
                _ if read.contains(&number) => {}
                Some(_) if mutant::is("split_from_start") => {
                    unopened.push(Numbered { number, split, watermark })
                }
                Some(split) => waiting.push(split),
                None => unopened.push(Numbered { number, split, watermark }),
            }
        }
        if let Some(number) = open.keys().find(|number| !read.contains(number)) {
            return Err(Error::Codec(format!("the checkpoint reads split {number} and does not list it")));
        }
        // Those that had been begun first: they hold event time back.
        waiting.extend(unopened);
        let listing = Listing { generation, splits: waiting.clone(), read: read.into_iter().collect() };
        let lister = finished.iter().position(|&finished| !finished).unwrap_or(0);
        Ok(Splits { listing, lister, waiting: deal(waiting, dealing, finished) })
    }

    /// What a subtask reads.
    pub(super) fn share(&self, subtask: usize) -> Share<P> {
        let queue = match &self.waiting {
            Waiting::Shared(queue) => queue.clone(),
            Waiting::Own(own) => SplitQueue::new(own.get(subtask).into_iter().flatten().cloned()),
        };
        let listing = (subtask == self.lister).then(|| self.listing.clone());
        Share { queue, listing, generation: self.listing.generation, read: Vec::new(), written: 0 }
    }

    /// The splits that a subtask reads where they are dealt out beforehand.
    pub(super) fn own(&self, subtask: usize) -> Vec<P> {
        match &self.waiting {
            Waiting::Shared(_) => Vec::new(),
            Waiting::Own(own) => own.get(subtask).into_iter().flatten().map(|n| n.split.clone()).collect(),
        }
    }
}

impl<P> Share<P> {
    /// A part of what a subtask reads: nobody asks for snapshots of it.
    pub(super) fn part(splits: Vec<P>) -> Share<P> {
        let numbered = splits.into_iter().map(|split| Numbered { number: 0, split, watermark: None });
        Share { queue: SplitQueue::new(numbered), generation: 0, listing: None, read: Vec::new(), written: 0 }
    }
}

fn slot(number: usize) -> Result<Slot> {
    Slot::try_from(number).map_err(|_| Error::config(format!("a source has more than {} splits", Slot::MAX)))
}

/// Gives each split, in order, to the running subtask that has the least so far.
fn deal<P>(splits: Vec<Numbered<P>>, dealing: &Dealing<'_, P>, finished: &[bool]) -> Waiting<P> {
    if dealing.shared {
        return Waiting::Shared(SplitQueue::new(splits));
    }
    let runs = |subtask: usize| finished.get(subtask).is_none_or(|finished| !finished);
    let mut own: Vec<(u64, VecDeque<Numbered<P>>)> =
        (0..dealing.parallelism).map(|_| (0, VecDeque::new())).collect();
    for split in splits {
        let weight = (dealing.weight)(&split.split).max(1);
        let running = own.iter_mut().enumerate().filter(|(subtask, _)| runs(*subtask));
        if let Some((_, least)) = running.min_by_key(|(_, (total, _))| *total) {
            least.0 = least.0.saturating_add(weight);
            least.1.push_back(split);
        }
    }
    Waiting::Own(own.into_iter().map(|(_, splits)| splits).collect())
}

/// What one subtask reads and has read.
pub(super) struct Share<P> {
    pub(super) queue: SplitQueue<P>,
    listing: Option<Listing<P>>,
    /// Of the attempt's listing.
    generation: u64,
    read: Vec<Slot>,
    /// Of `read`, those that are in snapshots already.
    written: usize,
}

impl<P: Data> Share<P> {
    /// A split has been read to its end.
    pub(super) fn has_read(&mut self, number: Slot) {
        self.read.push(number);
    }

    /// Puts what a restore needs into a snapshot. `open` are the splits that are being read, at their positions.
    pub(super) fn snapshot(
        &mut self,
        barrier: Barrier,
        open: impl Iterator<Item = Numbered<P>>,
        into: &mut OperatorSnapshot,
    ) -> Result<()> {
        if barrier.full {
            self.written = 0;
            if let Some(listing) = &self.listing {
                let section = into.section(SPLITS);
                for Numbered { number, split, watermark } in &listing.splits {
                    section.put_slot(*number, Some(&(listing.generation, split, watermark)))?;
                }
                let section = into.section(READ);
                listing.read.iter().try_for_each(|number| section.put_slot(*number, Some(&())))?;
            }
        }
        let section = into.section(READ);
        for number in &self.read[self.written..] {
            section.put_slot(*number, Some(&()))?;
        }
        self.written = self.read.len();
        let section = into.section(OPEN);
        for Numbered { number, split, watermark } in open {
            section.put(&(number, split, watermark))?;
        }
        into.put(GENERATION, &self.generation)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealing(shared: bool, parallelism: usize) -> Dealing<'static, u64> {
        Dealing { shared, parallelism, weight: &|weight| *weight }
    }

    fn waiting(splits: &Splits<u64>, subtask: usize) -> Vec<u64> {
        let queue = splits.share(subtask).queue;
        std::iter::from_fn(|| queue.take()).map(|numbered| numbered.split).collect()
    }

    #[test]
    fn splits_go_to_the_subtask_with_the_least_weight() {
        let own = Splits::new(vec![10, 1, 1, 1, 7, 2], &dealing(false, 2)).unwrap();
        assert_eq!([waiting(&own, 0), waiting(&own, 1)], [vec![10, 2], vec![1, 1, 1, 7]]);
        let none = Splits::new(Vec::new(), &dealing(false, 3)).unwrap();
        assert!(waiting(&none, 2).is_empty());
    }

    fn taken(share: &mut Share<u64>, full: bool, open: &[(Slot, u64)]) -> OperatorSnapshot {
        let mut into = OperatorSnapshot::default();
        let open = open.iter().map(|&(number, split)| Numbered { number, split, watermark: Some(5) });
        share.snapshot(Barrier { id: 1, full, savepoint: false }, open, &mut into).unwrap();
        into
    }

    /// C1: a split is read from where it was, once, whoever had it; one that nobody had begun from its beginning.
    #[test]
    fn what_is_neither_read_nor_open_is_still_to_be_read() {
        let splits = Splits::new(vec![10, 11, 12, 13, 14], &dealing(true, 2)).unwrap();
        let (mut a, mut b) = (splits.share(0), splits.share(1));
        for _ in 0..4 {
            a.queue.take();
        }
        a.has_read(0);
        let first = SnapshotChain::new(vec![taken(&mut a, true, &[(2, 112)]), {
            a.has_read(2);
            taken(&mut a, false, &[])
        }]);
        b.has_read(1);
        let second = SnapshotChain::from(taken(&mut b, true, &[(3, 113)]));
        let state = OperatorState::new(vec![first.clone(), second]);
        for (shared, parallelism) in [(true, 1), (true, 3), (false, 1)] {
            let restored = Splits::restored(&state, &dealing(shared, parallelism), &[]).unwrap();
            assert_eq!(waiting(&restored, 0), [113, 14]);
        }
        // The subtask that had written the list had finished. It keeps its list, and another one writes a new one.
        let finished = [true, false];
        let restored = Splits::restored(&state, &dealing(false, 2), &finished).unwrap();
        assert_eq!([waiting(&restored, 0), waiting(&restored, 1)], [vec![], vec![113, 14]]);
        let mut b = restored.share(1);
        b.has_read(4);
        let again = OperatorState::new(vec![first, taken(&mut b, true, &[]).into()]);
        let again = Splits::restored(&again, &dealing(true, 2), &finished).unwrap();
        assert_eq!(waiting(&again, 1), [113], "at the position of the restore");
    }

    /// C6, C10: a subtask that was drained in the middle of a split has a position; who reads on there later is further.
    #[test]
    fn a_position_of_an_earlier_attempt_is_passed_over() {
        let splits = Splits::new(vec![10, 11], &dealing(false, 2)).unwrap();
        let (mut a, mut b) = (splits.share(0), splits.share(1));
        let drained = taken(&mut b, true, &[(1, 200)]);
        let state = OperatorState::new(vec![taken(&mut a, true, &[(0, 100)]).into(), drained.clone().into()]);
        let finished = [false, true];
        let restored = Splits::restored(&state, &dealing(false, 2), &finished).unwrap();
        assert_eq!(waiting(&restored, 0), vec![100, 200]);
        // Subtask 0 reads on in both, and there is another checkpoint.
        let mut a = restored.share(0);
        let state =
            OperatorState::new(vec![taken(&mut a, true, &[(0, 150), (1, 250)]).into(), drained.into()]);
        let restored = Splits::restored(&state, &dealing(false, 2), &finished).unwrap();
        assert_eq!(waiting(&restored, 0), vec![150, 250]);
    }
}
