//! What a head writes for each direction it attends to (OV): as directions, against what later features read, and as a
//! copy of its input.

use super::common::{Side, check_quantiles, ids, moment_column, named, note_non_finite, provenance, with_labels, with_quantiles};
use super::heads::{
    HeadVectors, InputNorm, Part, Scaling, VectorPlace, as_f64, each_row, output_weight, post_gain, written_norms,
};
use super::product::{pair_table, summary};
use crate::compute::linalg::eig;
use crate::compute::product::{Histogram, Moments, Product};
use crate::compute::{matmul, project, row_norms, second_moment};
use crate::dictionary::{Dictionary, Directions, RandomOptions, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Ids, Json, JsonMap, Options};
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use std::collections::BTreeSet;
use std::ops::Range;

crate::options! {
    /// Options of [`ov_write`].
    pub struct OvWriteOptions {
        /// Fold the gain of the norm before attention (with its centring) and, where the model has one, the post-attention
        /// gain. [FIELD]
        fold_norm: bool = true,
        /// The norm to which each direction is scaled before the gain: `"none"`, `"sqrt_d"`, `"typical"` or a number. [INFER]
        temperature: Scaling = Scaling::None,
        /// Ids of the features; all when absent.
        features: Option<Ids> = None,
    }
}

crate::choice! {
    /// How OV scores are scaled.
    pub enum OvScale {
        /// Divided by both norms.
        #[default] Cosine = "cosine",
        /// As they are.
        Raw = "raw",
    }
}

crate::options! {
    /// Options of [`ov_scores`].
    pub struct OvOptions {
        /// Fold the gain of the norm before attention (with its centring) and, where the model has one, the post-attention
        /// gain. [FIELD]
        fold_norm: bool = true,
        /// The norm to which each source direction is scaled before the gain; without effect on cosines. [INFER]
        temperature: Scaling = Scaling::None,
        /// `"cosine"`: divided by ‖ov_write‖ and ‖read‖; `"raw"`. [INFER]
        scale: OvScale = OvScale::default(),
        /// Quantiles of each row and column, one column each.
        quantiles: Vec<f64> = vec![0.5, 0.75],
        /// Statistics and pairs by |score|. By default true where a dictionary is signed. [INFER]
        absolute: Option<bool> = None,
        /// Number of highest-scoring pairs kept.
        top_pairs: usize = 100,
        /// Ids of the source features; all when absent.
        source_features: Option<Ids> = None,
        /// Ids of the target features; all when absent.
        target_features: Option<Ids> = None,
    }
}

