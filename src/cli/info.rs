//! `saerepl info NAME [PATH]`: what a model or an SAE is, as the program reads it.

use super::terminal;
use crate::Result;
use crate::dictionary::{SaeOptions, list_saes, load_sae};
use crate::model::{Model, ModelOptions};
use crate::session::{Report, status};
use crate::table::Column;
use crate::work::Work;
use clap::Args;
use unicode_width::UnicodeWidthStr;

#[derive(Args)]
pub(super) struct Info {
    /// `demo`, a file or folder, or a Hugging Face id (org/repo[@revision])
    name: String,
    /// The SAE's folder or file inside it
    path: Option<String>,
}

impl Info {
    pub(super) fn run(self, work: &Work) -> u8 {
        terminal::interrupt(work, true);
        match self.facts(work) {
            Ok(facts) => {
                work.print(&columns(&facts));
                status::DONE
            }
            Err(error) => {
                let interrupted = error.is_interrupted();
                work.note(&Box::<Report>::from(error).render(terminal::colour()));
                if interrupted { status::INTERRUPTED } else { status::FAILED }
            }
        }
    }

    /// What has a path inside it is an SAE; anything else is a model, or an SAE if it cannot be read as a model.
    fn facts(&self, work: &Work) -> Result<Vec<(String, String)>> {
        let sae = || load_sae(&self.name, self.path.as_deref(), &SaeOptions::default(), work)?.describe(work);
        if self.path.is_some() {
            return sae();
        }
        let with_saes = |model: Model| {
            let mut facts = model.describe();
            if let Ok(saes) = list_saes(&self.name, work)
                && let Ok(Column::Text(hooks)) = saes.column("hook")
                && !hooks.is_empty()
            {
                facts.push(("SAEs".into(), format!("{}: {}", hooks.len(), hooks.join(", "))));
            }
            facts
        };
        let model = Model::load(&self.name, &ModelOptions::default(), work).map(with_saes);
        model.or_else(|no_model| match sae() {
            Err(no_sae) if no_sae.is_interrupted() => Err(no_sae),
            // A name that leads nowhere is said once.
            Err(no_sae) if no_sae.message() == no_model.message() => Err(no_model),
            Err(no_sae) => Err(no_model.help(format!("nor is it an SAE: {no_sae}"))),
            facts => facts,
        })
    }
}

/// Facts in two columns.
fn columns(facts: &[(String, String)]) -> String {
    let width = facts.iter().map(|(what, _)| what.width()).max().unwrap_or(0);
    let rows = facts.iter().map(|(what, value)| format!("{what}{}  {value}", " ".repeat(width - what.width())));
    rows.collect::<Vec<_>>().join("\n")
}
