//! SAEs → SAELens's layout: `cfg.json` and `sae_weights.safetensors`, with firing frequencies `sparsity.safetensors`
//! (FORMATS.md 2.4, version 6).

use super::{Activation, Dictionary, Normalization, Site};
use crate::error::{Error, Result};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json, json};
use std::path::Path;

crate::choice! {
    /// How the numbers of a file are stored.
    pub enum Precision {
        #[default]
        F32 = "f32",
        BF16 = "bf16",
    }
}

/// The version of SAELens whose layout is written.
const VERSION: &str = "6.54.12";

/// Writes an SAE into a folder, which is made where it is missing. Each file is written whole or not at all; a folder whose
/// writing was cut off has no `cfg.json`.
///
/// # Errors
/// It is no SAE that SAELens knows, the folder cannot be written, or the user asked to stop.
pub fn save_sae(dictionary: &Dictionary, folder: &Path, precision: Precision, work: &Work) -> Result<()> {
    let inner = &dictionary.0;
    let architecture = match inner.activation {
        Activation::Relu => "standard",
        // What SAELens makes of a trained batch top-k too.
        Activation::JumpRelu | Activation::BatchTopK(_) => "jumprelu",
        Activation::TopK(_) => "topk",
        Activation::AbsTopK(_) => "abstopk",
        Activation::Gated => "gated",
        Activation::None => return unfit(dictionary, "it has no activation function"),
        Activation::GroupMax(_) | Activation::MatchingPursuit { .. } => {
            return unfit(dictionary, "its activation function is not one that can be written");
        }
    };
    let (Some(w_enc), Some(b_dec)) = (&inner.w_enc, &inner.b_dec) else {
        return unfit(dictionary, "it has no encoder or no b_dec");
    };
    if inner.out.is_some() || dictionary.d_in() != dictionary.d_out() {
        return unfit(dictionary, "it writes elsewhere than it reads");
    }
    if matches!(inner.normalization, Normalization::Constant(_)) {
        return unfit(dictionary, "its input is scaled by a factor that has no place in the files");
    }
    let mut weights = TensorSet::new(folder);
    weights.insert("W_enc", w_enc.row_major(work)?);
    weights.insert("W_dec", inner.w_dec.row_major(work)?);
    weights.insert("b_dec", b_dec.clone());
    let gate = inner.gate.iter().flat_map(|gate| [("b_gate", &gate.b_gate), ("b_mag", &gate.b_mag), ("r_mag", &gate.r_mag)]);
    let vectors = [("b_enc", &inner.b_enc), ("threshold", &inner.threshold)];
    let vectors = vectors.into_iter().filter_map(|(name, tensor)| tensor.as_ref().map(|tensor| (name, tensor)));
    for (name, tensor) in vectors.chain(gate) {
        weights.insert(name, tensor.clone());
    }

    let mut metadata = Map::from_iter([
        ("sae_lens_version".to_string(), json!(VERSION)),
        ("sae_lens_training_version".to_string(), Json::Null),
        ("hook_name".to_string(), json!(inner.hook)),
        ("hook_head_index".to_string(), Json::Null),
    ]);
    // What a file said keeps its keys; facts have what an older layout held elsewhere.
    for key in ["model_name", "neuronpedia_id"] {
        let fact = inner.facts.iter().find(|(what, _)| what == key);
        metadata.extend(fact.map(|(_, value)| (key.to_string(), json!(value))));
    }
    let own = |key: &str| ["hook_name", "hook_head_index", "sae_lens_version"].contains(&key);
    metadata.extend(inner.metadata.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), value.clone())));
    let mut cfg = json!({
        "d_in": dictionary.d_in(),
        "d_sae": dictionary.n(),
        // What SAELens computes in; the tensors say how they are stored.
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": inner.subtract_b_dec,
        "normalize_activations": if inner.normalization == Normalization::Folded { "none" } else { inner.normalization.name() },
        "reshape_activations": if inner.site == Site::Z { "hook_z" } else { "none" },
        "metadata": metadata,
        "architecture": architecture,
    });
    if let Some(k) = inner.activation.k().filter(|_| architecture != "jumprelu") {
        cfg["k"] = json!(k);
        cfg["rescale_acts_by_decoder_norm"] = json!(inner.rescale);
    }
    let cfg = format!("{cfg:#}\n");

    let cfg_file = folder.join("cfg.json");
    match std::fs::remove_file(&cfg_file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&e, &cfg_file)),
        _ => {}
    }
    files::write_detached(&folder.join("sae_weights.safetensors"), work, move |out| match precision {
        Precision::F32 => safetensors::write_to(&weights, out),
        Precision::BF16 => safetensors::write_bf16_to(&weights, out),
    })?;
    let sparsity_file = folder.join("sparsity.safetensors");
    match dictionary.density() {
        Some(density) => {
            let mut set = TensorSet::new(&sparsity_file);
            // SAELens adds 1e-10, which keeps log10 of a dead feature finite.
            let log10 = density.into_iter().map(|v| libm::log10(v + 1e-10) as f32);
            set.insert("sparsity", Tensor::vector(log10.collect()));
            files::write_atomic(&sparsity_file, &safetensors::write(&set)?)?;
        }
        None => match std::fs::remove_file(&sparsity_file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&e, &sparsity_file)),
            _ => {}
        },
    }
    files::write_atomic(&cfg_file, cfg.as_bytes())
}

fn unfit(dictionary: &Dictionary, why: &str) -> Result<()> {
    Err(Error::input(format!("{} cannot be saved as an SAE: {why}", dictionary.name()))
        .help("its tensors can: save(#{ W_dec: d.W_dec }, \"directions.safetensors\")"))
}
