//! Kept: the outputs of finished units, with the memory that they hold reserved until nobody will read them.
//!
//! Place: one for each staged run, behind a lock: units take their inputs from it and reserve room for what they leave;
//! the thread that runs the job puts in what units have left and drops what is no longer needed.
//! Invariants: an output in memory is reserved from before its writer's share ends until it is dropped, so finished
//! outputs never hold more than the budget, and with a share for each worker that is the memory of a run. A unit holds on
//! to nothing but the inputs of its own stage, so what is dropped here is really gone.
//! Limits: a single row that is larger than a writer's share is held, though it exceeds it.

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
}

/// Outputs with their memory.
pub struct Kept {
    /// Of stages that are complete.
    outputs: Outputs,
    /// Of units whose stage is not complete, by edge and unit.
    pending: BTreeMap<usize, BTreeMap<usize, Arc<ShuffleOutput>>>,
    reservations: BTreeMap<usize, Reservation>,
    budget: MemoryBudget,
}

impl Kept {
    /// Nothing, with room for what the budget allows.
    pub fn new(budget: MemoryBudget) -> Kept {
        Kept { outputs: Outputs::new(), pending: BTreeMap::new(), reservations: BTreeMap::new(), budget }
    }

    /// The budget of finished outputs.
    pub fn budget(&self) -> MemoryBudget {
        self.budget.clone()
    }

    /// What has come over some edges.
    pub fn inputs(&self, edges: impl Iterator<Item = usize>) -> Outputs {
        edges.filter_map(|edge| Some((edge, self.outputs.get(&edge)?.clone()))).collect()
    }

    /// Takes over what a unit has left. It can be read once its edge is complete.
    pub fn put(&mut self, unit: usize, left: Left) {
        let Left { edge, output, reservation } = left;
        self.pending.entry(edge).or_default().insert(unit, output);
        let empty = || self.budget.reservation();
        self.reservations.entry(edge).or_insert_with(empty).absorb(reservation);
    }

    /// All producing units of an edge have succeeded.
    pub fn complete(&mut self, edge: usize) {
        let units = self.pending.remove(&edge).unwrap_or_default();
        self.outputs.insert(edge, units.into_values().collect());
    }

    /// A partition of an edge will not be read again.
    pub fn release(&mut self, edge: usize, partition: usize) {
        let freed: usize = self.outputs.get(&edge).into_iter().flatten().map(|o| o.release(partition)).sum();
        if let Some(reservation) = self.reservations.get_mut(&edge) {
            reservation.shrink(freed as u64);
        }
    }

    /// An edge will not be read again.
    pub fn forget(&mut self, edge: usize) {
        self.outputs.remove(&edge);
        self.reservations.remove(&edge);
    }
}

/// Ends a writer that may hold up to `share` bytes: with its rows in memory if the budget has as much left, else on disk.
/// What is not needed goes back at once.
pub fn finish<E>(
    budget: &MemoryBudget,
    share: u64,
    end: impl FnOnce(Remainder) -> Result<ShuffleOutput, E>,
) -> Result<(Arc<ShuffleOutput>, Reservation), E> {
    let mut reservation = budget.reservation();
    let fits = reservation.try_grow(share);
    let output = end(if fits { Remainder::Memory } else { Remainder::Disk })?;
    let held = output.memory_bytes() as u64;
    reservation.shrink(reservation.bytes().saturating_sub(held));
    // Only a row larger than the share holds more than was reserved; it counts as far as there is room.
    let _ = reservation.try_grow(held.saturating_sub(reservation.bytes()));
    Ok((Arc::new(output), reservation))
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
        let (output, reservation) = finish(budget, SHARE, |r| writer(rows).finish(r)).unwrap();
        Left { edge, output, reservation }
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
        let second: Result<_> = finish(&budget, SHARE, |_| Err(Error::Cancelled));
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
            kept.put(unit, left);
        }
        let all = budget.used();
        assert!(kept.inputs([5, 6].into_iter()).is_empty(), "no stage is complete");
        kept.complete(5);
        kept.complete(6);
        let rows: Vec<u64> = kept.inputs([5].into_iter())[&5].iter().map(|o| o.stats().rows).collect();
        assert_eq!(rows, [300, 310], "in the order of units");
        let held = |kept: &Kept, edge| kept.outputs[&edge].iter().map(|o| o.memory_bytes() as u64).sum::<u64>();
        kept.release(5, 0);
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
        kept.complete(1);
        drop(kept);
        assert_eq!(budget.used(), 0);
    }
}
