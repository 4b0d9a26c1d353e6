//! A language model: canonical weights, token strings, and the forward pass.
//!
//! Weights come in TransformerLens's orientation (`W_Q [d_model, d_head]`, rows times matrix), as stored, norms not folded.
//! Large matrices are views on mapped storage; a head's matrices are small and dense.
//!
//! * `architecture`: the families as data. * `config`: dimensions and conventions, held against the tensors.
//! * `weights`: stored tensors under canonical names. * `rope`: rotary frequencies. * `vocabulary`: token strings.
//! * `tokenizer`: text to tokens. * `special`: tokens to keep out of top lists. * `kept`: what analyses found out about it.
//! * [`forward`]: running it, with hooks.

mod architecture;
mod config;
pub mod forward;
mod kept;
mod rope;
mod special;
mod tokenizer;
mod vocabulary;
mod weights;

pub use config::{Act, Config, Norm};
pub use kept::Kept;
pub use rope::Rope;
pub use special::SpecialMask;
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use vocabulary::{TokenKind, Vocabulary};

use crate::error::{Error, Result, ResultExt, nearest};
use crate::formats::gguf::{self, Gguf};
use crate::formats::huggingface::{self, Checkpoint};
use crate::formats::{FileKind, Files, json, sniff, wrong_kind};
use crate::hub::{self, Place};
use crate::provenance::fingerprint;
use crate::tensor::Tensor;
use crate::work::Work;
use architecture::{Architecture, Slot};
use config::{Claims, Settled};
use forward::Forward;
use rope::RopeRule;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use weights::Weights;

crate::options! {
    /// Options of `load_model`.
    pub struct ModelOptions {
        /// Branch, tag or commit of a repository on the hub; the same as `name@revision`.
        revision: Option<String> = None,
    }
}

/// A language model. Copies share everything.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    name: String,
    /// The commit, of one from the hub.
    revision: Option<String>,
    /// `GGUF` or `safetensors`, for `info`.
    format: &'static str,
    config: Config,
    weights: Weights,
    w_e: Tensor,
    w_u: Tensor,
    rope: RopeRule,
    local_rope: Option<RopeRule>,
    rotary_dims: usize,
    sliding: Vec<bool>,
    window: Option<usize>,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    warnings: Vec<String>,
    special: Mutex<Option<Arc<SpecialMask>>>,
    forward: Mutex<Option<Arc<Forward>>>,
    kept: Kept,
}

/// The norms of a layer by the names that scripts use.
const LAYER_NORMS: [(&str, Slot); 6] = [
    ("ln1", Slot::Ln1),
    ("ln1_post", Slot::Ln1Post),
    ("ln2", Slot::Ln2),
    ("ln2_post", Slot::Ln2Post),
    ("attn.q_norm", Slot::QueryNorm),
    ("attn.k_norm", Slot::KeyNorm),
];

impl Model {
    // ---- loading ------------------------------------------------------------------------------------------------

    /// Loads a model: a GGUF file, a Hugging Face directory (safetensors, sharded or not), a repository of the hub, or
    /// `demo`.
    ///
    /// # Errors
    /// There is no such file or repository, it is of another format, its architecture is not known, or its config
    /// contradicts its tensors.
    pub fn load(name: &str, options: &ModelOptions, work: &Work) -> Result<Self> {
        let name = match &options.revision {
            Some(revision) => format!("{name}@{}", revision.replace('/', "%2F")),
            None => name.to_string(),
        };
        Self::load_from(&hub::resolve(&name, work)?).context(|| format!("loading the model `{name}`"))
    }

