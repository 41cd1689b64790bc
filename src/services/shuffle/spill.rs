//! Spill: blocks in files, mostly unnamed ones, each with a header that says what it is and a checksum that proves it.
//!
//! Place: runs write blocks through a [`Spiller`], cursors read them by positioned reads, many at once.
//! Layout of a block, little endian: magic (4), flags (4), job (8), stage (4), attempt (4), producer (4), partition (4),
//! sequence in the file (8), raw length (4), stored length (4), checksum (8), then the stored bytes. The checksum is
//! xxh3 of the stored bytes, seeded with the xxh3 of the header before it.
//! Invariants: a reader knows the whole header except the checksum from the index, so nothing is allocated or
//! decoded from a length that a damaged file states.
//! Costs and limits: LZ4 only where it saves a tenth; after a block where it does not, some blocks are not tried. A large
//! row is a block of its own, which is written from where the row is and never compressed, so that no second copy of
//! it is needed to write or to read it; where it could be compressed it takes the more of the disk. No fsync.
//! A file without a name is gone with the process; one with a name is removed when it is closed, unless
//! somebody keeps it.

use super::context::{Identity, ShuffleContext};
use super::row::LARGE_ROW_BYTES;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::mutant;
use crate::base::vfs::{SharedVfs, VfsFile, create_anew};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

/// Bytes of a block header.
pub(super) const HEADER_BYTES: usize = 56;
const CHECKED_BYTES: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"MSB1");
const FLAG_LZ4: u32 = 1;
const FLAG_TIMESTAMPS: u32 = 2;
/// Blocks that are not tried after one that LZ4 did not make smaller.
const UNTRIED_BLOCKS: u32 = 15;

/// What the index knows of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockLengths {
    pub(super) raw: u32,
    pub(super) stored: u32,
}

/// What the index knows of the front of a large row: all that lies before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Front {
    pub(super) bytes: u32,
    pub(super) digest: u64,
}

/// Everything a header states except the checksum.
fn header(
    identity: &Identity,
    partition: u32,
    sequence: u64,
    lengths: BlockLengths,
    timestamps: bool,
) -> [u8; CHECKED_BYTES] {
    let mut flags = 0;
    if lengths.stored != lengths.raw {
        flags |= FLAG_LZ4;
    }
    if timestamps {
        flags |= FLAG_TIMESTAMPS;
    }
    let mut bytes = [0; CHECKED_BYTES];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&identity.job.to_le_bytes());
    bytes[16..20].copy_from_slice(&identity.stage.to_le_bytes());
    bytes[20..24].copy_from_slice(&identity.attempt.to_le_bytes());
    bytes[24..28].copy_from_slice(&identity.producer.to_le_bytes());
    bytes[28..32].copy_from_slice(&partition.to_le_bytes());
    bytes[32..40].copy_from_slice(&sequence.to_le_bytes());
    bytes[40..44].copy_from_slice(&lengths.raw.to_le_bytes());
    bytes[44..48].copy_from_slice(&lengths.stored.to_le_bytes());
    bytes
}

/// Names and places of the header's fields, for messages.
const FIELDS: [(&str, usize, usize); 10] = [
    ("magic", 0, 4),
    ("flags", 4, 8),
    ("job", 8, 16),
    ("stage", 16, 20),
    ("attempt", 20, 24),
    ("producer", 24, 28),
    ("partition", 28, 32),
    ("sequence", 32, 40),
    ("raw length", 40, 44),
    ("stored length", 44, 48),
];

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | b as u64)
}

/// The checksum of bytes that are in several places.
pub(super) fn digest_of_pieces(pieces: &[&[u8]], seed: u64) -> u64 {
    if let [piece] = pieces {
        return xxh3_64_with_seed(piece, seed);
    }
    let mut digest = Xxh3::with_seed(seed);
    pieces.iter().for_each(|piece| digest.update(piece));
    digest.digest()
}

/// An open file. If it has a name it is removed with this, unless it is kept.
struct Place {
    file: Box<dyn VfsFile>,
    /// For messages; where the file is, if it has a name.
    path: PathBuf,
    /// The file system of a file with a name.
    named: Option<SharedVfs>,
    keep: AtomicBool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(vfs) = self.named.as_ref().filter(|_| !self.keep.load(Ordering::Relaxed)) {
            // What cannot be removed here is removed by the next process in the job directory.
            let _ = vfs.remove_file(&self.path);
        }
    }
}

