//! The stored tensors of a model under their canonical names.

use super::architecture::{Heads, Layout, Slot};
use crate::error::{Error, Result};
use crate::formats::TensorSet;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeSet;

/// Prefixes that transformers puts before the text model's names, in the order in which they are tried.
const PREFIXES: &[&str] =
    &["model.language_model.", "language_model.model.", "model.", "transformer.", "gpt_neox.", "text_model.", ""];

/// Parts of names that belong to other modalities, hold what the config says already (rotary frequencies and causal masks), or belong
/// to what no analysis reads: linear attention, experts, the extra layer that predicts further tokens, scales of 8-bit weights (read with them)
/// and of activations.
const FOREIGN: &[&str] = &[
    "vision_tower",
    "vision_model",
    "visual",
    "multi_modal_projector",
    "rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    ".linear_attn.",
    ".mlp.experts.",
    ".mlp.shared_expert",
    "_exps.",
    "_shexp.",
    ".ffn_gate_inp_shexp",
    "mtp.",
    ".weight_scale",
    ".input_scale",
];

/// Stored tensors, looked up by canonical weight and layer.
#[derive(Debug)]
pub(super) struct Weights {
    pub tensors: TensorSet,
    pub layout: &'static Layout,
    prefix: &'static str,
    /// Rows and columns that share a scale, where a matrix of 8-bit numbers has one for each block.
    scale_block: [usize; 2],
}

/// The blocks of a checkpoint whose config does not say (DeepSeek, Qwen3-FP8).
const SCALE_BLOCK: [usize; 2] = [128, 128];

impl Weights {
    pub fn new(tensors: TensorSet, layout: &'static Layout, scale_block: Option<[usize; 2]>) -> Self {
        let embed = layout.name_of(Slot::Embed, 0).unwrap_or_default();
        let prefix = PREFIXES.iter().find(|prefix| tensors.find(&format!("{prefix}{embed}")).is_some());
        let scale_block = scale_block.filter(|block| !block.contains(&0)).unwrap_or(SCALE_BLOCK);
        Weights { prefix: prefix.copied().unwrap_or_default(), tensors, layout, scale_block }
    }

    /// The stored name; `None` when the architecture has no such weight.
    pub fn name(&self, slot: Slot, layer: usize) -> Option<String> {
        let name = self.layout.name_of(slot, layer)?;
        // The unembedding lies outside the text model: `lm_head.weight` or `language_model.lm_head.weight`.
        let candidates = [format!("{}{name}", self.prefix), name.clone(), format!("language_model.{name}")];
        let [inside, ..] = &candidates;
        Some(candidates.iter().find(|name| self.tensors.find(name).is_some()).unwrap_or(inside).clone())
    }

    /// A weight where the file has it; matrices `[out, in]`.
    pub fn find(&self, slot: Slot, layer: usize) -> Option<Tensor> {
        let name = self.name(slot, layer)?;
        Some(self.upright(slot, &name, self.tensors.find(&name)?))
    }

    /// A weight that the architecture has; matrices `[out, in]`.
    ///
    /// # Errors
    /// The file lacks it.
    pub fn get(&self, slot: Slot, layer: usize) -> Result<Tensor> {
        let name = self.name(slot, layer).ok_or_else(|| Error::internal(format!("this architecture has no {slot:?}")))?;
        Ok(self.upright(slot, &name, self.tensors.get(&name)?))
    }

    fn upright(&self, slot: Slot, name: &str, stored: &Tensor) -> Tensor {
        let linear = matches!(slot, Slot::Fused | Slot::Output | Slot::In | Slot::Out);
        let weight = match self.scales(name, stored) {
            Some(scales) => scaled(stored, scales, self.shared(scales, stored)),
            None => stored.clone(),
        };
        if self.layout.turned && linear && weight.ndim() == 2 { weight.t() } else { weight }
    }

    /// What a checkpoint of 8-bit weights says that a matrix must be multiplied by: `weight_scale` (compressed-tensors, FBGEMM) or
    /// `weight_scale_inv` (DeepSeek, whose inverse is that of quantising).
    fn scales(&self, name: &str, stored: &Tensor) -> Option<&Tensor> {
        let small = matches!(stored.dtype(), DType::F8E4M3 | DType::F8E5M2 | DType::I8) && stored.ndim() == 2;
        let beside = ["_scale", "_scale_inv"].iter().find_map(|ending| self.tensors.find(&format!("{name}{ending}")));
        beside.filter(|_| small)
    }

    /// Rows and columns of a matrix that share a scale: all, those of a row, or those of a block.
    fn shared(&self, scales: &Tensor, stored: &Tensor) -> [usize; 2] {
        let [rows, columns] = [0, 1].map(|dim| stored.shape()[dim].max(1));
        match scales.shape() {
            _ if scales.numel() == 1 => [rows, columns],
            [n] | [n, 1] if *n == rows => [1, columns],
            _ => self.scale_block,
        }
    }

