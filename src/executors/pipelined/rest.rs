//! Rest: when nothing goes round in a loop any more.
//!
//! Method: a loop counts what is not at rest: its subtasks while they work, the elements in the channels between them,
//! what waits to be fed back, and its inputs until they have ended. Whoever hands something on counts it before it lets go of
//! what it came from, so that zero means that all of them are at rest at once, and nothing can begin again by itself.
//! At zero the heads let the watermark's maximum into the loop; what comes of that goes round as everything else. At the
//! next zero they let the end into it.
//! Costs: two additions for each element of a channel in a loop, and two for each step of a subtask that rests.

use super::channel::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The phase is above this bit of the word, the count below it.
const PHASE_SHIFT: u32 = 48;
const COUNT: u64 = (1 << PHASE_SHIFT) - 1;

/// How far a loop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Records come in, or go round.
    Running,
    /// The heads let the watermark's maximum in.
    Closing,
    /// Nothing goes round any more: the heads let the end in.
    Over,
}

/// What is not at rest in a loop.
pub(super) struct Rest {
    /// Phase and count in one word, so that they change together.
    word: AtomicU64,
    heads: Vec<Waker>,
}

impl Rest {
    /// A loop with these heads, which are all to be told of a phase. The caller must begin something before anything ends. Without
    /// heads the loop is over.
    pub(super) fn new(heads: Vec<Waker>) -> Arc<Rest> {
        let phase = if heads.is_empty() { Phase::Over } else { Phase::Running };
        Arc::new(Rest { word: AtomicU64::new((phase as u64) << PHASE_SHIFT), heads })
    }

    pub(super) fn phase(&self) -> Phase {
        match self.word.load(Ordering::SeqCst) >> PHASE_SHIFT {
            0 => Phase::Running,
            1 => Phase::Closing,
            _ => Phase::Over,
        }
    }

    /// Something is not at rest.
    pub(super) fn begin(&self) {
        self.word.fetch_add(1, Ordering::SeqCst);
    }

    /// Something is at rest. With the last the next phase begins; in that of closing each head has something to do.
    pub(super) fn end(&self) {
        let ended = |word: u64| {
            let left = word.wrapping_sub(1);
            Some(match (left & COUNT, left >> PHASE_SHIFT) {
                (0, 0) => (Phase::Closing as u64) << PHASE_SHIFT | self.heads.len() as u64,
                (0, 1) => (Phase::Over as u64) << PHASE_SHIFT,
                _ => left,
            })
        };
        let before = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, ended);
        if before.is_ok_and(|word| word & COUNT == 1) {
            self.heads.iter().for_each(Waker::wake);
        }
    }
}

/// The loops that something belongs to: more than one where a loop is within another.
#[derive(Clone, Default)]
pub(super) struct Loops(Vec<Arc<Rest>>);

impl Loops {
    pub(super) fn add(&mut self, rest: &Arc<Rest>) {
        self.0.push(rest.clone());
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(super) fn begin(&self) {
        self.0.iter().for_each(|rest| rest.begin());
    }
    pub(super) fn end(&self) {
        self.0.iter().for_each(|rest| rest.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A10: a phase begins when nothing is left, and the next one when the heads have done their part as well.
    #[test]
    fn a_loop_closes_when_nothing_is_left_and_is_over_when_that_went_round() {
        let rest = Rest::new(vec![Waker::default(), Waker::default()]);
        rest.begin();
        rest.begin();
        rest.end();
        assert_eq!(rest.phase(), Phase::Running);
        rest.end();
        assert_eq!(rest.phase(), Phase::Closing);
        // One head lets the maximum in, from which something comes that goes round; then the other.
        rest.begin();
        rest.end();
        assert_eq!(rest.phase(), Phase::Closing, "looking whether there is something is no news");
        rest.begin();
        rest.end();
        rest.end();
        assert_eq!(rest.phase(), Phase::Closing);
        rest.end();
        assert_eq!(rest.phase(), Phase::Over);
        rest.begin();
        rest.end();
        assert_eq!(rest.phase(), Phase::Over);
    }

    /// A10: whose heads had finished before a restore is over.
    #[test]
    fn a_loop_without_heads_is_over() {
        assert_eq!(Rest::new(Vec::new()).phase(), Phase::Over);
    }
}
