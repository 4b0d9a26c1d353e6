//! Places in a forward pass by their TransformerLens names, what is kept of them, and edits that change them.

use crate::error::{Error, Result, nearest};
use crate::model::Config;
use crate::options::Ids;
use crate::tensor::Tensor;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

crate::choice! {
    /// A place in one layer, in the order of the pass. Shapes: n positions, then what follows.
    pub enum Spot {
        /// The residual stream that enters the layer, `[n, d_model]`.
        ResidPre = "hook_resid_pre",
        /// Normalised, before gain and bias, `[n, d_model]`.
        Ln1Normalized = "ln1.hook_normalized",
        /// Queries before q-norm and rotation, `[n, n_heads, d_head]`.
        Q = "attn.hook_q",
        /// Keys before k-norm and rotation, `[n, n_kv_heads, d_head]`.
        K = "attn.hook_k",
        /// Values, `[n, n_kv_heads, d_head]`.
        V = "attn.hook_v",
        /// Queries as they are scored, `[n, n_heads, d_head]`.
        RotQ = "attn.hook_rot_q",
        /// Keys as they are scored, `[n, n_kv_heads, d_head]`.
        RotK = "attn.hook_rot_k",
        /// Scores after scale and softcap, −∞ where masked, `[n_heads, n, n]`.
        Scores = "attn.hook_attn_scores",
        /// Their softmax over keys, `[n_heads, n, n]`.
        Pattern = "attn.hook_pattern",
        /// Heads' outputs before W_O, `[n, n_heads, d_head]`.
        Z = "attn.hook_z",
        /// What attention adds to the residual stream, post-norm included, `[n, d_model]`.
        AttnOut = "hook_attn_out",
        /// Between attention and MLP, `[n, d_model]`; parallel models have none.
        ResidMid = "hook_resid_mid",
        /// What the MLP reads, before its norm: a copy of the residual stream, `[n, d_model]`.
        MlpIn = "hook_mlp_in",
        /// Normalised, before gain and bias, `[n, d_model]`.
        Ln2Normalized = "ln2.hook_normalized",
        /// What the MLP's matrices read: normalised, gain and bias included, `[n, d_model]`.
        MlpInput = "mlp.hook_in",
        /// Before the activation function (the gate's side of a gated MLP), `[n, d_mlp]`.
        Pre = "mlp.hook_pre",
        /// The linear side of a gated MLP, `[n, d_mlp]`.
        PreLinear = "mlp.hook_pre_linear",
        /// Neurons: after the activation function, times the linear side, `[n, d_mlp]`.
        Post = "mlp.hook_post",
        /// What the MLP adds to the residual stream, post-norm included, `[n, d_model]`.
        MlpOut = "hook_mlp_out",
        /// The residual stream that leaves the layer, `[n, d_model]`.
        #[default]
        ResidPost = "hook_resid_post",
    }
}

/// A place in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Token embeddings, scaled as the model scales them: `hook_embed`.
    Embed,
    /// Learned positions: `hook_pos_embed`.
    PosEmbed,
    /// In one layer: `blocks.3.hook_resid_post`.
    Block(usize, Spot),
    /// The last norm, before gain and bias: `ln_final.hook_normalized`.
    FinalNormalized,
}

impl Hook {
    /// The place of a name.
    ///
    /// # Errors
    /// No place is called so, the layer is out of range, or the model has no such place.
    pub fn parse(name: &str, cfg: &Config) -> Result<Self> {
        let hook = match name {
            "hook_embed" => Hook::Embed,
            "hook_pos_embed" => Hook::PosEmbed,
            "ln_final.hook_normalized" => Hook::FinalNormalized,
            _ => Self::in_block(name)?,
        };
        let missing = |why: &str| Err(Error::input(format!("this model has no `{name}`: {why}")));
        match hook {
            Hook::PosEmbed if cfg.rope_theta.is_some() => missing("its positions are rotary"),
            Hook::Block(layer, _) if layer >= cfg.n_layers => {
                Err(Error::input(format!("`{name}`: there are {} layers, numbered from 0", cfg.n_layers)))
            }
            Hook::Block(_, Spot::ResidMid) if cfg.parallel => {
                missing("attention and MLP both read hook_resid_pre (a parallel architecture)")
            }
            Hook::Block(_, Spot::PreLinear) if !cfg.gated => missing("its MLP has no gate"),
            hook => Ok(hook),
        }
    }

    /// Every place of a model.
    pub fn all(cfg: &Config) -> Vec<Self> {
        let blocks = (0..cfg.n_layers).flat_map(|layer| Spot::ALL.iter().map(move |spot| Hook::Block(layer, *spot)));
        let all = [Hook::Embed, Hook::PosEmbed].into_iter().chain(blocks).chain([Hook::FinalNormalized]);
        all.filter(|hook| Hook::parse(&hook.name(), cfg).is_ok()).collect()
    }

