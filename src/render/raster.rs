//! Pixels, for what has too many marks to be drawn one by one: they enter the SVG as one embedded PNG.

use super::canvas::UNIT;
use super::color::Color;
use crate::error::{Error, Result};
use base64::Engine;

/// An RGBA picture, transparent at first.
pub(super) struct Pixels {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Pixels {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Pixels { width, height, data: vec![0; width * height * 4] }
    }

    /// Replaces one pixel.
    pub(super) fn set(&mut self, x: usize, y: usize, color: Color) {
        let at = (y * self.width + x) * 4;
        self.data[at..at + 4].copy_from_slice(&[color.0, color.1, color.2, (color.3 * 255.0).round() as u8]);
    }

    /// Draws a smooth dot over what is there.
    pub(super) fn dot(&mut self, (cx, cy): (f64, f64), radius: f64, color: Color) {
        let range = |center: f64, size: usize| {
            let from = (center - radius - 1.0).max(0.0).floor() as usize;
            from..((center + radius + 1.0).max(0.0).ceil() as usize).min(size)
        };
        for y in range(cy, self.height) {
            for x in range(cx, self.width) {
                let distance = (x as f64 + 0.5 - cx).hypot(y as f64 + 0.5 - cy);
                let alpha = color.3 * (radius + 0.5 - distance).clamp(0.0, 1.0);
                if alpha > 0.0 {
                    self.blend((y * self.width + x) * 4, color, alpha);
                }
            }
        }
    }

    fn blend(&mut self, at: usize, color: Color, alpha: f64) {
        let pixel = &mut self.data[at..at + 4];
        let below = f64::from(pixel[3]) / 255.0 * (1.0 - alpha);
        let total = alpha + below;
        for (channel, new) in pixel.iter_mut().zip([color.0, color.1, color.2]) {
            *channel = ((f64::from(new) * alpha + f64::from(*channel) * below) / total).round() as u8;
        }
        pixel[3] = (total * 255.0).round() as u8;
    }

    fn png(&self) -> Result<Vec<u8>> {
        let failed = |e: png::EncodingError| Error::internal(format!("cannot write PNG: {e}"));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.data).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// The picture as an SVG element that fills a rectangle given in pixels of the figure.
    pub(super) fn element(&self, left: f64, top: f64, right: f64, bottom: f64) -> Result<String> {
        let data = base64::engine::general_purpose::STANDARD.encode(self.png()?);
        Ok(format!(
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" href=\"data:image/png;base64,{data}\"/>\n",
            left * UNIT,
            top * UNIT,
            (right - left) * UNIT,
            (bottom - top) * UNIT
        ))
    }
}