crate::options! {
    /// Options of [`copying`].
    pub struct CopyingOptions {
        /// Eigenvalues of W_E·OV·W_U instead of OV: does the head raise the token it attends to? [FIELD: Elhage et al. 2021]
        tokens: bool = false,
        /// Fold the gains of the norms (before and after attention, and the final one with `tokens`). [FIELD]
        fold_norm: bool = true,
        /// Ids of the features; all when absent.
        features: Option<Ids> = None,
        /// Number of random directions behind `gain_rel`. [INFER]
        n_null: usize = 4096,
        /// Seed of the random directions; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// One head's OV circuit with its norms: `d → post ∘ (W_Oᵀ W_Vᵀ (g ∘ P c d))`.
struct Circuit {
    norm: InputNorm,
    /// `[d_model, d_head]`.
    w_v: Tensor,
    /// `[d_head, d_model]`, the post-attention gain behind it.
    w_o: Tensor,
    d_head: usize,
    /// What progress is called.
    label: String,
}

impl Circuit {
    fn new(model: &Model, layer: usize, head: usize, fold_norm: bool) -> Result<Self> {
        model.check_layer(layer)?;
        model.check_head(head)?;
        let post = post_gain(model, layer, fold_norm)?;
        Ok(Circuit {
            norm: InputNorm::of_attention(model, layer, fold_norm)?,
            w_v: model.w_v(layer, head)?,
            w_o: output_weight(model, layer, head, post.as_deref())?,
            d_head: model.cfg().d_head,
            label: format!("OV {layer}.{head}"),
        })
    }

    /// The value vectors of the features at these positions of a dictionary, `[n, d_head]`.
    fn values(
        &self,
        dictionary: &Dictionary,
        positions: &[usize],
        temperature: Scaling,
        model: &Model,
        place: &VectorPlace,
        work: &Work,
    ) -> Result<Tensor> {
        let part = Part::new(dictionary.write(model, work)?, positions.to_vec(), false);
        self.norm.read((&part, &self.w_v), temperature, dictionary, place, work)?.values.finish()
    }
}

/// What one head writes into the residual stream for each feature it attends to with weight 1: `post ∘ (W_Oᵀ W_Vᵀ (g ∘ P
/// d))`, `[n, d_model]` f32, in the order of the features. g is the gain of the norm before attention, `post` the
/// post-attention gain (Gemma); directions are unscaled unless `temperature` says so (METHODS.md 1.3, step 7).
///
/// # Errors
/// A layer, head or feature out of range.
pub fn ov_write(
    dictionary: &Dictionary,
    model: &Model,
    layer: usize,
    head: usize,
    options: &OvWriteOptions,
    work: &Work,
) -> Result<Tensor> {
    let circuit = Circuit::new(model, layer, head, options.fold_norm)?;
    let positions = dictionary.positions(&options.features)?;
    let (n, d_model) = (positions.len(), model.cfg().d_model);
    work.reserve(&circuit.label, HeadVectors::bytes(n, circuit.d_head + d_model) as u64)?;
    let place = VectorPlace::new(&circuit.label, HeadVectors::bytes(n, circuit.d_head), work)?;
    project(&circuit.values(dictionary, &positions, options.temperature, model, &place, work)?, None, &circuit.w_o, work)
}

/// What [`ov_scores`] found. Copies share.
#[derive(Clone, Debug)]
pub struct OvScores {
    /// One row for each source feature: `feature strength mean std <quantiles> max`; strength = ‖ov_write‖.
    pub source: Side,
    /// One row for each target feature: the same columns; strength = ‖read‖.
    pub target: Side,
    pairs: Table,
    summary: JsonMap<String, Json>,
    product: Product,
    range: (f64, f64),
}

impl std::fmt::Display for OvScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ov_scores: {} sources × {} targets", self.source.0.len(), self.target.0.len())
    }
}

impl OvScores {
    /// The highest-scoring pairs: `source target score`, falling; with `absolute` by |score|, the score itself signed.
    pub fn pairs(&self) -> Table {
        self.pairs.clone()
    }

    /// Over all pairs with a finite score, n of them: `n mean std <quantiles> min max`.
    pub fn summary(&self) -> JsonMap<String, Json> {
        self.summary.clone()
    }

    /// Histogram of all scores (of |score| with `absolute`), `bins` bins from the least to the largest.
    ///
    /// # Errors
    /// No bins, or the user's interruption.
    pub fn histogram(&self, bins: usize, work: &Work) -> Result<Histogram> {
        self.product.histogram(bins, self.range.0, self.range.1, work)
    }
}

