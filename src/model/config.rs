//! What a model is: its dimensions and conventions, from the tensors first and the config second.
//!
//! A file's config (config.json, or GGUF metadata) is read into [`Claims`]; [`settle`] holds them against the tensors.
//! What cannot both be true of head counts and layers is refused, other disagreements are warned about and the tensors
//! believed (FORMATS.md 4.3).

use super::architecture::{Architecture, Heads as HeadLayout, Sliding, Slot};
use super::rope::{RopeRule, Scaling};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::formats::{TensorSet, gguf};
use crate::tensor::DType;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

crate::choice! {
    /// The MLP's activation function.
    pub enum Act {
        #[default]
        Silu = "silu",
        GeluTanh = "gelu_pytorch_tanh",
        Gelu = "gelu",
        Relu = "relu",
    }
}

impl Act {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Act::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Some(Act::GeluTanh),
            "gelu" => Some(Act::Gelu),
            "relu" => Some(Act::Relu),
            _ => None,
        }
    }

    /// Its value at `x`.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Act::Silu => x / (1.0 + libm::expf(-x)),
            Act::GeluTanh => {
                let inner = std::f32::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanhf(inner))
            }
            Act::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            Act::Relu => x.max(0.0),
        }
    }
}

crate::choice! {
    /// The normalisation before attention and MLP.
    pub enum Norm {
        /// x / rms(x) · g.
        #[default]
        Rms = "rms",
        /// (x − mean) / std · g + b.
        Layer = "layer",
    }
}

/// Dimensions and conventions of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Architecture: `llama`, `qwen2`, `qwen2moe`, `qwen3`, `qwen3moe`, `qwen3_5`, `qwen3_5_moe`, `gemma`, `gemma2`, `gemma3`, `gpt2`, `gptneox`.
    pub arch: &'static str,
    /// Number of layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads a layer.
    pub n_heads: usize,
    /// Key and value heads a layer; query head h uses kv head h / (n_heads / n_kv_heads).
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Neurons of a layer's MLP; 0 where all layers have experts in its place.
    pub d_mlp: usize,
    /// Rows of the embedding.
    pub d_vocab: usize,
    /// W_U is W_E transposed.
    pub tied: bool,
    /// The MLP's activation function.
    pub act: Act,
    /// The MLP has a gate.
    pub gated: bool,
    /// The kind of normalisation.
    pub norm: Norm,
    /// The architecture's norms multiply by 1 + w; gains are given with the 1 added.
    pub norm_offset: bool,
    /// ε of the norms.
    pub eps: f64,
    /// θ of the rotary embedding (of the global layers, where layers differ); none where positions are learned.
    pub rope_theta: Option<f64>,
    /// Queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// What q·k is multiplied by.
    pub attn_scale: f64,
    /// In layer l it is multiplied by attn_scale / (l + 1): `scale_attn_by_inverse_layer_idx` of some GPT-2 models.
    pub attn_scale_by_layer: bool,
    /// c of c·tanh(score / c), before the softmax of attention.
    pub attn_softcap: Option<f64>,
    /// c of c·tanh(logit / c).
    pub final_softcap: Option<f64>,
    /// Attention and MLP both read the layer's input.
    pub parallel: bool,
    /// What the embedding is multiplied by at the input.
    pub embed_scale: f64,
    /// Tokens that end a text.
    pub end_tokens: Vec<usize>,
    /// Longest context that the config names.
    pub n_ctx: Option<usize>,
    /// Weights are stored in blocks or 8-bit floats: they differ from the trained ones.
    pub quantised: bool,
}

impl Config {
    /// What q·k is multiplied by in a layer.
    pub fn attn_scale_of(&self, layer: usize) -> f64 {
        if self.attn_scale_by_layer { self.attn_scale / (layer + 1) as f64 } else { self.attn_scale }
    }

    /// The facts as JSON: what scripts see as `model.cfg`. A fact that the architecture does not have is null.
    pub fn to_json(&self) -> Json {
        json!({
            "arch": self.arch, "n_layers": self.n_layers, "d_model": self.d_model, "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads,
            "d_head": self.d_head, "d_mlp": self.d_mlp, "d_vocab": self.d_vocab, "tied": self.tied, "act": self.act.name(), "gated": self.gated,
            "norm": self.norm.name(), "norm_offset": self.norm_offset, "eps": self.eps, "rope_theta": self.rope_theta,
            "qk_norm": self.qk_norm, "attn_scale": self.attn_scale,
            "attn_scale_by_layer": self.attn_scale_by_layer, "attn_softcap": self.attn_softcap,
            "final_softcap": self.final_softcap, "parallel": self.parallel, "embed_scale": self.embed_scale, "n_ctx": self.n_ctx,
            "end_tokens": self.end_tokens,
            "quantised": self.quantised,
        })
    }
}

