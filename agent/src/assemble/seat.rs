//! An agent's place in its cluster: a server's seat in raft, or a client's copy that follows the servers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use muster_catalog::Store;
use rand::rngs::SmallRng;
use uuid::Uuid;

use super::settings;
use crate::config::{Config, Replica};
use crate::desk::feed::{DiskCopy, Follower, Pulse, Source, Wants};
use crate::desk::{Bells, Seat};
use crate::raft::{self, Raft};
use crate::rpc::{Pool, frame};

/// The seat, and what keeps its copy of the catalog: raft, or a follower that is yet to be run.
pub(super) struct Place {
    pub(super) seat: Seat,
    pub(super) follower: Option<Follower<SmallRng>>,
    /// What a client with a part of the catalog wants of it.
    pub(super) wants: Option<Wants>,
}

impl Place {
    /// Takes a seat among the servers.
    pub(super) async fn server(config: &Config, id: Uuid, pool: Option<Pool>, store: Store, bells: &Arc<Bells>) -> Result<Self> {
        let (source, pulsing) = feed_source(&store.reader());
        let raft = Raft::start(settings::raft(config, id, pool), store, ringing(bells, &source)).await?;
        let _ = pulsing.set(raft.clone());
        Ok(Self { seat: Seat::Server { raft, source }, follower: None, wants: None })
    }

    /// Takes up the copy that was kept on disk, if there is one.
    pub(super) fn client(config: &Config, id: Uuid, mut store: Store, bells: &Arc<Bells>, rng: SmallRng) -> Result<Self> {
        let (copy, age) = match config.data_dir.as_deref() {
            Some(dir) => {
                let (copy, age) = DiskCopy::open(&dir.join("catalog"), &mut store)?;
                (Some(copy), age)
            }
            None => (None, None),
        };
        let wants = match config.cluster.replica {
            Replica::Full => None,
            replica => {
                let kept = store.state().interest().cloned();
                if kept.is_none() {
                    store.narrow();
                    store.publish();
                }
                Some(Wants::new(replica == Replica::Interest, &config.node_name, id, kept.as_ref()))
            }
        };
        let (following, follower) = Follower::new(store, bells.clone(), copy, age, wants.clone(), rng);
        Ok(Self { seat: Seat::Client(following), follower: Some(follower), wants })
    }
}

/// What followers are served from. It looks at raft, and raft rings it, so it learns of raft when that has started.
fn feed_source(reader: &muster_catalog::Reader) -> (Source, Arc<OnceLock<Raft>>) {
    let raft: Arc<OnceLock<Raft>> = Arc::default();
    let pulsing = raft.clone();
    let pulse = move || match raft.get() {
        Some(raft) => {
            let (known_leader, last_contact) = raft.contact();
            Pulse {
                known_leader,
                last_contact: last_contact.unwrap_or(Duration::MAX),
                caught_up: known_leader && raft.is_level(),
            }
        }
        None => Pulse { known_leader: false, last_contact: Duration::MAX, caught_up: false },
    };
    (Source::new(reader.clone(), pulse, frame), pulsing)
}

fn ringing(bells: &Arc<Bells>, source: &Source) -> raft::Bells {
    let (touched, all) = ((bells.clone(), source.clone()), (bells.clone(), source.clone()));
    raft::Bells {
        touched: Box::new(move |topics| {
            touched.0.ring(topics);
            touched.1.changed();
        }),
        all: Box::new(move || {
            all.0.ring_all();
            all.1.changed();
        }),
    }
}
