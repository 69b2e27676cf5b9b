//! A check that is as others are.

use muster_catalog::{Health, Status};

/// The verdict of an alias over the checks it stands for, each with its name, status and output: the first critical one, else
/// the first that warns.
pub fn alias<'a>(checks: impl IntoIterator<Item = (&'a str, &'a Status, &'a str)>) -> (Status, String) {
    let mut worst: Option<(Health, &str, &str)> = None;
    for (name, status, output) in checks {
        let health = status.health();
        if worst.is_none_or(|(than, ..)| health > than) {
            worst = Some((health, name, output));
        }
    }
    match worst {
        None => (Status::Passing, "No checks found.".to_owned()),
        Some((Health::Passing, ..)) => (Status::Passing, "All checks passing.".to_owned()),
        Some((Health::Warning, name, output)) => (Status::Warning, failing(name, output)),
        Some((Health::Critical, name, output)) => (Status::Critical, failing(name, output)),
    }
}

fn failing(name: &str, output: &str) -> String {
    format!("Aliased check {name:?} failing: {output}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_the_worst_of_them() {
        let (passing, warning, critical) = (Status::Passing, Status::Warning, Status::Critical);
        let one = [("a", &passing, "fine")];
        assert_eq!(alias(one), (Status::Passing, "All checks passing.".into()));
        let two = [("a", &passing, "fine"), ("source ttl", &warning, "meh")];
        assert_eq!(alias(two), (Status::Warning, "Aliased check \"source ttl\" failing: meh".into()));
        let all = [("b", &warning, "meh"), ("c", &critical, "gone"), ("d", &critical, "too"), ("a", &passing, "fine")];
        assert_eq!(alias(all), (Status::Critical, "Aliased check \"c\" failing: gone".into()));
    }

    #[test]
    fn without_checks_it_passes() {
        assert_eq!(alias([]), (Status::Passing, "No checks found.".into()));
    }
}
