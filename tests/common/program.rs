//! Program: a pipeline over one record type as plain data, with the record functions that its operators apply.

use serde::{Deserialize, Serialize};

/// The one record type. A record is ordered by its fields, so that the extreme of `body` is unique within a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rec {
    pub key: u8,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Body {
    pub value: i64,
    pub text: String,
}

impl Rec {
    pub fn new(key: u8, value: i64, text: impl Into<String>) -> Rec {
        Rec { key, body: Body { value, text: text.into() } }
    }
}

/// Nodes in the order in which they are built; the last node ends in the sink.
#[derive(Clone, Debug)]
pub struct Program {
    pub nodes: Vec<Node>,
    pub sink: Step,
    /// A rolling operator and maps only behind it: the last value of each key is the result.
    pub rolling_end: bool,
    /// Stateful operators read what rolling ones emit: STREAMING and BATCH may differ (M13), so only BATCH is run.
    pub batch_only: bool,
}

#[derive(Clone, Debug)]
pub struct Node {
    /// Several are united; an operator may be united with itself.
    pub inputs: Vec<usize>,
    pub op: Op,
    pub step: Step,
}

/// Where and how an operator runs.
#[derive(Clone, Debug, Default)]
pub struct Step {
    pub edge: Edge,
    pub parallelism: Option<usize>,
    pub chaining: Chaining,
    pub slot_group: Option<&'static str>,
    pub blocking: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Chaining {
    #[default]
    Default,
    StartNew,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Edge {
    #[default]
    Auto,
    Forward,
    Rebalance,
    Rescale,
    Shuffle,
    Broadcast,
    Global,
    Custom,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    FromIter {
        count: u64,
        fat: bool,
    },
    Generate {
        count: u64,
        fat: bool,
        timestamps: bool,
    },
    /// Event time: timestamps from the record, and watermarks behind which nothing comes.
    Timed {
        count: u64,
        punctuated: bool,
    },
    Map(u8),
    TryMap(u8),
    Rekey(u8),
    Filter(u8),
    TryFilter(u8),
    FlatMap(u8),
    TryFlatMap(u8),
    /// Writes the timestamp into the record.
    Process,
    Keyed(Key, Fold),
    /// Depends on event time, not on the order of records.
    Event(Event),
}

/// An operator over event time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// One record for each window.
    Folded(Windows),
    /// One for each record in each window.
    Listed(Windows),
    /// A timer at the end of time counts the records of a key.
    CountAtEnd,
    /// A timer for each stretch of time counts its records.
    CountOften,
    /// Of the two inputs, which are not united.
    WindowJoin,
    IntervalJoin,
    /// One record for each key: a window of processing time that no run outlives.
    ByClock,
    /// Of the two inputs the first is keyed and the second broadcast: a timer at the end of time counts the records of a
    /// key and adds up those of the broadcast.
    Broadcast,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    Tumbling,
    Sliding,
    Session,
}

impl Event {
    /// The most windows that a record is in.
    pub fn copies(self) -> u64 {
        match self {
            Event::Folded(Windows::Sliding) | Event::Listed(Windows::Sliding) => 3,
            _ => 1,
        }
    }
    /// Whether it has two inputs.
    pub fn is_join(self) -> bool {
        matches!(self, Event::WindowJoin | Event::IntervalJoin | Event::Broadcast)
    }
    pub fn name(self) -> &'static str {
        match self {
            Event::Folded(Windows::Tumbling) => "tumbling windows, folded",
            Event::Folded(Windows::Sliding) => "sliding windows, folded",
            Event::Folded(Windows::Session) => "session windows, folded",
            Event::Listed(Windows::Tumbling) => "tumbling windows, listed",
            Event::Listed(Windows::Sliding) => "sliding windows, listed",
            Event::Listed(Windows::Session) => "session windows, listed",
            Event::CountAtEnd => "timers at the end",
            Event::CountOften => "timers on the way",
            Event::WindowJoin => "window join",
            Event::IntervalJoin => "interval join",
            Event::ByClock => "windows of the clock",
            Event::Broadcast => "broadcast state",
        }
    }
}

/// The type of the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    Number,
    Text,
    Pair,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fold {
    Reduce,
    /// Concatenates texts: depends on the order.
    ReduceInOrder,
    Sum,
    Min,
    Max,
    MinBy,
    MaxBy,
    Aggregate,
    Count,
    /// Numbers the records of a key.
    Process,
    /// Emits running totals: depends on the order.
    ProcessInOrder,
    /// Counts to three, then clears.
    MapWithState,
}

impl Fold {
    pub fn is_rolling(self) -> bool {
        !matches!(self, Fold::Process | Fold::ProcessInOrder | Fold::MapWithState)
    }
    pub fn needs_order(self) -> bool {
        matches!(self, Fold::ReduceInOrder | Fold::ProcessInOrder)
    }
    pub fn name(self) -> &'static str {
        match self {
            Fold::Reduce => "reduce",
            Fold::ReduceInOrder => "reduce in order",
            Fold::Sum => "sum",
            Fold::Min => "min",
            Fold::Max => "max",
            Fold::MinBy => "min_by",
            Fold::MaxBy => "max_by",
            Fold::Aggregate => "aggregate",
            Fold::Count => "count",
            Fold::Process => "keyed process",
            Fold::ProcessInOrder => "keyed process in order",
            Fold::MapWithState => "map_with_state",
        }
    }
}

