//! A figure taken apart, as a session keeps it: its data and options as JSON, its numbers one after the other.

use super::{Chart, Figure, Samples, Series};
use crate::error::{Error, Result};
use crate::options::{Json, OptionMap, Options, Value};
use crate::provenance::Provenance;
use serde_json::json;
use std::sync::Arc;

impl Figure {
    /// What the figure is made of. The JSON says how many of the numbers belong to each part, in the order of the parts.
    pub fn parts(&self) -> (Json, Vec<f64>) {
        let mut numbers = Vec::new();
        (write(self, &mut numbers), numbers)
    }

    /// The figure that was taken apart as [`Figure::parts`] does.
    ///
    /// # Errors
    /// The parts are of no figure.
    pub fn of_parts(facts: &Json, mut numbers: &[f64]) -> Result<Self> {
        read(facts, &mut numbers)
    }
}

fn write(figure: &Figure, numbers: &mut Vec<f64>) -> Json {
    let mut figures = Vec::new();
    if let Chart::Grid { figures: inner, .. } = figure.chart() {
        figures.extend(inner.iter().map(|figure| write(figure, numbers)));
    }
    let mut counted = |values: &[f64]| {
        numbers.extend_from_slice(values);
        json!(values.len())
    };
    let (mut options, mut facts) = (figure.options(), json!({"kind": figure.kind(), "provenance": figure.provenance.to_json()}));
    let mut series = |series: &[Series]| -> Json { series.iter().map(|s| json!([s.name, counted(&s.values)])).collect() };
    // As numbers: JSON has neither NaN nor infinity.
    let mut large = None;
    match figure.chart() {
        Chart::Histogram { series: all, .. }
        | Chart::Violin { series: all, .. }
        | Chart::Ridgeline { series: all, .. }
        | Chart::Box { series: all, .. }
        | Chart::Ecdf { series: all, .. } => facts["series"] = series(all),
        Chart::Line { series: all, options } => {
            facts["series"] = series(all);
            large = Some(("x", &options.x));
        }
        Chart::Bands { samples, options } => {
            let rows = |s: &Samples| json!([s.name, s.rows.iter().map(|row| counted(row)).collect::<Json>()]);
            facts["samples"] = samples.iter().map(rows).collect();
            large = Some(("x", &options.x));
        }
        Chart::Bar { labels, series: all, .. } => {
            facts["labels"] = json!(labels);
            facts["series"] = series(all);
        }
        Chart::Scatter { x, y, options } => {
            facts["series"] = series(&[x.clone(), y.clone()]);
            large = Some(("color", &options.color));
        }
        Chart::Heatmap { rows, cols, values, .. } => {
            (facts["rows"], facts["cols"], facts["values"]) = (json!(rows), json!(cols), counted(values));
        }
        Chart::Grid { .. } => facts["figures"] = Json::Array(figures),
    }
    if let Some((key, Some(values))) = large {
        options[key] = Json::Null;
        facts["large"] = json!([key, counted(values)]);
    }
    facts["options"] = options;
    facts
}

fn read(facts: &Json, numbers: &mut &[f64]) -> Result<Figure> {
    let broken = || Error::format("the parts are of no figure");
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let text = |json: &Json| json.as_str().map(String::from).ok_or_else(broken);
    let figures = list(&facts["figures"]).iter().map(|figure| read(figure, numbers)).collect::<Result<Vec<_>>>()?;
    let mut next = |count: &Json| {
        let count = count.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(broken)?;
        let (taken, rest) = numbers.split_at_checked(count).ok_or_else(broken)?;
        *numbers = rest;
        Ok::<_, Error>(taken.to_vec())
    };
    let mut series = Vec::new();
    for one in list(&facts["series"]) {
        series.push(Series::new(text(&one[0])?, next(&one[1])?));
    }
    let mut samples = Vec::new();
    for one in list(&facts["samples"]) {
        let rows = list(&one[1]).iter().map(&mut next).collect::<Result<_>>()?;
        samples.push(Samples { name: text(&one[0])?, rows: Arc::new(rows) });
    }
    let values = if facts["values"].is_null() { Vec::new() } else { next(&facts["values"])? };
    let mut options: OptionMap =
        facts["options"].as_object().into_iter().flatten().map(|(key, json)| (key.clone(), value(json))).collect();
    if !facts["large"].is_null() {
        let numbers = next(&facts["large"][1])?.into_iter().map(Value::Float).collect();
        options.insert(text(&facts["large"][0])?, Value::List(numbers));
    }
    let labels = list(&facts["labels"]).iter().map(text).collect::<Result<_>>()?;
    let size = |key: &str| facts[key].as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(broken);
    let chart = match facts["kind"].as_str().unwrap_or_default() {
        "histogram" => Chart::Histogram { series, options: Options::parse(&options)? },
        "violin" => Chart::Violin { series, options: Options::parse(&options)? },
        "ridgeline" => Chart::Ridgeline { series, options: Options::parse(&options)? },
        "box" => Chart::Box { series, options: Options::parse(&options)? },
        "ecdf" => Chart::Ecdf { series, options: Options::parse(&options)? },
        "line" => Chart::Line { series, options: Options::parse(&options)? },
        "bands" => Chart::Bands { samples, options: Options::parse(&options)? },
        "bar" => Chart::Bar { labels, series, options: Options::parse(&options)? },
        "scatter" => {
            let [x, y] = <[Series; 2]>::try_from(series).map_err(|_| broken())?;
            Chart::Scatter { x, y, options: Options::parse(&options)? }
        }
        "heatmap" => {
            let (rows, cols) = (size("rows")?, size("cols")?);
            if rows.checked_mul(cols) != Some(values.len()) {
                return Err(broken());
            }
            Chart::Heatmap { rows, cols, values: Arc::new(values), options: Options::parse(&options)? }
        }
        "grid" => Chart::Grid { figures, options: Options::parse(&options)? },
        _ => return Err(broken()),
    };
    Figure::new(chart, Provenance::from_json(facts["provenance"].clone()))
}

/// An option's canonical form as the value that gives it.
fn value(json: &Json) -> Value {
    match json {
        Json::Bool(v) => Value::Bool(*v),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Null | Json::Object(_) => Value::Unit,
    }
}
