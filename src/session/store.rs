//! `:session save` and `:session load`: a session's variables and functions in one safetensors file. Tensors are its
//! tensors; the rest is text in its metadata; models and dictionaries are loaded again by the calls that made them.

use super::{Answer, Report, Session, stack};
use crate::error::{Error, Result, ResultExt};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::script::keep::{Keeper, Reader};
use crate::tensor::Bytes;
use rhai::{Dynamic, FnPtr};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The metadata entry that holds everything but the tensors.
const ENTRY: &str = "saerepl.session";

/// Closures by the names that Rhai gave them when they were saved.
type Closures = BTreeMap<String, FnPtr>;

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
    let mut data = TensorSet::new(file);
    let (mut variables, mut lost) = (serde_json::Map::new(), Vec::new());
    for (name, constant, value) in session.scope.iter_raw().filter(|(name, ..)| *name != "Out") {
        let mut keeper = Keeper { recipes: &session.host.recipes, data: Some(&mut data) };
        match keeper.write(&value.flatten_clone()) {
            Ok(kept) => {
                variables.insert(name.into(), json!({"constant": constant, "value": kept}));
            }
            Err(error) => lost.push(format!("`{name}` is not kept: {}", error.message())),
        }
    }
    let kept = variables.len();
    let cells: Vec<Json> = session.defining.iter().map(|cell| json!([cell.name, cell.text, cell.closures])).collect();
    let entry = json!({"program": env!("CARGO_PKG_VERSION"), "variables": variables, "cells": cells});
    data.metadata.insert(ENTRY.into(), entry.to_string());
    files::write_atomic(file, &safetensors::write(&data)?)?;
    lost.insert(0, format!("{kept} variables and the functions of {} cells saved as {}", cells.len(), file.display()));
    Ok(lost.join("\n"))
}

fn load(session: &mut Session, file: &Path) -> std::result::Result<String, Box<Report>> {
    let data = Bytes::map(file).and_then(|bytes| safetensors::read(bytes, file))?;
    let entry = data.metadata.get(ENTRY).and_then(|text| serde_json::from_str::<Json>(text).ok());
    let Some(entry) = entry else {
        return Err(Error::format("this file holds no session").file(file).help("`:session save FILE` writes one").into());
    };
    let variables = entry["variables"].as_object().cloned().unwrap_or_default();
    let cells = entry["cells"].as_array().cloned().unwrap_or_default();
    // A closure is known once the cells that wrote it are; they mean by `f(x)` what they did when variables are known.
    let holds_function = |variable: &Json| variable.to_string().contains("{\"function\":");
    let (functions, data_only): (Vec<_>, Vec<_>) = variables.iter().partition(|(_, variable)| holds_function(variable));
    let mut closures = BTreeMap::new();
    for (name, variable) in data_only {
        set(session, &data, &closures, name, variable)?;
    }
    for (name, _) in &functions {
        session.set(name, Dynamic::from(FnPtr::new("f").map_err(|e| Error::internal(e.to_string()))?));
    }
    for cell in &cells {
        if let (Some(name), Some(text)) = (cell[0].as_str(), cell[1].as_str()) {
            // A cell of this session may have the same number.
            let written = session.define(text, &format!("{}:{name}", file.display()))?;
            let names = cell[2].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(String::from));
            closures.extend(names.zip(written));
        }
    }
    for (name, variable) in functions {
        set(session, &data, &closures, name, variable)?;
    }
    session.drop_shadowed();
    Ok(format!("{} variables and the functions of {} cells loaded", variables.len(), cells.len()))
}

fn set(session: &mut Session, data: &TensorSet, closures: &Closures, name: &str, variable: &Json) -> Result<()> {
    let value = Reader { engine: &session.engine, data, closures }.read(&variable["value"]);
    let value = value.context(|| format!("the variable `{name}`")).in_file(&data.source)?;
    match variable["constant"].as_bool() {
        Some(true) => {
            session.scope.push_constant_dynamic(name, value);
        }
        _ => session.set(name, value),
    }
    Ok(())
}
