//! What the watch, and decoding a file, know before the first byte: this phone's own identifiers, the data that is part of the program, and
//! what the owner has added to it in `more/` beside the configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    leak::{self, Data, Truth, phone},
    place::Domains,
    unwrap::Protocols,
};

/// Android's way to ask for a system property.
const GETPROP: &str = "/system/bin/getprop";
/// A larger file is none of those that are read here whole.
const LARGEST: u64 = 16 << 20;

/// Everything that is looked for and known.
pub(crate) struct Knowledge {
    pub(crate) data: Data,
    pub(crate) protocols: Protocols,
    pub(crate) domains: Domains,
    /// Additional labels and roles of apps, in the format of `data/packages.toml`.
    pub(crate) packages: Option<String>,
    /// What could not be used, each in one sentence.
    pub(crate) notes: Vec<String>,
}

impl Knowledge {
    /// The built-in data, and over it the files of the same names in `folder`. One with a mistake is named and left out.
    pub(crate) fn new(folder: Option<&Path>) -> Result<Knowledge, leak::Error> {
        let mut known = Knowledge {
            data: Data::built_in()?,
            protocols: Protocols::builtin(),
            domains: Domains::built_in(),
            packages: None,
            notes: Vec::new(),
        };
        if let Some(folder) = folder {
            known.add(folder);
        }
        Ok(known)
    }

    fn add(&mut self, folder: &Path) {
        for name in ["dictionary.toml", "identifiers.toml", "asked.toml"] {
            self.file(folder, name, |known, text| {
                known.data.add(name, text).map_err(|error| error.to_string())
            });
        }
        self.file(folder, "protocols.toml", |known, text| {
            known.protocols.merge(Protocols::parse(text).map_err(|error| error.to_string())?);
            Ok(())
        });
        self.file(folder, "domains.toml", |known, text| {
            known.domains.add(text).map(drop).map_err(|error| error.to_string())
        });
        self.file(folder, "packages.toml", |known, text| {
            known.packages = Some(text.to_owned());
            Ok(())
        });
    }

    /// Reads one file of additions, if it is there.
    fn file(
        &mut self,
        folder: &Path,
        name: &str,
        take: impl FnOnce(&mut Knowledge, &str) -> Result<(), String>,
    ) {
        let file = folder.join(name);
        let read = match fs::read_to_string(&file) {
            Ok(text) => take(self, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
        };
        self.notes.push(match read {
            Ok(()) => format!("{} is used", file.display()),
            Err(why) => {
                format!("{} is not used: {}", file.display(), why.lines().collect::<Vec<_>>().join(" "))
            }
        });
    }

    /// This phone's own values, from its files under `root`. What is missing is named, each source once.
    pub(super) fn phone(&mut self, root: &Path, users: &[u32]) -> Truth {
        let is_phone = ["data/system", "system/build.prop"].iter().any(|part| root.join(part).exists());
        if !is_phone {
            self.notes.push(format!(
                "there is no Android under {}: its own identifiers are not known, and hashed ones not recognised",
                root.display()
            ));
            return Truth::default();
        }
        let read = |path: &str| whole(&root.join(path.trim_start_matches('/')));
        // Only of the phone that we run on: another root has other properties.
        let ask = root == Path::new("/") && Path::new(GETPROP).exists();
        let property = |name: &str| if ask { getprop(name) } else { None };
        let gathered = phone::gather(&self.data, users, &read, &property);
        if !gathered.failures.is_empty() {
            let sources = gathered.failures.join("; ");
            self.notes
                .push(format!("not all is known of this phone, as these sources cannot be read: {sources}"));
        }
        gathered.truth
    }
}

fn whole(path: &PathBuf) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    fs::read(path)
}

fn getprop(name: &str) -> Option<String> {
    let output = Command::new(GETPROP).arg(name).output().ok()?;
    let value = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if value.is_empty() { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_are_used_and_a_mistake_is_named_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("dictionary.toml", "[[row]]\nprotocol = 7\n");
        put("domains.toml", "[[host]]\nsuffix = \"telltale.example\"\nowner = \"Ours\"\nsource = \"test\"\n");
        let known = Knowledge::new(Some(folder.path())).unwrap();
        let [wrong, right] = &known.notes[..] else { panic!("{:?}", known.notes) };
        assert!(wrong.contains("dictionary.toml is not used") && !wrong.contains('\n'), "{wrong}");
        assert!(right.contains("domains.toml is used"), "{right}");
        assert_eq!(known.domains.host("a.telltale.example").owner.as_deref(), Some("Ours"));
        assert!(Knowledge::new(None).unwrap().notes.is_empty());
    }

    #[test]
    fn the_phones_files_are_read_and_what_is_missing_is_named_once() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        put(
            "data/system/packages.list",
            "org.example.app 10123 0 /data/user/0/org.example.app default 3003\n",
        );
        put("sys/class/net/wlan0/address", "02:00:5e:10:20:30\n");
        let mut known = Knowledge::new(None).unwrap();
        let truth = known.phone(root.path(), &[0]);
        assert_eq!(truth.packages, ["org.example.app"]);
        assert_eq!(truth.values("mac").len(), 1);
        let named = |part: &str| known.notes.iter().filter(|note| note.contains(part)).count();
        assert_eq!((named("settings_ssaid.xml"), named("system properties")), (1, 1), "{:?}", known.notes);

        let empty = tempfile::tempdir().unwrap();
        let mut known = Knowledge::new(None).unwrap();
        assert!(known.phone(empty.path(), &[0]).is_empty());
        assert_eq!(known.notes.len(), 1);
    }
}
