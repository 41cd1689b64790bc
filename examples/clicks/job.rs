//! Clicks for each page and window of 15 seconds.

use super::data::{Click, WINDOW_MS};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So much later than one that was later in time a click may come.
const DISORDER: Duration = Duration::from_millis(200);

/// How often a page was clicked in a window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageCount {
    /// The first millisecond of the window.
    pub window_start: Timestamp,
    /// The first millisecond behind it.
    pub window_end: Timestamp,
    /// The page.
    pub page: CompactString,
    /// How often.
    pub count: u64,
}

/// How long the slow operator rests, and after how many clicks.
const REST: (Duration, u64) = (Duration::from_millis(1), 64);
const MINUTE_MS: i64 = 60_000;

/// Clicks as they are, slowly in even minutes of their time: what comes before must wait, and nothing else may happen.
#[allow(dead_code, reason = "for the program, not for those who only count")]
pub fn slowed(clicks: &DataStream<Click>) -> DataStream<Click> {
    let mut slow_clicks = 0;
    let slow = move |click: Click| {
        if click.timestamp.div_euclid(MINUTE_MS) % 2 == 0 {
            slow_clicks += 1;
            if slow_clicks % REST.1 == 0 {
                std::thread::sleep(REST.0);
            }
        }
        click
    };
    clicks.map(slow).name("back-pressure").uid("back-pressure").disable_chaining()
}

/// The clicks of each page and window: one record when the window is complete.
pub fn counts(clicks: &DataStream<Click>) -> DataStream<PageCount> {
    let by_time = WatermarkStrategy::bounded_out_of_orderness(DISORDER).timestamp(|of: &Click| of.timestamp);
    clicks
        .assign_timestamps(by_time)
        .key_by(|click| click.page.clone())
        .window(Tumbling::of(Duration::from_millis(WINDOW_MS.unsigned_abs())))
        .aggregate(Count)
        .name("clicks of pages")
        .uid("clicks of pages")
        .map(|count| PageCount {
            window_start: count.window.start,
            window_end: count.window.end,
            page: count.key,
            count: count.value,
        })
        .name("page counts")
}
