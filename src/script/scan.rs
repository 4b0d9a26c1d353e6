//! The outline of a script's text without parsing it: where strings, comments and brackets begin and end, and what is
//! still open at its end. The parser answers none of this for text that is not finished.

use rhai::Position;
use std::ops::Range;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line or block comment.
    Comment,
    /// A string or character literal; an interpolated one with all that it holds.
    Text,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// `,`.
    Comma,
    /// `;`.
    Semicolon,
    /// A run of anything else but white space.
    Other,
}

/// A piece of a script, in bytes.
pub type Piece = (Kind, Range<usize>);

/// The outline of a text.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Its pieces in order.
    pub pieces: Vec<Piece>,
    /// A bracket, block comment or string that may go on over lines is still open at the end.
    pub open: bool,
    /// A `"` string is not closed on its line: nothing that follows can mend it.
    pub broken: bool,
}

impl Outline {
    /// What the last piece is that is no comment.
    pub fn last(&self) -> Option<Kind> {
        self.last_code().map(|(kind, _)| *kind)
    }

    /// The last piece that is no comment.
    pub fn last_code(&self) -> Option<&Piece> {
        self.pieces.iter().rev().find(|(kind, _)| *kind != Kind::Comment)
    }
}

/// What encloses the place that is being read.
enum Within {
    /// The text of a `` ` `` string.
    Template,
    /// A `${…}` in one, with the brackets open in it.
    Hole(usize),
}

/// Reads the outline of a text.
pub fn outline(text: &str) -> Outline {
    let mut outliner = Outliner::default();
    outliner.read(text);
    outliner.outline
}

/// Reads an outline bit by bit: a text that grows line by line is read once.
#[derive(Default)]
pub struct Outliner {
    /// What was found so far.
    pub outline: Outline,
    within: Vec<Within>,
    /// Brackets open outside strings.
    depth: usize,
    /// Where the outermost string that is open began.
    template_start: usize,
    /// Bytes that were read.
    next: usize,
    /// The last piece is not finished.
    unfinished: bool,
}

impl Outliner {
    /// Reads on in a text that begins as before.
    pub fn read(&mut self, text: &str) {
        if std::mem::take(&mut self.unfinished)
            && let Some((_, range)) = self.outline.pieces.pop()
        {
            self.next = range.start;
        }
        let bytes = text.as_bytes();
        let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
        let mut i = self.next;
        while i < bytes.len() {
            if let Some(Within::Template) = self.within.last() {
                match at(i) {
                    b'`' => {
                        self.within.pop();
                        if self.within.is_empty() {
                            self.outline.pieces.push((Kind::Text, self.template_start..i + 1));
                        }
                    }
                    b'$' if at(i + 1) == b'{' => {
                        self.within.push(Within::Hole(0));
                        i += 1;
                    }
                    _ => {}
                }
                i += 1;
                continue;
            }
            let start = i;
            let kind = match at(i) {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    i += 1;
                    continue;
                }
                b'/' if at(i + 1) == b'/' => {
                    i = text[i..].find('\n').map_or(bytes.len(), |n| i + n);
                    Kind::Comment
                }
                b'/' if at(i + 1) == b'*' => {
                    let (end, closed) = block_comment(bytes, i);
                    (i, self.unfinished) = (end, !closed);
                    Kind::Comment
                }
                b'"' => {
                    let (end, closed, goes_on) = quoted(bytes, i);
                    (i, self.unfinished) = (end, goes_on);
                    self.outline.broken |= !closed && !goes_on;
                    Kind::Text
                }
                b'#' if raw_quote(bytes, i).is_some() => {
                    let hashes = raw_quote(bytes, i).unwrap_or(1);
                    let close = format!("\"{}", "#".repeat(hashes));
                    let body = i + hashes + 1;
                    let end = text[body..].find(&close).map(|n| body + n + close.len());
                    self.unfinished = end.is_none();
                    i = end.unwrap_or(bytes.len());
                    Kind::Text
                }
                b'\'' => match character(text, i) {
                    Some(end) => {
                        i = end;
                        Kind::Text
                    }
                    None => {
                        i += 1;
                        Kind::Other
                    }
                },
                b'`' => {
                    if self.within.is_empty() {
                        self.template_start = i;
                    }
                    self.within.push(Within::Template);
                    i += 1;
                    continue;
                }
                b'(' | b'[' | b'{' => {
                    i += 1;
                    match self.within.last_mut() {
                        Some(Within::Hole(open)) => *open += 1,
                        _ => self.depth += 1,
                    }
                    Kind::Open
                }
                b')' | b']' | b'}' => {
                    i += 1;
                    match self.within.last_mut() {
                        Some(Within::Hole(0)) => {
                            self.within.pop();
                        }
                        Some(Within::Hole(open)) => *open -= 1,
                        _ => self.depth = self.depth.saturating_sub(1),
                    }
                    Kind::Close
                }
                b',' => {
                    i += 1;
                    Kind::Comma
                }
                b';' => {
                    i += 1;
                    Kind::Semicolon
                }
                _ => {
                    i += 1;
                    let ends = |b: u8| b.is_ascii_whitespace() || b"/\"#'`()[]{},;".contains(&b);
                    while i < bytes.len() && !ends(at(i)) {
                        i += 1;
                    }
                    Kind::Other
                }
            };
            if self.within.is_empty() {
                self.outline.pieces.push((kind, start..i));
            }
        }
        self.next = i;
        self.outline.open = self.depth > 0 || self.unfinished || !self.within.is_empty();
    }
}

