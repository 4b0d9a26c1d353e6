//! Llama Scope and what its library writes since: SAEs and transcoders trained on inputs scaled by √d over their average norm
//! (FORMATS 2.3).
//!
//! They are read as the authors' inference code has them, in units of the model: with s_in and s_out the scales of input and
//! output, b_enc / s_in, b_dec / s_out, W_dec · s_in / s_out, and a decoder of unit norm. The last is not written into the
//! weights, which stay as they are mapped: activations are multiplied by the norms of W_dec's rows, and divided by them before
//! decoding. A transcoder has two scales (trap 7).

use super::beside::{Beside, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner, Normalization};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use serde_json::Value as Json;

pub(super) const FAMILY: Family = Family {
    name: "Llama Scope / OpenMOSS",
    format: SaeFormat::OpenMoss,
    said,
    holds: |source| {
        source.has(&["W_E", "W_D"])
            || source.has(&["encoder.weight", "decoder.weight"])
                && (said(&source.beside).is_some() || source.has(&["log_jumprelu_threshold"]))
    },
    read,
};

const LINEAR: Layout = Layout {
    w_enc: Stored::Transposed("encoder.weight"),
    w_dec: Stored::Transposed("decoder.weight"),
    b_enc: "encoder.bias",
    b_dec: "decoder.bias",
};
const PARAMETERS: Layout = Layout { w_enc: Stored::AsUsed("W_E"), w_dec: Stored::AsUsed("W_D"), b_enc: "b_E", b_dec: "b_D" };

fn config(beside: &Beside) -> &Json {
    let older = beside.config("hyperparams.json");
    if older.is_null() { beside.config("config.json") } else { older }
}

fn said(beside: &Beside) -> Option<Said> {
    let config = config(beside);
    let hook = |key: &str| config[key].as_str().map(str::to_string);
    let hook_in = hook("hook_point_in")?;
    let d_in = size(&config["d_model"]);
    let expanded = || Some((d_in? as f64 * config["expansion_factor"].as_f64()?).round() as usize);
    Some(Said {
        hook: Some(hook_in),
        hook_out: hook("hook_point_out"),
        model: beside.mentions("Llama3_1-8B-Base").then(|| "meta-llama/Llama-3.1-8B".into()),
        d_in,
        d_sae: size(&config["d_sae"]).or_else(expanded),
        ..Said::default()
    })
}

