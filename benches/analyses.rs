//! The analyses on models of real shapes with random weights: time, what it is above the bare products, memory, and growth
//! over the number of features.
//!
//! `cargo bench --bench analyses [-- small | large | JOB …]`; without an argument, SmolLM2-135M's shapes with 1k to 65k
//! features, two layers deep, and a single one: what a small call takes. `small` ends at 4k features; `large` takes
//! Gemma-2-2B's shapes (bf16, 26 layers, 5.2 GB in the target folder) with 16k features, and says what a job would take for
//! all layers and heads. Each job runs in a process of its own: one run that is not counted, then three, of which the median
//! counts, as for the bare products, which are made in turn with it. Memory is
//! the highest resident size, mapped weights included, beside what was resident before the job; `own` is what the first run took
//! that is no mapped file, sampled every few milliseconds, its results included.

use rand::{RngExt, SeedableRng};
use saerepl::analysis::{
    AttentionOptions, MatchOptions, OvOptions, SemanticsOptions, TokenOptions, attention_scores, embed, match_features,
    ov_scores, semantics, unembed,
};
use saerepl::compute::product::Product;
use saerepl::dictionary::{Dictionary, DirectionsOptions, directions};
use saerepl::model::{Model, ModelOptions};
use saerepl::tensor::{Bytes, DType, Tensor};
use saerepl::work::Work;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Sizes of a llama-like model.
struct Shapes {
    name: &'static str,
    architecture: (&'static str, &'static str),
    layers: usize,
    d_model: usize,
    d_mlp: usize,
    heads: usize,
    kv_heads: usize,
    d_head: usize,
    vocab: usize,
}

const SMOLLM2: Shapes = Shapes {
    name: "smollm2",
    architecture: ("llama", "LlamaForCausalLM"),
    layers: 2,
    d_model: 576,
    d_mlp: 1536,
    heads: 9,
    kv_heads: 3,
    d_head: 64,
    vocab: 49_152,
};

const GEMMA2: Shapes = Shapes {
    name: "gemma2",
    architecture: ("gemma2", "Gemma2ForCausalLM"),
    layers: 26,
    d_model: 2304,
    d_mlp: 9216,
    heads: 8,
    kv_heads: 4,
    d_head: 256,
    vocab: 256_000,
};

const JOBS: [&str; 6] = ["unembed", "embed", "semantics", "attention_scores", "ov_scores", "match_features"];

impl Shapes {
    /// Writes the model's folder, unless an earlier run has.
    fn folder(&self) -> Outcome<PathBuf> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name);
        let weights = folder.join("model.safetensors");
        if weights.exists() {
            return Ok(folder);
        }
        std::fs::create_dir_all(&folder)?;
        let Shapes { d_model, d_mlp, heads, kv_heads, d_head, vocab, .. } = *self;
        let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![vocab, d_model])];
        let gemma = self.architecture.0 == "gemma2";
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: Vec<usize>| tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
            add("self_attn.q_proj", vec![heads * d_head, d_model]);
            add("self_attn.k_proj", vec![kv_heads * d_head, d_model]);
            add("self_attn.v_proj", vec![kv_heads * d_head, d_model]);
            add("self_attn.o_proj", vec![d_model, heads * d_head]);
            add("mlp.gate_proj", vec![d_mlp, d_model]);
            add("mlp.up_proj", vec![d_mlp, d_model]);
            add("mlp.down_proj", vec![d_model, d_mlp]);
            add("input_layernorm", vec![d_model]);
            add("post_attention_layernorm", vec![d_model]);
            if gemma {
                add("pre_feedforward_layernorm", vec![d_model]);
                add("post_feedforward_layernorm", vec![d_model]);
            }
        }
        tensors.push(("model.norm.weight".into(), vec![d_model]));
        let mut header = serde_json::Map::new();
        let mut at = 0;
        for (name, shape) in &tensors {
            let size = 2 * shape.iter().product::<usize>();
            header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, at + size] }));
            at += size;
        }
        let header = serde_json::to_vec(&header)?;
        let unfinished = folder.join("unfinished");
        let mut out = BufWriter::new(File::create(&unfinished)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut random = Random::new(self.layers as u64);
        for (_, shape) in &tensors {
            random.write(&mut out, shape.iter().product(), |x| half::bf16::from_f32(0.05 * x).to_le_bytes())?;
        }
        out.flush()?;
        let config = json!({
            "model_type": self.architecture.0, "architectures": [self.architecture.1], "hidden_size": d_model,
            "intermediate_size": d_mlp, "num_hidden_layers": self.layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "head_dim": d_head, "vocab_size": vocab, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true,
            "max_position_embeddings": 8192, "query_pre_attn_scalar": d_head, "sliding_window": 4096,
            "attn_logit_softcapping": if gemma { json!(50.0) } else { Value::Null },
            "final_logit_softcapping": if gemma { json!(30.0) } else { Value::Null },
        });
        std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        std::fs::rename(unfinished, weights)?;
        Ok(folder)
    }

    /// Directions `[n, d_model]` in f32, mapped, as those of an SAE's file are.
    fn directions(&self, n: usize, seed: u64, layer: usize) -> Outcome<Dictionary> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("directions-{n}-{}-{seed}", self.d_model));
        if !file.exists() {
            let unfinished = file.with_extension("unfinished");
            let mut out = BufWriter::new(File::create(&unfinished)?);
            Random::new(seed).write(&mut out, n * self.d_model, f32::to_le_bytes)?;
            out.flush()?;
            std::fs::rename(unfinished, &file)?;
        }
        let write = Tensor::from_bytes(Bytes::map(&file)?, DType::F32, &[n, self.d_model])?;
        Ok(directions(&write, &DirectionsOptions { layer: Some(layer), ..DirectionsOptions::default() })?)
    }
}

