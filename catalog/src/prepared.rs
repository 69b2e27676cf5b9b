//! Prepared queries: a name under which servers keep what is asked for, and templates that answer to many names.

use std::sync::{Arc, OnceLock};

use imbl::{OrdMap, OrdSet};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::cause::Cause;
use crate::meta::Meta;
use crate::name::fold;
use crate::row::{Index, Instance, Service, mend};
use crate::session::Sessions;
use crate::status::Health;

/// Bytes of one template's compiled expression: what no sensible one needs, so that no query fills memory.
const REGEXP_BYTES_MAX: usize = 1 << 20;

/// What is asked for under a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PreparedQuery {
    /// The name, in whatever case; empty for one that is found by its id, or for the template that answers to everything.
    pub name: SmolStr,
    /// The session that it goes with.
    pub session: Option<Uuid>,
    /// The secret with which it is executed.
    pub token: SmolStr,
    /// Makes it a template.
    pub template: Option<QueryTemplate>,
    /// What is asked for.
    pub service: QueryService,
    /// How long DNS answers may be kept, as it was written; empty is what is configured.
    pub dns_ttl: SmolStr,
    /// The same in seconds.
    pub dns_ttl_seconds: Option<u32>,
}

/// Answers to each name that begins with its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryTemplate {
    /// `name_prefix_match`; there is no other.
    pub kind: SmolStr,
    /// Its groups are `${match(N)}`.
    pub regexp: SmolStr,
    /// Whether tags that come out empty are not asked for.
    pub remove_empty_tags: bool,
}

/// Which instances are wanted. In a template every text may hold variables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryService {
    /// The service's name.
    pub service: SmolStr,
    /// Where else to look.
    pub failover: QueryFailover,
    /// Whether a warning takes an instance out, as critical always does.
    pub only_passing: bool,
    /// Checks that are not looked at.
    pub ignore_check_ids: Vec<SmolStr>,
    /// The node near which answers are to be.
    pub near: SmolStr,
    /// Tags that must be there, or with `!` must not.
    pub tags: Vec<SmolStr>,
    /// Pairs that the node must have.
    pub node_meta: Meta,
    /// Pairs that the service must have.
    pub service_meta: Meta,
}

/// Where else to look when nobody answers here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryFailover {
    /// So many of the nearest datacenters.
    pub nearest: u32,
    /// Then these.
    pub datacenters: Vec<SmolStr>,
}

/// Makes a query, or changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetQuery {
    /// Its id.
    pub id: Uuid,
    /// Whether there must be none of that id yet; else there must be one.
    pub create: bool,
    /// What it is to be.
    pub query: PreparedQuery,
}

/// A query as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryRow {
    /// Its id.
    pub id: Uuid,
    /// What it asks for.
    pub query: PreparedQuery,
    /// Why it is as it is.
    pub cause: Arc<Cause>,
    /// Where it was made.
    pub create_index: Index,
    /// Where it was last changed.
    pub modify_index: Index,
    /// Its expression, made when it is first wanted.
    #[serde(skip)]
    compiled: OnceLock<Option<Regex>>,
}

impl PartialEq for QueryRow {
    fn eq(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.id, row.create_index, row.modify_index);
        key(self) == key(other) && self.query == other.query && self.cause == other.cause
    }
}

/// Why a query cannot be kept, or not be answered; Consul's texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum QueryFault {
    /// A template has no meaning without a name.
    #[error("prepared query templates can only be resolved up by name, not by ID")]
    TemplateById,
    /// There is one kind of template.
    #[error("Bad Template.Type '{0}'")]
    Kind(SmolStr),
    /// The expression is none.
    #[error("Bad Regexp: error parsing regexp: {0}")]
    Regexp(String),
    /// A text begins a variable and does not end it.
    #[error("Bad format '{text}' in {field}: parse error: syntax error")]
    Format {
        /// The text.
        text: SmolStr,
        /// Where it stands.
        field: SmolStr,
    },
    /// There is no such variable.
    #[error("Bad evaluation for '{text}' in {field}: unknown variable accessed: {name}")]
    Variable {
        /// The text.
        text: SmolStr,
        /// Where it stands.
        field: SmolStr,
        /// What it asks for.
        name: SmolStr,
    },
}

