//! Random cells at a session, most of them sentences of a small grammar over every function that scripts have, some with
//! noise, some noise alone: whatever they are, the evaluator answers with a value or a report, an interrupt ends what runs
//! on, and the session goes on.
//!
//! A run of the whole suite takes a few seconds for it. `SAEREPL_FUZZ_SECONDS` gives another time, `SAEREPL_FUZZ_SEED` the
//! seed; for ten minutes of a new stream:
//!
//!     SAEREPL_FUZZ_SECONDS=600 SAEREPL_FUZZ_SEED=2 cargo test --release --test it random_tokens -- --nocapture

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use saerepl::error::Kind;
use saerepl::script::declare::{Entry, Form};
use saerepl::script::entries;
use saerepl::session::{Answer, Outcome, Session, SessionOptions};
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

/// Functions that are not called: they wait, read or fetch what a name says, or run for long by design.
const LEFT_OUT: &[&str] = &["load_model", "load_sae", "list_saes", "train_sae", "generate", "exit", "param", "fixed"];

/// Functions and methods of Rhai's own, with the kinds of their arguments, the receiver first.
const RHAI: &[(&str, &[&str])] = &[
    ("push", &["array", "any"]),
    ("pad", &["array", "integer", "any"]),
    ("pad", &["string", "integer", "string"]),
    ("blob", &["integer", "integer"]),
    ("insert", &["array", "integer", "any"]),
    ("remove", &["array", "integer"]),
    ("extract", &["array", "integer", "integer"]),
    ("splice", &["array", "integer", "integer", "array"]),
    ("chop", &["array", "integer"]),
    ("truncate", &["array", "integer"]),
    ("split", &["array", "integer"]),
    ("drain", &["array", "closure"]),
    ("map", &["array", "closure"]),
    ("filter", &["array", "closure"]),
    ("reduce", &["array", "closure2", "any"]),
    ("sort", &["array"]),
    ("sort", &["array", "closure2"]),
    ("dedup", &["array"]),
    ("index_of", &["array", "any"]),
    ("sub_string", &["string", "integer", "integer"]),
    ("split", &["string", "string"]),
    ("replace", &["string", "string", "string"]),
    ("crop", &["string", "integer", "integer"]),
    ("to_upper", &["string"]),
    ("parse_int", &["string"]),
    ("parse_float", &["string"]),
    ("keys", &["map"]),
    ("values", &["map"]),
    ("mixin", &["map", "map"]),
    ("remove", &["map", "string"]),
    ("to_json", &["map"]),
    ("range", &["integer", "integer", "integer"]),
    ("bits", &["integer", "integer", "integer"]),
    ("to_hex", &["integer"]),
    ("to_string", &["any"]),
    ("to_debug", &["any"]),
    ("type_of", &["any"]),
];

/// Milliseconds after which a cell hangs: it was interrupted long before.
const HANG: u64 = 20_000;

/// Cells that run in a minute at least, so that the stream is one: far fewer than a busy machine takes.
const PACE: f64 = 200.0;

/// What can be assigned to.
const PLACES: &[&str] = &[
    "x",
    "y",
    "list[0]",
    "list[-1]",
    "list[9]",
    "m.a",
    "m[\"new\"]",
    "m.b.c",
    "m.b",
    "t[0]",
    "t",
    "t[0..1]",
    "t[t > 0]",
    "v[2]",
    "v[-9]",
    "t.T",
    "tab.a",
    "tab[\"a\"]",
    "fig.title",
    "fig.bins",
    "fig[\"width\"]",
    "model.cfg",
    "d.name",
    "f",
    "ans",
    "Out",
];

/// Writes cells. Every piece is well formed; its kind is the one asked for, but not always.
struct Writer<'r> {
    rng: &'r mut ChaCha8Rng,
    callable: &'r [&'static Entry],
}

