//! The engine's side of the staged bench: jobs over more than fits into memory, and what failures cost them.

#[path = "total.rs"]
mod total;

use crate::harness::bounds::sum::last_check;
use crate::harness::data::{Event, event, long_key, long_key_id, random_text, splitmix64, tail};
use crate::harness::{Job, ProgramResult, child, measure, peers, records, report_figure, report_seconds};
use mainstem::connectors::sink::FileSink;
use mainstem::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use total::{TotalSink, environment, sums};

/// The least that a budget is divided by `--quick` to.
const BUDGET_MIN: u64 = 24 << 20;

/// Two threads in BATCH with a budget of `mib` where there are `records` of them, and with as much less as there are fewer,
/// so that a small run spills as a large one does.
fn within(mib: u64, job: &Job, records: u64) -> Environment {
    let bytes = (mib << 20) as f64 * (job.records as f64 / records as f64).min(1.0);
    environment(ExecutionMode::Batch).memory(ByteSize((bytes as u64).max(BUDGET_MIN)))
}

/// Two threads in BATCH with as much memory as any of the jobs can use.
fn in_memory() -> Environment {
    environment(ExecutionMode::Batch).memory(ByteSize(12 << 30))
}

/// The sum of each key.
fn grouped(
    job: &Job,
    env: Environment,
    key: impl Fn(u64) -> u64 + Clone + Send + Sync + 'static,
) -> ProgramResult {
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], (key, sum): (u64, i64)| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(sum as u64);
        total[2] = total[2].wrapping_add(last_check(key, sum));
    });
    env.generate(job.records, move |i| (key(i), event(i, 1).2))
        .key_by(|e| e.0)
        .sum(|e| &mut e.1)
        .sink_to(sink);
    env.execute("sums")?;
    let [outputs, sum, check] = sums(&totals);
    Ok(format!("outputs:{outputs},final-sum:{sum},check:{check}"))
}

fn uniform_key(keys: u64) -> impl Fn(u64) -> u64 + Clone + Send + Sync + 'static {
    move |i| splitmix64(i) % keys
}

/// Every other record, in no pattern, has key 0.
fn skewed_key(keys: u64) -> impl Fn(u64) -> u64 + Clone + Send + Sync + 'static {
    move |i| {
        let r = splitmix64(i);
        if r >> 63 == 0 { 0 } else { r % keys }
    }
}

/// Rows of the group by at full size.
pub const GROUP_RECORDS: u64 = 100_000_000;

pub fn group_within(job: &Job) -> ProgramResult {
    grouped(job, within(512, job, GROUP_RECORDS), uniform_key(job.keys))
}

pub fn group_in_memory(job: &Job) -> ProgramResult {
    grouped(job, in_memory(), uniform_key(job.keys))
}

/// Records of the jobs with a skewed key at full size.
pub const SKEW_RECORDS: u64 = 50_000_000;

pub fn skewed_sum(job: &Job) -> ProgramResult {
    grouped(job, within(512, job, SKEW_RECORDS), skewed_key(job.keys))
}

pub fn uniform_sum(job: &Job) -> ProgramResult {
    grouped(job, within(512, job, SKEW_RECORDS), uniform_key(job.keys))
}

/// All records of a key as an iterator: nothing can be combined, and half of all records are one group.
pub fn skewed_group(job: &Job) -> ProgramResult {
    let key = skewed_key(job.keys);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], (key, count, sum): (u64, u64, u64)| {
        total[0] += 1;
        total[1] += count;
        total[2] = total[2].wrapping_add(key.wrapping_mul(sum).wrapping_add(sum));
    });
    let env = within(256, job, SKEW_RECORDS);
    env.generate(job.records, move |i| (key(i), i))
        .key_by(|record| record.0)
        .reduce_group(|key, records| {
            let (mut count, mut sum) = (0u64, 0u64);
            records.for_each(|record| {
                count += 1;
                sum = sum.wrapping_add(record.1);
            });
            [(*key, count, sum)]
        })
        .sink_to(sink);
    env.execute("groups")?;
    let [groups, count, check] = sums(&totals);
    Ok(format!("groups:{groups},records:{count},check:{check}"))
}

