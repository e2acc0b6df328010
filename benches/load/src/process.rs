//! What Linux tells of a process: CPU, memory, descriptors, the processors it may use. No measurement is interpreted here.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::LoadError;

/// Descriptors beside the sockets: standard streams, the runtime's own, the publisher.
const DESCRIPTORS_SPARE: u64 = 64;

/// Raises the limit of open files as far as it goes, for this process and those it starts; an error if `sockets` do not fit.
pub(crate) fn raise_descriptor_limit(sockets: usize) -> Result<(), LoadError> {
    let mut limit = getrlimit(Resource::Nofile);
    let needed = sockets as u64 + DESCRIPTORS_SPARE;
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        return Err(LoadError::Usage(format!(
            "{sockets} connections need {needed} descriptors, the hard limit is {maximum}: raise it (ulimit -Hn) or ask for fewer"
        )));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
        .map_err(|errno| LoadError::io("raise the descriptor limit")(errno.into()))
}

/// Lets the calling thread, and what it starts, run on processor `cpu` only.
pub(crate) fn pin_to_cpu(cpu: usize) -> Result<(), LoadError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| {
        LoadError::io(format!("pin to CPU {cpu}: the measurement needs CPUs 0 and 1"))(errno.into())
    })
}

/// CPU time of this process so far.
pub(crate) fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("a second has 10^9 ns"))
}

/// Another process, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    /// The process `pid`, if it runs.
    pub(crate) fn of(pid: u32) -> Result<Process, LoadError> {
        let process = Process { pid };
        process.cpu_time().map(|_| process)
    }

    /// CPU time, user and system, ended threads included; in steps of a clock tick (10 ms).
    pub(crate) fn cpu_time(self) -> Result<Duration, LoadError> {
        let stat = self.read("stat")?;
        // The program's name may hold blanks and parentheses; what follows the last ")" has fixed places.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// CPU time of the threads that run now, to the nanosecond: for intervals in which no thread ends.
    pub(crate) fn cpu_time_exact(self) -> Result<Duration, LoadError> {
        let directory = format!("/proc/{}/task", self.pid);
        let threads = fs::read_dir(&directory).map_err(LoadError::io(format!("read {directory}")))?;
        let nanoseconds = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
            .filter_map(|schedstat| schedstat.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(self) -> Result<u64, LoadError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.ok_or_else(|| LoadError::Peer(format!("process {} has no VmRSS: it has ended", self.pid)))
    }

    fn read(self, file: &str) -> Result<String, LoadError> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).map_err(LoadError::io(format!("read {path}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_cpu_time() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.resident_kib().unwrap() > 100);
        assert!(own.cpu_time_exact().unwrap() > Duration::ZERO);
        assert!(own_cpu_time() > Duration::ZERO);
    }

    #[test]
    fn a_process_that_does_not_run_is_an_error() {
        assert!(matches!(Process::of(u32::MAX), Err(LoadError::Io { .. })));
    }

    #[test]
    fn more_sockets_than_descriptors_are_refused() {
        assert!(raise_descriptor_limit(10).is_ok());
        assert!(matches!(raise_descriptor_limit(1 << 40), Err(LoadError::Usage(_))));
    }
}
