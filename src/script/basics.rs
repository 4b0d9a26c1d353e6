//! Errors as values, output, and what every script needs whatever its topic.

use crate::entry;
use crate::error::{Error, Result};
use crate::render::text::counted;
use crate::script::convert::{FromScript, IntoScript};
use crate::script::declare::{Call, Entry};
use crate::script::{Host, MOST_BYTES, Place, Raised, ScriptError, display, raise, too_long};
use crate::tensor::Held;
use rhai::{Array, Blob, Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext, Position};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The values of a session's cells, by the cell's number from 1. Copies share them.
#[derive(Clone, Default)]
pub struct Outputs(Arc<Mutex<BTreeMap<usize, Dynamic>>>);

crate::native!(Outputs, "Outputs");

impl Outputs {
    /// Keeps the value of a cell.
    pub fn keep(&self, cell: usize, value: Dynamic) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(cell, value);
    }

    /// The value of a cell.
    ///
    /// # Errors
    /// The cell gave no value, or there is no such cell.
    pub fn get(&self, cell: usize) -> Result<Dynamic> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(&cell).cloned().ok_or_else(|| {
            if cell == 0 {
                return Error::input("Out[0]: cells count from 1")
                    .help("`Out[1]` is the value of the first, `ans` of the last that had one");
            }
            let known: Vec<String> = values.keys().map(ToString::to_string).collect();
            Error::input(format!("Out[{cell}]: the cell gave no value")).help(match known.is_empty() {
                true => "no cell has given a value yet".into(),
                false => format!("cells with a value: {}", known.join(", ")),
            })
        })
    }

    /// What `look` says of a cell's value; none for one that holds these values themselves, while it is looked at.
    pub fn look<T>(&self, cell: usize, look: impl FnOnce(&Dynamic) -> T) -> Option<T> {
        self.0.try_lock().ok()?.get(&cell).map(look)
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// The values of the session's cells; the variable `Out` holds them.
            ///
            /// ```rhai
            /// assert(outputs().len == 0);
            /// ```
            fn outputs(call) -> Outputs { Ok(call.host.outputs.clone()) }
        },
        entry! {
            /// The value of cell `n`, from 1: `Out[3]`. Errors: the cell gave no value.
            ///
            /// ```rhai
            /// try { outputs()[3]; } catch (e) { assert(e.message.contains("Out[3]")); }
            /// ```
            index_get(call, outputs: Outputs, n: usize) -> Dynamic { outputs.get(n) }
        },
        entry! {
            /// Number of cells that gave a value.
            ///
            /// ```rhai
            /// assert(outputs().len == 0);
            /// ```
            get len(call, outputs: Outputs) -> usize { Ok(outputs.len()) }
        },
        entry! {
            /// How many values there are.
            ///
            /// ```rhai
            /// assert(outputs().to_string() == "values of 0 cells");
            /// ```
            method to_string(call, outputs: Outputs) -> String { Ok(format!("values of {}", counted(outputs.len(), "cell"))) }
        },
        entry! {
            /// How many values there are.
            ///
            /// ```rhai
            /// assert(outputs().to_debug() == "values of 0 cells");
            /// ```
            method to_debug(call, outputs: Outputs) -> String { Ok(format!("values of {}", counted(outputs.len(), "cell"))) }
        },
        entry! {
            /// The message of a caught error.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.message.contains("seed")); }
            /// ```
            get message(call, error: ScriptError) -> String { Ok(message(call, &error)) }
        },
        entry! {
            /// The kind of a caught error: `input`, `format`, `shape`, `limit`, `io` or `internal`.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.kind == "input"); }
            /// ```
            get kind(call, error: ScriptError) -> String { Ok(error.error.kind().name().to_string()) }
        },
        entry! {
            /// The line of the call that failed, from 1: of its file, or of its cell.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.line == 1); }
            /// ```
            get line(call, error: ScriptError) -> Option<usize> { Ok(error.place.and_then(|place| place.position.line())) }
        },
        entry! {
            /// A caught error as text.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(`${e}`.contains("seed")); }
            /// ```
            method to_string(call, error: ScriptError) -> String { Ok(message(call, &error)) }
        },
        entry! {
            /// A caught error as text.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.to_debug().contains("seed")); }
            /// ```
            method to_debug(call, error: ScriptError) -> String { Ok(message(call, &error)) }
        },
        entry! {
            /// What was caught, with `message`, `kind` and `line`: `catch (e)` calls it on what Rhai itself raises, and on a text
            /// that a script threw, which is the message. Any other value is given back as it is.
            ///
            /// ```rhai
            /// try { nothing } catch (e) { assert(caught(e).message.contains("nothing")); }
            /// ```
            fn caught(call, value: Dynamic) -> Dynamic { Ok(caught(call, value)) }
        },
        entry! {
            /// Whether a caught error has this message.
            ///
            /// ```rhai
            /// try { throw "no such layer" } catch (e) { assert(caught(e) == "no such layer"); }
            /// ```
            op "=="(call, error: ScriptError, text: String) -> bool { Ok(message(call, &error) == text) }
        },
        entry! {
            /// Whether a caught error has another message.
            ///
            /// ```rhai
            /// try { throw "no such layer" } catch (e) { assert(caught(e) != "no such head"); }
            /// ```
            op "!="(call, error: ScriptError, text: String) -> bool { Ok(message(call, &error) != text) }
        },
        entry! {
            /// A value apart from the variable that holds it. Cells call it where a method walks a variable that its closure
            /// reads, which Rhai refuses.
            ///
            /// ```rhai
            /// let list = [1, 2, 3];
            /// assert(copied(list).map(|x| x + list.len()) == [4, 5, 6]);
            /// ```
            fn copied(call, value: Dynamic) -> Dynamic { Ok(value) }
        },
        entry! {
            /// Fails with `message` unless `condition` holds.
            ///
            /// ```rhai
            /// assert(1 + 1 == 2);
            /// assert(1 < 2, "one is less than two");
            /// ```
            fn assert(call, condition: bool, message: Option<String>) -> () {
                if condition {
                    return Ok(());
                }
                Err(Error::input(message.unwrap_or_else(|| "assertion failed".into())))
            }
        },
        entry! {
            /// A number as text with so many digits after the point.
            ///
            /// ```rhai
            /// assert(fixed(2.0 / 3.0, 3) == "0.667");
            /// ```
            fn fixed(call, number: f64, digits: usize) -> String { Ok(format!("{number:.*}", digits.min(17))) }
        },
        entry! {
            /// The elements of an array as one text, with `separator` between them.
            ///
            /// ```rhai
            /// assert(["a", "b", 3].join(", ") == "a, b, 3");
            /// ```
            method join(call, list: Array, separator: String) -> String {
                let (list, mut joined) = (Held::new(list), String::new());
                for (i, item) in list.iter().enumerate() {
                    call.work().check()?;
                    joined += if i == 0 { "" } else { &separator };
                    joined += &text(call, Some(item.clone()));
                    if joined.len() > MOST_BYTES {
                        return Err(too_long().context("join"));
                    }
                }
                Ok(joined)
            }
        },
        entry! {
            /// Sets the session's seed: what every later random draw uses that is given none.
            ///
            /// ```rhai
            /// seed(7);
            /// ```
            fn seed(call, seed: usize) -> () {
                call.work().set_seed(seed as u64);
                Ok(())
            }
        },
        entry! {
            /// Prints a value to standard output: text as it is, anything else as a session shows it.
            ///
            /// ```rhai
            /// print("scores:");
            /// print([1, 2, 3]);
            /// ```
            fn print(call, value: Option<Dynamic>) -> Printed { Ok(Printed(text(call, value))) }
        },
        entry! {
            /// Prints a value to standard error.
            ///
            /// ```rhai
            /// eprint("layer 3 was skipped");
            /// ```
            fn eprint(call, value: Option<Dynamic>) -> () {
                call.work().note(&text(call, value));
                Ok(())
            }
        },
        entry! {
            /// Shows a value as the session shows a result: text in quotes, a table with its columns, a figure as a picture where
            /// the output takes pictures and else drawn with characters. The prompt of a terminal without pictures also writes the figure to
            /// the output folder, once, and says where; elsewhere nothing is written to a file: `save` does that.
            ///
            /// ```rhai
            /// show(#{layer: 3, share: 0.25});
            /// ```
            fn show(call, value: Dynamic) -> () {
                call.work().print(&display::result(call.host, call.native.engine(), &value)?);
                Ok(())
            }
        },
        entry! {
            /// Clears the output of the cell where outputs can be cleared (a notebook); elsewhere it does nothing.
            ///
            /// ```rhai
            /// clear_output();
            /// ```
            fn clear_output(call) -> () { Ok(()) }
        },
        entry! {
            /// Ends the run with `status` (0 if absent); results written so far stay. Errors: a status outside 0..=255.
            ///
            /// ```rhai
            /// if out_dir() == "" { exit(1); }
            /// ```
            fn exit(call, status: Option<usize>) -> () {
                let status = status.unwrap_or(0);
                let Ok(status) = u8::try_from(status) else {
                    return Err(Error::input(format!("exit: `status` must be an integer from 0 to 255, not {status}")));
                };
                call.host.request_exit(status);
                // Ends the script as an interruption does, which no `catch` can hold; the session reads the status.
                Err(Error::interrupted())
            }
        },
    ]
}

