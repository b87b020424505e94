//! Interfaces and their addresses, as they come and go, and the one a flow leaves by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::SockProtocol;

use super::{Error, Wait, Wire};

/// Multicast groups of rtnetlink (`RTMGRP_*`, include/uapi/linux/rtnetlink.h).
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;

/// What a link is to the owner of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// `wlan0`
    Wifi,
    /// `rmnet_data0`, `ccmni0`
    Mobile,
    /// `tun0`, `wg0`, `ipsec0`
    Vpn,
    /// `eth0`, `veth…`
    Ethernet,
    /// `bt-pan`
    Bluetooth,
    /// `lo`: not egress
    Loopback,
    /// Anything else.
    Other,
}

impl LinkKind {
    /// The word on an alert.
    pub fn word(self) -> &'static str {
        match self {
            LinkKind::Wifi => "Wi-Fi",
            LinkKind::Mobile => "mobile",
            LinkKind::Vpn => "VPN",
            LinkKind::Ethernet => "Ethernet",
            LinkKind::Bluetooth => "Bluetooth",
            LinkKind::Loopback => "loopback",
            LinkKind::Other => "other",
        }
    }

    /// From the interface's name, which vendors keep to because Android's own configuration matches on it
    /// (`config_tether_*_regexs`, `networkAttributes` in frameworks/base config.xml).
    fn of_name(name: &str) -> LinkKind {
        const PREFIXES: &[(&str, LinkKind)] = &[
            // Before rmnet: 464xlat's `v4-rmnet_data0` is mobile data too, `v4-wlan0` is Wi-Fi.
            ("v4-rmnet", LinkKind::Mobile),
            ("v4-ccmni", LinkKind::Mobile),
            ("v4-wlan", LinkKind::Wifi),
            ("wlan", LinkKind::Wifi),
            ("wifi", LinkKind::Wifi),
            ("p2p", LinkKind::Wifi),
            ("rmnet", LinkKind::Mobile),
            ("r_rmnet", LinkKind::Mobile),
            ("ccmni", LinkKind::Mobile),
            ("ccinet", LinkKind::Mobile),
            ("seth_", LinkKind::Mobile),
            ("wwan", LinkKind::Mobile),
            ("tun", LinkKind::Vpn),
            ("tap", LinkKind::Vpn),
            ("ppp", LinkKind::Vpn),
            ("wg", LinkKind::Vpn),
            ("ipsec", LinkKind::Vpn),
            ("bt-pan", LinkKind::Bluetooth),
            ("bnep", LinkKind::Bluetooth),
            ("eth", LinkKind::Ethernet),
            ("usb", LinkKind::Ethernet),
            ("rndis", LinkKind::Ethernet),
            ("veth", LinkKind::Ethernet),
        ];
        PREFIXES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .map_or(LinkKind::Other, |(_, kind)| *kind)
    }
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, sorted.
    pub addresses: Vec<IpAddr>,
}

/// Every interface by index. Pure state: messages are applied, nothing is asked.
#[derive(Debug, Default)]
pub struct Links {
    by_index: BTreeMap<u32, Link>,
}

impl Links {
    /// The interface with that index.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// Every interface.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// Whether an address is this machine's own: what goes there does not leave it.
    pub fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self.by_index.values().any(|link| link.addresses.binary_search(&address).is_ok())
    }

    /// Takes a message in; true when it changed anything.
    fn apply(&mut self, message: RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(&link),
            RouteNetlinkMessage::DelLink(link) => self.by_index.remove(&link.header.index).is_some(),
            RouteNetlinkMessage::NewAddress(address) => self.address(&address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address(&address, false),
            _ => false,
        }
    }

    fn link(&mut self, message: &LinkMessage) -> bool {
        let mut name = None;
        let mut kind = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::LinkInfo(infos) => {
                    kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(InfoKind::Tun | InfoKind::Wireguard | InfoKind::Xfrm) => {
                            Some(LinkKind::Vpn)
                        }
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let Some(name) = name else { return false };
        let kind = if message.header.flags.contains(LinkFlags::Loopback) {
            LinkKind::Loopback
        } else {
            kind.unwrap_or_else(|| LinkKind::of_name(&name))
        };
        let up = message.header.flags.contains(LinkFlags::Up);
        let old = self.by_index.get(&message.header.index);
        let addresses = old.map(|link| link.addresses.clone()).unwrap_or_default();
        let new = Link { name, kind, up, addresses };
        let changed = old != Some(&new);
        self.by_index.insert(message.header.index, new);
        changed
    }

    fn address(&mut self, message: &AddressMessage, there: bool) -> bool {
        // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL the own address (rtnetlink(7)).
        let mut address = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(local) => {
                    address = Some(*local);
                    break;
                }
                AddressAttribute::Address(other) => address = Some(*other),
                _ => {}
            }
        }
        let (Some(address), Some(link)) = (address, self.by_index.get_mut(&message.header.index)) else {
            return false;
        };
        match (link.addresses.binary_search(&address), there) {
            (Err(at), true) => link.addresses.insert(at, address),
            (Ok(at), false) => {
                link.addresses.remove(at);
            }
            _ => return false,
        }
        true
    }
}

