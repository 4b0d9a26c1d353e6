//! The built-in demo: what the program carries is a trained model with SAEs, and they are to us what they are to transformers and
//! SAELens (tests/reference/demo.py).

use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::dictionary::{Dictionary, SaeOptions, list_saes, load_sae};
use saerepl::model::forward::{GenerateOptions, Hook, Request, generate};
use saerepl::model::{EncodeOptions, Model, ModelOptions};
use saerepl::tensor::Tensor;
use saerepl::training::{ModelActivations, ModelLoss, Patch, Sequences, Splice, evaluate};
use serde_json::Value;
use std::path::{Path, PathBuf};

const SITES: [&str; 3] = ["hook_resid_post", "attn.hook_z", "hook_mlp_out"];

fn demo() -> Model {
    Model::load("demo", &ModelOptions::default(), &work()).unwrap()
}

fn hooks(model: &Model) -> Vec<String> {
    (0..model.cfg().n_layers).flat_map(|layer| SITES.map(|site| format!("blocks.{layer}.{site}"))).collect()
}

fn saes(hooks: &[String]) -> Vec<Dictionary> {
    hooks.iter().map(|hook| load_sae("demo", Some(hook), &SaeOptions::default(), &work()).unwrap()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo")
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(path)).unwrap()).unwrap()
}

#[test]
fn it_is_small_and_whole() {
    let (model, work) = (demo(), work());
    assert_eq!((model.name(), model.warnings()), ("demo", [].as_slice()));
    let cfg = model.cfg();
    assert!(cfg.n_layers >= 4 && cfg.n_kv_heads < cfg.n_heads && (2000..=8192).contains(&cfg.d_vocab), "{cfg:?}");
    let list = list_saes("demo", &work).unwrap();
    assert_eq!(list.len(), 3 * cfg.n_layers);
    for sae in saes(&hooks(&model)) {
        assert!(sae.n() >= 8 * cfg.d_model, "{}", sae.hook());
    }
    let bytes = |folder: &Path| -> u64 {
        let mut folders = vec![folder.to_path_buf()];
        let mut sum = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() { folders.push(entry.path()) } else { sum += meta.len() }
            }
        }
        sum
    };
    assert!(bytes(&folder()) <= 7_000_000, "{}", bytes(&folder()));
}

#[test]
fn its_model_is_what_transformers_loads() {
    let (model, work, expected) = (demo(), work(), reference("demo.json"));
    let ids = model.encode(expected["prompt"].as_str().unwrap(), &EncodeOptions::default(), &work).unwrap();
    assert_eq!(serde_json::json!(ids), expected["ids"]);
    let logits = model.forward(&work).unwrap().run(&[&ids], &Request::default(), &work).unwrap().logits.unwrap();
    let last = logits.narrow(0, ids.len() - 1..ids.len()).unwrap().to_f64();
    assert_close(&last[..64], &numbers(&expected["last_logits"]), 1e-4, "logits");
    let largest = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let top: Vec<usize> = logits.to_f64().chunks(model.cfg().d_vocab).map(largest).collect();
    assert_eq!(serde_json::json!(top), expected["top"]);
    let options = GenerateOptions { max_tokens: 24, temperature: 0.0, ..GenerateOptions::default() };
    assert_eq!(serde_json::json!(generate(&model, &ids, &options, &work).unwrap()), expected["greedy"]);
}

