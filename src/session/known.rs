//! What an expression is, told from its text without running it: completion and the help of errors ask for it.
//!
//! Names are looked up where they stand: what the text itself declares (variables, loops, parameters) goes before the
//! session's variables.

use super::modules::Sources;
use crate::model::forward::Pass;
use crate::options::inner_keys;
use crate::script::convert::{short_type_name, type_name};
use crate::script::declare::{Entry, Form};
use crate::script::scan::{Kind, Piece, functions, outline};
use crate::script::{Outputs, entries};
use crate::table::{Column, Table};
use rhai::{Array, Dynamic, Engine, GlobalRuntimeState, Map, Module, NativeCallContext, Position, Scope};
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Names of columns, and what a cell of each is, as far as it is known.
type Columns = Vec<(String, &'static str)>;

/// What is known of an expression.
#[derive(Clone)]
pub(super) enum Known<'a> {
    /// A value that is there.
    Value(Seen<'a>),
    /// A map with these entries, as a text writes it or a documentation promises it.
    Map(Vec<(String, Known<'a>)>),
    /// An array of such elements.
    List(Box<Known<'a>>),
    /// A table with these columns.
    Table(Columns),
    Kind(String),
}

/// A value, by what holds it and the way from there: nothing is copied.
#[derive(Clone)]
pub(super) struct Seen<'a> {
    root: Root<'a>,
    path: Vec<Step>,
}

#[derive(Clone)]
enum Root<'a> {
    Variable(&'a Dynamic),
    /// A map of facts, made to be looked at.
    Made(Arc<Dynamic>),
}

/// From a value to one in it.
#[derive(Clone)]
enum Step {
    Element(usize),
    Key(String),
    /// The value of a cell.
    Cell(usize),
}

impl<'a> Seen<'a> {
    /// What `look` says of the value; none if it is gone.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Dynamic) -> T) -> Option<T> {
        let root = match &self.root {
            Root::Variable(value) => value,
            Root::Made(value) => value.as_ref(),
        };
        at(root, &self.path, look)
    }

    fn then(&self, step: Step) -> Option<Known<'a>> {
        let mut inner = self.clone();
        inner.path.push(step);
        inner.with(|_| ()).map(|()| Known::Value(inner))
    }
}

fn at<T>(value: &Dynamic, path: &[Step], look: impl FnOnce(&Dynamic) -> T) -> Option<T> {
    let Some((step, rest)) = path.split_first() else { return Some(look(value)) };
    match step {
        Step::Element(i) => at(value.read_lock::<Array>()?.get(*i)?, rest, look),
        Step::Key(key) => at(value.read_lock::<Map>()?.get(key.as_str())?, rest, look),
        Step::Cell(n) => value.read_lock::<Outputs>()?.look(*n, |value| at(value, rest, look))?,
    }
}

impl<'a> Known<'a> {
    fn variable(value: &'a Dynamic) -> Self {
        Known::Value(Seen { root: Root::Variable(value), path: Vec::new() })
    }

    /// The name of its type, as signatures write it.
    pub(super) fn kind(&self) -> String {
        match self {
            Known::Value(value) => value.with(type_name).unwrap_or_default(),
            Known::Map(_) => "map".into(),
            Known::List(_) => "array".into(),
            Known::Table(_) => "Table".into(),
            Known::Kind(kind) => kind.clone(),
        }
    }

    /// A map of which every key is known.
    pub(super) fn is_map(&self) -> bool {
        matches!(self, Known::Map(_)) || matches!(self, Known::Value(value) if value.with(Dynamic::is_map) == Some(true))
    }

    /// Keys, columns and hooks by which it is indexed that begin with `word`, `most` at most, each with what it holds.
    pub(super) fn entries(&self, word: &str, most: usize) -> Vec<(String, String)> {
        let begins = |name: &&String| name.starts_with(word);
        match self {
            Known::Value(value) => value.with(|value| entries_of(value, word, most)).unwrap_or_default(),
            Known::Map(of) => {
                of.iter().filter(|(name, _)| begins(&name)).take(most).map(|(name, of)| (name.clone(), of.kind())).collect()
            }
            Known::Table(columns) => columns
                .iter()
                .filter(|(name, _)| begins(&name))
                .take(most)
                .map(|(name, _)| (name.clone(), "column".into()))
                .collect(),
            Known::List(_) | Known::Kind(_) => Vec::new(),
        }
    }

    /// The names alone of all [`Known::entries`].
    pub(super) fn keys(&self) -> Vec<String> {
        self.entries("", usize::MAX).into_iter().map(|(name, _)| name).collect()
    }

    /// The columns of a table, and what their cells are.
    fn columns(&self) -> Option<Columns> {
        match self {
            Known::Value(value) => value.with(|value| {
                let table = value.read_lock::<Table>()?;
                Some(table.names().map(|name| (name.to_string(), table.column(name).map_or("", cell_kind))).collect())
            })?,
            Known::Table(columns) => Some(columns.clone()),
            _ => None,
        }
    }

    /// A row of a table.
    fn row(&self) -> Option<Known<'a>> {
        Some(Known::Map(self.columns()?.into_iter().map(|(name, kind)| (name, Known::Kind(kind.into()))).collect()))
    }

    /// What walking it gives.
    pub(super) fn element(&self) -> Option<Known<'a>> {
        match self.kind().as_str() {
            "Table" => self.row().or(Some(Known::Kind("map".into()))),
            "Tensor" => Some(Known::Kind("Tensor".into())),
            "range" => Some(Known::Kind("integer".into())),
            _ => self.indexed("0"),
        }
    }

    /// What an index as written picks; of an array the first element stands for all that are not named.
    fn indexed(&self, index: &str) -> Option<Known<'a>> {
        let key = index.trim_matches('"');
        if let Known::Value(value) = self {
            let element = index.parse().ok().and_then(|i| value.then(Step::Element(i))).or_else(|| value.then(Step::Element(0)));
            let inner = element.or_else(|| value.then(Step::Key(key.into())));
            if let Some(inner) = inner.or_else(|| value.then(Step::Cell(index.parse().ok()?))) {
                return Some(inner);
            }
        }
        match self {
            Known::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, of)| of.clone()),
            Known::List(element) => Some(Known::clone(element)),
            _ if self.kind() == "Table" => match self.columns() {
                Some(columns) if index.starts_with('"') => column(&columns, key),
                None if index.starts_with('"') => Some(Known::Kind("Tensor".into())),
                _ => self.row().or(Some(Known::Kind("map".into()))),
            },
            _ => {
                let kind = self.kind();
                let entry = entries().iter().find(|e| e.form == Form::IndexGet && e.params[0].kind == kind)?;
                Some(Known::Kind(gives_kind(entry)))
            }
        }
    }
}

