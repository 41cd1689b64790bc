//! Sorts files of 100-byte records by their first ten bytes: more of them than fit into memory.
//!
//! ```text
//! cargo run --release --example sort_records -- --generate N --output DIR
//! cargo run --release --example sort_records -- --input DIR --output DIR2 [--memory 1GiB] [--parallelism 2]
//! cargo run --release --example sort_records -- --validate DIR2 [--like DIR]
//! ```
//!
//! Records are like those of gensort: ten characters at random, the number of the record, a filler, and a line end, so
//! that other tools can sort them, too. `--validate` reads the part files in the order of their names and checks that the records are in
//! order; it tells their number and a checksum of the content that does not depend on the order, and with `--like` compares
//! both with those of another directory. The mode is BATCH unless an option says otherwise.

use clap::Parser;
use mainstem::connectors::sink::FileSink;
use mainstem::prelude::*;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[cfg(not(test))]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 100;
/// Bytes of it that are its key.
pub const KEY_BYTES: usize = 10;

/// A record.
pub type Record = FixedBytes<RECORD_BYTES>;

/// Sorts files of 100-byte records.
#[derive(Parser)]
#[command(name = "sort_records")]
struct Args {
    /// Make so many records
    #[arg(long, value_name = "N", conflicts_with_all = ["input", "validate"], requires = "output")]
    generate: Option<u64>,
    /// Sort the records of the files in this directory
    #[arg(long, value_name = "DIR", requires = "output", conflicts_with = "validate")]
    input: Option<PathBuf>,
    /// Directory for what is made or sorted; it must be absent or empty
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Check the order of the records in this directory
    #[arg(long, value_name = "DIR", required_unless_present_any = ["generate", "input"])]
    validate: Option<PathBuf>,
    /// Compare number and checksum with those of the records in this directory
    #[arg(long, value_name = "DIR", requires = "validate")]
    like: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Record number `i`.
pub fn record(i: u64) -> Record {
    let mut bytes = [b' '; RECORD_BYTES];
    let mut state = i;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    // The printable characters, as gensort's.
    let (mut a, mut b) = (next(), next());
    for (at, byte) in bytes[..KEY_BYTES].iter_mut().enumerate() {
        let from = if at < KEY_BYTES / 2 { &mut a } else { &mut b };
        *byte = b' ' + (*from % 95) as u8;
        *from /= 95;
    }
    let mut number = i;
    for byte in bytes[12..32].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let filler = next();
    for (at, byte) in bytes[34..RECORD_BYTES - 1].iter_mut().enumerate() {
        *byte = b'A' + ((filler >> (at % 16 * 4)) & 15) as u8;
    }
    bytes[RECORD_BYTES - 1] = b'\n';
    FixedBytes(bytes)
}

/// The key of a record.
#[inline]
pub fn key(record: &Record) -> FixedBytes<KEY_BYTES> {
    FixedBytes(record.0.first_chunk().copied().unwrap_or_default())
}

/// Writes `n` records.
pub fn generate(env: &Environment, n: u64, output: &Path) -> mainstem::Result<JobResult> {
    env.generate(n, record).sink_to(FileSink::bytes(output).synced(false));
    env.execute("generate records")
}

/// Sorts the records of a directory.
pub fn sort(env: &Environment, input: &Path, output: &Path) -> mainstem::Result<JobResult> {
    env.read(FixedSource::<RECORD_BYTES>::new([input]))
        .sort_by(key)
        .sink_to(FileSink::bytes(output).synced(false));
    env.execute("sort records")
}

/// What the records of a directory came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Their number.
    pub records: u64,
    /// A sum over all of them, whatever their order.
    pub checksum: u64,
    /// The first record whose key is below that of the record before.
    pub unordered: Option<u64>,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, checksum {:016x}", self.records, self.checksum)
    }
}

/// Reads the part files of a directory in the order of their names.
pub fn content(dir: &Path) -> std::io::Result<Content> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(dir)?.collect();
    let mut files: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    let mut content = Content::default();
    let mut last = [0; KEY_BYTES];
    for file in files {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&file)?);
        let mut bytes = [0; RECORD_BYTES];
        while !std::io::BufRead::fill_buf(&mut reader)?.is_empty() {
            reader.read_exact(&mut bytes)?;
            let key = key(&FixedBytes(bytes)).0;
            if key < last {
                content.unordered.get_or_insert(content.records);
            }
            last = key;
            content.records += 1;
            content.checksum = content.checksum.wrapping_add(checksum(&bytes));
        }
    }
    Ok(content)
}

/// A number that depends on every byte of a record and its place.
fn checksum(bytes: &[u8; RECORD_BYTES]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let rest = rest.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    words.iter().fold(rest, |sum, word| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    })
}

fn validate(dir: &Path, like: Option<&Path>) -> Result<String, String> {
    let read = |dir: &Path| content(dir).map_err(|e| format!("{}: {e}", dir.display()));
    let found = read(dir)?;
    if let Some(at) = found.unordered {
        return Err(format!("record {at} of {} is below the one before", dir.display()));
    }
    if let Some(like) = like {
        let wanted = read(like)?;
        if (found.records, found.checksum) != (wanted.records, wanted.checksum) {
            return Err(format!("{} has {found}, but {} has {wanted}", dir.display(), like.display()));
        }
    }
    Ok(format!("sorted: {found}"))
}

fn run(args: Args) -> Result<String, String> {
    if let Some(dir) = args.validate {
        return validate(&dir, args.like.as_deref());
    }
    let mut settings = args.engine.settings().map_err(|e| e.to_string())?;
    // A job over files is one for BATCH; the option still decides.
    if !std::env::args().any(|arg| arg.starts_with("--execution-mode")) {
        settings.execution_mode = ExecutionMode::Batch;
    }
    let env = Environment::with_settings(settings);
    let result = match (args.generate, args.input, args.output) {
        (Some(n), _, Some(output)) => generate(&env, n, &output),
        (None, Some(input), Some(output)) => sort(&env, &input, &output),
        _ => return Err("--output is missing".to_string()),
    };
    result.map(|result| result.to_string()).map_err(|e| e.to_string())
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
