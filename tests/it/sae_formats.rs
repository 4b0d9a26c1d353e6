//! One SAE in every published format (tests/reference/sae_formats.py: written by the formats' own libraries where they are on
//! PyPI, which computed the activations too), and the traps of FORMATS.md 7 by their numbers.

use crate::made_files::{Place, checkpoint, dict, four, linear_checkpoint, lower, made, npz_of, saelens, tensor, values, whole};
use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::analysis::{Scale, TokenOptions, unembed};
use saerepl::dictionary::{Activation, Dictionary, SaeOptions, Site, list_saes, load_sae};
use saerepl::formats::{TensorSet, safetensors, torch};
use saerepl::model::forward::{Hook, Request};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::{OptionMap, Options, Value};
use saerepl::table::Cell;
use saerepl::tensor::{Bytes, DType, Tensor};
use serde_json::{Value as Json, json};
use std::path::Path;

fn matrix(value: &Json) -> Tensor {
    let rows = value.as_array().unwrap();
    Tensor::from_f64(numbers(value), &[rows.len(), rows[0].as_array().unwrap().len()]).unwrap()
}

fn options(given: &Json) -> SaeOptions {
    let number = |key: &str| given[key].as_u64().map(|value| value as usize);
    let hook = given["hook"].as_str().map(str::to_string);
    SaeOptions { hook, k: number("k"), layer: number("layer"), to_layer: number("to_layer"), ..SaeOptions::default() }
}

fn load(name: &str) -> Dictionary {
    load_sae(name, None, &SaeOptions::default(), &work()).unwrap()
}

fn refusal(name: &str) -> saerepl::Error {
    load_sae(name, None, &SaeOptions::default(), &work()).unwrap_err()
}

fn model(name: &str) -> Model {
    Model::load(&fixture(name), &ModelOptions::default(), &work()).unwrap()
}

#[test]
fn the_same_sae_in_every_format() {
    let expected = reference("sae_formats.json");
    let logical = &expected["logical"];
    for (name, facts) in expected["fixtures"].as_object().unwrap() {
        // What follows `#` tells entries of one file apart.
        let path = fixture(&format!("saes/{}", name.split('#').next().unwrap()));
        let sae = load_sae(&path, None, &options(&facts["options"]), &work()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(sae.activation().name(), facts["activation"], "{name}");
        assert_eq!(sae.cfg()["subtract_b_dec"], facts["subtract_b_dec"], "{name}");
        assert_eq!(sae.activation().k(), facts["k"].as_u64().map(|k| k as usize), "{name}");
        assert_eq!(
            (sae.hook(), sae.layer()),
            (facts["hook"].as_str().unwrap(), facts["layer"].as_u64().map(|l| l as usize)),
            "{name}"
        );
        assert_eq!(sae.hook_out(), facts["hook_out"].as_str().unwrap_or(sae.hook()), "{name}");
        if let Some(model) = facts["model"].as_str() {
            assert_eq!(sae.cfg()["model_name"], model, "{name}");
        }
        if facts["canonical"] == true {
            let w_dec = if facts["w_dec"].is_null() { &logical["W_dec"] } else { &facts["w_dec"] };
            assert_eq!(sae.w_enc().unwrap().shape(), [6, 10], "{name}");
            assert_close(&sae.w_enc().unwrap().to_f64(), &numbers(&logical["W_enc"]), 1e-6, &format!("{name} W_enc"));
            assert_close(&sae.w_dec().to_f64(), &numbers(w_dec), 1e-6, &format!("{name} W_dec"));
            if let Some(b_enc) = sae.b_enc() {
                assert_close(&b_enc.to_f64(), &numbers(&logical["b_enc"]), 1e-6, &format!("{name} b_enc"));
            }
            if let Some(b_dec) = sae.b_dec() {
                assert_close(&b_dec.to_f64(), &numbers(&logical["b_dec"]), 1e-6, &format!("{name} b_dec"));
            }
        }
        let x = matrix(if facts["x"].is_null() { &expected["inputs"] } else { &facts["x"] });
        let acts = sae.encode(&x, &work()).unwrap();
        assert_close(&acts.to_f64(), &numbers(&facts["acts"]), 3e-6, &format!("{name} acts"));
        let out = sae.reconstruct(&x, &work()).unwrap();
        assert_close(&out.to_f64(), &numbers(&facts["out"]), 3e-6, &format!("{name} out"));
    }
}

#[test]
fn a_folder_of_all_formats_is_listed_without_its_weights() {
    let table = list_saes(&fixture("saes"), &work()).unwrap();
    let cell = |row: usize, name: &str| table.row(row).unwrap().into_iter().find(|(column, _)| *column == name).unwrap().1;
    let rows: Vec<(String, String, String)> = (0..table.len())
        .map(|row| {
            let text = |name: &str| if let Cell::Text(text) = cell(row, name) { text.to_string() } else { panic!("{name}") };
            (text("path"), text("format"), text("hook"))
        })
        .collect();
    let expected = reference("sae_formats.json");
    for (name, facts) in expected["fixtures"].as_object().unwrap() {
        let name = name.split('#').next().unwrap();
        let found = rows
            .iter()
            .find(|(path, ..)| path == name || Path::new(name).parent() == Some(Path::new(path)) && name.contains('.'));
        let (path, format, hook) = found.unwrap_or_else(|| panic!("{name} is not listed: {rows:?}"));
        assert!(!format.is_empty());
        if facts["options"].is_null() {
            assert_eq!(hook, facts["hook"].as_str().unwrap(), "{path}");
        }
        assert!(
            facts["options"]["layer"].is_u64() || load_sae(&fixture("saes"), Some(path), &SaeOptions::default(), &work()).is_ok()
        );
    }
}

// ---- traps ----------------------------------------------------------------------------------------------------------

#[test]
fn trap_01_the_same_names_in_opposite_orientations() {
    let place = Place::new();
    let square = four([6, 6], [6, 6], 6, 6);
    let alone = refusal(&place.tensors("alone/sae.safetensors", &square));
    assert!(alone.to_string().contains("no SAE format that is known"), "{alone}");
    assert!(alone.helps().iter().any(|help| help.contains("square matrix shows no orientation")), "{alone:?}");

    // A square matrix goes by the rule of the format that is recognised.
    let (w_enc, w_dec) = (square[0].1.to_f32(), square[1].1.to_f32());
    let turned = |t: &Tensor| t.t().to_f32();
    place.tensors("saelens/sae_weights.safetensors", &square);
    place.json("saelens/cfg.json", saelens("blocks.0.hook_resid_pre"));
    let sae = load(&place.path("saelens"));
    assert_eq!((sae.w_enc().unwrap().to_f32(), sae.w_dec().to_f32()), (w_enc.clone(), w_dec.clone()));
    let transcoder = place.tensors("qwen3-0.6b-transcoders/layer_2.safetensors", &square);
    let sae = load(&transcoder);
    assert_eq!((turned(&sae.w_enc().unwrap()), sae.w_dec().to_f32()), (w_enc, w_dec));
    let entries: Vec<_> =
        [("W_enc", [6, 6]), ("W_dec", [6, 6])].iter().map(|(name, shape)| (*name, tensor("0", 36, 0, shape, &[6, 1]))).collect();
    let entries = [entries, vec![("b_enc", tensor("0", 36, 0, &[6], &[1])), ("b_dec", tensor("0", 36, 0, &[6], &[1]))]].concat();
    let qwen =
        place.put("SAE-Res-Qwen3-8B-Base-W64K-L0_5/layer7.sae.pt", &checkpoint(&whole(dict(&entries)), &[("0", values(36))]));
    let sae = load(&qwen);
    assert_eq!((turned(&sae.w_enc().unwrap()), turned(&sae.w_dec())), (values(36), values(36)));
    assert_eq!(sae.activation(), Activation::TopK(5));
}

#[test]
fn trap_02_sparsify_stores_w_dec_as_it_is_used() {
    let place = Place::new();
    let tensors = [
        ("encoder.weight", made(&[6, 6], 0)),
        ("encoder.bias", made(&[6], 1)),
        ("W_dec", made(&[6, 6], 2)),
        ("b_dec", made(&[6], 3)),
    ];
    place.tensors("layers.1/sae.safetensors", &tensors);
    place.json("layers.1/cfg.json", json!({"k": 2, "num_latents": 6, "d_in": 6}));
    let sae = load(&place.path("layers.1"));
    assert_eq!(sae.w_dec().to_f32(), tensors[2].1.to_f32());
    assert_eq!(sae.w_enc().unwrap().t().to_f32(), tensors[0].1.to_f32());
}

/// What is said is what is done: b_dec is subtracted from the input, or is not.
#[test]
fn trap_03_whether_b_dec_is_subtracted_is_shown() {
    let x = made(&[6], 9);
    for (name, subtracted) in
        [("dl-AutoEncoder", true), ("saelens-v2", true), ("dl-AutoEncoderNew", false), ("sparsify-transcoder", false)]
    {
        let sae = load(&fixture(&format!("saes/{name}")));
        let facts = sae.describe(&work()).unwrap();
        let said = &facts.iter().find(|(what, _)| what == "b_dec").unwrap().1;
        assert_eq!(
            said,
            if subtracted {
                "subtracted from the input, added to the output"
            } else {
                "added to the output, not subtracted from the input"
            },
            "{name}"
        );
        let b_dec = sae.b_dec().unwrap().to_f64();
        let acts_of = |factor: f64| {
            let input: Vec<f64> = x.to_f64().iter().zip(&b_dec).map(|(x, b)| x - factor * b).collect();
            let pre = sae.w_enc().unwrap().t().to_f64();
            let biases = sae.b_enc().unwrap().to_f64();
            let dot = |row: &[f64]| row.iter().zip(&input).map(|(w, x)| w * x).sum::<f64>();
            pre.chunks(6).zip(biases).map(|(row, b)| (dot(row) + b).max(0.0)).collect::<Vec<_>>()
        };
        let (done, other) = if subtracted { (acts_of(1.0), acts_of(0.0)) } else { (acts_of(0.0), acts_of(1.0)) };
        let acts = sae.encode(&x, &work()).unwrap().to_f64();
        // Of a top-k SAE those that stay.
        let agrees = |expected: &[f64]| {
            acts.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-5 || *a == 0.0 && sae.activation().k().is_some())
        };
        assert!(agrees(&done) && !agrees(&other), "{name}: {acts:?}, {done:?}");
    }
}

