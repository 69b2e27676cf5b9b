//! Whole clusters in virtual time: every agent a core, the network a queue.

mod admission;
mod detect;
mod fire;
mod lives;
mod net;
mod noise;
mod place;
mod rivals;
mod sweep;
