//! Parameters: a program's own options, from its arguments, files, readers and the environment.
//!
//! Place: read at the start of `main`, captured by user functions (a clone is one reference), shown with the job.
//! Method: a sorted map from key to the values it was given, in order. Nothing is interpreted before it is asked
//! for with a type.
//! Invariants: never changed after it is built; [`Parameters::merged_with`] makes a new one.

use super::properties;
use crate::base::config::ConfigFile;
use crate::base::config::{parse_toml, toml_scalar};
use crate::base::error::{Error, Result};
use crate::base::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// The values of one key; `None` is a flag, given without a value.
type Values = Vec<Option<String>>;

/// Named options of a program. Cloning is cheap.
///
/// ```
/// use mainstem::base::parameters::Parameters;
///
/// let given = Parameters::from_args(["--input", "words.txt", "--top=10", "--verbose"])?;
/// assert_eq!(given.required("input")?, "words.txt");
/// assert_eq!(given.parse_or("top", 3)?, 10);
/// assert!(given.flag("verbose")?);
/// assert!(given.required("output").is_err());
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Values>", into = "BTreeMap<String, Values>")]
pub struct Parameters(Arc<BTreeMap<String, Values>>);

impl From<BTreeMap<String, Values>> for Parameters {
    fn from(map: BTreeMap<String, Values>) -> Self {
        Parameters(Arc::new(map))
    }
}

impl From<Parameters> for BTreeMap<String, Values> {
    fn from(parameters: Parameters) -> Self {
        Arc::unwrap_or_clone(parameters.0)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Parameters {
    /// Pairs of key and value; a key that comes again has several values.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map: BTreeMap<String, Values> = BTreeMap::new();
        for (key, value) in pairs {
            map.entry(key.into()).or_default().push(Some(value.into()));
        }
        map.into()
    }
}

impl Parameters {
    /// No parameters.
    pub fn new() -> Self {
        Parameters::default()
    }

