//! OperatorSnapshot: what an operator keeps, as bytes.

use crate::base::codec::{decode, encode};
use crate::base::error::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an operator keeps, as bytes: named sections of entries. Made by `Operator::snapshot`, read back by
/// `Operator::restore`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    sections: BTreeMap<String, Vec<Vec<u8>>>,
}

impl OperatorSnapshot {
    /// Appends an entry to a section.
    ///
    /// # Errors
    /// If the entry cannot be encoded.
    pub fn put<T: Serialize>(&mut self, section: &str, entry: &T) -> Result<()> {
        let mut bytes = Vec::new();
        encode(entry, &mut bytes)?;
        self.sections.entry(section.to_string()).or_default().push(bytes);
        Ok(())
    }
    /// The entries of a section, in order.
    pub fn entries<T: DeserializeOwned>(&self, section: &str) -> impl Iterator<Item = Result<T>> {
        self.sections.get(section).into_iter().flatten().map(|bytes| decode(bytes))
    }
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.sections.values().all(Vec::is_empty)
    }
}
