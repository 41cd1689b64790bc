//! User code that fails: an `Err` or a panic, in every kind of function, in both modes, with both drivers. The job fails
//! and names the operator, what was opened is closed, the process lives and its next job runs.

use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What goes wrong at the record 500.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Err,
    Panic,
}

impl Fault {
    fn check(self, n: u64) -> Result<u64, String> {
        match self {
            _ if n != 500 => Ok(n),
            Fault::Err => Err("cannot take 500".into()),
            Fault::Panic => panic!("cannot take 500"),
        }
    }
}

/// Opened minus closed functions, and how many were opened.
#[derive(Clone, Default)]
struct Lives {
    open: Arc<AtomicI64>,
    opened: Arc<AtomicU64>,
}

impl Lives {
    fn opened(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.opened.fetch_add(1, Ordering::SeqCst);
    }
    fn closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
    fn assert_all_closed(&self, what: &str) {
        assert!(self.opened.load(Ordering::SeqCst) > 0, "{what}: nothing was opened");
        assert_eq!(self.open.load(Ordering::SeqCst), 0, "{what}: opened functions that were not closed once");
    }
}

/// Counts its life, and fails if it has a fault.
#[derive(Clone)]
struct Counted {
    lives: Lives,
    fault: Option<Fault>,
}

impl Counted {
    fn check(&self, n: u64) -> UserResult<u64> {
        Ok(self.fault.map_or(Ok(n), |fault| fault.check(n))?)
    }
}

impl ProcessFunction<u64, u64> for Counted {
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        self.lives.opened();
        Ok(())
    }
    fn process(&mut self, n: u64, _ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(self.check(n)?);
        Ok(())
    }
    fn close(&mut self) -> UserResult {
        self.lives.closed();
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Counted {
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        self.lives.opened();
        Ok(())
    }
    fn process(&mut self, n: u64, _ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(self.check(n)?);
        Ok(())
    }
    fn close(&mut self) -> UserResult {
        self.lives.closed();
        Ok(())
    }
}

/// A source whose reader fails.
struct Failing(Fault);
struct FailingReader(Fault, u64);

impl Source for Failing {
    type Item = u64;
    type Split = u64;
    type Reader = FailingReader;
    fn describe(&self) -> String {
        "failing".into()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> mainstem::Result<Vec<u64>> {
        Ok(vec![0])
    }
    fn open(&self, split: u64, _ctx: &SourceContext) -> mainstem::Result<FailingReader> {
        Ok(FailingReader(self.0, split))
    }
}

impl SplitReader for FailingReader {
    type Item = u64;
    type Split = u64;
    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        out.emit(self.0.check(self.1).map_err(mainstem::Error::user)?);
        self.1 += 1;
        Ok(Poll::More)
    }
    fn position(&self) -> u64 {
        self.1
    }
}

/// Builds one kind of function that fails, always under the name `suspect`.
type Suspect = fn(&DataStream<u64>, Fault, &Lives) -> DataStream<u64>;

/// For functions that cannot return an error: a panic either way.
fn must(fault: Fault, n: u64) -> u64 {
    fault.check(n).unwrap_or_else(|e| panic!("{e}"))
}

const SUSPECTS: [(&str, Suspect); 9] = [
    ("map", |s, fault, _| s.map(move |n| must(fault, n)).name("suspect")),
    ("try_map", |s, fault, _| s.try_map(move |n| fault.check(n)).name("suspect")),
    ("try_filter", |s, fault, _| s.try_filter(move |n| fault.check(*n).map(|_| true)).name("suspect")),
    ("try_flat_map", |s, fault, _| {
        s.try_flat_map(move |n, out| {
            out.emit(fault.check(n)?);
            Ok::<_, String>(())
        })
        .name("suspect")
    }),
    ("process", |s, fault, lives| {
        s.process(Counted { lives: lives.clone(), fault: Some(fault) }).name("suspect")
    }),
    ("keyed process", |s, fault, lives| {
        let lives = lives.clone();
        let counted = move |_: &mut States| Counted { lives: lives.clone(), fault: Some(fault) };
        s.key_by(|n| n % 7).process(counted).name("suspect")
    }),
    ("reduce", |s, fault, _| {
        s.key_by(|_| 0u64).reduce(move |sum, n| *sum = must(fault, n) + *sum % 2).name("suspect")
    }),
    ("key", |s, fault, _| s.key_by(move |n| must(fault, *n)).reduce(|a, _| *a += 1).name("suspect")),
    ("sink", |s, fault, _| {
        let sink = s.clone().sink_to(FnSink::fallible(move |n| fault.check(n).map(|_| ())));
        sink.name("suspect");
        s.clone()
    }),
];