impl PreparedQuery {
    /// Whether a template can be filled in, whatever the name.
    pub fn check(&self) -> Result<(), QueryFault> {
        let Some(template) = &self.template else { return Ok(()) };
        if template.kind != "name_prefix_match" {
            return Err(QueryFault::Kind(template.kind.clone()));
        }
        let regexp = compile(&template.regexp).map_err(|error| QueryFault::Regexp(error.to_string()))?;
        self.fill(&self.name.clone(), regexp.as_ref()).map(|_| ())
    }

    /// The template for a name.
    fn fill(&self, name: &str, regexp: Option<&Regex>) -> Result<Self, QueryFault> {
        let groups = regexp.and_then(|regexp| regexp.captures(name));
        let (prefix, suffix) = name.split_at_checked(self.name.len()).unwrap_or((name, ""));
        let variables = Variables { full: name, prefix, suffix, groups };
        let mut filled = self.clone();
        let QueryService { service, failover, ignore_check_ids, near, tags, node_meta, service_meta, .. } = &mut filled.service;
        variables.fill(service, "Service.Service")?;
        variables.fill(near, "Service.Near")?;
        let lists = [
            (&mut failover.datacenters, "Service.Failover.Datacenters"),
            (ignore_check_ids, "Service.IgnoreCheckIDs"),
            (tags, "Service.Tags"),
        ];
        for (texts, field) in lists {
            texts.iter_mut().try_for_each(|text| variables.fill(text, field))?;
        }
        for (pairs, field) in [(node_meta, "Service.NodeMeta"), (service_meta, "Service.ServiceMeta")] {
            *pairs = pairs
                .iter()
                .map(|(key, value)| {
                    let mut value = value.clone();
                    variables.fill(&mut value, field).map(|()| (key.clone(), value))
                })
                .collect::<Result<_, _>>()?;
        }
        if self.template.as_ref().is_some_and(|template| template.remove_empty_tags) {
            filled.service.tags.retain(|tag| !tag.is_empty());
        }
        Ok(filled)
    }
}

fn compile(regexp: &str) -> Result<Option<Regex>, regex::Error> {
    if regexp.is_empty() {
        return Ok(None);
    }
    RegexBuilder::new(regexp).size_limit(REGEXP_BYTES_MAX).dfa_size_limit(REGEXP_BYTES_MAX).build().map(Some)
}

/// What stands for `${…}`.
struct Variables<'n> {
    full: &'n str,
    prefix: &'n str,
    suffix: &'n str,
    groups: Option<regex::Captures<'n>>,
}

impl Variables<'_> {
    /// Replaces each `${…}`; `$${` is the letters themselves.
    fn fill(&self, text: &mut SmolStr, field: &'static str) -> Result<(), QueryFault> {
        if !text.contains("${") {
            return Ok(());
        }
        let (mut filled, mut rest) = (String::new(), text.as_str());
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            filled.push_str(&rest[..at]);
            let end = rest[at..].find('}').map(|end| at + end);
            let Some(end) = end else { return Err(QueryFault::Format { text: text.clone(), field: field.into() }) };
            filled.push_str(self.value(rest[at + 2..end].trim(), text, field)?);
            rest = &rest[end + 1..];
        }
        filled.push_str(rest);
        *text = filled.into();
        Ok(())
    }

    fn value(&self, expression: &str, text: &SmolStr, field: &'static str) -> Result<&str, QueryFault> {
        let unknown = |name: &str| QueryFault::Variable { text: text.clone(), field: field.into(), name: name.into() };
        Ok(match expression {
            "name.full" => self.full,
            "name.prefix" => self.prefix,
            "name.suffix" => self.suffix,
            "agent.segment" => "",
            "" => return Err(QueryFault::Format { text: text.clone(), field: field.into() }),
            other => {
                let number =
                    other.strip_prefix("match(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(|| unknown(other))?;
                let number: i64 = number.trim().parse().map_err(|_| unknown(number.trim()))?;
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                self.groups.as_ref().and_then(|groups| groups.get(number)).map_or("", |group| group.as_str())
            }
        })
    }
}

