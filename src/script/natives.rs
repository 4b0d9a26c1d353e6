//! The functions of an engine as scripts meet them, Rhai's own among them: what help, suggestions and the reference say of them.

use crate::script::convert::{NARROW, short_type_name};
use crate::script::declare::Form;
use crate::script::help::{documentation, hanging};
use crate::script::{Assigned, entries, register};
use rhai::Engine;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// A function that can be called: Rhai's own, ours, or a script's.
#[derive(Clone)]
pub struct Callable {
    /// Its name, with that of an import.
    pub name: String,
    /// `pad(array: array, len: integer, item)`.
    pub signature: String,
    /// The type of its first argument, empty if it takes any.
    pub first: String,
    /// How many arguments it takes, with the receiver.
    pub arity: RangeInclusive<usize>,
    /// Its documentation, Markdown, in the words of scripts.
    pub doc: String,
}

impl Callable {
    /// Signature and documentation, in lines of at most `width` columns.
    pub fn page(&self, width: usize) -> String {
        format!("{}{}", hanging(&self.signature, width, "", "    "), documentation(&self.doc, width))
    }
}

/// Rhai's documentation without the marks of comments, in the words of scripts.
fn plain(comments: &[impl AsRef<str>]) -> String {
    let lines = comments.iter().flat_map(|comment| comment.as_ref().lines());
    let text: Vec<&str> = lines.map(|line| line.trim_start().trim_start_matches('/')).collect();
    let words = [
        ("`Dynamic` value", "value"),
        ("`INT`", "integer"),
        ("`FLOAT`", "number"),
        ("`ImmutableString`", "string"),
        ("# No Function Parameter", "# A function without parameters"),
        ("# Function Parameters", "# Parameters of the function"),
    ];
    words.iter().fold(text.join("\n"), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// Rhai's own functions, those that no declaration of ours stands for, in the order of their names.
pub fn own() -> &'static [Callable] {
    static OWN: LazyLock<Vec<Callable>> = LazyLock::new(|| {
        let mut engine = Engine::new();
        register(&mut engine, &Assigned::default());
        let mut all = functions(&engine);
        all.retain(|function| !is_ours(function));
        all
    });
    &OWN
}

/// A declaration of ours stands for a function.
pub fn is_ours(function: &Callable) -> bool {
    let ours = |form: Form, kind: &str| form == Form::Function || kind == function.first;
    let mut named = entries().iter().filter(|e| e.name == function.name);
    named.any(|e| ours(e.form, e.params.first().map_or("", |p| p.kind.as_str())))
        || function.first.starts_with(char::is_uppercase)
}

/// Every function of an engine that a script can call by name, ours too, in the order of their names; of Rhai's not those
/// that are to go.
pub fn functions(engine: &Engine) -> Vec<Callable> {
    let is_plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let mut all = engine.collect_fn_metadata(
        None,
        |info| {
            let function = Some(info.metadata).filter(|_| info.namespace.is_empty())?;
            let parameters: Option<Vec<(&str, &str)>> = function.params_info.iter().map(|p| p.split_once(": ")).collect();
            // Without names of its parameters it stands for integers beside one of floats; of numbers scripts have two types.
            let scripts_can = |(name, kind): &(&str, &str)| *name != "_" && !NARROW.iter().any(|narrow| kind.contains(narrow));
            let parameters = parameters.filter(|all| is_plain(&function.name) && all.iter().all(scripts_can))?;
            let doc = plain(&function.comments);
            if doc.contains("is deprecated and will be removed") {
                return None;
            }
            let shown = parameters.iter().map(|(name, kind)| match short_type_name(kind).as_str() {
                "any value" => (*name).to_string(),
                kind => format!("{name}: {kind}"),
            });
            let gives = match short_type_name(&function.return_type).as_str() {
                "" | "()" => String::new(),
                gives => format!(" -> {gives}"),
            };
            let first = parameters.first().map(|(_, kind)| short_type_name(kind)).filter(|kind| kind != "any value");
            Some(Callable {
                name: function.name.to_string(),
                signature: format!("{}({}){gives}", function.name, shown.collect::<Vec<_>>().join(", ")),
                first: first.unwrap_or_default(),
                arity: function.num_params..=function.num_params,
                doc,
            })
        },
        true,
    );
    all.sort_by(|a, b| (&a.name, &a.signature).cmp(&(&b.name, &b.signature)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_rhai_speak_of_what_scripts_know() {
        for function in functions(&Engine::new()) {
            let plain = |c: char| c.is_alphanumeric() || "_(),:-> ".contains(c);
            assert!(function.signature.chars().all(plain), "{}", function.signature);
            for internal in ["Dynamic", "INT", "i64", "f64", "FnPtr", "Result", "Array", "String", "Map", "Instant"] {
                assert!(!function.signature.contains(internal), "{}", function.signature);
            }
            let page = function.page(80);
            assert!(!["`Dynamic`", "`INT`", "`FLOAT`", "ImmutableString"].iter().any(|word| page.contains(word)), "{page}");
        }
    }
}
