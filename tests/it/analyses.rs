//! Analyses against independent numbers (tests/reference), and against what must hold whatever the weights are.

use crate::support::{assert_close, assert_tensor, fixture, numbers, real, reference, work};
use saerepl::analysis::{
    AttentionOptions, AttentionScores, ClosedOptions, CompareOptions, CopyingOptions, Lens, NullKind, OvOptions, OvScale,
    OvWriteOptions, Phase, ProductOptions, Scale, SemanticSide, Semantics, SemanticsOptions, TokenOptions, TokenScores,
    attention_matrix, attention_scores, compare, copying, embed, ov_scores, ov_write, product_moments, product_stats, semantics,
    token_scores_of, unembed,
};
use saerepl::dictionary::{self, Dictionary, DirectionsOptions, RandomKind, RandomOptions, random_directions};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::{Ids, OptionMap, Options, Value as Given};
use saerepl::provenance::Provenance;
use saerepl::stats::Random;
use saerepl::table::{Column, Table};
use saerepl::tensor::{Bytes, Tensor};
use saerepl::work::{Progress, Sink, Steps, Stream, Work};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Relative error of f32 arithmetic on real weights.
const REAL: f64 = 2e-3;
/// Relative error on tiny models.
const TINY: f64 = 1e-5;

fn model(name: &str) -> Model {
    Model::load(name, &ModelOptions::default(), &work()).unwrap()
}

fn neurons(model: &Model, layer: usize) -> Dictionary {
    dictionary::mlp_neurons(model, layer).unwrap()
}

fn probes(rows: Tensor) -> Dictionary {
    dictionary::directions(&rows, &DirectionsOptions::default()).unwrap()
}

fn matrix(value: &Value) -> Tensor {
    let rows = value.as_array().unwrap().len();
    let data: Vec<f32> = numbers(value).iter().map(|v| *v as f32).collect();
    let width = data.len() / rows;
    Tensor::from_f32(data, &[rows, width]).unwrap()
}

fn normals(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::randn(shape, seed, 0, &work()).unwrap()
}

fn options<T: Options>(entries: &[(&str, Given)]) -> T {
    T::parse(&entries.iter().map(|(key, value)| (key.to_string(), value.clone())).collect::<OptionMap>()).unwrap()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

fn floats(table: &Table, column: &str) -> Vec<f64> {
    match table.column(column).unwrap() {
        Column::Float(v) => v.to_vec(),
        Column::Int(v) => v.iter().map(|v| *v as f64).collect(),
        other => panic!("column {column} is {other:?}"),
    }
}

/// The values of a column at the rows whose `feature` is listed.
fn at(table: &Table, column: &str, features: &[i64]) -> Vec<f64> {
    let (feature, values) = (floats(table, "feature"), floats(table, column));
    features.iter().map(|id| values[feature.iter().position(|f| *f == *id as f64).unwrap()]).collect()
}

/// Every column of a reference entry, at the features that it lists.
fn check_side(table: &Table, expected: &Value, tolerance: f64, what: &str) {
    let features = ids(&expected["feature"]);
    let scale = numbers(&expected["std"]).into_iter().fold(0.0, f64::max);
    for (name, values) in expected.as_object().unwrap().iter().filter(|(name, _)| *name != "feature") {
        let (got, values) = (at(table, name, &features), numbers(values));
        let what = format!("{what} {name}");
        match name.as_str() {
            // Centres lie near zero; their error is that of the scores' spread.
            "mean" | "median" => got.iter().zip(&values).for_each(|(g, e)| {
                assert!((g - e).abs() <= tolerance * scale, "{what}: {g}, expected {e}");
            }),
            _ => got.iter().zip(&values).for_each(|(g, e)| {
                assert!((g - e).abs() <= tolerance * e.abs().max(1e-6 * scale), "{what}: {g}, expected {e}");
            }),
        }
    }
}

fn check_summary(got: &serde_json::Map<String, Value>, expected: &Value, tolerance: f64, what: &str) {
    let scale = expected["std"].as_f64().unwrap();
    assert_eq!(got["n"], expected["n"], "{what}");
    for (name, value) in expected.as_object().unwrap() {
        let (got, value) = (got[name].as_f64().unwrap(), value.as_f64().unwrap());
        assert!((got - value).abs() <= tolerance * value.abs().max(scale), "{what} {name}: {got}, expected {value}");
    }
}

fn check_pairs(pairs: &Table, names: (&str, &str), expected: &Value, tolerance: f64, what: &str) {
    let (rows, cols, scores) = (floats(pairs, names.0), floats(pairs, names.1), floats(pairs, "score"));
    for (i, pair) in expected.as_array().unwrap().iter().enumerate() {
        let pair = numbers(pair);
        assert_eq!((rows[i], cols[i]), (pair[0], pair[1]), "{what}: pair {i}");
        assert!(
            (scores[i] - pair[2]).abs() <= tolerance * pair[2].abs(),
            "{what}: pair {i}: {}, expected {}",
            scores[i],
            pair[2]
        );
    }
}

// ---- populations ------------------------------------------------------------------------------------------------------

#[test]
fn compare_agrees_with_scipy() {
    let expected = reference("compare.json");
    for (name, case) in expected.as_object().unwrap().iter().filter(|(_, case)| case.is_object()) {
        let sample = |key: &str| Tensor::vector_f64(numbers(&case[key]));
        let labels = |key: &str| Given::Tensor(Tensor::vector_f64(numbers(&case[key])));
        let mut given = vec![("n_boot", Given::Int(200))];
        if case.get("strata_a").is_some() {
            given.push(("strata", Given::List(vec![labels("strata_a"), labels("strata_b")])));
        }
        let options: CompareOptions = options(&given);
        let got = compare(&sample("a"), &sample("b"), &options, &work()).unwrap();
        let map = got.to_map();
        // A stratified case states the stratified numbers, and the plain ones beside them.
        let mut checks: BTreeMap<&str, &Value> = BTreeMap::new();
        for numbers in [case.get("plain"), case.get("expected")].into_iter().flatten() {
            for (key, value) in numbers.as_object().unwrap() {
                let key = match key.as_str() {
                    "u" => "mann_whitney_u",
                    "p" => "mann_whitney_p",
                    key => key,
                };
                checks.insert(key, value);
            }
        }
        for (key, expected) in checks.into_iter().filter(|(key, _)| !["strata", "pairs", "formula", "ks_p_limit"].contains(key)) {
            let (got, expected) = (map[key].as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((got - expected).abs() <= 1e-7 * expected.abs().max(1e-9), "{name} {key}: {got}, expected {expected}");
        }
        let (low, high) = got.interval;
        assert!(low <= got.mann_whitney.rank_biserial && got.mann_whitney.rank_biserial <= high, "{name}");
    }
}

#[test]
fn shuffled_labels_leave_no_effect() {
    let values = normals(4, &[600]).to_f64();
    let shifted: Vec<f64> = values.iter().enumerate().map(|(i, v)| if i < 200 { v + 1.0 } else { *v }).collect();
    let split = |values: &[f64], n: usize| (Tensor::vector_f64(values[..n].to_vec()), Tensor::vector_f64(values[n..].to_vec()));
    let (a, b) = split(&shifted, 200);
    let real = compare(&a, &b, &CompareOptions::default(), &work()).unwrap();
    // P(N(1, 1) > N(0, 1)) = Φ(1/√2) = 0.7602, so the effect is 0.5205.
    assert!((real.mann_whitney.rank_biserial - 0.5205).abs() < 0.1 && real.interval.0 > 0.3, "{real:?}");
    let mut random = Random::new(9, 0);
    let mut shuffled = shifted.clone();
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, random.below(i + 1));
    }
    let (a, b) = split(&shuffled, 200);
    let null = compare(&a, &b, &CompareOptions::default(), &work()).unwrap();
    assert!(null.interval.0 < 0.0 && null.interval.1 > 0.0 && null.mann_whitney.p > 0.01, "{null:?}");
}

