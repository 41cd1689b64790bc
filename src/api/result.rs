//! Result: what a finished job reports about itself, as tables for people and as JSON for programs.
//!
//! Place: filled by the executors from their counters, returned by `execute`. Plain data: nothing here measures,
//! except [`peak_memory_bytes`], which asks the operating system.

use crate::base::accumulator::AccumulatorResults;
use crate::base::config::ExecutionMode;
use crate::base::error::{Error, Result};
use crate::base::text::{self, Table};
pub use crate::executors::pipelined::checkpoints::CheckpointStats;
pub use crate::executors::report::{OperatorStats, StageStats};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The report of a finished job. `Display` shows it as tables.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct JobResult {
    /// The name given to `execute`.
    pub job_name: String,
    /// Tells apart the jobs of a process.
    pub job_id: String,
    /// How it was run: never `Automatic`.
    pub mode: ExecutionMode,
    /// The highest parallelism of any operator.
    pub parallelism: usize,
    /// From the start of the first subtask to the end of the last.
    #[serde(rename = "seconds", serialize_with = "crate::executors::report::seconds")]
    pub duration: Duration,
    /// The operators in the order of the plan.
    pub operators: Vec<OperatorStats>,
    /// The stages in the order they started. A streaming job has one.
    pub stages: Vec<StageStats>,
    /// What user functions accumulated.
    pub accumulators: AccumulatorResults,
    /// The most memory the process had at once, all of it, in bytes; 0 if the system does not tell.
    pub memory_peak_bytes: u64,
    /// The most memory that was reserved from the job's budget at once, in bytes.
    pub budget_peak_bytes: u64,
    /// The plan was printed and nothing was run; all numbers are 0.
    pub explained: bool,
    /// It was asked to stop and has, behind a checkpoint from which it can go on; otherwise its input has ended.
    pub stopped: bool,
    /// What its checkpoints came to, if it took any.
    pub checkpoints: Option<CheckpointStats>,
    /// Hash of the schedule of a simulated run: equal seeds, equal traces.
    pub trace: Option<u64>,
    /// The plan as a Mermaid flowchart, with what its parts did: records of operators, and of stages the time, units and attempts,
    /// rows, bytes and skew of what they wrote, and what they spilled. Not in the JSON, which has the figures themselves.
    #[serde(skip)]
    pub graph: String,
}

impl JobResult {
    /// The report as indented JSON. Durations are numbers of seconds, accumulators are their results.
    ///
    /// # Errors
    /// When a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::Codec(format!("the result of job '{}' as JSON: {e}", self.job_name)))
    }

    /// The first operator of that name.
    pub fn operator(&self, name: &str) -> Option<&OperatorStats> {
        self.operators.iter().find(|operator| operator.name == name)
    }

    /// Bytes that were spilled by all stages.
    pub fn spilled_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.spilled_bytes).sum()
    }
}

/// A count or size for a table: a zero is a dash, so that what happened stands out.
fn unless_zero(n: u64, format: fn(u64) -> String) -> String {
    if n == 0 { "-".into() } else { format(n) }
}

fn time_unless_zero(duration: Duration) -> String {
    if duration.is_zero() { "-".into() } else { text::duration(duration) }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.explained {
            return writeln!(f, "job '{}' ({}) was explained, not run", self.job_name, self.mode);
        }
        write!(
            f,
            "job '{}' ({}) {} in {}, parallelism {}",
            self.job_name,
            self.mode,
            if self.stopped { "stopped" } else { "finished" },
            text::duration(self.duration),
            self.parallelism
        )?;
        if self.memory_peak_bytes > 0 {
            write!(f, ", memory peak {}", text::bytes(self.memory_peak_bytes))?;
        }
        if self.budget_peak_bytes > 0 {
            write!(f, ", of the budget {}", text::bytes(self.budget_peak_bytes))?;
        }
        writeln!(f)?;
        if let Some(checkpoints) = &self.checkpoints {
            writeln!(f, "{checkpoints}")?;
        }
        if !self.operators.is_empty() {
            write!(f, "\n{}", operators_table(&self.operators))?;
            for operator in &self.operators {
                // What never happened would hide what did; the JSON has it all.
                let counters: Vec<String> = operator
                    .counters
                    .iter()
                    .filter(|(_, value)| *value > 0)
                    .map(|(name, value)| format!("{name} {}", text::count(*value)))
                    .collect();
                if counters.is_empty() {
                    continue;
                }
                writeln!(f, "  {} {}: {}", operator.id, operator.name, counters.join(", "))?;
            }
        }
        if !self.stages.is_empty() {
            write!(f, "\n{}", stages_table(&self.stages))?;
        }
        if !self.accumulators.is_empty() {
            write!(f, "\naccumulators\n{}", self.accumulators)?;
        }
        Ok(())
    }
}

fn operators_table(operators: &[OperatorStats]) -> Table {
    let mut table = Table::new(&[
        "id",
        "<operator",
        "subtasks",
        "records in",
        "records out",
        "bytes in",
        "bytes out",
        "busy",
        "idle",
        "blocked",
    ]);
    for operator in operators {
        table.row([
            operator.id.to_string(),
            operator.name.clone(),
            operator.parallelism.to_string(),
            unless_zero(operator.records_in, text::count),
            unless_zero(operator.records_out, text::count),
            unless_zero(operator.bytes_in, text::bytes),
            unless_zero(operator.bytes_out, text::bytes),
            time_unless_zero(operator.busy),
            time_unless_zero(operator.idle),
            time_unless_zero(operator.backpressured),
        ]);
    }
    table
}

