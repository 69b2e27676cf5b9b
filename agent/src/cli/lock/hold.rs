//! A lock or a semaphore in the key-value store, in the form that HashiCorp's clients give it, so that they can contend for it too.
#![allow(clippy::disallowed_methods)] // renewals are measured

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::cli::client::{Answer, Client};
use crate::cli::error::Error;
use crate::cli::remote::QueryArgs;
use crate::cli::target::Target;

/// The session's TTL, as Consul's: a host that is gone keeps the lock for twice that.
const TTL: Duration = Duration::from_secs(15);
/// How long one look at the lock waits for a change.
const LOOK_MAX: &str = "15s";
/// Pause after an attempt in the delay that follows a lost lock, and after a failed look.
const RETRY: Duration = Duration::from_secs(5);
const MONITOR_RETRY: Duration = Duration::from_secs(2);
/// Attempts to change the list of holders that others change too.
const CHANGES_MAX: usize = 64;
/// The key that is locked, below the prefix.
const KEY: &str = ".lock";
/// Flags that tell a lock from a semaphore, and both from anything else: the clients' own.
const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;
const SEMAPHORE_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// A session that is renewed for as long as this program needs it.
pub(super) struct Session<'q> {
    query: &'q QueryArgs,
    id: String,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl<'q> Session<'q> {
    pub(super) async fn create(query: &'q QueryArgs, name: &str) -> Result<Session<'q>, Error> {
        let body = json!({"Name": name, "TTL": format!("{}s", TTL.as_secs())}).to_string();
        let target = query.writing(Target::at("/v1/session/create"));
        let created: Created = Client::new(&query.agent)?.put(&target, body.into()).await?.json()?;
        Ok(Self { query, id: created.id })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Renews it again and again; ends when it is lost, or may be, and says why.
    pub(super) async fn renewing(&self) -> String {
        let mut client = match Client::new(&self.query.agent) {
            Ok(client) => client,
            Err(error) => return error.to_string(),
        };
        let target = self.query.writing(Target::at("/v1/session/renew/").name(&self.id));
        let (mut renewed, mut pause) = (Instant::now(), TTL / 2);
        loop {
            sleep(pause).await;
            let asked = Instant::now();
            match client.put(&target, Bytes::new()).await.and_then(Answer::done) {
                Ok(_) => (renewed, pause) = (asked, TTL / 2),
                Err(Error::Answer { status: 404, .. }) => return "the session is gone".to_owned(),
                Err(error) if renewed.elapsed() > TTL => return format!("the session could not be renewed: {error}"),
                Err(_) => pause = Duration::from_secs(1),
            }
        }
    }

    /// If it fails, the session runs out by itself.
    pub(super) async fn destroy(&self) {
        let target = self.query.writing(Target::at("/v1/session/destroy/").name(&self.id));
        if let Ok(mut client) = Client::new(&self.query.agent) {
            let _ = client.put(&target, Bytes::new()).await;
        }
    }
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By one at a time.
    Lock,
    /// By so many.
    Semaphore(u32),
}

/// A claim to a lock.
pub(super) struct Hold<'q> {
    query: &'q QueryArgs,
    client: Client,
    kind: Kind,
    prefix: String,
    session: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    flags: u64,
    value: Option<String>,
    #[serde(default)]
    session: String,
    modify_index: u64,
}

/// Who holds a semaphore, as its key says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Holders {
    limit: u32,
    holders: BTreeMap<String, bool>,
}

