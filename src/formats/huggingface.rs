//! A Hugging Face checkpoint: `config.json`, weights in one safetensors file or in shards with an index, `tokenizer.json`.

use super::{Files, TensorSet, json, safetensors};
use crate::error::{Error, Result};
use crate::tensor::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;

/// A checkpoint as it lies in a folder or repository.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// `config.json`.
    pub config: Value,
    /// The tensors of all shards.
    pub tensors: TensorSet,
    /// `tokenizer.json`, where there is one, unread.
    pub tokenizer: Option<Bytes>,
    /// `tokenizer_config.json`, or null.
    pub tokenizer_config: Value,
    /// What messages call it: the folder, or `org/repo`.
    pub name: String,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A folder inside a place with files.
struct Inside<'a> {
    files: &'a dyn Files,
    /// With a final `/`.
    folder: &'a str,
}

impl Files for Inside<'_> {
    fn name(&self) -> String {
        self.files.path_of(self.folder.trim_end_matches('/')).display().to_string()
    }
    fn list(&self) -> Result<Vec<String>> {
        Ok(self.files.list()?.iter().filter_map(|file| file.strip_prefix(self.folder)).map(str::to_string).collect())
    }
    fn list_folder(&self, folder: &str) -> Result<Vec<String>> {
        let list = self.files.list_folder(format!("{}{folder}", self.folder).trim_end_matches('/'))?;
        Ok(list.iter().filter_map(|file| file.strip_prefix(self.folder)).map(str::to_string).collect())
    }
    fn open(&self, path: &str) -> Result<Bytes> {
        self.files.open(&format!("{}{path}", self.folder))
    }
}

/// The `config.json` of a checkpoint, without its weights.
///
/// # Errors
/// There is none, or it is broken.
pub fn config(files: &dyn Files) -> Result<Value> {
    let list = files.list()?;
    let there = ["config.json", "model/config.json"].into_iter().find(|name| list.iter().any(|f| f == name));
    let name = there.ok_or_else(|| no_config(files, &list))?;
    json::parse(files.open(name)?.as_slice(), &files.path_of(name))
}

/// Reads a checkpoint, which in a bundle (a model with its SAEs) lies in the folder `model`. Weights are mapped, not read.
///
/// # Errors
/// There is no `config.json` or no safetensors file, a shard is missing, or a file is not what it should be.
pub fn read(files: &dyn Files) -> Result<Checkpoint> {
    let list = files.list()?;
    let has = |name: &str| list.iter().any(|f| f == name);
    if !has("config.json") && has("model/config.json") {
        return Ok(Checkpoint { name: files.name(), ..read(&Inside { files, folder: "model/" })? });
    }
    checkpoint(files, &list, None)
}

/// Reads the checkpoint that a file of weights belongs to: all its shards where it is one of several. What it needs lies in its
/// own folder.
///
/// # Errors
/// As [`read`]; the file is named where nothing beside it says what model it is.
pub fn read_file(files: &dyn Files, file: &str) -> Result<Checkpoint> {
    if let Some(slash) = file.rfind('/') {
        let (folder, file) = file.split_at(slash + 1);
        return read_file(&Inside { files, folder }, file);
    }
    let list = files.list_folder("")?;
    if !list.iter().any(|name| name == "config.json") {
        return Err(Error::format("is no model: there is no config.json beside it").file(files.path_of(file)));
    }
    checkpoint(files, &list, Some(file))
}

fn checkpoint(files: &dyn Files, list: &[String], named: Option<&str>) -> Result<Checkpoint> {
    let has = |name: &str| list.iter().any(|f| f == name);
    if !has("config.json") {
        return Err(no_config(files, list));
    }
    let parse = |name: &str| json::parse(files.open(name)?.as_slice(), &files.path_of(name));
    let config = parse("config.json")?;
    let tokenizer = has("tokenizer.json").then(|| files.open("tokenizer.json")).transpose()?;
    let tokenizer_config = has("tokenizer_config.json").then(|| parse("tokenizer_config.json")).transpose()?.unwrap_or_default();
    let open = |name: &str| safetensors::read(files.open(name)?, &files.path_of(name));
    let index = (has(INDEX) && (named.is_some() || !has(SINGLE))).then(|| parse(INDEX)).transpose()?;
    let is_shard = |file: &str, index: &Value| {
        index["weight_map"].as_object().is_some_and(|map| map.values().any(|shard| shard.as_str() == Some(file)))
    };
    let tensors = if let Some(index) = index.filter(|index| named.is_none_or(|file| is_shard(file, index))) {
        shards(files, &index, list)?
    } else if let Some(file) = named {
        open(file)?
    } else if has(SINGLE) {
        open(SINGLE)?
    } else {
        match list.iter().filter(|f| !f.contains('/') && f.ends_with(".safetensors")).collect::<Vec<_>>()[..] {
            [only] => open(only)?,
            _ => return Err(no_weights(files, list)),
        }
    };
    Ok(Checkpoint { config, tensors, tokenizer, tokenizer_config, name: files.name() })
}

