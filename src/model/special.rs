//! Tokens that would fill top lists without meaning anything: markers, placeholders, lone bytes, rows that training
//! never moved (FORMATS.md traps 21 and 22; METHODS.md 1.3).

use super::vocabulary::{TokenKind, Vocabulary};
use crate::compute;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::work::Work;

/// Share of the reserved rows that the ranges of a never-trained token leave out.
const TAIL: f64 = 0.001;
/// Fewer reserved rows than this say little of how far the others scatter: the ranges are widened by their own width.
const FEW: usize = 1000;
/// Share of the vocabulary that is taken for never trained at most, unless as many rows are reserved.
const MOST: f64 = 0.05;
/// Bytes that no UTF-8 text holds, so that their tokens are never trained on.
const IMPOSSIBLE: [u8; 13] = [0xC0, 0xC1, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF];

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
    /// A token was never trained when its row is like the rows of reserved tokens: unused and padded ones, or, where a vocabulary
    /// has none, those of bytes that no UTF-8 text holds (Land and Bartolo 2024, "Fishing for Magikarp"). Like means a norm
    /// within the middle 99.9 % of theirs, and a cosine with their mean at least as high as 99.9 % of them have. On
    /// Gemma-3-270M a two-sided range would hold 71 % of the vocabulary, since four of its 6242 reserved rows were trained
    /// after all; this one holds 4000 tokens. Where too many ordinary rows fall into the ranges, these tell nothing, and no
    /// token is taken for never trained.
    pub(super) fn of(w_e: &Tensor, vocabulary: &Vocabulary, work: &Work) -> Result<Self> {
        let kind = |id: usize| match vocabulary.kind(id) {
            TokenKind::Normal if vocabulary.is_fragment(id) => TokenKind::Byte,
            kind => kind,
        };
        let kinds: Vec<TokenKind> = (0..vocabulary.len()).map(kind).collect();
        let mut mask: Vec<bool> = kinds.iter().map(|kind| !matches!(kind, TokenKind::Normal | TokenKind::UserDefined)).collect();
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for kind in [TokenKind::Control, TokenKind::Unknown, TokenKind::Unused, TokenKind::Byte, TokenKind::Padded] {
            counts.push((kind.name(), kinds.iter().filter(|k| **k == kind).count()));
        }
        let those = |is: &dyn Fn(usize) -> bool| (0..kinds.len()).filter(|id| is(*id)).collect::<Vec<_>>();
        let mut reserved = those(&|id| matches!(kinds[id], TokenKind::Unused | TokenKind::Padded));
        if reserved.is_empty() {
            reserved = those(&|id| vocabulary.single_byte(id).is_some_and(|byte| IMPOSSIBLE.contains(&byte)));
        }
        if !reserved.is_empty() {
            let like_reserved = like(w_e, &reserved, work)?;
            let found = those(&|id| like_reserved[id] && kinds[id] == TokenKind::Normal);
            if found.len() <= reserved.len().max((MOST * kinds.len() as f64) as usize) {
                found.iter().for_each(|id| mask[*id] = true);
                counts.push(("never trained", found.len()));
            }
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
    // The value below which a share of the reserved rows lies, rounded outwards.
    let own = |values: &[f64]| {
        let mut own: Vec<f64> = reserved.iter().map(|id| values[*id]).collect();
        own.sort_unstable_by(f64::total_cmp);
        own
    };
    let (own_norms, own_cosines) = (own(&norms), own(&cosines));
    let last = (reserved.len() - 1) as f64;
    let below = |share: f64| (share * last).floor() as usize;
    let above = |share: f64| (share * last).ceil() as usize;
    let (least_norm, most_norm, least_cosine) =
        (own_norms[below(TAIL / 2.0)], own_norms[above(1.0 - TAIL / 2.0)], own_cosines[below(TAIL)]);
    let wider = if reserved.len() < FEW { 1.0 } else { 0.0 };
    let margin = wider * (most_norm - least_norm);
    let norm_range = least_norm - margin..=most_norm + margin;
    let least_cosine = least_cosine - wider * (own_cosines[reserved.len() - 1] - least_cosine);
    Ok(norms.iter().zip(&cosines).map(|(norm, cosine)| norm_range.contains(norm) && *cosine >= least_cosine).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    const ORDINARY: usize = 40;

    /// Ordinary tokens and `reserved` further ones. With a spread, the reserved rows and the ordinary rows 7 and 23 scatter
    /// by that much around one point; without, all rows come from one distribution.
    fn made(reserved: usize, spread: Option<f32>) -> SpecialMask {
        let (d, size) = (12, ORDINARY + reserved);
        let work = Work::silent(2).unwrap();
        let piece = |id: usize| if id < ORDINARY { format!("w{id}") } else { format!("<unused{id}>") };
        let vocab: Map<_, _> = (0..size).map(|id| (piece(id), json!(id))).collect();
        let added: Vec<_> = (ORDINARY..size).map(|id| json!({"id": id, "content": piece(id), "special": true})).collect();
        let tokenizer = json!({"model": {"vocab": vocab}, "added_tokens": added});
        let mut w_e = Tensor::randn(&[size, d], 3, 0, &work).unwrap();
        for (id, row) in w_e.make_mut_f32().chunks_mut(d).enumerate() {
            if let Some(spread) = spread.filter(|_| id >= ORDINARY || id == 7 || id == 23) {
                row.iter_mut().for_each(|v| *v = 1.0 + spread * *v);
            }
        }
        let vocabulary = Vocabulary::from_tokenizer(&tokenizer, size).unwrap();
        SpecialMask::of(&w_e, &vocabulary, &work).unwrap()
    }

    #[test]
    fn rows_like_the_reserved_ones_were_never_trained() {
        let special = made(300, Some(0.01));
        assert_eq!(special.counts, [("unused", 300), ("never trained", 2)]);
        assert!(special.mask[7] && special.mask[23] && !special.mask[8]);
    }

    /// A byte-level vocabulary in which no byte outside ASCII and only 99 of 100 words were trained.
    #[test]
    fn impossible_bytes_stand_in_where_nothing_is_reserved() {
        let work = Work::silent(2).unwrap();
        let printable = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF_u8).map(|byte| char::from(byte).to_string());
        let pieces: Vec<String> = printable.chain((0..3800).map(|i| format!("w{i}"))).collect();
        let vocab: Map<_, _> = pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
        let tokenizer = json!({"decoder": {"type": "ByteLevel"}, "model": {"vocab": vocab}});
        let vocabulary = Vocabulary::from_tokenizer(&tokenizer, pieces.len()).unwrap();
        let trained = |id: usize| pieces[id].is_ascii() && !pieces[id].ends_with("00");
        let mut w_e = Tensor::randn(&[pieces.len(), 16], 3, 0, &work).unwrap();
        for (_, row) in w_e.make_mut_f32().chunks_mut(16).enumerate().filter(|(id, _)| !trained(*id)) {
            row.iter_mut().for_each(|v| *v = 2.0 + 0.01 * *v);
        }
        let special = SpecialMask::of(&w_e, &vocabulary, &work).unwrap();
        assert_eq!(special.counts, [("byte", 94), ("never trained", 37)]);
        assert!((0..pieces.len()).all(|id| special.mask[id] != trained(id)));
    }

    #[test]
    fn reserved_rows_that_are_like_any_other_tell_nothing() {
        assert_eq!(made(10, None).counts, [("unused", 10)]);
    }
}
