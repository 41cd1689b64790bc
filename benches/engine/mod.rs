//! The engine's side of the spine bench: each workload as a user would write it.

mod folds;
mod total;

use crate::harness::bounds::maps::Totals;
use crate::harness::bounds::sum::last_check;
use crate::harness::data::{
    Event, event, long_key, long_key_id, long_row_check, long_value, maps_fold, maps_keep, maps_spread,
};
use crate::harness::{Job, ProgramResult, words};
use folds::SumAndCount;
use mainstem::prelude::*;
use std::time::Duration;
use total::{TotalSink, environment, sums};

fn word_counts(job: &Job, env: &Environment) -> DataStream<(KeyString, u64)> {
    env.read(TextSource::path(words::path(&job.data, job.records)))
        .flat_map(|line, out| mainstem::text::words(&line).for_each(|word| out.emit(KeyString::from(word))))
        .key_by(|word| word.clone())
        .count()
}

pub fn word_count_batch(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Batch);
    let counts = word_counts(job, &env);
    counts.sink_to(CsvSink::csv(&job.out).overwrite(true));
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (_, count): (KeyString, u64)| {
        total[0] += count;
        total[1] += 1;
    });
    counts.sink_to(sink);
    env.execute("word count")?;
    let [words, distinct] = sums(&totals);
    Ok(format!("words:{words},distinct:{distinct}"))
}

pub fn word_count_streaming(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (_, count): (KeyString, u64)| {
        total[0] += 1;
        total[1] += (count == 1) as u64;
    });
    word_counts(job, &env).sink_to(sink);
    env.execute("word count")?;
    let [words, distinct] = sums(&totals);
    Ok(format!("words:{words},distinct:{distinct}"))
}

pub fn running_sum_streaming(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (_, (_, count)): (u64, (i64, u64))| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(count);
    });
    env.generate(job.records, move |i| event(i, keys)).key_by(|e| e.0).aggregate(SumAndCount).sink_to(sink);
    env.execute("running sum")?;
    let [outputs, counts] = sums(&totals);
    Ok(format!("outputs:{outputs},running-counts:{counts}"))
}

pub fn last_sum_batch(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Batch);
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], (key, sum): (u64, i64)| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(sum as u64);
        total[2] = total[2].wrapping_add(last_check(key, sum));
    });
    env.generate(job.records, move |i| event(i, keys))
        .map(|e| (e.0, e.2))
        .key_by(|e| e.0)
        .sum(|e| &mut e.1)
        .sink_to(sink);
    env.execute("last sum")?;
    let [outputs, sum, check] = sums(&totals);
    Ok(format!("outputs:{outputs},final-sum:{sum},check:{check}"))
}

struct RunningSum {
    state: ValueState<(i64, u64)>,
}

impl KeyedProcessFunction<u64, Event, (i64, u64)> for RunningSum {
    fn process(
        &mut self,
        event: Event,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (i64, u64)>,
    ) -> UserResult {
        let result = self.state.update(ctx, |state| {
            state.0 += event.2;
            state.1 += 1;
            *state
        });
        out.emit(result);
        Ok(())
    }
}

fn process_sum(job: &Job, env: Environment) -> ProgramResult {
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (_, count): (i64, u64)| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(count);
    });
    env.generate(job.records, move |i| event(i, keys))
        .key_by(|e| e.0)
        .process(|states| RunningSum { state: states.value("sum and count") })
        .sink_to(sink);
    env.execute("running sum as a process")?;
    let [outputs, counts] = sums(&totals);
    Ok(format!("outputs:{outputs},running-counts:{counts}"))
}

pub fn process_sum_batch(job: &Job) -> ProgramResult {
    process_sum(job, environment(ExecutionMode::Batch).memory(ByteSize::mib(512)))
}

pub fn process_sum_streaming(job: &Job) -> ProgramResult {
    process_sum(job, environment(ExecutionMode::Streaming))
}

struct CountRows {
    rows: ValueState<u64>,
}

impl KeyedProcessFunction<String, (String, String), u64> for CountRows {
    fn process(
        &mut self,
        (key, value): (String, String),
        ctx: &mut KeyedContext<String>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        let nth = self.rows.update(ctx, |rows| {
            *rows += 1;
            *rows
        });
        out.emit(nth);
        out.emit(long_row_check(key.as_bytes(), value.as_bytes(), nth));
        Ok(())
    }
}

pub fn long_rows_batch(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Batch).memory(ByteSize::mib(256));
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], number: u64| {
        // Numbers come in pairs: the row's number within its key, then its check.
        if total[0].is_multiple_of(2) {
            total[1] = total[1].wrapping_add(number);
        } else {
            total[2] = total[2].wrapping_add(number);
        }
        total[0] += 1;
    });
    env.generate(job.records, move |i| {
        let value = String::from_utf8(long_value(i)).unwrap_or_default();
        (long_key(long_key_id(i, keys)), value)
    })
    .key_by(|row| row.0.clone())
    .process(|states| CountRows { rows: states.value("rows") })
    .sink_to(sink);
    env.execute("long rows")?;
    let [numbers, counts, check] = sums(&totals);
    Ok(format!("outputs:{},running-counts:{counts},check:{check}", numbers / 2))
}

fn maps(job: &Job, mode: ExecutionMode) -> ProgramResult {
    let env = environment(mode);
    let (sink, totals) = TotalSink::new(Totals::add);
    env.generate(job.records, |i| i).map(maps_spread).filter(|x| maps_keep(*x)).map(maps_fold).sink_to(sink);
    env.execute("maps")?;
    let mut all = Totals::default();
    totals.lock().expect("no writer panics").iter().for_each(|totals| all.merge(totals));
    Ok(all.line())
}

pub fn maps_streaming(job: &Job) -> ProgramResult {
    maps(job, ExecutionMode::Streaming)
}

pub fn maps_batch(job: &Job) -> ProgramResult {
    maps(job, ExecutionMode::Batch)
}

fn empty(mode: ExecutionMode) -> ProgramResult {
    let env = environment(mode);
    env.generate(0, |i| i).key_by(|i| *i).count().sink_to(DiscardSink);
    env.execute("empty")?;
    Ok("empty".into())
}

pub fn empty_streaming(_job: &Job) -> ProgramResult {
    empty(ExecutionMode::Streaming)
}

pub fn empty_batch(_job: &Job) -> ProgramResult {
    empty(ExecutionMode::Batch)
}

/// An endless generator into a sink that takes a millisecond per record, for `records` seconds.
pub fn slow_sink(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    env.read(Generate::unbounded(|i| (i, "x".repeat(100))))
        .rebalance()
        .map(|record| record)
        .sink_to(FnSink::new(|_: (u64, String)| std::thread::sleep(Duration::from_millis(1))));
    let client = env.execute_async("slow sink")?;
    std::thread::sleep(Duration::from_secs(job.records));
    client.cancel();
    match client.result() {
        Err(mainstem::Error::Cancelled) => Ok("cancelled".into()),
        Ok(_) => Err("the endless job ended".into()),
        Err(e) => Err(e.into()),
    }
}
