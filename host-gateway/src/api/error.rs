//! The one place where a failure becomes an answer of the HTTP API: logged with its causes, counted by nobody twice,
//! worded for the person who can act.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use mooring_protocol::api::{ErrorBody, ErrorInfo};

/// A failed call.
#[derive(Debug)]
pub struct ApiFailure {
    code: &'static str,
    message: String,
    next: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ApiFailure {
    fn new(code: &'static str, message: impl Into<String>) -> ApiFailure {
        ApiFailure { code, message: message.into(), next: None, source: None }
    }

    /// Nothing of that name, or nothing the caller may know of.
    pub fn not_found(what: impl std::fmt::Display) -> ApiFailure {
        Self::new("not_found", format!("{what}: not found"))
    }

    /// Known, but not allowed.
    pub fn denied(why: impl Into<String>) -> ApiFailure {
        Self::new("denied", why)
    }

    /// The request makes no sense; says what would.
    pub fn invalid(why: impl std::fmt::Display) -> ApiFailure {
        Self::new("invalid", why.to_string())
    }

    /// The name is taken.
    pub fn exists(what: impl std::fmt::Display) -> ApiFailure {
        Self::new("exists", format!("{what} already exists"))
    }

    /// Something stands in the way.
    pub fn conflict(why: impl Into<String>) -> ApiFailure {
        Self::new("conflict", why)
    }

    /// No identity.
    pub fn unauthenticated(why: impl Into<String>) -> ApiFailure {
        Self::new("unauthenticated", why)
    }

    /// The gateway failed; the log has the cause.
    pub fn internal(source: impl std::error::Error + Send + Sync + 'static) -> ApiFailure {
        let mut failure =
            Self::new("internal", "the gateway failed; its log has the cause under this request id");
        failure.source = Some(Box::new(source));
        failure
    }

    /// What is needed is away for a while; the log has the cause.
    pub fn unavailable(
        why: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> ApiFailure {
        let mut failure = Self::new("unavailable", why);
        failure.source = Some(Box::new(source));
        failure
    }

    /// Names the command to try next.
    #[must_use]
    pub fn try_next(mut self, command: impl Into<String>) -> ApiFailure {
        self.next = Some(command.into());
        self
    }

    fn status(&self) -> StatusCode {
        match self.code {
            "not_found" => StatusCode::NOT_FOUND,
            "denied" => StatusCode::FORBIDDEN,
            "invalid" => StatusCode::BAD_REQUEST,
            "exists" | "conflict" => StatusCode::CONFLICT,
            "unauthenticated" => StatusCode::UNAUTHORIZED,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> Response {
        let request_id = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
        let status = self.status();
        match &self.source {
            Some(source) => {
                let mut causes = source.to_string();
                let mut cause = source.source();
                while let Some(c) = cause {
                    causes.push_str(": ");
                    causes.push_str(&c.to_string());
                    cause = c.source();
                }
                tracing::error!(request_id, code = self.code, causes, "api request failed");
            }
            None => {
                tracing::info!(request_id, code = self.code, message = self.message, "api request refused")
            }
        }
        let info =
            ErrorInfo { code: self.code.to_owned(), message: self.message, try_: self.next, request_id };
        (status, Json(ErrorBody { error: info })).into_response()
    }
}
