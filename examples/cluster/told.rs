//! What may be typed: something to do, and the agents to do it to.

use anyhow::{Result, bail};

use crate::agents::{Act, Agents};

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// An empty line.
    Nothing,
    /// Something for these agents.
    Do(Act, Vec<String>),
    /// End all of it.
    Quit,
}

/// What one may type.
pub const HELP: &str = "kill, stop or start: leader, server-1, client-2, servers, clients, all; or quit";

impl Told {
    /// Reads a line.
    pub fn read(line: &str, agents: &Agents, leader: Option<&str>) -> Result<Self> {
        let mut words = line.split_whitespace();
        let act = match words.next() {
            None => return Ok(Told::Nothing),
            Some("quit" | "exit") => return Ok(Told::Quit),
            Some("kill") => Act::Kill,
            Some("stop") => Act::Stop,
            Some("start") => Act::Start,
            Some(other) => bail!("{other:?} is nothing that can be done here: {HELP}"),
        };
        let mut names = Vec::new();
        for word in words {
            let of = |server: Option<bool>| agents.all().iter().filter(move |agent| server.is_none_or(|is| is == agent.server));
            match word {
                "all" => names.extend(of(None).map(|agent| agent.name.clone())),
                "servers" => names.extend(of(Some(true)).map(|agent| agent.name.clone())),
                "clients" => names.extend(of(Some(false)).map(|agent| agent.name.clone())),
                "leader" => match leader {
                    Some(leader) => names.push(leader.to_owned()),
                    None => bail!("nobody leads now"),
                },
                name if of(None).any(|agent| agent.name == name) => names.push(name.to_owned()),
                other => bail!("nobody is called {other:?}: {HELP}"),
            }
        }
        if names.is_empty() {
            bail!("say whom: {HELP}");
        }
        Ok(Told::Do(act, names))
    }
}
