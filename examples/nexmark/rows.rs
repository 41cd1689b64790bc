//! The rows of the queries that need windows, timers or joins.

use mainstem::prelude::*;
use serde::{Deserialize, Serialize};

/// q3: an auction of category 10 by a seller of Oregon, Idaho or California.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalItem {
    /// The seller's name.
    pub name: CompactString,
    /// The seller's city.
    pub city: CompactString,
    /// The seller's state.
    pub state: CompactString,
    /// Which auction.
    pub auction: u64,
}

/// q4: the average price of the winning bids of a category. A later row of a category replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CategoryPrice {
    /// Which category.
    pub category: u64,
    /// The average, rounded down to a cent.
    pub price: u64,
}

/// q5: an auction with the most bids of a window. Auctions with equally many all have a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HotItem {
    /// When the window begins.
    pub window_start: Timestamp,
    /// Which auction.
    pub auction: u64,
    /// How many bids it has had in the window.
    pub bids: u64,
}

/// q7: a highest bid of a window. Equally high ones all have a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HighestBid {
    /// When the window begins.
    pub window_start: Timestamp,
    /// For which auction.
    pub auction: u64,
    /// Who.
    pub bidder: u64,
    /// How much, in cents.
    pub price: u64,
    /// When.
    pub date_time: Timestamp,
    /// As in the bid.
    pub extra: CompactString,
}

/// q8: somebody who registered and opened an auction, or several, in one window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NewUser {
    /// Who.
    pub id: u64,
    /// The name.
    pub name: CompactString,
    /// When the window begins.
    pub window_start: Timestamp,
}

/// q11: the bids of a bidder with no pause of more than the gap between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserSession {
    /// Who.
    pub bidder: u64,
    /// How many bids.
    pub bids: u64,
    /// When the first one was made.
    pub start: Timestamp,
    /// When the last one was made, plus the gap.
    pub end: Timestamp,
}

/// q12: the bids of a bidder between two strokes of the clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserBids {
    /// Who.
    pub bidder: u64,
    /// How many bids.
    pub bids: u64,
    /// When the window begins, by the clock.
    pub start: Timestamp,
    /// When the window ends, by the clock.
    pub end: Timestamp,
}
