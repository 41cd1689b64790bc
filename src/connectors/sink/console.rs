//! PrintSink: one line per record on the standard output, for looking at a stream.
//!
//! Invariants: the lines of a batch go out together, so that subtasks never mix within a line.

use super::line::{DebugLine, DisplayLine, Line, LineFormat, LineWith, append_lines};
use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

/// Takes the lines of a batch.
type Output = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Prints records. With more than one subtask every line starts with the number of its subtask, from 1: `2> value`.
///
/// Records are printed at once, so those behind the last checkpoint are printed again after a failure: each at least once.
pub struct PrintSink<L = DebugLine> {
    format: L,
    output: Output,
}

impl PrintSink {
    /// Prints records as their `Debug` shows them.
    pub fn new() -> Self {
        PrintSink::of(DebugLine)
    }
}

impl Default for PrintSink {
    fn default() -> Self {
        PrintSink::new()
    }
}

impl PrintSink<DisplayLine> {
    /// Prints records as their `Display` shows them.
    pub fn display() -> Self {
        PrintSink::of(DisplayLine)
    }
}

impl<F> PrintSink<LineWith<F>> {
    /// Prints records as `format` writes them.
    pub fn with<T>(format: F) -> Self
    where
        F: Fn(&T, &mut Line<'_>) -> fmt::Result + Clone + Send + Sync + 'static,
    {
        PrintSink::of(LineWith(format))
    }
}

impl<L> PrintSink<L> {
    fn of(format: L) -> Self {
        PrintSink { format, output: Arc::new(to_stdout) }
    }
}

fn to_stdout(lines: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()
}

impl<T: Data, L: LineFormat<T>> Sink<T> for PrintSink<L> {
    type Committable = ();
    type Writer = PrintWriter<L>;

    fn describe(&self) -> String {
        "print".to_string()
    }
    fn writer(&self, ctx: &SinkContext) -> Result<PrintWriter<L>> {
        let prefix = if ctx.parallelism > 1 { format!("{}> ", ctx.subtask + 1) } else { String::new() };
        let (format, output) = (self.format.clone(), self.output.clone());
        Ok(PrintWriter { format, output, prefix, lines: Vec::new() })
    }
}

/// Prints the records of one subtask.
pub struct PrintWriter<L> {
    format: L,
    output: Output,
    prefix: String,
    lines: Vec<u8>,
}

impl<T: Data, L: LineFormat<T>> SinkWriter<T> for PrintWriter<L> {
    type Committable = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.lines.clear();
        append_lines(&self.format, &self.prefix, &batch.values, &mut self.lines)?;
        batch.clear();
        (self.output)(&self.lines).map_err(|e| Error::io("write", "standard output", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sink::testing::context;
    use std::sync::Mutex;

    /// What a sink prints for the batches, each given to the subtask of its index.
    fn printed<T: Data, L: LineFormat<T>>(mut sink: PrintSink<L>, batches: Vec<Vec<T>>) -> String {
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = all.clone();
        sink.output = Arc::new(move |lines| {
            into.lock().unwrap().extend_from_slice(lines);
            Ok(())
        });
        let parallelism = batches.len();
        for (subtask, batch) in batches.into_iter().enumerate() {
            let ctx = SinkContext { subtask, parallelism, ..context() };
            let mut batch = Batch::from(batch);
            sink.writer(&ctx).unwrap().write(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        let bytes = all.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn one_subtask_prints_without_a_prefix() {
        assert_eq!(printed(PrintSink::new(), vec![vec!["a".to_string(), "b\n".into()]]), "\"a\"\n\"b\\n\"\n");
        assert_eq!(printed(PrintSink::display(), vec![vec!["a".to_string()]]), "a\n");
    }

    /// A15: the lines of several subtasks carry its number, from 1.
    #[test]
    fn several_subtasks_print_their_number() {
        let sink = PrintSink::with(|n: &i32, line| write!(line, "<{n}>"));
        use std::fmt::Write;
        assert_eq!(printed(sink, vec![vec![1, 2], vec![], vec![3]]), "1> <1>\n1> <2>\n3> <3>\n");
    }

    #[test]
    fn a_reader_that_went_away_is_an_error_and_no_panic() {
        let mut sink = PrintSink::new();
        sink.output = Arc::new(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let mut writer = Sink::<i32>::writer(&sink, &context()).unwrap();
        let error = writer.write(&mut vec![1].into()).unwrap_err();
        assert!(error.to_string().contains("write 'standard output'"), "{error}");
    }

    #[test]
    fn a_formatter_that_fails_is_an_error_of_user_code() {
        let sink = PrintSink::with(|_: &i32, _| Err(fmt::Error));
        let mut writer = Sink::<i32>::writer(&sink, &context()).unwrap();
        let error = writer.write(&mut vec![1].into()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::User);
    }
}
