//! Total: what the engine's side of all benches shares: the environment, and a sink that adds records up.

use mainstem::base::batch::Batch;
use mainstem::connectors::sink::{CommitPoint, Sink, SinkContext, SinkWriter};
use mainstem::prelude::*;
use std::sync::{Arc, Mutex};

/// Threads of every program of the bench.
const THREADS: usize = 2;

/// Two threads, in this mode.
pub fn environment(mode: ExecutionMode) -> Environment {
    Environment::new().execution_mode(mode).parallelism(THREADS)
}

/// A sink that adds records up instead of keeping them.
pub struct TotalSink<S, F> {
    totals: Arc<Mutex<Vec<S>>>,
    add: F,
}

impl<S, F> TotalSink<S, F> {
    /// The sink, and where the totals of its subtasks go.
    pub fn new(add: F) -> (TotalSink<S, F>, Arc<Mutex<Vec<S>>>) {
        let totals = Arc::new(Mutex::new(Vec::new()));
        (TotalSink { totals: totals.clone(), add }, totals)
    }
}

/// Writes for one subtask.
pub struct TotalWriter<S, F> {
    total: S,
    all: Arc<Mutex<Vec<S>>>,
    add: F,
}

impl<T, S, F> Sink<T> for TotalSink<S, F>
where
    S: Default + Send + 'static,
    F: Fn(&mut S, T) + Clone + Send + Sync + 'static,
{
    type Committable = ();
    type Writer = TotalWriter<S, F>;
    fn describe(&self) -> String {
        "total".into()
    }
    fn writer(&self, _ctx: &SinkContext) -> mainstem::Result<Self::Writer> {
        Ok(TotalWriter { total: S::default(), all: self.totals.clone(), add: self.add.clone() })
    }
}

impl<T, S, F> SinkWriter<T> for TotalWriter<S, F>
where
    S: Default + Send,
    F: Fn(&mut S, T) + Send,
{
    type Committable = ();
    fn write(&mut self, batch: &mut Batch<T>) -> mainstem::Result<()> {
        let total = &mut self.total;
        batch.values.drain(..).for_each(|record| (self.add)(total, record));
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, _at: CommitPoint) -> mainstem::Result<Vec<()>> {
        self.all.lock().expect("no writer panics").push(std::mem::take(&mut self.total));
        Ok(Vec::new())
    }
}

/// The totals of all subtasks together.
pub fn sums<const N: usize>(totals: &Mutex<Vec<[u64; N]>>) -> [u64; N]
where
    [u64; N]: Default,
{
    let mut sum = <[u64; N]>::default();
    for total in totals.lock().expect("no writer panics").iter() {
        sum.iter_mut().zip(total).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
    }
    sum
}
