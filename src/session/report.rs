//! Any error as a report: what happened, the line with a caret, the chain of calls, what would be right.

use super::bounds::TooLarge;
use super::modules::Sources;
use super::stack::{TOO_DEEP, TooDeep};
use super::suggest::{self, Call, Known};
use super::{CALL_LEVELS, names, raised, readable, recursion, syntax};
use crate::error::{Error, Kind};
use crate::render::text;
use crate::script::convert::{FromScript, short_type_name, with_article};
use crate::script::declare::INDEXED;
use crate::script::natives::Callable;
use crate::script::{Explain, ScriptError, display, error_of};
use annotate_snippets::renderer::{DecorStyle, Renderer};
use annotate_snippets::{AnnotationKind, Group, Level, Snippet};
use rhai::{AST, ASTNode, Dynamic, EvalAltResult, Expr, LexError, Module, ParseErrorType, Position, Scope, Stmt};
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
    /// Calls between this one and the next frame's that are left out.
    pub more: usize,
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
                    groups.push(Group::with_title(Level::NOTE.secondary_title(left_out_here(left_out))));
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
            if frame.more > 0 {
                groups.push(Group::with_title(Level::NOTE.secondary_title(left_out_here(frame.more))));
            }
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

fn left_out_here(calls: usize) -> String {
    format!("{} left out here", if calls == 1 { "1 more call is".into() } else { format!("{calls} more calls are") })
}

/// A text in lines that leave room for what stands before them.
fn wrapped(text: &str, width: usize, before: usize) -> String {
    text::wrapped(text, width.saturating_sub(before).max(20))
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
    // What ran in the source: a function, else its statements.
    let mut running = None;
    let mut frames = Vec::new();
    let mut calls = Vec::new();
    loop {
        error = match error {
            EvalAltResult::ErrorInFunctionCall(function, inside, inner, position) => {
                let closure = function.starts_with("anon$");
                let note = if closure { "in a closure called here".into() } else { format!("in `{function}` called here") };
                let place = frame(known, &source, position, Some(note));
                calls.push(Call { closure, place: place.clone() });
                frames.extend(place);
                // Rhai takes a closure for a part of whoever calls it.
                let home = if closure { home(known, &function) } else { None };
                if let Some(inside) = home.or(Some(inside).filter(|inside| !inside.is_empty())) {
                    source = inside;
                }
                running = Some(function);
                *inner
            }
            EvalAltResult::ErrorInModule(module, inner, position) => {
                frames.extend(frame(known, &source, position, Some(format!("while `{module}` is imported here"))));
                (source, running) = (module, None);
                *inner
            }
            other => match thrown_again(&other) {
                Some((inner, inside)) => {
                    frames.extend(frame(known, &source, other.position(), Some("thrown again here".into())));
                    source = inside.unwrap_or(source);
                    inner
                }
                None => {
                    error = other;
                    break;
                }
            },
        };
    }
    let endless = matches!(error, EvalAltResult::ErrorStackOverflow(_));
    let mut position = error.take_position();
    if let EvalAltResult::ErrorDataRace(what, _) = &error
        && position.is_none()
    {
        position = refused(known, &source, running.as_deref(), what).unwrap_or(position);
    }
    let mut fault = frame(known, &source, position, None);
    // A name that is no property reaches a native type as an index: the fault is the name behind the dot.
    let property = fault.as_mut().and_then(|fault| property_as_index(&error, fault));
    let (kind, message, help) = match property {
        Some((name, kind, columns)) => {
            let (message, help) = suggest::property(known, &name, &kind, fault.as_ref());
            (Kind::Input, message, columns.into_iter().chain(help).collect())
        }
        None => explain(error, fault.as_ref(), &calls, known),
    };
    fault = fault.map(|fault| suggest::option(known, &fault, &message).unwrap_or(fault));
    let mut help = help;
    if message.contains("${") && fault.as_ref().is_some_and(|fault| fault.text.contains('"')) {
        help.insert(0, "values are put into text in backquotes: `layer ${n}`, not in double quotes".into());
    }
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
    // A function that calls a closure stands at the same place as the closure's call; one that calls itself, at that of the
    // call before.
    frames.dedup_by(|outer, inner| {
        let same = inner.note.is_some() && (&inner.source, inner.line, inner.column) == (&outer.source, outer.line, outer.column);
        match same && inner.note == outer.note {
            true => inner.more += 1,
            false if same => inner.note = outer.note.take(),
            false => {}
        }
        same
    });
    if let [outermost] = &frames[..]
        && let Some(told) = recursion::frames(known, outermost).filter(|_| endless)
    {
        frames = told;
    }
    Report { kind, message, frames, help }
}

