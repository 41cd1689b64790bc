//! Where the records of an example go, and what its process ends with.

use mainstem::connectors::sink::RollingPolicy;
use mainstem::prelude::*;
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The options for the result, to flatten into an example's own.
#[derive(clap::Args)]
pub struct Output {
    /// Directory for the result, as CSV; it must be absent or empty. Without it records are printed
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace what an earlier run has left in the output directory
    #[arg(long, requires = "output")]
    overwrite: bool,
}

impl Output {
    /// Ends `stream` in files or on the standard output.
    pub fn sink<T: Data + Debug>(self, stream: &DataStream<T>) {
        match self.output {
            // With checkpoints, so that rows can be seen while the job runs.
            Some(dir) => {
                let soon = RollingPolicy::default().rollover(Duration::from_millis(200));
                stream.sink_to(CsvSink::csv(dir).overwrite(self.overwrite).rolling(soon))
            }
            None => stream.sink_to(PrintSink::new()),
        };
    }
}

/// Prints the report of a job, or why there is none.
pub fn report(result: mainstem::Result<JobResult>) -> ExitCode {
    match result {
        Ok(result) => {
            // A reader that has seen enough is no failure.
            let _ = writeln!(std::io::stdout(), "\n{result}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