fn read(source: &Source) -> Result<Inner> {
    let config = config(&source.beside);
    let said = said(&source.beside).ok_or_else(|| {
        Error::format("there is no hyperparams.json or config.json beside its weights, which says how its input was scaled")
    })?;
    if let Some(kind) = config["sae_type"].as_str().filter(|kind| *kind != "sae") {
        return Err(Error::format(format!("it is of the type `{kind}`, of which only `sae` is known"))
            .help("its directions can be used: open them with `map`, or with load_safetensors and directions(…)"));
    }
    if source.has(&["W_E_glu"]) || source.has(&["encoder_glu.weight"]) {
        return Err(Error::format("its encoder is gated by a second one (use_glu_encoder), which is not known"));
    }
    let mut weights = source.weights(if source.has(&["W_E"]) { &PARAMETERS } else { &LINEAR })?;
    let (n, d_in, d_out) = (weights.n(), weights.w_enc.shape()[0], weights.w_dec.shape()[1]);
    let (s_in, s_out, normalization) = match config["norm_activation"].as_str() {
        Some("dataset-wise") => {
            let scale = |end: &str, hook: &Option<String>, d: usize| {
                average_norm(source, config, end, hook).map(|norm| (d as f64).sqrt() / norm)
            };
            let (hook, out) = (&said.hook, said.hook_out.as_ref().or(said.hook.as_ref()).cloned());
            (scale("in", hook, d_in)?, scale("out", &out, d_out)?, Normalization::None)
        }
        Some("token-wise") => (1.0, 1.0, Normalization::ConstantNorm),
        Some("inference") | None => (1.0, 1.0, Normalization::None),
        Some(other) => {
            return Err(Error::format(format!("its inputs were scaled `{other}`, by a number that is not in the file"))
                .help("its directions can be used: open it with `map`"));
        }
    };
    let mut rewrites = Vec::new();
    let mut scale = |tensor: &mut Tensor, factor: f64, what: &str| {
        if factor != 1.0 {
            tensor.make_mut_f32().iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
            rewrites.push(format!("{what} multiplied by {factor:.6}, into units of the model"));
        }
    };
    scale(&mut weights.b_enc, 1.0 / s_in, "b_enc");
    scale(&mut weights.b_dec, 1.0 / s_out, "b_dec");
    scale(&mut weights.w_dec, s_in / s_out, "W_dec");

    let by_norm = config["sparsity_include_decoder_norm"].as_bool().unwrap_or(true);
    let k = || source.k(size(&config["top_k"]));
    let mut rescale = by_norm;
    let (activation, threshold) = match config["act_fn"].as_str().map(str::to_lowercase).as_deref() {
        Some("jumprelu") => {
            let logs = ["log_jumprelu_threshold", "activation_function.log_jumprelu_threshold"];
            let threshold = match (logs.iter().find(|name| source.has(&[name])), config["jump_relu_threshold"].as_f64()) {
                (Some(name), _) => {
                    // In units of the scaled input, times the decoder's norm where that counts.
                    let unit = if by_norm { s_out } else { s_in };
                    rewrites.push(format!("threshold = exp({name}) / {unit:.6}"));
                    source.for_each(name, n)?.to_f32().into_iter().map(|log| (f64::from(libm::expf(log)) / unit) as f32).collect()
                }
                (None, Some(threshold)) => {
                    rescale = true;
                    vec![threshold as f32; n]
                }
                (None, None) => return Err(Error::format("neither its tensors nor its configuration hold a JumpReLU threshold")),
            };
            (Activation::JumpRelu, Some(Tensor::vector(threshold)))
        }
        Some("relu") => (Activation::Relu, None),
        Some("topk") => (Activation::TopK(k()?), None),
        Some("batchtopk") => (Activation::TopK(k()?), None),
        other => {
            let name = other.unwrap_or("none");
            return Err(Error::format(format!("its act_fn `{name}` is not known")).help("known: relu, jumprelu, topk, batchtopk"));
        }
    };
    if rescale {
        rewrites.push("activations multiplied by the norms of W_dec's rows".into());
    }
    let subtracts = config["apply_decoder_bias_to_pre_encoder"].as_bool().unwrap_or(false);
    if subtracts && s_in != s_out {
        return Err(Error::format("it subtracts the bias of its output from its input, which has another scale"));
    }
    let mut inner = source.sae(weights, &said)?;
    if config["act_fn"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("batchtopk")) {
        inner
            .warnings
            .push("trained to keep k for each input on average, without a threshold: the k largest of each are kept".into());
    }
    (inner.activation, inner.threshold, inner.rescale) = (activation, threshold, rescale);
    (inner.subtract_b_dec, inner.normalization, inner.rewrites) = (subtracts, normalization, rewrites);
    Ok(inner)
}

/// The average norm of the training data at one end: in the configuration by `in` and `out` or by hook, or a tensor.
fn average_norm(source: &Source, config: &Json, end: &str, hook: &Option<String>) -> Result<f64> {
    let norms = &config["dataset_average_activation_norm"];
    let hook = hook.as_deref().unwrap_or_default();
    let norm = match norms[end].as_f64().or_else(|| norms[hook].as_f64()) {
        Some(norm) => Some(norm),
        None => source.number(&format!("dataset_average_activation_norm.{hook}"))?,
    };
    norm.filter(|norm| norm.is_finite() && *norm > 0.0).ok_or_else(|| {
        Error::format(format!("it was trained on inputs of a fixed average norm, but that norm at `{hook}` is not given"))
            .help("dataset_average_activation_norm stands in hyperparams.json or among the tensors")
    })
}
