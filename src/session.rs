//! One engine, one scope: evaluates a cell and returns its outcome or a report of what went wrong.
//!
//! The ways in (REPL, `run`, a pipe) share this room; it never sees a terminal. `commands`: lines that are not Rhai;
//! `explain`, `timing` and `store` answer the longer ones. `report`: any error → source line,
//! caret, chain of calls, help. `syntax`, `suggest`, `foreign`: its words, the nearest names, what those who come from
//! Python mean. `raised`: errors that were caught. `known`: what an expression is, without running it. `complete` offers
//! what could stand at the cursor; `language` has the pages of the language's words. `names`: what names mean beyond Rhai's rules. `modules`: what
//! `import` finds. `stack`: deep scripts end with an error, not with the process.

mod commands;
mod complete;
mod explain;
mod foreign;
mod known;
mod language;
mod modules;
mod names;
mod raised;
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
use crate::script::param::{self, Declaration};
use crate::script::scan::{self, outline};
use crate::script::{self, Draw, Host, display};
use crate::work::Work;
use modules::{Modules, Sources};
use names::{Edits, Shared};
use rhai::{AST, Caches, Dynamic, Engine, EvalAltResult, FnPtr, GlobalRuntimeState, OptimizationLevel, ParseErrorType};
use rhai::{Position, Scope, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use suggest::Callable;

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
    /// Those that succeeded.
    log: Vec<Input>,
    /// Cells with functions, the newest last, as `:session save` keeps them.
    defining: Vec<Defining>,
}

/// A cell with functions.
struct Defining {
    name: String,
    text: String,
    /// The names that Rhai gave to its closures: another process will give others.
    closures: Vec<String>,
}

