//! Parameters of a script: `param("name", default, "description")` declares and reads one.
//!
//! Declarations are read from the syntax tree before anything runs, so that `run FILE --help` lists them and a key that
//! the script does not declare is refused at once. That is why name and description must stand there as text.

use crate::entry;
use crate::error::{Error, Result, nearest};
use crate::script::convert::{describe, to_json, type_name};
use crate::script::declare::Entry;
use crate::script::scan::{Kind, byte_of, outline};
use crate::script::tree::walk;
use crate::script::{Host, Used};
use rhai::{AST, ASTNode, Dynamic, Engine, Expr, FnCallExpr, Position, Stmt};
use std::ops::Range;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Declares a parameter of the script and gives its value: the default, unless `run FILE name=value` says
            /// otherwise.
            ///
            /// `name` and `description` must be written as text, since `run FILE --help` reads them before anything
            /// runs. The value is read by the type of the default: text stays text, an integer becomes a number where
            /// the default is one, and arrays, ranges, maps, `true`, `false` and `()` are written as in a script
            /// (`layers=0..8`, `models=["a", "b"]`). Where the default is `()`, any of these will do, and a bare word is
            /// text. Errors: a value of another type.
            ///
            /// ```rhai
            /// let k = param("k", 10, "tokens in each list");
            /// assert(k == 10);
            /// ```
            fn param(call, name: String, default: Dynamic, description: String) -> Dynamic {
                read(call.host, name, default, description)
            }
        },
        entry! {
            /// The folder that receives the results: `out/<script name>/`, or what `--out` says.
            ///
            /// ```rhai
            /// print(`results go to ${out_dir()}`);
            /// ```
            fn out_dir(call) -> String { Ok(call.host.out_dir.display().to_string()) }
        },
    ]
}

fn read(host: &Host, name: String, default: Dynamic, description: String) -> Result<Dynamic> {
    let value = match host.parameters.get(&name) {
        Some(given) => value(given, &default).map_err(|right| {
            Error::input(format!("parameter `{name}`: \"{given}\" is not {right}"))
                .help(format!("write `{name}=…` with {right}; the default is {}", describe(&default)))
        })?,
        None => default,
    };
    let shown = to_json(&value, &host.work).unwrap_or_else(|_| describe(&value).into());
    host.note_parameter(Used { name, value: shown, description });
    Ok(value)
}

/// The value that `given` stands for where `default` is the default, or what would be right.
fn value(given: &str, default: &Dynamic) -> std::result::Result<Dynamic, String> {
    let text = given.trim();
    let whole = |text: &str| match text.parse::<i64>() {
        Ok(v) => Some(v),
        Err(_) => text.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64),
    };
    let of_type = |is_right: fn(&Dynamic) -> bool| literal(text).filter(is_right);
    let (value, right) = match type_name(default).as_str() {
        "string" => (Some(given.into()), ""),
        "integer" => (whole(text).map(Dynamic::from), "an integer"),
        "number" => (text.parse::<f64>().ok().map(Dynamic::from), "a number"),
        "bool" => (of_type(|v| v.is_bool()), "true or false"),
        "array" | "range" => (of_type(|v| v.is_array() || type_name(v) == "range"), "an array like [0, 2] or a range like 0..8"),
        "map" => (of_type(|v| v.is_map()), "a map like #{a: 1}"),
        "()" if text.starts_with(['[', '#', '"']) => (literal(text), "an array, a map or text as a script writes them"),
        "()" => (Some(literal(text).unwrap_or_else(|| given.into())), ""),
        _ => (None, "something that can be written on a command line"),
    };
    value.ok_or_else(|| right.to_string())
}

/// The value of a literal; nothing but literals and operators is known where it is read.
fn literal(text: &str) -> Option<Dynamic> {
    let mut engine = Engine::new_raw();
    engine.set_max_expr_depths(64, 64);
    engine.set_max_array_size(1 << 20).set_max_string_size(1 << 20).set_max_operations(1 << 20);
    engine.eval_expression::<Dynamic>(text).ok()
}

