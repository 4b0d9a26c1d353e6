//! `?name` and `??name`: what a name means in this session.

use super::suggest::Callable;
use super::{COMMANDS, Session};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result, nearest};
use crate::model::Model;
use crate::render::text;
use crate::script::convert::type_name;
use crate::script::scan;
use crate::script::{entries, help as pages};
use rhai::{Dynamic, ScriptFuncDef};
use std::sync::Arc;

/// Lines of a value that are shown.
const LINES: usize = 12;

/// The page for a name: a command, a variable, a script's function, one of ours, or one of Rhai's.
pub(super) fn help(session: &Session, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::input("? needs a name").help("`?unembed`, `?Tensor.topk`; `:help` lists everything"));
    }
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return Ok(format!("{} {}\n\n    {}", command.name, command.arguments, command.what));
    }
    let name = name.trim_end_matches("()");
    let width = session.width();
    let mut parts = Vec::new();
    if let Some(value) = session.scope.get(name) {
        parts.push(variable(session, name, value)?);
    } else if let Some((receiver, member)) = name.split_once('.')
        && let Some(value) = session.scope.get(receiver)
    {
        return pages::help(&format!("{}.{member}", type_name(value)), width);
    }
    parts.extend(functions(session, name).iter().map(|(source, function)| {
        let text = function.comments.iter().map(|comment| comment.as_str()).collect::<Vec<_>>().join("\n");
        let doc = text.lines().map(|line| format!("    {}", line.trim_start().trim_start_matches('/').trim()));
        let doc: String = doc.map(|line| line + "\n").collect();
        format!("{}\n\n{doc}    defined in {source}; `??{name}` shows it", signature(function))
    }));
    if entries().iter().any(|entry| entry.path() == name || pages::name_of(entry) == name) {
        parts.push(pages::help(name, width)?);
    }
    let members = pages::members(name, width);
    if !members.is_empty() {
        parts.push(format!("{name}\n{members}"));
    }
    if parts.is_empty() {
        parts.extend(session.native.iter().filter(|f| f.name == name).map(Callable::page));
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
    let shown = facts.map_or_else(
        || {
            let shown = session.display(value);
            let more = if shown.lines().count() > LINES { vec!["…"] } else { Vec::new() };
            shown.lines().take(LINES).chain(more).collect::<Vec<_>>().join("\n")
        },
        |facts| text::facts(&facts),
    );
    let shown = shown.replace('\n', "\n    ");
    Ok(format!("{name}: {kind}\n\n    {shown}\n{}", pages::members(&kind, session.width())).trim_end().to_string())
}

/// The functions of a name that cells defined, the newest first, with the cells.
fn functions(session: &Session, name: &str) -> Vec<(String, Arc<ScriptFuncDef>)> {
    let mut found: Vec<(String, Arc<ScriptFuncDef>)> = Vec::new();
    for module in session.global.lib.iter().rev() {
        for (.., function) in module.iter_script_fn_info().filter(|(_, _, known, ..)| *known == name) {
            if !found.iter().any(|(_, known)| known.params.len() == function.params.len()) {
                found.push((module.id().unwrap_or_default().into(), Arc::clone(function)));
            }
        }
    }
    found
}

fn signature(function: &ScriptFuncDef) -> String {
    let parameters: Vec<&str> = function.params.iter().map(|p| p.as_str()).collect();
    format!("fn {}({})", function.name, parameters.join(", "))
}

/// The text of a script's function.
pub(super) fn source(session: &Session, name: &str) -> Result<String> {
    let name = name.trim_end_matches("()");
    let texts: Vec<String> = functions(session, name)
        .iter()
        .filter_map(|(source, _)| {
            let text = session.sources.get(source)?.text;
            let function = scan::functions(&text).into_iter().find(|function| function.name == name)?;
            Some(format!("// {source}\n{}", &text[function.range]))
        })
        .collect();
    if !texts.is_empty() {
        return Ok(texts.join("\n\n"));
    }
    // What has no source in Rhai is explained.
    help(session, name).map(|page| format!("// `{name}` is not written in Rhai\n\n{page}"))
}
