//! Directions as queries and keys of an attention head: the bilinear scores of every query feature with every key
//! feature, before and after the softmax.

use super::common::{Side, check_quantiles, ids, moment_column, note_non_finite, provenance, with_labels, with_quantiles};
use super::heads::{HeadVectors, InputNorm, Part, Scaling, Temperature, VectorPlace, each_row, each_vector};
use super::product::{col_quantiles, concentration_columns, pair_table, summary};
use crate::compute::blocks;
use crate::compute::product::{Histogram, Outcome, Product, RowStats};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::model::{Model, Rope};
use crate::options::{Ids, Json, JsonMap, OptionValue, Options, Value};
use crate::provenance::Provenance;
use crate::stats::Random;
use crate::table::Table;
use crate::tensor::{Draft, Tensor};
use crate::work::Work;
use serde_json::json;

crate::choice! {
    /// How queries and keys are normalised in models that do so head by head (Gemma-3, Qwen3).
    pub enum QkNorm {
        /// The gain, and one scalar a head and side: 1/RMS over all head vectors of the whole dictionary.
        #[default] Linear = "linear",
        /// The gain, and every head vector divided by its own RMS.
        Each = "each",
        /// Neither.
        None = "none",
    }
}

crate::choice! {
    /// Whose W_Q and W_K read the directions.
    pub enum HeadWeights {
        /// The head's own.
        #[default] Real = "real",
        /// Gaussian matrices with the Frobenius norms of the head's: a baseline that keeps the directions and takes the head.
        Random = "random",
    }
}

crate::options! {
    /// Options of [`attention_scores`] and [`attention_matrix`].
    pub struct AttentionOptions {
        /// Fold the gain (and centring) of the norm before attention. [CODE of the Gemma-2 weight map]
        fold_norm: bool = true,
        /// The norm to which each direction is scaled before the gain: `"sqrt_d"` (√d_model, that of a normed residual), a
        /// number, `"typical"` (√d_model × the feature's mean share), `"none"`, or `#{query, key}` of these. Post-softmax
        /// results depend on it. [CODE of the Gemma-2 weight map] for `"sqrt_d"`, the others [INFER]
        temperature: Temperature = Temperature { query: Scaling::SqrtD, key: Scaling::SqrtD },
        /// Apply the model's softcap to the scores, where it has one. [FIELD]
        softcap: bool = true,
        /// Query and key norms, where the model has them: `"linear"`: the gain and one scalar a head and side; `"each"`:
        /// every head vector alone, so that `temperature` has no effect; `"none"`. [INFER]
        qk_norm: QkNorm = QkNorm::default(),
        /// Positions from key to query, one or several (a range, an array); 0 is content only, every rotary plane in phase.
        /// [INFER]
        distance: Distances = Distances(vec![0]),
        /// Average the scores of several distances before the statistics; otherwise tables get a `distance` column. [INFER]
        average: bool = true,
        /// Quantiles of each row and column, one column each (`median`, `p75`, `p95`). Mean, median and P75 are the paper's [3RD]
        quantiles: Vec<f64> = vec![0.5, 0.75],
        /// Statistics and pairs by |score|; the softmax stays signed. By default true where a dictionary is signed. [INFER]
        absolute: Option<bool> = None,
        /// Adds `base_score`: each key's score with the constant query, each query's with the constant key. The constant is
        /// made of the biases (`"bias"`), of them and b_dec (`"b_dec"`), or of them and a mean residual `[d_model]`. [INFER]
        base: Base = Base::None,
        /// `"random"`: Gaussian W_Q and W_K with the norms of the real ones, drawn by `seed`: what the directions alone give. [INFER]
        weights: HeadWeights = HeadWeights::default(),
        /// Number of highest-scoring pairs kept. [CODE of the Gemma-2 weight map keeps 50]
        top_pairs: usize = 100,
        /// The softmax over keys and its columns. [3RD]: the paper has pre- and post-softmax attention
        softmax: bool = true,
        /// Draw this many keys by `seed`; comparisons between dictionaries of different width need it. [INFER]
        n_keys: Option<usize> = None,
        /// Ids of the query features; all when absent.
        query_features: Option<Ids> = None,
        /// Ids of the key features; all when absent.
        key_features: Option<Ids> = None,
        /// Seed of the key sample and of random weights; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// Distances from key to query, in positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distances(pub Vec<usize>);

impl OptionValue for Distances {
    fn kind() -> String {
        "a whole number from 0, or a range or an array of these".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Range(a, Some(b)) => (*a..*b).map(|v| usize::try_from(v).ok()).collect(),
            Value::Range(_, None) => None,
            other => Vec::read(other),
        }
        .filter(|list: &Vec<usize>| !list.is_empty())
        .map(Distances)
    }
    fn canonical(&self) -> Json {
        json!(self.0)
    }
}

/// The constant query and key beside which features are scored.
#[derive(Clone, Debug)]
pub enum Base {
    /// None: no column is added.
    None,
    /// The biases of the norm, of W_Q and of W_K.
    Bias,
    /// The biases and the dictionary's own b_dec.
    BDec,
    /// The biases and a mean residual, `[d_model]`.
    Residual(Tensor),
}

impl OptionValue for Base {
    fn kind() -> String {
        "\"none\" | \"bias\" | \"b_dec\" | a tensor [d_model]".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => match text.as_str() {
                "none" => Some(Base::None),
                "bias" => Some(Base::Bias),
                "b_dec" => Some(Base::BDec),
                _ => None,
            },
            other => Tensor::read(other).map(Base::Residual),
        }
    }
    fn canonical(&self) -> Json {
        match self {
            Base::None => json!("none"),
            Base::Bias => json!("bias"),
            Base::BDec => json!("b_dec"),
            Base::Residual(mean) => mean.canonical(),
        }
    }
}

