//! SAE files → dictionaries. The format is found by content: the names and shapes of the tensors, and where several have the
//! same, what lies beside the file and what it is called (FORMATS.md 2). Anything else opens through an explicit map.
//!
//! * `beside`: path and configuration. * `source`: tensors by a family's layout, and its place. * One file a family.

pub(super) mod beside;
mod circuit_tracer;
mod dictionary_learning;
mod gemma_scope;
mod hook_z;
mod linear;
mod mapped;
mod openai;
mod openmoss;
mod qwen_scope;
mod sae_lens;
mod source;
mod sparsify;
mod temporal;

pub use mapped::{MapOptions, TensorMap};

use super::{Activation, Dictionary, Inner};
use crate::error::{Error, Result, ResultExt};
use crate::formats::{FileKind, TensorSet, npz, safetensors, sniff, torch};
use crate::hub::{self, Place};
use crate::options::Options;
use crate::tensor::{Bytes, Tensor};
use crate::work::Work;
use beside::{Beside, find_weights, listed};
use serde_json::{Map, Value as Json};
use source::Source;
use std::cell::RefCell;
use std::path::Path;

crate::choice! {
    /// The format of an SAE file.
    pub enum SaeFormat {
        /// Found by content.
        #[default]
        Auto = "auto",
        SaeLens = "saelens",
        GemmaScope = "gemma_scope",
        GemmaScope2 = "gemma_scope_2",
        OpenMoss = "openmoss",
        HookZ = "hook_z",
        Sparsify = "sparsify",
        DictionaryLearning = "dictionary_learning",
        OpenAi = "openai",
        Linear = "linear",
        QwenScope = "qwen_scope",
        CircuitTracer = "circuit_tracer",
        CrossLayer = "clt",
        Temporal = "temporal",
    }
}

crate::options! {
    /// Options of `load_sae`.
    pub struct SaeOptions {
        /// The format; found by content without it.
        format: SaeFormat = SaeFormat::Auto,
        /// Opens any file: names of its tensors (W_enc, W_dec, b_enc, b_dec, threshold), `transpose`, `activation`, `subtract_b_dec`.
        map: Option<TensorMap> = None,
        /// The hook that it reads, where the file does not say or is wrong: "blocks.5.hook_resid_post".
        hook: Option<String> = None,
        /// The model that it was trained on, for the record.
        model: Option<String> = None,
        /// k of a top-k SAE, where the file does not say or another is wanted.
        k: Option<usize> = None,
        /// The layer that is read, of a file that reads several.
        layer: Option<usize> = None,
        /// The layer that is written, of one that writes several; without it the one that it reads.
        to_layer: Option<usize> = None,
    }
}

/// A family of files: how one is told, and how it is read.
pub(super) struct Family {
    /// What `info` and messages call it.
    pub name: &'static str,
    pub format: SaeFormat,
    /// What path and configuration say of such a file, its weights unseen. `None` where they do not mark one.
    pub said: fn(&Beside) -> Option<Said>,
    /// True for tensors (with what lies beside them) of this family. Broken ones are of it too: reading them says what is
    /// wrong.
    holds: fn(&Source) -> bool,
    read: fn(&Source) -> Result<Inner>,
}

/// What path and configuration say of an SAE.
#[derive(Default)]
pub(super) struct Said {
    pub hook: Option<String>,
    /// The layer, where there is no hook.
    pub layer: Option<usize>,
    pub hook_out: Option<String>,
    pub model: Option<String>,
    pub d_in: Option<usize>,
    pub d_sae: Option<usize>,
    /// Further facts, for `info`.
    pub facts: Vec<(String, String)>,
}

/// All families. Where the tensors could be of several, one that path and configuration mark comes first, then the first.
pub(super) const FAMILIES: &[Family] = &[
    gemma_scope::ONE,
    gemma_scope::TWO,
    openmoss::FAMILY,
    sparsify::FAMILY,
    hook_z::FAMILY,
    dictionary_learning::FAMILY,
    sae_lens::FAMILY,
    openai::FAMILY,
    qwen_scope::FAMILY,
    circuit_tracer::LAYER,
    circuit_tracer::CROSS_LAYER,
    linear::FAMILY,
    temporal::FAMILY,
];

