//! What the declarations say, as help for a terminal, as the reference page, and as definitions for editors.

use crate::error::{Error, Result, nearest};
use crate::options::Key;
use crate::script::convert::{NARROW, short_type_name};
use crate::script::declare::{Entry, Form, definition_type};
use crate::script::natives::{self, Callable};
use crate::script::{Host, entries, install};
use crate::work::Work;
use rhai::Engine;
use std::collections::{BTreeMap, BTreeSet};
use unicode_width::UnicodeWidthStr;

/// Where a default or a formula comes from, as documentation marks it.
const MARKS: [(&str, &str); 5] = [
    ("[TEXT]", "the paper says so"),
    ("[CODE", "public code does so"),
    ("[3RD]", "a summary of the paper says so"),
    ("[FIELD]", "usual in the field"),
    ("[INFER]", "our own choice"),
];

/// The name under which help finds an entry: `save`, `Tensor.topk`, `plot::line`; operators and indexing as written.
pub fn name_of(entry: &Entry) -> String {
    match (entry.form, entry.params.first()) {
        (Form::Method | Form::Getter | Form::Setter, Some(receiver)) => format!("{}.{}", receiver.kind, entry.name),
        _ => entry.path(),
    }
}

/// Every entry of a name, given with or without its type.
pub fn named(name: &str) -> Vec<&'static Entry> {
    entries().iter().filter(|entry| entry.path() == name || name_of(entry) == name).collect()
}

/// Signature, documentation and options of everything of a name.
///
/// # Errors
/// Nothing has that name.
pub fn help(name: &str, width: usize) -> Result<String> {
    let found = named(name);
    if found.is_empty() {
        let mut names: Vec<String> = entries().iter().map(Entry::path).chain(entries().iter().map(name_of)).collect();
        names.sort_unstable();
        let error = Error::input(format!("there is nothing named `{name}`"));
        return Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("`:help` lists everything"),
        });
    }
    let text = found.iter().map(|entry| page(entry, width)).collect::<Vec<_>>().join("\n\n");
    let legend = legend(&text);
    Ok(if legend.is_empty() { text } else { format!("{text}\n\n{}", wrapped(&legend, width, "    ")) })
}

/// What the marks in a text mean.
fn legend(text: &str) -> String {
    let used = MARKS.iter().filter(|(mark, _)| text.contains(mark));
    used.map(|(mark, meaning)| format!("{}]: {meaning}", mark.trim_end_matches(']'))).collect::<Vec<_>>().join("; ")
}

/// Names of Rhai's and ours that stand in no list: they are for the program itself, or every value has them.
const UNLISTED: &[&str] = &["to_string", "to_debug", "debug", "caught", "copied", "tag", "set_tag", "get_fn_metadata_list"];

/// The names of everything, in lines of at most `width` columns: functions, then what the values of each type have.
pub fn index(width: usize) -> String {
    let mut groups = BTreeMap::<(usize, &str), BTreeSet<&str>>::new();
    let of_type = |kind: &'static str| match kind {
        "integer" | "number" => (3, "number"),
        _ if kind.starts_with(char::is_uppercase) => (2, kind),
        _ => (3, kind),
    };
    for entry in entries() {
        let group = match (entry.form, entry.namespace, entry.params.first()) {
            (Form::Function, Some(_), _) => (1, "plot::"),
            (Form::Method | Form::Getter | Form::Setter, _, Some(receiver)) => of_type(&receiver.kind),
            (Form::Function, ..) => (0, "functions"),
            _ => (4, "operators"),
        };
        groups.entry(group).or_default().insert(entry.name);
    }
    for function in natives::own() {
        let group = if PARTS.contains(&function.first.as_str()) { of_type(&function.first) } else { (0, "functions") };
        groups.entry(group).or_default().insert(&function.name);
    }
    let mut text = String::new();
    for ((_, title), mut names) in groups {
        names.retain(|name| !UNLISTED.contains(name));
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().collect();
            text += &format!("\n{title}\n{}", wrapped(&names.join(" "), width, "  "));
        }
    }
    text
}

