//! Piped input: the cells that one would have typed, each shown as at the prompt, up to the first error.

use super::{Screen, commands, fail, show};
use crate::session::Session;
use crate::session::status::{DONE, FAILED};
use std::io::Read;
use std::ops::Range;

/// What reports call the input.
const NAME: &str = "<stdin>";

pub(super) fn run(mut session: Session, screen: &Screen) -> u8 {
    let work = session.work().clone();
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        work.note(&format!("error: standard input: {error}"));
        return FAILED;
    }
    let mut next = 0;
    while let Some(cell) = cell(&text, next, &session) {
        next = cell.end;
        if session.is_command(&text[cell.clone()]) {
            match commands::run(&mut session, &text[cell], screen, |_| String::new()) {
                commands::Next::Go => continue,
                commands::Next::Leave(status) | commands::Next::Failed(status) => return status,
            }
        }
        match session.cell_part(&text, cell, NAME) {
            Ok(outcome) => {
                if let Some(status) = show(&session, outcome) {
                    return status;
                }
            }
            Err(report) => return fail(&work, &report, screen),
        }
    }
    DONE
}

/// The lines of the next cell: up to where the text is complete and the line after it does not carry it on.
fn cell(text: &str, start: usize, session: &Session) -> Option<Range<usize>> {
    let rest = &text[start..];
    if rest.trim().is_empty() {
        return None;
    }
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        end += line.len();
        let cell = &rest[..end];
        if cell.trim().is_empty() {
            continue;
        }
        if session.is_command(cell) {
            break;
        }
        let after = rest[end..].trim_start();
        let goes_on =
            ["else", "catch", "while", "until"].iter().any(|word| cell.trim_end().ends_with('}') && is_word(after, word));
        if !goes_on && !after.starts_with('.') && !after.starts_with("?.") && !session.is_incomplete(cell) {
            break;
        }
    }
    Some(start..start + end)
}

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}
