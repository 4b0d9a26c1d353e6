//! Weights that are NaN or infinite: they are named, and what is finite comes out as if they were not there.

use crate::support::{Heard, assert_close, fixture, numbers, reference, work};
use saerepl::analysis::{
    AttentionOptions, Base, ClosedOptions, Cut, MatchOptions, OriginOptions, Origins, ProductOptions, QkNorm, Scale,
    SemanticsOptions, TokenOptions, attention_matrix, attention_scores, match_features, origin_scores, product_moments,
    product_spectrum, product_stats, semantics, unembed,
};
use saerepl::dictionary::{self, Dictionary, DirectionsOptions};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::table::{Column, Table};
use saerepl::tensor::{Bytes, Tensor};
use saerepl::work::Work;
use serde_json::Value;

fn model(path: &str) -> Model {
    Model::load(path, &ModelOptions::default(), &work()).unwrap()
}

fn normals(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::randn(shape, seed, 0, &work()).unwrap()
}

fn probes(rows: &Tensor) -> Dictionary {
    dictionary::directions(rows, &DirectionsOptions::default()).unwrap()
}

fn with(tensor: &Tensor, index: usize, value: f32) -> Tensor {
    let mut out = tensor.clone();
    out.make_mut_f32()[index] = value;
    out
}

/// All rows of a matrix but one.
fn without_row(tensor: &Tensor, row: usize) -> Tensor {
    let (n, d) = tensor.matrix_shape("rows").unwrap();
    let mut data = tensor.to_f32();
    data.drain(row * d..(row + 1) * d);
    Tensor::from_f32(data, &[n - 1, d]).unwrap()
}

/// All values but that of one row.
fn others(mut values: Vec<f64>, row: usize) -> Vec<f64> {
    values.remove(row);
    values
}

fn floats(table: &Table, column: &str) -> Vec<f64> {
    table.column(column).unwrap().numbers().unwrap()
}

fn mean_std(scores: &[f64]) -> (f64, f64) {
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    (mean, (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / scores.len() as f64).sqrt())
}

fn dot(a: &[f64], b: &Tensor, col: usize) -> f64 {
    let (d, m) = b.matrix_shape("b").unwrap();
    let b = b.to_f64();
    (0..d).map(|k| a[k] * b[k * m + col]).sum()
}

#[test]
fn a_feature_spoils_no_head_with_query_and_key_norms() {
    let model = model(&fixture("tiny-gemma3"));
    let d = model.cfg().d_model;
    let rows = normals(41, &[9, d]);
    let clean = probes(&without_row(&rows, 6));
    let base = Base::Residual(normals(42, &[d]));
    for qk_norm in [QkNorm::Linear, QkNorm::Each] {
        let given = AttentionOptions { qk_norm, base: base.clone(), ..AttentionOptions::default() };
        let expected = attention_matrix(&clean, &clean, &model, 1, 1, &given, &work()).unwrap().to_f64();
        let bases = attention_scores(&clean, &clean, &model, 1, 1, &given, &work()).unwrap();
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let (heard, spoilt) = (Heard::default(), probes(&with(&rows, 6 * d + 3, value)));
            let got = attention_scores(&spoilt, &spoilt, &model, 1, 1, &given, &heard.work()).unwrap();
            assert!(heard.take().contains("at query features 6 (of 9); key features 6 (of 9)"));
            let table = got.query.table();
            let (means, stds): (Vec<f64>, Vec<f64>) = expected.chunks(8).map(mean_std).unzip();
            assert!(floats(&table, "mean")[6].is_nan());
            assert_close(&others(floats(&table, "mean"), 6), &means, 1e-5, "mean");
            assert_close(&others(floats(&table, "std"), 6), &stds, 1e-5, "std");
            for (got, expected) in [(table, bases.query.table()), (got.key.table(), bases.key.table())] {
                assert_close(&others(floats(&got, "base_score"), 6), &floats(&expected, "base_score"), 1e-5, "base_score");
            }
            // 8 × 8 scores are finite, and all that is said of all is said of these.
            let (mean, std) = mean_std(&expected);
            let all = got.summary();
            assert_eq!(all["n"], 64);
            assert_close(&[all["mean"].as_f64().unwrap(), all["std"].as_f64().unwrap()], &[mean, std], 1e-5, "summary");
        }
    }
}

