//! What was done in a session, as a script that runs: `:save`.
//!
//! The start-up file, scripts (`:run`) and cells stand in the order in which they ran. Of a cell that failed, the statements
//! before the fault and the functions are kept, since the session kept them too. A script's parameters stand as the values
//! that they had, its imports as paths that hold wherever the saved script lies. Of a function that was defined again only
//! the last definition is kept: one script cannot hold both. The inputs that called another one are named.

use super::modules::absolute;
use super::{Outcome, Report, Session, names};
use crate::script::param;
use crate::script::scan::{Kind, byte_of, functions, outline};
use rhai::{AST, Expr, Position, Scope, Stmt};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What was done, in its order.
#[derive(Default)]
pub(super) struct Log {
    inputs: Vec<Input>,
    /// What no script can do again, in words.
    pub(super) lost: Vec<String>,
    /// Variables that `:session load` brought and that no script can write, with how many inputs there were then.
    missing: Vec<(String, usize)>,
}

struct Input {
    /// What messages call it: `In[3]`, `:run setup.rhai`.
    name: String,
    /// The number of the cell; none for a file.
    cell: Option<usize>,
    text: String,
    /// It is one expression and has a value, which can be given a name.
    valued: bool,
}

impl Log {
    /// A cell that succeeded.
    pub(super) fn cell(&mut self, name: &str, cell: usize, text: &str, valued: bool) {
        self.inputs.push(Input { name: name.into(), cell: Some(cell), text: text.trim().into(), valued });
    }

    /// What `:session load` brought: `text` does it again but for the variables `missing`.
    pub(super) fn loaded(&mut self, text: String, missing: Vec<String>, file: &str) {
        self.inputs.push(Input { name: format!(":session load {file}"), cell: None, text, valued: false });
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
            self.lost.push(format!("{} of `:session load {file}`: no script can write what they hold", names.join(", ")));
        }
        self.missing.extend(missing.into_iter().map(|name| (name, self.inputs.len())));
    }

    /// The variables that a later input uses, or a function that was loaded, and that the script would not have.
    pub(super) fn needed(&self) -> Vec<&str> {
        let needs = |(name, loaded): &&(String, usize)| {
            let from = self.inputs.iter().skip(loaded.saturating_sub(1));
            for input in from {
                let tokens = words(&input.text);
                let Some(at) = tokens.iter().position(|word| word == name) else { continue };
                return at == 0 || !["let", "const"].contains(&tokens[at - 1]);
            }
            false
        };
        self.missing.iter().filter(needs).map(|(name, _)| name.as_str()).collect()
    }

    /// Inputs so far.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// What the script does otherwise: of each input that called another definition of a function than the last, in words.
    /// `is_native` knows the functions that are there before any is defined.
    pub(super) fn differing(&self, is_native: impl Fn(&str) -> bool) -> Vec<Option<String>> {
        let all = self.inputs.iter().zip(other_definitions(&self.inputs, is_native));
        let words = |(input, called): (&Input, BTreeSet<&str>)| {
            let names: Vec<String> = called.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let words = format!("{} called {names} as it was then; the script has the last definition only", input.name);
            Some(words).filter(|_| !called.is_empty())
        };
        all.map(words).collect()
    }

    /// The script. `ans` and `Out` are filled where some input asks for them; what [`Log::differing`] says of an input stands
    /// above it.
    pub(super) fn script(&self, differing: &[Option<String>]) -> String {
        let asked = |name: &str| self.inputs.iter().any(|input| words(&input.text).contains(&name));
        let (ans, out) = (asked("ans"), asked("Out"));
        let mut text = String::new();
        if ans || out {
            text += "let ans = ();\n";
        }
        if out {
            text += "let Out = [()];\n";
        }
        let mut next = 1;
        for (i, (input, kept)) in self.inputs.iter().zip(without_earlier_definitions(&self.inputs)).enumerate() {
            while out && input.cell.is_some_and(|cell| next < cell) {
                text += "Out.push(());\n";
                next += 1;
            }
            if let Some(Some(words)) = differing.get(i) {
                text += &format!("// {words}\n");
            }
            let valued = input.valued && (ans || out);
            if valued {
                text += "ans = ";
            }
            text += &kept;
            let outline = outline(&kept);
            text += match (outline.last(), outline.pieces.last()) {
                (Some(Kind::Semicolon) | None, _) => "\n",
                (_, Some((Kind::Comment, _))) => "\n;\n",
                _ => ";\n",
            };
            if out && input.cell.is_some() {
                text += if valued { "Out.push(ans);\n" } else { "Out.push(());\n" };
                next += 1;
            }
        }
        text
    }
}

