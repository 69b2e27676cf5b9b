//! How servers come and go as set over the API, and how healthy they are.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Agent, Around, eventually, free_port};

mod support;

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";

fn voters(agent: &Agent) -> usize {
    let servers = agent.get("/v1/operator/raft/configuration").json();
    servers["Servers"].as_array().unwrap().iter().filter(|server| server["Voter"] == true).count()
}

#[test]
fn settings_are_changed_on_condition_and_survive_a_restart() {
    let mut agent = Agent::with(&["-hcl", "autopilot {\n max_trailing_logs = 77\n}"]);
    let configured = json!({
        "CleanupDeadServers": true, "LastContactThreshold": "200ms", "MaxTrailingLogs": 77, "MinQuorum": 0,
        "ServerStabilizationTime": "10s", "RedundancyZoneTag": "", "DisableUpgradeMigration": false, "UpgradeVersionTag": "",
        "CreateIndex": 0, "ModifyIndex": 0,
    });
    assert_eq!(agent.get(CONFIGURATION).json(), configured);
    let body = json!({"CleanupDeadServers": false, "LastContactThreshold": "1m", "MaxTrailingLogs": 500, "ServerStabilizationTime": "3s"});
    let set = |path: &str| agent.put(path, body.to_string()).text();
    assert_eq!(set(&format!("{CONFIGURATION}?cas=9")), "false");
    assert_eq!(set(&format!("{CONFIGURATION}?cas=0")), "true");
    assert_eq!(set(&format!("{CONFIGURATION}?cas=0")), "false");
    assert_eq!(set(CONFIGURATION), "true");
    let now = agent.get(CONFIGURATION).json();
    assert_eq!((&now["CleanupDeadServers"], &now["LastContactThreshold"]), (&Value::Bool(false), &json!("1m0s")));
    assert_eq!((&now["MaxTrailingLogs"], &now["MinQuorum"]), (&json!(500), &json!(0)));
    assert!(now["ModifyIndex"].as_u64().unwrap() > now["CreateIndex"].as_u64().unwrap());
    for (path, body, text) in [
        (format!("{CONFIGURATION}?cas=x"), "{}", "Error parsing cas value: "),
        (CONFIGURATION.to_owned(), "{\"Bogus\": 1}", "Error parsing autopilot config: "),
        (CONFIGURATION.to_owned(), "{", "Error parsing autopilot config: "),
    ] {
        let answer = agent.put(&path, body);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().starts_with(text), "{}", answer.text());
    }
    agent.kill_and_start();
    assert_eq!(agent.get(CONFIGURATION).json(), now);

    let health = agent.get("/v1/operator/autopilot/health");
    let id = agent.get("/v1/agent/self").json()["Config"]["NodeID"].clone();
    let server = &health.json()["Servers"][0];
    assert_eq!((health.status, &health.json()["Healthy"], &health.json()["FailureTolerance"]), (200, &json!(true), &json!(0)));
    assert_eq!((&server["ID"], &server["Leader"], &server["Voter"]), (&id, &json!(true), &json!(true)));
    assert_eq!(
        (&server["SerfStatus"], &server["LastContact"], &server["Healthy"]),
        (&json!("alive"), &json!("0s"), &json!(true))
    );
    assert!(server["StableSince"].as_str().unwrap().starts_with("20"));
    let state = agent.get("/v1/operator/autopilot/state").json();
    assert_eq!((&state["Leader"], &state["Voters"]), (&id, &json!([id])));
    assert_eq!(state["Servers"][id.as_str().unwrap()]["Status"], "leader");
}

#[test]
fn a_new_server_votes_when_it_has_been_well_for_long_enough_and_its_death_shows() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (gossip, wait) = (free_port(), Duration::from_secs(2));
    let settings = "autopilot {\n server_stabilization_time = \"2s\"\n last_contact_threshold = \"1s\"\n}";
    let ports = |gossip: u16| format!("ports {{\n server = {}\n serf_lan = {gossip}\n}}", free_port());
    let around = || Around { member: true, ..Around::default() };
    let (one, two) = (ports(gossip), ports(free_port()));
    let mut first =
        Agent::started(dirs[0].path(), &["-node=one", "-server", "-bootstrap", "-hcl", &one, "-hcl", settings], around());
    first.wait_for_leader();
    // A leader younger than that makes nobody wait.
    let leads = Instant::now();
    eventually("the leader is old enough", || leads.elapsed() > wait.mul_f64(1.2));
    let join = format!("-retry-join=127.0.0.1:{gossip}");
    let mut second = Agent::started(dirs[1].path(), &["-node=two", "-server", "-hcl", &two, &join], around());
    let there = |agent: &Agent| agent.get("/v1/agent/members").json().as_array().unwrap().len();
    eventually("the second one is there", || there(&first) == 2);
    let came = Instant::now();
    eventually("it votes", || voters(&first) == 2);
    assert!(came.elapsed() > wait - Duration::from_millis(500), "it had its vote after {:?}", came.elapsed());
    second.wait_for_leader();
    let health = |agent: &Agent| agent.get("/v1/operator/autopilot/health");
    eventually("both are healthy, as seen by either", || {
        [&first, &second]
            .iter()
            .all(|agent| health(agent).status == 200 && health(agent).json()["Servers"].as_array().unwrap().len() == 2)
    });
    assert_eq!(second.get(CONFIGURATION).json(), first.get(CONFIGURATION).json());
    second.signal("STOP");
    eventually("who is silent is not healthy", || {
        let health = health(&first);
        health.status == 429 && health.json()["Servers"].as_array().unwrap().iter().any(|server| server["Healthy"] == false)
    });
    second.signal("CONT");
}
