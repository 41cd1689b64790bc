//! Word count, written by hand: the text is mapped, each thread counts its half, the halves are merged and written.
//!
//! Method: words of at most 15 bytes live inside the table as one `u128` (bytes, with the length on top), so that no
//! pointer into the text is followed to compare; longer ones go to a side table. The end of a word is found
//! in 16 bytes at a time. Each thread counts into one table per merging thread.

use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufWriter, Write};
use std::path::Path;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_table::{Entry, HashTable};

use super::THREADS;
use crate::harness::{Job, ProgramResult, words};

/// Counts the words of the job's text into `part-N.csv` files with a line `word,count` each.
pub fn run(job: &Job) -> ProgramResult {
    let file = File::open(words::path(&job.data, job.records))?;
    // SAFETY: the text was renamed into place complete, and nothing writes to it or truncates it afterwards.
    let text = unsafe { memmap2::Mmap::map(&file)? };
    let text: &[u8] = &text;
    let cuts = cut_at_lines(text);
    let counted: Vec<Vec<Counts>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|k| {
                scope.spawn({
                    let cuts = &cuts;
                    move || count(text, cuts[k], cuts[k + 1])
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a counting thread panicked")).collect()
    });

    let mut parts: Vec<Vec<Counts>> = (0..THREADS).map(|_| Vec::new()).collect();
    for of_thread in counted {
        for (part, counts) in parts.iter_mut().zip(of_thread) {
            part.push(counts);
        }
    }
    let written: Vec<std::io::Result<(u64, u64)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(k, part)| scope.spawn(move || merge(part).write(&job.out.join(format!("part-{k}.csv")))))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a merging thread panicked")).collect()
    });
    let (mut total, mut distinct) = (0, 0);
    for part in written {
        let (words, different) = part?;
        total += words;
        distinct += different;
    }
    Ok(format!("words:{total},distinct:{distinct}"))
}

/// Where each thread's share begins and ends: after a line end near the even share.
fn cut_at_lines(text: &[u8]) -> Vec<usize> {
    let after_line = |from: usize| {
        text[from..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| from + at + 1)
    };
    let inner = (1..THREADS).map(|k| after_line(text.len() * k / THREADS));
    std::iter::once(0).chain(inner).chain(std::iter::once(text.len())).collect()
}

#[derive(Default)]
struct Counts<'a> {
    short: HashTable<(u128, u64)>,
    long: HashMap<&'a [u8], u64, FixedState>,
}

impl Counts<'_> {
    #[inline(always)]
    fn add_short(&mut self, word: u128, hash: u64, count: u64) {
        match self.short.entry(hash, |entry| entry.0 == word, |entry| hash_short(entry.0)) {
            Entry::Occupied(mut found) => found.get_mut().1 += count,
            Entry::Vacant(free) => {
                free.insert((word, count));
            }
        }
    }

    /// Writes the counts; returns how many words there were, and how many different ones.
    fn write(self, to: &Path) -> std::io::Result<(u64, u64)> {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(to)?);
        let mut total = 0;
        for (word, count) in &self.short {
            total += count;
            file.write_all(&word.to_le_bytes()[..(word >> 120) as usize])?;
            writeln!(file, ",{count}")?;
        }
        for (word, count) in &self.long {
            total += count;
            file.write_all(word)?;
            writeln!(file, ",{count}")?;
        }
        file.flush()?;
        Ok((total, (self.short.len() + self.long.len()) as u64))
    }
}

#[inline(always)]
fn hash_short(word: u128) -> u64 {
    let low = u128::from(word as u64 ^ 0x9E37_79B9_7F4A_7C15);
    let high = u128::from((word >> 64) as u64 ^ 0xD6E8_FEB8_6659_FD93);
    let product = low * high;
    let x = product as u64 ^ (product >> 64) as u64;
    x.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (x >> 29)
}

#[inline(always)]
fn part_of(hash: u64) -> usize {
    (hash >> 20) as usize % THREADS
}

/// Counts the words that begin in `from..to`, in one table per merging thread.
fn count(text: &[u8], from: usize, to: usize) -> Vec<Counts<'_>> {
    let hash_long = FixedState::with_seed(7);
    let mut parts: Vec<Counts> = (0..THREADS).map(|_| Counts::default()).collect();
    let mut at = from;
    while at < to {
        let (short, length) = word_at(text, at, to);
        if length == 0 {
            at += 1;
            continue;
        }
        if length < 16 {
            let hash = hash_short(short);
            parts[part_of(hash)].add_short(short, hash, 1);
        } else {
            let word = &text[at..at + length];
            *parts[part_of(hash_long.hash_one(word))].long.entry(word).or_insert(0) += 1;
        }
        at += length + 1;
    }
    parts
}

/// The word that begins at `at`: its length and, if that is below 16, its bytes with the length on top.
#[inline(always)]
fn word_at(text: &[u8], at: usize, to: usize) -> (u128, usize) {
    let (mut bytes, mut length) = (0, 16);
    if let Some(block) = text.get(at..at + 16) {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(block);
        bytes = u128::from_le_bytes(sixteen);
        length = first_space(bytes);
    }
    if length == 16 {
        length = text[at..to].iter().position(|&byte| byte <= b' ').unwrap_or(to - at);
        let mut sixteen = [0; 16];
        if length < 16 {
            sixteen[..length].copy_from_slice(&text[at..at + length]);
        }
        bytes = u128::from_le_bytes(sixteen);
    }
    let short = bytes & ((1 << (8 * (length & 15))) - 1) | (length as u128 & 15) << 120;
    (short, length)
}

/// The position of the first byte up to `b' '`, or 16. (Without vector instructions, finding it in one half or the
/// other is a branch that is often mispredicted.)
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_space(bytes: u128) -> usize {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    // SAFETY: these instructions are part of SSE2, which every x86_64 processor has.
    let up_to_space = unsafe {
        let bytes = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x20)), bytes))
    };
    (up_to_space | 1 << 16).trailing_zeros() as usize
}

/// The position of the first byte up to `b' '`, or 16.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn first_space(bytes: u128) -> usize {
    const EACH_BYTE: u128 = u128::from_ne_bytes([1; 16]);
    // The top bit of each byte up to b' '. A borrow can set it wrongly only above the first that is right.
    let spaces = bytes.wrapping_sub(EACH_BYTE * 0x21) & !bytes & (EACH_BYTE * 0x80);
    spaces.trailing_zeros() as usize / 8
}

/// Merges the counts of one part into the first of them.
fn merge(part: Vec<Counts>) -> Counts {
    let mut part = part.into_iter();
    let mut merged = part.next().unwrap_or_default();
    for counts in part {
        for (word, count) in counts.short {
            merged.add_short(word, hash_short(word), count);
        }
        for (word, count) in counts.long {
            *merged.long.entry(word).or_insert(0) += count;
        }
    }
    merged
}
