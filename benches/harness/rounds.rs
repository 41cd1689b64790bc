//! Rounds: runs the programs of one workload in turns, after making sure that they give the same result.
//!
//! Place: called by [`super::main`] for each chosen workload; calls [`super::measure`].
//! Method: 1. generate the input, in a child; 2. run bound and engine once untimed, which also warms the page cache,
//! and compare their results and output files; 3. in every round run each program once, the engine first in
//! odd rounds and the bound first in even ones, so that a drift of the machine hits both; 4. compare every result again.

use std::path::{Path, PathBuf};

use super::allocator;
use super::measure::{self, Measured};
use super::options::Options;
use super::peers::{self, Peer};
use super::{Job, Program, Wanted, Workload, digest, records, words};

/// All runs of one program.
pub struct Runs {
    /// What the tables call it.
    pub name: String,
    /// One per round.
    pub runs: Vec<Measured>,
}

/// All runs of one workload.
pub struct Row {
    /// The workload.
    pub workload: &'static Workload,
    /// The engine's program, if it is there.
    pub engine: Option<Runs>,
    /// The bound, if the figure is a share of one.
    pub bound: Option<Runs>,
    /// Other programs of ours and of others.
    pub others: Vec<Runs>,
}

/// Runs a workload.
///
/// # Errors
/// A sentence, if a program fails or results differ.
pub fn run(workload: &'static Workload, options: &Options, peers: &[Peer]) -> Result<Row, String> {
    let scratch = options.data.join(format!("out-{}", std::process::id()));
    let row = Rounds::new(workload, options, scratch.clone()).and_then(|rounds| rounds.run(peers));
    // What is left after a failure is of no use to anyone; a folder that was never made cannot be removed.
    let _ = std::fs::remove_dir_all(scratch);
    row
}

/// A run that is long by definition says nothing new when repeated.
fn is_single_run(workload: &Workload) -> bool {
    matches!(workload.wanted, Wanted::Flat { .. })
}

struct Rounds {
    workload: &'static Workload,
    job: Job,
    rounds: usize,
}

impl Rounds {
    fn new(workload: &'static Workload, options: &Options, out: PathBuf) -> Result<Rounds, String> {
        let divisor = options.divisor;
        let job = Job {
            records: workload.records / divisor,
            keys: (workload.keys / divisor).max(1),
            data: options.data.clone(),
            out,
        };
        let rounds = if is_single_run(workload) { 1 } else { options.runs };
        let rounds = Rounds { workload, job, rounds };
        if workload.reads_words && !words::is_ready(&rounds.job.data, rounds.job.records) {
            eprintln!("{}: writing {} bytes of text", workload.id, rounds.job.records);
            rounds.measure_child(super::WRITE_WORDS)?;
        }
        if workload.sorts_records && !records::is_ready(&rounds.job.data, rounds.job.records) {
            eprintln!("{}: writing {} records", workload.id, rounds.job.records);
            rounds.measure_child(super::WRITE_RECORDS)?;
        }
        Ok(rounds)
    }

