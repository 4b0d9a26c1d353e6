//! The prompt, and the same for piped input: cells one after the other in one session.
//!
//! `editor`: the line editor, its history, keys, completion and hints. `highlight`: colours. `plain`: the same
//! where the terminal cannot move its cursor. `image`: figures in the terminal. `commands`: what the terminal does for lines that are not Rhai. `pipe`: `saerepl < script`.

mod commands;
mod editor;
mod highlight;
mod image;
mod pipe;
mod plain;

use crate::session::status::{DONE, FAILED, INTERRUPTED};
use crate::session::{Outcome, Report, Session, SessionOptions};
use crate::work::Work;
use editor::{Editor, Line};
use etcetera::BaseStrategy;
use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;

/// The terminal as the prompt sees it.
pub struct Screen {
    /// Escape sequences are welcome.
    pub colour: bool,
    /// The terminal cannot move its cursor, or standard output is none.
    pub dumb: bool,
    /// Columns.
    pub width: fn() -> usize,
    /// Columns for messages, which may go elsewhere.
    pub message_width: fn() -> usize,
    /// Lines; none where nobody pages.
    pub height: fn() -> Option<usize>,
}

/// Runs the prompt until the user leaves, or the piped input to its end or first error; gives the exit status. `out_dir`:
/// where results go, unless that is `out`.
pub fn main(work: &Work, screen: &Screen, out_dir: Option<PathBuf>) -> u8 {
    let pictures = image::draw().filter(|_| screen.colour && std::io::stdout().is_terminal());
    let draw = pictures.or(std::io::stdin().is_terminal().then_some(image::draw_and_save));
    let options = SessionOptions { width: (screen.width)(), draw, ..SessionOptions::default() };
    let out_dir = out_dir.unwrap_or(options.out_dir);
    let session = Session::new(work.clone(), SessionOptions { out_dir, ..options });
    if std::io::stdin().is_terminal() { prompt(session, screen) } else { pipe::run(session, screen) }
}

fn prompt(mut session: Session, screen: &Screen) -> u8 {
    let work = session.work().clone();
    work.print(&format!("saerepl {}   :help for help, ?name for a function, Ctrl-D to leave", env!("CARGO_PKG_VERSION")));
    start_up(&mut session, screen);
    let session = Rc::new(RefCell::new(session));
    let mut editor = match Editor::new(Rc::clone(&session), screen) {
        Ok(editor) => editor,
        Err(error) => {
            work.note(&format!("error: {error}"));
            return FAILED;
        }
    };
    loop {
        let prompt = format!("In[{}]: ", session.borrow().next_cell());
        let line = match editor.read(&prompt) {
            Ok(Line::Text(line)) => line,
            Ok(Line::Cleared) => continue,
            Ok(Line::NoText) => {
                work.note("error: what was entered is no UTF-8: it is dropped");
                continue;
            }
            Ok(Line::End) => return DONE,
            Err(error) => {
                work.note(&format!("error: {error}"));
                return FAILED;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        work.reset_cancel();
        let mut session = session.borrow_mut();
        session.set_width((screen.width)());
        if let Some(status) = enter(&mut session, &line, screen, |text| editor.history(text)) {
            return status;
        }
    }
}

/// Runs what was entered: of a text that was pasted one cell or command after the other, up to the first that fails. Gives
/// the status if one asked for the end.
fn enter(session: &mut Session, text: &str, screen: &Screen, history: impl Fn(&str) -> String) -> Option<u8> {
    let (work, mut rest) = (session.work().clone(), text);
    while let Some(end) = session.first_cell(rest, false) {
        let (cell, after) = rest.split_at(end);
        let cell = cell.trim_start_matches(['\n', '\r']).trim_end();
        rest = after;
        let succeeded = if session.is_command(cell) {
            let answer = session.command(cell);
            match commands::show(session, answer, screen, &history) {
                commands::Next::Leave(status) => return Some(status),
                commands::Next::Go => true,
                commands::Next::Failed(_) => false,
            }
        } else {
            match session.cell(cell) {
                Ok(outcome) => {
                    if let Some(status) = show(session, outcome) {
                        return Some(status);
                    }
                    true
                }
                Err(report) => {
                    fail(&work, &report, screen);
                    false
                }
            }
        };
        if !succeeded {
            if !rest.trim().is_empty() {
                work.note("note: what was entered after it did not run");
            }
            return None;
        }
    }
    None
}

/// Runs `saerepl/startup.rhai` of the configuration folder, where there is one.
fn start_up(session: &mut Session, screen: &Screen) {
    let Some(file) = etcetera::base_strategy::Xdg::new().ok().map(|dirs| dirs.config_dir().join("saerepl/startup.rhai")) else {
        return;
    };
    if file.is_file()
        && let Err(report) = session.start_up(&file)
    {
        fail(session.work(), &report, screen);
    }
}

/// Shows a cell's value; gives the status if the cell asked for the end.
fn show(session: &Session, outcome: Outcome) -> Option<u8> {
    if let Some(value) = outcome.value.filter(|_| !outcome.muted) {
        session.show(&value).unwrap_or_else(|error| session.work().note(&format!("error: {error}")));
    }
    outcome.exit
}

/// Says what went wrong; gives the exit status it stands for.
fn fail(work: &Work, report: &Report, screen: &Screen) -> u8 {
    if report.is_interrupted() {
        work.note("interrupted");
        return INTERRUPTED;
    }
    work.note(&report.render(screen.colour, (screen.message_width)()));
    FAILED
}
