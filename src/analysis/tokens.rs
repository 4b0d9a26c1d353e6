//! Directions against the vocabulary: which tokens a feature promotes (its write direction and W_U), and which tokens it
//! reads (W_E and its read direction).

use super::common::{ids, moment_column, note_non_finite, provenance, times, with_labels};
use super::product::{Columns, Scale, gather, scored_ids, scores};
use crate::compute::product::{Histogram, Moments, Product, Scored};
use crate::compute::{project, row_norms};
use crate::dictionary::{Dictionary, Directions, centred};
use crate::error::{Error, Result};
use crate::model::{Model, Norm, SpecialMask};
use crate::options::{Ids, Json, JsonMap, Options};
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use std::ops::Range;
use std::sync::Arc;

crate::choice! {
    /// What stands between the residual stream and the unembedding.
    pub enum Lens {
        /// The final norm: its gain, and its centring for LayerNorm.
        #[default] Gain = "gain",
        /// Nothing, as Neuronpedia and SAEDashboard do it.
        Neuronpedia = "neuronpedia",
    }
}

crate::choice! {
    /// Over which tokens moments are taken.
    pub enum MomentsOver {
        /// The whole vocabulary.
        #[default] All = "all",
        /// The tokens that lists may contain.
        Unmasked = "unmasked",
    }
}

crate::options! {
    /// Options of [`unembed`] and [`embed`].
    pub struct TokenOptions {
        /// Length of the top and bottom lists. Neuronpedia shows 10, Query Lens uses 25. [INFER]
        k: usize = 10,
        /// Ids of the features; all when absent.
        features: Option<Ids> = None,
        /// Fold the final norm's gain into the scores of `unembed`; `embed` has no norm to fold. [INFER], as in [FIELD]
        fold_norm: bool = true,
        /// Subtract the vocabulary's mean from each token vector. [INFER]
        center: bool = false,
        /// `"raw"`; `"cosine"`: divided by both norms (after gain and centring); `"zscore"`: standardised over the unmasked
        /// vocabulary. [INFER]
        scale: Scale = Scale::default(),
        /// Keep control, unknown, unused, byte-fallback, padded and never-trained tokens out of the lists. [INFER]
        mask_special: bool = true,
        /// `"all"`: moments over the whole vocabulary; `"unmasked"`: over the tokens that lists may contain. Some dozens of tokens that
        /// no text holds can carry a feature's kurtosis. [INFER]
        moments: MomentsOver = MomentsOver::default(),
        /// `"gain"`: through the final norm; `"neuronpedia"`: without its gain and centring. [CODE of SAEDashboard]
        lens: Lens = Lens::default(),
        /// `[d_model, d_model]`, goes between: `write @ through` for `unembed` (tuned lens, mean Jacobian), `W_E @ through`
        /// for `embed`. [INFER]
        through: Option<Tensor> = None,
    }
}

/// Which end of a feature meets the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Write directions and W_U: decoder–unembedding.
    Unembed,
    /// Read directions and W_E: encoder–embedding.
    Embed,
}

impl Phase {
    /// The name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Unembed => "unembed",
            Phase::Embed => "embed",
        }
    }

    /// The directions of a dictionary on this side.
    pub(super) fn directions(self, dictionary: &Dictionary, model: &Model, work: &Work) -> Result<Directions> {
        match self {
            Phase::Unembed => dictionary.write(model, work),
            Phase::Embed => {
                dictionary.say_doubts(model, work);
                dictionary.read(model, work)
            }
        }
    }
}

/// Elements of the directions that are copied side by side to share a pass over the vocabulary (64 MiB). Beside more rows than
/// these the vocabulary's widening takes no time.
const TOGETHER: usize = 1 << 24;

/// A token with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// Token id.
    pub id: usize,
    /// Decoded text.
    pub token: String,
    /// Score in the unit of the call's `scale`.
    pub score: f64,
}

/// Scores of features against every token: what [`unembed`] and [`embed`] give. Copies share.
#[derive(Clone)]
pub struct TokenScores(Arc<Inner>);