/// The place of a method that was refused because its closure captures the variable before it: Rhai names the method alone.
fn refused(known: &Known<'_>, source: &str, running: Option<&str>, what: &str) -> Option<Position> {
    let method = what.strip_suffix('\'')?.rsplit('\'').next()?;
    let whole = known.sources.get(source)?;
    let text = readable(whole.edits.apply(&whole.text)).ok()?;
    let ast = names::compile(known.engine, known.scope, &text).ok()?;
    let ran = match running {
        Some(function) => ast.clone_functions_only_filtered(|_, _, _, name, _| name == function),
        None => AST::new(ast.statements().to_vec(), Module::new()),
    };
    let (mut capturing, mut named) = (None, Vec::new());
    ran.walk(&mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Expr(Expr::MethodCall(call, position))) if call.name == method => named.push(*position),
            Some(ASTNode::Stmt(Stmt::Share(captured))) => {
                let is_captured = |name: &str| captured.iter().any(|(ident, _)| ident.name == name);
                for (i, node) in path.iter().enumerate() {
                    if let ASTNode::Expr(Expr::MethodCall(call, position)) = node
                        && call.name == method
                        && receivers(&path[..i]).any(is_captured)
                    {
                        capturing.get_or_insert(*position);
                    }
                }
            }
            _ => {}
        }
        true
    });
    // The closure may come from elsewhere.
    capturing.or(if let [only] = named[..] { Some(only) } else { None })
}

