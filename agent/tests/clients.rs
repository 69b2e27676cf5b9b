//! Programs written for Consul, unchanged, beside our agent. A client that is not on this machine is said to be, on stderr;
//! `MUSTER_TEST_CLIENTS=install` gets those of the package registries, `require` also fails where one cannot be had.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // tests read the clock and may fail

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use had::{Running, answers, had, kept, programs, succeeds};
use serde_json::{Value, json};
use support::{Agent, Backend, SOON, eventually, free_port};

mod had;
mod support;

#[test]
fn prometheus_finds_targets_and_follows_them() {
    let program = kept().join("prometheus");
    if !had("Prometheus' Consul discovery", || had::built("prometheus"), Some(&mut had::go("prometheus"))) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let backend = Backend::new();
    let check = json!({"HTTP": backend.url(), "Interval": "1s"});
    let web = |id: &str, port: u16| json!({"Name": "web", "ID": id, "Address": "192.0.2.1", "Port": port}).to_string();
    let checked = json!({"Name": "web", "ID": "web-1", "Address": "192.0.2.1", "Port": 80, "Check": check});
    agent.done("/v1/agent/service/register", checked.to_string());
    let mut child =
        Command::new(program).arg(agent.http.to_string()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (line, lines) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let _running = Running(child);
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));

    targets(&lines, &[("192.0.2.1:80", "passing")]);
    agent.done("/v1/agent/service/register", web("web-2", 81));
    targets(&lines, &[("192.0.2.1:80", "passing"), ("192.0.2.1:81", "passing")]);
    backend.answers(500);
    targets(&lines, &[("192.0.2.1:80", "critical"), ("192.0.2.1:81", "passing")]);
    agent.done("/v1/agent/service/deregister/web-2", "");
    targets(&lines, &[("192.0.2.1:80", "critical")]);
}

/// Waits until the discovery has these targets of `web`, with their health.
fn targets(lines: &Receiver<String>, expected: &[(&str, &str)]) {
    let end = Instant::now() + SOON;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("never {expected:?}"));
        let all: Vec<Value> = serde_json::from_str(&line).unwrap();
        let web = all.iter().filter(|target| target["__meta_consul_service"] == "web");
        let found: Vec<_> =
            web.map(|t| (t["__address__"].as_str().unwrap(), t["__meta_consul_health"].as_str().unwrap())).collect();
        if found == expected {
            return;
        }
    }
}

#[test]
fn py_consul_registers_looks_up_watches_and_uses_kv() {
    let folder = kept().join("python");
    if !had("py-consul", || folder.join("consul").exists(), Some(&mut had::python("py-consul"))) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let port = agent.http.port().to_string();
    let mut program = Command::new("python3");
    let said = succeeds(program.arg(programs().join("client.py")).arg(port).env("PYTHONPATH", folder));
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn a_grpc_check_follows_a_server_of_grpcio() {
    let folder = kept().join("python-grpc");
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder).arg("grpcio-health-checking");
    if !had("grpcio", || folder.join("grpc_health").exists(), Some(&mut install)) {
        return;
    }
    let mut program = Command::new("python3");
    program.arg(programs().join("health.py")).env("PYTHONPATH", folder);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut tell, mut said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let _running = Running(child);
    let target = format!("127.0.0.1:{}/web", said.next().unwrap().unwrap());
    let mut tell = |word: &str| {
        writeln!(tell, "{word}").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "done");
    };
    let agent = Agent::with(&["-dev"]);
    let check = json!({"GRPC": target, "Interval": "1s", "Timeout": "5s"});
    agent.done("/v1/agent/service/register", json!({"Name": "web", "Check": check}).to_string());
    let shows = |status: &str, output: &str| {
        eventually(output, || {
            // At the agent: new output of the same status reaches the catalog much later.
            let check = &agent.get("/v1/agent/checks").json()["service:web"];
            check["Status"] == status && check["Output"] == output
        });
    };
    shows("critical", "rpc error: code = NotFound desc = ");
    tell("SERVING");
    shows("passing", &format!("gRPC check {target}: success"));
    tell("NOT_SERVING");
    shows("critical", "gRPC application didn't report service healthy: the server says of web: NOT_SERVING");
    tell("SERVING");
    shows("passing", &format!("gRPC check {target}: success"));
    tell("STOP");
    let address = target.trim_end_matches("/web");
    let refused = format!("dial tcp {address}: connect: connection refused");
    shows("critical", &format!("rpc error: code = Unavailable desc = {refused}"));
}

