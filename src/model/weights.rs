//! The stored tensors of a model under their canonical names.

use super::architecture::{Layout, Slot};
use crate::error::{Error, Result};
use crate::formats::TensorSet;
use crate::tensor::Tensor;
use std::collections::BTreeSet;

/// Prefixes that transformers puts before the text model's names, in the order in which they are tried.
const PREFIXES: &[&str] =
    &["model.language_model.", "language_model.model.", "model.", "transformer.", "gpt_neox.", "text_model.", ""];

/// Parts of names that belong to other modalities, or hold what the config says already.
const FOREIGN: &[&str] = &["vision_tower", "vision_model", "visual", "multi_modal_projector", "rotary_emb.inv_freq"];

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

    pub fn find(&self, slot: Slot, layer: usize) -> Option<&Tensor> {
        self.tensors.find(&self.name(slot, layer)?)
    }

    /// A weight that the architecture has.
    ///
    /// # Errors
    /// The file lacks it.
    pub fn get(&self, slot: Slot, layer: usize) -> Result<&Tensor> {
        let name = self.name(slot, layer).ok_or_else(|| Error::internal(format!("this architecture has no {slot:?}")))?;
        self.tensors.get(&name)
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
