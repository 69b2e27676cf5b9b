//! Filter expressions: read once a request, checked against what the rows have, then asked of each row.

use std::sync::{Arc, LazyLock};

use muster_catalog::{
    Behavior, Cause, CauseKind, Check, CheckId, Node, NodeName, Row, Service, ServiceAddress, ServiceId, ServiceName, Session,
    Status, Weights,
};
use regex::Regex;
use smol_str::SmolStr;
use uuid::Uuid;

use super::error::HttpError;
use super::fields::{Fields, MemberView, NodeView, See, ServiceNodeView, SessionView, Shown, Value};

mod parse;
use parse::{Expression, Match, Operator};

/// Longest filter in bytes: the longest that the documentation of any client shows is below 500.
pub(super) const FILTER_BYTES_MAX: usize = 8192;

/// A filter whose selectors, operators and values fit the rows it was made for.
#[derive(Debug)]
pub(super) struct Filter(Test);

#[derive(Debug)]
enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Field { path: Vec<SmolStr>, operator: Operator, wanted: Wanted },
}

/// The value of a comparison, in the field's own type.
#[derive(Debug)]
enum Wanted {
    Nothing,
    Text(SmolStr),
    Number(i128),
    Truth(bool),
    Pattern(Regex),
}

/// Why a filter is none. Nothing was read; the client must mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    /// Longer than [`FILTER_BYTES_MAX`], or nested deeper than the parser goes.
    #[error("the filter is too large: {0}")]
    TooLarge(String),
    /// Not an expression.
    #[error("{0}")]
    Syntax(String),
    /// The rows have no such field.
    #[error("Selector {0:?} is not valid")]
    Selector(String),
    /// The field has no such operation.
    #[error("Invalid match operator {0:?} for selector {1:?}")]
    Operator(&'static str, String),
    /// The value is not of the field's type.
    #[error("Failed to coerce value {0:?}: {1}")]
    Value(String, String),
    /// The pattern is no regular expression.
    #[error("Failed to compile regular expression {0:?}: {1}")]
    Pattern(String, String),
}

impl From<FilterError> for HttpError {
    fn from(error: FilterError) -> Self {
        let text = format!("Failed to create boolean expression evaluator: {error}");
        match error {
            FilterError::TooLarge(_) => HttpError::BadRequest(text),
            _ => HttpError::ServerOfRead(text),
        }
    }
}

/// What kinds of rows can be filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// `catalog/nodes`.
    Nodes,
    /// `catalog/service`, and `catalog/services` by the instances behind each name.
    ServiceNodes,
    /// `catalog/node`, `catalog/node-services`, `agent/services`.
    Services,
    /// `health/service`.
    Health,
    /// `health/{node,checks,state}`, `agent/checks`.
    Checks,
    /// `agent/members`.
    Members,
    /// `session/list`.
    Sessions,
}

impl Filter {
    /// Reads a filter; an empty one is none.
    pub(super) fn read(text: Option<&SmolStr>, rows: Rows) -> Result<Option<Self>, FilterError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLarge(format!("{} bytes, at most {FILTER_BYTES_MAX}", text.len())));
        }
        let expression = parse::parse(text)?;
        let specimen = &*SPECIMEN;
        let (node, service, checks) = (&specimen.0, &specimen.1, std::slice::from_ref(&specimen.2));
        let datacenter = "";
        let test = match rows {
            Rows::Nodes => compile(expression, &NodeView { node, datacenter })?,
            Rows::ServiceNodes => compile(expression, &ServiceNodeView { node, service, datacenter })?,
            Rows::Services => compile(expression, service)?,
            Rows::Checks => compile(expression, &*checks[0])?,
            Rows::Members => {
                let tags = Default::default();
                compile(expression, &MemberView { name: "", address: "", port: 0, tags: &tags, status: 0, cause: "", wrong: 0 })?
            }
            Rows::Sessions => compile(expression, &SessionView::new(&session()))?,
            Rows::Health => compile(expression, &HealthSpecimen { node: NodeView { node, datacenter }, service, checks })?,
        };
        Ok(Some(Self(test)))
    }

    /// Whether a row passes.
    pub(super) fn admits(&self, row: &dyn Fields) -> bool {
        admits(&self.0, row)
    }
}

