//! Types: the columns of a type, as serde tells, and whether what one type wrote can be read as another.

use crate::base::rows::{Part, Recode};
use arrow_schema::{DataType, Field, FieldRef};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_arrow::utils::Item;
use std::cell::Cell;
use std::panic::catch_unwind;

/// Shapes that a type is asked for at most, one for each variant of its enums.
const SHAPES_MAX: usize = 200;

thread_local! {
    /// The type that [`Asked`] stands for: serde_arrow wants a type, and here there is only a function that reads one.
    static ASKED: Cell<Option<Recode>> = const { Cell::new(None) };
}

/// Stands for the type that is asked for its columns.
struct Asked;

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let recode = ASKED.get().ok_or_else(|| D::Error::custom("no type is asked for"))?;
        let mut from = <dyn erased_serde::Deserializer<'_>>::erase(deserializer);
        recode(&mut from, &mut Vec::new()).map_err(D::Error::custom)?;
        Ok(Asked)
    }
}

/// The columns of a part as one field, or why it has none.
pub(super) fn field_of(part: &Part) -> Result<FieldRef, String> {
    let options = TracingOptions::new()
        .map_as_struct(false)
        .allow_null_fields(true)
        .strings_as_large_utf8(false)
        .sequence_as_large_list(false)
        .bytes_as_large_binary(false)
        .enums_without_data_as_strings(true)
        .from_type_budget(SHAPES_MAX);
    ASKED.set(Some(part.recode));
    // A type of a user is read from made-up values here, and may not like them.
    let fields = catch_unwind(|| Vec::<FieldRef>::from_type::<Item<Asked>>(options));
    ASKED.set(None);
    let fields = fields.map_err(|_| "it panics when it is asked for its fields".to_string())?;
    let fields = fields.map_err(|e| first_line(&e.to_string()))?;
    let field = fields.into_iter().next().ok_or("it has no fields")?;
    writable(&field)?;
    Ok(field)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

/// Whether Parquet has a column for it.
fn writable(field: &Field) -> Result<(), String> {
    match field.data_type() {
        DataType::Union(..) => Err(format!("'{}' is an enum with data", field.name())),
        DataType::Null => Err(format!("'{}' has no values", field.name())),
        DataType::Struct(fields) if fields.is_empty() => {
            Err(format!("'{}' is a struct without fields", field.name()))
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|field| writable(field)),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => writable(field),
        _ => Ok(()),
    }
}

/// The fields of a type that are columns of their own.
pub(super) fn spread(field: &Field) -> Option<&arrow_schema::Fields> {
    match field.data_type() {
        DataType::Struct(fields) if !field.is_nullable() => Some(fields),
        _ => None,
    }
}

/// Whether values of one type can be read as another: fields that both have must be of the same type or become wider.
///
/// # Errors
/// The field that is in the way, and why.
pub(super) fn check(path: &str, old: &Field, new: &Field) -> Result<(), String> {
    if old.is_nullable() && !new.is_nullable() && *new.data_type() != DataType::Null {
        return Err(format!("'{path}' could be missing, and cannot any more"));
    }
    let changed = || Err(format!("'{path}' was {}, and is {}", name(old.data_type()), name(new.data_type())));
    match (old.data_type(), new.data_type()) {
        (DataType::Struct(old), DataType::Struct(new)) => {
            for new in new {
                if let Some((_, old)) = old.find(new.name()) {
                    check(&format!("{path}.{}", new.name()), old, new)?;
                }
            }
            Ok(())
        }
        (DataType::List(old) | DataType::LargeList(old), DataType::List(new) | DataType::LargeList(new)) => {
            check(&format!("{path}[]"), old, new)
        }
        (DataType::Map(old, _), DataType::Map(new, _)) => {
            let (DataType::Struct(old), DataType::Struct(new)) = (old.data_type(), new.data_type()) else {
                return changed();
            };
            old.iter()
                .zip(new)
                .try_for_each(|(old, new)| check(&format!("{path}{{{}}}", new.name()), old, new))
        }
        (old, new) if is_text(old) && is_text(new) => Ok(()),
        (DataType::Binary | DataType::LargeBinary, DataType::Binary | DataType::LargeBinary) => Ok(()),
        (old, new) if old == new || widens(old, new) => Ok(()),
        _ => changed(),
    }
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Dictionary(..))
}

