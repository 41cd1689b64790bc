//! The events of an online auction house, after the generator of Apache Beam's and Apache Flink's Nexmark.
//!
//! Of 50 events in a row one is a new person, three are new auctions and 46 are bids. Event `i` is a function of `i`
//! and the [`Config`] alone: any subtask can make any event, and every run sees the same ones.
//!
//! - *Hot*: half of the bids go to the first of the last hundred auctions, three quarters come from the second of the
//!   last hundred people, three quarters of the auctions are opened by the first of them. The rest is spread over the
//!   last 100 auctions and 1,000 people, and up to ten that do not exist yet.
//! - *Time*: event `i` is due at [`BASE_TIME`] plus `i` divided by the rate. One event of ten is stamped up to
//!   [`DISORDER_MS`] earlier. So an event is never more than that behind any event with a smaller number, and a
//!   watermark that is this far behind the latest event makes none of them late.
//! - *Ticks*: all timestamps are [`BASE_TIME`] plus a multiple of [`TICK_MS`], which does not divide ten seconds.
//!   Whether bids exactly as far apart as the gap of a session share it would depend on when the watermark comes;
//!   none are.
//! - *Prices* in cents are 100 to 10^8, any power of two of them as likely as another; in integers, so that they are
//!   the same on every machine.
//!
//! Costs: a bid allocates its URL, and nothing else unless [`Config::bid_bytes`] is raised. People and auctions are
//! boxed, since an event would otherwise be half as large again.

use crate::random::Random;
use mainstem::prelude::*;

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// When the first event is due: 2015-07-15, midnight UTC, in milliseconds.
pub const BASE_TIME: Timestamp = 1_436_918_400_000;
/// How far an event can be behind those before it: the bound for the watermark.
pub const DISORDER_MS: i64 = 2_000;
/// Timestamps are so far apart, or a multiple of it.
pub const TICK_MS: i64 = 3;
/// The first id of people and of auctions.
pub const FIRST_ID: u64 = 1_000;
/// The first of the categories.
pub const FIRST_CATEGORY: u64 = 10;

/// Events of a round: one person, three auctions, then bids.
const ROUND: u64 = 50;
const AUCTIONS_PER_ROUND: u64 = 3;
/// One event of so many is stamped early.
const EARLY_ONE_OF: u64 = 10;
const CATEGORIES: u64 = 5;
/// The hot one of so many.
const HOT_GROUP: u64 = 100;
const HOT_SELLER_ONE_OF: u64 = 4;
const HOT_BIDDER_ONE_OF: u64 = 4;
const HOT_AUCTION_ONE_OF: u64 = 2;
const AUCTIONS_IN_FLIGHT: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1_000;
/// Bids and auctions may name so many people or auctions that are yet to come.
const ID_LEAD: u64 = 10;
const PRICE_MIN: u64 = 100;
/// The highest price is below `PRICE_MIN` times two to the power of this.
const PRICE_DOUBLINGS: u64 = 20;
const CHANNELS: u64 = 10_000;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Somebody registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Who.
    pub id: u64,
    /// First and last name.
    pub name: CompactString,
    /// Where mail goes.
    pub email: CompactString,
    /// Four groups of four digits.
    pub credit_card: CompactString,
    /// One of ten.
    pub city: CompactString,
    /// One of six, whatever the city.
    pub state: CompactString,
    /// When.
    pub date_time: Timestamp,
    /// Letters.
    pub extra: CompactString,
}

/// Somebody offers something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auction {
    /// Which.
    pub id: u64,
    /// What, briefly.
    pub item_name: CompactString,
    /// What.
    pub description: CompactString,
    /// The lowest bid, in cents.
    pub initial_bid: u64,
    /// The lowest price the seller would take, in cents.
    pub reserve: u64,
    /// When.
    pub date_time: Timestamp,
    /// The last moment for a bid.
    pub expires: Timestamp,
    /// The person who offers.
    pub seller: u64,
    /// One of five.
    pub category: u64,
    /// Letters.
    pub extra: CompactString,
}

/// Somebody bids for an auction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bid {
    /// For which auction.
    pub auction: u64,
    /// Who.
    pub bidder: u64,
    /// How much, in cents.
    pub price: u64,
    /// How the bidder came here.
    pub channel: CompactString,
    /// The page of the offer.
    pub url: CompactString,
    /// When.
    pub date_time: Timestamp,
    /// Letters.
    pub extra: CompactString,
}

