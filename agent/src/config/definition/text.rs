//! Services and checks as they are written, in files or in bodies of the HTTP API.

use std::collections::BTreeMap;

use crate::config::read::{Anything, Dialect, Merge, Nanoseconds, Read, Reading};
use crate::config::section::section;
use crate::config::tree::{Node, Value};

section! {
    /// A service as it was written.
    ServiceText {
        id: String,
        name: String,
        tags: Vec<String>,
        address: String,
        tagged_addresses: BTreeMap<String, AddressText>,
        meta: BTreeMap<String, String>,
        port: i64,
        ports: Vec<PortText>,
        socket_path: String,
        enable_tag_override: bool,
        weights: WeightsText,
        check: OneOrMore,
        checks: Vec<CheckText>,
        token: String,
        locality: LocalityText,
        kind: String,
        proxy: Anything,
        connect: Anything,
    }
    folded true
}

section! {
    /// A check as it was written.
    CheckText {
        id: String,
        check_id: String,
        name: String,
        notes: String,
        status: String,
        service_id: String,
        token: String,
        interval: Nanoseconds,
        timeout: Nanoseconds,
        ttl: Nanoseconds,
        args = "script_args": Vec<String>,
        script: Anything,
        http: String,
        method: String,
        header: BTreeMap<String, Vec<String>>,
        body: String,
        disable_redirects: bool,
        follow_foreign_redirects: bool,
        tls_server_name: String,
        tls_skip_verify: bool,
        tcp: String,
        tcp_use_tls: bool,
        udp: String,
        grpc: String,
        grpc_use_tls: bool,
        h2ping: String,
        h2ping_use_tls: bool,
        docker_container_id: String,
        shell: String,
        os_service: String,
        alias_node: String,
        alias_service: String,
        success_before_passing: i64,
        failures_before_warning: i64,
        failures_before_critical: i64,
        deregister_critical_service_after: Nanoseconds,
        output_max_size: i64,
    }
    folded true
    hidden not_in_bodies
}

/// A check by itself has an `ID`, one inside a service a `CheckID`; the old one-line `script` exists in files only.
fn not_in_bodies(depth: usize) -> &'static [&'static str] {
    match depth {
        0 => &["check_id", "checkid", "script"],
        _ => &["id", "check_id", "script"],
    }
}

section! {
    /// An address with its port.
    AddressText {
        address: String,
        port: i64,
    }
    folded true
}

section! {
    /// A named port.
    PortText {
        name: String,
        port: i64,
        default: bool,
    }
    folded true
}

section! {
    /// Weights for DNS.
    WeightsText {
        passing: i64,
        warning: i64,
    }
    folded true
}

section! {
    /// Where a service runs, in a provider's terms.
    LocalityText {
        region: String,
        zone: String,
    }
    folded true
}

section! {
    /// The body of a verdict.
    UpdateText {
        status: String,
        output: String,
    }
    folded true
}

/// `check`: one, or in a file also several blocks of that name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct OneOrMore(pub(crate) Vec<CheckText>);

impl Read for OneOrMore {
    const WANTED: &'static str = "a check";
    const GO: &'static str = "structs.CheckType";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match &node.value {
            Value::List(_) if reading.dialect == Dialect::File => Vec::read(node, reading).map(Self),
            _ => CheckText::read(node, reading).map(|check| Self(vec![check])),
        }
    }
}

impl Merge for OneOrMore {
    fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

macro_rules! merge_by_replacing {
    ($($type:ty),*) => { $( impl Merge for $type { fn merge(&mut self, later: Self) { *self = later; } } )* };
}
merge_by_replacing!(String, bool, i64, Nanoseconds);
