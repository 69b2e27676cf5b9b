//! Name servers and resolvers of others in front of our DNS, and behind it: dnsmasq, unbound, drill, glibc, gRPC.
//! One that is not on this machine is said to be, on stderr.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use had::{Running, answers, had, kept, programs, succeeds};
use serde_json::json;
use support::{Agent, dns_ask, dns_question, eventually, free_port};

mod had;
mod support;

const DNSMASQ: &str = "/usr/sbin/dnsmasq";
const UNBOUND: &str = "/usr/sbin/unbound";

fn has_dnsmasq() -> bool {
    had("dnsmasq", || answers(DNSMASQ, "--version"), None)
}

fn has_unbound() -> bool {
    had("unbound", || answers(UNBOUND, "-V"), None)
}

fn instance(agent: &Agent, number: u8) {
    let service = json!({"Name": "web", "ID": format!("web-{number}"), "Address": format!("192.0.2.{number}"), "Port": 80});
    agent.done("/v1/agent/service/register", service.to_string());
}

fn gone(agent: &Agent, number: u8) {
    agent.done(&format!("/v1/agent/service/deregister/web-{number}"), "");
}

/// Starts a name server and waits until it answers at all.
fn started(command: &mut Command, at: SocketAddr) -> Running {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    eventually("the name server answers", || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let _ = socket.send(&dns_question("started.invalid", 1));
        socket.recv(&mut [0; 512]).is_ok()
    });
    running
}

/// dnsmasq with these lines in its configuration.
fn dnsmasq(dir: &Path, at: SocketAddr, lines: &[String]) -> Running {
    let file = dir.join(format!("dnsmasq-{}.conf", at.port()));
    let fixed = format!(
        "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\npid-file={}\n",
        at.port(),
        at.ip(),
        dir.join("dnsmasq.pid").display()
    );
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    std::fs::write(&file, format!("{fixed}user={}\n{}\n", user.trim(), lines.join("\n"))).unwrap();
    started(Command::new(DNSMASQ).arg("--keep-in-foreground").arg(format!("--conf-file={}", file.display())), at)
}

/// unbound with these lines of its server, and these after it.
fn unbound(dir: &Path, at: SocketAddr, server: &str, rest: &str) -> Running {
    let file = dir.join(format!("unbound-{}.conf", at.port()));
    let text = format!(
        "server:\n interface: {}\n port: {}\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n directory: \"{}\"\n pidfile: \"\"\n \
         use-syslog: no\n logfile: \"\"\n do-not-query-localhost: no\n module-config: \"iterator\"\n num-threads: 1\n{server}\n\
         remote-control:\n control-enable: no\n{rest}\n",
        at.ip(),
        at.port(),
        dir.display(),
    );
    std::fs::write(&file, text).unwrap();
    started(Command::new(UNBOUND).arg("-d").arg("-c").arg(&file), at)
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The code, and the addresses in the answers, sorted: the last four bytes of each record.
fn found(to: SocketAddr, name: &str) -> (u8, Vec<[u8; 4]>) {
    let question = dns_question(name, 1);
    let answer = dns_ask(to, &question);
    let mut rest = answer.get(question.len()..).unwrap_or_default();
    let mut all = Vec::new();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        let Some((record, after)) = rest.split_at_checked(16) else { break };
        // All names there are pointers to the question.
        all.push(record[12..].try_into().unwrap());
        rest = after;
    }
    all.sort_unstable();
    (answer[3] & 0xf, all)
}

/// Through a forwarder our names are found, changes are seen, and negative answers are not kept.
fn follows(agent: &Agent, through: SocketAddr) {
    assert_eq!(found(through, "web.service.consul"), (3, vec![]));
    instance(agent, 1);
    eventually("the first is found", || found(through, "web.service.consul") == (0, vec![[192, 0, 2, 1]]));
    instance(agent, 2);
    eventually("both are found", || found(through, "WEB.service.CONSUL") == (0, vec![[192, 0, 2, 1], [192, 0, 2, 2]]));
    gone(agent, 1);
    eventually("one is left", || found(through, "web.service.consul") == (0, vec![[192, 0, 2, 2]]));
    gone(agent, 2);
    eventually("none is left", || found(through, "web.service.consul") == (3, vec![]));
}

#[test]
fn dnsmasq_forwards_our_domain_to_us() {
    if !has_dnsmasq() {
        return;
    }
    let (agent, dir) = (Agent::with(&["-dev"]), tempfile::tempdir().unwrap());
    let at = here(free_port());
    let _running = dnsmasq(dir.path(), at, &[format!("server=/consul/127.0.0.1#{}", agent.dns.port())]);
    follows(&agent, at);
}

