//! What can be asked of prepared queries, and what they find.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::coordinate::{Near, Placed};
use crate::interest::Part;
use crate::name::fold;
use crate::prepared::{QueryFault, QueryRow, QueryService};
use crate::query::Ask;
use crate::row::{Index, Instance};
use crate::state::State;
use crate::topic::Topic;

impl QueryService {
    /// The instances that are wanted, by node and id.
    pub fn instances<'s>(&self, state: &'s State) -> Vec<&'s Arc<Instance>> {
        let bucket = state.service(&fold(&self.service));
        bucket.into_iter().flat_map(|bucket| bucket.instances()).filter(|instance| self.wants(instance)).collect()
    }

    /// The order in which the answers are wanted: near the node that the asker names, else near the query's.
    pub fn near(&self, asker: &Asker, state: &State) -> Near {
        let node = match asker.wished(self) {
            "" => return Near::default(),
            AGENT => asker.agent.as_str(),
            ADDRESS => {
                let is_there = |address: &str| address.parse::<IpAddr>().is_ok_and(|address| Some(address) == asker.address);
                match state.nodes().find(|node| is_there(&node.address)) {
                    Some(node) => node.node.as_str(),
                    None => return Near::default(),
                }
            }
            node => node,
        };
        Near::of(state.coordinate(node), state.coordinates()).first(node)
    }
}

/// As `near`: the node of the agent that is asked.
const AGENT: &str = "_agent";
/// As `near`: the node with the asker's address.
const ADDRESS: &str = "_ip";

/// Who executes a query.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asker {
    /// The node near which the answers are to be, before the query's own.
    pub near: SmolStr,
    /// The node of the agent that is asked.
    pub agent: SmolStr,
    /// The asker's address.
    pub address: Option<IpAddr>,
}

impl Asker {
    fn wished<'n>(&'n self, query: &'n QueryService) -> &'n str {
        if self.near.is_empty() { &query.near } else { &self.near }
    }

    /// The address whose node must be known for the order.
    pub fn place(&self, query: &QueryService) -> Option<IpAddr> {
        self.address.filter(|_| self.wished(query) == ADDRESS)
    }
}

impl State {
    /// The query that answers to an id or a name, filled in if it is a template.
    pub fn resolve_query(&self, id_or_name: &str) -> Result<Option<Arc<QueryRow>>, QueryFault> {
        self.queries.resolve(id_or_name)
    }

    /// The same rows, and what a server told of a query's name.
    #[must_use]
    pub fn with_query(mut self, name: &str, row: Option<Arc<QueryRow>>) -> Self {
        self.queries.told = Some((SmolStr::new(name), row));
        self
    }

    /// The same rows, and where servers say that nodes are.
    #[must_use]
    pub fn with_coordinates(mut self, placed: Vec<Arc<Placed>>) -> Self {
        self.coordinates = placed.into_iter().map(|placed| (placed.node.folded(), placed)).collect();
        self
    }
}

/// All queries, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AllQueries {}

/// One query by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryOne {
    /// The id.
    pub id: Uuid,
}

/// The query that answers to an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveQuery {
    /// Id or name.
    pub name: SmolStr,
}

/// What the query finds that answers to an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteQuery {
    /// Id or name.
    pub name: SmolStr,
    /// Who wants to know.
    #[serde(default)]
    pub asker: Asker,
}

/// What a query found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Executed {
    /// The query, filled in.
    pub row: Arc<QueryRow>,
    /// By node and id: in no order of preference.
    pub instances: Vec<Arc<Instance>>,
    /// The order that is wanted.
    #[serde(default)]
    pub near: Near,
}

/// Nobody waits for any of these.
macro_rules! of_servers {
    ($ask:ty, $answer:ty, $look:expr) => {
        impl Ask for $ask {
            type Answer = $answer;
            fn topics(&self) -> SmallVec<[Topic; 1]> {
                SmallVec::new()
            }
            fn look(&self, state: &State) -> Self::Answer {
                let look: fn(&Self, &State) -> Self::Answer = $look;
                look(self, state)
            }
            fn index(&self, state: &State) -> Index {
                state.queries.index()
            }
            /// As with keys: no copy holds it.
            fn part(&self) -> Part {
                Part::Keys
            }
        }
    };
}

of_servers!(AllQueries, Vec<Arc<QueryRow>>, |_, state| state.queries.iter().cloned().collect());
of_servers!(QueryOne, Option<Arc<QueryRow>>, |ask, state| state.queries.rows.get(&ask.id).cloned());
of_servers!(ResolveQuery, Result<Option<Arc<QueryRow>>, QueryFault>, |ask, state| state.resolve_query(&ask.name));
of_servers!(ExecuteQuery, Result<Option<Executed>, QueryFault>, |ask, state| {
    let Some(row) = state.resolve_query(&ask.name)? else { return Ok(None) };
    let service = &row.query.service;
    let (instances, near) = (service.instances(state).into_iter().cloned().collect(), service.near(&ask.asker, state));
    Ok(Some(Executed { row, instances, near }))
});
