//! The file systems agree with each other, and a crash keeps what was promised.

use super::{Keep, MemVfs, OsVfs, Vfs};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) {
    let mut file = vfs.create(path).unwrap();
    file.append(bytes).unwrap();
    file.sync_data().unwrap();
}

fn content(vfs: &MemVfs, path: &str) -> Option<Vec<u8>> {
    vfs.snapshot().get(Path::new(path)).cloned().flatten()
}

/// Runs the same calls and returns their outcomes.
fn outcomes(vfs: &dyn Vfs, root: &Path) -> Vec<Result<String, ErrorKind>> {
    let p = |name: &str| root.join(name);
    let mut out = Vec::new();
    let mut unit = |r: std::io::Result<()>| out.push(r.map(|()| String::new()).map_err(|e| e.kind()));
    unit(vfs.create_dir_all(&p("a/b")));
    unit(vfs.create_dir_all(&p("a/b")));
    write(vfs, &p("a/f"), b"hello");
    write(vfs, &p("a/g"), b"other");
    unit(vfs.create(&p("a/f")).map(drop));
    unit(vfs.create(&p("missing/f")).map(drop));
    unit(vfs.create_dir_all(&p("a/f/x")));
    unit(vfs.open(&p("missing")).map(drop));
    unit(vfs.open_append(&p("missing")).map(drop));
    unit(vfs.open_append(&p("a/b")).map(drop));
    unit(vfs.open_append(&p("a/f")).and_then(|mut f| {
        f.set_len(2)?;
        f.append(b"y!")
    }));
    let mut bytes = [0; 9];
    let read = vfs.open(&p("a/f")).unwrap().read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes[..read], b"hey!");
    unit(vfs.rename(&p("a/f"), &p("a/b")));
    unit(vfs.rename(&p("a"), &p("a/b/c")));
    unit(vfs.rename(&p("a/b"), &p("a/f")));
    unit(vfs.rename(&p("none"), &p("a/f")));
    unit(vfs.rename(&p("a/f"), &p("a/g")));
    unit(vfs.rename(&p("a/f"), &p("a/g")));
    unit(vfs.remove_file(&p("a/f")));
    unit(vfs.remove_dir(&p("a")));
    unit(vfs.remove_dir(&p("a/b")));
    unit(vfs.remove_dir(&p("a/b")));
    unit(vfs.create_dir_all(&p("e")));
    write(vfs, &p("e/x"), b"");
    unit(vfs.rename(&p("a"), &p("e")));
    unit(vfs.remove_file(&p("e/x")));
    unit(vfs.rename(&p("a"), &p("e")));
    unit(vfs.list(&p("a")).map(drop));
    unit(vfs.sync_dir(&p("e")));
    unit(vfs.sync_dir(&p("a")));
    let names = vfs.list(&p("e")).unwrap();
    out.push(Ok(format!("{:?}", names.iter().map(|n| n.strip_prefix(root).unwrap()).collect::<Vec<_>>())));
    out.push(vfs.metadata(&p("e/g")).map(|m| format!("{} {}", m.len, m.is_dir)).map_err(|e| e.kind()));
    out.push(vfs.remove_dir_all(&p("e")).map(|()| String::new()).map_err(|e| e.kind()));
    out.push(vfs.metadata(&p("e")).map(|m| format!("{m:?}")).map_err(|e| e.kind()));
    out
}

#[test]
fn memory_and_operating_system_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mem = MemVfs::new();
    mem.create_dir_all(Path::new("/root")).unwrap();
    assert_eq!(outcomes(&mem, Path::new("/root")), outcomes(&OsVfs, dir.path()));
}

#[test]
fn files_read_append_cut_and_lock_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mem = MemVfs::new();
    for (vfs, path) in [(&OsVfs as &dyn Vfs, dir.path().join("f")), (&mem, "f".into())] {
        let mut file = vfs.create(&path).unwrap();
        file.append(b"0123456789").unwrap();
        let mut buf = [0; 4];
        assert_eq!(file.read_at(&mut buf, 8).unwrap(), 2);
        assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
        assert_eq!(file.read_exact_at(&mut buf, 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_len(3).unwrap();
        file.append(b"x").unwrap();
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"012x");
        assert!(file.try_lock().unwrap());
        let mut second = vfs.open(&path).unwrap();
        assert!(second.append(b"y").is_err(), "opened for reading");
        assert!(!second.try_lock().unwrap());
        drop(file);
        assert!(second.try_lock().unwrap());
        let unnamed = vfs.create_unnamed(path.parent().unwrap()).unwrap();
        assert_eq!(unnamed.len().unwrap(), 0);
        assert_eq!(vfs.list(path.parent().unwrap()).unwrap().len(), 1);
    }
}

