//! Each kind of figure as marks in a frame.

mod categories;
mod matrix;
mod plane;

use super::axis::Kind;
use super::canvas;
use super::color::{self, Color};
use super::frame::{self, Entry, Plot, Swatch};
use super::number;
use crate::error::Result;
use crate::figure::{Chart, Figure, GridOptions, LeftOut, Look, Series};
use crate::work::Work;

/// More marks than this become one picture.
const MANY: usize = 20_000;

/// The elements of a figure.
pub(super) fn body(figure: &Figure, work: &Work) -> Result<String> {
    work.check()?;
    match figure.chart() {
        Chart::Histogram { series, options } => plane::histogram(series, options),
        Chart::Ecdf { series, options } => plane::ecdf(series, options),
        Chart::Line { series, options } => plane::line(series, options),
        Chart::Bands { samples, options } => plane::bands(samples, options),
        Chart::Scatter { x, y, options } => plane::scatter(&x.values, &y.values, options, work),
        Chart::Violin { series, options } => categories::violin(series, options),
        Chart::Box { series, options } => categories::boxes(series, options),
        Chart::Ridgeline { series, options } => categories::ridgeline(series, options),
        Chart::Bar { labels, series, options } => categories::bar(labels, series, options),
        Chart::Heatmap { rows, cols, values, options } => matrix::heatmap(*rows, *cols, values, options, work),
        Chart::Grid { figures, options } => grid(figures, options, work),
    }
}

fn grid(figures: &[Figure], options: &GridOptions, work: &Work) -> Result<String> {
    let cells = options.cells(figures);
    let width = cells.widths.iter().sum::<usize>() as f64;
    let mut out = canvas::layer((width.max(1.0), cells.header.max(1) as f64), |pen| frame::heading(pen, &options.look(), width))?;
    for (i, figure) in figures.iter().enumerate() {
        let (row, column) = (i / cells.columns, i % cells.columns);
        let left: usize = cells.widths[..column].iter().sum();
        let top: usize = cells.header + cells.heights[..row].iter().sum::<usize>();
        let unit = canvas::UNIT as usize;
        out.push_str(&format!("<g transform=\"translate({}, {})\">\n{}</g>\n", left * unit, top * unit, body(figure, work)?));
    }
    Ok(out)
}

/// A frame without legend, notes and labels.
fn plot(look: Look, x: Kind, y: Kind) -> Plot {
    Plot {
        look,
        x,
        y,
        y_down: false,
        xlabel: None,
        ylabel: None,
        legend: Vec::new(),
        bar: None,
        notes: Vec::new(),
        grid: (true, true),
        empty: false,
    }
}

/// The colour of each series.
fn colors(n: usize) -> Vec<Color> {
    (0..n).map(|i| color::series(i, n)).collect()
}

fn legend(series: &[Series], swatch: Swatch) -> Vec<Entry> {
    let entry = |(s, color): (&Series, Color)| Entry { name: s.name.clone(), color, swatch };
    series.iter().zip(colors(series.len())).map(entry).collect()
}

/// What the small print says of numbers that are not shown.
fn notes(left_out: LeftOut) -> Vec<String> {
    let reasons = [
        (left_out.not_finite, "not finite"),
        (left_out.not_positive, "not positive, on a logarithmic axis"),
        (left_out.outside, "beyond the axis"),
    ];
    let note = |(n, why): (usize, &str)| {
        let values = if n == 1 { "value" } else { "values" };
        format!("{} {values} left out: {why}", number::whole(n as u64))
    };
    reasons.into_iter().filter(|(n, _)| *n > 0).map(note).collect()
}

/// The points that a curve needs to stay within a tenth of a pixel of itself (Ramer, Douglas and Peucker).
fn simplified(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some(last) = points.len().checked_sub(1) else { return Vec::new() };
    let mut keep = vec![false; points.len()];
    (keep[0], keep[last]) = (true, true);
    let mut open = vec![(0, last)];
    while let Some((a, b)) = open.pop() {
        let (dx, dy) = (points[b].0 - points[a].0, points[b].1 - points[a].1);
        let length = dx.hypot(dy).max(1e-9);
        let distance = |i: &usize| ((points[*i].0 - points[a].0) * dy - (points[*i].1 - points[a].1) * dx).abs() / length;
        let farthest = (a + 1..b).max_by(|i, j| distance(i).total_cmp(&distance(j)));
        if let Some(middle) = farthest.filter(|i| distance(i) > 0.1) {
            keep[middle] = true;
            open.extend([(a, middle), (middle, b)]);
        }
    }
    points.iter().zip(keep).filter(|(_, keep)| *keep).map(|(point, _)| *point).collect()
}

fn least(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::min)
}

fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}
