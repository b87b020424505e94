//! The configuration file while the watch runs: read at the start, looked at again when something is sent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    alert::{Mute, Policy},
    config::{Config, ConfigMute},
    store,
};

/// The file, and what it looked like when it was last read.
#[derive(Debug)]
pub(super) struct ConfigFile {
    file: PathBuf,
    /// It was named, so that its absence is a mistake.
    named: bool,
    stamp: Option<(SystemTime, u64)>,
}

/// What a look at the file gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As before.
    Same,
    /// Another configuration.
    New(Box<Config>),
    /// A mistake, in a sentence; what held before still holds.
    Mistake(String),
}

impl ConfigFile {
    pub(super) fn new(named: Option<PathBuf>, default: PathBuf) -> ConfigFile {
        ConfigFile { named: named.is_some(), file: named.unwrap_or(default), stamp: None }
    }

    /// Where it lies, or would.
    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// Reads it for the first time: a slip of the pen in it, or a file that is no text at all, must not end the watch, so a
    /// mistake comes with the defaults. Only a named file that is not there is an error.
    pub(super) fn read(&mut self) -> Result<(Config, Option<String>), (PathBuf, io::Error)> {
        if !self.named && !self.file.exists() {
            return Ok((Config::default(), None));
        }
        self.stamp = self.stamp_now();
        let shown = self.file.display();
        let mistake = match fs::read_to_string(&self.file) {
            Ok(text) => match Config::parse(&text) {
                Ok(config) => return Ok((config, None)),
                Err(mistake) => format!("{shown}, {mistake}"),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err((self.file.clone(), source));
            }
            Err(error) => format!("{shown} cannot be read: {error}"),
        };
        Ok((Config::default(), Some(format!("{mistake}; the defaults hold until it is right"))))
    }

    /// Reads it again if it has changed.
    pub(super) fn look(&mut self) -> Look {
        let stamp = self.stamp_now();
        if stamp == self.stamp {
            return Look::Same;
        }
        self.stamp = stamp;
        let shown = self.file.display();
        // Deleted: the defaults. A program that replaces it leaves a moment without; the next look finds it.
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Look::Mistake(format!("{shown} cannot be read: {error}")),
        };
        match Config::parse(&text) {
            Ok(config) => Look::New(Box::new(config)),
            Err(mistake) => Look::Mistake(format!("{shown}, {mistake}; what it said before still holds")),
        }
    }

    fn stamp_now(&self) -> Option<(SystemTime, u64)> {
        let meta = fs::metadata(&self.file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    }
}

/// What the owner muted with `telltale mute`, read again when the file has changed.
pub(super) struct Mutes {
    folder: Option<PathBuf>,
    stamp: Option<(SystemTime, u64)>,
    list: Vec<Mute>,
}

impl Mutes {
    /// Those in the store, if there is one; and a sentence when its file cannot be used.
    pub(super) fn new(store: Option<&Path>) -> (Mutes, Option<String>) {
        let mut mutes = Mutes { folder: store.map(Path::to_owned), stamp: None, list: Vec::new() };
        let complaint = mutes.look().flatten();
        (mutes, complaint)
    }

    /// Reads them again if they have changed: none when they have not, else a sentence when the file cannot be used.
    pub(super) fn look(&mut self) -> Option<Option<String>> {
        let folder = self.folder.as_deref()?;
        let data = fs::metadata(folder.join(store::MUTES_FILE)).ok();
        let stamp = data.and_then(|data| Some((data.modified().ok()?, data.len())));
        if stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        let (list, complaint) = store::mutes(folder);
        self.list = list.iter().map(ConfigMute::mute).collect();
        Some(complaint)
    }

    /// A configuration's policy with these.
    pub(super) fn policy(&self, config: &Config, key: [u8; 16]) -> Policy {
        let mut policy = config.policy(key);
        policy.mutes.extend(self.list.iter().cloned());
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Level;

    #[test]
    fn a_change_is_seen_once_and_a_mistake_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "log_level = \"warn\"\n").unwrap();
        let mut config = ConfigFile::new(Some(file.clone()), PathBuf::new());
        assert_eq!(config.read().unwrap().0.log_level, Level::Warn);
        assert_eq!(config.look(), Look::Same);

        fs::write(&file, "log_level = \"debug\"\n").unwrap();
        assert!(matches!(config.look(), Look::New(config) if config.log_level == Level::Debug));
        assert_eq!(config.look(), Look::Same);

        fs::write(&file, "\nlog_levle = \"debug\"\n").unwrap();
        assert!(matches!(config.look(), Look::Mistake(text) if text.contains("config.toml, line 2")));
        assert_eq!(config.look(), Look::Same);

        fs::remove_file(&file).unwrap();
        assert_eq!(config.look(), Look::New(Box::default()));
    }

    #[test]
    fn mutes_of_the_store_join_those_of_the_configuration_and_are_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mutes, complaint) = Mutes::new(Some(dir.path()));
        assert_eq!((complaint, mutes.look()), (None, None));
        let config = Config::parse("[[mute]]\nid = \"k3f9q2\"\n").unwrap();
        assert_eq!(mutes.policy(&config, [0; 16]).mutes.len(), 1);
        store::write(dir.path(), store::MUTES_FILE, b"[[mute]]\napp = \"com.a\"\n").unwrap();
        assert_eq!(mutes.look(), Some(None));
        assert_eq!(mutes.policy(&config, [0; 16]).mutes.len(), 2);
        store::write(dir.path(), store::MUTES_FILE, b"[[mute]]\nnonsense = 1\n").unwrap();
        assert!(mutes.look().unwrap().unwrap().contains("line 2"));
        assert_eq!(mutes.policy(&config, [0; 16]).mutes.len(), 1);
        assert!(Mutes::new(None).0.look().is_none());
    }

    #[test]
    fn at_the_start_a_mistake_is_said_and_the_defaults_hold() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "log_level = 1\n").unwrap();
        let (config, mistake) = ConfigFile::new(Some(file), PathBuf::new()).read().unwrap();
        assert_eq!(config, Config::default());
        assert!(mistake.unwrap().contains("line 1"));
        let garbled = dir.path().join("garbled.toml");
        fs::write(&garbled, [0xff, 0xfe]).unwrap();
        let (config, mistake) = ConfigFile::new(Some(garbled), PathBuf::new()).read().unwrap();
        assert_eq!(config, Config::default());
        assert!(mistake.unwrap().contains("garbled.toml cannot be read"));
        let absent = dir.path().join("absent.toml");
        assert!(ConfigFile::new(Some(absent.clone()), PathBuf::new()).read().is_err());
        assert_eq!(ConfigFile::new(None, absent).read().unwrap(), (Config::default(), None));
    }
}