#[test]
fn trap_04_the_bias_without_a_prefix_is_the_decoders() {
    let expected = reference("sae_formats.json");
    let sae = load(&fixture("saes/dl-AutoEncoder"));
    assert_close(&sae.b_dec().unwrap().to_f64(), &numbers(&expected["logical"]["b_dec"]), 1e-6, "b_dec");
    assert_close(&sae.b_enc().unwrap().to_f64(), &numbers(&expected["logical"]["b_enc"]), 1e-6, "b_enc");
}

#[test]
fn trap_05_a_threshold_of_minus_one_was_never_set() {
    let set = load(&fixture("saes/dl-BatchTopKSAE"));
    assert_eq!((set.activation(), set.threshold().unwrap().to_f32()), (Activation::BatchTopK(3), vec![0.25; 10]));
    let unset = load(&fixture("saes/dl-BatchTopKSAE-unset"));
    assert!(unset.activation() == Activation::TopK(3) && unset.threshold().is_none());
    assert!(unset.warnings()[0].contains("never set"));
}

#[test]
fn trap_06_thresholds_stored_as_logarithms() {
    let expected = numbers(&reference("sae_formats.json")["logical"]["threshold"]);
    // In units of the model: divided by √6 / 7.25.
    let expected: Vec<f64> = expected.iter().map(|v| v / (6f64.sqrt() / 7.25)).collect();
    for name in ["Llama-Scope-R1-Distill", "openmoss-2"] {
        let sae = load(&fixture(&format!("saes/{name}")));
        assert_close(&sae.threshold().unwrap().to_f64(), &expected, 1e-6, name);
        assert!(sae.cfg()["rewrites"].to_string().contains("threshold = exp("), "{name}");
    }
}

#[test]
fn trap_07_a_llama_scope_transcoder_has_two_scales() {
    let path = fixture("saes/Llama3_1-8B-Base-L2TC-8x");
    let sae = load(&path);
    let file = Path::new(&path).join("checkpoints/final.safetensors");
    let raw = safetensors::read(saerepl::tensor::Bytes::map(&file).unwrap(), &file).unwrap();
    let (s_in, s_out) = (1.0, 6f64.sqrt() / 3.390625);
    let scaled =
        |name: &str, factor: f64| raw.get(name).unwrap().t().to_f64().into_iter().map(|v| v * factor).collect::<Vec<_>>();
    assert_close(&sae.w_dec().to_f64(), &scaled("decoder.weight", s_in / s_out), 1e-6, "W_dec");
    assert_close(&sae.b_dec().unwrap().to_f64(), &scaled("decoder.bias", 1.0 / s_out), 1e-6, "b_dec");
    assert_close(&sae.w_enc().unwrap().to_f64(), &scaled("encoder.weight", 1.0), 1e-7, "W_enc");
    assert!(sae.threshold().unwrap().to_f32().iter().all(|v| *v == 0.25));
    assert_eq!(sae.cfg()["rewrites"].as_array().unwrap().len(), 3);
    // With one scale for both ends the big matrices stay in the file.
    let residual = load(&fixture("saes/Llama3_1-8B-Base-L2R-32x"));
    assert!(residual.w_enc().unwrap().is_mapped() && residual.w_dec().is_mapped());
}

/// A Gemma Scope archive of `n` features in the folder of a published repository.
fn archive(place: &Place, folder: &str, n: usize, d: usize) -> String {
    let mut set = TensorSet::new("");
    four([d, n], [n, d], n, d).into_iter().for_each(|(name, tensor)| assert!(set.insert(name, tensor)));
    set.insert("threshold", Tensor::vector(vec![0.1; n]));
    place.put(&format!("{folder}/params.npz"), &saerepl::formats::npz::write(&set).unwrap());
    place.path(folder)
}

fn dense(directions: saerepl::dictionary::Directions) -> Vec<f64> {
    directions.dense(None, &work()).unwrap().to_f64()
}

/// Each row times a gain.
fn gained(rows: &Tensor, gain: &Tensor) -> Vec<f64> {
    let (gain, d) = (gain.to_f64(), rows.shape()[1]);
    rows.to_f64().into_iter().enumerate().map(|(at, v)| v * gain[at % d]).collect()
}

#[test]
fn trap_08_what_the_mlp_adds_and_what_it_puts_out() {
    let (place, gemma) = (Place::new(), model("tiny-gemma2"));
    // Gemma Scope's mlp SAEs stand after the post-norm; sparsify's module outputs before it.
    let scope = load(&archive(&place, "gemma-scope-2b-pt-mlp/layer_1/width_16k/average_l0_40", 21, 12));
    assert_eq!((scope.site(), scope.layer()), (Site::MlpOut, Some(1)));
    assert_close(&dense(scope.write(&gemma, &work()).unwrap()), &scope.w_dec().to_f64(), 1e-7, "Gemma Scope");
    let tensors = [
        ("encoder.weight", made(&[21, 12], 0)),
        ("encoder.bias", made(&[21], 1)),
        ("W_dec", made(&[21, 12], 2)),
        ("b_dec", made(&[12], 3)),
    ];
    place.tensors("layers.1.mlp/sae.safetensors", &tensors);
    place.json("layers.1.mlp/cfg.json", json!({"k": 2, "num_latents": 0, "d_in": 12, "expansion_factor": 2}));
    let module = load(&place.path("layers.1.mlp"));
    let expected = gained(&tensors[2].1, &gemma.gain("blocks.1.ln2_post").unwrap());
    assert_close(&dense(module.write(&gemma, &work()).unwrap()), &expected, 1e-6, "sparsify on Gemma");
    let llama = model("tiny-llama");
    assert_close(
        &dense(module.write(&llama, &work()).unwrap()),
        &tensors[2].1.to_f64(),
        1e-7,
        "sparsify on a model without post-norm",
    );
}

