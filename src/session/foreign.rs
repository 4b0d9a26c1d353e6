//! What is written here for what other languages write, Python first: one hint for each habit.

use crate::error::nearest;
use crate::script::declare::Form;
use crate::script::entries;
use rhai::{LexError, ParseErrorType};

/// Words of other languages.
const WORDS: &[(&str, &str)] = &[
    ("True", "for `True` write `true`"),
    ("False", "for `False` write `false`"),
    ("None", "for `None` write `()`"),
    ("null", "for `null` write `()`"),
    ("and", "for `and` write `a && b`"),
    ("or", "for `or` write `a || b`"),
    ("not", "for `not` write `!a`"),
    ("is", "for `is` write `a == b`; `x == ()` asks for nothing"),
    ("elif", "for `elif` write `else if`"),
    ("def", "for `def` write `fn name(x) { x + 1 }`"),
    ("function", "for `function` write `fn name(x) { x + 1 }`"),
    ("lambda", "for `lambda` write `|x| x + 1`"),
    ("from", "`import \"std/experiments\" as exp;` imports a file, whose functions are `exp::name()`"),
    ("del", "variables need not be deleted; `m.remove(\"key\")` and `list.remove(0)` take an entry away"),
    ("except", "for `except` write `try { … } catch (e) { print(e.message) }`"),
    ("raise", "for `raise` write `throw \"message\"`"),
    ("pass", "an empty block is `{ }`"),
    ("with", "nothing need be opened or closed: a block is `{ … }`"),
    ("class", "there are no classes: a map `#{ name: value }` holds values together"),
    ("quit", "`:quit` or Ctrl-D leaves"),
];

/// Names that scripts of other languages give to what is built in here, and those that examples give.
const NAMES: &[(&str, &str)] = &[
    ("np", TENSORS),
    ("numpy", TENSORS),
    ("torch", TENSORS),
    ("pd", "tables are built in: `table(#{ feature: [0, 1] })`, `load_table(\"x.csv\")`"),
    ("pandas", "tables are built in: `table(#{ feature: [0, 1] })`, `load_table(\"x.csv\")`"),
    ("plt", "figures are built in: `plot::line(y, #{ title: \"…\" })`, `plot::histogram(t)`"),
    ("matplotlib", "figures are built in: `plot::line(y, #{ title: \"…\" })`, `plot::histogram(t)`"),
    ("transformer_lens", "models are built in: `load_model(\"demo\")`, `load_model(\"org/name\")`"),
    ("sae_lens", "SAEs are built in: `load_sae(\"demo\", \"blocks.2.hook_resid_post\")`"),
    ("SAE", "SAEs are built in: `load_sae(\"demo\", \"blocks.2.hook_resid_post\")`"),
    ("HookedTransformer", "models are built in: `load_model(\"demo\")`, `load_model(\"org/name\")`"),
    ("math", "functions of numbers are built in: `sqrt(2)`, `exp(1)`, `ln(x)`, `PI()`"),
    ("help", "`?name` shows help, `:help` what there is"),
    ("model", "load one first: `let model = load_model(\"demo\");`"),
    ("sae", "load one first: `let sae = load_sae(\"demo\", \"blocks.2.hook_resid_post\");`"),
];

const TENSORS: &str = "tensors are built in: `tensor([1, 2])`, `zeros([2, 3])`, `randn([4])`; `?Tensor` lists their methods";

