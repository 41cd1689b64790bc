//! IterSource: the items of an iterator as a bounded source.
//!
//! Place: tests, examples and small reference data; read by one subtask.
//! Invariants: every reader iterates over a fresh clone, so the iterator must give the same items each time: a
//! restart skips as many as were emitted before.

use super::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The items of `items`, in order, read by one subtask.
///
/// ```
/// use mainstem::connectors::source::{IterSource, Source};
/// let source = IterSource::new(vec!["to", "be"].into_iter().map(String::from).collect::<Vec<_>>());
/// assert_eq!(source.describe(), "iterator");
/// ```
pub struct IterSource<I> {
    items: I,
}

impl<I> IterSource<I> {
    /// A source of the items of `items`.
    pub fn new(items: I) -> Self {
        IterSource { items }
    }
}

/// The whole iterator as a split: how many items were emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IterSplit {
    /// Items emitted so far.
    pub position: u64,
}

impl<I> Source for IterSource<I>
where
    I: IntoIterator + Clone + Send + Sync + 'static,
    I::IntoIter: Send,
    I::Item: Data,
{
    type Item = I::Item;
    type Split = IterSplit;
    type Reader = IterReader<I::IntoIter>;

    fn describe(&self) -> String {
        "iterator".to_string()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> Result<Vec<IterSplit>> {
        Ok(vec![IterSplit { position: 0 }])
    }
    fn open(&self, split: IterSplit, _ctx: &SourceContext) -> Result<Self::Reader> {
        let mut items = self.items.clone().into_iter();
        if let Some(last) = split.position.checked_sub(1) {
            let last = usize::try_from(last).map_err(|_| too_far(split.position))?;
            items.nth(last).ok_or_else(|| too_far(split.position))?;
        }
        Ok(IterReader { items, position: split.position })
    }
}

#[cold]
fn too_far(position: u64) -> Error {
    Error::config(format!(
        "an iterator source cannot go on after item {position}: the iterator has fewer items than when the \
         checkpoint was taken; give it the same items again"
    ))
}

/// Reads an iterator.
pub struct IterReader<I> {
    items: I,
    position: u64,
}

impl<I> SplitReader for IterReader<I>
where
    I: Iterator + Send,
    I::Item: Data,
{
    type Item = I::Item;
    type Split = IterSplit;

    fn poll(&mut self, out: &mut SourceOutput<I::Item>) -> Result<Poll> {
        let room = out.room();
        let values = &mut out.batch_mut().values;
        let before = values.len();
        values.extend(self.items.by_ref().take(room));
        let taken = values.len() - before;
        self.position += taken as u64;
        Ok(if taken < room { Poll::End } else { Poll::More })
    }
    fn position(&self) -> IterSplit {
        IterSplit { position: self.position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::source::testing::{context, drain};

    #[test]
    fn all_items_come_once_and_in_order() {
        for n in [0, 1, 1023, 1024, 1025, 5000] {
            let source = IterSource::new(0..n);
            let ctx = context(3);
            let splits = source.splits(&ctx).unwrap();
            assert_eq!(splits.len(), 1);
            let mut reader = source.open(splits[0], &ctx).unwrap();
            assert_eq!(drain(&mut reader), (0..n).collect::<Vec<u64>>());
            assert_eq!(reader.position().position, n);
        }
    }

    #[test]
    fn a_new_reader_goes_on_at_the_position() {
        let source = IterSource::new((0..3000).collect::<Vec<i32>>());
        let ctx = context(1);
        let mut out = SourceOutput::default();
        let mut reader = source.open(IterSplit { position: 0 }, &ctx).unwrap();
        reader.poll(&mut out).unwrap();
        let mut seen = out.batch.values;
        let mut rest = source.open(reader.position(), &ctx).unwrap();
        seen.extend(drain(&mut rest));
        assert_eq!(seen, (0..3000).collect::<Vec<_>>());
        let mut end = source.open(rest.position(), &ctx).unwrap();
        assert!(drain(&mut end).is_empty());
    }

    #[test]
    fn a_position_behind_the_end_is_an_error() {
        let source = IterSource::new(vec![1, 2]);
        assert!(source.open(IterSplit { position: 2 }, &context(1)).is_ok());
        let error = source.open(IterSplit { position: 3 }, &context(1)).err().unwrap();
        assert!(error.to_string().contains("after item 3"), "{error}");
    }
}
