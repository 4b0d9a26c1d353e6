//! `:session save` and `:session load`: a session's variables and functions in one safetensors file. Tensors are its
//! tensors, so are the numbers of long arrays and of figures, tables are Parquet in tensors of bytes, and the rest is JSON in
//! one more; models and dictionaries are loaded again by the calls that made them.

use super::commands::{existing_folder, path};
use super::{Answer, Report, Session, names, stack};
use crate::error::{Error, Result};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::render::text::counted;
use crate::script::keep::{self, Fault, Keeper, Reader, Store, bytes_tensor, tagged};
use crate::script::scan::functions;
use crate::tensor::{Bytes, Tensor};
use crate::work::Work;
use rhai::{AST, Dynamic, FnPtr};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The tensor of bytes that holds everything but the other tensors, as JSON. Earlier versions had it in the metadata, which
/// hold 100 MB at most.
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
    let work = session.work();
    let mut store = Store::new(work);
    let (mut variables, mut lost) = (serde_json::Map::new(), Vec::new());
    for (name, constant, value) in session.scope.iter_raw().filter(|(name, ..)| *name != "Out") {
        match store.whole(|store| Keeper { recipes: &session.host.recipes, store: Some(store) }.write(value)) {
            Ok(kept) => {
                let mut variable = tagged("value", kept);
                variable["constant"] = json!(constant);
                variables.insert(name.into(), variable);
            }
            Err(error) if error.is_interrupted() => return Err(error),
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
    let mut entry = tagged("variables", Json::Object(variables));
    entry["program"] = json!(env!("CARGO_PKG_VERSION"));
    entry["shared"] = Json::Array(store.shared);
    entry["imports"] = Json::Object(imports);
    entry["cells"] = Json::Array(cells);
    let mut text = Text { bytes: Vec::new(), work };
    let written = serde_json::to_writer(&mut text, &entry);
    work.check()?;
    written.map_err(|e| Error::internal(e.to_string()))?;
    let mut tensors = TensorSet::new(file);
    for (place, tensor) in store.tensors.into_iter().enumerate() {
        tensors.insert(place.to_string(), tensor);
    }
    tensors.insert(ENTRY, bytes_tensor(text.bytes)?);
    files::write_detached(file, work, move |out| safetensors::write_with_bytes_to(&tensors, out))?;
    for line in lost {
        said += &format!("\n{line}");
    }
    Ok(said)
}

/// Text whose writing ends when the user asks to stop.
struct Text<'w> {
    bytes: Vec<u8>,
    work: &'w Work,
}