#[test]
fn unbound_forwards_our_domain_to_us() {
    if !has_unbound() {
        return;
    }
    let (agent, dir) = (Agent::with(&["-dev"]), tempfile::tempdir().unwrap());
    let at = here(free_port());
    // It writes names in letters of any case, and takes only answers that have the same.
    let server = " domain-insecure: \"consul\"\n use-caps-for-id: yes\n";
    let rest = format!("forward-zone:\n name: \"consul\"\n forward-addr: 127.0.0.1@{}\n", agent.dns.port());
    let _running = unbound(dir.path(), at, server, &rest);
    follows(&agent, at);
}

#[test]
fn dnsmasq_and_unbound_are_asked_for_other_names() {
    if !has_dnsmasq() || !has_unbound() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (here(free_port()), here(free_port()));
    let own = ["address=/one.example/203.0.113.1".to_owned(), "server=/two.example/".to_owned()];
    let dnsmasq = dnsmasq(dir.path(), first, &own);
    let zone = " local-zone: \"two.example.\" static\n local-data: \"two.example. 5 IN A 203.0.113.2\"\n \
                local-zone: \"big.example.\" static\n local-data: \"one.example. 5 IN A 203.0.113.3\"\n";
    let big: String = (0..60).map(|number| format!(" local-data: \"big.example. 5 IN A 198.18.0.{number}\"\n")).collect();
    let _unbound = unbound(dir.path(), second, &format!("{zone}{big}"), "");
    let file = dir.path().join("agent.json");
    let write = |recursors: &[SocketAddr]| {
        std::fs::write(&file, json!({"recursors": recursors, "dns_config": {"recursor_timeout": "500ms"}}).to_string()).unwrap();
    };
    write(&[first]);
    let agent = Agent::with(&["-dev", &format!("-config-file={}", file.display())]);
    assert_eq!(found(agent.dns, "one.example"), (0, vec![[203, 0, 113, 1]]));
    assert_eq!(found(agent.dns, "big.example").0, 2, "dnsmasq has nobody to ask");
    // What is not ours at an address of ours: a node whose address is a name.
    let node = json!({"Node": "ext", "Address": "one.example", "Service": {"Service": "outside", "Port": 80}});
    agent.done("/v1/catalog/register", node.to_string());
    eventually("its alias is followed", || {
        let answer = dns_ask(agent.dns, &dns_question("outside.service.consul", 1));
        answer[7] == 2 && answer.ends_with(&[203, 0, 113, 1])
    });
    // Others from now on, at a signal.
    write(&[first, second]);
    agent.signal("HUP");
    eventually("the second is asked where the first fails", || found(agent.dns, "big.example").0 == 0);
    assert_eq!(found(agent.dns, "two.example"), (3, vec![]), "the first says that there is none: that is an answer");
    let config = agent.get("/v1/agent/self").json();
    assert_eq!(config["DebugConfig"]["DNSRecursors"], json!([first, second]));
    // What does not fit a datagram is fetched over a connection.
    let drill = |flags: &[&str]| {
        let port = agent.dns.port().to_string();
        let asked = Command::new("drill").args(["-p", &port]).args(flags).args(["@127.0.0.1", "big.example", "A"]).output();
        String::from_utf8(asked.unwrap().stdout).unwrap().lines().filter(|line| line.contains("198.18.0.")).count()
    };
    if had("drill", || answers("drill", "-v"), None) {
        assert_eq!((drill(&["-t"]), drill(&["-b", "4096"]), drill(&["-a"])), (60, 60, 60));
    }
    drop(dnsmasq);
    eventually("who does not answer is passed over", || found(agent.dns, "one.example") == (0, vec![[203, 0, 113, 3]]));
    assert_eq!(found(agent.dns, "none.service.consul").0, 3, "our own names are ours");
}

#[test]
fn a_loop_between_dnsmasq_and_us_ends_and_is_said_once() {
    if !has_dnsmasq() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = here(free_port());
    let flags = [format!("-recursor={at}"), "-hcl".to_owned(), "dns_config { recursor_timeout = \"300ms\" }".to_owned()];
    let agent = Agent::with(&["-dev", &flags[0], &flags[1], &flags[2]]);
    // It sends us everything, what we ask it included; and says so in its log, which has a line for each query.
    let log = dir.path().join("queries");
    let lines =
        [format!("server=127.0.0.1#{}", agent.dns.port()), "log-queries".to_owned(), format!("log-facility={}", log.display())];
    let _running = dnsmasq(dir.path(), at, &lines);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(found(agent.dns, name).0, 2, "{name}");
    }
    let asked = std::fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains("query[A] a.example")).count();
    assert!((1..20).contains(&asked), "{asked} queries for one");
    instance(&agent, 1);
    eventually("our own names go through it", || found(at, "web.service.consul").0 == 0);
    eventually("it is said", || agent.log().contains("it seems to ask back whom it is asked by"));
    assert_eq!(agent.log().matches("it seems to ask back").count(), 1);
}

