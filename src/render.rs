//! Tables and figures to text, SVG and PNG.
//!
//! * `text`: tables and tensors for a terminal. * `number`: how numbers are written.
//! * `charts`: each kind of figure as marks in a frame. * `frame`: titles, axes, legend, small print around the marks.
//! * `axis`: scales and ticks. * `canvas`: marks and text through plotters' SVG backend. * `color`: palettes.
//! * `raster`: pixels, for what has too many marks. * `png`: an SVG as PNG.

mod axis;
mod canvas;
mod charts;
mod color;
mod frame;
mod number;
mod png;
mod raster;
pub mod text;

pub use png::png;

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::files;
use crate::work::Work;
use std::path::Path;

/// Pixels of a PNG for one pixel of the SVG, unless somebody asks for others.
pub const PNG_SCALE: f32 = 2.0;

/// A figure as an SVG document, with its provenance as JSON in a `<metadata>` element. The same figure gives the same
/// bytes. Text stays text, in Ubuntu or the next best sans-serif of whoever views it.
///
/// # Errors
/// None that a figure's data cause.
pub fn svg(figure: &Figure) -> Result<String> {
    let (width, height) = figure.size();
    let metadata = if figure.provenance.is_empty() {
        String::new()
    } else {
        format!("<metadata>{}</metadata>\n", canvas::escape(&figure.provenance.to_json().to_string()))
    };
    let unit = canvas::UNIT as usize;
    let (inner_width, inner_height) = (width * unit, height * unit);
    let body = charts::body(figure)?;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {inner_width} {inner_height}\" stroke-linejoin=\"round\">\n{metadata}\
         <rect width=\"{inner_width}\" height=\"{inner_height}\" fill=\"#FFFFFF\"/>\n{body}</svg>\n"
    ))
}

/// Writes a figure to `.svg` or `.png`.
///
/// # Errors
/// Another extension, or the file cannot be written.
pub fn save_figure(figure: &Figure, path: &Path, work: &Work) -> Result<()> {
    let extension = path.extension().map_or_else(String::new, |e| e.to_string_lossy().to_lowercase());
    match extension.as_str() {
        "svg" => files::write_atomic(path, svg(figure)?.as_bytes()),
        "png" => files::write_atomic(path, &png(&svg(figure)?, PNG_SCALE, &figure.provenance, work)?),
        _ => Err(Error::input("a figure is saved as .svg or .png").file(path)),
    }
}
