//! Transactions: what they may do, and what comes of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::kv::Kv;
use crate::name::NodeName;
use crate::row::{Check, Entry, Index, Node, Row, Service};

/// Results of one transaction, in bytes as their keys and values have them: half of what fits into an answer between agents.
pub const RESULTS_BYTES_MAX: usize = 16 << 20;
/// Results that are kept for a second answer, should the first one get lost: they stay in the session of the log for a while.
pub(crate) const RESULTS_KEPT_BYTES_MAX: usize = 64 << 10;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A key is changed.
    Kv(Kv),
    /// A key is looked at.
    Key {
        /// The key, or the prefix.
        key: SmolStr,
        /// What is looked at.
        look: Look,
    },
    /// A node is read, by its UUID or name.
    GetNode(SmolStr, SmolStr),
    /// A node is written; with an index, only if its modify index is that (0: only if it is absent).
    SetNode(NodeName, Node, Option<Index>),
    /// A node is removed; with an index, only if it is there and its modify index is that.
    DeleteNode(SmolStr, Option<Index>),
    /// A service is read: node, id.
    GetService(SmolStr, SmolStr),
    /// A service is written, as a node is.
    SetService(SmolStr, Service, Option<Index>),
    /// A service is removed, as a node is.
    DeleteService(SmolStr, SmolStr, Option<Index>),
    /// A check is read: node, id.
    GetCheck(SmolStr, SmolStr),
    /// A check is written, as a node is.
    SetCheck(SmolStr, Check, Option<Index>),
    /// A check is removed, as a node is.
    DeleteCheck(SmolStr, SmolStr, Option<Index>),
    /// What cannot be done whatever there is in the catalog, and why: the others are looked at all the same, so that all faults are told.
    Refused(String),
}

/// What is looked at of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// It, which must be there.
    Get,
    /// It, or an empty one.
    GetOrEmpty,
    /// All keys with this prefix.
    GetTree,
    /// Whether its modify index is that.
    CheckIndex(Index),
    /// Whether that session holds it.
    CheckSession(SmolStr),
    /// Whether it is absent.
    CheckNotExists,
}

impl Op {
    /// Whether it leaves everything as it is.
    pub fn only_reads(&self) -> bool {
        matches!(self, Op::Key { .. } | Op::GetNode(..) | Op::GetService(..) | Op::GetCheck(..) | Op::Refused(_))
    }
}

/// What an operation found or wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A key; without its value where that was only written or checked.
    Key(Arc<Entry>),
    /// A node.
    Node(Arc<Row<Node>>),
    /// A service.
    Service(Arc<Row<Service>>),
    /// A check.
    Check(Arc<Row<Check>>),
}

/// Why an operation could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which operation.
    pub at: usize,
    /// Consul's words for it.
    pub what: String,
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transacted {
    /// All was done.
    Done(Vec<Found>),
    /// Nothing was done.
    Failed(Vec<Fault>),
    /// All was done; what it found was too large to be kept for a second answer.
    Forgotten,
}

impl Found {
    /// What it is counted as: what makes it long, and something for the rest.
    pub(crate) fn weight(&self) -> usize {
        256 + match self {
            Found::Key(entry) => entry.key.len() + entry.value.len(),
            Found::Node(_) | Found::Service(_) => 1024,
            Found::Check(check) => 1024 + check.output.len(),
        }
    }
}
