//! Heat maps: one picture of coloured cells, whatever their number.

use super::super::axis::Kind;
use super::super::canvas::Pen;
use super::super::color::{self, Ramp};
use super::super::frame::{ColorBar, Frame};
use super::super::number;
use super::super::raster::Pixels;
use super::{least, most, plot};
use crate::error::Result;
use crate::figure::{Colors, HeatmapOptions};
use crate::work::Work;
use std::ops::Range;

/// Pixels of the picture for one of the figure's, where there are enough cells.
const FINE: f64 = 3.0;

pub(super) fn heatmap(rows: usize, cols: usize, values: &[f64], options: &HeatmapOptions, work: &Work) -> Result<String> {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let axis = |labels: &Option<Vec<String>>, n: usize| match labels {
        Some(labels) => Kind::Names(labels.clone()),
        None => Kind::Numbers { from: -0.5, to: n.max(1) as f64 - 0.5, log: false, whole: true },
    };
    let mut plot = plot(options.look(), axis(&options.xlabels, cols), axis(&options.ylabels, rows));
    plot.y_down = true;
    plot.grid = (false, false);
    plot.empty = finite().next().is_none();
    let bar = color_bar(least(finite()).unwrap_or(0.0), most(finite()).unwrap_or(1.0), options);
    if !plot.empty {
        plot.bar = Some(bar.clone());
    }
    let missing = values.len() - finite().count();
    if missing > 0 {
        let cells = if missing == 1 { "cell" } else { "cells" };
        plot.notes.push(format!("{} grey {cells}: not finite", number::whole(missing as u64)));
    }
    let (row_blocks, col_blocks) = (blocks(rows, plot.look.height), blocks(cols, plot.look.width));
    if row_blocks.len() < rows || col_blocks.len() < cols {
        let (tall, wide) = (row_blocks[0].len(), col_blocks[0].len());
        plot.notes.push(format!("{rows} × {cols} cells, drawn as means over {tall} × {wide}"));
    }
    let picture = |frame: &Frame| {
        // Small matrices get several pixels for each cell, so that viewers which smooth pictures show sharp edges.
        let repeat = |pixels: f64, cells: usize| ((pixels * FINE / cells as f64).ceil() as usize).clamp(1, 200);
        let wide = repeat(frame.right - frame.left, col_blocks.len());
        let tall = repeat(frame.bottom - frame.top, row_blocks.len());
        let mut pixels = Pixels::new(col_blocks.len() * wide, row_blocks.len() * tall);
        for (i, block_rows) in row_blocks.iter().enumerate() {
            work.check()?;
            for (j, block_cols) in col_blocks.iter().enumerate() {
                let mean = mean(values, cols, block_rows, block_cols);
                let color = if mean.is_nan() { color::MISSING } else { bar.color(mean) };
                for y in i * tall..(i + 1) * tall {
                    for x in j * wide..(j + 1) * wide {
                        pixels.set(x, y, color);
                    }
                }
            }
        }
        pixels.element(frame.left, frame.top, frame.right, frame.bottom)
    };
    plot.draw(Some(&picture), &|_: &Pen, _: &Frame| Ok(()))
}

fn color_bar(least: f64, most: f64, options: &HeatmapOptions) -> ColorBar {
    let ramp = match options.colors {
        Colors::Auto if least < 0.0 && most > 0.0 => Ramp::Diverging,
        Colors::Auto | Colors::Sequential => Ramp::Sequential,
        Colors::Diverging => Ramp::Diverging,
        Colors::Grey => Ramp::Grey,
    };
    let (from, to) = match (options.range.as_deref(), ramp) {
        (Some([from, to]), _) => (*from, *to),
        (_, Ramp::Diverging) => {
            let reach = least.abs().max(most.abs());
            (-reach, reach)
        }
        _ => (least, most),
    };
    // A constant matrix has the colour of the ramp's middle.
    let half = if to > from { 0.0 } else { (from.abs() * 0.1).max(0.5) };
    ColorBar { ramp, from: from - half, to: to + half, label: options.clabel.clone() }
}

/// `n` cells in as many blocks as can be told apart on `pixels`.
fn blocks(n: usize, pixels: usize) -> Vec<Range<usize>> {
    let size = n.div_ceil((pixels as f64 * FINE) as usize).max(1);
    (0..n).step_by(size).map(|start| start..(start + size).min(n)).collect()
}

/// The mean of the finite cells of a block; NaN where there are none.
fn mean(values: &[f64], cols: usize, block_rows: &Range<usize>, block_cols: &Range<usize>) -> f64 {
    let (mut sum, mut n) = (0.0, 0u32);
    for row in block_rows.clone() {
        for value in &values[row * cols + block_cols.start..row * cols + block_cols.end] {
            if value.is_finite() {
                sum += value;
                n += 1;
            }
        }
    }
    sum / f64::from(n)
}
