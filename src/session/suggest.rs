//! What was meant, when a name is unknown: the nearest valid names, and the signatures that fit.

use super::known::{Given, Known as Found, View, is_chain, last_name, opening};
use super::modules::Sources;
use super::report::Frame;
use super::{foreign, stdlib};
use crate::error::nearest;
use crate::script::convert::short_type_name;
use crate::script::declare::{Entry, Form};
use crate::script::entries;
use crate::script::natives::Callable;
use crate::script::scan::{self, Kind, outline};
use rhai::{Engine, FnAccess, GlobalRuntimeState, Module, Position, Scope, ScriptFuncDef};
use std::sync::Arc;

/// What a session knows when an error is explained.
pub(super) struct Known<'a> {
    pub(super) engine: &'a Engine,
    /// The engine's functions.
    pub(super) native: &'a [Callable],
    pub(super) scope: &'a Scope<'static>,
    pub(super) global: &'a GlobalRuntimeState,
    /// Functions defined by the cells so far.
    pub(super) functions: &'a [Arc<Module>],
    pub(super) sources: &'a Sources,
}

impl<'a> Known<'a> {
    fn view(&self) -> View<'a> {
        View { engine: self.engine, global: self.global, scope: self.scope, functions: self.functions, sources: self.sources }
    }

    /// The text before a place.
    fn before(&self, place: &Frame) -> Option<String> {
        let (text, line) = self.sources.of_place(&place.source, place.line)?;
        let (line, column) = (u16::try_from(line).ok()?, u16::try_from(place.column).ok()?);
        let end = scan::byte_of(&text, Position::new(line, column))?;
        Some(text[..end].to_string())
    }

    /// What the last of some calls, each in what the one before it called, gives to its function and its closure.
    fn given(&self, calls: &[Call]) -> Given<'a> {
        let Some((Call { closure, place }, outer)) = calls.split_last() else { return Given::default() };
        let outer = self.given(outer);
        match (closure, place) {
            (_, None) => Given::default(),
            (true, Some(call)) => Given { closure: self.elements(call, &outer), ..outer },
            (false, Some(call)) => Given { function: self.arguments(call, &outer), closure: Vec::new() },
        }
    }

    /// What the arguments of the call at a place are, in a function that was given `given`.
    fn arguments(&self, call: &Frame, given: &Given<'a>) -> Vec<Option<Found<'a>>> {
        let rest: String = call.text.chars().skip(call.column - 1).collect();
        let Some(before) = self.before(call) else { return Vec::new() };
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if !rest[name..].starts_with('(') {
            return Vec::new();
        }
        let (mut depth, mut start, mut found) = (0usize, name + 1, Vec::new());
        for (kind, range) in outline(&rest[name..]).pieces {
            let (at, end) = (name + range.start, name + range.end);
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                _ => {}
            }
            if (depth == 1 && kind == Kind::Comma) || depth == 0 {
                let whole = format!("{before}{}", &rest[..at]);
                found.push(is_chain(&rest[start..at]).then(|| self.view().where_it_ended(&whole, given)).flatten());
                start = end;
            }
            if depth == 0 {
                break;
            }
        }
        found
    }

    /// What a closure is given by the call at a place: the elements that a method walks, or the call's arguments.
    fn elements(&self, call: &Frame, given: &Given<'a>) -> Vec<Option<Found<'a>>> {
        let before = self.before(call).filter(|_| is_method(call));
        let Some(receiver) = before.as_deref().and_then(|before| before.trim_end().strip_suffix('.')) else {
            return self.arguments(call, given);
        };
        let element = self.view().where_it_ended(receiver, given).and_then(|walked| walked.element());
        let rest: String = call.text.chars().skip(call.column - 1).collect();
        if rest.starts_with("reduce") { vec![None, element] } else { vec![element] }
    }
}

/// A message and its help.
type Explained = (String, Vec<String>);

