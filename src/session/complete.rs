//! Completion by context, and the signature of the call around the cursor. Nothing a user wrote is run for it.

use super::{COMMANDS, Session};
use crate::dictionary;
use crate::hub::{self, Hub};
use crate::script::convert::{short_type_name, type_name};
use crate::script::declare::{Entry, Form};
use crate::script::entries;
use crate::script::help::name_of;
use crate::script::scan::{Kind, Piece, outline};
use crate::table::{Column, Table};
use crate::work::Work;
use rhai::{Array, Dynamic, Map, NativeCallContext, Position};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rhai's words that begin or join statements.
pub const KEYWORDS: &[&str] = &[
    "let", "const", "if", "else", "switch", "for", "in", "while", "loop", "do", "until", "break", "continue", "fn", "private",
    "return", "throw", "try", "catch", "import", "export", "as", "true", "false", "this", "global",
];

/// Entries that are offered from a folder at most.
const FILES: usize = 500;

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
    /// At a key of a map of options, with the call's name and the keys given already.
    Key(String, Vec<String>, &'t str),
    /// At a name, with the namespace before it.
    Name(Option<&'t str>, &'t str),
    /// Where nothing is known: a comment, a number.
    Nowhere,
}

/// What is known of an expression without running it.
enum Known {
    Value(Dynamic),
    Kind(String),
}

