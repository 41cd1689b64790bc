//! Formats: how the bytes of a file become records and records become bytes.
//!
//! Place: sources and sinks stand on this; nothing here knows splits, batches or subtasks.

pub(crate) mod compression;
pub(crate) mod lines;
