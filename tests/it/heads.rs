//! What attention heads make of directions, where that is easily made wrong: scales that differ by layer, weights that are
//! NaN, dictionaries so wide that memory and interruptions count.

use crate::made_files::{Place, wide_headed};
#[cfg(target_os = "linux")]
use crate::support::resident;
use crate::support::{Heard, assert_close, fixture, work};
use saerepl::analysis::{
    AttentionOptions, CopyingOptions, Distances, OvOptions, attention_matrix, attention_scores, attention_vectors, copying,
    ov_scores,
};
use saerepl::dictionary::{self, Dictionary, DirectionsOptions};
use saerepl::formats::safetensors;
use saerepl::model::{Model, ModelOptions};
use saerepl::options::Ids;
use saerepl::table::Table;
use saerepl::tensor::{Bytes, Tensor};

fn model(name: &str) -> Model {
    Model::load(&fixture(name), &ModelOptions::default(), &work()).unwrap()
}

fn normals(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::randn(shape, seed, 0, &work()).unwrap()
}

fn probes(rows: &Tensor) -> Dictionary {
    dictionary::directions(rows, &DirectionsOptions::default()).unwrap()
}

fn floats(table: &Table, column: &str) -> Vec<f64> {
    table.column(column).unwrap().numbers().unwrap()
}

/// With these rows multiplied by a number.
fn spoilt(rows: &Tensor, which: impl Fn(usize) -> bool, by: f32) -> Tensor {
    let d = rows.shape()[1];
    let mut out = rows.clone();
    for (_, row) in out.make_mut_f32().chunks_mut(d).enumerate().filter(|(i, _)| which(*i)) {
        row.iter_mut().for_each(|v| *v *= by);
    }
    out
}

fn those(rows: &Tensor, which: impl Fn(usize) -> bool) -> Tensor {
    let d = rows.shape()[1];
    let kept: Vec<f32> =
        rows.to_f32().chunks(d).enumerate().filter(|(i, _)| which(*i)).flat_map(|(_, row)| row.to_vec()).collect();
    Tensor::from_f32(kept.clone(), &[kept.len() / d, d]).unwrap()
}

#[test]
fn scores_of_gpt_2_are_divided_by_the_number_of_the_layer() {
    let model = model("forward/gpt2_by_layer");
    let path = std::path::PathBuf::from(fixture("forward/gpt2_by_layer/model.safetensors"));
    let file = safetensors::read(Bytes::map(&path).unwrap(), &path).unwrap();
    let (d, d_head, head) = (model.cfg().d_model, model.cfg().d_head, 1);
    let rows = normals(1, &[5, d]);
    let (queries, keys) = (probes(&rows.narrow(0, 0..2).unwrap()), probes(&rows));
    for layer in 0..model.cfg().n_layers {
        let stored = |name: &str| {
            let name = format!("h.{layer}.{name}");
            file.get(&name).or_else(|_| file.get(&format!("transformer.{name}"))).unwrap().to_f64()
        };
        let (gain, fused) = (stored("ln_1.weight"), stored("attn.c_attn.weight"));
        // `[d, 3d]`: queries, keys, values, each head by head.
        let vector = |row: &[f64], part: usize| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / d as f64;
            let centred: Vec<f64> = row.iter().map(|v| v - mean).collect();
            let scale = (d as f64).sqrt() / centred.iter().map(|v| v * v).sum::<f64>().sqrt();
            let column = |c: usize| (0..d).map(|i| scale * gain[i] * centred[i] * fused[i * 3 * d + c]).sum();
            (0..d_head).map(|c| column(part * d + head * d_head + c)).collect()
        };
        let rows = rows.to_f64();
        let scale = 1.0 / ((d_head as f64).sqrt() * (layer + 1) as f64);
        let mut expected = Vec::new();
        for query in rows.chunks(d).take(2) {
            for key in rows.chunks(d) {
                expected.push(scale * vector(query, 0).iter().zip(vector(key, 1)).map(|(q, k)| q * k).sum::<f64>());
            }
        }
        let options = AttentionOptions::default();
        let got = attention_matrix(&queries, &keys, &model, layer, head, &options, &work()).unwrap();
        assert_close(&got.to_f64(), &expected, 1e-5, &format!("attention_matrix of layer {layer}"));
        let (q, k) = attention_vectors(&queries, &keys, &model, layer, head, &options, &work()).unwrap();
        let (q, k) = (q.to_f64(), k.to_f64());
        let dot = |q: &[f64], k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
        let got: Vec<f64> = q.chunks(d_head).flat_map(|q| k.chunks(d_head).map(move |k| dot(q, k))).collect();
        assert_close(&got, &expected, 1e-5, &format!("attention_vectors of layer {layer}"));
    }
}

