//! Which redirects an HTTP check follows.
//!
//! Whoever answers a check decides where it goes next, so by default it goes nowhere else: the same host and port, and from
//! http to https on that host. An agent inside a network is otherwise a way to its other services (CVE-2022-29153).

use http::{StatusCode, Uri};

/// How many are followed one after another, as Go's client.
pub(super) const REDIRECTS_MAX: usize = 10;

/// What to do about an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the answer.
    Judge,
    /// It leads to a place where this check does not go: it is the answer, and why is told.
    Refuse(String),
    /// Ask there.
    Follow(Uri),
}

pub(super) fn next(from: &Uri, status: StatusCode, location: Option<&str>, foreign: bool) -> Next {
    let (301 | 302 | 303 | 307 | 308, Some(location)) = (status.as_u16(), location) else { return Next::Judge };
    match resolve(from, location) {
        None => Next::Refuse(format!("redirect to {location:?} cannot be read")),
        Some(to) if !matches!(to.scheme_str(), Some("http" | "https")) => {
            Next::Refuse(format!("redirect to {location:?} is not followed: no http"))
        }
        Some(to) if !foreign && !stays(from, &to) => {
            Next::Refuse(format!("redirect to {location:?} is not followed: another host"))
        }
        Some(to) => Next::Follow(to),
    }
}

/// Whether the method becomes GET and the body is left out, as browsers and Go do.
pub(super) fn becomes_get(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301..=303)
}

/// Whether both are the same host; what was meant for one is not told to another.
pub(super) fn same_host(from: &Uri, to: &Uri) -> bool {
    match (from.host(), to.host()) {
        (Some(from), Some(to)) => from.eq_ignore_ascii_case(to),
        _ => false,
    }
}

fn stays(from: &Uri, to: &Uri) -> bool {
    let upgraded = from.scheme_str() == Some("http") && to.scheme_str() == Some("https");
    same_host(from, to) && (upgraded || (from.scheme() == to.scheme() && port(from) == port(to)))
}

/// The port a URL means.
pub(super) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Resolves a location against the URL it came from (RFC 3986 5.2).
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if has_scheme(location) {
        return location.parse().ok().filter(|uri: &Uri| uri.host().is_some());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{}://{rest}", from.scheme_str()?).parse().ok();
    }
    let target = match location.chars().next() {
        None => from.path_and_query()?.to_string(),
        Some('?') => format!("{}{location}", from.path()),
        Some('/') => without_dots(location),
        Some(_) => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{location}"))
        }
    };
    Uri::builder().scheme(from.scheme_str()?).authority(from.authority()?.as_str()).path_and_query(target).build().ok()
}

fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn without_dots(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(from: &str, location: &str) -> Option<String> {
        match next(&from.parse().unwrap(), StatusCode::FOUND, Some(location), false) {
            Next::Follow(to) => Some(to.to_string()),
            _ => None,
        }
    }

    #[test]
    fn on_its_host_it_follows_however_the_place_is_written() {
        let from = "http://web:8080/a/b?x=1";
        for (location, to) in [
            ("/login", "http://web:8080/login"),
            ("c?y=2", "http://web:8080/a/c?y=2"),
            ("../c/./d", "http://web:8080/c/d"),
            ("../../../..", "http://web:8080/"),
            ("?y", "http://web:8080/a/b?y"),
            ("//web:8080/c", "http://web:8080/c"),
            ("http://WEB:8080/c#part", "http://WEB:8080/c"),
            ("https://web/c", "https://web/c"),
            ("https://web:8443/c", "https://web:8443/c"),
        ] {
            assert_eq!(go(from, location).as_deref(), Some(to), "{location}");
        }
    }

    #[test]
    fn to_other_hosts_ports_and_schemes_it_does_not_follow() {
        for (from, location) in [
            ("http://web:8080/", "http://169.254.169.254/latest"),
            ("http://web:8080/", "http://web:9090/"),
            ("http://web/", "//other/"),
            ("http://web/", "http://web@other/"),
            ("https://web/", "http://web/"),
            ("http://web/", "file:///etc/passwd"),
            ("http://web/", "gopher://web/"),
            ("http://web/", "javascript:alert(1)"),
            ("http://web/", "http://"),
            ("http://web/", "/ spaced"),
        ] {
            assert_eq!(go(from, location), None, "{location}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_location_says_it_stays_on_its_host(location in "(https?:)?/{0,2}(web)?[@:./?#a-z0-9\\PC]{0,20}") {
            if let Some(to) = go("https://web/a/b", &location) {
                let to: Uri = to.parse().unwrap();
                proptest::prop_assert_eq!((to.scheme_str(), to.host(), port(&to)), (Some("https"), Some("web"), 443));
            }
        }
    }

    #[test]
    fn the_default_port_is_the_same_port() {
        assert_eq!(go("http://web/", "http://web:80/x").as_deref(), Some("http://web:80/x"));
    }

    #[test]
    fn asked_to_it_follows_to_other_hosts_but_to_no_other_scheme() {
        let from = "http://web/".parse().unwrap();
        assert!(matches!(next(&from, StatusCode::FOUND, Some("http://other/"), true), Next::Follow(_)));
        assert!(matches!(next(&from, StatusCode::FOUND, Some("file://other/"), true), Next::Refuse(_)));
        assert_eq!(next(&from, StatusCode::FOUND, None, true), Next::Judge);
        assert_eq!(next(&from, StatusCode::OK, Some("http://other/"), true), Next::Judge);
    }
}
