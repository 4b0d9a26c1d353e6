//! Figures as characters, for terminals that show no pictures: the shape of the data with the ends of its axes.

use super::number;
use super::text::{cut, harmless, pad};
use crate::figure::{Axis, Bins, BoxStats, Chart, Ecdf, Fan, Figure, HistogramOptions, LeftOut, Look, Series};

/// Lines between the ends of a vertical axis, and of a heat map at most.
const ROWS: usize = 16;
/// Characters of a name beside its line.
const NAME: usize = 20;
/// The marks of series, one after the other.
const MARKS: [char; 6] = ['*', 'o', '+', 'x', '#', '@'];
/// From the least to the greatest number of a matrix.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];

/// A figure as lines of characters, at most `width` (from 40) columns wide.
pub fn sketch(figure: &Figure, width: usize) -> String {
    let look = figure.look();
    let width = width.clamp(40, 120);
    let marked = |series: &[Series], joined: bool, points: &dyn Fn(&Series) -> Vec<Point>| -> Vec<Curve> {
        let curve = |(s, mark): (&Series, char)| Curve { name: s.name.clone(), mark, joined, filled: false, points: points(s) };
        series.iter().zip(marks()).map(curve).collect()
    };
    let body = match figure.chart() {
        Chart::Histogram { series, options } => histogram(series, options, width),
        Chart::Ecdf { series, .. } => {
            let steps = |s: &Series| {
                let ecdf = Ecdf::new(&s.values, width, look.x());
                ecdf.at.into_iter().zip(ecdf.share).collect()
            };
            plane(&marked(series, true, &steps), &look, None, width)
        }
        Chart::Line { series, options } => {
            let x = |i: usize| options.x.as_ref().map_or(i as f64, |x| x[i]);
            let points = |s: &Series| s.values.iter().enumerate().map(|(i, y)| (x(i), *y)).collect();
            plane(&marked(series, true, &points), &look, None, width)
        }
        Chart::Scatter { x, y, .. } => {
            let points = |x: &Series| x.values.iter().copied().zip(y.values.iter().copied()).collect();
            plane(&marked(std::slice::from_ref(x), false, &points), &look, None, width)
        }
        Chart::Bands { samples, options } => {
            let mut quantiles = options.quantiles.clone();
            quantiles.sort_by(f64::total_cmp);
            let fans = samples.iter().zip(marks()).flat_map(|(sample, mark)| {
                let fan = Fan::new(sample, options.x.as_deref(), &quantiles, (look.x(), look.y()));
                let curves = fan.quantiles.iter().zip(&quantiles).map(|(y, q)| Curve {
                    name: if *q == 0.5 { sample.name.clone() } else { String::new() },
                    mark: if *q == 0.5 { mark } else { '·' },
                    joined: true,
                    filled: false,
                    points: fan.x.iter().copied().zip(y.iter().copied()).collect(),
                });
                // Medians are drawn last, over the bands' edges.
                let (medians, edges): (Vec<_>, Vec<_>) = curves.partition(|curve| curve.mark != '·');
                edges.into_iter().chain(medians).collect::<Vec<_>>()
            });
            plane(&fans.collect::<Vec<_>>(), &look, None, width)
        }
        Chart::Violin { series, .. } | Chart::Box { series, .. } => boxes(series, look.y(), width),
        Chart::Ridgeline { series, .. } => boxes(series, look.x(), width),
        Chart::Bar { labels, series, .. } => bars(labels, series, width),
        Chart::Heatmap { rows, cols, values, options } => heatmap((*rows, *cols), values, options.range.as_deref(), width),
        Chart::Grid { figures, .. } => figures.iter().flat_map(|figure| [sketch(figure, width), String::new()]).collect(),
    };
    let title = look.title.iter().map(|title| cut(&harmless(title), width));
    title.chain(body).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

type Point = (f64, f64);

/// Marks over two axes of numbers.
struct Curve {
    name: String,
    mark: char,
    joined: bool,
    /// Down to the horizontal axis.
    filled: bool,
    points: Vec<Point>,
}

fn marks() -> impl Iterator<Item = char> {
    MARKS.into_iter().cycle()
}

/// The ends of an axis: those set, or those of the numbers; none without numbers.
fn ends(axis: Axis, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (from, to) = axis.limits.or_else(|| {
        values
            .filter(|v| axis.shows(*v, &mut LeftOut::default()))
            .fold(None, |ends: Option<(f64, f64)>, v| Some(ends.map_or((v, v), |(from, to)| (from.min(v), to.max(v)))))
    })?;
    Some((axis.place(from), axis.place(to)))
}

/// The cell of `n` in which a position lies.
fn cell(place: f64, (from, to): (f64, f64), n: usize) -> usize {
    let share = if to > from { (place - from) / (to - from) } else { 0.5 };
    (share.clamp(0.0, 1.0) * (n - 1) as f64).round() as usize
}

fn histogram(series: &[Series], options: &HistogramOptions, width: usize) -> Vec<String> {
    let look = options.look();
    let bins = Bins::new(series, options.bins.min(width / 2), options.density, look.x());
    let curves: Vec<Curve> = series
        .iter()
        .zip(&bins.heights)
        .zip(marks())
        .map(|((s, heights), mark)| Curve {
            name: s.name.clone(),
            mark: if series.len() == 1 { '█' } else { mark },
            joined: true,
            filled: series.len() == 1,
            points: bins.edges.windows(2).zip(heights).flat_map(|(edges, h)| [(edges[0], *h), (edges[1], *h)]).collect(),
        })
        .collect();
    plane(&curves, &look, (!look.log_y).then_some(0.0), width)
}

/// Curves over two axes; `floor` is a height that the vertical axis reaches in any case.
fn plane(curves: &[Curve], look: &Look, floor: Option<f64>, width: usize) -> Vec<String> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let (x, y) = (look.x(), look.y());
    let Some((x_ends, y_ends)) = ends(x, points().map(|p| p.0)).zip(ends(y, points().map(|p| p.1).chain(floor))) else {
        return vec!["no numbers to show".into()];
    };
    let labels = number::column(&[y.value(y_ends.1), y.value(y_ends.0)]);
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 2);
    let mut grid = vec![vec![' '; columns]; ROWS];
    for curve in curves {
        let mut last: Option<(usize, usize)> = None;
        for (px, py) in &curve.points {
            let mut unseen = LeftOut::default();
            if !x.shows(*px, &mut unseen) || !y.shows(*py, &mut unseen) {
                last = None;
                continue;
            }
            let here = (cell(x.place(*px), x_ends, columns), ROWS - 1 - cell(y.place(*py), y_ends, ROWS));
            let from = last.filter(|_| curve.joined).unwrap_or(here);
            let (left, right) = (from.0.min(here.0), from.0.max(here.0));
            for column in left..=right {
                let row = if from.0 == here.0 {
                    here.1
                } else {
                    let share = column.abs_diff(from.0) as f64 / (right - left) as f64;
                    (from.1 as f64 + share * (here.1 as f64 - from.1 as f64)).round() as usize
                };
                let down = if curve.filled && *py > 0.0 { ROWS } else { row + 1 };
                grid[row..down].iter_mut().for_each(|line| line[column] = curve.mark);
            }
            last = Some(here);
        }
    }
    let side = |row: usize| match row {
        0 => labels[0].as_str(),
        row if row == ROWS - 1 => labels[1].as_str(),
        _ => "",
    };
    let mut lines: Vec<String> = legend(curves, width).into_iter().collect();
    lines.extend(look.ylabel.iter().map(|label| cut(&harmless(label), width)));
    lines.extend(
        grid.iter().enumerate().map(|(row, line)| format!("{} │{}", pad(side(row), margin, true), String::from_iter(line))),
    );
    lines.push(format!("{} └{}", " ".repeat(margin), "─".repeat(columns)));
    lines.push(foot((x.value(x_ends.0), x.value(x_ends.1)), look.xlabel.as_deref(), margin + 2, columns));
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

