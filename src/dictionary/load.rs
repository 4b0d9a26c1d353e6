//! SAE files → dictionaries. The format is found by content: SAELens folders, Gemma Scope archives; anything else through an
//! explicit map of its tensors (FORMATS.md 2.1, 2.4).

use super::{Activation, Dictionary, Gate, Inner, Normalization, Site};
use crate::error::{Error, Result, ResultExt, nearest};
use crate::formats::{Files, Folder, TensorSet, json, npz, safetensors};
use crate::hub::{self, Place};
use crate::options::{OptionMap, OptionValue, Options, Value};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

crate::choice! {
    /// The format of an SAE file.
    pub enum SaeFormat {
        /// Found by content.
        #[default]
        Auto = "auto",
        SaeLens = "saelens",
        GemmaScope = "gemma_scope",
    }
}

crate::options! {
    /// Options of `load_sae`.
    pub struct SaeOptions {
        /// The format; found by content without it.
        format: SaeFormat = SaeFormat::Auto,
        /// Opens any file: names of its tensors (W_enc, W_dec, b_enc, b_dec, threshold), `transpose`, `activation`, `subtract_b_dec`.
        map: Option<TensorMap> = None,
        /// The hook that it reads, where the file does not say or is wrong: "blocks.5.hook_resid_post".
        hook: Option<String> = None,
        /// The model that it was trained on, for the record.
        model: Option<String> = None,
        /// k of a top-k SAE, where the file does not say or another is wanted.
        k: Option<usize> = None,
    }
}

crate::options! {
    /// The option `map` of `load_sae`: which tensor of a file is which weight.
    #[allow(non_snake_case)] // the field's own names
    pub struct MapOptions {
        /// Tensor of W_enc `[d_in, d_sae]`.
        W_enc: Option<String> = None,
        /// Tensor of W_dec `[d_sae, d_out]`.
        W_dec: Option<String> = None,
        /// Tensor of b_enc.
        b_enc: Option<String> = None,
        /// Tensor of b_dec.
        b_dec: Option<String> = None,
        /// Tensor of the JumpReLU threshold, one or one for each feature.
        threshold: Option<String> = None,
        /// Which of W_enc and W_dec are stored the other way round.
        transpose: Vec<String> = Vec::new(),
        /// relu, jumprelu, topk, abstopk or none.
        activation: String = "relu".to_string(),
        /// b_dec is subtracted from the input.
        subtract_b_dec: bool = false,
    }
}

/// The option `map` as it was given; [`MapOptions`] reads it.
#[derive(Clone, Debug)]
pub struct TensorMap(pub OptionMap);

impl OptionValue for TensorMap {
    fn kind() -> String {
        "a map of tensor names".into()
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Map(map) = value { Some(TensorMap(map.clone())) } else { None }
    }
    fn canonical(&self) -> Json {
        MapOptions::parse(&self.0).map_or(Json::Null, |map| map.canonical())
    }
}

/// The folder of a bundle (a model with its SAEs, as the demo is one) that holds the SAEs.
const SAES: &str = "saes";

/// File names that mark an SAE's folder.
pub(super) const WEIGHTS: [&str; 2] = ["sae_weights.safetensors", "params.npz"];

/// Loads an SAE or transcoder: `name` is a local path or a repository of the hub, `path` the folder or file inside it.
///
/// # Errors
/// There is none, there are several and `path` names none of them, the format is not known, or its parts do not fit.
pub fn load_sae(name: &str, path: Option<&str>, options: &SaeOptions, work: &Work) -> Result<Dictionary> {
    let what = path.map_or_else(|| name.to_string(), |path| format!("{name} {path}"));
    load(name, path, options, work).context(|| format!("loading the SAE `{what}`"))
}

