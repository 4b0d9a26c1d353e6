//! The forward pass: one for every architecture, in f32 whatever the file's dtype, with hooks by TransformerLens's names.
//!
//! * `weights`: the model's weights made ready. * `attention`: scores to values. * `hooks`: places, what is kept, edits.
//! * `generate`: text continued token by token.
//!
//! The pass is written for several sequences at once, packed row by row; nothing is padded. Every weight is packed once
//! for the product kernel ([`Packed`]), in f32.

mod attention;
mod generate;
mod hooks;
mod weights;

pub use generate::{GenerateOptions, SteerOptions, generate};
pub use hooks::{Change, Edit, Hook, Op, Spot};

use super::{Config, Model, Norm, Rope};
use crate::compute::pointwise::{self, Pointwise};
use crate::compute::product::Packed;
use crate::error::{Error, Result};
use crate::model::Act;
use crate::tensor::Tensor;
use crate::work::Work;
use attention::{Heads, Sequence};
use hooks::{Shape, Taps};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;
use weights::{Layer, Linear, NormWeights};

/// Rows that one task normalises, rotates or activates.
const STEP: usize = 16;

/// A model made ready to run. It holds the layers' weights in f32, and the unembedding once logits were asked for.
pub struct Forward {
    cfg: Config,
    embed: Tensor,
    embed_scale: f32,
    w_u: Tensor,
    /// Packed with the first logits: whoever asks for activations alone does without the largest weight.
    unembed: OnceLock<Packed>,
    positions: Option<Tensor>,
    layers: Vec<Layer>,
    rotations: Vec<Rope>,
    ln_final: NormWeights,
}

/// What a pass is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Places whose activations are kept.
    pub keep: Vec<Hook>,
    /// Changes on the way.
    pub edits: Vec<Edit>,
    /// Which logits are computed.
    pub logits: Logits,
}

/// Which logits a pass computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// None: the pass ends where nothing more is asked for.
    None,
    /// Those of every position.
    #[default]
    All,
    /// Those of each sequence's last position.
    Last,
}

/// What a pass gives.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The ids that were run, of all sequences one after another.
    pub tokens: Vec<usize>,
    /// `[n, d_vocab]`, rows of all sequences one after another; `None` where none were asked for.
    pub logits: Option<Tensor>,
    /// Activations by place, in the order of the pass. Shapes: see [`Spot`].
    pub kept: Vec<(Hook, Tensor)>,
}

/// Keys and values of the positions so far, for text that is continued token by token.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<[Vec<f32>; 2]>,
    len: usize,
}

impl KvCache {
    /// Positions so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first pass.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Forward {
    /// Makes a model ready: widens its layers' weights.
    ///
    /// # Errors
    /// A rotary scaling that is not known, or the user's interruption.
    pub(super) fn new(model: &Model, work: &Work) -> Result<Self> {
        let cfg = model.cfg().clone();
        let mut rotations: Vec<Rope> = Vec::new();
        let mut rotation_of = Vec::new();
        for layer in 0..cfg.n_layers {
            let rope = model.rope(layer)?;
            let known = rotations.iter().position(|known| *known == rope);
            rotation_of.push(known.unwrap_or(rotations.len()));
            if known.is_none() {
                rotations.push(rope);
            }
        }
        let progress = work.begin("widening weights", cfg.n_layers as u64);
        let layers = work.install(|| {
            let one = |(layer, rotation): (usize, &usize)| {
                work.check()?;
                let ready = Layer::new(model, layer, *rotation, work);
                progress.advance(1);
                ready
            };
            rotation_of.par_iter().enumerate().map(one).collect::<Result<Vec<_>>>()
        })?;
        Ok(Forward {
            embed: model.w_e(),
            // The model's own factor is rounded to the file's dtype; a pass in f32 takes it exact, as transformers and
            // llama.cpp do.
            embed_scale: if cfg.embed_scale == 1.0 { 1.0 } else { (cfg.d_model as f32).sqrt() },
            w_u: model.w_u().t(),
            unembed: OnceLock::new(),
            positions: model.w_pos(),
            ln_final: NormWeights::get(model, "ln_final")?,
            cfg,
            layers,
            rotations,
        })
    }

