//! Leader elections with the clients that people use, on three servers whose leader is killed, and so is the holder.
//!
//! `MUSTER_TEST_ELECTION=full` kills the servers' leader ten times and each holder five times; without it once, and so the suite
//! stays short.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use had::{had, kept, programs};
use whole::{Agent, Net, eventually};

mod had;
mod support;
mod whole;

/// The bounds within which an operator of this cluster would live: a client that sleeps in a lock delay tries again after five
/// seconds (HashiCorp's), so the delay is no shorter.
const LOCK_DELAY: Duration = Duration::from_secs(5);
/// What is added for the machine that runs all of this beside other tests.
const SLACK: Duration = Duration::from_secs(2);

/// What a contender says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Held,
    Lost,
}

/// One election: contenders for one key.
struct Election {
    name: &'static str,
    key: String,
    ttl: Duration,
    make: fn(&str, &str, &str, Duration) -> Command,
    contenders: Vec<Option<Child>>,
    words: Receiver<(usize, Instant, Word)>,
    said: Sender<(usize, Instant, Word)>,
    holder: Option<usize>,
    /// Since when nobody holds it, but for a reason that the servers' leader has nothing to do with.
    vacant: Instant,
    longest: Duration,
    losses: usize,
    elected: usize,
}

fn go(host: &str, key: &str, name: &str, ttl: Duration) -> Command {
    let mut command = Command::new(kept().join("lock"));
    command.arg("contend").arg(format!("{host}:8500")).args([key, name]);
    command.arg(format!("{}s", ttl.as_secs())).arg(format!("{}s", LOCK_DELAY.as_secs()));
    command
}

fn python(host: &str, key: &str, name: &str, ttl: Duration) -> Command {
    let mut command = Command::new("python3");
    command.arg(programs().join("contend.py")).args([host, key, name]).arg(ttl.as_secs().to_string());
    command.arg(LOCK_DELAY.as_secs().to_string()).env("PYTHONPATH", kept().join("python"));
    command
}

impl Election {
    fn new(name: &'static str, ttl: Duration, make: fn(&str, &str, &str, Duration) -> Command) -> Self {
        let (said, words) = channel();
        let contenders = (0..3).map(|_| None).collect();
        Self {
            name,
            key: format!("election/{name}"),
            ttl,
            make,
            contenders,
            words,
            said,
            holder: None,
            vacant: Instant::now(),
            longest: Duration::ZERO,
            losses: 0,
            elected: 0,
        }
    }

