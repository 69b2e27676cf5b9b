//! Keys that would be unsafe to ignore: what is asked for and not there yet is refused at start, with the reason.

use super::fault::Fault;
use super::file::{ConfigFile, TlsUseFile};
use super::read::Given;

/// Finds what this version must not pretend to do.
pub(super) fn refuse(file: &ConfigFile, faults: &mut Vec<Fault>) {
    let mut refusals = Refusals { faults };
    refusals.rights(file);
    refusals.tls(file);
    refusals.cluster(file);
    refusals.names(file);
}

struct Refusals<'a> {
    faults: &'a mut Vec<Fault>,
}

/// Whether HTTPS could work with what the file gives.
fn has_certificate(file: &ConfigFile) -> bool {
    let tls = file.tls.iter().flat_map(|tls| [&tls.defaults, &tls.https]).flatten();
    let mut all = tls.map(|of_use| &of_use.cert_file).chain([&file.cert_file]);
    all.any(|given| given.as_ref().is_some_and(|given| !given.value.is_empty()))
}

const NO_ACL: &str = "this version has no access control yet, and would leave everything open: remove it or set it to false";
const NO_TLS: &str = "this version has no TLS yet, and would take connections in the clear: remove it or set it to false";

impl Refusals<'_> {
    fn add<T>(&mut self, key: &str, given: &Given<T>, value: String, wanted: &str) {
        self.faults.push(Fault { at: given.at.clone(), key: key.to_owned(), value, wanted: wanted.to_owned() });
    }

    fn if_true(&mut self, key: &str, given: Option<&Given<bool>>, wanted: &str) {
        if let Some(given) = given.filter(|given| given.value) {
            self.add(key, given, "true".to_owned(), wanted);
        }
    }

    fn rights(&mut self, file: &ConfigFile) {
        self.if_true("acl.enabled", file.acl.as_ref().and_then(|acl| acl.enabled.as_ref()), NO_ACL);
        // With the old keys, naming a datacenter is what switches access control on.
        if let Some(given) = file.acl_datacenter.as_ref().filter(|given| !given.value.is_empty()) {
            self.add("acl_datacenter", given, format!("{:?}", given.value), NO_ACL);
        }
        let policies = [
            ("acl_default_policy", file.acl_default_policy.as_ref()),
            ("acl.default_policy", file.acl.as_ref().and_then(|acl| acl.default_policy.as_ref())),
        ];
        let switched_on = file.acl.as_ref().is_some_and(|acl| acl.enabled.as_ref().is_none_or(|given| given.value));
        for (key, policy) in policies {
            let old = key == "acl_default_policy";
            if let Some(given) = policy.filter(|given| given.value == "deny" && (old || switched_on)) {
                self.add(key, given, "\"deny\"".to_owned(), NO_ACL);
            }
        }
    }

    fn tls(&mut self, file: &ConfigFile) {
        for (key, given) in [
            ("verify_incoming", &file.verify_incoming),
            ("verify_incoming_rpc", &file.verify_incoming_rpc),
            ("verify_incoming_https", &file.verify_incoming_https),
            ("verify_outgoing", &file.verify_outgoing),
            ("verify_server_hostname", &file.verify_server_hostname),
        ] {
            self.if_true(key, given.as_ref(), NO_TLS);
        }
        if let Some(tls) = &file.tls {
            for (key, of_use) in [
                ("tls.defaults", &tls.defaults),
                ("tls.internal_rpc", &tls.internal_rpc),
                ("tls.https", &tls.https),
                ("tls.grpc", &tls.grpc),
            ] {
                self.tls_use(key, of_use.as_ref());
            }
        }
        // Without a certificate Consul opens the port and fails each handshake: nobody loses by its being closed.
        let https = file.ports.as_ref().and_then(|ports| ports.https.as_ref());
        if let Some(given) = https.filter(|given| given.value >= 0 && has_certificate(file)) {
            self.add("ports.https", given, given.value.to_string(), "this version has no TLS yet: set it to -1 or remove it");
        }
    }

    fn tls_use(&mut self, key: &str, of_use: Option<&TlsUseFile>) {
        let Some(of_use) = of_use else { return };
        self.if_true(&format!("{key}.verify_incoming"), of_use.verify_incoming.as_ref(), NO_TLS);
        self.if_true(&format!("{key}.verify_outgoing"), of_use.verify_outgoing.as_ref(), NO_TLS);
        self.if_true(&format!("{key}.verify_server_hostname"), of_use.verify_server_hostname.as_ref(), NO_TLS);
    }

    /// With it, the same names would mean something else.
    fn names(&mut self, file: &ConfigFile) {
        let prefers = file.dns_config.as_ref().and_then(|dns| dns.prefer_namespace.as_ref());
        let wanted =
            "namespaces are a part of Consul Enterprise that muster leaves out, and names would mean something else: remove it";
        self.if_true("dns_config.prefer_namespace", prefers, wanted);
    }

    fn cluster(&mut self, file: &ConfigFile) {
        if let Some(given) = file.retry_join_wan.iter().flatten().next() {
            let wanted = "this version does not join datacenters to each other yet: remove it";
            self.add("retry_join_wan", given, format!("{:?}", given.value), wanted);
        }
        if let Some(given) = file.serf_lan_allowed_cidrs.iter().flatten().next() {
            let wanted = "this version cannot keep members of other networks out by their address: remove it, and set encrypt";
            self.add("serf_lan_allowed_cidrs", given, format!("{:?}", given.value), wanted);
        }
    }
}
