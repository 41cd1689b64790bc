//! What the example writes: the same counts in both modes, at any parallelism, from any kind of input.

use super::support::{Counts, Place, counted, gzip, text, zst};

const MODES: [&str; 2] = ["batch", "streaming"];

/// Runs the example on `input` and compares what it wrote with `expected`, words in the order of their counts.
fn check(
    place: &Place,
    input: &str,
    mode: &str,
    options: &str,
    expected: &Counts,
) -> super::support::Finished {
    let finished = place
        .succeeds(&format!("--input {input} --output out --overwrite --execution-mode {mode} {options}"));
    let mut last = Counts::new();
    let rows = place.rows();
    for (word, count) in &rows {
        let seen = last.insert(word.clone(), *count).unwrap_or(0);
        // A key lives in one subtask, which writes one file: its counts come in order, none left out.
        assert!(
            mode == "batch" && seen == 0 || mode == "streaming" && *count == seen + 1,
            "{word} {seen} {count}"
        );
    }
    assert!(last == *expected, "{input} {mode} {options}: {} words, expected {}", last.len(), expected.len());
    finished
}

#[test]
fn counts_are_equal_in_both_modes_at_any_parallelism_on_any_input() {
    let place = Place::new();
    let text = text(20_000, 700);
    let (a, b) = text.split_at(text.len() / 2 + 3);
    place.write("in/a.txt", a);
    place.write("in/b.txt", b);
    place.write("in/.hidden", "never");
    place.write("one/all.gz", [gzip(a), gzip(""), gzip(b)].concat());
    place.write("one/all.zst", [zst(a), zst(b)].concat());
    place.write("mixed/a.gz", gzip(a));
    place.write("mixed/b.txt", b);
    // A file is a line end, too: a word that was cut in two stays in two.
    let halves = counted(&format!("{a}\n{b}"));
    let whole = counted(&text);
    for mode in MODES {
        for parallelism in [1, 2, 5] {
            let options = format!("--parallelism {parallelism}");
            for (input, expected) in [
                ("in", &halves),
                ("in/*.txt", &halves),
                ("in/a.txt in/b.txt", &halves),
                ("one/all.gz", &whole),
                ("one/all.zst", &whole),
                ("mixed", &halves),
            ] {
                check(&place, input, mode, &options, expected);
            }
        }
    }
}

#[test]
fn little_memory_spills_and_gives_the_same_counts() {
    let place = Place::new();
    let text = text(500_000, 230_000);
    place.write("in.txt", &text);
    let expected = counted(&text);
    for parallelism in [1, 2, 5] {
        let options = format!("--parallelism {parallelism} --memory 16MiB");
        let finished = check(&place, "in.txt", "batch", &options, &expected);
        let spilled = finished.column("spilled");
        assert!(spilled.iter().any(|bytes| bytes.ends_with("iB")), "{spilled:?}: {}", finished.stdout);
    }
    let finished = check(&place, "in.txt", "batch", "--parallelism 2 --memory 1GiB", &expected);
    assert!(finished.column("spilled").iter().all(|bytes| bytes == "-"), "{}", finished.stdout);
    check(&place, "in.txt", "streaming", "--parallelism 2 --memory 16MiB", &expected);
}

#[test]
fn words_end_at_any_white_space_and_are_quoted_where_csv_needs_it() {
    let place = Place::new();
    let text = "one\u{a0}two\u{2003}three\u{3000}\u{85}two\tone\u{b}a,b \"quoted\" say\"so\" é日本 É x\u{200b}y\r\n\
                a,b\u{2028}two # '=1+1' ; \u{1f600} -- \"\" , \u{feff}\n\n \n last";
    place.write("in.txt", text);
    let expected = counted(text);
    assert!(expected["two"] == 3 && expected["a,b"] == 2 && expected.contains_key("x\u{200b}y"));
    for mode in MODES {
        check(&place, "in.txt", mode, "--parallelism 2", &expected);
    }
    let raw: Vec<u8> = place.files().into_iter().flat_map(|(_, bytes)| bytes).collect();
    let raw = String::from_utf8(raw).unwrap();
    for line in ["\"a,b\",2", "\"\"\"quoted\"\"\",1", "\"say\"\"so\"\"\",1", "two,3", "last,1"] {
        assert!(raw.lines().any(|l| l == line), "{line} is not in {raw}");
    }
}

/// The same input, parallelism and memory give the same bytes.
#[test]
fn a_batch_run_twice_writes_the_same_bytes() {
    let place = Place::new();
    let text = text(150_000, 70_000);
    let third = text.len() / 3;
    for (i, part) in [&text[..third], &text[third..2 * third], &text[2 * third..]].iter().enumerate() {
        place.write(&format!("in/{i}.txt"), part);
    }
    for options in ["--parallelism 2", "--parallelism 5 --memory 8MiB"] {
        let arguments = format!("--input in --output out --overwrite --execution-mode batch {options}");
        let runs: Vec<_> = (0..2).map(|_| drop(place.succeeds(&arguments))).map(|()| place.files()).collect();
        assert!(runs[0].len() > 1, "{options}");
        assert!(runs[0] == runs[1], "{options}: two runs differ");
    }
}

