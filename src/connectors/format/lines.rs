//! Lines: cuts the bytes of an input into lines, a block of whole lines at a time.
//!
//! Place: owned by the reader of one split; reads its [`ByteInput`] when the buffer holds no further line end.
//! Method: one buffer; bytes come in behind `filled`, whole lines leave at `begin`, what is left of an unfinished
//! line moves to the front before the next read. Lines are found by looking for LF, in UTF-8 as in ASCII a byte
//! that is part of no other character.
//! A range of bytes owns the lines that *start* in it. Whether a line starts at a position is seen from the byte
//! before it, so the input is read from there and everything up to the first LF belongs to someone else. That one
//! rule serves the first byte of a range and the continuation behind an emitted line alike.
//! Invariants: [`LineCutter::position`] is where a new cutter of the same range continues with the next line.
//! Costs and limits: the buffer holds [`CHUNK_BYTES`], or twice the longest line if that is more; a line beyond the
//! limit is an error before more than twice the limit has been read. Each byte is looked at once.

use super::compression::ByteInput;
use crate::base::error::{Error, Result};
use crate::base::memory::ByteSize;

/// Bytes asked for in one read: few system calls, and the chunk stays in the second-level cache until it is cut.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Bytes first asked for behind the end of a range, to finish its last line.
const TAIL_BYTES: usize = 4 << 10;
/// The UTF-8 byte order mark.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// Whole lines, one behind the other.
pub(crate) struct Block<'a> {
    /// The lines with their terminators; the last one may lack it at the end of the input.
    pub(crate) bytes: &'a [u8],
    /// Offset of the first byte in the input.
    pub(crate) offset: u64,
    /// For each line the index of its LF, or the number of bytes if it has none. Never empty.
    pub(crate) ends: &'a [usize],
}

impl Block<'_> {
    /// From where to where each line goes, without its LF or CRLF.
    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = (usize, usize)> {
        let mut from = 0;
        self.ends.iter().map(move |&lf| {
            let start = from;
            from = lf + 1;
            let has_cr = lf > start && lf < self.bytes.len() && self.bytes[lf - 1] == b'\r';
            (start, lf - usize::from(has_cr))
        })
    }
}

/// What [`LineCutter::next_block`] found.
pub(crate) enum Cut<'a> {
    /// At least one line.
    Lines(Block<'a>),
    /// Bytes were read, but no line is complete yet.
    Unfinished,
    /// No further line starts in the range.
    End,
}

/// Cuts one range of an input into lines.
pub(crate) struct LineCutter {
    input: ByteInput,
    buffer: Vec<u8>,
    /// The first byte that has not left.
    begin: usize,
    /// No LF lies in `begin..scanned`.
    scanned: usize,
    /// Bytes behind this one are not read yet.
    filled: usize,
    input_ended: bool,
    /// Bytes of the input that were consumed by an earlier reader and have to be read again.
    discard: u64,
    /// The bytes up to the first LF belong to a line that starts earlier.
    inside_line: bool,
    /// Where the next line starts, or where the search for it starts.
    position: u64,
    /// Lines that start here or later belong to someone else.
    end: u64,
    line_bytes_max: usize,
    ends: Vec<usize>,
}

impl LineCutter {
    /// Where to start reading an input for the lines from `position` on: the byte before tells whether a line
    /// starts there.
    pub(crate) fn read_from(position: u64) -> u64 {
        position.saturating_sub(1)
    }

    /// Cuts the lines that start in `position..end`. The input must be at or before [`LineCutter::read_from`].
    pub(crate) fn new(input: ByteInput, position: u64, end: u64, line_bytes_max: ByteSize) -> LineCutter {
        LineCutter {
            discard: LineCutter::read_from(position).saturating_sub(input.offset()),
            input,
            buffer: Vec::new(),
            begin: 0,
            scanned: 0,
            filled: 0,
            input_ended: false,
            inside_line: position > 0,
            position,
            end,
            line_bytes_max: usize::try_from(line_bytes_max.0).unwrap_or(usize::MAX / 4).min(usize::MAX / 4),
            ends: Vec::new(),
        }
    }

