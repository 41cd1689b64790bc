//! Process: this test, started again as a child that runs a job, and what becomes of it.

use crate::harness::{End, Job};
use mainstem::base::failpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The variable with the orders of a child.
pub const CHILD: &str = "MAINSTEM_CRASH_CHILD";
/// A child that runs longer hangs.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What a child is told.
#[derive(Serialize, Deserialize)]
pub struct Orders {
    pub job: Job,
    pub dir: PathBuf,
    /// Its number, from 0.
    pub process: usize,
}

impl Orders {
    pub fn job_dir(&self) -> String {
        self.dir.join("job").display().to_string()
    }
}

/// A child. Killed when it is dropped.
pub struct Process {
    child: Child,
    number: usize,
    dir: PathBuf,
    start: Instant,
}

impl Process {
    /// Starts the `number`-th process of a job in `dir`, with a plan for its fail points.
    pub fn start(job: &Job, dir: &Path, number: usize, plan: &str) -> Result<Process, String> {
        let orders = Orders { job: job.clone(), dir: dir.to_path_buf(), process: number };
        let error = |e: std::io::Error| format!("cannot start a child: {e}");
        let file = |name: &str| std::fs::File::create(dir.join(format!("{name}-{number}"))).map_err(error);
        let child = Command::new(std::env::current_exe().map_err(error)?)
            .args(["--exact", "the_child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(CHILD, serde_json::to_string(&orders).map_err(|e| e.to_string())?)
            .env(failpoint::VARIABLE, plan)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .spawn()
            .map_err(error)?;
        Ok(Process { child, number, dir: dir.to_path_buf(), start: Instant::now() })
    }

    /// Waits until it ends, for so long at most.
    pub fn wait(&mut self, time: Duration) -> Option<ExitStatus> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            let left = time.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(2)));
        }
    }

    /// Bytes of memory that it holds now.
    pub fn memory_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: numbers only; the child has not been waited for, so its number is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Whether it died as planned; false if it came to the end before. Any other end is an error.
    pub fn ends(&mut self, end: &End) -> Result<bool, String> {
        let limit = if let End::After(time) = end { *time } else { TIME_LIMIT };
        let Some(status) = self.wait(limit) else {
            self.kill();
            let killed = matches!(end, End::After(_));
            return if killed {
                Ok(true)
            } else {
                Err(format!("process {} hangs; {}", self.number, self.errors()))
            };
        };
        match end {
            _ if status.success() => Ok(false),
            End::At(_) if status.signal() == Some(libc::SIGKILL) => Ok(true),
            // Errors and panics of a plan end the process with a sentence.
            End::At(plan) if status.code().is_some() && !plan.contains("kill") => Ok(true),
            _ => Err(format!("process {} ended with {status}; {}", self.number, self.errors())),
        }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("{name}-{}", self.number))).unwrap_or_default()
    }

    /// The end of what it wrote to standard error.
    pub fn errors(&self) -> String {
        let text = self.read("stderr");
        let text = text.trim();
        text.chars().skip(text.chars().count().saturating_sub(2_000)).collect()
    }

    /// From its start to its first record; nothing if there was none.
    pub fn first_record(&self) -> Duration {
        Duration::from_micros(self.read("first").trim().parse().unwrap_or(0))
    }

    pub fn has_a_record(&self) -> bool {
        !self.read("first").is_empty()
    }

    /// How often it came by each fail point, if it ended by itself.
    pub fn hits(&self) -> BTreeMap<String, u64> {
        serde_json::from_str(&self.read("hits")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the child does.
pub fn child(orders: &str) -> ! {
    let start = Instant::now();
    let orders: Orders = serde_json::from_str(orders).expect("orders of the harness");
    let file = |name: &str| orders.dir.join(format!("{name}-{}", orders.process));
    let first = file("first");
    let ended = orders.job.main(&orders, move || {
        let _ = std::fs::write(&first, start.elapsed().as_micros().to_string());
    });
    let hits = serde_json::to_string(&failpoint::hits()).unwrap_or_default();
    let _ = std::fs::write(file("hits"), hits);
    match ended {
        Ok(()) => std::process::exit(0),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    }
}
