//! Random numbers that are a function of a seed: what generators of examples are made of.
//!
//! Method: splitmix64 (Steele, Lea and Flood). Every seed gives a series of its own, so that record number `i` can be
//! made anywhere, without those before it.

/// A series of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The series number `seed`.
    #[inline]
    pub fn new(seed: u64) -> Self {
        // Mixed once: the series of neighbouring seeds would otherwise be one series, shifted.
        Random(mix(seed ^ 0x6A09_E667_F3BC_C909))
    }

    /// The next number of 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, or 0 if that is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.bits() as u128 * bound as u128) >> 64) as u64
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
