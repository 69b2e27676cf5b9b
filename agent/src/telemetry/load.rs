//! What this host does (`telemetry.enable_host_metrics`): its memory, its cores, and the file system of the data directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use metrics::{Gauge, Key, Label, Level, Metadata, Recorder};

use super::host::{HostReport, host_report};

/// Cores that are told of: five gauges each.
const CORES_MAX: usize = 128;
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);
const MEMORY: [&str; 4] = ["host.memory.total", "host.memory.available", "host.memory.used", "host.memory.used_percent"];
const DISK: [&str; 5] =
    ["host.disk.size", "host.disk.used", "host.disk.available", "host.disk.used_percent", "host.disk.inodes_percent"];
const CPU: [&str; 5] = ["host.cpu.user", "host.cpu.system", "host.cpu.idle", "host.cpu.iowait", "host.cpu.total"];

/// Handles to the gauges of the host.
#[derive(Debug)]
pub(super) struct Gauges {
    path: PathBuf,
    memory: [Gauge; 4],
    disk: [Gauge; 5],
    uptime: Gauge,
    cores: BTreeMap<String, [Gauge; 5]>,
    last: Mutex<BTreeMap<String, Ticks>>,
}

/// Time of a core since the machine started: user, system, idle, waiting for disks, and all.
type Ticks = [u64; 5];

impl Gauges {
    pub(super) fn new(recorder: &impl Recorder, path: PathBuf) -> Self {
        let gauge = |name: &'static str, label: Option<(&'static str, String)>| {
            let labels: Vec<Label> = label.into_iter().map(|(name, value)| Label::new(name, value)).collect();
            recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
        };
        let last = ticks(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
        let core = |core: &String| (core.clone(), CPU.map(|name| gauge(name, Some(("cpu", core.clone())))));
        Self {
            memory: MEMORY.map(|name| gauge(name, None)),
            disk: DISK.map(|name| gauge(name, Some(("path", path.display().to_string())))),
            uptime: gauge("host.uptime", None),
            cores: last.keys().map(core).collect(),
            last: Mutex::new(last),
            path,
        }
    }

    /// Reads `/proc` and sets them.
    pub(super) fn sample(&self) {
        let HostReport { memory, host, disk, .. } = host_report(&self.path);
        let set = |gauges: &[Gauge], values: &[f64]| gauges.iter().zip(values).for_each(|(gauge, value)| gauge.set(*value));
        set(&self.memory, &[memory.total as f64, memory.available as f64, memory.used as f64, memory.used_percent]);
        let used = [disk.used_percent, disk.inodes_used_percent];
        set(&self.disk, &[disk.total as f64, disk.used as f64, disk.free as f64, used[0], used[1]]);
        self.uptime.set(host.uptime as f64);
        let now = ticks(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (core, ticks) in &now {
            if let (Some(gauges), Some(before)) = (self.cores.get(core), last.get(core)) {
                set(gauges, &shares(before, ticks));
            }
        }
        *last = now;
    }
}

/// Percent of the time between: user, system, idle, waiting, and busy in all.
fn shares(before: &Ticks, now: &Ticks) -> [f64; 5] {
    let passed = |part: usize| now[part].saturating_sub(before[part]) as f64;
    let all = passed(4).max(1.0);
    let [user, system, idle, waiting] = [0, 1, 2, 3].map(|part| passed(part) / all * 100.0);
    [user, system, idle, waiting, (100.0 - idle - waiting).max(0.0)]
}

fn ticks(stat: &str) -> BTreeMap<String, Ticks> {
    let core = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| name.starts_with("cpu") && *name != "cpu")?;
        // user nice system idle iowait irq softirq steal; what guests use is in user.
        let times: Vec<u64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, waiting, ..] = times.as_slice() else { return None };
        Some((name.to_owned(), [user + nice, *system, *idle, *waiting, times.iter().sum()]))
    };
    stat.lines().filter_map(core).take(CORES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between() {
        let before = ticks("cpu  1 1 1 1\ncpu0 10 0 10 70 10 0 0 0 0 0\nintr 5\n");
        let now = ticks("cpu0 30 10 20 120 20 0 0 0 9 9\n");
        assert_eq!(before.len(), 1);
        assert_eq!(shares(&before["cpu0"], &now["cpu0"]), [30.0, 10.0, 50.0, 10.0, 40.0]);
        assert_eq!(shares(&now["cpu0"], &now["cpu0"]), [0.0, 0.0, 0.0, 0.0, 100.0]);
        assert!(!ticks(&std::fs::read_to_string("/proc/stat").unwrap()).is_empty());
    }
}
