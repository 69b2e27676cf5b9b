//! What an HTTP check asks, judges and follows.

use super::*;

#[tokio::test]
async fn http_statuses_become_verdicts_and_texts() {
    let server = Server::start(|request| {
        let status = request.split(' ').nth(1).unwrap().trim_start_matches('/').replace('_', " ");
        answer(&status, "", "target says")
    })
    .await;
    for (path, status, line) in [
        ("200_OK", Status::Passing, "200 OK"),
        ("204_No_Content", Status::Passing, "204 No Content"),
        ("200_Quite_Fine", Status::Passing, "200 Quite Fine"),
        ("429_Too_Many_Requests", Status::Warning, "429 Too Many Requests"),
        ("503_Service_Unavailable", Status::Critical, "503 Service Unavailable"),
        ("404_Not_Found", Status::Critical, "404 Not Found"),
        ("304_Not_Modified", Status::Critical, "304 Not Modified"),
    ] {
        let url = server.url(&format!("/{path}"));
        let outcome = see_http(http(url.clone())).await;
        let body = if path.starts_with("204") || path.starts_with("304") { "" } else { "target says" };
        assert_eq!((outcome.status, outcome.output), (status, format!("HTTP GET {url}: {line} Output: {body}")));
    }
}

#[tokio::test]
async fn an_http_request_carries_what_was_asked_for_and_consuls_defaults() {
    let server = Server::start(|request| answer("200 OK", "", request)).await;
    let port = server.address.port();
    let plain = see_http(http(format!("http://me:s%40cret@127.0.0.1:{port}/x?y=1#z"))).await.output.to_lowercase();
    for line in [
        "output: get /x?y=1 http/1.1\r\n",
        "user-agent: consul health check\r\n",
        "accept: text/plain, text/*, */*\r\n",
        "connection: close\r\n",
        &format!("host: 127.0.0.1:{port}\r\n"),
        "authorization: basic bwu6c0bjcmv0\r\n",
    ] {
        assert!(plain.contains(line), "{line:?} in {plain}");
    }
    let header = [("Host", vec!["named.example"]), ("Accept", vec!["a/b"]), ("X-Probe", vec!["yes", "and no"])];
    let header = header.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
    let full =
        HttpProbe { method: "POST".into(), body: "payload".into(), header: BTreeMap::from(header), ..http(server.url("/")) };
    let full = see_http(full).await.output;
    assert!(full.starts_with("HTTP POST http://127.0.0.1"), "{full}");
    let full = full.to_lowercase();
    for line in ["host: named.example\r\n", "accept: a/b\r\n", "x-probe: yes\r\n", "x-probe: and no\r\n", "\r\n\r\npayload"] {
        assert!(full.contains(line), "{line:?} in {full}");
    }
    assert!(!full.contains("127.0.0.1\r\n") && !full.contains("text/plain"));
}

#[tokio::test]
async fn http_output_is_the_beginning_of_the_body() {
    let server = Server::start(|_| answer("200 OK", "", &"y".repeat(5000))).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!(outcome.output.matches('y').count(), 4096);
}

#[tokio::test]
async fn what_cannot_be_asked_is_critical_and_says_why() {
    let closed = closed().await;
    for (url, said) in [
        (format!("http://{closed}/"), format!("Get \"http://{closed}/\": dial tcp {closed}: connect: connection refused")),
        ("http://nosuch.invalid/".into(), "Get \"http://nosuch.invalid/\": dial tcp: lookup nosuch.invalid: no such host".into()),
        ("ftp://host/".into(), "Get \"ftp://host/\": unsupported protocol scheme \"ftp\"".into()),
        ("/only/a/path".into(), "Get \"/only/a/path\": unsupported protocol scheme \"\"".into()),
        ("http://a b/".into(), "Get \"http://a b/\": ".into()),
        (String::new(), "Get \"\": ".into()),
    ] {
        let outcome = see_http(http(url)).await;
        assert_eq!(outcome.status, Status::Critical);
        assert!(outcome.output.starts_with(&said), "{}", outcome.output);
    }
    let header = BTreeMap::from([("X-Bad".to_owned(), vec!["line\r\nX-Smuggled: 1".to_owned()])]);
    let outcome = see_http(HttpProbe { header, ..http(format!("http://{closed}/")) }).await;
    assert!(outcome.output.contains("invalid header field value"), "{}", outcome.output);
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_has_an_endless_head_is_critical() {
    let noise = Server::start(|_| "SSH-2.0-OpenSSH_9.2\r\n".into()).await;
    assert_eq!(see_http(http(noise.url("/"))).await.status, Status::Critical);
    let endless = Server::start(|_| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(10_000_000))).await;
    let outcome = see_http(http(endless.url("/"))).await;
    assert!(outcome.output.contains("too large"), "{}", outcome.output);
    let nothing = Server::start(|_| String::new()).await;
    assert_eq!(see_http(http(nothing.url("/"))).await.status, Status::Critical);
}

