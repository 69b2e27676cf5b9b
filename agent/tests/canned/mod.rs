//! An agent of canned answers, and commands of the built program that ask it.
#![allow(clippy::unwrap_used, unreachable_pub)] // the helpers of a test may fail as its tests do

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// An agent that answers what it was told to, 404 to all else, and remembers what it was asked.
pub struct Canned {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

pub type Answers = HashMap<String, (u16, String)>;

/// A command of ours that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(20);

impl Canned {
    pub fn new(answers: &[(&str, u16, &str)]) -> Canned {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, kept) = (table(answers), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, kept) = (answers.clone(), kept.clone());
                thread::spawn(move || serve(stream.try_clone().unwrap(), stream, &answers, &kept));
            }
        });
        Canned { address, asked }
    }

    pub fn on_socket(path: &Path, answers: &[(&str, u16, &str)]) -> Canned {
        let listener = UnixListener::bind(path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, kept) = (table(answers), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream.try_clone().unwrap(), stream, &answers, &kept);
            }
        });
        Canned { address: format!("unix://{}", path.display()), asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub fn run<I: AsRef<OsStr>>(&self, args: &[I]) -> Ended {
        run(program().args(args).env("CONSUL_HTTP_ADDR", &self.address), b"")
    }
}

fn table(answers: &[(&str, u16, &str)]) -> Answers {
    answers.iter().map(|&(line, status, body)| (line.to_owned(), (status, body.to_owned()))).collect()
}

fn serve(from: impl Read, mut to: impl Write, answers: &Answers, kept: &Mutex<Vec<Asked>>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            from.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).unwrap();
        kept.lock().unwrap().push(Asked { line: line.clone(), headers, body });
        let (status, answer) = answers.get(&line).cloned().unwrap_or((404, String::new()));
        let head = format!("HTTP/1.1 {status} Canned\r\nContent-Length: {}\r\n\r\n", answer.len());
        if to.write_all(head.as_bytes()).and_then(|()| to.write_all(answer.as_bytes())).is_err() {
            return;
        }
    }
}

pub struct Ended {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    pub fn out(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }

    #[track_caller]
    pub fn well(self) -> Ended {
        assert_eq!(self.code, Some(0), "stderr: {}", self.err);
        self
    }

    #[track_caller]
    pub fn failed(self, said: &str) -> Ended {
        assert_eq!(self.code, Some(1), "stderr: {}", self.err);
        assert!(self.err.contains(said), "stderr: {}", self.err);
        self
    }
}

pub fn program() -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_muster")))
}

pub fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear();
    command
}

pub fn run(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    thread::spawn(move || stdin.write_all(&input));
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = end.recv_timeout(RUN_MAX).expect("a command ends").unwrap();
    Ended { code: output.status.code(), out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}