/// A session with all that filters can ask for.
fn session() -> Session {
    Session {
        id: Uuid::nil(),
        name: "".into(),
        node: NodeName::new("n").expect("one letter is a name"),
        node_checks: Some(Vec::new()),
        service_checks: None,
        checks: Vec::new(),
        lock_delay_ns: 0,
        behavior: Behavior::Release,
        ttl: "".into(),
        ttl_ns: 0,
        cause: Arc::new(Cause::new("", CauseKind::Start, 0, "")),
        create_index: 0,
    }
}

struct HealthSpecimen<'s> {
    node: NodeView<'s>,
    service: &'s Row<Service>,
    checks: &'s [Arc<Row<Check>>],
}

impl Fields for HealthSpecimen<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Node", Value::Object(Some(&self.node)), Shown::Always);
        to.field("Service", Value::Object(Some(self.service)), Shown::Always);
        to.field("Checks", Value::Checks(self.checks), Shown::Always);
    }
}

type Specimen = (Row<Node>, Row<Service>, Arc<Row<Check>>);

/// One row of each kind: what fields there are is asked of these, so that a wrong filter is refused although no row exists.
static SPECIMEN: LazyLock<Specimen> = LazyLock::new(|| {
    fn row<T>(value: T) -> Row<T> {
        let node = NodeName::new("n").expect("one letter is a name");
        let cause = Arc::new(Cause::new("", CauseKind::Start, 0, ""));
        Row { node, value, owner: None, generation: 0, cause, create_index: 0, modify_index: 0, owner_index: 0 }
    }
    let node = Node { id: None, address: SmolStr::default(), tagged_addresses: Default::default(), meta: Default::default() };
    let service = Service {
        id: ServiceId::new("s").expect("one letter is a name"),
        name: ServiceName::new("s").expect("one letter is a name"),
        tags: Vec::new(),
        address: SmolStr::default(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
        port: 0,
        socket_path: SmolStr::default(),
        enable_tag_override: false,
        weights: Weights::default(),
        rare: None,
    };
    let check = Check {
        id: CheckId::new("c").expect("one letter is a name"),
        name: SmolStr::default(),
        status: Status::Passing,
        notes: SmolStr::default(),
        output: SmolStr::default(),
        service_id: None,
        service_name: None,
        service_tags: Vec::new(),
        kind: SmolStr::default(),
        interval: SmolStr::default(),
        timeout: SmolStr::default(),
        definition: None,
    };
    (row(node), row(service), Arc::new(row(check)))
});

fn compile(expression: Expression, specimen: &dyn Fields) -> Result<Test, FilterError> {
    let all = |parts: Vec<Expression>| parts.into_iter().map(|part| compile(part, specimen)).collect::<Result<Vec<_>, _>>();
    Ok(match expression {
        Expression::All(parts) => Test::All(all(parts)?),
        Expression::Any(parts) => Test::Any(all(parts)?),
        Expression::Not(part) => Test::Not(Box::new(compile(*part, specimen)?)),
        Expression::Match(Match { path, operator, value }) => {
            let kind = kind_in(specimen, &path).ok_or_else(|| FilterError::Selector(path.join(".")))?;
            if !kind.allows(operator) {
                return Err(FilterError::Operator(operator.name(), path.join(".")));
            }
            Test::Field { wanted: wanted(kind, operator, value)?, path, operator }
        }
    })
}

fn wanted(kind: Kind, operator: Operator, value: Option<SmolStr>) -> Result<Wanted, FilterError> {
    let Some(value) = value else { return Ok(Wanted::Nothing) };
    Ok(match (kind, operator) {
        (_, Operator::Matches | Operator::NotMatches) => {
            Wanted::Pattern(Regex::new(&value).map_err(|error| FilterError::Pattern(value.to_string(), error.to_string()))?)
        }
        (Kind::Number, _) => match value.parse() {
            Ok(number) => Wanted::Number(number),
            Err(_) => return Err(FilterError::Value(value.to_string(), "not a whole number".into())),
        },
        (Kind::Truth, _) => match parse_bool(&value) {
            Some(truth) => Wanted::Truth(truth),
            None => return Err(FilterError::Value(value.to_string(), "neither true nor false".into())),
        },
        _ => Wanted::Text(value),
    })
}

/// What Go takes for true and false.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
    Texts,
    Keys,
    Rows,
}

