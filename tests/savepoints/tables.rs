//! What another reader of Parquet sees: the reader of the crate `parquet`, which knows nothing of savepoints.

use super::jobs::{Output, build, environment, event, until};
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::DataType;
use mainstem::prelude::*;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// The batches of the table of a state, found by the name of its file.
pub fn table(savepoint: &Path, name: &str) -> Vec<RecordBatch> {
    let files = std::fs::read_dir(savepoint).unwrap().map(|file| file.unwrap().path());
    let end = format!("-{name}.parquet");
    let file = files.filter(|file| file.to_str().unwrap().ends_with(&end)).collect::<Vec<_>>();
    assert_eq!(file.len(), 1, "{name}: {file:?}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file[0]).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let mut batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    batches
}

fn columns(savepoint: &Path, name: &str) -> Vec<(String, DataType)> {
    let batches = table(savepoint, name);
    let schema = batches[0].schema();
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

/// The last line: columns of state have the types of its fields.
#[test]
fn another_reader_sees_typed_columns() {
    const RECORDS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("savepoint");
    let output = Output::default();
    let env = environment(2, None).max_parallelism(16);
    build(&env, RECORDS, Some(6_000.0), &output);
    let job = env.execute_async("typed").unwrap();
    until("something has come out", || output.len() > 1_000);
    job.stop_with_savepoint(&path, false).unwrap();
    job.result().unwrap();

    use DataType::*;
    let named = |columns: &[(&str, DataType)]| -> Vec<(String, DataType)> {
        columns.iter().map(|(name, of)| (name.to_string(), of.clone())).collect()
    };
    let key = [("subtask", UInt32), ("key_group", UInt32), ("key", Utf8)];
    let with = |more: &[(&str, DataType)]| named(&[&key[..], more].concat());
    let profile =
        [("value.name", Utf8), ("value.count", UInt32), ("value.last", Int64), ("value.fired", UInt32)];
    assert_eq!(columns(&path, "kitchen-profile"), with(&profile));
    assert_eq!(columns(&path, "kitchen-ids"), with(&[("value", UInt64)]));
    assert_eq!(columns(&path, "kitchen-visits"), with(&[("map_key", Utf8), ("value", UInt64)]));
    assert_eq!(columns(&path, "kitchen-highest"), with(&[("value", UInt64)]));
    assert_eq!(columns(&path, "kitchen-fresh"), with(&[("value", UInt64), ("last_used", Int64)]));
    assert_eq!(columns(&path, "kitchen-event-time-timers"), with(&[("time", Int64)]));
    assert_eq!(columns(&path, "rolling-accumulators"), with(&[("value", UInt64)]));
    assert_eq!(columns(&path, "tumbling-windows"), with(&[("window_start", Int64), ("value", UInt64)]));
    let session = [("window.start", Int64), ("window.end", Int64), ("value", UInt64)];
    assert_eq!(columns(&path, "sessions-keys"), with(&session));
    let rules = [("subtask", UInt32), ("map_key", UInt64), ("value", Utf8)];
    assert_eq!(columns(&path, "ruled-rules"), named(&rules));
    for table in ["sliding-keys", "general-windows", "joined-interval-join", "events-splits"] {
        let blob = columns(&path, table).into_iter().find(|(_, of)| matches!(of, Binary | LargeBinary));
        assert_eq!(blob, None, "{table}");
    }

    // The content is what the operators were told: of the records that were counted.
    let counted = output.sorted().into_iter().filter(|line| line.starts_with("rolling")).count() as u64;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut groups = std::collections::BTreeSet::new();
    for batch in table(&path, "rolling-accumulators") {
        let strings =
            batch.column_by_name("key").unwrap().as_any().downcast_ref::<StringArray>().unwrap().clone();
        let values =
            batch.column_by_name("value").unwrap().as_any().downcast_ref::<UInt64Array>().unwrap().clone();
        let group = batch
            .column_by_name("key_group")
            .unwrap()
            .as_any()
            .downcast_ref::<UInt32Array>()
            .unwrap()
            .clone();
        for row in 0..batch.num_rows() {
            counts.insert(strings.value(row).to_string(), values.value(row));
            groups.insert(group.value(row));
            assert!(group.value(row) < 16);
        }
    }
    assert_eq!(counts.values().sum::<u64>(), counted);
    let known: std::collections::BTreeSet<String> = (0..RECORDS).map(|id| event(id).page).collect();
    assert!(counts.keys().all(|page| known.contains(page)) && groups.len() > 1);
    let timers = table(&path, "kitchen-event-time-timers");
    let times = timers[0].column_by_name("time").unwrap().as_any().downcast_ref::<Int64Array>().unwrap();
    assert!(times.len() >= counts.len());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Line(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place {
    city: String,
    zip: u32,
}

/// A type without columns is kept as bytes and comes back; a key that is a struct is columns; hash maps, options of options and
/// units come back, too.
#[test]
fn types_without_columns_are_kept_as_bytes() {
    #[allow(clippy::disallowed_types, reason = "users have them")]
    type Odd = (Option<Option<u8>>, std::collections::HashMap<String, Vec<Shape>>, (), u128);
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let run = |from: Option<&Path>, to: &Path| {
        let env = Environment::new().parallelism(2).checkpoint_storage(CheckpointStorage::Memory);
        let mut env = env.checkpoint_interval(Duration::from_secs(3_600));
        if let Some(from) = from {
            env = env.restore(Restore::Path(from.to_path_buf()));
        }
        let output = Output::default();
        let places = env.read(Generate::unbounded(|i| i).rate(1_000.0)).uid("numbers");
        let by_place = places.key_by(|i| Place { city: format!("city {}", i % 3), zip: (i % 3) as u32 });
        let odd = by_place.map_with_state(|i, odd: Option<Odd>| {
            let before = odd.as_ref().map(|odd| (odd.0, odd.1.len(), odd.1["a"].clone(), odd.1["b"].len()));
            let shapes = |n: usize| vec![Shape::Line(n as u64), Shape::Point];
            let map = ["a", "b", "c"].map(|name| (name.to_string(), shapes(name.len())));
            (format!("{before:?}"), Some((Some(None), map.into_iter().collect(), (), u128::from(i) << 70)))
        });
        output.sink(&odd.name("odd").uid("odd"), "odd");
        let seen = by_place.map_with_state(|i, seen: Option<Option<u8>>| {
            (format!("{seen:?}"), Some(if i % 2 == 0 { None } else { Some(1) }))
        });
        output.sink(&seen.name("nested").uid("nested"), "nested");
        let job = env.execute_async("odd").unwrap();
        until("all places have been seen", || output.len() > 60);
        job.stop_with_savepoint(to, false).unwrap();
        job.result().unwrap();
        output.sorted()
    };
    run(None, &one);
    let lines = run(Some(&one), &two);
    assert!(lines.iter().all(|line| !line.starts_with("odd None")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("Some((Some(None), 3, [Line(1), Point], 2))")),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.starts_with("nested None")), "Some(None) is not None: {lines:?}");
}
