//! What can go wrong in the tool, each with what the user can do about it.
//!
//! Written by hand rather than derived: this crate is compiled before everything else on a new machine,
//! and a derive macro would more than double that wait.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result every command of the tool returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command stopped.
#[derive(Debug)]
pub enum Error {
    /// The command line was not understood; the text says what was.
    Usage(String),
    /// A program could not be started at all.
    Start {
        /// The command line as a shell would show it.
        command: String,
        /// Why the system refused.
        source: io::Error,
    },
    /// A program ran and reported failure.
    Failed {
        /// The command line as a shell would show it.
        command: String,
        /// `exit status: 1`, `signal: 9 (SIGKILL)`, …
        status: String,
        /// The end of what it printed, when that was not shown already.
        tail: String,
    },
    /// A file or directory could not be read or written.
    File {
        /// What was attempted: `read`, `create`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// Something is missing from this machine and could not be installed from here.
    Missing(String),
    /// A check found what it looks for; the text is the finding.
    Check(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}\nrun `cargo ndk-build help` to see the commands"),
            Self::Start { command, source } => write!(f, "cannot start `{command}`: {source}"),
            Self::Failed { command, status, tail } if tail.is_empty() => write!(f, "`{command}`: {status}"),
            Self::Failed { command, status, tail } => write!(f, "`{command}`: {status}\n{tail}"),
            Self::File { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Self::Missing(what) | Self::Check(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::File { source, .. } => Some(source),
            Self::Usage(_) | Self::Failed { .. } | Self::Missing(_) | Self::Check(_) => None,
        }
    }
}

impl Error {
    /// Wraps an I/O error with the file it is about; for use in `map_err`.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// The process exit code: 2 for wrong usage, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
