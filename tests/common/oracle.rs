//! Oracle: the results of a program by plain iterators, one record after the other, without any of the engine.

use super::program::{CENTURY, END, GAP, LOWER, OFFSET, SIZE, SLIDE, UPPER};
use super::program::{Edge, Event, Fold, Op, Program, Rec, Step, Windows};
use super::program::{event_time, expanded, joined, kept, mapped, mixed, rekeyed, source_record, stamped};
use super::program::{stretch_end, timed_record, timestamp};
use std::collections::BTreeMap;

type Stream = Vec<(Rec, Option<i64>)>;

/// All records that reach the sink; of a rolling operator only the final ones.
pub fn expected(program: &Program, batch: bool, parallelism: usize) -> Vec<Rec> {
    let mut streams: Vec<Stream> = Vec::new();
    for node in &program.nodes {
        if let (Op::Event(event), &[left, right]) = (node.op, &node.inputs[..])
            && event.is_join()
        {
            streams.push(join(event, &streams[left], &streams[right]));
            continue;
        }
        let united: Stream = node.inputs.iter().flat_map(|&i| streams[i].clone()).collect();
        streams.push(apply(node.op, copies(united, &node.step, parallelism), batch));
    }
    let last = streams.pop().unwrap_or_default();
    copies(last, &program.sink, parallelism).into_iter().map(|(record, _)| record).collect()
}

/// P3: a broadcast gives every consuming subtask a copy.
fn copies(stream: Stream, step: &Step, parallelism: usize) -> Stream {
    let copies = if step.edge == Edge::Broadcast { step.parallelism.unwrap_or(parallelism) } else { 1 };
    stream.into_iter().flat_map(|item| vec![item; copies]).collect()
}

fn apply(op: Op, stream: Stream, batch: bool) -> Stream {
    let records = stream.into_iter();
    match op {
        Op::FromIter { count, fat } => (0..count).map(|i| (source_record(i, fat), None)).collect(),
        Op::Generate { count, fat, timestamps } => (0..count)
            .map(|i| source_record(i, fat))
            .map(|record| (record.clone(), timestamps.then(|| timestamp(&record))))
            .collect(),
        Op::Timed { count, .. } => {
            (0..count).map(timed_record).map(|record| (record.clone(), Some(event_time(&record)))).collect()
        }
        Op::Event(event) => by_key(records)
            .into_iter()
            .flat_map(|(key, mut records)| {
                records.sort_by_key(|(_, t)| *t);
                over_time(event, key, &records)
            })
            .collect(),
        Op::Map(n) | Op::TryMap(n) => records.map(|(record, t)| (mapped(record, n), t)).collect(),
        Op::Rekey(n) => records.map(|(record, t)| (rekeyed(record, n), t)).collect(),
        Op::Filter(n) | Op::TryFilter(n) => records.filter(|(record, _)| kept(record, n)).collect(),
        Op::FlatMap(n) | Op::TryFlatMap(n) => {
            records.flat_map(|(record, t)| expanded(&record, n).map(move |record| (record, t))).collect()
        }
        Op::Process => records.map(|(record, t)| (stamped(record, t), t)).collect(),
        Op::Keyed(_, fold) => by_key(records)
            .into_iter()
            .flat_map(|(key, mut records)| {
                if batch {
                    records.sort_by_key(|(_, t)| *t);
                }
                of_key(fold, key, &records)
            })
            .collect(),
    }
}

fn by_key(records: impl Iterator<Item = (Rec, Option<i64>)>) -> BTreeMap<u8, Stream> {
    let mut keys: BTreeMap<u8, Stream> = BTreeMap::new();
    records.for_each(|(record, t)| keys.entry(record.key).or_default().push((record, t)));
    keys
}

fn at(record: &(Rec, Option<i64>)) -> i64 {
    record.1.expect("event time needs timestamps")
}

/// Windows with something in them: start, end, records. `records` are those of a key, by time.
fn windows(windows: Windows, records: &Stream) -> BTreeMap<(i64, i64), Vec<Rec>> {
    let mut all: BTreeMap<(i64, i64), Vec<Rec>> = BTreeMap::new();
    let mut session: Option<(i64, i64)> = None;
    for record in records {
        let at = at(record);
        match windows {
            Windows::Tumbling => {
                let start = at - (at - OFFSET).rem_euclid(SIZE);
                all.entry((start, start + SIZE)).or_default().push(record.0.clone());
            }
            Windows::Sliding => {
                let last = at - at.rem_euclid(SLIDE);
                for start in (0..).map(|i| last - i * SLIDE).take_while(|start| *start > at - SIZE) {
                    all.entry((start, start + SIZE)).or_default().push(record.0.clone());
                }
            }
            Windows::Session => {
                let grown = session.filter(|(_, end)| at <= *end);
                let so_far = grown.and_then(|window| all.remove(&window)).unwrap_or_default();
                let window = (grown.map_or(at, |(start, _)| start), at + GAP);
                session = Some(window);
                all.entry(window).or_default().extend(so_far.into_iter().chain([record.0.clone()]));
            }
        }
    }
    all
}

