//! Oracle: the results of a program by plain iterators, one record after the other, without any of the engine.

use super::program::{Edge, Fold, Op, Program, Rec, Step};
use super::program::{expanded, kept, mapped, rekeyed, source_record, stamped, timestamp};
use std::collections::BTreeMap;

type Stream = Vec<(Rec, Option<i64>)>;

/// All records that reach the sink; of a rolling operator only the final ones.
pub fn expected(program: &Program, batch: bool, parallelism: usize) -> Vec<Rec> {
    let mut streams: Vec<Stream> = Vec::new();
    for node in &program.nodes {
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
        Op::Map(n) | Op::TryMap(n) => records.map(|(record, t)| (mapped(record, n), t)).collect(),
        Op::Rekey(n) => records.map(|(record, t)| (rekeyed(record, n), t)).collect(),
        Op::Filter(n) | Op::TryFilter(n) => records.filter(|(record, _)| kept(record, n)).collect(),
        Op::FlatMap(n) | Op::TryFlatMap(n) => {
            records.flat_map(|(record, t)| expanded(&record, n).map(move |record| (record, t))).collect()
        }
        Op::Process => records.map(|(record, t)| (stamped(record, t), t)).collect(),
        Op::Keyed(_, fold) => {
            let mut keys: BTreeMap<u8, Stream> = BTreeMap::new();
            records.for_each(|(record, t)| keys.entry(record.key).or_default().push((record, t)));
            keys.into_iter()
                .flat_map(|(key, mut records)| {
                    if batch {
                        records.sort_by_key(|(_, t)| *t);
                    }
                    of_key(fold, key, &records)
                })
                .collect()
        }
    }
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
        Fold::MapWithState => records.iter().zip(0..).map(|((_, t), i)| (Rec::new(key, i % 3, ""), *t)).collect(),
    }
}
