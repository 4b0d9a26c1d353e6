//! The transcoders of circuit-tracer: one file a layer, and cross-layer ones with a file of encoders and one of decoders a
//! layer (FORMATS 2.11). W_enc is stored turned round, W_dec as it is used. What they read is not in the weights: the MLP's
//! input with its gain, without it, or the residual stream itself (trap 11).

use super::beside::{Beside, number_after, size};
use super::source::{Layout, Source, Stored, known};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner, Site};
use crate::error::{Error, Result};

pub(super) const LAYER: Family = Family {
    name: "circuit-tracer transcoder",
    format: SaeFormat::CircuitTracer,
    said: |beside| beside.file().starts_with("layer_").then(|| said(beside)).flatten(),
    holds: |source| {
        source.has(&["W_enc", "W_dec", "b_enc", "b_dec"])
            && ((LAYER.said)(&source.beside).is_some() || source.is_laid_out(&LAYOUT))
    },
    read,
};

pub(super) const CROSS_LAYER: Family = Family {
    name: "circuit-tracer CLT",
    format: SaeFormat::CrossLayer,
    said: |beside| beside.file().starts_with("W_enc_").then(|| said(beside)).flatten(),
    holds: |source| source.tensors.names().any(|name| name.starts_with("W_enc_")),
    read: read_cross_layer,
};

const LAYOUT: Layout =
    Layout { w_enc: Stored::Transposed("W_enc"), w_dec: Stored::AsUsed("W_dec"), b_enc: "b_enc", b_dec: "b_dec" };
/// An older repository stores W_dec turned round too.
const OLDER: Layout = Layout { w_dec: Stored::Transposed("W_dec"), ..LAYOUT };

/// What the published repositories read that have no `config.yaml`, or one that does not say it.
const INPUTS: [(&str, &str); 3] =
    [("qwen3-", "mlp.hook_in"), ("transcoder-Llama-3.2", "hook_resid_mid"), ("clt-", "hook_resid_mid")];

fn said(beside: &Beside) -> Option<Said> {
    let layer = beside.file().strip_suffix(".safetensors")?.rsplit('_').next()?.parse::<usize>().ok()?;
    let config = beside.config("config.yaml");
    let place = |name: &str| format!("blocks.{layer}.{}", name.trim_start_matches("blocks.*."));
    let published = || INPUTS.iter().find(|(repository, _)| beside.mentions(repository)).map(|(_, input)| *input);
    let hook = config["feature_input_hook"].as_str().or_else(published).map(place);
    let hook_out = config["feature_output_hook"].as_str().map_or_else(|| Site::MlpOut.hook(Some(layer)), place);
    let model = config["model_name"].as_str().map(str::to_string);
    Some(Said {
        hook,
        layer: Some(layer),
        hook_out: Some(hook_out),
        model,
        d_sae: size(&config["d_transcoder"]),
        ..Said::default()
    })
}

/// Where the input is not named, nothing else tells it.
fn input_needed(source: &Source, said: &Said) -> Result<()> {
    if said.hook.is_some() || source.options.hook.is_some() {
        return Ok(());
    }
    let layer = said.layer.unwrap_or(0);
    Err(Error::format("a transcoder's weights do not say what it reads, nor does anything beside them")
        .file(&source.tensors.source)
        .help(format!(
            "name its hook: blocks.{layer}.mlp.hook_in (the MLP's input with the norm's gain: Qwen3, Gemma 3), \
             blocks.{layer}.ln2.hook_normalized (without it: Gemma 2), blocks.{layer}.hook_resid_mid (no norm: Llama 3.2)"
        )))
}

/// Where the user has named the input alone, the output is the MLP's of the same layer.
fn with_output(source: &Source, mut said: Said) -> Result<Said> {
    input_needed(source, &said)?;
    if let (None, Some(hook)) = (&said.hook_out, &source.options.hook) {
        said.hook_out = Some(Site::MlpOut.hook(known(hook)?.layer));
    }
    Ok(said)
}

fn read(source: &Source) -> Result<Inner> {
    let said = with_output(source, said(&source.beside).unwrap_or_default())?;
    let layout = if source.is_laid_out(&OLDER) { OLDER } else { LAYOUT };
    let weights = source.weights(&layout)?;
    let (d_in, d_out) = (weights.w_enc.shape()[0], weights.w_dec.shape()[1]);
    let mut inner = source.sae(weights, &said)?;
    inner.w_skip = source.has(&["W_skip"]).then(|| source.tensor("W_skip", &[d_out, d_in])).transpose()?;
    let threshold = ["threshold", "activation_function.threshold"].into_iter().find(|name| source.has(&[name]));
    inner.activation = match (threshold, source.options.k.or(source.number("k")?.map(|k| k as usize))) {
        (Some(name), _) => {
            inner.threshold = Some(source.for_each(name, inner.numbered)?);
            Activation::JumpRelu
        }
        (None, Some(k)) => Activation::TopK(k),
        (None, None) => Activation::Relu,
    };
    Ok(inner)
}

/// One source layer with the decoder of one target. `W_dec_L` counts its targets from L on (trap 36).
fn read_cross_layer(source: &Source) -> Result<Inner> {
    let mut names = source.tensors.names();
    let layer = names.find_map(|name| number_after(name, "W_enc_")).ok_or_else(|| Error::format("no layer in its names"))?;
    let to = source.options.to_layer.unwrap_or(layer);
    let mut said = said(&source.beside).unwrap_or_default();
    said.layer = Some(layer);
    said = with_output(source, said)?;
    said.hook_out = Some(Site::MlpOut.hook(Some(to)));

    let decoders = format!("W_dec_{layer}.safetensors");
    let beside = (source.sibling)(&decoders)?;
    let name = format!("W_dec_{layer}");
    let w_dec = match &beside {
        Some(set) => set.get(&name)?,
        None if source.has(&[&name]) => source.get(&name)?,
        None => {
            return Err(
                Error::format(format!("its decoders, `{decoders}`, are not beside it")).help("fetch both files into one folder")
            );
        }
    };
    let w_enc_name = format!("W_enc_{layer}");
    let (n, d_in) = source.matrix(&w_enc_name)?;
    let [features, targets, d_out] = w_dec.shape()[..] else {
        return Err(Error::shape(format!("its shape is {:?}, but [features, layers, d] is needed", w_dec.shape())).tensor(name));
    };
    if features != n {
        return Err(Error::shape(format!("it has {features} features, but {w_enc_name} {n}")).tensor(name));
    }
    let Some(target) = to.checked_sub(layer).filter(|target| *target < targets) else {
        let last = layer + targets - 1;
        return Err(Error::input(format!("`to_layer` is {to}, but features of layer {layer} write layers {layer} to {last}")));
    };
    said.facts.push(("layers".into(), format!("reads {layer}, writes {to}, of {layer} to {}", layer + targets - 1)));
    let mut inner = source.dictionary(Some(source.tensor(&w_enc_name, &[n, d_in])?.t()), w_dec.select(1, target)?, &said)?;
    inner.b_enc = Some(source.tensor(&format!("b_enc_{layer}"), &[n])?);
    // The bias is added once, by the layer that is written.
    if to == layer {
        inner.b_dec = Some(source.tensor(&format!("b_dec_{layer}"), &[d_out])?);
    }
    let threshold = format!("threshold_{layer}");
    inner.activation = Activation::Relu;
    if source.has(&[&threshold]) {
        inner.threshold = Some(source.for_each(&threshold, n)?);
        inner.activation = Activation::JumpRelu;
    }
    Ok(inner)
}
