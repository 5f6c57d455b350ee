//! The result of a check.

use serde::Serialize;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Good,
    /// Something is missing that only some workers need.
    Note,
    Bad,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cure: Option<String>,
}

impl Finding {
    pub(super) fn good(name: &'static str, found: impl Into<String>) -> Self {
        let (found, verdict) = (found.into(), Verdict::Good);
        Self {
            name,
            verdict,
            found,
            cure: None,
        }
    }

    pub(super) fn note(
        name: &'static str,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (found, cure, verdict) = (found.into(), Some(cure.into()), Verdict::Note);
        Self {
            name,
            verdict,
            found,
            cure,
        }
    }

    pub(super) fn bad(
        name: &'static str,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::note(name, found, cure)
        }
    }
}