struct Inner {
    view: Arc<TokenView>,
    dictionary: Dictionary,
    positions: Vec<usize>,
    moments: Vec<Moments>,
    top: Vec<Vec<Scored>>,
    bottom: Vec<Vec<Scored>>,
    provenance: Provenance,
}

/// Decoder–unembedding: the tokens that each feature's write direction promotes.
///
/// Scores are `W_Uᵀ (g_final ∘ P d)`, before any softcap and without bias terms; d is the write direction `[d_model]` in the
/// residual stream, P centres over d_model for LayerNorm models and is the identity for RMSNorm (logit lens, FORMATS.md 5;
/// moments as in Gurnee et al. 2024, METHODS.md 4).
///
/// # Errors
/// A feature id that the dictionary does not have; a `through` of another shape; a width that is not the model's.
pub fn unembed(dictionary: &Dictionary, model: &Model, options: &TokenOptions, work: &Work) -> Result<TokenScores> {
    token_scores(Phase::Unembed, dictionary, model, options, work)
}

/// [`unembed`] or [`embed`] of several dictionaries, such as those of all layers: those that are small together share one pass
/// over the vocabulary, whose vectors are read and widened once for them. Gives one result for each dictionary, what each
/// alone gives but for rounding.
///
/// # Errors
/// As [`unembed`]; also no dictionary.
pub fn token_scores_of(
    phase: Phase,
    dictionaries: &[Dictionary],
    model: &Model,
    options: &TokenOptions,
    work: &Work,
) -> Result<Vec<TokenScores>> {
    if dictionaries.is_empty() {
        return Err(Error::input(format!("{} needs a dictionary at least", phase.name())));
    }
    let view = Arc::new(TokenView::new(phase, model, options, work)?);
    let parts = dictionaries.iter().map(|d| Ok((d, d.positions(&options.features)?))).collect::<Result<Vec<_>>>()?;
    let sizes: Vec<usize> = parts.iter().map(|(_, positions)| positions.len() * model.cfg().d_model).collect();
    let groups = together(&sizes).into_iter().map(|group| scored(Arc::clone(&view), parts[group].to_vec(), options.k, work));
    Ok(groups.collect::<Result<Vec<_>>>()?.concat())
}

/// Neighbours among directions of so many elements each that go through the vocabulary together.
fn together(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if sizes[group.clone()].iter().sum::<usize>() + size <= TOGETHER => group.end = i + 1,
            _ => groups.push(i..i + 1),
        }
    }
    groups
}

/// Encoder–embedding: the tokens whose embeddings each feature's read direction picks up.
///
/// Scores are `W_E e`, with W_E as stored and e the read direction `[d_model]` in the residual stream, norm gain included. A
/// weak detector of what a feature fires on above the first layers (Query Lens, METHODS.md 4): read it beside its null.
///
/// # Errors
/// As [`unembed`]; a dictionary without read directions.
pub fn embed(dictionary: &Dictionary, model: &Model, options: &TokenOptions, work: &Work) -> Result<TokenScores> {
    token_scores(Phase::Embed, dictionary, model, options, work)
}

fn token_scores(
    phase: Phase,
    dictionary: &Dictionary,
    model: &Model,
    options: &TokenOptions,
    work: &Work,
) -> Result<TokenScores> {
    let view = Arc::new(TokenView::new(phase, model, options, work)?);
    one(scored(view, vec![(dictionary, dictionary.positions(&options.features)?)], options.k, work)?)
}

/// The result of one dictionary.
fn one(mut scores: Vec<TokenScores>) -> Result<TokenScores> {
    scores.pop().ok_or_else(|| Error::internal("a dictionary without scores"))
}

