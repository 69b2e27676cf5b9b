//! How many rows the catalog has, as gauges.

use muster_catalog::{CheckId, State};

use super::names;

/// The check that each member's node carries.
const MEMBER_CHECK: &str = "serfHealth";
/// The service that each server carries.
const SERVER_SERVICE: &str = "consul";

/// Sets the gauges of this datacenter's catalog; for each end of an interval, on servers.
pub(crate) fn publish_catalog(state: &State, datacenter: &str) {
    let set = |name: &'static str, count: usize| {
        metrics::gauge!(name, "datacenter" => datacenter.to_owned()).set(count as f64);
    };
    set(names::NODES, state.nodes().len());
    set(names::SERVICES, state.services().len());
    set(names::SERVICE_INSTANCES, state.instance_count());
    set(names::KV_ENTRIES, state.key_count());
    let member = CheckId::new(MEMBER_CHECK).ok();
    let is_member = |node: &_| member.as_ref().is_some_and(|check| state.check_on(node, check).is_some());
    let members = state.nodes().filter(|row| is_member(&row.node)).count();
    let servers = state.service(SERVER_SERVICE).map_or(0, |bucket| bucket.instances().len());
    set(names::SERVERS, servers);
    set(names::CLIENTS, members.saturating_sub(servers));
}