#[test]
fn zscores_leave_columns_out_that_are_not_finite() {
    // Few rows take the product itself, many the covariance; column 10 is masked and not finite, column 7 only the latter.
    let (d, m) = (6, 31);
    let b = normals(45, &[d, m]);
    let spoilt = with(&with(&b, 2 * m + 7, f32::NAN), 3 * m + 10, f32::INFINITY);
    let mask: Vec<bool> = (0..m).map(|j| j.is_multiple_of(5)).collect();
    let unmasked: Vec<usize> = (0..m).filter(|j| !mask[*j] && *j != 7).collect();
    for n in [1, 40] {
        let (a, heard) = (normals(44, &[n, d]), Heard::default());
        for col_mask in [Some(mask.clone()), None] {
            let used: Vec<usize> = match &col_mask {
                Some(_) => unmasked.clone(),
                None => (0..m).filter(|j| *j != 7 && *j != 10).collect(),
            };
            let given = ProductOptions { scale: Scale::Zscore, col_mask, ..ProductOptions::default() };
            let stats = product_stats(&a, &spoilt, &given, &heard.work()).unwrap();
            let said = heard.take();
            let expected = format!("product_stats: {} scores are NaN or infinite and left out of the statistics", 2 * n);
            assert!(said.contains(&expected) && said.ends_with("infinite at columns 7, 10 (of 31)"), "{said}");
            assert_eq!(stats.summary()["n"], 29 * n);
            let rows = stats.rows.table();
            for (i, row) in a.to_f64().chunks(d).enumerate() {
                let (mean, std) = mean_std(&used.iter().map(|j| dot(row, &b, *j)).collect::<Vec<_>>());
                let finite: Vec<f64> = (0..m).filter(|j| *j != 7 && *j != 10).map(|j| (dot(row, &b, j) - mean) / std).collect();
                let (mean, std) = mean_std(&finite);
                let largest = finite.iter().copied().fold(f64::MIN, f64::max);
                let got = ["mean", "std", "max"].map(|name| floats(&rows, name)[i]);
                assert_close(&got, &[mean, std, largest], 1e-4, "moments of z-scores");
            }
        }
    }
    let nothing = Tensor::from_f32(vec![f32::NAN; 12], &[6, 2]).unwrap();
    let given = ProductOptions { scale: Scale::Zscore, ..ProductOptions::default() };
    let error = product_stats(&normals(44, &[1, d]), &nothing, &given, &work()).unwrap_err();
    assert!(error.message().contains("every column is masked or holds NaN"), "{}", error.message());
}

/// tiny-llama whose token 7 has no vector.
fn model_without_token_7(folder: &std::path::Path) -> Model {
    for file in std::fs::read_dir(fixture("tiny-llama")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let stored = safetensors::read(Bytes::map(&path).unwrap(), &path).unwrap();
    let mut tensors = TensorSet::default();
    for (name, tensor) in stored.iter() {
        let vectors = name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight");
        let width = tensor.shape().last().copied().unwrap();
        let dense = Tensor::from_f32(tensor.to_f32(), tensor.shape()).unwrap();
        tensors.insert(name, if vectors { with(&dense, 7 * width + 1, f32::NAN) } else { dense });
    }
    let bytes = safetensors::write(&tensors).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    model(&folder.display().to_string())
}

#[test]
fn a_token_without_a_vector_is_left_out_of_the_vocabulary_s_mean() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, spoilt) = (model(&fixture("tiny-llama")), model_without_token_7(folder.path()));
    let dictionary = probes(&normals(46, &[5, whole.cfg().d_model]));
    let plain = TokenOptions { mask_special: false, ..TokenOptions::default() };
    let raw = unembed(&dictionary, &whole, &plain, &work()).unwrap();
    let heard = Heard::default();
    for (scale, center) in [(Scale::Raw, true), (Scale::Zscore, false), (Scale::Zscore, true)] {
        let given = TokenOptions { scale, center, ..plain.clone() };
        let got = unembed(&dictionary, &spoilt, &given, &heard.work()).unwrap();
        let said = heard.take();
        assert!(said.contains("unembed: 5 scores are NaN") && said.contains("infinite at tokens 7 (of "), "{said}");
        for feature in 0..5 {
            let scores = others(raw.scores(feature, &work()).unwrap().to_f64(), 7);
            let (mean, std) = mean_std(&scores);
            let unit = if scale == Scale::Zscore { std } else { 1.0 };
            let expected: Vec<f64> = scores.iter().map(|s| (s - mean) / unit).collect();
            let got = others(got.scores(feature, &work()).unwrap().to_f64(), 7);
            assert_close(&got, &expected, 1e-5, "scores of the other tokens");
        }
    }
}

