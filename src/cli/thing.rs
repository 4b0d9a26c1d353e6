//! What a name on the command line can mean: a model or an SAE.

use crate::Result;
use crate::dictionary::{Dictionary, SaeOptions, holds_saes, load_sae_from};
use crate::formats::{FileKind, huggingface, json, sniff};
use crate::hub::Place;
use crate::model::Model;
use crate::work::Work;
use serde_json::Value as Json;
use std::path::Path;

pub(super) enum Thing {
    Model(Model),
    Sae(Dictionary),
}

impl Thing {
    /// What has a path inside it is an SAE, and so are weights with no configuration of a model; anything else is a model, or an
    /// SAE if it cannot be read as a model.
    pub(super) fn open(place: &Place, name: &str, path: Option<&str>, work: &Work) -> Result<Self> {
        let sae = || load_sae_from(place, name, path, &SaeOptions::default(), work).map(Thing::Sae);
        if path.is_some() || is_no_model(place)? {
            return sae();
        }
        Model::load_from(place).map(Thing::Model).or_else(|no_model| match sae() {
            Err(no_sae) if no_sae.is_interrupted() || no_model.is_interrupted() => Err(no_sae),
            Err(no_sae) => Err(no_model.help(format!("nor is it an SAE: {no_sae}"))),
            sae => sae,
        })
    }
}

/// True where there are weights that can be an SAE's, and nothing that can be a model's.
fn is_no_model(place: &Place) -> Result<bool> {
    let files = match place {
        Place::Folder(files) => files,
        Place::File { folder, file } => {
            let is_weights = |kind| matches!(kind, FileKind::Gguf | FileKind::Safetensors);
            if [".npz", ".pt", ".pth"].iter().any(|ending| file.ends_with(ending)) {
                return Ok(folder.open(file).is_ok_and(|bytes| !is_weights(sniff(bytes.as_slice()))));
            }
            let own = file.rsplit_once('/').map_or(String::new(), |(own, _)| format!("{own}/"));
            let config =
                folder.open(&format!("{own}config.json")).and_then(|bytes| json::parse(bytes.as_slice(), Path::new(file)));
            return Ok(config.is_ok_and(|config| !is_of_a_model(&config)));
        }
    };
    let list = files.list()?;
    if !holds_saes(&list) {
        return Ok(false);
    }
    let configured = list.iter().any(|file| file == "config.json" || file == "model/config.json");
    Ok(!configured || huggingface::config(files.as_ref()).is_ok_and(|config| !is_of_a_model(&config)))
}

fn is_of_a_model(config: &Json) -> bool {
    [&config["model_type"], &config["architectures"]].iter().any(|said| !said.is_null())
}