    fn start(&mut self, number: usize, host: &str) {
        let mut command = (self.make)(host, &self.key, &format!("{}-{number}", self.name), self.ttl);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (output, said) = (BufReader::new(child.stdout.take().unwrap()), self.said.clone());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let word = match line.as_str() {
                    "held" => Word::Held,
                    "lost" => Word::Lost,
                    _ => continue,
                };
                if said.send((number, Instant::now(), word)).is_err() {
                    return;
                }
            }
        });
        self.contenders[number] = Some(child);
    }

    fn start_all(&mut self, host: &str) {
        (0..self.contenders.len()).for_each(|number| self.start(number, host));
        self.vacant = Instant::now();
    }

    /// Takes in what was said.
    fn listen(&mut self) {
        while let Ok((number, at, word)) = self.words.try_recv() {
            println!("{}: {number} {word:?}", self.name);
            match word {
                Word::Held => {
                    assert!(self.holder.is_none(), "{}: {number} holds it, and {:?} does", self.name, self.holder);
                    let vacant = at.saturating_duration_since(self.vacant);
                    if self.elected > 0 {
                        assert!(vacant <= self.bound(), "{}: nobody held it for {vacant:?}", self.name);
                        self.longest = self.longest.max(vacant);
                    }
                    (self.holder, self.elected) = (Some(number), self.elected + 1);
                }
                Word::Lost if self.holder == Some(number) => {
                    (self.holder, self.vacant, self.losses) = (None, at, self.losses + 1);
                }
                Word::Lost => {}
            }
        }
    }

    /// How long nobody may hold it.
    fn bound(&self) -> Duration {
        self.ttl * 2 + LOCK_DELAY + SLACK
    }

    /// Waits until somebody holds it.
    fn held(&mut self) {
        let bound = self.bound();
        while self.holder.is_none() {
            let vacant = self.vacant.elapsed();
            assert!(self.elected == 0 || vacant <= bound, "{}: nobody holds it for {vacant:?}, more than {bound:?}", self.name);
            assert!(vacant <= Duration::from_secs(60), "{}: nobody ever holds it", self.name);
            std::thread::sleep(Duration::from_millis(5));
            self.listen();
        }
    }

    /// `kill -9` of who holds it.
    fn kill_holder(&mut self) -> usize {
        self.held();
        let number = self.holder.take().unwrap();
        let mut child = self.contenders[number].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.vacant = Instant::now();
        // What it said before its end counts; it cannot hold anything after it.
        std::thread::sleep(Duration::from_millis(50));
        self.listen();
        self.holder = self.holder.filter(|holder| *holder != number);
        number
    }

    fn lock_index(&self, agent: &Agent) -> u64 {
        agent.get(&format!("/v1/kv/{}", self.key)).json()[0]["LockIndex"].as_u64().unwrap()
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        for child in self.contenders.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `kill -9` of the servers' leader, and its return.
fn kill_leader(servers: &mut [Agent], client: &Agent, elections: &mut [Election]) {
    let mut leader = String::new();
    eventually("the client knows a leader", || {
        leader = client.leader();
        !leader.is_empty()
    });
    let at = servers.iter().position(|server| server.ip == leader).unwrap();
    servers[at].kill();
    let began = Instant::now();
    eventually("another server leads", || {
        let now = client.leader();
        elections.iter_mut().for_each(Election::listen);
        !now.is_empty() && now != leader
    });
    println!("servers: {leader} was killed, another one leads after {:?}", began.elapsed());
    servers[at].start_up();
    elections.iter_mut().for_each(Election::listen);
}

#[test]
fn elections_outlive_leaders_of_the_servers_and_follow_holders() {
    let python_there = kept().join("python/consul");
    if !had("HashiCorp's Go client", || had::built("lock"), Some(&mut had::go("lock")))
        || !had("py-consul", || python_there.exists(), Some(&mut had::python("py-consul")))
    {
        return;
    }
    let full = std::env::var("MUSTER_TEST_ELECTION").is_ok_and(|mode| mode == "full");
    // py-consul takes no TTL below ten seconds.
    let (leaders, holders, ttl) = if full { (10, 5, 10) } else { (1, 1, 2) };
    let net = Net::new();
    let flags = ["-hcl", "session_ttl_min = \"1s\""];
    let mut servers = net.servers(3, &flags);
    let mut client = net.client(4, 3, &flags);
    client.start_up();
    let of_go = Election::new("go", Duration::from_secs(ttl), go);
    let of_python = Election::new("python", Duration::from_secs(10), python);
    let mut elections = [of_go, of_python];
    for election in &mut elections {
        election.start_all(&client.ip);
        election.held();
    }

    // A client agent holds none of this: its servers are asked.
    let pair = client.get("/v1/kv/election/go").json()[0].clone();
    let session = pair["Session"].as_str().unwrap();
    for path in [format!("info/{session}"), "node/c4".to_owned(), "list".to_owned()] {
        let all = client.get(&format!("/v1/session/{path}")).json();
        assert!(all.as_array().unwrap().iter().any(|one| one["ID"] == session), "{path}: {all}");
    }
    assert_eq!(client.put(&format!("/v1/session/renew/{session}"), "").json()[0]["Node"], "c4");
    assert_eq!(client.put(&format!("/v1/session/renew/{}", uuid::Uuid::nil()), "").status, 404);
    let read = r#"[{"KV":{"Verb":"get","Key":"election/go"}},{"Node":{"Verb":"get","Node":{"Node":"s1"}}}]"#;
    let read = client.put("/v1/txn?stale", read).json();
    assert_eq!(
        (&read["Results"][0]["KV"]["Session"], &read["Results"][1]["Node"]["Node"]),
        (&pair["Session"], &"s1".into()),
        "{read}"
    );

    let before: Vec<u64> = elections.iter().map(|election| election.lock_index(&client)).collect();
    for _ in 0..leaders {
        kill_leader(&mut servers, &client, &mut elections);
    }
    // A lock that was lost shows it within its TTL.
    let end = Instant::now() + Duration::from_secs(ttl);
    while Instant::now() < end {
        elections.iter_mut().for_each(Election::listen);
        std::thread::sleep(Duration::from_millis(20));
    }
    for (election, before) in elections.iter().zip(before) {
        assert_eq!(
            (election.losses, election.lock_index(&client)),
            (0, before),
            "{}: a lock is lost by a change of leaders",
            election.name
        );
    }

    for turn in 0..holders {
        // So that holders are killed at other moments of their renewals, too.
        std::thread::sleep(Duration::from_millis(700 * turn));
        let some = || |election: &&mut Election| full || election.name == "go";
        let killed: Vec<usize> = elections.iter_mut().filter(some()).map(Election::kill_holder).collect();
        for (election, number) in elections.iter_mut().filter(some()).zip(killed) {
            election.held();
            election.start(number, &client.ip);
        }
    }
    for election in &mut elections {
        election.listen();
        assert_eq!(election.losses, 0, "{}", election.name);
        let (name, elected, longest) = (election.name, election.elected, election.longest);
        println!(
            "{name}: {leaders} leaders killed, elected {elected} times, nobody for {longest:?} at most (TTL {:?})",
            election.ttl
        );
    }
}
