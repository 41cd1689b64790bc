//! Records: the records of a subtask or of a key as an iterator, read from memory and then from disk.

use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::services::shuffle::{Concat, MergeInput};
use std::sync::{Arc, Mutex, PoisonError};

/// An empty vector is kept for the next group up to this many records: groups are mostly small.
const SPARE_RECORDS_MAX: usize = 1 << 12;

/// All records of a subtask, or of a key, in order: what functions over bounded input are given.
///
/// It is an iterator of values and may be kept by an iterator that the function returns. It need not be read to its end.
/// There may be more records than fit into memory, so collecting them is for those who know better. Where reading from disk
/// fails it ends early, and the job fails before what came of it becomes visible.
pub struct Records<T> {
    head: std::vec::IntoIter<T>,
    rest: Option<Box<Concat>>,
    shared: Arc<Shared<T>>,
}

/// What the records of one operator share with it.
pub(super) struct Shared<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    error: Option<Error>,
    spare: Vec<T>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared { inner: Mutex::new(Inner { error: None, spare: Vec::new() }) }
    }
}

impl<T> Shared<T> {
    fn with<R>(&self, f: impl FnOnce(&mut Inner<T>) -> R) -> R {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// An empty vector, with memory if there is any to spare.
    pub(super) fn spare(&self) -> Vec<T> {
        self.with(|inner| std::mem::take(&mut inner.spare))
    }
    pub(super) fn check(&self) -> Result<()> {
        self.with(|inner| inner.error.take()).map_or(Ok(()), Err)
    }
}

impl<T: Data> Records<T> {
    pub(super) fn new(head: Vec<T>, rest: &[MergeInput], shared: Arc<Shared<T>>) -> Self {
        let rest = (!rest.is_empty()).then(|| Box::new(Concat::new(0, rest)));
        Records { head: head.into_iter(), rest, shared }
    }

    fn next_of_rest(&mut self) -> Option<T> {
        let rows = self.rest.as_mut()?;
        let next = match rows.next_row() {
            Ok(Some(row)) => row.decode_value().map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(e),
        };
        match next {
            Ok(Some(record)) => return Some(record),
            Ok(None) => {}
            Err(e) => self.shared.with(|inner| inner.error = Some(e)),
        }
        self.rest = None;
        None
    }
}

impl<T: Data> Iterator for Records<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self.head.next() {
            Some(record) => Some(record),
            None => self.next_of_rest(),
        }
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let head = self.head.len();
        (head, self.rest.is_none().then_some(head))
    }
}

impl<T> Drop for Records<T> {
    fn drop(&mut self) {
        let spare: Vec<T> = std::mem::take(&mut self.head).collect();
        if spare.capacity() > 0 && spare.capacity() <= SPARE_RECORDS_MAX {
            self.shared.with(|inner| {
                inner.spare = spare;
                inner.spare.clear();
            });
        }
    }
}
