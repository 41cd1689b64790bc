//! ValueState: one value for each key.

use super::ages::Whole;
use super::column::Handle;
use super::scope::KeyedAccess;
use crate::base::data::State;

/// A handle to one value for each key; made by [`States::value`](super::States::value). State per key: the value,
/// and nothing for keys that never write.
pub struct ValueState<S> {
    handle: Handle<S, Whole>,
}

impl<S: State> ValueState<S> {
    pub(super) fn new(handle: Handle<S, Whole>) -> Self {
        ValueState { handle }
    }

    /// The value of the current key.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<&'a S> {
        self.handle.read(ctx)
    }

    /// Sets the value of the current key.
    #[inline(always)]
    pub fn set<C: KeyedAccess>(&self, ctx: &mut C, value: S) {
        *self.handle.cell(ctx) = Some(value);
    }

    /// The value of the current key to change in place, after setting it to `initial()` if there is none.
    #[inline(always)]
    pub fn get_or_insert_with<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
        initial: impl FnOnce() -> S,
    ) -> &'a mut S {
        self.handle.cell(ctx).get_or_insert_with(initial)
    }

    /// Changes the value of the current key in place, starting from the default if there is none.
    #[inline(always)]
    pub fn update<C: KeyedAccess, R>(&self, ctx: &mut C, change: impl FnOnce(&mut S) -> R) -> R
    where
        S: Default,
    {
        change(self.get_or_insert_with(ctx, S::default))
    }

    /// Takes the value of the current key out.
    #[inline(always)]
    pub fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Option<S> {
        self.handle.take(ctx)
    }

    /// Drops the value of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.take(ctx);
    }
}
