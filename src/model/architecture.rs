//! The architectures as data: which stored tensor is which canonical one, and what a family does that its files do not say.
//!
//! A new architecture is a further row. Names follow transformers' checkpoints and llama.cpp's converters (FORMATS.md 4.1, 4.4).

use super::config::Norm;
use crate::error::{Error, Result, nearest};

/// A canonical weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Embed,
    Unembed,
    LnFinal,
    Ln1,
    Ln1Post,
    Ln2,
    Ln2Post,
    QueryNorm,
    KeyNorm,
    Query,
    Key,
    Value,
    Output,
    In,
    Gate,
    Out,
    RopeDivisors,
    /// The output of linear attention, which a layer has in place of heads.
    LinearOutput,
    /// What chooses among the experts that a layer has in place of one MLP.
    Router,
    /// Queries, keys and values in one matrix, where a container stores them so.
    Fused,
    /// Learned positions.
    Position,
    LnFinalBias,
    Ln1Bias,
    Ln2Bias,
    QueryBias,
    KeyBias,
    ValueBias,
    FusedBias,
    OutputBias,
    InBias,
    GateBias,
    OutBias,
}

impl Slot {
    /// True for what models of one architecture may have or lack: the biases of linear maps.
    pub fn is_optional(self) -> bool {
        use Slot::{
            GateBias, InBias, KeyBias, LinearOutput, OutBias, OutputBias, QueryBias, RopeDivisors, Router, Unembed, ValueBias,
        };
        matches!(
            self,
            QueryBias
                | KeyBias
                | ValueBias
                | OutputBias
                | InBias
                | GateBias
                | OutBias
                | RopeDivisors
                | Unembed
                | LinearOutput
                | Router
        )
    }

    /// True for what only a layer with one MLP has.
    pub fn is_of_mlp(self) -> bool {
        matches!(self, Slot::In | Slot::Gate | Slot::Out)
    }

    /// True for what only a layer with heads has.
    pub fn is_of_heads(self) -> bool {
        use Slot::{Fused, Key, KeyNorm, Output, Query, QueryNorm, Value};
        matches!(self, Query | Key | Value | Fused | QueryNorm | KeyNorm | Output)
    }
}

/// How queries, keys and values lie in the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// A tensor each.
    Separate,
    /// One tensor: all queries, then all keys, then all values.
    Thirds,
    /// One tensor: query, key and value of head 0, then those of head 1, ….
    Interleaved,
    /// A tensor each, where a head's queries are followed by the gate that its z is multiplied by.
    Gated,
}

/// How one container (transformers' safetensors, or GGUF) stores an architecture. Matrices are `[out, in]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Canonical weight → stored name; `{}` stands for the layer. What the architecture has no weight for is absent.
    pub names: &'static [Names],
    /// Norms store w and multiply by 1 + w.
    pub norm_offset: bool,
    /// The rows of q and k interleave the two rotary halves of a head: row (j, p) of a head is row (p, j) elsewhere.
    pub interleaved_rotary: bool,
    pub heads: Heads,
    /// The matrices of attention and MLP are `[in, out]` (GPT-2's Conv1D).
    pub turned: bool,
}

/// Which layers see a sliding window only, where the file does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sliding {
    /// All, when the file names a window (Mistral); none otherwise.
    All,
    /// From the layer that the file names on (28 without), when it says that windows are used (Qwen).
    From,
    /// Layers 0, 2, 4, ….
    Even,
    /// All but every n-th.
    AllButEvery(usize),
}

/// What all files of an architecture have in common. Numbers are the defaults of transformers' config classes, which
/// configs may leave out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture {
    /// As `cfg.arch` names it.
    pub name: &'static str,
    /// Its `model_type`s in config.json.
    pub model_types: &'static [&'static str],
    pub huggingface: &'static Layout,
    pub gguf: Option<&'static Layout>,
    pub norm: Norm,
    /// Norms multiply by 1 + w, whether or not the file has added the 1 already.
    pub norm_offset: bool,
    /// The embedding is multiplied by √d_model at the input.
    pub scaled_embedding: bool,
    pub sliding: Sliding,
    /// Length of a sliding window, where files leave it out.
    pub window: Option<usize>,
    /// Share of a head that turns; 0 where positions are learned.
    pub rotary_share: f64,
    /// Attention and MLP both read the layer's input, unless the config says otherwise.
    pub parallel: bool,
    /// Layers with a sliding window rotate with this base and without scaling.
    pub local_rope_theta: Option<f64>,
    pub act: &'static str,
    pub tied: bool,
    pub eps: f64,
    pub rope_theta: f64,
    /// Size of a head, where configs may leave it out and it is not d_model / n_heads.
    pub d_head: Option<usize>,
    /// Attention scores are divided by the root of this instead of d_head: `query_pre_attn_scalar`.
    pub query_scalar: Option<f64>,
    /// What GGUF files leave unsaid: (d_model, n_heads, scalar) of the models whose scalar is not d_head.
    pub gguf_query_scalars: &'static [(usize, usize, f64)],
    pub attn_softcap: Option<f64>,
    pub final_softcap: Option<f64>,
}

