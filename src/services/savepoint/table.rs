//! Table: a Parquet file of rows.

use super::columns::{Encoded, PartColumns, PartReader, Unfit, internal};
use super::files::{Verified, Written, from_hexadecimal, hexadecimal};
use super::manifest::{PartEntry, TableEntry};
use crate::base::error::{Error, Result};
use crate::base::hash::key_group;
use crate::base::rows::{Erased, Part, RowReader, RowWriter, TableKind};
use crate::base::vfs::SharedVfs;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are turned into columns, and back, together.
const BATCH_ROWS: usize = 8 << 10;
/// Bytes of rows that are turned into columns together at most, but for the last row.
const BATCH_BYTES: usize = 16 << 20;
/// Column of the subtask that had the row.
const SUBTASK: &str = "subtask";
/// Column of the key group of the row's key.
const KEY_GROUP: &str = "key_group";

/// What a table is to be.
pub struct TableSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its rows are.
    pub kind: TableKind,
    /// The parts of a row.
    pub parts: &'a [Part],
    /// What must be known to read it.
    pub notes: &'a [u8],
    /// Number of key groups.
    pub max_parallelism: usize,
    /// The operator, for messages.
    pub operator: &'a str,
}

/// Writes a table to a file of a directory. `export` hands over the rows; it is called again if a part turns out to be unfit
/// for columns.
///
/// # Errors
/// When the file cannot be written, or `export` fails.
pub fn write_table(
    vfs: &SharedVfs,
    dir: &Path,
    file: &str,
    spec: &TableSpec<'_>,
    export: &mut dyn FnMut(&mut dyn RowWriter) -> Result<()>,
) -> Result<TableEntry> {
    let path = dir.join(file);
    let mut as_bytes = vec![false; spec.parts.len()];
    loop {
        let mut writer = TableWriter::new(vfs, &path, spec, &as_bytes)?;
        let written = export(&mut writer).and_then(|()| writer.flush());
        let unfit = writer.unfit.take();
        match (written, unfit) {
            (Err(_), Some((part, Unfit(why)))) if !as_bytes[part] => {
                warn(spec, &spec.parts[part], &why);
                as_bytes[part] = true;
            }
            (Err(e), _) => return Err(e),
            (Ok(()), _) => {
                let (rows, parts) = (writer.rows, writer.parts.iter().map(PartColumns::entry).collect());
                let (bytes, xxh3) = writer.finish()?;
                return Ok(TableEntry {
                    name: spec.name.to_string(),
                    kind: spec.kind,
                    file: file.to_string(),
                    rows,
                    bytes,
                    xxh3,
                    parts,
                    notes: hexadecimal(spec.notes),
                });
            }
        }
    }
}

fn warn(spec: &TableSpec<'_>, part: &Part, why: &str) {
    tracing::warn!(
        operator = spec.operator,
        state = spec.name,
        part = part.name,
        of = part.type_name,
        why,
        "state has no columns in the savepoint and is written as bytes, which only a program with the same type reads"
    );
}

struct TableWriter<'a> {
    path: PathBuf,
    spec: &'a TableSpec<'a>,
    schema: SchemaRef,
    writer: ArrowWriter<Written>,
    subtasks: Vec<u32>,
    groups: Vec<u32>,
    parts: Vec<PartColumns>,
    bytes: usize,
    rows: u64,
    /// The part that cannot be written as columns after all.
    unfit: Option<(usize, Unfit)>,
}

impl<'a> TableWriter<'a> {
    fn new(
        vfs: &SharedVfs,
        path: &Path,
        spec: &'a TableSpec<'a>,
        as_bytes: &[bool],
    ) -> Result<TableWriter<'a>> {
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(SUBTASK, DataType::UInt32, false))];
        if spec.kind.has_key() {
            fields.push(Arc::new(Field::new(KEY_GROUP, DataType::UInt32, false)));
        }
        let mut parts = Vec::new();
        for (part, &as_bytes) in spec.parts.iter().zip(as_bytes) {
            let (columns, unfit) = PartColumns::new(part, as_bytes);
            if let Some(Unfit(why)) = unfit {
                warn(spec, part, &why);
            }
            fields.extend(columns.fields());
            parts.push(columns);
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = ArrowWriter::try_new(Written::create(vfs, path)?, schema.clone(), Some(properties))
            .map_err(|e| internal("a table of a savepoint", e))?;
        let (subtasks, groups) = (Vec::new(), Vec::new());
        let path = path.to_path_buf();
        Ok(TableWriter {
            path,
            spec,
            schema,
            writer,
            subtasks,
            groups,
            parts,
            bytes: 0,
            rows: 0,
            unfit: None,
        })
    }

    #[cold]
    fn is_unfit(&mut self, part: usize, unfit: Unfit) -> Error {
        self.unfit = Some((part, unfit));
        Error::Codec("a part of a table has no columns".into())
    }

    fn flush(&mut self) -> Result<()> {
        if self.subtasks.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(std::mem::take(&mut self.subtasks)))];
        if self.spec.kind.has_key() {
            columns.push(Arc::new(UInt32Array::from(std::mem::take(&mut self.groups))));
        }
        for i in 0..self.parts.len() {
            match self.parts[i].take()? {
                Ok(arrays) => columns.extend(arrays),
                Err(unfit) => return Err(self.is_unfit(i, unfit)),
            }
        }
        self.bytes = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        let batch = batch.map_err(|e| internal("a table of a savepoint", e))?;
        self.writer.write(&batch).map_err(|e| Error::io("write", &self.path, std::io::Error::other(e)))
    }

    fn finish(self) -> Result<(u64, String)> {
        let TableWriter { writer, path, .. } = self;
        let file = writer.into_inner().map_err(|e| Error::io("write", &path, std::io::Error::other(e)))?;
        file.finish(&path)
    }
}

