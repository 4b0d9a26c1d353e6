//! `saerepl info NAME [PATH]`: what a model or an SAE is, as the program reads it.

use super::terminal;
use super::thing::Thing;
use crate::Result;
use crate::dictionary::list_saes;
use crate::hub;
use crate::render::text;
use crate::session::{Report, status};
use crate::table::Column;
use crate::work::Work;
use clap::Args;

#[derive(Args)]
pub(super) struct Info {
    /// `demo`, a file or folder, a Hugging Face id (org/repo[@revision]) or a suite of SAEs
    name: String,
    /// The SAE's folder or file inside it
    path: Option<String>,
}

impl Info {
    pub(super) fn run(self, work: &Work) -> u8 {
        terminal::interrupt(work, true);
        match self.facts(work) {
            Ok(facts) => {
                work.print(&text::facts(&facts));
                status::DONE
            }
            Err(error) => {
                let interrupted = error.is_interrupted();
                work.note(&Box::<Report>::from(error).render(terminal::colour(), terminal::message_width()));
                if interrupted { status::INTERRUPTED } else { status::FAILED }
            }
        }
    }

    fn facts(&self, work: &Work) -> Result<Vec<(String, String)>> {
        let (place, path) = hub::resolve_inside(&self.name, self.path.as_deref(), work)?;
        let model = match Thing::open(&place, &self.name, path.as_deref(), work)? {
            Thing::Sae(sae) => return sae.describe(work),
            Thing::Model(model) => model,
        };
        let mut facts = model.describe();
        if let Ok(saes) = list_saes(&self.name, work)
            && let Ok(Column::Text(hooks)) = saes.column("hook")
            && !hooks.is_empty()
        {
            facts.push(("SAEs".into(), format!("{}: {}", hooks.len(), hooks.join(", "))));
        }
        Ok(facts)
    }
}
