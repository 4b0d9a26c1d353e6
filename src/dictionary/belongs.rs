//! Doubts whether a dictionary belongs to a model, by what its file says of its training: another model (names have many
//! spellings, trap 28), the base model of a tuned one (29), a residual stream that was centred (23).

use super::{Dictionary, Site};
use crate::model::{Model, Norm};
use crate::work::Work;
use std::sync::PoisonError;

/// Words by which the name of a model is known for one: the name of a folder may be anything.
const FAMILIES: [&str; 10] = ["gpt2", "pythia", "gemma", "llama", "qwen", "mistral", "smollm", "deepseek", "phi", "olmo"];
/// Ends of names of models that were tuned on instructions, and of their bases where those have one.
const TUNED: [&str; 3] = ["-it", "-instruct", "-chat"];
const BASE: [&str; 2] = ["-pt", "-base"];

/// A model's name as it is compared.
struct Name {
    bare: String,
    tuned: bool,
}

impl Name {
    fn of(name: &str) -> Self {
        let last = name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(name).to_lowercase().replace('_', "-");
        let last = last.split('@').next().unwrap_or_default().trim_end_matches(".gguf");
        let mut bare = last.trim_start_matches("meta-").replace("gemma-v", "gemma-").replace("gpt2-small", "gpt2");
        for family in FAMILIES {
            bare = bare.replace(&format!("{family}-"), family);
        }
        // A quantised file has its quantisation after the name.
        let ending = |endings: &[&str]| {
            endings
                .iter()
                .find_map(|end| bare.find(&format!("{end}-")).or_else(|| bare.ends_with(end).then(|| bare.len() - end.len())))
        };
        let (tuned, base) = (ending(&TUNED), ending(&BASE));
        let end = tuned.or(base).unwrap_or(bare.len());
        Name { bare: bare[..end].to_string(), tuned: tuned.is_some() }
    }

    fn is_known(&self) -> bool {
        FAMILIES.iter().any(|family| self.bare.contains(family))
    }

    /// The same model, tuned or not: equal, or equal up to what a file's name adds.
    fn is_like(&self, other: &Name) -> bool {
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
        };
        begins(&self.bare, &other.bare) || begins(&other.bare, &self.bare)
    }
}

impl Dictionary {
    /// What makes it doubtful that the dictionary belongs to the model; widths and layers are [`Dictionary::check_fits`]'s.
    pub fn doubts(&self, model: &Model) -> Vec<String> {
        let fact = |name: &str| self.0.facts.iter().find(|(what, _)| what == name).map(|(_, value)| value.as_str());
        let mut doubts: Vec<String> =
            fact("model_name").and_then(|trained| doubt(self.name(), trained, model.name())).into_iter().collect();
        let residual = matches!(self.0.site, Site::ResidPre | Site::ResidMid | Site::ResidPost);
        let centred = fact("model_from_pretrained_kwargs")
            .is_none_or(|given| !given.replace(' ', "").contains("center_writing_weights\":false"));
        if model.cfg().norm == Norm::Layer && residual && centred && self.0.format.starts_with("SAELens") {
            doubts.push(format!(
                "{} was probably trained on a residual stream without its mean (TransformerLens's default): directions are right as \
                 they are, activations need inputs less their mean",
                self.name()
            ));
        }
        doubts
    }

    /// Says the doubts, once for each model and not with every analysis. [`Dictionary::write`] and [`Dictionary::read_head`] do it
    /// themselves.
    pub fn say_doubts(&self, model: &Model, work: &Work) {
        if self.0.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(model.name().to_string()) {
            self.doubts(model).iter().for_each(|doubt| work.note(&format!("note: {doubt}")));
        }
    }
}

fn doubt(dictionary: &str, trained: &str, model: &str) -> Option<String> {
    let (ours, theirs) = (Name::of(trained), Name::of(model));
    if !ours.is_known() || !theirs.is_known() {
        return None;
    }
    if !ours.is_like(&theirs) {
        return Some(format!("{dictionary} was trained on {trained}, not on {model}"));
    }
    let kind = |name: &Name| if name.tuned { "instruction-tuned" } else { "a base model" };
    (ours.tuned != theirs.tuned)
        .then(|| format!("{dictionary} was trained on {trained} ({}), but {model} is {}", kind(&ours), kind(&theirs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_28_spellings_of_one_model_raise_no_doubt() {
        for (trained, model) in [
            ("gemma-2-2b", "google/gemma-2-2b"),
            ("gpt2-small", "openai-community/gpt2"),
            ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
            ("google/gemma-v3-1b-pt", "google/gemma-3-1b-pt"),
            ("gemma-3-270m", "/models/gemma3-270m/"),
            ("gemma-2-9b-it", "~/gemma-2-9b-it-Q4_K_M.gguf"),
            ("EleutherAI/pythia-70m-deduped", "EleutherAI/pythia-70m-deduped@main"),
            ("gemma-2-2b", "demo"),
            ("tiny", "google/gemma-2-2b"),
        ] {
            let said = doubt("sae", trained, model);
            assert_eq!(said, None, "{trained} {model}");
        }
    }

    #[test]
    fn trap_29_another_model_and_a_tuned_one_do() {
        assert_eq!(
            doubt("sae", "gemma-2-2b", "google/gemma-2-9b").unwrap(),
            "sae was trained on gemma-2-2b, not on google/gemma-2-9b"
        );
        assert!(doubt("sae", "Qwen/Qwen3-1.7B-Base", "Qwen/Qwen3-4B-Base").is_some());
        let tuned = doubt("sae", "gemma-2-9b-it", "google/gemma-2-9b").unwrap();
        assert_eq!(tuned, "sae was trained on gemma-2-9b-it (instruction-tuned), but google/gemma-2-9b is a base model");
    }
}