type Names = &'static [(Slot, &'static str)];

/// Transformers' names, without the prefixes of FORMATS.md 4.3.
const TRANSFORMERS: Names = &[
    (Slot::Embed, "embed_tokens.weight"),
    (Slot::Unembed, "lm_head.weight"),
    (Slot::LnFinal, "norm.weight"),
    (Slot::Ln1, "layers.{}.input_layernorm.weight"),
    (Slot::Query, "layers.{}.self_attn.q_proj.weight"),
    (Slot::Key, "layers.{}.self_attn.k_proj.weight"),
    (Slot::Value, "layers.{}.self_attn.v_proj.weight"),
    (Slot::Output, "layers.{}.self_attn.o_proj.weight"),
    (Slot::Gate, "layers.{}.mlp.gate_proj.weight"),
    (Slot::In, "layers.{}.mlp.up_proj.weight"),
    (Slot::Out, "layers.{}.mlp.down_proj.weight"),
];
/// Biases, where `attention_bias` or `mlp_bias` asks for them, and always of q, k and v in Qwen2.
const BIASES: Names = &[
    (Slot::QueryBias, "layers.{}.self_attn.q_proj.bias"),
    (Slot::KeyBias, "layers.{}.self_attn.k_proj.bias"),
    (Slot::ValueBias, "layers.{}.self_attn.v_proj.bias"),
    (Slot::OutputBias, "layers.{}.self_attn.o_proj.bias"),
    (Slot::GateBias, "layers.{}.mlp.gate_proj.bias"),
    (Slot::InBias, "layers.{}.mlp.up_proj.bias"),
    (Slot::OutBias, "layers.{}.mlp.down_proj.bias"),
];
// `post_attention_layernorm` is the norm before the MLP in Llama, and the norm on the attention's output in Gemma-2 and -3.
const LLAMA_NORMS: Names = &[(Slot::Ln2, "layers.{}.post_attention_layernorm.weight")];
const GEMMA_NORMS: Names = &[
    (Slot::Ln1Post, "layers.{}.post_attention_layernorm.weight"),
    (Slot::Ln2, "layers.{}.pre_feedforward_layernorm.weight"),
    (Slot::Ln2Post, "layers.{}.post_feedforward_layernorm.weight"),
];
const HEAD_NORMS: Names =
    &[(Slot::QueryNorm, "layers.{}.self_attn.q_norm.weight"), (Slot::KeyNorm, "layers.{}.self_attn.k_norm.weight")];

const LINEAR: Names = &[(Slot::LinearOutput, "layers.{}.linear_attn.out_proj.weight")];
const ROUTER: Names = &[(Slot::Router, "layers.{}.mlp.gate.weight")];

const GGUF: Names = &[
    (Slot::Embed, "token_embd.weight"),
    (Slot::Unembed, "output.weight"),
    (Slot::LnFinal, "output_norm.weight"),
    (Slot::Ln1, "blk.{}.attn_norm.weight"),
    (Slot::Ln2, "blk.{}.ffn_norm.weight"),
    (Slot::Query, "blk.{}.attn_q.weight"),
    (Slot::Key, "blk.{}.attn_k.weight"),
    (Slot::Value, "blk.{}.attn_v.weight"),
    (Slot::Output, "blk.{}.attn_output.weight"),
    (Slot::Gate, "blk.{}.ffn_gate.weight"),
    (Slot::In, "blk.{}.ffn_up.weight"),
    (Slot::Out, "blk.{}.ffn_down.weight"),
    (Slot::RopeDivisors, "rope_freqs.weight"),
];
const GGUF_GEMMA_NORMS: Names =
    &[(Slot::Ln1Post, "blk.{}.post_attention_norm.weight"), (Slot::Ln2Post, "blk.{}.post_ffw_norm.weight")];