/// Help for a variable that is not known.
pub(super) fn variable(known: &Known<'_>, name: &str, fault: Option<&Frame>) -> Vec<String> {
    let before = |fault: &Frame| fault.text.chars().take(fault.column - 1).collect::<String>();
    if fault.is_some_and(|fault| before(fault).trim_end().ends_with("import")) {
        let library: Vec<String> =
            stdlib::FILES.iter().map(|(name, _)| format!("`import \"std/{name}\" as {};`", &name[..3])).collect();
        return [foreign::name(name), Some(format!("the library has {}", library.join(", ")))].into_iter().flatten().collect();
    }
    if let Some(help) = foreign::name(name) {
        return vec![help];
    }
    if fault.is_some_and(|fault| before(fault).trim_end().ends_with("help(")) {
        return vec![format!("`?{name}` shows its help")];
    }
    let assigned = |fault: &Frame| {
        let rest: String = fault.text.chars().skip(fault.column - 1 + name.chars().count()).collect();
        let rest = rest.trim_start();
        let rest = rest.strip_prefix(['+', '-', '*', '/']).unwrap_or(rest);
        rest.strip_prefix('=').is_some_and(|rest| !rest.starts_with('='))
    };
    if fault.is_some_and(assigned) && !known.scope.contains(name) {
        return vec![format!("a new variable is declared first: `let {name} = …`")];
    }
    if known.scope.contains(name) {
        return vec![format!("a module's functions do not see the variables of the session: pass `{name}` as an argument")];
    }
    let functions = callables(known);
    if let Some(function) = functions.iter().find(|f| f.name == name) {
        if !fault.is_some_and(|fault| is_argument(fault, name)) {
            return vec![format!("`{name}` is a function: call it with `{name}(…)`")];
        }
        let given = ["", "x", "x, y", "x, y, z"][(*function.arity.start()).min(3)];
        return vec![format!("a function that is built in is handed on in a closure: `|{given}| {name}({given})`")];
    }
    if fault.and_then(|fault| known.before(fault)).is_some_and(|before| in_closure_of(&before, name)) {
        return vec![format!("a closure does not see its own name: `fn {name}(…) {{ … }}` can call itself")];
    }
    if entries().iter().any(|e| e.params.first().is_some_and(|p| p.kind == name)) {
        return vec![format!("`{name}` is a type; `?{name}` lists what its values have")];
    }
    let names = known.scope.iter_raw().map(|(name, _, _)| name).chain(functions.iter().map(|f| f.name.as_str()));
    did_you_mean(name, names)
}

/// The name at a fault is the whole argument of a call.
fn is_argument(fault: &Frame, name: &str) -> bool {
    let before: String = fault.text.chars().take(fault.column - 1).collect();
    let after: String = fault.text.chars().skip(fault.column - 1 + name.chars().count()).collect();
    before.trim_end().ends_with(['(', ',']) && after.trim_start().starts_with([')', ','])
}

/// A text ends in the closure that a declaration of `name` gives it.
fn in_closure_of(text: &str, name: &str) -> bool {
    let declared = text.rmatch_indices("let ").filter_map(|(at, _)| text[at + 4..].trim_start().strip_prefix(name));
    let mut closures =
        declared.filter_map(|rest| rest.trim_start().strip_prefix('=')).filter(|rest| rest.trim_start().starts_with('|'));
    closures.next().is_some_and(|closure| {
        let mut depth = 0i32;
        outline(closure).pieces.iter().all(|(kind, _)| {
            depth += i32::from(*kind == Kind::Open) - i32::from(*kind == Kind::Close);
            depth > 0 || *kind != Kind::Semicolon
        })
    })
}

