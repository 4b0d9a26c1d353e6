//! The forward pass against transformers: tests/reference/forward.py ran tiny random models of every architecture.

use crate::support::{assert_close, fixture, numbers, real, reference, work};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::forward::{Edit, GenerateOptions, Hook, KvCache, Logits, Op, Request, Spot, generate};
use saerepl::model::{Model, ModelOptions};
use saerepl::tensor::{Bytes, Tensor};

const MODELS: [&str; 14] = [
    "llama",
    "llama_bias",
    "llama_linear",
    "mistral",
    "gemma1",
    "gemma2",
    "gemma3_text",
    "gemma3_layer_types",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt_neox",
    "gpt_neox_serial",
    "gpt2_by_layer",
];

fn open(name: &str) -> (Model, TensorSet, Vec<usize>) {
    let folder = fixture(&format!("forward/{name}"));
    let model = Model::load(&folder, &ModelOptions::default(), &work()).unwrap();
    let file = std::path::Path::new(&folder).join("expected.safetensors");
    let expected = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    let ids = expected.get("ids").unwrap().to_i64().iter().map(|id| *id as usize).collect();
    (model, expected, ids)
}

/// Largest difference over the largest expected number; infinite scores must be infinite in both.
fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.shape(), expected.shape());
    let (got, expected) = (got.to_f64(), expected.to_f64());
    let largest = expected.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    worst.fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m }) / largest
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[test]
fn logits_and_every_hook_agree_with_transformers() {
    let work = work();
    for name in MODELS {
        let (model, expected, ids) = open(name);
        let hooks = expected.names().filter(|name| name.contains("hook_"));
        let keep: Vec<_> = hooks.map(|hook| Hook::parse(hook, model.cfg()).unwrap_or_else(|e| panic!("{name}: {e}"))).collect();
        assert!(keep.len() > 20, "{name}: {} hooks", keep.len());
        let request = Request { keep: keep.clone(), ..Request::default() };
        let pass = model.forward(&work).unwrap().run(&[&ids], &request, &work).unwrap();
        assert_eq!(pass.kept.len(), keep.len(), "{name}");
        for (hook, tensor) in &pass.kept {
            let far = distance(tensor, expected.get(&hook.name()).unwrap());
            assert!(far < 1e-4, "{name}, {}: {far:e}", hook.name());
        }
        let (logits, wanted) = (pass.logits.unwrap(), expected.get("logits").unwrap());
        let far = distance(&logits, wanted);
        assert!(far < 1e-4, "{name}: logits differ by {far:e}");
        let (logits, wanted) = (logits.to_f32(), wanted.to_f32());
        for (row, wanted) in logits.chunks(model.cfg().d_vocab).zip(wanted.chunks(model.cfg().d_vocab)) {
            assert_eq!(argmax(row), argmax(wanted), "{name}");
        }
    }
}

#[test]
fn a_text_continued_by_its_cache_is_the_text_run_at_once() {
    let work = work();
    for name in MODELS {
        let (model, expected, ids) = open(name);
        let forward = model.forward(&work).unwrap();
        let mut text = ids[..6].to_vec();
        let mut cache = KvCache::default();
        let last = Request { logits: Logits::Last, ..Request::default() };
        let mut next = text.clone();
        for wanted in expected.get("greedy").unwrap().to_i64() {
            let logits = forward.extend(&next, &mut cache, &last, &work).unwrap().logits.unwrap();
            let chosen = argmax(&logits.to_f32());
            assert_eq!(chosen as i64, wanted, "{name} after {} tokens", text.len());
            text.push(chosen);
            next = vec![chosen];
        }
        assert_eq!(cache.len(), 17);
    }
}

