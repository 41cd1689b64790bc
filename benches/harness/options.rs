//! Options: what the command line of a bench asks for.
//!
//! Place: read once by the parent in [`super::main`]; children get their job through `--child` instead.

use std::path::PathBuf;

/// The usage text, printed for `--help` and after a mistake.
const USAGE: &str = "\
usage: cargo bench --bench NAME [-- FILTER... --quick --part N --runs N --no-peers --list]

  FILTER      run the workloads whose id contains one of the filters (default: all)
  --quick     one twentieth of the data: for a first look, not for a README
  --part N    an N-th of the data, where the machine has no time for all of it
  --runs N    timed runs of each program (default 5)
  --no-peers  leave out other systems even if PEERS_DIR is set
  --list      print the ids and leave

environment: MAINSTEM_BENCH_DATA  folder of generated inputs (default target/bench-data)
             PEERS_DIR            folder with the programs of other systems, see benches/harness/peers.rs";

/// What `--quick` divides the data by.
const QUICK: u64 = 20;

/// How a bench is to be run.
pub struct Options {
    /// Parts of workload ids; empty means all.
    pub filters: Vec<String>,
    /// The data is divided by this: 1, or 20 for a quick look.
    pub divisor: u64,
    /// Timed runs of each program.
    pub runs: usize,
    /// Time other systems as well.
    pub peers: bool,
    /// Only print the ids.
    pub list: bool,
    /// Folder of generated inputs.
    pub data: PathBuf,
}

/// What the command line says to do.
pub enum Request {
    /// Measure.
    Bench(Options),
    /// Print this and leave.
    Say(String),
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// A sentence with the usage, for an unknown option or a bad number.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Request, String> {
        let data = std::env::var_os("MAINSTEM_BENCH_DATA")
            .map_or_else(|| PathBuf::from("target/bench-data"), PathBuf::from);
        let mut options =
            Options { filters: Vec::new(), divisor: 1, runs: 5, peers: true, list: false, data };
        let mut from_cargo_bench = false;
        let mut arguments = arguments.peekable();
        let any = arguments.peek().is_some();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => from_cargo_bench = true,
                "--quick" => options.divisor = QUICK,
                "--part" => options.divisor = number("--part", arguments.next())?,
                "--no-peers" => options.peers = false,
                "--list" => options.list = true,
                "--help" | "-h" => return Ok(Request::Say(USAGE.to_string())),
                "--runs" => options.runs = usize::try_from(number("--runs", arguments.next())?).unwrap_or(1),
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no option {flag}\n\n{USAGE}"));
                }
                filter => options.filters.push(filter.to_string()),
            }
        }
        if !any && !from_cargo_bench {
            // `cargo test --all-targets` starts benches without a word: minutes of timing are not a test.
            return Ok(Request::Say("nothing measured: start it with `cargo bench`".to_string()));
        }
        Ok(Request::Bench(options))
    }

    /// Whether the filters choose the workload.
    pub fn chooses(&self, id: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| id.contains(filter.as_str()))
    }
}

fn number(option: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.unwrap_or_default();
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option} expects a number from 1, found {value:?}\n\n{USAGE}")),
    }
}
