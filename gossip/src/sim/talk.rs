//! Conversations of a simulation: led and answered as the shell does it (`shell::talk`), on virtual connections.

use std::net::SocketAddr;
use std::pin::Pin;

use rand::seq::IteratorRandom;

use super::node::Side;
use super::task::{Ground, Lost, all};
use crate::core::{Check, Core, Dial, Done, Evidence, Heard, Reply, Standing, Step, texts};
use crate::error::{Refusal, Why};
use crate::message::{Reached, Request, Response};
use crate::shell::{KNOCK_TIMEOUT, WITNESS_TIMEOUT, limit, unmet};

/// How often an agent that wants to be let in asks for it.
const ENTER_EVERY: u64 = 1_000_000_000;
/// How long it takes to keep a cluster id or a keyring on disk.
const DISK: u64 = 2_000_000;

/// Leads one conversation to its end.
pub(super) async fn converse(ground: Ground, own: Side, dial: Dial) {
    lead(&ground, own, &dial).await;
    ground.world().talked(own);
}

async fn lead(ground: &Ground, own: Side, dial: &Dial) {
    let talked = match limit(dial) {
        Some(limit) => ground.within(limit, talk(ground, own, dial)).await,
        None => talk(ground, own, dial).await,
    };
    let heard = match talked {
        Ok(Done::Refused(refusal)) => {
            let _ = ground.with(own, |core, now| core.was_refused(dial, &refusal, now)).await;
            return;
        }
        Ok(_) | Err(Lost::Gone) => return,
        Err(Lost::Refused) => Heard::Refused,
        Err(Lost::Broken | Lost::Silent) => Heard::Silent,
    };
    let _ = ground.with(own, |core, now| core.heard(dial, heard, now)).await;
}

async fn talk(ground: &Ground, own: Side, dial: &Dial) -> Result<Done, Lost> {
    let mut line = match ground.connect(own, dial.addr()).await? {
        Ok(line) => line,
        Err(refusal) => {
            ground.with(own, |core, now| core.heard(dial, unmet(&refusal), now)).await?;
            return Ok(Done::Refused(refusal));
        }
    };
    let mut request = ground.with(own, |core, now| core.open(dial, now)).await?;
    loop {
        let response = line.ask(&request).await?;
        let mut step = ground.with(own, |core, now| core.heard(dial, Heard::Response(response), now)).await?;
        if let Step::Adopt(cluster, epoch) = step {
            ground.sleep(DISK).await;
            step = ground.with(own, |core, now| core.adopted(cluster, epoch, now)).await?;
        }
        match step {
            Step::Send(next) => request = next,
            Step::Done(done) => return Ok(done),
            Step::Adopt(..) => return Ok(Done::Failed),
        }
    }
}

/// Asks until it is let in, as an agent does that was told whom to join.
pub(super) async fn enter(ground: Ground, own: Side) {
    loop {
        let inside = |core: &mut Core, _| *core.standing() != Standing::Outside;
        if !matches!(ground.with(own, inside).await, Ok(false)) {
            return;
        }
        let known = {
            let mut world = ground.world();
            let lives = |node: &super::node::Node| {
                node.core.as_ref().is_some_and(|core| *core.standing() == Standing::Inside).then_some(node.addr)
            };
            let living: Vec<SocketAddr> = world.nodes.iter().filter_map(lives).collect();
            living.into_iter().choose(&mut world.rng)
        };
        if let Some(addr) = known {
            lead(&ground, own, &Dial::Join(addr)).await;
        }
        if matches!(ground.with(own, inside).await, Ok(false)) {
            ground.sleep(ENTER_EVERY).await;
        }
    }
}

/// Asks who is at an address.
async fn knock(ground: &Ground, own: Side, addr: SocketAddr) -> Reached {
    let answer = ground.within(KNOCK_TIMEOUT, async {
        let mut line = match ground.connect(own, addr).await? {
            Ok(line) => line,
            Err(refusal) => {
                let heard = unmet(&refusal);
                return Ok(if matches!(heard, Heard::Refused) { Reached::Refused } else { Reached::Silent });
            }
        };
        let request = ground.with(own, |core, now| core.knock(now)).await?;
        match line.ask(&request).await? {
            Response::Iam(iam) => Ok(Reached::Answered(iam)),
            _ => Ok(Reached::Silent),
        }
    });
    answer.await.unwrap_or_else(|lost| if lost == Lost::Refused { Reached::Refused } else { Reached::Silent })
}

/// Has another member try an address. None: it does not answer itself.
async fn witnessed(ground: &Ground, own: Side, witness: SocketAddr, addr: SocketAddr) -> Option<Reached> {
    let answer = ground.within(WITNESS_TIMEOUT, async {
        let Ok(mut line) = ground.connect(own, witness).await? else { return Ok(None) };
        let request = ground.with(own, |core, _| core.verify(addr)).await?;
        match line.ask(&request).await? {
            Response::Reached(reached) => Ok(Some(reached)),
            _ => Ok(None),
        }
    });
    answer.await.ok().flatten()
}

/// Answers one request.
pub(super) async fn respond(ground: &Ground, own: Side, peer: SocketAddr, request: Request) -> Result<Response, Lost> {
    let joiner = match &request {
        Request::Join(claim) => Some((claim.iam.identity.addr, claim.iam.boot)),
        _ => None,
    };
    let mut response = decide(ground, own, peer, request).await?;
    if let (Response::Admitted { reached, .. }, Some((addr, boot))) = (&mut response, joiner) {
        *reached = matches!(knock(ground, own, addr).await, Reached::Answered(iam) if iam.boot == boot);
    }
    Ok(response)
}

async fn decide(ground: &Ground, own: Side, peer: SocketAddr, request: Request) -> Result<Response, Lost> {
    Ok(match ground.with(own, |core, now| core.asked(peer, request, now)).await? {
        Reply::Now(response) => response,
        Reply::Verify(addr) => Response::Reached(knock(ground, own, addr).await),
        Reply::Check(check) => {
            let evidence = gather(ground, own, &check).await;
            ground.with(own, |core, now| core.judge(&check, &evidence, now)).await?
        }
        Reply::Keys(act) => {
            ground.sleep(DISK).await;
            ground
                .with(own, |core, _| match core.keys_after(&act) {
                    Ok(ring) => {
                        core.set_ring(ring.clone());
                        Response::Keys(texts(&ring))
                    }
                    Err(error) => Response::Refused(Refusal::new(Why::Key, error.to_string())),
                })
                .await?
        }
    })
}

/// Tries the holders of what is claimed, all at once, from here and from the witness.
async fn gather(ground: &Ground, own: Side, check: &Check) -> Vec<Evidence> {
    type Try<'a> = Pin<Box<dyn Future<Output = Option<Reached>> + 'a>>;
    let mut evidence = Vec::new();
    let mut tries: Vec<Try<'_>> = Vec::new();
    for holder in &check.holders {
        tries.push(Box::pin(async { Some(knock(ground, own, holder.addr).await) }));
        tries.push(Box::pin(async {
            match check.witness {
                Some(witness) => witnessed(ground, own, witness, holder.addr).await,
                None => None,
            }
        }));
    }
    let mut tried = all(tries).await.into_iter();
    for holder in &check.holders {
        let reached = tried.by_ref().take(2).flatten().collect();
        evidence.push(Evidence { holder: *holder, reached });
    }
    evidence
}
