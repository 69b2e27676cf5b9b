//! The records that answer a question, out of one state of the catalog.

use std::collections::HashSet;
use std::net::IpAddr;

use muster_catalog::{Address, Asker, Instance, Part, ServiceName, State, fold};
use smol_str::SmolStr;

use crate::bounds::{self, View, wants_addresses};
use crate::config::{Settings, TTL_MAX};
use crate::draw::Draw;
use crate::elsewhere::Lacking;
use crate::instance::{Place, is_told, nobody, of_kind, port, texts};
use crate::name::{Asked, Folded, Target, parse};
use crate::question::{Query, Question};
use crate::record::{Data, Record};
use crate::wire::{Name, Rcode, kind};

/// Answers in one message, as Consul bounds them: more addresses would not fit 65,523 bytes anyway.
const ANSWERS_MAX: usize = 4096;
/// The same for SRV, whose records are longer.
const SRV_ANSWERS_MAX: usize = 1024;
/// How many names an answer follows; enough for a service at a node's name, and an end for circles.
const CHASE_DEPTH_MAX: usize = 3;
/// Records that follow a CNAME for who does not use EDNS: what surely fits 512 bytes.
const CHASED_PLAIN_MAX: usize = 5;
/// Name servers told of, as Consul.
const NAME_SERVERS_MAX: usize = 3;
/// The service under which servers are registered.
const SERVERS: &str = "consul";

/// What a message is made of, before it is known what fits.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) rcode: Rcode,
    pub(crate) authoritative: bool,
    /// In the order in which they count: the last are left out first.
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    /// Addresses of the names in answers.
    pub(crate) glue: Vec<Glue>,
    /// What else may be of use.
    pub(crate) extra: Vec<Record>,
    /// Whether the answers are instances, of which some are as good as all.
    pub(crate) of_service: bool,
    /// Whether it is for askers in that place: EDNS' client subnet is told so.
    pub(crate) of_place: bool,
}

/// A reply, or what must be known for it and is not here.
pub(crate) type Found = Result<Reply, Lacking>;

impl Default for Reply {
    fn default() -> Self {
        let [answers, authority, extra] = [const { Vec::new() }; 3];
        let [authoritative, of_service, of_place] = [false; 3];
        Self { rcode: Rcode::NoError, authoritative, answers, authority, glue: Vec::new(), extra, of_service, of_place }
    }
}

impl Reply {
    /// Nothing but a code: not ours to say more.
    pub(crate) fn bare(rcode: Rcode) -> Self {
        Self { rcode, ..Self::default() }
    }
}

/// An address record that an answer needs.
#[derive(Debug)]
pub(crate) struct Glue {
    /// The first answer that needs it.
    pub(crate) of: usize,
    pub(crate) record: Record,
}

/// Answers a question for IN.
pub(crate) fn look(
    target: Target<'_>,
    question: Question<'_>,
    query: &Query<'_>,
    from: bounds::Asker,
    view: View<'_>,
    draw: &mut Draw,
) -> Found {
    let owner = Name::from_wire(question.name());
    let mut look = Look { view, zone: target.zone, query, from, draw, lacking: Lacking::default() };
    let reply = look.reply(&target, owner, question);
    if look.lacking.is_nothing() { Ok(reply) } else { Err(look.lacking) }
}

