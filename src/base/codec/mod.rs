//! Codec: records and keys as bytes (postcard through serde).
//!
//! Postcard is not self-describing, so some serde attributes (`skip_serializing_if`, `untagged`, `flatten`)
//! cannot be read back. [`check_record`] and [`check_key`] find such a type on its first records.

use super::data::{Data, Key};
use super::error::{Error, Result};
use super::hash::hash_of;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends the encoding of `value` to `into`.
#[inline]
pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<()> {
    postcard::serialize_with_flavor(value, Append(into)).map_err(|e| {
        Error::Codec(format!(
            "a record of type {} cannot be encoded: {e}; sequences and maps must know their length",
            std::any::type_name::<T>()
        ))
    })
}

/// Reads one value that fills `bytes` exactly.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(unreadable::<T>(format!("{} bytes are left over", rest.len()))),
        Err(e) => Err(unreadable::<T>(e.to_string())),
    }
}

/// Reads one value from the front of `bytes`; returns what follows it too.
#[inline]
pub fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8])> {
    postcard::take_from_bytes::<T>(bytes).map_err(|e| unreadable::<T>(e.to_string()))
}

#[cold]
fn unreadable<T>(why: String) -> Error {
    Error::Codec(format!(
        "an encoded record of type {} cannot be read back: {why}; if the type uses one of the serde attributes \
         skip_serializing_if, untagged, flatten or a hand-written Deserialize, remove it",
        std::any::type_name::<T>()
    ))
}

/// Bytes of the longest encoded 64-bit number. Such are copied one by one: a call to copy memory costs more.
const NUMBER_BYTES_MAX: usize = 10;

struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();
    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }
    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() <= NUMBER_BYTES_MAX {
            self.0.reserve(NUMBER_BYTES_MAX);
            bytes.iter().for_each(|&byte| self.0.push(byte));
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }
    #[inline(always)]
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Encodes, decodes and encodes a record again: an error if it cannot be read back or comes back changed.
pub fn check_record<T: Data>(value: &T) -> Result<()> {
    let mut first = Vec::new();
    encode(value, &mut first)?;
    let back: T = decode(&first)?;
    let mut second = Vec::new();
    encode(&back, &mut second)?;
    if first == second { Ok(()) } else { Err(unreadable::<T>("it comes back changed".into())) }
}

/// As [`check_record`], and the key that comes back must be equal and hash alike.
pub fn check_key<K: Key>(key: &K) -> Result<()> {
    let mut bytes = Vec::new();
    encode(key, &mut bytes)?;
    let back: K = decode(&bytes)?;
    if back != *key || hash_of(&back) != hash_of(key) {
        return Err(Error::Codec(format!(
            "a key of type {} is not equal to itself, or hashes differently, after encoding and decoding",
            std::any::type_name::<K>()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        a: Option<u32>,
        b: u32,
    }

    #[test]
    fn round_trips() {
        check_record(&("word".to_string(), 7u64, Some(-3i32))).unwrap();
        check_key(&(1u8, "k".to_string())).unwrap();
    }

    #[test]
    fn attribute_that_cannot_be_read_back_is_named() {
        let e = check_record(&Skips { a: None, b: 300 }).unwrap_err().to_string();
        assert!(e.contains("Skips") && e.contains("skip_serializing_if"), "{e}");
    }

    #[test]
    fn truncated_bytes_are_an_error() {
        let mut bytes = vec![];
        encode(&"hello".to_string(), &mut bytes).unwrap();
        for n in 0..bytes.len() {
            assert!(decode::<String>(&bytes[..n]).is_err());
        }
    }
}
