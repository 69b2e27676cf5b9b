//! From what is written to addresses: host names and SRV names are looked up as the host's resolver is set.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::timeout;

use crate::config::JoinAddress;

/// Time for one name, whatever the host's resolver is set to: longer than one lost packet and its repetition (5 s).
const RESOLVE_WAIT: Duration = Duration::from_secs(6);
/// Names that are looked up at once.
const NAMES_AT_ONCE: usize = 16;
/// Addresses taken from one name: one that answers is enough.
const ADDRESSES_MAX: usize = 64;

/// What each of them stands for; `port` is meant where none is written.
pub(super) async fn all(addresses: &[JoinAddress], port: u16) -> Vec<(JoinAddress, Result<Vec<SocketAddr>, String>)> {
    // Made anew each time: the host's settings may have changed, and nothing is to be held between two attempts.
    let named = addresses.iter().any(|address| !matches!(address, JoinAddress::Address(..)));
    let names = named.then(resolver).transpose();
    let found = stream::iter(addresses.to_vec()).map(|asked| {
        let names = &names;
        async move {
            let found = match (&asked, names) {
                (JoinAddress::Address(ip, own), _) => Ok(vec![SocketAddr::new(*ip, own.unwrap_or(port))]),
                (_, Err(error)) => Err(error.to_string()),
                (_, Ok(None)) => Err("no resolver".to_owned()),
                (named, Ok(Some(names))) => match timeout(RESOLVE_WAIT, one(names, named, port)).await {
                    Ok(Ok(found)) if found.is_empty() => Err("its name has no addresses".to_owned()),
                    Ok(found) => found.map_err(|error| error.to_string()),
                    Err(_) => Err("its name could not be resolved in time".to_owned()),
                },
            };
            (asked, found)
        }
    });
    found.buffered(NAMES_AT_ONCE).collect().await
}

/// As the host's `resolv.conf` and `hosts` say; with `hosts` alone where no name server is named.
fn resolver() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

/// A resolver that asks this name server alone.
#[cfg(test)]
pub(super) fn at(server: SocketAddr) -> TokioResolver {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
}

pub(super) async fn one(names: &TokioResolver, asked: &JoinAddress, port: u16) -> Result<Vec<SocketAddr>, NetError> {
    match asked {
        JoinAddress::Address(ip, own) => Ok(vec![SocketAddr::new(*ip, own.unwrap_or(port))]),
        JoinAddress::Host(name, own) => Ok(host(names, Name::from_ascii(name)?, own.unwrap_or(port)).await?),
        JoinAddress::Service(name) => {
            let lookup = names.srv_lookup(Name::from_ascii(name)?).await?;
            let mut records: Vec<_> = lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some((srv.priority, u16::MAX - srv.weight, srv.target.clone(), srv.port)),
                    _ => None,
                })
                .collect();
            records.sort();
            records.truncate(ADDRESSES_MAX);
            let targets = stream::iter(records)
                .map(|(_, _, target, port)| async move { host(names, target, port).await })
                .buffered(NAMES_AT_ONCE)
                .collect::<Vec<_>>()
                .await;
            // A target without addresses is a pity while others have some.
            let (good, mut bad): (Vec<_>, Vec<_>) = targets.into_iter().partition(Result::is_ok);
            match (good.is_empty(), bad.pop()) {
                (true, Some(error)) => error,
                _ => Ok(good.into_iter().flatten().flatten().take(ADDRESSES_MAX).collect()),
            }
        }
    }
}

async fn host(names: &TokioResolver, name: Name, port: u16) -> Result<Vec<SocketAddr>, NetError> {
    let found = names.lookup_ip(name).await?;
    let ips: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX).collect();
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}