impl Op {
    pub fn name(self) -> &'static str {
        match self {
            Op::FromIter { .. } => "from_iter",
            Op::Generate { timestamps: false, .. } => "generate",
            Op::Generate { timestamps: true, .. } => "generate with timestamps",
            Op::Timed { .. } => "event time",
            Op::Map(_) | Op::Rekey(_) => "map",
            Op::TryMap(_) => "try_map",
            Op::Filter(_) => "filter",
            Op::TryFilter(_) => "try_filter",
            Op::FlatMap(_) => "flat_map",
            Op::TryFlatMap(_) => "try_flat_map",
            Op::Process => "process",
            Op::Keyed(_, fold) => fold.name(),
            Op::Event(event) => event.name(),
        }
    }
}

impl Edge {
    pub fn name(self) -> &'static str {
        match self {
            Edge::Auto => "auto",
            Edge::Forward => "forward",
            Edge::Rebalance => "rebalance",
            Edge::Rescale => "rescale",
            Edge::Shuffle => "shuffle",
            Edge::Broadcast => "broadcast",
            Edge::Global => "global",
            Edge::Custom => "partition_custom",
        }
    }
}

/// Values stay below this, so that sums of sums fit.
const VALUES: i64 = 1_000_003;

pub fn source_record(i: u64, fat: bool) -> Rec {
    let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let text = if fat { format!("{mixed:01000}") } else { format!("t{}", mixed % 7) };
    Rec::new((mixed % 11) as u8, (mixed % 1000) as i64 - 500, text)
}

/// Negative ones, equal ones, out of order.
pub fn timestamp(record: &Rec) -> i64 {
    (record.body.value * 37).rem_euclid(100) - 50
}

/// How far a record of a [`Op::Timed`] source may be behind one before it.
pub const DISORDER: i64 = 50;
/// Windows, gap and bounds of the joins, in milliseconds.
pub const SIZE: i64 = 60;
pub const SLIDE: i64 = 25;
pub const OFFSET: i64 = -7;
pub const GAP: i64 = 20;
pub const LOWER: i64 = -20;
pub const UPPER: i64 = 15;
/// When the timers at the end fire.
pub const END: i64 = 1 << 50;
/// A hundred years: the first window of the clock holds every run until 2069.
pub const CENTURY: i64 = 36_500 * 24 * 60 * 60 * 1000;

/// Timestamps rise with the index, but for some disorder, and begin below 0.
pub fn timed_record(i: u64) -> Rec {
    let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let at = i as i64 * 7 - 300 + (mixed % DISORDER as u64) as i64;
    Rec::new((mixed % 5) as u8, at, format!("t{}", mixed % 7))
}

pub fn event_time(record: &Rec) -> i64 {
    record.body.value
}

/// What one value and another come to where neither may be lost.
pub fn mixed(a: i64, b: i64) -> i64 {
    (a.rem_euclid(VALUES) * 31 + b.rem_euclid(VALUES) * 17).rem_euclid(VALUES)
}

pub fn joined(left: &Rec, right: &Rec) -> Rec {
    Rec::new(left.key, mixed(left.body.value, right.body.value), left.body.text.as_str())
}

/// The end of the stretch of time that holds a timestamp.
pub fn stretch_end(at: i64) -> i64 {
    at - at.rem_euclid(SIZE) + SIZE
}

pub fn mapped(mut record: Rec, n: u8) -> Rec {
    record.body.value = (record.body.value * 3 + i64::from(n)).rem_euclid(VALUES);
    record
}

pub fn rekeyed(mut record: Rec, n: u8) -> Rec {
    record.key = (record.body.value + i64::from(record.key)).rem_euclid(i64::from(n) + 1) as u8;
    record
}

pub fn kept(record: &Rec, n: u8) -> bool {
    (record.body.value + i64::from(record.key)).rem_euclid(i64::from(n) + 2) != 0
}

/// Zero to two records.
pub fn expanded(record: &Rec, n: u8) -> impl Iterator<Item = Rec> + use<> {
    let record = record.clone();
    let count = (record.body.value + i64::from(n)).rem_euclid(3);
    (0..count).map(move |i| mapped(record.clone(), i as u8))
}

pub fn stamped(mut record: Rec, timestamp: Option<i64>) -> Rec {
    record.body.value = (record.body.value * 101 + timestamp.unwrap_or(77)).rem_euclid(VALUES);
    record
}

/// What is left of a record where the other fields would depend on which record came first.
pub fn without_text(record: Rec) -> Rec {
    Rec::new(record.key, record.body.value, "")
}
