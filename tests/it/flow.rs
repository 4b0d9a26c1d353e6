//! Matches between dictionaries, origins of features, shares of heads: against NumPy, and against what must hold.

use crate::made_files::{Place, wide_headed};
#[cfg(target_os = "linux")]
use crate::support::resident;
use crate::support::{assert_close, assert_tensor, fixture, numbers, real, reference, work};
use saerepl::analysis::{
    AttributionOptions, AttributionSpace, Cut, MatchBy, MatchOptions, OriginOptions, Origins, TokenOptions, head_attribution,
    match_features, origin_scores, unembed,
};
use saerepl::dictionary::{
    self, Activation, Dictionary, DirectionsOptions, RandomOptions, SaeOptions, SaeParts, load_sae, mlp_neurons,
    random_directions,
};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::Ids;
use saerepl::table::{Column, Table};
use saerepl::tensor::Tensor;
use serde_json::{Map, Value};

fn model(name: &str) -> Model {
    Model::load(name, &ModelOptions::default(), &work()).unwrap()
}

fn demo_sae(path: &str) -> Dictionary {
    load_sae("demo", Some(&format!("saes/blocks.{path}")), &SaeOptions::default(), &work()).unwrap()
}

fn matrix(value: &Value) -> Tensor {
    let (rows, data) = (value.as_array().unwrap().len(), numbers(value));
    Tensor::from_f32(data.iter().map(|v| *v as f32).collect(), &[rows, data.len() / rows]).unwrap()
}

fn rows(write: &Value, read: Option<&Value>) -> Dictionary {
    let options = DirectionsOptions { read: read.map(matrix), ..DirectionsOptions::default() };
    dictionary::directions(&matrix(write), &options).unwrap()
}

fn floats(table: &Table, column: &str) -> Vec<f64> {
    table.column(column).unwrap().numbers().unwrap()
}

fn texts(table: &Table, column: &str) -> Vec<String> {
    let Column::Text(texts) = table.column(column).unwrap() else { panic!("{column} holds no text") };
    texts.to_vec()
}

#[track_caller]
fn check(table: &Table, expected: &Value, what: &str) {
    for (i, name) in ["source", "target", "rank"].iter().enumerate() {
        let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|row| row[i].as_f64().unwrap()).collect();
        assert_eq!(floats(table, name), expected, "{what}: {name}");
    }
    let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|row| row[3].as_f64().unwrap()).collect();
    assert_close(&floats(table, "cosine"), &expected, 2e-6, what);
}

/// A dictionary in z of tiny-gemma2's layer.
fn in_z(expected: &Value) -> Dictionary {
    let w_dec = matrix(&expected["z"]);
    let (n, d) = w_dec.matrix_shape("z").unwrap();
    Dictionary::from_parts(SaeParts {
        name: "z".into(),
        hook: format!("blocks.{}.attn.hook_z", expected["layer"]),
        activation: Activation::Relu,
        w_enc: w_dec.t(),
        w_dec,
        b_enc: Tensor::vector(vec![0.0; n]),
        b_dec: Tensor::vector(vec![0.0; d]),
        threshold: None,
        subtract_b_dec: false,
        metadata: Map::new(),
    })
    .unwrap()
}

#[test]
fn matches_agree_with_numpy() {
    let everything = reference("flow.json");
    let expected = &everything["tiny-gemma2"];
    let model = model(&fixture("tiny-gemma2"));
    let (target, res) = (rows(&expected["target"], None), rows(&expected["res"], Some(&expected["res_read"])));
    let find = |b: &Dictionary, by, k, absolute, features: Option<Vec<i64>>| {
        let options = MatchOptions { k, by, absolute: Some(absolute), features: features.map(Ids::List) };
        match_features(&target, b, &model, &options, &work()).unwrap()
    };
    check(&find(&res, MatchBy::Write, 3, false, None), &expected["write_3"], "write");
    check(&find(&res, MatchBy::Write, 2, true, None), &expected["write_absolute_2"], "absolute");
    check(&find(&res, MatchBy::Write, 99, true, Some(vec![2])), &expected["write_absolute_all"], "every match of one");
    check(&find(&res, MatchBy::WriteRead, 2, false, None), &expected["write_read_2"], "write to read");
    check(&find(&res, MatchBy::Read, 1, false, None), &expected["read_1"], "read");
    check(&find(&in_z(expected), MatchBy::Write, 2, false, None), &expected["with_z_2"], "z through W_O and the post-norm");
    let none = MatchOptions { k: 0, ..MatchOptions::default() };
    assert!(match_features(&target, &res, &model, &none, &work()).unwrap_err().message().contains("`k`"));
}

