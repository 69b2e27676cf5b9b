//! What can be asked of prepared queries, and what they find.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

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
}

/// What a query found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Executed {
    /// The query, filled in.
    pub row: Arc<QueryRow>,
    /// By node and id: in no order of preference.
    pub instances: Vec<Arc<Instance>>,
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
    let instances = row.query.service.instances(state).into_iter().cloned().collect();
    Ok(Some(Executed { row, instances }))
});
