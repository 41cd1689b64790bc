//! Reasons: why the runs of a program differ, as far as the plan, the counters and the results can tell.
//!
//! Method: what the plan shows are candidates (M13); what the counters and the results show has happened. The former are told
//! only where nothing of the latter explains the difference.

use super::modes::Multiset;
use crate::api::Environment;
use crate::api::result::JobResult;
use crate::base::error::Result;
use crate::operator::LATE_RECORDS_DROPPED;
use std::fmt::{Debug, Write};

/// Where the plan's text begins to tell of differences.
const DIFFERENCES: &str = "\nWhere the modes differ\n";

/// What is known of one run beside its results.
pub(super) struct Evidence {
    /// Operators that dropped late records, and how many.
    late: Vec<(String, u64)>,
    /// What the plan says of differences between the modes.
    differences: Vec<String>,
}

impl Evidence {
    /// Of an environment before it is executed: what the plan shows.
    pub(super) fn planned(env: &Environment) -> Result<Evidence> {
        let text = env.explain()?;
        let differences = text.split_once(DIFFERENCES).map_or("", |(_, differences)| differences);
        let differences = differences.lines().map(|line| line.trim().to_string());
        Ok(Evidence { late: Vec::new(), differences: differences.collect() })
    }

    /// And what has happened.
    pub(super) fn ran(mut self, result: &JobResult) -> Evidence {
        let late = result.operators.iter().filter_map(|operator| {
            let dropped = operator.counters.iter().find(|(name, _)| name.as_str() == LATE_RECORDS_DROPPED);
            dropped.map(|(_, n)| (operator.name.clone(), *n)).filter(|(_, n)| *n > 0)
        });
        self.late = late.collect();
        self
    }
}

/// Results of one key that differ, as they are shown.
pub(super) type Disagreement = (String, String, String);

/// Why `found`, of a run with this evidence, is not what was expected of BATCH.
pub(super) fn reasons<T: Debug>(
    expected: &Multiset<T>,
    found: &Multiset<T>,
    evidence: &Evidence,
    disagreement: Option<Disagreement>,
) -> String {
    let mut text = String::new();
    for (operator, n) in &evidence.late {
        let _ = write!(
            text,
            "\n  '{operator}' dropped {n} records that were late in the second; in BATCH nothing is late: allow lateness, or \
             promise less in the watermark strategy"
        );
    }
    let count = |bytes| found.get(bytes).map_or(0, |(_, n)| *n);
    let are_among = expected.iter().all(|(bytes, (_, n))| *n <= count(bytes)) && expected.len() < found.len();
    let rolling = evidence.differences.iter().find(|line| line.contains("a result for each record"));
    if let (Some(rolling), true) = (rolling, are_among) {
        let _ = write!(
            text,
            "\n  {rolling}; the results of the first are among those of the second: compare with \
             assert_same_final_results"
        );
    }
    if let Some((key, first, second)) = disagreement
        && evidence.late.is_empty()
    {
        let _ = write!(
            text,
            "\n  key {key} has {first} in the first and {second} in the second: a function may depend on the order of its records, \
             or on something outside the program; sort what it depends on, or make it commutative"
        );
    }
    if text.is_empty() {
        for line in &evidence.differences {
            let _ = write!(text, "\n  {line}");
        }
    }
    match text.is_empty() {
        true => "\nwhy: nothing that the plan or the counters show; a function may depend on the order of its records, on chance, \
                 or on something outside the program"
            .to_string(),
        false => format!("\nwhy:{text}"),
    }
}