#[test]
fn what_a_layer_norm_lets_through_is_matched() {
    let expected = &reference("flow.json")["gpt2"];
    let model = model(&fixture("forward/gpt2"));
    let (a, b) = (mlp_neurons(&model, 0).unwrap(), mlp_neurons(&model, 1).unwrap());
    for (by, name) in [(MatchBy::Read, "read_2"), (MatchBy::WriteRead, "write_read_2")] {
        let options = MatchOptions { k: 2, by, ..MatchOptions::default() };
        check(&match_features(&a, &b, &model, &options, &work()).unwrap(), &expected[name], name);
    }
}

#[test]
fn real_models_match_as_in_numpy() {
    for file in ["smollm2-135m.gguf", "gemma3-270m.gguf"] {
        let Some(path) = real(file) else { continue };
        let (model, expected) = (model(&path), &reference("flow.json")[file]);
        let layer = expected["layer"].as_u64().unwrap() as usize;
        let (a, b) = (mlp_neurons(&model, layer).unwrap(), mlp_neurons(&model, layer + 1).unwrap());
        let sources = expected["sources"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
        for (by, name) in [(MatchBy::Write, "write_absolute_3"), (MatchBy::WriteRead, "write_read_absolute_3")] {
            // Gated neurons are signed: |cosine| is the default.
            let options = MatchOptions { k: 3, by, features: Some(Ids::List(Vec::clone(&sources))), ..MatchOptions::default() };
            check(&match_features(&a, &b, &model, &options, &work()).unwrap(), &expected[name], &format!("{file} {name}"));
        }
    }
}

#[test]
fn a_dictionary_is_its_own_best_match_and_a_shuffled_one_is_found_again() {
    let model = model("demo");
    let sae = demo_sae("2.hook_resid_post");
    let order: Vec<usize> = (0..sae.n()).map(|i| i * 5 % sae.n()).collect();
    let shuffled = dictionary::directions(&sae.select(&order, &work()).unwrap().w_dec(), &DirectionsOptions::default()).unwrap();
    let found = match_features(&shuffled, &sae, &model, &MatchOptions::default(), &work()).unwrap();
    assert_eq!(floats(&found, "target"), order.iter().map(|id| *id as f64).collect::<Vec<_>>());
    assert!(floats(&found, "cosine").iter().all(|cosine| (cosine - 1.0).abs() < 1e-5));
}

#[test]
fn origins_agree_with_numpy() {
    let everything = reference("flow.json");
    let expected = &everything["tiny-gemma2"];
    let model = model(&fixture("tiny-gemma2"));
    let layer = expected["layer"].as_u64().unwrap() as usize;
    let origins = Origins {
        res: Some(rows(&expected["res"], None)),
        mlp: Some(mlp_neurons(&model, layer).unwrap()),
        att: Some(in_z(expected)),
    };
    let target = rows(&expected["target"], None);
    let expected = &expected["origins"];
    let options = OriginOptions { cut: Cut::At(expected["cut"].as_f64().unwrap()), ..OriginOptions::default() };
    let found = origin_scores(&target, &origins, &model, &options, &work()).unwrap();
    for name in ["res", "mlp", "att"] {
        let (id, score) = (format!("id_{name}"), format!("s_{name}"));
        assert_eq!(floats(&found, &id), numbers(&expected[&id]), "{id}");
        assert_close(&floats(&found, &score), &numbers(&expected[&score]), 2e-6, &score);
    }
    let groups: Vec<&str> = expected["group"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(texts(&found, "group"), groups);
    let one = Origins { mlp: origins.mlp.clone(), ..Origins::default() };
    let found = origin_scores(&target, &one, &model, &options, &work()).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), ["feature", "s_mlp", "id_mlp", "group"]);
    assert!(origin_scores(&target, &Origins::default(), &model, &options, &work()).is_err());
}

/// The cut is set by one draw of random directions; another draw reaches it as often as it was asked to.
#[test]
fn random_directions_come_from_nowhere() {
    let model = model("demo");
    let target = demo_sae("2.hook_resid_post");
    let origins = Origins { res: Some(demo_sae("1.hook_resid_post")), ..Origins::default() };
    let options = OriginOptions { fpr: 0.05, seed: Some(1), ..OriginOptions::default() };
    let share = |dictionary: &Dictionary| {
        let found = texts(&origin_scores(dictionary, &origins, &model, &options, &work()).unwrap(), "group");
        found.iter().filter(|group| *group == "RES").count() as f64 / found.len() as f64
    };
    let random = RandomOptions { n: Some(4000), seed: Some(2), ..RandomOptions::default() };
    let fresh = share(&random_directions(&target, Some(&model), &random, &work()).unwrap());
    assert!((0.05 / 1.5..0.05 * 1.5).contains(&fresh), "{fresh}");
    assert!(share(&target) > 4.0 * fresh, "features of a residual stream were there a layer before: {}", share(&target));
}

