//! q3, q4 and q8: where people, auctions and bids meet.
//!
//! One operator takes both kinds of records out of the events: the one into its stream, the other into a side output.

use super::windows::WINDOW;
use crate::generator::{Auction, Bid, Event, Person};
use crate::rows::{CategoryPrice, LocalItem, NewUser};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};

/// The category of q3.
const LOCAL_CATEGORY: u64 = 10;
/// The states of q3.
const LOCAL_STATES: [&str; 3] = ["OR", "ID", "CA"];

/// What q3 needs of a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seller {
    id: u64,
    name: CompactString,
    city: CompactString,
    state: CompactString,
}

/// What q3 needs of an auction.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    auction: u64,
    seller: u64,
}

/// Local item suggestion: the auctions of category 10 by people of Oregon, Idaho or California, whichever is known first.
/// People are kept for ever, and so are auctions whose seller is not (yet) one of them.
pub fn q3(events: &DataStream<Event>) -> DataStream<LocalItem> {
    let sellers = SideOutput::new("local people");
    let to_sellers = sellers.clone();
    let items = events.flat_map(move |event, out| match event {
        Event::Auction(auction) if auction.category == LOCAL_CATEGORY => {
            out.emit(Item { auction: auction.id, seller: auction.seller });
        }
        Event::Person(person) if LOCAL_STATES.contains(&person.state.as_str()) => {
            let Person { id, name, city, state, .. } = *person;
            out.emit_to(&to_sellers, Seller { id, name, city, state });
        }
        _ => {}
    });
    let items = items.name("auctions and local people");
    let sellers = items.side_output(&sellers);
    let local =
        items.key_by(|item| item.seller).connect(&sellers.key_by(|seller| seller.id)).process(|states| {
            LocalItems { seller: states.value("seller"), waiting: states.list("waiting items") }
        });
    local.name("local items")
}

struct LocalItems {
    seller: ValueState<Seller>,
    /// Auctions that came before their seller.
    waiting: ListState<u64>,
}

fn local_item(seller: &Seller, auction: u64) -> LocalItem {
    let Seller { name, city, state, .. } = seller.clone();
    LocalItem { name, city, state, auction }
}

impl KeyedCoProcessFunction<u64, Item, Seller, LocalItem> for LocalItems {
    fn process_left(
        &mut self,
        item: Item,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, LocalItem>,
    ) -> UserResult {
        match self.seller.get(ctx) {
            Some(seller) => out.emit(local_item(seller, item.auction)),
            None => self.waiting.add(ctx, item.auction),
        }
        Ok(())
    }
    fn process_right(
        &mut self,
        seller: Seller,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, LocalItem>,
    ) -> UserResult {
        out.extend(self.waiting.take(ctx).into_iter().map(|auction| local_item(&seller, auction)));
        self.seller.set(ctx, seller);
        Ok(())
    }
}

/// What q4 needs of an auction, and the highest bid so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenAuction {
    id: u64,
    category: u64,
    opens: Timestamp,
    expires: Timestamp,
    highest: Option<u64>,
}

impl OpenAuction {
    #[inline]
    fn bid(&mut self, offer: &Offer) {
        if (self.opens..=self.expires).contains(&offer.date_time) {
            self.highest = self.highest.max(Some(offer.price));
        }
    }
}

/// What q4 needs of a bid.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Offer {
    auction: u64,
    price: u64,
    date_time: Timestamp,
}

/// Average price for a category: the mean of the winning bids so far, whenever an auction with one closes.
pub fn q4(events: &DataStream<Event>) -> DataStream<CategoryPrice> {
    let auctions = SideOutput::new("auctions");
    let to_auctions = auctions.clone();
    let offers = events.flat_map(move |event, out| match event {
        Event::Bid(Bid { auction, price, date_time, .. }) => out.emit(Offer { auction, price, date_time }),
        Event::Auction(auction) => {
            let Auction { id, category, date_time: opens, expires, .. } = *auction;
            out.emit_to(&to_auctions, OpenAuction { id, category, opens, expires, highest: None });
        }
        Event::Person(_) => {}
    });
    let offers = offers.name("bids and auctions");
    let auctions = offers.side_output(&auctions);
    let winning = auctions
        .key_by(|auction| auction.id)
        .connect(&offers.key_by(|offer| offer.auction))
        .process(|states| WinningBids { listing: states.value("listing") })
        .name("winning bids");
    let average = winning.key_by(|(category, _)| *category).aggregate(Average).name("average by category");
    average.map(|(category, price)| CategoryPrice { category, price })
}

