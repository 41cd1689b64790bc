//! CountTrigger: fires with every n-th record.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::base::data::Timestamp;
use crate::semantics::window::Window;

/// Fires when `n` records have come since the last firing. A rest that stays below `n` does not fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountTrigger {
    n: u64,
}

impl CountTrigger {
    /// Fires with every `n`-th record, `n` at least 1.
    pub fn of(n: u64) -> CountTrigger {
        CountTrigger { n }
    }
}

impl<T> Trigger<T> for CountTrigger {
    /// Records since the last firing.
    type State = u64;

    #[inline]
    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        _: &Window,
        count: &mut u64,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        *count = count.saturating_add(1);
        if *count < self.n {
            return TriggerResult::Continue;
        }
        *count = 0;
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&mut self, _: &Window, count: &mut u64, merged: u64, _: &mut TriggerContext<'_>) {
        *count = count.saturating_add(merged);
    }
    fn check(&self) -> Result<(), String> {
        match self.n {
            0 => Err("a count trigger of 0 records would fire without any; give at least 1".to_string()),
            _ => Ok(()),
        }
    }
    fn describe(&self) -> String {
        match self.n {
            1 => "with every record".to_string(),
            n => format!("every {n} records"),
        }
    }
    /// In both modes, as often as the order of the records says.
    fn fires_early(&self) -> bool {
        false
    }
    fn is_ordered(&self) -> bool {
        true
    }
}
