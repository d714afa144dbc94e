//! Which document a user means: by its name, or by the name or path of one of its files (PURE).

use std::collections::BTreeSet;

use qa_shared::model::DocumentName;

/// Names that are suggested at most.
const MOST: usize = 3;

/// The document, or the names that are nearest.
pub(crate) fn find<'a>(
    asked: &str,
    names: &'a BTreeSet<DocumentName>,
) -> Result<&'a DocumentName, Vec<&'a str>> {
    let base = asked.trim_end_matches('/').rsplit('/').next().unwrap_or(asked);
    // A document may be called like one of its files, so that the longest form comes first.
    for form in [asked, base, stem(asked), stem(base)] {
        if let Some(name) = names.get(&DocumentName::new(form)) {
            return Ok(name);
        }
    }
    let wanted = stem(base).to_lowercase();
    let mut near: Vec<_> = names
        .iter()
        .map(DocumentName::as_str)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let likeness = strsim::jaro_winkler(&lower, &wanted);
            let holds = !wanted.is_empty() && lower.contains(&wanted);
            (holds || likeness > 0.75).then_some((if holds { likeness + 1.0 } else { likeness }, name))
        })
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    Err(near.into_iter().take(MOST).map(|(_, name)| name).collect())
}

fn stem(name: &str) -> &str {
    let endings = ["_chunks.json", "_chunks.jsonl", "_qa.json"];
    endings.into_iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_goes_by_its_name_and_by_its_files() {
        let names: BTreeSet<_> =
            ["FAQ – überblick 概要", "guide", "x_qa.json", ""].map(DocumentName::new).into();
        for (asked, expected) in [
            ("guide", "guide"),
            ("guide_qa.json", "guide"),
            ("./some/where/guide_chunks.json", "guide"),
            ("guide_chunks.jsonl", "guide"),
            ("qa/FAQ – überblick 概要_qa.json", "FAQ – überblick 概要"),
            ("x_qa.json", "x_qa.json"),
            ("x_qa.json_qa.json", "x_qa.json"),
            ("_qa.json", ""),
        ] {
            assert_eq!(find(asked, &names).map(DocumentName::as_str), Ok(expected), "{asked}");
        }
    }

    #[test]
    fn the_nearest_names_are_suggested() {
        let names: BTreeSet<_> =
            ["remote-work-policy", "travel-policy", "handbook", "handbook-2"].map(DocumentName::new).into();
        assert_eq!(find("handbok", &names), Err(vec!["handbook", "handbook-2"]));
        assert_eq!(find("Work", &names), Err(vec!["remote-work-policy"]));
        assert_eq!(find("zzz", &names), Err(vec![]));
    }
}
