//! Text: cutting lines into words, many bytes at a time; strings made for being keys.
//!
//! Place: called by user functions, for example in a `flat_map` over the lines of a text source.
//! Method: 64 bytes are classified at once into a bit each (white space or not); where a bit differs from its
//! neighbour a word starts or ends, so a word costs two bit scans however long it is. White space outside of ASCII
//! starts with one of four bytes; only at these are the following bytes looked at.
//! Invariants: the words are those of [`str::split_whitespace`], for every string.

mod key_string;

pub use key_string::KeyString;

/// White space of one byte: U+0009 to U+000D and the space, as in [`char::is_whitespace`].
const SPACE: u8 = b' ';
const TAB: u8 = b'\t';
/// U+000D lies so far behind the tab.
const CR_AFTER_TAB: u8 = 4;
/// Bytes that are classified at once: a bit each in a word of the machine.
const BLOCK: usize = 64;
/// Bytes of a vector.
const LANES: usize = 16;

/// The words of a text: its longest pieces without white space (as [`char::is_whitespace`] defines it), in order.
///
/// Gives exactly what [`str::split_whitespace`] gives, faster for words of usual length. Prefer `for_each`, `fold`
/// and the like to a `for` loop: they run over the text in one tight loop.
///
/// ```
/// let words: Vec<_> = mainstem::text::words(" to be\u{a0}or\tnot ").collect();
/// assert_eq!(words, ["to", "be", "or", "not"]);
/// ```
#[inline]
pub fn words(text: &str) -> Words<'_> {
    Words { text, next_block: 0, block: 0, edges: 0, spaces: u64::MAX, spill: 0 }
}

/// Iterator over the words of a text; made by [`words`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Words<'a> {
    text: &'a str,
    /// Where the next block begins: a multiple of [`BLOCK`].
    next_block: usize,
    /// Where the block begins that `edges` describes.
    block: usize,
    /// Bytes of the block that differ from the byte before in being white space: alternately the first byte of a
    /// word and the first byte behind it.
    edges: u64,
    /// Bytes of the block that are white space: tells which edges are ends.
    spaces: u64,
    /// White space of several bytes that began in the block and covers so many bytes of the next.
    spill: u32,
}

impl<'a> Words<'a> {
    /// Classifies the next block. `false` at the end of the text.
    #[inline]
    fn next_edges(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        if self.next_block > bytes.len() {
            return false;
        }
        let at = self.next_block;
        let left = bytes.len() - at;
        let class = if left >= BLOCK { classify_full(bytes, at) } else { classify_last(bytes, at) };
        let mut spaces = class.spaces | ((1u64 << self.spill) - 1);
        self.spill = 0;
        if class.leads != 0 {
            self.add_wide_spaces(class.leads, at, &mut spaces);
        }
        if left < BLOCK {
            // Behind the end all is white space: it ends the last word.
            spaces |= u64::MAX << left;
        }
        self.edges = spaces ^ (spaces << 1 | self.spaces >> (BLOCK - 1));
        self.spaces = spaces;
        self.block = at;
        self.next_block = at + BLOCK;
        true
    }

    /// Marks white space of several bytes, which starts at some of the given bytes.
    #[inline(never)]
    fn add_wide_spaces(&mut self, mut leads: u64, at: usize, spaces: &mut u64) {
        while leads != 0 {
            let i = leads.trailing_zeros();
            leads &= leads - 1;
            let len = wide_space(&self.text.as_bytes()[at + i as usize..]);
            if len > 0 {
                let covered = (1u64 << len) - 1;
                *spaces |= covered << i;
                self.spill = (i + len).saturating_sub(BLOCK as u32);
            }
        }
    }

    /// Takes the next edge, as an offset in the text. `None` at the end, where no word is begun.
    #[inline]
    fn take_edge(&mut self) -> Option<usize> {
        while self.edges == 0 {
            if !self.next_edges() {
                return None;
            }
        }
        let edge = self.block + self.edges.trailing_zeros() as usize;
        self.edges &= self.edges - 1;
        Some(edge)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let start = self.take_edge()?;
        let end = self.take_edge()?;
        Some(&self.text[start..end])
    }