/// What a file's config says; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// `config.json` or `GGUF metadata`.
    source: &'static str,
    n_layers: Option<usize>,
    d_model: Option<usize>,
    n_heads: Option<usize>,
    n_kv_heads: Option<usize>,
    d_head: Option<usize>,
    d_mlp: Option<usize>,
    d_vocab: Option<usize>,
    tied: Option<bool>,
    act: Option<String>,
    eps: Option<f64>,
    query_scalar: Option<f64>,
    attn_scale: Option<f64>,
    attn_scale_by_layer: bool,
    parallel: Option<bool>,
    attn_softcap: Option<f64>,
    final_softcap: Option<f64>,
    n_ctx: Option<usize>,
    end_tokens: Vec<usize>,
    rotary_dims: Option<usize>,
    rotary_share: Option<f64>,
    rope_base: Option<f64>,
    rope_scaling: Option<Scaling>,
    local_rope: Option<RopeRule>,
    window: Option<usize>,
    window_pattern: Option<usize>,
    /// The first layer with a window, in families where the file says so.
    window_from: Option<usize>,
    sliding: Option<Vec<bool>>,
    /// Sizes that are none, in words for the reader.
    unusable: Vec<String>,
}

/// The keys of config.json that hold sizes; the second of a pair is that of GPT-2.
const SIZES: [&str; 13] = [
    "num_hidden_layers",
    "n_layer",
    "hidden_size",
    "n_embd",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "n_inner",
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
];

fn json_number(value: &Json) -> Option<f64> {
    // Some writers put numbers into strings (FORMATS.md 6.4).
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn whole(number: f64) -> Option<usize> {
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as usize)
}

fn json_scaling(rope: &Json) -> Scaling {
    let number = |key: &str| json_number(&rope[key]);
    let kind = rope["rope_type"].as_str().or_else(|| rope["type"].as_str()).unwrap_or("default");
    let llama3 = || {
        Some(Scaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        })
    };
    match (kind, number("factor")) {
        // `dynamic` scales only contexts longer than the trained one.
        ("default" | "dynamic", _) => Scaling::None,
        ("linear", Some(factor)) => Scaling::Linear(factor),
        ("llama3", _) => llama3().unwrap_or_else(|| Scaling::Unknown(kind.into())),
        _ => Scaling::Unknown(kind.into()),
    }
}

