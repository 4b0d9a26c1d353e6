//! Figures: `plot::…`, data first, one option map last.

use crate::analysis::TokenScores;
use crate::entry;
use crate::error::{Error, Result};
use crate::figure::{
    BandsOptions, BarOptions, BoxOptions, EcdfOptions, Figure, GridOptions, HeatmapOptions, HistogramOptions, LineOptions,
    RidgelineOptions, ScatterOptions, Series, ViolinOptions,
};
use crate::options::{Options, Value};
use crate::provenance::Provenance;
use crate::script::convert::{FromScript, describe, numbers};
use crate::script::declare::Entry;
use crate::tensor::{Held, Tensor};
use crate::work::Work;
use rhai::{Array, Dynamic, Map};

crate::native!(Figure, "Figure");

/// `values`, `#{name: values}` (in the order of the names), or `[[name, values], …]` (in this order).
fn named<T>(data: &Dynamic, read: impl Fn(&Dynamic, &str) -> Result<T>) -> Result<Vec<(String, T)>> {
    if let Some(map) = data.read_lock::<Map>() {
        return map.iter().map(|(name, values)| Ok((name.to_string(), read(values, name)?))).collect();
    }
    if let Some(items) = data.read_lock::<Array>()
        && let Some(pairs) = items.iter().map(pair).collect::<Option<Vec<_>>>()
        && !pairs.is_empty()
    {
        return pairs.into_iter().map(|(name, values)| read(&values, &name).map(|v| (name, v))).collect();
    }
    Ok(vec![(String::new(), read(data, "the data")?)])
}

pub(super) fn pair(item: &Dynamic) -> Option<(String, Dynamic)> {
    let items = item.read_lock::<Array>()?;
    let [name, values] = &items[..] else { return None };
    Some((String::from_script(name)?, values.clone()))
}

fn series(data: &Dynamic, work: &Work) -> Result<Vec<Series>> {
    // Each becomes a series at once: an interruption of the next then does not wait until its memory is given back.
    let read = named(data, |values, name| Ok(Series::new("", numbers(values, name, work)?)))?;
    let called = |(name, mut series): (String, Series)| {
        series.name = name;
        series
    };
    Ok(read.into_iter().map(called).collect())
}

/// One sample for each position: an array of tensors or arrays, or the rows of a matrix.
fn samples(value: &Dynamic, name: &str, work: &Work) -> Result<Vec<Vec<f64>>> {
    if let Some(matrix) = value.read_lock::<Tensor>() {
        let (rows, _) = matrix.matrix_shape(name)?;
        let mut samples = Held::new(Vec::with_capacity(rows));
        for row in 0..rows {
            samples.push(matrix.select(0, row)?.read_f64(work)?);
        }
        return Ok(samples.into_vec());
    }
    match value.read_lock::<Array>() {
        Some(rows) => rows.iter().map(|row| numbers(row, name, work)).collect(),
        None => Err(Error::input(format!("{name} must be an array of samples or a matrix, not {}", describe(value)))),
    }
}