#[test]
fn shares_of_heads_agree_with_numpy() {
    let everything = reference("flow.json");
    let expected = &everything["tiny-gemma2"];
    let (model, z) = (model(&fixture("tiny-gemma2")), in_z(expected));
    for (space, name) in [(AttributionSpace::Z, "z"), (AttributionSpace::Residual, "residual")] {
        let options = AttributionOptions { space, ..AttributionOptions::default() };
        let shares = head_attribution(&z, &model, &options, &work()).unwrap();
        assert_tensor(&shares, &expected["head_attribution"][name], 1e-6, name);
    }
    let neurons = mlp_neurons(&model, 1).unwrap();
    let error = head_attribution(&neurons, &model, &AttributionOptions::default(), &work()).unwrap_err();
    assert!(error.message().contains("mlp_post"), "{error}");
    let demo = self::model("demo");
    let shares = head_attribution(&demo_sae("1.attn.hook_z"), &demo, &AttributionOptions::default(), &work()).unwrap();
    for row in shares.to_f64().chunks(demo.cfg().n_heads) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn directions_behind_a_gain_take_no_memory_of_their_own() {
    let place = Place::new();
    let folder = wide_headed(&place);
    // A copy would take 146 MiB.
    let values = "let model = load_model(\".\");\nlet few = directions(randn([8, 16]));\n\
                  let d = directions(randn([2400000, 16]), #{ site: \"ln2_normalized\", layer: 0 });\n";
    let peak = |call: &str| resident(&folder, &format!("{values}{call};")).0;
    let taken = peak("match_features(few, d, model, #{ by: \"read\" })") - peak("");
    eprintln!("match_features: {taken} MiB");
    assert!(taken <= 144, "match_features: {taken} MiB");
}

#[test]
fn directions_in_a_file_score_as_those_in_memory() {
    let place = Place::new();
    let model = Model::load(&wide_headed(&place), &ModelOptions::default(), &work()).unwrap();
    // 67 MiB lie in a file, either half of them in memory.
    let n = 1_100_000;
    let d = dictionary::directions(&Tensor::randn(&[n, 16], 9, 0, &work()).unwrap(), &DirectionsOptions::default()).unwrap();
    let through = Tensor::randn(&[16, 16], 10, 0, &work()).unwrap();
    let run = |features| {
        let options = TokenOptions { k: 0, features, through: Some(through.clone()), ..TokenOptions::default() };
        unembed(&d, &model, &options, &work()).unwrap().table().unwrap()
    };
    let (whole, half) = (run(None), (n / 2) as i64);
    let halves = [run(Some(Ids::Range(0, Some(half)))), run(Some(Ids::Range(half, None)))];
    for column in ["feature", "mean", "std", "max"] {
        assert!(floats(&whole, column) == halves.each_ref().map(|half| floats(half, column)).concat(), "{column}");
    }
}

#[test]
fn tokens_are_matched_by_their_directions_behind_the_norm() {
    let model = model(&fixture("tiny-gemma2"));
    let tokens = || dictionary::token_basis(&model, dictionary::Basis::Unembed, &work()).unwrap();
    let dense = tokens().write(&model, &work()).unwrap().dense(None, &work()).unwrap();
    let plain = dictionary::directions(&dense, &DirectionsOptions::default()).unwrap();
    let d = model.cfg().d_model;
    let few = dictionary::directions(&Tensor::randn(&[3, d], 11, 0, &work()).unwrap(), &DirectionsOptions::default()).unwrap();
    let options = MatchOptions { k: 5, ..MatchOptions::default() };
    let find = |b: &Dictionary| match_features(&few, b, &model, &options, &work()).unwrap();
    let expected = find(&plain);
    // The second time the norms are known.
    for found in [find(&tokens()), find(&tokens())] {
        for column in ["source", "target", "cosine"] {
            assert_eq!(floats(&found, column), floats(&expected, column), "{column}");
        }
    }
    // What is known belongs to the dictionary.
    assert_eq!(tokens().address(), tokens().address());
}
