//! The daemon's end of the control socket: takes requests and sends answers without ever waiting for a client.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::Path,
    rc::Rc,
};

#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt as _;
#[cfg(not(target_os = "android"))]
use std::os::linux::net::SocketAddrExt as _;

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{getsockopt, sockopt::PeerCredentials},
};

use crate::{
    alert::{Alert, sink::Sink},
    control::{ABSTRACT, Address, LONGEST, Request, refusal},
};

/// Clients at once; a further one takes the place of the oldest.
const CLIENTS: usize = 8;
/// Bytes that may wait for a client that does not read; one that lets more wait is dropped.
const WAITING: usize = 4 << 20;
/// Alerts that wait to be handed to those who watch.
const ALERTS: usize = 1024;
/// What the listener is called in the epoll set; clients have their numbers.
const LISTENER: u64 = 0;

/// The socket and who is connected.
pub(super) struct Control {
    listener: UnixListener,
    epoll: Epoll,
    clients: Vec<Client>,
    next: u64,
    alerts: Alerts,
    address: Address,
}

struct Client {
    number: u64,
    stream: UnixStream,
    request: Vec<u8>,
    answer: VecDeque<u8>,
    watches: bool,
    /// Everything is said: closed when the answer is out.
    ends: bool,
}

/// What the daemon says to a request.
pub(super) enum Answer {
    /// This, and no more.
    Once(String),
    /// Alerts, as they come.
    Alerts,
}

/// Alerts on their way to those who watch. One end is a sink like any other.
#[derive(Clone, Default)]
struct Alerts(Rc<RefCell<Queue>>);

#[derive(Default)]
struct Queue {
    wanted: bool,
    lines: VecDeque<String>,
}

impl Sink for Alerts {
    fn alert(&mut self, alert: &Alert) -> io::Result<()> {
        let mut queue = self.0.borrow_mut();
        if queue.wanted && alert.listed && queue.lines.len() < ALERTS {
            queue.lines.push_back(alert.json() + "\n");
        }
        Ok(())
    }
}

impl Control {
    /// Listens. A socket file that a killed daemon left is replaced; one that somebody answers on is not.
    pub(super) fn open(address: Address) -> io::Result<Control> {
        let listener = match &address {
            Address::File(file) => {
                if UnixStream::connect(file).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
                }
                match fs::remove_file(file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let listener = UnixListener::bind(file)?;
                // The folder keeps others out until this has taken effect, and the kernel's word on who connects always.
                fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
                listener
            }
            Address::Abstract => UnixListener::bind_addr(&SocketAddr::from_abstract_name(ABSTRACT)?)?,
        };
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Control {
            listener,
            epoll,
            clients: Vec::new(),
            next: LISTENER,
            alerts: Alerts::default(),
            address,
        })
    }

    /// Where alerts go that somebody may be watching for.
    pub(super) fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.alerts.clone())
    }

    /// Takes what clients have sent, answers, and sends what can be sent now.
    pub(super) fn serve(&mut self, answer: &mut dyn FnMut(&Request) -> Answer) {
        let mut ready = [EpollEvent::empty(); CLIENTS];
        let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in ready.iter().take(count) {
            if event.data() == LISTENER {
                self.accept();
                continue;
            }
            let Some(at) = self.clients.iter().position(|client| client.number == event.data()) else {
                continue;
            };
            if let Some(client) = self.clients.get_mut(at)
                && client.hear(answer).is_ok()
                && client.speak().is_ok()
                && client.await_with(&self.epoll).is_ok()
            {
                continue;
            }
            // The descriptor leaves the epoll set as it is closed.
            self.clients.remove(at);
        }
        self.alerts.0.borrow_mut().wanted = self.clients.iter().any(|client| client.watches);
    }

    /// Hands alerts on to those who watch.
    pub(super) fn tell(&mut self) {
        if self.alerts.0.borrow().lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.alerts.0.borrow_mut().lines);
        let epoll = &self.epoll;
        self.clients.retain_mut(|client| {
            if !client.watches {
                return true;
            }
            for line in &lines {
                client.answer.extend(line.as_bytes());
            }
            client.speak().is_ok() && client.await_with(epoll).is_ok()
        });
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let root = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
            if !root || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() >= CLIENTS {
                self.clients.remove(0);
            }
            self.next = self.next.wrapping_add(1).max(1);
            let client = Client {
                number: self.next,
                stream,
                request: Vec::new(),
                answer: VecDeque::new(),
                watches: false,
                ends: false,
            };
            if self.epoll.add(&client.stream, EpollEvent::new(EpollFlags::EPOLLIN, client.number)).is_ok() {
                self.clients.push(client);
            }
        }
    }
}

impl AsFd for Control {
    /// Readable when [`Control::serve`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Address::File(file) = &self.address {
            remove(file);
        }
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        log::debug!("{}: {error}", file.display());
    }
}

