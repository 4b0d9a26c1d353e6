//! `saerepl info NAME`: what a file is, as the program reads it.

use super::terminal;
use crate::model::{Model, ModelOptions};
use crate::session::{Report, status};
use crate::work::Work;
use clap::Args;
use unicode_width::UnicodeWidthStr;

#[derive(Args)]
pub(super) struct Info {
    /// `demo`, a file or folder, or a Hugging Face id (org/repo[@revision])
    name: String,
}

impl Info {
    pub(super) fn run(self, work: &Work) -> u8 {
        terminal::interrupt(work, true);
        match Model::load(&self.name, &ModelOptions::default(), work) {
            Ok(model) => {
                work.print(&facts(&model.describe()));
                status::DONE
            }
            Err(error) => {
                let interrupted = error.is_interrupted();
                work.note(&Box::<Report>::from(error).render(terminal::colour()));
                if interrupted { status::INTERRUPTED } else { status::FAILED }
            }
        }
    }
}

/// Facts in two columns.
fn facts(facts: &[(String, String)]) -> String {
    let width = facts.iter().map(|(what, _)| what.width()).max().unwrap_or(0);
    let rows = facts.iter().map(|(what, value)| format!("{what}{}  {value}", " ".repeat(width - what.width())));
    rows.collect::<Vec<_>>().join("\n")
}
