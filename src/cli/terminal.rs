//! The terminal: text to standard output and error, progress bars below it, and Ctrl-C.

use crate::session::status::INTERRUPTED;
use crate::work::{Progress, Sink, Steps, Stream, Work};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Receives text and progress. Copies share the bars.
#[derive(Clone)]
pub(super) struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// A terminal; no bars when `quiet` or when standard error is none.
    pub(super) fn new(quiet: bool) -> Self {
        // indicatif itself hides bars where standard error is no terminal.
        let target = if quiet || is_dumb() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Terminal { bars: MultiProgress::with_draw_target(target) }
    }
}

impl Sink for Terminal {
    fn write(&self, stream: Stream, text: &str) {
        // A reader that went away (`saerepl run … | head`) costs the text, never the run: its results are still saved.
        let _ = self.bars.suspend(|| match stream {
            Stream::Out => write_line(&mut std::io::stdout().lock(), text),
            Stream::Err => write_line(&mut std::io::stderr().lock(), text),
        });
    }
}

fn write_line(to: &mut impl Write, text: &str) -> std::io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

impl Progress for Terminal {
    fn begin(&self, label: &str, total: u64) -> Box<dyn Steps> {
        self.bar("{msg} {wide_bar} {pos}/{len} {elapsed}<{eta}", label, total)
    }

    fn begin_bytes(&self, label: &str, total: u64) -> Box<dyn Steps> {
        self.bar("{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {elapsed}<{eta}", label, total)
    }
}

impl Terminal {
    fn bar(&self, template: &str, label: &str, total: u64) -> Box<dyn Steps> {
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(label.to_string());
        Box::new(Bar { bar, bars: self.bars.clone(), begun: Instant::now(), shown: Once::new() })
    }
}

/// A bar that appears only if its work takes longer than a blink: many short ones would flicker.
struct Bar {
    bar: ProgressBar,
    bars: MultiProgress,
    begun: Instant,
    shown: Once,
}

impl Steps for Bar {
    fn advance(&self, n: u64) {
        self.bar.inc(n);
        if self.begun.elapsed() > Duration::from_millis(300) {
            self.shown.call_once(|| self.bars.add(self.bar.clone()).enable_steady_tick(Duration::from_millis(200)));
        }
    }

    fn describe(&self, label: &str) {
        self.bar.set_message(label.to_string());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

/// Ctrl-C asks `work` to stop; with `kill`, a second one ends the process at once.
pub(super) fn interrupt(work: &Work, kill: bool) {
    let (flag, asked) = (work.cancel_flag(), AtomicBool::new(false));
    let set = ctrlc::set_handler(move || {
        flag.store(true, Ordering::Relaxed);
        if kill && asked.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    });
    if let Err(error) = set {
        work.note(&format!("warning: Ctrl-C will end the program at once: {error}"));
    }
}

/// Whether messages may have colours.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && !is_dumb() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Whether the terminal says that it cannot move its cursor.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| ["dumb", "cons25", "emacs"].iter().any(|dumb| term == *dumb))
}

/// Columns of the terminal; 100 where there is none.
pub(super) fn width() -> usize {
    let terminal = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or(100, |(width, _)| width.0.into())
}

/// Columns of the terminal at which somebody types, also where standard output goes elsewhere, as to `tee`.
pub(super) fn prompt_width() -> usize {
    // The library asks standard output, error and input in turn.
    let terminal = std::io::stdin().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or_else(width, |(width, _)| width.0.into())
}

/// Columns for messages: those of the terminal that shows them. In a file or a pipe lines are not broken, so that they can be
/// searched.
pub(super) fn message_width() -> usize {
    let terminal = std::io::stderr().is_terminal().then(|| terminal_size::terminal_size_of(std::io::stderr())).flatten();
    terminal.map_or(usize::MAX, |(width, _)| width.0.into())
}

/// Lines of the terminal; none where there is none.
pub(super) fn height() -> Option<usize> {
    let terminal = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map(|(_, height)| height.0.into())
}
