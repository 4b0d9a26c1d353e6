//! What stands around the marks: heading, axes, legend, colour bar, small print. Every text gets its room before the marks
//! get theirs, so nothing is cut off and nothing covers data.

use super::axis::{Kind, Scale, Ticks};
use super::canvas::{self, Anchor, Pen, Type, UNIT};
use super::color::{self, Color, Ramp};
use crate::error::Result;
use crate::figure::{Legend, Look};

const TITLE: f64 = 15.0;
const SUBTITLE: f64 = 12.0;
const LABEL: f64 = 12.5;
const TICK: f64 = 11.0;
const NOTE: f64 = 9.5;
const MARGIN: f64 = 12.0;
/// Height of a line of text, in ems.
const LINE: f64 = 1.3;
const TICK_LENGTH: f64 = 4.0;
const SWATCH: f64 = 16.0;
const BAR_WIDTH: f64 = 12.0;

fn ink(size: f64, anchor: Anchor) -> Type {
    Type { size, color: color::INK, anchor, upright: false }
}

/// How the legend shows a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swatch {
    Area,
    Line,
}

/// One entry of the legend.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) color: Color,
    pub(super) swatch: Swatch,
}

/// The colours of numbers.
#[derive(Clone, Debug)]
pub(super) struct ColorBar {
    pub(super) ramp: Ramp,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) label: Option<String>,
}

impl ColorBar {
    pub(super) fn color(&self, value: f64) -> Color {
        self.ramp.at((value - self.from) / (self.to - self.from))
    }
}

/// The room of the marks, and the scales that lead there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

/// Everything but the marks.
pub(super) struct Plot {
    pub(super) look: Look,
    pub(super) x: Kind,
    pub(super) y: Kind,
    /// The vertical axis begins on top (rows of a matrix, ridges).
    pub(super) y_down: bool,
    pub(super) xlabel: Option<String>,
    pub(super) ylabel: Option<String>,
    pub(super) legend: Vec<Entry>,
    pub(super) bar: Option<ColorBar>,
    pub(super) notes: Vec<String>,
    /// Grid lines at the ticks of x, of y.
    pub(super) grid: (bool, bool),
    pub(super) empty: bool,
}

/// The marks: elements below (a picture) and drawn ones above.
type Picture<'a> = &'a dyn Fn(&Frame) -> Result<String>;
type Marks<'a> = &'a dyn Fn(&Pen, &Frame) -> Result<()>;

/// Texts with their places worked out.
struct Layout {
    title: Vec<String>,
    subtitle: Vec<String>,
    xlabel: Vec<String>,
    ylabel: Vec<String>,
    notes: Vec<String>,
    legend: Placed,
    frame: Frame,
    x_ticks: Ticks,
    y_ticks: Ticks,
    names: NameStyle,
    bar_ticks: Ticks,
}

/// A legend: entries with the place of each, relative to its corner.
#[derive(Default)]
struct Placed {
    on_top: bool,
    entries: Vec<(Entry, f64, f64)>,
    width: f64,
    height: f64,
}

impl Plot {
    /// The elements of the whole figure.
    pub(super) fn draw(&self, picture: Option<Picture>, marks: Marks) -> Result<String> {
        let size = (self.look.width as f64, self.look.height as f64);
        let layout = self.layout(size)?;
        let frame = &layout.frame;
        let below = canvas::layer(size, |pen| self.draw_grid(pen, &layout))?;
        let mut inside = String::new();
        if !self.empty {
            if let Some(picture) = picture {
                inside.push_str(&picture(frame)?);
            }
            inside.push_str(&canvas::layer(size, |pen| marks(pen, frame))?);
        }
        let around = canvas::layer(size, |pen| self.draw_around(pen, &layout, size))?;
        // An inner document cuts off what leaves its window.
        let [x, y, width, height] =
            [frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top].map(|v| (v * UNIT).round());
        Ok(format!(
            "{below}<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"{x} {y} {width} {height}\">\n\
             {inside}</svg>\n{around}"
        ))
    }