/// Help for a namespace that is not known.
pub(super) fn module(known: &Known<'_>, name: &str) -> Vec<String> {
    if known.scope.contains(name) {
        return vec![format!("`{name}` is a variable: its methods are called with a dot, `{name}.method()`")];
    }
    if let Some(help) = foreign::name(name) {
        return vec![help];
    }
    let file = stdlib::FILES.iter().map(|(file, _)| *file).find(|file| file.starts_with(name) && name.len() > 1);
    if let Some(file) = file {
        return vec![format!("import it first: `import \"std/{file}\" as {name};`")];
    }
    let spaces = entries().iter().filter_map(|e| e.namespace).chain(known.global.iter_imports().map(|(name, _)| name));
    let near = did_you_mean(name, spaces);
    if near.is_empty() { vec!["a file is imported first: `import \"std/experiments\" as exp;`".into()] } else { near }
}

/// Explains a call that nothing answers. `signature` is as Rhai writes it: `topk (Tensor, i64)`.
pub(super) fn function(known: &Known<'_>, signature: &str, fault: Option<&Frame>) -> Explained {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    let types: Vec<String> = match types.strip_suffix(')').unwrap_or(types) {
        "" => Vec::new(),
        types => types.split(", ").map(short_type_name).collect(),
    };
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let operator = !name.contains(|c: char| c.is_alphanumeric() || c == '_');
    let is_method = fault.is_some_and(is_method);
    let side = match types[..] {
        ["()", ..] if operator || is_method => Some(Side::Left),
        [_, "()"] if operator => Some(Side::Right),
        _ => None,
    };
    let nothing = fault.zip(side).and_then(|(fault, side)| nothing(known, fault, side));
    if operator {
        let message = match &types[..] {
            [one] => format!("`{name}` is not defined for {one}"),
            _ => format!("`{name}` is not defined between {}", types.join(" and ")),
        };
        return (message, nothing.map_or_else(|| operators(name, &types), |help| vec![help]));
    }
    let (message, help) = called(known, name, &types, is_method, fault);
    (message, nothing.into_iter().chain(help).collect())
}

