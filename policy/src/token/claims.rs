//! Claims, taken one by one out of a closed set.

use std::str::FromStr;

use serde_json::{Map, Number, Value};

use super::TokenError;
use crate::ids::IdError;
use crate::time::Timestamp;

/// The first second that RFC 3339 cannot write: no claim lies there.
const YEAR_10000: u64 = 253_402_300_800;

/// Claims not looked at yet.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// Takes a claim that may be missing; `read` says whether it has the right type. A `null` is not missing.
    fn take<T>(
        &mut self,
        claim: &'static str,
        expected: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, TokenError> {
        let Some(value) = self.0.remove(claim) else { return Ok(None) };
        read(value).map(Some).ok_or(TokenError::ClaimType { claim, expected })
    }

    pub fn optional_text(&mut self, claim: &'static str) -> Result<Option<String>, TokenError> {
        self.take(claim, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    pub fn text(&mut self, claim: &'static str) -> Result<String, TokenError> {
        self.optional_text(claim)?.ok_or(TokenError::MissingClaim(claim))
    }

    /// A claim that is an id or a name.
    pub fn id<T: FromStr<Err = IdError>>(&mut self, claim: &'static str) -> Result<T, TokenError> {
        self.text(claim)?.parse().map_err(TokenError::id(claim))
    }

    pub fn optional_number(&mut self, claim: &'static str) -> Result<Option<u64>, TokenError> {
        self.take(claim, "a whole number", |value| value.as_u64())
    }

    pub fn number(&mut self, claim: &'static str) -> Result<u64, TokenError> {
        self.optional_number(claim)?.ok_or(TokenError::MissingClaim(claim))
    }

    /// A NumericDate of RFC 7519: seconds, which may have a fraction. Ours has milliseconds at the most.
    pub fn optional_time(&mut self, claim: &'static str) -> Result<Option<Timestamp>, TokenError> {
        self.take(claim, "a time in seconds since 1970", |value| match value {
            Value::Number(number) => read_time(&number),
            _ => None,
        })
    }

    pub fn time(&mut self, claim: &'static str) -> Result<Timestamp, TokenError> {
        self.optional_time(claim)?.ok_or(TokenError::MissingClaim(claim))
    }

    pub fn optional_value(&mut self, claim: &'static str) -> Option<Value> {
        self.0.remove(claim)
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), TokenError> {
        match self.0.keys().next() {
            Some(name) => Err(TokenError::unknown_claim(name)),
            None => Ok(()),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below the year 10000 milliseconds fit the 53 bits of a double, and the sign is checked"
)]
fn read_time(number: &Number) -> Option<Timestamp> {
    if let Some(seconds) = number.as_u64() {
        return (seconds < YEAR_10000).then(|| Timestamp::from_secs(seconds));
    }
    let seconds = number.as_f64().filter(|seconds| (0.0..YEAR_10000 as f64).contains(seconds))?;
    let millis = (seconds * 1000.0).round();
    // A finer fraction than we ever write was not written by us.
    (millis / 1000.0 == seconds).then(|| Timestamp::from_millis(millis as u64))
}

/// The inverse of reading: whole seconds as an integer, others with their milliseconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "below the year 10000 milliseconds fit the 53 bits of a double"
)]
pub(super) fn write_time(claim: &'static str, moment: Timestamp) -> Result<Value, TokenError> {
    let millis = moment.as_millis();
    if moment.as_secs() >= YEAR_10000 {
        return Err(TokenError::value(claim, "it lies after the year 9999"));
    }
    if millis.is_multiple_of(1000) {
        return Ok((millis / 1000).into());
    }
    Number::from_f64(millis as f64 / 1000.0)
        .map(Value::Number)
        .ok_or_else(|| TokenError::value(claim, "it cannot be written as a number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_millisecond_survives_the_way_through_json() {
        let start = 1_795_230_237_000;
        let moments = (start..start + 3_000).chain([0, 1, 999, YEAR_10000 * 1000 - 1]);
        for moment in moments.map(Timestamp::from_millis) {
            let json = write_time("exp", moment).unwrap().to_string();
            let number: Number = serde_json::from_str(&json).unwrap();
            assert_eq!(read_time(&number), Some(moment), "{json}");
        }
        assert!(write_time("exp", Timestamp::MAX).is_err());
    }

    #[test]
    fn times_that_are_none() {
        for bad in ["-1", "1.23456", "1e300", "253402300800", "18446744073709551615", "-0.5"] {
            let number: Number = serde_json::from_str(bad).unwrap();
            assert_eq!(read_time(&number), None, "{bad}");
        }
    }
}
