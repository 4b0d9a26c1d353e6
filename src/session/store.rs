//! `:session save` and `:session load`: a session's variables and functions in one safetensors file. Tensors are its
//! tensors; the rest is text in its metadata; models and dictionaries are loaded again by the calls that made them.

use super::commands::{existing_folder, path};
use super::{Answer, Report, Session, names, stack};
use crate::error::{Error, Result};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::render::text::counted;
use crate::script::keep::{self, Fault, Keeper, Reader, Store};
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
    let file = &path(file);
    match what {
        _ if file.as_os_str().is_empty() => {}
        "save" => return stack::on_large(|| save(session, file)).map(Answer::Note).map_err(Into::into),
        "load" => return stack::on_large(|| load(session, file)).map(Answer::Note),
        _ => {}
    }
    Err(Error::input(":session needs to know what to do, and a file").help("`:session save FILE`, `:session load FILE`").into())
}

fn save(session: &Session, file: &Path) -> Result<String> {
    existing_folder(file)?;
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
    let mut said = format!("{} saved as {}", what(variables.len(), cells.len()), file.display());
    let entry = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "variables": variables,
        "shared": store.shared,
        "imports": imports,
        "cells": cells,
    });
    store.tensors.metadata.insert(ENTRY.into(), entry.to_string());
    files::write_detached(file, session.work(), move |out| safetensors::write_to(&store.tensors, out))?;
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

/// Everything is read before anything changes: a broken file leaves the session as it was. What a sound one needs and does
/// not find (a model that is gone, a module) is named, and the rest loaded.
fn load(session: &mut Session, file: &Path) -> std::result::Result<String, Box<Report>> {
    let mut saved = Saved::read(file)?;
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
        changed: RefCell::default(),
    };
    let (mut values, mut lost, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for (name, variable) in &saved.variables {
        match reader.read(&variable["value"]) {
            Ok(value) => values.push((name, variable["constant"] == true, value)),
            Err(Fault::Lost(error)) => {
                lost.push(name.clone());
                said.push(format!("`{name}` is not loaded: {error}"));
                said.extend(error.helps().iter().map(|help| format!("  {help}")));
            }
            Err(Fault::Broken(error)) => {
                return Err(untouched(error.context(format!("{}: the variable `{name}`", file.display())).into()));
            }
        }
    }
    let changed = reader.changed.take();
    said.extend(changed.iter().map(|call| format!("`{call}` gives other weights than when the session was saved")));
    let count = values.len();
    drop(reader);
    said.extend(import(session, &saved, file).map_err(untouched)?);
    let before = session.scope.len();
    for (name, ast, text) in cells {
        session.admit(&ast, &text, &name);
    }
    for (name, constant, value) in values {
        match constant {
            true => session.shared.set_constant(&mut session.scope, name, value),
            false => session.set(name, value),
        }
    }
    session.drop_shadowed(before);
    saved.variables.retain(|name, _| !lost.contains(name));
    log(session, &saved, file);
    said.insert(0, format!("{} loaded", what(count, saved.cells.len())));
    Ok(said.join("\n"))
}

/// `2 variables and the functions of 1 cell`.
fn what(variables: usize, cells: usize) -> String {
    format!("{} and the functions of {}", counted(variables, "variable"), counted(cells, "cell"))
}

