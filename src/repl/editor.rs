//! The line editor: cells over several lines, history with prefix search, a history file in the state directory,
//! completion, hints and colours.

use super::plain::Plain;
use super::{Screen, highlight};
use crate::render::text::cut;
use crate::session::{Candidate, Session};
use etcetera::BaseStrategy;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::history::{FileHistory, History, SearchDirection};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, CompletionType, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler, Helper, KeyCode,
    KeyEvent, Modifiers, Movement, RepeatCount,
};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use unicode_width::UnicodeWidthStr;

/// What the user did at the prompt.
pub(super) enum Line {
    /// Entered a cell or a command.
    Text(String),
    /// Cleared the line with Ctrl-C.
    Cleared,
    /// Entered bytes that are not UTF-8, as a terminal with another encoding sends them.
    NoText,
    /// Left with Ctrl-D.
    End,
}

pub(super) struct Editor {
    session: Rc<RefCell<Session>>,
    lines: rustyline::Editor<Cells, FileHistory>,
    /// Reads instead where the terminal cannot move its cursor.
    plain: Option<Plain>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor that asks `session` where a cell ends. Without a state directory the history ends with the session.
    pub(super) fn new(session: Rc<RefCell<Session>>, screen: &Screen) -> rustyline::Result<Self> {
        let colour = screen.colour;
        let config = Config::builder()
            .color_mode(if colour { ColorMode::Enabled } else { ColorMode::Disabled })
            .max_history_size(10_000)?
            .history_ignore_dups(true)?
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            // What is listed fits the screen: there is nothing to ask.
            .completion_prompt_limit(usize::MAX)
            .build();
        let mut lines = rustyline::Editor::with_config(config)?;
        lines.set_helper(Some(Cells {
            session: Rc::clone(&session),
            colour,
            history: HistoryHinter::new(),
            editing: Cell::new(true),
        }));
        let whole = Arc::new(AtomicBool::new(false));
        for (key, towards) in [(KeyCode::Up, Towards::Older), (KeyCode::Down, Towards::Newer)] {
            let walk = Walk { towards, whole: Arc::clone(&whole) };
            lines.bind_sequence(KeyEvent(key, Modifiers::NONE), EventHandler::Conditional(Box::new(walk)));
        }
        lines.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(OtherKey { whole })));
        let history = history_file();
        if let Some(file) = &history {
            // There is none at the first start.
            let _ = lines.load_history(file);
        }
        Ok(Editor { session, lines, plain: screen.dumb.then(Plain::new), history })
    }

    /// Entries of the history that hold a text, the oldest first, those of several lines indented after the first.
    pub(super) fn history(&self, text: &str) -> String {
        let history = self.lines.history();
        let entries = (0..history.len()).filter_map(|i| history.get(i, SearchDirection::Forward).ok().flatten());
        let held: Vec<String> = entries.map(|e| e.entry.into_owned()).filter(|entry| entry.contains(text)).collect();
        held.iter().map(|entry| format!("  {}\n", entry.replace('\n', "\n    "))).collect()
    }

    pub(super) fn read(&mut self, prompt: &str) -> rustyline::Result<Line> {
        let read = match &mut self.plain {
            Some(plain) => match plain.read(prompt, &self.session.borrow()) {
                Ok(Line::Text(line)) => self.lines.add_history_entry(&line).map(|_| line),
                Ok(other) => return Ok(other),
                Err(error) => Err(error.into()),
            },
            None => self.lines.readline(prompt),
        };
        match read {
            Ok(line) => {
                if let Some(file) = &self.history {
                    // A session goes on where its history cannot be written.
                    let _ = self.lines.append_history(file);
                }
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Cleared),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => Ok(Line::NoText),
            Err(error) => Err(error),
        }
    }
}

/// `saerepl/history` in the state directory: `$XDG_STATE_HOME`, else `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let folder = etcetera::base_strategy::Xdg::new().ok()?.state_dir()?.join("saerepl");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Up and Down: between the lines of a cell, and at its edge to the history entries that begin like the text before
/// the cursor.
struct Walk {
    towards: Towards,
    /// The walk began with nothing before the cursor, and no other key was pressed since: it goes through the whole history,
    /// though the entry that it reached now stands there.
    whole: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
enum Towards {
    Older,
    Newer,
}

impl ConditionalEventHandler for Walk {
    fn handle(&self, _: &Event, n: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let (before, after) = context.line().split_at_checked(context.pos())?;
        self.whole.fetch_or(before.is_empty(), Ordering::Relaxed);
        Some(match (self.towards, self.whole.load(Ordering::Relaxed)) {
            (Towards::Older, _) if before.contains('\n') => Cmd::Move(Movement::LineUp(n)),
            (Towards::Newer, _) if after.contains('\n') => Cmd::Move(Movement::LineDown(n)),
            (Towards::Older, true) => Cmd::PreviousHistory,
            (Towards::Newer, true) => Cmd::NextHistory,
            (Towards::Older, false) => Cmd::HistorySearchBackward,
            (Towards::Newer, false) => Cmd::HistorySearchForward,
        })
    }
}

/// Any other key ends a walk through the history, and does what it does.
struct OtherKey {
    whole: Arc<AtomicBool>,
}

impl ConditionalEventHandler for OtherKey {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext) -> Option<Cmd> {
        self.whole.store(false, Ordering::Relaxed);
        None
    }
}

