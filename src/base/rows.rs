//! Rows: state handed over as typed rows, between who knows the types and who knows files.
//!
//! Method: a row has parts, such as a key and a value. A writer takes each through serde, erased, so that it can turn it
//! into columns. A reader gives each back as the bytes of the engine's codec, which [`Part::recode`] has made
//! from whatever serde reads from: in it fields are found by name, so that a type may have changed meanwhile.
//! Nothing here runs while records are processed.

use crate::base::codec;
use crate::base::error::Result;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A value of which only serde knows the type.
pub use erased_serde::Serialize as Erased;

/// Reads a value of a type and appends it to the bytes as the engine's codec does.
pub type Recode =
    fn(&mut dyn erased_serde::Deserializer<'_>, &mut Vec<u8>) -> std::result::Result<(), erased_serde::Error>;

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// State of keys: the first part is the key.
    Keyed,
    /// What windows of keys hold: the first part is the key.
    Windows,
    /// Timers of keys: the first part is the key.
    Timers,
    /// State of which each subtask has a copy.
    Broadcast,
    /// State of a subtask, such as the splits of a source.
    Operator,
}

impl TableKind {
    /// Whether the first part of a row is a key, by which the row has a key group.
    pub fn has_key(self) -> bool {
        matches!(self, TableKind::Keyed | TableKind::Windows | TableKind::Timers)
    }
}

/// A part of the rows of a table.
#[derive(Clone, Copy)]
pub struct Part {
    /// Its name, for columns.
    pub name: &'static str,
    /// Its type: tells apart types whose bytes say nothing.
    pub type_name: &'static str,
    /// Reads a value.
    pub recode: Recode,
}

impl Part {
    /// A part of type `T`.
    pub fn of<T: Serialize + DeserializeOwned>(name: &'static str) -> Part {
        Part { name, type_name: std::any::type_name::<T>(), recode: recode::<T> }
    }
}

fn recode<T: Serialize + DeserializeOwned>(
    from: &mut dyn erased_serde::Deserializer<'_>,
    into: &mut Vec<u8>,
) -> std::result::Result<(), erased_serde::Error> {
    use serde::de::Error as _;
    let value: T = erased_serde::deserialize(from)?;
    codec::encode(&value, into).map_err(erased_serde::Error::custom)
}

/// Takes rows.
pub trait RowWriter {
    /// A row of a subtask, with the hash of its key if it has one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn row(&mut self, subtask: usize, hash: Option<u64>, parts: &[&dyn Erased]) -> Result<()>;
}

/// Gives rows back, in the order in which they were written.
pub trait RowReader {
    /// Goes to the next row; the subtask that had it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn next(&mut self) -> Result<Option<usize>>;
    /// A part of the row, as the engine's codec writes it.
    ///
    /// # Errors
    /// When there is no such part.
    fn part(&self, part: usize) -> Result<&[u8]>;
}

/// Bytes that are written as such, not one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}
