//! The table against a `BTreeMap`, with good hashes and bad ones.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Resolves keys to slots, with the hash that `hash` gives.
fn resolve(table: &mut KeyTable<u64, u64>, keys: &[u64], hash: fn(u64) -> u64) -> (Vec<Slot>, Vec<Slot>) {
    let hashes: Vec<u64> = keys.iter().map(|&k| hash(k)).collect();
    let (mut slots, mut created) = (vec![77], vec![77]);
    table.resolve(keys, &hashes, &mut slots, &mut created, || 0).unwrap();
    assert_eq!(slots.len(), keys.len());
    (slots, created)
}

fn good(key: u64) -> u64 {
    hash_of(&key)
}

/// Hashes that differ in nothing, in the segment only, in the upper bits of the tag, around the end of a segment.
const HASHES: [fn(u64) -> u64; 6] = [
    good,
    |_| 0,
    |k| k & 3,
    |k| (k & 7) << 45,
    |k| u64::MAX << 30 | (k & 3) << 20,
    |k| (k << 46) | (k % 300),
];

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u64>),
    Remove(Vec<u64>),
    EndBatch,
    Drain(usize),
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys =
        || prop_oneof![prop::collection::vec(0..40u64, 0..80), prop::collection::vec(0..400u64, 0..300)];
    let step = prop_oneof![
        8 => keys().prop_map(Step::Add),
        8 => keys().prop_map(Step::Remove),
        4 => Just(Step::EndBatch),
        1 => (1..50usize).prop_map(Step::Drain),
        1 => Just(Step::Release),
    ];
    prop::collection::vec(step, 0..30)
}

