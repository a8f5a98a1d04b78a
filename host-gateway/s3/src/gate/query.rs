//! The query string, decoded once and strictly: every key once, everything UTF-8.

use crate::error::Refusal;
use crate::gate::target::decode;

/// Keys and values in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c`; `+` is a space, as in forms.
    pub fn parse(raw: &str) -> Result<Query, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(&key.replace('+', " "))?;
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(Refusal::Repeated(key));
            }
            pairs.push((key, decode(&value.replace('+', " "))?));
        }
        Ok(Query(pairs))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Is the key there?
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_key_once_and_in_utf_8() {
        let query = Query::parse("prefix=a%20b+c&acl&x=1=2").unwrap();
        assert_eq!(query.get("prefix"), Some("a b c"));
        assert_eq!(query.get("acl"), Some(""));
        assert_eq!(query.get("x"), Some("1=2"));
        assert!(!query.has("X"));
        assert_eq!(Query::parse("a=1&%61=2").unwrap_err().code().0, "InvalidArgument");
        assert_eq!(Query::parse("a=%ff").unwrap_err().code().0, "InvalidURI");
        assert_eq!(Query::parse("a=%00").unwrap_err().code().0, "InvalidURI");
    }
}
