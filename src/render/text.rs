//! Tables and tensors for a terminal: plain text without escape sequences, no wider than asked for.

use super::number;
use crate::table::{Column, Table};
use crate::tensor::{Class, Tensor};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows of a table that are shown.
const ROWS: usize = 20;
/// Columns between columns.
const GAP: &str = "  ";
/// The widest a column of text becomes while others need room, and the least to which it shrinks for them.
const WIDE: usize = 48;
const NARROW: usize = 12;

/// Text without what a terminal would obey or hide: control characters and direction marks are written out.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control()
                || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Facts as (what, value), in two columns. They come from files, so that nothing in them may reach a terminal as an escape.
pub fn facts(facts: &[(String, String)]) -> String {
    let facts: Vec<_> = facts.iter().map(|(what, value)| (harmless(what), harmless(value))).collect();
    let width = facts.iter().map(|(what, _)| what.width()).max().unwrap_or(0);
    let rows = facts.iter().map(|(what, value)| format!("{what}{}{GAP}{value}", " ".repeat(width - what.width())));
    rows.collect::<Vec<_>>().join("\n")
}

/// A text in lines of at most so many columns, broken at spaces alone. A word that is longer than a line stays whole: it may be
/// a path or a name to copy.
pub fn wrapped(text: &str, width: usize) -> String {
    let options = textwrap::Options::new(width).break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).join("\n")
}

/// Text cut with an ellipsis to a width in terminal columns.
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_string();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used < room
    };
    text.chars().take_while(fits).collect::<String>() + "…"
}

/// `1 cell`, `2 cells`.
pub fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

pub(super) fn pad(text: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(text.width()));
    if right { space + text } else { format!("{text}{space}") }
}

/// The cells of one column, ready to be aligned.
struct Shown {
    name: String,
    cells: Vec<String>,
    right: bool,
    width: usize,
}

/// A table of at most `width` terminal columns: numbers to the right, text and lists to the left. Long texts are cut, lists
/// shortened, columns that find no room named below, and of many rows the first 20 shown.
pub fn table(table: &Table, width: usize) -> String {
    let rows = table.len().min(ROWS);
    let mut columns: Vec<Shown> = table.columns().iter().map(|(name, column)| show(name, column, rows)).collect();
    let wanted: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let total = |columns: &[Shown]| columns.iter().map(|c| c.width + GAP.len()).sum::<usize>().saturating_sub(GAP.len());
    // The widest text gives way first, a little at a time, so that columns of like width stay alike.
    while total(&columns) > width {
        let Some(widest) = columns.iter_mut().filter(|c| !c.right && c.width > NARROW).max_by_key(|c| c.width) else { break };
        widest.width -= 1;
    }
    let mut hidden = Vec::new();
    while columns.len() > 1 && total(&columns) > width {
        hidden.extend(columns.pop().map(|c| c.name));
    }
    if let [only] = &mut columns[..] {
        only.width = only.width.min(width.max(4));
    }
    // The room that the last of the hidden columns leaves goes to texts that were cut.
    while total(&columns) < width {
        let short = columns.iter_mut().zip(&wanted).filter(|(column, wanted)| column.width < **wanted);
        let Some((column, _)) = short.min_by_key(|(column, _)| column.width) else { break };
        column.width += 1;
    }

    let line = |cells: Vec<String>| cells.join(GAP).trim_end().to_string() + "\n";
    let mut out = line(columns.iter().map(|c| pad(&cut(&c.name, c.width), c.width, c.right)).collect());
    out.push_str(&line(columns.iter().map(|c| "─".repeat(c.width)).collect()));
    for row in 0..rows {
        out.push_str(&line(columns.iter().map(|c| pad(&cut(&c.cells[row], c.width), c.width, c.right)).collect()));
    }
    let mut more = Vec::new();
    if table.len() > rows {
        more.push(format!("… {} more rows", number::whole((table.len() - rows) as u64)));
    }
    if !hidden.is_empty() {
        hidden.reverse();
        more.push(format!("… {} more columns: {}", hidden.len(), hidden.join(", ")));
    }
    if table.is_empty() {
        more.push("no rows".into());
    }
    more.iter().for_each(|text| {
        out.push_str(&cut(text, width.max(20)));
        out.push('\n');
    });
    out.pop();
    out
}