/// The features at these positions of dictionaries, scored as `view` scores, with lists of `k` tokens.
fn scored(view: Arc<TokenView>, parts: Vec<(&Dictionary, Vec<usize>)>, k: usize, work: &Work) -> Result<Vec<TokenScores>> {
    let phase = view.phase;
    let ids: Vec<usize> = parts.iter().flat_map(|(dictionary, positions)| ids(dictionary, positions)).collect();
    let (directions, positions) = match &parts[..] {
        [(dictionary, positions)] => (phase.directions(dictionary, &view.model, work)?, positions.clone()),
        _ => {
            let rows = |(dictionary, positions): &(&Dictionary, Vec<usize>)| {
                phase.directions(dictionary, &view.model, work)?.dense(Some(positions), work)
            };
            let rows = parts.iter().map(rows).collect::<Result<Vec<Tensor>>>()?;
            (Directions { rows: Tensor::cat(&rows, 0, work)?, gain: None }, (0..ids.len()).collect())
        }
    };
    let k = k.min(view.n_tokens());
    let product = view.product(&directions, &positions, work)?;
    let masked = view.masked_moments(&product, work)?;
    // The ends of the lists are the extremes of the unmasked tokens.
    let length = if masked.is_some() { k.max(1) } else { k };
    let outcome = Product { top: length, bottom: length, label: phase.name().into(), ..product }.run(work)?;
    note_non_finite(phase.name(), &outcome, ("features", |i| ids[i]), ("tokens", |token| token), work);
    let (mut moments, mut top, mut bottom) = (Vec::new(), Vec::new(), Vec::new());
    for (i, mut row) in outcome.rows.into_iter().enumerate() {
        let end = |list: &[Scored]| list.first().map_or(f64::NAN, |s| f64::from(s.score));
        moments.push(match &masked {
            Some(masked) => row.moments.without(&masked[i], end(&row.bottom), end(&row.top)),
            None => row.moments,
        });
        row.top.truncate(k);
        row.bottom.truncate(k);
        top.push(row.top);
        bottom.push(row.bottom);
    }
    let (mut moments, mut top, mut bottom) = (moments.into_iter(), top.into_iter(), bottom.into_iter());
    let result = |(dictionary, positions): (&Dictionary, Vec<usize>)| {
        let provenance = provenance(phase.name(), &view.model, &[("dictionary", dictionary)], view.options.canonical())
            .with("masked_tokens", view.masked_counts().collect::<JsonMap<String, Json>>());
        // A softcap keeps the order of scores, not their size (FORMATS.md, trap 41).
        let provenance = match (phase, view.model.cfg().final_softcap) {
            (Phase::Unembed, Some(cap)) => provenance.with("scores", format!("before the model's final softcap of {cap}")),
            _ => provenance,
        };
        let n = positions.len();
        TokenScores(Arc::new(Inner {
            view: Arc::clone(&view),
            dictionary: dictionary.clone(),
            positions,
            moments: moments.by_ref().take(n).collect(),
            top: top.by_ref().take(n).collect(),
            bottom: bottom.by_ref().take(n).collect(),
            provenance,
        }))
    };
    Ok(parts.into_iter().map(result).collect())
}

impl TokenScores {
    /// One row for each feature: `feature mean std skewness kurtosis min max top_ids top_tokens top_scores bottom_ids
    /// bottom_tokens bottom_scores`. Moments are over the whole vocabulary or the unmasked tokens; kurtosis is 3 for a normal.
    ///
    /// # Errors
    /// None in practice; the columns are made equally long.
    pub fn table(&self) -> Result<Table> {
        let inner = &*self.0;
        let texts = |lists: &[Vec<Scored>]| -> Vec<Vec<String>> {
            lists.iter().map(|list| list.iter().map(|s| inner.view.model.vocabulary().token(s.id as usize)).collect()).collect()
        };
        let table = Table::new(inner.provenance.clone()).with("feature", ids(&inner.dictionary, &inner.positions))?;
        with_labels(table, &inner.dictionary, &inner.positions)?
            .with("mean", moment_column(&inner.moments, |m| m.mean))?
            .with("std", moment_column(&inner.moments, |m| m.std))?
            .with("skewness", moment_column(&inner.moments, |m| m.skewness))?
            .with("kurtosis", moment_column(&inner.moments, |m| m.kurtosis))?
            .with("min", moment_column(&inner.moments, |m| m.min))?
            .with("max", moment_column(&inner.moments, |m| m.max))?
            .with("top_ids", inner.top.iter().map(|list| scored_ids(list)).collect::<Vec<_>>())?
            .with("top_tokens", texts(&inner.top))?
            .with("top_scores", inner.top.iter().map(|list| scores(list)).collect::<Vec<_>>())?
            .with("bottom_ids", inner.bottom.iter().map(|list| scored_ids(list)).collect::<Vec<_>>())?
            .with("bottom_tokens", texts(&inner.bottom))?
            .with("bottom_scores", inner.bottom.iter().map(|list| scores(list)).collect::<Vec<_>>())
    }