fn load(name: &str, path: Option<&str>, options: &SaeOptions, work: &Work) -> Result<Dictionary> {
    let (files, path): (Arc<dyn Files>, Option<String>) = match hub::resolve(name, work)? {
        Place::Folder(files) => (files, path.map(|path| path.trim_matches('/').to_string()).filter(|path| !path.is_empty())),
        Place::File(file) => {
            if let Some(path) = path {
                return Err(Error::input(format!("it is a file: there is no `{path}` inside it")).file(file));
            }
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (Arc::new(Folder::new(folder)?), Some(file))
        }
    };
    let list = files.list()?;
    let weights = find_weights(files.as_ref(), &list, path.as_deref(), options.map.is_some())?;
    let file = files.path_of(&weights);
    let bytes = files.open(&weights)?;
    let tensors = if weights.ends_with(".npz") { npz::read(bytes, &file)? } else { safetensors::read(bytes, &file)? };
    let folder = weights.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = |file: &str| if folder.is_empty() { file.to_string() } else { format!("{folder}/{file}") };
    let read_json = |file: &str| -> Result<Option<Json>> {
        let file = beside(file);
        list.contains(&file).then(|| json::parse(files.open(&file)?.as_slice(), &files.path_of(&file))).transpose()
    };

    let is_archive = weights.ends_with(".npz");
    let format = match options.format {
        SaeFormat::Auto if is_archive && tensors.names().any(|name| name.eq_ignore_ascii_case("threshold")) => {
            SaeFormat::GemmaScope
        }
        SaeFormat::Auto if tensors.find("W_enc").is_some() && list.contains(&beside("cfg.json")) => SaeFormat::SaeLens,
        format => format,
    };
    let dictionary_name = match (&path, folder) {
        (Some(path), _) if !weights.eq(path) => format!("{name}/{path}"),
        (None, folder) if !folder.is_empty() => format!("{name}/{folder}"),
        _ => name.to_string(),
    };
    let mut inner = match (&options.map, format) {
        (Some(map), _) => mapped(&MapOptions::parse(&map.0)?, &tensors, options, dictionary_name)?,
        (None, SaeFormat::GemmaScope) => gemma_scope(&tensors, &full_path(&file), dictionary_name)?,
        (None, SaeFormat::SaeLens) => {
            let cfg =
                read_json("cfg.json")?.ok_or_else(|| Error::format("there is no cfg.json beside the weights").file(&file))?;
            let mut inner = sae_lens(&tensors, &cfg, options, dictionary_name).in_file(&file)?;
            let sparsity = beside("sparsity.safetensors");
            if list.contains(&sparsity) {
                let set = safetensors::read(files.open(&sparsity)?, &files.path_of(&sparsity))?;
                let log10 = set.get("sparsity")?.to_f64();
                if log10.len() == inner.w_dec.shape()[0] {
                    // SAELens adds 1e-10 before the logarithm; what is left of a dead feature is the rounding of f32.
                    let density = |v: f64| Some(libm::pow(10.0, v) - 1e-10).filter(|density| *density > 1e-12).unwrap_or(0.0);
                    inner = inner.with_stat("density", log10.into_iter().map(density).collect());
                } else {
                    inner.warnings.push(format!("sparsity.safetensors has {} values: left out", log10.len()));
                }
            }
            inner
        }
        (None, SaeFormat::Auto) => return Err(unrecognised(&tensors)),
    };
    if let Some(hook) = &options.hook {
        inner = at_hook(inner, hook)?;
    }
    if let (Some(k), Activation::TopK(_)) = (options.k, inner.activation) {
        inner.activation = Activation::TopK(k);
    }
    if let Some(model) = &options.model {
        inner.facts.retain(|(what, _)| what != "model_name");
        inner.facts.push(("model_name".into(), model.clone()));
    }
    inner.origin = Map::from_iter([
        ("source".to_string(), Json::from(file.display().to_string())),
        ("options".to_string(), options.canonical()),
    ]);
    Ok(inner.build())
}

