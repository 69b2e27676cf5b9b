//! What the tests of the runner share.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests look at the clock and may panic

use std::time::{Duration, Instant};

use muster_catalog::{CheckDefinition, CheckId, ExecProbe, HttpProbe, OUTPUT_BYTES_MAX_DEFAULT, Probe, TcpProbe};
use muster_health::{Config, Handle, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn id(text: &str) -> CheckId {
    CheckId::new(text).unwrap()
}

pub(crate) fn check(id: &str, probe: Probe) -> CheckDefinition {
    CheckDefinition {
        id: self::id(id),
        name: id.into(),
        notes: Default::default(),
        service_id: None,
        status: None,
        probe,
        interval: SECOND,
        timeout: None,
        success_before_passing: 0,
        failures_before_warning: None,
        failures_before_critical: 0,
        deregister_critical_service_after: None,
        output_bytes_max: OUTPUT_BYTES_MAX_DEFAULT,
    }
}

pub(crate) fn http(id: &str, url: String) -> CheckDefinition {
    check(id, Probe::Http(HttpProbe { url, ..HttpProbe::default() }))
}

pub(crate) fn tcp(id: &str, address: impl ToString) -> CheckDefinition {
    check(id, Probe::Tcp(TcpProbe { address: address.to_string(), ..TcpProbe::default() }))
}

pub(crate) fn script(id: &str, script: &str) -> CheckDefinition {
    check(id, Probe::Exec(ExecProbe { args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() }))
}

/// A runner that runs.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        Self::start_with_room(config, muster_health::RESULTS_MAX)
    }

    pub(crate) fn start_with_room(config: Config, results_max: usize) -> Self {
        let (results, verdicts) = mpsc::channel(results_max);
        let (handle, driver) = muster_health::new(config, results);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(driver.run(async {
            let _ = stopped.await;
        }));
        Self { handle, verdicts, stop, task }
    }

    /// The next verdict.
    pub(crate) async fn verdict(&mut self) -> Verdict {
        let verdict = tokio::time::timeout(30 * SECOND, self.verdicts.recv()).await;
        verdict.expect("a verdict within 30 s").expect("the driver runs")
    }

    /// The first verdict from now on that is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Verdict) -> bool) -> Verdict {
        loop {
            let verdict = self.verdict().await;
            if wanted(&verdict) {
                return verdict;
            }
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("the driver runs");
        tokio::time::timeout(10 * SECOND, self.task).await.expect("it stops within 10 s").expect("it does not panic");
    }
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < 20 * SECOND, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A number of seconds that nobody else sleeps: by it a test finds its processes.
pub(crate) fn marker(test: u32) -> String {
    format!("8640{test}.{}", std::process::id())
}

/// How many processes have `marker` in their arguments.
pub(crate) fn processes_with(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let arguments = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    arguments.filter(|arguments| String::from_utf8_lossy(arguments).contains(marker)).count()
}

/// How many children of this process are dead and not reaped.
pub(crate) fn zombies() -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let states = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let ours = states.filter(|state| {
        let mut fields = state.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(own.as_str())
    });
    ours.count()
}

/// How many descriptors this process holds.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
