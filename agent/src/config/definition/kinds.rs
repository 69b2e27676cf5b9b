//! The kinds of check: which is asked for, whether it can be, and the probe that it becomes.

use muster_catalog::{
    AliasProbe, DockerProbe, ExecProbe, GrpcProbe, HttpProbe, NodeName, OsServiceProbe, Probe, ServiceId, TcpProbe, UdpProbe,
};

use super::text::CheckText;
use crate::config::read::Nanoseconds;

/// The kinds of check that a definition asks for.
pub(super) struct Kinds {
    http: bool,
    tcp: bool,
    udp: bool,
    grpc: bool,
    h2ping: bool,
    docker: bool,
    script: bool,
    os_service: bool,
    alias: bool,
}

impl Kinds {
    pub(super) fn of(text: &CheckText) -> Self {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let program = text.args.as_ref().is_some_and(|args| !args.is_empty());
        Self {
            http: given(&text.http),
            tcp: given(&text.tcp),
            udp: given(&text.udp),
            grpc: given(&text.grpc),
            h2ping: given(&text.h2ping),
            // A container without a program is no check, as in Consul.
            docker: given(&text.docker_container_id) && program,
            script: program && !given(&text.docker_container_id),
            os_service: given(&text.os_service),
            alias: given(&text.alias_node) || given(&text.alias_service),
        }
    }

    /// Consul's refusals, in its order.
    pub(super) fn check(&self, text: &CheckText) -> Result<(), String> {
        let interval = text.interval.is_some_and(|interval| interval.0 > 0);
        let ttl = text.ttl.is_some_and(|ttl| ttl.0 > 0);
        let newer = self.udp || self.h2ping || self.os_service;
        let probes = self.script || self.http || self.tcp || self.grpc || self.docker || newer;
        let refusal = if text.script.is_some() {
            "script was removed: use args, a list of a program and its arguments"
        } else if interval && ttl {
            "Interval and TTL cannot both be specified"
        } else if newer && !interval {
            // These kinds are younger than the sentence below, which is of all versions.
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
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
        let text_of = |field: &Option<String>| field.clone().unwrap_or_default();
        let args = || text.args.clone().unwrap_or_default();
        let connection = |address: &Option<String>, tls| TcpProbe {
            address: text_of(address),
            tls,
            tls_server_name: text_of(&text.tls_server_name),
            tls_skip_verify: text.tls_skip_verify.unwrap_or_default(),
        };
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
            Probe::Tcp(connection(&text.tcp, text.tcp_use_tls.unwrap_or_default()))
        } else if self.udp {
            Probe::Udp(UdpProbe { address: text_of(&text.udp) })
        } else if self.grpc {
            Probe::Grpc(GrpcProbe {
                target: text_of(&text.grpc),
                tls: text.grpc_use_tls.unwrap_or_default(),
                tls_server_name: text_of(&text.tls_server_name),
                tls_skip_verify: text.tls_skip_verify.unwrap_or_default(),
            })
        } else if self.docker {
            Probe::Docker(DockerProbe { container: text_of(&text.docker_container_id), args: args() })
        } else if self.script {
            Probe::Exec(ExecProbe { args: args() })
        } else if self.h2ping {
            Probe::H2Ping(connection(&text.h2ping, text.h2ping_use_tls.unwrap_or(true)))
        } else if self.os_service {
            Probe::OsService(OsServiceProbe { name: text_of(&text.os_service) })
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
        self.warn(text, &probe, warnings);
        Ok(probe)
    }

    fn warn(&self, text: &CheckText, probe: &Probe, warnings: &mut Vec<String>) {
        // In the order in which the first is chosen.
        let asked = [
            (self.http, "HTTP"),
            (self.tcp, "TCP"),
            (self.udp, "UDP"),
            (self.grpc, "GRPC"),
            (self.docker, "Docker"),
            (self.script, "Args"),
            (self.h2ping, "H2PING"),
            (self.os_service, "OSService"),
            (self.alias, "Alias"),
        ];
        let asked: Vec<&str> = asked.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect();
        if let Probe::Http(http) = probe
            && !is_url(&http.url)
        {
            warnings.push(format!("an HTTP check of {:?}, which is no http:// or https:// address, can only fail", http.url));
        }
        if text.shell.as_ref().is_some_and(|shell| !shell.is_empty()) {
            warnings.push("Shell of a check has no effect, as in Consul: Args are run as they are".to_owned());
        }
        if asked.len() > 1 {
            warnings.push(format!("a check with several kinds ({}): only the first is run", asked.join(", ")));
        }
    }
}

/// Whether an HTTP check can work at all; Consul takes any text.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    scheme.is_some_and(|(scheme, rest)| (scheme == "http" || scheme == "https") && !rest.is_empty())
}
