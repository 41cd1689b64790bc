//! Savepoint: state that belongs to the user, as tables that any Parquet tool reads.
//!
//! ```text
//! PATH/manifest.json            what the savepoint holds: written last, so that without it there is no savepoint
//! PATH/<operator>-<table>.parquet
//! ```
//!
//! Place: above are operators, which say what their state is in rows; here rows become columns and files, and come back.
//! Method: the columns of a part are found by asking serde for its type (serde_arrow). What has no columns, such as an enum
//! with data, is one column of bytes in the engine's codec, with a warning. Each batch of rows is read back before it is
//! written: a type that does not come back as it was is written as bytes, too.
//! Columns: `subtask`; `key_group` where rows have a key; then for each part `NAME`, or `NAME.FIELD` for each field of a
//! struct or tuple.
//! Evolution: fields are found by name, wherever they stand. New ones need a serde default, removed ones are passed over,
//! numbers may become wider. Everything else is an error that names operator, table and field, before any state
//! is touched.
//! Limits: the state of one operator is in memory while its tables are written or read.

mod columns;
mod files;
mod manifest;
mod table;
mod types;

pub use manifest::{MANIFEST, Manifest, OperatorTables, PartEntry, SubtaskEntry, TableEntry, is_savepoint};
pub use table::{TableReader, TableSpec, notes_of, write_table};
