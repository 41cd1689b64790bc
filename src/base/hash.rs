//! Hash: the one 64-bit hash of keys, with a fixed seed, computed for a whole batch at the sender.
//!
//! Method: 128-bit folded multiply over 8-byte words (the construction of wyhash by Wang Yi, and of foldhash by
//! Orson Peters), finished once more so that every output bit depends on every input bit: partition, key
//! group and table use *different* bits of it. The result does not depend on platform or compiler for inputs
//! whose `Hash` writes the same bytes. [`HASH_ID`] names the function in files that store hashes.

use std::hash::{Hash, Hasher};

/// Version of the hash function: raised when the function changes.
pub const HASH_ID: u32 = 1;

const SEED: u64 = 0x2d35_8dcc_aa6c_78a5;
const K0: u64 = 0x8bb8_4b93_962e_acc9;
const K1: u64 = 0x4b33_a62e_d433_d4a3;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let p = (a as u128).wrapping_mul(b as u128);
    (p as u64) ^ ((p >> 64) as u64)
}

#[inline(always)]
fn load64(b: &[u8]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[inline(always)]
fn load32(b: &[u8]) -> u64 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as u64
}

/// The hash of one key.
#[inline(always)]
pub fn hash_of<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut h = KeyHasher::default();
    key.hash(&mut h);
    h.finish()
}

/// The hasher behind [`hash_of`].
#[derive(Clone)]
pub struct KeyHasher(u64);

impl Default for KeyHasher {
    #[inline(always)]
    fn default() -> Self {
        KeyHasher(SEED)
    }
}

impl Hasher for KeyHasher {
    #[inline(always)]
    fn finish(&self) -> u64 {
        fold(self.0 ^ K0, K1)
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        let n = bytes.len();
        let (a, b);
        if n <= 16 {
            if n >= 8 {
                a = load64(bytes);
                b = load64(&bytes[n - 8..]);
            } else if n >= 4 {
                a = load32(bytes);
                b = load32(&bytes[n - 4..]);
            } else if n > 0 {
                a = bytes[0] as u64 | (bytes[n / 2] as u64) << 8 | (bytes[n - 1] as u64) << 16;
                b = 0;
            } else {
                a = 0;
                b = 0;
            }
        } else {
            let mut rest = bytes;
            while rest.len() > 16 {
                self.0 = fold(load64(rest) ^ self.0, load64(&rest[8..]) ^ K1);
                rest = &rest[16..];
            }
            a = load64(&bytes[n - 16..]);
            b = load64(&bytes[n - 8..]);
        }
        self.0 = fold(a ^ self.0, b ^ K0 ^ (n as u64).rotate_left(32));
    }

    #[inline(always)]
    fn write_u8(&mut self, i: u8) {
        // The 0xff that ends a `str`: cheap, since the length already went in.
        self.0 = (self.0 ^ i as u64).wrapping_mul(K1);
    }
    #[inline(always)]
    fn write_u16(&mut self, i: u16) {
        self.write_u64(i as u64)
    }
    #[inline(always)]
    fn write_u32(&mut self, i: u32) {
        self.write_u64(i as u64)
    }
    #[inline(always)]
    fn write_u64(&mut self, i: u64) {
        self.0 = fold(self.0 ^ i, K0);
    }
    #[inline(always)]
    fn write_u128(&mut self, i: u128) {
        self.0 = fold(self.0 ^ i as u64, K0 ^ (i >> 64) as u64);
    }
    #[inline(always)]
    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64)
    }
    #[inline(always)]
    fn write_i8(&mut self, i: i8) {
        self.write_u8(i as u8)
    }
    #[inline(always)]
    fn write_i16(&mut self, i: i16) {
        self.write_u64(i as u16 as u64)
    }
    #[inline(always)]
    fn write_i32(&mut self, i: i32) {
        self.write_u64(i as u32 as u64)
    }
    #[inline(always)]
    fn write_i64(&mut self, i: i64) {
        self.write_u64(i as u64)
    }
    #[inline(always)]
    fn write_isize(&mut self, i: isize) {
        self.write_u64(i as u64)
    }
}

/// Key group of a hash: the hash scaled to `[0, max_parallelism)`, so that a key group is a range of hashes.
#[inline(always)]
pub fn key_group(hash: u64, max_parallelism: usize) -> usize {
    ((hash as u128 * max_parallelism as u128) >> 64) as usize
}

/// Subtask that owns a key group. A range of key groups each, so a range of hashes each.
#[inline(always)]
pub fn subtask_of_group(key_group: usize, parallelism: usize, max_parallelism: usize) -> usize {
    key_group * parallelism / max_parallelism
}

/// Max parallelism where the user sets none: 1.5 times the parallelism as a power of two, within [128, 32768].
pub fn default_max_parallelism(parallelism: usize) -> usize {
    (parallelism + parallelism.div_ceil(2)).next_power_of_two().clamp(128, 32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P1: fixed and versioned. If this test fails, raise HASH_ID.
    #[test]
    fn hash_is_fixed() {
        let h = [hash_of(&0u64), hash_of(&1u64), hash_of("a"), hash_of("the quick brown fox jumps")];
        assert_eq!(HASH_ID, 1);
        let again =
            [hash_of(&0u64), hash_of(&1u64), hash_of(&"a".to_string()), hash_of("the quick brown fox jumps")];
        assert_eq!(h, again);
        let distinct: std::collections::BTreeSet<_> = h.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    /// P1: key group in range, subtasks cover contiguous ranges of groups.
    #[test]
    fn groups_and_subtasks() {
        for max in [1, 2, 7, 128, 32_768] {
            assert_eq!(key_group(0, max), 0);
            assert_eq!(key_group(u64::MAX, max), max - 1);
            for par in 1..=max.min(9) {
                let subtasks: Vec<_> = (0..max).map(|g| subtask_of_group(g, par, max)).collect();
                assert!(subtasks.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 1));
                assert_eq!((subtasks[0], subtasks[max - 1]), (0, par - 1));
            }
        }
        assert_eq!((default_max_parallelism(1), default_max_parallelism(86)), (128, 256));
        assert_eq!(default_max_parallelism(30_000), 32_768);
    }

    #[test]
    fn high_and_low_bits_are_spread() {
        for shift in [0u32, 24, 56] {
            let mut counts = [0u32; 256];
            for i in 0..256_000u64 {
                counts[(hash_of(&i) >> shift) as usize & 255] += 1;
            }
            assert!(counts.iter().all(|&c| (800..1200).contains(&c)), "bits from {shift}: {counts:?}");
        }
    }
}
