//! Which SAEs a folder, a repository or the demo holds: told by names and by cfg.json, without opening weights.

use super::load::{WEIGHTS, fact, full_path, path_facts, size};
use super::site::Site;
use crate::error::Result;
use crate::formats::{Files, Folder, json};
use crate::hub::{self, Place};
use crate::provenance::Provenance;
use crate::table::{Column, Table};
use crate::work::Work;
use serde_json::Value as Json;
use std::path::Path;
use std::sync::Arc;

/// One SAE as far as it says of itself.
struct Found {
    path: String,
    format: &'static str,
    hook: String,
    layer: Option<usize>,
    d_in: Option<usize>,
    d_sae: Option<usize>,
}

/// The SAEs below a name, a row each: `path` (what `load_sae` takes beside the name), `format`, `hook`, `layer`, `d_in`, `d_sae`.
/// What a file does not say is empty text or a missing number; Gemma Scope's archives say it in their paths alone.
///
/// # Errors
/// There is nothing of that name, or a cfg.json is broken.
pub fn list_saes(name: &str, work: &Work) -> Result<Table> {
    let (files, only): (Arc<dyn Files>, Option<String>) = match hub::resolve(name, work)? {
        Place::Folder(files) => (files, None),
        Place::File(file) => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (Arc::new(Folder::new(folder)?), file.file_name().map(|name| name.to_string_lossy().into_owned()))
        }
    };
    let list = files.list()?;
    let is_weights = |file: &&String| {
        WEIGHTS.contains(&file.rsplit('/').next().unwrap_or(file)) && only.as_ref().is_none_or(|only| only == *file)
    };
    let weights: Vec<&String> = list.iter().filter(is_weights).collect();
    let steps = work.begin(&format!("reading the SAEs of {name}"), weights.len() as u64);
    let mut found = Vec::with_capacity(weights.len());
    for file in weights {
        work.check()?;
        found.push(if file.ends_with(".npz") { by_path(files.as_ref(), file) } else { by_cfg(files.as_ref(), file, &list)? });
        steps.advance(1);
    }
    table(name, &found)
}

fn table(name: &str, found: &[Found]) -> Result<Table> {
    let text = |of: fn(&Found) -> String| found.iter().map(of).collect::<Vec<_>>();
    Table::new(Provenance::new("list_saes").with("name", name))
        .with("path", text(|sae| sae.path.clone()))?
        .with("format", text(|sae| sae.format.to_string()))?
        .with("hook", text(|sae| sae.hook.clone()))?
        .with("layer", numbers(found, |sae| sae.layer))?
        .with("d_in", numbers(found, |sae| sae.d_in))?
        .with("d_sae", numbers(found, |sae| sae.d_sae))
}

/// Whole numbers where all are known; a whole number cannot be missing, so else floats.
fn numbers(found: &[Found], of: fn(&Found) -> Option<usize>) -> Column {
    match found.iter().map(|sae| of(sae).map(|n| n as i64)).collect::<Option<Vec<i64>>>() {
        Some(known) => known.into(),
        None => found.iter().map(|sae| of(sae).map_or(f64::NAN, |n| n as f64)).collect::<Vec<f64>>().into(),
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn by_path(files: &dyn Files, file: &str) -> Found {
    let facts = path_facts(&full_path(&files.path_of(file)));
    let hook = facts.site.map_or_else(String::new, |site| site.hook(facts.layer));
    Found { path: folder_of(file).into(), format: "Gemma Scope", hook, layer: facts.layer, d_in: None, d_sae: None }
}

fn by_cfg(files: &dyn Files, file: &str, list: &[String]) -> Result<Found> {
    let folder = folder_of(file);
    let cfg = if folder.is_empty() { "cfg.json".to_string() } else { format!("{folder}/cfg.json") };
    let cfg = match list.contains(&cfg) {
        true => json::parse(files.open(&cfg)?.as_slice(), &files.path_of(&cfg))?,
        false => Json::Null,
    };
    let hook = fact(&cfg, &["hook_name", "hook_point"]).as_str().unwrap_or_default();
    let layer = Site::of_hook(hook).and_then(|(_, layer)| layer);
    let format = if cfg.is_null() { "" } else { "SAELens" };
    Ok(Found { path: folder.into(), format, hook: hook.into(), layer, d_in: size(&cfg["d_in"]), d_sae: size(&cfg["d_sae"]) })
}