/// Random numbers with the spread of a normal distribution's; a block of them again and again with other signs, as gigabytes
/// are needed and the time of a product does not depend on them.
struct Random(Vec<f32>);

impl Random {
    fn new(seed: u64) -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Random((0..1_000_003).map(|_| (0..4).map(|_| rng.random_range(-0.87..0.87f32)).sum()).collect())
    }

    fn write<const B: usize>(&mut self, out: &mut impl Write, count: usize, bytes: impl Fn(f32) -> [u8; B]) -> Outcome<()> {
        for start in (0..count).step_by(self.0.len()) {
            let block: Vec<u8> = self.0.iter().take(count - start).flat_map(|x| bytes(*x)).collect();
            out.write_all(&block)?;
            self.0.rotate_left(977);
        }
        Ok(())
    }
}

fn random(rows: usize, cols: usize, seed: u64) -> Outcome<Tensor> {
    Ok(Tensor::from_f32(Random::new(seed).0.into_iter().cycle().take(rows * cols).collect(), &[rows, cols])?)
}

/// A figure of this process's memory in MiB, where the system tells.
fn memory(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()? / 1024)
}

fn seconds(f: &dyn Fn() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_secs_f64())
}

/// One job with `n` features, in this process.
fn job(name: &str, shapes: &Shapes, n: usize) -> Outcome<Value> {
    let work = Work::silent(0)?;
    let model = Model::load(&shapes.folder()?.to_string_lossy(), &ModelOptions::default(), &work)?;
    // What is written after layer 0 is read by layer 1, and what its heads write by what reads after it.
    let (a, b) = (shapes.directions(n, 1, 0)?, shapes.directions(n, 2, if name == "ov_scores" { 1 } else { 0 })?);
    let tokens = TokenOptions::default();
    let scores = match name {
        "semantics" => Some(unembed(&a, &model, &tokens, &work)?),
        _ => None,
    };
    let run: Box<dyn Fn() -> Outcome<()>> = match name {
        "unembed" => Box::new(|| Ok(unembed(&a, &model, &tokens, &work).map(drop)?)),
        "embed" => Box::new(|| Ok(embed(&a, &model, &tokens, &work).map(drop)?)),
        "semantics" => Box::new(|| {
            let scores = scores.as_ref().ok_or("the scores are made before")?;
            Ok(semantics(scores, &model, &SemanticsOptions::default(), &work).map(drop)?)
        }),
        "attention_scores" => {
            Box::new(|| Ok(attention_scores(&a, &b, &model, 1, 0, &AttentionOptions::default(), &work).map(drop)?))
        }
        "ov_scores" => Box::new(|| Ok(ov_scores(&a, &b, &model, 1, 0, &OvOptions::default(), &work).map(drop)?)),
        "match_features" => Box::new(|| Ok(match_features(&a, &b, &model, &MatchOptions::default(), &work).map(drop)?)),
        other => return Err(format!("no job is called {other}: {}", JOBS.join(", ")).into()),
    };
    let before = memory("VmRSS");
    let own_before = memory("RssAnon");
    let (first, own) = watched(&*run)?;
    let peak = memory("VmHWM");

    // The bare products of the same shapes, (rows, terms, columns): a head's scores twice, for rows and for columns, after both
    // dictionaries have been projected to its width.
    let scores_of_head = (n, shapes.d_head, n);
    let projection = (n, shapes.d_model, shapes.d_head);
    let made = match name {
        "unembed" | "embed" => vec![(n, shapes.d_model, shapes.vocab)],
        "attention_scores" | "ov_scores" => vec![projection, projection, scores_of_head, scores_of_head],
        "match_features" => vec![(n, shapes.d_model, n)],
        _ => Vec::new(),
    };
    let bare: Vec<Product> = made
        .iter()
        .map(|(n, d, m)| match name {
            "unembed" | "embed" => Ok(Product::new(random(*n, *d, 3)?, model.w_e().t())),
            _ => Ok(Product::new(random(*n, *d, 3)?, random(*m, *d, 4)?.t())),
        })
        .collect::<Outcome<_>>()?;
    let bare_run = || bare.iter().try_for_each(|product| Ok(product.bare(&work)?));
    let operations: f64 = made.iter().map(|(n, d, m)| 2e-9 * (n * d) as f64 * *m as f64).sum();
    let (mut times, mut products) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        products.push(seconds(&bare_run)?);
        times.push(seconds(&*run)?);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(json!({
        "job_s": median(&mut times), "products_s": median(&mut products), "first_s": first, "gflop": operations,
        "before_mib": before, "peak_mib": peak, "own_mib": own.zip(own_before).map(|(most, before)| most.saturating_sub(before)),
    }))
}

