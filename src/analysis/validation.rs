//! How well scores made of weights predict what a head attends to on real text.

use super::common::provenance;
use super::heads::InputNorm;
use crate::compute::project;
use crate::dictionary::{Basis, Dictionary, Directions, token_basis};
use crate::error::{Error, Result};
use crate::model::forward::{Hook, Logits, Pass, Request, Spot};
use crate::model::{Model, Norm, Rope};
use crate::options::Options;
use crate::stats::{Random, pearson, spearman};
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use rayon::prelude::*;

crate::choice! {
    /// What stands beside the features in the residual that they make.
    pub enum Constant {
        /// Nothing.
        #[default] None = "none",
        /// The dictionary's b_dec.
        BDec = "b_dec",
    }
}

crate::options! {
    /// Options of [`validate_attention`].
    pub struct ValidateOptions {
        /// Tokens of each text that are read at most; the number of scores grows with its square. [INFER]
        max_tokens: usize = 256,
        /// Leave out the first position of each text, on which heads rest when they have nothing to do. [FIELD]
        skip_bos: bool = true,
        /// Turn queries and keys by their positions (RoPE). Without, scores are content only, as those of `attention_scores` at
        /// distance 0 are. [INFER]
        rope: bool = false,
        /// `"b_dec"` adds the dictionary's constant part to every position. [INFER]
        base: Constant = Constant::default(),
        /// Seed of the permutation; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// Rows of scores with fewer keys have no rank correlation worth the name.
const FEWEST_KEYS: usize = 8;
/// Names of the three predictions, in the columns' endings.
const KINDS: [&str; 3] = ["", "_permuted", "_tokens"];

/// Per head: how well `Σ a_i a_j A_ij`, the score that the features which fire make of the weights, predicts the head's real
/// score before the softmax, over all causal pairs of positions of the texts. Beside it stand the same with the activations
/// dealt to the wrong features (`_permuted`), and with the token's embedding in place of the residual (`_tokens`, the control
/// to beat). The scalars of the norms (of the residual, and of Gemma-3's and Qwen3's queries and keys) are those of the real
/// pass; biases of the norm and of W_Q, W_K are left out, as in `attention_scores` (METHODS.md 1.4, 3.5).
///
/// A table `head pairs spearman r2 row_spearman …`: Spearman's correlation and the squared Pearson correlation over all
/// pairs, and the mean over queries with at least 8 keys of Spearman's correlation within the query's row, which is what a
/// softmax sees.
///
/// # Errors
/// A layer or head out of range; a dictionary that is written after the layer has read, or that has no encoder; no pairs.
pub fn validate_attention(
    dictionary: &Dictionary,
    model: &Model,
    layer: usize,
    heads: &[usize],
    texts: &[Vec<usize>],
    options: &ValidateOptions,
    work: &Work,
) -> Result<Table> {
    let setup = Setup::new(dictionary, model, layer, heads, options, work)?;
    let mut found: Vec<Found> = heads.iter().map(|_| Found::default()).collect();
    let steps = work.begin("validate_attention", texts.len() as u64);
    for text in texts {
        setup.add(&text[..text.len().min(options.max_tokens)], &mut found, work)?;
        steps.advance(1);
    }
    if found.iter().all(|found| found.real.is_empty()) {
        return Err(Error::input("validate_attention: the texts have no pair of positions to score").help("give longer texts"));
    }
    let figures: Vec<[Figures; 3]> = work.install(|| found.par_iter().map(Found::figures).collect());
    let record = provenance("validate_attention", model, &[("dictionary", dictionary)], options.canonical())
        .with("layer", layer)
        .with("texts", texts.len())
        .with("seed", setup.seed);
    let mut table = Table::new(record)
        .with("head", heads.to_vec())?
        .with("pairs", found.iter().map(|found| found.real.len()).collect::<Vec<usize>>())?;
    for (i, kind) in KINDS.iter().enumerate() {
        let column = |pick: fn(&Figures) -> f64| figures.iter().map(|f| pick(&f[i])).collect::<Vec<f64>>();
        table = table
            .with(&format!("spearman{kind}"), column(|f| f.spearman))?
            .with(&format!("r2{kind}"), column(|f| f.r2))?
            .with(&format!("row_spearman{kind}"), column(|f| f.row_spearman))?;
    }
    Ok(table)
}

/// Real and predicted scores of one head, pair by pair.
#[derive(Default)]
struct Found {
    real: Vec<f32>,
    predicted: [Vec<f32>; 3],
    /// Where each query's row ends.
    ends: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Figures {
    spearman: f64,
    r2: f64,
    row_spearman: f64,
}

impl Found {
    fn figures(&self) -> [Figures; 3] {
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let real = wide(&self.real);
        [0, 1, 2].map(|kind| {
            let predicted = wide(&self.predicted[kind]);
            let starts = std::iter::once(0).chain(self.ends.iter().copied());
            let rows = starts.zip(&self.ends).filter(|(start, end)| *end - start >= FEWEST_KEYS);
            let within: Vec<f64> =
                rows.map(|(a, b)| spearman(&real[a..*b], &predicted[a..*b])).filter(|r| r.is_finite()).collect();
            Figures {
                spearman: spearman(&real, &predicted),
                r2: pearson(&real, &predicted).powi(2),
                row_spearman: within.iter().sum::<f64>() / within.len() as f64,
            }
        })
    }
}

/// One head's weights as directions meet them.
struct HeadWeights {
    head: usize,
    /// `[d_model, d_head]`, the norm's gain and centring in front.
    w_q: Tensor,
    w_k: Tensor,
}

/// What is the same for all texts.
struct Setup<'a> {
    dictionary: &'a Dictionary,
    model: &'a Model,
    layer: usize,
    options: &'a ValidateOptions,
    heads: Vec<HeadWeights>,
    directions: Directions,
    tokens: Dictionary,
    /// What an activation of 1 adds in units of the write direction.
    units: Vec<f64>,
    /// Which feature gets whose activation.
    permutation: Vec<usize>,
    base: Option<Vec<f32>>,
    /// Gains of the query and key norm.
    gains: [Option<Vec<f32>>; 2],
    rope: Option<Rope>,
    request: Request,
    seed: u64,
}

impl<'a> Setup<'a> {
    fn new(
        dictionary: &'a Dictionary,
        model: &'a Model,
        layer: usize,
        heads: &[usize],
        options: &'a ValidateOptions,
        work: &Work,
    ) -> Result<Self> {
        model.check_layer(layer)?;
        dictionary.check_fits(model)?;
        if !dictionary.written_before_attention(layer, model) {
            let what = format!("{} is written after layer {layer} has read", dictionary.name());
            return Err(Error::input(what).help("take the dictionary of the residual that enters the layer"));
        }
        if !dictionary.is_neurons() && dictionary.w_enc().is_none() {
            return Err(Error::input(format!("{} has no encoder: it does not fire on text", dictionary.name())));
        }
        let norm = InputNorm::of_attention(model, layer, true)?;
        let weights = |head: &usize| {
            model.check_head(*head)?;
            Ok(HeadWeights {
                head: *head,
                w_q: norm.fold(&model.w_q(layer, *head)?)?,
                w_k: norm.fold(&model.w_k(layer, *head)?)?,
            })
        };
        let gain = |name: &str| -> Result<Option<Vec<f32>>> {
            Ok(model.find_gain(&format!("blocks.{layer}.attn.{name}"))?.map(|gain| gain.to_f32()))
        };
        let base = match options.base {
            Constant::None => None,
            Constant::BDec => {
                let bias = dictionary.residual_bias(model)?.ok_or_else(|| {
                    Error::input(format!("base \"b_dec\": {} has no decoder bias in the residual stream", dictionary.name()))
                })?;
                Some(bias.to_f32())
            }
        };
        let (norms, lengths) = (dictionary.decoder_norms(work)?, dictionary.reconstructed_norms(work)?);
        let seed = options.seed.unwrap_or(work.seed());
        let hook = Hook::parse(dictionary.hook(), model.cfg())?;
        let keep = [Spot::ResidPre, Spot::Q, Spot::K, Spot::Scores].map(|spot| Hook::Block(layer, spot));
        let keep = keep.into_iter().filter(|kept| *kept != hook).chain([hook]).collect();
        Ok(Setup {
            dictionary,
            model,
            layer,
            options,
            heads: heads.iter().map(weights).collect::<Result<_>>()?,
            directions: dictionary.write(model, work)?,
            tokens: token_basis(model, Basis::Embed, work)?,
            units: norms.iter().zip(lengths).map(|(norm, length)| if *norm > 0.0 { length / norm } else { 0.0 }).collect(),
            permutation: Random::new(seed, 0).shuffled(dictionary.n()),
            base,
            gains: [gain("q_norm")?, gain("k_norm")?],
            rope: if options.rope && model.cfg().rope_theta.is_some() { Some(model.rope(layer)?) } else { None },
            request: Request { keep, edits: Vec::new(), logits: Logits::None },
            seed,
        })
    }

    /// Runs a text and adds its pairs.
    fn add(&self, text: &[usize], found: &mut [Found], work: &Work) -> Result<()> {
        if text.len() < 2 {
            return Ok(());
        }
        let pass = self.model.forward(work)?.run(&[text], &self.request, work)?;
        let residuals = self.residuals(text, &pass, work)?;
        let real = self.kept(&pass, Spot::Scores)?.to_f32();
        let scales = self.norm_scales(self.kept(&pass, Spot::ResidPre)?);
        let n = text.len();
        let first = usize::from(self.options.skip_bos);
        let each = |(weights, found): (&HeadWeights, &mut Found)| -> Result<()> {
            let sides = residuals.iter().map(|u| self.vectors(weights, u, &scales, &pass, work)).collect::<Result<Vec<_>>>()?;
            for query in first..n {
                let row = &real[(weights.head * n + query) * n..][..n];
                for key in (first..=query).filter(|key| row[*key].is_finite()) {
                    found.real.push(row[key]);
                    for (predicted, [q, k]) in found.predicted.iter_mut().zip(&sides) {
                        predicted.push(self.score(&q[query], &k[key]));
                    }
                }
                found.ends.push(found.real.len());
            }
            Ok(())
        };
        self.heads.iter().zip(found).try_for_each(each)
    }

    fn kept<'p>(&self, pass: &'p Pass, spot: Spot) -> Result<&'p Tensor> {
        pass.get(&Hook::Block(self.layer, spot).name())
    }

    /// The residual as the features make it, with their activations permuted, and as the token embeddings: `[n, d_model]` each.
    fn residuals(&self, text: &[usize], pass: &Pass, work: &Work) -> Result<[Tensor; 3]> {
        let (n, features) = (text.len(), self.dictionary.n());
        let x = pass.get(self.dictionary.hook())?;
        let (mut values, factors) = if self.dictionary.is_neurons() {
            (x.to_f32(), vec![1.0; n])
        } else {
            let (acts, factors) = self.dictionary.encode_scaled(&x.reshape(&[n, x.numel() / n])?, work)?;
            (acts.to_f32(), factors)
        };
        for (row, factor) in values.chunks_exact_mut(features.max(1)).zip(factors) {
            row.iter_mut().zip(&self.units).for_each(|(v, unit)| *v = (f64::from(*v) * factor * unit) as f32);
        }
        let permuted: Vec<f32> =
            values.chunks_exact(features.max(1)).flat_map(|row| self.permutation.iter().map(|from| row[*from])).collect();
        let written = self.directions.dense(None, work)?;
        let sum = |values: Vec<f32>| -> Result<Tensor> {
            let mut u = project(&Tensor::from_f32(values, &[n, features])?, None, &written, work)?;
            if let Some(base) = &self.base {
                let add = |row: &mut [f32]| row.iter_mut().zip(base).for_each(|(v, b)| *v += b);
                u.make_mut_f32().chunks_exact_mut(base.len().max(1)).for_each(add);
            }
            Ok(u)
        };
        Ok([sum(values)?, sum(permuted)?, self.tokens.write(self.model, work)?.dense(Some(text), work)?])
    }

    /// 1 / rms (or 1 / std, for LayerNorm) of each row of the real residual.
    fn norm_scales(&self, residual: &Tensor) -> Vec<f64> {
        let cfg = self.model.cfg();
        let scale = |row: &[f32]| {
            let n = row.len() as f64;
            let mean = if cfg.norm == Norm::Layer { row.iter().map(|v| f64::from(*v)).sum::<f64>() / n } else { 0.0 };
            (row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n + cfg.eps).sqrt().recip()
        };
        residual.f32_cow().chunks_exact(cfg.d_model.max(1)).map(scale).collect()
    }

    /// Queries and keys of one head, a vector for each position.
    fn vectors(&self, weights: &HeadWeights, u: &Tensor, scales: &[f64], pass: &Pass, work: &Work) -> Result<[Vec<Vec<f32>>; 2]> {
        let cfg = self.model.cfg();
        let side = |w: &Tensor, spot: Spot, gain: Option<&[f32]>, heads: usize, head: usize| -> Result<Vec<Vec<f32>>> {
            let projected = project(u, None, w, work)?.to_f32();
            let real = self.kept(pass, spot)?.f32_cow();
            let d_head = cfg.d_head;
            let row = |(position, row): (usize, &[f32])| {
                let own = &real[(position * heads + head) * d_head..][..d_head];
                let mean_square = own.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / d_head as f64;
                let norm = if cfg.qk_norm { (mean_square + cfg.eps).sqrt().recip() } else { 1.0 };
                let of = |(i, v): (usize, &f32)| f64::from(*v) * scales[position] * norm * gain.map_or(1.0, |g| f64::from(g[i]));
                let mut vector: Vec<f32> = row.iter().enumerate().map(|entry| of(entry) as f32).collect();
                if let Some(rope) = &self.rope {
                    rope.turn(&mut vector, position as f64);
                }
                vector
            };
            Ok(projected.chunks_exact(d_head.max(1)).enumerate().map(row).collect())
        };
        let key_head = weights.head / (cfg.n_heads / cfg.n_kv_heads.max(1)).max(1);
        Ok([
            side(&weights.w_q, Spot::Q, self.gains[0].as_deref(), cfg.n_heads, weights.head)?,
            side(&weights.w_k, Spot::K, self.gains[1].as_deref(), cfg.n_kv_heads, key_head)?,
        ])
    }

    fn score(&self, query: &[f32], key: &[f32]) -> f32 {
        let cfg = self.model.cfg();
        let score = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
        let score = score * cfg.attn_scale_of(self.layer);
        cfg.attn_softcap.map_or(score, |cap| cap * (score / cap).tanh()) as f32
    }
}