/// As [`Known::entries`], of a value.
fn entries_of(value: &Dynamic, word: &str, most: usize) -> Vec<(String, String)> {
    if let Some(map) = value.read_lock::<Map>() {
        let from = map.range::<str, _>((Bound::Included(word), Bound::Unbounded));
        return from
            .take_while(|(key, _)| key.starts_with(word))
            .take(most)
            .map(|(key, value)| (key.to_string(), type_name(value)))
            .collect();
    }
    if let Some(table) = value.read_lock::<Table>() {
        let names = table.names().filter(|name| name.starts_with(word));
        return names.take(most).map(|name| (name.to_string(), "column".into())).collect();
    }
    let Some(cache) = value.read_lock::<Pass>() else { return Vec::new() };
    let hooks = cache.kept.iter().map(|(hook, _)| hook.name()).filter(|hook| hook.starts_with(word));
    hooks.take(most).map(|hook| (hook, "Tensor".into())).collect()
}

/// A column of a table: numbers and truth values come as tensors.
fn column<'a>(columns: &[(String, &str)], name: &str) -> Option<Known<'a>> {
    let (_, cells) = columns.iter().find(|(known, _)| known == name)?;
    Some(match *cells {
        "array" => Known::List(Box::new(Known::Kind("array".into()))),
        "string" => Known::List(Box::new(Known::Kind("string".into()))),
        _ => Known::Kind("Tensor".into()),
    })
}