impl Writer<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn one_of(&mut self, of: &[&str]) -> String {
        of[self.below(of.len())].to_string()
    }

    /// An expression that gives the kind that a signature names.
    fn value(&mut self, kind: &str, depth: usize) -> String {
        // One in twenty is of another kind.
        const KINDS: &[&str] = &["integer", "number", "string", "bool", "array", "map", "Tensor", "Table", "closure", "Figure"];
        if self.below(20) == 0 {
            let other = self.one_of(KINDS);
            return self.leaf(&other, depth);
        }
        if depth > 0 && self.below(3) == 0 {
            return self.result(kind, depth - 1);
        }
        self.leaf(kind, depth)
    }

    fn leaf(&mut self, kind: &str, depth: usize) -> String {
        let below = depth.saturating_sub(1);
        match kind {
            "integer" => self.one_of(&["0", "1", "2", "-1", "3", "7", "x", "list.len()", "1000000007", "9223372036854775807"]),
            "integer from 0" => self.one_of(&["0", "1", "2", "3", "8", "9223372036854775807", "-1"]),
            "number" => self.one_of(&["0.5", "-2.0", "1e3", "y", "x", "0.0", "1e308", "3", "0.0 / 0.0"]),
            "string" => {
                self.one_of(&["\"a\"", "\"text\"", "`v ${x} w`", "\"ij->ji\"", "\"日本\"", "\"\"", "\"desc\"", "\"f64\""])
            }
            "bool" => self.one_of(&["true", "false", "x > 1", "t.any()", "!true"]),
            "map" => {
                let value = self.value("any", below);
                self.one_of(&["m", "#{}", &format!("#{{a: {value}, b: 2}}"), &format!("#{{a: [{value}], n: [1]}}")])
            }
            "Tensor" | "Tensor or number" => self.one_of(&[
                "t",
                "s",
                "v",
                "arange(6)",
                "tensor([1, 2])",
                "tensor([[1, 2, 3], [4, 5, 6]])",
                "zeros([0, 3])",
                "ones([3, 2]) * 2",
                "randn([4, 4])",
                "v > 0",
                "t.T",
                "tensor([0.0 / 0.0, 1.0])",
                "zeros([2, 1, 3])",
            ]),
            "Table" => self.one_of(&["tab", "table(#{a: [3, 1], b: [\"x\", \"y\"]})", "table(#{a: []})", "tab.head(1)"]),
            "Model" => "model".into(),
            "Dictionary" => "d".into(),
            "TokenScores" => "unembed(d, model, #{k: 3})".into(),
            "Figure" => self.one_of(&["plot::line(v)", "plot::histogram(t)", "plot::heatmap(t)"]),
            "closure" => {
                let body = self.value("any", below);
                format!("|e| {body}")
            }
            "closure2" => self.one_of(&["|a, b| a", "|a, b| a + b", "|a, b| if a > b { 1 } else { -1 }"]),
            "()" => "()".into(),
            // "array of integers", "integer, range, array of …", "1-D Tensor": one of what is named.
            kind if kind.contains(", ") || kind.contains(" or ") => {
                let named: Vec<&str> = kind.split(", ").flat_map(|part| part.split(" or ")).collect();
                let kind = named[self.below(named.len())].to_string();
                self.leaf(&kind, depth)
            }
            "range" => self.one_of(&["0..2", "1..=3", "2..0", "-2..", "0.."]).trim_end_matches("..").to_string(),
            kind if kind.ends_with("Tensor") => self.leaf("Tensor", depth),
            kind if kind.starts_with("array") => {
                let items = kind.strip_prefix("array of ").map_or("any", |items| items.trim_end_matches('s')).to_string();
                let items: Vec<String> = (0..self.below(4)).map(|_| self.value(&items, below)).collect();
                self.one_of(&["list", &format!("[{}]", items.join(", ")), "[[1, 2], [3, 4]]", "[2, 3]"])
            }
            _ => {
                let kinds = ["integer", "number", "string", "bool", "array", "map", "Tensor", "Table", "()"];
                let kind = self.one_of(&kinds);
                self.leaf(&kind, depth)
            }
        }
    }

    /// An operator, a property, an index, or a call that promises the kind, or of any kind if none does.
    fn result(&mut self, kind: &str, depth: usize) -> String {
        match self.below(11) {
            10 => {
                // A method that walks a variable with a closure that uses it, or a function that does.
                let name = self.one_of(&["list", "m.b", "m", "tab", "t"]);
                let between = self.one_of(&["", "", ".keys()", ".values()", ".to_array()", "[0]"]);
                let method =
                    self.one_of(&["map", "filter", "reduce", "some", "find", "all", "sort", "retain", "for_each", "index_of"]);
                let body = self.value("any", depth);
                let used = self.one_of(&["list.len()", "m.a", "tab.len", "g(1)", "f(e)", "h(e)", "x"]);
                format!("{name}{between}.{method}(|e| [{used}, {body}])")
            }
            0 => {
                let operator = self.one_of(&["+", "-", "*", "/", "%", "**", "@", "==", "<", ">=", "&", "|", "&&", "??", "<<"]);
                format!("({} {operator} {})", self.value(kind, depth), self.value(kind, depth))
            }
            1 => {
                let (condition, one, other) = (self.value("bool", depth), self.value(kind, depth), self.value(kind, depth));
                format!("if {condition} {{ {one} }} else {{ {other} }}")
            }
            2 => {
                let index = self.one_of(&["0", "-1", "1..", "0..1", "\"a\"", "[0, 1]", "9"]);
                format!("{}[{index}]", self.leaf("any", depth))
            }
            3 => {
                let called = self.one_of(&["f", "g", "h"]);
                format!("{called}({})", self.value(kind, depth))
            }
            4 => {
                let (name, kinds) = RHAI[self.below(RHAI.len())];
                let arguments: Vec<String> = kinds.iter().map(|kind| self.value(kind, depth)).collect();
                format!("{name}({})", arguments.join(", "))
            }
            _ => {
                let fit: Vec<&'static Entry> = self.callable.iter().copied().filter(|e| kind.contains(&e.gives())).collect();
                let among = if fit.is_empty() || self.below(4) == 0 { self.callable.to_vec() } else { fit };
                let entry = among[self.below(among.len())];
                self.call(entry, depth)
            }
        }
    }

    fn call(&mut self, entry: &Entry, depth: usize) -> String {
        let given: Vec<_> = entry.params.iter().filter(|p| !p.optional || self.rng.random_range(0..2) == 0).collect();
        let mut arguments: Vec<String> = given.iter().map(|p| self.value(&p.kind, depth)).collect();
        if let Some(options) = entry.options.filter(|_| self.below(2) == 0) {
            let keys = options();
            let pairs: Vec<String> = (0..self.below(3))
                .map(|_| {
                    let key = &keys[self.rng.random_range(0..keys.len())];
                    format!("{}: {}", key.name, self.value("any", 0))
                })
                .collect();
            arguments.push(format!("#{{{}}}", pairs.join(", ")));
        }
        match entry.form {
            Form::Getter => format!("{}.{}", arguments[0], entry.name),
            Form::Method => format!("{}.{}({})", arguments[0], entry.name, arguments[1..].join(", ")),
            _ => format!("{}({})", entry.path(), arguments.join(", ")),
        }
    }

    fn statement(&mut self, depth: usize) -> String {
        let below = depth.saturating_sub(1);
        match self.below(if depth == 0 { 5 } else { 16 }) {
            0..3 => self.value("any", 3) + ";",
            3 => {
                let (name, kind) =
                    [("x", "integer"), ("y", "number"), ("t", "Tensor"), ("list", "array"), ("m", "map"), ("h", "closure")]
                        [self.below(6)];
                let word = self.one_of(&["let ", "let ", "", "const "]);
                format!("{word}{name} = {};", self.value(kind, 2))
            }
            4 => {
                let (place, operator) = (self.one_of(PLACES), self.one_of(&["=", "+=", "*="]));
                format!("{place} {operator} {};", self.value("number", 2))
            }
            5 => format!(
                "for i in {} {{ {} }}",
                self.one_of(&["0..3", "list", "t", "m.keys()", "0..100000"]),
                self.statement(below)
            ),
            6 => format!("if {} {{ {} }} else {{ {} }}", self.value("bool", 1), self.statement(below), self.statement(below)),
            7 => format!("try {{ {} }} catch (e) {{ {} e.message }}", self.statement(below), self.statement(below)),
            8 => format!("fn g(a) {{ {} }}", self.statement(below)),
            9 => format!("while {} {{ {} break; }}", self.value("bool", 1), self.statement(below)),
            10 => {
                format!("switch {} {{ 1 => {}, _ => {} }}", self.value("integer", 1), self.value("any", 2), self.value("any", 2))
            }
            11 => format!("let c = |a| {{ {} a }}; c({});", self.statement(below), self.value("any", 1)),
            12 => {
                let end = [format!("break {};", self.value("any", 2)), format!("break {{ {} }};", self.statement(below))];
                // One of four goes round until it is interrupted.
                let end = [end[0].as_str(), &end[1], "break;", ""][self.below(4)];
                format!("loop {{ {} {end} }}", self.statement(below))
            }
            13 => {
                format!("do {{ {} }} {} {};", self.statement(below), self.one_of(&["while", "until"]), self.value("bool", 1))
            }
            14 => format!("fn r(n) {{ {} if n > 0 {{ r(n - 1); r(n - 1) }} }} r(9);", self.statement(below)),
            _ => format!("fn own() {{ {} this }} {}.own();", self.statement(below), self.one_of(&["x", "list", "m", "t", "h"])),
        }
    }

    /// A line that is no Rhai; what it writes goes below `folder`.
    fn command(&mut self, folder: &std::path::Path) -> String {
        let folder = folder.display();
        let name = self.callable[self.rng.random_range(0..self.callable.len())].path();
        match self.below(12) {
            0 => format!("?{name}"),
            1 => format!("{}?", self.one_of(TOKENS)),
            2 => format!("??{}", self.one_of(&["f", "g", "h", "unembed", "c", ""])),
            3 => ":vars".into(),
            4 => format!(":time {}", self.cell().replace('\n', " ")),
            5 => format!(":save {folder}/saved"),
            6 => format!(":session save {folder}/kept"),
            7 => format!(":session load {folder}/kept"),
            8 => {
                // An error leaves the file of an earlier round, which will do.
                let _ = std::fs::write(format!("{folder}/run.rhai"), self.cell());
                format!(":run {folder}/run.rhai {}", self.one_of(&["", "k=1", "k"]))
            }
            9 => format!(":history {}", self.one_of(TOKENS)),
            10 => self.one_of(&[":help", ":clear", ":timeit", ":session", ":", "?", "!", ":nonsense"]),
            _ => format!(":{}", self.one_of(TOKENS)),
        }
    }

    fn cell(&mut self) -> String {
        if self.below(5) == 0 {
            return noise(self.rng);
        }
        let mut text: String = (0..self.below(3)).map(|_| self.statement(2) + "\n").collect();
        text += &self.value("any", 3);
        // Some sentences get a stray token, or lose their end.
        let at = |rng: &mut ChaCha8Rng, text: &str| {
            text.char_indices().nth(rng.random_range(0..text.chars().count())).map_or(0, |(byte, _)| byte)
        };
        match self.below(8) {
            0 => text.insert_str(at(self.rng, &text), TOKENS[self.rng.random_range(0..TOKENS.len())]),
            1 => text.truncate(at(self.rng, &text).max(1)),
            _ => {}
        }
        text
    }
}