#[test]
fn semantics_leaves_out_a_feature_and_judges_the_others() {
    let model = model(&fixture("tiny-llama"));
    let d = model.cfg().d_model;
    let rows = normals(47, &[12, d]);
    let given = SemanticsOptions { n_null: 200, fpr: 0.2, ..SemanticsOptions::default() };
    for scale in [Scale::Raw, Scale::Zscore] {
        let judge = |dictionary: &Dictionary, work: &Work| {
            let tokens = TokenOptions { scale, ..TokenOptions::default() };
            semantics(&unembed(dictionary, &model, &tokens, work).unwrap(), &model, &given, work).unwrap()
        };
        let expected = judge(&probes(&without_row(&rows, 3)), &work());
        for value in [f32::NAN, f32::INFINITY] {
            let heard = Heard::default();
            let got = judge(&probes(&with(&rows, 3 * d, value)), &heard.work());
            let said = heard.take();
            let note = said.lines().find(|line| line.contains("semantics:")).unwrap();
            assert!(note.contains("infinite at features 3 (of 12)"), "{said}");
            // The null is drawn from the other features, by the same numbers.
            assert_eq!((got.thresholds(), got.null_share()), (expected.thresholds(), expected.null_share()));
            let (table, wanted) = (got.table().unwrap(), expected.table().unwrap());
            for name in ["levenshtein", "cosine", "entropy", "list_mass"] {
                assert!(floats(&table, name)[3].is_nan(), "{name}");
                assert_close(&others(floats(&table, name), 3), &floats(&wanted, name), 1e-6, name);
            }
            let mut mask = got.mask().to_vec();
            assert!(!mask.remove(3));
            assert_eq!(mask, expected.mask());
            assert!(mask.contains(&true), "the case has a semantic feature");
        }
    }
}

fn matrix(value: &Value) -> Tensor {
    let (rows, data) = (value.as_array().unwrap().len(), numbers(value));
    Tensor::from_f32(data.iter().map(|v| *v as f32).collect(), &[rows, data.len() / rows]).unwrap()
}

#[test]
fn closed_forms_agree_with_numpy_and_leave_out_what_is_not_finite() {
    let expected = reference("closed.json");
    let (a, b) = (matrix(&expected["a"]), matrix(&expected["b"]));
    let (d, m, broken) = (16, 50, expected["broken"].as_u64().unwrap() as usize);
    let gain = Tensor::vector(numbers(&expected["row_gain"]).iter().map(|v| *v as f32).collect());
    let spoilt_a = with(&a, 4 * d + 2, f32::NAN);
    let spoilt_b = with(&b, 3 * m + broken, f32::INFINITY);
    for (name, row_gain) in [("plain", None), ("gain", Some(gain))] {
        let (options, expected) = (ClosedOptions { row_gain }, &expected[name]);
        // Three rows stream the product, thirty take the covariance.
        for n in [3, 30] {
            let (head, heard) = (|t: &Tensor| t.narrow(0, 0..n).unwrap(), Heard::default());
            let check = |table: &Table, expected: &Value, rows: &dyn Fn(usize) -> bool| {
                for column in ["mean", "std"] {
                    let pick = |values: Vec<f64>| (0..n).filter(|i| rows(*i)).map(|i| values[i]).collect::<Vec<f64>>();
                    let (got, wanted) = (pick(floats(table, column)), pick(numbers(&expected[column])));
                    assert_close(&got, &wanted, 1e-6, &format!("{name} {column} of {n} rows"));
                }
            };
            check(&product_moments(&head(&a), &b, &options, &heard.work()).unwrap(), expected, &|_| true);
            assert_eq!(heard.take(), "");
            check(&product_moments(&head(&a), &spoilt_b, &options, &heard.work()).unwrap(), &expected["without"], &|_| true);
            let said = heard.take();
            assert!(said.contains(&format!("product_moments: {n} scores are NaN or infinite")), "{said}");
            assert!(said.ends_with("at columns 9 (of 50)"), "{said}");
        }
        let heard = Heard::default();
        let table = product_moments(&spoilt_a, &spoilt_b, &options, &heard.work()).unwrap();
        assert!(floats(&table, "mean")[4].is_nan() && floats(&table, "std")[4].is_nan());
        for column in ["mean", "std"] {
            let wanted = others(numbers(&expected["without"][column]), 4);
            assert_close(&others(floats(&table, column), 4), &wanted, 1e-6, column);
        }
        let said = heard.take();
        assert!(said.contains("product_moments: 79 scores") && said.ends_with("at rows 4 (of 30); columns 9 (of 50)"), "{said}");

        let singular = product_spectrum(&a, &b, &options, &work()).unwrap().to_f64();
        assert_close(&singular, &numbers(&expected["singular"]), 1e-6, "singular values");
        let refused = |a: &Tensor, b: &Tensor| product_spectrum(a, b, &options, &work()).unwrap_err().message().to_string();
        assert_eq!(refused(&spoilt_a, &b), "product_spectrum: row 4 holds NaN or infinite numbers (1 of 30 rows do)");
        assert_eq!(refused(&a, &spoilt_b), "product_spectrum: column 9 holds NaN or infinite numbers (1 of 50 columns do)");
    }
    let wrong = product_moments(&b, &a, &ClosedOptions::default(), &work()).unwrap_err();
    assert!(wrong.message().contains("[16, 50] and [30, 16]"), "{}", wrong.message());
}

