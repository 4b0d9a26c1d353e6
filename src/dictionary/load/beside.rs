//! What is known of a file of weights without opening it: its path, and the configuration that lies beside it.

use crate::error::{Error, Result, nearest};
use crate::formats::{Files, json};
use crate::hub::{self, CHECKPOINTS, Place};
use crate::work::Work;
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};

/// The folder of a bundle (a model with its SAEs, as the demo is one) that holds the SAEs.
const SAES: &str = "saes";
/// Endings of files that can hold an SAE.
const ENDINGS: [&str; 4] = ["npz", "safetensors", "pt", "pth"];
/// Beginnings of names of files with such endings that hold none: models, and what training leaves behind. The decoders of a
/// cross-layer transcoder (`W_dec_3.safetensors`) are found beside their encoders, steps of a training by their names.
const OTHERS: [&str; 14] = [
    "model",
    "pytorch_model",
    "consolidated",
    "adapter",
    "sparsity",
    "activations_store_state",
    "activation_whitening",
    "examples",
    "trainer_state",
    "optimizer",
    "scheduler",
    "rng_state",
    "W_dec_",
    "ae_",
];

/// A file of weights as its path and its neighbours describe it.
pub(in crate::dictionary) struct Beside {
    /// The whole path, which names the repository.
    parts: Vec<String>,
    /// The configuration's file name and content; null without one.
    config_name: String,
    config: Json,
}

impl Beside {
    /// The path alone.
    pub fn unread(files: &dyn Files, weights: &str) -> Self {
        let path = full_path(&files.path_of(weights));
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        Beside { parts, config_name: String::new(), config: Json::Null }
    }

    /// Reads the configuration beside `weights`, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(files: &dyn Files, list: &[String], weights: &str) -> Result<Self> {
        let (folder, file) = weights.rsplit_once('/').unwrap_or(("", weights));
        let own = format!("{}_cfg.json", file.rsplit_once('.').map_or(file, |(stem, _)| stem));
        let above = above_checkpoints(folder);
        let mut beside = Beside::unread(files, weights);
        let names = [own.as_str(), "cfg.json", "hyperparams.json", "config.json", "config.yaml"];
        for name in names {
            let there =
                [folder, above].map(|folder| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") });
            if let Some(place) = there.iter().find(|place| list.contains(place)) {
                let bytes = files.open(place)?;
                beside.config = match name.ends_with(".yaml") {
                    true => yaml(&String::from_utf8_lossy(bytes.as_slice())),
                    false => json::parse(bytes.as_slice(), &files.path_of(place))?,
                };
                beside.config_name = name.to_string();
                break;
            }
        }
        Ok(beside)
    }

    /// The name of the file of weights.
    pub fn file(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// The configuration of this name; null where there is none.
    pub fn config(&self, name: &str) -> &Json {
        if self.config_name == name { &self.config } else { &Json::Null }
    }

    /// The configuration that is named after the weights: `NAME_cfg.json`; null where there is none.
    pub fn own_config(&self) -> &Json {
        if self.config_name.ends_with("_cfg.json") { &self.config } else { &Json::Null }
    }

    /// The names of the folders above, from the nearest outwards, after the file's own.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().rev().map(String::as_str)
    }

    /// True where a folder above, or the file, has `text` in its name, in any case.
    pub fn mentions(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.parts().any(|part| part.to_lowercase().contains(&text))
    }

    /// What follows `prefix` in the nearest name that begins with it.
    pub fn after(&self, prefix: &str) -> Option<&str> {
        self.parts().find_map(|part| part.strip_prefix(prefix))
    }

    /// The number that follows `text` in the nearest name where one does.
    pub fn number(&self, text: &str) -> Option<usize> {
        self.parts().find_map(|part| number_after(part, text))
    }
}

/// The number that follows `text` in a name.
pub(in crate::dictionary) fn number_after(name: &str, text: &str) -> Option<usize> {
    let starts = name.match_indices(text).map(|(at, _)| at + text.len());
    starts
        .filter_map(|start| {
            let digits = &name[start..];
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().ok()
        })
        .next()
}

