//! dictionary_learning: `resid_post_layer_12/trainer_0/ae.pt` with `config.json`, in six classes (FORMATS 2.7).

use super::beside::{Beside, number_after, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Gate, Inner, Site};
use crate::error::{Error, Result};
use serde_json::Value as Json;

pub(super) const FAMILY: Family = Family {
    name: "dictionary_learning",
    format: SaeFormat::DictionaryLearning,
    said,
    holds: |source| !config(&source.beside)["dict_class"].is_null() || class_by_keys(source).is_some(),
    read,
};

const LINEAR: Layout = Layout {
    w_enc: Stored::Transposed("encoder.weight"),
    w_dec: Stored::Transposed("decoder.weight"),
    b_enc: "encoder.bias",
    // `bias` alone is the decoder's (trap 4).
    b_dec: "bias",
};
const NEW: Layout = Layout { b_dec: "decoder.bias", ..LINEAR };
const TOP_K: Layout = Layout { b_dec: "b_dec", ..LINEAR };
const GATED: Layout = Layout { b_enc: "gate_bias", b_dec: "decoder_bias", ..LINEAR };
const PARAMETERS: Layout =
    Layout { w_enc: Stored::AsUsed("W_enc"), w_dec: Stored::AsUsed("W_dec"), b_enc: "b_enc", b_dec: "b_dec" };

/// What the trainer wrote down; null without a configuration.
fn config(beside: &Beside) -> &Json {
    &beside.config("config.json")["trainer"]
}

fn said(beside: &Beside) -> Option<Said> {
    let config = config(beside);
    if config["dict_class"].is_null() && !beside.parts().any(|part| part.starts_with("trainer_")) {
        return None;
    }
    let module = config["submodule_name"].as_str();
    let names = module.into_iter().chain(beside.parts());
    let hook = names.filter_map(place_of).next().map(|(site, layer)| site.hook(Some(layer)));
    Some(Said {
        hook,
        layer: size(&config["layer"]),
        model: config["lm_name"].as_str().map(str::to_string),
        d_in: size(&config["activation_dim"]),
        d_sae: size(&config["dict_size"]),
        ..Said::default()
    })
}

/// `resid_post_layer_12` is a site and a layer.
fn place_of(name: &str) -> Option<(Site, usize)> {
    let sites = [Site::ResidPost, Site::ResidPre, Site::ResidMid, Site::MlpOut, Site::AttnOut];
    let own = |site: &Site| number_after(name, &format!("{}_layer_", site.name())).map(|layer| (*site, layer));
    sites.iter().find_map(own).or_else(|| number_after(name, "attention_out_layer_").map(|layer| (Site::AttnOut, layer)))
}

/// The class that the names of the tensors show. Top-k and batch top-k have the same: one without a configuration is read as
/// the former.
fn class_by_keys(source: &Source) -> Option<&'static str> {
    let linear = source.has(&["encoder.weight", "decoder.weight"]);
    let parameters = source.has(&["W_enc", "W_dec", "b_enc", "b_dec", "threshold"]);
    let has_k = source.options.k.is_some() || source.stored_k().is_ok_and(|k| k.is_some());
    let is_checkpoint = source.beside.file().ends_with(".pt");
    if linear && source.has(&["r_mag", "gate_bias", "mag_bias"]) {
        Some("GatedAutoEncoder")
    } else if linear && source.has(&["encoder.bias", "bias"]) {
        Some("AutoEncoder")
    } else if linear && source.has(&["encoder.bias", "b_dec"]) && has_k {
        Some("AutoEncoderTopK")
    } else if parameters && source.has(&["group_sizes"]) && has_k {
        Some("MatryoshkaBatchTopKSAE")
    } else if parameters && is_checkpoint {
        Some("JumpReluAutoEncoder")
    } else {
        None
    }
}

fn read(source: &Source) -> Result<Inner> {
    let config = config(&source.beside);
    let class = config["dict_class"].as_str().or_else(|| class_by_keys(source));
    let said = said(&source.beside).unwrap_or_default();
    let stored_k = source.stored_k()?.or_else(|| size(&config["k"]));
    let of = |layout: &Layout, activation: Activation, subtract_b_dec: bool| -> Result<Inner> {
        let mut inner = source.sae(source.weights(layout)?, &said)?;
        (inner.activation, inner.subtract_b_dec) = (activation, subtract_b_dec);
        Ok(inner)
    };
    let mut inner = match class {
        Some("AutoEncoder") => of(&LINEAR, Activation::Relu, true)?,
        Some("AutoEncoderNew") => of(&NEW, Activation::Relu, false)?,
        Some("AutoEncoderTopK") => of(&TOP_K, Activation::TopK(source.k(stored_k)?), true)?,
        Some("BatchTopKSAE") => batch_top_k(source, of(&TOP_K, Activation::None, true)?, stored_k)?,
        Some("MatryoshkaBatchTopKSAE") => batch_top_k(source, of(&PARAMETERS, Activation::None, true)?, stored_k)?,
        Some("JumpReluAutoEncoder") => {
            let mut inner = of(&PARAMETERS, Activation::JumpRelu, false)?;
            inner.threshold = Some(source.for_each("threshold", inner.numbered)?);
            inner
        }
        Some("GatedAutoEncoder") => {
            let mut inner = of(&GATED, Activation::Gated, true)?;
            let vector = |name| source.tensor(name, &[inner.numbered]);
            inner.gate = Some(Gate { b_gate: vector("gate_bias")?, b_mag: vector("mag_bias")?, r_mag: vector("r_mag")? });
            inner.b_enc = None;
            inner
        }
        other => {
            let class = other.unwrap_or("without a name");
            return Err(Error::format(format!("the dictionary_learning class `{class}` is not known")).help(
                "known: AutoEncoder, AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE, JumpReluAutoEncoder, \
                 GatedAutoEncoder; for another pass `map`",
            ));
        }
    };
    inner.facts.extend(class.map(|class| ("class".to_string(), class.to_string())));
    Ok(inner)
}

/// Encodes with the threshold that training has found; a negative one was never set (trap 5).
fn batch_top_k(source: &Source, mut inner: Inner, k: Option<usize>) -> Result<Inner> {
    let k = source.k(k)?;
    match source.number("threshold")?.filter(|threshold| *threshold >= 0.0) {
        Some(_) => {
            inner.threshold = Some(source.for_each("threshold", inner.numbered)?);
            inner.activation = Activation::BatchTopK(k);
        }
        None => {
            inner.activation = Activation::TopK(k);
            inner.warnings.push(format!("its threshold was never set: the {k} largest of each input are kept instead"));
        }
    }
    Ok(inner)
}
