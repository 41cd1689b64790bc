//! Random rows through buffers and merges, compared with a stable sort.

use super::*;
use crate::base::hash::hash_of;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    rows: u64,
    keys: u64,
    /// Distinct hashes; 0 for the real hash of the key.
    hashes: u64,
    timestamps: bool,
    /// Every other input has no timestamps, from this one on.
    bare_from: Option<usize>,
    value_bytes_max: u64,
    share: usize,
    merge_share: usize,
    partitions: usize,
    producers: usize,
    inputs: usize,
    remainder: Remainder,
    /// Whether keys that differ only in the case of letters are equal.
    fold_case: bool,
    /// So many rows have one with a value of a megabyte and more among them; 0 for none.
    large_every: u64,
}

const CASE: Case = Case {
    seed: 1,
    rows: 3000,
    keys: 400,
    hashes: 0,
    timestamps: false,
    bare_from: None,
    value_bytes_max: 20,
    share: 1 << 20,
    merge_share: 1 << 20,
    partitions: 3,
    producers: 2,
    inputs: 1,
    remainder: Remainder::Memory,
    fold_case: false,
    large_every: 0,
};

fn order_of(case: &Case) -> KeyOrder {
    match case.fold_case {
        true => Arc::new(|a, b| a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase())),
        // Not the order of bytes, so that a merge that compares bytes is found out.
        false => Arc::new(|a, b| b.cmp(a)),
    }
}

fn compare(order: &KeyOrder, a: &Row, b: &Row) -> Ordering {
    let keys = || if a.key == b.key { Ordering::Equal } else { order(&a.key, &b.key) };
    a.hash.cmp(&b.hash).then_with(keys)
}

fn rows_of(case: &Case, numbers: &mut Numbers) -> Vec<Row> {
    (0..case.rows)
        .map(|i| {
            let key = numbers.below(case.keys);
            let mut text = format!("key-{key:x}").into_bytes();
            let hash = if case.hashes == 0 { hash_of(&key) } else { hash_of(&(key % case.hashes)) };
            if case.fold_case && numbers.below(2) == 0 {
                text.make_ascii_uppercase();
            }
            let timestamp = match numbers.below(50) as i64 {
                0 => i64::MIN,
                n => n - 25,
            };
            let mut value = i.to_le_bytes().to_vec();
            value.resize(8 + numbers.below(case.value_bytes_max) as usize, 7);
            if case.large_every > 0 && i % case.large_every == 1 {
                value.resize((1 << 20) - 40 + numbers.below(80) as usize, 9);
            }
            Row { hash, timestamp: case.timestamps.then_some(timestamp), key: text, value }
        })
        .collect()
}

fn check(case: Case) -> (ShuffleStats, u64) {
    let dir = tempfile::tempdir().unwrap();
    let order = order_of(&case);
    let mut numbers = Numbers(case.seed << 32);
    let (mut inputs, mut expected) = (Vec::new(), Vec::new());
    for index in 0..case.inputs {
        let bare = case.bare_from.is_some_and(|from| index >= from && (index - from).is_multiple_of(2));
        let case = Case { timestamps: case.timestamps && !bare, ..case };
        for producer in 0..case.producers {
            let rows = rows_of(&case, &mut numbers);
            let context = os_context(dir.path(), case.share, case.timestamps);
            let output = Arc::new(sorted_output(context, case.partitions, &order, &rows, case.remainder));
            assert_eq!(output.stats().rows, case.rows);
            if case.remainder == Remainder::Disk {
                assert_eq!(output.memory_bytes(), 0);
            }
            inputs.push(input(index, producer, &output));
            expected.extend(rows.into_iter().map(|row| (row, index)));
        }
    }
    // Inputs may be given in any order.
    let stats = inputs[0].output.stats();
    inputs.reverse();
    // Rows were pushed by (input, producer, sequence), so a stable sort leaves exactly that order among equals. A row
    // without timestamp is as early as can be.
    let time = |row: &Row| row.timestamp.unwrap_or(i64::MIN);
    expected.sort_by(|(a, _), (b, _)| compare(&order, a, b).then(time(a).cmp(&time(b))));
    let (mut found, mut spilled) = (Vec::new(), 0);
    for partition in 0..case.partitions {
        let context = os_context(dir.path(), case.merge_share, case.timestamps);
        let mut merge = Merge::open(context, partition, &inputs, order.clone()).unwrap();
        spilled += merge.spilled_bytes();
        let rows = read_all(&mut merge).unwrap();
        let total: u64 = inputs.iter().map(|i| i.output.partition_stats(partition).rows).sum();
        assert_eq!(rows.len() as u64, total);
        assert!(rows.iter().all(|(r, ..)| partitioning(case.partitions).partition_of(r.hash) == partition));
        for (at, (row, _, new_key)) in rows.iter().enumerate() {
            let starts = at == 0 || compare(&order, &rows[at - 1].0, row).is_ne();
            assert_eq!(*new_key, starts, "new_key of row {at} in {case:?}");
        }
        found.extend(rows.into_iter().map(|(row, input, _)| (row, input)));
    }
    if let Some(at) = (0..expected.len()).find(|&i| found.get(i) != Some(&expected[i])) {
        panic!("row {at} is {:?}, expected {:?} in {case:?}", found.get(at), expected[at]);
    }
    assert_eq!(found.len(), expected.len());
    (stats, spilled)
}