/// The weights that a path means: the file itself, or the only SAE in or below the folder. In a bundle the path may begin at
/// its folder of SAEs.
fn find_weights(files: &dyn Files, list: &[String], path: Option<&str>, any: bool) -> Result<String> {
    let is_below =
        |file: &str, folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_there = |path: &&str| list.iter().any(|file| is_below(file, path));
    let in_bundle = path.filter(|path| !is_there(path)).map(|path| format!("{SAES}/{path}"));
    let path = in_bundle.as_deref().filter(is_there).or(path);
    if let Some(path) = path
        && list.iter().any(|file| file == path)
    {
        return Ok(path.to_string());
    }
    let is_weights = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        WEIGHTS.contains(&name)
            || any && (name.ends_with(".npz") || name.ends_with(".safetensors") && name != "sparsity.safetensors")
    };
    let below = |file: &str| path.is_none_or(|path| is_below(file, path));
    let all: Vec<&String> = list.iter().filter(|file| is_weights(file)).collect();
    let found: Vec<&String> = all.iter().copied().filter(|file| below(file)).collect();
    let shown = |files: &[&String]| {
        let folders: Vec<_> = files.iter().map(|f| f.rsplit_once('/').map_or(f.as_str(), |(folder, _)| folder)).collect();
        let more = if folders.len() > 8 { format!(" and {} more", folders.len() - 8) } else { String::new() };
        format!("{}{more}", folders[..folders.len().min(8)].join(", "))
    };
    match found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let what = path.map_or("there is no SAE".to_string(), |path| format!("there is no SAE at `{path}`"));
            let error = Error::input(what).file(files.name());
            let folders = all.iter().filter_map(|file| file.rsplit_once('/').map(|(folder, _)| folder));
            let error = match path.and_then(|path| nearest(path, folders)) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            };
            if all.is_empty() {
                Err(error.help(format!(
                    "an SAE's folder holds cfg.json and sae_weights.safetensors (SAELens) or params.npz (Gemma Scope); for \
                     another format name its file and pass `map`; files here: {}",
                    list.iter().take(8).cloned().collect::<Vec<_>>().join(", ")
                )))
            } else {
                Err(error.help(format!("there are: {}", shown(&all))))
            }
        }
        _ => Err(Error::input(format!("there are {} SAEs: name one by its path", found.len()))
            .file(files.name())
            .help(format!("they are: {}", shown(&found)))),
    }
}

/// The whole path of a local file, for facts that stand in names of folders above.
pub(super) fn full_path(file: &Path) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())
}

fn at_hook(inner: Inner, hook: &str) -> Result<Inner> {
    let Some((site, layer)) = Site::of_hook(hook) else {
        return Err(Error::input(format!("the hook `{hook}` is not known")).help(
            "hooks are named as in TransformerLens: blocks.5.hook_resid_post, blocks.5.attn.hook_z, blocks.5.hook_mlp_out, \
             blocks.5.mlp.hook_post",
        ));
    };
    let Inner { name, format, w_enc, w_dec, .. } = inner.clone();
    let placed = Inner::new(name, &format, site, layer, w_enc, w_dec);
    Ok(Inner { site, layer, hook: placed.hook, hook_out: None, read: placed.read, write: placed.write, ..inner })
}

/// Fails unless a tensor has this shape.
fn check_shape(tensors: &TensorSet, name: &str, shape: &[usize], format: &str) -> Result<Tensor> {
    let tensor = tensors.get(name)?;
    if tensor.shape() == shape {
        return Ok(tensor.clone());
    }
    Err(Error::shape(format!("its shape is {:?}, but a {format} SAE has {shape:?} here", tensor.shape()))
        .file(&tensors.source)
        .tensor(name))
}

// ---- SAELens ----------------------------------------------------------------------------------------------------------

/// A number, also when written as text.
pub(super) fn size(value: &Json) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    usize::try_from(number).ok()
}

/// What a cfg.json says under the first of `keys` that it has, in `metadata` or outside; null where it has none.
pub(super) fn fact<'a>(cfg: &'a Json, keys: &[&str]) -> &'a Json {
    let stored = keys.iter().flat_map(|key| [&cfg["metadata"][*key], &cfg[*key]]);
    stored.into_iter().find(|value| !value.is_null()).unwrap_or(&Json::Null)
}

