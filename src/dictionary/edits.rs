//! Edits of a forward pass as scripts write them, those among them that need a dictionary, and what a run is asked for.

use super::Dictionary;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::forward::{Edit, Hook, Logits, Op, Request};
use crate::options::{Ids, Json, OptionMap, OptionValue, Options, Value};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;
use std::sync::Arc;

crate::options! {
    /// Options of `model.run`.
    pub struct RunOptions {
        /// Hooks whose activations are kept, by TransformerLens's names.
        hooks: Vec<String> = Vec::new(),
        /// Changes on the way: `#{hook, op, value, head, pos}` each; with op `"ablate_feature"` `#{hook, op, dict, feature}`.
        edits: Vec<OptionMap> = Vec::new(),
        /// Compute the logits; without them the pass ends after the last hook.
        logits: bool = true,
    }
}

crate::choice! {
    /// What an edit does.
    pub enum EditOp {
        /// Adds `value`, a vector or rows.
        #[default]
        Add = "add",
        /// Multiplies by the number `value`.
        Scale = "scale",
        /// Puts `value` in place, a vector or rows.
        Replace = "replace",
        /// Sets to 0.
        Ablate = "ablate",
        /// Takes away what the feature `feature` of `dict` contributes: x − a d.
        AblateFeature = "ablate_feature",
    }
}

crate::options! {
    /// One edit.
    pub struct EditOptions {
        /// Where, by TransformerLens's name.
        hook: String = String::new(),
        /// What is done.
        op: EditOp = EditOp::Add,
        /// A vector, rows, or (for `scale`) a number.
        value: Option<Amount> = None,
        /// Whose feature is ablated.
        dict: Option<Dictionary> = None,
        /// The feature's id.
        feature: Option<usize> = None,
        /// The head; all without. For keys and values the kv head.
        head: Option<usize> = None,
        /// The positions; all without. Negative ones count from the end.
        pos: Option<Ids> = None,
    }
}

/// A number or a tensor.
#[derive(Clone, Debug)]
pub enum Amount {
    /// A number.
    Number(f64),
    /// A tensor, or an array of numbers.
    Tensor(Tensor),
}

impl OptionValue for Amount {
    fn kind() -> String {
        "a number or a tensor".into()
    }
    fn read(value: &Value) -> Option<Self> {
        f64::read(value).map(Amount::Number).or_else(|| Tensor::read(value).map(Amount::Tensor))
    }
    fn canonical(&self) -> Json {
        match self {
            Amount::Number(number) => json!(number),
            Amount::Tensor(tensor) => tensor.canonical(),
        }
    }
}

impl OptionValue for Dictionary {
    fn kind() -> String {
        "a Dictionary".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Native { object, .. } => object.downcast_ref::<Dictionary>().cloned(),
            _ => None,
        }
    }
    fn canonical(&self) -> Json {
        self.id()
    }
}

/// What a run with these options is asked for.
///
/// # Errors
/// A hook that the model does not have, or an edit that is not whole.
pub fn request(model: &Model, options: &RunOptions, work: &Work) -> Result<Request> {
    let keep = options.hooks.iter().map(|name| Hook::parse(name, model.cfg())).collect::<Result<_>>()?;
    let one = |(i, map): (usize, &OptionMap)| {
        let edit = EditOptions::parse(map).and_then(|options| options.edit(model, work));
        edit.map_err(|e| e.context(format!("`edits`, entry {i}")))
    };
    let edits = options.edits.iter().enumerate().map(one).collect::<Result<_>>()?;
    Ok(Request { keep, edits, logits: if options.logits { Logits::All } else { Logits::None } })
}

