//! A model's activations over texts, and its loss with a site's activations replaced.

use super::source::{Activations, Chunk, Patch, Splice};
use crate::error::{Error, Result};
use crate::files::expand_home;
use crate::model::forward::{Edit, Forward, Hook, Logits, Op, Request};
use crate::model::{EncodeOptions, Model};
use crate::options::{Ids, Value};
use crate::provenance::fingerprint;
use crate::work::Work;
use rayon::prelude::*;
use serde_json::{Map, Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that the model runs at once.
const ROWS: usize = 4096;
/// Tokens on which a loss is measured.
const LOSS_TOKENS: usize = 1 << 15;

/// Texts as a script names them, and what they are called: an array of texts, a file, or a folder, of which every `.txt` and
/// `.md` file is a text, those in folders below it too, in the order of their paths.
///
/// # Errors
/// Something else, no such file, a folder without texts, or a file that is not UTF-8.
pub fn read_texts(texts: &Value) -> Result<(Vec<String>, String)> {
    match texts {
        Value::List(items) => {
            let text = |item: &Value| match item {
                Value::Text(text) => Ok(text.clone()),
                other => Err(Error::input(format!("`texts` is an array of texts, but holds {}", other.describe()))),
            };
            Ok((items.iter().map(text).collect::<Result<_>>()?, format!("{} texts", items.len())))
        }
        Value::Text(path) => {
            let mut files = Vec::new();
            collect(&expand_home(path), &mut files, &mut Vec::new())?;
            if files.is_empty() {
                return Err(Error::input("there is no .txt or .md file in it").file(path));
            }
            Ok((files.iter().map(|file| read(file)).collect::<Result<_>>()?, path.clone()))
        }
        other => Err(Error::input(format!("`texts` is an array of texts, a file or a folder, not {}", other.describe()))),
    }
}

/// The files of a folder, or the file itself whatever its name. `inside` are the folders that it lies in: a link to one of them is
/// not followed.
fn collect(path: &Path, files: &mut Vec<PathBuf>, inside: &mut Vec<PathBuf>) -> Result<()> {
    let fault = |e: std::io::Error| Error::io(&e, path);
    if !path.is_dir() {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if inside.is_empty() || ["txt", "md"].iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            files.push(path.to_path_buf());
        }
        return Ok(());
    }
    let real = path.canonicalize().map_err(fault)?;
    if inside.contains(&real) {
        return Ok(());
    }
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        below.push(entry.map_err(fault)?.path());
    }
    below.sort();
    inside.push(real);
    below.iter().try_for_each(|path| collect(path, files, inside))?;
    inside.pop();
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|e| Error::io(&e, file))?;
    String::from_utf8(bytes).map_err(|e| {
        let place = e.utf8_error().valid_up_to();
        Error::format(format!("is not UTF-8: byte {place} begins no character")).file(file).help("save it as UTF-8 text")
    })
}

/// Texts cut into sequences of one length, each begun as the tokenizer begins a text.
#[derive(Clone, Debug)]
pub struct Sequences {
    tokens: Vec<u32>,
    /// Tokens of a sequence, its beginning included.
    context: usize,
    begins: bool,
    name: String,
}

impl Sequences {
    /// Encodes texts and cuts them: one text goes on behind the other, with an end token between (where the model has one); what
    /// does not fill a last sequence is left out.
    ///
    /// # Errors
    /// A model without a tokenizer, a context that is longer than the model's or has no room, texts too short for a sequence, or
    /// the user's interruption.
    pub fn new(model: &Model, texts: &[String], name: &str, context: usize, work: &Work) -> Result<Self> {
        if let Some(n_ctx) = model.cfg().n_ctx.filter(|n_ctx| context > *n_ctx) {
            return Err(Error::input(format!("`context` is {context}, but the model's is {n_ctx}")));
        }
        let begin = model.encode("", &EncodeOptions::default(), work)?;
        let room = context.saturating_sub(begin.len());
        if room == 0 || context < 2 {
            return Err(Error::input(format!("a context of {context} has no room for text")));
        }
        let end = model.cfg().end_tokens.first().or(begin.first());
        let progress = work.begin("encoding texts", texts.iter().map(|text| text.len() as u64).sum());
        let mut stream = Vec::new();
        for text in texts {
            if !stream.is_empty() {
                stream.extend(end);
            }
            stream.extend(model.encode(text, &EncodeOptions { bos: Some(false) }, work)?);
            progress.advance(text.len() as u64);
        }
        if stream.len() < room {
            return Err(Error::input(format!("the texts have {} tokens, but a sequence takes {room}", stream.len()))
                .help("give longer texts, or a shorter `context`"));
        }
        let parts = stream.chunks_exact(room).flat_map(|part| begin.iter().chain(part));
        let tokens = parts.map(|id| *id as u32).collect();
        Ok(Sequences { tokens, context, begins: !begin.is_empty(), name: name.to_string() })
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.context
    }

