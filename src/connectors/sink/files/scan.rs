//! Scan: what there is in an output directory and in those of its buckets.

use super::io::{found, io, name_of};
use super::names::{BUCKET_DEPTH_MAX, PartId, finished_part, is_in_progress};
use crate::base::error::Result;
use crate::base::vfs::Vfs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What there is in an output directory, by paths relative to it.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) finished: BTreeMap<String, PartId>,
    pub(super) in_progress: BTreeSet<String>,
    /// Directories, outermost first.
    pub(super) dirs: Vec<String>,
    /// Whether there is any other file that is not hidden.
    pub(super) others: bool,
}

/// Looks into an output directory and those below it that are not hidden, as deep as buckets may be; not through links.
pub(super) fn scan(vfs: &dyn Vfs, dir: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    scan_below(vfs, dir, "", 0, &mut scan)?;
    Ok(scan)
}

fn scan_below(vfs: &dyn Vfs, root: &Path, below: &str, depth: usize, scan: &mut Scan) -> Result<()> {
    let dir = root.join(below);
    for path in io("list", &dir, vfs.list(&dir))? {
        let name = name_of(&path);
        let relative = format!("{below}{name}");
        if is_in_progress(&name) {
            scan.in_progress.insert(relative);
        } else if name.starts_with('.') {
            continue;
        } else if let Some(id) = finished_part(&name) {
            scan.finished.insert(relative, id);
        } else {
            let meta = io("open", &path, found(vfs.metadata(&path)))?;
            let is_dir = meta.is_some_and(|meta| meta.is_dir) && !io("open", &path, vfs.is_link(&path))?;
            if depth < BUCKET_DEPTH_MAX && is_dir {
                let relative = format!("{relative}/");
                scan.dirs.push(relative.clone());
                scan_below(vfs, root, &relative, depth + 1, scan)?;
            } else {
                scan.others = true;
            }
        }
    }
    Ok(())
}
