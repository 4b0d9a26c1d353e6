//! Colours for what is typed: words, numbers, strings, comments, and the bracket that belongs to the one at the cursor.

use crate::script::scan::{Kind, Piece, outline};
use crate::session::KEYWORDS;

const RESET: &str = "\x1b[0m";
const KEYWORD: &str = "\x1b[35m";
const CALL: &str = "\x1b[34m";
const NUMBER: &str = "\x1b[36m";
const TEXT: &str = "\x1b[32m";
/// Comments, hints.
pub(super) const DIM: &str = "\x1b[90m";
const COMMAND: &str = "\x1b[33m";
const BRACKETS: &str = "\x1b[1;7m";

/// The line in colours, with the brackets at the cursor (a byte of it) marked. Escape sequences are all that is added.
pub(super) fn coloured(line: &str, cursor: Option<usize>, is_command: bool) -> String {
    if is_command {
        let end = line.find(char::is_whitespace).unwrap_or(line.len());
        return format!("{COMMAND}{}{RESET}{}", &line[..end], &line[end..]);
    }
    let pieces = outline(line).pieces;
    let matched = cursor.map_or([None, None], |cursor| matched(line, &pieces, cursor));
    let (mut out, mut next) = (String::with_capacity(2 * line.len()), 0);
    for (i, (kind, range)) in pieces.iter().enumerate() {
        out.push_str(&line[next..range.start]);
        let piece = &line[range.clone()];
        match kind {
            Kind::Comment => wrap(&mut out, DIM, piece),
            Kind::Text => wrap(&mut out, TEXT, piece),
            Kind::Open | Kind::Close if matched.contains(&Some(range.start)) => wrap(&mut out, BRACKETS, piece),
            Kind::Other => {
                let called = matches!(pieces.get(i + 1), Some((Kind::Open, after)) if line[after.clone()] == *"(");
                words(&mut out, piece, called);
            }
            _ => out.push_str(piece),
        }
        next = range.end;
    }
    // What is left is a string that is still open.
    let rest = &line[next..];
    match rest.find('`') {
        Some(at) => {
            out.push_str(&rest[..at]);
            wrap(&mut out, TEXT, &rest[at..]);
        }
        None => out.push_str(rest),
    }
    out
}

fn wrap(out: &mut String, colour: &str, text: &str) {
    // Each line by itself: the editor may break it.
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.extend([colour, line, RESET]);
    }
}

/// A run of names, numbers and operators; `called` when a bracket follows it.
fn words(out: &mut String, text: &str, called: bool) {
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_ascii_digit() => rest.find(|c: char| !belongs(c) && c != '.').unwrap_or(rest.len()),
            c if belongs(c) => rest.find(|c| !belongs(c)).unwrap_or(rest.len()),
            _ => rest.find(belongs).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(length);
        match first {
            c if c.is_ascii_digit() => wrap(out, NUMBER, word),
            _ if KEYWORDS.contains(&word) => wrap(out, KEYWORD, word),
            c if belongs(c) && called && after.is_empty() => wrap(out, CALL, word),
            _ => out.push_str(word),
        }
        rest = after;
    }
}

/// The bracket at or before the cursor, and its partner.
fn matched(line: &str, pieces: &[Piece], cursor: usize) -> [Option<usize>; 2] {
    let brackets: Vec<(bool, usize)> = pieces
        .iter()
        .filter(|(kind, _)| matches!(kind, Kind::Open | Kind::Close))
        .map(|(kind, range)| (*kind == Kind::Open, range.start))
        .collect();
    let at = |byte: usize| brackets.iter().position(|(_, start)| *start == byte);
    let Some(here) = at(cursor).or_else(|| cursor.checked_sub(1).and_then(at)) else { return [None, None] };
    let (opens, start) = brackets[here];
    let (mut depth, mut partner) = (0usize, None);
    let others: Box<dyn Iterator<Item = &(bool, usize)>> =
        if opens { Box::new(brackets[here + 1..].iter()) } else { Box::new(brackets[..here].iter().rev()) };
    for (open, byte) in others {
        if *open == opens {
            depth += 1;
        } else if depth == 0 {
            partner = Some(*byte);
            break;
        } else {
            depth -= 1;
        }
    }
    let fits = |byte: usize| {
        let pair = if opens { (start, byte) } else { (byte, start) };
        matches!((&line[pair.0..=pair.0], &line[pair.1..=pair.1]), ("(", ")") | ("[", "]") | ("{", "}"))
    };
    [Some(start).filter(|_| partner.is_some_and(fits)), partner.filter(|byte| fits(*byte))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(coloured: &str) -> String {
        let mut out = String::new();
        let mut rest = coloured;
        while let Some((before, after)) = rest.split_once('\x1b') {
            out.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        out + rest
    }

    #[test]
    fn only_colours_are_added() {
        for line in [
            "let x = f(1.5, \"a\\\"(\") // note",
            "/* a\nb */ x",
            "`open ${x",
            "\"open (",
            "if (a[",
            "ü + 'c' ] )",
            "",
            "#{a: 1}",
        ] {
            for cursor in 0..=line.len() {
                assert_eq!(plain(&coloured(line, Some(cursor), false)), line);
            }
        }
        assert_eq!(plain(&coloured(":run a.rhai", Some(3), true)), ":run a.rhai");
    }

    #[test]
    fn brackets_find_their_partners_outside_strings() {
        let line = "f(\")\", [1)]";
        let of = |cursor| matched(line, &outline(line).pieces, cursor);
        assert_eq!(of(7), [None, None]);
        let line = "f(\")\", [1])";
        let of = |cursor| matched(line, &outline(line).pieces, cursor);
        assert_eq!(of(1), [Some(1), Some(10)]);
        assert_eq!(of(10), [Some(10), Some(1)]);
        assert_eq!(of(11), [Some(10), Some(1)]);
        assert_eq!(of(3), [None, None]);
    }
}