impl Kind {
    fn allows(self, operator: Operator) -> bool {
        use Operator::{Equal, In, IsEmpty, IsNotEmpty, Matches, NotEqual, NotIn, NotMatches};
        match operator {
            Equal | NotEqual => matches!(self, Kind::Text | Kind::Number | Kind::Truth),
            In | NotIn => matches!(self, Kind::Text | Kind::Texts | Kind::Keys),
            IsEmpty | IsNotEmpty => matches!(self, Kind::Texts | Kind::Keys | Kind::Rows),
            Matches | NotMatches => self == Kind::Text,
        }
    }
}

/// The type of what a selector names; `None` if there is no such thing.
fn kind_in(fields: &dyn Fields, path: &[SmolStr]) -> Option<Kind> {
    let (name, rest) = path.split_first()?;
    match (seek(fields, name)?, rest) {
        (Value::Text(_) | Value::Id(_), []) => Some(Kind::Text),
        (Value::Number(_) | Value::Count(_), []) => Some(Kind::Number),
        (Value::Truth(_), []) => Some(Kind::Truth),
        (Value::Texts(_) | Value::Strings(_), []) => Some(Kind::Texts),
        (Value::Pairs(_) | Value::PairsAlways(_) | Value::Headers(_) | Value::Addresses(_), []) => Some(Kind::Keys),
        (Value::Pairs(_) | Value::PairsAlways(_), [_]) => Some(Kind::Text),
        (Value::Headers(_), [_]) => Some(Kind::Texts),
        (Value::Addresses(_), [_, rest @ ..]) => kind_in(&ServiceAddress::default(), rest),
        (Value::Checks(_), []) => Some(Kind::Rows),
        (Value::Checks(_), rest) => kind_in(&*SPECIMEN.2, rest),
        (Value::Object(Some(object)), rest) => kind_in(object, rest),
        _ => None,
    }
}

struct Seek<'n, 'a> {
    name: &'n str,
    found: Option<Value<'a>>,
}

impl<'a> See<'a> for Seek<'_, 'a> {
    fn field(&mut self, name: &'static str, value: Value<'a>, shown: Shown) {
        if name == self.name && !matches!(shown, Shown::Unasked | Shown::FilledUnasked) {
            self.found = Some(value);
        }
    }
}

fn seek<'a>(fields: &'a dyn Fields, name: &str) -> Option<Value<'a>> {
    let mut seek = Seek { name, found: None };
    fields.show(&mut seek);
    seek.found
}

fn admits(test: &Test, row: &dyn Fields) -> bool {
    match test {
        Test::All(parts) => parts.iter().all(|part| admits(part, row)),
        Test::Any(parts) => parts.iter().any(|part| admits(part, row)),
        Test::Not(part) => !admits(part, row),
        Test::Field { path, operator, wanted } => in_fields(row, path, *operator, wanted),
    }
}

fn in_fields(fields: &dyn Fields, path: &[SmolStr], operator: Operator, wanted: &Wanted) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    match seek(fields, name) {
        Some(value) => in_value(value, rest, operator, wanted),
        None => absent(operator),
    }
}