/// Something that happens at the auction house.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Somebody registers.
    Person(Box<Person>),
    /// Somebody offers something.
    Auction(Box<Auction>),
    /// Somebody bids.
    Bid(Bid),
}

impl Event {
    /// When it happened.
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Event::Person(person) => person.date_time,
            Event::Auction(auction) => auction.date_time,
            Event::Bid(bid) => bid.date_time,
        }
    }
}

/// What can be chosen about the events.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Events in a second of event time, at least 1.
    pub events_per_second: u64,
    /// Bytes of a person on average. `extra` fills up what the other fields leave, if they leave any.
    pub person_bytes: usize,
    /// Bytes of an auction on average.
    pub auction_bytes: usize,
    /// Bytes of a bid on average.
    pub bid_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { events_per_second: 10_000, person_bytes: 200, auction_bytes: 500, bid_bytes: 100 }
    }
}

/// Makes events.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    config: Config,
}

impl Generator {
    /// A generator of the events that `config` describes.
    pub fn new(config: Config) -> Self {
        Generator { config: Config { events_per_second: config.events_per_second.max(1), ..config } }
    }

    /// Event number `i`.
    #[inline]
    pub fn event(&self, i: u64) -> Event {
        let mut random = Random::new(i);
        let date_time = self.timestamp(i, &mut random);
        match i % ROUND {
            0 => Event::Person(Box::new(self.person(i, date_time, &mut random))),
            1..=AUCTIONS_PER_ROUND => Event::Auction(Box::new(self.auction(i, date_time, &mut random))),
            _ => Event::Bid(self.bid(i, date_time, &mut random)),
        }
    }

    #[inline]
    fn timestamp(&self, i: u64, random: &mut Random) -> Timestamp {
        let early = match random.below(EARLY_ONE_OF) {
            0 => random.below((DISORDER_MS / TICK_MS) as u64 + 1) as i64,
            _ => 0,
        };
        let ticks = (self.milliseconds(i) / TICK_MS).saturating_sub(early);
        BASE_TIME.saturating_add(ticks.saturating_mul(TICK_MS))
    }

    /// How long so many events take.
    #[inline]
    fn milliseconds(&self, events: u64) -> i64 {
        let rate = self.config.events_per_second;
        let part = (events % rate) as u128 * 1_000 / rate as u128;
        i64::try_from((events / rate) as u128 * 1_000 + part).unwrap_or(i64::MAX)
    }

    fn person(&self, i: u64, date_time: Timestamp, random: &mut Random) -> Person {
        let mut name = CompactString::from(choose(&FIRST_NAMES, random));
        name.push(' ');
        name.push_str(choose(&LAST_NAMES, random));
        let mut email = CompactString::default();
        letters(3 + random.below(5), random, &mut email);
        email.push('@');
        letters(3 + random.below(3), random, &mut email);
        email.push_str(".com");
        let mut credit_card = CompactString::default();
        let mut digits = random.below(10_000_000_000_000_000);
        for group in 0..4 {
            // Writing into a string cannot fail.
            let _ = write!(credit_card, "{}{:04}", if group > 0 { " " } else { "" }, digits % 10_000);
            digits /= 10_000;
        }
        let city = CompactString::from(choose(&CITIES, random));
        let state = CompactString::from(choose(&STATES, random));
        let used = 16 + name.len() + email.len() + credit_card.len() + city.len() + state.len();
        let extra = extra(used, self.config.person_bytes, random);
        Person { id: FIRST_ID + last_person(i), name, email, credit_card, city, state, date_time, extra }
    }

    fn auction(&self, i: u64, date_time: Timestamp, random: &mut Random) -> Auction {
        let seller = match random.below(HOT_SELLER_ONE_OF) {
            0 => any_person(i, random),
            _ => last_person(i) / HOT_GROUP * HOT_GROUP,
        };
        let initial_bid = price(random);
        // On average an auction is open until as many others are.
        let open = self.milliseconds(AUCTIONS_IN_FLIGHT * ROUND / AUCTIONS_PER_ROUND).max(1) as u64;
        let open = 1 + random.below(open.saturating_mul(2)) as i64;
        let (mut item_name, mut description) = (CompactString::default(), CompactString::default());
        letters(3 + random.below(17), random, &mut item_name);
        letters(3 + random.below(97), random, &mut description);
        let used = 56 + item_name.len() + description.len();
        Auction {
            id: FIRST_ID + last_auction(i),
            item_name,
            description,
            initial_bid,
            reserve: initial_bid + price(random),
            date_time,
            expires: date_time.saturating_add(open),
            seller: FIRST_ID + seller,
            category: FIRST_CATEGORY + random.below(CATEGORIES),
            extra: extra(used, self.config.auction_bytes, random),
        }
    }