fn legend(curves: &[Curve], width: usize) -> Option<String> {
    let named: Vec<String> =
        curves.iter().filter(|c| !c.name.is_empty()).map(|c| format!("{} {}", c.mark, harmless(&c.name))).collect();
    (!named.is_empty()).then(|| cut(&named.join("   "), width))
}

/// The ends of a horizontal axis, with its label between them.
fn foot((from, to): (f64, f64), label: Option<&str>, indent: usize, columns: usize) -> String {
    let ends = number::column(&[from, to]);
    let room = columns.saturating_sub(ends[0].len() + ends[1].len());
    let label = cut(&harmless(label.unwrap_or_default()), room.saturating_sub(2));
    let middle = pad(&format!("{}{label}", " ".repeat((room.saturating_sub(label.chars().count())) / 2)), room, false);
    format!("{}{}{middle}{}", " ".repeat(indent), ends[0], ends[1])
}

/// One line for each sample: quartiles as a box, the median, Tukey's whiskers, and what lies beyond as dots.
fn boxes(series: &[Series], axis: Axis, width: usize) -> Vec<String> {
    let Some(ends) = ends(axis, series.iter().flat_map(|s| s.values.iter().copied())) else {
        return vec!["no numbers to show".into()];
    };
    let names: Vec<String> = series.iter().map(|s| cut(&harmless(&s.name), NAME)).collect();
    let margin = widest(&names);
    let columns = width.saturating_sub(margin + 1);
    let mut lines: Vec<String> = Vec::new();
    for (s, name) in series.iter().zip(&names) {
        let stats = BoxStats::new(&s.values, axis);
        let mut line = vec![' '; columns];
        let at = |value: f64| cell(axis.place(value), ends, columns);
        stats.outliers.iter().for_each(|v| line[at(*v)] = '·');
        if stats.quartiles[1].is_finite() {
            let [low, middle, high] = stats.quartiles.map(at);
            let [first, last] = stats.whiskers.map(at);
            line[first..=last.max(first)].fill('─');
            line[low..=high].fill('▒');
            line[middle] = '┃';
        }
        lines.push(format!("{} {}", pad(name, margin, false), String::from_iter(line)).trim_end().to_string());
    }
    lines.push(foot((axis.value(ends.0), axis.value(ends.1)), None, margin + 1, columns));
    lines
}

