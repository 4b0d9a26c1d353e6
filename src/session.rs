//! One engine, one scope: evaluates a cell and returns its outcome or a report of what went wrong.
//!
//! The ways in (REPL, `run`, a pipe) share this room; it never sees a terminal. `cells`: where a cell ends. `commands`:
//! lines that are not Rhai; `explain`, `timing` and `store` answer the longer ones. `log`: what was done, as a script.
//! `report`: any error → source line, caret, chain of calls, help. `syntax`, `suggest`, `foreign`: its words, the nearest
//! names, what those who come from Python mean. `compare`: comparisons without meaning. `raised`: errors that were caught. `recursion`: where functions call themselves. `known`: what an expression is, without
//! running it. `complete` offers what could stand at the cursor; `language` has the pages of the language's words. `names`:
//! what names mean beyond Rhai's rules. `modules`: what `import` finds. `polls`: where a script sees that it was asked to stop.
//! `stack`: deep scripts end with an error, not with the process. `bounds`: values that grow without end do, too.

mod bounds;
mod cells;
mod commands;
mod compare;
mod complete;
mod explain;
mod foreign;
mod known;
mod language;
mod log;
mod modules;
mod names;
mod polls;
mod raised;
mod recursion;
mod report;
mod stack;
mod stdlib;
mod store;
mod suggest;
mod syntax;
mod timing;

pub use commands::{Answer, COMMANDS, Command};
pub use complete::{Candidate, Completion, KEYWORDS};
pub use report::{Frame, Report};

use crate::error::{Error, Kind};
use crate::script::convert::FromScript;
use crate::script::declare::panicked;
use crate::script::natives::{self, Callable};
use crate::script::param::{self, Declaration};
use crate::script::scan::{self, outline};
use crate::script::{self, Draw, Host, display};
use crate::work::Work;
use log::Log;
use modules::{Modules, Sources, absolute};
use names::{Edits, Shared};
use rhai::{
    AST, Caches, Dynamic, Engine, EvalAltResult, Expr, GlobalRuntimeState, Module, OptimizationLevel, Position, Scope, Stmt,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Exit statuses of the program.
pub mod status {
    /// Done.
    pub const DONE: u8 = 0;
    /// The script failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// The user interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// Nested script calls that are let through. Beyond it a script is taken to call itself without end.
const CALL_LEVELS: usize = 1000;

/// Bytes of a script: the longest chain of operators it can hold still fits the stack when it is taken apart.
const TEXT: usize = 1 << 20;

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Where `save` writes and what `out_dir()` gives.
    pub out_dir: PathBuf,
    /// Values for the script's parameters, by name, as given.
    pub parameters: BTreeMap<String, String>,
    /// The script that will run, for the provenance of its results.
    pub script: Option<String>,
    /// The folder where `import "name"` looks for `name.rhai`, unless a script in another folder imports it.
    pub folder: PathBuf,
    /// Columns in which values are shown.
    pub width: usize,
    /// How figures are shown; absent: with characters.
    pub draw: Option<Draw>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            out_dir: "out".into(),
            parameters: BTreeMap::new(),
            script: None,
            folder: PathBuf::new(),
            width: 80,
            draw: None,
        }
    }
}

/// What a cell came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Its value; none for `()`.
    pub value: Option<Dynamic>,
    /// A `;` at the end asks not to show the value.
    pub muted: bool,
    /// The status that the script's `exit(n)` asked for.
    pub exit: Option<u8>,
}

/// One engine with its variables, functions and imports.
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    /// Imports, functions and constants of the cells so far.
    global: GlobalRuntimeState,
    host: Host,
    sources: Sources,
    /// The variables that functions see.
    shared: Shared,
    /// The engine's functions, in the order of their names.
    native: Arc<Vec<Callable>>,
    options: SessionOptions,
    /// Cells so far.
    cells: usize,
    /// What was done, as `:save` writes it.
    log: Log,
    /// Paths of the modules that were imported, by the names they have here.
    imports: BTreeMap<String, String>,
    /// The file that runs before the first cell.
    start_up: Option<PathBuf>,
    /// Cells with functions, the newest last, as `:session save` keeps them.
    defining: Vec<Defining>,
    /// The command that runs, where it is a part of a file.
    command: Option<Placed>,
}

/// A command in a file.
struct Placed {
    file: String,
    /// The file's line in which `text` begins, from 1.
    line: usize,
    text: String,
}

/// A cell with functions.
struct Defining {
    name: String,
    text: String,
    /// The names that Rhai gave to its closures: another process will give others.
    closures: Vec<String>,
}