    /// Where a new cutter continues after the lines that were returned: at least `end` once there are no more.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes read from the input so far, those of earlier readers included.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.input.offset()
    }

    /// The next lines, at most `lines_max` (which must not be 0), after at most one read.
    pub(crate) fn next_block(&mut self, lines_max: usize) -> Result<Cut<'_>> {
        if self.position >= self.end {
            return Ok(Cut::End);
        }
        if (self.scanned == self.filled || self.discard > 0) && !self.input_ended {
            self.fill()?;
        }
        if self.discard > 0 {
            return self.discard_some();
        }
        if self.inside_line && !self.leave_line() {
            return Ok(if self.position >= self.end { Cut::End } else { Cut::Unfinished });
        }
        let skipped = match self.byte_order_mark() {
            Some(skipped) => skipped,
            None => {
                self.scanned = self.filled;
                return Ok(Cut::Unfinished);
            }
        };
        let first = self.begin + skipped;
        self.find_ends(first, lines_max)?;
        let Some(&last) = self.ends.last() else {
            if self.input_ended {
                self.position = self.end;
                return Ok(Cut::End);
            }
            return Ok(Cut::Unfinished);
        };
        let next = (first + last + 1).min(self.filled);
        let offset = self.position + skipped as u64;
        self.position += (next - self.begin) as u64;
        if self.input_ended && next == self.filled {
            self.position = self.end.max(self.position);
        }
        self.begin = next;
        self.scanned = self.scanned.max(next);
        Ok(Cut::Lines(Block { bytes: &self.buffer[first..next], offset, ends: &self.ends }))
    }

    /// Collects the ends of whole lines that start in the range, relative to `first`.
    fn find_ends(&mut self, first: usize, lines_max: usize) -> Result<()> {
        // Lines that start at this index or later are not ours.
        let own =
            usize::try_from(self.end - self.position).map_or(usize::MAX, |n| self.begin.saturating_add(n));
        self.ends.clear();
        let from = self.scanned.max(first);
        let mut line = first;
        let mut scanned = self.filled;
        for i in memchr::memchr_iter(b'\n', &self.buffer[from..self.filled]) {
            let lf = from + i;
            if lf - line > self.line_bytes_max && !self.fits(line, lf) {
                scanned = lf;
                break;
            }
            self.ends.push(lf - first);
            line = lf + 1;
            if line >= own || self.ends.len() == lines_max {
                scanned = line;
                break;
            }
        }
        // The first line is ours even if a byte order mark reaches beyond the range. A line without an LF may
        // still turn out to be one byte shorter: its last byte may be the CR of a CRLF.
        let ours = line < own || self.ends.is_empty();
        let unfinished = ours && scanned == self.filled && line < self.filled;
        if unfinished && self.input_ended && self.filled - line <= self.line_bytes_max {
            self.ends.push(self.filled - first);
        } else if self.ends.is_empty() && line < self.filled {
            let found = scanned - line;
            if scanned < self.filled || self.input_ended || found > self.line_bytes_max + 1 {
                return Err(self.line_too_long(line));
            }
        }
        self.scanned = scanned;
        Ok(())
    }

    /// Whether the line without its terminator keeps the limit; asked only if it does not with a CR.
    #[cold]
    fn fits(&self, line: usize, lf: usize) -> bool {
        lf - line == self.line_bytes_max + 1 && self.buffer[lf - 1] == b'\r'
    }

    #[cold]
    fn line_too_long(&self, line: usize) -> Error {
        Error::Data {
            path: self.input.path().to_path_buf(),
            offset: self.position + (line - self.begin) as u64,
            message: format!(
                "the line that starts here is longer than {} bytes; if it is meant to be, raise line_bytes_max of \
                 the source",
                self.line_bytes_max
            ),
        }
    }

    /// Drops bytes up to and with the first LF. `false` if there was none yet, or none in the range.
    fn leave_line(&mut self) -> bool {
        let found = memchr::memchr(b'\n', &self.buffer[self.begin..self.filled]);
        let next = found.map_or(self.filled, |i| self.begin + i + 1);
        // The input is read from one byte before the position, and that byte is dropped here first.
        let start = self.input.offset() - (self.filled - next) as u64;
        self.position = self.position.max(start);
        self.begin = next;
        self.scanned = next;
        if found.is_some() {
            self.inside_line = false;
        } else if self.input_ended {
            self.position = self.end;
        }
        found.is_some() && self.position < self.end
    }

    fn discard_some(&mut self) -> Result<Cut<'_>> {
        if self.input_ended {
            return Err(Error::Data {
                path: self.input.path().to_path_buf(),
                offset: self.input.offset(),
                message: format!(
                    "the data ends here, but an earlier run had read up to byte {}; the file has been replaced since",
                    self.position
                ),
            });
        }
        let here = self.filled - self.begin;
        let n = usize::try_from(self.discard).map_or(here, |d| d.min(here));
        self.discard -= n as u64;
        self.begin += n;
        self.scanned = self.begin;
        Ok(Cut::Unfinished)
    }

    /// Bytes of a byte order mark at the start of the input; `None` while there is too little to tell.
    fn byte_order_mark(&self) -> Option<usize> {
        if self.position > 0 {
            return Some(0);
        }
        let start = &self.buffer[self.begin..self.filled];
        if start.starts_with(BOM) {
            Some(BOM.len())
        } else if !self.input_ended && BOM.starts_with(start) {
            None
        } else {
            Some(0)
        }
    }

    /// Reads once, behind what is left of the bytes so far.
    fn fill(&mut self) -> Result<()> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.filled, 0);
            self.scanned -= self.begin;
            self.filled -= self.begin;
            self.begin = 0;
        }
        let left = self.end.saturating_sub(self.input.offset());
        let want = match usize::try_from(left) {
            Ok(0) => self.filled.clamp(TAIL_BYTES, CHUNK_BYTES),
            Ok(left) => left.min(CHUNK_BYTES),
            Err(_) => CHUNK_BYTES,
        };
        if self.buffer.len() - self.filled < want {
            let grown = (self.filled + want).max(CHUNK_BYTES).max(self.buffer.len() * 2);
            self.buffer.resize(grown, 0);
        }
        let n = self.input.read(&mut self.buffer[self.filled..self.filled + want])?;
        self.filled += n;
        self.input_ended = n == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::OsVfs;
    use crate::connectors::format::compression::Compression;

    fn cutter(dir: &tempfile::TempDir, bytes: &[u8], position: u64, end: u64) -> LineCutter {
        let path = dir.path().join("x");
        std::fs::write(&path, bytes).unwrap();
        let from = LineCutter::read_from(position);
        let input = ByteInput::open(&OsVfs, &path, Compression::None, bytes.len() as u64, from).unwrap();
        LineCutter::new(input, position, end, ByteSize(100))
    }

    /// Offsets and bytes of the lines, and the position behind each block.
    fn cut(lines: &mut LineCutter, lines_max: usize) -> Vec<(u64, Vec<u8>, u64)> {
        let mut all = Vec::new();
        loop {
            let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
            match lines.next_block(lines_max).unwrap() {
                Cut::End => return all,
                Cut::Unfinished => {}
                Cut::Lines(block) => {
                    assert!((1..=lines_max).contains(&block.ends.len()));
                    let ranges = block.ranges();
                    found.extend(ranges.map(|(a, b)| (block.offset + a as u64, block.bytes[a..b].to_vec())));
                }
            }
            all.extend(found.into_iter().map(|(offset, line)| (offset, line, lines.position())));
        }
    }

    #[test]
    fn range_owns_the_lines_that_start_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = b"abc\nde\r\n\nf";
        let starts = [(0, "abc"), (4, "de"), (8, ""), (9, "f")];
        for from in 0..=10 {
            for to in from..=10 {
                let expected: Vec<_> = starts.iter().filter(|(s, _)| (from..to).contains(s)).collect();
                let found = cut(&mut cutter(&dir, bytes, from, to), 2);
                assert_eq!(found.len(), expected.len(), "{from}..{to}");
                for (line, (start, text)) in found.iter().zip(expected) {
                    assert_eq!((line.0, &line.1[..]), (*start, text.as_bytes()), "{from}..{to}");
                }
            }
        }
    }

    #[test]
    fn position_is_the_start_of_the_next_line_or_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let found = cut(&mut cutter(&dir, b"\xef\xbb\xbfabc\n\nde\n", 0, 11), 1);
        let positions: Vec<_> = found.iter().map(|(offset, _, position)| (*offset, *position)).collect();
        assert_eq!(positions, [(3, 7), (7, 8), (8, 11)]);
        let mut whole = cutter(&dir, b"a", 0, u64::MAX);
        cut(&mut whole, 1);
        assert_eq!(whole.position(), u64::MAX);
    }

    #[test]
    fn line_that_starts_earlier_is_not_read_beyond_the_range() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = cutter(&dir, &vec![b'x'; 3 * CHUNK_BYTES], 10, 1000);
        assert_eq!(cut(&mut lines, 1), []);
        assert_eq!((lines.bytes_read(), lines.position()), (1000, 1000));
    }
}