/// What [`attention_scores`] found. Copies share.
#[derive(Clone, Debug)]
pub struct AttentionScores {
    /// One row for each query feature (and distance): `feature strength mean std <quantiles> max`, and post-softmax `top1
    /// top5 entropy entropy_deficit` of its row (nats).
    pub query: Side,
    /// One row for each key feature (and distance): `feature strength mean std <quantiles> max`, and post-softmax
    /// `mean_weight mean_weight_rel max_weight` of its column.
    pub key: Side,
    pairs: Table,
    summary: JsonMap<String, Json>,
    scorer: Scorer,
    absolute: bool,
    range: (f64, f64),
    warnings: Vec<String>,
}

impl std::fmt::Display for AttentionScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attention_scores: {} queries × {} keys", self.query.0.len(), self.key.0.len())
    }
}

impl AttentionScores {
    /// The highest-scoring pairs: `query key score`, falling, with `distance` where distances are apart; with `absolute` by
    /// |score|, the score itself signed.
    pub fn pairs(&self) -> Table {
        self.pairs.clone()
    }

    /// Over all pairs with a finite score, n of them: `n mean std <quantiles> min max`; lists, one entry a distance, where
    /// distances are apart.
    pub fn summary(&self) -> JsonMap<String, Json> {
        self.summary.clone()
    }

    /// What a reader should know: a temperature without effect, a dictionary from elsewhere in the model.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Histogram of all scores (of |score| with `absolute`), `bins` bins from the least to the largest.
    ///
    /// # Errors
    /// No bins, or the user's interruption.
    pub fn histogram(&self, bins: usize, work: &Work) -> Result<Histogram> {
        let mut total: Option<Histogram> = None;
        for distances in &self.scorer.groups {
            let product = Product { absolute: self.absolute, ..self.scorer.product(distances, work)? };
            let part = product.histogram(bins, self.range.0, self.range.1, work)?;
            match &mut total {
                Some(total) => total.counts.iter_mut().zip(part.counts).for_each(|(sum, count)| *sum += count),
                None => total = Some(part),
            }
        }
        total.ok_or_else(|| Error::internal("attention scores without a distance"))
    }
}

