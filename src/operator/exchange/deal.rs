//! Deal: the records of a batch in the order of their consumers.
//!
//! Method: their indices are sorted, by counting, or for a few consumers by a pass for each that keeps an index by stepping
//! behind it. What follows is a loop for each consumer and column that reads and writes in order and decides nothing, where
//! a loop over the records would look at a different consumer each time.

/// Consumers up to which a pass for each is faster than counting, where each step waits for the one before.
const FEW: usize = 4;

/// The indices of the records of one batch, consumer by consumer, in the order of the batch.
#[derive(Default)]
pub(super) struct Deal {
    /// Each index below the number of records once: `sort`, which alone writes it, sees to that.
    order: Vec<u32>,
    /// Where the indices of each consumer end.
    ends: Vec<u32>,
}

impl Deal {
    /// Sorts the records of a batch; `chosen` holds the consumer of each, below `consumers`.
    pub(super) fn sort(&mut self, chosen: &[u32], consumers: usize) {
        if consumers <= FEW { self.pick(chosen, consumers) } else { self.count(chosen, consumers) }
    }

    fn pick(&mut self, chosen: &[u32], consumers: usize) {
        self.ends.clear();
        // One place more, for what is written and not kept.
        self.order.resize(chosen.len() + 1, 0);
        let mut at = 0;
        for consumer in 0..consumers as u32 {
            for (i, &to) in chosen.iter().enumerate() {
                self.order[at] = i as u32;
                at += usize::from(to == consumer);
            }
            self.ends.push(at as u32);
        }
        assert_eq!(at, chosen.len(), "each record has a consumer");
        self.order.truncate(at);
    }

    fn count(&mut self, chosen: &[u32], consumers: usize) {
        self.ends.clear();
        self.ends.resize(consumers + 1, 0);
        for &to in chosen {
            self.ends[to as usize + 1] += 1;
        }
        // Where each begins.
        let mut before = 0;
        for end in &mut self.ends {
            before += *end;
            *end = before;
        }
        self.order.clear();
        self.order.resize(chosen.len(), 0);
        for (i, &to) in chosen.iter().enumerate() {
            let next = &mut self.ends[to as usize];
            self.order[*next as usize] = i as u32;
            *next += 1;
        }
    }

    /// The indices of a consumer's records.
    pub(super) fn records_of(&self, consumer: usize) -> &[u32] {
        let begin = consumer.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.order[begin as usize..self.ends[consumer] as usize]
    }

    /// Takes the values of the batch that was sorted, to be moved out consumer by consumer.
    pub(super) fn take<'a, T>(&'a self, values: &'a mut Vec<T>) -> Values<'a, T> {
        assert_eq!(values.len(), self.order.len(), "a consumer was chosen for each record");
        // SAFETY: nothing lies within the new length. `Values` owns the elements from here on; those that it is not
        // asked for leak.
        unsafe { values.set_len(0) };
        Values { values, order: &self.order }
    }
}

/// The values of a batch that are still to be moved out.
pub(super) struct Values<'a, T> {
    /// Its length is zero; the elements lie in its spare capacity.
    values: &'a mut Vec<T>,
    /// The indices of those that have not been moved.
    order: &'a [u32],
}

impl<T> Values<'_, T> {
    /// Appends the next `count` values to `into`.
    pub(super) fn move_to(&mut self, count: usize, into: &mut Vec<T>) {
        let (now, later) = self.order.split_at(count);
        self.order = later;
        let values = self.values.as_ptr();
        // SAFETY: `order` held each index below the number of values once, and `now` will not come again: each value is
        // read at most once, within the elements that `take` has found and nobody else has touched.
        into.extend(now.iter().map(|&i| unsafe { values.add(i as usize).read() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn records_come_by_consumer_in_their_order_and_are_moved_once() {
        let mut deal = Deal::default();
        let batches = [vec![], vec![2, 0, 2, 1, 0, 2], vec![3; 5], vec![0, 1, 2, 3]];
        for (chosen, consumers) in batches.iter().flat_map(|chosen| [(chosen, FEW), (chosen, FEW + 1)]) {
            deal.sort(chosen, consumers);
            let all: Vec<Rc<usize>> = (0..chosen.len()).map(Rc::new).collect();
            let mut values = all.clone();
            let mut taken = deal.take(&mut values);
            for consumer in 0..consumers {
                let expected: Vec<usize> =
                    (0..chosen.len()).filter(|&i| chosen[i] as usize == consumer).collect();
                assert!(deal.records_of(consumer).iter().map(|&i| i as usize).eq(expected.iter().copied()));
                let mut moved = Vec::new();
                let first = expected.len() / 2;
                taken.move_to(first, &mut moved);
                taken.move_to(expected.len() - first, &mut moved);
                assert!(moved.iter().map(|value| **value).eq(expected));
            }
            assert!(values.is_empty() && all.iter().all(|value| Rc::strong_count(value) == 1));
        }
    }
}