#[test]
fn compare_names_what_is_wrong_with_a_sample() {
    let fine = Tensor::vector_f64(vec![1.0, 2.0]);
    let message = |a: &Tensor, b: &Tensor| compare(a, b, &CompareOptions::default(), &work()).unwrap_err().to_string();
    assert_eq!(message(&Tensor::vector_f64(vec![]), &fine), "compare: `a` is empty");
    assert_eq!(message(&fine, &Tensor::vector_f64(vec![f64::NAN])), "compare: 1 of the 1 values of `b` are NaN or infinite");
    let strata: CompareOptions = options(&[("strata", Given::List(vec![Given::Float(1.0)]))]);
    let error = compare(&fine, &fine, &strata, &work()).unwrap_err();
    assert!(error.message().contains("1 labels for a and 0 for b"), "{error}");
}

// ---- the open core ----------------------------------------------------------------------------------------------------

#[test]
fn product_stats_agree_with_plain_loops() {
    let (n, d, m) = (7, 5, 23);
    let (a, b) = (normals(1, &[n, d]), normals(2, &[d, m]));
    let gain = [0.5, -1.0, 2.0, 1.5, 0.1];
    let (av, bv) = (a.to_f64(), b.to_f64());
    let score = |i: usize, j: usize| (0..d).map(|k| av[i * d + k] * gain[k] * bv[k * m + j]).sum::<f64>();
    let masked = |j: usize| j % 6 == 1;
    let mask = Given::List((0..m).map(|j| Given::Bool(masked(j))).collect());
    let row_gain = Given::Tensor(Tensor::vector_f64(gain.to_vec()));
    let base = [
        ("row_gain", row_gain),
        ("k", Given::Int(3)),
        ("pairs", Given::Int(4)),
        ("softmax", Given::Bool(true)),
        ("col_mask", mask),
    ];
    let got = product_stats(&a, &b, &options(&base), &work()).unwrap();
    let rows = got.rows.table();
    for i in 0..n {
        let scores: Vec<f64> = (0..m).map(|j| score(i, j)).collect();
        let mean = scores.iter().sum::<f64>() / m as f64;
        let central = |p: i32| scores.iter().map(|s| (s - mean).powi(p)).sum::<f64>() / m as f64;
        let expected = [mean, central(2).sqrt(), central(3) / central(2).powf(1.5), central(4) / central(2).powi(2)];
        for (name, expected) in ["mean", "std", "skewness", "kurtosis"].iter().zip(expected) {
            assert_close(&[floats(&rows, name)[i]], &[expected], 1e-4, name);
        }
        let mut order: Vec<usize> = (0..m).filter(|j| !masked(*j)).collect();
        order.sort_by(|x, y| scores[*y].total_cmp(&scores[*x]));
        let Column::IntList(top) = rows.column("top_ids").unwrap() else { panic!() };
        assert_eq!(top[i], order[..3].iter().map(|j| *j as i64).collect::<Vec<_>>());
        let total: f64 = order.iter().map(|j| scores[*j].exp()).sum();
        let entropy: f64 = -order.iter().map(|j| scores[*j].exp() / total).map(|p| p * p.ln()).sum::<f64>();
        assert_close(&[floats(&rows, "entropy")[i]], &[entropy], 1e-4, "entropy over the unmasked columns");
    }
    let mut all: Vec<(usize, usize)> = (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).collect();
    all.sort_by(|x, y| score(y.0, y.1).total_cmp(&score(x.0, x.1)));
    let best: Vec<f64> = all[..4].iter().map(|(i, j)| score(*i, *j)).collect();
    assert_close(&floats(&got.pairs(), "score"), &best, 1e-5, "pairs");
    let histogram = got.histogram(10, &work()).unwrap();
    assert_eq!(histogram.counts.iter().sum::<u64>(), (n * m) as u64);

    // By |score|: the order is of magnitudes, the scores keep their signs.
    let mut absolute = base.to_vec();
    absolute.push(("absolute", Given::Bool(true)));
    let got = product_stats(&a, &b, &options(&absolute), &work()).unwrap();
    all.sort_by(|x, y| score(y.0, y.1).abs().total_cmp(&score(x.0, x.1).abs()));
    let best: Vec<f64> = all[..4].iter().map(|(i, j)| score(*i, *j)).collect();
    assert!(best.iter().any(|s| *s < 0.0), "the case has a negative score among the largest");
    assert_close(&floats(&got.pairs(), "score"), &best, 1e-5, "pairs by |score|");
}

#[test]
fn zscores_are_standard_over_the_unmasked_columns() {
    // Few rows take the product itself, many the covariance: both must agree with plain loops.
    for n in [1, 40] {
        let (d, m) = (6, 31);
        let (a, b) = (normals(3, &[n, d]), normals(5, &[d, m]));
        let (av, bv) = (a.to_f64(), b.to_f64());
        let masked = |j: usize| j.is_multiple_of(5);
        let mask = Given::List((0..m).map(|j| Given::Bool(masked(j))).collect());
        let given: ProductOptions = options(&[("scale", Given::Text("zscore".into())), ("col_mask", mask), ("k", Given::Int(1))]);
        let rows = product_stats(&a, &b, &given, &work()).unwrap().rows.table();
        let Column::FloatList(top) = rows.column("top_scores").unwrap() else { panic!() };
        for i in 0..n {
            let scores: Vec<f64> = (0..m).map(|j| (0..d).map(|k| av[i * d + k] * bv[k * m + j]).sum()).collect();
            let open: Vec<f64> = (0..m).filter(|j| !masked(*j)).map(|j| scores[j]).collect();
            let mean = open.iter().sum::<f64>() / open.len() as f64;
            let std = (open.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / open.len() as f64).sqrt();
            let highest = open.iter().fold(f64::MIN, |x, y| x.max(*y));
            assert_close(&top[i], &[(highest - mean) / std], 1e-4, "top z-score");
            let largest = scores.iter().fold(f64::MIN, |x, y| x.max(*y));
            assert_close(&[floats(&rows, "max")[i]], &[(largest - mean) / std], 1e-4, "largest z-score, masked or not");
        }
    }
}

