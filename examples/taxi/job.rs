//! Four jobs over taxi rides and their fares. They give records their event time, so that streams should come directly
//! out of a source, where each split can have a watermark of its own.

use super::data::{DISORDER_MS, Fare, LONG_RIDE_MS, RideEvent, RideEventKind};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The events of rides that start and end in New York City.
pub fn cleansed(events: &DataStream<RideEvent>) -> DataStream<RideEvent> {
    events.filter(|event| event.from.is_in_nyc() && event.to.is_in_nyc()).name("in the city")
}

fn in_event_time<T: Data>(
    stream: &DataStream<T>,
    timestamp: impl Fn(&T) -> Timestamp + Send + Sync + 'static,
) -> DataStream<T> {
    let disorder = Duration::from_millis(DISORDER_MS.unsigned_abs());
    stream.assign_timestamps(WatermarkStrategy::bounded_out_of_orderness(disorder).timestamp(timestamp))
}

/// A ride and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RideWithFare {
    /// Which ride.
    pub ride: u64,
    /// Who drives.
    pub driver: u64,
    /// When it starts.
    pub timestamp: Timestamp,
    /// How many ride.
    pub passengers: u8,
    /// For the driver.
    pub tip_cents: u64,
    /// With tip and tolls.
    pub total_cents: u64,
}

/// The side output of [`rides_with_fares`] for rides that no fare has come for.
pub fn rides_without_fare() -> SideOutput<RideEvent> {
    SideOutput::new("rides without fare")
}

/// The side output of [`rides_with_fares`] for fares that no ride has come for.
pub fn fares_without_ride() -> SideOutput<Fare> {
    SideOutput::new("fares without ride")
}

/// Each ride with its fare, whichever comes first. What has no counterpart by the time it is due goes to a side output.
pub fn rides_with_fares(
    events: &DataStream<RideEvent>,
    fares: &DataStream<Fare>,
) -> DataStream<RideWithFare> {
    let starts = in_event_time(events, |event| event.timestamp)
        .filter(|event| event.kind == RideEventKind::Start)
        .name("starts");
    in_event_time(fares, |fare| fare.timestamp)
        .key_by(|fare| fare.ride)
        .connect(&starts.key_by(|start| start.ride))
        .process(|states| Join {
            fare: states.value("fare"),
            start: states.value("start"),
            without_fare: rides_without_fare(),
            without_ride: fares_without_ride(),
        })
        .name("rides with fares")
        .uid("rides with fares")
}

/// Keeps what comes first until the other comes. Ride and fare have the same time: when the watermark has reached it,
/// the other is missing.
struct Join {
    fare: ValueState<Fare>,
    start: ValueState<RideEvent>,
    without_fare: SideOutput<RideEvent>,
    without_ride: SideOutput<Fare>,
}

fn joined(start: &RideEvent, fare: &Fare) -> RideWithFare {
    RideWithFare {
        ride: start.ride,
        driver: start.driver,
        timestamp: start.timestamp,
        passengers: start.passengers,
        tip_cents: fare.tip_cents,
        total_cents: fare.total_cents,
    }
}

impl KeyedCoProcessFunction<u64, Fare, RideEvent, RideWithFare> for Join {
    fn process_left(
        &mut self,
        fare: Fare,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, RideWithFare>,
    ) -> UserResult {
        if let Some(start) = self.start.take(ctx) {
            ctx.delete_event_time_timer(start.timestamp);
            out.emit(joined(&start, &fare));
        } else {
            ctx.register_event_time_timer(fare.timestamp);
            self.fare.set(ctx, fare);
        }
        Ok(())
    }

    fn process_right(
        &mut self,
        start: RideEvent,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, RideWithFare>,
    ) -> UserResult {
        if let Some(fare) = self.fare.take(ctx) {
            ctx.delete_event_time_timer(fare.timestamp);
            out.emit(joined(&start, &fare));
        } else {
            ctx.register_event_time_timer(start.timestamp);
            self.start.set(ctx, start);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, RideWithFare>,
    ) -> UserResult {
        if let Some(start) = self.start.take(ctx) {
            out.emit_to(&self.without_fare, start);
        }
        if let Some(fare) = self.fare.take(ctx) {
            out.emit_to(&self.without_ride, fare);
        }
        Ok(())
    }
}

/// The driver who was tipped most in an hour; of equals the one with the lowest number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HourlyTip {
    /// When the hour begins.
    pub hour: Timestamp,
    /// Who.
    pub driver: u64,
    /// How much.
    pub tip_cents: u64,
}