fn follows_model(steps: &[Step], hash: fn(u64) -> u64, large: bool) {
    let mut table = KeyTable::<u64, u64>::new();
    let mut model = BTreeMap::<u64, (Slot, u64)>::new();
    let mut emptied = BTreeSet::new();
    if large {
        // Past the border of the small table, so that the pipeline runs.
        let many: Vec<u64> = (1_000..40_000).collect();
        for (&key, slot) in many.iter().zip(resolve(&mut table, &many, good).0) {
            model.insert(key, (slot, 0));
        }
        assert!(!table.index.is_small());
    }
    let hash_for = |key: u64| if key < 1_000 { hash(key) } else { good(key) };
    for step in steps {
        match step {
            Step::Add(keys) => {
                let (slots, created) = resolve(&mut table, keys, hash);
                let mut fresh = Vec::new();
                for (&key, &slot) in keys.iter().zip(&slots) {
                    let entry = model.entry(key).or_insert_with(|| {
                        fresh.push(slot);
                        (slot, 0)
                    });
                    assert_eq!(entry.0, slot, "a key keeps its slot");
                    entry.1 += key + 1;
                    *table.value_mut(slot).unwrap() += key + 1;
                }
                assert_eq!(created, fresh);
                assert!(created.iter().all(|s| !emptied.contains(s)), "a slot came back too early");
            }
            Step::Remove(keys) => {
                for key in keys {
                    let slot = table.get(key, hash(*key));
                    assert_eq!(slot, model.get(key).map(|m| m.0));
                    if let Some(slot) = slot {
                        let value = model.remove(key).unwrap().1;
                        assert_eq!(table.remove(slot), Some((*key, value)));
                        assert_eq!(table.remove(slot), None);
                        emptied.insert(slot);
                    }
                }
            }
            Step::EndBatch => {
                table.end_batch();
                emptied.clear();
            }
            Step::Drain(max) => {
                let mut found = Vec::new();
                loop {
                    let before = found.len();
                    let more = table.drain(*max, |hash, key, value| {
                        let expected = hash_for(key);
                        assert!(hash == expected || expected == 0);
                        found.push((key, value));
                    });
                    assert!(found.len() - before <= *max);
                    assert_eq!(table.len(), model.len() - found.len());
                    if !more {
                        break;
                    }
                    assert!(table.upsert_batch(&[], &mut Fail).is_err(), "not while it is drained");
                }
                found.sort_unstable();
                assert!(found.into_iter().eq(model.iter().map(|(&k, m)| (k, m.1))));
                model.clear();
                emptied.clear();
            }
            Step::Release => {
                table.release();
                assert_eq!(table.memory_bytes(), 0);
                model.clear();
                emptied.clear();
            }
        }
        assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
    }
    let mut found: Vec<_> = table.iter().map(|(slot, _, &k, &v)| (k, (slot, v))).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(model.iter().map(|(&k, &m)| (k, m))));
    for (key, (slot, value)) in &model {
        assert_eq!(table.get(key, hash_for(*key)), Some(*slot));
        assert_eq!((table.key(*slot), table.value(*slot)), (Some(key), Some(value)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_small_table_follows_the_model(steps in steps(), hash in 0..HASHES.len()) {
        follows_model(&steps, HASHES[hash], false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_large_table_follows_the_model(steps in steps(), hash in 0..HASHES.len()) {
        follows_model(&steps, HASHES[hash], true);
    }
}

#[test]
fn nothing_is_allocated_before_the_first_key_and_little_for_a_few() {
    let mut table = KeyTable::<u64, u64>::new();
    assert_eq!((table.memory_bytes(), table.get(&1, 5), table.remove(0)), (0, None, None));
    assert!(!table.drain(10, |_, _, _| ()));
    resolve(&mut table, &[], good);
    assert_eq!(table.memory_bytes(), 0);
    resolve(&mut table, &[1, 2, 3], good);
    assert!(table.memory_bytes() < 512, "{}", table.memory_bytes());
}

/// Tombstones or lost slots would show as growth.
#[test]
fn a_million_transient_keys_do_not_grow_the_table() {
    let mut table = KeyTable::<u64, u64>::new();
    resolve(&mut table, &(0..30_000).collect::<Vec<_>>(), good);
    let mut settled = 0;
    for round in 1..1_000u64 {
        let keys: Vec<u64> = (round * 1_000_000..).take(1_000).collect();
        let (slots, created) = resolve(&mut table, &keys, good);
        assert_eq!(slots, created);
        assert!(slots.iter().all(|&slot| table.remove(slot).is_some()));
        table.end_batch();
        match round {
            ..=20 => settled = table.memory_bytes(),
            _ => assert_eq!(table.memory_bytes(), settled),
        }
    }
    assert_eq!(table.len(), 30_000);
}

#[test]
fn keys_of_one_hash_range_spread_over_the_index() {
    let mut table = KeyTable::<u64, u64>::new();
    let range: Vec<u64> = (0..20_000_000u64).filter(|&k| good(k) >> 55 == 3).collect();
    resolve(&mut table, &range, good);
    assert!(table.index.memory_bytes() <= range.len() as u64 * 28, "{} keys", range.len());
}

#[test]
fn a_full_table_is_an_error_that_says_what_to_do() {
    let mut table = KeyTable::<u64, u64>::new();
    table.slots_max = 3;
    resolve(&mut table, &[1, 2, 3, 2], good);
    let (mut slots, mut created) = (Vec::new(), Vec::new());
    let error = table.resolve(&[1, 4], &[good(1), good(4)], &mut slots, &mut created, || 0).unwrap_err();
    assert!(error.to_string().contains("3 keys") && error.to_string().contains("parallelism"), "{error}");
    assert_eq!((slots.len(), table.len(), table.get(&4, good(4))), (1, 3, None));
    table.remove(slots[0]);
    table.end_batch();
    assert_eq!(resolve(&mut table, &[4], good).0, slots);
}

struct Fail;

impl Upsert<u64, u64> for Fail {
    fn is_key(&self, _: usize, key: &u64) -> bool {
        *key == 1
    }
    fn found(&mut self, _: usize, _: Slot, _: &mut u64) -> Result<()> {
        Err(Error::Cancelled)
    }
    fn insert(&mut self, _: usize, _: Slot) -> Result<(u64, u64)> {
        Err(Error::Cancelled)
    }
}

#[test]
fn an_error_of_user_code_leaves_the_table_as_it_was() {
    let mut table = KeyTable::<u64, u64>::new();
    assert!(table.upsert_batch(&[good(1)], &mut Fail).is_err());
    assert!(table.is_empty());
    let slot = resolve(&mut table, &[1], good).0[0];
    assert!(table.upsert_batch(&[good(1)], &mut Fail).is_err());
    assert!(table.upsert_batch(&[good(2)], &mut Fail).is_err());
    assert_eq!((table.len(), table.get(&1, good(1)), table.get(&2, good(2))), (1, Some(slot), None));
}

#[test]
fn hash_zero_comes_back_as_the_hash_of_the_key() {
    let mut table = KeyTable::<u64, u64>::new();
    let slot = resolve(&mut table, &[5], |_| 0).0[0];
    assert_eq!((table.get(&5, 0), table.hash(slot)), (Some(slot), Some(good(5))));
    let slot = resolve(&mut table, &[6], good).0[0];
    assert_eq!((table.hash(slot), table.hash(99)), (Some(good(6)), None));
}

#[test]
fn a_drain_of_nothing_has_begun_all_the_same() {
    let mut table = KeyTable::<u64, u64>::new();
    resolve(&mut table, &[1], good);
    assert!(table.drain(0, |_, _, _| ()));
    assert!(table.upsert_batch(&[good(1)], &mut Fail).is_err_and(|e| !matches!(e, Error::Cancelled)));
    assert!(!table.drain(1, |_, key, _| assert_eq!(key, 1)));
    assert_eq!(resolve(&mut table, &[1], good).1, [0]);
}

#[test]
fn keys_and_hashes_of_different_number_are_an_error() {
    let mut table = KeyTable::<u64, u64>::new();
    assert!(table.resolve(&[1], &[], &mut Vec::new(), &mut Vec::new(), || 0).is_err());
}
