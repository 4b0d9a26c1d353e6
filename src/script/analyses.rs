//! The analyses: what `analysis` computes, as scripts call it.

use crate::analysis::{
    self, AttentionOptions, AttentionScores, AttributionOptions, ClosedOptions, CompareOptions, CopyingOptions,
    EnrichmentOptions, MatchOptions, OriginOptions, Origins, OvOptions, OvScores, OvWriteOptions, ProductOptions, ProductStats,
    Semantics, SemanticsOptions, Side, TokenOptions, TokenScores, TokenSets, ValidateOptions,
};
use crate::compute::product::Histogram;
use crate::dictionary::Dictionary;
use crate::entry;
use crate::error::{Error, Result};
use crate::model::{EncodeOptions, Model};
use crate::options::{Ids, OptionMap, OptionValue, Options, Value};
use crate::script::convert::{IntoScript, describe, numbers};
use crate::script::declare::Entry;
use crate::stats;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::training::read_texts;
use rhai::{Dynamic, Map};
use serde_json::{Value as Json, json};

crate::native!(
    ProductStats, "ProductStats";
    Side, "Side";
    TokenScores, "TokenScores";
    Semantics, "Semantics";
    AttentionScores, "AttentionScores";
    OvScores, "OvScores";
);

impl IntoScript for Histogram {
    fn into_script(self) -> Dynamic {
        let counts = Tensor::vector_i64(self.counts.iter().map(|c| *c as i64).collect());
        Dynamic::from_map(Map::from([
            ("counts".into(), counts.into_script()),
            ("edges".into(), Tensor::vector_f64(self.edges).into_script()),
        ]))
    }
}

/// Lists of tokens as arrays of `#{id, token, score}`.
impl IntoScript for analysis::TokenScore {
    fn into_script(self) -> Dynamic {
        Dynamic::from_map(Map::from([
            ("id".into(), Dynamic::from(self.id as i64)),
            ("token".into(), self.token.into()),
            ("score".into(), self.score.into()),
        ]))
    }
}

pub(super) fn entries() -> Vec<Entry> {
    [product(), tokens(), semantics(), attention(), values(), populations(), flow(), shown()].concat()
}

/// How results are written by `print`.
fn shown() -> Vec<Entry> {
    [
        crate::shown!(ProductStats, "product_stats(randn([4, 3]), randn([3, 5]))"),
        crate::shown!(TokenScores, "unembed(mlp_neurons(load_model(\"demo\"), 0), load_model(\"demo\"))"),
        crate::shown!(Semantics, "semantics(unembed(mlp_neurons(load_model(\"demo\"), 0), load_model(\"demo\")), load_model(\"demo\"), #{ n_null: 64, fpr: 0.2 })"),
        crate::shown!(AttentionScores, "attention_scores(mlp_neurons(load_model(\"demo\"), 0), mlp_neurons(load_model(\"demo\"), 0), load_model(\"demo\"), 1, 0)"),
        crate::shown!(OvScores, "ov_scores(mlp_neurons(load_model(\"demo\"), 0), mlp_neurons(load_model(\"demo\"), 2), load_model(\"demo\"), 1, 0)"),
    ]
    .concat()
}