    #[inline]
    fn fold<A, F: FnMut(A, &'a str) -> A>(mut self, init: A, mut f: F) -> A {
        let text = self.text;
        let mut acc = init;
        // Where the word begins that the next end belongs to, if that is in an earlier block.
        let mut begun = None;
        loop {
            // Two chains of bit scans that do not wait for each other.
            let mut starts = self.edges & !self.spaces;
            let mut ends = self.edges & self.spaces;
            while ends != 0 {
                let to = self.block + ends.trailing_zeros() as usize;
                ends &= ends - 1;
                let from = begun.take().unwrap_or_else(|| {
                    let from = self.block + starts.trailing_zeros() as usize;
                    starts &= starts - 1;
                    from
                });
                // SAFETY: both are offsets in the text, or its end, where whole characters begin: edges lie before
                // and behind white space, and that is marked as the whole characters it consists of. Each end has a
                // start before it, since edges alternate.
                acc = f(acc, unsafe { text.get_unchecked(from..to) });
            }
            if starts != 0 {
                begun = Some(self.block + starts.trailing_zeros() as usize);
            }
            if !self.next_edges() {
                return acc;
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        // The edges of the block, and what is left with a word at every second byte; one word may be begun.
        let left = self.text.len().saturating_sub(self.next_block);
        (0, Some(self.edges.count_ones() as usize / 2 + left / 2 + 2))
    }
}

impl std::iter::FusedIterator for Words<'_> {}

/// A bit for each byte of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    /// White space of one byte.
    spaces: u64,
    /// Bytes with which white space of several bytes may start.
    leads: u64,
}

impl Class {
    #[inline(always)]
    fn or_at(self, part: (u32, u32), shift: usize) -> Class {
        Class {
            spaces: self.spaces | u64::from(part.0) << shift,
            leads: self.leads | u64::from(part.1) << shift,
        }
    }
}

const NOTHING: Class = Class { spaces: 0, leads: 0 };

/// The block of [`BLOCK`] bytes at `at`.
#[inline(always)]
fn classify_full(bytes: &[u8], at: usize) -> Class {
    let block = &bytes[at..at + BLOCK];
    let (vectors, _) = block.as_chunks::<LANES>();
    let mut class = NOTHING;
    for (i, vector) in vectors.iter().enumerate() {
        class = class.or_at(vector_class(vector), i * LANES);
    }
    class
}

/// The block at `at` that the text ends in; bits behind the end are 0.
#[inline(always)]
fn classify_last(bytes: &[u8], at: usize) -> Class {
    let (vectors, rest) = bytes[at..].as_chunks::<LANES>();
    let mut class = NOTHING;
    for (i, vector) in vectors.iter().enumerate() {
        class = class.or_at(vector_class(vector), i * LANES);
    }
    if rest.is_empty() {
        return class;
    }
    let shift = vectors.len() * LANES;
    if let Some(last) = bytes.last_chunk::<LANES>() {
        // The last vector overlaps bytes that are known already: shift them out.
        let (spaces, leads) = vector_class(last);
        let known = LANES - rest.len();
        class.or_at((spaces >> known, leads >> known), shift)
    } else {
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        class.or_at(vector_class(&padded), shift)
    }
}

/// For 16 bytes: white space of one byte, and bytes with which white space of several bytes may start.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline(always)]
fn vector_class(bytes: &[u8; LANES]) -> (u32, u32) {
    // SAFETY: the function asks for nothing but SSE2, and this code is compiled only where SSE2 is part of the
    // target that the whole program is built for.
    unsafe { vector_class_sse2(bytes) }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[target_feature(enable = "sse2")]
#[inline]
fn vector_class_sse2(bytes: &[u8; LANES]) -> (u32, u32) {
    use std::arch::x86_64::*;
    let value = u128::from_le_bytes(*bytes);
    let v = _mm_set_epi64x((value >> 64) as i64, value as i64);
    let after_tab = _mm_sub_epi8(v, _mm_set1_epi8(TAB as i8));
    let controls = _mm_cmpeq_epi8(_mm_min_epu8(after_tab, _mm_set1_epi8(CR_AFTER_TAB as i8)), after_tab);
    let spaces = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(SPACE as i8)), controls);
    let spaces = _mm_movemask_epi8(spaces) as u32;
    if _mm_movemask_epi8(v) == 0 {
        return (spaces, 0);
    }
    let after_e1 = _mm_sub_epi8(v, _mm_set1_epi8(0xE1u8 as i8));
    let three_bytes = _mm_cmpeq_epi8(_mm_min_epu8(after_e1, _mm_set1_epi8(2)), after_e1);
    let leads = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(0xC2u8 as i8)), three_bytes);
    (spaces, _mm_movemask_epi8(leads) as u32)
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
#[inline(always)]
fn vector_class(bytes: &[u8; LANES]) -> (u32, u32) {
    vector_class_bytewise(bytes)
}

