//! Radix: sorts fixed-size entries by hash, keeping the order of equal hashes.
//!
//! Place: between the arena of a sort buffer and the run that it becomes; also orders a group by timestamp.
//! Method: most significant digit first, on the digits in which the entries of a range differ (subtracting the
//! lowest), so that a narrow range of hashes costs no empty passes. The first pass scatters the chunks into
//! buckets that fit the second-level cache; each bucket is then sorted there, and insertion ends it.
//! Invariant: entries come in arrival order and every step is stable.
//! Costs: one copy of the entries as scratch; about two passes for ten million uniform hashes.

/// A row in the arena and what it is sorted by.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) address: u64,
}

/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();
/// Entries of a bucket of the first pass: 64 KiB.
const BUCKET_ENTRIES: usize = 4096;
/// Digits have at most this many bits: more scatter targets than this miss the address cache.
const DIGIT_BITS_MAX: u32 = 11;
/// At or below this insertion is faster than another pass.
const INSERTION_MAX: usize = 24;

/// Where the digit of a hash is found.
#[derive(Clone, Copy)]
struct Digit {
    lowest: u64,
    shift: u32,
}

impl Digit {
    /// The highest `bits` bits of the distance between `lowest` and `highest`.
    fn new(lowest: u64, highest: u64, bits: u32) -> Digit {
        let width = u64::BITS - (highest - lowest).leading_zeros();
        Digit { lowest, shift: width.saturating_sub(bits) }
    }
    #[inline(always)]
    fn of(self, hash: u64) -> usize {
        ((hash - self.lowest) >> self.shift) as usize
    }
}

/// Entries scattered into buckets: all hashes of a bucket are below those of the next.
pub(super) struct Buckets {
    /// All entries.
    pub(super) entries: Vec<Entry>,
    /// End of each bucket.
    pub(super) ends: Vec<usize>,
}

/// Scatters chunks of entries, whose hashes are within `lowest..=highest`, and frees the chunks.
pub(super) fn scatter(chunks: Vec<Vec<Entry>>, lowest: u64, highest: u64) -> Buckets {
    let count: usize = chunks.iter().map(Vec::len).sum();
    let bits = (count / BUCKET_ENTRIES + 1).ilog2().clamp(1, DIGIT_BITS_MAX);
    let digit = Digit::new(lowest, highest.max(lowest), bits);
    let mut ends = vec![0usize; 1 << bits];
    for entry in chunks.iter().flatten() {
        ends[digit.of(entry.hash)] += 1;
    }
    to_starts(&mut ends);
    let mut entries = vec![Entry::default(); count];
    for chunk in chunks {
        for entry in &chunk {
            let slot = &mut ends[digit.of(entry.hash)];
            entries[*slot] = *entry;
            *slot += 1;
        }
    }
    Buckets { entries, ends }
}

/// Counts become starts; after scattering they are ends.
fn to_starts(counts: &mut [usize]) {
    let mut start = 0;
    for count in counts {
        start += std::mem::replace(count, start);
    }
}

/// Sorts by hash, stable. `scratch` must be at least as long.
pub(super) fn sort(entries: &mut [Entry], scratch: &mut [Entry]) {
    match entries.len() {
        0..=INSERTION_MAX => insertion(entries),
        25..=1024 => pass::<256>(entries, scratch),
        _ => pass::<{ 1 << DIGIT_BITS_MAX }>(entries, scratch),
    }
}

/// One pass over a digit with at most `SLOTS` values, then each group by itself.
fn pass<const SLOTS: usize>(entries: &mut [Entry], scratch: &mut [Entry]) {
    let count = entries.len();
    let (mut lowest, mut highest) = (u64::MAX, 0);
    for entry in entries.iter() {
        lowest = lowest.min(entry.hash);
        highest = highest.max(entry.hash);
    }
    if lowest == highest {
        return;
    }
    let bits = (count.ilog2() - 2).clamp(1, SLOTS.ilog2());
    let digit = Digit::new(lowest, highest, bits);
    let mut table = [0usize; SLOTS];
    let ends = &mut table[..1 << bits];
    for entry in entries.iter() {
        ends[digit.of(entry.hash)] += 1;
    }
    to_starts(ends);
    let scratch = &mut scratch[..count];
    for entry in entries.iter() {
        let slot = &mut ends[digit.of(entry.hash)];
        scratch[*slot] = *entry;
        *slot += 1;
    }
    if digit.shift > 0 {
        let mut start = 0;
        for &end in ends.iter() {
            if end - start > 1 {
                sort(&mut scratch[start..end], &mut entries[start..end]);
            }
            start = end;
        }
    }
    entries.copy_from_slice(scratch);
}

#[inline(always)]
fn insertion(entries: &mut [Entry]) {
    for i in 1..entries.len() {
        let entry = entries[i];
        let mut at = i;
        while at > 0 && entries[at - 1].hash > entry.hash {
            entries[at] = entries[at - 1];
            at -= 1;
        }
        entries[at] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::hash_of;

    fn check(hashes: impl Iterator<Item = u64>) {
        let entries: Vec<_> = hashes.enumerate().map(|(i, hash)| Entry { hash, address: i as u64 }).collect();
        let mut expected = entries.clone();
        expected.sort_by_key(|e| e.hash);
        let lowest = entries.iter().map(|e| e.hash).min().unwrap_or(0);
        let highest = entries.iter().map(|e| e.hash).max().unwrap_or(0);
        let mut buckets = scatter(entries.chunks(1000).map(<[_]>::to_vec).collect(), lowest, highest);
        let mut scratch = vec![Entry::default(); entries.len()];
        let mut start = 0;
        for &end in &buckets.ends {
            sort(&mut buckets.entries[start..end], &mut scratch);
            start = end;
        }
        assert!(buckets.entries == expected);
    }

    #[test]
    fn sorts_stably_whatever_the_distribution() {
        for count in [0u64, 1, 2, 24, 25, 1000, 50_000] {
            check((0..count).map(|i| hash_of(&i)));
            check((0..count).map(|i| hash_of(&(i % 7))));
            check((0..count).map(|i| u64::MAX - (hash_of(&i) >> 50)));
            check((0..count).rev());
            check((0..count).map(|i| if i % 5 == 0 { hash_of(&i) } else { 42 }));
            check((0..count).map(|i| [0, u64::MAX, 1, 1 << 63][i as usize % 4]));
        }
    }
}
