//! Rows: what jobs write and what they should have written, compared row by row.

use std::collections::BTreeMap;
use std::fmt;

/// A line of output. Of a kind and key, rows come in the order of `at`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub kind: char,
    pub key: u64,
    pub at: i64,
    pub value: String,
}

impl Row {
    pub fn new(kind: char, key: u64, at: i64, value: impl ToString) -> Row {
        Row { kind, key, at, value: value.to_string() }
    }
    pub fn parse(line: &str) -> Option<Row> {
        let mut fields = line.splitn(4, ',');
        let mut chars = fields.next()?.chars();
        let (kind, key) = (chars.next()?, fields.next()?.parse().ok()?);
        let (at, value) = (fields.next()?.parse().ok()?, fields.next()?.to_string());
        chars.next().is_none().then_some(Row { kind, key, at, value })
    }
    /// Timers of processing time fire in no order that records would tell.
    fn is_ordered(&self) -> bool {
        self.kind != 'p'
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.kind, self.key, self.at, self.value)
    }
}

/// How what was written differs from what should have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub lost: u64,
    pub duplicated: u64,
    /// Rows behind one of the same kind and key that should come later.
    pub out_of_order: u64,
    /// Rows that should not exist.
    pub wrong: u64,
    /// The first of each, for people.
    pub examples: Vec<String>,
}

impl Difference {
    pub fn is_none(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.wrong == 0
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {}, duplicated {}, out of order {}, wrong {}; {}",
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.wrong,
            self.examples.join("; ")
        )
    }
}

/// Compares lines, in the order of their files, with the rows that should be there.
pub fn compare<'a>(expected: &[Row], lines: impl IntoIterator<Item = &'a str>) -> Difference {
    let mut left: BTreeMap<Row, i64> = BTreeMap::new();
    expected.iter().for_each(|row| *left.entry(row.clone()).or_default() += 1);
    let mut last: BTreeMap<(char, u64), i64> = BTreeMap::new();
    let mut difference = Difference::default();
    let mut example = |counter: &mut u64, what: &str, of: &dyn fmt::Display| {
        *counter += 1;
        if *counter <= 3 {
            difference.examples.push(format!("{what}: {of}"));
        }
    };
    let (mut lost, mut duplicated, mut out_of_order, mut wrong) = (0, 0, 0, 0);
    for line in lines {
        let Some((row, count)) =
            Row::parse(line).and_then(|row| Some((left.get_mut(&row)?, row))).map(|(c, r)| (r, c))
        else {
            example(&mut wrong, "wrong", &line);
            continue;
        };
        *count -= 1;
        if *count < 0 {
            example(&mut duplicated, "duplicated", &line);
            continue;
        }
        let before = last.entry((row.kind, row.key)).or_insert(i64::MIN);
        if row.is_ordered() && row.at < *before {
            example(&mut out_of_order, "out of order", &line);
        }
        *before = row.at.max(*before);
    }
    for (row, count) in left {
        for _ in 0..count.max(0) {
            example(&mut lost, "lost", &row);
        }
    }
    Difference { lost, duplicated, out_of_order, wrong, ..difference }
}

/// A comparison that finds nothing proves nothing unless it finds what is planted.
#[test]
fn each_kind_of_difference_is_counted() {
    let row = |key, at| Row::new('r', key, at, at);
    let expected =
        [row(1, 1), row(1, 2), row(1, 3), row(2, 1), Row::new('p', 1, 5, ""), Row::new('p', 1, 6, "")];
    let counts = |lines: &str| {
        let d = compare(&expected, lines.lines());
        (d.lost, d.duplicated, d.out_of_order, d.wrong)
    };
    let all = "r,1,1,1\nr,2,1,1\nr,1,2,2\nr,1,3,3\np,1,6,\np,1,5,\n";
    assert_eq!(counts(all), (0, 0, 0, 0));
    assert_eq!(counts(&all.replace("r,1,2,2\n", "")), (1, 0, 0, 0));
    assert_eq!(counts(&format!("{all}r,1,2,2\n")), (0, 1, 0, 0));
    assert_eq!(counts(&all.replace("r,1,2,2\nr,1,3,3", "r,1,3,3\nr,1,2,2")), (0, 0, 1, 0));
    assert_eq!(counts(&all.replace("r,1,2,2", "r,1,2,1")), (1, 0, 0, 1));
    assert_eq!(counts(&format!("{all}r,1,")), (0, 0, 0, 1));
    assert_eq!(counts(""), (6, 0, 0, 0));
}