    /// Runs texts, given as token ids, side by side; each sees only itself.
    ///
    /// # Errors
    /// No token, a token or a text beyond what the model knows, an edit that does not fit, patterns of several texts at once,
    /// or the user's interruption.
    pub fn run(&self, texts: &[&[usize]], request: &Request, work: &Work) -> Result<Pass> {
        self.pass(texts, None, request, work)
    }

    /// Runs the next tokens of a text whose earlier ones are in `cache`, and adds them to it.
    ///
    /// # Errors
    /// As [`Forward::run`].
    pub fn extend(&self, tokens: &[usize], cache: &mut KvCache, request: &Request, work: &Work) -> Result<Pass> {
        self.pass(&[tokens], Some(cache), request, work)
    }

    fn pass(&self, texts: &[&[usize]], mut cache: Option<&mut KvCache>, request: &Request, work: &Work) -> Result<Pass> {
        let past = cache.as_ref().map_or(0, |cache| cache.len);
        self.check(texts, past, request)?;
        let mut sequences: Vec<Range<usize>> = Vec::with_capacity(texts.len());
        for text in texts {
            let start = sequences.last().map_or(0, |last| last.end);
            sequences.push(start..start + text.len());
        }
        let rows = sequences.last().map_or(0, |last| last.end);
        let tokens: Vec<usize> = texts.iter().flat_map(|text| text.iter().copied()).collect();
        let positions: Vec<usize> = sequences.iter().flat_map(|s| past..past + s.len()).collect();
        let d_model = self.cfg.d_model;
        let stream = Shape { rows, heads: 1, width: d_model };
        let mut taps = Taps { edits: &request.edits, keep: &request.keep, kept: Vec::new(), sequences: &sequences };

        let mut x = self.gather(&self.embed, &tokens, work)?;
        x.iter_mut().for_each(|v| *v *= self.embed_scale);
        taps.at(Hook::Embed, &mut x, stream)?;
        if let Some(table) = &self.positions {
            let mut embedded = self.gather(table, &positions, work)?;
            taps.at(Hook::PosEmbed, &mut embedded, stream)?;
            add(&mut x, &embedded);
        }
        let rotations: Vec<Rotation> = self.rotations.iter().map(|rope| Rotation::new(rope, &positions)).collect();

        // Beyond the last place that is asked for nothing need be computed.
        let needs_all = request.logits != Logits::None || request.keep.iter().any(|hook| hook.layer().is_none());
        let last = request.keep.iter().filter_map(|hook| hook.layer()).max();
        let n_layers = if needs_all { self.cfg.n_layers } else { last.map_or(0, |last| last + 1) };
        if let Some(cache) = &mut cache {
            cache.layers.resize(self.cfg.n_layers, [Vec::new(), Vec::new()]);
        }
        for (index, layer) in self.layers.iter().enumerate().take(n_layers) {
            work.check()?;
            let at = |spot| Hook::Block(index, spot);
            taps.at(at(Spot::ResidPre), &mut x, stream)?;
            let normed = self.norm(&layer.ln1, &x, at(Spot::Ln1Normalized), &mut taps, work)?;
            let cached = cache.as_mut().map(|cache| &mut cache.layers[index]);
            let z = self.attention(layer, index, &normed, &rotations[layer.rotation], cached, &mut taps, work)?;
            let mut attn_out = apply(&layer.o, &z, work)?;
            if let Some(norm) = &layer.ln1_post {
                attn_out = normalised(norm, &attn_out, work);
                finish(norm, &mut attn_out, work);
            }
            taps.at(at(Spot::AttnOut), &mut attn_out, stream)?;
            if !self.cfg.parallel {
                add(&mut x, &attn_out);
                taps.at(at(Spot::ResidMid), &mut x, stream)?;
            }
            let mut normed = if taps.wants(at(Spot::MlpIn)) {
                let mut mlp_in = x.clone();
                taps.at(at(Spot::MlpIn), &mut mlp_in, stream)?;
                self.norm(&layer.ln2, &mlp_in, at(Spot::Ln2Normalized), &mut taps, work)?
            } else {
                self.norm(&layer.ln2, &x, at(Spot::Ln2Normalized), &mut taps, work)?
            };
            taps.at(at(Spot::MlpInput), &mut normed, stream)?;
            let neurons = self.neurons(layer, index, &normed, &mut taps, work)?;
            let mut mlp_out = apply(&layer.output, &neurons, work)?;
            if let Some(norm) = &layer.ln2_post {
                mlp_out = normalised(norm, &mlp_out, work);
                finish(norm, &mut mlp_out, work);
            }
            taps.at(at(Spot::MlpOut), &mut mlp_out, stream)?;
            if self.cfg.parallel {
                add(&mut x, &attn_out);
            }
            add(&mut x, &mlp_out);
            taps.at(at(Spot::ResidPost), &mut x, stream)?;
            refuse_broken(&x, || format!("the residual stream after layer {index}"))?;
        }
        if let Some(cache) = &mut cache {
            cache.len += rows;
        }
        let logits = if needs_all { self.logits(&x, request.logits, &mut taps, work)? } else { None };
        Ok(Pass { logits, kept: taps.kept, tokens })
    }