impl Known {
    fn kind(&self) -> String {
        match self {
            Known::Value(value) => type_name(value),
            Known::Kind(kind) => kind.clone(),
        }
    }
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
            ":run" | ":save" | ":session" | ":cd" => files(start, word),
            _ if command.starts_with('!') => files(start, word),
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
                if let Some(receiver) = before.strip_suffix('[')
                    && let Some(known) = self.known(receiver)
                {
                    return matching(start, inner, keys(&known).into_iter().map(|key| (key.clone(), key)));
                }
                let same = |name: String| (name.clone(), name);
                if let Some(name) = before.strip_suffix(',').and_then(|before| argument_of(before, "load_sae")) {
                    return matching(start, inner, saes_of(name).into_iter().map(same));
                }
                let mut found = files(start, inner);
                if let Some(call @ ("load_model" | "load_sae" | "list_saes")) = before.strip_suffix('(').map(last_name) {
                    let suites = if call == "load_model" { Vec::new() } else { hub::suites() };
                    let names = Hub::from_env().cached().into_iter().chain(["demo".to_string()]).chain(suites);
                    found.candidates.extend(matching(start, inner, names.map(same)).candidates);
                    found.candidates.sort();
                }
                found
            }
            Place::Member(receiver, word) => {
                let candidates = self.known(receiver).map(|known| self.members(&known)).unwrap_or_default();
                matching(before.len() - word.len(), word, candidates)
            }
            Place::Key(call, given, word) => {
                let options = entries().iter().filter(|e| e.path() == call || e.name == call).filter_map(|e| e.options);
                let keys = options.flat_map(|options| options()).filter(|key| !given.iter().any(|g| g == key.name));
                let shown = keys.map(|key| {
                    let default = if key.default.is_null() { "()".into() } else { key.default.to_string() };
                    (format!("{}: ", key.name), format!("{}: {default}   {}", key.name, key.kind))
                });
                matching(before.len() - word.len(), word, shown)
            }
            Place::Name(Some(space), word) => matching(before.len() - word.len(), word, self.in_space(space)),
            Place::Name(None, word) => matching(before.len() - word.len(), word, self.names()),
            Place::Nowhere => Completion { start: before.len(), candidates: Vec::new() },
        }
    }

    /// The signatures of the call around byte `cursor`, ours and the scripts', and the number of arguments before it.
    pub fn signatures(&self, text: &str, cursor: usize) -> Vec<String> {
        let before = text.get(..cursor).unwrap_or(text);
        let Some(open) = innermost(before).filter(|at| before[*at..].starts_with('(')) else { return Vec::new() };
        let head = before[..open].trim_end();
        let name = last_name(head);
        let before_name = &head[..head.len() - name.len()];
        if let Some(receiver) = before_name.strip_suffix('.') {
            let kind = self.known(receiver).map(|known| known.kind());
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
        let mut signatures: Vec<String> = ours.chain(scripts).collect();
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

    /// Everything that a name at the beginning of an expression can be.
    fn names(&self) -> Vec<(String, String)> {
        let mut names: Vec<(String, String)> = KEYWORDS.iter().map(|word| ((*word).to_string(), (*word).to_string())).collect();
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

    /// What can stand behind the dot.
    fn members(&self, known: &Known) -> Vec<(String, String)> {
        let kind = known.kind();
        let mut names: Vec<(String, String)> = Vec::new();
        if let Known::Value(value) = known
            && let Some(map) = value.read_lock::<Map>()
        {
            names.extend(map.iter().map(|(key, value)| (key.to_string(), format!("{key}: {}", type_name(value)))));
        }
        let hidden = ["to_string", "to_debug"];
        for entry in entries().iter().filter(|e| e.params.first().is_some_and(|p| p.kind == kind) && !hidden.contains(&e.name)) {
            match entry.form {
                Form::Getter => names.push((entry.name.into(), entry.signature())),
                Form::Method => names.push((format!("{}(", entry.name), entry.signature())),
                Form::Function if entry.namespace.is_none() => names.push((format!("{}(", entry.name), entry.signature())),
                _ => {}
            }
        }
        let known = |name: &str| hidden.contains(&name) || names.iter().any(|(n, _)| n.trim_end_matches('(') == name);
        let natives = self.native.iter().filter(|f| f.first == kind && !known(&f.name));
        let natives: Vec<_> = natives.map(|f| (format!("{}(", f.name), f.signature.clone())).collect();
        names.extend(natives);
        names
    }

    /// What an expression at the end of a text is, as far as it can be told without running it.
    fn known(&self, text: &str) -> Option<Known> {
        let text = text.trim_end().trim_end_matches('?');
        let pieces = outline(text).pieces;
        match text.chars().last()? {
            ')' => {
                let open = opening(&pieces, text.len())?;
                let name = last_name(text[..open].trim_end());
                let before = text[..open].trim_end().strip_suffix(name)?;
                if name.is_empty() {
                    return self.known(&text[open + 1..text.len() - 1]);
                }
                let entry = match before.strip_suffix('.') {
                    Some(receiver) => {
                        let kind = self.known(receiver)?.kind();
                        entries().iter().find(|e| e.form == Form::Method && e.name == name && e.params[0].kind == kind)?
                    }
                    None => entries().iter().find(|e| e.form == Form::Function && e.name == name)?,
                };
                Some(Known::Kind(entry.gives_kind()))
            }
            ']' => {
                let open = opening(&pieces, text.len())?;
                if text[..open].trim_end().ends_with(|c: char| !c.is_alphanumeric() && !"_)]".contains(c)) || open == 0 {
                    return Some(Known::Kind("array".into()));
                }
                let index = text[open + 1..text.len() - 1].trim();
                match self.known(&text[..open])? {
                    Known::Value(value) => element(&value, index),
                    Known::Kind(kind) => indexed(&kind),
                }
            }
            '"' | '`' => Some(Known::Kind("string".into())),
            '}' => Some(Known::Kind("map".into())),
            _ => {
                let name = last_name(text);
                let before = text.strip_suffix(name)?;
                match before.strip_suffix('.') {
                    Some(receiver) if !name.is_empty() => self.property(&self.known(receiver)?, name),
                    _ => self.scope.get(name).map(|value| Known::Value(value.flatten_clone())),
                }
            }
        }
    }

    fn property(&self, of: &Known, name: &str) -> Option<Known> {
        if let Known::Value(value) = of
            && let Some(map) = value.read_lock::<Map>()
        {
            return map.get(name).map(|value| Known::Value(value.flatten_clone()));
        }
        let kind = of.kind();
        let entry = entries().iter().find(|e| e.form == Form::Getter && e.name == name && e.params[0].kind == kind)?;
        // A map of facts is at hand; other properties may take time.
        if let Known::Value(value) = of
            && entry.gives_kind() == "map"
        {
            let mut receiver = value.clone();
            let call = NativeCallContext::new_with_all_fields(&self.engine, name, None, &self.global, Position::NONE);
            let value = call.call_native_fn_raw(format!("get${name}"), true, &mut [&mut receiver]);
            return value.ok().map(Known::Value);
        }
        Some(Known::Kind(entry.gives_kind()))
    }
}

fn indexed(kind: &str) -> Option<Known> {
    let entry = entries().iter().find(|e| e.form == Form::IndexGet && e.params[0].kind == kind)?;
    Some(Known::Kind(entry.gives_kind()))
}

/// The element that an index as written picks.
fn element(value: &Dynamic, index: &str) -> Option<Known> {
    if let Some(items) = value.read_lock::<Array>() {
        let item = index.parse::<usize>().ok().and_then(|i| items.get(i)).or_else(|| items.first())?;
        return Some(Known::Value(item.flatten_clone()));
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map.get(index.trim_matches('"')).map(|value| Known::Value(value.flatten_clone()));
    }
    indexed(&type_name(value))
}

/// Keys and columns by which a value is indexed.
fn keys(known: &Known) -> Vec<String> {
    let Known::Value(value) = known else { return Vec::new() };
    if let Some(table) = value.read_lock::<Table>() {
        return table.names().map(String::from).collect();
    }
    value.read_lock::<Map>().map(|map| map.keys().map(ToString::to_string).collect()).unwrap_or_default()
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
    if let Some(key) = key(before, &outline.pieces, head, word) {
        return key;
    }
    Place::Name(None, word)
}

/// The place of a key in a map that is an argument of a call.
fn key<'t>(before: &'t str, pieces: &[Piece], head: &str, word: &'t str) -> Option<Place<'t>> {
    let open = innermost(before)?;
    if !before[..=open].ends_with("#{") || !head.ends_with(['{', ',']) {
        return None;
    }
    let outer = innermost(&before[..open - 1])?;
    if !before[outer..].starts_with('(') {
        return None;
    }
    let inside = pieces.iter().filter(|(kind, range)| *kind == Kind::Other && range.start > open);
    let given = inside.filter_map(|(_, range)| before[range.clone()].split_once(':').map(|(name, _)| name.to_string()));
    let call = before[..outer].trim_end();
    let name = last_name(call);
    let space = call[..call.len() - name.len()].strip_suffix("::").map(last_name);
    let path = space.map_or_else(|| name.to_string(), |space| format!("{space}::{name}"));
    Some(Place::Key(path, given.collect(), word))
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

/// The bracket that the one before byte `end` closes.
fn opening(pieces: &[Piece], end: usize) -> Option<usize> {
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
fn last_name(text: &str) -> &str {
    let start = text.char_indices().rev().take_while(|(_, c)| c.is_alphanumeric() || *c == '_').last();
    start.map_or("", |(at, _)| &text[at..])
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

/// Files and folders that a path could go on to.
fn files(start: usize, path: &str) -> Completion {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let prefix = &path[..path.len() - name.len()];
    let home = std::env::var("HOME").unwrap_or_default();
    let at = match folder {
        "" if path.starts_with('/') => "/".into(),
        "" => ".".into(),
        folder => folder.strip_prefix('~').map_or_else(|| folder.to_string(), |rest| format!("{home}{rest}")),
    };
    let entries = std::fs::read_dir(Path::new(&at)).into_iter().flatten().flatten().take(FILES);
    let names = entries.filter_map(|entry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let hidden = file.starts_with('.') && !name.starts_with('.');
        let folder = if entry.path().is_dir() { "/" } else { "" };
        (!hidden).then(|| (format!("{prefix}{file}{folder}"), format!("{file}{folder}")))
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

/// The kind of value that an entry gives, as [`type_name`] names kinds.
impl Entry {
    fn gives_kind(&self) -> String {
        let gives = self.gives();
        match gives.trim_end_matches(" or ()") {
            "NumberOrTensor" => "Tensor".into(),
            kind => short_type_name(kind),
        }
    }
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
                 let tab = table(#{mean: [1.0], feature: [0]}); import \"std/experiments\" as exp;",
                "In[1]",
            )
            .unwrap();
        session
    }

    /// What is offered at `|`.
    fn offered(session: &Session, text: &str) -> Vec<String> {
        let cursor = text.find('|').unwrap();
        let text = text.replacen('|', "", 1);
        session.complete(&text, cursor).candidates.into_iter().map(|c| c.text).collect()
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
            (":hist|", ":history"),
            (":session l|", "load "),
            (":timeit alp|", "alpha"),
            ("?unembe|", "unembed"),
            ("whi|", "while"),
        ] {
            assert!(offered(&session, text).iter().any(|c| c == expected), "{text}: {:?}", offered(&session, text));
        }
        for text in ["// al|", "1.|", "\"none|", "`a al|", "unembed(d, model, #{k: 3, k|", "m.beta.gamma.x|"] {
            assert_eq!(offered(&session, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn candidates_show_signatures_and_the_call_around_the_cursor_too() {
        let session = session();
        let found = session.complete("alpha.argmax", 12).candidates;
        assert_eq!(found[0].shown, "Tensor.argmax([dim: integer]) -> NumberOrTensor");
        let at_end = |text: &str| session.signatures(text, text.len());
        assert!(at_end("let x = unembed(alpha, ")[0].starts_with("unembed(dict: Dictionary, model: Model, [#{…}])"));
        assert_eq!(at_end("alpha.argmax("), ["Tensor.argmax([dim: integer]) -> NumberOrTensor"]);
        assert_eq!(at_end("twice("), ["twice(n)"]);
        assert!(at_end("[1, 2").is_empty() && at_end("unembed()").is_empty());
    }
}
