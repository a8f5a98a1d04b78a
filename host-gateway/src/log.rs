//! Structured logs to standard error: text for eyes or one JSON object a line.

use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt};

use crate::settings::LogFormat;

/// The logging directives make no sense.
#[derive(Debug, Error)]
#[error("`{directives}` are no log directives: use info, debug or mooring_gateway=debug,info")]
pub struct LogError {
    directives: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the process. A second start in one process (tests) leaves the first in place.
pub fn start(directives: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives)
        .map_err(|source| LogError { directives: directives.to_owned(), source })?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Err means that a logger is already there.
    let _already = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}