/// Scores of every query feature with every key feature in one head: `A_ij = q_i · k_j × attn_scale`, softcapped, with
/// `q_i = W_Qᵀ (g ∘ c d_i)`, `k_j = W_Kᵀ (g ∘ c d_j)`, d the write directions, g the gain of the norm before attention and c
/// the temperature (METHODS.md 1.3, experiment 2; 3.5). Never stored: n_query × n_key scores are folded into statistics.
///
/// `strength` = ‖W_Qᵀ (g ∘ c d)‖ or ‖W_Kᵀ (g ∘ c d)‖ before any query or key norm. Layer ℓ is read with the dictionary of
/// the residual that enters it; layer 0 with the token basis.
///
/// # Errors
/// A layer, head, feature or distance out of range; a distance beyond the layer's sliding window; `"typical"` without
/// activation statistics; a `base` that the model or dictionary lacks.
pub fn attention_scores(
    query: &Dictionary,
    key: &Dictionary,
    model: &Model,
    layer: usize,
    head: usize,
    options: &AttentionOptions,
    work: &Work,
) -> Result<AttentionScores> {
    check_quantiles(&options.quantiles)?;
    let absolute = options.absolute.unwrap_or(query.signed() || key.signed());
    let asked = |product: Product| Product {
        absolute,
        shape: false,
        row_quantiles: options.quantiles.clone(),
        col_quantiles: options.quantiles.clone(),
        all_quantiles: options.quantiles.clone(),
        cols: true,
        softmax: options.softmax,
        pairs: options.top_pairs,
        ..product
    };
    let setup = Setup::new(query, key, model, layer, head, options, |product| asked(product).announce(work), work)?;
    let record = setup.provenance("attention_scores", absolute);
    let apart = setup.apart();
    let (mut queries, mut keys, mut pairs, mut summaries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut range = (f64::INFINITY, f64::NEG_INFINITY);
    for distances in &setup.scorer.groups {
        let product = Product { announced: true, ..asked(setup.scorer.product(distances, work)?) };
        let bases = setup.base_scores(distances, &product.b, work)?;
        let outcome = product.run(work)?;
        let distance = apart.then(|| distances[0]);
        queries.push(query_table(&setup, &outcome, distance, bases.as_ref().map(|b| b.0.as_slice()), &record)?);
        keys.push(key_table(&setup, &outcome, distance, bases.as_ref().map(|b| b.1.as_slice()), &record)?);
        let (q, k) = (&setup.queries, &setup.keys);
        let (query_ids, key_ids) = (("query features", |i| q.id(i)), ("key features", |j| k.id(j)));
        note_non_finite("attention_scores", &outcome, query_ids, key_ids, work);
        let table = pair_table(record.clone(), ("query", "key"), &product, &outcome, (|i| q.id(i), |j| k.id(j)), work)?;
        pairs.push(match distance {
            Some(distance) => table.clone().with("distance", vec![distance; table.len()])?,
            None => table,
        });
        summaries.push(summary(&outcome, &product));
        range = (range.0.min(outcome.all.moments.min), range.1.max(outcome.all.moments.max));
    }
    for warning in &setup.warnings {
        work.note(&format!("attention_scores: {warning}"));
    }
    Ok(AttentionScores {
        query: Side(Table::concat(&queries)?),
        key: Side(Table::concat(&keys)?),
        pairs: Table::concat(&pairs)?,
        summary: if apart { by_distance(&setup.scorer.groups, &summaries) } else { summaries.swap_remove(0) },
        scorer: setup.scorer,
        absolute,
        range,
        warnings: setup.warnings,
    })
}

/// The scores themselves, `[n_query, n_key]` f32, of the chosen features in the order given: for small sets.
///
/// # Errors
/// As [`attention_scores`]; more than 2^26 scores; distances that are not averaged.
pub fn attention_matrix(
    query: &Dictionary,
    key: &Dictionary,
    model: &Model,
    layer: usize,
    head: usize,
    options: &AttentionOptions,
    work: &Work,
) -> Result<Tensor> {
    let setup = Setup::new(query, key, model, layer, head, options, |_| Ok(()), work)?;
    if setup.apart() {
        return Err(Error::input("attention_matrix gives one matrix: pass one distance, or average: true"));
    }
    let (n, m) = (setup.queries.positions.len(), setup.keys.positions.len());
    if n.saturating_mul(m) > 1 << 26 {
        return Err(Error::limit(format!("{n} × {m} scores are too many for one matrix"))
            .help("choose features by `query_features` and `key_features`; attention_scores never stores the scores"));
    }
    setup.scorer.product(&setup.scorer.groups[0], work)?.matrix(work)
}

/// The head vectors behind the scores: queries times the attention scale and keys, `[n_query, d_head]` and `[n_key, d_head]`
/// f32, so that `queries @ keysᵀ` are the scores before any softcap.
///
/// # Errors
/// As [`attention_scores`]; distances that are not averaged.
pub fn attention_vectors(
    query: &Dictionary,
    key: &Dictionary,
    model: &Model,
    layer: usize,
    head: usize,
    options: &AttentionOptions,
    work: &Work,
) -> Result<(Tensor, Tensor)> {
    let setup = Setup::new(query, key, model, layer, head, options, |_| Ok(()), work)?;
    if setup.apart() {
        return Err(Error::input("attention_vectors gives one key for each feature: pass one distance, or average: true"));
    }
    let Scorer { mut queries, keys, rope, groups, factor, .. } = setup.scorer;
    each_row(queries.make_mut_f32(), model.cfg().d_head, work, |_, row| row.iter_mut().for_each(|v| *v *= factor))?;
    Ok((queries, rotated_back(&keys, rope.as_ref(), &groups[0], work)?))
}

/// One side of the scores, but for its head vectors.
struct HeadSide<'a> {
    dictionary: &'a Dictionary,
    positions: Vec<usize>,
    /// Lengths of the head vectors before the query or key norm.
    strengths: Vec<f64>,
    /// The constant vector, after the norm.
    base: Option<Vec<f32>>,
}

