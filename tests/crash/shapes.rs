//! Shapes: the jobs that are killed, corrupted and starved. One function builds each, whoever runs it.

use crate::data::{KEYS, Rec, WINDOW_MS, mixed, record};
use crate::rows::Row;
use crate::two_phase::TwoPhase;
use mainstem::connectors::sink::RollingPolicy;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Shape {
    /// A rolling fold and tumbling windows, each into a file sink.
    Files,
    /// Timers of both domains in a keyed process, into a file sink.
    Timers,
    /// A rolling fold into a sink with transactions.
    TwoPhase,
    /// BATCH: two shuffles with spills, into a file sink.
    Batch,
    /// A source without end, five stages, and a sink that takes a millisecond for a record and now and then a second.
    Slow,
}

/// Processing time between a record and its timer.
const PROCESSING_DELAY_MS: i64 = 15;
/// Bytes that each record of the batch drags along, so that the shuffle spills.
const BALLAST: usize = 96;

impl Shape {
    /// Adds the job that writes its rows below `out`. `rate`: records a second, if they are not made as fast as they
    /// are taken. `first` is called with the first record of each subtask.
    pub fn build(
        self,
        env: &Environment,
        records: u64,
        rate: Option<f64>,
        out: &Path,
        first: impl FnOnce() + Clone + Send + 'static,
    ) {
        match self {
            Shape::Files => {
                let records = source(env, records, rate, first);
                let keyed = records.key_by(|r| r.key);
                let rolling = records.map(Total::of).key_by(|t| t.key).reduce(Total::add).uid("rolling");
                let small = RollingPolicy::default().max_bytes(20_000).rollover(Duration::from_millis(150));
                let rows = TextSink::text(out.join("rolling")).rolling(small);
                rolling.map(|t| t.row()).sink_to(rows).uid("rolling sink");
                let windows = keyed.window(Tumbling::of(Duration::from_millis(WINDOW_MS as u64)));
                let sums = windows.aggregate(SumSeq).uid("windows");
                sums.map(|w| Row::new('w', w.key, w.window.start, w.value).to_string())
                    .sink_to(
                        TextSink::text(out.join("windows"))
                            .rolling(small.rollover(Duration::from_millis(30))),
                    )
                    .uid("window sink");
            }
            Shape::Timers => {
                let keyed = source(env, records, rate, first).key_by(|r| r.key);
                keyed
                    .process(|states| Timed {
                        event: states.map("event"),
                        processing: states.map("processing"),
                        ballast: states.value("ballast"),
                    })
                    .uid("timers")
                    .sink_to(TextSink::text(out.join("timers")))
                    .uid("timer sink");
            }
            Shape::TwoPhase => {
                let keyed = source(env, records, rate, first).map(Total::of).key_by(|t| t.key);
                let rolling = keyed.reduce(Total::add).uid("rolling");
                rolling.map(|t| t.row()).sink_to(TwoPhase::new(out)).uid("two-phase sink");
            }
            Shape::Slow => {
                let endless = source(env, u64::MAX, rate, first);
                let stages = (0..4).fold(endless, |stage, _| stage.rebalance().map(|r| r));
                stages.rebalance().sink_to(FnSink::new(|r: Rec| {
                    let stall = if r.index() % 5_000 == 4_999 { 1_000 } else { 1 };
                    std::thread::sleep(Duration::from_millis(stall));
                }));
            }
            Shape::Batch => {
                let heavy = env.generate(records, |i| (record(i), "x".repeat(BALLAST)));
                let first = heavy
                    .key_by(|(r, _)| mixed(r.index()) % 5_003)
                    .process(|states| Numbered { number: states.value("number") });
                first
                    .key_by(|r| r.key)
                    .map_with_state(|r: Rec, state: Option<(u64, u64)>| {
                        let (count, sum) = state.unwrap_or_default();
                        let state = (count + 1, sum + r.seq);
                        ((r.key, state), Some(state))
                    })
                    .key_by(|(key, _)| *key)
                    .max_by(|(_, (count, _))| count)
                    .map(|(key, (count, sum))| Row::new('b', key, 0, format!("{count} {sum}")).to_string())
                    .sink_to(TextSink::text(out.join("batch")));
            }
        }
    }