impl QueryService {
    /// Whether an instance is among the answers.
    pub(crate) fn wants(&self, instance: &Instance) -> bool {
        let heeded = |id: &str| !self.ignore_check_ids.iter().any(|ignored| ignored == id);
        let well = instance.checks.iter().filter(|check| heeded(check.id.as_str())).all(|check| match check.status.health() {
            Health::Passing => true,
            Health::Warning => !self.only_passing,
            Health::Critical => false,
        });
        let pairs = |has: &Meta, wanted: &Meta| wanted.iter().all(|(key, value)| has.get(key) == Some(value));
        well && self.wants_tags(&instance.service)
            && pairs(&instance.node.meta, &self.node_meta)
            && pairs(&instance.service.meta, &self.service_meta)
    }

    fn wants_tags(&self, service: &Service) -> bool {
        let has = |tag: &str| service.tags.iter().any(|has| has.eq_ignore_ascii_case(tag));
        self.tags.iter().all(|tag| match tag.strip_prefix('!') {
            Some(tag) => !has(tag),
            None => has(tag),
        })
    }
}

/// All queries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queries {
    pub(crate) rows: OrdMap<Uuid, Arc<QueryRow>>,
    /// Names without regard to case.
    names: OrdMap<SmolStr, Uuid>,
    templates: OrdMap<SmolStr, Uuid>,
    /// A session, and a query that goes with it.
    tied: OrdSet<(Uuid, Uuid)>,
    index: Index,
    /// In a copy: what servers told of one name.
    pub(crate) told: Option<(SmolStr, Option<Arc<QueryRow>>)>,
}

fn key(name: &str) -> SmolStr {
    SmolStr::new(&*fold(name))
}

impl Queries {
    pub(crate) fn set(&mut self, set: SetQuery, sessions: &Sessions, cause: &Arc<Cause>, index: Index) -> Result<(), String> {
        let SetQuery { id, create, query } = set;
        let old = self.rows.get(&id).cloned();
        if old.is_none() && !create {
            return Err(format!("Cannot modify non-existent prepared query: '{id}'"));
        }
        let name = key(&query.name);
        if !name.is_empty() {
            if self.names.get(&name).is_some_and(|other| *other != id) {
                return Err(format!("name '{}' aliases an existing query name", query.name));
            }
        } else if query.template.is_some() && self.templates.get("").is_some_and(|other| *other != id) {
            return Err("a query template with an empty name already exists".to_owned());
        }
        if uuid_of(&query.name).is_some_and(|alias| self.rows.contains_key(&alias)) {
            return Err(format!("name '{}' aliases an existing query ID", query.name));
        }
        if let Some(session) = query.session.filter(|session| sessions.get(*session).is_none()) {
            return Err(format!("invalid session \"{session}\""));
        }
        if old.as_ref().is_some_and(|old| old.query == query) {
            return Ok(());
        }
        self.forget(id);
        let create_index = old.map_or(index, |old| old.create_index);
        let row = QueryRow { id, query, cause: cause.clone(), create_index, modify_index: index, compiled: OnceLock::new() };
        self.restore(row);
        self.index = index;
        Ok(())
    }

    pub(crate) fn delete(&mut self, id: Uuid, index: Index) -> Result<(), String> {
        if !self.rows.contains_key(&id) {
            return Err(format!("Cannot modify non-existent prepared query: '{id}'"));
        }
        self.forget(id);
        self.index = index;
        Ok(())
    }

    fn forget(&mut self, id: Uuid) {
        let Some(row) = self.rows.remove(&id) else { return };
        let name = key(&row.query.name);
        self.names.remove(&name);
        if row.query.template.is_some() {
            self.templates.remove(&name);
        }
        if let Some(session) = row.query.session {
            self.tied.remove(&(session, id));
        }
    }