impl HeadSide<'_> {
    fn id(&self, i: usize) -> usize {
        self.dictionary.id_of(self.positions[i])
    }
}

/// The head vectors of both sides and what makes scores of them. Copies share the vectors.
#[derive(Clone, Debug)]
struct Scorer {
    /// `[n_query, d_head]`, after the query norm.
    queries: Tensor,
    /// `[n_key, d_head]`, after the key norm; where there is one product of one operand, turned already.
    keys: Tensor,
    /// Absent where keys need no turning (any more): content-only scores work under any rotary scaling.
    rope: Option<Rope>,
    /// Distances that are averaged together, one product each.
    groups: Vec<Vec<usize>>,
    factor: f32,
    softcap: Option<f32>,
    label: String,
}

impl Scorer {
    /// The product of the queries with keys at these distances.
    fn product(&self, distances: &[usize], work: &Work) -> Result<Product> {
        Ok(self.scores(self.queries.clone(), self.operands(&self.keys, distances, work)?))
    }

    fn scores(&self, queries: Tensor, keys: Vec<Tensor>) -> Product {
        Product { factor: self.factor, softcap: self.softcap, label: self.label.clone(), ..Product::averaged(queries, keys) }
    }

    /// Distances whose mean is a mean of keys: all where nothing bends the scores; under a softcap each is an operand of its own.
    fn operands_of<'d>(&self, distances: &'d [usize]) -> std::slice::Chunks<'d, usize> {
        distances.chunks(if self.softcap.is_some() { 1 } else { distances.len().max(1) })
    }

    /// The right operands `[d_head, n]`: keys rotated back by the distances.
    fn operands(&self, keys: &Tensor, distances: &[usize], work: &Work) -> Result<Vec<Tensor>> {
        self.operands_of(distances).map(|group| Ok(rotated_back(keys, self.rope.as_ref(), group, work)?.t())).collect()
    }
}

/// Everything between the arguments and the product.
struct Setup<'a> {
    model: &'a Model,
    layer: usize,
    head: usize,
    options: &'a AttentionOptions,
    queries: HeadSide<'a>,
    keys: HeadSide<'a>,
    scorer: Scorer,
    /// 1/RMS of both sides under the linear query and key norm.
    qk_scalars: Option<(f64, f64)>,
    seed: u64,
    warnings: Vec<String>,
}

