//! Names: of directories that survive a power loss, of files that are whole or not there, of files that take a place.

use super::{Vfs, VfsFile};
use crate::base::error::{Error, Result};
use crate::base::{failpoint, mutant};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The directory above; the current one above a relative name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a directory and what is missing above it, durably, and notes what it creates, outermost first: before it
/// does, so that after an error nothing is forgotten. What is there already may be of a process that died before its name was
/// durable: it is made so. None below it can be, since each is made durable before there is one in it.
///
/// # Errors
/// If one cannot be looked up, created or synced; they name it.
pub fn create_dirs(vfs: &dyn Vfs, dir: &Path, created: &mut Vec<PathBuf>) -> Result<()> {
    let mut missing = Vec::new();
    for dir in dir.ancestors().take_while(|path| !path.as_os_str().is_empty()) {
        match vfs.metadata(dir) {
            // The root has no name.
            Ok(_) if dir.parent().is_none() => break,
            Ok(_) => match vfs.sync_dir(parent(dir)) {
                // Who may not even read what is above has not made it.
                Err(e) if e.kind() != ErrorKind::PermissionDenied => {
                    return Err(Error::io("sync", parent(dir), e));
                }
                _ => break,
            },
            Err(e) if e.kind() == ErrorKind::NotFound => missing.push(dir.to_path_buf()),
            Err(e) => return Err(Error::io("open", dir, e)),
        }
    }
    missing.reverse();
    for dir in missing {
        created.push(dir.clone());
        vfs.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        vfs.sync_dir(parent(&dir)).map_err(|e| Error::io("sync", parent(&dir), e))?;
    }
    Ok(())
}

/// Creates a file; another one of this name can only be of an attempt that is over, and goes.
///
/// # Errors
/// Those of removing the old and creating the new one.
pub fn create_anew(vfs: &dyn Vfs, path: &Path) -> io::Result<Box<dyn VfsFile>> {
    match vfs.create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            vfs.remove_file(path)?;
            vfs.create(path)
        }
        created => created,
    }
}

/// Writes a small file under another name, `unfinished`, and renames it: it is there whole or not at all; if it is `synced`,
/// after a power loss, too.
///
/// # Errors
/// When it cannot be written; one of this name from before is then still there.
pub fn write_renamed(
    vfs: &dyn Vfs,
    path: &Path,
    unfinished: &Path,
    content: &[u8],
    synced: bool,
) -> Result<()> {
    fn io<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
        result.map_err(|e| Error::io(action, path, e))
    }
    match vfs.remove_file(unfinished) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", unfinished, e)),
        _ => {}
    }
    let write = || {
        let mut file = io("create", unfinished, vfs.create(unfinished))?;
        io("write", unfinished, failpoint::reach("small_file.write"))?;
        io("write", unfinished, file.append(content))?;
        if synced {
            io("sync", unfinished, failpoint::reach("small_file.sync"))?;
            io("sync", unfinished, file.sync_data())?;
        }
        drop(file);
        io("rename", path, failpoint::reach("small_file.rename"))?;
        io("rename", path, vfs.rename(unfinished, path))?;
        io("sync", path, failpoint::reach("small_file.sync_dir"))?;
        if synced && !mutant::is("directory_not_synced") {
            io("sync", parent(path), vfs.sync_dir(parent(path)))?;
        }
        Ok(())
    };
    write().inspect_err(|_| {
        // What cannot be removed here is removed by who writes next.
        let _ = vfs.remove_file(unfinished);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs};
    use std::sync::Arc;

    /// Whoever made it died before its name was durable.
    #[test]
    fn a_directory_that_is_there_gets_a_durable_name() {
        for (there, dir, missing) in [("/job", "/job", 0), ("/deep", "/deep/job", 1)] {
            let (mem, mut created) = (MemVfs::new(), Vec::new());
            mem.create_dir_all(Path::new(there)).unwrap();
            create_dirs(&mem, Path::new(dir), &mut created).unwrap();
            assert_eq!(created.len(), missing);
            assert!(mem.crash(1, Keep::Nothing).metadata(Path::new(dir)).is_ok(), "{dir}");
        }
        create_dirs(&MemVfs::new(), Path::new("/"), &mut Vec::new()).unwrap();
    }

    #[test]
    fn where_its_name_cannot_be_made_durable_it_is_an_error() {
        let mem = MemVfs::new();
        mem.create_dir_all(Path::new("/job")).unwrap();
        let faulty = FaultVfs::new(Arc::new(mem), FaultPlan::fail_at(0, Fault::Io).only(&[FileOp::SyncDir]));
        let error = create_dirs(&*faulty, Path::new("/job"), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("'/'"), "{error}");
    }
}
