//! Writes an archive in the kernel's initramfs format ("newc"), as described in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`. Owner root, time zero, entries as given: the
//! same input is always the same archive.

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Archive {
    /// Adds a folder.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// Adds a file with permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), content);
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE, number, &[]);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_length = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let links = 1;
        let fields = [self.entries, mode, 0, 0, links, 0, length, 0, 0, device.0, device.1, name_length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents end on a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_has_the_bytes_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.file("a", 0o755, b"hello");
        let bytes = archive.finish();
        let expected = format!(
            "070701{:08x}{:08x}{z}{z}{:08x}{z}{:08x}{z}{z}{z}{z}{:08x}{z}a\0hello\0\0\0",
            1,
            0o100_755,
            1,
            5,
            2,
            z = "00000000"
        );
        assert_eq!(bytes.get(..expected.len()), Some(expected.as_bytes()));
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
