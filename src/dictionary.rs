//! Dictionaries: directions that read from and write to a place in a model. An SAE, a transcoder, an MLP's own neurons, the
//! tokens, random directions and any set of vectors are all dictionaries, and every analysis takes any of them.
//!
//! * `site`: places, their hook names and their order. * `directions`: read and write directions in the residual stream.
//! * `activation`: encode, decode, reconstruct. * `load`: every published format, and an explicit map for anything else.
//! * `belongs`: doubts whether a dictionary is one of a model.
//! * `edits`: features ablated and reconstructions spliced in a forward pass. * `save`: SAELens's layout.
//! * `made`: from tensors, neurons, tokens, trained weights. * `random`: nulls. * `part`: selecting, joining, statistics, labels.

mod activation;
mod belongs;
mod directions;
mod edits;
mod list;
mod load;
mod made;
mod part;
mod random;
mod save;
mod site;

pub use activation::{Activation, Normalization};
pub use directions::{Directions, centred};
pub use edits::{Amount, EditOp, EditOptions, RunOptions, request};
pub use list::list_saes;
pub use load::beside::holds_saes;
pub use load::{MapOptions, SaeFormat, SaeOptions, TensorMap, load_sae, load_sae_from};
pub use made::{Basis, DirectionsOptions, SaeParts, directions, mlp_neurons, token_basis};
pub use random::{RandomKind, RandomOptions, random_directions};
pub use save::{Precision, save_sae};
use site::HookPoint;
pub use site::Site;

use crate::compute;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Ids;
use crate::provenance::fingerprint;
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json, json};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// A set of directions that read from and write to a place in a model. Copies share everything.
#[derive(Clone)]
pub struct Dictionary(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    name: String,
    /// What it was made from: `SAELens 6`, `Gemma Scope`, `neurons`, ….
    format: String,
    /// What provenance needs to make it again.
    origin: Map<String, Json>,
    site: Site,
    layer: Option<usize>,
    hook: String,
    /// Where it writes, if that is not where it reads.
    out: Option<HookPoint>,
    signed: bool,
    activation: Activation,
    /// `[d_in, n]`.
    w_enc: Option<Tensor>,
    /// `[n, d_out]`.
    w_dec: Tensor,
    b_enc: Option<Tensor>,
    b_dec: Option<Tensor>,
    /// `[d_out, d_in]`, added to the output as W_skip x.
    w_skip: Option<Tensor>,
    threshold: Option<Tensor>,
    gate: Option<Gate>,
    subtract_b_dec: bool,
    normalization: Normalization,
    /// Activations are multiplied by the decoder's norms, and divided again before decoding.
    rescale: bool,
    read: Route,
    write: Route,
    /// Ids of the positions; 0, 1, 2, … where there are none.
    ids: Option<Vec<usize>>,
    /// Number of features of the dictionary that the ids count.
    numbered: usize,
    positions: OnceLock<BTreeMap<usize, usize>>,
    /// Names of the models for which doubts that it belongs to them have been said. Copies share it.
    doubted: Arc<Mutex<BTreeSet<String>>>,
    /// Set when it has been said that its weights hold NaN. Copies share it.
    broken: Arc<OnceLock<()>>,
    /// Statistics by name, one value for each position.
    stats: BTreeMap<String, Vec<f64>>,
    labels: Option<Vec<String>>,
    rewrites: Vec<String>,
    warnings: Vec<String>,
    /// Further facts of the file, for `info`.
    facts: Vec<(String, String)>,
    /// What an SAE's file says of its training, kept as it is.
    metadata: Map<String, Json>,
}

/// What a gated SAE has instead of `b_enc`, each `[n]`.
#[derive(Clone)]
struct Gate {
    b_gate: Tensor,
    b_mag: Tensor,
    r_mag: Tensor,
}