    /// Their session ended: they go with it.
    pub(crate) fn end(&mut self, session: Uuid, index: Index) {
        let tied = self.tied.range((session, Uuid::nil())..).take_while(|(of, _)| *of == session).map(|(_, id)| *id);
        for id in tied.collect::<Vec<_>>() {
            self.forget(id);
            self.index = index;
        }
    }

    /// Out of a snapshot.
    pub(crate) fn restore(&mut self, row: QueryRow) {
        let name = key(&row.query.name);
        if row.query.template.is_some() {
            self.templates.insert(name.clone(), row.id);
        }
        if !name.is_empty() {
            self.names.insert(name, row.id);
        }
        if let Some(session) = row.query.session {
            self.tied.insert((session, row.id));
        }
        self.rows.insert(row.id, Arc::new(row));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<QueryRow>> {
        self.rows.values()
    }

    pub(crate) fn index(&self) -> Index {
        self.index
    }

    pub(crate) fn set_index(&mut self, index: Index) {
        self.index = index;
    }

    /// As if all had been written at this index.
    pub(crate) fn date(&mut self, index: Index) {
        mend(&mut self.rows, |row| (row.create_index, row.modify_index) = (index, index));
        self.index = index;
    }

    pub(crate) fn was_told(&self, name: &str) -> bool {
        self.told.as_ref().is_some_and(|(told, _)| told == name)
    }

    /// By id, then by name, then by the template whose name is the longest beginning of it.
    pub(crate) fn resolve(&self, id_or_name: &str) -> Result<Option<Arc<QueryRow>>, QueryFault> {
        if let Some((_, row)) = self.told.as_ref().filter(|(told, _)| told == id_or_name) {
            return Ok(row.clone());
        }
        if let Some(row) = uuid_of(id_or_name).and_then(|id| self.rows.get(&id)) {
            return if row.query.template.is_some() { Err(QueryFault::TemplateById) } else { Ok(Some(row.clone())) };
        }
        let name = key(id_or_name);
        let template = || {
            let ends = (0..=name.len()).rev().filter(|end| name.is_char_boundary(*end));
            ends.filter_map(|end| self.templates.get(&name[..end])).next()
        };
        let id = if name.is_empty() { None } else { self.names.get(&name) }.or_else(template);
        let Some(row) = id.and_then(|id| self.rows.get(id)) else { return Ok(None) };
        let Some(template) = &row.query.template else { return Ok(Some(row.clone())) };
        let regexp = row.compiled.get_or_init(|| compile(&template.regexp).unwrap_or_default());
        let query = row.query.fill(id_or_name, regexp.as_ref())?;
        Ok(Some(Arc::new(QueryRow { query, ..(**row).clone() })))
    }
}

/// In the hyphenated form alone.
fn uuid_of(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::CauseKind;

    fn cause() -> Arc<Cause> {
        Arc::new(Cause::new("a", CauseKind::Api, 5, ""))
    }

    fn query(name: &str, service: &str) -> PreparedQuery {
        let service = QueryService { service: service.into(), ..QueryService::default() };
        PreparedQuery { name: name.into(), service, ..PreparedQuery::default() }
    }

    fn template(name: &str, regexp: &str, service: &str) -> PreparedQuery {
        let template = QueryTemplate { kind: "name_prefix_match".into(), regexp: regexp.into(), remove_empty_tags: false };
        PreparedQuery { template: Some(template), ..query(name, service) }
    }

    fn queries(all: &[PreparedQuery]) -> Queries {
        let mut queries = Queries::default();
        for (number, query) in (1..).zip(all) {
            let set = SetQuery { id: Uuid::from_u128(number), create: true, query: query.clone() };
            queries.set(set, &Sessions::default(), &cause(), number as u64).expect("it can be kept");
        }
        queries
    }

    fn service(queries: &Queries, name: &str) -> Option<String> {
        queries.resolve(name).expect("it resolves").map(|row| row.query.service.service.to_string())
    }

    #[test]
    fn the_longest_template_answers_after_ids_and_names() {
        let all = [template("", "", "all"), template("a", "", "a"), template("a-b", "", "ab"), query("A-b-c", "exact")];
        let queries = queries(&all);
        for (name, found) in [("x", "all"), ("a", "a"), ("a-", "a"), ("a-bc", "ab"), ("a-B-C", "exact"), ("a-b-cd", "ab")] {
            assert_eq!(service(&queries, name).as_deref(), Some(found), "{name}");
        }
        assert_eq!(service(&queries, &Uuid::from_u128(4).to_string()).as_deref(), Some("exact"));
        assert_eq!(queries.resolve(&Uuid::from_u128(1).to_string()), Err(QueryFault::TemplateById));
    }

    #[test]
    fn variables_are_filled_in_as_consul_does() {
        for (text, filled) in [
            ("${name.full}|${name.prefix}|${name.suffix}", "t-x-y|t-|x-y"),
            ("${match(0)},${match(1)},${match(2)},${match(9)},${match(-1)}", "t-x-y,x,y,,"),
            ("$${x}|a}b|${ name.full }|${agent.segment}", "${x}|a}b|t-x-y|"),
        ] {
            let queries = queries(&[template("t-", "^t-(.)-(.)$", text)]);
            assert_eq!(service(&queries, "t-x-y").as_deref(), Some(filled));
        }
        let without = queries(&[template("t-", "", "${match(0)}")]);
        assert_eq!(service(&without, "t-x").as_deref(), Some(""));
    }

    #[test]
    fn what_cannot_be_filled_in_is_found_when_it_is_written() {
        for (text, fault) in [
            ("${", "Bad format '${' in Service.Service: parse error: syntax error"),
            ("${}", "Bad format '${}' in Service.Service: parse error: syntax error"),
            ("${name.bad}", "Bad evaluation for '${name.bad}' in Service.Service: unknown variable accessed: name.bad"),
            ("${match(x)}", "Bad evaluation for '${match(x)}' in Service.Service: unknown variable accessed: x"),
        ] {
            assert_eq!(template("t", "", text).check().expect_err("it is wrong").to_string(), fault);
        }
        assert!(matches!(template("t", "(", "s").check(), Err(QueryFault::Regexp(_))));
        assert!(matches!(template("t", "(a{900}){900}", "s").check(), Err(QueryFault::Regexp(_))), "too large");
        let other = QueryTemplate { kind: "x".into(), ..QueryTemplate::default() };
        assert!(PreparedQuery { template: Some(other), ..query("t", "s") }.check().is_err());
    }

    #[test]
    fn names_and_ids_stand_for_one_query() {
        let mut queries = queries(&[query("a", "s"), template("", "", "s")]);
        let mut set = |id: u128, create: bool, query: PreparedQuery| {
            let set = SetQuery { id: Uuid::from_u128(id), create, query };
            queries.set(set, &Sessions::default(), &cause(), 9)
        };
        assert_eq!(set(7, true, query("A", "x")), Err("name 'A' aliases an existing query name".to_owned()));
        assert_eq!(set(7, true, template("", "", "x")), Err("a query template with an empty name already exists".to_owned()));
        let id = Uuid::from_u128(1).to_string();
        assert_eq!(set(7, true, query(&id, "x")), Err(format!("name '{id}' aliases an existing query ID")));
        let none = Uuid::from_u128(7);
        assert_eq!(set(7, false, query("b", "x")), Err(format!("Cannot modify non-existent prepared query: '{none}'")));
        assert_eq!(set(1, false, query("b", "x")), Ok(()));
        assert_eq!(set(7, true, query("a", "x")), Ok(()), "the name is free");
        assert!(queries.delete(none, 10).is_ok() && queries.delete(none, 11).is_err());
        assert_eq!((service(&queries, "b").as_deref(), queries.index()), (Some("x"), 10));
    }
}
