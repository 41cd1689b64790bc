//! Few: a list that mostly has no element or one, which then needs no memory of its own.
//!
//! Invariant: many elements lie in one piece of the queue. Taking out the first costs nothing, and so does adding one
//! at the end: a key may have hundreds of thousands of windows, which end one after the other.

use std::collections::VecDeque;

/// A list of elements.
#[derive(Clone, Debug)]
pub(super) enum Few<E> {
    None,
    One(E),
    Many(VecDeque<E>),
}

impl<E> Few<E> {
    #[inline(always)]
    pub(super) fn as_slice(&self) -> &[E] {
        match self {
            Few::None => &[],
            Few::One(e) => std::slice::from_ref(e),
            Few::Many(all) => all.as_slices().0,
        }
    }
    #[inline(always)]
    pub(super) fn as_mut_slice(&mut self) -> &mut [E] {
        match self {
            Few::None => &mut [],
            Few::One(e) => std::slice::from_mut(e),
            Few::Many(all) => all.as_mut_slices().0,
        }
    }
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Few::None)
    }
    /// Puts an element at position `at`, or at the end if there are fewer.
    pub(super) fn insert(&mut self, at: usize, e: E) {
        *self = match std::mem::replace(self, Few::None) {
            Few::None => Few::One(e),
            Few::One(first) => {
                let mut all = VecDeque::with_capacity(4);
                all.push_back(first);
                all.insert(at.min(1), e);
                all.make_contiguous();
                Few::Many(all)
            }
            Few::Many(mut all) => {
                all.insert(at.min(all.len()), e);
                all.make_contiguous();
                Few::Many(all)
            }
        };
    }
    /// Takes out the element at a position.
    pub(super) fn remove(&mut self, at: usize) -> Option<E> {
        match std::mem::replace(self, Few::None) {
            Few::One(e) if at == 0 => Some(e),
            Few::Many(mut all) if at < all.len() => {
                let e = all.remove(at);
                if !all.is_empty() {
                    all.make_contiguous();
                    *self = Few::Many(all);
                }
                e
            }
            others => {
                *self = others;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        let mut few = Few::None;
        let mut model: Vec<u32> = Vec::new();
        assert_eq!(few.remove(0), None);
        for (at, insert) in
            [(0, true), (1, true), (0, true), (9, false), (1, false), (0, false), (0, false), (0, true)]
        {
            if insert {
                few.insert(at, 10 + at as u32);
                model.insert(at, 10 + at as u32);
            } else {
                let expected = (at < model.len()).then(|| model.remove(at));
                assert_eq!(few.remove(at), expected);
            }
            assert_eq!((few.as_slice(), few.is_empty()), (&model[..], model.is_empty()));
            assert_eq!(few.as_mut_slice(), &model[..]);
        }
    }
}
