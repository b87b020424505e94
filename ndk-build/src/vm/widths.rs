//! Programs of 32 and of 64 bits beside each other, which call the same things by other numbers: what they send in the machine,
//! and whether the daemon's account of each adds up to what arrived.
//!
//! Most apps of the first handset's time run 32-bit code on its 64-bit kernel.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::logd::Line;
use super::{CROSS_GCC, missing};
use crate::context::{self, Context};
use crate::error::Result;
use crate::run::Run;
use crate::samples::Sample;

/// Debian's cross compiler for 32-bit programs of the same machine (EABI, as Android's armeabi-v7a).
const CROSS_GCC_32: &str = "arm-linux-gnueabihf-gcc";
/// The source of both programs, and what each is called in the machine.
const CLIENT: &str = "plain-client";
const NAMES: [(Width, &str); 2] = [(Width::Bits32, "plain-client-32"), (Width::Bits64, "plain-client-64")];
/// Where they send: an address that is none of the machine's own, see `guest/init.sh`.
const PEER: &str = "198.51.100.1";
/// What travels in clear: a sample that the loudest lines are about, which no limit holds back, and that fits into one datagram.
const SAMPLE: &str = "01_visited_url";
/// The name that the ClientHello of those that encrypt asks for.
const HOST: &str = "tls.example.com";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits32,
    Bits64,
}
use Width::{Bits32, Bits64};

/// What becomes of everything that an app sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is read, and a line says what is in it.
    Read,
    /// It is not read, for this reason in the ledger; named by the host it goes to.
    Unread(&'static str),
}
use Fate::{Read, Unread};

/// An app, and what it does (see `clients/plain-client.c`).
struct App {
    uid: u32,
    width: Width,
    steps: &'static str,
    fate: Fate,
}

const fn app(uid: u32, width: Width, steps: &'static str, fate: Fate) -> App {
    App { uid, width, steps, fate }
}

const APPS: &[App] = &[
    app(10301, Bits32, "tcp write close", Read),
    app(10302, Bits32, "tcp writev close", Read),
    app(10303, Bits32, "tcp send close", Read),
    app(10304, Bits32, "tcp sendto close", Read),
    app(10305, Bits32, "tcp sendmsg close", Read),
    app(10306, Bits32, "tcp sendmmsg close", Read),
    app(10307, Bits32, "udp-open sendto close", Read),
    app(10308, Bits32, "udp-open sendmsg close", Read),
    app(10309, Bits32, "udp send write writev sendmsg close", Read),
    // The number of a socket comes to stand for a file, for another socket, and a file's number for a socket.
    app(10310, Bits32, "tcp write close reuse tcp write over write close", Read),
    // Each width's calls with the other's numbers, on a socket that goes on sending.
    app(10311, Bits32, "tcp write strange write close", Read),
    app(10312, Bits64, "tcp write strange write close", Read),
    app(10313, Bits64, "udp-open sendto sendmsg sendmmsg close", Read),
    // TLS: named and counted. The first of them is gone before anybody can look what it runs.
    app(10314, Bits32, "hello tcp send records write writev", Unread("tls-32bit")),
    app(10315, Bits32, "hello tcp write records sendmsg sendmsg close pause:1000", Unread("tls-32bit")),
    app(10316, Bits64, "hello tcp send records write writev close", Unread("tls-not-hooked")),
    // Not read by any call of this kind, whatever it is.
    app(10317, Bits32, "tcp sendfile close", Unread("budget")),
];

/// The packages that these apps are.
pub(super) fn packages() -> impl Iterator<Item = (String, u32)> {
    APPS.iter().map(|app| (format!("com.example.plain{}", app.uid), app.uid))
}

/// Compiles the client for both widths: the name in the machine, and where the program lies.
pub(super) fn clients(ctx: &Context) -> Result<Vec<(&'static str, std::path::PathBuf)>> {
    let dir = ctx.target.join("vm/clients");
    context::create_dir(&dir)?;
    NAMES
        .iter()
        .map(|(width, name)| {
            let program = dir.join(name);
            compiler(*width)
                .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o"])
                .arg(&program)
                .arg(source(&ctx.root))
                .output()?;
            Ok((*name, program))
        })
        .collect()
}

fn compiler(width: Width) -> Run {
    Run::new(match width {
        Bits32 => CROSS_GCC_32,
        Bits64 => CROSS_GCC,
    })
}

fn source(root: &Path) -> std::path::PathBuf {
    root.join(format!("ndk-build/clients/{CLIENT}.c"))
}

/// The shell function that lets all of them send.
pub(super) fn script() -> String {
    let mut script = String::from("send_plain() {\n");
    for App { uid, width, steps, .. } in APPS {
        let name = NAMES.iter().find(|(of, _)| of == width).map_or("", |(_, name)| *name);
        let steps = steps.replace("hello", &format!("hello:{HOST}")).replace("records", "records:20");
        script.push_str(&format!("    plain {name} {PEER} file:/samples/{SAMPLE} uid:{uid} {steps}\n"));
    }
    script.push_str("}\n");
    script
}

