//! Trains the demo's SAEs with the library itself: one for each layer on the residual stream, the heads' outputs z and the MLP's
//! output, all on one pass over the corpus; then writes them, with their figures on the held-out text, beside the model.

use crate::Result;
use saerepl::dictionary::{Precision, SaeOptions, load_sae, save_sae};
use saerepl::model::{Model, ModelOptions};
use saerepl::training::{Job, ModelActivations, ModelLoss, Sequences, TrainOptions, evaluate, train};
use saerepl::work::{Progress, Sink, Steps, Stream, Work};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SITES: [&str; 3] = ["hook_resid_post", "attn.hook_z", "hook_mlp_out"];
const CONTEXT: usize = 128;
/// Tokens on which the figures are measured, at most.
const EVALUATION_TOKENS: usize = 131_072;

/// Trains an SAE at every site of the model in `model_folder` and writes them to `folder`; returns their figures. The state is
/// kept in `checkpoint`, from which `resume` goes on.
pub fn train_saes(
    model_folder: &Path,
    folder: &Path,
    (training, held_out): (&[String], &[String]),
    (steps, seed): (usize, u64),
    checkpoint: &Path,
    resume: bool,
    work: &Work,
) -> Result<Vec<Value>> {
    let model = Model::load(&model_folder.display().to_string(), &ModelOptions::default(), work)?;
    let hooks: Vec<String> = (0..model.cfg().n_layers).flat_map(|l| SITES.map(|site| format!("blocks.{l}.{site}"))).collect();
    let options = TrainOptions {
        k: 24,
        steps,
        batch: 1024,
        context: CONTEXT,
        seed: Some(seed),
        checkpoint: Some(checkpoint.display().to_string()),
        resume,
        ..TrainOptions::default()
    };
    let name = "the demo's corpus (examples/demo/README.md)";
    let sequences = |texts: &[String]| Sequences::new(&model, texts, name, CONTEXT, work);
    let (training, held_out) = (sequences(training)?, sequences(held_out)?);
    let jobs: Vec<Job> = hooks.iter().map(|hook| Job::new(hook.as_str(), &options)).collect();
    let mut source = ModelActivations::new(&model, &hooks, training, work)?;
    let saes = train(&jobs, &mut source, &options, work)?;

    // The figures are those of the weights as they are stored, in bf16.
    let mut stored = Vec::new();
    for sae in &saes {
        let place = folder.join(sae.hook());
        save_sae(sae, &place, Precision::BF16, work)?;
        stored.push(load_sae(&place.display().to_string(), None, &SaeOptions::default(), work)?);
    }
    let mut loss = ModelLoss::new(&model, &hooks, &held_out, options.skip_bos, work)?;
    let mut source = ModelActivations::new(&model, &hooks, held_out, work)?;
    let figures = evaluate(&stored, &mut source, Some(&mut loss), Some(EVALUATION_TOKENS), options.skip_bos, work)?;
    let mut all = Vec::new();
    for (sae, figures) in stored.iter().zip(figures) {
        let json = figures.to_json();
        let sae = sae.with_metadata("model_name", "demo".into()).with_metadata("figures", json.clone());
        let sae = sae.with_density(figures.density)?;
        save_sae(&sae, &folder.join(sae.hook()), Precision::BF16, work)?;
        all.push(json!({ "hook": sae.hook(), "d_sae": sae.n(), "k": options.k, "figures": json }));
    }
    Ok(all)
}

/// A work handle that prints a line at every twentieth of a piece of work.
pub fn logging_work(threads: usize) -> Result<Work> {
    Ok(Work::new(threads, 0, Box::new(Log), Box::new(Log))?)
}

struct Log;

struct Lines {
    label: Mutex<String>,
    total: u64,
    done: AtomicU64,
}

impl Progress for Log {
    fn begin(&self, label: &str, total: u64) -> Box<dyn Steps> {
        Box::new(Lines { label: Mutex::new(label.to_string()), total, done: AtomicU64::new(0) })
    }
}

impl Steps for Lines {
    fn advance(&self, n: u64) {
        let before = self.done.fetch_add(n, Ordering::Relaxed);
        let twentieth = |done: u64| 20 * done / self.total.max(1);
        if twentieth(before + n) > twentieth(before)
            && let Ok(label) = self.label.lock()
        {
            println!("{label}: {} of {}", before + n, self.total);
        }
    }
    fn describe(&self, label: &str) {
        if let Ok(mut place) = self.label.lock() {
            *place = label.to_string();
        }
    }
}

impl Sink for Log {
    fn write(&self, _: Stream, text: &str) {
        println!("{text}");
    }
}
