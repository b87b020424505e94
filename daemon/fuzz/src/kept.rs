//! The promises of what reads files: address data, the phone's own databases, and redaction of what is kept. No panic, whatever the bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use telltale::alert::evidence::redact::{apply, spans_of_layer};
use telltale::leak::{Data, phone};
use telltale::place::ip::IpData;

/// A file that opens answers every address or says that it does not know.
pub fn addresses(data: &[u8]) {
    let Ok(file) = IpData::open(data) else { return };
    let mut asked = vec![
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    asked.extend(data.chunks_exact(16).take(64).filter_map(|sixteen| {
        let octets: [u8; 16] = sixteen.try_into().ok()?;
        Some(IpAddr::from(octets))
    }));
    for address in asked {
        assert!(file.country(address).is_none_or(|code| code.len() == 2));
        let _ = file.network(address).map(|network| network.short().len());
    }
    let _ = file.verify();
}

/// Spans lie in the bytes, in order and apart; what is taken out is replaced by a mark and nothing else changes.
pub fn redaction(data: &[u8]) {
    let spans = spans_of_layer(data);
    let mut end = 0;
    for span in &spans {
        assert!(end <= span.start && span.start < span.end && span.end <= data.len());
        end = span.end;
    }
    let removed: usize = spans.iter().map(|span| span.end - span.start).sum();
    assert_eq!(apply(data, &spans).len(), data.len() - removed + 3 * spans.len());
}

thread_local! {
    // Reading the rows takes a hundred times as long as reading a phone's files by them.
    static ROWS: Option<Data> = Data::built_in().ok();
}

/// A phone whose every file is these bytes: a database is read to its end or said to be none.
pub fn phone_files(data: &[u8]) {
    let half = data.len() / 2;
    let read = |path: &str| {
        Ok(match path {
            // The log of a database is another file than it.
            _ if path.ends_with("-wal") => data.get(half..).unwrap_or_default().to_vec(),
            _ => data.to_vec(),
        })
    };
    ROWS.with(|rows| {
        let Some(rows) = rows else { return };
        let gathered = phone::gather(rows, &[0], &read, &|_| None);
        assert!(gathered.failures.len() < 32);
    });
}