#[test]
fn trap_09_attention_saes_stand_in_z_by_their_path() {
    let (place, gemma) = (Place::new(), model("tiny-gemma2"));
    let sae = load(&archive(&place, "gemma-scope-2b-pt-att/layer_1/width_16k/average_l0_40", 21, 32));
    assert_eq!((sae.site(), sae.hook()), (Site::Z, "blocks.1.attn.hook_z"));
    assert_eq!(sae.write(&gemma, &work()).unwrap().rows.shape(), [21, 12]);
    // Of the residual stream's width it is still in z, where it does not fit.
    let narrow = load(&archive(&place, "gemma-scope-9b-pt-att/layer_1/width_16k/average_l0_40", 21, 12));
    assert_eq!(narrow.site(), Site::Z);
    assert!(narrow.write(&gemma, &work()).unwrap_err().to_string().contains("z of"));
}

#[test]
fn trap_10_misleading_names_of_places() {
    let sae = load(&fixture("saes/gemma-scope-2-270m-pt/attn_out_all/layer_2_width_10_l0_small"));
    assert_eq!(sae.site(), Site::Z);
    // A Gemma Scope 2 transcoder that SAELens has saved is called by the residual stream before the norm.
    let place = Place::new();
    let mut cfg = saelens("blocks.1.hook_mlp_in");
    cfg["architecture"] = "transcoder".into();
    cfg["metadata"]["hook_name_out"] = "blocks.1.hook_mlp_out".into();
    cfg["metadata"]["hf_hook_name"] = "model.layers.1.pre_feedforward_layernorm.output".into();
    place.tensors("sae_weights.safetensors", &four([12, 21], [21, 12], 21, 12));
    place.json("cfg.json", cfg);
    assert_eq!(load(&place.path("")).hook(), "blocks.1.mlp.hook_in");
}

#[test]
fn trap_11_three_inputs_of_transcoders() {
    let (place, gemma) = (Place::new(), model("tiny-gemma2"));
    let gain = gemma.gain("blocks.1.ln2").unwrap();
    // Before the gain: Gemma Scope 1.
    let before = load(&archive(&place, "gemma-scope-2b-pt-transcoders/layer_1/width_16k/average_l0_40", 21, 12));
    assert_eq!((before.hook(), before.hook_out()), ("blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"));
    let stored = before.w_enc().unwrap().t();
    assert_close(&dense(before.read(&gemma, &work()).unwrap()), &stored.to_f64(), 1e-7, "before the gain");
    // After it: Gemma Scope 2, Qwen3.
    let mut tensors = lower(four([12, 21], [21, 12], 21, 12));
    tensors.push(("threshold", Tensor::vector(vec![0.1; 21])));
    place.tensors("gemma-scope-2-1b-pt/transcoder_all/layer_1_width_16k_l0_small/params.safetensors", &tensors);
    let after = load(&place.path("gemma-scope-2-1b-pt"));
    assert_eq!((after.hook(), after.site()), ("blocks.1.mlp.hook_in", Site::Ln2Normalized));
    assert_close(
        &dense(after.read(&gemma, &work()).unwrap()),
        &gained(&after.w_enc().unwrap().t(), &gain),
        1e-6,
        "after the gain",
    );
    assert!(Hook::parse(after.hook(), gemma.cfg()).is_ok());
    // As wide at both ends, it is no SAE all the same.
    assert!(after.ablation(0, &work()).unwrap_err().to_string().contains("does not give back what it reads"));
    // The residual stream itself: Llama 3.2.
    place.tensors("transcoder-Llama-3.2-1B/layer_1.safetensors", &four([21, 12], [21, 12], 21, 12));
    let raw = load(&place.path("transcoder-Llama-3.2-1B"));
    assert_eq!((raw.hook(), raw.hook_out()), ("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"));
    assert_close(&dense(raw.read(&gemma, &work()).unwrap()), &raw.w_enc().unwrap().t().to_f64(), 1e-7, "no norm");
    assert!(!raw.written_before_attention(1, &gemma) && raw.written_before_attention(2, &gemma));
    let shown = after.describe(&work()).unwrap();
    assert!(shown.iter().any(|(what, value)| what == "read directions" && value.contains("gain of ln2")), "{shown:?}");
    // Where nothing says which, nothing is guessed.
    let unknown = place.tensors("mine/layer_1.safetensors", &four([21, 12], [21, 12], 21, 12));
    let error = refusal(&unknown);
    assert!(
        error.to_string().contains("do not say what it reads") && error.helps()[0].contains("blocks.1.mlp.hook_in"),
        "{error:?}"
    );
    let told = SaeOptions { hook: Some("blocks.1.mlp.hook_in".into()), ..SaeOptions::default() };
    let told = load_sae(&unknown, None, &told, &work()).unwrap();
    assert_eq!((told.hook(), told.hook_out()), ("blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"));
}

#[test]
fn trap_23_a_centred_residual_stream() {
    let gpt2 = model("forward/gpt2");
    let doubts = |kwargs: Json| {
        let place = Place::new();
        let mut cfg = saelens("blocks.1.hook_resid_pre");
        cfg["metadata"]["model_from_pretrained_kwargs"] = kwargs;
        place.tensors("sae_weights.safetensors", &four([24, 40], [40, 24], 40, 24));
        place.json("cfg.json", cfg);
        load(&place.path("")).doubts(&gpt2)
    };
    assert!(doubts(json!({}))[0].contains("without its mean"));
    assert!(doubts(json!({"center_writing_weights": false})).is_empty());
}

#[test]
fn trap_24_the_output_of_a_layer_is_the_input_of_the_next() {
    let place = Place::new();
    let at = |folder: &str, hook: &str| {
        place.tensors(&format!("{folder}/sae_weights.safetensors"), &four([12, 21], [21, 12], 21, 12));
        place.json(&format!("{folder}/cfg.json"), saelens(hook));
        load(&place.path(folder))
    };
    let llama = model("tiny-llama");
    let (post, pre) = (at("post", "blocks.0.hook_resid_post"), at("pre", "blocks.1.hook_resid_pre"));
    // Attention of layer 1 reads both, that of layer 0 neither.
    for sae in [&post, &pre] {
        assert!(sae.written_before_attention(1, &llama) && !sae.written_before_attention(0, &llama));
    }
    assert!(!at("next", "blocks.1.hook_resid_post").written_before_attention(1, &llama));
    // sparsify's `layers.L` is a layer's output, transformers' hidden_states[L] its input.
    assert_eq!(Site::of_hook("layers.2"), Some((Site::ResidPost, Some(2))));
    let hooks = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"].map(|name| Hook::parse(name, llama.cfg()).unwrap());
    let request = Request { keep: hooks.into(), ..Request::default() };
    let pass = llama.forward(&work()).unwrap().run(&[&[3, 14, 5]], &request, &work()).unwrap();
    assert_eq!(pass.kept[0].1.to_f32(), pass.kept[1].1.to_f32());
}

/// Folders without a layer's number, and labels of widths, of which the tensors know better.
#[test]
fn trap_25_26_embedding_folders_and_labels_of_widths() {
    let place = Place::new();
    let sae = load(&archive(&place, "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", 21, 12));
    assert_eq!((sae.site(), sae.layer(), sae.hook(), sae.n()), (Site::Embed, None, "hook_embed", 21));
    assert_eq!((&sae.cfg()["width"], &sae.cfg()["average_l0"]), (&json!("4k"), &json!("6")));
    assert_eq!(sae.cfg()["input rows"], "of the embedding, without the model's scale");
    // `e-res-sm` is the embedding's output, which enters layer 0.
    place.tensors("pythia-70m-deduped__res-sm_processed/e-res-sm/sae_weights.safetensors", &four([6, 10], [10, 6], 10, 6));
    place.json("pythia-70m-deduped__res-sm_processed/e-res-sm/cfg.json", saelens("blocks.0.hook_resid_pre"));
    let first = load(&place.path("pythia-70m-deduped__res-sm_processed/e-res-sm"));
    assert_eq!((first.site(), first.layer()), (Site::ResidPre, Some(0)));

    archive(&place, "gemma-scope-9b-pt-mlp/layer_20/width_1m/average_l0_57", 21, 12);
    let params: Vec<_> = lower(four([12, 21], [21, 12], 21, 12)).into_iter().chain([("threshold", made(&[21], 4))]).collect();
    place.tensors("gemma-scope-2-1b-pt/resid_post/layer_7_width_262k_l0_medium/params.safetensors", &params);
    place.put("SAE-Res-Qwen3.5-27B-W80K-L0_50/layer3.sae.pt", b"not read");
    let table = list_saes(&place.path(""), &work()).unwrap();
    let widths: Vec<(String, f64)> = (0..table.len())
        .map(|row| {
            let row = table.row(row).unwrap();
            let text = |cell: &Cell| if let Cell::Text(text) = cell { text.to_string() } else { panic!("{cell:?}") };
            let number = |cell: &Cell| if let Cell::Float(number) = cell { *number } else { panic!("{cell:?}") };
            (
                text(&row.iter().find(|(name, _)| *name == "hook").unwrap().1),
                number(&row.iter().find(|(name, _)| *name == "d_sae").unwrap().1),
            )
        })
        .collect();
    for (hook, width) in [
        ("hook_embed", 4096.0),
        ("blocks.20.hook_mlp_out", 1_048_576.0),
        ("blocks.7.hook_resid_post", 262_144.0),
        ("blocks.3.hook_resid_post", 81_920.0),
    ] {
        assert!(widths.contains(&(hook.to_string(), width)), "{hook}: {widths:?}");
    }
}

