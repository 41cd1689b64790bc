//! Columns: a part of many rows as arrays, and back as the bytes of the codec.

use super::manifest::PartEntry;
use super::types::{check, field_of, spread};
use crate::base::codec;
use crate::base::error::{Error, Result};
use crate::base::rows::{Erased, Part};
use arrow_array::builder::BinaryBuilder;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_arrow::utils::Item;
use serde_arrow::{ArrayBuilder, Deserializer as Arrays};
use std::fmt;
use std::sync::Arc;

/// What serde_arrow calls the field of a single value.
const ITEM: &str = "item";

/// Values as the codec writes them, one after the other.
#[derive(Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        encode(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }
    pub(super) fn get(&self, i: usize) -> Option<&[u8]> {
        let start = i.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(i)?)
    }
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// How a part is written.
pub(super) struct PartColumns {
    part: Part,
    /// As columns; as bytes if there is none.
    typed: Option<Typed>,
    /// The type has one value only, so that there is nothing to write.
    nothing: bool,
    /// The values at hand, to compare with what comes back.
    values: Encoded,
}

struct Typed {
    field: FieldRef,
    builder: ArrayBuilder,
}

/// Why a part cannot be written as columns.
pub(super) struct Unfit(pub(super) String);

impl PartColumns {
    /// As columns, or as bytes, where a type has no columns or `as_bytes` says so.
    pub(super) fn new(part: &Part, as_bytes: bool) -> (PartColumns, Option<Unfit>) {
        let nothing = has_one_value(part);
        let typed = match as_bytes || nothing {
            true => Ok(None),
            false => field_of(part).and_then(|field| {
                let builder =
                    ArrayBuilder::from_arrow(std::slice::from_ref(&field)).map_err(|e| e.to_string())?;
                Ok(Some(Typed { field, builder }))
            }),
        };
        let (typed, unfit) = match typed {
            Ok(typed) => (typed, None),
            Err(why) => (None, Some(Unfit(why))),
        };
        (PartColumns { part: *part, typed, nothing, values: Encoded::default() }, unfit)
    }

    pub(super) fn entry(&self) -> PartEntry {
        PartEntry {
            name: self.part.name.to_string(),
            bytes_of: (self.typed.is_none() && !self.nothing).then(|| self.part.type_name.to_string()),
            nothing: self.nothing,
            spread: self.typed.as_ref().is_some_and(|typed| spread(&typed.field).is_some()),
        }
    }

    /// The fields of the columns.
    pub(super) fn fields(&self) -> Vec<FieldRef> {
        let name = self.part.name;
        if self.nothing {
            return Vec::new();
        }
        let Some(Typed { field, .. }) = &self.typed else {
            return vec![Arc::new(Field::new(name, DataType::Binary, false))];
        };
        match spread(field) {
            Some(fields) => fields
                .iter()
                .map(|f| Arc::new((**f).clone().with_name(format!("{name}.{}", f.name()))))
                .collect(),
            None => vec![Arc::new((**field).clone().with_name(name))],
        }
    }

    /// Adds a value. Its bytes are the second answer.
    pub(super) fn push(&mut self, value: &dyn Erased) -> Result<Result<usize, Unfit>> {
        let before = self.values.bytes.len();
        self.values.push(|into| codec::encode(&value, into))?;
        if let Some(typed) = &mut self.typed
            && let Err(e) = typed.builder.push(Item(value))
        {
            return Ok(Err(Unfit(e.to_string())));
        }
        Ok(Ok(self.values.bytes.len() - before))
    }

    /// The columns of what was added since the last call.
    pub(super) fn take(&mut self) -> Result<Result<Vec<ArrayRef>, Unfit>> {
        let rows = self.values.ends.len();
        if self.nothing {
            self.values.clear();
            return Ok(Ok(Vec::new()));
        }
        let Some(Typed { field, builder }) = &mut self.typed else {
            let mut column = BinaryBuilder::with_capacity(rows, self.values.bytes.len());
            (0..rows).for_each(|i| column.append_value(self.values.get(i).unwrap_or_default()));
            self.values.clear();
            return Ok(Ok(vec![Arc::new(column.finish())]));
        };
        let arrays = builder.to_arrow().map_err(|e| e.to_string());
        let array = match arrays.and_then(|arrays| arrays.into_iter().next().ok_or("no array".into())) {
            Ok(array) => array,
            Err(why) => return Ok(Err(Unfit(why))),
        };
        let mut back = Encoded::default();
        if let Err(why) = recode(&self.part, field, &array, &mut back) {
            return Ok(Err(Unfit(why)));
        }
        for i in 0..rows {
            let (was, is) = (self.values.get(i).unwrap_or_default(), back.get(i).unwrap_or_default());
            // A hash map has another order each time, also in the codec.
            if was != is && is_canonical(&self.part, was) {
                return Ok(Err(Unfit("a value comes back changed from columns".into())));
            }
        }
        self.values.clear();
        Ok(Ok(match array.as_any().downcast_ref::<StructArray>().filter(|_| spread(field).is_some()) {
            Some(fields) => fields.columns().to_vec(),
            None => vec![array],
        }))
    }
}

/// Whether a type has a value that takes no bytes, and so no other.
fn has_one_value(part: &Part) -> bool {
    is_canonical(part, &[])
}

