//! Taxi rides and their fares, after the training exercises of Apache Flink: what starts, what ends, what is paid.
//!
//! Ride event `i` and the fare of ride `r` are functions of `i` and `r` alone.
//!
//! - The first [`WARM_UP`] events are starts. From then on starts and ends take turns, and each ride ends 0 to 160
//!   minutes after its start, about one of twelve after more than two hours. One ride of 16 never ends, nor do those
//!   that are under way when the events are.
//! - An event is never more than [`DISORDER_MS`] behind any event with a smaller number; the same holds for fares.
//! - One position of twelve, on average, is outside of New York City.
//! - Every ride has one fare, which is known when it starts. One of [`FARES_TO_A_LOST_ONE`] does not arrive.

use crate::random::Random;
use mainstem::Timestamp;
use serde::{Deserialize, Serialize};

/// When the first ride starts: 2020-01-01, midnight UTC, in milliseconds.
pub const BASE_TIME: Timestamp = 1_577_836_800_000;
/// How far an event can be behind those before it: the bound for the watermark.
pub const DISORDER_MS: i64 = 60_000;
/// A ride that is open for more than this is a long one, in milliseconds.
pub const LONG_RIDE_MS: i64 = 2 * 60 * 60 * 1_000;
/// So many events are starts before the first end.
pub const WARM_UP: u64 = GROUP * GROUPS;

/// Of so many fares one is lost.
pub const FARES_TO_A_LOST_ONE: u64 = 1_000;

/// Of so many rides, all but one end.
const GROUP: u64 = 16;
const ENDING: u64 = GROUP - 1;
/// Events of a group: its starts and as many ends between them.
const GROUP_EVENTS: u64 = GROUP + ENDING;
/// Rides of so many groups end in shuffled order while those of the next groups start.
const GROUPS: u64 = 30;
const BLOCK: u64 = ENDING * GROUPS;
/// Has no divisor in common with [`BLOCK`]: multiplying by it shuffles a block.
const SHUFFLE: u64 = 187;
/// Time from one start to the next.
const STEP_MS: i64 = 10_000;
const RIDE_MIN_MS: i64 = 1_000;
const DRIVERS: u64 = 200;
const SEED_OF_FARES: u64 = 0x4641_5245;
const SEED_OF_LOST: u64 = 0x4c4f_5354;

/// The corners of New York City, in degrees.
const WEST: f64 = -74.05;
const EAST: f64 = -73.7;
const SOUTH: f64 = 40.5;
const NORTH: f64 = 41.0;

/// A place on the map, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

impl Position {
    /// Whether it is in New York City.
    pub fn is_in_nyc(&self) -> bool {
        (WEST..=EAST).contains(&self.longitude) && (SOUTH..=NORTH).contains(&self.latitude)
    }

    fn random(random: &mut Random) -> Position {
        let (longitude, latitude) =
            (random.below(10_000) as f64 / 10_000.0, random.below(10_000) as f64 / 10_000.0);
        let outside = if random.below(12) == 0 { NORTH - SOUTH } else { 0.0 };
        Position {
            longitude: WEST + (EAST - WEST) * longitude,
            latitude: SOUTH + (NORTH - SOUTH) * latitude + outside * 1.1,
        }
    }
}

/// What happens to a ride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RideEventKind {
    /// It starts.
    Start,
    /// It ends.
    End,
}

/// A ride starts or ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RideEvent {
    /// Which ride.
    pub ride: u64,
    /// Starts or ends.
    pub kind: RideEventKind,
    /// When it does.
    pub timestamp: Timestamp,
    /// Where it starts.
    pub from: Position,
    /// Where it is to end.
    pub to: Position,
    /// How many ride.
    pub passengers: u8,
    /// Which car.
    pub taxi: u64,
    /// Who drives.
    pub driver: u64,
}