    /// True without sequences.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The sequences in two parts, the second an evenly spread share of all.
    ///
    /// # Errors
    /// A part would be empty.
    pub fn split(&self, held_out: f64) -> Result<(Sequences, Sequences)> {
        let part = |tokens| Sequences { tokens, context: self.context, begins: self.begins, name: self.name.clone() };
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        for (i, sequence) in self.tokens.chunks_exact(self.context).enumerate() {
            let held = ((i + 1) as f64 * held_out) as usize > (i as f64 * held_out) as usize;
            if held { &mut out } else { &mut kept }.extend_from_slice(sequence);
        }
        if kept.is_empty() || out.is_empty() {
            return Err(Error::input(format!("{} sequences leave nothing to hold out a share of {held_out}", self.len()))
                .help("give longer texts, a shorter `context`, or another `held_out`"));
        }
        Ok((part(kept), part(out)))
    }

    /// `n` sequences at even distances, all where there are not so many.
    fn spread(&self, n: usize) -> Sequences {
        let n = n.min(self.len());
        let places = (0..n).map(|i| i * self.len() / n * self.context);
        let tokens = places.flat_map(|start| self.tokens[start..start + self.context].iter().copied()).collect();
        Sequences { tokens, context: self.context, begins: self.begins, name: self.name.clone() }
    }

    fn get(&self, range: std::ops::Range<usize>) -> Vec<Vec<usize>> {
        let sequences = self.tokens.chunks_exact(self.context).skip(range.start).take(range.len());
        sequences.map(|sequence| sequence.iter().map(|id| *id as usize).collect()).collect()
    }

    /// Sequences that are run at once.
    fn group(&self) -> usize {
        (ROWS / self.context).max(1)
    }
}

/// A model's activations at some hooks over sequences.
pub struct ModelActivations {
    model: Model,
    forward: Arc<Forward>,
    request: Request,
    sequences: Sequences,
    /// Of the tokens and of the model: what a resumed training must find again.
    fingerprints: (String, String),
    next: usize,
}

impl ModelActivations {
    /// Activations at `hooks`, by TransformerLens's names.
    ///
    /// # Errors
    /// A hook that the model does not have or that is no activation of a token, or the user's interruption.
    pub fn new(model: &Model, hooks: &[String], sequences: Sequences, work: &Work) -> Result<Self> {
        let keep = hooks.iter().map(|hook| Hook::parse(hook, model.cfg())).collect::<Result<Vec<_>>>()?;
        if let Some(map) = keep.iter().find(|hook| hook.is_map()) {
            return Err(Error::input(format!("{} is a map of pairs of tokens, not an activation of one", map.name())));
        }
        let request = Request { keep, edits: Vec::new(), logits: Logits::None };
        let fingerprints = (fingerprint(sequences.tokens.iter().flat_map(|id| id.to_le_bytes())), model.fingerprint()?);
        Ok(ModelActivations { model: model.clone(), forward: model.forward(work)?, request, sequences, fingerprints, next: 0 })
    }
}

