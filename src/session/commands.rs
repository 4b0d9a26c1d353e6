//! Lines that are not Rhai: `?name`, `:vars`, `:timeit`, `!cmd`. Each way in shows the answers in its own manner.

use super::{Outcome, Placed, Report, Session, default_out_dir, explain, script_text, store, timing};
use crate::error::{Error, Kind, nearest};
use crate::files::expand_home;
use crate::render::text::counted;
use crate::script::convert::type_name;
use crate::script::{display, help, param};
use rhai::Dynamic;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use unicode_width::UnicodeWidthStr;

/// What a line that is not Rhai comes to.
#[derive(Debug)]
pub enum Answer {
    /// It is done; nothing to show.
    Done,
    /// A line or a few.
    Note(String),
    /// A text that may be longer than the screen.
    Page(String),
    /// A value to show, under a line about how it was reached.
    Value(String, Outcome),
    /// The history's entries that hold this text.
    History(String),
    /// Clear the screen.
    Clear,
    /// Leave.
    Quit,
    /// Run a command of the system.
    Shell(String),
}

/// One command.
pub struct Command {
    /// With its colon.
    pub name: &'static str,
    /// What follows it, in words.
    pub arguments: &'static str,
    /// What it does.
    pub what: &'static str,
    run: fn(&mut Session, &str) -> Result<Answer, Box<Report>>,
}

/// Every command: help, completion and did-you-mean read this list.
pub const COMMANDS: &[Command] = &[
    Command { name: ":help", arguments: "", what: "this page", run: |session, _| Ok(Answer::Page(overview(session.width()))) },
    Command { name: ":vars", arguments: "", what: "the variables, with what they hold", run: |session, _| Ok(vars(session)) },
    Command { name: ":time", arguments: "EXPR", what: "the value, and how long it took", run: timing::time },
    Command {
        name: ":timeit",
        arguments: "EXPR",
        what: "the value, and how long it takes on average over many runs",
        run: timing::timeit,
    },
    Command { name: ":run", arguments: "FILE [key=value]", what: "run a script in this session", run: run_file },
    Command { name: ":save", arguments: "FILE.rhai", what: "write the inputs that succeeded, as a script", run: save },
    Command {
        name: ":session",
        arguments: "save|load FILE",
        what: "write or read variables and functions; models and dictionaries are loaded again",
        run: store::command,
    },
    Command {
        name: ":history",
        arguments: "[TEXT]",
        what: "earlier inputs, those that hold TEXT",
        run: |_, text| Ok(Answer::History(text.into())),
    },
    Command { name: ":clear", arguments: "", what: "clear the screen", run: |_, _| Ok(Answer::Clear) },
    Command { name: ":reset", arguments: "", what: "forget all variables and functions", run: |session, _| session.reset() },
    Command {
        name: ":cd",
        arguments: "[DIR]",
        what: "change the folder, or say which it is",
        run: |_, text| change_folder(text),
    },
    Command { name: ":quit", arguments: "", what: "leave; so does Ctrl-D", run: |_, _| Ok(Answer::Quit) },
];

/// Forms that no colon begins.
const FORMS: &[(&str, &str)] = &[
    ("?name, name?", "help on a function, method, type, variable or command"),
    ("??name", "the source of a function"),
    ("!cmd", "run a command of the system"),
    ("ans, Out[n]", "the last value, the value of cell n"),
];

/// What surprises those who come from Python.
const PYTHON: &[(&str, &str)] = &[
    ("let x = 5", "declares a variable; `x = 6` changes it"),
    ("1 / 2", "is 0: whole numbers divide as such; `1.0 / 2` is 0.5; `//` begins a comment"),
    ("|x| x + 1", "a function without a name, `fn f(x) { x + 1 }` one with a name"),
    ("let x again", "makes another `x`: closures keep the one they were made with, functions see the new one"),
    ("#{k: 10}", "a map, also of options: `unembed(sae, model, #{k: 10})`"),
    ("t[0..3], t.at([0, 1])", "parts of tensors; of arrays `list.extract(0..3)`"),
    ("()", "nothing, as None"),
];

