//! The table of binaries: what is found in which, and how it is known to be right. It is left in `target/browsers/table.md`;
//! `daemon/src/finder/binaries.md` holds one with everything in it.
//!
//! With `TELLTALE_BROWSERS=all`, as `cargo ndk-build browsers --all` sets it, also what takes a few hundred megabytes.

use std::{
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use telltale::{
    finder::{self, Verdict},
    kernel::MappedFile,
};

use crate::{
    CHROMIUM,
    fetch::{self, From, PYTHON, Package},
};

/// What must come of a search, and how that is known to be right.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Must {
    /// Found; how it was verified.
    Find(&'static str),
    /// Not found, because it is not in it.
    Pass,
}
use Must::{Find, Pass};

/// A binary in a package.
pub(crate) struct Subject {
    pub(crate) package: Package,
    pub(crate) machine: &'static str,
    /// Where in the package.
    pub(crate) file: &'static str,
    pub(crate) must: Must,
    /// Only when all are asked for.
    large: bool,
}

const RUN: &str = "at run time";
const SYMBOLS: &str = "by its symbol table";
const BY_HAND: &str = "by hand, in its disassembly";

const fn wheel(
    name: &'static str,
    version: &'static str,
    platform: &'static str,
    sha256: &'static str,
) -> Package {
    Package { name, version, from: From::Pypi(platform, "311"), sha256 }
}

const fn subject(package: Package, machine: &'static str, file: &'static str, must: Must) -> Subject {
    Subject { package, machine, file, must, large: false }
}

const X86: &str = "manylinux2014_x86_64";
const ARM: &str = "manylinux2014_aarch64";
const LATE_ARM: &str = "manylinux_2_34_aarch64";
const MUSL_ARM: &str = "musllinux_1_2_aarch64";

/// The first three run here, in this order.
pub(crate) const CURL_CFFI: Subject = subject(
    wheel("curl_cffi", "0.17.0", X86, "af0782d5e340b65fd76701630f0284a8f8243d77df5f2637efd09a4b009f4e24"),
    "x86_64",
    "curl_cffi/_wrapper.abi3.so",
    Find(RUN),
);
pub(crate) const GRPCIO: Subject = subject(
    wheel("grpcio", "1.85.1", X86, "83aced2a1c05648cee0de34e531351118b14c58238f0a61b43559ac8851647a8"),
    "x86_64",
    "grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so",
    Find(RUN),
);
pub(crate) const RNET: Subject = subject(
    wheel("rnet", "2.4.2", X86, "573c637accaf7f3c7aa6d2241224ed577444c00e8af4e631b243b3cae765c502"),
    "x86_64",
    "rnet/rnet.cpython-311-x86_64-linux-gnu.so",
    Find(RUN),
);

const SUBJECTS: [Subject; 19] = [
    CURL_CFFI,
    GRPCIO,
    RNET,
    subject(
        wheel("curl_cffi", "0.17.0", ARM, "aa91d26234516ddb9eb97310d5fe1705aa6f677f101d57ffdb76d5f75439506e"),
        "aarch64",
        "curl_cffi/_wrapper.abi3.so",
        Find(SYMBOLS),
    ),
    // Built with Android's own tools.
    subject(
        Package {
            name: "curl_cffi",
            version: "0.17.0",
            from: From::Pypi("android_24_arm64_v8a", "313"),
            sha256: "ae0442e45d6e0c987f84cb88bd6a99d7b91c8e2b017c18048a6c4fed63847c80",
        },
        "aarch64 Android",
        "curl_cffi/_wrapper.abi3.so",
        Find(SYMBOLS),
    ),
    subject(
        wheel("grpcio", "1.85.1", ARM, "9885436e83eab92dd0d476642baf08a17c55ef2b1db430adcba3e89bb6938a5d"),
        "aarch64",
        "grpc/_cython/cygrpc.cpython-311-aarch64-linux-gnu.so",
        Find(BY_HAND),
    ),
    wreq(X86, "x86_64", "8f03ca8279994ef2a1884e111e1fe5ad9555da34b4da238bc6fad551b51835e4"),
    wreq(LATE_ARM, "aarch64", "c8012593fee3252613ed4d0b5bec04a90c0572eac673e9a76a292fcc1bfcd4f9"),
    wreq(MUSL_ARM, "aarch64 musl", "376cd8a1fcdb416dd6dad7793511c69837062a7b38dc8a78bebca863aaaaff55"),
    subject(
        wheel("rnet", "2.4.2", LATE_ARM, "48fca3430dc4d90c920c08474a0db0ec3e6465226a08345b10b6cc58c8b0c23e"),
        "aarch64",
        "rnet/rnet.cpython-311-aarch64-linux-gnu.so",
        Find(BY_HAND),
    ),
    subject(
        wheel("rnet", "2.4.2", MUSL_ARM, "129eab0183ca50fd5f57b24b3b4387a5edca727e4004c1debcb5c23ecba6c128"),
        "aarch64 musl",
        "rnet/rnet.cpython-311-aarch64-linux-musl.so",
        Find(BY_HAND),
    ),
    primp(X86, "x86_64", "9a7be373adfded677a9092ae2743873d5c8a9573148d617a189d26715f7d8ea5"),
    primp(ARM, "aarch64", "aa85a55b1c53ef8c2d14f1c61f0b7ab0ff300b349b2768a52d6c2f3f3f9ca80c"),
    // A whole headless browser inside a package.
    Subject {
        package: Package {
            name: "@sparticuz/chromium",
            version: "147.0.0",
            from: From::Npm,
            sha256: "18fe5404ce845594cd7d592fc07f37a19514079ba4d9c27192ad8b908743f16b",
        },
        machine: "x86_64",
        file: "package/bin/chromium.br",
        must: Find(BY_HAND),
        large: true,
    },
    large_qt(
        "manylinux_2_34_x86_64",
        "x86_64",
        "764891ae20e81828ed8ba0dc153daffca10f8060c9a9b0303a7d407e3e72ce9b",
    ),
    large_qt(
        "manylinux_2_39_aarch64",
        "aarch64",
        "17796086d6a6fd4aa58d4cd50ba9410d6ab5f1f9597b6e04443a7ee960c341bb",
    ),
    webrtc("lib/arm64-v8a/libjingle_peerconnection_so.so", "aarch64 Android", Find(BY_HAND)),
    webrtc("lib/x86_64/libjingle_peerconnection_so.so", "x86_64 Android", Find(BY_HAND)),
    // Of 32 bits: no program for the finder.
    webrtc("lib/armeabi-v7a/libjingle_peerconnection_so.so", "32-bit Arm Android", Pass),
];

/// BoringSSL shakes hands here and wreq seals its records itself: SSL_write is there, and nobody calls it.
const fn wreq(platform: &'static str, machine: &'static str, sha256: &'static str) -> Subject {
    subject(wheel("wreq", "0.13.0", platform, sha256), machine, "wreq/wreq.abi3.so", Find(BY_HAND))
}

/// rustls on AWS-LC's cryptography: a fork of BoringSSL without its TLS.
const fn primp(platform: &'static str, machine: &'static str, sha256: &'static str) -> Subject {
    subject(wheel("primp", "2.0.1", platform, sha256), machine, "primp/primp.abi3.so", Pass)
}

const fn large_qt(platform: &'static str, machine: &'static str, sha256: &'static str) -> Subject {
    let package = wheel("PyQt6-WebEngine-Qt6", "6.11.2", platform, sha256);
    Subject {
        package,
        machine,
        file: "PyQt6/Qt6/lib/libQt6WebEngineCore.so.6",
        must: Find(BY_HAND),
        large: true,
    }
}

/// What Chromium's tools made for Android in 2018.
const fn webrtc(file: &'static str, machine: &'static str, must: Must) -> Subject {
    let package = Package {
        name: "react-native-webrtc",
        version: "1.69.2",
        from: From::Npm,
        sha256: "9a9909586c8928e4635d7dd9f188d2dd1e037cc145c7562c3707eeaaeaea8157",
    };
    Subject { package, machine, file, must, large: true }
}

impl Subject {
    /// The folder of the package and the binary in it. None, having said why, when it is not to be had.
    pub(crate) fn fetched(&self) -> Option<(PathBuf, PathBuf)> {
        let folder = self.package.unpacked()?;
        let file = folder.join(self.file);
        if self.file.ends_with(".br") {
            return Some((folder, fetch::unbrotli(&file)));
        }
        if self.package.name == "react-native-webrtc" && !file.exists() {
            let jar = folder.join("package/android/libs/libjingle_peerconnection.so.jar");
            fetch::unzip(&jar, &folder).unwrap();
        }
        Some((folder, file))
    }
}

/// Whether the large ones are asked for.
fn all() -> bool {
    env::var_os("TELLTALE_BROWSERS").is_some_and(|value| value == "all")
}

/// A line of the table.
struct Row {
    name: String,
    machine: String,
    file: PathBuf,
    must: Must,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| !subject.large || all()) {
        let Some((_, file)) = subject.fetched() else { continue };
        let name = format!("{} {}", subject.package.name, subject.package.version);
        rows.push(Row { name, machine: subject.machine.to_owned(), file, must: subject.must });
    }
    let here = env::consts::ARCH;
    let debian = Path::new("/usr/lib").join(format!("{here}-linux-gnu"));
    for (name, file, must) in [
        ("Debian's chromium", PathBuf::from(CHROMIUM), Find(RUN)),
        ("Debian's android-libboringssl", debian.join("android/libssl.so.0"), Find("by its exports")),
        ("OpenSSL 3 libssl", debian.join("libssl.so.3"), Pass),
        ("OpenSSL 3 libcrypto", debian.join("libcrypto.so.3"), Pass),
        ("GnuTLS", debian.join("libgnutls.so.30"), Pass),
        ("NSS", debian.join("libssl3.so"), Pass),
        ("mbed TLS", debian.join("libmbedtls.so.14"), Pass),
        ("wolfSSL", debian.join("libwolfssl.so.35"), Pass),
        ("Python 3.11", PathBuf::from(PYTHON), Pass),
        ("Node.js", PathBuf::from("/usr/bin/node"), Pass),
        // It knows what to look for.
        ("Telltale", PathBuf::from(env!("CARGO_BIN_EXE_telltale")), Pass),
    ] {
        if file.exists() {
            rows.push(Row { name: name.to_owned(), machine: here.to_owned(), file, must });
        } else {
            println!("not in the table: {name}, which is not installed here");
        }
    }
    rows
}

