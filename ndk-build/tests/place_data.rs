//! The packed address file against the rows it was made from: equal at random addresses and at the edges of ranges.
//!
//! Needs the fetched packages in `target/place`; without them it says so and checks nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Instant;

use ndk_build::context::Context;
use ndk_build::place_data::packages;
use telltale::place::ip::IpData;

/// A row of the source: first, last, the rest of the line.
type Row = (IpAddr, IpAddr, String);

/// The plainest generator that spreads well (splitmix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn source_rows(context: &Context, gives: &str) -> Vec<Row> {
    let pins = std::fs::read_to_string(context.root.join("daemon/data/ip_packages.toml")).unwrap();
    let package =
        packages(&pins).unwrap().into_iter().find(|package| package.field("gives") == gives).unwrap();
    let file = context.target.join("place").join(package.file_name());
    let mut rows = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let member = format!("package/{}-{family}.csv", package.field("csv"));
        let output = Command::new("tar").arg("-xzOf").arg(&file).arg(member).output().unwrap();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut fields = line.splitn(3, ',');
            let mut next = || fields.next().unwrap();
            rows.push((next().parse().unwrap(), next().parse().unwrap(), next().to_owned()));
        }
    }
    rows.sort();
    rows
}

fn told_by_source(rows: &[Row], address: IpAddr) -> Option<&str> {
    let after = rows.partition_point(|row| row.0 <= address);
    let (_, last, answer) = &rows[after.checked_sub(1)?];
    (address <= *last).then_some(answer.as_str())
}

fn addresses(rows: &[Row]) -> Vec<IpAddr> {
    let mut random = Random(6);
    let mut addresses = Vec::new();
    for _ in 0..5_000 {
        addresses.push(Ipv4Addr::from_bits(random.next() as u32).into());
        // Half of what is assigned lies in 2000::/3; anywhere else a random address would nearly always be unknown.
        let high = (random.next() >> 3) | 0x2000_0000_0000_0000;
        addresses.push(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(random.next())).into());
    }
    for (first, last, _) in rows.iter().step_by(17) {
        addresses.extend([*first, *last]);
        let beside = |address: IpAddr, by: i8| -> IpAddr {
            match address {
                IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add_signed(by.into())).into(),
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add_signed(by.into())).into(),
            }
        };
        addresses.extend([beside(*first, -1), beside(*last, 1)]);
    }
    addresses
}

fn equal(what: &str, rows: &[Row], look_up: impl Fn(IpAddr) -> Option<String>) {
    let addresses = addresses(rows);
    let known = addresses.iter().filter(|address| told_by_source(rows, **address).is_some()).count();
    for address in &addresses {
        assert_eq!(look_up(*address).as_deref(), told_by_source(rows, *address), "{what} of {address}");
    }
    eprintln!("{what}: {} addresses equal, {known} of them known", addresses.len());
}

#[test]
fn the_packed_file_says_what_the_source_says() {
    let context = Context::find().unwrap();
    let Ok(bytes) = std::fs::read(context.target.join("place/telltale-place.bin")) else {
        eprintln!("skipped: no target/place/telltale-place.bin; `cargo ndk-build place-data` makes it");
        return;
    };
    let data = IpData::open(bytes.as_slice()).unwrap();
    data.verify().unwrap();
    equal("country", &source_rows(&context, "country"), |ip| data.country(ip).map(str::to_owned));
    let networks = source_rows(&context, "network");
    equal("network", &networks, |ip| {
        let network = data.network(ip)?;
        // As the CSV writes it: quoted where the name has a comma or a quote.
        let quoted = network.name.contains([',', '"']);
        let name = if quoted {
            format!("\"{}\"", network.name.replace('"', "\"\""))
        } else {
            network.name.to_owned()
        };
        Some(format!("{},{name}", network.asn))
    });
    let asked = addresses(&networks);
    let started = Instant::now();
    let mut known = 0_usize;
    for address in &asked {
        known +=
            usize::from(data.country(*address).is_some()) + usize::from(data.network(*address).is_some());
    }
    let each = started.elapsed() / (asked.len() * 2) as u32;
    eprintln!("{} bytes; {each:?} per look-up over {} addresses ({known} answers)", bytes.len(), asked.len());
}
