//! The stored tensors of a model under their canonical names.

use super::architecture::{Heads, Layout, Slot};
use crate::error::{Error, Result};
use crate::formats::TensorSet;
use crate::tensor::Tensor;
use std::collections::BTreeSet;

/// Prefixes that transformers puts before the text model's names, in the order in which they are tried.
const PREFIXES: &[&str] =
    &["model.language_model.", "language_model.model.", "model.", "transformer.", "gpt_neox.", "text_model.", ""];

/// Parts of names that belong to other modalities, or hold what the config says already: rotary frequencies and causal masks.
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
];

/// Stored tensors, looked up by canonical weight and layer.
#[derive(Debug)]
pub(super) struct Weights {
    pub tensors: TensorSet,
    pub layout: &'static Layout,
    prefix: &'static str,
}

impl Weights {
    pub fn new(tensors: TensorSet, layout: &'static Layout) -> Self {
        let embed = layout.name_of(Slot::Embed, 0).unwrap_or_default();
        let prefix = PREFIXES.iter().find(|prefix| tensors.find(&format!("{prefix}{embed}")).is_some());
        Weights { prefix: prefix.copied().unwrap_or_default(), tensors, layout }
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
        let stored = self.tensors.find(&self.name(slot, layer)?)?;
        Some(self.upright(slot, stored))
    }

    /// A weight that the architecture has; matrices `[out, in]`.
    ///
    /// # Errors
    /// The file lacks it.
    pub fn get(&self, slot: Slot, layer: usize) -> Result<Tensor> {
        let name = self.name(slot, layer).ok_or_else(|| Error::internal(format!("this architecture has no {slot:?}")))?;
        Ok(self.upright(slot, self.tensors.get(&name)?))
    }

    fn upright(&self, slot: Slot, stored: &Tensor) -> Tensor {
        let linear = matches!(slot, Slot::Fused | Slot::Output | Slot::In | Slot::Out);
        if self.layout.turned && linear && stored.ndim() == 2 { stored.t() } else { stored.clone() }
    }

    /// Where queries lie: the tensor that every layer with attention has.
    pub fn attention_slot(&self) -> Slot {
        if self.layout.heads == Heads::Separate { Slot::Query } else { Slot::Fused }
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