#[test]
fn trap_30_factors_of_an_old_file() {
    let place = Place::new();
    let mut tensors = four([6, 10], [10, 6], 10, 6);
    let factors: Vec<f32> = (0..10).map(|i| 0.5 + i as f32).collect();
    tensors.push(("finetuning_scaling_factor", Tensor::vector(factors.clone())));
    place.tensors("sae_weights.safetensors", &tensors);
    place.json("cfg.json", json!({"hook_name": "blocks.0.hook_resid_pre", "d_sae": 10}));
    let sae = load(&place.path(""));
    let scaled: Vec<f64> = tensors[1].1.to_f64().into_iter().enumerate().map(|(at, v)| v * f64::from(factors[at / 6])).collect();
    assert_close(&sae.w_dec().to_f64(), &scaled, 1e-6, "W_dec");
}

/// Sums of 4096 products of bf16 numbers: in bf16 they would be off by about 1e-2.
#[test]
fn trap_31_bf16_weights_are_summed_in_f32() {
    let place = Place::new();
    let d = 4096;
    let mut set = TensorSet::new("");
    for (name, tensor) in four([d, 5], [5, d], 5, d) {
        set.insert(name, tensor);
    }
    let mut bytes = Vec::new();
    safetensors::write_bf16_to(&set, &mut bytes).unwrap();
    place.put("sae_weights.safetensors", &bytes);
    place.json("cfg.json", saelens("blocks.1.hook_resid_post"));
    let sae = load(&place.path(""));
    assert_eq!(sae.w_dec().dtype(), DType::BF16);
    let (w_enc, w_dec) = (sae.w_enc().unwrap().t().to_f64(), sae.w_dec().to_f64());
    let norms: Vec<f64> = w_dec.chunks(d).map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
    assert_close(&sae.decoder_norms(&work()).unwrap(), &norms, 1e-6, "norms");
    let (x, b_enc) = (made(&[d], 9), sae.b_enc().unwrap().to_f64());
    let pre = |(row, b): (&[f64], &f64)| (row.iter().zip(x.to_f64()).map(|(w, x)| w * x).sum::<f64>() + b).max(0.0);
    let expected: Vec<f64> = w_enc.chunks(d).zip(&b_enc).map(pre).collect();
    assert!(expected.iter().any(|v| *v > 1.0));
    assert_close(&sae.encode(&x, &work()).unwrap().to_f64(), &expected, 1e-5, "acts");
}

#[test]
fn trap_32_rows_of_w_dec_have_their_own_norms() {
    let sae = load(&fixture("saes/Llama3_1-8B-Base-L2R-32x"));
    let norms = sae.decoder_norms(&work()).unwrap();
    let expected: Vec<f64> = (0..10).map(|i| 0.4 + 1.5 * f64::from(i) / 9.0).collect();
    assert_close(&norms, &expected, 1e-5, "norms");
}

#[test]
fn trap_33_dead_latents_are_counted_and_pollute_nothing() {
    let place = Place::new();
    let mut tensors = four([12, 21], [21, 12], 21, 12);
    tensors[1].1.make_mut_f32()[12 * 4..12 * 5].fill(0.0);
    place.tensors("sae_weights.safetensors", &tensors);
    place.json("cfg.json", saelens("blocks.1.hook_resid_post"));
    // SAELens writes log10(frequency + 1e-10).
    let sparsity: Vec<f32> = (0..21).map(|i| if i % 7 == 2 { -10.0 } else { -2.0 }).collect();
    place.tensors("sparsity.safetensors", &[("sparsity", Tensor::vector(sparsity))]);
    let sae = load(&place.path(""));
    let density = sae.density().unwrap();
    assert_eq!(density.iter().filter(|density| **density == 0.0).count(), 3);
    let facts = sae.describe(&work()).unwrap();
    let fact = |what: &str| facts.iter().find(|(name, _)| name == what).unwrap().1.clone();
    assert!(fact("firing").starts_with("3 features never"), "{facts:?}");
    assert!(fact("decoder norms").ends_with("1 of them zero"), "{facts:?}");
    let options = TokenOptions { scale: Scale::Cosine, ..TokenOptions::default() };
    let cosines = unembed(&sae, &model("tiny-llama"), &options, &work()).unwrap();
    assert!(cosines.scores(4, &work()).unwrap().to_f64().iter().all(|v| *v == 0.0));
    assert!((0..21).all(|feature| cosines.scores(feature, &work()).unwrap().to_f64().iter().all(|v| v.is_finite())));
}

#[test]
fn trap_34_a_checkpoints_tensors_stay_in_the_file() {
    for name in ["dl-AutoEncoder", "openai/resid_post_mlp_v5_32k", "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"] {
        let sae = load(&fixture(&format!("saes/{name}")));
        assert!(sae.w_enc().unwrap().is_mapped() && sae.w_dec().is_mapped(), "{name}");
    }
}

#[test]
fn trap_36_layers_of_cross_layer_decoders_count_from_different_ones() {
    let to = |path: &str, layer: Option<usize>, to_layer: usize| {
        let options = SaeOptions { layer, to_layer: Some(to_layer), ..SaeOptions::default() };
        load_sae(&fixture(&format!("saes/{path}")), None, &options, &work())
    };
    let at = |file: &str, name: &str, index: usize| {
        let path = fixture(&format!("saes/{file}"));
        let set = safetensors::read(saerepl::tensor::Bytes::map(Path::new(&path)).unwrap(), Path::new(&path)).unwrap();
        set.get(name).unwrap().select(1, index).unwrap().to_f32()
    };
    // Layer 3 from layer 1: the third of circuit-tracer's, the fourth of Gemma Scope's.
    let relative = to("clt-gemma-2-2b-426k/W_enc_1.safetensors", None, 3).unwrap();
    assert_eq!(relative.w_dec().to_f32(), at("clt-gemma-2-2b-426k/W_dec_1.safetensors", "W_dec_1", 2));
    let own = "gemma-scope-2-270m-pt/clt/width_10_l0_big/params_layer_1.safetensors";
    let absolute = to(own, None, 3).unwrap();
    assert_eq!(absolute.w_dec().to_f32(), at(own, "w_dec", 3));
    assert_eq!((absolute.layer(), absolute.hook_out()), (Some(1), "blocks.3.hook_mlp_out"));
    assert!(relative.b_dec().is_none() && absolute.b_dec().is_none());
    for (path, layer, to_layer, fault) in [
        ("clt-gemma-2-2b-426k/W_enc_1.safetensors", None, 0, "write layers 1 to 3"),
        ("clt-gemma-2-2b-426k/W_enc_1.safetensors", None, 4, "write layers 1 to 3"),
        (own, None, 0, "from their own on"),
        (own, None, 4, "none of its layers"),
        ("gemma-scope-2-270m-pt/crosscoder", None, 9, "name the one that reads"),
        ("gemma-scope-2-270m-pt/crosscoder", Some(7), 9, "none of its layers"),
    ] {
        let error = to(path, layer, to_layer).unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
    }
}

