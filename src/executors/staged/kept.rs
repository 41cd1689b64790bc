//! Kept: the outputs of finished units, with the memory that they hold reserved until nobody will read them.
//!
//! Place: one for each staged run, behind a lock: units take their inputs from it and reserve room for what they leave;
//! the thread that runs the job puts in what units have left and drops what is no longer needed.
//! Retention: a partition stays until its consumers have succeeded: what is in memory until the unit that reads it has,
//! what is in a file until their whole stage has. So whatever fails can be tried again from what is kept, and what is
//! damaged is made again by its producer, which may need outputs that are gone: then their producers run again, too.
//! Invariants: an output in memory is reserved from before its writer's share ends until it is dropped, so finished
//! outputs never hold more than the budget, and with a share for each worker that is the memory of a run. A unit holds on
//! to nothing but the inputs of its own stage, so what is dropped here is really gone. Checksums of partitions stay
//! when the output is gone: 8 bytes for each.
//! Limits: a single row of less than a megabyte that is larger than a writer's share is held, though it exceeds it.

use super::schedule::UnitId;
use crate::base::memory::{MemoryBudget, Reservation};
use crate::services::shuffle::{Remainder, ShuffleOutput};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Outputs of complete stages, by edge, each in the order of the producing units.
pub type Outputs = BTreeMap<usize, Vec<Arc<ShuffleOutput>>>;

/// What a finished unit leaves on one edge.
pub struct Left {
    /// The edge.
    pub edge: usize,
    /// The rows.
    pub output: Arc<ShuffleOutput>,
    /// The memory that they hold.
    pub reservation: Reservation,
    /// What became of rows that were in memory at the end.
    pub remainder: Remainder,
}

/// An output with its memory.
struct Held {
    output: Arc<ShuffleOutput>,
    reservation: Reservation,
}

/// What is remembered of the last attempt of a unit that has left something on an edge.
struct Mark {
    /// By partition.
    digests: Box<[u64]>,
    remainder: Remainder,
}

/// Outputs with their memory.
pub struct Kept {
    /// By edge and producing unit.
    outputs: BTreeMap<usize, BTreeMap<usize, Held>>,
    marks: BTreeMap<(usize, usize), Mark>,
    budget: MemoryBudget,
}

impl Kept {
    /// Nothing, with room for what the budget allows.
    pub fn new(budget: MemoryBudget) -> Kept {
        Kept { outputs: BTreeMap::new(), marks: BTreeMap::new(), budget }
    }

    /// The budget of finished outputs.
    pub fn budget(&self) -> MemoryBudget {
        self.budget.clone()
    }

    /// What has come over some edges.
    pub fn inputs(&self, edges: impl Iterator<Item = usize>) -> Outputs {
        let of = |edge| self.outputs.get(&edge).into_iter().flatten().map(|(_, held)| held.output.clone());
        edges.map(|edge| (edge, of(edge).collect())).collect()
    }

    /// The partitions of what an attempt of a unit has left that differ from what the attempt before it had left, if
    /// there was one.
    pub fn differing(&self, unit: usize, left: &Left) -> Vec<usize> {
        let Some(before) = self.marks.get(&(left.edge, unit)) else { return Vec::new() };
        let partitions = left.output.partitions().max(before.digests.len());
        let differs = |&at: &usize| before.digests.get(at) != Some(&left.output.partition_digest(at));
        (0..partitions).filter(differs).collect()
    }

    /// Takes over what an attempt of a unit has left on an edge, in place of what the attempt before it had left.
    pub fn put(&mut self, unit: usize, left: Left) {
        let Left { edge, output, reservation, remainder } = left;
        let digests = (0..output.partitions()).map(|partition| output.partition_digest(partition)).collect();
        self.marks.insert((edge, unit), Mark { digests, remainder });
        let held = Held { output, reservation };
        if let Some(old) = self.outputs.entry(edge).or_default().insert(unit, held) {
            old.discard();
        }
    }

    /// Only the checksums of what a unit had left before.
    pub fn remember(&mut self, unit: usize, edge: usize, digests: Vec<u64>) {
        self.marks.insert((edge, unit), Mark { digests: digests.into(), remainder: Remainder::Disk });
    }

