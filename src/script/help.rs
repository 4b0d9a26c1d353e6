//! What the declarations say, as help for a terminal, as the reference page, and as definitions for editors.

use crate::error::{Error, Result, nearest};
use crate::options::Key;
use crate::script::declare::{Entry, Form};
use crate::script::{Host, entries, install};
use crate::work::Work;
use rhai::Engine;
use std::collections::BTreeMap;
use unicode_width::UnicodeWidthStr;

/// Where a default or a formula comes from, as documentation marks it.
const MARKS: [(&str, &str); 5] = [
    ("[TEXT]", "the paper says so"),
    ("[CODE", "public code does so"),
    ("[3RD]", "a summary of the paper says so"),
    ("[FIELD]", "usual in the field"),
    ("[INFER]", "our own choice"),
];

/// The name under which help finds an entry: `save`, `Tensor.topk`, `plot::line`; operators and indexing as written.
pub fn name_of(entry: &Entry) -> String {
    match (entry.form, entry.params.first()) {
        (Form::Method | Form::Getter | Form::Setter, Some(receiver)) => format!("{}.{}", receiver.kind, entry.name),
        _ => entry.path(),
    }
}

/// Every entry of a name, given with or without its type.
pub fn named(name: &str) -> Vec<&'static Entry> {
    entries().iter().filter(|entry| entry.path() == name || name_of(entry) == name).collect()
}

/// Signature, documentation and options of everything of a name.
///
/// # Errors
/// Nothing has that name.
pub fn help(name: &str, width: usize) -> Result<String> {
    let found = named(name);
    if found.is_empty() {
        let mut names: Vec<String> = entries().iter().map(Entry::path).chain(entries().iter().map(name_of)).collect();
        names.sort_unstable();
        let error = Error::input(format!("there is nothing named `{name}`"));
        return Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("`:help` lists everything"),
        });
    }
    let text = found.iter().map(|entry| page(entry, width)).collect::<Vec<_>>().join("\n\n");
    let legend = legend(&text);
    Ok(if legend.is_empty() { text } else { format!("{text}\n\n{}", wrapped(&legend, width, "    ")) })
}

/// What the marks in a text mean.
fn legend(text: &str) -> String {
    let used = MARKS.iter().filter(|(mark, _)| text.contains(mark));
    used.map(|(mark, meaning)| format!("{}]: {meaning}", mark.trim_end_matches(']'))).collect::<Vec<_>>().join("; ")
}

/// The names of everything, in lines of at most `width` columns.
pub fn index(width: usize) -> String {
    let shown = |entry: &&Entry| !["to_string", "to_debug"].contains(&entry.name);
    let mut names: Vec<String> = entries().iter().filter(shown).map(name_of).collect();
    names.sort_unstable();
    names.dedup();
    wrapped(&names.join(" "), width, "  ")
}

/// What a type's values have, in lines of at most `width` columns; empty if it is none of ours.
pub fn members(kind: &str, width: usize) -> String {
    let mut text = String::new();
    for (form, title) in [(Form::Getter, "properties"), (Form::Method, "methods")] {
        let of_type = |entry: &&Entry| entry.form == form && entry.params.first().is_some_and(|p| p.kind == kind);
        let hidden = ["to_string", "to_debug"];
        let mut names: Vec<&str> = entries().iter().filter(of_type).map(|e| e.name).filter(|n| !hidden.contains(n)).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            text += &format!("\n{title}:\n{}", wrapped(&names.join(" "), width, "  "));
        }
    }
    text
}

fn page(entry: &Entry, width: usize) -> String {
    let mut text = hanging(&entry.signature(), width, "", "    ");
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
            let (default, doc) = (default_of(&key), wrapped(key.doc, width, "          "));
            let head = hanging(&format!("{} = {default} ({})", key.name, key.kind), width, "      ", "          ");
            text += &format!("\n{head}\n{doc}");
        }
    }
    text
}

fn default_of(key: &Key) -> String {
    if key.default.is_null() { "()".into() } else { key.default.to_string() }
}

