//! Text source: the lines of files as `String`s.
//!
//! Place: planned on the client's thread; each [`TextReader`] lives in the subtask that owns its split.
//! Method: a plain file is cut into byte ranges of about equal size, and a range owns the lines that start in it;
//! a compressed file is one split. A reader takes blocks of whole lines and validates a block at once, line by line
//! only if it is not valid UTF-8.
//! Invariants: the splits of a file give each line exactly once, whatever the split size; so do a reader and the
//! reader opened at its position.
//! Costs and limits: per line one allocation, which is the record; per reader a buffer of 256 KiB, or up to twice
//! the longest line. Continuing inside a compressed file decompresses it from its start again.

use super::files::{expand, fingerprint, path_bytes};
use super::{BYTES_READ, Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use crate::base::error::{Error, Result};
use crate::base::memory::ByteSize;
use crate::base::metrics::Counter;
use crate::connectors::format::compression::{ByteInput, Compression};
use crate::connectors::format::lines::{Block, Cut, LineCutter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes a poll reads at most, so that a subtask is never away for long.
const POLL_BYTES: u64 = 1 << 20;
/// Splits of one file at most: enough for any parallelism, few enough to plan and to write to a checkpoint.
const FILE_SPLITS_MAX: u64 = 1 << 16;
/// Inputs that the plan shows.
const SHOWN_INPUTS: usize = 3;

/// What to do with a line that is not valid UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// Fail with the path and the offset of the first wrong byte.
    #[default]
    Fail,
    /// Put U+FFFD in the place of what is wrong. Counter `lines_replaced_utf8`.
    Replace,
    /// Leave the line out. Counter `lines_invalid_utf8`.
    SkipLine,
}

/// Reads the lines of text files.
///
/// Each path is a file, a directory or, if it does not exist as it is written and has `*`, `?` or `[` in it, a
/// pattern (`**` stands for any number of directories):
///
/// - A directory stands for the regular files in it, with [`recursive`](TextSource::recursive) also for those
///   below. Names that start with `.` or `_` are left out, in a pattern unless it spells that character.
/// - Order is as given, then by name. A file that a pattern reaches twice is read once; one that is given twice is
///   read twice. Links are followed.
/// - A path that does not exist or cannot be read, a pattern that no file matches, a pipe, a socket or a device
///   fail the job before anything runs. Directories that match a pattern are passed over.
///
/// Lines end at LF or CRLF, which is not part of the record; a CR elsewhere is data. A last line needs no LF. Empty
/// lines are records. A UTF-8 byte order mark at the start of a file is dropped.
///
/// `.gz` and `.gzip` (also of several members), `.zst` (also of several frames) and `.deflate` (zlib) are
/// decompressed; the extension decides, upper or lower case. Such a file cannot be cut and is one split.
///
/// Files must not change while a job reads them; if the size does, the job fails. Within a split the order of lines is
/// kept. Records have no timestamps.
///
/// ```
/// use mainstem::connectors::source::text::{InvalidUtf8, TextSource};
/// let logs = TextSource::new(["logs/today.txt", "archive/**/*.gz"]).invalid_utf8(InvalidUtf8::Replace);
/// # let _ = logs;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TextSource {
    inputs: Vec<PathBuf>,
    recursive: bool,
    invalid_utf8: InvalidUtf8,
    line_bytes_max: ByteSize,
    split_bytes: ByteSize,
}