/// A SAELens SAE. Version 6 keeps what is not about the weights in `metadata`; older versions are flat, and version 2 has
/// other names.
fn sae_lens(tensors: &TensorSet, cfg: &Json, options: &SaeOptions, name: String) -> Result<Inner> {
    let fact = |keys: &[&str]| fact(cfg, keys);
    let version = fact(&["sae_lens_version"]).as_str().map_or("before 6", |version| version);
    let format = format!("SAELens {version}");
    let architecture = cfg["architecture"].as_str().unwrap_or("standard");
    let function = fact(&["activation_fn_str", "activation_fn"]).as_str().unwrap_or("relu");
    let stored_k = size(&cfg["k"]).or_else(|| size(&cfg["activation_fn_kwargs"]["k"]));
    let k =
        || options.k.or(stored_k).ok_or_else(|| Error::format("its cfg.json gives no k").help("pass it: load_sae(…, #{k: 32})"));
    // TopK was often saved as `standard` with a top-k activation function.
    let activation = match (architecture, function) {
        ("topk", _) | ("standard", "topk") => Activation::TopK(k()?),
        ("abstopk", _) => Activation::AbsTopK(k()?),
        ("standard", "relu") => Activation::Relu,
        ("standard", other) => {
            return Err(Error::format(format!("the activation function `{other}` is not known")).help("known: relu, topk"));
        }
        ("jumprelu", _) => Activation::JumpRelu,
        ("gated", _) => Activation::Gated,
        (other, _) => {
            return Err(Error::format(format!("the SAELens architecture `{other}` is not known"))
                .help("known: standard, gated, jumprelu, topk, abstopk; for another pass `map`"));
        }
    };
    if !fact(&["hook_head_index", "hook_point_head_index"]).is_null() {
        return Err(Error::format("it reads a single head (hook_head_index), which is not known how to place"));
    }

    let (d_in, n) = tensors.get("W_enc")?.matrix_shape("W_enc").map_err(|e| e.tensor("W_enc"))?;
    let (_, d_out) = tensors.get("W_dec")?.matrix_shape("W_dec").map_err(|e| e.tensor("W_dec"))?;
    let w_enc = check_shape(tensors, "W_enc", &[d_in, n], "SAELens")?;
    let mut w_dec = check_shape(tensors, "W_dec", &[n, d_out], "SAELens")?;
    let vector = |name: &str| check_shape(tensors, name, &[n], "SAELens");
    let mut warnings = Vec::new();
    let mut rewrites = Vec::new();
    for (key, stored) in [("d_in", d_in), ("d_sae", n)] {
        if let Some(claimed) = size(&cfg[key]).filter(|claimed| *claimed != stored) {
            warnings.push(format!("cfg.json says {key} {claimed}, the tensors have {stored}: {stored} is taken"));
        }
    }
    let gate = match activation {
        Activation::Gated => Some(Gate { b_gate: vector("b_gate")?, b_mag: vector("b_mag")?, r_mag: vector("r_mag")? }),
        _ => None,
    };
    let threshold = match (activation, tensors.find("threshold"), tensors.find("log_threshold")) {
        (Activation::JumpRelu, None, Some(_)) => {
            rewrites.push("threshold = exp(log_threshold)".to_string());
            Some(Tensor::vector(vector("log_threshold")?.to_f32().into_iter().map(libm::expf).collect()))
        }
        (Activation::JumpRelu, ..) => Some(vector("threshold")?),
        _ => None,
    };
    for scaling in ["scaling_factor", "finetuning_scaling_factor"] {
        if tensors.find(scaling).is_none() {
            continue;
        }
        let factors = vector(scaling)?.to_f32();
        if factors.iter().any(|factor| *factor != 1.0) {
            for (row, factor) in w_dec.make_mut_f32().chunks_mut(d_out.max(1)).zip(factors) {
                row.iter_mut().for_each(|v| *v *= factor);
            }
            rewrites.push(format!("rows of W_dec multiplied by {scaling}"));
        }
    }
    let normalization = match fact(&["normalize_activations"]) {
        Json::Null | Json::Bool(false) => Normalization::None,
        Json::Bool(true) => Normalization::Folded,
        Json::String(kind) => match kind.as_str() {
            "none" => Normalization::None,
            "expected_average_only_in" => Normalization::Folded,
            "layer_norm" => Normalization::LayerNorm,
            "constant_norm_rescale" => Normalization::ConstantNorm,
            other => return Err(Error::format(format!("normalize_activations `{other}` is not known"))),
        },
        other => return Err(Error::format(format!("normalize_activations is {other}"))),
    };
    if normalization == Normalization::Folded {
        warnings.push("trained on inputs of a fixed average norm; the factor is taken to be folded into the weights".into());
    }

    let mut inner = Inner::new(name, &format, Site::ResidPost, None, Some(w_enc), w_dec);
    inner.b_enc = if gate.is_none() { Some(vector("b_enc")?) } else { None };
    inner.b_dec = Some(check_shape(tensors, "b_dec", &[d_out], "SAELens")?);
    inner.threshold = threshold;
    inner.gate = gate;
    inner.signed = matches!(activation, Activation::AbsTopK(_));
    inner.activation = activation;
    inner.subtract_b_dec = fact(&["apply_b_dec_to_input"]).as_bool().unwrap_or(true);
    inner.normalization = normalization;
    inner.rescale = cfg["rescale_acts_by_decoder_norm"].as_bool().unwrap_or(false);
    inner.rewrites = rewrites;
    inner.warnings = warnings;
    for (what, keys) in [
        ("model_name", &["model_name"][..]),
        ("architecture", &["architecture"]),
        ("prepend_bos", &["prepend_bos"]),
        ("context_size", &["context_size"]),
        ("dataset", &["dataset_path"]),
        ("model_from_pretrained_kwargs", &["model_from_pretrained_kwargs"]),
        ("neuronpedia_id", &["neuronpedia_id"]),
    ] {
        let value = fact(keys);
        if !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) {
            inner.facts.push((what.into(), value.as_str().map_or_else(|| value.to_string(), str::to_string)));
        }
    }
    if let Json::Object(metadata) = &cfg["metadata"] {
        inner.metadata = metadata.clone();
    }
    match (fact(&["hook_name", "hook_point"]).as_str(), &options.hook) {
        (Some(hook), None) => at_hook(inner, hook),
        (None, None) => {
            Err(Error::format("its cfg.json names no hook").help("pass it: load_sae(…, #{hook: \"blocks.5.hook_resid_post\"})"))
        }
        (_, Some(_)) => Ok(inner),
    }
}

