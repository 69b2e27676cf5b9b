//! Word of a commit goes to a peer with the entries that follow it: where writes are dense they are a moment away, and a call of its
//! own costs both sides as much as a call with entries. It leaves at once where somebody waits for it, or few write.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Fuse};
use futures_util::{Stream, StreamExt as _};
use muster_catalog::Index;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::watch;

use super::types::Types;

/// Entries in one call from which on more are expected soon.
const DENSE: usize = 8;
/// How long word of a commit waits for entries, at most: what a leader takes to answer one batch of writers and to gather the next.
const HELD_MAX: Duration = Duration::from_millis(3);

/// The index that somebody beyond this server waits for. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Awaited(Arc<watch::Sender<Index>>);

impl Awaited {
    /// A reader at a peer waits until this entry is applied there.
    pub(super) fn at(&self, index: Index) {
        self.0.send_if_modified(|awaited| {
            let later = index > *awaited;
            *awaited = index.max(*awaited);
            later
        });
    }
}

type Request = AppendEntriesRequest<Types>;

struct State<S> {
    /// Fused: it may end while a call is held, which is told first.
    input: Fuse<S>,
    awaited: watch::Receiver<Index>,
    /// The last call with entries had many.
    dense: bool,
    /// The commit that was last told.
    told: Index,
}

/// What raft sends to one peer, without the calls that can be left out: each is taken up by the one behind it.
pub(super) fn gathered<S>(input: S, awaited: &Awaited) -> impl Stream<Item = Request> + Send + Unpin + use<S>
where
    S: Stream<Item = Request> + Send + Unpin,
{
    let state = State { input: input.fuse(), awaited: awaited.0.subscribe(), dense: false, told: 0 };
    Box::pin(stream::unfold(state, |mut state| async move {
        let mut request = state.input.next().await?;
        if request.entries.is_empty() && state.dense {
            request = state.hold(request).await;
        }
        if !request.entries.is_empty() {
            state.dense = request.entries.len() >= DENSE;
        }
        state.told = committed(&request);
        Some((request, state))
    }))
}

fn committed(request: &Request) -> Index {
    request.leader_commit.map_or(0, |id| id.index)
}

impl<S: Stream<Item = Request> + Send + Unpin> State<S> {
    /// The request, or one behind it that says as much and more.
    async fn hold(&mut self, mut request: Request) -> Request {
        let until = tokio::time::sleep(HELD_MAX);
        tokio::pin!(until);
        while request.entries.is_empty() && committed(&request) > self.told {
            tokio::select! {
                biased;
                // nobody asks for more, or this server ends
                _ = self.awaited.wait_for(|awaited| *awaited > self.told) => break,
                next = self.input.next() => match next {
                    Some(next) => request = next,
                    None => break,
                },
                () = &mut until => {
                    self.dense = false; // what was expected did not come
                    break;
                }
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry as _;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::raft::types::{Entry, LogId, Payload, Vote};

    /// Far more than word of a commit is held, and than a busy machine takes.
    const LONG: Duration = Duration::from_secs(20);

    fn request(prev: Index, count: Index, commit: Index) -> Request {
        let id = |index| LogId::new_term_index(1, index);
        let payload = || EntryPayload::Normal(Payload(Bytes::from_static(b"x")));
        let entries = (prev + 1..=prev + count).map(|index| Entry::new(id(index), payload())).collect();
        Request { vote: Vote::new_committed(1, 1.into()), prev_log_id: Some(id(prev)), entries, leader_commit: Some(id(commit)) }
    }

    struct Peer {
        tell: mpsc::Sender<Request>,
        awaited: Awaited,
        sent: std::pin::Pin<Box<dyn Stream<Item = Request> + Send>>,
    }

    impl Peer {
        fn new() -> Self {
            let (tell, told) = mpsc::channel(8);
            let awaited = Awaited::default();
            let told = Box::pin(stream::unfold(told, |mut told| async { Some((told.recv().await?, told)) }));
            Self { tell, sent: Box::pin(gathered(told, &awaited)), awaited }
        }

        async fn next(&mut self) -> Option<(Index, usize, Index)> {
            let next = timeout(LONG, self.sent.next()).await.expect("nothing is held for ever");
            next.map(|request| (request.prev_log_id.unwrap().index, request.entries.len(), committed(&request)))
        }
    }

    #[tokio::test]
    async fn word_of_a_commit_goes_with_the_entries_behind_it() {
        let mut peer = Peer::new();
        for request in [request(0, 20, 0), request(20, 0, 20), request(20, 3, 20), request(23, 0, 23)] {
            peer.tell.send(request).await.unwrap();
        }
        assert_eq!(peer.next().await, Some((0, 20, 0)));
        assert_eq!(peer.next().await, Some((20, 3, 20)), "the call without entries was left out");
        assert_eq!(peer.next().await, Some((23, 0, 23)), "few write: it leaves at once");
    }

    #[tokio::test]
    async fn word_of_a_commit_is_not_lost_where_no_entries_follow() {
        let mut peer = Peer::new();
        peer.tell.send(request(0, 20, 0)).await.unwrap();
        peer.tell.send(request(20, 0, 20)).await.unwrap();
        assert_eq!(peer.next().await, Some((0, 20, 0)));
        assert_eq!(peer.next().await, Some((20, 0, 20)), "after a moment");
        peer.tell.send(request(20, 20, 20)).await.unwrap();
        peer.tell.send(request(40, 0, 40)).await.unwrap();
        assert_eq!(peer.next().await, Some((20, 20, 20)));
        peer.tell = mpsc::channel(1).0;
        assert_eq!(peer.next().await, Some((40, 0, 40)), "raft asks for no more");
        assert_eq!(peer.next().await, None);
    }

    #[tokio::test]
    async fn word_of_a_commit_that_is_waited_for_leaves_before_entries_come() {
        let mut peer = Peer::new();
        for request in [request(0, 20, 0), request(20, 0, 20), request(20, 20, 20)] {
            peer.tell.send(request).await.unwrap();
        }
        peer.awaited.at(20);
        peer.awaited.at(7);
        assert_eq!(peer.next().await, Some((0, 20, 0)));
        assert_eq!(peer.next().await, Some((20, 0, 20)));
        assert_eq!(peer.next().await, Some((20, 20, 20)));
    }
}
