//! The other end of a test's connections: servers of `ndk-build/clients/`, and a client that sends to them as an app does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use super::{Library, compile};

/// A child that does not outlive the test.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail when it has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose first words are `port=N`.
pub(crate) struct Server {
    program: Program,
    /// It ends when this closes.
    input: ChildStdin,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Server {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        // What more it says must not fill the pipe.
        thread::spawn(move || output.read_to_string(&mut String::new()));
        let port = line.trim().strip_prefix("port=").unwrap().parse().unwrap();
        Server { input: child.stdin.take().unwrap(), program: Program(child), port }
    }

    /// One that takes what TLS clients send.
    pub(crate) fn collector() -> Server {
        Server::start(Command::new(compile("tls-collector", "openssl")).arg("127.0.0.1"))
    }

    /// A client of it that goes through a test's BoringSSL, from an app's own uid.
    pub(crate) fn client(&self, library: &Library, uid: u32, host: &str) -> Command {
        let mut client = Command::new(compile("tls-client", "boringssl"));
        client.args(["--connect", &format!("127.0.0.1:{}", self.port), "--host", host]);
        client.env("LD_LIBRARY_PATH", library.folder());
        client.args(["--uid", &uid.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        client
    }

    /// Sends this by such a client, to its end.
    pub(crate) fn sent(&self, library: &Library, uid: u32, host: &str, request: &str) {
        let mut client = self.client(library, uid, host).args(["--file", "-"]).spawn().unwrap();
        client.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        assert!(client.wait().unwrap().success());
    }

    /// Lets it end, which must go well.
    pub(crate) fn finish(self) {
        let Server { mut program, input, .. } = self;
        drop(input);
        assert!(program.0.wait().unwrap().success());
    }
}