fn widest(names: &[String]) -> usize {
    names.iter().map(|name| unicode_width::UnicodeWidthStr::width(name.as_str())).max().unwrap_or(0)
}

/// One line for each bar, from zero, with its number.
fn bars(labels: &[String], series: &[Series], width: usize) -> Vec<String> {
    let name = |label: &String, s: &Series| cut(&harmless(&format!("{label} {}", s.name)), NAME).trim_end().to_string();
    let values: Vec<(String, f64)> =
        labels.iter().enumerate().flat_map(|(i, l)| series.iter().map(move |s| (name(l, s), s.values[i]))).collect();
    let (names, heights): (Vec<String>, Vec<f64>) = values.into_iter().unzip();
    let numbers = number::column(&heights);
    let Some(ends) = ends(Axis::default(), heights.iter().copied().chain([0.0])) else { return Vec::new() };
    let (margin, room) = (widest(&names), numbers.iter().map(String::len).max().unwrap_or(0));
    let columns = width.saturating_sub(margin + room + 2).max(1);
    let zero = cell(0.0, ends, columns);
    let line = |((name, height), number): ((&String, &f64), &String)| {
        let mut line = vec![' '; columns];
        if *height != 0.0 && Axis::default().shows(*height, &mut LeftOut::default()) {
            let at = cell(*height, ends, columns);
            line[zero.min(at)..=zero.max(at)].fill('█');
        }
        format!("{} {} {}", pad(name, margin, false), pad(number, room, true), String::from_iter(line)).trim_end().to_string()
    };
    names.iter().zip(&heights).zip(&numbers).map(line).collect()
}

