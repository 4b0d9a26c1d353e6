//! Reads cells on a terminal that cannot move its cursor (`TERM=dumb`, an editor's shell window), or whose output goes
//! elsewhere (`saerepl | tee log`): line by line, as the terminal itself edits them.

use super::editor::Line;
use crate::session::Session;
use crate::work::Work;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Before the second and later lines of a cell.
const GOES_ON: &str = "  ...: ";

/// Lines of standard input. They are read on a thread of their own, one at a time and only when asked for: a read cannot be
/// given up when Ctrl-C is pressed, and a command of the system (`!cmd`) may want to read, too.
pub(super) struct Plain {
    ask: Sender<()>,
    lines: Receiver<std::io::Result<String>>,
    /// A line was asked for and has not come: Ctrl-C cleared the cell.
    asked: bool,
}

enum Event {
    Line(String),
    End,
    Interrupt,
}

impl Plain {
    pub(super) fn new() -> Self {
        let (ask, asked) = channel();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            while asked.recv().is_ok() {
                let mut line = String::new();
                if send.send(std::io::stdin().read_line(&mut line).map(|_| line)).is_err() {
                    break;
                }
            }
        });
        Plain { ask, lines, asked: false }
    }

    /// The next cell. Ctrl-C, and Ctrl-D in a cell that goes on, drop what was entered of it.
    pub(super) fn read(&mut self, prompt: &str, session: &Session) -> std::io::Result<Line> {
        let (mut text, mut prompt) = (String::new(), prompt);
        session.work().reset_cancel();
        loop {
            let mut screen = std::io::stdout().lock();
            screen.write_all(prompt.as_bytes())?;
            screen.flush()?;
            match self.wait(session.work())? {
                Event::Line(line) => text += &line,
                Event::End if text.is_empty() => return Ok(Line::End),
                Event::End | Event::Interrupt => {
                    screen.write_all(b"\n")?;
                    return Ok(Line::Cleared);
                }
            }
            if !session.goes_on(&text) {
                text.truncate(text.trim_end().len());
                return Ok(Line::Text(text));
            }
            prompt = GOES_ON;
        }
    }

    fn wait(&mut self, work: &Work) -> std::io::Result<Event> {
        // The thread lives as long as this does.
        let gone = || std::io::Error::other("standard input is read no more");
        if !std::mem::replace(&mut self.asked, true) {
            self.ask.send(()).map_err(|_| gone())?;
        }
        loop {
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => {
                    self.asked = false;
                    return line.map(|line| if line.is_empty() { Event::End } else { Event::Line(line) });
                }
                Err(RecvTimeoutError::Timeout) if work.is_cancelled() => {
                    work.reset_cancel();
                    return Ok(Event::Interrupt);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }
}
