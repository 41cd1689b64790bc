//! Pairing: what a join makes of records that meet, and of those that meet none.

use crate::base::data::Data;
use std::marker::PhantomData;

/// What a join emits.
pub trait Pairing<L, R>: Send + 'static {
    /// Records out.
    type Out: Data;
    /// Whether left records that meet none give something, too.
    const LEFT: bool;
    /// Whether right records that meet none give something, too.
    const RIGHT: bool;
    /// Of two records of one key.
    fn pair(&mut self, left: &L, right: &R) -> Self::Out;
    /// Of a left record whose key the right side does not have.
    fn left(&mut self, _left: &L) -> Option<Self::Out> {
        None
    }
    /// Of a right record whose key the left side does not have.
    fn right(&mut self, _right: &R) -> Option<Self::Out> {
        None
    }
}

macro_rules! pairing {
    ($(#[$doc:meta])* $name:ident, ($($bound:tt)*), $left:literal, $right:literal,
     |$f:ident, $l:ident, $r:ident| $pair:expr, $only_left:expr, $only_right:expr) => {
        $(#[$doc])*
        pub struct $name<U, F>(pub F, PhantomData<fn() -> U>);

        impl<U, F> $name<U, F> {
            /// The pairing around a function.
            pub fn new(f: F) -> Self {
                $name(f, PhantomData)
            }
        }

        impl<U, F: Clone> Clone for $name<U, F> {
            fn clone(&self) -> Self {
                $name::new(self.0.clone())
            }
        }

        impl<L: 'static, R: 'static, U: Data, F> Pairing<L, R> for $name<U, F>
        where
            F: $($bound)* + Send + 'static,
        {
            type Out = U;
            const LEFT: bool = $left;
            const RIGHT: bool = $right;
            #[inline]
            fn pair(&mut self, $l: &L, $r: &R) -> U {
                let $f = &mut self.0;
                $pair
            }
            fn left(&mut self, record: &L) -> Option<U> {
                let only: fn(&mut F, &L) -> Option<U> = $only_left;
                only(&mut self.0, record)
            }
            fn right(&mut self, record: &R) -> Option<U> {
                let only: fn(&mut F, &R) -> Option<U> = $only_right;
                only(&mut self.0, record)
            }
        }
    };
}

pairing!(
    /// Pairs only.
    Inner, (FnMut(&L, &R) -> U), false, false,
    |f, l, r| f(l, r), |_, _| None, |_, _| None
);
pairing!(
    /// Pairs, and left records without a partner.
    LeftOuter, (FnMut(&L, Option<&R>) -> U), true, false,
    |f, l, r| f(l, Some(r)), |f, l| Some(f(l, None)), |_, _| None
);
pairing!(
    /// Pairs, and right records without a partner.
    RightOuter, (FnMut(Option<&L>, &R) -> U), false, true,
    |f, l, r| f(Some(l), r), |_, _| None, |f, r| Some(f(None, r))
);
pairing!(
    /// Pairs, and records of either side without a partner.
    FullOuter, (FnMut(Option<&L>, Option<&R>) -> U), true, true,
    |f, l, r| f(Some(l), Some(r)), |f, l| Some(f(Some(l), None)), |f, r| Some(f(None, Some(r)))
);
