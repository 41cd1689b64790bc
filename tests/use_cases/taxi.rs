//! Taxi: rides within the city, fares of rides, the best tips of each hour, rides that are long.

#[path = "../../examples/taxi/data.rs"]
mod data;
#[path = "../../examples/taxi/job.rs"]
mod job;

use crate::{assert_same_everywhere, runs};
use data::{
    DISORDER_MS, FARES_TO_A_LOST_ONE, Fare, LONG_RIDE_MS, Position, RideEvent, RideEventKind, WARM_UP,
    arriving_fare, arriving_fares, events_of, fare, ride_event,
};
use job::{HourlyTip, LongRide, RideWithFare};
use mainstem::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const EVENTS: u64 = 10_000;
/// So many fares arrive, some of them for rides that start after the last event.
const FARES: u64 = EVENTS * 2 / 3;

/// The events of rides that start and end in the city.
fn expected_cleansed(events: &[RideEvent]) -> Vec<RideEvent> {
    events.iter().filter(|event| event.from.is_in_nyc() && event.to.is_in_nyc()).cloned().collect()
}

/// The start of each ride with its fare, by ride.
fn expected_rides_with_fares(events: &[RideEvent], fares: &[Fare]) -> Vec<(RideEvent, Fare)> {
    let fares: BTreeMap<u64, &Fare> = fares.iter().map(|fare| (fare.ride, fare)).collect();
    let starts = events.iter().filter(|event| event.kind == RideEventKind::Start);
    let starts: BTreeMap<u64, &RideEvent> = starts.map(|start| (start.ride, start)).collect();
    let with_fare =
        starts.into_iter().filter_map(|(ride, start)| Some((start.clone(), (*fares.get(&ride)?).clone())));
    with_fare.collect()
}

