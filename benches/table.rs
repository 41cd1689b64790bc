//! How fast is the keyed table next to a general hash map, per event, on one thread?
//!
//! `cargo bench --bench table [-- NAME]`. Three inputs: a running sum over ten million integer keys, a count of
//! Zipf-distributed words, a running sum over a thousand keys. Each is run four times per variant, interleaved,
//! and the best counts, as nanoseconds per event. Hashing is part of the time; making the input is not. The
//! results of all variants must be equal.

use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use mainstem::base::batch::BATCH_RECORDS;
use mainstem::base::hash::hash_of;
use mainstem::semantics::state::{KeyTable, Slot, Upsert};
use mainstem::{Key, Result};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn mix(i: u64) -> u64 {
    let x = (i ^ i >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

/// A number of keys, and the sum of everything emitted, to compare variants by.
type Outcome = (usize, i64);

struct Sum<'a> {
    keys: &'a [u64],
    emitted: i64,
}

impl Upsert<u64, (i64, u64)> for Sum<'_> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &u64) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, i: usize, _: Slot, value: &mut (i64, u64)) -> Result<()> {
        value.0 += (self.keys[i] & 7) as i64;
        value.1 += 1;
        self.emitted = self.emitted.wrapping_add(value.0);
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _: Slot) -> Result<(u64, (i64, u64))> {
        let value = (self.keys[i] & 7) as i64;
        self.emitted = self.emitted.wrapping_add(value);
        Ok((self.keys[i], (value, 1)))
    }
}

fn sum_upsert(events: &[u64]) -> Outcome {
    let mut table = KeyTable::<u64, (i64, u64)>::new();
    let (mut hashes, mut emitted) = (Vec::new(), 0i64);
    for keys in events.chunks(BATCH_RECORDS) {
        hashes.clear();
        hashes.extend(keys.iter().map(hash_of));
        let mut rows = Sum { keys, emitted };
        table.upsert_batch(&hashes, &mut rows).unwrap();
        emitted = rows.emitted;
    }
    (table.len(), emitted)
}

fn sum_resolve(events: &[u64]) -> Outcome {
    let mut table = KeyTable::<u64, (i64, u64)>::new();
    let (mut hashes, mut slots, mut created, mut emitted) = (Vec::new(), Vec::new(), Vec::new(), 0i64);
    for keys in events.chunks(BATCH_RECORDS) {
        hashes.clear();
        hashes.extend(keys.iter().map(hash_of));
        table.resolve(keys, &hashes, &mut slots, &mut created, || (0, 0)).unwrap();
        for (key, &slot) in keys.iter().zip(&slots) {
            if let Some(value) = table.value_mut(slot) {
                value.0 += (key & 7) as i64;
                value.1 += 1;
                emitted = emitted.wrapping_add(value.0);
            }
        }
        table.end_batch();
    }
    (table.len(), emitted)
}

fn sum_hashbrown(events: &[u64]) -> Outcome {
    let mut map = HashMap::<u64, (i64, u64), _>::with_hasher(FixedState::with_seed(1));
    let mut emitted = 0i64;
    for &key in events {
        let value = map.entry(key).or_insert((0, 0));
        value.0 += (key & 7) as i64;
        value.1 += 1;
        emitted = emitted.wrapping_add(value.0);
    }
    (map.len(), emitted)
}

/// Counts words.
struct Count<'a, K>(&'a [K]);

impl<K: Key> Upsert<K, u64> for Count<'_, K> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.0[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, _: usize, _: Slot, value: &mut u64) -> Result<()> {
        *value += 1;
        Ok(())
    }
    fn insert(&mut self, i: usize, _: Slot) -> Result<(K, u64)> {
        Ok((self.0[i].clone(), 1))
    }
}

fn squares(counts: impl Iterator<Item = u64>) -> i64 {
    counts.map(|c| (c * c) as i64).sum()
}

fn count_upsert(words: &[CompactString]) -> Outcome {
    let mut table = KeyTable::<CompactString, u64>::new();
    let mut hashes = Vec::new();
    for words in words.chunks(BATCH_RECORDS) {
        hashes.clear();
        hashes.extend(words.iter().map(hash_of));
        table.upsert_batch(&hashes, &mut Count(words)).unwrap();
    }
    (table.len(), squares(table.iter().map(|(_, _, _, &count)| count)))
}

fn count_hashbrown(words: &[CompactString]) -> Outcome {
    let mut map = HashMap::<CompactString, u64, _>::with_hasher(FixedState::with_seed(1));
    for word in words {
        match map.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                map.insert(word.clone(), 1);
            }
        }
    }
    (map.len(), squares(map.values().copied()))
}

/// Words with frequencies in proportion to 1 / rank.
fn zipf_words(distinct: usize, events: usize) -> Vec<CompactString> {
    let words: Vec<CompactString> = (0..distinct as u64)
        .map(|i| {
            let letters = 2 + mix(i ^ 77) % 3 + (i as f64 + 1.0).log2() as u64 / 3;
            let tail = (0..letters).map(|l| (b'a' + (mix(i * 31 + l) % 26) as u8) as char);
            compact_str::format_compact!("{}{i:x}", tail.collect::<CompactString>())
        })
        .collect();
    let mut total = 0.0;
    let cumulative: Vec<f64> = (0..distinct)
        .map(|i| {
            total += 1.0 / (i as f64 + 1.0);
            total
        })
        .collect();
    (0..events as u64)
        .map(|e| {
            let at = mix(e + 5) as f64 / u64::MAX as f64 * total;
            words[cumulative.partition_point(|&c| c < at).min(distinct - 1)].clone()
        })
        .collect()
}

type Variant<'a, T> = (&'a str, fn(&[T]) -> Outcome);

fn compare<T>(title: &str, events: &[T], variants: &[Variant<'_, T>]) {
    let mut best = vec![f64::INFINITY; variants.len()];
    let mut outcome = None;
    for round in 0..4 {
        for turn in 0..variants.len() {
            // There and back: the memory that a run finds depends on the run before it.
            let at = if round % 2 == 0 { turn } else { variants.len() - 1 - turn };
            let ((name, run), best) = (variants[at], &mut best[at]);
            let start = Instant::now();
            let found = run(events);
            *best = best.min(start.elapsed().as_nanos() as f64 / events.len() as f64);
            assert_eq!(*outcome.get_or_insert(found), found, "{title}, {name}: wrong result");
        }
    }
    println!("{title}");
    let base = best[variants.len() - 1];
    for (ns, (name, _)) in best.iter().zip(variants) {
        println!("  {name:<10} {ns:7.1} ns/event   {:5.2} x", base / ns);
    }
}

const SUMS: &[Variant<'_, u64>] =
    &[("upsert", sum_upsert), ("resolve", sum_resolve), ("hashbrown", sum_hashbrown)];

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let chosen = |name: &str| wanted.as_deref().is_none_or(|w| w == name);
    let keys = |distinct: u64, n: u64| (0..n).map(|i| mix(i) % distinct).collect::<Vec<u64>>();
    if chosen("small") {
        compare("running sum, 1 k keys", &keys(1_000, 25_000_000), SUMS);
    }
    if chosen("words") {
        let words = zipf_words(1_000_000, 20_000_000);
        compare("count, Zipf words", &words, &[("upsert", count_upsert), ("hashbrown", count_hashbrown)]);
    }
    if chosen("large") {
        compare("running sum, 10 M keys", &keys(10_000_000, 25_000_000), SUMS);
    }
}
