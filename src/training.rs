//! Training of SAEs on a model's activations, several sites on one pass over the texts.
//!
//! * `source`: what training reads. * `texts`: a model's activations over texts. * `options`: what can be chosen.
//! * `buffer`: shuffled batches. * `gradient`: loss and gradient of a batch. * `adam`: the optimiser. * `sae`: a step.
//! * `checkpoint`: state on disk. * `evaluate`: figures on held-out text. * `statistics`: how often each feature of any
//!   dictionary fires.
//!
//! Inputs are scaled to an expected norm of √d_in while training, decoder rows are kept at norm 1 (the gradient along them is
//! removed, as in Bricken et al. 2023), b_dec is subtracted from the input. At the end the scale is folded away: the SAE
//! takes activations as the model produces them, and its activations are in their units (as Gemma Scope publishes its
//! SAEs; FORMATS.md 1.1).

mod adam;
mod buffer;
mod checkpoint;
mod evaluate;
mod gradient;
mod options;
mod sae;
mod source;
mod statistics;
#[cfg(test)]
mod tests;
mod texts;

pub use evaluate::{CrossEntropy, Figures, evaluate};
pub use options::{Arch, Job, TrainOptions};
pub use source::{Activations, Chunk, Patch, Splice};
pub use statistics::{StatsOptions, activation_stats, stat_hooks};
pub use texts::{ModelActivations, ModelLoss, Sequences, read_texts};

use crate::dictionary::{Activation, Dictionary, SaeParts};
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;
use crate::tensor::Tensor;
use crate::work::Work;
use buffer::{Buffer, Mark};
use checkpoint::Progress;
use gradient::Weights;
use rayon::prelude::*;
use sae::{Report, Sae};
use serde_json::{Map, Value as Json, json};
use std::path::Path;

/// Trains one SAE for each job on the activations of `source`, whose sites are the jobs' in the same order. Texts that end
/// too early are read again from their beginning, with a note. The result does not depend on the number of threads, nor on
/// what else is trained on the same pass.
///
/// With `checkpoint`, the state is stored every `checkpoint_every` steps; a run that is resumed gives the same bits as one that was
/// never stopped.
///
/// # Errors
/// Options that do not fit, too few activations or some that are not finite, a checkpoint of other settings, a training that
/// diverges, or the user's interruption.
pub fn train(jobs: &[Job], source: &mut dyn Activations, options: &TrainOptions, work: &Work) -> Result<Vec<Dictionary>> {
    options.check(jobs)?;
    let seed = options.seed.unwrap_or(work.seed());
    let described = source.describe();
    let settings = settings(jobs, options, seed, &described);
    let path = options.checkpoint.as_deref().map(Path::new);
    let stored = match path {
        Some(path) if options.resume => checkpoint::read(path, &settings)?,
        Some(path) if path.exists() => {
            work.note(&format!("note: {} is overwritten; `resume: true` goes on from it", path.display()));
            None
        }
        _ => None,
    };
    let begin = stored.as_ref().map_or((Mark::default(), 0), |stored| (stored.progress.mark, stored.progress.generation));
    let hooks = jobs.iter().map(|job| job.hook.clone()).collect();
    let (batch, capacity) = (options.batch, options.buffer);
    let mut buffer = Buffer::new(source, hooks, batch, capacity, options.skip_bos, seed, begin, work)?;
    let mut saes = Vec::with_capacity(jobs.len());
    for (i, job) in jobs.iter().enumerate() {
        let mut sae = Sae::new(job, buffer.first(i), buffer.widths[i], options, seed)?;
        if let Some(stored) = &stored {
            stored.restore(&mut sae)?;
        }
        saes.push(sae);
    }

    let mut step = stored.map_or(0, |stored| stored.progress.step);
    let mut saved = step;
    let what = if let [sae] = &saes[..] { format!("training {}", sae.hook) } else { format!("training {} SAEs", saes.len()) };
    let steps = work.begin(&what, options.steps as u64);
    steps.advance(step as u64);
    let mut passes = buffer.passes();
    while step < options.steps {
        let pool = buffer.refill(work)?;
        let count = pool.len().min(options.steps - step);
        let train = |(site, sae): (usize, &mut Sae)| -> Result<Option<Report>> {
            let mut last = None;
            for index in 0..count {
                work.check()?;
                let x = pool.batch(site, index, sae.scale as f32);
                last = Some(sae.step(&x, step + index, options, work)?);
                if site == 0 {
                    steps.advance(1);
                }
            }
            Ok(last)
        };
        let reports = work.install(|| saes.par_iter_mut().enumerate().map(train).collect::<Result<Vec<_>>>())?;
        steps.describe(&label(&what, reports.iter().flatten()));
        step += count;
        buffer.advance();
        if passes == 0 && buffer.passes() > 0 && step < options.steps {
            work.note(&format!(
                "note: the texts end at step {step} of {}: they are read again from their beginning",
                options.steps
            ));
        }
        passes = buffer.passes();
        if let Some(path) = path
            && (step - saved >= options.checkpoint_every || step == options.steps)
        {
            let progress = Progress { step, generation: buffer.generation, mark: buffer.mark() };
            checkpoint::write(path, &settings, progress, &saes, work).context(|| "writing a checkpoint".into())?;
            saved = step;
        }
    }
    drop(steps);
    saes.iter().map(|sae| finished(sae, options, &settings, &described)).collect()
}

