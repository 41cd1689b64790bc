//! distinct: each record, or each key, once.

use crate::api::data_stream::{DataStream, pristine};
use crate::api::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key};
use crate::operator::aggregate::{Combine, Fold, FoldAtEnd, Merge};
use crate::operator::distinct::{Distinct, KeepFirst, KeepKey};
use crate::operator::erased::OneInput;
use crate::operator::exchange::{FnKey, Keyed};
use crate::plan::{Combining, Node, Operation, Semantics};
use std::sync::Arc;

impl<T: Key> DataStream<T> {
    /// Each record once, of those that are equal. In STREAMING it comes with the first of them, so the source may be unbounded; in BATCH at the
    /// end, with the timestamp of the last of them, if they have any. State: all distinct records; BATCH drops
    /// those that repeat before the shuffle, and spills. Shuffles by the record.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let mut distinct = env.from_iter([3, 1, 3, 3]).distinct().execute_and_collect("distinct")?.into_vec()?;
    /// distinct.sort();
    /// assert_eq!(distinct, [1, 3]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn distinct(&self) -> DataStream<T> {
        self.key_by(T::clone).once(KeepKey)
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// The first record of each key: in STREAMING the one that arrives first, as it comes, so the source may be unbounded; in BATCH
    /// that of the lowest timestamp, or else of the first producer. State: all keys; BATCH also a record for each.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let words = env.from_iter(["to", "be", "or", "not"].map(String::from));
    /// let mut by_length = words.key_by(|word| word.len()).distinct().execute_and_collect("distinct")?.into_vec()?;
    /// by_length.sort();
    /// assert_eq!(by_length, ["not", "to"]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn distinct(&self) -> DataStream<T> {
        let distinct = self.once(KeepFirst);
        if let [edge] = &distinct.from[..] {
            distinct.env.change(edge.from, |node| node.semantics.ordered = true);
        }
        distinct
    }

    fn once<F: Fold<K, T, Out = T>>(&self, fold: F) -> DataStream<T> {
        let (a, b) = (self.selector.clone(), self.selector.clone());
        let partials = FnKey(|(key, _): &(K, F::Acc)| key.clone());
        let combining = Combining {
            rolling: Arc::new(move || OneInput::boxed(Distinct::<K, T>::new(a.clone()))),
            combine: pristine(fold.clone(), move |fold| Combine::<K, T, F>::new(fold, b.clone())),
            exchange: Arc::new(Keyed::<(K, F::Acc), K>::unsorted(Arc::new(partials))),
            merge: pristine(fold, Merge::<K, T, F>::new),
        };
        let from = vec![self.stream.from.clone()];
        let mut node = Node::new("distinct", Operation::Combining(combining), from);
        node.semantics = Semantics { stateful: true, ..Semantics::default() };
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }

    /// A fold whose results come at the end of the input in both modes; `why` is a clause that says why.
    pub(super) fn fold_at_end<F: Fold<K, T>>(
        &self,
        name: &str,
        why: &'static str,
        fold: F,
    ) -> DataStream<F::Out> {
        let (a, b) = (self.selector.clone(), self.selector.clone());
        let partials = FnKey(|(key, _): &(K, F::Acc)| key.clone());
        let combining = Combining {
            rolling: pristine(fold.clone(), move |fold| FoldAtEnd::<K, T, F>::new(fold, a.clone())),
            combine: pristine(fold.clone(), move |fold| Combine::<K, T, F>::new(fold, b.clone())),
            exchange: Arc::new(Keyed::<(K, F::Acc), K>::unsorted(Arc::new(partials))),
            merge: pristine(fold, Merge::<K, T, F>::new),
        };
        let mut node = Node::new(name, Operation::Combining(combining), vec![self.stream.from.clone()]);
        node.semantics = Semantics { stateful: true, ..Semantics::default() };
        node.needs_end = Some(why);
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }
}