/// What a type's values have, and what makes and takes them, in lines of at most `width` columns; empty if there is no such type.
pub fn members(kind: &str, width: usize) -> String {
    let takes = |entry: &&Entry| entry.params.first().is_some_and(|p| p.kind == kind);
    let of_form = |form: Form| entries().iter().filter(move |e| e.form == form);
    let rhais = natives::own().iter().filter(|f| f.first == kind).map(|f| f.name.clone());
    let lists: [(&str, Vec<String>); 4] = [
        ("properties", of_form(Form::Getter).filter(takes).map(|e| e.name.to_string()).collect()),
        ("methods", of_form(Form::Method).filter(takes).map(|e| e.name.to_string()).chain(rhais).collect()),
        (
            "given by",
            of_form(Form::Function)
                .filter(|e| e.gives() == kind && kind.starts_with(char::is_uppercase))
                .map(Entry::path)
                .collect(),
        ),
        ("taken by", of_form(Form::Function).filter(takes).map(Entry::path).collect()),
    ];
    let mut text = String::new();
    for (title, mut names) in lists {
        names.retain(|name| !UNLISTED.contains(&name.as_str()));
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            text += &format!("\n{title}:\n{}", wrapped(&names.join(" "), width, "  "));
        }
    }
    text
}

/// Types of Rhai's own whose functions form parts of the reference.
const PARTS: &[&str] = &["array", "string", "map", "char", "blob", "range", "timestamp", "function", "bool"];

fn page(entry: &Entry, width: usize) -> String {
    let mut text = format!("{}{}", hanging(&entry.signature(), width, "", "    "), documentation(entry.doc, width));
    if let Some(options) = entry.options {
        text += "\n\n    options:";
        for key in options() {
            let (default, doc) = (default_of(&key), wrapped(key.doc, width, "          "));
            let head = hanging(&format!("{} = {default} ({})", key.name, key.kind), width, "      ", "          ");
            text += &format!("\n{head}\n{doc}");
        }
    }
    text
}

/// A documentation behind a signature: paragraphs and the points of lists in lines of at most `width` columns, examples as
/// they are.
pub(super) fn documentation(doc: &str, width: usize) -> String {
    let mut text = String::new();
    let (mut code, mut begins, mut prose, mut in_list) = (false, false, String::new(), false);
    let mut paragraph = |text: &mut String, prose: &mut String| {
        let prose = std::mem::take(prose);
        let point = prose.strip_prefix(" * ");
        if !prose.is_empty() {
            *text += if point.is_some() && in_list { "\n" } else { "\n\n" };
            *text += &point.map_or_else(|| wrapped(&prose, width, "    "), |point| hanging(point, width, "    * ", "      "));
            in_list = point.is_some();
        }
    };
    for line in doc.lines().map(str::trim_end).chain([""]) {
        let plain = line.strip_prefix(' ').unwrap_or(line);
        let heading = plain.strip_prefix("# ").filter(|_| !code);
        // What an example is shows of itself.
        let plain = if heading.is_some_and(|heading| heading.starts_with("Example")) { "" } else { heading.unwrap_or(plain) };
        match (plain.starts_with("```"), code || plain.is_empty()) {
            (true, _) => (code, begins) = (!code, true),
            (false, false) => {
                if heading.is_some() || plain.starts_with("* ") {
                    paragraph(&mut text, &mut prose);
                }
                prose = format!("{prose} {plain}");
                if heading.is_some() {
                    prose.push(':');
                    paragraph(&mut text, &mut prose);
                }
            }
            (false, true) => {
                paragraph(&mut text, &mut prose);
                if code {
                    text += if std::mem::take(&mut begins) { "\n\n" } else { "\n" };
                    text += format!("      {plain}").trim_end();
                }
            }
        }
    }
    text
}

fn default_of(key: &Key) -> String {
    if key.default.is_null() { "()".into() } else { key.default.to_string() }
}

