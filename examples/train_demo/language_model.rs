//! The demo language model: a Llama-architecture network in candle, AdamW, checkpoints and the export as a Hugging Face folder.
//!
//! Candle's own AdamW keeps its moments private; a run that is to continue with the same result has to save them, so the
//! update (Loshchilov & Hutter 2019) is written out here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor, Var};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Result;
use crate::ops::{Attention, cross_entropy, linear, rms_norm, swiglu};
use crate::tokens::{BOS, BOS_ID, Batch, uniform};

/// Shape of the network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Architecture {
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub d_head: usize,
    pub d_mlp: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
}

/// Everything that decides the outcome of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub architecture: Architecture,
    pub steps: usize,
    /// Windows per step.
    pub batch: usize,
    /// Windows whose gradient is computed at once; a step's gradient is the sum over micro-batches in their order.
    pub micro_batch: usize,
    pub learning_rate: f64,
    pub warmup_steps: usize,
    /// Share of the steps, at the end, over which the learning rate falls.
    pub decay_share: f64,
    /// Share of the learning rate that is left at the end.
    pub final_share: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Decoupled; on matrices only.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip_norm: f64,
    pub init_std: f64,
    pub seed: u64,
    pub corpus_sha256: String,
    pub tokenizer_sha256: String,
}

impl Settings {
    /// First step of the decay.
    fn decay_start(&self) -> usize {
        self.steps - (self.steps as f64 * self.decay_share) as usize
    }

    /// Linear warm-up, constant, then a half cosine down to `final_share` (warmup-stable-decay, Hu et al. 2024). Until the
    /// decay starts the number of steps plays no part, so a run may be lengthened or shortened up to then.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let start = self.decay_start();
        let progress = step.saturating_sub(start) as f64 / (self.steps - start).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        self.learning_rate * (self.final_share + (1.0 - self.final_share) * cosine)
    }
}

