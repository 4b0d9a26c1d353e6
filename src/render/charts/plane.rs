//! Figures over two axes of numbers: histogram, distribution function, line, quantile fan, scatter.

use super::super::axis::Kind;
use super::super::canvas::{self, Anchor, Pen, Type};
use super::super::color::{self, Ramp, faded};
use super::super::frame::{ColorBar, Entry, Frame, Swatch};
use super::super::raster::Pixels;
use super::{MANY, colors, least, legend, most, notes, plot};
use crate::error::Result;
use crate::figure::{
    BandsOptions, Bins, Ecdf, EcdfOptions, Fan, HistogramOptions, LeftOut, LineOptions, Samples, ScatterOptions, Series,
};
use crate::work::Work;

/// Points that a line or distribution function needs at most: two for each half pixel of a wide figure.
const FINE: usize = 4000;

/// Size of the text beside a mark.
const LABEL: f64 = 10.0;

type Point = (f64, f64);

pub(super) fn histogram(series: &[Series], options: &HistogramOptions) -> Result<String> {
    let look = options.look();
    let bins = Bins::new(series, options.bins, options.density, look.x());
    let heights = || bins.heights.iter().flatten().copied().filter(|h| *h > 0.0);
    let ends = (bins.edges.first().copied().unwrap_or(0.0), bins.edges.last().copied().unwrap_or(1.0));
    // Bins of whole numbers have their edges half-way between those.
    let whole = bins.edges.iter().all(|edge| (edge - 0.5).fract() == 0.0);
    let x = Kind::Numbers { from: ends.0, to: ends.1, log: look.log_x, whole };
    let (lowest, highest) = (least(heights()).unwrap_or(1.0), most(heights()).unwrap_or(1.0));
    let (from, to) = look.y().limits.unwrap_or(if look.log_y { (lowest * 0.5, highest * 1.6) } else { (0.0, highest * 1.05) });
    let y = Kind::Numbers { from, to, log: look.log_y, whole: !options.density && !look.log_y };
    let mut plot = plot(look, x, y);
    plot.grid = (false, true);
    plot.empty = bins.edges.is_empty();
    plot.legend = legend(series, Swatch::Area);
    plot.notes = notes(bins.left_out);
    let unit = if plot.look.log_x { "density per decade" } else { "density" };
    plot.ylabel = Some(if options.density { unit } else { "count" }.into());

    let marks = |pen: &Pen, frame: &Frame| {
        for (heights, color) in bins.heights.iter().zip(colors(series.len())) {
            let mut outline: Vec<Point> = Vec::new();
            for (height, edges) in heights.iter().zip(bins.edges.windows(2)) {
                let top = if *height > 0.0 { frame.y.at(*height) } else { frame.y.start() };
                outline.extend([(frame.x.at(edges[0]), top), (frame.x.at(edges[1]), top)]);
            }
            let (first, last) = (frame.x.at(bins.edges[0]), frame.x.at(bins.edges[bins.edges.len() - 1]));
            outline.insert(0, (first, frame.y.start()));
            outline.push((last, frame.y.start()));
            let alone = series.len() == 1;
            pen.polygon(&outline, faded(color, if alone { 0.85 } else { 0.3 }))?;
            if !alone {
                pen.line(&outline, color, 1.3)?;
                continue;
            }
            for (edge, beside) in bins.edges[1..].iter().zip(heights.windows(2)) {
                let lower = beside[0].min(beside[1]);
                if lower > 0.0 {
                    let x = frame.x.at(*edge);
                    pen.line(&[(x, frame.y.start()), (x, frame.y.at(lower))], color::WHITE, 0.5)?;
                }
            }
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

pub(super) fn ecdf(series: &[Series], options: &EcdfOptions) -> Result<String> {
    let look = options.look();
    let curves: Vec<Ecdf> = series.iter().map(|s| Ecdf::new(&s.values, FINE / 4, look.x())).collect();
    let x = Kind::of(curves.iter().flat_map(|c| c.at.iter().copied()), look.x(), 0.03);
    let (from, to) = look.y().limits.unwrap_or(if look.log_y {
        (least(curves.iter().filter_map(|c| c.share.first().copied())).unwrap_or(0.1) * 0.7, 1.2)
    } else {
        (0.0, 1.02)
    });
    let y = Kind::Numbers { from, to, log: look.log_y, whole: false };
    let mut plot = plot(look, x, y);
    plot.empty = curves.iter().all(|c| c.at.is_empty());
    plot.legend = legend(series, Swatch::Line);
    plot.notes = notes(curves.iter().fold(LeftOut::default(), |sum, c| sum.plus(c.left_out)));
    plot.ylabel = Some("share of values ≤ x".into());

    let marks = |pen: &Pen, frame: &Frame| {
        for (curve, color) in curves.iter().zip(colors(series.len())) {
            let mut points = Vec::new();
            let mut height = frame.bottom + 2.0;
            for (at, share) in curve.at.iter().zip(&curve.share) {
                let x = frame.x.at(*at);
                if points.is_empty() {
                    points.push((frame.left, height));
                }
                points.push((x, height));
                height = frame.y.at(*share);
                points.push((x, height));
            }
            if !points.is_empty() {
                points.push((frame.right, height));
                pen.line(&points, color, 1.6)?;
            }
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

pub(super) fn line(series: &[Series], options: &LineOptions) -> Result<String> {
    let look = options.look();
    let mut left_out = LeftOut::default();
    // Runs of points between gaps. A NaN is a gap by intent, and not counted.
    let lines: Vec<Vec<Vec<Point>>> = series
        .iter()
        .map(|s| {
            let mut runs: Vec<Vec<Point>> = vec![Vec::new()];
            for (i, y) in s.values.iter().enumerate() {
                let x = options.x.as_ref().map_or(i as f64, |x| x[i]);
                let (x_axis, y_axis) = (look.x().unlimited(), look.y().unlimited());
                if !x.is_nan() && !y.is_nan() && x_axis.shows(x, &mut left_out) && y_axis.shows(*y, &mut left_out) {
                    if let Some(run) = runs.last_mut() {
                        run.push((x, *y));
                    }
                } else {
                    runs.push(Vec::new());
                }
            }
            runs.retain(|run| !run.is_empty());
            runs
        })
        .collect();
    let points = || lines.iter().flatten().flatten();
    let x = Kind::of(points().map(|p| p.0), look.x(), 0.03);
    let y = Kind::of(points().map(|p| p.1), look.y(), 0.06).fractional();
    let mut plot = plot(look, x, y);
    plot.empty = points().next().is_none();
    plot.legend = legend(series, Swatch::Line);
    plot.notes = notes(left_out);

    let marks = |pen: &Pen, frame: &Frame| {
        for (runs, color) in lines.iter().zip(colors(series.len())) {
            let few = series.len() <= 8 && runs.iter().map(Vec::len).sum::<usize>() <= 40;
            for run in runs {
                let at: Vec<Point> = run.iter().map(|(x, y)| (frame.x.at(*x), frame.y.at(*y))).collect();
                if let [only] = at[..] {
                    pen.dot(only, 2.4, color)?;
                    continue;
                }
                let at = thinned(at);
                pen.line(&at, color, 1.6)?;
                if few {
                    at.iter().try_for_each(|point| pen.dot(*point, 2.4, color))?;
                }
            }
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

/// A long line from left to right with only the first, least, greatest and last of its points in each half pixel.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= FINE || !points.is_sorted_by(|a, b| a.0 <= b.0) {
        return points;
    }
    let mut out = Vec::new();
    for column in points.chunk_by(|a, b| (a.0 * 2.0).floor() == (b.0 * 2.0).floor()) {
        let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        let low = (0..column.len()).min_by(by_height).unwrap_or(0);
        let high = (0..column.len()).max_by(by_height).unwrap_or(0);
        let mut keep = [0, low, high, column.len() - 1];
        keep.sort_unstable();
        for (i, at) in keep.iter().enumerate() {
            if i == 0 || keep[i - 1] != *at {
                out.push(column[*at]);
            }
        }
    }
    out
}

pub(super) fn bands(samples: &[Samples], options: &BandsOptions) -> Result<String> {
    let look = options.look();
    let mut quantiles = options.quantiles.clone();
    quantiles.sort_unstable_by(f64::total_cmp);
    let fans: Vec<Fan> = samples.iter().map(|s| Fan::new(s, options.x.as_deref(), &quantiles, (look.x(), look.y()))).collect();
    let x = Kind::of(fans.iter().flat_map(|f| f.x.iter().copied()), look.x(), 0.02);
    let y = Kind::of(fans.iter().flat_map(|f| f.quantiles.iter().flatten().copied()), look.y(), 0.05).fractional();
    let mut plot = plot(look, x, y);
    plot.empty = fans.iter().all(|f| f.x.is_empty());
    plot.notes = notes(fans.iter().fold(LeftOut::default(), |sum, f| sum.plus(f.left_out)));
    let pairs = quantiles.len() / 2;
    let alpha = |pair: usize| 0.18 + 0.22 * pair as f64 / pairs.max(1) as f64;
    let band = |pair: usize| format!("{}–{} %", percent(quantiles[pair]), percent(quantiles[quantiles.len() - 1 - pair]));
    let center = (quantiles.len() % 2 == 1).then(|| match quantiles[pairs] {
        0.5 => "median".to_string(),
        q => format!("{} %", percent(q)),
    });
    let palette = colors(samples.len());
    if let [_] = samples {
        // Bands lie on each other, so the inner ones are darker than their own colour.
        let mut shade = 0.0;
        for pair in 0..pairs {
            shade = 1.0 - (1.0 - shade) * (1.0 - alpha(pair));
            plot.legend.push(Entry { name: band(pair), color: faded(palette[0], shade), swatch: Swatch::Area });
        }
        plot.legend.extend(center.map(|name| Entry { name, color: palette[0], swatch: Swatch::Line }));
    } else {
        let entry = |(s, color): (&Samples, &color::Color)| Entry { name: s.name.clone(), color: *color, swatch: Swatch::Area };
        plot.legend = samples.iter().zip(&palette).map(entry).collect();
        let parts: Vec<String> = (0..pairs).map(band).chain(center.map(|name| format!("line: {name}"))).collect();
        plot.notes.insert(0, format!("bands: {}", parts.join(", ")));
    }

    let marks = |pen: &Pen, frame: &Frame| {
        for (fan, color) in fans.iter().zip(&palette) {
            let edge = |q: usize| -> Vec<Point> {
                let points = fan.x.iter().zip(&fan.quantiles[q]);
                let points: Vec<Point> = points.map(|(x, y)| (frame.x.at(*x), frame.y.at(*y))).collect();
                // A single position is widened, so that it can be seen.
                if let [(x, y)] = points[..] { vec![(x - 8.0, y), (x + 8.0, y)] } else { points }
            };
            if fan.x.is_empty() {
                continue;
            }
            for pair in 0..pairs {
                let mut outline = edge(pair);
                outline.extend(edge(quantiles.len() - 1 - pair).into_iter().rev());
                pen.polygon(&outline, faded(*color, alpha(pair)))?;
            }
            if quantiles.len() % 2 == 1 {
                pen.line(&edge(pairs), *color, 2.0)?;
            }
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

fn percent(q: f64) -> f64 {
    (q * 1e6).round() / 1e4
}

pub(super) fn scatter(x: &[f64], y: &[f64], options: &ScatterOptions, work: &Work) -> Result<String> {
    let look = options.look();
    let mut left_out = LeftOut::default();
    let mut shown: Vec<usize> = (0..x.len()).collect();
    shown.retain(|i| look.x().shows(x[*i], &mut left_out) && look.y().shows(y[*i], &mut left_out));
    let x_kind = Kind::of(shown.iter().map(|i| x[*i]), look.x(), 0.04).fractional();
    let y_kind = Kind::of(shown.iter().map(|i| y[*i]), look.y(), 0.05).fractional();
    let mut plot = plot(look, x_kind, y_kind);
    plot.empty = shown.is_empty();
    plot.notes = notes(left_out);
    let bar = options.color.as_ref().and_then(|values| {
        let finite = || shown.iter().map(|i| values[*i]).filter(|v| v.is_finite());
        let (from, to) = (least(finite())?, most(finite())?);
        let to = if to > from { to } else { from + 1.0 };
        Some(ColorBar { ramp: Ramp::Sequential, from, to, label: options.clabel.clone() })
    });
    plot.bar.clone_from(&bar);
    let alpha: f64 = match shown.len() {
        0..300 => 0.85,
        300..3000 => 0.55,
        _ => 0.3,
    };
    let color = |i: usize| match (&bar, &options.color) {
        (Some(bar), Some(values)) if values[i].is_finite() => faded(bar.color(values[i]), alpha.max(0.6)),
        (Some(_), _) => faded(color::MISSING, alpha),
        _ => faded(color::series(0, 1), alpha),
    };
    let radius = options.size / 2.0;
    let many = shown.len() > MANY;
    let picture = |frame: &Frame| {
        // Three pixels for each of the figure's: fine on paper, and small as a file.
        let fine = 3.0;
        let size = |from: f64, to: f64| (((to - from) * fine).round() as usize).max(1);
        let mut pixels = Pixels::new(size(frame.left, frame.right), size(frame.top, frame.bottom));
        for i in &shown {
            work.check()?;
            let at = (frame.x.at(x[*i]) - frame.left, frame.y.at(y[*i]) - frame.top);
            pixels.dot((at.0 * fine, at.1 * fine), radius * fine, color(*i));
        }
        pixels.element(frame.left, frame.top, frame.right, frame.bottom)
    };
    let labels: Vec<(usize, &String)> = match &options.label {
        Some(labels) => shown.iter().map(|i| (*i, &labels[*i])).filter(|(_, label)| !label.is_empty()).collect(),
        None => Vec::new(),
    };
    let marks = |pen: &Pen, frame: &Frame| {
        if !many {
            shown.iter().try_for_each(|i| pen.dot((frame.x.at(x[*i]), frame.y.at(y[*i])), radius, color(*i)))?;
        }
        // Beside its mark, at the right or at the left, where no earlier text stands; else the label is left out.
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        for (i, label) in &labels {
            let at = (frame.x.at(x[*i]), frame.y.at(y[*i]));
            let text = canvas::cut(&canvas::clean(label), LABEL, (frame.right - frame.left) / 3.0)?;
            let width = canvas::width(&text, LABEL)?;
            let gap = radius + 3.0;
            let free = |left: &f64| {
                let inside = *left >= frame.left && left + width <= frame.right;
                let apart = |(a, b, y): &(f64, f64, f64)| left + width < *a || *left > *b || (y - at.1).abs() > LABEL;
                inside && taken.iter().all(apart)
            };
            if let Some(left) = [at.0 + gap, at.0 - gap - width].into_iter().find(free) {
                taken.push((left, left + width, at.1));
                pen.text(&text, (left, at.1), &Type { size: LABEL, color: color::INK, anchor: Anchor::Left, upright: false })?;
            }
        }
        Ok(())
    };
    plot.draw(if many { Some(&picture) } else { None }, &marks)
}
