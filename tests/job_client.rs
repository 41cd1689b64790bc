//! JobClient: status, end and cancellation of a running job, and what a plan that is only explained reports.

use mainstem::Error;
use mainstem::api::args::EngineArgs;
use mainstem::prelude::*;

#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    engine: EngineArgs,
}

fn status_at_end(client: &JobClient) -> JobStatus {
    while client.status() == JobStatus::Running {
        std::thread::yield_now();
    }
    client.status()
}

#[test]
fn a_job_that_ends() {
    let env = Environment::new().parallelism(2);
    env.generate(1000, |i| i).name("numbers").sink_to(DiscardSink);
    let client = env.execute_async("ends").unwrap();
    let id = client.id().to_string();
    assert!(!id.is_empty());
    assert_eq!(status_at_end(&client), JobStatus::Finished);
    let result = client.result().unwrap();
    assert_eq!((result.job_id, result.explained), (id.clone(), false));
    assert_eq!(result.operators.iter().find(|o| o.name == "numbers").map(|o| o.records_out), Some(1000));
    env.generate(1, |i| i).sink_to(DiscardSink);
    assert_ne!(env.execute_async("again").unwrap().id(), id);
}

#[test]
fn a_job_that_is_cancelled() {
    let env = Environment::new().execution_mode(ExecutionMode::Streaming).parallelism(2);
    env.read(Generate::unbounded(|i| i)).sink_to(DiscardSink);
    let client = env.execute_async("endless").unwrap();
    assert_eq!(client.status(), JobStatus::Running);
    client.cancellation().cancel();
    assert_eq!(status_at_end(&client), JobStatus::Cancelled);
    assert!(matches!(client.result(), Err(Error::Cancelled)));
}

#[test]
fn a_job_that_fails() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        env.generate(1000, |i| if i == 500 { panic!("no five hundred") } else { i }).sink_to(DiscardSink);
        let client = env.execute_async("fails").unwrap();
        assert_eq!(status_at_end(&client), JobStatus::Failed);
        let error = client.result().unwrap_err().to_string();
        assert!(error.contains("no five hundred"), "{mode}: {error}");
    }
}

#[test]
fn a_plan_that_is_only_explained() {
    let args = <Args as clap::Parser>::parse_from(["test", "--explain"]);
    let env = Environment::with_settings(args.engine.settings().unwrap());
    env.generate(1000, |_| -> u64 { panic!("nothing runs") }).sink_to(DiscardSink);
    let result = env.execute("plan").unwrap();
    assert!(result.explained && result.operators.is_empty());
    assert_eq!(result.to_string(), format!("job 'plan' ({}) was explained, not run\n", result.mode));
}

#[test]
fn bytes_read_are_the_bytes_in_of_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.txt");
    std::fs::write(&path, "one\ntwo\n".repeat(1000)).unwrap();
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        env.read(TextSource::path(&path)).name("lines").broadcast().map(|line| line).sink_to(DiscardSink);
        let result = env.execute("bytes").unwrap();
        let lines = result.operator("lines").unwrap();
        assert_eq!(lines.bytes_in, 8000, "{mode}");
        assert!(lines.counters.iter().any(|(name, n)| name == "lines_invalid_utf8" && *n == 0));
        assert!(!result.to_string().contains("lines_invalid_utf8"), "zeros are not shown");
        let copies = &result.operators[lines.id + 1];
        assert_eq!((copies.records_in, copies.bytes_in), (4000, 2 * lines.bytes_out), "{mode}");
    }
}
