//! Harness: runs a job as a child process, kills it as planned, starts it again with what it has left, until it is done.

use crate::output::{on_disk, verify};
use crate::process::{Orders, Process};
use crate::rig::never_began;
use crate::shapes::Shape;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// From the start of a process to its first record.
pub const FIRST_RECORD_MAX: Duration = Duration::from_secs(2);

/// One job, however many processes it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub shape: Shape,
    pub records: u64,
    /// Records a second.
    pub rate: Option<f64>,
    /// Of each process; the last one stays.
    pub parallelism: Vec<usize>,
    /// Options of the engine beside those of every job.
    pub options: Vec<String>,
}

/// How one process ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Killed after so long.
    After(Duration),
    /// At a fail point, by a plan of its language.
    At(String),
    /// By itself.
    Itself,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::After(time) => write!(f, "kill after {time:?}"),
            End::At(plan) => write!(f, "{plan}"),
            End::Itself => write!(f, "to the end"),
        }
    }
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct Report {
    /// Processes that died of the plan.
    pub kills: u64,
    /// Hits of fail points in the process that came to the end.
    pub hits: BTreeMap<String, u64>,
    /// The longest time from the start of a process to its first record.
    pub first_record: Duration,
}

impl Job {
    /// A job of so many records, with parallelism 2.
    pub fn new(shape: Shape, records: u64) -> Job {
        Job { shape, records, rate: None, parallelism: vec![2], options: Vec::new() }
    }
    pub fn rate(mut self, rate: f64) -> Job {
        self.rate = Some(rate);
        self
    }
    pub fn parallelism(mut self, of_each_process: &[usize]) -> Job {
        self.parallelism = of_each_process.to_vec();
        self
    }
    pub fn options(mut self, options: &[&str]) -> Job {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    /// Runs the job: a process for each end, then one to the end.
    ///
    /// # Panics
    /// When any output is wrong or a process ends as was not planned, with what is needed to do it again.
    pub fn run(&self, test: &str, seed: u64, ends: &[End]) -> Report {
        let dir = tempfile::tempdir().unwrap();
        self.run_in(dir.path(), ends).unwrap_or_else(|e| {
            let plan: Vec<String> = ends.iter().map(End::to_string).collect();
            let kept = dir.keep();
            panic!(
                "{e}\n  job:   {self:?}\n  plan:  {}\n  seed:  {seed}\n  git:   {}\n  files: {}\n  again: \
                 MAINSTEM_SEED={seed} cargo test --features mutants --test crash {test}\n",
                plan.join(", then "),
                git_hash(),
                kept.display()
            )
        })
    }

    fn run_in(&self, dir: &Path, ends: &[End]) -> Result<Report, String> {
        let mut report = Report::default();
        for (number, end) in ends.iter().chain([&End::Itself]).enumerate() {
            let plan = if let End::At(plan) = end { plan.as_str() } else { "" };
            let mut process = Process::start(self, dir, number, plan)?;
            let died = process.ends(end)?;
            report.first_record = report.first_record.max(process.first_record());
            if !died {
                report.hits = process.hits();
                break;
            }
            report.kills += 1;
        }
        verify(self.shape, self.records, &on_disk(&dir.join("out")))?;
        Ok(report)
    }

    /// The program: what a process of the job runs. `first` is called with the first record.
    pub fn main(
        &self,
        orders: &Orders,
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<()> {
        let goes_on = orders.process > 0;
        match self.program(orders, goes_on, first.clone()) {
            Err(e) if goes_on && never_began(&e) => self.program(orders, false, first),
            ended => ended,
        }
    }

    fn program(
        &self,
        orders: &Orders,
        restore: bool,
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<()> {
        let parallelism = self.parallelism[orders.process.min(self.parallelism.len() - 1)];
        let mut args: Vec<String> = vec!["job".into()];
        let mut add = |option: &str, value: &str| args.extend([option.to_string(), value.to_string()]);
        add("--parallelism", &parallelism.to_string());
        add("--max-parallelism", "64");
        add("--progress", "never");
        let at = orders.dir.join("job");
        match (self.shape, restore) {
            (Shape::Batch, true) => add("--resume", &at.to_string_lossy()),
            _ => add("--job-dir", &at.to_string_lossy()),
        }
        if self.shape != Shape::Batch && restore {
            add("--restore", "latest");
        }
        args.extend(self.options.clone());
        let (settings, _) = mainstem::base::config::Settings::from_args_iter(args)?;
        let env = Environment::with_settings(settings).execution_mode(self.shape.mode());
        self.shape.build(&env, self.records, self.rate, &orders.dir.join("out"), first);
        env.execute("crash").map(drop)
    }
}

/// Which program found it.
fn git_hash() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
