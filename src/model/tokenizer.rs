//! Text → token ids, over the `tokenizers` crate: from a `tokenizer.json`, or from the `tokenizer.ggml.…` keys of a GGUF file.
//!
//! Nothing is built before a text is encoded; until then only the bytes of the file are held. Token strings are
//! [`Vocabulary`](super::Vocabulary)'s part.
//!
//! GGUF metadata says less than a tokenizer.json. What it leaves to the reader follows llama.cpp (`src/llama-vocab.cpp`: the
//! pre-tokenizers by their names, the defaults of each kind) and, for merges of a SentencePiece vocabulary, the converter
//! of transformers (`convert_slow_tokenizer.py`, `generate_merges`).

use super::TokenKind;
use super::vocabulary::kind_in_gguf;
use crate::error::{Error, Result, ResultExt};
use crate::formats::gguf::{self, Value};
use crate::tensor::Bytes;
use crate::work::Work;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

crate::options! {
    /// Options of `model.encode`.
    pub struct EncodeOptions {
        /// The token that begins a text is put first; without it, as the tokenizer says.
        bos: Option<bool> = None,
    }
}

/// What turns text into token ids.
pub struct Tokenizer {
    source: Source,
    file: PathBuf,
    built: Mutex<Option<Arc<Built>>>,
}

#[derive(Clone)]
enum Source {
    HuggingFace { json: Bytes, config: Json, bos: Option<u64> },
    Gguf(Bytes),
    Missing,
}

struct Built {
    tokenizer: tokenizers::Tokenizer,
    bos: Option<u32>,
    add_bos: bool,
}

impl Tokenizer {
    /// The tokenizer of a `tokenizer.json`. `config` is `tokenizer_config.json` (or null): its `add_bos_token` is stronger than the
    /// post-processor, its `bos_token` names the token. `bos` is the model's own `bos_token_id`, the last resort.
    pub fn from_huggingface(json: Bytes, config: Json, bos: Option<u64>, file: &Path) -> Self {
        Self::new(Source::HuggingFace { json, config, bos }, file)
    }

    /// The tokenizer in the metadata of a GGUF file, given by its bytes.
    pub fn from_gguf(bytes: Bytes, file: &Path) -> Self {
        Self::new(Source::Gguf(bytes), file)
    }

    /// A place where no tokenizer was found: encoding fails and says so.
    pub(super) fn missing(file: &Path) -> Self {
        Self::new(Source::Missing, file)
    }

    fn new(source: Source, file: &Path) -> Self {
        Tokenizer { source, file: file.to_path_buf(), built: Mutex::new(None) }
    }

    /// The ids of a text. Names of special tokens in it (`<bos>`, `<|endoftext|>`) become those tokens, as in transformers. What a
    /// tokenizer would append (an end token) is left out: the text goes on.
    ///
    /// # Errors
    /// There is no tokenizer, its kind is not known, it is broken, or `bos` is asked of a tokenizer that names no such token.
    pub fn encode(&self, text: &str, options: &EncodeOptions, work: &Work) -> Result<Vec<usize>> {
        let built = self.built(work)?;
        let mut ids = Vec::new();
        if options.bos.unwrap_or(built.add_bos) {
            let missing = || {
                Error::input("its tokenizer names no token that begins a text").file(&self.file).help("encode with #{bos: false}")
            };
            ids.push(built.bos.ok_or_else(missing)? as usize);
        }
        let text = text.to_string();
        let found = work.detached(move |_| {
            let encoding = built.tokenizer.encode_fast(text, false).map_err(|e| Error::format(e.to_string()))?;
            ids.extend(encoding.get_ids().iter().map(|id| *id as usize));
            Ok(ids)
        });
        found.in_file(&self.file)
    }

    /// The piece of an id as the tokenizer stores it.
    pub(super) fn piece(&self, id: usize, work: &Work) -> String {
        u32::try_from(id).ok().and_then(|id| self.built(work).ok()?.tokenizer.id_to_token(id)).unwrap_or_default()
    }