    fn layout(&self, (width, height): (f64, f64)) -> Result<Layout> {
        let look = &self.look;
        let lines = |text: &Option<String>, size: f64, room: f64, most: usize| match text {
            Some(text) => canvas::wrap(&canvas::clean(text), size, room, most),
            None => Ok(Vec::new()),
        };
        let room = width - 2.0 * MARGIN;
        let title = lines(&look.title, TITLE, room, 2)?;
        let subtitle = lines(&look.subtitle, SUBTITLE, room, 2)?;
        let note: Vec<&str> = self.notes.iter().map(String::as_str).chain(look.note.as_deref()).collect();
        let notes = lines(&(!note.is_empty()).then(|| note.join(" · ")), NOTE, room, 3)?;
        let xlabel = lines(&look.xlabel.clone().or_else(|| self.xlabel.clone()), LABEL, room - 40.0, 2)?;
        let ylabel = lines(&look.ylabel.clone().or_else(|| self.ylabel.clone()), LABEL, (height * 0.8).max(80.0), 2)?;

        let mut top = 8.0 + title.len() as f64 * TITLE * LINE + subtitle.len() as f64 * SUBTITLE * LINE;
        let legend = self.place_legend(room, height - top - 90.0)?;
        if legend.on_top && !legend.entries.is_empty() {
            top += legend.height + 2.0;
        }
        top += 8.0;
        let foot = 6.0 + notes.len() as f64 * NOTE * LINE + xlabel.len() as f64 * LABEL * LINE + 4.0;

        let bar_ticks = match &self.bar {
            Some(bar) => {
                let kind = Kind::Numbers { from: bar.from, to: bar.to, log: false, whole: false };
                kind.ticks(((height - top - foot) / 50.0) as usize)
            }
            None => Ticks::default(),
        };
        let mut right = width - MARGIN;
        if !legend.on_top && !legend.entries.is_empty() {
            right -= legend.width + 12.0;
        }
        if let Some(bar) = &self.bar {
            let label = if bar.label.is_some() { LABEL * LINE + 4.0 } else { 0.0 };
            right -= 12.0 + BAR_WIDTH + 7.0 + canvas::widest(bar_ticks.labels(), TICK)? + label;
        }

        // How high the horizontal axis' names stand follows from its width, which follows from the vertical axis' numbers,
        // which follow from its height: a first guess of one line is corrected once.
        let fit = |tick_height: f64, names: Option<NameStyle>| -> Result<Fit> {
            let bottom = (height - foot - tick_height - TICK_LENGTH - 3.0).max(top + 20.0);
            let y_ticks = self.y_ticks(bottom - top, width)?;
            let tick_width = canvas::widest(y_ticks.labels(), TICK)?;
            let left = MARGIN + ylabel.len() as f64 * LABEL * LINE + tick_width + TICK_LENGTH + 6.0;
            let (x_ticks, names) = self.x_ticks((right - left).max(40.0), height, names)?;
            Ok(Fit { left, bottom, x_ticks, y_ticks, names })
        };
        let guess = fit(TICK * LINE, None)?;
        let tick_height = match guess.names {
            NameStyle::Upright => canvas::widest(guess.x_ticks.labels(), TICK)? + 2.0,
            NameStyle::Level => TICK * LINE * guess.x_ticks.labels().map(|l| l.lines().count()).max().unwrap_or(1).max(1) as f64,
        };
        let Fit { left, bottom, x_ticks, y_ticks, names } = fit(tick_height, Some(guess.names))?;

        // The last number may stand half beyond the axis' end.
        let last = x_ticks.labels().last().map_or(Ok(0.0), |label| canvas::width(label, TICK))?;
        let overhang = if matches!(self.x, Kind::Names(_)) { 0.0 } else { (last / 2.0 - (width - 4.0 - right)).max(0.0) };
        let right = (right - overhang).max(left + 40.0);
        let (low, high) = if self.y_down { (top, bottom) } else { (bottom, top) };
        let frame = Frame { left, top, right, bottom, x: Scale::new(&self.x, left, right), y: Scale::new(&self.y, low, high) };
        Ok(Layout { title, subtitle, xlabel, ylabel, notes, legend, frame, x_ticks, y_ticks, names, bar_ticks })
    }

