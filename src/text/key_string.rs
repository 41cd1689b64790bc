//! KeyString: a string of 16 bytes that is compared and hashed as two machine words.
//!
//! Place: a record or a part of one, wherever text is a key. A keyed table compares each record's key with the one it has
//! found and hashes it before; for strings of a few bytes, each of another length, what that costs is branches that
//! cannot be predicted and calls.
//! Method: up to [`INLINE_BYTES_MAX`] bytes lie in the value itself, filled up with zeros, the length with them; so two short
//! strings are equal if the words are. Longer ones are on the heap, behind one pointer, and compared as bytes. (The
//! strings of Umbra, Neumann and Freitag, 2020, are of this kind.)
//! Invariants: a string that fits is inline, always; so a short one is never equal to a long one.

use crate::base::sort_key::{SortKey, behind_length, first_bytes};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::str::FromStr;

/// Longest string that is kept in the value itself.
pub const INLINE_BYTES_MAX: usize = 15;

/// The last byte of a short string: the length and this bit, so that the second word is never zero.
const SHORT: u8 = 0x80;

/// A string for keys: 16 bytes, up to 15 of them text; longer text is on the heap.
///
/// Equality, hashing and cloning of short strings take two words each, however long they are: a `count` over words takes a
/// fifth less time with it than with a [`CompactString`](compact_str::CompactString). It cannot be changed in place: build
/// text with these. It is encoded, ordered and printed as any other string is.
///
/// ```
/// use mainstem::text::KeyString;
///
/// let word = KeyString::from("mainstem");
/// assert_eq!(word, "mainstem");
/// assert_eq!(word.to_uppercase(), "MAINSTEM", "it is a `str`");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyString(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Short(Short),
    // Behind one word, which a box of a `str` is not.
    Long(Box<Box<str>>),
}

/// Text, zeros, and `SHORT | length` as the last of 16 bytes, in memory in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Short {
    head: u64,
    tail: NonZeroU64,
}

const _: () = assert!(size_of::<KeyString>() == 16);

impl Short {
    /// None if the text is too long.
    #[inline(always)]
    fn new(text: &str) -> Option<Short> {
        let bytes = text.as_bytes();
        let n = bytes.len();
        // Built in registers: each word is stored once, as it will be read.
        let (head, tail) = if let (Some(head), Some(last)) =
            (bytes.first_chunk::<8>(), bytes.last_chunk::<8>())
        {
            if n > INLINE_BYTES_MAX {
                return None;
            }
            let beyond = if n == 8 { 0 } else { u64::from_le_bytes(*last) >> (8 * (16 - n)) };
            (u64::from_le_bytes(*head), beyond)
        } else if let (Some(head), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4)), 0)
        } else if let (Some(head), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
            (u64::from(u16::from_le_bytes(*head)) | u64::from(u16::from_le_bytes(*last)) << (8 * (n - 2)), 0)
        } else {
            (bytes.first().map_or(0, |&byte| u64::from(byte)), 0)
        };
        let length = u64::from(SHORT | n as u8) << 56;
        Some(Short { head: head.to_le(), tail: NonZeroU64::new((tail | length).to_le())? })
    }
    #[inline(always)]
    fn len(&self) -> usize {
        usize::from((u64::from_le(self.tail.get()) >> 56) as u8 & !SHORT)
    }
    #[inline(always)]
    fn as_str(&self) -> &str {
        let start = std::ptr::from_ref(self).cast::<u8>();
        // SAFETY: `Short` is `repr(C)`, two words without padding, and only `new` makes one: from a `str` of
        // `len` bytes, at most 15, which are the first ones in memory.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, self.len())) }
    }
}

impl KeyString {
    /// The string as a slice.
    #[inline(always)]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Short(short) => short.as_str(),
            Repr::Long(text) => text,
        }
    }
}

impl From<&str> for KeyString {
    #[inline(always)]
    fn from(text: &str) -> KeyString {
        match Short::new(text) {
            Some(short) => KeyString(Repr::Short(short)),
            None => long(text),
        }
    }
}

#[cold]
fn long(text: &str) -> KeyString {
    KeyString(Repr::Long(Box::new(text.into())))
}

impl From<String> for KeyString {
    fn from(text: String) -> KeyString {
        match Short::new(&text) {
            Some(short) => KeyString(Repr::Short(short)),
            None => KeyString(Repr::Long(Box::new(text.into_boxed_str()))),
        }
    }
}