#[test]
fn an_agent_that_is_its_own_recursor_says_so_and_does_not_ask() {
    let at = here(free_port());
    // The later flag counts.
    let agent = Agent::with(&["-dev", &format!("-recursor={at}"), &format!("-dns-port={}", at.port())]);
    assert_eq!(found(at, "a.example").0, 2);
    assert!(agent.log().contains("a recursor is this agent itself"), "{}", agent.log());
}

#[test]
fn drill_asks_over_udp_tcp_and_with_edns() {
    if !had("drill", || answers("drill", "-v"), None) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    for number in 0..40 {
        instance(&agent, number);
    }
    let port = agent.dns.port().to_string();
    let drill = |flags: &[&str]| {
        let text =
            succeeds(Command::new("drill").args(["-p", &port]).args(flags).args(["@127.0.0.1", "web.service.consul", "SRV"]));
        assert!(text.contains("rcode: NOERROR"), "{flags:?}: {text}");
        text.lines().filter(|line| line.contains("\tSRV\t") && !line.starts_with(';')).count()
    };
    eventually("all are found over TCP", || drill(&["-t"]) == 40);
    assert_eq!(drill(&["-u"]), 3);
    let (small, large) = (drill(&["-b", "1232"]), drill(&["-b", "4096"]));
    assert!(3 < small && small < large && large == 40, "{small}, {large}");
}

/// glibc asks on port 53 alone, of whom the file says that is put over /etc/resolv.conf for it: in a name space of its own.
fn getent(resolv: &Path, name: &str) -> (bool, String) {
    let script = "mount --bind \"$1\" /etc/resolv.conf && exec getent ahostsv4 \"$2\"";
    let output = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(resolv).arg(name).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn glibc_finds_names_through_dnsmasq_and_through_unbound() {
    if !has_dnsmasq() || !has_unbound() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = [1, 2].map(|last| {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        SocketAddr::from(([127, 64 + high % 64, low, last], 53))
    });
    let resolv = dir.path().join("resolv.conf");
    std::fs::write(&resolv, "options timeout:1\n").unwrap();
    let private = || {
        let script = "mount --bind \"$1\" /etc/resolv.conf";
        let status = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&resolv).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()) && UdpSocket::bind(one).is_ok()
    };
    if !had("a name space with a resolv.conf of one's own, and port 53", private, None) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let dns = agent.dns.port();
    let _dnsmasq = dnsmasq(dir.path(), one, &[format!("server=/consul/127.0.0.1#{dns}")]);
    let rest = format!("forward-zone:\n name: \"consul\"\n forward-addr: 127.0.0.1@{dns}\n");
    let _unbound = unbound(dir.path(), two, " domain-insecure: \"consul\"\n", &rest);
    for (at, search) in [(one, "search service.consul"), (two, "options ndots:1")] {
        std::fs::write(&resolv, format!("nameserver {}\n{search}\n", at.ip())).unwrap();
        assert!(!getent(&resolv, "web.service.consul").0, "there is none yet");
        instance(&agent, 1);
        eventually("glibc finds it", || getent(&resolv, "web.service.consul").1.contains("192.0.2.1 "));
        if search.starts_with("search") {
            assert!(getent(&resolv, "web").1.contains("192.0.2.1 "), "by its search list");
        }
        instance(&agent, 2);
        eventually("glibc finds both", || {
            let text = getent(&resolv, "web.service.consul").1;
            text.contains("192.0.2.1 ") && text.contains("192.0.2.2 ")
        });
        gone(&agent, 1);
        gone(&agent, 2);
        eventually("glibc finds none", || !getent(&resolv, "web.service.consul").0);
    }
}

#[test]
fn grpc_follows_a_service_by_our_dns() {
    let folder = kept().join("python");
    if !had("gRPC for Python", || folder.join("grpc").exists(), Some(&mut had::python("grpcio"))) {
        return;
    }
    let agent = Agent::with(&["-dev"]);
    let ports = [agent.dns.port(), agent.http.port(), free_port()].map(|port| port.to_string());
    let mut program = Command::new("python3");
    let said = succeeds(
        program.arg(programs().join("grpc_names.py")).args(ports).env("PYTHONPATH", folder).env("GRPC_DNS_RESOLVER", "ares"),
    );
    assert!(said.ends_with("done\n"), "{said}");
}
