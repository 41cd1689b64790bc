//! q5, q7, q11 and q12: bids, counted and compared in windows.

use crate::generator::{Bid, Event};
use crate::rows::{HighestBid, HotItem, UserBids, UserSession};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long windows are.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
const WINDOW_MS: i64 = 10_000;
/// How far apart those of q5 begin.
const SLIDE: Duration = Duration::from_secs(2);
/// A pause longer than this ends a session.
const SESSION_GAP: Duration = Duration::from_secs(10);

/// One number of each bid.
fn of_bids(events: &DataStream<Event>, number: fn(&Bid) -> u64) -> DataStream<u64> {
    events.flat_map(move |event, out| {
        if let Event::Bid(bid) = event {
            out.emit(number(&bid));
        }
    })
}

/// Hot items: the auctions with the most bids of the last ten seconds, every two seconds.
///
/// Counts of one window all carry its last timestamp, which lies in the two seconds at its end: these are the windows in
/// which they are compared. By the end of the window as key, so that windows are spread over the subtasks.
pub fn q5(events: &DataStream<Event>) -> DataStream<HotItem> {
    let counts = of_bids(events, |bid| bid.auction)
        .name("auctions bid for")
        .key_by(|auction| *auction)
        .window(Sliding::of(WINDOW, SLIDE))
        .aggregate(Count)
        .name("bids per auction");
    let hottest = counts
        .key_by(|count| count.window.end)
        .window(Tumbling::of(SLIDE))
        .aggregate(Hottest)
        .name("most bids");
    let items = hottest.flat_map(|hottest, out| {
        let window_start = hottest.key.saturating_sub(WINDOW_MS);
        let (bids, auctions) = hottest.value;
        out.extend(auctions.into_iter().map(|auction| HotItem { window_start, auction, bids }));
    });
    items.name("hot items")
}

/// The highest count, and the auctions that have it.
#[derive(Clone)]
struct Hottest;

impl Aggregator<Windowed<u64, u64>> for Hottest {
    type Acc = (u64, Vec<u64>);
    type Out = (u64, Vec<u64>);

    fn create(&self) -> (u64, Vec<u64>) {
        (0, Vec::new())
    }
    #[inline]
    fn add(&self, acc: &mut (u64, Vec<u64>), count: Windowed<u64, u64>) {
        if count.value > acc.0 {
            acc.0 = count.value;
            acc.1.clear();
        }
        if count.value == acc.0 {
            acc.1.push(count.key);
        }
    }
    fn merge(&self, acc: &mut (u64, Vec<u64>), other: (u64, Vec<u64>)) {
        if other.0 > acc.0 {
            *acc = other;
        } else if other.0 == acc.0 {
            acc.1.extend(other.1);
        }
    }
    fn result(&self, acc: &(u64, Vec<u64>)) -> (u64, Vec<u64>) {
        acc.clone()
    }
}

/// Highest bid of every ten seconds.
///
/// One subtask compares all that may be highest. Few may: each of the subtasks before it passes on only bids that are not
/// below one it has passed on already.
pub fn q7(events: &DataStream<Event>) -> DataStream<HighestBid> {
    let mut contenders = Contenders::default();
    let bids = events.flat_map(move |event, out| match event {
        Event::Bid(bid) if contenders.admit(&bid) => out.emit(bid),
        _ => {}
    });
    let highest =
        bids.name("contenders").window_all(Tumbling::of(WINDOW)).aggregate(Highest).name("highest bids");
    let rows = highest.flat_map(|highest, out| {
        let row = |Bid { auction, bidder, price, date_time, extra, .. }| HighestBid {
            window_start: highest.window.start,
            auction,
            bidder,
            price,
            date_time,
            extra,
        };
        out.extend(highest.value.into_iter().map(row));
    });
    rows.name("rows")
}

/// The highest prices of the windows that are current, by their start: whoever forgets one admits a bid too many, and
/// no harm is done.
#[derive(Clone, Default)]
struct Contenders {
    highest: BTreeMap<Timestamp, u64>,
}

impl Contenders {
    /// Bids are less than a window out of order.
    const CURRENT: usize = 2;

    /// Whether the bid may be the highest of its window.
    #[inline]
    fn admit(&mut self, bid: &Bid) -> bool {
        let highest = self.highest.entry(bid.date_time.div_euclid(WINDOW_MS)).or_default();
        if bid.price < *highest {
            return false;
        }
        *highest = bid.price;
        if self.highest.len() > Self::CURRENT {
            self.highest.pop_first();
        }
        true
    }
}

/// All bids of the highest price.
#[derive(Clone)]
struct Highest;

impl Aggregator<Bid> for Highest {
    type Acc = Vec<Bid>;
    type Out = Vec<Bid>;

    fn create(&self) -> Vec<Bid> {
        Vec::new()
    }
    fn add(&self, acc: &mut Vec<Bid>, bid: Bid) {
        self.merge(acc, vec![bid]);
    }
    fn merge(&self, acc: &mut Vec<Bid>, other: Vec<Bid>) {
        let price = |bids: &Vec<Bid>| bids.first().map(|bid| bid.price);
        if price(&other) > price(acc) {
            *acc = other;
        } else if price(&other) == price(acc) {
            acc.extend(other);
        }
    }
    fn result(&self, acc: &Vec<Bid>) -> Vec<Bid> {
        acc.clone()
    }
}

/// User sessions: how many bids a bidder makes without a pause of more than ten seconds.
pub fn q11(events: &DataStream<Event>) -> DataStream<UserSession> {
    let sessions = of_bids(events, |bid| bid.bidder)
        .name("bidders")
        .key_by(|bidder| *bidder)
        .window(Sessions::with_gap(SESSION_GAP))
        .aggregate(Count)
        .name("sessions");
    let rows = sessions.map(|Windowed { key, window, value }| UserSession {
        bidder: key,
        bids: value,
        start: window.start,
        end: window.end,
    });
    rows.name("rows")
}

/// Processing-time windows: how many bids of a bidder are processed in each ten seconds of the clock.
pub fn q12(events: &DataStream<Event>) -> DataStream<UserBids> {
    let counts = of_bids(events, |bid| bid.bidder)
        .name("bidders")
        .key_by(|bidder| *bidder)
        .window(Tumbling::of(WINDOW).processing_time())
        .aggregate(Count)
        .name("bids by the clock");
    let rows = counts.map(|Windowed { key, window, value }| UserBids {
        bidder: key,
        bids: value,
        start: window.start,
        end: window.end,
    });
    rows.name("rows")
}