/// Loads an SAE or transcoder: `name` is a local path or a repository of the hub, `path` the folder or file inside it.
///
/// # Errors
/// There is none, there are several and `path` names none of them, the format is not known, or its parts do not fit.
pub fn load_sae(name: &str, path: Option<&str>, options: &SaeOptions, work: &Work) -> Result<Dictionary> {
    let what = path.map_or_else(|| name.to_string(), |path| format!("{name} {path}"));
    let load = || {
        let (place, path) = hub::resolve_inside(name, path, work).map_err(|error| match name.contains('/') {
            true => error,
            false => error.help_with(hub::near_suites(name)),
        })?;
        load_sae_from(&place, name, path.as_deref(), options, work)
    };
    load().context(|| format!("loading the SAE `{what}`"))
}

/// As [`load_sae`], from what a name was found to mean.
///
/// # Errors
/// As [`load_sae`].
pub fn load_sae_from(place: &Place, name: &str, path: Option<&str>, options: &SaeOptions, work: &Work) -> Result<Dictionary> {
    let (files, path) = match (place, path) {
        (Place::Folder(files), path) => (files, path.map(str::to_string)),
        (Place::File { folder, file }, None) => (folder, Some(file.clone())),
        (Place::File { folder, file }, Some(path)) => {
            return Err(Error::input(format!("it is a file: there is no `{path}` inside it")).file(folder.path_of(file)));
        }
    };
    let list = listed(place)?;
    let weights = match (place, &path) {
        (Place::File { .. }, Some(file)) => file.clone(),
        _ => find_weights(files.as_ref(), &list, path.as_deref(), work)?,
    };
    let path = path.map(|path| path.trim_start_matches('/').to_string());
    let file = files.path_of(&weights);
    let folder = weights.rsplit_once('/').map_or("", |(folder, _)| folder);
    let dictionary_name = match (&path, folder) {
        (Some(path), _) if !weights.eq(path) => format!("{name}/{path}"),
        (None, folder) if !folder.is_empty() => format!("{name}/{folder}"),
        _ => name.to_string(),
    };
    let sibling = |name: &str| -> Result<Option<TensorSet>> {
        let path = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        list.contains(&path).then(|| read_tensors(files.open(&path)?, &files.path_of(&path), work)).transpose()
    };
    let tensors = read_tensors(files.open(&weights)?, &file, work)?;
    let mut source = Source {
        // A map names the tensors as the file does.
        tensors: if options.map.is_some() { tensors } else { unwrapped(tensors) },
        beside: Beside::read(files.as_ref(), &list, &weights)?,
        options,
        name: dictionary_name,
        format: "mapped",
        used: RefCell::default(),
        sibling: &sibling,
    };
    let mut inner = match &options.map {
        Some(map) => mapped::read(&MapOptions::parse(&map.0)?, &source)?,
        None => {
            let family = family_of(&source)?;
            source.format = family.name;
            // Recognising it has looked at some.
            source.used.take();
            (family.read)(&source).in_file(&file)?
        }
    };
    match options.k {
        Some(k) => inner.activation = inner.activation.with_k(k),
        None if options.map.is_none() => stored_k(&mut inner, source.stored_k()?),
        None => {}
    }
    check_k(&inner).in_file(&file)?;
    if let Some(model) = &options.model {
        inner.facts.retain(|(what, _)| what != "model_name");
        inner.facts.push(("model_name".into(), model.clone()));
    }
    for (what, names) in [("tensors not used", some_of(source.unused())), ("members not read", some_of(&source.tensors.unread))] {
        if !names.is_empty() {
            inner.facts.push((what.into(), names));
        }
    }
    // An object that is all of the file has no path in it.
    inner.warnings.extend(source.tensors.unread.iter().find(|name| name.starts_with('`')).map(|class| {
        let (format, activation) = (&inner.format, inner.activation.name());
        format!("the file is an object of {class}, whose code is not in it: read as {format}, with the activation {activation}")
    }));
    inner.warnings.extend(source.eight_bit());
    inner.warnings.extend(not_finite(&inner));
    inner.warnings.extend(looks_turned(&inner));
    inner.origin = Map::from_iter([
        ("source".to_string(), Json::from(file.display().to_string())),
        ("options".to_string(), options.canonical()),
    ]);
    inner.origin.extend(files.revision().map(|commit| ("revision".to_string(), Json::from(commit))));
    Ok(inner.build())
}

/// Fails for a k that keeps nothing, or more than there is.
fn check_k(inner: &Inner) -> Result<()> {
    let n = inner.w_dec.shape()[0];
    match inner.activation.k() {
        Some(k) if k == 0 || k > n => {
            Err(Error::format(format!("its k is {k}, but of {n} features at least 1 and at most {n} stay active"))
                .help("pass the one that it was trained with: load_sae(…, #{k: 32})"))
        }
        _ => Ok(()),
    }
}

