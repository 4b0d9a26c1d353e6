//! Completion by context, and the signature of the call around the cursor. Nothing a user wrote is run for it.

use super::known::{Known, View, last_name, listed, parts, prose};
use super::{COMMANDS, Session, stdlib};
use crate::dictionary;
use crate::figure::Figure;
use crate::hub::{self, Hub};
use crate::model::Model;
use crate::model::forward::Hook;
use crate::options::{Key, inner_keys};
use crate::script::convert::type_name;
use crate::script::declare::{Entry, Form, Param};
use crate::script::display::is_name;
use crate::script::entries;
use crate::script::help::name_of;
use crate::script::scan::{Kind, outline};
use crate::table::{Aggregate, Column};
use crate::work::Work;
use rhai::{FnPtr, ScriptFuncDef};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rhai's words that begin or join statements.
pub const KEYWORDS: &[&str] = &[
    "let", "const", "if", "else", "switch", "for", "in", "while", "loop", "do", "until", "break", "continue", "fn", "private",
    "return", "throw", "try", "catch", "import", "export", "as", "true", "false", "this", "global",
];

/// Entries that are offered at most of a folder, a map, a table.
const MOST: usize = 500;

/// What could stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where the text that is replaced begins, in bytes.
    pub start: usize,
    /// In the order of their names.
    pub candidates: Vec<Candidate>,
}

/// One text that could stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What is put in.
    pub text: String,
    /// What is shown: the signature of a function, the type of a variable.
    pub shown: String,
}

/// Where the cursor stands.
enum Place<'t> {
    /// In a string, with the text from its quote on.
    Text(&'t str),
    /// Behind a dot, with what is before the dot.
    Member(&'t str, &'t str),
    /// At a key of a map of options.
    Key(OptionPlace<'t>, &'t str),
    /// At a name, with the namespace before it.
    Name(Option<&'t str>, &'t str),
    /// Where nothing is known: a comment, a number.
    Nowhere,
}

/// A place in the map of options of a call.
struct OptionPlace<'t> {
    /// The function, with its namespace.
    call: String,
    /// The option whose value is a map, where the place is in that.
    inside: Option<&'t str>,
    /// Keys given already.
    given: Vec<&'t str>,
}

impl OptionPlace<'_> {
    /// The declarations of what is called.
    fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        entries().iter().filter(|e| e.path() == self.call || e.name == self.call)
    }

    /// The options of the call.
    fn options(&self) -> Vec<Key> {
        self.entries().filter_map(|e| e.options).flat_map(|options| options()).collect()
    }

    /// The keys that could stand here, as they are put in and as they are shown.
    fn keys(&self) -> Vec<(String, String)> {
        let free = |name: &str| !self.given.contains(&name);
        let Some(inside) = self.inside else {
            let shown = |key: Key| {
                let default = if key.default.is_null() { "()".into() } else { key.default.to_string() };
                (format!("{}: ", key.name), format!("{}: {default}   {}", key.name, key.kind))
            };
            return self.options().into_iter().filter(|key| free(key.name)).map(shown).collect();
        };
        let options = self.options();
        let Some(key) = options.iter().find(|key| key.name == inside) else { return Vec::new() };
        let inner = inner_keys(&key.kind).into_iter().chain(inner_keys(key.doc)).filter(|name| free(name));
        inner.map(|name| (format!("{name}: "), name.to_string())).collect()
    }
}

/// A place among the arguments of a call.
struct Argument<'t> {
    /// Of a method.
    receiver: Option<&'t str>,
    /// The function, with its namespace.
    function: String,
    /// The arguments before it.
    given: Vec<&'t str>,
}

/// The argument in which a text ends: the text itself, or an element of a list.
fn argument(before: &str) -> Option<Argument<'_>> {
    let (mut open, mut end) = (innermost(before)?, before.len());
    if before[open..].starts_with('[') {
        (open, end) = (innermost(&before[..open])?, open);
    }
    let head = before[..open].trim_end();
    let name = last_name(head);
    if !before[open..].starts_with('(') || name.is_empty() {
        return None;
    }
    let outer = &head[..head.len() - name.len()];
    let space = outer.strip_suffix("::").map(last_name);
    let function = space.map_or_else(|| name.to_string(), |space| format!("{space}::{name}"));
    let mut given = parts(&before[open + 1..end]);
    if !before[..end].trim_end().ends_with([',', '(']) {
        given.pop();
    }
    Some(Argument { receiver: outer.strip_suffix('.'), function, given })
}

/// The words in double quotes of a documentation, among which an argument chooses.
fn quoted(doc: &str) -> impl Iterator<Item = &str> {
    let is_choice = |text: &&str| text.starts_with('"') && text.ends_with('"');
    doc.split('`').skip(1).step_by(2).filter(is_choice).map(|text| text.trim_matches('"')).filter(|text| is_name(text))
}

/// A value of a type is taken where a signature says `wanted`.
fn fits(kind: &str, wanted: &str) -> bool {
    wanted.split(" or ").any(|wanted| wanted == kind || (kind == "integer" && ["number", "integer from 0"].contains(&wanted)))
}

/// What the elements of an array are, in the words of a signature.
fn element(kind: &str) -> Option<&'static str> {
    Some(match kind.strip_prefix("array of ")? {
        "tensors" => "Tensor",
        "tables" => "Table",
        "dictionaries" => "Dictionary",
        "figures" => "Figure",
        "strings" => "string",
        "integers" | "integers from 0" => "integer",
        _ => return None,
    })
}

