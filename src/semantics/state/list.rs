//! ListState: a list for each key.

use super::ages::OfElements;
use super::column::Handle;
use super::scope::KeyedAccess;
use crate::base::data::{State, Timestamp};

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
    handle: Handle<Vec<S>, OfElements>,
}

impl<S: State> ListState<S> {
    pub(super) fn new(handle: Handle<Vec<S>, OfElements>) -> Self {
        ListState { handle }
    }

    /// The elements of the current key, in the order they were added.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> &'a [S] {
        let Some((list, aged)) = self.handle.aged(ctx) else { return &[] };
        let Some(aged) = aged else { return list };
        let expired = aged.ages.expired(aged.limit());
        // An expired element counts as read, so that it is cleaned up; those behind it are refreshed.
        let stamps = aged.ages.0.iter();
        stamps.skip(expired.saturating_sub(1)).for_each(|stamp| _ = aged.read(stamp));
        if aged.shows_expired() { list } else { list.get(expired..).unwrap_or_default() }
    }

    /// The elements of the current key to change in place.
    #[inline(always)]
    pub fn get_mut<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C) -> &'a mut [S] {
        let Some((list, aged)) = self.handle.open_live(ctx) else { return &mut [] };
        if let Some(aged) = aged {
            aged.ages.write_all(list.len(), aged.now);
        }
        list
    }

    /// The elements of the current key, in the order they were added.
    pub fn iter<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> std::slice::Iter<'a, S> {
        self.get(ctx).iter()
    }

    /// Number of elements of the current key.
    pub fn len<C: KeyedAccess>(&self, ctx: &C) -> usize {
        let Some((list, aged)) = self.handle.aged(ctx) else { return 0 };
        let hidden = aged.filter(|aged| !aged.shows_expired());
        list.len() - hidden.map_or(0, |aged| aged.ages.expired(aged.limit()).min(list.len()))
    }

    /// Whether the current key has no element.
    pub fn is_empty<C: KeyedAccess>(&self, ctx: &C) -> bool {
        self.len(ctx) == 0
    }

    /// Adds an element at the end.
    #[inline(always)]
    pub fn add<C: KeyedAccess>(&self, ctx: &mut C, element: S) {
        let (cell, aged) = self.handle.open(ctx);
        let list = cell.get_or_insert_default();
        if let Some(aged) = aged {
            // What was left of an emptied cell goes; an expired element before this one stays until it is cleaned up.
            aged.ages.0.truncate(list.len());
            aged.ages.write_more(list.len() + 1, aged.now);
        }
        list.push(element);
    }

    /// Adds elements at the end.
    pub fn extend<C: KeyedAccess>(&self, ctx: &mut C, elements: impl IntoIterator<Item = S>) {
        self.change(ctx, |list| list.extend(elements), |ages, list, now| ages.write_more(list.len(), now));
    }

    /// Replaces the list of the current key.
    pub fn set<C: KeyedAccess>(&self, ctx: &mut C, elements: Vec<S>) {
        self.update(ctx, |list| *list = elements);
    }

    /// Changes the list of the current key in place. With a time to live, all that is left counts as just written.
    #[inline(always)]
    pub fn update<C: KeyedAccess, R>(&self, ctx: &mut C, change: impl FnOnce(&mut Vec<S>) -> R) -> R {
        self.change(ctx, change, |ages, list, now| ages.write_all(list.len(), now))
    }

    /// Keeps those elements of the current key for which `keep` is true. With a time to live, that does not count as using
    /// them.
    pub fn retain<C: KeyedAccess>(&self, ctx: &mut C, mut keep: impl FnMut(&S) -> bool) {
        let Some((list, aged)) = self.handle.open_live(ctx) else { return };
        match aged {
            None => list.retain(keep),
            Some(aged) => {
                let keeps: Vec<bool> = list.iter().map(&mut keep).collect();
                let mut of_elements = keeps.iter();
                list.retain(|_| of_elements.next().copied().unwrap_or(false));
                let mut of_stamps = keeps.iter();
                aged.ages.0.retain(|_| of_stamps.next().copied().unwrap_or(false));
            }
        }
        if list.is_empty() {
            self.handle.take(ctx);
        }
    }

    /// Changes the list, which may be empty before and after, and tells its ages.
    #[inline(always)]
    fn change<C: KeyedAccess, R>(
        &self,
        ctx: &mut C,
        change: impl FnOnce(&mut Vec<S>) -> R,
        age: impl FnOnce(&mut OfElements, &[S], Timestamp),
    ) -> R {
        self.handle.open_live(ctx);
        let (cell, mut aged) = self.handle.open(ctx);
        let list = cell.get_or_insert_default();
        if let Some(aged) = &mut aged {
            aged.ages.0.truncate(list.len());
        }
        let result = change(list);
        if let Some(aged) = aged {
            age(aged.ages, list, aged.now);
        }
        if list.is_empty() {
            *cell = None;
            ctx.cleared();
        }
        result
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