    fn in_block(name: &str) -> Result<Self> {
        let parts = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let layer = parts.and_then(|(layer, _)| layer.parse::<usize>().ok());
        let place = parts.map_or(name, |(_, place)| place);
        if let (Some(layer), Some(spot)) = (layer, Spot::ALL.iter().find(|spot| spot.name() == place)) {
            return Ok(Hook::Block(layer, *spot));
        }
        let known = Spot::ALL.iter().map(|spot| Hook::Block(layer.unwrap_or(0), *spot).name());
        let known: Vec<_> = known.chain(["hook_embed".into(), "ln_final.hook_normalized".into()]).collect();
        let error = Error::input(format!("no hook is called `{name}`"));
        let error = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        };
        let spots: Vec<_> = Spot::ALL.iter().map(|spot| spot.name()).collect();
        Err(error.help(format!(
            "hooks are hook_embed, hook_pos_embed, ln_final.hook_normalized, and after `blocks.N.`: {}",
            spots.join(", ")
        )))
    }

    /// Its TransformerLens name.
    pub fn name(self) -> String {
        match self {
            Hook::Embed => "hook_embed".into(),
            Hook::PosEmbed => "hook_pos_embed".into(),
            Hook::FinalNormalized => "ln_final.hook_normalized".into(),
            Hook::Block(layer, spot) => format!("blocks.{layer}.{}", spot.name()),
        }
    }

    /// Number of heads at it; `None` where there are none.
    pub(super) fn heads(self, cfg: &Config) -> Option<usize> {
        match self {
            Hook::Block(_, Spot::K | Spot::V | Spot::RotK) => Some(cfg.n_kv_heads),
            Hook::Block(_, Spot::Q | Spot::RotQ | Spot::Z | Spot::Scores | Spot::Pattern) => Some(cfg.n_heads),
            _ => None,
        }
    }

    /// True for scores and patterns, `[n_heads, n, n]`.
    pub fn is_map(self) -> bool {
        matches!(self, Hook::Block(_, Spot::Scores | Spot::Pattern))
    }

    /// Where the pass has computed it: nothing beyond this layer is needed for it. `None`: the whole pass.
    pub(super) fn layer(self) -> Option<usize> {
        match self {
            Hook::Embed | Hook::PosEmbed => Some(0),
            Hook::Block(layer, _) => Some(layer),
            Hook::FinalNormalized => None,
        }
    }
}

/// A change of activations: rows `[m, width]` in, rows of the same shape out.
pub type Change = Arc<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;

/// What an edit does.
#[derive(Clone)]
pub enum Op {
    /// Adds a vector (to every row chosen), or rows.
    Add(Tensor),
    /// Multiplies by a number.
    Scale(f32),
    /// Puts a vector or rows in place.
    Replace(Tensor),
    /// Sets to 0.
    Ablate,
    /// Anything else.
    Apply(Change),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Add(value) => write!(f, "add {:?}", value.shape()),
            Op::Scale(factor) => write!(f, "scale by {factor}"),
            Op::Replace(value) => write!(f, "replace by {:?}", value.shape()),
            Op::Ablate => write!(f, "ablate"),
            Op::Apply(_) => write!(f, "a function"),
        }
    }
}

/// A change at one place, before anything reads it (and before it is kept).
#[derive(Clone, Debug)]
pub struct Edit {
    /// Where.
    pub hook: Hook,
    /// What.
    pub op: Op,
    /// At which positions (of queries, in scores and patterns); all without.
    pub positions: Option<Ids>,
    /// Of which head (kv head, for keys and values); all without.
    pub head: Option<usize>,
}

/// An activation on its way: rows of heads of numbers; maps are heads of rows of numbers.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub rows: usize,
    /// 1 where there are no heads.
    pub heads: usize,
    pub width: usize,
}

/// Edits and places to keep, during one pass.
pub(super) struct Taps<'a> {
    pub edits: &'a [Edit],
    pub keep: &'a [Hook],
    pub kept: Vec<(Hook, Tensor)>,
    /// Rows of each sequence.
    pub sequences: &'a [Range<usize>],
}

