//! Runs of agents: their sessions of the log, which make a retried command apply once (Ongaro's dissertation, 6.3).

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::{COMMANDS_IN_FLIGHT_MAX, Outcome, Refusal, Run};

/// One agent's current session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogSession {
    pub(crate) epoch: u64,
    pub(crate) answered_below: u64,
    pub(crate) outcomes: std::collections::BTreeMap<u64, Outcome>,
}

/// The sessions of all agents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(OrdMap<Uuid, Arc<LogSession>>);

/// What a session says to a command.
pub(crate) enum Admission {
    /// Apply it, then keep its outcome.
    New,
    /// It was applied before: this came of it.
    Known(Outcome),
}

impl Runs {
    /// A run begins. Telling it twice is a retry; an older run than the known one is over.
    pub(crate) fn open(&mut self, run: Run) -> Outcome {
        let known = self.0.get(&run.agent).map_or(0, |session| session.epoch);
        if known > run.epoch {
            return Outcome::Refused(Refusal::UnknownRun);
        }
        if known < run.epoch || !self.0.contains_key(&run.agent) {
            self.0.insert(run.agent, Arc::new(LogSession { epoch: run.epoch, ..LogSession::default() }));
        }
        Outcome::Done
    }

    pub(crate) fn admit(&mut self, run: Run, number: u64, answered_below: u64) -> Admission {
        let Some(session) = self.0.get_mut(&run.agent).filter(|session| session.epoch == run.epoch) else {
            return Admission::Known(Outcome::Refused(Refusal::UnknownRun));
        };
        if let Some(outcome) = session.outcomes.get(&number) {
            return Admission::Known(outcome.clone());
        }
        let floor = session.answered_below.max(answered_below);
        if number < floor || number - floor >= COMMANDS_IN_FLIGHT_MAX {
            return Admission::Known(Outcome::Refused(Refusal::OutsideWindow));
        }
        if floor > session.answered_below {
            let session = Arc::make_mut(session);
            session.answered_below = floor;
            // one by one: a command is answered, and the floor rises, at about the rate at which others come
            while let Some(oldest) = session.outcomes.first_entry().filter(|oldest| *oldest.key() < floor) {
                oldest.remove();
            }
        }
        Admission::New
    }

    pub(crate) fn keep(&mut self, run: Run, number: u64, outcome: Outcome) {
        if let Some(session) = self.0.get_mut(&run.agent).filter(|session| session.epoch == run.epoch) {
            Arc::make_mut(session).outcomes.insert(number, outcome);
        }
    }

    pub(crate) fn forget(&mut self, agent: Uuid) {
        self.0.remove(&agent);
    }

    /// The agents whose sessions are other ones than they were.
    pub(crate) fn changed_from(&self, old: &Self) -> Vec<Uuid> {
        let changed = old.0.diff(&self.0).filter_map(|change| match change {
            DiffItem::Add(agent, _) | DiffItem::Update { new: (agent, _), .. } => Some(*agent),
            DiffItem::Remove(..) => None,
        });
        changed.collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Uuid, &LogSession)> {
        self.0.iter().map(|(agent, session)| (agent, &**session))
    }

    pub(crate) fn restore(&mut self, agent: Uuid, session: LogSession) {
        self.0.insert(agent, Arc::new(session));
    }
}