impl Claims {
    /// What config.json says, in the keys of transformers 4 or 5; a multimodal model's are in `text_config`.
    pub fn from_json(config: &Json, architecture: &Architecture) -> Self {
        let text = text_config(config);
        let number = |key: &str| json_number(&text[key]);
        // The second name is that of GPT-2 or GPT-NeoX.
        let size = |key: &str, older: &str| number(key).or_else(|| number(older)).and_then(whole);
        let act = ["hidden_activation", "hidden_act", "activation_function"].iter().find_map(|key| text[*key].as_str());
        // Gemma-1's configs say `gelu` and mean its tanh form, as transformers reads them.
        let act = act.map(|act| if architecture.scaled_embedding && act == "gelu" { "gelu_pytorch_tanh" } else { act });
        let flag = |key: &str| text[key].as_bool();
        let cap = |key: &str, default: Option<f64>| text.get(key).map_or(default, json_number);
        // Transformers 5 has one object, or one for each kind of layer; 4 has a base and a scaling.
        let rope = &text["rope_parameters"];
        let (global, local) = if rope["full_attention"].is_object() {
            (&rope["full_attention"], Some(&rope["sliding_attention"]))
        } else {
            (rope, None)
        };
        let scaling = if global.is_object() { json_scaling(global) } else { json_scaling(&text["rope_scaling"]) };
        let local_base = local.map_or_else(|| number("rope_local_base_freq"), |rope| json_number(&rope["rope_theta"]));
        let layer_types = text["layer_types"].as_array();
        let window = text.get("sliding_window").map_or(architecture.window, |window| json_number(window).and_then(whole));
        Claims {
            source: "config.json",
            n_layers: size("num_hidden_layers", "n_layer"),
            d_model: size("hidden_size", "n_embd"),
            n_heads: size("num_attention_heads", "n_head"),
            n_kv_heads: size("num_key_value_heads", ""),
            d_head: size("head_dim", ""),
            d_mlp: size("intermediate_size", "n_inner"),
            d_vocab: size("vocab_size", ""),
            tied: flag("tie_word_embeddings").or_else(|| config["tie_word_embeddings"].as_bool()),
            act: act.map(str::to_string),
            // NaN has become null, which no config means here.
            eps: ["rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps"]
                .iter()
                .find(|key| text.get(**key).is_some())
                .map(|key| number(key).unwrap_or(f64::NAN)),
            query_scalar: number("query_pre_attn_scalar").or(architecture.query_scalar),
            attn_scale: (flag("scale_attn_weights") == Some(false)).then_some(1.0),
            attn_scale_by_layer: flag("scale_attn_by_inverse_layer_idx") == Some(true),
            parallel: flag("use_parallel_residual"),
            attn_softcap: cap("attn_logit_softcapping", architecture.attn_softcap),
            final_softcap: cap("final_logit_softcapping", architecture.final_softcap),
            n_ctx: size("max_position_embeddings", "n_positions"),
            end_tokens: match &text["eos_token_id"] {
                Json::Array(ids) => ids.iter().filter_map(json_number).filter_map(whole).collect(),
                id => json_number(id).and_then(whole).into_iter().collect(),
            },
            rotary_dims: None,
            rotary_share: json_number(&global["partial_rotary_factor"])
                .or_else(|| number("partial_rotary_factor"))
                .or_else(|| number("rotary_pct")),
            rope_base: json_number(&global["rope_theta"]).or_else(|| number("rope_theta")).or_else(|| number("rotary_emb_base")),
            rope_scaling: Some(scaling),
            local_rope: local_base.map(|base| RopeRule { base, scaling: local.map_or(Scaling::None, json_scaling) }),
            window: window.filter(|_| flag("use_sliding_window") != Some(false)),
            window_pattern: size("sliding_window_pattern", "_sliding_window_pattern"),
            window_from: size("max_window_layers", ""),
            sliding: layer_types.map(|types| types.iter().map(|kind| kind == "sliding_attention").collect()),
            unusable: SIZES
                .iter()
                .filter(|key| !text[**key].is_null() && number(key).and_then(whole).is_none())
                .map(|key| format!("config.json says {key} {}, which is no size: the tensors are believed", text[*key]))
                .collect(),
        }
    }

    /// What GGUF metadata says under the architecture's prefix.
    ///
    /// # Errors
    /// Head counts that differ from layer to layer.
    pub fn from_gguf(metadata: &BTreeMap<String, gguf::Value>, architecture: &Architecture) -> Result<Self> {
        let value = |key: &str| metadata.get(&format!("{}.{key}", architecture.name));
        let number = |key: &str| value(key).and_then(gguf::Value::as_f64);
        let size = |key: &str| value(key).and_then(gguf::Value::as_usize);
        // A single number, or one for each layer.
        let heads = |key: &str| match value(key).and_then(gguf::Value::as_list) {
            None => Ok(size(key)),
            Some(list) if list.windows(2).all(|pair| pair[0] == pair[1]) => Ok(list.first().and_then(gguf::Value::as_usize)),
            Some(_) => Err(Error::format(format!("`{key}` differs from layer to layer, which is not known how to read"))),
        };
        let scaling = match (value("rope.scaling.type").and_then(gguf::Value::as_str), number("rope.scaling.factor")) {
            (None | Some("none"), _) => Scaling::None,
            (Some("linear"), Some(factor)) => Scaling::Linear(factor),
            (Some(kind), _) => Scaling::Unknown(kind.into()),
        };
        let sized = architecture.gguf_query_scalars.iter();
        let n_heads = heads("attention.head_count")?;
        let query_scalar = sized.clone().find(|(d, h, _)| (Some(*d), Some(*h)) == (size("embedding_length"), n_heads));
        Ok(Claims {
            source: "GGUF metadata",
            n_layers: size("block_count"),
            d_model: size("embedding_length"),
            n_heads,
            n_kv_heads: heads("attention.head_count_kv")?,
            d_head: size("attention.key_length"),
            d_mlp: size("feed_forward_length"),
            d_vocab: size("vocab_size"),
            tied: None,
            act: None,
            eps: number("attention.layer_norm_rms_epsilon").or_else(|| number("attention.layer_norm_epsilon")),
            query_scalar: query_scalar.map(|(.., scalar)| *scalar),
            attn_scale: number("attention.scale"),
            attn_scale_by_layer: false,
            parallel: value("use_parallel_residual").and_then(gguf::Value::as_bool),
            attn_softcap: number("attn_logit_softcapping").or(architecture.attn_softcap),
            final_softcap: number("final_logit_softcapping").or(architecture.final_softcap),
            n_ctx: size("context_length"),
            end_tokens: ["eos", "eot"]
                .iter()
                .filter_map(|kind| metadata.get(&format!("tokenizer.ggml.{kind}_token_id"))?.as_usize())
                .collect(),
            rotary_dims: size("rope.dimension_count"),
            rotary_share: None,
            rope_base: number("rope.freq_base"),
            rope_scaling: Some(scaling),
            local_rope: None,
            window: size("attention.sliding_window").or(architecture.window),
            window_pattern: size("attention.sliding_window_pattern"),
            window_from: None,
            sliding: value("attention.sliding_window_pattern")
                .and_then(gguf::Value::as_list)
                .map(|layers| layers.iter().map(|layer| layer.as_bool() == Some(true)).collect()),
            unusable: Vec::new(),
        })
    }
}

