//! Control of running jobs: the program `mainstem` and the sockets of jobs, with jobs in processes of their own.

use mainstem::api::JobStatus;
use mainstem::api::control::protocol::{REQUEST_BYTES_MAX, Response};
use mainstem::api::control::record::JobRecord;
use mainstem::prelude::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Set in a process that is to be a job and not a test.
const AS_JOB: &str = "MAINSTEM_TEST_JOB";
/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Not a test but the job of the others: endless, with state, told by variables what it is to do.
#[test]
fn job_process() {
    if std::env::var_os(AS_JOB).is_none() {
        return;
    }
    let env = Environment::with_settings(EngineArgs::default().settings().unwrap());
    let numbers = env.read(Generate::unbounded(|i| i).rate(20_000.0));
    let counts =
        numbers.name("numbers").uid("numbers").key_by(|i| i % 10).count().name("counts").uid("counts");
    counts.sink_to(DiscardSink);
    match env.execute("endless") {
        Ok(_) | Err(mainstem::Error::Cancelled) => {}
        Err(e) => panic!("{e}"),
    }
}

struct Job {
    child: Child,
    dir: PathBuf,
}

impl Job {
    /// Starts a job that listens in `dir`, and waits until it runs.
    fn start(dir: &Path, variables: &[(&str, &str)]) -> Job {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "job_process", "--nocapture"]).env(AS_JOB, "1").env("MAINSTEM_CONTROL", dir);
        command.env("MAINSTEM_PARALLELISM", "2").envs(variables.iter().copied());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let job = Job { child, dir: dir.to_path_buf() };
        until("the job runs", || {
            let listed = mainstem(&["list", "--json", path(dir)]);
            let jobs: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            let pid = u64::from(job.child.id());
            let is_ours = |of: &Value| of["process"] == pid && of["status"] == "running";
            jobs.as_array().is_some_and(|jobs| jobs.iter().any(is_ours))
        });
        job
    }

    fn socket(&self) -> PathBuf {
        let records = JobRecord::all(&self.dir).unwrap();
        let ours = records.iter().find(|record| record.process == self.child.id()).unwrap();
        JobRecord::socket(&self.dir, &ours.id)
    }

    fn ended_well(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mainstem(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstem")).args(args).output().unwrap()
}

/// What `mainstem` prints, and its exit code.
fn told(args: &[&str]) -> (i32, String) {
    let output = mainstem(args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status(dir: &Path) -> Value {
    let (code, text) = told(&["status", "--json", path(dir)]);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// O3: a running job is listed, tells how far it is, and is cancelled; afterwards it is listed as such.
#[test]
fn a_job_is_listed_tells_its_status_and_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("nightly");
    let job = Job::start(
        &below,
        &[("MAINSTEM_CHECKPOINT_INTERVAL", "50ms"), ("MAINSTEM_CHECKPOINT_STORAGE", "memory")],
    );
    assert_eq!(job.socket().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    until("records flow and checkpoints are taken", || {
        let now = status(&below);
        now["operators"][1]["records_in"].as_u64() > Some(1_000)
            && now["checkpoints"]["completed"].as_u64() > Some(1)
    });
    until("rates are those of the source", || {
        let rate = status(&below)["operators"][0]["records_out_per_second"].as_f64().unwrap();
        (5_000.0..40_000.0).contains(&rate)
    });
    let now = status(&below);
    assert_eq!(
        (&now["job_name"], &now["status"], &now["mode"]),
        (&"endless".into(), &"running".into(), &"streaming".into())
    );
    let counts = &now["operators"][1];
    assert_eq!(
        (&counts["name"], &counts["uid"], &counts["parallelism"]),
        (&"counts".into(), &"counts".into(), &2.into())
    );
    let spent: f64 =
        ["busy", "idle", "backpressured"].iter().map(|part| counts[part].as_f64().unwrap()).sum();
    assert!((0.99..1.01).contains(&spent), "{spent}");
    let (code, text) = told(&["status", path(dir.path())]);
    assert_eq!(code, 0, "found in a directory below: {text}");
    assert!(text.contains("job 'endless' (streaming") && text.contains("checkpoints: "), "{text}");

    let (code, text) = told(&["cancel", path(&below)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("'endless'") && text.contains("cancelled"), "{text}");
    let socket = job.socket();
    job.ended_well();
    assert!(!socket.exists());
    let (code, text) = told(&["list", path(dir.path())]);
    assert_eq!(code, 0);
    assert!(text.contains("cancelled") && text.contains("nightly"), "{text}");
    assert_eq!(status(&below)["status"], "cancelled", "the last report of a job that has ended");
    let (code, text) = told(&["cancel", path(&below)]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("does not run: it is cancelled"), "{text}");
}

/// O3: a job whose process was killed is lost, and another one can run in its directory.
#[test]
fn a_killed_job_is_lost_and_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = Job::start(dir.path(), &[]);
    job.child.kill().unwrap();
    job.child.wait().unwrap();
    assert!(told(&["list", path(dir.path())]).1.contains("lost"));
    let (code, text) = told(&["status", path(dir.path())]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("it is lost"), "{text}");
    let (first, second) = (Job::start(dir.path(), &[]), Job::start(dir.path(), &[]));
    let (code, text) = told(&["cancel", path(dir.path())]);
    assert_eq!(code, 3);
    assert!(text.contains("2 jobs run in") && text.contains("--job ID"), "{text}");
    let id = first.socket().file_stem().unwrap().to_str().unwrap().replace("job-", "");
    assert_eq!(told(&["cancel", path(dir.path()), "--job", &id]).0, 0);
    first.ended_well();
    assert_eq!(told(&["cancel", path(dir.path())]).0, 0, "only one is left");
    second.ended_well();
}

/// C8: a job stops behind a checkpoint; one that takes none refuses and goes on.
#[test]
fn a_job_stops_behind_a_checkpoint_or_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::start(dir.path(), &[]);
    let (code, text) = told(&["stop", path(dir.path())]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("takes no checkpoints"), "{text}");
    assert_eq!(status(dir.path())["status"], "running");
    assert_eq!(told(&["cancel", path(dir.path())]).0, 0);
    job.ended_well();
    for drain in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::start(dir.path(), &[("MAINSTEM_JOB_DIR", path(dir.path()))]);
        let mut args = vec!["stop", path(dir.path())];
        args.extend(drain.then_some("--drain"));
        let (code, text) = told(&args);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("stopped"), "{text}");
        job.ended_well();
        let records = JobRecord::all(dir.path()).unwrap();
        assert_eq!(records[0].status, JobStatus::Stopped);
        assert_eq!(records[0].report.as_ref().unwrap().checkpoints.as_ref().unwrap().completed, 1);
    }
}

/// Whatever comes through the socket is answered with an error, and the job goes on.
#[test]
fn nothing_that_is_sent_disturbs_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::start(dir.path(), &[]);
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let noise: Vec<u8> = (0..20_000u64)
        .map(|i| (seed.wrapping_add(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    let mut long = vec![b'['; REQUEST_BYTES_MAX + 1];
    long.push(b'\n');
    let relative = b"{\"command\":\"savepoint\",\"path\":\"here\"}\n";
    let messages: [&[u8]; 8] = [
        b"\n",
        b"{}\n",
        b"{\"command\":\"status\",\"x\":1}\n",
        &long,
        &noise,
        b"\xff\xfe\n",
        relative,
        &[b'[', b'\n'].repeat(999),
    ];
    for message in messages {
        let mut stream = UnixStream::connect(job.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // The job may hang up before it has read everything.
        let _ = stream.write_all(message);
        let _ = stream.write_all(b"\n");
        let mut answer = String::new();
        // Where it hung up with something unread, what it had said may be lost.
        if BufReader::new(stream).read_line(&mut answer).is_ok_and(|bytes| bytes > 0) {
            let answer: Response = serde_json::from_str(&answer).unwrap();
            assert!(matches!(answer, Response::Error(_)), "{answer:?}");
        }
        assert_eq!(status(dir.path())["status"], "running");
    }
    // Connections that say nothing, more than there may be.
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(job.socket()).unwrap()).collect();
    until("the last one is told that there are too many", || {
        let mut answer = [0; 8];
        let mut last = silent.last().unwrap();
        last.set_read_timeout(Some(LIMIT)).unwrap();
        last.read(&mut answer).is_ok_and(|bytes| answer[..bytes].starts_with(b"{\"error"))
    });
    drop(silent);
    until("there is room again", || told(&["status", path(dir.path())]).0 == 0);
    assert_eq!(told(&["cancel", path(dir.path())]).0, 0);
    job.ended_well();
}

/// O3: the exit code tells what went wrong.
#[test]
fn exit_codes_tell_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    assert_eq!(told(&["list", path(dir.path())]).0, 0);
    assert_eq!(told(&["explode"]).0, 2);
    assert_eq!(told(&["status"]).0, 2);
    let (code, text) = told(&["status", path(dir.path())]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("there is no job in") && text.contains("--control"), "{text}");
    for verb in ["list", "status", "stop", "cancel"] {
        let (code, text) = told(&[verb, path(&missing)]);
        assert_eq!(code, 3, "{text}");
        assert!(text.contains(path(&missing)), "{text}");
    }
    // A job that hangs: its socket takes connections, and nobody answers.
    let record = JobRecord {
        id: "hangs".into(),
        name: "hangs".into(),
        process: 1,
        started_ms: 0,
        ended_ms: None,
        status: JobStatus::Running,
        error: None,
        report: None,
    };
    record.write(dir.path()).unwrap();
    let _listener = UnixListener::bind(JobRecord::socket(dir.path(), "hangs")).unwrap();
    let (code, text) = told(&["status", path(dir.path()), "--timeout", "1"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("has not answered within 1 s"), "{text}");
}

/// A control directory that cannot be used is an error before anything runs, and leaves no traces of the output.
#[test]
fn a_control_directory_that_cannot_be_used_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("file"), dir.path().join("out"));
    std::fs::write(&file, "").unwrap();
    let env = Environment::new().control(&file);
    env.from_iter([1]).map(|n| n.to_string()).sink_to(TextSink::text(&out));
    let error = env.execute("refused").unwrap_err().to_string();
    assert!(error.contains(path(&file)), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The client of a job in the same process sees the same.
#[test]
fn a_client_reports_what_status_tells() {
    let dir = tempfile::tempdir().unwrap();
    let env = Environment::new().parallelism(1).control(dir.path());
    env.read(Generate::unbounded(|i| i)).name("numbers").sink_to(DiscardSink);
    let job = env.execute_async("in process").unwrap();
    until("records flow", || job.report().unwrap().operators[0].records_out > 10_000);
    let report = job.report().unwrap();
    assert_eq!((report.job_id.as_str(), report.status), (job.id(), JobStatus::Running));
    assert!(report.operators[0].busy > 0.0 && report.operators[0].records_out_per_second > 0.0);
    assert_eq!(told(&["cancel", path(dir.path()), "--job", "in process"]).0, 0);
    assert!(matches!(job.result(), Err(mainstem::Error::Cancelled)));
    let records = JobRecord::all(dir.path()).unwrap();
    assert_eq!(
        (records[0].status, records[0].error.as_deref()),
        (JobStatus::Cancelled, Some("job cancelled"))
    );
}

/// C8, O3: `savepoint` writes one and the job goes on, `stop --savepoint` ends with one, and a later job goes on from it.
#[test]
fn savepoints_are_asked_for_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("control");
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let memory = [("MAINSTEM_CHECKPOINT_INTERVAL", "1h"), ("MAINSTEM_CHECKPOINT_STORAGE", "memory")];
    let job = Job::start(&control, &memory);
    until("records flow", || status(&control)["operators"][1]["records_in"].as_u64() > Some(1_000));
    let (code, text) = told(&["savepoint", path(&control), path(&one)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(path(&one)), "{text}");
    assert!(one.join("manifest.json").exists());
    let (code, text) = told(&["savepoint", path(&control), path(&one)]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("is not empty"), "{text}");
    assert_eq!(status(&control)["status"], "running");
    let (code, text) = told(&["stop", path(&control), "--savepoint", path(&two)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("stopped") && text.contains(path(&two)), "{text}");
    job.ended_well();
    let manifest: Value = serde_json::from_slice(&std::fs::read(two.join("manifest.json")).unwrap()).unwrap();
    let counts = |manifest: &Value| -> String {
        let operators = manifest["savepoint"]["operators"].as_array().unwrap().clone();
        operators
            .iter()
            .map(|of| of["operator"]["name"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    assert!(counts(&manifest).starts_with("numbers,counts"), "{manifest}");
    let again = Job::start(
        &control,
        &[&memory[..], &[("MAINSTEM_RESTORE", path(&two)), ("MAINSTEM_PARALLELISM", "3")]].concat(),
    );
    until("it goes on", || status(&control)["operators"][1]["records_in"].as_u64() > Some(100));
    let (code, text) = told(&["savepoint", path(&control), path(&dir.path().join("three"))]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(told(&["cancel", path(&control)]).0, 0);
    again.ended_well();
}
