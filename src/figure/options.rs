//! The options of each kind of figure: those that all have, and its own.

use super::{Chart, Figure, wrong};
use crate::error::Result;

crate::choice! {
    /// Where the legend stands; never on the data.
    pub enum Legend {
        /// On top where one or two lines are enough, else at the right; none for a single series without a name.
        #[default]
        Auto = "auto",
        Top = "top",
        Right = "right",
        Off = "none",
    }
}

crate::choice! {
    /// How numbers become colours.
    pub enum Colors {
        /// Diverging about 0 where there are numbers on both sides of it, else sequential.
        #[default]
        Auto = "auto",
        /// Dark to bright (viridis).
        Sequential = "sequential",
        /// Blue to red through white at 0.
        Diverging = "diverging",
        Grey = "grey",
    }
}

/// The options that every kind of figure has.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented where `figure_options!` declares the keys
pub struct Look {
    pub title: Option<String>,
    pub subtitle: Option<String>,
    pub xlabel: Option<String>,
    pub ylabel: Option<String>,
    pub log_x: bool,
    pub log_y: bool,
    pub xlim: Option<Vec<f64>>,
    pub ylim: Option<Vec<f64>>,
    pub width: usize,
    pub height: usize,
    pub legend: Legend,
    pub note: Option<String>,
}

macro_rules! figure_options {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        crate::options! {
            $(#[$meta])*
            pub struct $name {
                /// Heading.
                title: Option<String> = None,
                /// Smaller line below the heading.
                subtitle: Option<String> = None,
                /// Label of the horizontal axis.
                xlabel: Option<String> = None,
                /// Label of the vertical axis.
                ylabel: Option<String> = None,
                /// Logarithmic horizontal axis; numbers that are not positive are left out and counted.
                log_x: bool = false,
                /// Logarithmic vertical axis, likewise.
                log_y: bool = false,
                /// Ends of the horizontal axis, [from, to].
                xlim: Option<Vec<f64>> = None,
                /// Ends of the vertical axis, [from, to].
                ylim: Option<Vec<f64>> = None,
                /// Width in pixels.
                width: usize = 640,
                /// Height in pixels.
                height: usize = 400,
                /// Where the legend stands.
                legend: Legend = Legend::default(),
                /// Small print at the foot.
                note: Option<String> = None,
                $($own)*
            }
        }

        impl $name {
            /// The options that every kind of figure has.
            pub fn look(&self) -> Look {
                Look {
                    title: self.title.clone(),
                    subtitle: self.subtitle.clone(),
                    xlabel: self.xlabel.clone(),
                    ylabel: self.ylabel.clone(),
                    log_x: self.log_x,
                    log_y: self.log_y,
                    xlim: self.xlim.clone(),
                    ylim: self.ylim.clone(),
                    width: self.width,
                    height: self.height,
                    legend: self.legend,
                    note: self.note.clone(),
                }
            }
        }
    };
}

figure_options! {
    /// Options of `plot::histogram`.
    HistogramOptions {
        /// Number of bins. Whole numbers get bins of whole width.
        bins: usize = 50,
        /// Heights are densities, so that each series has area 1, instead of counts.
        density: bool = false,
    }
}

figure_options! {
    /// Options of `plot::violin`.
    ViolinOptions {
        /// Standard deviation of the Gaussian kernel, in units of the axis (decades on a logarithmic one); absent: Silverman's rule.
        bandwidth: Option<f64> = None,
    }
}

figure_options! {
    /// Options of `plot::ridgeline`.
    RidgelineOptions {
        /// Standard deviation of the Gaussian kernel, in units of the axis (decades on a logarithmic one); absent: Silverman's rule.
        bandwidth: Option<f64> = None,
    }
}

figure_options! {
    /// Options of `plot::box`.
    BoxOptions {}
}

figure_options! {
    /// Options of `plot::ecdf`.
    EcdfOptions {}
}

figure_options! {
    /// Options of `plot::line`.
    LineOptions {
        /// Positions of the numbers; absent: 0, 1, 2, ….
        x: Option<Vec<f64>> = None,
    }
}

figure_options! {
    /// Options of `plot::bands`.
    BandsOptions {
        /// Positions of the samples; absent: 0, 1, 2, ….
        x: Option<Vec<f64>> = None,
        /// Quantiles (0 to 1) that bound the bands; 0.5 is drawn as a line.
        quantiles: Vec<f64> = vec![0.05, 0.25, 0.5, 0.75, 0.95],
    }
}

figure_options! {
    /// Options of `plot::bar`.
    BarOptions {}
}

figure_options! {
    /// Options of `plot::scatter`.
    ScatterOptions {
        /// A number for each mark, shown as its colour.
        color: Option<Vec<f64>> = None,
        /// Label of the colour bar.
        clabel: Option<String> = None,
        /// Diameter of a mark in pixels.
        size: f64 = 4.0,
        /// Text beside each mark; empty for none.
        label: Option<Vec<String>> = None,
    }
}

figure_options! {
    /// Options of `plot::heatmap`.
    HeatmapOptions {
        /// Labels of the columns.
        xlabels: Option<Vec<String>> = None,
        /// Labels of the rows.
        ylabels: Option<Vec<String>> = None,
        /// Numbers at the ends of the colour bar, [from, to]; what lies beyond takes the end's colour.
        range: Option<Vec<f64>> = None,
        /// How numbers become colours.
        colors: Colors = Colors::default(),
        /// Label of the colour bar.
        clabel: Option<String> = None,
    }
}

figure_options! {
    /// Options of `plot::grid`. Each figure keeps its own size.
    GridOptions {
        /// Figures in a row; absent: as many as make the whole about square.
        columns: Option<usize> = None,
    }
}

