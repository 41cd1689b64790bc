//! Contents: what a window keeps of its records, and what becomes of it when the window fires.
//!
//! - [`Incremental`]: one accumulator.
//! - [`Buffered`]: all records, for a function that wants to see them.
//! - [`EvictedFold`]: all records, since an evictor may leave some out, folded when the window fires.
//!
//! Each ends in a [`Finish`], which emits the value ([`Emit`]) or calls a user's function ([`Process`]).

use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::window::process::{ProcessWindowFunction, WindowContext};
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Out, Progress, RuntimeContext};
use crate::semantics::window::{Evictor, Timestamped, Window};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// Empty buffers kept for the next windows, and the most records one may have room for.
const SPARE_BUFFERS: usize = 64;
const SPARE_RECORDS: usize = 1024;

/// How a window keeps records of type `T`, and what it emits.
pub trait Contents<K: Key, T: Data>: Send + 'static {
    /// What is kept for a key and window.
    type Content: Data;
    /// What comes out.
    type Out: Data;

    /// Before the first record.
    ///
    /// # Errors
    /// Of user code.
    fn open(&mut self, _ctx: &RuntimeContext) -> Result<()> {
        Ok(())
    }
    /// Starts with a first record.
    fn create(&mut self, record: T, timestamp: Option<Timestamp>) -> Self::Content;
    /// Takes one more.
    fn add(&mut self, content: &mut Self::Content, record: T, timestamp: Option<Timestamp>);
    /// Takes the content of a later window that has become part of this one.
    fn merge(&mut self, content: &mut Self::Content, other: Self::Content);
    /// The window fires. Called again with the same content after it has yielded.
    ///
    /// # Errors
    /// Of user code.
    fn fire(
        &mut self,
        key: &K,
        content: &mut Self::Content,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress>;
    /// Whether nothing is left.
    fn is_empty(&self, _content: &Self::Content) -> bool {
        false
    }
    /// The content goes.
    fn recycle(&mut self, _content: Self::Content) {}
    /// The window goes.
    ///
    /// # Errors
    /// Of user code.
    fn clear(&mut self, _key: &K, _ctx: &mut WindowContext) -> Result<()> {
        Ok(())
    }
    /// After the last call.
    ///
    /// # Errors
    /// Of user code.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What becomes of the values of a firing window.
pub trait Finish<K: Key, V>: Send + 'static {
    /// What comes out.
    type Out: Data;
    /// See [`Contents::open`].
    ///
    /// # Errors
    /// Of user code.
    fn open(&mut self, _ctx: &RuntimeContext) -> Result<()> {
        Ok(())
    }
    /// One value stands for all records.
    ///
    /// # Errors
    /// Of user code.
    fn finish(
        &mut self,
        key: &K,
        value: V,
        ctx: &mut WindowContext,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// See [`Contents::clear`].
    ///
    /// # Errors
    /// Of user code.
    fn clear(&mut self, _key: &K, _ctx: &mut WindowContext) -> Result<()> {
        Ok(())
    }
    /// See [`Contents::close`].
    ///
    /// # Errors
    /// Of user code.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Emits the value with its key and window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Emit;

impl<K: Key, V: Data> Finish<K, V> for Emit {
    type Out = Windowed<K, V>;
    #[inline]
    fn finish(
        &mut self,
        key: &K,
        value: V,
        ctx: &mut WindowContext,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        out.emit(Windowed { key: key.clone(), window: ctx.window(), value });
        Ok(())
    }
}

/// Calls a user's function.
pub struct Process<P, U> {
    function: P,
    types: PhantomData<fn() -> U>,
}

impl<P, U> Process<P, U> {
    /// Around the function.
    pub fn new(function: P) -> Self {
        Process { function, types: PhantomData }
    }
}

impl<K: Key, V: Data, U: Data, P: ProcessWindowFunction<K, V, U>> Finish<K, V> for Process<P, U> {
    type Out = U;
    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.function.open(ctx).map_err(Error::User)
    }
    #[inline]
    fn finish(
        &mut self,
        key: &K,
        value: V,
        ctx: &mut WindowContext,
        out: &mut Collector<'_, U>,
    ) -> Result<()> {
        self.function.process(key, ctx, std::slice::from_ref(&value), out).map_err(Error::User)
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.function.clear(key, ctx).map_err(Error::User)
    }
    fn close(&mut self) -> Result<()> {
        self.function.close().map_err(Error::User)
    }
}

/// One accumulator for a window.
pub struct Incremental<F, G> {
    fold: F,
    finish: G,
}

impl<F, G> Incremental<F, G> {
    /// Folds with `fold`, ends in `finish`.
    pub fn new(fold: F, finish: G) -> Self {
        Incremental { fold, finish }
    }
}

impl<K: Key, T: Data, F: WindowFold<T>, G: Finish<K, F::Value>> Contents<K, T> for Incremental<F, G> {
    type Content = F::Acc;
    type Out = G::Out;

    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.finish.open(ctx)
    }
    #[inline(always)]
    fn create(&mut self, record: T, _: Option<Timestamp>) -> F::Acc {
        self.fold.create(record)
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut F::Acc, record: T, _: Option<Timestamp>) {
        self.fold.add(acc, record);
    }
    fn merge(&mut self, acc: &mut F::Acc, other: F::Acc) {
        self.fold.merge(acc, other);
    }
    #[inline]
    fn fire(
        &mut self,
        key: &K,
        acc: &mut F::Acc,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<G::Out>,
    ) -> Result<Progress> {
        let value = self.fold.value(acc);
        self.finish.finish(key, value, ctx, &mut Collector::new(out, timestamp))?;
        Ok(Progress::Done)
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.finish.clear(key, ctx)
    }
    fn close(&mut self) -> Result<()> {
        self.finish.close()
    }
}

