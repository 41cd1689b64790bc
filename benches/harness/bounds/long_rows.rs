//! Long rows: not a bound but an oracle, which knows the number of each row's key and so needs no long keys in a table.

use crate::harness::data::{long_key, long_key_id, long_row_check, long_value};
use crate::harness::{Job, ProgramResult};

/// The result of numbering the rows of each key: one output (key, number so far, value) per row.
pub fn oracle(job: &Job) -> ProgramResult {
    let mut seen = vec![0u32; usize::try_from(job.keys)?];
    let (mut counts, mut check) = (0u64, 0u64);
    for i in 0..job.records {
        let id = long_key_id(i, job.keys);
        let nth = &mut seen[id as usize];
        *nth += 1;
        counts += u64::from(*nth);
        check = check.wrapping_add(long_row_check(long_key(id).as_bytes(), &long_value(i), u64::from(*nth)));
    }
    Ok(format!("outputs:{},running-counts:{counts},check:{check}", job.records))
}
