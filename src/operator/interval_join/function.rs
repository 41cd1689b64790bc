//! JoinFunction: what an interval join emits for pairs, and for records without a partner.

use crate::base::data::Data;
use std::marker::PhantomData;

/// What a join emits. The kinds differ in which sides are emitted without a partner.
pub trait JoinFunction<L, R>: Send + 'static {
    /// Records out.
    type Out: Data;
    /// Whether left records without a partner are emitted.
    const LEFT: bool;
    /// Whether right records without a partner are emitted.
    const RIGHT: bool;

    /// The result of a pair.
    fn pair(&mut self, left: &L, right: &R) -> Self::Out;
    /// The result of a left record without a partner.
    fn left(&mut self, _left: &L) -> Option<Self::Out> {
        None
    }
    /// The result of a right record without a partner.
    fn right(&mut self, _right: &R) -> Option<Self::Out> {
        None
    }
}

/// Pairs only.
pub struct Inner<F, U>(F, PhantomData<fn() -> U>);
/// Pairs, and left records without a partner.
pub struct LeftOuter<F, U>(F, PhantomData<fn() -> U>);
/// Pairs, and right records without a partner.
pub struct RightOuter<F, U>(F, PhantomData<fn() -> U>);
/// Pairs, and records of both sides without a partner.
pub struct FullOuter<F, U>(F, PhantomData<fn() -> U>);

macro_rules! constructors {
    ($($kind:ident)*) => {$(
        impl<F, U> $kind<F, U> {
            /// The join that emits what `f` returns.
            pub fn new(f: F) -> Self {
                $kind(f, PhantomData)
            }
        }
    )*};
}
constructors!(Inner LeftOuter RightOuter FullOuter);

impl<L, R, U: Data, F: FnMut(&L, &R) -> U + Send + 'static> JoinFunction<L, R> for Inner<F, U> {
    type Out = U;
    const LEFT: bool = false;
    const RIGHT: bool = false;

    #[inline(always)]
    fn pair(&mut self, left: &L, right: &R) -> U {
        (self.0)(left, right)
    }
}

impl<L, R, U: Data, F: FnMut(&L, Option<&R>) -> U + Send + 'static> JoinFunction<L, R> for LeftOuter<F, U> {
    type Out = U;
    const LEFT: bool = true;
    const RIGHT: bool = false;

    #[inline(always)]
    fn pair(&mut self, left: &L, right: &R) -> U {
        (self.0)(left, Some(right))
    }
    fn left(&mut self, left: &L) -> Option<U> {
        Some((self.0)(left, None))
    }
}

impl<L, R, U: Data, F: FnMut(Option<&L>, &R) -> U + Send + 'static> JoinFunction<L, R> for RightOuter<F, U> {
    type Out = U;
    const LEFT: bool = false;
    const RIGHT: bool = true;

    #[inline(always)]
    fn pair(&mut self, left: &L, right: &R) -> U {
        (self.0)(Some(left), right)
    }
    fn right(&mut self, right: &R) -> Option<U> {
        Some((self.0)(None, right))
    }
}

impl<L, R, U, F> JoinFunction<L, R> for FullOuter<F, U>
where
    U: Data,
    F: FnMut(Option<&L>, Option<&R>) -> U + Send + 'static,
{
    type Out = U;
    const LEFT: bool = true;
    const RIGHT: bool = true;

    #[inline(always)]
    fn pair(&mut self, left: &L, right: &R) -> U {
        (self.0)(Some(left), Some(right))
    }
    fn left(&mut self, left: &L) -> Option<U> {
        Some((self.0)(Some(left), None))
    }
    fn right(&mut self, right: &R) -> Option<U> {
        Some((self.0)(None, Some(right)))
    }
}
