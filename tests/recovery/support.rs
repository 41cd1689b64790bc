//! A job of four stages whose sources, attempts and failures are counted.

use mainstem::base::vfs::{MemVfs, SharedVfs, Vfs};
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub const SPLITS: u64 = 6;
/// Rows that do not fit into 8 MiB together with their payload.
pub const SPILLING: u64 = 120_000;

/// Name of an operator that was opened, subtask and attempt.
type Opened = (&'static str, usize, usize);

/// What happened in a run.
#[derive(Clone, Default)]
pub struct Log {
    /// Splits that were opened.
    pub opened: Arc<AtomicU64>,
    /// Records that sources have emitted.
    pub read: Arc<AtomicU64>,
    /// Attempts of operators by name: subtask and attempt of each `open`.
    pub attempts: Arc<Mutex<Vec<Opened>>>,
    /// Processing time of the last record that an operator saw.
    pub now_ms: Arc<AtomicU64>,
}

impl Log {
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
    /// How often an operator was opened beyond its first attempts.
    pub fn retries(&self, name: &str) -> usize {
        self.attempts.lock().unwrap().iter().filter(|(n, _, attempt)| *n == name && *attempt > 0).count()
    }
}

/// Numbers from 0, in splits, whose readers are counted.
pub struct Numbers {
    pub count: u64,
    pub log: Log,
}

pub struct NumbersReader {
    next: u64,
    end: u64,
    log: Log,
}

impl Source for Numbers {
    type Item = u64;
    type Split = (u64, u64);
    type Reader = NumbersReader;
    fn describe(&self) -> String {
        "numbers".into()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> mainstem::Result<Vec<(u64, u64)>> {
        let border = |i: u64| self.count * i / SPLITS;
        Ok((0..SPLITS).map(|i| (border(i), border(i + 1))).collect())
    }
    fn open(&self, (next, end): (u64, u64), ctx: &SourceContext) -> mainstem::Result<NumbersReader> {
        self.log.opened.fetch_add(1, Ordering::Relaxed);
        ctx.counters.counter("splits_opened").add(1);
        Ok(NumbersReader { next, end, log: self.log.clone() })
    }
}

impl SplitReader for NumbersReader {
    type Item = u64;
    type Split = (u64, u64);
    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        let from = self.next;
        while self.next < self.end && !out.is_full() {
            out.emit(self.next);
            self.next += 1;
        }
        self.log.read.fetch_add(self.next - from, Ordering::Relaxed);
        Ok(if self.next == self.end { Poll::End } else { Poll::More })
    }
    fn position(&self) -> (u64, u64) {
        (self.next, self.end)
    }
}

pub type Row = (u64, u64, String);

/// Called with the name of the place and a record: fails where a test wants it to.
pub type Trouble = Arc<dyn Fn(&'static str, u64, &RuntimeContext) -> UserResult + Send + Sync>;

pub fn no_trouble() -> Trouble {
    Arc::new(|_, _, _| Ok(()))
}

/// Passes rows on, counts its attempts and fails when told to.
#[derive(Clone)]
pub struct Step {
    pub name: &'static str,
    pub log: Log,
    pub trouble: Trouble,
    ctx: Option<RuntimeContext>,
    seen: Option<Arc<Mutex<AccumulatorOf>>>,
}

type AccumulatorOf = mainstem::base::accumulator::AccumulatorHandle<LongCounter>;

impl Step {
    pub fn new(name: &'static str, log: &Log, trouble: &Trouble) -> Step {
        Step { name, log: log.clone(), trouble: trouble.clone(), ctx: None, seen: None }
    }
}

impl ProcessFunction<Row, Row> for Step {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        let attempt = (self.name, ctx.subtask_index(), ctx.attempt());
        self.log.attempts.lock().unwrap().push(attempt);
        self.seen = Some(Arc::new(Mutex::new(ctx.accumulator::<LongCounter>(self.name)?)));
        self.ctx = Some(ctx.clone());
        Ok(())
    }
    fn process(&mut self, row: Row, now: &ProcessContext<'_>, out: &mut Collector<'_, Row>) -> UserResult {
        let ctx = self.ctx.as_ref().ok_or("not opened")?;
        self.log.now_ms.store(now.processing_time() as u64, Ordering::Relaxed);
        ctx.counter("seen").add(1);
        self.seen.as_ref().ok_or("not opened")?.lock().unwrap().add(1);
        (self.trouble)(self.name, row.0, ctx)?;
        out.emit(row);
        Ok(())
    }
}

/// Numbers the rows of each key.
struct Numbering {
    next: ValueState<u64>,
}

impl KeyedProcessFunction<u64, Row, Row> for Numbering {
    fn process(
        &mut self,
        (n, sum, text): Row,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        let at = self.next.get(ctx).copied().unwrap_or(0);
        self.next.set(ctx, at + 1);
        out.emit((n, sum.wrapping_mul(31).wrapping_add(at), text));
        Ok(())
    }
}

/// Four stages: read, spread; number by key; number by another key; count by a third key and write.
pub fn build(env: &Environment, count: u64, log: &Log, trouble: &Trouble, output: &Path) {
    let numbering = |states: &mut States| Numbering { next: states.value("next") };
    let step = |name| Step::new(name, log, trouble);
    env.read(Numbers { count, log: log.clone() })
        .name("read")
        .map(|n| (n, n, format!("payload {:040}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        .process(step("first"))
        .rebalance()
        .process(step("second"))
        .key_by(|row| row.0 % 1009)
        .process(numbering)
        .process(step("third"))
        .key_by(|row| row.0 % 499)
        .process(numbering)
        .process(step("fourth"))
        .sink_to(CsvSink::csv(output))
        .name("write");
}

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A place for jobs: a file system and settings.
pub struct Place {
    pub disk: MemVfs,
    pub vfs: SharedVfs,
}

impl Place {
    pub fn new() -> Place {
        let disk = MemVfs::new();
        Place::on(disk.clone(), Arc::new(disk))
    }
    pub fn on(disk: MemVfs, vfs: SharedVfs) -> Place {
        for dir in ["/tmp", "/out"] {
            disk.create_dir_all(Path::new(dir)).unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        Place { disk, vfs }
    }
    pub fn environment(&self, driver: Driver) -> Environment {
        Environment::new()
            .execution_mode(ExecutionMode::Batch)
            .driver(driver)
            .parallelism(2)
            .memory(ByteSize::mib(8))
            .temp_dir("/tmp")
            .vfs(self.vfs.clone())
    }
    /// The output of a job, and nothing else may be left anywhere.
    pub fn output(&self) -> Files {
        let all = self.disk.snapshot();
        let (output, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(path, _)| path.starts_with("/out/rows"));
        let rest: Vec<_> = rest.into_iter().map(|(path, _)| path).collect();
        assert_eq!(rest, [Path::new("/out"), Path::new("/tmp")], "something is left");
        output.into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
    }
}

/// The output of an undisturbed run over so many numbers.
pub fn undisturbed(count: u64) -> Files {
    let place = Place::new();
    let env = place.environment(Driver::Simulation { seed: 1 });
    build(&env, count, &Log::default(), &no_trouble(), Path::new("/out/rows"));
    env.execute("undisturbed").unwrap();
    let output = place.output();
    let lines: usize = output.values().map(|content| content.iter().filter(|&&b| b == b'\n').count()).sum();
    assert_eq!(lines as u64, count);
    output
}
