//! Questions over HTTP and DNS, as bytes, and a target for the checks of the agent that is asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hickory_proto::op::{Edns, Message, MessageType};
use hickory_proto::rr::{RData, Record};
use serde::Deserialize;
use serde_json::Value;

/// A question over HTTP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default = "get")]
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// Text, `{"json": …}`, `{"base64": …}` or `{"repeat": [text, times], "before", "after"}`.
    pub body: Option<Value>,
}

fn get() -> String {
    "GET".into()
}

/// An answer over HTTP.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub took: Duration,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Request {
    fn body(&self) -> Option<Vec<u8>> {
        let body = self.body.as_ref()?;
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        Some(match body {
            Value::String(text) => text.clone().into_bytes(),
            _ if body.get("json").is_some() => body["json"].to_string().into_bytes(),
            _ if body.get("base64").is_some() => base64::prelude::BASE64_STANDARD.decode(text("base64")).expect("base64"),
            _ => {
                let repeated = body["repeat"][0].as_str().unwrap_or_default();
                let times = body["repeat"][1].as_u64().expect("how often it is repeated") as usize;
                format!("{}{}{}", text("before"), repeated.repeat(times), text("after")).into_bytes()
            }
        })
    }

    /// Asks on a connection of its own.
    pub fn ask(&self, to: SocketAddr, patience: Duration) -> io::Result<Answer> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(patience))?;
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.path);
        if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {to}\r\n"));
        }
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        let body = self.body();
        if let Some(body) = &body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // A body that is too large is answered before it is read: what counts is the answer.
        let _ = stream.write_all(&body.unwrap_or_default());
        let mut answer = read_answer(&mut BufReader::new(stream), self.method == "HEAD")?;
        answer.took = begun.elapsed();
        Ok(answer)
    }
}

fn read_answer(from: &mut impl BufRead, head_only: bool) -> io::Result<Answer> {
    let (first, headers) = read_head(from)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let mut answer = Answer { status, headers, body: Vec::new(), took: Duration::ZERO };
    if head_only {
        return Ok(answer);
    }
    match answer.header("Content-Length").map(|length| length.parse::<usize>()) {
        Some(length) => {
            answer.body = vec![0; length.map_err(|_| cut())?];
            from.read_exact(&mut answer.body)?;
        }
        None if answer.header("Transfer-Encoding").is_some() => loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| cut())?;
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            answer.body.extend_from_slice(&chunk[..size]);
        },
        None => drop(from.read_to_end(&mut answer.body)?),
    }
    Ok(answer)
}

/// The first line, and the headers.
fn read_head(from: &mut impl BufRead) -> io::Result<(String, Vec<(String, String)>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Ok((lines.swap_remove(0), headers))
}

/// A question over DNS.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    net: String,
    /// The size that is offered.
    edns: Option<u16>,
    #[serde(default)]
    class: String,
    rd: Option<bool>,
    #[serde(default)]
    opcode: u16,
}

/// An answer over DNS, as text.
pub struct Reply {
    pub rcode: String,
    pub flags: String,
    pub edns: Option<u16>,
    pub question: Vec<String>,
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
    pub size: usize,
}

impl Question {
    /// The question is written by hand: a library would not write what is asked here.
    fn packet(&self, id: u16) -> Vec<u8> {
        let kind: u16 = match self.kind.as_str() {
            "A" => 1,
            "NS" => 2,
            "CNAME" => 5,
            "SOA" => 6,
            "PTR" => 12,
            "MX" => 15,
            "TXT" => 16,
            "AAAA" => 28,
            "SRV" => 33,
            "ANY" => 255,
            other => panic!("no record type {other}"),
        };
        let class: u16 = match self.class.as_str() {
            "" | "IN" => 1,
            "CH" => 3,
            "HS" => 4,
            "ANY" => 255,
            other => panic!("no class {other}"),
        };
        let flags = u16::from(self.rd.unwrap_or(true)) << 8 | self.opcode << 11;
        let mut packet: Vec<u8> = Vec::new();
        let additional = u16::from(self.edns.is_some());
        [id, flags, 1, 0, 0, additional].iter().for_each(|word| packet.extend(word.to_be_bytes()));
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            packet.push(label.len() as u8);
            packet.extend(label.as_bytes());
        }
        packet.push(0);
        [kind, class].iter().for_each(|word| packet.extend(word.to_be_bytes()));
        if let Some(size) = self.edns {
            packet.push(0);
            [41, size, 0, 0, 0].iter().for_each(|word| packet.extend(word.to_be_bytes()));
        }
        packet
    }

    pub fn ask(&self, to: SocketAddr) -> io::Result<Reply> {
        const PATIENCE: Duration = Duration::from_secs(3);
        let packet = self.packet(0x4d75);
        if self.net == "tcp" {
            let mut stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], &packet].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut reply = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut reply)?;
            return read_reply(&reply);
        }
        let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut reply = vec![0; 65_535];
        let mut received = Err(io::ErrorKind::TimedOut.into());
        for _ in 0..3 {
            socket.send(&packet)?;
            received = socket.recv(&mut reply);
            if received.is_ok() {
                break;
            }
        }
        read_reply(&reply[..received?])
    }
}