#[test]
fn what_columns_have_in_common_takes_no_precision() {
    // Columns whose common part is 1000 times as large as their differences; one row is made, forty take the covariance.
    let (d, m) = (48, 301);
    for n in [1, 40] {
        let a = normals(3, &[n, d]);
        let mut b = normals(5, &[d, m]);
        b.make_mut_f32().iter_mut().for_each(|v| *v += 1000.0);
        let (av, bv) = (a.to_f64(), b.to_f64());
        let closed = product_moments(&a, &b, &ClosedOptions::default(), &work()).unwrap();
        let zscore: ProductOptions = options(&[("scale", Given::Text("zscore".into()))]);
        let stats = product_stats(&a, &b, &zscore, &work()).unwrap().rows.table();
        for i in 0..n {
            let scores: Vec<f64> = (0..m).map(|j| (0..d).map(|k| av[i * d + k] * bv[k * m + j]).sum()).collect();
            let mean = scores.iter().sum::<f64>() / m as f64;
            let std = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / m as f64).sqrt();
            assert_close(&[floats(&closed, "mean")[i]], &[mean], 1e-9, "mean");
            assert_close(&[floats(&closed, "std")[i]], &[std], 1e-6, "std");
            let largest = scores.iter().fold(f64::MIN, |x, y| x.max(*y));
            let tolerance = if n == 1 { 1e-6 } else { 1e-3 };
            assert_close(&[floats(&stats, "max")[i]], &[(largest - mean) / std], tolerance, "largest z-score");
        }
    }
}

#[test]
fn features_alone_score_as_among_all() {
    let model = model("demo");
    let neurons = neurons(&model, 1);
    for (scale, center) in [("raw", true), ("cosine", false), ("cosine", true), ("zscore", false), ("zscore", true)] {
        let given = |features: Given| -> TokenOptions {
            options(&[("scale", Given::Text(scale.into())), ("center", Given::Bool(center)), ("features", features)])
        };
        let all = unembed(&neurons, &model, &given(Given::Unit), &work()).unwrap();
        let table = all.table().unwrap();
        let one = unembed(&neurons, &model, &given(Given::List(vec![Given::Int(7)])), &work()).unwrap();
        for moment in ["mean", "std", "skewness", "kurtosis", "min", "max"] {
            let (got, expected) = (floats(&one.table().unwrap(), moment)[0], floats(&table, moment)[7]);
            assert!((got - expected).abs() < 2e-5 * (1.0 + expected.abs()), "{scale} {moment}: {got}, among all {expected}");
        }
        let (got, expected) = (one.top(7).unwrap(), all.top(7).unwrap());
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.id == expected.id && (got.score - expected.score).abs() < 2e-5 * expected.score.abs(), "{scale}");
        }
        let scores = one.scores(7, &work()).unwrap().to_f64();
        assert!(got.iter().all(|token| scores[token.id] == token.score), "{scale}");
    }
}

/// Counts the passes over the vocabulary that `semantics` begins.
#[derive(Clone, Default)]
struct Passes(Arc<AtomicUsize>);

impl Progress for Passes {
    fn begin(&self, label: &str, _: u64) -> Box<dyn Steps> {
        self.0.fetch_add(usize::from(label == "semantics"), Ordering::Relaxed);
        Box::new(self.clone())
    }
}

impl Steps for Passes {
    fn advance(&self, _: u64) {}
}

impl Sink for Passes {
    fn write(&self, _: Stream, _: &str) {}
}

#[test]
fn nulls_are_drawn_once_for_a_dictionary() {
    let model = model(&fixture("tiny-gemma3"));
    let passes = Passes::default();
    let work = Work::new(2, 0, Box::new(passes.clone()), Box::new(passes.clone())).unwrap();
    let directions = || probes(normals(1, &[40, model.cfg().d_model]));
    let one = directions();
    let judge = |dictionary: &Dictionary, feature: i64, seed: i64, k: i64| {
        let features = Given::List(vec![Given::Int(feature)]);
        let tokens: TokenOptions = options(&[("features", features), ("k", Given::Int(k)), ("mask_special", Given::Bool(false))]);
        let scores = unembed(dictionary, &model, &tokens, &work).unwrap();
        let given: SemanticsOptions = options(&[("n_null", Given::Int(200)), ("seed", Given::Int(seed))]);
        let found = semantics(&scores, &model, &given, &work).unwrap();
        let nulls: Vec<_> = found.nulls().iter().map(|null| null.thresholds).collect();
        (passes.0.swap(0, Ordering::Relaxed), nulls, found.null_share())
    };
    let (first, nulls, share) = judge(&one, 3, 5, 5);
    assert_eq!(first, 4, "the feature, two draws of one null, one of another");
    assert_eq!(judge(&one, 8, 5, 5), (1, nulls.clone(), share));
    // Another seed, other lists, another dictionary: other draws.
    assert!(judge(&one, 3, 6, 5).0 == 4 && judge(&one, 3, 5, 4).0 == 4);
    assert_eq!(judge(&directions(), 3, 5, 5), (4, nulls, share));
}

// ---- tiny models ------------------------------------------------------------------------------------------------------

#[test]
fn tiny_models_agree_in_every_architecture() {
    let expected = reference("tiny.json");
    let probes = probes(matrix(&expected["directions"]));
    for (name, entry) in expected["models"].as_object().unwrap() {
        let model = model(&fixture(name));
        let tokens: TokenOptions = options(&[("k", Given::Int(5)), ("mask_special", Given::Bool(false))]);
        let table = unembed(&probes, &model, &tokens, &work()).unwrap().table().unwrap();
        for (i, row) in entry["unembed"].as_array().unwrap().iter().enumerate() {
            for moment in ["mean", "std", "skewness", "kurtosis", "min", "max"] {
                assert_close(&[floats(&table, moment)[i]], &numbers(&row[moment]), 1e-4, &format!("{name} {moment}"));
            }
            let (Column::IntList(top), Column::IntList(bottom)) =
                (table.column("top_ids").unwrap(), table.column("bottom_ids").unwrap())
            else {
                panic!()
            };
            assert_eq!((&top[i], &bottom[i]), (&ids(&row["top_ids"]), &ids(&row["bottom_ids"])), "{name}");
        }
        for (key, distance) in [("attention_matrix", 0), ("attention_matrix_distance7", 7)] {
            for (site, scores) in entry[key].as_object().unwrap() {
                let (layer, head) = site.split_once(',').map(|(l, h)| (l.parse().unwrap(), h.parse().unwrap())).unwrap();
                let given: AttentionOptions = options(&[("distance", Given::Int(distance))]);
                let got = attention_matrix(&probes, &probes, &model, layer, head, &given, &work());
                match got {
                    Ok(got) => assert_tensor(&got, scores, TINY, &format!("{name} {key} {site}")),
                    // A fixture's sliding window may be narrower than the distance.
                    Err(error) => {
                        assert!(model.window(layer).unwrap().is_some_and(|w| w <= distance as usize), "{name} {site}: {error}")
                    }
                }
            }
        }
        for (site, written) in entry["ov_write"].as_object().unwrap() {
            let (layer, head) = site.split_once(',').map(|(l, h)| (l.parse().unwrap(), h.parse().unwrap())).unwrap();
            let got = ov_write(&probes, &model, layer, head, &OvWriteOptions::default(), &work()).unwrap();
            assert_tensor(&got, written, TINY, &format!("{name} ov_write {site}"));
        }
    }
}

