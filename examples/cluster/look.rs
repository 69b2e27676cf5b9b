//! What each agent answers: whom it takes for the leader, how many members it sees, what it finds and how old that is.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::agents::{Agent, CLIENTS, SERVERS};

/// An agent answers from its own memory: who takes longer is not there, or its host has no time for it.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Largest answer that is read: six agents and their services take a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// One agent at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its process, if it has one.
    pub pid: Option<u32>,
    /// Whether it is a server.
    pub server: bool,
    /// What it said; `None` if it says nothing.
    pub said: Option<Said>,
}

/// What an agent said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Whom it takes for the leader; empty if for nobody.
    pub leader: String,
    /// Members that are alive, as it sees them.
    pub alive: usize,
    /// Members that failed.
    pub failed: usize,
    /// Instances of `web` that it finds over HTTP, from its own copy.
    pub web: usize,
    /// Instances of `db`.
    pub db: usize,
    /// Instances of `web` in its answer over DNS.
    pub dns: usize,
    /// How old its copy is, in milliseconds.
    pub age_ms: u64,
}

impl Look {
    /// Looks at all of them at once, and gives them back in their order.
    pub async fn at_all(agents: &[Agent]) -> Vec<Look> {
        let mut looking = JoinSet::new();
        for (place, agent) in agents.iter().enumerate() {
            let (http, dns) = (agent.at(8500), agent.at(8600));
            let look = Look {
                name: agent.name.clone(),
                address: agent.address.to_string(),
                pid: agent.pid(),
                server: agent.server,
                said: None,
            };
            looking.spawn(async move {
                let said = match look.pid {
                    Some(_) => tokio::time::timeout(ANSWER_MAX, Said::by(http, dns)).await.ok().and_then(Result::ok),
                    None => None,
                };
                (place, Look { said, ..look })
            });
        }
        let mut looks = looking.join_all().await;
        looks.sort_by_key(|(place, _)| *place);
        looks.into_iter().map(|(_, look)| look).collect()
    }

    /// Whether it finds the services beside all six, over HTTP and DNS.
    pub fn finds_all(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.web == CLIENTS && said.dns == CLIENTS && said.db == SERVERS)
    }

    /// Whether it takes itself for the leader.
    pub fn leads(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.leader.starts_with(&format!("{}:", self.address)))
    }
}

impl Said {
    async fn by(http: SocketAddr, dns: SocketAddr) -> Result<Self> {
        let (_, leader) = get(http, "/v1/status/leader").await?;
        let (_, members) = get(http, "/v1/agent/members").await?;
        let (head, web) = get(http, "/v1/health/service/web?passing&stale").await?;
        let (_, db) = get(http, "/v1/health/service/db?passing&stale").await?;
        let members: Vec<serde_json::Value> = serde_json::from_str(&members)?;
        let count = |status: u64| members.iter().filter(|member| member["Status"] == status).count();
        let instances = |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).map(|list| list.len());
        Ok(Said {
            leader: serde_json::from_str(&leader)?,
            alive: count(1),
            failed: count(4),
            web: instances(&web)?,
            db: instances(&db)?,
            dns: look_up(dns, "web.service.consul.").await?,
            age_ms: header(&head, "x-consul-lastcontact").and_then(|age| age.parse().ok()).unwrap_or_default(),
        })
    }
}

/// The head and the body of an answer.
async fn get(at: SocketAddr, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{path}: {body}");
    }
    Ok((head.to_owned(), body.to_owned()))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(has, _)| has.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// How many addresses a name has over DNS.
async fn look_up(at: SocketAddr, name: &str) -> Result<usize> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    let socket = UdpSocket::bind((at.ip(), 0)).await?;
    socket.connect(at).await?;
    socket.send(&question.to_vec()?).await?;
    let mut packet = [0; 1500];
    let length = socket.recv(&mut packet).await?;
    Ok(Message::from_vec(packet.get(..length).unwrap_or_default())?.answers.len())
}
