//! SortKey: a key that records are sorted by, with the number that most comparisons come down to.
//!
//! Place: the sorts of the engine keep [`SortKey::prefix`] beside each row and look at the key itself only where
//! prefixes are equal.

use super::codec::decode;
use super::data::Key;
use std::cmp::{Ordering, Reverse};

/// A key that records are sorted by.
///
/// The law: `a < b` implies `a.prefix() <= b.prefix()`. A type of your own needs no more than `impl SortKey for
/// MyKey {}`; a prefix of its own makes it faster, and a global sort cuts its ranges by it.
///
/// ```
/// use mainstem::SortKey;
/// #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
/// struct Version {
///     major: u32,
///     minor: u32,
/// }
/// impl SortKey for Version {
///     fn prefix(&self) -> u64 {
///         u64::from(self.major) << 32 | u64::from(self.minor)
///     }
/// }
/// assert!(Version { major: 1, minor: 9 }.prefix() < Version { major: 2, minor: 0 }.prefix());
/// ```
pub trait SortKey: Key {
    /// A number that sorts as the key does, as far as it reaches.
    fn prefix(&self) -> u64 {
        0
    }
    /// The order of two keys by their encoding.
    #[doc(hidden)]
    fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
        match (decode::<Self>(a), decode::<Self>(b)) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            // What was encoded decodes, or the first records of the edge had shown it; the bytes are an order, too.
            _ => a.cmp(b),
        }
    }
}

/// The first eight bytes as a number, zeros where there are fewer.
pub(crate) fn first_bytes(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(&head) => u64::from_be_bytes(head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

/// The bytes of a string or a vector of bytes, which the codec puts behind their length.
pub(crate) fn behind_length(encoded: &[u8]) -> &[u8] {
    let length = encoded.iter().position(|byte| byte & 0x80 == 0).map_or(encoded.len(), |last| last + 1);
    &encoded[length..]
}

macro_rules! unsigned {
    ($($type:ty),*) => {
        $(impl SortKey for $type {
            #[inline(always)]
            fn prefix(&self) -> u64 {
                (*self as u64) << (u64::BITS - <$type>::BITS)
            }
        })*
    };
}

macro_rules! signed {
    ($($type:ty as $unsigned:ty),*) => {
        $(impl SortKey for $type {
            #[inline(always)]
            fn prefix(&self) -> u64 {
                (*self as $unsigned ^ 1 << (<$type>::BITS - 1)).prefix()
            }
        })*
    };
}

unsigned!(u8, u16, u32, u64, usize);
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, isize as usize, i128 as u128);

impl SortKey for u128 {
    #[inline(always)]
    fn prefix(&self) -> u64 {
        (*self >> 64) as u64
    }
}

impl SortKey for () {}

impl SortKey for bool {
    fn prefix(&self) -> u64 {
        u64::from(*self) << 63
    }
}

impl SortKey for char {
    fn prefix(&self) -> u64 {
        u64::from(u32::from(*self)) << 32
    }
}

impl<const N: usize> SortKey for [u8; N]
where
    [u8; N]: Key,
{
    #[inline(always)]
    fn prefix(&self) -> u64 {
        first_bytes(self)
    }
    fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

macro_rules! bytes {
    ($($type:ty),*) => {
        $(impl SortKey for $type {
            #[inline(always)]
            fn prefix(&self) -> u64 {
                first_bytes(self.as_ref())
            }
            fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
                behind_length(a).cmp(behind_length(b))
            }
        })*
    };
}

bytes!(String, Vec<u8>, compact_str::CompactString);

impl<K: SortKey> SortKey for Option<K> {
    fn prefix(&self) -> u64 {
        self.as_ref().map_or(0, |key| 1 << 63 | key.prefix() >> 1)
    }
}

/// Descending.
impl<K: SortKey> SortKey for Reverse<K> {
    #[inline(always)]
    fn prefix(&self) -> u64 {
        !self.0.prefix()
    }
    fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
        K::compare_encoded(b, a)
    }
}

macro_rules! tuples {
    ($($rest:ident),*) => {
        impl<A: SortKey, $($rest: SortKey),*> SortKey for (A, $($rest),*) {
            fn prefix(&self) -> u64 {
                self.0.prefix()
            }
        }
    };
}

tuples!();
tuples!(B);
tuples!(B, C);
tuples!(B, C, D);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec::encode;

    /// Prefixes and encoded keys sort as the keys do.
    #[track_caller]
    fn keeps_the_law<K: SortKey + std::fmt::Debug>(keys: Vec<K>) {
        let encoded = |key: &K| {
            let mut bytes = Vec::new();
            encode(key, &mut bytes).unwrap();
            bytes
        };
        for a in &keys {
            for b in &keys {
                if a < b {
                    assert!(a.prefix() <= b.prefix(), "{a:?} {b:?}");
                }
                assert_eq!(K::compare_encoded(&encoded(a), &encoded(b)), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn prefixes_and_encodings_sort_as_the_keys_do() {
        keeps_the_law(vec![i8::MIN, -1, 0, 1, i8::MAX]);
        keeps_the_law(vec![i64::MIN, -300, -1, 0, 1, 300, i64::MAX]);
        keeps_the_law(vec![i128::MIN, -1, 0, 1 << 70, i128::MAX]);
        keeps_the_law(vec![0u16, 1, 255, 256, u16::MAX]);
        keeps_the_law(vec![u128::MAX, 1 << 64, 5]);
        keeps_the_law(vec!['\0', 'a', 'ä', '\u{10ffff}']);
        let words = ["", "a", "a\0", "ab", "abcdefgh", "abcdefgh\0", "abcdefghi", "ä", "b"].map(String::from);
        keeps_the_law(words.to_vec());
        keeps_the_law(vec!["x".repeat(200), "x".repeat(130), "w".repeat(300)]);
        keeps_the_law(words.map(|w| Reverse(w.into_bytes())).to_vec());
        keeps_the_law(vec![[0u8; 10], [1; 10], *b"abcdefghij", *b"abcdefghik"]);
        keeps_the_law(vec![None, Some(0u64), Some(1), Some(u64::MAX)]);
        keeps_the_law(vec![(1u8, "b".to_string()), (1, "a".to_string()), (2, String::new())]);
        keeps_the_law(vec![(false, 2i32, ()), (true, -2, ()), (false, -7, ())]);
    }
}
