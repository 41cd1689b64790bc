//! Full outputs and joins.

use super::rig::{self, Rig, setup};
use super::{Record, ms, texts};
use crate::operator::exchange::FnKey;
use crate::operator::window::Either;
use crate::operator::window::general::*;
use crate::operator::window::join::{CoGroupSides, JoinPairs};
use crate::operator::window::process::WindowStates;
use crate::semantics::window::*;
use std::sync::Arc;

/// An operator yields between windows of a record, between timers, and at the end of a key, and loses nothing.
#[test]
fn full_outputs_make_it_yield() {
    // 3000 windows for each record, each of which fires at once.
    let assigner = Sliding::of(ms(3000), ms(1));
    let every = WindowSetup { assigner, trigger: CountTrigger::of(1), lateness_ms: 0, late: None };
    let mut rig = Rig::all_keys(texts(every));
    assert_eq!(rig.feed("a1@0 a2@0").split(' ').count(), 6000);
    let mut rig = Rig::all_keys(texts(setup(Sliding::of(ms(3000), ms(1)))));
    assert_eq!(rig.feed("a1@0 b2@0"), "");
    assert_eq!(rig.watermark(1500).split(' ').count(), 3002);
    assert_eq!(rig.end().split(' ').count(), 2998);
    let mut rig = Rig::one_key(texts(setup(Sliding::of(ms(3000), ms(1)))));
    assert_eq!(rig.feed("a1@0"), "");
    assert_eq!(rig.end_of_key().split(' ').count(), 3000);
}

/// W9: a generator may say that event time is over before the input is. What comes then has windows and timers as
/// before; timers of event time, which nothing will reach any more, fire at the end. Nothing is dropped.
#[test]
fn w9_the_last_watermark_may_come_before_the_end() {
    let by_clock = || texts(setup(Tumbling::of(ms(10)).processing_time()));
    let mut rig = Rig::all_keys(by_clock());
    assert_eq!(rig.feed("a1@1"), "");
    assert_eq!(rig.watermark(i64::MAX), "");
    assert_eq!(rig.feed("a2@2"), "");
    assert_eq!(rig.clock(10), "a[0,10)=1+2@9");
    assert_eq!((rig.feed("a3@3"), rig.clock(20)), (String::new(), "a[10,20)=3@19".into()));
    assert_eq!((rig.feed("b4@3"), rig.end()), (String::new(), "b[20,30)=4@29".into()));

    let setup = WindowSetup { assigner: GlobalWindows, trigger: Soon, lateness_ms: 0, late: None };
    let mut rig = Rig::all_keys(texts(setup));
    assert_eq!(rig.feed("a1@1"), "");
    assert_eq!(rig.watermark(i64::MAX), "a=1@1", "what the firing asks for comes too late");
    assert_eq!(rig.counter("timers_dropped_at_end"), 1);
    assert_eq!((rig.feed("a2@2"), rig.end()), (String::new(), "a=1+2@2".into()));
    assert_eq!(rig.counter("timers_dropped_at_end"), 2);
}

/// Fires 10 ms of event time behind each record and each firing.
#[derive(Clone)]
struct Soon;

impl Trigger<Record> for Soon {
    type State = ();
    fn on_element(
        &mut self,
        _: &Record,
        timestamp: i64,
        _: &Window,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        ctx.register_event_time_timer(timestamp + 10);
        TriggerResult::Continue
    }
    fn on_event_time(
        &mut self,
        time: i64,
        _: &Window,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        ctx.register_event_time_timer(time + 10);
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        "soon".into()
    }
    fn fires_early(&self) -> bool {
        true
    }
}

/// Lower case is the left side, upper case the right one.
type Side = Either<Record, Record>;

fn side(record: Record) -> Side {
    match record.0.is_lowercase() {
        true => Either::Left(record),
        false => Either::Right(record),
    }
}

/// Makes sides of the records for the operator behind.
struct Sided<O>(O, crate::base::batch::Batch<Side>);

impl<O: Operator<In = Side>> Operator for Sided<O> {
    type In = Record;
    type Out = O::Out;
    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.0.open(ctx)
    }
    fn process(
        &mut self,
        batch: &mut Batch<Record>,
        ctx: &mut Context,
        out: &mut Out<O::Out>,
    ) -> Result<Progress> {
        self.1.values.extend(batch.values.drain(..).map(side));
        self.1.timestamps.append(&mut batch.timestamps);
        self.0.process(&mut self.1, ctx, out)
    }
    fn watermark(&mut self, watermark: i64, ctx: &mut Context, out: &mut Out<O::Out>) -> Result<Progress> {
        self.0.watermark(watermark, ctx, out)
    }
    fn end_of_key(&mut self, ctx: &mut Context, out: &mut Out<O::Out>) -> Result<Progress> {
        self.0.end_of_key(ctx, out)
    }
}

