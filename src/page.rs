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
