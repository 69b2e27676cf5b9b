//! Watches of the configuration: who is told what, and what happens to a program that does not end.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use support::{Agent, eventually};

mod support;

#[test]
fn a_program_is_told_what_is_new_and_a_reload_exchanges_watches() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("watches.json"), dir.path().join("out"));
    let watch = |key: &str| {
        let script = format!("cat >>{0}; echo \" $CONSUL_INDEX\" >>{0}", out.display());
        serde_json::json!({"watches": [{"type": "key", "key": key, "args": ["/bin/sh", "-c", script]}]}).to_string()
    };
    std::fs::write(&file, watch("a/b")).unwrap();
    let agent = Agent::with(&["-config-file", file.to_str().unwrap()]);
    let told = || std::fs::read_to_string(&out).unwrap_or_default();
    eventually("it is told that there is nothing", || told().starts_with("null\n "));
    agent.done("/v1/kv/a/b", "one");
    eventually("it is told of the key", || told().contains("\"Key\":\"a/b\"") && told().contains("b25l"));
    std::fs::write(&file, watch("c")).unwrap();
    agent.done("/v1/agent/reload", "");
    agent.done("/v1/kv/c", "two");
    eventually("it is told of the other key", || told().contains("dHdv"));
}

#[test]
fn each_kind_tells_what_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("watches.json");
    let watch = |kind: &str, more: serde_json::Value| {
        let out = dir.path().join(kind);
        let mut watch =
            serde_json::json!({"type": kind, "handler_type": "script", "handler": format!("cat >>{}", out.display())});
        watch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        watch
    };
    let watches = serde_json::json!({"watches": [
        watch("key", serde_json::json!({"key": "a/one"})),
        watch("keyprefix", serde_json::json!({"prefix": "a/"})),
        watch("services", serde_json::json!({})),
        watch("nodes", serde_json::json!({})),
        watch("service", serde_json::json!({"service": "web", "tag": "blue", "passingonly": false})),
        watch("checks", serde_json::json!({"state": "critical"})),
        watch("event", serde_json::json!({"name": "deploy"})),
    ]});
    std::fs::write(&file, watches.to_string()).unwrap();
    let agent = Agent::with(&["-config-file", file.to_str().unwrap()]);
    let lines = |kind: &str| std::fs::read_to_string(dir.path().join(kind)).unwrap_or_default();
    let last = |kind: &str| lines(kind).lines().last().unwrap_or_default().to_owned();
    eventually("each is told how it stands", || {
        lines("key") == "null\n" && lines("event") == "[]\n" && last("nodes").contains("\"here\"")
    });
    agent.done("/v1/kv/a/one", "1");
    agent.done("/v1/agent/service/register", r#"{"Name":"web","Tags":["blue"],"Check":{"TTL":"1h"}}"#);
    agent.done("/v1/catalog/register", r#"{"Node":"other","Address":"192.0.2.1"}"#);
    agent.done("/v1/event/fire/deploy", "first");
    eventually("the key", || last("key").contains("\"a/one\""));
    eventually("the prefix", || last("keyprefix").starts_with('[') && last("keyprefix").contains("\"a/one\""));
    eventually("services", || last("services").contains("\"web\":[\"blue\"]"));
    eventually("nodes", || last("nodes").contains("\"other\""));
    eventually("the service", || last("service").contains("\"Service\":\"web\""));
    eventually("checks", || last("checks").contains("\"service:web\""));
    eventually("the event", || last("event").contains("Zmlyc3Q="));
    agent.done("/v1/event/fire/deploy", "second");
    eventually("the new event alone", || last("event").contains("c2Vjb25k") && !last("event").contains("Zmlyc3Q="));
    // What concerns others is no news: a write beside the prefix, an event of another name.
    let before = ["key", "keyprefix", "event"].map(lines);
    agent.done("/v1/kv/b", "1");
    agent.done("/v1/event/fire/other", "");
    agent.done("/v1/kv/a/one", "2");
    eventually("the next news", || last("key").contains("\"Mg==\""));
    assert!(lines("key").lines().count() == before[0].lines().count() + 1, "{}", lines("key"));
    assert_eq!(lines("event"), before[2]);
}

#[test]
fn a_program_that_hangs_or_floods_holds_up_nothing_and_ends_with_its_watch() {
    let dir = tempfile::tempdir().unwrap();
    let (file, pids) = (dir.path().join("watches.json"), dir.path().join("pids"));
    let watch = |script: &str| {
        let script = format!("echo $$ >>{}; {script}", pids.display());
        serde_json::json!({"type": "nodes", "args": ["/bin/sh", "-c", script]})
    };
    let watches = [watch("sleep 1000 & wait"), watch("exec yes"), watch("exec yes >&2")];
    std::fs::write(&file, serde_json::json!({"watches": watches}).to_string()).unwrap();
    let agent = Agent::with(&["-config-file", file.to_str().unwrap()]);
    let started = || -> Vec<String> { std::fs::read_to_string(&pids).unwrap_or_default().lines().map(str::to_owned).collect() };
    eventually("all three run", || started().len() == 3);
    let before = agent.own_kb();
    for n in 0..50 {
        agent.done(&format!("/v1/kv/k{n}"), "x"); // the agent goes on
    }
    assert!(agent.own_kb() < before + 8 * 1024, "{} KB, then {} KB", before, agent.own_kb());
    std::fs::write(&file, "{}").unwrap();
    agent.done("/v1/agent/reload", "");
    let group = |pid: &str| std::process::Command::new("kill").args(["-0", "--", &format!("-{pid}")]).output().unwrap().status;
    for pid in started() {
        eventually("its whole group is gone", || !group(&pid).success());
    }
}

#[test]
fn somebody_is_told_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("watches.json");
    let handler = serde_json::json!({
        "path": format!("http://{}/hook?x=1", listener.local_addr().unwrap()), "header": {"X-Own": ["y"]}, "timeout": "5s",
    });
    let watches = serde_json::json!({"watches": [{"type": "event", "name": "deploy", "http_handler_config": handler}]});
    std::fs::write(&file, watches.to_string()).unwrap();
    let agent = Agent::with(&["-config-file", file.to_str().unwrap()]);
    let take = || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains("\r\n\r\n") || !text.trim_end().ends_with(']') {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        text
    };
    let first = take();
    assert!(first.starts_with("POST /hook?x=1 HTTP/1.1\r\n") && first.to_ascii_lowercase().contains("x-own: y"), "{first}");
    agent.done("/v1/event/fire/deploy", "now");
    assert!(take().contains("\"bm93\""));
}

#[test]
fn a_watch_that_means_nothing_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("watches.json");
    std::fs::write(&file, r#"{"watches":[{"type":"key","args":["x"]},{"type":"nodes"}]}"#).unwrap();
    let told = support::muster().args(["validate", file.to_str().unwrap()]).output().unwrap();
    let text = [told.stdout, told.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!told.status.success() && text.contains("Must specify a single key to watch"), "{text}");
    assert!(text.contains("Must define a watch handler"), "{text}");
}