    fn check(&self, texts: &[&[usize]], past: usize, request: &Request) -> Result<()> {
        if texts.iter().any(|text| text.is_empty()) || texts.is_empty() {
            return Err(Error::input("a text without tokens cannot be run").help("give at least one token"));
        }
        if let Some(bad) = texts.iter().copied().flatten().find(|id| **id >= self.cfg.d_vocab) {
            return Err(Error::input(format!("token {bad} is out of range: there are {} tokens", self.cfg.d_vocab)));
        }
        let longest = past + texts.iter().map(|text| text.len()).max().unwrap_or(0);
        if let Some(n_ctx) = self.cfg.n_ctx.filter(|n_ctx| longest > *n_ctx) {
            return Err(Error::input(format!("a text of {longest} tokens is longer than the model's context of {n_ctx}"))
                .help("cut it into pieces"));
        }
        for edit in &request.edits {
            self.check_edit(edit, texts).map_err(|e| e.context(format!("editing {}", edit.hook.name())))?;
        }
        let maps = request.keep.iter().copied().chain(request.edits.iter().map(|edit| edit.hook)).find(|hook| hook.is_map());
        match maps {
            Some(hook) if texts.len() > 1 => {
                Err(Error::input(format!("{} is a map of one text: run the {} texts one by one", hook.name(), texts.len())))
            }
            _ => Ok(()),
        }
    }