/// What is done with a k that a file stores whose format has none: one of ReLU is read as top-k, which says so.
fn stored_k(inner: &mut Inner, k: Option<usize>) {
    let Some(k) = k.filter(|k| *k > 0 && inner.activation.k().is_none()) else { return };
    match inner.activation {
        Activation::Relu => {
            inner.activation = Activation::TopK(k);
            inner.warnings.push(format!(
                "it stores k = {k} beside weights of a format that has ReLU: read as top-k, the {k} largest of each input and then ReLU"
            ));
        }
        other => inner.warnings.push(format!("it stores k = {k}, which its activation {} does not use", other.name())),
    }
}

/// The first of some names, and how many more there are.
fn some_of(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown: Vec<_> = names.iter().take(12).map(AsRef::as_ref).collect();
    let more = if names.len() > 12 { format!(" and {} more", names.len() - 12) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What in the vectors is no number. The matrices are not read on opening: `encode` and `decode` note what theirs make, and `describe`
/// counts their rows.
fn not_finite(inner: &Inner) -> Option<String> {
    let vectors = [("b_enc", &inner.b_enc), ("b_dec", &inner.b_dec), ("threshold", &inner.threshold)];
    let vectors = vectors.into_iter().filter_map(|(name, tensor)| Some((name, tensor.as_ref()?)));
    let gate = inner.gate.iter().flat_map(|gate| [("b_gate", &gate.b_gate), ("b_mag", &gate.b_mag), ("r_mag", &gate.r_mag)]);
    let counted = vectors.chain(gate).filter_map(|(name, tensor)| {
        let broken = tensor.f32_cow().iter().filter(|v| !v.is_finite()).count();
        (broken > 0).then(|| format!("{broken} of {name}"))
    });
    let counted: Vec<_> = counted.collect();
    (!counted.is_empty()).then(|| format!("values that are NaN or infinite: {}", counted.join(", ")))
}

/// What square matrices show of an orientation that may be wrong. The rows of a trained decoder have equal norms: where its
/// columns do instead, it is turned round. And a feature's encoder and decoder point the same way: where they do so more with
/// one of them turned round, one is.
fn looks_turned(inner: &Inner) -> Option<String> {
    let n = inner.w_dec.shape()[0];
    let is_square = |tensor: &Tensor| tensor.shape() == [n, n];
    let decoder = is_square(&inner.w_dec).then(|| inner.w_dec.to_f32()).filter(|_| n > 1)?;
    let one = inner.w_enc.as_ref().filter(|w| is_square(w)).and_then(|w_enc| one_turned(w_enc, &decoder));
    let uneven = |rows: &[f32]| {
        let norms: Vec<_> = rows.chunks(n).map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()).collect();
        let mean = norms.iter().sum::<f64>() / n as f64;
        (norms.iter().map(|norm| (norm - mean).powi(2)).sum::<f64>() / n as f64).sqrt() / mean
    };
    let (rows, columns) = (uneven(&decoder), uneven(&inner.w_dec.t().to_f32()));
    // Chance makes the columns of n rows of equal norm differ by 1/√(2n): a tenth of that is no chance.
    let decoder_is = columns < 0.1 * rows && rows > 0.1 / (2.0 * n as f64).sqrt();
    let (what, transpose) = match (decoder_is, one) {
        (false, None) => return None,
        (false, Some(seen)) if rows < 0.1 * columns => (seen, "[\"W_enc\"]"),
        (false, Some(seen)) => (seen, "[\"W_enc\"] or [\"W_dec\"]"),
        (true, one) => {
            let norms =
                format!("the norms of W_dec's columns differ by {columns:.1e} of their mean, those of its rows by {rows:.1e}");
            let both = one.is_none() && inner.w_enc.is_some();
            let transpose = if both { "[\"W_enc\", \"W_dec\"]" } else { "[\"W_dec\"]" };
            (one.map_or(norms.clone(), |seen| format!("{seen}; {norms}")), transpose)
        }
    };
    Some(format!(
        "its square matrices may be turned round: {what}; if so, name its tensors in `map` with transpose: {transpose} (a feature is a \
         column of W_enc and a row of W_dec)"
    ))
}

/// What the directions of features say against the orientation of one of two square matrices.
fn one_turned(w_enc: &Tensor, decoder: &[f32]) -> Option<String> {
    let n = w_enc.shape()[0];
    let (rows, turned) = (w_enc.t().to_f32(), w_enc.to_f32());
    let alignment = |a: &[f32]| {
        let cosine = |(a, b): (&[f32], &[f32])| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let norms = (dot(a, a) * dot(b, b)).sqrt();
            if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
        };
        a.chunks(n).zip(decoder.chunks(n)).map(cosine).sum::<f64>() / n as f64
    };
    let (as_read, otherwise) = (alignment(&rows), alignment(&turned));
    // Chance gives 1/√n for one feature, 1/n for the mean of n; trained ones have 0.3 and more.
    (otherwise > as_read.abs() + 0.2)
        .then(|| format!("the mean cosine of W_enc and W_dec is {as_read:.2}, with one of them transposed {otherwise:.2}"))
}

