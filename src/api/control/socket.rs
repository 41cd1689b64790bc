//! Socket: Unix sockets at paths that may be longer than such a socket can name.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What the address of a socket has room for is 107 bytes.
const PATH_BYTES_MAX: usize = 100;

/// Calls `with` with a path that is short enough for an address.
fn named<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return with(path) };
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return with(path);
    }
    // The directory by a number of this process.
    let dir = File::open(dir)?;
    with(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// A socket that only this user can open. It has its name when that is so.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let private = path.with_extension("private");
    let _ = std::fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = named(&private.join("s"), |at| UnixListener::bind(at)).and_then(|listener| {
        std::fs::set_permissions(private.join("s"), Permissions::from_mode(0o600))?;
        std::fs::rename(private.join("s"), path)?;
        Ok(listener)
    });
    let _ = std::fs::remove_dir_all(&private);
    made
}

/// The other end.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    named(path, |at| UnixStream::connect(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_socket_of_a_long_path_is_of_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        for deep in [dir.path().to_path_buf(), dir.path().join("x".repeat(120)).join("y".repeat(90))] {
            std::fs::create_dir_all(&deep).unwrap();
            let path = deep.join("job.sock");
            let listener = listen(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            connect(&path).unwrap().write_all(b"x").unwrap();
            let mut read = [0];
            listener.accept().unwrap().0.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"x");
            assert_eq!(
                std::fs::read_dir(&deep)
                    .unwrap()
                    .filter(|e| e.as_ref().unwrap().path() != path)
                    .filter(|e| e.as_ref().unwrap().path().is_file())
                    .count(),
                0
            );
        }
    }
}
