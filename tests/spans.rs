//! Spans: what user code logs can be told apart by job, operators and subtask, in both modes.

use mainstem::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, OnceLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};

/// Name, fields and parent of each span; the path of spans around each event of this test.
#[derive(Default)]
struct Recorder {
    spans: Mutex<Vec<(String, Option<Id>)>>,
    events: Mutex<Vec<String>>,
}

thread_local! {
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(Recorder::default)
}

/// Handed to tracing; all of them write into the one recorder.
struct Handle;

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_string(), format!("{value:?}"));
    }
}

impl Subscriber for Handle {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(BTreeMap::new());
        span.record(&mut fields);
        let shown: Vec<String> = ["name", "operators", "subtask"]
            .iter()
            .filter_map(|name| Some(format!("{name}={}", fields.0.get(*name)?)))
            .collect();
        let parent = match span.is_contextual() {
            true => ENTERED.with_borrow(|entered| entered.last().cloned()),
            false => span.parent().cloned(),
        };
        let mut spans = recorder().spans.lock().unwrap();
        spans.push((format!("{}[{}]", span.metadata().name(), shown.join(" ")), parent));
        Id::from_u64(spans.len() as u64)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() != "spans_test" {
            return;
        }
        let mut at = ENTERED.with_borrow(|entered| entered.last().cloned());
        let mut path = Vec::new();
        let spans = recorder().spans.lock().unwrap();
        while let Some(id) = at {
            let (shown, parent) = &spans[id.into_u64() as usize - 1];
            path.insert(0, shown.clone());
            at = parent.clone();
        }
        recorder().events.lock().unwrap().push(path.join(" "));
    }
    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.clone()));
    }
    fn exit(&self, id: &Id) {
        let top = ENTERED.with_borrow_mut(|entered| entered.pop());
        assert_eq!(top.as_ref(), Some(id), "spans are left in the order in which they were entered");
    }
}

/// One test, since a process has one subscriber.
#[test]
fn what_user_code_logs_is_inside_job_operators_and_subtask() {
    tracing::subscriber::set_global_default(Handle).unwrap();
    for (mode, driver, expected) in [
        (ExecutionMode::Streaming, Driver::Threads, "subtask[operators=numbers -> logs -> out subtask=1]"),
        (ExecutionMode::Streaming, Driver::Simulation { seed: 5 }, "subtask[operators=numbers -> logs -> out subtask=1]"),
        (ExecutionMode::Batch, Driver::Threads, "unit[operators=numbers -> logs -> out subtask=1]"),
    ] {
        let env = Environment::new().execution_mode(mode).parallelism(2).driver(driver);
        let numbers = env.generate(10, |i| i).name("numbers");
        let logs = numbers.map(|i| {
            if i == 7 {
                tracing::info!(target: "spans_test", i, "seven");
            }
            i
        });
        logs.name("logs").sink_to(DiscardSink).name("out");
        env.execute("spans").unwrap();
        let events = std::mem::take(&mut *recorder().events.lock().unwrap());
        assert_eq!(events, [format!("job[name=spans] {expected}")], "{mode} {driver:?}");
    }
}
