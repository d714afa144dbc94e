//! Which of a server's models someone may have meant by a name that it does not have.
//!
//! PURE. It must not know what the names are for.

/// So many names are shown.
const MOST: usize = 5;

/// `it has A, B and 3 more`, the most like ones first.
pub fn near(wanted: &str, names: &[String]) -> String {
    match nearest(wanted, names) {
        near if near.is_empty() => "it has no model".to_owned(),
        near => format!("it has {}", near.join(", ")),
    }
}

/// The names that are most like this one, the best first; the last entry counts those that are left out.
fn nearest(wanted: &str, names: &[String]) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(f64, &String)> = names.iter().map(|name| (likeness(&wanted, name), name)).collect();
    ranked.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    let mut shown: Vec<String> = ranked.iter().take(MOST).map(|(_, name)| (*name).clone()).collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    shown
}

/// From 0 to 2: names of one family, or of which one is a part of the other, are liker than any spelling.
fn likeness(wanted: &str, name: &str) -> f64 {
    let name = name.to_lowercase();
    let family =
        |name: &str| name.rsplit('/').next().and_then(|name| name.split(':').next()).map(str::to_owned);
    let is_kin = family(wanted) == family(&name) || name.contains(wanted) || wanted.contains(&name);
    strsim::jaro_winkler(wanted, &name) + f64::from(u8::from(is_kin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_come_first_and_the_rest_is_counted() {
        let names: Vec<String> =
            ["llama3.2:3b", "qwen3:14b", "qwen2.5:7b", "mistral:7b", "gemma3:4b", "phi4:14b", "qwen3:8b"]
                .map(str::to_owned)
                .to_vec();
        let found = nearest("Qwen3:14", &names);
        assert_eq!((found[0].as_str(), found[1].as_str()), ("qwen3:14b", "qwen3:8b"));
        assert_eq!((found.len(), found[5].as_str()), (6, "and 2 more"));
        assert_eq!(near("gpt-4o", &[]), "it has no model");
        assert!(near("qwen3:14", &names).starts_with("it has qwen3:14b, qwen3:8b, "));
        let routed = ["deepseek/deepseek-r1:free".to_owned(), "openai/gpt-4o".to_owned()];
        assert_eq!(nearest("gpt-4o", &routed)[0], "openai/gpt-4o");
    }
}
