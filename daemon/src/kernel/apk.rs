//! Libraries that lie uncompressed in an APK: Android maps them straight out of it (`extractNativeLibs="false"`), so that a
//! process shows `base.apk` or `split_config.arm64_v8a.apk` where others show a library.
#![forbid(unsafe_code)]

use std::fs::File;

use rawzip::{CompressionMethod, ZipArchive};

use super::{libraries::Part, mapped_file::MappedFile};

/// More entries are not looked at; a large app has some ten thousand.
const ENTRIES: usize = 1 << 18;

/// Whether a name is an APK's.
pub(super) fn is_apk(path: &str) -> bool {
    path.strip_suffix(" (deleted)").unwrap_or(path).ends_with(".apk")
}

/// The stored entry that holds the byte at `offset`: its name and place. None when there is none, it is compressed, or this
/// is no archive.
pub(super) fn entry_at(file: &File, offset: u64) -> Option<(String, Part)> {
    let mapped = MappedFile::of_others(file).ok()?;
    let archive = ZipArchive::from_slice(mapped.as_ref()).ok()?;
    let mut nearest: Option<(u64, String, _)> = None;
    let mut entries = archive.entries();
    for _ in 0..ENTRIES {
        let Ok(Some(entry)) = entries.next_entry() else { break };
        let at = entry.local_header_offset();
        // Entries may overlap in a forged archive; the loader goes by the offset alone, and so do we.
        if entry.compression_method() == CompressionMethod::STORE
            && at < offset
            && nearest.as_ref().is_none_or(|(known, ..)| *known < at)
        {
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            nearest = Some((at, name, entry.wayfinder()));
        }
    }
    let (_, name, wayfinder) = nearest?;
    let (start, end) = archive.get_entry(wayfinder).ok()?.compressed_data_range();
    let part = Part { offset: start, length: end.checked_sub(start)? };
    (start..end).contains(&offset).then_some((name, part))
}

#[cfg(test)]
pub(super) mod testing {
    use std::{fs::File, path::Path};

    /// Packs files into an archive as Android's build tools do: libraries stored, on page boundaries.
    pub(in crate::kernel) fn pack(archive: &Path, entries: &[(&str, &[u8])]) {
        let mut writer = rawzip::ZipArchiveWriter::new(File::create(archive).unwrap());
        let mut offset = 0_u64;
        for (name, bytes) in entries {
            // Local header, name, and an extra field that fills up to the next page.
            let fixed = offset + 30 + name.len() as u64 + 4;
            let padding = fixed.next_multiple_of(4096) - fixed;
            let (mut entry, config) = writer
                .new_file(name)
                .compression_method(rawzip::CompressionMethod::STORE)
                .extra_field(
                    rawzip::extra_fields::ExtraFieldId::new(0xd935),
                    &vec![0; padding as usize],
                    rawzip::Header::LOCAL,
                )
                .unwrap()
                .start()
                .unwrap();
            let mut data = config.wrap(&mut entry);
            std::io::Write::write_all(&mut data, bytes).unwrap();
            let (_, output) = data.finish().unwrap();
            entry.finish(output).unwrap();
            offset = writer.stream_offset();
        }
        writer.finish().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_told_by_an_offset_within_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.apk");
        let (one, two) = (vec![1; 10_000], vec![2; 5_000]);
        testing::pack(&path, &[("lib/arm64-v8a/libone.so", &one), ("lib/arm64-v8a/libtwo.so", &two)]);
        let file = File::open(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for (name, content) in [("lib/arm64-v8a/libone.so", &one), ("lib/arm64-v8a/libtwo.so", &two)] {
            let at = memchr::memmem::find(&bytes, content).unwrap() as u64;
            assert_eq!(at % 4096, 0, "{name}");
            for offset in [at, at + 4096] {
                let (found, part) = entry_at(&file, offset).unwrap();
                assert_eq!((found.as_str(), part.offset), (name, at));
                assert_eq!(part.of(&bytes), Some(&content[..]));
            }
        }
        assert_eq!(entry_at(&file, 0), None);
        assert_eq!(entry_at(&file, bytes.len() as u64 + 4096), None);
    }

    #[test]
    fn what_is_no_archive_or_a_damaged_one_has_no_entries_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.apk");
        testing::pack(&path, &[("lib/arm64-v8a/libone.so", &[1; 300])]);
        let bytes = std::fs::read(&path).unwrap();
        for end in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let _found = entry_at(&File::open(&path).unwrap(), 4096);
        }
        for at in bytes.len() - 120..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            std::fs::write(&path, &damaged).unwrap();
            let _found = entry_at(&File::open(&path).unwrap(), 4096);
        }
    }

    #[test]
    fn apks_are_told_by_their_names() {
        assert!(is_apk("/data/app/org.x-1==/base.apk"));
        assert!(is_apk("/data/app/org.x-1==/split_config.arm64_v8a.apk (deleted)"));
        assert!(!is_apk("/system/lib64/libapk.so"));
    }
}