    /// As [`Model::load`], from what a name was found to mean.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_from(place: &Place) -> Result<Self> {
        let mut model = match place {
            Place::Folder(files) => {
                // Before its weights are fetched.
                architecture_of(&huggingface::config(files.as_ref())?).in_file(files.name())?;
                Self::from_checkpoint(huggingface::read(files.as_ref())?)?
            }
            Place::File { folder, file } => {
                let bytes = folder.open(file)?;
                for part in parts_beside(folder.as_ref(), file)? {
                    folder.open(&part)?;
                }
                let path = folder.on_disk(file).unwrap_or_else(|| folder.path_of(file));
                match sniff(bytes.as_slice()) {
                    FileKind::Gguf => Self::from_gguf(gguf::read(bytes, &path)?, &path)?,
                    FileKind::Safetensors => Self::from_checkpoint(huggingface::read_file(folder.as_ref(), file)?)?,
                    _ => return Err(wrong_kind(bytes.as_slice(), &path, "a model (GGUF or safetensors)")),
                }
            }
        };
        if let Some(inner) = Arc::get_mut(&mut model.0) {
            inner.revision = place.files().revision();
        }
        Ok(model)
    }

    /// A model from a Hugging Face checkpoint, read from files or made in memory.
    ///
    /// # Errors
    /// Its architecture is not known, or its config contradicts its tensors.
    pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self> {
        let Checkpoint { config, tensors, tokenizer, tokenizer_config, name } = checkpoint;
        let text = config::text_config(&config);
        let architecture = architecture_of(&config).in_file(&tensors.source)?;
        let claims = Claims::from_json(&config, architecture);
        config::refuse_packed(&config, &tensors).in_file(&tensors.source)?;
        let weights = Weights::new(tensors, architecture.huggingface, config::scale_block(&config));
        let settled = config::settle(architecture, claims, &weights)?;
        let size = settled.config.d_vocab;
        let mut warnings = Vec::new();
        let file = Path::new(&name).join("tokenizer.json");
        let vocabulary = match &tokenizer {
            Some(tokenizer) => {
                let tokenizer = json::parse(tokenizer.as_slice(), &file)?;
                if !Vocabulary::is_in(&tokenizer) {
                    warnings.push("tokenizer.json has no vocabulary: tokens have no text".to_string());
                }
                Vocabulary::from_tokenizer(&tokenizer, size)?
            }
            None => {
                warnings.push("there is no tokenizer.json: tokens have no text".to_string());
                Vocabulary::unnamed(size)?
            }
        };
        let tokenizer = match tokenizer {
            Some(tokenizer) => Tokenizer::from_huggingface(tokenizer, tokenizer_config, text["bos_token_id"].as_u64(), &file),
            None => Tokenizer::missing(Path::new(&name)),
        };
        Self::assemble(name, "safetensors", weights, settled, vocabulary, tokenizer, warnings)
    }

    /// A model from a GGUF file.
    ///
    /// # Errors
    /// Its architecture is not known, or its metadata contradicts its tensors.
    pub fn from_gguf(gguf: Gguf, file: &Path) -> Result<Self> {
        let Gguf { metadata, tensors, bytes } = gguf;
        let text = |key: &str| metadata.get(key).and_then(gguf::Value::as_str);
        let Some(name) = text("general.architecture") else {
            return Err(Error::format("its metadata has no `general.architecture`").file(file));
        };
        let (architecture, layout) = architecture::by_gguf_name(name).in_file(file)?;
        let claims = Claims::from_gguf(&metadata, architecture).in_file(file)?;
        let weights = Weights::new(tensors, layout, None);
        let settled = config::settle(architecture, claims, &weights).in_file(file)?;
        let vocabulary = Vocabulary::from_gguf(&metadata, settled.config.d_vocab, file)?;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = stem.or_else(|| text("general.name").map(str::to_string)).unwrap_or_default();
        let tokenizer = Tokenizer::from_gguf(bytes, file);
        Self::assemble(name, "GGUF", weights, settled, vocabulary, tokenizer, Vec::new())
    }

    fn assemble(
        name: String,
        format: &'static str,
        weights: Weights,
        settled: Settled,
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
        mut warnings: Vec<String>,
    ) -> Result<Self> {
        let Settled { config, rope, local_rope, rotary_dims, sliding, window, warnings: settled_warnings } = settled;
        warnings.extend(settled_warnings);
        if vocabulary.beyond() > 0 {
            let (beyond, rows) = (vocabulary.beyond(), config.d_vocab);
            warnings.push(format!("the tokenizer knows {beyond} tokens beyond the embedding's {rows} rows: they cannot be used"));
        }
        let w_e = weights.get(Slot::Embed, 0)?;
        let w_u = if config.tied { w_e.t() } else { weights.get(Slot::Unembed, 0)?.t() };
        Ok(Model(Arc::new(Inner {
            name,
            revision: None,
            format,
            config,
            weights,
            w_e,
            w_u,
            rope,
            local_rope,
            rotary_dims,
            sliding,
            window,
            vocabulary,
            tokenizer,
            warnings,
            special: Mutex::new(None),
            forward: Mutex::new(None),
            kept: Kept::default(),
        })))
    }

    // ---- what it is ---------------------------------------------------------------------------------------------

    /// Dimensions and conventions.
    pub fn cfg(&self) -> &Config {
        &self.0.config
    }
    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// What a reader of results should know: quantised weights, disagreements that were settled.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }
    /// The tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.0.vocabulary
    }
    /// The ids of a text. Names of special tokens in it (`<bos>`, `<|endoftext|>`) become those tokens, as in transformers.
    ///
    /// # Errors
    /// The model came without a tokenizer, its kind is not known, the tokenizer names no token that begins a text though one is
    /// wanted, or a token of the text has no row in the embedding.
    pub fn encode(&self, text: &str, options: &EncodeOptions, work: &Work) -> Result<Vec<usize>> {
        let ids = self.0.tokenizer.encode(text, options, work)?;
        let rows = self.cfg().d_vocab;
        match ids.iter().find(|id| **id >= rows) {
            None => Ok(ids),
            Some(id) => {
                let piece = self.0.tokenizer.piece(*id, work);
                Err(Error::input(format!(
                    "the token `{piece}` ({id}) has no row in the embedding of {}, which has {rows}",
                    self.name()
                ))
                .help("the tokenizer has tokens that the model was not trained with; take them out of the text"))
            }
        }
    }
    /// True when both are one model in memory.
    pub fn is(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where it lies in memory, which tells it from every other model of its time.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Tells this model's weights from others': a hash of some rows of the embedding and of each layer.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        const ROWS: usize = 64;
        let (embed, size) = (self.w_e(), self.cfg().d_vocab);
        let mut values: Vec<f32> = Vec::new();
        for row in 0..ROWS.min(size) {
            values.extend(embed.row(row * size / ROWS.min(size))?);
        }
        for layer in 0..self.cfg().n_layers {
            let tensors = [Slot::Output, Slot::LinearOutput, Slot::Out, Slot::Router];
            for tensor in tensors.into_iter().filter_map(|slot| self.0.weights.find(slot, layer)) {
                values.extend(tensor.row(0)?);
            }
        }
        Ok(fingerprint(values.into_iter().flat_map(f32::to_le_bytes)))
    }

    /// What provenance records of it.
    pub fn id(&self) -> Json {
        let config = self.cfg();
        let mut id = json!({
            "name": self.name(),
            "source": self.0.weights.tensors.source.display().to_string(),
            "arch": config.arch,
            "quantised": config.quantised,
        });
        if let Some(revision) = &self.0.revision {
            id["revision"] = json!(revision);
        }
        id
    }

    /// Facts for `info`, as (what, value).
    pub fn describe(&self) -> Vec<(String, String)> {
        let config = self.cfg();
        let mut dtypes: Vec<(String, usize)> = Vec::new();
        for (_, tensor) in self.0.weights.tensors.iter() {
            let name = tensor.dtype().name();
            match dtypes.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => dtypes.push((name.to_string(), 1)),
            }
        }
        let dtypes: Vec<_> = dtypes.into_iter().map(|(name, count)| format!("{name} × {count}")).collect();
        let cap = |cap: Option<f64>| cap.map_or("none".to_string(), |cap| cap.to_string());
        let full: Vec<_> = (0..config.n_layers).filter(|layer| !self.0.sliding[*layer]).map(|layer| layer.to_string()).collect();
        let window = match self.0.window {
            Some(window) if full.len() < config.n_layers => {
                format!(
                    "{window} positions; layers with full attention: {}",
                    if full.is_empty() { "none".into() } else { full.join(", ") }
                )
            }
            _ => "none".into(),
        };
        let positions = match (&self.0.local_rope, config.rope_theta) {
            (_, None) => "learned".to_string(),
            (None, Some(theta)) => format!("rotary, base {theta}, {} of {} dimensions", self.0.rotary_dims, config.d_head),
            (Some(local), Some(theta)) => format!("rotary, base {theta} (layers with a sliding window: {})", local.base),
        };
        let norm = format!(
            "{}{}, eps {:e}{}",
            config.norm.name(),
            if config.norm_offset { ", multiplies by 1 + w" } else { "" },
            config.eps,
            if config.qk_norm { ", queries and keys normalised" } else { "" }
        );
        let with_heads = self.layers_with_heads();
        let layers = match config.n_layers - with_heads.len() {
            0 => config.n_layers.to_string(),
            linear => format!("{}, of which {linear} have linear attention; heads in {with_heads:?}", config.n_layers),
        };
        let heads = format!("{} query, {} key and value, of {}", config.n_heads, config.n_kv_heads, config.d_head);
        let with_mlp = self.layers_with_mlp();
        let d_mlp = match &with_mlp[..] {
            [] => "none: every layer has a mixture of experts".to_string(),
            some if some.len() == config.n_layers => format!("{}, {}", config.d_mlp, config.act.name()),
            some => format!("{}, {}, in layers {some:?}; the others have a mixture of experts", config.d_mlp, config.act.name()),
        };
        let mut facts = vec![
            ("model", self.name().to_string()),
            ("format", format!("{}, {} tensors ({})", self.0.format, self.0.weights.tensors.len(), dtypes.join(", "))),
            ("architecture", config.arch.to_string()),
            ("layers", layers),
            ("d_model", config.d_model.to_string()),
            ("heads", heads),
            ("d_mlp", d_mlp),
            ("vocabulary", format!("{}, unembedding {}", config.d_vocab, if config.tied { "tied" } else { "of its own" })),
            ("norm", norm),
            ("positions", positions),
            ("context", config.n_ctx.map_or("not said".into(), |n_ctx| format!("{n_ctx} tokens"))),
            ("sliding window", window),
            (
                "attention scale",
                format!("{}{}", config.attn_scale, if config.attn_scale_by_layer { " / (layer + 1)" } else { "" }),
            ),
            ("softcaps", format!("attention {}, final {}", cap(config.attn_softcap), cap(config.final_softcap))),
            ("embedding scale", config.embed_scale.to_string()),
        ];
        facts.extend(self.0.revision.iter().map(|revision| ("revision", revision.clone())));
        facts.extend(self.warnings().iter().map(|warning| ("warning", warning.clone())));
        facts.into_iter().map(|(what, value)| (what.to_string(), value)).collect()
    }

    /// Fails when there is no layer `layer`.
    ///
    /// # Errors
    /// `layer` lies beyond the last.
    pub fn check_layer(&self, layer: usize) -> Result<()> {
        let n = self.cfg().n_layers;
        if layer < n {
            return Ok(());
        }
        Err(Error::input(format!("layer {layer} is out of range: {} has {n} layers, numbered from 0", self.name())))
    }

    /// Layers whose attention has heads, all but those with linear attention.
    pub fn layers_with_heads(&self) -> Vec<usize> {
        (0..self.cfg().n_layers).filter(|layer| !self.0.weights.is_linear(*layer)).collect()
    }

    /// Fails when a layer has no heads of queries, keys and values.
    ///
    /// # Errors
    /// `layer` lies beyond the last, or has linear attention.
    pub fn check_attention(&self, layer: usize) -> Result<()> {
        self.check_layer(layer)?;
        if !self.0.weights.is_linear(layer) {
            return Ok(());
        }
        let name = self.name();
        Err(Error::input(format!("layer {layer} of {name} has linear attention, which has no heads of queries and keys")).help(
            format!(
                "layers with heads: {:?}; what stands in the residual stream can be analysed anywhere",
                self.layers_with_heads()
            ),
        ))
    }

    /// Layers with one MLP, all but those with experts in its place.
    fn layers_with_mlp(&self) -> Vec<usize> {
        (0..self.cfg().n_layers).filter(|layer| !self.0.weights.is_mixture(*layer)).collect()
    }

    /// Fails when a layer has not one MLP, whose neurons can be named.
    ///
    /// # Errors
    /// `layer` lies beyond the last, or has a mixture of experts.
    pub fn check_mlp(&self, layer: usize) -> Result<()> {
        self.check_layer(layer)?;
        if !self.0.weights.is_mixture(layer) {
            return Ok(());
        }
        let (name, dense) = (self.name(), self.layers_with_mlp());
        let layers = if dense.is_empty() { "no layer has one MLP".into() } else { format!("layers with one MLP: {dense:?}") };
        let message = format!(
            "layer {layer} of {name} has a mixture of experts, of which each token takes some: it has no neurons of its own"
        );
        Err(Error::input(message)
            .help(format!("{layers}; attention and what stands in the residual stream can be analysed anywhere")))
    }

    /// Fails when there is no query head `head`.
    ///
    /// # Errors
    /// `head` lies beyond the last.
    pub fn check_head(&self, head: usize) -> Result<()> {
        let n = self.cfg().n_heads;
        if head < n {
            return Ok(());
        }
        Err(Error::input(format!("head {head} is out of range: {} has {n} heads a layer, numbered from 0", self.name())))
    }

    // ---- weights ------------------------------------------------------------------------------------------------

    /// W_E `[d_vocab, d_model]`, a view, as stored: the model multiplies it by `cfg().embed_scale`.
    pub fn w_e(&self) -> Tensor {
        self.0.w_e.clone()
    }

    /// W_U `[d_model, d_vocab]`, a view; W_E transposed where the model ties them.
    pub fn w_u(&self) -> Tensor {
        self.0.w_u.clone()
    }

    /// W_Q of query head `head`, `[d_model, d_head]`, dense f32.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn w_q(&self, layer: usize, head: usize) -> Result<Tensor> {
        self.check_head(head)?;
        self.head_input(Slot::Query, layer, head)
    }

    /// W_K of the kv head that query head `head` uses, `[d_model, d_head]`, dense f32.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn w_k(&self, layer: usize, head: usize) -> Result<Tensor> {
        self.head_input(Slot::Key, layer, self.kv_head(head)?)
    }

    /// W_V of the kv head that query head `head` uses, `[d_model, d_head]`, dense f32.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn w_v(&self, layer: usize, head: usize) -> Result<Tensor> {
        self.head_input(Slot::Value, layer, self.kv_head(head)?)
    }

    /// W_O of query head `head`, `[d_head, d_model]`, dense f32.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn w_o(&self, layer: usize, head: usize) -> Result<Tensor> {
        self.check_attention(layer)?;
        self.check_head(head)?;
        let d_head = self.cfg().d_head;
        let columns = self.0.weights.get(Slot::Output, layer)?.narrow(1, head * d_head..(head + 1) * d_head)?;
        dense_transpose(&columns)
    }

    /// W_O of all heads together, `[n_heads · d_head, d_model]`, a view: what reads z, heads one after another.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn w_o_all(&self, layer: usize) -> Result<Tensor> {
        self.check_attention(layer)?;
        Ok(self.0.weights.get(Slot::Output, layer)?.t())
    }

    /// W_in `[d_model, d_mlp]`, a view: the MLP's linear (not gated) input.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn w_in(&self, layer: usize) -> Result<Tensor> {
        self.check_mlp(layer)?;
        Ok(self.0.weights.get(Slot::In, layer)?.t())
    }

    /// W_gate `[d_model, d_mlp]`, a view; `None` where the MLP has no gate.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn w_gate(&self, layer: usize) -> Result<Option<Tensor>> {
        self.check_mlp(layer)?;
        Ok(self.0.weights.find(Slot::Gate, layer).map(|gate| gate.t()))
    }

    /// W_out `[d_mlp, d_model]`, a view.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn w_out(&self, layer: usize) -> Result<Tensor> {
        self.check_mlp(layer)?;
        Ok(self.0.weights.get(Slot::Out, layer)?.t())
    }

    /// The gain of a norm, 1-D f32, ready to multiply with (1 + w where the architecture says so): `ln_final`,
    /// `blocks.3.ln1`, `ln1_post` (on the attention's output), `ln2`, `ln2_post` (on the MLP's output), `attn.q_norm`,
    /// `attn.k_norm`.
    ///
    /// # Errors
    /// No norm has that name, the layer is out of range, or this architecture has no such norm.
    pub fn gain(&self, name: &str) -> Result<Tensor> {
        self.find_gain(name)?.ok_or_else(|| {
            let has = LAYER_NORMS.iter().filter(|(_, slot)| self.0.weights.layout.name_of(*slot, 0).is_some());
            let has: Vec<_> = has.map(|(name, _)| *name).collect();
            Error::input(format!("{} ({}) has no norm `{name}`", self.name(), self.cfg().arch))
                .help(format!("each of its layers has: {}", has.join(", ")))
        })
    }

    /// The gain of a norm as [`Model::gain`] gives it; `None` where this architecture has no such norm.
    ///
    /// # Errors
    /// No norm has that name, or the layer is out of range.
    pub fn find_gain(&self, name: &str) -> Result<Option<Tensor>> {
        let (slot, layer) = self.norm_slot(name)?;
        let Some(stored) = self.0.weights.find(slot, layer) else { return Ok(None) };
        let mut gain = stored.to_f32();
        if self.0.weights.layout.norm_offset {
            gain.iter_mut().for_each(|g| *g += 1.0);
        }
        Ok(Some(Tensor::vector(gain)))
    }

    /// The names of the norms that this architecture has.
    pub fn norm_names(&self) -> Vec<String> {
        let of_layer = |layer| LAYER_NORMS.iter().map(move |(norm, _)| format!("blocks.{layer}.{norm}"));
        let all = (0..self.cfg().n_layers).flat_map(of_layer).chain(["ln_final".to_string()]);
        let has = |name: &str| self.norm_slot(name).is_ok_and(|(slot, layer)| self.0.weights.find(slot, layer).is_some());
        all.filter(|name| has(name)).collect()
    }

    /// The bias of a norm by the names of [`Model::gain`], 1-D f32; `None` where this architecture has none.
    ///
    /// # Errors
    /// No norm has that name, or the layer is out of range.
    pub fn bias(&self, name: &str) -> Result<Option<Tensor>> {
        let (slot, layer) = self.norm_slot(name)?;
        let slot = match slot {
            Slot::Ln1 => Slot::Ln1Bias,
            Slot::Ln2 => Slot::Ln2Bias,
            Slot::LnFinal => Slot::LnFinalBias,
            _ => return Ok(None),
        };
        Ok(self.0.weights.find(slot, layer).map(|bias| Tensor::vector(bias.to_f32())))
    }

    /// b_Q of query head `head`, `[d_head]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn b_q(&self, layer: usize, head: usize) -> Result<Option<Tensor>> {
        self.check_head(head)?;
        self.head_bias(Slot::QueryBias, layer, head)
    }

    /// b_K of the kv head that query head `head` uses, `[d_head]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn b_k(&self, layer: usize, head: usize) -> Result<Option<Tensor>> {
        self.head_bias(Slot::KeyBias, layer, self.kv_head(head)?)
    }

    /// b_V of the kv head that query head `head` uses, `[d_head]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer or head is out of range.
    pub fn b_v(&self, layer: usize, head: usize) -> Result<Option<Tensor>> {
        self.head_bias(Slot::ValueBias, layer, self.kv_head(head)?)
    }

    /// b_O `[d_model]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn b_o(&self, layer: usize) -> Result<Option<Tensor>> {
        self.layer_bias(Slot::OutputBias, layer)
    }

    /// b_in `[d_mlp]`, of the MLP's linear input; `None` where the model has none.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn b_in(&self, layer: usize) -> Result<Option<Tensor>> {
        self.layer_bias(Slot::InBias, layer)
    }

    /// b_gate `[d_mlp]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn b_gate(&self, layer: usize) -> Result<Option<Tensor>> {
        self.layer_bias(Slot::GateBias, layer)
    }

    /// b_out `[d_model]`; `None` where the model has none.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn b_out(&self, layer: usize) -> Result<Option<Tensor>> {
        self.layer_bias(Slot::OutBias, layer)
    }

    /// Learned positions `[n_ctx, d_model]`, a view; `None` where positions are rotary.
    pub fn w_pos(&self) -> Option<Tensor> {
        self.0.weights.find(Slot::Position, 0)
    }

    fn layer_bias(&self, slot: Slot, layer: usize) -> Result<Option<Tensor>> {
        self.check_layer(layer)?;
        Ok(self.0.weights.find(slot, layer).map(|bias| Tensor::vector(bias.to_f32())))
    }

    fn head_bias(&self, slot: Slot, layer: usize, head: usize) -> Result<Option<Tensor>> {
        self.check_attention(layer)?;
        Ok(self.head_rows(slot, layer, head)?.map(|bias| Tensor::vector(bias.to_f32())))
    }

    fn norm_slot(&self, name: &str) -> Result<(Slot, usize)> {
        if name == "ln_final" {
            return Ok((Slot::LnFinal, 0));
        }
        let in_layer = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let parsed = in_layer.and_then(|(layer, norm)| Some((layer.parse::<usize>().ok()?, norm)));
        let slot = parsed.and_then(|(_, norm)| LAYER_NORMS.iter().find(|(known, _)| *known == norm));
        if let (Some((layer, _)), Some((_, slot))) = (parsed, slot) {
            self.check_layer(layer)?;
            return Ok((*slot, layer));
        }
        let norms = LAYER_NORMS.map(|(norm, _)| format!("blocks.{}.{norm}", parsed.map_or(0, |(layer, _)| layer)));
        let error = Error::input(format!("no norm is called `{name}`"));
        let error = match nearest(name, norms.iter().map(String::as_str).chain(["ln_final"])) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        };
        Err(error.help(format!("norms are called: ln_final, {}", norms.join(", "))))
    }

    /// The rotation of a layer.
    ///
    /// # Errors
    /// The layer is out of range, or the file scales frequencies in a way that is not known.
    pub fn rope(&self, layer: usize) -> Result<Rope> {
        self.check_attention(layer)?;
        let rule = self.0.local_rope.as_ref().filter(|_| self.0.sliding[layer]).unwrap_or(&self.0.rope);
        rule.rope(self.0.rotary_dims)
    }

    /// Positions that a layer's attention reaches back, itself included; `None` for all.
    ///
    /// # Errors
    /// The layer is out of range.
    pub fn window(&self, layer: usize) -> Result<Option<usize>> {
        self.check_layer(layer)?;
        Ok(self.0.window.filter(|_| self.0.sliding[layer]))
    }

    /// Tokens to keep out of top lists: control, unknown, unused, byte-fallback, padded and never-trained ones. Found on
    /// first use (it reads W_E twice), then shared.
    ///
    /// # Errors
    /// The user's interruption.
    pub fn special_mask(&self, work: &Work) -> Result<Arc<SpecialMask>> {
        let mut place = self.0.special.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = &*place {
            return Ok(Arc::clone(mask));
        }
        let mask = Arc::new(SpecialMask::of(&self.0.w_e, self.vocabulary(), work)?);
        *place = Some(Arc::clone(&mask));
        Ok(mask)
    }

    /// What analyses found out about its weights, which do not change.
    pub fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// The model made ready to run: its layers' weights as f32, made on first use, then shared.
    ///
    /// # Errors
    /// An architecture whose attention is not known in full, a rotary scaling that is not known, or the user's interruption.
    pub fn forward(&self, work: &Work) -> Result<Arc<Forward>> {
        if self.0.weights.layout.heads == architecture::Heads::Gated {
            return Err(Error::input(format!(
                "{} cannot be run: linear attention and gated heads are not known here",
                self.name()
            ))
            .help("analyses of weights work: unembed, token_scores, semantics, and attention in the layers that have heads"));
        }
        if let Some(layer) = (0..self.cfg().n_layers).find(|layer| self.0.weights.is_mixture(*layer)) {
            return Err(Error::input(format!("{} cannot be run: layer {layer} has a mixture of experts", self.name()))
                .help("analyses of weights work: unembed, token_scores, semantics, and attention"));
        }
        let mut place = self.0.forward.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forward) = &*place {
            return Ok(Arc::clone(forward));
        }
        let forward = Arc::new(Forward::new(self, work)?);
        *place = Some(Arc::clone(&forward));
        Ok(forward)
    }

    /// The rows of all heads of q, k or v as one view, where the file holds them so.
    fn plain_heads(&self, slot: Slot, layer: usize) -> Option<Tensor> {
        let layout = self.0.weights.layout;
        let turned = layout.interleaved_rotary && !matches!(slot, Slot::Value | Slot::ValueBias);
        if layout.heads == architecture::Heads::Separate && !turned { self.0.weights.find(slot, layer) } else { None }
    }

    fn kv_head(&self, head: usize) -> Result<usize> {
        self.check_head(head)?;
        Ok(head / (self.cfg().n_heads / self.cfg().n_kv_heads))
    }

    /// The rows of one head of q, k or v, transposed.
    fn head_input(&self, slot: Slot, layer: usize, head: usize) -> Result<Tensor> {
        self.check_attention(layer)?;
        let rows = self.head_rows(slot, layer, head)?.ok_or_else(|| Error::internal(format!("{slot:?} is missing")))?;
        dense_transpose(&rows)
    }

    /// The rows of one head of q, k or v (or the numbers of its bias) in the order of transformers: rotary halves one after
    /// the other.
    fn head_rows(&self, slot: Slot, layer: usize, head: usize) -> Result<Option<Tensor>> {
        let Config { d_head, n_heads, .. } = *self.cfg();
        let rows = self.0.weights.head_rows(slot, layer, head, n_heads, d_head)?;
        let turns = matches!(slot, Slot::Query | Slot::Key | Slot::QueryBias | Slot::KeyBias);
        match rows {
            Some(rows) if self.0.weights.layout.interleaved_rotary && turns => {
                let width = rows.numel() / d_head;
                let halves = rows.reshape(&[d_head / 2, 2, width])?.permute(&[1, 0, 2])?;
                let shape = rows.shape();
                Ok(Some(Tensor::from_f32(halves.to_f32(), shape)?))
            }
            rows => Ok(rows),
        }
    }
}

