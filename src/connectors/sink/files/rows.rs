//! Rows: the formats a [`FileSink`](super::FileSink) writes, record after record into a buffer.

use crate::base::error::{Error, Result};
use crate::connectors::sink::line::{DisplayLine, LineFormat, append_lines};
use serde::Serialize;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// A file format. One value describes it; each file gets an encoder of its own.
pub trait RowFormat<T>: Clone + Send + Sync + 'static {
    /// Encodes the records of one file.
    type Encoder: RowEncoder<T>;
    /// What the plan shows, for example `csv`.
    fn name(&self) -> &'static str;
    /// What part files end in, without the dot.
    fn extension(&self) -> &'static str;
    /// Whether a file can be read only once it is complete, for example because its index is at its end. Such a file is
    /// closed at every checkpoint.
    fn is_bulk(&self) -> bool {
        false
    }
    /// An encoder for one file.
    fn encoder(&self) -> Self::Encoder;
}

/// Encodes the records of one file.
pub trait RowEncoder<T>: Send {
    /// Appends the bytes of `records` to `out`.
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()>;
    /// Appends what stands at the end of the file. An encoder that keeps records back must belong to a format that is
    /// [bulk](RowFormat::is_bulk).
    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// One line per record.
#[derive(Clone, Debug, Default)]
pub struct TextFormat<L = DisplayLine>(pub(in crate::connectors::sink) L);

impl<T, L: LineFormat<T>> RowFormat<T> for TextFormat<L> {
    type Encoder = TextFormat<L>;
    fn name(&self) -> &'static str {
        "text"
    }
    fn extension(&self) -> &'static str {
        "txt"
    }
    fn encoder(&self) -> TextFormat<L> {
        self.clone()
    }
}

impl<T, L: LineFormat<T>> RowEncoder<T> for TextFormat<L> {
    #[inline]
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        append_lines(&self.0, "", records, out)
    }
}

/// The bytes of each record, one after the other.
#[derive(Clone, Debug, Default)]
pub struct BytesFormat;

impl<T: AsRef<[u8]>> RowFormat<T> for BytesFormat {
    type Encoder = BytesFormat;
    fn name(&self) -> &'static str {
        "bytes"
    }
    fn extension(&self) -> &'static str {
        "dat"
    }
    fn encoder(&self) -> BytesFormat {
        BytesFormat
    }
}

impl<T: AsRef<[u8]>> RowEncoder<T> for BytesFormat {
    #[inline]
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        records.iter().for_each(|record| out.extend_from_slice(record.as_ref()));
        Ok(())
    }
}

/// One row per record, quoted where RFC 4180 asks for it.
#[derive(Clone, Debug, Default)]
pub struct CsvFormat {
    pub(super) header: bool,
}

impl<T: Serialize> RowFormat<T> for CsvFormat {
    type Encoder = CsvEncoder;
    fn name(&self) -> &'static str {
        "csv"
    }
    fn extension(&self) -> &'static str {
        "csv"
    }
    fn encoder(&self) -> CsvEncoder {
        let rows = Rows::default();
        let writer = csv::WriterBuilder::new().has_headers(self.header).from_writer(rows.clone());
        CsvEncoder { writer, rows }
    }
}

/// Encodes records as CSV. One `csv` writer per file, because it checks that all rows have as many fields.
pub struct CsvEncoder {
    writer: csv::Writer<Rows>,
    rows: Rows,
}

/// The bytes of a `csv` writer, which does not lend the buffer it owns. The lock is never contended and taken
/// once for some kilobytes.
#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Vec<u8>>>);

impl Rows {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl io::Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Serialize> RowEncoder<T> for CsvEncoder {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            self.writer.serialize(record).map_err(not_a_row::<T>)?;
        }
        self.writer.flush().map_err(|e| not_a_row::<T>(e.into()))?;
        out.append(&mut self.rows.bytes());
        Ok(())
    }
}

#[cold]
fn not_a_row<T>(error: csv::Error) -> Error {
    Error::Codec(format!(
        "a record of type {} cannot be written as a row of CSV: {error}; a row is a struct or tuple of plain \
         fields, and all rows of a file have as many of them",
        std::any::type_name::<T>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn rows<T: Serialize>(header: bool, batches: &[&[T]]) -> Result<String> {
        let mut encoder = RowFormat::<T>::encoder(&CsvFormat { header });
        let mut out = Vec::new();
        for batch in batches {
            encoder.encode(batch, &mut out)?;
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[derive(Serialize)]
    struct Row {
        word: &'static str,
        count: u64,
    }

    #[test]
    fn fields_are_quoted_only_where_needed() {
        let batch = [("plain", 1), ("a,b", 2), ("say \"hi\"", 3), ("two\nlines", 4), ("", 5)];
        let text = rows(false, &[&batch]).unwrap();
        assert_eq!(text, "plain,1\n\"a,b\",2\n\"say \"\"hi\"\"\",3\n\"two\nlines\",4\n,5\n");
    }

    #[test]
    fn the_header_comes_once_per_file() {
        let batches: [&[Row]; 2] = [&[Row { word: "a", count: 1 }], &[Row { word: "b", count: 2 }]];
        assert_eq!(rows(true, &batches).unwrap(), "word,count\na,1\nb,2\n");
        assert_eq!(rows(false, &batches).unwrap(), "a,1\nb,2\n");
    }

    #[test]
    fn what_is_no_row_is_an_error_that_names_the_type() {
        let map: BTreeMap<&str, u64> = BTreeMap::from([("a", 1)]);
        let error = rows(true, &[&[map]]).unwrap_err();
        assert!(matches!(&error, Error::Codec(m) if m.contains("BTreeMap")), "{error}");
    }

    #[test]
    fn rows_of_different_length_are_an_error_wherever_the_batch_ends() {
        let (two, three) = (vec![1, 2], vec![1, 2, 3]);
        assert!(rows(false, &[&[two.clone(), three.clone()]]).is_err());
        assert!(rows(false, &[&[two], &[three]]).is_err());
    }
}