impl Taps<'_> {
    /// True where something is edited or kept.
    pub fn wants(&self, hook: Hook) -> bool {
        self.edits.iter().any(|edit| edit.hook == hook) || self.keep.contains(&hook)
    }

    /// Lets edits change an activation, and keeps it where it is asked for.
    pub fn at(&mut self, hook: Hook, values: &mut [f32], shape: Shape) -> Result<()> {
        self.edit(hook, values, shape)?;
        self.keep(hook, values, shape)
    }

    /// Lets edits change an activation.
    pub fn edit(&self, hook: Hook, values: &mut [f32], shape: Shape) -> Result<()> {
        for edit in self.edits.iter().filter(|edit| edit.hook == hook) {
            apply(edit, values, shape, self.sequences).map_err(|e| e.context(format!("editing {}", hook.name())))?;
        }
        Ok(())
    }

    /// Keeps an activation where it is asked for.
    pub fn keep(&mut self, hook: Hook, values: &[f32], shape: Shape) -> Result<()> {
        if self.keep.contains(&hook) && !self.kept.iter().any(|(known, _)| *known == hook) {
            let Shape { rows, heads, width } = shape;
            let dims = match hook {
                _ if hook.is_map() => vec![heads, rows, width],
                Hook::Block(_, Spot::Q | Spot::K | Spot::V | Spot::RotQ | Spot::RotK | Spot::Z) => vec![rows, heads, width],
                _ => vec![rows, heads * width],
            };
            self.kept.push((hook, Tensor::from_f32(values.to_vec(), &dims)?));
        }
        Ok(())
    }
}

/// Runs of numbers that an edit changes, one for each position (and head, where there are several and none is named in a
/// map).
fn chosen(edit: &Edit, shape: Shape, sequences: &[Range<usize>]) -> Result<(Vec<Range<usize>>, usize)> {
    let Shape { rows, heads, width } = shape;
    let mut positions = Vec::new();
    for sequence in sequences {
        match &edit.positions {
            None => positions.extend(sequence.clone()),
            Some(ids) => positions.extend(ids.resolve(sequence.len(), "position")?.iter().map(|p| sequence.start + p)),
        }
    }
    if edit.hook.is_map() {
        let of_head = |head: usize| positions.iter().map(move |p| (head * rows + p) * width);
        let starts: Vec<_> = match edit.head {
            Some(head) => of_head(head).collect(),
            None => (0..heads).flat_map(of_head).collect(),
        };
        return Ok((starts.into_iter().map(|start| start..start + width).collect(), width));
    }
    let (offset, run) = match edit.head {
        Some(head) => (head * width, width),
        None => (0, heads * width),
    };
    let runs = positions.iter().map(|p| p * heads * width + offset).map(|start| start..start + run).collect();
    Ok((runs, run))
}

fn apply(edit: &Edit, values: &mut [f32], shape: Shape, sequences: &[Range<usize>]) -> Result<()> {
    let (runs, width) = chosen(edit, shape, sequences)?;
    let operand = |value: &Tensor| -> Result<Vec<f32>> {
        // One run, or as many as are changed; where a run is all heads', these may stand apart.
        let mut row = vec![vec![width]];
        if edit.head.is_none() && !edit.hook.is_map() && shape.heads > 1 {
            row.push(vec![shape.heads, shape.width]);
        }
        let mut rows: Vec<Vec<usize>> = row.iter().map(|row| [&[runs.len()], &row[..]].concat()).collect();
        if edit.hook.is_map() && edit.head.is_none() {
            rows.push(vec![shape.heads, runs.len() / shape.heads, width]);
        }
        let given = value.shape();
        let one = row.iter().any(|row| given == row || given == [&[1], &row[..]].concat());
        if one {
            return Ok(value.to_f32().repeat(runs.len()));
        }
        if rows.iter().any(|rows| given == rows) {
            return Ok(value.to_f32());
        }
        Err(Error::shape(format!("a value of shape {given:?} does not fit: {:?} is needed, or {:?}", row[0], rows[0])))
    };
    let mut combine = |value: &[f32], f: fn(&mut f32, f32)| {
        for (run, row) in runs.iter().zip(value.chunks_exact(width.max(1))) {
            values[run.clone()].iter_mut().zip(row).for_each(|(v, x)| f(v, *x));
        }
    };
    match &edit.op {
        Op::Add(value) => combine(&operand(value)?, |v, x| *v += x),
        Op::Replace(value) => combine(&operand(value)?, |v, x| *v = x),
        Op::Scale(factor) => runs.iter().for_each(|run| values[run.clone()].iter_mut().for_each(|v| *v *= factor)),
        Op::Ablate => runs.iter().for_each(|run| values[run.clone()].fill(0.0)),
        Op::Apply(change) => {
            let rows: Vec<f32> = runs.iter().flat_map(|run| values[run.clone()].iter().copied()).collect();
            let rows = Tensor::from_f32(rows, &[runs.len(), width])?;
            let changed = change(&rows)?;
            if changed.shape() != rows.shape() {
                return Err(Error::shape(format!("an edit made {:?} of {:?}", changed.shape(), rows.shape())));
            }
            let changed = changed.to_f32();
            for (run, row) in runs.iter().zip(changed.chunks_exact(width.max(1))) {
                values[run.clone()].copy_from_slice(row);
            }
        }
    }
    Ok(())
}
