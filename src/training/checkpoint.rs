//! The state of a training in one file, written whole or not at all. What follows from seed and texts is not in it: the
//! buffer is read again from the place that the file names.

use super::adam::Moments;
use super::buffer::Mark;
use super::sae::{NAMES, Sae, ours, set};
use crate::error::{Error, Result, ResultExt};
use crate::files;
use crate::formats::{TensorSet, safetensors};
use crate::tensor::{Bytes, Tensor};
use crate::work::Work;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// How far a training is, between two pools of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps done.
    pub step: usize,
    /// The block of the buffer that is old, and where it begins.
    pub generation: u64,
    pub mark: Mark,
}

/// A checkpoint that was read.
pub(super) struct Checkpoint {
    pub progress: Progress,
    tensors: TensorSet,
}

const SETTINGS: &str = "settings";
const PROGRESS: &str = "progress";

/// Writes the state after a pool.
///
/// # Errors
/// The file cannot be written, or the user asked to stop.
pub(super) fn write(path: &Path, settings: &Map<String, Json>, progress: Progress, saes: &[Sae], work: &Work) -> Result<()> {
    let mut set = TensorSet::new(path);
    for sae in saes {
        for (name, moments) in NAMES.iter().zip(&sae.optimizer.moments) {
            work.check()?;
            for (part, var) in [("value", &moments.var), ("first", &moments.first), ("second", &moments.second)] {
                let values = var.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(ours)?;
                set.insert(format!("{} {name} {part}", sae.hook), Tensor::vector(values));
            }
        }
        set.insert(format!("{} silent", sae.hook), Tensor::vector_i64(sae.silent.clone()));
        // Without a threshold so far: NaN.
        set.insert(format!("{} numbers", sae.hook), Tensor::vector_f64(vec![sae.scale, sae.cut.unwrap_or(f64::NAN)]));
    }
    let text = |value: &Json| value.to_string();
    set.metadata.insert(SETTINGS.into(), text(&Json::Object(settings.clone())));
    let progress = serde_json::to_value(progress).map_err(|e| Error::internal(e.to_string()))?;
    set.metadata.insert(PROGRESS.into(), text(&progress));
    files::write_detached(path, work, move |out| safetensors::write_to(&set, out))
}

/// Reads a checkpoint; `None` where there is no file.
///
/// # Errors
/// It is broken, or was written with other settings; the message names the first that differs.
pub(super) fn read(path: &Path, settings: &Map<String, Json>) -> Result<Option<Checkpoint>> {
    if !path.exists() {
        return Ok(None);
    }
    let tensors = safetensors::read(Bytes::map(path)?, path)?;
    let json = |key: &str| {
        let text = tensors.metadata.get(key).map_or("", String::as_str);
        serde_json::from_str::<Json>(text).map_err(|_| Error::format("is no checkpoint of a training").file(path))
    };
    let Json::Object(stored) = json(SETTINGS)? else { return Err(Error::format("is no checkpoint of a training").file(path)) };
    let keys = settings.keys().chain(stored.keys().filter(|key| !settings.contains_key(*key)));
    for key in keys {
        let (then, now) = (stored.get(key).unwrap_or(&Json::Null), settings.get(key).unwrap_or(&Json::Null));
        if then != now {
            let what = match key.as_str() {
                "dataset_fingerprint" => "the texts are others".to_string(),
                "model_fingerprint" => "the model has other weights".to_string(),
                _ => format!("`{key}` was {then}, and is {now} now"),
            };
            return Err(Error::input(format!("the training cannot be resumed: {what}"))
                .file(path)
                .help("resume with the settings of the checkpoint, or begin anew with `resume: false`"));
        }
    }
    let progress = serde_json::from_value(json(PROGRESS)?).map_err(|e| Error::format(e.to_string()).file(path))?;
    Ok(Some(Checkpoint { progress, tensors }))
}

impl Checkpoint {
    /// Brings an SAE to the state it had.
    ///
    /// # Errors
    /// The file lacks a part of it.
    pub fn restore(&self, sae: &mut Sae) -> Result<()> {
        let get = |name: String| -> Result<&Tensor> { self.tensors.get(&name).context(|| "resuming a training".into()) };
        let fits = |tensor: &Tensor, len: usize, name: &str| match tensor.numel() {
            n if n == len => Ok(()),
            n => Err(Error::format(format!("has {n} values, but {len} are needed")).tensor(name).file(&self.tensors.source)),
        };
        for (name, Moments { var, first, second }) in NAMES.iter().zip(&sae.optimizer.moments) {
            for (part, var) in [("value", var), ("first", first), ("second", second)] {
                let name = format!("{} {name} {part}", sae.hook);
                let stored = get(name.clone())?;
                fits(stored, var.elem_count(), &name)?;
                set(var, |values| values.copy_from_slice(&stored.f32_cow())).map_err(ours)?;
            }
        }
        let name = format!("{} silent", sae.hook);
        let silent = get(name.clone())?;
        fits(silent, sae.d_sae, &name)?;
        sae.silent = silent.to_i64();
        let name = format!("{} numbers", sae.hook);
        let numbers = get(name.clone())?;
        fits(numbers, 2, &name)?;
        if let [scale, cut] = numbers.to_f64()[..] {
            sae.scale = scale;
            sae.cut = (!cut.is_nan()).then_some(cut);
        }
        sae.optimizer.steps = self.progress.step;
        Ok(())
    }
}
