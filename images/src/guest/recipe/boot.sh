#!/bin/sh
# Makes the root a system: what a distribution's init would do, and nothing more.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mkdir -p /dev/pts /dev/shm /run
mount -t devpts -o mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
chmod 1777 /tmp /var/tmp
[ -e /dev/fuse ] && chmod 666 /dev/fuse
ip link set lo up

# mooring.name=... on the kernel's command line is this machine's name.
for word in $(cat /proc/cmdline); do
    case $word in
        mooring.name=*) hostname "${word#mooring.name=}" ;;
    esac
done

# The command server's port, found by its name: the number depends on the order of devices.
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name" 2>/dev/null)" = mooring.exec ]; then
        ln -sf "/dev/${port##*/}" /dev/mooring-exec
    fi
done
[ -e /dev/mooring-exec ] || echo "mooring-boot: no virtio port named mooring.exec"
[ -x /usr/local/bin/mooring-guest-exec ] || echo "mooring-boot: no command server in the layers"

# A disk of this machine's own, when it has one.
for block in /sys/block/vd*; do
    if [ "$(cat "$block/serial" 2>/dev/null)" = scratch ]; then
        mkdir -p /dev/disk
        ln -sf "/dev/${block##*/}" /dev/disk/scratch
    fi
done
