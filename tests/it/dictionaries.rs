//! Dictionaries against independent readings of the same files (tests/reference, made by NumPy), and against their formulas
//! written out in f64.

use crate::support::{assert_close, assert_tensor, fixture, numbers, reference, work};
use saerepl::dictionary::{
    Activation, Basis, Dictionary, DirectionsOptions, RandomKind, RandomOptions, SaeOptions, Site, directions, list_saes,
    load_sae, mlp_neurons, random_directions, token_basis,
};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::{Ids, OptionMap, Options, Value};
use saerepl::provenance::Provenance;
use saerepl::table::{Cell, Table};
use saerepl::tensor::Tensor;
use saerepl::work::Work;
use serde_json::{Value as Json, json};

fn model(name: &str) -> Model {
    Model::load(&fixture(name), &ModelOptions::default(), &work()).unwrap()
}

fn sae(name: &str) -> Dictionary {
    load_sae(&fixture(name), None, &SaeOptions::default(), &work()).unwrap()
}

fn refusal(name: &str, path: Option<&str>, options: &SaeOptions) -> saerepl::Error {
    load_sae(name, path, options, &work()).unwrap_err()
}

/// Small random tensors; only their being different matters.
fn made(shape: &[usize], stream: u64) -> Tensor {
    Tensor::randn(shape, 5, stream, &work()).unwrap()
}

/// `rows @ matrix` in f64, written out.
fn product(a: &[f64], b: &[f64], (n, d, m): (usize, usize, usize)) -> Vec<f64> {
    let cell = |i: usize, j: usize| (0..d).map(|k| a[i * d + k] * b[k * m + j]).sum::<f64>();
    (0..n * m).map(|at| cell(at / m, at % m)).collect()
}

