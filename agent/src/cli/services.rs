//! `services register|deregister`: what the asked agent runs, from definition files or flags.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::definition;
use super::error::Error;
use super::print::{self, Out};
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Register the services of definition files, or one that flags describe
    Register(Register),
    /// Remove the services of definition files, or one by its ID
    Deregister(Deregister),
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    /// The service's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Its ID on this agent. Without it the name.
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Where it listens, if not at the node's address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,

    /// The port it listens on.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// A tag; may be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Metadata; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,

    /// An address by a name, such as lan or wan; may be repeated.
    #[arg(long, value_name = "NAME=ADDRESS[:PORT]", value_parser = pair)]
    tagged_address: Vec<(String, String)>,

    /// What kind of service it is; empty for ordinary ones.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// Definition files: .json, .hcl or .toml with `service` or `services`.
    #[arg(value_name = "FILE", conflicts_with_all = ["name", "id", "address", "port", "tag", "meta", "tagged_address", "kind"])]
    files: Vec<PathBuf>,

    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Deregister {
    /// The ID of the service.
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Definition files: .json, .hcl or .toml with `service` or `services`.
    #[arg(value_name = "FILE", conflicts_with = "id")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    agent: AgentArgs,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match self {
            Command::Register(register) => register.run(out).await,
            Command::Deregister(deregister) => deregister.run(out).await,
        }
    }
}

impl Register {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let services = if self.files.is_empty() { vec![self.described()?] } else { read(&self.files)? };
        let mut client = Client::new(&self.agent)?;
        for service in services {
            let body = Value::Object(service.clone()).to_string();
            client.put(&Target::at("/v1/agent/service/register"), Bytes::from(body)).await?.done()?;
            out.line(format_args!("Registered service: {}", text(&service, "Name")))?;
        }
        Ok(())
    }

    fn described(&self) -> Result<Map<String, Value>, Error> {
        let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(Error::Usage("Nothing to register: name definition files, or a service by -name".to_owned()));
        };
        let mut service = Map::new();
        let mut set = |key: &str, value: Value| service.insert(key.to_owned(), value);
        set("Name", json!(name));
        if let Some(id) = &self.id {
            set("ID", json!(id));
        }
        if let Some(kind) = &self.kind {
            set("Kind", json!(kind));
        }
        if let Some(address) = &self.address {
            set("Address", json!(address));
        }
        if let Some(port) = self.port {
            set("Port", json!(port));
        }
        if !self.tag.is_empty() {
            set("Tags", json!(self.tag));
        }
        if !self.meta.is_empty() {
            set("Meta", self.meta.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
        }
        if !self.tagged_address.is_empty() {
            let addresses: Result<Map<String, Value>, Error> =
                self.tagged_address.iter().map(|(name, address)| Ok((name.clone(), tagged(address)?))).collect();
            set("TaggedAddresses", Value::Object(addresses?));
        }
        Ok(service)
    }
}

impl Deregister {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let ids = match &self.id {
            Some(id) => vec![id.clone()],
            None if self.files.is_empty() => {
                return Err(Error::Usage("Nothing to remove: name definition files, or a service by -id".to_owned()));
            }
            None => read(&self.files)?.iter().map(id_of).collect(),
        };
        let mut client = Client::new(&self.agent)?;
        for id in ids {
            client.put(&Target::at("/v1/agent/service/deregister/").name(&id), Bytes::new()).await?.done()?;
            out.line(format_args!("Deregistered service: {id}"))?;
        }
        Ok(())
    }
}

/// All services of all files, before any is sent.
fn read(files: &[PathBuf]) -> Result<Vec<Map<String, Value>>, Error> {
    let mut all = Vec::new();
    for file in files {
        let definitions = definition::read(file)?;
        for warning in definitions.warnings {
            print::note(format_args!("Warning: {warning}"));
        }
        all.extend(definitions.services);
    }
    Ok(all)
}

fn id_of(service: &Map<String, Value>) -> String {
    match text(service, "ID") {
        "" => text(service, "Name").to_owned(),
        id => id.to_owned(),
    }
}

fn text<'s>(service: &'s Map<String, Value>, key: &str) -> &'s str {
    service.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `ADDRESS` or `ADDRESS:PORT`, an IPv6 address with a port in brackets.
fn tagged(written: &str) -> Result<Value, Error> {
    let bare = |address: &str| address.trim_start_matches('[').trim_end_matches(']').to_owned();
    match written.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            let port: u16 =
                port.parse().map_err(|_| Error::Usage(format!("-tagged-address {written:?} has no port that is a number")))?;
            Ok(json!({ "Address": bare(address), "Port": port }))
        }
        _ => Ok(json!({ "Address": bare(written) })),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_address_has_a_port_only_where_one_is_written() {
        assert_eq!(tagged("1.2.3.4").expect("an address"), json!({ "Address": "1.2.3.4" }));
        assert_eq!(tagged("1.2.3.4:80").expect("an address"), json!({ "Address": "1.2.3.4", "Port": 80 }));
        assert_eq!(tagged("::1").expect("an address"), json!({ "Address": "::1" }));
        assert_eq!(tagged("[::1]:80").expect("an address"), json!({ "Address": "::1", "Port": 80 }));
        assert!(tagged("a:b").is_err());
    }
}