#[test]
fn distances_are_averaged_before_statistics_under_a_softcap_too() {
    // tiny-gemma2 has a softcap, tiny-llama none: one takes an operand a distance, the other one mean key.
    for name in ["tiny-gemma2", "tiny-llama"] {
        let model = model(&fixture(name));
        let d = model.cfg().d_model;
        let (queries, keys) = (probes(normals(11, &[4, d])), probes(normals(12, &[6, d])));
        let scores = |distance: Given| {
            attention_matrix(&queries, &keys, &model, 1, 2, &options(&[("distance", distance)]), &work()).unwrap().to_f64()
        };
        let several = Given::List(vec![Given::Int(0), Given::Int(1), Given::Int(3)]);
        let mean: Vec<f64> = {
            let each: Vec<Vec<f64>> = [0, 1, 3].map(|d| scores(Given::Int(d))).into();
            (0..each[0].len()).map(|i| each.iter().map(|s| s[i]).sum::<f64>() / 3.0).collect()
        };
        assert_close(&scores(several.clone()), &mean, 1e-5, name);
        let apart: AttentionOptions = options(&[("distance", several), ("average", Given::Bool(false))]);
        let table = attention_scores(&queries, &keys, &model, 1, 2, &apart, &work()).unwrap().query.table();
        assert_eq!(floats(&table, "distance"), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]);
        let first = scores(Given::Int(3));
        assert_close(&[floats(&table, "mean")[8]], &[first[..6].iter().sum::<f64>() / 6.0], 1e-4, "distance 3 alone");
    }
}

#[test]
fn a_few_features_score_as_among_all() {
    // Without and with a norm of queries and keys, whose scalar is of the whole dictionary.
    for name in ["tiny-llama", "tiny-gemma3"] {
        let model = model(&fixture(name));
        let all = probes(normals(21, &[40, model.cfg().d_model]));
        let (queries, keys) = ([17usize, 3], [39usize, 0, 5]);
        let list = |ids: &[usize]| Given::List(ids.iter().map(|id| Given::Int(*id as i64)).collect());
        let few: AttentionOptions = options(&[("query_features", list(&queries)), ("key_features", list(&keys))]);
        let whole = attention_matrix(&all, &all, &model, 1, 2, &AttentionOptions::default(), &work()).unwrap().to_f64();
        let expected: Vec<f64> = queries.iter().flat_map(|q| keys.map(|k| whole[q * 40 + k])).collect();
        assert_close(&attention_matrix(&all, &all, &model, 1, 2, &few, &work()).unwrap().to_f64(), &expected, 1e-6, name);
        let strengths = |o: &AttentionOptions| {
            floats(&attention_scores(&all, &all, &model, 1, 2, o, &work()).unwrap().query.table(), "strength")
        };
        let expected = queries.map(|q| strengths(&AttentionOptions::default())[q]);
        assert_close(&strengths(&few), &expected, 1e-6, &format!("{name}, strength"));

        let d = model.cfg().d_model;
        let written = ov_write(&all, &model, 1, 2, &OvWriteOptions::default(), &work()).unwrap().to_f64();
        let two = ov_write(&all, &model, 1, 2, &options(&[("features", list(&queries))]), &work()).unwrap().to_f64();
        let expected: Vec<f64> = queries.iter().flat_map(|q| written[q * d..(q + 1) * d].to_vec()).collect();
        assert_close(&two, &expected, 1e-6, &format!("{name}, ov_write"));
    }
}

#[test]
fn the_base_score_is_the_score_of_the_constant() {
    let model = model(&fixture("tiny-gemma2"));
    let d = model.cfg().d_model;
    let (queries, keys) = (probes(normals(11, &[4, d])), probes(normals(12, &[6, d])));
    let constant = normals(13, &[1, d]);
    let base = Given::Tensor(constant.reshape(&[d]).unwrap());
    let got = attention_scores(&queries, &keys, &model, 1, 2, &options(&[("base", base)]), &work()).unwrap();
    let alone = probes(constant);
    let plain = AttentionOptions::default();
    let of_keys = attention_matrix(&alone, &keys, &model, 1, 2, &plain, &work()).unwrap();
    let of_queries = attention_matrix(&queries, &alone, &model, 1, 2, &plain, &work()).unwrap();
    assert_close(&floats(&got.key.table(), "base_score"), &of_keys.to_f64(), 1e-5, "keys");
    assert_close(&floats(&got.query.table(), "base_score"), &of_queries.to_f64(), 1e-5, "queries");
}

#[test]
fn the_base_may_be_b_dec() {
    let model = model(&fixture("tiny-gemma3"));
    let d = model.cfg().d_model;
    let constant = normals(14, &[d]);
    let given = DirectionsOptions { b_dec: Some(constant.clone()), ..DirectionsOptions::default() };
    let dictionary = dictionary::directions(&normals(12, &[6, d]), &given).unwrap();
    let column = |base: Given| {
        let got = attention_scores(&dictionary, &dictionary, &model, 1, 2, &options(&[("base", base)]), &work()).unwrap();
        floats(&got.key.table(), "base_score")
    };
    let by_name = column(Given::Text("b_dec".into()));
    assert_eq!(by_name, column(Given::Tensor(constant)));
    assert!(by_name.iter().any(|v| v.abs() > 1e-3));
}

#[test]
fn a_typical_temperature_is_the_feature_s_share_of_the_residual() {
    let model = model(&fixture("tiny-llama"));
    let d = model.cfg().d_model;
    let plain = probes(normals(12, &[4, d]));
    let shares = [0.1, 0.4, 0.25, 0.7];
    let stats = Table::new(Provenance::default()).with("feature", vec![0i64, 1, 2, 3]).unwrap();
    let measured = plain.with_stats(&stats.with("mean_share", shares.to_vec()).unwrap()).unwrap();
    let strengths = |dictionary: &Dictionary, temperature: Given| {
        let given = options(&[("temperature", temperature)]);
        floats(&attention_scores(dictionary, dictionary, &model, 1, 2, &given, &work()).unwrap().query.table(), "strength")
    };
    let whole = strengths(&plain, Given::Text("sqrt_d".into()));
    let expected: Vec<f64> = whole.iter().zip(shares).map(|(strength, share)| strength * share).collect();
    assert_close(&strengths(&measured, Given::Text("typical".into())), &expected, 1e-6, "strength at a typical share");
}

