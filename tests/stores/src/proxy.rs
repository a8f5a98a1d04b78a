//! A proxy in front of an S3 that does to requests what networks and busy stores do to them, and counts.
//!
//! It stands between a client and a store that both know nothing of it: requests pass with the headers they came with, so
//! signatures hold. What goes wrong is told by [`Rules`], which can be changed at any time; each request asks them
//! anew. Every client connection is served as long as the client likes, each request goes to the store on a connection
//! of its own, so that one that is cut takes no other with it.
//!
//! ```text
//!   client ── request ──▶ refused? answered with an error? never answered? ──▶ store
//!          ◀─ answer ──── lost? cut in the middle? ended too soon? wrong bytes? slow? ──
//! ```

mod body;
mod rules;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::rules::{Counts, Fault, Rules};

use self::body::{Cut, Passing};
use self::rules::Fate;

/// Bytes that the kernel takes for us.
const WINDOW: usize = 64 << 10;

type Answer = Response<UnsyncBoxBody<Bytes, Cut>>;

/// A proxy that runs. Dropping it ends it and cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: SocketAddr,
    rules: watch::Sender<Rules>,
    random: Mutex<fastrand::Rng>,
    counts: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    others: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    /// Begins to stand in front of `store`, an `http://` endpoint. Chances come from `seed`.
    pub async fn start(store: &str, seed: u64) -> Result<Proxy> {
        let store = store.trim_start_matches("http://").parse().context("the endpoint is no address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        // A small window, so that who sends to a store that reads nothing finds out.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, WINDOW).context("setting the window")?;
        let address = listener.local_addr()?;
        let (rules, random) = (watch::channel(Rules::default()).0, fastrand::Rng::with_seed(seed).into());
        let shared = Arc::new(Shared { store, rules, random, counts: Counters::default() });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Proxy { address, shared, accepting })
    }

    /// Where clients go instead of to the store.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this goes wrong.
    pub fn set(&self, rules: Rules) {
        self.shared.rules.send_replace(rules);
    }

    /// What came by since the start.
    pub fn counts(&self) -> Counts {
        let counts = &self.shared.counts;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            puts: of(&counts.puts),
            gets: of(&counts.gets),
            others: of(&counts.others),
            sent: of(&counts.sent),
            received: of(&counts.received),
            faults: of(&counts.faults),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Connections see the rules end, and end.
        self.shared.rules.send_replace(Rules::out());
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // One that cannot be accepted is a client that went away.
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, shared.clone()));
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    // A second hold on it: how it ends is decided when all is over.
    let (Ok(()), Ok(hold)) = (client.set_nodelay(true), rustix::io::dup(&client)) else { return };
    let mut rules = shared.rules.subscribe();
    let service = service_fn(|request| handle(request, shared.clone()));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
    let reset = tokio::select! {
        biased;
        _ = rules.wait_for(|rules| rules.out) => {
            shared.count_fault();
            true
        }
        // An error is a request that was cut, or a client that went away. A body that ends too soon is one too, and its
        // last bytes are to arrive.
        served = serving => served.is_err_and(|error| error.is_user() && !error.is_body_write_aborted()),
    };
    if reset {
        // As of a host that died. Where it cannot be, the client sees an end instead.
        let _ = rustix::net::sockopt::set_socket_linger(&hold, Some(std::time::Duration::ZERO));
    }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Cut> {
    let rules = shared.rules.borrow().clone();
    shared.count(&request);
    let fate = rules.fate(&mut shared.random.lock(), request.method(), request.uri().path());
    if fate != Fate::Fair {
        shared.count_fault();
    }
    match fate {
        Fate::Answered(status) => {
            // As stores do, it is answered before all of the body was read.
            let text = format!("<Error><Code>Fault</Code><Message>{status}</Message></Error>");
            let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
            return Response::builder().status(status).body(body).map_err(|_| Cut);
        }
        Fate::Hung => std::future::pending().await,
        _ => {}
    }
    let (passed, failed) = (shared.forward(request, fate).await, Cut);
    passed.map_err(|_| failed)
}

impl Shared {
    fn count(&self, request: &Request<Incoming>) {
        let deletes = request.uri().query().is_some_and(|query| query.starts_with("delete"));
        let counter = match *request.method() {
            Method::POST if deletes => &self.counts.others,
            Method::PUT | Method::POST => &self.counts.puts,
            Method::GET => &self.counts.gets,
            _ => &self.counts.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn count_fault(&self) {
        self.counts.faults.fetch_add(1, Ordering::Relaxed);
    }

    async fn forward(self: &Arc<Self>, request: Request<Incoming>, fate: Fate) -> Result<Answer> {
        let store = TcpStream::connect(self.store).await?;
        store.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(store)).await?;
        // It ends when both sides of the exchange are let go of.
        tokio::spawn(connection);
        let passing = |length| Passing::new(self.rules.subscribe(), length);
        let counted = self.clone();
        let request = request.map(|body| {
            let length = hyper::body::Body::size_hint(&body).exact();
            let cut = (fate == Fate::CutRequest).then(|| length.unwrap_or(0) / 2);
            let passing = Passing { cut, ..passing(length) };
            passing.over(body, move |bytes| _ = counted.counts.sent.fetch_add(bytes, Ordering::Relaxed))
        });
        let answer = sender.send_request(request).await?;
        if fate == Fate::Lost {
            // Carried out: nobody learns of it.
            anyhow::bail!("lost");
        }
        let counted = self.clone();
        Ok(answer.map(|body| {
            let length = hyper::body::Body::size_hint(&body).exact();
            let half = length.unwrap_or(64) / 2;
            let passing = Passing {
                cut: (fate == Fate::CutAnswer).then_some(half),
                end: (fate == Fate::Short).then_some(half),
                wrong: (fate == Fate::Wrong).then_some(half),
                ..passing(length)
            };
            passing.over(body, move |bytes| _ = counted.counts.received.fetch_add(bytes, Ordering::Relaxed))
        }))
    }
}
