//! What runs by itself: bringing this agent's services into the catalog, membership into the catalog, verdicts to the desk, numbers to metrics.

mod absence;
mod alias;
mod beat;
mod files;
mod gauges;
mod join;
mod listen;
mod place;
mod reap;
mod reconcile;
mod servers;
mod sessions;
mod sync;
mod verdicts;

pub(crate) use absence::Patience;
pub(crate) use alias::judge_aliases;
pub(crate) use files::follow_files;
pub(crate) use gauges::show_gauges;
pub(crate) use join::{GaveUp, Joining, stay_joined};
pub(crate) use listen::listen_to_followers;
pub(crate) use place::tell_place;
pub(crate) use reap::reap_critical;
pub(crate) use reconcile::reconcile;
pub(crate) use servers::keep_servers;
pub(crate) use sessions::expire_sessions;
pub(crate) use sync::sync;
pub(crate) use verdicts::take_verdicts;
