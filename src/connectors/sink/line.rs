//! Line: records as lines of text, for the sinks that write some.

use crate::base::error::{Error, Result};
use std::fmt;

/// Where a formatter writes the line of one record; `write!` works on it after `use std::fmt::Write`.
pub struct Line<'a>(&'a mut Vec<u8>);

impl fmt::Write for Line<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Turns a record into text. A line break in the text is written as it is.
pub trait LineFormat<T>: Clone + Send + Sync + 'static {
    /// Writes the text of `record`, without a line break at the end.
    fn format(&self, record: &T, line: &mut Line<'_>) -> fmt::Result;
}

/// A record as its `Display` shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DisplayLine;

/// A record as its `Debug` shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugLine;

/// A record as a closure writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineWith<F>(pub(super) F);

impl<T: fmt::Display> LineFormat<T> for DisplayLine {
    #[inline]
    fn format(&self, record: &T, line: &mut Line<'_>) -> fmt::Result {
        fmt::Write::write_fmt(line, format_args!("{record}"))
    }
}

impl<T: fmt::Debug> LineFormat<T> for DebugLine {
    #[inline]
    fn format(&self, record: &T, line: &mut Line<'_>) -> fmt::Result {
        fmt::Write::write_fmt(line, format_args!("{record:?}"))
    }
}

impl<T, F> LineFormat<T> for LineWith<F>
where
    F: Fn(&T, &mut Line<'_>) -> fmt::Result + Clone + Send + Sync + 'static,
{
    #[inline]
    fn format(&self, record: &T, line: &mut Line<'_>) -> fmt::Result {
        (self.0)(record, line)
    }
}

/// Appends each record with a prefix and a line break.
#[inline]
pub(super) fn append_lines<T, L: LineFormat<T>>(
    format: &L,
    prefix: &str,
    records: &[T],
    out: &mut Vec<u8>,
) -> Result<()> {
    for record in records {
        out.extend_from_slice(prefix.as_bytes());
        if format.format(record, &mut Line(out)).is_err() {
            return Err(Error::user(format!(
                "the formatter of a record of type {} returned an error",
                std::any::type_name::<T>()
            )));
        }
        out.push(b'\n');
    }
    Ok(())
}