/// Notes what was loaded as a script writes it: imports, variables and functions.
fn log(session: &mut Session, saved: &Saved, file: &Path) {
    let path = std::path::absolute(file).map_or_else(|_| file.display().to_string(), |path| path.display().to_string());
    let mut text = format!("// :session load {}\n", file.display());
    let imported = |name: &str| session.global.iter_imports().any(|(known, _)| known == name);
    for (name, path) in saved.imports.iter().filter(|(name, _)| imported(name)) {
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

/// Imports what the saved session had imported; gives what is said of modules that cannot be.
fn import(session: &mut Session, saved: &Saved, file: &Path) -> std::result::Result<Vec<String>, Box<Report>> {
    let (before, mut said) = (session.global.num_imports(), Vec::new());
    for (name, path) in &saved.imports {
        let (text, source) = (format!("import {path:?} as {name};"), format!("{}:import", file.display()));
        let done = session.parse(&text, &source).and_then(|(ast, text)| session.run(&ast, &text, &source));
        match done {
            Ok(_) => {}
            Err(report) if session.work().is_cancelled() => {
                session.global.truncate_imports(before);
                return Err(report);
            }
            Err(report) => said.push(format!("the import `{name}` is not loaded: {}", report.message)),
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::super::Session;
    use super::super::tests::{session, value};
    use crate::session::{Answer, SessionOptions};
    use crate::work::Work;

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
    fn a_broken_session_leaves_all_as_it_was() {
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
        std::fs::write(&file, &whole).unwrap();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "[x, f(), one::one()]"), "[7, 7, 1]");
    }

    #[test]
    fn what_is_gone_is_named_and_the_rest_loaded() {
        let place = tempfile::tempdir().unwrap();
        let (file, module) = (place.path().join("a.session"), place.path().join("module.rhai"));
        std::fs::write(&module, "fn one() { 1 }").unwrap();
        let mut first = session();
        let weights = place.path().join("own.safetensors").display().to_string();
        for cell in [
            format!(
                "import {:?} as one; let x = 7; let c = 2; fn f() {{ x }} fn g() {{ one::one() }}",
                module.with_extension("")
            ),
            "let names = #{W_enc: \"W_enc\", W_dec: \"W_dec\", b_enc: \"b_enc\", b_dec: \"b_dec\", activation: \"relu\"};".into(),
            format!("let sae = load_sae(\"{weights}\", #{{map: names}}); let within = #{{a: [sae]}}; let h = || sae.d_sae + c;"),
            "let part = sae.select(0..2); let z = 9;".into(),
        ] {
            write_weights(place.path(), 1);
            first.cell(&cell).unwrap();
        }
        command(&mut first, &format!(":session save {}", file.display()));
        let load = format!(":session load {}", file.display());
        // Other weights under the same name.
        write_weights(place.path(), 2);
        let mut second = session();
        let said = command(&mut second, &load);
        assert!(said.contains(&format!("`load_sae({weights:?})` gives other weights than when the session was saved")), "{said}");
        assert!(said.contains("`select(…)` gives other weights"), "{said}");
        assert_eq!(value(&mut second, "[h(), part.d_sae, g()]"), "[22, 2, 1]");
        write_weights(place.path(), 1);
        assert!(!command(&mut session(), &load).contains("other weights"));

        std::fs::remove_file(&module).unwrap();
        std::fs::remove_file(&weights).unwrap();
        let mut third = session();
        let said = command(&mut third, &load);
        assert!(said.starts_with("4 variables and"), "{said}");
        for part in [
            "`sae` is not loaded: ",
            "`within` is not loaded: ",
            "`h` is not loaded: ",
            "`part` is not loaded: ",
            "own.safetensors",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains("the import `one` is not loaded: ") && said.contains("module.rhai"), "{said}");
        assert_eq!(value(&mut third, "[x, f(), z, c]"), "[7, 7, 9, 2]");
        assert!(third.cell("g()").unwrap_err().to_string().contains("one"));
        // Nor does a script ask for it.
        let script = place.path().join("saved.rhai");
        command(&mut third, &format!(":save {}", script.display()));
        let script = std::fs::read_to_string(&script).unwrap();
        assert!(!script.contains("own.safetensors") && !script.contains("import"), "{script}");
    }

    /// An SAE of 20 features, whose weights depend on `seed`.
    fn write_weights(folder: &std::path::Path, seed: u64) {
        let options = SessionOptions { out_dir: folder.into(), ..SessionOptions::default() };
        let mut writer = Session::new(Work::silent(1).unwrap(), options);
        let text =
            "save(#{W_enc: randn([8, 20]), W_dec: randn([20, 8]), b_enc: zeros([20]), b_dec: zeros([8])}, \"own.safetensors\");";
        writer.cell(&format!("seed({seed}); {text}")).unwrap();
    }

    #[test]
    fn local_names_hold_in_any_folder() {
        let here = std::env::current_dir().unwrap();
        let place = tempfile::tempdir_in(&here).unwrap();
        write_weights(place.path(), 1);
        let (file, folder) = (place.path().join("a.session"), place.path().file_name().unwrap().to_string_lossy().into_owned());
        let mut first = session();
        first
            .cell("let names = #{W_enc: \"W_enc\", W_dec: \"W_dec\", b_enc: \"b_enc\", b_dec: \"b_dec\", activation: \"relu\"};")
            .unwrap();
        first
            .cell(&format!("let sae = load_sae(\"{folder}/own.safetensors\", #{{map: names}}); let m = load_model(\"demo\");"))
            .unwrap();
        command(&mut first, &format!(":session save {}", file.display()));
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let whole = here.join(&folder).join("own.safetensors");
        assert!(text.contains(&format!("\\\"{}\\\"", whole.display())) && text.contains("[\\\"demo\\\"]"), "{text}");
    }

    #[test]
    fn dictionaries_are_drawn_again_with_the_seed_that_they_were_drawn_with() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let mut first = session();
        for cell in [
            "seed(3); let d = mlp_neurons(load_model(\"demo\"), 0); let rd = random_directions(d, #{n: 8});",
            "seed(4); let again = random_directions(d, #{n: 8}); let own = random_directions(d, #{n: 8, seed: 3}); seed(5);",
            "let plain = random_directions(d).select(0..4);",
        ] {
            first.cell(cell).unwrap();
        }
        let asked = "[rd, again, own, plain].map(|d| d.W_dec[0][0])";
        let right = value(&mut first, asked);
        command(&mut first, &format!(":session save {}", file.display()));
        let mut second = session();
        let said = command(&mut second, &format!(":session load {}", file.display()));
        assert!(!said.contains('\n'), "{said}");
        assert_eq!(value(&mut second, asked), right);
    }

    #[test]
    fn trained_dictionaries_are_kept_once_they_are_saved() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let options = || SessionOptions { out_dir: place.path().join("out"), ..SessionOptions::default() };
        let mut first = Session::new(Work::silent(1).unwrap(), options());
        for cell in [
            "let small = #{d_sae: 24, k: 4, steps: 2, batch: 8, buffer: 32, context: 8, held_out: 0.3};",
            "let texts = [\"The quick brown fox jumps over the lazy dog. \", \"In the beginning there was a word, and it was long.\"];",
            "let sae = train_sae(load_model(\"demo\"), \"blocks.1.hook_resid_post\", texts, small); let part = sae.select(0..2);",
        ] {
            first.cell(cell).unwrap();
        }
        let save = format!(":session save {}", file.display());
        let said = command(&mut first, &save);
        for part in
            ["`sae` is not kept: it was trained", "`part` is not kept: it was made by `select`, and it was trained", "save(sae, "]
        {
            assert!(said.contains(part), "{said}");
        }
        first.cell("let folder = save(sae, \"sae\"); let part = sae.select(0..2);").unwrap();
        let said = command(&mut first, &save);
        assert!(!said.contains("not kept"), "{said}");
        let asked = "[sae, part].map(|d| d.W_dec[1].to_array())";
        let right = value(&mut first, asked);
        let files = || {
            std::fs::read_dir(place.path().join("out"))
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap())
        };
        let before: Vec<_> = files().collect();
        let mut second = Session::new(Work::silent(1).unwrap(), options());
        let said = command(&mut second, &format!(":session load {}", file.display()));
        assert!(!said.contains('\n'), "{said}");
        assert_eq!(value(&mut second, asked), right);
        assert_eq!(files().collect::<Vec<_>>(), before);
    }

    #[test]
    fn functions_see_the_constants_of_a_loaded_session() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("k.session");
        let mut first = session();
        first.cell("const K = 9; const L = 2; fn helper(x) { x * K }").unwrap();
        command(&mut first, &format!(":session save {}", file.display()));
        command(&mut first, ":reset");
        command(&mut first, &format!(":session load {}", file.display()));
        first.cell("fn later(x) { x + K + L } let by = |x| x - K;").unwrap();
        assert_eq!(value(&mut first, "[helper(3), later(1), by(10), K, L]"), "[27, 12, 1, 9, 2]");
        assert!(first.cell("K = 3").is_err());
    }

    #[test]
    fn a_session_whose_header_begins_like_a_pickle_is_loaded() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("p.session");
        let mut lengths = Vec::new();
        for n in (440..520).step_by(4) {
            let mut first = session();
            first.cell(&format!("let x = \"{}\";", "x".repeat(n))).unwrap();
            command(&mut first, &format!(":session save {}", file.display()));
            lengths.push(std::fs::read(&file).unwrap()[..2].to_vec());
            let mut second = session();
            command(&mut second, &format!(":session load {}", file.display()));
            assert_eq!(value(&mut second, "x.len()"), n.to_string());
        }
        assert!(lengths.contains(&vec![0x80, 2]), "{lengths:?}");
    }
}
