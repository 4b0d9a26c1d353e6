//! One SAE in every published format (tests/reference/sae_formats.py: written by the formats' own libraries where they are on
//! PyPI, which computed the activations too), the traps of FORMATS.md 7 by their numbers, and bad files (FORMATS.md 8).

use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::analysis::{Scale, TokenOptions, unembed};
use saerepl::dictionary::{Activation, Dictionary, SaeOptions, Site, list_saes, load_sae};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::forward::{Hook, Request};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::{OptionMap, Options, Value};
use saerepl::table::Cell;
use saerepl::tensor::{DType, Tensor};
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

// ---- files made here ------------------------------------------------------------------------------------------------

/// A folder in which a test puts files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, inside: &str) -> String {
        self.0.path().join(inside).display().to_string()
    }

    fn put(&self, inside: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn tensors(&self, inside: &str, tensors: &[(&str, Tensor)]) -> String {
        self.put(inside, &stored(tensors))
    }

    fn json(&self, inside: &str, value: Json) -> String {
        self.put(inside, value.to_string().as_bytes())
    }
}

fn stored(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let mut set = TensorSet::new("");
    tensors.iter().for_each(|(name, tensor)| assert!(set.insert(*name, tensor.clone())));
    safetensors::write(&set).unwrap()
}

fn made(shape: &[usize], stream: u64) -> Tensor {
    Tensor::randn(shape, 5, stream, &work()).unwrap()
}

/// Encoder and decoder of these shapes, with biases for `n` features and a width of `d`.
fn four(w_enc: [usize; 2], w_dec: [usize; 2], n: usize, d: usize) -> Vec<(&'static str, Tensor)> {
    vec![("W_enc", made(&w_enc, 0)), ("W_dec", made(&w_dec, 1)), ("b_enc", made(&[n], 2)), ("b_dec", made(&[d], 3))]
}

fn lower(tensors: Vec<(&'static str, Tensor)>) -> Vec<(&'static str, Tensor)> {
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            (
                if name == "W_enc" {
                    "w_enc"
                } else if name == "W_dec" {
                    "w_dec"
                } else {
                    name
                },
                tensor,
            )
        })
        .collect()
}

fn saelens(hook: &str) -> Json {
    json!({"architecture": "standard", "apply_b_dec_to_input": false, "metadata": {"hook_name": hook, "sae_lens_version": "6.5.1"}})
}