/// Knows where a cell ends, what could stand at the cursor, and what it looks like.
struct Cells {
    session: Rc<RefCell<Session>>,
    colour: bool,
    history: HistoryHinter,
    /// The line is being edited: when it is entered, no bracket stays marked.
    editing: Cell<bool>,
}

impl Validator for Cells {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let session = self.session.borrow();
        let goes_on = session.goes_on(session.last_cell(context.input()));
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// A candidate as the editor lists it.
struct Offered {
    text: String,
    shown: String,
}

impl rustyline::completion::Candidate for Offered {
    fn display(&self) -> &str {
        &self.shown
    }
    fn replacement(&self) -> &str {
        &self.text
    }
}

impl Completer for Cells {
    type Candidate = Offered;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Offered>)> {
        let session = self.session.borrow();
        let found = session.complete(line, cursor);
        let room = session.width().saturating_sub(3);
        let offered = |c: Candidate| Offered { shown: cut(&c.shown, room), text: c.text };
        let rows = terminal_size::terminal_size().map_or(24, |(_, rows)| usize::from(rows.0));
        let candidates = found.candidates.into_iter().map(offered).collect();
        // The line that is edited stays in sight.
        Ok((found.start, fitting(candidates, session.width(), rows.saturating_sub(2).max(2))))
    }
}

/// As many candidates as a screen takes, and the number of the others: the editor would stop at a full screen, and take no
/// key but its own.
fn fitting(mut offered: Vec<Offered>, width: usize, rows: usize) -> Vec<Offered> {
    let all = offered.len();
    let Some(common) = offered.iter().map(|o| o.text.as_str()).reduce(common_start).map(String::from) else { return offered };
    loop {
        let widest = offered.iter().map(|o| o.shown.width()).max().unwrap_or(0) + 2;
        let fits = rows * (width / widest.min(width.max(1)).max(1)).max(1);
        if offered.len() <= fits {
            return offered;
        }
        // The last one makes room for the note; with the widest gone more may fit, but never fewer.
        offered.truncate(fits.saturating_sub(1));
        let shown = format!("… {} more", all - offered.len());
        offered.push(Offered { text: common.clone(), shown });
    }
}

/// What two texts begin with alike.
fn common_start<'t>(a: &'t str, b: &str) -> &'t str {
    let end = a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(a.len().min(b.len()), |((at, _), _)| at);
    &a[..end]
}

/// Grey text behind the cursor: the end of an earlier entry, which the right arrow takes, or the signature of the call.
impl Hinter for Cells {
    type Hint = String;

    fn hint(&self, line: &str, cursor: usize, context: &Context<'_>) -> Option<String> {
        // Without colours it could not be told from what was typed.
        if !self.colour || cursor < line.len() || line.is_empty() || line.contains('\n') {
            return None;
        }
        if let Some(rest) = self.history.hint(line, cursor, context).filter(|rest| !rest.contains('\n')) {
            return Some(rest);
        }
        let session = self.session.borrow();
        let signature = session.signatures(line, cursor).into_iter().next()?;
        // The prompt takes part of the line.
        let room = session.width().saturating_sub(line.width() + 16);
        (room > 20).then(|| format!("   {}", cut(&signature, room)))
    }
}

impl Highlighter for Cells {
    fn highlight<'l>(&self, line: &'l str, cursor: usize) -> Cow<'l, str> {
        if !self.colour {
            return Cow::Borrowed(line);
        }
        let is_command = !line.is_empty() && self.session.borrow().is_command(line);
        highlight::coloured(line, Some(cursor).filter(|_| self.editing.get()), is_command).into()
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.colour { format!("{}{prompt}\x1b[0m", highlight::DIM).into() } else { Cow::Borrowed(prompt) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("{}{hint}\x1b[0m", highlight::DIM).into()
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.editing.set(kind != CmdKind::ForcedRefresh);
        self.colour
    }
}

impl Helper for Cells {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_fits_the_screen_and_says_how_much_is_left_out() {
        let offer = |n: usize| -> Vec<Offered> {
            (0..n).map(|i| Offered { text: format!("name{i}("), shown: format!("name{i}(x: number) -> Tensor") }).collect()
        };
        for (n, width, rows, kept) in [(5, 80, 20, 5), (300, 80, 20, 40), (300, 20, 3, 3), (2, 80, 2, 2)] {
            let shown = fitting(offer(n), width, rows);
            assert_eq!(shown.len(), kept, "{n} {width} {rows}");
            let last = shown.last().unwrap();
            match n > kept {
                true => assert_eq!((last.text.as_str(), last.shown.clone()), ("name", format!("… {} more", n - kept + 1))),
                false => assert_eq!(last.text, format!("name{}(", n - 1)),
            }
        }
        assert_eq!((common_start("größe", "größer"), common_start("ab", "ac"), common_start("x", "y")), ("größe", "a", ""));
    }
}