impl Look<'_> {
    fn reply(&mut self, target: &Target<'_>, owner: Name, question: Question<'_>) -> Reply {
        let ours = !matches!(target.asked, Asked::Outside | Asked::Reverse(_));
        match question.kind {
            kind::SOA if ours => return self.start_of_authority(),
            kind::NS if ours => return self.name_servers(),
            _ => {}
        }
        match target.asked {
            Asked::Outside => self.outside(Rcode::Refused),
            Asked::Apex => self.negative(Rcode::NoError),
            Asked::Nothing => self.negative(Rcode::NxDomain),
            Asked::Node(name) => self.node(name, owner, question.kind, CHASE_DEPTH_MAX),
            Asked::Service { name, tag } => self.service(name, tag, owner, question.kind, CHASE_DEPTH_MAX),
            Asked::Query(name) => self.query(name, owner, question.kind, CHASE_DEPTH_MAX),
            Asked::Address(address) => self.address(address, &owner, question.kind),
            Asked::Reverse(Some(address)) => self.reverse(address, owner, question.kind),
            Asked::Reverse(None) => self.outside(Rcode::NxDomain),
        }
    }

    /// Notes what is looked at and not here.
    fn need(&mut self, part: impl FnOnce() -> Option<Part>) {
        if self.view.state.is_copy()
            && let Some(part) = part()
            && !self.view.state.covers(&part)
        {
            self.lacking.parts.insert(part);
        }
    }

    /// Others know, where others are asked; else it is that.
    fn outside(&mut self, rcode: Rcode) -> Reply {
        self.lacking.outside = self.settings().recursion;
        Reply::bare(rcode)
    }
}

/// One question being looked up.
struct Look<'a> {
    view: View<'a>,
    /// The domain the names in the answer are given in.
    zone: usize,
    query: &'a Query<'a>,
    from: bounds::Asker,
    draw: &'a mut Draw,
    lacking: Lacking,
}