/// The architecture that a `config.json` names.
fn architecture_of(config: &Json) -> Result<&'static Architecture> {
    let class = config["architectures"][0].as_str().map(|class| class.split("For").next().unwrap_or(class).to_lowercase());
    let text = config::text_config(config)["model_type"].as_str();
    let named = text.or_else(|| config["model_type"].as_str()).or(class.as_deref());
    let named = named.ok_or_else(|| Error::format("config.json names neither `model_type` nor `architectures`"))?;
    architecture::by_model_type(named)
}

/// The other files of a model that is split over several: `NAME-00002-of-00003.gguf` beside `NAME-00001-of-00003.gguf`. They
/// are found by their names, so all must be there when one is read.
fn parts_beside(folder: &dyn Files, file: &str) -> Result<Vec<String>> {
    fn whole(name: &str) -> Option<(&str, &str)> {
        let (part, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = part.rsplit_once('-')?;
        number.bytes().all(|b| b.is_ascii_digit()).then_some((stem, count))
    }
    let Some(ours) = whole(file) else { return Ok(Vec::new()) };
    let own = file.rsplit_once('/').map_or("", |(own, _)| own);
    Ok(folder.list_folder(own)?.into_iter().filter(|other| other != file && whole(other) == Some(ours)).collect())
}

/// A transposed copy as f32. Rows are widened before they are turned, for quantised storage.
fn dense_transpose(matrix: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_f32(matrix.to_f32(), matrix.shape())?.t().contiguous())
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = self.cfg();
        write!(f, "Model {} ({}, {} layers, d_model {}, {} tokens)", self.name(), c.arch, c.n_layers, c.d_model, c.d_vocab)
    }
}
