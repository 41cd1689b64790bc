//! Stored state: what one key, or one broadcast state, holds, as bytes found again by its name.
//!
//! Names, not positions, say what belongs where: a program may declare its states in another order, and new ones, and
//! still read what an earlier run wrote.

use super::broadcast::AnyBroadcast;
use super::column::AnyColumn;
use super::declare::{Declared, StateDescriptor, States};
use super::table::Slot;
use crate::base::error::{Error, Result};

impl States {
    /// The names of the states of keys, in the order of declaration.
    pub fn keyed_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| name_of(column, self.descriptors()))
    }

    /// What the key of `slot` holds, by [`States::keyed_names`]: nothing where the key has no state.
    ///
    /// # Errors
    /// If a type of state cannot be encoded; the error names the state.
    pub fn snapshot_slot(&self, slot: Slot) -> Result<Vec<Option<Vec<u8>>>> {
        let encode = |column: &Declared<dyn AnyColumn>| {
            let mut bytes = Vec::new();
            let stored = column.stored.encode(self.owner(), slot, &mut bytes);
            let stored = stored.map_err(|e| naming(e, "written", name_of(column, self.descriptors())))?;
            Ok(stored.then_some(bytes))
        };
        self.columns.iter().map(encode).collect()
    }

    /// Stores at `slot` what [`States::snapshot_slot`] wrote, each under the name of its state. States that are not
    /// among them stay as they are.
    ///
    /// # Errors
    /// If no state of keys has one of the names, or the bytes are not of its type; the error names the state.
    pub fn restore_slot<N: AsRef<str>, B: AsRef<[u8]>>(
        &mut self,
        slot: Slot,
        columns: &[(N, B)],
    ) -> Result<()> {
        let (parts, owner) = self.parts_mut();
        for (name, bytes) in columns {
            let name = name.as_ref();
            let column =
                find(parts.columns, parts.descriptors, name).ok_or_else(|| unknown("keyed", name))?;
            column.stored.decode(owner, slot, bytes.as_ref()).map_err(|e| naming(e, "restored", name))?;
        }
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

#[cold]
fn naming(error: Error, what: &str, name: &str) -> Error {
    match error {
        Error::Codec(message) => Error::Codec(format!("state '{name}' cannot be {what}: {message}")),
        error => error,
    }
}
