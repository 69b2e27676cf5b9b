//! What does it look like when it runs? An agent and four backends to kill and to start again.
//!
//! ```text
//! cargo run -p muster-examples                       the agent and the backends of `first/`, until Ctrl-C
//! cargo run -p muster-examples -- backend web-1      one backend, to start again what was killed
//! cargo run -p muster-examples -- members            any command of muster
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // it is there to be looked at

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Set for children: they end when their standard input does, which is when this program ends, however it ends.
const CHILD: &str = "MUSTER_FIRST_CHILD";
/// How long an agent may take until it answers. It takes a tenth of a second where nothing else runs.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a caller of a backend may take over its request.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// One service of the definition files, as far as its backend must know it.
#[derive(Deserialize)]
struct Service {
    id: String,
    port: u16,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    http: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    services: Vec<Service>,
}

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match folder(&mut arguments) {
        Ok(folder) => match arguments.first().map(String::as_str) {
            Some("backend") => backend(&folder, arguments.get(1).map_or("", String::as_str)),
            Some(command) if !command.starts_with('-') => return muster::main(),
            Some("-h" | "-help" | "--help") => return muster::main(),
            _ => first(&folder, &arguments),
        },
        Err(error) => Err(error),
    };
    done.map_or_else(
        |error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Takes `-folder PATH` out of the arguments: other definition files than those of `first/`.
fn folder(arguments: &mut Vec<String>) -> Result<PathBuf> {
    let Some(at) = arguments.iter().position(|argument| argument == "-folder") else {
        return Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("first"));
    };
    arguments.remove(at);
    if at == arguments.len() {
        bail!("-folder needs a path");
    }
    Ok(arguments.remove(at).into())
}

/// All services of a folder's files.
fn services(folder: &Path) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path)?;
            let file: File = toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
            services.extend(file.services);
        }
    }
    services.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(services)
}

/// Serves as one backend until it is killed: HTTP where its check asks by HTTP, else whatever connects.
fn backend(folder: &Path, id: &str) -> Result<()> {
    let services = services(folder)?;
    let known = services.iter().map(|service| service.id.as_str()).collect::<Vec<_>>().join(", ");
    let Some(service) = services.iter().find(|service| service.id == id) else {
        bail!("there is no backend {id:?}; there are {known}");
    };
    let http = service.checks.iter().any(|check| check.http.is_some());
    let listener = TcpListener::bind(("127.0.0.1", service.port))
        .with_context(|| format!("{id} cannot listen on 127.0.0.1:{}: is it running already?", service.port))?;
    for stream in listener.incoming() {
        let id = service.id.clone();
        match stream {
            // A caller that says nothing holds up nobody but itself.
            Ok(stream) if http => drop(std::thread::spawn(move || answer(stream, &id))),
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Ok(())
}

/// One request, one answer.
fn answer(mut stream: TcpStream, id: &str) {
    let mut head = [0; 1024];
    let asked = stream.set_read_timeout(Some(REQUEST_MAX)).and_then(|()| stream.read(&mut head));
    if asked.is_ok_and(|bytes| bytes > 0) {
        let body = format!("this is {id}\n");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
}

/// Starts all of it, says what to try, and ends all of it.
#[tokio::main(flavor = "current_thread")]
async fn first(folder: &Path, flags: &[String]) -> Result<()> {
    let services = services(folder)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let (http, dns) = (port(flags, "-http-port", 8500), port(flags, "-dns-port", 8600));
    // Whoever listens there already would be taken for our agent.
    if let Err(error) = TcpListener::bind(format!("127.0.0.1:{http}")) {
        bail!(
            "127.0.0.1:{http}: {error}. If another agent runs here, end it, or choose other ports:\n\
             cargo run -p muster-examples -- -http-port=18500 -dns-port=18600"
        );
    }
    let mut arguments: Vec<&str> = vec!["agent", "-dev", "-log-level=warn", "-config-dir"];
    let path = folder.to_str().context("the folder's name is not UTF-8")?;
    arguments.push(path);
    arguments.extend(flags.iter().map(String::as_str));
    let (mut agent, _open) = child(&arguments)?;
    tokio::select! {
        ready = ready(&http) => ready?,
        _ = agent.wait() => bail!("The agent has ended and says above why."),
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    }

    let (ended, mut ends) = tokio::sync::mpsc::channel(services.len().max(1));
    let mut lines = Vec::new();
    for service in &services {
        let (mut backend, open) = child(&["backend", &service.id, "-folder", path])?;
        lines.push(format!("  {:<8} 127.0.0.1:{:<6} kill {}", service.id, service.port, backend.id().unwrap_or_default()));
        let (ended, id) = (ended.clone(), service.id.clone());
        // Its task ends with this runtime, and the backend with it: kill_on_drop.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            let _ = backend.wait().await;
            drop(open);
            let _ = ended.send(id).await;
        });
    }
    println!("An agent and its backends run until Ctrl-C. Each backend is looked at every second.\n");
    println!("  backend  address          stop it with\n{}\n", lines.join("\n"));
    println!("Ask in another terminal:\n");
    println!("  dig @127.0.0.1 -p {dns} web.service.consul SRV");
    println!("  dig @127.0.0.1 -p {dns} +short green.web.service.consul");
    println!("  curl 'localhost:{http}/v1/health/service/web?passing&pretty'");
    println!("  cargo run -p muster-examples -- catalog services");
    println!("\nStop a backend, ask again, start it again:\n");
    println!("  cargo run -p muster-examples -- backend web-1\n");
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            Some(id) = ends.recv() => println!("{id} has ended; start it again: cargo run -p muster-examples -- backend {id}"),
            _ = agent.wait() => bail!("The agent has ended."),
        }
    }
    println!("Ending the agent and the backends.");
    Ok(())
}

/// The value of an agent's flag that names a port.
fn port(flags: &[String], name: &str, default: u16) -> String {
    let given = flags.iter().enumerate().find_map(|(at, flag)| match flag.trim_start_matches('-').split_once('=') {
        Some((key, value)) if name == format!("-{key}") => Some(value.to_owned()),
        None if name.trim_start_matches('-') == flag.trim_start_matches('-') => flags.get(at + 1).cloned(),
        _ => None,
    });
    given.unwrap_or_else(|| default.to_string())
}

/// This program again, with other arguments; it ends when its input is closed. Waiting for a child closes what it holds, so
/// the input is held apart.
fn child(arguments: &[&str]) -> Result<(Child, ChildStdin)> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(arguments).env(CHILD, "1").stdin(Stdio::piped()).kill_on_drop(true).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", arguments.join(" ")))?;
    let input = child.stdin.take().context("a child has an input")?;
    Ok((child, input))
}

/// Waits until the agent has its node in the catalog.
async fn ready(port: &str) -> Result<()> {
    let asked = async {
        loop {
            if matches!(ask(port).await, Ok(answer) if answer.contains("\"Node\"")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(START_MAX, asked).await.with_context(|| format!("the agent does not answer on 127.0.0.1:{port}"))
}

async fn ask(port: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await?;
    stream.write_all(b"GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).await?;
    Ok(answer)
}
