//! State file: the format in which a snapshot of one subtask of an operator is kept.
//!
//! Method: a snapshot is a sequence of pieces of named sections. Pieces are put into blocks of about
//! [`BLOCK_BYTES`]; each block has a head that names the job, attempt, checkpoint and its own number, and a checksum over
//! head and content, verified whenever it is read. Blocks are compressed where that pays. A snapshot that is small
//! gets no file: its pieces go into the metadata.
//! Invariants: a file is complete when it is synced; its [`FileHandle`] has its length, number of blocks and a digest of
//! their checksums, so that a cut file, or one that was put in the place of another, is found out.

use super::copies::{Copies, CopyFile};
use super::metadata::{JobTag, StateBytes, StateHandle};
use crate::base::batch::CheckpointId;
use crate::base::codec;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::mutant;
use crate::base::vfs::{SharedVfs, Vfs, VfsFile};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A block is written when it has this many bytes.
pub const BLOCK_BYTES: usize = 1 << 20;
/// A section is cut into pieces of this many bytes.
const PIECE_BYTES: usize = 512 << 10;
/// What is larger is no block of ours: a block, a piece that made it full, and the name of a section.
const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Snapshots up to this size are kept in the metadata.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Blocks that are not compressed after one for which it did not pay.
const SKIP_BLOCKS: u32 = 15;
const MAGIC: &[u8; 4] = b"MSS1";
const HEAD_BYTES: usize = 52;

/// A state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHandle {
    /// Below the directory of all checkpoints.
    pub path: String,
    /// Id of the job that wrote it, hashed.
    pub job: u64,
    /// The attempt that wrote it.
    pub attempt: u64,
    /// The checkpoint it was written for.
    pub checkpoint: CheckpointId,
    /// Bytes of the pieces in it.
    pub bytes: u64,
    /// Its length.
    pub length: u64,
    /// Number of its blocks.
    pub blocks: u32,
    /// Over the checksums of its blocks.
    pub digest: u64,
}

/// The id of a job in the head of a block.
fn job_hash(job: &JobTag) -> u64 {
    xxh3_64(job.id.as_bytes())
}

/// Buffers that are kept: a block and what is stored of it, of two files that are written side by side.
const SCRATCH_BUFFERS: usize = 4;
/// None of them has more bytes: a block with the piece that made it full.
const SCRATCH_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Buffers for those who write state files, one file after the other. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct Scratch(Arc<Mutex<Vec<Vec<u8>>>>);