    /// From arguments without the name of the program: `--key value`, `--key=value`, `--flag`, and the same with
    /// one dash. A word after a key is its value unless it starts with a dash; a negative number is a value.
    ///
    /// # Errors
    /// A word that belongs to no key, or a dash without a key.
    pub fn from_args<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut map: BTreeMap<String, Values> = BTreeMap::new();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            let arg = arg.as_ref();
            let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                return Err(Error::config(format!(
                    "argument '{arg}' belongs to no key; write --key {arg} or --key={arg}"
                )));
            };
            let (key, value) = match body.split_once('=') {
                Some((key, value)) => (key, Some(value.to_string())),
                None => (body, args.next_if(|next| is_value(next.as_ref())).map(|v| v.as_ref().to_string())),
            };
            if key.is_empty() || key.starts_with('-') {
                return Err(Error::config(format!(
                    "argument '{arg}' has no key after its dashes; write --key value"
                )));
            }
            map.entry(key.to_string()).or_default().push(value);
        }
        Ok(map.into())
    }

    /// From a file: TOML if its name ends in `.toml`, lines of `key=value` (`.properties`) otherwise.
    ///
    /// # Errors
    /// When it cannot be read or is not in that format.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let content = text::read_small_file(path)?;
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("toml") => {
                Parameters::from_toml(&content, &path.display().to_string())
            }
            _ => Parameters::from_properties(&content, &path.display().to_string()),
        }
    }

    /// From any reader of lines `key=value` (`.properties`); `name` is what an error calls it.
    ///
    /// # Errors
    /// When it cannot be read, is too large or is not in that format.
    pub fn from_reader(from: impl Read, name: &str) -> Result<Self> {
        Parameters::from_properties(&text::read_small(from, name)?, name)
    }

    /// From text in the format of `.properties` files; `name` is what an error calls it.
    ///
    /// # Errors
    /// An escape that is not one, with its line.
    pub fn from_properties(content: &str, name: &str) -> Result<Self> {
        Ok(properties::parse(content, name)?.into_iter().collect())
    }

    /// From TOML: the keys of nested tables are joined with dots, an array is several values.
    ///
    /// # Errors
    /// What is not TOML, with line and column, and arrays of tables or arrays.
    pub fn from_toml(content: &str, name: &str) -> Result<Self> {
        let table = parse_toml(ConfigFile { path: Path::new(name), text: content })?;
        let mut map = BTreeMap::new();
        flatten(&table, "", name, &mut map)?;
        Ok(map.into())
    }

    /// From the environment variables whose names start with `prefix`, without the prefix. What is not UTF-8 in a
    /// value is replaced.
    pub fn from_environment(prefix: &str) -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| {
                let key = name.to_str()?.strip_prefix(prefix)?.to_string();
                Some((key, value.to_string_lossy().into_owned()))
            })
            .filter(|(key, _)| !key.is_empty())
            .collect()
    }

    /// These parameters and those of `later`; a key that is in both has the values of `later` alone.
    #[must_use]
    pub fn merged_with(&self, later: &Parameters) -> Parameters {
        let mut map = (*self.0).clone();
        map.extend(later.0.iter().map(|(key, values)| (key.clone(), values.clone())));
        map.into()
    }

    /// Whether the key was given, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of a key, the last one if it was given several times. `None` if it was not given or is a flag.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.last()?.as_deref()
    }

    /// All values of a key in the order they were given.
    pub fn get_all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(key).into_iter().flatten().filter_map(|value| value.as_deref())
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// When it is missing or has no value; the message names the keys that were given.
    pub fn required(&self, key: &str) -> Result<&str> {
        if self.has(key) {
            return self.given(key)?.ok_or_else(|| no_value(key));
        }
        let keys: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let near = text::did_you_mean(key, keys.iter().copied());
        let given =
            if keys.is_empty() { "none was given".into() } else { format!("given: {}", keys.join(", ")) };
        Err(Error::config(format!("parameter '{key}' is required{near}; {given}; add --{key} VALUE")))
    }

    /// The value of a key as a `T`, or `None` if the key was not given.
    ///
    /// # Errors
    /// When it has no value or the value is not a `T`; the message names key, value and type.
    pub fn parse<T: FromStr>(&self, key: &str) -> Result<Option<T>>
    where
        T::Err: fmt::Display,
    {
        let Some(value) = self.given(key)? else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|e| {
            let wanted = std::any::type_name::<T>();
            let wanted = wanted.rsplit("::").next().unwrap_or(wanted);
            Error::config(format!("parameter '{key}': '{value}' is not a value of type {wanted}: {e}"))
        })
    }

    /// The value of a key as a `T`, or `default` if the key was not given.
    ///
    /// # Errors
    /// As [`Parameters::parse`]: a value that cannot be read is never replaced by the default.
    pub fn parse_or<T: FromStr>(&self, key: &str, default: T) -> Result<T>
    where
        T::Err: fmt::Display,
    {
        Ok(self.parse(key)?.unwrap_or(default))
    }

    /// Whether a flag is set: `--key` alone or with a value of true.
    ///
    /// # Errors
    /// When it has a value that is neither true nor false.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.0.get(key).and_then(|values| values.last()) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => self.parse_or(key, false),
        }
    }

    /// The last value of a key, an error if that is a flag.
    fn given(&self, key: &str) -> Result<Option<&str>> {
        match self.0.get(key).and_then(|values| values.last()) {
            None => Ok(None),
            Some(None) => Err(no_value(key)),
            Some(Some(value)) => Ok(Some(value)),
        }
    }

    /// Every key with every value, sorted by key; `None` for a flag.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), value.as_deref())))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn no_value(key: &str) -> Error {
    Error::config(format!("parameter '{key}' has no value; write --{key} VALUE"))
}

/// Whether a word that follows a key is its value rather than the next key.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word == "-" || word.parse::<f64>().is_ok()
}

fn flatten(table: &toml::Table, prefix: &str, name: &str, into: &mut BTreeMap<String, Values>) -> Result<()> {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) => flatten(inner, &format!("{key}."), name, into)?,
            toml::Value::Array(items) => {
                let values = into.entry(key.clone()).or_default();
                for item in items {
                    let item = toml_scalar(item).ok_or_else(|| {
                        Error::config(format!(
                            "'{name}': '{key}' holds a value of type {}; an array may hold texts, numbers and \
                             true/false",
                            item.type_str()
                        ))
                    })?;
                    values.push(Some(item));
                }
            }
            scalar => into.entry(key).or_default().push(toml_scalar(scalar)),
        }
    }
    Ok(())
}