/// A text behind the white space and comments with which it begins.
pub fn after_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let end = match rest {
            line if line.starts_with("//") => line.find('\n').unwrap_or(line.len()),
            block if block.starts_with("/*") => block_comment(block.as_bytes(), 0).0,
            _ => return rest,
        };
        rest = rest[end..].trim_start();
    }
}

/// End of a block comment, which may hold others, and whether it is closed.
fn block_comment(bytes: &[u8], start: usize) -> (usize, bool) {
    let (mut i, mut depth) = (start, 0);
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return (i, true);
                }
            }
            _ => i += 1,
        }
    }
    (bytes.len(), false)
}

/// End of a `"…"` string, whether it is closed, and whether it goes on over the end of the text (a `\` ends its last line).
fn quoted(bytes: &[u8], start: usize) -> (usize, bool, bool) {
    let mut i = start + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => return (i + 1, true, false),
            b'\n' => return (i, false, false),
            b'\\' if i + 2 >= bytes.len() => return (bytes.len(), false, bytes.get(i + 1).is_none_or(|b| *b == b'\n')),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    (bytes.len(), false, false)
}

/// A function's definition in a text.
pub struct Function<'t> {
    /// Its name.
    pub name: &'t str,
    /// Number of its parameters.
    pub parameters: usize,
    /// From the comments right above it to the bracket that closes it.
    pub range: Range<usize>,
}

/// The functions that a text defines, in its order.
pub fn functions(text: &str) -> Vec<Function<'_>> {
    let pieces = outline(text).pieces;
    let is = |i: usize, word: &str| pieces.get(i).is_some_and(|(_, range)| text[range.clone()] == *word);
    let mut found = Vec::new();
    for i in (0..pieces.len()).filter(|i| is(*i, "fn") && is(*i + 2, "(")) {
        let first = if i > 0 && is(i - 1, "private") { i - 1 } else { i };
        let above = pieces[..first].iter().rev().take_while(|(kind, _)| *kind == Kind::Comment).last();
        let start = above.unwrap_or(&pieces[first]).1.start;
        let (mut depth, mut parameters, mut end) = (0usize, usize::from(!is(i + 3, ")")), text.len());
        let mut listed = false;
        for (kind, range) in &pieces[i + 2..] {
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 1 && !listed => parameters += 1,
                _ => {}
            }
            listed |= depth == 0;
            if depth == 0 && text[range.clone()] == *"}" {
                end = range.end;
                break;
            }
        }
        found.push(Function { name: &text[pieces[i + 1].1.clone()], parameters, range: start..end });
    }
    found
}

/// The number of `#` before the quote of a raw string, if one begins here.
fn raw_quote(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start..].iter().take_while(|b| **b == b'#').count();
    (bytes.get(start + hashes) == Some(&b'"')).then_some(hashes)
}