/// A parameter with the moments of its gradient.
struct Parameter {
    name: String,
    var: Var,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The network and its optimizer.
pub struct LanguageModel {
    pub settings: Settings,
    /// Steps done.
    pub step: usize,
    parameters: Vec<Parameter>,
    index: HashMap<String, usize>,
}

/// What a step reports.
pub struct StepReport {
    /// Mean training loss of the batch, nats per token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
}

impl LanguageModel {
    /// Normal initial weights; projections into the residual stream are smaller by √(2 n_layers) (Radford et al. 2019).
    pub fn new(settings: Settings) -> Result<Self> {
        let shape = settings.architecture.clone();
        let (attention, kv) = (shape.n_heads * shape.d_head, shape.n_kv_heads * shape.d_head);
        let residual_std = settings.init_std / (2.0 * shape.n_layers as f64).sqrt();
        let mut specification = vec![("embed".to_string(), vec![shape.vocabulary, shape.d_model], settings.init_std)];
        for layer in 0..shape.n_layers {
            let mut add = |name: &str, dims: Vec<usize>, std: f64| specification.push((format!("{layer}.{name}"), dims, std));
            add("attention_norm", vec![shape.d_model], 0.0);
            add("qkv", vec![attention + 2 * kv, shape.d_model], settings.init_std);
            add("attention_out", vec![shape.d_model, attention], residual_std);
            add("mlp_norm", vec![shape.d_model], 0.0);
            add("gate_up", vec![2 * shape.d_mlp, shape.d_model], settings.init_std);
            add("down", vec![shape.d_model, shape.d_mlp], residual_std);
        }
        specification.push(("final_norm".to_string(), vec![shape.d_model], 0.0));

        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut parameters = Vec::new();
        for (name, dims, std) in specification {
            let count = dims.iter().product();
            // Norm weights start at one.
            let values = if dims.len() == 1 { vec![1.0; count] } else { normal(&mut random, count, std) };
            let var = Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)?;
            parameters.push(Parameter { name, var, first: vec![0.0; count], second: vec![0.0; count] });
        }
        let index = parameters.iter().enumerate().map(|(at, parameter)| (parameter.name.clone(), at)).collect();
        Ok(Self { settings, step: 0, parameters, index })
    }

    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.first.len()).sum()
    }

    fn weight(&self, name: &str) -> Result<&Var> {
        let at = self.index.get(name).ok_or_else(|| format!("no parameter {name}"))?;
        Ok(&self.parameters[*at].var)
    }

    /// Output of the last norm `[tokens, d_model]` for sequences of `length` tokens.
    fn hidden(&self, inputs: &[u32], length: usize) -> Result<Tensor> {
        let shape = &self.settings.architecture;
        let eps = shape.rms_norm_eps as f32;
        let attention = Attention::new(shape.n_heads, shape.n_kv_heads, shape.d_head, length, shape.rope_theta);
        let inputs = Tensor::from_slice(inputs, inputs.len(), &Device::Cpu)?;
        let mut stream = self.weight("embed")?.index_select(&inputs, 0)?;
        for layer in 0..shape.n_layers {
            let weight = |name: &str| self.weight(&format!("{layer}.{name}"));
            let normed = rms_norm(&stream, weight("attention_norm")?, eps)?;
            let heads = attention.forward(&linear(&normed, weight("qkv")?)?)?;
            stream = (stream + linear(&heads, weight("attention_out")?)?)?;
            let normed = rms_norm(&stream, weight("mlp_norm")?, eps)?;
            let gated = swiglu(&linear(&normed, weight("gate_up")?)?)?;
            stream = (stream + linear(&gated, weight("down")?)?)?;
        }
        Ok(rms_norm(&stream, self.weight("final_norm")?, eps)?)
    }

    fn loss(&self, inputs: &[u32], targets: &[u32], length: usize) -> Result<Tensor> {
        Ok(cross_entropy(&self.hidden(inputs, length)?, self.weight("embed")?, targets)?)
    }

    /// Loss and gradient of each parameter, of one micro-batch.
    fn gradients(&self, inputs: &[u32], targets: &[u32]) -> Result<(f64, Vec<Vec<f32>>)> {
        let loss = self.loss(inputs, targets, self.settings.architecture.context)?;
        let store = loss.backward()?;
        let gradients = self.parameters.iter().map(|parameter| {
            let gradient = store.get(&parameter.var).ok_or_else(|| format!("no gradient for {}", parameter.name))?;
            Ok(gradient.flatten_all()?.to_vec1()?)
        });
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients.collect::<Result<_>>()?))
    }

    /// One AdamW step on a batch; `threads` decides the speed only.
    pub fn train_step(&mut self, batch: &Batch, threads: usize) -> Result<StepReport> {
        let tokens = self.settings.micro_batch * self.settings.architecture.context;
        let pieces: Vec<_> = batch.inputs.chunks(tokens).zip(batch.targets.chunks(tokens)).collect();
        let results = in_order(pieces.len(), threads, |piece| self.gradients(pieces[piece].0, pieces[piece].1))?;

        let mut loss = 0.0;
        let mut sums: Vec<Vec<f32>> = self.parameters.iter().map(|parameter| vec![0.0; parameter.first.len()]).collect();
        let share = 1.0 / pieces.len() as f32;
        for (piece_loss, gradients) in &results {
            loss += piece_loss * f64::from(share);
            for (sum, gradient) in sums.iter_mut().zip(gradients) {
                for (sum, gradient) in sum.iter_mut().zip(gradient) {
                    *sum += share * gradient;
                }
            }
        }
        let gradient_norm = sums.iter().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(format!("step {}: the loss is {loss}, the gradient norm {gradient_norm}", self.step).into());
        }
        self.update(&sums, (self.settings.clip_norm / gradient_norm).min(1.0))?;
        self.step += 1;
        Ok(StepReport { loss, gradient_norm })
    }

    fn update(&mut self, gradients: &[Vec<f32>], clip: f64) -> Result<()> {
        let settings = &self.settings;
        let count = (self.step + 1) as i32;
        let rate = settings.learning_rate_at(self.step);
        let (beta1, beta2, clip) = (settings.beta1 as f32, settings.beta2 as f32, clip as f32);
        let step_size = (rate / (1.0 - settings.beta1.powi(count))) as f32;
        let second_scale = (1.0 / (1.0 - settings.beta2.powi(count))) as f32;
        let epsilon = settings.epsilon as f32;
        for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
            let decay = if parameter.var.rank() > 1 { rate * settings.weight_decay } else { 0.0 };
            let keep = (1.0 - decay) as f32;
            let mut values: Vec<f32> = parameter.var.flatten_all()?.to_vec1()?;
            let moments = parameter.first.iter_mut().zip(&mut parameter.second);
            for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
                let gradient = gradient * clip;
                *first = beta1 * *first + (1.0 - beta1) * gradient;
                *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                *value = *value * keep - step_size * *first / ((*second * second_scale).sqrt() + epsilon);
            }
            parameter.var.set(&Tensor::from_vec(values, parameter.var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// A copy with the weights rounded to bf16: what the export holds.
    pub fn rounded(&self) -> Result<Self> {
        let mut model = Self::new(self.settings.clone())?;
        model.step = self.step;
        for (target, source) in model.parameters.iter_mut().zip(&self.parameters) {
            let values: Vec<f32> = source.var.flatten_all()?.to_vec1()?;
            let values = values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
            target.var.set(&Tensor::from_vec(values, source.var.shape(), &Device::Cpu)?)?;
        }
        Ok(model)
    }

    /// Mean loss over consecutive windows of `stream`, in nats per token; the last window may be shorter.
    pub fn evaluate(&self, stream: &[u32], threads: usize) -> Result<f64> {
        let context = self.settings.architecture.context;
        let starts: Vec<usize> = (1..stream.len()).step_by(context).collect();
        let losses = in_order(starts.len(), threads, |window| {
            let length = context.min(stream.len() - starts[window]);
            let mut batch = Batch::new();
            batch.push(stream, starts[window], length);
            let loss = self.loss(&batch.inputs, &batch.targets, length)?;
            Ok(f64::from(loss.to_scalar::<f32>()?) * length as f64)
        })?;
        Ok(losses.iter().sum::<f64>() / (stream.len() - 1) as f64)
    }

    /// Continues `prompt` by `count` tokens: the likeliest ones at temperature 0, else a seeded draw. Ends early at BOS.
    pub fn sample(&self, prompt: &[u32], count: usize, temperature: f64, seed: u64) -> Result<Vec<u32>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tokens = prompt.to_vec();
        for _ in 0..count.min(self.settings.architecture.context - prompt.len()) {
            let hidden = self.hidden(&tokens, tokens.len())?.narrow(0, tokens.len() - 1, 1)?.contiguous()?;
            let logits: Vec<f32> = linear(&hidden, self.weight("embed")?)?.flatten_all()?.to_vec1()?;
            let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let next = if temperature == 0.0 {
                logits.iter().position(|logit| *logit == maximum)
            } else {
                let weights: Vec<f64> = logits.iter().map(|logit| (f64::from(logit - maximum) / temperature).exp()).collect();
                let mut left = uniform(&mut random) * weights.iter().sum::<f64>();
                weights.iter().position(|weight| {
                    left -= weight;
                    left < 0.0
                })
            };
            match next {
                Some(next) if next as u32 != BOS_ID => tokens.push(next as u32),
                _ => break,
            }
        }
        Ok(tokens)
    }

    /// Writes weights, moments and settings to one safetensors file; an existing file is replaced in one move.
    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for parameter in &self.parameters {
            let dims = parameter.var.dims().to_vec();
            let values: Vec<f32> = parameter.var.flatten_all()?.to_vec1()?;
            for (kind, values) in [("value", &values), ("first", &parameter.first), ("second", &parameter.second)] {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((format!("{}/{kind}", parameter.name), dims.clone(), bytes));
            }
        }
        let metadata = HashMap::from([
            ("settings".to_string(), serde_json::to_string(&self.settings)?),
            ("step".to_string(), self.step.to_string()),
        ]);
        write_safetensors(path, &tensors, Dtype::F32, metadata)
    }

    /// Continues from a checkpoint. Settings other than the checkpoint's are refused: the result would be neither run's. Only
    /// the number of steps may differ as long as no decay has begun, since the result is then that of the new number.
    pub fn load_checkpoint(path: &Path, settings: Settings) -> Result<Self> {
        let place = path.display();
        let bytes = fs::read(path).map_err(|error| format!("{place}: {error}; without --resume a new run starts"))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| format!("{place}: {error}"))?;
        let metadata = header.metadata().as_ref().ok_or_else(|| format!("{place} is not a checkpoint of this program"))?;
        let field = |name: &str| {
            metadata.get(name).ok_or_else(|| format!("{place} has no {name}; it is not a checkpoint of this program"))
        };
        let mut saved: Settings = serde_json::from_str(field("settings")?).map_err(|error| format!("{place}: {error}"))?;
        let step: usize = field("step")?.parse()?;
        // Before both decays the two lengths have the same history.
        if step <= saved.decay_start().min(settings.decay_start()) {
            saved.steps = settings.steps;
        }
        let differences = differences("", &serde_json::to_value(&saved)?, &serde_json::to_value(&settings)?);
        if !differences.is_empty() {
            return Err(format!("{place} was made with other settings: {}", differences.join("; ")).into());
        }
        let mut model = Self::new(settings)?;
        model.step = step;
        let tensors = SafeTensors::deserialize(&bytes)?;
        for parameter in &mut model.parameters {
            let read = |kind: &str| -> Result<Vec<f32>> {
                let view = tensors.tensor(&format!("{}/{kind}", parameter.name)).map_err(|error| format!("{place}: {error}"))?;
                if view.shape() != parameter.var.dims() || view.dtype() != Dtype::F32 {
                    return Err(format!("{place}: {}/{kind} is {:?} {:?}", parameter.name, view.dtype(), view.shape()).into());
                }
                Ok(view
                    .data()
                    .chunks_exact(4)
                    .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                    .collect())
            };
            let (value, first, second) = (read("value")?, read("first")?, read("second")?);
            parameter.var.set(&Tensor::from_vec(value, parameter.var.shape(), &Device::Cpu)?)?;
            (parameter.first, parameter.second) = (first, second);
        }
        Ok(model)
    }

    /// Writes the folder that `transformers` loads, without the tokenizer: configuration and bf16 weights.
    pub fn export(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let shape = &self.settings.architecture;
        let (attention, kv) = (shape.n_heads * shape.d_head, shape.n_kv_heads * shape.d_head);
        let mut tensors = Vec::new();
        let mut add = |name: String, var: &Var, row: usize, rows: usize| -> Result<()> {
            let part = var.narrow(0, row, rows)?;
            let values: Vec<f32> = part.flatten_all()?.to_vec1()?;
            let bytes = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect::<Vec<u8>>();
            tensors.push((name, part.dims().to_vec(), bytes));
            Ok(())
        };
        add("model.embed_tokens.weight".into(), self.weight("embed")?, 0, shape.vocabulary)?;
        add("model.norm.weight".into(), self.weight("final_norm")?, 0, shape.d_model)?;
        for layer in 0..shape.n_layers {
            let parts = [
                ("input_layernorm", "attention_norm", 0, shape.d_model),
                ("self_attn.q_proj", "qkv", 0, attention),
                ("self_attn.k_proj", "qkv", attention, kv),
                ("self_attn.v_proj", "qkv", attention + kv, kv),
                ("self_attn.o_proj", "attention_out", 0, shape.d_model),
                ("post_attention_layernorm", "mlp_norm", 0, shape.d_model),
                ("mlp.gate_proj", "gate_up", 0, shape.d_mlp),
                ("mlp.up_proj", "gate_up", shape.d_mlp, shape.d_mlp),
                ("mlp.down_proj", "down", 0, shape.d_model),
            ];
            for (target, source, row, rows) in parts {
                add(format!("model.layers.{layer}.{target}.weight"), self.weight(&format!("{layer}.{source}"))?, row, rows)?;
            }
        }
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        write_safetensors(&folder.join("model.safetensors"), &tensors, Dtype::BF16, metadata)?;

        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.d_model,
            "intermediate_size": shape.d_mlp,
            "num_hidden_layers": shape.n_layers,
            "num_attention_heads": shape.n_heads,
            "num_key_value_heads": shape.n_kv_heads,
            "head_dim": shape.d_head,
            "hidden_act": "silu",
            "max_position_embeddings": shape.context,
            "rms_norm_eps": shape.rms_norm_eps,
            "rope_theta": shape.rope_theta,
            "rope_scaling": null,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "tie_word_embeddings": true,
            "initializer_range": self.settings.init_std,
            "bos_token_id": BOS_ID,
            "eos_token_id": BOS_ID,
            "use_cache": true,
            "torch_dtype": "bfloat16",
        });
        let generation = json!({ "bos_token_id": BOS_ID, "eos_token_id": BOS_ID, "pad_token_id": BOS_ID });
        let tokenizer = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": BOS,
            "model_max_length": shape.context,
            "clean_up_tokenization_spaces": false,
        });
        for (name, value) in
            [("config.json", config), ("generation_config.json", generation), ("tokenizer_config.json", tokenizer)]
        {
            write_atomically(&folder.join(name), format!("{}\n", serde_json::to_string_pretty(&value)?).as_bytes())?;
        }
        Ok(())
    }
}

