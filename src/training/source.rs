//! What training reads: a model's activations over texts, and the model itself where a reconstruction is put back into it.
//! `texts` implements both for a model.

use crate::dictionary::Dictionary;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json};

/// Activations of the next few sequences.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// One tensor `[rows, d_in]` for each site, all with the same rows: position after position, sequence after sequence.
    pub sites: Vec<Tensor>,
    /// The rows at which a sequence begins, ascending.
    pub firsts: Vec<usize>,
}

/// Activations of one or several sites over texts, in the order of the texts.
pub trait Activations {
    /// The next few sequences; `None` at the end of the texts.
    ///
    /// # Errors
    /// The model cannot run, or the user's interruption.
    fn next(&mut self, work: &Work) -> Result<Option<Chunk>>;

    /// Where [`Activations::next`] goes on, for [`Activations::seek`].
    fn position(&self) -> u64;

    /// Goes to a place that `position` gave (0 is the beginning of the texts). From there on `next` gives the same bits as it
    /// did the first time, whatever was read in between: sequences are grouped beginning at that place.
    ///
    /// # Errors
    /// There is no such place.
    fn seek(&mut self, position: u64) -> Result<()>;

    /// What the activations are made of, in SAELens's words where it has any: `model_name`, `context_size`, `prepend_bos`,
    /// `dataset_path`. Written into the SAE's `metadata`; a training is only resumed where all of it is the same.
    fn describe(&self) -> Map<String, Json>;
}

/// What happens to a site's activations while the model's loss is measured.
pub enum Patch<'a> {
    /// Nothing.
    Clean,
    /// They are replaced by what an SAE makes of them.
    Reconstructed(&'a Dictionary),
    /// They are replaced by zeros.
    Zero,
}

/// A model whose loss on held-out texts can be measured with a site's activations replaced.
pub trait Splice {
    /// Mean cross-entropy of the next token in nats, over the same tokens at every call. Site `site` is the one at this place
    /// among those of the activations. First positions stay as they are where training leaves them out.
    ///
    /// # Errors
    /// The model cannot run, or the user's interruption.
    fn cross_entropy(&mut self, site: usize, patch: &Patch, work: &Work) -> Result<f64>;
    /// Number of tokens whose prediction is measured.
    fn tokens(&self) -> usize;
}