/// The same on any machine.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
fn vector_class_bytewise(bytes: &[u8; LANES]) -> (u32, u32) {
    bytes.iter().enumerate().fold((0, 0), |(spaces, leads), (i, &b)| {
        let space = b == SPACE || b.wrapping_sub(TAB) <= CR_AFTER_TAB;
        let lead = b == 0xC2 || (0xE1..=0xE3).contains(&b);
        (spaces | u32::from(space) << i, leads | u32::from(lead) << i)
    })
}

/// Length of the character at the start if it is white space of several bytes, else 0.
fn wide_space(bytes: &[u8]) -> u32 {
    match *bytes {
        // U+0085, U+00A0
        [0xC2, 0x85 | 0xA0, ..] => 2,
        // U+1680
        [0xE1, 0x9A, 0x80, ..] => 3,
        // U+2000 to U+200A, U+2028, U+2029, U+202F
        [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, ..] => 3,
        // U+205F
        [0xE2, 0x81, 0x9F, ..] => 3,
        // U+3000
        [0xE3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) {
        let expected: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
        let mut folded = Vec::new();
        words(text).for_each(|w| folded.push(w));
        assert_eq!(folded, expected, "{text:?}");
        let mut begun = words(text);
        let first = begun.next();
        let (low, high) = begun.size_hint();
        let mut rest = Vec::from_iter(first);
        begun.for_each(|w| rest.push(w));
        assert_eq!(rest, expected, "{text:?}");
        let left = expected.len().saturating_sub(1);
        assert!(low <= left && left <= high.unwrap(), "{text:?}");
    }

    #[test]
    fn every_character_is_classified_as_the_standard_library_does() {
        for c in '\0'..=char::MAX {
            let mut bytes = [0; 4];
            let text = c.encode_utf8(&mut bytes);
            if c.is_ascii() {
                let class = classify_last(text.as_bytes(), 0);
                assert_eq!(class, Class { spaces: u64::from(c.is_whitespace()), leads: 0 }, "{c:?}");
            } else {
                let len = wide_space(text.as_bytes()) as usize;
                assert_eq!(len, if c.is_whitespace() { text.len() } else { 0 }, "{c:?}");
                let leads = classify_last(text.as_bytes(), 0).leads;
                assert!(!c.is_whitespace() || leads & 1 == 1, "{c:?}");
            }
        }
    }

    #[test]
    fn vector_and_bytewise_classes_agree_on_every_byte() {
        for b in 0..=255u8 {
            for i in 0..LANES {
                let mut bytes = [b'x'; LANES];
                bytes[i] = b;
                assert_eq!(vector_class(&bytes), vector_class_bytewise(&bytes), "{b:#x} at {i}");
            }
        }
    }

    #[test]
    fn every_character_of_white_space_splits_at_every_place() {
        let spaces: Vec<char> = ('\0'..=char::MAX).filter(|c| c.is_whitespace()).collect();
        assert_eq!(spaces.len(), 25);
        for space in spaces {
            for before in 0..140 {
                for after in [0, 1, 70] {
                    check(&format!("{}{space}{}", "a".repeat(before), "é".repeat(after)));
                }
            }
        }
    }

    #[test]
    fn edges_of_blocks() {
        for n in 0..200 {
            check(&"a".repeat(n));
            check(&" ".repeat(n));
            check(&"a ".repeat(n));
            check(&format!("{}\u{3000}\u{3000}b", " ".repeat(n)));
        }
    }

    proptest! {
        #[test]
        fn words_are_those_of_split_whitespace(text in "[ab \t\n\u{b}\u{1c}\u{85}\u{a0}é—\u{2003}\u{2028}\u{200b}日\u{3000}😀]{0,200}") {
            check(&text);
        }
        #[test]
        fn words_of_any_text_are_those_of_split_whitespace(text in any::<String>()) {
            check(&text);
        }
    }
}
