//! Pages: reports that stand alone.

use crate::entry;
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::page::{Block, Page};
use crate::provenance::Provenance;
use crate::render;
use crate::script::Host;
use crate::script::convert::{FromScript, describe};
use crate::script::declare::{Call, Entry};
use crate::script::display;
use crate::table::Table;
use rhai::{Array, Dynamic, Map};
use serde_json::Value as Json;

crate::native!(Page, "Page");

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// A page: what `blocks` holds, one below the other. Text becomes paragraphs (an empty line between them; a line
            /// `## …` is a heading, lines between ``` are code), tables and figures stay what they are, a map or an array of
            /// `[name, value]` pairs becomes a list of named values. Saved as `.html`, the page needs no other file.
            ///
            /// Errors: a block of another kind.
            ///
            /// ```rhai
            /// let report = page("Shares", ["## By layer", table(#{ layer: [0, 1], share: [0.1, 0.2] }), plot::line([0.1, 0.2])]);
            /// save(report, "report.html");
            /// ```
            fn page(call, title: String, blocks: Array) -> Page {
                blocks.iter().try_fold(Page::new(title, Provenance::new("page")), |page, value| add(call, page, value))
            }
        },
        entry! {
            /// The page as text, figures by their names.
            ///
            /// ```rhai
            /// assert(page("A title", ["one", "two"]).to_string().contains("A title"));
            /// ```
            method to_string(call, page: Page) -> String { Ok(render::page_text(&page, call.host.width)) }
        },
        entry! {
            /// The page as one HTML document that needs no other file.
            ///
            /// ```rhai
            /// assert(page("A title", ["`code`"]).to_html().contains("<code>code</code>"));
            /// ```
            method to_html(call, page: Page) -> String { call.work().detached(move |work| render::page_html(&page, work)) }
        },
        entry! {
            /// The page as Markdown, its figures as pictures inside.
            ///
            /// ```rhai
            /// assert(page("A title", ["one"]).to_markdown() == "# A title\n\none\n");
            /// ```
            method to_markdown(call, page: Page) -> String { call.work().detached(move |work| render::page_markdown(&page, work)) }
        },
    ]
}

fn add(call: &Call, page: Page, value: &Dynamic) -> Result<Page> {
    if let Some(text) = String::from_script(value) {
        return Ok(page.text(&text));
    }
    let shown = |value: &Dynamic| display::text(call.native.engine(), value, usize::MAX);
    let block = if let Some(table) = value.read_lock::<Table>() {
        Block::Table(table.clone())
    } else if let Some(figure) = value.read_lock::<Figure>() {
        Block::Figure(figure.clone())
    } else if let Some(map) = value.read_lock::<Map>() {
        Block::Fields(map.iter().map(|(name, value)| (name.to_string(), shown(value))).collect())
    } else if let Some(pairs) = value.read_lock::<Array>().and_then(|items| items.iter().map(super::figures::pair).collect()) {
        let pairs: Vec<(String, Dynamic)> = pairs;
        Block::Fields(pairs.into_iter().map(|(name, value)| (name, shown(&value))).collect())
    } else {
        let message =
            format!("page: a block is text, a table, a figure, a map or an array of [name, value], not {}", describe(value));
        return Err(Error::input(message));
    };
    Ok(page.with(block))
}

/// The page with a last section that says how to make it again, where a script made it.
pub(super) fn with_origin(page: Page, host: &Host) -> Page {
    let Some(script) = host.script.as_deref() else { return page };
    let given = host.parameters.iter().map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}"))));
    let command = format!("saerepl run {}{} --seed {}", quoted(script), given.collect::<String>(), host.work.seed());
    let used = host.used();
    let column = |of: fn(&super::Used) -> String| used.iter().map(of).collect::<Vec<_>>();
    let parameters = Table::new(Provenance::default())
        .with("parameter", column(|used| used.name.clone()))
        .and_then(|table| table.with("value", column(|used| plain(&used.value))))
        .and_then(|table| table.with("meaning", column(|used| used.description.clone())));
    let page = page
        .with(Block::Heading("How to make this again".into()))
        .with(Block::Code(command))
        .with(Block::Text(concat!("Made by saerepl ", env!("CARGO_PKG_VERSION"), ".").into()));
    match parameters {
        Ok(table) if !table.is_empty() => page.with(Block::Table(table)),
        _ => page,
    }
}

/// A parameter's value as it would be given.
fn plain(value: &Json) -> String {
    match value {
        Json::Null => "()".into(),
        Json::String(text) => text.clone(),
        Json::Object(range) if range.len() == 2 && range.contains_key("from") && range.contains_key("to") => {
            let end = if range["to"].is_null() { String::new() } else { range["to"].to_string() };
            format!("{}..{end}", range["from"])
        }
        other => other.to_string(),
    }
}

/// An argument for a shell.
fn quoted(argument: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_=./:@,+%".contains(c);
    if argument.chars().all(safe) {
        return argument.into();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_shell() {
        assert_eq!(quoted("layers=0..8"), "layers=0..8");
        assert_eq!(quoted("sae=a/{layer}"), "'sae=a/{layer}'");
        assert_eq!(quoted("x=it's"), "'x=it'\\''s'");
        assert_eq!(plain(&serde_json::json!({"from": 0, "to": 4})), "0..4");
        assert_eq!(plain(&Json::Null), "()");
    }
}
