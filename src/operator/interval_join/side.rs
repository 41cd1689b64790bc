//! Side: the two inputs of a join, so that what is done for one is written once.

use super::buffer::Buffer;
use super::function::JoinFunction;
use super::keys::Buffers;
use super::{Inputs, Setting};
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;

/// One of the two inputs, as seen by its own records.
pub(super) trait Side<K, L, R> {
    /// Records of this input.
    type Own;
    /// Records of the other one.
    type Other;
    /// Name for errors.
    const NAME: &'static str;

    fn setting<S>(inputs: &Inputs<S, S>) -> &S;
    fn selector(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> &dyn KeySelector<Self::Own, K>;
    fn late_to(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> Option<&SideOutput<Self::Own>>;
    fn buffers(buffers: &mut Buffers<L, R>) -> (&mut Buffer<Self::Own>, &mut Buffer<Self::Other>);
    /// Whether records of this input are emitted without a partner, and those of the other.
    fn outer<F: JoinFunction<L, R>>() -> (bool, bool);
    fn pair<F: JoinFunction<L, R>>(f: &mut F, own: &Self::Own, other: &Self::Other) -> F::Out;
    fn alone<F: JoinFunction<L, R>>(f: &mut F, own: &Self::Own) -> Option<F::Out>;
}

/// The first input.
pub(super) struct LeftSide;
/// The second input.
pub(super) struct RightSide;

impl<K: 'static, L: 'static, R: 'static> Side<K, L, R> for LeftSide {
    type Own = L;
    type Other = R;
    const NAME: &'static str = "left";

    #[inline(always)]
    fn setting<S>(inputs: &Inputs<S, S>) -> &S {
        &inputs.left
    }
    fn selector(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> &dyn KeySelector<L, K> {
        &*setting.left.selector
    }
    fn late_to(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> Option<&SideOutput<L>> {
        setting.left.late_to.as_ref()
    }
    #[inline(always)]
    fn buffers(buffers: &mut Buffers<L, R>) -> (&mut Buffer<L>, &mut Buffer<R>) {
        (&mut buffers.left, &mut buffers.right)
    }
    #[inline(always)]
    fn outer<F: JoinFunction<L, R>>() -> (bool, bool) {
        (F::LEFT, F::RIGHT)
    }
    #[inline(always)]
    fn pair<F: JoinFunction<L, R>>(f: &mut F, own: &L, other: &R) -> F::Out {
        f.pair(own, other)
    }
    fn alone<F: JoinFunction<L, R>>(f: &mut F, own: &L) -> Option<F::Out> {
        f.left(own)
    }
}

impl<K: 'static, L: 'static, R: 'static> Side<K, L, R> for RightSide {
    type Own = R;
    type Other = L;
    const NAME: &'static str = "right";

    #[inline(always)]
    fn setting<S>(inputs: &Inputs<S, S>) -> &S {
        &inputs.right
    }
    fn selector(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> &dyn KeySelector<R, K> {
        &*setting.right.selector
    }
    fn late_to(setting: &Inputs<Setting<K, L>, Setting<K, R>>) -> Option<&SideOutput<R>> {
        setting.right.late_to.as_ref()
    }
    #[inline(always)]
    fn buffers(buffers: &mut Buffers<L, R>) -> (&mut Buffer<R>, &mut Buffer<L>) {
        (&mut buffers.right, &mut buffers.left)
    }
    #[inline(always)]
    fn outer<F: JoinFunction<L, R>>() -> (bool, bool) {
        (F::RIGHT, F::LEFT)
    }
    #[inline(always)]
    fn pair<F: JoinFunction<L, R>>(f: &mut F, own: &R, other: &L) -> F::Out {
        f.pair(other, own)
    }
    fn alone<F: JoinFunction<L, R>>(f: &mut F, own: &R) -> Option<F::Out> {
        f.right(own)
    }
}