#[test]
fn trap_37_scales_that_stand_in_no_file() {
    let place = Place::new();
    let mut cfg = saelens("blocks.3.hook_mlp_out");
    let tensors = four([6, 10], [10, 6], 10, 6);
    place.tensors("plain/sae_weights.safetensors", &tensors);
    place.json("plain/cfg.json", cfg.clone());
    cfg["normalize_activations"] = "expected_average_only_in".into();
    let folder = "gpt2-small-mlp-out-saes/sae_group_gpt2_blocks.3.hook_mlp_out_24576:v0";
    place.tensors(&format!("{folder}/sae_weights.safetensors"), &tensors);
    place.json(&format!("{folder}/cfg.json"), cfg);
    let (plain, scaled) = (load(&place.path("plain")), load(&place.path(folder)));
    let (x, s) = (made(&[6], 9), 1.895_852_2_f32);
    let times = |t: &Tensor, s: f32| Tensor::vector(t.to_f32().iter().map(|v| v * s).collect());
    let acts = plain.encode(&times(&x, s), &work()).unwrap();
    assert_close(&scaled.encode(&x, &work()).unwrap().to_f64(), &acts.to_f64(), 1e-6, "acts");
    let out = times(&plain.decode(&acts, &work()).unwrap(), 1.0 / s);
    assert_close(&scaled.reconstruct(&x, &work()).unwrap().to_f64(), &out.to_f64(), 1e-6, "out");
}

#[test]
fn trap_38_what_transformer_lens_had_folded_is_recorded() {
    let folder = fixture("saes/attn-saes-gpt2-small-all-layers");
    let file =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "pt");
    let sae = load(&file.unwrap().display().to_string());
    assert_eq!((sae.site(), sae.cfg()["z"].as_str().unwrap().starts_with("without value biases")), (Site::Z, true));
    assert!(sae.describe(&work()).unwrap().iter().any(|(what, value)| what == "z" && value.contains("TransformerLens")));
}

/// sparsify's `expansion_factor` may be wrong, its `num_latents` 0; what the tensors have counts, and a lie is said.
#[test]
fn trap_39_the_number_of_latents_is_the_tensors() {
    let sae = load(&fixture("saes/sparsify/layers.2.mlp"));
    // expansion_factor says 32 × 6.
    assert_eq!((sae.n(), sae.warnings().len()), (10, 0));
    let config: Json = serde_json::from_slice(&std::fs::read(fixture("saes/sparsify/layers.2.mlp/cfg.json")).unwrap()).unwrap();
    assert_eq!((&config["expansion_factor"], &config["num_latents"]), (&json!(32), &json!(10)));
    let place = Place::new();
    let tensors = [
        ("encoder.weight", made(&[10, 6], 0)),
        ("encoder.bias", made(&[10], 1)),
        ("W_dec", made(&[10, 6], 2)),
        ("b_dec", made(&[6], 3)),
    ];
    place.tensors("layers.1/sae.safetensors", &tensors);
    for (claimed, said) in [(0, None), (192, Some("cfg.json says num_latents 192, the tensors have 10: 10 is taken"))] {
        place.json("layers.1/cfg.json", json!({"k": 2, "num_latents": claimed, "expansion_factor": 32, "d_in": 6}));
        let sae = load(&place.path("layers.1"));
        assert_eq!((sae.n(), sae.warnings()), (10, said.map(str::to_string).as_slice()), "{claimed}");
        let x = made(&[6], 9);
        assert_eq!(sae.encode(&x, &work()).unwrap().to_f32().iter().filter(|v| **v != 0.0).count().min(2), 2);
    }
}

#[test]
fn trap_43_directions_behind_a_layer_norm_have_no_mean() {
    let place = Place::new();
    let mut cfg = saelens("blocks.1.hook_resid_post");
    cfg["normalize_activations"] = "layer_norm".into();
    let tensors = four([12, 21], [21, 12], 21, 12);
    place.tensors("sae_weights.safetensors", &tensors);
    place.json("cfg.json", cfg);
    let read = dense(load(&place.path("")).read(&model("tiny-llama"), &work()).unwrap());
    let stored = tensors[0].1.t().to_f64();
    let expected: Vec<f64> =
        stored.chunks(12).flat_map(|row| row.iter().map(|v| v - row.iter().sum::<f64>() / 12.0).collect::<Vec<_>>()).collect();
    assert_close(&read, &expected, 1e-6, "read");
    // Nor has what a LayerNorm model's neurons read.
    let neurons = saerepl::dictionary::mlp_neurons(&model("forward/gpt2"), 0).unwrap();
    let read = dense(neurons.read(&model("forward/gpt2"), &work()).unwrap());
    assert!(read.chunks(24).all(|row| row.iter().sum::<f64>().abs() < 1e-5));
}

#[test]
fn trap_44_a_parallel_model_has_no_middle() {
    let place = Place::new();
    place.tensors("sae_weights.safetensors", &four([24, 40], [40, 24], 40, 24));
    place.json("cfg.json", saelens("blocks.1.hook_resid_mid"));
    let error = load(&place.path("")).write(&model("forward/gpt_neox"), &work()).unwrap_err();
    assert!(error.to_string().contains("blocks.1.hook_resid_mid, which"), "{error}");
}

