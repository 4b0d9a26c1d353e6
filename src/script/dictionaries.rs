//! Dictionaries: SAEs, MLP neurons, token bases, random directions, and any directions of one's own.

use crate::dictionary::{self, Basis, Dictionary, Directions, DirectionsOptions, RandomOptions, SaeOptions};
use crate::entry;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Ids, OptionValue, Value};
use crate::script::convert::FromScript;
use crate::script::convert::describe;
use crate::script::declare::{Call, Entry};
use crate::table::Table;
use crate::tensor::Tensor;
use rhai::Dynamic;
use serde_json::Value as Json;

crate::native!(Dictionary, "Dictionary");

crate::options! {
    /// Options of `read`.
    pub struct ReadOptions {
        /// The head that a dictionary on z reads by.
        head: Option<usize> = None,
    }
}

fn noted(call: &Call, dictionary: Dictionary) -> Dictionary {
    for warning in dictionary.warnings() {
        call.work().note(&format!("note: {warning}"));
    }
    dictionary
}

fn dense(directions: &Directions, call: &Call) -> Result<Tensor> {
    directions.dense(None, call.work())
}

pub(super) fn entries() -> Vec<Entry> {
    [making(), facts()].concat()
}

fn making() -> Vec<Entry> {
    vec![
        entry! {
            /// Loads an SAE or transcoder: a file, a folder, a hub id or a short name (`gpt2-small-res-jb/blocks.6.hook_resid_pre`, the names
            /// of SAELens's releases), with `path` for the folder or file inside (`list_saes` names them). Of SAEs that differ by their
            /// average L0 alone the nearest is taken, to 100 where none is named. The format is found by content: SAELens, Gemma Scope 1 and 2, Llama Scope and OpenMOSS, sparsify, dictionary_learning, OpenAI,
            /// Goodfire, qresearch, Qwen-Scope, hook_z by Kissane, circuit-tracer; `#{map: #{W_enc: "enc.weight", …}}` opens anything
            /// else. Of a file with several layers, `#{layer, to_layer}` names the one that reads and the one that is written.
            ///
            /// Errors: nothing of that name, a broken file, tensors that do not fit together, a square matrix of no known format.
            ///
            /// ```rhai
            /// save(#{ W_enc: randn([8, 20]), W_dec: randn([20, 8]), b_enc: zeros([20]), b_dec: zeros([8]) }, "own.safetensors");
            /// let names = #{ W_enc: "W_enc", W_dec: "W_dec", b_enc: "b_enc", b_dec: "b_dec", activation: "relu" };
            /// let sae = load_sae(out_dir() + "/own.safetensors", #{ map: names, hook: "blocks.1.hook_resid_post" });
            /// assert(sae.d_sae == 20 && sae.layer == 1);
            /// ```
            fn load_sae(call, name: String, path: Option<String>; options: SaeOptions) -> Dictionary {
                Ok(noted(call, dictionary::load_sae(&name, path.as_deref(), &options, call.work())?))
            }
        },
        entry! {
            /// The SAEs in a folder, a repository or a bundle of a model with its SAEs, as a table: `path` (for `load_sae(name, path)`),
            /// `format`, `hook`, `layer`, `d_in`, `d_sae`, as far as names and configurations say it; weights are not opened.
            ///
            /// Errors: nothing of that name, a broken cfg.json.
            ///
            /// ```rhai
            /// assert(list_saes(out_dir()).columns == ["path", "format", "hook", "layer", "d_in", "d_sae"]);
            /// ```
            fn list_saes(call, name: String) -> Table { dictionary::list_saes(&name, call.work()) }
        },
        entry! {
            /// Any directions `[n, d_model]` (or one, `[d_model]`) as a dictionary: probes, steering vectors, differences of means,
            /// singular vectors, the result of `ov_write`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = directions(randn([3, model.cfg.d_model]), #{ labels: ["a", "b", "c"] });
            /// assert(unembed(dict, model).table().len == 3);
            /// ```
            fn directions(call, write: Tensor; options: DirectionsOptions) -> Dictionary { dictionary::directions(&write, &options) }
        },
        entry! {
            /// The neurons of a layer's MLP as a dictionary: neuron j writes row j of W_out (with the post-MLP gain, where there is one)
            /// and reads by its gate, with the pre-MLP gain. Signed where the MLP is gated.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(mlp_neurons(model, 2).d_sae == model.cfg.d_mlp);
            /// ```
            fn mlp_neurons(call, model: Model, layer: usize) -> Dictionary { dictionary::mlp_neurons(&model, layer) }
        },
        entry! {
            /// The tokens as a dictionary: `"embed"` (default): rows of W_E times the embedding scale; `"unembed"`: columns of W_U with
            /// the final gain; `"effective"`: W_E plus what the first MLP adds.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(token_basis(model, "unembed").d_sae == model.cfg.d_vocab);
            /// ```
            fn token_basis(call, model: Model, kind: Option<String>) -> Dictionary {
                let basis = match kind {
                    None => Basis::default(),
                    Some(text) => Basis::read(&Value::Text(text.clone())).ok_or_else(|| {
                        Error::input(format!("token_basis: `kind` must be {}, not \"{text}\"", Basis::kind()))
                    })?,
                };
                dictionary::token_basis(&model, basis, call.work())
            }
        },
        entry! {
            /// A null for a dictionary: random read and write directions, drawn separately, with the norms of its own; by default Gaussian
            /// with the uncentred second moment of its unit directions (`kind: "covariance"`), else `"isotropic"`.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let dict = mlp_neurons(model, 0);
            /// let chance = random_directions(dict, #{ n: 64, seed: 3 });
            /// assert(chance.d_sae == 64 && chance.signed);
            /// ```
            fn random_directions(call, dict: Dictionary, model: Option<Model>; options: RandomOptions) -> Dictionary {
                dictionary::random_directions(&dict, model.as_ref(), &options, call.work())
            }
        },
        entry! {
            /// Some of the features, by their ids (a range, an array, a 1-D tensor); they keep their ids.
            ///
            /// ```rhai
            /// let part = mlp_neurons(load_model("demo"), 0).select([7, 3]);
            /// assert(part.d_sae == 2 && part.ids.to_array() == [7, 3]);
            /// ```
            method select(call, dict: Dictionary, features: Value) -> Dictionary {
                let ids = Ids::read(&features)
                    .ok_or_else(|| Error::input(format!("select: `features` must be {}, not {}", Ids::kind(), features.describe())))?;
                let positions = dict.positions(&Some(ids))?;
                dict.select(&positions.iter().map(|p| dict.id_of(*p)).collect::<Vec<_>>(), call.work())
            }
        },
        entry! {
            /// The features of both, one after the other.
            ///
            /// ```rhai
            /// let dict = mlp_neurons(load_model("demo"), 0);
            /// assert(dict.select([1]).concat(dict.select([5])).ids.to_array() == [1, 5]);
            /// ```
            method concat(call, dict: Dictionary, other: Dictionary) -> Dictionary { dict.concat(&other, call.work()) }
        },
        entry! {
            /// With firing statistics: a table with the column `feature` and others such as `density mean_act max_act mean_share`.
            ///
            /// ```rhai
            /// let dict = mlp_neurons(load_model("demo"), 0).select([0, 1]);
            /// assert(dict.with_stats(table(#{ feature: [0, 1], density: [0.5, 0.25] })).density.sum() == 0.75);
            /// ```
            method with_stats(call, dict: Dictionary, stats: Table) -> Dictionary { dict.with_stats(&stats) }
        },
        entry! {
            /// With a label for each feature, which every table then shows: a table or a CSV file with the columns `feature` and
            /// `label`.
            ///
            /// ```rhai
            /// let dict = mlp_neurons(load_model("demo"), 0).select([0, 1]).with_labels(table(#{ feature: [0, 1], label: ["a", "b"] }));
            /// assert(unembed(dict, load_model("demo")).table()["label"] == ["a", "b"]);
            /// ```
            method with_labels(call, dict: Dictionary, labels: Dynamic) -> Dictionary {
                if let Some(table) = labels.read_lock::<Table>() {
                    return dict.with_labels(&table);
                }
                let file = String::from_script(&labels).ok_or_else(|| {
                    Error::input(format!("with_labels: `labels` must be a table or a file, not {}", describe(&labels)))
                })?;
                dict.with_labels(&Table::load(&file, call.work())?)
            }
        },
    ]
}