/// Explains a call by name.
fn called(known: &Known<'_>, name: &str, types: &[&str], is_method: bool, fault: Option<&Frame>) -> Explained {
    let functions = callables(known);
    let fits = |f: &&Callable| !is_method || f.first.is_empty() || types.first().is_none_or(|t| *t == f.first);
    let signatures = |name: &str| {
        let mut all: Vec<String> =
            functions.iter().filter(|f| f.name == name).filter(fits).map(|f| f.signature.clone()).collect();
        all.dedup();
        all
    };
    let given = if is_method { &types[1.min(types.len())..] } else { types };
    if name.starts_with("anon$") {
        let takes = functions.iter().find(|f| f.name == name).map_or(0, |f| *f.arity.end());
        let written =
            fault.map(|fault| fault.text.chars().skip(fault.column - 1).take_while(|c| c.is_alphanumeric() || *c == '_'));
        let written = written.map(String::from_iter).filter(|name| !name.is_empty() && name != "call" && !is_method);
        let what = written.map_or_else(|| "the closure".into(), |name| format!("the closure `{name}`"));
        return (format!("{what} takes {}, {}", arguments(takes), counted(types.len())), Vec::new());
    }
    let of_tensors = |e: &Entry| e.form == Form::Method && e.name == name && e.params[0].kind == "Tensor";
    let on_tensor = types.first() == Some(&"array") && entries().iter().any(of_tensors);
    let hint = match (is_method, types.first()) {
        (true, Some(of)) => foreign::member(of, name),
        _ => foreign::function(name),
    };
    let hint = hint.or_else(|| on_tensor.then(|| format!("a Tensor has it: `tensor(list).{name}(…)`")));
    let of_column = is_method && types.first() == Some(&"Table") && entries().iter().any(of_tensors);
    let hint = hint.or_else(|| of_column.then(|| format!("a column has it: `t[\"name\"].{name}(…)`")));
    let same = signatures(name);
    if !same.is_empty() {
        let receiver = usize::from(is_method);
        let arities: Vec<_> = functions.iter().filter(|f| f.name == name).filter(fits).map(|f| f.arity.clone()).collect();
        let message = if let [one] = &arities[..]
            && !one.contains(&types.len())
        {
            let takes = between(one.start().saturating_sub(receiver), one.end().saturating_sub(receiver));
            format!("`{name}` takes {takes}, {}", counted(given.len()))
        } else if given.is_empty() {
            format!("`{name}` cannot be called without arguments")
        } else {
            format!("`{name}` cannot be called with ({})", given.join(", "))
        };
        let ways = format!("it is called as {}", alternatives(&same));
        let printed =
            (name == "print" && given.len() > 1).then(|| "several values are printed as text in backquotes: `${a} ${b}`".into());
        return (message, printed.or(hint).into_iter().chain([ways]).collect());
    }
    if known.scope.contains(name) {
        return (format!("`{name}` is a variable, not a function"), Vec::new());
    }
    let message = match (is_method, types.first()) {
        (true, Some(of)) => format!("{of} has no method `{name}`"),
        _ => format!("unknown function `{name}`"),
    };
    if let Some(hint) = hint {
        return (message, vec![hint]);
    }
    if is_method && types.first() == Some(&"()") {
        return (message, Vec::new());
    }
    let getter = |e: &Entry| e.form == Form::Getter && e.name == name && types.first().is_some_and(|of| e.params[0].kind == *of);
    if is_method && entries().iter().any(getter) {
        return (message, vec![format!("`{name}` is a property, without brackets: `.{name}`")]);
    }
    if let Some(entry) = entries().iter().find(|entry| entry.namespace.is_some() && entry.name == name) {
        return (message, vec![format!("did you mean `{}`? `{}`", entry.path(), entry.signature())]);
    }
    // What takes the receiver goes first; what takes another type of ours is not meant.
    let takes = |f: &Callable, own: bool| {
        let Some(of) = types.first().filter(|_| is_method) else { return true };
        let first = entries().iter().find(|e| e.form == Form::Function && e.path() == f.name).and_then(|e| e.params.first());
        match first {
            Some(first) if own => first.kind.contains(of),
            Some(first) => {
                first.kind.contains(of) || ![of, first.kind.as_str()].iter().any(|kind| kind.starts_with(char::is_uppercase))
            }
            None => f.first == *of || (f.first.is_empty() && !own),
        }
    };
    let nearest_of = |own: bool| near(name, functions.iter().filter(fits).filter(|f| takes(f, own)).map(|f| f.name.as_str()));
    match nearest_of(true).or_else(|| nearest_of(false)) {
        Some(near) => (message, vec![format!("did you mean `{near}`? {}", alternatives(&signatures(near)))]),
        None if is_method => {
            let hint = types.first().and_then(|of| foreign::near_member(of, name));
            (message, hint.map_or_else(|| methods(types.first().copied()), |hint| vec![hint]))
        }
        None => (message, Vec::new()),
    }
}

/// `1 argument`, `3 arguments`.
fn arguments(n: usize) -> String {
    match n {
        0 => "no argument".into(),
        1 => "1 argument".into(),
        n => format!("{n} arguments"),
    }
}

/// `none is given`, `1 is given`, `3 are given`.
fn counted(n: usize) -> String {
    match n {
        0 => "none is given".into(),
        1 => "1 is given".into(),
        n => format!("{n} are given"),
    }
}

fn between(least: usize, most: usize) -> String {
    match most - least {
        0 => arguments(most),
        1 => format!("{least} or {}", arguments(most)),
        _ => format!("{least} to {}", arguments(most)),
    }
}

/// Where the value stands that a fault stumbles over.
enum Side {
    Left,
    Right,
}

/// Which call gave the `()` on a side of a fault.
fn nothing(known: &Known<'_>, fault: &Frame, side: Side) -> Option<String> {
    let before = known.before(fault)?;
    let rest: String = fault.text.chars().skip(fault.column - 1).collect();
    let text = match side {
        Side::Left => before.trim_end().trim_end_matches(['.', '[']).trim_end(),
        Side::Right => {
            // The other side of an operator, as far as it is one chain.
            let right = rest.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
            &right[..right.find([';', '+', '-', '*', '/', '<', '>', '=', ' ']).unwrap_or(right.len())]
        }
    };
    let earlier = known.sources.before_cell(&fault.source, fault.line);
    gave_nothing(known, text, &format!("{earlier}{before}"))
}

