//! Consul's own command line, unchanged, beside our agent: what it prints and how it ends is what it does beside a Consul.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use had::Running;
use support::{Agent, Around, eventually, free_port};

mod had;
mod support;

const KEY: &str = "jgDVIyKhyVcJVJZWhTTWEDLa+j5+YKqPBzQ4Zm5wYMc=";
const OTHER_KEY: &str = "eNbHWBYdz5pPJ4qGyXH9mVyMPlWnfKYKOHVXGHGJLbU=";

/// A server that gossips, and Consul's command line in a folder of its own.
struct Beside {
    agent: Agent,
    gossip: u16,
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Beside {
    /// `None` where there is no Consul on this machine.
    fn start() -> Option<Self> {
        let program = had::consul()?;
        let (dir, gossip) = (tempfile::tempdir().unwrap(), free_port());
        let ports = format!("ports {{\n server = {}\n serf_lan = {gossip}\n serf_wan = {}\n}}", free_port(), free_port());
        let settings = "node_meta {\n zone = \"z1\"\n}\nenable_debug = true";
        let encrypt = format!("-encrypt={KEY}");
        let flags = ["-node=here", "-server", "-bootstrap", "-hcl", &ports, "-hcl", settings, &encrypt];
        let mut agent = Agent::started(dir.path(), &flags, Around { member: true, ..Around::default() });
        agent.wait_for_leader();
        Some(Self { agent, gossip, program, dir })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("CONSUL_HTTP_ADDR", self.agent.http.to_string()).current_dir(self.dir.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Ends well, and prints it.
    #[track_caller]
    fn says(&self, args: &[&str], parts: &[&str]) {
        self.ends(0, args, parts);
    }

    #[track_caller]
    fn ends(&self, code: i32, args: &[&str], parts: &[&str]) {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "consul {args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "consul {args:?} says not {part:?}: {text}");
        }
    }

    /// A watch, or another command that goes on until it is ended.
    fn begin(&self, args: &[&str], out: &Path) -> Running {
        let out = std::fs::File::create(out).unwrap();
        Running(self.command(args).stdout(out).stderr(Stdio::null()).spawn().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn members_catalog_and_services() {
    let Some(beside) = Beside::start() else { return };
    beside.says(&["members"], &["here", "alive", "server", "dc1"]);
    beside.says(&["members", "-detailed"], &["role=consul", "wan_join_port="]);
    beside.says(&["members", "-wan"], &["here.dc1"]);
    beside.ends(2, &["members", "-status=left"], &[]);
    beside.says(&["catalog", "datacenters"], &["dc1"]);
    beside.says(&["catalog", "nodes", "-detailed"], &["here", "zone=z1", "lan=127.0.0.1"]);
    beside.says(&["catalog", "nodes", "-service=consul", "-near=_agent"], &["here"]);
    beside.says(&["catalog", "nodes", "-filter=Meta.zone == z1"], &["here"]);
    beside.ends(1, &["catalog", "nodes", "-filter=Bad =="], &["Failed to create boolean expression evaluator"]);
    beside.ends(1, &["catalog", "nodes", "-datacenter=elsewhere"], &["No path to datacenter"]);

    beside.write(
        "web.json",
        r#"{"service":{"name":"web","port":80,"tags":["a","b"],"meta":{"v":"1"},"check":{"ttl":"1h","status":"passing"}}}"#,
    );
    beside.write(
        "db.hcl",
        "services {\n id = \"db2\"\n name = \"db\"\n tagged_addresses { lan { address = \"192.0.2.9\" port = 9 } }\n \
         weights { passing = 3 warning = 1 }\n enable_tag_override = true\n}\n",
    );
    beside.says(&["services", "register", "web.json"], &["Registered service: web"]);
    beside.says(&["services", "register", "db.hcl"], &["Registered service: db"]);
    beside.says(&["services", "register", "-name=api", "-id=api1", "-tag=x", "-meta=k=v"], &["Registered service: api"]);
    eventually("the services are in the catalog", || {
        let text = String::from_utf8_lossy(&beside.run(&["catalog", "services", "-tags"]).stdout).into_owned();
        ["api", "web", "a,b", "db", "consul"].iter().all(|part| text.contains(part))
    });
    beside.says(&["catalog", "nodes", "-service=web"], &["here"]);
    beside.says(&["maint", "-enable", "-service=api1", "-reason=why"], &["Service maintenance is now enabled for \"api1\""]);
    beside.says(&["maint"], &["ID:     api1", "Reason: why"]);
    beside.says(&["maint", "-disable", "-service=api1"], &["Service maintenance is now disabled for \"api1\""]);
    beside.says(&["services", "deregister", "-id=web"], &["Deregistered service: web"]);
    beside.says(&["services", "deregister", "db.hcl"], &["Deregistered service: db2"]);
    beside.says(&["services", "deregister", "-id=nothing"], &["Deregistered service: nothing"]);

    beside.says(&["info"], &["agent:", "\tleader = true", "raft:", "serf_lan:"]);
    let join = format!("127.0.0.1:{}", beside.gossip);
    beside.says(&["join", &join], &["Successfully joined cluster by contacting 1 nodes."]);
    beside.ends(1, &["join", "127.0.0.1:1"], &["Error joining address '127.0.0.1:1'"]);
    beside.ends(1, &["force-leave", "nobody"], &["No node found with name 'nobody'"]);
    beside.says(&["reload"], &["Configuration reload triggered"]);
    beside.says(&["rtt", "-wan", "here.dc1"], &["Estimated here.dc1 <-> here.dc1 rtt:"]);
    beside.ends(1, &["intention", "create", "a", "b"], &["404"]);
}

#[test]
fn keys_locks_events_and_watches() {
    let Some(beside) = Beside::start() else { return };
    beside.says(&["kv", "put", "a/b", "one"], &["Success! Data written to: a/b"]);
    beside.says(&["kv", "put", "-flags=42", "a/c", "two"], &["Success!"]);
    beside.says(&["kv", "put", "-base64", "a/d", "aGVsbG8="], &["Success!"]);
    beside.says(&["kv", "get", "a/d"], &["hello"]);
    beside.says(&["kv", "get", "-detailed", "a/c"], &["Flags            42", "Session          -", "Value            two"]);
    beside.says(&["kv", "get", "-recurse", "a/"], &["a/b:one\na/c:two\na/d:hello\n"]);
    beside.says(&["kv", "get", "-keys", "-separator=", ""], &["a/b\na/c\na/d\n"]);
    beside.ends(1, &["kv", "put", "-cas", "-modify-index=1", "a/b", "x"], &["CAS failed"]);
    beside.says(&["kv", "put", "sp ace/ü", "v"], &["Success! Data written to: sp ace/ü"]);
    beside.ends(1, &["kv", "put", "-acquire", "-session=none", "a/l", "x"], &["failed session lookup"]);
    beside.ends(1, &["kv", "get", "none"], &["No key exists at: none"]);
    let export = beside.run(&["kv", "export", "a/"]).stdout;
    std::fs::write(beside.dir.path().join("export.json"), &export).unwrap();
    beside.says(&["kv", "delete", "-recurse", "a/"], &["Success! Deleted keys with prefix: a/"]);
    beside.says(&["kv", "import", "@export.json"], &["Imported: a/b", "Imported: a/d"]);
    assert_eq!(beside.run(&["kv", "export", "a/"]).stdout, export);

    beside.ends(2, &["lock", "-verbose", "-child-exit-code", "my/lock", "echo got it; exit 3"], &["got it", "Cleanup succeeded"]);
    beside.says(&["lock", "-n=2", "my/sem", "echo sem $CONSUL_LOCK_HELD"], &["sem true"]);
    let held = beside.begin(&["lock", "my/held", "echo in; sleep 60"], &beside.dir.path().join("held.txt"));
    eventually("somebody holds the lock", || beside.read("held.txt").contains("in"));
    beside.ends(1, &["lock", "-try=1s", "my/held", "echo never"], &["timeout during lock acquisition"]);
    beside.agent.get("/v1/session/list").json().as_array().unwrap().iter().for_each(|session| {
        beside.agent.done(&format!("/v1/session/destroy/{}", session["ID"].as_str().unwrap()), "");
    });
    drop(held);

    let _watch = beside.begin(&["watch", "-type=keyprefix", "-prefix=w/", "cat"], &beside.dir.path().join("watched.txt"));
    beside.says(&["kv", "put", "w/x", "1"], &[]);
    eventually("the watch says the first", || beside.read("watched.txt").contains(r#""Value":"MQ==""#));
    beside.says(&["kv", "put", "w/x", "2"], &[]);
    eventually("the watch says the second", || beside.read("watched.txt").contains(r#""Value":"Mg==""#));
    for (args, part) in [
        (&["watch", "-type=service", "-service=consul"][..], r#""Service": "consul""#),
        (&["watch", "-type=checks", "-state=any"], r#""CheckID": "serfHealth""#),
        (&["watch", "-type=nodes"], r#""Node": "here""#),
        (&["watch", "-type=services"], r#""consul": []"#),
        (&["watch", "-type=key", "-key=w/x"], r#""Key": "w/x""#),
    ] {
        beside.says(args, &[part]);
    }
    beside.says(&["event", "-name=deploy", "payload"], &["Event ID: "]);
    eventually("the event is heard of", || {
        String::from_utf8_lossy(&beside.run(&["watch", "-type=event", "-name=deploy"]).stdout).contains(r#""Name": "deploy""#)
    });
    beside.ends(1, &["event", "-name=x", "-node=("], &[]);
}

#[test]
fn snapshots_servers_and_keys_of_gossip() {
    let Some(mut beside) = Beside::start() else { return };
    beside.says(&["kv", "put", "before/save", "1"], &[]);
    beside.says(&["snapshot", "save", "one.snap"], &["Saved and verified snapshot to index "]);
    beside.says(&["snapshot", "save", "-stale", "two.snap"], &["Saved and verified snapshot to index "]);
    beside.says(&["snapshot", "inspect", "one.snap"], &["ID ", "Size ", "Index ", "Term ", "Version      2"]);
    beside.says(&["kv", "put", "after/save", "1"], &[]);
    beside.says(&["snapshot", "restore", "one.snap"], &["Restored snapshot"]);
    beside.ends(1, &["kv", "get", "after/save"], &["No key exists"]);
    beside.says(&["kv", "get", "before/save"], &["1"]);
    beside.write("bad.snap", "bad");
    beside.ends(1, &["snapshot", "restore", "bad.snap"], &["Unexpected response code: 500 (failed to decompress snapshot"]);

    beside.says(&["operator", "raft", "list-peers"], &["here", "leader", "true"]);
    beside.ends(1, &["operator", "raft", "remove-peer", "-id=x"], &["id \"x\" was not found in the Raft configuration"]);
    let set = ["operator", "autopilot", "set-config", "-max-trailing-logs=300", "-cleanup-dead-servers=false"];
    beside.says(&set, &["Configuration updated!"]);
    beside.says(&["operator", "autopilot", "get-config"], &["MaxTrailingLogs = 300", "CleanupDeadServers = false"]);

    let (key, other) = (format!("{KEY} [1/1]"), format!("{OTHER_KEY} [1/1]"));
    beside.says(&["keyring", "-list"], &["WAN:", "dc1 (LAN):", &key]);
    beside.says(&["keyring", &format!("-install={OTHER_KEY}")], &["Installing new gossip encryption key"]);
    beside.ends(1, &["keyring", &format!("-remove={KEY}")], &["emoving the primary key is not allowed"]);
    beside.says(&["keyring", &format!("-use={OTHER_KEY}")], &["Changing primary gossip encryption key"]);
    beside.says(&["keyring", "-list", "-relay-factor=2"], &[&key, &other]);
    beside.says(&["keyring", &format!("-remove={KEY}")], &["Removing gossip encryption key"]);
    beside.ends(1, &["keyring", "-install=bad"], &["500"]);

    let heard = beside.dir.path().join("heard.txt");
    let monitor = beside.begin(&["monitor", "-log-level=debug"], &heard);
    eventually("the log is heard", || {
        beside.agent.done("/v1/agent/reload", "");
        beside.read("heard.txt").contains("configuration reloaded")
    });
    drop(monitor);
    beside.ends(1, &["monitor", "-log-level=bad"], &["Unknown log level: bad"]);
    // No shorter time can be asked for. Profiles are Go's own: an agent that has none says so.
    beside.says(
        &["debug", "-duration=10s", "-interval=5s", "-output=dbg", "-capture=agent", "-capture=host", "-capture=cluster"],
        &["Agent Version: '1.22.0'", "Saved debug archive: dbg.tar.gz"],
    );
    beside.says(&["leave"], &["Graceful leave complete"]);
    assert!(beside.agent.ended(support::SOON).is_some_and(|(status, _)| status.success()));
}