impl Client {
    /// Reads on in the request, and has it answered when it is whole.
    fn hear(&mut self, answer: &mut dyn FnMut(&Request) -> Answer) -> io::Result<()> {
        let mut bytes = [0; LONGEST];
        loop {
            match self.stream.read(&mut bytes) {
                // The client is gone; what it sent is of no use to anybody now.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Behind its request a client has nothing to say.
                Ok(_) if self.ends || self.watches => {}
                Ok(len) => {
                    self.request.extend_from_slice(bytes.get(..len).unwrap_or_default());
                    match Request::parse(&self.request) {
                        Ok(None) => {}
                        Ok(Some(request)) => match answer(&request) {
                            Answer::Once(text) => self.say_and_end(&text),
                            Answer::Alerts => self.watches = true,
                        },
                        Err(error) => self.say_and_end(&refusal(&error.to_string())),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn say_and_end(&mut self, text: &str) {
        self.answer.extend(text.as_bytes());
        self.ends = true;
    }

    /// Sends as much as the socket takes; an error when the client is done with.
    fn speak(&mut self) -> io::Result<()> {
        while !self.answer.is_empty() {
            let (first, _) = self.answer.as_slices();
            match self.stream.write(first) {
                Ok(len) => drop(self.answer.drain(..len.min(self.answer.len()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let over = self.answer.is_empty() && self.ends;
        if over || self.answer.len() > WAITING {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    /// Waits for room while something is to be sent.
    fn await_with(&self, epoll: &Epoll) -> io::Result<()> {
        let more = if self.answer.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | more, self.number);
        Ok(epoll.modify(&self.stream, &mut event)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::BufRead as _, io::BufReader, net::Shutdown, time::Duration};

    fn ask(file: &Path, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(file).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    fn all(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn is_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            println!("skipped: only root is answered");
        }
        root
    }

    #[test]
    fn requests_are_answered_also_when_they_come_in_halves_and_nobody_waits() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("control");
        let mut control = Control::open(Address::File(file.clone())).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Control::open(Address::File(file.clone())).is_err(), "somebody answers there");
        let mut answer = |request: &Request| match request {
            Request::Status => Answer::Once("x".repeat(1 << 20) + "\n"),
            Request::Watch => Answer::Alerts,
        };
        let mut halves = ask(&file, b"sta");
        control.serve(&mut answer);
        control.serve(&mut answer);
        halves.write_all(b"tus\n").unwrap();
        let wrong = ask(&file, b"walk\n");
        let gone = ask(&file, b"status\n");
        drop(gone);
        let silent = ask(&file, b"");
        // The answer is longer than a socket's buffer: it goes out bit by bit while the client reads.
        let reader = std::thread::spawn(move || all(halves));
        while !reader.is_finished() {
            control.serve(&mut answer);
        }
        assert_eq!(reader.join().unwrap().len(), (1 << 20) + 1);
        // The reader may have been so quick that the others' turn did not come.
        (0..3).for_each(|_| control.serve(&mut answer));
        assert!(all(wrong).contains("\\\"walk\\\" is no request"));
        assert_eq!(control.clients.len(), 1);
        silent.shutdown(Shutdown::Both).unwrap();
        control.serve(&mut answer);
        assert!(control.clients.is_empty());
        drop(control);
        assert!(!file.exists());
    }

    #[test]
    fn those_who_watch_get_lines_and_one_who_does_not_read_is_dropped() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("control");
        // What a killed daemon leaves is replaced.
        drop(UnixListener::bind(&file).unwrap());
        let mut control = Control::open(Address::File(file.clone())).unwrap();
        let mut answer = |_: &Request| Answer::Alerts;
        let watcher = ask(&file, b"watch\n");
        let _deaf = ask(&file, b"watch\n");
        control.serve(&mut answer);
        control.serve(&mut answer);
        assert!(control.alerts.0.borrow().wanted);
        control.alerts.0.borrow_mut().lines.push_back("{\"kind\":\"imei\"}\n".into());
        control.tell();
        let mut line = String::new();
        let mut watcher = BufReader::new(watcher);
        watcher.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"kind\":\"imei\"}\n");
        control.alerts.0.borrow_mut().lines.push_back("y".repeat(WAITING + (1 << 20)));
        let reader = std::thread::spawn(move || watcher.read_line(&mut String::new()).unwrap_or(0));
        control.tell();
        assert!(control.clients.len() < 2, "at least the deaf one is gone");
        drop(control);
        let _ = reader.join();
    }

    #[test]
    fn a_crowd_of_clients_pushes_the_oldest_out() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("control");
        let mut control = Control::open(Address::File(file.clone())).unwrap();
        let streams: Vec<UnixStream> = (0..30).map(|_| ask(&file, b"")).collect();
        for _ in 0..4 {
            control.serve(&mut |_| Answer::Alerts);
        }
        assert_eq!(control.clients.len(), CLIENTS);
        drop(streams);
    }
}