/// Where a config keeps the language model's keys.
pub(super) fn text_config(config: &Json) -> &Json {
    if config["text_config"].is_object() { &config["text_config"] } else { config }
}

/// Rows and columns that share a scale, where the config of an FP8 checkpoint says it.
pub(super) fn scale_block(config: &Json) -> Option<[usize; 2]> {
    let block = &config["quantization_config"]["weight_block_size"];
    Some([json_number(&block[0]).and_then(whole)?, json_number(&block[1]).and_then(whole)?])
}

/// Refuses weights that are packed into integers.
///
/// # Errors
/// A tensor of GPTQ, AWQ, bitsandbytes or compressed-tensors' packed formats.
pub(super) fn refuse_packed(config: &Json, tensors: &TensorSet) -> Result<()> {
    let packed = [".qweight", ".weight_packed", ".weight.absmax"];
    let Some(name) = tensors.names().find(|name| packed.iter().any(|ending| name.ends_with(ending))) else { return Ok(()) };
    let method = config["quantization_config"]["quant_method"].as_str().unwrap_or("a method that config.json does not name");
    Err(Error::format(format!("its weights are packed by {method}, which is not read"))
        .tensor(name)
        .help("take the model that it was quantised from, or a GGUF file; FP8 with scales is read"))
}

/// A model's config with what only the model itself needs.
#[derive(Debug)]
pub(super) struct Settled {
    pub config: Config,
    pub rope: RopeRule,
    /// For layers with a sliding window, where they rotate otherwise.
    pub local_rope: Option<RopeRule>,
    pub rotary_dims: usize,
    /// Which layers see a sliding window only, and how long it is.
    pub sliding: Vec<bool>,
    pub window: Option<usize>,
    pub warnings: Vec<String>,
}