fn in_value(value: Value<'_>, rest: &[SmolStr], operator: Operator, wanted: &Wanted) -> bool {
    match value {
        Value::Text(text) => in_text(text, operator, wanted),
        Value::Id(Some(id)) => in_text(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()), operator, wanted),
        Value::Id(None) => in_text("", operator, wanted),
        Value::Number(number) => in_number(i128::from(number), operator, wanted),
        Value::Count(number) => in_number(i128::from(number), operator, wanted),
        Value::Truth(truth) => (matches!(wanted, Wanted::Truth(wanted) if *wanted == truth)) != (operator == Operator::NotEqual),
        Value::Texts(texts) => in_keys(texts.is_empty(), |key| texts.iter().any(|text| text == key), operator, wanted),
        Value::Strings(texts) => in_keys(texts.is_empty(), |key| texts.iter().any(|text| text == key), operator, wanted),
        Value::Pairs(pairs) | Value::PairsAlways(pairs) => match rest.first() {
            None => in_keys(pairs.is_empty(), |key| pairs.contains_key(key), operator, wanted),
            Some(key) => pairs.get(key).map_or_else(|| absent(operator), |text| in_text(text, operator, wanted)),
        },
        Value::Headers(headers) => match rest.first() {
            None => in_keys(headers.is_empty(), |key| headers.contains_key(key), operator, wanted),
            Some(key) => match headers.get(key.as_str()) {
                Some(lines) => in_value(Value::Strings(lines), &[], operator, wanted),
                None => absent(operator),
            },
        },
        Value::Addresses(addresses) => match rest.split_first() {
            None => in_keys(addresses.is_empty(), |key| addresses.contains_key(key), operator, wanted),
            Some((key, rest)) => {
                addresses.get(key).map_or_else(|| absent(operator), |address| in_fields(address, rest, operator, wanted))
            }
        },
        // One element that fits is enough, for the negative operators too.
        Value::Checks(checks) if rest.is_empty() => checks.is_empty() == (operator == Operator::IsEmpty),
        Value::Checks(checks) => checks.iter().any(|check| in_fields(&**check, rest, operator, wanted)),
        Value::Object(Some(object)) => in_fields(object, rest, operator, wanted),
        Value::Object(None) => absent(operator),
        Value::Duration(_) | Value::Ports(_) | Value::ServiceChecks(_) | Value::Fixed(_) => false,
    }
}

/// What an operator says of a key that is not there. That `matches` holds then is Consul's own oddity.
fn absent(operator: Operator) -> bool {
    matches!(operator, Operator::NotEqual | Operator::NotIn | Operator::IsEmpty | Operator::Matches)
}

fn in_text(text: &str, operator: Operator, wanted: &Wanted) -> bool {
    match (operator, wanted) {
        (Operator::Equal, Wanted::Text(wanted)) => text == wanted,
        (Operator::NotEqual, Wanted::Text(wanted)) => text != wanted,
        (Operator::In, Wanted::Text(wanted)) => text.contains(wanted.as_str()),
        (Operator::NotIn, Wanted::Text(wanted)) => !text.contains(wanted.as_str()),
        (Operator::Matches, Wanted::Pattern(pattern)) => pattern.is_match(text),
        (Operator::NotMatches, Wanted::Pattern(pattern)) => !pattern.is_match(text),
        _ => false,
    }
}

fn in_number(number: i128, operator: Operator, wanted: &Wanted) -> bool {
    matches!(wanted, Wanted::Number(wanted) if (*wanted == number) == (operator == Operator::Equal))
}

fn in_keys(is_empty: bool, has: impl Fn(&str) -> bool, operator: Operator, wanted: &Wanted) -> bool {
    match (operator, wanted) {
        (Operator::IsEmpty, _) => is_empty,
        (Operator::IsNotEmpty, _) => !is_empty,
        (Operator::In, Wanted::Text(wanted)) => has(wanted),
        (Operator::NotIn, Wanted::Text(wanted)) => !has(wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