impl TextSource {
    /// Reads several files, directories or patterns, in this order.
    pub fn new(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> TextSource {
        TextSource {
            inputs: paths.into_iter().map(|p| p.as_ref().to_path_buf()).collect(),
            recursive: false,
            invalid_utf8: InvalidUtf8::Fail,
            line_bytes_max: ByteSize::mib(64),
            split_bytes: ByteSize::mib(16),
        }
    }

    /// Reads one file, directory or pattern.
    pub fn path(path: impl AsRef<Path>) -> TextSource {
        TextSource::new([path])
    }

    /// Whether a directory also stands for the files in the directories below it. Default: it does not.
    pub fn recursive(mut self, recursive: bool) -> TextSource {
        self.recursive = recursive;
        self
    }

    /// What to do with a line that is not valid UTF-8. Default: fail.
    pub fn invalid_utf8(mut self, invalid_utf8: InvalidUtf8) -> TextSource {
        self.invalid_utf8 = invalid_utf8;
        self
    }

    /// A longer line fails the job: it has to fit into memory. Default 64 MiB.
    pub fn line_bytes_max(mut self, size: ByteSize) -> TextSource {
        self.line_bytes_max = size;
        self
    }

    /// About how large the pieces are into which a plain file is cut. Default 16 MiB; a file is cut into at most
    /// 65,536 pieces.
    pub fn split_bytes(mut self, size: ByteSize) -> TextSource {
        self.split_bytes = size;
        self
    }
}

/// A range of a text file, or the whole of a compressed one, with the position in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSplit {
    #[serde(with = "path_bytes")]
    path: PathBuf,
    compression: Compression,
    /// Size of the file when it was planned.
    file_bytes: u64,
    start: u64,
    end: u64,
    position: u64,
}

impl TextSplit {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The split owns the lines that start from here on.
    pub fn start(&self) -> u64 {
        self.start
    }
    /// The split owns the lines that start before this offset: `u64::MAX` for a compressed file.
    pub fn end(&self) -> u64 {
        self.end
    }
    /// Where the search for the next line begins, in the decompressed data of a compressed file; at least
    /// [`end`](TextSplit::end) when the split has been read.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Source for TextSource {
    type Item = String;
    type Split = TextSplit;
    type Reader = TextReader;

    fn describe(&self) -> String {
        let shown: Vec<_> = self.inputs.iter().take(SHOWN_INPUTS).map(|p| p.display().to_string()).collect();
        let more = match self.inputs.len().saturating_sub(SHOWN_INPUTS) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("text {}{more}", shown.join(", "))
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, ctx: &SourceContext) -> Result<Vec<TextSplit>> {
        if self.inputs.is_empty() {
            return Err(Error::config(
                "a text source was given no path; name a file, a directory or a pattern",
            ));
        }
        if self.split_bytes.0 == 0 {
            return Err(Error::config("split_bytes of a text source is 0; it must be at least 1"));
        }
        let mut splits = Vec::new();
        for file in expand(&*ctx.vfs, &self.inputs, self.recursive)? {
            let compression = Compression::of_path(&file.path);
            let split = |start, end| TextSplit {
                path: file.path.clone(),
                compression,
                file_bytes: file.bytes,
                start,
                end,
                position: start,
            };
            if compression != Compression::None {
                splits.push(split(0, u64::MAX));
                continue;
            }
            let count = file.bytes.div_ceil(self.split_bytes.0).min(FILE_SPLITS_MAX);
            let border = |i: u64| (u128::from(file.bytes) * u128::from(i) / u128::from(count)) as u64;
            splits.extend((0..count).map(|i| split(border(i), border(i + 1))));
        }
        Ok(splits)
    }

    fn weight(&self, split: &TextSplit) -> u64 {
        match split.compression {
            Compression::None => split.end.saturating_sub(split.position),
            _ if split.position >= split.end => 0,
            _ => split.file_bytes,
        }
    }

    fn fingerprint(&self, splits: &[TextSplit], ctx: &SourceContext) -> Result<Vec<(String, String)>> {
        let files: BTreeSet<&Path> = splits.iter().map(TextSplit::path).collect();
        let mut prints: Vec<_> =
            files.into_iter().map(|path| fingerprint(&*ctx.vfs, path)).collect::<Result<_>>()?;
        // How files were cut decides which subtask reads what.
        prints.push((format!("number of splits of '{}'", self.describe()), splits.len().to_string()));
        Ok(prints)
    }

