//! `muster import`: out of the answers that a Consul 1.8.7 gave, and out of a Consul itself where one can be had.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use had::Running;
use serde_json::{Value, json};
use support::{Agent, eventually, free_port, request};

mod had;
mod support;

/// Answers as they were recorded; whatever else is asked is answered 404.
fn recorded() -> SocketAddr {
    let text = include_str!("import/consul-1.8.7.json");
    let answers: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answers = answers.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    let _head = lines.by_ref().map_while(Result::ok).find(String::is_empty);
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let (status, body) = match answers.get(path) {
                        Some(body) => ("200 OK", body.to_string()),
                        None => ("404 Not Found", String::new()),
                    };
                    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                }
            });
        }
    });
    address
}

/// A command's end, and all that it printed.
fn import(agent: &Agent, from: SocketAddr, flags: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["import", "-from", &format!("http://{from}"), "-http-addr", &agent.http.to_string()]).args(flags);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.success(), text)
}

/// The line of the report's last table for a kind: created, changed, differs, equal, left out, failed.
#[track_caller]
fn counts(text: &str, kind: &str) -> Vec<u32> {
    let numbers = |line: &str| line.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<u32>, _>>().ok();
    let line = text.lines().filter(|line| line.split_whitespace().next() == Some(kind)).filter_map(numbers).next_back();
    line.unwrap_or_else(|| panic!("no counts of {kind}: {text}"))
}

/// What holds of an import of that Consul, be it recorded or real.
fn imports(from: SocketAddr) {
    let agent = Agent::new();
    let all = |key: &str| agent.get(key).json();
    let (well, text) = import(&agent, from, &["-dry-run"]);
    assert!(well && text.contains("mesh") && text.contains("by itself"), "{text}");
    assert_eq!(counts(&text, "key"), [6, 0, 0, 0, 0, 0]);
    assert_eq!((all("/v1/kv/?keys"), all("/v1/query")), (json!([]), json!([])));
    assert_eq!(all("/v1/catalog/nodes").as_array().unwrap().len(), 1);

    let (well, text) = import(&agent, from, &[]);
    assert!(well, "{text}");
    assert_eq!(counts(&text, "node"), [3, 0, 0, 0, 1, 0]);
    assert_eq!(counts(&text, "service"), [2, 0, 0, 0, 1, 0]);
    assert_eq!(counts(&text, "check"), [2, 0, 0, 0, 0, 0]);
    assert_eq!(counts(&text, "query"), [1, 0, 0, 0, 0, 0]);
    assert_eq!((agent.get("/v1/kv/app/a?raw").text(), all("/v1/kv/app/a")[0]["Flags"].clone()), ("one".to_owned(), json!(42)));
    assert_eq!(agent.get("/v1/kv/app/sp%20ace/%C3%BC?raw").text(), "u");
    assert_eq!(all("/v1/kv/lock/one")[0]["Session"], Value::Null);
    let printer = &all("/v1/health/service/ipp")[0];
    assert_eq!(
        (&printer["Service"]["Weights"]["Passing"], &printer["Node"]["Meta"]["external-node"]),
        (&json!(5), &json!("true"))
    );
    assert_eq!((&printer["Checks"][0]["Status"], &printer["Checks"][0]["Output"]), (&json!("critical"), &json!("refused")));
    assert_eq!(all("/v1/catalog/service/gateway"), json!([]));
    assert_eq!(all("/v1/query")[0]["Service"]["OnlyPassing"], true);

    // Again: nothing is written.
    let before = all("/v1/kv/?recurse");
    let (well, text) = import(&agent, from, &[]);
    assert!(well, "{text}");
    for (kind, equal) in [("key", 6), ("node", 3), ("service", 2), ("check", 2), ("query", 1)] {
        assert_eq!(counts(&text, kind)[..4], [0, 0, 0, equal], "{kind}: {text}");
    }
    assert_eq!(all("/v1/kv/?recurse"), before);

    // What was changed here stays, unless it is said otherwise.
    agent.done("/v1/kv/app/a", "newer");
    let moved = json!({"Node": "printer", "Address": "192.0.2.7"});
    agent.done("/v1/catalog/register", moved.to_string());
    let (well, text) = import(&agent, from, &[]);
    assert!(well && text.contains("-force"), "{text}");
    assert_eq!((counts(&text, "key")[2], counts(&text, "node")[2]), (1, 1), "{text}");
    assert_eq!(agent.get("/v1/kv/app/a?raw").text(), "newer");
    let (well, text) = import(&agent, from, &["-force", "-kv", "-prefix=app/"]);
    assert!(well, "{text}");
    assert_eq!(counts(&text, "key"), [0, 1, 0, 3, 0, 0], "{text}");
    assert_eq!(agent.get("/v1/kv/app/a?raw").text(), "one");
    let (well, text) = import(&agent, from, &["-force", "-catalog"]);
    assert!(well, "{text}");
    assert_eq!(counts(&text, "node")[1], 1, "{text}");
    assert_eq!(all("/v1/catalog/node/printer")["Node"]["Address"], "10.0.9.9");
}