#[test]
fn a_crash_takes_names_and_bytes_that_were_not_synced() {
    let vfs = MemVfs::new();
    write(&vfs, Path::new("synced"), b"1");
    vfs.sync_dir(Path::new("/")).unwrap();
    write(&vfs, Path::new("nameless"), b"2");
    let mut file = vfs.create(Path::new("bytes")).unwrap();
    file.append(b"ab").unwrap();
    file.sync_data().unwrap();
    file.append(b"cd").unwrap();
    let lost = vfs.crash(0, Keep::Nothing);
    assert_eq!(lost.snapshot().len(), 1);
    vfs.sync_dir(Path::new("")).unwrap();
    let after = vfs.crash(0, Keep::Nothing);
    assert_eq!(content(&after, "/bytes").as_deref(), Some(&b"ab"[..]));
    assert_eq!(content(&after, "/nameless").as_deref(), Some(&b"2"[..]));
    assert_eq!(content(&vfs, "/bytes").as_deref(), Some(&b"abcd"[..]), "the original goes on");
}

#[test]
fn synced_bytes_that_were_cut_off_come_back() {
    let vfs = MemVfs::new();
    let mut file = vfs.create(Path::new("f")).unwrap();
    file.append(b"abcd").unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    file.set_len(1).unwrap();
    file.append(b"XY").unwrap();
    assert_eq!(content(&vfs.crash(0, Keep::Nothing), "/f").as_deref(), Some(&b"abcd"[..]));
    file.sync_data().unwrap();
    assert_eq!(content(&vfs.crash(0, Keep::Nothing), "/f").as_deref(), Some(&b"aXY"[..]));
}

#[test]
fn a_rename_is_atomic_and_needs_a_sync() {
    let vfs = MemVfs::new();
    vfs.create_dir_all(Path::new("a")).unwrap();
    vfs.create_dir_all(Path::new("b")).unwrap();
    write(&vfs, Path::new("a/f"), b"new");
    write(&vfs, Path::new("b/f"), b"old");
    for dir in ["/", "a", "b"] {
        vfs.sync_dir(Path::new(dir)).unwrap();
    }
    vfs.rename(Path::new("a/f"), Path::new("b/f")).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..32 {
        let after = vfs.crash(seed, Keep::Torn);
        let both = (content(&after, "/a/f").is_some(), content(&after, "/b/f").unwrap());
        assert!(both == (true, b"old".to_vec()) || both == (false, b"new".to_vec()), "{both:?}");
        seen.insert(both);
    }
    assert_eq!(seen.len(), 2, "both outcomes occur");
    vfs.sync_dir(Path::new("b")).unwrap();
    assert_eq!(content(&vfs.crash(0, Keep::Nothing), "/b/f").as_deref(), Some(&b"new"[..]));
}

#[test]
fn syncing_a_rename_makes_what_it_needed_durable() {
    let vfs = MemVfs::new();
    vfs.create_dir_all(Path::new("a")).unwrap();
    vfs.create_dir_all(Path::new("b")).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    write(&vfs, Path::new("a/f"), b"1");
    vfs.rename(Path::new("a/f"), Path::new("b/f")).unwrap();
    vfs.sync_dir(Path::new("b")).unwrap();
    for seed in 0..16 {
        let after = vfs.crash(seed, Keep::Random);
        assert_eq!(content(&after, "/a/f"), None, "seed {seed}: the old name may not come back");
        assert!(content(&after, "/b/f").is_some());
    }
}

#[test]
fn a_torn_file_keeps_what_was_synced_and_varies_with_the_seed() {
    let vfs = MemVfs::new();
    let mut file = vfs.create(Path::new("f")).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    file.append(b"safe").unwrap();
    file.sync_data().unwrap();
    file.append(&[b'x'; 100]).unwrap();
    let torn: BTreeSet<Vec<u8>> =
        (0..64).map(|seed| content(&vfs.crash(seed, Keep::Torn), "/f").unwrap()).collect();
    assert!(torn.iter().all(|bytes| bytes.starts_with(b"safe") && bytes.len() <= 104));
    assert!(torn.iter().any(|bytes| bytes.contains(&0)) && torn.len() > 8);
    let again = content(&vfs.crash(7, Keep::Torn), "/f");
    assert_eq!(content(&vfs.crash(7, Keep::Torn), "/f"), again);
}
