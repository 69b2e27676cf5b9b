//! `/v1/agent` as its clients see it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

mod house;

use house::House;

const REGISTER: &str = "/v1/agent/service/register";
const UNKNOWN_SERVICE: &str = r#"Unknown service ID "x". Ensure that the service ID is passed, not the service name."#;
const UNKNOWN_CHECK: &str = r#"Unknown check ID "x". Ensure that the check ID is passed, not the check name."#;

#[tokio::test]
async fn a_registered_service_is_shown_until_it_is_deregistered() {
    let house = House::start(&[]).await;
    house.done(REGISTER, r#"{"Name":"web","Port":80,"Tags":["a"],"Address":"198.51.100.7"}"#).await;
    let at = json!({"Address": "198.51.100.7", "Port": 80});
    let mut web = json!({
        "ID": "web", "Service": "web", "Tags": ["a"], "Meta": {}, "Port": 80, "Address": "198.51.100.7",
        "TaggedAddresses": {"lan_ipv4": at, "wan_ipv4": at}, "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": false, "Datacenter": "dc1",
    });
    let all = house.get("/v1/agent/services").await;
    assert_eq!(all.json(), json!({ "web": web }));
    assert_eq!((all.header("content-type"), all.header("x-consul-index")), (Some("application/json"), None));

    let one = house.get("/v1/agent/service/web").await;
    let hash = one.header("x-consul-contenthash").expect("it has a hash").to_owned();
    web["ContentHash"] = Value::String(hash);
    assert_eq!(one.json(), web);
    let catalog = house.get("/v1/catalog/service/web").await.json();
    assert_eq!(catalog[0]["ServicePort"], 80);

    house.done("/v1/agent/service/deregister/web", "").await;
    assert_eq!(house.get("/v1/agent/services").await.body, "{}");
    assert_eq!(house.get("/v1/catalog/service/web").await.body, "[]");
    house.refused("GET", "/v1/agent/service/web", "", 404, "unknown service ID: web").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said_and_nothing_is_kept() {
    let house = House::start(&[]).await;
    let scripts = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true";
    for (body, status, text) in [
        ("", 400, "Request decode failed: EOF"),
        ("{}", 400, "Missing service name"),
        (r#"{"Name":"x","Bogus":1}"#, 400, r#"Request decode failed: json: unknown field "Bogus""#),
        (r#"{"Name":"x","Address":"0.0.0.0"}"#, 400, "Invalid service address"),
        (r#"{"Name":"x","Check":{"Interval":"1s"}}"#, 400, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Check":{"Args":["true"],"Interval":"1s"}}"#, 500, scripts),
    ] {
        house.refused("PUT", REGISTER, body, status, text).await;
    }
    let check = "/v1/agent/check/register";
    house.refused("PUT", check, "{}", 400, "Missing check name").await;
    house.refused("PUT", check, r#"{"Name":"x","TTL":"1m","ServiceID":"y"}"#, 404, r#"ServiceID "y" does not exist"#).await;
    house.refused("PUT", check, r#"{"Name":"x","Args":["true"],"Interval":"1s"}"#, 500, scripts).await;
    house.refused("GET", REGISTER, "", 405, "method GET not allowed").await;
    assert_eq!(house.get("/v1/agent/services").await.body, "{}");
    assert_eq!(house.get("/v1/agent/checks").await.body, "{}");
}

#[tokio::test]
async fn unknown_ids_are_told_apart_from_missing_ones() {
    let house = House::start(&[]).await;
    house.done("/v1/agent/service/deregister/x", "").await; // What is gone already may be removed again.
    house.done("/v1/agent/check/deregister/x", "").await;
    house.refused("PUT", "/v1/agent/service/deregister/", "", 500, "ServiceID missing").await;
    house.refused("PUT", "/v1/agent/service/maintenance/x?enable=1", "", 404, UNKNOWN_SERVICE).await;
    house.refused("PUT", "/v1/agent/service/maintenance/?enable=1", "", 400, "Missing service ID").await;
    for path in ["pass/x", "warn/x", "fail/x"] {
        house.refused("PUT", &format!("/v1/agent/check/{path}"), "", 404, UNKNOWN_CHECK).await;
    }
    house.refused("PUT", "/v1/agent/check/update/x", r#"{"Status":"passing"}"#, 404, UNKNOWN_CHECK).await;
    let nobody = house.put("/v1/agent/check/pass/", "").await;
    assert_eq!(nobody.status, 404);
    house.done("/v1/agent/check/register", r#"{"ID":"tcp","Name":"x","TCP":"127.0.0.1:1","Interval":"1h"}"#).await;
    let text = r#"CheckID "tcp" does not have associated TTL"#;
    house.refused("PUT", "/v1/agent/check/pass/tcp", "", 500, text).await;
}

#[tokio::test]
async fn a_ttl_check_says_what_it_was_told() {
    let house = House::start(&[]).await;
    house.done("/v1/agent/check/register", r#"{"ID":"t","Name":"a check","Notes":"n","TTL":"10m"}"#).await;
    let checks = house.get("/v1/agent/checks").await.json();
    let mut expected = json!({
        "Node": house.desk.name().as_str(), "CheckID": "t", "Name": "a check", "Status": "critical", "Notes": "n", "Output": "",
        "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Type": "ttl", "Interval": "", "Timeout": "", "ExposedPort": 0,
        "Definition": {}, "CreateIndex": 0, "ModifyIndex": 0,
    });
    assert_eq!(checks, json!({ "t": expected }));
    for (path, body, status, output) in [
        ("pass/t?note=all%20good", "", "passing", "all good"),
        ("warn/t?note=so-so", "", "warning", "so-so"),
        ("fail/t", "", "critical", ""),
        ("update/t", r#"{"Status":"warning","Output":"via update"}"#, "warning", "via update"),
    ] {
        house.done(&format!("/v1/agent/check/{path}"), body).await;
        expected["Status"] = status.into();
        expected["Output"] = output.into();
        assert_eq!(house.get("/v1/agent/checks").await.json()["t"], expected, "{path}");
    }
    house.refused("PUT", "/v1/agent/check/update/t", r#"{"Status":"bad"}"#, 400, "Invalid check status: 'bad'").await;
    house.done("/v1/agent/check/deregister/t", "").await;
    assert_eq!(house.get("/v1/agent/checks").await.body, "{}");
}

#[tokio::test]
async fn old_checks_stay_unless_they_are_to_be_replaced() {
    let house = House::start(&[]).await;
    let two = r#"{"Name":"w","Checks":[{"CheckID":"1","TTL":"1m"},{"CheckID":"2","TTL":"1m"}]}"#;
    let one = r#"{"Name":"w","Checks":[{"CheckID":"1","TTL":"1m"}]}"#;
    for (query, stays) in [("", true), ("?replace-existing-checks=false", true), ("?replace-existing-checks", false)] {
        house.done(REGISTER, two).await;
        house.done("/v1/agent/check/pass/1?note=kept", "").await;
        house.done(&format!("{REGISTER}{query}"), one).await;
        let checks = house.get("/v1/agent/checks").await.json();
        assert_eq!((checks["1"]["Output"].as_str(), checks.get("2").is_some()), (Some("kept"), stays), "{query}");
    }
}

#[tokio::test]
async fn a_reader_of_a_hash_waits_for_another_one() {
    let house = House::start(&[]).await;
    let hash = async || house.get("/v1/agent/service/w").await.header("x-consul-contenthash").expect("a hash").to_owned();
    house.done(REGISTER, r#"{"Name":"w","Port":1}"#).await;
    let first = hash().await;
    let path = |wait: &str| format!("/v1/agent/service/w?hash={first}&wait={wait}");

    let held = house.get(&path("50ms")).await;
    assert_eq!((held.status, held.header("x-consul-contenthash")), (200, Some(first.as_str())));
    let at_once = timeout(Duration::from_secs(5), house.get("/v1/agent/service/w?hash=other&wait=60s"));
    assert_eq!(at_once.await.expect("another hash is no reason to wait").status, 200);

    let long_path = path("60s");
    let waiting = house.get(&long_path);
    let change = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.done(REGISTER, r#"{"Name":"w","Port":1}"#).await; // The same again wakes nobody.
        house.done(REGISTER, r#"{"Name":"w","Port":2}"#).await;
    };
    let (woken, ()) = timeout(Duration::from_secs(20), async { tokio::join!(waiting, change) }).await.expect("it wakes");
    assert_eq!(woken.json()["Port"], 2);

    let second = format!("/v1/agent/service/w?hash={}&wait=60s", hash().await);
    let waiting = house.get(&second);
    let removal = house.done("/v1/agent/service/deregister/w", "");
    let (gone, ()) = timeout(Duration::from_secs(20), async { tokio::join!(waiting, removal) }).await.expect("it wakes");
    assert_eq!((gone.status, gone.body.as_str()), (404, "unknown service ID: w"));
    house.refused("GET", "/v1/agent/service/w?hash=x&wait=bad", "", 400, "Invalid wait time").await;
}

#[tokio::test]
async fn lists_are_filtered_and_bad_filters_refused() {
    let house = House::start(&[]).await;
    house.done(REGISTER, r#"{"Name":"red","Tags":["r"],"Check":{"CheckID":"c","TTL":"1m","Status":"passing"}}"#).await;
    house.done(REGISTER, r#"{"Name":"blue"}"#).await;
    for (path, ids) in [
        ("services?filter=%22r%22%20in%20Tags", vec!["red"]),
        ("services?filter=Service%20!=%20none", vec!["blue", "red"]),
        ("services?filter=Service%20==%20none", vec![]),
        ("checks?filter=Status%20==%20passing", vec!["c"]),
        ("checks?filter=ServiceID%20==%20blue", vec![]),
    ] {
        let shown = house.get(&format!("/v1/agent/{path}")).await.json();
        let shown: Vec<&str> = shown.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(shown, ids, "{path}");
    }
    let text = r#"Failed to create boolean expression evaluator: Selector "Nope" is not valid"#;
    house.refused("GET", "/v1/agent/services?filter=Nope%20==%20x", "", 500, text).await;
    house.refused("GET", "/v1/agent/checks?filter=Nope%20==%20x", "", 500, text).await;
}

#[tokio::test]
async fn health_is_told_by_the_status_code() {
    let house = House::start(&[]).await;
    for id in ["h1", "h2"] {
        let body = json!({"ID": id, "Name": "h", "Check": {"CheckID": format!("{id}-c"), "TTL": "10m", "Status": "passing"}});
        house.done(REGISTER, &body.to_string()).await;
    }
    let told = async |change: &str, status: u16, word: &str| {
        if !change.is_empty() {
            house.done(change, "").await;
        }
        for path in ["id/h1", "name/h"] {
            let path = format!("/v1/agent/health/service/{path}");
            let said = house.get(&path).await;
            assert_eq!((said.status, said.header("x-consul-reason")), (status, Some(word)), "{path} after {change}");
            let first = if path.contains("name") { said.json()[0].clone() } else { said.json() };
            assert_eq!(first["AggregatedStatus"], word);
            let text = house.ask("GET", &path, &[("Accept", "text/plain")], "").await;
            assert_eq!((text.status, text.body.as_str(), text.header("content-type")), (status, word, Some("text/plain")));
        }
    };
    told("", 200, "passing").await;
    told("/v1/agent/check/warn/h1-c?note=hm", 429, "warning").await;
    told("/v1/agent/check/fail/h1-c", 503, "critical").await;
    told("/v1/agent/service/maintenance/h1?enable=true&reason=works", 503, "maintenance").await;
    told("/v1/agent/service/maintenance/h1?enable=false", 503, "critical").await;
    told("/v1/agent/check/pass/h1-c", 200, "passing").await;
    told("/v1/agent/maintenance?enable=true", 503, "maintenance").await;
    let one = house.get("/v1/agent/health/service/id/h1").await.json();
    let checks = one["Checks"].as_array().expect("a list");
    assert_eq!(checks.len(), 2);
    assert!(checks.iter().all(|check| check["ServiceTags"].is_null() && check["Definition"]["Interval"] == "0s"));
}

#[tokio::test]
async fn health_of_what_is_not_there_is_404() {
    let house = House::start(&[]).await;
    let id = house.get("/v1/agent/health/service/id/x").await;
    assert_eq!((id.status, id.header("x-consul-reason")), (404, Some("ServiceId x not found")));
    assert_eq!(id.json(), json!({"AggregatedStatus": "critical", "Service": null, "Checks": null}));
    let name = house.get("/v1/agent/health/service/name/x").await;
    assert_eq!((name.status, name.body.as_str()), (404, "[]"));
    for (path, text) in [("id/x", "ServiceId x not found"), ("name/x", "ServiceName x Not Found")] {
        house.refused("GET", &format!("/v1/agent/health/service/{path}?format=text"), "", 404, text).await;
    }
    house.refused("GET", "/v1/agent/health/service/id/", "", 400, "Missing serviceID").await;
    house.refused("GET", "/v1/agent/health/service/name/", "", 400, "Missing service Name").await;
}

#[tokio::test]
async fn maintenance_is_a_critical_check_with_the_first_reason() {
    let house = House::start(&[]).await;
    house.done(REGISTER, r#"{"Name":"w"}"#).await;
    for (path, id, name) in [
        ("service/maintenance/w", "_service_maintenance:w", "Service Maintenance Mode"),
        ("maintenance", "_node_maintenance", "Node Maintenance Mode"),
    ] {
        let path = format!("/v1/agent/{path}");
        house.refused("PUT", &path, "", 400, "Missing value for enable").await;
        house.refused("PUT", &format!("{path}?enable=maybe"), "", 400, r#"Invalid value for enable: "maybe""#).await;
        house.done(&format!("{path}?enable=true&reason=a%20reason"), "").await;
        house.done(&format!("{path}?enable=true&reason=again"), "").await;
        let check = house.get("/v1/agent/checks").await.json()[id].clone();
        let told = ["Name", "Status", "Notes", "Type"].map(|key| check[key].as_str().map(str::to_owned));
        assert_eq!(told, [name, "critical", "a reason", "maintenance"].map(|text| Some(text.to_owned())));
        house.done(&format!("{path}?enable=false"), "").await;
        assert_eq!(house.get("/v1/agent/checks").await.body, "{}");
    }
}

#[tokio::test]
async fn the_agent_tells_who_it_is() {
    let house = House::start(&["-node", "n1", "-node-meta", "rack:<1>"]).await;
    let own = house.get("/v1/agent/self").await;
    let said = own.json();
    assert_eq!((&said["Config"]["NodeName"], &said["Config"]["Datacenter"]), (&json!("n1"), &json!("dc1")));
    assert_eq!(said["Config"]["NodeID"], house.desk.id().to_string());
    assert_eq!((&said["Config"]["Server"], &said["Config"]["Version"]), (&json!(true), &json!("1.22.0")));
    assert_eq!((&said["DebugConfig"]["ServerPort"], &said["DebugConfig"]["GRPCPort"]), (&json!(8300), &json!(-1)));
    assert!(own.body.contains(r#""rack":"\u003c1\u003e""#), "texts are escaped as Go does: {}", own.body);
    assert_eq!(said["Coord"]["Vec"].as_array().map(Vec::len), Some(8));
    assert_eq!(said["Meta"]["consul-network-segment"], "");
    for section in ["agent", "build", "consul", "raft", "runtime", "serf_lan"] {
        let figures = said["Stats"][section].as_object().unwrap_or_else(|| panic!("no section {section}"));
        assert!(figures.values().all(Value::is_string), "{section}");
    }
    assert_eq!((&said["Stats"]["raft"]["state"], &said["Stats"]["consul"]["leader"]), (&json!("Leader"), &json!("true")));

    let members = house.get("/v1/agent/members").await.json();
    assert_eq!(members, json!([said["Member"]]));
    let (member, tags) = (&members[0], &members[0]["Tags"]);
    assert_eq!((&member["Name"], &member["Status"], &member["Port"]), (&json!("n1"), &json!(1), &json!(8301)));
    assert_eq!((&tags["role"], &tags["dc"], &tags["port"]), (&json!("consul"), &json!("dc1"), &json!("8300")));
    assert!(tags["build"].as_str().is_some_and(|build| build.starts_with("1.22.0:")));
    assert_eq!(house.get("/v1/agent/version").await.json()["HumanVersion"], "1.22.0");
}

#[tokio::test]
async fn members_of_other_pools_and_segments() {
    let house = House::start(&["-node", "n1"]).await;
    let name = async |query: &str| house.get(&format!("/v1/agent/members{query}")).await.json()[0]["Name"].clone();
    assert_eq!(name("?wan=1").await, "n1.dc1");
    assert_eq!(name("?wan=").await, "n1");
    assert_eq!(name("?segment=_all").await, "n1");
    assert_eq!(name("?segment=_all&wan=1").await, "n1.dc1");
    let text = "Cannot provide a segment with wan=true";
    house.refused("GET", "/v1/agent/members?wan=1&segment=x", "", 400, text).await;
    assert_eq!(house.get("/v1/agent/members?segment=x").await.status, 500);
}

#[tokio::test]
async fn one_can_join_oneself_and_nobody_else() {
    let house = House::start(&["-node", "n1"]).await;
    house.done("/v1/agent/join/127.0.0.1:8301", "").await;
    house.done("/v1/agent/join/127.0.0.1", "").await;
    house.done("/v1/agent/join/127.0.0.1?wan=1", "").await;
    for address in ["127.0.0.1:9", "192.0.2.1", "not%20a%20host"] {
        let said = house.put(&format!("/v1/agent/join/{address}"), "").await;
        assert!(said.status == 500 && said.body.contains("Failed to join"), "{said:?}");
    }
    assert_eq!(house.put("/v1/agent/join/", "").await.status, 400);
    house.refused("PUT", "/v1/agent/force-leave/x", "", 500, "agent: No node found with name 'x'").await;
    house.refused("PUT", "/v1/agent/force-leave/n1?wan", "", 500, "agent: No node found with name 'n1'").await;
    house.done("/v1/agent/force-leave/n1?prune", "").await;
}

#[tokio::test]
async fn members_are_filtered_by_what_they_say_of_themselves() {
    let house = House::start(&["-node", "n1"]).await;
    let count =
        async |filter: &str| house.get(&format!("/v1/agent/members?filter={filter}")).await.json().as_array().map(Vec::len);
    assert_eq!(count("Tags.role%20==%20consul").await, Some(1));
    assert_eq!(count("Name%20!=%20n1").await, Some(0));
    assert_eq!(house.get("/v1/agent/members?filter=Nope%20==%20x").await.status, 500);
}

#[tokio::test]
async fn the_servers_are_shown_as_raft_has_them() {
    let house = House::start(&["-node", "n1"]).await;
    let shown = house.get("/v1/operator/raft/configuration").await.json();
    let server = &shown["Servers"][0];
    assert_eq!((&server["ID"], &server["Node"]), (&json!(house.desk.id().to_string()), &json!("n1")));
    assert_eq!((&server["Address"], &server["Leader"], &server["Voter"]), (&json!("127.0.0.1:8300"), &json!(true), &json!(true)));
    assert!(server["LastIndex"].as_u64().is_some_and(|index| index > 0) && shown["Index"].is_u64(), "{shown}");
    assert_eq!(house.get("/v1/status/leader").await.json(), "127.0.0.1:8300");
    assert_eq!(house.get("/v1/status/peers").await.json(), json!(["127.0.0.1:8300"]));
    let path = "/v1/operator/raft/peer";
    let neither = "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove";
    house.refused("DELETE", path, "", 400, neither).await;
    house.refused("DELETE", &format!("{path}?id=a&address=b"), "", 400, "Must specify only one of ?id or ?address").await;
    let unknown = r#"id "x" was not found in the Raft configuration"#;
    house.refused("DELETE", &format!("{path}?id=x"), "", 500, unknown).await;
    house.refused("POST", "/v1/operator/raft/transfer-leader?id=x", "", 500, unknown).await;
    house.refused("GET", "/v1/operator/raft/configuration?dc=elsewhere", "", 500, "No path to datacenter").await;
}

#[tokio::test]
async fn without_a_key_the_ring_is_empty_and_options_are_read_first() {
    let house = House::start(&[]).await;
    let path = "/v1/operator/keyring";
    let empty = house.get(path).await;
    assert!(empty.status == 500 && empty.body.contains("Keyring is empty (encryption not enabled)"), "{empty:?}");
    let range = "Invalid relay-factor: Relay factor must be in range: [0, 5]";
    house.refused("GET", &format!("{path}?relay-factor=9"), "", 400, range).await;
    let junk = r#"Error parsing relay factor: strconv.Atoi: parsing "x": invalid syntax"#;
    house.refused("GET", &format!("{path}?relay-factor=x"), "", 400, junk).await;
    let junk = r#"Error parsing local-only: strconv.ParseBool: parsing "x": invalid syntax"#;
    house.refused("GET", &format!("{path}?local-only=x"), "", 400, junk).await;
    let lists = "Invalid use of local-only: local-only can only be set for list requests";
    house.refused("POST", &format!("{path}?local-only=true"), r#"{"Key":"x"}"#, 400, lists).await;
}

#[tokio::test]
async fn keys_are_installed_used_and_removed() {
    let [old, new] = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="];
    let house = House::start(&["-encrypt", old]).await;
    let path = "/v1/operator/keyring";
    let body = |key: &str| json!({ "Key": key }).to_string();
    let told = async |method: &str, key: &str| house.ask(method, path, &[], &body(key)).await.status;
    let pool = |wan: bool, keys: &[&str], primary: &str| {
        let keys: Value = keys.iter().map(|key| ((*key).to_owned(), json!(1))).collect::<serde_json::Map<_, _>>().into();
        json!({ "WAN": wan, "Datacenter": "dc1", "Segment": "", "Keys": keys, "PrimaryKeys": { primary: 1 }, "NumNodes": 1 })
    };
    assert_eq!(house.get(path).await.json(), json!([pool(true, &[old], old), pool(false, &[old], old)]));
    assert_eq!(house.get(&format!("{path}?local-only=true")).await.json(), json!([pool(false, &[old], old)]));
    assert_eq!(told("POST", "short").await, 500);
    assert_eq!(told("PUT", new).await, 500, "it is not installed");
    assert_eq!(told("POST", new).await, 200);
    assert_eq!(house.get(path).await.json()[1], pool(false, &[old, new], old));
    assert_eq!(told("DELETE", old).await, 500, "it is the one to send with");
    assert_eq!((told("PUT", new).await, told("DELETE", old).await), (200, 200));
    assert_eq!(house.get(path).await.json()[1], pool(false, &[new], new));
    assert_eq!(house.ask("POST", path, &[], "junk").await.status, 400);
    let own = house.get("/v1/agent/self").await;
    assert!(!own.body.contains(old) && own.body.contains(r#""EncryptKey":"hidden""#), "a key was shown");
}

#[tokio::test]
async fn reload_and_leave_reach_the_assembly() {
    let house = House::start(&[]).await;
    house.done("/v1/agent/reload", "").await;
    house.refuse_reload.store(true, Ordering::SeqCst);
    house.refused("PUT", "/v1/agent/reload", "", 500, "the configuration has 1 fault").await;
    house.refused("GET", "/v1/agent/leave", "", 405, "method GET not allowed").await;
    assert!(!house.left.load(Ordering::SeqCst));
    house.done("/v1/agent/leave", "").await;
    assert!(house.left.load(Ordering::SeqCst));
}

#[tokio::test]
async fn metrics_come_as_json_or_for_prometheus() {
    let house = House::start(&[]).await;
    let json = house.get("/v1/agent/metrics?format=other").await.json();
    let lists = ["Gauges", "Points", "Counters", "Samples"];
    assert!(json["Timestamp"].is_string() && lists.iter().all(|list| json[list].is_array()), "{json}");
    let off = house.get("/v1/agent/metrics?format=prometheus").await;
    assert_eq!((off.status, off.body.as_str(), off.header("content-type")), (200, "", None));
    assert!(off.header("x-consul-reason").is_some_and(|reason| reason.contains("retention")));

    let house = House::start(&["-hcl", "telemetry { prometheus_retention_time = \"60s\" }"]).await;
    let on = house.ask("GET", "/v1/agent/metrics", &[("Accept", "application/openmetrics-text;version=1.0.0, */*")], "").await;
    assert_eq!((on.status, on.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
}

#[tokio::test]
async fn the_host_is_described() {
    let house = House::start(&[]).await;
    let host = house.get("/v1/agent/host").await.json();
    assert!(host["Memory"]["total"].is_u64() && host["CPU"].is_array() && host["CollectionTime"].is_u64(), "{host}");
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let house = House::start(&[]).await;
    house.refused("GET", "/v1/agent/monitor?loglevel=junk", "", 400, "Unknown log level: junk").await;
    house.refused("PUT", "/v1/agent/token/default", r#"{"Token":"x"}"#, 401, "ACL support disabled").await;
}