/// What is known under the number of an auction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Listing {
    auction: Option<OpenAuction>,
    /// Bids that came before the auction.
    early: Vec<Offer>,
}

/// Emits category and price when an auction with a bid has expired: then the watermark says that all bids are there.
struct WinningBids {
    listing: ValueState<Listing>,
}

impl KeyedCoProcessFunction<u64, OpenAuction, Offer, (u64, u64)> for WinningBids {
    fn process_left(
        &mut self,
        mut auction: OpenAuction,
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        ctx.register_event_time_timer(auction.expires);
        self.listing.update(ctx, |listing| {
            listing.early.drain(..).for_each(|offer| auction.bid(&offer));
            listing.auction = Some(auction);
        });
        Ok(())
    }

    fn process_right(
        &mut self,
        offer: Offer,
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let date_time = offer.date_time;
        let first_early = self.listing.update(ctx, |listing| match &mut listing.auction {
            Some(auction) => {
                auction.bid(&offer);
                false
            }
            None => {
                listing.early.push(offer);
                listing.early.len() == 1
            }
        });
        if first_early {
            ctx.register_event_time_timer(date_time);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let Some(mut listing) = self.listing.take(ctx) else { return Ok(()) };
        match &listing.auction {
            Some(auction) if auction.expires <= timer.time => {
                out.extend(auction.highest.map(|price| (auction.category, price)));
                return Ok(());
            }
            // The timer of a bid that came before the auction.
            Some(_) => {}
            None => {
                // An auction that was open when they were made would be known by now.
                let watermark = ctx.watermark();
                listing.early.retain(|offer| offer.date_time > watermark);
                match listing.early.iter().map(|offer| offer.date_time).min() {
                    Some(next) => ctx.register_event_time_timer(next),
                    None => return Ok(()),
                }
            }
        }
        self.listing.set(ctx, listing);
        Ok(())
    }
}

/// The mean of prices, rounded down: exact, whatever their order.
#[derive(Clone)]
struct Average;

impl Aggregator<(u64, u64)> for Average {
    /// Sum and number.
    type Acc = (u64, u64);
    type Out = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (u64, u64), (_, price): (u64, u64)) {
        self.merge(acc, (price, 1));
    }
    fn merge(&self, acc: &mut (u64, u64), (sum, number): (u64, u64)) {
        *acc = (acc.0.saturating_add(sum), acc.1.saturating_add(number));
    }
    fn result(&self, acc: &(u64, u64)) -> u64 {
        acc.0.checked_div(acc.1).unwrap_or(0)
    }
}

/// Monitor new users: the people who registered and opened an auction in the same ten seconds.
pub fn q8(events: &DataStream<Event>) -> DataStream<NewUser> {
    let sellers = SideOutput::new("sellers");
    let to_sellers = sellers.clone();
    let people = events.flat_map(move |event, out| match event {
        Event::Person(person) => {
            let Person { id, name, .. } = *person;
            out.emit((id, name));
        }
        Event::Auction(auction) => out.emit_to(&to_sellers, auction.seller),
        Event::Bid(_) => {}
    });
    let people = people.name("people and sellers");
    let sellers = people.side_output(&sellers);
    let new = people
        .key_by(|(id, _)| *id)
        .co_group(&sellers.key_by(|seller| *seller))
        .window(Tumbling::of(WINDOW))
        .apply(|_, window, people, auctions, out| {
            if !auctions.is_empty() {
                let new = |(id, name): &(u64, CompactString)| NewUser {
                    id: *id,
                    name: name.clone(),
                    window_start: window.start,
                };
                out.extend(people.iter().map(new));
            }
        });
    new.name("new sellers")
}
