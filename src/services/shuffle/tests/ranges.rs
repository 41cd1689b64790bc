//! Ranges of sorted outputs: together they are the merge of everything.

use super::*;

fn merged(
    context: &ShuffleContext,
    inputs: &[MergeInput],
    cut: &RangeCut,
    range: usize,
) -> Vec<(u64, Vec<u8>)> {
    let Some(hashes) = cut.hashes(range) else { return Vec::new() };
    let mut merge = Merge::open_range(context.clone(), 0, inputs, key_bytes_order(), hashes).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = merge.next_row().unwrap() {
        rows.push((row.hash, row.value.to_vec()));
    }
    rows
}

/// M12: the ranges of a global sort follow each other and leave nothing out, in memory, on disk, and where a merge
/// takes several passes; without heavy keys they are of about equal size.
#[test]
fn ranges_are_the_merge_cut_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, share, remainder, count, distinct) in [
        (1, 1 << 20, Remainder::Memory, 3, u64::MAX),
        (2, 1 << 16, Remainder::Disk, 4, u64::MAX),
        (3, 1 << 14, Remainder::Disk, 2, u64::MAX),
        (4, 1 << 16, Remainder::Disk, 5, 7),
        (5, 1 << 20, Remainder::Disk, 6, 1),
        (6, 1 << 16, Remainder::Memory, 1, 100),
    ] {
        let context = os_context(dir.path(), share, false);
        let mut numbers = Numbers(seed << 32);
        let mut rows = Vec::new();
        let mut inputs = Vec::new();
        for producer in 0..3 {
            let mut buffer =
                SortBuffer::new(context.clone(), Partitioning::single(), key_bytes_order()).sampled();
            for i in 0..4000u64 {
                let hash = match distinct {
                    u64::MAX => numbers.next() >> 3,
                    distinct => numbers.below(distinct) * 1000,
                };
                let value = (producer << 32 | i).to_le_bytes().to_vec();
                buffer.append(hash, None, &hash.to_be_bytes(), &value).unwrap();
                rows.push((hash, value));
            }
            let output = Arc::new(buffer.finish(remainder).unwrap());
            inputs.push(MergeInput { input: 0, producer: producer as usize, output });
        }
        // Stable, as the order of producers is.
        rows.sort_by_key(|row| row.0);
        let cut = RangeCut::new(count, &inputs);
        assert_eq!(cut, RangeCut::new(count, &inputs));
        let ranges: Vec<_> = (0..count).map(|range| merged(&context, &inputs, &cut, range)).collect();
        if distinct == u64::MAX {
            let sizes: Vec<usize> = ranges.iter().map(Vec::len).collect();
            let mean = rows.len() / count;
            assert!(sizes.iter().all(|&n| n.abs_diff(mean) < mean / 4), "seed {seed}: {sizes:?}");
        }
        assert!(ranges.concat() == rows, "seed {seed}");
        assert_eq!(cut.hashes(count), None);
    }
}