impl fmt::Display for Parameters {
    /// One `key = value` per line, sorted by key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.keys().map(|key| key.chars().count()).max().unwrap_or(0);
        for (key, value) in self.iter() {
            match value {
                Some(value) => writeln!(f, "{key:width$} = {value}")?,
                None => writeln!(f, "{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Parameters {
        Parameters::from_args(line.split_whitespace()).unwrap()
    }

    /// O2: from arguments.
    #[test]
    fn arguments_in_all_forms() {
        let p = args("--input a.txt -n -5 --verbose --rate=0.5 --eq=a=b -x=1 --empty= --last");
        assert_eq!(p.get("input"), Some("a.txt"));
        assert_eq!(p.parse::<i32>("n").unwrap(), Some(-5));
        assert_eq!(p.parse_or("rate", 1.0).unwrap(), 0.5);
        assert_eq!((p.get("eq"), p.get("x"), p.get("empty")), (Some("a=b"), Some("1"), Some("")));
        assert!(p.flag("verbose").unwrap() && p.flag("last").unwrap() && !p.flag("absent").unwrap());
        assert!(p.has("verbose") && p.get("verbose").is_none());
        assert_eq!(p.len(), 8);
    }

    #[test]
    fn arguments_without_a_key_are_errors() {
        for (words, expected) in [
            (vec!["stray"], "argument 'stray' belongs to no key; write --key stray or --key=stray"),
            (vec!["--a=1", "b"], "argument 'b' belongs to no key"),
            (vec!["--"], "argument '--' has no key"),
            (vec!["-"], "argument '-' has no key"),
            (vec!["--=x"], "argument '--=x' has no key"),
            (vec!["---k", "v"], "argument '---k' has no key"),
        ] {
            let e = Parameters::from_args(&words).unwrap_err().to_string();
            assert!(e.starts_with(expected), "{words:?}: {e}");
        }
    }

    /// O2: a required key that is missing is an error, a default holds only for a missing key.
    #[test]
    fn missing_and_bad_values_name_their_key() {
        let p = args("--input a --top ten --flag");
        assert_eq!(p.required("input").unwrap(), "a");
        assert_eq!(
            p.required("imput").unwrap_err().to_string(),
            "parameter 'imput' is required (did you mean 'input'?); given: flag, input, top; add --imput VALUE"
        );
        assert_eq!(
            Parameters::new().required("x").unwrap_err().to_string(),
            "parameter 'x' is required; none was given; add --x VALUE"
        );
        assert_eq!(p.parse_or("absent", 7u8).unwrap(), 7);
        let e = p.parse_or("top", 3u64).unwrap_err().to_string();
        assert!(e.starts_with("parameter 'top': 'ten' is not a value of type u64: "), "{e}");
        for e in [p.required("flag").unwrap_err(), p.parse::<String>("flag").unwrap_err()] {
            assert_eq!(e.to_string(), "parameter 'flag' has no value; write --flag VALUE");
        }
        assert!(p.flag("top").is_err());
    }

    #[test]
    fn several_values_are_kept_in_order_and_the_last_one_counts() {
        let p = args("--in b --in a --in c");
        assert_eq!(p.get_all("in").collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(p.get("in"), Some("c"));
        assert_eq!(p.get_all("out").count(), 0);
    }

    /// O2: later wins when sources are merged.
    #[test]
    fn merging_replaces_whole_keys() {
        let file = Parameters::from_properties("in=a\nin=b\ntop=3", "f").unwrap();
        let both = file.merged_with(&args("--in c --new"));
        assert_eq!(both.get_all("in").collect::<Vec<_>>(), ["c"]);
        assert_eq!((both.get("top"), both.has("new")), (Some("3"), true));
        assert_eq!(file.get_all("in").count(), 2, "the merged ones are unchanged");
    }

    /// O2: from a file and from a stream.
    #[test]
    fn files_and_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("p.properties"), "a.b = 1\n").unwrap();
        std::fs::write(path("p.toml"), "list = [1, 2]\n[a]\nb = true\nc = 'x'\n").unwrap();
        std::fs::write(path("bad.TOML"), "x = [[1]]").unwrap();
        assert_eq!(Parameters::from_file(path("p.properties")).unwrap().get("a.b"), Some("1"));
        let toml = Parameters::from_file(path("p.toml")).unwrap();
        assert!(toml.flag("a.b").unwrap());
        assert_eq!(toml.get_all("list").collect::<Vec<_>>(), ["1", "2"]);
        let e = Parameters::from_file(path("bad.TOML")).unwrap_err().to_string();
        assert!(
            e.ends_with("'x' holds a value of type array; an array may hold texts, numbers and true/false")
        );
        let e = Parameters::from_file(path("none")).unwrap_err().to_string();
        assert!(e.starts_with("cannot open '") && e.contains("none"), "{e}");
        assert_eq!(Parameters::from_reader(&b"k: v"[..], "stdin").unwrap().get("k"), Some("v"));
        let e = Parameters::from_toml("a = ", "p.toml").unwrap_err().to_string();
        assert!(e.starts_with("'p.toml' line 1, column"), "{e}");
    }

    #[test]
    fn survives_serialisation_and_prints_aligned() {
        let p = args("--top 10 --input a --verbose");
        let json = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<Parameters>(&json).unwrap(), p);
        crate::base::codec::check_record(&p).unwrap();
        assert_eq!(p.to_string(), "input   = a\ntop     = 10\nverbose\n");
        assert!(Parameters::from_environment("MAINSTEM_NO_SUCH_PREFIX_").is_empty());
    }
}