/// Functions of other languages.
const FUNCTIONS: &[(&str, &str)] = &[
    ("type", "`type_of(x)` names a type, `?x` shows what a variable holds"),
    ("dir", "`?x` shows what a variable holds and what it can do"),
    ("help", "`?name` shows help, `:help` what there is"),
    ("vars", "`:vars` lists the variables"),
    ("quit", "`:quit` or Ctrl-D leaves"),
    ("str", "`x.to_string()`, or text in backquotes with `${x}` in it"),
    ("repr", "`x.to_debug()`"),
    ("int", "`parse_int(\"3\")` reads text, `to_int(x)` cuts a number"),
    ("float", "`to_float(3)`; `parse_float(\"0.5\")` reads text"),
    ("bool", "a comparison gives true or false: `x != 0`"),
    ("list", "an array is `[1, 2]`; `t.to_array()` makes one of a tensor"),
    ("tuple", "an array is `[1, 2]`"),
    ("set", "an array is `[1, 2]`, `list.dedup()` and `t.unique()` leave one of each"),
    ("dict", "a map is `#{ key: value }`"),
    ("range", "`0..n` counts from 0 to n - 1, `range(a, b, step)` in steps"),
    ("enumerate", "`for (x, i) in list { … }` counts too"),
    ("zip", "`for (x, i) in a { let y = b[i]; … }`"),
    ("sorted", "`list.sort()` sorts a variable, `tensor(list).sort()` gives sorted values"),
    ("reversed", "`list.reverse()` turns a variable round"),
    ("map", "`list.map(|x| x + 1)`"),
    ("filter", "`list.filter(|x| x > 1)`"),
    ("isinstance", "`type_of(x) == \"array\"`"),
    ("hasattr", "`\"key\" in map`"),
    ("getattr", "`map[\"key\"]`"),
    ("open", "`load_table`, `load_npy`, `load_safetensors` read files, `save(value, \"name.csv\")` writes them"),
    ("printf", "`print(x)`, with text in backquotes: `${x}` in it is the value"),
    ("println", "`print(x)` prints a line"),
    ("input", "a script's parameters are `param(\"name\", default, \"what it is\")`"),
];