/// A checkpoint as torch.save writes it: this pickle and these storages.
fn checkpoint(pickle: &[u8], storages: &[(&str, Vec<f32>)]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut member = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    member("archive/data.pkl", pickle);
    member("archive/byteorder", b"little");
    for (key, values) in storages {
        member(&format!("archive/data/{key}"), &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    }
    zip.finish().unwrap().into_inner()
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A dict of these entries, without protocol and end.
fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inside: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [&b"}("[..], &inside, b"u"].concat()
}

fn whole(value: Vec<u8>) -> Vec<u8> {
    [&b"\x80\x02"[..], &value, b"."].concat()
}

/// The record of a tensor in a storage of `count` f32 elements.
fn tensor(storage: &str, count: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let number = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let tuple = |values: &[i32]| [&b"("[..], &values.iter().flat_map(|v| number(*v)).collect::<Vec<_>>(), b"t"].concat();
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text(storage),
        &text("cpu"),
        &number(count),
        b"tQ",
        &number(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// A ReLU SAE of 10 features of 6, whose tensors lie where `inside` puts them, all in one storage.
fn linear_checkpoint(inside: impl Fn(&str) -> String) -> Vec<u8> {
    let names = ["encoder.weight", "decoder.weight", "encoder.bias", "bias"].map(inside);
    let entries = [
        (names[0].as_str(), tensor("0", 160, 0, &[10, 6], &[6, 1])),
        (&names[1], tensor("0", 160, 60, &[6, 10], &[1, 6])),
        (&names[2], tensor("0", 160, 120, &[10], &[1])),
        (&names[3], tensor("0", 160, 130, &[6], &[5])),
    ];
    checkpoint(&whole(dict(&entries)), &[("0", values(160))])
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
        place.put("SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer7.sae.pt", &checkpoint(&whole(dict(&entries)), &[("0", values(36))]));
    let sae = load(&qwen);
    assert_eq!((turned(&sae.w_enc().unwrap()), turned(&sae.w_dec())), (values(36), values(36)));
    assert_eq!(sae.activation(), Activation::TopK(50));
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

#[test]
fn trap_03_whether_b_dec_is_subtracted_is_shown() {
    let b_dec = |name: &str| {
        let facts = load(&fixture(&format!("saes/{name}"))).describe(&work()).unwrap();
        facts.into_iter().find(|(what, _)| what == "b_dec").unwrap().1
    };
    assert!(b_dec("dl-AutoEncoder").starts_with("subtracted from the input"));
    assert!(b_dec("dl-AutoEncoderNew").ends_with("not subtracted from the input"));
    assert!(b_dec("sparsify-transcoder").ends_with("not subtracted from the input"));
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
    assert_close(&dense(before.read(&gemma).unwrap()), &stored.to_f64(), 1e-7, "before the gain");
    // After it: Gemma Scope 2, Qwen3.
    let mut tensors = lower(four([12, 21], [21, 12], 21, 12));
    tensors.push(("threshold", Tensor::vector(vec![0.1; 21])));
    place.tensors("gemma-scope-2-1b-pt/transcoder_all/layer_1_width_16k_l0_small/params.safetensors", &tensors);
    let after = load(&place.path("gemma-scope-2-1b-pt"));
    assert_eq!((after.hook(), after.site()), ("blocks.1.mlp.hook_in", Site::Ln2Normalized));
    assert_close(&dense(after.read(&gemma).unwrap()), &gained(&after.w_enc().unwrap().t(), &gain), 1e-6, "after the gain");
    assert!(Hook::parse(after.hook(), gemma.cfg()).is_ok());
    // As wide at both ends, it is no SAE all the same.
    assert!(after.ablation(0, &work()).unwrap_err().to_string().contains("does not give back what it reads"));
    // The residual stream itself: Llama 3.2.
    place.tensors("transcoder-Llama-3.2-1B/layer_1.safetensors", &four([21, 12], [21, 12], 21, 12));
    let raw = load(&place.path("transcoder-Llama-3.2-1B"));
    assert_eq!((raw.hook(), raw.hook_out()), ("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"));
    assert_close(&dense(raw.read(&gemma).unwrap()), &raw.w_enc().unwrap().t().to_f64(), 1e-7, "no norm");
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

#[test]
fn trap_25_26_embedding_folders_and_labels_of_widths() {
    let place = Place::new();
    let sae = load(&archive(&place, "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", 21, 12));
    assert_eq!((sae.site(), sae.layer(), sae.n()), (Site::Embed, None, 21));
    assert_eq!(sae.cfg()["width"], "4k");
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
    let bytes = safetensors::write_bf16(&set).unwrap();
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

#[test]
fn trap_39_the_number_of_latents_is_the_tensors() {
    let sae = load(&fixture("saes/sparsify/layers.2.mlp"));
    // expansion_factor says 32 × 6.
    assert_eq!((sae.n(), sae.warnings().len()), (10, 0));
}

#[test]
fn trap_43_directions_behind_a_layer_norm_have_no_mean() {
    let place = Place::new();
    let mut cfg = saelens("blocks.1.hook_resid_post");
    cfg["normalize_activations"] = "layer_norm".into();
    let tensors = four([12, 21], [21, 12], 21, 12);
    place.tensors("sae_weights.safetensors", &tensors);
    place.json("cfg.json", cfg);
    let read = dense(load(&place.path("")).read(&model("tiny-llama")).unwrap());
    let stored = tensors[0].1.t().to_f64();
    let expected: Vec<f64> =
        stored.chunks(12).flat_map(|row| row.iter().map(|v| v - row.iter().sum::<f64>() / 12.0).collect::<Vec<_>>()).collect();
    assert_close(&read, &expected, 1e-6, "read");
    // Nor has what a LayerNorm model's neurons read.
    let neurons = saerepl::dictionary::mlp_neurons(&model("forward/gpt2"), 0).unwrap();
    let read = dense(neurons.read(&model("forward/gpt2")).unwrap());
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

#[test]
fn trap_45_folders_that_are_called_like_files() {
    let place = Place::new();
    let tensors = four([6, 10], [10, 6], 10, 6);
    for layer in [0, 1] {
        place.tensors(&format!("v5_32k_layer_{layer}.pt/sae_weights.safetensors"), &tensors);
        place.json(&format!("v5_32k_layer_{layer}.pt/cfg.json"), saelens(&format!("blocks.{layer}.hook_resid_post")));
    }
    assert_eq!(load(&place.path("v5_32k_layer_1.pt")).layer(), Some(1));
    let inside = load_sae(&place.path(""), Some("v5_32k_layer_0.pt"), &SaeOptions::default(), &work()).unwrap();
    assert_eq!(inside.layer(), Some(0));
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

/// The pickle of an SAE with this record in place of its encoder.
fn with_encoder(record: Vec<u8>) -> Vec<u8> {
    let entries = [
        ("encoder.weight", record),
        ("decoder.weight", tensor("0", 160, 60, &[6, 10], &[1, 6])),
        ("encoder.bias", tensor("0", 160, 120, &[10], &[1])),
        ("bias", tensor("0", 160, 130, &[6], &[5])),
    ];
    checkpoint(&whole(dict(&entries)), &[("0", values(160))])
}

/// A zip with these members.
fn zipped(members: &[&str]) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|name| (*name, b"x".to_vec())).collect();
    zip_of(&members, zip::CompressionMethod::Deflated)
}

fn zip_of(members: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive of one NumPy array with this header and payload.
fn npz(header: &str, payload: &[u8]) -> Vec<u8> {
    let array = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), payload].concat();
    zip_of(&[("W_enc.npy", array)], zip::CompressionMethod::Stored)
}

/// A GGUF file of this version with one tensor of these dimensions and type, its data cut to so many bytes.
fn gguf(version: u32, dims: &[u64], kind: u32, data: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut out = [&b"GGUF"[..], &version.to_le_bytes(), &1u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
    out.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
    out.extend([text("output_norm.weight"), (dims.len() as u32).to_le_bytes().to_vec()].concat());
    out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    out.extend([&kind.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

/// A good SAE of Gemma Scope's layout, with these tensors in place of its own of the same names.
fn npz_of(changed: &[(&str, Tensor)]) -> Vec<u8> {
    let mut set = TensorSet::new("");
    for (name, tensor) in four([6, 10], [10, 6], 10, 6).into_iter().chain([("threshold", made(&[10], 4))]) {
        let changed = changed.iter().find(|(other, _)| *other == name);
        set.insert(name, changed.map_or(tensor, |(_, tensor)| tensor.clone()));
    }
    saerepl::formats::npz::write(&set).unwrap()
}

fn integers(shape: &[usize]) -> Tensor {
    Tensor::vector_i64((0..shape.iter().product::<usize>() as i64).collect()).reshape(shape).unwrap()
}

/// With one bit of this byte turned.
fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// A GGUF file whose only tensor lies at an absurd offset.
fn far_gguf() -> Vec<u8> {
    let mut bytes = gguf(3, &[8], 0, 32);
    // The offset is the last of the tables: after the name, one dimension (4 + 8) and the type (4).
    let name = b"output_norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 16;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    bytes
}

/// Every bad file of FORMATS.md 8 that can stand in place of an SAE: its name, its bytes, and what the message must say.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = stored(&four([6, 10], [10, 6], 10, 6));
    let header = |text: &str, data: usize| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; data]].concat();
    let entry = |dtype: &str, shape: &str, from: &str, to: &str| {
        format!("{{\"W_dec\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}}}")
    };
    let pickle = |data: &[u8]| checkpoint(&whole(data.to_vec()), &[("0", values(4))]);
    vec![
        ("truncated.safetensors", good[..good.len() - 100].to_vec(), "is truncated: the header promises"),
        ("longer.safetensors", [&good[..], b"more"].concat(), "4 bytes after the last tensor"),
        ("header.safetensors", good[..40].to_vec(), "is truncated: its header"),
        ("zip.safetensors", zipped(&["notes.txt"]), "without data.pkl"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git-LFS pointer"),
        ("page.safetensors", b"<!DOCTYPE html><html>".to_vec(), "HTML page"),
        ("denied.safetensors", b"{\"error\":\"gated\"}".to_vec(), "JSON text"),
        ("empty.safetensors", Vec::new(), "is empty"),
        ("zeros.safetensors", vec![0; 5000], "nothing but zero bytes"),
        ("zeros.pt", vec![0; 5000], "nothing but zero bytes"),
        ("empty.npz", Vec::new(), "is empty"),
        ("half.safetensors.incomplete", good[..50].to_vec(), "has not finished"),
        ("hole.safetensors", header(&entry("F32", "[1]", "4", "8"), 8), "leaves a hole"),
        ("backwards.safetensors", header(&entry("F32", "[1]", "8", "4"), 8), "run backwards"),
        ("huge.safetensors", header(&entry("F32", "[4294967296,4294967296,16]", "0", "4"), 4), "W_dec"),
        ("negative.safetensors", header(&entry("F32", "[1]", "-1", "4"), 4), "cannot be read"),
        ("f4.safetensors", header(&entry("F4", "[8]", "0", "4"), 4), "its dtype F4 is not supported"),
        ("deep.safetensors", header(&format!("{{\"a\":{}", "[".repeat(5000)), 0), "cannot be read"),
        ("other.safetensors", stored(&[("x", made(&[3, 4], 0))]), "no SAE format that is known"),
        ("archive.npz", zipped(&["a.npy"])[..60].to_vec(), "is truncated"),
        ("system.pt", pickle(b"cos\nsystem\nX\x02\0\0\0ls\x85R"), "`os.system`"),
        ("eval.pt", pickle(b"cbuiltins\neval\nX\x01\0\0\x001\x85R"), "`builtins.eval`"),
        ("scalar.pt", pickle(b"cnumpy._core.multiarray\nscalar\n)R"), "`numpy._core.multiarray.scalar`"),
        ("namespace.pt", pickle(b"cargparse\nNamespace\n)\x81}b"), "`argparse.Namespace`"),
        ("opcode.pt", pickle(b"\xff"), "opcode `\\xff`"),
        ("cut.pt", checkpoint(b"\x80\x02}(X\xff\xff\xff\x7f", &[]), "pickle is truncated"),
        ("circle.pt", pickle(b"]q\0h\0a"), "more than 32 deep"),
        ("bare.pt", b"\x80\x02}q\0.".to_vec(), "before PyTorch 1.6"),
        ("script.pt", zipped(&["m/data.pkl", "m/code/m.py", "m/constants.pkl"]), "TorchScript"),
        ("cut-zip.pt", linear_checkpoint(str::to_string)[..400].to_vec(), "zip directory at its end is missing"),
        ("outside.pt", with_encoder(tensor("0", 160, 150, &[10, 6], &[6, 1])), "reaches beyond its 640 bytes"),
        ("strides.pt", with_encoder(tensor("0", 160, 0, &[10, 6], &[i32::MAX, i32::MAX])), "reaches beyond"),
        ("negative.pt", with_encoder(tensor("0", 160, 0, &[10, 6], &[-6, 1])), "not one that PyTorch writes"),
        ("expanded.pt", with_encoder(tensor("0", 160, 0, &[1 << 30, 1 << 20], &[0, 0])), "repeats the 160 elements"),
        (
            "overflow.pt",
            with_encoder(tensor("0", 160, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0])),
            "more elements than memory",
        ),
        ("short.pt", with_encoder(tensor("0", 170, 0, &[10, 6], &[6, 1])), "has 640 bytes, not the 680"),
        ("storage.pt", with_encoder(tensor("9", 160, 0, &[10, 6], &[6, 1])), "`data/9`"),
        (
            "missing.pt",
            pickle(&dict(&[
                ("encoder_linear.weight", tensor("0", 4, 0, &[2, 2], &[2, 1])),
                ("decoder_linear.weight", tensor("0", 4, 0, &[2, 2], &[2, 1])),
            ])),
            "there is no tensor `encoder_linear.bias`",
        ),
        (
            "misfit.pt",
            with_encoder(tensor("0", 160, 0, &[9, 6], &[6, 1])),
            "its shape is [9, 6], but a dictionary_learning SAE has [10, 6] here",
        ),
        ("objects.npz", npz("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n", b"\x80\x03"), "Python objects"),
        ("bfloat16.npz", npz("{'descr': '|V2', 'fortran_order': False, 'shape': (2,), }\n", &[0; 4]), "probably bfloat16"),
        ("short.npz", npz("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &[0; 20]), "needs 24 bytes, but 20"),
        ("code.npz", npz("__import__('os').system('true')\n", &[]), "not the dictionary NumPy writes"),
        ("long.npz", npz(&" ".repeat(300), &[])[..250].to_vec(), "is truncated"),
        ("outside.npz", zipped(&["../W_enc.npy"]), "points out of the archive"),
        ("flipped.npz", flipped(npz_of(&[]), 300), "`W_dec.npy`: is damaged"),
        ("flipped.pt", flipped(linear_checkpoint(str::to_string), 900), "`archive/data/0`: is damaged"),
        (
            "integers.npz",
            npz_of(&[("W_dec", integers(&[10, 6]))]),
            "tensor `W_dec`: its elements are i64: a quantised SAE, whose scales are not known",
        ),
        ("names.npz", zipped(&["W_enc.txt"]), "is not named `….npy`"),
        ("none.pt", with_encoder(tensor("0", 160, 0, &[0, 6], &[6, 1])), "tensor `encoder.weight`: is empty"),
    ]
}

/// Bad files of FORMATS.md 8 that stand in place of a model.
fn bad_models() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("far.gguf", far_gguf(), "tensor `output_norm.weight`: has a corrupt offset: 9223372036854775808"),
        (
            "escape/model.safetensors.index.json",
            br#"{"weight_map": {"a": "../../../etc/passwd"}}"#.to_vec(),
            "`../../../etc/passwd`, a path outside the folder",
        ),
        ("alone.safetensors", stored(&[("x", made(&[3, 4], 0))]), "is no model: there is no config.json beside it"),
        ("cut.gguf", gguf(3, &[8], 0, 20), "the first incomplete tensor is `output_norm.weight`"),
        ("tables.gguf", gguf(3, &[8], 0, 32)[..60].to_vec(), "is truncated inside its tables"),
        ("old.gguf", gguf(1, &[8], 0, 32), "GGUF version 1"),
        ("turned.gguf", gguf(0x0300_0000, &[8], 0, 32), "big-endian"),
        ("iq.gguf", gguf(3, &[256], 16, 66), "its type IQ2_XXS (number 16) is not supported"),
        ("empty-row.gguf", gguf(3, &[8, 0], 0, 32), "has a dimension of size 0"),
        (
            "shards/model.safetensors.index.json",
            br#"{"weight_map": {"a": "model-1.safetensors"}}"#.to_vec(),
            "model-1.safetensors",
        ),
        ("pickle/pytorch_model.bin", b"\x80\x02}q\0.".to_vec(), "neither model.safetensors nor"),
        ("other/model.safetensors", stored(&[("x", made(&[3, 4], 0))]), "`embed_tokens.weight`"),
    ]
}

#[test]
fn bad_files_are_refused_with_their_fault() {
    let place = Place::new();
    for (name, bytes, fault) in bad_files() {
        let started = std::time::Instant::now();
        let error = refusal(&place.put(name, &bytes));
        assert!(error.to_string().contains(fault), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert!(started.elapsed().as_secs() < 10, "{name}");
    }
}

#[test]
fn the_program_ends_with_status_1_on_bad_files() {
    let place = Place::new();
    for (name, bytes, fault) in bad_files().into_iter().chain(bad_models()) {
        let mut file = place.put(name, &bytes);
        if let Some((folder, _)) = name.split_once('/') {
            place.json(&format!("{folder}/config.json"), json!({"model_type": "llama", "num_attention_heads": 2}));
            file = place.path(folder);
        }
        let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_saerepl")).args(["info", &file]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        // The report wraps its lines.
        let words = error.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(words.contains(name.rsplit('/').next().unwrap()) || name.contains('/') && words.contains(&file), "{error}");
        assert!(words.contains(fault) && !words.contains("panicked"), "{name}, {fault}: {error}");
    }
}

#[test]
fn a_checkpoint_cut_or_changed_anywhere_gives_an_error_or_an_sae() {
    let place = Place::new();
    let good = linear_checkpoint(str::to_string);
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 0x5a;
        for bytes in [&good[..at], &changed] {
            // Whatever it gives, it gives it without a panic.
            let _ = load_sae(&place.put("x.pt", bytes), None, &SaeOptions::default(), &work());
        }
    }
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
    assert!(started.elapsed().as_secs() < 5);
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
