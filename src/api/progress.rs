//! Progress: one line on stderr that says how far a job is.
//!
//! Place: the thread that waits for the job calls [`ProgressLine::update`] as often as it likes; no thread of its
//! own, no clock of its own.
//! Method: 1. decide whether a line is due, from the time in the snapshot; 2. format it, a pure function; 3. draw it
//! in place on a terminal, or write it as a line of its own elsewhere.
//! Costs: an update that is not due is a comparison.

use crate::base::config::Progress;
use crate::base::data::{WATERMARK_MAX, WATERMARK_MIN};
use crate::base::text;
pub use crate::executors::report::{ProgressPhase, ProgressSnapshot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;
use std::time::Duration;

/// The least time between two drawings on a terminal: often enough to look alive.
const DRAW_INTERVAL: Duration = Duration::from_millis(150);
/// The least time between two lines in a file or pipe, which keeps them all.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a job lasts before [`Progress::Auto`] shows anything.
const AUTO_DELAY: Duration = Duration::from_secs(1);

/// The progress line of one job.
pub struct ProgressLine {
    output: Output,
    delay: Duration,
    interval: Duration,
    /// Time and records of the last snapshot that was shown.
    shown: Option<(Duration, u64)>,
}

enum Output {
    Nowhere,
    Terminal(ProgressBar),
    Lines(Box<dyn Write + Send>),
}

impl ProgressLine {
    /// A line on stderr. `is_terminal` says whether stderr is a terminal; `Always` writes separate lines, at most
    /// one in five seconds, if it is not.
    pub fn new(progress: Progress, is_terminal: bool) -> ProgressLine {
        let output = match (progress, is_terminal) {
            (Progress::Never, _) | (Progress::Auto, false) => Output::Nowhere,
            (Progress::Auto | Progress::Always, true) => Output::Terminal(bar()),
            (Progress::Always, false) => Output::Lines(Box::new(std::io::stderr())),
        };
        let delay = if progress == Progress::Auto { AUTO_DELAY } else { Duration::ZERO };
        ProgressLine::on(output, delay)
    }

    fn on(output: Output, delay: Duration) -> ProgressLine {
        let interval = if let Output::Lines(_) = output { WRITE_INTERVAL } else { DRAW_INTERVAL };
        ProgressLine { output, delay, interval, shown: None }
    }

    /// Whether [`ProgressLine::update`] would show anything at this time; asked before a snapshot is taken.
    pub fn is_due(&self, elapsed: Duration) -> bool {
        let next = self.shown.map_or(self.delay, |(last, _)| last.saturating_add(self.interval));
        !matches!(self.output, Output::Nowhere) && elapsed >= next
    }

    /// Shows the snapshot if a line is due. A stderr that cannot be written to ends the progress, not the job.
    pub fn update(&mut self, snapshot: &ProgressSnapshot) {
        if !self.is_due(snapshot.elapsed) {
            return;
        }
        let line = format_line(snapshot, self.shown);
        self.shown = Some((snapshot.elapsed, snapshot.records));
        match &mut self.output {
            Output::Nowhere => {}
            Output::Terminal(bar) => bar.set_message(line),
            Output::Lines(to) => {
                // In one piece, so that lines of other threads do not come in between.
                if to.write_all(format!("{line}\n").as_bytes()).is_err() {
                    self.output = Output::Nowhere;
                }
            }
        }
    }

    /// Takes the line off the terminal; nothing is shown afterwards. Dropping does the same.
    pub fn finish(&mut self) {
        if let Output::Terminal(bar) = &self.output {
            bar.finish_and_clear();
        }
        self.output = Output::Nowhere;
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // Cut to the width of the terminal: a line that wraps cannot be drawn over.
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar
}

/// The text of a line. `before` is the time and the number of records of the line before it: the rate is that
/// since then, or since the start.
pub fn format_line(now: &ProgressSnapshot, before: Option<(Duration, u64)>) -> String {
    let (since, records) = before.unwrap_or((Duration::ZERO, 0));
    let seconds = now.elapsed.saturating_sub(since).as_secs_f64();
    let rate = if seconds > 0.0 { (now.records.saturating_sub(records) as f64 / seconds) as u64 } else { 0 };
    let read = format!("{} records, {}/s", text::count(now.records), text::count(rate));
    // Whole seconds: digits below would only flicker.
    let elapsed = match now.elapsed.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s => text::duration(Duration::from_secs(s)),
    };
    match &now.phase {
        ProgressPhase::Batch { stages_done, stages_total, units_done, units_total, running } => {
            let running = match running.is_empty() {
                true => String::new(),
                false => format!(", {running}: {units_done}/{units_total} units"),
            };
            format!("[{elapsed}] stages {stages_done}/{stages_total}{running}, {read}")
        }
        ProgressPhase::Streaming { watermark } => {
            let watermark = match *watermark {
                WATERMARK_MIN => "none yet".to_string(),
                WATERMARK_MAX => "end of input".to_string(),
                at => text::utc(at),
            };
            format!("[{elapsed}] {read}, watermark {watermark}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::Timestamp;
    use std::sync::{Arc, Mutex};

    fn streaming(ms: u64, records: u64, watermark: Timestamp) -> ProgressSnapshot {
        let phase = ProgressPhase::Streaming { watermark };
        ProgressSnapshot { elapsed: Duration::from_millis(ms), records, phase }
    }

    #[test]
    fn a_streaming_line_has_rate_and_watermark() {
        let now = streaming(4_500, 1_500_000, 1_706_704_496_789);
        assert_eq!(
            format_line(&now, Some((Duration::from_millis(4_000), 1_000_000))),
            "[4s] 1,500,000 records, 1,000,000/s, watermark 2024-01-31T12:34:56Z"
        );
        assert_eq!(
            format_line(&streaming(125_000, 250, WATERMARK_MIN), None),
            "[2m 05s] 250 records, 2/s, watermark none yet"
        );
        assert_eq!(
            format_line(&streaming(0, 9, WATERMARK_MAX), None),
            "[0s] 9 records, 0/s, watermark end of input"
        );
    }

    #[test]
    fn a_batch_line_has_stages_and_units() {
        let mut now = ProgressSnapshot {
            elapsed: Duration::from_secs(10),
            records: 2_000,
            phase: ProgressPhase::Batch {
                stages_done: 1,
                stages_total: 3,
                units_done: 5,
                units_total: 8,
                running: "count".into(),
            },
        };
        assert_eq!(format_line(&now, None), "[10s] stages 1/3, count: 5/8 units, 2,000 records, 200/s");
        if let ProgressPhase::Batch { running, .. } = &mut now.phase {
            running.clear();
        }
        assert_eq!(format_line(&now, None), "[10s] stages 1/3, 2,000 records, 200/s");
    }

    #[test]
    fn numbers_and_times_that_go_back_are_no_rate() {
        let line = format_line(&streaming(1_000, 5, 0), Some((Duration::from_secs(2), 50)));
        assert_eq!(line, "[1s] 5 records, 0/s, watermark 1970-01-01T00:00:00Z");
    }

    #[test]
    fn where_and_when_a_line_is_shown() {
        let ms = Duration::from_millis;
        for (progress, is_terminal, first) in [
            (Progress::Never, true, None),
            (Progress::Never, false, None),
            (Progress::Auto, false, None),
            (Progress::Auto, true, Some(1_000)),
            (Progress::Always, true, Some(0)),
            (Progress::Always, false, Some(0)),
        ] {
            let line = ProgressLine::new(progress, is_terminal);
            let due = (0..=10_000).find(|&t| line.is_due(ms(t)));
            assert_eq!(due, first, "{progress} {is_terminal}");
        }
    }

    #[test]
    fn a_terminal_is_redrawn_at_most_every_150_ms() {
        let bar = ProgressBar::hidden();
        let mut line = ProgressLine::on(Output::Terminal(bar.clone()), AUTO_DELAY);
        let mut drawn = Vec::new();
        for t in (0..2_000).step_by(10) {
            let before = bar.message();
            line.update(&streaming(t, t, 0));
            if bar.message() != before {
                drawn.push(t);
            }
        }
        assert_eq!(drawn, [1_000, 1_150, 1_300, 1_450, 1_600, 1_750, 1_900]);
        line.finish();
        assert!(bar.is_finished() && !line.is_due(Duration::MAX));
    }

    struct Shared(Arc<Mutex<Vec<u8>>>, usize);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut written = self.0.lock().unwrap();
            if written.len() >= self.1 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn elsewhere_lines_come_every_five_seconds_until_writing_fails() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = Output::Lines(Box::new(Shared(Arc::clone(&written), 60)));
        let mut line = ProgressLine::on(output, Duration::ZERO);
        for t in (0..30_000).step_by(100) {
            line.update(&streaming(t, t, WATERMARK_MIN));
        }
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "[0s] 0 records, 0/s, watermark none yet\n[5s] 5,000 records, 1,000/s, watermark none yet\n"
        );
        assert!(!line.is_due(Duration::MAX));
    }
}