/// Whether a value that is read from bytes of the codec is written as the same bytes.
fn is_canonical(part: &Part, bytes: &[u8]) -> bool {
    let mut from = postcard::Deserializer::from_bytes(bytes);
    let mut again = Vec::new();
    let read = (part.recode)(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut from), &mut again);
    read.is_ok() && again == bytes
}

/// Reads all values of an array as the type of the part, and appends them as the codec writes them.
fn recode(
    part: &Part,
    field: &FieldRef,
    array: &ArrayRef,
    into: &mut Encoded,
) -> std::result::Result<(), String> {
    let field = Arc::new((**field).clone().with_name(ITEM));
    let (fields, arrays) = ([field], [array.clone()]);
    let rows = Arrays::from_arrow(&fields, &arrays).map_err(|e| e.to_string())?;
    for row in &rows {
        let seed = ItemSeed { part, into: &mut into.bytes };
        row.deserialize_struct("Item", &[ITEM], seed).map_err(|e| first_line(&e.to_string()))?;
        into.ends.push(into.bytes.len());
    }
    Ok(())
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

/// Reads the field of a single value.
struct ItemSeed<'a> {
    part: &'a Part,
    into: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        map.next_key::<String>()?.ok_or_else(|| A::Error::missing_field(ITEM))?;
        map.next_value_seed(ValueSeed { part: self.part, into: self.into })?;
        Ok(())
    }
}

struct ValueSeed<'a> {
    part: &'a Part,
    into: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        let mut from = <dyn erased_serde::Deserializer<'_>>::erase(from);
        (self.part.recode)(&mut from, self.into).map_err(D::Error::custom)
    }
}

/// How a part is read.
pub(super) struct PartReader {
    part: Part,
    entry: PartEntry,
}

impl PartReader {
    /// For a part of a table that was written as `entry` says, with the schema of its file.
    ///
    /// # Errors
    /// The field that has changed in a way that cannot be read, and how.
    pub(super) fn new(
        part: &Part,
        entry: &PartEntry,
        schema: &Schema,
    ) -> std::result::Result<PartReader, String> {
        let reader = PartReader { part: *part, entry: entry.clone() };
        if let Some(was) = &entry.bytes_of {
            if was != part.type_name {
                return Err(format!(
                    "'{}' was written as bytes of the type {was}, and is {} now; bytes can be read as the type only that \
                     they were written as",
                    entry.name, part.type_name
                ));
            }
            return Ok(reader);
        }
        if entry.nothing {
            return match has_one_value(part) {
                true => Ok(reader),
                false => Err(format!("'{}' had no content, and is {} now", entry.name, part.type_name)),
            };
        }
        let old = reader.field(schema)?;
        // A type without columns may still read them, by trial.
        if let Ok(new) = field_of(part) {
            check(part.name, &old, &new)?;
        }
        Ok(reader)
    }

    /// The columns of the part as one field.
    fn field(&self, schema: &Schema) -> std::result::Result<FieldRef, String> {
        let name = self.entry.name.as_str();
        if !self.entry.spread {
            let field = schema.field_with_name(name).map_err(|_| format!("there is no column '{name}'"))?;
            return Ok(Arc::new(field.clone()));
        }
        let fields: Fields = self.spread_columns(schema).map(|(_, field)| field).collect();
        Ok(Arc::new(Field::new(name, DataType::Struct(fields), false)))
    }

    /// The places and fields of the columns of a struct.
    fn spread_columns<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = (usize, FieldRef)> + 'a {
        schema.fields().iter().enumerate().filter_map(|(at, field)| {
            let name = field.name().strip_prefix(self.entry.name.as_str())?.strip_prefix('.')?;
            Some((at, Arc::new((**field).clone().with_name(name))))
        })
    }

    /// The values of a batch.
    pub(super) fn read(&self, batch: &RecordBatch) -> std::result::Result<Encoded, String> {
        let name = self.entry.name.as_str();
        let mut values = Encoded::default();
        if self.entry.nothing {
            values.ends.resize(batch.num_rows(), 0);
            return Ok(values);
        }
        if self.entry.bytes_of.is_some() {
            let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column '{name}'"))?;
            let column = column.as_any().downcast_ref::<BinaryArray>();
            let column = column.ok_or_else(|| format!("the column '{name}' does not hold bytes"))?;
            for i in 0..column.len() {
                values.bytes.extend_from_slice(column.value(i));
                values.ends.push(values.bytes.len());
            }
            return Ok(values);
        }
        let schema = batch.schema();
        let field = self.field(&schema)?;
        let array = match self.entry.spread {
            false => {
                batch.column_by_name(name).cloned().ok_or_else(|| format!("there is no column '{name}'"))?
            }
            true => {
                let columns: Vec<(usize, FieldRef)> = self.spread_columns(&schema).collect();
                let arrays = columns.iter().map(|(at, _)| batch.column(*at).clone()).collect();
                let fields = columns.into_iter().map(|(_, field)| field).collect();
                Arc::new(StructArray::try_new(fields, arrays, None).map_err(|e| e.to_string())?) as ArrayRef
            }
        };
        recode(&self.part, &field, &array, &mut values)
            .map_err(|why| format!("'{name}' cannot be read as {}: {why}", self.part.type_name))?;
        Ok(values)
    }
}

/// An error about a table, with its file.
pub(super) fn internal(what: &str, e: impl fmt::Display) -> Error {
    Error::Internal(format!("{what}: {e}"))
}
