//! `telltale doctor`: can this kernel do the main job? Found out by doing it once, never by its version.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::kernel::{KernelError, Options, Session};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The way to uprobes, as `--attach` takes it.
    pub attach: &'static str,
    /// TLS libraries that could be hooked.
    pub libraries: Vec<String>,
}

/// Loads the programs, opens the rings, hooks every TLS library in use, and takes it all off again.
///
/// # Errors
/// What the kernel refused, in one line.
pub fn try_once() -> Result<Verdict, KernelError> {
    let session = Session::start(&Options::default())?;
    let libraries = session.libraries().iter().map(|library| library.path.display().to_string()).collect();
    let verdict = Verdict { attach: session.attach_path().name(), libraries };
    session.stop()?;
    Ok(verdict)
}

impl Verdict {
    /// For people; `quick` is the one line that the installer of the module shows.
    pub fn text(&self, quick: bool) -> String {
        let mut text = format!("this kernel can run Telltale: uprobes through {}\n", self.attach);
        if quick {
            return text;
        }
        if self.libraries.is_empty() {
            text.push_str("no process uses a TLS library that can be hooked\n");
        }
        for library in &self.libraries {
            text.push_str(&format!("can be hooked: {library}\n"));
        }
        text
    }

    /// For programs, one object.
    pub fn json(&self) -> String {
        json!({ "can_run": true, "attach": self.attach, "libraries": self.libraries }).to_string() + "\n"
    }
}

/// A refusal for programs, one object.
pub fn refusal_json(error: &KernelError) -> String {
    json!({ "can_run": false, "reason": error.to_string() }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installer_shows_one_line_and_the_owner_more() {
        let verdict = Verdict { attach: "tracefs", libraries: vec!["/system/lib64/libssl.so".into()] };
        assert_eq!(verdict.text(true), "this kernel can run Telltale: uprobes through tracefs\n");
        assert!(verdict.text(false).ends_with("can be hooked: /system/lib64/libssl.so\n"));
        let json: serde_json::Value = serde_json::from_str(&verdict.json()).unwrap();
        assert_eq!(json["can_run"], true);
        let json: serde_json::Value = serde_json::from_str(&refusal_json(&KernelError::NoTracefs)).unwrap();
        assert_eq!(json["can_run"], false);
        assert!(json["reason"].as_str().unwrap().contains("tracefs"));
    }
}
