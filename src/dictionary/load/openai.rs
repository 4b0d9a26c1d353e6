//! OpenAI's SAEs of GPT-2 small: `resid_post_mlp_v5_32k/autoencoders/6.pt` (FORMATS 2.8).

use super::beside::{Beside, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner, Normalization, Site};
use crate::error::{Error, Result};

pub(super) const FAMILY: Family = Family {
    name: "OpenAI",
    format: SaeFormat::OpenAi,
    said,
    holds: |source| source.has(&["pre_bias", "latent_bias", "encoder.weight"]),
    read,
};

const LAYOUT: Layout = Layout {
    w_enc: Stored::Transposed("encoder.weight"),
    w_dec: Stored::Transposed("decoder.weight"),
    b_enc: "latent_bias",
    b_dec: "pre_bias",
};

/// Names of places in the paths. `delta` is what a module adds.
const PLACES: [(&str, Site); 5] = [
    ("resid_delta_attn", Site::AttnOut),
    ("resid_delta_mlp", Site::MlpOut),
    ("resid_post_attn", Site::ResidMid),
    ("resid_post_mlp", Site::ResidPost),
    ("mlp_post_act", Site::MlpPost),
];

fn said(beside: &Beside) -> Option<Said> {
    let layer = beside.file().strip_suffix(".pt")?.parse::<usize>().ok()?;
    let (_, site) = PLACES.iter().find(|(name, _)| beside.parts().any(|part| part.starts_with(name)))?;
    Some(Said { hook: Some(site.hook(Some(layer))), model: Some("gpt2".into()), ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    let facts = &source.tensors.metadata;
    let k = facts.get("activation_state_dict.k").map(|k| size(&k.as_str().into())).unwrap_or_default();
    let (activation, normalization) = match facts.get("activation").map(String::as_str) {
        Some("ReLU") => (Activation::Relu, Normalization::None),
        Some("TopK") | None if k.is_some() || source.options.k.is_some() => {
            (Activation::TopK(source.k(k)?), Normalization::LayerNorm)
        }
        None => (Activation::Relu, Normalization::None),
        Some(other) => {
            return Err(Error::format(format!("its activation function `{other}` is not known")).help("known: ReLU, TopK"));
        }
    };
    let mut inner = source.sae(source.weights(&LAYOUT)?, &said(&source.beside).unwrap_or_default())?;
    (inner.activation, inner.normalization) = (activation, normalization);
    inner.subtract_b_dec = true;
    Ok(inner)
}
