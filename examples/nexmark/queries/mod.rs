//! The queries, each a function from the events to the rows of its result.
//!
//! Rows are as in the SQL of Flink's Nexmark, with integers in place of decimals. Each query takes out of the events
//! what it needs before anything is shuffled.

use crate::checksum::{ChecksumSink, Total};
use crate::generator::{Bid, DISORDER_MS, Event};
use crate::rows::CategoryPrice;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

mod joins;
mod windows;

pub use joins::{q3, q4, q8};
pub use windows::{q5, q7, q11, q12};

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
    /// Auctions by sellers of some states.
    Q3,
    /// The average winning bid of each category.
    Q4,
    /// The auctions with the most bids.
    Q5,
    /// The highest bids.
    Q7,
    /// New people who sell.
    Q8,
    /// The bids of people, by session.
    Q11,
    /// The bids of people, by the clock.
    Q12,
}

impl Query {
    /// Adds the query to the program and ends it in a checksum of its rows.
    pub fn checksum(self, events: &DataStream<Event>) -> Total {
        match self {
            Query::Q0 => all(&q0(events)),
            Query::Q1 => all(&q1(events)),
            Query::Q2 => all(&q2(events)),
            Query::Q3 => all(&q3(events)),
            Query::Q4 => {
                let (sink, total) = ChecksumSink::last_per_key(|row: &CategoryPrice| row.category);
                q4(&timed(events)).sink_to(sink).name("checksum");
                total
            }
            Query::Q5 => all(&q5(&timed(events))),
            Query::Q7 => all(&q7(&timed(events))),
            Query::Q8 => all(&q8(&timed(events))),
            Query::Q11 => all(&q11(&timed(events))),
            Query::Q12 => all(&q12(events)),
        }
    }

    /// Why two runs do not have the same checksum, if they do not.
    pub fn varies(self) -> Option<&'static str> {
        (self == Query::Q12).then_some(
            "q12 counts by the clock of the machine: which bids share a window depends on how fast they are processed",
        )
    }
}

/// The events with watermarks, which no event is behind.
fn timed(events: &DataStream<Event>) -> DataStream<Event> {
    let disorder = Duration::from_millis(DISORDER_MS.unsigned_abs());
    events.assign_timestamps(WatermarkStrategy::bounded_out_of_orderness(disorder))
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
