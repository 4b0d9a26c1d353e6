//! A page as text, HTML, Markdown and JSON: one walk over its blocks for each.

use super::bars::{bars_html, bars_text, counts_html, counts_text};
use super::canvas::escape;
use super::{number, svg, text};
use crate::error::{Error, Result};
use crate::files;
use crate::page::{Bars, Block, Counts, Page};
use crate::table::{Column, Table};
use crate::work::Work;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use std::path::Path;
use unicode_width::UnicodeWidthStr;

/// Rows of a table on a page; a longer one is told to lie in a file.
const ROWS: usize = 2000;
/// Columns of a drawing in Markdown.
const MARKDOWN: usize = 80;

/// A page for a terminal of `width` columns; of a figure its name.
pub fn page_text(page: &Page, width: usize) -> String {
    let mut parts = vec![format!("{}\n{}", page.title, "═".repeat(page.title.width().min(width)))];
    for block in &page.blocks {
        parts.push(match block {
            Block::Heading(heading) => format!("{heading}\n{}", "─".repeat(heading.width().min(width))),
            Block::Text(paragraph) => textwrap::fill(&text::harmless(paragraph), width.max(20)),
            Block::Code(lines) => lines.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"),
            Block::Fields(fields) => {
                let room = fields.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
                let line = |(name, value): &(String, String)| {
                    let indent = " ".repeat(room + 2);
                    let value = textwrap::fill(&text::harmless(value), width.saturating_sub(room + 2).max(20));
                    format!("{name}{}{}", " ".repeat(room + 2 - name.width()), value.replace('\n', &format!("\n{indent}")))
                };
                fields.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Block::Table(table) => text::table(table, width),
            Block::Figure(figure) => figure.to_string(),
            Block::Bars(lists) => bars_text(lists, width),
            Block::Counts(counts) => counts_text(counts, width),
        });
    }
    parts.join("\n\n")
}

/// A page as one HTML document that needs nothing beside it: figures inside, no script, light and dark.
///
/// # Errors
/// None that a page's data cause, unless the user asks to stop.
pub fn page_html(page: &Page, work: &Work) -> Result<String> {
    let title = escape(&page.title);
    let style = include_str!("page.css");
    let body = page_body(page, work)?;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<article class=\"saerepl\">\n{body}</article>\n</body>\n</html>\n"
    ))
}

/// What stands inside the document.
fn page_body(page: &Page, work: &Work) -> Result<String> {
    let mut out = format!("<h1>{}</h1>\n", escape(&page.title));
    for block in &page.blocks {
        out += &match block {
            Block::Heading(heading) => format!("<h2>{}</h2>\n", escape(heading)),
            Block::Text(paragraph) => format!("<p>{}</p>\n", with_code(paragraph)),
            Block::Code(lines) => format!("<pre><code>{}</code></pre>\n", escape(lines)),
            Block::Fields(fields) => {
                let row = |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), with_code(value));
                format!("<dl>\n{}</dl>\n", fields.iter().map(row).collect::<String>())
            }
            Block::Table(table) => html_table(table),
            Block::Figure(figure) => format!("<figure>\n{}</figure>\n", svg(figure, work)?),
            Block::Bars(lists) => bars_html(lists),
            Block::Counts(counts) => counts_html(counts),
        };
    }
    if !page.provenance.is_empty() {
        let record = serde_json::to_string_pretty(&page.provenance.to_json()).map_err(|e| Error::internal(e.to_string()))?;
        out += &format!("<details><summary>Provenance</summary><pre>{}</pre></details>\n", escape(&record));
    }
    Ok(out)
}

/// Text whose parts between backticks are code.
fn with_code(paragraph: &str) -> String {
    let parts = paragraph.split('`').enumerate();
    let part = |(i, part): (usize, &str)| if i % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) };
    parts.map(part).collect()
}

/// The name, cells and alignment (true: to the right) of each column.
fn cells(table: &Table) -> Vec<(&str, Vec<String>, bool)> {
    let rows = table.len().min(ROWS);
    let right = |column: &Column| matches!(column, Column::Float(_) | Column::Int(_));
    table.columns().iter().map(|(name, column)| (name.as_str(), text::column_cells(column, rows), right(column))).collect()
}

