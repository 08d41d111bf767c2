//! The agent against an engine and an API in memory.

mod docker;
mod fake_api;
mod life;
mod volumes;
mod whole_life;
mod world;
