//! Piped input: the cells that one would have typed, each shown as at the prompt, up to the first error.
//!
//! The exit status is that of the session: 0 when all cells and commands succeeded, 1 at the first that failed, 130 when
//! it was interrupted, n after `exit(n)`. What a command of the system (`!cmd`) ends with is said and changes nothing.

use super::{Screen, commands, fail, show};
use crate::error::{Error, Kind, Result};
use crate::session::status::DONE;
use crate::session::{Report, Session};
use crate::work::Work;
use std::io::BufRead;
use std::string::FromUtf8Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What reports call the input.
const NAME: &str = "<stdin>";

/// A cell that is whole runs when nothing came for so long, as if it had been entered: who sends one and waits for its answer
/// gets it. Until then the next line may carry it on: `.map(f)`, `else`.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(mut session: Session, screen: &Screen) -> u8 {
    let work = session.work().clone();
    let mut input = Input::new();
    loop {
        let cell = match input.cell(&session) {
            Ok(Some(cell)) => cell,
            Ok(None) => return DONE,
            Err(error) => return fail(&work, &Box::<Report>::from(error), screen),
        };
        if session.is_command(&cell) {
            let answer = session.command_of(NAME, input.line, &cell);
            match commands::show(&session, answer, screen, |_| String::new()) {
                commands::Next::Go => {}
                commands::Next::Leave(status) | commands::Next::Failed(status) => return status,
            }
        } else {
            match session.cell_of(NAME, input.line, &cell) {
                Ok(outcome) => {
                    if let Some(status) = show(&session, outcome) {
                        return status;
                    }
                }
                Err(report) => return fail(&work, &report, screen),
            }
        }
        input.line += cell.matches('\n').count();
    }
}

/// What comes in. A thread of its own reads it: a read cannot be given up when Ctrl-C is pressed.
struct Input {
    lines: Receiver<Result<String>>,
    /// What came, and where in it the next cell begins.
    text: String,
    start: usize,
    /// The line of the whole input in which the next cell begins, from 1.
    line: usize,
    /// Nothing more comes: the input has ended, or cannot be read on.
    ended: Option<Result<()>>,
}

impl Input {
    fn new() -> Self {
        let (send, lines) = channel();
        std::thread::spawn(move || read(&send));
        Input { lines, text: String::new(), start: 0, line: 1, ended: None }
    }

    /// The next cell; none at the end of the input.
    fn cell(&mut self, session: &Session) -> Result<Option<String>> {
        loop {
            session.work().check()?;
            let rest = &self.text[self.start..];
            let mut end = session.first_cell(rest, !matches!(self.ended, Some(Ok(()))));
            if end.is_none() {
                if let Some(ended) = self.ended.take() {
                    return ended.map(|()| None);
                }
                let came = self.wait(session.work())?;
                if !came && !session.goes_on(&self.text) {
                    end = session.first_cell(&self.text, false);
                }
            }
            if let Some(end) = end {
                let cell = self.text[self.start..][..end].to_string();
                self.start += end;
                return Ok(Some(cell));
            }
        }
    }

    /// Waits for lines and takes all that are there; false when none came for a while.
    fn wait(&mut self, work: &Work) -> Result<bool> {
        self.text.drain(..std::mem::take(&mut self.start));
        let begun = Instant::now();
        while begun.elapsed() < PAUSE {
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Err(RecvTimeoutError::Timeout) => work.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = Some(Ok(()));
                    return Ok(true);
                }
                Ok(first) => {
                    for line in std::iter::once(first).chain(self.lines.try_iter()) {
                        match line {
                            Ok(line) => self.text += &line,
                            Err(error) => self.ended = Some(Err(error)),
                        }
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Sends standard input line by line, until it ends or one cannot be read.
fn read(send: &Sender<Result<String>>) {
    let (mut input, mut number, mut at) = (std::io::stdin().lock(), 0, 0);
    loop {
        let mut bytes = Vec::new();
        let line = match input.read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(length) => {
                number += 1;
                // What some editors put before a text is none of it.
                let mark = if number == 1 && bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
                let no_text = |e: FromUtf8Error| {
                    let byte = at + e.utf8_error().valid_up_to() as u64;
                    Error::format(format!("line {number} is no text: a script is UTF-8")).file(NAME).byte(byte)
                };
                let line = String::from_utf8(bytes).map(|line| line[mark..].to_string()).map_err(no_text);
                at += length as u64;
                line
            }
            Err(error) => Err(Error::new(Kind::Io, format!("standard input: {error}"))),
        };
        let failed = line.is_err();
        if send.send(line).is_err() || failed {
            break;
        }
    }
}