/// Where the figures of a grid stand.
pub struct Cells {
    /// Figures in a row.
    pub columns: usize,
    /// The width of each column in pixels.
    pub widths: Vec<usize>,
    /// The height of each row in pixels.
    pub heights: Vec<usize>,
    /// Height of the grid's own heading.
    pub header: usize,
}

impl GridOptions {
    /// Where these figures stand.
    pub fn cells(&self, figures: &[Figure]) -> Cells {
        let columns = self.columns.unwrap_or_else(|| (figures.len() as f64).sqrt().ceil() as usize).max(1);
        let sizes: Vec<(usize, usize)> = figures.iter().map(Figure::size).collect();
        let widths = (0..columns.min(sizes.len()))
            .map(|column| sizes.iter().skip(column).step_by(columns).map(|(w, _)| *w).max().unwrap_or(0))
            .collect();
        let heights = sizes.chunks(columns).map(|row| row.iter().map(|(_, h)| *h).max().unwrap_or(0)).collect();
        let header = 36 * usize::from(self.title.is_some()) + 18 * usize::from(self.subtitle.is_some());
        Cells { columns, widths, heights, header }
    }
}

/// Refuses options out of range, and data whose lengths do not fit together.
pub(super) fn check(chart: &Chart) -> Result<()> {
    let same = |what: &str, n: usize, name: &str, expected: usize| {
        let name = if name.is_empty() { "the data" } else { name };
        if n == expected { Ok(()) } else { Err(wrong(format!("`{what}` has {n} numbers, but `{name}` has {expected}"))) }
    };
    match chart {
        Chart::Histogram { options, .. } => {
            if !(1..=10_000).contains(&options.bins) {
                return Err(wrong(format!("`bins` is a number from 1 to 10000, not {}", options.bins)));
            }
            check_look(&options.look())
        }
        Chart::Violin { options, .. } => check_bandwidth(options.bandwidth).and_then(|()| check_look(&options.look())),
        Chart::Ridgeline { options, .. } => check_bandwidth(options.bandwidth).and_then(|()| check_look(&options.look())),
        Chart::Box { options, .. } => check_look(&options.look()),
        Chart::Ecdf { options, .. } => check_look(&options.look()),
        Chart::Line { series, options } => {
            if let Some(x) = &options.x {
                series.iter().try_for_each(|s| same("x", x.len(), &s.name, s.values.len()))?;
            }
            check_look(&options.look())
        }
        Chart::Bands { samples, options } => {
            if let Some(x) = &options.x {
                samples.iter().try_for_each(|s| same("x", x.len(), &s.name, s.rows.len()))?;
            }
            if options.quantiles.is_empty() || options.quantiles.iter().any(|q| !(0.0..=1.0).contains(q)) {
                return Err(wrong("`quantiles` are numbers from 0 to 1, at least one"));
            }
            check_look(&options.look())
        }
        Chart::Bar { labels, series, options } => {
            series.iter().try_for_each(|s| same("labels", labels.len(), &s.name, s.values.len()))?;
            check_look(&options.look())
        }
        Chart::Scatter { x, y, options } => {
            same("x", x.values.len(), "y", y.values.len())?;
            if let Some(color) = &options.color {
                same("color", color.len(), "x", x.values.len())?;
            }
            if let Some(label) = &options.label {
                same("label", label.len(), "x", x.values.len())?;
            }
            if !(0.5..=100.0).contains(&options.size) {
                return Err(wrong(format!("`size` is a number from 0.5 to 100, not {}", options.size)));
            }
            check_look(&options.look())
        }
        Chart::Heatmap { rows, cols, options, .. } => {
            for (key, labels, expected) in [("xlabels", &options.xlabels, cols), ("ylabels", &options.ylabels, rows)] {
                if let Some(labels) = labels
                    && labels.len() != *expected
                {
                    let side = if key == "xlabels" { "columns" } else { "rows" };
                    return Err(wrong(format!("`{key}` has {} labels, but the matrix has {expected} {side}", labels.len())));
                }
            }
            check_limits("range", &options.range, false)?;
            check_look(&options.look())
        }
        Chart::Grid { figures, options } => {
            if options.columns == Some(0) {
                return Err(wrong("`columns` is a number from 1"));
            }
            if figures.len() > 400 {
                return Err(wrong(format!("a grid holds up to 400 figures, not {}", figures.len())));
            }
            check_look(&options.look())
        }
    }
}

fn check_bandwidth(bandwidth: Option<f64>) -> Result<()> {
    match bandwidth {
        Some(h) if !(h.is_finite() && h > 0.0) => Err(wrong(format!("`bandwidth` is a positive number, not {h}"))),
        _ => Ok(()),
    }
}

fn check_look(look: &Look) -> Result<()> {
    for (key, size) in [("width", look.width), ("height", look.height)] {
        if !(120..=4000).contains(&size) {
            return Err(wrong(format!("`{key}` is a number of pixels from 120 to 4000, not {size}")));
        }
    }
    check_limits("xlim", &look.xlim, look.log_x)?;
    check_limits("ylim", &look.ylim, look.log_y)
}

fn check_limits(key: &str, limits: &Option<Vec<f64>>, log: bool) -> Result<()> {
    match limits.as_deref() {
        None => Ok(()),
        Some([from, _]) if log && *from <= 0.0 => Err(wrong(format!("`{key}` reaches to {from}, but the axis is logarithmic"))),
        Some([from, to]) if from < to && from.is_finite() && to.is_finite() => Ok(()),
        Some(_) => Err(wrong(format!("`{key}` is [from, to] with from < to"))),
    }
}
