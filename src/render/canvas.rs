//! Marks and text through plotters' SVG backend, in pixels as floats.
//!
//! plotters has integer coordinates: what is drawn is [`UNIT`] times as large, and the document's `viewBox` scales it down.

use super::color::Color;
use super::number::{BASELINE, SUPERSCRIPT};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, FontTransform, ShapeStyle, TextStyle, register_font};
use std::sync::OnceLock;

/// Canvas units in one pixel of the figure.
pub(super) const UNIT: f64 = 4.0;

/// The font's name as it stands in the SVG: what a viewer without Ubuntu shows instead.
const FAMILY: &str = "Ubuntu, Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif";

/// plotters' font size is the height of a line; an em is this much smaller.
const LINE_HEIGHT: f64 = 1.24;

/// Size of a superscript, in ems.
const SUPERSCRIPT_SIZE: f64 = 0.72;

/// plotters keeps fonts by name in a table of its own; ours enters it once.
fn register() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let ok = *REGISTERED.get_or_init(|| register_font(FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    if ok { Ok(()) } else { Err(Error::internal("the built-in font cannot be read")) }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal(format!("cannot draw: {e}"))
}

/// Where text stands in relation to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Left,
    Middle,
    Right,
}

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    /// Pixels of an em.
    pub(super) size: f64,
    pub(super) color: Color,
    pub(super) anchor: Anchor,
    /// Reads upwards.
    pub(super) upright: bool,
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FAMILY), size * UNIT * LINE_HEIGHT, FontStyle::Normal)
}

/// The width of text in pixels: a little more than in Ubuntu, so that other fonts have room.
pub(super) fn width(text: &str, size: f64) -> Result<f64> {
    register()?;
    let measure = |text: &str| font(size).box_size(text).map(|(w, _)| f64::from(w) / UNIT).map_err(failed);
    match text.split_once(SUPERSCRIPT) {
        Some((base, raised)) => Ok(measure(base)? + SUPERSCRIPT_SIZE * measure(raised.trim_end_matches(BASELINE))?),
        None => measure(text),
    }
}

/// The widest of some texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> Result<f64> {
    texts.into_iter().try_fold(0f64, |most, text| Ok(most.max(width(text, size)?)))
}

/// A user's text without what XML, or the eye, cannot take: control characters are written out, spaces at the ends (tokens
/// have them) become visible.
pub(super) fn clean(text: &str) -> String {
    let trimmed = text.trim_matches(' ');
    let (before, after) = if trimmed.is_empty() {
        (text.len(), 0)
    } else {
        (text.len() - text.trim_start_matches(' ').len(), text.len() - text.trim_end_matches(' ').len())
    };
    let mut out = "·".repeat(before);
    for c in trimmed.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{E000}'..='\u{F8FF}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    format!("{out}{}", "·".repeat(after))
}

/// Text cut with an ellipsis to a width in pixels.
pub(super) fn cut(text: &str, size: f64, room: f64) -> Result<String> {
    if width(text, size)? <= room {
        return Ok(text.to_string());
    }
    let chars: Vec<char> = text.chars().collect();
    let (mut fits, mut too_long) = (0, chars.len());
    while fits + 1 < too_long {
        let middle = (fits + too_long) / 2;
        let candidate: String = chars[..middle].iter().chain(&['…']).collect();
        if width(&candidate, size)? <= room { fits = middle } else { too_long = middle }
    }
    Ok(chars[..fits].iter().collect::<String>().trim_end().to_string() + "…")
}

/// Text broken between words into at most `lines` lines of a width in pixels; the last is cut.
pub(super) fn wrap(text: &str, size: f64, room: f64, lines: usize) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    let mut words = text.split(' ').peekable();
    while words.peek().is_some() {
        if out.len() + 1 == lines {
            out.push(cut(&words.collect::<Vec<_>>().join(" "), size, room)?);
            break;
        }
        let mut line = words.next().unwrap_or_default().to_string();
        while let Some(word) = words.peek() {
            let longer = format!("{line} {word}");
            if width(&longer, size)? > room {
                break;
            }
            line = longer;
            words.next();
        }
        out.push(cut(&line, size, room)?);
    }
    Ok(out)
}

