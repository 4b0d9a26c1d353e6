//! Weights made ready for the pass: linear maps packed in f32, gains effective, heads in transformers' order.

use crate::compute::product::Packed;
use crate::error::Result;
use crate::model::architecture::Slot;
use crate::model::{Model, Norm};
use crate::tensor::Tensor;
use crate::work::Work;

/// A norm.
pub(super) struct NormWeights {
    pub kind: Norm,
    pub gain: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub eps: f64,
}

/// A linear map.
pub(super) struct Linear {
    /// `[out, in]`.
    pub weight: Packed,
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
    pub fn new(model: &Model, layer: usize, rotation: usize, work: &Work) -> Result<Self> {
        let norm = |name: &str| NormWeights::find(model, &format!("blocks.{layer}.{name}"));
        let needed = |name: &str| NormWeights::get(model, &format!("blocks.{layer}.{name}"));
        let heads = |weight, bias, n: usize| -> Result<Linear> {
            let weight =
                joined(model, weight, layer, n)?.ok_or_else(|| crate::Error::internal("a weight of attention is missing"))?;
            let weight = Packed::new(&weight, work)?;
            Ok(Linear { weight, bias: joined(model, bias, layer, n)?.map(|bias| bias.to_f32()) })
        };
        // The model's weights are `[in, out]`.
        let linear = |weight: Tensor, bias: Option<Tensor>| -> Result<Linear> {
            Ok(Linear { weight: Packed::new(&weight.t(), work)?, bias: bias.map(|bias| bias.to_f32()) })
        };
        let (n_heads, n_kv_heads) = (model.cfg().n_heads, model.cfg().n_kv_heads);
        Ok(Layer {
            ln1: needed("ln1")?,
            q: heads(Slot::Query, Slot::QueryBias, n_heads)?,
            k: heads(Slot::Key, Slot::KeyBias, n_kv_heads)?,
            v: heads(Slot::Value, Slot::ValueBias, n_kv_heads)?,
            q_norm: norm("attn.q_norm")?,
            k_norm: norm("attn.k_norm")?,
            o: linear(model.w_o_all(layer)?, model.b_o(layer)?)?,
            ln1_post: norm("ln1_post")?,
            ln2: needed("ln2")?,
            gate: match model.w_gate(layer)? {
                Some(gate) => Some(linear(gate, model.b_gate(layer)?)?),
                None => None,
            },
            input: linear(model.w_in(layer)?, model.b_in(layer)?)?,
            output: linear(model.w_out(layer)?, model.b_out(layer)?)?,
            ln2_post: norm("ln2_post")?,
            window: model.window(layer)?,
            rotation,
        })
    }
}

/// The rows of all heads of q, k or v, one after another.
fn joined(model: &Model, slot: Slot, layer: usize, n: usize) -> Result<Option<Tensor>> {
    if let Some(whole) = model.plain_heads(slot, layer) {
        return Ok(Some(whole));
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
