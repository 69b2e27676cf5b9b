//! Conversations over TCP: our own, and those that others begin.
#![allow(clippy::disallowed_methods)] // they are timed

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Shared;
use super::line::{self, broken, connect, within};
use crate::core::{Check, Core, Dial, Done, Evidence, Heard, Reply, Step, texts};
use crate::error::{Error, JoinError, KeyError, Refusal, Why};
use crate::identity::Identity;
use crate::message::{KeyAct, Reached, Request, Response};

/// How long a holder of a claimed UUID or name, or a rival, may take to answer a knock, connecting included.
pub(crate) const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a suspected member may take to answer: less than the look takes that it is a part of.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_millis(900);
/// How long a witness may take: it knocks itself.
pub(crate) const WITNESS_TIMEOUT: Duration = Duration::from_millis(2500);
/// Requests on one connection: joining takes two.
const REQUESTS_MAX: usize = 8;

/// What joining an address led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// This agent was let in.
    In,
    /// There is no cluster yet at either end: both wait for one to be founded.
    Waiting,
}

/// How long a conversation may take in all. None: each of its steps has a limit of its own.
pub(crate) fn limit(dial: &Dial) -> Option<Duration> {
    match dial {
        Dial::Join(_) | Dial::Exchange(_) => None,
        Dial::Ping(..) => Some(PING_TIMEOUT),
        Dial::Witness(..) => Some(WITNESS_TIMEOUT),
        _ => Some(KNOCK_TIMEOUT),
    }
}

/// Leads one conversation to its end.
pub(super) async fn converse(shared: &Arc<Shared>, dial: &Dial) -> Result<Joined, JoinError> {
    let (addr, began) = (dial.addr(), Instant::now());
    let talked = match limit(dial) {
        Some(limit) => within(limit, talk(shared, dial)).await,
        None => talk(shared, dial).await,
    };
    let done = match talked {
        Ok(Ok(done)) => done,
        Ok(Err(own)) => return Err(JoinError::Own { addr, source: own }),
        Err(source) => {
            let heard = if is_refusal(&source) { Heard::Refused } else { Heard::Silent };
            shared.with(|core, now| core.heard(dial, heard, now));
            let unreached = matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut
            );
            return Err(if unreached { JoinError::Connect { addr, source } } else { JoinError::Talk { addr, source } });
        }
    };
    match done {
        Done::Well => {
            if matches!(dial, Dial::Exchange(_)) {
                shared.lock().meters().exchanged(began.elapsed());
            }
            Ok(Joined::In)
        }
        Done::Waiting => Ok(Joined::Waiting),
        Done::Refused(source) => {
            shared.with(|core, now| core.was_refused(dial, &source, now));
            Err(JoinError::Refused { addr, source })
        }
        Done::Failed => Err(JoinError::Talk { addr, source: broken("an answer to another question") }),
    }
}

async fn talk(shared: &Arc<Shared>, dial: &Dial) -> io::Result<Result<Done, Error>> {
    let mut line = match connect(shared, dial.addr()).await? {
        Ok(line) => line,
        Err(refusal) => {
            shared.with(|core, now| core.heard(dial, unmet(&refusal), now));
            return Ok(Ok(Done::Refused(refusal)));
        }
    };
    let mut request = shared.with(|core, now| core.open(dial, now));
    loop {
        let response = line.ask(&request).await?;
        let mut step = shared.with(|core, now| core.heard(dial, Heard::Response(response), now));
        if let Step::Adopt(cluster, epoch) = step {
            let _keeping = shared.keeping.lock().await;
            if shared.lock().cluster().is_none() {
                let keep = shared.keep.cluster.clone();
                if let Err(source) = kept(move || keep(cluster)).await {
                    return Ok(Err(Error::Keep { what: "the cluster id", source }));
                }
            }
            step = shared.with(|core, now| core.adopted(cluster, epoch, now));
        }
        match step {
            Step::Send(next) => request = next,
            Step::Done(done) => return Ok(Ok(done)),
            Step::Adopt(..) => return Ok(Ok(Done::Failed)),
        }
    }
}