/// Methods of other languages, with the type of the receiver.
const METHODS: &[(&str, &str, &str)] = &[
    ("string", "length", "did you mean `len()`?"),
    ("array", "length", "did you mean `len()`?"),
    ("map", "length", "did you mean `len()`?"),
    ("Table", "length", "did you mean `len`?"),
    ("string", "upper", "`text.to_upper()`"),
    ("string", "lower", "`text.to_lower()`"),
    ("string", "strip", "`text.trim()` changes a variable"),
    ("string", "startswith", "`text.starts_with(\"a\")`"),
    ("string", "endswith", "`text.ends_with(\"a\")`"),
    ("string", "find", "`text.index_of(\"a\")`"),
    ("string", "format", "text in backquotes takes values: `${x}` in it"),
    ("string", "map", "`text.to_chars().map(|c| …)`, `text.split(\" \").map(|word| …)`"),
    ("string", "join", "`list.join(\", \")`"),
    ("array", "append", "`list.push(x)` adds one element, `list.append(other)` those of another array"),
    ("array", "index", "`list.index_of(x)`"),
    ("array", "count", "`list.filter(|x| x == 1).len()`"),
    ("array", "copy", "arrays are values: `let b = a` is a copy"),
    ("array", "shape", "`tensor(list).shape`; an array has `list.len()`"),
    ("map", "items", "`for key in map.keys() { map[key] }`"),
    ("map", "has_key", "`\"key\" in map`"),
    ("map", "update", "`map += #{ key: value }`"),
    ("map", "copy", "maps are values: `let b = a` is a copy"),
    ("map", "pop", "`map.remove(\"key\")`"),
    ("Tensor", "numpy", "`t.to_array()`; `save(t, \"name.npy\")` writes a file for NumPy"),
    ("Tensor", "tolist", "`t.to_array()`"),
    ("Tensor", "view", "`t.reshape([2, 3])`"),
    ("Tensor", "size", "`t.shape`, `t.numel`"),
    ("Tensor", "dim", "`t.ndim`"),
    ("Tensor", "mm", "`a @ b`"),
    ("Tensor", "bmm", "`einsum(\"bij,bjk->bik\", a, b)`"),
    ("Tensor", "t", "`t.T`"),
    ("Tensor", "var", "`t.variance()`"),
    ("Tensor", "astype", "`t.to(\"f32\")`"),
    ("Tensor", "float", "`t.to(\"f32\")`"),
    ("Tensor", "double", "`t.to(\"f64\")`"),
    ("Tensor", "long", "`t.to(\"i64\")`"),
    ("Tensor", "int", "`t.to(\"i64\")`"),
    ("Tensor", "values", "`t.max(0)` gives the values, `t.argmax(0)` where they are; `t.topk(k)` both"),
    ("Tensor", "indices", "`t.max(0)` gives the values, `t.argmax(0)` where they are; `t.topk(k)` both"),
    ("Tensor", "cpu", "tensors lie in CPU memory: nothing need be done"),
    ("Tensor", "cuda", "tensors lie in CPU memory: nothing need be done"),
    ("Tensor", "detach", "tensors carry no gradients: nothing need be done"),
    ("Tensor", "clone", "tensors are values: `let b = a` is a copy"),
    ("Tensor", "copy", "tensors are values: `let b = a` is a copy"),
    ("Tensor", "map", "operators and methods take every element: `t * 2`, `t.exp()`; `t.to_array().map(|x| …)` gives an array"),
    ("Tensor", "filter", "`t.mask_select(t > 0)`"),
    ("Tensor", "plot", "`plot::line(t)`, `plot::histogram(t)`"),
    ("Tensor", "hist", "`t.histogram(20)`, `plot::histogram(t)`"),
    ("Table", "iloc", "`t[0]` is a row, `t.head(5)` the first ones"),
    ("Table", "loc", "`t.filter(|row| row.feature == 7)`"),
    ("Table", "query", "`t.filter(|row| row.mean > 0.5)`"),
    ("Table", "sort_values", "`t.sort(\"mean\", \"desc\")`"),
    ("Table", "sort_by", "`t.sort(\"mean\", \"desc\")`"),
    ("Table", "nlargest", "`t.sort(\"mean\", \"desc\").head(10)`"),
    ("Table", "nsmallest", "`t.sort(\"mean\").head(10)`"),
    ("Table", "groupby", "`t.group_by(\"layer\", #{ mean: \"mean\" })`"),
    ("Table", "merge", "`t.join(other, \"feature\")`"),
    ("Table", "assign", "`t.with_column(\"name\", values)`"),
    ("Table", "shape", "`t.len` rows, `t.columns.len()` columns"),
    ("Table", "to_csv", "`save(t, \"name.csv\")`"),
    ("Table", "to_json", "`save(t, \"name.json\")`"),
    ("Table", "to_parquet", "`save(t, \"name.parquet\")`"),
    ("Table", "values", "`t[\"mean\"]` is a column"),
    ("Table", "describe", "`t[\"mean\"].mean()`, `.std()`, `.quantile(0.75)`"),
    ("Table", "map", "`for row in t { … }`; a column is a tensor, `t[\"mean\"] * 2`"),
    ("Table", "apply", "`for row in t { … }`; a column is a tensor, `t[\"mean\"] * 2`"),
    ("Model", "to_tokens", "`model.encode(text)`"),
    ("Model", "to_string", "`model.decode(ids)`, `model.token(id)`"),
    ("Model", "to_single_token", "`model.token_id(\" the\")`"),
    ("Model", "run_with_cache", "`model.run(text, #{ hooks: [\"blocks.0.hook_resid_post\"] })`"),
    (
        "Model",
        "run_with_hooks",
        "`model.run(text, #{ edits: [#{ hook: \"blocks.0.hook_resid_post\", op: \"scale\", value: 0 }] })`",
    ),
    ("Model", "generate", "`generate(model, \"Once\", #{ max_tokens: 20 })`"),
    ("Dictionary", "forward", "`sae.reconstruct(x)`"),
    ("Dictionary", "W_E", "that is the model's: `model.W_E`"),
    ("Dictionary", "W_U", "that is the model's: `model.W_U`"),
];

fn of(list: &[(&str, &str)], name: &str) -> Option<String> {
    list.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| (*ours).to_string())
}

/// A hint for a name that is not known.
pub(super) fn name(name: &str) -> Option<String> {
    of(WORDS, name).or_else(|| of(NAMES, name))
}

/// A hint for a function of another language.
pub(super) fn function(name: &str) -> Option<String> {
    of(FUNCTIONS, name)
}

/// A hint for a method or property of another language.
pub(super) fn member(kind: &str, name: &str) -> Option<String> {
    METHODS.iter().find(|(of, theirs, _)| *of == kind && *theirs == name).map(|(.., ours)| (*ours).to_string())
}

/// As [`member`], for a name that is nearly one of theirs.
pub(super) fn near_member(kind: &str, name: &str) -> Option<String> {
    let theirs = METHODS.iter().filter(|(of, ..)| *of == kind).map(|(_, theirs, _)| *theirs);
    nearest(name, theirs).and_then(|near| member(kind, near))
}

