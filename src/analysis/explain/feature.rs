//! A feature on a page.

use super::{FEW, echoes, magnitudes, means, percentile, short, spread, text, tokens_of};
use crate::analysis::attention::{AttentionOptions, attention_scores};
use crate::analysis::attribution::{AttributionOptions, AttributionSpace, head_attribution};
use crate::analysis::common::provenance;
use crate::analysis::enrichment::token_sets;
use crate::analysis::flow::{MatchOptions, Targets, chance, match_features};
use crate::analysis::ov::{OvWriteOptions, ov_write};
use crate::analysis::semantics::{SemanticSide, Semantics, SemanticsOptions, semantics};
use crate::analysis::tokens::{MomentsOver, Phase, TokenOptions, TokenScores, embed, unembed};
use crate::compute::product::Moments;
use crate::dictionary::{self, Dictionary, DirectionsOptions, RandomOptions, Site, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Ids, Options};
use crate::page::{Bars, Block, Counts, Page};
use crate::provenance::Provenance;
use crate::sample::{quantile, sorted_finite};
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use std::sync::Arc;

crate::options! {
    /// Options of [`explain`].
    pub struct ExplainOptions {
        /// Length of the token lists, by which features are called semantic too. [INFER]
        k: usize = 10,
        /// The layer whose attention reads the feature; the first that does when absent. [INFER]
        layer: Option<usize> = None,
        /// Heads whose partner features are listed, on either side. [INFER]
        heads: usize = 3,
        /// Partner features listed of each of them, and matches in the dictionaries before and after. [INFER]
        partners: usize = 3,
        /// The dictionary of an earlier place in which predecessors are looked for; of neurons those of the layer before.
        before: Option<Dictionary> = None,
        /// The dictionary of a later place in which successors are looked for; of neurons those of the layer behind.
        after: Option<Dictionary> = None,
        /// Features at even distances that stand for the whole dictionary in percentiles and shares, and random directions that heads
        /// and neighbours are compared with. [INFER]
        sample: usize = 1024,
        /// Random directions behind the semantic thresholds, as in `semantics`. [INFER]
        n_null: usize = 4096,
        /// Share of the null that the semantic rule lets pass, as in `semantics`. [INFER]
        fpr: f64 = 0.01,
        /// Seed of the nulls; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// Bins of the histogram of a feature's scores.
const BINS: usize = 50;

/// What pages of the features of one dictionary share: the layer's percentiles, the semantic thresholds, the nulls of heads and
/// neighbours. Made once; then a page takes a few passes over the vocabulary. Copies share.
#[derive(Clone)]
pub struct Explainer(Arc<Inner>);

struct Inner {
    dictionary: Dictionary,
    model: Model,
    options: ExplainOptions,
    seed: u64,
    /// Positions of the features that stand for the dictionary.
    sample: Vec<usize>,
    written: Ends,
    /// Absent with the reason.
    read: std::result::Result<Ends, String>,
    /// The kind of each token, as an index into [`KINDS`].
    kinds: Vec<usize>,
    attention: std::result::Result<Attention, String>,
    before: Option<Neighbour>,
    after: Option<Neighbour>,
}

/// One end of the sample against the vocabulary.
struct Ends {
    scores: TokenScores,
    semantics: Semantics,
}

/// Random directions in the heads that read the dictionary.
struct Attention {
    layer: usize,
    heads: Vec<HeadNull>,
}

/// What random directions do in a head, ascending.
struct HeadNull {
    query: Vec<f64>,
    key: Vec<f64>,
    gain: Vec<f64>,
}

struct Neighbour {
    dictionary: Dictionary,
    /// The best cosine that 99 % of random directions stay below.
    chance: f64,
}

/// A feature in a head, beside the sample and random directions.
struct InHead {
    head: usize,
    query: f64,
    query_percentile: f64,
    query_ratio: f64,
    key: f64,
    key_percentile: f64,
    key_ratio: f64,
    gain: f64,
    gain_percentile: f64,
    cosine: f64,
}

/// One feature on a page, from weights alone: tokens read and written, the scores by kind of token, moments with their
/// percentile in the layer, the semantic call beside its null, the heads in which it is query, key and value, its partner features
/// there, predecessors and successors, and what such a read cannot show. [`Explainer`] for several features.
///
/// # Errors
/// A feature that the dictionary does not have, a dictionary that does not fit the model, or an option out of range.
pub fn explain(dictionary: &Dictionary, model: &Model, feature: usize, options: &ExplainOptions, work: &Work) -> Result<Page> {
    dictionary.position(feature)?;
    Explainer::new(dictionary, model, options, work)?.page(feature, work)
}

impl Explainer {
    /// Measures the layer and the nulls.
    ///
    /// # Errors
    /// A dictionary that does not fit the model, an option out of range, or the user's interruption.
    pub fn new(dictionary: &Dictionary, model: &Model, options: &ExplainOptions, work: &Work) -> Result<Self> {
        let seed = options.seed.unwrap_or(work.seed());
        let sample = spread(dictionary.n(), options.sample);
        let steps = work.begin("explain: the layer and its nulls", 4);
        let written = Ends::new(Phase::Unembed, dictionary, model, options, &sample, seed, work)?;
        steps.advance(1);
        let read = match dictionary.read(model, work) {
            Ok(_) => Ok(Ends::new(Phase::Embed, dictionary, model, options, &sample, seed, work)?),
            Err(missing) => Err(missing.message().to_string()),
        };
        steps.advance(1);
        let n = RandomOptions { n: Some(options.sample.max(2)), seed: Some(seed), ..RandomOptions::default() };
        let random = random_directions(dictionary, Some(model), &n, work)?;
        let attention = match reading_layer(dictionary, model, options.layer)? {
            Ok(layer) => Ok(Attention::new(layer, &random, model, work)?),
            Err(missing) => Err(missing),
        };
        steps.advance(1);
        let neighbour = |given: &Option<Dictionary>, layer: Option<usize>| {
            let found = match given {
                Some(given) => Some(given.clone()),
                None => neurons(dictionary, model, layer)?,
            };
            found.map(|found| Neighbour::new(found, dictionary, &random, model, work)).transpose()
        };
        let layer = dictionary.layer();
        let before = neighbour(&options.before, layer.and_then(|layer| layer.checked_sub(1)))?;
        let after = neighbour(&options.after, layer.map(|layer| layer + 1))?;
        let kinds = kinds(model, &written.scores, work)?;
        let (dictionary, model, options) = (dictionary.clone(), model.clone(), options.clone());
        Ok(Explainer(Arc::new(Inner {
            dictionary,
            model,
            options,
            seed,
            sample,
            written,
            read,
            kinds,
            attention,
            before,
            after,
        })))
    }

    /// The page of a feature, by its id.
    ///
    /// # Errors
    /// No feature has it, or the user's interruption.
    pub fn page(&self, feature: usize, work: &Work) -> Result<Page> {
        let it = &*self.0;
        let position = it.dictionary.position(feature)?;
        let record = provenance("explain", &it.model, &[("dictionary", &it.dictionary)], it.options.canonical())
            .with("feature", feature)
            .with("seed", it.seed);
        let mut page = Page::new(format!("Feature {feature} of {}", it.dictionary.name()), record);
        page.blocks.extend(it.facts(position, work)?);
        let rows = it.dictionary.write(&it.model, work)?.dense(Some(&[position]), work)?;
        if rows.f32_cow().iter().all(|v| *v == 0.0) {
            page.blocks.push(text("Its write direction is zero: the feature is dead, and there is nothing to explain."));
            return Ok(page);
        }
        let written = it.written.scores.of(&it.dictionary, &[position], it.options.k, work)?;
        let read = match &it.read {
            Ok(ends) => Some(ends.scores.of(&it.dictionary, &[position], it.options.k, work)?),
            Err(_) => None,
        };
        page.blocks.extend(it.tokens(feature, &written, read.as_ref(), work)?);
        page.blocks.extend(it.distribution(feature, &written, work)?);
        page.blocks.extend(it.semantic(&written, read.as_ref(), work)?);
        page.blocks.extend(it.in_attention(feature, position, work)?);
        page.blocks.extend(it.neighbours(feature, work)?);
        page.blocks.extend(it.limits());
        Ok(page)
    }

    /// The dictionary whose features it explains.
    pub fn dictionary(&self) -> &Dictionary {
        &self.0.dictionary
    }

    /// The model that they are explained in.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// The options of its pages.
    pub fn options(&self) -> &ExplainOptions {
        &self.0.options
    }
}

impl Ends {
    fn new(
        phase: Phase,
        dictionary: &Dictionary,
        model: &Model,
        options: &ExplainOptions,
        sample: &[usize],
        seed: u64,
        work: &Work,
    ) -> Result<Self> {
        let ids = sample.iter().map(|position| dictionary.id_of(*position) as i64).collect();
        let (features, moments) = (Some(Ids::List(ids)), MomentsOver::Unmasked);
        let given = TokenOptions { k: options.k, features, moments, ..TokenOptions::default() };
        let scores = match phase {
            Phase::Unembed => unembed(dictionary, model, &given, work)?,
            Phase::Embed => embed(dictionary, model, &given, work)?,
        };
        let rule = SemanticsOptions {
            n_null: options.n_null,
            fpr: options.fpr,
            seed: Some(seed),
            every_null: false,
            ..SemanticsOptions::default()
        };
        Ok(Ends { semantics: semantics(&scores, model, &rule, work)?, scores })
    }
}

impl Attention {
    fn new(layer: usize, random: &Dictionary, model: &Model, work: &Work) -> Result<Self> {
        let null = |head| {
            let (query, key) = means(&attention_scores(random, random, model, layer, head, &magnitudes(), work)?)?;
            let gains: Vec<f64> = echoes(random, model, layer, head, work)?.into_iter().map(|(gain, _)| gain).collect();
            Ok(HeadNull { query: sorted_finite(&query), key: sorted_finite(&key), gain: sorted_finite(&gains) })
        };
        Ok(Attention { layer, heads: (0..model.cfg().n_heads).map(null).collect::<Result<_>>()? })
    }
}

impl Neighbour {
    fn new(neighbour: Dictionary, of: &Dictionary, random: &Dictionary, model: &Model, work: &Work) -> Result<Self> {
        let absolute = of.signed() || neighbour.signed();
        let targets = Targets::written(&neighbour, model, work)?;
        let chance = chance(&random.write(model, work)?, &targets, absolute, 0.99, work)?;
        Ok(Neighbour { dictionary: neighbour, chance })
    }
}

/// The layer whose attention reads a dictionary first, or why there is none.
fn reading_layer(dictionary: &Dictionary, model: &Model, asked: Option<usize>) -> Result<std::result::Result<usize, String>> {
    if let Some(layer) = asked {
        model.check_attention(layer)?;
        if !dictionary.written_before_attention(layer, model) {
            let message =
                format!("option `layer`: {} is written after the attention of layer {layer} has read", dictionary.hook_out());
            return Err(Error::input(message).help("name a later layer, or leave `layer` out"));
        }
        return Ok(Ok(layer));
    }
    if dictionary.layer().is_none() && dictionary.site() != Site::Embed {
        return Ok(Err("The dictionary does not say where it stands: name the layer that reads it with `layer`.".into()));
    }
    let first = model.layers_with_heads().into_iter().find(|layer| dictionary.written_before_attention(*layer, model));
    Ok(first.ok_or_else(|| "No attention reads it: it is written behind the last layer that has heads.".into()))
}

/// The neurons of another layer, where the dictionary is of neurons and the model has that layer.
fn neurons(dictionary: &Dictionary, model: &Model, layer: Option<usize>) -> Result<Option<Dictionary>> {
    let own = dictionary.id()["format"] == "neurons";
    layer.filter(|layer| own && *layer < model.cfg().n_layers).map(|layer| dictionary::mlp_neurons(model, layer)).transpose()
}

/// Built-in token sets by which the histogram is coloured, a token of several in the last of them; then those of none, and those
/// that lists leave out.
const KINDS: [&str; 8] =
    ["leading space", "capitalised", "all capitals", "digits", "punctuation", "not ASCII", "others", "masked"];
const OTHERS: usize = 6;
const MASKED: usize = 7;

fn kinds(model: &Model, scores: &TokenScores, work: &Work) -> Result<Vec<usize>> {
    let sets = token_sets(model, work)?;
    let mut kinds = vec![OTHERS; model.cfg().d_vocab];
    for (kind, name) in KINDS[..OTHERS].iter().enumerate() {
        sets.get(*name).into_iter().flatten().for_each(|id| kinds[*id] = kind);
    }
    if let Some(special) = scores.special() {
        kinds.iter_mut().zip(&special.mask).filter(|(_, masked)| **masked).for_each(|(kind, _)| *kind = MASKED);
    }
    Ok(kinds)
}

impl Inner {
    /// What the percentiles are of.
    fn whole(&self) -> String {
        let n = self.dictionary.n();
        if self.sample.len() == n {
            format!("all {n} features")
        } else {
            format!("{} of {n} features, evenly spread", self.sample.len())
        }
    }

    fn facts(&self, position: usize, work: &Work) -> Result<Vec<Block>> {
        let d = &self.dictionary;
        let mut fields = vec![("model".to_string(), self.model.name().to_string()), ("dictionary".into(), d.name().into())];
        let places = if d.hook() == d.hook_out() { d.hook().to_string() } else { format!("{} → {}", d.hook(), d.hook_out()) };
        fields.push(("hook".into(), places));
        if let Some(label) = d.labels().map(|labels| &labels[position]).filter(|label| !label.is_empty()) {
            fields.push(("label".into(), label.clone()));
        }
        let write = d.write(&self.model, work)?.dense(Some(&[position]), work)?.to_f64();
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        fields.push(("write norm".into(), short(length(&write))));
        if self.read.is_ok() {
            let read = d.read(&self.model, work)?.dense(Some(&[position]), work)?.to_f64();
            let dot: f64 = read.iter().zip(&write).map(|(x, y)| x * y).sum();
            fields.push(("read norm".into(), short(length(&read))));
            fields.push(("cos(read, write)".into(), short(dot / (length(&read) * length(&write)))));
        }
        for (name, vector) in [("b_enc", d.b_enc()), ("threshold", d.threshold())] {
            if let Some(vector) = vector {
                fields.push((name.into(), short(vector.to_f64()[position])));
            }
        }
        for name in ["density", "mean_act", "max_act", "mean_share"] {
            if let Some(values) = d.stat(name) {
                fields.push((name.into(), short(values[position])));
            }
        }
        if d.signed() {
            fields.push(("signed".into(), "yes: −d is as much the feature as d, so both ends of each list are its own".into()));
        }
        Ok(vec![Block::Fields(fields)])
    }

    fn tokens(&self, feature: usize, written: &TokenScores, read: Option<&TokenScores>, work: &Work) -> Result<Vec<Block>> {
        let lists = |scores: &TokenScores, up: &str, down: &str| -> Result<Block> {
            let list = |title: &str, tokens: Vec<crate::analysis::TokenScore>| Bars {
                title: title.into(),
                bars: tokens.into_iter().map(|t| (format!("\"{}\"", t.token), t.score)).collect(),
            };
            Ok(Block::Bars(vec![list(up, scores.top(feature)?), list(down, scores.bottom(feature)?)]))
        };
        let mut blocks = vec![
            Block::Heading("Tokens it writes".into()),
            text("What its write direction adds to each token's logit, up to one factor a position: `W_Uᵀ (g_final ∘ d)`."),
            lists(written, "raised", "lowered")?,
            Block::Heading("Tokens it reads".into()),
        ];
        match (read, &self.read) {
            (Some(read), _) => {
                blocks.push(text(
                    "The token embeddings that its read direction picks up: `W_E e`. Above the first layers they say little of what it \
                     fires on.",
                ));
                blocks.push(lists(read, "towards", "away")?);
            }
            (None, Err(missing)) => blocks.push(text(format!("Not known: {missing}."))),
            (None, Ok(_)) => {}
        }
        if self.dictionary.site() == Site::Z {
            let options =
                AttributionOptions { space: AttributionSpace::Residual, features: Some(Ids::List(vec![feature as i64])) };
            let shares = head_attribution(&self.dictionary, &self.model, &options, work)?.to_f64();
            let bars = shares.into_iter().enumerate().map(|(head, share)| (format!("head {head}"), share)).collect();
            blocks.push(Block::Heading("Heads that make it".into()));
            blocks.push(Block::Bars(vec![Bars { title: "share of ‖W_dec[i, head] W_O‖".into(), bars }]));
        }
        Ok(blocks)
    }

    fn distribution(&self, feature: usize, written: &TokenScores, work: &Work) -> Result<Vec<Block>> {
        let own = written.moments()[0];
        let layer = self.written.scores.moments();
        let of = |pick: fn(&Moments) -> f64| {
            let sorted = sorted_finite(&layer.iter().map(pick).collect::<Vec<_>>());
            (pick(&own), quantile(&sorted, 0.5), percentile(&sorted, pick(&own)))
        };
        let rows: Vec<(&str, (f64, f64, f64))> = vec![
            ("std", of(|m| m.std)),
            ("skewness", of(|m| m.skewness)),
            ("kurtosis", of(|m| m.kurtosis)),
            ("largest z", of(|m| (m.max - m.mean) / m.std)),
            ("least z", of(|m| (m.min - m.mean) / m.std)),
        ];
        let table = Table::new(Provenance::default())
            .with("moment", rows.iter().map(|(name, _)| name.to_string()).collect::<Vec<String>>())?
            .with("feature", rows.iter().map(|(_, r)| r.0).collect::<Vec<f64>>())?
            .with("layer_median", rows.iter().map(|(_, r)| r.1).collect::<Vec<f64>>())?
            .with("percentile", rows.iter().map(|(_, r)| r.2.round() as i64).collect::<Vec<i64>>())?;
        let role = match (own.kurtosis > 10.0, own.skewness > 0.0) {
            (true, true) => "Kurtosis above 10 and positive skewness: it predicts a few tokens.",
            (true, false) => "Kurtosis above 10 and negative skewness: it suppresses a few tokens.",
            (false, _) => "Kurtosis of 10 or less: by its moments it neither predicts nor suppresses a few tokens.",
        };
        let scores = written.scores(feature, work)?.to_f64();
        Ok(vec![
            Block::Heading("Its logits by token set".into()),
            text(
                "Over the whole vocabulary by built-in token set; z is how many standard deviations the mean of a set lies above that of \
                 all tokens.",
            ),
            Block::Counts(self.histogram(&scores, &own)),
            text(format!(
                "{role} (Gurnee et al. 2024.) Moments are over the tokens that lists may contain; percentiles are among {}; a normal has skewness 0 and kurtosis 3.",
                self.whole()
            )),
            Block::Table(table),
        ])
    }

    fn histogram(&self, scores: &[f64], own: &Moments) -> Counts {
        // The moments leave masked tokens out, the histogram counts them.
        let finite = scores.iter().filter(|score| score.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let width = (high - low) / BINS as f64;
        let bin = |score: f64| if width > 0.0 { (((score - low) / width) as usize).min(BINS - 1) } else { 0 };
        let mut counts = vec![vec![0u64; BINS]; KINDS.len()];
        let mut sums = vec![(0.0, 0u64); KINDS.len()];
        for (score, kind) in scores.iter().zip(&self.kinds).filter(|(score, _)| score.is_finite()) {
            counts[*kind][bin(*score)] += 1;
            sums[*kind] = (sums[*kind].0 + score, sums[*kind].1 + 1);
        }
        let named = |((name, counts), (sum, n)): ((&&str, Vec<u64>), (f64, u64))| {
            (format!("{name} z {:+.2}", (sum / n as f64 - own.mean) / own.std), counts)
        };
        let kinds = KINDS.iter().zip(counts).zip(sums).filter(|(_, (_, n))| *n > 0).map(named).collect();
        Counts { what: "tokens".into(), edges: (0..=BINS).map(|i| low + i as f64 * width).collect(), kinds }
    }

    fn semantic(&self, written: &TokenScores, read: Option<&TokenScores>, work: &Work) -> Result<Vec<Block>> {
        let mut blocks = vec![
            Block::Heading("Do its tokens form a family?".into()),
            text(format!(
                "Semantic is a list of {} tokens that lies beyond the threshold in at least two of three: alike in spelling (Levenshtein \
                 distance, below), alike in their vectors (cosine, above), few that stand out (entropy of the scores, below). The \
                 thresholds let {} % of random directions with the dictionary's covariance pass.",
                self.options.k,
                100.0 * self.options.fpr
            )),
        ];
        let ends = [("Written", Some((&self.written, written))), ("Read", self.read.as_ref().ok().zip(read))];
        for (name, (ends, scores)) in ends.into_iter().filter_map(|(name, ends)| Some((name, ends?))) {
            let found = ends.semantics.judge(scores, work)?;
            let (null, (low, high)) = found.null_share();
            blocks.push(text(format!(
                "{name}: {}. Of {} {:.1} % are; of fresh random directions {:.1} % (95 % interval {:.1}–{:.1}).",
                if found.mask()[0] { "semantic" } else { "not semantic" },
                self.whole(),
                100.0 * ends.semantics.share(),
                100.0 * null,
                100.0 * low,
                100.0 * high
            )));
            blocks.push(Block::Table(metrics(&found)?));
        }
        Ok(blocks)
    }

    fn in_attention(&self, feature: usize, position: usize, work: &Work) -> Result<Vec<Block>> {
        let mut blocks = vec![Block::Heading("In attention".into())];
        let attention = match &self.attention {
            Ok(attention) => attention,
            Err(missing) => {
                blocks.push(text(missing.clone()));
                return Ok(blocks);
            }
        };
        let heads = self.heads(attention, position, work)?;
        let column = |pick: fn(&InHead) -> f64| heads.iter().map(pick).collect::<Vec<f64>>();
        let percent = |pick: fn(&InHead) -> f64| heads.iter().map(|h| pick(h).round() as i64).collect::<Vec<i64>>();
        let numbers: Vec<usize> = heads.iter().map(|h| h.head).collect();
        let table = Table::new(Provenance::default())
            .with("head", numbers.clone())?
            .with("query", column(|h| h.query))?
            .with("q_percentile", percent(|h| h.query_percentile))?
            .with("q_vs_random", column(|h| h.query_ratio))?
            .with("key", column(|h| h.key))?
            .with("k_percentile", percent(|h| h.key_percentile))?
            .with("k_vs_random", column(|h| h.key_ratio))?;
        blocks.push(text(format!(
            "Heads of layer {}. Query and key: mean |score| before the softmax with the other features, directions scaled to √d_model, \
             distance 0; its percentile among {}; its ratio to the median of random directions.",
            attention.layer,
            self.whole()
        )));
        blocks.push(Block::Table(table));
        if let Some(partners) = self.partners(attention.layer, feature, &heads, work)? {
            let signs =
                if self.dictionary.signed() { " Largest in magnitude: of signed features either sign may be meant." } else { "" };
            blocks.push(text(format!(
                "The features with which it scores highest in the heads where it stands out most from random directions, and tokens \
                 that they write.{signs}"
            )));
            blocks.push(Block::Table(partners));
        }
        let one = self.dictionary.select(&[feature], work)?;
        let written = |head| ov_write(&one, &self.model, attention.layer, head, &OvWriteOptions::default(), work);
        let rows: Vec<f32> = numbers.iter().map(|head| Ok(written(*head)?.to_f32())).collect::<Result<Vec<_>>>()?.concat();
        let rows = Tensor::from_f32(rows, &[heads.len(), self.model.cfg().d_model])?;
        let through = dictionary::directions(&rows, &DirectionsOptions::default())?;
        let lists = self.written.scores.of(&through, &(0..heads.len()).collect::<Vec<_>>(), FEW, work)?;
        let table = Table::new(Provenance::default())
            .with("head", numbers)?
            .with("gain", column(|h| h.gain))?
            .with("percentile", percent(|h| h.gain_percentile))?
            .with("cosine", column(|h| h.cosine))?
            .with("writes", tokens_of(&lists, &through)?)?;
        blocks.push(text(
            "What each head writes when it attends to the feature: its length over the feature's, with the percentile among random \
             directions, its cosine with the feature (1: a copy), and the tokens that it raises.",
        ));
        blocks.push(Block::Table(table));
        Ok(blocks)
    }

    /// The feature in each head, beside the sample.
    fn heads(&self, attention: &Attention, position: usize, work: &Work) -> Result<Vec<InHead>> {
        let mut positions = self.sample.clone();
        let own = positions.iter().position(|p| *p == position).unwrap_or_else(|| {
            positions.push(position);
            positions.len() - 1
        });
        let ids: Vec<usize> = positions.iter().map(|p| self.dictionary.id_of(*p)).collect();
        let together = self.dictionary.select(&ids, work)?;
        let in_head = |(head, null): (usize, &HeadNull)| {
            let scores = attention_scores(&together, &together, &self.model, attention.layer, head, &magnitudes(), work)?;
            let (query, key) = means(&scores)?;
            let (gain, cosine) = echoes(&self.dictionary.select(&[ids[own]], work)?, &self.model, attention.layer, head, work)?
                .first()
                .copied()
                .ok_or_else(|| Error::internal("a feature without a write"))?;
            let place = |values: &[f64]| percentile(&sorted_finite(values), values[own]);
            let ratio = |value: f64, null: &[f64]| value / quantile(null, 0.5);
            Ok(InHead {
                head,
                query: query[own],
                query_percentile: place(&query),
                query_ratio: ratio(query[own], &null.query),
                key: key[own],
                key_percentile: place(&key),
                key_ratio: ratio(key[own], &null.key),
                gain,
                gain_percentile: percentile(&null.gain, gain),
                cosine,
            })
        };
        attention.heads.iter().enumerate().map(in_head).collect()
    }

    /// The features that score highest with it in the heads where its own ratio to chance is highest.
    fn partners(&self, layer: usize, feature: usize, heads: &[InHead], work: &Work) -> Result<Option<Table>> {
        let (mut roles, mut numbers, mut ids, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (role, other, ratio) in
            [("query", "key", (|h: &InHead| h.query_ratio) as fn(&InHead) -> f64), ("key", "query", |h: &InHead| h.key_ratio)]
        {
            let mut order: Vec<&InHead> = heads.iter().collect();
            order.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)).then(a.head.cmp(&b.head)));
            for head in order.iter().take(self.options.heads) {
                let one = Some(Ids::List(vec![feature as i64]));
                let (query_features, key_features) = if role == "query" { (one, None) } else { (None, one) };
                let options = AttentionOptions {
                    query_features,
                    key_features,
                    softmax: false,
                    quantiles: Vec::new(),
                    top_pairs: self.options.partners,
                    ..AttentionOptions::default()
                };
                let d = &self.dictionary;
                let pairs = attention_scores(d, d, &self.model, layer, head.head, &options, work)?.pairs();
                let numbers_of =
                    |name: &str| pairs.column(name)?.numbers().ok_or_else(|| Error::internal("pairs without numbers"));
                let (found, found_scores) = (numbers_of(other)?, numbers_of("score")?);
                roles.extend(vec![format!("{role} → {other}"); found.len()]);
                numbers.extend(vec![head.head; found.len()]);
                ids.extend(found.iter().map(|id| *id as usize));
                scores.extend(found_scores);
            }
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let tokens = self.few_tokens(&self.dictionary, &ids, work)?;
        let table = Table::new(Provenance::default())
            .with("role", roles)?
            .with("head", numbers)?
            .with("partner", ids)?
            .with("score", scores)?
            .with("writes", tokens)?;
        Ok(Some(table))
    }

    /// A few tokens that features write.
    fn few_tokens(&self, dictionary: &Dictionary, ids: &[usize], work: &Work) -> Result<Vec<Vec<String>>> {
        let positions = ids.iter().map(|id| dictionary.position(*id)).collect::<Result<Vec<_>>>()?;
        tokens_of(&self.written.scores.of(dictionary, &positions, FEW, work)?, dictionary)
    }

    fn neighbours(&self, feature: usize, work: &Work) -> Result<Vec<Block>> {
        let mut blocks = vec![Block::Heading("Predecessors and successors".into())];
        for (name, option, neighbour) in [("Before", "before", &self.before), ("After", "after", &self.after)] {
            let Some(Neighbour { dictionary, chance }) = neighbour else {
                blocks.push(text(format!("{name}: no dictionary was given (option `{option}`).")));
                continue;
            };
            let options = MatchOptions {
                k: self.options.partners.max(1),
                features: Some(Ids::List(vec![feature as i64])),
                ..MatchOptions::default()
            };
            let found = match_features(&self.dictionary, dictionary, &self.model, &options, work)?;
            let numbers = |name: &str| found.column(name)?.numbers().ok_or_else(|| Error::internal("matches without numbers"));
            let (ids, cosines) = (numbers("target")?, numbers("cosine")?);
            let ids: Vec<usize> = ids.into_iter().map(|id| id as usize).collect();
            let best = cosines.first().map_or(0.0, |cosine| cosine.abs());
            let verdict = if best > *chance { "above chance" } else { "no more than chance" };
            let table = Table::new(Provenance::default())
                .with("feature", ids.clone())?
                .with("cosine", cosines)?
                .with("writes", self.few_tokens(dictionary, &ids, work)?)?;
            blocks.push(text(format!(
                "{name}, in {} ({}): the best match is {verdict}; 99 % of random directions stay below a cosine of {}.",
                dictionary.name(),
                dictionary.hook_out(),
                short(*chance)
            )));
            blocks.push(Block::Table(table));
        }
        Ok(blocks)
    }

    fn limits(&self) -> Vec<Block> {
        let mut fields: Vec<(&str, String)> = vec![
            ("when it fires", match self.dictionary.density() {
                Some(_) => "The density above comes from texts; on which tokens it fires, weights do not say.".into(),
                None => "Neither on which tokens nor how often; `activation_stats` with texts gives the frequency.".into(),
            }),
            ("company", "Directions that are active at the same position add to its own and turn its logits and scores.".into()),
            ("scale", "The norm before attention and the last one divide by a number that each position has of its own; after the softmax everything depends on it.".into()),
            ("positions", "Scores are those at distance 0. Rotary embeddings turn them with the distance from key to query.".into()),
            ("paths", "Direct effects alone: what later layers make of it is not followed beyond one head or one match.".into()),
        ];
        if !self.model.cfg().tied {
            fields.push((
                "reading",
                "Embedding and unembedding are not tied: tokens read and tokens written need not be alike.".into(),
            ));
        }
        let fields = fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        vec![Block::Heading("What weights alone do not show".into()), Block::Fields(fields)]
    }
}

/// The metrics of one feature's lists above their thresholds.
fn metrics(found: &Semantics) -> Result<Table> {
    let (table, thresholds) = (found.table()?, found.thresholds());
    let ends: &[(&str, &str)] = match found.side() {
        SemanticSide::Top => &[("top", "")],
        SemanticSide::Bottom => &[("bottom", "")],
        SemanticSide::Both => &[("top", ""), ("bottom", "_bottom")],
    };
    let value = |name: &str, suffix: &str| -> Result<f64> {
        let values = table.column(&format!("{name}{suffix}"))?.numbers();
        values.and_then(|values| values.first().copied()).ok_or_else(|| Error::internal("a metric without a value"))
    };
    let column = |name: &str, threshold: f64| -> Result<Vec<f64>> {
        ends.iter().map(|(_, suffix)| value(name, suffix)).chain([Ok(threshold)]).collect()
    };
    let mut rows: Vec<String> = ends.iter().map(|(end, _)| end.to_string()).collect();
    let mut votes =
        ends.iter().map(|(_, suffix)| Ok(format!("{} of 3", value("votes", suffix)?))).collect::<Result<Vec<String>>>()?;
    rows.push("threshold".into());
    votes.push(String::new());
    Table::new(Provenance::default())
        .with("tokens", rows)?
        .with("levenshtein", column("levenshtein", thresholds.levenshtein)?)?
        .with("cosine", column("cosine", thresholds.cosine)?)?
        .with("entropy", column("entropy", thresholds.entropy)?)?
        .with("passes", votes)
}
