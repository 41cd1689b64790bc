//! Global windows: one window for all records of a key.

use super::{TimeDomain, WindowAssigner};
use crate::base::data::Timestamp;
use crate::base::error::Result;
use crate::semantics::window::{NeverTrigger, Window};

/// One window for all records of a key. It never ends by itself and nothing is late for it: give it a trigger.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalWindows;

impl<T> WindowAssigner<T> for GlobalWindows {
    type Trigger = NeverTrigger;

    fn default_trigger(&self) -> NeverTrigger {
        NeverTrigger
    }
    #[inline]
    fn assign(&self, _: &T, _: Timestamp, into: &mut Vec<Window>) -> Result<()> {
        into.push(Window::GLOBAL);
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        None
    }
    fn describe(&self) -> String {
        "global".to_string()
    }
}
