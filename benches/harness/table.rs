//! Table: what a bench prints, as Markdown, so that it can go into a README as it is.
//!
//! Method: a first table with one line per workload and its figure beside what is wanted; a second one with
//! one line per program. Numbers are medians; the smallest and the largest stand in brackets.

use std::fmt::Write;

use super::options::Options;
use super::rounds::{Row, Runs};
use super::{Mode, Unit, Wanted, Workload};

const MIB: u64 = 1 << 20;
/// Memory that may come and go within a run that counts as flat.
const FLAT_BYTES: i64 = 2 * MIB as i64;

/// The text of both tables under a line about machine and method.
pub fn render(options: &Options, rows: &[Row], left_out: &[String]) -> String {
    let mut text = header(options);
    text += "\n| workload | mode | engine, s | bound, s | measured | wanted | met | allocator |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let workload = row.workload;
        let (measured, met) = judge(row, options.divisor);
        let text_of =
            |runs: &Option<Runs>| runs.as_ref().map_or("-".to_string(), |runs| seconds_text(&seconds(runs)));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {measured} | {} | {met} | {} |",
            workload.title,
            mode(workload.mode),
            text_of(&row.engine),
            text_of(&row.bound),
            wanted(workload),
            workload.allocator.name()
        );
    }
    text += "\n| workload | mode | program | seconds | rate | CPU, s | peak MiB |\n|---|---|---|---|---|---|---|\n";
    for row in rows {
        for runs in row.engine.iter().chain(&row.bound).chain(&row.others) {
            let cpu: Vec<f64> = runs.runs.iter().map(|run| run.cpu.as_secs_f64()).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} | {} |",
                row.workload.id,
                mode(row.workload.mode),
                runs.name,
                seconds_text(&seconds(runs)),
                rate(row.workload, runs, options.divisor),
                median(&cpu),
                peak_bytes(runs) / MIB
            );
        }
    }
    if !left_out.is_empty() {
        let _ = writeln!(text, "\nNot installed in PEERS_DIR, or left out: {}.", left_out.join(", "));
    }
    text
}

fn header(options: &Options) -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_string());
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let size = match options.divisor {
        1 => String::new(),
        part => format!("1/{part} of the data, "),
    };
    format!(
        "{cpu}, {threads} hardware threads, {} GiB; {size}{} runs each in turns. \
         Medians, (smallest-largest).\n",
        memory_kib >> 20,
        options.runs
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Streaming => "streaming",
        Mode::Batch => "batch",
    }
}

fn wanted(workload: &Workload) -> String {
    match workload.wanted {
        Wanted::OfBound(share) => format!("{share} of the bound"),
        Wanted::OfBoundWithin { share, peak_mib } => format!("{share} of the bound, {peak_mib} MiB at most"),
        Wanted::RatioWithin(limit) => format!("{limit} at most"),
        Wanted::RateWithin { per_second, peak_mib } => {
            format!("{}, {peak_mib} MiB at most", rate_text(workload.unit, per_second))
        }
        Wanted::Rate { per_second } => rate_text(workload.unit, per_second),
        Wanted::ReportedWithin(limit) => format!("{} ms at most", limit.as_millis()),
        Wanted::PeakWithin { peak_mib } => format!("{peak_mib} MiB at most"),
        Wanted::WallWithin(limit) => format!("{} ms at most", limit.as_millis()),
        Wanted::Flat { peak_mib } => format!("flat, {peak_mib} MiB at most"),
    }
}

