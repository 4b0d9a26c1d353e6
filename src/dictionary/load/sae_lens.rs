//! SAELens, versions 2 to 6: `cfg.json` and `sae_weights.safetensors` (FORMATS 2.4). Version 6 keeps what is not about the
//! weights in `metadata`; older versions are flat, and version 2 has other names.

use super::beside::{Beside, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said, temporal};
use crate::dictionary::{Activation, Gate, HookPoint, Inner, Normalization, Site};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use serde_json::Value as Json;

pub(super) const FAMILY: Family = Family {
    name: "SAELens",
    format: SaeFormat::SaeLens,
    said,
    holds: |source| source.has(&["W_dec"]) && said(&source.beside).is_some(),
    read,
};

const LAYOUT: Layout = Layout { w_enc: Stored::AsUsed("W_enc"), w_dec: Stored::AsUsed("W_dec"), b_enc: "b_enc", b_dec: "b_dec" };
/// A gated SAE has no b_enc; the bias of its gate says how many features there are.
const GATED: Layout = Layout { b_enc: "b_gate", ..LAYOUT };

/// What a cfg.json says under the first of `keys` that it has, in `metadata` or outside; null where it has none.
fn fact<'a>(cfg: &'a Json, keys: &[&str]) -> &'a Json {
    let stored = keys.iter().flat_map(|key| [&cfg["metadata"][*key], &cfg[*key]]);
    stored.into_iter().find(|value| !value.is_null()).unwrap_or(&Json::Null)
}

