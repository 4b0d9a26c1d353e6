//! How much memory is free: asked before a run that takes much.

use super::Work;
use crate::error::{Error, Result};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Runs that take less are not asked about.
const SMALL: u64 = 64 << 20;

impl Work {
    /// Fails when `bytes` are more than is free on this machine (or in its container), and says both figures. Mapped weights do
    /// not count: the system takes them back when it must.
    ///
    /// # Errors
    /// They do not fit.
    pub fn reserve(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes < SMALL { Ok(()) } else { fits(what, bytes, free()) }
    }
}

/// Bytes that can be had now, as far as the system tells.
fn free() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    match (system.available_memory(), system.cgroup_limits()) {
        (0, None) => u64::MAX,
        (available, None) => available,
        (available, Some(group)) => available.min(group.free_memory),
    }
}

fn fits(what: &str, bytes: u64, free: u64) -> Result<()> {
    if bytes <= free {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::limit(format!("{what} takes {} MiB of memory, but {} MiB are free", mebibytes(bytes), mebibytes(free)))
        .help("choose fewer features, shorter lists or fewer threads (--threads)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        assert!(fits("it", 5 << 20, 5 << 20).is_ok());
        let error = fits("unembed", (5 << 20) + 1, 4 << 20).unwrap_err();
        assert_eq!(error.message(), "unembed takes 6 MiB of memory, but 4 MiB are free");
        // This machine has some memory, and not all there could be.
        let work = Work::silent(1).unwrap();
        assert!(work.reserve("a test", SMALL).is_ok());
        assert!(work.reserve("a test", u64::MAX - 1).is_err());
    }
}
