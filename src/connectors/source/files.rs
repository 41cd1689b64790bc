//! Input files: the files that the paths, directories and patterns given to a source stand for.
//!
//! Place: called by [`Source::splits`](super::Source::splits) on the client's thread, before anything runs; looks
//! at the file system only through the [`Vfs`].
//! Method: a path that exists is taken as it is, even with `*` or `[` in its name; otherwise one with `*`, `?` or
//! `[` is a pattern, walked component by component, so that only directories that can match are listed.
//! Invariants: order is as given, and by name within a directory or a pattern. What cannot be read is an error
//! here, never a file that is silently left out; files are left out only by name.
//! Costs and limits: one `open` per file; directories nest at most [`DEPTH_MAX`] deep.

use crate::base::error::{Error, Result};
use crate::base::vfs::Vfs;
use glob::Pattern;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Deeper than people nest directories, shallow enough to stop at a link that leads back to its parent.
const DEPTH_MAX: usize = 64;

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// All files that the inputs stand for; every one of them could be opened.
pub(crate) fn expand(vfs: &dyn Vfs, inputs: &[PathBuf], recursive: bool) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for input in inputs {
        match (vfs.metadata(input), input.to_str().filter(|text| has_wildcard(text))) {
            (Ok(metadata), _) if metadata.is_dir => {
                list_files(vfs, input, recursive, 0, &mut files)?;
            }
            (Err(e), Some(text)) if is_absent(&e) => {
                let mut matches = Vec::new();
                walk(vfs, PathBuf::new(), &parse(text)?, 0, &mut matches)?;
                if matches.is_empty() {
                    let why = "no file matches this pattern";
                    return Err(Error::io("read input", input, io::Error::new(io::ErrorKind::NotFound, why)));
                }
                // `**` can reach a file on several ways.
                matches.sort_by(|a, b| a.path.cmp(&b.path));
                matches.dedup();
                files.append(&mut matches);
            }
            (Err(e), _) => return Err(Error::io("read input", input, e)),
            (Ok(_), _) => {
                files.extend(regular_file(vfs, input)?);
            }
        }
    }
    for file in &files {
        vfs.open(&file.path).map_err(|e| Error::io("open input", &file.path, e))?;
    }
    Ok(files)
}

/// Bytes of each sample of a fingerprint.
const SAMPLE_BYTES: u64 = 16 << 10;

/// What tells that a file is still the one it was: its size, its time, and a checksum of its beginning, middle and end.
pub(crate) fn fingerprint(vfs: &dyn Vfs, path: &Path) -> Result<(String, String)> {
    let metadata = vfs.metadata(path).map_err(|e| Error::io("read input", path, e))?;
    let file = vfs.open(path).map_err(|e| Error::io("open input", path, e))?;
    let last = metadata.len.saturating_sub(SAMPLE_BYTES);
    let mut checksum = 0;
    for offset in [0, last / 2, last] {
        let mut sample = vec![0; SAMPLE_BYTES.min(metadata.len) as usize];
        match file.read_exact_at(&mut sample, offset) {
            // It has become shorter since its size was asked for: the checksum says so.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => sample.clear(),
            read => read.map_err(|e| Error::io("read input", path, e))?,
        }
        checksum = xxh3_64_with_seed(&sample, checksum);
    }
    let modified = metadata.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let text = format!(
        "of {} bytes, modified {modified} ns after 1970, with checksum {checksum:016x}",
        metadata.len
    );
    Ok((format!("input file '{}'", path.display()), text))
}

/// A path as bytes: names of files need not be UTF-8, which serde asks of a path.
pub(crate) mod path_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Hidden files, and the `_SUCCESS` and `_temporary` that other engines leave among their output.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>> {
    let here = dir.as_os_str().is_empty();
    let place = if here { Path::new(".") } else { dir };
    let mut entries = vfs.list(place).map_err(|e| Error::io("list input directory", place, e))?;
    if here {
        for entry in &mut entries {
            *entry = entry.file_name().map(PathBuf::from).unwrap_or_default();
        }
    }
    entries.sort();
    Ok(entries)
}