/// What Rhai makes of its own errors is a map; scripts meet them as they meet ours, and texts that were thrown, too.
fn caught(call: &Call<'_>, value: Dynamic) -> Dynamic {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        // Rhai keeps no place of what a script throws.
        return Dynamic::from(ScriptError { error: Error::input(text.as_str()), place: None, raised: None });
    }
    let error = value.read_lock::<Map>().and_then(|map| {
        let text = |key: &str| map.get(key).and_then(String::from_script);
        let number = |key: &str| map.get(key).and_then(|v| v.as_int().ok()).and_then(|v| u16::try_from(v).ok());
        text("error").filter(|variant| variant.starts_with("Error"))?;
        let position = number("line").map_or(Position::NONE, |line| Position::new(line, number("position").unwrap_or(0)));
        let place = Place { source: call.native.call_source().map(String::from), position };
        let raised = Raised { text: text("message")?, place: place.clone() };
        // The words are found when somebody asks for them.
        let error = Error::input(raised.text.as_str());
        Some(ScriptError { error, place: Some(place), raised: Some(Arc::new(raised)) })
    });
    error.map_or(value, Dynamic::from)
}

fn message(call: &Call<'_>, error: &ScriptError) -> String {
    (call.host.explain)(call.native, error).to_string()
}

/// Rhai's functions of floats, for integers too; those that wait or take memory, so that they can be stopped or refused.
pub(super) fn install(engine: &mut Engine) {
    type Unary = fn(f64) -> f64;
    let unary: [(&str, Unary); 15] = [
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("tan", f64::tan),
        ("asin", f64::asin),
        ("acos", f64::acos),
        ("atan", f64::atan),
        ("sinh", f64::sinh),
        ("cosh", f64::cosh),
        ("asinh", f64::asinh),
        ("acosh", f64::acosh),
        ("atanh", f64::atanh),
        ("ln", f64::ln),
        ("to_degrees", f64::to_degrees),
        ("to_radians", f64::to_radians),
        ("fraction", f64::fract),
    ];
    for (name, function) in unary {
        engine.register_fn(name, move |x: i64| function(x as f64));
    }
    for name in ["floor", "ceiling", "round", "int"] {
        engine.register_fn(name, |x: i64| x);
    }
    // Rhai's own cannot be interrupted.
    engine.register_fn("sleep", |call: NativeCallContext, seconds: i64| sleep(&call, seconds as f64));
    engine.register_fn("sleep", |call: NativeCallContext, seconds: f64| sleep(&call, seconds));
    for (name, answer) in [("is_nan", false), ("is_finite", true), ("is_infinite", false)] {
        engine.register_fn(name, move |_: i64| answer);
    }
    for (name, function) in [("hypot", f64::hypot as fn(f64, f64) -> f64), ("atan", f64::atan2), ("log", f64::log)] {
        engine.register_fn(name, move |x: i64, y: i64| function(x as f64, y as f64));
        engine.register_fn(name, move |x: i64, y: f64| function(x as f64, y));
        engine.register_fn(name, move |x: f64, y: i64| function(x, y as f64));
    }
    install_bounded(engine);
}

