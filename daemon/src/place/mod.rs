//! host and address → owner, network, country. Three different things, never mixed.
#![forbid(unsafe_code)]

mod domains;
pub mod ip;

pub use domains::{Domains, Error, Row, address, public_suffix, registrable};

/// What is known of a host name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The name, lower case.
    pub name: String,
    /// Registrable domain (public-suffix aware), when the name has one.
    pub domain: Option<String>,
    /// Who owns the domain: `Xiaomi`.
    pub owner: Option<String>,
    /// The owner's country, ISO 3166-1 alpha-2.
    pub owner_cc: Option<String>,
    /// What the host is for: `analytics_sensors`, `ads`, `account`, `search`, `map`, …
    pub role: Option<String>,
}
