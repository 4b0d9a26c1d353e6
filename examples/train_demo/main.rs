//! Makes the built-in demo: fetches the corpus, trains the tokenizer, the language model and its SAEs, and writes them as
//! `model/` (a Hugging Face folder), `saes/` (SAELens's layout) and `README.md` (the model card). One command, seeded, resumable:
//! `cargo run --release --example train_demo -- --out DIR`; `examples/demo` holds what it made.

mod card;
mod corpus;
mod language_model;
mod ngram;
mod ops;
mod saes;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use language_model::{Architecture, LanguageModel, Settings, write_atomically};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

/// Errors of this program are messages.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: train_demo --out DIR [options]
  --out DIR               receives model/, saes/, README.md, held_out.txt and the checkpoints
  --corpus DIR            packages of the corpus; missing ones are fetched [DIR of --out + /corpus]
  --steps N               steps of 16 windows of 256 tokens; may differ at --resume until the last 40 % have begun [2900]
  --learning-rate X       peak learning rate [0.008]
  --sae-steps N           steps of 1024 tokens of the SAEs [6000]
  --seed N                of the initial weights and the order of the text [1]
  --threads N             decides the speed only [cores]
  --stop-after N          stop at this step of the language model with a checkpoint
  --checkpoint-seconds N  time between checkpoints, what a kill loses at most [120]
  --resume                continue from the checkpoint in --out";

const VOCABULARY: usize = 4096;
const LOG_STEPS: usize = 100;
const EVALUATION_STEPS: usize = 1000;
const SAMPLE_TOKENS: usize = 60;
const PROMPTS: [&str; 4] = ["It was a", "And the LORD said unto", "KING.\nMy lord,", "Horse, n. (Zool.)"];

struct Arguments {
    out: PathBuf,
    corpus: Option<PathBuf>,
    steps: usize,
    sae_steps: usize,
    learning_rate: f64,
    seed: u64,
    threads: usize,
    checkpoint_interval: Duration,
    stop_after: Option<usize>,
    resume: bool,
}

