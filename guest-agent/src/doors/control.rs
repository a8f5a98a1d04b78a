//! The control socket: the agent's own commands, and behind the same socket the gateway's tenant API.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::Notify;

use super::{DoorError, http as web};
use crate::agent::Agent;

/// How the agent is: `AgentStatus`.
pub const STATUS: &str = "/v1/agent/status";
/// Hand everything over, unmount and end.
pub const STOP: &str = "/v1/agent/stop";

/// Listens at `path`, for its owner alone. `stop` is told when somebody asks the agent to end.
///
/// # Errors
/// When another agent listens there, or the directory cannot be made.
pub async fn open(agent: Arc<Agent>, path: &Path, stop: Arc<Notify>) -> Result<(), DoorError> {
    let listener =
        listen(path).await.map_err(|source| DoorError::new("the control socket", path.display(), source))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (agent, stop) = (agent.clone(), stop.clone());
                    let service = service_fn(move |request| {
                        let (agent, stop) = (agent.clone(), stop.clone());
                        async move { Ok::<_, Infallible>(answer(&agent, &stop, request).await) }
                    });
                    tokio::spawn(async move {
                        let served = hyper::server::conn::http1::Builder::new();
                        if let Err(error) = served.serve_connection(TokioIo::new(stream), service).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn listen(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // What an agent that was killed left behind may be replaced; a socket that answers may not.
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(agent: &Agent, stop: &Notify, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, STATUS) => web::json(StatusCode::OK, &agent.status()),
        (&Method::POST, STOP) => {
            agent.unmount_all().await;
            stop.notify_one();
            web::json(StatusCode::OK, &agent.status())
        }
        (_, path) if path.starts_with("/v1/agent/") => {
            let message = format!("the agent has no {path}");
            web::refusal(StatusCode::NOT_FOUND, "not_found", message, None)
        }
        _ => forward(agent, request).await,
    }
}

async fn forward(agent: &Agent, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    let body = match web::whole(body).await {
        Ok(body) => body,
        Err(error) => return web::unavailable(&error),
    };
    // The connection to the gateway is ours: what the caller said about its own does not hold there.
    for hop in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        parts.headers.remove(hop);
    }
    parts.headers.insert(header::HOST, HeaderValue::from_static("mooring"));
    match web::ask(agent.remote(), Request::from_parts(parts, Full::new(body))).await {
        Ok(mut answer) => {
            answer.headers_mut().remove(header::TRANSFER_ENCODING);
            answer.headers_mut().remove(header::CONNECTION);
            answer
        }
        Err(error) => web::unavailable(&error),
    }
}
