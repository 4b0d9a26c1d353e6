//! An SVG as pixels and as PNG, with the fonts that the program carries: the same on every machine.

use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::work::Work;
use resvg::{tiny_skia, usvg};

/// The longest side that is rasterised, in pixels.
const MAX_SIDE: f32 = 20_000.0;

/// Rasterises one of our SVGs with `scale` pixels for one of its own. Provenance goes into an iTXt chunk named `saerepl`.
/// Characters that neither Ubuntu nor Hack has (Chinese, for one) show as boxes.
///
/// # Errors
/// Not an SVG, a picture of more than 20 000 pixels on a side, or the user asked to stop.
pub fn png(svg: &str, scale: f32, provenance: &Provenance, work: &Work) -> Result<Vec<u8>> {
    let (svg, provenance) = (svg.to_string(), provenance.clone());
    work.detached(move |work| encoded(&svg, scale, &provenance, work))
}

/// As [`png`], in this thread.
pub(super) fn encoded(svg: &str, scale: f32, provenance: &Provenance, work: &Work) -> Result<Vec<u8>> {
    encode(&rasterise(svg, scale, work)?, provenance)
}

/// Rasterises one of our SVGs as [`png`] does.
///
/// # Errors
/// As [`png`].
pub fn pixels(svg: &str, scale: f32, work: &Work) -> Result<Picture> {
    let svg = svg.to_string();
    work.detached(move |work| rasterise(&svg, scale, work))
}

/// Pixels, row by row from the top.
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel.
    pub rgb: Vec<u8>,
}

fn rasterise(svg: &str, scale: f32, work: &Work) -> Result<Picture> {
    let mut options = usvg::Options { font_family: "Ubuntu".into(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.load_font_data(epaint_default_fonts::HACK_REGULAR.to_vec());
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| Error::internal(format!("cannot read the SVG: {e}")))?;
    work.check()?;
    let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
    let pixmap = (width <= MAX_SIDE && height <= MAX_SIDE)
        .then(|| tiny_skia::Pixmap::new(width.round() as u32, height.round() as u32))
        .flatten();
    let Some(mut pixmap) = pixmap else {
        return Err(Error::limit(format!(
            "a picture of {width} × {height} pixels cannot be made; the limit is {MAX_SIDE} a side"
        )));
    };
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    work.check()?;

    // Our documents begin with a white rectangle, so nothing is transparent.
    let rgb = pixmap.data().chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
    Ok(Picture { width: pixmap.width() as usize, height: pixmap.height() as usize, rgb })
}

fn encode(picture: &Picture, provenance: &Provenance) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::internal(format!("cannot write PNG: {e}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    if !provenance.is_empty() {
        encoder.add_itxt_chunk("saerepl".into(), provenance.to_json().to_string()).map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&picture.rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}
