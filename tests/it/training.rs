//! SAE training on a model: what is read from texts, the loss with activations replaced, and a run that is killed.

use crate::support::{assert_close, numbers, reference, work};
use saerepl::dictionary::{Activation, Dictionary, Precision, SaeOptions, SaeParts, load_sae, mlp_neurons, save_sae};
use saerepl::model::forward::{Hook, Request};
use saerepl::model::{EncodeOptions, Model, ModelOptions};
use saerepl::options::Value;
use saerepl::tensor::Tensor;
use saerepl::training::{
    Activations, Chunk, Job, ModelActivations, ModelLoss, Patch, Sequences, Splice, StatsOptions, TrainOptions, activation_stats,
    read_texts, stat_hooks, train,
};
use saerepl::work::Work;
use serde_json::{Map, Value as Json};
use std::process::{Command, Stdio};
use std::time::Duration;

const HOOKS: [&str; 2] = ["blocks.1.attn.hook_z", "blocks.0.hook_resid_post"];

fn demo() -> Model {
    Model::load("demo", &ModelOptions::default(), &work()).unwrap()
}

/// Texts of words that the demo knows.
fn texts() -> Vec<String> {
    let words = "the house of water and fire is old but the river has time for a child who knew the dark forest by night";
    let words: Vec<&str> = words.split(' ').collect();
    let word = |i: usize| words[(i * i + 3 * i + i / 7) % words.len()];
    (0..4).map(|text| (0..300).map(|i| word(i * (text + 1) + text)).collect::<Vec<_>>().join(" ")).collect()
}

fn hooks() -> Vec<String> {
    HOOKS.map(String::from).to_vec()
}

#[test]
fn activations_are_those_of_each_sequence_alone() {
    let (model, work) = (demo(), work());
    let sequences = Sequences::new(&model, &texts(), "words", 24, &work).unwrap();
    let ids = |text: &str| model.encode(text, &EncodeOptions { bos: Some(false) }, &work).unwrap();
    let begin = model.encode("", &EncodeOptions::default(), &work).unwrap();
    let first: Vec<usize> = begin.iter().chain(&ids(&texts()[0])).copied().take(24).collect();
    let mut source = ModelActivations::new(&model, &hooks(), sequences, &work).unwrap();
    let chunk = source.next(&work).unwrap().unwrap();
    assert_eq!(chunk.firsts[..3], [0, 24, 48]);
    let keep = HOOKS.map(|hook| Hook::parse(hook, model.cfg()).unwrap()).to_vec();
    let alone = model.forward(&work).unwrap().run(&[&first], &Request { keep, ..Request::default() }, &work).unwrap();
    for (hook, site) in HOOKS.iter().zip(&chunk.sites) {
        let expected = alone.get(hook).unwrap();
        let got = site.narrow(0, 0..24).unwrap().to_f32();
        assert_eq!(site.shape()[1], expected.numel() / 24);
        let far = got.iter().zip(expected.to_f32()).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(far < 1e-5, "{hook}: {far}");
    }
    source.seek(0).unwrap();
    assert_eq!(source.next(&work).unwrap().unwrap().sites[0].to_f32(), chunk.sites[0].to_f32());
    assert!(source.seek(10_000).is_err());
}

#[test]
fn the_loss_is_the_mean_cross_entropy_of_the_next_token() {
    let (model, work) = (demo(), work());
    let sequences = Sequences::new(&model, &texts(), "words", 24, &work).unwrap();
    let (training, held_out) = sequences.split(0.25).unwrap();
    assert_eq!((training.len() + held_out.len(), held_out.len()), (sequences.len(), sequences.len() / 4));
    // By hand on the whole corpus, one sequence after another, in f64.
    let begin = model.encode("", &EncodeOptions::default(), &work).unwrap();
    let mut stream = Vec::new();
    for text in texts() {
        if !stream.is_empty() {
            stream.extend(model.cfg().end_tokens.first().or(begin.first()));
        }
        stream.extend(model.encode(&text, &EncodeOptions { bos: Some(false) }, &work).unwrap());
    }
    let forward = model.forward(&work).unwrap();
    let (mut total, mut count) = (0.0, 0);
    for part in stream.chunks_exact(24 - begin.len()) {
        let ids: Vec<usize> = begin.iter().chain(part).copied().collect();
        let logits = forward.run(&[&ids], &Request::default(), &work).unwrap().logits.unwrap().to_f64();
        for (row, next) in logits.chunks(model.cfg().d_vocab).zip(&ids[1..]) {
            total -= (row[*next].exp() / row.iter().map(|v| v.exp()).sum::<f64>()).ln();
            count += 1;
        }
    }
    let mut loss = ModelLoss::new(&model, &hooks(), &sequences, true, &work).unwrap();
    let clean = loss.cross_entropy(0, &Patch::Clean, &work).unwrap();
    assert!((clean - total / f64::from(count)).abs() < 1e-4 * clean, "{clean}, expected {}", total / f64::from(count));
    let zero = loss.cross_entropy(1, &Patch::Zero, &work).unwrap();
    assert!((zero - clean).abs() > 1e-4, "ablating a layer changed nothing");
}