    /// What became of rows in memory when the attempt before has left its output: the same makes equal outputs look equal.
    pub fn remainder_before(&self, edge: usize, id: UnitId) -> Option<Remainder> {
        self.marks.get(&(edge, id.unit)).map(|mark| mark.remainder)
    }

    /// Whether a partition of what a unit has left can still be read, as far as one can tell without reading.
    pub fn holds(&self, edge: usize, unit: usize, partition: usize) -> bool {
        let held = self.outputs.get(&edge).and_then(|units| units.get(&unit));
        held.is_some_and(|held| held.output.holds(partition))
    }

    /// Whether what a unit has left is known not to be what was written.
    pub fn is_damaged(&self, edge: usize, unit: usize) -> bool {
        let held = self.outputs.get(&edge).and_then(|units| units.get(&unit));
        held.is_some_and(|held| held.output.is_damaged())
    }

    /// A partition of an edge will not be read again.
    pub fn release(&mut self, edge: usize, partition: usize) {
        for held in self.outputs.get_mut(&edge).into_iter().flat_map(|units| units.values_mut()) {
            held.release(partition);
        }
    }

    /// A partition of what a unit has left will not be read again.
    pub fn release_of(&mut self, edge: usize, unit: usize, partition: usize) {
        if let Some(held) = self.outputs.get_mut(&edge).and_then(|units| units.get_mut(&unit)) {
            held.release(partition);
        }
    }

    /// What a unit has left on an edge is of no use any more.
    pub fn discard(&mut self, edge: usize, unit: usize) {
        if let Some(held) = self.outputs.get_mut(&edge).and_then(|units| units.remove(&unit)) {
            held.discard();
        }
    }

    /// An edge will not be read again.
    pub fn forget(&mut self, edge: usize) {
        self.outputs.remove(&edge).into_iter().flatten().for_each(|(_, held)| held.discard());
    }
}

impl Held {
    fn release(&mut self, partition: usize) {
        let freed = self.output.release(partition);
        self.reservation.shrink(freed as u64);
    }

    /// Files with names go, too, as soon as nobody reads them.
    fn discard(self) {
        self.output.keep(false);
    }
}

