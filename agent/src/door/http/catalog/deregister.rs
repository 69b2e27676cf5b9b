//! The body of `catalog/deregister`.

use muster_catalog::{CheckId, Deregister, NodeName, ServiceId, Target};

use super::super::decode::Object;
use super::super::error::HttpError;
use super::register::{must_be_here, named};

/// Reads it; refusals are those of Consul's servers, in their order.
pub(super) fn read(body: &[u8], datacenter: &str) -> Result<Deregister, HttpError> {
    let mut object = Object::parse(body)?;
    let node = object.text("Node")?;
    let service = object.text("ServiceID")?;
    let check = object.text("CheckID")?;
    let asked = object.text("Datacenter")?;
    object.ignore(&["Address", "PeerName", "WriteRequest"]);
    object.finish()?;
    must_be_here(&asked, datacenter)?;
    if node.is_empty() {
        return Err(HttpError::Server("Must provide node".into()));
    }
    let target = match (service.is_empty(), check.is_empty()) {
        (false, _) => Target::Service(named(ServiceId::new(&service), "service ID")?),
        (true, false) => Target::Check(named(CheckId::new(&check), "check ID")?),
        (true, true) => Target::Node,
    };
    Ok(Deregister { node: named(NodeName::new(&node), "node name")?, target, owner: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(body: &str) -> Result<Target, String> {
        read(body.as_bytes(), "dc1").map(|told| told.target).map_err(|error| error.to_string())
    }

    #[test]
    fn a_service_goes_before_a_check_and_a_node_goes_alone() {
        assert_eq!(target(r#"{"Node":"n"}"#), Ok(Target::Node));
        assert!(matches!(target(r#"{"node":"n","serviceid":"s","CheckID":"c"}"#), Ok(Target::Service(_))));
        assert!(matches!(target(r#"{"Node":"n","CheckID":"c"}"#), Ok(Target::Check(_))));
    }

    #[test]
    fn refusals_are_consuls() {
        assert_eq!(target("{}"), Err("Must provide node".into()));
        assert_eq!(target(r#"{"Node":"n","Datacenter":"nowhere"}"#), Err("No path to datacenter".into()));
        assert_eq!(target(r#"{"Node":"n","Extra":1}"#), Err("Request decode failed: json: unknown field \"Extra\"".into()));
    }
}
