//! A table that is changed while it is written, against a model at each barrier.

use super::*;
use crate::base::hash::hash_of;
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, SlotEntry, SnapshotChain, Upsert};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<u16>),
    Remove(Vec<u16>),
    EndBatch,
    /// Up to so many bytes.
    Write(usize),
    Barrier {
        full: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys =
        || prop_oneof![prop::collection::vec(0..20u16, 0..20), prop::collection::vec(0..300u16, 0..200)];
    let step = prop_oneof![
        6 => keys().prop_map(Step::Upsert),
        6 => keys().prop_map(Step::Remove),
        3 => Just(Step::EndBatch),
        6 => (1..400usize).prop_map(Step::Write),
        3 => (0..4u8).prop_map(|full| Step::Barrier { full: full == 0 }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Adds one to the value of each key.
struct Rows<'a> {
    keys: &'a [u16],
    changes: &'a mut Changes,
}

impl Upsert<u16, u64> for Rows<'_> {
    fn is_key(&self, i: usize, key: &u16) -> bool {
        self.keys[i] == *key
    }
    fn found(&mut self, i: usize, slot: Slot, value: &mut u64) -> Result<()> {
        self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&(self.keys[i], *value))))?;
        *value += 1;
        Ok(())
    }
    fn insert(&mut self, i: usize, slot: Slot) -> Result<(u16, u64)> {
        self.changes.creating(slot)?;
        Ok((self.keys[i], 1))
    }
}

/// A table with its changes, the chain of its complete snapshots, and what each chain must read as.
#[derive(Default)]
struct Rig {
    table: KeyTable<u16, u64>,
    changes: Changes,
    chain: Vec<OperatorSnapshot>,
    /// The snapshot under way, and the table at its barrier.
    under_way: Option<(OperatorSnapshot, bool, BTreeMap<u16, u64>)>,
    model: BTreeMap<u16, u64>,
    /// Entries of the last delta, and how many keys it may have.
    completed: usize,
}

impl Rig {
    fn write(&mut self, bytes: usize) {
        let Some((mut snapshot, full, model)) = self.under_way.take() else { return };
        let (table, section) = (&self.table, snapshot.section("table"));
        let done = self.changes.write(section, bytes, |slot, into| {
            let entry = table.key(slot).zip(table.value(slot));
            entry.map(|entry| into.put_slot(slot, Some(&entry))).transpose().map(|put| put.is_some())
        });
        if !done.unwrap() {
            self.under_way = Some((snapshot, full, model));
            return;
        }
        if full {
            self.chain.clear();
        }
        self.chain.push(snapshot);
        self.completed += 1;
        let state = OperatorState::new(vec![SnapshotChain::new(self.chain.clone())]);
        let entries: Vec<SlotEntry<(u16, u64)>> = state.table("table").collect::<Result<_>>().unwrap();
        let restored: BTreeMap<u16, u64> = entries.iter().map(|&(_, _, entry)| entry).collect();
        assert_eq!(restored.len(), entries.len(), "a key is in two slots");
        assert_eq!(restored, model);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Upsert(keys) => {
                let hashes: Vec<u64> = keys.iter().map(hash_of).collect();
                self.table.upsert_batch(&hashes, &mut Rows { keys, changes: &mut self.changes }).unwrap();
                keys.iter().for_each(|&key| *self.model.entry(key).or_default() += 1);
            }
            Step::Remove(keys) => {
                for key in keys {
                    let Some(slot) = self.table.get(key, hash_of(key)) else { continue };
                    let entry = self.table.key(slot).zip(self.table.value(slot)).unwrap();
                    self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&entry))).unwrap();
                    self.table.remove(slot);
                    self.model.remove(key);
                }
            }
            Step::EndBatch => self.table.end_batch(),
            Step::Write(bytes) => self.write(*bytes),
            Step::Barrier { full } => {
                self.table.end_batch();
                // What the coordinator does: the first one is full, and one that follows a snapshot that was given up
                // may be a delta here, since all that is known is that the chain ends before it.
                let full = *full || self.chain.is_empty();
                self.changes.cut(full, self.table.slots());
                self.under_way = Some((OperatorSnapshot::default(), full, self.model.clone()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// S11: what is written in slices, while the table goes on, is the table as it was at the barrier.
    #[test]
    fn s11_a_chain_reads_as_the_table_was_at_the_barrier(steps in steps()) {
        let mut rig = Rig::default();
        steps.iter().for_each(|step| rig.step(step));
        rig.step(&Step::Barrier { full: false });
        rig.write(usize::MAX);
        assert!(rig.completed > 0 && rig.under_way.is_none());
    }
}

/// S11: a snapshot between full ones holds what has changed, each entry once.
#[test]
fn s11_a_delta_holds_what_has_changed() {
    let mut rig = Rig::default();
    rig.step(&Step::Upsert((0..1_000).collect()));
    assert_eq!(rig.changes.memory_bytes(), 0, "nothing is noted before the first barrier");
    rig.step(&Step::Barrier { full: false });
    rig.write(100);
    rig.step(&Step::Upsert((500..600).collect()));
    rig.step(&Step::Upsert((550..600).collect()));
    rig.write(usize::MAX);
    assert_eq!(rig.chain[0].len("table"), 1_000);
    rig.step(&Step::Remove((990..1_000).collect()));
    rig.step(&Step::Barrier { full: false });
    rig.step(&Step::Upsert((0..300).collect()));
    rig.step(&Step::Upsert((2_000..2_005).collect()));
    rig.write(usize::MAX);
    assert_eq!(rig.chain[1].len("table"), 110);
    rig.step(&Step::Barrier { full: false });
    rig.write(usize::MAX);
    assert_eq!(rig.chain[2].len("table"), 305);
    rig.step(&Step::Barrier { full: true });
    rig.write(usize::MAX);
    assert_eq!((rig.chain.len(), rig.chain[0].len("table")), (1, 995), "a full one has no empty slots");
}

/// A slice is about as long as it may be, whatever the table holds.
#[test]
fn a_slice_ends_with_the_entry_that_fills_it() {
    let mut rig = Rig::default();
    rig.step(&Step::Upsert((0..1_000).collect()));
    rig.step(&Step::Barrier { full: true });
    let mut bytes = 0;
    while let Some((snapshot, ..)) = &rig.under_way {
        assert!(snapshot.bytes() - bytes < 110);
        bytes = snapshot.bytes();
        rig.write(100);
    }
    assert!(bytes > 5_000);
}
