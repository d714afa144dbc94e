//! The name of this machine.

/// The host's name, for people; `unknown` where the system does not tell.
pub fn name() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or("unknown")
        .to_owned()
}
