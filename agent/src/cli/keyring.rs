//! `keyring`: the keys of gossip at all members, listed and changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::print::{Format, Out};
use super::remote::AgentArgs;
use super::table::tame;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Keyring {
    /// list, install, use or remove; the same as the flags of these names.
    #[arg(value_name = "ACTION")]
    action: Option<String>,

    /// The key, as keygen prints it.
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// Show each key, and how many members take it.
    #[arg(long)]
    list: bool,

    /// Show each key that members send with, and how many do.
    #[arg(long)]
    list_primary: bool,

    /// Let all members take a further key.
    #[arg(long, value_name = "KEY")]
    install: Option<String>,

    /// Let all members send with a key that they take.
    #[arg(long = "use", value_name = "KEY")]
    uses: Option<String>,

    /// Let no member take a key any more; not the one they send with.
    #[arg(long, value_name = "KEY")]
    remove: Option<String>,

    /// Accepted for Consul's sake: members are asked directly.
    #[arg(long, value_name = "N")]
    relay_factor: Option<u8>,

    /// List the keys of the asked agent alone.
    #[arg(long)]
    local_only: bool,

    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    agent: AgentArgs,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    List { primary: bool },
    Change { method: Method, key: String, done: &'static str },
}

/// A pool's keys as the API gives them; what is not printed is kept for JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    #[serde(default, rename = "WAN")]
    wan: bool,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    keys: BTreeMap<String, u64>,
    #[serde(default)]
    primary_keys: BTreeMap<String, u64>,
    #[serde(default)]
    num_nodes: u64,
    #[serde(default)]
    messages: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    key: String,
}

impl Keyring {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let action = self.asked()?;
        let mut target = Target::at("/v1/operator/keyring");
        if let Some(factor) = self.relay_factor {
            target = target.param("relay-factor", &factor.to_string());
        }
        if self.local_only {
            target = target.param("local-only", "true");
        }
        let mut client = Client::new(&self.agent)?;
        match action {
            Action::Change { method, key, done } => {
                let body = serde_json::to_vec(&Body { key }).map_err(|error| Error::Usage(error.to_string()))?;
                client.ask(method, &target, Bytes::from(body)).await?.done()?;
                out.line(done)
            }
            Action::List { primary } => {
                let pools: Vec<Pool> = client.get(&target).await?.json()?;
                if self.format == Format::Json {
                    return out.json(&pools);
                }
                for (at, pool) in pools.iter().enumerate() {
                    if at > 0 {
                        out.line("")?;
                    }
                    pool.print(primary, out)?;
                }
                Ok(())
            }
        }
    }

    /// The one thing that is asked for.
    fn asked(&self) -> Result<Action, Error> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        let change = |method, key: &String, done| Action::Change { method, key: key.clone(), done };
        let mut asked = Vec::new();
        let mut flags = |word: &str, key: Option<&String>| match (word, key) {
            ("install", Some(key)) => asked.push(change(Method::POST, key, "Key installed")),
            ("use", Some(key)) => asked.push(change(Method::PUT, key, "Key is the one to send with")),
            ("remove", Some(key)) => asked.push(change(Method::DELETE, key, "Key removed")),
            _ => {}
        };
        flags("install", self.install.as_ref());
        flags("use", self.uses.as_ref());
        flags("remove", self.remove.as_ref());
        match (self.action.as_deref(), &self.key) {
            (Some("install" | "use" | "remove"), None) => return usage("Name the key, as `keygen` prints it"),
            (Some(word @ ("install" | "use" | "remove")), key) => flags(word, key.as_ref()),
            (Some("list"), Some(_)) => return usage("list takes no key"),
            (Some("list") | None, _) => {}
            (Some(other), _) => {
                return Err(Error::Usage(format!("{other:?} is none of list, install, use, remove (flags stand before them)")));
            }
        }
        if self.list || self.action.as_deref() == Some("list") || self.list_primary {
            asked.push(Action::List { primary: self.list_primary });
        }
        match (asked.pop(), asked.is_empty()) {
            (Some(action), true) => Ok(action),
            (Some(_), false) => usage("One thing at a time: list, install, use or remove"),
            (None, _) => usage("Say what to do: list, install KEY, use KEY or remove KEY"),
        }
    }
}

impl Pool {
    fn print(&self, primary: bool, out: &mut Out) -> Result<(), Error> {
        match self.wan {
            true => out.line("WAN:")?,
            false => out.line(format_args!("{} (LAN):", tame(&self.datacenter)))?,
        }
        for (node, message) in self.messages.iter().flatten() {
            out.line(format_args!("  {}: {}", tame(node), tame(message)))?;
        }
        for (key, members) in if primary { &self.primary_keys } else { &self.keys } {
            out.line(format_args!("  {} [{members}/{}]", tame(key), self.num_nodes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn asked(line: &[&str]) -> Result<Action, String> {
        let command = Keyring::augment_args(clap::Command::new("keyring"));
        let matches = command.try_get_matches_from(["keyring"].iter().chain(line)).unwrap();
        Keyring::from_arg_matches(&matches).unwrap().asked().map_err(|error| error.to_string())
    }

    #[test]
    fn words_and_flags_mean_the_same() {
        let change = |method, done| Ok(Action::Change { method, key: "k".to_owned(), done });
        for line in [&["install", "k"][..], &["--install=k"]] {
            assert_eq!(asked(line), change(Method::POST, "Key installed"));
        }
        assert_eq!(asked(&["--use=k"]), asked(&["use", "k"]));
        assert_eq!(asked(&["--remove=k"]), asked(&["remove", "k"]));
        assert_eq!(asked(&["list"]), Ok(Action::List { primary: false }));
        assert_eq!(asked(&["--list-primary"]), Ok(Action::List { primary: true }));
    }

    #[test]
    fn what_is_asked_must_be_one_thing() {
        assert!(asked(&[]).unwrap_err().starts_with("Say what to do"));
        assert!(asked(&["--list", "--install=k"]).unwrap_err().starts_with("One thing at a time"));
        assert!(asked(&["install"]).unwrap_err().starts_with("Name the key"));
        assert!(asked(&["list", "k"]).unwrap_err().starts_with("list takes no key"));
        assert!(asked(&["wipe"]).unwrap_err().contains("is none of list"));
    }
}
