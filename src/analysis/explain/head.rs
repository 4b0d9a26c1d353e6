//! A head on a page.

use super::{FEW, echoes, magnitudes, means, spread, text, tokens_of};
use crate::analysis::attention::{AttentionOptions, Distances, attention_scores};
use crate::analysis::common::provenance;
use crate::analysis::ov::{CopyingOptions, OvOptions, OvWriteOptions, copying, ov_scores, ov_write};
use crate::analysis::tokens::{TokenOptions, TokenScores, unembed};
use crate::dictionary::{self, Basis, Dictionary, DirectionsOptions, RandomOptions, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Ids, Options};
use crate::page::{Bars, Block, Page};
use crate::provenance::Provenance;
use crate::sample::{quantile, sorted_finite};
use crate::table::Table;
use crate::work::Work;

crate::options! {
    /// Options of [`explain_head`].
    pub struct HeadPageOptions {
        /// Rows of the lists of features and pairs. [INFER]
        k: usize = 10,
        /// The dictionary whose features read what the head writes; without one that part is left out.
        target: Option<Dictionary> = None,
        /// Features at even distances that stand for the whole dictionary where heads are compared and in what is written, and
        /// random directions beside them. [INFER]
        sample: usize = 1024,
        /// Seed of the random directions; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// Tokens that stand for what enters the first layer.
const TOKENS: usize = 1024;
/// Distances at which scores are compared.
const DISTANCES: [usize; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];

/// A dictionary for what enters a layer where no SAE is at hand: the neurons of the layer before; at layer 0 token embeddings spread
/// over the vocabulary.
///
/// # Errors
/// The layer is out of range, or the user's interruption.
pub fn entering(model: &Model, layer: usize, work: &Work) -> Result<Dictionary> {
    model.check_layer(layer)?;
    match layer.checked_sub(1) {
        Some(before) => dictionary::mlp_neurons(model, before),
        None => {
            let tokens = dictionary::token_basis(model, Basis::Embed, work)?;
            tokens.select(&spread(tokens.n(), TOKENS), work)
        }
    }
}

/// One head on a page, from weights alone: its size beside the other heads of its layer and beside random directions, the pairs
/// of features that it matches, its strongest queries and keys, its scores by distance, what it writes of the features, and
/// which features of `target` read that.
///
/// # Errors
/// A layer or head out of range, a dictionary that does not fit, or a target that reads before the head writes.
pub fn explain_head(
    model: &Model,
    layer: usize,
    head: usize,
    dictionary: &Dictionary,
    options: &HeadPageOptions,
    work: &Work,
) -> Result<Page> {
    model.check_layer(layer)?;
    model.check_head(head)?;
    let seed = options.seed.unwrap_or(work.seed());
    let ids: Vec<usize> = spread(dictionary.n(), options.sample).into_iter().map(|p| dictionary.id_of(p)).collect();
    let tokens = TokenOptions { k: FEW, features: Some(Ids::List(vec![ids[0] as i64])), ..TokenOptions::default() };
    let it = Head {
        model,
        layer,
        head,
        dictionary,
        sample: dictionary.select(&ids, work)?,
        options,
        seed,
        tokens: unembed(dictionary, model, &tokens, work)?,
    };
    let record = provenance("explain_head", model, &[("dictionary", dictionary)], options.canonical())
        .with("layer", layer)
        .with("head", head)
        .with("seed", seed);
    let mut page = Page::new(format!("Head {layer}.{head} of {}", model.name()), record);
    page.blocks.push(it.facts()?);
    page.blocks.extend(it.beside(work)?);
    page.blocks.extend(it.matches(work)?);
    page.blocks.extend(it.distances(work)?);
    page.blocks.extend(it.values(work)?);
    page.blocks.extend(it.readers(work)?);
    page.blocks.extend(limits());
    Ok(page)
}

struct Head<'a> {
    model: &'a Model,
    layer: usize,
    head: usize,
    dictionary: &'a Dictionary,
    sample: Dictionary,
    options: &'a HeadPageOptions,
    seed: u64,
    /// How directions are scored against the vocabulary.
    tokens: TokenScores,
}

impl Head<'_> {
    fn facts(&self) -> Result<Block> {
        let cfg = self.model.cfg();
        let shared = cfg.n_heads / cfg.n_kv_heads.max(1);
        let mut fields = vec![
            ("model", self.model.name().to_string()),
            ("features", format!("{} ({} at {})", self.dictionary.name(), self.dictionary.n(), self.dictionary.hook_out())),
            ("sizes", format!("d_model {}, d_head {}, {} heads", cfg.d_model, cfg.d_head, cfg.n_heads)),
        ];
        if shared > 1 {
            fields.push((
                "keys and values",
                format!("of head {} of {}, shared by {shared} heads", self.head / shared, cfg.n_kv_heads),
            ));
        }
        fields.push((
            "sees",
            match self.model.window(self.layer)? {
                Some(window) => format!("the last {window} positions"),
                None => "all positions before".into(),
            },
        ));
        if cfg.qk_norm {
            fields.push(("query and key norm", "in linear form: their gains, and one factor for all features".into()));
        }
        Ok(Block::Fields(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()))
    }

    /// All heads of the layer.
    fn beside(&self, work: &Work) -> Result<Vec<Block>> {
        let n = RandomOptions { n: Some(self.options.sample.max(2)), seed: Some(self.seed), ..RandomOptions::default() };
        let random = random_directions(self.dictionary, Some(self.model), &n, work)?;
        let heads: Vec<usize> = (0..self.model.cfg().n_heads).collect();
        let size = |dictionary: &Dictionary, head: usize| -> Result<f64> {
            let scores = attention_scores(dictionary, dictionary, self.model, self.layer, head, &magnitudes(), work)?;
            Ok(quantile(&sorted_finite(&means(&scores)?.0), 0.5))
        };
        let own = heads.iter().map(|head| size(&self.sample, *head)).collect::<Result<Vec<f64>>>()?;
        let null = heads.iter().map(|head| size(&random, *head)).collect::<Result<Vec<f64>>>()?;
        let options = CopyingOptions { n_null: self.options.sample.max(2), seed: Some(self.seed), ..CopyingOptions::default() };
        let values = copying(&self.sample, self.model, self.layer, &options, work)?;
        let table = Table::new(Provenance::default())
            .with(
                "head",
                heads.iter().map(|head| format!("{}{head}", if *head == self.head { "→ " } else { "" })).collect::<Vec<_>>(),
            )?
            .with("score", own.clone())?
            .with("vs_random", own.iter().zip(&null).map(|(own, null)| own / null).collect::<Vec<f64>>())?
            .with("gain_rel", values.column("gain_rel")?.clone())?
            .with("copy_cosine", values.column("mean_cosine")?.clone())?
            .with("eig_copying", values.column("eig_copying")?.clone())?;
        Ok(vec![
            Block::Heading("Beside the heads of its layer".into()),
            text(format!(
                "Score: the median feature's mean |score| before the softmax (directions at √d_model, distance 0), and its ratio to random \
                 directions'. Values: gain over random directions', mean cosine of what is written with what is read, Σ Re λ / Σ |λ| of the OV \
                 circuit (1 copies, −1 negates). Of {} features.",
                self.sample.n()
            )),
            Block::Table(table),
        ])
    }

    fn matches(&self, work: &Work) -> Result<Vec<Block>> {
        let d = self.dictionary;
        let options =
            AttentionOptions { softmax: false, quantiles: Vec::new(), top_pairs: self.options.k, ..AttentionOptions::default() };
        let pairs = attention_scores(d, d, self.model, self.layer, self.head, &options, work)?.pairs();
        let (queries, keys) = (ids(&pairs, "query")?, ids(&pairs, "key")?);
        let table = Table::new(Provenance::default())
            .with("query", queries.clone())?
            .with("query_writes", self.few_tokens(d, &queries, work)?)?
            .with("key", keys.clone())?
            .with("key_writes", self.few_tokens(d, &keys, work)?)?
            .with("score", pairs.column("score")?.clone())?;
        let scores = attention_scores(d, d, self.model, self.layer, self.head, &magnitudes(), work)?;
        let (query, key) = means(&scores)?;
        let lists = [("strongest queries", query), ("strongest keys", key)];
        let bars = lists.into_iter().map(|(title, values)| self.strongest(title, &values, work)).collect::<Result<Vec<_>>>()?;
        Ok(vec![
            Block::Heading("What it matches".into()),
            text("The pairs of features with the highest scores (of signed features by magnitude), with tokens that they write."),
            Block::Table(table),
            text("The features with the largest mean |score| over all partners."),
            Block::Bars(bars),
        ])
    }

    fn strongest(&self, title: &str, values: &[f64], work: &Work) -> Result<Bars> {
        let mut order: Vec<usize> = (0..values.len()).filter(|p| values[*p].is_finite()).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
        order.truncate(self.options.k);
        let lists = tokens_of(&self.tokens.of(self.dictionary, &order, 1, work)?, self.dictionary)?;
        let name = |(position, tokens): (&usize, Vec<String>)| {
            let token = tokens.first().map_or_else(String::new, |token| format!(" \"{token}\""));
            (format!("{}{token}", self.dictionary.id_of(*position)), values[*position])
        };
        Ok(Bars { title: title.into(), bars: order.iter().zip(lists).map(name).collect() })
    }

    fn distances(&self, work: &Work) -> Result<Vec<Block>> {
        if self.model.rope(self.layer).is_err() {
            return Ok(Vec::new());
        }
        let window = self.model.window(self.layer)?.unwrap_or(usize::MAX);
        let distances: Vec<usize> = DISTANCES.into_iter().filter(|d| *d < window).collect();
        let options = AttentionOptions { distance: Distances(distances.clone()), average: false, ..magnitudes() };
        let scores = attention_scores(&self.sample, &self.sample, self.model, self.layer, self.head, &options, work)?;
        let summary = scores.summary();
        let mean = |i: usize| summary["mean"].get(i).and_then(|v| v.as_f64()).unwrap_or(f64::NAN);
        let bars = distances.iter().enumerate().map(|(i, distance)| (format!("{distance} back"), mean(i))).collect();
        Ok(vec![
            Block::Heading("By distance".into()),
            text("Mean |score| over all pairs when the key stands so many positions before the query."),
            Block::Bars(vec![Bars { title: "mean |score|".into(), bars }]),
        ])
    }

    /// What it writes of the features that it carries best.
    fn values(&self, work: &Work) -> Result<Vec<Block>> {
        let echoes = echoes(&self.sample, self.model, self.layer, self.head, work)?;
        let mut order: Vec<usize> = (0..echoes.len()).collect();
        order.sort_by(|a, b| echoes[*b].0.total_cmp(&echoes[*a].0).then(a.cmp(b)));
        order.truncate(self.options.k);
        let features: Vec<usize> = order.iter().map(|p| self.sample.id_of(*p)).collect();
        let chosen = Some(Ids::List(features.iter().map(|id| *id as i64).collect()));
        let written = ov_write(
            self.dictionary,
            self.model,
            self.layer,
            self.head,
            &OvWriteOptions { features: chosen, ..OvWriteOptions::default() },
            work,
        )?;
        let written = dictionary::directions(&written, &DirectionsOptions::default())?;
        let everything: Vec<usize> = (0..features.len()).collect();
        let table = Table::new(Provenance::default())
            .with("feature", features.clone())?
            .with("feature_writes", self.few_tokens(self.dictionary, &features, work)?)?
            .with("gain", order.iter().map(|p| echoes[*p].0).collect::<Vec<f64>>())?
            .with("cosine", order.iter().map(|p| echoes[*p].1).collect::<Vec<f64>>())?
            .with("head_writes", tokens_of(&self.tokens.of(&written, &everything, FEW, work)?, &written)?)?;
        Ok(vec![
            Block::Heading("What it writes".into()),
            text(format!(
                "Of {} features those that it carries best: the length of what it writes over the feature's, its cosine with the \
                 feature, and the tokens that it raises.",
                self.sample.n()
            )),
            Block::Table(table),
        ])
    }

    fn readers(&self, work: &Work) -> Result<Vec<Block>> {
        let Some(target) = &self.options.target else { return Ok(Vec::new()) };
        let options = OvOptions { quantiles: Vec::new(), top_pairs: self.options.k, ..OvOptions::default() };
        let pairs = ov_scores(self.dictionary, target, self.model, self.layer, self.head, &options, work)?.pairs();
        let (sources, targets) = (ids(&pairs, "source")?, ids(&pairs, "target")?);
        let table = Table::new(Provenance::default())
            .with("source", sources.clone())?
            .with("source_writes", self.few_tokens(self.dictionary, &sources, work)?)?
            .with("target", targets.clone())?
            .with("target_writes", self.few_tokens(target, &targets, work)?)?
            .with("cosine", pairs.column("score")?.clone())?;
        Ok(vec![
            Block::Heading("Who reads it".into()),
            text(format!("Features of {} whose read direction is most like what the head writes of a feature.", target.name())),
            Block::Table(table),
        ])
    }

    fn few_tokens(&self, dictionary: &Dictionary, ids: &[usize], work: &Work) -> Result<Vec<Vec<String>>> {
        let positions = ids.iter().map(|id| dictionary.position(*id)).collect::<Result<Vec<_>>>()?;
        tokens_of(&self.tokens.of(dictionary, &positions, FEW, work)?, dictionary)
    }
}

fn ids(pairs: &Table, name: &str) -> Result<Vec<usize>> {
    let numbers = pairs.column(name)?.numbers().ok_or_else(|| Error::internal("pairs without numbers"))?;
    Ok(numbers.into_iter().map(|id| id as usize).collect())
}

fn limits() -> Vec<Block> {
    let fields = [
        (
            "patterns",
            "Where it attends on a text depends on how strongly features are active, on the norm's scale at each position, and on what else the stream holds.",
        ),
        ("constants", "Biases and the mean of the stream decide much of a real score; `attention_scores` has `base` for them."),
        ("first position", "A head may rest on the first position; nothing here shows it."),
        ("paths", "Direct paths alone: what comes from earlier heads is what their features write, if the dictionary has these."),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    vec![Block::Heading("What weights alone do not show".into()), Block::Fields(fields)]
}