/// M4: the consumer only merges, and gets the full order.
#[test]
fn rows_in_memory_come_back_sorted() {
    for seed in 0..6 {
        let timestamps = seed % 2 == 1;
        let (stats, _) = check(Case { seed, timestamps, ..CASE });
        assert_eq!((stats.runs, stats.spilled_bytes), (1, 0));
        check(Case { seed, timestamps, keys: 1_000_000, inputs: 3, ..CASE });
        check(Case { seed, timestamps, keys: 2, partitions: 9, ..CASE });
        check(Case { seed, timestamps, rows: 20_000, keys: 5000, producers: 5, share: 8 << 20, ..CASE });
    }
}

/// M5: different keys with equal hashes never interleave.
#[test]
fn keys_with_equal_hashes_do_not_interleave() {
    for seed in 0..4 {
        for timestamps in [false, true] {
            for share in [1 << 20, 24 << 10] {
                check(Case { seed, timestamps, hashes: 3, keys: 40, share, ..CASE });
                check(Case { seed, timestamps, hashes: 1, keys: 5, inputs: 2, producers: 3, share, ..CASE });
            }
        }
    }
}

#[test]
fn keys_with_other_bytes_may_be_equal() {
    for seed in 0..4 {
        for timestamps in [false, true] {
            let case = Case { seed, timestamps, fold_case: true, keys: 60, ..CASE };
            check(case);
            check(Case { hashes: 4, inputs: 2, ..case });
            check(Case { share: 20 << 10, merge_share: 8 << 10, hashes: 4, ..case });
        }
    }
}

#[test]
fn a_tiny_share_spills_and_merges_in_several_passes() {
    for seed in 0..3 {
        for timestamps in [false, true] {
            let case = Case { seed, timestamps, rows: 8000, share: 16 << 10, merge_share: 6 << 10, ..CASE };
            let (stats, spilled) = check(case);
            assert!(stats.spills > 20 && stats.runs < stats.spills / 2, "{stats:?}");
            assert!(spilled > 0, "the merge had memory enough for one pass");
            check(Case { remainder: Remainder::Disk, ..case });
            check(Case { share: 0, merge_share: 0, rows: 1000, ..case });
            check(Case { inputs: 3, rows: 1500, keys: 10, remainder: Remainder::Disk, ..case });
        }
    }
}

/// A9: of inputs of one operator some may have timestamps and some none.
#[test]
fn rows_without_timestamps_come_first_in_their_key() {
    for seed in 0..4 {
        for bare in 0..2 {
            let case = Case { seed, timestamps: true, bare_from: Some(bare), inputs: 3, keys: 60, ..CASE };
            check(case);
            check(Case { hashes: 2, keys: 9, fold_case: true, ..case });
            let (_, spilled) = check(Case { share: 16 << 10, merge_share: 6 << 10, ..case });
            assert!(spilled > 0, "the merge had memory enough for one pass");
        }
    }
}