/// Holds the claims against the tensors.
///
/// # Errors
/// A missing tensor, a tensor of the wrong shape, head counts that contradict the shapes, fewer layers than claimed.
pub(super) fn settle(architecture: &'static Architecture, claims: Claims, weights: &Weights) -> Result<Settled> {
    let file = &weights.tensors.source;
    let source = claims.source;
    let fault = |message: String| Error::format(message).file(file);
    let mut warnings = claims.unusable.clone();
    weights.check_scales()?;

    let matrix = |slot, layer| {
        let tensor = weights.get(slot, layer)?;
        tensor.matrix_shape("it").map_err(|e| e.file(file).tensor(weights.name(slot, layer).unwrap_or_default()))
    };
    let (d_vocab, d_model) = matrix(Slot::Embed, 0)?;
    let attention = weights.attention_slot();
    let stored = (0..).take_while(|layer| weights.find(Slot::Ln1, *layer).is_some()).count();
    let n_layers = match claims.n_layers {
        Some(claimed) if claimed > stored => {
            let missing = weights.name(Slot::Ln1, stored).unwrap_or_default();
            return Err(fault(format!("{source} says {claimed} layers, but `{missing}` is missing")));
        }
        Some(claimed) => claimed,
        None => stored,
    };
    if n_layers == 0 || d_model == 0 || d_vocab == 0 {
        return Err(fault(format!("a model of {n_layers} layers, d_model {d_model} and {d_vocab} tokens is empty")));
    }
    let with_heads = (0..n_layers).find(|layer| !weights.is_linear(*layer)).unwrap_or(0);
    let gates = if weights.layout.heads == HeadLayout::Gated { 2 } else { 1 };
    let (q_rows, k_rows) = match attention {
        Slot::Fused => {
            let rows = matrix(Slot::Fused, with_heads)?.0;
            (rows / 3, rows / 3)
        }
        _ => (matrix(Slot::Query, with_heads)?.0 / gates, matrix(Slot::Key, with_heads)?.0),
    };
    let heads = Heads::of(&claims, architecture, weights, with_heads, q_rows, k_rows)?;
    let dense = (0..n_layers).find(|layer| !weights.is_mixture(*layer));
    // None where all layers have experts.
    let d_mlp = dense.map(|layer| matrix(Slot::In, layer)).transpose()?.map_or(0, |(d_mlp, _)| d_mlp);

    let (d_q, d_kv) = (heads.n_heads * heads.d_head, heads.n_kv_heads * heads.d_head);
    let why = format!(
        "d_model {d_model}, {} heads and {} kv heads of {}, {d_mlp} neurons",
        heads.n_heads, heads.n_kv_heads, heads.d_head
    );
    let d_head = heads.d_head;
    let expected: [(Slot, &[usize]); 24] = [
        (Slot::Ln1, &[d_model]),
        (Slot::Ln1Bias, &[d_model]),
        (Slot::Ln1Post, &[d_model]),
        (Slot::Ln2, &[d_model]),
        (Slot::Ln2Bias, &[d_model]),
        (Slot::Ln2Post, &[d_model]),
        (Slot::QueryNorm, &[d_head]),
        (Slot::KeyNorm, &[d_head]),
        (Slot::Query, &[gates * d_q, d_model]),
        (Slot::Key, &[d_kv, d_model]),
        (Slot::Value, &[d_kv, d_model]),
        (Slot::Fused, &[d_q + 2 * d_kv, d_model]),
        (Slot::Output, &[d_model, d_q]),
        (Slot::In, &[d_mlp, d_model]),
        (Slot::Gate, &[d_mlp, d_model]),
        (Slot::Out, &[d_model, d_mlp]),
        (Slot::QueryBias, &[d_q]),
        (Slot::KeyBias, &[d_kv]),
        (Slot::ValueBias, &[d_kv]),
        (Slot::FusedBias, &[d_q + 2 * d_kv]),
        (Slot::OutputBias, &[d_model]),
        (Slot::InBias, &[d_mlp]),
        (Slot::GateBias, &[d_mlp]),
        (Slot::OutBias, &[d_model]),
    ];
    for layer in 0..n_layers {
        for (slot, shape) in expected {
            let lacking = slot.is_optional()
                || (slot.is_of_heads() && weights.is_linear(layer))
                || (slot.is_of_mlp() && weights.is_mixture(layer));
            let needed = weights.layout.name_of(slot, layer).is_some() && !lacking;
            if needed || weights.find(slot, layer).is_some() {
                weights.check_shape(slot, layer, shape, &why)?;
            }
        }
    }
    for slot in [Slot::LnFinal, Slot::LnFinalBias] {
        if weights.layout.name_of(slot, 0).is_some() {
            weights.check_shape(slot, 0, &[d_model], &why)?;
        }
    }
    let positions = match weights.layout.name_of(Slot::Position, 0) {
        Some(_) => Some(matrix(Slot::Position, 0)?),
        None => None,
    };
    if let Some((n_ctx, width)) = positions {
        weights.check_shape(
            Slot::Position,
            0,
            &[n_ctx, d_model],
            &format!("positions of {width} do not fit d_model {d_model}"),
        )?;
    }

    let claimed_tied = claims.tied.unwrap_or(architecture.tied);
    let tied = match weights.find(Slot::Unembed, 0) {
        // transformers ties whatever the file holds; GGUF says nothing, and stores an unembedding only where it is one.
        Some(_) if claimed_tied && source == "config.json" => true,
        Some(_) => {
            weights.check_shape(Slot::Unembed, 0, &[d_vocab, d_model], "the embedding's own shape")?;
            false
        }
        None => {
            if claims.tied == Some(false) {
                warnings.push(format!(
                    "{source} says that the unembedding is not tied, but the file has none: the embedding is taken"
                ));
            }
            true
        }
    };
    for (what, claimed, stored) in [
        ("d_model", claims.d_model, d_model),
        ("neurons a layer", claims.d_mlp.filter(|_| dense.is_some()), d_mlp),
        ("tokens", claims.d_vocab, d_vocab),
        ("layers", claims.n_layers, stored),
    ] {
        if let Some(claimed) = claimed.filter(|claimed| *claimed != stored) {
            let taken = if what == "layers" { claimed } else { stored };
            warnings.push(format!("{source} says {claimed} {what}, the tensors have {stored}: {taken} is taken"));
        }
    }

    let sliding = sliding_layers(&claims, architecture, n_layers).map_err(|e| e.file(file))?;
    let scaling = match weights.find(Slot::RopeDivisors, 0) {
        Some(divisors) => Scaling::Divisors(divisors.to_f64()),
        None => claims.rope_scaling.unwrap_or(Scaling::None),
    };
    let rope = RopeRule { base: claims.rope_base.unwrap_or(architecture.rope_theta), scaling };
    let local_rope =
        architecture.local_rope_theta.map(|base| claims.local_rope.unwrap_or(RopeRule { base, scaling: Scaling::None }));
    let rotary_share = claims.rotary_share.unwrap_or(architecture.rotary_share);
    let rotary_dims = claims.rotary_dims.unwrap_or((rotary_share * heads.d_head as f64) as usize);
    if rotary_dims > heads.d_head || rotary_dims % 2 == 1 {
        return Err(fault(format!("{rotary_dims} rotary dimensions do not fit heads of {}", heads.d_head)));
    }
    let act = match claims.act.as_deref().unwrap_or(architecture.act) {
        name if Act::from_name(name).is_some() => Act::from_name(name).unwrap_or_default(),
        other => {
            let known: Vec<_> = Act::ALL.iter().map(|act| act.name()).collect();
            return Err(fault(format!("{source} names an unknown activation function `{other}`"))
                .help(format!("known ones are: {}", known.join(", "))));
        }
    };

    let dtypes: BTreeSet<&str> =
        weights.tensors.iter().filter(|(_, t)| t.dtype().is_quantised()).map(|(_, t)| t.dtype().name()).collect();
    if weights.layout.heads == HeadLayout::Gated {
        warnings.push("its heads multiply z by a gate, which analyses of weights leave out".to_string());
    }
    if !dtypes.is_empty() {
        let dtypes: Vec<_> = dtypes.into_iter().collect();
        warnings.push(format!("the weights are quantised ({}): they differ from the trained ones", dtypes.join(", ")));
    }
    let unused = weights.unused(n_layers);
    if let [first, ..] = unused[..] {
        warnings.push(format!("{} tensors of the file are not used, among them `{first}`", unused.len()));
    }
    let eps = claims.eps.unwrap_or(architecture.eps);
    let eps = if eps.is_finite() && eps >= 0.0 {
        eps
    } else {
        warnings.push(format!("{source} gives an ε of the norms that is no number: {:e} is taken", architecture.eps));
        architecture.eps
    };
    let scalar = claims.query_scalar.unwrap_or(heads.d_head as f64);
    let config = Config {
        arch: architecture.name,
        n_layers,
        d_model,
        n_heads: heads.n_heads,
        n_kv_heads: heads.n_kv_heads,
        d_head: heads.d_head,
        d_mlp,
        d_vocab,
        tied,
        act,
        gated: weights.layout.name_of(Slot::Gate, 0).is_some(),
        norm: architecture.norm,
        norm_offset: architecture.norm_offset,
        eps,
        rope_theta: (rotary_dims > 0).then_some(rope.base),
        qk_norm: weights.layout.name_of(Slot::QueryNorm, 0).is_some(),
        attn_scale: claims.attn_scale.unwrap_or_else(|| 1.0 / scalar.sqrt()),
        attn_scale_by_layer: claims.attn_scale_by_layer,
        attn_softcap: claims.attn_softcap,
        final_softcap: claims.final_softcap,
        parallel: architecture.parallel && claims.parallel != Some(false),
        embed_scale: if architecture.scaled_embedding { embed_scale(d_model, weights.get(Slot::Embed, 0)?.dtype()) } else { 1.0 },
        end_tokens: claims.end_tokens,
        n_ctx: positions.map(|(n_ctx, _)| n_ctx).or(claims.n_ctx),
        quantised: weights.tensors.iter().any(|(_, t)| t.dtype().is_quantised()),
    };
    Ok(Settled { config, rope, local_rope, rotary_dims, sliding, window: claims.window, warnings })
}