/// One declared parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Its name: the key on the command line.
    pub name: String,
    /// The default as the script writes it.
    pub default: String,
    /// What it is, in the script's words.
    pub description: String,
}

/// The parameters that a script declares, in the order of the text. `ast` is compiled from `text` without optimisation.
///
/// # Errors
/// A declaration that cannot be read without running it, or one that contradicts an earlier one; with its position.
pub fn declarations(text: &str, ast: &AST) -> std::result::Result<Vec<Declaration>, (Error, Position)> {
    let mut calls = Vec::new();
    walk(ast, &mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)))
                if call.name == "param" && call.namespace.is_empty() =>
            {
                calls.push((*position, FnCallExpr::clone(call)));
            }
            _ => {}
        }
        true
    });
    calls.sort_by_key(|(position, _)| *position);
    let mut declared = Vec::<Declaration>::new();
    for (position, call) in calls {
        let declaration = declaration(text, &call, position).map_err(|(error, place)| {
            (error.help("parameters are read before the script runs: `param(\"name\", default, \"what it is\")`"), place)
        })?;
        match declared.iter().find(|d| d.name == declaration.name) {
            None => declared.push(declaration),
            Some(earlier) if *earlier == declaration => {}
            Some(_) => {
                let message = format!("parameter `{}` is declared before with another default or description", declaration.name);
                return Err((Error::input(message).help("keep its value in a variable instead of declaring it again"), position));
            }
        }
    }
    Ok(declared)
}

fn declaration(text: &str, call: &FnCallExpr, position: Position) -> std::result::Result<Declaration, (Error, Position)> {
    let [name, _, description] = &call.args[..] else {
        return Err((
            Error::input(format!("`param` takes a name, a default and a description, not {} arguments", call.args.len())),
            position,
        ));
    };
    let literal = |argument: &Expr, what: &str| match argument {
        Expr::StringConstant(text, _) => Ok(text.to_string()),
        other => Err((Error::input(format!("the {what} of a parameter must be written as text")), other.start_position())),
    };
    let (name, description) = (literal(name, "name")?, literal(description, "description")?);
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
        return Err((Error::input(format!("`{name}` cannot be the name of a parameter: use letters, digits and `_`")), position));
    }
    let default = second_argument(text, position).unwrap_or_default();
    Ok(Declaration { name, default, description })
}

/// The second argument of the call that begins at `position`, as written.
fn second_argument(text: &str, position: Position) -> Option<String> {
    let call = &text[byte_of(text, position)?..];
    let (mut depth, mut start) = (0, None);
    for (kind, range) in outline(call).pieces {
        match (kind, depth, start) {
            (Kind::Open, ..) => depth += 1,
            (Kind::Close, ..) => depth -= 1,
            (Kind::Comma, 1, None) => start = Some(range.end),
            (Kind::Comma, 1, Some(start)) => return call.get(start..range.start).map(|text| text.trim().to_string()),
            _ => {}
        }
    }
    None
}

/// The calls of `param` in a text, each with what `value` says that it gave; calls that gave nothing are left out.
pub fn calls(text: &str, ast: &AST, value: impl Fn(&str) -> Option<String>) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    walk(ast, &mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position))) = path.last()
            && call.name == "param"
            && let [Expr::StringConstant(name, _), ..] = &call.args[..]
            && let (Some(value), Some(start)) = (value(name), byte_of(text, *position))
        {
            let mut depth = 0;
            let closes = |(kind, _): &(Kind, Range<usize>)| {
                depth += i32::from(*kind == Kind::Open) - i32::from(*kind == Kind::Close);
                *kind == Kind::Close && depth == 0
            };
            let close = outline(&text[start..]).pieces.into_iter().find(closes);
            found.extend(close.map(|(_, close)| (start..start + close.end, value)));
        }
        true
    });
    found
}

