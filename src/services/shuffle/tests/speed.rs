//! How long a row takes in memory: `cargo test --release --lib shuffle::tests::speed -- --ignored --nocapture`.

use super::*;
use crate::base::hash::hash_of;

/// Nanoseconds that this thread was on a processor: other load on the machine does not count.
fn busy_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

fn measure(name: &str, rows: u64, keys: u64, producers: u64, share: usize) {
    let dir = tempfile::tempdir().unwrap();
    let per_row = |start: f64| (busy_ns() - start) / rows as f64;
    let (mut append, mut sort, mut inputs, mut numbers) = (0.0, 0.0, Vec::new(), Numbers(1));
    let mut stats = ShuffleStats::default();
    for producer in 0..producers {
        let keys: Vec<u32> = (0..rows / producers).map(|_| numbers.below(keys) as u32).collect();
        let context = os_context(dir.path(), share, false);
        let mut buffer = SortBuffer::new(context, partitioning(16), key_bytes_order());
        let start = busy_ns();
        for key in &keys {
            buffer.append(hash_of(key), None, &key.to_le_bytes(), &key.to_le_bytes()).unwrap();
        }
        append += per_row(start);
        let start = busy_ns();
        let output = Arc::new(buffer.finish(Remainder::Memory).unwrap());
        sort += per_row(start);
        stats = output.stats();
        inputs.push(input(0, producer as usize, &output));
    }
    let start = busy_ns();
    let (mut count, mut groups, mut sum) = (0u64, 0u64, 0u64);
    for partition in 0..16 {
        let context = os_context(dir.path(), share, false);
        let mut merge = Merge::open(context, partition, &inputs, key_bytes_order()).unwrap();
        while let Some(row) = merge.next_row().unwrap() {
            count += 1;
            groups += row.new_key as u64;
            sum += row.value[0] as u64;
        }
    }
    let merge = per_row(start);
    assert_eq!(count, rows / producers * producers);
    println!(
        "{name:<28} append {append:5.1}  sort {sort:5.1}  merge {merge:5.1}  total {:5.1} ns/row = {:.1} M rows/s; \
         {groups} keys, check {sum}, {stats:?}",
        append + sort + merge,
        1e3 / (append + sort + merge),
    );
}

#[test]
#[ignore = "measures; run it in release"]
fn nanoseconds_per_row() {
    for _ in 0..2 {
        measure("10M rows, unique keys", 10_000_000, u32::MAX as u64, 1, 2 << 30);
        measure("10M rows, 1M keys", 10_000_000, 1_000_000, 1, 2 << 30);
        measure("10M rows, 1000 keys", 10_000_000, 1000, 1, 2 << 30);
        measure("10M rows, unique, 8 producers", 10_000_000, u32::MAX as u64, 8, 2 << 30);
        measure("10M rows, unique, 64 MiB", 10_000_000, u32::MAX as u64, 1, 64 << 20);
    }
}