    fn check_edit(&self, edit: &Edit, texts: &[&[usize]]) -> Result<()> {
        match (edit.head, edit.hook.heads(&self.cfg)) {
            (Some(_), None) => return Err(Error::input("there are no heads at this hook")),
            (Some(head), Some(heads)) if head >= heads => {
                return Err(Error::input(format!(
                    "head {head} is out of range: there are {heads} at this hook, numbered from 0"
                )));
            }
            _ => {}
        }
        if let Op::Scale(factor) = edit.op
            && !factor.is_finite()
        {
            return Err(Error::input(format!("the factor {factor} is not finite")));
        }
        if let Op::Add(value) | Op::Replace(value) = &edit.op
            && value.to_f32().iter().any(|v| !v.is_finite())
        {
            return Err(Error::input("the value holds numbers that are not finite"));
        }
        let Some(positions) = &edit.positions else { return Ok(()) };
        for text in texts {
            let mut found = positions.resolve(text.len(), "position")?;
            found.sort_unstable();
            if let Some(twice) = found.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(Error::input(format!("position {} is named twice", twice[0])));
            }
        }
        Ok(())
    }

    /// Rows of a table, widened.
    fn gather(&self, table: &Tensor, rows: &[usize], work: &Work) -> Result<Vec<f32>> {
        let (n, d) = table.matrix_shape("a table of embeddings")?;
        if let Some(bad) = rows.iter().find(|row| **row >= n) {
            return Err(Error::input(format!("position {bad} lies beyond the model's {n}")));
        }
        let mut out = vec![0.0; rows.len() * d];
        work.install(|| {
            let parts = out.par_chunks_mut(d.max(1)).zip(rows);
            parts.for_each(|(out, row)| table.widen_block(*row..row + 1, 0..d, out));
        });
        Ok(out)
    }

    /// A norm with its hook between division and gain.
    fn norm(&self, norm: &NormWeights, x: &[f32], hook: Hook, taps: &mut Taps<'_>, work: &Work) -> Result<Vec<f32>> {
        let mut normed = normalised(norm, x, work);
        let width = norm.gain.len();
        taps.at(hook, &mut normed, Shape { rows: x.len() / width, heads: 1, width })?;
        finish(norm, &mut normed, work);
        Ok(normed)
    }

    /// z `[n, n_heads · d_head]` of a layer.
    #[expect(clippy::too_many_arguments, reason = "a step of `pass`, which has them all at hand")]
    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        normed: &[f32],
        rotation: &Rotation,
        cached: Option<&mut [Vec<f32>; 2]>,
        taps: &mut Taps<'_>,
        work: &Work,
    ) -> Result<Vec<f32>> {
        let Config { n_heads, n_kv_heads, d_head, .. } = self.cfg;
        let at = |spot| Hook::Block(index, spot);
        let rows = normed.len() / self.cfg.d_model;
        let queries = Shape { rows, heads: n_heads, width: d_head };
        let kvs = Shape { rows, heads: n_kv_heads, width: d_head };
        let mut q = apply(&layer.q, normed, work)?;
        let mut k = apply(&layer.k, normed, work)?;
        let mut v = apply(&layer.v, normed, work)?;
        taps.at(at(Spot::Q), &mut q, queries)?;
        taps.at(at(Spot::K), &mut k, kvs)?;
        taps.at(at(Spot::V), &mut v, kvs)?;
        for (x, norm) in [(&mut q, &layer.q_norm), (&mut k, &layer.k_norm)] {
            if let Some(norm) = norm {
                *x = normalised(norm, x, work);
                finish(norm, x, work);
            }
        }
        rotation.turn(&mut q, n_heads, d_head, work);
        rotation.turn(&mut k, n_kv_heads, d_head, work);
        taps.at(at(Spot::RotQ), &mut q, queries)?;
        taps.at(at(Spot::RotK), &mut k, kvs)?;
        let heads = Heads {
            n_heads,
            n_kv_heads,
            d_head,
            scale: self.cfg.attn_scale_of(index) as f32,
            softcap: self.cfg.attn_softcap.map(|cap| cap as f32),
            window: layer.window,
        };
        let mut z = match cached {
            Some([keys, values]) => {
                keys.extend_from_slice(&k);
                values.extend_from_slice(&v);
                self.values_of(&heads, index, &[Sequence { q: &q, k: keys, v: values }], taps, work)?
            }
            None => {
                let part = |range: &Range<usize>, heads: usize| range.start * heads * d_head..range.end * heads * d_head;
                let of = |range| Sequence {
                    q: &q[part(range, n_heads)],
                    k: &k[part(range, n_kv_heads)],
                    v: &v[part(range, n_kv_heads)],
                };
                let sequences: Vec<_> = taps.sequences.iter().map(of).collect();
                self.values_of(&heads, index, &sequences, taps, work)?
            }
        };
        taps.at(at(Spot::Z), &mut z, queries)?;
        Ok(z)
    }

    /// z, by way of whole maps where scores or pattern are asked for.
    fn values_of(
        &self,
        heads: &Heads,
        index: usize,
        sequences: &[Sequence<'_>],
        taps: &mut Taps<'_>,
        work: &Work,
    ) -> Result<Vec<f32>> {
        let [scores, pattern] = [Spot::Scores, Spot::Pattern].map(|spot| Hook::Block(index, spot));
        let [sequence] = sequences else { return heads.attend(sequences, work) };
        if !taps.wants(scores) && !taps.wants(pattern) {
            return heads.attend(sequences, work);
        }
        let rows = sequence.q.len() / (heads.n_heads * heads.d_head);
        let width = sequence.k.len() / (heads.n_kv_heads * heads.d_head);
        let shape = Shape { rows, heads: heads.n_heads, width };
        let mut map = heads.score_map(sequence, work)?;
        taps.edit(scores, &mut map, shape)?;
        // No edit lets a query see what comes after it.
        heads.mask(&mut map, rows, width);
        taps.keep(scores, &map, shape)?;
        map.chunks_exact_mut(width).for_each(pointwise::softmax);
        taps.at(pattern, &mut map, shape)?;
        heads.attend_by(&map, sequence, work)
    }

    /// The MLP's neurons after their activation function, `[n, d_mlp]`.
    fn neurons(&self, layer: &Layer, index: usize, normed: &[f32], taps: &mut Taps<'_>, work: &Work) -> Result<Vec<f32>> {
        let width = self.cfg.d_mlp;
        let shape = Shape { rows: normed.len() / self.cfg.d_model, heads: 1, width };
        let at = |spot| Hook::Block(index, spot);
        let mut linear = apply(&layer.input, normed, work)?;
        let mut neurons = match &layer.gate {
            Some(gate) => {
                let mut gate = apply(gate, normed, work)?;
                taps.at(at(Spot::Pre), &mut gate, shape)?;
                taps.at(at(Spot::PreLinear), &mut linear, shape)?;
                activate(self.cfg.act, &mut gate, Some(&linear), width, work);
                gate
            }
            None => {
                taps.at(at(Spot::Pre), &mut linear, shape)?;
                activate(self.cfg.act, &mut linear, None, width, work);
                linear
            }
        };
        taps.at(at(Spot::Post), &mut neurons, shape)?;
        Ok(neurons)
    }

    fn logits(&self, x: &[f32], which: Logits, taps: &mut Taps<'_>, work: &Work) -> Result<Option<Tensor>> {
        let d_model = self.cfg.d_model;
        let normed = self.norm(&self.ln_final, x, Hook::FinalNormalized, taps, work)?;
        let rows = match which {
            Logits::None => return Ok(None),
            Logits::All => normed,
            Logits::Last => {
                let ends = taps.sequences.iter().map(|s| s.end * d_model);
                ends.flat_map(|end| normed[end - d_model..end].iter().copied()).collect()
            }
        };
        let n = rows.len() / d_model;
        let unembed = match self.unembed.get() {
            Some(packed) => packed,
            None => {
                let packed = Packed::new(&self.w_u, work)?;
                self.unembed.get_or_init(|| packed)
            }
        };
        let mut logits = Tensor::from_f32(unembed.apply(&rows, None, work)?, &[n, self.cfg.d_vocab])?;
        if let Some(cap) = self.cfg.final_softcap {
            let d_vocab = self.cfg.d_vocab;
            let values = logits.make_mut_f32();
            work.install(|| {
                values.par_chunks_mut(d_vocab).for_each(|row| pointwise::apply(Pointwise::Softcap(cap as f32), row, None));
            });
        }
        refuse_broken(&logits.f32_cow(), || "what the final norm and the unembedding give".to_string())?;
        Ok(Some(logits))
    }
}

