//! `?name` and `??name`: what a name means in this session.

use super::language::WORDS;
use super::stdlib::FILES as STD_FILES;
use super::{COMMANDS, Session};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result, nearest};
use crate::model::Model;
use crate::render::text;
use crate::script::convert::type_name;
use crate::script::scan;
use crate::script::{display, entries, help as pages, natives};
use rhai::{Dynamic, FnAccess, Module, Position, ScriptFuncDef};
use std::ops::Range;
use std::sync::Arc;

/// Before the lines of a text about a name.
const INDENT: &str = "    ";
/// Lines of a value that are shown.
const LINES: usize = 12;

/// The page for a name: a command, a variable, a script's function, one of ours, or one of Rhai's.
pub(super) fn help(session: &Session, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::input("? needs a name").help("`?unembed`, `?Tensor.topk`; `:help` lists everything"));
    }
    let width = session.width();
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return Ok(format!("{} {}\n\n{}", command.name, command.arguments, pages::wrapped(command.what, width, INDENT)));
    }
    if let Some(word) = WORDS.iter().find(|word| word.names.contains(&name) && !session.scope.contains(name)) {
        return Ok(word.page(width));
    }
    let name = name.trim_end_matches("()").trim_matches('"');
    if let Some(page) = namespace(session, name).or_else(|| library(session, name)) {
        return Ok(page);
    }
    let mut parts = Vec::new();
    if let Some(value) = session.scope.get(name) {
        parts.push(variable(session, name, value)?);
    } else if let Some((receiver, member)) = name.rsplit_once('.') {
        let kind = session.view().at_end(receiver).map_or_else(|| receiver.to_string(), |known| known.kind());
        let own = session.native.iter().filter(|f| f.name == member && f.first == kind && !natives::is_ours(f));
        parts.extend(own.map(|f| f.page(width)));
        if parts.is_empty() {
            return pages::help(&format!("{kind}.{member}"), width);
        }
        return Ok(parts.join("\n\n"));
    }
    parts.extend(functions(session, name).iter().map(|(source, function)| {
        let comments: Vec<&str> = function.comments.iter().map(|comment| comment.as_str()).collect();
        let shown = signature(&function.name, function.params.iter().map(|p| p.as_str()));
        format!("{}\n    defined in {source}; `??{name}` shows it", page(&shown, &comments, width))
    }));
    if entries().iter().any(|entry| entry.path() == name || pages::name_of(entry) == name) {
        parts.push(pages::help(name, width)?);
    }
    let members = pages::members(name, width);
    if !members.is_empty() {
        parts.push(format!("{name}\n{members}"));
    }
    if parts.is_empty() {
        parts.extend(session.native.iter().filter(|f| f.name == name).map(|f| f.page(width)));
    }
    if parts.is_empty() {
        parts.extend(STD_FILES.iter().filter_map(|(file, text)| {
            let ast = session.engine.compile(text).ok()?;
            let function = ast.iter_functions().find(|f| f.name == name && f.access == FnAccess::Public)?;
            let shown = signature(function.name, function.params.iter().copied());
            let comments: Vec<&str> = function.comments.clone();
            let short = &file[..3];
            let after = format!("defined in std/{file}; after `import \"std/{file}\" as {short};` it is `{short}::{name}`");
            Some(format!("{}\n{}", page(&shown, &comments, width), pages::wrapped(&after, width, INDENT)))
        }));
    }
    if parts.is_empty() {
        return pages::help(name, width).map_err(|error| {
            near(session, name).map_or(error, |near| {
                Error::input(format!("there is nothing named `{name}`")).help(format!("did you mean `{near}`?"))
            })
        });
    }
    Ok(parts.join("\n\n"))
}

/// Signature and comments of a script's function.
fn page(signature: &str, comments: &[&str], width: usize) -> String {
    let text = comments.join("\n");
    let doc: String = text.lines().map(|line| format!("    {}\n", line.trim_start().trim_start_matches('/').trim())).collect();
    broken(&format!("fn {signature}\n\n{}", doc.trim_end()), width)
}

/// A text whose long lines go on below, each as far in as it begins.
fn broken(text: &str, width: usize) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let room = width.saturating_sub(indent.len()).max(20);
        format!("{indent}{}", text::wrapped(line.trim_start(), room).replace('\n', &format!("\n{indent}")))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What a namespace has: ours (`plot`), or that of an import.
fn namespace(session: &Session, name: &str) -> Option<String> {
    let ours = entries().iter().filter(|entry| entry.namespace == Some(name));
    let mut lines: Vec<String> = ours.map(|entry| format!("{}\n    {}", entry.signature(), summary(entry.doc))).collect();
    if let Some((_, module)) = session.global.iter_imports().find(|(import, _)| *import == name) {
        let public = module
            .iter_script_fn_info()
            .filter(|(_, access, function, ..)| *access == FnAccess::Public && !function.contains('$'));
        lines.extend(public.map(|(.., function)| {
            let comments: Vec<&str> = function.comments.iter().map(|comment| comment.as_str()).collect();
            line(&format!("{name}::{}", function.name), function.params.iter().map(|p| p.as_str()), &comments)
        }));
    }
    lines.sort();
    (!lines.is_empty()).then(|| broken(&format!("{name}:: has\n\n{}", lines.join("\n")), session.width()))
}