#[test]
fn keys_that_are_nan_change_nothing_after_the_softmax() {
    let model = model("tiny-llama");
    let d = model.cfg().d_model;
    let queries = probes(&spoilt(&normals(2, &[7, d]), |i| i == 0, 0.0));
    let keys = normals(3, &[40, d]);
    let good = |i: usize| !i.is_multiple_of(4);
    let run =
        |keys: &Tensor| attention_scores(&queries, &probes(keys), &model, 1, 2, &AttentionOptions::default(), &work()).unwrap();
    let (clean, broken) = (run(&those(&keys, good)), run(&spoilt(&keys, |i| !good(i), f32::NAN)));
    let deficits = floats(&broken.query.table(), "entropy_deficit");
    // A query of zeros spreads its weight evenly over the keys that are numbers.
    assert!(deficits[0].abs() < 1e-6, "{}", deficits[0]);
    assert_close(&deficits, &floats(&clean.query.table(), "entropy_deficit"), 1e-6, "entropy_deficit");
    let shares = floats(&broken.key.table(), "mean_weight_rel");
    let (shares, none): (Vec<_>, Vec<_>) = shares.into_iter().enumerate().partition(|(i, _)| good(*i));
    assert!(none.iter().all(|(_, share)| share.is_nan()));
    let shares: Vec<f64> = shares.into_iter().map(|(_, share)| share).collect();
    // All of the weight goes to them: the mean share is that of uniform attention.
    assert!((shares.iter().sum::<f64>() / shares.len() as f64 - 1.0).abs() < 1e-5, "{shares:?}");
    assert_close(&shares, &floats(&clean.key.table(), "mean_weight_rel"), 1e-5, "mean_weight_rel");
}