impl<'a> Setup<'a> {
    /// `announce` is given a product of the sizes of those to come before anything large is made.
    #[allow(clippy::too_many_arguments)]
    fn new(
        query: &'a Dictionary,
        key: &'a Dictionary,
        model: &'a Model,
        layer: usize,
        head: usize,
        options: &'a AttentionOptions,
        announce: impl FnOnce(Product) -> Result<()>,
        work: &Work,
    ) -> Result<Self> {
        model.check_layer(layer)?;
        model.check_head(head)?;
        let cfg = model.cfg();
        let norm = InputNorm::of_attention(model, layer, options.fold_norm)?;
        let qk_norm = if cfg.qk_norm { options.qk_norm } else { QkNorm::None };
        let mut warnings = Vec::new();
        if qk_norm == QkNorm::Each {
            warnings.push("qk_norm \"each\" normalises every head vector alone: `temperature` has no effect".to_string());
        }
        for (dictionary, side) in [(query, "query"), (key, "key")] {
            if let Some(warning) = misplaced(dictionary, model, layer) {
                warnings.push(format!("the {side} dictionary {warning}"));
            }
        }
        if let Some(window) = model.window(layer)?
            && let Some(distance) = options.distance.0.iter().find(|d| **d >= window)
        {
            return Err(Error::input(format!(
                "distance {distance} lies beyond the sliding window of layer {layer}, {window} tokens"
            ))
            .help(format!("distances up to {} are seen there", window.saturating_sub(1))));
        }
        let seed = options.seed.unwrap_or(work.seed());
        let query_positions = query.positions(&options.query_features)?;
        let key_positions = sample(key.positions(&options.key_features)?, options.n_keys, seed);
        let distances = options.distance.0.clone();
        let mut rope = if distances == [0] { None } else { Some(model.rope(layer)?) };
        let softcap = cfg.attn_softcap.filter(|_| options.softcap).map(|c| c as f32);
        let label = format!("attention {layer}.{head}");
        // Keys of one operand are turned where they are, others for each operand.
        let operands = if softcap.is_some() && options.average { distances.len() } else { 1 };
        let alone = operands == 1 && (options.average || distances.len() == 1);
        let turned = if rope.is_none() || alone { 0 } else { operands };
        let bytes = |n: usize| HeadVectors::bytes(n, cfg.d_head);
        let (n, m) = (query_positions.len(), key_positions.len());
        let place = VectorPlace::new(&label, bytes(n).saturating_add(bytes(m).saturating_mul(1 + turned)), work)?;
        let blank = |n: usize| Tensor::scalar(0.0).broadcast_to(&[n, cfg.d_head]);
        announce(Product {
            softcap,
            label: if options.average { label.clone() } else { format!("{label}, each distance") },
            held: place.held,
            ..Product::averaged(blank(n)?, vec![blank(m)?.t(); operands])
        })?;
        let turn = rope.take_if(|_| alone).map(|rope| Turn::back(&rope, &distances));

        let side = |dictionary: &'a Dictionary, w: Tensor, scaling, gain: &str, turn: Option<&Turn>, positions: Vec<usize>| {
            // The scalar of the linear norm is one over the whole dictionary.
            let whole = qk_norm == QkNorm::Linear;
            let part = Part::new(dictionary.write(model, work)?, positions.clone(), whole);
            let HeadVectors { mut values, lengths, mean_square } = norm.read((&part, &w), scaling, dictionary, &place, work)?;
            let mut base = constant_vector(&options.base, dictionary, &norm, scaling, &w, model)?;
            let scalar = whole.then(|| if mean_square > 0.0 { mean_square.sqrt().recip() } else { 0.0 });
            let gain = match qk_norm {
                QkNorm::None => None,
                _ => model.find_gain(&format!("blocks.{layer}.attn.{gain}"))?.map(|g| g.to_f32()),
            };
            let finish = |vector: &mut [f32]| {
                if qk_norm != QkNorm::None {
                    head_norm(vector, scalar, gain.as_deref(), cfg.eps);
                }
                if let Some(turn) = turn {
                    turn.apply(vector);
                }
            };
            if qk_norm != QkNorm::None || turn.is_some() {
                each_vector(&mut values, work, finish)?;
                base.iter_mut().for_each(|base| finish(base));
            }
            Ok::<_, Error>((HeadSide { dictionary, positions, strengths: lengths, base }, values.finish()?, scalar))
        };
        let weight = |w: Tensor, stream: usize| match options.weights {
            HeadWeights::Real => Ok(w),
            HeadWeights::Random => like(&w, seed, stream as u64),
        };
        // Heads that share their keys share their random W_K.
        let key_head = head * cfg.n_kv_heads / cfg.n_heads.max(1);
        let w_q = weight(model.w_q(layer, head)?, 2 * (layer * cfg.n_heads + head))?;
        let w_k = weight(model.w_k(layer, head)?, 2 * (layer * cfg.n_heads + key_head) + 1)?;
        let Temperature { query: of_query, key: of_key } = options.temperature;
        let (queries, query_vectors, query_scalar) = side(query, w_q, of_query, "q_norm", None, query_positions)?;
        let (keys, key_vectors, key_scalar) = side(key, w_k, of_key, "k_norm", turn.as_ref(), key_positions)?;
        let scorer = Scorer {
            queries: query_vectors,
            keys: key_vectors,
            rope,
            groups: if options.average { vec![distances] } else { distances.into_iter().map(|d| vec![d]).collect() },
            factor: cfg.attn_scale_of(layer) as f32,
            softcap,
            label,
        };
        let qk_scalars = query_scalar.zip(key_scalar);
        Ok(Setup { model, layer, head, options, queries, keys, scorer, qk_scalars, seed, warnings })
    }

    /// Distances have tables of their own.
    fn apart(&self) -> bool {
        !self.options.average
    }

    /// `base_score` of the chosen queries and keys, in this order; `keys` are the operands of these distances.
    fn base_scores(&self, distances: &[usize], keys: &[Tensor], work: &Work) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
        let (Some(query), Some(key)) = (&self.queries.base, &self.keys.base) else { return Ok(None) };
        let scorer = &self.scorer;
        let constant = |vector: &Vec<f32>| Tensor::from_f32(vector.clone(), &[1, vector.len()]);
        let of_keys = scorer.scores(constant(query)?, keys.to_vec()).matrix(work)?.to_f64();
        let keys = scorer.operands(&constant(key)?, distances, work)?;
        let of_queries = scorer.scores(scorer.queries.clone(), keys).matrix(work)?.to_f64();
        Ok(Some((of_queries, of_keys)))
    }

    fn provenance(&self, call: &str, absolute: bool) -> Provenance {
        let dictionaries = [("query_dictionary", self.queries.dictionary), ("key_dictionary", self.keys.dictionary)];
        let mut record = provenance(call, self.model, &dictionaries, self.options.canonical())
            .with("layer", self.layer)
            .with("head", self.head)
            .with("absolute", absolute);
        if let Some((query, key)) = self.qk_scalars {
            record = record.with("qk_scalars", json!([query, key]));
        }
        if self.options.n_keys.is_some() || self.options.weights == HeadWeights::Random {
            record = record.with("seed", self.seed);
        }
        if self.layer == 0 {
            record = record.with("basis", "layer 0 reads the token embedding itself");
        }
        if !self.warnings.is_empty() {
            record = record.with("warnings", self.warnings.clone());
        }
        record
    }
}