/// The file at a path, or `None` for a directory.
fn regular_file(vfs: &dyn Vfs, path: &Path) -> Result<Option<InputFile>> {
    let metadata = vfs.metadata(path).map_err(|e| Error::io("read input", path, e))?;
    if metadata.is_dir {
        return Ok(None);
    }
    if !metadata.is_file {
        let why = "it is a pipe, a socket or a device, and only a regular file has a size and can be read again; \
                   copy it into a file first";
        return Err(Error::io("read input", path, io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    Ok(Some(InputFile { path: path.to_path_buf(), bytes: metadata.len }))
}

fn check_depth(dir: &Path, depth: usize) -> Result<()> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let why = format!("it is more than {DEPTH_MAX} directories deep; does a link lead back to its parent?");
    Err(Error::io("list input directory", dir, io::Error::new(io::ErrorKind::InvalidInput, why)))
}

fn list_files(
    vfs: &dyn Vfs,
    dir: &Path,
    recursive: bool,
    depth: usize,
    files: &mut Vec<InputFile>,
) -> Result<()> {
    check_depth(dir, depth)?;
    for entry in list(vfs, dir)? {
        if is_hidden(&name_of(&entry)) {
            continue;
        }
        match regular_file(vfs, &entry)? {
            Some(file) => files.push(file),
            None if recursive => list_files(vfs, &entry, recursive, depth + 1, files)?,
            None => {}
        }
    }
    Ok(())
}

/// A component of a pattern.
enum Step {
    /// This name, or `/`, `.`, `..`.
    Name(PathBuf),
    /// Names that match; hidden ones only if the pattern starts with their first character.
    Match(Pattern),
    /// `**`: this directory and all below it.
    AnyDepth,
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for component in Path::new(text).components() {
        let name = component.as_os_str();
        steps.push(match (component, name.to_str()) {
            (Component::Normal(_), Some("**")) => Step::AnyDepth,
            (Component::Normal(_), Some(part)) if has_wildcard(part) => {
                Step::Match(Pattern::new(part).map_err(|e| {
                    Error::config(format!(
                        "the input pattern '{text}' cannot be used: {} at character {} of '{part}'; a path with \
                         *, ? or [ that does not exist is taken as a pattern",
                        e.msg, e.pos
                    ))
                })?)
            }
            _ => Step::Name(PathBuf::from(name)),
        });
    }
    if let Some(Step::AnyDepth) = steps.last() {
        steps.push(Step::Match(Pattern::new("*").map_err(|e| Error::Internal(e.to_string()))?));
    }
    Ok(steps)
}

fn walk(
    vfs: &dyn Vfs,
    base: PathBuf,
    steps: &[Step],
    depth: usize,
    matches: &mut Vec<InputFile>,
) -> Result<()> {
    check_depth(&base, depth)?;
    let Some((step, rest)) = steps.split_first() else {
        return match vfs.metadata(&base) {
            Err(e) if is_absent(&e) => Ok(()),
            _ => {
                matches.extend(regular_file(vfs, &base)?);
                Ok(())
            }
        };
    };
    match step {
        Step::Name(name) => walk(vfs, base.join(name), rest, depth, matches),
        Step::Match(pattern) => {
            let shown = |name: &str| {
                !is_hidden(name) || name.chars().next().is_some_and(|c| pattern.as_str().starts_with(c))
            };
            for entry in children(vfs, &base)? {
                let name = name_of(&entry);
                if shown(&name) && pattern.matches(&name) {
                    if rest.is_empty() {
                        matches.extend(regular_file(vfs, &entry)?);
                    } else {
                        walk(vfs, entry, rest, depth + 1, matches)?;
                    }
                }
            }
            Ok(())
        }
        Step::AnyDepth => {
            for entry in children(vfs, &base)? {
                let is_dir = || vfs.metadata(&entry).map_err(|e| Error::io("read input", &entry, e));
                if !is_hidden(&name_of(&entry)) && is_dir()?.is_dir {
                    walk(vfs, entry, steps, depth + 1, matches)?;
                }
            }
            walk(vfs, base, rest, depth, matches)
        }
    }
}

/// The entries of a directory; none if it is not one or is not there.
fn children(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>> {
    let place = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match vfs.metadata(place) {
        Ok(metadata) if metadata.is_dir => list(vfs, dir),
        Ok(_) => Ok(Vec::new()),
        Err(e) if is_absent(&e) => Ok(Vec::new()),
        Err(e) => Err(Error::io("list input directory", place, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::OsVfs;
    use std::os::unix::fs::symlink;

    /// Makes files (or, with a trailing slash, directories) in a fresh directory.
    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            if name.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
        }
        dir
    }

    fn found(dir: &tempfile::TempDir, inputs: &[&str], recursive: bool) -> Result<Vec<String>> {
        let inputs: Vec<PathBuf> = inputs.iter().map(|i| dir.path().join(i)).collect();
        let files = expand(&OsVfs, &inputs, recursive)?;
        let root = dir.path();
        Ok(files.iter().map(|f| f.path.strip_prefix(root).unwrap().to_str().unwrap().to_string()).collect())
    }

    #[test]
    fn directories_and_patterns_expand_by_name_without_hidden_files() {
        let names = [
            "b.txt",
            "a.txt",
            "c.csv",
            ".hidden.txt",
            "_SUCCESS",
            "d/e.txt",
            "d/f/g.txt",
            "_t/h.txt",
            "[x].txt",
        ];
        let dir = tree(&names);
        for (inputs, recursive, expected) in [
            (&["."][..], false, &["[x].txt", "a.txt", "b.txt", "c.csv"][..]),
            (&["."], true, &["[x].txt", "a.txt", "b.txt", "c.csv", "d/e.txt", "d/f/g.txt"]),
            (&["b.txt", "a.txt", "b.txt"], false, &["b.txt", "a.txt", "b.txt"]),
            (&["?.txt"], false, &["a.txt", "b.txt"]),
            (&["[bc].*"], false, &["b.txt", "c.csv"]),
            (&["[x].txt"], false, &["[x].txt"]),
            (&["*"], false, &["[x].txt", "a.txt", "b.txt", "c.csv"]),
            (&["_*"], false, &["_SUCCESS"]),
            (&[".*"], false, &[".hidden.txt"]),
            (&["_SUCCESS"], false, &["_SUCCESS"]),
            (&["*/*.txt"], false, &["d/e.txt"]),
            (&["*/f/g.txt"], false, &["d/f/g.txt"]),
            (&["**/g.txt", "a*"], false, &["d/f/g.txt", "a.txt"]),
            (&["**/**/?.txt"], false, &["a.txt", "b.txt", "d/e.txt", "d/f/g.txt"]),
            (&["d/**"], false, &["d/e.txt", "d/f/g.txt"]),
            (&["d/../a.*"], false, &["d/../a.txt"]),
        ] {
            assert_eq!(found(&dir, inputs, recursive).unwrap(), expected, "{inputs:?}");
        }
    }

    #[test]
    fn nothing_to_read_is_an_error_with_the_path() {
        let dir = tree(&["a.txt", "d/"]);
        for (input, words) in [
            ("b.txt", "No such file"),
            ("b*.txt", "no file matches"),
            ("no/*.txt", "no file matches"),
            ("d*", "no file matches"),
            ("a.txt/*", "no file matches"),
            ("a.txt/x", "Not a directory"),
            ("a[.txt", "cannot be used"),
            ("a***", "cannot be used"),
        ] {
            let error = found(&dir, &[input], false).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(input), "{input}: {error}");
        }
        assert_eq!(found(&dir, &["d"], true).unwrap(), [""; 0]);
    }

    #[test]
    fn links_are_followed_and_dead_or_circular_ones_are_errors() {
        let dir = tree(&["a.txt", "d/x.txt"]);
        symlink(dir.path().join("a.txt"), dir.path().join("l.txt")).unwrap();
        symlink(dir.path().join("d"), dir.path().join("m")).unwrap();
        assert_eq!(found(&dir, &["."], true).unwrap(), ["a.txt", "d/x.txt", "l.txt", "m/x.txt"]);
        assert_eq!(found(&dir, &["*/x*"], false).unwrap(), ["d/x.txt", "m/x.txt"]);
        symlink(dir.path().join("nowhere"), dir.path().join("z")).unwrap();
        assert!(found(&dir, &["."], false).unwrap_err().to_string().contains("/z'"));
        assert!(found(&dir, &["*"], false).unwrap_err().to_string().contains("/z'"));
        std::fs::remove_file(dir.path().join("z")).unwrap();
        symlink(dir.path(), dir.path().join("d/up")).unwrap();
        for input in [".", "**/x.txt"] {
            let error = found(&dir, &[input], true).unwrap_err().to_string();
            assert!(error.contains("/d/up/d/up"), "{error}");
        }
    }

    #[test]
    fn pipe_and_unreadable_path_are_errors() {
        let dir = tree(&["a.txt"]);
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        for input in ["s", ".", "?"] {
            let error = found(&dir, &[input], false).unwrap_err().to_string();
            assert!(error.contains("/s': it is a pipe, a socket or a device"), "{error}");
        }
        let error = expand(&OsVfs, &["/dev/zero".into()], false).unwrap_err().to_string();
        assert!(error.contains("'/dev/zero': it is a pipe"), "{error}");
    }

    #[test]
    fn names_that_are_not_utf8_survive_encoding() {
        use std::os::unix::ffi::OsStringExt;
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Holder(#[serde(with = "path_bytes")] PathBuf);
        let path = PathBuf::from(std::ffi::OsString::from_vec(b"a\xff\xfe/b".to_vec()));
        let mut bytes = Vec::new();
        crate::base::codec::encode(&Holder(path.clone()), &mut bytes).unwrap();
        assert_eq!(crate::base::codec::decode::<Holder>(&bytes).unwrap().0, path);
    }
}