    /// The tokens with the highest scores of one feature, falling; `feature` is the dictionary's own id.
    ///
    /// # Errors
    /// The feature was not scored.
    pub fn top(&self, feature: usize) -> Result<Vec<TokenScore>> {
        let row = self.row(feature)?;
        Ok(self.0.view.texts(&self.0.top[row]))
    }

    /// The tokens with the lowest scores of one feature, rising.
    ///
    /// # Errors
    /// The feature was not scored.
    pub fn bottom(&self, feature: usize) -> Result<Vec<TokenScore>> {
        let row = self.row(feature)?;
        Ok(self.0.view.texts(&self.0.bottom[row]))
    }

    /// All scores of one feature, `[d_vocab]`, in the unit of the call's `scale`.
    ///
    /// # Errors
    /// The feature was not scored, or the user's interruption.
    pub fn scores(&self, feature: usize, work: &Work) -> Result<Tensor> {
        let product = self.row_product(feature, work)?;
        product.matrix(work)?.reshape(&[self.0.view.n_tokens()])
    }

    /// Histogram of one feature's scores over the whole vocabulary, `bins` bins from the least to the largest.
    ///
    /// # Errors
    /// The feature was not scored, no bins, or the user's interruption.
    pub fn histogram(&self, feature: usize, bins: usize, work: &Work) -> Result<Histogram> {
        let moments = self.0.moments[self.row(feature)?];
        self.row_product(feature, work)?.histogram(bins, moments.min, moments.max, work)
    }

    /// Which tokens were kept out of the lists, and why; `None` without `mask_special`.
    pub fn special(&self) -> Option<&SpecialMask> {
        self.0.view.special.as_deref()
    }

    /// The phase: write directions and W_U, or read directions and W_E.
    pub fn phase(&self) -> Phase {
        self.0.view.phase
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.0.positions.len()
    }

    /// True without features.
    pub fn is_empty(&self) -> bool {
        self.0.positions.is_empty()
    }

    /// One line: what was scored, and how many tokens were kept out of the lists.
    pub fn describe(&self) -> String {
        let view = &self.0.view;
        let masked = match self.special().map_or(0, SpecialMask::total) {
            0 => "no token masked".to_string(),
            n => format!("{n} tokens masked in the lists"),
        };
        format!(
            "{}: {} features of {} × {} tokens, {masked}",
            view.phase.name(),
            self.len(),
            self.0.dictionary.name(),
            view.n_tokens()
        )
    }

    fn row(&self, feature: usize) -> Result<usize> {
        let position = self.0.dictionary.position(feature)?;
        self.0.positions.iter().position(|p| *p == position).ok_or_else(|| {
            Error::input(format!("feature {feature} was not scored")).help("it lies outside the `features` of the call")
        })
    }

    fn row_product(&self, feature: usize, work: &Work) -> Result<Product> {
        let position = self.0.positions[self.row(feature)?];
        let directions = self.0.view.phase.directions(&self.0.dictionary, &self.0.view.model, work)?;
        self.0.view.product(&directions, &[position], work)
    }

    /// The same of other features, of this dictionary or another, with lists of `k` tokens: what was computed of the vocabulary is
    /// used again.
    pub(super) fn of(&self, dictionary: &Dictionary, positions: &[usize], k: usize, work: &Work) -> Result<TokenScores> {
        one(scored(Arc::clone(&self.0.view), vec![(dictionary, positions.to_vec())], k, work)?)
    }
    pub(super) fn moments(&self) -> &[Moments] {
        &self.0.moments
    }
    pub(super) fn view(&self) -> &TokenView {
        &self.0.view
    }
    pub(super) fn dictionary(&self) -> &Dictionary {
        &self.0.dictionary
    }
    pub(super) fn positions(&self) -> &[usize] {
        &self.0.positions
    }
    pub(super) fn lists(&self) -> (&[Vec<Scored>], &[Vec<Scored>]) {
        (&self.0.top, &self.0.bottom)
    }
    pub(super) fn provenance(&self) -> &Provenance {
        &self.0.provenance
    }
}

