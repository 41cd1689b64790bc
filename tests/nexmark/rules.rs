//! The rules of the queries about ties and bounds, on a few events each.

use crate::generator::{Auction, Bid, Event, Person};
use crate::reference;
use crate::rows::{CategoryPrice, HighestBid, HotItem, LocalItem, NewUser, UserSession};
use mainstem::prelude::*;

fn bid(auction: u64, bidder: u64, price: u64, date_time: Timestamp) -> Event {
    let nothing = CompactString::default();
    let (channel, url, extra) = (nothing.clone(), nothing.clone(), nothing);
    Event::Bid(Bid { auction, bidder, price, channel, url, date_time, extra })
}

fn auction(id: u64, seller: u64, category: u64, date_time: Timestamp, expires: Timestamp) -> Event {
    let nothing = CompactString::default();
    let (item_name, description, extra) = (nothing.clone(), nothing.clone(), nothing);
    Event::Auction(Box::new(Auction {
        id,
        item_name,
        description,
        initial_bid: 1,
        reserve: 2,
        date_time,
        expires,
        seller,
        category,
        extra,
    }))
}

fn person(id: u64, state: &str, date_time: Timestamp) -> Event {
    let nothing = CompactString::default();
    Event::Person(Box::new(Person {
        id,
        name: CompactString::from("Kate Jones"),
        email: nothing.clone(),
        credit_card: nothing.clone(),
        city: CompactString::from("Bend"),
        state: CompactString::from(state),
        date_time,
        extra: nothing,
    }))
}

/// q3: by seller, state and category; whichever comes first.
#[test]
fn q3_joins_sellers_with_auctions() {
    let events = [
        auction(100, 1, 10, 0, 9),
        person(1, "OR", 5),
        auction(101, 1, 11, 6, 9), // another category
        auction(102, 1, 10, 7, 9),
        person(2, "WA", 8), // another state
        auction(103, 2, 10, 9, 9),
        auction(104, 3, 10, 9, 9), // by nobody
    ];
    let item = |auction| LocalItem {
        name: CompactString::from("Kate Jones"),
        city: CompactString::from("Bend"),
        state: CompactString::from("OR"),
        auction,
    };
    assert_eq!(reference::q3(&events), [item(100), item(102)]);
}

/// q4: bids from the start to the expiry count, both included; averages are rounded down.
#[test]
fn q4_averages_winning_bids() {
    let events = [
        bid(100, 1, 50, 10), // at the start, and before its auction is known
        auction(100, 9, 10, 10, 20),
        bid(100, 1, 99, 9), // too early
        bid(100, 1, 60, 20),
        bid(100, 1, 99, 21), // too late
        auction(101, 9, 10, 10, 20),
        bid(101, 1, 7, 15),
        auction(102, 9, 10, 10, 20), // without a bid
        auction(103, 9, 11, 10, 20), // the only one of its category, without a bid
        bid(104, 1, 5, 15),          // without an auction
    ];
    assert_eq!(reference::q4(&events), [CategoryPrice { category: 10, price: 33 }]);
}

/// q5: a bid is in five windows, also in those that began before the first one; all ties have a row.
#[test]
fn q5_counts_in_sliding_windows() {
    let hot = |window_start, auction, bids| HotItem { window_start, auction, bids };
    let events = [bid(1, 1, 1, 0), bid(2, 1, 1, 1_999), bid(2, 1, 1, 2_000)];
    let rows = [
        hot(-8_000, 1, 1),
        hot(-8_000, 2, 1),
        hot(-6_000, 2, 2),
        hot(-4_000, 2, 2),
        hot(-2_000, 2, 2),
        hot(0, 2, 2),
        hot(2_000, 2, 1),
    ];
    assert_eq!(reference::q5(&events), rows);
}

/// q7: all bids of the highest price of their own window.
#[test]
fn q7_finds_highest_bids() {
    let events = [bid(1, 1, 50, 9_999), bid(2, 1, 50, 0), bid(3, 1, 49, 5), bid(4, 1, 20, 10_000)];
    let highest = |window_start, auction, price, date_time| HighestBid {
        window_start,
        auction,
        bidder: 1,
        price,
        date_time,
        extra: CompactString::default(),
    };
    let rows = [highest(0, 1, 50, 9_999), highest(0, 2, 50, 0), highest(10_000, 4, 20, 10_000)];
    assert_eq!(reference::q7(&events), rows);
}

/// q8: registered and offering in the same window, in any order; one row for several auctions.
#[test]
fn q8_finds_new_users_who_sell() {
    let events = [
        person(1, "OR", 9_999),
        auction(100, 1, 10, 0, 9),
        auction(101, 1, 10, 1, 9),
        person(2, "OR", 9_999),
        auction(102, 2, 10, 10_000, 10_001), // in the next window
    ];
    let row = NewUser { id: 1, name: CompactString::from("Kate Jones"), window_start: 0 };
    assert_eq!(reference::q8(&events), [row]);
}

/// q11: a pause of the gap joins, a longer one separates; order of arrival does not matter.
#[test]
fn q11_divides_bids_into_sessions() {
    let events = [bid(1, 7, 1, 20_001), bid(1, 7, 1, 0), bid(1, 8, 1, 5), bid(1, 7, 1, 10_000)];
    let session = |bidder, bids, start, end| UserSession { bidder, bids, start, end };
    let rows = [session(7, 2, 0, 20_000), session(7, 1, 20_001, 30_001), session(8, 1, 5, 10_005)];
    assert_eq!(reference::q11(&events), rows);
}
