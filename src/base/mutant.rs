//! Mutant: planted bugs, to see that the tests find them.
//!
//! Place: `is` stands where a bug is planted. Without the cargo feature `mutants` it is false and the bug is not in the
//! program. With it, the variable `MAINSTEM_MUTANT` names the one bug of this process.
//! Invariants: a name stands in `NAMES` and in one place of the code at least, and `tests/mutants.sh` tells which test
//! must fail with it.

/// Whether this process has the bug `name`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_name: &str) -> bool {
    false
}

/// Whether this process has the bug `name`.
#[cfg(feature = "mutants")]
pub(crate) fn is(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    assert!(NAMES.contains(&name), "mutant '{name}' is not in the list of names");
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("MAINSTEM_MUTANT").ok().filter(|name| !name.is_empty());
        let known = chosen.as_ref().is_none_or(|name| NAMES.contains(&name.as_str()));
        assert!(known, "MAINSTEM_MUTANT: there is no mutant {chosen:?}");
        chosen
    });
    chosen.as_deref() == Some(name)
}

/// Every bug there is.
#[cfg(feature = "mutants")]
pub const NAMES: &[&str] = &[
    // A channel whose barrier has come is read on before those of the others have.
    "alignment_skipped",
    // A watermark overtakes the results that it covers.
    "watermark_first",
    // Sinks commit before the metadata of the checkpoint is there.
    "committed_before_durable",
    // What was renamed may lose its name in a power loss.
    "directory_not_synced",
    // A slot that a batch has emptied is given to another key within that batch.
    "slot_reused_in_batch",
    // Rows of two keys with equal hashes count as one key.
    "equal_hashes_mixed",
    // One section of each snapshot is not written.
    "section_forgotten",
    // A split that was open is read from its start after a restore.
    "split_from_start",
    // Files of checkpoints are taken though their checksum says otherwise.
    "checksum_ignored",
    // Blocks of a shuffle are, too.
    "block_checksum_ignored",
    // A fold that depends on order is combined as records arrive, and not as their timestamps say.
    "combined_by_arrival",
    // What a writer prepares at its end is not committed.
    "last_part_dropped",
    // A late record opens its window again.
    "late_window_again",
    // The keys of one key group belong to nobody when state is restored.
    "key_group_lost",
    // The lock of a job directory keeps nobody out.
    "two_writers",
];
