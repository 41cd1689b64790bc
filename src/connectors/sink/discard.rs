//! DiscardSink: drops records and counts them, to measure what is before it.

use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::base::metrics::Counter;

/// Drops all records; the counter `records_discarded` tells how many, with those that are repeated after a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardSink;

impl<T: Data> Sink<T> for DiscardSink {
    type Committable = ();
    type Writer = DiscardWriter;

    fn describe(&self) -> String {
        "discard".to_string()
    }
    fn writer(&self, ctx: &SinkContext) -> Result<DiscardWriter> {
        Ok(DiscardWriter { discarded: ctx.counters.counter("records_discarded") })
    }
}

/// Drops the records of one subtask.
pub struct DiscardWriter {
    discarded: Counter,
}

impl<T: Data> SinkWriter<T> for DiscardWriter {
    type Committable = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.discarded.add(batch.len() as u64);
        batch.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sink::testing::context;

    #[test]
    fn all_subtasks_count_together() {
        let ctx = context();
        for n in [3, 0, 4] {
            let mut writer = Sink::<i32>::writer(&DiscardSink, &ctx).unwrap();
            let mut batch = Batch::from(vec![7; n]);
            writer.write(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        assert_eq!(ctx.counters.values(), [("records_discarded".to_string(), 7)]);
    }
}
