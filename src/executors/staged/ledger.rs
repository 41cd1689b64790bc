//! Ledger: the finished units of a job, written down for the process after this one.
//!
//! Place: on the thread that runs the job; files in the `stages` folder of the job directory.
//!
//! ```text
//! stage002-unit00005.unit                       the record of a unit: attempt, index of its outputs, what it counted, sinks
//! stage002-unit00005-edge3-attempt1.0-0.rows    the blocks that it has left: process 1, attempt 0, first file
//! ```
//!
//! Order: outputs are complete before their record is written, and a record is written before what the unit has read is
//! removed. Before the record of an attempt that has left something else than the one before, the records of those that
//! have read it are withdrawn. So whatever a process leaves when it dies, a unit that counts has read what is recorded,
//! or what a repeated attempt will be compared with.
//! Durability: nothing is synced. What a power loss damages is found by its checksum and made again.

use super::schedule::UnitId;
use super::summary::Summary;
use super::unit::unit_name;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::vfs::SharedVfs;
use crate::services::job_dir::{Durability, FileKind, read_small, write_small};
use crate::services::shuffle::StoredOutput;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const KIND: FileKind = FileKind(*b"UNIT");
const EXTENSION: &str = "unit";

/// The record of a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The job, the stage and the unit that it is of.
    pub of: (String, u64, u64),
    /// Whether the unit is done. If not, only the checksums of its outputs still matter.
    pub counts: bool,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// By edge.
    pub outputs: Vec<(u64, StoredOutput)>,
    /// What its writers have handed over, by step.
    pub sinks: Vec<(u64, Vec<u8>)>,
    /// What it has counted.
    pub summary: Summary,
}

/// The records of a job.
pub struct Ledger {
    vfs: SharedVfs,
    dir: PathBuf,
    job: String,
}

impl Ledger {
    /// The records in a folder, which is created if need be.
    pub fn open(vfs: SharedVfs, dir: PathBuf, job: String) -> Result<Ledger> {
        vfs.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        Ok(Ledger { vfs, dir, job })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its file system.
    pub fn vfs(&self) -> &SharedVfs {
        &self.vfs
    }

    /// Whose record it is.
    pub fn of(&self, id: UnitId) -> (String, u64, u64) {
        (self.job.clone(), id.stage as u64, id.unit as u64)
    }

    fn path(&self, id: UnitId) -> PathBuf {
        self.dir.join(unit_name(id)).with_extension(EXTENSION)
    }

    /// Writes down that a unit is done.
    pub fn write(&self, id: UnitId, record: &UnitRecord) -> Result<()> {
        failpoint::check("stage.unit_done")?;
        self.put(id, record, Durability::Recomputable)
    }

    fn put(&self, id: UnitId, record: &UnitRecord, durability: Durability) -> Result<()> {
        write_small(&*self.vfs, &self.path(id), KIND, record, durability)
    }

    /// The record of a unit; none if there is none that can be read.
    pub fn read(&self, id: UnitId) -> Result<Option<UnitRecord>> {
        failpoint::check("stage.resume")?;
        let path = self.path(id);
        match read_small::<UnitRecord>(&*self.vfs, &path, KIND) {
            Ok(Some(record)) if record.of != self.of(id) => {
                tracing::warn!(path = %path.display(), "a record is that of another unit of work; it runs again");
                Ok(None)
            }
            Err(Error::Corrupt { path, message, .. }) => {
                tracing::warn!(path = %path.display(), message, "a record of a unit of work is damaged; it runs again");
                Ok(None)
            }
            read => read,
        }
    }

    /// A unit does not count any more. The checksums of what it has left stay. This is durable, unlike a record that counts: after
    /// a power loss a unit must not count again beside another attempt of one that it has read.
    pub fn withdraw(&self, id: UnitId) -> Result<()> {
        match self.read(id)? {
            Some(record) => self.put(id, &UnitRecord { counts: false, ..record }, Durability::Synced),
            None => Ok(()),
        }
    }

    /// Removes everything: a new job begins.
    pub fn clear(&self) -> Result<()> {
        for path in self.vfs.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))? {
            self.vfs.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Removes everything but the records and these files: what attempts have left that never succeeded.
    pub fn clean(&self, in_use: &BTreeSet<String>) -> Result<()> {
        for path in self.vfs.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))? {
            let is_record = path.extension().is_some_and(|extension| extension == EXTENSION);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_record || in_use.contains(name) {
                continue;
            }
            match self.vfs.remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
                _ => {}
            }
        }
        Ok(())
    }
}
