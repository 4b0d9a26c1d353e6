//! Any error as a report: what happened, the line with a caret, the chain of calls, what would be right.

use super::stack::{TOO_DEEP, TooDeep};
use super::suggest::{self, Known};
use crate::error::{Error, Kind};
use crate::script::convert::{FromScript, short_type_name};
use crate::script::declare::INDEXED;
use crate::script::{ScriptError, display};
use annotate_snippets::renderer::{DecorStyle, Renderer};
use annotate_snippets::{AnnotationKind, Group, Level, Snippet};
use rhai::{EvalAltResult, LexError, Module, ParseErrorType, Position};
use std::fmt;
use std::sync::Arc;

/// Frames of a long chain of calls that are shown, at either end.
const FRAMES: usize = 5;

/// A place in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// File, or name of the cell.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// What happens there, unless it is the fault itself: "`f` is called here".
    pub note: Option<String>,
}

/// What went wrong in a cell.
#[derive(Clone, Debug)]
pub struct Report {
    /// What sort of fault.
    pub kind: Kind,
    /// What happened.
    pub message: String,
    /// Where: the fault first, then the calls that led to it.
    pub frames: Vec<Frame>,
    /// What would be right.
    pub help: Vec<String>,
}

impl Report {
    /// A report without a place.
    pub(super) fn of_error(error: &Error) -> Self {
        Report { kind: error.kind(), message: error.to_string(), frames: Vec::new(), help: error.helps().to_vec() }
    }

    /// True when the user stopped the work.
    pub fn is_interrupted(&self) -> bool {
        self.kind == Kind::Interrupted
    }

    /// The report for a terminal of so many columns, with colours if asked for.
    pub fn render(&self, colour: bool, width: usize) -> String {
        // As wide as what stands before them: `error: `, `note: `, `help: `.
        let message = wrapped(&self.message, width, 7);
        let notes: Vec<Option<String>> =
            self.frames.iter().map(|f| f.note.as_ref().map(|note| wrapped(note, width, 6))).collect();
        let helps: Vec<String> = self.help.iter().map(|help| wrapped(help, width, 6)).collect();
        let left_out = self.frames.len().saturating_sub(2 * FRAMES + 1);
        let mut groups = Vec::new();
        for (i, frame) in self.frames.iter().enumerate() {
            let group = match &notes[i] {
                _ if left_out > 0 && i == FRAMES + 1 => {
                    groups.push(Group::with_title(Level::NOTE.secondary_title(format!("{left_out} calls are left out here"))));
                    continue;
                }
                _ if left_out > 0 && (FRAMES + 1..FRAMES + 1 + left_out).contains(&i) => continue,
                None => Group::with_title(Level::ERROR.primary_title(message.as_str())),
                Some(note) => Group::with_title(Level::NOTE.secondary_title(note.as_str())),
            };
            let kind = if frame.note.is_none() { AnnotationKind::Primary } else { AnnotationKind::Context };
            let snippet = Snippet::source(frame.text.as_str())
                .line_start(frame.line)
                .path(frame.source.as_str())
                .annotation(kind.span(span(&frame.text, frame.column)));
            groups.push(group.element(snippet));
        }
        let help = helps.iter().map(|help| Group::with_title(Level::HELP.secondary_title(help.as_str())));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(width);
        if groups.is_empty() {
            // Rendered together, a bar without a line of source would stand between them.
            let error = Group::with_title(Level::ERROR.primary_title(message.as_str()));
            let parts: Vec<String> = std::iter::once(error).chain(help).map(|part| renderer.render(&[part])).collect();
            return parts.join("\n");
        }
        groups.extend(help);
        renderer.render(&groups)
    }
}

/// Plain text, as [`Report::render`] without colours and line breaks.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false, usize::MAX))
    }
}

impl std::error::Error for Report {}

/// A text in lines that leave room for what stands before them. A word that is longer than a line stays whole: it may be a
/// path or a name to copy.
fn wrapped(text: &str, width: usize, before: usize) -> String {
    let room = width.saturating_sub(before).max(20);
    textwrap::wrap(text, textwrap::Options::new(room).break_words(false)).join("\n")
}

/// Bytes of the token at a column (from 1, in characters): a name, a number, an operator, or one character.
fn span(line: &str, column: usize) -> std::ops::Range<usize> {
    let start = line.char_indices().nth(column - 1).map_or(line.len(), |(byte, _)| byte);
    let rest = &line[start..];
    let run = |belongs: fn(char) -> bool| rest.find(|c: char| !belongs(c)).unwrap_or(rest.len());
    let length = match rest.chars().next() {
        None => 0,
        Some(c) if c.is_alphanumeric() || c == '_' => run(|c| c.is_alphanumeric() || c == '_'),
        Some(c) => {
            let operator = [
                "**=", "<<=", ">>=", "..=", "==", "!=", "<=", ">=", "&&", "||", "**", "??", "?.", "..", "::", "+=", "-=", "*=",
                "/=", "%=", "=>", "<<", ">>",
            ];
            operator.iter().find(|o| rest.starts_with(**o)).map_or(c.len_utf8(), |o| o.len())
        }
    };
    start..start + length
}

