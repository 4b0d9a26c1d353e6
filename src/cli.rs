//! The command line: arguments, one file a subcommand, and the terminal that receives text and progress.

mod doc;
mod info;
mod pull;
mod run;
mod terminal;
mod thing;

use crate::error::Kind;
use crate::repl::{self, Screen};
use crate::session::status;
use crate::work::Work;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use terminal::Terminal;

/// Explains sparse-autoencoder features of language models from their weights alone.
#[derive(Parser)]
#[command(name = "saerepl", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the prompt's results go [default: out]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script.
    Run(run::Run),
    /// Say what a model or SAE is
    Info(info::Info),
    /// Fetch what a model or SAE of the hub needs into the Hugging Face cache; an interrupted fetch goes on where it stopped
    Pull(pull::Pull),
    /// Print the reference of what scripts can call, or the page of one name
    Doc(doc::Doc),
}

/// What every session can be told.
#[derive(Args, Clone)]
struct SessionArgs {
    /// Worker threads; 0 = one per core
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seed of every random draw that is given none
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What makes the fused products: cpu, blas, cuda, metal; auto: a GPU that this build has, else cpu
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// No progress bars
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl SessionArgs {
    /// Work for a session whose text and progress go to the terminal.
    fn work(&self) -> crate::Result<Work> {
        let terminal = Terminal::new(self.quiet);
        let work = Work::new(self.threads, self.seed, Box::new(terminal.clone()), Box::new(terminal))?;
        work.choose_device(&self.device)?;
        Ok(work)
    }
}

/// Reads the arguments, does what they say and gives the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let (Some(_), Some(out)) = (&cli.command, &cli.out) {
        let message = format!("`--out {}` stands behind `run FILE`, or alone for the prompt", out.display());
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let status = match cli.session.work() {
        Ok(work) => match cli.command {
            Some(Command::Run(run)) => run.run(&work),
            Some(Command::Info(info)) => info.run(&work),
            Some(Command::Pull(pull)) => pull.run(&work),
            Some(Command::Doc(doc)) => doc.run(&work),
            None => {
                terminal::interrupt(&work, false);
                let screen = Screen {
                    colour: terminal::colour(),
                    // A prompt whose output goes elsewhere gets no escape sequences into it.
                    dumb: terminal::is_dumb() || !std::io::stdout().is_terminal(),
                    width: terminal::prompt_width,
                    message_width: terminal::message_width,
                    height: terminal::height,
                };
                repl::main(&work, &screen, cli.out)
            }
        },
        Err(error) => {
            eprint!("error: {error}");
            error.helps().iter().for_each(|help| eprint!("\nhelp: {help}"));
            eprintln!();
            if error.kind() == Kind::Input { status::USAGE } else { status::FAILED }
        }
    };
    ExitCode::from(status)
}