/// An evictor whose type is forgotten: called once for each firing.
pub trait AnyEvictor<T>: Send {
    /// See [`Evictor::evict_before`].
    fn before(&mut self, elements: &mut Vec<Timestamped<T>>, window: &Window);
    /// See [`Evictor::evict_after`].
    fn after(&mut self, elements: &mut Vec<Timestamped<T>>, window: &Window);
}

impl<T, E: Evictor<T>> AnyEvictor<T> for E {
    fn before(&mut self, elements: &mut Vec<Timestamped<T>>, window: &Window) {
        self.evict_before(elements, window);
    }
    fn after(&mut self, elements: &mut Vec<Timestamped<T>>, window: &Window) {
        self.evict_after(elements, window);
    }
}

/// The records of a window, with their timestamps if there is an evictor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Buffer<T> {
    records: Vec<T>,
    timestamps: Vec<Timestamp>,
}

/// Buffers, an evictor, and what they need.
struct Buffers<T> {
    evictor: Option<Box<dyn AnyEvictor<T>>>,
    elements: Vec<Timestamped<T>>,
    spare: Vec<Buffer<T>>,
}

impl<T> Buffers<T> {
    fn new(evictor: Option<Box<dyn AnyEvictor<T>>>) -> Self {
        Buffers { evictor, elements: Vec::new(), spare: Vec::new() }
    }
    fn create(&mut self) -> Buffer<T> {
        self.spare.pop().unwrap_or(Buffer { records: Vec::new(), timestamps: Vec::new() })
    }
    #[inline]
    fn add(&self, buffer: &mut Buffer<T>, record: T, timestamp: Option<Timestamp>) {
        buffer.records.push(record);
        if self.evictor.is_some() {
            buffer.timestamps.push(timestamp.unwrap_or(Timestamp::MIN));
        }
    }
    fn recycle(&mut self, mut buffer: Buffer<T>) {
        if self.spare.len() < SPARE_BUFFERS && buffer.records.capacity() <= SPARE_RECORDS {
            buffer.records.clear();
            buffer.timestamps.clear();
            self.spare.push(buffer);
        }
    }
    fn evict(
        &mut self,
        buffer: &mut Buffer<T>,
        evict: impl FnOnce(&mut dyn AnyEvictor<T>, &mut Vec<Timestamped<T>>),
    ) {
        let Some(evictor) = &mut self.evictor else { return };
        let stamped = buffer.records.drain(..).zip(buffer.timestamps.drain(..));
        self.elements.extend(stamped.map(|(value, timestamp)| Timestamped { value, timestamp }));
        evict(&mut **evictor, &mut self.elements);
        for Timestamped { value, timestamp } in self.elements.drain(..) {
            buffer.records.push(value);
            buffer.timestamps.push(timestamp);
        }
    }
    /// Calls `f` between the two calls of the evictor, if there is something left for it.
    fn fire(
        &mut self,
        buffer: &mut Buffer<T>,
        window: Window,
        f: impl FnOnce(&[T]) -> Result<()>,
    ) -> Result<Progress> {
        self.evict(buffer, |evictor, elements| evictor.before(elements, &window));
        if !buffer.records.is_empty() {
            f(&buffer.records)?;
            self.evict(buffer, |evictor, elements| evictor.after(elements, &window));
        }
        Ok(Progress::Done)
    }
}

