//! Cases: random streams and windows, and the way from a failing one to a small one.

use crate::definition::{Definition, Evicts, Fires, Kind, Rec};
use crate::random::Random;

/// What is computed of the content of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Number, sum and maximum.
    Aggregate,
    /// The maximum.
    Reduce,
    /// The maximum, handed to a function.
    ReduceProcess,
    /// The values.
    Process,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub definition: Definition,
    pub function: Function,
    pub arrivals: Vec<Rec>,
}

impl Case {
    /// Windows that end, with the default trigger, a fold and nothing else: slices, or sessions of their own, can run them.
    pub fn is_default(&self) -> bool {
        let Definition { kind, fires, purging, evicts, .. } = &self.definition;
        let ends = *kind != Kind::Global;
        let fold = matches!(self.function, Function::Aggregate | Function::Reduce);
        ends && fold && *fires == Fires::AtEnd && !purging && evicts.is_none()
    }

    pub fn merges(&self) -> bool {
        matches!(self.definition.kind, Kind::Sessions { .. } | Kind::DynamicSessions { .. })
    }

    /// What it covers, for a report.
    pub fn features(&self) -> Vec<String> {
        fn name(value: &impl std::fmt::Debug) -> String {
            format!("{value:?}").chars().take_while(|c| c.is_alphabetic()).collect()
        }
        let Definition { kind, fires, purging, evicts, lateness, .. } = &self.definition;
        let mut features = vec![name(kind), name(fires), name(&self.function)];
        features.push(format!("{} firing {}", name(kind), name(fires)));
        features.extend(evicts.map(|(evicts, after)| format!("evicts {} {after}", name(&evicts))));
        features.extend(purging.then(|| format!("purging {}", name(fires))));
        features.extend((*lateness > 0).then(|| format!("lateness {}", name(kind))));
        if let Kind::Sliding { size, slide, .. } = kind {
            features.push(format!("slide {:?} size", slide.cmp(size)));
        }
        features
    }
}

/// A case that depends on the seed only.
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let definition = definition(&mut random);
    let function = random_function(&mut random);
    Case { definition, function, arrivals: arrivals(&mut random) }
}

fn random_function(random: &mut Random) -> Function {
    random.pick(&[
        Function::Aggregate,
        Function::Aggregate,
        Function::Reduce,
        Function::ReduceProcess,
        Function::Process,
    ])
}

/// A long case: many keys and batches, and at times more results than fit into one. Time advances with every
/// `pace`-th record.
pub fn long_case(seed: u64, length: usize, pace: usize) -> Case {
    let mut random = Random::new(seed);
    let (definition, function) = (definition(&mut random), random_function(&mut random));
    let mut now = -5_000;
    let arrivals = (0..length).map(|_| {
        now += i64::from(random.one_in(pace));
        let mark = random.one_in(500).then(|| now - random.below(30) as i64);
        let at = now - random.below(20) as i64;
        Rec { key: random.below(250) as u8, value: random.below(1000) as i64, at, mark }
    });
    let arrivals = arrivals.collect();
    Case { definition, function, arrivals }
}

/// What slices can run, or could but for the lateness.
pub fn sliceable(random: &mut Random) -> Definition {
    let slide = 1 + random.below(20) as i64;
    let size = match random.below(4) {
        0 | 1 => slide,
        2 => slide * (2 + random.below(9) as i64),
        _ => slide + random.below(40) as i64,
    };
    let offset = offset(random, slide);
    let kind = if size == slide && random.one_in(2) {
        Kind::Tumbling { size, offset }
    } else {
        Kind::Sliding { size, slide, offset }
    };
    Definition {
        kind,
        fires: Fires::AtEnd,
        purging: false,
        evicts: None,
        lateness: random.pick(&[0, 0, 0, 0, 7]),
        late_output: random.one_in(2),
    }
}

