//! What `import` finds: `"std/NAME"` in the library that the program carries, anything else as `NAME.rhai` beside the
//! script that imports it.

use super::names::{self, Edits};
use super::{readable, stdlib};
use crate::error::{Error, nearest};
use crate::files::expand_home;
use crate::script::{Host, natives, raise};
use rhai::{AST, Engine, EvalAltResult, Module, ModuleResolver, ParseError, Position, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Texts of everything that was compiled, by the name that errors give: to show the line of a fault. Copies share them.
#[derive(Clone, Default)]
pub(super) struct Sources(Arc<Mutex<BTreeMap<String, Source>>>);

/// A text as written, and what was edited in it before it was compiled.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) text: Arc<str>,
    pub(super) edits: Arc<Edits>,
    /// The file of which the text is a part, and the part's first line in it, from 1.
    pub(super) part_of: Option<(Arc<str>, usize)>,
    /// Of a cell, how many texts there were before it.
    cell: Option<usize>,
}

impl Sources {
    /// Notes a cell, perhaps as the part of a file from a line on.
    pub(super) fn insert(&self, name: &str, text: &str, part_of: Option<(&str, usize)>) {
        let part_of = part_of.map(|(file, line)| (file.into(), line));
        let mut sources = lock(&self.0);
        let cell = Some(sources.len());
        sources.insert(name.to_string(), Source { text: text.into(), edits: Arc::default(), part_of, cell });
    }

    /// Notes a text unless it is known.
    pub(super) fn note(&self, name: &str, text: &str) {
        if self.get(name).is_none_or(|known| *known.text != *text) {
            let source = Source { text: text.into(), edits: Arc::default(), part_of: None, cell: None };
            lock(&self.0).insert(name.to_string(), source);
        }
    }

    /// Notes what was edited in a text.
    pub(super) fn edited(&self, name: &str, edits: Edits) {
        if let Some(source) = lock(&self.0).get_mut(name) {
            source.edits = edits.into();
        }
    }

    /// A line of a text as users find it: in the file of which the text is a part.
    pub(super) fn place(&self, name: &str, line: usize) -> (String, usize) {
        match lock(&self.0).get(name).and_then(|source| source.part_of.clone()) {
            Some((file, first)) => (file.to_string(), first + line - 1),
            None => (name.to_string(), line),
        }
    }

    /// The text that holds a place as [`Sources::place`] names it, and the line of the place in it: of a file that is read
    /// cell by cell, the newest cell that begins there or above.
    pub(super) fn of_place(&self, name: &str, line: usize) -> Option<(Arc<str>, usize)> {
        let sources = lock(&self.0);
        holding(&sources, name, line).map(|(source, line)| (source.text.clone(), line))
    }

    /// The cells before the one that holds such a place, from the first on.
    pub(super) fn before_cell(&self, name: &str, line: usize) -> String {
        let sources = lock(&self.0);
        let Some(cell) = holding(&sources, name, line).and_then(|(source, _)| source.cell) else { return String::new() };
        let mut earlier: Vec<&Source> = sources.values().filter(|source| source.cell.is_some_and(|own| own < cell)).collect();
        earlier.sort_by_key(|source| source.cell);
        earlier.into_iter().map(|source| format!("{}\n", source.text)).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<Source> {
        lock(&self.0).get(name).cloned()
    }
}

fn holding<'s>(sources: &'s BTreeMap<String, Source>, name: &str, line: usize) -> Option<(&'s Source, usize)> {
    if let Some(source) = sources.get(name).filter(|source| source.part_of.is_none()) {
        return Some((source, line));
    }
    let first = |source: &Source| source.part_of.as_ref().filter(|(file, _)| **file == *name).map(|(_, first)| *first);
    let parts = sources.values().filter_map(|source| first(source).map(|first| (first, source)));
    let (first, source) = parts.filter(|(first, _)| *first <= line).max_by_key(|(first, _)| *first)?;
    Some((source, line + 1 - first))
}