/// Text for XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Runs `draw` on a fresh canvas; gives the SVG elements, without the document around them.
pub(super) fn layer(size: (f64, f64), draw: impl FnOnce(&Pen) -> Result<()>) -> Result<String> {
    register()?;
    let mut document = String::new();
    {
        let area = SVGBackend::with_string(&mut document, (unit(size.0) as u32, unit(size.1) as u32)).into_drawing_area();
        draw(&Pen { area: &area })?;
        area.present().map_err(failed)?;
    }
    let start = document.find('\n').map_or(0, |at| at + 1);
    let end = document.rfind("</svg>").unwrap_or(document.len());
    let elements = document.get(start..end).unwrap_or_default();
    Ok(elements
        .replace(SUPERSCRIPT, &format!("<tspan dy=\"-0.55em\" font-size=\"{SUPERSCRIPT_SIZE}em\">"))
        .replace(BASELINE, "</tspan>"))
}

fn unit(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

/// Draws in pixels of the figure.
pub(super) struct Pen<'a, 'b> {
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
}

impl Pen<'_, '_> {
    /// A line through points.
    pub(super) fn line(&self, points: &[(f64, f64)], color: Color, width: f64) -> Result<()> {
        let style = ShapeStyle { color, filled: false, stroke_width: unit(width).max(1) as u32 };
        self.area.draw(&PathElement::new(points.iter().map(place).collect::<Vec<_>>(), style)).map_err(failed)
    }

    /// A filled polygon.
    pub(super) fn polygon(&self, points: &[(f64, f64)], color: Color) -> Result<()> {
        let style = ShapeStyle { color, filled: true, stroke_width: 0 };
        self.area.draw(&Polygon::new(points.iter().map(place).collect::<Vec<_>>(), style)).map_err(failed)
    }

    /// A filled rectangle between two corners.
    pub(super) fn rectangle(&self, a: (f64, f64), b: (f64, f64), color: Color) -> Result<()> {
        let corners = [place(&(a.0.min(b.0), a.1.min(b.1))), place(&(a.0.max(b.0), a.1.max(b.1)))];
        let style = ShapeStyle { color, filled: true, stroke_width: 0 };
        self.area.draw(&Rectangle::new(corners, style)).map_err(failed)
    }

    /// A filled circle.
    pub(super) fn dot(&self, center: (f64, f64), radius: f64, color: Color) -> Result<()> {
        let style = ShapeStyle { color, filled: true, stroke_width: 0 };
        self.area.draw(&Circle::new(place(&center), unit(radius).max(1), style)).map_err(failed)
    }

    /// One line of text, its middle height at `at`.
    pub(super) fn text(&self, text: &str, at: (f64, f64), look: &Type) -> Result<()> {
        let h_pos = match look.anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let transform = if look.upright { FontTransform::Rotate270 } else { FontTransform::None };
        let style = TextStyle {
            font: font(look.size).transform(transform),
            color: plotters::style::Color::to_backend_color(&look.color),
            pos: Pos::new(h_pos, VPos::Center),
        };
        // The backend centres by half an x-height, which sets capitals and digits a little too high.
        let drop = 0.1 * look.size;
        let at = if look.upright { (at.0 + drop, at.1) } else { (at.0, at.1 + drop) };
        self.area.draw_text(text, &style, place(&at)).map_err(failed)
    }
}

fn place(point: &(f64, f64)) -> (i32, i32) {
    (unit(point.0), unit(point.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_text_becomes_harmless_and_visible() {
        assert_eq!(clean(" but\n\u{0}\u{E000}"), "·but\\n\u{FFFD}\u{FFFD}");
        assert_eq!(clean("  "), "··");
        assert_eq!(clean("a b "), "a b·");
    }

    #[test]
    fn text_is_cut_and_wrapped_to_the_room() {
        let long = "share of features that pass the same test under the null";
        for room in [30.0, 80.0, 200.0] {
            assert!(width(&cut(long, 12.0, room).unwrap(), 12.0).unwrap() <= room);
        }
        let lines = wrap(long, 12.0, 120.0, 3).unwrap();
        assert!(lines.len() == 3 && lines.iter().all(|l| width(l, 12.0).unwrap() <= 120.0));
        assert_eq!(wrap(long, 12.0, 1000.0, 3).unwrap(), [long]);
    }
}
