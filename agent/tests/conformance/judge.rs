//! Asks one agent the steps of a scenario, and says where its answers differ from what is expected.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::matchers::{differences, in_records, show};
use crate::step::{Block, Fields, Scenario, Step, Variables, pick};
use crate::wire::{Answer, Question, Reply, Request};

/// Headers that are compared. One that comes without being expected is a difference, unless a step has its own list.
const WATCHED: [&str; 18] = [
    "Content-Type",
    "X-Consul-Index",
    "X-Consul-Knownleader",
    "X-Consul-Lastcontact",
    "X-Consul-Translate-Addresses",
    "X-Consul-Effective-Consistency",
    "X-Consul-Reason",
    "X-Consul-Contenthash",
    "X-Consul-Default-Acl-Policy",
    "X-Consul-Query-Backend",
    "X-Consul-Results-Filtered-By-Acls",
    "X-Cache",
    "Age",
    "Allow",
    "Location",
    "Content-Encoding",
    "X-Content-Type-Options",
    "Content-Security-Policy",
];
/// Of these, what Consul has sent since the recording.
const NEWER: [&str; 4] = [
    "X-Consul-Default-Acl-Policy",
    "X-Consul-Query-Backend",
    "X-Consul-Effective-Consistency",
    "X-Consul-Results-Filtered-By-Acls",
];
/// How long a request waits before the changes are made that it waits for: long enough to be there on a busy machine.
const HANGS: Duration = Duration::from_millis(300);
/// How much later than its wait and the jitter an answer may come on a busy machine, in seconds.
const SLACK: f64 = 2.5;

/// The agent that is asked.
#[derive(Clone)]
pub struct Subject {
    pub http: SocketAddr,
    pub dns: SocketAddr,
    /// Whether it is ours: then it deviates exactly where it is written down.
    pub ours: bool,
    /// Whether it is a client agent of three servers.
    pub through: bool,
    pub variables: Variables,
}

enum Came {
    Http(Answer),
    Dns(Reply),
    Waited { answer: Answer, early: bool },
}

impl Subject {
    /// Its name, id and addresses, as it tells them itself.
    pub fn known(mut self) -> io::Result<Self> {
        let own = Request { method: "GET".into(), path: "/v1/agent/self".into(), headers: Default::default(), body: None };
        let own: Value = serde_json::from_slice(&own.ask(self.http, Duration::from_secs(10))?.body)?;
        let text =
            |pointer: &str| own.pointer(pointer).map(|value| value.to_string().trim_matches('"').to_owned()).unwrap_or_default();
        let server_port = Some(text("/Member/Tags/port")).filter(|port| !port.is_empty()).unwrap_or("8300".into());
        let told = [
            ("node", text("/Config/NodeName")),
            ("node_id", text("/Config/NodeID")),
            ("dc", text("/Config/Datacenter")),
            ("version", text("/Config/Version")),
            ("addr", text("/Member/Addr")),
            ("serf_port", text("/Member/Port")),
            ("rpc_addr", format!("{}:{server_port}", text("/Member/Addr"))),
            ("server_port", server_port),
            ("http_addr", self.http.to_string()),
        ];
        self.variables.0.extend(told.map(|(name, value)| (name.to_owned(), value)));
        Ok(self)
    }

    /// One line for each difference, each with its step.
    pub fn judge(&mut self, scenario: &Scenario) -> Vec<String> {
        let before = self.variables.clone();
        let mut lines = Vec::new();
        for (i, step) in scenario.steps.iter().enumerate() {
            let found = self.verdict(step, scenario.header_case);
            if !found.is_empty() {
                lines.push(format!("{} step {}: {}\n    {}", scenario.name, i + 1, step.title(), found.join("\n    ")));
            }
        }
        for step in &scenario.cleanup {
            let _ = self.perform(step);
        }
        self.variables = before;
        lines
    }

