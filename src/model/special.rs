//! Tokens that would fill top lists without meaning anything: markers, placeholders, lone bytes, rows that training
//! never moved (FORMATS.md traps 21 and 22; METHODS.md 1.3).

use super::vocabulary::{TokenKind, Vocabulary};
use crate::compute;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::work::Work;

/// Share of the reserved rows that the range of a never-trained token leaves out, at each end.
const TAIL: f64 = 0.0005;

/// Which tokens are kept out of top and bottom lists, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecialMask {
    /// One for each token; true = kept out.
    pub mask: Vec<bool>,
    /// How many tokens for each reason, reasons without tokens left out.
    pub counts: Vec<(&'static str, usize)>,
}

impl SpecialMask {
    /// The special tokens of a vocabulary with the embedding `w_e` `[d_vocab, d_model]`.
    ///
    /// A token was never trained when its row has the norm, and the cosine with the mean of the rows of reserved tokens
    /// (unused and padded ones), that 99.9 % of the reserved rows themselves have.
    pub(super) fn of(w_e: &Tensor, vocabulary: &Vocabulary, work: &Work) -> Result<Self> {
        let kinds: Vec<TokenKind> = (0..vocabulary.len()).map(|id| vocabulary.kind(id)).collect();
        let is_reserved = |kind: &TokenKind| matches!(kind, TokenKind::Unused | TokenKind::Padded);
        let mut mask: Vec<bool> = kinds.iter().map(|kind| !matches!(kind, TokenKind::Normal | TokenKind::UserDefined)).collect();
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for kind in [TokenKind::Control, TokenKind::Unknown, TokenKind::Unused, TokenKind::Byte, TokenKind::Padded] {
            counts.push((kind.name(), kinds.iter().filter(|k| **k == kind).count()));
        }
        let reserved: Vec<usize> = (0..kinds.len()).filter(|id| is_reserved(&kinds[*id])).collect();
        if !reserved.is_empty() {
            let untrained = like(w_e, &reserved, work)?;
            let mut never = 0;
            for (masked, untrained) in mask.iter_mut().zip(untrained) {
                never += usize::from(untrained && !*masked);
                *masked |= untrained;
            }
            counts.push(("never trained", never));
        }
        counts.retain(|(_, count)| *count > 0);
        Ok(SpecialMask { mask, counts })
    }

    /// Number of tokens kept out.
    pub fn total(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// Rows of `w_e` whose norm and cosine with the mean of the `reserved` rows lie where those of the reserved rows lie.
fn like(w_e: &Tensor, reserved: &[usize], work: &Work) -> Result<Vec<bool>> {
    let (_, d) = w_e.matrix_shape("the embedding")?;
    let mut mean = vec![0f64; d];
    for id in reserved {
        work.check()?;
        for (sum, value) in mean.iter_mut().zip(w_e.row(*id)?) {
            *sum += f64::from(value);
        }
    }
    let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
    let direction = mean.iter().map(|v| if length > 0.0 { (v / length) as f32 } else { 0.0 }).collect();
    let norms = compute::row_norms(w_e, None, work)?;
    let along = compute::project(w_e, None, &Tensor::from_f32(direction, &[d, 1])?, work)?.to_f32();
    let cosines: Vec<f64> =
        along.iter().zip(&norms).map(|(dot, norm)| if *norm > 0.0 { f64::from(*dot) / norm } else { 0.0 }).collect();
    let range = |values: &[f64]| {
        let mut own: Vec<f64> = reserved.iter().map(|id| values[*id]).collect();
        own.sort_unstable_by(f64::total_cmp);
        let last = (own.len() - 1) as f64;
        (own[(TAIL * last).floor() as usize], own[((1.0 - TAIL) * last).ceil() as usize])
    };
    let (norm_range, cosine_range) = (range(&norms), range(&cosines));
    let inside = |value: f64, (low, high): (f64, f64)| low <= value && value <= high;
    Ok(norms.iter().zip(&cosines).map(|(norm, cosine)| inside(*norm, norm_range) && inside(*cosine, cosine_range)).collect())
}
