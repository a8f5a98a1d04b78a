//! How long: `7d`, a date, a moment or `forever`, as people type it.

use mooring_policy::time::Timestamp;
use thiserror::Error;

/// A text that says no period.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UntilError {
    /// Not one of the forms.
    #[error("`{0}` is no period: use 90s, 15m, 12h, 7d, 2026-12-31, 2026-12-31T18:00:00Z or forever")]
    Form(String),
    /// It is over before it begins.
    #[error("`{0}` has already passed")]
    Past(String),
}

/// The end of the period that `text` describes, seen from `now`; `None` is forever. A bare date means the end of that
/// day in UTC, as people mean it.
pub fn until(text: &str, now: Timestamp) -> Result<Option<Timestamp>, UntilError> {
    let form = || UntilError::Form(text.to_owned());
    let text_trimmed = text.trim();
    let end = if text_trimmed == "forever" {
        return Ok(None);
    } else if let Ok(span) = humantime::parse_duration(text_trimmed) {
        now.saturating_add(span)
    } else if text_trimmed.len() == "2026-12-31".len() {
        format!("{text_trimmed}T23:59:59Z").parse().map_err(|_| form())?
    } else {
        text_trimmed.parse().map_err(|_| form())?
    };
    if end <= now { Err(UntilError::Past(text.to_owned())) } else { Ok(Some(end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap_or(Timestamp::ZERO)
    }

    #[test]
    fn every_form_people_type() {
        let shown = |t: &str| until(t, now()).map(|u| u.map(|u| u.to_string()));
        assert_eq!(shown("7d"), Ok(Some("2026-11-28T12:00:00.000Z".into())));
        assert_eq!(shown("90s"), Ok(Some("2026-11-21T12:01:30.000Z".into())));
        assert_eq!(shown("2026-11-21"), Ok(Some("2026-11-21T23:59:59.000Z".into())));
        assert_eq!(shown("2026-12-01T00:00:00Z"), Ok(Some("2026-12-01T00:00:00.000Z".into())));
        assert_eq!(shown("forever"), Ok(None));
    }

    #[test]
    fn the_past_and_nonsense_are_told_apart() {
        assert_eq!(until("2026-11-20", now()), Err(UntilError::Past("2026-11-20".into())));
        assert_eq!(until("0s", now()), Err(UntilError::Past("0s".into())));
        assert!(matches!(until("soon", now()), Err(UntilError::Form(_))));
        assert!(matches!(until("2026-99-99", now()), Err(UntilError::Form(_))));
    }
}
