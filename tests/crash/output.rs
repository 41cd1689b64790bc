//! Output: the files that a job has left, on a disk or in memory.

use crate::rows::{Difference, compare};
use crate::shapes::Shape;
use mainstem::base::vfs::MemVfs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by path below the output directory.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

pub fn on_disk(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => todo.push(path),
                false => {
                    let content = std::fs::read(&path).unwrap_or_default();
                    files.insert(path.strip_prefix(dir).unwrap_or(&path).to_path_buf(), content);
                }
            }
        }
    }
    files
}

pub fn in_memory(vfs: &MemVfs, dir: &Path) -> Files {
    let below = |(path, content): (PathBuf, Option<Vec<u8>>)| {
        Some((path.strip_prefix(dir).ok()?.to_path_buf(), content?))
    };
    vfs.snapshot().into_iter().filter_map(below).collect()
}

/// Whether a reader of the output takes the file for finished.
pub fn is_committed(path: &Path) -> bool {
    let hidden = path.iter().any(|name| name.to_string_lossy().starts_with('.'));
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !hidden && (name.starts_with("part-") || name.starts_with("committed-"))
}

/// The numbers in a name: parts come in the order of the last one, whichever subtask wrote them.
fn number(path: &Path) -> Vec<u64> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default().to_string();
    stem.split('-').rev().map_while(|part| part.parse().ok()).collect()
}

/// What the committed files hold, against what they should; with `whole`, nothing else may be left.
pub fn verify(shape: Shape, records: u64, files: &Files) -> Result<(), String> {
    let left: Vec<_> = files.keys().filter(|path| !is_committed(path)).collect();
    if !left.is_empty() {
        return Err(format!("{} files are left: {:?}", left.len(), &left[..left.len().min(5)]));
    }
    let difference = difference(shape, records, files);
    if difference.is_none() { Ok(()) } else { Err(difference.to_string()) }
}

/// What the committed files hold, against what they should hold in the end.
pub fn difference(shape: Shape, records: u64, files: &Files) -> Difference {
    compare(&shape.expected(records), lines_in_order(files).iter().map(String::as_str))
}

/// The lines of the committed files, of each directory in the order in which they were committed.
pub fn lines_in_order(files: &Files) -> Vec<String> {
    let mut committed: Vec<_> = files.iter().filter(|(path, _)| is_committed(path)).collect();
    committed.sort_by_key(|(path, _)| (path.parent(), number(path)));
    let text = committed.into_iter().map(|(_, content)| String::from_utf8_lossy(content));
    text.flat_map(|text| text.lines().map(String::from).collect::<Vec<_>>()).collect()
}