#[test]
fn a_table_says_how_it_was_made() {
    let model = model(&fixture("tiny-llama"));
    let neurons = neurons(&model, 0);
    let given: AttentionOptions = options(&[("n_keys", Given::Int(5)), ("seed", Given::Int(3))]);
    let table = attention_scores(&neurons, &neurons, &model, 1, 2, &given, &work()).unwrap().key.table();
    let record = table.provenance.to_json();
    assert_eq!(
        (&record["function"], &record["layer"], &record["head"], &record["seed"]),
        (&"attention_scores".into(), &1.into(), &2.into(), &3.into())
    );
    assert_eq!((&record["model"], &record["key_dictionary"]), (&model.id(), &neurons.id()));
    assert_eq!((&record["options"]["n_keys"], &record["options"]["temperature"]), (&5.into(), &"sqrt_d".into()));
    // Neurons are signed, so magnitudes are what is measured.
    assert_eq!(record["absolute"], true);
}

#[test]
fn duplicated_keys_leave_the_width_free_columns() {
    let model = model(&fixture("tiny-llama"));
    let d = model.cfg().d_model;
    let (queries, keys) = (probes(normals(21, &[5, d])), normals(22, &[9, d]));
    let mut twice = keys.to_f32();
    twice.extend(keys.to_f32());
    let run =
        |keys: Tensor| attention_scores(&queries, &probes(keys), &model, 1, 1, &AttentionOptions::default(), &work()).unwrap();
    let (once, twice) = (run(keys), run(Tensor::from_f32(twice, &[18, d]).unwrap()));
    assert_close(
        &floats(&twice.query.table(), "entropy_deficit"),
        &floats(&once.query.table(), "entropy_deficit"),
        1e-5,
        "deficit",
    );
    let (rel_once, rel_twice) = (floats(&once.key.table(), "mean_weight_rel"), floats(&twice.key.table(), "mean_weight_rel"));
    assert_close(&rel_twice[..9], &rel_once, 1e-5, "mean_weight_rel");
    // The columns that do depend on the width move, else the test would say nothing.
    assert!(floats(&twice.query.table(), "top1")[0] < 0.6 * floats(&once.query.table(), "top1")[0]);
}

#[test]
fn a_key_sample_is_fixed_by_its_seed_and_keeps_ids() {
    let model = model(&fixture("tiny-llama"));
    let d = model.cfg().d_model;
    let (queries, keys) = (probes(normals(21, &[3, d])), probes(normals(22, &[40, d])));
    let run = |seed: i64| {
        let given: AttentionOptions = options(&[("n_keys", Given::Int(8)), ("seed", Given::Int(seed))]);
        floats(&attention_scores(&queries, &keys, &model, 1, 1, &given, &work()).unwrap().key.table(), "feature")
    };
    assert_eq!((run(5), run(5).len()), (run(5), 8));
    assert_ne!(run(5), run(6));
    let all = AttentionOptions::default();
    let whole = attention_scores(&queries, &keys, &model, 1, 1, &all, &work()).unwrap();
    let given: AttentionOptions = options(&[("n_keys", Given::Int(8)), ("seed", Given::Int(5))]);
    let part = attention_scores(&queries, &keys, &model, 1, 1, &given, &work()).unwrap().key.table();
    let chosen: Vec<i64> = floats(&part, "feature").iter().map(|v| *v as i64).collect();
    assert_close(&floats(&part, "mean"), &at(&whole.key.table(), "mean", &chosen), 1e-6, "a sampled key keeps its scores");
}

#[test]
fn a_threefold_w_q_raises_participation() {
    let model_as_it_is = model(&fixture("tiny-llama"));
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture("tiny-llama")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("model.safetensors");
    let tensors = safetensors::read(Bytes::map(&path).unwrap(), &path).unwrap();
    let mut louder = TensorSet::new("louder");
    for (name, tensor) in tensors.iter() {
        let factor = if name.ends_with("layers.1.self_attn.q_proj.weight") { 3.0 } else { 1.0 };
        let values = tensor.to_f32().into_iter().map(|v| factor * v).collect();
        louder.insert(name, Tensor::from_f32(values, tensor.shape()).unwrap());
    }
    let bytes = safetensors::write(&louder).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let louder = model(&folder.path().display().to_string());

    let d = model_as_it_is.cfg().d_model;
    let (queries, keys) = (probes(normals(31, &[8, d])), probes(normals(32, &[9, d])));
    let given: AttentionOptions = options(&[("absolute", Given::Bool(true)), ("temperature", Given::Float(1.0))]);
    let run = |model: &Model| attention_scores(&queries, &keys, model, 1, 1, &given, &work()).unwrap();
    let (plain, loud) = (run(&model_as_it_is), run(&louder));
    for (column, plain, loud) in [
        ("mean", plain.query.table(), loud.query.table()),
        ("p75", plain.query.table(), loud.query.table()),
        ("max", plain.query.table(), loud.query.table()),
        ("strength", plain.query.table(), loud.query.table()),
        ("mean", plain.key.table(), loud.key.table()),
    ] {
        let tripled: Vec<f64> = floats(&plain, column).iter().map(|v| 3.0 * v).collect();
        assert_close(&floats(&loud, column), &tripled, 1e-5, column);
    }
    assert_eq!(floats(&plain.key.table(), "strength"), floats(&loud.key.table(), "strength"), "keys are as they were");
    let (quiet, sharp) = (floats(&plain.query.table(), "entropy_deficit"), floats(&loud.query.table(), "entropy_deficit"));
    assert!(quiet.iter().zip(&sharp).all(|(q, s)| s > q), "three times the scores sharpen every softmax");
}

