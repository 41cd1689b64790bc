//! What the queries come to, by plain loops over all events at once.
//!
//! Rows are in no particular order where nothing is said. Windows begin at multiples of their slide, counted from
//! 1970, and contain their start but not their end. Where the SQL of Flink's Nexmark is not exact about ties or
//! bounds:
//!
//! - q4: a bid wins if it is the highest of those made from the start of the auction to its expiry, both included. An
//!   auction without such a bid does not count. The average is rounded down.
//! - q5, q7: all that are equally hot or high have a row. A bid belongs to the one window of q7 it lies in (the SQL
//!   also compares it with the window that ends when it is made).
//! - q8: a row for a person and window, however many auctions.
//! - q11: bids exactly as far apart as the gap share a session, as touching windows merge. Generated ones never are.
//! - q12 counts by the clock: only [`bids_per_bidder`], the sum over its windows, can be told.

use crate::generator::{Auction, Bid, Event, Person};
use crate::queries::{EuroBid, SelectedBid};
use crate::rows::{CategoryPrice, HighestBid, HotItem, LocalItem, NewUser, UserSession};
use mainstem::prelude::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

pub const WINDOW_MS: i64 = 10_000;
pub const SLIDE_MS: i64 = 2_000;
pub const SESSION_GAP_MS: i64 = 10_000;

fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(|event| if let Event::Bid(bid) = event { Some(bid) } else { None })
}

fn auctions(events: &[Event]) -> impl Iterator<Item = &Auction> {
    events
        .iter()
        .filter_map(|event| if let Event::Auction(auction) = event { Some(&**auction) } else { None })
}

fn people(events: &[Event]) -> impl Iterator<Item = &Person> {
    events.iter().filter_map(|event| if let Event::Person(person) = event { Some(&**person) } else { None })
}

fn tumbling(time: Timestamp) -> Timestamp {
    time.div_euclid(WINDOW_MS) * WINDOW_MS
}

pub fn q0(events: &[Event]) -> Vec<Bid> {
    bids(events).cloned().collect()
}

pub fn q1(events: &[Event]) -> Vec<EuroBid> {
    let in_euros = |bid: &Bid| EuroBid {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price * 908,
        date_time: bid.date_time,
        extra: bid.extra.clone(),
    };
    bids(events).map(in_euros).collect()
}

pub fn q2(events: &[Event]) -> Vec<SelectedBid> {
    let selected = bids(events).filter(|bid| bid.auction % 123 == 0);
    selected.map(|bid| SelectedBid { auction: bid.auction, price: bid.price }).collect()
}

pub fn q3(events: &[Event]) -> Vec<LocalItem> {
    let local = people(events).filter(|person| ["OR", "ID", "CA"].contains(&person.state.as_str()));
    let local: BTreeMap<u64, &Person> = local.map(|person| (person.id, person)).collect();
    let items = auctions(events).filter(|auction| auction.category == 10).filter_map(|auction| {
        let seller = local.get(&auction.seller)?;
        let (name, city, state) = (seller.name.clone(), seller.city.clone(), seller.state.clone());
        Some(LocalItem { name, city, state, auction: auction.id })
    });
    items.collect()
}

pub fn q4(events: &[Event]) -> Vec<CategoryPrice> {
    let auctions: BTreeMap<u64, &Auction> = auctions(events).map(|auction| (auction.id, auction)).collect();
    let mut winning: BTreeMap<u64, u64> = BTreeMap::new();
    for bid in bids(events) {
        let Some(auction) = auctions.get(&bid.auction) else { continue };
        if (auction.date_time..=auction.expires).contains(&bid.date_time) {
            let price = winning.entry(auction.id).or_default();
            *price = bid.price.max(*price);
        }
    }
    let mut prices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (id, price) in winning {
        prices.entry(auctions[&id].category).or_default().push(price);
    }
    let average = |prices: Vec<u64>| prices.iter().sum::<u64>() / prices.len() as u64;
    prices.into_iter().map(|(category, prices)| CategoryPrice { category, price: average(prices) }).collect()
}

pub fn q5(events: &[Event]) -> Vec<HotItem> {
    let mut windows: BTreeMap<Timestamp, BTreeMap<u64, u64>> = BTreeMap::new();
    for bid in bids(events) {
        let last = bid.date_time.div_euclid(SLIDE_MS) * SLIDE_MS;
        for start in (0..WINDOW_MS / SLIDE_MS).map(|n| last - n * SLIDE_MS) {
            *windows.entry(start).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let mut rows = Vec::new();
    for (window_start, counts) in windows {
        let most = counts.values().copied().max();
        let hot = counts.into_iter().filter(|(_, bids)| Some(*bids) == most);
        rows.extend(hot.map(|(auction, bids)| HotItem { window_start, auction, bids }));
    }
    rows
}

pub fn q7(events: &[Event]) -> Vec<HighestBid> {
    let mut highest: BTreeMap<Timestamp, u64> = BTreeMap::new();
    for bid in bids(events) {
        let price = highest.entry(tumbling(bid.date_time)).or_default();
        *price = bid.price.max(*price);
    }
    let rows = bids(events).filter(|bid| highest[&tumbling(bid.date_time)] == bid.price);
    rows.map(|bid| HighestBid {
        window_start: tumbling(bid.date_time),
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        date_time: bid.date_time,
        extra: bid.extra.clone(),
    })
    .collect()
}

pub fn q8(events: &[Event]) -> Vec<NewUser> {
    let sellers: BTreeSet<(Timestamp, u64)> =
        auctions(events).map(|auction| (tumbling(auction.date_time), auction.seller)).collect();
    let new = people(events).filter(|person| sellers.contains(&(tumbling(person.date_time), person.id)));
    new.map(|person| NewUser {
        id: person.id,
        name: person.name.clone(),
        window_start: tumbling(person.date_time),
    })
    .collect()
}

pub fn q11(events: &[Event]) -> Vec<UserSession> {
    let mut times: BTreeMap<u64, Vec<Timestamp>> = BTreeMap::new();
    for bid in bids(events) {
        times.entry(bid.bidder).or_default().push(bid.date_time);
    }
    let mut rows: Vec<UserSession> = Vec::new();
    for (bidder, mut times) in times {
        times.sort();
        for time in times {
            match rows.last_mut() {
                Some(session) if session.bidder == bidder && time <= session.end => {
                    session.bids += 1;
                    session.end = time + SESSION_GAP_MS;
                }
                _ => rows.push(UserSession { bidder, bids: 1, start: time, end: time + SESSION_GAP_MS }),
            }
        }
    }
    rows
}

/// What q12 counts for each bidder, in all its windows together.
pub fn bids_per_bidder(events: &[Event]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    bids(events).for_each(|bid| *counts.entry(bid.bidder).or_default() += 1);
    counts
}
