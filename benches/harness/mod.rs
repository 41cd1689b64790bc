//! Harness: what all benches share. It runs programs as child processes in turns and prints what they took.
//!
//! Place: a bench is a table of [`Workload`]s and a call of [`main`]. Layers, each of which uses only those after it:
//! `table` (what is printed), `rounds` (one workload), `peers` (other systems), `bounds` (written by hand),
//! `digest`, `measure` (one child), `allocator` (chosen per workload), `words`, `records` and `data` (the inputs, exactly
//! defined), `options`.
//! Method: 1. every program is a child process, `BENCH --child NAME ...`, so that memory and allocator of one say nothing
//! about another; 2. results are compared before anything is timed, and in every run; 3. engine and bound
//! take turns, and the figure is the median of the ratios run by run, with the smallest and the largest: on a shared
//! machine the seconds of two hours say little, the ratio of two minutes much.
//! Invariants: a difference between results ends the bench with a failure, and so does more memory than was wanted, which
//! unlike seconds does not depend on who else uses the machine; engine and bound have the same allocator,
//! the one with which the bound is faster.
//! Costs and limits: Linux; the page cache is warm; a ratio is of the seconds inside the programs, from the first
//! line of `main` to the result, so that process start and exit count only where the figure is the wall time.

#![allow(dead_code, reason = "each bench uses its share of the harness")]

pub mod allocator;
pub mod bounds;
pub mod data;
pub mod digest;
pub mod measure;
mod options;
pub mod peers;
pub mod records;
mod rounds;
mod table;
pub mod words;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use allocator::Allocator;
use options::{Options, Request};
use peers::Peer;

/// What a program's run returns: a line that equals that of every other program of the workload, without spaces.
pub type ProgramResult = Result<String, Box<dyn std::error::Error>>;

/// One program that can be run as a child.
pub struct Program {
    /// Its name, unique within the bench.
    pub name: &'static str,
    /// The whole job.
    pub run: fn(&Job) -> ProgramResult,
}

/// What a program is to do.
pub struct Job {
    /// Events, bytes of text, or seconds, as the workload defines.
    pub records: u64,
    /// Different keys.
    pub keys: u64,
    /// Folder of generated inputs.
    pub data: PathBuf,
    /// An empty folder for its output.
    pub out: PathBuf,
}

/// How the engine runs the workload.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Pipelined.
    Streaming,
    /// Staged.
    Batch,
}

/// The figure that a workload is about, and what it should be at least (or at most).
#[derive(Clone, Copy)]
pub enum Wanted {
    /// A share of the bound's throughput.
    OfBound(f64),
    /// A share of the bound's throughput, within a peak memory.
    OfBoundWithin {
        /// Share of the bound's throughput.
        share: f64,
        /// Peak resident memory.
        peak_mib: u64,
    },
    /// Records per second, within a peak memory.
    RateWithin {
        /// Records per second.
        per_second: f64,
        /// Peak resident memory.
        peak_mib: u64,
    },
    /// A peak memory, however long it takes.
    PeakWithin {
        /// Peak resident memory.
        peak_mib: u64,
    },
    /// Wall time from process start to exit.
    WallWithin(Duration),
    /// Records per second, whatever the memory.
    Rate {
        /// Records per second.
        per_second: f64,
    },
    /// The time that the program reports with [`report_seconds`].
    ReportedWithin(Duration),
    /// A ratio that the program reports with [`report_figure`], at most.
    RatioWithin(f64),
    /// One long run whose memory does not grow, within a peak.
    Flat {
        /// Peak resident memory.
        peak_mib: u64,
    },
}

/// What a rate counts.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Nothing: the figure is no rate.
    None,
    /// The records of the job are bytes of text.
    Bytes,
    /// The records of the job are events, rows or numbers.
    Events,
}

/// One job, in one mode.
pub struct Workload {
    /// What filters match.
    pub id: &'static str,
    /// What the tables call it.
    pub title: &'static str,
    /// How the engine runs it.
    pub mode: Mode,
    /// What the figure should be.
    pub wanted: Wanted,
    /// What rates count.
    pub unit: Unit,
    /// The allocator of engine and bound: the one with which the bound is faster.
    pub allocator: Allocator,
    /// Size of the job (see [`Job::records`]).
    pub records: u64,
    /// Different keys; `--quick` and `--part` divide them as it does the records, so that a key has as many records.
    pub keys: u64,
    /// The engine's program.
    pub engine: Option<Program>,
    /// The hand-written program.
    pub bound: Option<Program>,
    /// The bound does another job of as many records: only its time is compared.
    pub bound_differs: bool,
    /// A program that is run once, only to know the result.
    pub oracle: Option<Program>,
    /// Further hand-written programs, timed for comparison.
    pub also: &'static [Program],
    /// Programs that the engine's program starts as children of its own, see [`child`].
    pub parts: &'static [Program],
    /// Other systems.
    pub peers: &'static [Peer],
    /// How the result at full size begins, as known beforehand.
    pub known_result: Option<&'static str>,
    /// The input is the text of [`words`].
    pub reads_words: bool,
    /// The input is that of [`records`], and what every program leaves in [`Job::out`] is in order.
    pub sorts_records: bool,
    /// Engine and bound write the same lines into [`Job::out`], in any order and any files.
    pub writes_lines: bool,
}

