//! `:session save` and `:session load`: a session's variables and functions in one safetensors file. Tensors are its
//! tensors; the rest is text in its metadata; models and dictionaries are loaded again by the calls that made them.

use super::{Answer, Report, Session, names, stack};
use crate::error::{Error, Result, ResultExt};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::script::keep::{self, Keeper, Reader, Store};
use crate::script::scan::functions;
use crate::tensor::Bytes;
use rhai::{AST, Dynamic, FnPtr};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The metadata entry that holds everything but the tensors.
const ENTRY: &str = "saerepl.session";

/// `:session save|load FILE`.
pub(super) fn command(session: &mut Session, arguments: &str) -> std::result::Result<Answer, Box<Report>> {
    let (what, file) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    let file = Path::new(file.trim());
    match what {
        _ if file.as_os_str().is_empty() => {}
        "save" => return stack::on_large(|| save(session, file)).map(Answer::Note).map_err(Into::into),
        "load" => return stack::on_large(|| load(session, file)).map(Answer::Note),
        _ => {}
    }
    Err(Error::input(":session needs to know what to do, and a file").help("`:session save FILE`, `:session load FILE`").into())
}

fn save(session: &Session, file: &Path) -> Result<String> {
    let mut store = Store::new(file);
    let (mut variables, mut lost) = (serde_json::Map::new(), Vec::new());
    for (name, constant, value) in session.scope.iter_raw().filter(|(name, ..)| *name != "Out") {
        let mut keeper = Keeper { recipes: &session.host.recipes, store: Some(&mut store) };
        match keeper.write(value) {
            Ok(kept) => {
                variables.insert(name.into(), json!({"constant": constant, "value": kept}));
            }
            Err(error) => {
                let message = error.message();
                let place = if message.starts_with(['.', '[']) { name } else { "" };
                lost.push(format!("`{name}` is not kept: {place}{message}"));
                lost.extend(error.helps().iter().map(|help| format!("  {help}")));
            }
        }
    }
    let mut imports = serde_json::Map::new();
    for (name, _) in session.global.iter_imports() {
        match session.imports.get(name) {
            Some(path) => drop(imports.insert(name.into(), json!(path))),
            None => lost.push(format!("the import `{name}` is not kept: its path is no plain text in the cell")),
        }
    }
    let cells: Vec<Json> = session.defining.iter().map(|cell| json!([cell.name, cell.text, cell.closures])).collect();
    let mut said =
        format!("{} variables and the functions of {} cells saved as {}", variables.len(), cells.len(), file.display());
    let entry = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "variables": variables,
        "shared": store.shared,
        "imports": imports,
        "cells": cells,
    });
    store.tensors.metadata.insert(ENTRY.into(), entry.to_string());
    files::write_atomic(file, &safetensors::write(&store.tensors)?)?;
    for line in lost {
        said += &format!("\n{line}");
    }
    Ok(said)
}

/// What a file says of a session.
struct Saved {
    tensors: TensorSet,
    variables: serde_json::Map<String, Json>,
    /// Values that variables and closures share.
    shared: Vec<Json>,
    /// Paths of modules by their names.
    imports: BTreeMap<String, String>,
    /// Cells with functions: the name, the text, the names of its closures.
    cells: Vec<(String, String, Vec<String>)>,
}

impl Saved {
    fn read(file: &Path) -> Result<Self> {
        let tensors = Bytes::map(file).and_then(|bytes| safetensors::read(bytes, file))?;
        let entry = tensors
            .metadata
            .get(ENTRY)
            .ok_or_else(|| Error::format("this file holds no session").file(file).help("`:session save FILE` writes one"))?;
        let broken = |what: &dyn std::fmt::Display| Error::format(format!("the session in it is broken: {what}")).file(file);
        let entry: Json = serde_json::from_str(entry).map_err(|e| broken(&e))?;
        let part = |name: &str| entry.get(name).cloned().ok_or_else(|| broken(&format!("it has no `{name}`")));
        fn of<T: serde::de::DeserializeOwned>(json: Json) -> serde_json::Result<T> {
            serde_json::from_value(json)
        }
        Ok(Saved {
            variables: of(part("variables")?).map_err(|e| broken(&e))?,
            shared: of(part("shared")?).map_err(|e| broken(&e))?,
            imports: of(part("imports")?).map_err(|e| broken(&e))?,
            cells: of(part("cells")?).map_err(|e| broken(&e))?,
            tensors,
        })
    }

