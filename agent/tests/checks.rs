//! Checks of each kind, from their definition in a file or over HTTP to the catalog.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock; the helpers of a test may fail as its tests do

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::{Agent, Around, eventually};

type Well = Arc<AtomicBool>;

/// A server that speaks as much HTTP/2 as a ping and a gRPC health check hear.
fn h2(well: &Well) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let well = well.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, well) = (stream.unwrap(), well.clone());
            std::thread::spawn(move || speak(stream, &well));
        }
    });
    address
}

fn speak(mut stream: TcpStream, well: &AtomicBool) -> Option<()> {
    stream.read_exact(&mut [0; 24]).ok()?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).ok()?;
        let well = well.load(Ordering::SeqCst);
        match (kind, flags & 1) {
            (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).ok()?,
            (6, 0) if well => stream.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat()).ok()?,
            (6, 0) => return None,
            // The message is here: status 200 and the content type, then the answer, then its status.
            (0, 1) => {
                let head = [&[0x88, 0x0f, 0x10, 16], &b"application/grpc"[..]].concat();
                let said = [0, 0, 0, 0, 2, 8, if well { 1 } else { 2 }];
                let status = [&[0, 11], &b"grpc-status"[..], &[1, b'0']].concat();
                for (kind, flags, payload) in [(1, 4, &head[..]), (0, 0, &said[..]), (1, 5, &status[..])] {
                    let length = u8::try_from(payload.len()).unwrap();
                    stream.write_all(&[&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()).ok()?;
                }
            }
            _ => {}
        }
    }
}

/// A container engine, as far as an exec goes.
fn engine(path: &Path, well: &Well) {
    let listener = UnixListener::bind(path).unwrap();
    let well = well.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, well) = (stream.unwrap(), well.clone());
            std::thread::spawn(move || run(stream, &well));
        }
    });
}

fn run(stream: UnixStream, well: &AtomicBool) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).ok()?;
    }
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let exit = if well.load(Ordering::SeqCst) { 0 } else { 2 };
    let json = match head.split(' ').nth(1)? {
        "/containers/box/exec" => r#"{"Id":"e1"}"#.to_owned(),
        "/exec/e1/json" => format!(r#"{{"Running":false,"ExitCode":{exit}}}"#),
        _ => {
            let said = b"HTTP/1.1 200 OK\r\n\r\n\x01\0\0\0\0\0\0\x05inner";
            return stream.get_mut().write_all(said).ok();
        }
    };
    stream.get_mut().write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).as_bytes()).ok()
}