/// Bytes that one call of Rhai's own functions may take: larger data belong into tensors.
const ALLOCATION: usize = 64 << 20;

/// Rhai's functions that allocate as much as their argument says. An allocation that fails would end the process.
fn install_bounded(engine: &mut Engine) {
    type Done<T> = std::result::Result<T, Box<EvalAltResult>>;
    fn room(call: &NativeCallContext, len: i64, each: usize) -> Done<usize> {
        let len = usize::try_from(len).unwrap_or(0);
        if len <= ALLOCATION / each.max(1) {
            return Ok(len);
        }
        let error = Error::limit(format!("`{}`: a length of {len} takes more than 64 MiB", call.fn_name()));
        Err(raise(error.help("large data belong into tensors: `zeros([n])`"), call.call_position()))
    }
    fn pad_text(text: &mut ImmutableString, len: usize, padding: &str) {
        let missing = len.saturating_sub(text.chars().count());
        if missing > 0 {
            let added: String = padding.chars().cycle().take(missing).collect();
            *text = format!("{text}{added}").into();
        }
    }
    engine.register_fn("blob", |call: NativeCallContext, len: i64| -> Done<Blob> { Ok(vec![0; room(&call, len, 1)?]) });
    engine.register_fn("blob", |call: NativeCallContext, len: i64, value: i64| -> Done<Blob> {
        Ok(vec![value as u8; room(&call, len, 1)?])
    });
    changing!(engine, "pad", |call: NativeCallContext, blob: &mut Blob, len: i64, value: i64| -> Done<()> {
        let len = room(&call, len, 1)?.max(blob.len());
        blob.resize(len, value as u8);
        Ok(())
    });
    changing!(engine, "pad", |call: NativeCallContext, array: &mut Array, len: i64, item: Dynamic| -> Done<()> {
        let len = room(&call, len, size_of::<Dynamic>())?.max(array.len());
        array.resize(len, item);
        Ok(())
    });
    changing!(engine, "pad", |call: NativeCallContext, text: &mut ImmutableString, len: i64, padding: char| -> Done<()> {
        pad_text(text, room(&call, len, padding.len_utf8())?, padding.encode_utf8(&mut [0; 4]));
        Ok(())
    });
    changing!(engine, "pad", |call: NativeCallContext, text: &mut ImmutableString, len: i64, padding: &str| -> Done<()> {
        pad_text(text, room(&call, len, 4)?, padding);
        Ok(())
    });
}