impl Session {
    /// A session whose calls run for `work`.
    pub fn new(work: Work, options: SessionOptions) -> Self {
        let mut host = Host::new(work.clone());
        let given = options.clone();
        (host.out_dir, host.parameters) = (Arc::new(given.out_dir), Arc::new(given.parameters));
        host.script = given.script.map(Into::into);
        host.width = given.width;
        host.draw = given.draw.unwrap_or(host.draw);
        let mut engine = Engine::new();
        // Positions and side effects stay as written, and declarations can be read from the tree.
        engine.set_optimization_level(OptimizationLevel::None);
        engine.set_max_call_levels(CALL_LEVELS).set_max_expr_depths(0, 0);
        engine.set_fail_on_invalid_map_property(true);
        let sources = Sources::default();
        let (out, err, places) = (work.clone(), work.clone(), sources.clone());
        engine.on_print(move |text| out.print(text));
        engine.on_debug(move |text, source, position| {
            let (file, line) = places.place(source.unwrap_or_default(), position.line().unwrap_or(1));
            err.note(&format!("{file}:{line}: {text}"));
        });
        engine.set_module_resolver(Modules::new(given.folder, sources.clone(), host.clone()));
        script::install(&mut engine, host.clone());
        // Text that runs without being read as a cell would know neither polls nor the session's names.
        engine.disable_symbol("eval");
        let native = Arc::new(natives::functions(&engine));
        stack::guard(&mut engine);
        let shared = Shared::default();
        shared.install(&mut engine, &work);
        host.explain = report::explainer(native.clone(), sources.clone());
        engine.set_default_tag(Dynamic::from(host.clone()));
        let mut global = engine.new_global_runtime_state();
        // Rhai keeps a constant for `global::NAME` only if there are functions by then; those of a later cell may name it.
        let mut before = Module::new();
        before.set_var("before", ());
        global.lib.push(before.into());
        Session {
            engine,
            scope: Scope::new(),
            global,
            host,
            sources,
            shared,
            native,
            options,
            cells: 0,
            log: Log::default(),
            imports: BTreeMap::new(),
            start_up: None,
            defining: Vec::new(),
            command: None,
        }
    }

    /// Evaluates a cell. `name` stands for it in reports: a file's path, or `In[3]`. Variables, functions and imports stay
    /// for the cells that follow, also those made before an error or an interruption.
    ///
    /// # Errors
    /// A report of the syntax error or the failure, or of the interruption.
    pub fn eval(&mut self, text: &str, name: &str) -> Result<Outcome, Box<Report>> {
        if self.options.script.as_deref() == Some(name) {
            self.host.note_code("script", text);
        }
        stack::on_large(|| {
            let (ast, cell) = self.parse(text, name)?;
            self.run(&ast, &cell, name)
        })
    }

