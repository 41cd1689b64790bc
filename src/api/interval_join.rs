//! IntervalJoin: two keyed streams joined where their timestamps are near each other.

use super::data_stream::DataStream;
use super::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key};
use crate::operator::erased::TwoInput;
use crate::operator::interval_join::{
    FullOuter, Inner, Interval, IntervalJoin as Joining, JoinFunction, LeftOuter, RightOuter, Setting,
};
use crate::operator::side_output::SideOutput;
use crate::plan::{Node, Operation, OperatorFactory, Semantics};
use std::sync::{Arc, Mutex, PoisonError};

/// Two keyed streams that wait for the bounds of their join, see [`KeyedStream::interval_join`].
pub struct IntervalJoin<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
}

/// Two keyed streams and the interval in which their records are joined, see [`KeyedStream::interval_join`].
pub struct IntervalJoined<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
    interval: Interval,
    late_left: Option<SideOutput<L>>,
    late_right: Option<SideOutput<R>>,
}

impl<K: Key, L: Data> KeyedStream<K, L> {
    /// Joins records of the same key whose timestamps are near each other: with `.between(lower, upper)` each record with
    /// those of `right` for which `left + lower <= right <= left + upper`, in milliseconds. Event time only: both streams
    /// need timestamps. A result carries the later timestamp of its two records.
    ///
    /// In STREAMING a left record is kept until the watermark has reached its timestamp plus `upper`, a right one until it has
    /// reached its own minus `lower`; in BATCH records of a key come in time order and are kept for as long as that. State
    /// per key: the records of the interval. A record before the watermark is late and dropped
    /// (counter `late_records_dropped`), or goes to [a side output](IntervalJoined::late_left_to). No record is
    /// late in BATCH.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let at = |record: &(String, i64)| record.1;
    /// let stamped = |records: [(&str, i64); 3]| {
    ///     let records = records.map(|(key, at)| (key.to_string(), at));
    ///     env.from_iter(records).assign_timestamps(WatermarkStrategy::monotonous().timestamp(at))
    /// };
    /// let views = stamped([("pen", 1_000), ("cup", 2_000), ("pen", 9_000)]);
    /// let sales = stamped([("cup", 1_500), ("pen", 4_000), ("pen", 9_500)]);
    /// let bought = views
    ///     .key_by(|view| view.0.clone())
    ///     .interval_join(&sales.key_by(|sale| sale.0.clone()))
    ///     .between(0, 5_000)
    ///     .apply(|view, sale| (view.0.clone(), sale.1 - view.1));
    /// let mut bought = bought.execute_and_collect("bought")?.into_vec()?;
    /// bought.sort();
    /// assert_eq!(bought, [("pen".to_string(), 500), ("pen".to_string(), 3_000)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn interval_join<R: Data>(&self, right: &KeyedStream<K, R>) -> IntervalJoin<K, L, R> {
        IntervalJoin { left: self.clone(), right: right.clone() }
    }
}

impl<K: Key, L: Data, R: Data> IntervalJoin<K, L, R> {
    /// How far a right record's timestamp may be from the left one's, in milliseconds: negative is before it. Both bounds
    /// are inclusive. A lower bound above the upper one is an error when the plan is built.
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> IntervalJoined<K, L, R> {
        IntervalJoined {
            left: self.left,
            right: self.right,
            interval: Interval::between(lower_ms, upper_ms),
            late_left: None,
            late_right: None,
        }
    }
}

impl<K: Key, L: Data, R: Data> IntervalJoined<K, L, R> {
    /// Leaves out right records at the lower bound itself.
    #[must_use]
    pub fn lower_bound_exclusive(mut self) -> Self {
        self.interval.lower_exclusive = true;
        self
    }

    /// Leaves out right records at the upper bound itself.
    #[must_use]
    pub fn upper_bound_exclusive(mut self) -> Self {
        self.interval.upper_exclusive = true;
        self
    }

    /// Sends late left records to a side output of the join instead of dropping them.
    #[must_use]
    pub fn late_left_to(mut self, output: &SideOutput<L>) -> Self {
        self.late_left = Some(output.clone());
        self
    }

    /// Sends late right records to a side output of the join instead of dropping them.
    #[must_use]
    pub fn late_right_to(mut self, output: &SideOutput<R>) -> Self {
        self.late_right = Some(output.clone());
        self
    }

    /// Inner join: one result for each pair.
    pub fn apply<U: Data>(self, f: impl FnMut(&L, &R) -> U + Clone + Send + 'static) -> DataStream<U> {
        self.joined(f, Inner::new)
    }

    /// Left outer join: one result for each pair, and `f(left, None)` for each left record without a partner, with its
    /// timestamp, when the watermark reaches that plus the upper bound (in BATCH when the key's records have). Behind that
    /// watermark such a result may be late: windows after an outer join need an allowed lateness of the upper bound.
    pub fn apply_left<U: Data>(
        self,
        f: impl FnMut(&L, Option<&R>) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.joined(f, LeftOuter::new)
    }

    /// Right outer join: as [`apply_left`](IntervalJoined::apply_left), with `f(None, right)` for each right record without a
    /// partner when the watermark reaches its timestamp minus the lower bound.
    pub fn apply_right<U: Data>(
        self,
        f: impl FnMut(Option<&L>, &R) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.joined(f, RightOuter::new)
    }

    /// Full outer join: [`apply_left`](IntervalJoined::apply_left) and [`apply_right`](IntervalJoined::apply_right) in one.
    pub fn apply_full<U: Data>(
        self,
        f: impl FnMut(Option<&L>, Option<&R>) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.joined(f, FullOuter::new)
    }

    fn joined<F: Clone + Send + 'static, J: JoinFunction<L, R>>(
        self,
        f: F,
        make: fn(F) -> J,
    ) -> DataStream<J::Out> {
        let (left, right) = (&self.left.stream, &self.right.stream);
        let mut right_edges = right.from.clone();
        if !left.env.same(&right.env) {
            let [here, there] = [left.operator_name(), right.operator_name()];
            left.env.mistake(&format!(
                "the interval join of '{here}' and '{there}' joins streams of different environments; a job reads and \
                 writes within one environment"
            ));
            right_edges.clear();
        }
        let interval = self.interval;
        let of_left = Setting { selector: self.left.selector.clone(), late_to: self.late_left };
        let of_right = Setting { selector: self.right.selector.clone(), late_to: self.late_right };
        let pristine = Mutex::new(f);
        let factory: OperatorFactory = Arc::new(move || {
            let f = pristine.lock().unwrap_or_else(PoisonError::into_inner).clone();
            TwoInput::boxed(Joining::new(make(f), interval, of_left.clone(), of_right.clone()))
        });
        let inputs = vec![left.from.clone(), right_edges];
        let mut node = Node::new("interval_join", Operation::Operator(factory), inputs);
        node.semantics = Semantics { stateful: true, drops_late: true, ..Semantics::default() };
        node.mistakes.extend(interval.mistake());
        DataStream::of_node(&left.env, left.env.add(node))
    }
}
