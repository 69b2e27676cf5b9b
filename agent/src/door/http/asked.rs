//! How often services are asked for, by name.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};

use metrics::Counter;
use muster_catalog::ServiceName;

/// Services that are told apart, the first ones that were found; all others are counted as one. A series is never forgotten, and
/// which names there are is up to whoever registers them.
const SERVICES_MAX: usize = 256;
/// The label of all others.
const OTHERS: &str = "(others)";

/// How often it was asked for, with one tag, with several, and in vain. A series begins when it first counts something.
type Counters = [OnceLock<Counter>; 4];

/// What counts the questions of one family.
#[derive(Debug)]
pub(super) struct Asked {
    names: [&'static str; 4],
    told: RwLock<HashMap<ServiceName, Arc<Counters>, foldhash::fast::RandomState>>,
    others: Counters,
}

/// `/v1/catalog/service/`.
pub(super) static CATALOG: LazyLock<Asked> = LazyLock::new(|| {
    Asked::new(["catalog.service.query", "catalog.service.query-tag", "catalog.service.query-tags", "catalog.service.not-found"])
});
/// `/v1/health/service/`.
pub(super) static HEALTH: LazyLock<Asked> = LazyLock::new(|| {
    Asked::new(["health.service.query", "health.service.query-tag", "health.service.query-tags", "health.service.not-found"])
});

/// What a question counted: the same question counts the same again.
#[derive(Debug)]
pub(super) struct Counted {
    asked: &'static Asked,
    known: Option<Arc<Counters>>,
    tags: usize,
    found: bool,
}

impl Counted {
    /// The question was asked once more.
    pub(super) fn again(&self) {
        self.count(|| OTHERS.to_owned());
    }

    fn count(&self, label: impl Fn() -> String) {
        let counters = self.known.as_deref().unwrap_or(&self.asked.others);
        for kind in [Some(0), (self.tags > 0).then_some(self.tags.min(2)), (!self.found).then_some(3)].into_iter().flatten() {
            let counter = || metrics::counter!(self.asked.names[kind], "service" => label());
            counters[kind].get_or_init(counter).increment(1);
        }
    }
}

impl Asked {
    fn new(names: [&'static str; 4]) -> Self {
        Self { names, told: RwLock::default(), others: Counters::default() }
    }

    /// A service was asked for, with so many tags, and was found or not.
    pub(super) fn count(&'static self, service: &ServiceName, tags: usize, found: bool) -> Counted {
        let known = self.told.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        let known = known.or_else(|| if found { self.learn(service) } else { None });
        let label = if known.is_some() { service.as_str() } else { OTHERS };
        let counted = Counted { asked: self, known, tags, found };
        counted.count(|| label.to_owned());
        counted
    }

    /// Tells a service apart from now on, if there is room.
    fn learn(&self, service: &ServiceName) -> Option<Arc<Counters>> {
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        let room = told.len() < SERVICES_MAX || told.contains_key(service);
        room.then(|| told.entry(service.clone()).or_default().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_that_are_there_are_told_apart_and_never_too_many() {
        static ASKED: LazyLock<Asked> = LazyLock::new(|| Asked::new(["q", "t", "s", "n"]));
        let asked = &*ASKED;
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