impl Session {
    /// Whether a text is no Rhai: `:command`, `?name`, `name?`, `!cmd`. A line all of them, but for a cell that is timed.
    pub fn is_command(&self, text: &str) -> bool {
        let line = text.trim();
        if line.contains('\n') {
            return timed(line).is_some();
        }
        // `!ready`, `!is_ready(x)`, `!true` and `!(a && b)` are Rhai; `!cat file` is not, though `cat` is a function.
        let shell = |rest: &str| {
            let name = word(rest);
            let called = rest[name.len()..].starts_with('(');
            let known = ["true", "false"].contains(&name)
                || self.variables().any(|variable| variable == name)
                || called && (self.is_script_function(name) || self.is_native(name));
            !rest.starts_with('(') && !known
        };
        line.starts_with([':', '?']) || asked(line).is_some() || line.strip_prefix('!').is_some_and(shell)
    }

    /// True when `text` is the beginning of a cell, or of a command with one, that goes on.
    pub fn goes_on(&self, text: &str) -> bool {
        match timed(text.trim_start()) {
            Some(cell) => self.is_incomplete(cell),
            None => !self.is_command(text) && self.is_incomplete(text),
        }
    }

    /// As [`Session::command`], of a part of a file, from its line `line` on (from 1): reports name the file and its lines.
    ///
    /// # Errors
    /// As [`Session::command`].
    pub fn command_of(&mut self, file: &str, line: usize, text: &str) -> Result<Answer, Box<Report>> {
        self.command = Some(Placed { file: file.into(), line, text: text.trim_end().into() });
        let answer = self.command(text);
        self.command = None;
        answer
    }

    /// Does what a line that is no Rhai asks for.
    ///
    /// # Errors
    /// There is no such command or name, or what it ran failed.
    pub fn command(&mut self, line: &str) -> Result<Answer, Box<Report>> {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("??") {
            return Ok(Answer::Page(explain::source(self, name.trim())?));
        }
        if let Some(name) = line.strip_prefix('?').or_else(|| asked(line)) {
            return Ok(Answer::Page(explain::help(self, name.trim())?));
        }
        if let Some(command) = line.strip_prefix('!') {
            return Ok(Answer::Shell(command.trim().into()));
        }
        let name = line.split_whitespace().next().unwrap_or(line);
        let rest = line[name.len()..].trim();
        let name = if name == ":exit" { ":quit" } else { name };
        // A beginning that only one command has will do.
        let mut begin = COMMANDS.iter().filter(|command| command.name.starts_with(name) && name.len() > 1);
        let command =
            COMMANDS.iter().find(|command| command.name == name).or_else(|| begin.next().filter(|_| begin.next().is_none()));
        match command {
            Some(command) => (command.run)(self, rest),
            None => Err(unknown(name).into()),
        }
    }
}

/// The cell in `:time cell`.
fn timed(text: &str) -> Option<&str> {
    let (command, cell) = text.split_once(char::is_whitespace)?;
    [":time", ":timeit"].contains(&command).then_some(cell)
}

fn unknown(name: &str) -> Error {
    let begin: Vec<&str> = COMMANDS.iter().map(|command| command.name).filter(|known| known.starts_with(name)).collect();
    if name.len() > 1 && !begin.is_empty() {
        return Error::input(format!("`{name}` may be {}", begin.join(" or ")));
    }
    let error = Error::input(format!("unknown command `{name}`"));
    match nearest(name, COMMANDS.iter().map(|command| command.name)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("`:help` lists the commands"),
    }
}

