//! Archives of every kind, good ones and those that mean harm.

use std::io::Write;

use super::*;

struct Sandbox {
    directory: tempfile::TempDir,
    budget: Budget,
}

impl Sandbox {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("box")).unwrap();
        Self { directory, budget: Budget::new(1 << 20, 100) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("box").join(name)
    }

    fn unpack(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        std::fs::write(self.path(name), bytes).unwrap();
        let sandbox = Inside::open(&self.directory.path().join("box")).unwrap();
        let file = File::open(self.path(name)).unwrap();
        unpack(file, Kind::of(name).unwrap(), Path::new(name), &sandbox, &mut self.budget)
    }

    /// Whatever was in the archive, nothing is beside the sandbox.
    fn assert_closed(&self) {
        let beside: Vec<_> = std::fs::read_dir(self.directory.path()).unwrap().flatten().collect();
        assert_eq!(beside.len(), 1, "{beside:?}");
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header
}

/// As the library would not write it itself: with any name.
fn raw_name(header: &mut tar::Header, name: &str) {
    header.as_mut_bytes()[..100].fill(0);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
}

fn tar_of(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, mode) in entries {
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let data = if is_link { "" } else { content };
        let mut header = header(*kind, data.len() as u64, *mode);
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        raw_name(&mut header, name);
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip_of(entries: &[(&str, &str, Option<u32>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content, mode) in entries {
        let options = zip::write::SimpleFileOptions::default();
        if *mode == Some(0o120_777) {
            writer.add_symlink(*name, *content, options).unwrap();
        } else {
            writer.start_file(*name, options.unix_permissions(mode.unwrap_or(0o644))).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn every_compression_is_understood() {
    let tar = tar_of(&[("./", EntryType::Directory, "", 0o755), ("./d/f", EntryType::Regular, "content", 0o4755)]);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        // Two frames, as parallel compressors write.
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let frame = |part: &[u8]| ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest);
        [frame(one), frame(two)].concat()
    };
    for (name, bytes) in [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip(&tar)),
        ("a.TGZ", gzip(&tar)),
        ("a.tar.bz2", bzip2(&tar)),
        ("a.tar.xz", xz(&tar)),
        ("a.tar.zst", zstd(&tar)),
        ("a.zip", zip_of(&[("d/", "", None), ("d/f", "content", Some(0o755))])),
    ] {
        let mut sandbox = Sandbox::new();
        sandbox.unpack(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(std::fs::read(sandbox.path("d/f")).unwrap(), b"content", "{name}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&sandbox.path("d/f").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o755, "{name}: nobody becomes another by it");
    }
    for (name, bytes) in [("f.gz", gzip(b"x")), ("f.bz2", bzip2(b"x")), ("f.xz", xz(b"x")), ("f.zst", zstd(b"xx"))] {
        let mut sandbox = Sandbox::new();
        sandbox.unpack(name, &bytes).unwrap();
        assert!(std::fs::read(sandbox.path("f")).unwrap().starts_with(b"x"), "{name}");
    }
    assert_eq!(Kind::of("run.sh"), None);
}

#[test]
fn links_within_the_sandbox_are_kept() {
    let mut sandbox = Sandbox::new();
    let tar = tar_of(&[
        ("bin/tool-1", EntryType::Regular, "tool", 0o755),
        ("bin/tool", EntryType::Symlink, "tool-1", 0o777),
        ("lib/tool", EntryType::Symlink, "../bin/tool", 0o777),
        ("copy", EntryType::Link, "bin/tool-1", 0o755),
    ]);
    sandbox.unpack("a.tar", &tar).unwrap();
    for name in ["bin/tool", "lib/tool", "copy"] {
        assert_eq!(std::fs::read(sandbox.path(name)).unwrap(), b"tool", "{name}");
    }
}

#[test]
fn nothing_gets_out_of_the_sandbox() {
    let regular = EntryType::Regular;
    for (what, entries) in [
        ("parent", &[("../evil", regular, "x", 0o644)][..]),
        ("deep parent", &[("a/../../evil", regular, "x", 0o644)]),
        ("absolute", &[("/tmp/launch-container-evil", regular, "x", 0o644)]),
        ("link out", &[("a", EntryType::Symlink, "..", 0o777)]),
        ("absolute link", &[("a", EntryType::Symlink, "/etc", 0o777)]),
        (
            "link and back",
            &[
                ("d/e/x", regular, "x", 0o644),
                ("b", EntryType::Symlink, "d/e", 0o777),
                ("a", EntryType::Symlink, "b/../../..", 0o777),
            ],
        ),
        ("hard link out", &[("a", EntryType::Link, "../secret", 0o644)]),
        ("absolute hard link", &[("a", EntryType::Link, "/etc/hostname", 0o644)]),
        (
            "through a link",
            &[("d/x", regular, "x", 0o644), ("a", EntryType::Symlink, "d", 0o777), ("a/evil", regular, "x", 0o644)],
        ),
        ("device", &[("null", EntryType::Char, "", 0o666)]),
        ("pipe", &[("pipe", EntryType::Fifo, "", 0o666)]),
    ] {
        let mut sandbox = Sandbox::new();
        let error = sandbox.unpack("a.tar", &tar_of(entries)).expect_err(what);
        assert!(error.starts_with("it cannot be unpacked: "), "{what}: {error}");
        sandbox.assert_closed();
    }
    for (what, entries) in [
        ("parent", &[("../evil", "x", None)][..]),
        ("absolute", &[("/tmp/launch-container-evil", "x", None)]),
        ("link out", &[("a", "../..", Some(0o120_777))]),
        ("through a link", &[("d/x", "x", None), ("a", "d", Some(0o120_777)), ("a/evil", "x", None)]),
    ] {
        let mut sandbox = Sandbox::new();
        sandbox.unpack("a.zip", &zip_of(entries)).expect_err(what);
        sandbox.assert_closed();
    }
    assert!(!Path::new("/tmp/launch-container-evil").exists());
}

#[test]
fn a_small_archive_does_not_fill_the_disk() {
    let zeros = "\0".repeat(600 << 10);
    let tar = tar_of(&[("a", EntryType::Regular, &zeros, 0o644), ("b", EntryType::Regular, &zeros, 0o644)]);
    let mut sandbox = Sandbox::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&tar).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(packed.len() < 10_000);
    let error = sandbox.unpack("a.tgz", &packed).unwrap_err();
    assert!(error.contains("more than 1048576 bytes") && error.contains("fetch.max_unpacked"), "{error}");
    let written: u64 = ["a", "b"].iter().map(|name| sandbox.path(name).metadata().map_or(0, |m| m.len())).sum();
    assert!(written <= (1 << 20) + 1, "{written}");
    let mut sandbox = Sandbox::new();
    let error = sandbox.unpack("a.zip", &zip_of(&[("a", &zeros, None), ("b", &zeros, None)])).unwrap_err();
    assert!(error.contains("fetch.max_unpacked"), "{error}");
    let names: Vec<String> = (0..101).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), EntryType::Regular, "", 0o644)).collect();
    let error = Sandbox::new().unpack("a.tar", &tar_of(&many)).unwrap_err();
    assert!(error.contains("more than 100 files") && error.contains("fetch.max_entries"), "{error}");
}

#[test]
fn what_is_no_archive_is_said() {
    for name in ["a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a.zip", "a.gz"] {
        let error = Sandbox::new().unpack(name, &[b'x'; 700]).expect_err(name);
        assert!(error.starts_with("it cannot be unpacked: "), "{error}");
    }
}