fn left_out(table: &Table) -> Option<String> {
    let more = table.len().checked_sub(ROWS).filter(|more| *more > 0)?;
    Some(format!("{} more rows", number::whole(more as u64)))
}

fn html_table(table: &Table) -> String {
    let columns = cells(table);
    let class = |right: bool| if right { " class=\"number\"" } else { "" };
    let head: String = columns.iter().map(|(name, _, right)| format!("<th{}>{}</th>", class(*right), escape(name))).collect();
    let row = |i: usize| {
        let cell = |(_, cells, right): &(&str, Vec<String>, bool)| format!("<td{}>{}</td>", class(*right), escape(&cells[i]));
        format!("<tr>{}</tr>\n", columns.iter().map(cell).collect::<String>())
    };
    let rows: String = (0..table.len().min(ROWS)).map(row).collect();
    let more = left_out(table).map_or_else(String::new, |more| format!("<p class=\"more\">… {more}</p>\n"));
    format!("<div class=\"table\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n{more}")
}

/// A page as Markdown, its figures as pictures inside.
///
/// # Errors
/// None that a page's data cause, unless the user asks to stop.
pub fn page_markdown(page: &Page, work: &Work) -> Result<String> {
    let plain = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut parts = vec![format!("# {}", page.title)];
    for block in &page.blocks {
        parts.push(match block {
            Block::Heading(heading) => format!("## {heading}"),
            Block::Text(paragraph) => paragraph.clone(),
            Block::Code(lines) => format!("```\n{lines}\n```"),
            Block::Fields(fields) => {
                fields.iter().map(|(name, value)| format!("* **{name}**: {value}")).collect::<Vec<_>>().join("\n")
            }
            Block::Table(table) => {
                let columns = cells(table);
                let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
                let mut lines = vec![line(columns.iter().map(|(name, ..)| plain(name)).collect())];
                lines.push(line(columns.iter().map(|(.., right)| if *right { "---:".into() } else { "---".into() }).collect()));
                lines.extend(
                    (0..table.len().min(ROWS)).map(|i| line(columns.iter().map(|(_, cells, _)| plain(&cells[i])).collect())),
                );
                lines.extend(left_out(table).map(|more| format!("\n… {more}")));
                lines.join("\n")
            }
            Block::Figure(figure) => {
                let title = figure.look().title.map_or_else(|| figure.kind().to_string(), |title| title.replace(['[', ']'], ""));
                format!("![{title}](data:image/svg+xml;base64,{})", STANDARD.encode(svg(figure, work)?))
            }
            Block::Bars(lists) => format!("```text\n{}\n```", bars_text(lists, MARKDOWN)),
            Block::Counts(counts) => format!("```text\n{}\n```", counts_text(counts, MARKDOWN)),
        });
    }
    Ok(parts.join("\n\n") + "\n")
}

/// A page as JSON: title, blocks by their kind, provenance. Of a figure its kind, title and provenance.
///
/// # Errors
/// None that a page's data cause.
pub fn page_json(page: &Page) -> Result<Json> {
    let block = |block: &Block| {
        Ok(match block {
            Block::Heading(heading) => json!({ "heading": heading }),
            Block::Text(paragraph) => json!({ "text": paragraph }),
            Block::Code(lines) => json!({ "code": lines }),
            Block::Fields(fields) => {
                json!({"fields": fields.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()})
            }
            Block::Table(table) => {
                let records: Json = serde_json::from_slice(&table.to_json().0).map_err(|e| Error::internal(e.to_string()))?;
                json!({ "table": records })
            }
            Block::Figure(figure) => {
                json!({"figure": {"kind": figure.kind(), "title": figure.look().title, "provenance": figure.provenance.to_json()}})
            }
            Block::Bars(lists) => {
                let bar = |(name, amount): &(String, f64)| json!({"name": name, "amount": amount});
                let list = |list: &Bars| json!({"title": list.title, "bars": list.bars.iter().map(bar).collect::<Vec<_>>()});
                json!({"bars": lists.iter().map(list).collect::<Vec<_>>()})
            }
            Block::Counts(Counts { what, edges, kinds }) => {
                let kind = |(name, counts): &(String, Vec<u64>)| json!({"name": name, "counts": counts});
                json!({"counts": {"what": what, "edges": edges, "kinds": kinds.iter().map(kind).collect::<Vec<_>>()}})
            }
        })
    };
    let blocks = page.blocks.iter().map(block).collect::<Result<Vec<_>>>()?;
    Ok(json!({"title": page.title, "blocks": blocks, "provenance": page.provenance.to_json()}))
}

