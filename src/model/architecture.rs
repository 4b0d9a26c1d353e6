//! The architectures as data: which stored tensor is which canonical one, and what a family does that its files do not say.
//!
//! A new architecture is a further row. Names follow transformers' checkpoints and llama.cpp's converters (FORMATS.md 4.1, 4.4).

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
}

/// How one container (transformers' safetensors, or GGUF) stores an architecture. Matrices are `[out, in]`.
#[derive(Debug)]
pub(super) struct Layout {
    /// Canonical weight → stored name; `{}` stands for the layer. What the architecture has no weight for is absent.
    pub names: &'static [Names],
    /// Norms store w and multiply by 1 + w.
    pub norm_offset: bool,
    /// The rows of q and k interleave the two rotary halves of a head: row (j, p) of a head is row (p, j) elsewhere.
    pub interleaved_rotary: bool,
}

/// Which layers see a sliding window only, where the file does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sliding {
    /// All, when the file names a window (Mistral); none otherwise.
    All,
    /// Layers 0, 2, 4, ….
    Even,
    /// All but every n-th.
    AllButEvery(usize),
}

/// What all files of an architecture have in common. Numbers are the defaults of transformers' config classes, which
/// configs may leave out.
#[derive(Debug)]
pub(super) struct Architecture {
    /// As `cfg.arch` names it.
    pub name: &'static str,
    /// Its `model_type`s in config.json.
    pub model_types: &'static [&'static str],
    pub huggingface: &'static Layout,
    pub gguf: Option<&'static Layout>,
    /// Norms multiply by 1 + w, whether or not the file has added the 1 already.
    pub norm_offset: bool,
    /// The embedding is multiplied by √d_model at the input.
    pub scaled_embedding: bool,
    pub sliding: Sliding,
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
// `post_attention_layernorm` is the norm before the MLP in Llama, and the norm on the attention's output in Gemma-2 and -3.
const LLAMA_NORMS: Names = &[(Slot::Ln2, "layers.{}.post_attention_layernorm.weight")];
const GEMMA_NORMS: Names = &[
    (Slot::Ln1Post, "layers.{}.post_attention_layernorm.weight"),
    (Slot::Ln2, "layers.{}.pre_feedforward_layernorm.weight"),
    (Slot::Ln2Post, "layers.{}.post_feedforward_layernorm.weight"),
];
const HEAD_NORMS: Names =
    &[(Slot::QueryNorm, "layers.{}.self_attn.q_norm.weight"), (Slot::KeyNorm, "layers.{}.self_attn.k_norm.weight")];

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

const LLAMA: Layout = Layout { names: &[TRANSFORMERS, LLAMA_NORMS], norm_offset: false, interleaved_rotary: false };
const GEMMA2: Layout = Layout { names: &[TRANSFORMERS, GEMMA_NORMS], norm_offset: true, interleaved_rotary: false };
const GEMMA3: Layout = Layout { names: &[TRANSFORMERS, GEMMA_NORMS, HEAD_NORMS], norm_offset: true, interleaved_rotary: false };
const LLAMA_GGUF: Layout = Layout { names: &[GGUF], norm_offset: false, interleaved_rotary: true };
// The converter adds the 1 to every norm of Gemma, those of q and k too (FORMATS.md 4.4).
const GEMMA3_GGUF: Layout =
    Layout { names: &[GGUF, GGUF_GEMMA_NORMS, GGUF_HEAD_NORMS], norm_offset: false, interleaved_rotary: false };

/// Every architecture that can be read.
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        model_types: &["llama", "mistral"],
        huggingface: &LLAMA,
        gguf: Some(&LLAMA_GGUF),
        norm_offset: false,
        scaled_embedding: false,
        sliding: Sliding::All,
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
    },
    Architecture {
        name: "gemma2",
        model_types: &["gemma2"],
        huggingface: &GEMMA2,
        gguf: None,
        norm_offset: true,
        scaled_embedding: true,
        sliding: Sliding::Even,
        local_rope_theta: None,
        act: "gelu_pytorch_tanh",
        tied: true,
        eps: 1e-6,
        rope_theta: 1e4,
        d_head: Some(256),
        query_scalar: Some(256.0),
        gguf_query_scalars: &[],
        attn_softcap: Some(50.0),
        final_softcap: Some(30.0),
    },
    Architecture {
        name: "gemma3",
        model_types: &["gemma3_text", "gemma3"],
        huggingface: &GEMMA3,
        gguf: Some(&GEMMA3_GGUF),
        norm_offset: true,
        scaled_embedding: true,
        sliding: Sliding::AllButEvery(6),
        local_rope_theta: Some(1e4),
        act: "gelu_pytorch_tanh",
        tied: true,
        eps: 1e-6,
        rope_theta: 1e6,
        d_head: Some(256),
        query_scalar: Some(256.0),
        // Gemma-3-27B
        gguf_query_scalars: &[(5376, 32, 168.0)],
        attn_softcap: None,
        final_softcap: None,
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