fn said(beside: &Beside) -> Option<Said> {
    let cfg = beside.config("cfg.json");
    let text = |keys: &[&str]| fact(cfg, keys).as_str().map(str::to_string);
    // Sparsify's cfg.json knows neither.
    let mut hook = text(&["hook_name", "hook_point"]);
    if cfg.is_null() || (hook.is_none() && cfg["architecture"].is_null() && cfg["d_sae"].is_null()) {
        return None;
    }
    // SAELens calls the normalised input of Gemma 3's MLP by the name of the residual stream before it (trap 10).
    if hook.as_ref().is_some_and(|hook| hook.ends_with("hook_mlp_in"))
        && let Some(exact) = text(&["hf_hook_name"]).filter(|name| HookPoint::parse(name).is_some_and(|hook| hook.norm.is_some()))
    {
        hook = Some(exact);
    }
    let hook = hook.or_else(|| text(&["hf_hook_name"]));
    let hook_out = text(&["hook_name_out"]).filter(|out| !out.is_empty());
    Some(Said { hook, hook_out, d_in: size(&cfg["d_in"]), d_sae: size(&cfg["d_sae"]), ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    let cfg = source.beside.config("cfg.json");
    if cfg.is_null() {
        return Err(Error::format("there is no cfg.json beside the weights"));
    }
    let said = said(&source.beside).unwrap_or_default();
    let architecture = cfg["architecture"].as_str().unwrap_or("standard");
    if !fact(cfg, &["hook_head_index", "hook_point_head_index"]).is_null() {
        return Err(Error::format("it reads a single head (hook_head_index), which is not known how to place"));
    }
    if said.hook.is_none() && source.options.hook.is_none() {
        let help = "pass it: load_sae(…, #{hook: \"blocks.5.hook_resid_post\"})";
        return Err(Error::format("its cfg.json names no hook").help(help));
    }
    let mut inner = match architecture {
        "temporal" => temporal::directions(source, "W_dec", "b_dec", &said)?,
        "matching_pursuit" => matching_pursuit(source, cfg, &said)?,
        _ => encoder_and_decoder(source, cfg, architecture, &said)?,
    };
    let version = fact(cfg, &["sae_lens_version"]).as_str().map_or("before 6", |version| version);
    inner.format = format!("SAELens {version}");
    // No transcoder takes its output's bias from its input.
    let subtracts = inner.out.is_none() && !architecture.contains("transcoder");
    inner.subtract_b_dec = subtracts && fact(cfg, &["apply_b_dec_to_input"]).as_bool().unwrap_or(true);
    normalize(source, cfg, &mut inner)?;
    inner.rescale = cfg["rescale_acts_by_decoder_norm"].as_bool().unwrap_or(false);
    for (key, stored) in [("d_in", inner.w_enc.as_ref().map(|w| w.shape()[0])), ("d_sae", Some(inner.numbered))] {
        if let (Some(claimed), Some(stored)) = (size(&cfg[key]), stored)
            && claimed != stored
        {
            inner.warnings.push(format!("cfg.json says {key} {claimed}, the tensors have {stored}: {stored} is taken"));
        }
    }
    for (what, keys) in [
        ("model_name", &["model_name"][..]),
        ("architecture", &["architecture"]),
        ("prepend_bos", &["prepend_bos"]),
        ("context_size", &["context_size"]),
        ("dataset", &["dataset_path"]),
        ("model_from_pretrained_kwargs", &["model_from_pretrained_kwargs"]),
        ("neuronpedia_id", &["neuronpedia_id"]),
    ] {
        let value = fact(cfg, keys);
        if !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) {
            inner.facts.push((what.into(), value.as_str().map_or_else(|| value.to_string(), str::to_string)));
        }
    }
    if let Json::Object(metadata) = &cfg["metadata"] {
        inner.metadata = metadata.clone();
    }
    density(source, inner)
}

fn encoder_and_decoder(source: &Source, cfg: &Json, architecture: &str, said: &Said) -> Result<Inner> {
    let function = fact(cfg, &["activation_fn_str", "activation_fn"]).as_str().unwrap_or("relu");
    let k = || source.k(size(&cfg["k"]).or_else(|| size(&cfg["activation_fn_kwargs"]["k"])));
    let stored = ["threshold", "log_threshold", "topk_threshold"].into_iter().find(|name| source.has(&[name]));
    // TopK was often saved as `standard` with a top-k activation function.
    let activation = match (architecture, function) {
        ("topk", _) | ("standard", "topk") => Activation::TopK(k()?),
        ("abstopk", _) => Activation::AbsTopK(k()?),
        // As they are trained: SAELens saves them for inference as JumpReLU. Their k is a mean, which may be no whole number.
        ("batchtopk" | "matryoshka_batchtopk", _) if stored.is_some() => k().map_or(Activation::JumpRelu, Activation::BatchTopK),
        ("batchtopk" | "matryoshka_batchtopk", _) => {
            let message = format!("it is a {architecture} SAE without a threshold (threshold, log_threshold or topk_threshold)");
            return Err(Error::format(message).help(
                "its activations depend on the other inputs of a batch without one: save it in SAELens by save_inference_model",
            ));
        }
        ("standard" | "transcoder" | "skip_transcoder", "relu") => Activation::Relu,
        ("standard", other) => {
            return Err(Error::format(format!("the activation function `{other}` is not known")).help("known: relu, topk"));
        }
        ("jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder", _) => Activation::JumpRelu,
        ("gated", _) => Activation::Gated,
        (other, _) => {
            return Err(Error::format(format!("the SAELens architecture `{other}` is not known")).help(
                "known: standard, gated, jumprelu, topk, batchtopk, matryoshka_batchtopk, abstopk, matching_pursuit, temporal, \
                 transcoder, skip_transcoder, jumprelu_transcoder, jumprelu_skip_transcoder; for another pass `map`",
            ));
        }
    };
    let gated = activation == Activation::Gated;
    let weights = source.weights(if gated { &GATED } else { &LAYOUT })?;
    let (n, d_in, d_out) = (weights.n(), weights.w_enc.shape()[0], weights.w_dec.shape()[1]);
    let mut inner = source.sae(weights, said)?;
    if gated {
        let vector = |name| source.tensor(name, &[n]);
        inner.gate = Some(Gate { b_gate: vector("b_gate")?, b_mag: vector("b_mag")?, r_mag: vector("r_mag")? });
        inner.b_enc = None;
    }
    if matches!(activation, Activation::JumpRelu | Activation::BatchTopK(_)) {
        inner.threshold = Some(match stored {
            Some("log_threshold") => {
                inner.rewrites.push("threshold = exp(log_threshold)".into());
                Tensor::vector(source.tensor("log_threshold", &[n])?.to_f32().into_iter().map(libm::expf).collect())
            }
            Some("topk_threshold") => {
                inner.rewrites.push("threshold = topk_threshold, for every feature".into());
                if source.number("topk_threshold")? == Some(0.0) {
                    inner
                        .warnings
                        .push("its topk_threshold is 0: training has not set it, and every positive activation counts".into());
                }
                source.for_each("topk_threshold", n)?
            }
            _ => source.tensor("threshold", &[n])?,
        });
    }
    if architecture.contains("skip") {
        inner.w_skip = Some(source.tensor("W_skip", &[d_out, d_in])?);
    }
    for scaling in ["scaling_factor", "finetuning_scaling_factor"] {
        if !source.has(&[scaling]) {
            continue;
        }
        let factors = source.tensor(scaling, &[n])?.to_f32();
        if factors.iter().any(|factor| *factor != 1.0) {
            for (row, factor) in inner.w_dec.make_mut_f32().chunks_mut(d_out.max(1)).zip(factors) {
                row.iter_mut().for_each(|v| *v *= factor);
            }
            inner.rewrites.push(format!("rows of W_dec multiplied by {scaling}"));
        }
    }
    inner.signed = matches!(activation, Activation::AbsTopK(_));
    inner.activation = activation;
    Ok(inner)
}

/// It reads by its decoder's rows, and has no encoder of its own.
fn matching_pursuit(source: &Source, cfg: &Json, said: &Said) -> Result<Inner> {
    let (n, d) = source.matrix("W_dec")?;
    let w_dec = source.tensor("W_dec", &[n, d])?;
    let mut inner = source.dictionary(Some(w_dec.t()), w_dec, said)?;
    let b_dec = source.tensor("b_dec", &[d])?;
    if fact(cfg, &["apply_b_dec_to_input"]).as_bool().unwrap_or(true) {
        inner.b_dec = Some(b_dec);
    } else {
        inner.rewrites.push("b_dec left out: with apply_b_dec_to_input false SAELens's matching pursuit uses it nowhere".into());
    }
    inner.activation = Activation::MatchingPursuit {
        steps: size(&cfg["max_iterations"]).unwrap_or(d),
        residual: cfg["residual_threshold"].as_f64().unwrap_or(0.0) as f32,
        stop_on_repeat: cfg["stop_on_duplicate_support"].as_bool().unwrap_or(true),
    };
    Ok(inner)
}

fn normalize(source: &Source, cfg: &Json, inner: &mut Inner) -> Result<()> {
    inner.normalization = match fact(cfg, &["normalize_activations"]) {
        Json::Null | Json::Bool(false) => Normalization::None,
        Json::Bool(true) => Normalization::Folded,
        Json::String(kind) => match kind.as_str() {
            "none" => Normalization::None,
            "expected_average_only_in" => Normalization::Folded,
            "layer_norm" => Normalization::LayerNorm,
            "constant_norm_rescale" => Normalization::ConstantNorm,
            // Only of temporal SAEs, which do not encode here.
            "constant_scalar_rescale" => Normalization::None,
            other => return Err(Error::format(format!("normalize_activations `{other}` is not known"))),
        },
        other => return Err(Error::format(format!("normalize_activations is {other}"))),
    };
    if inner.normalization != Normalization::Folded {
        return Ok(());
    }
    match unwritten_scale(&source.beside, inner) {
        Some(scale) => inner.normalization = Normalization::Constant(scale),
        None => inner
            .warnings
            .push("trained on inputs of a fixed average norm; the factor is taken to be folded into the weights".into()),
    }
    Ok(())
}

/// Scales of gpt2-small's MLP outputs, by layer.
const MLP_OUT: [f32; 12] = [
    1.049_317_3,
    2.369_398_4,
    1.641_193_5,
    1.895_852_2,
    1.816_734_8,
    1.550_234_5,
    1.323_774_3,
    1.104_290_5,
    0.912_376_3,
    0.695_533_6,
    0.361_972_9,
    0.285_154_9,
];

/// The scale of releases that have it neither in their weights nor in their configuration: it stands in SAELens's list of
/// pretrained SAEs alone (trap 37).
fn unwritten_scale(beside: &Beside, inner: &Inner) -> Option<f32> {
    match (inner.site, inner.layer?) {
        (Site::MlpOut, layer) if beside.mentions("gpt2-small-mlp-out-saes") => MLP_OUT.get(layer).copied(),
        (Site::ResidPost, 12) if beside.mentions("Gemma-2b-Residual-Stream-SAEs") => Some(0.213_819_38),
        _ => None,
    }
}

/// How often each feature fires, where a file beside the weights says it, as a logarithm.
fn density(source: &Source, mut inner: Inner) -> Result<Inner> {
    let Some(set) = (source.sibling)("sparsity.safetensors")? else { return Ok(inner) };
    let log10 = set.get("sparsity")?.to_f64();
    if log10.len() != inner.numbered {
        inner.warnings.push(format!("sparsity.safetensors has {} values: left out", log10.len()));
        return Ok(inner);
    }
    // SAELens adds 1e-10 before the logarithm; what is left of a dead feature is the rounding of f32.
    let density = |v: f64| Some(libm::pow(10.0, v) - 1e-10).filter(|density| *density > 1e-12).unwrap_or(0.0);
    Ok(inner.with_stat("density", log10.into_iter().map(density).collect()))
}