/// What must be the same for a training to be resumed.
fn settings(jobs: &[Job], options: &TrainOptions, seed: u64, described: &Map<String, Json>) -> Map<String, Json> {
    let mut settings = Map::new();
    if let Json::Object(canonical) = options.canonical() {
        // What is held out shows in the texts that are left.
        let own = ["checkpoint", "checkpoint_every", "resume", "held_out", "d_sae", "arch", "k", "seed"];
        settings.extend(canonical.into_iter().filter(|(key, _)| !own.contains(&key.as_str())));
    }
    settings.insert("seed".into(), json!(seed));
    settings.insert("hooks".into(), jobs.iter().map(|job| job.hook.as_str()).collect());
    settings.insert("arch".into(), jobs.iter().map(|job| job.arch.name()).collect());
    settings.insert("d_sae".into(), jobs.iter().map(|job| json!(job.d_sae)).collect());
    settings.insert("k".into(), jobs.iter().map(|job| job.k).collect());
    // The same texts and weights may have other names.
    let names = ["model_name", "dataset_path"];
    settings.extend(described.clone().into_iter().filter(|(key, _)| !names.contains(&key.as_str())));
    settings
}

/// Means over the SAEs at their last step.
fn label<'a>(what: &str, reports: impl Iterator<Item = &'a Report> + Clone) -> String {
    let n = reports.clone().count().max(1) as f64;
    let mean = |of: fn(&Report) -> f64| reports.clone().map(of).sum::<f64>() / n;
    format!(
        "{what} (loss {:.3}, L0 {:.1}, EV {:.3}, dead {:.0})",
        mean(|r| r.loss),
        mean(|r| r.l0),
        mean(|r| r.explained_variance),
        mean(|r| r.dead as f64)
    )
}

/// The weights for activations as the model produces them: with x' = s x, the function s⁻¹ SAE(s x) has b_enc, b_dec and
/// threshold divided by s, and W_enc and W_dec as they are (FORMATS.md 1.1, as Gemma Scope's appendix A).
fn folded(mut weights: Weights, scale: f64) -> Weights {
    let Weights { b_enc, b_dec, threshold, .. } = &mut weights;
    [b_enc, b_dec, threshold].into_iter().flatten().for_each(|v| *v = (f64::from(*v) / scale) as f32);
    weights
}

fn finished(
    sae: &Sae,
    options: &TrainOptions,
    settings: &Map<String, Json>,
    described: &Map<String, Json>,
) -> Result<Dictionary> {
    let (d, m) = (sae.d_in, sae.d_sae);
    let mut weights = sae.weights()?;
    if let Some(cut) = sae.cut {
        weights.threshold = vec![cut as f32; m];
    }
    let weights = folded(weights, sae.scale);
    let mut training = settings.clone();
    training.retain(|key, _| key != "hooks" && !described.contains_key(key));
    for (key, value) in [("arch", json!(sae.arch.name())), ("d_sae", json!(m)), ("k", json!(sae.k))] {
        training.insert(key.into(), value);
    }
    training.insert("activation_scale".into(), json!(sae.scale));
    training.insert("tokens".into(), json!(options.steps as u64 * options.batch as u64));
    training.insert("program".into(), json!(concat!("saerepl ", env!("CARGO_PKG_VERSION"))));
    let mut metadata = described.clone();
    metadata.insert("training".into(), Json::Object(training));
    let parts = SaeParts {
        name: sae.hook.clone(),
        hook: sae.hook.clone(),
        activation: match sae.arch {
            Arch::Relu => Activation::Relu,
            Arch::TopK => Activation::TopK(sae.k),
            Arch::BatchTopK | Arch::JumpRelu => Activation::JumpRelu,
        },
        w_enc: Tensor::from_f32(weights.w_enc, &[m, d])?.t(),
        w_dec: Tensor::from_f32(weights.w_dec, &[m, d])?,
        b_enc: Tensor::vector(weights.b_enc),
        b_dec: Tensor::vector(weights.b_dec),
        threshold: (!weights.threshold.is_empty()).then(|| Tensor::vector(weights.threshold)),
        subtract_b_dec: true,
        metadata,
    };
    if sae.arch == Arch::BatchTopK && sae.cut.is_none() {
        return Err(Error::input("no latent was ever active").context(sae.hook.as_str()));
    }
    Dictionary::from_parts(parts)
}
