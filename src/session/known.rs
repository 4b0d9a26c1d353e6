//! What an expression is, told from its text without running it: completion and the help of errors ask for it.
//!
//! Names are looked up where they stand: what the text itself declares (variables, loops, parameters) goes before the
//! session's variables.

use crate::model::forward::Pass;
use crate::script::convert::{short_type_name, type_name};
use crate::script::declare::{Entry, Form};
use crate::script::scan::{Kind, Piece, outline};
use crate::script::{Outputs, entries};
use crate::table::{Column, Table};
use rhai::{Array, Dynamic, Engine, GlobalRuntimeState, Map, NativeCallContext, Position, Scope};
use std::ops::Range;

/// What is known of an expression.
#[derive(Clone)]
pub(super) enum Known {
    Value(Dynamic),
    Kind(String),
}

impl Known {
    /// The name of its type, as signatures write it.
    pub(super) fn kind(&self) -> String {
        match self {
            Known::Value(value) => type_name(value),
            Known::Kind(kind) => kind.clone(),
        }
    }

    /// Keys, columns and hooks by which it is indexed.
    pub(super) fn keys(&self) -> Vec<String> {
        let Known::Value(value) = self else { return Vec::new() };
        if let Some(table) = value.read_lock::<Table>() {
            return table.names().map(String::from).collect();
        }
        if let Some(cache) = value.read_lock::<Pass>() {
            return cache.kept.iter().map(|(hook, _)| hook.name()).collect();
        }
        value.read_lock::<Map>().map(|map| map.keys().map(ToString::to_string).collect()).unwrap_or_default()
    }
}

/// What a session can be asked for.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) engine: &'a Engine,
    /// Imports and functions of the cells so far.
    pub(super) global: &'a GlobalRuntimeState,
    pub(super) scope: &'a Scope<'static>,
}

impl View<'_> {
    /// What the expression at the end of a text is that has not been run.
    pub(super) fn at_end(&self, text: &str) -> Option<Known> {
        let names = Names { bindings: bindings(text), text, ran: None };
        self.expression(text, &names, names.bindings.len())
    }

    /// As [`View::at_end`], of a text that was run up to there. `arguments` are those of the function in which it ends.
    pub(super) fn where_it_ended(&self, text: &str, arguments: &[Option<Known>]) -> Option<Known> {
        let names = Names { bindings: bindings(text), text, ran: Some(arguments) };
        self.expression(text, &names, names.bindings.len())
    }

    /// Names that the text declares and that can be seen at its end, the newest first, with what they are.
    pub(super) fn declared(&self, text: &str) -> Vec<(String, Option<Known>)> {
        let names = Names { bindings: bindings(text), text, ran: None };
        let each = names.bindings.iter().enumerate().rev();
        each.map(|(at, binding)| (binding.name.to_string(), self.bound(binding, &names, at))).collect()
    }

    /// `seen`: how many of the text's bindings stand before the expression.
    fn expression(&self, text: &str, names: &Names<'_>, seen: usize) -> Option<Known> {
        let text = text.trim_end().trim_end_matches('?');
        let pieces = outline(text).pieces;
        match text.chars().last()? {
            ')' => {
                let open = opening(&pieces, text.len())?;
                let name = last_name(text[..open].trim_end());
                let before = text[..open].trim_end().strip_suffix(name)?;
                if name.is_empty() {
                    return self.expression(&text[open + 1..text.len() - 1], names, seen);
                }
                let entry = match before.strip_suffix('.') {
                    Some(receiver) => {
                        let kind = self.expression(receiver, names, seen)?.kind();
                        entries().iter().find(|e| e.form == Form::Method && e.name == name && e.params[0].kind == kind)?
                    }
                    None => entries().iter().find(|e| e.form == Form::Function && e.name == name)?,
                };
                Some(Known::Kind(gives_kind(entry)))
            }
            ']' => {
                let open = opening(&pieces, text.len())?;
                if text[..open].trim_end().ends_with(|c: char| !c.is_alphanumeric() && !"_)]".contains(c)) || open == 0 {
                    return Some(Known::Kind("array".into()));
                }
                let index = text[open + 1..text.len() - 1].trim();
                match self.expression(&text[..open], names, seen)? {
                    Known::Value(value) => element(&value, index),
                    Known::Kind(kind) => indexed(&kind, index),
                }
            }
            '"' | '`' => Some(Known::Kind("string".into())),
            '}' => Some(Known::Kind("map".into())),
            _ => {
                let name = last_name(text);
                let before = text.strip_suffix(name)?;
                match before.strip_suffix('.') {
                    Some(receiver) if !name.is_empty() => self.property(&self.expression(receiver, names, seen)?, name),
                    _ => match names.bindings[..seen].iter().rposition(|binding| binding.name == name) {
                        Some(at) => self.bound(&names.bindings[at], names, at),
                        None => self.scope.get(name).map(|value| Known::Value(value.flatten_clone())),
                    },
                }
            }
        }
    }

    /// What a binding, the one at `at`, holds.
    fn bound(&self, binding: &Binding<'_>, names: &Names<'_>, at: usize) -> Option<Known> {
        match &binding.holds {
            Holds::Value(_) if binding.is_top && names.ran.is_some() => {
                self.scope.get(binding.name).map(|value| Known::Value(value.flatten_clone()))
            }
            Holds::Value(range) => {
                let text = &names.text[range.clone()];
                is_chain(text).then(|| self.expression(text, names, at)).flatten()
            }
            Holds::Element(range) => {
                let text = names.text[range.clone()].trim();
                match text.contains("..") {
                    true => Some(Known::Kind("integer".into())),
                    false => first(&self.expression(text, names, at)?),
                }
            }
            Holds::Argument(place) => names.ran?.get(*place)?.clone(),
            Holds::Kind(kind) => Some(Known::Kind((*kind).into())),
        }
    }

    fn property(&self, of: &Known, name: &str) -> Option<Known> {
        if let Known::Value(value) = of
            && let Some(map) = value.read_lock::<Map>()
        {
            return map.get(name).map(|value| Known::Value(value.flatten_clone()));
        }
        let kind = of.kind();
        let entry = entries().iter().find(|e| e.form == Form::Getter && e.name == name && e.params[0].kind == kind);
        let Some(entry) = entry else {
            // A table's column.
            return if let Known::Value(value) = of { element(value, name) } else { None };
        };
        // A map of facts is at hand; other properties may take time.
        if let Known::Value(value) = of
            && gives_kind(entry) == "map"
        {
            let mut receiver = value.clone();
            let call = NativeCallContext::new_with_all_fields(self.engine, name, None, self.global, Position::NONE);
            let value = call.call_native_fn_raw(format!("get${name}"), true, &mut [&mut receiver]);
            return value.ok().map(Known::Value);
        }
        Some(Known::Kind(gives_kind(entry)))
    }
}

