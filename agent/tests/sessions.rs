//! Sessions, the locks they hold, transactions and `muster lock`, beside a whole agent.
#![allow(clippy::disallowed_methods)] // tests read the clock
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Agent, SOON, eventually, muster};

mod support;

const ABSENT: &str = "11111111-1111-1111-1111-111111111111";

fn agent() -> Agent {
    Agent::with(&["-dev", "-hcl", "session_ttl_min = \"1s\""])
}

fn session(agent: &Agent, body: &Value) -> String {
    let answer = agent.put("/v1/session/create", body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["ID"].as_str().unwrap().to_owned()
}

fn is_there(agent: &Agent, session: &str) -> bool {
    agent.get(&format!("/v1/session/info/{session}")).json() != json!([])
}

/// `true` or `false`, as a key was written or not.
fn wrote(agent: &Agent, path: &str, value: &str) -> bool {
    agent.put(&format!("/v1/kv/{path}"), value).json() == json!(true)
}

fn pair(agent: &Agent, key: &str) -> Value {
    agent.get(&format!("/v1/kv/{key}")).json()[0].clone()
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_consuls_words() {
    let agent = agent();
    let id = session(&agent, &json!({"LockDelay": "0s"}));
    let many: Vec<Value> = (0..129).map(|n| json!({"KV": {"Verb": "set", "Key": format!("many/{n}")}})).collect();
    let many = Value::Array(many).to_string();
    let large = format!(r#"[{{"KV":{{"Verb":"set","Key":"k","Value":"{}"}}}}]"#, "QUFB".repeat(200_000));
    let lookup = "failed session lookup: index error: UUID must be 36 characters";
    let twice = format!("Conflicting flags: acquire={id}&release={id}");
    let cases: &[(&str, String, &str, u16, &str)] = &[
        ("PUT", "session/create".into(), "junk", 400, "Request decode failed: "),
        ("PUT", "session/create".into(), "[]", 400, "Request decode failed: "),
        (
            "PUT",
            "session/create".into(),
            r#"{"LockDelay":"5"}"#,
            400,
            "Request decode failed: time: missing unit in duration \"5\"",
        ),
        (
            "PUT",
            "session/create".into(),
            r#"{"TTL":"0.5s"}"#,
            500,
            "Invalid Session TTL '500000000', must be between [1s=24h0m0s]",
        ),
        ("PUT", "session/create".into(), r#"{"Behavior":"x"}"#, 500, "Invalid Behavior setting 'x'"),
        ("PUT", "session/create".into(), r#"{"Checks":["none"]}"#, 500, "Missing check 'none' registration"),
        ("PUT", "session/create".into(), r#"{"ServiceChecks":[{"ID":"none"}]}"#, 500, "Missing check 'none' registration"),
        ("PUT", "session/create".into(), r#"{"Node":"none"}"#, 500, "Missing node registration"),
        ("PUT", "session/create".into(), r#"{"Node":""}"#, 500, "Must provide Node"),
        ("PUT", "session/create?dc=none".into(), "{}", 500, "No path to datacenter"),
        ("PUT", "session/create?ns=x".into(), "{}", 400, "Invalid query parameter: \"ns\""),
        ("GET", "session/create".into(), "", 405, "method GET not allowed"),
        ("PUT", "session/destroy/".into(), "", 400, "Missing session"),
        ("PUT", "session/destroy/junk".into(), "", 500, lookup),
        ("PUT", "session/destroy/junk?dc=none".into(), "", 500, "No path to datacenter"),
        ("PUT", format!("session/destroy/{ABSENT}"), "", 200, "true"),
        ("PUT", "session/renew/".into(), "", 400, "Missing session"),
        ("PUT", "session/renew/junk".into(), "", 500, lookup),
        ("PUT", format!("session/renew/{ABSENT}"), "", 404, "Session id '11111111-1111-1111-1111-111111111111' not found"),
        ("PUT", format!("session/renew/{}", "1".repeat(36)), "", 404, "Session id '1111"),
        ("GET", "session/info/".into(), "", 400, "Missing session"),
        ("GET", "session/info/junk".into(), "", 500, lookup),
        (
            "GET",
            "session/info/11111111-1111-1111-1111-11111111111Z".into(),
            "",
            500,
            "failed session lookup: index error: Invalid UUID",
        ),
        ("GET", format!("session/info/{ABSENT}?index=x"), "", 400, "Invalid index"),
        ("GET", format!("session/info/{ABSENT}?index=1&wait=x"), "", 400, "Invalid wait time"),
        ("GET", format!("session/info/{ABSENT}?stale&consistent"), "", 400, "Cannot specify ?stale with ?consistent"),
        ("GET", "session/node/".into(), "", 400, "Missing node name"),
        ("GET", "session/node/none".into(), "", 200, "[]"),
        ("GET", format!("session/node/{}", "x".repeat(600)), "", 400, "Invalid node name: "),
        ("GET", "session/list?dc=none".into(), "", 500, "No path to datacenter"),
        (
            "GET",
            "session/list?filter=Bogus==1".into(),
            "",
            500,
            "Failed to create boolean expression evaluator: Selector \"Bogus\"",
        ),
        ("GET", "session/list?filter=Name==none".into(), "", 200, "[]"),
        ("GET", "session/list?filter=serfHealth+in+NodeChecks+and+Behavior==release".into(), "", 200, "[\n    {\n"),
        ("PUT", "session/list".into(), "", 405, "method PUT not allowed"),
        ("PUT", "kv/k?acquire=".into(), "", 500, "missing session"),
        ("PUT", "kv/k?release=".into(), "", 500, "missing session"),
        ("PUT", "kv/k?acquire=junk".into(), "", 500, lookup),
        ("PUT", format!("kv/k?acquire={ABSENT}"), "", 500, "invalid session \"11111111-1111-1111-1111-111111111111\""),
        ("PUT", format!("kv/k?release={ABSENT}"), "", 200, "false"),
        ("PUT", "kv/k?release=junk".into(), "", 200, "false"),
        ("PUT", format!("kv/k?acquire={id}&release={id}"), "", 400, &twice),
        ("PUT", format!("kv/k?acquire={id}&flags=x"), "", 500, "strconv.ParseUint: parsing \"x\": invalid syntax"),
        ("PUT", "txn".into(), "", 400, "Failed to parse body: EOF"),
        ("PUT", "txn".into(), "{}", 400, "Failed to parse body: "),
        ("PUT", "txn".into(), "junk", 400, "Failed to parse body: "),
        ("PUT", "txn".into(), "[null]", 400, "Failed to parse body: "),
        ("PUT", "txn".into(), "[7]", 400, "Failed to parse body: "),
        ("PUT", "txn".into(), r#"[{"Bogus":{}}]"#, 400, "Failed to parse body: json: unknown field \"Bogus\""),
        ("PUT", "txn".into(), r#"[{"Session":{"Verb":"delete"}}]"#, 400, "Failed to parse body: json: unknown field \"Session\""),
        (
            "PUT",
            "txn".into(),
            r#"[{"KV":{"Verb":"set","Key":"k","Nope":1}}]"#,
            400,
            "Failed to parse body: json: unknown field \"Nope\"",
        ),
        (
            "PUT",
            "txn".into(),
            r#"[{"KV":{"Verb":"set","Key":"k","Value":"***"}}]"#,
            400,
            "Failed to parse body: illegal base64 data",
        ),
        ("PUT", "txn".into(), r#"[{"KV":{"Verb":"set","Key":"k","Flags":-1}}]"#, 400, "Failed to parse body: "),
        ("PUT", "txn".into(), r#"[{"KV":{"Verb":"set","Key":"k","Index":"1"}}]"#, 400, "Failed to parse body: "),
        ("PUT", "txn".into(), r#"[{"KV":"x"}]"#, 400, "Failed to parse body: "),
        ("PUT", "txn".into(), &many, 413, "Transaction contains too many operations (129 > 128)"),
        ("PUT", "txn".into(), &large, 413, "Request body too large, max size: 524288 bytes"),
        ("PUT", "txn?dc=none".into(), r#"[{"KV":{"Verb":"get","Key":"k"}}]"#, 500, "No path to datacenter"),
        ("PUT", "txn?dc=none".into(), r#"[{"KV":{"Verb":"set","Key":"k"}}]"#, 500, "No path to datacenter"),
        (
            "PUT",
            "txn?stale&consistent".into(),
            r#"[{"KV":{"Verb":"get","Key":"k"}}]"#,
            400,
            "Cannot specify ?stale with ?consistent",
        ),
        ("GET", "txn".into(), "", 405, "method GET not allowed"),
    ];
    for (method, path, body, status, text) in cases {
        let answer = agent.ask(method, &format!("/v1/{path}"), body.as_bytes());
        let said = answer.text();
        assert!(answer.status == *status && said.starts_with(text), "{method} {path} {body:.60}: {} {said:.200}", answer.status);
    }
    assert!(agent.get("/v1/kv/k").status == 404 && agent.get("/v1/kv/many/0").status == 404, "nothing of it was done");
}

#[test]
fn a_session_ends_with_its_check_its_node_and_its_time() {
    let agent = agent();
    let register = json!({"Node": "n", "Address": "192.0.2.1", "Check": {"CheckID": "c", "Name": "c", "Status": "passing"}});
    agent.done("/v1/catalog/register", register.to_string());
    let check = |status: &str| {
        let body = json!({"Node": "n", "Address": "192.0.2.1", "Check": {"CheckID": "c", "Name": "c", "Status": status}});
        agent.done("/v1/catalog/register", body.to_string());
    };
    let tied = || session(&agent, &json!({"Node": "n", "NodeChecks": ["c"], "LockDelay": "0s", "Behavior": "delete"}));

    let first = tied();
    assert!(wrote(&agent, &format!("a?acquire={first}"), "v"));
    check("warning");
    assert!(is_there(&agent, &first), "a warning does no harm");
    check("critical");
    assert!(!is_there(&agent, &first) && agent.get("/v1/kv/a").status == 404);
    let refused = agent.put("/v1/session/create", r#"{"Node":"n","NodeChecks":["c"]}"#);
    assert_eq!((refused.status, refused.text().as_str()), (500, "Check 'c' is in critical state"));

    check("passing");
    let second = tied();
    agent.done("/v1/catalog/deregister", r#"{"Node":"n","CheckID":"c"}"#);
    assert!(!is_there(&agent, &second), "its check is gone");

    let third = session(&agent, &json!({"Node": "N", "NodeChecks": []}));
    assert_eq!(agent.get("/v1/session/node/n").json()[0]["ID"], third.as_str());
    agent.done("/v1/catalog/deregister", r#"{"Node":"n"}"#);
    assert!(!is_there(&agent, &third), "its node is gone");

    let began = Instant::now();
    let late = session(&agent, &json!({"TTL": "1s", "LockDelay": "0s"}));
    assert!(wrote(&agent, &format!("b?acquire={late}"), "v"));
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(agent.put(&format!("/v1/session/renew/{late}"), "").status, 200);
        std::thread::sleep(Duration::from_millis(500));
    }
    let renewed = Instant::now();
    eventually("who is not renewed ends", || !is_there(&agent, &late));
    let lived = renewed.elapsed();
    assert!(lived > Duration::from_millis(1000), "never before its TTL: {lived:?}");
    assert_eq!(agent.put(&format!("/v1/session/renew/{late}"), "").status, 404);
    assert_eq!(pair(&agent, "b")["Session"], Value::Null, "released");
}

#[test]
fn a_lost_lock_is_held_back_for_its_delay_and_one_that_is_given_back_is_not() {
    let agent = agent();
    let (first, second) = (session(&agent, &json!({"LockDelay": "1s"})), session(&agent, &json!({"LockDelay": "0s"})));
    assert!(wrote(&agent, &format!("k?acquire={first}&flags=7"), "1"));
    assert!(!wrote(&agent, &format!("k?acquire={second}"), "2"));
    assert!(wrote(&agent, &format!("k?release={first}"), "3"));
    assert!(wrote(&agent, &format!("k?acquire={second}"), "4"), "given back");
    assert!(wrote(&agent, &format!("k?release={second}"), "5"));
    assert!(wrote(&agent, &format!("k?acquire={first}"), "6"));
    let ended = Instant::now();
    agent.done(&format!("/v1/session/destroy/{first}"), "");
    let now = pair(&agent, "k");
    assert_eq!((&now["LockIndex"], &now["Session"], &now["Value"]), (&json!(3), &Value::Null, &json!("Ng==")));
    assert!(!wrote(&agent, &format!("k?acquire={second}"), "7"));
    let lock = json!([{"KV": {"Verb": "lock", "Key": "k", "Session": second}}]);
    let refused = agent.put("/v1/txn", lock.to_string());
    assert_eq!(refused.json()["Errors"][0]["What"], "failed to lock key \"k\" due to lock delay");
    assert!(wrote(&agent, "k", "plain"), "who does not lock is not held back");
    eventually("it can be locked again", || wrote(&agent, &format!("k?acquire={second}"), "8"));
    assert!(ended.elapsed() >= Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[test]
fn readers_of_sessions_wake_for_what_they_asked_for_alone() {
    let agent = agent();
    let (mine, other) = (session(&agent, &json!({})), session(&agent, &json!({})));
    let path = format!("/v1/session/info/{mine}");
    let seen = agent.get(&path).index();
    let read = |path: String| {
        let to = agent.http;
        std::thread::spawn(move || support::request(to, "GET", &path, &[], b"").unwrap())
    };
    let quiet = read(format!("{path}?index={seen}&wait=500ms"));
    let list = read(format!("/v1/session/list?index={}&wait=20s", agent.get("/v1/session/list").index()));
    agent.done(&format!("/v1/session/renew/{mine}"), "");
    agent.done(&format!("/v1/session/destroy/{other}"), "");
    let quiet = quiet.join().unwrap();
    assert_eq!((quiet.index(), quiet.json()[0]["ID"].as_str()), (seen, Some(mine.as_str())));
    assert_eq!(list.join().unwrap().json().as_array().unwrap().len(), 1);
    let ends = read(format!("{path}?index={seen}&wait=20s"));
    std::thread::sleep(Duration::from_millis(100));
    agent.done(&format!("/v1/session/destroy/{mine}"), "");
    let ends = ends.join().unwrap();
    assert!(ends.json() == json!([]) && ends.index() > seen);
}

#[test]
fn a_transaction_is_done_as_a_whole_or_not_at_all() {
    let agent = agent();
    let transact = |ops: Value| {
        let answer = agent.put("/v1/txn", ops.to_string());
        (answer.status, answer.json())
    };
    let (status, done) = transact(json!([
        {"Node": {"Verb": "set", "Node": {"Node": "n", "Address": "192.0.2.1"}}},
        {"Service": {"Verb": "set", "Node": "n", "Service": {"Service": "web", "Port": 80}}},
        {"Check": {"Verb": "set", "Check": {"Node": "n", "CheckID": "c", "ServiceID": "web", "Status": "passing"}}},
        {"KV": {"Verb": "set", "Key": "k", "Value": "dg=="}},
        {"KV": {"Verb": "get", "Key": "k"}},
    ]));
    assert_eq!((status, &done["Errors"]), (200, &Value::Null), "{done}");
    let index = &done["Results"][3]["KV"]["ModifyIndex"];
    for (at, kind) in ["Node", "Service", "Check", "KV", "KV"].iter().enumerate() {
        assert_eq!(&done["Results"][at][kind]["ModifyIndex"], index, "{done}");
    }
    assert_eq!((&done["Results"][3]["KV"]["Value"], &done["Results"][4]["KV"]["Value"]), (&Value::Null, &json!("dg==")));
    assert_eq!(agent.get("/v1/health/service/web?passing").json().as_array().unwrap().len(), 1);

    let faults: &[(Value, &str)] = &[
        (json!({"KV": {"Verb": "cas", "Key": "k", "Index": 1}}), "failed to set key \"k\", index is stale"),
        (json!({"KV": {"Verb": "delete-cas", "Key": "k", "Index": 1}}), "failed to delete key \"k\", index is stale"),
        (json!({"KV": {"Verb": "check-not-exists", "Key": "k"}}), "key \"k\" exists"),
        (json!({"KV": {"Verb": "get", "Key": "no"}}), "key \"no\" doesn't exist"),
        (json!({"KV": {"Verb": "check-index", "Key": "no", "Index": 1}}), "failed to check index, key \"no\" doesn't exist"),
        (json!({"KV": {"Verb": "check-session", "Key": "no"}}), "failed to check session, key \"no\" doesn't exist"),
        (
            json!({"KV": {"Verb": "check-session", "Key": "k", "Session": "s"}}),
            "failed session check for key \"k\", current session \"\" != \"s\"",
        ),
        (json!({"KV": {"Verb": "lock", "Key": "k"}}), "missing session"),
        (
            json!({"KV": {"Verb": "lock", "Key": "k", "Session": ABSENT}}),
            "invalid session \"11111111-1111-1111-1111-111111111111\"",
        ),
        (
            json!({"KV": {"Verb": "unlock", "Key": "k", "Session": "junk"}}),
            "failed to unlock key \"k\", lock isn't held, or is held by another session",
        ),
        (json!({"KV": {"Verb": "explode", "Key": "k"}}), "unknown KV verb \"explode\""),
        (json!({"Node": {"Verb": "explode", "Node": {"Node": "n"}}}), "unknown Node verb \"explode\""),
        (json!({"Node": {"Verb": "get", "Node": {"Node": "no"}}}), "node \"no\" doesn't exist"),
        (json!({"Node": {"Verb": "cas", "Node": {"Node": "n", "ModifyIndex": 1}}}), "failed to set node \"n\", index is stale"),
        (
            json!({"Node": {"Verb": "delete-cas", "Node": {"Node": "no", "ModifyIndex": 1}}}),
            "failed to delete node \"no\", index is stale",
        ),
        (json!({"Service": {"Verb": "get", "Node": "n", "Service": {"ID": "no"}}}), "service \"no\" on node \"n\" doesn't exist"),
        (json!({"Service": {"Verb": "set", "Node": "no", "Service": {"Service": "x"}}}), "Missing node registration"),
        (
            json!({"Service": {"Verb": "cas", "Node": "n", "Service": {"Service": "web", "ModifyIndex": 1}}}),
            "failed to set service \"web\" on node \"n\", index is stale",
        ),
        (
            json!({"Service": {"Verb": "delete-cas", "Node": "n", "Service": {"Service": "web", "ModifyIndex": 1}}}),
            "failed to delete service \"web\" on node \"n\", index is stale",
        ),
        (
            json!({"Service": {"Verb": "set", "Node": "n", "Service": {}}}),
            "failed inserting service: object missing primary index",
        ),
        (json!({"Check": {"Verb": "get", "Check": {"Node": "n", "CheckID": "no"}}}), "check \"no\" on node \"n\" doesn't exist"),
        (
            json!({"Check": {"Verb": "set", "Check": {"Node": "n", "CheckID": "x", "ServiceID": "no"}}}),
            "Missing service registration",
        ),
        (
            json!({"Check": {"Verb": "cas", "Check": {"Node": "n", "CheckID": "c", "ModifyIndex": 1}}}),
            "failed to set check \"c\" on node \"n\", index is stale",
        ),
        (
            json!({"Check": {"Verb": "delete-cas", "Check": {"Node": "n", "CheckID": "c", "ModifyIndex": 1}}}),
            "failed to delete check \"c\" on node \"n\", index is stale",
        ),
        (json!({"Check": {"Verb": "set", "Check": {"Node": "n"}}}), "failed inserting check: object missing primary index"),
    ];
    let before = agent.get("/v1/kv/?recurse").text();
    // All at once: each is told of, and what could be done beside them is not.
    let mut ops: Vec<Value> = faults.iter().map(|(op, _)| op.clone()).collect();
    ops.push(json!({"KV": {"Verb": "set", "Key": "new"}}));
    ops.push(json!({"Node": {"Verb": "delete", "Node": {"Node": "n"}}}));
    let (status, failed) = transact(Value::Array(ops));
    assert_eq!((status, &failed["Results"]), (409, &Value::Null), "{failed}");
    for (at, (op, what)) in faults.iter().enumerate() {
        assert_eq!((&failed["Errors"][at]["OpIndex"], &failed["Errors"][at]["What"]), (&json!(at), &json!(what)), "{op}");
    }
    assert_eq!(failed["Errors"].as_array().unwrap().len(), faults.len());
    assert_eq!(agent.get("/v1/kv/?recurse").text(), before);
    assert_eq!(agent.get("/v1/health/service/web?passing").json().as_array().unwrap().len(), 1);

    // What is wrong in itself is told before anything is tried.
    for (op, what) in [
        (json!({"KV": {"Verb": "set"}}), "Must provide key"),
        (json!({"KV": {"Verb": "set", "Key": "a/../b"}}), "Invalid key name: path traversal is not allowed"),
        (json!({"Node": {"Verb": "set", "Node": {}}}), "Must provide node"),
        (json!({"Node": {"Verb": "set", "Node": {"Node": "n", "ID": "junk"}}}), "Bad node ID: uuid string is wrong length"),
        (json!({"Service": {"Verb": "delete", "Node": "n", "Service": {"ID": "web"}}}), "Must provide service name with ID"),
        (
            json!({"Service": {"Verb": "set", "Node": "n", "Service": {"Service": "x", "Address": "0.0.0.0"}}}),
            "Invalid service address",
        ),
    ] {
        let (status, failed) = transact(json!([{"KV": {"Verb": "get", "Key": "no"}}, op]));
        assert_eq!((status, &failed["Errors"]), (409, &json!([{"OpIndex": 1, "What": what}])), "{op}");
    }

    let (status, read) =
        transact(json!([{"KV": {"Verb": "get-tree", "Key": "k"}}, {"KV": {"Verb": "get-or-empty", "Key": "no"}}]));
    assert_eq!((status, read["Results"].as_array().unwrap().len(), &read["KnownLeader"]), (200, 2, &json!(true)), "{read}");
    let (status, gone) = transact(json!([
        {"Check": {"Verb": "delete", "Check": {"Node": "n", "CheckID": "c"}}},
        {"Service": {"Verb": "delete", "Node": "n", "Service": {"Service": "web"}}},
        {"Node": {"Verb": "delete", "Node": {"Node": "n"}}},
        {"KV": {"Verb": "delete-tree", "Key": ""}},
    ]));
    assert_eq!((status, &gone["Results"]), (200, &json!([])), "{gone}");
    assert_eq!(agent.get("/v1/catalog/node/n").text().trim(), "null");
}

/// A child of a test; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn code(&mut self) -> Option<i32> {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = muster();
    command.arg("lock").arg(format!("-http-addr={}", agent.http)).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn muster_lock_runs_a_program_while_it_holds_the_lock() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let (told, ended) = (dir.path().join("told"), dir.path().join("ended"));
    let run = |arguments: &[&str]| Running(lock(&agent, arguments).spawn().unwrap());

    let script = format!("echo $CONSUL_LOCK_HELD > {}", told.display());
    assert_eq!(run(&["a", &script]).code(), Some(0));
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "true\n");
    assert_eq!(agent.get("/v1/kv/a/.lock").status, 404, "nobody uses it any more");
    assert_eq!(agent.get("/v1/session/list").json(), json!([]));

    assert_eq!(run(&["a", "exit 3"]).code(), Some(0));
    assert_eq!(run(&["-child-exit-code", "a", "exit 3"]).code(), Some(2));
    assert_eq!(run(&["-shell=false", "-child-exit-code", "a", "false"]).code(), Some(2));
    assert_eq!(run(&["-shell=false", "a", "/no/such/program"]).code(), Some(1));
    assert_eq!(run(&["-timeout=x", "a", "true"]).code(), Some(1));

    // Who cannot have it in time does not run; who waits gets it when it is free; who loses it is ended.
    let ends = format!("trap 'echo ended > {}; exit 0' TERM; sleep 60 & wait", ended.display());
    let mut first = run(&["a", &ends]);
    eventually("it is held", || agent.get("/v1/kv/a/.lock").status == 200 && pair(&agent, "a/.lock")["Session"].is_string());
    assert_eq!(pair(&agent, "a/.lock")["Flags"], json!(0x2ddc_cbc0_58a5_0c18_u64));
    assert_eq!(run(&["-timeout=300ms", "a", "true"]).code(), Some(1));
    let holder = pair(&agent, "a/.lock")["Session"].as_str().unwrap().to_owned();
    agent.done(&format!("/v1/session/destroy/{holder}"), "");
    assert_eq!(first.code(), Some(1), "the lock was lost");
    assert_eq!(std::fs::read_to_string(&ended).unwrap(), "ended\n");

    // Two of three hold a semaphore.
    let hold: Vec<Running> = (0..3).map(|_| run(&["-n=2", "s", "sleep 60"])).collect();
    let holders = || {
        let answer = agent.ask("GET", "/v1/kv/s/.lock?raw", b"");
        serde_json::from_slice::<Value>(&answer.body)
            .map_or(0, |value| value["Holders"].as_object().map_or(0, serde_json::Map::len))
    };
    let contenders = || agent.get("/v1/session/list").json().as_array().unwrap().len();
    eventually("two hold it", || holders() == 2 && contenders() == 3);
    assert_eq!(run(&["-n=3", "-timeout=5s", "s", "true"]).code(), Some(1), "the limit is another one");
    for running in &hold {
        let _ = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status();
    }
    for mut running in hold {
        running.code();
    }
    eventually("nothing is left of it", || contenders() == 0 && agent.get("/v1/kv/s/?recurse").status == 404);
}
