//! The web page in a real browser: Chromium without a window, driven over its DevTools pipe. Where it is missing, the test says so.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use had::{Running, answers, had};
use serde_json::{Value, json};
use support::{Agent, SOON, request};

mod had;
mod support;

/// A page in a browser.
struct Browser {
    _running: Running,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    asked: u64,
    /// What was said besides answers: scripts that failed, what the policy forbade.
    complaints: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Browser {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (to, from) = (dir.path().join("to"), dir.path().join("from"));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // The browser reads from descriptor 3 and writes to 4.
        let script = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe \
            --user-data-dir=\"$0/profile\" about:blank 3<\"$0/to\" 4>\"$0/from\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(command.spawn().unwrap());
        let to = OpenOptions::new().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Self { _running: running, to, from, session: None, asked: 0, complaints: Vec::new(), _dir: dir };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(b"\0").unwrap();
        loop {
            let mut bytes = Vec::new();
            assert!(self.from.read_until(0, &mut bytes).unwrap() > 0, "the browser ended");
            bytes.pop();
            let said: Value = serde_json::from_slice(&bytes).unwrap();
            if said["id"] == self.asked {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            let method = said["method"].as_str().unwrap_or_default();
            if ["Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"].contains(&method) {
                self.complaints.push(said["params"].to_string());
            }
        }
    }

    fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    fn key(&mut self, key: &str) {
        let text = if key.len() == 1 { key } else { "" };
        self.call("Input.dispatchKeyEvent", json!({"type": "keyDown", "key": key, "text": text}));
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    fn look(&mut self, expression: &str) -> Value {
        let looked =
            self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true, "awaitPromise": true}));
        looked["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page; how long that took.
    #[track_caller]
    fn until(&mut self, expression: &str) -> Duration {
        let begun = Instant::now();
        while self.look(expression) != true {
            let text = || "document.body.innerText.slice(0, 600)";
            assert!(begun.elapsed() < SOON, "never {expression}: {}\n{:?}", self.look(text()), self.complaints);
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    /// Nothing may stand beyond the right edge.
    #[track_caller]
    fn fits(&mut self) {
        let wide = self.look("document.documentElement.scrollWidth > innerWidth ? document.documentElement.scrollWidth : 0");
        assert_eq!(wide, 0, "wider than the window at {}", self.look("location.hash"));
    }
}

/// What names and outputs would do if the page took them for markup.
const HOSTILE: &str = "<img src=x onerror=document.title=`taken`><script>document.title=`taken`</script>";

#[test]
fn the_page_shows_searches_follows_and_edits() {
    if !had("Chromium", || answers("chromium", "--version"), None) {
        return;
    }
    let agent = Agent::with(&["-ui"]);
    fill(&agent);
    let url = format!("http://{}/ui/", agent.http);
    let mut browser = Browser::new();
    browser.size(1280, 900);

    // All services, of which few are in the page.
    browser.go(&url);
    browser.until("document.querySelectorAll('.list a').length > 10 && document.body.innerText.includes('5,002 services')");
    assert!(browser.look("document.querySelectorAll('.list a').length").as_u64().unwrap() < 60);
    println!("first paint after {} ms", browser.look("performance.getEntriesByType('paint')[0].startTime"));
    assert_eq!(browser.look("document.querySelectorAll('main img, main script').length"), 0);

    // The keyboard: search, down, open, back.
    for key in ["/", "s", "v", "c", "-", "4", "9", "9", "9"] {
        browser.key(key);
    }
    browser.until("document.body.innerText.includes('1 of 5,002 services')");
    browser.key("ArrowDown");
    assert_eq!(browser.look("document.activeElement.getAttribute('href')"), "#/services/svc-4999");
    browser.key("Escape");
    browser.key("/");
    browser.key("Escape");
    browser.until("document.querySelectorAll('.list a').length > 10");
    browser.key("Escape");
    browser.key("Home");
    browser.key("j");
    assert_eq!(browser.look("document.activeElement.getAttribute('aria-posinset')"), "2");

    // A check that turns critical is seen without a reload, in the list and on the page of its service.
    let turns = |status: &str| {
        let update = json!({"Status": status, "Output": format!("{status} {HOSTILE}")});
        agent.done("/v1/agent/check/update/service:web-1", update.to_string());
    };
    let critical = "[...document.querySelectorAll('.only b')][0].textContent";
    turns("critical");
    let list = browser.until(&format!("{critical} === '1'"));
    turns("passing");
    browser.until(&format!("{critical} === '0'"));
    browser.go(&format!("{url}#/services/web"));
    browser.until(
        "document.querySelectorAll('.check.passing').length === 1 || document.querySelector('.check .s.passing') !== null",
    );
    turns("critical");
    let detail = browser.until("document.querySelector('.check.critical') !== null");
    assert!(browser.look("document.body.innerText").as_str().unwrap().contains(&format!("critical {HOSTILE}")));
    browser.until("document.body.innerText.includes('check result') || document.body.innerText.includes('agent')");
    println!("a critical check was seen after {list:?} in the list, {detail:?} on the page of the service");
    assert!(list < Duration::from_secs(1) && detail < Duration::from_secs(1), "{list:?} {detail:?}");

    // Names that are markup are names.
    let hostile = "'#/services/' + encodeURIComponent(`HOSTILE`)".replace("HOSTILE", &HOSTILE.replace('`', "\\`"));
    browser.look(&format!("location.hash = {hostile}"));
    browser.until("document.querySelectorAll('.card').length === 1");
    assert_eq!(browser.look("document.querySelectorAll('main img, main script').length"), 0);

    keys(&agent, &mut browser, &url);

    // A phone.
    browser.size(390, 844);
    for (hash, seen) in [
        ("#/services", ".list a"),
        ("#/services/web", ".card"),
        ("#/nodes", ".list a"),
        ("#/nodes/web-host", ".card"),
        ("#/kv/many/", ".list a"),
        ("#/sessions", ".top"),
        ("#/cluster", ".list a"),
    ] {
        browser.look(&format!("location.hash = '{hash}'"));
        browser.until(&format!("document.querySelector('main {seen}') !== null"));
        browser.fits();
    }
    assert_ne!(browser.look("document.title"), "taken");
    // Reads of keys that do not exist are answered 404, which the browser notes.
    let complaints: Vec<_> = browser.complaints.iter().filter(|said| !said.contains("404 (Not Found)")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// The browser of keys: what is written there is written, and only over what was seen.
fn keys(agent: &Agent, browser: &mut Browser, url: &str) {
    browser.go(&format!("{url}#/kv/many/"));
    browser.until("document.body.innerText.includes('5,000 entries')");
    assert!(browser.look("document.querySelectorAll('.list a').length").as_u64().unwrap() < 60);
    browser.key("End");
    browser.until("document.activeElement.textContent === 'key-4999'");

    browser.go(&format!("{url}#/kv-new/app/"));
    browser.until("document.activeElement.id === 'key-name'");
    browser.call("Input.insertText", json!({"text": "motd"}));
    browser.look("document.getElementById('key-value').focus()");
    browser.call("Input.insertText", json!({"text": "first"}));
    browser.look("document.querySelector('button.main').click()");
    browser.until("location.hash === '#/kv-key/app/motd' && document.querySelector('textarea').value === 'first'");
    assert_eq!(agent.get("/v1/kv/app/motd?raw").text(), "first");

    // Somebody else's write is shown; one that comes while one is typing is not overwritten.
    agent.done("/v1/kv/app/motd?flags=7", "second");
    browser.until("document.querySelector('textarea').value === 'second'");
    browser.look("document.querySelector('textarea').focus()");
    browser.call("Input.insertText", json!({"text": "mine "}));
    agent.done("/v1/kv/app/motd?flags=7", "third");
    browser.until("document.querySelector('[role=alert]').textContent.includes('somebody else')");
    browser.look("document.querySelector('button.main').click()");
    browser.until("document.querySelector('[role=alert]').textContent.includes('nothing was saved')");
    assert_eq!(agent.get("/v1/kv/app/motd?raw").text(), "third");
    browser.look("document.querySelector('button.main').click()");
    browser.until("document.querySelector('[role=alert]').textContent === 'Saved.'");
    let row = agent.get("/v1/kv/app/motd").json();
    assert_eq!(row[0]["Flags"], 7);
    assert!(agent.get("/v1/kv/app/motd?raw").text().contains("mine"));

    browser.look("document.querySelector('button.danger').click()");
    browser.until("document.getElementById('ask').open");
    browser.look("document.getElementById('ask-yes').click()");
    browser.until("location.hash === '#/kv/app/'");
    assert_eq!(agent.get("/v1/kv/app/motd").status, 404);
}

/// 5 000 services on 250 nodes, 5 000 keys, one service with a check of an agent, and one whose name is markup.
fn fill(agent: &Agent) {
    for node in 0..250 {
        let name = format!("node-{node:03}");
        let mut ops = vec![json!({"Node": {"Verb": "set", "Node": {"Node": name, "Address": format!("192.0.2.{node}")}}})];
        for service in node * 20..node * 20 + 20 {
            let service =
                json!({"ID": format!("svc-{service:04}"), "Service": format!("svc-{service:04}"), "Tags": ["v1"], "Port": 80});
            ops.push(json!({"Service": {"Verb": "set", "Node": name, "Service": service}}));
        }
        agent.done("/v1/txn", Value::from(ops).to_string());
    }
    for first in (0..5000).step_by(50) {
        let set = |key| json!({"KV": {"Verb": "set", "Key": format!("many/key-{key:04}"), "Value": "eA=="}});
        agent.done("/v1/txn", Value::from((first..first + 50).map(set).collect::<Vec<_>>()).to_string());
    }
    let check = json!({"TTL": "1h", "Status": "passing"});
    agent.done("/v1/agent/service/register", json!({"Name": "web", "ID": "web-1", "Port": 80, "Check": check}).to_string());
    let odd = json!({"Node": "web-host", "Address": "192.0.2.1", "Service": {"Service": HOSTILE, "Tags": [HOSTILE]}});
    agent.done("/v1/catalog/register", odd.to_string());
}

#[test]
fn the_page_is_answered_only_where_it_is_wanted() {
    let off = Agent::new();
    assert_eq!((off.get("/").status, off.get("/ui/").status), (200, 404));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "own").unwrap();
    std::fs::write(dir.path().join(".secret"), "hidden").unwrap();
    let own = Agent::with(&["-ui-dir", dir.path().to_str().unwrap(), "-ui-content-path=/our/page"]);
    assert_eq!(own.get("/our/page/").text(), "own");
    assert_eq!(own.get("/").header("Location"), Some("/our/page/"));
    assert_eq!(own.get("/our/page").header("Location"), Some("/our/page/"));
    for path in ["/our/page/.secret", "/our/page/%2e%2e/%2e%2e/etc/passwd", "/our/page/missing", "/ui/"] {
        assert_ne!(own.get(path).status, 200, "{path}");
    }

    let agent = Agent::with(&["-dev"]);
    let page = agent.get("/ui/");
    assert!(page.header("Content-Security-Policy").unwrap().contains("default-src 'none'"), "{page:?}");
    assert!(!page.text().contains("onclick") && !page.text().contains("<style") && !page.text().contains("<script>"));
    let etag = page.header("Etag").unwrap().to_owned();
    let again = request(agent.http, "GET", "/ui/", &[("If-None-Match", &etag)], b"").unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    let packed = request(agent.http, "GET", "/ui/page.js", &[("Accept-Encoding", "gzip")], b"").unwrap();
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert!(packed.body.len() < agent.get("/ui/page.js").body.len() / 2);
    let whole: usize =
        ["", "page.js", "page.css", "icon.svg"].iter().map(|file| agent.get(&format!("/ui/{file}")).body.len()).sum();
    assert!(whole < 60_000, "the page has {whole} bytes");
    assert_eq!(agent.get("/ui/dc1/services/web/instances").header("Location"), Some("/ui/#/services/web/instances"));
    assert_eq!(agent.get("/ui/dc1/kv/a/b/edit").header("Location"), Some("/ui/#/kv/a/b"));
    for path in ["/ui/nope", "/ui/dc2/services/web", "/ui/service", "/ui/node?name="] {
        assert!([400, 404].contains(&agent.get(path).status), "{path}");
    }
    assert_eq!(agent.get("/ui/service?name=nope").json(), Value::Null);
    // The same checks as on the API.
    let foreign = request(agent.http, "GET", "/ui/live", &[("Host", "evil.example")], b"").unwrap();
    assert_eq!(foreign.status, 403);
    assert_eq!(agent.put("/ui/", "").status, 405);
}

#[test]
fn more_pages_than_there_are_streams_are_told_all_the_same() {
    use std::io::Read as _;
    let agent = Agent::with(&["-dev"]);
    // Reads until the first event is there, and what comes with it.
    let open = || {
        let mut stream = std::net::TcpStream::connect(agent.http).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET /ui/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains("\"nodes\":[[") {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
        (stream, seen)
    };
    let _streams: Vec<_> = (0..32).map(|_| open()).collect();
    let (mut beyond, mut seen) = open();
    // It ends by itself, in a chunk of no bytes, before anything else is said.
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        let mut byte = [0; 1];
        beyond.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
        assert!(seen.windows(12).filter(|part| part == b"event: some\n").count() == 0, "{}", String::from_utf8_lossy(&seen));
    }
}
