//! Record: what is known of a job in a directory of jobs, while it runs and when it has ended.

use crate::api::JobStatus;
use crate::api::report::JobReport;
use crate::base::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Jobs that have ended and are remembered in a directory; the oldest are forgotten.
pub const RECORDS_MAX: usize = 64;
/// The largest record that is read.
const RECORD_BYTES_MAX: u64 = 4 << 20;
const PREFIX: &str = "job-";

/// A job in a directory of jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The process that runs it.
    pub process: u32,
    /// When it was started, in milliseconds since the epoch.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// What it was doing when this was written. One that runs and does not answer was lost with its process.
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// What it had done when it ended.
    pub report: Option<JobReport>,
}

impl JobRecord {
    /// Where the record of a job is.
    pub fn path(dir: &Path, id: &str) -> PathBuf {
        dir.join(format!("{PREFIX}{id}.json"))
    }

    /// Where the socket of a job is.
    pub fn socket(dir: &Path, id: &str) -> PathBuf {
        dir.join(format!("{PREFIX}{id}.sock"))
    }

    /// Writes the record in place of the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = JobRecord::path(dir, &self.id);
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::Codec(format!("the record of job '{}' as JSON: {e}", self.name)))?;
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, text).map_err(|e| Error::io("write", &unfinished, e))?;
        std::fs::rename(&unfinished, &path).map_err(|e| Error::io("rename", &path, e))
    }

    /// The records in a directory, oldest first. What cannot be read as one is left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all(dir: &Path) -> Result<Vec<JobRecord>> {
        let entries = std::fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PREFIX) && name.ends_with(".json") {
                records.extend(read(&path));
            }
        }
        records.sort_by(|a: &JobRecord, b| (a.started_ms, &a.id).cmp(&(b.started_ms, &b.id)));
        Ok(records)
    }

    /// Forgets the jobs that ended longest ago, so that another one can be remembered.
    pub(super) fn make_room(dir: &Path) -> Result<()> {
        let ended: Vec<_> = JobRecord::all(dir)?.into_iter().filter(|record| !record.is_live()).collect();
        for record in ended.iter().take((ended.len() + 1).saturating_sub(RECORDS_MAX)) {
            let _ = std::fs::remove_file(JobRecord::socket(dir, &record.id));
            let path = JobRecord::path(dir, &record.id);
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Whether the process may still run it: it says so, and the process is there.
    fn is_live(&self) -> bool {
        self.status == JobStatus::Running && Path::new(&format!("/proc/{}", self.process)).exists()
    }
}

fn read(path: &Path) -> Option<JobRecord> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > RECORD_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(i: i64) -> JobRecord {
        JobRecord {
            id: format!("{i:04}"),
            name: "clicks".into(),
            process: std::process::id(),
            started_ms: i,
            ended_ms: None,
            status: if i == 3 { JobStatus::Running } else { JobStatus::Finished },
            error: None,
            report: None,
        }
    }

    #[test]
    fn the_oldest_that_have_ended_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..RECORDS_MAX as i64 + 10 {
            JobRecord::make_room(dir.path()).unwrap();
            record(i).write(dir.path()).unwrap();
        }
        std::fs::write(dir.path().join("job-x.json"), "{").unwrap();
        std::fs::write(dir.path().join("other.json"), "{}").unwrap();
        let kept: Vec<i64> = JobRecord::all(dir.path()).unwrap().iter().map(|r| r.started_ms).collect();
        assert_eq!(kept.len(), RECORDS_MAX + 1);
        assert_eq!(kept[..3], [3, 10, 11], "the one that runs is not forgotten");
        let missing = JobRecord::all(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