/// The tensors of all shards that the index names; what it promises must be there.
fn shards(files: &dyn Files, index: &Value, list: &[String]) -> Result<TensorSet> {
    let place = files.path_of(INDEX);
    let fault = |message: String| Error::format(message).file(&place);
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(|| fault("has no `weight_map`".into()))?;
    let text = |tensor: &str, shard: &Value| {
        shard.as_str().map(str::to_string).ok_or_else(|| fault(format!("the shard of `{tensor}` is {shard}, not a file name")))
    };
    let names = map.iter().map(|(tensor, shard)| text(tensor, shard)).collect::<Result<BTreeSet<_>>>()?;
    let outside = |name: &String| name.starts_with('/') || name.split('/').any(|part| part == "..");
    if let Some(name) = names.iter().find(|name| outside(name)) {
        return Err(fault(format!("names the shard `{name}`, a path outside the folder")));
    }
    let missing: Vec<_> = names.iter().filter(|name| !list.contains(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let message = format!("names {} shards, of which {} {verb} missing: {}", names.len(), missing.len(), missing.join(", "));
        let why = files.why_absent().unwrap_or_else(|| "the download or copy did not finish; fetch them again".into());
        return Err(fault(message).help(why));
    }
    let mut all = TensorSet::new(files.name());
    for name in &names {
        let shard = safetensors::read(files.open(name)?, &files.path_of(name))?;
        all.metadata.extend(shard.metadata.clone());
        for (tensor, view) in shard.iter() {
            if !all.insert(tensor, view.clone()) {
                return Err(Error::format("is in two shards").tensor(tensor).file(files.path_of(name)));
            }
        }
    }
    match map.iter().find(|(tensor, _)| all.find(tensor).is_none()) {
        Some((tensor, shard)) => Err(fault(format!("promises a tensor `{tensor}` in {shard}, which is not there"))),
        None => Ok(all),
    }
}

fn no_config(files: &dyn Files, list: &[String]) -> Error {
    let error = Error::format(format!("there is no config.json among its {} files", list.len())).file(files.name());
    let with = |ending: &str| list.iter().find(|f| f.ends_with(ending));
    if let Some(why) = files.why_absent() {
        error.help(why)
    } else if let Some(gguf) = with(".gguf") {
        error.help(format!("it holds GGUF weights; name the file itself: `{}`", files.path_of(gguf).display()))
    } else if list.iter().any(|f| f == "adapter_config.json") {
        error.help("it is an adapter (LoRA); merge it into its base model first")
    } else if let Some(below) = with("/config.json") {
        error.help(format!("the nearest one is `{below}`; name its folder"))
    } else {
        error.help("a Hugging Face model folder holds config.json, model.safetensors and tokenizer.json")
    }
}

fn no_weights(files: &dyn Files, list: &[String]) -> Error {
    let error = Error::format(format!("there is neither {SINGLE} nor {INDEX}")).file(files.name());
    match list.iter().find(|f| f.ends_with(".bin") || f.ends_with(".pt") || f.ends_with(".pth")) {
        Some(pickle) => error.help(format!(
            "`{pickle}` is a PyTorch pickle, which can run code; in Python, save the model again with `save_pretrained` (safetensors)"
        )),
        None => error.help("the download or copy may not have finished"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Folder;
    use crate::tensor::Tensor;

    fn weights(names: &[&str]) -> Vec<u8> {
        let mut set = TensorSet::new("");
        for (i, name) in names.iter().enumerate() {
            set.insert(*name, Tensor::from_f32(vec![i as f32; 6], &[2, 3]).unwrap());
        }
        safetensors::write(&set).unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        for (name, data) in files {
            std::fs::write(dir.path().join(name), data).unwrap();
        }
        let folder = Folder::new(dir.path()).unwrap();
        (dir, folder)
    }

    const CONFIG: &[u8] = br#"{"model_type": "llama", "rope_theta": Infinity}"#;
    const TWO_SHARDS: &[u8] = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

    #[test]
    fn one_file_or_shards() {
        let (_dir, single) = folder(&[
            ("config.json", CONFIG.to_vec()),
            ("model.safetensors", weights(&["a", "b"])),
            ("tokenizer.json", b"{\"model\": {}}".to_vec()),
        ]);
        let checkpoint = read(&single).unwrap();
        assert_eq!(checkpoint.config["model_type"], "llama");
        assert_eq!(checkpoint.tensors.get("b").unwrap().shape(), [2, 3]);
        assert!(checkpoint.tensors.get("b").unwrap().is_mapped());
        assert!(checkpoint.tokenizer.is_some());
        let (_dir, sharded) = folder(&[
            ("config.json", CONFIG.to_vec()),
            (INDEX, TWO_SHARDS.to_vec()),
            ("model-1.safetensors", weights(&["a"])),
            ("model-2.safetensors", weights(&["b", "c"])),
        ]);
        let checkpoint = read(&sharded).unwrap();
        assert_eq!(checkpoint.tensors.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(checkpoint.tokenizer.is_none());
    }

    #[test]
    fn a_named_file_is_what_is_read() {
        let (_dir, place) = folder(&[
            ("config.json", CONFIG.to_vec()),
            ("model.safetensors", weights(&["a", "b"])),
            ("other.safetensors", weights(&["c"])),
        ]);
        assert_eq!(read_file(&place, "other.safetensors").unwrap().tensors.names().collect::<Vec<_>>(), ["c"]);
        let (_dir, sharded) = folder(&[
            ("config.json", CONFIG.to_vec()),
            (INDEX, TWO_SHARDS.to_vec()),
            ("model-1.safetensors", weights(&["a"])),
            ("model-2.safetensors", weights(&["b"])),
        ]);
        assert_eq!(read_file(&sharded, "model-2.safetensors").unwrap().tensors.len(), 2);
        let (_dir, alone) = folder(&[("x.safetensors", weights(&["a"])), ("y.gguf", vec![])]);
        let error = read_file(&alone, "x.safetensors").unwrap_err();
        assert!(error.to_string().contains("x.safetensors: is no model"), "{error}");
        assert!(error.helps().is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let refusal = |files: &[(&str, Vec<u8>)]| {
            let (_dir, folder) = folder(files);
            read(&folder).unwrap_err()
        };
        let config = || ("config.json", CONFIG.to_vec());
        let index = || (INDEX, TWO_SHARDS.to_vec());
        let error = refusal(&[config(), index(), ("model-1.safetensors", weights(&["a"]))]);
        assert!(error.to_string().contains("1 is missing: model-2.safetensors"), "{error}");
        let elsewhere = br#"{"weight_map": {"a": "../../../etc/passwd"}}"#.to_vec();
        let error = refusal(&[config(), (INDEX, elsewhere)]);
        assert!(error.to_string().contains("`../../../etc/passwd`, a path outside the folder"), "{error}");
        let wrong =
            refusal(&[config(), index(), ("model-1.safetensors", weights(&["a"])), ("model-2.safetensors", weights(&["c"]))]);
        assert!(wrong.to_string().contains("promises a tensor `b`"), "{wrong}");
        let twice = refusal(&[
            config(),
            index(),
            ("model-1.safetensors", weights(&["a"])),
            ("model-2.safetensors", weights(&["a", "b"])),
        ]);
        assert!(twice.to_string().contains("tensor `a`: is in two shards"), "{twice}");
        assert!(refusal(&[("m.gguf", vec![])]).helps()[0].contains("m.gguf"));
        assert!(refusal(&[config(), ("pytorch_model.bin", vec![])]).helps()[0].contains("pickle"));
        assert!(
            refusal(&[config(), ("model.safetensors", b"version https://git-lfs.github.com/spec/v1".to_vec())])
                .to_string()
                .contains("model.safetensors: is a git-LFS pointer")
        );
    }
}