    fn run(&self, peers: &[Peer]) -> Result<Row, String> {
        let workload = self.workload;
        let folder = peers::folder().unwrap_or_default();
        let engine = workload.engine.as_ref();
        let bound = workload.bound.as_ref();
        let mut expected = Expected::new(workload, self.job.records == workload.records);
        let ours: Vec<&Program> = bound.into_iter().chain(engine).collect();
        let mut row = Row {
            workload,
            engine: engine.map(|program| Runs::new(program.name.to_string())),
            bound: bound.map(|program| Runs::new(program.name.to_string())),
            others: Vec::new(),
        };
        if ours.is_empty() {
            return Ok(row);
        }
        if let Some(oracle) = workload.oracle.as_ref().filter(|_| engine.is_some()) {
            expected.compare(oracle.name, self.measure_child(oracle.name)?.result())?;
        }
        if !is_single_run(workload) {
            for program in &ours {
                let is_bound = bound.is_some_and(|bound| bound.name == program.name);
                if !(is_bound && workload.bound_differs) {
                    self.check(program, &mut expected)?;
                }
            }
        }
        row.others.extend(workload.also.iter().map(|program| Runs::new(program.name.to_string())));
        row.others.extend(peers.iter().map(|peer| Runs::new(peer.name())));
        for round in 0..self.rounds {
            eprintln!("{}: round {} of {}", workload.id, round + 1, self.rounds);
            for turn in 0..ours.len() {
                let program = ours[(turn + round) % ours.len()];
                let measured = self.measure_child(program.name)?;
                let is_bound = bound.is_some_and(|bound| bound.name == program.name);
                if !(is_bound && workload.bound_differs) {
                    expected.compare(program.name, measured.result())?;
                }
                self.check_sorted(program.name, &mut expected)?;
                if let Some(of_program) = if is_bound { &mut row.bound } else { &mut row.engine } {
                    of_program.runs.push(measured);
                }
            }
            let (also, others) = row.others.split_at_mut(workload.also.len());
            for (program, runs) in workload.also.iter().zip(also) {
                let measured = self.measure_child(program.name)?;
                expected.compare(program.name, measured.result())?;
                runs.runs.push(measured);
            }
            for (peer, runs) in peers.iter().zip(others) {
                self.clear_output()?;
                // One that gives up, as some do with little memory, is no reason to lose the figures of the others.
                let measured = match measure::run(&runs.name, &mut peer.command(&folder, &self.job)) {
                    Ok(measured) => measured,
                    Err(error) => {
                        eprintln!("{error}");
                        continue;
                    }
                };
                self.check_sorted(&runs.name, &mut expected)?;
                if workload.sorts_records {
                    // It has told nothing but its time.
                } else if let Some(number) = peers::missing_number(expected.result(), &measured.stdout) {
                    return Err(format!(
                        "{}: expected the number {number}, found {:?}",
                        runs.name, measured.stdout
                    ));
                }
                runs.runs.push(measured);
            }
        }
        Ok(row)
    }

    /// One untimed run of the program.
    fn check(&self, program: &Program, expected: &mut Expected) -> Result<(), String> {
        eprintln!("{}: checking {}", self.workload.id, program.name);
        let measured = self.measure_child(program.name)?;
        expected.compare(program.name, measured.result())?;
        if self.workload.writes_lines {
            let digest = digest::of_lines(&self.job.out)
                .map_err(|error| format!("{}: its output cannot be read: {error}", program.name))?;
            expected.compare_output(program.name, digest)?;
        }
        Ok(())
    }

    /// What a sort has left, after any run of any program.
    fn check_sorted(&self, name: &str, expected: &mut Expected) -> Result<(), String> {
        if !self.workload.sorts_records {
            return Ok(());
        }
        let sorted = records::sorted(&self.job.out).map_err(|error| format!("{name}: {error}"))?;
        expected.compare_output(name, sorted)
    }

    fn measure_child(&self, name: &str) -> Result<Measured, String> {
        self.clear_output()?;
        let mut command = super::child(name, &self.job)?;
        command.env(allocator::VARIABLE, self.workload.allocator.name());
        measure::run(name, &mut command)
    }

    fn clear_output(&self) -> Result<(), String> {
        let out: &Path = &self.job.out;
        if out.exists() {
            std::fs::remove_dir_all(out)
                .map_err(|error| format!("cannot clear {}: {error}", out.display()))?;
        }
        std::fs::create_dir_all(out).map_err(|error| format!("cannot make {}: {error}", out.display()))
    }
}

impl Runs {
    fn new(name: String) -> Runs {
        Runs { name, runs: Vec::new() }
    }
}

/// The result that every program of a workload has to give: that of the first one that ran.
struct Expected {
    /// Known beforehand, for the full size: how the result begins.
    known: Option<&'static str>,
    result: Option<(String, String)>,
    output: Option<(String, String)>,
}

impl Expected {
    fn new(workload: &Workload, full_size: bool) -> Expected {
        Expected { known: workload.known_result.filter(|_| full_size), result: None, output: None }
    }

    fn result(&self) -> &str {
        self.result.as_ref().map_or("", |(_, result)| result)
    }

    fn compare(&mut self, name: &str, result: &str) -> Result<(), String> {
        if let Some(known) = self.known.filter(|known| !result.starts_with(known)) {
            return Err(format!("{name}: expected a result that begins with {known:?}, found {result:?}"));
        }
        same(&mut self.result, "result", name, result.to_string())
    }

    fn compare_output(&mut self, name: &str, digest: String) -> Result<(), String> {
        same(&mut self.output, "output", name, digest)
    }
}

fn same(first: &mut Option<(String, String)>, what: &str, name: &str, found: String) -> Result<(), String> {
    let (first_name, expected) = first.get_or_insert_with(|| (name.to_string(), found.clone()));
    if *expected == found {
        return Ok(());
    }
    Err(format!("{name}: its {what} is {found:?}, but that of {first_name} is {expected:?}"))
}