/// The producers of one input agree, or the merge is refused.
#[test]
fn an_input_has_timestamps_or_it_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let order = key_bytes_order();
    let outputs = [true, false].map(|timestamps| {
        let rows = rows_of(&Case { rows: 5, timestamps, ..CASE }, &mut Numbers(3));
        let context = os_context(dir.path(), 1 << 20, timestamps);
        Arc::new(sorted_output(context, 1, &order, &rows, Remainder::Memory))
    });
    let open = |other: usize| {
        let inputs = [input(0, 0, &outputs[0]), input(other, 1, &outputs[1])];
        Merge::open(os_context(dir.path(), 1 << 20, true), 0, &inputs, order.clone())
    };
    assert!(open(0).is_err());
    let mut merge = open(1).unwrap();
    assert_eq!(merge.current_row().unwrap(), None);
    while let Some(row) = merge.next_row().unwrap() {
        let (value, timestamp, input) = (row.value.to_vec(), row.timestamp, row.input);
        assert_eq!(timestamp.is_some(), input == 0);
        let current = merge.current_row().unwrap().unwrap();
        assert_eq!((current.value, current.timestamp, current.input), (&value[..], timestamp, input));
    }
    assert_eq!(merge.current_row().unwrap(), None);
}

#[test]
fn rows_larger_than_a_page_and_than_the_share_pass() {
    for share in [8 << 10, 64 << 10, 4 << 20] {
        for timestamps in [false, true] {
            check(Case { rows: 60, value_bytes_max: 300_000, share, timestamps, merge_share: share, ..CASE });
        }
    }
}

/// Small ones between them and in the same runs, equal keys and hashes, so many that runs are merged while rows still come.
#[test]
fn large_rows_pass_among_small_ones() {
    for (share, remainder) in
        [(64 << 10, Remainder::Memory), (4 << 20, Remainder::Memory), (24 << 20, Remainder::Disk)]
    {
        for (timestamps, hashes) in [(false, 0), (true, 3)] {
            let case = Case { rows: 150, keys: 9, hashes, timestamps, remainder, producers: 1, ..CASE };
            check(Case { share, merge_share: share, large_every: 6, inputs: 2, ..case });
        }
    }
}

/// A key as large as that is compared by the front of its row, which is counted.
#[test]
fn large_keys_are_compared_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let row = |i: u64| {
        let mut key = vec![7; 1 << 20];
        key.extend(hash_of(&i).to_be_bytes());
        Row { hash: i % 2, timestamp: None, key, value: i.to_be_bytes().to_vec() }
    };
    let rows: Vec<Row> = (0..40).map(|i| row(i % 11)).collect();
    let order = key_bytes_order();
    let output = sorted_output(os_context(dir.path(), 64 << 10, false), 1, &order, &rows, Remainder::Disk);
    let inputs = [input(0, 0, &Arc::new(output))];
    assert!(Merge::memory_needed(0, &inputs) > 2 << 20, "{}", Merge::memory_needed(0, &inputs));
    let mut merge = Merge::open(os_context(dir.path(), 64 << 10, false), 0, &inputs, order.clone()).unwrap();
    let found: Vec<Row> = read_all(&mut merge).unwrap().into_iter().map(|(row, ..)| row).collect();
    let mut expected = rows.clone();
    expected.sort_by(|a, b| compare(&order, a, b));
    assert!(found == expected, "not in order");
}

#[test]
fn empty_producers_and_partitions_are_nothing_special() {
    check(Case { rows: 0, ..CASE });
    check(Case { rows: 1, partitions: 50, ..CASE });
    check(Case { rows: 5, partitions: 1000, share: 4 << 10, remainder: Remainder::Disk, ..CASE });
    let dir = tempfile::tempdir().unwrap();
    let mut merge = Merge::open(os_context(dir.path(), 0, false), 0, &[], key_bytes_order()).unwrap();
    assert_eq!(merge.next_row().unwrap(), None);
    assert_eq!(merge.next_row().unwrap(), None);
}

#[test]
fn the_share_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for share in [32 << 10, 1 << 20, 5 << 20] {
        let context = os_context(dir.path(), share, true);
        let mut buffer = SortBuffer::new(context, partitioning(4), key_bytes_order());
        let mut numbers = Numbers(9);
        for i in 0..(share as u64 / 10) {
            let value = vec![1; numbers.below(60) as usize];
            buffer.append(numbers.next(), Some(i as i64), b"key", &value).unwrap();
            assert!(buffer.memory_bytes() <= share, "{} of {share}", buffer.memory_bytes());
        }
        let output = buffer.finish(Remainder::Memory).unwrap();
        assert!(output.stats().spills > 0 && output.memory_bytes() > 0 && output.memory_bytes() <= share);
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows_of(&Case { rows: 9000, ..CASE }, &mut Numbers(3));
    let digests = |rows: &[Row], share: usize, remainder: Remainder| {
        let context = os_context(dir.path(), share, false);
        let output = sorted_output(context, 4, &key_bytes_order(), rows, remainder);
        let digests: Vec<_> = (0..4).map(|p| output.partition_digest(p)).collect();
        (digests, output.stats())
    };
    for share in [30 << 10, 4 << 20] {
        let once = digests(&rows, share, Remainder::Memory);
        assert_eq!(once, digests(&rows, share, Remainder::Memory));
        let mut other = rows.clone();
        other[4321].value[0] ^= 1;
        let partition = partitioning(4).partition_of(rows[4321].hash);
        let changed = digests(&other, share, Remainder::Memory);
        for p in 0..4 {
            assert_eq!(once.0[p] != changed.0[p], p == partition);
        }
    }
    // In memory or on disk: the same rows, the same digest.
    let (memory, disk) =
        (digests(&rows, 4 << 20, Remainder::Memory), digests(&rows, 4 << 20, Remainder::Disk));
    assert_eq!(memory.0, disk.0);
    assert!(memory.1.spilled_bytes == 0 && disk.1.spilled_bytes > 0);
}