#[test]
fn its_saes_are_what_saelens_computes() {
    let (model, work, expected) = (demo(), work(), reference("demo.json"));
    let ids: Vec<usize> = numbers(&expected["ids"]).iter().map(|id| *id as usize).collect();
    let hooks = hooks(&model);
    let keep = hooks.iter().map(|hook| Hook::parse(hook, model.cfg()).unwrap()).collect();
    let pass = model.forward(&work).unwrap().run(&[&ids], &Request { keep, ..Request::default() }, &work).unwrap();
    for (hook, sae) in hooks.iter().zip(saes(&hooks)) {
        let expected = &expected["saes"][hook];
        let values = pass.get(hook).unwrap();
        let flat = Tensor::from_f32(values.to_f32(), &[ids.len(), sae.d_in()]).unwrap();
        for (i, position) in numbers(&expected["positions"]).iter().enumerate() {
            let row = flat.narrow(0, *position as usize..*position as usize + 1).unwrap();
            let acts = sae.encode(&row, &work).unwrap().to_f64();
            let active: Vec<[f64; 2]> = acts.iter().enumerate().filter(|(_, a)| **a > 0.0).map(|(j, a)| [j as f64, *a]).collect();
            let known = numbers(&expected["active"][i]);
            let ids: Vec<f64> = active.iter().map(|[j, _]| *j).collect();
            assert_eq!(ids, known.iter().step_by(2).copied().collect::<Vec<_>>(), "{hook} at {position}");
            let values: Vec<f64> = active.iter().map(|[_, a]| *a).collect();
            assert_close(&values, &known.iter().skip(1).step_by(2).copied().collect::<Vec<_>>(), 1e-4, hook);
            let out = sae.reconstruct(&row, &work).unwrap().to_f64();
            assert_close(&out[..8], &numbers(&expected["out"][i]), 1e-4, hook);
        }
    }
}

/// On whole sections of the text that neither the model nor the SAEs were trained on.
#[test]
fn its_figures_hold_on_text_that_it_has_not_seen() {
    let (model, work, expected) = (demo(), work(), reference("demo.json"));
    let expected = &expected["excerpt"];
    let text = std::fs::read_to_string(fixture("demo/held_out.txt")).unwrap();
    let context = expected["context"].as_u64().unwrap() as usize;
    let sequences = Sequences::new(&model, &[text], "held out", context, &work).unwrap();
    assert_eq!(serde_json::json!(sequences.len()), expected["windows"]);
    let hooks = hooks(&model);
    let loss =
        ModelLoss::new(&model, &hooks[..1], &sequences, true, &work).unwrap().cross_entropy(0, &Patch::Clean, &work).unwrap();
    assert_close(&[loss], &numbers(&expected["loss"]), 1e-4, "loss");
    let record = json("model/training.json");
    let figure = |key: &str| record[key].as_f64().unwrap();
    assert!(figure("held_out_loss") < figure("held_out_loss_bigram") - 0.5, "{record}");
    assert!((loss - figure("held_out_loss")).abs() < 0.2, "the excerpt's loss {loss} is far from the whole held-out text's");

    let mut source = ModelActivations::new(&model, &hooks, sequences, &work).unwrap();
    let figures = evaluate(&saes(&hooks), &mut source, None, None, true, &work).unwrap();
    for ((hook, figures), sae) in hooks.iter().zip(figures).zip(saes(&hooks)) {
        let expected = &expected["saes"][hook];
        assert_close(&[figures.l0], &numbers(&expected["l0"]), 1e-4, hook);
        assert_close(&[figures.explained_variance], &numbers(&expected["explained_variance"]), 1e-4, hook);
        assert_close(&[1.0 - figures.dead_share], &[1.0 - numbers(&expected["dead_share"])[0]], 2e-3, hook);
        let recorded = &json(&format!("saes/{hook}/cfg.json"))["metadata"]["figures"];
        let recorded = |key: &str| recorded[key].as_f64().unwrap();
        assert!((figures.explained_variance - recorded("explained_variance")).abs() < 0.05, "{hook}: {figures:?}");
        let dead = sae.density().unwrap().iter().filter(|density| **density == 0.0).count();
        assert_eq!(dead as f64, (recorded("dead_share") * sae.n() as f64).round(), "{hook}");
        if hook.ends_with("resid_post") {
            assert!(recorded("explained_variance") >= 0.75 && recorded("l0") <= 32.0 && recorded("dead_share") <= 0.2, "{hook}");
            assert!(figures.explained_variance >= 0.75 && figures.l0 <= 32.0, "{hook}: {figures:?}");
        }
    }
}