    fn built(&self, work: &Work) -> Result<Arc<Built>> {
        let mut place = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*place {
            return Ok(Arc::clone(built));
        }
        let (source, file) = (self.source.clone(), self.file.clone());
        let built = work.detached(move |_| match source {
            Source::HuggingFace { json, config, bos } => from_json(&json, &config, bos),
            Source::Gguf(bytes) => from_metadata(&gguf::metadata(&bytes, &file)?),
            Source::Missing => Err(Error::input("there is no tokenizer.json: text cannot be encoded").help(
                "in Python, `AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)` writes one; ids can be given instead of text",
            )),
        });
        let built = Arc::new(built.in_file(&self.file)?);
        *place = Some(Arc::clone(&built));
        Ok(built)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({})", self.file.display())
    }
}

/// An error of the crate below, which says what but not where.
fn refused(error: impl std::fmt::Display) -> Error {
    Error::format(format!("its tokenizer cannot be used: {error}"))
}

// ---- tokenizer.json -----------------------------------------------------------------------------------------------------

fn from_json(json: &Bytes, config: &Json, bos: Option<u64>) -> Result<Built> {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.as_slice()).map_err(refused)?;
    // Files keep what a training run had set: transformers, too, drops the cut and the padding. Merges left out by chance
    // would give other ids at each call.
    tokenizer.with_truncation(None).map_err(refused)?.with_padding(None);
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        tokenizer.with_model(bpe);
    }
    let template = tokenizer.encode_fast("", true).map_err(refused)?.get_ids().first().copied();
    let name = config["bos_token"].as_str().or_else(|| config["bos_token"]["content"].as_str());
    let named = name.and_then(|name| tokenizer.token_to_id(name));
    let given = || u32::try_from(bos?).ok();
    let add_bos = config["add_bos_token"].as_bool().unwrap_or(template.is_some());
    Ok(Built { bos: named.or(template).or_else(given), add_bos, tokenizer })
}

// ---- GGUF ---------------------------------------------------------------------------------------------------------------

fn from_metadata(metadata: &BTreeMap<String, Value>) -> Result<Built> {
    let key = |name: &str| metadata.get(&format!("tokenizer.ggml.{name}"));
    let list = |name: &str| key(name).and_then(Value::as_list);
    let missing = |name: &str| Error::format(format!("its metadata has no `tokenizer.ggml.{name}`"));
    let texts = |name: &str| {
        let text = |value: &'_ Value| value.as_str().map(str::to_string);
        list(name).and_then(|list| list.iter().map(text).collect::<Option<Vec<_>>>()).ok_or_else(|| missing(name))
    };
    let flag = |name: &str| key(name).and_then(Value::as_bool);
    let kind = key("model").and_then(Value::as_str).ok_or_else(|| missing("model"))?;
    if !matches!(kind, "gpt2" | "llama") {
        return Err(Error::input(format!("its tokenizer is of the kind `{kind}`, which is not known")).help(
            "known kinds: `gpt2` (byte-level BPE) and `llama` (SentencePiece); the model's Hugging Face folder has a tokenizer.json",
        ));
    }
    let pieces = texts("tokens")?;
    let types = key("token_type").and_then(Value::as_numbers);
    let kinds: Vec<TokenKind> = (0..pieces.len()).map(|id| kind_in_gguf(types.and_then(|types| types.get(id)))).collect();
    let vocab: Vocab = (0u32..).zip(&pieces).map(|(id, piece)| (piece.clone(), id)).collect();
    let bos = key("bos_token_id").and_then(Value::as_usize).and_then(|id| u32::try_from(id).ok());

    let (mut tokenizer, bos, add_bos) = if kind == "gpt2" {
        let pre = PreTokenizer::named(key("pre").and_then(Value::as_str).unwrap_or("default"))?;
        let merges = texts("merges")?.iter().map(|merge| split_merge(merge)).collect::<Result<Vec<_>>>()?;
        let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(pre.whole_words).build().map_err(refused)?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer.with_normalizer(pre.composed.then_some(NFC)).map_err(refused)?;
        tokenizer.with_pre_tokenizer(Some(pre.build()?));
        (tokenizer, bos, pre.add_bos)
    } else {
        let scores = key("scores").and_then(Value::as_numbers).ok_or_else(|| missing("scores"))?;
        if scores.len() != pieces.len() {
            return Err(Error::format(format!("{} tokens, but {} scores", pieces.len(), scores.len())));
        }
        let score = |id| scores.get(id).and_then(|score| score.as_f64()).unwrap_or(0.0);
        let scores: Vec<f64> = (0..scores.len()).map(score).collect();
        let merges = merges_by_score(&pieces, &kinds, &scores, &vocab);
        let unknown = kinds.iter().position(|kind| *kind == TokenKind::Unknown);
        let unknown = key("unknown_token_id").and_then(Value::as_usize).or(unknown).and_then(|id| pieces.get(id));
        let mut model = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown.clone());
        }
        let mut tokenizer = tokenizers::Tokenizer::new(model.build().map_err(refused)?);
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        if flag("add_space_prefix").unwrap_or(true) {
            steps.push(Prepend::new("\u{2581}".into()).into());
        }
        steps.push(Replace::new(" ", "\u{2581}").map_err(refused)?.into());
        tokenizer.with_normalizer(Some(Normalizers::new(steps))).map_err(refused)?;
        (tokenizer, bos.or(Some(1)), true)
    };
    let added = pieces.iter().zip(&kinds).filter_map(|(piece, kind)| match kind {
        TokenKind::Control | TokenKind::Unknown => Some(AddedToken::from(piece.as_str(), true).normalized(false)),
        TokenKind::UserDefined => Some(AddedToken::from(piece.as_str(), false).normalized(false)),
        _ => None,
    });
    tokenizer.add_tokens(added).map_err(refused)?;
    Ok(Built { tokenizer, bos, add_bos: flag("add_bos_token").unwrap_or(add_bos) })
}

