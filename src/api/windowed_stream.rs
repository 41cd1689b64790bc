//! WindowedStream: the records of each key, cut into windows.

use super::data_stream::{DataStream, pristine};
use super::keyed_stream::KeyedStream;
use super::sliced_windows::sliced;
use crate::base::data::{Data, Key};
use crate::operator::UserResult;
use crate::operator::aggregate::Aggregator;
use crate::operator::collector::Collector;
use crate::operator::side_output::SideOutput;
use crate::operator::window::general::{
    AnyEvictor, Buffered, Contents, Emit, Evicting, GeneralWindows, Incremental, Process, WindowSetup,
};
use crate::operator::window::process::{ProcessWindowFunction, WindowContext, WindowStates};
use crate::operator::window::sessions::SessionFold;
use crate::operator::window::{AggregateWindow, ReduceWindow, WindowFold, Windowed};
use crate::plan::{Node, Operation, OperatorFactory, Semantics};
use crate::semantics::state::StateDescriptor;
use crate::semantics::window::{
    Aligned, CountEvictor, CountTrigger, Evictor, GlobalWindows, PurgingTrigger, TimeDomain, Trigger, Window,
    WindowAssigner, whole_ms,
};
use std::sync::Arc;
use std::time::Duration;

type EvictorFactory<T> = Arc<dyn Fn() -> Box<dyn AnyEvictor<T>> + Send + Sync>;

/// Records of type `T` grouped by keys of type `K` and cut into windows by `W`, which fire when `G` says so.
///
/// A window exists from its first record to its end, plus the allowed lateness: windows without records give nothing. Its results
/// carry its last timestamp, `window.end - 1`, so that windows of the same size behind it see them in the same
/// window. In BATCH nothing is late, and a window fires once, at its end, however often its trigger would have fired on the
/// way; only counts of records fire as in STREAMING.
pub struct WindowedStream<K, T, W, G> {
    keyed: KeyedStream<K, T>,
    setup: WindowSetup<T, W, G>,
    evictor: Option<EvictorFactory<T>>,
    evictor_text: String,
    /// Over all records: one subtask.
    all: bool,
    mistakes: Vec<String>,
}

impl<K, T, W, G> Clone for WindowedStream<K, T, W, G>
where
    T: Clone,
    W: Clone,
    G: Clone,
{
    fn clone(&self) -> Self {
        WindowedStream {
            keyed: self.keyed.clone(),
            setup: self.setup.clone(),
            evictor: self.evictor.clone(),
            evictor_text: self.evictor_text.clone(),
            all: self.all,
            mistakes: self.mistakes.clone(),
        }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Cuts the records of each key into windows: [`Tumbling`](crate::prelude::Tumbling), [`Sliding`](crate::prelude::Sliding),
    /// [`Sessions`](crate::prelude::Sessions), [`GlobalWindows`], or an assigner of your own. Windows over
    /// event time need records with timestamps.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// let env = Environment::new();
    /// let clicks = env.from_iter([("a", 100), ("b", 400), ("a", 900), ("a", 1_200)].map(|(k, t)| (k.to_string(), t)))
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|click: &(String, i64)| click.1));
    /// let counts = clicks
    ///     .key_by(|(user, _)| user.clone())
    ///     .window(Tumbling::of(Duration::from_secs(1)))
    ///     .aggregate(Count)
    ///     .map(|count| (count.window.start, count.key, count.value));
    /// let mut counts = counts.execute_and_collect("clicks")?.into_vec()?;
    /// counts.sort();
    /// let expected = [(0, "a", 2), (0, "b", 1), (1_000, "a", 1)];
    /// assert_eq!(counts, expected.map(|(start, user, n)| (start, user.to_string(), n)));
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn window<W: WindowAssigner<T>>(&self, assigner: W) -> WindowedStream<K, T, W, W::Trigger> {
        let trigger = assigner.default_trigger();
        WindowedStream::new(self.clone(), assigner, trigger, false)
    }

    /// Windows of `n` records of a key each. A rest of less than `n` gives nothing. Results carry the timestamp of the last
    /// record. Which records meet in a window depends on their order: arrival in STREAMING, timestamps in
    /// BATCH.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let sums = env.from_iter(1..=7u64).key_by(|_| 'k').count_window(3).reduce(|sum, n| *sum += n);
    /// let sums = sums.map(|sum| sum.value).execute_and_collect("sums")?.into_vec()?;
    /// assert_eq!(sums, [6, 15]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn count_window(&self, n: u64) -> WindowedStream<K, T, GlobalWindows, PurgingTrigger<CountTrigger>> {
        WindowedStream::new(self.clone(), GlobalWindows, PurgingTrigger::of(CountTrigger::of(n)), false)
    }

    /// After every `slide` records of a key a window of its last `n`, at first of fewer.
    pub fn count_window_sliding(
        &self,
        n: u64,
        slide: u64,
    ) -> WindowedStream<K, T, GlobalWindows, CountTrigger> {
        let evictor = CountEvictor::of(usize::try_from(n).unwrap_or(usize::MAX));
        WindowedStream::new(self.clone(), GlobalWindows, CountTrigger::of(slide), false).evictor(evictor)
    }
}

