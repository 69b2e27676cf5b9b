//! How does a program follow a service? It asks again and again, and each question waits until the answer has changed.
//!
//!     cargo run -p muster-examples --bin watch_service -- web 127.0.0.1:8500
#![allow(clippy::print_stdout, clippy::print_stderr)] // the instances are its output, faults are said

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

/// How long a question waits for a change. The agent adds up to a sixteenth, so that not all watchers ask at one moment.
const WAIT: Duration = Duration::from_secs(60);
/// After a fault: long enough to burden nobody, short enough to be back soon.
const PAUSE: Duration = Duration::from_secs(1);

/// One entry of the answer, as far as a caller of the service must know it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let service = arguments.next().unwrap_or_else(|| "web".into());
    let agent = arguments.next().unwrap_or_else(|| "127.0.0.1:8500".into());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut seen = 0;
    let mut shown = None;
    loop {
        match ask(&client, &agent, &service, seen).await {
            Ok((index, entries)) => {
                // An index that went back belongs to another history: begin anew. Zero would not wait at all, so at least one.
                seen = if index < seen { 0 } else { index.max(1) };
                // A question may come back without a change, after its time or after a change to an instance that is not well.
                let instances = show(&entries);
                if shown.as_ref() != Some(&instances) {
                    println!("{service}: {instances}");
                    shown = Some(instances);
                }
            }
            Err(error) => {
                // What was shown last stays true as far as anybody knows: a lost agent is no lost service.
                eprintln!("{error:#}");
                seen = 0;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Asks for the instances that pass; returns once the service's index is above `seen`, or `WAIT` is over.
async fn ask(client: &Client<HttpConnector, Full<Bytes>>, agent: &str, service: &str, seen: u64) -> Result<(u64, Vec<Entry>)> {
    let path = format!("http://{agent}/v1/health/service/{service}?passing&index={seen}&wait={}s", WAIT.as_secs());
    let asked = tokio::time::timeout(WAIT * 2, client.get(path.parse()?));
    let answer = asked.await.context("the agent does not answer")?.with_context(|| format!("no agent on {agent}"))?;
    let status = answer.status();
    let index = answer.headers().get("X-Consul-Index").and_then(|index| index.to_str().ok()?.parse().ok());
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok((index.context("an answer without X-Consul-Index")?, serde_json::from_slice(&body)?))
}

fn show(entries: &[Entry]) -> String {
    let mut instances: Vec<String> = entries
        .iter()
        .map(|Entry { node, service }| {
            // An instance without an address of its own is at its node's.
            let address = if service.address.is_empty() { &node.address } else { &service.address };
            format!("{} at {address}:{}", service.id, service.port)
        })
        .collect();
    instances.sort();
    if instances.is_empty() { "nobody is well".into() } else { instances.join(", ") }
}
