//! JobDirectory: where a job keeps what it needs to go on after the death of its process.
//!
//! Place: opened on the client's thread before anything starts and held until the job has ended; what is in it belongs
//! to the services that the paths are named for.
//!
//! ```text
//! DIR/lock          locked by the process that runs the job
//! DIR/owner         who that is or was, and how many have been before
//! DIR/job           what the job is: written and read by the executor
//! DIR/stages/       finished outputs of BATCH
//! DIR/checkpoints/  of STREAMING
//! DIR/copies/       of state files, where checkpoints are kept elsewhere
//! DIR/origin        what a job of STREAMING was started from
//! ```
//!
//! Invariants: at most one process works in a directory; each that opens it has a higher attempt number than all before it.
//! A small file written here is there whole or as it was before, whenever the process or the machine dies, and
//! what is read back was verified: magic, kind, length and checksum.
//! Limits: the file system must know locks. A small file holds at most [`SMALL_FILE_BYTES_MAX`].

use crate::base::codec;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::mutant;
use crate::base::vfs::{SharedVfs, Vfs, VfsFile, create_dirs, write_renamed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Larger than the index of a unit with a million blocks; what is larger is not ours.
pub const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;
const LOCK: &str = "lock";
const OWNER: &str = "owner";
const STAGES: &str = "stages";
const CHECKPOINTS: &str = "checkpoints";
const COPIES: &str = "copies";
/// Ends the name of a file that is being written.
const UNFINISHED: &str = ".unfinished";
const MAGIC: &[u8; 4] = b"MSF1";
/// Magic, kind, length, checksum.
const HEAD_BYTES: usize = 24;

/// What a small file holds: a file of one kind is not taken for one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind(pub [u8; 4]);

const OWNER_KIND: FileKind = FileKind(*b"OWNR");

/// Whether a file is made durable before it gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It and its name survive the death of the machine.
    Synced,
    /// It survives the death of the process. What it says can be computed again.
    Recomputable,
}

/// Who works in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process and machine, for people.
    pub process: String,
    /// Number of the process among those that worked here, from 1.
    pub attempt: u64,
}

/// A directory of a job, locked.
pub struct JobDirectory {
    vfs: SharedVfs,
    dir: PathBuf,
    owner: Owner,
    /// Held for as long as this value lives.
    _lock: Box<dyn VfsFile>,
}