    /// Every row that must be there: those of a kind and key in their order.
    pub fn expected(self, records: u64) -> Vec<Row> {
        let all = || (0..records).map(record);
        let mut rows = Vec::new();
        if matches!(self, Shape::Files | Shape::TwoPhase) {
            let mut totals = vec![(0, 0); KEYS as usize];
            for r in all() {
                let (count, sum) = &mut totals[r.key as usize];
                (*count, *sum) = (*count + 1, *sum + r.seq);
                rows.push(Total { key: r.key, seq: r.seq, count: *count, sum: *sum }.as_row());
            }
        }
        if self == Shape::Files {
            let mut windows = std::collections::BTreeMap::new();
            for r in all() {
                let start = r.timestamp().div_euclid(WINDOW_MS) * WINDOW_MS;
                *windows.entry((start, r.key)).or_insert(0) += r.seq;
            }
            rows.extend(windows.into_iter().map(|((start, key), sum)| Row::new('w', key, start, sum)));
        }
        if self == Shape::Timers {
            let mut timers = std::collections::BTreeSet::new();
            for r in all() {
                timers.insert((r.timer(), r.key, r.seq));
                if r.deletes_the_timer_before() {
                    let before = Rec { seq: r.seq - 1, ..r };
                    timers.remove(&(before.timer(), before.key, before.seq));
                }
            }
            rows.extend(timers.into_iter().map(|(time, key, seq)| Row::new('t', key, time, seq)));
            let processing = all().filter(|r| r.has_processing_timer());
            rows.extend(processing.map(|r| Row::new('p', r.key, r.seq as i64, "fired")));
        }
        if self == Shape::Batch {
            let mut totals = vec![(0, 0); KEYS as usize];
            for r in all() {
                let (count, sum) = &mut totals[r.key as usize];
                (*count, *sum) = (*count + 1, *sum + r.seq);
            }
            let rows_of = totals.into_iter().zip(0..).filter(|((count, _), _)| *count > 0);
            rows.extend(rows_of.map(|((count, sum), key)| Row::new('b', key, 0, format!("{count} {sum}"))));
        }
        rows
    }

    pub fn mode(self) -> ExecutionMode {
        if self == Shape::Batch { ExecutionMode::Batch } else { ExecutionMode::Streaming }
    }
}

fn source(
    env: &Environment,
    records: u64,
    rate: Option<f64>,
    first: impl FnOnce() + Clone + Send + 'static,
) -> DataStream<Rec> {
    let mut source = Generate::new(records, record);
    if let Some(rate) = rate {
        source = source.rate(rate);
    }
    let in_order = WatermarkStrategy::monotonous().timestamp(|r: &Rec| r.timestamp());
    let mut first = Some(first);
    let records = env.read(source).uid("records").assign_timestamps(in_order);
    records.map(move |r| {
        if let Some(first) = first.take() {
            first();
        }
        r
    })
}

/// What was folded of a key so far, with the record folded last.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Total {
    key: u64,
    seq: u64,
    count: u64,
    sum: u64,
}

impl Total {
    fn of(r: Rec) -> Total {
        Total { key: r.key, seq: r.seq, count: 1, sum: r.seq }
    }
    fn add(&mut self, other: Total) {
        *self = Total {
            key: self.key,
            seq: other.seq,
            count: self.count + other.count,
            sum: self.sum + other.sum,
        };
    }
    fn as_row(&self) -> Row {
        Row::new('r', self.key, self.seq as i64, format!("{} {}", self.count, self.sum))
    }
    fn row(&self) -> String {
        self.as_row().to_string()
    }
}

#[derive(Clone)]
struct SumSeq;

impl Aggregator<Rec> for SumSeq {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 {
        0
    }
    fn add(&self, sum: &mut u64, r: Rec) {
        *sum += r.seq;
    }
    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }
    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// Registers and deletes timers of both domains and tells which fired.
struct Timed {
    event: MapState<i64, u64>,
    processing: MapState<i64, Vec<u64>>,
    /// So much that a snapshot does not fit into the metadata of its checkpoint; ends with the number of the last record.
    ballast: ValueState<String>,
}

fn ballast(seq: u64) -> String {
    format!("{}{seq}", "b".repeat(1_000 + (seq % 700) as usize))
}

impl KeyedProcessFunction<u64, Rec, String> for Timed {
    fn process(
        &mut self,
        r: Rec,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let before = self.ballast.get(ctx).cloned();
        if before != r.seq.checked_sub(1).map(ballast) {
            out.emit(format!("record {} of key {} comes behind {before:?}", r.seq, r.key));
        }
        self.ballast.set(ctx, ballast(r.seq));
        ctx.register_event_time_timer(r.timer());
        self.event.insert(ctx, r.timer(), r.seq);
        if r.deletes_the_timer_before() {
            ctx.delete_event_time_timer(Rec { seq: r.seq - 1, ..r }.timer());
        }
        if r.has_processing_timer() {
            let due = ctx.processing_time() + PROCESSING_DELAY_MS;
            ctx.register_processing_time_timer(due);
            let mut seqs = self.processing.get(ctx, &due).cloned().unwrap_or_default();
            seqs.push(r.seq);
            self.processing.insert(ctx, due, seqs);
        }
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let key = *ctx.key();
        match timer.domain {
            TimeDomain::Event => {
                let seq = self.event.remove(ctx, &timer.time).map_or("unknown".into(), |seq| seq.to_string());
                out.emit(Row::new('t', key, timer.time, seq).to_string());
            }
            TimeDomain::Processing => {
                for seq in self.processing.remove(ctx, &timer.time).unwrap_or_default() {
                    out.emit(Row::new('p', key, seq as i64, "fired").to_string());
                }
            }
        }
        Ok(())
    }
}

/// Passes records on; its state is what makes the shuffle before it one that cannot combine.
struct Numbered {
    number: ValueState<u64>,
}

impl KeyedProcessFunction<u64, (Rec, String), Rec> for Numbered {
    fn process(
        &mut self,
        (r, ballast): (Rec, String),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        self.number.update(ctx, |n| *n += 1);
        if ballast.len() == BALLAST {
            out.emit(r);
        }
        Ok(())
    }
}