impl Activations for ModelActivations {
    fn next(&mut self, work: &Work) -> Result<Option<Chunk>> {
        let end = (self.next + self.sequences.group()).min(self.sequences.len());
        if self.next == end {
            return Ok(None);
        }
        let texts = self.sequences.get(self.next..end);
        let texts: Vec<&[usize]> = texts.iter().map(Vec::as_slice).collect();
        let pass = self.forward.run(&texts, &self.request, work)?;
        let rows = pass.tokens.len();
        let site = |hook: &Hook| {
            let tensor = pass.get(&hook.name())?;
            tensor.reshape(&[rows, tensor.numel() / rows])
        };
        let sites = self.request.keep.iter().map(site).collect::<Result<_>>()?;
        self.next = end;
        Ok(Some(Chunk { sites, firsts: (0..rows).step_by(self.sequences.context).collect() }))
    }

    fn position(&self) -> u64 {
        self.next as u64
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        let place = usize::try_from(position).ok().filter(|place| *place <= self.sequences.len());
        self.next = place.ok_or_else(|| {
            Error::input(format!("the texts have {} sequences, but sequence {position} is asked for", self.sequences.len()))
        })?;
        Ok(())
    }

    fn describe(&self) -> Map<String, Json> {
        let facts = [
            ("model_name", json!(self.model.name())),
            ("context_size", json!(self.sequences.context)),
            ("prepend_bos", json!(self.sequences.begins)),
            ("dataset_path", json!(self.sequences.name)),
            ("sequences", json!(self.sequences.len())),
            ("dataset_fingerprint", json!(self.fingerprints.0)),
            ("model_fingerprint", json!(self.fingerprints.1)),
        ];
        facts.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}

/// A model's loss on sequences, with a hook's activations replaced.
pub struct ModelLoss {
    forward: Arc<Forward>,
    hooks: Vec<Hook>,
    sequences: Sequences,
    /// Replaces no first position.
    skip_bos: bool,
}

impl ModelLoss {
    /// The loss on sequences at even distances, 32 768 tokens at most.
    ///
    /// # Errors
    /// A hook that the model does not have, or the user's interruption.
    pub fn new(model: &Model, hooks: &[String], sequences: &Sequences, skip_bos: bool, work: &Work) -> Result<Self> {
        let hooks = hooks.iter().map(|hook| Hook::parse(hook, model.cfg())).collect::<Result<Vec<_>>>()?;
        let sequences = sequences.spread((LOSS_TOKENS / sequences.context).max(1));
        Ok(ModelLoss { forward: model.forward(work)?, hooks, sequences, skip_bos })
    }
}

impl Splice for ModelLoss {
    fn cross_entropy(&mut self, site: usize, patch: &Patch, work: &Work) -> Result<f64> {
        let op = match patch {
            Patch::Clean => None,
            Patch::Zero => Some(Op::Ablate),
            Patch::Reconstructed(dictionary) => Some(dictionary.splice(work)?),
        };
        let positions = self.skip_bos.then_some(Ids::Range(1, None));
        let edits = op.map(|op| Edit { hook: self.hooks[site], op, positions, head: None }).into_iter().collect();
        let request = Request { keep: Vec::new(), edits, logits: Logits::All };
        let (mut total, mut count) = (0.0, 0usize);
        let n = self.sequences.len();
        // Logits are many: fewer rows at once than where activations alone are kept.
        let group = (self.sequences.group() / 4).max(1);
        for start in (0..n).step_by(group) {
            let texts = self.sequences.get(start..(start + group).min(n));
            let texts: Vec<&[usize]> = texts.iter().map(Vec::as_slice).collect();
            let Some(logits) = self.forward.run(&texts, &request, work)?.logits else { continue };
            let (values, width) = (logits.f32_cow(), logits.shape()[1]);
            let losses: Vec<Option<f64>> = work.install(|| {
                let row = |(row, logits): (usize, &[f32])| {
                    let (text, position) = (row / self.sequences.context, row % self.sequences.context);
                    Some(loss(logits, *texts[text].get(position + 1)?))
                };
                values.par_chunks_exact(width).enumerate().map(row).collect()
            });
            total += losses.iter().flatten().sum::<f64>();
            count += losses.iter().flatten().count();
        }
        Ok(total / count as f64)
    }

    fn tokens(&self) -> usize {
        self.sequences.len() * (self.sequences.context - 1)
    }
}

/// −ln p of a token, in nats.
fn loss(logits: &[f32], token: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from((logit - top).exp())).sum();
    f64::from(top) + total.ln() - f64::from(logits[token])
}
