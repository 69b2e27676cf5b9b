//! The kinds of check: which is asked for, whether it can be, and the probe that it becomes.

use muster_catalog::{AliasProbe, ExecProbe, HttpProbe, NodeName, Probe, ServiceId, TcpProbe};

use super::text::CheckText;
use crate::config::read::Nanoseconds;

/// The kinds of check that a definition asks for.
pub(super) struct Kinds {
    script: bool,
    http: bool,
    tcp: bool,
    alias: bool,
    /// Kinds of later versions, by Consul's name.
    later: Vec<&'static str>,
}

impl Kinds {
    pub(super) fn of(text: &CheckText) -> Self {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let later = [
            (given(&text.docker_container_id), "Docker"),
            (given(&text.grpc), "GRPC"),
            (given(&text.h2ping), "H2PING"),
            (given(&text.udp), "UDP"),
            (given(&text.os_service), "OSService"),
        ];
        Self {
            script: text.args.as_ref().is_some_and(|args| !args.is_empty()),
            http: given(&text.http),
            tcp: given(&text.tcp),
            alias: given(&text.alias_node) || given(&text.alias_service),
            later: later.into_iter().filter(|(given, _)| *given).map(|(_, name)| name).collect(),
        }
    }

    /// Consul's refusals, in its order.
    pub(super) fn check(&self, text: &CheckText) -> Result<(), String> {
        let interval = text.interval.is_some_and(|interval| interval.0 > 0);
        let ttl = text.ttl.is_some_and(|ttl| ttl.0 > 0);
        let probes = self.script || self.http || self.tcp || !self.later.is_empty();
        let refusal = if text.script.is_some() {
            "script was removed: use args, a list of a program and its arguments"
        } else if interval && ttl {
            "Interval and TTL cannot both be specified"
        } else if probes && !interval {
            "Interval must be > 0 for Script, HTTP, or TCP checks"
        } else if self.alias && interval {
            "Interval cannot be set for Alias checks"
        } else if self.alias && ttl {
            "TTL must be not be set for Alias checks"
        } else if !probes && !self.alias && !ttl {
            "TTL must be > 0 for TTL checks"
        } else if text.output_max_size.is_some_and(|bytes| bytes < 0) {
            "MaxOutputMaxSize must be positive"
        } else {
            return Ok(());
        };
        Err(refusal.to_owned())
    }

    /// What is run. Of several kinds Consul runs one and says nothing; here the others are named in a warning.
    pub(super) fn probe(&self, text: &CheckText, warnings: &mut Vec<String>) -> Result<Probe, String> {
        if let Some(kind) = self.later.first() {
            return Err(format!("{kind} checks are not supported yet"));
        }
        let text_of = |field: &Option<String>| field.clone().unwrap_or_default();
        let probe = if self.http {
            Probe::Http(HttpProbe {
                url: text_of(&text.http),
                method: text_of(&text.method),
                header: text.header.clone().unwrap_or_default(),
                body: text_of(&text.body),
                disable_redirects: text.disable_redirects.unwrap_or_default(),
                follow_foreign_redirects: text.follow_foreign_redirects.unwrap_or_default(),
                tls_server_name: text_of(&text.tls_server_name),
                tls_skip_verify: text.tls_skip_verify.unwrap_or_default(),
            })
        } else if self.tcp {
            Probe::Tcp(TcpProbe {
                address: text_of(&text.tcp),
                tls: text.tcp_use_tls.unwrap_or_default(),
                tls_server_name: text_of(&text.tls_server_name),
                tls_skip_verify: text.tls_skip_verify.unwrap_or_default(),
            })
        } else if self.script {
            Probe::Exec(ExecProbe { args: text.args.clone().unwrap_or_default() })
        } else if self.alias {
            let node = text.alias_node.as_deref().filter(|node| !node.is_empty()).map(NodeName::new).transpose();
            let service = text.alias_service.as_deref().filter(|id| !id.is_empty()).map(ServiceId::new).transpose();
            Probe::Alias(AliasProbe {
                node: node.map_err(|error| format!("AliasNode: {error}"))?,
                service: service.map_err(|error| format!("AliasService: {error}"))?,
            })
        } else {
            Probe::Ttl(text.ttl.and_then(Nanoseconds::positive).unwrap_or_default())
        };
        let asked = [(self.http, "HTTP"), (self.tcp, "TCP"), (self.script, "Args"), (self.alias, "Alias")];
        let asked: Vec<&str> = asked.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect();
        if let Probe::Http(http) = &probe
            && !is_url(&http.url)
        {
            warnings.push(format!("an HTTP check of {:?}, which is no http:// or https:// address, can only fail", http.url));
        }
        if asked.len() > 1 {
            warnings.push(format!("a check with several kinds ({}): only the first is run", asked.join(", ")));
        }
        Ok(probe)
    }
}

/// Whether an HTTP check can work at all; Consul takes any text.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    scheme.is_some_and(|(scheme, rest)| (scheme == "http" || scheme == "https") && !rest.is_empty())
}
