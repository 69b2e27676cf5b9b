//! Configuration: what was written in files and flags, and what it means.

mod duration;
mod fault;
mod hcl;
mod json;
mod toml;
mod tree;