/// Turns a Rhai error that came out of the source `name` into a report.
pub(super) fn of(error: EvalAltResult, name: &str, known: &Known<'_>) -> Report {
    let (mut error, mut source) = (error, name.to_string());
    let mut frames = Vec::new();
    loop {
        error = match error {
            EvalAltResult::ErrorInFunctionCall(function, inside, inner, position) => {
                let closure = function.starts_with("anon$");
                let note = if closure { "in a closure called here".into() } else { format!("in `{function}` called here") };
                frames.extend(frame(known, &source, position, Some(note)));
                // Rhai takes a closure for a part of whoever calls it.
                let home = if closure { home(known, &function) } else { None };
                if let Some(inside) = home.or(Some(inside).filter(|inside| !inside.is_empty())) {
                    source = inside;
                }
                *inner
            }
            EvalAltResult::ErrorInModule(module, inner, position) => {
                frames.extend(frame(known, &source, position, Some(format!("while `{module}` is imported here"))));
                source = module;
                *inner
            }
            other => {
                error = other;
                break;
            }
        };
    }
    let position = error.take_position();
    let mut fault = frame(known, &source, position, None);
    // A name that is no property reaches a native type as an index: the fault is the name behind the dot.
    let property = fault.as_mut().and_then(|fault| property_as_index(&error, fault));
    let (kind, message, help) = match property {
        Some((name, kind)) => {
            let (message, help) = suggest::property(known, &name, Some(&kind));
            (Kind::Input, message, help)
        }
        None => explain(error, fault.as_ref(), known),
    };
    // Without a place of its own the fault stands where the innermost call does.
    match fault {
        Some(fault) => frames.push(fault),
        None => {
            if let Some(last) = frames.last_mut() {
                last.note = None;
            }
        }
    }
    frames.reverse();
    // A function that calls a closure stands at the same place as the closure's call.
    frames.dedup_by(|outer, inner| {
        let same = inner.note.is_some() && (&inner.source, inner.line, inner.column) == (&outer.source, outer.line, outer.column);
        if same {
            inner.note = outer.note.take();
        }
        same
    });
    Report { kind, message, frames, help }
}

/// The cell that wrote a closure.
fn home(known: &Known<'_>, closure: &str) -> Option<String> {
    let wrote = |module: &&Arc<Module>| module.iter_script_fn_info().any(|(_, _, name, ..)| name == closure);
    known.functions.iter().rev().find(wrote).and_then(|module| module.id()).map(String::from)
}

fn frame(known: &Known<'_>, source: &str, position: Position, note: Option<String>) -> Option<Frame> {
    let whole = known.sources.get(source)?;
    let line = position.line()?;
    let column = whole.edits.written(line, position.position().unwrap_or(1));
    let lines: Vec<&str> = whole.text.trim_end().lines().collect();
    // What is missing at the end is missing behind the last line that says something.
    let (line, column) = if line > lines.len() { (lines.len().max(1), usize::MAX) } else { (line, column) };
    let text = lines.get(line - 1).copied().unwrap_or_default().to_string();
    let column = column.clamp(1, text.chars().count() + 1);
    let (source, line) = known.sources.place(source, line);
    Some(Frame { source, line, column, text, note })
}

