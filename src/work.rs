//! The handle that every long call receives: cancellation, progress, threads, device, seed and the place where text goes.
//!
//! There is no global state: two sessions in one process hold two `Work`s and do not see each other. Copies share
//! everything. Loops call [`Work::check`] at least every few milliseconds.

mod device;
mod memory;

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Where progress is shown. The terminal implements it with bars, a notebook with messages, a test with nothing.
pub trait Progress: Send + Sync {
    /// A piece of work of `total` steps begins; returns the observer of its steps.
    fn begin(&self, label: &str, total: u64) -> Box<dyn Steps>;
    /// As `begin`, of a transfer whose steps are bytes.
    fn begin_bytes(&self, label: &str, total: u64) -> Box<dyn Steps> {
        self.begin(label, total)
    }
}

/// Observer of one piece of work; dropped when the work ends.
pub trait Steps: Send + Sync {
    /// `n` further steps are done.
    fn advance(&self, n: u64);
    /// Says how the work stands, in place of its label.
    fn describe(&self, label: &str) {
        let _ = label;
    }
}

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What a script prints.
    Out,
    /// Warnings and notes.
    Err,
}

/// Receives printed text. One call is one line or block, without its final newline.
pub trait Sink: Send + Sync {
    /// Writes one line or block of text.
    fn write(&self, stream: Stream, text: &str);
}

struct Silent;
impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) -> Box<dyn Steps> {
        Box::new(Silent)
    }
}
impl Steps for Silent {
    fn advance(&self, _: u64) {}
}
impl Sink for Silent {
    fn write(&self, _: Stream, _: &str) {}
}

/// Cancel flag, progress, thread pool, device, seed and output of one session. Cheap to copy; copies share everything.
#[derive(Clone)]
pub struct Work {
    inner: Arc<Inner>,
    /// Set when nobody waits any more for the helper that this handle was made for.
    left: Option<Arc<AtomicBool>>,
}

struct Inner {
    cancel: Arc<AtomicBool>,
    progress: Box<dyn Progress>,
    sink: Box<dyn Sink>,
    pool: rayon::ThreadPool,
    seed: AtomicU64,
    draws: AtomicU64,
    device: OnceLock<candle_core::Device>,
}

impl Work {
    /// A handle with `threads` worker threads (0 = one per core), a seed, and the places for progress and text.
    pub fn new(threads: usize, seed: u64, progress: Box<dyn Progress>, sink: Box<dyn Sink>) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("saerepl-{i}"))
            .build()
            .map_err(|e| Error::limit(format!("cannot start {threads} threads: {e}")))?;
        let cancel = Arc::new(AtomicBool::new(false));
        let (seed, draws) = (AtomicU64::new(seed), AtomicU64::new(0));
        let inner = Arc::new(Inner { cancel, progress, sink, pool, seed, draws, device: OnceLock::new() });
        Ok(Work { inner, left: None })
    }

    /// A handle that shows nothing: for library users and tests.
    pub fn silent(threads: usize) -> Result<Self> {
        Self::new(threads, 0, Box::new(Silent), Box::new(Silent))
    }

    /// Fails once the user has asked to stop. Loops call it every few milliseconds.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// True once the user has asked to stop, or, in a helper, had asked when somebody still waited for it.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.load(Ordering::Relaxed) || self.left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed))
    }

    /// The flag itself, for a signal handler.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.inner.cancel)
    }

    /// Forgets an earlier request to stop: a new cell begins.
    pub fn reset_cancel(&self) {
        self.inner.cancel.store(false, Ordering::Relaxed);
    }

    /// Begins a piece of work of `total` steps, shown as a progress bar until the returned value is dropped.
    pub fn begin(&self, label: &str, total: u64) -> Box<dyn Steps> {
        self.inner.progress.begin(label, total)
    }

    /// Begins a transfer of `total` bytes, shown with its size and speed.
    pub fn begin_bytes(&self, label: &str, total: u64) -> Box<dyn Steps> {
        self.inner.progress.begin_bytes(label, total)
    }

    /// Number of worker threads.
    pub fn threads(&self) -> usize {
        self.inner.pool.current_num_threads()
    }

    /// Runs `f` inside this session's thread pool, so that rayon's iterators in it use these threads.
    pub fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.inner.pool.install(f)
    }

    /// The session's seed: what a call uses when its options name none.
    pub fn seed(&self) -> u64 {
        self.inner.seed.load(Ordering::Relaxed)
    }

    /// Number of the next draw under the session's seed: calls without a seed of their own follow each other like draws of
    /// one generator. Starts again when the seed is set.
    pub fn next_draw(&self) -> u64 {
        self.inner.draws.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes the session's seed.
    pub fn set_seed(&self, seed: u64) {
        self.inner.seed.store(seed, Ordering::Relaxed);
        self.inner.draws.store(0, Ordering::Relaxed);
    }

    /// Writes to the user's standard output.
    pub fn print(&self, text: &str) {
        self.inner.sink.write(Stream::Out, text);
    }

    /// Writes a note or warning.
    pub fn note(&self, text: &str) {
        self.inner.sink.write(Stream::Err, text);
    }

    /// Runs a call that cannot poll often enough (a decomposition, a download, a rasteriser) on a helper thread and returns as
    /// soon as it is done or the user asks to stop; then the helper's result is dropped when it arrives. What the call does
    /// poll is the handle it is given: that one stays cancelled when this one works on.
    pub fn detached<T: Send + 'static>(&self, f: impl FnOnce(&Work) -> Result<T> + Send + 'static) -> Result<T> {
        let (send, receive) = std::sync::mpsc::channel();
        let left = Arc::new(AtomicBool::new(false));
        let helper = Work { inner: Arc::clone(&self.inner), left: Some(Arc::clone(&left)) };
        std::thread::Builder::new()
            .name("saerepl-helper".into())
            .spawn(move || {
                // The receiver is gone when the user interrupted: nobody wants the result then.
                let _ = send.send(f(&helper));
            })
            .map_err(|e| Error::limit(format!("cannot start a thread: {e}")))?;
        loop {
            match receive.recv_timeout(std::time::Duration::from_millis(10)) {
                Ok(result) => return result,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    self.check().inspect_err(|_| left.store(true, Ordering::Relaxed))?
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("a helper thread stopped without a result"));
                }
            }
        }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("threads", &self.threads()).field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// What a test hears of a session's work: everything that is written, in its order. Copies share it.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<std::sync::Mutex<Vec<String>>>);

#[cfg(test)]
impl Heard {
    /// A handle whose texts come here.
    pub(crate) fn work(&self, threads: usize) -> Work {
        Work::new(threads, 0, Box::new(Silent), Box::new(self.clone())).unwrap()
    }

    /// What was written since this was last asked.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[cfg(test)]
impl Sink for Heard {
    fn write(&self, _: Stream, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_nobody_waits_for_stays_cancelled() {
        let work = Work::silent(1).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        work.cancel_flag().store(true, Ordering::Relaxed);
        let left = work.detached(move |helper| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            send.send(helper.check().is_err()).unwrap();
            Ok(())
        });
        assert!(left.is_err());
        work.reset_cancel();
        assert!(receive.recv().unwrap() && work.check().is_ok());
        assert_eq!(work.detached(|helper| helper.check().map(|()| 7)).unwrap(), 7);
    }
}
