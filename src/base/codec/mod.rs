//! Codec: records and keys as bytes, in the format of postcard, through serde.
//!
//! `Encoder` and `Decoder` are written for what rows of a shuffle are made of: numbers, and short text. They take numbers
//! without a branch for each byte, which postcard's own do not.
//!
//! Postcard is not self-describing, so some serde attributes (`skip_serializing_if`, `untagged`, `flatten`)
//! cannot be read back. [`check_record`] and [`check_key`] find such a type on its first records.

mod decoder;
mod encoder;
mod varint;

use super::data::{Data, Key};
use super::error::{Error, Result};
use super::hash::hash_of;
use decoder::Decoder;
use encoder::Encoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_128;

/// Appends the encoding of `value` to `into`.
#[inline]
pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<()> {
    value.serialize(&mut Encoder(into)).map_err(|e| {
        Error::Codec(format!(
            "a record of type {} cannot be encoded: {e}; sequences and maps must know their length",
            std::any::type_name::<T>()
        ))
    })
}

/// What records are encoded into one after the other is given back after one that took more than this.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Gives memory back that one large record took.
#[inline(always)]
pub fn keep_small(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_BYTES_MAX {
        *scratch = Vec::new();
    }
}

/// How long the encoding of `value` is; none if it cannot be encoded. Takes no memory.
pub fn encoded_len<T: Serialize>(value: &T) -> Option<u64> {
    postcard::experimental::serialized_size(value).ok().map(|len| len as u64)
}

/// Reads one value that fills `bytes` exactly.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    decode_within(bytes, bytes.len())
}

/// Reads one value that fills the first `len` of `bytes` exactly. Numbers are read faster where more bytes follow.
#[inline(always)]
pub fn decode_within<T: DeserializeOwned>(bytes: &[u8], len: usize) -> Result<T> {
    // One `match`: each time a value is moved from one `Result` to the next, it is read before it has been written.
    let mut decoder = Decoder::new(bytes);
    match T::deserialize(&mut decoder) {
        Ok(value) if bytes.len() - decoder.rest().len() == len => Ok(value),
        _ => decode_exactly(bytes.get(..len).unwrap_or(bytes)),
    }
}

/// Appends what [`decode_within`] would return.
#[inline(always)]
pub fn decode_onto<T: DeserializeOwned>(bytes: &[u8], len: usize, into: &mut Vec<T>) -> Result<()> {
    let mut decoder = Decoder::new(bytes);
    match T::deserialize(&mut decoder) {
        Ok(value) if bytes.len() - decoder.rest().len() == len => into.push(value),
        _ => into.push(decode_exactly(bytes.get(..len).unwrap_or(bytes))?),
    }
    Ok(())
}

/// The same where it did not go well: says why.
#[cold]
#[inline(never)]
fn decode_exactly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match decode_front(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(unreadable::<T>(format!("{} bytes are left over", rest.len()))),
    }
}

/// Reads one value from the front of `bytes`; returns what follows it too.
#[inline]
pub fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8])> {
    let mut decoder = Decoder::new(bytes);
    match T::deserialize(&mut decoder) {
        Ok(value) => Ok((value, decoder.rest())),
        Err(e) => Err(unreadable::<T>(e.to_string())),
    }
}

#[cold]
fn unreadable<T>(why: String) -> Error {
    Error::Codec(format!(
        "an encoded record of type {} cannot be read back: {why}; if the type uses one of the serde attributes \
         skip_serializing_if, untagged, flatten or a hand-written Deserialize, remove it",
        std::any::type_name::<T>()
    ))
}

/// Encodes, decodes and encodes a record again: an error if it cannot be read back or comes back changed.
pub fn check_record<T: Data>(value: &T) -> Result<()> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes)?;
    let back: T = decode(&bytes)?;
    // One encoding at a time: the record may be large.
    let first = xxh3_128(&bytes);
    bytes.clear();
    encode(&back, &mut bytes)?;
    if xxh3_128(&bytes) == first { Ok(()) } else { Err(unreadable::<T>("it comes back changed".into())) }
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

    #[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
    enum Shape {
        Nothing,
        Number(i128),
        Pair(char, Option<Box<Shape>>),
        Named { text: String, bits: u128 },
    }

    /// The bytes are those of postcard, of which savepoints and other versions know the format.
    #[test]
    fn values_of_all_kinds_are_written_as_postcard_does_and_come_back() {
        fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
            let mut bytes = vec![];
            encode(&value, &mut bytes).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&value).unwrap(), "{value:?}");
            assert_eq!(decode::<T>(&bytes).unwrap(), value);
            assert_eq!(encoded_len(&value), Some(bytes.len() as u64));
            for n in 0..bytes.len() {
                assert!(decode::<T>(&bytes[..n]).is_err(), "{value:?} of {n} bytes");
            }
            bytes.push(0);
            assert!(decode::<T>(&bytes).is_err());
            assert_eq!(decode_front::<T>(&bytes).unwrap(), (value, &[0][..]));
        }
        for shift in 0..64 {
            let n = 0x9e37_79b9_7f4a_7c15u64 >> shift;
            check((n as u8, n as u16, n as u32, n, u128::from(n) << 61, n as usize));
            check((n as i8, n as i16, n as i32, n as i64, -(n as i64 >> 1), i128::from(n) - (1 << 40)));
            check((
                f32::from_bits(n as u32 >> 2),
                n as f64,
                n.is_multiple_of(2),
                "word".repeat(n as usize % 9),
            ));
        }
        check((i64::MIN, i64::MAX, u64::MAX, i128::MIN, u128::MAX, i8::MIN, i16::MIN, i32::MIN));
        let text = || "straße".to_string();
        check(vec![
            Shape::Nothing,
            Shape::Number(-1),
            Shape::Pair('ß', Some(Box::new(Shape::Named { text: text(), bits: u128::MAX }))),
            Shape::Pair('\0', None),
        ]);
        check(std::collections::BTreeMap::from([(text(), vec![1u8, 2]), (String::new(), vec![])]));
        check(((), [(); 3], Some(()), vec![Some(-1i8), None]));
    }

    #[test]
    fn lengths_that_are_not_true_reserve_nothing() {
        let mut bytes = vec![];
        encode(&u64::MAX, &mut bytes).unwrap();
        assert!(decode::<Vec<u64>>(&bytes).is_err() && decode::<String>(&bytes).is_err());
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
