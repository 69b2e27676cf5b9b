//! What a fuzzer may throw at this program: texts of configuration, bodies and words of HTTP, calls of other agents, snapshots.
//! Built for tests and fuzzers alone.

pub use crate::config::fuzz::{hcl, json, toml};
pub use crate::desk::fuzz::snapshot;
pub use crate::door::http::fuzz::{body, filter, http};
use crate::rpc::{Hello, Method, Refusal};

/// A call of another agent: the first byte says which, and the rest is its body.
pub fn rpc(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => drop(Hello::decode(rest)),
        1 => drop(Refusal::decode(rest)),
        2 => drop(std::str::from_utf8(rest).map(Method::of)),
        _ => crate::raft::fuzz(rest),
    }
    crate::desk::fuzz::call(*kind, rest);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_is_read_without_a_panic() {
        crate::corpus::replay("rpc", super::rpc);
        crate::corpus::replay("snapshot", super::snapshot);
        crate::corpus::replay("filter", super::filter);
        crate::corpus::replay("http", super::http);
        crate::corpus::replay("body", super::body);
        crate::corpus::replay("hcl", super::hcl);
        crate::corpus::replay("toml", super::toml);
        crate::corpus::replay("json", super::json);
    }
}
