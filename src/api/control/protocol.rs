//! Protocol: what is asked of a job, what it answers, and how lines are read that anybody may have written.

use crate::api::report::JobReport;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, ErrorKind, Write};
use std::path::PathBuf;

/// The longest line that is read. A report of a thousand operators is shorter.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// The longest line that a job reads: no request is longer than its paths.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What is asked of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How far it is: answered with a [`JobReport`].
    Status {},
    /// To write a savepoint, and to go on. The answer comes when it is complete.
    Savepoint {
        /// The directory that it becomes; not there yet, with a full path.
        path: PathBuf,
    },
    /// To end with all output committed. The answer comes when it has.
    Stop {
        /// The directory of a savepoint to stop with.
        #[serde(default)]
        savepoint: Option<PathBuf>,
        /// As if the input had ended: windows and timers fire.
        #[serde(default)]
        drain: bool,
    },
    /// To end at once. The answer comes when it has.
    Cancel {},
}

/// What a job answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// How far it is.
    Status(Box<JobReport>),
    /// A savepoint is complete.
    Savepoint {
        /// Where.
        path: PathBuf,
    },
    /// The job has ended.
    Ended(Box<JobReport>),
    /// It cannot be done, or has failed: a sentence that says why.
    Error(String),
}

/// Reads a line without its end; none at the end of the stream.
///
/// # Errors
/// A line longer than `max` ([`ErrorKind::InvalidData`]), one without an end, or what the stream says.
pub fn read_line(from: &mut impl BufRead, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = match from.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            filled => filled?,
        };
        if buffer.is_empty() {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(io::Error::new(ErrorKind::UnexpectedEof, "the line has no end")),
            };
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        if line.len() + taken > max {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a line is longer than {max} bytes")));
        }
        line.extend_from_slice(&buffer[..taken]);
        from.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Writes a line.
///
/// # Errors
/// What the stream says.
pub fn write_line(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor};

    fn lines(text: &[u8], max: usize) -> Vec<Result<String, ErrorKind>> {
        // A small buffer, so that lines come in pieces.
        let mut from = BufReader::with_capacity(3, Cursor::new(text));
        let mut all = Vec::new();
        loop {
            match read_line(&mut from, max) {
                Ok(Some(line)) => all.push(Ok(String::from_utf8(line).unwrap())),
                Ok(None) => return all,
                Err(e) => {
                    all.push(Err(e.kind()));
                    return all;
                }
            }
        }
    }

    #[test]
    fn lines_are_bounded_and_have_ends() {
        let ok = |line: &str| Ok(line.to_string());
        assert_eq!(lines(b"one\n\nthree!\n", 6), [ok("one"), ok(""), ok("three!")]);
        assert_eq!(lines(b"one\nseven!!\n", 6), [ok("one"), Err(ErrorKind::InvalidData)]);
        assert_eq!(lines(b"one\ntwo", 6), [ok("one"), Err(ErrorKind::UnexpectedEof)]);
        assert_eq!(lines(b"", 6), []);
    }

    #[test]
    fn requests_are_what_they_look_like() {
        let parse = |line: &str| serde_json::from_str::<Request>(line).map_err(|e| e.to_string());
        assert_eq!(parse(r#"{"command":"status"}"#), Ok(Request::Status {}));
        assert_eq!(
            parse(r#"{"command":"stop","drain":true}"#),
            Ok(Request::Stop { savepoint: None, drain: true })
        );
        for wrong in
            [r#"{"command":"explode"}"#, r#"{"command":"status","now":1}"#, "{}", "[]", "7", "\u{0}", ""]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