/// The names and other words of a text.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// The texts of the inputs, each without the functions that a later one defines again.
fn without_earlier_definitions(inputs: &[Input]) -> Vec<String> {
    let mut later = BTreeSet::new();
    let mut texts: Vec<String> = Vec::new();
    for input in inputs.iter().rev() {
        let mut text = input.text.clone();
        for function in functions(&input.text).into_iter().rev() {
            if !later.insert((function.name.to_string(), function.parameters)) {
                text.replace_range(function.range, "");
            }
        }
        texts.push(text.trim().to_string());
    }
    texts.reverse();
    texts
}

/// Code as names find it: strings and comments are blanks, but for strings that hold code.
fn code(text: &str) -> String {
    let is_code = |(kind, range): &&(Kind, std::ops::Range<usize>)| match kind {
        Kind::Comment => false,
        Kind::Text => text[range.clone()].starts_with('`'),
        _ => true,
    };
    outline(text).pieces.iter().filter(is_code).map(|(_, range)| format!("{} ", &text[range.clone()])).collect()
}

/// The names that a code calls.
fn called(code: &str) -> BTreeSet<&str> {
    let parts = code.rsplit_once('(').map_or("", |(calls, _)| calls).split('(');
    parts.filter_map(|part| part.trim_end().rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()).collect()
}

/// The variables that a code declares.
fn declared(code: &str) -> impl Iterator<Item = &str> {
    let words = words(code);
    let after: Vec<&str> = words.windows(2).filter(|pair| ["let", "const"].contains(&pair[0])).map(|pair| pair[1]).collect();
    after.into_iter()
}

/// An input's code, apart from and by its functions.
struct Read<'i> {
    /// What runs.
    code: String,
    /// Functions by name and number of parameters: as they are written, and as [`code`] gives them.
    functions: BTreeMap<(&'i str, usize), (&'i str, String)>,
}

impl<'i> Read<'i> {
    fn of(text: &'i str) -> Self {
        let (mut rest, mut found) = (text.to_string(), BTreeMap::new());
        for function in functions(text).into_iter().rev() {
            let own = &text[function.range.clone()];
            rest.replace_range(function.range, "");
            found.entry((function.name, function.parameters)).or_insert((own, code(own)));
        }
        Read { code: code(&rest), functions: found }
    }
}

/// The functions that each input called, itself or through functions and closures, when they were not yet what they are in
/// the end. Names are all that is looked at: an input may be named for a call that its closure never made.
fn other_definitions(inputs: &[Input], is_native: impl Fn(&str) -> bool) -> Vec<BTreeSet<&str>> {
    let read: Vec<Read> = inputs.iter().map(|input| Read::of(&input.text)).collect();
    let mut last = BTreeMap::new();
    for input in &read {
        last.extend(input.functions.iter().map(|(key, (text, _))| (*key, *text)));
    }
    // What stands in the session when an input has been read.
    let (mut now, mut closures) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for input in &read {
        now.extend(input.functions.iter().map(|(key, definition)| (*key, definition)));
        for name in declared(&input.code) {
            closures.insert(name, if input.code.contains('|') { input.code.as_str() } else { "" });
        }
        // A function that is defined later only can have been called where there is a native one of its name.
        let is_other = |key: &(&str, usize), text: &&str| match now.get(key) {
            Some((then, _)) => then != text,
            None => is_native(key.0),
        };
        let other: BTreeSet<&str> = last.iter().filter(|(key, text)| is_other(key, text)).map(|((name, _), _)| *name).collect();
        let (mut reached, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![input.code.as_str()]);
        while let Some(code) = next.pop().filter(|_| !other.is_empty()) {
            let (called, mentioned) = (called(code), words(code));
            reached.extend(other.iter().copied().filter(|name| called.contains(name)));
            let functions = now.iter().filter(|((name, _), _)| called.contains(name)).map(|(_, (_, code))| code.as_str());
            let closures = closures.iter().filter(|(name, _)| mentioned.contains(name)).map(|(_, code)| *code);
            next.extend(functions.chain(closures).filter(|code| seen.insert(*code)));
        }
        found.push(reached);
    }
    found
}

