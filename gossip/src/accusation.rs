//! Who holds whom silent, on what ground, and since when.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::wire::{Malformed, Put, Reader};

/// Accusers of one member that are kept and told: three in good health decide, two more are spare.
pub const ACCUSERS_MAX: usize = 5;

/// One member's word that another is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accusation {
    /// The accuser.
    pub by: Uuid,
    /// What it tried.
    pub ground: Ground,
    /// How badly the accuser fared itself then, 0 to 7: from 3 on its word hastens nothing.
    pub health: u8,
    /// Since when it holds the member silent, by this agent's clock.
    pub at: Instant,
}

/// What an accuser tried before it accused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Ground {
    /// Its own pings were not answered, and there was nobody else to ask.
    Direct = 1,
    /// Nor were the pings of other members.
    Indirect = 2,
    /// Nor did the member answer over TCP.
    Tcp = 3,
    /// The member's port refused connections.
    Refused = 4,
    /// The member's feed fell silent, and then nothing else was answered.
    Feed = 5,
}

impl Ground {
    const ALL: [Self; 5] = [Self::Direct, Self::Indirect, Self::Tcp, Self::Refused, Self::Feed];

    /// A few words for it, for logs and causes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Indirect => "indirect",
            Self::Tcp => "TCP",
            Self::Refused => "refused",
            Self::Feed => "feed silence",
        }
    }
}

/// An accusation as it travels: its age, since clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) by: Uuid,
    pub(crate) ground: Ground,
    pub(crate) health: u8,
    /// In milliseconds.
    pub(crate) age: u32,
}

impl Accusation {
    pub(crate) fn charge(&self, now: Instant) -> Charge {
        let age = u32::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u32::MAX);
        Charge { by: self.by, ground: self.ground, health: self.health, age }
    }
}

impl Charge {
    pub(crate) fn accusation(&self, now: Instant) -> Accusation {
        let at = now.checked_sub(Duration::from_millis(self.age.into())).unwrap_or(now);
        Accusation { by: self.by, ground: self.ground, health: self.health, at }
    }

    pub(crate) fn put(&self, to: &mut Vec<u8>) {
        to.put_uuid(self.by);
        to.push(self.ground as u8);
        to.push(self.health);
        to.extend_from_slice(&self.age.to_be_bytes());
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (by, ground, health, age) = (from.uuid()?, from.u8()?, from.u8()?, from.u32()?);
        let ground = Ground::ALL.into_iter().find(|known| *known as u8 == ground).ok_or(Malformed)?;
        Ok(Self { by, ground, health, age })
    }
}