/// The tensors of a file, which is opened as what it is, whatever it is called.
fn read_tensors(bytes: Bytes, file: &Path, work: &Work) -> Result<TensorSet> {
    let ending = file.extension().unwrap_or_default().to_string_lossy();
    match (sniff(bytes.as_slice()), ending.as_ref()) {
        (FileKind::Npz, _) | (FileKind::Zip, "npz") => npz::read(bytes, file, work),
        (FileKind::Pickle | FileKind::Zip, _) => torch::read(bytes, file, work),
        (FileKind::Safetensors, _) => safetensors::read(bytes, file),
        // What it should be is said by its ending.
        (_, "npz") => npz::read(bytes, file, work),
        (_, "pt" | "pth") => torch::read(bytes, file, work),
        _ => safetensors::read(bytes, file),
    }
}

/// Names of what an SAE's tensors can lie inside, as an entry of a checkpoint or as the beginning of every name.
const WRAPPINGS: [&str; 8] = ["state_dict", "model_state_dict", "sae", "ae", "autoencoder", "model", "module", "_orig_mod"];

/// The tensors by their bare names: out of a wrapping, and out of one inside it.
fn unwrapped(mut tensors: TensorSet) -> TensorSet {
    for _ in 0..2 {
        let holds_matrices = |wrapping: &&&str| {
            let inside = format!("{wrapping}.");
            tensors.iter().any(|(name, tensor)| tensor.ndim() >= 2 && name.starts_with(&inside))
        };
        let Some(wrapping) = WRAPPINGS.iter().find(holds_matrices) else { break };
        let inside = format!("{wrapping}.");
        let mut bare = TensorSet::new(&tensors.source);
        for (name, tensor) in tensors.iter() {
            if let Some(name) = name.strip_prefix(&inside) {
                bare.insert(name, tensor.clone());
            }
        }
        (bare.metadata, bare.unread) = (tensors.metadata, tensors.unread);
        let moved = bare.metadata.iter().filter_map(|(key, text)| Some((key.strip_prefix(&inside)?.to_string(), text.clone())));
        bare.metadata.extend(moved.collect::<Vec<_>>());
        tensors = bare;
    }
    tensors
}

/// The family that the user names, else the one that the file is of.
fn family_of(source: &Source) -> Result<&'static Family> {
    if source.options.format != SaeFormat::Auto {
        let named = FAMILIES.iter().find(|family| family.format == source.options.format);
        return named.ok_or_else(|| Error::internal("a format without a family"));
    }
    let possible: Vec<&Family> = FAMILIES.iter().filter(|family| (family.holds)(source)).collect();
    let marked = possible.iter().find(|family| (family.said)(&source.beside).is_some());
    marked.or(possible.first()).copied().ok_or_else(|| unrecognised(source))
}

/// The tensors of a file with shapes and dtypes, for a message.
fn listing(tensors: &TensorSet) -> String {
    let shown = some_of(tensors.iter().map(|(name, t)| format!("{name} {:?} {}", t.shape(), t.dtype())));
    format!("its tensors are: {shown}")
}

fn unrecognised(source: &Source) -> Error {
    let unread = match &source.tensors.unread[..] {
        [] => String::new(),
        unread => format!(", as far as it was read: it also holds {}", some_of(unread)),
    };
    let error = Error::format(format!("this is no SAE format that is known{unread}"));
    let mut error = error.file(&source.tensors.source).help(listing(&source.tensors));
    let square = |(_, tensor): (&str, &Tensor)| matches!(tensor.shape(), [rows, cols] if rows == cols && *rows > 1);
    if source.tensors.iter().any(square) {
        error = error.help("a square matrix shows no orientation: name its format with `format` if it is a known one");
    }
    let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    error.help(format!(
        "known: {}, some of them by the configuration beside the weights; open anything else with #{{map: #{{W_enc: \"…\", \
         W_dec: \"…\", b_enc: \"…\", b_dec: \"…\", transpose: [\"W_enc\"], activation: \"relu\"}}}}",
        names.join(", ")
    ))
}
