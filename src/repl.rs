//! The prompt, and the same for piped input: cells one after the other in one session.
//!
//! `editor`: the line editor, its history and keys. `commands`: lines that are not Rhai. `pipe`: `saerepl < script`.

mod commands;
mod editor;
mod pipe;

use crate::session::status::{DONE, FAILED};
use crate::session::{Outcome, Session, SessionOptions};
use crate::work::Work;
use editor::{Editor, Line};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::rc::Rc;

/// Runs the prompt until the user leaves, or the piped input to its end or first error; gives the exit status.
/// `width` gives the columns of the terminal.
pub fn main(work: &Work, colour: bool, width: fn() -> usize) -> u8 {
    let session = Session::new(work.clone(), SessionOptions { width: width(), ..SessionOptions::default() });
    if std::io::stdin().is_terminal() { prompt(session, colour, width) } else { pipe::run(session, colour) }
}

fn prompt(session: Session, colour: bool, width: fn() -> usize) -> u8 {
    let work = session.work().clone();
    let session = Rc::new(RefCell::new(session));
    let mut editor = match Editor::new(Rc::clone(&session), colour) {
        Ok(editor) => editor,
        Err(error) => {
            work.note(&format!("error: {error}"));
            return FAILED;
        }
    };
    work.print(&format!("saerepl {}   :help for help, ?name for a function, Ctrl-D to leave", env!("CARGO_PKG_VERSION")));
    let mut cells = 0;
    loop {
        let line = match editor.read(&format!("In[{}]: ", cells + 1)) {
            Ok(Line::Text(line)) => line,
            Ok(Line::Cleared) => continue,
            Ok(Line::End) => return DONE,
            Err(error) => {
                work.note(&format!("error: {error}"));
                return FAILED;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        if commands::is_command(&line) {
            match commands::run(&line, &session.borrow()) {
                commands::Next::Go | commands::Next::Failed => continue,
                commands::Next::Quit => return DONE,
            }
        }
        cells += 1;
        work.reset_cancel();
        let mut session = session.borrow_mut();
        session.set_width(width());
        match session.eval(&line, &format!("In[{cells}]")) {
            Ok(outcome) => {
                if let Some(status) = show(&mut session, outcome) {
                    return status;
                }
            }
            Err(report) if report.is_interrupted() => work.note("interrupted"),
            Err(report) => work.note(&report.render(colour)),
        }
    }
}

/// Keeps a cell's value in `ans` and shows it; gives the status if the cell asked for the end.
fn show(session: &mut Session, outcome: Outcome) -> Option<u8> {
    if let Some(value) = outcome.value {
        if !outcome.muted {
            session.work().print(&session.display(&value));
        }
        session.set("ans", value);
    }
    outcome.exit
}