fn made<O: Options>(call: &str, options: &O) -> Provenance {
    Provenance::new(call).with("options", options.canonical())
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// How often values fall into bins, which all series share. `data`: a tensor or an array, `#{name: values}`, or
            /// `[[name, values], …]` to keep an order.
            ///
            /// ```rhai
            /// let g = plot::histogram(#{ a: randn([500]), b: randn([300]) + 2 }, #{ bins: 30, title: "Two samples" });
            /// save(g, "histogram.svg");
            /// ```
            fn plot::histogram(call, data: Dynamic; options: HistogramOptions) -> Figure {
                Figure::histogram(series(&data, call.work())?, options.clone(), made("plot::histogram", &options))
            }
        },
        entry! {
            /// The density of each series, upright, with median and quartiles. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::violin([["before", randn([200])], ["after", randn([200]) + 1]], #{ ylabel: "score" });
            /// ```
            fn plot::violin(call, data: Dynamic; options: ViolinOptions) -> Figure {
                Figure::violin(series(&data, call.work())?, options.clone(), made("plot::violin", &options))
            }
        },
        entry! {
            /// Densities one above the other. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::ridgeline([["layer 0", randn([200])], ["layer 1", randn([200]) + 1]]);
            /// ```
            fn plot::ridgeline(call, data: Dynamic; options: RidgelineOptions) -> Figure {
                Figure::ridgeline(series(&data, call.work())?, options.clone(), made("plot::ridgeline", &options))
            }
        },
        entry! {
            /// Quartiles, Tukey's whiskers and what lies beyond. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::box(#{ a: randn([200]), b: randn([200]) });
            /// ```
            fn plot::box(call, data: Dynamic; options: BoxOptions) -> Figure {
                Figure::box_plot(series(&data, call.work())?, options.clone(), made("plot::box", &options))
            }
        },
        entry! {
            /// The tokens at both ends of a feature's list with their scores, as bars: the highest first, the lowest last.
            ///
            /// ```rhai
            /// let model = load_model("demo");
            /// let scores = unembed(mlp_neurons(model, 1), model, #{ features: 0..4 });
            /// let g = plot::tokens(scores, 3, #{ title: "feature 3" });
            /// ```
            fn plot::tokens(call, scores: TokenScores, feature: usize; options: BarOptions) -> Figure {
                let ends = scores.top(feature)?.into_iter().chain(scores.bottom(feature)?.into_iter().rev());
                let (labels, values): (Vec<String>, Vec<f64>) = ends.map(|end| (end.token, end.score)).unzip();
                let provenance = made("plot::tokens", &options).with("feature", feature);
                Figure::bar(labels, vec![Series::new("score", values)], options.clone(), provenance)
            }
        },
        entry! {
            /// The share of values that are at most x. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::ecdf(#{ a: randn([200]), b: randn([200]) });
            /// ```
            fn plot::ecdf(call, data: Dynamic; options: EcdfOptions) -> Figure {
                Figure::ecdf(series(&data, call.work())?, options.clone(), made("plot::ecdf", &options))
            }
        },
        entry! {
            /// Numbers over `x` (default 0, 1, 2, …), joined; NaN leaves a gap. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::line(#{ semantic: [0.1, 0.2, 0.15], chance: [0.01, 0.01, 0.01] }, #{ xlabel: "layer", ylabel: "share" });
            /// ```
            fn plot::line(call, data: Dynamic; options: LineOptions) -> Figure {
                Figure::line(series(&data, call.work())?, options.clone(), made("plot::line", &options))
            }
        },
        entry! {
            /// A quantile fan: one sample at each position (an array of tensors, or the rows of a matrix), drawn as nested bands
            /// about the median. `#{name: samples}` draws several.
            ///
            /// ```rhai
            /// let g = plot::bands(randn([6, 100]), #{ xlabel: "layer", ylabel: "score" });
            /// ```
            fn plot::bands(call, data: Dynamic; options: BandsOptions) -> Figure {
                Figure::bands(named(&data, |values, name| samples(values, name, call.work()))?, options.clone(), made("plot::bands", &options))
            }
        },
        entry! {
            /// Bars over `labels`, or groups of bars with several series. `data` as in `?plot::histogram`.
            ///
            /// ```rhai
            /// let g = plot::bar(["EE", "DU"], #{ semantic: [0.2, 0.3], chance: [0.01, 0.01] });
            /// ```
            fn plot::bar(call, labels: Vec<String>, data: Dynamic; options: BarOptions) -> Figure {
                Figure::bar(labels, series(&data, call.work())?, options.clone(), made("plot::bar", &options))
            }
        },
        entry! {
            /// One mark for each pair of `x` and `y` (tensors or arrays of equal length).
            ///
            /// ```rhai
            /// let g = plot::scatter(randn([100]), randn([100]), #{ xlabel: "skewness", ylabel: "kurtosis" });
            /// ```
            fn plot::scatter(call, x: Dynamic, y: Dynamic; options: ScatterOptions) -> Figure {
                Figure::scatter(numbers(&x, "x", call.work())?, numbers(&y, "y", call.work())?, options.clone(), made("plot::scatter", &options))
            }
        },
        entry! {
            /// A matrix as colours, its first row on top.
            ///
            /// ```rhai
            /// let g = plot::heatmap(randn([4, 8]), #{ xlabel: "head", ylabel: "layer", clabel: "share" });
            /// ```
            fn plot::heatmap(call, matrix: Tensor; options: HeatmapOptions) -> Figure {
                Figure::heatmap(&matrix, options.clone(), made("plot::heatmap", &options), call.work())
            }
        },
        entry! {
            /// Figures side by side.
            ///
            /// ```rhai
            /// let g = plot::grid([plot::line([1, 2]), plot::line([2, 1])], #{ columns: 2 });
            /// ```
            fn plot::grid(call, figures: Vec<Figure>; options: GridOptions) -> Figure {
                Figure::grid(figures, options.clone(), made("plot::grid", &options))
            }
        },
        entry! {
            /// Changes an option of a figure, `g.title = "…"`, as the option map of its function would set it.
            ///
            /// ```rhai
            /// let g = plot::line([1, 2, 3]);
            /// g.title = "Rising";
            /// assert(g.title == "Rising");
            /// ```
            index_set(call, figure: &mut Figure, key: String, value: Value) { figure.set(&key, &value) }
        },
        entry! {
            /// The value of an option of a figure.
            ///
            /// ```rhai
            /// assert(plot::line([1, 2], #{ ylabel: "share" }).ylabel == "share");
            /// ```
            index_get(call, figure: Figure, key: String) -> serde_json::Value {
                figure.options().get(&key).cloned().ok_or_else(|| Error::input(format!("plot::{} has no option `{key}`", figure.kind())))
            }
        },
    ]
    .into_iter()
    .chain(crate::shown!(Figure, "plot::line([1, 2])"))
    .collect()
}
