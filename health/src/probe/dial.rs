//! A connection to a host and port, by the deadline; errors are worded as Go's.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Deadline;
use crate::text;

/// Names asked for at once. The system's resolver cannot be broken off: each look-up holds a thread until the resolver gives up,
/// perhaps long after the check has; a dead resolver must not pile up threads.
const LOOKUPS_MAX: usize = 32;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The resolver, with its bound.
#[derive(Debug)]
pub(crate) struct Names {
    lookups: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Names {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let refused = |why: &str| format!("dial tcp: lookup {host}: {why}");
        let permit = self.lookups.clone().acquire_owned().await.map_err(|_| refused("shutting down"))?;
        let target = (host.to_owned(), port);
        let looked_up = tokio::task::spawn_blocking(move || {
            let found = target.to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>());
            drop(permit);
            found
        });
        match looked_up.await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            Ok(_) => Err(refused("no such host")),
            Err(_) => Err(refused("shutting down")),
        }
    }
}

/// Connects to a host by its name or address.
pub(super) async fn connect(host: &str, port: u16, names: &Names, deadline: &Deadline) -> Result<TcpStream, String> {
    first_of(&addresses(host, port, names, deadline).await?, deadline).await
}

/// The addresses of a host.
pub(super) async fn addresses(host: &str, port: u16, names: &Names, deadline: &Deadline) -> Result<Vec<SocketAddr>, String> {
    let found = deadline.bound(names.addresses(host, port)).await;
    found.unwrap_or_else(|_| Err(format!("dial tcp: lookup {host}: i/o timeout")))
}

/// Connects to the first address that answers; each has its share of the time that is left.
async fn first_of(addresses: &[SocketAddr], deadline: &Deadline) -> Result<TcpStream, String> {
    let mut why = String::new();
    for (n, address) in addresses.iter().enumerate() {
        let share = deadline.left() / u32::try_from(addresses.len() - n).unwrap_or(1);
        match deadline.bound_by(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("dial tcp {address}: connect: {}", text::system(&error)),
            Err(_) => why = format!("dial tcp {address}: i/o timeout"),
        }
    }
    Err(why)
}

/// Takes `host:port` or `[host]:port` apart. Without a host it is this one.
pub(super) fn split(address: &str) -> Result<(&str, u16), String> {
    let refused = |why: &str| format!("dial tcp: address {address}: {why}");
    let (host, port) = address.rsplit_once(':').ok_or_else(|| refused("missing port in address"))?;
    let bare = unbracketed(host);
    if bare.len() == host.len() && host.contains(':') {
        return Err(refused("too many colons in address"));
    }
    let port = port.parse().map_err(|_| refused("invalid port"))?;
    Ok((if bare.is_empty() { "localhost" } else { bare }, port))
}

/// An IPv6 address without the brackets it has beside a port.
pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_several_addresses_the_first_that_answers_counts() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let v6 = std::net::TcpListener::bind("[::1]:0");
        let open = v6.or_else(|_| std::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let open_at = open.local_addr().unwrap();
        let deadline = Deadline::new(std::time::Duration::from_secs(5));
        let stream = first_of(&[closed, open_at], &deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open_at);
        let why = first_of(&[closed, closed], &deadline).await.unwrap_err();
        assert_eq!(why, format!("dial tcp {closed}: connect: connection refused"));
    }

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(split("127.0.0.1:80"), Ok(("127.0.0.1", 80)));
        assert_eq!(split("[::1]:80"), Ok(("::1", 80)));
        assert_eq!(split("web.internal:8080"), Ok(("web.internal", 8080)));
        assert_eq!(split(":80"), Ok(("localhost", 80)));
        assert_eq!(split("host").unwrap_err(), "dial tcp: address host: missing port in address");
        assert_eq!(split("::1:80").unwrap_err(), "dial tcp: address ::1:80: too many colons in address");
        assert_eq!(split("host:70000").unwrap_err(), "dial tcp: address host:70000: invalid port");
    }
}