    /// A variable is a function, or holds one somewhere.
    fn is_function(&self, name: &str) -> bool {
        let value = self.variables.get(name).map(|variable| &variable["value"]);
        let place =
            value.and_then(|value| value.get("shared")).and_then(Json::as_u64).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.shared.get(place)).or(value).is_some_and(|value| value.get("function").is_some())
    }
}

/// Everything is read before anything changes: what cannot be loaded leaves the session as it was.
fn load(session: &mut Session, file: &Path) -> std::result::Result<String, Box<Report>> {
    let saved = Saved::read(file)?;
    let untouched = |mut report: Box<Report>| {
        report.help.push("nothing was loaded: the session is as it was".into());
        report
    };
    let cells = parse(session, &saved, file).map_err(untouched)?;
    let names = saved.cells.iter().flat_map(|(.., closures)| closures.iter().cloned());
    let closures: BTreeMap<String, FnPtr> = names.zip(cells.iter().flat_map(|(_, ast, _)| names::closures(ast))).collect();
    let reader = Reader {
        engine: &session.engine,
        data: &saved.tensors,
        closures: &closures,
        shared: &saved.shared,
        read: RefCell::default(),
    };
    let value = |(name, variable): (&String, &Json)| {
        let value = reader.read(&variable["value"]).context(|| format!("{}: the variable `{name}`", file.display()))?;
        Ok((name.clone(), variable["constant"] == true, value))
    };
    let values: Result<Vec<(String, bool, Dynamic)>> = saved.variables.iter().map(value).collect();
    let values = values.map_err(|error| untouched(error.into()))?;
    import(session, &saved, file).map_err(untouched)?;
    let before = session.scope.len();
    for (name, ast, text) in cells {
        session.admit(&ast, &text, &name);
    }
    for (name, constant, value) in values {
        match constant {
            true => drop(session.scope.push_constant_dynamic(name, value)),
            false => session.set(&name, value),
        }
    }
    session.drop_shadowed(before);
    log(session, &saved, file);
    Ok(format!("{} variables and the functions of {} cells loaded", saved.variables.len(), saved.cells.len()))
}

/// Notes what was loaded as a script writes it: imports, variables and functions.
fn log(session: &mut Session, saved: &Saved, file: &Path) {
    let path = std::path::absolute(file).map_or_else(|_| file.display().to_string(), |path| path.display().to_string());
    let mut text = format!("// :session load {}\n", file.display());
    for (name, path) in &saved.imports {
        text += &format!("import {} as {name};\n", Json::from(path.as_str()));
    }
    let mut missing = Vec::new();
    for (name, variable) in &saved.variables {
        let word = if variable["constant"] == true { "const" } else { "let" };
        match keep::literal(&variable["value"], &saved.shared, &path) {
            Some(value) => text += &format!("{word} {name} = {value};\n"),
            None => missing.push(name.clone()),
        }
    }
    for (_, cell, _) in &saved.cells {
        for function in functions(cell) {
            text += &format!("{}\n", &cell[function.range]);
        }
    }
    session.log.loaded(text, missing, &file.display().to_string());
}

/// The saved cells, parsed among the saved variables: they mean by `f(x)` what they did there.
fn parse(session: &mut Session, saved: &Saved, file: &Path) -> std::result::Result<Vec<(String, AST, String)>, Box<Report>> {
    let before = session.scope.len();
    for name in saved.variables.keys() {
        let stand_in = if saved.is_function(name) { FnPtr::new("f").ok() } else { None };
        session.scope.push_dynamic(name, stand_in.map_or(Dynamic::UNIT, Dynamic::from));
    }
    // A cell of this session may have the same number.
    let parsed = saved.cells.iter().map(|(name, text, _)| {
        let name = format!("{}:{name}", file.display());
        session.parse(text, &name).map(|(ast, text)| (name, ast, text))
    });
    let parsed = parsed.collect();
    session.scope.rewind(before);
    parsed
}