fn noise(rng: &mut ChaCha8Rng) -> String {
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

const SET_UP: &str = "let x = 3; let y = 2.5; let t = randn([2, 3]); let s = randn([3, 3]); let v = randn([5]); \
                      let m = #{a: 1, b: #{c: 2}}; let list = [1, 2]; let tab = table(#{a: [1, 2]}); fn f(a) { a } \
                      fn g(a) { a + x } let h = |a| a; let fig = plot::histogram(v); \
                      import \"std/experiments\" as exp; let model = load_model(\"demo\"); \
                      let d = mlp_neurons(model, 1).select([0, 2, 5]);";

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
            if since > 0 && waited > HANG {
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
    let calls = |e: &&Entry| matches!(e.form, Form::Function | Form::Method | Form::Getter) && !LEFT_OUT.contains(&e.name);
    let callable: Vec<&Entry> = entries().iter().filter(calls).filter(|e| !e.name.starts_with("load_")).collect();
    let (mut cells, mut values, mut interrupted) = (0u64, 0u64, 0u64);
    while now.elapsed() < until {
        let mut writer = Writer { rng: &mut rng, callable: &callable };
        let is_command = writer.below(25) == 0;
        let text = if is_command { writer.command(folder.path()) } else { writer.cell() };
        running.lock().unwrap().clone_from(&text);
        began.store(now.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let cursor = text.char_indices().nth(rng.random_range(0..text.chars().count())).map_or(0, |(byte, _)| byte);
        session.complete(&text, cursor);
        session.signatures(&text, cursor);
        session.is_incomplete(&text);
        let outcome = match is_command && session.is_command(&text) {
            true => session.command(&text).map(|answer| match answer {
                Answer::Value(_, outcome) => outcome,
                _ => Outcome::default(),
            }),
            false => session.cell(&text),
        };
        match outcome {
            Ok(outcome) => {
                if let Some(value) = outcome.value {
                    session.display(&value);
                    // A figure may have nothing to draw.
                    let _ = session.show(&value);
                    values += 1;
                }
            }
            Err(report) => {
                report.render(true, 80);
                // A panic in native code comes back as such a report.
                assert!(report.kind != Kind::Internal, "{text:?}: {report}");
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
    // The stream reaches the functions, not only the parser, and waits for none of them.
    assert!(values * 5 > cells, "{cells} cells, {values} values");
    let pace = cells as f64 / now.elapsed().as_secs_f64() * 60.0;
    assert!(pace > PACE, "{pace:.0} cells a minute");
}
