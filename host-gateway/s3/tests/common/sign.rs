//! SigV4 by hand, so that a test can get it wrong on purpose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::{Key, REGION};

pub fn sha256(data: &[u8]) -> String {
    hex::encode(digest(&SHA256, data))
}

pub fn mac(key: &[u8], data: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), data.as_bytes()).as_ref().to_vec()
}

/// `YYYYMMDDTHHMMSSZ` of now, moved.
pub fn timestamp(offset: i64) -> String {
    let secs =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64 + offset;
    let at = time::OffsetDateTime::from_unix_timestamp(secs).unwrap();
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    at.format(&format).unwrap()
}

/// What to sign with.
#[derive(Clone)]
pub struct Signer {
    pub key: Key,
    pub region: String,
    pub service: String,
    pub timestamp: String,
}

impl Signer {
    pub fn new(key: Key) -> Signer {
        Signer { key, region: REGION.into(), service: "s3".into(), timestamp: timestamp(0) }
    }

    pub fn date(&self) -> &str {
        &self.timestamp[..8]
    }

    pub fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date(), self.region, self.service)
    }

    pub fn signing_key(&self) -> Vec<u8> {
        let key = mac(format!("AWS4{}", self.key.secret).as_bytes(), self.date());
        let key = mac(&key, &self.region);
        let key = mac(&key, &self.service);
        mac(&key, "aws4_request")
    }

    pub fn signature(&self, canonical: &str) -> String {
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{}\n{}",
            self.timestamp,
            self.scope(),
            sha256(canonical.as_bytes())
        );
        hex::encode(mac(&self.signing_key(), &text))
    }

    /// Signs the headers of a request as they are; `path` and `query` in canonical form.
    pub fn header(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &mut Vec<(String, String)>,
        payload: &str,
    ) -> String {
        headers.push(("x-amz-date".into(), self.timestamp.clone()));
        headers.push(("x-amz-content-sha256".into(), payload.into()));
        if let Some(token) = self.key.token {
            headers.push(("x-amz-security-token".into(), token.into()));
        }
        headers.sort();
        let canonical: String = headers.iter().map(|(n, v)| format!("{n}:{}\n", v.trim())).collect();
        let names: Vec<_> = headers.iter().map(|(n, _)| n.as_str()).collect();
        let names = names.join(";");
        let signature =
            self.signature(&format!("{method}\n{path}\n{query}\n{canonical}\n{names}\n{payload}"));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            self.key.id,
            self.scope()
        );
        headers.push(("authorization".into(), value));
        signature
    }

    /// The query of a presigned URL that covers `host` and the given headers.
    pub fn presign(
        &self,
        method: &str,
        path: &str,
        expires: &str,
        signed: &[(&str, &str)],
        extra: &[(&str, &str)],
    ) -> String {
        let mut signed: Vec<_> = signed.to_vec();
        signed.sort();
        let names: Vec<_> = signed.iter().map(|(n, _)| *n).collect();
        let mut query: Vec<(String, String)> = vec![
            ("X-Amz-Algorithm".into(), "AWS4-HMAC-SHA256".into()),
            ("X-Amz-Credential".into(), format!("{}/{}", self.key.id, self.scope())),
            ("X-Amz-Date".into(), self.timestamp.clone()),
            ("X-Amz-Expires".into(), expires.into()),
            ("X-Amz-SignedHeaders".into(), names.join(";")),
        ];
        query.extend(extra.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        query.extend(self.key.token.map(|token| ("X-Amz-Security-Token".to_owned(), token.to_owned())));
        query.sort();
        let text: Vec<_> = query.iter().map(|(n, v)| format!("{n}={}", encode(v))).collect();
        let text = text.join("&");
        let canonical: String = signed.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let request = format!("{method}\n{path}\n{text}\n{canonical}\n{}\nUNSIGNED-PAYLOAD", names.join(";"));
        format!("{text}&X-Amz-Signature={}", self.signature(&request))
    }
}

/// Percent-encodes a value as SigV4 has it.
pub fn encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if keep(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