/// A number, also when written as text.
pub(in crate::dictionary) fn size(value: &Json) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    usize::try_from(number).ok()
}

/// The single values of a YAML file's outermost level, as text: all that is asked of one.
fn yaml(text: &str) -> Json {
    let pair = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        let outermost = key.starts_with(|c: char| c.is_alphabetic());
        (outermost && !value.is_empty()).then(|| (key.trim().to_string(), Json::from(value)))
    };
    Json::Object(text.lines().filter_map(pair).collect::<Map<_, _>>())
}

/// The whole path of a local file, for facts that stand in names of folders above.
fn full_path(file: &Path) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())
}

fn above_checkpoints(folder: &str) -> &str {
    match folder.rsplit_once('/') {
        Some((above, CHECKPOINTS)) => above,
        None if folder == CHECKPOINTS => "",
        _ => folder,
    }
}

/// The files among which what belongs to a named file is looked for: its own folder, and the one above its checkpoints. (For a
/// folder, all below.)
///
/// # Errors
/// They cannot be listed.
pub(in crate::dictionary) fn listed(place: &Place) -> Result<Vec<String>> {
    let Place::File { folder, file } = place else { return place.files().list() };
    let own = file.rsplit_once('/').map_or("", |(own, _)| own);
    let mut list = folder.list_folder(own)?;
    if above_checkpoints(own) != own {
        list.extend(folder.list_folder(above_checkpoints(own))?);
    }
    list.sort_unstable();
    Ok(list)
}

// ---- finding ------------------------------------------------------------------------------------------------------------

/// The files of a place that can hold an SAE.
pub(in crate::dictionary) fn weights_in(list: &[String]) -> Vec<&String> {
    let can = |file: &&String| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let unpruned = file.strip_suffix(&format!("final.{ending}")).map(|stem| format!("{stem}pruned.{ending}"));
        ENDINGS.contains(&ending)
            && !OTHERS.iter().any(|other| name.starts_with(other))
            // Where training cut off dead features, the whole is what it cut them from.
            && !unpruned.is_some_and(|pruned| list.contains(&pruned))
    };
    list.iter().filter(can).collect()
}

/// True where one of the files can hold an SAE.
pub fn holds_saes(list: &[String]) -> bool {
    !weights_in(list).is_empty()
}

/// What `load_sae` takes for a file of weights: its folder where that holds no other, else the file.
pub(in crate::dictionary) fn shown<'a>(weights: &'a str, all: &[&String]) -> &'a str {
    let folder_of = |file: &'a str| file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = folder_of(weights);
    let inside = |file: &&&String| file.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
    if all.iter().filter(inside).count() > 1 { weights } else { above_checkpoints(folder) }
}

/// The average L0 that is nearest to what SAELens calls canonical.
const CANONICAL_L0: u64 = 100;

/// The path of a folder of the place by its own name, where it is named by a link: a listing has each folder once.
fn behind_links(files: &dyn Files, path: &str) -> Option<String> {
    let [root, there] = ["", path].map(|path| std::fs::canonicalize(files.on_disk(path)?).ok());
    let inside = there?.strip_prefix(root?).ok()?.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>();
    Some(inside.join("/")).filter(|inside| !inside.is_empty())
}

