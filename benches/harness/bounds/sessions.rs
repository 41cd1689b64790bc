//! Oracle of sessions: events sorted by key and time, cut where they lie further apart than the gap.

use crate::harness::data::event;
use crate::harness::{Job, ProgramResult};

/// The gap.
pub const GAP_MS: i64 = 500;

/// Sessions, the records in them and the length of all.
pub fn totals(job: &Job) -> ProgramResult {
    let mut events: Vec<(u32, i64)> = (0..job.records)
        .map(|i| {
            let (key, at_ms, _) = event(i, job.keys);
            (key as u32, at_ms)
        })
        .collect();
    events.sort_unstable();
    let (mut sessions, mut length) = (0u64, 0i64);
    for same_key in events.chunk_by(|a, b| a.0 == b.0) {
        for session in same_key.chunk_by(|a, b| b.1 - a.1 <= GAP_MS) {
            sessions += 1;
            length += session[session.len() - 1].1 + GAP_MS - session[0].1;
        }
    }
    Ok(format!("results:{sessions},counts:{},length:{length}", job.records))
}
