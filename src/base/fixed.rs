//! FixedBytes: so many bytes, as a record or a key.

use super::sort_key::SortKey;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// `N` bytes in a record, without a heap allocation: fields of binary files, hashes, fixed-length records. Sorts byte by byte.
/// Unlike an array it has a serde implementation for each length, and is copied as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FixedBytes<const N: usize>(pub [u8; N]);

impl<const N: usize> AsRef<[u8]> for FixedBytes<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for FixedBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<const N: usize> Serialize for FixedBytes<N> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for FixedBytes<N> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = FixedBytes<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }
            #[inline]
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<FixedBytes<N>, E> {
                bytes.try_into().map(FixedBytes).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<FixedBytes<N>, E> {
                self.visit_bytes(&bytes)
            }
        }
        deserializer.deserialize_bytes(Bytes::<N>)
    }
}

impl<const N: usize> SortKey for FixedBytes<N> {
    #[inline(always)]
    fn prefix(&self) -> u64 {
        super::sort_key::first_bytes(&self.0)
    }
    fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
        // Behind lengths that are the same.
        a.cmp(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec::{check_key, decode, encode};

    #[test]
    fn bytes_come_back_and_other_lengths_do_not() {
        let bytes = FixedBytes(*b"0123456789");
        check_key(&bytes).unwrap();
        let mut encoded = Vec::new();
        encode(&bytes, &mut encoded).unwrap();
        assert_eq!(encoded.len(), 11);
        assert_eq!(decode::<FixedBytes<10>>(&encoded).unwrap(), bytes);
        let error = decode::<FixedBytes<9>>(&encoded).unwrap_err().to_string();
        assert!(error.contains("FixedBytes"), "{error}");
        assert_eq!(format!("{bytes:?}"), "\"0123456789\"");
    }
}
