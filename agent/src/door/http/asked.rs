//! How often services are asked for, by name.

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use metrics::Counter;
use muster_catalog::ServiceName;

/// Services that are told apart, the first ones that were found; all others are counted as one. A series is never forgotten, and
/// which names there are is up to whoever registers them.
const SERVICES_MAX: usize = 256;
/// The label of all others.
const OTHERS: &str = "(others)";

/// What counts the questions of one family.
pub(super) struct Asked {
    names: [&'static str; 4],
    told: RwLock<HashMap<ServiceName, Counter, foldhash::fast::RandomState>>,
}

/// `/v1/catalog/service/`.
pub(super) static CATALOG: LazyLock<Asked> = LazyLock::new(|| {
    let names = ["catalog.service.query", "catalog.service.query-tag", "catalog.service.query-tags", "catalog.service.not-found"];
    Asked { names, told: RwLock::default() }
});
/// `/v1/health/service/`.
pub(super) static HEALTH: LazyLock<Asked> = LazyLock::new(|| {
    let names = ["health.service.query", "health.service.query-tag", "health.service.query-tags", "health.service.not-found"];
    Asked { names, told: RwLock::default() }
});

impl Asked {
    /// A service was asked for, with so many tags, and was found or not.
    pub(super) fn count(&self, service: &ServiceName, tags: usize, found: bool) {
        let [query, tag, many, missing] = self.names;
        let known = {
            let told = self.told.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let counter = told.get(service);
            if let Some(counter) = counter {
                counter.increment(1);
            }
            counter.is_some()
        };
        let known = known || (found && self.learn(service));
        let label = if known { service.as_str() } else { OTHERS };
        let count = |name: &'static str| metrics::counter!(name, "service" => label.to_owned()).increment(1);
        if !known {
            count(query);
        }
        match tags {
            0 => {}
            1 => count(tag),
            _ => count(many),
        }
        if !found {
            count(missing);
        }
    }

    /// Tells a service apart from now on, if there is room, and counts the question.
    fn learn(&self, service: &ServiceName) -> bool {
        let mut told = self.told.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.len() >= SERVICES_MAX && !told.contains_key(service) {
            return false;
        }
        let new = || metrics::counter!(self.names[0], "service" => service.as_str().to_owned());
        told.entry(service.clone()).or_insert_with(new).increment(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_that_are_there_are_told_apart_and_never_too_many() {
        let asked = Asked { names: ["q", "t", "s", "n"], told: RwLock::default() };
        let told = || asked.told.read().unwrap().len();
        asked.count(&ServiceName::new("nobody").unwrap(), 0, false);
        assert_eq!(told(), 0);
        for number in 0..2 * SERVICES_MAX {
            asked.count(&ServiceName::new(format!("web-{number}")).unwrap(), number % 3, true);
        }
        assert_eq!(told(), SERVICES_MAX);
        asked.count(&ServiceName::new("web-0").unwrap(), 0, false);
        assert_eq!(told(), SERVICES_MAX);
    }
}