/// √d_model as transformers computes it: in the dtype of the embedding.
fn embed_scale(d_model: usize, dtype: DType) -> f64 {
    let root = (d_model as f64).sqrt();
    match dtype {
        DType::BF16 => half::bf16::from_f64(root).to_f64(),
        DType::F16 => half::f16::from_f64(root).to_f64(),
        _ => root,
    }
}

struct Heads {
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
}

impl Heads {
    /// Head counts from the rows of q and k of a layer, held against the claims.
    fn of(
        claims: &Claims,
        architecture: &Architecture,
        weights: &Weights,
        layer: usize,
        q_rows: usize,
        k_rows: usize,
    ) -> Result<Self> {
        let source = claims.source;
        let refuse = |slot, message: String| {
            Err(Error::format(message).file(&weights.tensors.source).tensor(weights.name(slot, layer).unwrap_or_default()))
        };
        // The head norm's own length is the surest sign of a head's width.
        let normed = weights.find(Slot::QueryNorm, layer).map(|gain| gain.numel());
        let claimed_width = normed.or(claims.d_head);
        let n_heads = match (claims.n_heads, claimed_width.or(architecture.d_head)) {
            (Some(heads), _) => heads,
            (None, Some(width)) if width > 0 && q_rows.is_multiple_of(width) => q_rows / width,
            _ => {
                return refuse(
                    Slot::Query,
                    format!("{source} gives no number of attention heads, and its {q_rows} rows do not tell"),
                );
            }
        };
        if n_heads == 0 || q_rows == 0 || !q_rows.is_multiple_of(n_heads) {
            return refuse(Slot::Query, format!("has {q_rows} rows, but {source} says {n_heads} attention heads"));
        }
        let d_head = q_rows / n_heads;
        if let Some(width) = claimed_width.filter(|width| *width != d_head) {
            let who = if normed.is_some() { "the head norm" } else { source };
            return refuse(
                Slot::Query,
                format!("has {q_rows} rows, which {source}'s {n_heads} heads make {d_head} a head, but {who} says {width}"),
            );
        }
        let n_kv_heads = k_rows / d_head;
        if n_kv_heads == 0 || !k_rows.is_multiple_of(d_head) || !n_heads.is_multiple_of(n_kv_heads) {
            return refuse(Slot::Key, format!("has {k_rows} rows, which do not serve {n_heads} query heads of {d_head}"));
        }
        match claims.n_kv_heads {
            Some(claimed) if claimed != n_kv_heads => refuse(
                Slot::Key,
                format!("has {k_rows} rows, {n_kv_heads} heads of {d_head}, but {source} says {claimed} kv heads"),
            ),
            _ => Ok(Heads { n_heads, n_kv_heads, d_head }),
        }
    }
}

/// Which layers see a sliding window only: as the config lists them, or by the family's rule.
fn sliding_layers(claims: &Claims, architecture: &Architecture, n_layers: usize) -> Result<Vec<bool>> {
    if let Some(listed) = &claims.sliding {
        return match listed.get(..n_layers) {
            Some(layers) => Ok(layers.to_vec()),
            None => Err(Error::format(format!("{} lists {} layer types for {n_layers} layers", claims.source, listed.len()))),
        };
    }
    let rule = |layer: usize| match architecture.sliding {
        Sliding::All => claims.window.is_some(),
        Sliding::From => claims.window.is_some() && layer >= claims.window_from.unwrap_or(28),
        Sliding::Even => layer.is_multiple_of(2),
        Sliding::AllButEvery(n) => !(layer + 1).is_multiple_of(claims.window_pattern.unwrap_or(n).max(1)),
    };
    Ok((0..n_layers).map(rule).collect())
}