/// How stored directions become directions in the residual stream.
#[derive(Clone)]
enum Route {
    /// They are such directions, after this gain.
    Direct { gain: Option<Vec<f32>> },
    /// They are such directions after the gain of this norm of their layer, where the model has it.
    Norm(&'static str),
    /// They lie in z: writing goes through W_O and the post-attention gain, reading through W_V of one head.
    Heads,
    /// They lie in the neurons: writing goes through W_out and the post-MLP gain.
    Neurons,
    /// There are none.
    Unavailable,
}

impl Inner {
    /// A dictionary whose stored directions are those of its site; everything else is empty.
    fn new(name: String, format: &str, site: Site, layer: Option<usize>, w_enc: Option<Tensor>, w_dec: Tensor) -> Self {
        let (read, write) = routes(site);
        Inner {
            name,
            format: format.into(),
            origin: Map::new(),
            site,
            layer,
            hook: site.hook(layer),
            out: None,
            signed: false,
            activation: Activation::None,
            numbered: w_dec.shape().first().copied().unwrap_or(0),
            w_enc,
            w_dec,
            b_enc: None,
            b_dec: None,
            w_skip: None,
            threshold: None,
            gate: None,
            subtract_b_dec: false,
            normalization: Normalization::None,
            rescale: false,
            read,
            write,
            ids: None,
            positions: OnceLock::new(),
            doubted: Arc::default(),
            broken: Arc::default(),
            stats: BTreeMap::new(),
            labels: None,
            rewrites: Vec::new(),
            warnings: Vec::new(),
            facts: Vec::new(),
            metadata: Map::new(),
        }
    }

    /// The same at another place, writing at `out` where that is not where it reads.
    fn placed(mut self, hook: HookPoint, out: Option<HookPoint>) -> Self {
        let through = |route, norm: Option<&'static str>| match (route, norm) {
            (Route::Direct { .. }, Some(norm)) => Route::Norm(norm),
            (route, _) => route,
        };
        self.read = through(routes(hook.site).0, hook.norm);
        let written = out.as_ref().unwrap_or(&hook);
        // What is written where a norm's output is read goes through no gain.
        self.write = through(routes(written.site).1, written.norm.filter(|_| written.site != Site::Ln2Normalized));
        (self.site, self.layer, self.hook, self.out) = (hook.site, hook.layer, hook.name, out);
        self
    }

    fn build(self) -> Dictionary {
        Dictionary(Arc::new(self))
    }
}

/// How what is stored for a site reads and writes.
fn routes(site: Site) -> (Route, Route) {
    let direct = || Route::Direct { gain: None };
    match site {
        Site::Z => (Route::Heads, Route::Heads),
        Site::MlpPost => (Route::Unavailable, Route::Neurons),
        Site::AttnOut | Site::MlpOut => (Route::Unavailable, direct()),
        _ => (direct(), direct()),
    }
}

