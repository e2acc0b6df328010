//! What the machine says of this process: the memory that it uses and may use, and its descriptors.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted: version 2, version 2 beside version 1, the memory controller of version 1.
const MOUNTS: [(&str, &str); 3] = [
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// Bytes that this process has in memory; `None` where the machine does not say.
pub fn resident_bytes() -> Option<usize> {
    resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?.checked_mul(rustix::param::page_size())
}

/// What this process may use: what is configured, or what the machine gives it where that is 0.
pub fn memory_budget(configured: usize) -> usize {
    match configured {
        0 => allowed_bytes().unwrap_or(usize::MAX),
        bytes => bytes,
    }
}

/// Bytes that this process may use: the least of what its cgroups allow, those around it included, and what the machine has.
fn allowed_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_bytes(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = limit_files(&groups).into_iter();
    let limits = files.filter_map(|file| limit_bytes(&fs::read_to_string(file).ok()?));
    limits.chain(machine).min()
}

/// Descriptors that this process may have open.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Descriptors that this process has open, as the number of the next one says: the kernel gives out the lowest that is free.
pub fn descriptors_used() -> Option<usize> {
    usize::try_from(fs::File::open("/dev/null").ok()?.as_raw_fd()).ok()
}

/// The second number of `/proc/self/statm`.
fn resident_pages(statm: &str) -> Option<usize> {
    statm.split(' ').nth(1)?.parse().ok()
}

fn machine_bytes(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1_024)
}

/// `max`, or a number; version 1 says a number beyond any memory where there is no limit.
fn limit_bytes(text: &str) -> Option<usize> {
    text.trim().parse::<usize>().ok().filter(|bytes| *bytes < 1 << 60)
}

/// The files that may limit a process of these cgroups. Some of them do not exist: a container sees its own as the root.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_first_version = controllers.split(',').any(|controller| controller == "memory");
        if !is_first_version && !controllers.is_empty() {
            continue;
        }
        for (mount, file) in MOUNTS {
            if is_first_version == (file == "memory.limit_in_bytes") {
                let path = path.trim_start_matches('/');
                files
                    .extend(Path::new(path).ancestors().map(|group| Path::new(mount).join(group).join(file)));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_understood() {
        assert_eq!(resident_pages("1000 250 30 1 0 90 0\n"), Some(250));
        assert_eq!(machine_bytes("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        for (text, bytes) in
            [("536870912\n", Some(512 << 20)), ("max\n", None), ("9223372036854771712\n", None), ("", None)]
        {
            assert_eq!(limit_bytes(text), bytes, "{text:?}");
        }
        assert!(resident_bytes() > Some(1 << 20) && allowed_bytes() > resident_bytes());
    }

    #[test]
    fn a_group_and_those_around_it_limit_a_process() {
        let names = |groups: &str| {
            let files = limit_files(groups).into_iter();
            files.map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            names("0::/a/b\n")[..3],
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            names("5:memory:/box\n4:cpu:/box\n"),
            [
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
    }
}
