//! All values of a benchmark, and how they compare with earlier ones (PURE).

use serde::{Deserialize, Serialize};

use super::format::number;
use super::{Kind, Measure, Mode};

/// A benchmark's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub benchmark: String,
    /// Which sizes: values of other sizes say nothing beside these.
    pub mode: String,
    /// The values.
    pub measures: Vec<Measure>,
}

/// A report beside an earlier one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Timed values, as ratios.
    pub(super) lines: Vec<String>,
    /// Counted values that do not agree.
    pub(super) mistakes: Vec<String>,
}

impl Report {
    /// A report without values.
    pub fn new(benchmark: &str, mode: Mode) -> Self {
        Self { benchmark: benchmark.to_owned(), mode: mode.as_str().to_owned(), measures: Vec::new() }
    }

    /// What is the same on every machine.
    #[must_use]
    pub fn counted_only(&self) -> Self {
        let measures = self.measures.iter().filter(|measure| measure.is_counted()).cloned().collect();
        Self { measures, ..self.clone() }
    }

    /// Counted values that miss their goals.
    pub(super) fn missed_counts(&self) -> Vec<String> {
        let missed = self
            .measures
            .iter()
            .filter(|measure| measure.is_counted() && measure.is_goal_met() == Some(false));
        missed.map(|measure| format!("a goal is missed: {}", measure.line())).collect()
    }

    /// Holds counted values against those of an earlier run, and shows timed ones as ratios.
    pub(super) fn compare(&self, earlier: &Self) -> Result<Comparison, String> {
        if (&self.benchmark, &self.mode) != (&earlier.benchmark, &earlier.mode) {
            return Err(format!(
                "the baseline is of a {} run of `{}`, this is a {} run of `{}`: give the one that belongs to it",
                earlier.mode, earlier.benchmark, self.mode, self.benchmark
            ));
        }
        let mut comparison = Comparison::default();
        for measure in &self.measures {
            match (earlier.find(measure), measure.kind) {
                (Some(before), Kind::Counted { within }) => {
                    let agrees = (measure.value - before.value).abs() <= before.value.abs() * within;
                    if !agrees {
                        comparison.mistakes.push(differs(measure, before.value, within));
                    }
                }
                (Some(before), Kind::Timed) => {
                    let ratio = measure.value / before.value;
                    comparison.lines.push(format!("{:<52} {ratio:>10.2} times the baseline", measure.name));
                }
                (None, Kind::Counted { .. }) => {
                    let problem = format!("the baseline has no `{}`", measure.full_name());
                    comparison.mistakes.push(format!("{problem}: {RENEW}"));
                }
                (None, Kind::Timed) => {}
            }
        }
        for before in earlier.measures.iter().filter(|before| before.is_counted()) {
            if self.find(before).is_none() {
                let problem = format!("`{}` of the baseline is not counted any more", before.full_name());
                comparison.mistakes.push(format!("{problem}: {RENEW}"));
            }
        }
        Ok(comparison)
    }

    fn find(&self, like: &Measure) -> Option<&Measure> {
        self.measures.iter().find(|measure| (&measure.section, &measure.name) == (&like.section, &like.name))
    }
}

const RENEW: &str = "if that is meant, UPDATE_SNAPSHOTS=1 writes the checked-in baseline anew";

fn differs(measure: &Measure, before: f64, within: f64) -> String {
    let bound = if within == 0.0 { String::new() } else { format!(" (within {} %)", number(within * 100.0)) };
    format!(
        "`{}` is {} {}, the baseline says {}{bound}: {RENEW}",
        measure.full_name(),
        number(measure.value),
        measure.unit,
        number(before),
    )
}

impl Measure {
    fn full_name(&self) -> String {
        if self.section.is_empty() { self.name.clone() } else { format!("{}: {}", self.section, self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(measures: &[Measure]) -> Report {
        Report { measures: measures.to_vec(), ..Report::new("growth", Mode::Short) }
    }

    #[test]
    fn counted_values_must_agree_within_their_bound() {
        let before = report(&[
            Measure::counted("files", 12.0, "files"),
            Measure::counted("messages", 6.0, "a chunk").within(0.1),
        ]);
        assert_eq!(before.compare(&before).unwrap(), Comparison::default());
        let now = report(&[
            Measure::counted("files", 13.0, "files"),
            Measure::counted("messages", 6.5, "a chunk").within(0.1),
        ]);
        let [mistake] = &now.compare(&before).unwrap().mistakes[..] else { panic!("one mistake") };
        assert!(
            mistake.starts_with("`files` is 13 files, the baseline says 12: if that is meant"),
            "{mistake}"
        );
    }

    #[test]
    fn timed_values_are_shown_and_never_a_mistake() {
        let before = report(&[Measure::timed("pipeline", 100.0, "chunks/s")]);
        let comparison = report(&[Measure::timed("pipeline", 50.0, "chunks/s")]).compare(&before).unwrap();
        assert!(comparison.mistakes.is_empty());
        assert!(comparison.lines[0].ends_with("0.50 times the baseline"), "{:?}", comparison.lines);
    }

    #[test]
    fn what_is_new_or_gone_is_a_mistake_until_the_baseline_says_so() {
        let (one, other) = (Measure::counted("one", 1.0, ""), Measure::counted("other", 1.0, ""));
        let mistakes = report(&[one]).compare(&report(&[other])).unwrap().mistakes;
        assert!(mistakes[0].starts_with("the baseline has no `one`"), "{mistakes:?}");
        assert!(mistakes[1].starts_with("`other` of the baseline is not counted any more"), "{mistakes:?}");
    }

    #[test]
    fn another_benchmark_or_size_is_refused() {
        let other = Report::new("growth", Mode::Full);
        let refused = report(&[]).compare(&other).unwrap_err();
        assert!(
            refused.starts_with("the baseline is of a full run of `growth`, this is a short run"),
            "{refused}"
        );
    }

    #[test]
    fn only_counted_goals_fail() {
        let missed = report(&[
            Measure::timed("slow", 1.0, "s").at_most(0.5),
            Measure::counted("written", 5.0, "bytes per byte").at_most(4.0),
        ]);
        let missed = missed.missed_counts();
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed[0].starts_with("a goal is missed: written"), "{missed:?}");
    }

    #[test]
    fn a_report_survives_its_file() {
        let section = "all".to_owned();
        let measure = Measure::counted("n", 1.5, "x").within(0.1).of("best", 2.0).at_least(0.5);
        let report = report(&[Measure { section, ..measure }, Measure::timed("t", 2.0, "s")]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report, "{text}");
    }
}
