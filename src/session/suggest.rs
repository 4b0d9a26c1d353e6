//! What was meant, when a name is unknown: the nearest valid names, and the signatures that fit.

use super::modules::Sources;
use super::report::Frame;
use crate::error::nearest;
use crate::script::convert::short_type_name;
use crate::script::declare::{Entry, Form};
use crate::script::entries;
use rhai::{Dynamic, Engine, LexError, Map, Module, ParseErrorType, Scope};
use std::sync::Arc;

/// What a session knows when an error is explained.
pub(super) struct Known<'a> {
    pub(super) engine: &'a Engine,
    /// The engine's functions.
    pub(super) native: &'a [Callable],
    pub(super) scope: &'a Scope<'static>,
    /// Functions defined by the cells so far.
    pub(super) functions: &'a [Arc<Module>],
    pub(super) sources: &'a Sources,
}

/// A function that can be called: Rhai's own, ours, or a script's.
#[derive(Clone)]
pub(super) struct Callable {
    pub(super) name: String,
    pub(super) signature: String,
    /// The type of its first argument, empty if it takes any.
    pub(super) first: String,
    /// Its documentation, with the marks of comments.
    doc: String,
}

impl Callable {
    /// Signature and documentation.
    pub(super) fn page(&self) -> String {
        let plain = |line: &str| line.trim_start().trim_start_matches('/').trim_start_matches(' ').to_string();
        let doc: String = self.doc.lines().map(|line| format!("\n    {}", plain(line))).collect();
        format!("{}\n{doc}", self.signature)
    }
}

/// A message and its help.
type Explained = (String, Vec<String>);

/// What is written here for words of other languages.
const ELSEWHERE: &[(&str, &str)] = &[
    ("True", "true"),
    ("False", "false"),
    ("None", "()"),
    ("and", "a && b"),
    ("or", "a || b"),
    ("not", "!a"),
    ("elif", "else if"),
    ("def", "fn name(x) { x + 1 }"),
    ("lambda", "|x| x + 1"),
];

fn elsewhere(word: &str) -> Option<String> {
    ELSEWHERE.iter().find(|(theirs, _)| *theirs == word).map(|(theirs, ours)| format!("for `{theirs}` write `{ours}`"))
}

/// Help for what the parser refuses, by the token of the fault and the word before it.
pub(super) fn syntax(what: &ParseErrorType, fault: &Frame) -> Option<String> {
    let at = fault.text.char_indices().nth(fault.column - 1).map_or(fault.text.len(), |(byte, _)| byte);
    let (before, rest) = (fault.text[..at].trim_end(), &fault.text[at..]);
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    let last = before.rsplit(|c| !belongs(c)).next().unwrap_or_default();
    if let Some(help) = elsewhere(rest.split(|c| !belongs(c)).next().unwrap_or_default()).or_else(|| elsewhere(last)) {
        return Some(help);
    }
    let help = match what {
        ParseErrorType::BadInput(LexError::MalformedChar(_)) => "text stands in double quotes: \"text\"",
        ParseErrorType::MissingToken(token, _) if token == "{" && rest.starts_with(':') => "blocks stand in braces: `if a { b }`",
        ParseErrorType::MissingToken(token, _) if token == "]" && rest.starts_with(',') => {
            "several indices at once are `t.at([0, 1])`; `t[0][1]` and `t.slice(dim, a, b)` pick parts"
        }
        ParseErrorType::MissingToken(..) if before.ends_with(']') && rest.starts_with('(') => {
            "a closure in an array is called by `.call(…)`"
        }
        _ => return None,
    };
    Some(help.into())
}

/// Help for a variable that is not known.
pub(super) fn variable(known: &Known<'_>, name: &str, fault: Option<&Frame>) -> Vec<String> {
    if let Some(help) = elsewhere(name) {
        return vec![help];
    }
    let assigned = |fault: &Frame| {
        let rest: String = fault.text.chars().skip(fault.column - 1 + name.chars().count()).collect();
        rest.trim_start().strip_prefix('=').is_some_and(|rest| !rest.starts_with('='))
    };
    if fault.is_some_and(assigned) && !known.scope.contains(name) {
        return vec![format!("a new variable is declared first: `let {name} = …`")];
    }
    if known.scope.contains(name) {
        return vec![format!("a module's functions do not see the variables of the session: pass `{name}` as an argument")];
    }
    let functions = callables(known);
    if functions.iter().any(|f| f.name == name) {
        return vec![format!("`{name}` is a function: call it with `{name}(…)`")];
    }
    let names = known.scope.iter_raw().map(|(name, _, _)| name).chain(functions.iter().map(|f| f.name.as_str()));
    did_you_mean(name, names)
}