/// Sums tips.
#[derive(Clone)]
struct Tips;

impl Aggregator<Fare> for Tips {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 {
        0
    }
    fn add(&self, sum: &mut u64, fare: Fare) {
        *sum = sum.saturating_add(fare.tip_cents);
    }
    fn merge(&self, sum: &mut u64, other: u64) {
        *sum = sum.saturating_add(other);
    }
    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// The best tipped driver of each hour.
///
/// The sums of an hour carry its last millisecond, so that a second window of one hour finds all of them, and only
/// them.
pub fn hourly_tips(fares: &DataStream<Fare>) -> DataStream<HourlyTip> {
    in_event_time(fares, |fare| fare.timestamp)
        .key_by(|fare| fare.driver)
        .window(Tumbling::of(HOUR))
        .aggregate(Tips)
        .name("tips of drivers")
        .uid("tips of drivers")
        .window_all(Tumbling::of(HOUR))
        .reduce(|best, other| {
            if other.value > best.value || other.value == best.value && other.key < best.key {
                *best = other;
            }
        })
        .name("best of the hour")
        .uid("best of the hour")
        .map(|hour| HourlyTip {
            hour: hour.window.start,
            driver: hour.value.key,
            tip_cents: hour.value.value,
        })
        .name("hourly tips")
}

/// A ride that was still open after two hours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LongRide {
    /// Which ride.
    pub ride: u64,
    /// Who drives.
    pub driver: u64,
    /// When it started.
    pub started: Timestamp,
}

/// The rides that are open for more than two hours, as soon as they are. One that ends exactly then is in time.
pub fn long_rides(events: &DataStream<RideEvent>) -> DataStream<LongRide> {
    in_event_time(events, |event| event.timestamp)
        .key_by(|event| event.ride)
        .process(|states| OpenRides { first: states.value("first event") })
        .name("long rides")
        .uid("long rides")
}

/// Keeps the one event of a ride that has come so far, with a timer: of a start when the ride becomes a long one, of an
/// end when its start cannot come any more.
struct OpenRides {
    first: ValueState<RideEvent>,
}

/// When a ride with this start is a long one.
fn limit(start: &RideEvent) -> Timestamp {
    start.timestamp.saturating_add(LONG_RIDE_MS)
}

impl KeyedProcessFunction<u64, RideEvent, LongRide> for OpenRides {
    fn process(
        &mut self,
        event: RideEvent,
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, LongRide>,
    ) -> UserResult {
        match (event.kind, self.first.take(ctx)) {
            // In time: nothing is left of the ride.
            (RideEventKind::End, Some(start)) if event.timestamp <= limit(&start) => {
                ctx.delete_event_time_timer(limit(&start));
            }
            // Too late, though the timer has not fired yet: it will.
            (RideEventKind::End, Some(start)) => self.first.set(ctx, start),
            (RideEventKind::Start, Some(end)) => {
                ctx.delete_event_time_timer(end.timestamp);
                if end.timestamp > limit(&event) {
                    ctx.register_event_time_timer(limit(&event));
                    self.first.set(ctx, event);
                }
            }
            (RideEventKind::Start, None) => {
                ctx.register_event_time_timer(limit(&event));
                self.first.set(ctx, event);
            }
            // Its start comes later, or the ride was a long one and has been reported.
            (RideEventKind::End, None) => {
                ctx.register_event_time_timer(event.timestamp);
                self.first.set(ctx, event);
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, LongRide>,
    ) -> UserResult {
        if let Some(first) = self.first.take(ctx)
            && first.kind == RideEventKind::Start
        {
            out.emit(LongRide { ride: first.ride, driver: first.driver, started: first.timestamp });
        }
        Ok(())
    }
}