impl Session {
    /// Notes what a cell did before it failed.
    pub(super) fn log_failure(&mut self, name: &str, cell: &str, report: &Report) {
        if let Some(done) = self.done(name, cell, report).filter(|done| !done.is_empty()) {
            self.log.cell(name, self.cells, &done, false);
        }
    }

    /// What a text did before it failed, as a text: the statements before the fault, and the functions. None where the fault
    /// has no place in it.
    fn done(&self, name: &str, text: &str, report: &Report) -> Option<String> {
        // The outermost frame lies in the text itself.
        let (source, first) = self.sources.place(name, 1);
        let frame = report.frames.last().filter(|frame| frame.source == source && frame.line >= first)?;
        let (line, column) = (u16::try_from(frame.line + 1 - first).ok()?, u16::try_from(frame.column).ok()?);
        let end = self.done_before(text, byte_of(text, Position::new(line, column))?);
        let mut done = text[..end].trim().to_string();
        for function in functions(&text[end..]) {
            done += &format!("\n{}", &text[end..][function.range]);
        }
        if !done.is_empty() {
            let message = report.message.lines().next().unwrap_or_default();
            done += &format!("\n// the rest of {name} failed: {message}");
        }
        Some(done)
    }

    /// The end of the last statement of a cell before a fault. The tree does not tell where a statement begins: `a + b` has
    /// the place of its `+`.
    fn done_before(&self, cell: &str, fault: usize) -> usize {
        let count = |text: &str| names::compile(&self.engine, &Scope::new(), text).ok().map(|ast| ast.statements().len());
        let (mut depth, mut ends, whole) = (0usize, Vec::new(), count(cell));
        for (kind, range) in outline(cell).pieces {
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if range.end <= fault && depth == 0 && (kind == Kind::Semicolon || cell[range.clone()] == *"}") {
                ends.push(range.end);
            }
        }
        let divides = |end: &usize| {
            let parts = count(&cell[..*end]).zip(count(&cell[*end..]));
            parts.map(|(before, after)| before + after) == whole
        };
        ends.into_iter().rev().find(divides).unwrap_or(0)
    }

    /// Notes a file that ran: the start-up file, or a script of `:run`.
    pub(super) fn log_file(&mut self, command: &str, file: &str, text: &str, result: &Result<Outcome, Box<Report>>) {
        let mut text = match result {
            Ok(Outcome { exit: None, .. }) => text.to_string(),
            Ok(_) => {
                self.log.lost.push(format!("what `{command}` did before its `exit`"));
                return;
            }
            Err(report) => match self.done(file, text, report) {
                Some(done) if done.is_empty() => return,
                Some(done) => done,
                None => {
                    self.log.lost.push(format!("what `{command}` did before it failed"));
                    return;
                }
            },
        };
        // It ran: this cannot fail.
        let Ok(ast) = names::compile(&self.engine, &Scope::new(), &text) else { return };
        let used = self.host.used();
        let value = |name: &str| used.iter().find(|used| used.name == name).map(|used| literal(&used.value));
        let mut edits = param::calls(&text, &ast, value);
        edits.extend(absolute_imports(&text, &ast, Path::new(file).parent().unwrap_or(Path::new(""))));
        edits.sort_by_key(|(range, _)| range.start);
        for (range, new) in edits.into_iter().rev() {
            text.replace_range(range, &new);
        }
        let text = format!("// {command}\n\n{text}");
        self.log.inputs.push(Input { name: command.into(), cell: None, text, valued: false });
    }
}

