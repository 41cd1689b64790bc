//! Modes: one program, the same records, STREAMING and BATCH.

use super::probe::Probe;
use super::reasons::{Disagreement, Evidence, reasons};
use super::script::{Script, ScriptedSource};
use crate::api::{DataStream, Environment};
use crate::base::codec;
use crate::base::config::{Driver, ExecutionMode};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::Result;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

/// Parallelisms that a program is run at.
const PARALLELISMS: [usize; 3] = [1, 2, 3];
/// Schedules of each STREAMING run: seeds of a simulation.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Results that a report shows of each kind.
const SHOWN: usize = 10;

/// What a program has given in each mode, by [`both_modes`].
#[derive(Clone, Debug, PartialEq)]
pub struct BothModes<T> {
    /// The results of STREAMING.
    pub streaming: Vec<T>,
    /// The results of BATCH.
    pub batch: Vec<T>,
}

/// Runs a program in both modes, at parallelism 1, over records with timestamps.
///
/// The records come in the given order, in STREAMING with the best watermarks that there are: behind each one, the
/// lowest timestamp of those that follow, less one millisecond. So windows and timers fire on the way, and nothing is
/// late, unless the program makes watermarks of its own.
///
/// # Errors
/// The failure of a run.
///
/// ```
/// use mainstem::prelude::*;
/// use mainstem::testing::both_modes;
/// let counts = |words: DataStream<String>| words.key_by(|word| word.clone()).count().map(|(_, n)| n);
/// let words = ["to", "be", "to"].map(String::from);
/// let mut both = both_modes(counts, words.into_iter().zip(1..))?;
/// both.batch.sort();
/// assert_eq!((both.streaming, both.batch), (vec![1, 1, 2], vec![1, 2]));
/// # Ok::<(), mainstem::Error>(())
/// ```
pub fn both_modes<In: Data + Sync, Out: Data>(
    program: impl Fn(DataStream<In>) -> DataStream<Out>,
    records: impl IntoIterator<Item = (In, Timestamp)>,
) -> Result<BothModes<Out>> {
    let script = script(records.into_iter().collect());
    let run = |mode| run(&program, &script, mode, 1, 1).map(|run| run.results);
    Ok(BothModes { streaming: run(ExecutionMode::Streaming)?, batch: run(ExecutionMode::Batch)? })
}

/// Runs a program in both modes at several parallelisms, in STREAMING with several schedules, over records as in
/// [`both_modes`], and asserts that all runs give the same results, in whatever order: compared as they are encoded.
/// Returns the results of BATCH at parallelism 1.
///
/// The modes may differ, by their nature, only in this:
///
/// - a rolling operator (`reduce`, `count`, `sum`, ...) emits an updated result for each record in STREAMING, and one
///   final result for each key in BATCH: use [`assert_same_final_results`]. An operator with state behind it sees them
///   all, or the last;
/// - records may be late in STREAMING (here only if the program has a watermark strategy), and never in BATCH;
/// - processing time passes in STREAMING and stands still in BATCH, where its timers fire at the end of their key;
/// - records come to operators as they arrive in STREAMING, and in BATCH, behind `key_by`, by timestamp: functions that
///   depend on the order, count windows, and joins of streams without regard to event time differ. Records in the
///   order of distinct timestamps come to one keyed operator in the same order here;
/// - user code that reads the watermark sees it rise in STREAMING; in BATCH it is at its minimum until the end of a
///   key;
/// - windows that fire early or more than once do so in STREAMING; in BATCH only the last firing is seen.
///
/// # Panics
/// If results differ, telling which are missing and which are in excess, and why, as far as can be told: rolling results,
/// records that were late, and by which operator, a function that depends on order; if a run fails.
#[track_caller]
pub fn assert_same_in_both_modes<In: Data + Sync, Out: Data + Debug>(
    program: impl Fn(DataStream<In>) -> DataStream<Out>,
    records: impl IntoIterator<Item = (In, Timestamp)>,
) -> Vec<Out> {
    match compare(&program, records, |results| results, |_, _| None) {
        Ok(Ok(results)) => results,
        Ok(Err(differs)) => panic!("{differs}"),
        Err(e) => panic!("the program failed: {e}"),
    }
}

/// As [`assert_same_in_both_modes`], of the last result of each key: for programs that end in a rolling operator.
///
/// # Panics
/// As [`assert_same_in_both_modes`].
///
/// ```
/// use mainstem::prelude::*;
/// use mainstem::testing::assert_same_final_results;
/// let words = ["to", "be", "or", "not", "to", "be"].map(String::from);
/// let counts = assert_same_final_results(
///     |words: DataStream<String>| words.key_by(|word| word.clone()).count(),
///     words.into_iter().zip(1..),
///     |(word, _)| word.clone(),
/// );
/// assert_eq!(counts.len(), 4);
/// ```
#[track_caller]
pub fn assert_same_final_results<In: Data + Sync, Out: Data + Debug, K: Key + Debug>(
    program: impl Fn(DataStream<In>) -> DataStream<Out>,
    records: impl IntoIterator<Item = (In, Timestamp)>,
    key: impl Fn(&Out) -> K,
) -> Vec<Out> {
    let last = |results: Vec<Out>| {
        let last: BTreeMap<K, Out> = results.into_iter().map(|result| (key(&result), result)).collect();
        last.into_values().collect()
    };
    let disagreement = |first: &[Out], second: &[Out]| {
        let mut others = second.iter().map(|result| (key(result), result)).collect::<BTreeMap<K, &Out>>();
        first.iter().find_map(|result| {
            let key = key(result);
            let (here, there) = (format!("{result:?}"), format!("{:?}", others.remove(&key)?));
            (here != there).then(|| (format!("{key:?}"), here, there))
        })
    };
    match compare(&program, records, last, disagreement) {
        Ok(Ok(results)) => results,
        Ok(Err(differs)) => panic!("{differs}"),
        Err(e) => panic!("the program failed: {e}"),
    }
}