impl JobDirectory {
    /// Creates the directory if need be, locks it and writes down who has it.
    ///
    /// # Errors
    /// When another process has it, with its name; when it cannot be created, locked or written.
    pub fn open(vfs: SharedVfs, dir: &Path, process: &str) -> Result<JobDirectory> {
        match vfs.metadata(dir) {
            Ok(meta) if !meta.is_dir => {
                return Err(Error::config(format!(
                    "job directory '{}' is a file; give the path of a directory",
                    dir.display()
                )));
            }
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("open", dir, e)),
            _ => create_dirs(&*vfs, dir, &mut Vec::new())?,
        }
        let path = dir.join(LOCK);
        let mut lock = match vfs.create(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => io("open", &path, vfs.open(&path))?,
            created => io("create", &path, created)?,
        };
        let before = read_small::<Owner>(&*vfs, &dir.join(OWNER), OWNER_KIND);
        if !io("lock", &path, lock.try_lock())? && !mutant::is("two_writers") {
            let by = match before {
                Ok(Some(owner)) => format!("{} (attempt {})", owner.process, owner.attempt),
                _ => "another process".to_string(),
            };
            return Err(Error::config(format!(
                "job directory '{}' is in use by {by}; end it first, or give this job a directory of its own",
                dir.display()
            )));
        }
        io("lock", &path, failpoint::reach("job.locked"))?;
        // Read again, now that nobody else writes it. Without a number there is no telling whose files are whose.
        let before: Option<Owner> = read_small(&*vfs, &dir.join(OWNER), OWNER_KIND)?;
        let before = before.map_or(0, |owner| owner.attempt);
        let owner = Owner { process: process.to_string(), attempt: before.saturating_add(1) };
        write_small(&*vfs, &dir.join(OWNER), OWNER_KIND, &owner, Durability::Synced)?;
        Ok(JobDirectory { vfs, dir: dir.to_path_buf(), owner, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
    /// This process.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
    /// Number of this process among those that worked here, from 1.
    pub fn attempt(&self) -> u64 {
        self.owner.attempt
    }
    /// The file system that it is on.
    pub fn vfs(&self) -> &SharedVfs {
        &self.vfs
    }
    /// Where finished outputs of BATCH are.
    pub fn stages(&self) -> PathBuf {
        self.dir.join(STAGES)
    }
    /// Where checkpoints of STREAMING are.
    pub fn checkpoints(&self) -> PathBuf {
        self.dir.join(CHECKPOINTS)
    }

    /// Where copies of state files are, if checkpoints are kept somewhere else.
    pub fn copies(&self) -> PathBuf {
        self.dir.join(COPIES)
    }

    /// Checks that no other process has taken the directory over, as happens where it was copied or its lock was lost
    /// while this process slept.
    ///
    /// # Errors
    /// When another process is its owner now, or that cannot be found out.
    pub fn check_owner(&self) -> Result<()> {
        let now: Option<Owner> = read_small(&*self.vfs, &self.dir.join(OWNER), OWNER_KIND)?;
        if now.as_ref() == Some(&self.owner) {
            return Ok(());
        }
        let by = now.map_or("nobody".to_string(), |now| format!("{} (attempt {})", now.process, now.attempt));
        Err(Error::config(format!(
            "job directory '{}' belongs to {by} now, and not to {} (attempt {}) any more; this process ends without \
             committing anything",
            self.dir.display(),
            self.owner.process,
            self.owner.attempt
        )))
    }

    /// The content of a small file below the directory; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not hold what was written, else what the file system says.
    pub fn read<T: DeserializeOwned>(&self, name: impl AsRef<Path>, kind: FileKind) -> Result<Option<T>> {
        read_small(&*self.vfs, &self.dir.join(name), kind)
    }

    /// Writes a small file below the directory, in place of the one before.
    ///
    /// # Errors
    /// When it cannot be written; the one before is then still there.
    pub fn write<T: Serialize>(
        &self,
        name: impl AsRef<Path>,
        kind: FileKind,
        content: &T,
        durability: Durability,
    ) -> Result<()> {
        write_small(&*self.vfs, &self.dir.join(name), kind, content, durability)
    }
}

/// Reads a small file and verifies it; `None` if there is none.
///
/// # Errors
/// [`Error::Corrupt`] if it does not hold what was written, else what the file system says.
pub fn read_small<T: DeserializeOwned>(vfs: &dyn Vfs, path: &Path, kind: FileKind) -> Result<Option<T>> {
    let file = match vfs.open(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        opened => io("open", path, opened)?,
    };
    let damaged = |message: String| Error::Corrupt { path: path.to_path_buf(), offset: 0, message };
    let len = io("read", path, file.len())?;
    if !(HEAD_BYTES as u64..=SMALL_FILE_BYTES_MAX).contains(&len) {
        return Err(damaged(format!(
            "expected {HEAD_BYTES} to {SMALL_FILE_BYTES_MAX} bytes, found {len}; it is no file of a job"
        )));
    }
    let mut bytes = vec![0; len as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            return Err(damaged(format!("expected {len} bytes, and it ends before that")));
        }
        read => io("read", path, read)?,
    }
    let (head, payload) = bytes.split_at(HEAD_BYTES);
    let expected = head_of(kind, payload);
    if head != expected && !mutant::is("checksum_ignored") {
        let what = match head {
            _ if head[..4] != expected[..4] => "the magic number",
            _ if head[4..8] != expected[4..8] => "the kind of file",
            _ if head[8..16] != expected[8..16] => "the length",
            _ => "the checksum",
        };
        return Err(damaged(format!("{what} is not that of a file that this version has written")));
    }
    codec::decode(payload).map(Some).map_err(|e| damaged(e.to_string()))
}

fn head_of(kind: FileKind, payload: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(MAGIC);
    head[4..8].copy_from_slice(&kind.0);
    head[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    let seed = u64::from(u32::from_le_bytes(kind.0));
    head[16..].copy_from_slice(&xxh3_64_with_seed(payload, seed).to_le_bytes());
    head
}

/// Writes a small file under another name and renames it: it is there whole or not at all.
///
/// # Errors
/// When it cannot be written; one of this name from before is then still there.
pub fn write_small<T: Serialize>(
    vfs: &dyn Vfs,
    path: &Path,
    kind: FileKind,
    content: &T,
    durability: Durability,
) -> Result<()> {
    let mut bytes = vec![0; HEAD_BYTES];
    codec::encode(content, &mut bytes)?;
    let head = head_of(kind, &bytes[HEAD_BYTES..]);
    bytes[..HEAD_BYTES].copy_from_slice(&head);
    let mut name = path.as_os_str().to_os_string();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    write_renamed(vfs, path, &unfinished, &bytes, durability == Durability::Synced)
}

fn io<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|e| Error::io(action, path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::{Fault, FaultPlan, FaultVfs, Keep, MemVfs};
    use std::sync::Arc;

    const KIND: FileKind = FileKind(*b"TEST");
    const FILE: &str = "/job/file";

    fn open(vfs: &MemVfs, process: &str) -> Result<JobDirectory> {
        JobDirectory::open(Arc::new(vfs.clone()), Path::new("/job"), process)
    }

    /// T19: a second process is refused and told who works there; attempts only rise.
    #[test]
    fn one_process_at_a_time_and_each_has_a_higher_attempt() {
        let vfs = MemVfs::new();
        let first = open(&vfs, "process 7 on here").unwrap();
        assert_eq!(first.attempt(), 1);
        let refused = open(&vfs, "process 8 on here").err().unwrap().to_string();
        assert_eq!(
            refused,
            "job directory '/job' is in use by process 7 on here (attempt 1); end it first, or give this job a \
             directory of its own"
        );
        drop(first);
        for attempt in 2..5 {
            assert_eq!(open(&vfs, "again").unwrap().attempt(), attempt);
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_refused() {
        let vfs = MemVfs::new();
        vfs.create(Path::new("/job")).unwrap();
        assert!(open(&vfs, "p").err().unwrap().to_string().contains("'/job' is a file"));
    }

    /// T4: every flipped bit, every cut, another kind, and a file of another size are detected.
    #[test]
    fn any_damage_of_a_small_file_is_detected() {
        let vfs = MemVfs::new();
        vfs.create_dir_all(Path::new("/job")).unwrap();
        let content = ("some text".to_string(), vec![1u64, 2, 3]);
        let path = Path::new(FILE);
        write_small(&vfs, path, KIND, &content, Durability::Recomputable).unwrap();
        let good = vfs.snapshot()[path].clone().unwrap();
        let read = |bytes: &[u8]| {
            vfs.remove_file(path).unwrap();
            vfs.create(path).unwrap().append(bytes).unwrap();
            read_small::<(String, Vec<u64>)>(&vfs, path, KIND)
        };
        assert_eq!(read(&good).unwrap(), Some(content));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bad), Err(Error::Corrupt { .. })), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(matches!(read(&good[..len]), Err(Error::Corrupt { .. })), "cut at {len}");
        }
        read(&good).unwrap();
        let other = read_small::<(String, Vec<u64>)>(&vfs, path, FileKind(*b"ELSE"));
        assert!(other.unwrap_err().to_string().contains("the kind of file"));
    }

    /// T3, T5: at each operation that fails, and in each state that a power loss may leave, the file is the old one or
    /// the new one.
    #[test]
    fn a_small_file_is_the_old_one_or_the_new_one() {
        for k in 0.. {
            let mem = MemVfs::new();
            mem.create_dir_all(Path::new("/job")).unwrap();
            let path = Path::new(FILE);
            write_small(&mem, path, KIND, &1u64, Durability::Synced).unwrap();
            mem.sync_dir(Path::new("/")).unwrap();
            let faulty = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::fail_at(k, Fault::NoSpace));
            let written = write_small(&*faulty, path, KIND, &2u64, Durability::Synced);
            let found: u64 = read_small(&mem, path, KIND).unwrap().unwrap();
            assert!(found == 2 || written.is_err() && found == 1, "operation {k}");
            for (seed, keep) in
                (0..8).flat_map(|seed| [Keep::Nothing, Keep::Random, Keep::Torn].map(|k| (seed, k)))
            {
                let after = mem.crash(seed, keep);
                let found: u64 = read_small(&after, path, KIND).unwrap().unwrap();
                assert!(found == 2 || written.is_err() && found == 1, "operation {k}, {keep:?}, seed {seed}");
            }
            if faulty.failures() == 0 {
                written.unwrap();
                break;
            }
        }
    }

    /// T4: without the number of the last attempt nobody may begin another.
    #[test]
    fn a_damaged_owner_is_an_error_that_names_it() {
        let vfs = MemVfs::new();
        drop(open(&vfs, "p").unwrap());
        vfs.remove_file(Path::new("/job/owner")).unwrap();
        vfs.create(Path::new("/job/owner")).unwrap().append(b"nonsense").unwrap();
        let error = open(&vfs, "p").err().unwrap().to_string();
        assert!(error.starts_with("'/job/owner' at byte 0 is damaged"), "{error}");
    }
}