/// A hint for what the parser refuses, by the text before the fault and from it on.
pub(super) fn syntax(what: &ParseErrorType, before: &str, rest: &str) -> Option<String> {
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    let last = before.rsplit(|c| !belongs(c)).next().unwrap_or_default();
    let first = rest.split(|c| !belongs(c)).next().unwrap_or_default();
    let missing = |token: &str| matches!(what, ParseErrorType::MissingToken(wanted, _) if wanted == token);
    let help = match rest.chars().next() {
        Some('%') if before.is_empty() => {
            let command = rest.trim_start_matches('%').split_whitespace().next().unwrap_or_default();
            return Some(match command {
                "timeit" | "time" | "run" | "history" | "reset" | "cd" | "save" => {
                    format!("for `%{command}` write `:{command}`; `:help` lists the commands")
                }
                _ => "commands begin with a colon: `:help` lists them".into(),
            });
        }
        Some('#') if !rest.starts_with("#{") => "comments begin with `//`",
        Some('"' | '`') if ["f", "r", "b"].contains(&last) => "text in backquotes takes values: `${x}` in it is the value of x",
        Some('\'') if matches!(what, ParseErrorType::BadInput(LexError::MalformedChar(_))) => {
            "text stands in double quotes: \"text\""
        }
        Some(':') if before.ends_with(['[', ',']) => {
            "a whole dimension is left out: `t[0]` is a row, `t.T[0]` a column; `t.slice(dim, a, b)` picks parts"
        }
        Some(':') if missing(";") && before.contains('{') => "a map begins with `#`: `#{ a: 1 }`",
        Some('f') if first == "for" && (missing("]") || missing(",")) => {
            "a list is made of another by `list.map(|x| x * 2)`; `list.filter(|x| x > 1)` picks elements"
        }
        Some('(') if last == "let" => "values are taken out one by one: `let a = list[0]; let b = list[1];`",
        Some(':') if missing("]") => {
            "a part of a tensor or a text is written with dots: `t[1..3]`; of an array `list.extract(1..3)`"
        }
        Some(',') if missing("]") => "several indices at once are `t.at([0, 1])`; `t[0][1]` and `t.slice(dim, a, b)` pick parts",
        Some(',') if missing(")") => "several values together are an array: `[1, 2]`",
        Some(',') if missing("in") => "two names stand in brackets: `for (x, i) in list`",
        Some('=') if missing(",") => "arguments have no names: `t.sum(0)`; options are a map at the end, `f(x, #{ k: 10 })`",
        Some('(') if rest.starts_with("(*") && !before.is_empty() => {
            "arguments are given one by one, `f(list[0], list[1])`; options are a map, `f(x, options)`"
        }
        Some('i') if first == "if" && missing(";") && !before.is_empty() && !before.ends_with('}') => {
            "`if` begins an expression: `let y = if x > 0 { 1 } else { 2 };`"
        }
        Some('(') if before.ends_with(']') => "a closure in an array is called by `.call(…)`",
        _ if rest.starts_with("++") || rest.starts_with("--") => "`x += 1` adds one",
        _ if rest.starts_with("//") => "`//` begins a comment; integers divide as whole numbers by `/`",
        _ => {
            let words = of(WORDS, first).or_else(|| of(WORDS, last));
            let called = match what {
                ParseErrorType::VariableExpected | ParseErrorType::Reserved(_) if before.is_empty() => first,
                _ if missing(";") => last,
                _ => "",
            };
            let known = entries().iter().any(|e| e.form == Form::Function && e.name == called);
            let brackets = known.then(|| format!("a function is called with brackets: `{called}(…)`"));
            let blocks = || (missing("{") && rest.starts_with(':')).then(|| "blocks stand in braces: `if a { b }`".to_string());
            return words.or(brackets).or_else(blocks);
        }
    };
    Some(help.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hint_hides_a_name_that_there_is() {
        for entry in entries() {
            let kind = entry.params.first().map_or("", |p| p.kind.as_str());
            assert!(function(entry.name).is_none() || entry.form != Form::Function, "{}", entry.name);
            let own = [Form::Method, Form::Getter].contains(&entry.form);
            assert!(!own || member(kind, entry.name).is_none() || entry.name == "to_string", "{kind}.{}", entry.name);
        }
    }
}