/// Endings of the files that a function reads; none: it reads any.
fn endings(function: &str) -> &'static [&'static str] {
    match function {
        "load_model" => &["gguf", "safetensors"],
        "load_sae" | "list_saes" => &["safetensors", "npz", "pt", "pth"],
        "load_table" => &["csv", "parquet"],
        "load_npy" => &["npy"],
        "load_npz" => &["npz"],
        "load_safetensors" => &["safetensors"],
        _ => &[],
    }
}

/// The texts among which an option chooses: `top` and `bottom` in `"top" | "bottom"`.
fn choices(words: &str) -> impl Iterator<Item = &str> {
    words.split('"').skip(1).step_by(2)
}

impl Session {
    /// What could stand at byte `cursor` of `text`.
    pub fn complete(&self, text: &str, cursor: usize) -> Completion {
        let before = text.get(..cursor).unwrap_or(text);
        if before.starts_with([':', '?', '!']) && self.is_command(before.trim_end()) {
            return self.complete_command(before);
        }
        self.complete_script(before)
    }

    fn complete_command(&self, line: &str) -> Completion {
        if let Some(name) = line.strip_prefix("??").or_else(|| line.strip_prefix('?')) {
            let mut names: BTreeSet<String> = entries().iter().map(name_of).chain(entries().iter().map(Entry::path)).collect();
            names.extend(self.variables().map(String::from));
            names.extend(self.script_functions().map(|(name, _)| name.to_string()));
            names.extend(COMMANDS.iter().map(|command| command.name.to_string()));
            names.extend(KEYWORDS.iter().map(|word| (*word).to_string()));
            names.extend(stdlib::FILES.iter().map(|(file, _)| format!("std/{file}")));
            for (import, module) in self.global.iter_imports() {
                let functions = module.iter_script_fn_info().filter(|(_, _, name, ..)| !name.contains('$'));
                names.extend(functions.map(|(_, _, name, ..)| format!("{import}::{name}")));
            }
            return matching(line.len() - name.len(), name, names.into_iter().map(|name| (name.clone(), name)));
        }
        let Some((command, rest)) = line.split_once(' ') else {
            return matching(0, line, COMMANDS.iter().map(|c| (c.name.to_string(), format!("{} {}", c.name, c.arguments))));
        };
        let word = &line[line.rfind(' ').map_or(line.len(), |at| at + 1)..];
        let start = line.len() - word.len();
        match command {
            ":session" if !rest.contains(' ') => {
                matching(start, word, ["save ", "load "].map(|word| (word.to_string(), word.to_string())))
            }
            ":run" | ":save" | ":session" | ":cd" => files(Path::new(""), &[], start, word),
            _ if command.starts_with('!') => files(Path::new(""), &[], start, word),
            ":time" | ":timeit" => {
                let Completion { start, candidates } = self.complete_script(rest);
                Completion { start: start + line.len() - rest.len(), candidates }
            }
            _ => Completion { start, candidates: Vec::new() },
        }
    }

    fn complete_script(&self, before: &str) -> Completion {
        match place(before) {
            Place::Text(inner) => {
                let start = before.len() - inner.len();
                let before = before[..start - 1].trim_end();
                let same = |name: String| (name.clone(), name);
                if let Some(receiver) = before.strip_suffix('[')
                    && let Some(known) = self.view().at_end(receiver)
                {
                    return matching(start, inner, known.entries(inner, MOST).into_iter().map(|(name, _)| same(name)));
                }
                if let Some(texts) = self.summary(before, inner) {
                    return matching(start, inner, texts.into_iter().map(same));
                }
                if let Some(texts) = argument(before).and_then(|argument| self.texts(&argument, inner)) {
                    return matching(start, inner, texts.into_iter().map(same));
                }
                if last_name(before) == "import" {
                    return matching(start, inner, modules(inner).into_iter().map(same));
                }
                if let Some(hooks) = self.hooks(before) {
                    return matching(start, inner, hooks.into_iter().map(same));
                }
                if let Some((place, option)) = option_value(before) {
                    if place.inside.is_some() {
                        let texts = place.entries().flat_map(|entry| quoted(prose(entry))).map(String::from);
                        return matching(start, inner, texts.map(same));
                    }
                    let options = place.options();
                    let chosen = options.iter().find(|key| key.name == option).map(|key| choices(&key.kind).map(String::from));
                    return matching(start, inner, chosen.into_iter().flatten().map(same));
                }
                if let Some(name) = before.strip_suffix(',').and_then(|before| argument_of(before, "load_sae")) {
                    return matching(start, inner, saes_of(name).into_iter().map(same));
                }
                if let Some(values) = self.compared(before) {
                    return matching(start, inner, values.into_iter().map(same));
                }
                let call = argument(before).map(|argument| argument.function).unwrap_or_default();
                let folder = if call == "save" { self.options.out_dir.as_path() } else { Path::new("") };
                let mut found = files(folder, endings(&call), start, inner);
                if let "load_model" | "load_sae" | "list_saes" = call.as_str() {
                    let suites = if call == "load_model" { Vec::new() } else { hub::suites() };
                    let names = Hub::from_env().cached().into_iter().chain(["demo".to_string()]).chain(suites);
                    found.candidates.extend(matching(start, inner, names.map(same)).candidates);
                    found.candidates.sort();
                }
                found
            }
            Place::Member(receiver, word) => {
                let candidates = self.view().at_end(receiver).map(|known| self.members(&known, word)).unwrap_or_default();
                matching(before.len() - word.len(), word, candidates)
            }
            Place::Key(place, word) => matching(before.len() - word.len(), word, place.keys()),
            Place::Name(Some(space), word) => matching(before.len() - word.len(), word, self.in_space(space)),
            Place::Name(None, word) => {
                let head = &before[..before.len() - word.len()];
                // Where nothing is begun yet and it is known what is wanted, nothing else is in the way.
                let fitting = if word.is_empty() { self.fitting(head) } else { Vec::new() };
                matching(head.len(), word, if fitting.is_empty() { self.names(head) } else { fitting })
            }
            Place::Nowhere => Completion { start: before.len(), candidates: Vec::new() },
        }
    }