/// The best tipped driver of each hour, by hour.
fn expected_hourly_tips(fares: &[Fare]) -> Vec<HourlyTip> {
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
fn expected_long_rides(events: &[RideEvent]) -> Vec<u64> {
    let ends: BTreeMap<u64, Timestamp> = events
        .iter()
        .filter(|event| event.kind == RideEventKind::End)
        .map(|end| (end.ride, end.timestamp))
        .collect();
    let is_long = |start: &&RideEvent| {
        ends.get(&start.ride).is_none_or(|end| *end > start.timestamp.saturating_add(LONG_RIDE_MS))
    };
    let starts = events.iter().filter(|event| event.kind == RideEventKind::Start);
    let mut long: Vec<u64> = starts.filter(is_long).map(|start| start.ride).collect();
    long.sort();
    long
}

fn events() -> Vec<RideEvent> {
    (0..EVENTS).map(ride_event).collect()
}

/// E4: events of rides outside of the city are left out.
#[test]
fn cleansed_rides_are_the_same_everywhere() {
    let expected = expected_cleansed(&events());
    assert_same_everywhere(
        expected,
        |event| (event.ride, event.kind),
        |env| job::cleansed(&env.generate(EVENTS, ride_event)),
    );
}

fn fares() -> Vec<Fare> {
    (0..FARES).map(arriving_fare).collect()
}

fn joined(env: &Environment) -> DataStream<RideWithFare> {
    job::rides_with_fares(&env.generate(EVENTS, ride_event), &env.generate(FARES, arriving_fare))
}

/// E4, J4: every ride meets its fare.
#[test]
fn rides_with_fares_are_the_same_everywhere() {
    let expected = expected_rides_with_fares(&events(), &fares()).into_iter().map(|(start, fare)| {
        let RideEvent { ride, driver, timestamp, passengers, .. } = start;
        let Fare { tip_cents, total_cents, .. } = fare;
        RideWithFare { ride, driver, timestamp, passengers, tip_cents, total_cents }
    });
    assert_same_everywhere(expected.collect(), RideWithFare::clone, joined);
}

/// E4, J4: what has no counterpart is reported once, and nothing else is.
#[test]
fn rides_and_fares_that_remain_alone_are_the_same_everywhere() {
    let starts: Vec<RideEvent> =
        events().into_iter().filter(|event| event.kind == RideEventKind::Start).collect();
    let rides: BTreeSet<u64> = starts.iter().map(|start| start.ride).collect();
    let paid: BTreeSet<u64> = fares().iter().map(|fare| fare.ride).collect();

    let unpaid: Vec<RideEvent> = starts.into_iter().filter(|start| !paid.contains(&start.ride)).collect();
    assert_eq!(unpaid.len() as u64, (rides.len() as u64).div_ceil(FARES_TO_A_LOST_ONE));
    assert_same_everywhere(
        unpaid,
        |start| start.ride,
        |env| joined(env).side_output(&job::rides_without_fare()),
    );

    let alone: Vec<Fare> = fares().into_iter().filter(|fare| !rides.contains(&fare.ride)).collect();
    assert_same_everywhere(
        alone,
        |fare| fare.ride,
        |env| joined(env).side_output(&job::fares_without_ride()),
    );
}

/// E4, X8: sums of an hour meet in the window of that hour.
#[test]
fn hourly_tips_are_the_same_everywhere() {
    let fares: Vec<Fare> = (0..EVENTS).map(fare).collect();
    assert_same_everywhere(expected_hourly_tips(&fares), HourlyTip::clone, |env| {
        job::hourly_tips(&env.generate(EVENTS, fare))
    });
}

/// E4: of equal tips that of the driver with the lowest number is the best one.
#[test]
fn of_equally_tipped_drivers_the_first_wins() {
    let tipped = |driver, timestamp, tip_cents| Fare { driver, timestamp, tip_cents, ..fare(0) };
    let fares = [tipped(9, 0, 7), tipped(4, 1, 5), tipped(5, HOUR_MS - 1, 7), tipped(4, 2, 2)];
    let best = vec![HourlyTip { hour: 0, driver: 4, tip_cents: 7 }];
    assert_eq!(expected_hourly_tips(&fares), best);
    assert_same_everywhere(best, HourlyTip::clone, |env| job::hourly_tips(&env.from_iter(fares.clone())));
}

/// E4, F2: rides that are open for more than two hours, whether they end at some time or never.
#[test]
fn long_rides_are_the_same_everywhere() {
    let events = events();
    let long: BTreeSet<u64> = expected_long_rides(&events).into_iter().collect();
    let starts = events.iter().filter(|event| event.kind == RideEventKind::Start);
    let expected = starts.filter(|start| long.contains(&start.ride)).map(|start| LongRide {
        ride: start.ride,
        driver: start.driver,
        started: start.timestamp,
    });
    assert_same_everywhere(expected.collect(), LongRide::clone, |env| {
        job::long_rides(&env.generate(EVENTS, ride_event))
    });
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
}

/// E4, F2: exactly two hours are in time; an end may come before its start; the ends of time are no exception.
#[test]
fn a_ride_is_long_by_the_times_of_its_events() {
    let at = |ride, kind, timestamp| RideEvent { ride, kind, timestamp, ..ride_event(0) };
    let (start, end) = (RideEventKind::Start, RideEventKind::End);
    let events = [
        at(1, start, 0),
        at(2, start, 0),
        at(3, start, 0),
        at(5, end, 2),
        at(5, start, 1),
        at(6, start, Timestamp::MIN),
        at(1, end, LONG_RIDE_MS),
        at(2, end, LONG_RIDE_MS + 1),
        at(4, end, LONG_RIDE_MS + 2),
        at(4, start, 1),
        at(7, start, Timestamp::MAX - 1),
        at(7, end, Timestamp::MAX),
    ];
    assert_eq!(expected_long_rides(&events), [2, 3, 4, 6]);
    for (env, run) in runs() {
        let long = job::long_rides(&env.from_iter(events.clone())).map(|long| long.ride);
        let mut long = long.execute_and_collect("long rides").unwrap().into_vec().unwrap();
        long.sort();
        assert_eq!(long, [2, 3, 4, 6], "{run}");
    }
}

/// As many rides start in the events as were asked for; one of so many fares does not arrive.
#[test]
fn as_many_rides_and_fares_as_wanted() {
    for rides in [0, 1, WARM_UP - 1, WARM_UP, WARM_UP + 1, WARM_UP + 16, WARM_UP + 17, 2_345] {
        let events = (0..events_of(rides)).map(ride_event);
        let starts = events.filter(|event| event.kind == RideEventKind::Start).count() as u64;
        assert_eq!(starts, rides);
        assert!(rides == 0 || ride_event(events_of(rides) - 1).ride == rides - 1);
        let arriving: Vec<Fare> = (0..arriving_fares(rides)).map(arriving_fare).collect();
        let kept = (0..rides).filter(|ride| ride % FARES_TO_A_LOST_ONE != 0).map(fare);
        assert_eq!(arriving, kept.collect::<Vec<_>>());
    }
}

/// Large numbers do not overflow.
#[test]
fn large_numbers_have_rides() {
    for i in [u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        assert!(ride_event(i).timestamp > 0 && fare(i).timestamp > 0 && arriving_fare(i).timestamp > 0);
    }
}
