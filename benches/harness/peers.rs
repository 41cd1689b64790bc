//! Peers: other systems doing the same work, timed in the same rounds.
//!
//! Place: found by the parent in the folder that the environment variable `PEERS_DIR` names; without it, or for a
//! system that is not installed there, the rows are left out and a line says so.
//! Method: the folder holds `target/release/peer_timely` and `peer_renoir`, called as
//! `PROGRAM JOB --in TEXT --out FILE --n EVENTS --keys KEYS --threads 2` and printing `... inside=SECONDS`, and a
//! Python environment `venv2` with any of duckdb, polars and datafusion, for which the programs are [`WORD_COUNT_SCRIPT`]
//! and [`SORT_SCRIPT`]. GNU sort is that of the system.
//! Invariants: the first two numbers of the bound's result occur in what a peer prints, or the bench fails; of a sort what
//! it has left is compared instead.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::bounds::THREADS;
use super::{Job, records, words};

/// One program of another system.
#[derive(Clone, Copy)]
pub enum Peer {
    /// A job of `peer_timely`.
    Timely(&'static str),
    /// A job of `peer_renoir`.
    Renoir(&'static str),
    /// The word count in a Python package.
    Python(&'static str),
    /// The sort in a Python package.
    PythonSort(&'static str),
    /// The `sort` of the system.
    GnuSort,
}

/// Word count.
pub const WORD_COUNT: &[Peer] = &[
    Peer::Timely("wordcount-combine"),
    Peer::Timely("wordcount"),
    Peer::Renoir("wordcount-assoc"),
    Peer::Renoir("wordcount"),
    Peer::Python("duckdb"),
    Peer::Python("datafusion"),
    Peer::Python("polars"),
];
/// Event-time window.
pub const WINDOW: &[Peer] = &[Peer::Timely("window")];
/// Keyed running sum.
pub const SUM: &[Peer] = &[Peer::Timely("sum"), Peer::Renoir("sum")];

/// Sort of lines within [`SORT_BYTES`].
pub const SORT: &[Peer] = &[Peer::GnuSort, Peer::PythonSort("datafusion"), Peer::PythonSort("duckdb")];

/// The memory of a sort at full size.
pub const SORT_BYTES: u64 = 1 << 30;
/// The records of a sort at full size.
pub const SORT_RECORDS: u64 = 50_000_000;

/// The memory of a sort: as much less as there are fewer records, so that a small one spills, too.
pub fn sort_bytes(job: &Job) -> u64 {
    (SORT_BYTES / 1024 * job.records / (SORT_RECORDS / 1024)).max(32 << 20)
}

const SORT_SCRIPT: &str = include_str!("peers_sort.py");
const WORD_COUNT_SCRIPT: &str = include_str!("peers_word_count.py");

/// The folder with the peers' programs, if there is one.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("PEERS_DIR").map(PathBuf::from)
}

impl Peer {
    /// What the tables call it.
    pub fn name(self) -> String {
        match self {
            Peer::Timely(job) => format!("timely {job}"),
            Peer::Renoir(job) => format!("Renoir {job}"),
            Peer::Python(package) | Peer::PythonSort(package) => package.to_string(),
            Peer::GnuSort => "GNU sort".to_string(),
        }
    }

    /// Whether it can be run.
    pub fn is_installed(self, folder: &Path) -> bool {
        match self {
            Peer::Timely(_) | Peer::Renoir(_) => self.program(folder).is_file(),
            Peer::Python(package) | Peer::PythonSort(package) => {
                succeeds(Command::new(self.program(folder)).args(["-c", &format!("import {package}")]))
            }
            Peer::GnuSort => succeeds(Command::new(self.program(folder)).arg("--version")),
        }
    }

    /// The command that does the job.
    pub fn command(self, folder: &Path, job: &Job) -> Command {
        let mut command = Command::new(self.program(folder));
        let text = words::path(&job.data, job.records);
        match self {
            Peer::Timely(name) | Peer::Renoir(name) => {
                command.arg(name).arg("--in").arg(text).arg("--out").arg(job.out.join("out.csv"));
                command.args(["--n", &job.records.to_string(), "--keys", &job.keys.to_string()]);
                command.args(["--threads", &THREADS.to_string()]);
                command.env("PEERS_DIR", folder);
            }
            Peer::Python(package) => {
                command.args(["-c", WORD_COUNT_SCRIPT, package]);
                command.arg(text).arg(job.out.join("out.csv")).arg(THREADS.to_string());
                command.env("POLARS_MAX_THREADS", THREADS.to_string());
            }
            Peer::PythonSort(package) => {
                command.args(["-c", SORT_SCRIPT, package]);
                // The temporary files, in a hidden folder, are no output.
                let temp = job.out.join(".temp");
                let _ = std::fs::create_dir_all(&temp);
                command.arg(records::path(&job.data, job.records)).arg(job.out.join("out.txt")).arg(temp);
                command.arg(THREADS.to_string()).arg(sort_bytes(job).to_string());
            }
            Peer::GnuSort => {
                command.env("LC_ALL", "C").args(["-k1.1,1.10", "-s"]);
                command.arg(format!("--parallel={THREADS}")).arg(format!("-S{}b", sort_bytes(job)));
                command.arg("-T").arg(&job.out).arg("-o").arg(job.out.join("out.txt"));
                command.arg(records::path(&job.data, job.records));
            }
        }
        command
    }

    fn program(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Peer::Timely(_) => "target/release/peer_timely",
            Peer::Renoir(_) => "target/release/peer_renoir",
            Peer::Python(_) | Peer::PythonSort(_) => "venv2/bin/python",
            Peer::GnuSort => return PathBuf::from("sort"),
        })
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The first of the bound's first two numbers that the peer did not print.
pub fn missing_number(result: &str, printed: &str) -> Option<u64> {
    let printed: Vec<u64> = numbers(printed).collect();
    numbers(result).take(2).find(|number| !printed.contains(number))
}

fn numbers(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
}
