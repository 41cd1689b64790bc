//! The generated events are what their documentation says.

use crate::generator::{BASE_TIME, Config, DISORDER_MS, Event, FIRST_CATEGORY, FIRST_ID, Generator, TICK_MS};
use crate::{EVENTS, events};
use mainstem::base::codec::check_record;
use std::collections::{BTreeMap, BTreeSet};

/// The events are a function of their number, each comes back from its encoding, and they come 1 : 3 : 46.
#[test]
fn events_are_a_function_of_their_number() {
    let events = events();
    let again = Generator::new(Config { events_per_second: 1_000, ..Config::default() });
    for i in [0, 1, 4, 49, 50, 77_777, EVENTS - 1] {
        assert_eq!(again.event(i), events[i as usize], "event {i}");
    }
    events.iter().take(200).for_each(|event| check_record(event).unwrap());
    for (round, events) in events.chunks(50).enumerate() {
        let is_kind = |(i, event): (usize, &Event)| match event {
            Event::Person(_) => i == 0,
            Event::Auction(_) => (1..4).contains(&i),
            Event::Bid(_) => i >= 4,
        };
        assert!(events.iter().enumerate().all(is_kind), "round {round}");
    }
}

/// No event is more than the documented bound behind those before it, in any series of indices, and the bound is used.
#[test]
fn events_are_out_of_order_within_the_bound() {
    let events = events();
    for stride in [1, 2, 7] {
        let mut latest = i64::MIN;
        let mut behind_max = 0;
        for event in events.iter().step_by(stride) {
            latest = latest.max(event.timestamp());
            behind_max = behind_max.max(latest - event.timestamp());
        }
        assert!((DISORDER_MS * 9 / 10..=DISORDER_MS).contains(&behind_max), "stride {stride}: {behind_max}");
    }
    let last = events.iter().map(Event::timestamp).max().unwrap();
    let due = BASE_TIME + EVENTS as i64; // one in a millisecond
    assert!((due - 10..due).contains(&last), "{last}");
}

/// No two events are exactly a session's gap apart: whether they touch would depend on when a watermark comes.
#[test]
fn events_keep_to_the_ticks_of_the_clock() {
    assert!(events().iter().all(|event| (event.timestamp() - BASE_TIME) % TICK_MS == 0));
    assert_ne!(crate::reference::SESSION_GAP_MS % TICK_MS, 0);
}

/// Ids are dense, prices and categories in range, half of the bids are for hot auctions, and names are real.
#[test]
fn fields_are_in_range() {
    let events = events();
    let (mut people, mut auctions, mut bids, mut hot, mut cheap) = (0, 0, 0u64, 0u64, 0u64);
    let mut categories = BTreeSet::new();
    for event in &events {
        match event {
            Event::Person(person) => {
                assert_eq!(person.id, FIRST_ID + people);
                people += 1;
                let bytes = 16 + person.name.len() + person.email.len() + person.credit_card.len();
                let bytes = bytes + person.city.len() + person.state.len() + person.extra.len();
                assert!((150..=250).contains(&bytes), "{person:?}");
                assert_eq!(person.credit_card.len(), 19);
            }
            Event::Auction(auction) => {
                assert_eq!(auction.id, FIRST_ID + auctions);
                auctions += 1;
                categories.insert(auction.category);
                assert!(auction.reserve > auction.initial_bid && auction.expires > auction.date_time);
                assert!((FIRST_ID..FIRST_ID + people + 10).contains(&auction.seller));
            }
            Event::Bid(bid) => {
                bids += 1;
                assert!((100..100 << 20).contains(&bid.price));
                assert!(
                    (FIRST_ID..FIRST_ID + people + 10).contains(&bid.bidder) || bid.bidder == FIRST_ID + 1
                );
                assert!((FIRST_ID..FIRST_ID + auctions + 10).contains(&bid.auction));
                hot += u64::from((bid.auction - FIRST_ID).is_multiple_of(100));
                cheap += u64::from(bid.price < 100 << 10);
                assert!(bid.url.starts_with("https://www.nexmark.com/") && !bid.channel.is_empty());
                assert_eq!(bid.channel.starts_with("channel-"), bid.url.contains("&channel_id="), "{bid:?}");
            }
        }
    }
    assert_eq!(categories, (FIRST_CATEGORY..FIRST_CATEGORY + 5).collect());
    assert!((bids / 2..bids * 52 / 100).contains(&hot), "{hot} of {bids} bids for hot auctions");
    assert!((bids * 48 / 100..bids * 52 / 100).contains(&cheap), "{cheap} of {bids} prices below the middle");
}

/// The sizes that are asked for are met on average, and none is longer than its fields where nothing is asked for.
#[test]
fn extra_fills_up_to_the_size_asked_for() {
    let bid_extra = |bid_bytes: usize| {
        let generator = Generator::new(Config { bid_bytes, ..Config::default() });
        let sizes = (0..10_000).filter_map(|i| match generator.event(i) {
            Event::Bid(bid) => {
                Some((32 + bid.channel.len() + bid.url.len() + bid.extra.len(), bid.extra.len()))
            }
            _ => None,
        });
        let sizes: Vec<(usize, usize)> = sizes.collect();
        let mean = |sum: usize| sum / sizes.len();
        (mean(sizes.iter().map(|size| size.0).sum()), mean(sizes.iter().map(|size| size.1).sum()))
    };
    assert_eq!(bid_extra(0).1, 0);
    assert!((490..=510).contains(&bid_extra(500).0), "{:?}", bid_extra(500));
}

/// The last numbers there are do not overflow, nor does the slowest clock or none.
#[test]
fn every_number_has_an_event() {
    for events_per_second in [0, 1, 3, u64::MAX] {
        let generator = Generator::new(Config { events_per_second, ..Config::default() });
        for i in (0..60).chain(u64::MAX - 60..=u64::MAX) {
            assert!(generator.event(i).timestamp() >= BASE_TIME - DISORDER_MS);
        }
    }
}

/// Bidders come back after a pause, so that sessions have something to tell.
#[test]
fn many_bidders_have_several_sessions() {
    let mut sessions: BTreeMap<u64, usize> = BTreeMap::new();
    for session in crate::reference::q11(&events()) {
        *sessions.entry(session.bidder).or_default() += 1;
    }
    let several = sessions.values().filter(|n| **n > 1).count();
    assert!(several * 4 > sessions.len(), "{several} of {}", sessions.len());
}