    /// The texts beginning with `word` that a call takes as an argument, where they are known: columns, the names of norms and
    /// hooks, and the choices of which the documentation speaks.
    fn texts(&self, argument: &Argument<'_>, word: &str) -> Option<Vec<String>> {
        let receiver = argument.receiver.and_then(|receiver| self.view().at_end(receiver));
        let kind = receiver.as_ref().map(Known::kind).unwrap_or_default();
        match (kind.as_str(), argument.function.as_str(), argument.given.len()) {
            ("Table", "sort" | "select" | "group_by" | "with_column", 0) | ("Table", "join", 1) => {
                return Some(receiver?.entries(word, MOST).into_iter().map(|(name, _)| name).collect());
            }
            ("Model", "gain" | "bias", 0) => match receiver? {
                Known::Value(model) => return model.with(|model| Some(model.read_lock::<Model>()?.norm_names()))?,
                _ => return None,
            },
            _ => {}
        }
        let (entry, param) = self.parameter(argument)?;
        if param.name == "hook" {
            return argument.given.iter().find_map(|given| hooks_of(&self.view().at_end(given)?));
        }
        let choices: Vec<String> = quoted(prose(entry)).map(String::from).collect();
        (param.kind == "string" && choices.len() > 1 && endings(&argument.function).is_empty()).then_some(choices)
    }

    /// The parameter that an argument is for, and the declaration of what is called.
    fn parameter(&self, argument: &Argument<'_>) -> Option<(&'static Entry, &'static Param)> {
        let at = argument.given.len() + usize::from(argument.receiver.is_some());
        let kind = match argument.receiver {
            Some(receiver) => Some(self.view().at_end(receiver)?.kind()),
            None => None,
        };
        let called = |e: &&Entry| match (e.form, &kind) {
            (Form::Method, Some(kind)) => e.params[0].kind == *kind,
            (Form::Function, Some(kind)) => e.params.first().is_some_and(|first| fits(kind, &first.kind)),
            (form, None) => form == Form::Function,
            _ => false,
        };
        let entry = entries().iter().filter(called).find(|e| e.path() == argument.function)?;
        entry.params.get(at).map(|param| (entry, param))
    }

    /// In the summaries of `group_by`: columns, then aggregates.
    fn summary(&self, before: &str, word: &str) -> Option<Vec<String>> {
        let open = innermost(before)?;
        let list = before[open..].starts_with('[');
        let map = if list { innermost(&before[..open])? } else { open };
        let argument = argument(before[..map].strip_suffix('#')?).filter(|a| a.function == "group_by" && a.given.len() == 1)?;
        let table = self.view().at_end(argument.receiver?).filter(|known| known.kind() == "Table")?;
        if list && !before[open..].contains(',') {
            return Some(table.entries(word, MOST).into_iter().map(|(name, _)| name).collect());
        }
        (list || before.ends_with(':')).then(|| Aggregate::NAMES.iter().map(|name| (*name).to_string()).collect())
    }

    /// The values of the property with which a text before its end is compared, as its documentation lists them.
    fn compared(&self, before: &str) -> Option<Vec<String>> {
        let left = before.strip_suffix("==").or_else(|| before.strip_suffix("!="))?.trim_end();
        let name = last_name(left);
        let kind = self.view().at_end(left[..left.len() - name.len()].strip_suffix('.')?)?.kind();
        let getter = |e: &&Entry| e.form == Form::Getter && e.name == name && e.params[0].kind == kind;
        let entry = entries().iter().find(getter)?;
        Some(quoted(prose(entry)).chain(listed(entry)).map(String::from).collect())
    }

    /// What fits where a text ends, if that is known: the choices of an option, and for an argument the variables of its type, else
    /// the functions that give it.
    fn fitting(&self, before: &str) -> Vec<(String, String)> {
        let before = before.trim_end();
        if let Some((place, option)) = option_value(before) {
            let kinds: Vec<String> = place.options().into_iter().filter(|key| key.name == option).map(|key| key.kind).collect();
            let texts = kinds.iter().flat_map(|kind| choices(kind)).map(|text| format!("\"{text}\""));
            return texts.map(|text| (text.clone(), text)).collect();
        }
        let Some(wanted) = self.wanted(before) else { return Vec::new() };
        let declared = self.view().declared(before).into_iter().filter_map(|(name, known)| Some((name, known?.kind())));
        let held = self.scope.iter_raw().map(|(name, _, value)| (name.to_string(), type_name(value)));
        let shown = |(name, kind): (String, String)| (name.clone(), format!("{name}: {kind}"));
        let variables: Vec<_> = declared.chain(held).filter(|(_, kind)| fits(kind, wanted)).map(shown).collect();
        if !variables.is_empty() || !wanted.starts_with(char::is_uppercase) {
            return variables;
        }
        let makers = entries().iter().filter(|e| e.form == Form::Function && e.gives() == wanted);
        makers.map(|e| (format!("{}(", e.path()), e.signature())).collect()
    }