/// A file of blocks that is complete and is only read from now on.
pub(super) struct SpillFile {
    place: Place,
    /// Bytes that were written.
    bytes: u64,
    identity: Identity,
    timestamps: bool,
    /// A block could not be read.
    damaged: AtomicBool,
}

impl SpillFile {
    /// Opens a file that a process before this one has left, and keeps it.
    pub(super) fn open(
        vfs: &SharedVfs,
        path: PathBuf,
        bytes: u64,
        identity: Identity,
        timestamps: bool,
    ) -> Result<SpillFile> {
        let file = vfs.open(&path).map_err(|e| Error::io("open", &path, e))?;
        let len = file.len().map_err(|e| Error::io("read", &path, e))?;
        if len < bytes {
            let message = format!("{bytes} bytes were expected, and it has {len}");
            return Err(Error::Corrupt { path, offset: len, message });
        }
        let place = Place { file, path, named: Some(vfs.clone()), keep: AtomicBool::new(true) };
        Ok(SpillFile { place, bytes, identity, timestamps, damaged: AtomicBool::new(false) })
    }

    /// Its name, if it has one, and its size.
    pub(super) fn name(&self) -> Option<(String, u64)> {
        self.place.named.as_ref()?;
        Some((self.place.path.file_name()?.to_str()?.to_string(), self.bytes))
    }

    /// Whether a file with a name outlives this value.
    pub(super) fn keep(&self, keep: bool) {
        self.place.keep.store(keep, Ordering::Relaxed);
    }

    /// Whether a block could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads the block at `offset` into the front of `raw`, which is long enough for it. `stored` is working space.
    /// What cannot be read marks the file as damaged.
    pub(super) fn read_block(
        &self,
        offset: u64,
        partition: u32,
        sequence: u64,
        lengths: BlockLengths,
        stored: &mut Vec<u8>,
        raw: &mut [u8],
    ) -> Result<()> {
        self.noting_damage(self.try_read_block(offset, partition, sequence, lengths, stored, raw))
    }

    fn noting_damage<T>(&self, read: Result<T>) -> Result<T> {
        if read.is_err() {
            self.damaged.store(true, Ordering::Relaxed);
        }
        read
    }

    fn try_read_block(
        &self,
        offset: u64,
        partition: u32,
        sequence: u64,
        lengths: BlockLengths,
        stored: &mut Vec<u8>,
        raw: &mut [u8],
    ) -> Result<()> {
        failpoint::check("shuffle.read")?;
        let raw = &mut raw[..lengths.raw as usize];
        // Nothing to decompress, and long enough that a copy costs more than a second call.
        let in_place = lengths.raw == lengths.stored && raw.len() >= LARGE_ROW_BYTES;
        stored.resize(HEADER_BYTES + if in_place { 0 } else { lengths.stored as usize }, 0);
        self.read_exact_at(stored, offset, offset, lengths)?;
        let (head, rest) = stored.split_at(HEADER_BYTES);
        let (found, checksum) = head.split_at(CHECKED_BYTES);
        let expected = header(&self.identity, partition, sequence, lengths, self.timestamps);
        if found != expected {
            return Err(self.other_block(offset, &expected, found));
        }
        if in_place {
            self.read_exact_at(raw, offset + HEADER_BYTES as u64, offset, lengths)?;
        }
        let payload = if in_place { &raw[..] } else { rest };
        let computed = xxh3_64_with_seed(payload, xxh3_64(&expected));
        if number(checksum) != computed && !mutant::is("block_checksum_ignored") {
            let message =
                format!("the checksum of the block is {:#018x}, expected {computed:#018x}", number(checksum));
            return Err(self.damaged(offset, message));
        }
        if in_place {
            return Ok(());
        }
        if lengths.stored == lengths.raw {
            raw.copy_from_slice(rest);
            return Ok(());
        }
        match lz4_flex::block::decompress_into(rest, raw) {
            Ok(n) if n == raw.len() => Ok(()),
            Ok(n) => Err(self.damaged(offset, format!("{} bytes were expected, {n} found", raw.len()))),
            Err(e) => Err(self.damaged(offset, format!("the block cannot be decompressed: {e}"))),
        }
    }

    /// Reads the front of the large row whose block is at `offset`. What cannot be read marks the file as damaged.
    pub(super) fn read_front(&self, offset: u64, lengths: BlockLengths, front: Front) -> Result<Vec<u8>> {
        self.noting_damage(self.try_read_front(offset, lengths, front))
    }

