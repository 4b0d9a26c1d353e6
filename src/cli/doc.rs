//! `saerepl doc [NAME]`: the reference of the script surface, from the declarations that `?name` shows.

use super::terminal;
use crate::error::Result;
use crate::files;
use crate::script::help;
use crate::session::{Report, Session, SessionOptions, status};
use crate::work::Work;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Doc {
    /// A function, method, property or type, as `?NAME` at the prompt
    name: Option<String>,
    /// Write reference.md, and saerepl.d.rhai for editors, into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    out: Option<PathBuf>,
}

impl Doc {
    pub(super) fn run(self, work: &Work) -> u8 {
        match self.text(work) {
            Ok(text) => {
                work.print(text.trim_end());
                status::DONE
            }
            Err(error) => {
                work.note(&Box::<Report>::from(error).render(terminal::colour(), terminal::message_width()));
                status::FAILED
            }
        }
    }

    fn text(&self, work: &Work) -> Result<String> {
        if let Some(name) = &self.name {
            let options = SessionOptions { width: terminal::width(), ..SessionOptions::default() };
            return Session::new(work.clone(), options).help(name);
        }
        let Some(folder) = &self.out else { return Ok(help::reference()) };
        let (reference, definitions) = (folder.join("reference.md"), folder.join("saerepl.d.rhai"));
        files::write_atomic(&reference, help::reference().as_bytes())?;
        files::write_atomic(&definitions, help::definitions()?.as_bytes())?;
        Ok(format!("{}\n{}", reference.display(), definitions.display()))
    }
}