/// Runs what writes to the disk where it blocks nobody.
pub(super) async fn kept(keep: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(keep).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Nobody listens there. What breaks off may be an agent that is overloaded, or stops: that is no proof of a death.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// What it says that the greeting there was none of ours: something else listens, or an agent of another version.
pub(crate) fn unmet(refusal: &Refusal) -> Heard {
    if refusal.why == Why::Malformed { Heard::Refused } else { Heard::Silent }
}

/// Asks who is at an address.
async fn knock(shared: &Arc<Shared>, addr: SocketAddr) -> Reached {
    let answer = within(KNOCK_TIMEOUT, async {
        let mut line = match connect(shared, addr).await? {
            Ok(line) => line,
            Err(refusal) => {
                let heard = unmet(&refusal);
                return Ok(if matches!(heard, Heard::Refused) { Reached::Refused } else { Reached::Silent });
            }
        };
        let request = shared.with(|core, now| core.knock(now));
        match line.ask(&request).await? {
            Response::Iam(iam) => Ok(Reached::Answered(iam)),
            _ => Ok(Reached::Silent),
        }
    });
    answer.await.unwrap_or_else(|error| if is_refusal(&error) { Reached::Refused } else { Reached::Silent })
}

/// Has another member try an address. None: it does not answer itself.
async fn witnessed(shared: &Arc<Shared>, witness: SocketAddr, addr: SocketAddr) -> Option<Reached> {
    let answer = within(WITNESS_TIMEOUT, async {
        let Ok(mut line) = connect(shared, witness).await? else { return Ok(None) };
        let request = shared.with(|core, _| core.verify(addr));
        match line.ask(&request).await? {
            Response::Reached(reached) => Ok(Some(reached)),
            _ => Ok(None),
        }
    });
    answer.await.ok().flatten()
}

/// Asks another member to do something with its keyring.
pub(super) async fn ask_keys(shared: &Arc<Shared>, addr: SocketAddr, act: &KeyAct) -> Result<Vec<String>, String> {
    let answer = async {
        let mut line = match connect(shared, addr).await? {
            Ok(line) => line,
            Err(refusal) => return Ok(Response::Refused(refusal)),
        };
        let request = shared.with(|core, _| core.key_request(act));
        line.ask(&request).await
    };
    match answer.await {
        Ok(Response::Keys(keys)) => Ok(keys),
        Ok(Response::Refused(refusal)) => Err(refusal.text),
        Ok(_) => Err("it gave another answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Does something with this agent's keyring, and keeps it before it is used.
pub(super) async fn own_keys(shared: &Arc<Shared>, act: &KeyAct) -> Result<Vec<String>, Error> {
    let _keeping = shared.keeping.lock().await;
    let ring = {
        let core = shared.lock();
        let ring = core.keys_after(act)?;
        if ring == *core.ring() {
            return Ok(texts(&ring));
        }
        ring
    };
    let (keep, kept_ring) = (shared.keep.keys.clone(), ring.clone());
    kept(move || keep(&kept_ring)).await.map_err(|source| Error::Keep { what: "the keyring", source })?;
    let keys = texts(&ring);
    shared.with(|core, _| core.set_ring(ring));
    Ok(keys)
}

/// Answers one connection.
pub(super) async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    shared.with(|core, _| core.meters().accepted());
    if let Err(error) = answer_all(shared, stream, peer).await {
        tracing::debug!(%peer, %error, "gossip connection");
    }
}

async fn answer_all(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let Some(mut line) = line::accept(shared, stream, peer).await? else { return Ok(()) };
    for _ in 0..REQUESTS_MAX {
        let message = match line.receive().await? {
            None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(_)) => return Err(broken("a refusal where a question was due")),
        };
        let response = match Request::decode(&message.bytes) {
            Ok(request) => respond(shared, peer, request).await,
            Err(_) => shared.with(|core, now| core.refuse(peer, Refusal::new(Why::Malformed, "the request cannot be read"), now)),
        };
        line.send(&response.encode()).await?;
    }
    Ok(())
}

async fn respond(shared: &Arc<Shared>, peer: SocketAddr, request: Request) -> Response {
    let joiner = match &request {
        Request::Join(claim) => Some((claim.iam.identity.addr, claim.iam.boot)),
        _ => None,
    };
    let mut response = decide(shared, peer, request).await;
    if let (Response::Admitted { reached, .. }, Some((addr, boot))) = (&mut response, joiner) {
        // One that nobody reaches would be buried in seconds: it hears why now.
        *reached = matches!(knock(shared, addr).await, Reached::Answered(iam) if iam.boot == boot);
    }
    response
}

async fn decide(shared: &Arc<Shared>, peer: SocketAddr, request: Request) -> Response {
    match shared.with(|core, now| core.asked(peer, request, now)) {
        Reply::Now(response) => response,
        Reply::Verify(addr) => Response::Reached(knock(shared, addr).await),
        Reply::Check(check) => {
            let evidence = gather(shared, &check).await;
            shared.with(|core, now| core.judge(&check, &evidence, now))
        }
        Reply::Keys(act) => match own_keys(shared, &act).await {
            Ok(keys) => Response::Keys(keys),
            Err(Error::Key(error)) => Response::Refused(Refusal::new(Why::Key, KeyError::to_string(&error))),
            Err(error) => Response::Refused(Refusal::new(Why::Other, error.to_string())),
        },
    }
}

/// Tries the holders of what is claimed, all at once, from here and from the witness.
async fn gather(shared: &Arc<Shared>, check: &Check) -> Vec<Evidence> {
    let mut tries = JoinSet::new();
    for holder in &check.holders {
        let (shared, holder, witness) = (shared.clone(), *holder, check.witness);
        tries.spawn(async move {
            let elsewhere = async {
                match witness {
                    Some(witness) => witnessed(&shared, witness, holder.addr).await,
                    None => None,
                }
            };
            let (here, there) = tokio::join!(knock(&shared, holder.addr), elsewhere);
            evidence(holder, here, there)
        });
    }
    tries.join_all().await
}

fn evidence(holder: Identity, here: Reached, there: Option<Reached>) -> Evidence {
    Evidence { holder, reached: std::iter::once(here).chain(there).collect() }
}

/// Founds the cluster: its id is kept before it is used.
pub(super) async fn found(shared: &Arc<Shared>, cluster: uuid::Uuid) -> Result<bool, Error> {
    let _keeping = shared.keeping.lock().await;
    if shared.lock().cluster().is_none() {
        let keep = shared.keep.cluster.clone();
        kept(move || keep(cluster)).await.map_err(|source| Error::Keep { what: "the cluster id", source })?;
    }
    Ok(shared.with(|core: &mut Core, now| core.found(cluster, now)))
}
