//! EleutherAI's sparsify: `layers.5.mlp/sae.safetensors` with `cfg.json` (FORMATS 2.6). The folder is the module whose output
//! is read: W_dec is stored as it is used, W_enc as a linear layer stores it.

use super::beside::{Beside, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, HookPoint, Inner, Site};
use crate::error::{Error, Result};

pub(super) const FAMILY: Family = Family {
    name: "sparsify",
    format: SaeFormat::Sparsify,
    said,
    holds: |source| source.has(&["encoder.weight", "encoder.bias", "W_dec", "b_dec"]),
    read,
};

const LAYOUT: Layout =
    Layout { w_enc: Stored::Transposed("encoder.weight"), w_dec: Stored::AsUsed("W_dec"), b_enc: "encoder.bias", b_dec: "b_dec" };

fn said(beside: &Beside) -> Option<Said> {
    let config = beside.config("cfg.json");
    let own_keys = ["num_latents", "normalize_decoder", "multi_topk"];
    if !own_keys.iter().any(|key| !config[*key].is_null()) && (config.is_null() || beside.file() != "sae.safetensors") {
        return None;
    }
    let module = beside.parts().nth(1).filter(|name| HookPoint::parse(name).is_some()).map(str::to_string);
    let transcodes = config["transcode"].as_bool().unwrap_or(false);
    let hook_out = module.clone().filter(|_| transcodes);
    // A transcoder reads what the module reads.
    let hook = module.map(|module| if transcodes { format!("{module}.input") } else { module });
    let d_sae = size(&config["num_latents"]).filter(|n| *n > 0);
    Some(Said { hook, hook_out, d_in: size(&config["d_in"]), d_sae, ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    let config = source.beside.config("cfg.json");
    let weights = source.weights(&LAYOUT)?;
    let k = source.k(size(&config["k"]))?;
    let activation = match config["activation"].as_str() {
        _ if config["signed"].as_bool().unwrap_or(false) => Activation::AbsTopK(k),
        Some("topk") | None => Activation::TopK(k),
        Some("groupmax") if k > 0 && weights.n().is_multiple_of(k) => Activation::GroupMax(k),
        Some("groupmax") => {
            return Err(Error::format(format!("its {} features do not fall into k = {k} groups of equal size", weights.n())));
        }
        Some(other) => return Err(Error::format(format!("its activation `{other}` is not known")).help("known: topk, groupmax")),
    };
    let transcodes = config["transcode"].as_bool().unwrap_or(false);
    let said = said(&source.beside).unwrap_or_default();
    let (d_in, d_out) = (weights.w_enc.shape()[0], weights.w_dec.shape()[1]);
    let mut inner = source.sae(weights, &said)?;
    inner.w_skip = source.has(&["W_skip"]).then(|| source.tensor("W_skip", &[d_out, d_in])).transpose()?;
    inner.signed = matches!(activation, Activation::AbsTopK(_));
    inner.activation = activation;
    inner.subtract_b_dec = !transcodes;
    if let Some(claimed) = said.d_sae.filter(|claimed| *claimed != inner.numbered) {
        inner.warnings.push(format!("cfg.json says num_latents {claimed}, the tensors have {0}: {0} is taken", inner.numbered));
    }
    if inner.site == Site::MlpOut && !transcodes {
        inner.facts.push(("output of".into(), "the MLP itself, before a post-norm".into()));
    }
    Ok(inner)
}
