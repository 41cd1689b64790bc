//! DeltaTrigger: fires when records have moved far enough.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::base::data::{Data, Timestamp};
use crate::semantics::window::Window;

/// Fires with a record whose difference from the record of the last firing is larger than a threshold. The first
/// record of a window does not fire: it is what others are compared with.
#[derive(Clone, Debug)]
pub struct DeltaTrigger<F> {
    threshold: f64,
    delta: F,
}

impl<F> DeltaTrigger<F> {
    /// Fires when `delta(record of the last firing, record)` is above `threshold`.
    pub fn of<T>(threshold: f64, delta: F) -> DeltaTrigger<F>
    where
        F: Fn(&T, &T) -> f64 + Clone + Send + Sync + 'static,
    {
        DeltaTrigger { threshold, delta }
    }
}

impl<T, F> Trigger<T> for DeltaTrigger<F>
where
    T: Data,
    F: Fn(&T, &T) -> f64 + Clone + Send + Sync + 'static,
{
    /// The record of the last firing, at first the first record.
    type State = Option<T>;

    fn on_element(
        &mut self,
        record: &T,
        _: Timestamp,
        _: &Window,
        last: &mut Option<T>,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let result = match last {
            Some(last) if (self.delta)(last, record) > self.threshold => TriggerResult::Fire,
            Some(_) => return TriggerResult::Continue,
            None => TriggerResult::Continue,
        };
        *last = Some(record.clone());
        result
    }
    /// Two records to compare with cannot become one.
    fn can_merge(&self) -> bool {
        false
    }
    fn check(&self) -> Result<(), String> {
        match self.threshold.is_nan() {
            true => Err("the threshold of a delta trigger is not a number".to_string()),
            false => Ok(()),
        }
    }
    fn describe(&self) -> String {
        format!("at a delta above {}", self.threshold)
    }
    /// In both modes, as often as the order of the records says.
    fn fires_early(&self) -> bool {
        false
    }
    fn is_ordered(&self) -> bool {
        true
    }
}