/// Says what is odd about reading `layer` with this dictionary: directions that are written after the layer has read, or
/// layer 0 with anything but what enters it.
fn misplaced(dictionary: &Dictionary, model: &Model, layer: usize) -> Option<String> {
    let hook = dictionary.hook();
    (!dictionary.written_before_attention(layer, model)).then(|| format!("({hook}) is written after layer {layer} has read"))
}

/// The head vector of the constant part of the residual: `Wᵀ (g ∘ P c r)` for the residual r, scaled as directions are.
fn constant_vector(
    base: &Base,
    dictionary: &Dictionary,
    norm: &InputNorm,
    scaling: Scaling,
    w: &Tensor,
    model: &Model,
) -> Result<Option<Vec<f32>>> {
    let d = model.cfg().d_model;
    let residual = match base {
        Base::None => return Ok(None),
        Base::Bias => {
            return Err(Error::input(format!("base \"bias\": {} has no LayerNorm bias, b_Q or b_K", model.name()))
                .help("use \"b_dec\" or a mean residual [d_model]"));
        }
        Base::BDec => dictionary.residual_bias(model)?.ok_or_else(|| {
            Error::input(format!("base \"b_dec\": {} has no decoder bias in the residual stream", dictionary.name()))
                .help("pass a mean residual [d_model] instead")
        })?,
        Base::Residual(mean) => mean.clone(),
    };
    if residual.shape() != [d] {
        return Err(Error::shape(format!("option `base` must have shape [{d}], not {:?}", residual.shape())));
    }
    let residual = residual.to_f64();
    let mean = if norm.centers() { residual.iter().sum::<f64>() / d as f64 } else { 0.0 };
    let length = residual.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
    let factor = match scaling {
        Scaling::None => 1.0,
        _ if length == 0.0 => 0.0,
        // A constant has no share of its own: it is the residual when nothing else is.
        Scaling::SqrtD | Scaling::Typical => (d as f64).sqrt() / length,
        Scaling::Norm(norm) => norm / length,
    };
    let folded = norm.fold(w)?;
    let (_, k) = folded.matrix_shape("a head's weight")?;
    let mut out = vec![0f64; k];
    for (row, value) in folded.f32_cow().chunks_exact(k.max(1)).zip(&residual) {
        out.iter_mut().zip(row).for_each(|(sum, w)| *sum += factor * value * f64::from(*w));
    }
    Ok(Some(out.into_iter().map(|v| v as f32).collect()))
}

