//! Answers that are sent again: the same as if they had been made anew, and never where they would not be.

use std::io::Read as _;

use super::*;
use crate::config::RequestLimits;

/// What a client can tell two answers apart by, but for the time of day.
fn seen(said: &Said) -> (String, Vec<u8>) {
    let head = said.head.lines().filter(|line| !line.starts_with("Date: "));
    (head.collect::<Vec<_>>().join("\n"), said.body.clone())
}

impl House {
    fn kept(&self) -> usize {
        self.doorway.now().again.kept()
    }

    /// Asks as often as it takes to be answered by what was kept.
    async fn kept_answer(&self, path: &str, headers: &str) -> Said {
        let before = self.kept();
        let first = self.ask("GET", path, headers, "").await;
        for _ in 0..3 {
            assert_eq!(seen(&self.ask("GET", path, headers, "").await), seen(&first), "{path}");
        }
        assert_eq!(self.kept(), before + 1, "{path} is kept");
        first
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_is_what_would_be_made_anew_and_ends_with_the_state_it_was_read_from() {
    let house = house(|_| {}).await;
    house.register("n1", "passing").await;
    house.register("n2", "passing").await;
    let paths = [
        "/v1/health/service/web?passing",
        "/v1/health/service/web?stale",
        "/v1/health/service/web?passing&pretty",
        "/v1/health/service/none",
        "/v1/health/service/web?filter=Node.Node%20==%20%22n2%22",
        "/v1/catalog/service/web?tag=none",
        "/v1/catalog/services",
        "/v1/catalog/nodes",
        "/v1/health/state/critical",
    ];
    for path in paths {
        house.kept_answer(path, "").await;
    }
    let plain = house.get(paths[0]).await;
    let token = house.ask("GET", paths[0], "X-Consul-Token: x\r\n", "").await;
    assert_eq!(seen(&token), seen(&plain), "it has no rights that differ");
    assert_eq!(plain.header("X-Consul-Effective-Consistency"), Some("leader"));
    assert_eq!(house.get(paths[1]).await.header("X-Consul-Effective-Consistency"), Some("stale"));

    house.register("n2", "critical").await;
    let after = house.get(paths[0]).await;
    assert!(after.index() > plain.index() && !after.text().contains("n2") && after.text().contains("n1"));
    assert!(house.get("/v1/health/state/critical").await.text().contains("n2-c"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_says_beside_its_path_still_counts() {
    let house = house(|_| {}).await;
    house.register("n1", "passing").await;
    for number in 2..9 {
        house.register(&format!("n{number}"), "passing").await;
    }
    let path = "/v1/health/service/web";
    let plain = house.kept_answer(path, "").await;
    for _ in 0..4 {
        let packed = house.ask("GET", path, "Accept-Encoding: gzip\r\n", "").await;
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain.body);
    }
    assert_eq!(seen(&house.get(path).await), seen(&plain));
    let foreign = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(house.send(foreign.as_bytes()).await.status(), "403");
    assert_eq!(house.ask("GET", path, "X-Consul-Namespace: x\r\n", "").await.status(), "400");
    assert_eq!(house.ask("GET", path, "Cache-Control: max-age=x\r\n", "").await.status(), "400");
    assert_eq!(house.ask("HEAD", path, "", "").await.status(), "405");

    let mut config = Config::new("dc1");
    config.block_endpoints = vec![path.to_owned()];
    house.doorway.replace(config);
    assert_eq!(house.get(path).await.status(), "403");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_more_than_the_state_decides_is_not_kept() {
    let house = house(|_| {}).await;
    house.register("n1", "passing").await;
    let long = format!("/v1/health/service/web?x={}", "x".repeat(300));
    for path in [
        "/v1/health/service/web?consistent",
        "/v1/health/service/web?cached",
        "/v1/health/service/web?near=_agent",
        "/v1/health/service/web?max_stale=10s",
        "/v1/health/service/web?index=1&wait=1ms",
        "/v1/health/service/web?token=x",
        "/v1/health/service/web?dc=other",
        "/v1/health/service/",
        "/v1/kv/none",
        "/v1/agent/self",
        "/v1/status/leader",
        &long,
    ] {
        for _ in 0..4 {
            house.get(path).await;
        }
        assert_eq!(house.kept(), 0, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_counts_for_the_limit_of_requests() {
    // the bucket holds ten seconds' worth
    let limits = RequestLimits { refuses: Some(true), reads: Some(0.5), writes: None };
    let house = house(|config| config.request_limits = limits).await;
    let mut told = Vec::new();
    for _ in 0..8 {
        told.push(house.get("/v1/catalog/nodes").await.status().to_owned());
    }
    assert_eq!(house.kept(), 1);
    assert_eq!(told, ["200", "200", "200", "200", "200", "429", "429", "429"]);
}