/// What the cells of a column are.
fn cell_kind(column: &Column) -> &'static str {
    match column {
        Column::Text(_) => "string",
        Column::Float(_) => "number",
        Column::Int(_) => "integer",
        Column::Bool(_) => "bool",
        Column::FloatList(_) | Column::IntList(_) | Column::TextList(_) => "array",
    }
}

/// What a session can be asked for.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) engine: &'a Engine,
    /// Imports and functions of the cells so far.
    pub(super) global: &'a GlobalRuntimeState,
    pub(super) scope: &'a Scope<'static>,
    /// Functions of the cells so far, and the texts of the cells.
    pub(super) functions: &'a [Arc<Module>],
    pub(super) sources: &'a Sources,
}

/// Functions that are looked into for what a call of a function gives.
const FUNCTIONS: usize = 4;

/// What was given where a text ends in a function that was run: to the function, and to the closure in it.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) function: Vec<Option<Known<'a>>>,
    pub(super) closure: Vec<Option<Known<'a>>>,
}

impl<'a> View<'a> {
    /// What the expression at the end of a text is that has not been run.
    pub(super) fn at_end(&self, text: &str) -> Option<Known<'a>> {
        let names = Names { bindings: bindings(text), text, ran: None, depth: 0 };
        self.expression(text, &names, names.bindings.len())
    }

    /// As [`View::at_end`], of a text that was run up to there.
    pub(super) fn where_it_ended(&self, text: &str, given: &Given<'a>) -> Option<Known<'a>> {
        let names = Names { bindings: bindings(text), text, ran: Some(given), depth: 0 };
        self.expression(text, &names, names.bindings.len())
    }

    /// Names that the text declares and that can be seen at its end, the newest first, with what they are.
    pub(super) fn declared(&self, text: &str) -> Vec<(String, Option<Known<'a>>)> {
        let names = Names { bindings: bindings(text), text, ran: None, depth: 0 };
        let each = names.bindings.iter().enumerate().rev();
        each.map(|(at, binding)| (binding.name.to_string(), self.bound(binding, &names, at))).collect()
    }

    /// `seen`: how many of the text's bindings stand before the expression.
    fn expression(&self, text: &str, names: &Names<'_, 'a>, seen: usize) -> Option<Known<'a>> {
        let text = text.trim_end().trim_end_matches('?');
        let pieces = outline(text).pieces;
        match text.chars().last()? {
            ')' => {
                let open = opening(&pieces, text.len())?;
                let name = last_name(text[..open].trim_end());
                let before = text[..open].trim_end().strip_suffix(name)?;
                let arguments = &text[open + 1..text.len() - 1];
                if name.is_empty() {
                    return self.expression(arguments, names, seen);
                }
                let Some(receiver) = before.strip_suffix('.') else {
                    let ours = entries().iter().find(|e| e.form == Form::Function && e.name == name);
                    return match ours {
                        Some(entry) => Some(given_by(entry)),
                        None => self.result(name, parts(arguments).iter().map(|a| self.chain(a, names, seen)).collect(), names),
                    };
                };
                let receiver = self.expression(receiver, names, seen)?;
                let kind = receiver.kind();
                let known = |argument: &str| self.chain(argument, names, seen);
                match (kind.as_str(), name) {
                    // What has the same elements or columns.
                    ("array", "filter" | "extract") | ("Table", "filter" | "sort" | "head") => return Some(receiver),
                    ("array", "map") => return Some(Known::Kind("array".into())),
                    ("Table", "select" | "with_column" | "group_by" | "join") => {
                        let columns = receiver.columns().map(|columns| changed(columns, name, &parts(arguments), known));
                        return Some(columns.map_or(Known::Kind("Table".into()), Known::Table));
                    }
                    _ => {}
                }
                let method = |e: &&Entry| e.form == Form::Method && e.name == name && e.params[0].kind == kind;
                Some(given_by(entries().iter().find(method)?))
            }
            ']' => {
                let open = opening(&pieces, text.len())?;
                let inside = text[open + 1..text.len() - 1].trim();
                if text[..open].trim_end().ends_with(|c: char| !c.is_alphanumeric() && !"_)]".contains(c)) || open == 0 {
                    let first = parts(inside).first().and_then(|first| self.chain(first, names, seen));
                    return Some(first.map_or(Known::Kind("array".into()), |first| Known::List(Box::new(first))));
                }
                self.expression(&text[..open], names, seen)?.indexed(inside)
            }
            '"' | '`' => Some(Known::Kind("string".into())),
            '}' => {
                let open = opening(&pieces, text.len())?;
                let written = parts(&text[open + 1..text.len() - 1]).into_iter().filter_map(|part| part.split_once(':'));
                let entry = |(key, value): (&str, &str)| {
                    let held = self.chain(value, names, seen).unwrap_or(Known::Kind(String::new()));
                    (key.trim().trim_matches('"').to_string(), held)
                };
                text[..open].ends_with('#').then(|| Known::Map(written.map(entry).collect()))
            }
            _ => {
                if let Some(kind) = number(text) {
                    return Some(Known::Kind(kind.into()));
                }
                let name = last_name(text);
                let before = text.strip_suffix(name)?;
                match before.strip_suffix('.') {
                    Some(receiver) if !name.is_empty() => self.property(&self.expression(receiver, names, seen)?, name),
                    _ => match names.bindings[..seen].iter().rposition(|binding| binding.name == name) {
                        Some(at) => self.bound(&names.bindings[at], names, at),
                        None => self.scope.get(name).map(Known::variable),
                    },
                }
            }
        }
    }

    /// What a script's function gives, where it ends with an expression that is told from its text and returns nowhere else.
    fn result(&self, name: &str, given: Vec<Option<Known<'a>>>, names: &Names<'_, 'a>) -> Option<Known<'a>> {
        let count = given.len();
        let defines = |module: &&Arc<Module>| {
            module.iter_script_fn_info().any(|(_, _, own, parameters, _)| own == name && parameters == count)
        };
        let source = self.functions.iter().rev().find(defines).filter(|_| names.depth < FUNCTIONS)?.id()?;
        let text = self.sources.get(source)?.text;
        let function = functions(&text).into_iter().find(|f| f.name == name && f.parameters == count)?;
        let body = text[function.range].trim_end().strip_suffix('}')?.trim_end();
        let pieces = outline(body).pieces;
        let (mut depth, mut last) = (0usize, 0);
        for (kind, range) in &pieces {
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 1 && (*kind == Kind::Semicolon || body[range.clone()] == *"{") {
                last = range.end;
            }
        }
        if !is_chain(&body[last..]) || pieces.iter().any(|(_, range)| body[range.clone()] == *"return") {
            return None;
        }
        let given = Given { function: given, closure: Vec::new() };
        let inner = Names { bindings: bindings(body), text: body, ran: Some(&given), depth: names.depth + 1 };
        self.expression(body, &inner, inner.bindings.len())
    }

    /// As [`View::expression`], of a text that may be more than one chain.
    fn chain(&self, text: &str, names: &Names<'_, 'a>, seen: usize) -> Option<Known<'a>> {
        is_chain(text).then(|| self.expression(text.trim(), names, seen)).flatten()
    }

    /// What a binding, the one at `at`, holds.
    fn bound(&self, binding: &Binding<'_>, names: &Names<'_, 'a>, at: usize) -> Option<Known<'a>> {
        match &binding.holds {
            Holds::Value(_) if binding.is_top && names.ran.is_some() => self.scope.get(binding.name).map(Known::variable),
            Holds::Value(range) => {
                let value = self.chain(&names.text[range.clone()], names, at)?;
                Some(grown(value, binding.name, &names.text[range.end..], names.ran.is_some()))
            }
            Holds::Element(range) => {
                let text = names.text[range.clone()].trim();
                match text.contains("..") {
                    true => Some(Known::Kind("integer".into())),
                    false => self.expression(text, names, at)?.element(),
                }
            }
            Holds::Argument(place) => names.ran?.function.get(*place)?.clone(),
            Holds::Given(place) => names.ran?.closure.get(*place)?.clone(),
            Holds::Kind(kind) => Some(Known::Kind((*kind).into())),
        }
    }

    fn property(&self, of: &Known<'a>, name: &str) -> Option<Known<'a>> {
        if of.is_map() {
            return of.indexed(&format!("\"{name}\""));
        }
        let kind = of.kind();
        let entry = entries().iter().find(|e| e.form == Form::Getter && e.name == name && e.params[0].kind == kind);
        let Some(entry) = entry else {
            // A table's column.
            return column(&of.columns()?, name);
        };
        // A map of facts is at hand; other properties may take time.
        if let Known::Value(value) = of
            && gives_kind(entry) == "map"
        {
            // Of a value of ours, whose copy is another handle.
            let mut receiver = value.with(Dynamic::flatten_clone)?;
            let call = NativeCallContext::new_with_all_fields(self.engine, name, None, self.global, Position::NONE);
            let value = call.call_native_fn_raw(format!("get${name}"), true, &mut [&mut receiver]).ok()?;
            return Some(Known::Value(Seen { root: Root::Made(value.into()), path: Vec::new() }));
        }
        Some(given_by(entry))
    }
}

/// What a variable holds after the statements of a text that begin with it: a map has new keys. Where the text was run, other
/// statements may have changed more than is told here.
fn grown<'a>(value: Known<'a>, name: &str, text: &str, ran: bool) -> Known<'a> {
    let Known::Map(mut entries) = value else { return value };
    let tokens = tokens(text);
    let word = |i: usize| tokens.get(i).map_or("", |range| &text[range.clone()]);
    for at in (0..tokens.len()).filter(|at| word(*at) == name && begins_statement(&word, *at)) {
        match (word(at + 1), word(at + 3)) {
            _ if statement_end(&tokens, text, at).is_none() => {}
            (".", "=") => entries.push((word(at + 2).into(), Known::Kind(String::new()))),
            _ if ran => return Known::Kind("map".into()),
            _ => {}
        }
    }
    Known::Map(entries)
}