use crate::base::batch::Batch;
use crate::base::error::Result;
use crate::operator::{Context, Operator, Out, Progress};

fn windows<W, C>(assigner: W, contents: C) -> Sided<GeneralWindows<char, Side, W, W::Trigger, C>>
where
    W: WindowAssigner<Side>,
    C: Contents<char, Side>,
{
    let setup = WindowSetup { trigger: assigner.default_trigger(), assigner, lateness_ms: 0, late: None };
    let key = FnKey(|side: &Side| match side {
        Either::Left(record) => record.0,
        Either::Right(record) => record.0.to_ascii_lowercase(),
    });
    Sided(GeneralWindows::new(setup, contents, WindowStates::default(), Arc::new(key)), Batch::new())
}

fn pairs(left: &Record, right: &Record) -> String {
    format!("{}{}{}", left.0, left.1, right.1)
}

/// J1: all pairs of a key and window, with its last timestamp; windows that slide repeat pairs; sessions join what is in
/// one. No pair without a partner.
#[test]
fn j1_joins() {
    let mut rig = Rig::all_keys(windows(Tumbling::of(ms(10)), JoinPairs::new(pairs)));
    assert_eq!(rig.feed("a1@1 A2@2 a3@3 A4@12 b5@5 B6@15 a7@11"), "");
    assert_eq!(rig.end(), "a12@9 a32@9 a74@19");
    let mut rig = Rig::one_key(windows(Sliding::of(ms(10), ms(5)), JoinPairs::new(pairs)));
    assert_eq!((rig.feed("a1@6 A2@7"), rig.end_of_key()), (String::new(), "a12@9 a12@14".into()));
    let mut rig = Rig::all_keys(windows(Sessions::with_gap(ms(5)), JoinPairs::new(pairs)));
    assert_eq!((rig.feed("a1@0 A2@10 a3@5"), rig.end()), (String::new(), "a12@14 a32@14".into()));
}

/// J1: many pairs yield on the way.
#[test]
fn j1_many_pairs() {
    let mut rig = Rig::all_keys(windows(Tumbling::of(ms(10)), JoinPairs::new(pairs)));
    let text: Vec<String> = (0..60).flat_map(|i| [format!("a{i}@1"), format!("A.{i}@1")]).collect();
    assert_eq!(rig.feed(&text.join(" ")), "");
    let shown = rig.end();
    let all: std::collections::BTreeSet<&str> = shown.split(' ').collect();
    assert_eq!((all.len(), shown.split(' ').count()), (3600, 3600));
    // With an evictor, the same way.
    let contents = Evicting::new(JoinPairs::new(pairs), Box::new(CountEvictor::of(100)));
    let mut rig = Rig::all_keys(windows(Tumbling::of(ms(10)), contents));
    rig.feed(&text.join(" "));
    assert_eq!(rig.end().split(' ').count(), 2500);
}

/// J2: both sides of a key and window, also where one has nothing.
#[test]
fn j2_co_groups() {
    let lists = |key: &char,
                 window: Window,
                 lefts: &[Record],
                 rights: &[Record],
                 out: &mut crate::operator::collector::Collector<'_, String>| {
        let text = |records: &[Record]| records.iter().map(|r| r.1.as_str()).collect::<Vec<_>>().join("+");
        out.emit(format!("{key}{}={}|{}", window.start, text(lefts), text(rights)));
    };
    let make = || windows(Tumbling::of(ms(10)), CoGroupSides::new(lists));
    let mut rig = Rig::all_keys(make());
    assert_eq!(rig.feed("a1@1 A2@2 a3@3 A4@12 b5@5"), "");
    assert_eq!(rig.end(), "a0=1+3|2@9 b0=5|@9 a10=|4@19");
    let mut rig = Rig::one_key(make());
    assert_eq!((rig.feed("a1@1 A2@2 A4@12"), rig.end_of_key()), (String::new(), "a0=1|2@9 a10=|4@19".into()));
    let _ = rig::by_key();
}