    /// Ticks of the horizontal axis in `room` pixels, and how their names stand (as given, or as they fit best). A line
    /// break in a name is one made here.
    fn x_ticks(&self, room: f64, height: f64, style: Option<NameStyle>) -> Result<(Ticks, NameStyle)> {
        if self.empty && !matches!(self.x, Kind::Names(_)) {
            return Ok((Ticks::default(), NameStyle::Level));
        }
        let mut most = ((room / 60.0) as usize).clamp(2, 12);
        let mut ticks = self.x.ticks(most);
        let mut widest = canvas::widest(ticks.labels(), TICK)?;
        let Kind::Names(names) = &self.x else {
            while most > 1 && (widest + 14.0) * ticks.major.len() as f64 > room {
                most -= 1;
                ticks = self.x.ticks(most);
                widest = canvas::widest(ticks.labels(), TICK)?;
            }
            return Ok((ticks, NameStyle::Level));
        };
        let step = room / names.len().max(1) as f64;
        let fits = widest + 6.0 <= step;
        // Long names are broken into lines where there is room for that, and turned where there is none; short ones (layer
        // numbers) are thinned out.
        let best = if fits || step >= 64.0 || widest <= 30.0 { NameStyle::Level } else { NameStyle::Upright };
        let style = style.unwrap_or(best);
        match style {
            NameStyle::Upright => {
                ticks.thin((TICK * 1.15 / step).ceil() as usize);
                ticks.cut((height * 0.35).min(160.0))?;
            }
            NameStyle::Level if step >= 64.0 => {
                for (_, label) in &mut ticks.major {
                    *label = canvas::wrap(label, TICK, step - 8.0, 3)?.join("\n");
                }
            }
            NameStyle::Level => ticks.thin(((widest + 6.0) / step).ceil() as usize),
        }
        Ok((ticks, style))
    }

    fn y_ticks(&self, room: f64, width: f64) -> Result<Ticks> {
        if self.empty && !matches!(self.y, Kind::Names(_)) {
            return Ok(Ticks::default());
        }
        let mut ticks = self.y.ticks(((room / 42.0) as usize).clamp(2, 12));
        if let Kind::Names(names) = &self.y {
            ticks.thin((TICK * 1.15 * names.len() as f64 / room).ceil() as usize);
            ticks.cut((width * 0.3).min(200.0))?;
        }
        Ok(ticks)
    }

    fn place_legend(&self, room: f64, height: f64) -> Result<Placed> {
        let named = self.legend.iter().any(|entry| !entry.name.is_empty());
        if self.look.legend == Legend::Off || !named {
            return Ok(Placed::default());
        }
        let on_top = self.legend_rows(room, 200.0, TICK * 1.5)?;
        let few = on_top.height <= 2.0 * TICK * 1.5 + 0.1;
        if self.look.legend == Legend::Top || (self.look.legend == Legend::Auto && few && self.legend.len() <= 12) {
            return Ok(on_top);
        }
        self.legend_columns(height.max(40.0), 150.0)
    }

    /// Entries in rows, each row in the middle.
    fn legend_rows(&self, room: f64, most: f64, line: f64) -> Result<Placed> {
        let mut rows: Vec<(f64, Vec<(Entry, f64)>)> = Vec::new();
        for entry in &self.legend {
            let name = canvas::cut(&canvas::clean(&entry.name), TICK, most.min(room - SWATCH - 6.0))?;
            let width = SWATCH + 6.0 + canvas::width(&name, TICK)? + 14.0;
            if rows.last().is_none_or(|(used, _)| used + width > room) {
                rows.push((0.0, Vec::new()));
            }
            if let Some((used, row)) = rows.last_mut() {
                row.push((Entry { name, ..entry.clone() }, *used));
                *used += width;
            }
        }
        let height = rows.len() as f64 * line;
        let mut entries = Vec::new();
        for (i, (used, row)) in rows.into_iter().enumerate() {
            let indent = (room - used + 14.0) / 2.0;
            entries.extend(row.into_iter().map(|(entry, x)| (entry, indent + x, (i as f64 + 0.5) * line)));
        }
        Ok(Placed { on_top: true, entries, width: room, height })
    }

    /// Entries in up to two columns. Where even those are too short, only each second or third stands there: with so many
    /// series the colours run along a scale, so that the others can be read between them.
    fn legend_columns(&self, height: f64, most: f64) -> Result<Placed> {
        let line = if self.legend.len() as f64 * TICK * 1.5 > height { TICK * 1.25 } else { TICK * 1.5 };
        let per_column = ((height / line) as usize).max(2);
        let columns = if self.legend.len() <= per_column || self.legend.len() > 2 * per_column { 1 } else { 2 };
        let every = self.legend.len().div_ceil(columns * per_column).max(1);
        let shown: Vec<Entry> = self.legend.iter().step_by(every).cloned().collect();
        let most = if columns == 2 { most * 0.6 } else { most };
        let names = shown.iter().map(|e| canvas::cut(&canvas::clean(&e.name), TICK, most)).collect::<Result<Vec<_>>>()?;
        let column = SWATCH + 6.0 + canvas::widest(names.iter().map(String::as_str), TICK)? + 8.0;
        let place = |(i, (entry, name)): (usize, (Entry, String))| {
            let (x, y) = ((i / per_column) as f64 * column, ((i % per_column) as f64 + 0.5) * line);
            (Entry { name, ..entry }, x, y)
        };
        let entries: Vec<_> = shown.into_iter().zip(names).enumerate().map(place).collect();
        let rows = entries.len().min(per_column);
        Ok(Placed { on_top: false, entries, width: columns as f64 * column, height: rows as f64 * line })
    }

