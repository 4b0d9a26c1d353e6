//! `:time` and `:timeit`: how long a text takes.

use super::{Answer, Outcome, Report, Session, stack};
use crate::error::Error;
use std::time::{Duration, Instant};

/// Runs over which statistics are made.
const RUNS: usize = 7;
/// About the time of a run: shorter texts are repeated in it.
const RUN: Duration = Duration::from_millis(100);

/// `:time EXPR`.
pub(super) fn time(session: &mut Session, text: &str) -> Result<Answer, Box<Report>> {
    let cell = Cell::of(session, given(":time", text)?);
    let begun = Instant::now();
    let outcome = cell.first(session)?;
    Ok(Answer::Value(shown(begun.elapsed()), outcome))
}

/// `:timeit EXPR`: parsed once, run again and again; what it declares is let go after each run.
pub(super) fn timeit(session: &mut Session, text: &str) -> Result<Answer, Box<Report>> {
    let timed = Cell::of(session, given(":timeit", text)?);
    let Cell { name, text, .. } = &timed;
    let outcome = timed.first(session)?;
    let (times, loops) = stack::on_large(|| {
        let (ast, cell) = session.parse(text, name)?;
        let variables = session.scope.len();
        let mut run = |loops: usize| {
            let begun = Instant::now();
            for _ in 0..loops {
                session.run(&ast, &cell, name)?;
                session.scope.rewind(variables);
            }
            Ok::<_, Box<Report>>(begun.elapsed())
        };
        let (mut loops, mut took) = (1, run(1)?);
        while took < RUN / 10 {
            loops *= 10;
            took = run(loops)?;
        }
        let times: Result<Vec<_>, _> = (0..RUNS).map(|_| run(loops).map(|took| took.as_secs_f64() / loops as f64)).collect();
        times.map(|times| (times, loops))
    })?;
    let mean = times.iter().sum::<f64>() / RUNS as f64;
    let variance = times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (RUNS - 1) as f64;
    let best = times.iter().copied().fold(f64::INFINITY, f64::min);
    let seconds = |t: f64| shown(Duration::from_secs_f64(t));
    let each = if loops == 1 { String::new() } else { format!(" of {loops} loops") };
    let note = format!(
        "{} ± {} (mean ± standard deviation of {RUNS} runs{each}; best {})",
        seconds(mean),
        seconds(variance.sqrt()),
        seconds(best)
    );
    Ok(Answer::Value(note, outcome))
}

/// The cell that a command times.
struct Cell {
    name: String,
    text: String,
    /// The file of which it is a part, and its first line there.
    part_of: Option<(String, usize)>,
}

impl Cell {
    fn of(session: &Session, text: &str) -> Self {
        let Some(command) = &session.command else {
            return Cell { name: format!("In[{}]", session.next_cell()), text: text.into(), part_of: None };
        };
        // With blanks for what stands before it, so that its lines and columns are those of the file.
        let before = &command.text[..command.text.len().saturating_sub(text.len())];
        let blanks: String = before.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        let name = format!("{}:{}", command.file, command.line);
        Cell { name, text: blanks + text, part_of: Some((command.file.clone(), command.line)) }
    }

    /// Runs it as the next cell of the session.
    fn first(&self, session: &mut Session) -> Result<Outcome, Box<Report>> {
        session.next_named(&self.text, &self.name, self.part_of.as_ref().map(|(file, line)| (file.as_str(), *line)))
    }
}

fn given<'t>(command: &str, text: &'t str) -> Result<&'t str, Box<Report>> {
    if text.is_empty() { Err(Error::input(format!("{command} needs something to run")).into()) } else { Ok(text) }
}

/// Three digits and a unit: `12.3 µs`.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value >= 100.0 { 0 } else { usize::from(value < 100.0) + usize::from(value < 10.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let of = |nanoseconds| shown(Duration::from_nanos(nanoseconds));
        assert_eq!([of(5), of(12_300), of(999_400), of(1_500_000_000)], ["5.00 ns", "12.3 µs", "999 µs", "1.50 s"]);
    }
}