fn environments() -> impl Iterator<Item = (String, Environment)> {
    [ExecutionMode::Streaming, ExecutionMode::Batch].into_iter().flat_map(|mode| {
        [Driver::Threads, Driver::Simulation { seed: 3 }].into_iter().map(move |driver| {
            let env = Environment::new().execution_mode(mode).driver(driver).parallelism(2);
            (format!("{mode}, {driver:?}"), env)
        })
    })
}

fn assert_next_job_runs(env: &Environment) {
    let fresh = Environment::with_settings(env.settings());
    assert_eq!(
        fresh.from_iter([1u64, 2]).map(|n| n).execute_and_collect("next").unwrap().into_vec().unwrap().len(),
        2
    );
}

#[test]
fn a_failing_function_fails_the_job_and_names_the_operator() {
    for (kind, suspect) in SUSPECTS {
        for fault in [Fault::Err, Fault::Panic] {
            for (at, env) in environments() {
                let what = format!("{fault:?} in {kind}, {at}");
                let lives = Lives::default();
                let numbers =
                    env.generate(2000, |i| i).process(Counted { lives: lives.clone(), fault: None });
                suspect(&numbers, fault, &lives).sink_to(DiscardSink);
                let error = env.execute("failing").expect_err(&what);
                let message = error.to_string();
                assert!(message.contains("cannot take 500"), "{what}: {message}");
                // A fold may fail before the shuffle; a key is computed where records leave the operator before it.
                let operator = error.operator().unwrap_or_default();
                assert!(
                    operator.ends_with("suspect") || (kind == "key" && !operator.is_empty()),
                    "{what}: {message}"
                );
                assert_eq!(error.kind(), mainstem::ErrorKind::User, "{what}");
                lives.assert_all_closed(&what);
                assert_next_job_runs(&env);
            }
        }
    }
}

#[test]
fn a_failing_source_fails_the_job_and_names_the_operator() {
    for fault in [Fault::Err, Fault::Panic] {
        for (at, env) in environments() {
            let lives = Lives::default();
            let numbers = env
                .read(Failing(fault))
                .name("suspect")
                .process(Counted { lives: lives.clone(), fault: None });
            numbers.sink_to(DiscardSink);
            let error = env.execute("failing").expect_err(&at);
            assert_eq!(error.operator(), Some("suspect"), "{fault:?}, {at}: {error}");
            assert!(error.to_string().contains("cannot take 500"), "{fault:?}, {at}: {error}");
            lives.assert_all_closed(&at);
            assert_next_job_runs(&env);
        }
    }
}

/// Fails while it is opened or closed.
#[derive(Clone)]
struct Brittle {
    lives: Lives,
    in_open: bool,
}

impl ProcessFunction<u64, u64> for Brittle {
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        self.lives.opened();
        if self.in_open { Err("will not open".into()) } else { Ok(()) }
    }
    fn process(&mut self, n: u64, _ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn close(&mut self) -> UserResult {
        self.lives.closed();
        if self.in_open { Ok(()) } else { Err("will not close".into()) }
    }
}

/// A12: an error in `open` or `close` fails the job, and no function is closed twice.
#[test]
fn open_and_close_may_fail() {
    for in_open in [true, false] {
        for (at, env) in environments() {
            let lives = Lives::default();
            let brittle = Brittle { lives: lives.clone(), in_open };
            env.generate(10, |i| i).process(brittle).name("suspect").sink_to(DiscardSink);
            let error = env.execute("brittle").expect_err(&at);
            assert_eq!(error.operator(), Some("suspect"), "{at}: {error}");
            assert!(
                error.to_string().contains(if in_open { "will not open" } else { "will not close" }),
                "{at}: {error}"
            );
            lives.assert_all_closed(&format!("in_open {in_open}, {at}"));
        }
    }
}
