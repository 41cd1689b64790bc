//! Words: the text of the word count, about ten words a line, Zipf(1.0) over a vocabulary of 1,000,000.
//!
//! Place: written by a child process before the first word count, so that the parent stays small (its memory would
//! be counted into every child's peak, see [`super::measure`]).
//! Method: word `r` is one to four vowels followed by `r` in bijective base 21 of consonants, hence unique; ranks are
//! drawn by the alias method (Walker 1977; Vose, "A linear algorithm for generating random numbers with a given
//! distribution", 1991).
//! Invariants: the text depends on nothing but its size; written under a temporary name and renamed when complete.
//! Check values: 1,000,000,020 bytes hold 159,514,608 words, 999,999 of them distinct.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::data::splitmix64;

const VOCABULARY: usize = 1_000_000;
const SEED: u64 = 0x1234_5678;

/// Where the text of about `bytes` bytes lies.
pub fn path(data: &Path, bytes: u64) -> PathBuf {
    data.join(format!("words-{bytes}.txt"))
}

/// Whether the text is there, complete: writing stops with the line that reaches `bytes`, and no line is longer
/// than [`LINE_BYTES_MAX`].
pub fn is_ready(data: &Path, bytes: u64) -> bool {
    std::fs::metadata(path(data, bytes))
        .is_ok_and(|found| (bytes..bytes + LINE_BYTES_MAX).contains(&found.len()))
}

/// Fifteen words of at most ten bytes and what separates them.
const LINE_BYTES_MAX: u64 = 15 * 11;

/// Writes the text.
///
/// # Errors
/// What the file system answers.
pub fn write(data: &Path, bytes: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(data)?;
    let to = path(data, bytes);
    let unfinished = to.with_extension(format!("unfinished-{}", std::process::id()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    let words: Vec<Vec<u8>> = (0..VOCABULARY as u64).map(word).collect();
    let ranks = Zipf::new(VOCABULARY);
    let mut counter = SEED;
    let mut next = || {
        counter += 1;
        splitmix64(counter)
    };
    let mut written = 0;
    let mut line = Vec::new();
    while written < bytes {
        let words_in_line = 5 + next() % 11;
        line.clear();
        for nth in 0..words_in_line {
            if nth > 0 {
                line.push(b' ');
            }
            line.extend_from_slice(&words[ranks.draw(next())]);
        }
        line.push(b'\n');
        file.write_all(&line)?;
        written += line.len() as u64;
    }
    file.into_inner()?.sync_all()?;
    std::fs::rename(unfinished, to)
}

fn word(rank: u64) -> Vec<u8> {
    const VOWELS: &[u8] = b"aeiou";
    const CONSONANTS: &[u8] = b"bcdfghjklmnpqrstvwxyz";
    let random = splitmix64(rank ^ 0x77);
    let mut word: Vec<u8> =
        (0..1 + random % 4).map(|nth| VOWELS[((random >> (8 + 8 * nth)) % 5) as usize]).collect();
    let mut rest = rank + 1;
    while rest > 0 {
        rest -= 1;
        word.push(CONSONANTS[(rest % 21) as usize]);
        rest /= 21;
    }
    word
}

/// Draws rank `k` (from 0) with a probability proportional to 1 / (k + 1).
struct Zipf {
    stay: Vec<f64>,
    alias: Vec<u32>,
}

impl Zipf {
    fn new(n: usize) -> Zipf {
        let weights: Vec<f64> = (1..=n).map(|k| 1.0 / k as f64).collect();
        let total: f64 = weights.iter().sum();
        let mut stay: Vec<f64> = weights.iter().map(|weight| weight * n as f64 / total).collect();
        let mut alias = vec![0; n];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&k| stay[k] < 1.0);
        while let (Some(&below), Some(&above)) = (small.last(), large.last()) {
            small.pop();
            alias[below] = above as u32;
            stay[above] -= 1.0 - stay[below];
            if stay[above] < 1.0 {
                large.pop();
                small.push(above);
            }
        }
        for k in small.into_iter().chain(large) {
            stay[k] = 1.0;
            alias[k] = k as u32;
        }
        Zipf { stay, alias }
    }

    fn draw(&self, random: u64) -> usize {
        let k = (((random >> 32) * self.stay.len() as u64) >> 32) as usize;
        let u = (random & 0xffff_ffff) as f64 / 4_294_967_296.0;
        if u < self.stay[k] { k } else { self.alias[k] as usize }
    }
}
