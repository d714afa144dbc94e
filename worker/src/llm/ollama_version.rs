//! What an Ollama server of some version can do.
//!
//! PURE. A version that cannot be read counts as the newest: builds from source call themselves 0.0.0.

/// A server's version, comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32, u32);

impl Version {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let newest = Self(u32::MAX, 0, 0);
        let Some(text) = text else { return newest };
        let numbers = text.trim().trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(0)), Some(Ok(0))) => newest,
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Self(major, minor, patch),
            (Some(Ok(major)), Some(Ok(minor)), None) => Self(major, minor, 0),
            _ => newest,
        }
    }

    /// Whether `format` takes a JSON schema.
    pub(super) fn knows_schemas(self) -> bool {
        self >= Self(0, 5, 0)
    }

    /// Whether the last line says why it is the last.
    pub(super) fn tells_done_reason(self) -> bool {
        self >= Self(0, 1, 35)
    }

    /// Whether cached prompt tokens are counted; one version left them out.
    pub(super) fn counts_whole_prompts(self) -> bool {
        self != Self(0, 30, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_and_unknown_ones_are_new() {
        let version = |text| Version::parse(Some(text));
        assert!(version("0.4.7") < version("0.5.0") && version("0.30.11") > version("0.30.9"));
        assert!(!version("0.4.7").knows_schemas() && version("0.5").knows_schemas());
        assert!(!version("0.30.0").counts_whole_prompts() && version("v0.30.1").counts_whole_prompts());
        assert_eq!(version("0.33.0-rc2"), version("0.33.0"));
        for unknown in ["0.0.0", "", "main", "1", "0.x.1"] {
            assert_eq!(version(unknown), Version::parse(None), "{unknown}");
        }
    }
}