    /// Evaluates the next cell of an interactive session: `In[1]`, `In[2]`, …. Its value stays as `ans` and `Out[n]`.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn cell(&mut self, text: &str) -> Result<Outcome, Box<Report>> {
        let name = format!("In[{}]", self.next_cell());
        self.next_named(text, &name, None)
    }

    /// As [`Session::cell`], of a part of a file, from its line `line` on (from 1): reports name the file and its lines.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn cell_of(&mut self, file: &str, line: usize, text: &str) -> Result<Outcome, Box<Report>> {
        self.next_named(text, &format!("{file}:{line}"), Some((file, line)))
    }

    fn next_named(&mut self, text: &str, name: &str, part_of: Option<(&str, usize)>) -> Result<Outcome, Box<Report>> {
        self.cells += 1;
        if !self.scope.contains("Out") {
            self.set("Out", Dynamic::from(self.host.outputs.clone()));
        }
        self.sources.insert(name, text, part_of);
        let (outcome, expression) = stack::on_large(|| {
            let (ast, cell) = self.parse(text, name)?;
            cells::leaves_kept(&ast).map_err(|error| Box::new(self.report(error, name)))?;
            let expression = matches!(ast.statements(), [Stmt::Expr(_) | Stmt::FnCall(..)]) && !ast.has_functions();
            match self.run(&ast, &cell, name) {
                Ok(outcome) => Ok((outcome, expression)),
                Err(report) => {
                    self.log_failure(name, &cell, &report);
                    Err(report)
                }
            }
        })?;
        if let Some(value) = &outcome.value {
            self.host.outputs.keep(self.cells, value.clone());
            self.set("ans", value.clone());
        }
        self.log.cell(name, self.cells, text, expression && outcome.value.is_some());
        Ok(outcome)
    }

    /// The number of the next cell.
    pub fn next_cell(&self) -> usize {
        self.cells + 1
    }

    /// Runs the start-up file; after a reset it runs again.
    ///
    /// # Errors
    /// It cannot be read, or fails.
    pub fn start_up(&mut self, file: &Path) -> Result<(), Box<Report>> {
        self.start_up = Some(file.into());
        let (text, name) = (script_text(file)?, file.display().to_string());
        self.eval_file(&format!("start-up file {name}"), &name, &text).map(drop)
    }

    /// Evaluates a file, and notes what it did for `:save`. `command` says how it came to run.
    fn eval_file(&mut self, command: &str, file: &str, text: &str) -> Result<Outcome, Box<Report>> {
        stack::on_large(|| {
            let (ast, cell) = self.parse(text, file)?;
            let result = self.run(&ast, &cell, file);
            self.log_file(command, file, &cell, &result);
            result
        })
    }

    /// Forgets variables, functions, imports and cells.
    fn reset(&mut self) -> Result<Answer, Box<Report>> {
        let options = SessionOptions { width: self.host.width, ..self.options.clone() };
        let start_up = self.start_up.take();
        *self = Session::new(self.host.work.clone(), options);
        let mut said = String::from("all variables and functions are forgotten");
        if let Some(file) = start_up {
            self.start_up(&file)?;
            said += &format!("; {} ran again", file.display());
        }
        Ok(Answer::Note(said))
    }

    fn change_host(&mut self, change: impl FnOnce(&mut Host)) {
        change(&mut self.host);
        self.engine.set_default_tag(Dynamic::from(self.host.clone()));
        self.global.tag = Dynamic::from(self.host.clone());
    }

    /// The page of a name, as `?name` shows it.
    ///
    /// # Errors
    /// Nothing has that name.
    pub fn help(&self, name: &str) -> crate::Result<String> {
        explain::help(self, name)
    }

    /// The parameters that a script declares, without running it.
    ///
    /// # Errors
    /// A syntax error, or a declaration that cannot be read.
    pub fn declarations(&mut self, text: &str, name: &str) -> Result<Vec<Declaration>, Box<Report>> {
        stack::on_large(|| {
            self.sources.note(name, text);
            let cell = readable(text.to_string())?;
            let ast = self.compile(&cell, name)?;
            param::declarations(&cell, &ast).map_err(|(error, position)| {
                let error = script::raise(error, position);
                Box::new(self.report(*error, name))
            })
        })
    }

    /// A value as the session shows it.
    pub fn display(&self, value: &Dynamic) -> String {
        stack::on_large(|| display::display(&self.engine, value, self.host.width))
    }

    /// Shows a value as the result of a cell: a figure drawn, anything else as [`Session::display`] gives it.
    ///
    /// # Errors
    /// A figure that cannot be drawn.
    pub fn show(&self, value: &Dynamic) -> crate::Result<()> {
        let shown = stack::on_large(|| display::result(&self.host, &self.engine, value))?;
        self.work().print(&shown);
        Ok(())
    }

    /// Changes the number of columns in which values are shown.
    pub fn set_width(&mut self, width: usize) {
        self.change_host(|host| host.width = width);
    }

    /// Columns in which values are shown.
    pub fn width(&self) -> usize {
        self.host.width
    }

    /// Sets a variable of the session.
    pub fn set(&mut self, name: &str, value: Dynamic) {
        self.shared.set(&mut self.scope, name, value);
    }

    /// The value of a variable.
    pub fn get<T: FromScript>(&self, name: &str) -> Option<T> {
        self.scope.get(name).and_then(T::from_script)
    }

    /// Names of the variables, the newest first.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.scope.iter_raw().map(|(name, _, _)| name)
    }

    /// The session's work handle.
    pub fn work(&self) -> &Work {
        &self.host.work
    }

    /// Parses a text, with the meaning that its names have here; gives the text as the parser took it, too.
    fn parse(&mut self, text: &str, name: &str) -> Result<(AST, String), Box<Report>> {
        self.sources.note(name, text);
        let cell = readable(text.to_string())?;
        let ast = self.compile(&cell, name)?;
        cells::closed(&cell).map_err(|error| Box::new(self.report(error, name)))?;
        if let Some((error, position)) = compare::unlike(&ast) {
            return Err(Box::new(self.report(*script::raise(error, position), name)));
        }
        let edits = Edits::new(&cell, &ast, &self.scope, |name| self.is_native(name) || self.is_script_function(name))
            .map_err(|error| Box::new(self.report(error.into(), name)))?;
        if edits.is_empty() {
            self.host.assigned.note(name, &ast);
            return Ok((ast, cell));
        }
        let edited = edits.apply(&cell);
        self.sources.edited(name, edits);
        let ast = self.compile(&edited, name)?;
        self.host.assigned.note(name, &ast);
        Ok((ast, cell))
    }

    fn compile(&self, text: &str, name: &str) -> Result<AST, Box<Report>> {
        match names::compile(&self.engine, &self.scope, text) {
            Ok(mut ast) => {
                ast.set_source(name);
                Ok(ast)
            }
            Err(error) => Err(Box::new(self.report(error.into(), name))),
        }
    }

    fn run(&mut self, ast: &AST, cell: &str, name: &str) -> Result<Outcome, Box<Report>> {
        self.admit(ast, cell, name);
        self.note_imports(ast, name);
        let sharing = self.shared.sharing(ast.statements());
        let statements = sharing.as_deref().unwrap_or_else(|| ast.statements());
        self.shared.begin();
        self.global.source = Some(name.into());
        (self.global.level, self.global.scope_level) = (0, 0);
        let before = self.scope.len();
        let (scope, mut caches) = (&mut self.scope, Caches::new());
        // Rhai offers no other call that keeps imports from one evaluation to the next.
        #[allow(deprecated)]
        let evaluate = || self.engine.eval_statements_raw(&mut self.global, &mut caches, scope, statements);
        // A panic becomes an error: the session goes on.
        let result = std::panic::catch_unwind(AssertUnwindSafe(evaluate))
            .unwrap_or_else(|panic| Err(script::raise(panicked("the evaluator", panic.as_ref()), Position::NONE)));
        self.drop_shadowed(before);
        if let Some(status) = self.host.take_exit() {
            return Ok(Outcome { exit: Some(status), ..Outcome::default() });
        }
        match result {
            // The work ended as the user asked, however far it came.
            Ok(_) if self.work().is_cancelled() => Err(Error::interrupted().into()),
            Ok(value) => {
                let muted = outline(cell).last() == Some(scan::Kind::Semicolon);
                Ok(Outcome { value: Some(value).filter(|v| !v.is_unit()), muted, exit: None })
            }
            Err(error) => Err(Box::new(self.report(*error, name))),
        }
    }

    /// A variable declared again leaves its old value, perhaps a whole model, in Rhai's scope: it is let go here. `before`:
    /// how many variables there were.
    fn drop_shadowed(&mut self, before: usize) {
        let added = self.scope.len().saturating_sub(before);
        let mut seen: BTreeSet<String> = self.variables().take(added).map(String::from).collect();
        if seen.len() == added && !self.variables().skip(added).any(|name| seen.contains(name)) {
            return;
        }
        seen.clear();
        let newest_first: Vec<bool> = self.variables().map(|name| seen.insert(name.to_string())).collect();
        for ((name, value, _), newest) in std::mem::take(&mut self.scope).into_iter().zip(newest_first.into_iter().rev()) {
            if newest {
                self.scope.push_dynamic(name, value);
            }
        }
    }

    /// Notes where a text's imports come from.
    fn note_imports(&mut self, ast: &AST, name: &str) {
        let folder = Path::new(name).parent().filter(|_| Path::new(name).is_file()).unwrap_or(&self.options.folder).to_path_buf();
        for statement in ast.statements() {
            if let Stmt::Import(import, _) = statement
                && let Expr::StringConstant(path, _) = &import.0
            {
                let path = absolute(&folder, path);
                self.imports.extend(path.map(|path| (import.1.name.to_string(), path)));
            }
        }
    }

    /// Takes a cell's functions and what they mention.
    fn admit(&mut self, ast: &AST, cell: &str, name: &str) {
        self.shared.admit(name, ast, &mut self.scope);
        if ast.has_functions() && !self.global.lib.iter().any(|module| Arc::ptr_eq(module, ast.shared_lib())) {
            self.global.lib.push(ast.shared_lib().clone());
            self.defining.retain(|known| known.text != cell);
            let closures = names::closures(ast).iter().map(|closure| closure.fn_name().to_string()).collect();
            self.defining.push(Defining { name: name.into(), text: cell.into(), closures });
        }
    }

    pub(super) fn is_native(&self, name: &str) -> bool {
        self.native.binary_search_by(|function| function.name.as_str().cmp(name)).is_ok()
    }

    /// Some cell defined a function of this name.
    pub(super) fn is_script_function(&self, name: &str) -> bool {
        self.global.lib.iter().any(|module| module.iter_script_fn_info().any(|(_, _, known, ..)| known == name))
    }

    fn report(&self, error: EvalAltResult, name: &str) -> Report {
        let known = suggest::Known {
            engine: &self.engine,
            native: &self.native,
            scope: &self.scope,
            global: &self.global,
            functions: &self.global.lib,
            sources: &self.sources,
        };
        report::of(error, name, &known)
    }
}