fn arguments() -> Result<Arguments> {
    let mut out = None;
    let mut parsed = Arguments {
        out: PathBuf::new(),
        corpus: None,
        steps: 2900,
        sae_steps: 6000,
        learning_rate: 0.008,
        seed: 1,
        threads: std::thread::available_parallelism()?.get(),
        checkpoint_interval: Duration::from_secs(120),
        stop_after: None,
        resume: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--resume" {
            parsed.resume = true;
            continue;
        }
        if word == "--help" {
            println!("{USAGE}");
            std::process::exit(0);
        }
        let value = words.next().ok_or_else(|| format!("{word}: unknown, or its value is missing\n{USAGE}"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{word} takes a whole number, not {value:?}"));
        match word.as_str() {
            "--out" => out = Some(PathBuf::from(&value)),
            "--corpus" => parsed.corpus = Some(PathBuf::from(&value)),
            "--steps" => parsed.steps = number()?,
            "--sae-steps" => parsed.sae_steps = number()?,
            "--seed" => parsed.seed = number()? as u64,
            "--threads" => parsed.threads = number()?,
            "--checkpoint-seconds" => parsed.checkpoint_interval = Duration::from_secs(number()? as u64),
            "--stop-after" => parsed.stop_after = Some(number()?),
            "--learning-rate" => {
                parsed.learning_rate = value.parse().map_err(|_| format!("--learning-rate takes a number, not {value:?}"))?;
            }
            _ => return Err(format!("{word} is not an option\n{USAGE}").into()),
        }
    }
    parsed.out = out.ok_or_else(|| format!("--out is missing\n{USAGE}"))?;
    if parsed.steps == 0 || parsed.threads == 0 || parsed.learning_rate.is_nan() || parsed.learning_rate <= 0.0 {
        return Err("--steps, --threads and --learning-rate have to be positive".into());
    }
    Ok(parsed)
}

fn settings(arguments: &Arguments, corpus: &corpus::Corpus, tokenizer: &Tokenizer) -> Result<Settings> {
    let architecture = Architecture {
        d_model: 96,
        n_layers: 5,
        n_heads: 6,
        n_kv_heads: 2,
        d_head: 16,
        d_mlp: 256,
        vocabulary: VOCABULARY,
        context: 256,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
    };
    Ok(Settings {
        architecture,
        steps: arguments.steps,
        batch: 16,
        micro_batch: 2,
        learning_rate: arguments.learning_rate,
        warmup_steps: 200,
        decay_share: 0.4,
        final_share: 0.05,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.05,
        clip_norm: 1.0,
        init_std: 0.05,
        seed: arguments.seed,
        corpus_sha256: corpus.sha256.clone(),
        tokenizer_sha256: corpus::hexadecimal(&Sha256::digest(tokenizer.to_string(true)?.as_bytes())),
    })
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments = arguments()?;
    let model_folder = arguments.out.join("model");
    let checkpoint = arguments.out.join("checkpoint.safetensors");
    let sae_checkpoint = arguments.out.join("saes.checkpoint.safetensors");
    if checkpoint.exists() && !arguments.resume {
        return Err(format!("{} exists: continue it with --resume, or choose another --out", checkpoint.display()).into());
    }
    fs::create_dir_all(&model_folder)?;

    let corpus = corpus::load(&arguments.corpus.clone().unwrap_or_else(|| arguments.out.join("corpus")))?;
    write_atomically(&arguments.out.join("held_out.txt"), corpus.held_out.join("\n\n\n").as_bytes())?;
    let tokenizer_file = model_folder.join("tokenizer.json");
    let tokenizer = if arguments.resume {
        tokens::load_tokenizer(&tokenizer_file)?
    } else {
        let tokenizer = tokens::train_tokenizer(&corpus.train, VOCABULARY)?;
        write_atomically(&tokenizer_file, tokenizer.to_string(true)?.as_bytes())?;
        tokenizer
    };
    if tokenizer.get_vocab_size(true) != VOCABULARY {
        return Err(format!("the tokenizer has {} tokens instead of {VOCABULARY}", tokenizer.get_vocab_size(true)).into());
    }
    let train = tokens::encode(&tokenizer, &corpus.train)?;
    let held_out = tokens::encode(&tokenizer, &corpus.held_out)?;
    let part = |tuning: bool| {
        let texts: Vec<String> =
            corpus.train.iter().zip(&corpus.tuning).filter(|(_, flag)| **flag == tuning).map(|(text, _)| text.clone()).collect();
        tokens::encode(&tokenizer, &texts)
    };
    let baselines = ngram::baselines(&part(false)?, &part(true)?, &held_out, VOCABULARY);
    let settings = settings(&arguments, &corpus, &tokenizer)?;
    let mut windows = tokens::Windows::new(&train, settings.architecture.context, settings.seed)?;
    let mut model =
        if arguments.resume { LanguageModel::load_checkpoint(&checkpoint, settings)? } else { LanguageModel::new(settings)? };
    let tokens_per_step = model.settings.batch * model.settings.architecture.context;
    println!("settings: {}", serde_json::to_string(&model.settings)?);
    println!(
        "{} parameters; {} training tokens, {} held out; {:.2} epochs",
        model.parameter_count(),
        train.len(),
        held_out.len(),
        (model.settings.steps * model.settings.batch) as f64 / windows.per_epoch() as f64
    );
    println!(
        "held-out baselines: unigram {:.4}, Kneser-Ney bigram {:.4} nats per token (discount {:.2})",
        baselines.unigram, baselines.bigram, baselines.discount
    );
    let record = json!({
        "settings": &model.settings,
        "parameters": model.parameter_count(),
        "corpus": &corpus.sources,
        "train_tokens": train.len(),
        "held_out_tokens": held_out.len(),
        "held_out_bytes_per_token": corpus.held_out.iter().map(String::len).sum::<usize>() as f64 / held_out.len() as f64,
        "held_out_loss_unigram": baselines.unigram,
        "held_out_loss_bigram": baselines.bigram,
        "bigram_discount": baselines.discount,
    });

    let steps = model.settings.steps;
    let last = arguments.stop_after.unwrap_or(steps).min(steps);
    let mut saved = Instant::now();
    let mut logged = (Instant::now(), model.step, 0.0);
    while model.step < last {
        let batch = windows.batch(model.step * model.settings.batch, model.settings.batch);
        let rate = model.settings.learning_rate_at(model.step);
        let report = model.train_step(&batch, arguments.threads)?;
        logged.2 += report.loss;
        let step = model.step;
        if step % LOG_STEPS == 0 || step == last {
            let (count, seconds) = ((step - logged.1) as f64, logged.0.elapsed().as_secs_f64());
            println!(
                "step {step}/{steps}  loss {:.4}  gradient norm {:.3}  learning rate {rate:.2e}  {:.0} tokens/s",
                logged.2 / count,
                report.gradient_norm,
                count * tokens_per_step as f64 / seconds
            );
            logged = (Instant::now(), step, 0.0);
        }
        if saved.elapsed() > arguments.checkpoint_interval || step == last {
            model.save_checkpoint(&checkpoint)?;
            saved = Instant::now();
        }
        if step % EVALUATION_STEPS == 0 || step == steps || (step == 200 && steps > 1000) {
            evaluate(&model, &tokenizer, &held_out, &record, &model_folder, arguments.threads)?;
            logged.0 = Instant::now();
        }
    }
    if model.step < steps {
        return Ok(());
    }
    let work = saes::logging_work(arguments.threads)?;
    let texts = (&corpus.train[..], &corpus.held_out[..]);
    let plan = (arguments.sae_steps, arguments.seed);
    let figures =
        saes::train_saes(&model_folder, &arguments.out.join("saes"), texts, plan, &sae_checkpoint, arguments.resume, &work)?;
    let training: Value = serde_json::from_slice(&fs::read(model_folder.join("training.json"))?)?;
    write_atomically(&arguments.out.join("README.md"), card::card(&training, &figures).as_bytes())
}

/// Evaluates the weights as exported, prints the losses and samples, writes the model folder.
fn evaluate(
    model: &LanguageModel,
    tokenizer: &Tokenizer,
    held_out: &[u32],
    record: &Value,
    folder: &Path,
    threads: usize,
) -> Result<()> {
    let model = model.rounded()?;
    let loss = model.evaluate(held_out, threads)?;
    println!(
        "step {}: held-out loss {loss:.4} nats per token (unigram {:.4}, bigram {:.4})",
        model.step,
        record["held_out_loss_unigram"].as_f64().unwrap_or(f64::NAN),
        record["held_out_loss_bigram"].as_f64().unwrap_or(f64::NAN)
    );
    let mut samples = Vec::new();
    for prompt in PROMPTS {
        let tokens = tokenizer.encode(prompt, true)?.get_ids().to_vec();
        for temperature in [0.0, 0.8] {
            let text = tokenizer.decode(&model.sample(&tokens, SAMPLE_TOKENS, temperature, 0)?, true)?;
            println!("  temperature {temperature}: {text:?}");
            samples.push(json!({ "prompt": prompt, "temperature": temperature, "text": text }));
        }
    }
    model.export(folder)?;
    let mut record = record.clone();
    record["step"] = json!(model.step);
    record["held_out_loss"] = json!(loss);
    record["samples"] = json!(samples);
    write_atomically(&folder.join("training.json"), format!("{}\n", serde_json::to_string_pretty(&record)?).as_bytes())
}