fn over_time(event: Event, key: u8, records: &Stream) -> Stream {
    match event {
        Event::Folded(kind) => windows(kind, records)
            .into_iter()
            .map(|((_, end), inside)| {
                let values = || inside.iter().map(|record| record.body.value);
                let max = values().max().unwrap_or_default();
                let spread = values().sum::<i64>() + 7 * max + 13 * inside.len() as i64;
                (Rec::new(key, mixed(spread, end), ""), Some(end - 1))
            })
            .collect(),
        Event::Listed(kind) => windows(kind, records)
            .into_iter()
            .flat_map(|((start, end), inside)| {
                let n = mixed(inside.len() as i64, start);
                let one = move |r: Rec| (Rec::new(key, mixed(r.body.value, n), r.body.text), Some(end - 1));
                inside.into_iter().map(one)
            })
            .collect(),
        Event::CountAtEnd => vec![(Rec::new(key, records.len() as i64, ""), Some(END))],
        Event::ByClock => {
            let values = || records.iter().map(|(record, _)| record.body.value);
            let max = values().max().unwrap_or_default();
            let spread = values().sum::<i64>() + 7 * max + 13 * records.len() as i64;
            vec![(Rec::new(key, mixed(spread, CENTURY), ""), Some(CENTURY - 1))]
        }
        _ => {
            let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
            records.iter().for_each(|record| *counts.entry(stretch_end(at(record))).or_default() += 1);
            counts.into_iter().map(|(end, n)| (Rec::new(key, mixed(n, end), ""), Some(end))).collect()
        }
    }
}

/// Every pair of a key, if it meets.
fn join(event: Event, left: &Stream, right: &Stream) -> Stream {
    let start = |record: &(Rec, Option<i64>)| at(record) - (at(record) - OFFSET).rem_euclid(SIZE);
    let mut pairs = Stream::new();
    if event == Event::Broadcast {
        let total: i64 = right.iter().map(|(record, _)| record.body.value).sum();
        let of_key =
            |(key, records): (u8, Stream)| (Rec::new(key, mixed(records.len() as i64, total), ""), Some(END));
        return by_key(left.iter().cloned()).into_iter().map(of_key).collect();
    }
    for l in left {
        for r in right.iter().filter(|r| r.0.key == l.0.key) {
            match event {
                Event::WindowJoin if start(l) == start(r) => {
                    pairs.push((joined(&l.0, &r.0), Some(start(l) + SIZE - 1)));
                }
                Event::IntervalJoin if (LOWER..=UPPER).contains(&(at(r) - at(l))) => {
                    pairs.push((joined(&l.0, &r.0), Some(at(l).max(at(r)))));
                }
                _ => {}
            }
        }
    }
    pairs
}

fn of_key(fold: Fold, key: u8, records: &[(Rec, Option<i64>)]) -> Stream {
    let values = || records.iter().map(|(record, _)| record.body.value);
    let sum = values().sum::<i64>();
    let whole = records.iter().map(|(record, _)| record);
    let last = records.iter().map(|(_, t)| *t).max().flatten();
    let one = |value: Option<i64>| value.map(|value| (Rec::new(key, value, ""), last)).into_iter().collect();
    match fold {
        Fold::Reduce | Fold::Sum => one(Some(sum)),
        Fold::Min => one(values().min()),
        Fold::Max => one(values().max()),
        Fold::Count => one(Some(records.len() as i64)),
        Fold::Aggregate => one(values().max().map(|max| sum + 7 * max + 13 * records.len() as i64)),
        Fold::MinBy => whole.min().map(|record| (record.clone(), last)).into_iter().collect(),
        Fold::MaxBy => whole.max().map(|record| (record.clone(), last)).into_iter().collect(),
        Fold::ReduceInOrder => {
            let text: String = whole.map(|record| record.body.text.as_str()).collect();
            vec![(Rec::new(key, records[0].0.body.value, text), last)]
        }
        Fold::Process => records.iter().zip(1..).map(|((_, t), i)| (Rec::new(key, i, ""), *t)).collect(),
        Fold::ProcessInOrder => records
            .iter()
            .scan(0, |total, (record, t)| {
                *total += record.body.value;
                Some((Rec::new(key, *total, record.body.text.as_str()), *t))
            })
            .collect(),
        Fold::MapWithState => {
            records.iter().zip(0..).map(|((_, t), i)| (Rec::new(key, i % 3, ""), *t)).collect()
        }
    }
}
