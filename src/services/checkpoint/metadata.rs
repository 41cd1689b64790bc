//! Metadata: what a completed checkpoint consists of: of each operator and subtask, where its state is.

use super::state_file::FileHandle;
use crate::base::batch::CheckpointId;
use crate::base::data::Timestamp;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The job and the attempt that wrote something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTag {
    /// Id of the job.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Number of the attempt, over all processes that worked on the job.
    pub attempt: u64,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Who took it.
    pub job: JobTag,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// When it was completed, in milliseconds since the epoch.
    pub completed_ms: i64,
    /// Whether it has all state, or changes behind those of older ones.
    pub full: bool,
    /// The operators of the program.
    pub operators: Vec<OperatorEntry>,
}

/// By what an operator is found again in a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperatorName {
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// Whether it is a source, a sink or something between them.
    pub kind: OperatorKind,
    /// Its place among those of its kind that have no uid.
    pub place: Option<usize>,
    /// Its name, for people; must fit where there is no uid.
    pub name: String,
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            OperatorKind::Source => "source",
            OperatorKind::Operator => "operator",
            OperatorKind::Sink => "sink",
        };
        match (&self.uid, self.place) {
            (Some(uid), _) => write!(f, "the {what} with uid '{uid}'"),
            (None, place) => {
                let place = place.unwrap_or_default();
                write!(f, "{what} '{}' at place {place} of those without a uid", self.name)
            }
        }
    }
}

/// Kind of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OperatorKind {
    /// Reads input.
    Source,
    /// In the middle.
    Operator,
    /// Writes output.
    Sink,
}

/// What one operator kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorEntry {
    /// Which operator.
    pub operator: OperatorName,
    /// Its subtasks, by index.
    pub subtasks: Vec<SubtaskEntry>,
}

/// What one subtask of an operator kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubtaskEntry {
    /// It had read and written everything.
    pub finished: bool,
    /// How far event time had come for it.
    pub watermark: Timestamp,
    /// Its snapshots: one of everything, then changes, oldest first. Empty if it keeps nothing.
    pub states: Vec<StateHandle>,
}

/// Where a snapshot is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StateHandle {
    /// Here.
    Inline(StateBytes),
    /// In a file.
    File(FileHandle),
}

impl StateHandle {
    /// Bytes of the snapshot.
    pub fn bytes(&self) -> u64 {
        match self {
            StateHandle::Inline(bytes) => bytes.0.len() as u64,
            StateHandle::File(file) => file.bytes,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}

/// Bytes that are encoded as such, not one by one.
#[derive(Clone, Default, PartialEq)]
pub struct StateBytes(pub Vec<u8>);

impl fmt::Debug for StateBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for StateBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for StateBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = StateBytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<StateBytes, E> {
                Ok(StateBytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<StateBytes, E> {
                Ok(StateBytes(bytes))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StateBytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(StateBytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
