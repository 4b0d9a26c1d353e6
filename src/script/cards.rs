//! Cards: one feature or one head on a page.

use crate::analysis::{self, ExplainOptions, Explainer, HeadPageOptions};
use crate::dictionary::Dictionary;
use crate::entry;
use crate::error::Result;
use crate::model::Model;
use crate::options::{Json, Options};
use crate::page::Page;
use crate::script::declare::{Call, Entry};
use std::sync::{Arc, Mutex, PoisonError};

/// Explainers that are kept: their nulls take seconds, a page then a moment.
const KEPT: usize = 4;

/// The session's latest explainers, each with what its options and seed were.
#[derive(Clone, Default)]
pub struct Explainers(Arc<Mutex<Vec<(Json, Explainer)>>>);

impl Explainers {
    fn get(&self, call: &Call, dict: &Dictionary, model: &Model, options: &ExplainOptions) -> Result<Explainer> {
        let key = Json::Array(vec![options.canonical(), call.work().seed().into()]);
        let is = |(other, kept): &(Json, Explainer)| *other == key && kept.dictionary().is(dict) && kept.model().is(model);
        if let Some((_, kept)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|kept| is(kept)) {
            return Ok(kept.clone());
        }
        let made = Explainer::new(dict, model, options, call.work())?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(0, (key, made.clone()));
        kept.truncate(KEPT);
        Ok(made)
    }
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// One feature (an id) on a page, from weights alone: tokens it writes and reads, its logits by kind of token, moments with
            /// their percentile in the layer, whether its tokens form a family beside the null, the heads in which it is query, key and
            /// value with its partners there, predecessors and successors (`before`, `after`: dictionaries), and what weights do not show.
            ///
            /// Shown as text; saved as `.html`, `.md` or `.json`. The first page of a dictionary measures the layer and the nulls, which
            /// the session keeps for further features. Errors: a feature that the dictionary does not have, a layer that cannot read it.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let sae = |layer| load_sae("demo", `saes/blocks.${layer}.hook_resid_post`);
            /// let card = explain(sae.call(2), model, 7, #{ before: sae.call(1), after: sae.call(3), n_null: 256, fpr: 0.2 });
            /// assert(card.to_string().contains("Tokens it writes"));
            /// save(card, "feature.html");
            /// ```
            fn explain(call, dict: Dictionary, model: Model, feature: usize; options: ExplainOptions) -> Page {
                dict.position(feature)?;
                call.host.explainers.get(call, &dict, &model, &options)?.page(feature, call.work())
            }
        },
        entry! {
            /// One attention head on a page, from weights alone: its size beside the heads of its layer and random directions, the features
            /// that it matches, its scores by distance, what it writes of features, and who reads that (`target`: a dictionary).
            ///
            /// `dict` stands for what enters the layer; without it the neurons of the layer before, at layer 0 tokens. Errors: a layer or
            /// head out of range, a target that reads before the head writes.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let card = explain_head(model, 1, 3, load_sae("demo", "saes/blocks.0.hook_resid_post"), #{ k: 5 });
            /// assert(card.to_string().contains("What it matches"));
            /// ```
            fn explain_head(call, model: Model, layer: usize, head: usize, dict: Option<Dictionary>; options: HeadPageOptions) -> Page {
                let dict = match dict {
                    Some(dict) => dict,
                    None => analysis::entering(&model, layer, call.work())?,
                };
                analysis::explain_head(&model, layer, head, &dict, &options, call.work())
            }
        },
    ]
}