/// The first `rows` cells of a column as text.
pub(super) fn column_cells(column: &Column, rows: usize) -> Vec<String> {
    match column {
        Column::Float(v) => number::column(&v[..rows]),
        Column::Int(v) => v[..rows].iter().map(i64::to_string).collect(),
        Column::Bool(v) => v[..rows].iter().map(bool::to_string).collect(),
        Column::Text(v) => v[..rows].iter().map(|text| harmless(text)).collect(),
        Column::FloatList(v) => v[..rows].iter().map(|list| shown_list(list, number::column)).collect(),
        Column::IntList(v) => v[..rows].iter().map(|list| shown_list(list, |l| l.iter().map(i64::to_string).collect())).collect(),
        Column::TextList(v) => {
            let quoted = |list: &[String]| list.iter().map(|text| format!("\"{}\"", harmless(text))).collect();
            v[..rows].iter().map(|list| shown_list(list, quoted)).collect()
        }
    }
}

fn show(name: &str, column: &Column, rows: usize) -> Shown {
    let name = harmless(name);
    let cells = column_cells(column, rows);
    let right = matches!(column, Column::Float(_) | Column::Int(_));
    let widest = cells.iter().map(|c| c.width()).max().unwrap_or(0).max(name.width());
    let width = if right { widest } else { widest.min(WIDE.max(name.width())) };
    Shown { name, cells, right, width }
}

/// The first items of a list, as many as fit a wide column, and how many follow.
fn shown_list<T>(list: &[T], write: impl Fn(&[T]) -> Vec<String>) -> String {
    let mut items = write(&list[..list.len().min(WIDE / 3)]);
    let text = |items: &[String]| match list.len() - items.len() {
        0 => format!("[{}]", items.join(", ")),
        more if items.is_empty() => format!("[… {more}]"),
        more => format!("[{}, … {more} more]", items.join(", ")),
    };
    while items.len() > 1 && text(&items).width() > WIDE {
        items.pop();
    }
    text(&items)
}

/// Elements shown at each end of a dimension that is too long.
const EDGE: usize = 3;
/// A tensor of at most this many elements is shown whole.
const SMALL: usize = 60;

/// A tensor: its shape and dtype, then its elements, or of a large one the first and last three along each dimension. Only
/// what is shown is read.
pub fn tensor(tensor: &Tensor, width: usize) -> String {
    let head = format!("{tensor:?}");
    if tensor.numel() == 0 {
        return head;
    }
    let whole = tensor.numel() <= SMALL && tensor.shape().last().is_none_or(|n| n * 8 <= width);
    // Of many dimensions only the first index of the outer ones is shown.
    let mut corner = tensor.clone();
    let mut outer = 0;
    while corner.ndim() > 3 {
        match corner.select(0, 0) {
            Ok(inner) => corner = inner,
            Err(_) => return head,
        }
        outer += 1;
    }
    let mut numbers = Vec::new();
    collect(&corner, whole, &mut numbers);
    let cells: Vec<String> = match tensor.dtype().class() {
        Class::Bool => numbers.iter().map(|v| (*v != 0.0).to_string()).collect(),
        Class::Int => numbers.iter().map(|v| format!("{v:.0}")).collect(),
        Class::F32 | Class::F64 => number::column(&numbers),
    };
    let cell = cells.iter().map(|c| c.width()).max().unwrap_or(0);
    let mut out = head;
    if outer > 0 {
        out.push_str(&format!(", [{}] of it", vec!["0"; outer].join(", ")));
    }
    out.push('\n');
    write(&corner, whole, &mut cells.iter().map(|c| pad(c, cell, true)), 1, &mut out);
    out
}

/// Indices of a dimension that are shown, before and after the gap.
fn ends(n: usize, whole: bool) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    if whole || n <= 2 * EDGE { (0..n, n..n) } else { (0..EDGE, n - EDGE..n) }
}

fn collect(tensor: &Tensor, whole: bool, out: &mut Vec<f64>) {
    let Some(n) = tensor.shape().first() else {
        out.extend(tensor.to_f64());
        return;
    };
    let (first, last) = ends(*n, whole);
    if tensor.ndim() == 1 {
        for range in [first, last] {
            out.extend(tensor.narrow(0, range).map(|part| part.to_f64()).unwrap_or_default());
        }
        return;
    }
    for index in first.chain(last) {
        if let Ok(part) = tensor.select(0, index) {
            collect(&part, whole, out);
        }
    }
}