/// What [`skewed_group`] has to find.
pub fn skewed_oracle(job: &Job) -> ProgramResult {
    let key = skewed_key(job.keys);
    let mut seen = vec![false; usize::try_from(job.keys)?];
    let mut check = 0u64;
    for i in 0..job.records {
        let key = key(i);
        seen[key as usize] = true;
        check = check.wrapping_add(key.wrapping_mul(i).wrapping_add(i));
    }
    let groups = seen.iter().filter(|seen| **seen).count();
    Ok(format!("groups:{groups},records:{},check:{check}", job.records))
}

/// Rows of both sides of the join at full size, and those of the right one, which has each key once.
pub const JOIN_RECORDS: u64 = 60_000_000;
/// Rows of the right side.
pub const JOIN_KEYS: u64 = 10_000_000;

fn right_value(key: u64) -> u64 {
    splitmix64(key ^ 0x0072_6967_6874)
}

fn joined_check(left: &Event, right: u64) -> u64 {
    right.wrapping_mul(left.2 as u64 | 1).wrapping_add(left.0)
}

pub fn join(job: &Job) -> ProgramResult {
    let env = within(512, job, JOIN_RECORDS);
    let (keys, lefts) = (job.keys, job.records - job.keys);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], check: u64| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(check);
    });
    let left = env.generate(lefts, move |i| event(i, keys));
    let right = env.generate(keys, |key| (key, right_value(key)));
    left.key_by(|event| event.0)
        .join(&right.key_by(|right| right.0))
        .apply(|left, right| joined_check(left, right.1))
        .sink_to(sink);
    env.execute("join")?;
    let [pairs, check] = sums(&totals);
    Ok(format!("pairs:{pairs},check:{check}"))
}

/// What [`join`] has to find: each left row has one partner, which is a function of its key.
pub fn join_oracle(job: &Job) -> ProgramResult {
    let lefts = job.records - job.keys;
    let check = (0..lefts).fold(0u64, |check, i| {
        let left = event(i, job.keys);
        check.wrapping_add(joined_check(&left, right_value(left.0)))
    });
    Ok(format!("pairs:{lefts},check:{check}"))
}

/// Rows with long keys and longer values at full size.
pub const HEAVY_RECORDS: u64 = 200_000;
/// Bytes of their values.
const HEAVY_VALUE_BYTES: usize = 10_000;

fn heavy(i: u64, keys: u64) -> (String, String) {
    (long_key(long_key_id(i, keys)), random_text(i, HEAVY_VALUE_BYTES))
}

fn heavy_check((key, value): &(String, String)) -> u64 {
    tail(key.as_bytes()).wrapping_mul(31).wrapping_add(tail(value.as_bytes()))
}

pub fn heavy_oracle(job: &Job) -> ProgramResult {
    let check = (0..job.records).fold(0u64, |check, i| check.wrapping_add(heavy_check(&heavy(i, job.keys))));
    Ok(format!("records:{},check:{check}", job.records))
}

/// A global sort by the long key.
pub fn heavy_sort(job: &Job) -> ProgramResult {
    let env = within(256, job, HEAVY_RECORDS);
    let keys = job.keys;
    let (sink, totals) =
        TotalSink::new(|(total, last, unordered): &mut ([u64; 2], String, u64), row: (String, String)| {
            total[0] += 1;
            total[1] = total[1].wrapping_add(heavy_check(&row));
            *unordered += u64::from(row.0 < *last);
            *last = row.0;
        });
    env.generate(job.records, move |i| heavy(i, keys)).sort_by(|row| row.0.clone()).sink_to(sink);
    env.execute("heavy sort")?;
    let (mut records, mut check) = (0u64, 0u64);
    for (total, _, unordered) in totals.lock().expect("no writer panics").iter() {
        if *unordered > 0 {
            return Err(format!("{unordered} rows are below the one before").into());
        }
        records += total[0];
        check = check.wrapping_add(total[1]);
    }
    Ok(format!("records:{records},check:{check}"))
}

