//! Commands about members, keys of gossip and servers.

use serde_json::Value;

use super::canned::{Canned, program, run};

const MEMBERS: &str = r#"[
    {"Name": "s1", "Addr": "10.0.0.1", "Port": 8301, "Status": 1, "ProtocolCur": 2,
     "Tags": {"role": "consul", "dc": "dc1", "vsn": "2", "build": "1.22.0:abc", "segment": ""}},
    {"Name": "c1", "Addr": "fe80::1", "Port": 8301, "Status": 4, "Tags": {"role": "node", "dc": "dc1", "vsn": "2", "build": "1.22.0:"}}]"#;

#[test]
fn members_are_a_table_sorted_by_name() {
    let agent = Canned::new(&[("GET /v1/agent/members", 200, MEMBERS)]);
    assert_eq!(
        agent.run(&["members"]).well().out(),
        "Node  Address         Status  Type    Build   Protocol  DC   Partition  Segment\n\
         c1    [fe80::1]:8301  failed  client  1.22.0  2         dc1  default    <default>\n\
         s1    10.0.0.1:8301   alive   server  1.22.0  2         dc1  default    <all>\n"
    );
    let detailed = agent.run(&["members", "-detailed", "-status", "^al"]).well();
    assert!(detailed.out().ends_with("alive   build=1.22.0:abc,dc=dc1,role=consul,segment=<all>,vsn=2\n"), "{}", detailed.out());
}

#[test]
fn a_member_that_accuses_those_who_live_is_told() {
    let member = r#"[{"Name": "c1", "Addr": "10.0.0.1", "Port": 8301, "Status": 1, "Tags": {}, "WrongAccusations": 7}]"#;
    let agent = Canned::new(&[("GET /v1/agent/members", 200, member)]);
    let detailed = agent.run(&["members", "-detailed"]).well();
    assert!(detailed.out().ends_with("held others dead who live, 7 times\n"), "{}", detailed.out());
    let shown: Value = serde_json::from_slice(&agent.run(&["members", "-format=json"]).well().out).unwrap();
    assert_eq!(shown[0]["WrongAccusations"], 7);
}

#[test]
fn members_without_a_match_end_with_2() {
    let agent = Canned::new(&[("GET /v1/agent/members", 200, MEMBERS)]);
    let none = agent.run(&["members", "-status=left"]);
    assert_eq!((none.code, none.out()), (Some(2), ""));
    agent.run(&["members", "-status=("]).failed("regular expression");
}

#[test]
fn members_as_json_are_the_apis_own() {
    let agent = Canned::new(&[("GET /v1/agent/members", 200, MEMBERS)]);
    let members: Value = serde_json::from_slice(&agent.run(&["members", "-format=json", "-status=alive"]).well().out).unwrap();
    assert_eq!(members[0]["Name"], "s1");
    assert_eq!(members[0]["ProtocolCur"], 2, "what no table shows is there too");
    assert_eq!(members[0]["Tags"]["segment"], "");
    assert_eq!(members.as_array().unwrap().len(), 1);
}

#[test]
fn an_agent_joins_others_and_one_that_is_met_is_enough() {
    let agent = Canned::new(&[("PUT /v1/agent/join/10.0.0.1", 200, ""), ("PUT /v1/agent/join/10.0.0.2%3A8301", 500, "refused")]);
    let one = agent.run(&["join", "10.0.0.1", "10.0.0.2:8301"]).well();
    assert_eq!(one.out(), "Successfully joined cluster by contacting 1 nodes.\n");
    assert!(one.err.contains("refused"), "{}", one.err);
    agent.run(&["join", "10.0.0.2:8301"]).failed("refused");
    agent.run(&["join"]).failed("ADDRESS");
}

#[test]
fn a_failed_member_is_made_to_leave() {
    let agent = Canned::new(&[
        ("PUT /v1/agent/force-leave/n1", 200, ""),
        ("PUT /v1/agent/force-leave/n1?prune&wan", 200, ""),
        ("PUT /v1/agent/force-leave/n2", 500, "agent: No node found with name 'n2'"),
    ]);
    assert_eq!(agent.run(&["force-leave", "n1"]).well().out(), "");
    assert_eq!(agent.run(&["force-leave", "-prune", "-wan", "n1"]).well().out(), "");
    agent.run(&["force-leave", "n2"]).failed("No node found with name 'n2'");
}

#[test]
fn a_new_key_is_32_bytes_and_never_the_same() {
    use base64::Engine as _;
    let key = || run(program().arg("keygen"), b"").well().out().to_owned();
    let (one, other) = (key(), key());
    assert_ne!(one, other);
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(one.trim()).unwrap().len(), 32);
}

#[test]
fn a_cluster_is_simulated_with_two_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let fast = folder.path().join("fast.toml");
    std::fs::write(&fast, "[gossip_lan]\nprobe_interval = \"250ms\"\nprobe_timeout = \"100ms\"\n").unwrap();
    let args = ["simulate", "-nodes", "8", "-loss", "2%", "-silent", "1", "-seconds", "40", "-seeds", "2"];
    let mut command = program();
    let ended = run(command.args(args).arg("-beside").arg(&fast), b"").well();
    let lines: Vec<&str> = ended.out().lines().collect();
    assert_eq!(lines[0], "8 nodes, 2 % of UDP lost, 1 silent: 2 runs of 40 s, seeds 1 to 2");
    let p50 = lines.iter().find(|line| line.contains("p50")).expect("a row of the median");
    let seconds: Vec<f64> = p50.split_whitespace().filter_map(|cell| cell.parse().ok()).collect();
    assert!(seconds[1] < seconds[0] && seconds[2] < 0.0, "four times as fast: {p50}");
    assert!(ended.out().contains("False deaths a day"), "{}", ended.out());
    let again = run(program().args(args).arg("-beside").arg(&fast), b"").well();
    assert_eq!(again.out(), ended.out(), "equal seeds give equal runs");
}

