//! From Debian's kernel package to what QEMU starts: the unpacked kernel and an initrd with the drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::{Error, Result, recipe, run, store};

/// An unpacked kernel package.
pub struct Kernel {
    tree: PathBuf,
    release: String,
}

impl Kernel {
    /// Looks at a package unpacked in `tree`.
    pub fn in_tree(tree: &Path) -> Result<Kernel> {
        let modules = tree.join("lib/modules");
        let mut releases = fs::read_dir(&modules).map_err(Error::io("reading", &modules))?;
        let odd = |reason| Error::Kernel { path: modules.clone(), reason };
        let entry = releases.next().ok_or_else(|| odd("the package holds no modules"))?;
        let name = entry.map_err(Error::io("reading", &modules))?.file_name();
        let release = name.into_string().map_err(|_| odd("the kernel's release is not text"))?;
        // The package leaves the list of dependencies to be made on the machine that installs it.
        run::output(run::tool("depmod").arg("--basedir").arg(tree).arg(&release))?;
        Ok(Kernel { tree: tree.to_owned(), release })
    }

    /// What `uname -r` says in a guest that runs it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel as an ELF file.
    pub fn elf(&self) -> Result<Vec<u8>> {
        let path = self.tree.join(format!("boot/vmlinuz-{}", self.release));
        let image = store::read(&path)?;
        let odd = |reason| Error::Kernel { path: path.clone(), reason };
        let payload = payload(&image).ok_or_else(|| odd("not a bzImage with a payload"))?;
        let unpack = match payload {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
            [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
            [0x1f, 0x8b, ..] => "gzip",
            _ => return Err(odd("its compression is none of zstd, xz, lz4, gzip")),
        };
        let elf = run::filter(run::tool(unpack).args(["-d", "-c"]), payload)?;
        if elf.starts_with(b"\x7fELF") { Ok(elf) } else { Err(odd("its payload is not an ELF file")) }
    }

    /// The initrd: busybox, the drivers in loading order, and the script that uses them.
    pub fn initrd(&self, busybox: &Path) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "sys", "modules"] {
            archive.folder(folder);
        }
        // The kernel opens it for the first program before that can mount anything.
        archive.device("dev/console", (5, 1));
        archive.file("bin/busybox", 0o755, &store::read(busybox)?);
        archive.file("init", 0o755, recipe::INITRD_INIT.as_bytes());
        let mut order = String::new();
        for (name, content) in self.drivers()? {
            archive.file(&format!("modules/{name}"), 0o644, &content);
            order += &name;
            order.push('\n');
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        Ok(archive.finish())
    }

    /// The drivers that are not built in, unpacked, each after those it needs.
    fn drivers(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let folder = self.tree.join("lib/modules").join(&self.release);
        let listed = |file: &str| -> Result<String> {
            Ok(String::from_utf8_lossy(&store::read(&folder.join(file))?).into_owned())
        };
        let builtin: BTreeSet<String> = listed("modules.builtin")?.lines().map(module_name).collect();
        let table = Dependencies::parse(&listed("modules.dep")?);
        let mut order = Vec::new();
        for module in recipe::MODULES.iter().filter(|module| !builtin.contains(**module)) {
            let path = table.path(module);
            let missing = || Error::NoModule { release: self.release.clone(), module: (*module).to_owned() };
            table.visit(path.ok_or_else(missing)?, &mut order);
        }
        order
            .iter()
            .map(|path| Ok((format!("{}.ko", module_name(path)), unpacked(&folder.join(path))?)))
            .collect()
    }
}

/// Where the boot protocol says the compressed kernel lies; see the kernel's `Documentation/arch/x86/boot.rst`.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the unpacked size, for the kernel's own use.
    let end = start.checked_add(word(0x24c)?)?.checked_sub(4)?;
    image.get(start..end)
}

/// `kernel/fs/fuse/virtio-fs.ko.xz` is the module `virtio_fs`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = store::read(path)?;
    if path.extension().is_some_and(|extension| extension == "xz") {
        return run::filter(run::tool("xz").args(["-d", "-c"]), &bytes);
    }
    Ok(bytes)
}

/// `modules.dep`: for each module's path, the paths of those it needs.
struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    fn parse(text: &str) -> Dependencies {
        let entry = |line: &str| {
            let (path, needs) = line.split_once(':')?;
            Some((path.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
        };
        Dependencies(text.lines().filter_map(entry).collect())
    }

    fn path(&self, module: &str) -> Option<&str> {
        self.0.keys().map(String::as_str).find(|path| module_name(path) == module)
    }

    /// Depth first; depmod refuses cycles.
    fn visit(&self, path: &str, order: &mut Vec<String>) {
        if order.iter().any(|known| known == path) {
            return;
        }
        for needed in self.0.get(path).into_iter().flatten() {
            self.visit(needed, order);
        }
        order.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_come_after_what_they_need() {
        let table = Dependencies::parse(
            "fs/a.ko.xz: lib/b.ko.xz lib/c.ko.xz\nlib/b.ko.xz: lib/c.ko.xz\nlib/c.ko.xz:\n",
        );
        let mut order = Vec::new();
        table.visit("fs/a.ko.xz", &mut order);
        assert_eq!(order, ["lib/c.ko.xz", "lib/b.ko.xz", "fs/a.ko.xz"]);
        assert_eq!(table.path("a"), Some("fs/a.ko.xz"));
        assert_eq!(module_name("kernel/fs/fuse/virtio-fs.ko.xz"), "virtio_fs");
    }

    #[test]
    fn a_file_that_is_no_kernel_has_no_payload() {
        assert_eq!(payload(b"short"), None);
        assert_eq!(payload(&[0xff; 4096]), None);
        let mut huge = vec![0xff; 4096];
        huge[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(payload(&huge), None, "lengths past the end are refused, not read");
    }
}
