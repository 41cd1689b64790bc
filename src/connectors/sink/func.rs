//! FnSink: a closure that takes each record.

use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{BoxError, Error, Result};
use std::sync::Mutex;

/// Calls a closure with each record. Every writer, so every attempt of every subtask, calls a fresh clone of it:
/// what the closure owns is not shared between them, what it refers to (an `Arc`) is.
///
/// The closure sees records before the job has succeeded, and again those that are repeated after a failure: with
/// checkpoints those behind the last one. Each record comes at least once; a closure for which the second time changes nothing,
/// such as one that writes a value under its key, has the effect of exactly once.
pub struct FnSink<C> {
    /// Behind a lock so that the closure need not be `Sync`; taken once per writer.
    call: Mutex<C>,
}

impl<F> FnSink<Plain<F>> {
    /// A closure that cannot fail.
    pub fn new<T>(call: F) -> Self
    where
        F: FnMut(T) + Clone + Send + 'static,
    {
        FnSink { call: Mutex::new(Plain(call)) }
    }
}

impl<F> FnSink<Fallible<F>> {
    /// A closure that can fail, which fails the subtask.
    pub fn fallible<T, E>(call: F) -> Self
    where
        F: FnMut(T) -> Result<(), E> + Clone + Send + 'static,
        E: Into<BoxError>,
    {
        FnSink { call: Mutex::new(Fallible(call)) }
    }
}

/// What an [`FnSink`] calls.
pub trait TakeRecord<T>: Clone + Send + 'static {
    /// Takes one record.
    fn take(&mut self, record: T) -> Result<()>;
}

/// A closure that cannot fail.
#[derive(Clone)]
pub struct Plain<F>(F);

/// A closure that can fail.
#[derive(Clone)]
pub struct Fallible<F>(F);

impl<T, F: FnMut(T) + Clone + Send + 'static> TakeRecord<T> for Plain<F> {
    #[inline]
    fn take(&mut self, record: T) -> Result<()> {
        (self.0)(record);
        Ok(())
    }
}

impl<T, E, F> TakeRecord<T> for Fallible<F>
where
    F: FnMut(T) -> Result<(), E> + Clone + Send + 'static,
    E: Into<BoxError>,
{
    #[inline]
    fn take(&mut self, record: T) -> Result<()> {
        (self.0)(record).map_err(Error::user)
    }
}

impl<T: Data, C: TakeRecord<T>> Sink<T> for FnSink<C> {
    type Committable = ();
    type Writer = FnWriter<C>;

    fn describe(&self) -> String {
        "function".to_string()
    }
    fn writer(&self, _ctx: &SinkContext) -> Result<FnWriter<C>> {
        Ok(FnWriter { call: self.call.lock().unwrap_or_else(|e| e.into_inner()).clone() })
    }
}

/// Calls the closure of one subtask.
pub struct FnWriter<C> {
    call: C,
}

impl<T: Data, C: TakeRecord<T>> SinkWriter<T> for FnWriter<C> {
    type Committable = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let written = batch.values.drain(..).try_for_each(|record| self.call.take(record));
        batch.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sink::testing::context;
    use std::sync::Arc;

    #[test]
    fn every_writer_has_a_fresh_clone() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let mut index = 0;
        let sink = FnSink::new(move |word: String| {
            into.lock().unwrap().push((index, word));
            index += 1;
        });
        for word in ["a", "b"] {
            let mut batch = Batch::from(vec![word.to_string(), word.to_uppercase()]);
            sink.writer(&context()).unwrap().write(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        let expected = [(0, "a"), (1, "A"), (0, "b"), (1, "B")].map(|(i, w)| (i, w.to_string()));
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn an_error_of_the_closure_is_an_error_of_user_code() {
        let sink = FnSink::fallible(|n: i32| if n < 2 { Ok(()) } else { Err(format!("{n} is too large")) });
        let mut batch = Batch::from(vec![1, 2, 3]);
        let error = sink.writer(&context()).unwrap().write(&mut batch).unwrap_err();
        assert_eq!(error.to_string(), "user code failed: 2 is too large");
        assert!(batch.is_empty());
    }
}