// ---- Gemma Scope --------------------------------------------------------------------------------------------------------

/// A Gemma Scope 1 archive. Its arrays say nothing of layer and site: those stand in the path.
fn gemma_scope(tensors: &TensorSet, path: &Path, name: String) -> Result<Inner> {
    let stored = |key: &str| {
        let lower = key.to_lowercase();
        if tensors.find(key).is_none() && tensors.find(&lower).is_some() { lower } else { key.to_string() }
    };
    let n = tensors.get(&stored("b_enc"))?.numel();
    let d_in = tensors.get(&stored("W_enc"))?.shape().first().copied().unwrap_or(0);
    let d_out = tensors.get(&stored("b_dec"))?.numel();
    let get = |key: &str, shape: &[usize]| check_shape(tensors, &stored(key), shape, "Gemma Scope");
    let (w_enc, w_dec) = (get("W_enc", &[d_in, n])?, get("W_dec", &[n, d_out])?);

    let PathFacts { site, layer, repository, width, average_l0 } = path_facts(path);
    let mut inner = Inner::new(name, "Gemma Scope", site.unwrap_or_default(), layer, Some(w_enc), w_dec);
    if site == Some(Site::Ln2Normalized) {
        inner.hook_out = Some(Site::MlpOut.hook(layer));
    }
    if site.is_none() {
        inner.warnings.push(
            "its path names no site (gemma-scope-…-res, -mlp, -att): taken as a dictionary of the residual stream; \
             name its hook if it is another"
                .into(),
        );
    }
    inner.b_enc = Some(get("b_enc", &[n])?);
    inner.b_dec = Some(get("b_dec", &[d_out])?);
    inner.threshold = Some(get("threshold", &[n])?);
    inner.activation = Activation::JumpRelu;
    if let Some(repository) = repository {
        // gemma-scope-2b-pt-res → gemma-2-2b, gemma-scope-9b-it-res → gemma-2-9b-it
        let mut words = repository.trim_start_matches("gemma-scope-").split('-');
        if let (Some(size), Some(tuning)) = (words.next(), words.next()) {
            let tuned = if tuning == "it" { "-it" } else { "" };
            inner.facts.push(("model_name".into(), format!("gemma-2-{size}{tuned}")));
        }
    }
    inner.facts.extend(width.map(|width| ("width".to_string(), width)));
    inner.facts.extend(average_l0.map(|l0| ("average_l0".to_string(), l0)));
    Ok(inner)
}

/// What the path of a Gemma Scope 1 archive says: `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz`.
pub(super) struct PathFacts {
    pub site: Option<Site>,
    pub layer: Option<usize>,
    repository: Option<String>,
    width: Option<String>,
    average_l0: Option<String>,
}

pub(super) fn path_facts(path: &Path) -> PathFacts {
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let numbered = |prefix: &str| parts.iter().rev().find_map(|part| part.strip_prefix(prefix)).map(str::to_string);
    let layer = numbered("layer_").and_then(|layer| layer.parse::<usize>().ok());
    // A cached repository is called `models--google--gemma-scope-2b-pt-res`.
    let repository = parts.iter().rev().find_map(|part| part.find("gemma-scope-").map(|at| part[at..].to_string()));
    let site = match repository.as_deref().and_then(|name| name.rsplit('-').next()) {
        _ if parts.iter().any(|part| part == "embedding") => Some(Site::Embed),
        Some("res") => Some(Site::ResidPost),
        Some("mlp") => Some(Site::MlpOut),
        Some("att") => Some(Site::Z),
        Some("transcoders") => Some(Site::Ln2Normalized),
        _ => None,
    };
    let layer = layer.filter(|_| site.is_some() && site != Some(Site::Embed));
    PathFacts { site, layer, repository, width: numbered("width_"), average_l0: numbered("average_l0_") }
}