/// A program in the place of `systemctl`: services run while a file is there.
fn systemctl(folder: &Path, running: &Path) {
    let script = format!(
        "#!/bin/sh\n[ -e {} ] && state=active || state=failed\necho \"ActiveState=$state\"\necho SubState=x\n",
        running.display()
    );
    let program = folder.join("systemctl");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The checks of a service in the catalog: type → status and output.
fn checks(agent: &Agent, service: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = agent.get(&format!("/v1/health/checks/{service}")).json();
    all.as_array().unwrap().iter().map(|check| (text(&check["Type"]), (text(&check["Status"]), text(&check["Output"])))).collect()
}

#[test]
fn each_kind_of_check_goes_from_its_definition_to_the_catalog_and_follows_what_it_sees() {
    let folder = tempfile::tempdir().unwrap();
    let well = Well::new(AtomicBool::new(true));
    let h2 = h2(&well);
    let (socket, running) = (folder.path().join("engine.sock"), folder.path().join("running"));
    engine(&socket, &well);
    systemctl(folder.path(), &running);
    std::fs::write(&running, "").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = udp.local_addr().unwrap();
    let told = |name: &str| {
        json!({"service": {"name": name, "checks": [
            {"grpc": format!("{h2}/web"), "interval": "1s", "timeout": "5s"},
            {"h2ping": h2.to_string(), "h2ping_use_tls": false, "interval": "1s", "timeout": "5s"},
            {"udp": at.to_string(), "interval": "1s", "timeout": "300ms"},
            {"docker_container_id": "box", "args": ["look"], "interval": "1s", "timeout": "5s"},
            {"os_service": "web.service", "interval": "1s", "timeout": "5s"},
        ]}})
    };
    std::fs::write(folder.path().join("a.json"), told("of-json").to_string()).unwrap();
    let hcl = format!(
        "service {{\n name = \"of-hcl\"\n check {{\n grpc = \"{h2}\"\n interval = \"1s\"\n }}\n check {{\n udp = \"{at}\"\n \
         interval = \"1s\"\n timeout = \"300ms\"\n }}\n}}\n"
    );
    std::fs::write(folder.path().join("b.hcl"), hcl).unwrap();
    let toml = format!(
        "[[services]]\nname = \"of-toml\"\n[[services.checks]]\nh2ping = \"{h2}\"\nh2ping_use_tls = false\ninterval = \"1s\"\n\
         [[services.checks]]\nos_service = \"web\"\ninterval = \"1s\"\n"
    );
    std::fs::write(folder.path().join("c.toml"), toml).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let env = vec![("PATH".to_owned(), path), ("DOCKER_HOST".to_owned(), format!("unix://{}", socket.display()))];
    let mut flags = vec!["-hcl", "enable_script_checks = true"];
    let files = ["a.json", "b.hcl", "c.toml"].map(|file| folder.path().join(file).to_str().unwrap().to_owned());
    flags.extend(files.iter().flat_map(|file| ["-config-file", file.as_str()]));
    let agent = Agent::around(&flags, Around { env, ..Around::default() });
    let mut over_http = told("of-http")["service"].take();
    for (kind, check) in ["GRPC", "H2PING", "UDP", "docker", "OSService"].iter().zip(over_http["checks"].as_array_mut().unwrap())
    {
        check["Name"] = json!(kind);
    }
    agent.done("/v1/agent/service/register", over_http.to_string());

    let passing = |output: String| ("passing".to_owned(), output);
    let seen = |target: &str| {
        let all = [
            ("docker", passing("inner".to_owned())),
            ("grpc", passing(format!("gRPC check {target}: success"))),
            ("h2ping", passing("HTTP2 ping was successful".to_owned())),
            ("os_service", passing("Service \"web.service\" is healthy".to_owned())),
            ("udp", passing(format!("UDP connect {at}: Success"))),
        ];
        all.map(|(kind, seen)| (kind.to_owned(), seen)).into_iter().collect::<BTreeMap<_, _>>()
    };
    for service in ["of-json", "of-http"] {
        eventually(service, || checks(&agent, service) == seen(&format!("{h2}/web")));
    }
    for (service, kinds) in [("of-hcl", ["grpc", "udp"]), ("of-toml", ["h2ping", "os_service"])] {
        eventually(service, || {
            let checks = checks(&agent, service);
            checks.keys().eq(kinds.iter()) && checks.values().all(|(status, _)| status == "passing")
        });
    }
    let local = agent.get("/v1/agent/checks").json();
    let kinds: BTreeMap<&str, usize> = local.as_object().unwrap().values().fold(BTreeMap::new(), |mut kinds, check| {
        *kinds.entry(check["Type"].as_str().unwrap()).or_default() += 1;
        kinds
    });
    assert_eq!(kinds, [("docker", 2), ("grpc", 3), ("h2ping", 3), ("os_service", 3), ("udp", 3)].into());

    well.store(false, Ordering::SeqCst);
    std::fs::remove_file(&running).unwrap();
    drop(udp);
    for service in ["of-json", "of-http"] {
        eventually("all are critical", || checks(&agent, service).values().all(|(status, _)| status == "critical"));
    }
    let seen = checks(&agent, "of-http");
    assert!(seen["grpc"].1.ends_with("the server says of web: NOT_SERVING"), "{seen:?}");
    // a host that closes with bytes unread resets: whether the server had read ours is up to the moment
    let closed = ["the connection was closed", "connection reset by peer"].map(|how| format!("HTTP2 ping failed: {how}"));
    assert!(closed.contains(&seen["h2ping"].1), "{seen:?}");
    assert_eq!(seen["udp"].1, format!("udp {at}: connection refused"));
    assert_eq!(seen["docker"].1, "inner");
    assert_eq!(seen["os_service"].1, "Service \"web.service\" is failed (x)");
    assert!(agent.get("/v1/health/service/of-http?passing").json().as_array().unwrap().is_empty());
}

/// A service with a TTL check that reports.
fn reporting(agent: &Agent) {
    agent.done("/v1/agent/service/register", json!({"Name": "web", "Check": {"CheckID": "ttl", "TTL": "1h"}}).to_string());
}

fn told(agent: &Agent) -> (String, String) {
    checks(agent, "web").remove("ttl").unwrap_or_default()
}

fn pair(status: &str, output: &str) -> (String, String) {
    (status.to_owned(), output.to_owned())
}

#[test]
fn new_output_alone_waits_for_check_update_interval_and_a_new_status_does_not() {
    let agent = Agent::with(&["-hcl", "check_update_interval = \"1h\""]);
    reporting(&agent);
    agent.done("/v1/agent/check/pass/ttl?note=first", "");
    eventually("the status is told", || told(&agent) == pair("passing", "first"));
    agent.done("/v1/agent/check/pass/ttl?note=second", "");
    assert_eq!(agent.get("/v1/agent/checks").json()["ttl"]["Output"], "second");
    agent.done("/v1/agent/service/register", json!({"Name": "later"}).to_string());
    assert_eq!(told(&agent), pair("passing", "first"), "what came after it is in the catalog");
    agent.done("/v1/agent/check/warn/ttl?note=third", "");
    eventually("the new status is told", || told(&agent) == pair("warning", "third"));

    let agent = Agent::with(&["-hcl", "check_update_interval = \"1s\""]);
    reporting(&agent);
    agent.done("/v1/agent/check/pass/ttl?note=first", "");
    agent.done("/v1/agent/check/pass/ttl?note=second", "");
    eventually("the new output is told", || told(&agent) == pair("passing", "second"));
}

#[test]
fn discard_check_output_keeps_none_anywhere() {
    let agent = Agent::with(&["-hcl", "discard_check_output = true"]);
    reporting(&agent);
    agent.done("/v1/agent/check/warn/ttl?note=secret", "");
    eventually("the status is told", || told(&agent) == pair("warning", ""));
    assert_eq!(agent.get("/v1/agent/checks").json()["ttl"]["Output"], "");
}

#[test]
fn tls_of_checks_that_cannot_be_read_ends_the_start_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("roots.pem");
    let settings = format!("enable_agent_tls_for_checks = true\nca_file = \"{}\"", missing.display());
    let mut agent = Agent::started(folder.path(), &["-hcl", &settings], Around::default());
    let (status, _) = agent.ended(support::SOON).expect("it ends");
    assert!(!status.success());
    let log = agent.log();
    assert!(log.contains("enable_agent_tls_for_checks") && log.contains("roots.pem cannot be read as PEM"), "{log}");
}
