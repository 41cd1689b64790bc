//! Snapshot: what one subtask of one operator keeps, as bytes, made when the barrier of a checkpoint has come.
//!
//! Place: operators append entries to sections of an [`OperatorSnapshot`]; the executor takes what has been appended
//! away again and again and writes it to files. Nothing here knows files.
//! Method: a section is one run of bytes, an entry after the other, each behind its length. Sections of a table
//! ([`Section::put_slot`]) name the slot of each entry, so that a later snapshot may hold only what has changed since
//! the one before; see [`OperatorState`](super::OperatorState) for how they are read.

use super::table::Slot;
use crate::base::codec;
use crate::base::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Entries of one kind, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    bytes: Vec<u8>,
    entries: u64,
}

/// Emptied sections that a snapshot keeps, ...
const SPARE_SECTIONS: usize = 4;
/// ... none of which has more memory than this: what a slice of a snapshot takes when its buffer has been doubled.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Bytes of the longest length in front of an entry.
const LENGTH_BYTES_MAX: usize = 10;

impl Section {
    /// A section without entries.
    pub const fn new() -> Section {
        Section { bytes: Vec::new(), entries: 0 }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// If the type of the entry cannot be encoded; nothing is appended then.
    #[inline]
    pub fn put<T: Serialize + ?Sized>(&mut self, entry: &T) -> Result<()> {
        self.frame(|bytes| codec::encode(&entry, bytes))
    }

    /// Appends what a table holds at `slot`, or that it holds nothing there any more.
    ///
    /// # Errors
    /// As [`Section::put`].
    #[inline]
    pub fn put_slot<T: Serialize>(&mut self, slot: Slot, entry: Option<&T>) -> Result<()> {
        self.frame(|bytes| codec::encode(&(slot, entry), bytes))
    }

    /// As [`Section::put_slot`], for an entry that `encode` appends to the bytes it is given.
    ///
    /// # Errors
    /// What `encode` returns; nothing is appended then.
    #[inline]
    pub fn put_slot_with(
        &mut self,
        slot: Slot,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.frame(|bytes| {
            codec::encode(&(slot, true), bytes)?;
            encode(bytes)
        })
    }

    /// Appends an entry that `encode` writes as the codec would.
    ///
    /// # Errors
    /// Those of `encode`; nothing is appended then.
    pub fn put_with(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        self.frame(encode)
    }

    #[inline]
    fn frame(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        put_framed(&mut self.bytes, encode)?;
        self.entries += 1;
        Ok(())
    }

    /// The bytes of each entry, in order.
    pub fn frames(&self) -> impl Iterator<Item = Result<&[u8]>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let frame = split_frame(rest);
            rest = frame.map_or(&[], |(_, rest)| rest);
            Some(frame.map(|(entry, _)| entry).ok_or_else(torn))
        })
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The entries as they are written, each behind its length.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Moves the entries of another section behind the own ones; the other keeps its memory, or gets that of this one.
    pub fn take_from(&mut self, other: &mut Section) {
        if self.bytes.is_empty() {
            std::mem::swap(self, other);
        } else {
            self.append(&other.bytes, other.entries);
        }
        other.bytes.clear();
        other.entries = 0;
    }

    /// Appends entries that were taken out of a section before.
    pub fn append(&mut self, bytes: &[u8], entries: u64) {
        self.bytes.extend_from_slice(bytes);
        self.entries += entries;
    }
}

/// Puts the length of what `encode` appends in front of it. Lengths below 128 take the one byte left for them.
#[inline]
pub(super) fn put_framed(bytes: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let at = bytes.len();
    bytes.push(0);
    if let Err(e) = encode(bytes) {
        bytes.truncate(at);
        return Err(e);
    }
    let mut length = bytes.len() - at - 1;
    if length < 0x80 {
        bytes[at] = length as u8;
        return Ok(());
    }
    let mut prefix = [0; LENGTH_BYTES_MAX];
    let mut digits = 0;
    while length >= 0x80 {
        prefix[digits] = length as u8 | 0x80;
        length >>= 7;
        digits += 1;
    }
    prefix[digits] = length as u8;
    bytes.splice(at..=at, prefix[..=digits].iter().copied());
    Ok(())
}

/// The first entry and what follows it.
pub(super) fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (i, &byte) in bytes.iter().enumerate().take(LENGTH_BYTES_MAX) {
        length |= ((byte & 0x7f) as usize).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            let entry = bytes.get(i + 1..)?;
            return entry.split_at_checked(length);
        }
    }
    None
}

#[cold]
pub(super) fn torn() -> Error {
    Error::Codec("an entry of a snapshot is longer than the snapshot".into())
}

/// What an operator keeps, as bytes: made when a checkpoint is taken, read back when the operator is restored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    sections: BTreeMap<String, Section>,
    /// Emptied sections, whose memory new ones take.
    #[serde(skip)]
    spare: Vec<Section>,
}

impl PartialEq for OperatorSnapshot {
    fn eq(&self, other: &OperatorSnapshot) -> bool {
        self.sections == other.sections
    }
}

impl OperatorSnapshot {
    /// The section of a name, to append to; it is made if there is none. Look it up once, not for each entry.
    pub fn section(&mut self, name: &str) -> &mut Section {
        if !self.sections.contains_key(name) {
            self.sections.insert(name.to_string(), self.spare.pop().unwrap_or_default());
        }
        self.sections.entry(name.to_string()).or_default()
    }

    /// Adds an entry at the end of a section.
    ///
    /// # Errors
    /// If the type of the entry cannot be encoded.
    pub fn put<T: Serialize + ?Sized>(&mut self, section: &str, entry: &T) -> Result<()> {
        self.section(section).put(entry)
    }

    /// The entries of a section, in the order they were put; none if there is no such section. An entry is an error
    /// if it is not of type `T`.
    pub fn entries<T: DeserializeOwned>(&self, section: &str) -> impl Iterator<Item = Result<T>> {
        let frames = self.sections.get(section).into_iter().flat_map(Section::frames);
        frames.map(|frame| codec::decode(frame?))
    }

    /// Number of entries of a section.
    pub fn len(&self, section: &str) -> usize {
        self.sections.get(section).map_or(0, |section| section.len() as usize)
    }

    /// Whether nothing was put.
    pub fn is_empty(&self) -> bool {
        self.sections.values().all(Section::is_empty)
    }

    /// The sections by name, in order.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.sections.iter().map(|(name, section)| (name.as_str(), section))
    }

    /// Bytes of all entries together.
    pub fn bytes(&self) -> u64 {
        self.sections.values().map(|section| section.bytes.len() as u64).sum()
    }

    /// Takes out what has been put so far.
    pub fn take(&mut self) -> OperatorSnapshot {
        std::mem::take(self)
    }

    /// Drops all entries and keeps their memory for those that will be put, except where a section was unusually large.
    pub fn recycle(&mut self) {
        for (_, mut section) in std::mem::take(&mut self.sections) {
            if self.spare.len() < SPARE_SECTIONS && (1..=SPARE_BYTES_MAX).contains(&section.bytes.capacity())
            {
                section.bytes.clear();
                section.entries = 0;
                self.spare.push(section);
            }
        }
    }

    /// Appends the sections of another part of the same snapshot behind the own ones.
    pub fn append(&mut self, part: &OperatorSnapshot) {
        for (name, section) in &part.sections {
            self.section(name).append(&section.bytes, section.entries);
        }
    }
}
