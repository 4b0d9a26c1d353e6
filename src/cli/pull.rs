//! `saerepl pull NAME [PATH …]`: what a model or an SAE needs, fetched into the Hugging Face cache.

use super::terminal;
use super::thing::Thing;
use crate::Result;
use crate::error::Error;
use crate::hub::{self, OpenedFile};
use crate::session::{Report, status};
use crate::work::Work;
use clap::Args;

#[derive(Args)]
pub(super) struct Pull {
    /// A Hugging Face id (org/repo[@revision][/path]) or a suite of SAEs (gemma-scope-2b-pt-res/layer_12/width_16k)
    name: String,
    /// SAEs inside it: folders, files, or their names in the suite
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

impl Pull {
    pub(super) fn run(self, work: &Work) -> u8 {
        terminal::interrupt(work, true);
        let paths = if self.paths.is_empty() { vec![None] } else { self.paths.iter().map(|path| Some(path.as_str())).collect() };
        for path in paths {
            match self.pull(path, work) {
                Ok(said) => work.print(&said),
                Err(error) => {
                    let interrupted = error.is_interrupted();
                    work.note(&Box::<Report>::from(error).render(terminal::colour(), terminal::message_width()));
                    return if interrupted { status::INTERRUPTED } else { status::FAILED };
                }
            }
        }
        status::DONE
    }

    /// Opens it, which fetches what `load_model` or `load_sae` will open again, and says what that was.
    fn pull(&self, path: Option<&str>, work: &Work) -> Result<String> {
        let (place, path) = hub::resolve_inside(&self.name, path, work)?;
        if place.files().revision().is_none() {
            return Err(Error::input(format!("`{}` is on this machine: there is nothing to fetch", self.name)));
        }
        let (place, opened) = place.watched();
        Thing::open(&place, &self.name, path.as_deref(), work)?;
        let files = opened.files();
        let total = |of: fn(&OpenedFile) -> bool| size(files.iter().filter(|file| of(file)).map(|file| file.size).sum());
        let mut lines: Vec<String> = files
            .iter()
            .map(|file| {
                let how = if file.fetched { "fetched" } else { "there   " };
                format!("{how}  {:>9}  {}", size(file.size), place.files().path_of(&file.path).display())
            })
            .collect();
        let folder = place.files().on_disk("").unwrap_or_default();
        let count = if files.len() == 1 { "1 file".to_string() } else { format!("{} files", files.len()) };
        lines.push(format!(
            "{count}, {}, of which {} came now, in {}",
            total(|_| true),
            total(|file| file.fetched),
            folder.display().to_string().trim_end_matches('/')
        ));
        Ok(lines.join("\n"))
    }
}

/// Bytes in decimal units, as the hub shows them.
fn size(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let fitting = units.into_iter().find(|(unit, _)| bytes as f64 >= *unit);
    fitting.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{:.1} {name}", bytes as f64 / unit))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        assert_eq!([999, 1000, 302_055_424, 5_000_000_000].map(size), ["999 B", "1.0 kB", "302.1 MB", "5.0 GB"]);
    }
}
