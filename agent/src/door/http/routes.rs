//! The table of paths: what each answers to, and with which methods.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use http::{HeaderValue, Method};
use metrics::Histogram;

use super::call::{Handler, Route};
use super::{agent, catalog, coordinate, event, health, kv, later, operator, prepared, session, snapshot, status, txn};

/// How long an answer takes, in milliseconds, by method and path.
const TIME: &str = "api.http";

/// A route, and what its methods make of the `Allow` header.
pub(super) struct Known {
    pub(super) route: &'static Route,
    pub(super) allow: HeaderValue,
    /// What the time of an answer is told to, by method: each is made when it is first asked for.
    timers: Vec<OnceLock<Histogram>>,
}

impl Known {
    pub(super) fn new(route: &'static Route) -> Self {
        let methods: Vec<&str> = route.methods.iter().map(|(method, _)| method.as_str()).collect();
        let allow = format!("OPTIONS,{}", methods.join(","));
        let allow = HeaderValue::from_str(&allow).expect("methods are visible ASCII");
        Self { route, allow, timers: methods.iter().map(|_| OnceLock::new()).collect() }
    }

    /// What the time of an answer is told to. Labels are Consul's: paths with dots, and `_` for what stands below one.
    pub(super) fn timer(&self, method: &Method) -> Option<&Histogram> {
        let at = self.route.methods.iter().position(|(known, _)| known == method)?;
        Some(self.timers[at].get_or_init(|| {
            let path = self.route.path.trim_start_matches('/').replace('/', ".");
            let path = if path.ends_with('.') { path + "_" } else { path };
            metrics::histogram!(TIME, "method" => method.as_str().to_owned(), "path" => path)
        }))
    }

    /// The handler for a method.
    pub(super) fn handler(&self, method: &Method) -> Option<Handler> {
        self.route.methods.iter().find(|(known, _)| known == method).map(|(_, handler)| *handler)
    }
}

/// Slashes in the longest path of a route that stands for what is below it.
const PREFIX_SLASHES_MAX: usize = 6;

/// All routes of all rooms.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    [
        agent::ROUTES,
        catalog::ROUTES,
        coordinate::ROUTES,
        event::ROUTES,
        health::ROUTES,
        kv::ROUTES,
        operator::ROUTES,
        prepared::ROUTES,
        session::ROUTES,
        snapshot::ROUTES,
        status::ROUTES,
        txn::ROUTES,
        later::ROUTES,
    ]
    .into_iter()
    .flatten()
}

static TABLE: LazyLock<HashMap<&'static str, Known, foldhash::fast::FixedState>> =
    LazyLock::new(|| all().map(|route| (route.path, Known::new(route))).collect());

/// What a path leads to.
pub(super) enum Found<'p> {
    /// A route, and what stands behind its path.
    Route(&'static Known, &'p str),
    /// The path of a route that stands for what is below it, without its slash.
    WithoutSlash,
    /// Nothing.
    Nothing,
}

/// Looks a clean path up: exactly first, then the longest route above it.
pub(super) fn find(path: &str) -> Found<'_> {
    let table = &*TABLE;
    if let Some(known) = table.get(path) {
        return Found::Route(known, "");
    }
    let mut slashes = [0; PREFIX_SLASHES_MAX];
    let mut count = 0;
    for (at, _) in path.match_indices('/').take(PREFIX_SLASHES_MAX) {
        slashes[count] = at;
        count += 1;
    }
    for &at in slashes[..count].iter().rev() {
        if let Some(known) = table.get(&path[..=at]) {
            return Found::Route(known, &path[at + 1..]);
        }
    }
    let slashed = path.len() < 64 && table.contains_key(format!("{path}/").as_str());
    if slashed { Found::WithoutSlash } else { Found::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(&'static str, &str)> {
        match find(path) {
            Found::Route(known, rest) => Some((known.route.path, rest)),
            Found::WithoutSlash | Found::Nothing => None,
        }
    }

    #[test]
    fn exact_paths_come_before_those_above() {
        assert_eq!(found("/v1/catalog/services"), Some(("/v1/catalog/services", "")));
        assert_eq!(found("/v1/catalog/service/a/b"), Some(("/v1/catalog/service/", "a/b")));
        assert_eq!(found("/v1/kv/"), Some(("/v1/kv/", "")));
        assert_eq!(found("/v1/acl/token/self"), Some(("/v1/acl/token/self", "")));
        assert_eq!(found("/v1/acl/token/x"), Some(("/v1/acl/token/", "x")));
        assert_eq!(found("/v1/catalog/nodes/x"), None);
        assert_eq!(found(&format!("/v1/nope{}", "/".repeat(100_000))), None);
        assert!(matches!(find("/v1/kv"), Found::WithoutSlash));
        assert!(matches!(find("/v1"), Found::Nothing));
    }

    #[test]
    fn no_path_is_written_twice_and_prefixes_are_short_enough() {
        let mut paths: Vec<_> = all().map(|route| route.path).collect();
        for path in &paths {
            assert!(!path.ends_with('/') || path.matches('/').count() <= PREFIX_SLASHES_MAX, "{path}");
        }
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}
