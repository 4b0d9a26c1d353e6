//! A page: text, tables and figures one below the other, as plain data. Reports and cards are pages; `render` writes them.

use crate::figure::Figure;
use crate::provenance::Provenance;
use crate::table::Table;

/// One part of a page.
#[derive(Clone, Debug)]
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// A paragraph; what stands between backticks is code.
    Text(String),
    /// Lines that stand as they are: a command, a piece of a script.
    Code(String),
    /// Named values, one a line.
    Fields(Vec<(String, String)>),
    /// A table.
    Table(Table),
    /// A figure.
    Figure(Figure),
    /// Lists of named amounts in one unit, side by side where there is room.
    Bars(Vec<Bars>),
    /// How often values fall into bins, by kind.
    Counts(Counts),
}

/// Named amounts, each with a bar.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What stands above them.
    pub title: String,
    /// Name and amount of each, from the top.
    pub bars: Vec<(String, f64)>,
}

/// Counts of values in bins, one list of counts for each kind of value.
#[derive(Clone, Debug)]
pub struct Counts {
    /// What is counted, in the plural.
    pub what: String,
    /// Borders of the bins, one more than there are bins.
    pub edges: Vec<f64>,
    /// Name and counts of each kind.
    pub kinds: Vec<(String, Vec<u64>)>,
}

impl Counts {
    /// The counts of all kinds together.
    pub fn total(&self) -> Vec<u64> {
        let bins = self.edges.len().saturating_sub(1);
        (0..bins).map(|bin| self.kinds.iter().filter_map(|(_, counts)| counts.get(bin)).sum()).collect()
    }
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// What stands above it.
    pub title: String,
    /// Its parts, from the top.
    pub blocks: Vec<Block>,
    /// Who made it and how.
    pub provenance: Provenance,
}

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>, provenance: Provenance) -> Self {
        Page { title: title.into(), blocks: Vec::new(), provenance }
    }

    /// The page with the blocks of a text below: paragraphs with an empty line between them, a line `## …` a heading, lines
    /// between ``` code.
    pub fn text(mut self, text: &str) -> Self {
        self.blocks.extend(blocks(text));
        self
    }

    /// The page with one more block.
    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}

/// The blocks of a text.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    let mut code: Option<Vec<&str>> = None;
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        if let Some(lines) = &mut code {
            if fence {
                found.push(Block::Code(lines.join("\n")));
                code = None;
            } else {
                lines.push(line);
            }
            continue;
        }
        let heading = line.strip_prefix("## ");
        if (fence || heading.is_some() || line.trim().is_empty()) && !paragraph.is_empty() {
            found.push(Block::Text(std::mem::take(&mut paragraph).join(" ")));
        }
        match heading {
            Some(heading) => found.push(Block::Heading(heading.trim().into())),
            None if fence => code = Some(Vec::new()),
            None if line.trim().is_empty() => {}
            None => paragraph.push(line.trim()),
        }
    }
    found.extend(code.map(|lines| Block::Code(lines.join("\n"))));
    if !paragraph.is_empty() {
        found.push(Block::Text(paragraph.join(" ")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_headings_paragraphs_and_code() {
        let page =
            Page::new("t", Provenance::default()).text("one\nline\n## Next \ntwo\n```\n a  b\n\n## c\n```\nthree\n\nfour\n");
        let shown: Vec<String> = page.blocks.iter().map(|block| format!("{block:?}")).collect();
        assert_eq!(
            shown,
            [
                "Text(\"one line\")",
                "Heading(\"Next\")",
                "Text(\"two\")",
                "Code(\" a  b\\n\\n## c\")",
                "Text(\"three\")",
                "Text(\"four\")",
            ]
        );
        assert!(Page::new("t", Provenance::default()).text("\n \n").blocks.is_empty());
    }
}