    fn open(&self, split: TextSplit, ctx: &SourceContext) -> Result<TextReader> {
        let from = LineCutter::read_from(split.position);
        let lines = if split.position >= split.end {
            None
        } else {
            let input = ByteInput::open(&*ctx.vfs, &split.path, split.compression, split.file_bytes, from)?;
            Some(LineCutter::new(input, split.position, split.end, self.line_bytes_max))
        };
        Ok(TextReader {
            split,
            lines,
            bytes_read: ctx.counters.counter(BYTES_READ),
            decoder: LineDecoder {
                invalid_utf8: self.invalid_utf8,
                replaced: ctx.counters.counter("lines_replaced_utf8"),
                skipped: ctx.counters.counter("lines_invalid_utf8"),
            },
        })
    }
}

/// Reads the lines of one split.
pub struct TextReader {
    /// As it was opened.
    split: TextSplit,
    /// `None` if nothing was left to read.
    lines: Option<LineCutter>,
    bytes_read: Counter,
    decoder: LineDecoder,
}

impl SplitReader for TextReader {
    type Item = String;
    type Split = TextSplit;

    fn poll(&mut self, out: &mut SourceOutput<String>) -> Result<Poll> {
        let Some(lines) = &mut self.lines else { return Ok(Poll::End) };
        let from = lines.bytes_read();
        let mut polled = Poll::More;
        while !out.is_full() && lines.bytes_read() < from.saturating_add(POLL_BYTES) {
            match lines.next_block(out.room())? {
                Cut::Lines(block) => {
                    self.decoder.decode(self.split.path(), &block, &mut out.batch_mut().values)?;
                }
                Cut::Unfinished => {}
                Cut::End => {
                    polled = Poll::End;
                    break;
                }
            }
        }
        self.bytes_read.add(lines.bytes_read() - from);
        Ok(polled)
    }

    fn position(&self) -> TextSplit {
        let mut split = self.split.clone();
        if let Some(lines) = &self.lines {
            split.position = lines.position();
        }
        split
    }
}

/// Turns blocks of lines into strings.
struct LineDecoder {
    invalid_utf8: InvalidUtf8,
    replaced: Counter,
    skipped: Counter,
}

impl LineDecoder {
    fn decode(&self, path: &Path, block: &Block<'_>, into: &mut Vec<String>) -> Result<()> {
        if let Ok(text) = simdutf8::basic::from_utf8(block.bytes) {
            into.extend(block.ranges().map(|(from, to)| text[from..to].to_owned()));
            return Ok(());
        }
        match std::str::from_utf8(block.bytes) {
            Err(e) if self.invalid_utf8 == InvalidUtf8::Fail => Err(Error::Data {
                path: path.to_path_buf(),
                offset: block.offset + e.valid_up_to() as u64,
                message: format!(
                    "byte 0x{:02X} is not valid UTF-8 here; if the file is meant to be read nonetheless, set \
                     invalid_utf8 of the source to Replace or SkipLine",
                    block.bytes[e.valid_up_to()]
                ),
            }),
            _ => {
                self.decode_by_line(block, into);
                Ok(())
            }
        }
    }

    #[cold]
    fn decode_by_line(&self, block: &Block<'_>, into: &mut Vec<String>) {
        let mut invalid = 0;
        for (from, to) in block.ranges() {
            let line = &block.bytes[from..to];
            match std::str::from_utf8(line) {
                Ok(text) => into.push(text.to_owned()),
                Err(_) => {
                    invalid += 1;
                    if self.invalid_utf8 == InvalidUtf8::Replace {
                        into.push(String::from_utf8_lossy(line).into_owned());
                    }
                }
            }
        }
        match self.invalid_utf8 {
            InvalidUtf8::Replace => self.replaced.add(invalid),
            _ => self.skipped.add(invalid),
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