/// The weights that a path means: the file itself, or the only SAE in or below the folder. In a bundle the path may begin at
/// its folder of SAEs. Of SAEs that differ by their average L0 alone, it is the one that is nearest to the path's, or to 100.
pub(super) fn find_weights(files: &dyn Files, list: &[String], given: Option<&str>, work: &Work) -> Result<String> {
    let path = given.map(|path| path.trim_start_matches('/'));
    let is_below =
        |file: &str, folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_there = |path: &&str| list.iter().any(|file| is_below(file, path));
    let in_bundle = path.filter(|path| !is_there(path)).map(|path| format!("{SAES}/{path}"));
    let path = in_bundle.as_deref().filter(is_there).or(path);
    let linked = path.filter(|path| !is_there(path)).and_then(|path| behind_links(files, path));
    let path = linked.as_deref().or(path);
    let nearest_l0 = path.filter(|path| !is_there(path)).and_then(|path| hub::nearest_l0(list, path, work));
    let path = nearest_l0.as_deref().or(path);
    if let Some(path) = path
        && list.iter().any(|file| file == path)
    {
        return Ok(path.to_string());
    }
    let all = weights_in(list);
    let mut found: Vec<&String> = all.iter().copied().filter(|file| path.is_none_or(|path| is_below(file, path))).collect();
    if found.len() > 1
        && let Some(canonical) = hub::average_l0(list, path.unwrap_or_default(), CANONICAL_L0)
    {
        found.retain(|file| is_below(file, &canonical));
        work.note(&format!("note: taking {canonical}, the average L0 nearest to {CANONICAL_L0}; `list_saes` names the others"));
    }
    // The only SAE of the outermost folder goes by its file: its folder has no name here.
    let name = |file: &'_ String| Some(shown(file, &all)).filter(|name| !name.is_empty()).unwrap_or(file).to_string();
    let names = |files: &[&String]| {
        let names: Vec<_> = files.iter().take(8).map(|file| name(file)).collect();
        let more = if files.len() > 8 { format!(" and {} more", files.len() - 8) } else { String::new() };
        format!("{}{more}", names.join(", "))
    };
    match found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let what = given.map_or("there is no SAE".to_string(), |given| format!("there is no SAE at `{given}`"));
            let error = Error::input(what).file(files.name());
            let known: Vec<_> = all.iter().map(|file| name(file)).collect();
            let error = match path.and_then(|path| nearest(path, known.iter().map(String::as_str))) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            };
            if all.is_empty() {
                Err(error.help(format!(
                    "an SAE is a file .safetensors, .npz, .pt or .pth, most with a configuration beside it; for a format that is not \
                     known name the file and pass `map`; files here: {}",
                    list.iter().take(8).cloned().collect::<Vec<_>>().join(", ")
                )))
            } else {
                Err(error.help(format!("there are: {}", names(&all))))
            }
        }
        _ => Err(Error::input(format!("there are {} SAEs: name one by its path", found.len()))
            .file(files.name())
            .help(format!("they are: {}", names(&found)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names() {
        assert_eq!(number_after("layer_12_width_16k_l0_medium", "layer_"), Some(12));
        assert_eq!(number_after("Llama-3.1-8B-Instruct-SAE-l19.pth", "-l"), Some(19));
        assert_eq!(number_after("SAE-Res-Qwen3-1.7B-Base-W32K-L0_50", "-L0_"), Some(50));
        assert_eq!(number_after("e-res-sm", "layer_"), None);
    }

    #[test]
    fn the_outermost_values_of_yaml() {
        let read = yaml(
            "model_name: \"Qwen/Qwen3-0.6B\"\n# note\nfeature_input_hook: mlp.hook_in # in\ntranscoders:\n  - hf://a/b\n  x: 1\n",
        );
        assert_eq!(read, serde_json::json!({"model_name": "Qwen/Qwen3-0.6B", "feature_input_hook": "mlp.hook_in"}));
    }

    #[test]
    fn files_that_can_hold_an_sae() {
        let list: Vec<String> = [
            "model/model.safetensors",
            "saes/a/cfg.json",
            "saes/a/sae_weights.safetensors",
            "saes/a/sparsity.safetensors",
            "l/checkpoints/final.safetensors",
            "l/checkpoints/pruned.safetensors",
            "t/0.pt",
            "t/1.pt",
            "c/W_dec_0.safetensors",
            "c/W_enc_0.safetensors",
        ]
        .map(String::from)
        .to_vec();
        let all = weights_in(&list);
        let names: Vec<_> = all.iter().map(|file| shown(file, &all)).collect();
        assert_eq!(names, ["saes/a", "l", "t/0.pt", "t/1.pt", "c"]);
    }
}
