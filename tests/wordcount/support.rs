//! What the tests of the word count share: the example as a child process, its inputs and its output.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A child that runs longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(2);

pub type Counts = BTreeMap<String, u64>;

/// A directory with the inputs of one test, its output and its temporary files.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("tmp")).unwrap();
        place
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
    /// Everything in the directory, hidden names included, by name.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
    /// The example with its temporary files here, not yet started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(example());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MAINSTEM_"))
        {
            command.env_remove(name);
        }
        // As a variable, so that a test can give the option.
        command
            .env("MAINSTEM_TEMP_DIR", self.path("tmp"))
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.0.path());
        command
    }
    /// Runs the example with these words as arguments, paths relative to this place.
    pub fn run(&self, arguments: &str) -> Finished {
        Running::start(self.command().args(arguments.split_whitespace())).wait()
    }
    /// Runs it and expects success.
    pub fn succeeds(&self, arguments: &str) -> Finished {
        let finished = self.run(arguments);
        assert!(finished.status.success(), "{arguments}: {finished:?}");
        assert_eq!(self.names("tmp"), [""; 0], "{arguments}: temporary files are left");
        finished
    }
    /// Runs it and expects it to fail with one sentence, and to leave nothing but what was there before.
    pub fn fails(&self, arguments: &str) -> String {
        let before = self.names(".");
        let finished = self.run(arguments);
        assert!(!finished.status.success(), "{arguments}: {finished:?}");
        assert_eq!(self.names("."), before, "{arguments}: {finished:?}");
        assert_eq!(self.names("tmp"), [""; 0], "{arguments}: temporary files are left");
        finished.sentence()
    }
    /// The rows of the part files in `out`, in the order of the files.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = Vec::new();
        for name in self.names("out") {
            assert!(name.starts_with("part-") && name.ends_with(".csv"), "{name}");
            let path = self.path("out").join(name);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
            for record in reader.records() {
                let record = record.unwrap();
                assert_eq!(record.len(), 2, "{record:?}");
                rows.push((record[0].to_string(), record[1].parse().unwrap()));
            }
        }
        rows
    }
    /// Every file of `out` with its bytes.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let bytes = |name: &String| std::fs::read(self.path("out").join(name)).unwrap();
        self.names("out").into_iter().map(|name| (name.clone(), bytes(&name))).collect()
    }
}

/// The example was built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples/wordcount");
    assert!(
        example.exists(),
        "{} is missing: cargo test builds it, or cargo build --profile test --example wordcount",
        example.display()
    );
    example
}

/// A started child. Killed if it is dropped before its end.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    started: Instant,
}

/// What a child left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        from.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    })
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Running { child, stdout, stderr, started: Instant::now() }
    }
    pub fn id(&self) -> u32 {
        self.child.id()
    }
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its own.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }
    /// Looks until `seen`, which must come before the child ends.
    pub fn until(&mut self, what: &str, mut seen: impl FnMut(&Running) -> bool) {
        while !seen(self) {
            assert!(self.child.try_wait().unwrap().is_none(), "the child ended before {what}");
            assert!(self.started.elapsed() < TIME_LIMIT, "no {what} within {TIME_LIMIT:?}");
            std::thread::sleep(LOOK);
        }
    }
    pub fn wait(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(self.started.elapsed() < TIME_LIMIT, "the child hangs");
            std::thread::sleep(LOOK);
        };
        let text = |reader: &mut Option<JoinHandle<String>>| reader.take().unwrap().join().unwrap();
        Finished { status, stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// The one line of an error.
    pub fn sentence(&self) -> String {
        let sentence = self.stderr.trim_end();
        assert!(sentence.starts_with("error: ") && !sentence.contains('\n'), "not one sentence: {self:?}");
        assert!(!sentence.contains("panicked") && !sentence.contains("internal error"), "{sentence}");
        assert_eq!(self.stdout, "", "{sentence}");
        sentence["error: ".len()..].to_string()
    }
    /// The cells of a column of the table of stages.
    pub fn column(&self, heading: &str) -> Vec<String> {
        let cells = |line: &str| -> Vec<String> {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_string).collect()
        };
        let mut lines =
            self.stdout.lines().map(cells).skip_while(|cells| !cells.iter().any(|cell| cell == heading));
        let head = lines.next().unwrap_or_else(|| panic!("no column '{heading}' in {}", self.stdout));
        let at = head.iter().position(|cell| cell == heading).unwrap();
        lines.take_while(|cells| cells.len() == head.len()).map(|cells| cells[at].clone()).collect()
    }
}

/// The counts by the plainest means.
pub fn counted(text: &str) -> Counts {
    let mut counts = Counts::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_string()).or_default() += 1;
    }
    counts
}

pub fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(text: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(text.as_ref(), 1).unwrap()
}

/// `words` words of a vocabulary, the same each time, in lines of ten.
pub fn text(words: u64, vocabulary: u64) -> String {
    let mut text = String::new();
    for i in 0..words {
        // A prime factor visits the vocabulary in a scattered order, all of it before any word comes again.
        text.push_str(&format!("word-{}", i * 1_000_003 % vocabulary));
        text.push(if i % 10 == 9 { '\n' } else { ' ' });
    }
    text
}
