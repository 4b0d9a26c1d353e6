//! What the terminal does with the answers to lines that are not Rhai.

use super::Screen;
use crate::render::text::wrapped;
use crate::session::{Answer, Report, Session};
use crate::work::Work;
use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

/// What the prompt does after a command.
pub(super) enum Next {
    Go,
    Leave(u8),
    /// There is no such command, or it failed.
    Failed(u8),
}

/// Shows what a line came to that is no Rhai. `history` gives the entries that hold a text.
pub(super) fn show(
    session: &Session,
    answer: Result<Answer, Box<Report>>,
    screen: &Screen,
    history: impl Fn(&str) -> String,
) -> Next {
    let work = session.work().clone();
    let answer = match answer {
        Ok(answer) => answer,
        Err(report) => return Next::Failed(super::fail(&work, &report, screen)),
    };
    match answer {
        Answer::Done => {}
        Answer::Note(text) => work.print(&wrapped(&text, session.width())),
        Answer::Page(text) => page(&work, &text, screen),
        Answer::Value(note, outcome) => {
            if !note.is_empty() {
                work.print(&wrapped(&note, session.width()));
            }
            if let Some(status) = super::show(session, outcome) {
                return Next::Leave(status);
            }
        }
        Answer::History(text) => page(&work, &history(&text), screen),
        Answer::Clear if screen.colour && !screen.dumb => work.print("\x1b[2J\x1b[H"),
        Answer::Clear => work.note("note: this output takes no escape sequences, which clearing needs"),
        Answer::Quit => return Next::Leave(crate::session::status::DONE),
        Answer::Shell(command) => shell(&work, &command),
    }
    Next::Go
}

/// Prints a text, through `$PAGER` where it is longer than the screen.
fn page(work: &Work, text: &str, screen: &Screen) {
    let fits = (screen.height)().is_none_or(|height| text.lines().count() < height);
    let pager = std::env::var("PAGER").ok().filter(|pager| !pager.is_empty() && !fits);
    let shown = pager.and_then(|pager| {
        let mut child = system(&pager).stdin(Stdio::piped()).spawn().ok()?;
        // A reader who leaves early closes the pipe.
        let _ = child.stdin.take()?.write_all(text.as_bytes());
        child.wait().ok().filter(|status| status.success())
    });
    if shown.is_none() {
        work.print(text.trim_end());
    }
}

fn shell(work: &Work, command: &str) {
    let mut system = system(command);
    if !std::io::stdin().is_terminal() {
        // Piped input holds cells: they are read ahead.
        system.stdin(Stdio::null());
    }
    match system.status() {
        Ok(status) if status.success() => {}
        Ok(status) => work.note(&format!("note: {status}")),
        Err(error) => work.note(&format!("error: {command}: {error}")),
    }
}

fn system(command: &str) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut system = Command::new(shell);
    system.arg(flag).arg(command);
    system
}
