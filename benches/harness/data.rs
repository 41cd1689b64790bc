//! Data: the events, numbers and long rows of the workloads, exactly defined so that any engine can be compared.
//!
//! Place: called by the bounds and by the engine's side of each bench, inside the children.
//! Method: everything is a pure function of an index through `splitmix64` (Sebastiano Vigna, public domain;
//! Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). Two source subtasks take
//! the even and the odd indices. The text of the word count is in [`super::words`].
//! Check values at full size stand beside the workloads that use them.

/// One output of the splitmix64 generator for the state `x`.
#[inline(always)]
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One event: key, event time in milliseconds, value.
pub type Event = (u64, i64, i64);

/// Events are out of order by less than this.
pub const OUT_OF_ORDER_MS: i64 = 1000;

/// Event `i`: a uniform key below `keys`, 100 events per millisecond of event time, a 20-bit value.
#[inline(always)]
pub fn event(i: u64, keys: u64) -> Event {
    let r = splitmix64(i);
    let r2 = splitmix64(r);
    let at_ms = OUT_OF_ORDER_MS + (i / 100) as i64 - (r2 % OUT_OF_ORDER_MS as u64) as i64;
    (r % keys, at_ms, (r2 >> 44) as i64)
}

/// The first map of map-filter-map.
#[inline(always)]
pub fn maps_spread(x: u64) -> u64 {
    x.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The filter of map-filter-map: keeps three of four.
#[inline(always)]
pub fn maps_keep(x: u64) -> bool {
    x >> 62 != 0
}

/// The second map of map-filter-map.
#[inline(always)]
pub fn maps_fold(x: u64) -> u64 {
    x ^ (x >> 29)
}

/// Length of a long row's key.
pub const LONG_KEY_BYTES: usize = 200;

/// Length of a long row's value.
pub const LONG_VALUE_BYTES: usize = 1024;

/// The key's number of long row `i`.
#[inline(always)]
pub fn long_key_id(i: u64, keys: u64) -> u64 {
    splitmix64(i) % keys
}

/// The key with that number: random characters.
pub fn long_key(id: u64) -> String {
    let mut key = String::with_capacity(LONG_KEY_BYTES);
    fill_random(splitmix64(id ^ 0x6B65_7973), LONG_KEY_BYTES, |c| key.push(char::from(c)));
    key
}

/// So many characters at random.
pub fn random_text(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    fill_random(splitmix64(seed), bytes, |c| text.push(char::from(c)));
    text
}

/// The value of long row `i`: random characters, which no compression can make small enough to hide a leak.
pub fn long_value(i: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(LONG_VALUE_BYTES);
    fill_random(splitmix64(i ^ 0x7661_6C73), LONG_VALUE_BYTES, |c| value.push(c));
    value
}

/// What one long row adds to the checksum of its job: the end of its key, times its number among the rows of that
/// key (from 1), plus the end of its value. The total is the same in any order, and wrong if a key is split, joined
/// with another, or cut short.
pub fn long_row_check(key: &[u8], value: &[u8], nth_of_key: u64) -> u64 {
    tail(key).wrapping_mul(nth_of_key).wrapping_add(tail(value))
}

/// The last eight bytes as a number.
pub fn tail(bytes: &[u8]) -> u64 {
    let mut last = [0; 8];
    let n = bytes.len().min(8);
    last[8 - n..].copy_from_slice(&bytes[bytes.len() - n..]);
    u64::from_le_bytes(last)
}

fn fill_random(seed: u64, n: usize, mut push: impl FnMut(u8)) {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    for block in 0..n.div_ceil(8) {
        let mut bits = splitmix64(seed.wrapping_add(block as u64));
        for _ in 0..(n - block * 8).min(8) {
            push(CHARACTERS[(bits & 63) as usize]);
            bits >>= 6;
        }
    }
}
