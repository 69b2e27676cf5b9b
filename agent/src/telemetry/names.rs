//! Every metric there is: its name, what it means, and whether it is shown before it was first used.
//!
//! Names are Consul's where the thing is the same, without the prefix (`consul.`); times are in milliseconds where nothing
//! else is said. Rooms keep the names they record in a `metrics.rs` of their own; a test holds those against this list.

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Sample,
}

/// When a metric is first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// From the start: dashboards draw it, and a panel without a line looks like a fault.
    Always,
    /// When it was first recorded.
    Once,
}

use Kind::{Counter, Gauge, Sample};
use Seen::{Always, Once};

/// One metric.
pub(super) type Named = (&'static str, Kind, Seen, &'static str);

/// RSS of the process.
pub(super) const SYS_BYTES: &str = "runtime.sys_bytes";
/// RSS without pages of files.
pub(super) const ALLOC_BYTES: &str = "runtime.alloc_bytes";
/// Tasks alive.
pub(super) const TASKS: &str = "runtime.num_goroutines";
/// The program's version, as a label.
pub(super) const VERSION: &str = "version";
/// Open files and sockets.
pub(super) const OPEN_FDS: &str = "process_open_fds";
/// How many of them may be open.
pub(super) const MAX_FDS: &str = "process_max_fds";
/// When the process started.
pub(super) const START_TIME: &str = "process_start_time_seconds";
/// CPU time used.
pub(super) const CPU_SECONDS: &str = "process_cpu_seconds_total";
/// RSS.
pub(super) const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
/// Address space.
pub(super) const VIRTUAL_BYTES: &str = "process_virtual_memory_bytes";
/// Rows in the catalog and members, each with the label `datacenter`.
pub(super) const NODES: &str = "state.nodes";
/// See [`NODES`].
pub(super) const SERVICES: &str = "state.services";
/// See [`NODES`].
pub(super) const SERVICE_INSTANCES: &str = "state.service_instances";
/// See [`NODES`].
pub(super) const KV_ENTRIES: &str = "state.kv_entries";
/// See [`NODES`].
pub(super) const SERVERS: &str = "members.servers";
/// See [`NODES`].
pub(super) const CLIENTS: &str = "members.clients";