#[test]
fn without_a_finite_score_there_is_no_histogram() {
    let (a, b) = (Tensor::from_f32(vec![f32::NAN; 12], &[2, 6]).unwrap(), normals(45, &[6, 31]));
    let stats = product_stats(&a, &b, &ProductOptions::default(), &work()).unwrap();
    let error = stats.histogram(10, &work()).unwrap_err();
    assert_eq!(error.message(), "there is no finite score, so there is no histogram of the scores");
}

#[test]
fn matches_name_the_features_that_have_none() {
    let model = model(&fixture("tiny-llama"));
    let d = model.cfg().d_model;
    let (sources, targets) = (normals(48, &[9, d]), normals(49, &[11, d]));
    let spoilt = |rows: &Tensor, row: usize| probes(&with(rows, row * d + 1, f32::NAN));
    let heard = Heard::default();
    let given = MatchOptions { k: 2, ..MatchOptions::default() };
    let table = match_features(&spoilt(&sources, 7), &spoilt(&targets, 5), &model, &given, &heard.work()).unwrap();
    let said = heard.take();
    assert!(
        said.contains("match_features: 19 scores are NaN")
            && said.contains("source features 7 (of 9); target features 5 (of 11)"),
        "{said}"
    );
    // The two highest cosines of every other source, by plain loops.
    let (left, right) = (sources.to_f64(), targets.to_f64());
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut expected = Vec::new();
    for (i, x) in left.chunks(d).enumerate().filter(|(i, _)| *i != 7) {
        let cosine = |y: &[f64]| product(x, y) / (product(x, x) * product(y, y)).sqrt();
        let mut cosines: Vec<(usize, f64)> = right.chunks(d).map(cosine).enumerate().filter(|(j, _)| *j != 5).collect();
        cosines.sort_by(|x, y| y.1.total_cmp(&x.1));
        expected.extend(cosines[..2].iter().map(|(j, cosine)| (i as f64, *j as f64, *cosine)));
    }
    assert_eq!(floats(&table, "source"), expected.iter().map(|e| e.0).collect::<Vec<_>>());
    assert_eq!(floats(&table, "target"), expected.iter().map(|e| e.1).collect::<Vec<_>>());
    assert_close(&floats(&table, "cosine"), &expected.iter().map(|e| e.2).collect::<Vec<_>>(), 1e-6, "cosines");

    let origins = Origins { res: Some(spoilt(&targets, 5)), ..Origins::default() };
    let given = OriginOptions { cut: Cut::At(0.1), ..OriginOptions::default() };
    let table = origin_scores(&spoilt(&sources, 7), &origins, &model, &given, &heard.work()).unwrap();
    let said = heard.take();
    assert!(said.contains("origin_scores: 19 scores are NaN") && said.contains("features 7 (of 9); res 5 (of 11)"), "{said}");
    assert!(floats(&table, "s_res")[7].is_nan());
    let Column::Text(groups) = table.column("group").unwrap() else { panic!() };
    assert_eq!(groups[7], "nowhere");
}