impl Workload {
    /// A workload without programs, to be filled in.
    pub const fn new(id: &'static str, title: &'static str, mode: Mode, wanted: Wanted) -> Workload {
        Workload {
            id,
            title,
            mode,
            wanted,
            unit: Unit::None,
            allocator: Allocator::Mimalloc,
            records: 0,
            keys: 0,
            engine: None,
            bound: None,
            bound_differs: false,
            oracle: None,
            also: &[],
            parts: &[],
            peers: &[],
            known_result: None,
            reads_words: false,
            sorts_records: false,
            writes_lines: false,
        }
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.engine.iter().chain(&self.bound).chain(&self.oracle).chain(self.also).chain(self.parts)
    }
}

/// What a program reports in place of its own time.
static REPORTED: Mutex<Option<f64>> = Mutex::new(None);

/// Reports a time that the program has measured itself, in place of its own.
pub fn report_seconds(seconds: f64) {
    report_figure(seconds);
}

/// Reports what the program is about, in place of its time.
pub fn report_figure(figure: f64) {
    *REPORTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(figure);
}

/// The command that runs another program of this bench on the same job.
///
/// # Errors
/// There is no path to this program.
pub fn child(name: &str, job: &Job) -> Result<Command, String> {
    let executable = std::env::current_exe().map_err(|error| format!("no path to this program: {error}"))?;
    let mut command = Command::new(executable);
    // A backtrace of a failure that is meant would read the debug information of the whole program, for 0.3 s.
    command.env("RUST_BACKTRACE", "0").args(["--child", name]).args(job.to_arguments());
    Ok(command)
}

/// The child that writes the text of the word count.
const WRITE_WORDS: &str = "write-words";
/// The child that writes the records of the sort.
const WRITE_RECORDS: &str = "write-records";

/// The whole bench: a child's job if the command line names one, else all chosen workloads.
pub fn main(workloads: &'static [Workload]) -> ExitCode {
    let started = Instant::now();
    let mut arguments = std::env::args().skip(1).peekable();
    let done = if arguments.next_if_eq("--child").is_some() {
        let name = arguments.next().unwrap_or_default();
        Job::from_arguments(arguments).and_then(|job| run_child(&name, &job, workloads, started))
    } else {
        Options::parse(arguments).and_then(|request| match request {
            Request::Say(text) => {
                println!("{text}");
                Ok(())
            }
            Request::Bench(options) => bench(workloads, &options),
        })
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(name: &str, job: &Job, workloads: &'static [Workload], started: Instant) -> Result<(), String> {
    if name == WRITE_WORDS {
        return words::write(&job.data, job.records)
            .map_err(|error| format!("cannot write the text into {}: {error}", job.data.display()));
    }
    if name == WRITE_RECORDS {
        return records::write(&job.data, job.records)
            .map_err(|error| format!("cannot write the records into {}: {error}", job.data.display()));
    }
    let program = workloads.iter().flat_map(Workload::programs).find(|program| program.name == name);
    let program = program.ok_or_else(|| format!("there is no program {name}"))?;
    let result = (program.run)(job).map_err(|error| format!("{name}: {error}"))?;
    let reported = *REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    println!("result={result} inside={:.6}", reported.unwrap_or(started.elapsed().as_secs_f64()));
    Ok(())
}

fn bench(workloads: &'static [Workload], options: &Options) -> Result<(), String> {
    let chosen = || workloads.iter().filter(|workload| options.chooses(workload.id));
    if chosen().next().is_none() {
        let ids: Vec<&str> = workloads.iter().map(|workload| workload.id).collect();
        return Err(format!("no workload matches {:?}; there are {}", options.filters, ids.join(", ")));
    }
    if options.list {
        chosen().for_each(|workload| println!("{}", workload.id));
        return Ok(());
    }
    let mut left_out = Vec::new();
    let mut rows = Vec::new();
    for workload in chosen() {
        let peers = installed_peers(workload, options, &mut left_out);
        rows.push(rounds::run(workload, options, &peers)?);
    }
    print!("{}", table::render(options, &rows, &left_out));
    match table::over_peak(&rows) {
        None => Ok(()),
        Some(text) => Err(text),
    }
}

/// The workload's peers that can be run; the names of the others are added to `left_out`.
fn installed_peers(workload: &Workload, options: &Options, left_out: &mut Vec<String>) -> Vec<Peer> {
    let folder = peers::folder().filter(|_| options.peers);
    let (installed, missing): (Vec<Peer>, Vec<Peer>) = workload
        .peers
        .iter()
        .partition(|peer| folder.as_ref().is_some_and(|folder| peer.is_installed(folder)));
    left_out.extend(missing.into_iter().map(Peer::name));
    installed
}

impl Job {
    fn to_arguments(&self) -> [String; 4] {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        [self.records.to_string(), self.keys.to_string(), path(&self.data), path(&self.out)]
    }

    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Job, String> {
        let mut next = |what: &str| arguments.next().ok_or_else(|| format!("a child needs {what}"));
        let number =
            |text: String| text.parse().map_err(|_| format!("a child expects a number, found {text:?}"));
        Ok(Job {
            records: number(next("a number of records")?)?,
            keys: number(next("a number of keys")?)?,
            data: next("a folder of data")?.into(),
            out: next("a folder for output")?.into(),
        })
    }
}