/// What was measured, and whether it is what is wanted.
fn judge(row: &Row, divisor: u64) -> (String, &'static str) {
    let Some(engine) = &row.engine else { return ("-".to_string(), "-") };
    let peak = peak_bytes(engine);
    let (measured, met) = match row.workload.wanted {
        Wanted::OfBound(share) | Wanted::OfBoundWithin { share, .. } => {
            let Some(bound) = &row.bound else { return ("-".to_string(), "-") };
            let ratios: Vec<f64> =
                seconds(bound).iter().zip(seconds(engine)).map(|(bound, engine)| bound / engine).collect();
            let memory = peak_wanted(row.workload).map(|_| format!(", {} MiB", peak / MIB));
            (spread(&ratios, 2) + &memory.unwrap_or_default(), median(&ratios) >= share && !is_over_peak(row))
        }
        Wanted::RatioWithin(limit) => {
            let figures = seconds(engine);
            (spread(&figures, 2), median(&figures) <= limit)
        }
        Wanted::RateWithin { per_second, peak_mib } => (
            format!("{}, {} MiB", rate(row.workload, engine, divisor), peak / MIB),
            per_second_of(row.workload, engine, divisor) >= per_second && peak <= peak_mib * MIB,
        ),
        Wanted::Rate { per_second } => {
            (rate(row.workload, engine, divisor), per_second_of(row.workload, engine, divisor) >= per_second)
        }
        Wanted::ReportedWithin(limit) => {
            let reported: Vec<f64> = seconds(engine).iter().map(|seconds| seconds * 1000.0).collect();
            (format!("{} ms", spread(&reported, 1)), median(&reported) <= limit.as_secs_f64() * 1000.0)
        }
        Wanted::PeakWithin { peak_mib } => (format!("{} MiB", peak / MIB), peak <= peak_mib * MIB),
        Wanted::WallWithin(limit) => {
            let wall: Vec<f64> = engine.runs.iter().map(|run| run.wall.as_secs_f64() * 1000.0).collect();
            (format!("{} ms", spread(&wall, 1)), median(&wall) <= limit.as_secs_f64() * 1000.0)
        }
        Wanted::Flat { peak_mib } => {
            let growth = engine.runs.iter().map(|run| run.growth_bytes()).max().unwrap_or(0);
            let growth_mib = growth as f64 / MIB as f64;
            (
                format!("{growth_mib:+.1} MiB, {} MiB", peak / MIB),
                growth <= FLAT_BYTES && peak <= peak_mib * MIB,
            )
        }
    };
    (measured, if met { "yes" } else { "no" })
}

/// The peak memory that a workload may have.
fn peak_wanted(workload: &Workload) -> Option<u64> {
    match workload.wanted {
        Wanted::RateWithin { peak_mib, .. }
        | Wanted::OfBoundWithin { peak_mib, .. }
        | Wanted::PeakWithin { peak_mib } => Some(peak_mib * MIB),
        _ => None,
    }
}

fn is_over_peak(row: &Row) -> bool {
    let peak = row.engine.as_ref().map_or(0, peak_bytes);
    peak_wanted(row.workload).is_some_and(|wanted| peak > wanted)
}

/// A sentence about the workloads whose peak is above what is wanted, if there are any.
pub fn over_peak(rows: &[Row]) -> Option<String> {
    let over: Vec<&str> = rows.iter().filter(|row| is_over_peak(row)).map(|row| row.workload.id).collect();
    (!over.is_empty()).then(|| format!("more memory than wanted: {}", over.join(", ")))
}

fn seconds(runs: &Runs) -> Vec<f64> {
    runs.runs.iter().map(|run| run.seconds()).collect()
}

fn peak_bytes(runs: &Runs) -> u64 {
    runs.runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0)
}

fn per_second_of(workload: &Workload, runs: &Runs, divisor: u64) -> f64 {
    (workload.records / divisor) as f64 / median(&seconds(runs))
}

fn rate(workload: &Workload, runs: &Runs, divisor: u64) -> String {
    rate_text(workload.unit, per_second_of(workload, runs, divisor))
}

fn rate_text(unit: Unit, per_second: f64) -> String {
    match unit {
        Unit::None => "-".to_string(),
        Unit::Bytes => format!("{:.0} MB/s", per_second / 1e6),
        Unit::Events => format!("{:.1} M/s", per_second / 1e6),
    }
}

/// The median of seconds, finer below one.
fn seconds_text(numbers: &[f64]) -> String {
    spread(numbers, if median(numbers) < 1.0 { 3 } else { 2 })
}

/// The median, with the smallest and the largest if there is more than one number.
fn spread(numbers: &[f64], digits: usize) -> String {
    let smallest = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match numbers.len() {
        0 => "-".to_string(),
        1 => format!("{smallest:.digits$}"),
        _ => format!("{:.digits$} ({smallest:.digits$}-{largest:.digits$})", median(numbers)),
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
