//! muster

pub mod raft;
