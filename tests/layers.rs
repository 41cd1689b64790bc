//! Layers: dependencies between the folders of the source point down only.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The folders (or files) of `src`, lowest first, with what a layer may use beside those below it. `connectors` and
/// `executors` rest on the same contracts and do not know each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["text"],
    &["services"],
    &["semantics"],
    &["operator"],
    &["plan"],
    &["executors", "connectors"],
    &["api"],
    &["testing"],
    &["prelude"],
    &["bin"],
];

/// Names that `lib.rs` exports at the root: they belong to `base`, and any layer may spell them short.
const ROOT_EXPORTS: &[&str] = &["Data", "Error", "ErrorKind", "Key", "Result", "State", "Timestamp"];

fn height(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&layer))
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The first names of all `crate::` paths of a line of code; those in braces too.
fn used(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split(';').next().unwrap_or_default();
                names
                    .extend(list.split([',', '}']).map(str::trim).filter_map(|path| path.split("::").next()));
            }
            None => names.extend(rest.split(|c| !is_name(c)).next()),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What is wrong with a line of a file of `layer`.
fn wrong(layer: &str, line: &str) -> Vec<String> {
    let Some(from) = height(layer) else { return vec![format!("'{layer}' is not a layer")] };
    let mut wrong = Vec::new();
    for name in used(line) {
        match height(name) {
            None if ROOT_EXPORTS.contains(&name) => {}
            None => wrong.push(format!("'{name}' is neither a layer nor exported at the root")),
            Some(to) if to > from => wrong.push(format!("'{layer}' uses '{name}', which is above it")),
            Some(to) if to == from && name != layer => {
                wrong.push(format!("'{layer}' uses '{name}', which is beside it"))
            }
            Some(_) => {}
        }
    }
    wrong
}

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "found {} files below {}", files.len(), root.display());
    let mut report = String::new();
    for path in files {
        let inside = path.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let layer = first.trim_end_matches(".rs");
        if layer == "lib" {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for wrong in wrong(layer, line) {
                writeln!(report, "src/{}:{}: {wrong}", inside.display(), number + 1).unwrap();
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn an_arrow_that_points_up_is_found() {
    assert_eq!(wrong("operator", "use crate::base::batch::Batch; // crate::api"), Vec::<String>::new());
    assert_eq!(wrong("executors", "fn f() -> crate::Result<()> {"), Vec::<String>::new());
    assert_eq!(wrong("operator", "use crate::connectors::source::Poll;").len(), 1);
    assert_eq!(wrong("executors", "use crate::{base::batch::Batch, api::JobClient};").len(), 1);
    assert_eq!(wrong("executors", "let t = crate::connectors::source::TextSource::new();").len(), 1);
    assert_eq!(wrong("base", "use crate::nowhere::Thing;").len(), 1);
    assert_eq!(wrong("nowhere", "").len(), 1);
}