/// Names that look like something else: folders that end in `.pt`, names with colons, blanks, a plus or a percent sign.
#[test]
fn trap_45_folders_that_are_called_like_files() {
    let place = Place::new();
    let tensors = four([6, 10], [10, 6], 10, 6);
    let folders = [
        "v5_32k_layer_0.pt",
        "v5_32k_layer_1.pt",
        "sae_group_gpt2_blocks.2.hook_mlp_out_24576:v0",
        "C:run 4+5%20(é)",
        "x.safetensors",
    ];
    for (layer, folder) in folders.iter().enumerate() {
        place.tensors(&format!("{folder}/sae_weights.safetensors"), &tensors);
        place.json(&format!("{folder}/cfg.json"), saelens(&format!("blocks.{layer}.hook_resid_post")));
    }
    for (layer, folder) in folders.iter().enumerate() {
        assert_eq!(load(&place.path(folder)).layer(), Some(layer), "{folder}");
        let inside = load_sae(&place.path(""), Some(folder), &SaeOptions::default(), &work()).unwrap();
        assert_eq!(inside.layer(), Some(layer), "{folder}");
        let file = load(&place.path(&format!("{folder}/sae_weights.safetensors")));
        assert_eq!(file.layer(), Some(layer), "{folder}");
    }
    let table = list_saes(&place.path(""), &work()).unwrap();
    assert_eq!(table.len(), folders.len());
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

#[test]
fn wrapped_and_prefixed_checkpoints_open() {
    let place = Place::new();
    let plain = load(&place.put("plain.pt", &linear_checkpoint(str::to_string)));
    assert!(plain.w_enc().unwrap().is_mapped());
    assert_eq!(plain.w_enc().unwrap().t().to_f32(), values(160)[..60]);
    // Stored with strides 1, 6: turned round twice.
    assert_eq!(plain.w_dec().to_f32(), values(160)[60..120]);
    // Every fifth of the storage.
    let every_fifth: Vec<f32> = values(160)[130..].iter().step_by(5).copied().collect();
    assert_eq!(plain.b_dec().unwrap().to_f32(), every_fifth);
    for prefix in ["module.", "_orig_mod.", "sae.", "state_dict.", "model.module."] {
        let prefixed = load(&place.put("prefixed.pt", &linear_checkpoint(|name| format!("{prefix}{name}"))));
        assert_eq!(prefixed.w_enc().unwrap().to_f32(), plain.w_enc().unwrap().to_f32(), "{prefix}");
    }
    let inner = dict(&[
        ("encoder.weight", tensor("0", 160, 0, &[10, 6], &[6, 1])),
        ("decoder.weight", tensor("0", 160, 60, &[6, 10], &[1, 6])),
        ("encoder.bias", tensor("0", 160, 120, &[10], &[1])),
        ("bias", tensor("0", 160, 130, &[6], &[5])),
    ]);
    let nested = dict(&[("cfg", dict(&[("lr", b"G\x3f\xf0\0\0\0\0\0\0".to_vec())])), ("state_dict", inner)]);
    let nested = load(&place.put("nested.pt", &checkpoint(&whole(nested), &[("0", values(160))])));
    assert_eq!(nested.w_dec().to_f32(), plain.w_dec().to_f32());
}

/// tests/reference/checkpoints.py: weights beside numbers of NumPy, classes, paths and a whole module, written by torch.save.
#[test]
fn checkpoints_as_training_scripts_leave_them() {
    let expected = reference("checkpoints.json");
    let file = |name: &str| fixture(&format!("checkpoints/{name}"));
    let weight = |name: &str| numbers(&expected["weights"][name]);
    let path = file("objects.pt");
    let set = torch::read(Bytes::map(Path::new(&path)).unwrap(), Path::new(&path), &work()).unwrap();
    for (key, value) in expected["metadata"].as_object().unwrap() {
        let found = set.metadata.get(key).unwrap_or_else(|| panic!("{key}: {:?}", set.metadata));
        match value {
            Json::Bool(value) => assert_eq!(found, &value.to_string(), "{key}"),
            value => assert_eq!(found.parse::<f64>().unwrap(), value.as_f64().unwrap(), "{key}"),
        }
    }
    for object in ["cfg.array (`numpy.ndarray`)", "cfg.path (`pathlib.PurePosixPath`)", "cfg.args (`argparse.Namespace`)"] {
        assert!(set.unread.iter().any(|name| name == object), "{object}: {:?}", set.unread);
    }
    let sae = load(&path);
    let facts = sae.describe(&work()).unwrap();
    let unread = &facts.iter().find(|(what, _)| what == "members not read").unwrap().1;
    assert!(unread.contains("cfg.config (`training.sae.Config`)"), "{unread}");
    for name in ["objects.pt", "k-number.pt", "k-numpy.pt", "k-config.pt", "module.pt"] {
        let sae = load(&file(name));
        let transposed = |t: &Tensor| t.t().to_f64();
        assert_close(&transposed(&sae.w_enc().unwrap()), &weight("encoder.weight"), 1e-7, name);
        assert_close(&transposed(&sae.w_dec()), &weight("decoder.weight"), 1e-7, name);
        assert_close(&sae.b_enc().unwrap().to_f64(), &weight("encoder.bias"), 1e-7, name);
        assert_close(&sae.b_dec().unwrap().to_f64(), &weight("decoder.bias"), 1e-7, name);
    }
}

/// A k that a checkpoint stores, as a tensor or a number, is the activation's, or is said to be of no use.
#[test]
fn a_stored_k_is_not_lost() {
    let said = |sae: &Dictionary| sae.warnings().iter().any(|warning| warning.contains("k = 3"));
    for (name, warned) in [("k-number.pt", false), ("k-numpy.pt", false), ("k-config.pt", true)] {
        let sae = load(&fixture(&format!("checkpoints/{name}")));
        assert_eq!((sae.activation(), said(&sae)), (Activation::TopK(3), warned), "{name}: {:?}", sae.warnings());
        let acts = sae.encode(&made(&[6], 9), &work()).unwrap().to_f32();
        assert!((1..=3).contains(&acts.iter().filter(|v| **v > 0.0).count()), "{name}: {acts:?}");
    }
    assert_eq!(load(&fixture("checkpoints/module.pt")).activation(), Activation::Relu);
    let place = Place::new();
    let k = ("k", b"K\x03".to_vec());
    let linear = [
        ("encoder.weight", tensor("0", 160, 0, &[10, 6], &[6, 1])),
        ("decoder.weight", tensor("0", 160, 60, &[6, 10], &[1, 6])),
        ("encoder.bias", tensor("0", 160, 120, &[10], &[1])),
        ("bias", tensor("0", 160, 130, &[6], &[5])),
    ];
    let of = |entries: &[(&str, Vec<u8>)]| checkpoint(&whole(dict(entries)), &[("0", values(160))]);
    let relu = place.put("relu.pt", &of(&[&linear[..], std::slice::from_ref(&k)].concat()));
    let sae = load(&relu);
    assert!(sae.activation() == Activation::TopK(3) && said(&sae), "{:?}", sae.warnings());
    let asked = SaeOptions { k: Some(5), ..SaeOptions::default() };
    assert_eq!(load_sae(&relu, None, &asked, &work()).unwrap().activation(), Activation::TopK(5));
    let jump = [
        ("W_enc", tensor("0", 160, 0, &[6, 10], &[10, 1])),
        ("W_dec", tensor("0", 160, 60, &[10, 6], &[6, 1])),
        ("b_enc", tensor("0", 160, 120, &[10], &[1])),
        ("b_dec", tensor("0", 160, 130, &[6], &[1])),
        ("threshold", tensor("0", 160, 140, &[10], &[1])),
        k,
    ];
    let sae = load(&place.put("jump.pt", &of(&jump)));
    assert!(sae.activation() == Activation::JumpRelu && said(&sae), "{:?}", sae.warnings());
}

/// What `info` says of how a file was read: names and orientation, thresholds, the factor of activations, whose class is not read.
#[test]
fn info_says_how_a_file_was_read() {
    let fact = |name: &str, what: &str| {
        let facts = load(&fixture(name)).describe(&work()).unwrap();
        facts.into_iter().find(|(key, _)| key == what).unwrap_or_else(|| panic!("{name} has no {what}")).1
    };
    assert_eq!(
        fact("saes/dl-AutoEncoder", "in the file"),
        "W_enc is encoder.weight transposed, W_dec is decoder.weight transposed"
    );
    assert_eq!(
        fact("saes/SAE-Res-Qwen3-1.7B-Base-W32K-L0_3", "in the file"),
        "W_enc is W_enc transposed, W_dec is W_dec transposed"
    );
    assert_eq!(fact("saes/sparsify/layers.2.mlp", "in the file"), "W_enc is encoder.weight transposed");
    let facts = load(&fixture("saes/saelens-standard")).describe(&work()).unwrap();
    assert!(facts.iter().all(|(what, _)| what != "in the file"), "{facts:?}");
    let thresholds = numbers(&reference("sae_formats.json")["logical"]["threshold"]);
    let (low, high) = thresholds.iter().fold((f64::INFINITY, 0f64), |(low, high), v| (low.min(*v), high.max(*v)));
    assert_eq!(fact("saes/saelens-jumprelu", "activation"), format!("jumprelu, above thresholds from {low:.4} to {high:.4}"));
    assert_eq!(fact("saes/saelens-topk", "activation"), "topk, k = 3");
    assert_eq!(
        fact("saes/saelens-topk-rescaled", "activation"),
        "topk, k = 3, of pre-activations times the norms of W_dec's rows"
    );
    let module = load(&fixture("checkpoints/module.pt"));
    let said = "the file is an object of `training.sae.SAE`, whose code is not in it: read as linear layers (Goodfire, qresearch), with \
                the activation relu";
    assert!(module.warnings().iter().any(|warning| warning == said), "{:?}", module.warnings());
}

/// 8-bit floats whose scale is not in the file are taken as they are, which is said.
#[test]
fn eight_bit_floats_without_scales_are_said() {
    let place = Place::new();
    let header = "{\"W_dec\":{\"dtype\":\"F8_E4M3\",\"shape\":[10,6],\"data_offsets\":[0,60]},\"W_enc\":{\"dtype\":\"F8_E5M2\",\"shape\":[6,10],\
                  \"data_offsets\":[60,120]},\"b_dec\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[120,144]},\"b_enc\":{\"dtype\":\"F32\",\
                  \"shape\":[10],\"data_offsets\":[144,184]}}";
    let data: Vec<u8> = (0..120).chain([0; 64]).collect();
    place.put("sae_weights.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat());
    place.json("cfg.json", saelens("blocks.1.hook_resid_post"));
    let sae = load(&place.path(""));
    let warning = sae.warnings().iter().find(|warning| warning.contains("without a scale")).unwrap();
    assert!(warning.contains("W_dec (f8_e4m3), W_enc (f8_e5m2)"), "{warning}");
    let facts = sae.describe(&work()).unwrap();
    assert!(facts.iter().any(|(what, value)| what == "warning" && value == warning), "{facts:?}");
}

/// A folder inside the place that is a link to another of it is listed by its own name, and opens by both.
#[cfg(unix)]
#[test]
fn a_link_to_a_folder_opens_what_it_leads_to() {
    let place = Place::new();
    for (folder, layer) in [("run2", 2), ("deep/run3", 3)] {
        place.tensors(&format!("{folder}/sae_weights.safetensors"), &four([6, 10], [10, 6], 10, 6));
        place.json(&format!("{folder}/cfg.json"), saelens(&format!("blocks.{layer}.hook_resid_post")));
    }
    std::os::unix::fs::symlink("deep/run3", place.path("latest")).unwrap();
    let elsewhere = Place::new();
    elsewhere.tensors("run4/sae_weights.safetensors", &four([6, 10], [10, 6], 10, 6));
    std::os::unix::fs::symlink(elsewhere.path(""), place.path("other")).unwrap();
    std::os::unix::fs::symlink("other", place.path("again")).unwrap();
    let inside = |path: &str| load_sae(&place.path(""), Some(path), &SaeOptions::default(), &work());
    for path in ["latest", "latest/", "latest/sae_weights.safetensors", "deep/run3"] {
        assert_eq!(inside(path).unwrap().layer(), Some(3), "{path}");
    }
    assert_eq!(load(&place.path("latest")).layer(), Some(3));
    assert_eq!(inside("latest").unwrap().name(), format!("{}/latest", place.path("")));
    for path in ["run4", "latest/run2", "../x", "again/run5"] {
        assert!(inside(path).is_err(), "{path}");
    }
}

/// A square decoder whose columns have the norms that its rows should have, and matrices that a map gives in the other
/// orientation.
#[test]
fn both_matrices_turned_round_are_noticed() {
    let place = Place::new();
    let n = 24;
    let mut rows = made(&[n, n], 1);
    for row in rows.make_mut_f32().chunks_mut(n) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v /= norm);
    }
    let noise = made(&[n, n], 7);
    let w_enc: Vec<f32> = rows.t().to_f32().iter().zip(noise.to_f32()).map(|(w, e)| w + 0.1 * e).collect();
    let w_enc = Tensor::from_f32(w_enc, &[n, n]).unwrap();
    let turned = |t: &Tensor| t.t().contiguous();
    for (folder, encoder, decoder, advice) in [
        ("right", w_enc.clone(), rows.clone(), None),
        ("encoder", turned(&w_enc), rows.clone(), Some("transpose: [\"W_enc\"]")),
        ("decoder", w_enc.clone(), turned(&rows), Some("transpose: [\"W_dec\"]")),
        ("both", turned(&w_enc), turned(&rows), Some("transpose: [\"W_enc\", \"W_dec\"]")),
    ] {
        let tensors = [("W_enc", encoder), ("W_dec", decoder), ("b_enc", made(&[n], 2)), ("b_dec", made(&[n], 3))];
        place.tensors(&format!("{folder}/sae_weights.safetensors"), &tensors);
        place.json(&format!("{folder}/cfg.json"), saelens("blocks.0.hook_resid_pre"));
        let sae = load(&place.path(folder));
        let said = sae.warnings().iter().find(|warning| warning.contains("turned round"));
        assert_eq!(said.is_some(), advice.is_some(), "{folder}: {said:?}");
        assert!(said.is_none_or(|said| advice.is_some_and(|advice| said.contains(advice))), "{folder}: {said:?}");
    }
    // Rows of any norm, as a trained SAE without a constraint has them, show nothing.
    let tensors = four([n, n], [n, n], n, n);
    place.tensors("free/sae_weights.safetensors", &tensors);
    place.json("free/cfg.json", saelens("blocks.0.hook_resid_pre"));
    assert!(load(&place.path("free")).warnings().is_empty());

    let path = place.tensors("mine.safetensors", &four([10, 6], [6, 10], 10, 6));
    let word = |text: &str| Value::Text(text.into());
    let open = |names: &[&str], transpose: bool| {
        let mut map: OptionMap = names.iter().map(|name| (name.to_string(), word(name))).collect();
        if transpose {
            map.insert("transpose".into(), Value::List(vec![word("W_enc"), word("W_dec")]));
        }
        let given = [("map", Value::Map(map)), ("hook", word("blocks.0.hook_resid_pre"))];
        let options = SaeOptions::parse(&given.map(|(key, value)| (key.to_string(), value)).into()).unwrap();
        load_sae(&path, None, &options, &work())
    };
    let error = open(&["W_enc", "W_dec", "b_enc"], false).unwrap_err();
    assert!(error.to_string().contains("has 10 values, but 6 are needed"), "{error}");
    assert!(error.helps().iter().any(|help| help.contains("transpose: [\"W_enc\", \"W_dec\"]")), "{error:?}");
    assert!(open(&["W_enc", "W_dec"], false).unwrap().warnings()[0].contains("6 features of width 10"));
    let right = open(&["W_enc", "W_dec", "b_enc", "b_dec"], true).unwrap();
    assert_eq!((right.n(), right.warnings().len()), (10, 0));
}