/// `mlp.hook_in` is `ln2.hook_normalized`, which transformers confirms, times gain plus bias; a transcoder can be run on it.
#[test]
fn what_the_mlp_reads_has_its_norms_gain() {
    let work = work();
    for name in MODELS {
        let (model, _, ids) = open(name);
        let names = ["blocks.1.ln2.hook_normalized", "blocks.1.mlp.hook_in"];
        let keep = names.map(|name| Hook::parse(name, model.cfg()).unwrap()).into();
        let pass = model.forward(&work).unwrap().run(&[&ids], &Request { keep, ..Request::default() }, &work).unwrap();
        let kept = |at: usize| pass.kept.iter().find(|(hook, _)| hook.name() == names[at]).unwrap().1.to_f64();
        let (gain, bias) = (model.gain("blocks.1.ln2").unwrap().to_f64(), model.bias("blocks.1.ln2").unwrap());
        let bias = bias.map_or(vec![0.0; gain.len()], |bias| bias.to_f64());
        let rows = kept(0)
            .chunks(gain.len())
            .flat_map(|row| (0..row.len()).map(|i| row[i] * gain[i] + bias[i]).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        assert_close(&kept(1), &rows, 1e-6, name);
        // Without it nothing goes through the MLP but biases.
        let hook = Hook::parse(names[1], model.cfg()).unwrap();
        let edits = vec![Edit { hook, op: Op::Ablate, positions: None, head: None }];
        let keep = vec![Hook::parse("blocks.1.mlp.hook_pre", model.cfg()).unwrap()];
        let request = Request { keep, edits, ..Request::default() };
        let pass = model.forward(&work).unwrap().run(&[&ids], &request, &work).unwrap();
        let bias = if model.cfg().gated { model.b_gate(1) } else { model.b_in(1) }.unwrap();
        let bias = bias.map_or(vec![0.0; model.cfg().d_mlp], |bias| bias.to_f64());
        assert!(pass.kept[0].1.to_f64().chunks(bias.len()).all(|row| row == bias), "{name}");
    }
}

#[test]
fn edits_change_what_torch_hooks_change() {
    let work = work();
    for name in ["llama", "gpt_neox"] {
        let (model, expected, ids) = open(name);
        let forward = model.forward(&work).unwrap();
        let run = |edit: Edit| {
            forward.run(&[&ids], &Request { edits: vec![edit], ..Request::default() }, &work).unwrap().logits.unwrap()
        };
        let hook = |name: &str| Hook::parse(name, model.cfg()).unwrap();
        let vector = expected.get("edit_add.vector").unwrap().clone();
        let at_three = Some(saerepl::options::Ids::List(vec![3]));
        let added = run(Edit { hook: hook("blocks.1.hook_resid_post"), op: Op::Add(vector), positions: at_three, head: None });
        assert!(distance(&added, expected.get("edit_add.logits").unwrap()) < 1e-4, "{name}");
        for op in [Op::Scale(0.0), Op::Ablate] {
            let ablated = run(Edit { hook: hook("blocks.0.hook_mlp_out"), op, positions: None, head: None });
            assert!(distance(&ablated, expected.get("edit_ablate.logits").unwrap()) < 1e-4, "{name}");
        }
    }
}

#[test]
fn texts_run_side_by_side_do_not_see_each_other() {
    let work = work();
    let (model, _, ids) = open("gemma3_text");
    let forward = model.forward(&work).unwrap();
    let alone = |text: &[usize]| forward.run(&[text], &Request::default(), &work).unwrap().logits.unwrap().to_f32();
    let (a, b) = (&ids[..19], &ids[7..]);
    let both = forward.run(&[a, b], &Request::default(), &work).unwrap().logits.unwrap();
    let together = [alone(a), alone(b)].concat();
    assert_eq!(both.shape()[0], a.len() + b.len());
    let far = both.to_f32().iter().zip(&together).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    assert!(far < 1e-4, "{far}");
}

#[test]
fn real_models_agree_with_transformers() {
    let work = work();
    let reference = reference("forward_real.json");
    for (name, file) in [("smollm2", "smollm2-135m.gguf"), ("gemma3", "gemma3-270m.gguf")] {
        let Some(path) = real(file) else { continue };
        let model = Model::load(&path, &ModelOptions::default(), &work).unwrap();
        let forward = model.forward(&work).unwrap();
        for (prompt, expected) in reference[name].as_object().unwrap() {
            let what = format!("{name}, {prompt}");
            let ids: Vec<usize> = numbers(&expected["ids"]).iter().map(|id| *id as usize).collect();
            let keep: Vec<_> = (0..model.cfg().n_layers).map(|layer| Hook::Block(layer, Spot::ResidPost)).collect();
            let pass = forward.run(&[&ids], &Request { keep, ..Request::default() }, &work).unwrap();
            let logits = pass.logits.unwrap().to_f32();
            let rows: Vec<&[f32]> = logits.chunks(model.cfg().d_vocab).collect();
            let wanted = numbers(&expected["arg_max"]).into_iter().zip(numbers(&expected["lead"]));
            for (position, (wanted, lead)) in wanted.enumerate() {
                assert!(lead < 0.01 || argmax(rows[position]) as f64 == wanted, "{what}, position {position}");
            }
            let last = rows[rows.len() - 1];
            let top: Vec<f64> = numbers(&expected["last_top"]["ids"]).iter().map(|id| f64::from(last[*id as usize])).collect();
            assert_close(&top, &numbers(&expected["last_top"]["logits"]), 1e-3, &what);
            let positions: Vec<usize> = numbers(&expected["positions"]).iter().map(|p| *p as usize).collect();
            for (layer, (hook, tensor)) in pass.kept.iter().enumerate() {
                for (i, position) in positions.iter().enumerate() {
                    let row: Vec<f64> = tensor.row(*position).unwrap().iter().map(|v| f64::from(*v)).collect();
                    let expected = &expected["resid_post"][layer][i];
                    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let mean = row.iter().sum::<f64>() / row.len() as f64;
                    let what = format!("{what}, {}, position {position}", hook.name());
                    assert_close(&[norm], &numbers(&expected["norm"]), 1e-3, &what);
                    // A mean near 0 is as exact as the numbers that it is made of.
                    let scale = norm / (row.len() as f64).sqrt();
                    assert!((mean - expected["mean"].as_f64().unwrap()).abs() < 1e-3 * scale, "{what}: mean {mean}");
                    let first = numbers(&expected["first"]);
                    assert!(row.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-3 * scale.max(b.abs())), "{what}: {row:?}");
                }
            }
            let sure = numbers(&expected["greedy_lead"]).iter().take_while(|lead| **lead > 0.01).count();
            let options = GenerateOptions { max_tokens: sure, ..GenerateOptions::default() };
            let continued: Vec<f64> = generate(&model, &ids, &options, &work).unwrap().iter().map(|id| *id as f64).collect();
            assert!(sure > 3, "{what}");
            assert_eq!(continued, numbers(&expected["greedy"])[..sure], "{what}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let work = work();
    let (model, _, ids) = open("gpt_neox");
    let forward = model.forward(&work).unwrap();
    let refused = |name: &str| Hook::parse(name, model.cfg()).unwrap_err().to_string();
    assert!(refused("blocks.1.hook_resid_mid").contains("parallel"));
    assert!(refused("blocks.9.hook_resid_post").contains("there are"), "{}", refused("blocks.9.hook_resid_post"));
    let misspelt = Hook::parse("blocks.1.hook_resid_pots", model.cfg()).unwrap_err();
    assert_eq!(misspelt.helps()[0], "did you mean `blocks.1.hook_resid_post`?");
    let run = |ids: &[usize], edits: Vec<Edit>| {
        forward.run(&[ids], &Request { edits, ..Request::default() }, &work).map(drop).unwrap_err().to_string()
    };
    assert!(run(&[], vec![]).contains("without tokens"));
    assert!(run(&[100_000], vec![]).contains("token 100000 is out of range"));
    let n_ctx = model.cfg().n_ctx.unwrap();
    assert!(run(&vec![1; n_ctx + 1], vec![]).contains(&format!("longer than the model's context of {n_ctx}")));
    let edit = |op, positions, head| vec![Edit { hook: Hook::Block(0, Spot::Z), op, positions, head }];
    let short = run(&ids, edit(Op::Add(Tensor::vector(vec![1.0; 3])), None, None));
    assert!(short.contains("does not fit"), "{short}");
    assert!(run(&ids, edit(Op::Ablate, None, Some(99))).contains("head 99 is out of range"));
    let beyond = run(&ids, edit(Op::Ablate, Some(saerepl::options::Ids::List(vec![1000])), None));
    assert!(beyond.contains("position 1000 is out of range"), "{beyond}");
}
