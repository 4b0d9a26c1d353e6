//! The line editor: cells over several lines, history with prefix search, a history file in the state directory.

use crate::session::Session;
use etcetera::BaseStrategy;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Event, EventContext, EventHandler, Helper, KeyCode, KeyEvent, Modifiers,
    Movement, RepeatCount,
};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// What the user did at the prompt.
pub(super) enum Line {
    /// Entered a cell or a command.
    Text(String),
    /// Cleared the line with Ctrl-C.
    Cleared,
    /// Left with Ctrl-D.
    End,
}

pub(super) struct Editor {
    lines: rustyline::Editor<Cells, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor that asks `session` where a cell ends. Without a state directory the history ends with the session.
    pub(super) fn new(session: Rc<RefCell<Session>>, colour: bool) -> rustyline::Result<Self> {
        let config = Config::builder()
            .color_mode(if colour { ColorMode::Enabled } else { ColorMode::Disabled })
            .max_history_size(10_000)?
            .history_ignore_dups(true)?
            .auto_add_history(true)
            .build();
        let mut lines = rustyline::Editor::with_config(config)?;
        lines.set_helper(Some(Cells { session }));
        for (key, towards) in [(KeyCode::Up, Towards::Older), (KeyCode::Down, Towards::Newer)] {
            lines.bind_sequence(KeyEvent(key, Modifiers::NONE), EventHandler::Conditional(Box::new(towards)));
        }
        let history = history_file();
        if let Some(file) = &history {
            // There is none at the first start.
            let _ = lines.load_history(file);
        }
        Ok(Editor { lines, history })
    }

    pub(super) fn read(&mut self, prompt: &str) -> rustyline::Result<Line> {
        match self.lines.readline(prompt) {
            Ok(line) => {
                if let Some(file) = &self.history {
                    // A session goes on where its history cannot be written.
                    let _ = self.lines.append_history(file);
                }
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Cleared),
            Err(ReadlineError::Eof) => Ok(Line::End),
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
#[derive(Clone, Copy)]
enum Towards {
    Older,
    Newer,
}

impl ConditionalEventHandler for Towards {
    fn handle(&self, _: &Event, n: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let (before, after) = context.line().split_at_checked(context.pos())?;
        Some(match self {
            Towards::Older if before.contains('\n') => Cmd::Move(Movement::LineUp(n)),
            Towards::Newer if after.contains('\n') => Cmd::Move(Movement::LineDown(n)),
            Towards::Older if before.is_empty() => Cmd::PreviousHistory,
            Towards::Newer if before.is_empty() => Cmd::NextHistory,
            Towards::Older => Cmd::HistorySearchBackward,
            Towards::Newer => Cmd::HistorySearchForward,
        })
    }
}

/// Knows where a cell ends.
struct Cells {
    session: Rc<RefCell<Session>>,
}

impl Validator for Cells {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let goes_on = !super::commands::is_command(text) && self.session.borrow().is_incomplete(text);
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Cells {
    type Candidate = String;
}

impl Hinter for Cells {
    type Hint = String;
}

impl Highlighter for Cells {}

impl Helper for Cells {}