/// The variables with which the chains begin that a path ends in.
fn receivers<'p>(path: &'p [ASTNode<'_>]) -> impl Iterator<Item = &'p str> {
    let chains = path.iter().rev().map_while(|node| match node {
        ASTNode::Expr(Expr::Dot(link, ..) | Expr::Index(link, ..)) => Some(&link.lhs),
        _ => None,
    });
    chains.filter_map(|first| if let Expr::Variable(variable, ..) = first { Some(variable.1.as_str()) } else { None })
}

/// The error inside one that a script caught and threw again, and the source in which it was raised.
fn thrown_again(error: &EvalAltResult) -> Option<(EvalAltResult, Option<String>)> {
    let EvalAltResult::ErrorRuntime(value, position) = error else { return None };
    let caught = ScriptError::from_script(value)?;
    if let Some(raised) = caught.raised {
        return Some((raised::read(&raised), raised.place.source.clone()));
    }
    let place = caught.place.filter(|place| place.position != *position)?;
    Some((EvalAltResult::ErrorRuntime(value.clone(), place.position), place.source))
}

/// What gives the errors that a script catches the words of their reports.
pub(super) fn explainer(native: Arc<Vec<Callable>>, sources: Sources) -> Explain {
    Arc::new(move |context, caught: &ScriptError| {
        let (engine, scope, global) = (context.engine(), Scope::new(), context.engine().new_global_runtime_state());
        let functions = context.namespaces();
        let known = Known { engine, native: &native, scope: &scope, global: &global, functions, sources: &sources };
        let place = caught.place.as_ref();
        let source = place.and_then(|place| place.source.as_deref()).unwrap_or_default();
        let position = place.map_or(Position::NONE, |place| place.position);
        let report = of(EvalAltResult::ErrorRuntime(Dynamic::from(caught.clone()), position), source, &known);
        report.help.into_iter().fold(Error::new(report.kind, report.message), Error::help)
    })
}

/// The cell that wrote a closure.
fn home(known: &Known<'_>, closure: &str) -> Option<String> {
    let wrote = |module: &&Arc<Module>| module.iter_script_fn_info().any(|(_, _, name, ..)| name == closure);
    known.functions.iter().rev().find(wrote).and_then(|module| module.id()).map(String::from)
}

/// The frame of a place in a source.
pub(super) fn frame(known: &Known<'_>, source: &str, position: Position, note: Option<String>) -> Option<Frame> {
    let whole = known.sources.get(source)?;
    let line = position.line()?;
    let column = whole.edits.written(line, position.position().unwrap_or(1));
    let lines: Vec<&str> = whole.text.trim_end().lines().collect();
    // What is missing at the end is missing behind the last line that says something.
    let (line, column) = if line > lines.len() { (lines.len().max(1), usize::MAX) } else { (line, column) };
    let text = lines.get(line - 1).copied().unwrap_or_default().to_string();
    let column = column.clamp(1, text.chars().count() + 1);
    let (source, line) = known.sources.place(source, line);
    Some(Frame { source, line, column, text, note, more: 0 })
}

/// Kind, message and help of an error whose position was taken off. `calls` led to what the fault lies in.
fn explain(error: EvalAltResult, fault: Option<&Frame>, calls: &[Call], known: &Known<'_>) -> (Kind, String, Vec<String>) {
    let input = |message: String, help: Vec<String>| (Kind::Input, message, help);
    let explained = |(message, help): (String, Vec<String>)| (Kind::Input, message, help);
    match error {
        EvalAltResult::ErrorRuntime(value, _) => match ScriptError::from_script(&value) {
            Some(ScriptError { error, .. }) => {
                let by_text = error.message().starts_with("Tensor[…]") && error.message().ends_with('"');
                let row = by_text.then(|| "a token's row is `model.W_E[model.token_id(\" the\")]`".to_string());
                let list = error.message().starts_with("Tensor[…]: `value`") && error.message().contains("not an array");
                let list = list.then(|| "a tensor takes parts of tensors: `t[0..2] = tensor([7, 8])`".to_string());
                (error.kind(), error.to_string(), error.helps().iter().cloned().chain(row).chain(list).collect())
            }
            None if value.is_unit() => input("the script failed without a message".into(), Vec::new()),
            None => input(display::text(known.engine, &value, usize::MAX), Vec::new()),
        },
        EvalAltResult::ErrorTerminated(value, _) if value.is::<TooDeep>() => too_deep(ENDLESS.into()),
        EvalAltResult::ErrorTerminated(value, _) if value.is::<TooLarge>() => {
            let TooLarge(error) = value.cast();
            (error.kind(), error.to_string(), error.helps().to_vec())
        }
        EvalAltResult::ErrorTerminated(..) => (Kind::Interrupted, "interrupted".into(), Vec::new()),
        EvalAltResult::ErrorStackOverflow(_) => {
            too_deep(format!("{CALL_LEVELS} calls may lie in one another; a loop has no such limit. {ENDLESS}"))
        }
        EvalAltResult::ErrorParsing(ParseErrorType::BadInput(LexError::Runtime(text)), _) if text == TOO_DEEP => {
            (Kind::Limit, text, Vec::new())
        }
        EvalAltResult::ErrorParsing(what, _) => {
            let (message, help) = syntax::explain(&what, fault);
            input(message, help.into_iter().collect())
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => {
            let help = suggest::variable(known, &name, fault);
            input(format!("unknown variable `{name}`"), help)
        }
        EvalAltResult::ErrorModuleNotFound(name, _) => input(format!("unknown module `{name}`"), suggest::module(known, &name)),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => explained(suggest::function(known, &signature, fault)),
        EvalAltResult::ErrorPropertyNotFound(name, _) => explained(suggest::key(known, &name, fault, calls)),
        EvalAltResult::ErrorDotExpr(text, _) => match unknown_property(&text) {
            Some((name, of)) if text.starts_with("No writable") => explained(suggest::assigned(known, name, &of, fault)),
            Some((name, of)) => explained(suggest::property(known, name, &of, fault)),
            None => input(first_lower(&text), Vec::new()),
        },
        EvalAltResult::ErrorIndexingType(types, _) => {
            let kind = short_type_name(types.split([' ', '[']).next().unwrap_or(&types));
            input(format!("{} cannot be indexed like this", with_article(&kind)), suggest::indexing(known, &kind, fault))
        }
        EvalAltResult::ErrorMismatchDataType(wanted, given, _) if wanted == "Fn" => {
            let name =
                fault.map(|fault| fault.text.chars().skip(fault.column - 1).take_while(|c| c.is_alphanumeric() || *c == '_'));
            let name =
                name.map(String::from_iter).filter(|name| !name.is_empty()).map_or("this".into(), |name| format!("`{name}`"));
            input(format!("{name} is {}, not a function", with_article(&short_type_name(&given))), Vec::new())
        }
        EvalAltResult::ErrorMismatchDataType(wanted, given, _) | EvalAltResult::ErrorMismatchOutputType(wanted, given, _)
            if !wanted.is_empty() && !given.is_empty() =>
        {
            let (wanted, given) = (short_type_name(&wanted), short_type_name(&given));
            let help = match (wanted.as_str(), given.as_str()) {
                ("bool", "Tensor") => Some("a condition needs one truth value: t.any() or t.all()"),
                ("bool", _) => Some("a comparison gives true or false: `x != 0`, `list.len() > 0`, `x != ()`"),
                ("integer", "range") => Some("a part of an array is list.extract(a..b), of a text text.sub_string(a..b)"),
                ("integer", "string") => Some("an array is indexed by integers; a map `#{ name: value }` by names"),
                ("string", "integer") => Some("a map is indexed by names, `map[\"name\"]`; an array by integers"),
                _ => None,
            };
            input(
                format!(
                    "expected {}, found {}",
                    if wanted == "bool" { "true or false".into() } else { with_article(&wanted) },
                    with_article(&given)
                ),
                help.map(String::from).into_iter().collect(),
            )
        }
        EvalAltResult::ErrorArrayBounds(size, index, _) => bounds("array", "element", size, index),
        EvalAltResult::ErrorStringBounds(size, index, _) => bounds("string", "character", size, index),
        EvalAltResult::ErrorBitFieldBounds(..) => {
            input("a number cannot be indexed".into(), vec!["its bits could, from 0 to 63".into()])
        }
        EvalAltResult::ErrorIndexNotFound(index, _) => {
            input(format!("there is nothing at index {}", display::text(known.engine, &index, usize::MAX)), Vec::new())
        }
        EvalAltResult::ErrorDataRace(..) => input(
            "the closure uses the variable whose method it is given to".into(),
            vec!["copy the variable first, `let copy = x;`, and use the copy in the closure".into()],
        ),
        EvalAltResult::ErrorFor(_) => input("`for` cannot walk this".into(), vec![WALKED.into()]),
        EvalAltResult::ErrorAssignmentToConstant(name, _) => {
            input(format!("`{name}` is a constant: it cannot be changed"), vec![CONSTANT.into()])
        }
        EvalAltResult::ErrorNonPureMethodCallOnConstant(name, _) => {
            let name = name.rsplit('$').next().filter(|name| !name.is_empty()).unwrap_or("this");
            input(format!("`{name}` changes its value, which is a constant here"), vec![CONSTANT.into()])
        }
        EvalAltResult::ErrorUnboundThis(_) => input(
            "`this` is the value whose method runs; here is none".into(),
            vec!["it is bound in `x.f()`, not in `f(x)`".into()],
        ),
        EvalAltResult::ErrorForbiddenVariable(name, _) => input(format!("`{name}` cannot be the name of a variable"), Vec::new()),
        EvalAltResult::ErrorVariableExists(name, _) => input(format!("there is a variable `{name}` already"), Vec::new()),
        EvalAltResult::ErrorArithmetic(text, _) => arithmetic(&text),
        EvalAltResult::ErrorDataTooLarge(what, _) => (Kind::Limit, format!("{} is too large", first_lower(&what)), Vec::new()),
        other => input(first_lower(&other.to_string()), Vec::new()),
    }
}

/// What `for` walks.
pub(super) const WALKED: &str = "`for` walks an array, a range (`0..n`), a map's keys (`m.keys()`), a tensor, a table";
/// What can be changed.
pub(super) const CONSTANT: &str = "`let` declares what can be changed, `const` what cannot";

fn bounds(what: &str, of: &str, size: usize, index: i64) -> (Kind, String, Vec<String>) {
    if size == 0 {
        return (Kind::Input, format!("index {index} is out of range: the {what} is empty"), Vec::new());
    }
    let help = format!("indices run from 0 to {}, or from -{size} to -1", size - 1);
    let of = if size == 1 { of.to_string() } else { format!("{of}s") };
    (Kind::Input, format!("index {index} is out of range for {} of {size} {of}", with_article(what)), vec![help])
}

/// Rhai's "Division by zero: 1 / 0", "Addition overflow: …".
fn arithmetic(text: &str) -> (Kind, String, Vec<String>) {
    let help = if text.starts_with("Division by zero") || text.starts_with("Modulo division") {
        "integers cannot be divided by 0; of floats `1.0 / 0.0` is infinite"
    } else if text.contains("overflow") {
        "integers have 64 bits; floats reach further: `1.0 * x`"
    } else {
        return (Kind::Input, first_lower(text), Vec::new());
    };
    let text = text.replace("Modulo division by zero or overflow", "division by zero");
    (Kind::Input, first_lower(&text), vec![help.into()])
}

/// What a function needs that calls itself.
const ENDLESS: &str = "A function that calls itself needs a case in which it does not";

fn too_deep(help: String) -> (Kind, String, Vec<String>) {
    (Kind::Limit, "calls are nested too deeply".into(), vec![first_lower(&help)])
}

/// Name and type in Rhai's "Unknown property 'x' - a getter is not registered for type 'T'", and in its words for a
/// property that cannot be set.
fn unknown_property(text: &str) -> Option<(&str, String)> {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    match quoted[..] {
        [name, of, ..] if text.contains(" property '") => Some((name, short_type_name(of))),
        _ => None,
    }
}

/// The name that was taken for an index, the type that refused it, and what a table said of its columns, if the fault is at
/// the dot before the name; the fault is moved behind the dot.
fn property_as_index(error: &EvalAltResult, fault: &mut Frame) -> Option<(String, String, Vec<String>)> {
    let error = error_of(error)?;
    let kind = error.message().split_once(INDEXED).map(|(kind, _)| kind).filter(|kind| kind.chars().all(char::is_alphanumeric));
    let column = error.message().starts_with("no column `");
    let rest: String = fault.text.chars().skip(fault.column - 1).collect();
    let after = rest.strip_prefix("?.").or_else(|| rest.strip_prefix('.'))?;
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let (kind, columns) = if column { ("Table", error.helps().to_vec()) } else { (kind?, Vec::new()) };
    (!name.is_empty()).then(|| {
        fault.column += rest.len() - after.len();
        (name, kind.to_string(), columns)
    })
}

/// Rhai's messages begin with a capital, ours do not.
pub(super) fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::session::{Session, SessionOptions};
    use crate::work::Work;

    fn session() -> Session {
        Session::new(Work::silent(1).unwrap(), SessionOptions::default())
    }

    /// Message, places (line and column, the fault first) and help of a cell that fails.
    fn failed(session: &mut Session, text: &str) -> (String, Vec<(usize, usize)>, String) {
        let report = session.eval(text, "In[1]").err().unwrap_or_else(|| panic!("{text} does not fail"));
        (report.message, report.frames.iter().map(|f| (f.line, f.column)).collect(), report.help.join("\n"))
    }

    #[test]
    fn a_closure_that_uses_what_its_method_holds_has_a_place() {
        for (text, places) in [
            ("let w = [3, 1, 2];\nw.sort(|a, b| w.len() - 2)", vec![(2, 3)]),
            ("let w = [3, 1, 2]; w.sort(|a, b| a - b);\nw.sort(|a, b| w.len() - 2)", vec![(2, 3)]),
            ("let w = [1, 2];\nw.for_each(|| 1 + w[0])", vec![(2, 3)]),
            ("let w = [1, 2];\nif true { w.dedup(|a, b| { let all = w; a == b }) }", vec![(2, 13)]),
            ("let m = #{a: [1]};\nm.a.drain(|x| [x].all(|y| m.a == y))", vec![(2, 5)]),
            ("let w = [1]; let few = |x| w.len() > x;\nw.retain(few)", vec![(2, 3)]),
            ("fn f() {\n  let m = #{a: 1}; m.retain(|k, v| m.a == v) }\nf()", vec![(2, 22), (3, 1)]),
            ("let f = || {\n  let w = [1]; w.retain(|x| w == x) };\nf.call()", vec![(2, 18), (3, 3)]),
        ] {
            let (message, found, _) = failed(&mut session(), text);
            assert_eq!(message, "the closure uses the variable whose method it is given to", "{text}");
            assert_eq!(found, places, "{text}");
        }
    }

    #[test]
    fn a_caught_error_has_the_message_of_its_report_and_thrown_again_its_place() {
        for fault in [
            "nothing",
            "alhpa(1)",
            "#{alpha: 1}.alpa",
            "[1, 2][7]",
            "zeros([2]).shpe",
            "unembed(1, 2)",
            "zeros([2, 3]) + zeros([4])",
            "1 / 0",
            "let a = 5; a.b = 3",
            "inside(3)",
            "ours(3)",
            "[1].map(|x| x.a)",
        ] {
            let set_up = "fn inside(x) {\n  x.nope\n}\nfn ours(x) {\n  seed(0 - x)\n}";
            let mut session = session();
            session.eval(set_up, "In[0]").unwrap();
            let (message, places, help) = failed(&mut session, fault);
            let caught =
                session.eval(&format!("let m = (); try {{ {fault} }} catch (e) {{ m = e.message; }} m"), "In[1]").unwrap();
            assert_eq!(caught.value.unwrap().into_string().unwrap(), message, "{fault}");
            let (again, thrown, same_help) = failed(&mut session, &format!("\n\ntry {{\n{fault} }} catch (e) {{\n throw e }}"));
            assert_eq!((&again, &same_help), (&message, &help), "{fault}");
            // The fault first, in the line where it is now; the calls that our own errors carry are not kept.
            let (line, column) = places[0];
            let here = if fault.starts_with("inside") || fault.starts_with("ours") { line } else { line + 3 };
            assert_eq!((thrown[0], *thrown.last().unwrap()), ((here, column), (5, 2)), "{fault}");
        }
    }

    #[test]
    fn a_name_that_is_no_sae_is_answered_with_names_of_suites() {
        let (_, _, help) = failed(&mut session(), "load_sae(\"gpt2-small-resjb\")");
        assert!(help.contains("suites of SAEs have names like `gpt2-small-res-jb`"), "{help}");
        assert!(failed(&mut session(), "load_sae(\"nope\")").2.contains("suites of SAEs have names like"));
        assert!(!failed(&mut session(), "load_model(\"nope\")").2.contains("suites"));
    }

    #[test]
    fn the_fault_of_an_option_stands_at_its_key() {
        let mut session = session();
        session.eval("let t = zeros([2, 3]); let o = #{ddoff: 0}; fn f(a) { a }", "In[0]").unwrap();
        for (text, place) in [
            ("t.std(#{ddoff: 0})", (1, 9)),
            ("let ok = #{ddoff: 1};\nt.std(\n  f(0),\n  #{ /* why */\n    ddoff: 0 })", (5, 5)),
            ("t.std(#{ddof: \"ddof\"})", (1, 9)),
            ("plot::line([1], #{titel: \"a\"})", (1, 19)),
            ("generate(load_model(\"demo\"), \"a\", #{ max_new_tokens: 3 })", (1, 38)),
            ("t.std(o); #{ddoff: 1}", (1, 3)),
        ] {
            assert_eq!(failed(&mut session, text).1, [place], "{text}");
        }
    }

    #[test]
    fn messages_are_in_the_words_of_the_script() {
        let set_up = "let t = zeros([2, 3]); let n = 5; let m = #{alpha: #{beta: 1}, list: [#{gamma: 1}]}; let model = load_model(\"demo\"); \
                      let neurons = mlp_neurons(model, 0); let tab = table(#{mean: [1.0], feature: [0]}); fn two(a, b) { a + b } fn key(m) { m.alpa } fn twice(v) { key(v) }";
        for (text, message, help) in [
            // Nested maps, results, parameters, rows.
            ("m.alpha.btea", "the map has no key `btea`", "did you mean `beta`?"),
            ("m.list[0].gama", "the map has no key `gama`", "did you mean `gamma`?"),
            ("m[\"alpha\"][\"bta\"]", "the map has no key `bta`", "did you mean `beta`?"),
            ("model.cfg.d_modle", "the map has no key `d_modle`", "did you mean `d_model`?"),
            ("let inner = m.alpha; inner.bet", "the map has no key `bet`", "did you mean `beta`?"),
            ("key(model.cfg)", "the map has no key `alpa`", "its keys are: act,"),
            ("twice(m)", "the map has no key `alpa`", "did you mean `alpha`?"),
            ("fn made(of) { of.cfg } twice(made(model))", "the map has no key `alpa`", "its keys are: act,"),
            (
                "fn made() { let own = #{alpha: 1}; own.beta = 2; own } made().alpa",
                "the map has no key `alpa`",
                "did you mean `alpha`?\nits keys are: alpha, beta",
            ),
            ("let c = #{x: 1}; [1].map(|m| #{y: 1}.x)", "the map has no key `x`", ""),
            ("tab.filter(|row| row.maen > 1)", "the map has no key `maen`", "did you mean `mean`?"),
            ("for row in tab { row.featur }", "the map has no key `featur`", "did you mean `feature`?"),
            ("tab[0].maen", "the map has no key `maen`", "did you mean `mean`?"),
            ("let g = |r| r.maen > 0; tab.filter(g)", "the map has no key `maen`", "did you mean `mean`?"),
            ("tab.sort(\"mean\").head(1).filter(|r| r.maen > 0)", "the map has no key `maen`", "did you mean `mean`?"),
            ("let h = |r| r.alpa; [#{alpha: 1}].map(h)", "the map has no key `alpa`", "did you mean `alpha`?"),
            ("let h = |r| r.alpa; h(#{alpha: 1, beta: [2, 3]})", "the map has no key `alpa`", "did you mean `alpha`?"),
            ("[#{alpha: 1}].map(|r| r.alpa)", "the map has no key `alpa`", "did you mean `alpha`?"),
            ("key(#{alpha: 1})", "the map has no key `alpa`", "did you mean `alpha`?\nits keys are: alpha"),
            ("#{ }.alpha", "the map has no key `alpha`", "the map is empty"),
            ("load_model(\"demo\").cfg.n_layer", "the map has no key `n_layer`", "did you mean `n_layers`?"),
            (
                "fn deep(m) { m.cfg.n_layer } deep(load_model(\"demo\"))",
                "the map has no key `n_layer`",
                "did you mean `n_layers`?",
            ),
            (
                "unembed(neurons, model, #{features: [0]}).table()[0].kurtossis",
                "the map has no key `kurtossis`",
                "did you mean `kurtosis`?",
            ),
            ("tab.maen", "Table has no property `maen`", "did you mean `mean`?"),
            ("tab.colums", "Table has no property `colums`", "its columns are: feature, mean\ndid you mean `columns`?"),
            ("tab[\"maen\"]", "no column `maen` in this table", "did you mean `mean`?"),
            // Assignment.
            ("n.y = 3", "integer has no property `y`", ""),
            ("t.y = 3", "Tensor has no property `y`", "Tensor has: shape"),
            ("t.shape = [3, 2]", "`shape` of a Tensor cannot be set", "`t.reshape([2, 3])`"),
            ("tab.len = 3", "`len` of a Table cannot be set", "`t.with_column("),
            ("model.W_E = t", "`W_E` of a Model cannot be set", "models and dictionaries cannot be changed"),
            ("const C = 1; C = 2", "`C` is a constant: it cannot be changed", "`let` declares"),
            ("5 = n", "this cannot be assigned to", ""),
            // Calls.
            ("n(3)", "`n` is an integer, not a function", ""),
            ("two(1)", "`two` takes 2 arguments, 1 is given", "it is called as `two(a, b)`"),
            ("let c = |x| x; c(1, 2)", "the closure `c` takes 1 argument, 2 are given", ""),
            ("unembed(n)", "`unembed` takes 2 or 3 arguments, 1 is given", "it is called as `unembed("),
            ("exp::indices(1, 2, \"x\")", "unknown module `exp`", "import it first: `import \"std/experiments\" as exp;`"),
            ("[1, 2] * 2", "`*` is not defined between array and integer", "arithmetic on many numbers is done with tensors"),
            ("sum([1, 2])", "`sum` cannot be called with (array)", "a Tensor has it: `tensor(list).sum(…)`"),
            ("tab.mean(\"mean\")", "Table has no method `mean`", "a column has it: `t[\"name\"].mean(…)`"),
            ("plot::hist(t)", "unknown function `plot::hist`", "did you mean `plot::histogram`?"),
            (
                "for l in 0..2 { load_sae(\"demo\", \"blocks.${l}\"); }",
                "loading the SAE",
                "values are put into text in backquotes",
            ),
            ("unembed(model, model)", "unembed: `dict` must be a Dictionary, not a Model", ""),
            (
                "generate(model, \"a\", #{max_new_tokens: 3})",
                "generate: unknown option `max_new_tokens`",
                "did you mean `max_tokens`?",
            ),
            ("model.W_E[\" the\"]", "Tensor[…]: `index` must be", "a token's row is `model.W_E[model.token_id(\" the\")]`"),
            (
                "attention_scores(neurons, neurons, model, 0, 0, #{temperature: #{qurey: 1.0, key: 2.0}})",
                "attention_scores: option `temperature`: unknown key `qurey`",
                "did you mean `query`?",
            ),
            // Near names.
            ("bar([\"a\"], [1])", "unknown function `bar`", "did you mean `plot::bar`? `plot::bar("),
            ("[1, 2].grid()", "array has no method `grid`", "did you mean `plot::grid`? `plot::grid("),
            ("neurons.reed(model)", "Dictionary has no method `reed`", "did you mean `read`?"),
            ("neurons.raed(model)", "Dictionary has no method `raed`", "did you mean `read`?"),
            ("neurons.unembde(model)", "Dictionary has no method `unembde`", "did you mean `unembed`?"),
            ("n.toofar()", "integer has no method `toofar`", ""),
            (
                "[1, 4].map(sqrt)",
                "unknown variable `sqrt`",
                "a function that is built in is handed on in a closure: `|x| sqrt(x)`",
            ),
            ("t.map(|v| v)", "Tensor has no method `map`", "operators and methods take every element"),
            ("\"abc\".map(|v| v)", "string has no method `map`", "`text.to_chars()"),
            (
                "let fib = |n| if n < 2 { n } else { fib(n - 1) }; fib(3)",
                "unknown variable `fib`",
                "a closure does not see its own name: `fn fib(…)",
            ),
            (
                "fn f(n) { if n < 1 { 0 } else { f(n - 1) } } f(5000)",
                "calls are nested too deeply",
                "1000 calls may lie in one another",
            ),
            ("neurons.sed(1)", "Dictionary has no method `sed`", "Dictionary has: "),
            (
                "import \"std/experiments\" as exp; exp::indicess(1, 2, \"k\")",
                "unknown function `exp::indicess`",
                "did you mean `exp::indices`? `exp::indices(",
            ),
            (
                "import \"std/experiments\" as exp; exp::indices(1)",
                "`exp::indices` takes 3 arguments, 1 is given",
                "it is called as `exp::indices(",
            ),
            ("indicess(1)", "unknown function `indicess`", ""),
            ("\"abc\".lenght", "string has no property `lenght`", "did you mean `len()`?"),
            ("[1, 2].lenn()", "array has no method `lenn`", "did you mean `len`?"),
            ("[1, 2].lenght()", "array has no method `lenght`", "did you mean `len()`?"),
            ("t?.foo", "Tensor has no property `foo`", "Tensor has: shape"),
            ("t?.shpe", "Tensor has no property `shpe`", "did you mean `shape`?"),
            ("outputs()[0]", "Out[0]: cells count from 1", "`Out[1]` is the value of the first"),
            // Values.
            ("for i in n { }", "`for` cannot walk this", "`for` walks an array"),
            ("for i in 3 { }", "`for` cannot walk a number", "`for` walks an array"),
            ("if n { }", "expected true or false, found an integer", "a comparison gives"),
            ("if t { }", "expected true or false, found a Tensor", "a condition needs one truth value"),
            ("[1, 2][5]", "index 5 is out of range for an array of 2 elements", "indices run from 0 to 1"),
            ("\"ab\"[-3]", "index -3 is out of range for a string of 2 characters", "indices run from 0 to 1"),
            ("[][0]", "index 0 is out of range: the array is empty", ""),
            ("n % 0", "division by zero: 5 % 0", "integers cannot be divided by 0"),
            ("m[0]", "expected a string, found an integer", "a map is indexed by names"),
            ("let l = [1]; l[\"a\"]", "expected an integer, found a string", "an array is indexed by integers"),
            ("[1][\"a\"]", "arrays and texts are indexed by integers", "a map"),
            // Which call gave nothing.
            ("print(1) + 1", "`+` is not defined between () and integer", "`print(…)` gave (), nothing"),
            ("let a = print(1); a.mean()", "() has no method `mean`", "`a` is (): `print(…)` gave (), nothing"),
            ("let a = [1]; a.push(2).len()", "() has no method `len`", "`.push(…)` gives (), nothing: it changes `a` itself"),
            ("let a = (); [1].len() + a", "`+` is not defined between integer and ()", "`a` is (), nothing"),
            ("let a = (); 2 * a", "`*` is not defined between integer and ()", "`a` is (), nothing"),
        ] {
            let mut session = session();
            session.eval(set_up, "In[0]").unwrap();
            let (said, _, helped) = failed(&mut session, text);
            assert!(said.starts_with(message) && helped.starts_with(help), "{text}: {said}\n{helped}");
        }
    }

    #[test]
    fn keys_that_cannot_be_told_are_not_told() {
        for text in [
            "fn made(n) { if n { return #{b: 1}; } #{alpha: 1} } made(true).alpa",
            "fn made() { let own = #{alpha: 1}; own.remove(\"alpha\"); own } made().alpa",
            "fn made(n) { if n { #{alpha: 1} } else { #{beta: 1} } } made(true).alpa",
            "fn made(n) { #{alpha: 1} + n } made(#{}).alpa",
            "fn round(n) { around(n) } fn around(n) { if n > 0 { #{} } else { round(n) } } around(1).alpa",
        ] {
            let (message, _, help) = failed(&mut session(), text);
            assert_eq!((message.as_str(), help.as_str()), ("the map has no key `alpa`", ""), "{text}");
        }
    }

    #[test]
    fn calls_without_end_are_shown_where_a_function_calls_itself() {
        for (text, places, left_out) in [
            ("fn f(n) {\n  f(n + 1)\n}\nf(0)", vec![(2, 3), (4, 1)], "999 more calls are left out here"),
            (
                "fn even(n) {\n  odd(n)\n}\nfn odd(n) {\n  even(n)\n}\nfn begin() {\n  even(1)\n}\nbegin()",
                vec![(5, 3), (2, 3), (8, 3), (10, 1)],
                "997 more calls are left out here",
            ),
            // Either could be meant.
            ("fn a(n) { if n > 0 { a(n - 1) } }\nfn b(n) { b(n) }\nfn both() { a(1); b(1) }\nboth()", vec![(4, 1)], ""),
        ] {
            let report = session().eval(text, "In[1]").unwrap_err();
            assert_eq!(report.frames.iter().map(|f| (f.line, f.column)).collect::<Vec<_>>(), places, "{text}");
            assert!(report.to_string().contains(left_out), "{report}");
        }
        // Of calls at one place, too, that ended with another fault.
        let report = session().eval("fn f(n) { if n == 0 { n.nope } else { f(n - 1) } }\nf(40)", "In[1]").unwrap_err();
        assert_eq!(report.frames.len(), 3);
        assert!(report.to_string().contains("note: 39 more calls are left out here\nnote: in `f` called here"), "{report}");
    }

    #[test]
    fn habits_of_other_languages_are_answered_by_one_hint() {
        for (text, help) in [
            ("let a = 1\nlet b = 2", "statements are separated by `;`"),
            ("quit", "`:quit` or Ctrl-D leaves"),
            ("quit()", "`:quit` or Ctrl-D leaves"),
            ("exit", "`exit` is a function: call it"),
            ("%timeit 1 + 1", "for `%timeit` write `:timeit`"),
            ("type(1)", "`type_of(x)` names a type"),
            ("dir(1)", "`?x` shows"),
            ("help(unembed)", "`?unembed` shows its help"),
            ("let x = 1; help(x)", "`?name` shows help"),
            ("let x = 1; f\"{x}\"", "text in backquotes takes values"),
            ("None", "for `None` write `()`"),
            ("while True { }", "for `True` write `true`"),
            ("def f(x): return x", "for `def` write `fn name(x) { x + 1 }`"),
            ("lambda x: x", "for `lambda` write `|x| x + 1`"),
            ("import numpy as np", "tensors are built in"),
            ("np.zeros(3)", "tensors are built in"),
            ("from sae_lens import SAE", "`import \"std/experiments\" as exp;`"),
            ("zeros([3])[1:2]", "a part of a tensor or a text is written with dots: `t[1..3]`"),
            ("print(1, 2)", "several values are printed as text in backquotes: `${a} ${b}`"),
            ("true and false", "for `and` write `a && b`"),
            ("not true", "for `not` write `!a`"),
            ("if true { 1 } elif false { 2 }", "for `elif` write `else if`"),
            ("# a comment", "comments begin with `//`"),
            ("let s = 'text'", "text stands in double quotes: \"text\""),
            ("let x = 1; x++", "`x += 1` adds one"),
            ("let a, b = 1, 2", ""),
            ("zeros([2]).shape()", "`shape` is a property, without brackets: `.shape`"),
            ("let m = load_model(\"demo\"); m.n_layers", "`cfg` has it: `.cfg.n_layers`"),
            ("zeros([2, 2])[:, 0]", "a whole dimension is left out: `t[0]`"),
            ("zeros([2, 2])[0, :]", "several indices at once"),
            ("let l = [1]; [x*2 for x in l]", "a list is made of another by `list.map("),
            ("let d = {\"a\": 1};", "a map begins with `#`"),
            ("unembed(1, 2, {k: 3})", "a map begins with `#`"),
            ("math.sqrt(2)", "functions of numbers are built in: `sqrt(2)`"),
            ("help", "`?name` shows help"),
            ("\"ab\" * 3", "a text is not multiplied"),
            ("let t = zeros([3]); t[0..2] = [7, 8];", "a tensor takes parts of tensors: `t[0..2] = tensor([7, 8])`"),
            ("let (a, b) = [1, 2];", "values are taken out one by one: `let a = list[0]"),
            ("(1, 2)", "several values together are an array: `[1, 2]`"),
            ("zeros([2]).sum(dim=0)", "arguments have no names"),
            ("let f = |x| x; f(*[1])", "arguments are given one by one"),
            ("let f = |x| x; f(**#{a: 1})", "arguments are given one by one"),
            ("let x = 1 if true else 2", "`if` begins an expression"),
            ("print \"hi\"", "a function is called with brackets: `print(…)`"),
            ("assert 1 == 1", "a function is called with brackets: `assert(…)`"),
            ("range(3)", "`0..n` counts from 0"),
            ("str(3)", "`x.to_string()`"),
            ("sorted([1])", "`list.sort()`"),
            ("\",\".join([1, 2])", "`list.join(\", \")`"),
            ("\"a\".upper()", "`text.to_upper()`"),
            ("zeros([2]).numpy()", "`t.to_array()`"),
            ("table(#{a: [1]}).sort_values(\"a\")", "`t.sort(\"mean\", \"desc\")`"),
            ("model.W_U", "load one first: `let model = load_model(\"demo\");`"),
        ] {
            let (message, _, helped) = failed(&mut session(), text);
            assert!(helped.starts_with(help), "{text}: {message}\n{helped}");
        }
    }
}