/// The records of one split, with a perfect watermark behind each.
fn script<T>(records: Vec<(T, Timestamp)>) -> Script<T> {
    let mut lowest = Timestamp::MAX;
    let mut following: Vec<Timestamp> = Vec::with_capacity(records.len());
    for (_, timestamp) in records.iter().rev() {
        following.push(lowest);
        lowest = lowest.min(*timestamp);
    }
    let mut script = Script::new();
    let mut promised = WATERMARK_MIN;
    for ((value, timestamp), next) in records.into_iter().zip(following.into_iter().rev()) {
        script = script.record_at(value, timestamp);
        let watermark = next.saturating_sub(1);
        // Behind the last record comes the end.
        if watermark > promised && next < Timestamp::MAX {
            promised = watermark;
            script = script.watermark(watermark);
        }
    }
    script
}

fn run<In: Data + Sync, Out: Data>(
    program: &impl Fn(DataStream<In>) -> DataStream<Out>,
    script: &Script<In>,
    mode: ExecutionMode,
    parallelism: usize,
    seed: u64,
) -> Result<Run<Out>> {
    let driver = Driver::Simulation { seed };
    let env = Environment::new().execution_mode(mode).parallelism(parallelism).driver(driver);
    // One subtask reads: records with the same key keep their order.
    let records = env.read(ScriptedSource::new([script.clone()])).parallelism(1);
    let probe = Probe::on(&program(records));
    let evidence = Evidence::planned(&env)?;
    let evidence = evidence.ran(&env.execute("both modes")?);
    Ok(Run { results: probe.take(), evidence })
}

/// What one run gave.
struct Run<T> {
    results: Vec<T>,
    evidence: Evidence,
}

/// Encodings of results, with one result and the number of them.
pub(super) type Multiset<T> = BTreeMap<Vec<u8>, (T, usize)>;

fn multiset<T: Data>(results: Vec<T>) -> Result<Multiset<T>> {
    let mut set: Multiset<T> = BTreeMap::new();
    for result in results {
        let mut bytes = Vec::new();
        codec::encode(&result, &mut bytes)?;
        set.entry(bytes).or_insert((result, 0)).1 += 1;
    }
    Ok(set)
}

/// The results of BATCH at parallelism 1, or how another run differs from it.
fn compare<In: Data + Sync, Out: Data + Debug>(
    program: &impl Fn(DataStream<In>) -> DataStream<Out>,
    records: impl IntoIterator<Item = (In, Timestamp)>,
    finals: impl Fn(Vec<Out>) -> Vec<Out>,
    disagreement: impl Fn(&[Out], &[Out]) -> Option<Disagreement>,
) -> Result<std::result::Result<Vec<Out>, String>> {
    let script = script(records.into_iter().collect());
    let results = finals(run(program, &script, ExecutionMode::Batch, 1, 1)?.results);
    let expected = multiset(results.clone())?;
    for parallelism in PARALLELISMS {
        let streaming = SEEDS.iter().map(|&seed| (ExecutionMode::Streaming, seed));
        for (mode, seed) in streaming.chain([(ExecutionMode::Batch, 1)]) {
            let Run { results: others, evidence } = run(program, &script, mode, parallelism, seed)?;
            let others = finals(others);
            let found = multiset(others.clone())?;
            if let Some(differs) = difference(&expected, &found) {
                let run = format!("{mode} at parallelism {parallelism}, seed {seed}");
                let why = reasons(&expected, &found, &evidence, disagreement(&results, &others));
                return Ok(Err(format!("batch at parallelism 1 and {run} differ:{differs}{why}")));
            }
        }
    }
    Ok(Ok(results))
}

fn difference<T: Debug>(expected: &Multiset<T>, found: &Multiset<T>) -> Option<String> {
    let mut text = String::new();
    for (what, here, there) in
        [("only the first has", expected, found), ("only the second has", found, expected)]
    {
        let count = |bytes| there.get(bytes).map_or(0, |(_, n)| *n);
        let more = here.iter().filter_map(|(bytes, (result, n))| {
            n.checked_sub(count(bytes)).filter(|&more| more > 0).map(|more| (result, more))
        });
        for (i, (result, more)) in more.enumerate() {
            let _ = match i {
                SHOWN => write!(text, "\n  {what} more"),
                i if i > SHOWN => Ok(()),
                _ => write!(text, "\n  {what} {result:?}, {more} times"),
            };
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_are_the_best_there_are() {
        let script = script(vec![('a', 10), ('b', 30), ('c', 20), ('d', 40)]);
        let expected = Script::new()
            .record_at('a', 10)
            .watermark(19)
            .record_at('b', 30)
            .record_at('c', 20)
            .watermark(39)
            .record_at('d', 40);
        assert_eq!(format!("{script:?}"), format!("{expected:?}"));
        let extremes =
            super::script(vec![('a', i64::MIN), ('b', i64::MAX), ('c', i64::MIN), ('d', i64::MAX)]);
        assert!(format!("{extremes:?}").contains('d'));
    }

    #[test]
    fn differences_are_told_from_both_sides() {
        let sets = [vec![1, 2, 2], vec![2, 3]].map(|results: Vec<u64>| multiset(results).unwrap());
        let text = difference(&sets[0], &sets[1]).unwrap();
        assert_eq!(
            text,
            "\n  only the first has 1, 1 times\n  only the first has 2, 1 times\n  only the second has 3, 1 times"
        );
        assert_eq!(difference(&sets[0], &sets[0]), None);
    }
}