impl<'q> Hold<'q> {
    pub(super) fn new(query: &'q QueryArgs, kind: Kind, prefix: &str, session: &str) -> Result<Hold<'q>, Error> {
        let client = Client::new(&query.agent)?;
        Ok(Self { query, client, kind, prefix: prefix.to_owned(), session: session.to_owned() })
    }

    fn key(&self) -> String {
        format!("{}/{KEY}", self.prefix)
    }

    /// The key that says that this session contends for the semaphore.
    fn contender(&self) -> String {
        format!("{}/{}", self.prefix, self.session)
    }

    fn at(&self, key: &str) -> Target {
        self.query.writing(Target::at("/v1/kv/").name(key))
    }

    async fn put(&mut self, key: &str, flags: u64, condition: (&str, &str), value: Vec<u8>) -> Result<bool, Error> {
        let target = self.at(key).param("flags", &flags.to_string()).param(condition.0, condition.1);
        self.client.put(&target, value.into()).await?.json()
    }

    /// The pairs at a key or below a prefix, once they are newer than `seen`, and the index of the answer.
    async fn look(&mut self, key: &str, tree: bool, seen: u64) -> Result<(Vec<Pair>, u64), Error> {
        let mut target = self.at(key).with("consistent");
        if tree {
            target = target.with("recurse");
        }
        if seen > 0 {
            target = target.param("index", &seen.to_string()).param("wait", LOOK_MAX);
        }
        let answer = self.client.get(&target).await?;
        let index = answer.index.unwrap_or(0);
        if answer.status == http::StatusCode::NOT_FOUND {
            return Ok((Vec::new(), index));
        }
        Ok((answer.json()?, index))
    }

    /// Waits until it is held. `what` is kept with it, for people.
    pub(super) async fn acquire(&mut self, what: &str) -> Result<(), Error> {
        match self.kind {
            Kind::Lock => self.acquire_lock(what).await,
            Kind::Semaphore(limit) => self.acquire_semaphore(limit, what).await,
        }
    }

    async fn acquire_lock(&mut self, what: &str) -> Result<(), Error> {
        let (key, session, mut seen) = (self.key(), self.session.clone(), 0);
        loop {
            let (pairs, index) = self.look(&key, false, seen).await?;
            match pairs.first() {
                Some(pair) if pair.flags != LOCK_FLAGS => return Err(conflict(&key)),
                Some(pair) if pair.session == session => return Ok(()),
                Some(pair) if !pair.session.is_empty() => {
                    seen = index;
                    continue;
                }
                _ => {}
            }
            if self.put(&key, LOCK_FLAGS, ("acquire", &session), what.as_bytes().to_vec()).await? {
                return Ok(());
            }
            seen = 0;
            let (pairs, _) = self.look(&key, false, 0).await?;
            if pairs.first().is_none_or(|pair| pair.session.is_empty()) {
                sleep(RETRY).await; // the delay after a lost lock
            }
        }
    }

    async fn acquire_semaphore(&mut self, limit: u32, what: &str) -> Result<(), Error> {
        let (contender, session, mut seen) = (self.contender(), self.session.clone(), 0);
        if !self.put(&contender, SEMAPHORE_FLAGS, ("acquire", &session), what.as_bytes().to_vec()).await? {
            return Err(Error::NotDone("Failed to make contender entry".to_owned()));
        }
        loop {
            let (pairs, index) = self.look(&format!("{}/", self.prefix), true, seen).await?;
            let (mut holders, at) = self.holders(&pairs)?;
            if holders.limit != 0 && holders.limit != limit {
                let text = format!("Semaphore limit conflict (lock: {}, local: {limit})", holders.limit);
                return Err(Error::NotDone(text));
            }
            holders.limit = limit;
            if holders.holders.len() >= limit as usize {
                seen = index;
                continue;
            }
            holders.holders.insert(session.clone(), true);
            if self.put_holders(&holders, at).await? {
                return Ok(());
            }
            seen = 0; // another one was faster
        }
    }

    /// Who holds the semaphore and still lives, and the index of the key that says so.
    fn holders(&self, pairs: &[Pair]) -> Result<(Holders, u64), Error> {
        let key = self.key();
        let Some(pair) = pairs.iter().find(|pair| pair.key == key) else { return Ok((Holders::default(), 0)) };
        if pair.flags != SEMAPHORE_FLAGS {
            return Err(conflict(&key));
        }
        let bytes = STANDARD.decode(pair.value.as_deref().unwrap_or_default()).map_err(|_| conflict(&key))?;
        let mut holders: Holders = serde_json::from_slice(&bytes).map_err(|_| conflict(&key))?;
        let lives = |session: &String| {
            let own = format!("{}/{session}", self.prefix);
            pairs.iter().any(|pair| pair.key == own && pair.session == *session)
        };
        holders.holders.retain(|session, _| lives(session));
        Ok((holders, pair.modify_index))
    }

    async fn put_holders(&mut self, holders: &Holders, at: u64) -> Result<bool, Error> {
        let value = serde_json::to_vec(holders).expect("plain data can be written to memory");
        self.put(&self.key(), SEMAPHORE_FLAGS, ("cas", &at.to_string()), value).await
    }

    async fn is_held(&mut self, seen: u64) -> Result<(bool, u64), Error> {
        match self.kind {
            Kind::Lock => {
                let (pairs, index) = self.look(&self.key(), false, seen).await?;
                Ok((pairs.first().is_some_and(|pair| pair.session == self.session), index))
            }
            Kind::Semaphore(_) => {
                let (pairs, index) = self.look(&format!("{}/", self.prefix), true, seen).await?;
                Ok((self.holders(&pairs)?.0.holders.contains_key(&self.session), index))
            }
        }
    }

    /// Ends when it is held no more, or nobody can say it any more.
    pub(super) async fn watch(&mut self, retries: u32) -> Error {
        let (mut seen, mut left) = (0, retries);
        loop {
            match self.is_held(seen).await {
                Ok((true, index)) => (seen, left) = (index, retries),
                Ok((false, _)) => return Error::LockLost("it is held by another one, or by nobody".to_owned()),
                Err(error) if left == 0 => return Error::LockLost(error.to_string()),
                Err(_) => {
                    (seen, left) = (0, left - 1);
                    sleep(MONITOR_RETRY).await;
                }
            }
        }
    }

    /// Gives it back, if it is held.
    pub(super) async fn release(&mut self) -> Result<(), Error> {
        let session = self.session.clone();
        if self.kind == Kind::Lock {
            return self.put(&self.key(), LOCK_FLAGS, ("release", &session), Vec::new()).await.map(|_| ());
        }
        for _ in 0..CHANGES_MAX {
            let (pairs, _) = self.look(&format!("{}/", self.prefix), true, 0).await?;
            let (mut holders, at) = self.holders(&pairs)?;
            if holders.holders.remove(&session).is_none() || self.put_holders(&holders, at).await? {
                break;
            }
        }
        self.client.delete(&self.at(&self.contender())).await?.done().map(|_| ())
    }

    /// Removes the lock's key if nobody uses it.
    pub(super) async fn clean_up(&mut self) -> Result<(), Error> {
        let key = self.key();
        let (pairs, _) = self.look(&format!("{}/", self.prefix), true, 0).await?;
        let Some(pair) = pairs.iter().find(|pair| pair.key == key) else { return Ok(()) };
        let in_use = match self.kind {
            Kind::Lock => pair.flags != LOCK_FLAGS || !pair.session.is_empty(),
            Kind::Semaphore(_) => !self.holders(&pairs)?.0.holders.is_empty(),
        };
        if in_use {
            return Err(Error::NotDone("the lock is in use".to_owned()));
        }
        let target = self.at(&key).param("cas", &pair.modify_index.to_string());
        self.client.delete(&target).await?.done().map(|_| ())
    }
}

fn conflict(key: &str) -> Error {
    Error::NotDone(format!("Existing key does not match lock use: {key}"))
}