impl std::fmt::Display for TokenScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl std::fmt::Debug for TokenScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

/// How any direction is scored against the vocabulary under the options of a call: the features of a dictionary and
/// the random directions of a null go the same way.
pub(super) struct TokenView {
    pub(super) phase: Phase,
    pub(super) model: Model,
    pub(super) options: TokenOptions,
    /// Tokens kept out of the lists; none without `mask_special`.
    pub(super) special: Option<Arc<SpecialMask>>,
    /// Token vectors `[d_vocab, d_model]`, as stored.
    pub(super) vectors: Tensor,
    /// What they are like, all of them and the unmasked ones; kept with the model.
    all: Arc<Columns>,
    unmasked: Arc<Columns>,
    gain: Option<Vec<f32>>,
    center_direction: bool,
}

impl TokenView {
    fn new(phase: Phase, model: &Model, options: &TokenOptions, work: &Work) -> Result<Self> {
        let d = model.cfg().d_model;
        if let Some(through) = &options.through
            && through.shape() != [d, d]
        {
            return Err(Error::shape(format!("option `through` must have shape [{d}, {d}], not {:?}", through.shape())));
        }
        let vectors = match phase {
            Phase::Unembed => model.w_u().t(),
            Phase::Embed => model.w_e(),
        };
        let through_norm = phase == Phase::Unembed && options.lens == Lens::Gain;
        let special = if options.mask_special { Some(model.special_mask(work)?) } else { None };
        let mask = special.as_ref().filter(|s| s.total() > 0).map(|s| s.mask.as_slice());
        let side = if model.cfg().tied { "both" } else { phase.name() };
        let columns = |mask: Option<&[bool]>| {
            let name = format!("tokens, {side}, {}", if mask.is_some() { "unmasked" } else { "all" });
            model.kept().get_or_make(&name, || Columns::new(&vectors.t(), mask))
        };
        Ok(TokenView {
            gain: if through_norm && options.fold_norm { model.find_gain("ln_final")?.map(|g| g.to_f32()) } else { None },
            center_direction: through_norm && model.cfg().norm == Norm::Layer,
            all: columns(None)?,
            unmasked: columns(mask)?,
            phase,
            model: model.clone(),
            options: options.clone(),
            special,
            vectors,
        })
    }

    /// Reasons for which tokens were masked, with their numbers.
    fn masked_counts(&self) -> impl Iterator<Item = (String, Json)> {
        self.special.iter().flat_map(|s| &s.counts).map(|(reason, n)| (reason.to_string(), Json::from(*n)))
    }

    /// The mean token vector `[d_model]`, without vectors that hold NaN or infinities: a pass over the vocabulary, once for a
    /// model.
    pub(super) fn mean(&self, work: &Work) -> Result<&[f64]> {
        self.all.mean(work)
    }

    pub(super) fn n_tokens(&self) -> usize {
        self.vectors.shape()[0]
    }

    /// The product of directions with every token vector, in the scale of the call.
    pub(super) fn product(&self, directions: &Directions, positions: &[usize], work: &Work) -> Result<Product> {
        let raw = self.raw_product(directions, positions, work)?;
        match self.options.scale {
            Scale::Raw => Ok(raw),
            Scale::Cosine => {
                let norms = self.all.norms(self.options.center, work)?;
                Ok(Product { cosine: true, b_norms: Some(norms.into()), ..raw })
            }
            Scale::Zscore => self.standardised(raw, work),
        }
    }