/// Box-Muller draws.
fn normal(random: &mut ChaCha8Rng, count: usize, std: f64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
            (std * radius * (2.0 * std::f64::consts::PI * uniform(random)).cos()) as f32
        })
        .collect()
}

/// `work(0), work(1), …` in order, computed on some threads.
fn in_order<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<T>>>> = Mutex::new((0..count).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let result = work(index);
                    if let Ok(mut results) = results.lock() {
                        results[index] = Some(result);
                    }
                }
            });
        }
    });
    let results = results.into_inner().map_err(|_| "a training thread panicked")?;
    results.into_iter().map(|result| result.unwrap_or_else(|| Err("a training thread panicked".into()))).collect()
}

/// Each leaf in which two JSON objects differ, as "name is now …, was …".
fn differences(name: &str, saved: &serde_json::Value, current: &serde_json::Value) -> Vec<String> {
    match (saved.as_object(), current.as_object()) {
        (Some(saved), Some(current)) => current
            .iter()
            .flat_map(|(key, value)| differences(key, saved.get(key).unwrap_or(&serde_json::Value::Null), value))
            .collect(),
        _ if saved == current => Vec::new(),
        _ => vec![format!("{name} was {saved}, is now {current}")],
    }
}

fn write_safetensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<u8>)],
    dtype: Dtype,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, dims, bytes)| Ok((name.clone(), TensorView::new(dtype, dims.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    write_atomically(path, &serialize(views, Some(metadata))?)
}

/// Writes beside the target, flushes to disk and renames: after a kill either the old or the new file is there, whole.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&partial)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    Ok(write().map_err(|error| format!("{}: {error}", path.display()))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn settings() -> Settings {
        let architecture = Architecture {
            d_model: 12,
            n_layers: 2,
            n_heads: 3,
            n_kv_heads: 1,
            d_head: 4,
            d_mlp: 20,
            vocabulary: 40,
            context: 16,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
        };
        Settings {
            architecture,
            steps: 20,
            batch: 6,
            micro_batch: 2,
            learning_rate: 0.01,
            warmup_steps: 3,
            decay_share: 0.5,
            final_share: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            init_std: 0.3,
            seed: 3,
            corpus_sha256: String::new(),
            tokenizer_sha256: String::new(),
        }
    }

    fn batch(step: usize) -> Batch {
        let stream: Vec<u32> = (0..200).map(|i| ((i * i * 7 + step * 13 + i) % 40) as u32).collect();
        let mut batch = Batch::new();
        (0..6).for_each(|window| batch.push(&stream, window * 20, 16));
        batch
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let model = LanguageModel::new(settings()).unwrap();
        let batch = batch(0);
        let (_, gradients) = model.gradients(&batch.inputs, &batch.targets).unwrap();
        let loss = || f64::from(model.loss(&batch.inputs, &batch.targets, 16).unwrap().to_scalar::<f32>().unwrap());
        for (parameter, gradient) in model.parameters.iter().zip(&gradients) {
            // Along the gradient's own direction the derivative is its norm.
            let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let values: Vec<f32> = parameter.var.flatten_all().unwrap().to_vec1().unwrap();
            let shifted = |distance: f64| {
                let moved =
                    values.iter().zip(gradient).map(|(value, slope)| value + (distance * f64::from(*slope) / norm) as f32);
                parameter.var.set(&Tensor::from_vec(moved.collect(), parameter.var.shape(), &Device::Cpu).unwrap()).unwrap();
                loss()
            };
            let distance = 3e-3;
            let slope = (shifted(distance) - shifted(-distance)) / (2.0 * distance);
            shifted(0.0);
            assert!((slope - norm).abs() < 0.01 * norm + 2e-4, "{}: {slope} against {norm}", parameter.name);
        }
    }

    #[test]
    fn threads_and_a_resume_do_not_change_the_result() {
        let folder = std::env::temp_dir().join(format!("train_demo_{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("checkpoint.safetensors");
        let mut straight = LanguageModel::new(settings()).unwrap();
        let mut first = LanguageModel::new(settings()).unwrap();
        for step in 0..8 {
            straight.train_step(&batch(step), 1).unwrap();
            if step < 5 {
                first.train_step(&batch(step), 3).unwrap();
            }
        }
        first.save_checkpoint(&path).unwrap();
        let mut resumed = LanguageModel::load_checkpoint(&path, settings()).unwrap();
        for step in 5..8 {
            resumed.train_step(&batch(step), 2).unwrap();
        }
        for (left, right) in straight.parameters.iter().zip(&resumed.parameters) {
            let bits = |parameter: &Parameter| parameter.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(bits(left), bits(right), "{}", left.name);
            assert_eq!((&left.first, &left.second), (&right.first, &right.second), "{}", left.name);
        }
        let other = Settings { learning_rate: 0.02, ..settings() };
        let message = LanguageModel::load_checkpoint(&path, other).err().unwrap().to_string();
        assert!(message.contains("learning_rate was 0.01, is now 0.02"), "{message}");
        let longer = LanguageModel::load_checkpoint(&path, Settings { steps: 30, ..settings() }).unwrap();
        assert_eq!((longer.step, longer.settings.steps), (5, 30));
        let shorter = LanguageModel::load_checkpoint(&path, Settings { steps: 6, ..settings() }).err().unwrap().to_string();
        assert!(shorter.contains("steps was 20, is now 6"), "{shorter}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