/// A SAELens folder.
fn saelens(cfg: Json, tensors: &[(&str, Tensor)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut set = TensorSet::new("");
    tensors.iter().for_each(|(name, tensor)| assert!(set.insert(*name, tensor.clone())));
    std::fs::write(dir.path().join("cfg.json"), cfg.to_string()).unwrap();
    std::fs::write(dir.path().join("sae_weights.safetensors"), safetensors::write(&set).unwrap()).unwrap();
    let path = dir.path().display().to_string();
    (dir, path)
}

fn standard(d: usize, n: usize) -> Vec<(&'static str, Tensor)> {
    vec![("W_enc", made(&[d, n], 0)), ("b_enc", made(&[n], 1)), ("W_dec", made(&[n, d], 2)), ("b_dec", made(&[d], 3))]
}

fn cfg(hook: &str) -> Json {
    json!({"architecture": "standard", "apply_b_dec_to_input": false, "metadata": {"hook_name": hook, "sae_lens_version": "6.5.1"}})
}

#[test]
fn every_fixture_encodes_and_reconstructs_as_numpy_does() {
    let expected = &reference("tiny.json")["sae"];
    let rows = expected["inputs"].as_array().unwrap();
    let x = Tensor::from_f64(numbers(&expected["inputs"]), &[rows.len(), 12]).unwrap();
    for (name, facts) in expected["fixtures"].as_object().unwrap() {
        let sae = sae(name);
        assert_eq!(sae.activation().name(), facts["activation"], "{name}");
        assert_eq!(sae.cfg()["subtract_b_dec"], facts["subtract_b_dec"], "{name}");
        assert_eq!(sae.activation().k(), facts["k"].as_u64().map(|k| k as usize), "{name}");
        assert_tensor(&sae.encode(&x, &work()).unwrap(), &facts["acts"], 2e-6, &format!("{name} acts"));
        assert_tensor(&sae.reconstruct(&x, &work()).unwrap(), &facts["reconstruct"], 2e-6, &format!("{name} reconstruct"));
        let decoded = sae.decode(&sae.encode(&x, &work()).unwrap(), &work()).unwrap();
        assert_tensor(&decoded, &facts["reconstruct"], 2e-6, &format!("{name} decode"));
        if name != "gs-square" {
            let w_enc = if name == "gs-f16" { &expected["logical_f16_W_enc"] } else { &expected["logical"]["W_enc"] };
            assert_tensor(&sae.w_enc().unwrap(), w_enc, 1e-7, name);
            assert_eq!((sae.n(), sae.d_in(), sae.d_out()), (21, 12, 12));
        }
        let density = sae.density();
        assert_eq!(density.is_some(), facts["density"].is_array(), "{name}");
        if let Some(density) = density {
            assert_close(&density, &numbers(&facts["density"]), 1e-6, name);
        }
    }
}

#[test]
fn layer_and_site_come_from_cfg_or_path() {
    for name in ["sae-v6-standard", "sae-v3-gated", "gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5"] {
        let sae = sae(name);
        assert_eq!((sae.site(), sae.layer(), sae.hook()), (Site::ResidPost, Some(1), "blocks.1.hook_resid_post"), "{name}");
        assert!(sae.warnings().is_empty(), "{:?}", sae.warnings());
    }
    let scope =
        load_sae(&fixture("gemma-scope-2b-pt-res"), Some("layer_1/width_21/average_l0_5"), &SaeOptions::default(), &work());
    assert_eq!(scope.unwrap().cfg()["model_name"], "gemma-2-2b");
    let lost = sae("gs-fortran");
    assert_eq!(lost.layer(), None);
    assert!(lost.warnings()[0].contains("names its site"));
    let told = SaeOptions { hook: Some("blocks.2.attn.hook_z".into()), ..SaeOptions::default() };
    let told = load_sae(&fixture("gs-fortran"), None, &told, &work()).unwrap();
    assert_eq!((told.site(), told.layer()), (Site::Z, Some(2)));
}

#[test]
fn weights_stay_where_they_are_mapped() {
    let sae = sae("sae-v6-standard");
    assert!(sae.w_enc().unwrap().is_mapped() && sae.w_dec().is_mapped());
    let directions = sae.write(&model("tiny-llama"), &work()).unwrap();
    assert!(directions.rows.is_mapped() && directions.gain.is_none());
}

#[test]
fn legacy_scaling_and_log_thresholds_are_folded_and_recorded() {
    let (d, n) = (6, 10);
    let mut tensors = standard(d, n);
    let factors: Vec<f32> = (0..n).map(|i| 0.5 + i as f32).collect();
    tensors.push(("scaling_factor", Tensor::vector(factors.clone())));
    tensors.push(("log_threshold", made(&[n], 4)));
    let cfg = json!({"architecture": "jumprelu", "hook_name": "blocks.0.hook_resid_pre", "hook_layer": 0, "d_sae": "11"});
    let (_dir, path) = saelens(cfg, &tensors);
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let stored = tensors[2].1.to_f64();
    let scaled: Vec<f64> = stored.iter().enumerate().map(|(at, v)| v * f64::from(factors[at / d])).collect();
    assert_close(&sae.w_dec().to_f64(), &scaled, 1e-6, "W_dec");
    let threshold: Vec<f64> = tensors[5].1.to_f64().into_iter().map(f64::exp).collect();
    assert_close(&sae.threshold().unwrap().to_f64(), &threshold, 1e-6, "threshold");
    assert_eq!(sae.cfg()["rewrites"], json!(["threshold = exp(log_threshold)", "rows of W_dec multiplied by scaling_factor"]));
    assert_eq!(sae.warnings(), ["cfg.json says d_sae 11, the tensors have 10: 10 is taken"]);
}

#[test]
fn a_version_2_config_has_its_own_names() {
    let cfg = json!({"hook_point": "blocks.3.hook_resid_pre", "hook_point_layer": 3, "activation_fn": "relu", "normalize_activations": false});
    let (_dir, path) = saelens(cfg, &standard(6, 10));
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    assert_eq!((sae.site(), sae.layer(), sae.activation()), (Site::ResidPre, Some(3), Activation::Relu));
    assert_eq!(sae.cfg()["subtract_b_dec"], true);
}

#[test]
fn a_layer_normalised_input_is_undone_in_the_reconstruction() {
    let (d, n) = (6, 10);
    let mut cfg = cfg("blocks.0.hook_resid_pre");
    cfg["normalize_activations"] = "layer_norm".into();
    let tensors = standard(d, n);
    let (_dir, path) = saelens(cfg, &tensors);
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let x = made(&[d], 9);
    let values = x.to_f64();
    let mean = values.iter().sum::<f64>() / d as f64;
    let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (d - 1) as f64).sqrt();
    let inner: Vec<f64> = values.iter().map(|v| (v - mean) / (std + 1e-5)).collect();
    let acts: Vec<f64> = product(&inner, &tensors[0].1.to_f64(), (1, d, n))
        .into_iter()
        .zip(tensors[1].1.to_f64())
        .map(|(a, b)| (a + b).max(0.0))
        .collect();
    assert_close(&sae.encode(&x, &work()).unwrap().to_f64(), &acts, 1e-5, "acts");
    let out = product(&acts, &tensors[2].1.to_f64(), (1, n, d));
    let out: Vec<f64> = out.into_iter().zip(tensors[3].1.to_f64()).map(|(o, b)| (o + b) * std + mean).collect();
    assert_close(&sae.reconstruct(&x, &work()).unwrap().to_f64(), &out, 1e-5, "reconstruct");
}