impl RowWriter for TableWriter<'_> {
    fn row(&mut self, subtask: usize, hash: Option<u64>, parts: &[&dyn Erased]) -> Result<()> {
        if parts.len() != self.parts.len() || hash.is_some() != self.spec.kind.has_key() {
            return Err(Error::Internal(format!("a row of table '{}' has other parts", self.spec.name)));
        }
        self.subtasks.push(subtask as u32);
        self.groups.extend(hash.map(|hash| key_group(hash, self.spec.max_parallelism) as u32));
        for (i, value) in parts.iter().enumerate() {
            match self.parts[i].push(*value)? {
                Ok(bytes) => self.bytes += bytes,
                Err(unfit) => return Err(self.is_unfit(i, unfit)),
            }
        }
        self.rows += 1;
        if self.subtasks.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }
}

/// Reads the rows of a table.
pub struct TableReader {
    path: PathBuf,
    operator: String,
    table: String,
    batches: ParquetRecordBatchReader,
    readers: Vec<PartReader>,
    subtasks: Vec<u32>,
    parts: Vec<Encoded>,
    /// The row behind the current one in the batch.
    next: usize,
    rows: u64,
    expected: u64,
}

impl TableReader {
    /// Opens and verifies a table, and checks that its rows can be read as the parts that the operator has now.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read; when a field has changed in a way that cannot be read, with operator,
    /// table and field.
    pub fn open(
        vfs: &SharedVfs,
        dir: &Path,
        entry: &TableEntry,
        operator: &str,
        parts: &[Part],
    ) -> Result<TableReader> {
        // A file of the savepoint, and not one that a manifest points to somewhere else.
        let path = dir.join(Path::new(&entry.file).file_name().unwrap_or_default());
        let file = Verified::open(vfs, &path, entry.bytes, &entry.xxh3)?;
        let unreadable = |e: String| Error::Corrupt { path: path.clone(), offset: 0, message: e };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file);
        let builder = builder.map_err(|e| unreadable(e.to_string()))?.with_batch_size(BATCH_ROWS);
        let schema = builder.schema().clone();
        let table = entry.name.clone();
        let incompatible = |why: String| incompatible(operator, &table, &path, &why);
        let find = |part: &Part| entry.parts.iter().find(|entry| entry.name == part.name);
        let mut readers = Vec::new();
        for part in parts {
            let written: &PartEntry =
                find(part).ok_or_else(|| incompatible(format!("it has no '{}'", part.name)))?;
            readers.push(PartReader::new(part, written, &schema).map_err(&incompatible)?);
        }
        if let Some(left) = entry.parts.iter().find(|entry| parts.iter().all(|part| part.name != entry.name))
        {
            return Err(incompatible(format!("it has '{}', which the state has not any more", left.name)));
        }
        let batches = builder.build().map_err(|e| unreadable(e.to_string()))?;
        Ok(TableReader {
            operator: operator.to_string(),
            table: entry.name.clone(),
            batches,
            readers,
            subtasks: Vec::new(),
            parts: Vec::new(),
            next: 0,
            rows: 0,
            expected: entry.rows,
            path,
        })
    }

    fn damaged(&self, message: String) -> Error {
        Error::Corrupt { path: self.path.clone(), offset: 0, message }
    }
}

fn incompatible(operator: &str, table: &str, path: &Path, why: &str) -> Error {
    Error::config(format!(
        "operator '{operator}', state '{table}' of the savepoint ('{}') does not fit the program: {why}; fields may be \
         added with a serde default, removed, and become wider",
        path.display()
    ))
}

impl RowReader for TableReader {
    fn next(&mut self) -> Result<Option<usize>> {
        while self.next == self.subtasks.len() {
            let Some(batch) = self.batches.next() else {
                return match self.rows == self.expected {
                    true => Ok(None),
                    false => Err(self.damaged(format!(
                        "it has {} rows, and the manifest says {}",
                        self.rows, self.expected
                    ))),
                };
            };
            let batch = batch.map_err(|e| self.damaged(e.to_string()))?;
            let subtasks =
                batch.column_by_name(SUBTASK).and_then(|c| c.as_any().downcast_ref::<UInt32Array>());
            let subtasks = subtasks.ok_or_else(|| self.damaged(format!("it has no column '{SUBTASK}'")))?;
            self.subtasks = subtasks.values().to_vec();
            let parts = self.readers.iter().map(|reader| reader.read(&batch)).collect::<Result<_, String>>();
            self.parts = parts.map_err(|why| incompatible(&self.operator, &self.table, &self.path, &why))?;
            self.next = 0;
        }
        self.next += 1;
        self.rows += 1;
        Ok(Some(self.subtasks[self.next - 1] as usize))
    }

    fn part(&self, part: usize) -> Result<&[u8]> {
        let value = self.next.checked_sub(1).and_then(|row| self.parts.get(part)?.get(row));
        value.ok_or_else(|| Error::Internal(format!("table '{}' has no part {part}", self.table)))
    }
}

/// The notes of a table.
pub fn notes_of(entry: &TableEntry) -> Result<Vec<u8>> {
    from_hexadecimal(&entry.notes)
        .ok_or_else(|| Error::Codec(format!("the notes of table '{}' are not hexadecimal", entry.name)))
}