/// The name in `name?`.
fn asked(line: &str) -> Option<&str> {
    let name = line.strip_suffix('?')?;
    (!name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_:.".contains(c))).then_some(name)
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(text)
}

fn overview(width: usize) -> String {
    let mut text = help::wrapped(
        "Type Rhai; a cell goes on while brackets, comments or ` strings are open, and after a \" string's line that ends with \\. Up recalls what begins like the line, Tab completes. \
         A `;` at the end mutes the value, Ctrl-C stops a cell and keeps the variables.",
        width,
        "",
    );
    text.push('\n');
    let row = |(form, what): (&str, &str)| {
        let what = help::wrapped(what, width.saturating_sub(26).max(20), "").replace('\n', &format!("\n{}", " ".repeat(26)));
        format!("\n  {form:23} {what}")
    };
    for command in COMMANDS {
        text += &row((&format!("{} {}", command.name, command.arguments), command.what));
    }
    text.extend(FORMS.iter().copied().map(row));
    text += "\n\nNot as in Python:\n";
    text.extend(PYTHON.iter().copied().map(row));
    let title = "Functions, and what the values of each type have; `?name` and `?Type.name` show more:";
    format!("{text}\n\n{}\n{}", help::wrapped(title, width, ""), help::index(width))
}

fn vars(session: &Session) -> Answer {
    let mut rows: Vec<(String, String, &Dynamic)> = Vec::new();
    for name in session.variables().filter(|name| *name != "Out") {
        let Some(value) = session.scope.get(name) else { continue };
        rows.push((name.into(), type_name(value), value));
    }
    if rows.is_empty() {
        return Answer::Note("no variables".into());
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
    let names = widest(&mut rows.iter().map(|(name, ..)| name.width()));
    let kinds = widest(&mut rows.iter().map(|(_, kind, _)| kind.width()));
    let room = session.width().saturating_sub(names + kinds + 4).max(10);
    let padded = |text: &str, width: usize| format!("{text}{}", " ".repeat(width - text.width()));
    let line = |(name, kind, value): &(String, String, &Dynamic)| {
        format!("{}  {}  {}", padded(name, names), padded(kind, kinds), display::line(&session.engine, value, room))
            .trim_end()
            .to_string()
    };
    Answer::Page(rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// The path that a command was given: without quotes around it, `~` as a shell reads it.
pub(super) fn path(argument: &str) -> PathBuf {
    expand_home(unquoted(argument.trim()))
}

fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).filter(|text| !text.contains(quote));
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

/// Commands make no folders: a name that is mistyped would become one.
pub(super) fn existing_folder(file: &Path) -> crate::Result<()> {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        Some(folder) => Err(Error::new(Kind::Io, "there is no such folder").file(folder).help("commands make no folders")),
        None => Ok(()),
    }
}

/// The words of a command: white space inside quotes and brackets divides none.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start, mut depth, mut quote) = (Vec::new(), None, 0usize, None);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && depth == 0 && quote.is_none() {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        start = start.or(Some(at));
        match (quote, c) {
            (Some(open), c) => quote = Some(open).filter(|open| *open != c),
            // Within a word it is an apostrophe.
            (None, '"' | '\'') if depth > 0 || start == Some(at) || text[..at].ends_with('=') => quote = Some(c),
            (None, '[' | '{' | '(') => depth += 1,
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// What `:run` was given. A path with spaces need not stand in quotes: words without `=` belong to it, unless the first is
/// one alone.
fn file_and_parameters(arguments: &str) -> (PathBuf, Vec<&str>) {
    let words = words(arguments);
    let count = match words.first() {
        Some(first) if !path(first).is_file() => words.iter().take_while(|word| !word.contains('=')).count().max(1),
        _ => 1,
    };
    let (file, parameters) = words.split_at(count.min(words.len()));
    match file {
        [one] => (path(one), parameters.to_vec()),
        _ => (path(&file.join(" ")), parameters.to_vec()),
    }
}

/// `:run FILE key=value …`: the script's variables and functions stay.
fn run_file(session: &mut Session, arguments: &str) -> Result<Answer, Box<Report>> {
    let (file, given) = file_and_parameters(arguments);
    if file.as_os_str().is_empty() {
        return Err(Error::input(":run needs a file").help("`:run FILE.rhai key=value`").into());
    }
    let mut parameters = BTreeMap::new();
    for word in given {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Error::input(format!(":run: \"{word}\" is no parameter"))
                .help("parameters are given as key=value")
                .into());
        };
        if parameters.insert(key.to_string(), unquoted(value).to_string()).is_some() {
            return Err(Error::input(format!(":run: the parameter `{key}` is given twice")).into());
        }
    }
    let text = script_text(&file)?;
    let file = file.display().to_string();
    let file = file.as_str();
    let declared = session.declarations(&text, file)?;
    param::check(parameters.keys().map(String::as_str), &declared).map_err(|error| error.file(file))?;
    let before = session.host.clone();
    session.change_host(|host| {
        host.parameters = Arc::new(parameters);
        host.out_dir = Arc::new(default_out_dir(Path::new(file)));
        host.script = Some(file.into());
    });
    let result = session.eval_file(&format!(":run {arguments}"), file, &text);
    session.change_host(|host| *host = before);
    result.map(|outcome| Answer::Value(String::new(), Outcome { exit: None, ..outcome }))
}

/// `:save FILE`: the inputs that succeeded, and what is not in them or comes out otherwise, said. Values of cells that later inputs ask for are named.
fn save(session: &mut Session, file: &str) -> Result<Answer, Box<Report>> {
    if file.is_empty() {
        return Err(Error::input(":save needs a file").help("`:save FILE.rhai`").into());
    }
    let mut file = path(file);
    if file.extension().is_none() {
        file.set_extension("rhai");
    }
    existing_folder(&file)?;
    let needed = session.log.needed();
    if !needed.is_empty() {
        let names: Vec<String> = needed.iter().map(|name| format!("`{name}`")).collect();
        let message = format!(":save: the script would not run without {}, which a session brought", names.join(", "));
        let help = "no script can write what they hold; make them again in a cell, or keep all with `:session save FILE`";
        return Err(Error::input(message).help(help).into());
    }
    let differing = session.log.differing(|name| session.is_native(name));
    crate::files::write_atomic(&file, session.log.script(&differing).as_bytes())?;
    let mut said = format!("{} saved as {}", counted(session.log.len(), "input"), file.display());
    for lost in &session.log.lost {
        said += &format!("\nnot in it: {lost}");
    }
    for differing in differing.iter().flatten() {
        said += &format!("\notherwise there: {differing}");
    }
    Ok(Answer::Note(said))
}

fn change_folder(folder: &str) -> Result<Answer, Box<Report>> {
    let target = path(folder);
    if !target.as_os_str().is_empty() {
        std::env::set_current_dir(&target).map_err(|e| Error::io(&e, &target))?;
    }
    let here = std::env::current_dir().map_err(|e| Error::io(&e, Path::new(".")))?;
    Ok(Answer::Note(here.display().to_string()))
}

#[cfg(test)]
mod tests {
    use crate::session::tests::{session, value};

    #[test]
    fn words_and_paths_are_read_as_a_shell_reads_them() {
        for (text, expected) in [
            ("a.rhai layers=[0, 1] s='a b'", vec!["a.rhai", "layers=[0, 1]", "s='a b'"]),
            ("\"my script.rhai\"  k=1", vec!["\"my script.rhai\"", "k=1"]),
            ("it's.rhai names=[\"x ]\", 'y'] m=#{a: 1}", vec!["it's.rhai", "names=[\"x ]\", 'y']", "m=#{a: 1}"]),
            ("  ", vec![]),
        ] {
            assert_eq!(super::words(text), expected, "{text}");
        }
        let home = std::env::home_dir().unwrap();
        for (text, expected) in [
            ("~/s.rhai", home.join("s.rhai")),
            ("'~/a b'", home.join("a b")),
            ("~", home.clone()),
            (" \"q.session\" ", "q.session".into()),
            ("a b.session", "a b.session".into()),
            ("~other/x", "~other/x".into()),
        ] {
            assert_eq!(super::path(text), expected, "{text}");
        }
    }

    #[test]
    fn scripts_run_with_spaces_in_their_paths_and_parameters() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("my script.rhai");
        std::fs::write(&file, "let l = param(\"layers\", [], \"which\"); let s = param(\"s\", \"\", \"text\");").unwrap();
        let mut session = session();
        for (quote, arguments) in
            [("\"", "layers=[0, 1] s='a b'"), ("", "s=\"a b\" layers=[0, 1]"), ("'", "layers=[0,1] s=\"a b\"")]
        {
            session.command(&format!(":run {quote}{}{quote} {arguments}", file.display())).unwrap();
            assert_eq!(value(&mut session, "[l, s]"), "[[0, 1], \"a b\"]", "{arguments}");
            session.cell("l = 0; s = 0;").unwrap();
        }
        for (arguments, message) in
            [("layers=[0] layers=[1]", ":run: the parameter `layers` is given twice"), ("s=a b", ":run: \"b\" is no parameter")]
        {
            assert_eq!(session.command(&format!(":run {} {arguments}", file.display())).unwrap_err().message, message);
        }
        let plain = place.path().join("plain.rhai");
        std::fs::write(&plain, "1").unwrap();
        let report = session.command(&format!(":run {} more", plain.display())).unwrap_err();
        assert_eq!(report.message, ":run: \"more\" is no parameter");
    }

    #[test]
    fn commands_make_no_folders() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("absent");
        for command in [":save", ":session save"] {
            let report = session().command(&format!("{command} {}", folder.join("x.rhai").display())).unwrap_err();
            assert!(report.to_string().contains("absent: there is no such folder"), "{report}");
            assert!(!folder.exists());
        }
    }

    #[test]
    fn beginnings_that_several_commands_have_are_answered_with_all_of_them() {
        let mut session = session();
        for (line, message) in [
            (":h", "`:h` may be :help or :history"),
            (":s x", "`:s` may be :save or :session"),
            (":time1", "unknown command `:time1`"),
            (":", "unknown command `:`"),
        ] {
            assert_eq!(session.command(line).unwrap_err().message, message, "{line}");
        }
        assert!(session.command(":he").is_ok());
    }
}
