//! `telltale mute`: what the owner does not want to hear of, kept in the store. What the configuration mutes stays there.
#![forbid(unsafe_code)]

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use lexopt::{Arg, Parser, ValueExt as _};

use super::UsageError;
use crate::{config::ConfigMute, store};

/// One of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuteCommand {
    what: What,
    store: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    List,
    Add(ConfigMute),
    Remove(usize),
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file there is not right.
    #[error("{0}; mend or delete it first")]
    File(String),
    /// No mute has that number.
    #[error("there is no mute {0}; `telltale mute` lists them")]
    NoSuch(usize),
}

/// Reads the options; none when help is wanted.
///
/// # Errors
/// [`UsageError`] with what is wrong.
pub fn parse(args: &mut Parser) -> Result<Option<MuteCommand>, UsageError> {
    const PARTS: [&str; 6] = ["app", "host", "owner", "kind", "id", "until"];
    let (mut verb, mut number, mut store) = (None, None, None);
    let mut parts = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("store") => store = Some(args.value()?.into()),
            Arg::Long(name) => match PARTS.into_iter().find(|part| *part == name) {
                Some(part) => parts.push((part, args.value()?.string()?)),
                None => return Err(arg.unexpected().into()),
            },
            Arg::Short('h') => return Ok(None),
            Arg::Value(word) if verb.is_none() => verb = Some(word.string()?),
            Arg::Value(word) if verb.as_deref() == Some("remove") && number.is_none() => {
                number = Some(word.parse()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let what = match verb.as_deref() {
        None | Some("list") if parts.is_empty() => What::List,
        None | Some("add") => What::Add(ConfigMute::new(&parts).map_err(UsageError::Mute)?),
        Some("remove") if parts.is_empty() => {
            What::Remove(number.ok_or(UsageError::Missing { command: "mute remove", missing: "a number" })?)
        }
        Some(other) => return Err(UsageError::Command(format!("mute {other}"))),
    };
    Ok(Some(MuteCommand { what, store }))
}

/// Does it; gives what to print.
///
/// # Errors
/// [`Error`] with what to do.
pub fn run(command: &MuteCommand) -> Result<String, Error> {
    let folder = command.store.clone().unwrap_or_else(|| PathBuf::from(super::PHONE_STORE));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let (mut mutes, damaged) = store::mutes(&folder);
    if let Some(why) = damaged {
        return Err(Error::File(why));
    }
    let said = match &command.what {
        What::List => return Ok(list(&mutes, now)),
        What::Add(mute) => {
            mutes.retain(|old| !old.is_over(now) && old != mute);
            mutes.push(mute.clone());
            format!("muted: {mute}; the evidence keeps it\n")
        }
        What::Remove(number) => {
            let at = number.checked_sub(1).filter(|at| *at < mutes.len()).ok_or(Error::NoSuch(*number))?;
            format!("no longer muted: {}\n", mutes.remove(at))
        }
    };
    let head = "# What telltale mute keeps; in the same form as in config.toml.\n";
    let text: String = std::iter::once(head.to_owned())
        .chain(mutes.iter().map(|mute| format!("\n{}", mute.to_toml())))
        .collect();
    store::write(&folder, store::MUTES_FILE, text.as_bytes())?;
    Ok(said)
}

fn list(mutes: &[ConfigMute], now_ms: u64) -> String {
    if mutes.is_empty() {
        return "nothing is muted here; config.toml may mute more\n".to_owned();
    }
    let line = |(number, mute): (usize, &ConfigMute)| {
        let over = if mute.is_over(now_ms) { " (over)" } else { "" };
        format!("{number}  {mute}{over}\n")
    };
    (1..).zip(mutes).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::Kind;

    fn parsed(line: &str) -> Result<Option<MuteCommand>, UsageError> {
        parse(&mut Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn what_is_muted_is_kept_listed_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = |line: &str| {
            let command = parsed(line).unwrap().unwrap();
            run(&MuteCommand { store: Some(folder.path().join("store")), ..command })
        };
        assert!(run("").unwrap().contains("nothing is muted"));
        run("add --app com.a --kind search_query --until 2999-01-31").unwrap();
        run("--host Example.org").unwrap();
        run("add --owner Xiaomi --until 2001-01-01").unwrap();
        let listed = run("list").unwrap();
        assert!(
            listed.starts_with("1  app com.a, kind search_query, until 2999-01-31T00:00:00Z\n2  host "),
            "{listed}"
        );
        assert!(listed.contains("3  owner Xiaomi, until 2001-01-01T00:00:00Z (over)"), "{listed}");
        let (mutes, damaged) = store::mutes(&folder.path().join("store"));
        assert_eq!(damaged, None);
        assert_eq!(mutes[0].mute().kind, Some(Kind::SearchQuery));
        assert_eq!(mutes[1].mute().host.as_deref(), Some("example.org"));
        // What is over goes when something is added; what is there already is not doubled.
        run("add --host Example.org").unwrap();
        assert_eq!(run("").unwrap().lines().count(), 2);
        assert!(run("remove 1").unwrap().contains("com.a"));
        assert!(run("remove 2").unwrap_err().to_string().contains("no mute 2"));
        std::fs::write(folder.path().join("store").join(store::MUTES_FILE), "[[mute]]\nap = 1\n").unwrap();
        assert!(run("add --app x").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, part) in [
            ("add", "--app"),
            ("add --until 2027-01-01", "--app"),
            ("add --kind nonsense", "nonsense"),
            ("add --app a --until soon", "soon"),
            ("remove", "number"),
            ("walk", "walk"),
            ("--nonsense x", "--nonsense"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
