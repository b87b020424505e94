//! Which way something left: Wi-Fi, mobile or VPN, asked for the uid that sent it, as Android routes. Alerts are read as `watch` on
//! the control socket gives them.
//!
//! Needs root, the `raw_syscalls` tracepoints, iproute2 and Debian's python3; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use live::{
    daemon::{Daemon, Net, PATIENCE, can_watch_sends, has, must},
    uids::uids,
};
use serde_json::Value;

/// This phone's IMEI in this test, an example number.
const IMEI: &str = "490154203237518";

#[test]
fn an_alert_says_by_which_link_it_left() {
    if !can_watch_sends() || !has(&["ip", "nsenter", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let Some(net) = Net::new("links") else { return };
    // The uid of which all goes through the VPN, and another.
    let [tunnelled, plain] = uids();
    // Cables by the names that a phone's interfaces have.
    let (inside, outside) = (&net.inside, &net.outside);
    must(&format!(
        "for one in 'tun0 10.79.0.2' 'rmnet_data0 10.80.0.2' 'wlan0 10.78.0.2'; do set -- $one
             ip -n {inside} link add $1 type veth peer name $1 netns {outside}; ip -n {outside} link set $1 up
             ip -n {inside} addr add $2/24 dev $1; ip -n {inside} link set $1 up
         done
         ip -n {inside} route add default dev tun0 table 100
         ip -n {inside} rule add uidrange {tunnelled}-{tunnelled} lookup 100"
    ));
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth.json");
    fs::write(&truth, format!("{{\"imei1\": \"{IMEI}\"}}")).unwrap();
    let library = live::openssl();
    let options = ["--truth", truth.to_str().unwrap(), "--lib", library.to_str().unwrap()];
    let daemon = Daemon::start_in(inside, folder.path(), &options);
    let mut watch = UnixStream::connect(folder.path().join("store/control")).unwrap();
    watch.set_read_timeout(Some(PATIENCE)).unwrap();
    watch.write_all(b"watch\n").unwrap();
    // The daemon has taken the request once it has answered another that came later.
    daemon.status();
    let mut alerts =
        BufReader::new(watch).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());

    for (uid, to, iface) in
        [(plain, "10.78.0.9", "Wi-Fi"), (plain, "10.80.0.9", "mobile"), (tunnelled, "10.78.0.10", "VPN")]
    {
        let script = format!(
            "import socket
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.sendto(b'{{\"imei\":\"{IMEI}\"}}',('{to}',9999))"
        );
        let mut client = net.python(inside, uid, &script);
        assert!(client.wait().unwrap().success());
        let alert = alerts.find(|alert| alert["uid"] == uid && alert["ip"] == to).unwrap();
        assert_eq!((&alert["kind"], &alert["iface"]), (&"imei".into(), &iface.into()), "{alert:#}");
        println!("uid {uid} to {to}: {iface}");
    }
    daemon.stop();
}