/// What a call or property gives: its type, with the keys and columns of which its documentation speaks.
fn given_by<'a>(entry: &Entry) -> Known<'a> {
    let kind = gives_kind(entry);
    let unknown = |name: &str| (name.to_string(), Known::Kind(String::new()));
    match kind.as_str() {
        "Table" => match listed(entry).into_iter().map(|name| (name.to_string(), "")).collect::<Vec<_>>() {
            columns if columns.is_empty() => Known::Kind(kind),
            columns => Known::Table(columns),
        },
        "map" | "array" => {
            let written: Vec<_> = inner_keys(prose(entry)).into_iter().filter(|name| is_name(name)).map(unknown).collect();
            match kind.as_str() {
                "array" if !written.is_empty() => Known::List(Box::new(Known::Map(written))),
                "map" if !written.is_empty() => Known::Map(written),
                "map" => match listed(entry).into_iter().map(unknown).collect::<Vec<_>>() {
                    facts if facts.is_empty() => Known::Kind(kind),
                    facts => Known::Map(facts),
                },
                _ => Known::Kind(kind),
            }
        }
        _ => Known::Kind(kind),
    }
}

/// A documentation up to its example.
pub(super) fn prose(entry: &Entry) -> &'static str {
    entry.doc.split("```").next().unwrap_or_default()
}

