//! Stored state: what one key, or one broadcast state, holds, as bytes found again by its name.
//!
//! Names, not positions, say what belongs where: a program may declare its states in another order, and new ones, and
//! still read what an earlier run wrote.

use super::broadcast::AnyBroadcast;
use super::column::AnyColumn;
use super::declare::{Declared, StateDescriptor, States};
use super::serializer::{Compatibility, SerializerSnapshot};
use super::snapshot::{put_framed, split_frame, torn};
use super::table::Slot;
use crate::base::codec;
use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Added to the index of a state of which an entry has only what changed since the entry before.
const EDITS: usize = 1 << 30;

/// What a snapshot says of a state of keys, once for all keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenState {
    /// Its name.
    pub name: String,
    /// Its kind: see [`StateDescriptor::kind`](super::StateDescriptor).
    pub kind: String,
    /// Whether it has a time to live: then the times of last use come before the content.
    pub ttl: bool,
    /// The serializer of the user, if it was one.
    pub serializer: Option<SerializerSnapshot>,
}

/// Which column takes up which of the states that a snapshot holds.
#[derive(Clone, Debug, Default)]
pub struct StoredStates {
    /// By the index with which a state was written.
    columns: Vec<(usize, WrittenState)>,
}

/// Whether an entry has changes of a state, so that those before it are needed.
///
/// # Errors
/// If it is not an entry of states.
pub fn has_edits(entry: &[u8]) -> Result<bool> {
    let mut rest = entry;
    while !rest.is_empty() {
        let (index, behind) = codec::decode_front::<usize>(rest)?;
        if index & EDITS != 0 {
            return Ok(true);
        }
        rest = split_frame(behind).ok_or_else(torn)?.1;
    }
    Ok(false)
}

impl States {
    /// What a snapshot must say of the states of keys to be read, in the order of declaration.
    pub fn written(&self) -> Vec<WrittenState> {
        let written = |column: &Declared<dyn AnyColumn>| {
            let descriptor = self.descriptors().get(column.descriptor);
            WrittenState {
                name: name_of(column, self.descriptors()).to_string(),
                kind: descriptor.map_or("", |descriptor| descriptor.kind).to_string(),
                ttl: column.stored.ttl(self.owner()).is_some(),
                serializer: column.stored.serializer(self.owner()),
            }
        };
        self.columns.iter().map(written).collect()
    }

    /// Appends what the key of `slot` holds: of each state that holds anything its index in [`States::written`], the length
    /// of its bytes, and the bytes. What has expired at `live_at` may be left out.
    ///
    /// # Errors
    /// If a type of state cannot be encoded; the error names the state.
    pub fn encode_slot(&self, slot: Slot, live_at: Option<Timestamp>, into: &mut Vec<u8>) -> Result<()> {
        let columns = self.columns.iter().enumerate();
        columns.into_iter().try_for_each(|(i, column)| {
            let encode = |into: &mut Vec<u8>| column.stored.encode(self.owner(), slot, live_at, into);
            self.encode_state(i, column, encode, into).map(drop)
        })
    }

    /// The same as of barrier number `cut`, for an entry behind those of the barriers before: of a state that knows what
    /// changed between the last two barriers, that is enough.
    ///
    /// # Errors
    /// As [`States::encode_slot`].
    pub fn encode_slot_changes(&self, slot: Slot, cut: u64, into: &mut Vec<u8>) -> Result<()> {
        let columns = self.columns.iter().enumerate();
        columns.into_iter().try_for_each(|(i, column)| {
            let edits = |into: &mut Vec<u8>| column.stored.encode_edits(self.owner(), slot, cut, into);
            if self.encode_state(i + EDITS, column, edits, into)? {
                return Ok(());
            }
            let encode = |into: &mut Vec<u8>| column.stored.encode(self.owner(), slot, None, into);
            self.encode_state(i, column, encode, into).map(drop)
        })
    }