    /// Moments of each row over the masked tokens alone, where they are to be left out.
    fn masked_moments(&self, product: &Product, work: &Work) -> Result<Option<Vec<Moments>>> {
        let Some(mask) = product.col_mask.as_ref().filter(|_| self.options.moments == MomentsOver::Unmasked) else {
            return Ok(None);
        };
        let masked: Vec<usize> = (0..mask.len()).filter(|id| mask[*id]).collect();
        let b = product.b.iter().map(|b| Ok(gather(&b.t(), &masked, None)?.t())).collect::<Result<_>>()?;
        let part = Product { b, b_norms: None, col_mask: None, label: "masked tokens".into(), ..product.clone() };
        Ok(Some(part.run(work)?.rows.into_iter().map(|row| row.moments).collect()))
    }

    /// The product of directions with every token vector, unscaled.
    pub(super) fn raw_product(&self, directions: &Directions, positions: &[usize], work: &Work) -> Result<Product> {
        let b = self.vectors.t();
        let product = if self.center_direction || self.options.through.is_some() {
            let a = self.entering(directions, positions, work)?;
            let held = if a.is_mapped() { 0 } else { a.numel() * size_of::<f32>() };
            Product { gain: self.gain.clone(), held, ..Product::new(a, b) }
        } else {
            Product {
                rows: Some(positions.to_vec()),
                gain: times(directions.gain.as_deref(), self.gain.as_deref()),
                ..Product::new(directions.rows.clone(), b)
            }
        };
        let b_shift = match self.options.center {
            true => Some(self.mean(work)?.iter().map(|v| *v as f32).collect()),
            false => None,
        };
        Ok(Product { b_shift, col_mask: self.special.as_ref().filter(|s| s.total() > 0).map(|s| s.mask.clone()), ..product })
    }

    /// A raw product with each row standardised over the unmasked vocabulary.
    pub(super) fn standardised(&self, raw: Product, work: &Work) -> Result<Product> {
        self.unmasked.standardise(raw, work)
    }

    /// Directions as they enter the gain, dense: through the matrix in between, then centred.
    fn entering(&self, directions: &Directions, positions: &[usize], work: &Work) -> Result<Tensor> {
        directions.made(Some(positions), work, |mut rows| {
            if let Some(through) = &self.options.through {
                let between = if self.phase == Phase::Unembed { through.clone() } else { through.t() };
                rows = project(&rows, None, &between, work)?;
            }
            if self.center_direction { centred(rows, work) } else { Ok(rows) }
        })
    }

    /// The norm of each direction as it enters the gain.
    pub(super) fn entering_norms(&self, directions: &Directions, positions: &[usize], work: &Work) -> Result<Vec<f64>> {
        if self.center_direction || self.options.through.is_some() {
            return row_norms(&self.entering(directions, positions, work)?, None, work);
        }
        let norms = row_norms(&directions.rows, directions.gain.as_deref(), work)?;
        Ok(positions.iter().map(|p| norms[*p]).collect())
    }

    fn texts(&self, list: &[Scored]) -> Vec<TokenScore> {
        let text = |s: &Scored| {
            let id = s.id as usize;
            TokenScore { id, token: self.model.vocabulary().token(id), score: f64::from(s.score) }
        };
        list.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_share_what_is_known_of_the_vocabulary() {
        let work = Work::silent(2).unwrap();
        let model = Model::load("demo", &Default::default(), &work).unwrap();
        let view = |options: TokenOptions| TokenView::new(Phase::Unembed, &model, &options, &work).unwrap();
        let first = view(TokenOptions { center: true, ..TokenOptions::default() });
        let mean = first.mean(&work).unwrap();
        let second = view(TokenOptions { k: 3, ..TokenOptions::default() });
        assert!(std::ptr::eq(mean, second.mean(&work).unwrap()) && Arc::ptr_eq(&first.unmasked, &second.unmasked));
        assert!(!Arc::ptr_eq(&first.all, &first.unmasked));
        let all = view(TokenOptions { mask_special: false, ..TokenOptions::default() });
        assert!(Arc::ptr_eq(&all.unmasked, &first.all));
    }

    #[test]
    fn dictionaries_share_a_pass_while_they_are_small_together() {
        let most = TOGETHER;
        assert_eq!(together(&[most / 4; 6]), [0..4, 4..6]);
        assert_eq!(together(&[most + 1, 1, most, most / 2, most / 2]), [0..1, 1..2, 2..3, 3..5]);
        assert!(together(&[]).is_empty());
    }
}