/// The names in the first list of a documentation (`` `feature mean std` ``), or of the one to which it sends its readers.
pub(super) fn listed(entry: &Entry) -> Vec<&'static str> {
    let mut quoted = prose(entry).split('`').skip(1).step_by(2);
    let is_list = |text: &&str| text.split_whitespace().count() > 1 && text.split_whitespace().all(is_name);
    if let Some(list) = quoted.clone().find(is_list) {
        return list.split_whitespace().collect();
    }
    let elsewhere = quoted.find_map(|text| text.strip_prefix('?'));
    let told = elsewhere.and_then(|name| entries().iter().find(|other| other.path() == name && other.name != entry.name));
    told.map(listed).unwrap_or_default()
}

/// The columns of a table after the call of a method of it.
fn changed<'a>(mut columns: Columns, method: &str, arguments: &[&str], known: impl Fn(&str) -> Option<Known<'a>>) -> Columns {
    let written = |i: usize| -> Vec<String> {
        let text = arguments.get(i).copied().unwrap_or_default();
        let literals = outline(text).pieces.into_iter().filter(|(kind, _)| *kind == Kind::Text);
        literals.map(|(_, range)| text[range].trim_matches(['"', '`']).to_string()).collect()
    };
    match method {
        "with_column" => columns.extend(written(0).into_iter().map(|name| (name, ""))),
        "join" => {
            let right = arguments.first().and_then(|other| known(other)).and_then(|other| other.columns()).unwrap_or_default();
            let by = written(1);
            for (name, kind) in right.into_iter().filter(|(name, _)| !by.contains(name)) {
                let taken = columns.iter().any(|(left, _)| *left == name);
                columns.push((if taken { format!("{name}_right") } else { name }, kind));
            }
        }
        _ => {
            let kept = written(0);
            columns.retain(|(name, _)| kept.contains(name));
            let summaries = arguments.get(1).and_then(|summaries| known(summaries)).map(|made| made.keys()).unwrap_or_default();
            columns.extend(summaries.into_iter().map(|name| (name, "")));
        }
    }
    columns
}