/// A paragraph in lines of at most `width` columns, the first behind `first` and the others behind the longer `rest`.
pub fn hanging(paragraph: &str, width: usize, first: &str, rest: &str) -> String {
    let lines = wrapped(paragraph, width.saturating_sub(rest.len()), "");
    format!("{first}{}", lines.replace('\n', &format!("\n{rest}")))
}

/// A paragraph in lines of at most `width` columns, each behind `indent`.
pub fn wrapped(paragraph: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if !line.is_empty() && indent.len() + line.width() + 1 + word.width() > width {
            lines.push(word.into());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

/// The whole surface as one page of Markdown: functions by topic, then each type with what its values have, then operators;
/// the names of each part come first.
pub fn reference() -> String {
    let topics: Vec<&str> = entries().iter().map(|entry| entry.topic).collect();
    let mut parts = BTreeMap::<(usize, String), Vec<&Entry>>::new();
    for entry in entries() {
        let receiver = entry.params.first().map_or("", |p| p.kind.as_str());
        let part = match entry.form {
            Form::Operator => (topics.len() + 2, "Operators".into()),
            Form::Function => match entry.namespace {
                None => {
                    (topics.iter().position(|topic| *topic == entry.topic).unwrap_or(0), format!("Functions: {}", entry.topic))
                }
                Some(space) => (topics.len(), format!("Functions: `{space}::`")),
            },
            _ => (topics.len() + 1, receiver.to_string()),
        };
        parts.entry(part).or_default().push(entry);
    }
    let mut text = format!(
        "# What scripts can call\n\nMade by `saerepl doc` (version {}) from the declarations that `?name` shows. Arguments in \
         brackets may be left out; `#{{…}}` is a map of options.\n\n{}.\n\n",
        env!("CARGO_PKG_VERSION"),
        legend(&MARKS.map(|(mark, _)| mark).concat())
    );
    for entries in parts.values_mut() {
        entries.sort_by_key(|entry| (entry.path().to_lowercase(), entry.params.len()));
    }
    for ((_, title), entries) in &parts {
        let shown = entries.iter().filter(|entry| !["to_string", "to_debug"].contains(&entry.name));
        let mut names: Vec<String> = shown.map(|entry| format!("`{}`", entry.path())).collect();
        names.dedup();
        text += &format!("* [{title}](#{}): {}\n", anchor(title), names.join(" "));
    }
    let rhais = rhais_parts();
    for (title, functions) in &rhais {
        let mut names: Vec<String> = functions.iter().map(|function| format!("`{}`", function.name)).collect();
        names.dedup();
        text += &format!("* [{title}](#{}): {}\n", anchor(title), names.join(" "));
    }
    for ((_, title), entries) in &parts {
        text += &format!("\n## {title}\n");
        for entry in entries {
            text += &section(entry);
        }
    }
    for (title, functions) in rhais {
        text += &format!("\n## {title}\n");
        for function in functions {
            let doc = function.doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
            // Headings would stand between those of the page.
            let doc: Vec<&str> = doc.filter(|line| !line.starts_with("# ")).collect();
            text += &format!("\n### `{}`\n\n{}\n", function.signature, doc.join("\n").trim());
        }
    }
    text
}

/// Rhai's own functions in parts, by the type of their first argument: numbers together, then what takes anything.
fn rhais_parts() -> Vec<(String, Vec<&'static Callable>)> {
    let of = |belongs: &dyn Fn(&str) -> bool| natives::own().iter().filter(|f| belongs(&f.first)).collect::<Vec<_>>();
    let mut parts: Vec<_> = PARTS.iter().map(|kind| (format!("Rhai's own: {kind}"), of(&|first| first == *kind))).collect();
    parts.push(("Rhai's own: numbers".into(), of(&|first| ["number", "integer"].contains(&first))));
    let other = |first: &str| !PARTS.contains(&first) && !["number", "integer"].contains(&first);
    parts.push(("Rhai's own: other functions".into(), of(&other)));
    parts.retain(|(_, functions)| !functions.is_empty());
    parts
}

/// The anchor that Markdown's renderers give to a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn section(entry: &Entry) -> String {
    let mut text = format!("\n### `{}`\n\n", entry.signature());
    for line in entry.doc.lines() {
        text += line.strip_prefix(' ').unwrap_or(line);
        text.push('\n');
    }
    if let Some(options) = entry.options {
        text += "\n| option | default | takes | |\n|---|---|---|---|\n";
        for key in options() {
            let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
            let (default, kind, doc) = (cell(&default_of(&key)), cell(&key.kind), cell(key.doc.trim()));
            text += &format!("| `{}` | `{default}` | {kind} | {doc} |\n", key.name);
        }
    }
    text
}

/// Definitions for editors that know Rhai's `.d.rhai` files.
///
/// # Errors
/// The machine cannot start a thread.
pub fn definitions() -> Result<String> {
    let mut engine = Engine::new();
    install(&mut engine, Host::new(Work::silent(1)?));
    let (mut text, mut doc) = (String::new(), String::new());
    for line in engine.definitions().include_standard_packages(true).single_file().lines() {
        if line.trim_start().starts_with("///") {
            doc += &format!("{line}\n");
            continue;
        }
        match line.trim_start().starts_with("fn ") || line.trim_start().starts_with("op ") {
            true => text.extend(definition(line).map(|line| format!("{}{line}\n\n", std::mem::take(&mut doc)))),
            false if line.is_empty() => {}
            false => text += &format!("{line}\n\n"),
        }
        doc.clear();
    }
    Ok(text)
}

/// A line of Rhai's definitions in the types that scripts meet; none if they cannot call it.
fn definition(line: &str) -> Option<String> {
    let (head, gives) = line.trim_end_matches(';').rsplit_once(" -> ").unwrap_or((line.trim_end_matches(';'), "()"));
    let (name, parameters) = head.split_once('(')?;
    let operator = name.trim_start().starts_with("op ");
    let type_of = |kind: &str| definition_type(&short_type_name(kind)).to_string();
    let parameter = |parameter: &str| match parameter.split_once(": ") {
        _ if NARROW.iter().any(|narrow| parameter.contains(narrow)) => None,
        // Without its name it stands for integers beside a function of floats.
        Some(("_", _)) => None,
        Some((name, kind)) => Some(format!("{name}: {}", type_of(kind))),
        None => Some(type_of(parameter)),
    };
    let parameters: Option<Vec<String>> =
        parameters.strip_suffix(')')?.split(", ").filter(|text| !text.is_empty()).map(parameter).collect();
    let named = operator && name.trim_start().starts_with("op print");
    let gives = if gives.is_empty() { "?".into() } else { type_of(gives) };
    parameters.filter(|_| !named).map(|parameters| format!("{name}({}) -> {gives};", parameters.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_stands_in_the_reference_with_its_options() {
        let reference = reference();
        for entry in entries() {
            assert!(reference.contains(&format!("\n### `{}`\n", entry.signature())), "{}", entry.signature());
            for key in entry.options.map(|options| options()).unwrap_or_default() {
                assert!(reference.contains(&format!("\n| `{}` | ", key.name)), "{}: {}", entry.path(), key.name);
            }
        }
    }

    #[test]
    fn definitions_parse_as_definitions() {
        let definitions = definitions().unwrap();
        assert!(definitions.starts_with("module static;"));
        assert!(
            definitions.contains("fn unembed(dict: Dictionary, model: Model, options: map) -> TokenScores;"),
            "{definitions}"
        );
        // The grammar of `.d.rhai`: comments, `module`, `fn name(a: type, …) -> type;`, `op +(type, …) -> type;`.
        let is_type = |text: &str| ["?", "()"].contains(&text) || text.chars().all(char::is_alphanumeric);
        let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
        for line in definitions.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("///")) {
            if line == "module static;" || line == "}" || (line.starts_with("module ") && line.ends_with('{')) {
                continue;
            }
            let parts = line.strip_suffix(';').and_then(|line| line.rsplit_once(") -> "));
            let Some((head, gives)) = parts else { panic!("{line}") };
            let (name, parameters) = head.split_once('(').unwrap();
            assert!(is_type(gives) && !gives.is_empty(), "{line}");
            for parameter in parameters.split(", ").filter(|parameter| !parameter.is_empty()) {
                let (named, kind) = parameter.split_once(": ").unwrap_or(("a", parameter));
                assert!(is_name(named.trim_start_matches("...")) && is_type(kind), "{line}");
            }
            let function = name.strip_prefix("fn ").map(|name| name.trim_start_matches("get ").trim_start_matches("set "));
            assert!(function.is_none_or(is_name) || name.contains("index"), "{line}");
        }
    }

    /// Names that no user should meet: types of Rust and of Rhai's inside.
    const INTERNAL: &[&str] = &[
        "NumberOrTensor",
        "ImmutableString",
        "Dynamic",
        "FnPtr",
        "EvalAltResult",
        "RhaiResult",
        "Result<",
        "Option<",
        "Vec<",
        "INT",
        "FLOAT",
        "i128",
        "usize",
        "Printed",
        "Pass",
        "Identifier",
    ];

    fn mentions(text: &str, name: &str) -> bool {
        text.match_indices(name).any(|(at, _)| {
            let whole = |c: char| c.is_alphanumeric() || c == '_';
            !text[..at].ends_with(whole) && !text[at + name.len()..].starts_with(|c: char| whole(c) && !name.ends_with('<'))
        })
    }

    #[test]
    fn signatures_and_documentation_speak_of_what_scripts_know() {
        for entry in entries() {
            let options = entry.options.map(|options| options()).unwrap_or_default();
            let kinds: String = options.iter().map(|key| format!("{} {}\n", key.kind, key.doc)).collect();
            let text = format!("{}\n{}\n{kinds}", entry.signature(), entry.doc);
            for name in INTERNAL {
                assert!(!mentions(&text, name), "{}: {name}", entry.signature());
            }
        }
    }

    /// What scripts are promised, by type; without one, functions.
    const SURFACE: &[(&str, &str)] = &[
        (
            "",
            "param out_dir save print show eprint clear_output exit seed tensor zeros ones full arange linspace eye randn rand load_npy \
             load_npz load_safetensors cat stack einsum allclose load_model generate load_sae list_saes directions mlp_neurons token_basis \
             random_directions train_sae activation_stats product_stats unembed embed semantics attention_scores attention_matrix ov_write \
             ov_scores copying head_svd composition composition_matrix validate_attention compare match_features origin_scores \
             head_attribution explain explain_head table load_table concat plot::histogram plot::violin plot::ridgeline plot::box \
             plot::ecdf plot::line plot::bands plot::bar plot::scatter plot::heatmap plot::tokens plot::grid",
        ),
        (
            "Tensor",
            "shape ndim dtype numel len T at slice index_select gather mask_select any all equal isnan isfinite nonzero unique matmul dot \
             outer reshape flatten squeeze unsqueeze transpose permute broadcast_to sum mean std variance min max argmin argmax median \
             quantile norm cumsum sort argsort topk exp log sqrt abs sign tanh sigmoid relu gelu silu softmax log_softmax clamp round \
             floor pow where skewness kurtosis histogram cosine_similarity corrcoef rank spearman svd qr eig eigh solve lstsq pinv pca \
             trace item to_array to",
        ),
        (
            "Model",
            "cfg W_E W_U W_Q W_K W_V W_O W_in W_gate W_out gain bias token token_id encode decode run b_Q b_K b_V b_O b_in b_out W_pos",
        ),
        ("ActivationCache", "logits hooks"),
        (
            "Dictionary",
            "select concat with_stats with_labels cfg hook hook_out layer d_in d_sae site activation W_enc W_dec b_enc b_dec threshold \
             density encode decode reconstruct read write signed",
        ),
        ("ProductStats", "rows cols pairs histogram"),
        ("Side", "table"),
        ("TokenScores", "table top bottom histogram"),
        ("Semantics", "mask share null_share thresholds table"),
        ("AttentionScores", "query key summary pairs histogram"),
        ("OvScores", "source target summary pairs histogram"),
        ("Table", "columns len filter sort head select with_column group_by join"),
        ("Error", "message kind line"),
    ];

    #[test]
    fn everything_that_is_promised_is_there() {
        for (kind, names) in SURFACE {
            for name in names.split_whitespace() {
                let path = if kind.is_empty() { name.to_string() } else { format!("{kind}.{name}") };
                // `t.any()` and `any(t)`, whatever the form of its declaration.
                let found = named(&path).into_iter().chain(named(name).into_iter().filter(|e| e.form == Form::Function)).next();
                let Some(entry) = found else { panic!("{path} is missing") };
                assert!(
                    entry.example().is_some_and(|example| example.contains(entry.name)),
                    "{path}: its example does not use it"
                );
            }
        }
    }

    #[test]
    fn everything_is_declared_once() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in entries() {
            // What a call is found by: a function's name, a receiver's type, the types of both sides of an operator.
            let sides = match entry.form {
                Form::Function => 0,
                Form::Operator => 2,
                _ => 1,
            };
            let kinds: Vec<&str> = entry.params.iter().take(sides).map(|param| param.kind.as_str()).collect();
            assert!(seen.insert((format!("{:?}", entry.form), entry.path(), kinds)), "{} is declared twice", entry.signature());
        }
    }

    #[test]
    fn help_is_wrapped_and_says_what_is_near() {
        let text = help("Tensor.topk", 60).unwrap();
        assert!(text.lines().all(|line| line.width() <= 60 || line.starts_with("      ")), "{text}");
        let long = help("attention_scores", 80).unwrap();
        assert!(
            long.lines().all(|line| line.width() <= 80 || line.ends_with(';')) && long.ends_with("[INFER]: our own choice"),
            "{long}"
        );
        assert!(help("unembedd", 80).unwrap_err().helps()[0].contains("`unembed`"));
        assert!(members("Tensor", 80).contains(" topk"));
        for (kind, has) in
            [("array", " push "), ("string", " split "), ("map", " keys "), ("Figure", "plot::line"), ("Table", "given by:")]
        {
            assert!(members(kind, 80).contains(has), "{kind}: {}", members(kind, 80));
        }
        assert_eq!(members("nothing", 80), "");
    }

    #[test]
    fn rhais_own_functions_stand_in_the_reference_and_the_index() {
        let (reference, index) = (reference(), index(80));
        // The names that stand below each title of the index.
        let titles = || index.lines().enumerate().filter(|(_, line)| !line.starts_with(' ') && !line.is_empty());
        let below = |title: &str| -> Vec<&str> {
            let (at, _) = titles().find(|(_, line)| *line == title).unwrap();
            index.lines().skip(at + 1).take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace).collect()
        };
        for (function, kind, name) in [
            ("\n### `push(array: array, item)`\n", "array", "push"),
            ("\n### `split(string: string, delimiter: string) -> array`\n", "string", "split"),
            ("\n### `keys(map: map) -> array`\n", "map", "keys"),
        ] {
            assert!(reference.contains(function), "{function}");
            assert!(below(kind).contains(&name), "{kind}.{name}");
        }
        assert!(
            below("functions").contains(&"unembed") && below("plot::").contains(&"line") && below("Tensor").contains(&"topk")
        );
        assert!(!reference.contains("///") && !below("Tensor").contains(&"fixed"));
        assert_eq!(reference.matches("\n# ").count(), 0);
        assert_eq!(reference.lines().filter(|line| line.starts_with("```")).count() % 2, 0);
    }
}
