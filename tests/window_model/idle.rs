//! W5, W6: sources of several splits, some of which have nothing to say for long: final results are those of BATCH, and
//! windows do not wait for them.

use crate::cases::{Case, Function, sliceable};
use crate::definition::Rec;
use crate::differential::expected;
use crate::engine::{self, Row, Wanted, Way};
use crate::random::Random;
use mainstem::base::clock::Clock;
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A split: records in parts, with a pause before each.
type Parts = Vec<(Duration, Vec<Rec>)>;

/// Reads all its splits at once, or each in a subtask of its own.
struct Paused {
    splits: Vec<Parts>,
    boundedness: Boundedness,
}

struct PausedReader {
    /// The next part last.
    parts: Parts,
    due: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Source for Paused {
    type Item = Rec;
    type Split = u64;
    type Reader = PausedReader;

    fn describe(&self) -> String {
        "paused".into()
    }
    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }
    fn splits(&self, _: &SourceContext) -> mainstem::Result<Vec<u64>> {
        Ok((0..self.splits.len() as u64).collect())
    }
    fn open(&self, split: u64, ctx: &SourceContext) -> mainstem::Result<PausedReader> {
        let parts = self.splits[split as usize].iter().rev().cloned().collect();
        Ok(PausedReader { parts, due: None, clock: ctx.clock.clone() })
    }
}

impl SplitReader for PausedReader {
    type Item = Rec;
    type Split = u64;

    fn poll(&mut self, out: &mut SourceOutput<Rec>) -> mainstem::Result<Poll> {
        let Some((pause, records)) = self.parts.last() else { return Ok(Poll::End) };
        let now = self.clock.monotonic();
        let due = *self.due.get_or_insert(now + *pause);
        if now < due {
            return Ok(Poll::Idle(Some(due - now)));
        }
        records.iter().for_each(|record| out.emit(record.clone()));
        self.parts.pop();
        self.due = None;
        Ok(Poll::More)
    }
    fn position(&self) -> u64 {
        0
    }
}

struct Idle {
    case: Case,
    splits: Vec<Parts>,
}

/// Records of several splits, in order but for the disorder that the strategy expects; `idle_records` says whether those
/// that pause have any.
fn idle_case(seed: u64, idle_records: bool, pause: Duration) -> Idle {
    let mut random = Random::new(seed);
    let mut definition = sliceable(&mut random);
    definition.late_output = false;
    definition.lateness = if idle_records { 1 << 40 } else { 0 };
    let splits: Vec<Parts> = (0..2 + random.below(3))
        .map(|split| {
            let pauses = split == 0 || random.one_in(2);
            let length = if pauses && !idle_records { 0 } else { random.below(60) };
            let mut now = random.below(50) as i64 - 100;
            let records: Vec<Rec> = (0..length)
                .map(|_| {
                    now += random.below(9) as i64;
                    let (key, value) = (random.below(4) as u8, random.below(40) as i64);
                    Rec { key, value, at: now - random.below(6) as i64, mark: None }
                })
                .collect();
            let (before, after) = records.split_at(random.below(records.len() + 1));
            let pause = if pauses { pause } else { Duration::ZERO };
            vec![(Duration::ZERO, before.to_vec()), (pause, after.to_vec())]
        })
        .collect();
    let arrivals = splits.iter().flatten().flat_map(|(_, records)| records.clone()).collect();
    Idle { case: Case { definition, function: Function::Aggregate, arrivals }, splits }
}

/// The last result of each window: the one with the most records.
fn finals(rows: Vec<Row>) -> Vec<Row> {
    let mut last: BTreeMap<(u8, i64, i64), Row> = BTreeMap::new();
    for row in rows {
        let known = last.entry((row.0, row.1, row.2)).or_insert_with(|| row.clone());
        if row.4 > known.4 {
            *known = row;
        }
    }
    last.into_values().collect()
}

fn check(idle: &Idle, way: &Way, together: bool, idle_after: Duration) -> Result<(), String> {
    let env = Environment::new()
        .execution_mode(way.mode)
        .driver(way.driver)
        .parallelism(way.parallelism)
        .auto_watermark_interval(Duration::from_millis(1));
    let boundedness = if together { Boundedness::Unbounded } else { Boundedness::Bounded };
    let readers = if together { 1 } else { idle.splits.len() };
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(6))
        .timestamp(|record: &Rec| record.at)
        .idle_after(idle_after);
    let source = env.read(Paused { splits: idle.splits.clone(), boundedness }).parallelism(readers);
    let stream = source.assign_timestamps(strategy).parallelism(readers);
    let found = engine::run_on(&env, &stream, &idle.case, way).map_err(|e| e.to_string())?;
    let (found_rows, wanted) = (finals(found.rows), finals(expected(&idle.case, true).rows));
    match (found_rows == wanted, found.dropped) {
        (true, 0) => Ok(()),
        _ => Err(format!("found {found_rows:?}\nexpected {wanted:?}\ndropped {}", found.dropped)),
    }
}

/// Splits that say nothing until all others have ended; and splits that pause and come back behind the others, for
/// windows that take late records.
#[test]
fn w5_w6_idle_splits_change_no_final_result() {
    for seed in 1..=120 {
        let comes_back = seed % 2 == 0;
        let mut random = Random::new(seed);
        // Nobody is idle by accident: a simulated second passes only when all wait.
        let idle = idle_case(seed, comes_back, Duration::from_secs(60));
        for wanted in [Wanted::Plain, Wanted::General] {
            for together in [false, true] {
                let driver = Driver::Simulation { seed: random.next() };
                let parallelism = 1 + random.below(4);
                let (mode, memory) = (ExecutionMode::Streaming, ByteSize::mib(8));
                let way = Way { mode, driver, parallelism, memory, wanted };
                if let Err(failed) = check(&idle, &way, together, Duration::from_secs(10)) {
                    panic!(
                        "{failed}\nseed {seed}, {way:?}, together: {together}\n{:#?}\n{:?}",
                        idle.case, idle.splits
                    );
                }
            }
        }
    }
}

/// The same with threads and their clock, and in BATCH.
#[test]
fn w5_w6_idle_splits_with_threads() {
    for seed in 1..=8 {
        let idle = idle_case(2 * seed, true, Duration::from_millis(60));
        for (mode, together) in [
            (ExecutionMode::Streaming, true),
            (ExecutionMode::Streaming, false),
            (ExecutionMode::Batch, false),
        ] {
            let (driver, memory, wanted) = (Driver::Threads, ByteSize::mib(8), Wanted::Plain);
            let way = Way { mode, driver, parallelism: 1 + seed as usize % 4, memory, wanted };
            if let Err(failed) = check(&idle, &way, together, Duration::from_millis(10)) {
                panic!(
                    "{failed}\nseed {seed}, {way:?}, together: {together}\n{:#?}\n{:?}",
                    idle.case, idle.splits
                );
            }
        }
    }
}