impl Drop for Session {
    /// Values and functions may be nested deeper than the caller's stack can take apart.
    fn drop(&mut self) {
        let (scope, lib) = (std::mem::take(&mut self.scope), std::mem::take(&mut self.global.lib));
        stack::on_large(|| drop((scope, lib)));
    }
}

/// The text of a script's file.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn script_text(file: &Path) -> crate::Result<String> {
    let bytes = std::fs::read(file).map_err(|e| match file.is_dir() {
        true => Error::new(Kind::Io, "this is a folder, not a script").file(file),
        false => Error::io(&e, file),
    })?;
    // What some editors put before a text is none of it.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").map_or(bytes.clone(), <[u8]>::to_vec);
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() as u64;
        Error::format("this is no text: a script is UTF-8").file(file).byte(at)
    })
}

/// Where a script's results go unless somebody says otherwise: `out/<script name>`.
pub fn default_out_dir(file: &Path) -> PathBuf {
    Path::new("out").join(file.file_stem().unwrap_or_default())
}

/// The text as the parser may read it: a first line `#!…`, which makes a script executable, becomes a comment.
fn readable(text: String) -> Result<String, Error> {
    if text.len() > TEXT {
        let message = format!("the script has {} bytes; more than {TEXT} are not read", text.len());
        return Err(Error::limit(message).help("data belong into files: `load_table`, `load_npy`, `load_safetensors` read them"));
    }
    Ok(if text.starts_with("#!") { format!("// {text}") } else { text })
}

