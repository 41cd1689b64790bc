//! Taxi: rides within the city, fares of rides, the best tips of each hour, rides that are long.

#[path = "../../examples/taxi/rides.rs"]
mod rides;

use mainstem::Timestamp;
use rides::{DISORDER_MS, Fare, LONG_RIDE_MS, Position, RideEvent, RideEventKind, WARM_UP, fare, ride_event};
use std::collections::{BTreeMap, BTreeSet};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const EVENTS: u64 = 10_000;

/// The driver who was tipped most in an hour; of equals the one with the lowest number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HourlyTip {
    /// When the hour begins.
    pub hour: Timestamp,
    /// Who.
    pub driver: u64,
    /// How much.
    pub tip_cents: u64,
}

/// The events of rides that start and end in the city.
pub fn expected_cleansed(events: &[RideEvent]) -> Vec<RideEvent> {
    events.iter().filter(|event| event.from.is_in_nyc() && event.to.is_in_nyc()).cloned().collect()
}

/// The start of each ride with its fare, by ride.
pub fn expected_rides_with_fares(events: &[RideEvent], fares: &[Fare]) -> Vec<(RideEvent, Fare)> {
    let fares: BTreeMap<u64, &Fare> = fares.iter().map(|fare| (fare.ride, fare)).collect();
    let starts = events.iter().filter(|event| event.kind == RideEventKind::Start);
    let starts: BTreeMap<u64, &RideEvent> = starts.map(|start| (start.ride, start)).collect();
    let with_fare =
        starts.into_iter().filter_map(|(ride, start)| Some((start.clone(), (*fares.get(&ride)?).clone())));
    with_fare.collect()
}

/// The best tipped driver of each hour, by hour.
pub fn expected_hourly_tips(fares: &[Fare]) -> Vec<HourlyTip> {
    let mut hours: BTreeMap<Timestamp, BTreeMap<u64, u64>> = BTreeMap::new();
    for fare in fares {
        let hour = fare.timestamp.div_euclid(HOUR_MS) * HOUR_MS;
        *hours.entry(hour).or_default().entry(fare.driver).or_default() += fare.tip_cents;
    }
    let best = |(hour, tips): (Timestamp, BTreeMap<u64, u64>)| {
        let most = tips.values().copied().max()?;
        let (driver, tip_cents) = tips.into_iter().find(|(_, tip_cents)| *tip_cents == most)?;
        Some(HourlyTip { hour, driver, tip_cents })
    };
    hours.into_iter().filter_map(best).collect()
}

/// The rides that have not ended two hours after their start (ending exactly then is in time), by number.
pub fn expected_long_rides(events: &[RideEvent]) -> Vec<u64> {
    let ends: BTreeMap<u64, Timestamp> = events
        .iter()
        .filter(|event| event.kind == RideEventKind::End)
        .map(|end| (end.ride, end.timestamp))
        .collect();
    let is_long =
        |start: &&RideEvent| ends.get(&start.ride).is_none_or(|end| *end > start.timestamp + LONG_RIDE_MS);
    let starts = events.iter().filter(|event| event.kind == RideEventKind::Start);
    let mut long: Vec<u64> = starts.filter(is_long).map(|start| start.ride).collect();
    long.sort();
    long
}

fn events() -> Vec<RideEvent> {
    (0..EVENTS).map(ride_event).collect()
}

/// E4: each ride starts once, ends at most once and later; both events say the same of it.
#[test]
fn rides_start_before_they_end() {
    let mut started: BTreeMap<u64, RideEvent> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for event in events() {
        match event.kind {
            RideEventKind::Start => {
                assert_eq!(event.ride, started.len() as u64);
                started.insert(event.ride, event);
            }
            RideEventKind::End => {
                let start = &started[&event.ride];
                assert!(event.timestamp > start.timestamp);
                let kind = RideEventKind::Start;
                assert_eq!(RideEvent { kind, timestamp: start.timestamp, ..event.clone() }, *start);
                assert!(ended.insert(event.ride), "ride {} ends twice", event.ride);
            }
        }
    }
    // What has never ended long after it had to: one of sixteen.
    let settled = (started.len() as u64 - 2 * WARM_UP) / 16 * 16;
    let lost = (0..settled).filter(|ride| !ended.contains(ride)).count() as u64;
    assert_eq!(lost, settled / 16);
}

