//! Scripts nest as deep as they like: they are parsed and run on a large stack, and where even that comes to its end the
//! script fails with an error instead of taking the process with it.

use super::bounds;
use rhai::{Dynamic, Engine, EvalAltResult, LexError, Position, Token};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of stack on which a script runs. Address space only: pages are taken as they are touched.
const SIZE: usize = 256 << 20;
/// Where a function that polls is stopped: the rest is for what it holds, as deep as the parser lets it be, and for a thousand
/// calls of functions that are not deep (`polls`), of some 100 KiB each.
const RUN: usize = 64 << 20;
/// Where parsing is stopped. What is parsed must be walked, run and dropped on the same stack.
const PARSE: usize = 64 << 20;

/// Nodes of a script's tree in one another that are run: they take 50 MiB of the stack at most.
pub(super) const DEEPEST: usize = 20_000;

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
        (None, Some(f)) => ticking(f),
        (None, None) => unreachable!("a task that was taken has given its value"),
    }
}

/// Runs `f` on the caller's stack while another thread, if there is room for a small one, counts the time.
fn ticking<T>(f: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tick = || {
            while !done.load(Ordering::Acquire) {
                std::thread::sleep(bounds::TICK);
                bounds::tick();
            }
        };
        // Without it a script is stopped by its native calls and polls alone.
        let _ = std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, tick);
        let value = std::panic::catch_unwind(AssertUnwindSafe(f));
        done.store(true, Ordering::Release);
        value.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes an engine in which the script room is installed look at the stack as it parses.
pub(super) fn guard(engine: &mut Engine) {
    // Marked so because Rhai may change it, not because it will go.
    let watch = crate::script::token_watch();
    #[allow(deprecated)]
    engine.on_parse_token(move |token, position, _| match used() > PARSE {
        true => Token::LexError(LexError::Runtime(TOO_DEEP.into()).into()),
        false => watch(token, position),
    });
}

/// Ends a script that was cancelled or has gone too deep.
pub(super) fn poll(cancelled: &AtomicBool) -> Result<(), Box<EvalAltResult>> {
    let end = match cancelled.load(Ordering::Relaxed) {
        true => Dynamic::UNIT,
        false if used() > RUN => Dynamic::from(TooDeep),
        false => return Ok(()),
    };
    Err(EvalAltResult::ErrorTerminated(end, Position::NONE).into())
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
