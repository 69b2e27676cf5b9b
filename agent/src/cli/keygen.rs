//! `keygen`: a new key of gossip.

use clap::Args;
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::done::Done;
use super::error::Error;
use super::print::Out;
use crate::config::{GossipKey, NEW_KEY_BYTES};

#[derive(Args, Debug)]
pub(crate) struct Keygen {}

impl Keygen {
    pub(crate) fn run(self, out: &mut Out) -> Result<Done, Error> {
        let mut bytes = [0; NEW_KEY_BYTES];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| Error::Usage(format!("This host gives the program no random bytes: {error}")))?;
        let key = GossipKey::new(bytes).expect("a key has as many bytes");
        out.line(key.base64()).map(|()| Done::Well)
    }
}
