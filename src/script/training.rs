//! Training of SAEs, and what any dictionary does on texts.

use crate::dictionary::Dictionary;
use crate::entry;
use crate::error::Error;
use crate::model::Model;
use crate::model::forward::Hook;
use crate::options::Value;
use crate::script::declare::Entry;
use crate::table::Table;
use crate::training::{
    self, Job, ModelActivations, ModelLoss, Sequences, StatsOptions, TrainOptions, evaluate, read_texts, stat_hooks, train,
};

/// Trainings that one loop may run in one folder do not meet in one file.
fn checkpoint_name(job: &Job, seed: Option<u64>) -> String {
    let size = job.d_sae.map_or_else(String::new, |n| format!("-{n}"));
    let seed = seed.map_or_else(String::new, |seed| format!("-seed{seed}"));
    format!("{}.{}-k{}{size}{seed}.checkpoint.safetensors", job.hook, job.arch.name(), job.k)
}

pub(super) fn entries() -> Vec<Entry> {
    vec![texts(), statistics(), training()]
}

fn texts() -> Entry {
    entry! {
        /// The texts of a file, or of the `.txt` and `.md` files of a folder, as an array.
        /// Errors: no such file, no such file in the folder, text that is not UTF-8.
        ///
        /// ```rhai
        /// save("It is a truth universally acknowledged.", "passage.txt");
        /// assert(load_texts(out_dir() + "/passage.txt") == ["It is a truth universally acknowledged."]);
        /// ```
        fn load_texts(call, path: String) -> Vec<String> { Ok(read_texts(&Value::Text(path))?.0) }
    }
}

fn statistics() -> Entry {
    entry! {
        /// How often and how strongly each feature fires on texts (an array of texts, a file or a folder): `feature density mean_act
        /// max_act mean_share`. Density: the share of positions at which it is not 0; the others are over the positions at which it
        /// fires: mean and largest |activation|, mean share ‖a_i d_i‖ / ‖x‖ of the vector at its hook. 0 where it never fires.
        ///
        /// `dict.with_stats(table)` keeps them with the dictionary, for `temperature: "typical"` and for pages. Errors: a dictionary
        /// without encoder or not on a hook of the model, texts too short.
        ///
        /// ```rhai
        /// let sae = load_sae("demo", "saes/blocks.1.hook_resid_post");
        /// let texts = ["The quick brown fox jumps over the lazy dog. ", "In the beginning there was a word."];
        /// let stats = activation_stats(sae, load_model("demo"), texts, #{ context: 8 });
        /// assert(stats.len == 768 && stats["density"].max() <= 1.0);
        /// assert(sae.with_stats(stats).density.sum() > 0.0);
        /// ```
        fn activation_stats(call, dict: Dictionary, model: Model, texts: Value; options: StatsOptions) -> Table {
            call.work().detached(move |work| {
                let (texts, name) = read_texts(&texts)?;
                let sequences = Sequences::new(&model, &texts, &name, options.context, work)?;
                let mut source = ModelActivations::new(&model, &stat_hooks(&dict), sequences, work)?;
                dict.say_doubts(&model, work);
                training::activation_stats(&dict, &mut source, &options, work)
            })
        }
    }
}

fn training() -> Entry {
    entry! {
        /// Trains an SAE on a model's activations at a hook. `texts` is an array of texts, a file or a folder. The figures (L0,
        /// explained variance, share of dead latents, cross-entropy recovered) are those on the sequences held out; they stand in
        /// `.cfg.metadata.figures` and go with the SAE when `save(sae, "folder")` writes it in SAELens's layout.
        ///
        /// The state is stored in the output folder every `checkpoint_every` steps; with `resume: true` the same call goes on from
        /// there, with the same result. Errors: an unknown hook, texts too short, a resume with other settings, texts or weights.
        ///
        /// ```rhai
        /// let texts = ["The quick brown fox jumps over the lazy dog. ", "In the beginning there was a word, and it was long."];
        /// let small = #{ d_sae: 24, k: 4, steps: 4, batch: 8, buffer: 32, context: 8, held_out: 0.3 };
        /// let sae = train_sae(load_model("demo"), "blocks.1.hook_resid_post", texts, small);
        /// assert(sae.d_sae == 24 && sae.cfg.metadata.figures.l0 <= 4.0);
        /// save(sae, "sae");
        /// assert(load_sae(out_dir() + "/sae").d_sae == 24);
        /// ```
        fn train_sae(call, model: Model, hook: String, texts: Value; options: TrainOptions) -> Dictionary {
            let jobs = [Job::new(hook.as_str(), &options)];
            Hook::parse(&hook, model.cfg())?;
            let mut options = options;
            let name = options.checkpoint.take().unwrap_or_else(|| checkpoint_name(&jobs[0], options.seed));
            options.checkpoint = Some(super::files::place(call, "train_sae", &name)?.display().to_string());
            options.check(&jobs)?;
            // A step is too long to be waited for.
            call.work().detached(move |work| {
                let (texts, name) = read_texts(&texts)?;
                let hooks = [hook.clone()];
                let sequences = Sequences::new(&model, &texts, &name, options.context, work)?;
                let (train_on, held_out) = sequences.split(options.held_out)?;
                let mut source = ModelActivations::new(&model, &hooks, train_on, work)?;
                let mut splice = ModelLoss::new(&model, &hooks, &held_out, options.skip_bos, work)?;
                let mut held_out = ModelActivations::new(&model, &hooks, held_out, work)?;
                let Some(sae) = train(&jobs, &mut source, &options, work)?.pop() else {
                    return Err(Error::internal("a training gave no SAE"));
                };
                let measured =
                    evaluate(std::slice::from_ref(&sae), &mut held_out, Some(&mut splice), None, options.skip_bos, work)?;
                let Some(figures) = measured.into_iter().next() else { return Ok(sae) };
                sae.with_metadata("figures", figures.to_json()).with_density(figures.density)
            })
        }
    }
}