/// The two pieces of a merge, which are written with a space between them. The first may begin with one.
fn split_merge(merge: &str) -> Result<(String, String)> {
    let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
    let Some((at, _)) = space else { return Err(Error::format(format!("the merge `{merge}` is not two pieces"))) };
    Ok((merge[..at].to_string(), merge[at + 1..].to_string()))
}

/// The merges of a SentencePiece vocabulary: whatever two ordinary pieces make a third may merge, the best score first.
/// SentencePiece itself takes the leftmost of equal merges; a ranked list cannot say that, and takes the lowest ids.
fn merges_by_score(pieces: &[String], kinds: &[TokenKind], scores: &[f64], vocab: &Vocab) -> Vec<(String, String)> {
    let ordinary = |piece: &str| vocab.get(piece).copied().filter(|id| kinds[*id as usize] == TokenKind::Normal);
    let mut merges = Vec::new();
    for (piece, score) in pieces.iter().zip(scores).filter(|(piece, _)| ordinary(piece).is_some()) {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ordinary(left), ordinary(right)) {
                merges.push((*score, left_id, right_id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges.into_iter().map(|(_, _, _, left, right)| (left.to_string(), right.to_string())).collect()
}

/// How a byte-level tokenizer cuts text before it merges.
struct PreTokenizer {
    /// Applied one after another; what a pattern finds and what lies between are pieces.
    patterns: &'static [&'static str],
    /// A piece that is a token of its own is not made of merges.
    whole_words: bool,
    /// The text is brought into composed form (NFC) first.
    composed: bool,
    add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// What the name in `tokenizer.ggml.pre` stands for. llama.cpp does not compose Qwen's text, the model's own tokenizer does.
    fn named(name: &str) -> Result<Self> {
        let plain = |patterns| PreTokenizer { patterns, whole_words: false, composed: false, add_bos: false };
        Ok(match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "roberta-bpe" | "mellum" | "modern-bert" | "exaone4" => {
                plain(&[GPT2])
            }
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => plain(&[r"\p{N}", GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => {
                PreTokenizer { whole_words: true, add_bos: true, ..plain(&[LLAMA3]) }
            }
            "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => plain(&[LLAMA3]),
            "qwen2" | "deepseek-r1-qwen" => PreTokenizer { composed: true, ..plain(&[QWEN2]) },
            "stablelm2" | "megrez" => plain(&[QWEN2]),
            "tekken" => PreTokenizer { whole_words: true, add_bos: true, ..plain(&[TEKKEN]) },
            "falcon" => plain(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            other => {
                return Err(Error::input(format!("its pre-tokenizer `{other}` is not known"))
                    .help("the model's Hugging Face folder has a tokenizer.json, which says everything"));
            }
        })
    }

    fn build(&self) -> Result<PreTokenizers> {
        let split = |pattern: &&str| {
            let pattern = SplitPattern::Regex(pattern.to_string());
            Ok(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(refused)?.into())
        };
        let mut steps = self.patterns.iter().map(split).collect::<Result<Vec<PreTokenizerWrapper>>>()?;
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(PreTokenizers::new(steps))
    }
}
