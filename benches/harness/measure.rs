//! Measure: runs one program as a child process and says what it took.
//!
//! Place: called by the parent, one child at a time.
//! Method: the wall clock runs from before the spawn until the kernel reports the exit; CPU time and peak resident
//! memory are what `wait4` reports for that child alone. A watching thread notes the resident memory ten times a
//! second and kills a child that takes too long.
//! Invariants: the child is reaped only after the watching thread has ended, so that it can never kill a stranger
//! that got the same process id.
//! Costs and limits: Linux. A child's peak includes what its parent held when it was spawned, so the parent stays
//! small: it generates no data and keeps no output.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A child that takes longer than this hangs; the slowest peer takes a minute.
const CHILD_LIMIT: Duration = Duration::from_secs(600);
/// Time between two looks at the resident memory.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What one run took.
pub struct Measured {
    /// What it printed.
    pub stdout: String,
    /// From before the spawn to the exit.
    pub wall: Duration,
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Highest resident memory.
    pub peak_bytes: u64,
    /// Resident memory over time.
    pub resident_bytes: Vec<u64>,
}

impl Measured {
    /// The time that the program itself reports (`inside=SECONDS`), else the wall time.
    pub fn seconds(&self) -> f64 {
        let reported = self.stdout.split("inside=").nth(1).and_then(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            rest[..end].parse().ok()
        });
        reported.unwrap_or(self.wall.as_secs_f64())
    }

    /// The result that the program reports (`result=TEXT`).
    pub fn result(&self) -> &str {
        self.stdout
            .split("result=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_default()
    }

    /// How much more memory was resident, on average, in the last quarter of the run than in the second.
    pub fn growth_bytes(&self) -> i64 {
        let quarter = self.resident_bytes.len() / 4;
        let mean = |part: &[u64]| part.iter().sum::<u64>() as i64 / part.len().max(1) as i64;
        mean(&self.resident_bytes[3 * quarter..]) - mean(&self.resident_bytes[quarter..2 * quarter])
    }
}

/// Runs the command to its end.
///
/// # Errors
/// A sentence with the program's name, if it does not start, fails, or takes too long.
pub fn run(name: &str, command: &mut Command) -> Result<Measured, String> {
    let text = short(command);
    let failed = |what: String| format!("{name}: {what}\n  command: {text}");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("does not start: {error}")))?;
    let pid = child.id();
    let mut output = child.stdout.take();
    let exited = AtomicBool::new(false);
    let (stdout, wall, watched) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&mut child, started, &exited));
        let mut stdout = String::new();
        let read = output.as_mut().map_or(Ok(0), |output| output.read_to_string(&mut stdout));
        wait_for_exit(pid);
        let wall = started.elapsed();
        exited.store(true, Ordering::Release);
        watcher.thread().unpark();
        (read.map(|_| stdout), wall, watcher.join())
    });
    let (status, usage) = reap(pid).map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    let stdout = stdout.map_err(|error| failed(format!("printed something unreadable: {error}")))?;
    let watched = watched.map_err(|_| failed("the thread that watched it panicked".to_string()))?;
    if watched.killed {
        return Err(failed(format!("killed after {} s", CHILD_LIMIT.as_secs())));
    }
    if !status.success() {
        return Err(failed(format!("ended with {status}, having printed {stdout:?}")));
    }
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok(Measured { stdout, wall, cpu, peak_bytes, resident_bytes: watched.resident_bytes })
}

/// The CPU time of a command that is run to its end, or killed with SIGKILL as soon as it has used so much.
///
/// # Errors
/// A sentence, if it does not start, or fails without having been killed.
pub fn cpu_time(command: &mut Command, kill_at: Option<Duration>) -> Result<Duration, String> {
    let text = short(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{text} does not start: {error}"))?;
    let pid = child.id();
    if let Some(at) = kill_at {
        // A process that has ended has no times any more: it is reaped below.
        while cpu_so_far(pid).is_some_and(|used| used < at) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
    }
    let (status, usage) = reap(pid).map_err(|error| format!("{text} cannot be waited for: {error}"))?;
    if !status.success() && kill_at.is_none() {
        return Err(format!("{text} ended with {status}"));
    }
    if status.success() && kill_at.is_some() {
        return Err(format!("{text} ended before it was killed"));
    }
    Ok(duration(usage.ru_utime) + duration(usage.ru_stime))
}

/// User and system time of a process that runs.
fn cpu_so_far(pid: u32) -> Option<Duration> {
    /// The kernel's unit in `/proc/PID/stat`, on every Linux that this runs on.
    const TICKS_PER_SECOND: u64 = 100;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// The command line, without the text of whole scripts.
fn short(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .map(|word| if word.contains('\n') { "...".into() } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

struct Watched {
    resident_bytes: Vec<u64>,
    killed: bool,
}

fn watch(child: &mut Child, started: Instant, exited: &AtomicBool) -> Watched {
    let statm = format!("/proc/{}/statm", child.id());
    let mut watched = Watched { resident_bytes: Vec::new(), killed: false };
    while !exited.load(Ordering::Acquire) {
        if let Some(bytes) = resident_bytes(&statm) {
            watched.resident_bytes.push(bytes);
        }
        if started.elapsed() > CHILD_LIMIT && !watched.killed {
            // It may have exited by itself a moment ago; then there is nothing to kill.
            watched.killed = child.kill().is_ok();
        }
        std::thread::park_timeout(WATCH_INTERVAL);
    }
    watched
}

fn resident_bytes(statm: &str) -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string(statm).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    (pages > 0).then_some(pages * PAGE_BYTES)
}

/// Waits until the child has ended, without reaping it.
fn wait_for_exit(pid: u32) {
    // SAFETY: all zeros is a valid value of this plain C struct, and the pointer is valid for the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        // Only an interruption by a signal makes it return early; then the wait for the reaping is the longer one.
        libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
    }
}

fn reap(pid: u32) -> std::io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: all zeros is a valid value of this plain C struct, both pointers are valid for the call, and the child
    // has been reaped by nobody else: std reaps only in `Child::wait` and `try_wait`, which are not called here.
    let (reaped, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let reaped = libc::wait4(pid.cast_signed(), &mut status, 0, &mut usage);
        (reaped, usage)
    };
    if reaped < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok((ExitStatus::from_raw(status), usage))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(microseconds)
}