/// A paragraph in lines of at most `width` columns, the first behind `first` and the others behind the longer `rest`.
fn hanging(paragraph: &str, width: usize, first: &str, rest: &str) -> String {
    let lines = wrapped(paragraph, width.saturating_sub(rest.len()), "");
    format!("{first}{}", lines.replace('\n', &format!("\n{rest}")))
}

/// A paragraph in lines of at most `width` columns, each behind `indent`.
pub fn wrapped(paragraph: &str, width: usize, indent: &str) -> String {
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

/// The whole surface as one page of Markdown: functions, then each type with what its values have, then operators.
pub fn reference() -> String {
    let mut parts = BTreeMap::<(u8, &str), Vec<&Entry>>::new();
    for entry in entries() {
        let receiver = entry.params.first().map_or("", |p| p.kind.as_str());
        let part = match entry.form {
            Form::Operator => (3, ""),
            Form::Function => entry.namespace.map_or((0, ""), |space| (1, space)),
            _ => (2, receiver),
        };
        parts.entry(part).or_default().push(entry);
    }
    let mut text = format!(
        "# What scripts can call\n\nMade by `saerepl doc` (version {}) from the declarations that `?name` shows. Arguments in \
         brackets may be left out; `#{{…}}` is a map of options.\n\n{}.\n",
        env!("CARGO_PKG_VERSION"),
        legend(&MARKS.map(|(mark, _)| mark).concat())
    );
    for ((kind, name), mut entries) in parts {
        text += &match kind {
            0 => "\n## Functions\n".into(),
            1 => format!("\n## `{name}::`\n"),
            2 => format!("\n## {name}\n"),
            _ => "\n## Operators\n".into(),
        };
        entries.sort_by_key(|entry| (entry.path().to_lowercase(), entry.params.len()));
        for entry in entries {
            text += &section(entry);
        }
    }
    text
}

fn section(entry: &Entry) -> String {
    let mut text = format!("\n### `{}`\n\n", entry.signature());
    for line in entry.doc.lines() {
        text += line.strip_prefix(' ').unwrap_or(line);
        text.push('\n');
    }
    if let Some(options) = entry.options {
        text += "\n| option | default | takes | |\n|---|---|---|---|\n";
        for key in options() {
            let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
            let (default, kind, doc) = (cell(&default_of(&key)), cell(&key.kind), cell(key.doc.trim()));
            text += &format!("| `{}` | `{default}` | {kind} | {doc} |\n", key.name);
        }
    }
    text
}

/// Definitions for editors that know Rhai's `.d.rhai` files.
///
/// # Errors
/// The machine cannot start a thread.
pub fn definitions() -> Result<String> {
    let mut engine = Engine::new();
    install(&mut engine, Host::new(Work::silent(1)?));
    Ok(engine.definitions().include_standard_packages(true).single_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_stands_in_the_reference_with_its_options() {
        let reference = reference();
        for entry in entries() {
            assert!(reference.contains(&format!("\n### `{}`\n", entry.signature())), "{}", entry.signature());
            for key in entry.options.map(|options| options()).unwrap_or_default() {
                assert!(reference.contains(&format!("\n| `{}` | ", key.name)), "{}: {}", entry.path(), key.name);
            }
        }
    }

    #[test]
    fn definitions_parse_as_definitions() {
        let definitions = definitions().unwrap();
        assert!(definitions.starts_with("module static;"));
        assert!(definitions.contains("fn unembed(dict: Dictionary, model: Model"), "{definitions}");
    }

    #[test]
    fn help_is_wrapped_and_says_what_is_near() {
        let text = help("Tensor.topk", 60).unwrap();
        assert!(text.lines().all(|line| line.width() <= 60 || line.starts_with("      ")), "{text}");
        let long = help("attention_scores", 80).unwrap();
        assert!(
            long.lines().all(|line| line.width() <= 80 || line.ends_with(';')) && long.ends_with("[INFER]: our own choice"),
            "{long}"
        );
        assert!(help("unembedd", 80).unwrap_err().helps()[0].contains("`unembed`"));
        assert!(members("Tensor", 80).contains(" topk"));
    }
}