#[test]
fn features_that_are_nan_have_no_strength_and_are_named() {
    let model = model("tiny-llama");
    let d = model.cfg().d_model;
    let rows = normals(4, &[9, d]);
    for value in [f32::NAN, f32::INFINITY] {
        let broken = spoilt(&rows, |i| i == 3 || i == 5, value);
        let scores = ov_scores(&probes(&broken), &probes(&rows), &model, 0, 1, &OvOptions::default(), &work()).unwrap();
        let strengths = floats(&scores.source.table(), "strength");
        for (i, strength) in strengths.iter().enumerate() {
            assert_eq!(strength.is_finite(), i != 3 && i != 5, "strength {strength} of feature {i}");
        }
        let heard = Heard::default();
        let options = CopyingOptions { n_null: 50, ..CopyingOptions::default() };
        let got = copying(&probes(&broken), &model, 0, &options, &heard.work()).unwrap();
        let said = heard.take();
        assert!(said.contains("copying: 2 features are left out of the means"), "{said}");
        assert!(said.contains("NaN or infinite: features 3, 5 (of 9)"), "{said}");
        let clean = copying(&probes(&those(&rows, |i| i != 3 && i != 5)), &model, 0, &options, &heard.work()).unwrap();
        assert_eq!(heard.take(), "");
        for column in ["mean_cosine", "mean_gain"] {
            assert_close(&floats(&got, column), &floats(&clean, column), 1e-6, column);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wide_head_takes_the_memory_that_it_announces() {
    let place = Place::new();
    let folder = wide_headed(&place);
    let values = "let model = load_model(\".\");\nlet d = directions(randn([200000, 16]), #{ layer: 0 });\n\
                  let l = directions(randn([200000, 16]), #{ layer: 1 });\n";
    let (before, _) = resident(&folder, values);
    // Head vectors of 195 MiB a side, which lie in a file. Few queries, so that the product is soon made; each is read for the
    // scalar of the norm. The last call takes as much as its pairs.
    for call in [
        "attention_scores(d, l, model, 1, 0, #{ query_features: 0..8, softmax: false })",
        "attention_scores(d, l, model, 1, 0, #{ distance: [1, 5], average: false, query_features: 0..8 })",
        "ov_scores(l, d, model, 0, 0, #{ source_features: 0..8 })",
        "attention_scores(d, l, model, 1, 0, #{ query_features: 0..20, top_pairs: 4000000 })",
    ] {
        let (peak, said) = resident(&folder, &format!("{values}{call};"));
        let taken = peak - before;
        let announced =
            said.split(" MiB beside the weights").next().and_then(|text| text.rsplit(' ').next()?.parse::<u64>().ok());
        eprintln!("{call}: {taken} MiB taken, {announced:?} announced");
        match announced {
            Some(announced) => assert!(taken <= announced + 16 && 2 * taken >= announced, "{call}: {taken} MiB, not {announced}"),
            None => assert!(taken <= 256, "{call}: {taken} MiB taken, but not announced"),
        }
        assert_eq!(announced.is_some(), call.contains("top_pairs"), "{call}: {said}");
    }
}

#[test]
fn head_vectors_in_a_file_are_those_in_memory() {
    let place = Place::new();
    let model = Model::load(&wide_headed(&place), &ModelOptions::default(), &work()).unwrap();
    // 68 MiB of keys are kept in a file, either half of them in memory.
    let n = 70_000;
    let (few, many) = (probes(&normals(7, &[8, 16])), probes(&normals(8, &[n, 16])));
    let halves = || [(0, n / 2), (n / 2, n)].map(|(a, b)| Some(Ids::Range(a as i64, Some(b as i64))));
    let same = |call: &str, groups: usize, whole: Table, halves: Vec<Table>| {
        for column in ["feature", "strength", "mean", "std", "median", "max"] {
            let whole = floats(&whole, column);
            let halves: Vec<Vec<f64>> = halves.iter().map(|half| floats(half, column)).collect();
            let of_group = |i: usize| halves.iter().flat_map(move |half| half.chunks(n / 2).nth(i).unwrap().to_vec());
            let halves: Vec<f64> = (0..groups).flat_map(of_group).collect();
            assert!(whole.len() == groups * n && whole.iter().zip(&halves).all(|(a, b)| a == b), "{call}: {column}");
        }
    };
    for (distance, average) in [(vec![0], true), (vec![5], true), (vec![1, 5], false)] {
        let run = |key_features| {
            let distance = Distances(distance.clone());
            let options = AttentionOptions { distance, average, key_features, softmax: false, ..AttentionOptions::default() };
            attention_scores(&few, &many, &model, 1, 0, &options, &work()).unwrap().key.table()
        };
        let groups = if average { 1 } else { distance.len() };
        same(&format!("attention_scores {distance:?}"), groups, run(None), halves().map(run).into());
    }
    let run = |target_features| {
        let options = OvOptions { target_features, ..OvOptions::default() };
        ov_scores(&few, &many, &model, 0, 0, &options, &work()).unwrap().target.table()
    };
    same("ov_scores", 1, run(None), halves().map(run).into());
}

#[test]
fn a_head_that_does_not_fit_into_memory_is_refused_before_it_is_made() {
    // Under a softcap every distance is an operand of its own.
    let model = model("tiny-gemma2");
    let layer = (0..model.cfg().n_layers).find(|layer| model.window(*layer).unwrap().is_none()).unwrap();
    let d = probes(&normals(6, &[200_000, model.cfg().d_model]));
    let options = AttentionOptions { distance: Distances((0..1_000_000).collect()), ..AttentionOptions::default() };
    let error = attention_scores(&d, &d, &model, layer, 0, &options, &work()).unwrap_err();
    // 200 000 queries, and keys once unturned and once a distance, of 8 numbers each.
    let mebibytes = 200_000u64 * (8 * 4 + 8) * (1 + 1 + 1_000_000) / (1 << 20);
    let message = error.message();
    let said = message.split(" takes ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse::<u64>().unwrap();
    assert!(message.contains(&format!("attention {layer}.0 takes")) && message.ends_with("MiB are free"), "{message}");
    assert!(said.abs_diff(mebibytes) < mebibytes / 4, "{message}, expected {mebibytes}");
}
