//! Random token streams at a session: whatever they are, the evaluator answers with a value or a report, an interrupt
//! ends what runs on, and the session goes on. `SAEREPL_FUZZ_SECONDS` gives the time (a few seconds if absent),
//! `SAEREPL_FUZZ_SEED` the seed.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use saerepl::session::{Session, SessionOptions};
use saerepl::work::Work;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pieces of scripts: all of the grammar, values of every kind, and calls that neither wait nor reach the network.
const TOKENS: &[&str] = &[
    "let",
    "const",
    "fn",
    "if",
    "else",
    "for",
    "in",
    "while",
    "loop",
    "do",
    "until",
    "switch",
    "return",
    "break",
    "continue",
    "throw",
    "try",
    "catch",
    "import",
    "export",
    "as",
    "true",
    "false",
    "this",
    "global",
    "private",
    "x",
    "y",
    "f",
    "g",
    "t",
    "m",
    "tab",
    "list",
    "e",
    "0",
    "1",
    "2",
    "7",
    "-1",
    "1.5",
    "1e3",
    "0x1f",
    "'c'",
    "\"text\"",
    "\"a\\n\"",
    "`v ${x} w`",
    "`",
    "\"",
    "${",
    "#{",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "(",
    ")",
    ",",
    ";",
    ";",
    ":",
    "::",
    ".",
    "?.",
    "..",
    "..=",
    "|",
    "||",
    "&&",
    "&",
    "!",
    "=",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "@",
    "+=",
    "<<",
    ">>",
    "??",
    "=>",
    "//",
    "/*",
    "*/",
    "\n",
    " ",
    "#",
    "$",
    "\\",
    "ü",
    "日本",
    "\u{0}",
    "😀",
    "f(x)",
    "g(f, x)",
    "t[0]",
    "t[0..1]",
    "m.a",
    "m.b.c",
    "tab[\"a\"]",
    "x = 1;",
    "let x = 1;",
    "fn f(a) { a + x }",
    "fn g(h, a) { h(a) }",
    "let f = |a| a;",
    "|a| a * x",
    "catch (e) { e.kind }",
    "print",
    "zeros([2, 3])",
    "tensor([1, 2])",
    "arange(5)",
    ".sum()",
    ".map(|v| v)",
    ".len",
    ".shape",
    ".T",
    ".topk(2)",
    ".push(1)",
    ".reshape([3, 2])",
    ".filter(|v| v > 0)",
    "table(#{a: [1, 2]})",
    ".sort(\"a\")",
    "plot::line",
    "([1, 2])",
    "type_of",
    "eval",
    "Fn(\"f\")",
    ".call(1)",
    "curry",
    "is_def_var",
    "seed(3);",
    "assert(true);",
    "einsum(\"ij->ji\", t)",
    "caught(e)",
];

fn text(rng: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(1..25) {
        text += TOKENS[rng.random_range(0..TOKENS.len())];
        if rng.random_range(0..3) > 0 {
            text.push(' ');
        }
    }
    text
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

const SET_UP: &str = "let x = 3; let y = 2.5; let t = zeros([2, 3]); let m = #{a: 1, b: #{c: 2}}; let list = [1, 2]; \
                      let tab = table(#{a: [1, 2]}); fn f(a) { a }";

#[test]
fn random_tokens_leave_the_session_whole() {
    let work = Work::silent(1).unwrap();
    let flag = work.cancel_flag();
    // When the running cell began, in milliseconds from 1; 0 between cells.
    let (began, now) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let (begin, running) = (Arc::clone(&began), Arc::new(Mutex::new(String::new())));
    let watched = Arc::clone(&running);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let since = begin.load(Ordering::Relaxed);
            let waited = (now.elapsed().as_millis() as u64 + 1).saturating_sub(since);
            if since > 0 && waited > 100 {
                flag.store(true, Ordering::Relaxed);
            }
            if since > 0 && waited > 20_000 {
                eprintln!("hangs beyond the interrupt: {:?}", watched.lock().unwrap());
                std::process::exit(1);
            }
        }
    });
    let seed = variable("SAEREPL_FUZZ_SEED", 1u64);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let until = Duration::from_secs(variable("SAEREPL_FUZZ_SECONDS", 4));
    let folder = tempfile::tempdir().unwrap();
    let options = || SessionOptions { out_dir: folder.path().into(), folder: folder.path().into(), ..SessionOptions::default() };
    let mut session = Session::new(work.clone(), options());
    session.cell(SET_UP).unwrap();
    let (mut cells, mut values, mut interrupted) = (0u64, 0u64, 0u64);
    while now.elapsed() < until {
        let text = text(&mut rng);
        running.lock().unwrap().clone_from(&text);
        began.store(now.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let cursor = text.char_indices().nth(rng.random_range(0..text.chars().count())).map_or(0, |(byte, _)| byte);
        session.complete(&text, cursor);
        session.signatures(&text, cursor);
        session.is_incomplete(&text);
        match session.cell(&text) {
            Ok(outcome) => {
                if let Some(value) = outcome.value {
                    session.display(&value);
                    values += 1;
                }
            }
            Err(report) => {
                report.render(true);
                interrupted += u64::from(report.is_interrupted());
            }
        }
        began.store(0, Ordering::Relaxed);
        work.reset_cancel();
        cells += 1;
        // A closure or a function may have taken a name that this asks for; values stay what they are.
        let sum = session.eval("20 + 1.0 * 22", "check").unwrap_or_else(|report| panic!("after {text:?}: {report}"));
        assert_eq!(sum.value.and_then(|v| v.as_float().ok()), Some(42.0), "after {text:?}");
        if cells.is_multiple_of(500) {
            session = Session::new(work.clone(), options());
            session.cell(SET_UP).unwrap();
        }
    }
    eprintln!("seed {seed}: {cells} cells, {values} values, {interrupted} interrupted");
    // The stream reaches the evaluator, not only the parser.
    assert!(cells > 20 && values > 0, "{cells} cells, {values} values");
}