const GGUF_HEAD_NORMS: Names = &[(Slot::QueryNorm, "blk.{}.attn_q_norm.weight"), (Slot::KeyNorm, "blk.{}.attn_k_norm.weight")];
const GGUF_ROUTER: Names = &[(Slot::Router, "blk.{}.ffn_gate_inp.weight")];
const GGUF_BIASES: Names = &[
    (Slot::QueryBias, "blk.{}.attn_q.bias"),
    (Slot::KeyBias, "blk.{}.attn_k.bias"),
    (Slot::ValueBias, "blk.{}.attn_v.bias"),
    (Slot::OutputBias, "blk.{}.attn_output.bias"),
    (Slot::GateBias, "blk.{}.ffn_gate.bias"),
    (Slot::InBias, "blk.{}.ffn_up.bias"),
    (Slot::OutBias, "blk.{}.ffn_down.bias"),
];
/// GPT-2 and GPT-NeoX.
const GGUF_LAYER_NORMED: Names = &[
    (Slot::Embed, "token_embd.weight"),
    (Slot::Unembed, "output.weight"),
    (Slot::LnFinal, "output_norm.weight"),
    (Slot::LnFinalBias, "output_norm.bias"),
    (Slot::Ln1, "blk.{}.attn_norm.weight"),
    (Slot::Ln1Bias, "blk.{}.attn_norm.bias"),
    (Slot::Fused, "blk.{}.attn_qkv.weight"),
    (Slot::FusedBias, "blk.{}.attn_qkv.bias"),
    (Slot::Output, "blk.{}.attn_output.weight"),
    (Slot::OutputBias, "blk.{}.attn_output.bias"),
    (Slot::Ln2, "blk.{}.ffn_norm.weight"),
    (Slot::Ln2Bias, "blk.{}.ffn_norm.bias"),
    (Slot::In, "blk.{}.ffn_up.weight"),
    (Slot::InBias, "blk.{}.ffn_up.bias"),
    (Slot::Out, "blk.{}.ffn_down.weight"),
    (Slot::OutBias, "blk.{}.ffn_down.bias"),
];
const GGUF_POSITIONS: Names = &[(Slot::Position, "position_embd.weight")];

const GPT2_NAMES: Names = &[
    (Slot::Embed, "wte.weight"),
    (Slot::Position, "wpe.weight"),
    (Slot::Unembed, "lm_head.weight"),
    (Slot::LnFinal, "ln_f.weight"),
    (Slot::LnFinalBias, "ln_f.bias"),
    (Slot::Ln1, "h.{}.ln_1.weight"),
    (Slot::Ln1Bias, "h.{}.ln_1.bias"),
    (Slot::Fused, "h.{}.attn.c_attn.weight"),
    (Slot::FusedBias, "h.{}.attn.c_attn.bias"),
    (Slot::Output, "h.{}.attn.c_proj.weight"),
    (Slot::OutputBias, "h.{}.attn.c_proj.bias"),
    (Slot::Ln2, "h.{}.ln_2.weight"),
    (Slot::Ln2Bias, "h.{}.ln_2.bias"),
    (Slot::In, "h.{}.mlp.c_fc.weight"),
    (Slot::InBias, "h.{}.mlp.c_fc.bias"),
    (Slot::Out, "h.{}.mlp.c_proj.weight"),
    (Slot::OutBias, "h.{}.mlp.c_proj.bias"),
];
const NEOX_NAMES: Names = &[
    (Slot::Embed, "embed_in.weight"),
    (Slot::Unembed, "embed_out.weight"),
    (Slot::LnFinal, "final_layer_norm.weight"),
    (Slot::LnFinalBias, "final_layer_norm.bias"),
    (Slot::Ln1, "layers.{}.input_layernorm.weight"),
    (Slot::Ln1Bias, "layers.{}.input_layernorm.bias"),
    (Slot::Fused, "layers.{}.attention.query_key_value.weight"),
    (Slot::FusedBias, "layers.{}.attention.query_key_value.bias"),
    (Slot::Output, "layers.{}.attention.dense.weight"),
    (Slot::OutputBias, "layers.{}.attention.dense.bias"),
    (Slot::Ln2, "layers.{}.post_attention_layernorm.weight"),
    (Slot::Ln2Bias, "layers.{}.post_attention_layernorm.bias"),
    (Slot::In, "layers.{}.mlp.dense_h_to_4h.weight"),
    (Slot::InBias, "layers.{}.mlp.dense_h_to_4h.bias"),
    (Slot::Out, "layers.{}.mlp.dense_4h_to_h.weight"),
    (Slot::OutBias, "layers.{}.mlp.dense_4h_to_h.bias"),
];

const PLAIN: Layout = Layout { names: &[], norm_offset: false, interleaved_rotary: false, heads: Heads::Separate, turned: false };
const LLAMA: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, BIASES], ..PLAIN };
const QWEN3: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, HEAD_NORMS, BIASES], ..PLAIN };
const QWEN35: Layout =
    Layout { names: &[TRANSFORMERS, LLAMA_NORMS, HEAD_NORMS, BIASES, LINEAR], norm_offset: true, heads: Heads::Gated, ..PLAIN };