/// The time of a run, and the most memory of its own that the process had meanwhile, where the system says so.
fn watched(run: &dyn Fn() -> Outcome<()>) -> Outcome<(f64, Option<u64>)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = None;
            while !done.load(Ordering::Relaxed) {
                most = most.max(memory("RssAnon"));
                std::thread::sleep(Duration::from_millis(3));
            }
            most
        });
        let time = seconds(run);
        done.store(true, Ordering::Relaxed);
        let most = watch.join().map_err(|_| "the watch failed")?;
        Ok((time?, most))
    })
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [word, name, shapes, n] = &arguments[..]
        && word == "job"
    {
        let shapes = if shapes == GEMMA2.name { &GEMMA2 } else { &SMOLLM2 };
        println!("{}", job(name, shapes, n.parse()?)?);
        return Ok(());
    }
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let (shapes, sizes): (_, &[usize]) = match (asked("large"), asked("small")) {
        (true, _) => (&GEMMA2, &[16_384]),
        (_, true) => (&SMOLLM2, &[1, 1024, 4096]),
        _ => (&SMOLLM2, &[1, 1024, 4096, 16_384, 65_536]),
    };
    shapes.folder()?;
    println!("shapes of {}, {} threads", shapes.name, Work::silent(0)?.threads());
    println!(
        "job               features    time s  products s   ratio  GFLOP/s  growth   first s  before MiB  peak MiB  own MiB"
    );
    for name in JOBS.into_iter().filter(|name| !JOBS.iter().any(|job| asked(job)) || asked(name)) {
        let mut last: Option<(usize, f64)> = None;
        for n in sizes {
            let mut command = Command::new(std::env::current_exe()?);
            let output = command.args(["job", name, shapes.name]).arg(n.to_string()).output()?;
            if !output.status.success() {
                return Err(format!("{name} with {n} features: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            let found: Value = serde_json::from_slice(&output.stdout)?;
            let number = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
            let (time, products) = (number("job_s"), number("products_s"));
            // The exponent of n by which the time has grown since the size before.
            let growth = last.map_or(f64::NAN, |(m, t)| (time / t).ln() / (*n as f64 / m as f64).ln());
            let bare = products > 1e-6;
            let shown = |value: f64, digits: usize| if value.is_nan() { "-".into() } else { format!("{value:.digits$}") };
            println!(
                "{name:<17} {n:>8} {time:>9.4} {:>11} {:>7} {:>8} {:>7} {:>9.4} {:>11} {:>9} {:>8}",
                shown(if bare { products } else { f64::NAN }, 4),
                shown(if bare { time / products } else { f64::NAN }, 2),
                shown(if bare { number("gflop") / time } else { f64::NAN }, 0),
                shown(growth, 2),
                number("first_s"),
                found["before_mib"],
                found["peak_mib"],
                found["own_mib"]
            );
            last = Some((*n, time)).filter(|_| *n > 1);
            if asked("large") {
                let (what, times) = match name {
                    "attention_scores" | "ov_scores" => ("heads", shapes.layers * shapes.heads),
                    _ => ("layers", shapes.layers),
                };
                println!("{:>17} all {times} {what}: {:.1} min", "", times as f64 * time / 60.0);
            }
        }
    }
    Ok(())
}
