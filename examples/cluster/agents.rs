//! Six agents as processes of this program, and the service beside each of them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, ChildStdin, Command};

/// Set for children: they end when their standard input does, which is when this program ends, however it ends.
const CHILD: &str = "MUSTER_CLUSTER_CHILD";
/// Where the services listen.
const SERVICE_PORT: u16 = 18080;
/// Each kind of agent.
pub const SERVERS: usize = 3;
pub const CLIENTS: usize = 3;
/// How long a caller of a service may take over its request.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long agents have to end by themselves.
const END_MAX: Duration = Duration::from_secs(3);

/// Makes a child of this program end with it.
pub fn end_with_parent() {
    if std::env::var_os(CHILD).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
}

/// One agent, running or not.
#[derive(Debug)]
pub struct Agent {
    /// `server-1` and so on.
    pub name: String,
    /// Its own loopback address.
    pub address: Ipv4Addr,
    /// Whether it holds the catalog.
    pub server: bool,
    /// How it ended, if it did.
    pub ended: Option<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Held apart, because waiting for a child closes what it holds.
    _input: ChildStdin,
}

/// What can be done to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL: no good-bye.
    Kill,
    /// SIGTERM: it leaves, if it is a client.
    Stop,
    /// Start it on its data again.
    Start,
}

/// All of them.
#[derive(Debug)]
pub struct Agents {
    all: Vec<Agent>,
    folder: PathBuf,
    /// Whether the folder goes at the end.
    passing: bool,
    key: String,
}

impl Agent {
    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|running| running.child.id())
    }

    /// A port at its address.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}

impl Agents {
    /// Six agents at `net`.1 to 3 and `net`.11 to 13. Nothing runs yet but the services beside them.
    pub fn new(net: &str, folder: Option<PathBuf>) -> Result<Self> {
        let passing = folder.is_none();
        let folder = folder.unwrap_or_else(|| std::env::temp_dir().join(format!("muster-cluster-{}", std::process::id())));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let kinds = (1..=SERVERS).map(|n| ("server", n, n)).chain((1..=CLIENTS).map(|n| ("client", n, n + 10)));
        let mut all = Vec::new();
        for (kind, number, host) in kinds {
            let address: Ipv4Addr =
                format!("{net}.{host}").parse().with_context(|| format!("{net} is no network such as 127.0.1"))?;
            if !address.is_loopback() {
                bail!("{address} is no loopback address: this cluster is for looking at, not for others");
            }
            for port in [8500, 8600, 8301] {
                if let Err(error) = TcpListener::bind((address, port)) {
                    bail!(
                        "{address}:{port}: {error}. If another cluster runs here, end it, or choose other addresses:\n\
                         cargo run -p muster-examples --bin cluster -- -net 127.0.9"
                    );
                }
            }
            let name = format!("{kind}-{number}");
            serve(&name, address)?;
            all.push(Agent { name, address, server: kind == "server", ended: None, running: None });
        }
        let key = key(&folder)?;
        Ok(Self { all, folder, passing, key })
    }

    /// Where their data and their logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All of them, servers first.
    pub fn all(&self) -> &[Agent] {
        &self.all
    }

    /// Starts all that do not run.
    pub fn start_all(&mut self) -> Result<()> {
        (0..self.all.len()).try_for_each(|at| self.start(at))
    }

    /// Does something to the agent of that name, and says what.
    pub fn act(&mut self, act: Act, name: &str) -> Result<String> {
        let Some(at) = self.all.iter().position(|agent| agent.name == name) else { bail!("there is no {name}") };
        let signal = match act {
            Act::Start if self.all[at].running.is_some() => return Ok(format!("{name} runs already")),
            Act::Start => {
                self.start(at)?;
                return Ok(format!("{name} is started again"));
            }
            Act::Kill => "-KILL",
            Act::Stop => "-TERM",
        };
        let Some(pid) = self.all[at].pid() else { return Ok(format!("{name} does not run")) };
        std::process::Command::new("kill").args([signal, &pid.to_string()]).status().context("cannot run kill")?;
        Ok(format!("{name} got SIG{}", signal.trim_start_matches('-')))
    }

