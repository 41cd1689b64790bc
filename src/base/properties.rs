//! Properties: the line format of `.properties` files.
//!
//! Method: as the Java class of that name reads it. A line is `key = value`, `key : value` or `key value`; `#` and
//! `!` start a comment line; a backslash at the end of a line joins the next one without its indentation; `\t`,
//! `\n`, `\r`, `\f` and `\uXXXX` are escapes, before any other character the backslash is dropped.

use crate::base::error::{Error, Result};

/// All pairs in the order of the file.
///
/// # Errors
/// A `\u` that is not followed by the code of a character, with its line.
pub(super) fn parse(content: &str, name: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut lines = content.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_string();
        while ends_in_odd_backslashes(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let wrong = |escape: &str| {
            Error::config(format!(
                "'{name}' line {}: '{escape}' is not a character; write \\u and four hexadecimal digits",
                index + 1
            ))
        };
        pairs.push((unescape(key).map_err(|e| wrong(&e))?, unescape(value).map_err(|e| wrong(&e))?));
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// Cuts at the first separator that is not escaped: `=`, `:` or blanks, with one of the first two among blanks.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find_map(|(at, c)| {
        let separates = !escaped && (matches!(c, '=' | ':') || is_blank(c));
        escaped = c == '\\' && !escaped;
        separates.then_some(at)
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start_matches(is_blank))
}

/// The text without its escapes, or the escape that is wrong.
fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    let mut high: Option<u32> = None;
    while let Some(c) = rest.next() {
        let escape = if c == '\\' { rest.next() } else { None };
        if escape == Some('u') {
            let digits: String = rest.clone().take(4).collect();
            let wrong = || format!("\\u{digits}");
            let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let unit = u32::from_str_radix(&digits, 16).ok().filter(|_| is_hex).ok_or_else(wrong)?;
            rest.nth(3);
            // Characters beyond 16 bits are written as two units, a high and a low surrogate.
            let code = match (high.take(), unit) {
                (None, 0xd800..0xdc00) => {
                    high = Some(unit);
                    continue;
                }
                (Some(h), 0xdc00..0xe000) => 0x1_0000 + ((h - 0xd800) << 10) + (unit - 0xdc00),
                (Some(_), _) => return Err(wrong()),
                (None, unit) => unit,
            };
            plain.push(char::from_u32(code).ok_or_else(wrong)?);
            continue;
        }
        if let Some(h) = high {
            return Err(format!("\\u{h:04x}"));
        }
        plain.push(match escape {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('f') => '\u{c}',
            Some(other) => other,
            None => c,
        });
    }
    match high {
        Some(h) => Err(format!("\\u{h:04x}")),
        None => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(content: &str) -> Vec<(String, String)> {
        parse(content, "p.properties").unwrap()
    }

    #[test]
    fn lines_in_all_forms() {
        for (line, key, value) in [
            ("a=1", "a", "1"),
            ("  a : 1 2 ", "a", "1 2 "),
            ("a\t1", "a", "1"),
            ("a", "a", ""),
            ("a = = b", "a", "= b"),
            ("a\\ b\\=c = d", "a b=c", "d"),
            ("path = c:\\\\temp", "path", "c:\\temp"),
            ("a = x\\ty\\u00e9\\uD83D\\uDE00", "a", "x\tyé😀"),
            ("a = one, \\\r\n    two\r\n", "a", "one, two"),
            ("a = end\\", "a", "end"),
            ("=v", "", "v"),
        ] {
            assert_eq!(pairs(line), [(key.to_string(), value.to_string())], "{line:?}");
        }
        assert_eq!(pairs("# c\n\n ! c\\\na=1\nb=2").len(), 2);
    }

    #[test]
    fn escapes_that_are_no_character_name_their_line() {
        for line in
            ["\\u12", "\\uzzzz", "\\u+123", "\\ud83d", "\\ud83dx", "\\ud83d\\u0041", "\\udc00", "\\uéé"]
        {
            let e = parse(&format!("ok=1\na={line}"), "p.properties").unwrap_err().to_string();
            assert!(e.starts_with("'p.properties' line 2: '\\u"), "{line}: {e}");
        }
    }
}