/// A matrix in shades; where it is larger than the room, each cell is the mean of a block.
fn heatmap((rows, cols): (usize, usize), values: &[f64], range: Option<&[f64]>, width: usize) -> Vec<String> {
    let axis = Axis { log: false, limits: range.and_then(|range| Some((*range.first()?, *range.get(1)?))) };
    let finite = || values.iter().copied().filter(|v| Axis::default().shows(*v, &mut LeftOut::default()));
    let Some(ends) = ends(axis, finite()) else { return vec!["no numbers to show".into()] };
    let (down, across) = (rows.min(ROWS), cols.min(width));
    let repeat = (width / across).clamp(1, 3);
    let mut lines = Vec::new();
    for row in 0..down {
        let mut line = String::new();
        for column in 0..across {
            let block = (row * rows / down..(row + 1) * rows / down)
                .flat_map(|r| (column * cols / across..(column + 1) * cols / across).map(move |c| values[r * cols + c]))
                .filter(|v| v.is_finite());
            let (sum, n) = block.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
            let shade = if n == 0 { ' ' } else { SHADES[cell(sum / f64::from(n), ends, SHADES.len())] };
            line.extend(std::iter::repeat_n(shade, repeat));
        }
        lines.push(line);
    }
    let labels = number::column(&[ends.0, ends.1]);
    lines.push(format!("{} {} {}", labels[0], String::from_iter(SHADES), labels[1]));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::*;
    use crate::provenance::Provenance;
    use crate::tensor::Tensor;
    use crate::work::Work;
    use unicode_width::UnicodeWidthStr;

    fn lines(figure: crate::Result<Figure>, width: usize) -> Vec<String> {
        let text = sketch(&figure.unwrap(), width);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        text.lines().map(String::from).collect()
    }

    fn made() -> Provenance {
        Provenance::default()
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let options = LineOptions { title: Some("Rising".into()), xlabel: Some("layer".into()), ..LineOptions::default() };
        let shown = lines(Figure::line(vec![Series::new("share", vec![0.0, 1.0, 2.0])], options, made()), 60);
        assert_eq!(shown[..2], ["Rising", "* share"]);
        let at = |line: &str| line.chars().position(|c| c == '*');
        assert!(shown[2].starts_with("2 │") && at(&shown[2]) > Some(55), "{shown:#?}");
        assert!(shown[17].starts_with("0 │*"), "{shown:#?}");
        assert!(shown[19].contains("layer") && shown[19].ends_with('2'), "{shown:#?}");
    }

    #[test]
    fn a_single_histogram_is_filled_to_its_heights() {
        let values = vec![0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0];
        let shown = lines(Figure::histogram(vec![Series::new("", values)], HistogramOptions::default(), made()), 40);
        let height = |column: usize| shown.iter().filter(|line| line.chars().nth(column) == Some('█')).count();
        // Of 16 lines, the tallest has all, one half as many, one a quarter; the scale begins on the lowest line.
        assert_eq!((height(38), height(20), height(5)), (16, 9, 5), "{shown:#?}");
    }

    #[test]
    fn bars_boxes_and_shades_have_their_numbers() {
        let bar =
            Figure::bar(vec!["EE".into(), "DU".into()], vec![Series::new("", vec![1.0, 2.0])], BarOptions::default(), made());
        let shown = lines(bar, 40);
        let blocks = |line: &str| line.matches('█').count();
        assert!(shown[0].starts_with("EE 1 █") && shown[1].starts_with("DU 2 █"));
        assert_eq!(blocks(&shown[1]), 35);
        assert_eq!(blocks(&shown[0]), 18);
        let sample = vec![0.0, 1.0, 2.0, 3.0, 4.0, 40.0];
        let shown = lines(Figure::box_plot(vec![Series::new("日本", sample)], BoxOptions::default(), made()), 46);
        assert!(shown[0].starts_with("日本 ") && shown[0].ends_with('·') && shown[0].contains('┃'), "{shown:#?}");
        let matrix = Tensor::from_f32(vec![0.0, 1.0, 2.0, 3.0, f32::NAN, 4.0], &[2, 3]).unwrap();
        let shown = lines(Figure::heatmap(&matrix, HeatmapOptions::default(), made(), &Work::silent(1).unwrap()), 40);
        assert_eq!(shown, ["···░░░▒▒▒", "▓▓▓   ███", "0 ·░▒▓█ 4"]);
    }

    #[test]
    fn whatever_the_numbers_are_something_is_shown() {
        for values in [vec![], vec![f64::NAN], vec![f64::INFINITY, -1.0], vec![0.0; 3], vec![-1e308, 1e308, 2.0]] {
            let series = || vec![Series::new("a", values.clone())];
            let log = HistogramOptions { log_x: true, log_y: true, ..HistogramOptions::default() };
            for figure in [
                Figure::histogram(series(), HistogramOptions::default(), made()),
                Figure::histogram(series(), log, made()),
                Figure::line(series(), LineOptions::default(), made()),
                Figure::ecdf(series(), EcdfOptions::default(), made()),
                Figure::violin(series(), ViolinOptions::default(), made()),
                Figure::scatter(values.clone(), values.clone(), ScatterOptions::default(), made()),
                Figure::bands(vec![("a".into(), vec![values.clone(); 3])], BandsOptions::default(), made()),
            ] {
                assert!(!lines(figure, 40).is_empty());
            }
        }
    }
}
