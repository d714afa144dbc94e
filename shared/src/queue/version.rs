//! Versions of nats-server, as connections and programs tell them.

use std::fmt;

/// A version of nats-server; compares as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl ServerVersion {
    /// The version of these three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `2.15.1`, `v2.15.1` and `2.15.1-beta.2`; whatever follows the third number is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().trim_start_matches('v').splitn(3, '.');
        let mut number = || {
            let part = parts.next()?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        };
        Some(Self { major: number()?, minor: number()?, patch: number()? })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::topology::MIN_SERVER_VERSION;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| ServerVersion::parse(text).unwrap();
        assert!(version("2.9.25") < MIN_SERVER_VERSION);
        assert!(version("v2.12.0-beta.1") >= MIN_SERVER_VERSION);
        assert!(version("2.15.1") > MIN_SERVER_VERSION);
        assert_eq!(ServerVersion::parse("dev"), None);
    }
}