/// All rows of each long key as an iterator.
pub fn heavy_group(job: &Job) -> ProgramResult {
    let env = within(256, job, HEAVY_RECORDS);
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (count, check): (u64, u64)| {
        total[0] += count;
        total[1] = total[1].wrapping_add(check);
    });
    env.generate(job.records, move |i| heavy(i, keys))
        .key_by(|row| row.0.clone())
        .reduce_group(|_, rows| {
            let (mut count, mut check) = (0u64, 0u64);
            rows.for_each(|row| {
                count += 1;
                check = check.wrapping_add(heavy_check(&row));
            });
            [(count, check)]
        })
        .sink_to(sink);
    env.execute("heavy groups")?;
    let [records, check] = sums(&totals);
    Ok(format!("records:{records},check:{check}"))
}

/// The sort of the example `sort_records`.
pub fn sort(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Batch).memory(ByteSize(peers::sort_bytes(job)));
    env.read(FixedSource::<{ records::RECORD_BYTES }>::new([records::path(&job.data, job.records)]))
        .sort_by(|record: &FixedBytes<{ records::RECORD_BYTES }>| {
            FixedBytes::<{ records::KEY_BYTES }>(
                *record.0.first_chunk().expect("a key is shorter than a record"),
            )
        })
        .sink_to(FileSink::bytes(&job.out).synced(false).overwrite(true));
    env.execute("sort records")?;
    Ok("sorted".into())
}

/// Numbers the records of each key, fails where it is told to, and notes when something came out.
struct Numbered {
    seen: ValueState<u64>,
    here: u64,
    fails_at: Option<u64>,
}

/// Records that the last stage has numbered, those of attempts that failed included.
static NUMBERED: AtomicU64 = AtomicU64::new(0);
static HAS_FAILED: AtomicBool = AtomicBool::new(false);
/// Since the begin of the process: when something came out, and the longest time in between after the failure.
static LAST_OUTPUT_NS: AtomicU64 = AtomicU64::new(0);
static LONGEST_GAP_NS: AtomicU64 = AtomicU64::new(0);
/// Records between two looks at the clock.
const BEAT_RECORDS: u64 = 256;

impl Numbered {
    fn beat(&self) -> UserResult {
        static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let Some(fails_at) = self.fails_at else { return Ok(()) };
        let now = STARTED.elapsed().as_nanos() as u64;
        let gap = now.saturating_sub(LAST_OUTPUT_NS.swap(now, Ordering::Relaxed));
        if HAS_FAILED.load(Ordering::Relaxed) {
            LONGEST_GAP_NS.fetch_max(gap, Ordering::Relaxed);
        }
        let before = NUMBERED.fetch_add(BEAT_RECORDS, Ordering::Relaxed);
        if before + BEAT_RECORDS >= fails_at && !HAS_FAILED.swap(true, Ordering::Relaxed) {
            return Err("the failure that this bench is about".into());
        }
        Ok(())
    }
}

impl KeyedProcessFunction<u64, (u64, u64), (u64, u64)> for Numbered {
    fn process(
        &mut self,
        (key, value): (u64, u64),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let nth = self.seen.update(ctx, |seen| {
            *seen += 1;
            *seen
        });
        self.here += 1;
        if self.here.is_multiple_of(BEAT_RECORDS) {
            self.beat()?;
        }
        out.emit((splitmix64(key ^ value), nth));
        Ok(())
    }
}

/// Two shuffles that cannot combine, the last stage of which numbers the records of each key.
fn two_shuffles(job: &Job, env: &Environment, fails_at: Option<u64>) -> DataStream<(u64, u64)> {
    let keys = job.keys;
    let numbered =
        move |fails_at| move |states: &mut States| Numbered { seen: states.value("seen"), here: 0, fails_at };
    env.generate(job.records, move |i| (splitmix64(i) % keys, i))
        .key_by(|record| record.0)
        .process(numbered(None))
        .key_by(move |record| record.0 % keys)
        .process(numbered(fails_at))
}