/// Applies the query or key norm to a head vector: its own, or the scalar of the linear form.
fn head_norm(vector: &mut [f32], scalar: Option<f64>, gain: Option<&[f32]>, eps: f64) {
    let own = |vector: &[f32]| {
        let squares: f64 = vector.iter().map(|v| f64::from(*v).powi(2)).sum();
        (squares / vector.len() as f64 + eps).sqrt().recip()
    };
    let factor = scalar.unwrap_or_else(|| own(vector));
    for (i, value) in vector.iter_mut().enumerate() {
        *value = (f64::from(*value) * factor * gain.map_or(1.0, |g| f64::from(g[i]))) as f32;
    }
}

/// The mean of rotations by several distances: of each plane one matrix `[[c, s], [−s, c]]` with the mean cosine and sine.
struct Turn {
    /// Dimensions between those of a plane.
    half: usize,
    planes: Vec<(f64, f64)>,
}

impl Turn {
    /// Makes keys what a query sees these numbers of positions later: q · R(−Δ) k (FORMATS.md 3.2).
    fn back(rope: &Rope, distances: &[usize]) -> Self {
        let mean = |f: fn(f64) -> f64, frequency: f64| {
            distances.iter().map(|d| f(*d as f64 * frequency)).sum::<f64>() / distances.len() as f64
        };
        let planes = rope.inverse_frequencies.iter().map(|f| (mean(f64::cos, *f), mean(f64::sin, *f))).collect();
        Turn { half: rope.rotary_dims / 2, planes }
    }

    fn apply(&self, key: &mut [f32]) {
        for (i, (cos, sin)) in self.planes.iter().enumerate() {
            let (x, y) = (f64::from(key[i]), f64::from(key[i + self.half]));
            key[i] = (x * cos + y * sin) as f32;
            key[i + self.half] = (y * cos - x * sin) as f32;
        }
    }
}

/// Keys rotated back by the distances, averaged.
fn rotated_back(keys: &Tensor, rope: Option<&Rope>, distances: &[usize], work: &Work) -> Result<Tensor> {
    let Some(rope) = rope else { return Ok(keys.clone()) };
    let turn = Turn::back(rope, distances);
    let (n, d_head) = keys.matrix_shape("the keys")?;
    let mut out = Draft::zeros([n, d_head], keys.is_mapped(), work)?;
    for rows in blocks(0..n, HeadVectors::BLOCK) {
        let given = keys.narrow(0, rows.clone())?;
        let given = given.f32_cow();
        each_row(out.rows(rows.clone()), d_head, work, |i, row| {
            row.copy_from_slice(&given[i * d_head..][..d_head]);
            turn.apply(row);
        })?;
        out.release();
        keys.release_rows(rows);
    }
    out.finish()
}

/// A Gaussian matrix of the shape and Frobenius norm of `w`.
fn like(w: &Tensor, seed: u64, stream: u64) -> Result<Tensor> {
    let length = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut values = crate::random::Random::stream(seed, stream).normals(w.numel());
    let factor = length(&w.to_f32()) / length(&values);
    values.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
    Tensor::from_f32(values, w.shape())
}