impl From<Cow<'_, str>> for KeyString {
    fn from(text: Cow<'_, str>) -> KeyString {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<char> for KeyString {
    fn from(c: char) -> KeyString {
        KeyString::from(&*c.encode_utf8(&mut [0; 4]))
    }
}

impl From<KeyString> for String {
    fn from(text: KeyString) -> String {
        match text.0 {
            Repr::Short(short) => short.as_str().to_owned(),
            Repr::Long(text) => (*text).into_string(),
        }
    }
}

impl FromStr for KeyString {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<KeyString, Self::Err> {
        Ok(text.into())
    }
}

impl Default for KeyString {
    fn default() -> KeyString {
        "".into()
    }
}

impl Deref for KeyString {
    type Target = str;

    #[inline(always)]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for KeyString {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for KeyString {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

// Not `Borrow<str>`: a `str` has another hash.
impl Hash for KeyString {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Repr::Short(short) => {
                let (head, tail) = (u64::from_le(short.head), u64::from_le(short.tail.get()));
                state.write_u128(u128::from(tail) << 64 | u128::from(head));
            }
            Repr::Long(text) => text.hash(state),
        }
    }
}

impl Ord for KeyString {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl PartialOrd for KeyString {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SortKey for KeyString {
    #[inline(always)]
    fn prefix(&self) -> u64 {
        first_bytes(self.as_bytes())
    }
    fn compare_encoded(a: &[u8], b: &[u8]) -> Ordering {
        behind_length(a).cmp(behind_length(b))
    }
}

impl PartialEq<str> for KeyString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for KeyString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for KeyString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for KeyString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for KeyString {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyString {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyString, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = KeyString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    #[inline]
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeyString, E> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec::{decode, encode};
    use crate::base::hash::hash_of;
    use proptest::prelude::*;

    fn encoded(value: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        bytes
    }

    fn check(text: &str) {
        let key = KeyString::from(text);
        assert_eq!((key.as_str(), key.len()), (text, text.len()));
        assert_eq!(matches!(key.0, Repr::Short(_)), text.len() <= INLINE_BYTES_MAX, "{text:?}");
        assert_eq!(key, KeyString::from(text.to_owned()));
        assert_eq!(String::from(key.clone()), text);
        assert_eq!(
            (format!("{key}|{key:>4}"), format!("{key:?}")),
            (format!("{text}|{text:>4}"), format!("{text:?}"))
        );
        // Its bytes are those of a string, and what they are decoded to is the key with its hash.
        let bytes = encoded(&key);
        assert_eq!(bytes, encoded(&text));
        let decoded: KeyString = decode(&bytes).unwrap();
        assert_eq!((&decoded, hash_of(&decoded)), (&key, hash_of(&key)));
    }

    #[test]
    fn every_length_around_the_words_is_kept() {
        for n in 0..40 {
            check(&"abcdefghijklmnopqrstuvwxyz01234567890123"[..n]);
            check(&"ä€😀".chars().cycle().take(n).collect::<String>());
            check(&"\0".repeat(n));
            check(&"\u{7f}".repeat(n));
        }
        assert_eq!(KeyString::default(), "");
        assert_eq!(KeyString::from('ß'), "ß");
        assert_eq!("x".parse(), Ok(KeyString::from(Cow::Borrowed("x"))));
    }

    /// Zeros behind a short string are not zeros in it.
    #[test]
    fn strings_that_differ_in_zeros_only_differ() {
        let all: Vec<KeyString> = (0..40).map(|n| "\0".repeat(n).into()).collect();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!((a == b, a.cmp(b)), (i == j, i.cmp(&j)), "{i} and {j} zeros");
                assert_eq!(hash_of(a) == hash_of(b), i == j, "{i} and {j} zeros");
            }
        }
    }

    #[test]
    fn hashes_of_short_strings_are_spread() {
        let mut counts = [0u32; 256];
        for i in 0..256_000u32 {
            counts[(hash_of(&KeyString::from(format!("w{i}"))) >> 56) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (800..1200).contains(&c)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn it_is_compared_as_strings_are(a in ".{0,20}", b in ".{0,20}") {
            check(&a);
            let (x, y) = (KeyString::from(a.as_str()), KeyString::from(b.as_str()));
            prop_assert_eq!((x == y, x.cmp(&y), x == *b), (a == b, a.cmp(&b), a == b));
        }
    }
}
