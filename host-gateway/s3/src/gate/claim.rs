//! What a request presents to say who signed it, and what the signature must cover. `s3s` computes the signature;
//! here is everything it does not look at: the version, the scope's region and service, the life of a presigned URL,
//! the session token, and that no `x-amz-*` header slipped in unsigned.

use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST};

use crate::config::PRESIGN_SECS;
use crate::error::Refusal;
use crate::gate::op::may_be_unsigned;
use crate::gate::query::Query;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who a request says it is from.
#[derive(Debug)]
pub(crate) enum Claim {
    /// A SigV4 signature.
    Signature(Signature),
    /// A token of ours.
    Bearer(Token),
}

/// A token; not printed.
pub(crate) struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The parts of a SigV4 signature.
#[derive(Debug)]
pub(crate) struct Signature {
    /// In the query instead of a header.
    pub presigned: bool,
    /// Access key id.
    pub access_key: String,
    /// `YYYYMMDD`.
    pub date: String,
    /// Region of the scope.
    pub region: String,
    /// `YYYYMMDDTHHMMSSZ`; of headers, as given.
    pub timestamp: String,
    /// 64 hexadecimal digits; seeds the chain of chunk signatures.
    pub signature: String,
    /// Lower-case names, as given.
    pub signed: Vec<String>,
    /// The session token that came along.
    pub token: Option<Token>,
}

impl Claim {
    /// Reads the claim and checks all of it that needs no secret.
    pub fn parse(headers: &HeaderMap, query: &Query, region: &str) -> Result<Claim, Refusal> {
        let header = match headers.get(AUTHORIZATION) {
            Some(value) => Some(value.to_str().map_err(|_| Refusal::Malformed("Authorization header"))?),
            None => None,
        };
        let in_query = query.keys().any(|key| key.starts_with("X-Amz-") && key != "X-Amz-Security-Token");
        let v2_query = query.has("AWSAccessKeyId") || query.has("Signature");
        match header {
            Some(_) if in_query || v2_query => Err(Refusal::TwoSignatures),
            Some(value) if value.starts_with("AWS ") => Err(Refusal::SignatureV2(region.to_owned())),
            None if v2_query => Err(Refusal::SignatureV2(region.to_owned())),
            Some(value) => match value.strip_prefix("Bearer ") {
                Some(token) => Ok(Claim::Bearer(Token(token.trim().to_owned()))),
                None => Signature::from_header(value, headers, query)?.checked(headers, region),
            },
            None if in_query => Signature::from_query(query, headers)?.checked(headers, region),
            None => Err(Refusal::Anonymous),
        }
    }
}

impl Signature {
    fn from_header(value: &str, headers: &HeaderMap, query: &Query) -> Result<Signature, Refusal> {
        const BAD: Refusal = Refusal::Malformed("Authorization header");
        let rest = value.strip_prefix(ALGORITHM).ok_or_else(|| {
            Refusal::NotImplemented(format!("the signing algorithm {:?}", first_word(value)))
        })?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.trim().split(',') {
            let (name, value) = part.trim().split_once('=').ok_or(BAD)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(BAD),
            };
            if slot.replace(value).is_some() {
                return Err(BAD);
            }
        }
        if query.has("X-Amz-Security-Token") {
            return Err(Refusal::TwoSignatures);
        }
        let timestamp = text(headers, "x-amz-date")?.ok_or(Refusal::Malformed("x-amz-date header"))?;
        let token = text(headers, "x-amz-security-token")?.map(|t| Token(t.to_owned()));
        Self::assemble(
            false,
            (credential.ok_or(BAD)?, signed.ok_or(BAD)?, signature.ok_or(BAD)?),
            timestamp,
            token,
        )
    }

    fn from_query(query: &Query, headers: &HeaderMap) -> Result<Signature, Refusal> {
        let need = |key, what| query.get(key).ok_or(Refusal::Malformed(what));
        let algorithm = need("X-Amz-Algorithm", "X-Amz-Algorithm query parameter")?;
        if algorithm != ALGORITHM {
            return Err(Refusal::NotImplemented(format!("the signing algorithm {algorithm:?}")));
        }
        let life = need("X-Amz-Expires", "X-Amz-Expires query parameter")?;
        if !life.bytes().all(|b| b.is_ascii_digit())
            || !(1..=PRESIGN_SECS).contains(&life.parse().unwrap_or(0))
        {
            return Err(Refusal::PresignLife);
        }
        // A token in a header would not be covered by the signature unless named in it, and then it is one of two.
        if headers.contains_key("x-amz-security-token") {
            return Err(Refusal::TwoSignatures);
        }
        let token = query.get("X-Amz-Security-Token").map(|t| Token(t.to_owned()));
        let parts = (
            need("X-Amz-Credential", "X-Amz-Credential query parameter")?,
            need("X-Amz-SignedHeaders", "X-Amz-SignedHeaders query parameter")?,
            need("X-Amz-Signature", "X-Amz-Signature query parameter")?,
        );
        Self::assemble(true, parts, need("X-Amz-Date", "X-Amz-Date query parameter")?, token)
    }

    fn assemble(
        presigned: bool,
        (credential, signed, signature): (&str, &str, &str),
        timestamp: &str,
        token: Option<Token>,
    ) -> Result<Signature, Refusal> {
        const BAD: Refusal =
            Refusal::Malformed("credential scope: expected KEY/YYYYMMDD/REGION/s3/aws4_request");
        let mut scope = credential.split('/');
        let mut next = || scope.next().filter(|part| !part.is_empty()).ok_or(BAD);
        let (access_key, date, region, service, end) = (next()?, next()?, next()?, next()?, next()?);
        if end != "aws4_request" || scope.next().is_some() || date.len() != 8 || !timestamp.starts_with(date)
        {
            return Err(BAD);
        }
        if service != "s3" {
            return Err(Refusal::WrongService);
        }
        if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refusal::Malformed("signature: expected 64 hexadecimal digits"));
        }
        Ok(Signature {
            presigned,
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            timestamp: timestamp.to_owned(),
            signature: signature.to_owned(),
            signed: signed.split(';').map(str::to_owned).collect(),
            token,
        })
    }

    fn checked(self, headers: &HeaderMap, region: &str) -> Result<Claim, Refusal> {
        if self.region != region {
            return Err(Refusal::WrongRegion { given: self.region, want: region.to_owned() });
        }
        let is_signed = |name: &str| self.signed.iter().any(|signed| signed == name);
        if !is_signed(HOST.as_str()) {
            return Err(Refusal::UnsignedHeader(HOST.as_str().to_owned()));
        }
        let slipped = headers
            .keys()
            .map(http::HeaderName::as_str)
            .find(|name| name.starts_with("x-amz-") && !is_signed(name) && !may_be_unsigned(name));
        // A name that is signed but not there would let two different requests have one signature.
        let missing =
            self.signed.iter().find(|name| name.as_str() != "host" && !headers.contains_key(name.as_str()));
        match (slipped, missing) {
            (Some(name), _) => Err(Refusal::UnsignedHeader(name.to_owned())),
            (None, Some(_)) => {
                Err(Refusal::Malformed("SignedHeaders: a header named there is not in the request"))
            }
            (None, None) => Ok(Claim::Signature(self)),
        }
    }
}

/// A header's value as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    headers.get(name).map(|value| value.to_str().map_err(|_| Refusal::Malformed(name))).transpose()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("")
}

#[cfg(test)]
mod tests;