    fn draw_grid(&self, pen: &Pen, layout: &Layout) -> Result<()> {
        let frame = &layout.frame;
        if self.grid.0 {
            for (value, _) in &layout.x_ticks.major {
                let x = frame.x.at(*value);
                pen.line(&[(x, frame.top), (x, frame.bottom)], color::GRID, 0.8)?;
            }
        }
        if self.grid.1 {
            for (value, _) in &layout.y_ticks.major {
                let y = frame.y.at(*value);
                pen.line(&[(frame.left, y), (frame.right, y)], color::GRID, 0.8)?;
            }
        }
        Ok(())
    }

    fn draw_around(&self, pen: &Pen, layout: &Layout, (width, height): (f64, f64)) -> Result<()> {
        let frame = &layout.frame;
        if self.empty {
            let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
            pen.text("no data", middle, &Type { color: color::SOFT_INK, ..ink(TITLE, Anchor::Middle) })?;
        }
        self.draw_axes(pen, layout)?;

        let mut y = 8.0;
        for (lines, size, color) in [(&layout.title, TITLE, color::INK), (&layout.subtitle, SUBTITLE, color::SOFT_INK)] {
            for line in lines {
                pen.text(line, (width / 2.0, y + size * LINE / 2.0), &Type { color, ..ink(size, Anchor::Middle) })?;
                y += size * LINE;
            }
        }
        let corner = if layout.legend.on_top { (MARGIN, y + 2.0) } else { (width - MARGIN - layout.legend.width, frame.top) };
        self.draw_legend(pen, &layout.legend, corner)?;
        if let Some(bar) = &self.bar {
            draw_bar(pen, bar, &layout.bar_ticks, frame)?;
        }

        let mut y = height - 6.0 - layout.notes.len() as f64 * NOTE * LINE;
        for (i, line) in layout.notes.iter().enumerate() {
            let at = (MARGIN, y + (i as f64 + 0.5) * NOTE * LINE);
            pen.text(line, at, &Type { color: color::SOFT_INK, ..ink(NOTE, Anchor::Left) })?;
        }
        y -= layout.xlabel.len() as f64 * LABEL * LINE;
        let middle = (frame.left + frame.right) / 2.0;
        for (i, line) in layout.xlabel.iter().enumerate() {
            pen.text(line, (middle, y + (i as f64 + 0.5) * LABEL * LINE), &ink(LABEL, Anchor::Middle))?;
        }
        for (i, line) in layout.ylabel.iter().enumerate() {
            // In the middle of the axis, unless it would leave the figure there.
            let half = canvas::width(line, LABEL)? / 2.0 + 6.0;
            let middle = ((frame.top + frame.bottom) / 2.0).min(height - half).max(half);
            let at = (MARGIN + (i as f64 + 0.5) * LABEL * LINE, middle);
            pen.text(line, at, &Type { upright: true, ..ink(LABEL, Anchor::Middle) })?;
        }
        Ok(())
    }

    fn draw_axes(&self, pen: &Pen, layout: &Layout) -> Result<()> {
        let frame = &layout.frame;
        let line = |points: &[(f64, f64)]| pen.line(points, color::SOFT_INK, 1.0);
        line(&[(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)])?;
        for (value, label) in &layout.x_ticks.major {
            let x = frame.x.at(*value);
            line(&[(x, frame.bottom), (x, frame.bottom + TICK_LENGTH)])?;
            let y = frame.bottom + TICK_LENGTH + 3.0;
            if layout.names == NameStyle::Upright {
                pen.text(label, (x, y), &Type { upright: true, ..ink(TICK, Anchor::Right) })?;
                continue;
            }
            for (i, line) in label.lines().enumerate() {
                pen.text(line, (x, y + TICK / 2.0 + i as f64 * TICK * LINE), &ink(TICK, Anchor::Middle))?;
            }
        }
        for value in &layout.x_ticks.minor {
            let x = frame.x.at(*value);
            line(&[(x, frame.bottom), (x, frame.bottom + TICK_LENGTH / 2.0)])?;
        }
        for (value, label) in &layout.y_ticks.major {
            let y = frame.y.at(*value);
            line(&[(frame.left - TICK_LENGTH, y), (frame.left, y)])?;
            pen.text(label, (frame.left - TICK_LENGTH - 3.0, y), &ink(TICK, Anchor::Right))?;
        }
        for value in &layout.y_ticks.minor {
            let y = frame.y.at(*value);
            line(&[(frame.left - TICK_LENGTH / 2.0, y), (frame.left, y)])?;
        }
        Ok(())
    }