fn sleep(call: &NativeCallContext, seconds: f64) -> std::result::Result<(), Box<EvalAltResult>> {
    let work = Host::of(call)?.work;
    let end = Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|duration| Instant::now().checked_add(duration));
    while end.is_none_or(|end| Instant::now() < end) {
        work.check().map_err(|error| raise(error, call.call_position()))?;
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
    Ok(())
}

/// What Rhai's `print` statement is given to print; the call itself gives nothing.
struct Printed(String);

impl IntoScript for Printed {
    fn into_script(self) -> Dynamic {
        self.0.into()
    }
}

fn text(call: &Call<'_>, value: Option<Dynamic>) -> String {
    value.map_or_else(String::new, |value| display::text(call.native.engine(), &value, call.host.width))
}

#[cfg(test)]
mod tests {
    use crate::script::{Host, entries, install};
    use crate::work::Work;
    use rhai::Engine;
    use std::path::Path;
    use std::sync::Arc;

    fn engine(out_dir: &Path) -> Engine {
        let mut engine = Engine::new();
        let host = Host::new(Work::silent(1).unwrap());
        install(&mut engine, Host { out_dir: Arc::new(out_dir.to_path_buf()), ..host });
        engine
    }

    #[test]
    fn every_example_runs() {
        let folder = tempfile::tempdir().unwrap();
        let failure = |entry: &crate::script::declare::Entry| match entry.example() {
            None => Some(format!("{} has no example", entry.signature())),
            Some(example) => {
                engine(folder.path()).run(&example).err().map(|e| format!("{}: {e}\n{example}\n", entry.signature()))
            }
        };
        let failures: Vec<String> = entries().iter().filter_map(failure).collect();
        assert!(failures.is_empty(), "{} of {} examples fail:\n{}", failures.len(), entries().len(), failures.join("\n"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = engine(Path::new(".")).run("assert(3)").unwrap_err();
        assert!(crate::script::error_of(&error).unwrap().message().contains("`condition` must be a bool, not 3"), "{error}");
        let error = engine(Path::new(".")).run("seed(1.5)").unwrap_err();
        assert!(
            crate::script::error_of(&error).unwrap().message().contains("`seed` must be an integer from 0, not 1.5"),
            "{error}"
        );
    }
}
