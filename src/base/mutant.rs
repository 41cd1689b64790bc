//! Mutant: planted bugs, to see that the tests find them.
//!
//! Place: [`is`] stands where a bug is planted. Without the cargo feature `mutants` it is false and the bug is not in the
//! program. With it, the variable `MAINSTEM_MUTANT` names the one bug of this process.
//! Invariants: a name stands in [`NAMES`] and in one place of the code at least, and `tests/mutants.sh` tells which test
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
    // Rows of two keys with equal hashes count as one key.
    "equal_hashes_mixed",
    // A fold that depends on order is combined as records arrive, and not as their timestamps say.
    "combined_by_arrival",
    // A late record opens its window again.
    "late_window_again",
    // The keys of one key group belong to nobody when state is restored.
    "key_group_lost",
];