const QWEN2_MOE: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, BIASES, ROUTER], ..PLAIN };
const QWEN3_MOE: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, HEAD_NORMS, BIASES, ROUTER], ..PLAIN };
const QWEN35_MOE: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, HEAD_NORMS, BIASES, LINEAR, ROUTER], ..QWEN35 };
const GEMMA: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS, BIASES], norm_offset: true, ..PLAIN };
const GEMMA2: Layout = Layout { names: &[TRANSFORMERS, GEMMA_NORMS, BIASES], norm_offset: true, ..PLAIN };
const GEMMA3: Layout = Layout { names: &[TRANSFORMERS, GEMMA_NORMS, HEAD_NORMS, BIASES], norm_offset: true, ..PLAIN };
const GPT2: Layout = Layout { names: &[GPT2_NAMES], heads: Heads::Thirds, turned: true, ..PLAIN };
const NEOX: Layout = Layout { names: &[NEOX_NAMES], heads: Heads::Interleaved, ..PLAIN };
// llama.cpp's converter turns the rotary halves of the architecture `llama` alone.
const LLAMA_GGUF: Layout = Layout { names: &[GGUF, GGUF_BIASES], interleaved_rotary: true, ..PLAIN };
const QWEN2_GGUF: Layout = Layout { names: &[GGUF, GGUF_BIASES], ..PLAIN };
const QWEN3_GGUF: Layout = Layout { names: &[GGUF, GGUF_HEAD_NORMS, GGUF_BIASES], ..PLAIN };
const QWEN2_MOE_GGUF: Layout = Layout { names: &[GGUF, GGUF_BIASES, GGUF_ROUTER], ..PLAIN };
const QWEN3_MOE_GGUF: Layout = Layout { names: &[GGUF, GGUF_HEAD_NORMS, GGUF_BIASES, GGUF_ROUTER], ..PLAIN };
// It adds the 1 to every norm of Gemma, those of q and k too (FORMATS.md 4.4).
const GEMMA_GGUF: Layout = Layout { names: &[GGUF], ..PLAIN };
const GEMMA2_GGUF: Layout = Layout { names: &[GGUF, GGUF_GEMMA_NORMS], ..PLAIN };
const GEMMA3_GGUF: Layout = Layout { names: &[GGUF, GGUF_GEMMA_NORMS, GGUF_HEAD_NORMS], ..PLAIN };
// It stores GPT-2's matrices as `[out, in]`, and sorts the heads of GPT-NeoX into thirds.
const GPT2_GGUF: Layout = Layout { names: &[GGUF_LAYER_NORMED, GGUF_POSITIONS], heads: Heads::Thirds, ..PLAIN };
const NEOX_GGUF: Layout = Layout { names: &[GGUF_LAYER_NORMED], heads: Heads::Thirds, ..PLAIN };

const LLAMA_LIKE: Architecture = Architecture {
    name: "llama",
    model_types: &["llama", "mistral"],
    huggingface: &LLAMA,
    gguf: Some(&LLAMA_GGUF),
    norm: Norm::Rms,
    norm_offset: false,
    scaled_embedding: false,
    sliding: Sliding::All,
    window: None,
    rotary_share: 1.0,
    parallel: false,
    local_rope_theta: None,
    act: "silu",
    tied: false,
    eps: 1e-6,
    rope_theta: 1e4,
    d_head: None,
    query_scalar: None,
    gguf_query_scalars: &[],
    attn_softcap: None,
    final_softcap: None,
};
const GEMMA_LIKE: Architecture = Architecture {
    name: "gemma",
    model_types: &["gemma"],
    huggingface: &GEMMA,
    gguf: Some(&GEMMA_GGUF),
    norm_offset: true,
    scaled_embedding: true,
    act: "gelu_pytorch_tanh",
    tied: true,
    d_head: Some(256),
    ..LLAMA_LIKE
};
const LAYER_NORMED: Architecture = Architecture { norm: Norm::Layer, eps: 1e-5, ..LLAMA_LIKE };

const QWEN2_LIKE: Architecture =
    Architecture { name: "qwen2", model_types: &["qwen2"], gguf: Some(&QWEN2_GGUF), sliding: Sliding::From, ..LLAMA_LIKE };
