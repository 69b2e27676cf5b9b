//! Alias checks: as the checks of another service or node are in the catalog.

use std::time::Duration;

use muster_catalog::{AliasProbe, NodeName, Part, State, Status, Topic};
use muster_health::alias;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::desk::Desk;

/// An alias whose target changes between two looks is looked at again at the latest after this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until the agent stops.
pub(crate) async fn judge_aliases(desk: Desk) {
    let mut version = desk.local().version();
    let mut stop = std::pin::pin!(desk.stopping());
    loop {
        version.mark_unchanged();
        let aliases = desk.local().aliases();
        let mut targets: Vec<NodeName> = aliases.iter().map(|(_, _, alias)| target(&desk, alias)).collect();
        targets.sort();
        targets.dedup();
        if let Some(wants) = desk.wants() {
            wants.hold(targets.iter().map(|node| SmolStr::new(node.as_str())).collect());
        }
        let bells: Vec<_> = targets
            .iter()
            .flat_map(|node| [Topic::NodeChecks(node.clone()), Topic::Node(node.clone())])
            .map(|topic| desk.bells().take(&topic))
            .collect();
        let mut rings: SmallVec<[_; 2]> = bells.iter().map(|bell| Box::pin(bell.rung())).collect();
        for ring in &mut rings {
            ring.as_mut().enable();
        }
        {
            let state = desk.reader().load().clone();
            for (check, generation, probe) in aliases {
                let node = target(&desk, &probe);
                if !state.covers(&Part::Node(SmolStr::new(node.as_str()))) {
                    continue; // It is on its way here.
                }
                let (status, output) = judge(&state, &node, &probe);
                desk.local().apply_alias(desk.name(), desk.clock_ms(), check, generation, status, output);
            }
        }
        let any_ring = async {
            if rings.is_empty() {
                std::future::pending::<()>().await;
            }
            futures_util::future::select_all(rings).await;
        };
        tokio::select! {
            () = &mut stop => return,
            changed = version.changed() => if changed.is_err() { return },
            () = any_ring => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

fn target(desk: &Desk, alias: &AliasProbe) -> NodeName {
    alias.node.as_ref().unwrap_or(desk.name()).folded()
}

/// A service that is not there is critical; one without checks of its own, on a node without any, passes.
fn judge(state: &State, node: &NodeName, probe: &AliasProbe) -> (Status, String) {
    if let Some(service) = &probe.service
        && state.service_on(node, service).is_none()
    {
        return (Status::Critical, format!("Service {service} could not be found on node {node}"));
    }
    let checks = state.checks_of(node).filter(|check| check.service_id.is_none() || check.service_id == probe.service);
    alias(checks.map(|check| (check.name.as_str(), &check.status, check.output.as_str())))
}