/// The parts of a text between its commas.
pub(super) fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0usize, 0, Vec::new());
    for (kind, range) in outline(text).pieces {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Comma if depth == 0 => {
                found.push(text[start..range.start].trim());
                start = range.end;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found.retain(|part| !part.is_empty());
    found
}

/// The kind of the number with which a text ends.
fn number(text: &str) -> Option<&'static str> {
    let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let start = text.char_indices().rev().take_while(|(_, c)| belongs(*c)).last()?.0;
    let written = text[start..].replace('_', "");
    match written.starts_with(|c: char| c.is_ascii_digit()) {
        true if written.parse::<i64>().is_ok() => Some("integer"),
        true if written.parse::<f64>().is_ok() => Some("number"),
        _ => None,
    }
}

/// The names that a text declares.
struct Names<'t, 'a> {
    text: &'t str,
    bindings: Vec<Binding<'t>>,
    /// The text was run up to its end, with this given to the functions in which it ends.
    ran: Option<&'t Given<'a>>,
    /// How many functions' results this is asked for.
    depth: usize,
}

/// One name that a text declares.
struct Binding<'t> {
    name: &'t str,
    /// A variable of the session once the text has run.
    is_top: bool,
    holds: Holds,
}

/// What a declared name holds; texts by their bytes.
enum Holds {
    /// The value of an expression.
    Value(Range<usize>),
    /// An element of what an expression gives.
    Element(Range<usize>),
    /// The argument of a function's call.
    Argument(usize),
    /// The argument of the call of a closure.
    Given(usize),
    Kind(&'static str),
}

/// The names that can be seen at the end of a text, in its order.
fn bindings(text: &str) -> Vec<Binding<'_>> {
    let tokens = tokens(text);
    let local = |name, holds| Binding { name, is_top: false, holds };
    let (mut found, mut blocks, mut of_block) = (Vec::<Binding>::new(), Vec::new(), Vec::<Binding>::new());
    let mut i = 0;
    let word = |i: usize| tokens.get(i).map_or("", |range: &Range<usize>| &text[range.clone()]);
    while i < tokens.len() {
        match word(i) {
            "{" | "(" | "[" => {
                blocks.push(found.len());
                if word(i) == "{" {
                    found.append(&mut of_block);
                }
            }
            "}" | ")" | "]" => {
                let before = blocks.pop().unwrap_or(0);
                found.truncate(before);
            }
            "for" => {
                let (names, after) = name_list(&tokens, text, i + 1);
                if word(after) == "in"
                    && let Some(end) = (after..tokens.len()).find(|at| word(*at) == "{" && word(at - 1) != "#")
                {
                    let holds = |place: usize| match place {
                        0 => Holds::Element(tokens[after].end..tokens[end].start),
                        _ => Holds::Kind("integer"),
                    };
                    of_block = names.into_iter().enumerate().map(|(i, name)| local(name, holds(i))).collect();
                    i = end;
                    continue;
                }
            }
            "fn" => {
                let (names, after) = name_list(&tokens, text, i + 2);
                // A function sees no variable of the block around it.
                of_block = names.into_iter().enumerate().map(|(i, name)| local(name, Holds::Argument(i))).collect();
                i = after;
                continue;
            }
            "|" if opens_closure(word(i.wrapping_sub(1))) => {
                if let Some(end) = (i + 1..tokens.len()).find(|at| word(*at) == "|") {
                    let names = (i + 1..end).map(word).filter(|name| is_name(name));
                    let receiver = receiver_of(text, tokens[i].start);
                    let holds = |place: usize| match &receiver {
                        Some((range, "reduce")) if place == 1 => Holds::Element(range.clone()),
                        Some((range, method)) if place == 0 && *method != "reduce" => Holds::Element(range.clone()),
                        _ => Holds::Given(place),
                    };
                    found.extend(names.enumerate().map(|(place, name)| local(name, holds(place))));
                    i = end;
                }
            }
            "=" if is_name(word(i.wrapping_sub(1))) && begins_statement(&word, i - 1) => {
                // Still open: the name has not its new value yet.
                if let Some(end) = statement_end(&tokens, text, i + 1) {
                    found.push(Binding { name: word(i - 1), is_top: blocks.is_empty(), holds: Holds::Value(tokens[i].end..end) });
                }
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Words, and symbols one by one; `==`, `=>` and their like whole.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    for (kind, range) in outline(text).pieces {
        match kind {
            Kind::Comment => {}
            Kind::Other => {
                let mut start = range.start;
                while start < range.end {
                    let rest = &text[start..range.end];
                    let run = |belongs: fn(char) -> bool| rest.find(|c: char| !belongs(c)).unwrap_or(rest.len());
                    let length = match rest.chars().next() {
                        Some(c) if c.is_alphanumeric() || c == '_' => run(|c| c.is_alphanumeric() || c == '_'),
                        Some(c) if "=<>!+-*/%".contains(c) => run(|c| "=<>!+-*/%".contains(c)),
                        Some(c) => c.len_utf8(),
                        None => break,
                    };
                    tokens.push(start..start + length);
                    start += length;
                }
            }
            _ => tokens.push(range),
        }
    }
    tokens
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_') && word.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// What stands before the parameters of a closure, not before an operator `|`.
fn opens_closure(before: &str) -> bool {
    ["", "(", ",", "=", ";", "{", "[", ":", "return"].contains(&before)
}

/// A name, or names in brackets, from token `at` on; and the token behind them.
fn name_list<'t>(tokens: &[Range<usize>], text: &'t str, at: usize) -> (Vec<&'t str>, usize) {
    let word = |i: usize| tokens.get(i).map_or("", |range| &text[range.clone()]);
    if word(at) != "(" {
        return (vec![word(at)], at + 1);
    }
    let end = (at..tokens.len()).find(|at| word(*at) == ")").unwrap_or(tokens.len());
    ((at + 1..end).map(word).filter(|name| is_name(name)).collect(), end + 1)
}

/// The token `at` begins a statement, or is what `let` or `const` declares.
fn begins_statement<'t>(word: &impl Fn(usize) -> &'t str, at: usize) -> bool {
    at == 0 || ["let", "const", ";", "{", "}"].contains(&word(at - 1))
}

/// The byte of the semicolon that ends the statement which goes on at token `at`.
fn statement_end(tokens: &[Range<usize>], text: &str, at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for range in &tokens[at..] {
        match &text[range.clone()] {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.checked_sub(1)?,
            ";" if depth == 0 => return Some(range.start),
            _ => {}
        }
    }
    None
}

/// For the closure that begins at byte `at`: what its method walks, and the method's name.
fn receiver_of(text: &str, at: usize) -> Option<(Range<usize>, &str)> {
    let head = text[..at].trim_end().strip_suffix('(')?.trim_end();
    let method = last_name(head);
    let receiver = head[..head.len() - method.len()].trim_end().strip_suffix('.')?;
    Some((0..receiver.len(), method))
}

/// One chain of names, calls and indices, without operators.
pub(super) fn is_chain(text: &str) -> bool {
    let mut depth = 0usize;
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_.:#?".contains(c));
    let mut last_end = None;
    outline(text.trim()).pieces.iter().all(|(kind, range)| {
        let apart = last_end.replace(range.end).is_some_and(|end| end != range.start);
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Other if depth == 0 => return plain(&text.trim()[range.clone()]) && !apart,
            _ => {}
        }
        true
    })
}

/// The kind of value that an entry gives, as [`type_name`] names kinds.
fn gives_kind(entry: &Entry) -> String {
    let gives = entry.gives();
    // What may be a number or a tensor is offered a tensor's methods.
    match gives.trim_start_matches("number or ").trim_end_matches(" or ()") {
        "any value" => String::new(),
        kind => short_type_name(kind),
    }
}

/// The bracket that the one before byte `end` closes.
pub(super) fn opening(pieces: &[Piece], end: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (kind, range) in pieces.iter().rev().filter(|(_, range)| range.end <= end) {
        match kind {
            Kind::Close => depth += 1,
            Kind::Open if depth == 1 => return Some(range.start),
            Kind::Open => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The name at the end of a text.
pub(super) fn last_name(text: &str) -> &str {
    let start = text.char_indices().rev().take_while(|(_, c)| c.is_alphanumeric() || *c == '_').last();
    start.map_or("", |(at, _)| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Session, SessionOptions};
    use crate::work::Work;
    use std::collections::BTreeSet;

    fn session(text: &str) -> Session {
        let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        session.eval(text, "In[1]").unwrap();
        session
    }

    #[test]
    fn values_are_looked_at_where_they_are() {
        let mut session = session("let m = #{list: [#{a: [1, 2]}], text: \"x\"}; fn sees() { m.text }");
        session.cell("#{b: [3]}").unwrap();
        let place = |value: &Dynamic| std::ptr::from_ref(value);
        let m = session.scope.get("m").unwrap();
        let within =
            |map: &Dynamic, key: &str, look: &dyn Fn(&Dynamic) -> *const Dynamic| look(&map.read_lock::<Map>().unwrap()[key]);
        let list = within(m, "list", &|list| within(&list.read_lock::<Array>().unwrap()[0], "a", &place));
        for (text, expected) in [
            ("m", place(m)),
            ("m.text", within(m, "text", &place)),
            ("m[\"list\"][0].a", list),
            ("let inner = m.list; inner[0].a", list),
            ("m.list.filter(|x| x != ())[0].a", list),
            ("Out[1].b", session.host.outputs.look(1, |value| within(value, "b", &place)).unwrap()),
        ] {
            let Some(Known::Value(seen)) = session.view().at_end(text) else { panic!("{text} is not seen") };
            assert_eq!(seen.with(place), Some(expected), "{text}");
        }
        // What holds itself does not wait for itself.
        session.cell("Out").unwrap();
        assert!(session.view().at_end("Out[2][2]").is_none_or(|known| known.kind().is_empty()));
    }

    #[test]
    fn documented_keys_and_columns_are_those_that_there_are() {
        let set_up = "let model = load_model(\"demo\"); let dict = mlp_neurons(model, 0); let scores = unembed(dict, model, #{k: 5}); \
                      let found = semantics(scores, model, #{n_null: 256, fpr: 0.2});";
        let mut session = session(set_up);
        for (written, run) in [
            ("load_model(\"demo\").cfg", "model.cfg"),
            ("mlp_neurons(model, 0).cfg", "dict.cfg"),
            ("unembed(dict, model).table()", "scores.table()"),
            ("unembed(dict, model).top(0)[0]", "scores.top(0)[0]"),
            ("semantics(scores, model).table()", "found.table()"),
        ] {
            let told = session.view().at_end(written).map(|known| known.keys()).unwrap_or_default();
            session.eval(&format!("let made = {run};"), "In[2]").unwrap();
            let mut there = session.view().at_end("made").map(|known| known.keys()).unwrap_or_default();
            there.retain(|key| written.contains("model(") || told.contains(key));
            let (told, there): (BTreeSet<String>, BTreeSet<String>) = (told.into_iter().collect(), there.into_iter().collect());
            assert!(!told.is_empty() && told == there, "{written}: {told:?} {there:?}");
        }
    }
}
