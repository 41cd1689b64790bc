//! Clicks on the pages of a shop: exactly 1,000 for each page in each window of 15 seconds.
//!
//! Click `i` is a function of `i` alone. Every 15 ms each page is clicked once, in an order that changes. Timestamps
//! never fall with `i`. A multiple of [`CLICKS_PER_WINDOW`] clicks fills all windows; the last window of another
//! number is not full.

use crate::random::Random;
use mainstem::prelude::{CompactString, Timestamp};
use serde::{Deserialize, Serialize};

/// When the first window begins: 2020-01-01, midnight UTC, in milliseconds.
pub const BASE_TIME: Timestamp = 1_577_836_800_000;
/// The length of a window, in milliseconds.
pub const WINDOW_MS: i64 = 15_000;
/// Clicks of a page in a window.
pub const CLICKS_PER_PAGE: u64 = 1_000;
/// The pages.
pub const PAGES: [&str; 6] = ["/help", "/index", "/shop", "/jobs", "/about", "/news"];
/// Clicks of all pages in a window.
pub const CLICKS_PER_WINDOW: u64 = CLICKS_PER_PAGE * PAGES.len() as u64;

const STEP_MS: i64 = WINDOW_MS / CLICKS_PER_PAGE as i64;

/// One click.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Click {
    /// Where.
    pub page: CompactString,
    /// When.
    pub timestamp: Timestamp,
}

/// The names of the fields of a row.
pub const HEADER: &str = "page,timestamp";

/// The click of a row `page,timestamp`, the last in milliseconds since 1970: `/shop,1577836800000`.
///
/// # Errors
/// What is wrong with the row.
pub fn parse(row: &str) -> Result<Click, String> {
    let (page, timestamp) = row
        .rsplit_once(',')
        .ok_or_else(|| format!("'{row}' is not a click: it has not two fields; a row is {HEADER}"))?;
    let timestamp = timestamp.trim().parse().map_err(|_| {
        format!("'{row}' is not a click: the timestamp is not a number of milliseconds; a row is {HEADER}")
    })?;
    Ok(Click { page: page.trim().into(), timestamp })
}

/// Click number `i`.
pub fn click(i: u64) -> Click {
    let pages = PAGES.len() as u64;
    let (step, turn) = (i / pages, i % pages);
    let first = Random::new(step).below(pages);
    let steps = i64::try_from(step).unwrap_or(i64::MAX);
    Click {
        page: CompactString::const_new(PAGES[((first + turn) % pages) as usize]),
        timestamp: BASE_TIME.saturating_add(steps.saturating_mul(STEP_MS)),
    }
}
