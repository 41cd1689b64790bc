//! Generator: random programs whose results are defined in both modes: an operator that depends on the order of its
//! input only where that has one, a rolling operator only at the end (or in BATCH, where it emits final results).

use super::program::{Chaining, Edge, Event, Fold, Key, Node, Op, Program, Step, Windows};
use super::random::Random;

/// Records that a stream may have before nothing that multiplies them is chosen any more.
const RECORDS_MAX: u64 = 3000;
/// The highest parallelism, by which a broadcast multiplies.
const PARALLELISM_MAX: u64 = 5;

/// What is known of a stream while the program is built.
#[derive(Clone, Copy)]
struct Known {
    /// Upper bound.
    records: u64,
    /// All records come from one subtask, in an order that does not depend on the schedule.
    ordered: bool,
    /// Which value has which timestamp does not depend on the schedule.
    paired: bool,
    /// Of the operator the stream comes from.
    parallelism: Option<usize>,
    /// Nothing has read it yet.
    leaf: bool,
    fat: bool,
}

struct Building<'a> {
    random: &'a mut Random,
    nodes: Vec<Node>,
    known: Vec<Known>,
    /// One subtask each and no unions before the keyed operators, so that there is an order for them to depend on.
    narrow: bool,
    /// All records have timestamps, and none is late.
    event_time: bool,
}

/// A program that depends on the seed only.
pub fn program(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let batch_only = random.one_in(5);
    let rolling_end = random.one_in(2);
    let timestamps = random.one_in(3);
    let fat = batch_only && random.one_in(3);
    let narrow = !fat && random.one_in(3);
    // What depends on order needs programs without.
    let event_time = !(fat || narrow && rolling_end) && random.one_in(2);
    let mut building =
        Building { random: &mut random, nodes: Vec::new(), known: Vec::new(), narrow, event_time };
    let sources = if narrow { 1 } else { 1 + building.random.below(2) };
    for _ in 0..sources {
        building.source(timestamps, fat);
    }
    for _ in 0..1 + building.random.below(5) {
        let inputs = building.inputs();
        building.operator(inputs, batch_only);
    }
    let leaves: Vec<usize> = (0..building.nodes.len()).filter(|&i| building.known[i].leaf).collect();
    if rolling_end {
        building.rolling_end(leaves);
    } else {
        let op = Op::Map(building.random.below(5) as u8);
        let step = building.step(&leaves);
        building.add(leaves, op, step);
    }
    let last = building.nodes.len() - 1;
    let sink = if rolling_end {
        Step { parallelism: building.known[last].parallelism, ..Step::default() }
    } else {
        building.step(&[last])
    };
    Program { nodes: building.nodes, sink, rolling_end, batch_only }
}