    /// The type of the argument, or of the element of a list that is one, which is to begin where a text ends.
    fn wanted(&self, before: &str) -> Option<&'static str> {
        let open = innermost(before).filter(|_| before.ends_with(['(', '[', ',']))?;
        let listed = before[open..].starts_with('[');
        let is_list = listed && before[..open].trim_end().ends_with(['(', ',']);
        let (_, param) =
            argument(before).filter(|_| is_list || before[open..].starts_with('(')).and_then(|a| self.parameter(&a))?;
        if listed { element(&param.kind) } else { Some(&param.kind) }
    }

    /// The hooks of the model whose method takes the option `hooks`, or `hook` of an edit, in which a text ends.
    fn hooks(&self, before: &str) -> Option<Vec<String>> {
        let list = innermost(before).filter(|open| before[*open..].starts_with('['));
        let option = last_name(before[..list.unwrap_or(before.len())].trim_end().strip_suffix(':')?);
        let mut open = innermost(before).filter(|_| ["hooks", "hook"].contains(&option))?;
        while !before[open..].starts_with('(') {
            open = innermost(&before[..open])?;
        }
        let head = before[..open].trim_end();
        let receiver = head[..head.len() - last_name(head).len()].strip_suffix('.')?;
        hooks_of(&self.view().at_end(receiver)?)
    }

    /// The signature of the closure or function that a variable holds.
    pub(super) fn closure(&self, name: &str) -> Option<String> {
        let captured = self.scope.get(name)?.read_lock::<FnPtr>()?.curry().len();
        let (_, function) = self.held(name)?;
        // What it captures comes first.
        let parameters: Vec<&str> = function.params.iter().skip(captured).map(|p| p.as_str()).collect();
        Some(format!("{name}({})", parameters.join(", ")))
    }

    /// The closure or function that a variable holds, and the cell that wrote it.
    pub(super) fn held(&self, name: &str) -> Option<(&str, &Arc<ScriptFuncDef>)> {
        let held = self.scope.get(name)?.read_lock::<FnPtr>()?.fn_name().to_string();
        self.global.lib.iter().rev().find_map(|module| {
            let (.., function) = module.iter_script_fn_info().find(|(_, _, known, ..)| *known == held)?;
            Some((module.id().unwrap_or_default(), function))
        })
    }

    /// The signatures of the call around byte `cursor`, ours and the scripts', and the number of arguments before it.
    pub fn signatures(&self, text: &str, cursor: usize) -> Vec<String> {
        let before = text.get(..cursor).unwrap_or(text);
        let mut open = innermost(before);
        // In a list or a map that is an argument.
        while let Some(at) = open.filter(|at| before[*at..].starts_with('[') || before[..=*at].ends_with("#{")) {
            open = innermost(&before[..at]);
        }
        let Some(open) = open.filter(|at| before[*at..].starts_with('(')) else { return Vec::new() };
        let head = before[..open].trim_end();
        let name = last_name(head);
        let before_name = &head[..head.len() - name.len()];
        if let Some(receiver) = before_name.strip_suffix('.') {
            let kind = self.view().at_end(receiver).map(|known| known.kind());
            let method =
                |e: &&Entry| e.form == Form::Method && e.name == name && kind.as_ref().is_none_or(|k| e.params[0].kind == *k);
            return entries().iter().filter(method).map(Entry::signature).collect();
        }
        let path = match before_name.strip_suffix("::") {
            Some(space) => format!("{}::{name}", last_name(space)),
            None => name.to_string(),
        };
        let ours = entries().iter().filter(|e| e.form == Form::Function && e.path() == path).map(Entry::signature);
        let scripts = self.script_functions().filter(|(known, _)| *known == name).map(|(_, signature)| signature);
        // A variable that holds a closure goes before any function of its name.
        let closure = self.closure(name).filter(|_| before_name.is_empty());
        let mut signatures: Vec<String> = closure.into_iter().chain(ours).chain(scripts).collect();
        if signatures.is_empty() && before_name.is_empty() {
            signatures.extend(self.native.iter().filter(|f| f.name == name).map(|f| f.signature.clone()));
        }
        signatures
    }

    /// Functions that cells defined, with their signatures.
    fn script_functions(&self) -> impl Iterator<Item = (&str, String)> {
        self.global.lib.iter().flat_map(|module| module.iter_script_fn_info()).filter(|(_, _, name, ..)| !name.contains('$')).map(
            |(_, _, name, _, function)| {
                let parameters: Vec<&str> = function.params.iter().map(|p| p.as_str()).collect();
                (name, format!("{name}({})", parameters.join(", ")))
            },
        )
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            engine: &self.engine,
            global: &self.global,
            scope: &self.scope,
            functions: &self.global.lib,
            sources: &self.sources,
        }
    }

    /// Everything that a name at the beginning of an expression behind `before` can be.
    fn names(&self, before: &str) -> Vec<(String, String)> {
        let mut names: Vec<(String, String)> = KEYWORDS.iter().map(|word| ((*word).to_string(), (*word).to_string())).collect();
        for (name, known) in self.view().declared(before) {
            let kind = known.map(|known| known.kind()).filter(|kind| !kind.is_empty());
            let shown = kind.map_or_else(|| name.clone(), |kind| format!("{name}: {kind}"));
            names.push((name, shown));
        }
        for (name, _, value) in self.scope.iter_raw() {
            names.push((name.into(), format!("{name}: {}", type_name(value))));
        }
        names.extend(self.script_functions().map(|(name, signature)| (format!("{name}("), signature)));
        let spaces: BTreeSet<&str> = entries().iter().filter_map(|e| e.namespace).collect();
        let imports = self.global.iter_imports().map(|(name, _)| name);
        names.extend(spaces.into_iter().chain(imports).map(|space| (format!("{space}::"), format!("{space}::"))));
        for entry in entries().iter().filter(|e| e.form == Form::Function && e.namespace.is_none()) {
            names.push((format!("{}(", entry.name), entry.signature()));
        }
        let ours: BTreeSet<&str> = entries().iter().map(|e| e.name).collect();
        // Rhai's functions of arrays, strings and so on are offered behind a dot.
        let free = |first: &str| ["", "number", "integer"].contains(&first);
        for function in self.native.iter().filter(|f| free(&f.first) && !ours.contains(f.name.as_str())) {
            names.push((format!("{}(", function.name), function.signature.clone()));
        }
        names
    }

    fn in_space(&self, space: &str) -> Vec<(String, String)> {
        let ours = entries().iter().filter(|e| e.namespace == Some(space)).map(|e| (format!("{}(", e.name), e.signature()));
        let mut names: Vec<(String, String)> = ours.collect();
        for (_, module) in self.global.iter_imports().filter(|(name, _)| *name == space) {
            names.extend(module.iter_script_fn_info().filter(|(_, _, name, ..)| !name.contains('$')).map(
                |(_, _, name, _, f)| {
                    let parameters: Vec<&str> = f.params.iter().map(|p| p.as_str()).collect();
                    (format!("{name}("), format!("{name}({})", parameters.join(", ")))
                },
            ));
        }
        names
    }

    /// What can stand behind the dot and begins with `word`.
    fn members(&self, known: &Known, word: &str) -> Vec<(String, String)> {
        let kind = known.kind();
        if kind.is_empty() {
            return Vec::new();
        }
        let mut names: Vec<(String, String)> = Vec::new();
        let entry = |(name, held): (String, String)| {
            let shown = if held.is_empty() { name.clone() } else { format!("{name}: {held}") };
            (name, shown)
        };
        names.extend(known.entries(word, MOST).into_iter().filter(|(name, _)| is_name(name)).map(entry));
        if let Known::Value(value) = known
            && let Some(Some(options)) = value.with(|value| Some(value.read_lock::<Figure>()?.options()))
            && let Some(options) = options.as_object()
        {
            let written = |value: &serde_json::Value| if value.is_null() { "()".into() } else { value.to_string() };
            names.extend(options.iter().map(|(key, value)| (key.clone(), format!("{key} = {}", written(value)))));
        }
        let hidden = ["to_string", "to_debug", "print", "debug"];
        for entry in entries().iter().filter(|e| e.params.first().is_some_and(|p| p.kind == kind) && !hidden.contains(&e.name)) {
            match entry.form {
                Form::Getter => names.push((entry.name.into(), entry.signature())),
                Form::Method => names.push((format!("{}(", entry.name), entry.signature())),
                Form::Function if entry.namespace.is_none() => names.push((format!("{}(", entry.name), entry.signature())),
                _ => {}
            }
        }
        // Functions of ours are registered with the engine, too, under types that say less.
        let ours = |name: &str| entries().iter().any(|entry| entry.form == Form::Function && entry.name == name);
        let listed = |name: &str| names.iter().any(|(listed, _)| listed.trim_end_matches('(') == name);
        let known = |name: &str| hidden.contains(&name) || ours(name) || listed(name);
        let natives = self.native.iter().filter(|f| f.first == kind && !known(&f.name));
        let natives: Vec<_> = natives.map(|f| (format!("{}(", f.name), f.signature.clone())).collect();
        names.extend(natives);
        names
    }
}