impl Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Not of the kind `Interrupted`, which asks for another try.
        self.work.check().map_err(|error| std::io::Error::other(error.to_string()))?;
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
    fn read(file: &Path, work: &Work) -> Result<Self> {
        let tensors = Bytes::map(file).and_then(|bytes| safetensors::read(bytes, file))?;
        let broken = |what: &dyn std::fmt::Display| Error::format(format!("the session in it is broken: {what}")).file(file);
        let set = tensors.clone();
        let parsed = work.detached(move |_| {
            let text = set.find(ENTRY).and_then(Tensor::as_u8).or_else(|| set.metadata.get(ENTRY).map(String::as_bytes));
            Ok(text.map(serde_json::from_slice::<Json>))
        })?;
        let none = || Error::format("this file holds no session").file(file).help("`:session save FILE` writes one");
        let mut entry = parsed.ok_or_else(none)?.map_err(|e| broken(&e))?;
        let mut part = |name: &str| entry.get_mut(name).map(Json::take).ok_or_else(|| broken(&format!("it has no `{name}`")));
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
    let mut saved = Saved::read(file, session.work())?;
    let untouched = |mut report: Box<Report>| {
        report.help.push("nothing was loaded: the session is as it was".into());
        report
    };
    let cells = parse(session, &saved, file).map_err(untouched)?;
    let names = saved.cells.iter().flat_map(|(.., closures)| closures.iter().cloned());
    let closures: BTreeMap<String, FnPtr> = names.zip(cells.iter().flat_map(|(_, ast, _)| names::closures(ast))).collect();
    let reader = Reader {
        engine: &session.engine,
        work: session.work(),
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
        match keep::literal(&variable["value"], &saved.shared, &saved.tensors, &path) {
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
    use super::{ENTRY, Tensor, TensorSet, safetensors};
    use crate::figure::Figure;
    use crate::render;
    use crate::session::{Answer, SessionOptions};
    use crate::work::Work;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

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
        let scores = "let model = load_model(\"demo\"); let scores = unembed(mlp_neurons(model, 0), model, #{features: 0..2});";
        first.cell(&format!("let nested = #{{a: 1, made: [0, timestamp()]}}; let b = blob(3, 7); {scores}")).unwrap();
        let said = command(&mut first, &format!(":session save {}", file.display()));
        assert!(said.contains("`nested` is not kept: nested.made[1]: a timestamp cannot be kept"), "{said}");
        assert!(said.contains("`scores` is not kept: a TokenScores cannot be kept\n  keep its table"), "{said}");
        let mut second = session();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "b == blob(3, 7)"), "true");
    }

    #[test]
    fn figures_are_drawn_as_they_were_after_a_session_is_loaded() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let none = "0.0 / 0.0";
        let mut first = session();
        first
            .cell(&format!(
                "let kinds = [plot::histogram(#{{a: [1, 2, {none}], b: [0.1]}}, #{{bins: 7, title: \"T\", log_y: true}}), \
                 plot::violin([[\"z\", [1, 2, 3]], [\"a\", [2, 3]]]), plot::ridgeline([[\"z\", [1, 2]], [\"a\", [3, 2]]]), \
                 plot::box([1, 2, 9]), plot::ecdf([3, 1]), plot::line([1, {none}, 3], #{{x: [0.5, 1.0, {none}], legend: \"none\"}}), \
                 plot::bands([[1, 2], [3, 4, 5]], #{{x: [0.1, 7], quantiles: [0.1, 0.5]}}), plot::bar([\"p\", \"q\"], #{{s: [1, -2]}}), \
                 plot::scatter([1, 2], [3, 4], #{{color: [{none}, 2], size: 7.5, label: [\"l\", \"\"]}}), \
                 plot::heatmap(tensor([[1, 2, 3], [4, 5, {none}]]), #{{xlabels: [\"a\", \"b\", \"c\"], range: [0, 4.5]}})]; \
                 let all = plot::grid(kinds, #{{columns: 3}}); let copy = all; copy.title = \"Copy\";"
            ))
            .unwrap();
        command(&mut first, &format!(":session save {}", file.display()));
        let mut second = session();
        command(&mut second, &format!(":session load {}", file.display()));
        for name in ["all", "copy"] {
            let [before, after] = [&first, &second].map(|session| session.get::<Figure>(name).unwrap());
            let [before_svg, after_svg] = [&before, &after].map(|figure| render::svg(figure, first.work()).unwrap());
            assert_eq!(after_svg, before_svg, "{name}");
            assert_eq!(after.provenance, before.provenance);
        }
        assert_eq!(value(&mut second, "let k = kinds[0]; k.bins = 9; [k.bins, kinds[0].bins, kinds.len()]"), "[9, 7, 10]");
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
            (changed("\"call\"", "\"cull\""), "the variable `model`"),
            (changed("fn f()", "fn f)("), "the parameters of `f` are missing"),
            (changed("\"variables\"", "\"variabels\""), "it has no `variables`"),
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
        assert!(text.contains(&format!("\"{}\"", whole.display())) && text.contains("[\"demo\"]"), "{text}");
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
        for n in 4..12 {
            for dims in 1..20 {
                let mut first = session();
                let shape = format!("[{}]", vec!["1"; dims].join(", "));
                let list: Vec<String> = (0..n).map(|_| format!("zeros({shape})")).collect();
                first.cell(&format!("let x = [{}];", list.join(", "))).unwrap();
                command(&mut first, &format!(":session save {}", file.display()));
                lengths.push(std::fs::read(&file).unwrap()[..2].to_vec());
                if lengths[lengths.len() - 1] == [0x80, 2] {
                    let mut second = session();
                    command(&mut second, &format!(":session load {}", file.display()));
                    assert_eq!(value(&mut second, "x.len()"), n.to_string());
                    return;
                }
            }
        }
        panic!("{lengths:?}");
    }

    #[test]
    fn tables_and_long_arrays_are_kept_beside_the_text() {
        let place = tempfile::tempdir().unwrap();
        let (file, saved) = (place.path().join("a.session"), place.path().join("saved.rhai"));
        let mut first = session();
        for cell in [
            "let ints = arange(1000).to_array(); let floats = ints.map(|i| i * 0.5); floats[3] = 0.0 / 0.0; floats[4] = 1.0 / 0.0;",
            "let short = [1, 2.5]; let mixed = ints.map(|i| if i % 2 == 0 { i } else { i * 1.0 });",
            "let tabs = [table(#{a: [1, 2], b: [[0.5], []], c: [\"x\", \"y\"]}), table(#{n: floats})];",
            "let one = 5; let f = || one; let cells = ints.map(|i| [i, \"t\"]);",
        ] {
            first.cell(cell).unwrap();
        }
        command(&mut first, &format!(":session save {}", file.display()));
        let set = safetensors::read(std::fs::read(&file).unwrap().into(), &file).unwrap();
        // The integers, the floats and two tables; what is short or of several kinds stands in the text.
        assert_eq!(set.len(), 5);
        let asked =
            "[ints, floats.map(|v| v.to_string()), short, mixed, tabs[0].columns, tabs[0][1], tabs[1].len, f.call(), cells]";
        let right = value(&mut first, &format!("({asked}).to_string()"));
        let mut second = session();
        let said = command(&mut second, &format!(":session load {}", file.display()));
        assert!(!said.contains("not loaded"), "{said}");
        assert_eq!(value(&mut second, &format!("({asked}).to_string()")), right);
        assert_eq!(value(&mut second, "[type_of(ints[0]), type_of(floats[0])]"), "[\"i64\", \"f64\"]");
        command(&mut second, &format!(":save {}", saved.display()));
        let text = std::fs::read_to_string(&saved).unwrap();
        assert!(text.contains("].to_array();") && text.len() < 100_000, "{text}");
        let mut third = session();
        third.eval(&text, "saved.rhai").unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(value(&mut third, "[ints.len(), floats[1], tabs[0].len]"), "[1000, 0.5, 2]");
    }

    #[test]
    fn sessions_of_earlier_versions_are_loaded() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("old.session");
        let mut set = TensorSet::new(&file);
        set.insert("0", Tensor::vector(vec![1.0, 2.0]));
        let table = crate::table::Table::default().with("a", vec![1i64, 2]).unwrap().to_parquet().unwrap();
        let entry = json!({
            "program": "0.1.0",
            "variables": {
                "t": {"constant": false, "value": {"tensor": "0"}},
                "l": {"constant": true, "value": [1, {"float": "NaN"}, {"shared": 0}]},
                "tab": {"constant": false, "value": {"table": STANDARD.encode(table)}},
            },
            "shared": ["s"],
            "imports": {},
            "cells": [["In[3]", "fn f(x) { x + t.sum() }", []]],
        });
        set.metadata.insert(ENTRY.into(), entry.to_string());
        std::fs::write(&file, safetensors::write(&set).unwrap()).unwrap();
        let mut session = session();
        assert_eq!(
            command(&mut session, &format!(":session load {}", file.display())),
            "3 variables and the functions of 1 cell loaded"
        );
        assert_eq!(value(&mut session, "[f(1), l[0], l[2], tab[1].a]"), "[4.0, 1, \"s\", 2]");
    }

    #[test]
    fn what_does_not_fit_is_named_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let mut first = session();
        first.cell("let a = 3; let lost = [arange(100).to_array(), timestamp()]; let z = arange(40).to_array();").unwrap();
        let said = command(&mut first, &format!(":session save {}", file.display()));
        assert!(said.contains("`lost` is not kept: lost[1]: a timestamp"), "{said}");
        let set = safetensors::read(std::fs::read(&file).unwrap().into(), &file).unwrap();
        assert_eq!(set.len(), 2);
        let mut second = session();
        command(&mut second, &format!(":session load {}", file.display()));
        assert_eq!(value(&mut second, "[a, z[39]]"), "[3, 39]");
    }

    #[test]
    fn saving_and_loading_end_when_the_user_asks() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.session");
        let save = format!(":session save {}", file.display());
        let load = format!(":session load {}", file.display());
        let mut session = session();
        session.cell("let words = []; for i in 0..300000 { words.push(`word ${i}`); }").unwrap();
        let stopped = |session: &mut Session, line: &str| {
            let flag = session.work().cancel_flag();
            let report = std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    flag.store(true, std::sync::atomic::Ordering::Relaxed);
                });
                session.command(line)
            });
            session.work().reset_cancel();
            assert!(report.unwrap_err().is_interrupted(), "{line}");
        };
        stopped(&mut session, &save);
        assert!(!file.exists());
        command(&mut session, &save);
        let mut second = super::super::tests::session();
        stopped(&mut second, &load);
        assert_eq!(second.variables().count(), 0);
        command(&mut second, &load);
        assert_eq!(value(&mut second, "words.len()"), "300000");
    }
}