fn definition(random: &mut Random) -> Definition {
    if random.one_in(3) {
        return sliceable(random);
    }
    let size = 1 + random.below(40) as i64;
    let kind = match random.below(8) {
        0..=1 => Kind::Tumbling { size, offset: offset(random, size) },
        2 => Kind::Sliding { size, slide: size, offset: 0 },
        3 => {
            let slide = size + 1 + random.below(20) as i64;
            Kind::Sliding { size, slide, offset: offset(random, slide) }
        }
        4 => {
            let slide = 1 + random.below(size as usize) as i64;
            Kind::Sliding { size, slide: slide.max(size / 5), offset: 0 }
        }
        5 => Kind::Sessions { gap: 1 + random.below(15) as i64 },
        6 => Kind::DynamicSessions { least: 2 + random.below(8) as i64 },
        _ => Kind::Global,
    };
    let count = 1 + random.below(6) as u64;
    let mut fires = match random.below(6) {
        0..=2 => Fires::AtEnd,
        3..=4 => Fires::Count(count),
        _ => Fires::Continuous(1 + random.below(25) as i64),
    };
    if kind == Kind::Global {
        fires = Fires::Count(count);
    }
    if kind == Kind::Global && random.one_in(4) {
        fires = Fires::AtEnd;
    }
    let merges = matches!(kind, Kind::Sessions { .. } | Kind::DynamicSessions { .. });
    if !merges && random.one_in(6) {
        fires = Fires::Delta(random.below(12) as i64);
    }
    let evicts = match random.below(12) {
        // Bridged sessions have no order of their own.
        0..=2 if merges => Some(Evicts::Time(1 + random.below(20) as i64)),
        0 => Some(Evicts::Count(1 + random.below(5))),
        1 => Some(Evicts::Time(1 + random.below(20) as i64)),
        2 => Some(Evicts::Delta(1 + random.below(15) as i64)),
        _ => None,
    };
    Definition {
        kind,
        fires,
        purging: random.one_in(4),
        evicts: evicts.map(|evicts| (evicts, random.one_in(3))),
        lateness: random.pick(&[0, 0, 0, 1, 5, 30]),
        late_output: random.one_in(2),
    }
}

fn offset(random: &mut Random, below: i64) -> i64 {
    let offset = random.below(below as usize) as i64;
    random.pick(&[0, offset, -offset])
}

/// Time runs on, mostly; records are behind it by up to a disorder, watermarks by a promise that may be broken.
fn arrivals(random: &mut Random) -> Vec<Rec> {
    let length = random.pick(&[3, 10, 40, 40, 100, 100, 300]);
    let keys = 1 + random.below(5);
    let pace = random.pick(&[0, 1, 3, 8]);
    let disorder = random.pick(&[1, 10, 60]);
    let disorder = 1 + random.below(disorder);
    let promise = random.pick(&[1, 10, 80]);
    let promise = random.below(promise) as i64;
    let marks = random.pick(&[1, 3, 10, 1000]);
    let mut now = random.pick(&[-60, -3, 0, 1_000_000_007, -1_000_000_007]);
    (0..1 + random.below(length))
        .map(|_| {
            now += random.below(pace + 1) as i64;
            if random.one_in(30) {
                now += random.below(120) as i64;
            }
            let at = now - random.below(disorder) as i64;
            let mark = random.one_in(marks).then(|| match random.below(20) {
                0 => now + random.below(40) as i64,
                1 => at,
                2 => now - 1000,
                _ => now - promise,
            });
            Rec { key: random.below(keys) as u8, value: random.below(40) as i64 - 20, at, mark }
        })
        .collect()
}

/// A small case that still fails: fewer records, fewer watermarks, a simpler definition.
pub fn shrunk(case: Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut small = case;
    let mut attempts = 400;
    let mut try_one = |smaller: Case, small: &mut Case| {
        attempts -= 1;
        let better = attempts > 0 && fails(&smaller);
        if better {
            *small = smaller;
        }
        better
    };
    let mut step = small.arrivals.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < small.arrivals.len() {
            let mut fewer = small.clone();
            fewer.arrivals.drain(at..(at + step).min(small.arrivals.len()));
            if !try_one(fewer, &mut small) {
                at += step;
            }
        }
        if step == 1 {
            break;
        }
        step = step.div_ceil(2);
    }
    let simpler: [fn(&mut Definition); 4] =
        [|d| d.evicts = None, |d| d.lateness = 0, |d| d.purging = false, |d| d.late_output = false];
    for simplify in simpler {
        let mut smaller = small.clone();
        simplify(&mut smaller.definition);
        try_one(smaller, &mut small);
    }
    for at in 0..small.arrivals.len() {
        let mut smaller = small.clone();
        if smaller.arrivals[at].mark.take().is_some() {
            try_one(smaller, &mut small);
        }
    }
    small
}