/// Kind, message and help of an error whose position was taken off.
fn explain(error: EvalAltResult, fault: Option<&Frame>, known: &Known<'_>) -> (Kind, String, Vec<String>) {
    let input = |message: String, help: Vec<String>| (Kind::Input, message, help);
    match error {
        EvalAltResult::ErrorRuntime(value, _) => match ScriptError::from_script(&value) {
            Some(ScriptError { error, .. }) => (error.kind(), error.to_string(), error.helps().to_vec()),
            None if value.is_unit() => input("the script failed without a message".into(), Vec::new()),
            None => input(display::text(known.engine, &value, usize::MAX), Vec::new()),
        },
        EvalAltResult::ErrorTerminated(value, _) if value.is::<TooDeep>() => too_deep(),
        EvalAltResult::ErrorTerminated(..) => (Kind::Interrupted, "interrupted".into(), Vec::new()),
        EvalAltResult::ErrorStackOverflow(_) => too_deep(),
        EvalAltResult::ErrorParsing(ParseErrorType::BadInput(LexError::Runtime(text)), _) if text == TOO_DEEP => {
            (Kind::Limit, text, Vec::new())
        }
        EvalAltResult::ErrorParsing(what @ ParseErrorType::BadInput(LexError::UnterminatedString), _) => {
            let help = "a text over several lines stands between ` and `, or has \\ at the end of each line";
            input(first_lower(&what.to_string()), vec![help.into()])
        }
        EvalAltResult::ErrorParsing(what, _) => {
            let help = fault.and_then(|fault| suggest::syntax(&what, fault));
            input(first_lower(&what.to_string()), help.into_iter().collect())
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => {
            let help = suggest::variable(known, &name, fault);
            input(format!("unknown variable `{name}`"), help)
        }
        EvalAltResult::ErrorModuleNotFound(name, _) => input(format!("unknown module `{name}`"), suggest::module(known, &name)),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            let (message, help) = suggest::function(known, &signature, fault.is_some_and(is_method));
            input(message, help)
        }
        EvalAltResult::ErrorPropertyNotFound(name, _) => {
            let (message, help) = suggest::key(known, &name, fault);
            input(message, help)
        }
        EvalAltResult::ErrorDotExpr(text, _) => match unknown_property(&text) {
            Some((name, of)) => {
                let (message, help) = suggest::property(known, name, Some(&of));
                input(message, help)
            }
            None => input(first_lower(&text), Vec::new()),
        },
        EvalAltResult::ErrorIndexingType(types, _) => {
            let kind = short_type_name(types.split([' ', '[']).next().unwrap_or(&types));
            input(format!("a value of type {kind} cannot be indexed like this"), suggest::indexing(&kind))
        }
        EvalAltResult::ErrorMismatchDataType(wanted, given, _) if wanted == "Fn" => {
            input(format!("this is called as a function, but it is {}", short_type_name(&given)), Vec::new())
        }
        EvalAltResult::ErrorMismatchDataType(wanted, given, _) | EvalAltResult::ErrorMismatchOutputType(wanted, given, _)
            if !wanted.is_empty() && !given.is_empty() =>
        {
            let (wanted, given) = (short_type_name(&wanted), short_type_name(&given));
            let help = match (wanted.as_str(), given.as_str()) {
                ("bool", "Tensor") => Some("a condition needs one truth value: t.any() or t.all()"),
                ("integer", "range") => Some("a part of an array is list.extract(a..b), of a text text.sub_string(a..b)"),
                _ => None,
            };
            input(format!("expected {wanted}, found {given}"), help.map(String::from).into_iter().collect())
        }
        EvalAltResult::ErrorDataRace(..) => input(
            "the closure uses the variable whose method it is given to".into(),
            vec!["copy the variable first, `let copy = x;`, and use the copy in the closure".into()],
        ),
        EvalAltResult::ErrorFor(_) => {
            input("`for` needs something to walk: an array, a range, a map's keys, a tensor, a table".into(), Vec::new())
        }
        other => input(first_lower(&other.to_string()), Vec::new()),
    }
}

fn too_deep() -> (Kind, String, Vec<String>) {
    let help = "a function that calls itself needs a case in which it does not";
    (Kind::Limit, "calls are nested too deeply".into(), vec![help.into()])
}

/// Name and type in Rhai's "Unknown property 'x' - a getter is not registered for type 'T'".
fn unknown_property(text: &str) -> Option<(&str, String)> {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    match quoted[..] {
        [name, of] if text.starts_with("Unknown property") => Some((name, short_type_name(of))),
        _ => None,
    }
}

/// The name that was taken for an index, and the type that refused it, if the fault is at the dot before it; the fault is
/// moved behind the dot.
fn property_as_index(error: &EvalAltResult, fault: &mut Frame) -> Option<(String, String)> {
    let EvalAltResult::ErrorRuntime(value, _) = error else { return None };
    let error = ScriptError::from_script(value)?.error;
    let (kind, _) = error.message().split_once(INDEXED).filter(|(kind, _)| kind.chars().all(char::is_alphanumeric))?;
    let rest: String = fault.text.chars().skip(fault.column - 1).collect();
    let name: String = rest.strip_prefix('.')?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then(|| {
        fault.column += 1;
        (name, kind.to_string())
    })
}

/// The token of the fault stands after a dot.
fn is_method(fault: &Frame) -> bool {
    let before: String = fault.text.chars().take(fault.column - 1).collect();
    before.trim_end().ends_with(['.'])
}

/// Rhai's messages begin with a capital, ours do not.
fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => text.to_string(),
    }
}