    /// Appends an index and what `encode` writes behind its length; nothing, and false, if `encode` says so.
    fn encode_state(
        &self,
        index: usize,
        column: &Declared<dyn AnyColumn>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<bool>,
        into: &mut Vec<u8>,
    ) -> Result<bool> {
        let at = into.len();
        codec::encode(&index, into)?;
        let mut stored = Ok(false);
        put_framed(into, |into| {
            stored = encode(into);
            Ok(())
        })?;
        let stored = stored.map_err(|e| naming(e, "written", name_of(column, self.descriptors())))?;
        if !stored {
            into.truncate(at);
        }
        Ok(stored)
    }

    /// Finds the columns for the states of a snapshot.
    ///
    /// # Errors
    /// If a state is not declared, or declared as another kind, with or without a time to live where it was the other way
    /// round, or with a serializer that cannot read it; the error names the state.
    pub fn reader(&self, written: Vec<WrittenState>) -> Result<StoredStates> {
        let reader = |written: WrittenState| {
            let name = written.name.as_str();
            let at = self.columns.iter().position(|column| name_of(column, self.descriptors()) == name);
            let (at, column) =
                at.and_then(|at| Some((at, self.columns.get(at)?))).ok_or_else(|| unknown("keyed", name))?;
            let kind = self.descriptors().get(column.descriptor).map_or("", |descriptor| descriptor.kind);
            let compatibility = column.stored.compatibility(self.owner(), written.serializer.as_ref());
            check_fit(&written, kind, column.stored.ttl(self.owner()).is_some(), compatibility)?;
            Ok((at, written))
        };
        let columns = written.into_iter().map(reader).collect::<Result<_>>()?;
        Ok(StoredStates { columns })
    }

    /// Stores at `slot` what [`States::encode_slot`] wrote. States that hold nothing there stay as they are.
    ///
    /// # Errors
    /// If the bytes are not of the types that are declared; the error names the state.
    pub fn decode_slot(&mut self, slot: Slot, stored: &StoredStates, bytes: &[u8]) -> Result<()> {
        let (parts, owner) = self.parts_mut();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (index, behind) = codec::decode_front::<usize>(rest)?;
            let (own, behind) = split_frame(behind).ok_or_else(torn)?;
            let (column, written) = stored.columns.get(index).ok_or_else(torn)?;
            let column = parts.columns.get(*column).ok_or_else(torn)?;
            let decoded = column.stored.decode(owner, slot, own, written.serializer.as_ref());
            decoded.map_err(|e| naming(e, "restored", &written.name))?;
            rest = behind;
        }
        Ok(())
    }

    /// Makes `slot` hold what it held when the next of several entries was written, oldest first: one of
    /// [`States::encode_slot`], or of [`States::encode_slot_changes`] behind those before. `None`: it was empty.
    ///
    /// # Errors
    /// As [`States::decode_slot`], and if there are changes of a state that the slot does not hold.
    pub fn replay_slot(&mut self, slot: Slot, stored: &StoredStates, entry: Option<&[u8]>) -> Result<()> {
        let (parts, owner) = self.parts_mut();
        let mut held = vec![false; parts.columns.len()];
        let mut rest = entry.unwrap_or_default();
        while !rest.is_empty() {
            let (index, behind) = codec::decode_front::<usize>(rest)?;
            let (own, behind) = split_frame(behind).ok_or_else(torn)?;
            let (at, written) = stored.columns.get(index & !EDITS).ok_or_else(torn)?;
            let column = parts.columns.get(*at).ok_or_else(torn)?;
            held[*at] = true;
            let decoded = match index & EDITS {
                0 => column.stored.decode(owner, slot, own, written.serializer.as_ref()),
                _ => column.stored.apply_edits(owner, slot, own),
            };
            decoded.map_err(|e| naming(e, "restored", &written.name))?;
            rest = behind;
        }
        let gone = parts.columns.iter().zip(held).filter(|(_, held)| !held);
        gone.for_each(|(column, _)| column.stored.clear(owner, slot));
        Ok(())
    }

    /// The subtask's copy of each broadcast state, with its name.
    ///
    /// # Errors
    /// If a type of state cannot be encoded; the error names the state.
    pub fn snapshot_broadcast(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let encode = |broadcast: &Declared<dyn AnyBroadcast>| {
            let name = name_of(broadcast, self.descriptors());
            let mut bytes = Vec::new();
            broadcast.stored.encode(self.owner(), &mut bytes).map_err(|e| naming(e, "written", name))?;
            Ok((name.to_string(), bytes))
        };
        self.broadcasts.iter().map(encode).collect()
    }

    /// Replaces broadcast state by what [`States::snapshot_broadcast`] wrote, of this subtask or another.
    ///
    /// # Errors
    /// If no broadcast state has one of the names, or the bytes are not of its type; the error names the state.
    pub fn restore_broadcast<N: AsRef<str>, B: AsRef<[u8]>>(&mut self, maps: &[(N, B)]) -> Result<()> {
        let (parts, owner) = self.parts_mut();
        for (name, bytes) in maps {
            let name = name.as_ref();
            let broadcast =
                find(parts.broadcasts, parts.descriptors, name).ok_or_else(|| unknown("broadcast", name))?;
            broadcast.stored.decode(owner, bytes.as_ref()).map_err(|e| naming(e, "restored", name))?;
        }
        Ok(())
    }
}