/// Writes brackets about the cells, which come in the order in which [`collect`] read them.
fn write(tensor: &Tensor, whole: bool, cells: &mut impl Iterator<Item = String>, indent: usize, out: &mut String) {
    let Some(n) = tensor.shape().first() else {
        out.extend(cells.next());
        return;
    };
    let (first, last) = ends(*n, whole);
    let gap = first.end < last.start;
    if tensor.ndim() == 1 {
        let mut items: Vec<String> = cells.take(first.len()).collect();
        if gap {
            items.push("…".into());
        }
        items.extend(cells.take(last.len()));
        out.push_str(&format!("[{}]", items.join(", ")));
        return;
    }
    out.push('[');
    let separator = format!(",\n{}", " ".repeat(indent));
    let mut parts = first.clone().chain(last).peekable();
    while let Some(index) = parts.next() {
        if let Ok(part) = tensor.select(0, index) {
            write(&part, whole, cells, indent + 1, out);
        }
        if parts.peek().is_some() {
            out.push_str(&separator);
        }
        if gap && index + 1 == first.end {
            out.push_str(&format!("…{separator}"));
        }
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;

    fn tokens() -> Table {
        let lists = vec![vec![" but".to_string(), "But".into(), " yet".into()], vec!["我们的".into(), "\u{1b}[31m\n".into()]];
        Table::new(Provenance::default())
            .with("feature", vec![1318i64, 7])
            .and_then(|t| t.with("mean", vec![0.12345, -12.0]))
            .and_then(|t| t.with("top_tokens", lists))
            .and_then(|t| t.with("semantic", vec![true, false]))
            .unwrap()
    }

    #[test]
    fn lines_are_broken_at_spaces_alone() {
        assert_eq!(wrapped("see /a-path/that-is/longer than a line", 12), "see\n/a-path/that-is/longer\nthan a line");
    }

    #[test]
    fn a_table_is_aligned_by_terminal_columns() {
        let expected = "\
feature    mean  top_tokens                  semantic
───────  ──────  ──────────────────────────  ────────
   1318    0.12  [\" but\", \"But\", \" yet\"]     true
      7  -12.00  [\"我们的\", \"\\u{1b}[31m\\n\"]  false";
        assert_eq!(table(&tokens(), 80), expected);
    }

    #[test]
    fn facts_of_a_file_reach_no_terminal_as_escapes() {
        let shown = facts(&[("model_name".into(), "\u{1b}]0;x\u{7}\u{1b}[2Jgpt2".into()), ("k".into(), "3".into())]);
        assert_eq!(shown, "model_name  \\u{1b}]0;x\\u{7}\\u{1b}[2Jgpt2\nk           3");
    }

    #[test]
    fn narrow_terminals_lose_text_first_then_columns() {
        let text = table(&tokens(), 40);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        assert!(text.contains("semantic"), "{text}");
        let text = table(&tokens(), 30);
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        assert!(text.ends_with("… 1 more columns: semantic"), "{text}");
        assert!(table(&tokens(), 1).lines().count() >= 4);
    }

    #[test]
    fn long_tables_and_lists_say_how_much_is_missing() {
        let lists: Vec<Vec<i64>> = (0..12_345).map(|i| (0..i % 40).collect()).collect();
        let long = Table::new(Provenance::default()).with("ids", lists).unwrap();
        let text = table(&long, 80);
        assert_eq!(text.lines().count(), 23);
        assert!(text.contains("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 7 more]"), "{text}");
        assert!(text.ends_with("… 12,325 more rows"));
        assert!(table(&long.head(0), 80).ends_with("no rows"));
        assert_eq!(table(&Table::default(), 80), "\n\nno rows");
    }

    #[test]
    fn tensors_show_their_corners() {
        let small = Tensor::from_f32(vec![1.0, -2.5, 0.0, 4.0, 5.25, 6.0], &[2, 3]).unwrap();
        assert_eq!(tensor(&small, 80), "Tensor [2, 3] f32\n[[ 1.000, -2.500,  0.000],\n [ 4.000,  5.250,  6.000]]");
        let large = Tensor::from_i64((0..2000).collect(), &[100, 20]).unwrap();
        let expected = "\
Tensor [100, 20] i64
[[   0,    1,    2, …,   17,   18,   19],
 [  20,   21,   22, …,   37,   38,   39],
 [  40,   41,   42, …,   57,   58,   59],
 …,
 [1940, 1941, 1942, …, 1957, 1958, 1959],
 [1960, 1961, 1962, …, 1977, 1978, 1979],
 [1980, 1981, 1982, …, 1997, 1998, 1999]]";
        assert_eq!(tensor(&large, 80), expected);
        assert_eq!(tensor(&Tensor::scalar(0.5), 80), "Tensor [] f64\n0.5000");
        assert_eq!(tensor(&Tensor::vector(Vec::new()), 80), "Tensor [0] f32");
        let deep = Tensor::from_bool(vec![true; 16], &[2, 2, 2, 2]).unwrap();
        assert!(tensor(&deep, 80).starts_with("Tensor [2, 2, 2, 2] bool, [0] of it\n[[[true, true],\n"));
    }
}