/// The kernel's side: keeps a [`Links`] up to date and asks for routes.
#[derive(Debug)]
pub struct LinkSocket {
    events: Wire,
    questions: Wire,
}

impl LinkSocket {
    /// Opens both sockets.
    ///
    /// # Errors
    /// [`Error::Call`] when the kernel has no rtnetlink or does not let us.
    pub fn open() -> Result<Self, Error> {
        Ok(LinkSocket {
            events: Wire::open(
                "route",
                SockProtocol::NetlinkRoute,
                RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
            )?,
            questions: Wire::open("route", SockProtocol::NetlinkRoute, 0)?,
        })
    }

    /// Reads everything afresh.
    ///
    /// # Errors
    /// When the kernel does not answer or answers what cannot be read.
    pub fn refresh(&mut self, links: &mut Links) -> Result<(), Error> {
        let mut fresh = Links::default();
        self.questions.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), true, |message| {
            fresh.apply(message);
        })?;
        self.questions.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), true, |message| {
            fresh.apply(message);
        })?;
        *links = fresh;
        Ok(())
    }

    /// Applies what happened since the last call, without waiting; true when anything changed.
    ///
    /// # Errors
    /// As [`LinkSocket::refresh`]; an overrun is mended by reading everything afresh.
    pub fn catch_up(&mut self, links: &mut Links) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            let more = self.events.read(Wait::No, |_, payload| {
                if let netlink_packet_core::NetlinkPayload::InnerMessage(message) = payload {
                    changed |= links.apply(message);
                }
                Ok(())
            });
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(changed),
                Err(error) if error.is_overrun() => {
                    self.refresh(links)?;
                    changed = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The interface index by which a packet of `uid` to `to` would leave now. Android routes by uid (VPNs, per-app
    /// networks), so the uid is part of the question.
    ///
    /// # Errors
    /// When the kernel does not answer. No route at all is `None`.
    pub fn outgoing(&mut self, uid: u32, to: IpAddr) -> Result<Option<u32>, Error> {
        let mut question = RouteMessage::default();
        let (family, bits) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = bits;
        question.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
        question.attributes.push(RouteAttribute::Uid(uid));
        let mut index = None;
        let asked = self.questions.ask(RouteNetlinkMessage::GetRoute(question), false, |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                index = index.or_else(|| {
                    route.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some(*index),
                        _ => None,
                    })
                });
            }
        });
        match asked {
            // ENETUNREACH and its kin say that there is no route, which is an answer.
            Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(index),
        }
    }
}

impl AsFd for LinkSocket {
    /// Readable when [`LinkSocket::catch_up`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_link_is() {
        for (name, kind) in [
            ("wlan0", LinkKind::Wifi),
            ("v4-wlan0", LinkKind::Wifi),
            ("rmnet_data3", LinkKind::Mobile),
            ("v4-rmnet_data0", LinkKind::Mobile),
            ("ccmni1", LinkKind::Mobile),
            ("tun0", LinkKind::Vpn),
            ("eth0", LinkKind::Ethernet),
            ("sit0", LinkKind::Other),
        ] {
            assert_eq!(LinkKind::of_name(name), kind, "{name}");
        }
    }

    #[test]
    fn links_and_addresses_come_and_go() {
        let mut links = Links::default();
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.header.flags = LinkFlags::Up;
        link.attributes.push(LinkAttribute::IfName("wlan0".into()));
        assert!(links.apply(RouteNetlinkMessage::NewLink(link.clone())));
        assert!(!links.apply(RouteNetlinkMessage::NewLink(link.clone())), "the same again changes nothing");
        let own: IpAddr = [192, 0, 2, 7].into();
        let mut address = AddressMessage::default();
        address.header.index = 7;
        address.attributes.push(AddressAttribute::Address([192, 0, 2, 1].into()));
        address.attributes.push(AddressAttribute::Local(own));
        assert!(links.apply(RouteNetlinkMessage::NewAddress(address.clone())));
        assert!(links.is_own(own));
        assert!(!links.is_own([192, 0, 2, 1].into()), "the peer's address is not ours");
        assert!(links.apply(RouteNetlinkMessage::DelAddress(address)));
        assert!(!links.is_own(own));
        assert!(links.apply(RouteNetlinkMessage::DelLink(link)));
        assert!(links.get(7).is_none());
    }

    /// Needs no root: rtnetlink answers everybody.
    #[test]
    fn this_machines_loopback_is_found_and_used() {
        let mut socket = LinkSocket::open().unwrap();
        let mut links = Links::default();
        socket.refresh(&mut links).unwrap();
        let index = socket.outgoing(0, [127, 0, 0, 1].into()).unwrap().unwrap();
        assert_eq!(links.get(index).unwrap().kind, LinkKind::Loopback);
        assert!(!socket.catch_up(&mut links).unwrap(), "nothing happened since");
    }
}