#[test]
fn top_k_breaks_ties_by_index_and_drops_what_is_negative() {
    let (d, n) = (2, 5);
    let w_enc = Tensor::from_f32(vec![1.0, 1.0, -1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[d, n]).unwrap();
    let mut cfg = cfg("blocks.0.hook_resid_pre");
    cfg["architecture"] = "topk".into();
    cfg["k"] = 3.into();
    let zeros = |shape: &[usize]| Tensor::from_f32(vec![0.0; shape.iter().product()], shape).unwrap();
    let (_dir, path) =
        saelens(cfg, &[("W_enc", w_enc), ("b_enc", zeros(&[n])), ("W_dec", zeros(&[n, d])), ("b_dec", zeros(&[d]))]);
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let x = Tensor::from_f32(vec![3.0, 0.0, -3.0, 0.0], &[2, d]).unwrap();
    let acts = sae.encode(&x, &work()).unwrap().to_f32();
    // 3, 3, -3, 3, 6: the largest are 4, 0, 1. -3, -3, 3, -3, -6: only 2 is positive.
    assert_eq!(acts, [3.0, 3.0, 0.0, 0.0, 6.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    assert_eq!(sae.encode(&x.select(0, 0).unwrap(), &work()).unwrap().shape(), [n]);
    assert!(sae.encode(&made(&[3], 0), &work()).is_err());
}

#[test]
fn any_tensors_open_with_a_map() {
    let (d, n) = (6, 10);
    let dir = tempfile::tempdir().unwrap();
    let mut set = TensorSet::new("");
    set.insert("enc.weight", made(&[n, d], 0));
    set.insert("dec.weight", made(&[d, n], 1));
    set.insert("enc.bias", made(&[n], 2));
    let file = dir.path().join("sae.safetensors");
    std::fs::write(&file, safetensors::write(&set).unwrap()).unwrap();
    let file = file.display().to_string();
    let text = |text: &str| Value::Text(text.into());
    let map = |transpose: &[&str]| {
        Value::Map(OptionMap::from([
            ("W_enc".to_string(), text("enc.weight")),
            ("W_dec".to_string(), text("dec.weight")),
            ("b_enc".to_string(), text("enc.bias")),
            ("transpose".to_string(), Value::List(transpose.iter().map(|t| text(t)).collect())),
        ]))
    };
    let options = |map: Value| {
        SaeOptions::parse(&OptionMap::from([("map".to_string(), map), ("hook".to_string(), text("blocks.4.hook_resid_mid"))]))
    };
    let sae = load_sae(&file, None, &options(map(&["W_enc", "W_dec"])).unwrap(), &work()).unwrap();
    assert_eq!((sae.n(), sae.d_in(), sae.layer(), sae.site()), (n, d, Some(4), Site::ResidMid));
    let at = |t: &Tensor, i, j| t.select(0, i).unwrap().select(0, j).unwrap().to_f32()[0];
    assert_eq!(at(&sae.w_enc().unwrap(), 2, 7), at(set.get("enc.weight").unwrap(), 7, 2));
    assert_eq!(at(&sae.w_dec(), 7, 2), at(set.get("dec.weight").unwrap(), 2, 7));
    let error = refusal(&file, None, &options(map(&["W_dec"])).unwrap());
    assert!(error.to_string().contains("W_enc is [10, 6] and W_dec [10, 6]"), "{error}");
    let error = refusal(&file, None, &SaeOptions::default());
    assert!(error.helps()[0].contains("enc.weight [10, 6] f32"), "{error:?}");
    let unknown = Value::Map(OptionMap::from([("W_enk".to_string(), text("x"))]));
    assert!(refusal(&file, None, &options(unknown).unwrap()).helps()[0].contains("did you mean `W_enc`"));
}

/// Copies the files of fixtures into folders below a new one.
fn bundle(parts: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in parts {
        let to = dir.path().join(to);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(fixture(from)).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    let path = dir.path().display().to_string();
    (dir, path)
}

#[test]
fn a_bundle_holds_a_model_and_its_saes() {
    let hook = "blocks.1.hook_resid_post";
    let (_dir, path) = bundle(&[
        ("tiny-llama", "model"),
        ("sae-v6-standard", "saes/blocks.1.hook_resid_post"),
        ("gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5", "gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5"),
    ]);
    let model = Model::load(&path, &ModelOptions::default(), &work()).unwrap();
    assert_eq!((model.cfg().n_layers, model.name()), (self::model("tiny-llama").cfg().n_layers, path.as_str()));
    for inside in [hook, "saes/blocks.1.hook_resid_post", "/saes/blocks.1.hook_resid_post/"] {
        let sae = load_sae(&path, Some(inside), &SaeOptions::default(), &work()).unwrap();
        assert_eq!((sae.hook(), sae.n(), sae.d_in()), (hook, 21, 12), "{inside}");
    }
    let near = refusal(&path, Some("saes/blocks.2.hook_resid_post"), &SaeOptions::default());
    assert_eq!(near.helps()[0], "did you mean `saes/blocks.1.hook_resid_post`?");

    let table = list_saes(&path, &work()).unwrap();
    let cell = |row: usize, name: &str| table.row(row).unwrap().into_iter().find(|(column, _)| *column == name).unwrap().1;
    let text = |text: &str| Cell::Text(text.into());
    assert_eq!(table.len(), 2);
    assert_eq!(cell(0, "path"), text("gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5"));
    assert_eq!((cell(0, "format"), cell(0, "hook")), (text("Gemma Scope"), text(hook)));
    assert_eq!(cell(1, "path"), text("saes/blocks.1.hook_resid_post"));
    assert_eq!((cell(1, "format"), cell(1, "hook"), cell(1, "layer")), (text("SAELens"), text(hook), Cell::Int(1)));
    // An archive does not say its sizes without being opened.
    assert!(matches!(cell(0, "d_sae"), Cell::Float(size) if size.is_nan()));
    assert!(matches!(cell(1, "d_sae"), Cell::Float(21.0)));

    let alone = list_saes(&fixture("sae-v6-standard"), &work()).unwrap();
    assert_eq!((alone.len(), alone.row(0).unwrap()[0].1.clone()), (1, text("")));
    assert!(load_sae(&fixture("sae-v6-standard"), Some(""), &SaeOptions::default(), &work()).is_ok());
    assert_eq!(list_saes(&fixture("tiny-llama.gguf"), &work()).unwrap().len(), 0);
}

#[test]
fn what_cannot_be_loaded_is_said() {
    let plain = SaeOptions::default();
    let several = refusal(&fixture(""), None, &plain);
    assert!(several.to_string().contains("SAEs: name one by its path"), "{several}");
    let near = refusal(&fixture(""), Some("sae-v6-standart"), &plain);
    assert_eq!(near.helps()[0], "did you mean `sae-v6-standard`?");
    assert!(refusal(&fixture("tiny-llama"), None, &plain).to_string().contains("there is no SAE"));
    assert!(refusal("demo", None, &plain).to_string().contains("SAEs: name one by its path"));
    let far = refusal("demo", Some("blocks.9.hook_resid_post"), &plain);
    assert!(far.to_string().contains("blocks.9.hook_resid_post"), "{far}");
    let with = |change: &dyn Fn(&mut Json), drop: &str| {
        let mut cfg = cfg("blocks.0.hook_resid_pre");
        change(&mut cfg);
        let tensors: Vec<_> = standard(6, 10).into_iter().filter(|(name, _)| *name != drop).collect();
        let (_dir, path) = saelens(cfg, &tensors);
        refusal(&path, None, &plain)
    };
    assert!(with(&|_| (), "b_dec").to_string().contains("there is no tensor `b_dec`"));
    assert!(with(&|c| c["architecture"] = "spiral".into(), "").to_string().contains("architecture `spiral` is not known"));
    assert!(
        with(&|c| c["metadata"]["hook_name"] = "blocks.0.hook_q".into(), "")
            .to_string()
            .contains("hook `blocks.0.hook_q` is not known")
    );
    let (_dir, path) = saelens(
        cfg("blocks.0.hook_resid_pre"),
        &[("W_enc", made(&[10, 6], 0)), ("b_enc", made(&[10], 1)), ("W_dec", made(&[10, 6], 2)), ("b_dec", made(&[6], 3))],
    );
    let swapped = refusal(&path, None, &plain);
    assert!(
        swapped.to_string().contains("tensor `W_enc`: its shape is [10, 6], but a SAELens SAE has [6, 10] here"),
        "{swapped}"
    );
}

#[test]
fn an_sae_of_another_width_is_refused_with_the_widths_that_fit() {
    let llama = model("tiny-llama");
    let error = sae("sae-misfit").write(&llama, &work()).unwrap_err();
    assert!(error.to_string().contains("has width 14 at blocks.1.hook_resid_post, but the residual stream of"), "{error}");
    assert!(error.helps()[0].ends_with("residual stream 12, z 32, mlp_post 20"), "{error:?}");
    let (_dir, path) = saelens(cfg("blocks.1.hook_resid_post"), &standard(32, 10));
    let z_width = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap().check_fits(&llama).unwrap_err();
    assert!(z_width.helps()[0].contains("32 is the width of this model's z"));
    let (_dir, path) = saelens(cfg("blocks.7.hook_resid_post"), &standard(12, 10));
    let deep = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap().read(&llama, &work()).unwrap_err();
    assert!(deep.to_string().contains("layer 7 is out of range"));
}

#[test]
fn neurons_read_by_the_gate_and_write_through_the_post_norm() {
    for name in ["tiny-llama", "tiny-gemma2", "tiny-gemma3"] {
        let model = model(name);
        let expected = &reference("tiny.json")["models"][name]["mlp_neurons"];
        let neurons = mlp_neurons(&model, expected["layer"].as_u64().unwrap() as usize).unwrap();
        let ids: Vec<usize> = numbers(&expected["ids"]).into_iter().map(|id| id as usize).collect();
        let write = neurons.write(&model, &work()).unwrap().dense(Some(&ids), &work()).unwrap();
        assert_tensor(&write, &expected["write"], 1e-6, "write");
        assert_tensor(
            &neurons.read(&model, &work()).unwrap().dense(Some(&ids), &work()).unwrap(),
            &expected["read"],
            1e-6,
            "read",
        );
        // A selection writes the same, and keeps its ids.
        let part = neurons.select(&ids, &work()).unwrap();
        assert_tensor(&part.write(&model, &work()).unwrap().dense(None, &work()).unwrap(), &expected["write"], 1e-6, "selected");
        assert_tensor(&part.read(&model, &work()).unwrap().dense(None, &work()).unwrap(), &expected["read"], 1e-6, "selected");
        assert_eq!((part.ids(), part.position(19).unwrap()), (vec![0, 7, 19], 2));
        assert!(neurons.signed() && part.signed());
        assert!(mlp_neurons(&model, 3).is_err());
    }
}

#[test]
fn z_is_written_through_w_o_and_read_by_one_head() {
    let gemma = model("tiny-gemma2");
    let (d, n, d_head) = (32, 10, 8);
    let tensors = standard(d, n);
    let (_dir, path) = saelens(cfg("blocks.1.attn.hook_z"), &tensors);
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let (w_enc, w_dec) = (tensors[0].1.to_f64(), tensors[2].1.to_f64());
    let mut write = vec![0.0; n * 12];
    for head in 0..4 {
        let chunk: Vec<f64> = (0..n * d_head).map(|at| w_dec[at / d_head * d + head * d_head + at % d_head]).collect();
        let part = product(&chunk, &gemma.w_o(1, head).unwrap().to_f64(), (n, d_head, 12));
        write.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    let post = gemma.gain("blocks.1.ln1_post").unwrap().to_f64();
    let write: Vec<f64> = write.iter().enumerate().map(|(at, v)| v * post[at % 12]).collect();
    assert_close(&sae.write(&gemma, &work()).unwrap().dense(None, &work()).unwrap().to_f64(), &write, 1e-5, "write");

    let head = 2;
    let w_v = gemma.w_v(1, head).unwrap().to_f64();
    let gain = gemma.gain("blocks.1.ln1").unwrap().to_f64();
    let read =
        |i: usize, j: usize| gain[j] * (0..d_head).map(|c| w_enc[(head * d_head + c) * n + i] * w_v[j * d_head + c]).sum::<f64>();
    let read: Vec<f64> = (0..n * 12).map(|at| read(at / 12, at % 12)).collect();
    assert_close(&sae.read_head(&gemma, head, &work()).unwrap().dense(None, &work()).unwrap().to_f64(), &read, 1e-5, "read");
    assert!(sae.read(&gemma, &work()).unwrap_err().to_string().contains("one head at a time"));
    assert!(sae.read_head(&gemma, 4, &work()).unwrap_err().to_string().contains("head 4 is out of range"));
}

#[test]
fn neuron_space_is_written_through_w_out_and_not_read() {
    let gemma = model("tiny-gemma3");
    let n = 10;
    let tensors = standard(20, n);
    let (_dir, path) = saelens(cfg("blocks.2.mlp.hook_post"), &tensors);
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let post = gemma.gain("blocks.2.ln2_post").unwrap().to_f64();
    let write = product(&tensors[2].1.to_f64(), &gemma.w_out(2).unwrap().to_f64(), (n, 20, 12));
    let write: Vec<f64> = write.iter().enumerate().map(|(at, v)| v * post[at % 12]).collect();
    assert_close(&sae.write(&gemma, &work()).unwrap().dense(None, &work()).unwrap().to_f64(), &write, 1e-5, "write");
    assert!(sae.read(&gemma, &work()).unwrap_err().to_string().contains("(mlp_post) has no read direction"));
    let (_dir, path) = saelens(cfg("blocks.2.hook_attn_out"), &standard(12, n));
    let attn_out = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    assert!(attn_out.read(&gemma, &work()).unwrap_err().to_string().contains("(attn_out) has no read direction"));
    assert!(attn_out.write(&gemma, &work()).is_ok());
}

#[test]
fn tokens_as_a_dictionary() {
    for name in ["tiny-llama", "tiny-gemma2"] {
        let model = model(name);
        let expected = &reference("tiny.json")["models"][name];
        let w_e = numbers(&expected["weights"]["W_E"]);
        let scale = expected["cfg"]["embed_scale"].as_f64().unwrap();
        let dense =
            |basis| token_basis(&model, basis, &work()).unwrap().write(&model, &work()).unwrap().dense(None, &work()).unwrap();
        assert_close(&dense(Basis::Embed).to_f64(), &w_e.iter().map(|v| v * scale).collect::<Vec<_>>(), 1e-6, "embed");
        let column: Vec<f64> = numbers(&expected["weights"]["W_U_column_3"])
            .iter()
            .zip(numbers(&expected["gains"]["ln_final"]))
            .map(|(u, g)| u * g)
            .collect();
        assert_close(
            &dense(Basis::Unembed).row(3).unwrap().iter().map(|v| f64::from(*v)).collect::<Vec<_>>(),
            &column,
            1e-6,
            "unembed",
        );

        // e + MLP(norm(e)) of token 5, by the formula.
        let e: Vec<f64> = w_e[60..72].iter().map(|v| v * scale).collect();
        let eps = expected["cfg"]["eps"].as_f64().unwrap();
        let rms = |x: &[f64]| (x.iter().map(|v| v * v).sum::<f64>() / 12.0 + eps).sqrt();
        let normed = |x: &[f64], gain: &str| {
            let gain = model.gain(gain).unwrap().to_f64();
            x.iter().zip(gain).map(|(v, g)| v / rms(x) * g).collect::<Vec<f64>>()
        };
        let read = normed(&e, "blocks.0.ln2");
        let gate = product(&read, &model.w_gate(0).unwrap().unwrap().to_f64(), (1, 12, 20));
        let linear = product(&read, &model.w_in(0).unwrap().to_f64(), (1, 12, 20));
        let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        let act = |x: f64| if name == "tiny-llama" { x / (1.0 + (-x).exp()) } else { gelu(x) };
        let hidden: Vec<f64> = gate.iter().zip(linear).map(|(g, l)| act(*g) * l).collect();
        let mut written = product(&hidden, &model.w_out(0).unwrap().to_f64(), (1, 20, 12));
        if name == "tiny-gemma2" {
            written = normed(&written, "blocks.0.ln2_post");
        }
        let effective: Vec<f64> = e.iter().zip(written).map(|(e, w)| e + w).collect();
        let got: Vec<f64> = dense(Basis::Effective).row(5).unwrap().iter().map(|v| f64::from(*v)).collect();
        assert_close(&got, &effective, 1e-5, "effective");
    }
}

#[test]
fn directions_of_ones_own() {
    let options = DirectionsOptions { labels: Some(vec!["a".into(), "b".into()]), signed: true, ..DirectionsOptions::default() };
    let own = directions(&made(&[2, 12], 0), &options).unwrap();
    let llama = model("tiny-llama");
    assert_eq!(own.read(&llama, &work()).unwrap().dense(None, &work()).unwrap().to_f32(), made(&[2, 12], 0).to_f32());
    assert_eq!(own.labels().unwrap()[1], "b");
    assert!(own.written_before_attention(0, &llama) && own.reads_after_attention(2, &llama));
    assert_eq!(directions(&made(&[12], 0), &DirectionsOptions::default()).unwrap().n(), 1);
    let wrong = DirectionsOptions { read: Some(made(&[2, 11], 0)), ..DirectionsOptions::default() };
    assert!(directions(&made(&[2, 12], 0), &wrong).is_err());
    assert!(own.check_fits(&model("tiny-gemma2")).is_ok());
    assert!(directions(&made(&[2, 13], 0), &DirectionsOptions::default()).unwrap().check_fits(&llama).is_err());
}

#[test]
fn order_in_the_stream() {
    let llama = model("tiny-llama");
    let neurons = mlp_neurons(&llama, 1).unwrap();
    assert!(neurons.written_before_attention(2, &llama) && !neurons.written_before_attention(1, &llama));
    assert!(neurons.reads_after_attention(1, &llama) && !neurons.reads_after_attention(2, &llama));
    let resid = sae("sae-v6-standard");
    assert!(resid.written_before_attention(2, &llama) && !resid.written_before_attention(1, &llama));
    assert!(resid.reads_after_attention(1, &llama) && !resid.reads_after_attention(2, &llama));
}

#[test]
fn random_directions_have_the_norms_and_the_second_moment_of_the_original() {
    let (n, d) = (40, 5);
    // Directions in a subspace of dimension 3 with very different lengths: a factor of full rank does not exist.
    let raw = made(&[n, 3], 0).to_f64();
    let basis = made(&[3, d], 1).to_f64();
    let rows: Vec<f64> = product(&raw, &basis, (n, 3, d)).iter().enumerate().map(|(at, v)| v * (1.0 + (at / d) as f64)).collect();
    let dictionary = directions(&Tensor::from_f64(rows.clone(), &[n, d]).unwrap(), &DirectionsOptions::default()).unwrap();
    let draw = |kind, seed, threads| {
        let options = RandomOptions { n: Some(40_000), kind, seed: Some(seed) };
        random_directions(&dictionary, None, &options, &Work::silent(threads).unwrap()).unwrap()
    };
    let null = draw(RandomKind::Covariance, 1, 1);
    assert!(null.signed());
    assert_eq!(null.w_dec().to_f32(), draw(RandomKind::Covariance, 1, 2).w_dec().to_f32(), "threads do not matter");
    assert!(null.w_dec().to_f32() != draw(RandomKind::Covariance, 2, 1).w_dec().to_f32());
    assert!(null.w_dec().to_f32() != null.w_enc().unwrap().t().to_f32(), "read and write are drawn separately");

    let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let own: Vec<f64> = rows.chunks(d).map(norm).collect();
    let drawn = null.w_dec().to_f64();
    let norms: Vec<f64> = drawn.chunks(d).map(norm).collect();
    assert!(norms.iter().all(|v| own.iter().any(|o| (o - v).abs() < 1e-5 * o)), "norms are those of the original");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert!((mean(&norms) / mean(&own) - 1.0).abs() < 0.02);

    // The directions are Gaussian with the second moment of the unit rows, then of unit length: compare with the same made
    // here, by a weighted sum of the rows themselves.
    let unit: Vec<f64> = rows.chunks(d).flat_map(|row| row.iter().map(|v| v / norm(row)).collect::<Vec<_>>()).collect();
    let weights = made(&[40_000, n], 7).to_f64();
    let sums = product(&weights, &unit, (40_000, n, d));
    let moment = |rows: &[f64]| {
        let mut moment = vec![0.0; d * d];
        for row in rows.chunks(d) {
            let square = norm(row).powi(2);
            (0..d * d).for_each(|at| moment[at] += row[at / d] * row[at % d] / square);
        }
        moment.iter().map(|v| v / (rows.len() / d) as f64).collect::<Vec<f64>>()
    };
    assert_close(&moment(&drawn), &moment(&sums), 0.02, "second moment");
    let isotropic: Vec<f64> = (0..d * d).map(|at| if at / d == at % d { 1.0 / d as f64 } else { 0.0 }).collect();
    assert_close(&moment(&draw(RandomKind::Isotropic, 1, 1).w_dec().to_f64()), &isotropic, 0.05, "isotropic");
}

#[test]
fn a_null_in_z_can_be_drawn_in_the_residual_stream() {
    let gemma = model("tiny-gemma2");
    let (_dir, path) = saelens(cfg("blocks.1.attn.hook_z"), &standard(32, 10));
    let sae = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap();
    let options = RandomOptions { seed: Some(3), ..RandomOptions::default() };
    let own = random_directions(&sae, None, &options, &work()).unwrap();
    assert_eq!((own.d_out(), own.site()), (32, Site::Z));
    assert_eq!(own.write(&gemma, &work()).unwrap().rows.shape(), [10, 12]);
    assert!(own.read_head(&gemma, 0, &work()).is_ok());
    let residual = random_directions(&sae, Some(&gemma), &options, &work()).unwrap();
    assert_eq!(residual.write(&gemma, &work()).unwrap().rows.shape(), [10, 12]);
    assert!(residual.write(&gemma, &work()).unwrap().gain.is_none());
    assert!(residual.read(&gemma, &work()).unwrap_err().to_string().contains("has no read direction"));
    // Neurons have gains: the null has them in its directions.
    let neurons = mlp_neurons(&gemma, 0).unwrap();
    let null = random_directions(&neurons, Some(&gemma), &options, &work()).unwrap();
    let norms = |d: &Dictionary| {
        saerepl::compute::row_norms(&d.write(&gemma, &work()).unwrap().dense(None, &work()).unwrap(), None, &work()).unwrap()
    };
    let own = norms(&neurons);
    assert!(norms(&null).iter().all(|v| own.iter().any(|o| (o - v).abs() < 1e-5 * o)));
}

#[test]
fn parts_keep_ids_statistics_and_labels() {
    let whole = sae("sae-v6-gated");
    let table = Table::new(Provenance::default())
        .with("feature", vec![4usize, 20, 99])
        .unwrap()
        .with("density", vec![0.25, 0.5, 0.75])
        .unwrap()
        .with("label", vec!["four".to_string(), "twenty".to_string(), "none".to_string()])
        .unwrap();
    let known = whole.with_stats(&table).unwrap().with_labels(&table).unwrap();
    let (a, b) = (known.select(&[20, 3], &work()).unwrap(), known.select(&[4], &work()).unwrap());
    let both = a.concat(&b, &work()).unwrap();
    assert_eq!((both.ids(), both.n()), (vec![20, 3, 4], 3));
    assert_eq!(both.labels().unwrap(), ["twenty", "", "four"]);
    let density = both.density().unwrap();
    assert!(density[0] == 0.5 && density[1].is_nan() && density[2] == 0.25);
    let x = made(&[12], 0);
    let (all, part) = (known.encode(&x, &work()).unwrap().to_f32(), both.encode(&x, &work()).unwrap().to_f32());
    let expected = [all[20], all[3], all[4]].map(f64::from);
    assert_close(&part.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), &expected, 1e-6, "acts");

    assert_eq!(both.positions(&Some(Ids::Range(0, Some(10)))).unwrap(), [1, 2]);
    assert_eq!(both.positions(&Some(Ids::List(vec![4, -1]))).unwrap(), [2, 0]);
    assert!(both.positions(&Some(Ids::List(vec![5]))).unwrap_err().to_string().contains("feature 5 is not among the 3"));
    assert!(whole.position(21).unwrap_err().to_string().contains("has 21 features, numbered from 0"));
    assert!(known.select(&[3, 3], &work()).is_err() && known.select(&[], &work()).is_err());
    let twice = a.concat(&a, &work()).unwrap();
    assert_eq!(twice.ids(), [0, 1, 2, 3]);
    assert!(twice.cfg()["rewrites"][0].as_str().unwrap().contains("numbered anew"));
    assert!(a.concat(&sae("sae-v6-standard"), &work()).is_err());
    assert!(whole.with_labels(&Table::new(Provenance::default())).is_err());
}

#[test]
fn info_names_format_site_and_dead_rows() {
    let (d, n) = (6, 4);
    let mut tensors = standard(d, n);
    tensors[2].1.make_mut_f32()[..d].fill(0.0);
    let (_dir, path) = saelens(cfg("blocks.1.hook_resid_post"), &tensors);
    let facts = load_sae(&path, None, &SaeOptions::default(), &work()).unwrap().describe(&work()).unwrap();
    let fact = |what: &str| facts.iter().find(|(name, _)| name == what).unwrap().1.clone();
    assert_eq!(fact("format"), "SAELens 6.5.1");
    assert_eq!(fact("site"), "resid_post, layer 1");
    assert!(fact("decoder norms").ends_with("1 of them zero"));
    assert!(fact("tensors").starts_with("W_enc [6, 4] f32, W_dec [4, 6] f32"));
}