    /// Those that ended since this was asked last.
    pub fn ended(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for agent in &mut self.all {
            let Some(running) = &mut agent.running else { continue };
            if let Ok(Some(status)) = running.child.try_wait() {
                agent.running = None;
                notes.push(format!("{} has ended ({status}); start it again: start {}", agent.name, agent.name));
                agent.ended = Some(status.to_string());
            }
        }
        notes
    }

    /// Ends all of them, and removes what was made for this run alone.
    pub async fn end(mut self) {
        for agent in &self.all {
            if let Some(pid) = agent.pid() {
                let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            }
        }
        let all = async {
            for agent in &mut self.all {
                if let Some(running) = &mut agent.running {
                    let _ = running.child.wait().await;
                }
            }
        };
        // What does not end by itself is killed as it is dropped.
        let _ = tokio::time::timeout(END_MAX, all).await;
        self.all.clear();
        if self.passing {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn start(&mut self, at: usize) -> Result<()> {
        let agent = &self.all[at];
        if agent.running.is_some() {
            return Ok(());
        }
        let (name, address) = (&agent.name, agent.address);
        let mut arguments = vec![
            "agent".to_owned(),
            format!("-node={name}"),
            format!("-bind={address}"),
            format!("-client={address}"),
            format!("-data-dir={}", self.folder.join(name).display()),
            format!("-encrypt={}", self.key),
            "-log-level=info".to_owned(),
            format!("-hcl={}", service(agent)),
        ];
        if agent.server {
            arguments.extend(["-server".to_owned(), format!("-bootstrap-expect={SERVERS}")]);
        }
        // Each is told of all servers; it would find the others by any one of them.
        arguments.extend(self.all.iter().filter(|other| other.server).map(|server| format!("-retry-join={}", server.address)));
        let log = self.folder.join(format!("{name}.log"));
        let log =
            File::options().append(true).create(true).open(&log).with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&arguments).env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // Ctrl-C is for this program, which ends its children then.
        let mut child = command.kill_on_drop(true).process_group(0).spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("a child has an input")?;
        let agent = &mut self.all[at];
        agent.running = Some(Running { child, _input: input });
        agent.ended = None;
        Ok(())
    }
}

/// The key of gossip that all share: made once, with the program's own command for it.
fn key(folder: &Path) -> Result<String> {
    let path = folder.join("gossip.key");
    if let Ok(key) = fs::read_to_string(&path) {
        return Ok(key.trim().to_owned());
    }
    let made = std::process::Command::new(std::env::current_exe()?).arg("keygen").output().context("cannot make a key")?;
    let key = String::from_utf8(made.stdout).context("a key is text")?.trim().to_owned();
    fs::write(&path, &key).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

/// The name of the service that runs beside an agent.
pub fn service_name(agent: &Agent) -> &'static str {
    if agent.server { "db" } else { "web" }
}

/// What an agent is told of the service beside it.
fn service(agent: &Agent) -> String {
    let (name, address, kind) = (&agent.name, agent.address, service_name(agent));
    format!(
        "service {{\n name = \"{kind}\"\n id = \"{kind}-{name}\"\n address = \"{address}\"\n port = {SERVICE_PORT}\n \
         check {{\n id = \"{kind}-{name}\"\n name = \"answers\"\n http = \"http://{address}:{SERVICE_PORT}/\"\n \
         interval = \"1s\"\n timeout = \"500ms\"\n }}\n}}"
    )
}

/// The service beside an agent: it says whose it is.
fn serve(name: &str, address: Ipv4Addr) -> Result<()> {
    let listener =
        TcpListener::bind((address, SERVICE_PORT)).with_context(|| format!("cannot listen on {address}:{SERVICE_PORT}"))?;
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => answer(stream, &name),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut head = [0; 1024];
    let asked = stream.set_read_timeout(Some(REQUEST_MAX)).and_then(|()| stream.read(&mut head));
    if asked.is_ok_and(|bytes| bytes > 0) {
        let body = format!("this is the service beside {name}\n");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
}