fn product() -> Vec<Entry> {
    vec![
        entry! {
            /// Mean and standard deviation of each row of the product `(row_gain ∘ a) @ b`, `a [n, d]`, `b [d, m]`, in closed form, from the
            /// mean and covariance of b's columns: no score is made, so a whole dictionary against the vocabulary costs what one of its
            /// d × d matrices costs. Of fewer than d / 4 rows the deviations are streamed, which is less. `product_stats` gives the same numbers
            /// up to the rounding of its scores to 32 bits: where the columns have in common what is 1000 times as large as their differences,
            /// 1e-4 of the standard deviation and more. Columns that hold NaN or infinities are left out. A table `row mean std`. Errors:
            /// shapes that do not fit, no finite column.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let quick = product_moments(model.W_out(1), model.W_U, #{ row_gain: model.gain("ln_final") });
            /// let whole = product_stats(model.W_out(1), model.W_U, #{ row_gain: model.gain("ln_final") }).rows.table();
            /// assert(quick["std"].allclose(whole["std"], #{ rtol: 0.001 }));
            /// ```
            fn product_moments(call, a: Tensor, b: Tensor; options: ClosedOptions) -> Table {
                analysis::product_moments(&a, &b, &options, call.work())
            }
        },
        entry! {
            /// The singular values of the product `(row_gain ∘ a) @ b`, falling, from the d × d Gram matrices of both sides: of all
            /// pairs of features in a head, say, by `attention_vectors`, without one score being made. The sum of their squares is ‖product‖².
            /// Errors: shapes that do not fit, a row or column that holds NaN or infinities.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let vectors = attention_vectors(mlp_neurons(model, 0), mlp_neurons(model, 0), model, 1, 0);
            /// assert(product_spectrum(vectors.query, vectors.key.T).len == model.cfg.d_head);
            /// ```
            fn product_spectrum(call, a: Tensor, b: Tensor; options: ClosedOptions) -> Tensor {
                analysis::product_spectrum(&a, &b, &options, call.work())
            }
        },
        entry! {
            /// The open core of every analysis: statistics of the product `(row_gain ∘ a) @ b` for `a [n, d]` and `b [d, m]`,
            /// which may be mapped weights. The product itself is never stored: moments, quantiles, top and bottom lists, the
            /// softmax and the highest pairs are taken tile by tile, on all cores.
            ///
            /// Gives `.rows.table()`, `.cols.table()`, `.pairs()`, `.summary()`, `.histogram(bins)`.
            /// Errors: shapes that do not fit, a quantile outside 0..1, an unknown option.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let stats = product_stats(model.W_out(1), model.W_U, #{ row_gain: model.gain("ln_final"), k: 3, quantiles: [0.95] });
            /// assert(stats.rows.table().columns.contains("p95"));
            /// assert(stats.rows.table()["top_ids"][0].len() == 3);
            /// ```
            fn product_stats(call, a: Tensor, b: Tensor; options: ProductOptions) -> ProductStats {
                analysis::product_stats(&a, &b, &options, call.work())
            }
        },
        entry! {
            /// Statistics of each row.
            ///
            /// ```rhai
            /// let stats = product_stats(randn([4, 3]), randn([3, 5]));
            /// assert(stats.rows.table().len == 4);
            /// ```
            get rows(call, stats: ProductStats) -> Side { Ok(stats.rows.clone()) }
        },
        entry! {
            /// Statistics of each column. Errors: the option `cols` was false.
            ///
            /// ```rhai
            /// let stats = product_stats(randn([4, 3]), randn([3, 5]));
            /// assert(stats.cols.table().len == 5);
            /// ```
            get cols(call, stats: ProductStats) -> Side { stats.cols() }
        },
        entry! {
            /// The highest pairs, falling: `row col score`; as many as the option `pairs` asked for.
            ///
            /// ```rhai
            /// let stats = product_stats(randn([4, 3]), randn([3, 5]), #{ pairs: 2 });
            /// assert(stats.pairs().len == 2);
            /// ```
            method pairs(call, stats: ProductStats) -> Table { Ok(stats.pairs()) }
        },
        entry! {
            /// Over all finite scores, n of them: `n mean std` quantiles `min max`. With `exact: false` each quantile has its `_error`, and
            /// without `cols` one pass over the product is all that is made.
            ///
            /// ```rhai
            /// let a = randn([400, 3]);
            /// let b = randn([3, 500]);
            /// let exact = product_stats(a, b).summary();
            /// let quick = product_stats(a, b, #{ cols: false, exact: false }).summary();
            /// assert(exact.n == 200000 && abs(quick.median - exact.median) <= quick.median_error);
            /// ```
            method summary(call, stats: ProductStats) -> Json { Ok(Json::Object(stats.summary())) }
        },
        entry! {
            /// Histogram of all scores: `#{counts, edges}`, `bins` of equal width from the least to the largest.
            ///
            /// ```rhai
            /// let h = product_stats(randn([4, 3]), randn([3, 5])).histogram(6);
            /// assert(h.counts.sum() == 20 && h.edges.len == 7);
            /// ```
            method histogram(call, stats: ProductStats, bins: usize) -> Histogram { stats.histogram(bins, call.work()) }
        },
        entry! {
            /// The statistics of one side as a table.
            ///
            /// ```rhai
            /// assert(product_stats(randn([4, 3]), randn([3, 5])).cols.table().len == 5);
            /// ```
            method table(call, side: Side) -> Table { Ok(side.table()) }
        },
    ]
}

