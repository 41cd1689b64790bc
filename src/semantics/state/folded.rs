//! ReducingState and AggregatingState: what was added for each key, folded into one value.

use super::ages::Whole;
use super::column::Handle;
use super::scope::KeyedAccess;
use crate::base::data::State;
use crate::semantics::aggregate::Aggregator;
use std::marker::PhantomData;

/// A handle to one value for each key that all added ones are folded into; made by
/// [`States::reducing`](super::States::reducing). State per key: the folded value.
///
/// `F` is the type of the fold. A closure that captures nothing needs no type of its own: it becomes the function
/// pointer that `F` is by default.
///
/// ```
/// # use mainstem::prelude::*;
/// struct Highest { highest: ReducingState<u64> }
/// impl KeyedProcessFunction<u64, u64, u64> for Highest {
///     fn process(&mut self, n: u64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
///         self.highest.add(ctx, n);
///         out.extend(self.highest.get(ctx).copied());
///         Ok(())
///     }
/// }
/// for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
///     let env = Environment::new().execution_mode(mode);
///     let highest = env.from_iter([4, 2, 1, 6, 3]).key_by(|n| n % 2).process(|states| Highest {
///         highest: states.reducing("highest", |highest, n| *highest = n.max(*highest)),
///     });
///     let mut highest = highest.execute_and_collect("highest")?.into_vec()?;
///     highest.sort();
///     assert_eq!(highest, [1, 3, 4, 4, 6]);
/// }
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct ReducingState<S, F = fn(&mut S, S)> {
    handle: Handle<S, Whole>,
    fold: F,
}

impl<S: State, F: Fn(&mut S, S)> ReducingState<S, F> {
    pub(super) fn new(handle: Handle<S, Whole>, fold: F) -> Self {
        ReducingState { handle, fold }
    }

    /// Folds a value into that of the current key; the first one is taken as it is.
    #[inline(always)]
    pub fn add<C: KeyedAccess>(&self, ctx: &mut C, value: S) {
        match self.handle.cell(ctx) {
            Some(folded) => (self.fold)(folded, value),
            empty => *empty = Some(value),
        }
    }

    /// The folded value of the current key.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<&'a S> {
        self.handle.read(ctx)
    }

    /// Takes the folded value of the current key out.
    pub fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Option<S> {
        self.handle.take(ctx)
    }

    /// Drops the folded value of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.handle.take(ctx);
    }
}

/// A handle to one accumulator for each key; made by [`States::aggregating`](super::States::aggregating). State per
/// key: the accumulator of the [`Aggregator`].
///
/// ```
/// # use mainstem::prelude::*;
/// struct Numbered { count: AggregatingState<String, Count> }
/// impl KeyedProcessFunction<String, String, String> for Numbered {
///     fn process(
///         &mut self,
///         word: String,
///         ctx: &mut KeyedContext<String>,
///         out: &mut Collector<'_, String>,
///     ) -> UserResult {
///         self.count.add(ctx, word.clone());
///         let count = self.count.get(ctx).unwrap_or(0);
///         out.emit(format!("{word}{count}"));
///         Ok(())
///     }
/// }
/// for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
///     let env = Environment::new().execution_mode(mode);
///     let numbered = env
///         .from_iter(["a", "b", "a"].map(String::from))
///         .key_by(|word| word.clone())
///         .process(|states| Numbered { count: states.aggregating("count", Count) });
///     let mut numbered = numbered.execute_and_collect("numbered")?.into_vec()?;
///     numbered.sort();
///     assert_eq!(numbered, ["a1", "a2", "b1"]);
/// }
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct AggregatingState<In, A: Aggregator<In>> {
    handle: Handle<A::Acc, Whole>,
    aggregator: A,
    types: PhantomData<fn(In)>,
}

impl<In, A: Aggregator<In>> AggregatingState<In, A>
where
    A::Acc: State,
{
    pub(super) fn new(handle: Handle<A::Acc, Whole>, aggregator: A) -> Self {
        AggregatingState { handle, aggregator, types: PhantomData }
    }

    /// Adds to the accumulator of the current key, which starts with its first record.
    #[inline(always)]
    pub fn add<C: KeyedAccess>(&self, ctx: &mut C, record: In) {
        let acc = self.handle.cell(ctx).get_or_insert_with(|| self.aggregator.create());
        self.aggregator.add(acc, record);
    }

    /// The result of the current key so far; none if nothing was added.
    #[inline(always)]
    pub fn get<C: KeyedAccess>(&self, ctx: &C) -> Option<A::Out> {
        self.handle.read(ctx).map(|acc| self.aggregator.result(acc))
    }

    /// Drops the accumulator of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.handle.take(ctx);
    }
}
