//! How many requests a server takes over HTTP (`limits.request_limits`).

use super::error::HttpError;
use crate::config::RequestLimits;
use crate::rpc::Rate;

/// What may come at once is so many times what may come in a second (Consul's).
const BURST: f64 = 10.0;
/// Requests of this agent about itself, which no other server has part in: its health is not to depend on its load.
const OWN: [&str; 2] = ["/v1/agent/", "/v1/status/"];

/// Buckets for reads and for writes.
#[derive(Debug)]
pub(super) struct Rates {
    limits: RequestLimits,
    reads: Rate,
    writes: Rate,
}

impl Rates {
    pub(super) fn new(limits: RequestLimits) -> Self {
        let bucket = |rate: Option<f64>| Rate::new(rate, rate.map_or(1, |rate| (rate * BURST).max(1.0) as u32));
        Self { limits, reads: bucket(limits.reads), writes: bucket(limits.writes) }
    }

    /// Counts a request; too many are refused in Consul's words, or only counted.
    pub(super) fn admit(&self, path: &str, reads: bool) -> Result<(), HttpError> {
        let Some(refuses) = self.limits.refuses else { return Ok(()) };
        let bucket = if reads { &self.reads } else { &self.writes };
        if OWN.iter().any(|own| path.starts_with(own)) || bucket.take() {
            return Ok(());
        }
        metrics::counter!("rpc.rate_limit.exceeded").increment(1);
        match (refuses, reads) {
            (false, _) => Ok(()),
            (true, true) => Err(HttpError::TooOften("rate limit exceeded, try again later or against a different server")),
            (true, false) => Err(HttpError::TooOftenWritten(
                "rate limit exceeded for operation that can only be performed by the leader, try again later",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_burst_is_refused_or_counted_as_the_mode_says() {
        let limits = RequestLimits { refuses: Some(true), reads: Some(0.2), writes: None };
        let read = |rates: &Rates| rates.admit("/v1/kv/a", true).is_ok();
        let rates = Rates::new(limits);
        assert_eq!([read(&rates), read(&rates), read(&rates)], [true, true, false]);
        assert!(rates.admit("/v1/kv/a", false).is_ok() && rates.admit("/v1/agent/self", true).is_ok());
        assert!(rates.admit("/v1/kv/a", true).unwrap_err().to_string().starts_with("rate limit exceeded, try again"));
        for refuses in [None, Some(false)] {
            let rates = Rates::new(RequestLimits { refuses, ..limits });
            assert!((0..5).all(|_| read(&rates)), "{refuses:?}");
        }
    }
}
