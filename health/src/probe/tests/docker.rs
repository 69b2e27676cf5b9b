//! Programs in containers: an engine that speaks as Docker's does, on a socket of its own.

use std::sync::Mutex;

use muster_catalog::DockerProbe;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// What it was asked, one line a request.
type Asked = Arc<Mutex<Vec<String>>>;

struct Engine {
    address: String,
    asked: Asked,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Engine {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Asked::default();
        let log = asked.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(connection(stream, log.clone()));
            }
        });
        Self { address: format!("unix://{}", path.display()), asked, _folder: folder, _tasks: tasks }
    }

    async fn see(&self, container: &str, timeout: Duration) -> Outcome {
        let tools = Tools { docker_host: self.address.clone(), ..Tools::default() };
        let probe = DockerProbe { container: container.to_owned(), args: vec!["look".to_owned(), "a b".to_owned()] };
        see_with(Probe::Docker(probe), timeout, &tools).await
    }
}

async fn connection(stream: UnixStream, asked: Asked) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).await.unwrap();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.unwrap();
        if let Some(told) = header.to_lowercase().strip_prefix("content-length: ") {
            length = told.trim().parse().unwrap();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let target = line.rsplit_once(" HTTP/").unwrap().0.to_owned();
    asked.lock().unwrap().push(format!("{target} {}", String::from_utf8(body).unwrap()));
    let name = target.split('/').nth(2).unwrap();
    let json = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let answer = match target.split(' ').nth(1).unwrap().rsplit('/').next().unwrap() {
        "exec" => match name {
            "gone" => json("404 Not Found", r#"{"message":"No such container: gone"}"#),
            "paused" => json("409 Conflict", r#"{"message":"Container paused is paused"}"#),
            "odd" => json("500 Internal Server Error", r#"{"message":"odd"}"#),
            "plain" => "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops".to_owned(),
            "noid" => json("201 Created", "{}"),
            "garbage" => json("201 Created", "<html>"),
            "huge" => format!("HTTP/1.1 201 Created\r\n\r\n{}", "x".repeat(1 << 20)),
            name => json("201 Created", &format!(r#"{{"Id":"{name}"}}"#)),
        },
        "start" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n";
            match name {
                "nostart" => json("409 Conflict", r#"{"message":"it cannot"}"#),
                "stuck" => format!("{head}\x01\0\0\0\0\0\0\x04busy"),
                "long" => format!("{head}\x01\0\0\0\0\0\x10\0{}\x01\0\0\0\0\0\0\x04tail", "y".repeat(4096)),
                _ => format!("{head}\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"),
            }
        }
        "json" => {
            // The first time it still runs.
            let again = asked.lock().unwrap().iter().filter(|line| **line == format!("{target} ")).count() > 1;
            match (again, name.strip_prefix("exit-")) {
                (true, Some(code)) => json("200 OK", &format!(r#"{{"Running":false,"ExitCode":{code},"Pid":1}}"#)),
                (true, None) => json("200 OK", r#"{"Running":false,"ExitCode":0}"#),
                (false, _) => json("200 OK", r#"{"Running":true,"ExitCode":null}"#),
            }
        }
        _ => json("404 Not Found", r#"{"message":"page not found"}"#),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    if name == "stuck" && line.contains("/start") {
        let _ = stream.read(&mut [0; 1]).await; // until the prober goes
    }
}

#[tokio::test]
async fn exit_codes_become_verdicts_and_both_streams_are_kept() {
    let engine = Engine::start().await;
    for (container, status) in [("exit-0", Status::Passing), ("exit-1", Status::Warning), ("exit-137", Status::Critical)] {
        assert_eq!(engine.see(container, LONG).await, Outcome::new(status, "out\nerr\n".to_owned()));
    }
    let asked = engine.asked.lock().unwrap();
    let (created, rest) = asked[0].split_once(" {").unwrap();
    let told: serde_json::Value = serde_json::from_str(&format!("{{{rest}")).unwrap();
    assert_eq!((created, &told["Cmd"]), ("POST /containers/exit-0/exec", &serde_json::json!(["look", "a b"])));
    assert_eq!((&told["Tty"], &told["AttachStdin"], &told["AttachStderr"]), (&false.into(), &false.into(), &true.into()));
    assert_eq!(asked[2..4], ["GET /exec/exit-0/json ", "GET /exec/exit-0/json "]);
}

#[tokio::test]
async fn what_the_engine_refuses_is_critical_and_says_why() {
    let engine = Engine::start().await;
    for (container, why) in [
        ("gone", "create exec failed for unknown container gone"),
        ("paused", "create exec failed since container paused is paused or stopped"),
        ("odd", "create exec failed for container odd with status 500: odd"),
        ("plain", "create exec failed for container plain with status 502: oops"),
        ("noid", "create exec failed: the engine gave no id"),
        ("garbage", "docker engine: its answer is no JSON: expected value at line 1 column 1"),
        ("huge", "docker engine: its answer is no JSON: expected value at line 1 column 1"),
        ("nostart", "exec in container nostart failed with status 409: it cannot"),
    ] {
        assert_eq!(engine.see(container, LONG).await, Outcome::critical(why.to_owned()), "{container}");
    }
    let path = engine.see("../../images/json?", LONG).await.output;
    assert!(path.starts_with("create exec failed for unknown container") || path == "out\nerr\n", "{path}");
    let asked = engine.asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.starts_with("POST /containers/%2E%2E%2F%2E%2E%2Fimages%2Fjson%3F/exec")), "{asked:?}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_critical_at_the_timeout_with_what_it_said() {
    let engine = Engine::start().await;
    let begun = Instant::now();
    let outcome = engine.see("stuck", SHORT).await;
    assert_eq!(outcome, Outcome::critical("Timed out (300ms) running check\n\nbusy".to_owned()));
    assert!((SHORT..SHORT + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let long = engine.see("long", LONG).await;
    assert_eq!(long.output, format!("Captured 4096 of 4100 bytes\n...\n{}tail", "y".repeat(4092)));
}

#[tokio::test]
async fn without_an_engine_it_is_critical_and_says_so() {
    for (address, why) in [
        ("unix:///nowhere/engine.sock", "docker engine: dial unix /nowhere/engine.sock: connect: no such file or directory"),
        ("tcp://127.0.0.1:2375", "docker engine: DOCKER_HOST is \"tcp://127.0.0.1:2375\": only unix:// addresses are used"),
    ] {
        let tools = Tools { docker_host: address.to_owned(), ..Tools::default() };
        let probe = DockerProbe { container: "web".to_owned(), args: vec!["look".to_owned()] };
        assert_eq!(see_with(Probe::Docker(probe), LONG, &tools).await, Outcome::critical(why.to_owned()));
    }
}