#[test]
fn the_table_of_binaries_comes_out_as_it_must() {
    let mut table = String::from(
        "| binary | machine | MB | ms | outcome | also | witnesses | verified |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for Row { name, machine, file, must } in rows() {
        let mapped = MappedFile::open(&file).unwrap();
        let began = Instant::now();
        let found = finder::find_between(mapped.as_ref(), &|stretch| {
            mapped.let_go(stretch);
            ControlFlow::Continue(())
        });
        let took = began.elapsed().as_millis();
        let megabytes = mapped.as_ref().len() / 1_000_000;
        let mut also = Vec::new();
        let (outcome, witnesses) = match &found {
            Ok(Verdict::Found(found)) => {
                also.extend(found.set_host_name.map(|_| "host name"));
                also.extend(found.ssl_new.map(|_| "new"));
                let words: Vec<&str> = found.witnesses.iter().map(|witness| witness.word()).collect();
                (format!("SSL_write at {:#x}", found.ssl_write.offset), words.join(" "))
            }
            Ok(Verdict::Absent) => ("no BoringSSL".to_owned(), String::new()),
            Ok(Verdict::Refused(why)) => (format!("refused: {why}"), String::new()),
            Err(why) => (why.to_string(), String::new()),
        };
        let verified = if let Find(how) = must { how } else { "" };
        table += &format!(
            "| {name} | {machine} | {megabytes} | {took} | {outcome} | {} | {witnesses} | {verified} |\n",
            also.join(", ")
        );
        let is_right = match must {
            Find(_) => matches!(found, Ok(Verdict::Found(_))),
            Pass => found == Ok(Verdict::Absent),
        };
        assert!(is_right, "{table}");
    }
    println!("{table}");
    fs::create_dir_all(fetch::folder()).unwrap();
    fs::write(fetch::folder().join("table.md"), table).unwrap();
}