fn read_reply(bytes: &[u8]) -> io::Result<Reply> {
    let message = Message::from_vec(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let meta = &message.metadata;
    let flags = [
        ("qr", meta.message_type == MessageType::Response),
        ("aa", meta.authoritative),
        ("tc", meta.truncation),
        ("rd", meta.recursion_desired),
        ("ra", meta.recursion_available),
    ];
    let rcodes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    let question = |query: &hickory_proto::op::Query| format!("{} {} {}", query.name(), query.query_class(), query.query_type());
    let lines = |records: &[Record]| records.iter().map(line).collect();
    Ok(Reply {
        rcode: rcodes.get(usize::from(u16::from(meta.response_code))).map_or(meta.response_code.to_string(), ToString::to_string),
        flags: flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect::<Vec<_>>().join(" "),
        edns: message.edns.as_ref().map(Edns::max_payload),
        question: message.queries.iter().map(question).collect(),
        answer: lines(&message.answers),
        authority: lines(&message.authorities),
        additional: lines(&message.additionals),
        size: bytes.len(),
    })
}

/// `owner ttl class type data`
fn line(record: &Record) -> String {
    match &record.data {
        RData::TXT(txt) => {
            let texts = txt.txt_data.iter().map(|text| format!("\"{}\"", String::from_utf8_lossy(text))).collect::<Vec<_>>();
            format!("{} {} {} TXT {}", record.name, record.ttl, record.dns_class, texts.join(" "))
        }
        _ => record.to_string(),
    }
}

/// What checks of the agent look at: `/ok`, `/warn`, `/fail`, `/redirect`, `/echo`.
pub struct Target {
    pub open: SocketAddr,
    /// Bound but not listening: connecting is refused.
    pub closed: SocketAddr,
    _closed: socket2::Socket,
}

impl Target {
    /// At an address that the agent can reach.
    pub fn near(agent: SocketAddr) -> io::Result<Self> {
        let ip = if agent.ip().is_loopback() { agent.ip() } else { own_address(agent)? };
        let listener = TcpListener::bind((ip, 0))?;
        let closed = socket2::Socket::new(socket2::Domain::for_address(agent), socket2::Type::STREAM, None)?;
        closed.bind(&SocketAddr::new(ip, 0).into())?;
        let target = Self {
            open: listener.local_addr()?,
            closed: closed.local_addr()?.as_socket().expect("it is bound to an IP address"),
            _closed: closed,
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(target)
    }
}

fn own_address(to: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let (status, reason, more) = match path {
        "/ok" | "/echo" => (200, "OK", ""),
        "/warn" => (429, "Too Many Requests", ""),
        "/fail" => (503, "Service Unavailable", ""),
        "/redirect" => (302, "Found", "Location: /ok\r\n"),
        _ => (404, "Not Found", ""),
    };
    let mut text = format!("target says {status}");
    if path == "/echo" {
        let said = ["User-Agent", "Accept", "X-Probe", "Host"].map(|name| header(name).unwrap_or("None"));
        text = format!("{method}|{}", said.join("|"));
        let mut body = vec![0; header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        if !body.is_empty() {
            text.push_str(&format!("|{}", String::from_utf8_lossy(&body)));
        }
    }
    write!(stream, "HTTP/1.1 {status} {reason}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}