#[test]
fn several_sites_on_one_pass_are_the_sites_alone_and_come_back_from_a_folder() {
    let (model, work) = (demo(), work());
    let sequences = Sequences::new(&model, &texts(), "words", 24, &work).unwrap();
    let options = TrainOptions {
        d_sae: Some(80),
        k: 5,
        steps: 12,
        batch: 64,
        buffer: 256,
        context: 24,
        seed: Some(3),
        ..TrainOptions::default()
    };
    let of = |hooks: &[String]| {
        let mut source = ModelActivations::new(&model, hooks, sequences.clone(), &work).unwrap();
        let jobs: Vec<_> = hooks.iter().map(|hook| Job::new(hook.as_str(), &options)).collect();
        train(&jobs, &mut source, &options, &work).unwrap()
    };
    let (both, alone) = (of(&hooks()), of(&hooks()[1..]));
    assert_eq!(both[1].w_dec().to_f32(), alone[0].w_dec().to_f32());
    let folder = tempfile::tempdir().unwrap();
    save_sae(&both[0], folder.path(), Precision::F32, &work).unwrap();
    let path = folder.path().display().to_string();
    let again = load_sae(&path, None, &SaeOptions::default(), &work).unwrap();
    assert_eq!((again.hook(), again.w_enc().unwrap().to_f32()), (HOOKS[0], both[0].w_enc().unwrap().to_f32()));
    assert_eq!(again.w_dec().shape(), [80, model.cfg().n_heads * model.cfg().d_head]);
}

/// Given activations, two sequences at a time.
struct Given {
    x: Vec<f32>,
    d: usize,
    length: usize,
    next: usize,
}

impl Activations for Given {
    fn next(&mut self, _: &Work) -> saerepl::Result<Option<Chunk>> {
        let rest = &self.x[self.next * self.length * self.d..];
        let values = rest[..rest.len().min(2 * self.length * self.d)].to_vec();
        let rows = values.len() / self.d;
        self.next += rows / self.length;
        let firsts = (0..rows).step_by(self.length).collect();
        Ok((rows > 0).then_some(Chunk { sites: vec![Tensor::from_f32(values, &[rows, self.d])?], firsts }))
    }
    fn position(&self) -> u64 {
        self.next as u64
    }
    fn seek(&mut self, position: u64) -> saerepl::Result<()> {
        self.next = position as usize;
        Ok(())
    }
    fn describe(&self) -> Map<String, Json> {
        Map::new()
    }
}

#[test]
fn activation_stats_agree_with_numpy() {
    let expected = reference("activation_stats.json");
    let matrix = |name: &str| {
        let (rows, data) = (expected[name].as_array().unwrap().len(), numbers(&expected[name]));
        Tensor::from_f32(data.iter().map(|v| *v as f32).collect(), &[rows, data.len() / rows]).unwrap()
    };
    let vector = |name: &str| Tensor::vector(numbers(&expected[name]).iter().map(|v| *v as f32).collect());
    let sae = Dictionary::from_parts(SaeParts {
        name: "given".into(),
        hook: "blocks.0.hook_resid_post".into(),
        activation: Activation::JumpRelu,
        w_enc: matrix("W_enc"),
        w_dec: matrix("W_dec"),
        b_enc: vector("b_enc"),
        b_dec: Tensor::vector(vec![0.0; 5]),
        threshold: Some(vector("threshold")),
        subtract_b_dec: false,
        metadata: Map::new(),
    })
    .unwrap();
    let length = expected["length"].as_u64().unwrap() as usize;
    for (name, skip_bos, max_tokens) in [("without_first", true, 1000), ("all", false, 1000), ("first_8", true, 8)] {
        let mut source = Given { x: matrix("x").to_f32(), d: 5, length, next: 0 };
        let options = StatsOptions { max_tokens, skip_bos, ..StatsOptions::default() };
        let stats = activation_stats(&sae, &mut source, &options, &work()).unwrap();
        for column in ["density", "mean_act", "max_act", "mean_share"] {
            let got = stats.column(column).unwrap().numbers().unwrap();
            assert_close(&got, &numbers(&expected[name][column]), 1e-5, &format!("{name} {column}"));
        }
        // What it found can stand for the feature's share in an analysis.
        assert_eq!(sae.with_stats(&stats).unwrap().stat("mean_share").unwrap().len(), 7);
    }
}

