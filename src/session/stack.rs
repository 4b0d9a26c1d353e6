//! Scripts nest as deep as they like: they are parsed and run on a large stack, and where even that comes to its end the
//! script fails with an error instead of taking the process with it.

use super::bounds;
use crate::work::Work;
use rhai::{Dynamic, Engine, LexError, Token};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of stack on which a script runs. Address space only: pages are taken as they are touched.
const SIZE: usize = 256 << 20;
/// Where a running script is stopped: the rest is for native calls.
const RUN: usize = 224 << 20;
/// Operations between two looks at the cancel flag and the stack: few enough that they cannot use up what is left of it.
const STRIDE: u64 = 8;
/// Where parsing is stopped. What is parsed must be walked, run and dropped on the same stack.
const PARSE: usize = 96 << 20;

/// What a script that comes to the end of the stack is terminated with.
#[derive(Clone)]
pub(super) struct TooDeep;

/// What the parser is told at the end of the stack.
pub(super) const TOO_DEEP: &str = "the script is nested too deeply";

thread_local! {
    /// Address near the base of a large stack; 0 on other threads.
    static BASE: Cell<usize> = const { Cell::new(0) };
}

/// Runs `f` on a large stack; the caller counts the time meanwhile.
pub(super) fn on_large<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if BASE.get() != 0 {
        return f();
    }
    let mut task = Some(f);
    let (done, waiting) = (AtomicBool::new(false), std::thread::current());
    let ran = std::thread::scope(|scope| {
        let (task, done) = (&mut task, &done);
        let run = move || {
            BASE.set(address());
            let value = task.take().map(|f| f());
            done.store(true, Ordering::Release);
            waiting.unpark();
            value
        };
        let thread = std::thread::Builder::new().name("saerepl-script".into()).stack_size(SIZE).spawn_scoped(scope, run);
        thread.ok().and_then(|thread| {
            while !done.load(Ordering::Acquire) && !thread.is_finished() {
                std::thread::park_timeout(bounds::TICK);
                bounds::tick();
            }
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    // No room for such a thread: the caller's own stack must do.
    match (ran, task) {
        (Some(value), _) => value,
        (None, Some(f)) => f(),
        (None, None) => unreachable!("a task that was taken has given its value"),
    }
}

/// Makes an engine in which the script room is installed poll the work's cancel flag and the stack.
pub(super) fn guard(engine: &mut Engine, work: &Work) {
    // Rhai asks at every operation, several times in each step of a loop: the answer must cost next to nothing. Operations that
    // take long are seen by the look at variables (`bounds`).
    let cancelled = work.cancel_flag();
    engine.on_progress(move |operations| if operations % STRIDE != 0 { None } else { end(&cancelled) });
    // Marked so because Rhai may change it, not because it will go.
    let watch = crate::script::token_watch();
    #[allow(deprecated)]
    engine.on_parse_token(move |token, position, _| match used() > PARSE {
        true => Token::LexError(LexError::Runtime(TOO_DEEP.into()).into()),
        false => watch(token, position),
    });
}

/// What a script ends with that was cancelled or has gone too deep.
#[cold]
#[inline(never)]
fn end(cancelled: &AtomicBool) -> Option<Dynamic> {
    if cancelled.load(Ordering::Relaxed) {
        return Some(Dynamic::UNIT);
    }
    (used() > RUN).then(|| Dynamic::from(TooDeep))
}

/// Bytes of the large stack in use; 0 on any other thread.
fn used() -> usize {
    match BASE.get() {
        0 => 0,
        base => base.abs_diff(address()),
    }
}

/// An address on the current stack.
fn address() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here) as usize
}