/// What the machine said of them.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bytes that arrived of each uid's.
    arrived: BTreeMap<u32, u64>,
    /// What `telltale status --json` answered afterwards.
    status: Value,
}

impl Said {
    /// What a client printed: `uid=… bits=… bytes=…`.
    pub(super) fn arrived(&mut self, line: &str) {
        let field = |name: &str| line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if let (Some(Ok(uid)), Some(Ok(bytes))) =
            (field("uid").map(str::parse), field("bytes").map(str::parse))
        {
            self.arrived.insert(uid, bytes);
        }
    }

    /// The daemon's status.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn status(&mut self, line: &str) -> std::result::Result<(), String> {
        self.status = serde_json::from_str(line).map_err(|error| format!("status: {error}"))?;
        Ok(())
    }

    /// What is wrong with the account of any of them, or with the lines about them.
    pub(super) fn wrong(&self, sent: &[(Sample, u32)], lines: &[Line]) -> Vec<String> {
        APPS.iter().flat_map(|app| self.wrong_with(app, sent, lines)).collect()
    }

    fn wrong_with(&self, app: &App, sent: &[(Sample, u32)], lines: &[Line]) -> Vec<String> {
        let App { uid, steps, fate, .. } = app;
        let Some(arrived) = self.arrived.get(uid) else {
            return vec![format!("uid {uid} ({steps}) did not send")];
        };
        let apps = self.status.pointer("/coverage/apps").and_then(Value::as_array);
        let row = apps
            .into_iter()
            .flatten()
            .find(|row| row.get("uid").and_then(Value::as_u64) == Some((*uid).into()));
        let Some(row) = row else {
            return vec![format!("uid {uid} ({steps}) sent {arrived} bytes and has no row in the status")];
        };
        let place = match fate {
            Read => "/read".to_owned(),
            Unread(reason) => format!("/unread/{reason}"),
        };
        let number = |place: &str| row.pointer(place).and_then(Value::as_u64).unwrap_or(0);
        let mut wrong = Vec::new();
        if (number("/bytes"), number(&place)) != (*arrived, *arrived) {
            wrong.push(format!(
                "uid {uid} ({steps}): {arrived} bytes arrived, {place} should have them all: {row}"
            ));
        }
        match fate {
            Read => {
                let sample = sent.iter().find(|(sample, _)| sample.name == SAMPLE);
                wrong.extend(sample.into_iter().flat_map(|(sample, _)| missing(sample, *uid, lines)));
            }
            Unread("budget") => {}
            Unread(_) if row.pointer("/destinations/0/destination").and_then(Value::as_str) == Some(HOST) => {
            }
            Unread(_) => {
                wrong.push(format!("uid {uid} ({steps}): its bytes are not counted as {HOST}'s: {row}"))
            }
        }
        wrong
    }
}

/// As a machine would answer in which everything is as it should be.
#[cfg(test)]
pub(super) fn good() -> Said {
    let mut said = Said::default();
    let rows: Vec<Value> = APPS
        .iter()
        .map(|App { uid, fate, .. }| match fate {
            Read => serde_json::json!({ "uid": uid, "bytes": 7, "read": 7, "unread": {} }),
            Unread(reason) => {
                serde_json::json!({ "uid": uid, "bytes": 7, "read": 0, "unread": { *reason: 7 }, "destinations": [{ "destination": HOST }] })
            }
        })
        .collect();
    said.status(&serde_json::json!({ "coverage": { "apps": rows } }).to_string()).unwrap();
    for app in APPS {
        said.arrived(&format!("uid={} bits=32 bytes=7", app.uid));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_that_adds_up_is_right() {
        assert_eq!(good().wrong(&[], &[]), [""; 0]);
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let mut said = good();
        said.arrived("uid=10301 bits=32 bytes=8");
        said.status["coverage"]["apps"][13]["unread"] = json!({ "tls-not-hooked": 7 });
        said.status["coverage"]["apps"][14]["destinations"][0]["destination"] = json!(PEER);
        said.status["coverage"]["apps"].as_array_mut().unwrap().remove(1);
        said.arrived.remove(&10303);
        let wrong = said.wrong(&[], &[]);
        let expected = [
            "uid 10301 (tcp write close): 8 bytes arrived",
            "uid 10302 (tcp writev close) sent 7 bytes and has no row",
            "uid 10303 (tcp send close) did not send",
            "/unread/tls-32bit should have them all",
            "not counted as tls.example.com's",
        ];
        assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
        for (said, words) in wrong.iter().zip(expected) {
            assert!(said.contains(words), "{said} should say {words}");
        }
        assert!(said.status("none").is_err());
    }

    #[test]
    fn the_sample_is_in_the_machine() {
        assert!(crate::vm::SENT.iter().any(|(name, _, _)| *name == SAMPLE));
    }

    #[test]
    fn each_app_has_a_line_of_its_own_in_the_script() {
        let script = script();
        for app in APPS {
            assert_eq!(script.matches(&format!(" uid:{} ", app.uid)).count(), 1, "{}", app.uid);
        }
    }
}