/// End of a character literal, if one begins here.
fn character(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start + 1..];
    let inner = match rest.strip_prefix('\\') {
        Some(escaped) => {
            1 + escaped.chars().next()?.len_utf8() + escaped.char_indices().nth(1).and_then(|(n, _)| escaped[n..].find('\''))?
        }
        None => rest.chars().next()?.len_utf8(),
    };
    rest[inner..].starts_with('\'').then_some(start + 1 + inner + 1)
}

/// The byte at which a position of the parser lies. Lines and columns count from 1, columns in characters.
pub fn byte_of(text: &str, position: Position) -> Option<usize> {
    let (line, column) = (position.line()?, position.position().unwrap_or(1).max(1));
    let start = if line == 1 { 0 } else { text.match_indices('\n').nth(line - 2)?.0 + 1 };
    let rest = &text[start..];
    Some(start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(byte, _)| byte))
}

/// The position of the parser at which a byte lies.
pub fn position_of(text: &str, byte: usize) -> Position {
    let above = text.get(..byte).unwrap_or(text);
    let (line, column) = (above.matches('\n').count() + 1, above.chars().rev().take_while(|c| *c != '\n').count() + 1);
    match (u16::try_from(line), u16::try_from(column)) {
        (Ok(line), Ok(column)) => Position::new(line, column),
        _ => Position::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_seen() {
        for text in
            ["f(", "[1, 2", "fn f() {", "/* a /* b */", "`a ${", "`a ${ f(`b`) } c", "\"a \\\n", "#\"raw \" still", "#{a: \"}\""]
        {
            assert!(outline(text).open, "{text}");
        }
        for text in
            ["f()", "/* a /* b */ */", "`a ${ #{x: `}`} } c`", "\"a(\"", "'('", "'\\''", "// (", "#\"raw ( \"#", "foo)", "\"open"]
        {
            assert!(!outline(text).open, "{text}");
        }
    }

    #[test]
    fn a_text_that_grows_has_the_outline_of_the_whole() {
        let text = "f(1, /* a\n b */ \"x \\\n y\", `t ${ #{a: 1}\n } u\nv`) // end\n#\"raw\n\"# ; '\\n'\n";
        let (mut outliner, mut read) = (Outliner::default(), String::new());
        for line in text.split_inclusive('\n') {
            read += line;
            outliner.read(&read);
            let whole = outline(&read);
            assert_eq!((&outliner.outline.pieces, outliner.outline.open), (&whole.pieces, whole.open), "{read}");
        }
        assert!(!outliner.outline.open && outliner.outline.pieces.len() > 9);
    }

    #[test]
    fn functions_are_found_with_their_comments() {
        let text = "let x = 1;\n/// A.\nprivate fn a(x, y) { #{k: (x, y)} }\nfn b() { |p, q| 1 } fn c(z) {}";
        let found: Vec<_> = functions(text).iter().map(|f| (f.name, f.parameters, text[f.range.clone()].to_string())).collect();
        let right = [
            ("a", 2, "/// A.\nprivate fn a(x, y) { #{k: (x, y)} }".to_string()),
            ("b", 0, "fn b() { |p, q| 1 }".to_string()),
            ("c", 1, "fn c(z) {}".to_string()),
        ];
        assert_eq!(found, right);
    }

    #[test]
    fn positions_and_bytes_are_inverse() {
        let text = "a\nßb c\n";
        for (line, column, byte) in [(1, 1, 0), (2, 1, 2), (2, 2, 4), (2, 4, 6)] {
            assert_eq!(byte_of(text, Position::new(line, column)), Some(byte));
            assert_eq!(position_of(text, byte), Position::new(line, column));
        }
    }

    #[test]
    fn pieces_are_found_outside_strings_and_comments() {
        let text = "f(\"a,b\", `x${1,2}`); // end;";
        let kinds: Vec<Kind> = outline(text).pieces.iter().map(|(kind, _)| *kind).collect();
        use Kind::{Close, Comma, Comment, Open, Other, Semicolon, Text};
        assert_eq!(kinds, [Other, Open, Text, Comma, Text, Close, Semicolon, Comment]);
        assert_eq!(outline(text).last(), Some(Semicolon));
        assert_eq!(outline("1 // ;").last(), Some(Other));
    }
}
