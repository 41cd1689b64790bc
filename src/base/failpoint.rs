//! Failpoint: named places of the engine at which a test makes it fail, panic or die.
//!
//! Place: `reach` and `pass` stand in the code of services, executors and sinks. Without the cargo feature
//! `failpoints` they compile to nothing, and nothing else of this module exists.
//! Method: a plan names places, the hit at which each acts, and what it does. It comes from the variable
//! `MAINSTEM_FAILPOINTS`, for a child process, or from `Scenario::begin`, for a test in process:
//! `ckpt.renamed=kill@3;sink.commit=error@1+` kills the process at the third hit of the one and fails every hit of the
//! other. Why not the crate `fail`: its actions cannot kill the process as `kill -9` does, and it does not count hits.
//! Invariants: a name stands in `NAMES` and in one place of the code at least; a test compares them.
//! Costs and limits: with the feature, one lock a hit, so no place is reached once for each record.

use super::error::{Error, Result};

#[cfg(feature = "failpoints")]
pub use active::{Action, NAMES, Scenario, VARIABLE, hits, pass, reach};

/// A place that can fail; see the module.
///
/// # Errors
/// Never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn reach(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

/// A place that can fail with an error of the engine; see the module.
///
/// # Errors
/// Never without the feature `failpoints`.
#[inline(always)]
pub(crate) fn check(name: &'static str) -> Result<()> {
    reach(name).map_err(|e| Error::io("pass", "fail point", e))
}

/// A place that cannot fail; see the module.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn pass(_name: &'static str) {}

#[cfg(feature = "failpoints")]
mod active {
    use std::collections::BTreeMap;
    use std::io;
    use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

    /// Every place there is, in the order in which a job comes by.
    pub const NAMES: &[&str] = &[
        "job.locked",
        "small_file.write",
        "small_file.sync",
        "small_file.rename",
        "small_file.sync_dir",
        "restore.read",
        "restore.sources",
        "restore.sinks",
        "restore.operator",
        "file_sink.cut",
        "file_sink.clean_up",
        "source.open",
        "checkpoint.begin",
        "source.position",
        "barrier.first",
        "barrier.aligned",
        "snapshot.begin",
        "snapshot.taken",
        "sink.prepare",
        "sink.prepared",
        "state_file.create",
        "state_file.write",
        "state_file.sync",
        "state_file.sync_dir",
        "checkpoint.state_written",
        "checkpoint.acknowledge",
        "checkpoint.finished",
        "checkpoint.write",
        "checkpoint.durable",
        "checkpoint.prune",
        "checkpoint.pruned",
        "checkpoint.complete",
        "sink.commit",
        "file_sink.rename",
        "file_sink.sync_dir",
        "sink.committed",
        "checkpoint.notify",
        "sink.finish",
        "savepoint.table_written",
        "savepoint.renamed",
        "savepoint.durable",
        "stage.resume",
        "shuffle.run",
        "shuffle.merge",
        "shuffle.read",
        "stage.unit_done",
    ];

    /// The variable with the plan of a process.
    pub const VARIABLE: &str = "MAINSTEM_FAILPOINTS";

    /// What happens at a place.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Action {
        /// The operation fails with an error of the device; where none can, a panic.
        Error,
        /// A panic of the thread.
        Panic,
        /// The process dies at once, as by `kill -9`.
        Kill,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Rule {
        action: Action,
        /// From 1.
        at: u64,
        from_then_on: bool,
    }

    #[derive(Default)]
    struct Points {
        rules: BTreeMap<String, Rule>,
        hits: BTreeMap<&'static str, u64>,
    }

    fn points() -> MutexGuard<'static, Points> {
        static POINTS: OnceLock<Mutex<Points>> = OnceLock::new();
        let points = POINTS.get_or_init(|| {
            let plan = std::env::var(VARIABLE).unwrap_or_default();
            let rules = parse(&plan).unwrap_or_else(|e| panic!("{VARIABLE}: {e}"));
            Mutex::new(Points { rules, ..Points::default() })
        });
        points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(plan: &str) -> Result<BTreeMap<String, Rule>, String> {
        let rule = |text: &str| {
            let (name, rest) = text.split_once('=')?;
            let (action, at) = rest.split_once('@').unwrap_or((rest, "1"));
            let action = match action {
                "error" => Action::Error,
                "panic" => Action::Panic,
                "kill" => Action::Kill,
                _ => return None,
            };
            let (at, from_then_on) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
            let at = at.parse().ok().filter(|at| *at > 0)?;
            NAMES.contains(&name).then(|| (name.to_string(), Rule { action, at, from_then_on }))
        };
        let rules = plan.split(';').map(str::trim).filter(|text| !text.is_empty());
        let no_rule = |text| {
            format!("'{text}' is not NAME=error|panic|kill[@HIT[+]] with a name there is, from {NAMES:?}")
        };
        rules.map(|text| rule(text).ok_or_else(|| no_rule(text))).collect()
    }

    /// A plan for this process, in place of the one before, until it is dropped. One at a time: others wait.
    pub struct Scenario {
        _one: MutexGuard<'static, ()>,
    }

    impl Scenario {
        /// Begins with all hits at 0.
        ///
        /// # Panics
        /// When the plan cannot be read.
        pub fn begin(plan: &str) -> Scenario {
            static ONE: Mutex<()> = Mutex::new(());
            let scenario = Scenario { _one: ONE.lock().unwrap_or_else(PoisonError::into_inner) };
            let rules = parse(plan).unwrap_or_else(|e| panic!("{e}"));
            *points() = Points { rules, ..Points::default() };
            scenario
        }
    }

    impl Drop for Scenario {
        fn drop(&mut self) {
            *points() = Points::default();
        }
    }

    /// How often each place was reached so far.
    pub fn hits() -> BTreeMap<&'static str, u64> {
        points().hits.clone()
    }

    /// A place that can fail; see the module.
    ///
    /// # Errors
    /// When the plan says so.
    pub fn reach(name: &'static str) -> io::Result<()> {
        match due(name) {
            None => Ok(()),
            Some(Action::Error) => Err(io::Error::other(format!("fail point '{name}'"))),
            Some(action) => end(action, name),
        }
    }

    /// A place that cannot fail; see the module.
    pub fn pass(name: &'static str) {
        if let Some(action) = due(name) {
            end(action, name)
        }
    }

    fn due(name: &'static str) -> Option<Action> {
        assert!(NAMES.contains(&name), "fail point '{name}' is not in the list of names");
        let mut points = points();
        let hits = points.hits.entry(name).or_default();
        *hits += 1;
        let hit = *hits;
        let rule = points.rules.get(name)?;
        (hit == rule.at || rule.from_then_on && hit > rule.at).then_some(rule.action)
    }

    fn end(action: Action, name: &str) -> ! {
        if action == Action::Kill {
            // SAFETY: both calls take numbers only. A signal to the own process that cannot be caught ends all of its
            // threads, without destructors or exit handlers.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
        panic!("fail point '{name}'")
    }
}
