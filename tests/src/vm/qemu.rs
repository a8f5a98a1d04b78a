//! QEMU's command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mooring_images::guest::{EXEC_PORT, ROOT_SERIAL};

use super::{Files, VmBuilder};

/// What a machine is started from.
pub struct Machine<'a> {
    /// Name, memory, processors.
    pub builder: &'a VmBuilder,
    /// Kernel, initrd, root and the layers over it.
    pub files: &'a Files,
    /// A disk of its own.
    pub disk: Option<&'a Path>,
}

impl Machine<'_> {
    /// The whole command.
    pub fn command(&self, vhost: &Path, exec_port: &Path, console: &Path) -> Result<Command> {
        let mut command = Command::new("qemu-system-x86_64");
        let memory = format!("{}M", self.builder.memory_mib);
        // Emulation everywhere, also where there is KVM: what runs here runs the same way anywhere.
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-no-reboot", "-name", &self.builder.name]);
        command.args(["-m", &memory, "-smp", &self.builder.cpus.to_string()]);
        // The vsock device is another process and reads the guest's memory.
        let backend = format!("memory-backend-memfd,id=mem,size={memory},share=on");
        command.args(["-object", &backend, "-machine", "q35,memory-backend=mem"]);
        command.arg("-kernel").arg(&self.files.image.kernel).arg("-initrd").arg(&self.files.image.initrd);
        let name = &self.builder.name;
        command.arg("-append").arg(format!("console=ttyS0 panic=-1 quiet loglevel=4 mooring.name={name}"));

        add_chardev(&mut command, "file,id=console,append=on", console)?;
        command.args(["-serial", "chardev:console"]);
        add_disk(&mut command, &self.files.image.root, ROOT_SERIAL, true)?;
        for (number, layer) in self.files.layers.iter().enumerate() {
            add_disk(&mut command, &layer.image, &format!("layer{number}"), true)?;
        }
        if let Some(disk) = self.disk {
            add_disk(&mut command, disk, "scratch", false)?;
        }
        add_chardev(&mut command, "socket,id=vhost", vhost)?;
        command.args(["-device", "vhost-user-vsock-pci,chardev=vhost"]);
        add_chardev(&mut command, "socket,id=exec", exec_port)?;
        command.args(["-device", "virtio-serial-pci"]);
        command.args(["-device", &format!("virtserialport,chardev=exec,name={EXEC_PORT}")]);
        Ok(command)
    }
}

fn add_chardev(command: &mut Command, kind: &str, path: &Path) -> Result<()> {
    command.args(["-chardev", &format!("{kind},path={}", plain(path)?)]);
    Ok(())
}

fn add_disk(command: &mut Command, image: &Path, serial: &str, read_only: bool) -> Result<()> {
    let access = if read_only { "readonly=on" } else { "cache=none" };
    command.args(["-drive", &format!("if=none,id={serial},format=raw,{access},file={}", plain(image)?)]);
    command.args(["-device", &format!("virtio-blk-pci,drive={serial},serial={serial}")]);
    Ok(())
}

/// QEMU splits its options at commas; a path with one would become another option.
fn plain(path: &Path) -> Result<&str> {
    let text = path.to_str().with_context(|| format!("{} is not text", path.display()))?;
    ensure!(!text.contains(','), "{text} has a comma, which QEMU's options cannot carry");
    Ok(text)
}

/// An empty disk with ext4 on it. The file is sparse: it takes the room that is written.
pub fn make_disk(path: &Path, mib: u32) -> Result<PathBuf> {
    let file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(u64::from(mib) << 20).with_context(|| format!("sizing {}", path.display()))?;
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    let done = mkfs.args(["-q", "-F"]).arg(path).output().context("starting mkfs.ext4")?;
    ensure!(done.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(path.to_owned())
}
