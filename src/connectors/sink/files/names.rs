//! Names of part files: what they are called while they are written and when they are finished, and in which directory.
//!
//! ```text
//! part-<subtask>-<n>.<extension>              finished: never changes any more
//! .part-<subtask>-<n>.inprogress.<uid>        written to, or waiting for its checkpoint; uid: job and attempt
//! ```
//!
//! Both stand in the directory of their bucket. Invariants: whatever a program calls a bucket, its directory is below the
//! output directory, is not hidden, and is no other bucket's.

use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

/// Directories that a bucket may be deep. What would be deeper is written into the name of the last.
pub(super) const BUCKET_DEPTH_MAX: usize = 8;
/// Bytes of the name of a directory; file systems allow 255.
const COMPONENT_BYTES_MAX: usize = 200;

/// The subtask that wrote a part file, and the number it gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartId {
    pub(super) subtask: usize,
    pub(super) n: u64,
}

impl PartId {
    /// The name once it is finished.
    pub(super) fn finished(self, extension: &str) -> String {
        format!("part-{:05}-{:05}.{extension}", self.subtask, self.n)
    }
    /// The name before.
    pub(super) fn in_progress(self, uid: &str) -> String {
        format!(".part-{:05}-{:05}.inprogress.{uid}", self.subtask, self.n)
    }
}

/// Tells the files of one attempt of one job from those of others.
pub(super) fn uid(job_id: &str, attempt: usize) -> String {
    format!("{:08x}-{attempt}", xxh3_64(job_id.as_bytes()) as u32)
}

/// Whose a file is, if its name is that of a finished part: `part-`, digits, `-`, digits, `.` and an extension.
pub(super) fn finished_part(name: &str) -> Option<PartId> {
    let (numbers, extension) = name.strip_prefix("part-")?.split_once('.')?;
    if extension.is_empty() || extension.contains('/') {
        return None;
    }
    let (subtask, n) = numbers.split_once('-')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(subtask) || !digits(n) {
        return None;
    }
    Some(PartId { subtask: subtask.parse().ok()?, n: n.parse().ok()? })
}

/// Whether a name is that of a part that is not finished.
pub(super) fn is_in_progress(name: &str) -> bool {
    name.strip_prefix('.').and_then(finished_part).is_some() && name.contains(".inprogress.")
}

/// Whether a path that was read from a file can be one of a part below the output directory.
pub(super) fn is_part_path(path: &str, hidden: bool) -> bool {
    let mut components = path.rsplit('/');
    let name = components.next().unwrap_or_default();
    let of_part = if hidden { is_in_progress(name) } else { finished_part(name).is_some() };
    of_part && components.all(|dir| !dir.is_empty() && !dir.starts_with('.') && !dir.contains('\0'))
}

/// The directory of a bucket, relative to the output directory and with a `/` behind it; nothing for the bucket
/// without a name. A `/` in the name of a bucket separates directories.
pub(super) fn bucket_dir(bucket: &str) -> String {
    let mut dir = String::new();
    if bucket.is_empty() {
        return dir;
    }
    for component in bucket.splitn(BUCKET_DEPTH_MAX, '/') {
        let start = dir.len();
        encode_component(component, &mut dir);
        if dir.len() - start > COMPONENT_BYTES_MAX {
            // No code has two percent signs, so that a short name is never that of a long one.
            dir.truncate(start + COMPONENT_BYTES_MAX - 18);
            let _ = write!(dir, "%%{:016x}", xxh3_64(component.as_bytes()));
        }
        dir.push('/');
    }
    dir
}

