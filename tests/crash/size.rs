//! Size: how much is tried, and with which seed. `MAINSTEM_LONG=1` for the long sizes, `MAINSTEM_SEED=N` to do a run again.

pub use crate::common::random::Random;

/// The size for CI, or the long one.
pub fn size(short: u64, long: u64) -> u64 {
    if std::env::var_os("MAINSTEM_LONG").is_some_and(|value| value != "0") { long } else { short }
}

/// The seed of this run, or the one that was asked for.
pub fn seed(usual: u64) -> u64 {
    let asked = std::env::var("MAINSTEM_SEED").ok();
    asked.map_or(usual, |seed| seed.parse().unwrap_or_else(|_| panic!("MAINSTEM_SEED '{seed}' is no number")))
}

/// Random numbers of the `n`-th case of a run.
pub fn random(seed: u64, n: u64) -> Random {
    Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ n.wrapping_mul(0xD1B5_4A32_D192_ED03))
}