/// Writes a page to `.html`, `.md` or `.json`.
///
/// # Errors
/// Another extension, or the file cannot be written.
pub fn save_page(page: &Page, path: &Path, work: &Work) -> Result<()> {
    let extension = path.extension().map_or_else(String::new, |e| e.to_string_lossy().to_lowercase());
    let drawn = page.clone();
    match extension.as_str() {
        "html" => files::write_detached(path, work, move |out| {
            let document = page_html(&drawn, out.work())?;
            out.put(document.as_bytes())
        }),
        "md" => files::write_detached(path, work, move |out| {
            let document = page_markdown(&drawn, out.work())?;
            out.put(document.as_bytes())
        }),
        "json" => files::write_detached(path, work, move |out| {
            serde_json::to_writer_pretty(&mut *out, &page_json(&drawn)?).map_err(|e| Error::internal(e.to_string()))?;
            out.put(b"\n")
        }),
        _ => Err(Error::input("a page is saved as .html, .md or .json").file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Figure, HistogramOptions, Series};
    use crate::provenance::Provenance;

    fn page() -> Page {
        let table = Table::new(Provenance::default())
            .with("token", vec![" <a>|".to_string(), "b".into()])
            .and_then(|t| t.with("score", vec![1.5, f64::NAN]))
            .unwrap();
        let series = vec![Series::new("", vec![1.0, 2.0, 2.5])];
        let options = HistogramOptions { title: Some("Three".into()), ..HistogramOptions::default() };
        let figure = Figure::histogram(series, options, Provenance::new("test")).unwrap();
        Page::new("A & B", Provenance::new("test"))
            .text("## What\nsee `x < 1` and more words than a narrow terminal has room for\n```\nsaerepl run\n```")
            .with(Block::Fields(vec![("model".into(), "demo".into()), ("k".into(), "10".into())]))
            .with(Block::Table(table))
            .with(Block::Figure(figure))
    }

    #[test]
    fn html_stands_alone_and_escapes() {
        let html = page_html(&page(), &Work::silent(1).unwrap()).unwrap();
        assert!(html.starts_with("<!DOCTYPE html>") && html.contains("<title>A &amp; B</title>"));
        assert!(html.contains("see <code>x &lt; 1</code> and") && html.contains("<td> &lt;a&gt;|</td><td class=\"number\">"));
        assert!(html.contains("<figure>\n<svg ") && html.contains("<pre><code>saerepl run</code></pre>"));
        assert!(!html.contains("<script") && !html.contains("href=\"http") && !html.contains("src="), "{html}");
        assert!(html.contains("&quot;function&quot;: &quot;test&quot;"));
    }

    #[test]
    fn text_fits_the_terminal_and_names_figures() {
        let text = page_text(&page(), 40);
        assert!(text.lines().all(|line| line.width() <= 40 || line.starts_with("Figure")), "{text}");
        assert!(text.contains("model  demo\nk      10") && text.contains("plot::histogram"), "{text}");
    }

    #[test]
    fn markdown_and_json_hold_the_same() {
        let markdown = page_markdown(&page(), &Work::silent(1).unwrap()).unwrap();
        assert!(markdown.contains("| token | score |\n| --- | ---: |\n|  <a>\\| | 1.500 |"), "{markdown}");
        assert!(markdown.contains("![Three](data:image/svg+xml;base64,"));
        let json = page_json(&page()).unwrap();
        assert_eq!(json["blocks"][0], json!({"heading": "What"}));
        assert_eq!(json["blocks"][4]["table"][0], json!({"token": " <a>|", "score": 1.5}));
        let folder = tempfile::tempdir().unwrap();
        let work = Work::silent(1).unwrap();
        save_page(&page(), &folder.path().join("page.html"), &work).unwrap();
        let refused = save_page(&page(), &folder.path().join("page.pdf"), &work).unwrap_err();
        assert!(refused.message().contains(".html, .md or .json"));
    }
}
