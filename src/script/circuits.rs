//! Heads as maps of the residual stream: singular directions and composition.

use crate::analysis::{self, Circuit, CircuitOptions, Input};
use crate::entry;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{OptionValue, Value};
use crate::script::convert::IntoScript;
use crate::script::declare::Entry;
use crate::tensor::Tensor;
use rhai::Map;

fn choice<T: OptionValue>(function: &str, parameter: &str, text: String) -> Result<T> {
    let wrong = || Error::input(format!("{function}: `{parameter}` must be {}, not \"{text}\"", T::kind()));
    T::read(&Value::Text(text.clone())).ok_or_else(wrong)
}

fn head(function: &str, parameter: &str, given: &[usize]) -> Result<(usize, usize)> {
    match *given {
        [layer, head] => Ok((layer, head)),
        _ => Err(Error::input(format!("{function}: `{parameter}` must be [layer, head]"))),
    }
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// The singular values (falling) and directions of a head's circuit, of rank d_head: `#{U, S, V}`, U and V `[d_model,
            /// d_head]`, S `[d_head]`, with x M yᵀ = Σ S_i (x·U_i)(y·V_i) for rows x, y of the residual stream. M is `diag(g) W_Q W_Kᵀ
            /// diag(g)` for `"qk"` (U on the side of queries, V of keys; attention scale, biases and positions left out) and `diag(g)
            /// W_V W_O diag(post)` for `"ov"` (U is read, V is written). Errors: a layer or head out of range.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let ov = head_svd(model, 1, 0, "ov");
            /// assert(ov.V.shape == [model.cfg.d_model, model.cfg.d_head] && ov.S[0] >= ov.S[1]);
            /// let dict = directions(ov.V.T, #{ signed: true });      // what the head can write, as a dictionary
            /// ```
            fn head_svd(call, model: Model, layer: usize, head: usize, circuit: String; options: CircuitOptions) -> Map {
                let circuit: Circuit = choice("head_svd", "circuit", circuit)?;
                let found = analysis::head_svd(&model, layer, head, circuit, &options, call.work())?;
                let parts = [("U", found.u), ("S", found.s), ("V", found.v)];
                Ok(parts.into_iter().map(|(name, part)| (name.into(), part.into_script())).collect::<Map>())
            }
        },
        entry! {
            /// How much of what head `from` (`[layer, head]`) writes head `to` of a later layer reads by its queries (`"q"`), keys
            /// (`"k"`) or values (`"v"`): ‖M_from M_to‖ / (‖M_from‖ ‖M_to‖) of their circuits (Frobenius norms; Elhage et al. 2021), less
            /// 1/√d_model, what a random rotation between the two gives. 0: as by chance. Errors: a head out of range, or one that
            /// does not read after the other has written.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// assert(composition(model, [0, 1], [2, 0], "k") > -0.2);
            /// ```
            fn composition(call, model: Model, from: Vec<usize>, to: Vec<usize>, input: String; options: CircuitOptions) -> f64 {
                let (from, to) = (head("composition", "from", &from)?, head("composition", "to", &to)?);
                let input: Input = choice("composition", "input", input)?;
                analysis::composition(&model, from, to, input, &options, call.work())
            }
        },
        entry! {
            /// `?composition` of all heads: `#{q, k, v}`, each `[n, n]` with n = n_layers × n_heads, the head that writes in the row and
            /// the one that reads in the column, head h of layer l at l × n_heads + h; NaN where the column's layer is not later.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let k = composition_matrix(model).k;
            /// assert(k.shape[0] == model.cfg.n_layers * model.cfg.n_heads && k.at([0, 0]).is_nan());
            /// let map = plot::heatmap(k, #{ xlabel: "reads", ylabel: "writes" });
            /// ```
            fn composition_matrix(call, model: Model; options: CircuitOptions) -> Map {
                let all = Input::ALL.iter().map(|input| {
                    let matrix = analysis::composition_matrix(&model, *input, &options, call.work())?;
                    Ok((input.name().into(), Tensor::into_script(matrix)))
                });
                all.collect::<Result<Map>>()
            }
        },
    ]
}