/// The names that a text declares.
struct Names<'t> {
    text: &'t str,
    bindings: Vec<Binding<'t>>,
    /// The text was run up to its end, in a function with these arguments.
    ran: Option<&'t [Option<Known>]>,
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
                        _ => Holds::Argument(usize::MAX),
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

/// What walking a value gives.
fn first(of: &Known) -> Option<Known> {
    match of {
        Known::Value(value) => {
            if let Some(table) = value.read_lock::<Table>() {
                // The values do not matter, only that the keys are there.
                let row = table.names().map(|name| (name.into(), column_kind(&table, name))).collect::<Map>();
                return Some(Known::Value(row.into()));
            }
            element(value, "0")
        }
        Known::Kind(kind) => match kind.as_str() {
            "Table" => Some(Known::Kind("map".into())),
            "Tensor" => Some(Known::Kind("Tensor".into())),
            "range" => Some(Known::Kind("integer".into())),
            _ => None,
        },
    }
}

/// A value of the kind that a column's cells have.
fn column_kind(table: &Table, name: &str) -> Dynamic {
    match table.column(name) {
        Ok(Column::Text(_)) => "".into(),
        Ok(Column::Float(_) | Column::Int(_) | Column::Bool(_)) => 0.0.into(),
        _ => Array::new().into(),
    }
}

/// What indexing a value of a type gives.
fn indexed(kind: &str, index: &str) -> Option<Known> {
    if kind == "Table" {
        let column = index.starts_with('"');
        return Some(Known::Kind(if column { "Tensor" } else { "map" }.into()));
    }
    let entry = entries().iter().find(|e| e.form == Form::IndexGet && e.params[0].kind == kind)?;
    Some(Known::Kind(gives_kind(entry)))
}

/// The element that an index as written picks.
fn element(value: &Dynamic, index: &str) -> Option<Known> {
    let key = index.trim_matches('"');
    if let Some(items) = value.read_lock::<Array>() {
        let item = index.parse::<usize>().ok().and_then(|i| items.get(i)).or_else(|| items.first())?;
        return Some(Known::Value(item.flatten_clone()));
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map.get(key).map(|value| Known::Value(value.flatten_clone()));
    }
    if let Some(table) = value.read_lock::<Table>()
        && let Ok(column) = table.column(key)
    {
        let numbers = matches!(column, Column::Float(_) | Column::Int(_) | Column::Bool(_));
        return Some(Known::Kind(if numbers { "Tensor" } else { "array" }.into()));
    }
    if let Some(outputs) = value.read_lock::<Outputs>() {
        return outputs.get(index.parse().ok()?).ok().map(Known::Value);
    }
    indexed(&type_name(value), index)
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
