//! Records: the 100-byte records of the sort, like those of gensort: ten printable characters at random, the number of
//! the record, a filler, and a line end, so that tools for lines can sort them, too.
//!
//! Place: written by a child process before the first sort (see [`super::words`] for why); what a sort has left is
//! checked by the parent, so that checking costs the measured programs nothing.
//! Invariants: the file depends on nothing but the number of records; written under a temporary name and renamed when complete.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::data::splitmix64;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 100;
/// Bytes of it that are its key.
pub const KEY_BYTES: usize = 10;

/// Where so many records lie.
pub fn path(data: &Path, records: u64) -> PathBuf {
    data.join(format!("records-{records}.txt"))
}

/// Whether they are there, complete.
pub fn is_ready(data: &Path, records: u64) -> bool {
    std::fs::metadata(path(data, records)).is_ok_and(|found| found.len() == records * RECORD_BYTES as u64)
}

/// Writes the records.
///
/// # Errors
/// What the file system answers.
pub fn write(data: &Path, records: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(data)?;
    let to = path(data, records);
    let unfinished = to.with_extension(format!("unfinished-{}", std::process::id()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    for i in 0..records {
        file.write_all(&record(i))?;
    }
    file.into_inner()?.sync_all()?;
    std::fs::rename(unfinished, to)
}

/// Record number `i`.
fn record(i: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [b' '; RECORD_BYTES];
    let mut parts = [splitmix64(i), splitmix64(splitmix64(i))];
    let filler = parts[0] ^ parts[1];
    for (at, byte) in bytes[..KEY_BYTES].iter_mut().enumerate() {
        // The printable characters without quotes and commas, which tools for CSV would take for something else.
        let from = &mut parts[at / (KEY_BYTES / 2)];
        *byte = b'.' + (*from % 77) as u8;
        *from /= 77;
    }
    let mut number = i;
    for byte in bytes[12..32].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
    for (at, byte) in bytes[34..RECORD_BYTES - 1].iter_mut().enumerate() {
        *byte = b'A' + ((filler >> (at % 16 * 4)) & 15) as u8;
    }
    bytes[RECORD_BYTES - 1] = b'\n';
    bytes
}

/// What a sort has left in the files of a folder, read in the order of their names: that they are in order, how many there are, and a sum
/// over their content.
///
/// # Errors
/// A sentence, if they cannot be read or are not in order.
pub fn sorted(folder: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    list(folder, &mut files).map_err(failed)?;
    files.sort();
    let (mut last, mut records, mut sum) = ([0; KEY_BYTES], 0u64, 0u64);
    for file in files {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&file).map_err(failed)?);
        let mut bytes = [0; RECORD_BYTES];
        while !reader.fill_buf().map_err(failed)?.is_empty() {
            reader.read_exact(&mut bytes).map_err(failed)?;
            let key = *bytes.first_chunk().unwrap_or(&[0; KEY_BYTES]);
            if key < last {
                return Err(format!("record {records} of {} is below the one before", folder.display()));
            }
            last = key;
            records += 1;
            let (words, rest) = bytes.as_chunks::<8>();
            let rest = rest.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
            sum = sum.wrapping_add(words.iter().fold(rest, |sum, word| {
                (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
            }));
        }
    }
    Ok(format!("{records} records in order, sum {sum:016x}"))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}