impl Pass {
    /// What was kept at a hook.
    ///
    /// # Errors
    /// Nothing was.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let found = self.kept.iter().find(|(hook, _)| hook.name() == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| {
            let kept: Vec<_> = self.kept.iter().map(|(hook, _)| hook.name()).collect();
            let error = Error::input(format!("`{name}` was not kept"));
            match kept.as_slice() {
                [] => error.help("name the hooks to keep: model.run(text, #{hooks: [\"blocks.0.hook_resid_post\"]})"),
                kept => error.help(format!("kept are: {}", kept.join(", "))),
            }
        })
    }
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActivationCache of {} tokens", self.tokens.len())?;
        if let Some(logits) = &self.logits {
            write!(f, "\n  logits {:?}", logits.shape())?;
        }
        self.kept.iter().try_for_each(|(hook, tensor)| write!(f, "\n  {} {:?}", hook.name(), tensor.shape()))
    }
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forward ({}, {} layers)", self.cfg.arch, self.cfg.n_layers)
    }
}

fn apply(map: &Linear, x: &[f32], work: &Work) -> Result<Vec<f32>> {
    map.weight.apply(x, map.bias.as_deref(), work)
}

/// Fails where a result is no number, so that nobody takes what follows from it for the model's.
fn refuse_broken(values: &[f32], what: impl Fn() -> String) -> Result<()> {
    let broken = values.iter().filter(|v| !v.is_finite()).count();
    if broken == 0 {
        return Ok(());
    }
    Err(Error::input(format!("{} has {broken} of {} values that are NaN or infinite", what(), values.len()))
        .help("the weights up to there hold such numbers, or an edit has driven the stream beyond the range of f32"))
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// x / rms(x), or (x − mean) / std, row by row; sums in f64.
fn normalised(norm: &NormWeights, x: &[f32], work: &Work) -> Vec<f32> {
    let width = norm.gain.len().max(1);
    let mut out = x.to_vec();
    work.install(|| {
        out.par_chunks_mut(width).with_min_len(STEP).for_each(|row| {
            let n = row.len() as f64;
            if norm.kind == Norm::Layer {
                let mean = (sum(row, |v| v) / n) as f32;
                row.iter_mut().for_each(|v| *v -= mean);
            }
            let scale = (sum(row, |v| v * v) / n + norm.eps).sqrt().recip() as f32;
            row.iter_mut().for_each(|v| *v *= scale);
        });
    });
    out
}

/// A sum in f64, with as many accumulators as lets the processor work on several at once.
fn sum(row: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut totals = [0.0; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (total, v) in totals.iter_mut().zip(eight) {
            *total += f(f64::from(*v));
        }
    }
    totals.iter().sum::<f64>() + rest.iter().map(|v| f(f64::from(*v))).sum::<f64>()
}

/// Times the gain, plus the bias.
fn finish(norm: &NormWeights, x: &mut [f32], work: &Work) {
    let width = norm.gain.len().max(1);
    work.install(|| {
        x.par_chunks_mut(STEP * width).for_each(|rows| {
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&norm.gain).for_each(|(v, g)| *v *= g);
                if let Some(bias) = &norm.bias {
                    add(row, bias);
                }
            }
        });
    });
}