/// What a file of the library has: `std/experiments`.
fn library(session: &Session, name: &str) -> Option<String> {
    let (file, text) = STD_FILES.iter().find(|(file, _)| name.strip_prefix("std/") == Some(*file))?;
    let ast = session.engine.compile(text).ok()?;
    let public = ast.iter_functions().filter(|function| function.access == FnAccess::Public && !function.name.contains('$'));
    let mut lines: Vec<String> = public.map(|f| line(f.name, f.params.iter().copied(), &f.comments)).collect();
    lines.sort();
    Some(broken(&format!("import \"std/{file}\" as {};\n\n{}", &file[..3], lines.join("\n")), session.width()))
}

/// A function's signature over the first sentence of its comments.
fn line<'a>(name: &str, parameters: impl Iterator<Item = &'a str>, comments: &[&str]) -> String {
    let text: Vec<&str> = comments.iter().flat_map(|c| c.lines()).map(|l| l.trim_start().trim_start_matches('/')).collect();
    format!("{}\n    {}", signature(name, parameters), summary(&text.join("\n")))
}

/// The first sentence of a documentation.
fn summary(doc: &str) -> String {
    let text: String = doc.lines().map(str::trim).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    text.split_once(". ").map_or(text.clone(), |(first, _)| format!("{first}."))
}

/// A variable or function of the session whose name is near.
fn near(session: &Session, name: &str) -> Option<String> {
    let functions = session.global.lib.iter().flat_map(|module| module.iter_script_fn_info().map(|(_, _, name, ..)| name));
    nearest(name, session.variables().chain(functions)).map(String::from)
}

fn variable(session: &Session, name: &str, value: &Dynamic) -> Result<String> {
    let kind = type_name(value);
    let facts = match (value.read_lock::<Model>(), value.read_lock::<Dictionary>()) {
        (Some(model), _) => Some(model.describe()),
        (_, Some(dictionary)) => Some(dictionary.describe(session.work())?),
        _ => None,
    };
    let closure = session.closure(name).zip(session.held(name));
    let closure = closure.map(|(signature, (cell, _))| format!("{signature}\ndefined in {cell}; `??{name}` shows it"));
    let shown = facts.map(|facts| text::facts(&facts)).or(closure).unwrap_or_else(|| {
        let shown = display::display(&session.engine, value, session.width().saturating_sub(INDENT.len()));
        let more = if shown.lines().count() > LINES { vec!["…"] } else { Vec::new() };
        shown.lines().take(LINES).chain(more).collect::<Vec<_>>().join("\n")
    });
    let shown = broken(&format!("    {}", shown.replace('\n', "\n    ")), session.width());
    Ok(format!("{name}: {kind}\n\n{shown}\n{}", pages::members(&kind, session.width())).trim_end().to_string())
}

/// The functions of a name that cells defined or imported (`exp::indices`), the newest first, with their sources.
fn functions(session: &Session, name: &str) -> Vec<(String, Arc<ScriptFuncDef>)> {
    let mut found: Vec<(String, Arc<ScriptFuncDef>)> = Vec::new();
    let mut note = |module: &Module, name: &str| {
        for (.., function) in module.iter_script_fn_info().filter(|(_, _, known, ..)| *known == name) {
            if !found.iter().any(|(_, known)| known.params.len() == function.params.len()) {
                found.push((module.id().unwrap_or_default().into(), Arc::clone(function)));
            }
        }
    };
    session.global.lib.iter().rev().for_each(|module| note(module, name));
    if let Some((space, name)) = name.split_once("::") {
        session.global.iter_imports().filter(|(import, _)| *import == space).for_each(|(_, module)| note(module, name));
    }
    found
}

fn signature<'a>(name: &str, parameters: impl Iterator<Item = &'a str>) -> String {
    format!("{name}({})", parameters.collect::<Vec<_>>().join(", "))
}

/// The text of a script's function.
pub(super) fn source(session: &Session, name: &str) -> Result<String> {
    let name = name.trim_end_matches("()");
    let texts: Vec<String> = functions(session, name)
        .iter()
        .filter_map(|(source, _)| {
            let text = session.sources.get(source)?.text;
            let name = name.rsplit("::").next().unwrap_or(name);
            let function = scan::functions(&text).into_iter().find(|function| function.name == name)?;
            Some(format!("// {source}\n{}", &text[function.range]))
        })
        .collect();
    if !texts.is_empty() {
        return Ok(texts.join("\n\n"));
    }
    if let Some(text) = closure_source(session, name) {
        return Ok(text);
    }
    // What has no source in Rhai is explained.
    help(session, name).map(|page| format!("// `{name}` is not written in Rhai\n\n{page}"))
}