/// The file that BatchTopKSAE writes, away from its config.json, is also one of AutoEncoderTopK.
#[test]
fn a_checkpoint_of_two_classes_says_how_to_choose() {
    let place = Place::new();
    let trained = fixture("saes/dl-BatchTopKSAE/resid_post_layer_2/trainer_0/ae.pt");
    let sae = load(&place.put("ae.pt", &std::fs::read(trained).unwrap()));
    assert_eq!(sae.activation(), Activation::TopK(3));
    let said = sae.warnings().iter().find(|warning| warning.contains("AutoEncoderTopK and BatchTopKSAE store the same tensors"));
    assert!(said.is_some_and(|said| said.contains("config.json beside it")), "{:?}", sae.warnings());
    let unset = fixture("saes/dl-BatchTopKSAE-unset/resid_post_layer_2/trainer_0/ae.pt");
    let unset = load(&place.put("unset.pt", &std::fs::read(unset).unwrap()));
    assert!(!unset.warnings().iter().any(|warning| warning.contains("store the same")), "{:?}", unset.warnings());
}

/// As PyTorch has it: relu, comparison times relu, and topk, which takes NaN for the largest, keep NaN.
#[test]
fn nan_passes_through_every_activation_and_is_said_once() {
    let place = Place::new();
    let mut tensors = four([6, 10], [10, 6], 10, 6);
    // Feature 3's encoder, with the sign that the processor gives.
    tensors[0].1.make_mut_f32()[3] = -f32::NAN;
    tensors.push(("threshold", made(&[10], 4)));
    let x = Tensor::ones(&[2, 6], &work()).unwrap();
    for architecture in ["standard", "jumprelu", "topk", "abstopk"] {
        let cfg = json!({"architecture": architecture, "k": 2, "metadata": {"hook_name": "blocks.0.hook_resid_pre"}});
        place.tensors("nan/sae_weights.safetensors", &tensors);
        place.json("nan/cfg.json", cfg);
        let sae = load(&place.path("nan"));
        let acts = sae.encode(&x, &work()).unwrap().to_f32();
        assert!(acts[3].is_nan() && acts[13].is_nan(), "{architecture}: {acts:?}");
        assert!(acts.iter().filter(|v| v.is_nan()).count() == 2, "{architecture}: {acts:?}");
        let out = sae.decode(&Tensor::from_f32(acts, &[2, 10]).unwrap(), &work()).unwrap().to_f32();
        assert!(out.iter().all(|v| v.is_nan()), "{architecture}: {out:?}");
    }
    let script = format!("let s = load_sae({:?}); s.encode(ones([2, 6])); s.encode(ones([2, 6]));", place.path("nan"));
    let script = place.put("s.rhai", script.as_bytes());
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_saerepl")).args(["run", &script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(said.matches("1 columns of W_enc of").count(), 1, "{said}");

    // All of a decoder.
    let mut tensors = four([6, 10], [10, 6], 10, 6);
    tensors[1].1.make_mut_f32().fill(f32::NAN);
    place.tensors("all/sae_weights.safetensors", &tensors);
    place.json("all/cfg.json", saelens("blocks.0.hook_resid_pre"));
    let facts = load(&place.path("all")).describe(&work()).unwrap();
    assert!(facts.contains(&("decoder norms".to_string(), "none is a number".to_string())), "{facts:?}");
}