fn facts() -> Vec<Entry> {
    vec![
        entry! {
            /// Its name: the file it came from, or what it was made of.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 0).name.contains("demo"));
            /// ```
            get name(call, dict: Dictionary) -> String { Ok(dict.name().to_string()) }
        },
        entry! {
            /// Its facts: `name format site layer hook hook_out d_in d_sae d_out activation k signed subtract_b_dec
            /// normalize_activations rewrites` (what was changed on loading), and what else its file says.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 0).cfg.activation == "none");
            /// ```
            get cfg(call, dict: Dictionary) -> Json { Ok(Json::Object(dict.cfg())) }
        },
        entry! {
            /// The hook where it reads, by its TransformerLens name.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 1).hook.contains("blocks.1."));
            /// ```
            get hook(call, dict: Dictionary) -> String { Ok(dict.hook().to_string()) }
        },
        entry! {
            /// The hook where it writes.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 1).hook_out.contains("blocks.1."));
            /// ```
            get hook_out(call, dict: Dictionary) -> String { Ok(dict.hook_out().to_string()) }
        },
        entry! {
            /// Its site: `resid_pre resid_mid resid_post z attn_out mlp_in mlp_out mlp_post ln2_normalized embed unembed`.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 1).site == "mlp_post");
            /// ```
            get site(call, dict: Dictionary) -> String { Ok(dict.site().name().to_string()) }
        },
        entry! {
            /// The layer of its site, or `()`.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 1).layer == 1);
            /// ```
            get layer(call, dict: Dictionary) -> Option<usize> { Ok(dict.layer()) }
        },
        entry! {
            /// Number of features.
            ///
            /// ```rhai
            /// assert(directions(eye(4)).d_sae == 4);
            /// ```
            get d_sae(call, dict: Dictionary) -> usize { Ok(dict.n()) }
        },
        entry! {
            /// Width of what it reads.
            ///
            /// ```rhai
            /// assert(directions(eye(4)).d_in == 4);
            /// ```
            get d_in(call, dict: Dictionary) -> usize { Ok(dict.d_in()) }
        },
        entry! {
            /// The ids of its features.
            ///
            /// ```rhai
            /// assert(directions(eye(3)).ids.to_array() == [0, 1, 2]);
            /// ```
            get ids(call, dict: Dictionary) -> Tensor { Ok(Tensor::vector_i64(dict.ids().into_iter().map(|id| id as i64).collect())) }
        },
        entry! {
            /// True where +d and −d are equally the feature: gated neurons, random directions, singular vectors.
            ///
            /// ```rhai
            /// assert(mlp_neurons(load_model("demo"), 0).signed);
            /// ```
            get signed(call, dict: Dictionary) -> bool { Ok(dict.signed()) }
        },
        entry! {
            /// The activation function: `relu jumprelu topk batchtopk gated abstopk groupmax none`.
            ///
            /// ```rhai
            /// assert(directions(eye(3)).activation == "none");
            /// ```
            get activation(call, dict: Dictionary) -> String { Ok(dict.activation().name().to_string()) }
        },
        entry! {
            /// Encoder weights, `[d_in, d_sae]`, values as stored; `()` where there are none.
            ///
            /// ```rhai
            /// assert(directions(randn([5, 3])).W_enc.shape == [3, 5]);
            /// ```
            get W_enc(call, dict: Dictionary) -> Option<Tensor> { Ok(dict.w_enc()) }
        },
        entry! {
            /// Decoder weights, `[d_sae, d_out]`, values as stored.
            ///
            /// ```rhai
            /// assert(directions(randn([5, 3])).W_dec.shape == [5, 3]);
            /// ```
            get W_dec(call, dict: Dictionary) -> Tensor { Ok(dict.w_dec()) }
        },
        entry! {
            /// Encoder bias, `[d_sae]`, or `()`.
            ///
            /// ```rhai
            /// assert(directions(eye(3)).b_enc == ());
            /// ```
            get b_enc(call, dict: Dictionary) -> Option<Tensor> { Ok(dict.b_enc()) }
        },
        entry! {
            /// Decoder bias, `[d_out]`, or `()`.
            ///
            /// ```rhai
            /// assert(directions(eye(3), #{ b_dec: ones([3]) }).b_dec.sum() == 3.0);
            /// ```
            get b_dec(call, dict: Dictionary) -> Option<Tensor> { Ok(dict.b_dec()) }
        },
        entry! {
            /// JumpReLU threshold, `[d_sae]`, or `()`.
            ///
            /// ```rhai
            /// assert(directions(eye(3), #{ threshold: ones([3]) }).threshold.len == 3);
            /// ```
            get threshold(call, dict: Dictionary) -> Option<Tensor> { Ok(dict.threshold()) }
        },
        entry! {
            /// Firing frequency of each feature, where it is known, else `()`.
            ///
            /// ```rhai
            /// assert(directions(eye(3)).density == ());
            /// ```
            get density(call, dict: Dictionary) -> Option<Tensor> { Ok(dict.density().map(Tensor::vector_f64)) }
        },
        entry! {
            /// The write directions in the residual stream, `[d_sae, d_model]`, norm gains included.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(mlp_neurons(model, 0).write(model).shape == [model.cfg.d_mlp, model.cfg.d_model]);
            /// ```
            method write(call, dict: Dictionary, model: Model) -> Tensor { dense(&dict.write(&model, call.work())?, call) }
        },
        entry! {
            /// The read directions in the residual stream, `[d_sae, d_model]`, norm gains included; a dictionary on z reads by one head
            /// at a time (`#{head: 3}`).
            ///
            /// Errors: a dictionary on mlp_out or attn_out, which reads a component's output and has no read direction.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let gate = model.W_gate(0).T * model.gain("blocks.0.ln2");
            /// assert(mlp_neurons(model, 0).read(model).allclose(gate));
            /// ```
            method read(call, dict: Dictionary, model: Model; options: ReadOptions) -> Tensor {
                dict.say_doubts(&model, call.work());
                let directions = match options.head {
                    Some(head) => dict.read_head(&model, head, call.work())?,
                    None => dict.read(&model, call.work())?,
                };
                dense(&directions, call)
            }
        },
        entry! {
            /// Activations of inputs `[n, d_in]` (or one, `[d_in]`), as the model produces them; in the units of the format's own code.
            ///
            /// ```rhai
            /// let dict = directions(eye(3), #{ threshold: full([3], 0.5) });
            /// assert(dict.encode(tensor([0.2, 0.7, 0.5])).to_array() == [0.0, tensor([0.7]).item(), 0.0]);
            /// ```
            method encode(call, dict: Dictionary, x: Tensor) -> Tensor { dict.encode(&x, call.work()) }
        },
        entry! {
            /// `acts @ W_dec + b_dec`.
            ///
            /// ```rhai
            /// assert(directions(eye(3), #{ b_dec: ones([3]) }).decode(zeros([2, 3])).sum() == 6.0);
            /// ```
            method decode(call, dict: Dictionary, acts: Tensor) -> Tensor { dict.decode(&acts, call.work()) }
        },
        entry! {
            /// `decode(encode(x))`, with input normalisation undone and a skip connection added where there are any.
            ///
            /// ```rhai
            /// assert(directions(eye(3)).reconstruct(ones([3])).sum() == 3.0);
            /// ```
            method reconstruct(call, dict: Dictionary, x: Tensor) -> Tensor { dict.reconstruct(&x, call.work()) }
        },
    ]
    .into_iter()
    .chain(crate::shown!(Dictionary, "directions(eye(3))"))
    .collect()
}
