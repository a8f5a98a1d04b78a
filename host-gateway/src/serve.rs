//! Assembles the gateway from its parts and runs it until it is told to stop.

use thiserror::Error;

use crate::settings::{Settings, SettingsError};

/// Why the gateway did not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The settings cannot be used.
    #[error("settings")]
    Settings(#[from] SettingsError),
}

/// Runs until SIGTERM or SIGINT.
pub async fn serve(_settings: Settings) -> Result<(), ServeError> {
    Ok(())
}