/// What a ride costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fare {
    /// Which ride.
    pub ride: u64,
    /// Which car.
    pub taxi: u64,
    /// Who drives.
    pub driver: u64,
    /// When the ride starts.
    pub timestamp: Timestamp,
    /// For the driver.
    pub tip_cents: u64,
    /// For bridges and tunnels.
    pub tolls_cents: u64,
    /// With tip and tolls.
    pub total_cents: u64,
}

/// The number of events up to the start of ride `rides - 1`: with so many, exactly `rides` rides have started.
pub fn events_of(rides: u64) -> u64 {
    match rides.checked_sub(WARM_UP + 1) {
        None => rides,
        Some(later) => {
            (later / GROUP).saturating_mul(GROUP_EVENTS).saturating_add(WARM_UP + later % GROUP * 2 + 1)
        }
    }
}

/// Ride event number `i`.
pub fn ride_event(i: u64) -> RideEvent {
    let Some(later) = i.checked_sub(WARM_UP) else { return start(i) };
    let (group, offset) = (later / GROUP_EVENTS, later % GROUP_EVENTS);
    let next = WARM_UP + group * GROUP + offset / 2;
    if offset % 2 == 0 {
        return start(next);
    }
    let slot = group * ENDING + offset / 2;
    let block = slot / BLOCK;
    let turn = Random::new(block).below(BLOCK);
    let ride = ending_ride(block * BLOCK + (slot % BLOCK * SHUFFLE + turn) % BLOCK);
    let mut random = Random::new(!i);
    // Half a step behind the start before it.
    let due = due(next).saturating_add(STEP_MS / 2);
    let at = due.saturating_sub(random.below(DISORDER_MS as u64 + 1) as i64);
    let started = start(ride);
    let timestamp = at.max(started.timestamp.saturating_add(RIDE_MIN_MS));
    RideEvent { kind: RideEventKind::End, timestamp, ..started }
}

/// The fare of ride `r`.
pub fn fare(r: u64) -> Fare {
    let start = start(r);
    let mut random = Random::new(r ^ SEED_OF_FARES);
    let ride_cents = 300 + random.below(5_000);
    // One of four gives no tip, the others up to a third.
    let tip_cents = if random.below(4) == 0 { 0 } else { random.below(1 + ride_cents / 3) };
    let tolls_cents = if random.below(8) == 0 { 576 } else { 0 };
    Fare {
        ride: r,
        taxi: start.taxi,
        driver: start.driver,
        timestamp: start.timestamp,
        tip_cents,
        tolls_cents,
        total_cents: ride_cents + tip_cents + tolls_cents,
    }
}

/// Fare number `i` of those that arrive: the first of [`FARES_TO_A_LOST_ONE`] is lost.
pub fn arriving_fare(i: u64) -> Fare {
    fare((i / (FARES_TO_A_LOST_ONE - 1)).saturating_add(i).saturating_add(1))
}

/// How many fares of the first `rides` rides arrive.
pub fn arriving_fares(rides: u64) -> u64 {
    rides - rides.div_ceil(FARES_TO_A_LOST_ONE)
}

/// The start of ride `ride`.
fn start(ride: u64) -> RideEvent {
    let mut random = Random::new(ride);
    let timestamp = due(ride).saturating_sub(random.below(DISORDER_MS as u64 + 1) as i64);
    let driver = 1 + random.below(DRIVERS);
    RideEvent {
        ride,
        kind: RideEventKind::Start,
        timestamp,
        from: Position::random(&mut random),
        to: Position::random(&mut random),
        passengers: 1 + random.below(4) as u8,
        taxi: 1_000 + driver,
        driver,
    }
}

/// The latest time for the start of a ride.
fn due(ride: u64) -> Timestamp {
    BASE_TIME.saturating_add(i64::try_from(ride).unwrap_or(i64::MAX).saturating_mul(STEP_MS))
}

/// Ride number `n` of those that end.
fn ending_ride(n: u64) -> u64 {
    let (group, place) = (n / ENDING, n % ENDING);
    let lost = Random::new(group ^ SEED_OF_LOST).below(GROUP);
    group * GROUP + place + u64::from(place >= lost)
}