#[test]
fn a_released_partition_gives_its_memory_back() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows_of(&CASE, &mut Numbers(3));
    let context = os_context(dir.path(), 4 << 20, false);
    let output = Arc::new(sorted_output(context.clone(), 3, &key_bytes_order(), &rows, Remainder::Memory));
    let inputs = [input(0, 0, &output)];
    let mut open = Merge::open(context.clone(), 1, &inputs, key_bytes_order()).unwrap();
    let before = output.memory_bytes();
    let released = output.release(1);
    assert!(released > 0 && output.memory_bytes() == before - released);
    assert_eq!(output.release(1), 0);
    assert_eq!(read_all(&mut open).unwrap().len() as u64, output.partition_stats(1).rows);
    let again = Merge::open(context.clone(), 1, &inputs, key_bytes_order()).err().unwrap();
    assert!(again.to_string().contains("after its release"), "{again}");
    assert!(Merge::open(context.clone(), 2, &inputs, key_bytes_order()).is_ok());
    assert!(Merge::open(context, 3, &inputs, key_bytes_order()).is_err());
}

#[test]
fn rows_that_do_not_fit_the_edge_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let context = os_context(dir.path(), 1 << 20, true);
    let mut buffer = SortBuffer::new(context.clone(), partitioning(1), key_bytes_order());
    assert!(buffer.append(1, None, b"", b"").is_err());
    let mut buffer = PartitionBuffer::new(context, 2);
    assert!(buffer.append(0, None, b"").is_err());
    assert!(buffer.append(2, Some(1), b"").is_err());
}

/// Unkeyed rows: arrival order per partition, producer after producer.
#[test]
fn unkeyed_rows_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    for (share, timestamps, value_bytes) in
        [(1 << 20, false, 30), (8 << 10, true, 30), (8 << 10, false, 9000), (0, false, 30)]
    {
        for remainder in [Remainder::Memory, Remainder::Disk] {
            let mut numbers = Numbers(5);
            let (mut inputs, mut expected) = (Vec::new(), vec![Vec::new(); 5]);
            for producer in 0..3 {
                let mut buffer = PartitionBuffer::new(os_context(dir.path(), share, timestamps), 5);
                for i in 0..700i64 {
                    // Partition 4 stays empty.
                    let partition = numbers.below(4) as usize;
                    let value = vec![i as u8; numbers.below(value_bytes) as usize];
                    let timestamp = timestamps.then_some(-i);
                    buffer.append(partition, timestamp, &value).unwrap();
                    if share > 4096 && value_bytes < 100 {
                        assert!(buffer.memory_bytes() <= share, "{} of {share}", buffer.memory_bytes());
                    }
                    expected[partition].push((timestamp, value));
                }
                let output = Arc::new(buffer.finish(remainder).unwrap());
                assert_eq!(output.stats().rows, 700);
                assert_eq!(output.stats().spills > 0, share < 10_000 || remainder == Remainder::Disk);
                inputs.push(input(0, producer, &output));
            }
            inputs.rotate_left(1);
            for (partition, expected) in expected.iter().enumerate() {
                let mut reader = Concat::new(partition, &inputs);
                let mut found = Vec::new();
                while let Some(row) = reader.next_row().unwrap() {
                    assert!(row.key.is_empty() && !row.new_key && row.hash == 0);
                    found.push((row.timestamp, row.value.to_vec()));
                }
                assert!(&found == expected, "partition {partition}, share {share}");
                assert_eq!(reader.next_row().unwrap(), None);
            }
        }
    }
}