/// The statement that wrote the closure which a variable holds, or the function in which it was written.
fn closure_source(session: &Session, name: &str) -> Option<String> {
    let (cell, function) = session.held(name)?;
    let source = session.sources.get(cell)?;
    let (text, position) = (&source.text, function.body.start_position());
    let column = source.edits.written(position.line()?, position.position()?);
    let inside = scan::byte_of(text, Position::new(u16::try_from(position.line()?).ok()?, u16::try_from(column).ok()?))?;
    let functions: Vec<Range<usize>> = scan::functions(text).into_iter().map(|function| function.range).collect();
    let whole = functions.iter().find(|range| range.contains(&inside)).cloned().unwrap_or_else(|| {
        let (mut start, mut end, mut depth) = (0, text.len(), 0usize);
        for (kind, range) in scan::outline(text).pieces {
            match kind {
                scan::Kind::Open => depth += 1,
                scan::Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            let ends = kind == scan::Kind::Semicolon && depth == 0;
            if ends && range.start >= inside {
                end = range.end;
                break;
            }
            if ends || functions.iter().any(|function| function.end == range.end) {
                start = range.end;
            }
        }
        start..end
    });
    Some(format!("// {cell}\n{}", text[whole].trim()))
}

#[cfg(test)]
mod tests {
    use crate::session::{Answer, Session, SessionOptions};
    use crate::work::Work;

    #[test]
    fn closures_have_parameters_and_a_source() {
        let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        let first = "let n = 2; fn maker(by) {\n  |v| v * by\n} let f = |x| x * n; /* why */ let h = |x| { let y = 0; x / y };\nlet made = maker(3);";
        session.cell(first).unwrap();
        session.cell("let both = [f, |a, b| f(a) + b];\nlet add = both[1]").unwrap();
        for (asked, seen) in [
            ("?h", "h(x)\n    defined in In[1]; `??h` shows it"),
            ("?add", "add(a, b)"),
            ("??h", "// In[1]\n/* why */ let h = |x| { let y = 0; x / y };"),
            ("??f", "// In[1]\nlet f = |x| x * n;"),
            ("??made", "// In[1]\nfn maker(by) {\n  |v| v * by\n}"),
            ("??add", "// In[2]\nlet both = [f, |a, b| f(a) + b];"),
            ("??n", "// `n` is not written in Rhai"),
        ] {
            match session.command(asked) {
                Ok(Answer::Page(page)) if asked.starts_with("??") && asked != "??n" => assert_eq!(page, seen, "{asked}"),
                Ok(Answer::Page(page)) => assert!(page.contains(seen), "{asked}: {page}"),
                other => panic!("{asked}: {other:?}"),
            }
        }
    }

    #[test]
    fn keywords_namespaces_and_the_library_have_pages() {
        let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        session
            .eval("import \"std/experiments\" as exp; let plotted = 1; let xs = [#{a: 1}]; let t = table(#{a: [1]});", "In[1]")
            .unwrap();
        for (asked, seen) in [
            ("?let", "Declares a variable."),
            ("?catch", "goes on after one"),
            ("?ans", "the value of the last cell"),
            ("?plot", "plot::histogram(data: "),
            ("?exp", "exp::indices("),
            ("?exp::indices", "fn indices("),
            ("??exp::indices", "<std>/experiments.rhai"),
            ("?std/experiments", "import \"std/experiments\" as exp;"),
            ("?plotted", "plotted: integer"),
            ("?xs", "  all append chop"),
            ("?xs.sort", "sort(array: array)"),
            ("xs.push?", "push(array: array, item)"),
            ("?xs[0].keys", "keys(map: map) -> array"),
            ("?map.keys", "keys(map: map) -> array"),
            ("?t.sort", "Table.sort(column: string"),
            ("?string", " split "),
            ("?Figure", "plot::line"),
            ("?split", "\n\n      let "),
            ("?split", ".\n\n    * If `index` < 0, position counts"),
            ("?split", "element).\n    * If `index` is zero"),
            ("?array.filter", "    Parameters of the function:\n\n    * `element`"),
        ] {
            match session.command(asked) {
                Ok(Answer::Page(page)) => assert!(page.contains(seen) && !page.contains("```"), "{asked}: {page}"),
                other => panic!("{asked}: {other:?}"),
            }
        }
        // What is not imported yet is found in the library.
        let mut fresh = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
        match fresh.command("?indices") {
            Ok(Answer::Page(page)) => assert!(page.contains("import \"std/experiments\" as exp;"), "{page}"),
            other => panic!("{other:?}"),
        }
    }
}
