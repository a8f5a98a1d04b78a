//! HTTP by hand: exactly these bytes, and the answer taken apart.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sign::{Signer, sha256};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The S3 error code.
    pub fn code(&self) -> String {
        let text = self.text();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends bytes, closes the sending side if asked, reads all that comes back within the deadline.
pub async fn send(address: SocketAddr, wire: &[u8], close: bool) -> Answer {
    let answer = tokio::time::timeout(Duration::from_secs(30), async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer and hang up before it has read everything.
        let _ = stream.write_all(wire).await;
        if close {
            let _ = stream.shutdown().await;
        }
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        all
    });
    parse(&answer.await.expect("the server answers within 30 s"))
}

fn parse(all: &[u8]) -> Answer {
    let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::from_utf8_lossy(all).into_owned(), body: Vec::new() };
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Answer { status, head, body: all[end + 4..].to_vec() }
}

/// A request to be signed, or not.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub late: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &'static str, path: &str) -> Request {
        Request {
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            late: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Canonical query: sorted, encoded, every key with `=`.
    pub fn query(mut self, query: &str) -> Request {
        self.query = query.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A header added after signing.
    pub fn late(mut self, name: &str, value: &str) -> Request {
        self.late.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: &[u8]) -> Request {
        self.body = body.into();
        self
    }

    /// Signs with the body's hash and sends.
    pub async fn signed(self, address: SocketAddr, signer: &Signer) -> Answer {
        let hash = sha256(&self.body);
        self.signed_as(address, signer, &hash).await
    }

    /// Signs with a payload kind of choice and sends.
    pub async fn signed_as(mut self, address: SocketAddr, signer: &Signer, payload: &str) -> Answer {
        self.headers.push(("host".into(), address.to_string()));
        signer.header(self.method, &self.path, &self.query, &mut self.headers, payload);
        self.unsigned(address).await
    }

    /// Sends as it is; adds `connection`, and `content-length` and `host` where missing.
    pub async fn unsigned(self, address: SocketAddr) -> Answer {
        send(address, &self.wire(address), false).await
    }

    pub fn wire(&self, address: SocketAddr) -> Vec<u8> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut wire = format!("{} {}{query} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path);
        let all = || self.headers.iter().chain(&self.late);
        for (name, value) in all() {
            wire.push_str(&format!("{name}: {value}\r\n"));
        }
        let has = |wanted: &str| all().any(|(name, _)| name == wanted);
        if !has("host") {
            wire.push_str(&format!("host: {address}\r\n"));
        }
        if !has("content-length")
            && !has("transfer-encoding")
            && (!self.body.is_empty() || self.method == "PUT")
        {
            wire.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        wire.push_str("\r\n");
        [wire.as_bytes(), &self.body].concat()
    }
}
