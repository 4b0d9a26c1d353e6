//! Models: loading, their facts, their weights by the field's names.

use crate::entry;
use crate::model::{EncodeOptions, Model, ModelOptions};
use crate::script::declare::Entry;
use crate::tensor::Tensor;

crate::native!(Model, "Model");

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Loads a language model: `demo`, a GGUF file, a Hugging Face folder (config.json and safetensors, whole or
            /// sharded), or a hub id `org/repo[@revision]`. Weights are mapped and read when first used.
            ///
            /// Errors: nothing of that name, a broken file, an unknown architecture, tensors that contradict the config.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.cfg.n_kv_heads < model.cfg.n_heads);
            /// ```
            fn load_model(call, name: String; options: ModelOptions) -> Model {
                let model = Model::load(&name, &options, call.work())?;
                for warning in model.warnings() {
                    call.work().note(&format!("note: {warning}"));
                }
                Ok(model)
            }
        },
        entry! {
            /// The name by which the model was loaded.
            ///
            /// ```rhai
            /// assert(load_model("demo").name.contains("demo"));
            /// ```
            get name(call, model: Model) -> String { Ok(model.name().to_string()) }
        },
        entry! {
            /// The model's facts: `arch n_layers d_model n_heads n_kv_heads d_head d_mlp d_vocab tied act gated norm norm_offset
            /// eps rope_theta qk_norm attn_scale attn_scale_by_layer attn_softcap final_softcap parallel embed_scale n_ctx end_tokens
            /// quantised`. `attn_scale`
            /// multiplies attention scores, in layer l divided by l + 1 where `attn_scale_by_layer` is true; `embed_scale` is
            /// what the model multiplies `W_E` by; a fact that the architecture does not have is `()`.
            ///
            /// ```rhai
            /// let cfg = load_model("demo").cfg;
            /// assert(cfg.d_model == cfg.n_heads * cfg.d_head);
            /// ```
            get cfg(call, model: Model) -> serde_json::Value { Ok(model.cfg().to_json()) }
        },
        entry! {
            /// Token embeddings as stored, `[d_vocab, d_model]`; the model multiplies them by `cfg.embed_scale`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_E.shape == [model.cfg.d_vocab, model.cfg.d_model]);
            /// ```
            get W_E(call, model: Model) -> Tensor { Ok(model.w_e()) }
        },
        entry! {
            /// Unembedding, `[d_model, d_vocab]`; for tied models the transpose of `W_E`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_U.shape == [model.cfg.d_model, model.cfg.d_vocab]);
            /// ```
            get W_U(call, model: Model) -> Tensor { Ok(model.w_u()) }
        },
        entry! {
            /// Query weights of one head, `[d_model, d_head]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_Q(0, 1).shape == [model.cfg.d_model, model.cfg.d_head]);
            /// ```
            method W_Q(call, model: Model, layer: usize, head: usize) -> Tensor { model.w_q(layer, head) }
        },
        entry! {
            /// Key weights that query head `head` uses, `[d_model, d_head]`: those of kv head
            /// `head / (n_heads / n_kv_heads)`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_K(0, 0).equal(model.W_K(0, 1)), "two query heads share a kv head");
            /// ```
            method W_K(call, model: Model, layer: usize, head: usize) -> Tensor { model.w_k(layer, head) }
        },
        entry! {
            /// Value weights that query head `head` uses, `[d_model, d_head]`.
            ///
            /// ```rhai
            /// assert(load_model("demo").W_V(0, 0).ndim == 2);
            /// ```
            method W_V(call, model: Model, layer: usize, head: usize) -> Tensor { model.w_v(layer, head) }
        },
        entry! {
            /// Output weights of one head, `[d_head, d_model]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let ov = model.W_V(0, 0) @ model.W_O(0, 0);
            /// assert(ov.shape == [model.cfg.d_model, model.cfg.d_model]);
            /// ```
            method W_O(call, model: Model, layer: usize, head: usize) -> Tensor { model.w_o(layer, head) }
        },
        entry! {
            /// Positions that a layer's attention reaches back, itself included; `()` where it reaches all.
            ///
            /// ```rhai
            /// assert(load_model("demo").window(0) == ());
            /// ```
            method window(call, model: Model, layer: usize) -> Option<usize> { model.window(layer) }
        },
        entry! {
            /// Input weights of an MLP, `[d_model, d_mlp]` (the `up` projection of a gated one).
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_in(0).shape == [model.cfg.d_model, model.cfg.d_mlp]);
            /// ```
            method W_in(call, model: Model, layer: usize) -> Tensor { model.w_in(layer) }
        },
        entry! {
            /// Gate weights of a gated MLP, `[d_model, d_mlp]`; `()` where the MLP has no gate.
            ///
            /// ```rhai
            /// assert(load_model("demo").W_gate(0) != ());
            /// ```
            method W_gate(call, model: Model, layer: usize) -> Option<Tensor> { model.w_gate(layer) }
        },
        entry! {
            /// Output weights of an MLP, `[d_mlp, d_model]`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.W_out(0).shape == [model.cfg.d_mlp, model.cfg.d_model]);
            /// ```
            method W_out(call, model: Model, layer: usize) -> Tensor { model.w_out(layer) }
        },
        entry! {
            /// A norm's effective gain, `[d_model]` (`[d_head]` for q and k norms), ready to multiply with: 1 + w is already
            /// added where the architecture says so. Names: `ln_final`, `blocks.3.ln1`, `ln1_post`, `ln2`, `ln2_post`,
            /// `attn.q_norm`, `attn.k_norm`; `()` for a norm that the architecture does not have.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.gain("blocks.0.ln1").shape == [model.cfg.d_model]);
            /// assert(model.gain("blocks.0.ln1_post") == ());
            /// ```
            method gain(call, model: Model, name: String) -> Option<Tensor> { model.find_gain(&name) }
        },
        entry! {
            /// A norm's bias, `[d_model]`, by the names of `gain`; `()` where the architecture has none (RMSNorm).
            ///
            /// ```rhai
            /// assert(load_model("demo").bias("blocks.0.ln1") == ());
            /// ```
            method bias(call, model: Model, name: String) -> Option<Tensor> { model.bias(&name) }
        },
        entry! {
            /// Query bias of one head, `[d_head]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_Q(0, 1) == ());
            /// ```
            method b_Q(call, model: Model, layer: usize, head: usize) -> Option<Tensor> { model.b_q(layer, head) }
        },
        entry! {
            /// Key bias of the kv head that query head `head` uses, `[d_head]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_K(0, 1) == ());
            /// ```
            method b_K(call, model: Model, layer: usize, head: usize) -> Option<Tensor> { model.b_k(layer, head) }
        },
        entry! {
            /// Value bias of the kv head that query head `head` uses, `[d_head]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_V(0, 1) == ());
            /// ```
            method b_V(call, model: Model, layer: usize, head: usize) -> Option<Tensor> { model.b_v(layer, head) }
        },
        entry! {
            /// Output bias of attention, `[d_model]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_O(0) == ());
            /// ```
            method b_O(call, model: Model, layer: usize) -> Option<Tensor> { model.b_o(layer) }
        },
        entry! {
            /// Bias of the MLP's input, `[d_mlp]` (of the `up` projection of a gated one); `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_in(0) == ());
            /// ```
            method b_in(call, model: Model, layer: usize) -> Option<Tensor> { model.b_in(layer) }
        },
        entry! {
            /// Bias of a gated MLP's gate, `[d_mlp]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_gate(0) == ());
            /// ```
            method b_gate(call, model: Model, layer: usize) -> Option<Tensor> { model.b_gate(layer) }
        },
        entry! {
            /// Bias of the MLP's output, `[d_model]`; `()` where the model has none.
            ///
            /// ```rhai
            /// assert(load_model("demo").b_out(0) == ());
            /// ```
            method b_out(call, model: Model, layer: usize) -> Option<Tensor> { model.b_out(layer) }
        },
        entry! {
            /// Learned position embeddings, `[n_ctx, d_model]`; `()` where positions are rotary.
            ///
            /// ```rhai
            /// assert(load_model("demo").W_pos == ());
            /// ```
            get W_pos(call, model: Model) -> Option<Tensor> { Ok(model.w_pos()) }
        },
        entry! {
            /// A token's text: `" the"`; a lone byte as `"<0xE2>"`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.token_id(model.token(300)) == 300);
            /// ```
            method token(call, model: Model, id: usize) -> String {
                model.vocabulary().check(id)?;
                Ok(model.vocabulary().token(id))
            }
        },
        entry! {
            /// The id of a token's text, or `()` when the text is no single token.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.token_id("no such token in any vocabulary") == ());
            /// ```
            method token_id(call, model: Model, text: String) -> Option<usize> { Ok(model.vocabulary().token_id(&text)) }
        },
        entry! {
            /// The ids of a text, the token that begins a text first where the tokenizer says so (`#{bos: true}` or `#{bos: false}`
            /// decides it). Names of special tokens in the text (`<bos>`, `<|endoftext|>`) become those tokens; an end token is never
            /// appended.
            ///
            /// Errors: a model without a tokenizer, a tokenizer of an unknown kind, a token without a row in the embedding.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let ids = model.encode(" the house", #{ bos: false });
            /// assert(model.decode(ids) == " the house");
            /// ```
            method encode(call, model: Model, text: String; options: EncodeOptions) -> Vec<usize> { model.encode(&text, &options, call.work()) }
        },
        entry! {
            /// The text of several tokens in a row; byte tokens are joined into characters.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(model.decode([300, 301]) == model.token(300) + model.token(301));
            /// ```
            method decode(call, model: Model, ids: Vec<usize>) -> String {
                for id in &ids {
                    model.vocabulary().check(*id)?;
                }
                call.work().detached(move |_| Ok(model.vocabulary().decode(&ids)))
            }
        },
    ]
    .into_iter()
    .chain(crate::shown!(Model, "load_model(\"demo\")"))
    .collect()
}
