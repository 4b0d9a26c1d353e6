//! The built-in demo: what the program carries is a trained model with SAEs, and they are to us what they are to transformers and
//! SAELens (tests/reference/demo.py).

use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::dictionary::{Dictionary, SaeOptions, list_saes, load_sae, mlp_neurons};
use saerepl::model::forward::{Edit, GenerateOptions, Hook, Logits, Op, Request, generate};
use saerepl::model::{EncodeOptions, Model, ModelOptions};
use saerepl::options::Ids;
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

/// Each edit against a hook of torch's that does the same.
#[test]
fn edits_are_what_torch_hooks_change() {
    let (model, work, expected) = (demo(), work(), reference("demo.json"));
    let ids: Vec<usize> = numbers(&expected["ids"]).iter().map(|id| *id as usize).collect();
    let vector: Vec<f32> = (0..model.cfg().d_model).map(|i| ((i % 7) as f32 - 3.0) / 4.0).collect();
    let strong = vector.iter().map(|v| 3.0 * v).collect();
    let (vector, strong) = (Tensor::vector(vector), Tensor::vector(strong));
    let sae = load_sae("demo", Some("blocks.2.hook_resid_post"), &SaeOptions::default(), &work).unwrap();
    let feature = expected["feature"].as_u64().unwrap() as usize;
    let neuron = mlp_neurons(&model, 1).unwrap().ablation(7, &work).unwrap();
    let without = sae.ablation(feature, &work).unwrap();
    let three = Some(Ids::List(vec![3]));
    let cases = [
        ("replace", "blocks.2.hook_resid_post", Op::Replace(vector), three, None),
        ("scale", "blocks.1.hook_mlp_out", Op::Scale(2.0), None, None),
        ("head", "blocks.3.attn.hook_z", Op::Ablate, None, Some(4)),
        ("values", "blocks.1.attn.hook_v", Op::Scale(-0.5), Some(Ids::Range(1, Some(4))), Some(1)),
        ("neuron", "blocks.1.mlp.hook_post", neuron, None, None),
        ("add", "blocks.0.hook_resid_post", Op::Add(strong), None, None),
        ("feature", "blocks.2.hook_resid_post", without, None, None),
    ];
    let clean = numbers(&expected["last_logits"]);
    for (name, hook, op, positions, head) in cases {
        let edit = Edit { hook: Hook::parse(hook, model.cfg()).unwrap(), op, positions, head };
        let request = Request { edits: vec![edit], logits: Logits::Last, ..Request::default() };
        let logits = model.forward(&work).unwrap().run(&[&ids], &request, &work).unwrap().logits.unwrap().to_f64();
        let edited = numbers(&expected["edits"][name]);
        assert_close(&logits[..64], &edited, 1e-4, name);
        assert!(edited.iter().zip(&clean).any(|(a, b)| (a - b).abs() > 1e-2), "{name} changes nothing");
    }
}

#[test]
fn edits_that_mean_nothing_are_refused() {
    let (model, work) = (demo(), work());
    let run = |hook: &str, op: Op, positions: Option<Ids>, head: Option<usize>| {
        let edit = Edit { hook: Hook::parse(hook, model.cfg()).unwrap(), op, positions, head };
        model.forward(&work).unwrap().run(&[&[5, 6, 7, 8]], &Request { edits: vec![edit], ..Request::default() }, &work)
    };
    let refused =
        |hook: &str, op: Op, positions: Option<Ids>, head: Option<usize>| run(hook, op, positions, head).unwrap_err().to_string();
    let tensor = |shape: &[usize]| Tensor::from_f32(vec![1.0; shape.iter().product()], shape).unwrap();
    let resid = "blocks.1.hook_resid_post";
    assert!(refused(resid, Op::Add(tensor(&[96, 4])), None, None).contains("[4, 96]"));
    assert!(run(resid, Op::Add(tensor(&[4, 96])), None, None).is_ok());
    assert!(run(resid, Op::Add(tensor(&[1, 96])), None, None).is_ok());
    assert!(run("blocks.1.attn.hook_z", Op::Add(tensor(&[4, 6, 16])), None, None).is_ok());
    assert!(run("blocks.1.attn.hook_z", Op::Replace(tensor(&[6, 16])), None, None).is_ok());
    assert!(refused("blocks.1.attn.hook_z", Op::Add(tensor(&[16, 6])), None, None).contains("[16, 6]"));
    assert!(refused(resid, Op::Ablate, None, Some(0)).contains("no heads"));
    assert!(refused("blocks.1.attn.hook_v", Op::Ablate, None, Some(2)).contains("there are 2 at this hook"));
    assert!(refused(resid, Op::Ablate, Some(Ids::List(vec![-1, 3])), None).contains("position 3 is named twice"));
    assert!(refused(resid, Op::Scale(f32::NAN), None, None).contains("not finite"));
    assert!(refused(resid, Op::Add(Tensor::vector(vec![f32::INFINITY; 96])), None, None).contains("not finite"));
    // Whatever is done to the scores, no query sees what comes after it.
    for op in [Op::Ablate, Op::Scale(-1.0), Op::Scale(0.0)] {
        let edit =
            Edit { hook: Hook::parse("blocks.0.attn.hook_attn_scores", model.cfg()).unwrap(), op, positions: None, head: None };
        let pattern = "blocks.0.attn.hook_pattern";
        let keep = vec![Hook::parse(pattern, model.cfg()).unwrap()];
        let pass = model.forward(&work).unwrap();
        let pass = pass.run(&[&[5, 6, 7, 8]], &Request { keep, edits: vec![edit], logits: Logits::All }, &work).unwrap();
        for (i, row) in pass.get(pattern).unwrap().to_f32().chunks(4).enumerate() {
            let (seen, hidden) = row.split_at(i % 4 + 1);
            assert!((seen.iter().sum::<f32>() - 1.0).abs() < 1e-5 && hidden.iter().all(|weight| *weight == 0.0), "{row:?}");
        }
    }
    let long = vec![5; 257];
    let error = generate(&model, &long, &GenerateOptions::default(), &work).unwrap_err().to_string();
    assert!(error.contains("257") && error.contains("256"), "{error}");
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

    // The reconstruction's cost on the whole excerpt, which is short enough to be measured whole.
    for hook in ["blocks.2.hook_resid_post", "blocks.3.attn.hook_z"] {
        let (expected, hook) = (&expected["saes"][hook], [hook.to_string()]);
        let mut loss = ModelLoss::new(&model, &hook, &sequences, true, &work).unwrap();
        let sae = &saes(&hook)[0];
        assert_close(
            &[loss.cross_entropy(0, &Patch::Reconstructed(sae), &work).unwrap()],
            &numbers(&expected["ce_sae"]),
            1e-4,
            &hook[0],
        );
        assert_close(&[loss.cross_entropy(0, &Patch::Zero, &work).unwrap()], &numbers(&expected["ce_zero"]), 1e-4, &hook[0]);
    }
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