#[test]
fn hashicorps_go_client_locks_renews_sessions_watches_and_transacts() {
    let program = kept().join("lock");
    if !had("HashiCorp's Go client", || had::built("lock"), Some(&mut had::go("lock"))) {
        return;
    }
    // A session of it is to end within the test.
    let agent = Agent::with(&["-dev", "-hcl", "session_ttl_min = \"1s\""]);
    let said = succeeds(Command::new(program).arg("jobs").arg(agent.http.to_string()));
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn hashicorps_test_kit_starts_it_as_consul_fills_it_and_stops_it() {
    let program = kept().join("lock");
    if !had("HashiCorp's Go client", || had::built("lock"), Some(&mut had::go("lock"))) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_muster"), dir.path().join("consul")).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let said = succeeds(Command::new(program).arg("kit").env("PATH", path).env("TMPDIR", dir.path()));
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn consul_template_renders_services_and_keys_and_follows_them() {
    let program = kept().join("consul-template");
    let mut build = had::go_package("consul-template", "github.com/hashicorp/consul-template");
    if !had("consul-template", || had::built("consul-template"), Some(&mut build)) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let (dir, backend) = (tempfile::tempdir().unwrap(), Backend::new());
    let (template, rendered) = (dir.path().join("in.ctmpl"), dir.path().join("out"));
    let text = r#"{{ range service "web" }}passes {{ .ID }} {{ .Address }}:{{ .Port }} {{ .Tags | join "," }}
{{ end }}{{ range service "web|any" }}is {{ .ID }} {{ .Status }}
{{ end }}{{ range ls "config" }}{{ .Key }}={{ .Value }}
{{ end }}{{ range services }}{{ .Name }} {{ end }}{{ with node }}{{ .Node.Node }}{{ end }}
"#;
    std::fs::write(&template, text).unwrap();
    agent.done("/v1/kv/config/colour", "blue");
    let mut run = Command::new(program);
    run.args(["-consul-addr", &agent.http.to_string(), "-log-level", "err", "-template"]);
    run.arg(format!("{}:{}", template.display(), rendered.display()));
    let _running = Running(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let shows = |expected: &str| {
        let mut last = String::new();
        let end = Instant::now() + SOON;
        while last != expected {
            assert!(Instant::now() < end, "never {expected:?}, but {last:?}");
            std::thread::sleep(Duration::from_millis(20));
            last = std::fs::read_to_string(&rendered).unwrap_or_default();
        }
    };
    shows("colour=blue\nconsul here\n");
    let check = json!({"HTTP": backend.url(), "Interval": "1s"});
    let web = json!({"Name": "web", "ID": "web-1", "Address": "192.0.2.1", "Port": 80, "Tags": ["a", "b"], "Check": check});
    agent.done("/v1/agent/service/register", web.to_string());
    shows("passes web-1 192.0.2.1:80 a,b\nis web-1 passing\ncolour=blue\nconsul web here\n");
    agent.done("/v1/kv/config/colour", "red");
    agent.done("/v1/kv/config/size", "7");
    shows("passes web-1 192.0.2.1:80 a,b\nis web-1 passing\ncolour=red\nsize=7\nconsul web here\n");
    backend.answers(500);
    shows("is web-1 critical\ncolour=red\nsize=7\nconsul web here\n");
    agent.done("/v1/agent/service/deregister/web-1", "");
    agent.ask("DELETE", "/v1/kv/config?recurse", b"");
    shows("consul here\n");
}

#[test]
fn ecwids_java_client_registers_looks_up_watches_and_locks() {
    let folder = kept().join("java");
    let mut install = Command::new("mvn");
    install.args(["-q", "-B", "dependency:copy-dependencies", "-f"]).arg(programs().join("java/pom.xml"));
    install.arg(format!("-DoutputDirectory={}", folder.display()));
    if !had("Ecwid's Java client", || folder.exists() && answers("javac", "-version"), Some(&mut install)) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let mut program = Command::new("java");
    program.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(folder.join("*")).arg(programs().join("java/Client.java"));
    let said = succeeds(program.arg(agent.http.port().to_string()));
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn npm_consul_registers_looks_up_watches_and_uses_kv() {
    let folder = kept().join("node");
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg("consul");
    if !had("npm consul", || folder.join("node_modules/consul").exists(), Some(&mut install)) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let port = agent.http.port().to_string();
    let mut program = Command::new("node");
    let said = succeeds(program.arg(programs().join("client.js")).arg(port).env("NODE_PATH", folder.join("node_modules")));
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn haproxy_follows_a_service_by_srv() {
    let program = if answers("/usr/sbin/haproxy", "-v") { "/usr/sbin/haproxy" } else { "haproxy" };
    if !had("HAProxy", || answers(program, "-v"), None) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("haproxy.cfg"), dir.path().join("stats"));
    let config = format!(
        "global\n  stats socket {socket} level admin\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
         resolvers muster\n  nameserver agent {dns}\n  accepted_payload_size 4096\n  hold valid 1s\n  hold obsolete 0s\n  hold nx 0s\n\
         \x20 timeout resolve 200ms\n  timeout retry 200ms\n\
         frontend in\n  bind 127.0.0.1:{port}\n  default_backend web\n\
         backend web\n  server-template web 5 _web._tcp.service.consul resolvers muster resolve-prefer ipv4 init-addr none\n",
        socket = socket.display(),
        dns = agent.dns,
        port = free_port(),
    );
    std::fs::write(&file, config).unwrap();
    let child = Command::new(program).args(["-db", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _running = Running(child);
    eventually("HAProxy listens on its socket", || UnixStream::connect(&socket).is_ok());

    let backends = [Backend::new(), Backend::new(), Backend::new()];
    let register = |number: usize| {
        let backend: &Backend = &backends[number];
        let check = json!({"HTTP": backend.url(), "Interval": "1s", "Timeout": "1s"});
        let service = json!({
            "Name": "web", "ID": format!("web-{number}"), "Address": format!("192.0.2.{}", number + 1), "Port": backend.address.port(), "Check": check,
        });
        agent.done("/v1/agent/service/register", service.to_string());
    };
    register(0);
    eventually("HAProxy has one server", || servers(&socket) == ports(&backends[..1]));
    register(1);
    register(2);
    eventually("HAProxy has three", || servers(&socket) == ports(&backends));
    backends[2].answers(500);
    eventually("HAProxy has two", || servers(&socket) == ports(&backends[..2]));
}

fn ports(backends: &[Backend]) -> Vec<u16> {
    let mut ports: Vec<u16> = backends.iter().map(|backend| backend.address.port()).collect();
    ports.sort_unstable();
    ports
}

/// Ports of the servers that HAProxy uses, in order.
fn servers(socket: &Path) -> Vec<u16> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"show stat\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let mut rows = text.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let at = |name: &str| head.iter().position(|field| *field == name).unwrap();
    let (pool, status, address) = (at("pxname"), at("status"), at("addr"));
    // HAProxy does not look itself: a server is in use once DNS named it. Each has an address of its own, because
    // HAProxy 2.6 leaves one of three servers out whose records share a target.
    let up = rows.filter(|row| row.len() > address && row[pool] == "web" && row[status] == "no check");
    let mut ports: Vec<u16> = up.filter_map(|row| row[address].rsplit(':').next()?.parse().ok()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn dig_asks_over_udp_tcp_and_with_edns() {
    if !had("dig", || answers("dig", "-v"), None) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    for number in 0..40 {
        let service = json!({"Name": "web", "ID": format!("web-{number}"), "Address": format!("192.0.2.{number}"), "Port": 80});
        agent.done("/v1/agent/service/register", service.to_string());
    }
    let dig = |flags: &[&str]| {
        let port = agent.dns.port().to_string();
        let fixed = ["@127.0.0.1", "-p", &port, "+tries=3", "+time=3", "web.service.consul", "SRV"];
        let text = succeeds(Command::new("dig").args(fixed).args(flags));
        assert!(text.contains("status: NOERROR") && !text.contains("MALFORMED"), "{flags:?}: {text}");
        text.lines().filter(|line| !line.starts_with(';') && line.contains("\tSRV\t")).count()
    };
    eventually("all are found over TCP", || dig(&["+tcp"]) == 40);
    // Consul's limit for askers without EDNS.
    assert_eq!(dig(&["+noedns", "+ignore"]), 3);
    let (small, large) = (dig(&["+bufsize=1232", "+ignore"]), dig(&["+bufsize=4096", "+ignore"]));
    assert!(3 < small && small < large && large == 40, "{small}, {large}");
}
