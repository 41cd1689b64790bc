//! Row: how rows lie one after another in a block.
//!
//! Layout of a row: `value length << 2 | mark` (varint), then if the mark is not [`SAME`] the hash (8 bytes) and the
//! key length (varint), then the timestamp if the edge has them (8 bytes), then the key if the mark is not
//! [`SAME`], then the value. So a key is written once per group of rows, and a reader knows where a key ends
//! without comparing. Every block starts with a full row and can be read on its own.

use crate::base::codec::{decode_onto, decode_within};
use crate::base::error::Result;
use serde::de::DeserializeOwned;

/// Most bytes that the key and the value of one row may have together. Less in tests, so that they can go beyond.
pub const ROW_BYTES_MAX: usize = if cfg!(test) { 16 << 20 } else { 1 << 30 };

/// From this size of key and value on a row is large: it is a block of its own.
pub(super) const LARGE_ROW_BYTES: usize = 1 << 20;

/// The key of the row before, not written again.
pub(super) const SAME: u8 = 0;
/// Written, but equal to the key of the row before: the first row of a block, or other bytes for an equal key.
pub(super) const RESTATED: u8 = 1;
/// Another key than the row before.
pub(super) const NEW: u8 = 2;

/// Most bytes of a row that are neither key nor value: two lengths, hash, timestamp.
pub(super) const HEAD_BYTES_MAX: usize = 2 * VARINT_BYTES_MAX + 8 + 8;
/// Lengths are at most [`ROW_BYTES_MAX`]; two bits more are the mark.
const VARINT_BYTES_MAX: usize = 5;

/// One row of a partition. Borrowed from the reader until the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// Hash of the key; 0 for rows without keys.
    pub hash: u64,
    /// Timestamp, if the edge has them.
    pub timestamp: Option<i64>,
    /// The input it came from, as given when the reader was opened.
    pub input: usize,
    /// Encoded key.
    pub key: &'a [u8],
    /// Encoded record.
    pub value: &'a [u8],
    /// The encoded record and what follows it in its block.
    pub(super) value_onwards: &'a [u8],
    /// Whether the key differs from that of the row before. True for the very first row of a merge; always false
    /// for rows without keys.
    pub new_key: bool,
}

impl RowRef<'_> {
    /// The record.
    ///
    /// # Errors
    /// [`Codec`](crate::Error::Codec) if the value is not one of this type.
    #[inline(always)]
    pub fn decode_value<T: DeserializeOwned>(&self) -> Result<T> {
        decode_within(self.value_onwards, self.value.len())
    }

    /// Appends the record.
    ///
    /// # Errors
    /// As [`RowRef::decode_value`].
    #[inline(always)]
    pub fn decode_value_onto<T: DeserializeOwned>(&self, into: &mut Vec<T>) -> Result<()> {
        decode_onto(self.value_onwards, self.value.len(), into)
    }
}

/// Writes a number below 2^35 and returns where the next byte goes.
#[inline(always)]
pub(super) fn put_varint(into: &mut [u8], mut at: usize, mut number: u64) -> usize {
    while number >= 0x80 {
        into[at] = number as u8 | 0x80;
        number >>= 7;
        at += 1;
    }
    into[at] = number as u8;
    at + 1
}

/// Copies bytes and returns where the next one goes. Short ones are copied in registers, without a call.
#[inline(always)]
pub(super) fn put_bytes(into: &mut [u8], at: usize, from: &[u8]) -> usize {
    let end = at + from.len();
    let to = &mut into[at..end];
    // Two words that overlap cover every length between one and two words.
    if from.len() > 32 {
        to.copy_from_slice(from);
    } else if let (Some(&head), Some(&tail)) = (from.first_chunk::<16>(), from.last_chunk::<16>()) {
        put_word(to.first_chunk_mut(), head);
        put_word(to.last_chunk_mut(), tail);
    } else if let (Some(&head), Some(&tail)) = (from.first_chunk::<8>(), from.last_chunk::<8>()) {
        put_word(to.first_chunk_mut(), head);
        put_word(to.last_chunk_mut(), tail);
    } else if let (Some(&head), Some(&tail)) = (from.first_chunk::<4>(), from.last_chunk::<4>()) {
        put_word(to.first_chunk_mut(), head);
        put_word(to.last_chunk_mut(), tail);
    } else if let (Some(&head), Some(&tail)) = (from.first(), from.last()) {
        let middle = from.len() / 2;
        let byte = from[middle];
        to[0] = head;
        to[middle] = byte;
        to[from.len() - 1] = tail;
    }
    end
}

