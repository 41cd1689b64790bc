//! Definition: a stream and the windows over it as plain data, which the reference and the engine both read.

/// A record, and the watermark that follows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Rec {
    pub key: u8,
    pub value: i64,
    pub at: i64,
    pub mark: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Tumbling {
        size: i64,
        offset: i64,
    },
    Sliding {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Sessions {
        gap: i64,
    },
    /// The gap depends on the record.
    DynamicSessions {
        least: i64,
    },
    Global,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fires {
    AtEnd,
    Count(u64),
    Continuous(i64),
    /// When the value has moved by more than this since the last firing. Not for windows that merge.
    Delta(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evicts {
    Count(usize),
    Time(i64),
    Delta(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub kind: Kind,
    pub fires: Fires,
    /// Each firing drops the content.
    pub purging: bool,
    /// Who leaves, and whether only after the function.
    pub evicts: Option<(Evicts, bool)>,
    pub lateness: i64,
    pub late_output: bool,
}

/// The smallest gap plus a third of the value, so that records with equal timestamps differ.
pub fn dynamic_gap(least: i64, value: i64) -> i64 {
    least + value.rem_euclid(3) * least / 2
}