    fn try_read_front(&self, offset: u64, lengths: BlockLengths, front: Front) -> Result<Vec<u8>> {
        failpoint::check("shuffle.read")?;
        let mut bytes = vec![0; front.bytes as usize];
        self.read_exact_at(&mut bytes, offset + HEADER_BYTES as u64, offset, lengths)?;
        let computed = xxh3_64(&bytes);
        if computed != front.digest && !mutant::is("block_checksum_ignored") {
            let message = format!(
                "the checksum of the front of the row is {computed:#018x}, expected {:#018x}",
                front.digest
            );
            return Err(self.damaged(offset, message));
        }
        Ok(bytes)
    }

    /// Reads a part of the block at `block`.
    fn read_exact_at(&self, into: &mut [u8], at: u64, block: u64, lengths: BlockLengths) -> Result<()> {
        self.place.file.read_exact_at(into, at).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let bytes = HEADER_BYTES + lengths.stored as usize;
                self.damaged(
                    block,
                    format!("a block of {bytes} bytes was expected, but the file ends before its end"),
                )
            }
            _ => Error::io("read", &self.place.path, e),
        })
    }

    #[cold]
    fn other_block(&self, offset: u64, expected: &[u8], found: &[u8]) -> Error {
        let differing = FIELDS.iter().find(|(_, from, to)| expected[*from..*to] != found[*from..*to]);
        let message = match differing {
            Some(&(name, from, to)) => format!(
                "{name} of the block is {:#x}, expected {:#x}",
                number(&found[from..to]),
                number(&expected[from..to])
            ),
            None => "the header of the block is not the one that was written".to_string(),
        };
        self.damaged(offset, message)
    }

    /// The error that says that this file does not hold what was written.
    #[cold]
    pub(super) fn damaged(&self, offset: u64, message: String) -> Error {
        self.damaged.store(true, Ordering::Relaxed);
        Error::Corrupt { path: self.place.path.clone(), offset, message }
    }
}

/// An open file and what is not yet written to it.
struct SpillWriter {
    place: Place,
    /// Bytes handed to the file.
    written: u64,
    /// Blocks so far.
    sequence: u64,
    /// Whole blocks that are not yet in the file.
    pending: Vec<u8>,
}

impl SpillWriter {
    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let written = self.write(&pending);
        self.pending = pending;
        self.pending.clear();
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.place.file.append(bytes).map_err(|e| {
            let message = format!("{e} (free space there, or give more memory so that less is spilled)");
            Error::io("write", &self.place.path, io::Error::new(e.kind(), message))
        })?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// The spill files of one unit of work: at most one is being written, the others are complete.
pub(super) struct Spiller {
    context: ShuffleContext,
    writer: Option<SpillWriter>,
    files: Vec<Option<Arc<SpillFile>>>,
    /// Bytes at which pending blocks go to the file.
    write_bytes: usize,
    compressed: Vec<u8>,
    untried: u32,
    spilled_bytes: u64,
}

impl Spiller {
    /// `block_bytes` is the usual size of a block.
    pub(super) fn new(context: ShuffleContext, block_bytes: usize) -> Spiller {
        Spiller {
            context,
            writer: None,
            files: Vec::new(),
            write_bytes: block_bytes,
            compressed: Vec::new(),
            untried: 0,
            spilled_bytes: 0,
        }
    }

    /// Bytes held: blocks on their way to the file.
    pub(super) fn memory_bytes(&self) -> usize {
        self.compressed.capacity() + self.writer.as_ref().map_or(0, |w| w.pending.capacity())
    }

    /// Bytes written to files so far, headers included.
    pub(super) fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// The file that blocks go to now, the offset and the sequence number of the next one.
    pub(super) fn position(&mut self) -> Result<(usize, u64, u64)> {
        let file = self.files.len();
        let writer = self.writer()?;
        Ok((file, writer.position(), writer.sequence))
    }

    fn writer(&mut self) -> Result<&mut SpillWriter> {
        if self.writer.is_none() {
            let place = self.create()?;
            self.writer = Some(SpillWriter { place, written: 0, sequence: 0, pending: Vec::new() });
        }
        self.writer
            .as_mut()
            .ok_or_else(|| Error::Internal("a spill file that was just opened is gone".into()))
    }