impl<T: Data> DataStream<T> {
    /// Cuts all records into windows, as [`KeyedStream::window`] does for those of each key. Everything goes through
    /// one subtask.
    pub fn window_all<W: WindowAssigner<T>>(&self, assigner: W) -> WindowedStream<(), T, W, W::Trigger> {
        let trigger = assigner.default_trigger();
        WindowedStream::new(self.key_by(|_| ()), assigner, trigger, true)
    }

    /// Windows of `n` records each, as [`KeyedStream::count_window`]. Everything goes through one subtask.
    pub fn count_window_all(
        &self,
        n: u64,
    ) -> WindowedStream<(), T, GlobalWindows, PurgingTrigger<CountTrigger>> {
        let trigger = PurgingTrigger::of(CountTrigger::of(n));
        WindowedStream::new(self.key_by(|_| ()), GlobalWindows, trigger, true)
    }
}

impl<K: Key, T: Data, W: WindowAssigner<T>, G: Trigger<T>> WindowedStream<K, T, W, G> {
    pub(super) fn new(keyed: KeyedStream<K, T>, assigner: W, trigger: G, all: bool) -> Self {
        WindowedStream {
            keyed,
            setup: WindowSetup { assigner, trigger, lateness_ms: 0, late: None },
            evictor: None,
            evictor_text: String::new(),
            all,
            mistakes: Vec::new(),
        }
    }