fn two_shuffles_total(job: &Job, fails_at: Option<u64>) -> ProgramResult {
    let env = within(1024, job, FAILURE_RECORDS)
        .restart_strategy(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO });
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (value, nth): (u64, u64)| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(value.wrapping_mul(31).wrapping_add(nth));
    });
    two_shuffles(job, &env, fails_at).sink_to(sink);
    env.execute("two shuffles")?;
    if fails_at.is_some() && !HAS_FAILED.load(Ordering::Relaxed) {
        return Err("the job did not fail".into());
    }
    let [outputs, check] = sums(&totals);
    Ok(format!("outputs:{outputs},check:{check}"))
}

/// Records of the jobs that fail at full size.
pub const FAILURE_RECORDS: u64 = 40_000_000;

pub fn undisturbed(job: &Job) -> ProgramResult {
    two_shuffles_total(job, None)
}

/// Fails at 90 % of the last stage.
pub fn failure(job: &Job) -> ProgramResult {
    two_shuffles_total(job, Some(job.records / 10 * 9))
}

/// As [`failure`]: reports the longest time without output after the failure.
pub fn failure_gap(job: &Job) -> ProgramResult {
    let result = failure(job)?;
    report_seconds(Duration::from_nanos(LONGEST_GAP_NS.load(Ordering::Relaxed)).as_secs_f64());
    Ok(result)
}

/// The jobs that are killed: in `out/job`, from where they are resumed if it is there.
fn resumable(job: &Job) -> Environment {
    let env = within(1024, job, FAILURE_RECORDS);
    let dir = job.out.join("job");
    if dir.exists() { env.resume(dir) } else { env.job_dir(dir) }
}

/// Most of it is behind shuffles.
pub fn resumed_shuffles(job: &Job) -> ProgramResult {
    let env = resumable(job);
    two_shuffles(job, &env, None)
        .filter(|record| record.0 % 64 == 0)
        .sink_to(CsvSink::csv(job.out.join("result")).overwrite(true));
    env.execute("two shuffles")?;
    Ok("done".into())
}

/// Most of it is the stage of the source.
pub fn resumed_sum(job: &Job) -> ProgramResult {
    let env = resumable(job);
    let keys = job.keys / 100;
    env.generate(job.records, move |i| {
        // A record that costs something, as one that is read and parsed does.
        let spread = (0..32).fold(i, |x, _| splitmix64(x));
        (splitmix64(i) % keys, spread >> 40)
    })
    .key_by(|record| record.0)
    .sum(|record| &mut record.1)
    .sink_to(CsvSink::csv(job.out.join("result")).overwrite(true));
    env.execute("sums")?;
    Ok("done".into())
}

/// Runs a job undisturbed, and once more with a kill at 70 % of the CPU time and a resume: reports the ratio of the CPU times.
fn killed_and_resumed(job: &Job, program: &str) -> ProgramResult {
    let clear = |dir: &Path| match dir.exists() {
        true => std::fs::remove_dir_all(dir),
        false => Ok(()),
    };
    let run = |kill_at| measure::cpu_time(&mut child(program, job)?, kill_at);
    let undisturbed = run(None)?;
    let wanted = crate::harness::digest::of_lines(&job.out.join("result"))?;
    clear(&job.out.join("result"))?;
    clear(&job.out.join("job"))?;
    let killed = run(Some(undisturbed.mul_f64(0.7)))?;
    let resumed = run(None)?;
    let found = crate::harness::digest::of_lines(&job.out.join("result"))?;
    if found != wanted {
        return Err(format!("resumed, it left {found}; undisturbed {wanted}").into());
    }
    let [undisturbed, killed, resumed] = [undisturbed, killed, resumed].map(|time| time.as_secs_f64());
    eprintln!("  CPU: undisturbed {undisturbed:.2} s, killed after {killed:.2} s, resumed {resumed:.2} s");
    report_figure((killed + resumed) / undisturbed);
    Ok(found.replace(' ', "-"))
}

pub fn resume_shuffles(job: &Job) -> ProgramResult {
    killed_and_resumed(job, "resumed-shuffles")
}

pub fn resume_sum(job: &Job) -> ProgramResult {
    killed_and_resumed(job, "resumed-sum")
}