    /// Fails where scales do not fit their matrix.
    ///
    /// # Errors
    /// The first such tensor.
    pub fn check_scales(&self) -> Result<()> {
        for (name, stored) in self.tensors.iter() {
            let Some(scales) = self.scales(name, stored) else { continue };
            let shared = self.shared(scales, stored);
            let counts = [0, 1].map(|dim| stored.shape()[dim].div_ceil(shared[dim]));
            if scales.numel() != counts[0] * counts[1] {
                let message = format!(
                    "its shape is {:?} with scales {:?}, but blocks of {shared:?} need {counts:?}",
                    stored.shape(),
                    scales.shape()
                );
                return Err(Error::format(message).file(&self.tensors.source).tensor(name));
            }
        }
        Ok(())
    }

    /// Where queries lie: the tensor that every layer with heads has.
    pub fn attention_slot(&self) -> Slot {
        match self.layout.heads {
            Heads::Separate | Heads::Gated => Slot::Query,
            Heads::Thirds | Heads::Interleaved => Slot::Fused,
        }
    }

    /// True where a layer has linear attention in place of heads.
    pub fn is_linear(&self, layer: usize) -> bool {
        self.find(Slot::LinearOutput, layer).is_some()
    }

    /// True where a layer has experts in place of one MLP.
    pub fn is_mixture(&self, layer: usize) -> bool {
        self.find(Slot::Router, layer).is_some()
    }

    /// The rows of one head of q, k or v (or the numbers of its bias), `[d_head, d_model]` (`[d_head]`): a view, in the
    /// order of the stored rows. `n_heads` is that of queries. `None` where the file has no such bias.
    ///
    /// # Errors
    /// The file lacks the weight.
    pub fn head_rows(&self, slot: Slot, layer: usize, head: usize, n_heads: usize, d_head: usize) -> Result<Option<Tensor>> {
        let (part, is_bias) = match slot {
            Slot::Query => (0, false),
            Slot::Key => (1, false),
            Slot::Value => (2, false),
            Slot::QueryBias => (0, true),
            Slot::KeyBias => (1, true),
            Slot::ValueBias => (2, true),
            other => return Err(Error::internal(format!("{other:?} has no heads"))),
        };
        let fused = if is_bias { Slot::FusedBias } else { Slot::Fused };
        let (slot, position) = match self.layout.heads {
            Heads::Separate => (slot, head),
            Heads::Gated if part == 0 => (slot, 2 * head),
            Heads::Gated => (slot, head),
            Heads::Thirds => (fused, part * n_heads + head),
            Heads::Interleaved => (fused, 3 * head + part),
        };
        let stored = if is_bias { self.find(slot, layer) } else { Some(self.get(slot, layer)?) };
        stored.map(|stored| stored.narrow(0, position * d_head..(position + 1) * d_head)).transpose()
    }

    /// Fails unless the weight has this shape.
    ///
    /// # Errors
    /// It is missing, or has another shape; `why` says where the expected one comes from.
    pub fn check_shape(&self, slot: Slot, layer: usize, shape: &[usize], why: &str) -> Result<()> {
        let tensor = self.get(slot, layer)?;
        if tensor.shape() == shape {
            return Ok(());
        }
        Err(Error::format(format!("its shape is {:?}, but {shape:?} is needed: {why}", tensor.shape()))
            .file(&self.tensors.source)
            .tensor(self.name(slot, layer).unwrap_or_default()))
    }

    /// Names of tensors that belong to the text model and that nothing reads.
    pub fn unused(&self, n_layers: usize) -> Vec<&str> {
        let slots = || self.layout.names.iter().copied().flatten().map(|(slot, _)| *slot);
        let used: BTreeSet<String> =
            (0..n_layers).flat_map(|layer| slots().filter_map(move |slot| self.name(slot, layer))).collect();
        self.tensors.names().filter(|name| !used.contains(*name) && !FOREIGN.iter().any(|part| name.contains(part))).collect()
    }
}

/// A matrix of 8-bit numbers times its scales, one for each block of so many rows and columns, as f32.
fn scaled(stored: &Tensor, scales: &Tensor, [rows, columns]: [usize; 2]) -> Tensor {
    let width = stored.shape()[1].max(1);
    let scales = scales.to_f32();
    let mut weight = stored.clone();
    for (row, values) in weight.make_mut_f32().chunks_mut(width).enumerate() {
        let across = &scales[row / rows * width.div_ceil(columns)..];
        for (values, scale) in values.chunks_mut(columns).zip(across) {
            values.iter_mut().for_each(|value| *value *= scale);
        }
    }
    weight
}