#[test]
fn options_out_of_range_are_named() {
    let model = model(&fixture("tiny-gemma3"));
    let d = model.cfg().d_model;
    let probes = probes(normals(1, &[3, d]));
    let scores = |layer: usize, head: usize, given: &[(&str, Given)]| {
        attention_scores(&probes, &probes, &model, layer, head, &options(given), &work()).unwrap_err().to_string()
    };
    assert!(scores(99, 0, &[]).contains("layer 99 is out of range"));
    assert!(scores(0, 99, &[]).contains("head 99 is out of range"));
    let far = scores(0, 0, &[("distance", Given::Int(100_000))]);
    assert!(far.contains("distance 100000 lies beyond the sliding window of layer 0"), "{far}");
    assert!(scores(0, 0, &[("temperature", Given::Text("typical".into()))]).contains("needs the activation statistics"));
    assert!(scores(0, 0, &[("base", Given::Text("b_dec".into()))]).contains("no decoder bias"));
    assert!(scores(0, 0, &[("key_features", Given::Range(0, Some(9)))]).contains("out of range"));
    assert!(scores(0, 0, &[("quantiles", Given::List(vec![Given::Float(1.5)]))]).contains("from 0 to 1"));
    let one: TokenOptions = options(&[("k", Given::Int(1))]);
    let list = unembed(&probes, &model, &one, &work()).unwrap();
    let error = semantics(&list, &model, &SemanticsOptions::default(), &work()).unwrap_err();
    assert!(error.message().contains("k of at least 2"), "{error}");
}

#[test]
fn a_target_before_the_head_is_refused() {
    let model = model(&fixture("tiny-llama"));
    let (early, late) = (neurons(&model, 0), neurons(&model, 2));
    assert!(ov_scores(&early, &late, &model, 1, 0, &OvOptions::default(), &work()).is_ok());
    let error = ov_scores(&late, &early, &model, 1, 0, &OvOptions::default(), &work()).unwrap_err();
    assert!(error.message().contains("before the heads of layer 1 write"), "{error}");
}

#[test]
fn the_lens_drops_what_it_says() {
    let model = model(&fixture("tiny-gemma2"));
    let d = model.cfg().d_model;
    let probes = probes(normals(41, &[2, d]));
    let scores = |given: &[(&str, Given)]| {
        unembed(&probes, &model, &options(given), &work()).unwrap().scores(1, &work()).unwrap().to_f64()
    };
    let neuronpedia = scores(&[("lens", Given::Text(Lens::Neuronpedia.name().into()))]);
    assert_eq!(neuronpedia, scores(&[("fold_norm", Given::Bool(false))]));
    assert_ne!(neuronpedia, scores(&[]));
    // Twice the identity between doubles every score.
    let mut double = vec![0.0; d * d];
    (0..d).for_each(|i| double[i * d + i] = 2.0);
    let through = Given::Tensor(Tensor::from_f64(double, &[d, d]).unwrap());
    let doubled: Vec<f64> = scores(&[]).iter().map(|v| 2.0 * v).collect();
    assert_close(&scores(&[("through", through)]), &doubled, 1e-5, "through");
}

// ---- semantics --------------------------------------------------------------------------------------------------------

#[test]
fn random_directions_are_semantic_as_often_as_the_null() {
    let Some(path) = real("smollm2-135m.gguf") else { return };
    let model = model(&path);
    let dictionary = neurons(&model, 12);
    for kind in [RandomKind::Covariance, RandomKind::Isotropic] {
        let random = RandomOptions { n: Some(1500), kind, seed: Some(77) };
        let random = random_directions(&dictionary, Some(&model), &random, &work()).unwrap();
        let scores = unembed(&random, &model, &TokenOptions::default(), &work()).unwrap();
        let null_kind = if kind == RandomKind::Covariance { NullKind::Covariance } else { NullKind::Isotropic };
        let given = SemanticsOptions { null_kind, n_null: 1500, fpr: 0.04, every_null: false, ..SemanticsOptions::default() };
        let got = semantics(&scores, &model, &given, &work()).unwrap();
        assert_eq!(got.side(), SemanticSide::Both, "random directions are signed");
        let (null, (low, high)) = got.null_share();
        assert!((0.04 / 1.5..=0.04 * 1.5).contains(&null), "{got:?}");
        // 1500 draws each: the shares of two draws differ by 0.007 (one standard error).
        assert!((got.share() - 0.04).abs() < 0.025, "{got:?}");
        assert!(low < null && null < high);
        assert!(got.warnings().is_empty(), "{:?}", got.warnings());
    }
}

#[test]
fn a_small_null_warns() {
    let model = model(&fixture("tiny-llama"));
    let scores = unembed(&neurons(&model, 1), &model, &TokenOptions::default(), &work()).unwrap();
    let given = SemanticsOptions { n_null: 100, ..SemanticsOptions::default() };
    let got = semantics(&scores, &model, &given, &work()).unwrap();
    assert!(got.warnings()[0].contains("too few for a steady threshold"), "{:?}", got.warnings());
    let kinds: Vec<NullKind> = got.nulls().iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NullKind::Covariance, NullKind::Isotropic, NullKind::TokenSets]);
    let table = got.table().unwrap();
    for column in ["levenshtein", "cosine", "entropy", "votes", "semantic", "levenshtein_bottom", "entropy_bottom", "side"] {
        assert!(table.column(column).is_ok(), "{column}");
    }
}

#[test]
fn the_list_mass_is_that_of_the_standardised_scores() {
    let model = model(&fixture("tiny-llama"));
    let dictionary = neurons(&model, 1);
    let given = SemanticsOptions { n_null: 50, every_null: false, ..SemanticsOptions::default() };
    let options = TokenOptions { k: 4, mask_special: false, ..TokenOptions::default() };
    let found = semantics(&unembed(&dictionary, &model, &options, &work()).unwrap(), &model, &given, &work()).unwrap();
    let table = found.table().unwrap();
    let columns = ["list_mass", "list_mass_bottom"].map(|name| table.column(name).unwrap().numbers().unwrap());
    let scores = unembed(&dictionary, &model, &TokenOptions { scale: Scale::Zscore, ..options }, &work()).unwrap();
    for feature in 0..dictionary.n() {
        let z = scores.scores(feature, &work()).unwrap().to_f64();
        for (column, sign) in columns.iter().zip([1.0, -1.0]) {
            let mut weights: Vec<f64> = z.iter().map(|z| (sign * z).exp()).collect();
            weights.sort_by(|a, b| b.total_cmp(a));
            let mass = weights[..4].iter().sum::<f64>() / weights.iter().sum::<f64>();
            assert!((column[feature] - mass).abs() < 1e-5, "{feature}: {} {mass}", column[feature]);
        }
    }
}

#[test]
fn population_quantiles_pass_their_share_by_construction_and_say_so() {
    let model = model(&fixture("tiny-llama"));
    let scores = unembed(&neurons(&model, 1), &model, &TokenOptions::default(), &work()).unwrap();
    let given = |q| SemanticsOptions {
        population_quantile: Some(q),
        rule: saerepl::analysis::Rule::Cosine,
        side: Some(SemanticSide::Top),
        n_null: 50,
        ..SemanticsOptions::default()
    };
    let shares = [0.9, 0.75, 0.5].map(|q| {
        let found = semantics(&scores, &model, &given(q), &work()).unwrap();
        assert!(found.warnings()[0].contains("by construction"), "{:?}", found.warnings());
        assert!((found.share() - (1.0 - q)).abs() <= 1.0 / found.mask().len() as f64, "{q}: {found:?}");
        found.share()
    });
    assert!(shares[0] < shares[1] && shares[1] < shares[2]);
    let wrong = semantics(&scores, &model, &given(1.5), &work()).unwrap_err();
    assert!(wrong.message().contains("population_quantile"));
}