// ---- anything else ------------------------------------------------------------------------------------------------------

/// An SAE whose tensors the user has named.
fn mapped(map: &MapOptions, tensors: &TensorSet, options: &SaeOptions, name: String) -> Result<Inner> {
    for given in &map.transpose {
        if given != "W_enc" && given != "W_dec" {
            return Err(Error::input(format!("`transpose` in `map` names `{given}`")).help("it takes \"W_enc\" and \"W_dec\""));
        }
    }
    let matrix = |key: &str, name: &Option<String>| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let tensor = tensors.get(name)?;
        tensor.matrix_shape(key).map_err(|e| e.file(&tensors.source).tensor(name.as_str()))?;
        Ok(Some(if map.transpose.iter().any(|t| t == key) { tensor.t() } else { tensor.clone() }))
    };
    let w_enc = matrix("W_enc", &map.W_enc)?;
    let Some(w_dec) = matrix("W_dec", &map.W_dec)? else {
        return Err(Error::input("`map` names no W_dec").help(listing(tensors)));
    };
    let (n, d_out) = (w_dec.shape()[0], w_dec.shape()[1]);
    if let Some(w_enc) = w_enc.as_ref().filter(|w| w.shape()[1] != n) {
        let message =
            format!("W_enc is {:?} and W_dec {:?}: [d_in, d_sae] and [d_sae, d_out] are needed", w_enc.shape(), w_dec.shape());
        return Err(Error::shape(message)
            .file(&tensors.source)
            .help("name what is stored the other way round in `transpose`: [\"W_enc\"]"));
    }
    let vector = |name: &Option<String>, len: usize| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let tensor = tensors.get(name)?;
        match tensor.numel() {
            size if size == len => Ok(Some(tensor.reshape(&[len])?)),
            // One threshold for all features.
            1 => Ok(Some(Tensor::vector(vec![tensor.to_f32()[0]; len]))),
            size => {
                Err(Error::shape(format!("has {size} values, but {len} are needed")).file(&tensors.source).tensor(name.as_str()))
            }
        }
    };
    let threshold = vector(&map.threshold, n)?;
    let k = || options.k.ok_or_else(|| Error::input("a top-k SAE needs its k").help("pass it beside the map: #{map: …, k: 32}"));
    let activation = match map.activation.as_str() {
        "none" => Activation::None,
        "relu" => Activation::Relu,
        "jumprelu" if threshold.is_none() => return Err(Error::input("a JumpReLU SAE needs a `threshold` in `map`")),
        "jumprelu" => Activation::JumpRelu,
        "topk" => Activation::TopK(k()?),
        "abstopk" => Activation::AbsTopK(k()?),
        other => {
            return Err(Error::input(format!("the activation `{other}` in `map` is not known"))
                .help("known: none, relu, jumprelu, topk, abstopk"));
        }
    };
    let mut inner = Inner::new(name, "mapped", Site::ResidPost, None, w_enc, w_dec);
    inner.b_enc = vector(&map.b_enc, n)?;
    inner.b_dec = vector(&map.b_dec, d_out)?;
    inner.threshold = threshold;
    inner.signed = matches!(activation, Activation::AbsTopK(_));
    inner.activation = activation;
    inner.subtract_b_dec = map.subtract_b_dec;
    Ok(inner)
}

/// The tensors of a file with shapes and dtypes, for a message.
fn listing(tensors: &TensorSet) -> String {
    let shown: Vec<_> = tensors.iter().take(12).map(|(name, t)| format!("{name} {:?} {}", t.shape(), t.dtype())).collect();
    let more = if tensors.len() > 12 { format!(" and {} more", tensors.len() - 12) } else { String::new() };
    format!("its tensors are: {}{more}", shown.join(", "))
}

fn unrecognised(tensors: &TensorSet) -> Error {
    Error::format("this is no SAE format that is known").file(&tensors.source).help(listing(tensors)).help(
        "known: SAELens (cfg.json beside it), Gemma Scope (params.npz); open anything else with \
               #{map: #{W_enc: \"…\", W_dec: \"…\", b_enc: \"…\", b_dec: \"…\", transpose: [\"W_enc\"], activation: \"relu\"}}",
    )
}