    /// Fires when `trigger` says so, and no longer when the assigner would have: a count trigger on windows of time
    /// does not fire at their end.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// let env = Environment::new().parallelism(1);
    /// let early = env.from_iter([1, 2, 3, 4, 5])
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|t: &i64| *t))
    ///     .key_by(|_| 'k')
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .trigger(PurgingTrigger::of(CountTrigger::of(2)))
    ///     .reduce(|sum, n| *sum += n);
    /// let early = early.map(|sum| sum.value).execute_and_collect("early")?.into_vec()?;
    /// assert_eq!(early, [3, 7]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    #[must_use]
    pub fn trigger<H: Trigger<T>>(self, trigger: H) -> WindowedStream<K, T, W, H> {
        let WindowSetup { assigner, lateness_ms, late, .. } = self.setup;
        WindowedStream {
            keyed: self.keyed,
            setup: WindowSetup { assigner, trigger, lateness_ms, late },
            evictor: self.evictor,
            evictor_text: self.evictor_text,
            all: self.all,
            mistakes: self.mistakes,
        }
    }

    /// Leaves records out of a firing window, for good. All records of a window are kept then, also where they are
    /// folded. Where nothing is left, a function of [`process`](WindowedStream::process) is called with no record;
    /// `reduce` and `aggregate` have no value then and emit nothing, also where a function follows them.
    #[must_use]
    pub fn evictor<E: Evictor<T>>(mut self, evictor: E) -> Self {
        self.mistakes.extend(evictor.check().err());
        self.evictor_text = format!(", evictor {}", evictor.describe());
        self.evictor = Some(Arc::new(move || Box::new(evictor.clone())));
        self
    }

    /// Takes records that come up to this long after the end of their window, in event time: each fires it again, with
    /// an updated result. Windows are kept as much longer.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        match whole_ms("allowed lateness", lateness) {
            _ if lateness.is_zero() => self.setup.lateness_ms = 0,
            Ok(ms) => self.setup.lateness_ms = ms,
            Err(mistake) => self.mistakes.push(mistake),
        }
        self
    }

    /// Sends records that are too late for all their windows to a side output of the operator, instead of counting them as
    /// `late_records_dropped`. Read it with [`DataStream::side_output`] from what the windows give.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// let env = Environment::new().execution_mode(ExecutionMode::Batch);
    /// let late = SideOutput::new("late");
    /// let counts = env.from_iter([3_000, 1, 7_000])
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|t: &i64| *t))
    ///     .key_by(|_| 'k')
    ///     .window(Tumbling::of(Duration::from_secs(1)))
    ///     .late_to(&late)
    ///     .aggregate(Count);
    /// // In BATCH nothing is late.
    /// assert!(counts.side_output(&late).execute_and_collect("late")?.into_vec()?.is_empty());
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    #[must_use]
    pub fn late_to(mut self, output: &SideOutput<T>) -> Self {
        self.setup.late = Some(output.clone());
        self
    }

    /// Folds each record into the one accumulated for its key and window: `f(accumulated, record)`. Must be associative,
    /// and where windows merge commutative. State per key and window: one record.
    pub fn reduce(&self, f: impl FnMut(&mut T, T) + Clone + Send + 'static) -> DataStream<Windowed<K, T>> {
        self.fold("window reduce", ReduceWindow::new(f))
    }

    /// Aggregates the records of each key and window. State per key and window: one accumulator.
    pub fn aggregate<A: Aggregator<T>>(&self, aggregator: A) -> DataStream<Windowed<K, A::Out>> {
        self.fold("window aggregate", AggregateWindow(aggregator))
    }

    /// A function over all records of each key and window, in the order in which they came, with state for each key, and for
    /// each key and window. `make` declares the state and makes the function: once when the plan is built, to learn
    /// the names, and once for each attempt of each subtask. State per key and window: all records.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// /// The median of each window, and in which window of the key it was.
    /// struct Median { windows: ValueState<u64> }
    /// impl ProcessWindowFunction<char, i64, (u64, i64)> for Median {
    ///     fn process(
    ///         &mut self, _: &char, ctx: &mut WindowContext, records: &[i64], out: &mut Collector<'_, (u64, i64)>,
    ///     ) -> UserResult {
    ///         let nth = self.windows.update(ctx.per_key(), |n| { *n += 1; *n });
    ///         let mut records = records.to_vec();
    ///         records.sort();
    ///         out.emit((nth, records[records.len() / 2]));
    ///         Ok(())
    ///     }
    /// }
    /// let env = Environment::new();
    /// let medians = env.from_iter([1, 2, 9, 12, 19])
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|t: &i64| *t))
    ///     .key_by(|_| 'k')
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .process(|states| Median { windows: states.key.value("windows") });
    /// assert_eq!(medians.execute_and_collect("medians")?.into_vec()?, [(1, 2), (2, 19)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn process<U: Data, P: ProcessWindowFunction<K, T, U>>(
        &self,
        make: impl Fn(&mut WindowStates) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let declared = Declared::by(&make);
        self.operate("window process", (), declared, move |(), states| Buffered::new(make(states)))
    }

    /// As [`process`](WindowedStream::process), with a closure and without state:
    /// `f(key, window, records, out)`.
    pub fn apply<U: Data>(
        &self,
        f: impl FnMut(&K, Window, &[T], &mut Collector<'_, U>) + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.operate("window apply", f, Declared::default(), |f, _| Buffered::new(Apply(f)))
    }

    /// Aggregates the records of each key and window, and hands the result, as the only record, to a function that knows key
    /// and window and has state. State per key and window: one accumulator, and what the function declares.
    pub fn aggregate_process<A, U, P>(
        &self,
        aggregator: A,
        make: impl Fn(&mut WindowStates) -> P + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        A: Aggregator<T>,
        U: Data,
        P: ProcessWindowFunction<K, A::Out, U>,
    {
        self.fold_process(AggregateWindow(aggregator), make)
    }

    /// As [`aggregate_process`](WindowedStream::aggregate_process), with a fold as in [`reduce`](WindowedStream::reduce).
    pub fn reduce_process<U: Data, P: ProcessWindowFunction<K, T, U>>(
        &self,
        f: impl FnMut(&mut T, T) + Clone + Send + 'static,
        make: impl Fn(&mut WindowStates) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.fold_process(ReduceWindow::new(f), make)
    }

    fn fold_process<F, U, P>(
        &self,
        fold: F,
        make: impl Fn(&mut WindowStates) -> P + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        F: WindowFold<T>,
        U: Data,
        P: ProcessWindowFunction<K, F::Value, U>,
    {
        let declared = Declared::by(&make);
        self.operate("window process", fold, declared, move |fold, states| {
            Incremental::new(fold, Process::new(make(states)))
        })
    }

    /// Every fold whose results are [`Windowed`]: here the implementation is chosen.
    fn fold<F: WindowFold<T>>(&self, name: &str, fold: F) -> DataStream<Windowed<K, F::Value>> {
        if let Some(aligned) = self.slices() {
            let mut node = sliced(&self.keyed, name, fold, aligned, self.setup.late.clone());
            node.mistakes = self.mistakes(&Declared::default());
            node.implementation = Some(format!("slices: {}", self.setup.assigner.describe()));
            return self.add_node(node);
        }
        let assigner = &self.setup.assigner;
        if self.is_incremental() && assigner.merges() && assigner.starts_at_record() {
            let (setup, selector) = (self.setup.clone(), self.keyed.selector.clone());
            let factory = pristine(fold, move |fold| {
                SessionFold::new(fold, setup.assigner.clone(), selector.clone(), setup.late.clone())
            });
            let implementation = format!("sessions: {}", self.setup.assigner.describe());
            return self.add(name, factory, Declared::default(), implementation);
        }
        self.operate(name, fold, Declared::default(), |fold, _| Incremental::new(fold, Emit))
    }

    /// How the windows lie, if they are such that slices can serve them.
    fn slices(&self) -> Option<Aligned> {
        let aligned = self.setup.assigner.aligned()?;
        (self.is_incremental() && aligned.slide_ms <= aligned.size_ms).then_some(aligned)
    }

    /// Whether a fold needs no more than one look at each window, when the watermark passes its end.
    fn is_incremental(&self) -> bool {
        self.setup.assigner.time() == Some(TimeDomain::Event)
            && self.setup.trigger.is_event_time()
            && self.evictor.is_none()
            && self.setup.lateness_ms == 0
    }

    /// The general operator around a function that each attempt gets a copy of.
    pub(super) fn operate<F, C>(
        &self,
        name: &str,
        function: F,
        declared: Declared,
        contents: impl Fn(F, &mut WindowStates) -> C + Send + Sync + 'static,
    ) -> DataStream<C::Out>
    where
        F: Clone + Send + 'static,
        C: Contents<K, T>,
    {
        let (setup, selector) = (self.setup.clone(), self.keyed.selector.clone());
        let factory = match self.evictor.clone() {
            None => pristine(function, move |function| {
                let mut states = WindowStates::default();
                let contents = contents(function, &mut states);
                GeneralWindows::new(setup.clone(), contents, states, selector.clone())
            }),
            Some(evictor) => pristine(function, move |function| {
                let mut states = WindowStates::default();
                let contents = Evicting::new(contents(function, &mut states), evictor());
                GeneralWindows::new(setup.clone(), contents, states, selector.clone())
            }),
        };
        let WindowSetup { assigner, trigger, lateness_ms, .. } = &self.setup;
        let lateness = if *lateness_ms > 0 { format!(", lateness {lateness_ms}ms") } else { String::new() };
        let implementation = format!(
            "general windows: {}, firing {}{}{lateness}",
            assigner.describe(),
            trigger.describe(),
            self.evictor_text
        );
        self.add(name, factory, declared, implementation)
    }

    fn mistakes(&self, declared: &Declared) -> Vec<String> {
        let WindowSetup { assigner, trigger, lateness_ms, .. } = &self.setup;
        let mut mistakes = self.mistakes.clone();
        mistakes.extend(assigner.check().err());
        mistakes.extend(trigger.check().err());
        if let Some(state) =
            declared.states.iter().find(|s| s.kind.ends_with(" list") || s.kind == "broadcast")
        {
            mistakes.push(format!(
                "state '{}' ({}) is declared by a window function, which keeps state of keys and windows only",
                state.name, state.kind
            ));
        }
        if assigner.merges() && !trigger.can_merge() {
            mistakes.push(format!(
                "the windows ({}) merge, which the trigger ({}) cannot follow; use another trigger",
                assigner.describe(),
                trigger.describe()
            ));
        }
        if *lateness_ms > 0 && assigner.time() == Some(TimeDomain::Processing) {
            mistakes
                .push("nothing is late by the clock; allowed lateness is for windows over event time".into());
        }
        if let Some(name) = &declared.duplicate {
            mistakes
                .push(format!("state '{name}' is declared twice; a state name is unique in its operator"));
        }
        if let (true, Some(name)) = (assigner.merges(), &declared.per_window) {
            mistakes.push(format!(
                "state '{name}' is of a window, but the windows ({}) merge; keep it for the key",
                assigner.describe()
            ));
        }
        mistakes
    }

    fn add<U: Data>(
        &self,
        name: &str,
        factory: OperatorFactory,
        declared: Declared,
        implementation: String,
    ) -> DataStream<U> {
        let WindowSetup { assigner, trigger, lateness_ms, .. } = &self.setup;
        let mut node = Node::new(name, Operation::Operator(factory), vec![self.keyed.stream.from.clone()]);
        node.mistakes = self.mistakes(&declared);
        node.states = declared.states;
        node.semantics = Semantics {
            stateful: true,
            processing_time: assigner.time() == Some(TimeDomain::Processing)
                || trigger.uses_clock()
                || declared.has_ttl,
            drops_late: assigner.time() == Some(TimeDomain::Event),
            ordered: trigger.is_ordered() || self.evictor.is_some(),
            reads_watermark: declared.reads_watermark,
            fires_repeatedly: *lateness_ms > 0 || trigger.fires_early(),
            ..Semantics::default()
        };
        node.implementation = Some(implementation);
        self.add_node(node)
    }

    fn add_node<U: Data>(&self, mut node: Node) -> DataStream<U> {
        if self.all {
            node.required_parallelism = Some((1, "windows over all records are made in one place"));
        }
        DataStream::of_node(&self.keyed.stream.env, self.keyed.stream.env.add(node))
    }
}

/// What a user's function declares, seen when the plan is built.
#[derive(Default)]
pub(super) struct Declared {
    states: Vec<StateDescriptor>,
    duplicate: Option<String>,
    /// A state of windows.
    per_window: Option<String>,
    reads_watermark: bool,
    has_ttl: bool,
}

impl Declared {
    fn by<P>(make: &impl Fn(&mut WindowStates) -> P) -> Declared {
        let mut states = WindowStates::default();
        drop(make(&mut states));
        Declared {
            duplicate: states.duplicate(),
            per_window: states.window.descriptors().first().map(|state| state.name.clone()),
            has_ttl: states.has_ttl(),
            states: states.descriptors(),
            reads_watermark: true,
        }
    }
}

/// A closure as a window function.
struct Apply<F>(F);

impl<K, T, U, F> ProcessWindowFunction<K, T, U> for Apply<F>
where
    K: Key,
    U: Data,
    F: FnMut(&K, Window, &[T], &mut Collector<'_, U>) + Send + 'static,
{
    fn process(
        &mut self,
        key: &K,
        ctx: &mut WindowContext,
        records: &[T],
        out: &mut Collector<'_, U>,
    ) -> UserResult {
        (self.0)(key, ctx.window(), records, out);
        Ok(())
    }
}