    fn create(&self) -> Result<Place> {
        let ShuffleContext { vfs, dir, identity: Identity { stage, producer, attempt, .. }, .. } =
            &self.context;
        let (path, file) = match &self.context.name {
            Some(name) => {
                let path = dir.join(format!("{name}-{}.rows", self.files.len()));
                let file = create_anew(&**vfs, &path);
                (path, file)
            }
            None => {
                let name = format!("unnamed-shuffle-stage{stage}-producer{producer}-attempt{attempt}");
                (dir.join(name), vfs.create_unnamed(dir))
            }
        };
        let file = file.map_err(|e| Error::io("create", &path, e))?;
        let named = self.context.name.is_some().then(|| vfs.clone());
        Ok(Place { file, path, named, keep: AtomicBool::new(false) })
    }

    /// Appends a block and returns its lengths.
    pub(super) fn write_block(&mut self, partition: u32, raw: &[u8]) -> Result<BlockLengths> {
        let mut compressed = std::mem::take(&mut self.compressed);
        let saved = self.compress(raw, &mut compressed);
        let payload = saved.map_or(raw, |len| &compressed[..len]);
        let lengths = BlockLengths { raw: raw.len() as u32, stored: payload.len() as u32 };
        let (identity, timestamps) = (self.context.identity, self.context.timestamps);
        let write_bytes = self.write_bytes;
        let writer = self.writer()?;
        let head = header(&identity, partition, writer.sequence, lengths, timestamps);
        let checksum = xxh3_64_with_seed(payload, xxh3_64(&head));
        writer.sequence += 1;
        writer.pending.reserve(HEADER_BYTES + payload.len());
        writer.pending.extend_from_slice(&head);
        writer.pending.extend_from_slice(&checksum.to_le_bytes());
        writer.pending.extend_from_slice(payload);
        if writer.pending.len() >= write_bytes {
            writer.flush()?;
            writer.pending.shrink_to(4 * write_bytes);
        }
        self.spilled_bytes += (HEADER_BYTES + payload.len()) as u64;
        compressed.truncate(4 * write_bytes);
        compressed.shrink_to(4 * write_bytes);
        self.compressed = compressed;
        Ok(lengths)
    }

    /// Appends a large block, whose bytes are in several places, as they are.
    pub(super) fn write_large_block(&mut self, partition: u32, pieces: &[&[u8]]) -> Result<BlockLengths> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let lengths = BlockLengths { raw: bytes as u32, stored: bytes as u32 };
        let (identity, timestamps) = (self.context.identity, self.context.timestamps);
        let writer = self.writer()?;
        let head = header(&identity, partition, writer.sequence, lengths, timestamps);
        let checksum = digest_of_pieces(pieces, xxh3_64(&head));
        writer.sequence += 1;
        writer.pending.extend_from_slice(&head);
        writer.pending.extend_from_slice(&checksum.to_le_bytes());
        writer.flush()?;
        pieces.iter().try_for_each(|piece| writer.write(piece))?;
        self.spilled_bytes += (HEADER_BYTES + bytes) as u64;
        Ok(lengths)
    }

    /// Compresses a block if it is worth it; returns the compressed length.
    fn compress(&mut self, raw: &[u8], into: &mut Vec<u8>) -> Option<usize> {
        if self.untried > 0 {
            self.untried -= 1;
            return None;
        }
        let bound = lz4_flex::block::get_maximum_output_size(raw.len());
        if into.len() < bound {
            into.resize(bound, 0);
        }
        let len = lz4_flex::block::compress_into(raw, into).ok()?;
        if len > raw.len() - raw.len() / 10 || len == raw.len() {
            self.untried = UNTRIED_BLOCKS;
            return None;
        }
        Some(len)
    }

    /// Completes the file that is being written, so that it can be read.
    pub(super) fn close(&mut self) -> Result<()> {
        if let Some(mut writer) = self.writer.take() {
            writer.flush()?;
            let ShuffleContext { identity, timestamps, .. } = self.context;
            let file = SpillFile {
                place: writer.place,
                bytes: writer.written,
                identity,
                timestamps,
                damaged: AtomicBool::new(false),
            };
            self.files.push(Some(Arc::new(file)));
        }
        Ok(())
    }

    /// Whether rows have timestamps.
    pub(super) fn has_timestamps(&self) -> bool {
        self.context.timestamps
    }

    /// Who writes.
    pub(super) fn identity(&self) -> Identity {
        self.context.identity
    }

    /// The complete files; a run knows its file by the index.
    pub(super) fn files(&self) -> &[Option<Arc<SpillFile>>] {
        &self.files
    }

    /// Closes the files for which `is_used` is false.
    pub(super) fn retain(&mut self, is_used: impl Fn(usize) -> bool) {
        for (index, file) in self.files.iter_mut().enumerate() {
            if !is_used(index) {
                *file = None;
            }
        }
    }
}
