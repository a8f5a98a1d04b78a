//! What goes into the guest: the tables and scripts that are the recipe, all in one place.

/// Debian's release the guest is made of. The host may run another one; its mirrors carry this one too.
pub const RELEASE: &str = "bookworm";

/// Raised when the code that builds changes what it makes from the same tables.
pub const REVISION: u32 = 1;

/// The kernels guests are booted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelSeries {
    /// Debian 12's backported kernel; the one that everything runs on.
    V6_12,
    /// Debian 12's own kernel: the oldest that is supported.
    V6_1,
}

impl KernelSeries {
    /// Short name, used for locks and folders.
    pub fn name(self) -> &'static str {
        match self {
            KernelSeries::V6_12 => "linux-6.12",
            KernelSeries::V6_1 => "linux-6.1",
        }
    }

    /// The pattern of Debian's package names for it.
    pub(super) fn package_pattern(self) -> &'static str {
        match self {
            KernelSeries::V6_12 => r"^linux-image-6\.12\.[0-9].*-cloud-amd64$",
            KernelSeries::V6_1 => r"^linux-image-6\.1\.[0-9].*-cloud-amd64$",
        }
    }
}

/// Packages of the userland, each with what needs it; apt adds what they depend on.
pub const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "init, shell and everything small"),
    ("coreutils", "dd, stat, sha256sum and friends with their usual options"),
    ("procps", "ps, pgrep and pkill with their usual options"),
    ("git", "the story clones and checks a repository on the mount"),
    ("sqlite3", "the story fills and checks a database on the mount"),
    ("python3", "runs the S3 client and checks written in Python"),
    ("fuse3", "fusermount3: mounts as a plain user"),
];

/// Dependencies that are there for installing and for uses of git and Python that the guest does not have.
/// A trailing `*` stands for any ending.
pub const DROPPED: &[&str] = &[
    "adduser",
    "dpkg",
    "gcc-12-base",
    "git-man",
    "init-system-helpers",
    "liberror-perl",
    "libfile-find-rule-perl",
    "libnumber-compare-perl",
    "libperl5*",
    "libtext-glob-perl",
    "mailcap",
    "mime-support",
    "passwd",
    "perl*",
    "readline-common",
    "tar",
    "usrmerge",
];

/// Folders of packages that no program here reads.
pub const PRUNED: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/gitweb",
    "usr/share/i18n",
    "usr/share/zoneinfo",
    "usr/share/perl5",
    "usr/share/git-core/contrib",
    "usr/share/python3/debpython",
    "usr/lib/python3.11/test",
    "usr/lib/python3.11/pydoc_data",
    "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/idlelib",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/systemd",
    "lib/systemd",
    "lib/init",
    "lib/udev",
    "var/lib/dpkg",
    "var/cache",
];

/// The AWS services whose descriptions the S3 client keeps; the other few hundred are most of its size.
pub const AWS_SERVICES: &[&str] = &["s3", "sts"];

/// Drivers of the guest; those they need come with them. Built-in ones count as there.
pub const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "erofs",
    "overlay",
    "fuse",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
    "loop",
];

/// Name of the virtio-serial port on which the guest's command server listens.
pub const EXEC_PORT: &str = "mooring.exec";

/// Serial number of the disk with the root image; layers follow as `layer0`, `layer1`, ...
pub const ROOT_SERIAL: &str = "root";

/// The first program: mounts the root and hands over to it.
pub const INITRD_INIT: &str = include_str!("recipe/initrd-init.sh");

/// Files of the root image that belong to no package: path, mode, content.
pub const FILES: &[(&str, u32, &str)] = &[
    ("etc/inittab", 0o644, include_str!("recipe/inittab")),
    ("etc/mooring/boot", 0o755, include_str!("recipe/boot.sh")),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:a plain user:/home/user:/bin/sh\n",
    ),
    ("etc/group", 0o644, "root:x:0:\nuser:x:1000:\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n"),
    ("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n"),
    ("etc/fuse.conf", 0o644, "user_allow_other\n"),
    ("etc/gitconfig", 0o644, include_str!("recipe/gitconfig")),
    ("etc/profile", 0o644, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
];

/// Empty folders of the root image.
pub const FOLDERS: &[&str] = &[
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "home/user",
    "mnt",
    "var/tmp",
    "var/log",
    "opt",
    "usr/local/bin",
];