/// The expression at the end of a text is `()`: the call that gave it.
fn gave_nothing(known: &Known<'_>, text: &str, before: &str) -> Option<String> {
    if text.ends_with(')') {
        let head = text[..opening(&outline(text).pieces, text.len())?].trim_end();
        let name = last_name(head);
        let Some(receiver) = head[..head.len() - name.len()].strip_suffix('.') else {
            let gives = entries().iter().find(|e| e.form == Form::Function && e.name == name).is_none_or(|e| e.gives() == "()");
            return (gives && !name.is_empty()).then(|| format!("`{name}(…)` gave (), nothing"));
        };
        let variable = last_name(receiver);
        let what = if variable.is_empty() { "its variable".into() } else { format!("`{variable}` itself") };
        return Some(format!("`.{name}(…)` gives (), nothing: it changes {what}"));
    }
    let name = last_name(text);
    if name.is_empty() || known.scope.get(name).is_none_or(|value| !value.is_unit()) {
        return None;
    }
    let assigned = before.rmatch_indices(name).find_map(|(at, _)| {
        let whole = !before[..at].ends_with(|c: char| c.is_alphanumeric() || "_.".contains(c));
        let rest = before[at + name.len()..].trim_start().strip_prefix('=').filter(|rest| whole && !rest.starts_with('='))?;
        Some(rest.split([';', '\n']).next().unwrap_or(rest).trim().to_string())
    });
    let why = assigned.filter(|text| text != "()").and_then(|text| gave_nothing(known, &text, ""));
    Some(match why {
        Some(why) => format!("`{name}` is (): {why}"),
        None => format!("`{name}` is (), nothing"),
    })
}