    #[inline]
    fn bid(&self, i: u64, date_time: Timestamp, random: &mut Random) -> Bid {
        let auction = match random.below(HOT_AUCTION_ONE_OF) {
            0 => any_auction(i, random),
            _ => last_auction(i) / HOT_GROUP * HOT_GROUP,
        };
        // The second of the group: the first one is the hot seller.
        let bidder = match random.below(HOT_BIDDER_ONE_OF) {
            0 => any_person(i, random),
            _ => last_person(i) / HOT_GROUP * HOT_GROUP + 1,
        };
        let price = price(random);
        let (channel, url) = channel(random);
        let used = 32 + channel.len() + url.len();
        let extra = extra(used, self.config.bid_bytes, random);
        Bid { auction: FIRST_ID + auction, bidder: FIRST_ID + bidder, price, channel, url, date_time, extra }
    }
}

/// Index of the last person at event `i`: that of the event itself if it is one.
fn last_person(i: u64) -> u64 {
    i / ROUND
}

/// Index of the last auction at event `i`: that of the event itself if it is one. 0 if there is none yet.
fn last_auction(i: u64) -> u64 {
    (i / ROUND * AUCTIONS_PER_ROUND + (i % ROUND).min(AUCTIONS_PER_ROUND)).saturating_sub(1)
}

/// Index of an active person, or of one of the next.
fn any_person(i: u64, random: &mut Random) -> u64 {
    let people = last_person(i) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + random.below(active + ID_LEAD)
}

/// Index of an auction that may be open, or of one of the next.
fn any_auction(i: u64, random: &mut Random) -> u64 {
    let last = last_auction(i);
    let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
    first + random.below(last - first + 1 + ID_LEAD)
}

/// A price in cents.
fn price(random: &mut Random) -> u64 {
    let floor = PRICE_MIN << random.below(PRICE_DOUBLINGS);
    floor + random.below(floor)
}

/// Where a bidder came from, and the page. Half of them come from one of four channels.
fn channel(random: &mut Random) -> (CompactString, CompactString) {
    let mut url = CompactString::with_capacity(72);
    url.push_str("https://www.nexmark.com/");
    letters(5, random, &mut url);
    url.push('/');
    letters(5, random, &mut url);
    url.push_str("/item.htm?query=1");
    let number = random.below(2 * CHANNELS);
    if number >= CHANNELS {
        return (CompactString::from(choose(&HOT_CHANNELS, random)), url);
    }
    let mut channel = CompactString::const_new("channel-");
    decimal(number, &mut channel);
    url.push_str("&channel_id=");
    decimal(number, &mut url);
    (channel, url)
}

/// Letters, so that a record that has `used` bytes has about `wanted` in the end: within a fifth of the difference.
fn extra(used: usize, wanted: usize, random: &mut Random) -> CompactString {
    let missing = wanted.saturating_sub(used) as u64;
    let fifth = missing / 5;
    let n = missing - fifth + random.below(2 * fifth + 1);
    let mut extra = CompactString::with_capacity(n as usize);
    letters(n, random, &mut extra);
    extra
}

/// Appends `n` random letters.
#[inline]
fn letters(n: u64, random: &mut Random, into: &mut CompactString) {
    let mut left = n as usize;
    while left > 0 {
        let bytes = random.bits().to_le_bytes().map(|byte| b'a' + ((byte as u16 * 26) >> 8) as u8);
        let piece = left.min(bytes.len());
        into.push_str(std::str::from_utf8(&bytes[..piece]).unwrap_or_default());
        left -= piece;
    }
}

/// Appends a number below 10,000: without the machinery of formatting, for bids.
fn decimal(number: u64, into: &mut CompactString) {
    let digits = [1_000, 100, 10, 1].map(|unit| (b'0' + (number / unit % 10) as u8) as char);
    let zeros = digits[..3].iter().take_while(|digit| **digit == '0').count();
    digits[zeros..].iter().for_each(|digit| into.push(*digit));
}

fn choose<'a, const N: usize>(all: &[&'a str; N], random: &mut Random) -> &'a str {
    all[random.below(N as u64) as usize]
}