fn activate(act: Act, gate: &mut [f32], up: Option<&[f32]>, width: usize, work: &Work) {
    let step = STEP * width.max(1);
    work.install(|| {
        gate.par_chunks_mut(step).enumerate().for_each(|(i, gate)| {
            let up = up.map(|up| &up[i * step..i * step + gate.len()]);
            match act {
                Act::Silu => pointwise::apply(Pointwise::Silu, gate, up),
                Act::GeluTanh => pointwise::apply(Pointwise::GeluTanh, gate, up),
                Act::Gelu | Act::Relu => {
                    gate.iter_mut().for_each(|v| *v = act.apply(*v));
                    if let Some(up) = up {
                        gate.iter_mut().zip(up).for_each(|(v, up)| *v *= up);
                    }
                }
            }
        });
    });
}

/// Sines and cosines of a rotation at the rows of a pass.
struct Rotation {
    half: usize,
    /// `[n, half]`: cosine and sine.
    turns: Vec<(f32, f32)>,
}

impl Rotation {
    fn new(rope: &Rope, positions: &[usize]) -> Self {
        let angle = |position: &usize| {
            let position = *position as f64;
            rope.inverse_frequencies.iter().map(move |f| {
                let (sin, cos) = libm::sincos(position * f);
                (cos as f32, sin as f32)
            })
        };
        Rotation { half: rope.inverse_frequencies.len(), turns: positions.iter().flat_map(angle).collect() }
    }

    /// Turns rows of heads: dimension i with dimension i + half.
    fn turn(&self, x: &mut [f32], heads: usize, d_head: usize, work: &Work) {
        if self.half == 0 {
            return;
        }
        work.install(|| {
            let rows = x.par_chunks_exact_mut(heads * d_head).zip(self.turns.par_chunks_exact(self.half));
            rows.with_min_len(STEP).for_each(|(row, turns)| {
                for head in row.chunks_exact_mut(d_head) {
                    let (low, rest) = head.split_at_mut(self.half);
                    for ((a, b), (cos, sin)) in low.iter_mut().zip(rest).zip(turns) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            });
        });
    }
}
