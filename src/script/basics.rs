//! Errors as values, and what every script needs whatever its topic.

use crate::entry;
use crate::script::ScriptError;
use crate::script::declare::Entry;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// The message of a caught error.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.message.contains("seed")); }
            /// ```
            get message(call, error: ScriptError) -> String { Ok(error.error.to_string()) }
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
            /// The line of the call that failed, from 1.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.line == 1); }
            /// ```
            get line(call, error: ScriptError) -> Option<usize> { Ok(error.line) }
        },
        entry! {
            /// A caught error as text.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(`${e}`.contains("seed")); }
            /// ```
            method to_string(call, error: ScriptError) -> String { Ok(error.error.to_string()) }
        },
        entry! {
            /// A caught error as text.
            ///
            /// ```rhai
            /// try { seed(-1); } catch (e) { assert(e.to_debug().contains("seed")); }
            /// ```
            method to_debug(call, error: ScriptError) -> String { Ok(error.error.to_string()) }
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
                Err(crate::Error::input(message.unwrap_or_else(|| "assertion failed".into())))
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
    ]
}

#[cfg(test)]
mod tests {
    use crate::script::{Host, entries, install};
    use crate::work::Work;
    use rhai::Engine;
    use std::sync::Arc;

    fn engine() -> Engine {
        let mut engine = Engine::new();
        let work = Work::silent(1).unwrap();
        install(&mut engine, Host { work, out_dir: Arc::default(), parameters: Arc::default() });
        engine
    }

    #[test]
    fn every_example_runs() {
        for entry in entries() {
            let example = entry.example().unwrap_or_else(|| panic!("{} has no example", entry.signature()));
            engine().run(&example).unwrap_or_else(|e| panic!("{}: {e}\n{example}", entry.signature()));
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = engine().run("assert(3)").unwrap_err();
        assert!(crate::script::error_of(&error).unwrap().message().contains("`condition` must be bool, not 3"), "{error}");
        let error = engine().run("seed(1.5)").unwrap_err();
        assert!(crate::script::error_of(&error).unwrap().message().contains("`seed` must be integer from 0, not 1.5"), "{error}");
    }
}