/// All of them, by name.
pub(super) const ALL: &[Named] = &[
    ("api.http", Sample, Once, "Answering an HTTP request, by method and route, ms"),
    ("autopilot.failure_tolerance", Gauge, Always, "Voting servers that may be lost without losing the quorum"),
    ("autopilot.healthy", Gauge, Always, "Whether all servers are healthy"),
    ("catalog.deregister", Sample, Once, "A deregistration through the catalog, ms"),
    ("catalog.register", Sample, Once, "A registration through the catalog, ms"),
    ("catalog.service.not-found", Counter, Once, "Questions to the catalog for services that are not there"),
    ("catalog.service.query", Counter, Once, "Questions to the catalog for a service, by service"),
    ("catalog.service.query-tag", Counter, Once, "Those with a tag"),
    ("catalog.service.query-tags", Counter, Once, "Those with several tags"),
    ("client.rpc", Counter, Always, "Requests of this agent to servers"),
    ("client.rpc.exceeded", Counter, Always, "Requests to servers refused by this agent's own limit"),
    ("client.rpc.failed", Counter, Always, "Requests to servers that failed"),
    ("dns.malformed", Counter, Once, "Packets that were no DNS query, or a broken one"),
    ("dns.query", Sample, Once, "A DNS answer, on average of its batch, by type, ms"),
    ("dns.stale_queries", Counter, Once, "DNS answers out of rows that no server vouched for"),
    ("dns.truncated", Counter, Once, "DNS answers shortened to what the asker takes"),
    ("dns.unsent", Counter, Once, "DNS answers that could not be sent"),
    ("feed.age", Gauge, Once, "How old what this agent answers with can be, ms"),
    ("feed.batches", Counter, Once, "Batches of changes that this agent entered"),
    ("feed.changes", Counter, Once, "Rows of the catalog that this agent was told of"),
    ("feed.connected", Gauge, Once, "Whether this agent follows a server at the moment"),
    ("feed.copy.bytes", Counter, Once, "Bytes written to this agent's own copy of the catalog"),
    ("feed.copy.rewrites", Counter, Once, "Times the copy was written anew as a whole"),
    ("feed.encoded", Counter, Once, "Batches of changes that this server made, each for all its followers"),
    ("feed.encoded.bytes", Counter, Once, "Bytes of those batches"),
    ("feed.followers", Gauge, Once, "Agents that follow this server"),
    ("feed.interest.dropped", Counter, Once, "Services that left the copy because others were asked for since"),
    ("feed.interest.services", Gauge, Once, "Services that the copy holds because they were asked for"),
    ("feed.position", Gauge, Once, "The last log index that this agent's catalog has"),
    ("feed.received.bytes", Counter, Once, "Bytes that arrived on feeds"),
    ("feed.resumes", Counter, Once, "Times a feed went on where another had ended"),
    ("feed.scans", Counter, Once, "Times this server looked through its tables for a follower"),
    ("feed.sent.bytes", Counter, Once, "Bytes handed to followers"),
    ("feed.silent", Counter, Once, "Feeds that fell silent, at either end, which gossip was told"),
    ("feed.snapshots", Counter, Once, "Times this agent got the whole catalog"),
    ("feed.travelled", Counter, Once, "Questions asked of a server because this agent's copy could not answer them"),
    ("health.check.duration", Sample, Once, "A run of a health check, by kind, seconds"),
    ("health.check.expired", Counter, Once, "TTL checks that nobody reported in time"),
    ("health.check.lag", Sample, Once, "How long after its beat a run of a health check starts, seconds"),
    ("health.check.running", Gauge, Once, "Runs of health checks that go on"),
    ("health.check.runs", Counter, Once, "Runs of health checks that ended, by kind and by what they saw"),
    ("health.service.not-found", Counter, Once, "Questions for the health of services that are not there"),
    ("health.service.query", Counter, Once, "Questions for the health of a service, by service"),
    ("health.service.query-tag", Counter, Once, "Those with a tag"),
    ("health.service.query-tags", Counter, Once, "Those with several tags"),
    ("host.cpu.idle", Gauge, Once, "Share of a core's time in which it had nothing to do, percent"),
    ("host.cpu.iowait", Gauge, Once, "Share of a core's time in which it waited for disks, percent"),
    ("host.cpu.system", Gauge, Once, "Share of a core's time for the system, percent"),
    ("host.cpu.total", Gauge, Once, "Share of a core's time in which it was busy, percent"),
    ("host.cpu.user", Gauge, Once, "Share of a core's time for programs, percent"),
    ("host.disk.available", Gauge, Once, "Room left in the data directory's file system, bytes"),
    ("host.disk.inodes_percent", Gauge, Once, "Inodes of the data directory's file system in use, percent"),
    ("host.disk.size", Gauge, Once, "Size of the data directory's file system, bytes"),
    ("host.disk.used", Gauge, Once, "Room in use in the data directory's file system, bytes"),
    ("host.disk.used_percent", Gauge, Once, "Room in use in the data directory's file system, percent"),
    ("host.memory.available", Gauge, Once, "Memory that programs may yet have on this host, bytes"),
    ("host.memory.total", Gauge, Once, "Memory of this host, bytes"),
    ("host.memory.used", Gauge, Once, "Memory in use on this host, bytes"),
    ("host.memory.used_percent", Gauge, Once, "Memory in use on this host, percent"),
    ("host.uptime", Gauge, Once, "How long this host has been running, seconds"),
    ("kvs.apply", Sample, Always, "A write to the KV store, ms"),
    ("leader.barrier", Sample, Once, "Until the leader has applied all that was committed, before it looks at members, ms"),
    ("leader.reconcile", Sample, Once, "Bringing all members into the catalog, ms"),
    ("leader.reconcileMember", Sample, Once, "Bringing one member into the catalog, ms"),
    (CLIENTS, Gauge, Once, "Client agents, by datacenter"),
    (SERVERS, Gauge, Once, "Server agents, by datacenter"),
    ("prepared-query.apply", Sample, Once, "A prepared query made, changed or removed, ms"),
    (CPU_SECONDS, Gauge, Once, "CPU time used, seconds"),
    (MAX_FDS, Gauge, Once, "Files and sockets that may be open"),
    (OPEN_FDS, Gauge, Once, "Open files and sockets"),
    (RESIDENT_BYTES, Gauge, Once, "Resident memory, bytes"),
    (START_TIME, Gauge, Once, "When the process started, seconds since 1970"),
    (VIRTUAL_BYTES, Gauge, Once, "Address space, bytes"),
    ("raft.applied_index", Gauge, Always, "The last entry applied to the catalog"),
    ("raft.apply", Counter, Always, "Writes offered to raft by this server"),
    ("raft.barrier", Counter, Once, "Waits for the catalog to have everything committed"),
    ("raft.boltdb.freelistBytes", Gauge, Always, "Bytes of the log's list of free pages; always 0 here"),
    ("raft.boltdb.getLog", Sample, Once, "Reading entries back from the disk, ms"),
    ("raft.boltdb.logBatchSize", Sample, Once, "Bytes in one commit of the log"),
    ("raft.boltdb.logsPerBatch", Sample, Always, "Entries in one commit of the log"),
    ("raft.boltdb.storeLogs", Sample, Always, "One commit of the log with its fsync, ms"),
    ("raft.busy", Counter, Once, "Writes refused because too many are under way"),
    ("raft.commitTime", Sample, Always, "From a write's offer to its outcome on the leader, ms"),
    ("raft.diskFull", Counter, Once, "Writes refused because the disk is almost full"),
    ("raft.fsm.apply", Sample, Always, "Applying one batch of entries to the catalog and publishing it, ms"),
    ("raft.fsm.lastRestoreDuration", Gauge, Always, "Restoring the snapshot at the start, ms"),
    ("raft.is_leader", Gauge, Always, "Whether this server leads"),
    ("raft.last_index", Gauge, Always, "The last entry in the log"),
    ("raft.leader.lastContact", Sample, Always, "How long ago a follower last heard of the leader, ms"),
    ("raft.leader.oldestLogAge", Gauge, Always, "Age of the oldest entry in the log, ms"),
    ("raft.replication.appendEntries.rpc", Sample, Once, "Sending entries to a follower, ms"),
    ("raft.replication.heartbeat", Sample, Once, "A heartbeat to a follower, ms"),
    ("raft.rpc.appendEntries", Sample, Once, "Taking entries from the leader, ms"),
    ("raft.rpc.installSnapshot", Sample, Always, "Taking a snapshot from the leader, ms"),
    ("raft.snapshot.create", Sample, Once, "Taking hold of the state for a snapshot, ms"),
    ("raft.snapshot.persist", Sample, Once, "Writing one snapshot, ms"),
    ("raft.snapshot.takeSnapshot", Sample, Once, "A whole snapshot, ms"),
    ("raft.state.candidate", Counter, Always, "Elections this server began"),
    ("raft.state.follower", Counter, Once, "Times this server began to follow"),
    ("raft.state.leader", Counter, Always, "Elections this server won"),
    ("raft.thread.fsm.saturation", Sample, Always, "Share of time in which the catalog's writer was busy"),
    ("raft.thread.main.saturation", Sample, Always, "Share of time in which raft was busy"),
    ("raft.verify_leader", Counter, Once, "Rounds that showed the leader that it still leads"),
    ("readers.woken", Counter, Once, "How often a read that waited was woken by a change"),
    ("reconcile.held", Gauge, Once, "Members that are gone, and whose services stay in the catalog for now"),
    ("rpc.accept_conn", Counter, Once, "Connections of other agents taken"),
    ("rpc.consistentRead", Sample, Once, "Making sure that a consistent read sees all that was acknowledged, ms"),
    ("rpc.queries_blocking", Gauge, Once, "Reads that wait for a change"),
    ("rpc.query", Counter, Once, "Reads asked of this server"),
    ("rpc.rate_limit.exceeded", Counter, Once, "Requests over the rate limit"),
    ("rpc.request", Counter, Once, "Requests to this server"),
    ("rpc.request_error", Counter, Once, "Requests to this server that failed"),
    ("rpc.server.call", Sample, Once, "Answering a call of another agent, by method, ms"),
    (ALLOC_BYTES, Gauge, Once, "Memory in use, bytes"),
    ("runtime.free_count", Gauge, Always, "Objects freed; of a garbage-collected runtime, always 0 here"),
    ("runtime.heap_objects", Gauge, Always, "Objects on the heap; of a garbage-collected runtime, always 0 here"),
    ("runtime.malloc_count", Gauge, Always, "Objects allocated; of a garbage-collected runtime, always 0 here"),
    (TASKS, Gauge, Once, "Tasks alive"),
    (SYS_BYTES, Gauge, Once, "Resident memory, bytes"),
    ("runtime.total_gc_pause_ns", Gauge, Always, "Pauses for garbage collection; there are none"),
    ("runtime.total_gc_runs", Gauge, Always, "Runs of a garbage collector; there is none"),
    ("server.isLeader", Gauge, Always, "Whether this server leads"),
    ("session.apply", Sample, Once, "A session begun or ended, ms"),
    ("session_ttl.active", Gauge, Always, "Sessions that have to be renewed, on the leader"),
    ("session_ttl.invalidate", Sample, Always, "Ending a session that was not renewed in time, ms"),
    (KV_ENTRIES, Gauge, Once, "Keys in the KV store, by datacenter"),
    (NODES, Gauge, Once, "Nodes in the catalog, by datacenter"),
    (SERVICE_INSTANCES, Gauge, Once, "Service instances in the catalog, by datacenter"),
    (SERVICES, Gauge, Once, "Services in the catalog, by datacenter"),
    ("txn.apply", Sample, Always, "A transaction, ms"),
    (VERSION, Gauge, Once, "The version of this program as labels; always 1"),
];

