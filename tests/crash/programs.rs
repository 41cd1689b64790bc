//! Programs: random pipelines in both modes, killed and restored, against plain iterators.

use crate::common::program::{Program, Rec};
use crate::common::{engine, generator, oracle};
use crate::output::{in_memory, lines_in_order};
use crate::rig::{JOB, OUT, Rig, never_began};
use crate::size::{Random, random, seed, size};
use mainstem::base::config::Settings;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, MemVfs, SharedVfs};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

struct Case {
    program: Program,
    mode: ExecutionMode,
    parallelism: usize,
    kills: usize,
}

fn run(case: &Case, vfs: SharedVfs, seed: u64, restore: bool) -> mainstem::Result<JobResult> {
    match run_once(case, vfs.clone(), seed, restore) {
        Err(e) if restore && never_began(&e) => run_once(case, vfs, seed, false),
        ended => ended,
    }
}

fn run_once(case: &Case, vfs: SharedVfs, seed: u64, restore: bool) -> mainstem::Result<JobResult> {
    let batch = case.mode == ExecutionMode::Batch;
    let (seed, parallelism) = (seed.to_string(), case.parallelism.to_string());
    let mut args = vec!["program", "--seed", &seed, "--parallelism", &parallelism, "--temp-dir", "/tmp"];
    match (batch, restore) {
        (true, true) => args.extend(["--resume", JOB]),
        (true, false) => args.extend(["--job-dir", JOB]),
        (false, _) => {
            args.extend(["--job-dir", JOB, "--checkpoint-interval", "1ms", "--restart-strategy", "none"]);
        }
    }
    if !batch && restore {
        args.extend(["--restore", "latest"]);
    }
    let (settings, _) = Settings::from_args_iter(args)?;
    let env = Environment::with_settings(settings).execution_mode(case.mode).vfs(vfs);
    engine::build_into_files(&case.program, &env, &Path::new(OUT).join("program"));
    env.execute("program")
}

fn check(case: &Case, disk: &MemVfs) -> Result<(), String> {
    let files = in_memory(disk, Path::new(OUT));
    let parse = |line: &String| serde_json::from_str::<Rec>(line).map_err(|e| format!("'{line}': {e}"));
    let mut actual = lines_in_order(&files).iter().map(parse).collect::<Result<Vec<Rec>, String>>()?;
    let batch = case.mode == ExecutionMode::Batch;
    if case.program.rolling_end && !batch {
        // The last one of each key is the result.
        let last: BTreeMap<u8, Rec> = actual.into_iter().map(|record| (record.key, record)).collect();
        actual = last.into_values().collect();
    }
    let mut expected = oracle::expected(&case.program, batch, case.parallelism);
    actual.sort();
    expected.sort();
    match actual == expected {
        true => Ok(()),
        false => Err(format!("{} records, expected {}", actual.len(), expected.len())),
    }
}

/// Runs a case with its kills; how many processes were killed.
fn play(case: &Case, random: &mut Random) -> Result<usize, String> {
    let disk = Rig::disk();
    let mut killed = 0;
    for process in 0..case.kills {
        let plan = FaultPlan::fail_at(random.below(100) as u64, Fault::Io).and_from_then_on();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        if run(case, faulty, random.next(), process > 0).is_ok() {
            return check(case, &disk).map(|()| killed);
        }
        killed += 1;
    }
    run(case, Arc::new(disk.clone()), random.next(), case.kills > 0).map_err(|e| e.to_string())?;
    check(case, &disk).map(|()| killed)
}

/// T18: random programs in both modes, at several parallelisms, killed up to twice.
#[test]
fn t18_random_programs_survive_kills() {
    let first = seed(18_000);
    let programs = if std::env::var_os("MAINSTEM_SEED").is_some() { 1 } else { size(100, 5_000) };
    let (mut runs, mut kills) = (0, 0);
    for seed in first..first + programs {
        let program = generator::program(seed);
        for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
            if mode == ExecutionMode::Streaming && program.batch_only {
                continue;
            }
            let mut random = random(seed, mode as u64);
            let parallelism = random.pick(&[1, 2, 4]);
            let case = Case { program: program.clone(), mode, parallelism, kills: random.below(3) };
            match play(&case, &mut random) {
                Ok(killed) => kills += killed,
                Err(e) => panic!(
                    "{e}\n{mode}, parallelism {parallelism}, {} kills\n{program:#?}\nagain: MAINSTEM_SEED={seed} cargo \
                     test --features mutants --test crash t18_",
                    case.kills
                ),
            }
            runs += 1;
        }
    }
    println!("T18: {runs} runs, {kills} kills, seeds from {first}");
    assert!(kills as u64 * 4 > runs, "{kills} kills in {runs} runs");
}