/// How strongly each target feature reads what a head writes for each source feature: `S_ij = read_j · ov_write_i`, over
/// both norms by default. No attention scale, softcap, distance or softmax takes part (METHODS.md 1.3, step 7).
///
/// `strength` is ‖ov_write_i‖ and ‖read_j‖, so that raw score = cosine × strength × strength.
///
/// # Errors
/// A target that reads before this head writes; a dictionary without read directions as target; a layer, head or feature
/// out of range.
pub fn ov_scores(
    source: &Dictionary,
    target: &Dictionary,
    model: &Model,
    layer: usize,
    head: usize,
    options: &OvOptions,
    work: &Work,
) -> Result<OvScores> {
    check_quantiles(&options.quantiles)?;
    let circuit = Circuit::new(model, layer, head, options.fold_norm)?;
    if !target.reads_after_attention(layer, model) {
        return Err(Error::input(format!(
            "{} ({}) reads before the heads of layer {layer} write: nothing can flow from one to the other",
            target.name(),
            target.hook()
        ))
        .help(format!("take a target at blocks.{layer}.hook_resid_mid or later, or a head of an earlier layer")));
    }
    let source_positions = source.positions(&options.source_features)?;
    let target_positions = target.positions(&options.target_features)?;
    let (n, m) = (source_positions.len(), target_positions.len());
    let place = VectorPlace::new(&circuit.label, HeadVectors::bytes(n.saturating_add(m), circuit.d_head), work)?;
    let absolute = options.absolute.unwrap_or(source.signed() || target.signed());
    let blank = |n: usize| Tensor::scalar(0.0).broadcast_to(&[n, circuit.d_head]);
    let product = Product {
        absolute,
        shape: false,
        row_quantiles: options.quantiles.clone(),
        col_quantiles: options.quantiles.clone(),
        all_quantiles: options.quantiles.clone(),
        cols: true,
        pairs: options.top_pairs,
        label: circuit.label.clone(),
        held: place.held,
        ..Product::new(blank(n)?, blank(m)?.t())
    };
    product.announce(work)?;
    let values = circuit.values(source, &source_positions, options.temperature, model, &place, work)?;
    let write_norms = written_norms(&values, &circuit.w_o, work)?;
    target.say_doubts(model, work);
    let part = Part::new(target.read(model, work)?, target_positions.clone(), false);
    let inverse = |norm: &f64| if *norm > 0.0 { norm.recip() } else { 0.0 };
    let cosine = options.scale == OvScale::Cosine;
    let mut norms = Vec::with_capacity(part.positions.len());
    let factors = |block: &Directions, range: Range<usize>| {
        norms.extend(row_norms(&block.rows, block.gain.as_deref(), work)?);
        Ok(norms[range].iter().map(|norm| if cosine { inverse(norm) } else { 1.0 }).collect())
    };
    let pulled = HeadVectors::new(&part, &circuit.w_o.t(), factors, &place, work)?.values.finish()?;
    let read_norms: Vec<f64> = part.chosen.iter().map(|p| norms[*p]).collect();
    let product = Product {
        a: values,
        b: vec![pulled.t()],
        row_scale: cosine.then(|| write_norms.iter().map(inverse).collect()),
        announced: true,
        ..product
    };
    let outcome = product.run(work)?;
    let source_ids = ("source features", |i: usize| source.id_of(source_positions[i]));
    note_non_finite("ov_scores", &outcome, source_ids, ("target features", |j: usize| target.id_of(target_positions[j])), work);
    let record =
        provenance("ov_scores", model, &[("source_dictionary", source), ("target_dictionary", target)], options.canonical())
            .with("layer", layer)
            .with("head", head)
            .with("absolute", absolute);
    let side =
        |dictionary: &Dictionary, positions: &[usize], strength: Vec<f64>, moments: Vec<&Moments>, quantiles: Vec<&[f64]>| {
            let table = Table::new(record.clone()).with("feature", ids(dictionary, positions))?;
            let table = with_labels(table, dictionary, positions)?
                .with("strength", strength)?
                .with("mean", moment_column(moments.iter().copied(), |m| m.mean))?
                .with("std", moment_column(moments.iter().copied(), |m| m.std))?;
            let table = with_quantiles(table, &options.quantiles, &quantiles)?;
            Ok::<Side, Error>(Side(table.with("max", moment_column(moments, |m| m.max))?))
        };
    let (rows, cols) = (&outcome.rows, &outcome.cols);
    Ok(OvScores {
        source: side(
            source,
            &source_positions,
            write_norms,
            rows.iter().map(|r| &r.moments).collect(),
            rows.iter().map(|r| r.quantiles.as_slice()).collect(),
        )?,
        target: side(
            target,
            &target_positions,
            read_norms,
            cols.iter().map(|c| &c.moments).collect(),
            cols.iter().map(|c| c.quantiles.as_slice()).collect(),
        )?,
        pairs: pair_table(
            record.clone(),
            ("source", "target"),
            &product,
            &outcome,
            (|i| source.id_of(source_positions[i]), |j| target.id_of(target_positions[j])),
            work,
        )?,
        summary: summary(&outcome, &product),
        range: (outcome.all.moments.min, outcome.all.moments.max),
        product,
    })
}

