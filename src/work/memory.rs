//! How much memory is free: asked before a run that takes much.

use super::Work;
use crate::error::{Error, Result};
use std::fs;
use std::path::{Component, Path, PathBuf};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The system is not asked about runs that take less; the process's own limit holds for all.
const SMALL: u64 = 64 << 20;

impl Work {
    /// Fails when `bytes` are more than is free on this machine (or in its container), and says both figures. Mapped weights do
    /// not count: the system takes them back when it must.
    ///
    /// # Errors
    /// They do not fit.
    pub fn reserve(&self, what: &str, bytes: u64) -> Result<()> {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let own = free_addresses(&read("limits"), &read("status")).unwrap_or(u64::MAX);
        fits(what, bytes, if bytes < SMALL { own } else { own.min(free()) })
    }
}

/// Bytes that can be had now, as far as the system tells.
fn free() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // 0 where the system does not tell.
    let available = Some(System::new_with_specifics(memory).available_memory()).filter(|bytes| *bytes > 0);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = free_in_groups(Path::new("/sys/fs/cgroup"), &groups);
    available.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

/// What the process may still map by `ulimit -v`, where that is limited. The texts are those of Linux's /proc/self.
fn free_addresses(limits: &str, status: &str) -> Option<u64> {
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    // `unlimited` is no number.
    let limit: u64 = limit.split_whitespace().next()?.parse().ok()?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let used: u64 = used.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used << 10))
}

/// What the control groups of Linux that this process is in leave to it, where one has a limit. `groups` is the text of
/// /proc/self/cgroup: `0::/path` for version 2, `number:memory:/path` for version 1, below its own folder of `root`.
fn free_in_groups(root: &Path, groups: &str) -> Option<u64> {
    let of_line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, names) = match controllers {
            "" => (root.to_path_buf(), &VERSION_2),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), &VERSION_1),
            _ => return None,
        };
        // Limits hold for all groups within. In a container the path may be that outside: the root is then its own group.
        let inside: PathBuf = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        inside.ancestors().filter_map(|group| free_in_group(&root.join(group), names)).min()
    };
    groups.lines().filter_map(of_line).min()
}

/// What the files of a control group are called, and in its statistics the file cache, which the system takes back when it must.
struct Names {
    limit: &'static str,
    usage: &'static str,
    cache: [&'static str; 2],
}

const VERSION_1: Names =
    Names { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", cache: ["total_inactive_file", "total_active_file"] };
const VERSION_2: Names = Names { limit: "memory.max", usage: "memory.current", cache: ["inactive_file", "active_file"] };

fn free_in_group(folder: &Path, names: &Names) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    // `max`: no limit.
    let limit = number(&read(names.limit)?)?;
    let usage = number(&read(names.usage)?)?;
    let statistics = read("memory.stat").unwrap_or_default();
    let entries = statistics.lines().filter_map(|line| line.split_once(' '));
    let cache: u64 = entries.filter(|(name, _)| names.cache.contains(name)).filter_map(|(_, value)| number(value)).sum();
    Some(limit.saturating_sub(usage.saturating_sub(cache)))
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

    #[test]
    fn what_the_process_may_map_is_asked_about() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit  Hard Limit  Units\nMax data size  1 2 bytes\nMax address space         {soft}  unlimited  bytes\n"
            )
        };
        let status = "Name:\tit\nVmPeak:\t  400 kB\nVmSize:\t     300 kB\n";
        assert_eq!(free_addresses(&limits("1048576"), status), Some((1 << 20) - (300 << 10)));
        assert_eq!(free_addresses(&limits("1000"), status), Some(0));
        assert_eq!(free_addresses(&limits("unlimited"), status), None);
        assert_eq!(free_addresses("", ""), None);
    }

    #[test]
    fn file_cache_of_a_control_group_is_free() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let free = |groups: &str| free_in_groups(root.path(), groups);
        assert_eq!(free("0::/outer/inner\n"), None);
        put("outer/memory.max", "1000\n");
        put("outer/memory.current", "900\n");
        put("outer/memory.stat", "anon 150\nfile 750\ninactive_file 500\nactive_file 200\nslab 50\n");
        // The group itself has no limit; the one around it does.
        put("outer/inner/memory.max", "max\n");
        put("outer/inner/memory.current", "300\n");
        assert_eq!(free("0::/outer/inner\n"), Some(1000 - (900 - 700)));
        put("outer/inner/memory.max", "320\n");
        assert_eq!(free("0::/outer/inner\n"), Some(20), "without statistics nothing counts as cache");
        assert_eq!(free("0::/\n"), None);
        // A container's root is the group, whatever it is called outside.
        put("memory.max", "5000");
        put("memory.current", "6000");
        assert_eq!(free("0::/docker/abc\n0::/../up\n"), Some(0));

        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/memory.usage_in_bytes", "900\n");
        put("memory/jobs/one/memory.limit_in_bytes", "2000\n");
        put("memory/jobs/one/memory.usage_in_bytes", "1900\n");
        put("memory/jobs/one/memory.stat", "inactive_file 1\ntotal_inactive_file 600\ntotal_active_file 70\n");
        let groups = "5:cpu,cpuacct:/\n4:memory:/jobs/one\n";
        assert_eq!(free(groups), Some(2000 - (1900 - 670)));
        assert_eq!(free("4:memory:/\n"), Some(9223372036854771712 - 900));
        assert_eq!(free("5:cpu:/jobs/one\nnonsense\n"), None);
    }
}