/// All records, for a function.
pub struct Buffered<T, P, U> {
    buffers: Buffers<T>,
    function: P,
    types: PhantomData<fn() -> U>,
}

impl<T, P, U> Buffered<T, P, U> {
    /// Keeps all records for `function`, but for those that the evictor removes.
    pub fn new(function: P, evictor: Option<Box<dyn AnyEvictor<T>>>) -> Self {
        Buffered { buffers: Buffers::new(evictor), function, types: PhantomData }
    }
}

impl<K: Key, T: Data, U: Data, P: ProcessWindowFunction<K, T, U>> Contents<K, T> for Buffered<T, P, U> {
    type Content = Buffer<T>;
    type Out = U;

    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.function.open(ctx).map_err(Error::User)
    }
    fn create(&mut self, record: T, timestamp: Option<Timestamp>) -> Buffer<T> {
        let mut buffer = self.buffers.create();
        self.buffers.add(&mut buffer, record, timestamp);
        buffer
    }
    #[inline]
    fn add(&mut self, buffer: &mut Buffer<T>, record: T, timestamp: Option<Timestamp>) {
        self.buffers.add(buffer, record, timestamp);
    }
    fn merge(&mut self, buffer: &mut Buffer<T>, mut other: Buffer<T>) {
        buffer.records.append(&mut other.records);
        buffer.timestamps.append(&mut other.timestamps);
        self.buffers.recycle(other);
    }
    fn fire(
        &mut self,
        key: &K,
        buffer: &mut Buffer<T>,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let function = &mut self.function;
        self.buffers.fire(buffer, ctx.window(), |records| {
            function.process(key, ctx, records, &mut Collector::new(out, timestamp)).map_err(Error::User)
        })
    }
    fn is_empty(&self, buffer: &Buffer<T>) -> bool {
        buffer.records.is_empty()
    }
    fn recycle(&mut self, buffer: Buffer<T>) {
        self.buffers.recycle(buffer);
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.function.clear(key, ctx).map_err(Error::User)
    }
    fn close(&mut self) -> Result<()> {
        self.function.close().map_err(Error::User)
    }
}

/// X14: all records, of which an evictor removes some before the others are folded.
pub struct EvictedFold<T, F, G> {
    buffers: Buffers<T>,
    fold: F,
    finish: G,
}

impl<T, F, G> EvictedFold<T, F, G> {
    /// Folds with `fold` what the evictor leaves, ends in `finish`.
    pub fn new(fold: F, finish: G, evictor: Box<dyn AnyEvictor<T>>) -> Self {
        EvictedFold { buffers: Buffers::new(Some(evictor)), fold, finish }
    }
}

impl<K: Key, T: Data, F: WindowFold<T>, G: Finish<K, F::Value>> Contents<K, T> for EvictedFold<T, F, G> {
    type Content = Buffer<T>;
    type Out = G::Out;

    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.finish.open(ctx)
    }
    fn create(&mut self, record: T, timestamp: Option<Timestamp>) -> Buffer<T> {
        let mut buffer = self.buffers.create();
        self.buffers.add(&mut buffer, record, timestamp);
        buffer
    }
    #[inline]
    fn add(&mut self, buffer: &mut Buffer<T>, record: T, timestamp: Option<Timestamp>) {
        self.buffers.add(buffer, record, timestamp);
    }
    fn merge(&mut self, buffer: &mut Buffer<T>, mut other: Buffer<T>) {
        buffer.records.append(&mut other.records);
        buffer.timestamps.append(&mut other.timestamps);
        self.buffers.recycle(other);
    }
    fn fire(
        &mut self,
        key: &K,
        buffer: &mut Buffer<T>,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<G::Out>,
    ) -> Result<Progress> {
        let EvictedFold { buffers, fold, finish } = self;
        buffers.fire(buffer, ctx.window(), |records| {
            let Some((first, others)) = records.split_first() else { return Ok(()) };
            let mut acc = fold.create(first.clone());
            others.iter().for_each(|record| fold.add(&mut acc, record.clone()));
            finish.finish(key, fold.value(&acc), ctx, &mut Collector::new(out, timestamp))
        })
    }
    fn is_empty(&self, buffer: &Buffer<T>) -> bool {
        buffer.records.is_empty()
    }
    fn recycle(&mut self, buffer: Buffer<T>) {
        self.buffers.recycle(buffer);
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.finish.clear(key, ctx)
    }
    fn close(&mut self) -> Result<()> {
        self.finish.close()
    }
}