fn tokens() -> Vec<Entry> {
    vec![
        entry! {
            /// Decoder–unembedding: which tokens each feature's write direction promotes. Scores are
            /// `W_Uᵀ (g_final ∘ P d)`, d `[d_model]`, before any softcap, bias terms left out; P centres for LayerNorm
            /// models and is the identity for RMSNorm (the logit lens).
            ///
            /// Gives `TokenScores`: `.table()` with columns `feature mean std skewness kurtosis min max top_ids top_tokens
            /// top_scores bottom_ids bottom_tokens bottom_scores` (moments over the whole vocabulary; kurtosis 3 for a normal),
            /// `.top(feature)`, `.bottom(feature)`, `.scores(feature)`, `.histogram(feature, bins)`.
            /// Errors: a feature that the dictionary does not have, a dictionary that does not fit the model.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let scores = unembed(mlp_neurons(model, 1), model, #{ k: 5, features: 0..8 });
            /// assert(scores.table().len == 8);
            /// assert(scores.top(3).len() == 5);
            /// ```
            fn unembed(call, dict: Dictionary, model: Model; options: TokenOptions) -> TokenScores {
                analysis::unembed(&dict, &model, &options, call.work())
            }
        },
        entry! {
            /// `unembed` of several dictionaries, such as those of all layers: an array with one result for each. The vocabulary is read
            /// once for all of them, which counts where each has few features.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let all = unembed_all([0, 1, 2].map(|layer| mlp_neurons(model, layer)), model, #{ features: 0..4 });
            /// assert(all.len() == 3 && all[2].top(1)[0].id == unembed(mlp_neurons(model, 2), model).top(1)[0].id);
            /// ```
            fn unembed_all(call, dicts: Vec<Dictionary>, model: Model; options: TokenOptions) -> Vec<TokenScores> {
                analysis::token_scores_of(analysis::Phase::Unembed, &dicts, &model, &options, call.work())
            }
        },
        entry! {
            /// Encoder–embedding: which tokens each feature's read direction picks up. Scores are `W_E e`, W_E as stored,
            /// e `[d_model]` the read direction with the norm gain. A weak detector of what a feature fires on above the first
            /// layers: read it beside its null.
            ///
            /// Gives the same as `unembed`. Errors: also a dictionary without read directions (one on mlp_out or attn_out).
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let scores = embed(mlp_neurons(model, 0), model, #{ features: [2, 5] });
            /// assert(scores.table()["feature"].to_array() == [2, 5]);
            /// ```
            fn embed(call, dict: Dictionary, model: Model; options: TokenOptions) -> TokenScores {
                analysis::embed(&dict, &model, &options, call.work())
            }
        },
        entry! {
            /// `embed` of several dictionaries in one pass over the vocabulary: an array with one result for each.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(embed_all([mlp_neurons(model, 0), mlp_neurons(model, 1)], model, #{ features: 0..4 }).len() == 2);
            /// ```
            fn embed_all(call, dicts: Vec<Dictionary>, model: Model; options: TokenOptions) -> Vec<TokenScores> {
                analysis::token_scores_of(analysis::Phase::Embed, &dicts, &model, &options, call.work())
            }
        },
        entry! {
            /// One row for each feature; the columns stand in `?unembed`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let table = unembed(mlp_neurons(model, 0), model, #{ features: 0..3 }).table();
            /// assert(table.columns.contains("kurtosis"));
            /// ```
            method table(call, scores: TokenScores) -> Table { scores.table() }
        },
        entry! {
            /// The tokens with the highest scores of one feature (an id), falling: an array of `#{id, token, score}`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let top = unembed(mlp_neurons(model, 0), model, #{ features: [7] }).top(7);
            /// assert(top[0].score >= top[1].score);
            /// ```
            method top(call, scores: TokenScores, feature: usize) -> Vec<analysis::TokenScore> { scores.top(feature) }
        },
        entry! {
            /// The tokens with the lowest scores of one feature (an id), rising: an array of `#{id, token, score}`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let bottom = unembed(mlp_neurons(model, 0), model, #{ features: [7] }).bottom(7);
            /// assert(bottom[0].score <= bottom[1].score);
            /// ```
            method bottom(call, scores: TokenScores, feature: usize) -> Vec<analysis::TokenScore> { scores.bottom(feature) }
        },
        entry! {
            /// All scores of one feature (an id), `[d_vocab]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(unembed(mlp_neurons(model, 0), model, #{ features: [7] }).scores(7).len == model.cfg.d_vocab);
            /// ```
            method scores(call, scores: TokenScores, feature: usize) -> Tensor { scores.scores(feature, call.work()) }
        },
        entry! {
            /// Histogram of one feature's scores over the whole vocabulary: `#{counts, edges}`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let h = unembed(mlp_neurons(model, 0), model, #{ features: [7] }).histogram(7, 20);
            /// assert(h.counts.sum() == model.cfg.d_vocab);
            /// ```
            method histogram(call, scores: TokenScores, feature: usize, bins: usize) -> Histogram {
                scores.histogram(feature, bins, call.work())
            }
        },
        entry! {
            /// Which tokens were kept out of the lists: their numbers by reason; empty without `mask_special`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(unembed(mlp_neurons(model, 0), model, #{ mask_special: false }).masked == #{});
            /// ```
            get masked(call, scores: TokenScores) -> Json {
                let counts = scores.special().map(|special| special.counts.iter().map(|(reason, n)| (reason.to_string(), json!(n))).collect());
                Ok(Json::Object(counts.unwrap_or_default()))
            }
        },
    ]
}

fn semantics() -> Vec<Entry> {
    vec![
        entry! {
            /// The built-in sets of a vocabulary's tokens, a map of ids: leading space, capitalised, all capitals, digits, punctuation,
            /// not ASCII, by length and by first letter, and English words of closed classes (pronouns, determiners, …).
            ///
            /// ```rhai
            /// let sets = token_sets(load_model("demo"));
            /// assert(sets["leading space"].len > 100);
            /// ```
            fn token_sets(call, model: Model) -> Map {
                let set = |ids: Vec<usize>| Tensor::vector_i64(ids.into_iter().map(|id| id as i64).collect()).into_script();
                Ok(analysis::token_sets(&model, call.work())?.into_iter().map(|(name, ids)| (name.into(), set(ids))).collect())
            }
        },
        entry! {
            /// Which sets of tokens gather at an end of each feature's ranking of the vocabulary (TSEA, after gene set enrichment
            /// analysis): a table `feature set n es nes p`. `es`: the largest deviation of GSEA's running sum, positive at the top of
            /// the ranking; `nes`: over the mean of random directions; `p`: the share of random directions that reach as far on that side (one-sided). `sets`: a
            /// map of token ids, `()` for `token_sets(model)`. Choose features by the `features` of `unembed`: each costs a sort of the vocabulary.
            ///
            /// Errors: scores of another model, ids outside the vocabulary, no set of at least `least` tokens.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let scores = unembed(mlp_neurons(model, 3), model, #{ features: 0..3 });
            /// let found = enrichment(scores, model, #{ digits: token_sets(model).digits }, #{ n_null: 20 });
            /// assert(found.columns == ["feature", "set", "n", "es", "nes", "p"] && found.len == 3);
            /// ```
            fn enrichment(call, scores: TokenScores, model: Model, sets: Dynamic; options: EnrichmentOptions) -> Table {
                let sets = if sets.is_unit() { analysis::token_sets(&model, call.work())? } else { given_sets(&sets, call.work())? };
                analysis::enrichment(&scores, &model, &sets, &options, call.work())
            }
        },
        entry! {
            /// Which features name a family of tokens: of the k tokens at the top of a list, by their spelling (Levenshtein), their
            /// vectors (cosine) and the concentration of the scores (entropy), against thresholds that random directions set.
            ///
            /// Gives `.mask` (bool, one for each scored feature), `.share`, `.null_share`, `.null_interval`, `.thresholds`, `.table()` with
            /// columns `feature levenshtein cosine entropy list_mass votes semantic`; list_mass is the share of the whole softmax that
            /// lies on the list. The thresholds let a share `fpr` of the null pass the
            /// whole rule; `.null_share` is what passes of a second, independent draw.
            /// Errors: an unknown rule or option; no features.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let scores = unembed(mlp_neurons(model, 1), model);
            /// let found = semantics(scores, model, #{ n_null: 256, fpr: 0.2, seed: 1 });
            /// assert(found.mask.len == scores.table().len);
            /// assert(found.share >= 0.0 && found.null_share <= 1.0);
            /// ```
            fn semantics(call, scores: TokenScores, model: Model; options: SemanticsOptions) -> Semantics {
                analysis::semantics(&scores, &model, &options, call.work())
            }
        },
        entry! {
            /// True for each semantic feature, in the order of the scored features.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.mask.dtype == "bool");
            /// ```
            get mask(call, found: Semantics) -> Tensor { Tensor::from_bool(found.mask().to_vec(), &[found.mask().len()]) }
        },
        entry! {
            /// The share of semantic features.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert((found.mask.to("f64").mean() - found.share).abs() < 1e-9);
            /// ```
            get share(call, found: Semantics) -> f64 { Ok(found.share()) }
        },
        entry! {
            /// The share of random directions that pass the same rule, in a draw that did not set the thresholds.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.null_share < 0.6);
            /// ```
            get null_share(call, found: Semantics) -> f64 { Ok(found.null_share().0) }
        },
        entry! {
            /// The 95 % Wilson interval of `null_share`: `[low, high]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.null_interval[0] <= found.null_share && found.null_share <= found.null_interval[1]);
            /// ```
            get null_interval(call, found: Semantics) -> Vec<f64> {
                let (low, high) = found.null_share().1;
                Ok(vec![low, high])
            }
        },
        entry! {
            /// The same columns (without `feature`) for the random directions of the second draw of the null: to draw beside the features.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.null_table().len == 256);
            /// ```
            method null_table(call, found: Semantics) -> Table { found.null_table() }
        },
        entry! {
            /// The thresholds: `#{alpha, levenshtein, cosine, entropy}`; a list passes below, above and below them. `alpha` is the
            /// quantile of the null, the same for all three, at which the whole rule passes `fpr`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.thresholds.alpha > 0.0);
            /// ```
            get thresholds(call, found: Semantics) -> Json { Ok(found.thresholds().to_json()) }
        },
        entry! {
            /// The share of features under the thresholds of every null, the chosen one first: `null share` and the thresholds.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.nulls[0].share == found.share);
            /// ```
            get nulls(call, found: Semantics) -> Vec<Json> {
                let record = |draw: &analysis::NullShare| {
                    json!({ "null": draw.kind.name(), "share": draw.share, "thresholds": draw.thresholds.to_json() })
                };
                Ok(found.nulls().iter().map(record).collect())
            }
        },
        entry! {
            /// A row for each scored feature: `feature levenshtein cosine entropy list_mass votes semantic`; where both ends were judged
            /// also `levenshtein_bottom cosine_bottom entropy_bottom list_mass_bottom votes_bottom side`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = semantics(unembed(mlp_neurons(model, 1), model), model, #{ n_null: 256, fpr: 0.2 });
            /// assert(found.table().columns.contains("votes"));
            /// ```
            method table(call, found: Semantics) -> Table { found.table() }
        },
    ]
}

fn given_sets(sets: &Dynamic, work: &crate::work::Work) -> Result<TokenSets> {
    let wrong = |what: String| Error::input(format!("enrichment: `sets` is a map of token ids, not {what}"));
    let map = sets.read_lock::<Map>().ok_or_else(|| wrong(describe(sets)))?;
    let whole = |v: &f64| (v.fract() == 0.0 && *v >= 0.0).then_some(*v as usize);
    let set = |(name, ids): (&rhai::Identifier, &Dynamic)| {
        let ids = numbers(ids, &format!("the set `{name}`"), work)?.iter().map(whole).collect::<Option<Vec<usize>>>();
        ids.map(|ids| (name.to_string(), ids)).ok_or_else(|| wrong(format!("numbers like those in `{name}`")))
    };
    map.iter().map(set).collect()
}

fn attention() -> Vec<Entry> {
    vec![
        entry! {
            /// Scores of every query feature with every key feature in one head, folded into statistics: `A_ij = q_i · k_j ×
            /// attn_scale` (softcapped), `q_i = W_Qᵀ (g ∘ c d_i)`, `k_j = W_Kᵀ (g ∘ c d_j)`, d the write directions, c the temperature.
            ///
            /// Gives `.query.table()` and `.key.table()` with columns `feature strength mean std median p75 max` and, after the
            /// softmax, `top1 top5 entropy entropy_deficit` of the query's row and `mean_weight mean_weight_rel max_weight` of the
            /// key's column; `.summary()`, `.pairs()`, `.histogram(bins)`. Layer ℓ is read with the dictionary of the residual
            /// that enters it. Errors: a layer, head, feature or distance out of range, an unknown option.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// let scores = attention_scores(dict, dict, model, 1, 0, #{ quantiles: [0.5, 0.95] });
            /// assert(scores.query.table().columns.contains("p95"));
            /// assert(scores.summary().n == dict.d_sae * dict.d_sae);
            /// ```
            fn attention_scores(call, query_dict: Dictionary, key_dict: Dictionary, model: Model, layer: usize, head: usize; options: AttentionOptions) -> AttentionScores {
                analysis::attention_scores(&query_dict, &key_dict, &model, layer, head, &options, call.work())
            }
        },
        entry! {
            /// The scores themselves, `[n_query, n_key]`, for small sets: choose them by `query_features` and `key_features`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// let a = attention_matrix(dict, dict, model, 1, 0, #{ query_features: 0..3, key_features: 0..5 });
            /// assert(a.shape == [3, 5]);
            /// ```
            fn attention_matrix(call, query_dict: Dictionary, key_dict: Dictionary, model: Model, layer: usize, head: usize; options: AttentionOptions) -> Tensor {
                analysis::attention_matrix(&query_dict, &key_dict, &model, layer, head, &options, call.work())
            }
        },
        entry! {
            /// The head vectors behind the scores, `#{query, key}`, `[n_query, d_head]` and `[n_key, d_head]`: queries carry the attention
            /// scale, so that `query @ key.T` are the scores before any softcap. For measures of one's own, such as the score of each
            /// feature with itself. Options and errors as in `?attention_scores`; one distance, or their mean.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// let vectors = attention_vectors(dict, dict, model, 1, 0, #{ query_features: 0..4, key_features: 0..6 });
            /// let scores = attention_matrix(dict, dict, model, 1, 0, #{ query_features: 0..4, key_features: 0..6 });
            /// assert((vectors.query @ vectors.key.T).allclose(scores, #{ atol: 0.0001 }));
            /// ```
            fn attention_vectors(call, query_dict: Dictionary, key_dict: Dictionary, model: Model, layer: usize, head: usize; options: AttentionOptions) -> Map {
                let (query, key) = call.work().detached(move |work| {
                    analysis::attention_vectors(&query_dict, &key_dict, &model, layer, head, &options, work)
                })?;
                Ok(Map::from([("query".into(), query.into_script()), ("key".into(), key.into_script())]))
            }
        },
        entry! {
            /// Statistics of each query feature's row.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// assert(attention_scores(dict, dict, model, 1, 0).query.table().len == dict.d_sae);
            /// ```
            get query(call, scores: AttentionScores) -> Side { Ok(scores.query.clone()) }
        },
        entry! {
            /// Statistics of each key feature's column.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// assert(attention_scores(dict, dict, model, 1, 0).key.table().columns.contains("mean_weight_rel"));
            /// ```
            get key(call, scores: AttentionScores) -> Side { Ok(scores.key.clone()) }
        },
        entry! {
            /// The pairs with the highest scores, falling: `query key score`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// assert(attention_scores(dict, dict, model, 1, 0, #{ top_pairs: 7 }).pairs().len == 7);
            /// ```
            method pairs(call, scores: AttentionScores) -> Table { Ok(scores.pairs()) }
        },
        entry! {
            /// Over all pairs with a finite score, n of them: `n mean std median p75 min max`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// let all = attention_scores(dict, dict, model, 1, 0, #{ absolute: false }).summary();
            /// assert(all.min <= all.median && all.median <= all.max);
            /// ```
            method summary(call, scores: AttentionScores) -> Json { Ok(Json::Object(scores.summary())) }
        },
        entry! {
            /// Histogram of all scores: `#{counts, edges}`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// assert(attention_scores(dict, dict, model, 1, 0).histogram(30).counts.sum() == dict.d_sae * dict.d_sae);
            /// ```
            method histogram(call, scores: AttentionScores, bins: usize) -> Histogram { scores.histogram(bins, call.work()) }
        },
    ]
}

fn values() -> Vec<Entry> {
    vec![
        entry! {
            /// What one head writes for each feature that it attends to, `[n, d_model]`: `post ∘ W_Oᵀ W_Vᵀ (g ∘ d)`, the gain g of
            /// the norm before attention and the post-attention gain (Gemma) included; directions unscaled unless `temperature` says so.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// assert(ov_write(dict, model, 1, 2).shape == [dict.d_sae, model.cfg.d_model]);
            /// ```
            fn ov_write(call, dict: Dictionary, model: Model, layer: usize, head: usize; options: OvWriteOptions) -> Tensor {
                analysis::ov_write(&dict, &model, layer, head, &options, call.work())
            }
        },
        entry! {
            /// How strongly each target feature reads what a head writes for each source feature: `S_ij = read_j · ov_write_i`, over
            /// both norms by default. No attention scale, softcap, distance or softmax.
            ///
            /// Gives `.source.table()`, `.target.table()`, `.pairs()`, `.summary()`, `.histogram(bins)`.
            /// Errors: a target that reads before this head writes, or that has no read directions.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0, #{ top_pairs: 3 });
            /// assert(found.pairs().columns == ["source", "target", "score"]);
            /// ```
            fn ov_scores(call, source: Dictionary, target: Dictionary, model: Model, layer: usize, head: usize; options: OvOptions) -> OvScores {
                analysis::ov_scores(&source, &target, &model, layer, head, &options, call.work())
            }
        },
        entry! {
            /// Statistics of each source feature's row.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0);
            /// assert(found.source.table().len == model.cfg.d_mlp);
            /// ```
            get source(call, scores: OvScores) -> Side { Ok(scores.source.clone()) }
        },
        entry! {
            /// Statistics of each target feature's column.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let found = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0);
            /// assert(found.target.table().len == model.cfg.d_mlp);
            /// ```
            get target(call, scores: OvScores) -> Side { Ok(scores.target.clone()) }
        },
        entry! {
            /// The pairs with the highest scores, falling: `source target score`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let pairs = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0, #{ top_pairs: 4 }).pairs();
            /// assert(pairs.len == 4);
            /// ```
            method pairs(call, scores: OvScores) -> Table { Ok(scores.pairs()) }
        },
        entry! {
            /// Over all pairs with a finite score, n of them: `n mean std median p75 min max`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let all = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0).summary();
            /// assert(all.max <= 1.0001, "cosines");
            /// ```
            method summary(call, scores: OvScores) -> Json { Ok(Json::Object(scores.summary())) }
        },
        entry! {
            /// Histogram of all scores: `#{counts, edges}`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let h = ov_scores(mlp_neurons(model, 0), mlp_neurons(model, 2), model, 1, 0).histogram(10);
            /// assert(h.edges.len == 11);
            /// ```
            method histogram(call, scores: OvScores, bins: usize) -> Histogram { scores.histogram(bins, call.work()) }
        },
        entry! {
            /// Whether the heads of a layer copy what they attend to: a row for each head, `head mean_cosine mean_gain gain_rel
            /// eig_copying`: mean cosine of what is written with the direction; mean ‖written‖ / ‖direction‖; the same over random
            /// directions'; Σ Re λ / Σ|λ| of the folded OV (`tokens: true`: of W_E·OV·W_U).
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let heads = copying(mlp_neurons(model, 0), model, 1);
            /// assert(heads.len == model.cfg.n_heads);
            /// ```
            fn copying(call, dict: Dictionary, model: Model, layer: usize; options: CopyingOptions) -> Table {
                analysis::copying(&dict, &model, layer, &options, call.work())
            }
        },
    ]
}

fn populations() -> Vec<Entry> {
    vec![trend(), comparison(), validation()]
}

fn validation() -> Entry {
    entry! {
        /// How well scores made of weights predict real attention: per head a row `head pairs spearman r2 row_spearman`, then the same
        /// with `_permuted` (activations dealt to the wrong features) and `_tokens` (the token embeddings in place of the features, the
        /// control to beat). Compared are the head's real scores before the softmax over all causal pairs of positions of `texts` (an
        /// array of texts, a file or a folder) with Σ a_i a_j A_ij of the features that fire there. `spearman` and `r2` are over all
        /// pairs, `row_spearman` the mean within a query's row, which is what a softmax sees. `head`: a number, an array or a range; `()`: all.
        ///
        /// Errors: a layer or head out of range, a dictionary without encoder or written after the layer has read, texts too short.
        ///
        /// ```rhai
        /// let model = load_model("demo");
        /// let sae = load_sae("demo", "saes/blocks.1.hook_resid_post");
        /// let found = validate_attention(sae, model, 2, (), ["The quick brown fox jumps over the lazy dog, as it often does."]);
        /// assert(found.len == model.cfg.n_heads && found.columns.contains("spearman_tokens"));
        /// ```
        fn validate_attention(call, dict: Dictionary, model: Model, layer: usize, head: Value, texts: Value; options: ValidateOptions) -> Table {
            let n_heads = model.cfg().n_heads;
            let heads = match &head {
                Value::Unit => (0..n_heads).collect(),
                Value::Int(head) => Ids::List(vec![*head]).resolve(n_heads, "head")?,
                other => Ids::read(other).ok_or_else(|| wrong_heads(other))?.resolve(n_heads, "head")?,
            };
            call.work().detached(move |work| {
                let (texts, _) = read_texts(&texts)?;
                let encode = |text: &String| model.encode(text, &EncodeOptions::default(), work);
                let texts = texts.iter().map(encode).collect::<Result<Vec<_>>>()?;
                analysis::validate_attention(&dict, &model, layer, &heads, &texts, &options, work)
            })
        }
    }
}

fn trend() -> Entry {
    entry! {
        /// The shape of a curve over depth: `#{shape, break_at, slope_left, slope_right, p_left, p_right, spearman, spearman_p}`. `shape`
        /// is `"U"` or `"inverted U"` only where the two-lines test (Simonsohn 2018) finds two slopes of opposite sign, each significant at
        /// 5 %; else `"rising"` or `"falling"` by Spearman's correlation, else `"none"`. `x` and `y` are tensors or arrays of numbers; with
        /// fewer than 7 points no U is asked for (NaN).
        /// Errors: arrays of different length.
        ///
        /// ```rhai
        /// let layers = arange(12);
        /// assert(depth_trend(layers, (layers - 6.0) ** 2 + 0.1 * randn([12])).shape == "U");
        /// assert(depth_trend(layers, 2.0 * layers).shape == "rising");
        /// ```
        fn depth_trend(call, x: Dynamic, y: Dynamic) -> Json {
            let (x, y) = (numbers(&x, "x", call.work())?, numbers(&y, "y", call.work())?);
            if x.len() != y.len() {
                return Err(Error::input(format!("depth_trend: {} values of x for {} of y", x.len(), y.len())));
            }
            let found = call.work().detached(move |_| Ok(stats::trend(&x, &y)))?;
            Ok(json!({
                "shape": found.shape.name(), "break_at": found.break_at, "slope_left": found.slopes[0], "slope_right": found.slopes[1],
                "p_left": found.p[0], "p_right": found.p[1], "spearman": found.spearman, "spearman_p": found.spearman_p,
            }))
        }
    }
}

fn wrong_heads(given: &Value) -> Error {
    Error::input(format!("validate_attention: `head` is a number, a range, an array or (), not {}", given.describe()))
}

fn comparison() -> Entry {
    entry! {
        /// Two samples (1-D tensors) beside each other: `n_a n_b mean_a mean_b median_a median_b p75_a p75_b ks ks_p mann_whitney_u
        /// mann_whitney_p rank_biserial rank_biserial_lo rank_biserial_hi wasserstein`. The effect is rank_biserial = 2U/(n_a n_b) − 1
        /// (1: every a lies above every b) with a bootstrap interval, over `clusters` where given; p-values are asymptotic.
        /// Errors: an empty sample, values that are not finite, labels of another number than the values.
        ///
        /// ```rhai
        /// let found = compare(tensor([3.0, 4.0, 5.0]), tensor([1.0, 2.0]), #{ n_boot: 100 });
        /// assert(found.rank_biserial == 1.0 && found.wasserstein == 2.5);
        /// ```
        fn compare(call, a: Tensor, b: Tensor; options: CompareOptions) -> Json {
            // Sorting millions of values is too long to be waited for.
            let found = call.work().detached(move |work| analysis::compare(&a, &b, &options, work))?;
            Ok(Json::Object(found.to_map()))
        }
    }
}

fn flow() -> Vec<Entry> {
    vec![
        entry! {
            /// For each feature of `a` the `k` features of `b` with the highest cosine of write directions (`by`: `"read"`, `"write_read"`
            /// for the other ends), as `source target rank cosine`; ranks from 1, equal cosines by position. The cosines, n_a × n_b of
            /// them, are never stored. A feature whose direction holds NaN or infinities has no match and stands in no row.
            ///
            /// `a` in a later layer than `b` gives predecessors, in an earlier one successors (Laptev et al. 2025). Errors: `k` is 0, a
            /// feature that `a` does not have, a dictionary without the directions asked for.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let before = load_sae("demo", "saes/blocks.1.hook_resid_post");
            /// let after = load_sae("demo", "saes/blocks.2.hook_resid_post");
            /// let found = match_features(after, before, model, #{ features: 0..10 });
            /// assert(found.columns == ["source", "target", "rank", "cosine"] && found.len == 10);
            /// ```
            fn match_features(call, a: Dictionary, b: Dictionary, model: Model; options: MatchOptions) -> Table {
                analysis::match_features(&a, &b, &model, &options, call.work())
            }
        },
        entry! {
            /// Where the features of a residual stream come from: their highest cosine with what enters the layer (`res`), with what its MLP
            /// adds (`mlp`) and with what its attention adds (`att`), any of which may be left out: `feature s_res s_mlp s_att id_res
            /// id_mlp id_att group`.
            ///
            /// `group` names the origins that reach the cut, the score that 1 % of random directions reach there: `RES` alone is carried
            /// over, `RES&MLP` processed, `MLP` newborn, `nowhere` unexplained. Errors: no origin, or one without write directions.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let sae = |hook| load_sae("demo", "saes/blocks." + hook);
            /// let origins = #{ res: sae.call("1.hook_resid_post"), mlp: sae.call("2.hook_mlp_out"), att: sae.call("2.attn.hook_z") };
            /// let found = origin_scores(sae.call("2.hook_resid_post"), origins, model, #{ n_null: 512 });
            /// assert(found.columns.contains("s_att") && found["s_res"].max() < 1.001);
            /// ```
            fn origin_scores(call, target: Dictionary, origins: OptionMap, model: Model; options: OriginOptions) -> Table {
                let origins = Origins::parse(&origins).map_err(|e| e.context("origin_scores: `origins`"))?;
                analysis::origin_scores(&target, &origins, &model, &options, call.work())
            }
        },
        entry! {
            /// Which heads make each feature of an SAE on the heads' outputs (attn.hook_z): shares `[d_sae, n_heads]`, rows summing to 1,
            /// `‖W_dec[i, k]‖ / Σ_j ‖W_dec[i, j]‖`; with `space: "residual"` of what W_O makes of the parts.
            ///
            /// Source: Kissane et al. 2024. Errors: a dictionary that does not lie in z, or does not fit the model.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let shares = head_attribution(load_sae("demo", "saes/blocks.2.attn.hook_z"), model);
            /// assert(shares.shape == [768, model.cfg.n_heads]);
            /// ```
            fn head_attribution(call, dict: Dictionary, model: Model; options: AttributionOptions) -> Tensor {
                analysis::head_attribution(&dict, &model, &options, call.work())
            }
        },
    ]
}
