//! Counts the words of text files.
//!
//! ```text
//! cargo run --release --example wordcount -- --input PATH... --output DIR [--execution-mode batch]
//! ```
//!
//! A word is a maximal run of characters that are not Unicode white space, compared exactly. BATCH writes a CSV row
//! `word,count` for each word; STREAMING writes each running count.

use clap::Parser;
use mainstem::executors::job::Cancellation;
use mainstem::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts the words of text files.
#[derive(Parser)]
#[command(name = "wordcount")]
struct Args {
    /// Files, directories or patterns to read; .gz, .zst and .deflate are decompressed.
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Directory for the result; it must be absent or empty.
    #[arg(long, required_unless_present_any = ["discard", "mainstem-explain"], conflicts_with = "discard")]
    output: Option<PathBuf>,
    /// Replace what an earlier run has left in the output directory.
    #[arg(long)]
    overwrite: bool,
    /// Count the results instead of writing them.
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let counts = env
        .read(TextSource::new(args.input))
        .name("lines")
        .flat_map(|line, out| words(&line).for_each(|word| out.emit(KeyString::from(word))))
        .name("words")
        .key_by(|word| word.clone())
        .count()
        .name("counts")
        .uid("counts");
    match args.output {
        Some(dir) if !args.discard => counts.sink_to(CsvSink::csv(dir).overwrite(args.overwrite)),
        _ => counts.sink_to(DiscardSink),
    };
    // Before the job has traces that a Ctrl-C would leave behind.
    let interrupt = Interrupt::install();
    let job = env.execute_async("word count")?;
    interrupt.cancels(job.cancellation());
    job.result()
}

/// Ctrl-C: the first one cancels the job, the second ends the process at once.
#[derive(Clone, Default)]
struct Interrupt(Arc<Mutex<(bool, Option<Cancellation>)>>);

impl Interrupt {
    fn install() -> Interrupt {
        let interrupt = Interrupt::default();
        let on_signal = interrupt.clone();
        // Without a handler, Ctrl-C ends the process: worth no error.
        let _ = ctrlc::set_handler(move || on_signal.asked());
        interrupt
    }
    fn asked(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.0, true) {
            std::process::exit(130);
        }
        state.1.iter().for_each(Cancellation::cancel);
    }
    fn cancels(&self, job: Cancellation) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            job.cancel();
        }
        state.1 = Some(job);
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(mainstem::Error::Cancelled) => {
            eprintln!("cancelled");
            ExitCode::from(130)
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
