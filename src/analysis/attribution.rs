//! Which heads make a feature of attention's output (Kissane et al. 2024, METHODS.md 3).

use super::heads::{output_weight, post_gain, written_norms};
use crate::compute::row_norms;
use crate::dictionary::{Dictionary, Site};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Ids;
use crate::tensor::Tensor;
use crate::work::Work;

crate::choice! {
    /// Where a head's part of a feature is measured.
    pub enum AttributionSpace {
        /// In z, as the decoder stores it.
        #[default] Z = "z",
        /// In the residual stream, after W_O and the post-attention gain.
        Residual = "residual",
    }
}

crate::options! {
    /// Options of [`head_attribution`].
    pub struct AttributionOptions {
        /// `"z"`: norms of the decoder's parts; `"residual"`: norms of what W_O (and Gemma's post-attention gain) makes of
        /// them. [CODE] for `"z"`, [INFER] for `"residual"`
        space: AttributionSpace = AttributionSpace::default(),
        /// Ids of the features; all when absent.
        features: Option<Ids> = None,
    }
}

/// The share of each head in each feature of a dictionary in z: `h_ik = ‖W_dec[i, k]‖ / Σ_j ‖W_dec[i, j]‖`, W_dec[i, k]
/// `[d_head]` the part of feature i in head k (a ratio of norms, not of squares; METHODS.md 3.2). Gives `[n, n_heads]`
/// f64; rows sum to 1, but for features without length, whose shares are 0.
///
/// # Errors
/// The dictionary does not lie in z or does not fit the model, or a feature that it does not have.
pub fn head_attribution(dictionary: &Dictionary, model: &Model, options: &AttributionOptions, work: &Work) -> Result<Tensor> {
    dictionary.check_fits(model)?;
    let (Site::Z, Some(layer)) = (dictionary.site(), dictionary.layer()) else {
        let (name, site) = (dictionary.name(), dictionary.site().name());
        return Err(Error::input(format!("{name} ({site}) has no parts that belong to heads"))
            .help("head_attribution takes a dictionary on attn.hook_z, the heads' outputs before W_O"));
    };
    let positions = dictionary.positions(&options.features)?;
    let (n_heads, d_head) = (model.cfg().n_heads, model.cfg().d_head);
    let post = post_gain(model, layer, true)?;
    let mut shares = vec![0f64; positions.len() * n_heads];
    for head in 0..n_heads {
        let part = dictionary.w_dec().narrow(1, head * d_head..(head + 1) * d_head)?;
        let norms = match options.space {
            AttributionSpace::Z => row_norms(&part, None, work)?,
            AttributionSpace::Residual => written_norms(&part, &output_weight(model, layer, head, post.as_deref())?, work)?,
        };
        for (row, position) in positions.iter().enumerate() {
            shares[row * n_heads + head] = norms[*position];
        }
    }
    for row in shares.chunks_exact_mut(n_heads.max(1)) {
        let total: f64 = row.iter().sum();
        row.iter_mut().filter(|_| total > 0.0).for_each(|share| *share /= total);
    }
    Tensor::from_f64(shares, &[positions.len(), n_heads])
}
