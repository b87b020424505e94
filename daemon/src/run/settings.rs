//! The configuration file while the watch runs: read at the start, looked at again when something is sent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::config::Config;

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
