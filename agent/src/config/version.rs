//! Which program this is, and which Consul it may be taken for.

/// The version of Consul whose API, names and files this program speaks. Test kits and clients switch features on it.
pub(crate) const CONSUL_VERSION: &str = "1.22.0";

/// This program's own version.
pub(crate) const MUSTER_VERSION: &str = env!("CARGO_PKG_VERSION");