/// Help for a namespace that is not known.
pub(super) fn module(known: &Known<'_>, name: &str) -> Vec<String> {
    let ours = entries().iter().filter_map(|e| e.namespace);
    let mut help = did_you_mean(name, ours);
    if known.scope.contains(name) {
        help.push(format!("`{name}` is a variable: its methods are called with a dot, `{name}.method()`"));
    }
    help
}

/// Explains a call that nothing answers. `signature` is as Rhai writes it: `topk (Tensor, i64)`.
pub(super) fn function(known: &Known<'_>, signature: &str, is_method: bool) -> Explained {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    let types: Vec<String> = match types.trim_end_matches(')') {
        "" => Vec::new(),
        types => types.split(", ").map(short_type_name).collect(),
    };
    let operator = !name.contains(|c: char| c.is_alphanumeric() || c == '_');
    if operator {
        let message = match &types[..] {
            [one] => format!("`{name}` is not defined for {one}"),
            _ => format!("`{name}` is not defined between {}", types.join(" and ")),
        };
        return (message, operators(name));
    }
    let functions = callables(known);
    let fits = |f: &&Callable| !is_method || f.first.is_empty() || types.first().is_none_or(|t| *t == f.first);
    let mut same: Vec<String> = functions.iter().filter(|f| f.name == name).filter(fits).map(|f| f.signature.clone()).collect();
    same.dedup();
    if !same.is_empty() {
        let given = if is_method { &types[1.min(types.len())..] } else { &types[..] };
        let message = match given {
            [] => format!("`{name}` cannot be called without arguments"),
            given => format!("`{name}` cannot be called with ({})", given.join(", ")),
        };
        return (message, vec![format!("it is called as {}", alternatives(&same))]);
    }
    if known.scope.contains(name) {
        return (format!("`{name}` is a variable, not a function"), Vec::new());
    }
    let names = functions.iter().filter(fits).map(|f| f.name.as_str());
    let Some(near) = nearest(name, names) else {
        let message = match (is_method, types.first()) {
            (true, Some(of)) => format!("{of} has no method `{name}`"),
            _ => format!("unknown function `{name}`"),
        };
        let of_tensors = |e: &Entry| e.form == Form::Method && e.name == name && e.params[0].kind == "Tensor";
        return match (is_method, types.first().map(String::as_str)) {
            (true, Some("array")) if entries().iter().any(of_tensors) => {
                (message, vec![format!("a Tensor has it: `tensor(list).{name}(…)`")])
            }
            (true, first) => (message, methods(first)),
            _ => (message, Vec::new()),
        };
    };
    let mut signatures: Vec<String> =
        functions.iter().filter(|f| f.name == near).filter(fits).map(|f| f.signature.clone()).collect();
    signatures.dedup();
    let message = match (is_method, types.first()) {
        (true, Some(of)) => format!("{of} has no method `{name}`"),
        _ => format!("unknown function `{name}`"),
    };
    (message, vec![format!("did you mean `{near}`? {}", alternatives(&signatures))])
}

/// Explains a property that a native value does not have; `of` is its type, where it is known.
pub(super) fn property(known: &Known<'_>, name: &str, of: Option<&str>) -> Explained {
    let of_type = |e: &&Entry| e.params.first().is_some_and(|p| of.is_none_or(|of| p.kind == of));
    let named = |form: Form| entries().iter().filter(of_type).filter(move |e| e.form == form).map(|e| e.name);
    let message = of.map_or_else(|| format!("unknown property `{name}`"), |of| format!("{of} has no property `{name}`"));
    if named(Form::Method).any(|method| method == name) || callables(known).iter().any(|f| f.name == name) {
        return (message, vec![format!("`{name}` is a method: call it with `.{name}(…)`")]);
    }
    let mut help = did_you_mean(name, named(Form::Getter).chain(named(Form::Method)));
    let all: Vec<&str> = named(Form::Getter).collect();
    if let Some(of) = of.filter(|_| !all.is_empty()) {
        help.push(format!("{of} has: {}", all.join(", ")));
    }
    (message, help)
}

/// The variable before the dot or bracket of a fault.
pub(super) fn receiver(known: &Known<'_>, fault: &Frame) -> Option<Dynamic> {
    let before: String = fault.text.chars().take(fault.column - 1).collect();
    let before = before.trim_end().trim_end_matches(['.', '[', '"', '?']).trim_end();
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    let start = before.char_indices().rev().take_while(|(_, c)| belongs(*c)).last()?.0;
    known.scope.get(&before[start..]).cloned()
}

