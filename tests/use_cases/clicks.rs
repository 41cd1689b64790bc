//! Clicks: how many of each page in each window.

#[path = "../../examples/clicks/generator.rs"]
mod generator;

use generator::{BASE_TIME, CLICKS_PER_PAGE, CLICKS_PER_WINDOW, Click, PAGES, WINDOW_MS, click};
use mainstem::Timestamp;
use std::collections::BTreeMap;

/// The number of clicks for each window, by its start, and page.
pub fn expected_counts(clicks: &[Click]) -> BTreeMap<(Timestamp, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for click in clicks {
        let window = click.timestamp.div_euclid(WINDOW_MS) * WINDOW_MS;
        *counts.entry((window, click.page_name())).or_default() += 1;
    }
    counts
}

/// E3: exactly 1,000 clicks of each of six pages in each window, in order of time.
#[test]
fn every_page_has_a_thousand_clicks_in_every_window() {
    let windows = 7;
    let clicks: Vec<Click> = (0..windows as u64 * CLICKS_PER_WINDOW).map(click).collect();
    let counts = expected_counts(&clicks);
    assert_eq!(counts.len(), windows * PAGES.len());
    for ((window, page), count) in &counts {
        assert_eq!(*count, CLICKS_PER_PAGE, "{page} at {window}");
        assert!((BASE_TIME..BASE_TIME + windows as i64 * WINDOW_MS).contains(window));
    }
    assert!(clicks.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
}

/// The last numbers there are do not overflow.
#[test]
fn every_number_has_a_click() {
    assert!(click(u64::MAX).timestamp > click(0).timestamp);
}
