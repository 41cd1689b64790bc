//! Clicks on the pages of a shop: exactly 1,000 for each page in each window of 15 seconds.
//!
//! Click `i` is a function of `i` alone. Every 15 ms each page is clicked once, in an order that changes. Timestamps
//! never fall with `i`. A multiple of [`CLICKS_PER_WINDOW`] clicks fills all windows; the last window of another
//! number is not full.

use crate::random::Random;
use mainstem::Timestamp;

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
    /// Where: an index of [`PAGES`].
    pub page: u8,
    /// When.
    pub timestamp: Timestamp,
}

impl Click {
    /// Where, by name.
    pub fn page_name(&self) -> &'static str {
        PAGES.get(self.page as usize).copied().unwrap_or("/unknown")
    }
}

/// Click number `i`.
pub fn click(i: u64) -> Click {
    let pages = PAGES.len() as u64;
    let (step, turn) = (i / pages, i % pages);
    let first = Random::new(step).below(pages);
    let steps = i64::try_from(step).unwrap_or(i64::MAX);
    Click {
        page: ((first + turn) % pages) as u8,
        timestamp: BASE_TIME.saturating_add(steps.saturating_mul(STEP_MS)),
    }
}
