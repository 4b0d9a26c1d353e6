//! Figures as plain data, without drawing calls.
//!
//! A [`Figure`] keeps the numbers it was made from and its options, so that every option can still be changed; what is
//! shown of the numbers (bins, densities, quantiles) is computed by `summary` when `render` asks. A figure never fails for
//! what its numbers are: those that cannot be shown are left out and counted ([`LeftOut`]).

mod kept;
mod options;
mod summary;

pub use options::{
    BandsOptions, BarOptions, BoxOptions, Colors, EcdfOptions, GridOptions, HeatmapOptions, HistogramOptions, Legend,
    LineOptions, Look, RidgelineOptions, ScatterOptions, ViolinOptions,
};
pub use summary::{Axis, Bins, BoxStats, Density, Ecdf, Fan, LeftOut};

use crate::error::{Error, Result};
use crate::options::{Json, Options, Value};
use crate::provenance::Provenance;
use crate::tensor::{Tensor, discard};
use crate::work::Work;
use std::sync::Arc;

/// Named numbers. Copies share.
#[derive(Clone, Debug)]
pub struct Series {
    /// The name in the legend or on the axis; empty for the only series of a figure.
    pub name: String,
    /// The numbers.
    pub values: Arc<Vec<f64>>,
}

/// The last copy gives its memory back.
impl Drop for Series {
    fn drop(&mut self) {
        if let Some(values) = Arc::get_mut(&mut self.values) {
            discard(std::mem::take(values));
        }
    }
}

impl Series {
    /// A series of these numbers.
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Self {
        Series { name: name.into(), values: Arc::new(values) }
    }

    /// All elements of a tensor, row-major.
    pub fn from_tensor(name: impl Into<String>, tensor: &Tensor) -> Self {
        Self::new(name, tensor.to_f64())
    }
}

/// Named samples, one at each position of x.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The name in the legend; empty for the only one.
    pub name: String,
    /// The sample at each position.
    pub rows: Arc<Vec<Vec<f64>>>,
}

/// The last copy gives its memory back.
impl Drop for Samples {
    fn drop(&mut self) {
        if let Some(rows) = Arc::get_mut(&mut self.rows) {
            discard(std::mem::take(rows));
        }
    }
}

/// What a figure shows.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are the same in each: the data, then the options
pub enum Chart {
    /// How often values fall into bins; the bins are shared by all series.
    Histogram { series: Vec<Series>, options: HistogramOptions },
    /// The density of each series, upright, with its median and quartiles.
    Violin { series: Vec<Series>, options: ViolinOptions },
    /// The density of each series, one above the other.
    Ridgeline { series: Vec<Series>, options: RidgelineOptions },
    /// Quartiles, Tukey's whiskers and what lies beyond, for each series.
    Box { series: Vec<Series>, options: BoxOptions },
    /// The share of values that are at most x, for each series.
    Ecdf { series: Vec<Series>, options: EcdfOptions },
    /// Numbers over x, joined; NaN leaves a gap.
    Line { series: Vec<Series>, options: LineOptions },
    /// Quantiles of a sample at each x: nested bands about the median.
    Bands { samples: Vec<Samples>, options: BandsOptions },
    /// One bar for each label, or a group of bars with several series.
    Bar { labels: Vec<String>, series: Vec<Series>, options: BarOptions },
    /// One mark for each pair.
    Scatter { x: Series, y: Series, options: ScatterOptions },
    /// A matrix, its first row on top.
    Heatmap { rows: usize, cols: usize, values: Arc<Vec<f64>>, options: HeatmapOptions },
    /// Figures side by side.
    Grid { figures: Vec<Figure>, options: GridOptions },
}