fn stages_table(stages: &[StageStats]) -> Table {
    let mut table = Table::new(&[
        "id",
        "<stage",
        "time",
        "units",
        "retries",
        "records out",
        "rows",
        "shuffle",
        "skew",
        "spilled",
        "spills",
        "<operators",
    ]);
    for stage in stages {
        table.row([
            stage.id.to_string(),
            stage.name.clone(),
            text::duration(stage.duration),
            stage.units.to_string(),
            unless_zero(stage.retries() as u64, text::count),
            unless_zero(stage.records_out, text::count),
            unless_zero(stage.shuffle_rows, text::count),
            unless_zero(stage.shuffle_bytes, text::bytes),
            if stage.skew == 0.0 { "-".into() } else { format!("{:.2}", stage.skew) },
            unless_zero(stage.spilled_bytes, text::bytes),
            unless_zero(stage.spills, text::count),
            stage.operators.join(" > "),
        ]);
    }
    table
}

/// The most memory that this process has had at once since it started, in bytes; 0 if the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| crate::base::config::status_kib(&status, "VmHWM:"))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::accumulator::{Accumulators, LongCounter};

    fn example() -> JobResult {
        let job = Accumulators::new();
        let attempt = job.attempt();
        attempt.local::<LongCounter>("lines").unwrap().add(1_234_567);
        attempt.publish().unwrap();
        JobResult {
            job_name: "word count".into(),
            job_id: "7".into(),
            mode: ExecutionMode::Batch,
            parallelism: 4,
            duration: Duration::from_millis(2_350),
            operators: vec![
                OperatorStats {
                    name: "source".into(),
                    parallelism: 4,
                    records_out: 1_234_567,
                    bytes_in: 3 << 30,
                    busy: Duration::from_micros(1_500),
                    ..OperatorStats::default()
                },
                OperatorStats {
                    id: 1,
                    name: "count".into(),
                    parallelism: 2,
                    records_in: 1_234_567,
                    counters: vec![("late".into(), 0), ("keys".into(), 5_000)],
                    ..OperatorStats::default()
                },
            ],
            stages: vec![StageStats {
                name: "stage 0".into(),
                operators: vec!["source".into(), "count".into()],
                units: 8,
                attempts: 9,
                duration: Duration::from_secs(2),
                shuffle_rows: 2_000,
                skew: 1.254,
                spilled_bytes: 1 << 20,
                spills: 3,
                ..StageStats::default()
            }],
            accumulators: job.results().unwrap(),
            memory_peak_bytes: 100 << 20,
            budget_peak_bytes: 0,
            explained: false,
            stopped: false,
            checkpoints: None,
            trace: None,
            graph: String::new(),
        }
    }

    #[test]
    fn shown_as_aligned_tables() {
        let expected = "\
job 'word count' (batch) finished in 2.35s, parallelism 4, memory peak 100MiB

  id  operator  subtasks  records in  records out  bytes in  bytes out    busy  idle  blocked
   0  source           4           -    1,234,567      3GiB          -  1.50ms     -        -
   1  count            2   1,234,567            -         -          -       -     -        -
  1 count: keys 5,000

  id  stage     time  units  retries  records out   rows  shuffle  skew  spilled  spills  operators
   0  stage 0  2.00s      8        1            -  2,000        -  1.25     1MiB       3  source > count

accumulators
  lines  1,234,567
";
        assert_eq!(example().to_string(), expected);
        let explained = JobResult { job_name: "j".into(), explained: true, ..JobResult::default() };
        assert_eq!(explained.to_string(), "job 'j' (streaming) was explained, not run\n");
        let empty = JobResult::default().to_string();
        assert_eq!(empty, "job '' (streaming) finished in 0µs, parallelism 0\n");
    }

    /// O1: the result as JSON has the accumulators.
    #[test]
    fn json_has_everything_under_stable_names() {
        let json: serde_json::Value = serde_json::from_str(&example().to_json().unwrap()).unwrap();
        assert_eq!(json["mode"], "batch");
        assert_eq!(json["seconds"], 2.35);
        assert_eq!(json["accumulators"]["lines"], 1_234_567);
        assert_eq!(json["operators"][1]["counters"]["keys"], 5_000);
        assert_eq!(json["operators"][1]["counters"]["late"], 0);
        assert_eq!(json["operators"][0]["busy_seconds"], 0.0015);
        assert_eq!(json["stages"][0]["spills"], 3);
        assert_eq!(
            (json["stages"][0]["attempts"].as_u64(), json["stages"][0]["skew"].as_f64()),
            (Some(9), Some(1.254))
        );
        assert_eq!(json["memory_peak_bytes"], 100 << 20);
    }

    #[test]
    fn lookups_and_sums() {
        let result = example();
        assert_eq!(result.operator("count").map(|o| o.id), Some(1));
        assert!(result.operator("none").is_none());
        assert_eq!((result.spilled_bytes(), result.stages[0].retries()), (1 << 20, 1));
    }

    #[test]
    fn this_process_has_a_memory_peak() {
        assert!(peak_memory_bytes() > 100 << 10);
    }
}
