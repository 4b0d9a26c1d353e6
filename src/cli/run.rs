//! `saerepl run FILE [key=value …]`.

use super::terminal;
use crate::batch::{self, Batch};
use crate::session::status;
use crate::work::Work;
use clap::{Args, CommandFactory};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
#[command(disable_help_flag = true)]
pub(super) struct Run {
    /// The script
    #[arg(value_name = "FILE.rhai", required_unless_present = "help")]
    file: Option<PathBuf>,
    /// Values for the script's parameters
    #[arg(value_name = "key=value", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Where the results go [default: out/<script name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print help; with FILE, the script's own parameters
    #[arg(long, short)]
    help: bool,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("parameters are given as key=value".into()),
    }
}

impl Run {
    pub(super) fn run(self, work: &Work) -> u8 {
        let Some(file) = self.file else {
            return usage();
        };
        if self.help {
            return match batch::help(&file, work) {
                Ok(help) => {
                    work.print(help.trim_end());
                    status::DONE
                }
                Err(report) => {
                    work.note(&report.render(terminal::colour(), terminal::message_width()));
                    status::FAILED
                }
            };
        }
        let mut parameters = BTreeMap::new();
        for (key, value) in self.parameters {
            if parameters.contains_key(&key) {
                work.note(&format!("error: the parameter `{key}` is given twice"));
                return status::USAGE;
            }
            parameters.insert(key, value);
        }
        terminal::interrupt(work, true);
        let batch = Batch { file, parameters, out_dir: self.out, width: terminal::width() };
        batch.run(work, terminal::colour(), terminal::message_width())
    }
}

/// Help of the subcommand itself.
fn usage() -> u8 {
    let mut command = super::Cli::command();
    command.build();
    match command.find_subcommand_mut("run").map(clap::Command::print_help) {
        Some(Ok(())) => status::DONE,
        _ => status::FAILED,
    }
}