/// Runs the same expression on the options of whichever kind a chart is.
macro_rules! each_chart {
    ($chart:expr, $options:ident => $body:expr) => {
        match $chart {
            Chart::Histogram { options: $options, .. } => $body,
            Chart::Violin { options: $options, .. } => $body,
            Chart::Ridgeline { options: $options, .. } => $body,
            Chart::Box { options: $options, .. } => $body,
            Chart::Ecdf { options: $options, .. } => $body,
            Chart::Line { options: $options, .. } => $body,
            Chart::Bands { options: $options, .. } => $body,
            Chart::Bar { options: $options, .. } => $body,
            Chart::Scatter { options: $options, .. } => $body,
            Chart::Heatmap { options: $options, .. } => $body,
            Chart::Grid { options: $options, .. } => $body,
        }
    };
}

/// A figure: a chart with its options and its provenance. Copies share until one is changed.
#[derive(Clone, Debug)]
pub struct Figure {
    chart: Arc<Chart>,
    /// Who made it and how.
    pub provenance: Provenance,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (width, height) = self.size();
        write!(f, "Figure plot::{} {width} × {height}", self.kind())?;
        self.look().title.map_or(Ok(()), |title| write!(f, ", \"{title}\""))
    }
}

impl Figure {
    /// A figure of a chart.
    ///
    /// # Errors
    /// An option whose value is out of range, or data whose lengths do not fit together.
    pub fn new(chart: Chart, provenance: Provenance) -> Result<Self> {
        options::check(&chart)?;
        Ok(Figure { chart: Arc::new(chart), provenance })
    }

