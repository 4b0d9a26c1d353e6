//! Figures with one place for each name: violins, boxes, ridges, bars.

use super::super::axis::Kind;
use super::super::canvas::Pen;
use super::super::color::{self, faded};
use super::super::frame::{Frame, Swatch};
use super::{colors, least, legend, most, notes, plot, simplified};
use crate::error::Result;
use crate::figure::{BarOptions, BoxOptions, BoxStats, Density, LeftOut, RidgelineOptions, Series, ViolinOptions};

fn names(series: &[Series]) -> Kind {
    Kind::Names(series.iter().map(|s| s.name.clone()).collect())
}

pub(super) fn violin(series: &[Series], options: &ViolinOptions) -> Result<String> {
    let look = options.look();
    let densities: Vec<Density> = series.iter().map(|s| Density::new(&s.values, options.bandwidth, look.y())).collect();
    let y = Kind::of(densities.iter().flat_map(|d| d.at.iter().copied()), look.y(), 0.04).fractional();
    let mut plot = plot(look, names(series), y);
    plot.grid = (false, true);
    plot.empty = densities.iter().all(|d| d.at.is_empty());
    plot.notes = notes(densities.iter().fold(LeftOut::default(), |sum, d| sum.plus(d.left_out)));
    plot.notes.insert(0, "dot: median; bar: quartiles".into());

    let marks = |pen: &Pen, frame: &Frame| {
        let slot = frame.x.at(1.0) - frame.x.at(0.0);
        let half = (slot * 0.42).min(60.0);
        for (i, (density, color)) in densities.iter().zip(colors(series.len())).enumerate() {
            let middle = frame.x.at(i as f64);
            let highest = most(density.height.iter().copied()).unwrap_or(1.0);
            let side = |sign: f64| -> Vec<(f64, f64)> {
                let points = density.at.iter().zip(&density.height);
                let points = points.map(|(at, height)| (middle + sign * half * height / highest, frame.y.at(*at)));
                simplified(&points.collect::<Vec<_>>())
            };
            match density.at[..] {
                [] => continue,
                [only] => {
                    let y = frame.y.at(only);
                    pen.line(&[(middle - half * 0.6, y), (middle + half * 0.6, y)], color, 1.6)?;
                }
                _ => {
                    let mut outline = side(-1.0);
                    outline.extend(side(1.0).into_iter().rev());
                    pen.polygon(&outline, faded(color, 0.45))?;
                    outline.extend(outline.first().copied());
                    pen.line(&outline, color, 1.0)?;
                }
            }
            let [low, median, high] = density.quartiles.map(|q| frame.y.at(q));
            let bar = (half * 0.12).clamp(0.8, 3.0);
            pen.rectangle((middle - bar, low), (middle + bar, high), color::INK)?;
            let dot = (half * 0.16).clamp(1.2, 3.4);
            pen.dot((middle, median), dot + 0.7, color::INK)?;
            pen.dot((middle, median), dot, color::WHITE)?;
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

pub(super) fn boxes(series: &[Series], options: &BoxOptions) -> Result<String> {
    let look = options.look();
    let stats: Vec<BoxStats> = series.iter().map(|s| BoxStats::new(&s.values, look.y())).collect();
    let shown = |s: &BoxStats| -> Vec<f64> {
        let ends = s.outliers.first().into_iter().chain(s.outliers.last());
        s.whiskers.iter().chain(ends).copied().filter(|v| !v.is_nan()).collect()
    };
    let y = Kind::of(stats.iter().flat_map(shown), look.y(), 0.04).fractional();
    let mut plot = plot(look, names(series), y);
    plot.grid = (false, true);
    plot.empty = stats.iter().all(|s| s.quartiles[1].is_nan());
    plot.notes = notes(stats.iter().fold(LeftOut::default(), |sum, s| sum.plus(s.left_out)));
    plot.notes.insert(0, "box: quartiles; whiskers: up to 1.5 interquartile ranges".into());

    let marks = |pen: &Pen, frame: &Frame| {
        let slot = frame.x.at(1.0) - frame.x.at(0.0);
        let half = (slot * 0.3).min(36.0);
        for (i, (stats, color)) in stats.iter().zip(colors(series.len())).enumerate() {
            if stats.quartiles[1].is_nan() {
                continue;
            }
            let middle = frame.x.at(i as f64);
            let [low, median, high] = stats.quartiles.map(|q| frame.y.at(q));
            for (whisker, edge) in stats.whiskers.iter().zip([low, high]) {
                let end = frame.y.at(*whisker);
                pen.line(&[(middle, edge), (middle, end)], color, 1.2)?;
                pen.line(&[(middle - half * 0.5, end), (middle + half * 0.5, end)], color, 1.2)?;
            }
            let corners = [(-1.0, low), (1.0, low), (1.0, high), (-1.0, high), (-1.0, low)];
            let outline = corners.map(|(side, y)| (middle + side * half, y));
            pen.polygon(&outline, color::WHITE)?;
            pen.polygon(&outline, faded(color, 0.35))?;
            pen.line(&outline, color, 1.2)?;
            pen.line(&[(middle - half, median), (middle + half, median)], color::INK, 2.0)?;
            // Dots closer than half a pixel cannot be told apart.
            let mut places: Vec<i64> = stats.outliers.iter().map(|v| (frame.y.at(*v) * 2.0).round() as i64).collect();
            places.dedup();
            places.iter().try_for_each(|y| pen.dot((middle, *y as f64 / 2.0), 1.5, faded(color, 0.7)))?;
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

pub(super) fn ridgeline(series: &[Series], options: &RidgelineOptions) -> Result<String> {
    let look = options.look();
    let densities: Vec<Density> = series.iter().map(|s| Density::new(&s.values, options.bandwidth, look.x())).collect();
    let x = Kind::of(densities.iter().flat_map(|d| d.at.iter().copied()), look.x(), 0.02).fractional();
    let mut plot = plot(look, x, names(series));
    plot.grid = (true, false);
    plot.y_down = true;
    plot.empty = densities.iter().all(|d| d.at.is_empty());
    plot.notes = notes(densities.iter().fold(LeftOut::default(), |sum, d| sum.plus(d.left_out)));
    plot.notes.insert(0, "each ridge is as high as the others; tick: median".into());

    let marks = |pen: &Pen, frame: &Frame| {
        let slot = frame.y.at(1.0) - frame.y.at(0.0);
        for (i, (density, color)) in densities.iter().zip(colors(series.len())).enumerate() {
            // The baseline lies low in its slot; a ridge may rise into the slot above, except the first.
            let base = frame.y.at(i as f64) + slot * 0.42;
            let rise = slot * if i == 0 { 0.85 } else { 1.15 };
            let highest = most(density.height.iter().copied()).unwrap_or(1.0);
            let top = |height: f64| base - rise * height / highest;
            match density.at[..] {
                [] => continue,
                [only] => {
                    let x = frame.x.at(only);
                    pen.line(&[(x, base), (x, top(highest))], color, 1.6)?;
                }
                _ => {
                    let points = density.at.iter().zip(&density.height);
                    let crest: Vec<(f64, f64)> = points.map(|(at, height)| (frame.x.at(*at), top(*height))).collect();
                    let crest = simplified(&crest);
                    let mut outline = crest.clone();
                    outline.extend([(crest[crest.len() - 1].0, base), (crest[0].0, base)]);
                    pen.polygon(&outline, faded(color::WHITE, 0.7))?;
                    pen.polygon(&outline, faded(color, 0.45))?;
                    pen.line(&crest, color, 1.3)?;
                }
            }
            pen.line(&[(frame.left, base), (frame.right, base)], color::GRID, 0.8)?;
            let median = frame.x.at(density.quartiles[1]);
            pen.line(&[(median, base), (median, base - slot * 0.22)], color::INK, 1.4)?;
        }
        Ok(())
    };
    plot.draw(None, &marks)
}

pub(super) fn bar(labels: &[String], series: &[Series], options: &BarOptions) -> Result<String> {
    let look = options.look();
    let mut left_out = LeftOut::default();
    let mut shown = Vec::new();
    for (s, one) in series.iter().enumerate() {
        for (i, value) in one.values.iter().enumerate() {
            if look.y().unlimited().shows(*value, &mut left_out) {
                shown.push((s, i, *value));
            }
        }
    }
    let values = || shown.iter().map(|(_, _, value)| *value);
    let (low, high) = (least(values()).unwrap_or(0.0), most(values()).unwrap_or(1.0));
    let (from, to) = look.y().limits.unwrap_or(if look.log_y {
        (low * 0.5, high * 1.6)
    } else {
        let room = 0.05 * (high.max(0.0) - low.min(0.0));
        let room = if room > 0.0 { room } else { 1.0 };
        (if low < 0.0 { low - room } else { 0.0 }, if high > 0.0 { high + room } else { 0.0 })
    });
    let y = Kind::Numbers { from, to: if to > from { to } else { from + 1.0 }, log: look.log_y, whole: false };
    let mut plot = plot(look, Kind::Names(labels.to_vec()), y);
    plot.grid = (false, true);
    plot.empty = shown.is_empty();
    plot.legend = legend(series, Swatch::Area);
    plot.notes = notes(left_out);

    let marks = |pen: &Pen, frame: &Frame| {
        let slot = frame.x.at(1.0) - frame.x.at(0.0);
        let width = slot * 0.8 / series.len() as f64;
        let base = if plot.look.log_y { frame.y.start() } else { frame.y.at(0.0) };
        let gap = if width > 6.0 { 0.5 } else { 0.0 };
        let palette = colors(series.len());
        for (s, i, value) in &shown {
            let left = frame.x.at(*i as f64) - slot * 0.4 + *s as f64 * width;
            pen.rectangle((left + gap, base), (left + width - gap, frame.y.at(*value)), faded(palette[*s], 0.9))?;
        }
        if from < 0.0 {
            pen.line(&[(frame.left, base), (frame.right, base)], color::SOFT_INK, 0.8)?;
        }
        Ok(())
    };
    plot.draw(None, &marks)
}