/// An input that succeeded.
struct Input {
    cell: usize,
    text: String,
    /// It is one expression and has a value, which can be given a name.
    expression: bool,
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
        let (out, err) = (work.clone(), work.clone());
        engine.on_print(move |text| out.print(text));
        engine.on_debug(move |text, source, position| {
            let place = [source.map(String::from), position.line().map(|line| line.to_string())];
            err.note(&format!("{}: {text}", place.into_iter().flatten().collect::<Vec<_>>().join(":")));
        });
        let sources = Sources::default();
        engine.set_module_resolver(Modules::new(given.folder, sources.clone(), host.clone()));
        script::install(&mut engine, host.clone());
        stack::guard(&mut engine, &work);
        let shared = Shared::default();
        shared.install(&mut engine);
        let native = Arc::new(suggest::rhai_functions(&engine));
        host.explain = report::explainer(native.clone(), sources.clone());
        engine.set_default_tag(Dynamic::from(host.clone()));
        let global = engine.new_global_runtime_state();
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
            log: Vec::new(),
            defining: Vec::new(),
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
        self.eval_part(text, 0..text.len(), name)
    }

    /// As [`Session::eval`], of a part of a text whose lines keep their numbers: a cell of a piped script.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_part(&mut self, text: &str, part: Range<usize>, name: &str) -> Result<Outcome, Box<Report>> {
        stack::on_large(|| {
            let (ast, cell) = self.parse(text, part, name)?;
            self.run(&ast, &cell, name)
        })
    }

    /// Evaluates the next cell of an interactive session: `In[1]`, `In[2]`, …. Its value stays as `ans` and `Out[n]`.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn cell(&mut self, text: &str) -> Result<Outcome, Box<Report>> {
        let name = format!("In[{}]", self.cells + 1);
        self.cell_part(text, 0..text.len(), &name)
    }

    /// As [`Session::cell`], of a part of a text whose lines keep their numbers: a cell of a piped script.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn cell_part(&mut self, text: &str, part: Range<usize>, name: &str) -> Result<Outcome, Box<Report>> {
        self.cells += 1;
        if !self.scope.contains("Out") {
            self.set("Out", Dynamic::from(self.host.outputs.clone()));
        }
        let (outcome, expression) = stack::on_large(|| {
            let (ast, cell) = self.parse(text, part.clone(), name)?;
            let expression = matches!(ast.statements(), [Stmt::Expr(_) | Stmt::FnCall(..)]) && !ast.has_functions();
            self.run(&ast, &cell, name).map(|outcome| (outcome, expression))
        })?;
        if let Some(value) = &outcome.value {
            self.host.outputs.keep(self.cells, value.clone());
            self.set("ans", value.clone());
        }
        let text = text.get(part).unwrap_or_default().trim().to_string();
        self.log.push(Input { cell: self.cells, text, expression: expression && outcome.value.is_some() });
        Ok(outcome)
    }

    /// The number of the next cell.
    pub fn next_cell(&self) -> usize {
        self.cells + 1
    }

    /// The inputs that succeeded, as a script that runs.
    fn script(&self) -> String {
        let asked = |name: &str| {
            let named = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
            self.log.iter().any(|input| named(&input.text))
        };
        let (ans, out) = (asked("ans"), asked("Out"));
        let mut text = String::new();
        if ans || out {
            text += "let ans = ();\n";
        }
        if out {
            text += "let Out = [()];\n";
        }
        let mut next = 1;
        for input in &self.log {
            while out && next < input.cell {
                text += "Out.push(());\n";
                next += 1;
            }
            let valued = input.expression && (ans || out);
            if valued {
                text += "ans = ";
            }
            text += &input.text;
            let outline = outline(&input.text);
            text += match (outline.last(), outline.pieces.last()) {
                (Some(scan::Kind::Semicolon), _) => "\n",
                (_, Some((scan::Kind::Comment, _))) => "\n;\n",
                _ => ";\n",
            };
            if out {
                text += if valued { "Out.push(ans);\n" } else { "Out.push(());\n" };
                next += 1;
            }
        }
        text
    }

    /// Forgets variables, functions, imports and cells.
    fn reset(&mut self) -> Answer {
        *self = Session::new(self.host.work.clone(), SessionOptions { width: self.host.width, ..self.options.clone() });
        Answer::Note("all variables and functions are forgotten".into())
    }

    fn change_host(&mut self, change: impl FnOnce(&mut Host)) {
        change(&mut self.host);
        self.engine.set_default_tag(Dynamic::from(self.host.clone()));
        self.global.tag = Dynamic::from(self.host.clone());
    }

    /// The parameters that a script declares, without running it.
    ///
    /// # Errors
    /// A syntax error, or a declaration that cannot be read.
    pub fn declarations(&mut self, text: &str, name: &str) -> Result<Vec<Declaration>, Box<Report>> {
        stack::on_large(|| {
            let cell = self.cell_text(text, 0..text.len(), name)?;
            let ast = self.compile(&cell, name)?;
            param::declarations(&cell, &ast).map_err(|(error, position)| {
                let error = script::raise(error, position);
                Box::new(self.report(*error, name))
            })
        })
    }

    /// True when `text` is the beginning of a cell that goes on: an open bracket, string or comment, or an expression
    /// without its end.
    pub fn is_incomplete(&self, text: &str) -> bool {
        if outline(text).open {
            return true;
        }
        stack::on_large(|| match self.engine.compile(text) {
            Ok(_) => false,
            Err(error) => *error.err_type() == ParseErrorType::UnexpectedEOF || is_past(text, error.position()),
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

    /// A part of a text, with the lines of the whole above it.
    fn cell_text(&mut self, text: &str, part: Range<usize>, name: &str) -> Result<String, Box<Report>> {
        self.sources.insert(name, text, Edits::default());
        let lines_above = text.get(..part.start).map_or(0, |above| above.matches('\n').count());
        Ok(readable("\n".repeat(lines_above) + text.get(part).unwrap_or_default())?)
    }

    /// Parses a part of a text, with the meaning that its names have here; the cell's own text has the same lines as the
    /// whole.
    fn parse(&mut self, text: &str, part: Range<usize>, name: &str) -> Result<(AST, String), Box<Report>> {
        let cell = self.cell_text(text, part, name)?;
        let ast = self.compile(&cell, name)?;
        closed(&cell).map_err(|error| Box::new(self.report(error, name)))?;
        let edits = Edits::new(&cell, &ast, &self.scope, |name| self.is_native(name) || self.is_script_function(name));
        if edits.is_empty() {
            return Ok((ast, cell));
        }
        let edited = edits.apply(&cell);
        self.sources.insert(name, text, edits);
        let ast = self.compile(&edited, name)?;
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
        let sharing = self.shared.sharing(ast.statements());
        let statements = sharing.as_deref().unwrap_or_else(|| ast.statements());
        self.global.source = Some(name.into());
        (self.global.level, self.global.scope_level) = (0, 0);
        let (scope, mut caches) = (&mut self.scope, Caches::new());
        // Rhai offers no other call that keeps imports from one evaluation to the next.
        #[allow(deprecated)]
        let evaluate = || self.engine.eval_statements_raw(&mut self.global, &mut caches, scope, statements);
        // A panic becomes an error: the session goes on.
        let result = std::panic::catch_unwind(AssertUnwindSafe(evaluate))
            .unwrap_or_else(|panic| Err(script::raise(panicked("the evaluator", panic.as_ref()), Position::NONE)));
        self.drop_shadowed();
        if let Some(status) = self.host.take_exit() {
            return Ok(Outcome { exit: Some(status), ..Outcome::default() });
        }
        match result {
            Ok(value) => {
                let muted = outline(cell).last() == Some(scan::Kind::Semicolon);
                Ok(Outcome { value: Some(value).filter(|v| !v.is_unit()), muted, exit: None })
            }
            Err(error) => Err(Box::new(self.report(*error, name))),
        }
    }

    /// A variable declared again leaves its old value, perhaps a whole model, in Rhai's scope: it is let go here.
    fn drop_shadowed(&mut self) {
        let mut seen = BTreeSet::new();
        let newest_first: Vec<bool> = self.variables().map(|name| seen.insert(name.to_string())).collect();
        if newest_first.iter().all(|newest| *newest) {
            return;
        }
        for ((name, value, _), newest) in std::mem::take(&mut self.scope).into_iter().zip(newest_first.into_iter().rev()) {
            if newest {
                self.scope.push_dynamic(name, value);
            }
        }
    }

    /// Takes the functions of a text without running it; gives the closures that it writes.
    fn define(&mut self, text: &str, name: &str) -> Result<Vec<FnPtr>, Box<Report>> {
        let (ast, cell) = self.parse(text, 0..text.len(), name)?;
        self.admit(&ast, &cell, name);
        Ok(names::closures(&ast))
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

/// Refuses a text that ends inside a block comment, which Rhai lets pass.
fn closed(text: &str) -> Result<(), EvalAltResult> {
    let outline = outline(text);
    match outline.pieces.last() {
        Some((scan::Kind::Comment, range)) if outline.open => {
            let position = scan::position_of(text, range.start);
            Err(*script::raise(Error::input("the comment is not closed"), position))
        }
        _ => Ok(()),
    }
}

/// A position behind the last character of a text.
fn is_past(text: &str, position: Position) -> bool {
    let text = text.trim_end();
    let (lines, last) = (text.lines().count().max(1), text.lines().last().unwrap_or_default().chars().count());
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => line > lines || (line == lines && column > last),
        (Some(line), None) => line > lines,
        (None, _) => false,
    }
}

/// An error that is no script's fault, as a report without a place.
impl From<Error> for Box<Report> {
    fn from(error: Error) -> Self {
        Box::new(Report::of_error(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(Work::silent(1).unwrap(), SessionOptions::default())
    }

    fn value(session: &mut Session, text: &str) -> String {
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
    fn unfinished_text_is_told_from_wrong_text() {
        let session = session();
        for text in
            ["f(", "let x =", "1 +", "fn f() {", "if true {", "/* a", "`a", "#{a: 1,", "let x = [1,\n2,", "x.", "1 + // more"]
        {
            assert!(session.is_incomplete(text), "{text}");
        }
        for text in ["foo)", "let 5", "1", "let x = 1;", "fn f() { }", "\"open", "", "// comment", "x y"] {
            assert!(!session.is_incomplete(text), "{text}");
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
}
