//! Text: numbers, sizes, times and tables as people read them, and the nearest known word to a mistyped one.
//!
//! Place: error messages, job results, the progress line. Pure functions; every number that a person sees is
//! formatted here, so that two reports never disagree about a separator or a unit.

use super::data::Timestamp;
use super::error::{Error, Result};
use super::memory::ByteSize;
use std::fmt::{self, Write as _};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// A count with separators between thousands: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest binary unit that keeps it above one: `1.5MiB`.
pub fn bytes(n: u64) -> String {
    ByteSize(n).to_string()
}

/// A duration with about three significant digits: `950µs`, `12.3ms`, `4.56s`, `2m 05s`, `3h 07m`.
pub fn duration(d: Duration) -> String {
    let micros = d.as_micros();
    let seconds = d.as_secs();
    match micros {
        0..1_000 => format!("{micros}µs"),
        // The bounds are where rounding would show four digits of the smaller unit.
        1_000..999_500 => format!("{}ms", three_digits(micros as f64 / 1e3)),
        999_500..59_950_000 => format!("{}s", three_digits(micros as f64 / 1e6)),
        _ => {
            let rounded = if micros < 60_000_000 { 60 } else { seconds };
            match rounded {
                0..3_600 => format!("{}m {:02}s", rounded / 60, rounded % 60),
                3_600..86_400 => format!("{}h {:02}m", rounded / 3_600, rounded / 60 % 60),
                _ => format!("{}d {:02}h", rounded / 86_400, rounded / 3_600 % 24),
            }
        }
    }
}

fn three_digits(x: f64) -> String {
    match x {
        x if x < 9.995 => format!("{x:.2}"),
        x if x < 99.95 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

/// An event time in UTC to the second: `2024-01-31T12:34:56Z`. Years beyond four digits are written in full.
///
/// The date is Howard Hinnant's "civil from days" (chrono-compatible low-level date algorithms).
pub fn utc(at: Timestamp) -> String {
    let seconds = at.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// The known word that is nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(d, candidate)| d <= limit && d < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of single-character edits between two words; both are cut at 64 characters to bound the work.
fn distance(a: &str, b: &str) -> usize {
    let fold = |s: &str| s.chars().take(64).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// ` (did you mean 'x'?)` for an error message, or nothing when no known word is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"))
}

/// The line and column, both from 1, of a byte offset in a text.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The most that is read of a configuration or parameter file. Such a file is written by hand; one that is larger
/// is most likely the wrong file.
pub const SETTINGS_FILE_BYTES_MAX: u64 = 4 << 20;

/// All of a small text file: configuration, parameters. A pipe may be given as well as a file.
///
/// # Errors
/// When the file cannot be read, is not UTF-8 or has more than [`SETTINGS_FILE_BYTES_MAX`] bytes.
pub fn read_small_file(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    read_small(file, &path.display().to_string())
}

/// As [`read_small_file`] from any reader; `name` is what an error calls it.
pub fn read_small(from: impl Read, name: &str) -> Result<String> {
    let mut content = Vec::new();
    from.take(SETTINGS_FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|e| Error::io("read", name, e))?;
    if content.len() as u64 > SETTINGS_FILE_BYTES_MAX {
        return Err(Error::config(format!(
            "'{name}' is larger than {}, too large for a file of settings; is it the right file?",
            bytes(SETTINGS_FILE_BYTES_MAX)
        )));
    }
    String::from_utf8(content).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::config(format!("'{name}' is not UTF-8 text at byte {at}; save it as UTF-8"))
    })
}

/// The widest a cell of a [`Table`] gets, in characters; longer text is cut and ends in `…`.
const CELL_CHARS_MAX: usize = 48;

/// Rows with aligned columns: text to the left, numbers to the right.
pub struct Table {
    header: Vec<String>,
    left: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A name that starts with `<` is aligned to the left, without the mark.
    pub fn new(columns: &[&str]) -> Table {
        Table {
            header: columns.iter().map(|c| c.trim_start_matches('<').to_string()).collect(),
            left: columns.iter().map(|c| c.starts_with('<')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells are empty, cells beyond the last column are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.header.len()).map(|c| cut(&c)).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }
}

fn cut(cell: &str) -> String {
    // A line break inside a name would break the alignment of everything after it.
    let mut line: Vec<char> = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > CELL_CHARS_MAX {
        line.truncate(CELL_CHARS_MAX - 1);
        line.push('…');
    }
    line.into_iter().collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|c| all().map(|row| row[c].chars().count()).max().unwrap_or(0))
            .collect();
        for row in all() {
            let mut line = String::new();
            for ((cell, &width), &left) in row.iter().zip(&widths).zip(&self.left) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if left { ("", padding.as_str()) } else { (padding.as_str(), "") };
                write!(line, "  {before}{cell}{after}")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn durations_keep_three_digits_and_never_round_to_a_wrong_unit() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1.00ms"),
            (12_345, "12.3ms"),
            (999_499, "999ms"),
            (999_500, "1.00s"),
            (59_940_000, "59.9s"),
            (59_960_000, "1m 00s"),
            (125_000_000, "2m 05s"),
            (11_220_000_000, "3h 07m"),
            (90_000_000_000, "1d 01h"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text, "{micros}");
        }
        assert!(duration(Duration::MAX).ends_with('h'));
    }

    #[test]
    fn event_times_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_706_704_496_789, "2024-01-31T12:34:56Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        let _ = (utc(i64::MIN), utc(i64::MAX));
    }

    #[test]
    fn nearest_word_is_suggested_only_if_it_is_near() {
        let known = ["execution-mode", "parallelism", "memory", "chaining"];
        assert_eq!(nearest("execution_mode", known), Some("execution-mode"));
        assert_eq!(nearest("Paralelism", known), Some("parallelism"));
        assert_eq!(nearest("no-chaining", known), Some("chaining"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", ["a"]), None);
        assert_eq!(did_you_mean("memroy", known), " (did you mean 'memory'?)");
    }

    #[test]
    fn offsets_become_lines_and_columns() {
        let text = "ab\ncäd\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 4), (2, 2));
        assert_eq!(line_and_column(text, 5), (2, 2), "inside a character counts as its start");
        assert_eq!(line_and_column(text, 999), (3, 1));
    }

    #[test]
    fn settings_that_are_not_text_or_too_large_are_refused() {
        let e = read_small(&b"a\xff"[..], "x.toml").unwrap_err().to_string();
        assert!(e.contains("'x.toml' is not UTF-8 text at byte 1"), "{e}");
        let e = read_small(std::io::repeat(b'a'), "zero").unwrap_err().to_string();
        assert!(e.contains("'zero' is larger than 4MiB"), "{e}");
        let e = read_small_file(Path::new("/nonexistent/x")).unwrap_err().to_string();
        assert!(e.starts_with("cannot open '/nonexistent/x':"), "{e}");
    }

    #[test]
    fn tables_are_aligned_and_bounded() {
        let mut table = Table::new(&["<operator", "records"]);
        table.row(["größe".into(), count(1_000)]);
        table.row(["x".repeat(60), "7".into(), "dropped".into()]);
        table.row(["two\nlines".into()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("  operator ") && lines[0].ends_with("  records"));
        assert!(lines[1].ends_with("    1,000"));
        assert_eq!(lines[0].chars().count(), lines[1].chars().count());
        assert!(lines[2].contains("x…        7"), "{}", lines[2]);
        assert_eq!(lines[3], "  two lines");
    }
}