#[test]
fn what_a_killed_agent_runs_is_waited_for_as_its_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let patient = folder.path().join("patient.toml");
    std::fs::write(&patient, "restart_grace = \"30s\"\nmass_loss_hold = \"10s\"\n").unwrap();
    let args = ["simulate", "-nodes", "6", "-kill", "1", "-seconds", "20", "-seeds", "1"];
    let ended = run(program().args(args).arg("-beside").arg(&patient), b"").well();
    let worst = ended.out().lines().find(|line| line.contains("no answer, worst")).expect("a row of it").to_owned();
    let seconds: Vec<f64> = worst.split_whitespace().filter_map(|cell| cell.parse().ok()).collect();
    assert!((5.0..7.0).contains(&seconds[0]) && seconds[2] == 25.0, "{worst}");
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    for (args, said) in [
        (["-nodes", "0", "-seeds", "1"], "0 nodes"),
        (["-nodes", "5", "-loss", "100%"], "100 %"),
        (["-nodes", "5", "-loss", "-3%"], "-3 %"),
        (["-nodes", "5", "-kill", "5"], "5 of 5 nodes end"),
        (["-nodes", "5", "-silent", "7"], "7 of 5 nodes end"),
        (["-nodes", "5", "-seeds", "0"], "at least 1"),
        (["-nodes", "5", "-config-file", "/nowhere.toml"], "/nowhere.toml"),
        (["-nodes", "99999", "-kill", "1"], "16384"),
        (["-nodes", "5", "-pause", "6"], "6 of 5"),
        (["-kill", "60", "-pause", "60"], "120 of 100"),
        (["-silent", "1", "-seconds", "4"], "after 5 s"),
        (["-nodes", "5", "-seconds", "18446744073709551615"], "a year"),
    ] {
        run(program().arg("simulate").args(args), b"").failed(said);
    }
}

#[test]
fn key_rings_are_listed_and_changed() {
    let ring = r#"[{"WAN": true, "Datacenter": "dc1", "Segment": "", "Keys": {"k1=": 2}, "PrimaryKeys": {"k1=": 2}, "NumNodes": 2},
        {"WAN": false, "Datacenter": "dc1", "Segment": "", "Keys": {"k1=": 3, "k2=": 1}, "PrimaryKeys": {"k1=": 3}, "NumNodes": 3,
         "Messages": {"c1": "no answer"}}]"#;
    let agent = Canned::new(&[
        ("GET /v1/operator/keyring", 200, ring),
        ("POST /v1/operator/keyring", 200, ""),
        ("PUT /v1/operator/keyring", 200, ""),
        ("DELETE /v1/operator/keyring", 500, "removing the primary key is not allowed"),
    ]);
    let listed = "WAN:\n  k1= [2/2]\n\ndc1 (LAN):\n  c1: no answer\n  k1= [3/3]\n  k2= [1/3]\n";
    assert_eq!(agent.run(&["keyring", "-list"]).well().out(), listed);
    assert_eq!(agent.run(&["keyring", "list"]).well().out(), listed);
    assert!(!agent.run(&["keyring", "-list-primary"]).well().out().contains("k2="));
    agent.run(&["keyring", "-install=k2="]).well();
    agent.run(&["keyring", "use", "k2="]).well();
    agent.run(&["keyring", "-remove", "k1="]).failed("removing the primary key is not allowed");
    agent.run(&["keyring"]).failed("Say what to do");
    let sent: Vec<String> = agent.asked().iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
    assert!(sent.contains(&r#"{"Key":"k2="}"#.to_owned()), "{sent:?}");
}

#[test]
fn servers_are_listed_removed_and_made_to_lead() {
    let servers = r#"{"Servers": [{"ID": "a", "Node": "n1", "Address": "10.0.0.1:8300", "Leader": true, "ProtocolVersion": "3",
        "Voter": true, "LastIndex": 9}], "Index": 3}"#;
    let agent = Canned::new(&[
        ("GET /v1/operator/raft/configuration", 200, servers),
        ("DELETE /v1/operator/raft/peer?id=a", 200, ""),
        ("POST /v1/operator/raft/transfer-leader", 200, r#"{"Success":true}"#),
    ]);
    let listed = agent.run(&["operator", "raft", "list-peers"]).well();
    assert!(listed.out().lines().nth(1).unwrap().starts_with("n1    a   10.0.0.1:8300  leader  true   3"), "{}", listed.out());
    assert_eq!(agent.run(&["operator", "raft", "remove-peer", "-id=a"]).well().out(), "Removed peer with id \"a\"\n");
    agent.run(&["operator", "raft", "remove-peer"]).failed("Name the server");
    assert_eq!(agent.run(&["operator", "raft", "transfer-leader"]).well().out(), "Success\n");
}