/// `n` of the positions, drawn without replacement, in their order.
fn sample(positions: Vec<usize>, n: Option<usize>, seed: u64) -> Vec<usize> {
    match n {
        Some(n) => Random::new(seed, 0).choose(positions.len(), n).into_iter().map(|i| positions[i]).collect(),
        None => positions,
    }
}

fn side_table(side: &HeadSide, distance: Option<usize>, record: &Provenance) -> Result<Table> {
    let table = Table::new(record.clone());
    let table = match distance {
        Some(distance) => table.with("distance", vec![distance; side.positions.len()])?,
        None => table,
    };
    let table = table.with("feature", ids(side.dictionary, &side.positions))?;
    with_labels(table, side.dictionary, &side.positions)?.with("strength", side.strengths.clone())
}

fn query_table(
    setup: &Setup,
    outcome: &Outcome,
    distance: Option<usize>,
    base: Option<&[f64]>,
    record: &Provenance,
) -> Result<Table> {
    let rows = &outcome.rows;
    let table = side_table(&setup.queries, distance, record)?
        .with("mean", moment_column(rows.iter().map(|r| &r.moments), |m| m.mean))?
        .with("std", moment_column(rows.iter().map(|r| &r.moments), |m| m.std))?;
    let values: Vec<&[f64]> = rows.iter().map(|r| r.quantiles.as_slice()).collect();
    let table = with_quantiles(table, &setup.options.quantiles, &values)?
        .with("max", moment_column(rows.iter().map(|r| &r.moments), |m| m.max))?;
    let mut table = concentration_columns(table, rows)?;
    if setup.options.softmax {
        // Keys without a finite score get no weight: uniform attention is over the others.
        let deficit = |r: &RowStats| (r.moments.n as f64).ln() - r.softmax.map_or(f64::NAN, |s| s.entropy);
        let deficit = rows.iter().map(deficit).collect::<Vec<f64>>();
        table = table.with("entropy_deficit", deficit)?;
    }
    with_base(table, base)
}

fn key_table(
    setup: &Setup,
    outcome: &Outcome,
    distance: Option<usize>,
    base: Option<&[f64]>,
    record: &Provenance,
) -> Result<Table> {
    let cols = &outcome.cols;
    let table = side_table(&setup.keys, distance, record)?
        .with("mean", moment_column(cols.iter().map(|c| &c.moments), |m| m.mean))?
        .with("std", moment_column(cols.iter().map(|c| &c.moments), |m| m.std))?;
    let mut table = with_quantiles(table, &setup.options.quantiles, &col_quantiles(cols))?
        .with("max", moment_column(cols.iter().map(|c| &c.moments), |m| m.max))?;
    if setup.options.softmax {
        let weighed = cols.iter().filter(|c| c.moments.n > 0).count() as f64;
        let weights: Vec<(f64, f64)> =
            cols.iter().map(|c| c.softmax.map_or((f64::NAN, f64::NAN), |s| (s.mean_weight, s.max_weight))).collect();
        table = table
            .with("mean_weight", weights.iter().map(|w| w.0).collect::<Vec<f64>>())?
            .with("mean_weight_rel", weights.iter().map(|w| w.0 * weighed).collect::<Vec<f64>>())?
            .with("max_weight", weights.iter().map(|w| w.1).collect::<Vec<f64>>())?;
    }
    with_base(table, base)
}

fn with_base(table: Table, base: Option<&[f64]>) -> Result<Table> {
    match base {
        Some(base) => table.with("base_score", base.to_vec()),
        None => Ok(table),
    }
}

/// The summaries of distances side by side: each value a list, beside the list of distances.
fn by_distance(groups: &[Vec<usize>], summaries: &[JsonMap<String, Json>]) -> JsonMap<String, Json> {
    let mut out = JsonMap::new();
    out.insert("distance".into(), json!(groups.iter().flatten().collect::<Vec<_>>()));
    for name in summaries.first().into_iter().flat_map(|s| s.keys()) {
        out.insert(name.clone(), summaries.iter().map(|s| s[name].clone()).collect());
    }
    out
}