    /// A histogram of one or more series in shared bins.
    ///
    /// # Errors
    /// As [`Figure::new`], as for the other kinds.
    pub fn histogram(series: Vec<Series>, options: HistogramOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Histogram { series, options }, provenance)
    }

    /// A violin for each series.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn violin(series: Vec<Series>, options: ViolinOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Violin { series, options }, provenance)
    }

    /// Densities one above the other.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn ridgeline(series: Vec<Series>, options: RidgelineOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Ridgeline { series, options }, provenance)
    }

    /// A box plot.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn box_plot(series: Vec<Series>, options: BoxOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Box { series, options }, provenance)
    }

    /// Empirical distribution functions.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn ecdf(series: Vec<Series>, options: EcdfOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Ecdf { series, options }, provenance)
    }

    /// Lines over `options.x`, or over 0, 1, 2, ….
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn line(series: Vec<Series>, options: LineOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Line { series, options }, provenance)
    }

    /// Quantile fans: `rows[i]` is the sample at position i.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn bands(samples: Vec<(String, Vec<Vec<f64>>)>, options: BandsOptions, provenance: Provenance) -> Result<Self> {
        let samples = samples.into_iter().map(|(name, rows)| Samples { name, rows: Arc::new(rows) }).collect();
        Self::new(Chart::Bands { samples, options }, provenance)
    }

    /// Bars: `series[s].values[i]` is the height over `labels[i]`.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn bar(labels: Vec<String>, series: Vec<Series>, options: BarOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Bar { labels, series, options }, provenance)
    }

    /// A scatter plot.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn scatter(x: Vec<f64>, y: Vec<f64>, options: ScatterOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Scatter { x: Series::new("", x), y: Series::new("", y), options }, provenance)
    }

    /// A heat map of a `[rows, cols]` tensor.
    ///
    /// # Errors
    /// As [`Figure::new`], not a matrix, or the user asked to stop.
    pub fn heatmap(matrix: &Tensor, options: HeatmapOptions, provenance: Provenance, work: &Work) -> Result<Self> {
        let (rows, cols) = matrix.matrix_shape("a heat map")?;
        Self::new(Chart::Heatmap { rows, cols, values: Arc::new(matrix.read_f64(work)?), options }, provenance)
    }

    /// Figures side by side, row by row.
    ///
    /// # Errors
    /// As [`Figure::new`].
    pub fn grid(figures: Vec<Figure>, options: GridOptions, provenance: Provenance) -> Result<Self> {
        Self::new(Chart::Grid { figures, options }, provenance)
    }

    /// What it shows.
    pub fn chart(&self) -> &Chart {
        &self.chart
    }

    /// The name of its kind, as in `plot::histogram`.
    pub fn kind(&self) -> &'static str {
        match *self.chart {
            Chart::Histogram { .. } => "histogram",
            Chart::Violin { .. } => "violin",
            Chart::Ridgeline { .. } => "ridgeline",
            Chart::Box { .. } => "box",
            Chart::Ecdf { .. } => "ecdf",
            Chart::Line { .. } => "line",
            Chart::Bands { .. } => "bands",
            Chart::Bar { .. } => "bar",
            Chart::Scatter { .. } => "scatter",
            Chart::Heatmap { .. } => "heatmap",
            Chart::Grid { .. } => "grid",
        }
    }

    /// The options that every kind has.
    pub fn look(&self) -> Look {
        each_chart!(&*self.chart, options => options.look())
    }

    /// All options with their values.
    pub fn options(&self) -> Json {
        each_chart!(&*self.chart, options => options.canonical())
    }

    /// Changes one option (`g.title = "…"`).
    ///
    /// # Errors
    /// This kind has no such option, or it does not take this value; the figure stays as it was.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        let mut chart = Chart::clone(&self.chart);
        each_chart!(&mut chart, options => options.set(key, value)?);
        options::check(&chart)?;
        self.chart = Arc::new(chart);
        Ok(())
    }

    /// The figure's size in pixels of the SVG.
    pub fn size(&self) -> (usize, usize) {
        let Chart::Grid { figures, options } = &*self.chart else {
            let look = self.look();
            return (look.width, look.height);
        };
        let cells = options.cells(figures);
        (cells.widths.iter().sum::<usize>().max(120), (cells.heights.iter().sum::<usize>() + cells.header).max(40))
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::input(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionMap;

    fn histogram() -> Figure {
        Figure::histogram(vec![Series::new("", vec![1.0, 2.0])], HistogramOptions::default(), Provenance::new("test")).unwrap()
    }

    #[test]
    fn a_changed_copy_leaves_the_original() {
        let a = histogram();
        let mut b = a.clone();
        b.set("title", &Value::Text("Skewness".into())).unwrap();
        b.set("bins", &Value::Int(7)).unwrap();
        assert_eq!((a.look().title, b.look().title.as_deref()), (None, Some("Skewness")));
        assert_eq!(b.options()["bins"], 7);
    }

    #[test]
    fn wrong_options_are_refused_and_change_nothing() {
        let mut figure = histogram();
        assert_eq!(figure.set("titel", &Value::Unit).unwrap_err().helps()[0], "did you mean `title`?");
        assert!(figure.set("bins", &Value::Int(0)).is_err());
        assert!(figure.set("xlim", &Value::List(vec![Value::Int(2), Value::Int(1)])).is_err());
        assert!(figure.set("log_x", &Value::Bool(true)).is_ok());
        let error = figure.set("xlim", &Value::List(vec![Value::Int(0), Value::Int(1)])).unwrap_err();
        assert_eq!(error.message(), "`xlim` reaches to 0, but the axis is logarithmic");
        assert!(figure.look().xlim.is_none());
        assert!(HistogramOptions::parse(&OptionMap::from([("log_x".into(), Value::Int(1))])).is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let options = LineOptions { x: Some(vec![0.0, 1.0]), ..LineOptions::default() };
        let error = Figure::line(vec![Series::new("ks", vec![1.0])], options, Provenance::default()).unwrap_err();
        assert_eq!(error.message(), "`x` has 2 numbers, but `ks` has 1");
        assert!(Figure::scatter(vec![1.0], vec![], ScatterOptions::default(), Provenance::default()).is_err());
        let labels = vec!["a".to_string()];
        assert!(Figure::bar(labels, vec![Series::new("", vec![])], BarOptions::default(), Provenance::default()).is_err());
    }
}
