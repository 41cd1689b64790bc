//! WatermarkMerge: the watermark of several inputs is their minimum, and it never goes back.
//!
//! Method: each input has a watermark and is active, idle or ended. The output follows the minimum over the
//! active inputs; when none is active it follows the maximum over the idle ones and the output is idle too. An
//! input that comes back behind the output is left out of the minimum until it has caught up. Ended inputs do
//! not count; when all have ended the watermark is at its maximum.

use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Active,
    Idle,
    Ended,
}

/// Merges the watermarks of a fixed number of inputs.
pub struct WatermarkMerge {
    inputs: Vec<(Timestamp, Status)>,
    output: Timestamp,
    idle: bool,
    held: bool,
}

/// What the merged output does after an input changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeChange {
    /// The watermark rose to this.
    pub watermark: Option<Timestamp>,
    /// The output became idle (true) or active again (false).
    pub idle: Option<bool>,
}

impl WatermarkMerge {
    /// All inputs active, nothing promised.
    pub fn new(inputs: usize) -> Self {
        WatermarkMerge {
            inputs: vec![(WATERMARK_MIN, Status::Active); inputs],
            output: WATERMARK_MIN,
            idle: false,
            held: false,
        }
    }

    /// Adds an input that is active and has promised nothing. The number may be that of one that has ended.
    pub fn add(&mut self) -> usize {
        let new = (WATERMARK_MIN, Status::Active);
        match self.inputs.iter().position(|input| input.1 == Status::Ended) {
            Some(i) => {
                self.inputs[i] = new;
                i
            }
            None => {
                self.inputs.push(new);
                self.inputs.len() - 1
            }
        }
    }

    /// While held, the output does not change: an input that will be added may promise less than those that are known.
    pub fn hold(&mut self, held: bool) -> MergeChange {
        self.held = held;
        self.update()
    }

    /// Whether the output is idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The merged watermark.
    pub fn watermark(&self) -> Timestamp {
        self.output
    }

    /// What input `i` has promised so far.
    pub fn promised(&self, i: usize) -> Timestamp {
        self.inputs[i].0
    }

    /// Input `i` promises `watermark`. A promise below an earlier one is ignored.
    pub fn watermark_of(&mut self, i: usize, watermark: Timestamp) -> MergeChange {
        let input = &mut self.inputs[i];
        input.0 = input.0.max(watermark);
        self.update()
    }

    /// Input `i` sends nothing for a while.
    pub fn idle(&mut self, i: usize) -> MergeChange {
        if self.inputs[i].1 == Status::Active {
            self.inputs[i].1 = Status::Idle;
        }
        self.update()
    }

    /// Input `i` sends again.
    pub fn active(&mut self, i: usize) -> MergeChange {
        if self.inputs[i].1 == Status::Idle {
            self.inputs[i].1 = Status::Active;
        }
        self.update()
    }

    /// Input `i` has ended.
    pub fn end(&mut self, i: usize) -> MergeChange {
        self.inputs[i].1 = Status::Ended;
        self.update()
    }

    fn update(&mut self) -> MergeChange {
        if self.held {
            return MergeChange::default();
        }
        // One that has promised the maximum sends nothing more: it counts as ended, whatever else it said. Else the
        // end of one input would end the event time of those that are idle.
        let open = self.inputs.iter().filter(|(t, _)| *t < WATERMARK_MAX);
        let with = |status| open.clone().filter(move |(_, s)| *s == status).map(|(t, _)| *t);
        let active = with(Status::Active).count();
        let idle = with(Status::Idle).count();
        // Of the active inputs, those that are behind the output after an idle time do not hold it back, for it
        // cannot go back anyway.
        let merged = if active > 0 {
            with(Status::Active).filter(|&t| t >= self.output).min()
        } else if idle > 0 {
            with(Status::Idle).max()
        } else {
            Some(WATERMARK_MAX)
        };
        let mut change = MergeChange::default();
        if let Some(merged) = merged.filter(|&t| t > self.output) {
            self.output = merged;
            change.watermark = Some(merged);
        }
        let now_idle = active == 0 && idle > 0;
        if now_idle != self.idle {
            self.idle = now_idle;
            change.idle = Some(now_idle);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark(change: MergeChange) -> Option<Timestamp> {
        change.watermark
    }

    /// W4: minimum over the inputs, never back.
    #[test]
    fn minimum_and_monotone() {
        let mut merge = WatermarkMerge::new(2);
        assert_eq!(watermark(merge.watermark_of(0, 10)), None);
        assert_eq!(watermark(merge.watermark_of(1, 5)), Some(5));
        assert_eq!(watermark(merge.watermark_of(1, 3)), None);
        assert_eq!(watermark(merge.watermark_of(1, 20)), Some(10));
        assert_eq!(merge.watermark(), 10);
    }

    /// W5: idle inputs leave the minimum; when all are idle the highest goes out, then idle; one that comes back
    /// behind the output does not count until it has caught up.
    #[test]
    fn idle_inputs() {
        let mut merge = WatermarkMerge::new(3);
        merge.watermark_of(0, 10);
        assert_eq!(merge.idle(1), MergeChange::default());
        assert_eq!(watermark(merge.idle(2)), Some(10));
        merge.watermark_of(2, 15);
        assert_eq!(merge.idle(0), MergeChange { watermark: Some(15), idle: Some(true) });
        assert_eq!(merge.active(1), MergeChange { watermark: None, idle: Some(false) });
        assert_eq!(watermark(merge.active(0)), None);
        assert_eq!(watermark(merge.watermark_of(0, 30)), Some(30), "input 1 has not caught up");
        assert_eq!(watermark(merge.watermark_of(1, 40)), None, "now it has");
        assert_eq!(watermark(merge.watermark_of(0, 50)), Some(40));
    }

    /// W5, W9: the maximum of an input that ends does not speak for those that are idle.
    #[test]
    fn the_end_of_one_input_does_not_end_idle_ones() {
        for idle_first in [false, true] {
            let mut merge = WatermarkMerge::new(2);
            merge.watermark_of(0, 10);
            merge.watermark_of(1, 20);
            merge.idle(1);
            if idle_first {
                assert_eq!(merge.idle(0), MergeChange { watermark: Some(20), idle: Some(true) });
                assert_eq!(merge.watermark_of(0, WATERMARK_MAX), MergeChange::default());
            } else {
                let change = MergeChange { watermark: Some(20), idle: Some(true) };
                assert_eq!(merge.watermark_of(0, WATERMARK_MAX), change);
            }
            assert_eq!(merge.end(0), MergeChange::default());
            assert_eq!(merge.active(1), MergeChange { watermark: None, idle: Some(false) });
            assert_eq!(watermark(merge.watermark_of(1, 30)), Some(30));
            assert_eq!(watermark(merge.watermark_of(1, WATERMARK_MAX)), Some(WATERMARK_MAX));
        }
    }

    /// W9: the end of all inputs is the maximum.
    #[test]
    fn ended_inputs() {
        let mut merge = WatermarkMerge::new(2);
        merge.watermark_of(1, 7);
        assert_eq!(watermark(merge.end(0)), Some(7));
        assert_eq!(watermark(merge.end(1)), Some(WATERMARK_MAX));
    }
}