#[inline(always)]
fn put_word<const N: usize>(to: Option<&mut [u8; N]>, word: [u8; N]) {
    if let Some(to) = to {
        *to = word;
    }
}

/// Whether two keys have the same bytes; short ones are compared in registers, without a call.
#[inline(always)]
pub(super) fn equal_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() > 16 {
        a == b
    } else if let (Some(a_head), Some(b_head)) = (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        a_head == b_head && a.last_chunk::<8>() == b.last_chunk::<8>()
    } else if let (Some(a_head), Some(b_head)) = (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        a_head == b_head && a.last_chunk::<4>() == b.last_chunk::<4>()
    } else {
        a.iter().zip(b).all(|(x, y)| x == y)
    }
}

/// Reads a number that [`put_varint`] wrote.
#[inline(always)]
pub(super) fn take_varint(from: &[u8], at: &mut usize) -> Option<u64> {
    let byte = *from.get(*at)?;
    *at += 1;
    if byte < 0x80 { Some(byte as u64) } else { take_long_varint(from, at, byte) }
}

fn take_long_varint(from: &[u8], at: &mut usize, first: u8) -> Option<u64> {
    let mut number = (first & 0x7f) as u64;
    for shift in [7, 14, 21, 28] {
        let byte = *from.get(*at)?;
        *at += 1;
        number |= ((byte & 0x7f) as u64) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Reads 8 bytes.
#[inline(always)]
pub(super) fn take_u64(from: &[u8], at: &mut usize) -> Option<u64> {
    let bytes = from.get(*at..*at + 8)?.first_chunk::<8>()?;
    *at += 8;
    Some(u64::from_le_bytes(*bytes))
}

/// How far the first row of a block reaches before its value: to the end of its key.
pub(super) fn front_bytes(block: &[u8], timestamps: bool) -> Option<usize> {
    let mut at = 0;
    take_varint(block, &mut at)?;
    take_u64(block, &mut at)?;
    let key = take_varint(block, &mut at)? as usize;
    Some(at + if timestamps { 8 } else { 0 } + key)
}

/// The hash of the first row of a block.
pub(super) fn first_hash(block: &[u8]) -> u64 {
    let mut at = 0;
    take_varint(block, &mut at).and_then(|_| take_u64(block, &mut at)).unwrap_or(0)
}

/// Reads 8 bytes with a sign.
#[inline(always)]
pub(super) fn take_i64(from: &[u8], at: &mut usize) -> Option<i64> {
    take_u64(from, at).map(|n| n as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_bytes_round_trip() {
        for number in [0u64, 1, 127, 128, 16_383, 16_384, 1 << 28, (1 << 32) | 3, (1 << 35) - 1] {
            let mut buffer = [0xaa; 8];
            let end = put_varint(&mut buffer, 1, number);
            let mut at = 1;
            assert_eq!(take_varint(&buffer, &mut at), Some(number));
            assert_eq!(at, end);
            for cut in 1..end {
                assert_eq!(take_varint(&buffer[..cut], &mut 1), None, "{number} cut at {cut}");
            }
        }
        assert_eq!(take_varint(&[0xff; 9], &mut 0), None);
        let source: Vec<u8> = (0..61).collect();
        for len in 0..60 {
            let mut buffer = [0xee; 64];
            assert_eq!(put_bytes(&mut buffer, 2, &source[..len]), len + 2);
            assert_eq!(&buffer[2..len + 2], &source[..len]);
            assert_eq!((buffer[1], buffer[len + 2]), (0xee, 0xee));
            let copy = buffer[2..len + 2].to_vec();
            assert!(equal_bytes(&copy, &source[..len]) && !equal_bytes(&copy, &source[..len + 1]));
            for at in 0..len {
                let mut other = copy.clone();
                other[at] ^= 0x80;
                assert!(!equal_bytes(&copy, &other), "byte {at} of {len}");
            }
        }
    }
}
