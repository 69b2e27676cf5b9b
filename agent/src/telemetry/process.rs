//! What this process uses: memory, files, tasks, time.
#![allow(clippy::disallowed_methods)] // the wall clock: intervals and start times are told as dates

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Gauge, Label, Recorder};

use super::names;

static VERSION_LABELS: [Label; 2] =
    [Label::from_static_parts("version", env!("CARGO_PKG_VERSION")), Label::from_static_parts("pre_release", "")];

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Handles to the gauges of the process.
#[derive(Debug)]
pub(super) struct Gauges {
    sys_bytes: Gauge,
    alloc_bytes: Gauge,
    tasks: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    start_time: Gauge,
    cpu_seconds: Gauge,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
}

impl Gauges {
    pub(super) fn new(recorder: &impl Recorder) -> Self {
        let gauge = |name| names::gauge(recorder, name, &[]);
        names::gauge(recorder, names::VERSION, &VERSION_LABELS).set(1.0);
        Self {
            sys_bytes: gauge(names::SYS_BYTES),
            alloc_bytes: gauge(names::ALLOC_BYTES),
            tasks: gauge(names::TASKS),
            open_fds: gauge(names::OPEN_FDS),
            max_fds: gauge(names::MAX_FDS),
            start_time: gauge(names::START_TIME),
            cpu_seconds: gauge(names::CPU_SECONDS),
            resident_bytes: gauge(names::RESIDENT_BYTES),
            virtual_bytes: gauge(names::VIRTUAL_BYTES),
        }
    }

    /// Reads `/proc` and sets them; what cannot be read keeps its value.
    pub(super) fn sample(&self) {
        if let Some(memory) = Memory::read() {
            self.sys_bytes.set(memory.resident as f64);
            self.alloc_bytes.set(memory.anonymous as f64);
            self.resident_bytes.set(memory.resident as f64);
            self.virtual_bytes.set(memory.size as f64);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.set(runtime.metrics().num_alive_tasks() as f64);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // The listing itself holds one open.
            self.open_fds.set(open.count().saturating_sub(1) as f64);
        }
        // Without a limit Prometheus' own client library tells the largest number.
        self.max_fds
            .set(rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map_or(u64::MAX as f64, |max| max as f64));
        if let Some(times) = Times::read() {
            self.cpu_seconds.set(times.cpu_seconds);
            if let Some(booted) = boot_time() {
                self.start_time.set(booted as f64 + times.started_after_boot);
            }
        }
    }
}

/// Bytes, out of `/proc/self/statm`.
struct Memory {
    size: u64,
    resident: u64,
    /// Without what maps files: the heap and stacks.
    anonymous: u64,
}

impl Memory {
    fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/statm").ok()?, rustix::param::page_size() as u64)
    }

    fn parse(statm: &str, page: u64) -> Option<Self> {
        let mut pages = statm.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
        let (size, resident, shared) = (pages.next()??, pages.next()??, pages.next()??);
        Some(Self { size: size * page, resident: resident * page, anonymous: resident.saturating_sub(shared) * page })
    }
}

/// Seconds, out of `/proc/self/stat`.
struct Times {
    cpu_seconds: f64,
    started_after_boot: f64,
}

impl Times {
    fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?, rustix::param::clock_ticks_per_second() as f64)
    }

    fn parse(stat: &str, ticks: f64) -> Option<Self> {
        // The program's name stands in parentheses and may hold anything, blanks and parentheses too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1 and the name is the second: utime 14, stime 15, starttime 22.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { cpu_seconds: (field(14)? + field(15)?) as f64 / ticks, started_after_boot: field(22)? as f64 / ticks })
    }
}

/// When the machine started, in seconds since 1970.
pub(super) fn boot_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1200 1 1";
        let times = Times::parse(stat, 100.0).unwrap();
        assert_eq!((times.cpu_seconds, times.started_after_boot), (2.0, 12.0));
        assert!(Times::parse("7 (a", 100.0).is_none() && Times::parse("7 (a) S 1", 100.0).is_none());
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        let memory = Memory::parse("100 10 4 1 0 9 0\n", 4096).unwrap();
        assert_eq!((memory.size, memory.resident, memory.anonymous), (409_600, 40_960, 24_576));
        assert!(Memory::read().unwrap().resident > 0);
    }
}