#[tokio::test]
async fn a_body_that_breaks_off_has_said_what_it_has_said_and_is_not_waited_for() {
    let server = Server::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf".into()).await;
    let begun = Instant::now();
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!((outcome.status, outcome.output), (Status::Passing, format!("HTTP GET {}: 200 OK Output: half", server.url("/"))));
    assert!(begun.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_chunked_answer_and_a_large_request_are_no_trouble() {
    let server = Server::start(|request| {
        let length = request.rsplit("\r\n\r\n").next().unwrap().len();
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{length}\r\n0\r\n\r\n")
    })
    .await;
    let outcome = see_http(HttpProbe { method: "PUT".into(), body: "b".repeat(1_000_000), ..http(server.url("/")) }).await;
    assert!(outcome.output.ends_with("200 OK Output: 1000000"), "{}", outcome.output);
}

#[tokio::test]
async fn of_several_hosts_the_first_is_asked_for() {
    let server = Server::start(|request| answer("200 OK", "", request)).await;
    let header = BTreeMap::from([("host".to_owned(), vec!["one.example".to_owned(), "two.example".to_owned()])]);
    let output = see_http(HttpProbe { header, ..http(server.url("/")) }).await.output;
    assert!(output.contains("one.example") && !output.contains("two.example"), "{output}");
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_and_the_url_told_is_the_checks() {
    let server = Server::start(|request| match request.split(' ').nth(1) {
        Some("/start") => answer("302 Found", "Location: /next\r\n", ""),
        Some("/next") => answer("301 Moved Permanently", "Location: end?x=1\r\n", ""),
        Some("/end?x=1") => answer("200 OK", "", request.split(' ').next().unwrap()),
        _ => answer("404 Not Found", "", ""),
    })
    .await;
    let url = server.url("/start");
    let outcome = see_http(HttpProbe { method: "POST".into(), body: "p".into(), ..http(url.clone()) }).await;
    assert_eq!(outcome, Outcome::new(Status::Passing, format!("HTTP POST {url}: 200 OK Output: GET")));
    let itself = see_http(HttpProbe { disable_redirects: true, ..http(url.clone()) }).await;
    assert_eq!(itself, Outcome::critical(format!("HTTP GET {url}: 302 Found Output: ")));
}

#[tokio::test]
async fn a_307_keeps_method_and_body() {
    let server = Server::start(|request| match request.split(' ').nth(1) {
        Some("/start") => answer("307 Temporary Redirect", "Location: /end\r\n", ""),
        _ => answer("200 OK", "", request.rsplit("\r\n\r\n").next().unwrap()),
    })
    .await;
    let outcome = see_http(HttpProbe { method: "PUT".into(), body: "payload".into(), ..http(server.url("/start")) }).await;
    assert!(outcome.output.ends_with("200 OK Output: payload"), "{}", outcome.output);
}

#[tokio::test]
async fn redirects_to_other_hosts_are_followed_only_if_asked_and_without_secrets() {
    let other = Server::start(|request| answer("200 OK", "", request)).await;
    let to = other.url("/secret");
    let server = Server::start(move |_| answer("302 Found", &format!("Location: {to}\r\n"), "elsewhere")).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!(outcome.status, Status::Critical);
    assert!(outcome.output.contains("302 Found (redirect to "), "{}", outcome.output);
    assert!(outcome.output.ends_with("is not followed: another host) Output: elsewhere"), "{}", outcome.output);
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);

    let header = BTreeMap::from([("Authorization".to_owned(), vec!["Bearer secret".to_owned()])]);
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let outcome = see_http(HttpProbe { follow_foreign_redirects: true, header, ..http(url) }).await;
    assert_eq!((outcome.status, other.asked.load(Ordering::SeqCst)), (Status::Passing, 1));
    assert!(!outcome.output.contains("Bearer"), "{}", outcome.output);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = Server::start(|_| answer("302 Found", "Location: /\r\n", "")).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert!(outcome.output.ends_with("stopped after 10 redirects"), "{}", outcome.output);
    assert_eq!(server.asked.load(Ordering::SeqCst), 11);
}