/// Tells the recorder what the names mean, and makes it show those that are always seen.
pub(super) fn describe(recorder: &impl Recorder) {
    for &(name, kind, seen, meaning) in ALL {
        let (described, meaning) = (KeyName::from_const_str(name), SharedString::const_str(meaning));
        match kind {
            Counter => recorder.describe_counter(described, None, meaning),
            Gauge => recorder.describe_gauge(described, None, meaning),
            Sample => recorder.describe_histogram(described, None, meaning),
        }
        let key = Key::from_static_name(name);
        match (seen, kind) {
            (Once, _) => {}
            (Always, Counter) => drop(recorder.register_counter(&key, &METADATA)),
            (Always, Gauge) => recorder.register_gauge(&key, &METADATA).set(0.0),
            (Always, Sample) => drop(recorder.register_histogram(&key, &METADATA)),
        }
    }
}

/// A handle to a gauge of this recorder.
pub(super) fn gauge(recorder: &impl Recorder, name: &'static str, labels: &'static [Label]) -> metrics::Gauge {
    recorder.register_gauge(&Key::from_static_parts(name, labels), &METADATA)
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_unique_and_of_consuls_letters() {
        for pair in ALL.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} stands before {}", pair[0].0, pair[1].0);
        }
        for (name, _, _, meaning) in ALL {
            let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            assert!(letters && name.split('.').all(|part| !part.is_empty()), "{name}");
            assert!(!meaning.is_empty() && !meaning.ends_with('.'), "{name}: {meaning}");
        }
    }

    #[test]
    fn names_stay_unique_in_prometheus_letters() {
        let flat: std::collections::BTreeSet<_> = ALL.iter().map(|(name, ..)| name.replace(['.', '-'], "_")).collect();
        assert_eq!(flat.len(), ALL.len());
    }

    #[test]
    fn what_rooms_record_is_in_the_list() {
        let rooms = [
            include_str!("../desk/feed/metrics.rs"),
            include_str!("../raft/metrics.rs"),
            include_str!("../rpc/metrics.rs"),
            include_str!("../../../health/src/metrics.rs"),
            include_str!("../../../dns/src/metrics.rs"),
        ];
        let mut found = 0;
        for line in rooms.iter().flat_map(|room| room.lines()).filter(|line| line.contains(": &str = ")) {
            let name = line.split('"').nth(1).unwrap_or_else(|| panic!("{line} holds a name"));
            assert!(ALL.iter().any(|(listed, ..)| *listed == name), "{name} is not in the list");
            found += 1;
        }
        assert!(found > 10, "{found}");
    }

    /// A panel that is drawn for a name and never gets a value looks like a fault of the agent.
    #[test]
    fn every_name_is_recorded_somewhere() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = ["src", "../dns/src", "../health/src"].map(|folder| root.join(folder)).to_vec();
        let mut program = String::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("telemetry/names.rs") {
                    program.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        // What has no meaning here stays at zero, and its description says so; what is named here is recorded by its constant.
        let own = [
            SYS_BYTES,
            ALLOC_BYTES,
            TASKS,
            VERSION,
            OPEN_FDS,
            MAX_FDS,
            START_TIME,
            CPU_SECONDS,
            RESIDENT_BYTES,
            VIRTUAL_BYTES,
            NODES,
            SERVICES,
            SERVICE_INSTANCES,
            KV_ENTRIES,
            SERVERS,
            CLIENTS,
        ];
        for (name, _, _, meaning) in ALL {
            let zero =
                meaning.contains("always 0 here") || meaning.contains("there are none") || meaning.contains("there is none");
            assert!(zero || own.contains(name) || program.contains(&format!("\"{name}\"")), "nothing records {name}");
        }
    }
}