#[test]
fn what_is_no_number_is_counted_and_what_looks_turned_is_said() {
    let place = Place::new();
    let mut tensors = four([6, 10], [10, 6], 10, 6);
    tensors[2].1.make_mut_f32()[3] = f32::NAN;
    tensors[1].1.make_mut_f32()[7] = f32::INFINITY;
    place.tensors("nan/sae_weights.safetensors", &tensors);
    place.put("nan/cfg.json", b"{\"hook_name\": \"blocks.0.hook_resid_pre\", \"lr\": NaN, \"l1\": Infinity}");
    let sae = load(&place.path("nan"));
    assert_eq!(sae.warnings(), ["values that are NaN or infinite: 1 of b_enc"]);
    let facts = sae.describe(&work()).unwrap();
    assert!(facts.iter().any(|(_, value)| value == "1 rows of W_dec hold NaN or infinity"), "{facts:?}");

    // W_enc is W_decᵀ in a trained SAE; stored the other way round it shows.
    let w_dec = made(&[8, 8], 1);
    for (folder, w_enc, doubtful) in [("right", w_dec.t(), false), ("turned", w_dec.clone(), true)] {
        let tensors =
            [("W_enc", w_enc.contiguous()), ("W_dec", w_dec.clone()), ("b_enc", made(&[8], 2)), ("b_dec", made(&[8], 3))];
        place.tensors(&format!("{folder}/sae_weights.safetensors"), &tensors);
        place.json(&format!("{folder}/cfg.json"), saelens("blocks.0.hook_resid_pre"));
        let warned = load(&place.path(folder)).warnings().iter().any(|warning| warning.contains("turned round"));
        assert_eq!(warned, doubtful, "{folder}");
    }
}

#[test]
fn what_is_no_number_is_counted_in_every_part() {
    let place = Place::new();
    let mut tensors = four([6, 10], [10, 6], 10, 6);
    tensors[0].1.make_mut_f32()[13] = f32::NAN;
    tensors[0].1.make_mut_f32()[23] = f32::NAN;
    tensors.push(("W_skip", made(&[6, 6], 5)));
    tensors[4].1.make_mut_f32()[7] = f32::INFINITY;
    place.tensors("skip/sae_weights.safetensors", &tensors);
    let mut config = saelens("blocks.0.ln2.hook_normalized");
    config["architecture"] = "skip_transcoder".into();
    config["metadata"]["hook_name_out"] = "blocks.0.hook_mlp_out".into();
    place.json("skip/cfg.json", config);
    let facts = load(&place.path("skip")).describe(&work()).unwrap();
    // Both lie in column 3 of W_enc.
    for warning in ["1 columns of W_enc hold NaN or infinity", "1 rows of W_skip hold NaN or infinity"] {
        assert!(facts.iter().any(|(_, value)| value == warning), "{warning}: {facts:?}");
    }

    let mut gated = four([6, 10], [10, 6], 10, 6);
    gated.remove(2);
    gated.extend([("b_gate", made(&[10], 6)), ("b_mag", made(&[10], 7)), ("r_mag", made(&[10], 8))]);
    gated[3].1.make_mut_f32()[2] = f32::NAN;
    place.tensors("gated/sae_weights.safetensors", &gated);
    let mut config = saelens("blocks.0.hook_resid_pre");
    config["architecture"] = "gated".into();
    place.json("gated/cfg.json", config);
    assert_eq!(load(&place.path("gated")).warnings(), ["values that are NaN or infinite: 1 of b_gate"]);
}

#[test]
fn what_was_not_read_is_named() {
    use std::io::{Cursor, Write};
    let place = Place::new();
    let mut zip = zip::ZipWriter::new_append(Cursor::new(npz_of(&[]))).unwrap();
    zip.start_file("README.txt", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"hello").unwrap();
    let odd = place.put("odd/params.npz", &zip.finish().unwrap().into_inner());
    let facts = load(&odd).describe(&work()).unwrap();
    assert!(facts.contains(&("members not read".into(), "README.txt".into())), "{facts:?}");
    let tensors: Vec<_> = four([6, 10], [10, 6], 10, 6).into_iter().chain([("b_more", made(&[10], 4))]).collect();
    place.tensors("more/sae_weights.safetensors", &tensors);
    place.json("more/cfg.json", saelens("blocks.0.hook_resid_pre"));
    let facts = load(&place.path("more")).describe(&work()).unwrap();
    assert!(facts.contains(&("tensors not used".into(), "b_more".into())), "{facts:?}");
}

#[cfg(unix)]
#[test]
fn a_named_file_is_opened_whatever_lies_beside_it() {
    let place = Place::new();
    let file = place.put("x/params.npz", &npz_of(&[]));
    for i in 0..8 {
        std::os::unix::fs::symlink(".", place.path(&format!("x/l{i}"))).unwrap();
    }
    let started = std::time::Instant::now();
    assert_eq!(load(&file).n(), 10);
    assert_eq!(load(&place.path("x")).n(), 10);
    assert!(started.elapsed().as_secs() < 60);
    assert_eq!(list_saes(&file, &work()).unwrap().len(), 1);
    for device in ["/dev/null", "/dev/zero"] {
        let error = refusal(device).to_string();
        assert!(error.contains(device) && error.contains("is not a regular file"), "{error}");
    }
    let pipe = place.path("pipe.npz");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(refusal(&pipe).to_string().contains("pipe.npz: is not a regular file"));
    assert!(load_sae(&place.path(""), Some("pipe.npz"), &SaeOptions::default(), &work()).is_err());
}

#[test]
fn a_file_of_checkpoints_finds_its_configuration() {
    let folder = fixture("saes/Llama3_1-8B-Base-L2R-8x");
    let (by_folder, by_file) = (load(&folder), load(&format!("{folder}/checkpoints/final.safetensors")));
    assert_eq!((by_file.hook(), by_file.w_dec().to_f32()), (by_folder.hook(), by_folder.w_dec().to_f32()));
    assert_eq!(by_file.b_enc().unwrap().to_f32(), by_folder.b_enc().unwrap().to_f32());
}

#[test]
fn a_map_names_the_tensors_of_a_checkpoint_as_it_does() {
    let place = Place::new();
    let path = place.put("mine.pt", &linear_checkpoint(|name| format!("state_dict.{name}")));
    let word = |text: &str| Value::Text(text.into());
    let map = OptionMap::from([
        ("W_enc".to_string(), word("state_dict.encoder.weight")),
        ("W_dec".to_string(), word("state_dict.decoder.weight")),
        ("transpose".to_string(), Value::List(vec![word("W_enc"), word("W_dec")])),
    ]);
    let options = SaeOptions::parse(&OptionMap::from([
        ("map".to_string(), Value::Map(map)),
        ("hook".to_string(), word("blocks.0.hook_resid_pre")),
    ]));
    let sae = load_sae(&path, None, &options.unwrap(), &work()).unwrap();
    assert_eq!((sae.n(), sae.d_in(), sae.w_enc().unwrap().t().to_f32()), (10, 6, values(160)[..60].to_vec()));
}

#[test]
fn a_named_format_overrides_what_is_found() {
    let place = Place::new();
    let path = place.tensors("x.safetensors", &four([6, 6], [6, 6], 6, 6));
    let options = |format: &str| {
        SaeOptions::parse(&OptionMap::from([
            ("format".to_string(), Value::Text(format.into())),
            ("k".to_string(), Value::Int(2)),
            ("hook".to_string(), Value::Text("blocks.0.hook_resid_post".into())),
        ]))
        .unwrap()
    };
    let qwen = load_sae(&path, None, &options("qwen_scope"), &work()).unwrap();
    assert_eq!((qwen.w_enc().unwrap().t().to_f32(), qwen.activation()), (made(&[6, 6], 0).to_f32(), Activation::TopK(2)));
    let error = load_sae(&path, None, &options("openai"), &work()).unwrap_err();
    assert!(error.to_string().contains("there is no tensor `latent_bias`"), "{error}");
}