fn widens(old: &DataType, new: &DataType) -> bool {
    // Sign and bits of whole numbers.
    let whole = |of: &DataType| match of {
        DataType::Int8 => Some((true, 8)),
        DataType::Int16 => Some((true, 16)),
        DataType::Int32 => Some((true, 32)),
        DataType::Int64 => Some((true, 64)),
        DataType::UInt8 => Some((false, 8)),
        DataType::UInt16 => Some((false, 16)),
        DataType::UInt32 => Some((false, 32)),
        DataType::UInt64 => Some((false, 64)),
        _ => None,
    };
    match (whole(old), whole(new)) {
        (Some((false, old)), Some((_, new))) => old < new,
        (Some((true, old)), Some((true, new))) => old < new,
        _ => matches!((old, new), (DataType::Float32, DataType::Float64)),
    }
}

/// A type for people.
fn name(of: &DataType) -> String {
    match of {
        DataType::Boolean => "bool".into(),
        DataType::Int8 => "i8".into(),
        DataType::Int16 => "i16".into(),
        DataType::Int32 => "i32".into(),
        DataType::Int64 => "i64".into(),
        DataType::UInt8 => "u8".into(),
        DataType::UInt16 => "u16".into(),
        DataType::UInt32 => "u32".into(),
        DataType::UInt64 => "u64".into(),
        DataType::Float32 => "f32".into(),
        DataType::Float64 => "f64".into(),
        of if is_text(of) => "text".into(),
        DataType::Binary | DataType::LargeBinary => "bytes".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("a list of {}", name(item.data_type())),
        DataType::Struct(_) => "a struct".into(),
        DataType::Map(..) => "a map".into(),
        other => format!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use std::collections::BTreeMap;

    fn field<T: Serialize + serde::de::DeserializeOwned>() -> Result<FieldRef, String> {
        field_of(&Part::of::<T>("value"))
    }

    #[derive(Serialize, Deserialize)]
    struct Click {
        page: String,
        at: Option<i64>,
        tags: Vec<String>,
        by: BTreeMap<u32, f32>,
        kind: Kind,
    }

    #[derive(Serialize, Deserialize)]
    enum Kind {
        First,
        Again,
    }

    #[derive(Serialize, Deserialize)]
    enum Shape {
        Point,
        Line(u64),
    }

    #[derive(Serialize, Deserialize)]
    struct Empty {}

    #[test]
    fn types_tell_their_columns() {
        let click = field::<Click>().unwrap();
        let fields: Vec<(&str, bool)> =
            spread(&click).unwrap().iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
        assert_eq!(fields, [("page", false), ("at", true), ("tags", false), ("by", false), ("kind", false)]);
        assert_eq!(field::<u32>().unwrap().data_type(), &DataType::UInt32);
        assert!(spread(&field::<(u64, String)>().unwrap()).is_some());
        assert!(spread(&field::<Option<Click>>().unwrap()).is_none(), "it may be missing as a whole");
        for (without, why) in [
            (field::<Shape>(), "enum with data"),
            (field::<Vec<Shape>>(), "enum with data"),
            (field::<Empty>(), "without fields"),
            (field::<()>(), "no values"),
            (field::<u128>(), ""),
            (field::<serde_json::Value>(), "non self describing"),
        ] {
            let message = without.unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Old {
        a: i32,
        b: u16,
        c: f32,
        d: String,
        e: Vec<i16>,
        f: Option<u8>,
    }

    /// S9: what may change and what may not.
    #[test]
    fn types_may_grow_and_not_change() {
        #[derive(Serialize, Deserialize)]
        struct Wider {
            new: u8,
            e: Vec<i64>,
            c: f64,
            b: i32,
            a: Option<i64>,
            f: Option<u64>,
        }
        #[derive(Serialize, Deserialize)]
        struct Narrower {
            a: i16,
        }
        #[derive(Serialize, Deserialize)]
        struct Signed {
            b: i16,
        }
        #[derive(Serialize, Deserialize)]
        struct Text {
            a: String,
        }
        #[derive(Serialize, Deserialize)]
        struct Always {
            f: u8,
        }
        #[derive(Serialize, Deserialize)]
        struct Items {
            e: Vec<String>,
        }
        fn checked<T: Serialize + serde::de::DeserializeOwned>() -> Result<(), String> {
            check("value", &field::<Old>().unwrap(), &field::<T>().unwrap())
        }
        assert_eq!(checked::<Old>(), Ok(()));
        assert_eq!(checked::<Wider>(), Ok(()));
        assert_eq!(checked::<Narrower>().unwrap_err(), "'value.a' was i32, and is i16");
        assert_eq!(checked::<Signed>().unwrap_err(), "'value.b' was u16, and is i16");
        assert_eq!(checked::<Text>().unwrap_err(), "'value.a' was i32, and is text");
        assert_eq!(checked::<Always>().unwrap_err(), "'value.f' could be missing, and cannot any more");
        assert_eq!(checked::<Items>().unwrap_err(), "'value.e[]' was i16, and is text");
        assert_eq!(checked::<u64>().unwrap_err(), "'value' was a struct, and is u64");
    }
}