/// The hooks of a model.
fn hooks_of(known: &Known) -> Option<Vec<String>> {
    let Known::Value(model) = known else { return None };
    model.with(|model| Some(Hook::all(model.read_lock::<Model>()?.cfg()).into_iter().map(Hook::name).collect()))?
}

/// Where the end of a text stands.
fn place(before: &str) -> Place<'_> {
    let outline = outline(before);
    let last = outline.pieces.last();
    let tail = last.map_or(before, |(_, range)| &before[range.end..]);
    if tail.contains('`') {
        return Place::Nowhere;
    }
    match last {
        Some((Kind::Comment, range)) if range.end == before.len() => return Place::Nowhere,
        Some((Kind::Text, range)) if range.end == before.len() && !is_closed(&before[range.clone()]) => {
            return Place::Text(&before[range.start + 1..]);
        }
        _ => {}
    }
    let word = last_name(before);
    let head = before[..before.len() - word.len()].trim_end();
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return Place::Nowhere;
    }
    if let Some(receiver) = head.strip_suffix('.')
        && !receiver.ends_with('.')
    {
        let number = last_name(receiver).starts_with(|c: char| c.is_ascii_digit());
        return if number { Place::Nowhere } else { Place::Member(receiver, word) };
    }
    if let Some(space) = head.strip_suffix("::") {
        return Place::Name(Some(last_name(space)), word);
    }
    if head.ends_with(['{', ','])
        && let Some(place) = option_place(before)
    {
        return Place::Key(place, word);
    }
    Place::Name(None, word)
}

