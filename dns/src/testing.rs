//! A small catalog for tests, and a judge of answers that is not ours.

use std::collections::BTreeMap;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use muster_catalog::{
    Cause, CauseKind, Check, CheckId, Command, Meta, Node, NodeName, Offer, Outcome, Proposal, Register, Run, Service, ServiceId,
    ServiceName, Status, Store, Weights,
};
use uuid::Uuid;

use crate::bounds::{Answered, Asker, Transport, View};
use crate::config::{Config, Settings};
use crate::elsewhere::UNTOLD;
use crate::fast::Scratch;
use crate::respond::respond;

/// A store that is filled by registrations.
pub(crate) struct Catalog {
    pub(crate) store: Store,
    number: u64,
}

/// Somebody on this host.
pub(crate) const NEAR: Asker = Asker { transport: Transport::UdpNear, address: None };

const RUN: Run = Run { agent: Uuid::from_u128(1), epoch: 65_536 };

impl Catalog {
    pub(crate) fn new() -> Self {
        let mut catalog = Self { store: Store::new(), number: 0 };
        catalog.apply(Command::OpenRun);
        catalog
    }

    pub(crate) fn apply(&mut self, command: Command) {
        self.number += 1;
        let proposal = Proposal {
            request: Uuid::from_u128(u128::from(self.number)),
            run: RUN,
            number: self.number,
            answered_below: self.number,
            time_ms: 1,
            cause: Cause::new("test", CauseKind::Api, 1, "test"),
            command,
        };
        assert_eq!(self.store.apply(self.number, proposal).outcome, Outcome::Done);
        self.store.publish();
    }

    /// A node with meta.
    pub(crate) fn node(&mut self, name: &str, address: &str, meta: &[(&str, &str)]) -> &mut Self {
        let meta = meta.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.register(name, Some(Node { id: None, address: address.into(), tagged_addresses: Meta::new(), meta }), vec![], vec![])
    }

    /// An instance at `address` (empty: its node's) with tags, and a check of that status.
    #[allow(clippy::too_many_arguments, reason = "tests read as a table")]
    pub(crate) fn instance(
        &mut self,
        node: &str,
        id: &str,
        name: &str,
        address: &str,
        port: i64,
        tags: &[&str],
        status: &str,
    ) -> &mut Self {
        let service = Service {
            id: ServiceId::new(id).expect("a name"),
            name: ServiceName::new(name).expect("a name"),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            address: address.into(),
            tagged_addresses: BTreeMap::new(),
            meta: Meta::new(),
            port,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: Weights { passing: 5, warning: 2 },
            rare: None,
        };
        let check = check(&format!("service:{id}"), status, Some(id));
        self.register(node, None, vec![service], vec![check])
    }

    /// A check of a node.
    pub(crate) fn node_check(&mut self, node: &str, status: &str) -> &mut Self {
        self.register(node, None, vec![], vec![check("node", status, None)])
    }

    fn register(&mut self, node: &str, about: Option<Node>, services: Vec<Service>, checks: Vec<Check>) -> &mut Self {
        let services = services.into_iter().map(Offer::unowned).collect();
        let checks = checks.into_iter().map(Offer::unowned).collect();
        let node = NodeName::new(node).expect("a name");
        self.apply(Command::Register(Register { node, about, services, checks, owner: None }));
        self
    }

    /// What a query is answered with.
    pub(crate) fn ask(&self, question: &Ask) -> Answer {
        let packet = question.packet();
        let (answered, bytes) = self.respond(&packet, question.transport, &question.config, 7);
        assert_eq!(answered.bytes, bytes.len());
        assert!(bytes.len() <= question.bytes_max(), "{} bytes for {question:?}", bytes.len());
        Answer::read(&bytes)
    }

    pub(crate) fn respond(&self, packet: &[u8], transport: Transport, config: &Config, seed: u64) -> (Answered, Vec<u8>) {
        self.respond_to(packet, Asker { transport, address: None }, config, seed)
    }

    pub(crate) fn respond_to(&self, packet: &[u8], asker: Asker, config: &Config, seed: u64) -> (Answered, Vec<u8>) {
        let settings = Settings::new(config).expect("a good configuration");
        let mut out = vec![0xaa; 65_535];
        let view =
            View { state: self.store.state(), settings: &settings, now: 12_345, stale: false, too_old: false, told: &UNTOLD };
        let answered = respond(packet, asker, view, &mut Scratch::new(seed), &mut out);
        out.truncate(answered.bytes);
        (answered, out)
    }
}

fn check(id: &str, status: &str, service: Option<&str>) -> Check {
    Check {
        id: CheckId::new(id).expect("a name"),
        name: "check".into(),
        status: Status::from_text(status),
        notes: "".into(),
        output: "".into(),
        service_id: service.map(|id| ServiceId::new(id).expect("a name")),
        service_name: None,
        service_tags: vec![],
        kind: "".into(),
        interval: "".into(),
        timeout: "".into(),
        definition: None,
    }
}

/// A query to be.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) edns: Option<u16>,
    pub(crate) transport: Transport,
    pub(crate) config: Config,
}

impl Ask {
    pub(crate) fn new(name: &str, kind: u16) -> Self {
        Self { name: name.to_owned(), kind, edns: None, transport: Transport::UdpNear, config: Config::default() }
    }

    pub(crate) fn edns(self, size: u16) -> Self {
        Self { edns: Some(size), ..self }
    }

    pub(crate) fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    pub(crate) fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())];
        for label in self.name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
            packet.push(u8::try_from(label.len()).expect("a short label"));
            packet.extend_from_slice(label.as_bytes());
        }
        packet.push(0);
        packet.extend_from_slice(&self.kind.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        if let Some(size) = self.edns {
            packet.extend_from_slice(&[0, 0, 41, (size >> 8) as u8, size as u8, 0, 0, 0, 0, 0, 0]);
        }
        packet
    }

    pub(crate) fn bytes_max(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => 65_523,
            (_, None) => 512,
            (Transport::UdpNear, Some(size)) => usize::from(size).clamp(512, 65_467),
            (Transport::UdpAfar, Some(size)) => usize::from(size).clamp(512, 1232),
        }
    }
}

/// An answer as text, as a foreign decoder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: String,
    pub(crate) flags: String,
    pub(crate) question: String,
    pub(crate) answer: Vec<String>,
    pub(crate) authority: Vec<String>,
    pub(crate) additional: Vec<String>,
    pub(crate) edns: Option<u16>,
    pub(crate) bytes: usize,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let message = Message::from_vec(bytes).expect("every answer parses");
        let lines = |records: &[hickory_proto::rr::Record]| {
            let mut lines: Vec<String> =
                records.iter().filter(|record| record.record_type() != RecordType::OPT).map(ToString::to_string).collect();
            lines.sort();
            lines
        };
        let meta = &message.metadata;
        let flags = [
            ("aa", meta.authoritative),
            ("tc", meta.truncation),
            ("rd", meta.recursion_desired),
            ("ra", meta.recursion_available),
        ];
        Self {
            rcode: format!("{:?}", meta.response_code),
            flags: flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect::<Vec<_>>().join(" "),
            question: message.queries.first().map(ToString::to_string).unwrap_or_default(),
            answer: lines(&message.answers),
            authority: lines(&message.authorities),
            additional: lines(&message.additionals),
            edns: message.edns.as_ref().map(hickory_proto::op::Edns::max_payload),
            bytes: bytes.len(),
        }
    }
}