/// An error that is no script's fault, as a report without a place.
impl From<Error> for Box<Report> {
    fn from(error: Error) -> Self {
        Box::new(Report::of_error(&error))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn session() -> Session {
        Session::new(Work::silent(1).unwrap(), SessionOptions::default())
    }

    pub(super) fn value(session: &mut Session, text: &str) -> String {
        let outcome = session.eval(text, "In[1]").unwrap_or_else(|report| panic!("{report}"));
        outcome.value.map_or_else(String::new, |v| session.display(&v))
    }

    #[test]
    fn cells_share_variables_functions_imports_and_closures() {
        let mut session = session();
        value(&mut session, "let x = 1; const C = 5; fn f(a) { a + global::C } let g = |a| a + x;");
        value(&mut session, "import \"std/experiments\" as exp; x = 2;");
        assert_eq!(value(&mut session, "f(x)"), "7");
        assert_eq!(value(&mut session, "g.call(1)"), "3");
        value(&mut session, "fn f(a) { a * 10 }");
        assert_eq!(value(&mut session, "f(x)"), "20");
        assert_eq!(value(&mut session, "exp::indices(1, 3, \"layer\")"), "[1]");
    }

    #[test]
    fn functions_see_the_constants_of_earlier_cells() {
        let mut session = session();
        for text in ["const K = 3;", "fn k() { global::K }"] {
            value(&mut session, text);
        }
        assert_eq!(value(&mut session, "k()"), "3");
    }

    #[test]
    fn functions_see_the_session_and_change_it() {
        let mut session = session();
        value(&mut session, "let x = 40; const K = 2; fn g(a) { a * x + K } fn set(v) { x = v; list[1] = v; m.deep.er = v; }");
        value(&mut session, "let list = [1, 2, 3]; let m = #{deep: #{er: 0}};");
        assert_eq!(value(&mut session, "g(1)"), "42");
        assert_eq!(value(&mut session, "set(5); [x, list[1], m.deep.er, g(1)]"), "[5, 5, 5, 7]");
        // A later rebinding is seen, also one in the same cell as the call; the old value is not kept.
        assert_eq!(value(&mut session, "let x = 1; let y = g(1); x = 2; [y, g(1)]"), "[3, 4]");
        // Names are found where they stand: parameters and locals first.
        assert_eq!(value(&mut session, "fn own(x) { let list = [x]; list[0] += 1; list } own(9)"), "[10]");
        assert_eq!(value(&mut session, "list"), "[1, 5, 3]");
        assert!(session.eval("fn k() { K = 3; } k()", "In[2]").unwrap_err().message.contains("constant"));
        // A loop's variable is no variable of the session, and a module's functions do not see the session.
        assert!(session.eval("fn h() { i } for i in 0..1 { h() }", "In[3]").is_err());
    }

    #[test]
    fn the_names_that_a_session_gives_may_be_taken_by_constants() {
        let mut session = session();
        session.cell("const ans = 1; const Out = 2;").unwrap();
        session.cell("40 + 2").unwrap();
        assert_eq!(value(&mut session, "ans"), "42");
        for text in ["Out = 3", "ans = 3", "if true { ans += 1; }"] {
            let report = session.cell(text).unwrap_err();
            assert!(report.message.contains("is kept by the prompt"), "{text}: {report}");
        }
        session.cell("let ans = 1; ans = 2; fn f(Out) { Out = 1; Out }").unwrap();
        assert_eq!(value(&mut session, "ans + f(2)"), "3");
    }

    #[test]
    fn closures_in_variables_are_called_by_their_names() {
        let mut session = session();
        value(&mut session, "let f = |x| x + 1; let fs = [f];");
        assert_eq!(value(&mut session, "f(f(1)) + f (2)"), "6");
        assert_eq!(value(&mut session, "fn twice(g, x) { g(g(x)) } twice(f, 1) + twice(|x| x * 3, 1)"), "12");
        assert_eq!(value(&mut session, "fn seen(x) { f(x) } seen(1)"), "2");
        assert_eq!(value(&mut session, "let n = 10; let add = |x| f(x) + n; [1, 2].map(|x| add(x))"), "[12, 13]");
        assert_eq!(value(&mut session, "let abs = |x| \"mine\"; abs(-1)"), "\"mine\"");
        assert_eq!(value(&mut session, "let round = 3; round(2.4)"), "2.0");
        assert_eq!(value(&mut session, "let none = || 7; none() + none( )"), "14");
        // The place of a fault is a place in what was written.
        let report = session.eval("let ok = f(1); f(ok).nothing", "In[9]").unwrap_err();
        assert_eq!((report.frames[0].text.as_str(), report.frames[0].column), ("let ok = f(1); f(ok).nothing", 22));
        // A closure's fault lies in the cell that wrote it.
        value(&mut session, "\n\nlet bad = |x| x.nothing;");
        let report = session.eval("bad(1)", "In[11]").unwrap_err();
        let places: Vec<_> = report.frames.iter().map(|f| (f.source.as_str(), f.line, f.column)).collect();
        assert_eq!(places, [("In[1]", 3, 17), ("In[11]", 1, 1)]);
    }

    #[test]
    fn a_closure_may_use_the_variable_that_its_method_walks() {
        let mut session = session();
        let set_up = "let l = [3, 1, 2]; let m = #{a: 2, l: [1, 2], add: |x| x + 1}; fn beyond(v) { v + l.len() } \
                      let tab = table(#{a: l}); fn average() { tab[\"a\"].mean() }";
        value(&mut session, set_up);
        for (text, shown) in [
            ("l.map(|v| v + l.len())", "[6, 4, 5]"),
            ("l.map(|v| l.filter(|w| w > v).len())", "[0, 2, 1]"),
            ("l.map(beyond)", "[6, 4, 5]"),
            ("l.map(|v| beyond(v)) == l.map(beyond)", "true"),
            ("l.reduce(|sum, v| sum + v * l.len(), 0)", "18"),
            ("m.l.map(|v| v * m.a)", "[2, 4]"),
            ("m[\"l\"].map(|v| m.add(v))", "[2, 3]"),
            ("m.keys().map(|k| type_of(m[k]))", "[\"i64\", \"Fn\", \"array\"]"),
            ("tab.filter(|row| row.a > tab[\"a\"].mean()).len", "1"),
            ("tab.filter(|row| row.a > average()).len", "1"),
            ("fn inside() { l.map(|v| v + l.len()) } inside()", "[6, 4, 5]"),
            ("fn given(q) { q.map(|v| v + q.len()) } given(l)", "[6, 4, 5]"),
            ("let later = |v| v + l[0];", ""),
            ("l.map(later)", "[6, 4, 5]"),
            ("l", "[3, 1, 2]"),
        ] {
            assert_eq!(value(&mut session, text), shown, "{text}");
        }
        // A method that changes its variable keeps it for itself, and says so.
        for text in ["l.sort(|a, b| a - b + 0 * l.len())", "l.retain(|v| beyond(v) > 4)"] {
            let report = session.eval(text, "In[2]").unwrap_err();
            assert!(report.message.contains("the variable whose method"), "{text}: {report}");
        }
        assert_eq!(value(&mut session, "l.retain(|v| v > 1); l"), "[3, 2]");
        // What a closure raises below a native method has its own place.
        let report = session.eval("tab.filter(|row| row.a > nowhere)", "In[3]").unwrap_err();
        assert_eq!((report.message.as_str(), report.frames[0].column), ("unknown variable `nowhere`", 26));
    }

    #[test]
    fn whatever_is_caught_has_a_message_a_kind_and_a_line() {
        let mut session = session();
        let caught = "fn t(e) { [e.message != \"\", e.kind, e.line, `${e}` == e.message] }";
        value(&mut session, caught);
        let list = |session: &mut Session, text: &str| value(session, &format!("let r = (); {text}; r"));
        assert_eq!(list(&mut session, "try { nothing } catch (e) { r = t(e); }"), "[true, \"input\", 1, true]");
        assert_eq!(list(&mut session, "try { [1][7] } catch (err) { r = t(err); }"), "[true, \"input\", 1, true]");
        assert_eq!(list(&mut session, "try { seed(-1) } catch (e) { r = t(e); }"), "[true, \"input\", 1, true]");
        assert_eq!(list(&mut session, "try { throw \"none\" } catch (e) { r = t(e); }"), "[true, \"input\", (), true]");
        assert_eq!(
            list(&mut session, "try { throw \"none\" } catch (e) { r = [e.message, e == \"none\", \"a\" + e]; }"),
            "[\"none\", true, \"anone\"]"
        );
        assert_eq!(session.eval("try { throw \"none\" } catch (e) { throw e }", "In[2]").unwrap_err().message, "none");
        assert_eq!(list(&mut session, "try { throw 5 } catch (e) { r = e; }"), "5");
        assert_eq!(list(&mut session, "try { throw #{a: 1} } catch (e) { r = e.a; }"), "1");
        assert_eq!(value(&mut session, "fn inside() { try { nothing } catch (e) { e.kind } } inside()"), "");
    }

    #[test]
    fn integers_are_taken_where_floats_are_wanted() {
        let mut session = session();
        for (text, shown) in
            [("ln(1)", "0.0"), ("5.floor()", "5"), ("hypot(3, 4)", "5.0"), ("2.is_nan()", "false"), ("atan(0)", "0.0")]
        {
            assert_eq!(value(&mut session, text), shown, "{text}");
        }
    }

    #[test]
    fn what_was_done_before_an_error_stays_and_what_is_shadowed_goes() {
        let mut session = session();
        assert!(session.eval("let a = 1; let b = a + nothing;", "In[1]").is_err());
        assert_eq!(value(&mut session, "let a = a + 1; let c = 3; let a = a + 1; a"), "3");
        assert_eq!(session.variables().collect::<Vec<_>>(), ["c", "a"]);
    }

    #[test]
    fn a_function_fails_in_the_cell_that_defined_it() {
        let mut session = session();
        session.eval("let pad = 1;\nfn f(a) {\n  a.nothing\n}", "In[1]").unwrap();
        let report = session.eval("f(1)", "In[2]").unwrap_err();
        let places: Vec<_> = report.frames.iter().map(|f| (f.source.as_str(), f.line, f.column)).collect();
        assert_eq!(places, [("In[1]", 3, 5), ("In[2]", 1, 1)]);
    }

    #[test]
    fn a_trailing_semicolon_mutes_and_a_comment_after_it_changes_nothing() {
        let mut session = session();
        for (text, muted) in [("1 + 1", false), ("1 + 1;", true), ("1 + 1; // note", true), ("\"a;\"", false)] {
            let outcome = session.eval(text, "In[1]").unwrap();
            assert!(outcome.value.is_some());
            assert_eq!(outcome.muted, muted, "{text}");
        }
    }

    #[test]
    fn an_interruption_is_no_fault_and_the_session_goes_on() {
        let mut session = session();
        let flag = session.work().cancel_flag();
        let report = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                flag.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            session.eval("let kept = 1; loop { try { throw 1; } catch { kept += 1; } }", "In[1]").unwrap_err()
        });
        assert!(report.is_interrupted());
        session.work().reset_cancel();
        assert_eq!(value(&mut session, "kept > 1"), "true");
    }

    #[test]
    fn reports_name_what_was_meant() {
        let mut session = session();
        session.eval("let m = #{alpha: 1};", "In[1]").unwrap();
        for (text, message, help) in [
            ("[1].pusj(2)", "array has no method `pusj`", "did you mean `push`?"),
            ("m.alhpa", "the map has no key `alhpa`", "did you mean `alpha`?"),
            ("asert(true)", "unknown function `asert`", "did you mean `assert`?"),
            (
                "assert()",
                "`assert` takes 1 or 2 arguments, none is given",
                "it is called as `assert(condition: bool, [message: string]) -> ()`",
            ),
            ("m + 1", "`+` is not defined between map and integer", ""),
            ("let v = 3; v(1)", "`v` is an integer, not a function", ""),
            ("ln()", "`ln` takes 1 argument, none is given", "it is called as `ln(x: number) -> number`"),
            ("fresh = 5", "unknown variable `fresh`", "a new variable is declared first: `let fresh = …`"),
            ("[1, 2].mean()", "array has no method `mean`", "a Tensor has it: `tensor(list).mean(…)`"),
            ("True", "unknown variable `True`", "for `True` write `true`"),
            ("let p = 'abc';", "'abc' is not one character", "text stands in double quotes"),
            ("def g(x)", "a `;` is missing before `g`", "for `def` write `fn name(x) { x + 1 }`"),
            ("if m: 1", "`{` is missing to start a statement block", "blocks stand in braces"),
            ("m[0, 1]", "`]` is missing for the `[`", "several indices at once"),
            ("[1][0](2)", "a `;` is missing before this", "a closure in an array"),
            ("[1, 2][0..1]", "expected an integer, found a range", "a part of an array is list.extract(a..b)"),
            ("import \"std/experiment\" as e;", "there is no `std/experiment` in the library", "did you mean `std/experiments`?"),
        ] {
            let report = session.eval(text, "In[2]").unwrap_err();
            assert_eq!(report.message, message, "{text}");
            let first = report.help.first().map_or("", String::as_str);
            assert!(first.starts_with(help), "{text}: {:?}", report.help);
        }
    }

    #[test]
    fn assignments_into_what_cannot_be_changed_are_refused_and_methods_are_not() {
        let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        let set_up = "let m = load_model(\"demo\"); let d = mlp_neurons(m, 0); let t = zeros([2, 3]); const FIXED = m; \
                      let tab = table(#{a: [1.0, 2.0], s: [\"x\", \"y\"]}); let h = #{m: m, list: [[1], [2]]}; let i = [0];";
        session.eval(set_up, "In[1]").unwrap();
        for (text, message) in [
            ("m.cfg.n_layers = 3", "`cfg` of a Model cannot be set"),
            ("m.cfg.n_layers += 1", "`cfg` of a Model cannot be set"),
            ("m.cfg[\"n_layers\"] = 3", "`cfg` of a Model cannot be set"),
            ("m.cfg.remove(\"n_layers\")", "`cfg` of a Model cannot be set"),
            ("m.W_E[0] = 3.0", "`W_E` of a Model cannot be set"),
            ("m.W_E[0][1] = 3.0", "`W_E` of a Model cannot be set"),
            ("h.m.W_E[i[0]] = 3.0", "`W_E` of a Model cannot be set"),
            ("d.W_dec[0][0] = 5.0", "`W_dec` of a Dictionary cannot be set"),
            ("d.cfg.layer = 3", "`cfg` of a Dictionary cannot be set"),
            ("fn set(x) { x.cfg.layer = 3; } set(d)", "`cfg` of a Dictionary cannot be set"),
            ("[d].map(|x| { x.cfg.layer = 3; x })", "`cfg` of a Dictionary cannot be set"),
            ("t.T[0] = 1.0", "`T` of a Tensor cannot be set"),
            ("t.shape[0] = 1", "`shape` of a Tensor cannot be set"),
            ("tab[\"a\"][0] = 9", "what a Table holds cannot be set"),
            ("tab[\"s\"][0] = \"z\"", "what a Table holds cannot be set"),
            ("tab.a[0] = 9", "what a Table holds cannot be set"),
            ("tab[\"a\"] = [9, 9]", "what a Table holds cannot be set"),
        ] {
            let report = session.eval(text, "In[2]").err().unwrap_or_else(|| panic!("{text} is not refused"));
            assert_eq!(report.message, message, "{text}");
            assert!(!report.help.is_empty(), "{text}");
        }
        for text in [
            "m.cfg.keys().len() + m.cfg.len() + t.shape.len() + tab[\"s\"].len() + FIXED.cfg.keys().len()",
            "m.name.to_upper(); m.name.len(); m.W_E[0].sum(); tab.columns.map(|c| c)",
            "unembed(d, m).table().columns.contains(\"k\"); product_stats(m.W_out(1), m.W_U).rows.table().columns.contains(\"p95\")",
            "let w = m.W_E; w[0] = 3.0; let c = d.cfg; c.layer = 3; c.layer",
            "t[0][1] = 5.0; h.list[1][0] = 7; h.list[t.shape.len() - 1].push(1); h.list[1]",
            "let g = plot::line([1, 2]); g.title = \"T\"; g.title",
        ] {
            session.eval(text, "In[3]").unwrap_or_else(|report| panic!("{text}: {report}"));
        }
        let shown = session.eval("[t[0][1], h.list[1].len()]", "In[4]").unwrap().value.unwrap();
        assert_eq!(session.display(&shown), "[5.0, 2]");
    }

    #[test]
    fn a_hint_may_lie_in_an_earlier_cell() {
        let help = "`t` is (): `.sort(…)` gives (), nothing: it changes `t` itself";
        let cells = ["let t = [3, 1, 2];", "t = t.sort();", "t.len()"];
        let (mut prompt, mut piped) = (session(), session());
        let asked = cells.map(|cell| prompt.cell(cell).map_err(|report| report.help));
        assert_eq!(asked[2].as_ref().unwrap_err(), &[help]);
        let read = [(1, cells[0]), (2, cells[1]), (3, cells[2])].map(|(line, cell)| piped.cell_of("<stdin>", line, cell));
        assert_eq!(read[2].as_ref().unwrap_err().help, [help]);
    }

    #[test]
    fn closures_of_other_cells_are_refused_the_same_assignments() {
        let mut session = session();
        for (i, text) in [
            "let m = load_model(\"demo\"); let tab = table(#{a: [1.0, 2.0]});",
            "let held = |x| { m.cfg.n_layers = x; };",
            "let given = |v| { v.cfg[\"n_layers\"] = 3; };",
            "let within = |v| { let inner = |w| { w[\"a\"][0] = 3; }; inner.call(v) };",
            "let reading = |v| { m.cfg.keys().len() + v.cfg.len() };",
        ]
        .into_iter()
        .enumerate()
        {
            session.eval(text, &format!("In[{i}]")).unwrap();
        }
        for (text, message) in [
            ("held(3)", "`cfg` of a Model cannot be set"),
            ("[1, 2].map(held)", "`cfg` of a Model cannot be set"),
            ("given(m)", "`cfg` of a Model cannot be set"),
            ("fn through(f, v) { f.call(v) } through(given, m)", "`cfg` of a Model cannot be set"),
            ("within(tab)", "what a Table holds cannot be set"),
        ] {
            let report = session.eval(text, "In[9]").err().unwrap_or_else(|| panic!("{text} is not refused"));
            assert_eq!(report.message, message, "{text}");
        }
        assert_eq!(value(&mut session, "reading(m) == 2 * m.cfg.len() && [m].map(reading)[0] == reading(m)"), "true");
    }
}
