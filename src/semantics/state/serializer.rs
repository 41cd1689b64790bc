//! StateSerializer: a type's own way to be written into snapshots, and to read what older versions of it wrote.
//!
//! Place: given where a state is declared ([`States::value_with`](super::States::value_with)). A snapshot holds once, for each
//! such state, what [`StateSerializer::written`] says; before any entry is read, the serializer of the program that is
//! restored is asked whether it can read what that one wrote.

use crate::base::error::BoxError;
use serde::{Deserialize, Serialize};

/// What a snapshot says of the serializer that wrote a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerializerSnapshot {
    /// The name of the format.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Whatever else is needed to read it: a schema, say.
    pub bytes: Vec<u8>,
}

/// Whether a serializer reads what another one, or an older version of it, wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// The bytes are the same.
    AsIs,
    /// It reads the old bytes, and writes new ones from then on.
    Migrate,
    /// It does not, for this reason: the restore fails and names the state.
    Incompatible(String),
}

/// Writes and reads values of a state.
///
/// ```
/// # use mainstem::prelude::*;
/// use mainstem::semantics::state::{Compatibility, SerializerSnapshot, StateSerializer};
/// /// Temperatures: whole degrees in version 1, tenths since.
/// struct Temperature;
/// impl StateSerializer<i32> for Temperature {
///     fn written(&self) -> SerializerSnapshot {
///         SerializerSnapshot { name: "temperature".to_string(), version: 2, bytes: Vec::new() }
///     }
///     fn compatibility(&self, written: &SerializerSnapshot) -> Compatibility {
///         match (written.name.as_str(), written.version) {
///             ("temperature", 2) => Compatibility::AsIs,
///             ("temperature", 1) => Compatibility::Migrate,
///             _ => Compatibility::Incompatible("only temperatures of versions 1 and 2 can be read".to_string()),
///         }
///     }
///     fn serialize(&self, tenths: &i32, into: &mut Vec<u8>) -> UserResult {
///         into.extend(tenths.to_le_bytes());
///         Ok(())
///     }
///     fn deserialize(&self, written: &SerializerSnapshot, from: &[u8]) -> UserResult<i32> {
///         let number = i32::from_le_bytes(from.try_into()?);
///         Ok(if written.version == 1 { number * 10 } else { number })
///     }
/// }
/// ```
pub trait StateSerializer<S>: Send + Sync + 'static {
    /// What a snapshot is to say of this serializer.
    fn written(&self) -> SerializerSnapshot;
    /// Whether this serializer reads what the one that `written` tells of wrote.
    fn compatibility(&self, written: &SerializerSnapshot) -> Compatibility;
    /// Appends a value.
    ///
    /// # Errors
    /// If the value cannot be written; the snapshot fails.
    fn serialize(&self, value: &S, into: &mut Vec<u8>) -> std::result::Result<(), BoxError>;
    /// Reads a value that the serializer wrote that `written` tells of, one that this one is not incompatible with.
    ///
    /// # Errors
    /// If the bytes are no such value; the restore fails and names the state.
    fn deserialize(&self, written: &SerializerSnapshot, from: &[u8]) -> std::result::Result<S, BoxError>;
}