/// Explains a key that a map does not have. The map itself is known when it is a variable of the session.
pub(super) fn key(known: &Known<'_>, name: &str, fault: Option<&Frame>) -> Explained {
    let map = fault.and_then(|fault| receiver(known, fault));
    let keys = map.and_then(|map| map.read_lock::<Map>().map(|map| map.keys().map(ToString::to_string).collect::<Vec<_>>()));
    let help = match &keys {
        None => Vec::new(),
        Some(keys) if keys.is_empty() => vec!["the map is empty".into()],
        Some(keys) => {
            let mut help = did_you_mean(name, keys.iter().map(String::as_str));
            help.push(format!("its keys are: {}", keys.join(", ")));
            help
        }
    };
    (format!("the map has no key `{name}`"), help)
}

/// Ways to index a type.
pub(super) fn indexing(kind: &str) -> Vec<String> {
    let ways: Vec<String> = entries()
        .iter()
        .filter(|e| e.form == Form::IndexGet && e.params.first().is_some_and(|p| p.kind == kind))
        .map(Entry::signature)
        .collect();
    if ways.is_empty() { Vec::new() } else { vec![format!("it is indexed as {}", alternatives(&ways))] }
}

fn operators(name: &str) -> Vec<String> {
    let ways: Vec<String> =
        entries().iter().filter(|e| e.form == Form::Operator && e.name == name).map(Entry::signature).collect();
    if ways.is_empty() { Vec::new() } else { vec![format!("it is defined as {}", alternatives(&ways))] }
}

fn methods(of: Option<&str>) -> Vec<String> {
    // Only native types have methods of ours worth a list; Rhai's own are written small.
    let Some(of) = of.filter(|of| of.starts_with(char::is_uppercase)) else { return Vec::new() };
    let mut names: Vec<&str> = entries()
        .iter()
        .filter(|e| e.form == Form::Method && e.params.first().is_some_and(|p| p.kind == *of))
        .map(|e| e.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { Vec::new() } else { vec![format!("{of} has: {}", names.join(", "))] }
}

fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    nearest(name, names).map(|near| format!("did you mean `{near}`?")).into_iter().collect()
}

fn alternatives(signatures: &[String]) -> String {
    signatures.iter().take(6).map(|s| format!("`{s}`")).collect::<Vec<_>>().join(" or ")
}

/// Everything that can be called by name.
fn callables(known: &Known<'_>) -> Vec<Callable> {
    let ours = entries().iter().filter(|e| matches!(e.form, Form::Function | Form::Method)).map(|e| Callable {
        name: e.path(),
        signature: e.signature(),
        first: if e.form == Form::Method { e.params.first().map(|p| p.kind.clone()).unwrap_or_default() } else { String::new() },
        doc: String::new(),
    });
    let scripts = known.functions.iter().flat_map(|module| {
        module.iter_script_fn_info().map(|(_, _, name, count, def)| Callable {
            name: name.to_string(),
            signature: format!("{name}({})", def.params.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            first: if count == 0 { "()".into() } else { String::new() },
            doc: String::new(),
        })
    });
    let own: Vec<Callable> = ours.chain(scripts).collect();
    let native: Vec<_> = known.native.iter().filter(|f| !own.iter().any(|o| o.name == f.name)).cloned().collect();
    own.into_iter().chain(native).collect()
}

/// Every function of an engine that a script can call by name, ours too, in the order of their names.
pub(super) fn rhai_functions(engine: &Engine) -> Vec<Callable> {
    let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let mut all = engine.collect_fn_metadata(
        None,
        |info| {
            let function = info.metadata;
            let first = function.params_info.first().map_or("", |p| p.split(": ").nth(1).unwrap_or(""));
            // Without names of its parameters it stands for integers beside one of floats.
            let named = function.params_info.iter().all(|p| !p.starts_with("_:"));
            (named && plain(&function.name)).then(|| Callable {
                name: function.name.to_string(),
                signature: function.gen_signature(|name| short_type_name(name).into()),
                first: if first == "Dynamic" || first == "?" { String::new() } else { short_type_name(first) },
                doc: function.comments.iter().map(|comment| comment.as_str()).collect::<Vec<_>>().join("\n"),
            })
        },
        true,
    );
    all.sort_by(|a, b| (&a.name, &a.signature).cmp(&(&b.name, &b.signature)));
    all
}