/// The paths of a file's imports, as text ranges, and what they are from any folder.
fn absolute_imports(text: &str, ast: &AST, folder: &Path) -> Vec<(std::ops::Range<usize>, String)> {
    let path = |statement: &Stmt| match statement {
        Stmt::Import(import, _) => match &import.0 {
            Expr::StringConstant(path, position) => Some((path.to_string(), *position)),
            _ => None,
        },
        _ => None,
    };
    let mut found = Vec::new();
    for (path, position) in ast.statements().iter().filter_map(path) {
        let start = byte_of(text, position);
        let written = start.and_then(|start| outline(&text[start..]).pieces.first().map(|(_, range)| start..start + range.end));
        found.extend(written.zip(absolute(folder, &path)).map(|(range, path)| (range, literal(&Json::String(path)))));
    }
    found
}

/// A parameter's value as a script writes it.
fn literal(value: &Json) -> String {
    match value {
        Json::Null => "()".into(),
        Json::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        // How a range is shown.
        Json::Object(map) if map.len() == 2 && map.contains_key("from") && map.contains_key("to") => {
            format!("({}..{})", literal(&map["from"]), literal(&map["to"]))
        }
        Json::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", Json::String(key.clone()), literal(value))).collect();
            format!("#{{{}}}", entries.join(", "))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, value};
    use super::super::{Answer, Session};
    use crate::session::SessionOptions;
    use crate::work::Work;

    /// What a new session shows of `asked` after it ran the script that `cells` were saved as.
    fn again(cells: &[&str], asked: &str) -> String {
        let mut first = session();
        for cell in cells {
            match cell.starts_with(':') {
                true => drop(first.command(cell)),
                false => drop(first.cell(cell)),
            }
        }
        let script = first.log.script(&[]);
        let mut second = session();
        second.eval(&script, "saved.rhai").unwrap_or_else(|report| panic!("{report}\n{script}"));
        value(&mut second, asked)
    }

    #[test]
    fn failed_cells_are_kept_as_far_as_they_ran() {
        assert_eq!(again(&["let a = 1; let b = a + nowhere; let c = 3;", "let d = a + 1;"], "[a, d]"), "[1, 2]");
        assert_eq!(again(&["let a = 1;\na += 2; if a > 1 { a = 7; }\nfail(a);\nfn g(x) { x + a }", "let b = g(1);"], "b"), "8");
        assert_eq!(again(&["let a = [3]; a[7]", "let a = if true { 2 } else { 1 } + nowhere;"], "a"), "[3]");
        assert_eq!(again(&["let x = 1", "foo)", "nowhere", "fn broken(", "x = 2"], "x"), "2");
        assert_eq!(
            again(&["import \"std/experiments\" as exp; exp::nothing(1)", "let i = exp::indices(1, 3, \"k\");"], "i"),
            "[1]"
        );
    }

    #[test]
    fn inputs_that_called_another_definition_are_named() {
        let differing = |cells: &[&str]| {
            let mut session = session();
            for cell in cells {
                session.cell(cell).unwrap();
            }
            let all = session.log.differing(|name| session.is_native(name));
            all.iter().flatten().map(|text| text.split(" as it was").next().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(differing(&["fn f(x) { x }", "let a = f(2);", "fn f(x) { x * 10 }", "a", "f(3)"]), ["In[2] called `f`"]);
        // Through a function, a closure and a text; what is only defined calls nothing.
        let through = [
            "fn f(x) { x } fn g(x) { f(x) + 1 }",
            "fn k(x) { g(x) }",
            "let a = k(2);",
            "let h = |x| f(x);",
            "`${g(1)}`;",
            "fn f(x) { 7 }",
            "k(1)",
        ];
        assert_eq!(differing(&through), ["In[3] called `f`", "In[4] called `f`", "In[5] called `f`"]);
        assert_eq!(differing(&["fn f(x) { x }\nlet h = |x| f(x);", "[1].map(h)", "fn f(x) { 7 }"]).len(), 2);
        // The same definition again, another number of parameters, a name in a text or a comment, another variable.
        assert!(differing(&["fn f(x) { x }", "f(1)", "fn f(x) { x }", "f(1)"]).is_empty());
        assert!(differing(&["fn f(x) { x }", "f(1)", "fn f(x, y) { x }", "f(1, 2)"]).is_empty());
        assert!(differing(&["fn f(x) { x }", "let a = \"f(2)\"; // f(2)", "fn f(x) { 7 }", "f(1)"]).is_empty());
        assert!(differing(&["let h = |x| f(x);", "fn f(x) { 7 }", "h.call(1)"]).is_empty());
        // A native function that a later one hides.
        assert_eq!(differing(&["let a = sqrt(4.0);", "fn sqrt(x) { x }", "sqrt(4.0)"]), ["In[1] called `sqrt`"]);

        let place = tempfile::tempdir().unwrap();
        let mut session = session();
        for cell in ["fn f(x) { x }", "let a = f(2);", "fn f(x) { x * 10 }", "a"] {
            session.cell(cell).unwrap();
        }
        let file = place.path().join("redef.rhai");
        let Answer::Note(said) = session.command(&format!(":save {}", file.display())).unwrap() else { panic!("no note") };
        assert!(
            said.contains("otherwise there: In[2] called `f` as it was then; the script has the last definition only"),
            "{said}"
        );
        let script = std::fs::read_to_string(&file).unwrap();
        let above = "// In[2] called `f` as it was then; the script has the last definition only\nlet a = f(2);\n";
        assert!(script.contains(above) && script.matches("as it was then").count() == 1, "{script}");
    }

    #[test]
    fn files_that_failed_are_kept_as_far_as_they_ran() {
        let place = tempfile::tempdir().unwrap();
        let (file, saved) = (place.path().join("setup.rhai"), place.path().join("saved.rhai"));
        let text = "#!/usr/bin/env saerepl\nlet p = param(\"p\", 1, \"some\");\nlet n = 3 * p; let bad = nowhere;\nlet late = 1;\n\
                    fn after(x) { x + n }";
        for run in [true, false] {
            std::fs::write(&file, text).unwrap();
            let mut first = session();
            match run {
                true => assert!(first.command(&format!(":run {} p=5", file.display())).is_err()),
                false => assert!(first.start_up(&file).is_err()),
            }
            let right = if run { "[15, 30, 17]" } else { "[3, 6, 5]" };
            first.cell("let k = n * 2; let m = after(2);").unwrap();
            let Answer::Note(said) = first.command(&format!(":save {}", saved.display())).unwrap() else { panic!("no note") };
            assert!(!said.contains("not in it"), "{said}");
            let text = std::fs::read_to_string(&saved).unwrap();
            let mut second = session();
            second.eval(&text, "saved.rhai").unwrap_or_else(|report| panic!("{report}\n{text}"));
            assert_eq!(value(&mut second, "[n, k, m]"), right, "{text}");
        }
        // What cannot be parsed did nothing.
        std::fs::write(&file, "let n = 1; if n == () { }; let b = (;").unwrap();
        let mut first = session();
        assert!(first.command(&format!(":run {}", file.display())).is_err());
        assert!(first.log.inputs.is_empty() && first.log.lost.is_empty());
    }

    #[test]
    fn functions_defined_again_and_values_of_cells_are_kept() {
        assert_eq!(
            again(&["fn f(a) { a }\nfn h() { 1 }", "let x = f(1);", "/// Twice.\nfn f(a) { 2 * a }", "x + f(4) + h()"], "f(5)"),
            "10"
        );
        assert_eq!(again(&["40 + 2", "nowhere", "ans + 1 // note", "let y = Out[1] + Out[3];"], "y"), "85");
    }

    #[test]
    fn what_a_loaded_session_brought_stands_in_what_is_saved() {
        let place = tempfile::tempdir().unwrap();
        let (file, saved) = (place.path().join("s.session"), place.path().join("saved.rhai"));
        let mut first = session();
        for cell in [
            "let x = [1, 2.5, \"a\\n\", 'c', #{\"a b\": ()}]; const K = 1..4; let t = tensor([[1, 2, 3], [4, 5, 6]]);",
            "/// Twice.\nfn twice(a) { a + a }\nfn of() { x.len() }",
            "import \"std/experiments\" as exp; let model = load_model(\"demo\"); let far = 1.0 / 0.0; let near = 7;",
            "let add = |a| a + near; let tab = table(#{s: [\"a\\\"b\", \"c\"], n: [1, 2], v: [0.5, 0.0 / 0.0], l: [[1, 2], [3]]}, [\"s\", \"v\", \"n\", \"l\"]);",
            "let large = table(#{n: arange(20000)});",
        ] {
            first.cell(cell).unwrap();
        }
        first.command(&format!(":session save {}", file.display())).unwrap();
        let mut second = session();
        second.command(&format!(":session load {}", file.display())).unwrap();
        second.cell("let y = [twice(of()), x, t.sum(), t.shape, model.cfg.n_layers, -far];").unwrap();
        second.cell("tab").unwrap();
        let asked = "[y, exp::indices(1, 3, \"k\"), near, K, tab.columns, tab.head(2)]";
        let right = value(&mut second, asked);
        let save = format!(":save {}", saved.display());
        let Answer::Note(said) = second.command(&save).unwrap() else { panic!("no note") };
        assert!(said.contains("not in it: `large`, `add` of `:session load"), "{said}");
        let text = std::fs::read_to_string(&saved).unwrap();
        let mut third = session();
        third.eval(&text, "saved.rhai").unwrap_or_else(|report| panic!("{report}\n{text}"));
        assert_eq!(value(&mut third, asked), right, "{text}");
        // A closure that an input needs cannot be written.
        second.cell("let z = add(1);").unwrap();
        let report = second.command(&save).unwrap_err();
        assert!(report.message.contains("`add`"), "{report}");
    }

    #[test]
    fn scripts_that_ran_stand_in_what_is_saved() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("scripts");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("helper.rhai"), "fn twice(x) { 2 * x }").unwrap();
        let script = "#!/usr/bin/env saerepl\nimport \"helper\" as h;\nlet n = h::twice(param(\"n\", 1, \"how many\"));\n\
                      let names = param(\"names\", [\"a\"], \"a, b\"); let r = param(\"r\", 0..3, \"range\"); fn seen() { n }";
        std::fs::write(folder.join("s.rhai"), script).unwrap();
        let file = folder.join("s.rhai");
        let run = |arguments: &str| format!(":run {} {arguments}", file.display());
        let (four, five) = (run("n=4 names=[\"x\\ty\",\"z\"] r=1..5"), run("n=5"));
        let (mut first, options) = (session(), SessionOptions::default());
        for line in [&four, "let m = n;", &five, "m + seen()"] {
            match line.starts_with(':') {
                true => assert!(matches!(first.command(line).unwrap(), Answer::Value(..))),
                false => drop(first.cell(line).unwrap()),
            }
        }
        let saved = place.path().join("saved.rhai");
        first.command(&format!(":save {}", saved.display())).unwrap();
        let text = std::fs::read_to_string(&saved).unwrap();
        let options = SessionOptions { folder: place.path().into(), ..options };
        let mut second = Session::new(Work::silent(1).unwrap(), options);
        assert!(second.declarations(&text, "saved.rhai").unwrap().is_empty());
        second.eval(&text, "saved.rhai").unwrap_or_else(|report| panic!("{report}\n{text}"));
        assert_eq!(value(&mut second, "[m, n, names, seen()]"), "[8, 10, [\"a\"], 10]", "{text}");
    }
}
