//! The queries, each a function from the events to the rows of its result.
//!
//! Rows are as in the SQL of Flink's Nexmark, with integers in place of decimals.

use crate::checksum::{ChecksumSink, Total};
use crate::generator::{Bid, Event};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};

/// The thousandths of a euro in a dollar.
pub const EURO_PER_MILLE: u64 = 908;
/// The auctions that q2 selects are the multiples of this.
pub const SELECTED_MULTIPLE: u64 = 123;

/// A query by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Query {
    /// The bids as they are: what it costs to do nothing.
    Q0,
    /// The bids in euros.
    Q1,
    /// The bids for certain auctions.
    Q2,
}

impl Query {
    /// Adds the query to the program and ends it in a checksum of its rows.
    pub fn checksum(self, events: &DataStream<Event>) -> Total {
        match self {
            Query::Q0 => all(&q0(events)),
            Query::Q1 => all(&q1(events)),
            Query::Q2 => all(&q2(events)),
        }
    }
}

/// Every row counts.
fn all<T: Data>(rows: &DataStream<T>) -> Total {
    let (sink, total) = ChecksumSink::all();
    rows.sink_to(sink).name("checksum");
    total
}

/// q1: a bid in euros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EuroBid {
    /// For which auction.
    pub auction: u64,
    /// Who.
    pub bidder: u64,
    /// How much, in thousandths of a euro cent: exactly.
    pub price: u64,
    /// When.
    pub date_time: Timestamp,
    /// As in the bid.
    pub extra: CompactString,
}

impl From<Bid> for EuroBid {
    fn from(bid: Bid) -> Self {
        let Bid { auction, bidder, price, date_time, extra, .. } = bid;
        EuroBid { auction, bidder, price: price.saturating_mul(EURO_PER_MILLE), date_time, extra }
    }
}

/// q2: a bid for a selected auction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectedBid {
    /// For which auction.
    pub auction: u64,
    /// How much, in cents.
    pub price: u64,
}

/// The bids among the events.
fn bids(events: &DataStream<Event>) -> DataStream<Bid> {
    let bids = events.flat_map(|event, out| {
        if let Event::Bid(bid) = event {
            out.emit(bid);
        }
    });
    bids.name("bids")
}

/// Pass-through: all bids.
pub fn q0(events: &DataStream<Event>) -> DataStream<Bid> {
    bids(events)
}

/// Currency conversion: all bids, in euros.
pub fn q1(events: &DataStream<Event>) -> DataStream<EuroBid> {
    bids(events).map(EuroBid::from).name("in euros")
}

/// Selection: the bids for the auctions whose id is a multiple of 123.
pub fn q2(events: &DataStream<Event>) -> DataStream<SelectedBid> {
    let selected = events.flat_map(|event, out| match event {
        Event::Bid(Bid { auction, price, .. }) if auction % SELECTED_MULTIPLE == 0 => {
            out.emit(SelectedBid { auction, price });
        }
        _ => {}
    });
    selected.name("selected bids")
}
