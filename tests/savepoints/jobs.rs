//! A job with every kind of state, and a way to run it in parts.

use mainstem::prelude::*;
use mainstem::semantics::state::StateTtl;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A test that takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Behind all records.
pub const END: i64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: u64,
    pub page: String,
    pub at: i64,
}

pub fn event(id: u64) -> Event {
    Event { id, page: format!("page {}", id * id % 13), at: (id / 3) as i64 * 7 }
}

/// What came out, of all parts of a run.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    pub fn sorted(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap().clone();
        lines.sort();
        lines
    }
    pub fn sink<T: Data + std::fmt::Debug>(&self, stream: &DataStream<T>, label: &'static str) {
        let lines = self.0.clone();
        let sink = FnSink::new(move |record: T| lines.lock().unwrap().push(format!("{label} {record:?}")));
        stream.sink_to(sink);
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    pub count: u32,
    pub last: Option<i64>,
    pub fired: u32,
}

/// All kinds of state, and timers; a line for each key at the end.
struct Kitchen {
    profile: ValueState<Profile>,
    ids: ListState<u64>,
    visits: MapState<String, u64>,
    highest: ReducingState<u64>,
    count: AggregatingState<Event, Count>,
    fresh: ValueState<u64>,
    fresh_ids: ListState<u64>,
    fresh_visits: MapState<u64, u64>,
}

impl KeyedProcessFunction<String, Event, String> for Kitchen {
    fn process(
        &mut self,
        event: Event,
        ctx: &mut KeyedContext<String>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        let (name, at) = (event.page.clone(), event.at);
        self.profile.update(ctx, |profile| {
            profile.name = name;
            profile.count += 1;
            profile.last = profile.last.max(Some(at));
        });
        self.ids.add(ctx, event.id);
        self.visits.update(ctx, format!("{} of 5", event.id % 5), |n| *n += 1);
        self.highest.add(ctx, event.id);
        self.fresh.update(ctx, |n| *n += event.id);
        self.fresh_ids.add(ctx, event.id % 3);
        self.fresh_visits.update(ctx, event.id % 4, |n| *n += 1);
        self.count.add(ctx, event);
        ctx.register_event_time_timer((at / 1_000 + 1) * 1_000);
        ctx.register_event_time_timer(END);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        if timer.time < END {
            self.profile.update(ctx, |profile| profile.fired += 1);
            return Ok(());
        }
        let mut ids = self.ids.get(ctx).to_vec();
        ids.sort();
        let visits: Vec<_> = self.visits.iter(ctx).map(|(k, v)| (k.clone(), *v)).collect();
        let fresh_visits: Vec<_> = self.fresh_visits.iter(ctx).map(|(k, v)| (*k, *v)).collect();
        let mut fresh_ids: Vec<u64> = self.fresh_ids.iter(ctx).copied().collect();
        fresh_ids.sort();
        out.emit(format!(
            "{:?} {} {:?} {visits:?} {:?} {:?} {:?} {} {fresh_visits:?}",
            self.profile.get(ctx),
            ids.len(),
            ids.iter().rev().take(5).collect::<Vec<_>>(),
            self.highest.get(ctx),
            self.count.get(ctx),
            self.fresh.get(ctx),
            fresh_ids.iter().sum::<u64>() * 10_000 + fresh_ids.len() as u64,
        ));
        Ok(())
    }
}

/// Broadcast state beside state of keys.
struct Ruled {
    rules: BroadcastState<u64, String>,
    seen: ValueState<u64>,
}

impl KeyedBroadcastProcessFunction<String, Event, u64, String> for Ruled {
    fn process(
        &mut self,
        _: Event,
        ctx: &mut KeyedContext<String>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.seen.update(ctx, |n| *n += 1);
        ctx.register_event_time_timer(END);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        rule: u64,
        ctx: &mut KeyedBroadcastContext<'_, String>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.rules.insert(ctx, rule, format!("rule {rule}"));
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let rules: Vec<&String> = self.rules.values(ctx).collect();
        out.emit(format!("{} {:?} {rules:?}", ctx.key(), self.seen.get(ctx)));
        Ok(())
    }
}

/// Builds the job: `records` events, so many in a second.
pub fn build(env: &Environment, records: u64, rate: Option<f64>, output: &Output) {
    let mut source = Generate::new(records, event);
    if let Some(rate) = rate {
        source = source.rate(rate);
    }
    let events = env
        .read(source)
        .name("events")
        .uid("events")
        .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|event: &Event| event.at));
    let by_page = events.key_by(|event| event.page.clone());
    output.sink(&by_page.count().name("rolling").uid("rolling"), "rolling");
    // Longer than fixtures get old.
    let long = StateTtl::new(Duration::from_secs(100 * 365 * 24 * 3_600));
    let kitchen = by_page.process(move |states| Kitchen {
        profile: states.value("profile"),
        ids: states.list("ids"),
        visits: states.map("visits"),
        highest: states.reducing("highest", |highest, id| *highest = id.max(*highest)),
        count: states.aggregating("count", Count),
        fresh: states.with_ttl(long).value("fresh"),
        fresh_ids: states.with_ttl(long).list("fresh ids"),
        fresh_visits: states.with_ttl(long).map("fresh visits"),
    });
    output.sink(&kitchen.name("kitchen").uid("kitchen"), "kitchen");
    let ms = Duration::from_millis;
    let tumbling = by_page.window(Tumbling::of(ms(700))).aggregate(Count);
    output.sink(&tumbling.name("tumbling").uid("tumbling"), "tumbling");
    let sliding = by_page.window(Sliding::of(ms(900), ms(300))).aggregate(Count);
    output.sink(&sliding.name("sliding").uid("sliding"), "sliding");
    let sessions = by_page.window(Sessions::with_gap(ms(40))).aggregate(Count);
    output.sink(&sessions.name("sessions").uid("sessions"), "sessions");
    let general =
        by_page.window(Tumbling::of(ms(800))).allowed_lateness(ms(100)).apply(|page, window, events, out| {
            let mut ids: Vec<u64> = events.iter().map(|event: &Event| event.id).collect();
            ids.sort();
            out.emit(format!("{page} {window:?} {ids:?}"));
        });
    output.sink(&general.name("general").uid("general"), "general");
    let odd = events.filter(|event| event.id % 2 == 1).key_by(|event| event.page.clone());
    let joined = by_page.interval_join(&odd).between(-20, 20).apply(|a, b| (a.id, b.id));
    output.sink(&joined.name("joined").uid("joined"), "joined");
    let rules = env.generate(5, |i| i).name("rules").uid("rules");
    let ruled = by_page
        .connect_broadcast(&rules)
        .process(|states| Ruled { rules: states.broadcast("rules"), seen: states.value("seen") });
    output.sink(&ruled.name("ruled").uid("ruled"), "ruled");
}

/// An environment for a part of a run: at a parallelism, from a savepoint if there is one before.
pub fn environment(parallelism: usize, from: Option<&Path>) -> Environment {
    let env = Environment::new().parallelism(parallelism);
    let env =
        env.checkpoint_storage(CheckpointStorage::Memory).checkpoint_interval(Duration::from_secs(3_600));
    match from {
        Some(path) => env.restore(Restore::Path(path.to_path_buf())),
        None => env,
    }
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