impl Dictionary {
    /// Number of features.
    pub fn n(&self) -> usize {
        self.0.w_dec.shape()[0]
    }
    /// Width of what it reads.
    pub fn d_in(&self) -> usize {
        self.0.w_enc.as_ref().map_or(self.d_out(), |w| w.shape()[0])
    }
    /// Width of what it writes.
    pub fn d_out(&self) -> usize {
        self.0.w_dec.shape()[1]
    }
    /// The place in the model.
    pub fn site(&self) -> Site {
        self.0.site
    }
    /// The layer, where it has one.
    pub fn layer(&self) -> Option<usize> {
        self.0.layer
    }
    /// The hook that it reads, in TransformerLens's words.
    pub fn hook(&self) -> &str {
        &self.0.hook
    }
    /// The hook that it writes.
    pub fn hook_out(&self) -> &str {
        self.0.out.as_ref().map_or(&self.0.hook, |out| &out.name)
    }
    /// True where +d and −d are equally the feature.
    pub fn signed(&self) -> bool {
        self.0.signed
    }
    /// The activation function.
    pub fn activation(&self) -> Activation {
        self.0.activation
    }
    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// What a reader of results should know.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }
    /// W_enc `[d_in, n]`, values as stored; `None` where it only writes.
    pub fn w_enc(&self) -> Option<Tensor> {
        self.0.w_enc.clone()
    }
    /// W_dec `[n, d_out]`, values as stored.
    pub fn w_dec(&self) -> Tensor {
        self.0.w_dec.clone()
    }
    /// Encoder bias `[n]`.
    pub fn b_enc(&self) -> Option<Tensor> {
        self.0.b_enc.clone()
    }
    /// Decoder bias `[d_out]`.
    pub fn b_dec(&self) -> Option<Tensor> {
        self.0.b_dec.clone()
    }
    /// JumpReLU threshold `[n]`.
    pub fn threshold(&self) -> Option<Tensor> {
        self.0.threshold.clone()
    }
    /// Firing frequency of each position, where known.
    pub fn density(&self) -> Option<Vec<f64>> {
        self.stat("density")
    }
    /// A statistic that `with_stats` or the file brought, one value for each position.
    pub fn stat(&self, name: &str) -> Option<Vec<f64>> {
        self.0.stats.get(name).cloned()
    }
    /// A label for each position, where there are labels; empty where a feature has none.
    pub fn labels(&self) -> Option<&[String]> {
        self.0.labels.as_deref()
    }
    /// Norm of each row of W_dec, as stored. Zero: a dead row.
    ///
    /// # Errors
    /// The user's interruption.
    pub fn decoder_norms(&self, work: &Work) -> Result<Vec<f64>> {
        compute::row_norms(&self.0.w_dec, None, work)
    }

    /// True for copies of the same dictionary.
    pub fn is(&self, other: &Dictionary) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// True for an MLP's own neurons: they fire as the model's hook says, not as an encoder does.
    pub fn is_neurons(&self) -> bool {
        self.0.format == "neurons"
    }

    // ---- ids ----------------------------------------------------------------------------------------------------

    /// The id of a position: its number in the dictionary that it was selected from.
    pub fn id_of(&self, position: usize) -> usize {
        self.0.ids.as_ref().and_then(|ids| ids.get(position).copied()).unwrap_or(position)
    }

    /// The ids of all positions, in order.
    pub fn ids(&self) -> Vec<usize> {
        (0..self.n()).map(|position| self.id_of(position)).collect()
    }

    /// The position of an id.
    ///
    /// # Errors
    /// No feature has it.
    pub fn position(&self, id: usize) -> Result<usize> {
        let Some(ids) = &self.0.ids else {
            return if id < self.n() {
                Ok(id)
            } else {
                let (name, n) = (self.name(), self.n());
                Err(Error::input(format!("feature {id} is out of range: {name} has {n} features, numbered from 0")))
            };
        };
        let positions = self.0.positions.get_or_init(|| ids.iter().enumerate().map(|(position, id)| (*id, position)).collect());
        positions.get(&id).copied().ok_or_else(|| {
            Error::input(format!("feature {id} is not among the {} that were selected of {}", self.n(), self.name()))
        })
    }

    /// The positions that an option `features` means; all without one. Of a selection, a range takes what lies in it.
    ///
    /// # Errors
    /// An id that no feature has.
    pub fn positions(&self, features: &Option<Ids>) -> Result<Vec<usize>> {
        let Some(features) = features else { return Ok((0..self.n()).collect()) };
        let ids = features.resolve(self.0.numbered, "feature")?;
        match features {
            Ids::Range(..) => Ok(ids.into_iter().filter_map(|id| self.position(id).ok()).collect()),
            Ids::List(_) => ids.into_iter().map(|id| self.position(id)).collect(),
        }
    }