/// Refuses a key that the script does not declare.
///
/// # Errors
/// The first unknown key, with the nearest declared one and the list.
pub fn check<'a>(given: impl IntoIterator<Item = &'a str>, declared: &[Declaration]) -> Result<()> {
    let names: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
    for key in given {
        if names.contains(&key) {
            continue;
        }
        let error = Error::input(format!("the script declares no parameter `{key}`"));
        let error = match nearest(key, names.iter().copied()) {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error,
        };
        return Err(match names.is_empty() {
            true => error.help("it declares no parameters at all"),
            false => error.help(format!("its parameters are: {}", names.join(", "))),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::OptimizationLevel;

    fn declared(text: &str) -> std::result::Result<Vec<Declaration>, (Error, Position)> {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        declarations(text, &engine.compile(text).unwrap())
    }

    #[test]
    fn declarations_are_read_as_written_in_functions_too() {
        let text = "let k = f(param(\"k\", 2 * (1 + 4), \"how many\"));\nfn g() {\n  param(\"list\", [1, /* , */ \"a,b\"], \"which\")\n}";
        let declared = declared(text).unwrap();
        let shown: Vec<_> = declared.iter().map(|d| (d.name.as_str(), d.default.as_str(), d.description.as_str())).collect();
        assert_eq!(shown, [("k", "2 * (1 + 4)", "how many"), ("list", "[1, /* , */ \"a,b\"]", "which")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_its_place() {
        let (error, position) = declared("let n = \"k\";\nparam(n, 1, \"how many\")").unwrap_err();
        assert_eq!(
            (error.message(), position.line(), position.position()),
            ("the name of a parameter must be written as text", Some(2), Some(7))
        );
        let (error, position) = declared("param(\"k\", 1)").unwrap_err();
        assert_eq!(
            (error.message(), position.line()),
            ("`param` takes a name, a default and a description, not 2 arguments", Some(1))
        );
        assert!(declared("param(\"k\", 1, \"a\"); param(\"k\", 2, \"a\")").unwrap_err().0.message().contains("declared before"));
        assert_eq!(declared("param(\"k\", 1, \"a\"); param(\"k\", 1, \"a\")").unwrap().len(), 1);
    }

    #[test]
    fn values_are_read_by_the_type_of_the_default() {
        let default = |text: &str| literal(text).unwrap();
        let shown = |given: &str, of: &str| value(given, &default(of)).map(|v| format!("{v:?}"));
        for (given, of, expected) in [
            ("0..8", "\"text\"", "\"0..8\""),
            ("3", "1", "3"),
            ("1e3", "1", "1000"),
            ("3", "0.5", "3.0"),
            ("-2.5", "0.5", "-2.5"),
            ("true", "false", "true"),
            ("[1, \"a\"]", "[]", "[1, \"a\"]"),
            ("0..8", "[]", "0..8"),
            ("#{a: 1}", "#{}", "#{\"a\": 1}"),
            ("7", "()", "7"),
            ("-1", "()", "-1"),
            ("[1]", "()", "[1]"),
            ("blocks.3", "()", "\"blocks.3\""),
            ("gemma-2-2b", "()", "\"gemma-2-2b\""),
            ("()", "()", "()"),
        ] {
            assert_eq!(shown(given, of).as_deref(), Ok(expected), "{given} where the default is {of}");
        }
        for (given, of, right) in [
            ("2.5", "1", "an integer"),
            ("x", "0.5", "a number"),
            ("yes", "true", "true or false"),
            ("3", "[]", "an array like [0, 2] or a range like 0..8"),
            ("[1", "()", "an array, a map or text as a script writes them"),
        ] {
            assert_eq!(shown(given, of), Err(right.to_string()), "{given} where the default is {of}");
        }
    }
}