/// Ends a writer that may hold up to `share` bytes: with its rows in memory if the budget has as much left and nobody
/// asks for the disk, else on disk. What is not needed goes back at once.
pub fn finish<E>(
    budget: &MemoryBudget,
    share: u64,
    on_disk: bool,
    end: impl FnOnce(Remainder) -> Result<ShuffleOutput, E>,
) -> Result<(Arc<ShuffleOutput>, Reservation, Remainder), E> {
    let mut reservation = budget.reservation();
    let fits = !on_disk && reservation.try_grow(share);
    let remainder = if fits { Remainder::Memory } else { Remainder::Disk };
    let output = end(remainder)?;
    let held = output.memory_bytes() as u64;
    reservation.shrink(reservation.bytes().saturating_sub(held));
    // Only a row larger than the share holds more than was reserved; it counts as far as there is room.
    let _ = reservation.try_grow(held.saturating_sub(reservation.bytes()));
    Ok((Arc::new(output), reservation, remainder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{Error, Result};
    use crate::base::hash::hash_of;
    use crate::base::vfs::{MemVfs, Vfs};
    use crate::services::shuffle::{Identity, Partitioning, ShuffleContext, SortBuffer, key_bytes_order};

    const SHARE: u64 = 64 << 10;

    /// A writer with rows of 8 bytes for two partitions.
    fn writer(rows: u64) -> SortBuffer {
        let vfs = Arc::new(MemVfs::new());
        vfs.create_dir_all("/spill".as_ref()).unwrap();
        let context = ShuffleContext {
            vfs,
            dir: "/spill".into(),
            name: None,
            identity: Identity { job: 1, stage: 0, attempt: 0, producer: 0 },
            share_bytes: SHARE as usize,
            timestamps: false,
        };
        let halves = Partitioning::new(2, |hash| (hash >> 63) as usize).unwrap();
        let mut buffer = SortBuffer::new(context, halves, key_bytes_order());
        for i in 0..rows {
            buffer.append(hash_of(&i), None, &i.to_le_bytes(), &[]).unwrap();
        }
        buffer
    }

    fn left(budget: &MemoryBudget, edge: usize, rows: u64) -> Left {
        let ended = finish(budget, SHARE, false, |r| writer(rows).finish(r));
        let (output, reservation, remainder) = ended.unwrap();
        Left { edge, output, reservation, remainder }
    }

    #[test]
    fn what_is_reserved_is_what_is_held() {
        let budget = MemoryBudget::new(2 * SHARE);
        let one = left(&budget, 0, 500);
        let held = one.output.memory_bytes() as u64;
        assert!(held > 0 && one.reservation.bytes() == held && budget.used() == held);
        let two = left(&budget, 0, 500);
        assert_eq!(budget.used(), 2 * held);
        drop((one, two));
        assert_eq!(budget.used(), 0);
        assert!(budget.peak() <= budget.limit());
    }

    /// What does not fit goes to disk and reserves nothing.
    #[test]
    fn without_room_for_a_share_rows_go_to_disk() {
        let budget = MemoryBudget::new(SHARE - 1);
        let left = left(&budget, 0, 500);
        assert_eq!((left.output.memory_bytes(), left.reservation.bytes(), budget.peak()), (0, 0, 0));
        assert_eq!(left.output.stats().rows, 500);
    }

    #[test]
    fn a_unit_that_fails_gives_everything_back() {
        let budget = MemoryBudget::new(2 * SHARE);
        let first = left(&budget, 0, 100);
        let second: Result<_> = finish(&budget, SHARE, false, |_| Err(Error::Cancelled));
        assert!(second.is_err());
        assert_eq!(budget.used(), first.reservation.bytes());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn partitions_and_edges_give_back_what_they_held() {
        let budget = MemoryBudget::new(8 * SHARE);
        let mut kept = Kept::new(budget.clone());
        for (unit, edge) in [(1, 5), (0, 5), (0, 6)] {
            let left = left(&budget, edge, 300 + 10 * unit as u64);
            assert!(kept.differing(unit, &left).is_empty(), "the first attempt");
            kept.put(unit, left);
        }
        let all = budget.used();
        let rows: Vec<u64> = kept.inputs([5].into_iter())[&5].iter().map(|o| o.stats().rows).collect();
        assert_eq!(rows, [300, 310], "in the order of units");
        let held = |kept: &Kept, edge| {
            kept.outputs[&edge].values().map(|h| h.output.memory_bytes() as u64).sum::<u64>()
        };
        assert!(kept.holds(5, 0, 0) && !kept.holds(5, 2, 0) && !kept.holds(4, 0, 0));
        kept.release(5, 0);
        assert!(!kept.holds(5, 0, 0) && kept.holds(5, 0, 1) && kept.holds(6, 0, 0));
        assert_eq!(budget.used(), held(&kept, 5) + held(&kept, 6));
        assert!(budget.used() < all && held(&kept, 5) > 0);
        kept.release(5, 0);
        kept.release(5, 1);
        assert_eq!((budget.used(), held(&kept, 5)), (held(&kept, 6), 0));
        kept.forget(5);
        kept.forget(6);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_run_that_stops_half_way_gives_everything_back() {
        let budget = MemoryBudget::new(8 * SHARE);
        let mut kept = Kept::new(budget.clone());
        kept.put(0, left(&budget, 1, 100));
        kept.put(0, left(&budget, 2, 100));
        drop(kept);
        assert_eq!(budget.used(), 0);
    }

    /// C13: only the partitions that have become something else are named, even when the output before is gone.
    #[test]
    fn an_attempt_is_compared_with_the_one_before() {
        let budget = MemoryBudget::new(8 * SHARE);
        let mut kept = Kept::new(budget.clone());
        kept.put(0, left(&budget, 1, 100));
        let used = budget.used();
        let again = left(&budget, 1, 100);
        assert!(kept.differing(0, &again).is_empty(), "the same again");
        kept.put(0, again);
        assert_eq!(budget.used(), used, "the one before is gone");
        kept.discard(1, 0);
        assert_eq!((budget.used(), kept.holds(1, 0, 0)), (0, false));
        // One row more is in one of the two partitions.
        let more = (hash_of(&100u64) >> 63) as usize;
        assert_eq!(kept.differing(0, &left(&budget, 1, 101)), [more]);
        assert_eq!(kept.remainder_before(1, UnitId { stage: 0, unit: 0 }), Some(Remainder::Memory));
    }
}
