//! Listeners of the HTTP door: the error says which listener and which address.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::{Addresses, Listen, UnixSockets};
use crate::door::http::Listener;

/// Connections that wait to be accepted: a burst of readers that come back together.
const BACKLOG: i32 = 1024;

/// Opens all HTTP listeners of the configuration.
pub(super) fn http(addresses: &Addresses) -> Result<Vec<Listener>> {
    let open = |listen: &Listen| {
        match listen {
            Listen::Tcp(address) => tcp(*address, &addresses.http).map(Listener::Tcp),
            Listen::Unix(path) => unix(path, &addresses.unix_sockets).map(Listener::Unix),
        }
        .with_context(|| format!("HTTP cannot listen on {listen}"))
    };
    addresses.http.iter().map(open).collect()
}

/// Listens on an address. `[::]` is every address of both families, as with Consul, but for what is listened on `beside` it.
pub(super) fn tcp(address: SocketAddr, beside: &[Listen]) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        let ipv4 = |other: &Listen| matches!(other, Listen::Tcp(other) if other.is_ipv4() && other.port() == address.port());
        socket.set_only_v6(!address.ip().is_unspecified() || beside.iter().any(ipv4))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// A socket file that a former run left behind is taken over; one that somebody still listens on is not.
fn unix(path: &Path, owner: &UnixSockets) -> Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!("another process listens on it");
        }
        std::fs::remove_file(path).context("an old socket file cannot be removed")?;
    }
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = owner.mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("its mode cannot be set")?;
    }
    if owner.user.is_some() || owner.group.is_some() {
        let user = owner.user.as_deref().map(|name| id(name, "/etc/passwd")).transpose()?;
        let group = owner.group.as_deref().map(|name| id(name, "/etc/group")).transpose()?;
        std::os::unix::fs::chown(path, user, group).context("its owner cannot be set")?;
    }
    Ok(listener)
}

/// A number, or the number of a name in `passwd` or `group`.
fn id(name: &str, file: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let row = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|row| row.first() == Some(&name));
    row.and_then(|row| row.get(2)?.parse().ok()).with_context(|| format!("{file} knows no {name:?}"))
}
