//! Lines that are not Rhai: `:help`, `:quit`, `?name`.

use crate::error::nearest;
use crate::script::declare::Entry;
use crate::script::entries;
use crate::session::Session;
use unicode_width::UnicodeWidthStr;

/// Each command with what it does: help and did-you-mean read this list.
const COMMANDS: &[(&str, &str)] = &[
    (":help", "this page"),
    (":quit", "leave; so does Ctrl-D"),
    ("?name", "help on a function, method or property; also name?"),
];

/// What the prompt does after a command.
pub(super) enum Next {
    Go,
    Quit,
    /// There is no such command, or nothing to help with.
    Failed,
}

/// Whether a line is a command and no script.
pub(super) fn is_command(line: &str) -> bool {
    let line = line.trim();
    line.starts_with([':', '?']) || asked(line).is_some()
}

/// The name in `name?`.
fn asked(line: &str) -> Option<&str> {
    let name = line.strip_suffix('?')?;
    (!name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_:.".contains(c))).then_some(name)
}

pub(super) fn run(line: &str, session: &Session) -> Next {
    let (line, work) = (line.trim(), session.work());
    if let Some(name) = line.strip_prefix('?').or_else(|| asked(line)) {
        return match help(name.trim(), session.width()) {
            Ok(page) => {
                work.print(&page);
                Next::Go
            }
            Err(error) => {
                work.note(&error);
                Next::Failed
            }
        };
    }
    match line {
        ":quit" | ":q" | ":exit" => return Next::Quit,
        ":help" | ":h" => work.print(&overview(session.width())),
        _ => {
            let word = line.split_whitespace().next().unwrap_or(line);
            let near = nearest(word, COMMANDS.iter().map(|(name, _)| *name));
            let hint = near.map_or_else(|| "`:help` lists the commands".into(), |near| format!("did you mean `{near}`?"));
            work.note(&format!("error: unknown command `{word}`\nhelp: {hint}"));
            return Next::Failed;
        }
    }
    Next::Go
}

fn overview(width: usize) -> String {
    let mut text = String::from(
        "Type Rhai; a cell goes on while brackets, strings or comments are open. Up recalls what begins like the line.\n",
    );
    text += "`ans` is the last value, a `;` at the end mutes it, Ctrl-C stops a cell and keeps the variables.\n\n";
    for (name, what) in COMMANDS {
        text += &format!("  {name:8} {what}\n");
    }
    let mut names: Vec<String> = entries().iter().filter(|e| !["to_string", "to_debug"].contains(&e.name)).map(name_of).collect();
    names.sort_unstable();
    names.dedup();
    text += "\nFunctions, methods (T.name) and properties:\n";
    text += &wrapped(&names.join(" "), width, "  ");
    text
}

/// The name under which help finds an entry: `save`, `Tensor.topk`, `plot::line`; operators and indexing as written.
fn name_of(entry: &Entry) -> String {
    use crate::script::declare::Form::{Getter, Method, Setter};
    match (entry.form, entry.params.first()) {
        (Method | Getter | Setter, Some(receiver)) => format!("{}.{}", receiver.kind, entry.name),
        _ => entry.path(),
    }
}

/// Signature, options with defaults and documentation of everything of a name.
fn help(name: &str, width: usize) -> Result<String, String> {
    let found: Vec<&Entry> = entries().iter().filter(|e| e.path() == name || name_of(e) == name).collect();
    if found.is_empty() {
        let names: Vec<String> = entries().iter().map(Entry::path).collect();
        let hint = nearest(name, names.iter().map(String::as_str));
        let hint = hint.map_or_else(|| "`:help` lists everything".into(), |near| format!("did you mean `{near}`?"));
        return Err(format!("error: there is nothing named `{name}`\nhelp: {hint}"));
    }
    Ok(found.iter().map(|entry| page(entry, width)).collect::<Vec<_>>().join("\n\n"))
}

fn page(entry: &Entry, width: usize) -> String {
    let mut text = entry.signature();
    let (mut code, mut begins, mut prose) = (false, false, String::new());
    for line in entry.doc.lines().map(str::trim_end).chain([""]) {
        let plain = line.strip_prefix(' ').unwrap_or(line);
        match (plain.starts_with("```"), code || plain.is_empty()) {
            (true, _) => (code, begins) = (!code, true),
            (false, false) => prose = format!("{prose} {plain}"),
            (false, true) => {
                if !prose.is_empty() {
                    text += &format!("\n\n{}", wrapped(&std::mem::take(&mut prose), width, "    "));
                }
                if code {
                    text += if std::mem::take(&mut begins) { "\n\n" } else { "\n" };
                    text += &format!("      {plain}");
                }
            }
        }
    }
    if let Some(options) = entry.options {
        text += "\n\n    options:";
        for key in options() {
            let default = if key.default.is_null() { "()".into() } else { key.default.to_string() };
            text += &format!("\n      {} = {default}   ({})\n{}", key.name, key.kind, wrapped(key.doc, width, "          "));
        }
    }
    text
}

/// A paragraph in lines of at most `width` columns, each behind `indent`.
fn wrapped(paragraph: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if !line.is_empty() && indent.len() + line.width() + 1 + word.width() > width {
            lines.push(word.into());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}
