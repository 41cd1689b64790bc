//! Manifest: what a savepoint consists of.

use super::files;
use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::rows::TableKind;
use crate::base::vfs::{SharedVfs, Vfs, create_dirs, parent, write_renamed};
use crate::services::checkpoint::{JobTag, OperatorName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The name of the file.
pub const MANIFEST: &str = "manifest.json";
/// The version of the format.
const VERSION: u32 = 1;
const FORMAT: &str = "mainstem savepoint";
/// The largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// What a savepoint holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What wrote it.
    pub version: String,
    /// The job it is of.
    pub job: JobTag,
    /// The number of the checkpoint it was made from.
    pub checkpoint: u64,
    /// When, in milliseconds since the epoch.
    pub created_ms: i64,
    /// The operators.
    pub operators: Vec<OperatorTables>,
}

/// What an operator keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorTables {
    /// By what it is found again.
    pub operator: OperatorName,
    /// Number of key groups: what the job can ever be rescaled to.
    pub max_parallelism: usize,
    /// Its subtasks, by index.
    pub subtasks: Vec<SubtaskEntry>,
    /// Its state.
    pub tables: Vec<TableEntry>,
}

/// What is known of a subtask beside its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskEntry {
    /// It had read and written everything.
    pub finished: bool,
    /// How far event time had come for it.
    pub watermark: Timestamp,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its name, unique within the operator.
    pub name: String,
    /// What its rows are.
    pub kind: TableKind,
    /// Its file, in the directory of the savepoint.
    pub file: String,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Checksum of the file: xxh3, in hexadecimal.
    pub xxh3: String,
    /// The parts of a row.
    pub parts: Vec<PartEntry>,
    /// What the operator must know to read it, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

/// How a part of a row is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    /// Its name.
    pub name: String,
    /// Set if it is one column of bytes in the engine's codec: the type that they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_of: Option<String>,
    /// Set if there is no column, since all values are the same: that of a unit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nothing: bool,
    /// Whether its fields are columns of their own.
    #[serde(default)]
    pub spread: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The file around a manifest.
#[derive(Serialize, Deserialize)]
struct Sealed {
    format: String,
    format_version: u32,
    /// Of the manifest as compact JSON with sorted names: xxh3, in hexadecimal.
    xxh3: String,
    savepoint: serde_json::Value,
}

/// Whether a directory is a savepoint.
pub fn is_savepoint(vfs: &dyn Vfs, dir: &Path) -> bool {
    vfs.metadata(&dir.join(MANIFEST)).is_ok_and(|meta| !meta.is_dir)
}

impl Manifest {
    /// Makes a directory for a savepoint.
    ///
    /// # Errors
    /// When there is something at the path already, or it cannot be made.
    pub fn prepare(vfs: &SharedVfs, dir: &Path) -> Result<()> {
        match vfs.list(dir) {
            Ok(files) if files.is_empty() => return Ok(()),
            Ok(_) => {
                return Err(Error::config(format!(
                    "'{}' is not empty; give a savepoint a directory of its own",
                    dir.display()
                )));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("list", dir, e)),
        }
        create_dirs(&**vfs, dir, &mut Vec::new())
    }

    /// Writes the manifest: then the savepoint is complete and durable, if its tables are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, vfs: &SharedVfs, dir: &Path) -> Result<()> {
        let broken = |e: serde_json::Error| Error::Codec(format!("the manifest of a savepoint as JSON: {e}"));
        let savepoint = serde_json::to_value(self).map_err(broken)?;
        let xxh3 = checksum(&savepoint)?;
        let sealed = Sealed { format: FORMAT.into(), format_version: VERSION, xxh3, savepoint };
        let mut text = serde_json::to_vec_pretty(&sealed).map_err(broken)?;
        text.push(b'\n');
        let path = dir.join(MANIFEST);
        write_renamed(&**vfs, &path, &files::unfinished(&path), &text, true)?;
        failpoint::check("savepoint.renamed")?;
        vfs.sync_dir(parent(dir)).map_err(|e| Error::io("sync", parent(dir), e))?;
        failpoint::check("savepoint.durable")
    }

    /// Takes back what there is of a savepoint that has failed, so that it can be tried again. The manifest goes first: without
    /// its tables it must never be found. If it cannot be removed, all stays, and the savepoint is whole.
    pub fn withdraw(vfs: &SharedVfs, dir: &Path, tables: &[String]) {
        match vfs.remove_file(&dir.join(MANIFEST)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return,
            _ => {}
        }
        let unfinished = files::unfinished(&dir.join(MANIFEST));
        let tables = tables.iter().map(|table| dir.join(table));
        tables.chain([unfinished]).for_each(|file| drop(vfs.remove_file(&file)));
    }

    /// Reads and verifies the manifest of a savepoint.
    ///
    /// # Errors
    /// When it is damaged, of another version, or cannot be read.
    pub fn read(vfs: &SharedVfs, dir: &Path) -> Result<Manifest> {
        let path = dir.join(MANIFEST);
        let text = files::read_all(&**vfs, &path, MANIFEST_BYTES_MAX)?;
        let sealed: Sealed = serde_json::from_slice(&text)
            .map_err(|e| damaged(&path, format!("it is not the manifest of a savepoint: {e}")))?;
        if sealed.format != FORMAT {
            return Err(damaged(
                &path,
                format!("it is of the format '{}', expected '{FORMAT}'", sealed.format),
            ));
        }
        if sealed.format_version != VERSION {
            return Err(Error::config(format!(
                "savepoint '{}' is of format version {}; this version of mainstem reads version {VERSION}",
                dir.display(),
                sealed.format_version
            )));
        }
        let found = checksum(&sealed.savepoint)?;
        if found != sealed.xxh3 {
            return Err(damaged(&path, format!("its checksum is {found}, and should be {}", sealed.xxh3)));
        }
        serde_json::from_value(sealed.savepoint).map_err(|e| damaged(&path, e.to_string()))
    }
}

/// The order of names in an object is that of the alphabet.
fn checksum(savepoint: &serde_json::Value) -> Result<String> {
    fn sorted(value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                serde_json::Value::Object(fields.into_iter().collect())
            }
            serde_json::Value::Array(items) => serde_json::Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    let text = serde_json::to_vec(&sorted(savepoint)).map_err(|e| Error::Codec(e.to_string()))?;
    Ok(files::hexadecimal(&xxh3_64(&text).to_be_bytes()))
}

fn damaged(path: &Path, message: String) -> Error {
    Error::Corrupt { path: PathBuf::from(path), offset: 0, message }
}