/// E4: no event is more than the bound behind those before it, and the bound is used.
#[test]
fn rides_and_fares_are_out_of_order_within_the_bound() {
    let rides: Vec<Timestamp> = events().iter().map(|event| event.timestamp).collect();
    let fares: Vec<Timestamp> = (0..EVENTS).map(|r| fare(r).timestamp).collect();
    for (times, used) in [(rides, 50_000), (fares, 45_000)] {
        let mut latest = Timestamp::MIN;
        let mut behind_max = 0;
        for time in times {
            latest = latest.max(time);
            behind_max = behind_max.max(latest - time);
        }
        assert!((used..=DISORDER_MS).contains(&behind_max), "{behind_max}");
    }
}

/// E4: some positions are outside, most are not.
#[test]
fn cleansing_drops_rides_that_leave_the_city() {
    let events = events();
    let kept = expected_cleansed(&events).len() as u64;
    assert!((EVENTS * 80 / 100..EVENTS * 90 / 100).contains(&kept), "{kept}");
    assert!(Position { longitude: -73.9, latitude: 40.7 }.is_in_nyc());
    assert!(!Position { longitude: -73.9, latitude: 41.1 }.is_in_nyc());
    assert!(!Position { longitude: -74.1, latitude: 40.7 }.is_in_nyc());
}

/// E4: each ride has the fare of its driver; a fare without a ride joins nothing.
#[test]
fn rides_have_their_fares() {
    let events = events();
    let rides = events.iter().filter(|event| event.kind == RideEventKind::Start).count();
    let fares: Vec<Fare> = (0..rides as u64 + 5).map(fare).collect();
    let joined = expected_rides_with_fares(&events, &fares);
    assert_eq!(joined.len(), rides);
    for (start, fare) in &joined {
        assert_eq!((start.ride, start.driver, start.taxi), (fare.ride, fare.driver, fare.taxi));
        assert!(fare.total_cents > fare.tip_cents + fare.tolls_cents);
    }
}

/// E4: the most tipped driver of each hour; of equals the lowest number.
#[test]
fn every_hour_has_a_best_tipped_driver() {
    let fares: Vec<Fare> = (0..EVENTS).map(fare).collect();
    let tips = expected_hourly_tips(&fares);
    assert!(tips.len() >= 27 && tips.windows(2).all(|pair| pair[0].hour < pair[1].hour), "{}", tips.len());
    let tipped = |driver, timestamp, tip_cents| Fare { driver, timestamp, tip_cents, ..fare(0) };
    let fares = [tipped(9, 0, 3), tipped(4, 1, 5), tipped(9, HOUR_MS - 1, 2), tipped(9, HOUR_MS, 1)];
    let best = |hour, driver, tip_cents| HourlyTip { hour, driver, tip_cents };
    assert_eq!(expected_hourly_tips(&fares), [best(0, 4, 5), best(HOUR_MS, 9, 1)]);
}

/// E4: rides are long if they end late or never; exactly two hours are in time.
#[test]
fn some_rides_are_open_for_more_than_two_hours() {
    let long = expected_long_rides(&events());
    let ended = events().into_iter().filter(|event| event.kind == RideEventKind::End);
    let ended: BTreeSet<u64> = ended.map(|end| end.ride).collect();
    let late = long.iter().filter(|ride| ended.contains(ride)).count();
    assert!(late > 200, "{late}");
    assert!(long.len() - late > 200, "{}", long.len());

    let at = |ride, kind, timestamp| RideEvent { ride, kind, timestamp, ..ride_event(0) };
    let (start, end) = (RideEventKind::Start, RideEventKind::End);
    let events = [
        at(1, start, 0),
        at(2, start, 0),
        at(3, start, 0),
        at(1, end, LONG_RIDE_MS),
        at(2, end, LONG_RIDE_MS + 1),
    ];
    assert_eq!(expected_long_rides(&events), [2, 3]);
}

/// Large numbers do not overflow.
#[test]
fn large_numbers_have_rides() {
    for i in [u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        assert!(ride_event(i).timestamp > 0 && fare(i).timestamp > 0);
    }
}