#[test]
fn no_words_give_an_empty_directory() {
    let place = Place::new();
    place.write("empty.txt", "");
    place.write("blank.txt", " \n\t\u{3000}\r\n");
    place.write("empty.gz", gzip(""));
    place.write("empty.zst", zst(""));
    std::fs::create_dir(place.path("nothing")).unwrap();
    for mode in MODES {
        for input in ["empty.txt", "blank.txt", "empty.gz", "empty.zst", "nothing", "empty.txt blank.txt"] {
            check(&place, input, mode, "--parallelism 2", &Counts::new());
            assert_eq!(place.names("out"), [""; 0]);
        }
    }
}

#[test]
fn explain_shows_the_plan_and_runs_nothing() {
    let place = Place::new();
    place.write("in.txt", "a b a");
    for mode in MODES {
        let run = |explain: &str| {
            place.succeeds(&format!("--input in.txt --output out {explain} --execution-mode {mode}")).stdout
        };
        let plan = run("--explain");
        for part in
            ["Logical plan", "'words'", "uid=counts", if mode == "batch" { "Stages" } else { "Chains" }]
        {
            assert!(plan.contains(part), "{part} is not in {plan}");
        }
        assert_eq!(run("--explain=text"), plan);
        let graph = run("--explain=graph");
        // Nothing but the graph, so that it can be piped into a renderer.
        assert!(graph.starts_with("flowchart "), "{graph}");
        let lines: Vec<&str> = graph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let opened = lines.iter().filter(|line| line.starts_with("subgraph ")).count();
        assert!(opened >= 2 && opened == lines.iter().filter(|&&line| line == "end").count(), "{graph}");
        for (open, close) in [('[', ']'), ('(', ')')] {
            assert_eq!(graph.matches(open).count(), graph.matches(close).count(), "{graph}");
        }
        let is_node = |id: &str| {
            lines
                .iter()
                .any(|line| line.starts_with(&format!("{id}[")) || line.starts_with(&format!("{id}(")))
        };
        let arrows: Vec<_> =
            lines.iter().filter(|line| line.contains("-->") || line.contains(".->")).collect();
        assert!(arrows.len() >= 3, "{graph}");
        for arrow in arrows {
            let ends: Vec<&str> = arrow.split_whitespace().collect();
            assert!(is_node(ends[0]) && is_node(ends[ends.len() - 1]), "{arrow} in {graph}");
        }
        assert!(!place.path("out").exists());
        assert!(
            place
                .succeeds(&format!("--input in.txt --explain --execution-mode {mode}"))
                .stdout
                .contains("discard")
        );
    }
}

#[test]
fn discard_counts_instead_of_writing() {
    let place = Place::new();
    place.write("in.txt", "a b a");
    let before = place.names(".");
    for (mode, results) in [("batch", "2"), ("streaming", "3")] {
        let finished = place.succeeds(&format!("--input in.txt --discard --execution-mode {mode}"));
        assert!(finished.stdout.contains("discard"), "{}", finished.stdout);
        let out = finished.column("records out");
        assert!(out.iter().any(|count| count == results), "{mode}: {}", finished.stdout);
        assert_eq!(place.names("."), before);
    }
}

#[test]
fn overwrite_replaces_parts_and_nothing_else() {
    let place = Place::new();
    place.write("in.txt", "a b a");
    place.write("other.txt", "c");
    std::fs::create_dir(place.path("out")).unwrap();
    for mode in MODES {
        // An empty directory is fine without the option.
        place.succeeds(&format!("--input in.txt --output out --parallelism 5 --execution-mode {mode}"));
        assert_eq!(place.rows().into_iter().collect::<Counts>(), counted("a b a"));
        place.write("out/notes.md", "mine");
        place.succeeds(&format!(
            "--input other.txt --output out --overwrite --parallelism 1 --execution-mode {mode}"
        ));
        assert!(place.names("out").contains(&"notes.md".to_string()));
        std::fs::remove_file(place.path("out/notes.md")).unwrap();
        assert_eq!(place.rows(), [("c".to_string(), 1)]);
        for name in place.names("out") {
            std::fs::remove_file(place.path("out").join(name)).unwrap();
        }
    }
}

#[test]
fn progress_is_shown_when_asked_for() {
    let place = Place::new();
    place.write("in.txt", text(200_000, 50_000));
    for mode in MODES {
        let run = |when: &str| {
            let arguments = format!("--input in.txt --discard --progress {when} --execution-mode {mode}");
            place.succeeds(&arguments).stderr
        };
        let shown = run("always");
        assert!(shown.starts_with("[0s] ") && shown.contains("records"), "{shown}");
        // Standard error is a pipe here.
        assert_eq!((run("never"), run("auto")), (String::new(), String::new()));
    }
}
