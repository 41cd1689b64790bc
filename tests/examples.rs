//! The programs of the examples, run in process against plain loops or as processes with a command line.

use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[allow(dead_code, reason = "an example's `main` is not called here")]
#[path = "../examples/running_totals.rs"]
mod running_totals;

const PAYMENTS: u64 = 20_000;
const ACCOUNTS: u64 = 37;
const MILESTONE: u64 = 50_000;

fn parameters(milestone: u64) -> Parameters {
    let all = [("payments", PAYMENTS), ("accounts", ACCOUNTS), ("milestone", milestone)];
    all.map(|(key, value)| (key, value.to_string())).into_iter().collect()
}

/// Every milestone of every account, and what was paid in all.
fn expected() -> (Vec<(u64, u64)>, u64) {
    let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
    for payment in (0..PAYMENTS).map(|i| running_totals::payment(i, ACCOUNTS)) {
        *totals.entry(payment.account).or_default() += payment.cents;
    }
    let passed =
        |(&account, total): (&u64, &u64)| (1..=total / MILESTONE).map(move |n| (account, n * MILESTONE));
    (totals.iter().flat_map(passed).collect(), totals.values().sum())
}

/// A7, O1, O2: state, accumulator and parameters of a keyed function are the same in both modes.
#[test]
fn running_totals_pass_the_same_milestones_in_both_modes() {
    let (milestones, paid) = expected();
    assert!(milestones.len() > ACCOUNTS as usize, "too few milestones to tell anything");
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 5] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            let env = env.parameters(parameters(MILESTONE));
            let mut running =
                running_totals::milestones(&env).unwrap().execute_and_collect("totals").unwrap();
            let mut passed: Vec<(u64, u64)> = running.by_ref().collect::<mainstem::Result<_>>().unwrap();
            passed.sort();
            assert_eq!(passed, milestones, "{mode}, parallelism {parallelism}");
            let result = running.result().unwrap();
            let accumulated = result.accumulators.get::<LongCounter>("cents paid").unwrap();
            assert_eq!(accumulated, paid as i64, "{mode}, parallelism {parallelism}");
        }
    }
}

/// O2: an error from `open` fails the job and names the operator.
#[test]
fn running_totals_refuse_a_milestone_of_nothing() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parameters(parameters(0));
        let error =
            running_totals::milestones(&env).unwrap().execute_and_collect("totals").unwrap().into_vec();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("'milestones'") && error.contains("'milestone' is 0"), "{mode}: {error}");
    }
}

/// Runs an example that was built beside this test. Its standard output, or its standard error if it fails.
fn run(name: &str, args: &[&str]) -> Result<String, String> {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: cargo test builds it, or cargo build --profile test --example {name}",
        example.display()
    );
    let done = Command::new(example).args(args).args(["--parallelism", "2"]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

/// All rows of the files in a directory, sorted.
fn rows(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        rows.extend(text.lines().map(String::from));
    }
    rows.sort();
    rows
}

/// Runs an example in both modes with an output directory: the rows, which are the same.
fn rows_of(name: &str, args: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let [streaming, batch] = ["streaming", "batch"].map(|mode| {
        let out = dir.path().join(mode);
        let options = ["--execution-mode", mode, "--output", out.to_str().unwrap()];
        run(name, &[args, &options].concat()).unwrap();
        rows(&out)
    });
    assert_eq!(streaming, batch, "{name} {args:?}");
    streaming
}

/// E1: transactions from a file, and thresholds from the command line.
#[test]
fn fraud_reads_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("transactions.csv");
    let text = "account,amount,timestamp\n7,0.99,0\n8,1.99,500\n7,500.01,1000\n8,400,60500\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(rows_of("fraud", &["--input", file]), ["7,50001,1000"]);
    let thresholds = ["--input", file, "--small", "2", "--large", "399.99"];
    assert_eq!(rows_of("fraud", &thresholds), ["7,50001,1000", "8,40000,60500"]);

    let printed = run("fraud", &["--input", file]).unwrap();
    assert!(printed.contains("Alert { account: 7, cents: 50001, timestamp: 1000 }"), "{printed}");
    let error = run("fraud", &["--small", "little"]).unwrap_err();
    assert!(error.contains("'little' is not an amount"), "{error}");
    std::fs::write(file, "7,much,0\n").unwrap();
    let error = run("fraud", &["--input", file]).unwrap_err();
    assert!(error.contains("'7,much,0' is not a transaction"), "{error}");
}

/// E3: a thousand clicks of each page and window.
#[test]
fn clicks_count_to_a_thousand() {
    let counts = rows_of("clicks", &["--events", "12000"]);
    assert_eq!(counts.len(), 12);
    assert!(counts.iter().all(|row| row.ends_with(",1000")), "{counts:?}");
    assert_eq!(counts[0], "1577836800000,1577836815000,/about,1000");
}

/// E4: each of the four jobs.
#[test]
fn taxi_does_all_of_its_jobs() {
    for (job, few, many) in
        [("cleansing", 2_800, 3_100), ("fares", 1_998, 1_998), ("tips", 6, 7), ("long-rides", 600, 1_000)]
    {
        let rows = rows_of("taxi", &["--job", job, "--rides", "2000"]);
        assert!((few..=many).contains(&rows.len()), "{job}: {}", rows.len());
    }
    let printed = run("taxi", &["--job", "fares", "--rides", "2000"]).unwrap();
    assert_eq!(printed.matches(" has no fare").count(), 2, "{printed}");
}

/// M12: the three steps of sorting, as processes; a directory that is not in order is told.
#[test]
fn sort_records_generates_sorts_and_validates() {
    let dir = tempfile::tempdir().unwrap();
    let [made, sorted] = ["made", "sorted"].map(|name| dir.path().join(name).to_str().unwrap().to_string());
    run("sort_records", &["--generate", "20000", "--output", &made]).unwrap();
    let report = run("sort_records", &["--input", &made, "--output", &sorted, "--memory", "16MiB"]).unwrap();
    assert!(report.contains("(batch)"), "{report}");
    let valid = run("sort_records", &["--validate", &sorted, "--like", &made]).unwrap();
    assert!(valid.starts_with("sorted: 20000 records, checksum "), "{valid}");
    let error = run("sort_records", &["--validate", &made]).unwrap_err();
    assert!(error.contains("is below the one before"), "{error}");
}

/// M12: graphs from a file, by iteration.
#[test]
fn graphs_are_read_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edges.txt");
    std::fs::write(&file, "1 2\n2 3\n7 8\n9 9\n").unwrap();
    let file = file.to_str().unwrap();
    let components = rows_of("connected_components", &["--input", file]);
    assert_eq!(components, ["1,1", "2,1", "3,1", "7,7", "8,7", "9,9"]);
    let ranks = rows_of("pagerank", &["--input", file, "--rounds", "1"]);
    assert_eq!((ranks.len(), ranks[0].as_str()), (6, "1,24999999999"));
    std::fs::write(file, "1 to 2\n").unwrap();
    let error = run("pagerank", &["--input", file]).unwrap_err();
    assert!(error.contains("'1 to 2' is not an edge"), "{error}");
}

/// The report over generated files, sorted by revenue.
#[test]
fn report_reads_what_it_generates() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    run("report", &["--generate", dir, "--orders", "3000"]).unwrap();
    let rows = rows_of("report", &["--input", dir]);
    assert!(rows.len() == 20 && rows.iter().any(|row| row.starts_with("Germany,-,")), "{rows:?}");
}