impl Scratch {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < SCRATCH_BUFFERS && (1..=SCRATCH_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

/// Writes one snapshot.
pub struct StateWriter {
    vfs: SharedVfs,
    root: PathBuf,
    file: Option<Box<dyn VfsFile>>,
    copies: Option<Copies>,
    copy: Option<CopyFile>,
    handle: FileHandle,
    block: Vec<u8>,
    stored: Vec<u8>,
    /// Blocks to come that are not compressed.
    skip: u32,
    scratch: Scratch,
    /// The buffers are from there: it is a file, and not small.
    large: bool,
}

impl StateWriter {
    /// For a snapshot that goes into a file at `path` below `root` unless it is small.
    pub fn new(
        vfs: SharedVfs,
        root: &Path,
        path: String,
        job: &JobTag,
        checkpoint: CheckpointId,
    ) -> StateWriter {
        let handle = FileHandle {
            path,
            job: job_hash(job),
            attempt: job.attempt,
            checkpoint,
            bytes: 0,
            length: 0,
            blocks: 0,
            digest: 0,
        };
        StateWriter {
            vfs,
            root: root.to_path_buf(),
            file: None,
            copies: None,
            copy: None,
            handle,
            block: Vec::new(),
            stored: Vec::new(),
            skip: 0,
            scratch: Scratch::default(),
            large: false,
        }
    }

    /// Writes a copy of the file, too.
    #[must_use]
    pub fn with_copy(mut self, copies: Option<&Copies>) -> StateWriter {
        self.copies = copies.cloned();
        self
    }

    /// With buffers that others have used before, where the snapshot needs large ones.
    pub fn with(self, scratch: &Scratch) -> StateWriter {
        StateWriter { scratch: scratch.clone(), ..self }
    }

    #[cold]
    fn enlarge(&mut self) {
        self.large = true;
        let mut block = self.scratch.take();
        block.extend_from_slice(&self.block);
        self.block = block;
        self.stored = self.scratch.take();
    }

    /// Appends entries to a section.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, section: &str, entries: u64, bytes: &[u8]) -> Result<()> {
        let mut entries = entries;
        let mut rest = bytes;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(PIECE_BYTES));
            codec::encode(&(section, std::mem::take(&mut entries), piece.len() as u64), &mut self.block)?;
            if !self.large && self.block.len() + piece.len() > INLINE_BYTES_MAX {
                self.enlarge();
            }
            self.block.extend_from_slice(piece);
            if self.block.len() >= BLOCK_BYTES {
                self.write_block()?;
            }
            if more.is_empty() {
                return Ok(());
            }
            rest = more;
        }
    }

    /// Ends the snapshot and makes it durable.
    ///
    /// # Errors
    /// When the file cannot be written or synced.
    pub fn finish(mut self) -> Result<StateHandle> {
        if self.file.is_none() && self.block.len() <= INLINE_BYTES_MAX {
            return Ok(StateHandle::Inline(StateBytes(self.block)));
        }
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let path = self.root.join(&self.handle.path);
        failpoint::check("state_file.sync")?;
        if let Some(file) = &mut self.file {
            file.sync_data().map_err(|e| Error::io("sync", &path, e))?;
        }
        self.scratch.give(std::mem::take(&mut self.block));
        self.scratch.give(std::mem::take(&mut self.stored));
        failpoint::check("state_file.sync_dir")?;
        if let Some(dir) = path.parent() {
            self.vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        Ok(StateHandle::File(self.handle))
    }

    fn write_block(&mut self) -> Result<()> {
        let path = self.root.join(&self.handle.path);
        if self.file.is_none() {
            if let Some(dir) = path.parent() {
                self.vfs.create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
            }
            failpoint::check("state_file.create")?;
            self.file = Some(self.vfs.create(&path).map_err(|e| Error::io("create", &path, e))?);
            self.copy = self.copies.as_ref().and_then(|copies| copies.create(&self.handle.path));
        }
        let raw = self.block.len();
        self.stored.clear();
        self.stored.resize(HEAD_BYTES, 0);
        let compressed = self.skip == 0 && compress(&self.block, &mut self.stored);
        if !compressed {
            self.skip = self.skip.checked_sub(1).unwrap_or(SKIP_BLOCKS);
            self.stored.truncate(HEAD_BYTES);
            self.stored.extend_from_slice(&self.block);
        }
        let head = Head {
            compressed,
            job: self.handle.job,
            attempt: self.handle.attempt,
            checkpoint: self.handle.checkpoint,
            number: self.handle.blocks,
            raw: raw as u32,
            stored: (self.stored.len() - HEAD_BYTES) as u32,
        };
        let (head, checksum) = head.sealed(&self.stored[HEAD_BYTES..]);
        self.stored[..HEAD_BYTES].copy_from_slice(&head);
        failpoint::check("state_file.write")?;
        if let Some(file) = &mut self.file {
            file.append(&self.stored).map_err(|e| Error::io("write", &path, e))?;
        }
        if let Some(copy) = &mut self.copy {
            copy.append(&self.stored);
        }
        self.handle.bytes += raw as u64;
        self.handle.length += self.stored.len() as u64;
        self.handle.blocks += 1;
        self.handle.digest = xxh3_64_with_seed(&checksum.to_le_bytes(), self.handle.digest);
        self.block.clear();
        Ok(())
    }
}

/// Appends the compressed block; false where that saves less than an eighth.
fn compress(block: &[u8], into: &mut Vec<u8>) -> bool {
    let at = into.len();
    into.resize(at + lz4_flex::block::get_maximum_output_size(block.len()), 0);
    match lz4_flex::block::compress_into(block, &mut into[at..]) {
        Ok(length) if length < block.len() - block.len() / 8 => {
            into.truncate(at + length);
            true
        }
        _ => false,
    }
}

struct Head {
    compressed: bool,
    job: u64,
    attempt: u64,
    checkpoint: CheckpointId,
    number: u32,
    raw: u32,
    stored: u32,
}

impl Head {
    /// The head in bytes, its checksum at the end.
    fn sealed(&self, content: &[u8]) -> ([u8; HEAD_BYTES], u64) {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&u32::from(self.compressed).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.job.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.checkpoint.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.number.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.raw.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.stored.to_le_bytes());
        let checksum = xxh3_64_with_seed(content, xxh3_64(&bytes[..44]));
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }
}