/// Appends a name with all that could mean something to a file system or to us as `%` and two digits.
fn encode_component(component: &str, out: &mut String) {
    if component.is_empty() {
        out.push('%');
    }
    let like_ours = component.starts_with("part-");
    for (i, byte) in component.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_=+,@~ .".contains(&byte);
        if plain && !(i == 0 && (byte == b'.' || like_ours)) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::{Component, Path};

    #[test]
    fn names_are_read_back() {
        let id = PartId { subtask: 3, n: 123_456 };
        assert_eq!(id.finished("csv"), "part-00003-123456.csv");
        assert_eq!(finished_part("part-00003-123456.csv"), Some(id));
        let hidden = id.in_progress(&uid("job", 2));
        assert!(is_in_progress(&hidden) && hidden.starts_with(".part-00003-123456.inprogress."), "{hidden}");
        assert!(is_in_progress(&PartId { subtask: 0, n: 0 }.in_progress(&uid("job", 0))));
        for foreign in ["part-1-2", "part-1-.txt", "part-a-1.txt", "notes", "part-1-2.", "part-1-2.x/y", ""] {
            assert_eq!(finished_part(foreign), None, "{foreign}");
        }
        assert!(!is_in_progress(".part-0-0.txt") && !is_in_progress("part-0-0.inprogress.1"));
        assert!(is_part_path("a/b/part-0-0.txt", false) && is_part_path("a/.part-0-0.inprogress.1", true));
        for bad in ["../part-0-0.txt", "/part-0-0.txt", "a//part-0-0.txt", ".x/part-0-0.txt", "part-0-0.txt/"]
        {
            assert!(!is_part_path(bad, false), "{bad}");
        }
    }

    /// T16: no name leads out of the output directory, and no two into the same.
    #[test]
    fn no_bucket_leaves_the_output_directory() {
        let mut names: Vec<String> = [
            "../x",
            "/etc/passwd",
            "..",
            ".",
            "a/../b",
            "a/./b",
            "%2e%2e/",
            "..%2f",
            "\\..\\",
            "a\0b",
            ".hidden",
            "a//b",
            "a/b",
            "a",
            "A",
            "/",
            "//",
            "a/",
            "%",
            "%%",
            "é",
            "e\u{301}",
            "\u{202e}x",
            "CON",
            "a:b",
            "part-0-0.txt",
            "a b",
            "~",
            "a\nb",
            ".mainstem-lock",
            "...",
            "a.",
            "2024-01-31--23",
            "dt=1/h=2",
            "a/b/c/d/e/f/g/h/i/../j",
            "a/b/c/d/e/f/g/h%2Fi",
        ]
        .map(String::from)
        .to_vec();
        names.extend([201, 255, 300, 5_000].map(|n| "x".repeat(n)));
        names.push(format!("{}y", "x".repeat(299)));
        names.push("ü".repeat(150));
        names.extend((1u8..128).map(|byte| (byte as char).to_string()));
        names.sort();
        names.dedup();
        let mut dirs = BTreeMap::new();
        for name in names {
            let dir = bucket_dir(&name);
            let components: Vec<_> = Path::new(&dir).components().collect();
            assert!((1..=BUCKET_DEPTH_MAX).contains(&components.len()), "{name:?} -> {dir:?}");
            for component in components {
                let Component::Normal(component) = component else { panic!("{name:?} -> {dir:?}") };
                let component = component.to_str().unwrap();
                assert!(component.len() <= COMPONENT_BYTES_MAX && !component.starts_with('.'), "{dir:?}");
                assert!(component.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{dir:?}");
                assert!(finished_part(component).is_none(), "{dir:?}");
            }
            assert!(is_part_path(&format!("{dir}part-0-0.txt"), false));
            if let Some(other) = dirs.insert(dir.clone(), name.clone()) {
                panic!("{name:?} and {other:?} -> {dir:?}");
            }
        }
        assert_eq!(bucket_dir(""), "");
        assert_eq!(bucket_dir("2024-01-31--23"), "2024-01-31--23/");
        assert_eq!(bucket_dir("dt=2024/h=07"), "dt=2024/h=07/");
        assert_eq!(bucket_dir("../x"), "%2E./x/");
    }
}
