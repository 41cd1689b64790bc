//! Counts the words of text files.
//!
//! ```text
//! cargo run --release --example wordcount -- --input PATH... --output DIR [--execution-mode batch]
//! ```
//!
//! A word is a maximal run of characters that are not Unicode white space, compared exactly. BATCH writes a CSV row
//! `word,count` for each word; STREAMING writes each running count.

use clap::Parser;
use mainstem::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts the words of text files.
#[derive(Parser)]
struct Args {
    /// Files, directories or patterns to read; .gz and .zst are decompressed.
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Directory for the result; it must be absent or empty.
    #[arg(long, required_unless_present_any = ["discard", "explain"], conflicts_with = "discard")]
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
        .flat_map(|line, out| words(&line).for_each(|word| out.emit(CompactString::from(word))))
        .name("words")
        .key_by(|word| word.clone())
        .count()
        .name("counts")
        .uid("counts");
    match args.output {
        Some(dir) if !args.discard => counts.sink_to(CsvSink::csv(dir).overwrite(args.overwrite)),
        _ => counts.sink_to(DiscardSink),
    };
    let job = env.execute_async("word count")?;
    let cancel = job.cancellation();
    // A second Ctrl-C ends the process at once, as without a handler.
    let _ = ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.cancel();
    });
    job.result()
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