#[test]
fn flipped_signs_change_nothing_in_a_signed_dictionary() {
    let model = model(&fixture("tiny-llama"));
    let (layer, d) = (1, model.cfg().d_model);
    let plain = neurons(&model, layer);
    let written = plain.write(&model, &work()).unwrap();
    let rows = Tensor::from_f32(written.rows.to_f32(), written.rows.shape()).unwrap();
    let mut flipped = rows.to_f32();
    flipped.chunks_exact_mut(2 * d).for_each(|pair| pair[..d].iter_mut().for_each(|v| *v = -*v));
    let (rows, flipped) = (probes(rows.clone()), probes(Tensor::from_f32(flipped, rows.shape()).unwrap()));
    let given = SemanticsOptions {
        side: Some(SemanticSide::Both),
        n_null: 200,
        fpr: 0.2,
        every_null: false,
        ..SemanticsOptions::default()
    };
    let run = |dictionary: &Dictionary| -> Semantics {
        let scores = unembed(dictionary, &model, &TokenOptions::default(), &work()).unwrap();
        semantics(&scores, &model, &given, &work()).unwrap()
    };
    assert_eq!(run(&rows).mask(), run(&flipped).mask());
}

// ---- real models ------------------------------------------------------------------------------------------------------

fn token_options(name: &str) -> TokenOptions {
    let scale = match name {
        "cosine" | "cosine_center" => Scale::Cosine,
        "zscore" | "zscore_center" => Scale::Zscore,
        _ => Scale::Raw,
    };
    TokenOptions {
        scale,
        center: name.ends_with("_center"),
        fold_norm: name != "raw_no_fold",
        mask_special: false,
        ..TokenOptions::default()
    }
}

fn check_tokens(scores: &TokenScores, feature: usize, expected: &Value, what: &str) {
    let table = scores.table().unwrap();
    let std = expected["std"].as_f64().unwrap();
    for name in ["mean", "std", "skewness", "kurtosis", "min", "max"] {
        let (got, expected) = (at(&table, name, &[feature as i64])[0], expected[name].as_f64().unwrap());
        let scale = if name == "mean" { std } else { expected.abs().max(0.01) };
        assert!((got - expected).abs() <= REAL * scale, "{what} {name}: {got}, expected {expected}");
    }
    for (side, list) in [("top", scores.top(feature).unwrap()), ("bottom", scores.bottom(feature).unwrap())] {
        let found: Vec<i64> = list.iter().map(|t| t.id as i64).collect();
        assert_eq!(found, ids(&expected[format!("{side}_ids")]), "{what} {side}");
        let texts: Vec<Value> = list.iter().map(|t| t.token.clone().into()).collect();
        assert_eq!(Value::Array(texts), expected[format!("{side}_tokens")], "{what} {side}");
        let found: Vec<f64> = list.iter().map(|t| t.score).collect();
        assert_close(&found, &numbers(&expected[format!("{side}_scores")]), REAL, what);
    }
}

fn check_real_tokens(model: &Model, expected: &Value) {
    for (phase, entries) in [("unembed", &expected["unembed"]), ("embed", &expected["embed"])] {
        for (key, scales) in entries.as_object().unwrap() {
            let (layer, feature): (usize, usize) =
                key.split_once('/').map(|(l, n)| (l.parse().unwrap(), n.parse().unwrap())).unwrap();
            let dictionary = neurons(model, layer);
            for (name, entry) in scales.as_object().unwrap().iter().filter(|(name, _)| *name != "cosine_gain_on_token") {
                let given = TokenOptions { features: Some(Ids::List(vec![feature as i64])), ..token_options(name) };
                let scores = match phase {
                    "unembed" => unembed(&dictionary, model, &given, &work()).unwrap(),
                    _ => embed(&dictionary, model, &given, &work()).unwrap(),
                };
                check_tokens(&scores, feature, entry, &format!("{phase} {key} {name}"));
            }
        }
    }
}

fn check_real_semantics(model: &Model, expected: &Value) {
    for entry in expected["semantics"].as_array().unwrap() {
        let number = |key: &str| entry[key].as_u64().unwrap() as usize;
        let (layer, feature) = (number("layer"), number("neuron"));
        let dictionary = neurons(model, layer);
        let given =
            TokenOptions { features: Some(Ids::List(vec![feature as i64])), mask_special: false, ..TokenOptions::default() };
        let scores = if entry["phase"] == "unembed" {
            unembed(&dictionary, model, &given, &work()).unwrap()
        } else {
            embed(&dictionary, model, &given, &work()).unwrap()
        };
        for (entropy, key) in [("standardised", "entropy"), ("sqrt_d", "entropy_sqrt_d")] {
            // Thresholds that are given spare the null's first draw; they do not touch the metrics.
            let thresholds = ["levenshtein", "cosine", "entropy"].map(|name| (name.to_string(), Given::Float(0.0)));
            let given: SemanticsOptions = options(&[
                ("entropy", Given::Text(entropy.into())),
                ("n_null", Given::Int(2)),
                ("thresholds", Given::Map(OptionMap::from(thresholds))),
            ]);
            let table = semantics(&scores, model, &given, &work()).unwrap().table().unwrap();
            for (side, suffix) in [("top", ""), ("bottom", "_bottom")] {
                for (metric, name) in [("levenshtein", "levenshtein"), ("cosine", "cosine"), ("entropy", key)] {
                    let got = floats(&table, &format!("{metric}{suffix}"))[0];
                    let expected = entry[side][name].as_f64().unwrap();
                    let what = format!("{} {layer}/{feature} {side} {name}", entry["phase"]);
                    assert!((got - expected).abs() <= REAL * expected.abs().max(0.01), "{what}: {got}, expected {expected}");
                }
            }
        }
    }
}