#[test]
fn what_does_not_encode_its_hook_is_refused() {
    let (model, work) = (demo(), work());
    let neurons = mlp_neurons(&model, 1).unwrap();
    let sequences = Sequences::new(&model, &texts(), "words", 24, &work).unwrap();
    let mut source = ModelActivations::new(&model, &stat_hooks(&neurons), sequences, &work).unwrap();
    let error = activation_stats(&neurons, &mut source, &StatsOptions::default(), &work).unwrap_err().to_string();
    assert!(error.contains("demo neurons of layer 1 fires as blocks.1.mlp.hook_post says, not by an encoder"), "{error}");
}

#[test]
fn texts_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let fails = |path: &str| read_texts(&Value::Text(path.into())).unwrap_err().to_string();
    assert!(fails(&at("nowhere.txt")).contains("no such file"));
    assert!(fails(&folder.path().display().to_string()).contains("no .txt or .md file"));
    std::fs::write(at("bad.txt"), b"good \xff bad").unwrap();
    let bad = fails(&at("bad.txt"));
    assert!(bad.contains("not UTF-8: byte 5") && bad.contains("bad.txt"), "{bad}");
    std::fs::write(at("bad.txt"), "b").unwrap();
    std::fs::create_dir(at("a")).unwrap();
    std::fs::write(at("a/first.md"), "a").unwrap();
    std::fs::write(at("a/other.bin"), [0xff]).unwrap();
    assert_eq!(read_texts(&Value::Text(folder.path().display().to_string())).unwrap().0, ["a", "b"]);
    // A link to a folder above is not followed; endings count in any case.
    std::fs::write(at("a/LAST.TXT"), "z").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), at("a/up")).unwrap();
    assert_eq!(read_texts(&Value::Text(folder.path().display().to_string())).unwrap().0, ["z", "a", "b"]);
    let (model, work) = (demo(), work());
    let short = Sequences::new(&model, &["the house".into()], "", 64, &work).unwrap_err().to_string();
    assert!(short.contains("but a sequence takes"), "{short}");
    let n_ctx = model.cfg().n_ctx.unwrap();
    let long = Sequences::new(&model, &texts(), "", n_ctx + 1, &work).unwrap_err().to_string();
    assert!(long.contains(&format!("the model's is {n_ctx}")), "{long}");
}

#[test]
fn a_killed_training_goes_on_and_gives_the_same_bits() {
    let here = tempfile::tempdir().unwrap();
    let script = "let options = #{ d_sae: 64, k: 4, steps: 400, batch: 64, buffer: 256, context: 32, seed: 5, checkpoint_every: 20, resume: true };\n\
                  save(train_sae(load_model(\"demo\"), \"blocks.1.hook_resid_post\", [\"TEXT\"], options), \"sae\");";
    let text = texts().join(" ");
    std::fs::write(here.path().join("t.rhai"), script.replace("TEXT", &text)).unwrap();
    let run = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saerepl"));
        command.args(["run", "t.rhai", "--quiet", "--out", out]).current_dir(here.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let weights = |out: &str| std::fs::read(here.path().join(out).join("sae/sae_weights.safetensors"));
    let whole = run("whole").output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let checkpoint = here.path().join("cut/blocks.1.hook_resid_post.topk-k4-64-seed5.checkpoint.safetensors");
    let mut child = run("cut").spawn().unwrap();
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists() && weights("cut").is_err(), "the run was over before it was killed");
    let rest = run("cut").output().unwrap();
    assert!(rest.status.success(), "{}", String::from_utf8_lossy(&rest.stderr));
    assert_eq!(weights("cut").unwrap(), weights("whole").unwrap());
    // As many words, but others.
    std::fs::write(here.path().join("t.rhai"), script.replace("TEXT", &text.replacen("house", "mouse", 1))).unwrap();
    let other = run("cut").output().unwrap();
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && error.contains("cannot be resumed"), "{error}");
}