/// Whether the heads of a layer copy what they attend to: one row for each head, `head mean_cosine mean_gain gain_rel
/// eig_copying`.
///
/// With o = ov_write(d): the mean cosine of o and d; the mean of ‖o‖/‖d‖, which is right up to a scalar of the token and so
/// comparable between heads of one layer; that mean over the same of random directions drawn with the dictionary's second
/// moment; and Σ Re λ / Σ |λ| over the eigenvalues of the folded OV (1 for a head that copies, −1 for one that negates),
/// or with `tokens` of W_E·OV·W_U, either by a d_head × d_head problem (Elhage et al. 2021).
///
/// # Errors
/// A layer or feature out of range, or no features.
pub fn copying(dictionary: &Dictionary, model: &Model, layer: usize, options: &CopyingOptions, work: &Work) -> Result<Table> {
    model.check_layer(layer)?;
    let seed = options.seed.unwrap_or(work.seed());
    let positions = dictionary.positions(&options.features)?;
    if positions.is_empty() {
        return Err(Error::input("copying needs at least one feature"));
    }
    let directions = dictionary.write(model, work)?;
    let random = random_directions(
        dictionary,
        Some(model),
        &RandomOptions { n: Some(options.n_null), seed: Some(seed), ..RandomOptions::default() },
        work,
    )?;
    let random_write = random.write(model, work)?;
    let everything: Vec<usize> = (0..random.n()).collect();
    let vocabulary = if options.tokens { Some(token_gram(model, options.fold_norm, work)?) } else { None };
    let heads: Vec<usize> = (0..model.cfg().n_heads).collect();
    let steps = work.begin("copying", heads.len() as u64);
    let (mut cosines, mut gains, mut relative, mut eigen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut left_out = BTreeSet::new();
    for head in &heads {
        let circuit = Circuit::new(model, layer, *head, options.fold_norm)?;
        let own = echo(&circuit, &directions, &positions, work)?;
        let null = echo(&circuit, &random_write, &everything, work)?;
        cosines.push(own.cosine);
        gains.push(own.gain);
        relative.push(own.gain / null.gain);
        left_out.extend(own.left_out);
        eigen.push(eigen_share(&circuit, vocabulary.as_ref(), work)?);
        steps.advance(1);
    }
    let left_out: Vec<usize> = left_out.into_iter().collect();
    if let Some(named) = named("features", &left_out, positions.len(), &|position| dictionary.id_of(position)) {
        let why = "as they, or what a head writes for them, are NaN or infinite";
        work.note(&format!("copying: {} features are left out of the means, {why}: {named}", left_out.len()));
    }
    Table::new(
        provenance("copying", model, &[("dictionary", dictionary)], options.canonical()).with("layer", layer).with("seed", seed),
    )
    .with("head", heads)?
    .with("mean_cosine", cosines)?
    .with("mean_gain", gains)?
    .with("gain_rel", relative)?
    .with("eig_copying", eigen)
}

/// How what a head writes is like what it attends to.
struct Echo {
    /// Mean cosine, over directions and writes that have a length.
    cosine: f64,
    /// Mean ratio of the norms, over directions that have a length.
    gain: f64,
    /// Positions of the directions that are NaN or infinite, or for which that is written.
    left_out: Vec<usize>,
}

fn echo(circuit: &Circuit, directions: &Directions, positions: &[usize], work: &Work) -> Result<Echo> {
    const CHUNK: usize = 4096;
    let w_v = circuit.norm.fold(&circuit.w_v)?;
    let (mut cosine, mut gain, mut n_cosine, mut n_gain) = (0.0, 0.0, 0u64, 0u64);
    let mut left_out = Vec::new();
    for chunk in positions.chunks(CHUNK) {
        let given = directions.dense(Some(chunk), work)?;
        let mut written = project(&project(&given, None, &w_v, work)?, None, &circuit.w_o, work)?;
        let width = given.shape()[1];
        let given = given.f32_cow();
        let products = each_row(written.make_mut_f32(), width, work, |i, o| {
            let d = &given[i * width..][..width];
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            (dot(d, d).sqrt(), dot(o, o).sqrt(), dot(o, d))
        })?;
        for (position, (d_norm, o_norm, dot)) in chunk.iter().zip(products) {
            if !(d_norm.is_finite() && o_norm.is_finite()) {
                left_out.push(*position);
            } else if d_norm > 0.0 {
                gain += o_norm / d_norm;
                n_gain += 1;
                if o_norm > 0.0 {
                    cosine += dot / (o_norm * d_norm);
                    n_cosine += 1;
                }
            }
        }
    }
    Ok(Echo { cosine: cosine / n_cosine as f64, gain: gain / n_gain as f64, left_out })
}

/// `diag(g_final) Σ_t W_U[:, t] W_E[t, :]`, `[d_model, d_model]` f64 with the final centring: what stands between one pass
/// through the vocabulary and the next. The embedding's scale cancels in the ratio.
fn token_gram(model: &Model, fold_norm: bool, work: &Work) -> Result<Tensor> {
    let (embedding, unembedding) = (model.w_e(), model.w_u());
    let n = embedding.shape()[0] as f64;
    let mut gram = if model.cfg().tied {
        second_moment(&embedding, None, None, false, work)?.into_iter().map(|v| v * n).collect()
    } else {
        matmul(&unembedding, &embedding, work)?.to_f64()
    };
    let d = model.cfg().d_model;
    if fold_norm {
        let gain = model.find_gain("ln_final")?.map(|g| g.to_f64());
        for (i, row) in gram.chunks_exact_mut(d.max(1)).enumerate() {
            let factor = gain.as_ref().map_or(1.0, |g| g[i]);
            row.iter_mut().for_each(|v| *v *= factor);
        }
        if model.cfg().norm == crate::model::Norm::Layer {
            let mut mean = vec![0.0; d];
            gram.chunks_exact(d.max(1)).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / d as f64));
            gram.chunks_exact_mut(d.max(1)).for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m));
        }
    }
    Tensor::from_f64(gram, &[d, d])
}

/// Σ Re λ / Σ |λ| of the folded OV, whose non-zero eigenvalues are those of W_O diag(post) diag(g) P W_V `[d_head, d_head]`,
/// with the vocabulary's matrix in between for tokens.
fn eigen_share(circuit: &Circuit, vocabulary: Option<&Tensor>, work: &Work) -> Result<f64> {
    let folded = as_f64(&circuit.norm.fold(&circuit.w_v)?)?;
    let mut out = as_f64(&circuit.w_o)?;
    if let Some(gram) = vocabulary {
        out = matmul(&out, gram, work)?;
    }
    let eigen = eig(&matmul(&out, &folded, work)?, work)?;
    let (re, im) = (eigen.re.to_f64(), eigen.im.to_f64());
    let sizes: f64 = re.iter().zip(&im).map(|(x, y)| x.hypot(*y)).sum();
    Ok(re.iter().sum::<f64>() / sizes)
}