impl<'a> Look<'a> {
    fn settings(&self) -> &'a Settings {
        self.view.settings
    }

    fn state(&self) -> &'a State {
        self.view.state
    }

    fn soa(&self) -> Record {
        let (settings, zone) = (self.settings(), &self.settings().zones[self.zone]);
        let data = Data::Soa {
            primary_server: zone.primary_server.clone(),
            mailbox: zone.mailbox.clone(),
            serial: self.view.now,
            numbers: settings.soa,
        };
        Record { owner: zone.name.clone(), ttl: settings.soa.min_ttl, data }
    }

    /// There is no such name, or nothing of that type under it.
    fn negative(&self, rcode: Rcode) -> Reply {
        Reply { rcode, authoritative: true, authority: vec![self.soa()], ..Reply::default() }
    }

    /// Answers, or what says that there are none.
    fn positive(&self, answers: Vec<Record>) -> Reply {
        if answers.is_empty() {
            return self.negative(Rcode::NoError);
        }
        Reply { authoritative: true, answers, ..Reply::default() }
    }

    fn node(&mut self, name: &str, owner: Name, asked_kind: u16, depth: usize) -> Reply {
        self.need(|| Some(Part::Node(name.into())));
        let Some(node) = self.state().node(name) else { return self.negative(Rcode::NxDomain) };
        let ttl = self.settings().node_ttl;
        let mut answers = Vec::new();
        if wants_addresses(asked_kind) {
            match Address::parse(&node.address) {
                Address::Name(name) => return self.alias(owner, ttl, &name, asked_kind, depth),
                address => answers.extend(of_kind(&address, asked_kind).map(|data| Record { owner: owner.clone(), ttl, data })),
            }
        }
        if matches!(asked_kind, kind::TXT | kind::ANY) {
            answers.extend(texts(&owner, ttl, &node.meta));
        }
        let mut reply = self.positive(answers);
        if !reply.answers.is_empty() && matches!(asked_kind, kind::A | kind::AAAA) && self.settings().node_meta {
            reply.extra = texts(&owner, ttl, &node.meta).collect();
        }
        reply
    }

    /// What stands behind another name: the CNAME, and what can be known here about its target.
    fn alias(&mut self, owner: Name, ttl: u32, target: &str, asked_kind: u16, depth: usize) -> Reply {
        let Some(target) = Name::parse(target) else { return self.negative(Rcode::NoError) };
        let mut chased = self.chase(&target, asked_kind, depth);
        if self.query.edns.is_none() {
            chased.truncate(CHASED_PLAIN_MAX);
        }
        let inside = Folded::new(target.wire()).is_some_and(|name| self.settings().zone_of(name.as_str()).is_some());
        let authority = if chased.is_empty() && inside { vec![self.soa()] } else { Vec::new() };
        let mut answers = vec![Record { owner, ttl, data: Data::Cname(target) }];
        answers.append(&mut chased);
        Reply { authoritative: true, answers, authority, ..Reply::default() }
    }

    /// The records at a name.
    fn chase(&mut self, target: &Name, asked_kind: u16, depth: usize) -> Vec<Record> {
        let Some(name) = Folded::new(target.wire()).filter(|_| depth > 0) else { return Vec::new() };
        let asked = parse(name.as_str(), asked_kind, self.settings()).asked;
        let mut reply = match asked {
            Asked::Node(name) => self.node(name, target.clone(), asked_kind, depth - 1),
            Asked::Service { name, tag } => self.service(name, tag, target.clone(), asked_kind, depth - 1),
            Asked::Query(name) => self.query(name, target.clone(), asked_kind, depth - 1),
            Asked::Address(address) => self.address(address, target, asked_kind),
            Asked::Outside => return self.elsewhere(target, asked_kind),
            Asked::Apex | Asked::Nothing | Asked::Reverse(_) => return Vec::new(),
        };
        reply.answers.append(&mut reply.extra);
        reply.answers
    }

    /// What other name servers say of a name.
    fn elsewhere(&mut self, name: &Name, asked_kind: u16) -> Vec<Record> {
        if !self.settings().recursion {
            return Vec::new();
        }
        let wanted = if asked_kind == kind::AAAA { kind::AAAA } else { kind::A };
        let told = self.view.told;
        told.of(name, wanted).map(<[Record]>::to_vec).unwrap_or_else(|| {
            self.lacking.want(name, wanted, told);
            Vec::new()
        })
    }

    fn service(&mut self, name: &str, tag: Option<&str>, owner: Name, asked_kind: u16, depth: usize) -> Reply {
        let instances = self.instances(name, tag);
        let ttl = self.settings().service_ttl(name);
        if instances.is_empty() {
            let all = self.state().service(name).into_iter().flat_map(|bucket| bucket.instances());
            return self.negative(nobody(all.map(|instance| &**instance), tag, self.view.settings));
        }
        self.tell(&instances, ttl, owner, asked_kind, depth)
    }

    /// What a prepared query finds, for as long as it says itself.
    fn query(&mut self, name: &str, owner: Name, asked_kind: u16, depth: usize) -> Reply {
        self.need(|| Some(Part::Query(name.into())));
        let state = self.state();
        let Ok(Some(row)) = state.resolve_query(name) else { return self.negative(Rcode::NxDomain) };
        let service = fold(&row.query.service.service);
        self.need(|| ServiceName::new(&service).ok().map(Part::Service));
        let found = row.query.service.instances(state);
        self.draw.start(found.len());
        let mut instances: Vec<&Instance> =
            std::iter::from_fn(|| self.draw.next()).filter_map(|at| found.get(at)).map(|instance| &***instance).collect();
        let asker = Asker { near: SmolStr::default(), agent: self.settings().node_name.clone(), address: self.place() };
        let of_place = asker.place(&row.query.service);
        if let Some(address) = of_place {
            self.need(|| Some(Part::Address(address)));
        }
        row.query.service.near(&asker, state).sort(&mut instances, |instance| instance.node.node.as_str());
        let ttl = row.query.dns_ttl_seconds.map(|seconds| seconds.min(TTL_MAX.as_secs() as u32));
        let ttl = ttl.unwrap_or_else(|| self.settings().service_ttl(&service));
        if instances.is_empty() {
            let mut all = state.service(&service).into_iter().flat_map(|bucket| bucket.instances());
            let rcode = nobody(all.by_ref().map(|instance| &**instance), None, self.view.settings);
            return self.negative(rcode);
        }
        Reply { of_place: of_place.is_some(), ..self.tell(&instances, ttl, owner, asked_kind, depth) }
    }

    /// Where the asker is: his network if he says which, else where he asks from.
    fn place(&self) -> Option<IpAddr> {
        let subnet = self.query.edns.and_then(|edns| edns.subnet).and_then(network);
        subnet.or(self.from.address.map(|address| address.to_canonical()))
    }

    /// The records of instances that were chosen; there are some.
    fn tell(&mut self, instances: &[&Instance], ttl: u32, owner: Name, asked_kind: u16, depth: usize) -> Reply {
        match asked_kind {
            kind::SRV => self.service_srv(instances, &owner, ttl, depth),
            kind::A | kind::AAAA | kind::ANY => {
                let answers = self.service_addresses(instances, &owner, ttl, asked_kind);
                let alias = instances.iter().find_map(|instance| match instance.address() {
                    Address::Name(name) if answers.is_empty() => Some(name),
                    _ => None,
                });
                match alias {
                    Some(alias) => self.alias(owner, ttl, alias, asked_kind, depth),
                    None => Reply { of_service: true, ..self.positive(answers) },
                }
            }
            kind::TXT => {
                let mut extra = self.service_addresses(instances, &owner, ttl, kind::ANY);
                if extra.is_empty() {
                    return self.negative(Rcode::NoError);
                }
                extra.truncate(self.settings().udp_answers);
                Reply { authoritative: true, extra, ..Reply::default() }
            }
            _ => self.negative(Rcode::NoError),
        }
    }

    /// The instances that can be told, in random order.
    fn instances(&mut self, name: &str, tag: Option<&str>) -> Vec<&'a Instance> {
        self.need(|| ServiceName::new(name).ok().map(Part::Service));
        let Some(bucket) = self.state().service(name) else { return Vec::new() };
        let all = bucket.instances();
        self.draw.start(all.len());
        let drawn = std::iter::from_fn(|| self.draw.next()).filter_map(|at| all.get(at)).map(|instance| &**instance);
        drawn.filter(|instance| is_told(instance, tag, self.view.settings)).collect()
    }

    fn service_addresses(&self, instances: &[&Instance], owner: &Name, ttl: u32, asked_kind: u16) -> Vec<Record> {
        let mut seen = HashSet::new();
        let distinct = instances.iter().filter_map(|instance| of_kind(instance.address(), asked_kind));
        let distinct = distinct.filter(|data| seen.insert(data.clone()));
        let bound = self.settings().addresses.min(ANSWERS_MAX);
        distinct.take(bound).map(|data| Record { owner: owner.clone(), ttl, data }).collect()
    }

    fn service_srv(&mut self, instances: &[&Instance], owner: &Name, ttl: u32, depth: usize) -> Reply {
        let zone = &self.settings().zones[self.zone];
        let mut reply = Reply { authoritative: true, of_service: true, ..Reply::default() };
        let mut seen = HashSet::new();
        let mut told = HashSet::new();
        for instance in instances {
            if reply.answers.len() == SRV_ANSWERS_MAX {
                break;
            }
            let Some(place) = Place::of(instance, zone) else { continue };
            let port = port(instance);
            // Two instances at one place are one record (RFC 2181 5): a record set holds nothing twice.
            if !seen.insert((place.target.clone(), port)) {
                continue;
            }
            if told.insert(place.target.clone()) {
                let of = reply.answers.len();
                let chased = match of_kind(instance.address(), kind::ANY) {
                    Some(data) => vec![Record { owner: place.target.clone(), ttl, data }],
                    None => self.chase(&place.target, kind::A, depth),
                };
                reply.glue.extend(chased.into_iter().map(|record| Glue { of, record }));
                if place.is_node && self.settings().node_meta {
                    reply.extra.extend(texts(&place.target, ttl, &instance.node.meta));
                }
            }
            let data = Data::Srv { weight: instance.weight(), port, target: place.target };
            reply.answers.push(Record { owner: owner.clone(), ttl, data });
        }
        if reply.answers.is_empty() {
            return self.negative(Rcode::NoError);
        }
        reply
    }

    /// The address that the name spells, under that name in lower case.
    fn address(&self, address: IpAddr, owner: &Name, asked_kind: u16) -> Reply {
        let lower = Name::from_wire(&owner.wire().to_ascii_lowercase());
        let data = match address {
            IpAddr::V4(address) => Data::V4(address.octets()),
            IpAddr::V6(address) => Data::V6(address.octets()),
        };
        let fits = asked_kind == kind::ANY || asked_kind == data.kind();
        let record = Record { owner: lower, ttl: self.settings().node_ttl, data };
        if fits {
            return self.positive(vec![record]);
        }
        Reply { extra: vec![record], ..self.negative(Rcode::NoError) }
    }

    /// Nodes first, then services by their own address. The names are those of our first domain.
    fn reverse(&mut self, address: IpAddr, owner: Name, asked_kind: u16) -> Reply {
        self.need(|| Some(Part::Address(address)));
        let zone = &self.settings().zones[0];
        let wanted = match address {
            IpAddr::V4(address) => Address::V4(address.octets()),
            IpAddr::V6(address) => Address::V6(address.octets()),
        };
        let text = address.to_string();
        let is = |other: &str| other == text || address.is_ipv6() && other.contains(':') && Address::parse(other) == wanted;
        let node = self.state().nodes().find(|node| is(&node.address)).and_then(|node| zone.nodes.child(node.node.as_str()));
        let name = node.or_else(|| {
            let own = |instance: &Instance| !instance.service.address.is_empty() && *instance.address() == wanted;
            let bucket = self.state().services().find(|bucket| bucket.instances().iter().any(|instance| own(instance)))?;
            zone.services.child(bucket.name().as_str())
        });
        match name {
            Some(name) if matches!(asked_kind, kind::PTR | kind::ANY) => {
                let answers = vec![Record { owner, ttl: 0, data: Data::Ptr(name) }];
                Reply { authoritative: true, answers, ..Reply::default() }
            }
            Some(_) => Reply::default(),
            None => self.outside(Rcode::NxDomain),
        }
    }

    fn start_of_authority(&mut self) -> Reply {
        let servers = self.name_servers();
        let authority = if servers.answers.is_empty() { Vec::new() } else { servers.answers };
        Reply { authoritative: true, answers: vec![self.soa()], authority, extra: glue_of(servers.glue), ..Reply::default() }
    }

    fn name_servers(&mut self) -> Reply {
        let (settings, zone) = (self.settings(), &self.settings().zones[self.zone]);
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        let mut seen = HashSet::new();
        for instance in self.instances(SERVERS, None) {
            let Some(name) = zone.nodes.child(instance.node.node.as_str()) else { continue };
            if reply.answers.len() == NAME_SERVERS_MAX || !seen.insert(name.clone()) {
                continue;
            }
            let ttl = settings.node_ttl;
            if let Some(data) = of_kind(&Address::parse(&instance.node.address), kind::ANY) {
                let record = Record { owner: name.clone(), ttl, data };
                reply.glue.push(Glue { of: reply.answers.len(), record });
            }
            reply.answers.push(Record { owner: zone.name.clone(), ttl, data: Data::Ns(name) });
        }
        if reply.answers.is_empty() { self.negative(Rcode::NoError) } else { reply }
    }
}

fn glue_of(glue: Vec<Glue>) -> Vec<Record> {
    glue.into_iter().map(|glue| glue.record).collect()
}

/// The address of EDNS' client subnet; its bytes beyond the prefix are left out.
fn network(subnet: &[u8]) -> Option<IpAddr> {
    let (&[f0, f1, _, _], address) = subnet.split_first_chunk::<4>()?;
    match u16::from_be_bytes([f0, f1]) {
        1 => {
            let mut octets = [0; 4];
            octets.get_mut(..address.len())?.copy_from_slice(address);
            Some(octets.into())
        }
        2 => {
            let mut octets = [0; 16];
            octets.get_mut(..address.len())?.copy_from_slice(address);
            Some(IpAddr::from(octets).to_canonical())
        }
        _ => None,
    }
}
