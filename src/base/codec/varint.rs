//! Varint: numbers in groups of seven bits, the lowest first, a bit on top of each byte that says that more follow.
//!
//! Method: up to eight groups are spread into a word, or gathered from one, with three shifts. A loop over the bytes has a
//! branch that depends on how long a number is, which in columns of sums and times no processor can guess.

/// The longest number that fits into one word.
const WORD_BITS: u32 = 56;
/// The bit of each byte of a word that says that more follow.
const MORE: u64 = 0x8080_8080_8080_8080;
/// Most bytes of a number of 64 bits.
const BYTES_MAX: u32 = 10;

/// Appends a number.
#[inline(always)]
pub(super) fn put(number: u64, into: &mut Vec<u8>) {
    if number >> WORD_BITS != 0 {
        return put_long(number, into);
    }
    let groups = spread(number);
    let bytes = (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize;
    let more = MORE & !(u64::MAX << (8 * (bytes - 1)));
    let end = into.len() + bytes;
    into.extend_from_slice(&(groups | more).to_le_bytes());
    into.truncate(end);
}

#[cold]
fn put_long(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Takes a number of at most `bits` bits from the front of `bytes`; none if there is no such number.
#[inline(always)]
pub(super) fn take(bytes: &mut &[u8], bits: u32) -> Option<u64> {
    let Some(word) = bytes.first_chunk::<8>() else { return take_near_end(bytes, bits) };
    take_word(u64::from_le_bytes(*word), bytes, bits)
}

/// From the end of what there is.
#[inline(never)]
fn take_near_end(bytes: &mut &[u8], bits: u32) -> Option<u64> {
    take_word(last_word(bytes), bytes, bits)
}

/// Takes a number whose first bytes are `word`.
#[inline(always)]
fn take_word(word: u64, bytes: &mut &[u8], bits: u32) -> Option<u64> {
    let ends = !word & MORE;
    if ends == 0 {
        return take_slowly(bytes, bits);
    }
    // All bits up to the end of the byte that ends the number.
    let number = gather(word & (ends ^ (ends - 1)));
    *bytes = bytes.get((ends.trailing_zeros() as usize + 1) / 8..)?;
    (bits >= WORD_BITS || number >> bits == 0).then_some(number)
}

/// Fewer than eight bytes, and zeros.
#[inline(always)]
fn last_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // They overlap, with equal bits.
        let shift = 8 * (bytes.len() - 4);
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift;
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cold]
fn take_slowly(bytes: &mut &[u8], bits: u32) -> Option<u64> {
    let mut number = 0u64;
    for i in 0..BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        let shift = 7 * i;
        if group > u64::MAX >> shift {
            return None;
        }
        number |= group << shift;
        if byte < 0x80 {
            return (bits >= u64::BITS || number >> bits == 0).then_some(number);
        }
    }
    None
}

/// Bits 0 to 6 to byte 0, bits 7 to 13 to byte 1, and so on.
#[inline(always)]
fn spread(number: u64) -> u64 {
    let x = (number & 0x00ff_ffff_f000_0000) << 4 | number & 0x0fff_ffff;
    let x = (x & 0x0fff_c000_0fff_c000) << 2 | x & 0x0000_3fff_0000_3fff;
    (x & 0x3f80_3f80_3f80_3f80) << 1 | x & 0x007f_007f_007f_007f
}

/// The reverse of [`spread`], whatever the bits on top.
#[inline(always)]
fn gather(groups: u64) -> u64 {
    let x = (groups & 0x7f00_7f00_7f00_7f00) >> 1 | groups & 0x007f_007f_007f_007f;
    let x = (x & 0x3fff_0000_3fff_0000) >> 2 | x & 0x0000_3fff_0000_3fff;
    (x & 0x0fff_ffff_0000_0000) >> 4 | x & 0x0fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowly(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_long(number, &mut bytes);
        bytes
    }

    #[test]
    fn numbers_of_every_length_come_back_whatever_follows() {
        for shift in 0..64 {
            for number in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift, 0x5a5a_5a5a_5a5a_5a5a >> shift]
            {
                let mut bytes = vec![7];
                put(number, &mut bytes);
                assert_eq!(bytes[1..], slowly(number), "{number}");
                for behind in [&[][..], &[0xff; 12], &[0; 12]] {
                    let bytes = [&bytes[1..], behind].concat();
                    let mut rest = &bytes[..];
                    assert_eq!(take(&mut rest, 64), Some(number));
                    assert_eq!(rest, behind);
                    for bits in [16, 32] {
                        let fits = (number >> bits == 0).then_some(number);
                        assert_eq!(take(&mut &bytes[..], bits), fits, "{number} in {bits} bits");
                    }
                }
                for short in 0..bytes.len() - 1 {
                    assert_eq!(take(&mut &bytes[1..1 + short], 64), None);
                }
            }
        }
    }

    #[test]
    fn numbers_that_do_not_end_or_do_not_fit_are_none() {
        assert_eq!(take(&mut &[0xff; 20][..], 64), None);
        assert_eq!(take(&mut &[0x80; 10][..], 64), None);
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(take(&mut &bytes[..], 64), Some(u64::MAX));
        bytes[9] = 2;
        assert_eq!(take(&mut &bytes[..], 64), None);
    }
}
