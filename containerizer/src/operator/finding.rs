//! What a doctor says: findings, each with a verdict and, where it is not well, what to do. PURE.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Tasks run, but something will be missing, or will go wrong one day.
    Warning,
    /// Tasks do not run, or not as they should.
    Problem,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// One word: what was looked at.
    pub(super) about: &'static str,
    /// What was found.
    pub(super) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, about, text: text.into(), advice: None }
    }

    pub(super) fn warning(about: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, about, text: text.into(), advice: Some(advice.into()) }
    }

    pub(super) fn problem(about: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, about, text: text.into(), advice: Some(advice.into()) }
    }

    /// The same with something to know, though all is well.
    pub(super) fn with_advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// All findings in the order of their making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Whether nothing keeps tasks from running as they should.
    pub(super) fn is_fine(&self) -> bool {
        self.count(Verdict::Problem) == 0
    }

    /// A line each, advice below, and a last line that counts.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Finding { verdict, about, text: found, advice } in &self.0 {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{:<8} {about:<9} {found}", verdict.word());
            if let Some(advice) = advice {
                let _ = writeln!(text, "{:18} -> {advice}", "");
            }
        }
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    /// One object, `findings` in it.
    pub(super) fn json(&self) -> String {
        let verdict = self.0.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        let whole = serde_json::json!({
            "verdict": verdict,
            "problems": self.count(Verdict::Problem),
            "warnings": self.count(Verdict::Warning),
            "findings": self.0,
        });
        format!("{whole:#}\n")
    }

    fn summary(&self) -> String {
        let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        match (self.count(Verdict::Problem), self.count(Verdict::Warning)) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("no problem, {}", counted(warnings, "warning")),
            (problems, warnings) => format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_problem_decides_and_every_finding_has_its_line() {
        let mut findings = Findings(vec![Finding::ok("user", "root")]);
        assert_eq!(findings.text(), "ok       user      root\nall is well\n");
        findings.0.push(Finding::warning("swap", "is not counted", "boot with swapaccount=1"));
        assert!(findings.is_fine() && findings.text().ends_with("no problem, 1 warning\n"));
        findings.0.push(Finding::problem("engine", "is away", "start it"));
        assert!(!findings.is_fine());
        assert_eq!(
            findings.text(),
            "ok       user      root\n\
             warning  swap      is not counted\n                   -> boot with swapaccount=1\n\
             PROBLEM  engine    is away\n                   -> start it\n\
             1 problem, 1 warning\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
        assert_eq!((&json["verdict"], &json["problems"]), (&"problem".into(), &1.into()));
        assert_eq!(json["findings"][1]["advice"], "boot with swapaccount=1");
    }
}