/// The path of an import in a file of `folder` as it holds in any folder; the library's stay what they are.
pub(super) fn absolute(folder: &Path, path: &str) -> Option<String> {
    if path.starts_with("std/") {
        return Some(path.into());
    }
    std::path::absolute(folder.join(expand_home(path))).ok().map(|path| path.display().to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds and keeps modules.
pub(super) struct Modules {
    /// Where a script that has no folder of its own (a cell) imports from.
    folder: PathBuf,
    sources: Sources,
    /// Is told what was imported.
    host: Host,
    /// By source name; a file that has changed since is compiled again.
    loaded: Mutex<BTreeMap<String, Loaded>>,
    /// On the way of being loaded: a module that comes here again imports itself.
    loading: Mutex<BTreeSet<String>>,
}

/// A module, and when its file was changed last.
type Loaded = (Option<SystemTime>, Arc<Module>);

/// A module's text.
struct Found {
    name: String,
    text: String,
    changed: Option<SystemTime>,
}

impl Modules {
    pub(super) fn new(folder: PathBuf, sources: Sources, host: Host) -> Self {
        Modules { folder, sources, host, loaded: Mutex::default(), loading: Mutex::default() }
    }

    fn find(&self, source: Option<&str>, path: &str) -> Result<Found, Error> {
        if let Some(name) = path.strip_prefix("std/") {
            let Some((_, text)) = stdlib::FILES.iter().find(|(known, _)| *known == name) else {
                let names: Vec<&str> = stdlib::FILES.iter().map(|(name, _)| *name).collect();
                let error = Error::input(format!("there is no `{path}` in the library"));
                let error = match nearest(name, names.iter().copied()) {
                    Some(near) => error.help(format!("did you mean `std/{near}`?")),
                    None => error,
                };
                return Err(error.help(format!("the library has: {}", names.join(", "))));
            };
            return Ok(Found { name: format!("<std>/{name}.rhai"), text: (*text).to_string(), changed: None });
        }
        // A cell is no file: its name has no folder.
        let beside = source.map(Path::new).filter(|p| p.is_file()).and_then(Path::parent);
        let mut file = beside.unwrap_or(&self.folder).join(expand_home(path));
        if file.extension().is_none_or(|e| e != "rhai") {
            file.as_mut_os_string().push(".rhai");
        }
        let text = std::fs::read_to_string(&file).map_err(|e| {
            Error::io(&e, &file)
                .help("`import \"std/NAME\"` is from the library, `import \"NAME\"` the file NAME.rhai beside the script")
        })?;
        let changed = std::fs::metadata(&file).and_then(|m| m.modified()).ok();
        Ok(Found { name: file.display().to_string(), text, changed })
    }

    fn load(&self, engine: &Engine, found: &Found, path: &str, position: Position) -> Result<Arc<Module>, Box<EvalAltResult>> {
        self.sources.insert(&found.name, &found.text, None);
        self.host.note_code(&found.name, &found.text);
        let inside = |error| Box::new(EvalAltResult::ErrorInModule(found.name.clone(), error, position));
        if !lock(&self.loading).insert(found.name.clone()) {
            return Err(raise(Error::input(format!("`{path}` imports itself")), position));
        }
        let text = readable(found.text.clone()).map_err(|e| raise(e, position))?;
        let module = self.compile(engine, found, &text).map_err(|e| inside(e.into())).and_then(|mut ast| {
            ast.set_source(found.name.as_str());
            self.host.assigned.note(&found.name, &ast);
            Module::eval_ast_as_new(Scope::new(), &ast, engine).map_err(inside)
        });
        lock(&self.loading).remove(&found.name);
        module.map(|module| module.into())
    }

    /// Calls of closures and caught errors mean in a module what they mean in a cell.
    fn compile(&self, engine: &Engine, found: &Found, text: &str) -> Result<AST, ParseError> {
        let (ast, native) = (names::compile(engine, &Scope::new(), text)?, natives::functions(engine));
        let edits = Edits::new(text, &ast, &Scope::new(), |name| native.iter().any(|f| f.name == name))?;
        if edits.is_empty() {
            return Ok(ast);
        }
        let edited = edits.apply(text);
        self.sources.edited(&found.name, edits);
        names::compile(engine, &Scope::new(), &edited)
    }
}

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Arc<Module>, Box<EvalAltResult>> {
        let found = self.find(source, path).map_err(|error| raise(error, position))?;
        if let Some((changed, module)) = lock(&self.loaded).get(&found.name)
            && *changed == found.changed
        {
            return Ok(module.clone());
        }
        let module = self.load(engine, &found, path, position)?;
        lock(&self.loaded).insert(found.name, (found.changed, module.clone()));
        Ok(module)
    }
}
