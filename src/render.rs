//! Tables, figures and pages to text, SVG, PNG, HTML, Markdown and JSON.
//!
//! * `text`: tables and tensors for a terminal. * `number`: how numbers are written.
//! * `charts`: each kind of figure as marks in a frame. * `frame`: titles, axes, legend, small print around the marks.
//! * `axis`: scales and ticks. * `canvas`: marks and text through plotters' SVG backend. * `color`: palettes.
//! * `raster`: pixels, for what has too many marks. * `png`: an SVG as PNG. * `page`: reports and cards.
//! * `bars`: a page's lists with bars and counts by kind. * `sketch`: figures as characters.

mod axis;
mod bars;
mod canvas;
mod charts;
mod color;
mod frame;
mod number;
mod page;
mod png;
mod raster;
mod sketch;
pub mod text;

pub use page::{page_html, page_json, page_markdown, page_text, save_page};
pub use png::{Picture, pixels, png};
pub use sketch::sketch;

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
/// None that a figure's data cause, unless the user asks to stop.
pub fn svg(figure: &Figure, work: &Work) -> Result<String> {
    let (width, height) = figure.size();
    let metadata = if figure.provenance.is_empty() {
        String::new()
    } else {
        format!("<metadata>{}</metadata>\n", canvas::escape(&figure.provenance.to_json().to_string()))
    };
    let unit = canvas::UNIT as usize;
    let (inner_width, inner_height) = (width * unit, height * unit);
    let body = charts::body(figure, work)?;
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
    let drawn = figure.clone();
    match extension.as_str() {
        "svg" => files::write_detached(path, work, move |out| {
            let document = svg(&drawn, out.work())?;
            out.put(document.as_bytes())
        }),
        "png" => files::write_detached(path, work, move |out| {
            let document = svg(&drawn, out.work())?;
            out.put(&png::encoded(&document, PNG_SCALE, &drawn.provenance, out.work())?)
        }),
        _ => Err(Error::input("a figure is saved as .svg or .png").file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::*;
    use crate::options::Value;
    use crate::provenance::Provenance;
    use crate::tensor::Tensor;

    fn provenance() -> Provenance {
        Provenance::new("test").with("model", "a <model> & \"more\"")
    }

    fn work() -> Work {
        Work::silent(1).unwrap()
    }

    fn wave(n: usize, step: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * step).sin() * (1.0 + i as f64 * 0.01)).collect()
    }

    /// One figure of each kind from the same series.
    fn all(series: &[Vec<f64>]) -> Vec<Figure> {
        let named = || series.iter().enumerate().map(|(i, v)| Series::new(format!("series {i}"), v.clone())).collect::<Vec<_>>();
        let first = series.first().cloned().unwrap_or_default();
        let matrix = Tensor::from_f64(first.clone(), &[1, first.len()]).unwrap();
        let labels = (0..first.len()).map(|i| format!(" token {i}\n")).collect();
        let figures = vec![
            Figure::histogram(named(), HistogramOptions::default(), provenance()),
            Figure::violin(named(), ViolinOptions::default(), provenance()),
            Figure::ridgeline(named(), RidgelineOptions::default(), provenance()),
            Figure::box_plot(named(), BoxOptions::default(), provenance()),
            Figure::ecdf(named(), EcdfOptions::default(), provenance()),
            Figure::line(named(), LineOptions::default(), provenance()),
            Figure::bands(vec![("fan".into(), series.to_vec())], BandsOptions::default(), provenance()),
            Figure::bar(labels, vec![Series::new("", first.clone())], BarOptions::default(), provenance()),
            Figure::scatter(first.clone(), first.clone(), ScatterOptions::default(), provenance()),
            Figure::heatmap(&matrix, HeatmapOptions::default(), provenance(), &work()),
        ];
        figures.into_iter().map(|figure| figure.unwrap()).collect()
    }

    /// The document parses, carries its provenance, and every number in it is finite.
    fn check(figure: &Figure) -> String {
        let text = svg(figure, &work()).unwrap();
        assert_eq!(text, svg(figure, &work()).unwrap(), "{}", figure.kind());
        let tree = resvg::usvg::Tree::from_str(&text, &resvg::usvg::Options::default());
        assert!(tree.is_ok(), "{}: {:?}", figure.kind(), tree.err());
        assert!(text.contains("<metadata>{&quot;program&quot;:&quot;saerepl"), "{}", figure.kind());
        assert!(text.contains("a &lt;model&gt; &amp; \\&quot;more\\&quot;"));
        let without_picture = text.split("href=\"").next().unwrap_or_default();
        assert!(!without_picture.contains("NaN") && !without_picture.contains("inf\""), "{}", figure.kind());
        text
    }

    #[test]
    fn every_kind_draws_whatever_its_numbers_are() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let cases: Vec<Vec<Vec<f64>>> = vec![
            vec![wave(500, 0.1), wave(300, 0.2)],
            vec![],
            vec![vec![]],
            vec![vec![nan, inf, -inf]],
            vec![vec![-3.5]],
            vec![vec![2.0; 7], vec![0.0]],
            vec![vec![1e308, -1e308, 1e299, -1e299, 5e-324, nan]],
            vec![vec![1e-12, 1e-12 + 1e-20]],
            (0..30).map(|i| wave(20, 0.1 * f64::from(i))).collect(),
        ];
        for case in &cases {
            for mut figure in all(case) {
                for (log_x, log_y, size) in [(false, false, 640), (true, true, 640), (false, true, 120)] {
                    figure.set("log_x", &Value::Bool(log_x)).unwrap();
                    figure.set("log_y", &Value::Bool(log_y)).unwrap();
                    figure.set("width", &Value::Int(size)).unwrap();
                    figure.set("height", &Value::Int(size)).unwrap();
                    check(&figure);
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let series = vec![Series::new("a", vec![f64::NAN, -1.0, 0.0, 1.0, 10.0])];
        let options = HistogramOptions { title: Some("Skewness & more".into()), log_x: true, ..HistogramOptions::default() };
        let text = check(&Figure::histogram(series, options, provenance()).unwrap());
        assert!(text.contains("Skewness &amp; more"));
        assert!(text.contains("1 value left out: not finite"));
        assert!(text.contains("2 values left out: not positive, on a logarithmic axis"));
        let nothing = Figure::violin(vec![Series::new("a", vec![])], ViolinOptions::default(), provenance()).unwrap();
        assert!(check(&nothing).contains("no data"));
    }

    #[test]
    fn heat_maps_and_large_scatters_are_one_picture() {
        let pictures = |figure: &Figure| check(figure).matches("<image ").count();
        let matrix = Tensor::from_f64(wave(2500 * 4, 0.01), &[4, 2500]).unwrap();
        let heatmap =
            Figure::heatmap(&matrix, HeatmapOptions { width: 300, ..HeatmapOptions::default() }, provenance(), &work()).unwrap();
        assert_eq!(pictures(&heatmap), 1);
        assert!(svg(&heatmap, &work()).unwrap().contains("4 × 2500 cells, drawn as means over 1 × 3"));
        let scatter = |n| Figure::scatter(wave(n, 0.3), wave(n, 0.7), ScatterOptions::default(), provenance()).unwrap();
        let few = check(&scatter(100));
        assert_eq!((few.matches("<image ").count(), few.matches("<circle ").count()), (0, 100));
        let many = check(&scatter(20_001));
        assert_eq!((many.matches("<image ").count(), many.matches("<circle ").count()), (1, 0));
    }

    #[test]
    fn a_heat_map_has_its_colours_in_place() {
        // 2 × 3, row 0 on top: least is viridis' first colour, most its last, NaN grey.
        let matrix = Tensor::from_f64(vec![0.0, 0.5, 1.0, f64::NAN, 0.5, 0.5], &[2, 3]).unwrap();
        let figure = Figure::heatmap(&matrix, HeatmapOptions::default(), provenance(), &work()).unwrap();
        let bytes = png(&svg(&figure, &work()).unwrap(), 1.0, &figure.provenance, &Work::silent(1).unwrap()).unwrap();
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let at = |x: usize, y: usize| [0, 1, 2].map(|c| pixels[(y * 640 + x) * 3 + c]);
        assert_eq!(at(100, 100), [0x44, 0x01, 0x54]);
        assert_eq!(at(500, 100), [0xfd, 0xe7, 0x25]);
        assert_eq!(at(100, 300), [0xd0, 0xd0, 0xd0]);
    }

    #[test]
    fn drawing_ends_when_the_user_asks_to_stop() {
        let many = wave(30_000, 0.1);
        let scatter = Figure::scatter(many.clone(), many, ScatterOptions::default(), provenance()).unwrap();
        let grid = Figure::grid(vec![scatter.clone()], GridOptions::default(), provenance()).unwrap();
        let work = work();
        work.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        for figure in [scatter, grid] {
            assert!(svg(&figure, &work).unwrap_err().is_interrupted());
        }
    }

    #[test]
    fn a_png_is_twice_as_large_carries_provenance_and_repeats() {
        let work = work();
        let figure = &all(&[wave(50, 0.3)])[0];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/histogram.png");
        save_figure(figure, &path, &work).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, png(&svg(figure, &work).unwrap(), PNG_SCALE, &figure.provenance, &work).unwrap());
        let reader = ::png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let info = reader.info();
        assert_eq!((info.width, info.height), (1280, 800));
        assert_eq!(info.utf8_text[0].keyword, "saerepl");
        assert_eq!(info.utf8_text[0].get_text().unwrap(), provenance().to_json().to_string());
        assert!(save_figure(figure, Path::new("x.pdf"), &work).unwrap_err().message().contains(".svg or .png"));
    }

    #[test]
    fn a_grid_holds_its_figures() {
        let figures = all(&[wave(50, 0.3)]);
        let options = GridOptions { title: Some("All kinds".into()), columns: Some(4), ..GridOptions::default() };
        let grid = Figure::grid(figures, options, provenance()).unwrap();
        assert_eq!(grid.size(), (4 * 640, 3 * 400 + 36));
        let text = check(&grid);
        assert!(text.contains("All kinds") && text.matches("<g transform=").count() == 10);
        check(&Figure::grid(Vec::new(), GridOptions::default(), provenance()).unwrap());
    }
}
