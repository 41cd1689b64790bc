//! ListState: a list for each key.

use super::column::Handle;
use super::scope::KeyedAccess;
use crate::base::data::State;

/// A handle to a list for each key; made by [`States::list`](super::States::list). State per key: the elements in the
/// order they were added; a key whose list is empty keeps nothing.
///
/// The median of what each key has had so far:
///
/// ```
/// # use mainstem::prelude::*;
/// struct Median { seen: ListState<u64> }
/// impl KeyedProcessFunction<String, (String, u64), (String, u64)> for Median {
///     fn process(
///         &mut self,
///         (name, n): (String, u64),
///         ctx: &mut KeyedContext<String>,
///         out: &mut Collector<'_, (String, u64)>,
///     ) -> UserResult {
///         let median = self.seen.update(ctx, |seen| {
///             seen.insert(seen.partition_point(|&other| other < n), n);
///             seen[seen.len() / 2]
///         });
///         out.emit((name, median));
///         Ok(())
///     }
/// }
/// for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
///     let env = Environment::new().execution_mode(mode);
///     let medians = env
///         .from_iter([("a", 5), ("b", 7), ("a", 1), ("a", 3)].map(|(name, n)| (name.to_string(), n)))
///         .key_by(|record| record.0.clone())
///         .process(|states| Median { seen: states.list("seen") });
///     let mut medians = medians.execute_and_collect("medians")?.into_vec()?;
///     medians.sort();
///     assert_eq!(medians, [("a", 3), ("a", 5), ("a", 5), ("b", 7)].map(|(name, n)| (name.to_string(), n)));
/// }
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct ListState<S> {
    handle: Handle<Vec<S>>,
}

impl<S: State> ListState<S> {
    pub(super) fn new(handle: Handle<Vec<S>>) -> Self {
        ListState { handle }
    }

    /// The elements of the current key, in the order they were added.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> &'a [S] {
        self.handle.get(ctx).map_or(&[], Vec::as_slice)
    }

    /// The elements of the current key to change in place.
    #[inline(always)]
    pub fn get_mut<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C) -> &'a mut [S] {
        self.handle.get_mut(ctx).map_or(&mut [], Vec::as_mut_slice)
    }

    /// The elements of the current key, in the order they were added.
    pub fn iter<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> std::slice::Iter<'a, S> {
        self.get(ctx).iter()
    }

    /// Number of elements of the current key.
    pub fn len<C: KeyedAccess>(&self, ctx: &C) -> usize {
        self.get(ctx).len()
    }

    /// Whether the current key has no element.
    pub fn is_empty<C: KeyedAccess>(&self, ctx: &C) -> bool {
        self.handle.get(ctx).is_none()
    }

    /// Adds an element at the end.
    #[inline(always)]
    pub fn add<C: KeyedAccess>(&self, ctx: &mut C, element: S) {
        self.handle.cell(ctx).get_or_insert_default().push(element);
    }

    /// Adds elements at the end.
    pub fn extend<C: KeyedAccess>(&self, ctx: &mut C, elements: impl IntoIterator<Item = S>) {
        self.update(ctx, |list| list.extend(elements));
    }

    /// Replaces the list of the current key.
    pub fn set<C: KeyedAccess>(&self, ctx: &mut C, elements: Vec<S>) {
        self.update(ctx, |list| *list = elements);
    }

    /// Changes the list of the current key in place.
    #[inline(always)]
    pub fn update<C: KeyedAccess, R>(&self, ctx: &mut C, change: impl FnOnce(&mut Vec<S>) -> R) -> R {
        self.handle.change(ctx, change, Vec::is_empty)
    }

    /// Keeps those elements of the current key for which `keep` is true.
    pub fn retain<C: KeyedAccess>(&self, ctx: &mut C, keep: impl FnMut(&S) -> bool) {
        self.update(ctx, |list| list.retain(keep));
    }

    /// Takes the list of the current key out.
    pub fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Vec<S> {
        self.handle.take(ctx).unwrap_or_default()
    }

    /// Drops the list of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.handle.take(ctx);
    }
}
