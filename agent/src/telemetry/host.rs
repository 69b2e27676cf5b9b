//! What this host is made of, in the form of Consul's `/v1/agent/host`.
//!
//! The names are those of gopsutil's JSON, which Consul passes on. What is read here and may be missing on a machine is
//! zero or empty, as there.

use std::path::Path;

use serde::Serialize;

use super::process;

/// A host, as Consul tells of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostReport {
    pub(crate) memory: Memory,
    #[serde(rename = "CPU")]
    pub(crate) cpu: Vec<Cpu>,
    pub(crate) host: Host,
    pub(crate) disk: Disk,
    /// When it was collected, in nanoseconds since 1970.
    pub(crate) collection_time: u64,
    /// What could not be read; `null` if all could.
    pub(crate) errors: Option<Vec<String>>,
}

/// Bytes out of `/proc/meminfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) used_percent: f64,
    pub(crate) free: u64,
    pub(crate) active: u64,
    pub(crate) inactive: u64,
    pub(crate) buffers: u64,
    pub(crate) cached: u64,
    pub(crate) write_back: u64,
    pub(crate) dirty: u64,
    pub(crate) shared: u64,
    pub(crate) slab: u64,
    pub(crate) page_tables: u64,
    pub(crate) swap_cached: u64,
    pub(crate) commit_limit: u64,
    #[serde(rename = "committedAS")]
    pub(crate) committed_as: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
    pub(crate) mapped: u64,
}

/// One core out of `/proc/cpuinfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cpu {
    pub(crate) cpu: u32,
    pub(crate) vendor_id: String,
    pub(crate) family: String,
    pub(crate) model: String,
    pub(crate) stepping: i32,
    pub(crate) physical_id: String,
    pub(crate) core_id: String,
    pub(crate) cores: u32,
    pub(crate) model_name: String,
    pub(crate) mhz: f64,
    pub(crate) cache_size: i32,
    pub(crate) flags: Vec<String>,
    pub(crate) microcode: String,
}

/// The operating system.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host {
    pub(crate) hostname: String,
    pub(crate) uptime: u64,
    pub(crate) boot_time: u64,
    pub(crate) procs: u64,
    pub(crate) os: String,
    pub(crate) platform: String,
    pub(crate) platform_family: String,
    pub(crate) platform_version: String,
    pub(crate) kernel_version: String,
    pub(crate) kernel_arch: String,
    pub(crate) virtualization_system: String,
    pub(crate) virtualization_role: String,
    pub(crate) host_id: String,
}

/// The file system that holds the data directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Disk {
    pub(crate) path: String,
    pub(crate) fstype: String,
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
    pub(crate) used_percent: f64,
    pub(crate) inodes_total: u64,
    pub(crate) inodes_used: u64,
    pub(crate) inodes_free: u64,
    pub(crate) inodes_used_percent: f64,
}

/// Looks at this host, and at the file system of `path` (the data directory; `/` without one). It reads some small files.
pub(crate) fn host_report(path: &Path) -> HostReport {
    let mut errors = Vec::new();
    let mut read = |file: &str| match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            errors.push(format!("cannot read {file}: {error}"));
            String::new()
        }
    };
    let memory = Memory::parse(&read("/proc/meminfo"));
    let cpu = cpus(&read("/proc/cpuinfo"));
    let host = Host::read(&read("/proc/uptime"));
    let disk = Disk::read(path, &read("/proc/self/mounts")).unwrap_or_else(|error| {
        errors.push(format!("cannot look at the file system of {}: {error}", path.display()));
        Disk { path: path.display().to_string(), ..Disk::default() }
    });
    let collection_time = u64::try_from(process::now().as_nanos()).unwrap_or(u64::MAX);
    HostReport { memory, cpu, host, disk, collection_time, errors: (!errors.is_empty()).then_some(errors) }
}

impl Memory {
    fn parse(meminfo: &str) -> Self {
        let of = |wanted: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
        };
        let (total, available) = (of("MemTotal"), of("MemAvailable"));
        let used = total.saturating_sub(available);
        Self {
            total,
            available,
            used,
            used_percent: percent(used, total),
            free: of("MemFree"),
            active: of("Active"),
            inactive: of("Inactive"),
            buffers: of("Buffers"),
            cached: of("Cached"),
            write_back: of("Writeback"),
            dirty: of("Dirty"),
            shared: of("Shmem"),
            slab: of("Slab"),
            page_tables: of("PageTables"),
            swap_cached: of("SwapCached"),
            commit_limit: of("CommitLimit"),
            committed_as: of("Committed_AS"),
            swap_total: of("SwapTotal"),
            swap_free: of("SwapFree"),
            mapped: of("Mapped"),
        }
    }
}

