//! Piped input: the cells that one would have typed, each shown as at the prompt, up to the first error.
//!
//! The exit status is that of the session: 0 when all cells and commands succeeded, 1 at the first that failed, 130 when
//! it was interrupted, n after `exit(n)`. What a command of the system (`!cmd`) ends with is said and changes nothing.

use super::{Screen, commands, fail, show};
use crate::session::Session;
use crate::session::status::{DONE, FAILED};
use std::io::Read;

/// What reports call the input.
const NAME: &str = "<stdin>";

pub(super) fn run(mut session: Session, screen: &Screen) -> u8 {
    let work = session.work().clone();
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        work.note(&format!("error: standard input: {error}"));
        return FAILED;
    }
    // What some editors put before a text is none of it.
    let (mut rest, mut line) = (text.strip_prefix('\u{feff}').unwrap_or(&text), 1);
    while let Some(end) = session.first_cell(rest) {
        let (cell, after) = rest.split_at(end);
        if session.is_command(cell) {
            match commands::run(&mut session, cell, screen, |_| String::new()) {
                commands::Next::Go => {}
                commands::Next::Leave(status) | commands::Next::Failed(status) => return status,
            }
        } else {
            match session.cell_of(NAME, line, cell) {
                Ok(outcome) => {
                    if let Some(status) = show(&session, outcome) {
                        return status;
                    }
                }
                Err(report) => return fail(&work, &report, screen),
            }
        }
        (rest, line) = (after, line + cell.matches('\n').count());
    }
    DONE
}