impl Building<'_> {
    fn source(&mut self, timestamps: bool, fat: bool) {
        let count = match self.random.below(6) {
            0 => self.random.below(3) as u64,
            _ if fat => 1500 + self.random.below(1000) as u64,
            1 => 1000 + self.random.below(1200) as u64,
            _ => 1 + self.random.below(200) as u64,
        };
        if self.event_time {
            let count = if self.random.one_in(2) { count.min(40) } else { count };
            let parallelism = self.parallelism(&[None, Some(1), Some(2)]);
            let op = Op::Timed { count, punctuated: self.random.one_in(2) };
            let step = Step { parallelism, ..Step::default() };
            self.nodes.push(Node { inputs: Vec::new(), op, step });
            let ordered = parallelism == Some(1);
            self.known.push(Known { records: count, ordered, paired: true, parallelism, leaf: true, fat });
            return;
        }
        let (op, parallelism) = match self.random.below(2) {
            0 if !timestamps => (Op::FromIter { count, fat }, None),
            _ => (Op::Generate { count, fat, timestamps }, self.parallelism(&[None, Some(1), Some(2)])),
        };
        let ordered = matches!(op, Op::FromIter { .. }) || parallelism == Some(1);
        let step = Step { parallelism, ..Step::default() };
        self.nodes.push(Node { inputs: Vec::new(), op, step });
        let parallelism = if matches!(op, Op::FromIter { .. }) { Some(1) } else { parallelism };
        self.known.push(Known { records: count, ordered, paired: true, parallelism, leaf: true, fat });
    }

    fn parallelism(&mut self, from: &[Option<usize>]) -> Option<usize> {
        if self.narrow { Some(1) } else { self.random.pick(from) }
    }

    /// Mostly the last stream, sometimes an older one, sometimes a union.
    fn inputs(&mut self) -> Vec<usize> {
        let last = self.nodes.len() - 1;
        let any = self.random.below(last + 1);
        match self.random.below(8) {
            _ if self.narrow => vec![last],
            0 => vec![last, last],
            1 => vec![last, any],
            2 => vec![any],
            _ => vec![last],
        }
    }

    fn records(&self, inputs: &[usize]) -> u64 {
        inputs.iter().map(|&i| self.known[i].records).sum()
    }

    fn step(&mut self, inputs: &[usize]) -> Step {
        let parallelism = self.parallelism(&[None, None, None, Some(1), Some(2), Some(4)]);
        let random = &mut *self.random;
        let edges = [
            Edge::Auto,
            Edge::Auto,
            Edge::Forward,
            Edge::Rebalance,
            Edge::Rescale,
            Edge::Shuffle,
            Edge::Broadcast,
            Edge::Global,
            Edge::Custom,
        ];
        let mut step = Step {
            edge: random.pick(&edges),
            parallelism,
            chaining: random.pick(&[
                Chaining::Default,
                Chaining::Default,
                Chaining::StartNew,
                Chaining::Disabled,
            ]),
            slot_group: random.pick(&[None, None, None, None, Some("a"), Some("b")]),
            blocking: random.one_in(12),
        };
        let records = self.records(inputs);
        if step.edge == Edge::Broadcast && records * PARALLELISM_MAX > RECORDS_MAX {
            step.edge = Edge::Rebalance;
        }
        if step.edge == Edge::Forward {
            match inputs {
                [one] => step.parallelism = self.known[*one].parallelism,
                _ => step.edge = Edge::Auto,
            }
        }
        step
    }

    /// An operator over event time, if there is one for these inputs, with the inputs it takes.
    fn event(&mut self, inputs: &[usize]) -> Option<(Vec<usize>, Event)> {
        let windows = self.random.pick(&[Windows::Tumbling, Windows::Sliding, Windows::Session]);
        let event = match self.random.below(15) {
            0..=2 => Event::Folded(windows),
            3..=5 => Event::Listed(windows),
            6 => Event::CountAtEnd,
            7 => Event::CountOften,
            8 | 9 => Event::WindowJoin,
            10 | 11 => Event::IntervalJoin,
            12 => Event::ByClock,
            _ => Event::Broadcast,
        };
        let mut inputs = inputs.to_vec();
        let mut records = self.records(&inputs) * event.copies();
        if event.is_join() {
            let any = self.random.below(self.nodes.len());
            inputs = vec![inputs[0], any];
            records = match event {
                Event::Broadcast => self.known[any].records * PARALLELISM_MAX,
                _ => self.known[inputs[0]].records * self.known[any].records,
            };
        }
        let fits = records <= RECORDS_MAX && inputs.iter().all(|&i| self.known[i].paired);
        fits.then_some((inputs, event))
    }

    fn operator(&mut self, inputs: Vec<usize>, rolling: bool) {
        if self.event_time
            && !self.random.one_in(3)
            && let Some((inputs, event)) = self.event(&inputs)
        {
            let step = self.step(&inputs);
            return self.add(inputs, Op::Event(event), step);
        }
        let step = self.step(&inputs);
        let n = self.random.below(5) as u8;
        let op = match self.random.below(if self.records(&inputs) * 2 > RECORDS_MAX { 10 } else { 13 }) {
            0 => Op::Map(n),
            1 => Op::TryMap(n),
            2 => Op::Rekey(n),
            3 => Op::Filter(n),
            4 => Op::TryFilter(n),
            5 if inputs.iter().all(|&i| self.known[i].paired) => Op::Process,
            5 => Op::Map(n),
            6..=9 => match self.fold(&inputs, rolling) {
                Some(fold) => Op::Keyed(self.key(), fold),
                None => Op::Map(n),
            },
            10 => Op::FlatMap(n),
            11 => Op::TryFlatMap(n),
            _ => Op::Rekey(n),
        };
        self.add(inputs, op, step);
    }

    fn key(&mut self) -> Key {
        self.random.pick(&[Key::Number, Key::Text, Key::Pair])
    }

    /// One that is defined for these inputs: behind one ordered producer those that need an order, too.
    fn fold(&mut self, inputs: &[usize], rolling: bool) -> Option<Fold> {
        let ordered = matches!(inputs, [one] if self.known[*one].ordered && !self.known[*one].fat);
        let all = [
            Fold::Reduce,
            Fold::ReduceInOrder,
            Fold::Sum,
            Fold::Min,
            Fold::Max,
            Fold::MinBy,
            Fold::MaxBy,
            Fold::Aggregate,
            Fold::Count,
            Fold::Process,
            Fold::ProcessInOrder,
            Fold::MapWithState,
        ];
        let in_order = ordered && self.random.one_in(2);
        let fits: Vec<Fold> = all
            .into_iter()
            .filter(|fold| (rolling || !fold.is_rolling()) && fold.needs_order() == in_order)
            .collect();
        (!fits.is_empty()).then(|| self.random.pick(&fits))
    }

    /// A rolling operator over everything, and maps that keep order and key.
    fn rolling_end(&mut self, leaves: Vec<usize>) {
        let mut step = self.step(&leaves);
        step.edge = Edge::Auto;
        let fold = loop {
            match self.fold(&leaves, true) {
                Some(fold) if fold.is_rolling() => break fold,
                _ => {}
            }
        };
        let key = self.key();
        self.add(leaves, Op::Keyed(key, fold), step);
        for _ in 0..self.random.below(3) {
            let last = self.nodes.len() - 1;
            let mut step = self.step(&[last]);
            step.edge = self.random.pick(&[Edge::Auto, Edge::Forward]);
            step.parallelism = self.known[last].parallelism;
            let n = self.random.below(5) as u8;
            let op = self.random.pick(&[Op::Map(n), Op::TryMap(n)]);
            self.add(vec![last], op, step);
        }
    }

    fn add(&mut self, inputs: Vec<usize>, op: Op, mut step: Step) {
        let mut records = self.records(&inputs);
        let one = matches!(&inputs[..], [one] if self.known[*one].ordered);
        let fat = inputs.iter().any(|&i| self.known[i].fat);
        let mut ordered = one && step.parallelism == Some(1);
        let mut paired = inputs.iter().all(|&i| self.known[i].paired);
        match op {
            Op::Keyed(_, fold) => {
                // The n-th record of a key is another one in another schedule.
                if self.narrow {
                    step.parallelism = self.random.pick(&[None, Some(1), Some(2), Some(3)]);
                }
                paired = fold.is_rolling() || (paired && one);
                step.edge = Edge::Auto;
                ordered = false;
            }
            Op::Event(event) => {
                if self.narrow {
                    step.parallelism = self.random.pick(&[None, Some(1), Some(2), Some(3)]);
                }
                // In STREAMING they come when event time is over: whatever goes by it behind them finds them late.
                paired &= event != Event::ByClock;
                records = match event {
                    Event::Broadcast => self.known[inputs[0]].records,
                    Event::WindowJoin | Event::IntervalJoin => {
                        self.known[inputs[0]].records * self.known[inputs[1]].records
                    }
                    _ => records * event.copies(),
                };
                step.edge = Edge::Auto;
                ordered = false;
            }
            Op::FlatMap(_) | Op::TryFlatMap(_) => records *= 2,
            _ => {}
        }
        if step.edge == Edge::Broadcast {
            records *= PARALLELISM_MAX;
        }
        inputs.iter().for_each(|&i| self.known[i].leaf = false);
        self.known.push(Known { records, ordered, paired, parallelism: step.parallelism, leaf: true, fat });
        self.nodes.push(Node { inputs, op, step });
    }
}
