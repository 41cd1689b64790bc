//! Contents: what a window keeps of its records, and what becomes of it when the window fires.
//!
//! - [`Incremental`]: one accumulator.
//!   What it comes to ends in a [`Finish`]: it is emitted ([`Emit`]) or handed to a user's function ([`Process`]).
//! - [`Buffered`]: all records, for a function that wants to see them.
//! - [`Evicting`]: all records, since an evictor may leave some out; what it leaves goes into one of the others when the
//!   window fires.

use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::window::process::{ProcessWindowFunction, WindowContext};
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Out, Progress, RuntimeContext};
use crate::semantics::window::{Evictor, Timestamped, Window};
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
    /// The content without any record, which an evictor may leave; none where there cannot be one: then such a firing is
    /// skipped.
    fn nothing(&mut self) -> Option<Self::Content> {
        None
    }
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

/// Emptied lists of records, for the next windows.
struct Spare<T>(Vec<Vec<T>>);

impl<T> Spare<T> {
    fn take(&mut self) -> Vec<T> {
        self.0.pop().unwrap_or_default()
    }
    fn give_back(&mut self, mut records: Vec<T>) {
        if self.0.len() < SPARE_BUFFERS && (1..=SPARE_RECORDS).contains(&records.capacity()) {
            records.clear();
            self.0.push(records);
        }
    }
}

/// All records, for a function.
pub struct Buffered<T, P, U> {
    function: P,
    spare: Spare<T>,
    types: PhantomData<fn() -> U>,
}

impl<T, P, U> Buffered<T, P, U> {
    /// Keeps all records for `function`.
    pub fn new(function: P) -> Self {
        Buffered { function, spare: Spare(Vec::new()), types: PhantomData }
    }
}

impl<K: Key, T: Data, U: Data, P: ProcessWindowFunction<K, T, U>> Contents<K, T> for Buffered<T, P, U> {
    type Content = Vec<T>;
    type Out = U;

    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.function.open(ctx).map_err(Error::User)
    }
    fn create(&mut self, record: T, _: Option<Timestamp>) -> Vec<T> {
        let mut records = self.spare.take();
        records.push(record);
        records
    }
    fn nothing(&mut self) -> Option<Vec<T>> {
        Some(self.spare.take())
    }
    #[inline]
    fn add(&mut self, records: &mut Vec<T>, record: T, _: Option<Timestamp>) {
        records.push(record);
    }
    fn merge(&mut self, records: &mut Vec<T>, mut other: Vec<T>) {
        records.append(&mut other);
        self.spare.give_back(other);
    }
    fn fire(
        &mut self,
        key: &K,
        records: &mut Vec<T>,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let mut out = Collector::new(out, timestamp);
        self.function.process(key, ctx, records, &mut out).map_err(Error::User)?;
        Ok(Progress::Done)
    }
    fn recycle(&mut self, records: Vec<T>) {
        self.spare.give_back(records);
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.function.clear(key, ctx).map_err(Error::User)
    }
    fn close(&mut self) -> Result<()> {
        self.function.close().map_err(Error::User)
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

/// X14: all records, of which an evictor removes some before the others are put into `C`, or after.
pub struct Evicting<K: Key, T: Data, C: Contents<K, T>> {
    inner: C,
    evictor: Box<dyn AnyEvictor<T>>,
    /// What a firing that has yielded was given.
    firing: Option<C::Content>,
    spare: Spare<Timestamped<T>>,
}

impl<K: Key, T: Data, C: Contents<K, T>> Evicting<K, T, C> {
    /// Puts what the evictor leaves into `inner`.
    pub fn new(inner: C, evictor: Box<dyn AnyEvictor<T>>) -> Self {
        Evicting { inner, evictor, firing: None, spare: Spare(Vec::new()) }
    }

    /// The content that the records would have come to.
    fn gather(&mut self, elements: &[Timestamped<T>]) -> Option<C::Content> {
        let Some((first, others)) = elements.split_first() else { return self.inner.nothing() };
        let mut content = self.inner.create(first.value.clone(), Some(first.timestamp));
        for element in others {
            self.inner.add(&mut content, element.value.clone(), Some(element.timestamp));
        }
        Some(content)
    }
}

impl<K: Key, T: Data, C: Contents<K, T>> Contents<K, T> for Evicting<K, T, C> {
    type Content = Vec<Timestamped<T>>;
    type Out = C::Out;

    fn open(&mut self, ctx: &RuntimeContext) -> Result<()> {
        self.inner.open(ctx)
    }
    fn create(&mut self, record: T, timestamp: Option<Timestamp>) -> Self::Content {
        let mut elements = self.spare.take();
        self.add(&mut elements, record, timestamp);
        elements
    }
    #[inline]
    fn add(&mut self, elements: &mut Self::Content, value: T, timestamp: Option<Timestamp>) {
        elements.push(Timestamped { value, timestamp: timestamp.unwrap_or(Timestamp::MIN) });
    }
    fn merge(&mut self, elements: &mut Self::Content, mut other: Self::Content) {
        elements.append(&mut other);
        self.spare.give_back(other);
    }
    fn fire(
        &mut self,
        key: &K,
        elements: &mut Self::Content,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        let window = ctx.window();
        let content = match self.firing.take() {
            Some(content) => Some(content),
            None => {
                self.evictor.before(elements, &window);
                self.gather(elements)
            }
        };
        let Some(mut content) = content else { return Ok(Progress::Done) };
        if self.inner.fire(key, &mut content, timestamp, ctx, out)? == Progress::Yielded {
            self.firing = Some(content);
            return Ok(Progress::Yielded);
        }
        self.inner.recycle(content);
        self.evictor.after(elements, &window);
        Ok(Progress::Done)
    }
    fn is_empty(&self, elements: &Self::Content) -> bool {
        elements.is_empty()
    }
    fn recycle(&mut self, elements: Self::Content) {
        self.spare.give_back(elements);
    }
    fn clear(&mut self, key: &K, ctx: &mut WindowContext) -> Result<()> {
        self.inner.clear(key, ctx)
    }
    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}