impl EditOptions {
    fn edit(self, model: &Model, work: &Work) -> Result<Edit> {
        let op = self.op.name();
        let missing = |what: &str| Error::input(format!("op \"{op}\" needs `{what}`"));
        let name = match (&self.dict, self.hook.is_empty()) {
            (_, false) => self.hook.clone(),
            (Some(dict), true) => dict.hook().to_string(),
            (None, true) => return Err(missing("hook")),
        };
        let hook = Hook::parse(&name, model.cfg())?;
        let is_feature = self.op == EditOp::AblateFeature;
        let taken = [
            ("value", self.value.is_some() && !matches!(self.op, EditOp::Add | EditOp::Replace | EditOp::Scale)),
            ("dict", self.dict.is_some() && !is_feature),
            ("feature", self.feature.is_some() && !is_feature),
            ("head", self.head.is_some() && is_feature),
        ];
        if let Some((key, _)) = taken.into_iter().find(|(_, wrong)| *wrong) {
            return Err(Error::input(format!("op \"{op}\" takes no `{key}`")));
        }
        let tensor = || match &self.value {
            Some(Amount::Tensor(tensor)) => Ok(tensor.clone()),
            Some(Amount::Number(_)) => Err(Error::input(format!("op \"{op}\" takes a tensor as `value`, not a number"))),
            None => Err(missing("value")),
        };
        let op = match self.op {
            EditOp::Add => Op::Add(tensor()?),
            EditOp::Replace => Op::Replace(tensor()?),
            EditOp::Scale => match self.value {
                Some(Amount::Number(factor)) => Op::Scale(factor as f32),
                Some(Amount::Tensor(_)) => return Err(Error::input("op \"scale\" takes a number as `value`, not a tensor")),
                None => return Err(missing("value")),
            },
            EditOp::Ablate => Op::Ablate,
            EditOp::AblateFeature => {
                let dict = self.dict.ok_or_else(|| missing("dict"))?;
                if dict.hook() != name {
                    work.note(&format!("note: {} stands at {}, but its feature is ablated at {name}", dict.name(), dict.hook()));
                }
                dict.ablation(self.feature.ok_or_else(|| missing("feature"))?, work)?
            }
        };
        Ok(Edit { hook, op, positions: self.pos, head: self.head })
    }
}

impl Dictionary {
    /// The edit that takes a feature's contribution away, x − a d, at rows of this dictionary's own input; a neuron is set to 0.
    ///
    /// # Errors
    /// No feature has that id, or the dictionary does not write where it reads (a transcoder) or cannot encode.
    pub fn ablation(&self, feature: usize, work: &Work) -> Result<Op> {
        let position = self.position(feature)?;
        if self.0.format == "neurons" {
            let neuron = feature;
            return Ok(Op::Apply(Arc::new(move |x| {
                let mut changed = x.clone();
                let width = changed.shape()[1].max(1);
                if neuron >= width {
                    return Err(Error::shape(format!("there is no neuron {neuron} among {width}")));
                }
                changed.make_mut_f32().chunks_exact_mut(width).for_each(|row| row[neuron] = 0.0);
                Ok(changed)
            })));
        }
        if !self.gives_back() {
            return Err(Error::input(format!(
                "{} does not give back what it reads: its features cannot be ablated",
                self.name()
            )));
        }
        let direction = self.w_dec().row(position)?;
        let (dict, work) = (self.clone(), work.clone());
        Ok(Op::Apply(Arc::new(move |x| {
            let acts = dict.encode(x, &work)?;
            let mut changed = x.clone();
            let rows = changed.make_mut_f32().chunks_exact_mut(direction.len().max(1));
            for (row, act) in rows.zip(acts.narrow(1, position..position + 1)?.to_f32()) {
                row.iter_mut().zip(&direction).for_each(|(v, d)| *v -= act * d);
            }
            Ok(changed)
        })))
    }

    /// True for what writes where it reads and can encode: an SAE, not a transcoder.
    fn gives_back(&self) -> bool {
        self.hook() == self.hook_out() && self.d_in() == self.d_out() && self.w_enc().is_some()
    }

    /// The edit that puts the dictionary's reconstruction in place of its input.
    ///
    /// # Errors
    /// It does not write where it reads, or cannot encode.
    pub fn splice(&self, work: &Work) -> Result<Op> {
        if !self.gives_back() {
            return Err(Error::input(format!("{} does not give back what it reads: it cannot stand in for it", self.name())));
        }
        let (dict, work) = (self.clone(), work.clone());
        Ok(Op::Apply(Arc::new(move |x| dict.reconstruct(x, &work))))
    }
}