fn number<const N: usize>(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[..N]);
    u64::from_le_bytes(wide)
}

/// Calls `take` with each piece of a snapshot: section, entries that begin in it, bytes.
///
/// # Errors
/// [`Error::Corrupt`] where a file does not hold what was written, else what the file system or `take` say.
pub fn read(
    vfs: &dyn Vfs,
    root: &Path,
    handle: &StateHandle,
    mut take: impl FnMut(&str, u64, &[u8]) -> Result<()>,
) -> Result<()> {
    match handle {
        StateHandle::Inline(bytes) => pieces(&bytes.0, &mut take),
        StateHandle::File(handle) => read_file(vfs, &root.join(&handle.path), handle, &mut take),
    }
}

fn pieces(mut block: &[u8], take: &mut impl FnMut(&str, u64, &[u8]) -> Result<()>) -> Result<()> {
    while !block.is_empty() {
        let ((section, entries, length), rest) = codec::decode_front::<(String, u64, u64)>(block)?;
        let Some((piece, rest)) =
            usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
        else {
            return Err(Error::Codec(format!(
                "section '{section}' of a snapshot is longer than the snapshot"
            )));
        };
        take(&section, entries, piece)?;
        block = rest;
    }
    Ok(())
}

fn read_file(
    vfs: &dyn Vfs,
    path: &Path,
    handle: &FileHandle,
    take: &mut impl FnMut(&str, u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let file = vfs.open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file.len().map_err(|e| Error::io("read", path, e))?;
    let damaged = |offset: u64, message: String| Error::Corrupt { path: path.to_path_buf(), offset, message };
    if length != handle.length {
        return Err(damaged(length, format!("expected {} bytes, found {length}", handle.length)));
    }
    let mut offset = 0;
    let mut digest = 0;
    let mut raw = Vec::new();
    let mut stored = Vec::new();
    for block in 0..handle.blocks {
        if offset + HEAD_BYTES as u64 > length {
            return Err(damaged(offset, format!("block {block} of {} is missing", handle.blocks)));
        }
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, offset).map_err(|e| Error::io("read", path, e))?;
        if head[..4] != *MAGIC {
            return Err(damaged(offset, "there is no block of a state file of this version".into()));
        }
        let [raw_bytes, stored_bytes] = [36, 40].map(|at| number::<4>(&head[at..]) as usize);
        if raw_bytes > BLOCK_BYTES_MAX || offset + (HEAD_BYTES + stored_bytes) as u64 > length {
            return Err(damaged(offset, format!("a block of {raw_bytes} bytes does not fit into it")));
        }
        stored.resize(stored_bytes, 0);
        file.read_exact_at(&mut stored, offset + HEAD_BYTES as u64)
            .map_err(|e| Error::io("read", path, e))?;
        let expected = Head {
            compressed: number::<4>(&head[4..]) == 1,
            job: handle.job,
            attempt: handle.attempt,
            checkpoint: handle.checkpoint,
            number: block,
            raw: raw_bytes as u32,
            stored: stored_bytes as u32,
        };
        let compressed = expected.compressed;
        let (expected, checksum) = expected.sealed(&stored);
        if head[8..36] != expected[8..36] {
            return Err(damaged(
                offset,
                format!(
                    "block {block} was written by another job, attempt or checkpoint than {}, or is another block",
                    handle.checkpoint
                ),
            ));
        }
        if head != expected && !mutant::is("checksum_ignored") {
            return Err(damaged(offset, format!("the checksum of block {block} does not fit its content")));
        }
        digest = xxh3_64_with_seed(&checksum.to_le_bytes(), digest);
        let content = if compressed {
            raw.resize(raw_bytes, 0);
            match lz4_flex::block::decompress_into(&stored, &mut raw) {
                Ok(length) if length == raw_bytes => &raw,
                _ => return Err(damaged(offset, format!("block {block} cannot be decompressed"))),
            }
        } else {
            &stored
        };
        pieces(content, take).map_err(|e| match e {
            Error::Codec(message) => damaged(offset, message),
            e => e,
        })?;
        offset += (HEAD_BYTES + stored_bytes) as u64;
    }
    if offset != length || digest != handle.digest {
        return Err(damaged(0, "it is not the file that the checkpoint was completed with".into()));
    }
    Ok(())
}