fn name_of<'a, T: ?Sized>(declared: &Declared<T>, descriptors: &'a [StateDescriptor]) -> &'a str {
    descriptors.get(declared.descriptor).map_or("", |descriptor| &descriptor.name)
}

fn find<'a, T: ?Sized>(
    declared: &'a [Declared<T>],
    descriptors: &[StateDescriptor],
    name: &str,
) -> Option<&'a Declared<T>> {
    declared.iter().find(|declared| name_of(declared, descriptors) == name)
}

#[cold]
fn unknown(of: &str, name: &str) -> Error {
    Error::user(format!(
        "the snapshot holds {of} state '{name}', which the function does not declare; declare it as it was \
         declared when the snapshot was taken, or start without the snapshot"
    ))
}

/// Whether a state as it was written is one as it is declared now.
///
/// # Errors
/// If it is of another kind, has or had a time to live, or has a serializer that is not compatible; the error names the state.
pub(super) fn check_fit(
    written: &WrittenState,
    kind: &str,
    ttl: bool,
    compatibility: Compatibility,
) -> Result<()> {
    let name = written.name.as_str();
    if kind != written.kind {
        let was = &written.kind;
        return Err(changed(name, &format!("the kind '{was}', and is declared as '{kind}'")));
    }
    match (written.ttl, ttl) {
        (true, false) => return Err(changed(name, "a time to live, and is declared without one")),
        (false, true) => return Err(changed(name, "no time to live, and is declared with one")),
        _ => {}
    }
    match compatibility {
        Compatibility::AsIs | Compatibility::Migrate => Ok(()),
        Compatibility::Incompatible(why) => Err(Error::user(format!(
            "state '{name}' of the snapshot cannot be read with the serializer it is declared with: {why}; declare it \
             with one that can, or start without the snapshot"
        ))),
    }
}

#[cold]
fn changed(name: &str, how: &str) -> Error {
    Error::user(format!(
        "state '{name}' of the snapshot has {how}; declare it as it was declared when the snapshot was taken, or give \
         it another name"
    ))
}

#[cold]
fn naming(error: Error, what: &str, name: &str) -> Error {
    match error {
        Error::Codec(message) => Error::Codec(format!("state '{name}' cannot be {what}: {message}")),
        Error::User(e) => Error::user(format!("state '{name}' cannot be {what}: {e}")),
        error => error,
    }
}