const QWEN3_LIKE: Architecture = Architecture {
    name: "qwen3",
    model_types: &["qwen3"],
    huggingface: &QWEN3,
    gguf: Some(&QWEN3_GGUF),
    sliding: Sliding::From,
    d_head: Some(128),
    ..LLAMA_LIKE
};
// Three of four layers have linear attention.
const QWEN35_LIKE: Architecture = Architecture {
    name: "qwen3_5",
    model_types: &["qwen3_5_text", "qwen3_5"],
    huggingface: &QWEN35,
    gguf: None,
    norm_offset: true,
    rotary_share: 0.25,
    d_head: Some(256),
    ..LLAMA_LIKE
};

/// Every architecture that can be read.
const ARCHITECTURES: &[Architecture] = &[
    LLAMA_LIKE,
    QWEN2_LIKE,
    Architecture {
        name: "qwen2moe",
        model_types: &["qwen2_moe"],
        huggingface: &QWEN2_MOE,
        gguf: Some(&QWEN2_MOE_GGUF),
        ..QWEN2_LIKE
    },
    QWEN3_LIKE,
    Architecture {
        name: "qwen3moe",
        model_types: &["qwen3_moe"],
        huggingface: &QWEN3_MOE,
        gguf: Some(&QWEN3_MOE_GGUF),
        ..QWEN3_LIKE
    },
    QWEN35_LIKE,
    Architecture {
        name: "qwen3_5_moe",
        model_types: &["qwen3_5_moe_text", "qwen3_5_moe"],
        huggingface: &QWEN35_MOE,
        ..QWEN35_LIKE
    },
    GEMMA_LIKE,
    Architecture {
        name: "gemma2",
        model_types: &["gemma2"],
        huggingface: &GEMMA2,
        gguf: Some(&GEMMA2_GGUF),
        sliding: Sliding::Even,
        window: Some(4096),
        query_scalar: Some(256.0),
        // Gemma-2-27B
        gguf_query_scalars: &[(4608, 32, 144.0)],
        attn_softcap: Some(50.0),
        final_softcap: Some(30.0),
        ..GEMMA_LIKE
    },
    Architecture {
        name: "gemma3",
        model_types: &["gemma3_text", "gemma3"],
        huggingface: &GEMMA3,
        gguf: Some(&GEMMA3_GGUF),
        sliding: Sliding::AllButEvery(6),
        local_rope_theta: Some(1e4),
        rope_theta: 1e6,
        query_scalar: Some(256.0),
        // Gemma-3-27B
        gguf_query_scalars: &[(5376, 32, 168.0)],
        ..GEMMA_LIKE
    },
    Architecture {
        name: "gpt2",
        model_types: &["gpt2"],
        huggingface: &GPT2,
        gguf: Some(&GPT2_GGUF),
        rotary_share: 0.0,
        act: "gelu_new",
        tied: true,
        ..LAYER_NORMED
    },
    Architecture {
        name: "gptneox",
        model_types: &["gpt_neox"],
        huggingface: &NEOX,
        gguf: Some(&NEOX_GGUF),
        rotary_share: 0.25,
        parallel: true,
        act: "gelu",
        ..LAYER_NORMED
    },
];

impl Layout {
    /// The stored name of a weight; `None` when the architecture has none.
    pub fn name_of(&self, slot: Slot, layer: usize) -> Option<String> {
        let (_, name) = self.names.iter().copied().flatten().find(|(s, _)| *s == slot)?;
        Some(name.replace("{}", &layer.to_string()))
    }
}

/// The architecture of a `model_type` in config.json.
///
/// # Errors
/// It is none of the known ones, which the message lists.
pub(super) fn by_model_type(model_type: &str) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|a| a.model_types.contains(&model_type));
    found.ok_or_else(|| unknown(model_type, "config.json", ARCHITECTURES.iter().flat_map(|a| a.model_types).copied().collect()))
}

/// The architecture of a GGUF file's `general.architecture`, with its layout there.
///
/// # Errors
/// It is none of the known ones, which the message lists.
pub(super) fn by_gguf_name(name: &str) -> Result<(&'static Architecture, &'static Layout)> {
    let known = ARCHITECTURES.iter().filter_map(|a| Some((a, a.gguf?)));
    let found = known.clone().find(|(a, _)| a.name == name);
    found.ok_or_else(|| unknown(name, "GGUF", known.map(|(a, _)| a.name).collect()))
}

fn unknown(name: &str, container: &str, known: Vec<&str>) -> Error {
    let error = Error::format(format!("unknown architecture `{name}` ({container})"));
    let error = match nearest(name, known.iter().copied()) {
        Some(near) => error.help(format!("the nearest known one is `{near}`")),
        None => error,
    };
    error.help(format!("known architectures are: {}", known.join(", ")))
}
