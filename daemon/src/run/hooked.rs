//! Puts into the evidence which TLS libraries the watch reads from: path, build id and since when, each once.

use std::{collections::HashSet, path::PathBuf};

use serde_json::{Map, json};

use crate::{alert::evidence::Evidence, finder::build_id, kernel::MappedFile, kernel::Session};

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Hooked {
    told: HashSet<PathBuf>,
    /// How many libraries there were the last time: asked after every pass, it must cost nothing.
    count: usize,
}

impl Hooked {
    /// Keeps a record of each library that was hooked since the last call. A failure is said, as the watch goes on.
    pub(super) fn keep(&mut self, session: &Session, evidence: &Evidence) {
        let libraries = session.libraries();
        if std::mem::replace(&mut self.count, libraries.len()) == libraries.len() {
            return;
        }
        for library in libraries {
            if !self.told.insert(library.path.clone()) {
                continue;
            }
            // Inside an APK, or gone meanwhile, it has no file to ask.
            let id = MappedFile::open(&library.path).ok().and_then(|file| build_id(file.as_ref()));
            let since = humantime::format_rfc3339_seconds(library.since).to_string();
            let mut record = Map::new();
            record.insert("type".into(), "library".into());
            record.insert("time".into(), since.into());
            record.insert("path".into(), library.path.display().to_string().into());
            if let Some(id) = id {
                record.insert("build_id".into(), hex(&id).into());
            }
            record.insert("functions".into(), json!(library.functions));
            if let Err(error) = evidence.append(record) {
                log::warn!("{error}");
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
