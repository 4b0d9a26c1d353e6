//! Which SAEs a folder, a repository or the demo holds: told by names and configurations, without opening weights.

use super::load::beside::{Beside, listed, shown, weights_in};
use super::load::{FAMILIES, Family, SaeFormat, Said};
use super::site::HookPoint;
use crate::error::Result;
use crate::hub::{self, Place};
use crate::provenance::Provenance;
use crate::table::{Column, Table};
use crate::work::Work;

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
/// What names and configurations do not say is empty text or a missing number; a file of weights that none of them marks as
/// an SAE is left out.
///
/// # Errors
/// There is nothing of that name, or a configuration is broken.
pub fn list_saes(name: &str, work: &Work) -> Result<Table> {
    let place = hub::resolve(name, work)?;
    let list = listed(&place)?;
    let (files, only) = match place {
        Place::Folder(files) => (files, None),
        Place::File { folder, file } => (folder, Some(file)),
    };
    let all = weights_in(&list);
    let weights: Vec<&String> = all.iter().copied().filter(|file| only.as_ref().is_none_or(|only| only == *file)).collect();
    let steps = work.begin(&format!("reading the SAEs of {name}"), weights.len() as u64);
    let mut found = Vec::with_capacity(weights.len());
    for file in weights {
        work.check()?;
        let path = Beside::unread(files.as_ref(), file);
        let is_here = files.on_disk(file).is_none_or(|file| file.exists());
        // A configuration that would have to be fetched is not, where the path says as much.
        let marked = match marked(&path).filter(|(family, said)| !is_here && says_all(family, said)) {
            Some(marked) => Some(marked),
            None => marked(&Beside::read(files.as_ref(), &list, file)?),
        };
        found.extend(marked.map(|(family, said)| Found::new(shown(file, &all), family.name, said)));
        steps.advance(1);
    }
    table(name, &found)
}

/// The family that path and configuration mark, and what they say.
fn marked(beside: &Beside) -> Option<(&'static Family, Said)> {
    FAMILIES.iter().find_map(|family| (family.said)(beside).map(|said| (family, said)))
}

/// True where a path of this family that names a place says all that a listing shows: Gemma Scope's have layer and width.
fn says_all(family: &Family, said: &Said) -> bool {
    matches!(family.format, SaeFormat::GemmaScope | SaeFormat::GemmaScope2) && said.hook.is_some() && said.d_sae.is_some()
}

impl Found {
    fn new(path: &str, format: &'static str, said: Said) -> Self {
        let place = said.hook.as_deref().and_then(HookPoint::parse);
        let layer = place.as_ref().and_then(|place| place.layer).or(said.layer);
        let hook = place.map(|place| place.name).or(said.hook).unwrap_or_default();
        Found { path: path.into(), format, hook, layer, d_in: said.d_in, d_sae: said.d_sae }
    }
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