    /// Tells these directions from others: a hash of some rows of W_dec and of the ids.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        const ROWS: usize = 64;
        let n = self.n();
        let mut bytes: Vec<u8> = self.ids().into_iter().flat_map(usize::to_le_bytes).collect();
        for row in 0..ROWS.min(n) {
            bytes.extend(self.0.w_dec.row(row * n / ROWS.min(n))?.into_iter().flat_map(f32::to_le_bytes));
        }
        Ok(fingerprint(bytes))
    }

    // ---- descriptions -------------------------------------------------------------------------------------------

    /// Where it lies in memory, which tells it from every other dictionary of its time.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Holds its address, as long as this lives, but not its weights.
    pub fn place(&self) -> Weak<dyn Any + Send + Sync> {
        let inner: Arc<dyn Any + Send + Sync> = Arc::clone(&self.0) as _;
        Arc::downgrade(&inner)
    }

    /// What provenance records of it.
    pub fn id(&self) -> Json {
        let mut id = Map::from_iter([
            ("name".to_string(), json!(self.name())),
            ("format".to_string(), json!(self.0.format)),
            ("hook".to_string(), json!(self.hook())),
            ("features".to_string(), json!(self.n())),
        ]);
        if !self.0.rewrites.is_empty() {
            id.insert("rewrites".into(), json!(self.0.rewrites));
        }
        id.extend(self.0.origin.clone());
        Json::Object(id)
    }

    /// The facts that scripts see as `.cfg`.
    pub fn cfg(&self) -> Map<String, Json> {
        let inner = &self.0;
        let mut cfg = Map::from_iter([
            ("name".to_string(), json!(inner.name)),
            ("format".to_string(), json!(inner.format)),
            ("site".to_string(), json!(inner.site.name())),
            ("layer".to_string(), json!(inner.layer)),
            ("hook".to_string(), json!(inner.hook)),
            ("hook_out".to_string(), json!(self.hook_out())),
            ("d_in".to_string(), json!(self.d_in())),
            ("d_sae".to_string(), json!(self.n())),
            ("d_out".to_string(), json!(self.d_out())),
            ("activation".to_string(), json!(inner.activation.name())),
            ("k".to_string(), json!(inner.activation.k())),
            ("signed".to_string(), json!(inner.signed)),
            ("subtract_b_dec".to_string(), json!(inner.subtract_b_dec)),
            ("normalize_activations".to_string(), json!(inner.normalization.name())),
            ("rewrites".to_string(), json!(inner.rewrites)),
        ]);
        cfg.extend(inner.facts.iter().map(|(what, value)| (what.clone(), json!(value))));
        if !inner.metadata.is_empty() {
            cfg.insert("metadata".into(), Json::Object(inner.metadata.clone()));
        }
        cfg
    }

    /// Facts for `info`, as (what, value); it reads W_dec for its norms.
    ///
    /// # Errors
    /// The user's interruption.
    pub fn describe(&self, work: &Work) -> Result<Vec<(String, String)>> {
        let inner = &self.0;
        let norms = self.decoder_norms(work)?;
        let dead = norms.iter().filter(|norm| **norm == 0.0).count();
        let (low, high) = norms.iter().fold((f64::INFINITY, 0f64), |(low, high), norm| (low.min(*norm), high.max(*norm)));
        let norms = if low <= high { format!("{low:.4} to {high:.4}, {dead} of them zero") } else { "none is a number".into() };
        let tensors = [
            ("W_enc", &inner.w_enc),
            ("W_dec", &Some(inner.w_dec.clone())),
            ("b_enc", &inner.b_enc),
            ("b_dec", &inner.b_dec),
            ("threshold", &inner.threshold),
            ("W_skip", &inner.w_skip),
        ];
        let gate = inner.gate.as_ref().map(|gate| [("b_gate", &gate.b_gate), ("b_mag", &gate.b_mag), ("r_mag", &gate.r_mag)]);
        let gate = gate.into_iter().flatten().map(|(name, tensor)| (name, Some(tensor.clone())));
        let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.clone())).chain(gate);
        let tensors =
            tensors.filter_map(|(name, tensor)| tensor.as_ref().map(|t| format!("{name} {:?} {}", t.shape(), t.dtype())));
        let mut activation = inner.activation.name().to_string();
        if let Some(k) = inner.activation.k() {
            activation.push_str(&format!(", k = {k}"));
        }
        if let Some(threshold) = &inner.threshold {
            let bounds = |(low, high): (f32, f32), v: &f32| (low.min(*v), high.max(*v));
            let (low, high) = threshold.f32_cow().iter().fold((f32::INFINITY, f32::NEG_INFINITY), bounds);
            activation.push_str(&format!(", above thresholds from {low:.4} to {high:.4}"));
        }
        if inner.rescale {
            activation.push_str(", of pre-activations times the norms of W_dec's rows");
        }
        let b_dec = match (&inner.b_dec, inner.subtract_b_dec) {
            (None, _) => "none",
            (Some(_), true) => "subtracted from the input, added to the output",
            (Some(_), false) => "added to the output, not subtracted from the input",
        };
        let mut facts = vec![("dictionary", inner.name.clone())];
        for (what, key) in [("file", "source"), ("revision", "revision")] {
            facts.extend(inner.origin.get(key).and_then(Json::as_str).map(|said| (what, said.to_string())));
        }
        facts.extend([
            ("format", inner.format.clone()),
            ("site", format!("{}{}", inner.site.name(), inner.layer.map_or(String::new(), |layer| format!(", layer {layer}")))),
            (
                "hook",
                if self.hook_out() == inner.hook {
                    inner.hook.clone()
                } else {
                    format!("{} → {}", inner.hook, self.hook_out())
                },
            ),
            ("features", self.n().to_string()),
            ("tensors", tensors.collect::<Vec<_>>().join(", ")),
            ("activation", activation),
            ("input", inner.normalization.describe()),
            ("b_dec", b_dec.into()),
            ("decoder norms", norms),
            ("fits", self.fits()),
        ]);
        if let Some(density) = self.density() {
            let dead = density.iter().filter(|density| **density == 0.0).count();
            let dense = density.iter().filter(|density| **density > 0.1).count();
            facts.push(("firing", format!("{dead} features never, {dense} at more than a tenth of the tokens")));
        }
        let figures = inner.metadata.get("figures").and_then(Json::as_object).into_iter().flatten();
        let figures = figures.filter_map(|(name, value)| match value.as_u64() {
            Some(count) => Some(format!("{name} {count}")),
            None => value.as_f64().map(|number| format!("{name} {number:.4}")),
        });
        let figures: Vec<_> = figures.collect();
        if !figures.is_empty() {
            facts.push(("figures", figures.join(", ")));
        }
        for (what, route) in [("read directions", &inner.read), ("write directions", &inner.write)] {
            if let Route::Norm(norm) = route {
                facts.push((what, format!("times the gain of {norm}, where the model has that norm")));
            }
        }
        for (what, count) in self.broken(work)? {
            facts.push(("warning", format!("{count} {what} hold NaN or infinity")));
        }
        facts.extend(inner.facts.iter().map(|(what, value)| (what.as_str(), value.clone())));
        facts.extend(inner.rewrites.iter().map(|rewrite| ("rewrite", rewrite.clone())));
        facts.extend(inner.warnings.iter().map(|warning| ("warning", warning.clone())));
        Ok(facts.into_iter().map(|(what, value)| (what.to_string(), value)).collect())
    }

    /// How many rows of W_dec and W_skip and columns of W_enc hold NaN or infinity, of those that have any.
    fn broken(&self, work: &Work) -> Result<Vec<(&'static str, usize)>> {
        let inner = &self.0;
        let count = |norms: &[f64]| norms.iter().filter(|norm| !norm.is_finite()).count();
        let mut broken = vec![("rows of W_dec", count(&self.decoder_norms(work)?))];
        if let Some(w_enc) = &inner.w_enc {
            broken.push(("columns of W_enc", count(&compute::column_norms(w_enc, work)?)));
        }
        if let Some(w_skip) = &inner.w_skip {
            broken.push(("rows of W_skip", count(&compute::row_norms(w_skip, None, work)?)));
        }
        broken.retain(|(_, count)| *count > 0);
        Ok(broken)
    }

    // ---- its place in a model -----------------------------------------------------------------------------------

    /// Which models have such a place, for `info`.
    fn fits(&self) -> String {
        let width = match (self.0.site, &self.0.write) {
            (Site::Z, Route::Heads) => "heads whose outputs together are",
            (Site::MlpPost, Route::Neurons) => "a d_mlp of",
            _ => "a d_model of",
        };
        let layers =
            self.0.layer.max(self.written().1).map_or(String::new(), |layer| format!(" and at least {} layers", layer + 1));
        let trained = self.0.facts.iter().find(|(what, _)| what == "model_name");
        let trained = trained.map_or(String::new(), |(_, name)| format!("trained on {name}; "));
        format!("{trained}models with {width} {}{layers}", self.d_in())
    }

    /// Fails unless its layer and widths are those of its site in `model`.
    ///
    /// # Errors
    /// They are not; the message lists the widths that the model's sites have.
    pub fn check_fits(&self, model: &Model) -> Result<()> {
        let cfg = model.cfg();
        if self.0.site == Site::ResidMid && cfg.parallel {
            let what = format!("{} stands at {}, which {} does not have", self.name(), self.hook(), model.name());
            return Err(
                Error::input(what).help("in a parallel model attention and MLP both read the stream that enters the layer")
            );
        }
        let widths = [("residual stream", cfg.d_model), ("z", cfg.n_heads * cfg.d_head), ("mlp_post", cfg.d_mlp)];
        let (site, needed) = match (self.0.site, &self.0.write) {
            (Site::Z, Route::Heads) => widths[1],
            (Site::MlpPost, Route::Neurons) => widths[2],
            _ => widths[0],
        };
        if let (Site::MlpPost, Some(layer)) = (self.0.site, self.0.layer) {
            model.check_mlp(layer)?;
        }
        if let Some(width) = [self.d_in(), self.d_out()].into_iter().find(|width| *width != needed) {
            let sizes: Vec<_> = widths.iter().map(|(name, width)| format!("{name} {width}")).collect();
            let what =
                format!("{} has width {width} at {}, but the {site} of {} has {needed}", self.name(), self.hook(), model.name());
            let error = Error::shape(what);
            let error = match widths.iter().find(|(_, size)| *size == width) {
                Some((fit, _)) => error.help(format!("{width} is the width of this model's {fit}: is the hook right?")),
                None => error,
            };
            return Err(error.help(format!("widths of {}: {}", model.name(), sizes.join(", "))));
        }
        [self.0.layer, self.written().1].into_iter().flatten().try_for_each(|layer| model.check_layer(layer))
    }

    /// True when what it writes is in the residual stream that the attention of `layer` reads; directions without a layer
    /// may stand anywhere.
    pub fn written_before_attention(&self, layer: usize, model: &Model) -> bool {
        let (site, at) = self.written();
        let writes = site.writes_at(at, model.cfg().parallel);
        writes.is_none_or(|stage| stage <= site::Stage::attention_reads(layer))
    }

    /// The place where it writes.
    fn written(&self) -> (Site, Option<usize>) {
        self.0.out.as_ref().map_or((self.0.site, self.0.layer), |out| (out.site, out.layer))
    }

    /// True when it reads the residual stream after the attention of `layer` has written.
    pub fn reads_after_attention(&self, layer: usize, model: &Model) -> bool {
        let reads = self.0.site.reads_at(self.0.layer, model.cfg().parallel);
        reads.is_none_or(|stage| stage >= site::Stage::attention_writes(layer))
    }

    /// b_dec where it is a point of the residual stream `[d_model]`: the constant that the dictionary puts there.
    ///
    /// # Errors
    /// The dictionary does not fit the model.
    pub fn residual_bias(&self, model: &Model) -> Result<Option<Tensor>> {
        self.check_fits(model)?;
        Ok(match self.written().0 {
            Site::ResidPre | Site::ResidMid | Site::ResidPost => self.b_dec(),
            _ => None,
        })
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dictionary {} ({} features at {}, {})", self.name(), self.n(), self.hook(), self.0.activation.name())
    }
}
