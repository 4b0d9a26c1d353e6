//! Weights made ready for the pass: dense f32 `[out, in]`, gains effective, heads in transformers' order.

use crate::error::Result;
use crate::model::architecture::Slot;
use crate::model::{Model, Norm};
use crate::tensor::Tensor;

/// A norm.
pub(super) struct NormWeights {
    pub kind: Norm,
    pub gain: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub eps: f64,
}

/// A linear map.
pub(super) struct Linear {
    /// `[out, in]`; a view where the file holds it so.
    pub weight: Tensor,
    pub bias: Option<Vec<f32>>,
}

/// One layer.
pub(super) struct Layer {
    pub ln1: NormWeights,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub q_norm: Option<NormWeights>,
    pub k_norm: Option<NormWeights>,
    pub o: Linear,
    pub ln1_post: Option<NormWeights>,
    pub ln2: NormWeights,
    pub gate: Option<Linear>,
    pub input: Linear,
    pub output: Linear,
    pub ln2_post: Option<NormWeights>,
    pub window: Option<usize>,
    /// Which of the pass's rotations.
    pub rotation: usize,
}

impl NormWeights {
    /// The norm of that name, where the architecture has it.
    pub fn find(model: &Model, name: &str) -> Result<Option<Self>> {
        let Some(gain) = model.find_gain(name)? else { return Ok(None) };
        let cfg = model.cfg();
        // Head norms are RMS norms in every architecture that has them.
        let kind = if name.contains(".attn.") { Norm::Rms } else { cfg.norm };
        Ok(Some(NormWeights { kind, gain: gain.to_f32(), bias: model.bias(name)?.map(|bias| bias.to_f32()), eps: cfg.eps }))
    }

    /// The norm of that name.
    ///
    /// # Errors
    /// The architecture has none.
    pub fn get(model: &Model, name: &str) -> Result<Self> {
        let missing = || crate::Error::internal(format!("the model has no norm {name}"));
        Self::find(model, name)?.ok_or_else(missing)
    }
}

impl Layer {
    pub fn new(model: &Model, layer: usize, rotation: usize) -> Result<Self> {
        let norm = |name: &str| NormWeights::find(model, &format!("blocks.{layer}.{name}"));
        let needed = |name: &str| NormWeights::get(model, &format!("blocks.{layer}.{name}"));
        let bias = |bias: Option<Tensor>| bias.map(|bias| bias.to_f32());
        let heads = |weight, bias, n: usize| -> Result<Linear> {
            let weight =
                joined(model, weight, layer, n)?.ok_or_else(|| crate::Error::internal("a weight of attention is missing"))?;
            Ok(Linear { weight, bias: joined(model, bias, layer, n)?.map(|bias| bias.to_f32()) })
        };
        let (n_heads, n_kv_heads) = (model.cfg().n_heads, model.cfg().n_kv_heads);
        Ok(Layer {
            ln1: needed("ln1")?,
            q: heads(Slot::Query, Slot::QueryBias, n_heads)?,
            k: heads(Slot::Key, Slot::KeyBias, n_kv_heads)?,
            v: heads(Slot::Value, Slot::ValueBias, n_kv_heads)?,
            q_norm: norm("attn.q_norm")?,
            k_norm: norm("attn.k_norm")?,
            o: Linear { weight: dense(&model.w_o_all(layer)?.t())?, bias: bias(model.b_o(layer)?) },
            ln1_post: norm("ln1_post")?,
            ln2: needed("ln2")?,
            gate: match model.w_gate(layer)? {
                Some(gate) => Some(Linear { weight: dense(&gate.t())?, bias: bias(model.b_gate(layer)?) }),
                None => None,
            },
            input: Linear { weight: dense(&model.w_in(layer)?.t())?, bias: bias(model.b_in(layer)?) },
            output: Linear { weight: dense(&model.w_out(layer)?.t())?, bias: bias(model.b_out(layer)?) },
            ln2_post: norm("ln2_post")?,
            window: model.window(layer)?,
            rotation,
        })
    }
}

/// The rows of all heads of q, k or v, one after another.
fn joined(model: &Model, slot: Slot, layer: usize, n: usize) -> Result<Option<Tensor>> {
    if let Some(whole) = model.plain_heads(slot, layer) {
        return dense(&whole).map(Some);
    }
    let mut rows = Vec::new();
    let mut shape = Vec::new();
    for head in 0..n {
        let Some(part) = model.head_rows(slot, layer, head)? else { return Ok(None) };
        shape = part.shape().to_vec();
        rows.extend(part.to_f32());
    }
    shape[0] *= n;
    Tensor::from_f32(rows, &shape).map(Some)
}

/// As dense f32: a view where it is that already.
fn dense(matrix: &Tensor) -> Result<Tensor> {
    if matrix.as_f32().is_some() { Ok(matrix.clone()) } else { Tensor::from_f32(matrix.to_f32(), matrix.shape()) }
}
