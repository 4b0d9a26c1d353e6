//! The `run` command: one script from its file, with parameters, to the folder of its results.

use crate::script::param::{self, Declaration};
use crate::session::status::{DONE, FAILED, INTERRUPTED, USAGE};
use crate::session::{Report, Session, SessionOptions, default_out_dir, script_text};
use crate::work::Work;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A script to run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its file.
    pub file: PathBuf,
    /// Values for its parameters, by name, as given.
    pub parameters: BTreeMap<String, String>,
    /// Where its results go; absent: `out/<script name>`.
    pub out_dir: Option<PathBuf>,
    /// Columns in which values are shown.
    pub width: usize,
}

impl Batch {
    /// Runs the script and gives the exit status; what went wrong goes to `work`'s notes, with colours if asked for, in
    /// lines of `message_width` columns.
    pub fn run(self, work: &Work, colour: bool, message_width: usize) -> u8 {
        let fail = |report: &Report, status| {
            work.note(&report.render(colour, message_width));
            status
        };
        let text = match script_text(&self.file) {
            Ok(text) => text,
            Err(error) => return fail(&Box::<Report>::from(error), FAILED),
        };
        let name = self.file.display().to_string();
        let out_dir = self.out_dir.unwrap_or_else(|| default_out_dir(&self.file));
        let folder = self.file.parent().map(Path::to_path_buf).unwrap_or_default();
        let keys: Vec<String> = self.parameters.keys().cloned().collect();
        let (parameters, script) = (self.parameters, Some(name.clone()));
        let options = SessionOptions { out_dir, parameters, script, folder, width: self.width, ..SessionOptions::default() };
        let mut session = Session::new(work.clone(), options);
        let declared = match session.declarations(&text, &name) {
            Ok(declared) => declared,
            Err(report) => return fail(&report, FAILED),
        };
        if let Err(error) = param::check(keys.iter().map(String::as_str), &declared) {
            return fail(&Box::<Report>::from(error.file(&self.file)), USAGE);
        }
        match session.eval(&text, &name) {
            Ok(outcome) => outcome.exit.unwrap_or(DONE),
            Err(report) => fail(&report, if report.is_interrupted() { INTERRUPTED } else { FAILED }),
        }
    }
}

/// What `run FILE --help` prints: what the script says of itself and the parameters it declares.
///
/// # Errors
/// A report when the file cannot be read or its declarations cannot.
pub fn help(file: &Path, work: &Work) -> Result<String, Box<Report>> {
    let text = script_text(file)?;
    let declared = Session::new(work.clone(), SessionOptions::default()).declarations(&text, &file.display().to_string())?;
    let mut help = head_comment(&text);
    if !help.is_empty() {
        help += "\n\n";
    }
    help += &format!(
        "Usage: saerepl run {} [key=value …] [--out DIR] [--threads N] [--device DEVICE] [--seed N] [--quiet]\n",
        file.display()
    );
    help += &match declared.is_empty() {
        true => "\nThe script has no parameters.\n".to_string(),
        false => format!("\nParameters:\n{}", parameters(&declared)),
    };
    help += &format!("\nResults go to {} unless --out says otherwise.\n", default_out_dir(file).display());
    Ok(help)
}

/// `  name=default   description`, the descriptions in one column where the defaults are not too long for it.
fn parameters(declared: &[Declaration]) -> String {
    use unicode_width::UnicodeWidthStr;
    const WIDEST: usize = 28;
    let keys: Vec<String> = declared.iter().map(|d| format!("{}={}", d.name, d.default)).collect();
    let column = keys.iter().map(|key| key.width()).filter(|width| *width <= WIDEST).max().unwrap_or(WIDEST);
    let mut text = String::new();
    for (key, declaration) in keys.iter().zip(declared) {
        let gap = match key.width() {
            width if width <= column => " ".repeat(column - width + 2),
            _ => format!("\n{}", " ".repeat(column + 4)),
        };
        text += &format!("  {key}{gap}{}\n", declaration.description);
    }
    text
}

/// The comment with which a script opens, without its marks.
fn head_comment(text: &str) -> String {
    let lines = text.lines().skip(usize::from(text.starts_with("#!"))).skip_while(|line| line.trim().is_empty());
    let comment = lines.map_while(|line| line.trim_start().strip_prefix("//"));
    let plain =
        comment.map(|line| line.trim_start_matches(['/', '!']).trim_end()).map(|line| line.strip_prefix(' ').unwrap_or(line));
    plain.collect::<Vec<_>>().join("\n").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_comment_is_read_without_its_marks() {
        let text = "#!/usr/bin/env -S saerepl run\n\n// What.\n//\n//   How.\n\nlet x = 1; // not this\n";
        assert_eq!(head_comment(text), "What.\n\n  How.");
        assert_eq!(head_comment("//! Head.\nlet x = 1;"), "Head.");
        assert_eq!(head_comment("let x = 1;"), "");
    }

    #[test]
    fn parameters_stand_in_columns() {
        let declared =
            |name: &str, default: &str| Declaration { name: name.into(), default: default.into(), description: "what".into() };
        let text = parameters(&[declared("k", "10"), declared("model", "\"demo\""), declared("list", &"x".repeat(30))]);
        assert_eq!(
            text,
            format!("  k=10          what\n  model=\"demo\"  what\n  list={}\n                what\n", "x".repeat(30))
        );
    }
}
