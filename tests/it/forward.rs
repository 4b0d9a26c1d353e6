//! The forward pass against transformers: tests/reference/forward.py ran tiny random models of every architecture.

use crate::support::{fixture, work};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::forward::{Edit, Hook, KvCache, Logits, Op, Request};
use saerepl::model::{Model, ModelOptions};
use saerepl::tensor::{Bytes, Tensor};

const MODELS: [&str; 13] = [
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
