//! The ways in of a gateway that is not home: the same as at home, and all of them lead there.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::front::Front;
use super::hail::What;
use crate::core::listen::{Listeners, Stream};
use crate::serve::{self, ServeError};
use crate::settings::Settings;

/// Connections of one of these ways in at a time.
const MAX_CONNECTIONS: usize = 4096;

/// How long the end of what is under way is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The open ways in.
pub struct Fronting {
    opening: tokio::task::JoinHandle<Result<(), ServeError>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    admin: PathBuf,
}

impl Fronting {
    /// Opens them as soon as there is a home to lead to.
    pub fn start(settings: &Settings, front: Front) -> Result<Fronting, ServeError> {
        let (stop, tasks, admin) = (front.stop.clone(), TaskTracker::new(), settings.admin_socket());
        let opening = open(settings.clone(), Arc::new(front), stop.clone(), tasks.clone());
        Ok(Fronting { opening: tokio::spawn(opening), stop, tasks, admin })
    }

    /// Waits until one of them turns out not to open.
    pub async fn failed(&mut self) -> ServeError {
        match (&mut self.opening).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    }

    /// Closes them: afterwards their sockets are free for who serves here.
    pub async fn stop(self) {
        self.stop.cancel();
        if !self.opening.is_finished() {
            self.opening.abort();
        }
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some connections did not end in time");
        }
        // Gone already, or never there.
        let _gone = std::fs::remove_file(&self.admin);
    }
}

async fn open(
    settings: Settings,
    front: Arc<Front>,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<(), ServeError> {
    if front.home.clone().wait_for(Option::is_some).await.is_err() {
        return Ok(());
    }
    let listeners = Listeners::elsewhere(front.clone(), stop.clone(), tasks.clone());
    listeners.listen_vsock();
    if let Some(address) = settings.tls {
        let bound = listeners.listen_tls(address, serve::tls(&settings)?).await?;
        tracing::info!(%bound, "files, S3 and API over TLS, led to the home");
    }
    if let Some(address) = settings.s3()? {
        let failed = |source| ServeError::S3 { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let listener = Arc::new(listener);
        let accept = move || accept_tcp(listener.clone());
        tasks.spawn(lead(front.clone(), What::S3, accept, stop.clone(), tasks.clone()));
    }
    let path = settings.admin_socket();
    let admin =
        serve::bind_admin(&path).map_err(|source| ServeError::Admin { path: path.clone(), source })?;
    let admin = Arc::new(admin);
    let accept = move || accept_unix(admin.clone());
    tasks.spawn(lead(front.clone(), What::Operator, accept, stop.clone(), tasks.clone()));
    tracing::info!(socket = %path.display(), "ready: another gateway is home");
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = front.follow_roster(&listeners) => {}
        }
    });
    Ok(())
}

async fn accept_tcp(listener: Arc<TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    mooring_s3::accept(&listener).await.map(|(stream, _)| stream)
}

async fn accept_unix(listener: Arc<UnixListener>) -> std::io::Result<tokio::net::UnixStream> {
    listener.accept().await.map(|(stream, _)| stream)
}

/// Leads every connection of one way in to the home.
async fn lead<S, A, F>(front: Arc<Front>, what: What, accept: A, stop: CancellationToken, tasks: TaskTracker)
where
    S: Stream + 'static,
    A: Fn() -> F,
    F: Future<Output = std::io::Result<S>>,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (front, what) = (front.clone(), what.clone());
        tasks.spawn(async move {
            let _permit = permit;
            front.pipe(stream, what).await;
        });
    }
}
