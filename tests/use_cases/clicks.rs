//! Clicks: how many of each page in each window.

#[path = "../../examples/clicks/data.rs"]
mod data;
#[path = "../../examples/clicks/job.rs"]
mod job;

use crate::assert_same_everywhere;
use data::{BASE_TIME, CLICKS_PER_PAGE, CLICKS_PER_WINDOW, Click, HEADER, PAGES, WINDOW_MS, click, parse};
use job::PageCount;
use mainstem::prelude::*;
use std::collections::BTreeMap;

/// The number of clicks for each window, by its start, and page.
fn expected_counts(clicks: &[Click]) -> BTreeMap<(Timestamp, CompactString), u64> {
    let mut counts = BTreeMap::new();
    for click in clicks {
        let window = click.timestamp.div_euclid(WINDOW_MS) * WINDOW_MS;
        *counts.entry((window, click.page.clone())).or_default() += 1;
    }
    counts
}

/// E3, W4: the counts of pages and windows are those of a plain loop, in both modes; the last window is not full.
#[test]
fn counts_are_the_same_everywhere() {
    let clicks = 3 * CLICKS_PER_WINDOW + CLICKS_PER_WINDOW / 2;
    let expected = expected_counts(&(0..clicks).map(click).collect::<Vec<_>>());
    assert_eq!(expected.values().filter(|&&count| count == CLICKS_PER_PAGE).count(), 3 * PAGES.len());
    let expected = expected.into_iter().map(|((window_start, page), count)| PageCount {
        window_start,
        window_end: window_start + WINDOW_MS,
        page,
        count,
    });
    assert_same_everywhere(expected.collect(), PageCount::clone, |env| {
        job::counts(&env.generate(clicks, click))
    });
}

/// E3: clicks can be rows of text.
#[test]
fn rows_are_clicks() {
    assert_eq!(parse("/shop,1577836800000"), Ok(Click { page: "/shop".into(), timestamp: BASE_TIME }));
    assert_eq!(parse("/a,b, -7"), Ok(Click { page: "/a,b".into(), timestamp: -7 }));
    for (row, why) in [("/shop", "two fields"), ("/shop,soon", "milliseconds"), (HEADER, "milliseconds")] {
        let error = parse(row).unwrap_err();
        assert!(error.contains(row) && error.contains(why), "{error}");
    }
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