    /// The differences of one step; asked again until it fits where it has time.
    fn verdict(&mut self, step: &Step, header_case: bool) -> Vec<String> {
        let alone = step.alone.as_ref().filter(|_| self.through);
        let end = Instant::now() + Duration::from_secs_f64(if alone.is_some() { 0.0 } else { step.within });
        loop {
            let came = self.perform(step);
            let found = match &came {
                Err(error) => vec![format!("no answer: {error}")],
                Ok(came) => {
                    let all = step.accepted(self.ours);
                    let mut found = all.iter().map(|expect| self.differences(step, expect, came, header_case));
                    let first = found.next().unwrap_or_default();
                    if first.is_empty() || found.any(|other| other.is_empty()) { Vec::new() } else { first }
                }
            };
            if found.is_empty() || Instant::now() > end {
                if let Ok(Came::Http(answer) | Came::Waited { answer, .. }) = &came {
                    self.capture(step, answer);
                }
                return match alone {
                    Some(why) if found.is_empty() => vec![format!("holds through a client agent too, against: {why}")],
                    Some(_) => Vec::new(),
                    None => found,
                };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn perform(&mut self, step: &Step) -> io::Result<Came> {
        match (&step.http, &step.dns, &step.block) {
            (Some(request), ..) => self.request(request)?.ask(self.http, Duration::from_secs(60)).map(Came::Http),
            (_, Some(question), _) => {
                let question: Question = serde_json::from_value(self.variables.fill(question))?;
                question.ask(self.dns).map(Came::Dns)
            }
            (_, _, Some(block)) => self.waited(block),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn request(&self, request: &Value) -> io::Result<Request> {
        Ok(serde_json::from_value(self.variables.fill(request))?)
    }

    /// Starts the request, makes the changes while it hangs, waits for its answer.
    fn waited(&mut self, block: &Block) -> io::Result<Came> {
        let (request, to) = (self.request(&block.http)?, self.http);
        let patience = Duration::from_secs_f64(block.wait * 1.1 + 20.0);
        let asking = std::thread::spawn(move || request.ask(to, patience));
        std::thread::sleep(HANGS);
        let early = asking.is_finished();
        for change in &block.changes {
            if let Came::Http(answer) = self.perform(change)? {
                self.capture(change, &answer);
            }
        }
        let answer = asking.join().expect("asking does not panic")?;
        Ok(Came::Waited { answer, early })
    }

    fn capture(&mut self, step: &Step, answer: &Answer) {
        for (variable, source) in &step.capture {
            let (kind, argument) = source.split_once(':').unwrap_or((source, ""));
            let value = match kind {
                "header" => answer.header(argument).map(str::to_owned),
                "json" => serde_json::from_slice::<Value>(&answer.body).ok().and_then(|body| {
                    let value = body.pointer(argument)?;
                    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                }),
                _ => Some(String::from_utf8_lossy(&answer.body).into_owned()),
            };
            self.variables.0.extend(value.map(|value| (variable.clone(), value)));
        }
    }

    fn differences(&self, step: &Step, expect: &Fields, came: &Came, header_case: bool) -> Vec<String> {
        let expect = self.variables.fill(&Value::Object(expect.clone()));
        match came {
            Came::Dns(reply) => in_dns(&expect, reply),
            Came::Http(answer) => self.in_http(step, &expect, answer, header_case),
            Came::Waited { answer, early } => {
                let mut lines = self.in_http(step, &expect, answer, header_case);
                let wait = step.block.as_ref().map(|block| block.wait).unwrap_or_default();
                lines.extend(in_waiting(&expect["wakes"], wait, answer.took.as_secs_f64(), *early));
                lines
            }
        }
    }

    fn in_http(&self, step: &Step, expect: &Value, answer: &Answer, header_case: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(status) = expect["status"].as_u64().filter(|status| *status != u64::from(answer.status)) {
            let body = Value::from(String::from_utf8_lossy(&answer.body));
            lines.push(format!("status: expected {status}, got {} ({})", answer.status, show(&body)));
        }
        lines.extend(in_headers(step, expect, answer, header_case));
        let pick = step.pick.as_ref().map(|prefix| self.variables.fill(&Value::from(prefix.as_str())));
        lines.extend(in_body(expect, answer, pick.as_ref().and_then(Value::as_str)));
        lines
    }
}

fn in_headers(step: &Step, expect: &Value, answer: &Answer, header_case: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let none = Fields::new();
    let wanted = expect["headers"].as_object().unwrap_or(&none);
    for (name, value) in wanted {
        match answer.header(name) {
            Some(got) if value.is_null() => lines.push(format!("header {name}: expected absent, got {got}")),
            Some(got) => lines.extend(differences(value, &Value::from(got), &format!("header {name}"))),
            None if value.is_null() => {}
            None => lines.push(format!("header {name}: absent, expected {value}")),
        }
        if header_case && answer.header(name).is_some() && !answer.headers.iter().any(|(key, _)| key == name) {
            lines.push(format!("header {name}: written in another case"));
        }
    }
    let usual = || WATCHED.iter().map(|name| (*name).to_owned()).collect();
    for name in step.watch.clone().unwrap_or_else(usual) {
        let known = wanted.keys().any(|key| key.eq_ignore_ascii_case(&name)) || NEWER.contains(&name.as_str());
        if let Some(got) = answer.header(&name).filter(|_| !known) {
            lines.push(format!("header {name}: unexpected, got {got}"));
        }
    }
    lines
}

fn in_body(expect: &Value, answer: &Answer, prefix: Option<&str>) -> Vec<String> {
    let mut body = answer.body.clone();
    if answer.header("Content-Encoding") == Some("gzip") {
        body.clear();
        if flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut body).is_err() {
            return vec!["body: not gzip".into()];
        }
    }
    let text = String::from_utf8_lossy(&body);
    if let Some(size) = expect.get("body_size") {
        return differences(size, &Value::from(body.len()), "size of the body");
    }
    if let Some(expected) = expect.get("text") {
        return differences(expected, &Value::from(text), "body");
    }
    if let Some(expected) = expect.get("base64") {
        use base64::Engine as _;
        return differences(expected, &Value::from(base64::prelude::BASE64_STANDARD.encode(&body)), "body");
    }
    let Some(expected) = expect.get("json") else { return Vec::new() };
    let Ok(document) = serde_json::from_slice::<Value>(&body) else {
        return vec![format!("body: expected JSON, got {}", show(&Value::from(text)))];
    };
    let mut lines = Vec::new();
    let layout = layout(&text, &document);
    if let Some(expected) = expect["layout"].as_str().filter(|expected| *expected != layout) {
        lines.push(format!("layout: expected {expected}, got {layout}: {}", show(&Value::from(text))));
    }
    let document = prefix.map_or_else(|| document.clone(), |prefix| pick(document.clone(), prefix));
    lines.extend(differences(expected, &document, "body"));
    lines
}

/// `compact`, `pretty` (4 blanks) or `bare` (nothing to lay out), each with or without `+newline`.
fn layout(text: &str, document: &Value) -> String {
    let bare = match document {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    let pretty = text.trim_end().contains("\n    ");
    let form = if bare {
        "bare"
    } else if pretty {
        "pretty"
    } else {
        "compact"
    };
    format!("{form}{}", if text.ends_with('\n') { "+newline" } else { "" })
}

fn in_dns(expect: &Value, reply: &Reply) -> Vec<String> {
    let fields = [
        ("rcode", Value::from(reply.rcode.as_str())),
        ("flags", Value::from(reply.flags.as_str())),
        ("edns", Value::from(reply.edns)),
        ("question", Value::from(reply.question.clone())),
    ];
    let sections = [("answer", &reply.answer), ("authority", &reply.authority), ("additional", &reply.additional)];
    let fields = fields.iter().filter_map(|(name, got)| Some(differences(expect.get(name)?, got, name)));
    let sections = sections.iter().filter_map(|(name, got)| Some(in_records(name, expect.get(name)?, got)));
    let mut lines: Vec<String> = fields.chain(sections).flatten().collect();
    if let Some(most) = expect["max_size"].as_u64().filter(|most| reply.size as u64 > *most) {
        lines.push(format!("size: expected at most {most} bytes, got {}", reply.size));
    }
    lines
}

/// When a waiting request was answered: at the change, at once, or after its wait.
fn in_waiting(wakes: &Value, wait: f64, took: f64, early: bool) -> Option<String> {
    let soon = took < wait * 0.7;
    match wakes {
        Value::String(_) => (!early && !soon).then(|| format!("waiting: expected an answer at once, got it after {took:.1} s")),
        Value::Bool(true) if early => Some("waiting: answered before the change".into()),
        Value::Bool(true) => (!soon).then(|| format!("waiting: expected to wake at the change, answered after {took:.1} s")),
        _ if took < wait * 0.95 => Some(format!("waiting: expected to hang for {wait} s, answered after {took:.2} s")),
        _ => (took > wait * 17.0 / 16.0 + SLACK).then(|| format!("waiting: answered after {took:.2} s, of {wait} s and jitter")),
    }
}
