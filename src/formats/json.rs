//! JSON as Python writes it: with a byte-order mark, and with `NaN` and `Infinity`, which JSON does not have (FORMATS 6.4).

use super::sniff::{FileKind, sniff, wrong_kind};
use crate::error::{Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// Parses JSON text. Bare `NaN`, `Infinity` and `-Infinity` become null; nesting deeper than 128 levels is refused.
///
/// # Errors
/// It is not JSON, or not text at all; the message gives line and column.
pub fn parse(bytes: &[u8], file: &Path) -> Result<Value> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(&without_non_finite(text)).map_err(|e| match sniff(bytes) {
        FileKind::Json | FileKind::Unknown => Error::format(format!("is not valid JSON: {e}")).file(file),
        _ => wrong_kind(bytes, file, "a JSON file"),
    })
}

/// Replaces the non-finite numbers outside strings by null.
fn without_non_finite(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Vec<u8> = Vec::new();
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while at < text.len() {
        match text[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b'N' | b'I' | b'-' if !in_string => {
                let word = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|w| text[at..].starts_with(w));
                if let Some(word) = word {
                    out.extend_from_slice(&text[copied..at]);
                    out.extend_from_slice(b"null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_json_is_read() {
        let text = "\u{feff}{\"a\": NaN, \"b\": [-Infinity, Infinity, -1.5], \"c\": \"NaN \\\" Infinity\", \"d\": 12345678901234567890123}";
        let value = parse(text.as_bytes(), Path::new("cfg.json")).unwrap();
        assert!(value["a"].is_null() && value["b"][0].is_null() && value["b"][1].is_null());
        assert_eq!(value["b"][2], -1.5);
        assert_eq!(value["c"], "NaN \" Infinity");
        assert_eq!(value["d"].as_f64(), Some(1.2345678901234568e22));
    }

    #[test]
    fn bad_text_is_refused() {
        let error = |text: &[u8]| parse(text, Path::new("cfg.json")).unwrap_err().to_string();
        assert!(error(b"{\"a\": 1,\n \"b\" 2}").contains("line 2"));
        assert!(error("[".repeat(100_000).as_bytes()).contains("recursion limit"));
        assert!(error(b"<!DOCTYPE html>").contains("HTML page"));
        assert!(error(b"").contains("is empty"));
        assert!(error(b"\"open \\").contains("not valid JSON"));
    }
}