/// Where the option stands of which a message speaks, if it is written in the call at `place`.
pub(super) fn option(known: &Known<'_>, place: &Frame, message: &str) -> Option<Frame> {
    let name = message.split_once("option `")?.1.split_once('`')?.0;
    let (text, line) = known.sources.of_place(&place.source, place.line)?;
    let position = |line: usize, column: usize| Some(Position::new(u16::try_from(line).ok()?, u16::try_from(column).ok()?));
    let call = scan::byte_of(&text, position(line, place.column)?)?;
    let open = call + text[call..].find(|c: char| !c.is_alphanumeric() && c != '_')?;
    let (mut depth, mut at) = (0usize, None);
    for (kind, range) in outline(&text[open..]).pieces {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            // In the brackets of the call and those of its map.
            Kind::Other if depth == 2 && text[open..][range.clone()].split(':').next() == Some(name) => {
                at = Some(open + range.start)
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    let key = scan::position_of(&text, at?);
    let (below, column) = (key.line()?, key.position()?);
    let text = text.lines().nth(below - 1)?.to_string();
    Some(Frame { line: place.line + below - line, column, text, ..place.clone() })
}

/// The token of a fault stands after a dot.
fn is_method(fault: &Frame) -> bool {
    let before: String = fault.text.chars().take(fault.column - 1).collect();
    before.trim_end().ends_with('.')
}

/// Explains a property that a value of the type `of` does not have.
pub(super) fn property(known: &Known<'_>, name: &str, of: &str, fault: Option<&Frame>) -> Explained {
    let of_type = |e: &&Entry| e.params.first().is_some_and(|p| p.kind == of);
    let named = |form: Form| entries().iter().filter(of_type).filter(move |e| e.form == form).map(|e| e.name);
    let message = format!("{of} has no property `{name}`");
    let own = |f: &Callable| f.name == name && (f.first.is_empty() || f.first == of);
    if named(Form::Method).any(|method| method == name) || callables(known).iter().any(own) {
        return (message, vec![format!("`{name}` is a method: call it with `.{name}(…)`")]);
    }
    if of == "()" {
        return (message, fault.and_then(|fault| nothing(known, fault, Side::Left)).into_iter().collect());
    }
    if let Some(hint) = foreign::member(of, name) {
        return (message, vec![hint]);
    }
    let cfg = fault
        .and_then(|fault| known.before(fault))
        .and_then(|before| known.view().where_it_ended(&format!("{before}cfg"), &Given::default()));
    if cfg.is_some_and(|cfg| cfg.keys().iter().any(|key| key == name)) {
        return (message, vec![format!("`cfg` has it: `.cfg.{name}`")]);
    }
    let mut help = did_you_mean(name, named(Form::Getter).chain(named(Form::Method)));
    let all: Vec<&str> = named(Form::Getter).collect();
    if !all.is_empty() {
        help.push(format!("{of} has: {}", all.join(", ")));
    } else if help.is_empty() {
        let own = known.native.iter().filter(|f| f.first == of).map(|f| f.name.as_str());
        let hint = nearest(name, own).map(|near| format!("did you mean `{near}()`?"));
        help.extend(hint.or_else(|| foreign::near_member(of, name)));
    }
    (message, help)
}

/// Explains an assignment to a property that a value of the type `of` does not have.
pub(super) fn assigned(known: &Known<'_>, name: &str, of: &str, fault: Option<&Frame>) -> Explained {
    let (message, help) = property(known, name, of, fault);
    (message, if of.starts_with(char::is_uppercase) { help } else { Vec::new() })
}

/// A call that led to a fault, if its place is known.
pub(super) struct Call {
    pub(super) closure: bool,
    pub(super) place: Option<Frame>,
}

/// Calls that are looked through, from the innermost outwards, for what was given to a function.
const CALLS: usize = 8;

/// Keys of a map that an error lists.
const KEYS: usize = 40;

/// Explains a key that a map does not have.
pub(super) fn key(known: &Known<'_>, name: &str, fault: Option<&Frame>, calls: &[Call]) -> Explained {
    let before = fault.and_then(|fault| known.before(fault));
    // Rhai keeps nothing of the map: what it was is told from the text, and from the calls that led there.
    let map = before.and_then(|before| {
        let receiver = before.trim_end().trim_end_matches(['.', '[', '"', '?']);
        known.view().where_it_ended(receiver, &known.given(&calls[calls.len().saturating_sub(CALLS)..]))
    });
    // A map that has the key is not the one that was asked.
    let keys = map.filter(Found::is_map).map(|map| map.keys()).filter(|keys| !keys.iter().any(|key| key == name));
    let help = match &keys {
        None => foreign::member("map", name).into_iter().collect(),
        Some(keys) if keys.is_empty() => vec!["the map is empty".into()],
        Some(keys) => {
            let mut help = did_you_mean(name, keys.iter().map(String::as_str));
            let more = if keys.len() > KEYS { format!(", … ({} in all)", keys.len()) } else { String::new() };
            help.push(format!("its keys are: {}{more}", keys[..keys.len().min(KEYS)].join(", ")));
            help
        }
    };
    (format!("the map has no key `{name}`"), help)
}

/// Ways to index a type.
pub(super) fn indexing(known: &Known<'_>, kind: &str, fault: Option<&Frame>) -> Vec<String> {
    if kind == "()" {
        return fault.and_then(|fault| nothing(known, fault, Side::Left)).into_iter().collect();
    }
    let ways: Vec<String> = entries()
        .iter()
        .filter(|e| e.form == Form::IndexGet && e.params.first().is_some_and(|p| p.kind == kind))
        .map(Entry::signature)
        .collect();
    if ways.is_empty() { Vec::new() } else { vec![format!("it is indexed as {}", alternatives(&ways))] }
}

/// Help for an operator that is not defined between two types.
fn operators(name: &str, types: &[&str]) -> Vec<String> {
    if ["+", "-", "*", "/", "**", "@"].contains(&name) && types.contains(&"array") {
        return vec![format!("arithmetic on many numbers is done with tensors: `tensor(list) {name} …`")];
    }
    if name == "*" && types.contains(&"string") {
        return vec!["a text is not multiplied: `let line = \"\"; line.pad(20, \"-\");` makes one of 20 characters".into()];
    }
    if name == "+" && types.contains(&"string") {
        return vec!["text in backquotes takes any value: `${x}` in it".into()];
    }
    let takes = |e: &&Entry| e.params.iter().any(|p| types.contains(&p.kind.as_str()) && p.kind.starts_with(char::is_uppercase));
    let ways: Vec<String> =
        entries().iter().filter(|e| e.form == Form::Operator && e.name == name).filter(takes).map(Entry::signature).collect();
    if ways.is_empty() { Vec::new() } else { vec![format!("it is defined as {}", alternatives(&ways))] }
}

fn methods(of: Option<&str>) -> Vec<String> {
    // Only native types have methods of ours worth a list; Rhai's own are written small.
    let Some(of) = of.filter(|of| of.starts_with(char::is_uppercase)) else { return Vec::new() };
    let mut names: Vec<&str> = entries()
        .iter()
        .filter(|e| e.form == Form::Method && e.params.first().is_some_and(|p| p.kind == *of))
        .map(|e| e.name)
        .filter(|name| !["to_string", "to_debug"].contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { Vec::new() } else { vec![format!("{of} has: {}", names.join(", "))] }
}

/// The name that begins with what was written, else the nearest.
fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.into_iter().collect();
    let longer = names.iter().filter(|known| name.len() > 3 && known.starts_with(name)).min_by_key(|known| known.len());
    longer.copied().or_else(|| nearest(name, names))
}

fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    near(name, names).map(|near| format!("did you mean `{near}`?")).into_iter().collect()
}

fn alternatives(signatures: &[String]) -> String {
    signatures.iter().take(6).map(|s| format!("`{s}`")).collect::<Vec<_>>().join(" or ")
}

/// `name(a, b)`.
fn script_signature(function: &ScriptFuncDef) -> String {
    format!("{}({})", function.name, function.params.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Everything that can be called by name.
fn callables(known: &Known<'_>) -> Vec<Callable> {
    let ours = entries().iter().filter(|e| matches!(e.form, Form::Function | Form::Method)).map(|e| Callable {
        name: e.path(),
        signature: e.signature(),
        first: if e.form == Form::Method { e.params.first().map(|p| p.kind.clone()).unwrap_or_default() } else { String::new() },
        arity: e.params.iter().filter(|p| !p.optional).count()..=e.params.len() + usize::from(e.options.is_some()),
        doc: String::new(),
    });
    let scripts = known.functions.iter().flat_map(|module| {
        module.iter_script_fn_info().map(|(_, _, name, count, def)| Callable {
            name: name.to_string(),
            signature: script_signature(def),
            // Without parameters it can be no method.
            first: if count == 0 { "nothing".into() } else { String::new() },
            arity: count..=count,
            doc: String::new(),
        })
    });
    let imported = known.global.iter_imports().flat_map(|(import, module)| {
        let public =
            module.iter_script_fn_info().filter(|(_, access, name, ..)| *access == FnAccess::Public && !name.contains('$'));
        public.map(move |(_, _, name, count, function)| Callable {
            name: format!("{import}::{name}"),
            signature: format!("{import}::{}", script_signature(function)),
            first: "nothing".into(),
            arity: count..=count,
            doc: String::new(),
        })
    });
    let own: Vec<Callable> = ours.chain(scripts).chain(imported).collect();
    let ours = |f: &&Callable| own.iter().any(|o| o.name == f.name && (o.first.is_empty() || o.first == f.first));
    let native: Vec<_> = known.native.iter().filter(|f| !ours(f)).cloned().collect();
    own.into_iter().chain(native).collect()
}
