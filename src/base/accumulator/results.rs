//! Results of the accumulators of a job: typed for the program, as text and JSON for a report.

use super::Accumulator;
use crate::base::codec;
use crate::base::error::{Error, Result};
use crate::base::text;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// What the accumulators of a job came to, by name.
#[derive(Clone, Default, Debug)]
pub struct AccumulatorResults(BTreeMap<String, Entry>);

/// One accumulator: its value for [`AccumulatorResults::get`], its text and JSON for a report that knows no type.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) type_name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) text: String,
    pub(super) json: serde_json::Value,
}

impl AccumulatorResults {
    pub(super) fn new(entries: BTreeMap<String, Entry>) -> Self {
        AccumulatorResults(entries)
    }

    /// The result of an accumulator.
    ///
    /// # Errors
    /// When there is none of that name, or it is of another type.
    pub fn get<A: Accumulator>(&self, name: &str) -> Result<A::Result> {
        let Some(entry) = self.0.get(name) else {
            let near = text::did_you_mean(name, self.names());
            let known = self.names().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_string() } else { known };
            return Err(Error::config(format!(
                "there is no accumulator '{name}'{near}; the job has: {known}"
            )));
        };
        let wanted = std::any::type_name::<A>();
        if entry.type_name != wanted {
            return Err(Error::config(format!(
                "accumulator '{name}' is of type {}, not {wanted}",
                entry.type_name
            )));
        }
        Ok(codec::decode::<A>(&entry.bytes)?.result())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and values as text, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry.text.as_str()))
    }

    /// Whether the job used no accumulator.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for AccumulatorResults {
    /// One line for each: name and value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.names().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, value) in self.iter() {
            writeln!(f, "  {name:width$}  {value}")?;
        }
        Ok(())
    }
}

impl Serialize for AccumulatorResults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, entry)| (name, &entry.json)))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::accumulator::{Accumulators, DoubleCounter, LongCounter, Max};

    #[test]
    fn shown_as_lines_and_as_json() {
        let job = Accumulators::new();
        let attempt = job.attempt();
        attempt.local::<LongCounter>("lines").unwrap().add(1_234);
        attempt.local::<DoubleCounter>("rate").unwrap().add(0.5);
        attempt.local::<Max<i32>>("z").unwrap();
        attempt.publish().unwrap();
        let results = job.results().unwrap();
        assert_eq!(results.to_string(), "  lines  1,234\n  rate   0.5\n  z      none\n");
        assert_eq!(serde_json::to_string(&results).unwrap(), r#"{"lines":1234,"rate":0.5,"z":null}"#);
        assert!(!results.is_empty());
        let e = results.get::<LongCounter>("line").unwrap_err().to_string();
        assert!(e.starts_with("there is no accumulator 'line' (did you mean 'lines'?)"), "{e}");
    }
}
