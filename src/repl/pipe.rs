//! Piped input: the cells that one would have typed, each shown as at the prompt, up to the first error.

use super::{commands, show};
use crate::session::Session;
use crate::session::status::{DONE, FAILED, INTERRUPTED};
use std::io::Read;
use std::ops::Range;

/// What reports call the input.
const NAME: &str = "<stdin>";

pub(super) fn run(mut session: Session, colour: bool) -> u8 {
    let work = session.work().clone();
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        work.note(&format!("error: standard input: {error}"));
        return FAILED;
    }
    let mut next = 0;
    while let Some(cell) = cell(&text, next, |cell| session.is_incomplete(cell)) {
        next = cell.end;
        if commands::is_command(&text[cell.clone()]) {
            match commands::run(&text[cell], &session) {
                commands::Next::Go => continue,
                commands::Next::Quit => return DONE,
                commands::Next::Failed => return FAILED,
            }
        }
        match session.eval_part(&text, cell, NAME) {
            Ok(outcome) => {
                if let Some(status) = show(&mut session, outcome) {
                    return status;
                }
            }
            Err(report) => {
                work.note(&report.render(colour));
                return if report.is_interrupted() { INTERRUPTED } else { FAILED };
            }
        }
    }
    DONE
}

/// The lines of the next cell: up to where the text is complete and the line after it does not carry it on.
fn cell(text: &str, start: usize, is_incomplete: impl Fn(&str) -> bool) -> Option<Range<usize>> {
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
        if commands::is_command(cell) {
            break;
        }
        let after = rest[end..].trim_start();
        let goes_on =
            ["else", "catch", "while", "until"].iter().any(|word| cell.trim_end().ends_with('}') && is_word(after, word));
        if !goes_on && !after.starts_with('.') && !after.starts_with("?.") && !is_incomplete(cell) {
            break;
        }
    }
    Some(start..start + end)
}

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}