fn check_real_attention(model: &Model, expected: &Value) {
    for (name, entry) in expected["attention"].as_object().unwrap() {
        let given = &entry["options"];
        let mut map = vec![
            ("absolute", Given::Bool(given["absolute"].as_bool().unwrap())),
            ("distance", Given::List(ids(&given["distance"]).into_iter().map(Given::Int).collect())),
            ("temperature", Given::Text(given["temperature"].as_str().unwrap().into())),
        ];
        if let Some(qk_norm) = given["qk_norm"].as_str() {
            map.push(("qk_norm", Given::Text(qk_norm.into())));
        }
        let (layer, head) = (given["layer"].as_u64().unwrap() as usize, given["head"].as_u64().unwrap() as usize);
        let dictionary = neurons(model, layer - 1);
        let got: AttentionScores =
            attention_scores(&dictionary, &dictionary, model, layer, head, &options(&map), &work()).unwrap();
        assert!(given["qk_norm"] == "each" || got.warnings().is_empty(), "{name}: {:?}", got.warnings());
        check_side(&got.query.table(), &entry["query"], REAL, &format!("{name} query"));
        check_side(&got.key.table(), &entry["key"], REAL, &format!("{name} key"));
        check_summary(&got.summary(), &entry["summary"], REAL, name);
        check_pairs(&got.pairs(), ("query", "key"), &entry["pairs"], REAL, name);
        if !entry["qk_scalars"].is_null() {
            let record = got.query.table().provenance.get("qk_scalars").unwrap().clone();
            assert_close(&numbers(&record), &numbers(&entry["qk_scalars"]), REAL, "qk_scalars");
        }
        let corner = &entry["matrix"];
        map.push(("query_features", Given::List(ids(&corner["query_features"]).into_iter().map(Given::Int).collect())));
        map.push(("key_features", Given::List(ids(&corner["key_features"]).into_iter().map(Given::Int).collect())));
        let matrix = attention_matrix(&dictionary, &dictionary, model, layer, head, &options(&map), &work()).unwrap();
        assert_tensor(&matrix, &corner["scores"], REAL, name);
    }
}

fn check_real_ov(model: &Model, expected: &Value) {
    let ov = &expected["ov"];
    let number = |key: &str| ov[key].as_u64().unwrap() as usize;
    let (layer, head) = (number("layer"), number("head"));
    let (source, target) = (neurons(model, number("source_layer")), neurons(model, number("target_layer")));
    let writes = ov["ov_write"].as_array().unwrap();
    let features: Vec<i64> = writes.iter().map(|w| w["feature"].as_i64().unwrap()).collect();
    let given = OvWriteOptions { features: Some(Ids::List(features)), ..OvWriteOptions::default() };
    let written = ov_write(&source, model, layer, head, &given, &work()).unwrap();
    for (i, expected) in writes.iter().enumerate() {
        let row: Vec<f64> = written.row(i).unwrap().into_iter().map(f64::from).collect();
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert_close(&[norm], &numbers(&expected["norm"]), REAL, "norm of an OV write");
        assert_close(&row[..6], &numbers(&expected["first"]), REAL, "OV write");
    }
    for (scale, scale_name) in [(OvScale::Raw, "raw"), (OvScale::Cosine, "cosine")] {
        for (absolute, form) in [(false, "signed"), (true, "absolute")] {
            let name = format!("{scale_name}_{form}");
            let given = OvOptions { scale, absolute: Some(absolute), ..OvOptions::default() };
            let got = ov_scores(&source, &target, model, layer, head, &given, &work()).unwrap();
            check_side(&got.source.table(), &ov[&name]["source"], REAL, &format!("{name} source"));
            check_side(&got.target.table(), &ov[&name]["target"], REAL, &format!("{name} target"));
            check_summary(&got.summary(), &ov[&name]["summary"], REAL, &name);
            check_pairs(&got.pairs(), ("source", "target"), &ov[&name]["pairs"], REAL, &name);
            let features = ids(&ov["read_norm"]["feature"]);
            assert_close(&at(&got.target.table(), "strength", &features), &numbers(&ov["read_norm"]["norm"]), REAL, "‖read‖");
            assert_close(&at(&got.source.table(), "strength", &features), &numbers(&ov["write_norm"]["norm"]), REAL, "‖write‖");
        }
    }
}

fn check_real_copying(model: &Model, expected: &Value) {
    let expected = &expected["copying"];
    let layer = expected["layer"].as_u64().unwrap() as usize;
    let dictionary = neurons(model, layer - 1);
    let given = CopyingOptions { n_null: 500, ..CopyingOptions::default() };
    let features = copying(&dictionary, model, layer, &given, &work()).unwrap();
    let tokens = copying(&dictionary, model, layer, &CopyingOptions { tokens: true, ..given }, &work()).unwrap();
    let heads = expected["heads"].as_array().unwrap();
    let column = |name: &str| heads.iter().map(|h| h[name].as_f64().unwrap()).collect::<Vec<f64>>();
    for name in ["mean_cosine", "mean_gain", "eig_copying"] {
        assert_close(&floats(&features, name), &column(name), REAL, name);
    }
    assert_close(&floats(&tokens, "eig_copying"), &column("eig_tokens_final_gain"), REAL, "eig_copying of tokens");
    // Features are amplified about as much as directions with their second moment.
    assert!(floats(&features, "gain_rel").iter().all(|v| (0.5..2.0).contains(v)), "{:?}", floats(&features, "gain_rel"));
}

fn check_real(file: &str, numbers: &str) {
    let Some(path) = real(file) else { return };
    let (model, expected) = (model(&path), reference(numbers));
    check_real_tokens(&model, &expected);
    check_real_semantics(&model, &expected);
    check_real_attention(&model, &expected);
    check_real_ov(&model, &expected);
    check_real_copying(&model, &expected);
}

#[test]
fn smollm2_agrees_with_numpy() {
    check_real("smollm2-135m.gguf", "smollm2.json");
}

#[test]
fn gemma3_agrees_with_numpy() {
    check_real("gemma3-270m.gguf", "gemma3.json");
}

#[test]
fn several_dictionaries_in_one_pass_score_as_each_alone() {
    for name in ["tiny-llama", "tiny-gemma2"] {
        let model = model(&fixture(name));
        let dictionaries = [neurons(&model, 1), probes(normals(5, &[3, model.cfg().d_model])), neurons(&model, 0)];
        let options: TokenOptions = options(&[("k", Given::Int(3)), ("features", Given::Range(0, Some(3)))]);
        for phase in [Phase::Unembed, Phase::Embed] {
            let all = token_scores_of(phase, &dictionaries, &model, &options, &work()).unwrap();
            assert_eq!(all.len(), 3);
            for (dictionary, ours) in dictionaries.iter().zip(&all) {
                let alone = match phase {
                    Phase::Unembed => unembed(dictionary, &model, &options, &work()).unwrap(),
                    Phase::Embed => embed(dictionary, &model, &options, &work()).unwrap(),
                };
                let (ours, alone) = (ours.table().unwrap(), alone.table().unwrap());
                for column in ["feature", "mean", "std", "skewness", "kurtosis", "min", "max"] {
                    assert_close(&floats(&ours, column), &floats(&alone, column), TINY, column);
                }
                for column in ["top_ids", "bottom_ids", "top_tokens"] {
                    assert_eq!(format!("{:?}", ours.column(column).unwrap()), format!("{:?}", alone.column(column).unwrap()));
                }
            }
        }
        let none = token_scores_of(Phase::Embed, &[], &model, &options, &work()).unwrap_err();
        assert!(none.to_string().contains("a dictionary at least"), "{none}");
    }
}
