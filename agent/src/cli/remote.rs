//! Which agent a command talks to, and as whom: the flags and environment variables every command shares.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::Error;
use super::target::Target;

/// Flags of every command that asks an agent.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which agent")]
pub(crate) struct AgentArgs {
    /// The agent's HTTP address: HOST:PORT, http://HOST:PORT or unix:///PATH.
    /// Without it MUSTER_HTTP_ADDR, then CONSUL_HTTP_ADDR, then 127.0.0.1:8500.
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<String>,

    /// The ACL token to send. Without it that of -token-file, then CONSUL_HTTP_TOKEN, then CONSUL_HTTP_TOKEN_FILE.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    /// A file that holds the ACL token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Flags of every command that asks the catalog or the key-value store.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which agent")]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,

    /// The datacenter to ask. Without it the agent's own.
    #[arg(long, value_name = "NAME")]
    datacenter: Option<String>,

    /// Let any server answer, though it may be behind the leader.
    #[arg(long)]
    stale: bool,
}

impl QueryArgs {
    /// The parameters that a reading request gets from these flags.
    pub(crate) fn reading(&self, target: Target) -> Target {
        let target = self.writing(target);
        if self.stale { target.with("stale") } else { target }
    }

    /// The parameters that a writing request gets from these flags.
    pub(crate) fn writing(&self, target: Target) -> Target {
        target.param_if("dc", self.datacenter.as_deref())
    }
}

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The agent to talk to and the token to show it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) address: Address,
    pub(crate) token: Option<String>,
}

/// A token is 36 bytes; a file larger than this is some other file.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

impl Remote {
    pub(crate) fn from_args(args: &AgentArgs) -> Result<Remote, Error> {
        let written = args.http_addr.clone().or_else(|| variable("MUSTER_HTTP_ADDR")).or_else(|| variable("CONSUL_HTTP_ADDR"));
        let tls = variable("CONSUL_HTTP_SSL").is_some_and(|on| matches!(on.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let written = written.unwrap_or_else(|| "127.0.0.1:8500".to_owned());
        if tls && !written.contains("://") {
            return Err(Error::Address {
                address: written,
                fault: "is to be asked over TLS (CONSUL_HTTP_SSL), which is not built yet",
            });
        }
        Ok(Remote { address: Address::parse(&written)?, token: token(args)? })
    }
}

impl Address {
    pub(crate) fn parse(written: &str) -> Result<Address, Error> {
        let refuse = |fault| Error::Address { address: written.to_owned(), fault };
        if let Some(path) = written.strip_prefix("unix://") {
            return if path.is_empty() { Err(refuse("has no path")) } else { Ok(Address::Unix(PathBuf::from(path))) };
        }
        if written.starts_with("https://") {
            return Err(refuse("is to be asked over TLS, which is not built yet"));
        }
        let (rest, port) = match written.strip_prefix("http://") {
            Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), Some(80)),
            None if written.contains("://") => return Err(refuse("has an unknown scheme")),
            None => (written, None),
        };
        if rest.contains(['/', '?', '#', '@']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(refuse("has more than a host and a port in it"));
        }
        let (host, port) = match (rest.rsplit_once(':'), port) {
            // An IPv6 address without a port: its last colon is its own.
            (Some((host, _)), default) if rest.ends_with(']') || (host.contains(':') && !host.ends_with(']')) => {
                (rest, default.ok_or_else(|| refuse("has no port"))?)
            }
            (Some((host, port)), _) => (host, port.parse().map_err(|_| refuse("has no port that is a number up to 65535"))?),
            (None, Some(default)) => (rest, default),
            (None, None) => return Err(refuse("has no port")),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    /// What the `Host` header says.
    pub(crate) fn host(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { .. } => write!(f, "http://{}", self.host()),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn token(args: &AgentArgs) -> Result<Option<String>, Error> {
    if args.token.is_some() {
        return Ok(args.token.clone());
    }
    if let Some(path) = &args.token_file {
        return token_of(path).map(Some);
    }
    if let Some(token) = variable("CONSUL_HTTP_TOKEN") {
        return Ok(Some(token));
    }
    variable("CONSUL_HTTP_TOKEN_FILE").map(|path| token_of(Path::new(&path))).transpose()
}

fn token_of(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(Error::File { path: path.to_owned(), fault: "holds no token".to_owned() }),
        token => Ok(token.to_owned()),
    }
}

/// A variable that is set to nothing counts as not set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn the_forms_consul_takes_are_taken() {
        for (written, meant) in [
            ("127.0.0.1:8500", tcp("127.0.0.1", 8500)),
            ("http://localhost:8500", tcp("localhost", 8500)),
            ("http://localhost:8500/", tcp("localhost", 8500)),
            ("http://consul.example", tcp("consul.example", 80)),
            (":8500", tcp("127.0.0.1", 8500)),
            ("[::1]:8500", tcp("::1", 8500)),
            ("http://[::1]", tcp("::1", 80)),
            ("unix:///run/muster.sock", Address::Unix("/run/muster.sock".into())),
        ] {
            assert_eq!(Address::parse(written).expect(written), meant, "{written}");
        }
        assert_eq!(tcp("::1", 8500).to_string(), "http://[::1]:8500");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_fault() {
        for (written, fault) in [
            ("https://localhost:8501", "TLS"),
            ("ftp://localhost:1", "scheme"),
            ("localhost", "no port"),
            ("::1", "no port"),
            ("[::1]", "no port"),
            ("localhost:http", "number"),
            ("localhost:70000", "number"),
            ("http://a:1/prefix", "more than"),
            ("http://user@a:1", "more than"),
            ("a b:1", "more than"),
            ("unix://", "no path"),
            ("", "no port"),
        ] {
            let error = Address::parse(written).expect_err(written).to_string();
            assert!(error.contains(fault), "{written}: {error}");
        }
    }
}
