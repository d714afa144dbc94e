//! One measured value, the limit beside it and the goal that it is held against (PURE).

use serde::{Deserialize, Serialize};

use super::format::{number, percent};

/// Whether a value depends on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// It does: it is shown, and never a mistake.
    Timed,
    /// It does not: it may differ from the baseline by this share only, 0 for not at all.
    Counted {
        /// 0.05 for 5 % up or down.
        within: f64,
    },
}

/// What a value could be at best, from the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What sets it.
    pub name: String,
    /// In the value's unit.
    pub value: f64,
}

/// What is wanted of a value; of its share of the limit where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Goal {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(goal) => figure >= goal,
            Self::AtMost(goal) => figure <= goal,
        }
    }
}

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What it belongs to.
    #[serde(default)]
    pub section: String,
    /// What it is; section and name together are unique in a report.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Whether it depends on the machine.
    #[serde(flatten)]
    pub kind: Kind,
    /// What it could be at best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What is wanted of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

impl Measure {
    /// A value that depends on the machine.
    pub fn timed(name: &str, value: f64, unit: &str) -> Self {
        Self::new(name, value, unit, Kind::Timed)
    }

    /// A value that is the same on every machine.
    pub fn counted(name: &str, value: f64, unit: &str) -> Self {
        Self::new(name, value, unit, Kind::Counted { within: 0.0 })
    }

    fn new(name: &str, value: f64, unit: &str, kind: Kind) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self { section: String::new(), name, value, unit, kind, limit: None, goal: None }
    }

    /// A counted value that may differ from the baseline by this share.
    #[must_use]
    pub fn within(mut self, share: f64) -> Self {
        self.kind = Kind::Counted { within: share };
        self
    }

    /// What the value could be at best.
    #[must_use]
    pub fn of(mut self, limit: &str, value: f64) -> Self {
        self.limit = Some(Limit { name: limit.to_owned(), value });
        self
    }

    /// The value, or its share of the limit, is to be this or more.
    #[must_use]
    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    /// The value, or its share of the limit, is to be this or less.
    #[must_use]
    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtMost(goal));
        self
    }

    /// Whether it does not depend on the machine.
    pub fn is_counted(&self) -> bool {
        matches!(self.kind, Kind::Counted { .. })
    }

    /// Whether the goal is met; absent without one.
    pub fn is_goal_met(&self) -> Option<bool> {
        let figure = self.limit.as_ref().map_or(self.value, |limit| self.value / limit.value);
        self.goal.map(|goal| goal.is_met(figure))
    }

    /// The value as people read it.
    pub fn line(&self) -> String {
        let value = format!("{:<52} {:>10} {}", self.name, number(self.value), self.unit);
        let limit = self.limit.as_ref().map_or_else(String::new, |limit| {
            let share = percent(self.value / limit.value);
            format!(", {share} of {} ({})", number(limit.value), limit.name)
        });
        format!("{value}{limit}{}", self.goal_line().unwrap_or_default())
    }

    fn goal_line(&self) -> Option<String> {
        let show = |goal| if self.limit.is_some() { percent(goal) } else { number(goal) };
        let goal = match self.goal? {
            Goal::AtLeast(goal) => format!("at least {}", show(goal)),
            Goal::AtMost(goal) => format!("at most {}", show(goal)),
        };
        let verdict = if self.is_goal_met()? { "met" } else { "MISSED" };
        Some(format!("; goal {goal}: {verdict}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_share_of_the_limit_where_there_is_one() {
        let rate = Measure::timed("pipeline", 700.0, "chunks/s").of("bare queue", 1000.0);
        assert_eq!(rate.is_goal_met(), None);
        assert_eq!(rate.clone().at_least(0.7).is_goal_met(), Some(true));
        assert_eq!(rate.at_least(0.71).is_goal_met(), Some(false));
        assert_eq!(Measure::counted("writes", 4.1, "x").at_most(4.0).is_goal_met(), Some(false));
    }

    #[test]
    fn a_line_says_value_limit_and_goal() {
        let rate = Measure::timed("pipeline", 1234.0, "chunks/s").of("bare queue", 1000.0).at_least(0.7);
        let line = rate.line();
        assert!(line.starts_with("pipeline "), "{line}");
        assert!(
            line.ends_with("1,234 chunks/s, 123 % of 1,000 (bare queue); goal at least 70 %: met"),
            "{line}"
        );
    }
}
