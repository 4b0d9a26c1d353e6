//! A script's texts, arrays and maps are bounded: a loop that doubles one ends with an error, not with the memory.
//!
//! Rhai's own limits measure whole values after each operation, which makes a loop of `list += x` quadratic. Here the
//! variables and `this` are looked at up to a hundred times a second, as often as takes a small part of the time: to double
//! what is near the bounds takes longer than that.

use crate::error::Error;
use crate::script::{MOST_BYTES, MOST_ITEMS, too_long, too_many};
use rhai::{Array, Blob, Dynamic, ImmutableString, Map};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Looking takes this part of the time at most: one in so many.
const PART: u32 = 20;

/// Values in one another that are looked at.
const DEPTH: usize = 64;

/// Counts the time while scripts run.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Another tick has passed.
pub(super) fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// What a script whose values grow too large is terminated with.
#[derive(Clone)]
pub(super) struct TooLarge(pub(super) Error);

/// When a session's variables were looked at last, and which of them were found to be too large.
#[derive(Default)]
pub(super) struct Watch {
    seen: AtomicU64,
    /// The tick from which on they are looked at again.
    next: AtomicU64,
    /// By name, with the length: the variable of a cell that ended so does not stop those that follow.
    known: Mutex<BTreeMap<String, usize>>,
}

impl Watch {
    /// A cell begins.
    pub(super) fn begin(&self) {
        self.seen.store(TICKS.load(Ordering::Relaxed), Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
    }

    /// True from a tick on until it begins.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        TICKS.load(Ordering::Relaxed) != self.seen.load(Ordering::Relaxed)
    }

    /// Begins the last tick: true once for each.
    pub(super) fn begin_tick(&self) -> bool {
        let now = TICKS.load(Ordering::Relaxed);
        self.seen.swap(now, Ordering::Relaxed) != now
    }

    /// The first variable that has grown too large, if it is time for a look.
    pub(super) fn look<'v>(&self, mut variables: impl Iterator<Item = (&'v str, &'v Dynamic)>) -> Option<TooLarge> {
        if TICKS.load(Ordering::Relaxed) < self.next.load(Ordering::Relaxed) {
            return None;
        }
        let began = Instant::now();
        let found = variables.find_map(|(name, value)| {
            let (length, error) = too_large(value, DEPTH)?;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            // What was found as `this` is some variable's value.
            let again = known.values().any(|before| *before == length);
            let grown = known.insert(name.into(), length).is_none_or(|before| before < length);
            (grown && !again).then(|| TooLarge(error.context(format!("`{name}`"))))
        });
        let pause = (began.elapsed() * PART).as_nanos() / TICK.as_nanos();
        self.next.store(TICKS.load(Ordering::Relaxed) + pause as u64, Ordering::Relaxed);
        found
    }
}

/// The length of what is too large in a value, and the error that says so.
fn too_large(value: &Dynamic, depth: usize) -> Option<(usize, Error)> {
    let depth = depth.checked_sub(1)?;
    if value.is_int() || value.is_float() {
        return None;
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return (text.len() > MOST_BYTES).then(|| (text.len(), too_long()));
    }
    if let Some(items) = value.read_lock::<Array>() {
        if items.len() > MOST_ITEMS {
            return Some((items.len(), too_many()));
        }
        return items.iter().find_map(|item| too_large(item, depth));
    }
    if let Some(map) = value.read_lock::<Map>() {
        if map.len() > MOST_ITEMS {
            return Some((map.len(), too_many()));
        }
        return map.values().find_map(|item| too_large(item, depth));
    }
    let blob = value.read_lock::<Blob>()?;
    (blob.len() > MOST_BYTES).then(|| (blob.len(), too_long()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, value};
    use crate::error::Kind;

    #[test]
    fn values_that_grow_without_end_are_stopped_and_the_session_goes_on() {
        for (before, text) in [
            ("let st = \"a\";", "for i in 0..40 { st += st; }"),
            ("let st = \"a\";", "for i in 0..40 { st = `${st}${st}`; }"),
            ("let m = #{k: \"a\"};", "for i in 0..40 { m.k += m.k; }"),
            ("let l = [1];", "for i in 0..40 { l.append(l); }"),
            ("let l = [1];", "for i in 0..40 { l += l; }"),
            ("fn twice(t) { loop { t = t + t; } }", "twice(\"ab\")"),
            ("let st = \"a\"; fn g(n) { st += st; }", "for i in 0..40 { g(i); }"),
            ("let st = \"a\"; fn grow() { loop { this += this; } }", "st.grow()"),
            ("let m = #{s: \"a\", g: || { loop { this.s += this.s; } }};", "m.g()"),
            ("let l = []; for k in 0..100 { l.push(0); } l.push(\"a\");", "for i in 0..40 { l[100] += l[100]; }"),
            (
                "let l = [\"a\".pad(9, \"a\")];",
                "let l = [`${blob(1000000)}`]; for i in 0..40 { l = [l.join(l[0])]; l.push(l[0]); }",
            ),
        ] {
            let mut session = session();
            session.eval(before, "before").unwrap_or_else(|report| panic!("{before}: {report}"));
            let report = session.eval(text, "In[1]").unwrap_err();
            assert!(report.kind == Kind::Limit && report.message.contains("large data"), "{text}: {report}");
            assert_eq!(report.frames.len().min(1), 1, "{text}: {report}");
            // The variable is there yet, and stops no other cell.
            assert_eq!(value(&mut session, "let n = 0; for i in 0..300000 { n += 1; } n"), "300000", "{text}");
        }
    }

    #[test]
    fn to_look_at_values_takes_a_small_part_of_the_time() {
        let mut session = session();
        session.eval("let deep = 1; for i in 0..1000 { deep = [deep]; }", "before").unwrap();
        let text = "let n = 0; for i in 0..1000000 { n += i; } n";
        let time = |session: &mut super::super::Session| {
            let began = std::time::Instant::now();
            assert_eq!(value(session, text), "499999500000");
            began.elapsed()
        };
        let alone = time(&mut session);
        session.eval("let wide = []; wide.pad(4000000, \"a\");", "before").unwrap();
        assert!(time(&mut session) < 10 * alone + std::time::Duration::from_secs(5));
    }

    #[test]
    fn a_loop_that_fills_an_array_takes_linear_time() {
        let mut session = session();
        let text = "let l = []; for i in 0..300000 { l += i; l.push(i); } l.len()";
        let began = std::time::Instant::now();
        assert_eq!(value(&mut session, text), "600000");
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
