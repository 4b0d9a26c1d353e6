//! Running a model: activations at hooks, edits on the way, text continued.

use crate::dictionary::{RunOptions, request};
use crate::entry;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::forward::{self, GenerateOptions, Pass};
use crate::script::convert::{FromScript, describe};
use crate::script::declare::{Call, Entry};
use crate::tensor::{Class, Tensor};
use rhai::Dynamic;

crate::native!(Pass, "ActivationCache");

/// The ids of a text, or ids as they are.
fn tokens(call: &Call<'_>, model: &Model, input: &Dynamic) -> Result<Vec<usize>> {
    if let Some(text) = String::from_script(input) {
        return model.encode(&text, &Default::default(), call.work());
    }
    if let Some(ids) = input.read_lock::<Tensor>() {
        if ids.ndim() != 1 || ids.dtype().class() != Class::Int {
            let (shape, dtype) = (ids.shape(), ids.dtype());
            return Err(Error::input(format!("token ids are a vector of whole numbers, not {dtype} of shape {shape:?}")));
        }
        let id = |id: i64| usize::try_from(id).map_err(|_| Error::input(format!("{id} is no token id")));
        return ids.to_i64().into_iter().map(id).collect();
    }
    let Some(items) = Vec::<Dynamic>::from_script(input) else {
        return Err(Error::input(format!("a model runs a text or an array of token ids, not {}", describe(input))));
    };
    let id = |(i, item): (usize, &Dynamic)| {
        usize::from_script(item).ok_or_else(|| Error::input(format!("element {i} of the ids is no token id: {}", describe(item))))
    };
    items.iter().enumerate().map(id).collect()
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Runs a text (encoded as the tokenizer says) or token ids (taken as given) through the model, in f32, and keeps the
            /// activations of the hooks asked for, by TransformerLens's names: `blocks.3.hook_resid_post`, `attn.hook_pattern`,
            /// `attn.hook_z`, `mlp.hook_post`, …. Each edit is `#{hook, op, value, head, pos}`: op `"add"` and `"replace"` take a vector or
            /// rows, `"scale"` a number, `"ablate"` nothing, `"ablate_feature"` `dict` and `feature`. What is kept has been edited.
            ///
            /// Errors: a hook or option that does not exist, a text longer than the model's context, a value that does not fit.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let hook = "blocks.1.hook_resid_post";
            /// let clean = model.run([5, 6, 7], #{ hooks: [hook] });
            /// assert(clean[hook].shape == [3, model.cfg.d_model]);
            /// let steered = model.run([5, 6, 7], #{ hooks: [hook], edits: [#{ hook: hook, op: "add", value: ones([model.cfg.d_model]), pos: -1 }] });
            /// assert((steered[hook] - clean[hook]).sum(1).allclose(tensor([0, 0, model.cfg.d_model]), #{ atol: 0.001 }));
            /// ```
            method run(call, model: Model, input: Dynamic; options: RunOptions) -> Pass {
                let ids = tokens(call, &model, &input)?;
                let request = request(&model, &options, call.work())?;
                model.forward(call.work())?.run(&[&ids], &request, call.work())
            }
        },
        entry! {
            /// What was kept at a hook; shapes as in TransformerLens, without a batch dimension: `[pos, d_model]`, `[pos, head, d_head]`,
            /// patterns `[head, query, key]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let cache = model.run([5, 6, 7], #{ hooks: ["blocks.0.attn.hook_pattern"] });
            /// assert(cache["blocks.0.attn.hook_pattern"].sum(2).allclose(ones([model.cfg.n_heads, 3])));
            /// ```
            index_get(call, cache: Pass, hook: String) -> Tensor { Ok(cache.get(&hook)?.clone()) }
        },
        entry! {
            /// Logits, `[pos, d_vocab]`; `()` where `logits: false` left them out.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.run([5, 6]).logits.shape == [2, model.cfg.d_vocab]);
            /// ```
            get logits(call, cache: Pass) -> Option<Tensor> { Ok(cache.logits) }
        },
        entry! {
            /// The token ids that were run.
            ///
            /// ```rhai
            /// assert(load_model("demo").run([5, 6]).tokens == [5, 6]);
            /// ```
            get tokens(call, cache: Pass) -> Vec<usize> { Ok(cache.tokens) }
        },
        entry! {
            /// The names of the hooks that were kept, in the order of the pass.
            ///
            /// ```rhai
            /// assert(load_model("demo").run([5], #{ hooks: ["hook_embed"] }).hooks == ["hook_embed"]);
            /// ```
            get hooks(call, cache: Pass) -> Vec<String> { Ok(cache.kept.iter().map(|(hook, _)| hook.name()).collect()) }
        },
        entry! {
            /// A text continued: the prompt (a text or token ids) and what follows it, as text. Greedy, or drawn with `temperature` and
            /// `top_p` from `seed`. It ends at the model's end token or after `max_tokens`. `steer` adds directions at every position:
            /// `#{hook, direction, strength}` each.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let text = generate(model, [5, 6, 7], #{ max_tokens: 4, temperature: 0.8, seed: 1 });
            /// assert(text.starts_with(model.decode([5, 6, 7])));
            /// ```
            fn generate(call, model: Model, prompt: Dynamic; options: GenerateOptions) -> String {
                let mut ids = tokens(call, &model, &prompt)?;
                ids.extend(forward::generate(&model, &ids, &options, call.work())?);
                // What the tokenizer put before a text is not part of it.
                let begin = if prompt.is_string() { model.encode("", &Default::default(), call.work())?.len() } else { 0 };
                Ok(model.vocabulary().decode(&ids[begin..]))
            }
        },
    ]
    .into_iter()
    .chain(crate::shown!(Pass, "load_model(\"demo\").run([5])"))
    .collect()
}