fn cpus(cpuinfo: &str) -> Vec<Cpu> {
    cpuinfo.split("\n\n").filter_map(cpu).collect()
}

fn cpu(block: &str) -> Option<Cpu> {
    let of = |wanted: &str| {
        let pairs = block.lines().filter_map(|line| line.split_once(':'));
        pairs.into_iter().find(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim()).unwrap_or_default()
    };
    Some(Cpu {
        cpu: of("processor").parse().ok()?,
        vendor_id: of("vendor_id").to_owned(),
        family: of("cpu family").to_owned(),
        model: of("model").to_owned(),
        stepping: of("stepping").parse().unwrap_or_default(),
        physical_id: of("physical id").to_owned(),
        core_id: of("core id").to_owned(),
        cores: 1,
        model_name: of("model name").to_owned(),
        mhz: of("cpu MHz").parse().unwrap_or_default(),
        cache_size: of("cache size").trim_end_matches(" KB").parse().unwrap_or_default(),
        flags: of("flags").split_ascii_whitespace().map(str::to_owned).collect(),
        microcode: of("microcode").to_owned(),
    })
}

impl Host {
    fn read(uptime: &str) -> Self {
        let kernel = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let of = |wanted: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let (platform, like) = (of("ID"), of("ID_LIKE"));
        let family = like.split(' ').next().filter(|like| !like.is_empty()).unwrap_or(&platform).to_owned();
        let whole_seconds = uptime.split(['.', ' ']).next().unwrap_or_default();
        let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self {
            hostname: text(kernel.nodename()),
            uptime: whole_seconds.parse().unwrap_or_default(),
            boot_time: process::boot_time().unwrap_or_default(),
            procs: processes(),
            os: "linux".to_owned(),
            platform,
            platform_family: family,
            platform_version: of("VERSION_ID"),
            kernel_version: text(kernel.release()),
            kernel_arch: text(kernel.machine()),
            virtualization_system: String::new(),
            virtualization_role: String::new(),
            host_id: uuid::Uuid::try_parse(machine_id.trim()).map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

fn processes() -> u64 {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)).count() as u64
}

impl Disk {
    fn read(path: &Path, mounts: &str) -> rustix::io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let (total, free) = (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize);
        // Blocks kept for root are neither free nor used.
        let used = (found.f_blocks - found.f_bfree.min(found.f_blocks)) * found.f_frsize;
        let inodes_used = found.f_files.saturating_sub(found.f_ffree);
        Ok(Self {
            path: path.display().to_string(),
            fstype: file_system(path, mounts),
            total,
            free,
            used,
            used_percent: percent(used, used + free),
            inodes_total: found.f_files,
            inodes_used,
            inodes_free: found.f_ffree,
            inodes_used_percent: percent(inodes_used, found.f_files),
        })
    }
}

/// The type of the mount that a path lies under: the longest that fits, and of equal ones the last, which covers the others.
fn file_system(path: &Path, mounts: &str) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let under = mounts.filter(|(at, _)| path.starts_with(at));
    under.max_by_key(|(at, _)| at.len()).map(|(_, kind)| kind.to_owned()).unwrap_or_default()
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_told_in_consuls_words() {
        let report = serde_json::to_value(host_report(Path::new("/"))).unwrap();
        let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 6);
        for key in ["Memory", "CPU", "Host", "Disk", "CollectionTime", "Errors"] {
            assert!(keys.contains(&key), "{key}");
        }
        assert!(report["Memory"]["total"].as_u64().unwrap() > 0 && report["Memory"]["usedPercent"].is_number());
        assert!(report["CPU"][0]["modelName"].is_string() && report["CollectionTime"].is_u64());
        assert!(
            report["Host"]["bootTime"].as_u64().unwrap() > 0 && !report["Host"]["kernelVersion"].as_str().unwrap().is_empty()
        );
        assert!(report["Disk"]["total"].as_u64().unwrap() > 0 && !report["Disk"]["fstype"].as_str().unwrap().is_empty());
        assert!(report["Errors"].is_null(), "{}", report["Errors"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error_in_the_report_and_no_more() {
        let report = host_report(Path::new("/no/such/place"));
        assert_eq!(report.disk.total, 0);
        assert!(report.errors.unwrap()[0].contains("/no/such/place") && report.memory.total > 0);
    }

    #[test]
    fn the_longest_mount_gives_the_type() {
        let mounts = "a / ext4 rw 0 0\nb /proc proc rw 0 0\nc / overlay rw 0 0\n";
        assert_eq!(file_system(Path::new("/proc"), mounts), "proc");
        assert_eq!(file_system(Path::new("/"), mounts), "overlay");
    }
}