    fn draw_legend(&self, pen: &Pen, legend: &Placed, (left, top): (f64, f64)) -> Result<()> {
        for (entry, x, y) in &legend.entries {
            let (x, y) = (left + x, top + y);
            match entry.swatch {
                Swatch::Area => pen.rectangle((x, y - 4.5), (x + SWATCH, y + 4.5), entry.color)?,
                Swatch::Line => pen.line(&[(x, y), (x + SWATCH, y)], entry.color, 2.2)?,
            }
            pen.text(&entry.name, (x + SWATCH + 6.0, y), &ink(TICK, Anchor::Left))?;
        }
        Ok(())
    }
}

fn draw_bar(pen: &Pen, bar: &ColorBar, ticks: &Ticks, frame: &Frame) -> Result<()> {
    const STEPS: usize = 128;
    let (left, right) = (frame.right + 12.0, frame.right + 12.0 + BAR_WIDTH);
    let height = frame.bottom - frame.top;
    // Each step reaches down to the end under those that follow, so that no seam shows between two.
    for i in 0..STEPS {
        let top = frame.top + height * i as f64 / STEPS as f64;
        let color = bar.ramp.at(1.0 - (i as f64 + 0.5) / STEPS as f64);
        pen.rectangle((left, top), (right, frame.bottom), color)?;
    }
    let outline = [(left, frame.top), (right, frame.top), (right, frame.bottom), (left, frame.bottom), (left, frame.top)];
    pen.line(&outline, color::SOFT_INK, 0.6)?;
    let kind = Kind::Numbers { from: bar.from, to: bar.to, log: false, whole: false };
    let scale = Scale::new(&kind, frame.bottom, frame.top);
    for (value, label) in &ticks.major {
        let y = scale.at(*value);
        pen.line(&[(right, y), (right + 3.0, y)], color::SOFT_INK, 1.0)?;
        pen.text(label, (right + 6.0, y), &ink(TICK, Anchor::Left))?;
    }
    if let Some(label) = &bar.label {
        let x = right + 7.0 + canvas::widest(ticks.labels(), TICK)? + 2.0 + LABEL * LINE / 2.0;
        let label = canvas::cut(&canvas::clean(label), LABEL, height)?;
        pen.text(&label, (x, (frame.top + frame.bottom) / 2.0), &Type { upright: true, ..ink(LABEL, Anchor::Middle) })?;
    }
    Ok(())
}

/// A layout whose marks have found their room.
struct Fit {
    left: f64,
    bottom: f64,
    x_ticks: Ticks,
    y_ticks: Ticks,
    names: NameStyle,
}

/// How the names below the horizontal axis stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameStyle {
    Level,
    /// Reading upwards.
    Upright,
}

impl Ticks {
    fn labels(&self) -> impl Iterator<Item = &str> {
        self.major.iter().map(|(_, label)| label.as_str())
    }

    /// Keeps each `every`-th.
    fn thin(&mut self, every: usize) {
        let mut i = 0;
        self.major.retain(|_| {
            i += 1;
            (i - 1) % every.max(1) == 0
        });
    }

    fn cut(&mut self, room: f64) -> Result<()> {
        for (_, label) in &mut self.major {
            *label = canvas::cut(label, TICK, room)?;
        }
        Ok(())
    }
}

/// The heading of a grid of figures.
pub(super) fn heading(pen: &Pen, look: &Look, width: f64) -> Result<()> {
    let mut y = 10.0;
    for (text, size, color) in [(&look.title, TITLE + 1.0, color::INK), (&look.subtitle, SUBTITLE, color::SOFT_INK)] {
        if let Some(text) = text {
            let text = canvas::cut(&canvas::clean(text), size, width - 2.0 * MARGIN)?;
            pen.text(&text, (width / 2.0, y + size * LINE / 2.0), &Type { color, ..ink(size, Anchor::Middle) })?;
            y += size * LINE;
        }
    }
    Ok(())
}
