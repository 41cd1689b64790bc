//! Resume: opens the directory of a job, and says what this process is about to run, so that it can be compared with what
//! the job was when it began.
//!
//! Limits: arguments are those of the process. Options that do not decide what comes out may differ: where the job is, how it
//! restarts, where temporary files are, and what is shown.

use super::job::{JobPlan, process_name};
use crate::base::config::ExecutionMode;
use crate::base::error::{Error, Result};
use crate::executors::resume::{EXECUTABLE, Facts, ResumableJob};
use crate::operator::source::SourceRun;
use crate::services::job_dir::JobDirectory;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Options with a value that may differ, and then those without.
const FREE_OPTIONS: [&str; 5] = ["--job-dir", "--resume", "--restart-strategy", "--temp-dir", "--progress"];
const FREE_FLAGS: [&str; 1] = ["--resume-other-executable"];

/// The job in the job directory of the settings, if there is one and the plan is run in BATCH.
pub(super) fn open(plan: &JobPlan, new_id: &str) -> Result<Option<ResumableJob>> {
    if plan.physical.mode != ExecutionMode::Batch {
        return match &plan.settings.resume {
            Some(dir) => Err(Error::config(format!(
                "a job in STREAMING is not resumed from '{}' but goes on from a checkpoint: give it as --job-dir, with \
                 --restore latest",
                dir.display()
            ))),
            None => Ok(None),
        };
    }
    let Some(dir) = plan.settings.job_directory() else { return Ok(None) };
    let directory = JobDirectory::open(plan.vfs.clone(), dir, &process_name())?;
    ResumableJob::open(directory, plan.settings.resume.is_some(), new_id.to_string()).map(Some)
}

/// What this process is about to run.
pub(super) fn facts(
    name: &str,
    plan: &JobPlan,
    sources: &BTreeMap<usize, Arc<dyn SourceRun>>,
) -> Result<Facts> {
    let mut facts = vec![
        ("job".to_string(), format!("'{name}'")),
        ("version of the engine".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("memory".to_string(), plan.settings.memory.to_string()),
    ];
    facts.extend(plan.physical.facts());
    facts.push(("parameters".to_string(), format!("{:?}", plan.parameters.to_string())));
    let arguments = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    facts.push(("arguments".to_string(), format!("{:?}", deciding(arguments))));
    facts.push((EXECUTABLE.to_string(), executable()?));
    for (step, source) in sources {
        let operator = &plan.physical.steps[*step].name;
        facts.extend(source.fingerprint().map_err(|e| e.in_operator(operator, 0))?);
    }
    Ok(facts)
}

/// The arguments that may decide what comes out.
fn deciding(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut deciding = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (argument.as_str(), None),
        };
        if FREE_OPTIONS.contains(&option) {
            if value.is_none() {
                arguments.next();
            }
        } else if !FREE_FLAGS.contains(&option) {
            deciding.push(argument);
        }
    }
    deciding
}

/// Size and checksum of the executable of this process.
fn executable() -> Result<String> {
    let path = std::env::current_exe().map_err(|e| Error::io("find", "the executable of this process", e))?;
    let io = |e| Error::io("read", &path, e);
    let mut file = std::fs::File::open(&path).map_err(io)?;
    let (mut checksum, mut len) = (Xxh3::new(), 0u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok(format!("one of {len} bytes with checksum {:016x}", checksum.digest()));
        }
        checksum.update(&buffer[..read]);
        len += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_decide_nothing_may_differ() {
        let deciding = |line: &str| deciding(line.split_whitespace().map(str::to_string)).join(" ");
        assert_eq!(deciding("--input a --job-dir /x --top 5"), "--input a --top 5");
        assert_eq!(
            deciding("--input a --resume=/x --top 5 --resume-other-executable --temp-dir /t"),
            "--input a --top 5"
        );
        assert_eq!(deciding("--memory 1GiB --restart-strategy none -v"), "--memory 1GiB -v");
    }

    #[test]
    fn the_executable_has_a_fixed_description() {
        assert_eq!(executable().unwrap(), executable().unwrap());
    }
}
