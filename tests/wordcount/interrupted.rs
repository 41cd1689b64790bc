//! Ends that the job does not choose: Ctrl-C, kill -9, a disk that is full.

use super::support::{Place, Running, counted, text, zst};
use std::path::Path;
use std::time::{Duration, Instant};

const MODES: [&str; 2] = ["batch", "streaming"];
/// A cancelled job ends within this.
const CANCEL_MAX: Duration = Duration::from_secs(2);

/// A compressed file of a few hundred kilobytes that takes minutes to read.
fn endless(place: &Place) {
    let frame = zst("some words and some more words to be counted\n".repeat(1 << 20));
    place.write("endless.zst", frame.repeat(2_000));
}

/// A compressed file with many different words that takes minutes to read.
fn endless_vocabulary(place: &Place) {
    let frame = zst(text(200_000, 200_000));
    place.write("endless.zst", frame.repeat(100));
}

fn start(place: &Place, mode: &str, more: &[&str]) -> Running {
    let mut command = place.command();
    command.args([
        "--input",
        "endless.zst",
        "--output",
        "out",
        "--execution-mode",
        mode,
        "--parallelism",
        "2",
    ]);
    Running::start(command.args(more))
}

/// Whether the directory for the output is being prepared: the job has started.
fn is_staging(place: &Place) -> bool {
    place.names(".").iter().any(|name| name.starts_with(".out.mainstem-"))
}

/// Whether the process has a temporary file open, which has no name.
#[cfg(target_os = "linux")]
fn has_temporary_file(id: u32, dir: &Path) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|d| std::fs::read_link(d.path()).ok())
        .any(|target| target.starts_with(dir))
}

#[test]
fn ctrl_c_ends_a_job_soon_and_cleans_up() {
    let place = Place::new();
    endless(&place);
    let before = place.names(".");
    for mode in MODES {
        let mut running = start(&place, mode, &[]);
        running.until("the start of the job", |_| is_staging(&place));
        let asked = Instant::now();
        running.signal(libc::SIGINT);
        let finished = running.wait();
        let took = asked.elapsed();
        assert_eq!(finished.status.code(), Some(130), "{mode}: {finished:?}");
        assert_eq!((finished.stderr.as_str(), finished.stdout.as_str()), ("cancelled\n", ""), "{mode}");
        assert!(took < CANCEL_MAX, "{mode}: {took:?}");
        assert_eq!(place.names("."), before, "{mode}");
        assert_eq!(place.names("tmp"), [""; 0], "{mode}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_while_spilling_cleans_up() {
    let place = Place::new();
    endless_vocabulary(&place);
    let before = place.names(".");
    let mut running = start(&place, "batch", &["--memory", "8MiB"]);
    let temporary = place.path("tmp").canonicalize().unwrap();
    running.until("the first spill", |child| has_temporary_file(child.id(), &temporary));
    let asked = Instant::now();
    running.signal(libc::SIGINT);
    assert_eq!(running.wait().status.code(), Some(130));
    assert!(asked.elapsed() < CANCEL_MAX, "{:?}", asked.elapsed());
    assert_eq!((place.names("."), place.names("tmp")), (before, Vec::new()));
}

#[test]
#[cfg(target_os = "linux")]
fn kill_leaves_no_temporary_file_and_no_result() {
    let place = Place::new();
    endless_vocabulary(&place);
    place.write("in.txt", "a b a");
    let temporary = place.path("tmp").canonicalize().unwrap();
    for mode in MODES {
        for existing in [false, true] {
            if existing {
                std::fs::create_dir(place.path("out")).unwrap();
            }
            let mut running = start(&place, mode, &["--memory", "8MiB"]);
            match mode {
                "batch" => {
                    running.until("the first spill", |child| has_temporary_file(child.id(), &temporary))
                }
                _ if existing => running.until("the staging directory", |_| !place.names("out").is_empty()),
                _ => running.until("the staging directory", |_| is_staging(&place)),
            }
            running.signal(libc::SIGKILL);
            assert_eq!(running.wait().status.code(), None);
            assert_eq!(place.names("tmp"), [""; 0], "{mode}");
            let finals = if existing { place.names("out") } else { Vec::new() };
            assert!(
                existing == place.path("out").exists() && finals.iter().all(|name| name.starts_with('.')),
                "{finals:?}"
            );
            // The next run finds the output as good as empty, and removes what the dead one has left.
            place.succeeds(&format!("--input in.txt --output out --execution-mode {mode} --parallelism 1"));
            let last = place.rows().into_iter().collect::<super::support::Counts>();
            assert_eq!(last, counted("a b a"));
            assert!(!is_staging(&place), "{:?}", place.names("."));
            std::fs::remove_dir_all(place.path("out")).unwrap();
        }
    }
}

/// A small file system in memory. Unmounted when it is dropped.
#[cfg(target_os = "linux")]
struct Disk(std::ffi::CString);

#[cfg(target_os = "linux")]
impl Disk {
    fn mount(at: &Path, options: &str) -> std::io::Result<Disk> {
        let c_string = |text: &str| std::ffi::CString::new(text).unwrap();
        let (kind, at, options) = (c_string("tmpfs"), c_string(at.to_str().unwrap()), c_string(options));
        // SAFETY: all pointers are C strings that outlive the call.
        let mounted =
            unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if mounted == 0 { Ok(Disk(at)) } else { Err(std::io::Error::last_os_error()) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: the pointer is a C string that outlives the call.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let place = Place::new();
    place.write("in.txt", text(300_000, 200_000));
    std::fs::create_dir(place.path("small")).unwrap();
    let disk = match Disk::mount(&place.path("small"), "size=256k") {
        Ok(disk) => disk,
        Err(e) => return eprintln!("skipped: this user may not mount a small disk ({e})"),
    };
    for mode in MODES {
        let sentence = place
            .fails(&format!("--input in.txt --output small/out --parallelism 2 --execution-mode {mode}"));
        assert!(sentence.contains("operator '") && sentence.contains("small/"), "{sentence}");
        assert!(sentence.contains("No space left"), "{sentence}");
        assert_eq!(place.names("small"), [""; 0], "{mode}");
    }
    let arguments =
        "--input in.txt --output out --parallelism 2 --memory 8MiB --execution-mode batch --temp-dir small";
    let sentence = place.fails(arguments);
    assert!(sentence.contains("operator '") && sentence.contains("small"), "{sentence}");
    assert!(sentence.contains("No space left"), "{sentence}");
    assert_eq!(place.names("small"), [""; 0]);
    drop(disk);
}