/// The map of options in which a text ends: an argument of a call, or the value of an option in one.
fn option_place(before: &str) -> Option<OptionPlace<'_>> {
    let open = innermost(before)?;
    if !before[..=open].ends_with("#{") {
        return None;
    }
    // The map itself, or the list in which it stands: `edits: [#{`.
    let (mut value, mut outer) = (open - 1, innermost(&before[..open - 1])?);
    if before[outer..].starts_with('[') {
        (value, outer) = (outer, innermost(&before[..outer])?);
    }
    if before[outer..].starts_with('{') {
        let inside = last_name(before[..value].trim_end().strip_suffix(':')?);
        let call = option_place(&before[..=outer]).filter(|place| place.inside.is_none())?.call;
        return Some(OptionPlace { call, inside: Some(inside), given: given(before, open) });
    }
    let head = before[..outer].trim_end();
    let name = last_name(head);
    if !before[outer..].starts_with('(') || value != open - 1 || name.is_empty() {
        return None;
    }
    let space = head[..head.len() - name.len()].strip_suffix("::").map(last_name);
    let call = space.map_or_else(|| name.to_string(), |space| format!("{space}::{name}"));
    Some(OptionPlace { call, inside: None, given: given(before, open) })
}

/// The keys that stand in the map which begins at byte `open`.
fn given(before: &str, open: usize) -> Vec<&str> {
    let mut depth = 0usize;
    let mut keys = Vec::new();
    for (kind, range) in outline(&before[open + 1..]).pieces {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Other if depth == 0 => keys.extend(before[open + 1..][range].split_once(':').map(|(name, _)| name)),
            _ => {}
        }
    }
    keys
}

/// The option whose value a text ends before, with its map.
fn option_value(before: &str) -> Option<(OptionPlace<'_>, &str)> {
    let head = before.strip_suffix(':')?;
    option_place(before).map(|place| (place, last_name(head)))
}

/// What `import` could name: the library's files, and the scripts beside.
fn modules(path: &str) -> Vec<String> {
    let library = stdlib::FILES.iter().map(|(name, _)| format!("std/{name}"));
    let beside = files(Path::new(""), &[], 0, path).candidates.into_iter().map(|file| file.text);
    let scripts = beside.filter_map(|file| file.strip_suffix(".rhai").map(String::from).or(file.ends_with('/').then_some(file)));
    library.chain(scripts).collect()
}

/// The bracket that is open at the end of a text.
fn innermost(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (kind, range) in outline(text).pieces {
        match kind {
            Kind::Open => open.push(range.start),
            Kind::Close => {
                open.pop();
            }
            _ => {}
        }
    }
    open.pop()
}

/// A string literal that has its closing quote.
fn is_closed(literal: &str) -> bool {
    let Some(inner) = literal.strip_prefix('"') else { return true };
    let escapes = |text: &str| text.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
    inner.strip_suffix('"').is_some_and(|inner| !escapes(inner))
}

/// The candidates that begin like `word`.
fn matching(start: usize, word: &str, all: impl IntoIterator<Item = (String, String)>) -> Completion {
    let fits = all.into_iter().filter(|(text, _)| text.starts_with(word));
    let mut candidates: Vec<Candidate> = fits.map(|(text, shown)| Candidate { text, shown }).collect();
    candidates.sort();
    // Of several signatures one is shown.
    candidates.dedup_by(|a, b| a.text == b.text);
    Completion { start, candidates }
}

/// Folders, and files with one of these endings (none: any), that a path below `base` could go on to.
fn files(base: &Path, endings: &[&str], start: usize, path: &str) -> Completion {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let prefix = &path[..path.len() - name.len()];
    let home = std::env::var("HOME").unwrap_or_default();
    let at = match folder {
        "" if path.starts_with('/') => "/".into(),
        "" => "".into(),
        folder => folder.strip_prefix('~').map_or_else(|| folder.to_string(), |rest| format!("{home}{rest}")),
    };
    let at = base.join(at);
    let entries =
        std::fs::read_dir(if at == Path::new("") { Path::new(".") } else { &at }).into_iter().flatten().flatten().take(MOST);
    let names = entries.filter_map(|entry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let hidden = file.starts_with('.') && !name.starts_with('.');
        let folder = if entry.path().is_dir() { "/" } else { "" };
        let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
        let other = folder.is_empty() && !endings.is_empty() && !endings.contains(&ending);
        (!hidden && !other).then(|| (format!("{prefix}{file}{folder}"), format!("{file}{folder}")))
    });
    matching(start, path, names.collect::<Vec<_>>())
}

/// The text that is the only argument so far of a call of `function`, at the end of a text.
fn argument_of<'t>(before: &'t str, function: &str) -> Option<&'t str> {
    let open = innermost(before).filter(|open| last_name(&before[..*open]) == function)?;
    before[open + 1..].trim().strip_prefix('"')?.strip_suffix('"').filter(|name| !name.contains('"'))
}