#[test]
fn what_a_consul_answered_is_imported_once_and_never_over_newer_data() {
    imports(recorded());
}

#[test]
fn a_consul_that_is_not_there_is_said_to_be() {
    let agent = Agent::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (well, text) = import(&agent, nobody, &[]);
    assert!(!well && text.contains("No agent answers at"), "{text}");
}

#[test]
fn a_real_consul_is_imported() {
    let Some(program) = had::consul() else { return };
    let dir = tempfile::tempdir().unwrap();
    let http = free_port();
    let mut command = Command::new(program);
    command.args(["agent", "-server", "-bootstrap-expect=1", "-node=old-1", "-bind=127.0.0.1", "-client=127.0.0.1"]);
    command.arg(format!("-data-dir={}", dir.path().display())).arg(format!("-http-port={http}"));
    for port in ["dns", "server", "serf-lan", "serf-wan"] {
        command.arg(format!("-{port}-port={}", free_port()));
    }
    let child = command.arg("-grpc-port=-1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _running = Running(child);
    let consul = SocketAddr::from(([127, 0, 0, 1], http));
    let nodes = || request(consul, "GET", "/v1/catalog/nodes", &[], b"").is_ok_and(|answer| answer.text().contains("old-1"));
    eventually("Consul leads", nodes);
    let done = |method: &str, path: &str, body: &str| {
        let answer = request(consul, method, path, &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    };
    let printer = json!({
        "Node": "printer", "Address": "10.0.9.9", "NodeMeta": {"external-node": "true", "external-probe": "true"},
        "Service": {
            "ID": "ipp-1", "Service": "ipp", "Tags": ["a", "b"], "Port": 631, "Meta": {"m": "1"}, "EnableTagOverride": true,
            "Weights": {"Passing": 5, "Warning": 2}, "TaggedAddresses": {"lan": {"Address": "10.0.9.9", "Port": 631}},
        },
        "Checks": [
            {"CheckID": "ping", "Name": "ping", "Status": "passing", "Definition": {"HTTP": "http://10.0.9.9/", "Interval": "10s"}},
            {"CheckID": "ipp-up", "Name": "up", "ServiceID": "ipp-1", "Status": "critical", "Output": "refused", "Notes": "n"},
        ],
    });
    let db = json!({
        "ID": "0b8f1d2e-1111-4222-8333-444455556666", "Node": "db-host", "Address": "db.example.com",
        "Service": {"Service": "db", "Port": 5432},
    });
    let gateway =
        json!({"Node": "gw", "Address": "10.0.9.1", "Service": {"Kind": "mesh-gateway", "Service": "gateway", "Port": 443}});
    for row in [printer, db, gateway] {
        done("PUT", "/v1/catalog/register", &row.to_string());
    }
    done("PUT", "/v1/agent/service/register", &json!({"Name": "web", "Port": 80, "Check": {"TTL": "1h"}}).to_string());
    for (key, value) in [("app/a?flags=42", "one"), ("app/empty", ""), ("app/", ""), ("app/sp%20ace/%C3%BC", "u"), ("other", "x")]
    {
        done("PUT", &format!("/v1/kv/{key}"), value);
    }
    let session: Value = serde_json::from_str(&done("PUT", "/v1/session/create", r#"{"Name":"s"}"#)).unwrap();
    done("PUT", &format!("/v1/kv/lock/one?acquire={}", session["ID"].as_str().unwrap()), "held");
    let query =
        json!({"Name": "nearest", "Service": {"Service": "ipp", "Tags": ["a"], "OnlyPassing": true}, "DNS": {"TTL": "10s"}});
    done("POST", "/v1/query", &query.to_string());
    imports(consul);
}