/// Imports what the saved session had imported, all or nothing.
fn import(session: &mut Session, saved: &Saved, file: &Path) -> std::result::Result<(), Box<Report>> {
    let before = session.global.num_imports();
    for (name, path) in &saved.imports {
        let (text, source) = (format!("import {path:?} as {name};"), format!("{}:import", file.display()));
        let done = session.parse(&text, &source).and_then(|(ast, text)| session.run(&ast, &text, &source));
        if let Err(report) = done {
            session.global.truncate_imports(before);
            return Err(report);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::super::tests::{session, value};
    use crate::session::Answer;

    fn command(session: &mut Session, line: &str) -> String {
        match session.command(line).unwrap_or_else(|report| panic!("{report}")) {
            Answer::Note(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn closures_share_their_variables_after_a_session_is_loaded() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let mut first = session();
        for cell in [
            "let x = 1; let f = |a| a + x; let g = || { x += 10; x }; let all = [f, #{g: g}];",
            "fn made() { let own = 5; || own } let h = made(); fn sees() { x }",
            "import \"std/experiments\" as exp; fn through(k) { exp::indices(1, 3, k) }",
            "let held = (); held = |v| held; let big = directions(randn([2000, 600]));",
        ] {
            first.cell(cell).unwrap();
        }
        let said = command(&mut first, &format!(":session save {}", file.display()));
        assert!(said.contains("`held` is not kept: it holds itself"), "{said}");
        assert!(said.contains("`big` is not kept: it was made by `directions`, and a Tensor [2000, 600] is too large"), "{said}");
        let mut second = session();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "[f(1), g(), x, sees(), f(1), h()]"), "[2, 11, 11, 11, 12, 5]");
        assert_eq!(
            value(&mut second, "x = 100; [f(1), all[0].call(2), all[1].g.call(), x, sees()]"),
            "[101, 102, 110, 110, 110]"
        );
        assert_eq!(value(&mut second, "exp::indices(1, 3, \"k\")"), "[1]");
    }

    #[test]
    fn an_entry_that_cannot_be_kept_is_named_and_blobs_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let mut first = session();
        first
            .cell("let nested = #{a: 1, fig: [0, plot::line(tensor([1, 2]))]}; let b = blob(3, 7); let fig = nested.fig[1];")
            .unwrap();
        let said = command(&mut first, &format!(":session save {}", file.display()));
        assert!(said.contains("`nested` is not kept: nested.fig[1]: a Figure cannot be kept"), "{said}");
        assert!(said.contains("`fig` is not kept: a Figure cannot be kept\n  keep the call that draws it"), "{said}");
        let mut second = session();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "b == blob(3, 7)"), "true");
    }

    #[test]
    fn a_session_that_cannot_be_loaded_leaves_all_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let (file, module) = (place.path().join("a.session"), place.path().join("module.rhai"));
        std::fs::write(&module, "fn one() { 1 }").unwrap();
        let mut first = session();
        first.cell(&format!("import {:?} as one; let x = 7; fn f() {{ x }}", module.with_extension(""))).unwrap();
        first.cell("let model = load_model(\"demo\"); let z = 9;").unwrap();
        command(&mut first, &format!(":session save {}", file.display()));
        let whole = std::fs::read(&file).unwrap();
        let changed = |from: &str, to: &str| {
            let at = whole.windows(from.len()).position(|part| part == from.as_bytes()).unwrap_or_else(|| panic!("{from}"));
            [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
        };
        let mut second = session();
        second.cell("let x = 1; fn f() { 2 * x }").unwrap();
        for (bytes, said) in [
            (whole[..whole.len() / 2].to_vec(), "a.session"),
            (changed("saerepl.session", "saerepl.nothing"), "a.session: this file holds no session"),
            (changed("\\\"demo\\\"", "\\\"dmoe\\\""), "the variable `model`"),
            (changed("\\\"call\\\"", "\\\"cull\\\""), "the variable `model`"),
            (changed("fn f()", "fn f)("), "the parameters of `f` are missing"),
            (changed("\\\"variables\\\"", "\\\"variabels\\\""), "it has no `variables`"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let report = second.command(&format!(":session load {}", file.display())).unwrap_err();
            assert!(report.to_string().contains(said) && report.to_string().contains("a.session"), "{said}: {report}");
            assert_eq!(value(&mut second, "[x, f()]"), "[1, 2]", "{said}");
            assert_eq!(second.variables().filter(|name| !["Out", "ans"].contains(name)).collect::<Vec<_>>(), ["x"], "{said}");
        }
        // A module that is gone.
        std::fs::write(&file, &whole).unwrap();
        std::fs::remove_file(&module).unwrap();
        let report = second.command(&format!(":session load {}", file.display())).unwrap_err();
        assert!(report.to_string().contains("module.rhai"), "{report}");
        assert_eq!(value(&mut second, "[x, f()]"), "[1, 2]");
        std::fs::write(&module, "fn one() { 1 }").unwrap();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "[x, f(), one::one()]"), "[7, 7, 1]");
    }
}
