//! Inputs and options that cannot be used: one sentence that says what and where, and nothing left behind.

use super::support::{Place, gzip, text, zst};

const MODES: [&str; 2] = ["batch", "streaming"];

/// Runs on `input` in both modes; the sentence has each of the parts.
fn refused(place: &Place, input: &str, parts: &[&str]) {
    for mode in MODES {
        for parallelism in [1, 3] {
            let arguments =
                format!("--input {input} --output out --execution-mode {mode} --parallelism {parallelism}");
            let sentence = place.fails(&arguments);
            for part in parts {
                assert!(sentence.contains(part), "{input} {mode}: '{part}' is not in: {sentence}");
            }
        }
    }
}

#[test]
fn paths_that_cannot_be_read() {
    let place = Place::new();
    place.write("in/a.txt", "a b");
    std::os::unix::fs::symlink(place.path("nowhere"), place.path("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    let fifo = std::ffi::CString::new(place.path("fifo").to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    for (input, reason) in [
        ("missing.txt", "No such file"),
        ("in/*.csv", "no file matches"),
        ("in/a.txt/b.txt", "Not a directory"),
        ("dangling", "No such file"),
        ("fifo", "pipe"),
        ("socket", "socket"),
        ("in missing", "No such file"),
    ] {
        let last = input.split_whitespace().last().unwrap();
        refused(&place, input, &["operator 'lines'", last, reason]);
    }
}

#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let path = place.write("secret.txt", "a b");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read every file");
        return;
    }
    refused(&place, "secret.txt", &["operator 'lines'", "secret.txt", "Permission denied"]);
}

#[test]
fn damaged_compressed_files_are_named() {
    let place = Place::new();
    let content = text(60_000, 10_000);
    for (name, whole) in [("x.gz", gzip(&content)), ("x.zst", zst(&content))] {
        let path = place.write(name, &whole[..whole.len() * 2 / 3]);
        refused(&place, name, &["operator 'lines'", name, "byte"]);
        let mut bytes = whole.clone();
        // Enough of them that a block, its length or its checksum is hit.
        bytes[whole.len() / 2..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, &bytes).unwrap();
        refused(&place, name, &["operator 'lines'", name, "byte"]);
        std::fs::write(&path, "plain text").unwrap();
        refused(&place, name, &["operator 'lines'", name]);
        // A good file before the bad one does not help.
        place.write("a.txt", "a b");
        refused(&place, &format!("a.txt {name}"), &["operator 'lines'", name]);
    }
}

#[test]
fn invalid_utf8_is_named_with_its_file_and_offset() {
    let place = Place::new();
    let mut bytes = text(50_000, 1_000).into_bytes();
    let line = bytes[..300_000].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    bytes[line + 5] = 0xff;
    place.write("bad.txt", &bytes);
    place.write("bad.gz", gzip(&bytes));
    for name in ["bad.txt", "bad.gz"] {
        refused(&place, name, &["operator 'lines'", name, &format!("byte {}", line + 5), "UTF-8"]);
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    place.write("in.txt", "a b a");
    place.write("full/notes.md", "mine");
    place.write("file", "mine");
    std::os::unix::fs::symlink(place.path("nowhere"), place.path("dangling")).unwrap();
    for (output, parts) in [
        ("full", &["full", "not empty", "--overwrite"][..]),
        ("file", &["file", "directory is needed"]),
        ("file/out", &["file"]),
        ("dangling", &["dangling"]),
    ] {
        for mode in MODES {
            let sentence = place.fails(&format!("--input in.txt --output {output} --execution-mode {mode}"));
            for part in parts {
                assert!(sentence.contains(part), "{output} {mode}: '{part}' is not in: {sentence}");
            }
        }
    }
    assert_eq!(place.names("full"), ["notes.md"]);
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"mine");
}

#[test]
fn a_missing_directory_for_temporary_files_is_named_when_it_is_needed() {
    let place = Place::new();
    place.write("in.txt", text(200_000, 150_000));
    let command = "--input in.txt --output out --execution-mode batch --memory 8MiB --temp-dir gone";
    let sentence = place.fails(command);
    assert!(
        sentence.contains("operator '") && sentence.contains("gone") && sentence.contains("No such file"),
        "{sentence}"
    );
}

#[test]
fn options_that_cannot_be_used() {
    let place = Place::new();
    place.write("in.txt", "a b a");
    let before = place.names(".");
    for (options, parts) in [
        ("--input in.txt --output out --parallelism 0", &["parallelism", "0"][..]),
        ("--input in.txt --output out --parallelism -1", &["parallelism", "-1"]),
        ("--input in.txt --output out --parallelism 1000000", &["parallelism", "32768"]),
        ("--input in.txt --output out --memory 1MiB", &["memory", "8MiB"]),
        ("--input in.txt --output out --memory much", &["memory", "much"]),
        ("--input in.txt --output out --execution-mode fast", &["execution-mode", "fast"]),
        ("--input in.txt --output out --unheard-of", &["--unheard-of"]),
        ("--input in.txt --output out --explain=pie", &["explain", "pie"]),
        ("--input in.txt --output out --progress perhaps", &["progress", "perhaps"]),
        ("--input in.txt --output out --config gone.toml", &["gone.toml"]),
        ("--input in.txt --output out --discard", &["--discard", "--output"]),
        ("--input in.txt", &["--output"]),
        ("--output out", &["--input"]),
    ] {
        let finished = place.run(options);
        // The command line's own errors go on with how it is used.
        let sentence = finished.stderr.split("\n\n").next().unwrap();
        assert!(!finished.status.success() && sentence.starts_with("error: "), "{options}: {finished:?}");
        assert!(
            !finished.stderr.contains("panicked") && finished.stdout.is_empty(),
            "{options}: {finished:?}"
        );
        for part in parts {
            assert!(sentence.contains(part), "{options}: '{part}' is not in: {sentence}");
        }
        assert_eq!(place.names("."), before, "{options}");
    }
}