/// The SAEs in the demo, in a folder, or in what the cache has of a repository: nothing is fetched for a completion.
fn saes_of(name: &str) -> Vec<String> {
    let here = name == "demo" || Path::new(name).exists();
    let place = if here { Some(name.into()) } else { Hub::from_env().cached_folder(name) };
    let listed = place.and_then(|place: PathBuf| {
        let table = dictionary::list_saes(&place.display().to_string(), &Work::silent(1).ok()?).ok()?;
        match table.column("path").ok()? {
            Column::Text(paths) => Some(paths.to_vec()),
            _ => None,
        }
    });
    let whole = listed.unwrap_or_default();
    // In a bundle the folder of SAEs need not be named.
    let inner: Vec<String> = whole.iter().filter_map(|path| path.strip_prefix("saes/").map(String::from)).collect();
    if inner.is_empty() { whole } else { inner }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionOptions;
    use crate::work::Work;

    fn session() -> Session {
        let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        session
            .eval(
                "let alpha = zeros([2, 3]); let m = #{beta: #{gamma: \"x\"}, list: [alpha]}; fn twice(n) { 2 * n } \
                 let tab = table(#{mean: [1.0], feature: [0]}); let tb = tab; let model = load_model(\"demo\"); \
                 let neurons = mlp_neurons(model, 0); let cache = model.run([5, 6], #{hooks: [\"blocks.1.hook_resid_post\"]}); \
                 let fig = plot::line([1, 2]); let by = 2; let clo = |x, y| x + y * by; import \"std/experiments\" as exp;",
                "In[1]",
            )
            .unwrap();
        session
    }

    /// What is offered at the last `|`.
    fn offered(session: &Session, text: &str) -> Vec<String> {
        let cursor = text.rfind('|').unwrap();
        session
            .complete(&format!("{}{}", &text[..cursor], &text[cursor + 1..]), cursor)
            .candidates
            .into_iter()
            .map(|c| c.text)
            .collect()
    }

    #[test]
    fn what_is_offered_fits_the_place() {
        let session = session();
        for (text, expected) in [
            ("al|", "alpha"),
            ("1 + twi|", "twice("),
            ("unemb|", "unembed("),
            ("plot::hist|", "histogram("),
            ("exp::indi|", "indices("),
            ("alpha.sha|", "shape"),
            ("alpha.T.topk|", "topk("),
            ("alpha.sum(0).to_arr|", "to_array("),
            ("alpha[0].mea|", "mean("),
            ("cat([alpha.T.res|", "reshape("),
            ("twice([1, m.beta.ga|", "gamma"),
            ("cat(alpha[|", "by"),
            ("zeros([2]).ma|", "max("),
            ("m.be|", "beta"),
            ("m.beta.ga|", "gamma"),
            ("m.beta.gamma.to_up|", "to_upper("),
            ("m[\"be|", "beta"),
            ("m.list[0].ndi|", "ndim"),
            ("tab[\"me|", "mean"),
            ("unembed(d, model, #{k: 3, fold|", "fold_norm: "),
            ("plot::histogram(t, #{ bi|", "bins: "),
            ("load_model(\"de|", "demo"),
            ("let s = load_sae(\"demo\", \"blocks.2.hook_r|", "blocks.2.hook_resid_post"),
            ("load_sae(\"gpt2-small-res-j|", "gpt2-small-res-jb"),
            ("tb[\"me|", "mean"),
            ("tb[\"mean\"].top|", "topk("),
            ("tb.mean.top|", "topk("),
            ("tb.filter(|row| row.me|", "mean"),
            ("tb.filter(|row| row.feature > 1 && row.me|", "mean"),
            ("for row in tb { row.fea|", "feature"),
            ("m.list.map(|t| t.ndi|", "ndim"),
            ("let inner = alpha.T; inner.sha|", "shape"),
            ("let inner = alpha.T;\ninn|", "inner"),
            ("fn own(first_one) { fir|", "first_one"),
            ("for item in m.list { it|", "item"),
            ("import \"std/ex|", "std/experiments"),
            ("attention_scores(d, d, model, 0, 0, #{temperature: #{qu|", "query: "),
            ("attention_scores(d, d, model, 0, 0, #{temperature: #{query: 1, |", "key: "),
            ("model.run(\"x\", #{edits: [#{ho|", "hook: "),
            ("semantics(s, model, #{side: \"|", "top"),
            ("unembed(d, model, #{k: 3, scale: \"co|", "cosine"),
            ("tab.sort(\"me|", "mean"),
            ("tab.sort(\"mean\", \"de|", "desc"),
            ("tab.select([\"mean\", \"fe|", "feature"),
            ("tab.group_by(\"fe|", "feature"),
            ("tab.join(tab, \"fe|", "feature"),
            ("tab.filter(tab[\"me|", "mean"),
            ("model.cfg[\"n_la|", "n_layers"),
            ("neurons.cfg[\"la|", "layer"),
            ("cache[\"bl|", "blocks.1.hook_resid_post"),
            ("model.gain(\"ln_f|", "ln_final"),
            ("model.gain(\"blocks.1.l|", "blocks.1.ln1"),
            ("fig.ti|", "title"),
            ("tab.fea|", "feature"),
            ("model.run(\"x\", #{hooks: [\"blocks.1.hook_resid_p|", "blocks.1.hook_resid_post"),
            ("model.run(\"x\", #{hooks: [\"hook_embed\", \"ln_f|", "ln_final.hook_normalized"),
            ("model.run(\"x\", #{edits: [#{op: \"ablate\", hook: \"blocks.0.attn.hook_z|", "blocks.0.attn.hook_z"),
            ("[1, 2].fil|", "filter("),
            ("tab.head(1)[\"me|", "mean"),
            ("tab.filter(|row| row.mean > 0).sort(\"me|", "mean"),
            ("let y = tab.sort(\"mean\"); y[\"fe|", "feature"),
            ("tab.with_column(\"new\", 1)[\"ne|", "new"),
            ("tab.group_by(\"feature\", #{most: \"max\"})[\"mo|", "most"),
            ("unembed(neurons, model).table()[\"kur|", "kurtosis"),
            ("unembed(neurons, model).table().filter(|row| row.kur|", "kurtosis"),
            ("unembed(neurons, model).top(0)[0].sco|", "score"),
            ("(1.5).flo|", "floor("),
            ("token_basis(model, \"eff|", "effective"),
            ("head_svd(model, 0, 0, \"o|", "ov"),
            ("composition(model, [0, 0], [1, 0], \"|", "k"),
            ("tensor([1]).to(\"f6|", "f64"),
            ("train_sae(model, \"blocks.1.hook_resid_p|", "blocks.1.hook_resid_post"),
            ("tab.group_by(\"feature\", #{m: [\"me|", "mean"),
            ("tab.group_by(\"feature\", #{m: [\"mean\", \"st|", "std"),
            ("tab.group_by(\"feature\", #{n: \"co|", "count"),
            ("neurons.site == \"mlp_p|", "mlp_post"),
            ("model.run(\"x\", #{edits: [#{op: \"abl|", "ablate_feature"),
            (":hist|", ":history"),
            ("?exp::indi|", "exp::indices"),
            ("?std/ex|", "std/experiments"),
            (":session l|", "load "),
            (":timeit alp|", "alpha"),
            ("?unembe|", "unembed"),
            ("whi|", "while"),
        ] {
            assert!(offered(&session, text).iter().any(|c| c == expected), "{text}: {:?}", offered(&session, text));
        }
        for text in [
            "// al|",
            "1.|",
            "\"none|",
            "`a al|",
            "unembed(d, model, #{k: 3, k|",
            "m.beta.gamma.x|",
            "{ let gone = 1; } gon|",
            "let alpha = 5; m.list.map(|alpha| alpha.x|",
            "tab.sort(\"mean\", \"me|",
            "model.gain(\"blocks.9|",
            "model.run(\"x\", #{hooks: [\"blocks.9|",
            "[1, 2].ba|",
            "[1, 2].gri|",
            "[1, 2].cat|",
            "[1, 2].pri|",
        ] {
            assert_eq!(offered(&session, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_wanted_stands_alone_where_nothing_is_begun() {
        let session = session();
        for (text, expected) in [
            ("attention_scores(neurons, neurons, |", ["model"].as_slice()),
            ("model.W_Q(|", &["by"]),
            ("let d = neurons; unembed(|", &["d", "neurons"]),
            ("unembed(neurons, model, #{scale: |", &["\"cosine\"", "\"raw\"", "\"zscore\""]),
            ("cat([|", &["alpha"]),
            ("cat([zeros([1]), |", &["alpha"]),
            ("concat([tab, |", &["tab", "tb"]),
            ("plot::grid([|", &["fig"]),
        ] {
            assert_eq!(offered(&session, text), expected, "{text}");
        }
    }

    #[test]
    fn files_are_those_that_a_call_reads_and_writes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.rhai", "b.gguf", "c.csv", "d.npy"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let options = SessionOptions { out_dir: folder.path().into(), ..SessionOptions::default() };
        let session = Session::new(Work::silent(1).unwrap(), options);
        assert_eq!(offered(&session, "save([1], \"|"), ["a.rhai", "b.gguf", "c.csv", "d.npy"]);
        let within = folder.path().display();
        for (function, file) in [("load_model", "b.gguf"), ("load_table", "c.csv"), ("load_npy", "d.npy")] {
            assert_eq!(offered(&session, &format!("{function}(\"{within}/|")), [format!("{within}/{file}")], "{function}");
        }
    }

    #[test]
    fn candidates_show_signatures_and_the_call_around_the_cursor_too() {
        let session = session();
        let found = session.complete("alpha.argmax", 12).candidates;
        assert_eq!(found[0].shown, "Tensor.argmax([dim: integer]) -> number or Tensor");
        let title = session.complete("fig.ti", 6).candidates;
        assert_eq!(title.iter().map(|c| c.shown.as_str()).collect::<Vec<_>>(), ["title = ()"]);
        let at_end = |text: &str| session.signatures(text, text.len());
        assert!(at_end("let x = unembed(alpha, ")[0].starts_with("unembed(dict: Dictionary, model: Model, [#{…}])"));
        assert_eq!(at_end("alpha.argmax("), ["Tensor.argmax([dim: integer]) -> number or Tensor"]);
        assert_eq!(at_end("twice("), ["twice(n)"]);
        assert_eq!(at_end("clo("), ["clo(x, y)"]);
        assert_eq!(at_end("clo([1, #{a: 2, "), ["clo(x, y)"]);
        assert!(at_end("[1, 2").is_empty() && at_end("unembed()").is_empty() && at_end("clo(|x| { x").is_empty());
    }
}
